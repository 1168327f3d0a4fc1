use std::{path::PathBuf, sync::Arc};

use lima_runtime::manager::{
    bundled::{BundledOptions, BundledPaths, BundledRuntime},
    payload::{
        UserEngine,
        context::{ContextName, ContextOptions},
    },
};
use napi::{Env, Result};
use napi_derive::napi;

use crate::{
    adapter::NativeAdapter,
    call::NativeCall,
    convert::{Copied, Json, OrThrow, ProgressCallback, text, with_progress},
    methods::{engine_methods, methods},
    promise::{Promised, promise},
};

#[napi]
pub struct BundledManager {
    runtime: Arc<BundledRuntime>,
}

methods! {
    impl BundledManager.runtime;
    plain {
        is_installed() -> "Promise<boolean>";
        has_pre_bundled() -> "Promise<boolean>";
        stop_daemon() -> "Promise<void>";
        uninstall() -> "Promise<void>";
    }
    json {
        left();
    }
    made {}
    progress {
        initialize();
        install();
        start_daemon();
    }
    own {
        /// Touches no disk yet.
        #[napi(constructor, ts_args_type = "options: string, resourcesPath: string | undefined")]
        pub fn new(options: Json<BundledOptions>, resources_path: Option<String>) -> Result<Self> {
            let options = BundledOptions { resources_path: resources_path.map(PathBuf::from), ..options.0 };
            Ok(Self { runtime: Arc::new(BundledRuntime::new(options).or_throw()?) })
        }

        /// The Docker engine, which need not run yet.
        #[napi]
        pub fn adapter(&self) -> Result<NativeAdapter> {
            Ok(NativeAdapter::of(self.runtime.adapter().or_throw()?))
        }

        #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<boolean>")]
        pub fn is_running<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
            let runtime = self.runtime.clone();
            promise(env, async move { call.0.run(None, async { Ok(runtime.is_running().await) }).await })
        }

        #[napi(ts_return_type = "string")]
        pub fn paths(&self) -> Json<BundledPaths> {
            Json(self.runtime.paths())
        }
    }
}

engine_methods!(BundledManager);

use std::path::PathBuf;

use lima_runtime::manager::{
    lima::{
        BakeOptions, DeleteOptions, InstallOptions, LimaOptions, LimaPaths, LimaRuntime, Resources, UninstallOptions,
        UpgradeOptions,
    },
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
    convert::{Copied, Json, OrThrow, ProgressCallback, sink, text, with_progress},
    methods::{engine_methods, methods, options},
    promise::{Promised, promise},
};

#[napi]
pub struct LimaManager {
    runtime: LimaRuntime,
}

methods! {
    impl LimaManager.runtime;
    plain {
        is_installed() -> "Promise<boolean>";
        has_pre_bundled() -> "Promise<boolean>";
        discard_previous() -> "Promise<void>";
    }
    json {
        status();
        info();
        diagnose();
    }
    made {}
    progress {
        start();
        stop();
        restart();
        delete[DeleteOptions]();
        factory_reset[DeleteOptions]();
        upgrade[UpgradeOptions]();
        rollback();
        resume();
    }
    own {
        /// Touches no disk yet.
        #[napi(constructor, ts_args_type = "options: string, resourcesPath: string | undefined")]
        pub fn new(options: Json<LimaOptions>, resources_path: Option<String>) -> Result<Self> {
            let options = LimaOptions { resources_path: resources_path.map(PathBuf::from), ..options.0 };
            Ok(Self { runtime: LimaRuntime::new(options).or_throw()? })
        }

        /// What the VM does by its idleness, as long as this manager lives.
        #[napi(ts_args_type = "listener: (event: string) => void")]
        pub fn listen(&self, listener: ProgressCallback) {
            self.runtime.listen(sink(listener));
        }

        /// The engine in the VM, which need not run yet.
        #[napi]
        pub fn adapter(&self) -> Result<NativeAdapter> {
            Ok(NativeAdapter::of(self.runtime.adapter().or_throw()?))
        }

        #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<boolean>")]
        pub fn is_running<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
            let runtime = self.runtime.clone();
            promise(env, async move { call.0.run(None, async { Ok(runtime.is_running().await) }).await })
        }

        #[napi(
            ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
            ts_return_type = "Promise<void>"
        )]
        pub fn initialize<'e>(&self, env: &'e Env, progress: Option<ProgressCallback>, call: NativeCall) -> Promised<'e> {
            let runtime = self.runtime.clone();
            promise(env, async move {
                with_progress(progress, |sink| runtime.install(InstallOptions::default(), sink, &call.0)).await
            })
        }

        #[napi(
            ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
            ts_return_type = "Promise<void>"
        )]
        pub fn install<'e>(
            &self,
            env: &'e Env,
            progress: Option<ProgressCallback>,
            call: NativeCall<InstallOptions>,
        ) -> Promised<'e> {
            let runtime = self.runtime.clone();
            promise(env, async move { with_progress(progress, |sink| runtime.install(call.1, sink, &call.0)).await })
        }

        #[napi(
            ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
            ts_return_type = "Promise<string>"
        )]
        pub fn bake<'e>(
            &self,
            env: &'e Env,
            progress: Option<ProgressCallback>,
            call: NativeCall<BakeOptions>,
        ) -> Promised<'e> {
            let runtime = self.runtime.clone();
            promise(env, async move {
                with_progress(progress, |sink| runtime.bake(&call.1, sink, &call.0)).await.map(Json)
            })
        }

        #[napi(ts_args_type = "resources: string, call: NativeCall", ts_return_type = "Promise<string>")]
        pub fn configure<'e>(&self, env: &'e Env, resources: Json<Resources>, call: NativeCall) -> Promised<'e> {
            let runtime = self.runtime.clone();
            promise(env, async move { runtime.configure(resources.0, &call.0).await.map(Json) })
        }

        #[napi(ts_return_type = "Promise<void>")]
        pub fn suspend<'e>(&self, env: &'e Env) -> Promised<'e> {
            let runtime = self.runtime.clone();
            promise(env, async move {
                runtime.suspend().await;
                Ok(())
            })
        }

        /// The absolute path.
        #[napi(ts_args_type = "path: string, call: NativeCall", ts_return_type = "Promise<string>")]
        pub fn collect_diagnostics<'e>(&self, env: &'e Env, path: String, call: NativeCall) -> Promised<'e> {
            let runtime = self.runtime.clone();
            promise(env, async move {
                let path = runtime.collect_diagnostics(path.as_ref(), &call.0).await?;
                Ok(path.to_string_lossy().into_owned())
            })
        }

        #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<void>")]
        pub fn uninstall<'e>(&self, env: &'e Env, call: NativeCall<UninstallOptions>) -> Promised<'e> {
            let runtime = self.runtime.clone();
            promise(env, async move { runtime.uninstall(call.1, &call.0).await })
        }

        #[napi(ts_return_type = "string")]
        pub fn paths(&self) -> Json<LimaPaths> {
            Json(self.runtime.paths())
        }
    }
}

engine_methods!(LimaManager);

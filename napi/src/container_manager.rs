use std::{path::PathBuf, sync::Arc};

use lima_runtime::{
    engine::RuntimeType,
    manager::container::{ContainerManager, ContainerOptions, Preference},
};
use napi::{Env, Result};
use napi_derive::napi;

use crate::{
    call::NativeCall,
    convert::{Json, OrThrow},
    methods::methods,
    promise::{Promised, promise},
};

#[napi(js_name = "ContainerManager")]
pub struct NativeContainerManager {
    manager: Arc<ContainerManager>,
}

methods! {
    impl NativeContainerManager.manager;
    plain { containerd_is_own() -> "Promise<boolean>"; }
    json {
        detect();
        select();
    }
    made {}
    progress {}
    own {
        /// Touches no disk yet.
        #[napi(constructor, ts_args_type = "options: string, resourcesPath: string | undefined")]
        pub fn new(options: Json<ContainerOptions>, resources_path: Option<String>) -> Result<Self> {
            let mut options = options.0;
            options.lima.resources_path = resources_path.map(PathBuf::from);
            Ok(Self { manager: Arc::new(ContainerManager::new(options).or_throw()?) })
        }

        #[napi(ts_args_type = "runtime: string, ms: number, call: NativeCall", ts_return_type = "Promise<void>")]
        pub fn save_start<'e>(
            &self,
            env: &'e Env,
            runtime: Json<RuntimeType>,
            ms: u32,
            call: NativeCall,
        ) -> Promised<'e> {
            let manager = self.manager.clone();
            promise(env, async move { manager.save_start(runtime.0, ms.into(), &call.0).await })
        }

        #[napi(ts_args_type = "preference: string, call: NativeCall", ts_return_type = "Promise<void>")]
        pub fn save<'e>(&self, env: &'e Env, preference: Json<Preference>, call: NativeCall) -> Promised<'e> {
            let manager = self.manager.clone();
            promise(env, async move { manager.save(preference.0, &call.0).await })
        }
    }
}

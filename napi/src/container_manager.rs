use std::sync::Arc;

use lima_runtime::{
    engine::RuntimeType,
    manager::container::{ContainerManager, ContainerOptions, Preference},
};
use napi::{Env, Result};
use napi_derive::napi;

use crate::{
    call::NativeCall,
    convert::{Json, OrThrow},
    promise::{Promised, promise},
};

#[napi(js_name = "ContainerManager")]
pub struct NativeContainerManager {
    manager: Arc<ContainerManager>,
}

#[napi]
impl NativeContainerManager {
    /// Touches no disk yet.
    #[napi(constructor, ts_args_type = "options: string")]
    pub fn new(options: Json<ContainerOptions>) -> Result<Self> {
        Ok(Self { manager: Arc::new(ContainerManager::new(options.0).or_throw()?) })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn detect<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let manager = self.manager.clone();
        promise(env, async move { manager.detect(&call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn select<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let manager = self.manager.clone();
        promise(env, async move { manager.select(&call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<boolean>")]
    pub fn containerd_is_own<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let manager = self.manager.clone();
        promise(env, async move { manager.containerd_is_own(&call.0).await })
    }

    #[napi(ts_args_type = "runtime: string, ms: number, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn save_start<'e>(&self, env: &'e Env, runtime: Json<RuntimeType>, ms: u32, call: NativeCall) -> Promised<'e> {
        let manager = self.manager.clone();
        promise(env, async move { manager.save_start(runtime.0, ms.into(), &call.0).await })
    }

    #[napi(ts_args_type = "preference: string, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn save<'e>(&self, env: &'e Env, preference: Json<Preference>, call: NativeCall) -> Promised<'e> {
        let manager = self.manager.clone();
        promise(env, async move { manager.save(preference.0, &call.0).await })
    }
}

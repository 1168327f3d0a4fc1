use lima_runtime::{
    engine::RuntimeType,
    manager::container::{ContainerManager, ContainerOptions, Detection, Preference, Selection},
};
use napi::Result;
use napi_derive::napi;

use crate::{
    call::NativeCall,
    convert::{Json, OrThrow},
};

#[napi(js_name = "ContainerManager")]
pub struct NativeContainerManager {
    manager: ContainerManager,
}

#[napi]
impl NativeContainerManager {
    /// Touches no disk yet.
    #[napi(constructor, ts_args_type = "options: string")]
    pub fn new(options: Json<ContainerOptions>) -> Result<Self> {
        Ok(Self { manager: ContainerManager::new(options.0).or_throw()? })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn detect(&self, call: NativeCall) -> Result<Json<Detection>> {
        Ok(Json(self.manager.detect(&call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn select(&self, call: NativeCall) -> Result<Json<Selection>> {
        Ok(Json(self.manager.select(&call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "call: NativeCall")]
    pub async fn containerd_is_own(&self, call: NativeCall) -> Result<bool> {
        self.manager.containerd_is_own(&call.0).await.or_throw()
    }

    #[napi(ts_args_type = "runtime: string, ms: number, call: NativeCall")]
    pub async fn save_start(&self, runtime: Json<RuntimeType>, ms: u32, call: NativeCall) -> Result<()> {
        self.manager.save_start(runtime.0, ms.into(), &call.0).await.or_throw()
    }

    #[napi(ts_args_type = "preference: string, call: NativeCall")]
    pub async fn save(&self, preference: Json<Preference>, call: NativeCall) -> Result<()> {
        self.manager.save(preference.0, &call.0).await.or_throw()
    }
}

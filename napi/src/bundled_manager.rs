use lima_runtime::{
    manager::containerd::{BundledOptions, BundledPaths, BundledRuntime},
    progress::{RuntimeProgress, Sink},
};
use napi::Result;
use napi_derive::napi;

use crate::{
    call::NativeCall,
    convert::{Json, OrThrow, ProgressCallback, with_progress},
};

#[napi]
pub struct BundledManager {
    runtime: BundledRuntime,
}

#[napi]
impl BundledManager {
    /// Touches no disk yet.
    #[napi(constructor, ts_args_type = "options: string")]
    pub fn new(options: Json<BundledOptions>) -> Result<Self> {
        Ok(Self { runtime: BundledRuntime::new(options.0).or_throw()? })
    }

    #[napi(ts_args_type = "call: NativeCall")]
    pub async fn is_installed(&self, call: NativeCall) -> Result<bool> {
        self.runtime.is_installed(&call.0).await.or_throw()
    }

    #[napi(ts_args_type = "call: NativeCall")]
    pub async fn has_pre_bundled(&self, call: NativeCall) -> Result<bool> {
        self.runtime.has_pre_bundled(&call.0).await.or_throw()
    }

    #[napi(ts_args_type = "call: NativeCall")]
    pub async fn is_running(&self, call: NativeCall) -> Result<bool> {
        call.0.run(None, async { Ok(self.runtime.is_running().await) }).await.or_throw()
    }

    #[napi(ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall")]
    pub async fn initialize(&self, progress: Option<ProgressCallback>, call: NativeCall) -> Result<()> {
        let work = |sink: Sink<RuntimeProgress>| self.runtime.initialize(sink, &call.0);
        with_progress(progress, work).await.or_throw()
    }

    #[napi(ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall")]
    pub async fn install(&self, progress: Option<ProgressCallback>, call: NativeCall) -> Result<()> {
        let work = |sink: Sink<RuntimeProgress>| self.runtime.install(sink, &call.0);
        with_progress(progress, work).await.or_throw()
    }

    #[napi(ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall")]
    pub async fn start_daemon(&self, progress: Option<ProgressCallback>, call: NativeCall) -> Result<()> {
        let work = |sink: Sink<RuntimeProgress>| self.runtime.start_daemon(sink, &call.0);
        with_progress(progress, work).await.or_throw()
    }

    #[napi(ts_args_type = "call: NativeCall")]
    pub async fn stop_daemon(&self, call: NativeCall) -> Result<()> {
        self.runtime.stop_daemon(&call.0).await.or_throw()
    }

    #[napi(ts_args_type = "call: NativeCall")]
    pub async fn uninstall(&self, call: NativeCall) -> Result<()> {
        self.runtime.uninstall(&call.0).await.or_throw()
    }

    #[napi(ts_return_type = "string")]
    pub fn paths(&self) -> Json<BundledPaths> {
        Json(self.runtime.paths())
    }
}

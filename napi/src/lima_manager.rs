use bytes::Bytes;
use lima_runtime::{
    manager::lima::{
        Configured, DiagnosticCheck, InstallOptions, LimaOptions, LimaPaths, LimaRuntime, Resources, Status,
        UninstallOptions, VmInfo,
    },
    progress::{RuntimeProgress, Sink},
};
use napi::{Result, bindgen_prelude::Buffer};
use napi_derive::napi;

use crate::{
    adapter::NativeAdapter,
    call::NativeCall,
    convert::{Json, OrThrow, ProgressCallback, with_progress},
};

#[napi]
pub struct LimaManager {
    runtime: LimaRuntime,
}

#[napi]
impl LimaManager {
    /// Touches no disk yet.
    #[napi(constructor, ts_args_type = "options: string")]
    pub fn new(options: Json<LimaOptions>) -> Result<Self> {
        Ok(Self { runtime: LimaRuntime::new(options.0).or_throw()? })
    }

    /// The engine in the VM, which need not run yet.
    #[napi(ts_args_type = "appName?: string | null")]
    pub fn adapter(&self, app_name: Option<String>) -> Result<NativeAdapter> {
        Ok(NativeAdapter::of(self.runtime.adapter(app_name.as_deref()).or_throw()?))
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

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn status(&self, call: NativeCall) -> Result<Json<Status>> {
        Ok(Json(self.runtime.status(&call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn info(&self, call: NativeCall) -> Result<Json<VmInfo>> {
        Ok(Json(self.runtime.info(&call.0).await.or_throw()?))
    }

    #[napi(ts_args_type = "options: string, progress: ((event: string) => void) | undefined, call: NativeCall")]
    pub async fn install(
        &self,
        options: Json<InstallOptions>,
        progress: Option<ProgressCallback>,
        call: NativeCall,
    ) -> Result<()> {
        with_progress(progress, |sink: Sink<RuntimeProgress>| self.runtime.install(options.0, sink, &call.0))
            .await
            .or_throw()
    }

    #[napi(ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall")]
    pub async fn start(&self, progress: Option<ProgressCallback>, call: NativeCall) -> Result<()> {
        with_progress(progress, async |sink| self.runtime.start(sink, &call.0).await.map(drop)).await.or_throw()
    }

    #[napi(ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall")]
    pub async fn stop(&self, progress: Option<ProgressCallback>, call: NativeCall) -> Result<()> {
        with_progress(progress, |sink| self.runtime.stop(sink, &call.0)).await.or_throw()
    }

    #[napi(ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall")]
    pub async fn restart(&self, progress: Option<ProgressCallback>, call: NativeCall) -> Result<()> {
        with_progress(progress, async |sink| self.runtime.restart(sink, &call.0).await.map(drop)).await.or_throw()
    }

    #[napi(ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall")]
    pub async fn delete(&self, progress: Option<ProgressCallback>, call: NativeCall) -> Result<()> {
        with_progress(progress, |sink| self.runtime.delete(sink, &call.0)).await.or_throw()
    }

    #[napi(ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall")]
    pub async fn factory_reset(&self, progress: Option<ProgressCallback>, call: NativeCall) -> Result<()> {
        with_progress(progress, async |sink| self.runtime.factory_reset(sink, &call.0).await.map(drop)).await.or_throw()
    }

    #[napi(ts_args_type = "resources: string, call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn configure(&self, resources: Json<Resources>, call: NativeCall) -> Result<Json<Configured>> {
        Ok(Json(self.runtime.configure(resources.0, &call.0).await.or_throw()?))
    }

    #[napi]
    pub async fn suspend(&self) {
        self.runtime.suspend().await;
    }

    #[napi(ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall")]
    pub async fn resume(&self, progress: Option<ProgressCallback>, call: NativeCall) -> Result<()> {
        with_progress(progress, |sink| self.runtime.resume(sink, &call.0)).await.or_throw()
    }

    /// What nerdctl printed, read as UTF-8.
    #[napi(ts_args_type = "args: string[], input: Buffer | undefined, call: NativeCall")]
    pub async fn exec_nerdctl(&self, args: Vec<String>, input: Option<Buffer>, call: NativeCall) -> Result<String> {
        let input = input.map(|b| Bytes::copy_from_slice(&b));
        let out = self.runtime.exec_nerdctl(&args, input, &call.0).await.or_throw()?;
        Ok(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub async fn diagnose(&self, call: NativeCall) -> Result<Json<Vec<DiagnosticCheck>>> {
        Ok(Json(self.runtime.diagnose(&call.0).await.or_throw()?))
    }

    /// The absolute path.
    #[napi(ts_args_type = "path: string, call: NativeCall")]
    pub async fn collect_diagnostics(&self, path: String, call: NativeCall) -> Result<String> {
        let path = self.runtime.collect_diagnostics(path.as_ref(), &call.0).await.or_throw()?;
        Ok(path.to_string_lossy().into_owned())
    }

    #[napi(ts_args_type = "options: string, call: NativeCall")]
    pub async fn uninstall(&self, options: Json<UninstallOptions>, call: NativeCall) -> Result<()> {
        self.runtime.uninstall(options.0, &call.0).await.or_throw()
    }

    #[napi(ts_return_type = "string")]
    pub fn paths(&self) -> Json<LimaPaths> {
        Json(self.runtime.paths())
    }
}

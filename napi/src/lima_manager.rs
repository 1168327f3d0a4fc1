use lima_runtime::{
    manager::lima::{InstallOptions, LimaOptions, LimaPaths, LimaRuntime, Resources, UninstallOptions},
    progress::{RuntimeProgress, Sink},
};
use napi::{Env, Result};
use napi_derive::napi;

use crate::{
    adapter::NativeAdapter,
    call::NativeCall,
    convert::{Copied, Json, OrThrow, ProgressCallback, with_progress},
    promise::{Promised, promise},
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

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<boolean>")]
    pub fn is_installed<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { runtime.is_installed(&call.0).await })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<boolean>")]
    pub fn has_pre_bundled<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { runtime.has_pre_bundled(&call.0).await })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<boolean>")]
    pub fn is_running<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { call.0.run(None, async { Ok(runtime.is_running().await) }).await })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn status<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { runtime.status(&call.0).await.map(Json) })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn info<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { runtime.info(&call.0).await.map(Json) })
    }

    #[napi(
        ts_args_type = "options: string, progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn install<'e>(
        &self,
        env: &'e Env,
        options: Json<InstallOptions>,
        progress: Option<ProgressCallback>,
        call: NativeCall,
    ) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move {
            with_progress(progress, |sink: Sink<RuntimeProgress>| runtime.install(options.0, sink, &call.0)).await
        })
    }

    #[napi(
        ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn start<'e>(&self, env: &'e Env, progress: Option<ProgressCallback>, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(
            env,
            async move { with_progress(progress, async |sink| runtime.start(sink, &call.0).await.map(drop)).await },
        )
    }

    #[napi(
        ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn stop<'e>(&self, env: &'e Env, progress: Option<ProgressCallback>, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { with_progress(progress, |sink| runtime.stop(sink, &call.0)).await })
    }

    #[napi(
        ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn restart<'e>(&self, env: &'e Env, progress: Option<ProgressCallback>, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move {
            with_progress(progress, async |sink| runtime.restart(sink, &call.0).await.map(drop)).await
        })
    }

    #[napi(
        ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn delete<'e>(&self, env: &'e Env, progress: Option<ProgressCallback>, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { with_progress(progress, |sink| runtime.delete(sink, &call.0)).await })
    }

    #[napi(
        ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn factory_reset<'e>(
        &self,
        env: &'e Env,
        progress: Option<ProgressCallback>,
        call: NativeCall,
    ) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move {
            with_progress(progress, async |sink| runtime.factory_reset(sink, &call.0).await.map(drop)).await
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

    #[napi(
        ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn resume<'e>(&self, env: &'e Env, progress: Option<ProgressCallback>, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { with_progress(progress, |sink| runtime.resume(sink, &call.0)).await })
    }

    /// What nerdctl printed, read as UTF-8.
    #[napi(
        ts_args_type = "args: string[], input: Uint8Array | undefined, call: NativeCall",
        ts_return_type = "Promise<string>"
    )]
    pub fn exec_nerdctl<'e>(
        &self,
        env: &'e Env,
        args: Vec<String>,
        input: Option<Copied>,
        call: NativeCall,
    ) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move {
            let out = runtime.exec_nerdctl(&args, input.map(|b| b.0), &call.0).await?;
            Ok(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
        })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<string>")]
    pub fn diagnose<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { runtime.diagnose(&call.0).await.map(Json) })
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

    #[napi(ts_args_type = "options: string, call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn uninstall<'e>(&self, env: &'e Env, options: Json<UninstallOptions>, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { runtime.uninstall(options.0, &call.0).await })
    }

    #[napi(ts_return_type = "string")]
    pub fn paths(&self) -> Json<LimaPaths> {
        Json(self.runtime.paths())
    }
}

use std::sync::Arc;

use lima_runtime::{
    manager::containerd::{BundledOptions, BundledPaths, BundledRuntime},
    progress::{RuntimeProgress, Sink},
};
use napi::{Env, Result};
use napi_derive::napi;

use crate::{
    call::NativeCall,
    convert::{Json, OrThrow, ProgressCallback, with_progress},
    promise::{Promised, promise},
};

#[napi]
pub struct BundledManager {
    runtime: Arc<BundledRuntime>,
}

#[napi]
impl BundledManager {
    /// Touches no disk yet.
    #[napi(constructor, ts_args_type = "options: string")]
    pub fn new(options: Json<BundledOptions>) -> Result<Self> {
        Ok(Self { runtime: Arc::new(BundledRuntime::new(options.0).or_throw()?) })
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

    #[napi(
        ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn initialize<'e>(&self, env: &'e Env, progress: Option<ProgressCallback>, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move {
            let work = |sink: Sink<RuntimeProgress>| runtime.initialize(sink, &call.0);
            with_progress(progress, work).await
        })
    }

    #[napi(
        ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn install<'e>(&self, env: &'e Env, progress: Option<ProgressCallback>, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move {
            let work = |sink: Sink<RuntimeProgress>| runtime.install(sink, &call.0);
            with_progress(progress, work).await
        })
    }

    #[napi(
        ts_args_type = "progress: ((event: string) => void) | undefined, call: NativeCall",
        ts_return_type = "Promise<void>"
    )]
    pub fn start_daemon<'e>(&self, env: &'e Env, progress: Option<ProgressCallback>, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move {
            let work = |sink: Sink<RuntimeProgress>| runtime.start_daemon(sink, &call.0);
            with_progress(progress, work).await
        })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn stop_daemon<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { runtime.stop_daemon(&call.0).await })
    }

    #[napi(ts_args_type = "call: NativeCall", ts_return_type = "Promise<void>")]
    pub fn uninstall<'e>(&self, env: &'e Env, call: NativeCall) -> Promised<'e> {
        let runtime = self.runtime.clone();
        promise(env, async move { runtime.uninstall(&call.0).await })
    }

    #[napi(ts_return_type = "string")]
    pub fn paths(&self) -> Json<BundledPaths> {
        Json(self.runtime.paths())
    }
}

use lima_runtime::{
    fetch::bundle::{self, DownloadOptions},
    progress::{RuntimeProgress, Sink},
};
use napi::Env;
use napi_derive::napi;

use crate::{
    call::NativeCall,
    convert::{Json, ProgressCallback, with_progress},
    promise::{Promised, promise},
};

/// What `npx lima-runtime download` does.
#[cfg_attr(test, allow(dead_code, reason = "only napi's registration refers to it"))]
#[napi(
    ts_args_type = "options: string, progress: ((event: string) => void) | undefined, call: NativeCall",
    ts_return_type = "Promise<string>"
)]
pub fn download_bundle(
    env: &Env,
    options: Json<DownloadOptions>,
    progress: Option<ProgressCallback>,
    call: NativeCall,
) -> Promised<'_> {
    promise(env, async move {
        let work = |sink: Sink<RuntimeProgress>| bundle::download(options.0, sink, &call.0);
        with_progress(progress, work).await.map(Json)
    })
}

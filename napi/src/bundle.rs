use lima_runtime::{
    fetch::bundle::{self, DownloadOptions, DownloadReport},
    progress::RuntimeProgress,
};
use napi::Result;
use napi_derive::napi;

use crate::{
    call::NativeCall,
    convert::{Json, OrThrow, ProgressCallback, with_progress},
};

/// What `npx lima-runtime download` does.
#[cfg_attr(test, allow(dead_code, reason = "only napi's registration refers to it"))]
#[napi(
    ts_args_type = "options: string, progress: ((event: string) => void) | undefined, call: NativeCall",
    ts_return_type = "Promise<string>"
)]
pub async fn download_bundle(
    options: Json<DownloadOptions>,
    progress: Option<ProgressCallback>,
    call: NativeCall,
) -> Result<Json<Vec<DownloadReport>>> {
    let done = with_progress(progress, |sink: lima_runtime::progress::Sink<RuntimeProgress>| {
        bundle::download(options.0, sink, &call.0)
    });
    Ok(Json(done.await.or_throw()?))
}

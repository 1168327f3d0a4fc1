//! Files of a container, by the engine's archives.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use hyper::Method;
use serde::Deserialize;

use super::{
    api::{self, Api},
    error::{Failure, ResultExt},
    refusal::About,
};
use crate::{
    engine::{BoxStream, types::PathKind},
    error::{Error, Result},
};

/// What the engine says of a path, in a header.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    /// As Go has it (io/fs.FileMode).
    mode: u32,
    #[serde(default)]
    link_target: String,
}

const DIRECTORY: u32 = 1 << 31;
const LINK: u32 = 1 << 27;

impl Said {
    fn kind(self) -> PathKind {
        match self.mode {
            mode if mode & DIRECTORY != 0 => PathKind::Directory,
            mode if mode & LINK != 0 => PathKind::Link(Some(self.link_target).filter(|to| to.starts_with('/'))),
            _ => PathKind::File,
        }
    }
}

fn archive(id: &str) -> String {
    format!("containers/{}/archive", api::encode(api::bare(id)))
}

pub(super) async fn path_kind(api: Api, id: &str, path: &str) -> Result<Option<PathKind>> {
    let query = [("path", path.to_owned())];
    let target = api.path(&archive(id), &query);
    let request = api::request(Method::HEAD, &target, api::empty()).about(About::Container(id))?;
    let answer = match api.send(request).await {
        Ok(answer) => answer,
        // An answer to HEAD has no words: what is missing, the container or the path?
        Err(Failure::Answer { status: 404, .. }) => {
            let known = api.get(&format!("containers/{}/json", api::encode(api::bare(id))), &[]).await;
            api::drain(known.about(About::Container(id))?).await;
            return Ok(None);
        }
        Err(e) => {
            let wordy = api.get(&archive(id), &query).await;
            return Err(wordy.err().unwrap_or(e).about(About::Path(id)));
        }
    };
    let said = answer.headers().get("x-docker-container-path-stat").and_then(|v| STANDARD.decode(v).ok());
    let said = said.and_then(|text| serde_json::from_slice::<Said>(&text).ok());
    api::drain(answer).await;
    said.map(|said| Some(said.kind()))
        .ok_or_else(|| Failure::strange("it does not say what the path is").about(About::Engine))
}

pub(super) async fn read_path(api: Api, id: &str, path: &str) -> Result<BoxStream<Bytes>> {
    let answer = api.get(&archive(id), &[("path", path.to_owned())]).await.about(About::Path(id))?;
    Ok(api::bytes(answer).map_err(|e| e.about(About::Engine)).boxed())
}

pub(super) async fn write_path(api: Api, id: &str, directory: &str, content: BoxStream<Bytes>) -> Result<()> {
    let about = About::Path(id);
    let query = [("path", directory.to_owned()), ("noOverwriteDirNonDir", "true".to_owned())];
    let (body, broken) = api::streamed(content);
    let path = api.path(&archive(id), &query);
    let sent = async {
        let mut request = api::request(Method::PUT, &path, body)?;
        let tar = hyper::header::HeaderValue::from_static("application/x-tar");
        request.headers_mut().insert(hyper::header::CONTENT_TYPE, tar);
        api.send(request).await
    }
    .await;
    if let Some(e) = broken.lock().take() {
        return Err(e);
    }
    match sent {
        Ok(answer) => {
            api::drain(answer).await;
            Ok(())
        }
        Err(Failure::Answer { message, .. }) if is_archives_fault(&message) => Err(no_tar(&message)),
        Err(e) => Err(e.about(about)),
    }
}

fn is_archives_fault(message: &str) -> bool {
    ["archive/tar", "invalid tar", "unexpected EOF", "breakout", "outside of"].iter().any(|t| message.contains(t))
}

fn no_tar(why: &str) -> Error {
    Error::invalid("source", format!("not a tar that can be unpacked: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As dockerd 20.10.24 answered.
    #[test]
    fn what_a_path_is() {
        let kind = |text: &str| serde_json::from_str::<Said>(text).unwrap().kind();
        let link = r#"{"name":"l","size":6,"mode":134218239,"mtime":"2026-11-29T21:00:00Z","linkTarget":"/etc"}"#;
        assert_eq!(kind(link), PathKind::Link(Some("/etc".into())));
        assert_eq!(kind(r#"{"name":"etc","size":4096,"mode":2147484141,"linkTarget":""}"#), PathKind::Directory);
        assert_eq!(kind(r#"{"name":"f","size":1,"mode":420}"#), PathKind::File);
    }
}

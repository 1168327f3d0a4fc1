//! Images, but for pulling them.

use std::{
    io,
    sync::{Arc, Mutex},
};

use bollard::query_parameters as q;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::{Either, StreamBody};
use hyper::body::Frame;
use serde::Deserialize;

use super::{
    api::{self, Api},
    error::{Failure, On, OnExt},
};
use crate::{
    engine::{BoxStream, types::*},
    error::{Error, ErrorCode, Result},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    id: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    created: i64,
}

pub(super) async fn list(api: Api) -> Result<Vec<ImageInfo>> {
    let found: Vec<Summary> = api.get_json("images/json", &[]).await.on(On::Engine)?;
    Ok((found.into_iter())
        .map(|i| ImageInfo {
            id: i.id,
            // What Docker writes where there is no tag.
            tags: i.repo_tags.unwrap_or_default().into_iter().filter(|t| !t.contains("<none>")).collect(),
            size: u64::try_from(i.size).unwrap_or_default(),
            created: i.created * 1000,
        })
        .collect())
}

pub(super) async fn exists(api: Api, image: &str) -> Result<bool> {
    match api.get(&format!("images/{}/json", api::encode(image)), &[]).await {
        Ok(answer) => {
            api::drain(answer).await;
            Ok(true)
        }
        Err(e) if e.is_not_found() => Ok(false),
        Err(e) => Err(e.on(On::Image(image))),
    }
}

pub(super) async fn remove(api: Api, image: &str, force: bool) -> Result<()> {
    let options = q::RemoveImageOptions { force, noprune: false, platforms: None };
    api.bollard().remove_image(&api::encode(image), Some(options), None).await.on(On::Image(image))?;
    Ok(())
}

pub(super) async fn tag(api: Api, image: &str, target: &str) -> Result<()> {
    let (repo, tag) = split_tag(target);
    let options = q::TagImageOptions { repo: Some(repo.to_owned()), tag: tag.map(str::to_owned) };
    api.bollard().tag_image(&api::encode(image), Some(options)).await.on(On::Image(image))
}

/// `registry:5000/name:tag` to name and tag: a colon before the last slash is a port's.
pub(super) fn split_tag(reference: &str) -> (&str, Option<&str>) {
    match reference.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') && !repo.contains('@') => (repo, Some(tag)),
        _ => (reference, None),
    }
}

#[derive(Deserialize)]
struct LoadLine {
    stream: Option<String>,
    error: Option<String>,
}

pub(super) async fn load(api: Api, archive: BoxStream<Bytes>) -> Result<Vec<String>> {
    // The reader's own error, which would come back as "the request's body failed".
    let broken: Arc<Mutex<Option<Error>>> = Arc::default();
    let note = broken.clone();
    let body = archive.map(move |piece| {
        piece.map(Frame::data).map_err(|e| {
            let text = io::Error::other(e.to_string());
            *note.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(e);
            text
        })
    });
    let path = api.path("images/load", &[("quiet", "1".to_owned())]);
    let loaded = async {
        let request = api::request(hyper::Method::POST, &path, Either::Right(StreamBody::new(body.boxed())))?;
        let lines = api::json_lines::<LoadLine>(api.send(request).await?);
        lines
            .try_fold(Vec::new(), |mut found, line| async move {
                if let Some(error) = line.error {
                    return Err(Failure::in_stream(error));
                }
                found.extend(line.stream.iter().flat_map(|s| s.lines()).filter_map(loaded_reference));
                Ok(found)
            })
            .await
    }
    .await;
    if let Some(e) = broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
        return Err(e);
    }
    match loaded {
        Ok(found) if found.is_empty() => Err(no_archive("there is no image in it")),
        Ok(found) => Ok(found),
        Err(Failure::Answer { message, .. }) if is_archives_fault(&message) => Err(no_archive(&message)),
        Err(e) => Err(e.on(On::Engine)),
    }
}

fn loaded_reference(line: &str) -> Option<String> {
    let line = line.trim();
    line.strip_prefix("Loaded image ID: ").or_else(|| line.strip_prefix("Loaded image: ")).map(str::to_owned)
}

/// What `docker load` says to a file that is not what it should be: it looks for the parts of an image in vain.
fn is_archives_fault(message: &str) -> bool {
    [
        "invalid tar",
        "unexpected EOF",
        "repositories: no such file",
        "manifest.json",
        "gzip:",
        "archive/tar",
        "not a tar",
    ]
    .iter()
    .any(|t| message.contains(t))
}

fn no_archive(why: &str) -> Error {
    Error::invalid("archive", format!("not an image archive: {why}"))
        .hint("It must be a tar or tar.gz as `docker save` writes it.")
}

pub(super) async fn save(api: Api, images: &[String]) -> Result<BoxStream<Bytes>> {
    // A missing one would show itself only in the middle of the stream, and not everywhere.
    for image in images {
        if !exists(api.clone(), image).await? {
            return Err(
                Error::new(ErrorCode::ImageNotFound, format!("There is no image {image}")).detail("id", image.as_str())
            );
        }
    }
    let query: Vec<_> = images.iter().map(|i| ("names", i.clone())).collect();
    let answer = api.get("images/get", &query).await.on(On::Image(&images.join(", ")))?;
    Ok(api::bytes(answer).map_err(|e| e.on(On::Engine)).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(split_tag("busybox"), ("busybox", None));
        assert_eq!(split_tag("busybox:1"), ("busybox", Some("1")));
        assert_eq!(split_tag("reg:5000/a/b"), ("reg:5000/a/b", None));
        assert_eq!(split_tag("reg:5000/a/b:c"), ("reg:5000/a/b", Some("c")));
        assert_eq!(split_tag("a@sha256:00"), ("a@sha256:00", None));
    }

    #[test]
    fn what_was_loaded_is_read_from_the_engines_words() {
        assert_eq!(loaded_reference("Loaded image: busybox:latest\n").as_deref(), Some("busybox:latest"));
        assert_eq!(loaded_reference("Loaded image ID: sha256:00").as_deref(), Some("sha256:00"));
        assert_eq!(loaded_reference("Loading layer"), None);
    }
}

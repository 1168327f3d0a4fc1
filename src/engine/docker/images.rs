//! Images, but for pulling them.

use bollard::query_parameters as q;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{self, Api, ApiVersion},
    error::{Failure, ResultExt},
    refusal::About,
};
use crate::{
    engine::{
        BoxStream,
        image_config::{ImageConfig, Origin},
        platform::ImagePlatform,
        reference, time,
        types::*,
        validate,
    },
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
    let found: Vec<Summary> = api.get_json(api::ALL, "images/json", &[]).await.about(About::Engine)?;
    Ok(found.into_iter().map(image_info).collect())
}

fn image_info(i: Summary) -> ImageInfo {
    ImageInfo {
        id: i.id,
        // What Docker writes where there is no tag.
        tags: i.repo_tags.unwrap_or_default().into_iter().filter(|t| !t.contains("<none>")).collect(),
        size: u64::try_from(i.size).unwrap_or_default(),
        created: time::of_seconds(i.created),
    }
}

/// The labels of an image on which an engine, or a program beside it, acts.
pub(super) async fn reserved_labels(api: &Api, image: &str, platform: Option<&str>) -> Result<Vec<String>> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "PascalCase", default)]
    struct Found {
        config: Option<Config>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "PascalCase", default)]
    struct Config {
        labels: Option<Labels>,
    }
    let mut query = Vec::new();
    if let Some(platform) = platform.filter(|_| api.version() >= PLATFORMS) {
        query.push(("platform", ImagePlatform::parse(platform).json()));
    }
    let path = format!("images/{}/json", api::encode(image));
    let found: Found = match api.get_json(api::ONE, &path, &query).await.about(About::Image(image)) {
        Ok(found) => found,
        // The creation says so.
        Err(e) if e.code() == ErrorCode::ImageNotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    Ok(labels.into_keys().filter(|key| validate::reserved(key).is_some()).collect())
}

/// From this API on an engine looks for one platform's image of several itself.
const PLATFORMS: ApiVersion = ApiVersion(1, 49);

/// `platform`: an image of another one is not meant.
pub(super) async fn exists(api: Api, image: &str, platform: Option<&str>) -> Result<bool> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "PascalCase", default)]
    struct Found {
        os: String,
        architecture: String,
        variant: Option<String>,
    }
    let wanted = platform.map(ImagePlatform::parse);
    let mut query = Vec::new();
    if let Some(wanted) = wanted.as_ref().filter(|_| api.version() >= PLATFORMS) {
        query.push(("platform", wanted.json()));
    }
    let answer = match api.get(&format!("images/{}/json", api::encode(image)), &query).await {
        Ok(answer) => answer,
        Err(e) => {
            let e = e.about(About::Image(image));
            return if e.code() == ErrorCode::ImageNotFound { Ok(false) } else { Err(e) };
        }
    };
    let Some(wanted) = wanted else {
        api::drain(answer).await;
        return Ok(true);
    };
    let found: Found = api::json(api::ONE, answer).await.about(About::Image(image))?;
    Ok(wanted.accepts(&ImagePlatform::new(&found.os, &found.architecture, found.variant.as_deref())))
}

pub(super) async fn inspect(api: Api, image: &str) -> Result<ImageDetails> {
    let path = format!("images/{}/json", api::encode(image));
    let raw: Value = api.get_json(api::ONE, &path, &[]).await.about(About::Image(image))?;
    details(raw)
}

fn details(raw: Value) -> Result<ImageDetails> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        id: String,
        repo_tags: Option<Vec<String>>,
        repo_digests: Option<Vec<String>>,
        created: Option<String>,
        #[serde(default)]
        size: i64,
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        variant: Option<String>,
        author: Option<String>,
        config: Option<ImageConfig>,
        #[serde(rename = "RootFS")]
        root_fs: Option<RootFs>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct RootFs {
        layers: Option<Vec<String>>,
    }
    let answer = Answer::deserialize(&raw).map_err(|e| Failure::from(e).about(About::Engine))?;
    let named = |list: Option<Vec<String>>| list.unwrap_or_default().into_iter().filter(|t| !t.contains("<none>"));
    let info = ImageInfo {
        id: answer.id,
        tags: named(answer.repo_tags).collect(),
        size: u64::try_from(answer.size).unwrap_or_default(),
        created: answer.created.as_deref().and_then(time::parse).unwrap_or_default(),
    };
    let origin =
        Origin { os: answer.os, architecture: answer.architecture, variant: answer.variant, author: answer.author };
    let layers = answer.root_fs.and_then(|r| r.layers).unwrap_or_default();
    let config = answer.config.unwrap_or_default();
    Ok(config.details(info, origin, named(answer.repo_digests).collect(), layers, raw))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Step {
    created: i64,
    created_by: String,
    comment: String,
    size: i64,
}

pub(super) async fn history(api: Api, image: &str) -> Result<Vec<ImageHistoryEntry>> {
    let path = format!("images/{}/history", api::encode(image));
    let steps: Vec<Step> = api.get_json(api::ONE, &path, &[]).await.about(About::Image(image))?;
    Ok(steps.into_iter().map(entry).collect())
}

fn entry(step: Step) -> ImageHistoryEntry {
    ImageHistoryEntry {
        // What was made at no time was made in the year 1.
        created: Some(step.created).filter(|seconds| *seconds > 0).map(time::of_seconds),
        created_by: step.created_by,
        comment: step.comment,
        size: u64::try_from(step.size).unwrap_or_default(),
    }
}

pub(super) async fn commit(api: Api, id: &str, options: &CommitOptions) -> Result<String> {
    let reference = validate::reference_of_image("reference", &options.reference)?;
    let mut query = vec![
        ("container", api::bare(id).to_owned()),
        ("repo", reference.familiar_name()),
        ("tag", reference.tag_or_digest().to_owned()),
        ("pause", u8::from(options.pause.unwrap_or(true)).to_string()),
    ];
    query.extend(options.message.clone().map(|message| ("comment", message)));
    query.extend(options.author.clone().map(|author| ("author", author)));
    // The image gets the container's labels: of ours, a container that somebody else makes of it would count as the application's.
    let body = json!({ "Labels": { APP_LABEL: "" } });
    let made: api::Created = api.post_json("commit", &query, &body).await.about(About::Commit(id))?;
    Ok(made.id)
}

pub(super) async fn remove(api: Api, image: &str, force: bool) -> Result<()> {
    let path = api.path(&format!("images/{}", api::encode(image)), &[("force", u8::from(force).to_string())]);
    let answer = match api::request(hyper::Method::DELETE, &path, api::empty()) {
        Ok(request) => api.send(request).await,
        Err(e) => Err(e),
    };
    api::drain(answer.about(About::Image(image))?).await;
    Ok(())
}

pub(super) async fn tag(api: Api, image: &str, target: &str) -> Result<()> {
    let target = validate::reference_of_image("target", target)?;
    let options = q::TagImageOptions { repo: Some(target.familiar_name()), tag: target.tag.map(str::to_owned) };
    api.bollard().tag_image(&api::encode(image), Some(options)).await.about(About::Tag { source: image })
}

#[derive(Deserialize)]
struct LoadLine {
    stream: Option<String>,
    error: Option<String>,
}

pub(super) async fn load(api: Api, archive: BoxStream<Bytes>) -> Result<Vec<String>> {
    let (body, broken) = api::streamed(archive);
    let path = api.path("images/load", &[("quiet", "1".to_owned())]);
    let loaded = async {
        let request = api::request(hyper::Method::POST, &path, body)?;
        let lines = api::json_lines::<LoadLine>(api::SMALL, api.send(request).await?);
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
    if let Some(e) = broken.lock().take() {
        return Err(e);
    }
    match loaded {
        Ok(found) if found.is_empty() => Err(no_archive("there is no image in it")),
        Ok(found) => Ok(found),
        Err(Failure::Answer { message, .. }) if is_archives_fault(&message) => Err(no_archive(&message)),
        Err(e) => Err(e.about(About::Engine)),
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
        if !exists(api.clone(), image, None).await? {
            return Err(reference::not_found(image));
        }
    }
    let query: Vec<_> = images.iter().map(|i| ("names", i.clone())).collect();
    let answer = api.get("images/get", &query).await.about(About::Image(&images.join(", ")))?;
    Ok(api::bytes(answer).map_err(|e| e.about(About::Engine)).boxed())
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    if let Ok(found) = serde_json::from_str::<Vec<Summary>>(text) {
        found.into_iter().map(image_info).for_each(drop);
    }
    if let Ok(steps) = serde_json::from_str::<Vec<Step>>(text) {
        steps.into_iter().map(entry).for_each(drop);
    }
    if let Ok(raw) = serde_json::from_str(text) {
        drop(details(raw));
    }
    text.lines().filter_map(loaded_reference).for_each(drop);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_is_read_from_the_engines_words() {
        assert_eq!(loaded_reference("Loaded image: busybox:latest\n").as_deref(), Some("busybox:latest"));
        assert_eq!(loaded_reference("Loaded image ID: sha256:00").as_deref(), Some("sha256:00"));
        assert_eq!(loaded_reference("Loading layer"), None);
    }
}

//! What an image says of itself, and how it was made.

use serde::Deserialize;
use serde_json::Value;

use super::super::prelude::*;
use super::{
    images::{Group, groups, resolve, sizes},
    reference::{familiar, is_tag},
};
use crate::engine::{
    image_config::{ImageConfig, Origin},
    reference::Reference,
    types::total,
};

/// The configuration, as the OCI image specification has it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Document {
    os: String,
    architecture: String,
    variant: Option<String>,
    author: Option<String>,
    config: Option<ImageConfig>,
    rootfs: Option<RootFs>,
    history: Option<Vec<Step>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Step {
    created: Option<String>,
    created_by: String,
    comment: String,
    empty_layer: bool,
}

/// With its configuration, as it lies in the store.
async fn read(c: &Containerd, image: &str) -> Result<(Group, Value)> {
    let names = resolve(c, image).await?;
    let name = names.first().ok_or_else(|| reference::not_found(image))?;
    let group = groups(c).await?.into_iter().find(|group| group.names.contains(name));
    let group = group.ok_or_else(|| reference::not_found(image))?;
    let text = c.api.blob(&group.id).await?;
    match text.and_then(|text| serde_json::from_slice(&text).ok()) {
        Some(raw) if group.facts.is_some() => Ok((group, raw)),
        _ => Err(Error::new(ErrorCode::EngineError, format!("Of {image} there is no configuration here"))
            .detail("id", image)
            .hint("It was fetched in part. Pull it again.")),
    }
}

fn document(raw: &Value) -> Result<Document> {
    Document::deserialize(raw)
        .map_err(|e| Error::new(ErrorCode::EngineError, format!("The image's configuration cannot be understood: {e}")))
}

pub(crate) async fn inspect(c: &Containerd, image: &str) -> Result<ImageDetails> {
    let (group, raw) = read(c, image).await?;
    let document = document(&raw)?;
    let mut digests = Vec::new();
    for name in &group.names {
        let target = c.api.image(name).await?.and_then(|image| image.target);
        let digest = match (target, Reference::parse(name)) {
            (Some(target), Ok(reference)) if is_tag(name) => format!("{}@{}", reference.familiar_name(), target.digest),
            // What nerdctl and containerd name themselves is of no repository.
            _ if name.contains('@') && name.contains('/') => familiar(name).to_owned(),
            _ => continue,
        };
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }
    let info = ImageInfo {
        tags: group.tags(),
        size: total(sizes(c, &group).await?),
        created: group.facts.as_ref().map(|f| f.created).unwrap_or_default(),
        id: group.id,
    };
    let origin = Origin {
        os: document.os,
        architecture: document.architecture,
        variant: document.variant,
        author: document.author,
    };
    let layers = document.rootfs.and_then(|r| r.diff_ids).unwrap_or_default();
    Ok(document.config.unwrap_or_default().details(info, origin, digests, layers, raw))
}

pub(crate) async fn history(c: &Containerd, image: &str) -> Result<Vec<ImageHistoryEntry>> {
    let (group, raw) = read(c, image).await?;
    let sizes = sizes(c, &group).await?;
    Ok(steps(document(&raw)?.history.unwrap_or_default(), sizes))
}

/// The newest first. Each step but an empty one has the next layer.
fn steps(history: Vec<Step>, sizes: Vec<u64>) -> Vec<ImageHistoryEntry> {
    let mut sizes = sizes.into_iter();
    let entry = |step: Step| ImageHistoryEntry {
        created: step.created.as_deref().and_then(time::parse).filter(|at| *at > 0),
        created_by: step.created_by,
        comment: step.comment,
        size: if step.empty_layer { 0 } else { sizes.next().unwrap_or_default() },
    };
    let mut all: Vec<_> = history.into_iter().map(entry).collect();
    all.reverse();
    all
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<Value>(data).map_err(drop).and_then(|v| document(&v).map_err(drop)) {
        steps(document.history.unwrap_or_default(), vec![1, 2]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_without_a_layer_has_no_size_and_what_is_null_is_not_there() {
        let raw = json!({ "os": "linux", "architecture": "amd64", "rootfs": null, "config": { "Env": null, "Cmd": ["sh"] },
            "history": [
                { "created": "2026-01-01T00:00:00Z", "created_by": "ADD" },
                { "created_by": "ENV A=B", "empty_layer": true },
                { "created_by": "RUN", "comment": "buildkit" },
                { "created_by": "more than there are layers" },
            ] });
        let document = document(&raw).unwrap();
        let steps = steps(document.history.unwrap(), vec![10, 20]);
        let read: Vec<_> = steps.iter().map(|s| (s.created_by.as_str(), s.size, s.comment.as_str())).collect();
        let wanted =
            [("more than there are layers", 0, ""), ("RUN", 20, "buildkit"), ("ENV A=B", 0, ""), ("ADD", 10, "")];
        assert_eq!(read, wanted);
        assert_eq!((steps[3].created, steps[2].created), (Some(1_767_225_600_000), None));
    }
}

//! Manifests, indexes and configurations: an image's own documents, read from its blobs.

use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::super::{prelude::*, source::images::Image};
use super::cache::{Blobs, ImageFacts};
use crate::{engine::platform::ImagePlatform, fetch::digest::Digest};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    size: u64,
}

#[derive(Deserialize)]
struct Config {
    created: Option<String>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    #[serde(default)]
    rootfs: RootFs,
    #[serde(rename = "config", default)]
    inner: Option<Inner>,
}

#[derive(Deserialize, Default)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Deserialize, Default)]
struct Inner {
    #[serde(rename = "Labels", default)]
    labels: Option<Labels>,
}

/// What an index lists.
pub(crate) async fn manifests(c: &Containerd, index: &str) -> Result<Vec<String>> {
    let text = c.api.blob(index).await?.unwrap_or_default();
    let index = serde_json::from_slice::<Manifest>(&text).ok();
    Ok(index.into_iter().flat_map(|index| index.manifests).map(|manifest| manifest.digest).collect())
}

/// What the manifests name that this leads to and that are here, at most so many: an index lists many, of which mostly one has
/// been fetched.
async fn here(c: &Containerd, target: &str, most: usize) -> Result<Vec<Blobs>> {
    let (mut open, mut found) = (vec![target.to_owned()], Vec::new());
    // An index may name indexes; none of ours goes deeper.
    for _ in 0..64 {
        let Some(digest) = open.pop().filter(|_| found.len() < most) else { break };
        let Some(text) = c.api.blob(&digest).await? else { continue };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else { continue };
        open.extend(manifest.manifests.into_iter().rev().map(|m| m.digest));
        if let Some(config) = manifest.config {
            let layers = manifest.layers.into_iter().map(|l| (l.digest, l.size)).collect();
            found.push(Blobs { config: (config.digest, config.size), layers });
        }
    }
    Ok(found)
}

async fn config(c: &Containerd, digest: &str) -> Result<Option<Config>> {
    Ok(c.api.blob(digest).await?.and_then(|text| serde_json::from_slice(&text).ok()))
}

/// What a manifest names; an index leads to the first platform that is here. `None`: not here, or not readable.
pub(crate) async fn blobs(c: &Containerd, target: &str) -> Result<Option<Blobs>> {
    Ok(here(c, target, 1).await?.pop())
}

/// Whether what this names is here for a platform.
pub(crate) async fn is_for(c: &Containerd, target: &str, wanted: &ImagePlatform) -> Result<bool> {
    for blobs in here(c, target, usize::MAX).await? {
        let config = config(c, &blobs.config.0).await?;
        if config.is_some_and(|c| wanted.accepts(&ImagePlatform::new(&c.os, &c.architecture, c.variant.as_deref()))) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) async fn facts(c: &Containerd, image: &Image) -> Result<Option<Arc<ImageFacts>>> {
    let Some(target) = image.target.as_ref().map(|t| t.digest.as_str()) else { return Ok(None) };
    if let Some(known) = c.images.facts.lock().get(target) {
        return Ok(Some(known.clone()));
    }
    let Some(blobs) = blobs(c, target).await? else { return Ok(None) };
    let Some(config) = config(c, &blobs.config.0).await? else { return Ok(None) };
    let facts = Arc::new(ImageFacts {
        id: blobs.config.0.clone(),
        created: config.created.as_deref().and_then(time::parse).unwrap_or_default(),
        chain: chain(&config.rootfs.diff_ids),
        blobs,
        labels: config.inner.and_then(|c| c.labels).unwrap_or_default(),
    });
    c.images.facts.lock().insert(target.to_owned(), facts.clone());
    Ok(Some(facts))
}

/// The unpacked layers' names of the image with this configuration.
pub(crate) async fn chain_of(c: &Containerd, digest: &str) -> Result<Option<Vec<String>>> {
    Ok(config(c, digest).await?.map(|config| chain(&config.rootfs.diff_ids)))
}

/// A layer's name covers those below it: the digest of its parent's name and its own
/// (docs/reference/containerd.md#unpacked-layers).
pub(crate) fn chain(diff_ids: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for diff in diff_ids {
        let name = match names.last() {
            None => diff.clone(),
            Some(parent) => format!("sha256:{}", Digest::of(&Sha256::digest(format!("{parent} {diff}")))),
        };
        names.push(name);
    }
    names
}

/// Bytes of each unpacked layer; `None` where one is missing.
pub(crate) async fn layer_sizes(c: &Containerd, chain: &[String]) -> Result<Option<Vec<u64>>> {
    let mut sizes = Vec::new();
    for name in chain {
        let known = c.images.layers.lock().get(name).copied();
        let size = match known {
            Some(size) => size,
            None => match c.api.snapshot_size(name).await? {
                Some(size) => {
                    c.images.layers.lock().insert(name.clone(), size);
                    size
                }
                None => return Ok(None),
            },
        };
        sizes.push(size);
    }
    Ok(Some(sizes))
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let _ = serde_json::from_slice::<Manifest>(data);
    if let Ok(config) = serde_json::from_slice::<Config>(data) {
        config.created.as_deref().and_then(time::parse);
        chain(&config.rootfs.diff_ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layers_name_covers_those_below() {
        // The example of the OCI image specification's rule, computed by hand.
        let ids = ["sha256:aa".to_owned(), "sha256:bb".to_owned()];
        let second = format!("sha256:{}", Digest::of(&Sha256::digest("sha256:aa sha256:bb")));
        assert_eq!(chain(&ids), ["sha256:aa".to_owned(), second]);
        assert!(chain(&[]).is_empty());
    }
}

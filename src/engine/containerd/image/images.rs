//! Images by their names and ids.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::super::prelude::*;
use super::{
    cache::ImageFacts,
    documents::{facts, is_for, layer_sizes},
    reference::{as_digest, familiar, full, is_tag},
};
use crate::engine::platform::ImagePlatform;

/// What has one id, under all its names.
pub(crate) struct Group {
    pub(crate) id: String,
    /// As the store has them.
    pub(crate) names: Vec<String>,
    pub(crate) targets: HashSet<String>,
    pub(crate) facts: Option<Arc<ImageFacts>>,
    newest: i64,
}

impl Group {
    pub(crate) fn tags(&self) -> Vec<String> {
        self.names.iter().filter(|n| is_tag(n)).map(|n| familiar(n).to_owned()).collect()
    }

    /// No name a person gave: nothing but an id leads to it.
    pub(crate) fn is_dangling(&self) -> bool {
        self.names.iter().all(|n| !is_tag(n) && !is_digest_of_a_repository(n))
    }
}

fn is_digest_of_a_repository(name: &str) -> bool {
    name.split_once('@').is_some_and(|(repository, _)| repository.contains('/'))
}

pub(crate) async fn groups(c: &Containerd) -> Result<Vec<Group>> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for image in c.api.images().await? {
        let facts = facts(c, &image).await?;
        let target = image.target.map(|t| t.digest).unwrap_or_default();
        let id = facts.as_ref().map_or_else(|| target.clone(), |f| f.id.clone());
        let imported = image.created_at.map_or(0, |t| t.seconds);
        let group = groups.entry(id.clone()).or_insert_with(|| Group {
            id,
            names: Vec::new(),
            targets: HashSet::new(),
            facts,
            newest: imported,
        });
        group.names.push(image.name);
        group.targets.insert(target);
        group.newest = group.newest.max(imported);
    }
    Ok(groups.into_values().collect())
}

/// The bytes of each layer, lowest first.
pub(crate) async fn sizes(c: &Containerd, group: &Group) -> Result<Vec<u64>> {
    let Some(facts) = &group.facts else { return Ok(Vec::new()) };
    Ok(match layer_sizes(c, &facts.chain).await? {
        Some(sizes) => sizes,
        // Not unpacked: what was fetched is what there is.
        None => facts.blobs.layers.iter().map(|(_, size)| *size).collect(),
    })
}

pub(crate) async fn list(c: &Containerd) -> Result<Vec<ImageInfo>> {
    let mut all = Vec::new();
    let mut groups = groups(c).await?;
    groups.sort_by_key(|g| std::cmp::Reverse(g.newest));
    for group in groups {
        let size = total(sizes(c, &group).await?);
        let created = group.facts.as_ref().map_or(time::of_seconds(group.newest), |f| f.created);
        all.push(ImageInfo { tags: group.tags(), id: group.id, size, created });
    }
    Ok(all)
}

/// Names of the store that a reference or an id means; empty where there is none.
pub(crate) async fn resolve(c: &Containerd, reference: &str) -> Result<Vec<String>> {
    let name = full(reference);
    if !reference.starts_with("sha256:") && c.api.image(&name).await?.is_some() {
        return Ok(vec![name]);
    }
    let Some(digest) = as_digest(reference) else { return Ok(Vec::new()) };
    let matching = groups(c)
        .await?
        .into_iter()
        .filter(|g| g.id.starts_with(&digest) || g.targets.iter().any(|t| t.starts_with(&digest)))
        .collect::<Vec<_>>();
    // The beginning of two ids is neither.
    Ok(if matching.len() == 1 { matching.into_iter().flat_map(|g| g.names).collect() } else { Vec::new() })
}

pub(crate) async fn exists(c: &Containerd, image: &str, platform: Option<&str>) -> Result<bool> {
    let names = resolve(c, image).await?;
    let (Some(name), Some(platform)) = (names.first(), platform) else { return Ok(!names.is_empty()) };
    let target = c.api.image(name).await?.and_then(|image| image.target);
    match target {
        Some(target) => is_for(c, &target.digest, &ImagePlatform::parse(platform)).await,
        None => Ok(false),
    }
}

/// As Docker does it: a name goes as long as the image has another one; the last one only when no container uses it,
/// or with force none that runs.
pub(crate) async fn remove(c: &Containerd, image: &str, force: bool) -> Result<()> {
    let names = resolve(c, image).await?;
    let in_use = |problem: String| Error::new(ErrorCode::InUse, problem).detail("id", image);
    if names.is_empty() {
        return Err(reference::not_found(image));
    }
    if names.len() > 1 && !force && names.iter().filter(|n| is_tag(n)).count() > 1 {
        return Err(in_use(format!("{image} has several names: {}", names.join(", ")))
            .hint("Remove it by its names, or pass force."));
    }
    for (container, task) in c.everything().await?.iter().filter(|(container, _)| names.contains(&container.image)) {
        let ended = task.as_ref().is_none_or(|t| t.exit_code.is_some());
        if !ended {
            return Err(in_use(format!("{image} is used by the running container {}", container.id))
                .hint("Stop and remove the container first."));
        }
        if !force {
            return Err(in_use(format!("{image} is used by the stopped container {}", container.id))
                .hint("Remove the container first, or pass force."));
        }
    }
    for name in names {
        c.api.delete_image(&name).await?;
    }
    Ok(())
}

pub(crate) async fn tag(c: &Containerd, image: &str, target: &str) -> Result<()> {
    let names = resolve(c, image).await?;
    let name = names.first().ok_or_else(|| reference::not_found(image))?;
    let source = c.api.image(name).await?.ok_or_else(|| reference::not_found(image))?;
    c.api.name_image(&full(target), source).await
}

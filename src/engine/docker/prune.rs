//! The removal of what nothing uses.
//!
//! On an engine that is not ours only what carries our label goes, unless all is asked for. Images cannot be given a label when they are
//! pulled: in the scope `app` only dangling ones go that were built with it.

use std::collections::HashSet;

use serde::Deserialize;

use super::{
    api::{self, Api, ApiVersion},
    error::ResultExt,
    refusal::About,
};
use crate::{engine::types::*, error::Result};

pub(super) async fn prune(api: Api, options: &PruneOptions, app: &str, private: bool) -> Result<PruneResult> {
    let filters = match options.scope {
        Some(PruneScope::Engine) => Filters::new(),
        None if private => Filters::new(),
        Some(PruneScope::App) | None => Filters::from([("label".to_owned(), vec![format!("{APP_LABEL}={app}")])]),
    };
    let with = |key: &str, value: &str| {
        let mut all = filters.clone();
        all.insert(key.to_owned(), vec![value.to_owned()]);
        all
    };
    let mut result = PruneResult::default();
    // Containers first: what only they used is unused then.
    if options.containers == Some(true) {
        let done = pruned(&api, "containers", &filters).await?;
        result.containers_deleted = count(done.containers_deleted);
        result.reclaim(done.space_reclaimed);
    }
    if options.networks == Some(true) {
        result.networks_deleted = count(pruned(&api, "networks", &filters).await?.networks_deleted);
    }
    if options.volumes == Some(true) {
        // From API 1.42 on only anonymous volumes go unless all are asked for
        // (docs/reference/docker.md#volumes-in-prune); ours have names.
        let filters = if api.version() >= ApiVersion(1, 42) { with("all", "true") } else { filters.clone() };
        let done = pruned(&api, "volumes", &filters).await?;
        result.volumes_deleted = count(done.volumes_deleted);
        result.reclaim(done.space_reclaimed);
    }
    if options.images == Some(true) {
        let filters = with("dangling", "true");
        let dangling = dangling(&api, &filters).await?;
        let done = pruned(&api, "images", &filters).await?;
        // The answer counts layers, too.
        let deleted = done.images_deleted.unwrap_or_default().into_iter().filter_map(|i| i.deleted);
        result.images_deleted = deleted.filter(|id| dangling.contains(id)).count() as u64;
        result.reclaim(done.space_reclaimed);
    }
    Ok(result)
}

/// The answers of all four: each leaves out what is not its own, or says `null` for nothing.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Pruned {
    containers_deleted: Option<Vec<String>>,
    networks_deleted: Option<Vec<String>>,
    volumes_deleted: Option<Vec<String>>,
    images_deleted: Option<Vec<DeletedImage>>,
    space_reclaimed: u64,
}

#[derive(Deserialize)]
struct DeletedImage {
    #[serde(rename = "Deleted")]
    deleted: Option<String>,
}

async fn pruned(api: &Api, kind: &str, filters: &Filters) -> Result<Pruned> {
    let answer = api.post(&format!("{kind}/prune"), &[("filters", api::filters(filters))], api::empty()).await;
    api::json(api::ALL, answer.about(About::Engine)?).await.about(About::Engine)
}

async fn dangling(api: &Api, filters: &Filters) -> Result<HashSet<String>> {
    #[derive(Deserialize)]
    struct Image {
        #[serde(rename = "Id")]
        id: String,
    }
    let found: Vec<Image> =
        api.get_json(api::ALL, "images/json", &[("filters", api::filters(filters))]).await.about(About::Engine)?;
    Ok(found.into_iter().map(|i| i.id).collect())
}

fn count(deleted: Option<Vec<String>>) -> u64 {
    deleted.map_or(0, |d| d.len() as u64)
}

//! The removal of what nothing uses.
//!
//! On an engine that is not ours only what carries our label goes. Images cannot be given a label when they are
//! pulled: in the scope `app` only dangling ones go that were built with it.

use bollard::query_parameters as q;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::{
    api::{self, Api, ApiVersion},
    error::{On, OnExt},
};
use crate::{engine::types::*, error::Result};

type Map = HashMap<String, Vec<String>>;

pub(super) async fn prune(api: Api, options: &PruneOptions, app: &str) -> Result<PruneResult> {
    let on = On::Engine;
    let filters = match options.scope {
        Some(PruneScope::Engine) => Map::new(),
        Some(PruneScope::App) | None => Map::from([("label".to_owned(), vec![format!("{APP_LABEL}={app}")])]),
    };
    let with = |key: &str, value: &str| {
        let mut all = filters.clone();
        all.insert(key.to_owned(), vec![value.to_owned()]);
        all
    };
    let mut result = PruneResult::default();
    // Containers first: what only they used is unused then.
    if options.containers == Some(true) {
        let options = q::PruneContainersOptions { filters: Some(filters.clone()) };
        let done = api.bollard().prune_containers(Some(options)).await.on(on)?;
        result.containers_deleted = count(done.containers_deleted);
        result.space_reclaimed += bytes(done.space_reclaimed);
    }
    if options.networks == Some(true) {
        let options = q::PruneNetworksOptions { filters: Some(filters.clone()) };
        result.networks_deleted = count(api.bollard().prune_networks(Some(options)).await.on(on)?.networks_deleted);
    }
    if options.volumes == Some(true) {
        // From API 1.42 on only anonymous volumes go unless all are asked for; ours have names.
        let filters = if api.version() >= ApiVersion(1, 42) { with("all", "true") } else { filters.clone() };
        let options = q::PruneVolumesOptions { filters: Some(filters) };
        let done = api.bollard().prune_volumes(Some(options)).await.on(on)?;
        result.volumes_deleted = count(done.volumes_deleted);
        result.space_reclaimed += bytes(done.space_reclaimed);
    }
    if options.images == Some(true) {
        let filters = with("dangling", "true");
        let dangling = dangling(&api, &filters).await?;
        let options = q::PruneImagesOptions { filters: Some(filters) };
        let done = api.bollard().prune_images(Some(options)).await.on(on)?;
        // The answer counts layers, too.
        let deleted = done.images_deleted.unwrap_or_default().into_iter().filter_map(|i| i.deleted);
        result.images_deleted = deleted.filter(|id| dangling.contains(id)).count() as u64;
        result.space_reclaimed += bytes(done.space_reclaimed);
    }
    Ok(result)
}

async fn dangling(api: &Api, filters: &Map) -> Result<HashSet<String>> {
    #[derive(Deserialize)]
    struct Image {
        #[serde(rename = "Id")]
        id: String,
    }
    let filters = filters.clone().into_iter().collect();
    let found: Vec<Image> = api.get_json("images/json", &[("filters", api::filters(&filters))]).await.on(On::Engine)?;
    Ok(found.into_iter().map(|i| i.id).collect())
}

fn count(deleted: Option<Vec<String>>) -> u64 {
    deleted.map_or(0, |d| d.len() as u64)
}

fn bytes(reclaimed: Option<i64>) -> u64 {
    reclaimed.and_then(|b| u64::try_from(b).ok()).unwrap_or_default()
}

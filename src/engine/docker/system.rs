//! The engine itself.

use serde::Deserialize;

use super::{
    api::{self, Api},
    error::ResultExt,
    refusal::About,
};
use crate::{engine::types::*, error::Result};

pub(super) async fn ping(api: Api) -> Result<()> {
    let answer = api.get("_ping", &[]).await.map_err(|e| e.at(api.endpoint()))?;
    // Read to its end, so that the connection can be used again.
    api::drain(answer).await;
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(rename = "OSType")]
    os: String,
    architecture: String,
    #[serde(rename = "NCPU")]
    cpus: u64,
    mem_total: u64,
    server_version: String,
}

pub(super) async fn info(api: Api) -> Result<SystemInfo> {
    let info: Info = api.get_json(api::SMALL, "info", &[]).await.about(About::Engine)?;
    Ok(SystemInfo {
        os: info.os,
        architecture: info.architecture,
        cpus: info.cpus,
        memory: info.mem_total,
        runtime_version: info.server_version,
        healthchecks: HealthcheckDriver::Engine,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    #[serde(default)]
    layers_size: i64,
    images: Option<Vec<ImageUsage>>,
    containers: Option<Vec<ContainerUsage>>,
    volumes: Option<Vec<Volume>>,
    build_cache: Option<Vec<BuildCache>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ImageUsage {
    size: i64,
    shared_size: i64,
    containers: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerUsage {
    size_rw: i64,
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    usage_data: Option<VolumeUsage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeUsage {
    size: i64,
    ref_count: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct BuildCache {
    size: i64,
    in_use: bool,
    shared: bool,
}

pub(super) async fn disk_usage(api: Api) -> Result<DiskUsage> {
    Ok(usage(&api.get_json(api::ALL, "system/df", &[]).await.about(About::Engine)?))
}

/// -1 stands for what the engine did not count (docs/reference/docker.md#counts-of--1).
fn size(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or_default()
}

/// Reclaimable as `docker system df` has it.
fn usage(u: &Usage) -> DiskUsage {
    let entry = |all: Vec<(u64, bool)>| DiskUsageEntry {
        count: all.len() as u64,
        size: total(all.iter().map(|(s, _)| *s)),
        reclaimable: total(all.iter().filter(|(_, free)| *free).map(|(s, _)| *s)),
    };
    let images = u.images.as_deref().unwrap_or_default();
    // Layers are shared: what is in use is what only the images in use have.
    let used = images.iter().filter(|i| i.containers > 0).map(|i| size(i.size.saturating_sub(i.shared_size.max(0))));
    let used = total(used);
    let layers = size(u.layers_size);
    let volumes = u.volumes.iter().flatten().filter_map(|v| v.usage_data.as_ref());
    DiskUsage {
        images: DiskUsageEntry { count: images.len() as u64, size: layers, reclaimable: layers.saturating_sub(used) },
        containers: entry(
            (u.containers.iter().flatten())
                .map(|c| (size(c.size_rw), !matches!(c.state.as_str(), "running" | "paused" | "restarting")))
                .collect(),
        ),
        volumes: entry(volumes.map(|v| (size(v.size), v.ref_count <= 0)).collect()),
        // Shared cache is counted where it is shared with.
        build_cache: entry(
            u.build_cache.iter().flatten().filter(|b| !b.shared).map(|b| (size(b.size), !b.in_use)).collect(),
        ),
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    let _ = serde_json::from_str::<Info>(text);
    if let Ok(found) = serde_json::from_str::<Usage>(text) {
        usage(&found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_as_docker_system_df_counts_it() {
        let u: Usage = serde_json::from_str(
            r#"{"LayersSize":100,"Images":[{"Size":60,"SharedSize":10,"Containers":1},{"Size":50,"SharedSize":10,"Containers":0}],
            "Containers":[{"SizeRw":5,"State":"running"},{"SizeRw":7,"State":"exited"},{"State":"created"}],
            "Volumes":[{"UsageData":{"Size":9,"RefCount":0}},{"UsageData":{"Size":-1,"RefCount":1}},{}],"BuildCache":null}"#,
        )
        .unwrap();
        let d = usage(&u);
        assert_eq!(d.images, DiskUsageEntry { count: 2, size: 100, reclaimable: 50 });
        assert_eq!(d.containers, DiskUsageEntry { count: 3, size: 12, reclaimable: 7 });
        assert_eq!(d.volumes, DiskUsageEntry { count: 2, size: 9, reclaimable: 9 });
        assert_eq!(d.build_cache, DiskUsageEntry::default());
    }
}

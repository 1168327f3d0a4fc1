//! Readings of a container's counters.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;

use super::{
    api::{self, Api, bare},
    containers,
    error::{Failure, ResultExt},
    refusal::About,
};
use crate::{
    engine::{BoxStream, types::*},
    error::{Error, ErrorCode, Result},
};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Reading {
    /// When, by the engine's clock.
    read: String,
    cpu_stats: Cpu,
    memory_stats: Memory,
    networks: Option<BTreeMap<String, Network>>,
    blkio_stats: Blkio,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cpu {
    cpu_usage: CpuUsage,
}

/// Nanoseconds.
#[derive(Deserialize, Default)]
#[serde(default)]
struct CpuUsage {
    total_usage: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Memory {
    usage: u64,
    limit: u64,
    stats: MemoryParts,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MemoryParts {
    /// cgroup v1: with the cgroups below it.
    total_inactive_file: Option<u64>,
    /// cgroup v2.
    inactive_file: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Network {
    rx_bytes: u64,
    tx_bytes: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Blkio {
    io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Deserialize)]
struct BlkioEntry {
    op: String,
    value: u64,
}

impl Reading {
    /// The engine answers zeros for a container that does not run.
    fn is_running(&self) -> bool {
        self.memory_stats.limit > 0 || self.cpu_stats.cpu_usage.total_usage > 0
    }

    fn sample(&self, at: Instant) -> StatsSample {
        let memory = &self.memory_stats;
        // Page cache that the kernel would give back at once is not "used", as `docker stats` counts
        // (docs/reference/docker.md#memory-in-stats).
        let cache = memory.stats.total_inactive_file.or(memory.stats.inactive_file).unwrap_or_default();
        let blocks = |op: &str| {
            let all = self.blkio_stats.io_service_bytes_recursive.iter().flatten();
            total(all.filter(|e| e.op.eq_ignore_ascii_case(op)).map(|e| e.value))
        };
        let networks = || self.networks.iter().flatten().map(|(_, n)| n);
        StatsSample {
            at,
            cpu: Duration::from_nanos(self.cpu_stats.cpu_usage.total_usage),
            memory_used: if cache < memory.usage { memory.usage - cache } else { memory.usage },
            memory_limit: memory.limit,
            network: NetworkStats {
                rx: total(networks().map(|n| n.rx_bytes)),
                tx: total(networks().map(|n| n.tx_bytes)),
            },
            block_io: BlockIoStats { read: blocks("read"), write: blocks("write") },
        }
    }
}

fn path(id: &str) -> String {
    format!("containers/{}/stats", api::encode(bare(id)))
}

pub(super) async fn sample(api: Api, id: &str) -> Result<StatsSample> {
    let query = [("stream", "0".to_owned()), ("one-shot", "1".to_owned())];
    let reading: Reading = match api.get_json(api::SMALL, &path(id), &query).await {
        // podman's answer for a container that does not run is empty (docs/reference/docker.md#errors-of-podman).
        Err(Failure::Strange(_)) if !containers::is_running(&api, id).await? => return Err(not_running(id)),
        answer => answer.about(About::Container(id))?,
    };
    if !reading.is_running() {
        return Err(not_running(id));
    }
    Ok(reading.sample(api.clock().instant(&reading.read)))
}

pub(super) async fn samples(api: Api, id: &str) -> Result<BoxStream<StatsSample>> {
    let raw = containers::raw(&api, id).await?;
    if raw["State"]["Running"] != true {
        return Err(not_running(id));
    }
    let answer = api.get(&path(id), &[("stream", "1".to_owned())]).await.about(About::Container(id))?;
    let id = id.to_owned();
    Ok(api::json_lines::<Reading>(api::SMALL, answer)
        .map_err(move |e| e.about(About::Container(&id)))
        .try_take_while(|reading| std::future::ready(Ok(reading.is_running())))
        .map_ok(move |reading| reading.sample(api.clock().instant(&reading.read)))
        .boxed())
}

fn not_running(id: &str) -> Error {
    Error::new(ErrorCode::InvalidState, format!("Container {id} is not running")).detail("id", id)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    if let Ok(reading) = serde_json::from_str::<Reading>(text) {
        reading.is_running();
        reading.sample(super::clock::Clock::default().instant(&reading.read));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample_of(value: serde_json::Value) -> StatsSample {
        serde_json::from_value::<Reading>(value).unwrap().sample(Instant::now())
    }

    #[test]
    fn memory_is_without_the_cache_on_both_cgroup_versions() {
        let v2 = json!({ "memory_stats": { "usage": 100, "limit": 1000, "stats": { "inactive_file": 30 } } });
        assert_eq!(sample_of(v2).memory_used, 70);
        let v1 = json!({ "memory_stats": { "usage": 100, "limit": 1000,
            "stats": { "inactive_file": 1, "total_inactive_file": 40 } } });
        assert_eq!(sample_of(v1).memory_used, 60);
        let odd = json!({ "memory_stats": { "usage": 100, "limit": 1000, "stats": { "inactive_file": 300 } } });
        assert_eq!(sample_of(odd).memory_used, 100);
    }

    #[test]
    fn networks_and_devices_are_summed() {
        let s = sample_of(json!({
            "cpu_stats": { "cpu_usage": { "total_usage": 1_500_000_000_u64 } },
            "networks": { "eth0": { "rx_bytes": 1, "tx_bytes": 2 }, "eth1": { "rx_bytes": 10, "tx_bytes": 20 } },
            "blkio_stats": { "io_service_bytes_recursive": [
                { "major": 8, "minor": 0, "op": "Read", "value": 5 }, { "major": 8, "minor": 16, "op": "read", "value": 6 },
                { "major": 8, "minor": 0, "op": "Write", "value": 7 }, { "major": 8, "minor": 0, "op": "Total", "value": 12 } ] },
        }));
        assert_eq!(s.cpu, Duration::from_millis(1500));
        assert_eq!(s.network, NetworkStats { rx: 11, tx: 22 });
        assert_eq!(s.block_io, BlockIoStats { read: 11, write: 7 });
    }

    #[test]
    fn zeros_mean_that_it_does_not_run() {
        let stopped: Reading = serde_json::from_value(json!({ "read": "0001-01-01T00:00:00Z", "cpu_stats":
            { "cpu_usage": { "total_usage": 0 } }, "memory_stats": {}, "networks": null }))
        .unwrap();
        assert!(!stopped.is_running());
    }
}

//! Readings of a container's counters.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;

use super::{
    api::{self, Api},
    containers::{self, bare},
    error::{Failure, On, OnExt},
    time,
};
use crate::{
    engine::{BoxStream, types::*},
    error::{Error, ErrorCode, Result},
    mutex::Mutex,
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
        answer => answer.on(On::Container(id))?,
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
    let answer = api.get(&path(id), &[("stream", "1".to_owned())]).await.on(On::Container(id))?;
    let id = id.to_owned();
    Ok(api::json_lines::<Reading>(api::SMALL, answer)
        .map_err(move |e| e.on(On::Container(&id)))
        .try_take_while(|reading| std::future::ready(Ok(reading.is_running())))
        .map_ok(move |reading| reading.sample(api.clock().instant(&reading.read)))
        .boxed())
}

fn not_running(id: &str) -> Error {
    Error::new(ErrorCode::InvalidState, format!("Container {id} is not running")).detail("id", id)
}

/// The engine's clock on ours. Engines up to 20.10 answer at the tick of a second, whenever they are asked
/// (docs/reference/docker.md#clock-of-stats): when a counter was read they must say themselves.
#[derive(Default)]
pub(super) struct Clock(Mutex<Option<(Millis, Instant)>>);

impl Clock {
    fn instant(&self, read: &str) -> Instant {
        let now = Instant::now();
        let Some(read) = time::parse(read) else { return now };
        let mut anchor = self.0.lock();
        let (read0, at0) = *anchor.get_or_insert((read, now));
        let apart = Duration::from_millis(read.abs_diff(read0));
        let at = if read >= read0 { at0.checked_add(apart) } else { at0.checked_sub(apart) };
        // One of the clocks was set, or a VM slept.
        let at = at.filter(|at| now.duration_since(*at).max(at.duration_since(now)) < SKEW);
        at.unwrap_or_else(|| {
            *anchor = Some((read, now));
            now
        })
    }
}

const SKEW: Duration = Duration::from_secs(5);

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    if let Ok(reading) = serde_json::from_str::<Reading>(text) {
        reading.is_running();
        reading.sample(Clock::default().instant(&reading.read));
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
    fn the_time_between_two_readings_is_the_engines() {
        let clock = Clock::default();
        let first = clock.instant("2024-05-01T10:00:00.500Z");
        let second = clock.instant("2024-05-01T10:00:01.750Z");
        assert_eq!(second - first, Duration::from_millis(1250));
        // A clock that was set is followed.
        let now = Instant::now();
        let third = clock.instant("2025-01-01T00:00:00Z");
        assert!(third >= now);
        assert_eq!(clock.instant("2025-01-01T00:00:01Z") - third, Duration::from_secs(1));
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

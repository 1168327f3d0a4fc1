//! A task's counters, of cgroup v1 or v2.

use std::time::{Duration, Instant};

use prost::Message;
use prost_types::Any;

use super::super::proto::io::containerd::cgroups::{v1, v2};
use crate::{
    engine::{BlockIoStats, NetworkStats, StatsSample, types::total},
    error::{Error, Result},
};

/// `memory_limit` is 0 where the container has none: the guest's memory is the limit then.
pub(crate) fn sample(data: &Any, at: Instant) -> Result<StatsSample> {
    let broken = |e: prost::DecodeError| Error::internal(format!("containerd's metrics: {e}")).source(e);
    let network = NetworkStats { rx: 0, tx: 0 };
    if data.type_url.ends_with("cgroups.v1.Metrics") {
        let m = v1::Metrics::decode(data.value.as_slice()).map_err(broken)?;
        let memory = m.memory.unwrap_or_default();
        let usage = memory.usage.unwrap_or_default();
        let io = m.blkio.unwrap_or_default().io_service_bytes_recursive;
        let bytes = |op: &str| total(io.iter().filter(|e| e.op.eq_ignore_ascii_case(op)).map(|e| e.value));
        return Ok(StatsSample {
            at,
            cpu: Duration::from_nanos(m.cpu.and_then(|c| c.usage).unwrap_or_default().total),
            memory_used: usage.usage.saturating_sub(memory.total_inactive_file),
            memory_limit: limit(usage.limit),
            network,
            block_io: BlockIoStats { read: bytes("read"), write: bytes("write") },
        });
    }
    let m = v2::Metrics::decode(data.value.as_slice()).map_err(broken)?;
    let memory = m.memory.unwrap_or_default();
    let io = m.io.unwrap_or_default().usage;
    Ok(StatsSample {
        at,
        cpu: Duration::from_micros(m.cpu.unwrap_or_default().usage_usec),
        memory_used: memory.usage.saturating_sub(memory.inactive_file),
        memory_limit: limit(memory.usage_limit),
        network,
        block_io: BlockIoStats { read: total(io.iter().map(|e| e.rbytes)), write: total(io.iter().map(|e| e.wbytes)) },
    })
}

/// "Unlimited" is a number near 2^63 (v1: rounded down to a page) or 2^64 - 1 (v2)
/// (docs/reference/containerd.md#metrics).
fn limit(bytes: u64) -> u64 {
    if bytes >= 1 << 60 { 0 } else { bytes }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    for version in ["io.containerd.cgroups.v1.Metrics", "io.containerd.cgroups.v2.Metrics"] {
        let _ = sample(&Any { type_url: version.into(), value: data.to_vec() }, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_v1_leaves_the_page_cache_out_and_reads_unlimited() {
        let metrics = v1::Metrics {
            cpu: Some(v1::CpuStat {
                usage: Some(v1::CpuUsage { total: 1_500_000_000, ..Default::default() }),
                ..Default::default()
            }),
            memory: Some(v1::MemoryStat {
                total_inactive_file: 30,
                usage: Some(v1::MemoryEntry { usage: 100, limit: 0x7fff_ffff_ffff_f000, ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let any = Any { type_url: "io.containerd.cgroups.v1.Metrics".into(), value: metrics.encode_to_vec() };
        let s = sample(&any, Instant::now()).unwrap();
        assert_eq!((s.cpu, s.memory_used, s.memory_limit), (Duration::from_millis(1500), 70, 0));
    }

    #[test]
    fn cgroup_v2_counts_in_microseconds() {
        let metrics = v2::Metrics {
            cpu: Some(v2::CpuStat { usage_usec: 2_000_000, ..Default::default() }),
            memory: Some(v2::MemoryStat { usage: 10, usage_limit: 1 << 30, ..Default::default() }),
            io: Some(v2::IoStat {
                usage: vec![v2::IoEntry { rbytes: 7, wbytes: 8, ..Default::default() }],
                ..Default::default()
            }),
            ..Default::default()
        };
        let any = Any { type_url: "io.containerd.cgroups.v2.Metrics".into(), value: metrics.encode_to_vec() };
        let s = sample(&any, Instant::now()).unwrap();
        assert_eq!((s.cpu, s.memory_limit, s.block_io.write), (Duration::from_secs(2), 1 << 30, 8));
    }
}

//! Percentages computed from counters.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::StreamExt;

use super::{
    backend::{BoxStream, Engine},
    types::*,
};
use crate::{error::Result, mutex::Mutex};

/// The time between the two samples of a single call.
const SAMPLE_GAP: Duration = Duration::from_millis(100);
/// An earlier sample of this age still shows how busy the container is now.
const USABLE_AGE: std::ops::RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(10);

/// The last sample of each container that was asked for.
#[derive(Default)]
pub(super) struct StatsHistory(Mutex<HashMap<String, StatsSample>>);

impl StatsHistory {
    pub(super) async fn measure(&self, engine: &dyn Engine, id: &str) -> Result<ContainerStats> {
        let mut now = engine.sample(id).await?;
        let before = if let Some(earlier) = self.earlier(id, now.at) {
            earlier
        } else {
            let first = now;
            tokio::time::sleep_until((first.at + SAMPLE_GAP).into()).await;
            now = engine.sample(id).await?;
            first
        };
        let mut all = self.0.lock();
        // Entries of removed containers must not pile up.
        all.retain(|_, s| now.at.duration_since(s.at) <= *USABLE_AGE.end());
        all.insert(id.to_owned(), now);
        Ok(between(&before, &now))
    }

    fn earlier(&self, id: &str, now: Instant) -> Option<StatsSample> {
        let all = self.0.lock();
        all.get(id).copied().filter(|s| USABLE_AGE.contains(&now.duration_since(s.at)))
    }
}

/// Compares each sample with the one before it.
pub(super) fn of_samples(samples: BoxStream<StatsSample>) -> BoxStream<ContainerStats> {
    let mut last: Option<StatsSample> = None;
    samples
        .filter_map(move |sample| {
            let out = match sample {
                Err(e) => Some(Err(e)),
                Ok(now) => last.replace(now).map(|before| Ok(between(&before, &now))),
            };
            std::future::ready(out)
        })
        .boxed()
}

fn between(before: &StatsSample, now: &StatsSample) -> ContainerStats {
    let wall = now.at.duration_since(before.at).as_secs_f64();
    // A restart resets the counter, so nothing is known about the time between.
    let used = now.cpu.saturating_sub(before.cpu).as_secs_f64();
    ContainerStats {
        cpu: if wall > 0.0 { used / wall * 100.0 } else { 0.0 },
        memory: MemoryStats {
            used: now.memory_used,
            limit: now.memory_limit,
            percentage: if now.memory_limit > 0 {
                now.memory_used as f64 / now.memory_limit as f64 * 100.0
            } else {
                0.0
            },
        },
        network: now.network,
        block_io: now.block_io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, cpu_ms: u64) -> StatsSample {
        StatsSample {
            at,
            cpu: Duration::from_millis(cpu_ms),
            memory_used: 50,
            memory_limit: 200,
            network: NetworkStats { rx: 1, tx: 2 },
            block_io: BlockIoStats { read: 3, write: 4 },
        }
    }

    #[test]
    fn one_full_core_is_100_percent() {
        let t = Instant::now();
        let s = between(&sample(t, 500), &sample(t + SAMPLE_GAP, 600));
        assert!((s.cpu - 100.0).abs() < 0.01, "{s:?}");
        assert!((s.memory.percentage - 25.0).abs() < 0.01);
    }

    #[test]
    fn a_counter_set_back_by_a_restart_is_not_a_negative_load() {
        let t = Instant::now();
        assert!(between(&sample(t, 500), &sample(t + SAMPLE_GAP, 10)).cpu.abs() < f64::EPSILON);
    }
}

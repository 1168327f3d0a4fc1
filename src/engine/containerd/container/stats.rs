//! Counters: from containerd, the network's from the guest's /proc.

use std::time::Duration;

use super::super::prelude::*;
use super::find::{end, running_or_paused};

pub(crate) async fn sample(c: &Containerd, id: &str) -> Result<StatsSample> {
    let (container, task) = running_or_paused(c, id).await?;
    read(c, &container.id, task.pid).await
}

async fn read(c: &Containerd, id: &str, pid: u32) -> Result<StatsSample> {
    let files = [format!("/proc/{pid}/net/dev"), "/proc/meminfo".to_owned()];
    let (mut sample, files) = tokio::try_join!(c.api.sample(id), c.guest().read_files(&files, c.settings.root))?;
    let text = |i: usize| files.get(i).and_then(Option::as_deref).map(String::from_utf8_lossy).unwrap_or_default();
    sample.network = network(&text(0));
    let machine = memory(&text(1));
    // No limit is the guest's memory, and no limit is larger.
    if machine > 0 && (sample.memory_limit == 0 || sample.memory_limit > machine) {
        sample.memory_limit = machine;
    }
    Ok(sample)
}

/// Of all interfaces but the loopback. Columns: name, received bytes and seven more, sent bytes (proc(5)).
fn network(dev: &str) -> NetworkStats {
    let mut sum = NetworkStats { rx: 0, tx: 0 };
    for line in dev.lines() {
        let Some((name, counters)) = line.split_once(':').filter(|(name, _)| name.trim() != "lo") else { continue };
        let numbers: Vec<u64> = counters.split_whitespace().map(|n| n.parse().unwrap_or(0)).collect();
        if let ([rx, ..], Some(tx), false) = (numbers.as_slice(), numbers.get(8), name.is_empty()) {
            sum = NetworkStats { rx: sum.rx.saturating_add(*rx), tx: sum.tx.saturating_add(*tx) };
        }
    }
    sum
}

fn memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib.saturating_mul(1024))
}

/// Once a second, until the container ends.
pub(crate) async fn samples(c: &Containerd, id: &str) -> Result<BoxStream<StatsSample>> {
    let (container, task) = running_or_paused(c, id).await?;
    let c = c.clone();
    Ok(task::stream(move |out| async move {
        let id = container.id;
        let measure = async {
            // The first two make the first reading: they need not be a second apart.
            let mut gap = Duration::from_millis(200);
            loop {
                out.put(read(&c, &id, task.pid).await?).await?;
                tokio::time::sleep(gap).await;
                gap = Duration::from_secs(1);
            }
        };
        let ended: Result<()> = tokio::select! {
            ended = end(&c, &id) => ended,
            failed = measure => failed,
        };
        match ended {
            // The container's end is the stream's, not an error.
            Err(e) if matches!(e.code(), ErrorCode::InvalidState | ErrorCode::ContainerNotFound) => Ok(()),
            other => other,
        }
    }))
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    network(&text);
    memory(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_added_up_without_the_loopback() {
        let dev = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:     500       5    0    0    0     0          0         0      500       5    0    0    0     0       0          0\n  eth0:    1000      10    0    0    0     0          0         0     2000      20    0    0    0     0       0          0\n  eth1:       1       1    0    0    0     0          0         0        2       1    0    0    0     0       0          0\n";
        assert_eq!(network(dev), NetworkStats { rx: 1001, tx: 2002 });
        assert_eq!(memory("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), 24_576_000 * 1024);
    }
}

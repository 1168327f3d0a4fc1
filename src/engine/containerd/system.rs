//! The engine itself.

use std::collections::{HashMap, HashSet};

use super::{
    container::{health, spec::used_volumes},
    image::{documents, images},
    prelude::*,
    volume,
};

pub(crate) async fn ping(c: &Containerd) -> Result<()> {
    c.api.version().await.map(drop)
}

pub(crate) async fn info(c: &Containerd) -> Result<SystemInfo> {
    const READ: &str = "uname -m; nproc; sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo";
    let facts = async {
        let out = c.guest().run(c.command(["sh", "-c", READ])).await?.checked("sh")?;
        let text = String::from_utf8_lossy(&out).into_owned();
        let mut lines = text.lines().map(str::to_owned);
        let architecture = lines.next().unwrap_or_default();
        let mut number = || lines.next().and_then(|l| l.trim().parse::<u64>().ok()).unwrap_or_default();
        Ok::<_, Error>((architecture, number(), number().saturating_mul(1024)))
    };
    let ((architecture, cpus, memory), runtime_version) = tokio::try_join!(facts, c.api.version())?;
    Ok(SystemInfo {
        os: "linux".to_owned(),
        architecture,
        cpus,
        memory,
        runtime_version,
        healthchecks: health::driver(c).await,
    })
}

/// Bytes of all images: the blobs that were fetched, and the layers unpacked from them.
pub(crate) async fn stored(c: &Containerd) -> Result<u64> {
    let (blobs, layers) = tokio::try_join!(c.api.blobs_size(), layers(c))?;
    Ok(total(layers.into_iter().map(|(_, size)| size).chain([blobs])))
}

/// Unpacked layers with their bytes.
async fn layers(c: &Containerd) -> Result<Vec<(String, u64)>> {
    let mut all = Vec::new();
    for snapshot in c.api.snapshots().await? {
        // A container's own layer is no image's.
        if snapshot.name.starts_with("sha256:")
            && let Some(sizes) = documents::layer_sizes(c, std::slice::from_ref(&snapshot.name)).await?
        {
            all.push((snapshot.name, total(sizes)));
        }
    }
    Ok(all)
}

pub(crate) async fn disk_usage(c: &Containerd) -> Result<DiskUsage> {
    let (containers, groups, layers, blobs, volumes) =
        tokio::try_join!(c.everything(), images::groups(c), layers(c), c.api.blobs_size(), volume::all(c),)?;
    let mut usage = DiskUsage::default();

    let used: HashSet<&str> = containers.iter().map(|(c, _)| c.image.as_str()).collect();
    let mut needed: HashSet<&str> = HashSet::new();
    let mut needed_blobs: HashMap<&str, u64> = HashMap::new();
    for group in groups.iter().filter(|g| g.names.iter().any(|n| used.contains(n.as_str()))) {
        if let Some(facts) = &group.facts {
            needed.extend(facts.chain.iter().map(String::as_str));
            let all = facts.blobs.layers.iter().chain([&facts.blobs.config]);
            needed_blobs.extend(all.map(|(digest, size)| (digest.as_str(), *size)));
        }
    }
    let unpacked: u64 = total(layers.iter().map(|(_, size)| *size));
    let kept: u64 = total(layers.iter().filter(|(name, _)| needed.contains(name.as_str())).map(|(_, size)| *size));
    let size = total([unpacked, blobs]);
    usage.images = DiskUsageEntry {
        count: groups.len() as u64,
        size,
        reclaimable: size.saturating_sub(total(needed_blobs.into_values().chain([kept]))),
    };

    for (container, task) in &containers {
        let size = c.api.snapshot_size(&container.snapshot_key).await?.unwrap_or_default();
        let runs = task.as_ref().is_some_and(|t| t.exit_code.is_none());
        add(&mut usage.containers, size, !runs);
    }
    let used = used_volumes(containers.iter().map(|(c, _)| c.as_ref()));
    let all: Vec<_> = volumes.iter().collect();
    for (volume, size) in all.iter().zip(volume::sizes(c, &all).await?) {
        add(&mut usage.volumes, size, !used.contains(&volume.name));
    }
    Ok(usage)
}

fn add(entry: &mut DiskUsageEntry, size: u64, free: bool) {
    entry.count += 1;
    entry.size = total([entry.size, size]);
    entry.reclaimable = total([entry.reclaimable, if free { size } else { 0 }]);
}

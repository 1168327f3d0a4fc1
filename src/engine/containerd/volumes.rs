//! Volumes: directories that nerdctl keeps in its store.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use super::{Containerd, api::Container, nerdctl::On};
use crate::{
    engine::types::*,
    error::{Error, ErrorCode, Result},
};

const LOCAL: &str = "local";

/// One volume, as its `volume.json` has it.
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) mountpoint: String,
    pub(super) labels: Labels,
}

#[derive(Deserialize, Default)]
struct Stored {
    #[serde(alias = "Labels", default)]
    labels: Option<Labels>,
}

/// All there are, read in one go.
pub(super) async fn all(c: &Containerd) -> Result<Vec<Volume>> {
    const READ: &str = r#"cd -- "$1" 2>/dev/null || exit 0
for d in *; do [ ! -d "$d/_data" ] || { printf '%s\0' "$d"; cat "$d/volume.json"; printf '\0'; }; done"#;
    let dir = format!("{}/volumes/{}", c.store().await?, c.namespace());
    let out = c.guest().run(c.command(["sh", "-c", READ, "sh", &dir])).await?.checked("sh")?;
    let fields: Vec<&[u8]> = out.split(|b| *b == 0).collect();
    let volume = |f: &[&[u8]]| {
        let name = String::from_utf8_lossy(f[0]).into_owned();
        let stored: Stored = serde_json::from_slice(f[1]).unwrap_or_default();
        Volume { mountpoint: format!("{dir}/{name}/_data"), name, labels: stored.labels.unwrap_or_default() }
    };
    Ok(fields.chunks_exact(2).map(volume).collect())
}

pub(super) async fn create(c: &Containerd, name: &str, options: &VolumeOptions) -> Result<String> {
    if let Some(driver) = options.driver.as_deref().filter(|d| *d != LOCAL) {
        return Err(Error::invalid("driver", format!("containerd has no volume driver {driver:?}")).hint("Use local."));
    }
    let mut args = vec!["volume".to_owned(), "create".to_owned()];
    args.extend(options.labels.iter().map(|(k, v)| format!("--label={k}={v}")));
    args.extend(["--".to_owned(), name.to_owned()]);
    c.nerdctl.write(On::Volume(name), args).await?;
    Ok(name.to_owned())
}

pub(super) async fn remove(c: &Containerd, name: &str, force: bool) -> Result<()> {
    match c.nerdctl.write(On::Volume(name), ["volume", "rm", "--", name]).await.map_err(|e| refused(e, name)) {
        // As Docker: force is for what may not be there.
        Err(e) if force && e.code() == ErrorCode::VolumeNotFound => Ok(()),
        done => done.map(drop),
    }
}

/// Why a volume stays is a warning of nerdctl's (recorded from 2.1.6), above an error that says nothing.
fn refused(e: Error, name: &str) -> Error {
    let warned = e.details().get("stderr").and_then(Value::as_str).unwrap_or_default();
    let (code, problem) = if warned.contains("is in use") {
        (ErrorCode::InUse, format!("Volume {name} is used by a container"))
    } else if warned.contains("not found") || warned.contains("does not exist") {
        (ErrorCode::VolumeNotFound, format!("There is no volume {name}"))
    } else {
        return e;
    };
    Error::new(code, problem).detail("volume", name).source(e)
}

pub(super) async fn list(c: &Containerd) -> Result<Vec<VolumeInfo>> {
    let info = |v: Volume| VolumeInfo { name: v.name, driver: LOCAL.to_owned(), mountpoint: v.mountpoint };
    Ok(all(c).await?.into_iter().map(info).collect())
}

/// Names of the volumes that these containers use; one that is stopped counts.
pub(super) fn used_by(containers: &[Container]) -> HashSet<String> {
    let mut used = HashSet::new();
    for container in containers {
        // A long list is cut into several labels from nerdctl 2.3.2 on (nerdctl-contract §1.5).
        let mut parts: Vec<(&String, &String)> =
            container.labels.iter().filter(|(k, _)| k.starts_with("nerdctl/mounts")).collect();
        parts.sort();
        let text: String = parts.into_iter().map(|(_, v)| v.as_str()).collect();
        let mounts: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        used.extend(mounts.iter().filter_map(|m| m["Name"].as_str().filter(|n| !n.is_empty())).map(str::to_owned));
    }
    used
}

/// Bytes of each volume on the disk, in the order given.
pub(super) async fn sizes(c: &Containerd, volumes: &[&Volume]) -> Result<Vec<u64>> {
    if volumes.is_empty() {
        return Ok(Vec::new());
    }
    let argv = ["du", "-sk", "--"].into_iter().chain(volumes.iter().map(|v| v.mountpoint.as_str()));
    // A file that goes away under it makes it fail, and it has counted the rest.
    let out = c.guest().run(c.command(argv)).await?.stdout;
    let text = String::from_utf8_lossy(&out);
    let size = |volume: &&Volume| {
        let line = text.lines().find_map(|l| l.split_once('\t').filter(|(_, path)| *path == volume.mountpoint));
        line.and_then(|(kib, _)| kib.trim().parse::<u64>().ok()).unwrap_or_default() * 1024
    };
    Ok(volumes.iter().map(size).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_used_through_whole_and_cut_labels() {
        let container = |labels: &[(&str, &str)]| Container {
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Container::default()
        };
        let whole = container(&[("nerdctl/mounts", r#"[{"Type":"volume","Name":"a"},{"Type":"bind","Source":"/x"}]"#)]);
        let cut = container(&[("nerdctl/mounts.0", r#"[{"Type":"volume","#), ("nerdctl/mounts.1", r#""Name":"b"}]"#)]);
        let used = used_by(&[whole, cut, container(&[])]);
        assert_eq!(used, HashSet::from(["a".to_owned(), "b".to_owned()]));
    }
}

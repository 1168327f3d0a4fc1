//! Volumes: directories that nerdctl keeps in its store.

use serde::Deserialize;
use serde_json::{Value, json};

use super::prelude::*;

const LOCAL: &str = "local";

/// One volume, as its `volume.json` has it.
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) mountpoint: String,
    pub(crate) labels: Labels,
}

#[derive(Deserialize, Default)]
struct Stored {
    #[serde(alias = "Labels", default)]
    labels: Option<Labels>,
}

/// All there are, read in one go.
pub(crate) async fn all(c: &Containerd) -> Result<Vec<Volume>> {
    const READ: &str = r#"cd -- "$1" 2>/dev/null || exit 0
for d in *; do [ ! -d "$d/_data" ] || { printf '%s\0' "$d"; cat "$d/volume.json"; printf '\0'; }; done"#;
    let dir = format!("{}/volumes/{}", c.files.store().await?, c.namespace());
    let out = c.guest().run(c.command(["sh", "-c", READ, "sh", &dir])).await?.checked("sh")?;
    let fields: Vec<&[u8]> = out.split(|b| *b == 0).collect();
    let volume = |f: &[&[u8]]| {
        let name = String::from_utf8_lossy(f[0]).into_owned();
        let stored: Stored = serde_json::from_slice(f[1]).unwrap_or_default();
        Volume { mountpoint: format!("{dir}/{name}/_data"), name, labels: stored.labels.unwrap_or_default() }
    };
    Ok(fields.chunks_exact(2).map(volume).collect())
}

pub(crate) async fn create(c: &Containerd, name: &str, options: &VolumeOptions) -> Result<String> {
    if let Some(driver) = options.driver.as_deref().filter(|d| *d != LOCAL) {
        return Err(Error::invalid("driver", format!("containerd has no volume driver {driver:?}")).hint("Use local."));
    }
    let mut args = vec!["volume".to_owned(), "create".to_owned()];
    args.extend(labels::flags(&options.labels)?);
    args.extend(["--".to_owned(), name.to_owned()]);
    c.nerdctl.write(About::Volume(name), args).await?;
    c.hub.tell(EventKind::Volume, "create", name, None);
    Ok(name.to_owned())
}

pub(crate) async fn remove(c: &Containerd, name: &str, force: bool) -> Result<()> {
    match c.nerdctl.write(About::Volume(name), ["volume", "rm", "--", name]).await.map_err(|e| refused(e, name)) {
        // As Docker: force is for what may not be there.
        Err(e) if force && e.code() == ErrorCode::VolumeNotFound => {}
        done => drop(done?),
    }
    c.hub.tell(EventKind::Volume, "destroy", name, None);
    Ok(())
}

/// Why a volume stays is a warning of nerdctl's, above an error that says nothing (docs/reference/nerdctl.md#volumes).
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

pub(crate) async fn inspect(c: &Containerd, name: &str) -> Result<VolumeDetails> {
    let found = list(c).await?.into_iter().find(|v| v.name == name);
    let info = found.ok_or_else(|| {
        Error::new(ErrorCode::VolumeNotFound, format!("There is no volume {name}")).detail("volume", name)
    })?;
    let raw = json!({
        "Name": info.name, "Driver": info.driver, "Mountpoint": info.mountpoint, "Labels": info.labels, "Scope": LOCAL,
    });
    Ok(VolumeDetails::new(info, raw))
}

pub(crate) async fn list(c: &Containerd) -> Result<Vec<VolumeInfo>> {
    let info =
        |v: Volume| VolumeInfo { name: v.name, driver: LOCAL.to_owned(), mountpoint: v.mountpoint, labels: v.labels };
    Ok(all(c).await?.into_iter().map(info).collect())
}

/// Bytes of each volume on the disk, in the order given.
pub(crate) async fn sizes(c: &Containerd, volumes: &[&Volume]) -> Result<Vec<u64>> {
    if volumes.is_empty() {
        return Ok(Vec::new());
    }
    let argv = ["du", "-sk", "--"].into_iter().chain(volumes.iter().map(|v| v.mountpoint.as_str()));
    // A file that goes away under it makes it fail, and it has counted the rest.
    let out = c.guest().run(c.command(argv)).await?.stdout;
    let text = String::from_utf8_lossy(&out);
    let size = |volume: &&Volume| {
        let line = text.lines().find_map(|l| l.split_once('\t').filter(|(_, path)| *path == volume.mountpoint));
        line.and_then(|(kib, _)| kib.trim().parse::<u64>().ok()).unwrap_or_default().saturating_mul(1024)
    };
    Ok(volumes.iter().map(size).collect())
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let _ = serde_json::from_slice::<Stored>(data);
}

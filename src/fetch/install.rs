//! A directory of ours with what is installed in it: `versions/<version>`, `current`, `cache/download`,
//! `install.json` and `lock`.
//!
//! Everything new is made beside and moved into place whole: versions first, then the record, then the link that
//! makes it the current one. A process that dies in between leaves the old state or the new one.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Remote,
    bundle::Bundle,
    disk,
    download::{self, Fetched, Job, Unpacked},
    lock::Lock,
    manifest::{Part, Request, Wanted},
    owner,
    platform::Platform,
    progress::{Meter, Share},
    record::{Content, FileRecord, Inventory, Look, Record, damaged},
};
use crate::{call::Call, error::Result, progress::Phase};

#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

/// What is to be put in its place.
pub struct Ready {
    request: Request,
    record: Record,
    unpacked: Option<Unpacked>,
}

impl Home {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn versions(&self) -> PathBuf {
        self.dir.join("versions")
    }

    /// A link to one of [`Home::versions`].
    pub fn current(&self) -> PathBuf {
        self.dir.join("current")
    }

    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache").join("download")
    }

    pub fn inventory_path(&self) -> PathBuf {
        self.dir.join("install.json")
    }

    /// For who is about to change something here. `deadline` is of the wait alone, and gives way to the call's.
    pub async fn lock(&self, call: &Call, deadline: impl Into<Option<Duration>> + Send) -> Result<Lock> {
        Lock::acquire(&self.dir.join("lock"), owner::check, call, deadline.into()).await
    }

    /// The record of a part that is there and whole, as far as `look` sees.
    pub fn whole(&self, part: Part, look: Look) -> Option<Record> {
        let record = Inventory::read(&self.inventory_path())?.components.remove(&part)?;
        self.has(&record, look).then_some(record)
    }

    /// Whether it lies here, recorded or not.
    pub fn has(&self, record: &Record, look: Look) -> bool {
        damaged(&self.dir.join(&record.dir), &record.files, look, |_| false).next().is_none()
    }

    /// Makes versions that still lie here the installed ones again, of one part none where `without` names it. Runs again from
    /// any point.
    pub fn restore<'a>(
        &self,
        records: impl Iterator<Item = (Part, &'a Record)> + Clone,
        without: Option<Part>,
    ) -> Result<()> {
        let mut inventory = match Inventory::read(&self.inventory_path()) {
            Some(inventory) => inventory,
            None => Inventory::new(Platform::current()?),
        };
        inventory.components.retain(|part, _| Some(*part) != without);
        inventory.components.extend(records.clone().map(|(part, record)| (part, record.clone())));
        inventory.write(&self.inventory_path())?;
        let mut unpacked = records.filter(|(_, record)| record.dir.starts_with("versions"));
        unpacked.try_for_each(|(part, record)| self.switch_to(part, record))
    }

    /// The file of a part that was fetched as published, verified then, and its record.
    pub fn file(&self, part: Part) -> Option<(PathBuf, Record)> {
        let record = self.whole(part, Look::Stat)?;
        match &record.files[..] {
            [one] => Some((self.dir.join(&record.dir).join(&one.path), record)),
            _ => None,
        }
    }

    /// Brings `requests` from the bundle, the cache or the network, and puts all of them in place, or none. `remote` is
    /// only opened when the bundle does not have them all. What is unpacked becomes its part's current version.
    pub async fn bring(
        &self,
        requests: &[Request],
        platform: Platform,
        bundle: Option<&Bundle>,
        remote: impl AsyncFnOnce() -> Result<Remote>,
        meter: &std::sync::Arc<Meter>,
        lock: &Lock,
    ) -> Result<()> {
        let ready = self.fetch(requests, platform, bundle, remote, meter, lock).await?;
        self.put(ready, platform, meter, lock).await
    }

    /// As [`Home::bring`], up to where something is replaced.
    pub async fn fetch(
        &self,
        requests: &[Request],
        platform: Platform,
        bundle: Option<&Bundle>,
        remote: impl AsyncFnOnce() -> Result<Remote>,
        meter: &std::sync::Arc<Meter>,
        lock: &Lock,
    ) -> Result<Vec<Ready>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let (versions, cache) = (self.versions(), self.cache());
        {
            let (versions, cache) = (versions.clone(), cache.clone());
            lock.blocking(move || {
                disk::create_dir(&versions)?;
                disk::create_dir(&cache)?;
                disk::remove_leftovers(&versions)
            })
            .await?;
        }
        let mut ready = Vec::new();
        let mut missing = Vec::new();
        for &request in requests {
            match bundle {
                Some(bundle) if bundle.has(request) => {
                    meter.say(Phase::Extract, Some(request.part), format!("Copying {}", request.part.title()));
                    let (home, bundle) = (self.clone(), bundle.clone());
                    match lock.blocking(move || home.copy_from(&bundle, request)).await {
                        Ok(copy) => ready.push(copy),
                        Err(e) if e.code() == crate::error::ErrorCode::ChecksumMismatch => {
                            tracing::warn!(error = %e, "the bundle is damaged");
                            missing.push(request);
                        }
                        Err(e) => return Err(e),
                    }
                }
                _ => missing.push(request),
            }
        }
        if !missing.is_empty() {
            let remote = remote().await?;
            let mut jobs: Vec<(Request, Wanted, Share)> = Vec::new();
            for request in missing {
                let wanted = remote.wanted(request.part, platform)?;
                let share = meter.share(request.part, &wanted.version, wanted.size());
                jobs.push((request, wanted, share));
            }
            let fetched = download::fetch_all(
                &jobs
                    .iter()
                    .map(|(request, wanted, share)| Job {
                        http: &remote.http,
                        origin: &remote.origin,
                        wanted,
                        cache: &cache,
                        unpack_in: request.unpacked.then_some(versions.as_path()),
                        share: share.clone(),
                        lock: lock.clone(),
                    })
                    .collect::<Vec<_>>(),
            )
            .await?;
            for ((request, wanted, _), fetched) in jobs.into_iter().zip(fetched) {
                ready.push(Ready::fetched(request, &wanted, fetched));
            }
        }
        Ok(ready)
    }

    /// Puts in place what was fetched.
    pub async fn put(
        &self,
        ready: Vec<Ready>,
        platform: Platform,
        meter: &std::sync::Arc<Meter>,
        lock: &Lock,
    ) -> Result<()> {
        if ready.is_empty() {
            return Ok(());
        }
        for one in &ready {
            let (part, version) = (one.request.part, &one.record.version);
            meter.say(Phase::Extract, Some(part), format!("Installing {} {version}", part.title()));
        }
        let home = self.clone();
        // Not to be interrupted half-way by an abort; it takes milliseconds.
        lock.blocking(move || home.commit(ready, platform)).await
    }

    fn commit(&self, ready: Vec<Ready>, platform: Platform) -> Result<()> {
        let mut inventory = Inventory::read(&self.inventory_path()).unwrap_or_else(|| Inventory::new(platform));
        inventory.platform = platform;
        let mut links = Vec::new();
        for Ready { request, record, unpacked } in ready {
            if let Some(unpacked) = unpacked {
                disk::make_readable(unpacked.dir.path())?;
                disk::replace_dir(unpacked.dir.path(), &self.dir.join(&record.dir))?;
                links.push((record.dir.clone(), self.link(request.part)));
            }
            inventory.components.insert(request.part, record);
        }
        inventory.write(&self.inventory_path())?;
        links.iter().try_for_each(|(version, link)| disk::switch_link(version, link))
    }

    /// As [`Home::current`], of any part.
    pub fn link(&self, part: Part) -> PathBuf {
        self.dir.join(part.link_name())
    }

    /// Whether the link leads to the part's recorded version.
    pub fn is_current(&self, part: Part, record: &Record) -> bool {
        std::fs::read_link(self.link(part)).is_ok_and(|to| to == record.dir)
    }

    /// The version that [`Home::current`] names.
    pub fn current_version(&self) -> Option<PathBuf> {
        std::fs::read_link(self.current()).ok()
    }

    /// Mends the link of a version that is whole: a process may have died just before it.
    pub fn switch_to(&self, part: Part, record: &Record) -> Result<()> {
        disk::switch_link(&record.dir, &self.link(part))
    }

    fn copy_from(&self, bundle: &Bundle, request: Request) -> Result<Ready> {
        let mut record = bundle.record(request.part)?.clone();
        disk::check_space(&self.dir, record.size())?;
        let temp = disk::temp_dir_in(&self.versions())?;
        // What the application ships unpacked is copied.
        record.files = if request.unpacked && record.is_archive() {
            bundle.unpack(request.part, temp.path())?
        } else {
            bundle.copy(request.part, temp.path())?
        };
        record.source = bundle.dir(request.part)?.display().to_string();
        record.installed_at = Record::now();
        if request.unpacked {
            record.dir = version_dir(request.part, &record.version);
            let files = record.files.clone();
            return Ok(Ready { request, record, unpacked: Some(Unpacked { dir: temp, files }) });
        }
        record.dir = self.cached_dir(record.sha256.as_str());
        disk::replace_dir(temp.path(), &self.dir.join(&record.dir))?;
        Ok(Ready { request, record, unpacked: None })
    }

    /// Relative to our directory.
    fn cached_dir(&self, sha256: &str) -> PathBuf {
        self.cache().strip_prefix(&self.dir).unwrap_or(Path::new("")).join(sha256)
    }

    /// For an uninstall: removes what is in the directory under these names, and itself when nothing else is in it.
    pub fn remove(&self, names: &[&str], lock: &Lock) -> Result<()> {
        for name in names {
            disk::remove(&self.dir.join(name))?;
        }
        disk::remove_leftovers(&self.dir)?;
        lock.remove_file()?;
        let _ = std::fs::remove_dir(&self.dir);
        Ok(())
    }

    /// Removes versions nobody runs, and cached files that neither the record nor `used` needs. `kept` stay with what they name.
    pub fn prune(&self, versions_in_use: bool, kept: &[Record], used: impl Fn(&str) -> bool) -> Result<()> {
        let Some(inventory) = Inventory::read(&self.inventory_path()) else { return Ok(()) };
        if !versions_in_use {
            for dir in disk::entries(&self.versions()) {
                if !inventory.components.values().chain(kept).any(|r| self.dir.join(&r.dir) == dir) {
                    disk::remove(&dir)?;
                }
            }
        }
        let recorded = |name: &str| inventory.components.values().chain(kept).any(|r| r.sha256.as_str() == name);
        download::prune_cache(&self.cache(), |name| recorded(name) || used(name))
    }
}

fn version_dir(part: Part, version: &str) -> PathBuf {
    Path::new("versions").join(part.dir_name(version))
}

impl Ready {
    fn fetched(request: Request, wanted: &Wanted, fetched: Fetched) -> Self {
        let Fetched { source, sha256, size, file, unpacked } = fetched;
        let (version, engine) = (&wanted.version, wanted.engine(&sha256));
        let (dir, files) = if let Some(unpacked) = &unpacked {
            (version_dir(request.part, version), unpacked.files.clone())
        } else {
            let path = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let content = Content::File { size, sha256: sha256.clone(), mode: 0o644 };
            let dir = Path::new("cache").join("download").join(sha256.as_str());
            (dir, vec![FileRecord { path, content }])
        };
        let (version, installed_at) = (version.clone(), Record::now());
        let record = Record { version, source, sha256, installed_at, dir, files, engine };
        Self { request, record, unpacked }
    }
}

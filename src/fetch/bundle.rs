//! A runtime shipped inside an application: made by `download` at build time, found by `Bundle::find` at run time.
//!
//! `<out>/<platform>/bundle.json`, `<out>/<platform>/lima/{bin,share}` unpacked, and only when asked for
//! `<out>/<platform>/image/<file>` and `<out>/<platform>/nerdctl-full/<file>`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Network, disk,
    download::{self, Fetched, Job, copy_checked},
    install::{self, Request},
    lock::Lock,
    manifest::{Digest, Part, Wanted},
    platform::Platform,
    progress::{Meter, Share},
    record::{Content, FileRecord, Inventory, Look, Record, damaged},
    unpack,
};
use crate::{
    call::Call,
    error::{Error, ErrorCode, Result},
    progress::{Phase, RuntimeProgress, Sink},
    task,
};

const INVENTORY: &str = "bundle.json";
/// Where a build puts it, and a packaged application has it.
pub const DEFAULT_OUT: &str = "resources/bundled-runtime";

#[derive(Debug, Clone)]
pub struct Bundle {
    root: PathBuf,
    inventory: Inventory,
}

impl Bundle {
    /// The first of `dirs` with `part` in it, whole as far as can be seen without reading it. A directory may be the
    /// bundle of one platform, or hold one for each.
    pub fn find(dirs: &[PathBuf], platform: Platform, part: Part) -> Option<Self> {
        dirs.iter().flat_map(|d| [d.clone(), d.join(platform.as_str())]).find_map(|root| {
            let inventory = Inventory::read(&root.join(INVENTORY)).filter(|i| i.platform == platform)?;
            let bundle = Self { root, inventory };
            let record = bundle.record(part).ok()?;
            let dir = bundle.dir(part).ok()?;
            let whole = damaged(&dir, &record.files, Look::Stat, is_mach_o).next().is_none();
            whole.then_some(bundle)
        })
    }

    /// Where an application keeps it: its resources directory, and in development the working directory.
    pub fn usual_dirs(resources: Option<&Path>) -> Vec<PathBuf> {
        let cwd = std::env::current_dir().ok();
        let bases = resources.map(Path::to_owned).into_iter().chain(cwd);
        bases.flat_map(|b| [b.join("bundled-runtime"), b.join(DEFAULT_OUT)]).collect()
    }

    pub fn record(&self, part: Part) -> Result<&Record> {
        self.inventory.components.get(&part).ok_or_else(|| Error::internal(format!("no {part} in the bundle")))
    }

    /// Below the bundle, whatever its record says.
    pub fn dir(&self, part: Part) -> Result<PathBuf> {
        let dir = &self.record(part)?.dir;
        let plain = dir.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        if plain { Ok(self.root.join(dir)) } else { Err(bad_record(&dir.display().to_string())) }
    }

    pub fn has(&self, request: Request) -> bool {
        // An archive can still be unpacked; what was unpacked is no archive any more.
        self.inventory.components.contains_key(&request.part) && (request.unpacked || request.part != Part::Lima)
    }

    /// Unpacks a part that is bundled as it was published into the empty directory `to`.
    pub fn unpack(&self, part: Part, to: &Path) -> Result<Vec<FileRecord>> {
        let archive = disk::temp_dir_in(to.parent().unwrap_or(to))?;
        match &self.copy(part, archive.path())?[..] {
            [one] => {
                let path = archive.path().join(&one.path);
                let file = fs::File::open(&path).map_err(|e| Error::io(e, "Cannot read", &path))?;
                unpack::tar_gz(std::io::BufReader::with_capacity(256 << 10, file), to, unpack::LIMITS)
            }
            _ => Err(bad_record(part.as_str())),
        }
    }

    /// Copies a part into the empty directory `to`, checking every byte; returns what is there now.
    pub fn copy(&self, part: Part, to: &Path) -> Result<Vec<FileRecord>> {
        let from = self.dir(part)?;
        let mut copied = Vec::new();
        let mut dirs = vec![to.to_owned()];
        for file in &self.record(part)?.files {
            let path = unpack::relative(&file.path)?.ok_or_else(|| bad_record(&file.path))?;
            let (source, target) = (from.join(&path), to.join(&path));
            if let Some(dir) = target.parent().filter(|d| !dirs.iter().any(|k| k == d)) {
                disk::create_dir(dir)?;
                dirs.push(dir.to_owned());
            }
            let content = match &file.content {
                Content::Link { link } => {
                    unpack::check_link(&file.path, &path, link)?;
                    unpack::make_link(link, &target).map_err(|e| disk::write_error(e, &target, 0))?;
                    file.content.clone()
                }
                Content::File { sha256, mode, .. } => {
                    let (actual, size) = copy_checked(&source, &target, *mode)?;
                    if actual != *sha256 && !resigned(&source) {
                        return Err(Error::new(
                            ErrorCode::ChecksumMismatch,
                            format!("{} is not what {INVENTORY} says", source.display()),
                        )
                        .detail("path", source.display().to_string())
                        .detail("expected", sha256.as_str())
                        .detail("actual", actual.as_str())
                        .hint("Run `npx lima-runtime download` again and rebuild the application."));
                    }
                    Content::File { size, sha256: actual, mode: *mode }
                }
            };
            copied.push(FileRecord { path, content });
        }
        for dir in dirs {
            disk::sync_dir(&dir).map_err(|e| disk::write_error(e, &dir, 0))?;
        }
        Ok(copied)
    }
}

fn bad_record(path: &str) -> Error {
    Error::new(ErrorCode::ChecksumMismatch, format!("{INVENTORY} names {path:?}, which is no file of a bundle"))
        .detail("path", path)
}

/// A program of a Mac, thin or universal: an application's build signs it anew, which changes its bytes.
fn is_mach_o(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic));
    read.is_ok() && matches!(u32::from_be_bytes(magic), 0xcffa_edfe | 0xfeed_facf | 0xcafe_babe | 0xcafe_babf)
}

/// Whether a changed program carries a valid signature that lets it start VMs.
fn resigned(path: &Path) -> bool {
    if !cfg!(target_os = "macos") || !is_mach_o(path) {
        return false;
    }
    let codesign = |args: &[&str]| {
        let output = std::process::Command::new("/usr/bin/codesign").args(args).arg(path).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    codesign(&["--verify", "--strict"]).is_some()
        && codesign(&["-d", "--entitlements", "-", "--xml"])
            .is_some_and(|e| e.contains("com.apple.security.virtualization"))
}

/// What an application's build asks for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DownloadOptions {
    /// `darwin-arm64` …, or `all`; this machine's by default.
    pub platforms: Vec<String>,
    /// Lima alone by default.
    pub components: Vec<Part>,
    /// [`DEFAULT_OUT`] under the working directory by default.
    pub out: Option<PathBuf>,
    #[serde(flatten)]
    pub network: Network,
}

/// One component of one platform, as it lies there now.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DownloadReport {
    pub platform: Platform,
    pub component: Part,
    pub version: String,
    pub path: PathBuf,
    pub source: String,
    pub sha256: Digest,
    /// Bytes on the disk.
    pub size: u64,
    /// False: it was there already, whole.
    pub downloaded: bool,
}

/// Fetches what an application ships, into `out`. What is there and whole is not fetched again.
pub async fn download(
    options: DownloadOptions,
    sink: Sink<RuntimeProgress>,
    call: &Call,
) -> Result<Vec<DownloadReport>> {
    call.run(None, download_into(options, sink, call)).await
}

/// One part of one platform, to be made.
struct Item {
    platform: Platform,
    part: Part,
    wanted: Wanted,
    record: Option<Record>,
}

async fn download_into(
    options: DownloadOptions,
    sink: Sink<RuntimeProgress>,
    call: &Call,
) -> Result<Vec<DownloadReport>> {
    let out = std::path::absolute(options.out.as_deref().unwrap_or(Path::new(DEFAULT_OUT)))
        .map_err(|e| Error::invalid("out", e))?;
    let parts = if options.components.is_empty() { vec![Part::Lima] } else { options.components };
    let platforms = options.platforms.iter().map(String::as_str).collect::<Vec<_>>();
    let all = platforms.contains(&"all");
    let platforms = match &platforms[..] {
        [] => vec![Platform::current()?],
        _ if all => Platform::ALL.to_vec(),
        named => named.iter().map(|p| Platform::parse(p)).collect::<Result<_>>()?,
    };
    let meter = Meter::new(sink);
    meter.say(Phase::Resolve, None, "Looking up what to download");
    let remote = options.network.open().await?;
    let mut items = Vec::new();
    for platform in platforms {
        for &part in &parts {
            match remote.wanted(part, platform) {
                Ok(wanted) => items.push(Item { platform, part, wanted, record: None }),
                // `all` means all there are.
                Err(_) if all => {}
                Err(e) => return Err(e),
            }
        }
    }
    items.sort_by_key(|i| (i.platform, i.part));
    items.dedup_by_key(|i| (i.platform, i.part));

    let lock = Lock::acquire(&out.join(".lock"), |_| Ok(()), call, None).await?;
    let work = out.join(".download");
    let items = {
        let (out, work, lock) = (out.clone(), work.clone(), lock.clone());
        task::blocking(move || {
            let _held = lock;
            disk::create_dir(&work)?;
            disk::remove_leftovers(&work)?;
            for item in &mut items {
                let root = out.join(item.platform.as_str());
                item.record = Inventory::read(&root.join(INVENTORY))
                    .and_then(|mut i| i.components.remove(&item.part))
                    .filter(|r| install::matches(r, &item.wanted))
                    .filter(|r| damaged(&root.join(&r.dir), &r.files, Look::Digest, |_| false).next().is_none());
            }
            Ok(items)
        })
        .await?
    };

    // Two platforms may share a guest's image: it is fetched once.
    let mut jobs: Vec<(&Wanted, Share)> = Vec::new();
    for item in items.iter().filter(|i| i.record.is_none()) {
        if !jobs.iter().any(|(w, _)| **w == item.wanted) {
            let share = meter.share(item.part, &item.wanted.version, item.wanted.sources[0].size);
            jobs.push((&item.wanted, share));
        }
    }
    let cache = work.join("cache");
    let fetched = download::fetch_all(
        &jobs
            .iter()
            .map(|(wanted, share)| Job {
                http: &remote.http,
                origin: &remote.origin,
                wanted,
                cache: &cache,
                unpack_in: (wanted.part == Part::Lima).then_some(work.as_path()),
                share: share.clone(),
                lock: lock.clone(),
            })
            .collect::<Vec<_>>(),
    )
    .await?;
    let fetched: BTreeMap<String, Fetched> = jobs.iter().map(|(w, _)| key(w)).zip(fetched).collect();
    drop(jobs);

    task::blocking(move || {
        let mut reports = Vec::new();
        for item in items {
            let downloaded = item.record.is_none();
            let root = out.join(item.platform.as_str());
            let record = match item.record {
                Some(record) => record,
                None => put(&root, &work, item.platform, &item.wanted, &fetched[&key(&item.wanted)])?,
            };
            reports.push(DownloadReport {
                platform: item.platform,
                component: item.part,
                path: root.join(&record.dir),
                size: record.size(),
                version: record.version,
                source: record.source,
                sha256: record.sha256,
                downloaded,
            });
        }
        drop(fetched);
        // The application's build packs the directory as it is.
        disk::remove(&work)?;
        lock.remove_file()?;
        Ok(reports)
    })
    .await
}

fn key(wanted: &Wanted) -> String {
    format!("{} {}", wanted.part, wanted.sources[0].url)
}

/// Puts one part in its place, and then says so in the inventory.
fn put(root: &Path, work: &Path, platform: Platform, wanted: &Wanted, fetched: &Fetched) -> Result<Record> {
    disk::create_dir(root)?;
    let dir = PathBuf::from(wanted.part.as_str());
    let target = root.join(&dir);
    let files = if let Some(unpacked) = &fetched.unpacked {
        install::open_to_read(unpacked.dir.path())?;
        disk::replace_dir(unpacked.dir.path(), &target)?;
        unpacked.files.clone()
    } else {
        let temp = disk::temp_dir_in(work)?;
        install::open_to_read(temp.path())?;
        let name = fetched.file.file_name().unwrap_or_default();
        let copy = temp.path().join(name);
        // A second name costs nothing; not every file system has them.
        if fs::hard_link(&fetched.file, &copy).is_err() {
            copy_checked(&fetched.file, &copy, 0o644)?;
        }
        disk::replace_dir(temp.path(), &target)?;
        let content = Content::File { size: fetched.size, sha256: fetched.sha256.clone(), mode: 0o644 };
        vec![FileRecord { path: name.to_string_lossy().into_owned(), content }]
    };
    let path = root.join(INVENTORY);
    let mut inventory =
        Inventory::read(&path).filter(|i| i.platform == platform).unwrap_or_else(|| Inventory::new(platform));
    let record = Record {
        version: wanted.version.clone(),
        source: fetched.source.clone(),
        sha256: fetched.sha256.clone(),
        installed_at: Record::now(),
        dir,
        files,
    };
    inventory.components.insert(wanted.part, record.clone());
    inventory.write_for_all(&path)?;
    Ok(record)
}

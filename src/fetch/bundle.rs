//! A runtime shipped inside an application: made by `download` at build time, found by `Bundle::find` at run time.
//!
//! It consists of `<out>/<platform>/bundle.json` and `<out>/<platform>/<part>/<file>`, as published. Lima is unpacked
//! (`<out>/<platform>/lima/{bin,share}`) if the manifest has the digest of its archive's contents. Only the manifest's digests
//! prove what a file is: whoever can replace a file can write its digest into `bundle.json`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    FetchOptions,
    digest::Digest,
    disk,
    download::{self, Fetched, Job, copy_checked},
    lock::Lock,
    manifest::{ImageVariant, Manifest, Part, Request, Wanted},
    platform::Platform,
    progress::{Meter, Share},
    record::{Content, FileRecord, Inventory, Look, Record, contents, damaged},
    unpack,
};
use crate::{
    call::Call,
    error::{Error, ErrorCode, Result},
    progress::{Phase, RuntimeProgress, Sink},
    task,
};

const INVENTORY: &str = "bundle.json";
const ARCHIVE_MODE: u32 = 0o644;
/// A build writes it there, and a packaged application has it there.
pub const DEFAULT_OUT: &str = "resources/bundled-runtime";

#[derive(Debug, Clone)]
pub struct Bundle {
    root: PathBuf,
    /// The parts of its inventory that the manifest knows.
    parts: BTreeMap<Part, (Record, Wanted)>,
}

impl Bundle {
    /// The first bundle in `dirs` that has `part` as the manifest lists it and `network` wants it, with all its files as far as
    /// their sizes tell. A directory is the bundle of one platform, or holds one for each. Blocks.
    pub fn find(dirs: &[PathBuf], platform: Platform, part: Part, network: &FetchOptions) -> Result<Option<Self>> {
        let mut manifest = None;
        for root in dirs.iter().flat_map(|d| [d.clone(), d.join(platform.as_str())]) {
            let inventory = Inventory::read(&root.join(INVENTORY)).filter(|i| i.platform == platform);
            let Some(inventory) = inventory else { continue };
            let manifest = match &mut manifest {
                Some(manifest) => manifest,
                none => none.insert(network.local_manifest()?),
            };
            let known = |(part, record): (Part, Record)| {
                let wanted = known(manifest, part, platform, &record, network)?;
                let engine = wanted.engine(&record.sha256);
                Some((part, (Record { engine, ..record }, wanted)))
            };
            let bundle = Self { root, parts: inventory.components.into_iter().filter_map(known).collect() };
            let Ok((dir, record)) = bundle.dir(part).and_then(|dir| Ok((dir, bundle.record(part)?))) else { continue };
            if damaged(&dir, &record.files, Look::Stat, is_mach_o).next().is_none() {
                return Ok(Some(bundle));
            }
        }
        Ok(None)
    }

    /// Where a packaged application has it. The working directory is not searched: anybody can write to it. A caller may
    /// name it.
    pub fn usual_dirs(resources: Option<&Path>) -> Vec<PathBuf> {
        resources.into_iter().flat_map(|b| [b.join("bundled-runtime"), b.join(DEFAULT_OUT)]).collect()
    }

    pub fn record(&self, part: Part) -> Result<&Record> {
        let found = self.parts.get(&part).map(|(record, _)| record);
        found.ok_or_else(|| Error::internal(format!("no {part} in the bundle")))
    }

    /// Warns, as [`super::advise`] does, of a part that is taken from here.
    pub fn advise(&self, part: Part) {
        if let Some((_, wanted)) = self.parts.get(&part) {
            super::advise(wanted);
        }
    }

    /// Always below the bundle, whatever its record says.
    pub fn dir(&self, part: Part) -> Result<PathBuf> {
        let dir = &self.record(part)?.dir;
        let plain = dir.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        if plain { Ok(self.root.join(dir)) } else { Err(bad_record(&dir.display().to_string())) }
    }

    pub fn has(&self, request: Request) -> bool {
        // An archive can be unpacked; unpacked files do not make an archive again.
        self.record(request.part).is_ok_and(|record| request.unpacked || record.is_archive())
    }

    /// Unpacks the archive of a part into the empty directory `to`.
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
        // The manifest has an archive's digest. Its mode is only in the list, which could make it writable for everybody.
        let archive = match self.parts.get(&part) {
            Some((record, wanted)) if record.is_archive() => wanted.sources.first().map(|s| wanted.most(s)),
            _ => None,
        };
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
                    let (mode, most) = archive.map_or((*mode, unpack::LIMITS.file), |most| (ARCHIVE_MODE, most));
                    let (actual, size) = copy_checked(&source, &target, mode, most)?;
                    // The digest of the copy: nobody else can change that meanwhile.
                    if actual != *sha256 && !resigned(&target) {
                        return Err(Error::new(
                            ErrorCode::ChecksumMismatch,
                            format!("{} is not what the manifest names", source.display()),
                        )
                        .detail("path", source.display().to_string())
                        .detail("expected", sha256.as_str())
                        .detail("actual", actual.as_str())
                        .hint("Run `npx lima-runtime download` again and rebuild the application."));
                    }
                    Content::File { size, sha256: actual, mode }
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

/// The version that the manifest has for this record; `None` when another is wanted. It finds an archive by its digest, and
/// unpacked files by the digest of their list; the files themselves are checked when they are copied.
fn known(
    manifest: &Manifest,
    part: Part,
    platform: Platform,
    record: &Record,
    network: &FetchOptions,
) -> Option<Wanted> {
    let (wanted, source) = manifest.known(part, platform, &record.sha256, &network.choice)?;
    let right = record.is_archive() || source.contents == Some(contents(&record.files));
    // The version is the name of the installed directory.
    (right && wanted.version == record.version).then_some(wanted)
}

fn bad_record(path: &str) -> Error {
    Error::new(ErrorCode::ChecksumMismatch, format!("{INVENTORY} names {path:?}, which is no file of a bundle"))
        .detail("path", path)
}

/// A Mac's program, for one processor or several. An application's build signs it again, which changes its bytes.
fn is_mach_o(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic));
    read.is_ok() && matches!(u32::from_be_bytes(magic), 0xcffa_edfe | 0xfeed_facf | 0xcafe_babe | 0xcafe_babf)
}

/// Whether a changed program carries a valid signature of this application's own team, and may start VMs. Anybody can
/// sign with no team at all.
fn resigned(path: &Path) -> bool {
    if !cfg!(target_os = "macos") || !is_mach_o(path) {
        return false;
    }
    let codesign = |args: &[&str]| {
        let output = std::process::Command::new("/usr/bin/codesign").args(args).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        output.status.success().then(|| String::from_utf8_lossy(&text).into_owned())
    };
    let this = format!("+{}", std::process::id());
    let Some(ours) = codesign(&["-d", "--verbose=2", &this]).as_deref().and_then(requirement) else { return false };
    let Some(path) = path.to_str() else { return false };
    codesign(&["--verify", "--strict", &format!("-R={ours}"), path]).is_some()
        && codesign(&["-d", "--entitlements", "-", "--xml", path])
            .is_some_and(|e| e.contains("com.apple.security.virtualization"))
}

/// The requirement that only signatures of one team satisfy: of the team that signed the program which codesign shows.
fn requirement(shown: &str) -> Option<String> {
    let team = shown.lines().find_map(|line| line.strip_prefix("TeamIdentifier="))?;
    let plain = team.len() == 10 && team.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    plain.then(|| format!("anchor apple generic and certificate leaf[subject.OU] = \"{team}\""))
}

super::options_with_network! {
    /// The options of an application's build.
    pub struct DownloadOptions {
        /// `darwin-arm64` …, or `all`; this machine's by default.
        pub platforms: Vec<String>,
        /// Lima alone by default.
        pub components: Vec<Part>,
        /// [`DEFAULT_OUT`] under the working directory by default.
        pub out: Option<PathBuf>,
    } with image_variant
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
    /// The digest of the archive's contents, for a manifest; absent for a file that is never unpacked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<Digest>,
    /// Bytes on the disk.
    pub size: u64,
    /// False when it was there already, without damage.
    pub downloaded: bool,
}

/// Downloads what an application ships to `out`. A part that is there without damage is not downloaded again.
pub async fn download(
    options: DownloadOptions,
    sink: Sink<RuntimeProgress>,
    call: &Call,
) -> Result<Vec<DownloadReport>> {
    call.run(None, download_into(options, sink, call)).await
}

/// A part of one platform that is to be there in the end.
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
    let mut remote = options.network.open().await?;
    // A shipped image must boot without a network.
    remote.choice.image_variant.get_or_insert(ImageVariant::Server);
    let mut items = Vec::new();
    for platform in platforms {
        for &part in &parts {
            match remote.wanted(part, platform) {
                Ok(wanted) => items.push(Item { platform, part, wanted, record: None }),
                // `all` means every platform that has the part.
                Err(e) if all && e.code() == ErrorCode::UnsupportedPlatform => {}
                Err(e) => return Err(e),
            }
        }
    }
    items.sort_by_key(|i| (i.platform, i.part));
    items.dedup_by_key(|i| (i.platform, i.part));

    let lock = Lock::acquire(&out.join(".lock"), |_| Ok(()), call, None).await?;
    let work = out.join(".download");
    let items = {
        let (out, work) = (out.clone(), work.clone());
        lock.blocking(move || {
            disk::create_dir(&work)?;
            disk::remove_leftovers(&work)?;
            for item in &mut items {
                let root = out.join(item.platform.as_str());
                item.record = Inventory::read(&root.join(INVENTORY))
                    .and_then(|mut i| i.components.remove(&item.part))
                    .filter(|r| r.satisfies(&item.wanted) && is_right(r, &item.wanted))
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
            let share = meter.share(item.part, &item.wanted.version, item.wanted.size());
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
            let fetched = fetched.get(&key(&item.wanted));
            let unpacked = fetched.and_then(|f| f.unpacked.as_ref()).map(|u| contents(&u.files));
            let record = match (item.record, fetched) {
                (Some(record), _) => record,
                (None, Some(fetched)) => put(&root, &work, item.platform, &item.wanted, fetched)?,
                (None, None) => return Err(Error::internal("a part was not fetched")),
            };
            reports.push(DownloadReport {
                contents: unpacked.or_else(|| (!record.is_archive()).then(|| contents(&record.files))),
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

/// Whether it has the form that [`Bundle::find`] accepts: unpacked if the manifest has the digest of the contents.
fn is_right(record: &Record, wanted: &Wanted) -> bool {
    let source = wanted.sources.iter().find(|s| s.sha256 == record.sha256);
    source.is_some_and(|s| match &s.contents {
        Some(listed) => contents(&record.files) == *listed,
        None => record.is_archive(),
    })
}

fn key(wanted: &Wanted) -> String {
    format!("{} {}", wanted.part, wanted.sources[0].url)
}

/// Puts one part in its place, then writes the inventory.
fn put(root: &Path, work: &Path, platform: Platform, wanted: &Wanted, fetched: &Fetched) -> Result<Record> {
    disk::create_dir(root)?;
    let dir = PathBuf::from(wanted.part.as_str());
    let target = root.join(&dir);
    let listed = wanted.sources.iter().find(|s| s.sha256 == fetched.sha256).and_then(|s| s.contents.as_ref());
    let files = if let (Some(listed), Some(unpacked)) = (listed, &fetched.unpacked) {
        let actual = contents(&unpacked.files);
        if actual != *listed {
            let message = format!("{} does not hold what the manifest says", fetched.source);
            return Err(Error::new(ErrorCode::ChecksumMismatch, message)
                .detail("expected", listed.as_str())
                .detail("actual", actual.as_str())
                .hint("The manifest is wrong: its sha256 and its contents are of two archives."));
        }
        disk::make_readable(unpacked.dir.path())?;
        disk::replace_dir(unpacked.dir.path(), &target)?;
        unpacked.files.clone()
    } else {
        let temp = disk::temp_dir_in(work)?;
        disk::make_readable(temp.path())?;
        let name = fetched.file.file_name().unwrap_or_default();
        let copy = temp.path().join(name);
        // A hard link costs nothing, but not every file system has them.
        if fs::hard_link(&fetched.file, &copy).is_err() {
            copy_checked(&fetched.file, &copy, ARCHIVE_MODE, fetched.size)?;
        }
        disk::replace_dir(temp.path(), &target)?;
        let content = Content::File { size: fetched.size, sha256: fetched.sha256.clone(), mode: ARCHIVE_MODE };
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
        engine: wanted.engine(&fetched.sha256),
    };
    inventory.components.insert(wanted.part, record.clone());
    inventory.write_for_all(&path)?;
    Ok(record)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    static MANIFEST: std::sync::LazyLock<Manifest> = std::sync::LazyLock::new(Manifest::built_in);
    let text = String::from_utf8_lossy(data);
    if let Some(requirement) = requirement(&text) {
        assert_eq!(requirement.matches('"').count(), 2, "{requirement}");
    }
    let Ok(inventory) = serde_json::from_slice::<Inventory>(data) else { return };
    for (part, record) in inventory.components {
        record.size();
        known(&MANIFEST, part, inventory.platform, &record, &FetchOptions::default());
        for file in &record.files {
            let Ok(Some(path)) = unpack::relative(&file.path) else { continue };
            let plain = |c| matches!(c, std::path::Component::Normal(_));
            assert!(Path::new(&path).components().all(plain), "{path}");
            if let Content::Link { link } = &file.content {
                let _ = unpack::check_link(&file.path, &path, link);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_looked_for_among_the_applications_resources_alone() {
        assert_eq!(Bundle::usual_dirs(None), [] as [PathBuf; 0]);
        let dirs = Bundle::usual_dirs(Some(Path::new("/app")));
        assert!(!dirs.is_empty() && dirs.iter().all(|d| d.starts_with("/app")), "{dirs:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_copy_has_an_end_whatever_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "0123456789").unwrap();
        assert_eq!(copy_checked(&at("file"), &at("copy"), ARCHIVE_MODE, 4).unwrap().1, 4);
        // After the check, somebody may put an endless file there, or a pipe that nobody writes to.
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for odd in ["zero", "pipe"] {
            let e = copy_checked(&at(odd), &at("other"), ARCHIVE_MODE, 4).unwrap_err();
            assert_eq!(e.code(), ErrorCode::PermissionDenied, "{odd}: {e}");
        }
    }

    #[test]
    fn a_program_signed_anew_has_to_be_signed_by_our_own_team() {
        let shown =
            |team: &str| format!("Identifier=io.example.app\nFormat=app bundle\nTeamIdentifier={team}\nSealed=1\n");
        assert_eq!(
            requirement(&shown("AB12CD34EF")).as_deref(),
            Some(r#"anchor apple generic and certificate leaf[subject.OU] = "AB12CD34EF""#)
        );
        // codesign shows this for a signature without a certificate, which anybody can make.
        assert_eq!(requirement(&shown("not set")), None);
        assert_eq!(requirement(&shown(r#"A" or always"#)), None);
        assert_eq!(requirement(""), None);
    }
}

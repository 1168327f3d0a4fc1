//! Files and directories that are there whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::digest::Digest;
use crate::error::{Error, ErrorCode, Result};

/// Left free beside what we write, so that the system and the application go on working.
const RESERVE: u64 = 64 << 20;
/// Names of what is under way start with it; whatever is found under such a name and a free lock is a leftover.
pub const TEMP_PREFIX: &str = ".tmp-";

pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| match Error::io(e, "Cannot create the directory", path) {
        // A file in its way, a name too long: the caller's choice of directory, not a bug of ours.
        e if e.code() == ErrorCode::Internal => {
            Error::new(ErrorCode::InvalidArgument, e.message()).detail("path", path.display().to_string()).source(e)
        }
        e => e.hint(WRITABLE),
    })
}

const WRITABLE: &str = "Give this user write access to the directory, or choose another one.";

/// `DISK_FULL` unless `needed` bytes fit where `dir` lies. Where the free space cannot be read, nothing is refused.
pub fn check_space(dir: &Path, needed: u64) -> Result<()> {
    // A quarter of a small disk: a test's, or an almost full one, where the exact answer matters more than comfort.
    let there = dir.ancestors().find(|d| d.exists()).unwrap_or(dir);
    let Ok(available) = fs4::available_space(there) else { return Ok(()) };
    let reserve = RESERVE.min(available / 4);
    if needed.saturating_add(reserve) <= available { Ok(()) } else { Err(disk_full(dir, needed, available)) }
}

pub fn disk_full(dir: &Path, needed: u64, available: u64) -> Error {
    let mb = |b: u64| b.div_ceil(1_000_000);
    Error::new(
        ErrorCode::DiskFull,
        format!("Not enough disk space in {}: {} MB needed, {} MB free", dir.display(), mb(needed), mb(available)),
    )
    .detail("path", dir.display().to_string())
    .detail("needed", needed)
    .detail("available", available)
    .hint(format!("Free at least {} MB and try again.", mb(needed.saturating_sub(available).saturating_add(RESERVE))))
}

/// A failed write, with the free space where the disk is full.
pub fn write_error(error: io::Error, path: &Path, needed: u64) -> Error {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let dir = path.parent().unwrap_or(path);
    match fs4::available_space(dir) {
        Ok(available) if full => disk_full(dir, needed, available).source(error),
        _ => Error::io(error, "Cannot write", path).hint(WRITABLE),
    }
}

/// Opens a regular file of ours. A link at its place is not followed, and a pipe or a device there neither holds us up nor
/// gets anything.
pub fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let odd = || io::Error::new(io::ErrorKind::PermissionDenied, "it is a link, or no file at all: remove it");
    match open_file(options, path, false) {
        Ok(file) => file.ok_or_else(odd),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|m| !m.is_file()) => Err(odd()),
        Err(e) => Err(e),
    }
}

/// A regular file, also behind a link.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    let file = open_file(OpenOptions::new().read(true), path, true)?;
    file.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "it is no file"))
}

/// `None`: what is there is none.
fn open_file(options: &mut OpenOptions, path: &Path, follow: bool) -> io::Result<Option<File>> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let links = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        // A pipe would keep us until somebody opens its other end; to a file it makes no difference.
        let flags = (links | OFlags::NONBLOCK).bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags);
    }
    #[cfg(not(unix))]
    let _ = follow;
    let file = options.open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// As [`open_regular`], for this user alone: a new file, and one that was open to others.
pub fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    let file = open_regular(options, path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let meta = file.metadata()?;
        if meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(file)
}

/// Makes what `file` holds outlive a power cut. On macOS a plain fsync, which is enough to order the rename behind the
/// data; the drive's own cache is flushed once, by [`sync_dir`].
pub fn sync_file(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    return Ok(rustix::fs::fsync(file)?);
    #[cfg(not(unix))]
    file.sync_all()
}

/// Makes the names in `dir` outlive a power cut.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    // Windows has no such thing: its renames are journalled.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// For this user alone.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    replace(path, &json(value)?, 0o600)
}

/// What comes with an application, whose users are others than who built it.
pub fn write_json_for_all(path: &Path, value: &impl Serialize) -> Result<()> {
    replace(path, &json(value)?, 0o644)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::internal(e.to_string()))
}

/// A file that anybody can run.
pub fn write_program(path: &Path, text: &[u8]) -> Result<()> {
    replace(path, text, 0o755)
}

/// For this user alone.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    replace(path, text.as_bytes(), 0o600)
}

/// Lets everybody read a directory that was made as a temporary one, for this user alone.
pub fn make_readable(dir: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
            .map_err(|e| Error::io(e, "Cannot open for reading", dir))?;
    }
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// Replaces `path` in one step, and follows no link; the caller holds the lock that guards it.
fn replace(path: &Path, text: &[u8], mode: u32) -> Result<()> {
    let fresh = successor(path);
    // Also a link, which who opens it would follow.
    remove(&fresh)?;
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&fresh)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        #[cfg(not(unix))]
        let _ = mode;
        file.write_all(text)?;
        sync_file(&file)?;
        fs::rename(&fresh, path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&fresh);
        write_error(e, path, text.len() as u64)
    })
}

/// Where the file that is to replace `path` is made. The name is always the same, so that the next attempt removes what a
/// killed one left.
fn successor(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMP_PREFIX}{name}"))
}

/// Our own records are some hundred kilobytes.
const JSON_LIMIT: u64 = 16 << 20;

/// The file's bytes; an error when it has more than `limit`, as a device may have without end.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    limited(File::open(path)?, limit)
}

fn limited(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// `None` where there is no such file, or none we can read as a `T`: the same as never written.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    // An application may come with links to its files; nothing is waited for.
    let text = limited(open_file(OpenOptions::new().read(true), path, true).ok()??, JSON_LIMIT).ok()?;
    serde_json::from_slice(&text).inspect_err(|e| tracing::warn!(path = %path.display(), %e, "unreadable")).ok()
}

/// A directory for something under way, beside its later place: renaming must not cross a file system.
pub fn temp_dir_in(parent: &Path) -> Result<tempfile::TempDir> {
    create_dir(parent)?;
    tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .tempdir_in(parent)
        .map_err(|e| Error::io(e, "Cannot create a directory in", parent).hint(WRITABLE))
}

/// Puts the directory `new` in the place of `target`, whatever is there.
pub fn replace_dir(new: &Path, target: &Path) -> Result<()> {
    let parent = target.parent().unwrap_or(Path::new("."));
    let fail = |e: io::Error| Error::io(e, "Cannot put in place", target);
    if fs::symlink_metadata(target).is_ok() {
        if !exchange(new, target) {
            let old = temp_dir_in(parent)?;
            fs::rename(target, old.path().join("old")).map_err(fail)?;
            fs::rename(new, target).map_err(fail)?;
        }
    } else {
        fs::rename(new, target).map_err(fail)?;
    }
    // After an exchange the old one lies under the new one's name.
    remove(new)?;
    sync_dir(parent).map_err(fail)
}

/// Both names at once, where the file system can: then there is no moment without a `target`.
fn exchange(new: &Path, target: &Path) -> bool {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    return rustix::fs::renameat_with(rustix::fs::CWD, new, rustix::fs::CWD, target, rustix::fs::RenameFlags::EXCHANGE)
        .is_ok();
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    {
        let _ = (new, target);
        false
    }
}

/// Makes the symlink `link` name `target`, in one step; the caller holds the lock.
#[cfg(unix)]
pub fn switch_link(target: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|t| t == target) {
        return Ok(());
    }
    let parent = link.parent().unwrap_or(Path::new("."));
    let fresh = successor(link);
    remove(&fresh)?;
    let switch = || -> io::Result<()> {
        std::os::unix::fs::symlink(target, &fresh)?;
        fs::rename(&fresh, link)?;
        sync_dir(parent)
    };
    switch().map_err(|e| Error::io(e, "Cannot switch", link))
}

#[cfg(not(unix))]
pub fn switch_link(_target: &Path, link: &Path) -> Result<()> {
    Err(Error::new(ErrorCode::UnsupportedPlatform, format!("{}: Lima needs macOS or Linux", link.display())))
}

/// Removes a file, a link, or a whole directory; that there is none is fine.
pub fn remove(path: &Path) -> Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    let result = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(e, "Cannot remove", path)),
        _ => Ok(()),
    }
}

/// Removes what killed processes left under way in `dir`; the caller holds the lock.
pub fn remove_leftovers(dir: &Path) -> Result<()> {
    for path in entries(dir) {
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(TEMP_PREFIX)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// What lies in `dir`; nothing, where there is none.
pub fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default()
}

const BUFFER: usize = 256 << 10;

/// Reads to the end, handing every piece to `each`; returns digest and length.
pub fn hash(mut from: impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<(Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut length = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok((Digest::of(&hasher.finalize()), length)),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(&buffer[..n]);
        length += n as u64;
        each(&buffer[..n])?;
    }
}

pub fn hash_file(path: &Path) -> io::Result<(Digest, u64)> {
    hash(File::open(path)?, |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_replaced_whole_and_the_old_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (new, target) = (dir.path().join(".tmp-a"), dir.path().join("v"));
        for round in ["1", "2"] {
            fs::create_dir(&new).unwrap();
            fs::write(new.join(round), round).unwrap();
            replace_dir(&new, &target).unwrap();
            assert_eq!(entries(&target), [target.join(round)]);
            assert_eq!(entries(dir.path()), std::slice::from_ref(&target));
        }
    }

    #[test]
    fn space_is_refused_with_both_figures() {
        let dir = tempfile::tempdir().unwrap();
        check_space(dir.path(), 1).unwrap();
        let e = check_space(dir.path(), u64::MAX).unwrap_err();
        assert_eq!(e.code(), ErrorCode::DiskFull);
        assert!(e.details()["available"].as_u64().unwrap() > 0);
        assert_eq!(e.details()["needed"], u64::MAX);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_switched_over_an_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        // Left by a process that was killed.
        std::os::unix::fs::symlink("versions/0", dir.path().join(".tmp-current")).unwrap();
        for target in ["versions/1", "versions/2", "versions/2"] {
            switch_link(Path::new(target), &link).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        }
        assert_eq!(entries(dir.path()).len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn what_we_write_is_ours_alone_and_goes_nowhere_else() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        fs::write(at("victim"), "as it was").unwrap();
        fs::set_permissions(at("victim"), fs::Permissions::from_mode(0o644)).unwrap();
        for (name, mode_of_it) in [("state.json", 0o600), ("bundle.json", 0o644), ("text", 0o600), ("program", 0o755)] {
            symlink("victim", at(name)).unwrap();
            symlink("victim", at(&format!(".tmp-{name}"))).unwrap();
            match name {
                "state.json" => write_json(&at(name), &1).unwrap(),
                "bundle.json" => write_json_for_all(&at(name), &1).unwrap(),
                "text" => write_text(&at(name), "1").unwrap(),
                _ => write_program(&at(name), b"1").unwrap(),
            }
            assert!(fs::symlink_metadata(at(name)).unwrap().is_file(), "{name}");
            assert_eq!(mode(&at(name)), mode_of_it, "{name}");
            assert_eq!(read_json::<u32>(&at(name)), Some(1));
        }
        symlink("victim", at("log")).unwrap();
        let open = |name: &str| open_private(OpenOptions::new().append(true).create(true), &at(name));
        assert_eq!(open("log").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        open("new log").unwrap().write_all(b"x").unwrap();
        assert_eq!(mode(&at("new log")), 0o600);
        assert_eq!((fs::read_to_string(at("victim")).unwrap().as_str(), mode(&at("victim"))), ("as it was", 0o644));
        // A pipe that nobody writes to keeps nobody waiting.
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(read_json::<u32>(&at("pipe")), None);
        assert_eq!(entries(dir.path()).len(), 8);
    }

    #[test]
    fn leftovers_go_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".tmp-x/y")).unwrap();
        fs::write(dir.path().join(".tmp-f"), "").unwrap();
        fs::write(dir.path().join("kept"), "").unwrap();
        remove_leftovers(dir.path()).unwrap();
        assert_eq!(entries(dir.path()), [dir.path().join("kept")]);
        remove_leftovers(&dir.path().join("missing")).unwrap();
    }
}

//! Unpacks a tar.gz into a directory of ours while it arrives. It trusts nothing in the archive.
//!
//! The rules: an entry is a file, a directory or a link, and lies below the directory; a link points below it; no name comes
//! twice, in upper or lower case; sizes have limits. Links are made last, so nothing is ever written through one.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType, PaxExtensions};

use super::{
    digest::Digest,
    disk,
    record::{Content, FileRecord},
};
use crate::error::{Error, ErrorCode, Result};

/// No release reaches these limits, and no disk suffers from them: Lima has about 150 entries and 120 MB, nerdctl-full has
/// 80 and 800 MB.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub entries: usize,
    /// Bytes, of one file.
    pub file: u64,
    /// Bytes, of the tar as a whole.
    pub total: u64,
}

pub const LIMITS: Limits = Limits { entries: 20_000, file: 1 << 30, total: 3 << 30 };

/// Long names and pax headers are read into memory.
const LONGEST_EXTENSION: u64 = 64 << 10;
const LONGEST_PATH: usize = 1024;
const LONGEST_NAME: usize = 255;
const BUFFER: usize = 128 << 10;
/// The bits of a mode that an archive may set: only the owner can write.
const OTHERS_MODE: u32 = 0o755;
/// After so many bytes of a file, the disk is told to begin writing.
const FLUSH: u64 = 8 << 20;
/// How many files may wait for the disk. Each of them stays open.
const SYNC_QUEUE: usize = 64;

/// The archive broke a rule; the disk did not fail.
fn unsafe_archive(entry: &str, problem: impl std::fmt::Display) -> Error {
    let entry: String = entry.chars().take(200).collect();
    let message = if entry.is_empty() {
        format!("The archive is not safe to unpack: {problem}")
    } else {
        format!("The archive is not safe to unpack: {entry:?}: {problem}")
    };
    Error::new(ErrorCode::ArchiveUnsafe, message)
        .detail("entry", entry)
        .hint("Nothing was installed. Check the mirror or manifest the archive comes from.")
}

/// Unpacks `from` into the empty directory `into`. It reads the whole stream, also what follows the end of the tar. After an
/// error, the caller removes `into` with what was written.
pub fn tar_gz(from: impl BufRead, into: &Path, limits: Limits) -> Result<Vec<FileRecord>> {
    let counted = Limited { inner: MultiGzDecoder::new(from), left: limits.total };
    let mut archive = Archive::new(counted);
    let mut tree = Tree::new(into, limits)?;
    let mut extension = Extension::default();
    let mut buffer = vec![0; BUFFER];
    for entry in archive.entries().map_err(|e| broken("", e))?.raw(true) {
        let mut entry = entry.map_err(|e| broken("", e))?;
        tree.count()?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader => {
                extension.read(kind, &mut entry)?;
                continue;
            }
            // A header for all entries. We take nothing from it.
            EntryType::XGlobalHeader => {
                if entry.size() > LONGEST_EXTENSION {
                    return Err(unsafe_archive("", "a header without measure"));
                }
                continue;
            }
            _ => {}
        }
        let extension = std::mem::take(&mut extension);
        let name = extension.path.unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let name = String::from_utf8(name)
            .map_err(|e| unsafe_archive(&String::from_utf8_lossy(e.as_bytes()), "the name is not UTF-8"))?;
        let size = entry.header().entry_size().map_err(|e| broken(&name, e))?;
        if extension.size.is_some_and(|s| s != size) {
            return Err(unsafe_archive(&name, "two different sizes"));
        }
        let mode = entry.header().mode();
        let mode = |name: &str| mode.map_err(|e| broken(name, e));
        let link = || -> Result<String> {
            let target = match extension.link.clone() {
                Some(target) => target,
                None => entry.header().link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default(),
            };
            String::from_utf8(target).map_err(|_| unsafe_archive(&name, "the link's target is not UTF-8"))
        };
        if size != 0 && !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            return Err(unsafe_archive(&name, "only files have contents"));
        }
        match kind {
            EntryType::Directory => tree.directory(&name, mode(&name)?)?,
            // In an old archive only the slash at the end of its name tells a directory.
            EntryType::Regular if name.ends_with('/') => {
                return Err(unsafe_archive(&name, "a file named like a directory"));
            }
            EntryType::Regular | EntryType::Continuous => {
                tree.file(&name, mode(&name)?, size, &mut entry, &mut buffer)?;
            }
            EntryType::Symlink => tree.symlink(&name, &link()?)?,
            EntryType::Link => {
                let target = link()?;
                tree.hard_link(&name, &target)?;
            }
            EntryType::Char | EntryType::Block => return Err(unsafe_archive(&name, "a device node")),
            EntryType::Fifo => return Err(unsafe_archive(&name, "a named pipe")),
            other => return Err(unsafe_archive(&name, format!("an entry of type {:?}", char::from(other.as_byte())))),
        }
    }
    if !extension.is_empty() {
        return Err(unsafe_archive("", "it ends in the middle of an entry"));
    }
    // The checksum of the gzip stream comes last; and what follows the tar must have an end, too.
    let mut rest = archive.into_inner();
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(broken("", e)),
        }
    }
    tree.finish()
}

/// An error of the stream. The archive caused it, unless it carries one of our own marks.
fn broken(entry: &str, e: io::Error) -> Error {
    match e.downcast::<Error>() {
        Ok(ours) => ours,
        Err(e) => unsafe_archive(entry, format!("damaged: {e}")),
    }
}

/// Ends a stream that inflates beyond the limit.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::other(unsafe_archive("", "it is larger than any release of ours")))?;
        Ok(n)
    }
}

/// What the headers before an entry say about it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extension {
    fn is_empty(&self) -> bool {
        self.path.is_none() && self.link.is_none() && self.size.is_none()
    }

    fn read(&mut self, kind: EntryType, entry: &mut (impl Read + Sized)) -> Result<()> {
        let mut text = Vec::new();
        entry.take(LONGEST_EXTENSION + 1).read_to_end(&mut text).map_err(|e| broken("", e))?;
        if text.len() as u64 > LONGEST_EXTENSION {
            return Err(unsafe_archive("", "a name without measure"));
        }
        let set = |slot: &mut Option<Vec<u8>>, value: Vec<u8>| {
            if slot.replace(value).is_some() { Err(unsafe_archive("", "two names for one entry")) } else { Ok(()) }
        };
        let terminated = |mut text: Vec<u8>| {
            while text.last() == Some(&0) {
                text.pop();
            }
            text
        };
        match kind {
            EntryType::GNULongName => set(&mut self.path, terminated(text)),
            EntryType::GNULongLink => set(&mut self.link, terminated(text)),
            _ => {
                for record in PaxExtensions::new(&text) {
                    let record = record.map_err(|e| broken("", e))?;
                    let value = record.value_bytes();
                    match record.key_bytes() {
                        b"path" => set(&mut self.path, value.to_vec())?,
                        b"linkpath" => set(&mut self.link, value.to_vec())?,
                        b"size" => {
                            let size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                            self.size = Some(size.ok_or_else(|| unsafe_archive("", "a size that is no number"))?);
                        }
                        key if key.starts_with(b"GNU.sparse.") => return Err(unsafe_archive("", "a sparse file")),
                        _ => {}
                    }
                }
                Ok(())
            }
        }
    }
}

#[derive(Clone)]
enum Node {
    Dir,
    File(usize),
    Link,
}

/// What has been unpacked so far.
struct Tree<'a> {
    root: &'a Path,
    limits: Limits,
    entries: usize,
    /// The keys are lower-case paths: on a Mac's disk `A` and `a` are one file.
    nodes: HashMap<String, (String, Node)>,
    files: Vec<FileRecord>,
    dirs: Vec<(String, u32)>,
    links: Vec<(String, String)>,
    syncer: Syncer,
}

impl<'a> Tree<'a> {
    fn new(root: &'a Path, limits: Limits) -> Result<Self> {
        Ok(Self {
            root,
            limits,
            entries: 0,
            nodes: HashMap::new(),
            files: Vec::new(),
            dirs: Vec::new(),
            links: Vec::new(),
            syncer: Syncer::start()?,
        })
    }

    fn count(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries { Err(unsafe_archive("", "too many entries")) } else { Ok(()) }
    }

    /// Reserves `name` for `node`, and makes the directories above it.
    fn place(&mut self, name: &str, node: Node) -> Result<String> {
        let path = relative(name)?.ok_or_else(|| unsafe_archive(name, "no name"))?;
        let parents = path.match_indices('/').map(|(i, _)| path[..i].to_owned()).collect::<Vec<_>>();
        for parent in parents {
            self.make_dir(name, parent, None)?;
        }
        if self.nodes.contains_key(&path.to_lowercase()) {
            return Err(unsafe_archive(name, "the name is there twice, or differs in case alone"));
        }
        self.nodes.insert(path.to_lowercase(), (path.clone(), node));
        Ok(path)
    }

    fn make_dir(&mut self, name: &str, path: String, mode: Option<u32>) -> Result<()> {
        match self.nodes.get(&path.to_lowercase()) {
            // Its contents may have made a directory before its own entry comes, and the entry may come again.
            Some((spelt, Node::Dir)) if *spelt == path => {}
            Some((_, Node::Dir)) => return Err(unsafe_archive(name, "a directory's name differs in case alone")),
            Some(_) => return Err(unsafe_archive(name, "below something that is not a directory")),
            None => {
                self.nodes.insert(path.to_lowercase(), (path.clone(), Node::Dir));
                fs::create_dir(self.root.join(&path)).map_err(|e| self.refused(e, name, &path))?;
            }
        }
        if let Some(mode) = mode {
            self.dirs.push((path, mode));
        }
        Ok(())
    }

    fn directory(&mut self, name: &str, mode: u32) -> Result<()> {
        // The archive's own root: `./`.
        let Some(path) = relative(name)? else { return Ok(()) };
        let parents = path.match_indices('/').map(|(i, _)| path[..i].to_owned()).collect::<Vec<_>>();
        for parent in parents {
            self.make_dir(name, parent, None)?;
        }
        self.make_dir(name, path, Some(mode))
    }

    fn file(&mut self, name: &str, mode: u32, size: u64, from: &mut impl Read, buffer: &mut [u8]) -> Result<()> {
        if size > self.limits.file {
            return Err(unsafe_archive(name, format!("{size} bytes is more than any file of ours")));
        }
        let path = self.place(name, Node::File(self.files.len()))?;
        let full = self.root.join(&path);
        let file =
            OpenOptions::new().write(true).create_new(true).open(&full).map_err(|e| self.refused(e, name, &path))?;
        let file = Arc::new(file);
        let mut hasher = Sha256::new();
        let mut left = size;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = match from.read(&mut buffer[..want]) {
                Ok(0) => return Err(unsafe_archive(name, "it ends in the middle of a file")),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(broken(name, e)),
            };
            hasher.update(&buffer[..n]);
            (&*file).write_all(&buffer[..n]).map_err(|e| disk::write_error(e, &full, left))?;
            left -= n as u64;
            if (size - left) / FLUSH > (size - left - n as u64) / FLUSH {
                self.syncer.begin(&file, &full);
            }
        }
        let mode = (mode & OTHERS_MODE) | 0o600;
        settle(&file, mode).map_err(|e| disk::write_error(e, &full, 0))?;
        self.syncer.add(file, full)?;
        let sha256 = Digest::of(&hasher.finalize());
        self.files.push(FileRecord { path, content: Content::File { size, sha256, mode } });
        Ok(())
    }

    fn symlink(&mut self, name: &str, target: &str) -> Result<()> {
        let path = self.place(name, Node::Link)?;
        check_link(name, &path, target)?;
        self.links.push((path, target.to_owned()));
        Ok(())
    }

    /// A hard link to an earlier file of this archive.
    fn hard_link(&mut self, name: &str, target: &str) -> Result<()> {
        let wanted = relative(target)?.unwrap_or_default();
        let Some((spelt, Node::File(index))) = self.nodes.get(&wanted.to_lowercase()).cloned() else {
            return Err(unsafe_archive(name, "a hard link to what is not a file of this archive"));
        };
        if spelt != wanted {
            return Err(unsafe_archive(name, "a hard link whose name differs in case alone"));
        }
        let path = self.place(name, Node::File(index))?;
        fs::hard_link(self.root.join(&spelt), self.root.join(&path)).map_err(|e| self.refused(e, name, &path))?;
        let content = self.files[index].content.clone();
        self.files.push(FileRecord { path, content });
        Ok(())
    }

    /// When the disk has the name already, two names collide there that differ for us, for example in their Unicode form.
    fn refused(&self, e: io::Error, name: &str, path: &str) -> Error {
        match e.kind() {
            io::ErrorKind::AlreadyExists => unsafe_archive(name, "the name is there twice for this disk"),
            io::ErrorKind::InvalidFilename => unsafe_archive(name, "a name this disk cannot hold"),
            _ => disk::write_error(e, &self.root.join(path), 0),
        }
    }

    fn finish(mut self) -> Result<Vec<FileRecord>> {
        for (path, target) in std::mem::take(&mut self.links) {
            make_link(&target, &self.root.join(&path)).map_err(|e| self.refused(e, &path, &path))?;
            self.files.push(FileRecord { path, content: Content::Link { link: target } });
        }
        // The innermost first: nothing can be made below a directory once it is read-only.
        self.dirs.sort_by(|a, b| b.0.cmp(&a.0));
        for (path, mode) in &self.dirs {
            set_dir_mode(&self.root.join(path), *mode).map_err(|e| self.refused(e, path, path))?;
        }
        self.syncer.finish()?;
        let mut all: Vec<PathBuf> =
            self.nodes.values().filter(|(_, n)| matches!(n, Node::Dir)).map(|(p, _)| self.root.join(p)).collect();
        all.push(self.root.to_owned());
        for dir in all {
            disk::sync_dir(&dir).map_err(|e| disk::write_error(e, &dir, 0))?;
        }
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self.files)
    }
}

/// The entry's path below the root, with `/` and without `.`; `None` is the root itself.
pub(super) fn relative(name: &str) -> Result<Option<String>> {
    let refuse = |problem: &str| Err(unsafe_archive(name, problem));
    if name.len() > LONGEST_PATH {
        return refuse("the name is too long");
    }
    if name.starts_with('/') {
        return refuse("an absolute path");
    }
    // A backslash separates names on Windows; no honest name has a control character.
    if name.chars().any(|c| c == '\\' || c.is_control()) {
        return refuse("a backslash or control character in the name");
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return refuse("a path that leaves the directory"),
            _ if part.len() > LONGEST_NAME => return refuse("the name is too long"),
            _ if cfg!(windows) && !fit_for_windows(part) => return refuse("a name Windows cannot hold"),
            _ => parts.push(part),
        }
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// On Windows, a colon names a stream or a drive, a dot or space at the end is dropped, and some names are devices.
fn fit_for_windows(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |s: &str| s.len() == 4 && (s.starts_with("COM") || s.starts_with("LPT"));
    let device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") || numbered(&stem);
    !device && !part.contains([':', '*', '?', '"', '<', '>', '|']) && !part.ends_with(['.', ' '])
}

/// `..` may stand only at the beginning: after a name, it could leave the directory through another link.
pub(super) fn check_link(name: &str, path: &str, target: &str) -> Result<()> {
    let refuse = |problem: &str| Err(unsafe_archive(name, problem));
    if target.is_empty() || target.len() > LONGEST_PATH {
        return refuse("a link to nowhere");
    }
    if target.starts_with('/') || target.chars().any(|c| c == '\\' || c.is_control()) {
        return refuse("a link out of the directory");
    }
    if cfg!(windows) && target.contains(':') {
        return refuse("a link out of the directory");
    }
    let mut depth = path.matches('/').count();
    let mut led = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if led => return refuse("a link that turns back on its way"),
            ".." => match depth.checked_sub(1) {
                Some(d) => depth = d,
                None => return refuse("a link out of the directory"),
            },
            _ => led = true,
        }
    }
    Ok(())
}

/// Waits for the disk in a thread of its own; unpacking goes on meanwhile.
struct Syncer {
    send: Option<SyncSender<(Arc<File>, PathBuf)>>,
    thread: Option<thread::JoinHandle<Result<()>>>,
}

impl Syncer {
    fn start() -> Result<Self> {
        let (send, receive) = sync_channel::<(Arc<File>, PathBuf)>(SYNC_QUEUE);
        let work = move || {
            let sync =
                |(file, path): (Arc<File>, PathBuf)| disk::sync_file(&file).map_err(|e| disk::write_error(e, &path, 0));
            receive.iter().try_for_each(sync)
        };
        let thread = thread::Builder::new().name("lima-runtime-sync".into()).spawn(work);
        let thread = thread.map_err(|e| Error::internal(format!("Cannot start a thread: {e}")))?;
        Ok(Self { send: Some(send), thread: Some(thread) })
    }

    /// Of a file that still grows: the disk writes what is there, and the end of the file has less to wait for.
    fn begin(&self, file: &Arc<File>, path: &Path) {
        if let Some(send) = &self.send {
            // A disk that is behind gets no more work.
            let _ = send.try_send((file.clone(), path.to_owned()));
        }
    }

    fn add(&mut self, file: Arc<File>, path: PathBuf) -> Result<()> {
        match &self.send {
            Some(send) if send.send((file, path)).is_ok() => Ok(()),
            _ => self.finish(),
        }
    }

    /// Waits until all files are on the disk; the error is of the first that failed.
    fn finish(&mut self) -> Result<()> {
        self.send = None;
        match self.thread.take().map(thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // Its files are closed before their directory is removed.
        let _ = self.finish();
    }
}

/// Sets the file's mode, and removes its quarantine.
pub(super) fn settle(file: &File, mode: u32) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    #[cfg(not(unix))]
    let _ = (file, mode);
    // An application that declares LSFileQuarantineEnabled marks every file it writes, and macOS refuses to run such a
    // file. Removing the mark of a file that has none is an error, which means nothing.
    #[cfg(target_os = "macos")]
    let _ = rustix::fs::fremovexattr(file, "com.apple.quarantine");
    Ok(())
}

#[cfg(unix)]
fn set_dir_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode((mode & OTHERS_MODE) | 0o700))
}

#[cfg(not(unix))]
fn set_dir_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
pub(super) fn make_link(target: &str, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}

#[cfg(windows)]
pub(super) fn make_link(target: &str, at: &Path) -> io::Result<()> {
    let target = target.replace('/', "\\");
    if at.parent().is_some_and(|p| p.join(&target).is_dir()) {
        std::os::windows::fs::symlink_dir(target, at)
    } else {
        std::os::windows::fs::symlink_file(target, at)
    }
}

/// Takes the bytes as a tar.gz, and as the tar in one. Both are unpacked below the directory, or are `ARCHIVE_UNSAFE`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    fuzz_one(data);
    // A mutated header has a wrong checksum and would end here: we correct it in every block that could be a header.
    let mut tar = data.to_vec();
    for block in tar.chunks_exact_mut(512) {
        let digit = |(i, b): (usize, &u8)| u32::from(if (148..156).contains(&i) { b' ' } else { *b });
        let sum: u32 = block.iter().enumerate().map(digit).sum();
        if sum != 8 * u32::from(b' ') {
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gz.write_all(&tar).unwrap();
    fuzz_one(&gz.finish().unwrap());
}

#[cfg(any(test, feature = "fuzzing"))]
fn fuzz_one(archive: &[u8]) {
    const SMALL: Limits = Limits { entries: 100, file: 1 << 20, total: 4 << 20 };
    // In memory: a disk would be told of each file, and a hundred times fewer inputs could be tried.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let sandbox = tempfile::tempdir_in(place).unwrap();
    let to = sandbox.path().join("to");
    fs::create_dir(&to).unwrap();
    match tar_gz(archive, &to, SMALL) {
        Ok(files) => {
            let root = to.canonicalize().unwrap();
            for f in &files {
                let path = root.join(&f.path);
                assert!(fs::symlink_metadata(&path).is_ok(), "{f:?}");
                if let Ok(real) = path.canonicalize() {
                    assert!(real.starts_with(&root), "{f:?} leads to {}", real.display());
                }
            }
        }
        Err(e) => assert_eq!(e.code(), ErrorCode::ArchiveUnsafe, "{e}"),
    }
    let outside: Vec<_> = fs::read_dir(sandbox.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside, ["to"]);
}

#[cfg(all(test, unix))]
mod tests;

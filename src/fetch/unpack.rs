//! Unpacks a tar.gz into a directory of ours while it arrives. It trusts nothing in the archive.
//!
//! The rules: an entry is a file, a directory or a link, and lies below the directory; a link points below it; no name comes
//! twice, in upper or lower case; sizes have limits. Links are made last, so nothing is ever written through one.

#[cfg(any(unix, test, feature = "fuzzing"))]
use std::fs;
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header, PaxExtensions};

use super::{
    digest::Digest,
    disk,
    held::{HeldDir, Links},
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
    /// Bytes, of all names: they are kept in memory.
    pub names: usize,
}

pub const LIMITS: Limits = Limits { entries: 20_000, file: 1 << 30, total: 3 << 30, names: 32 << 20 };
/// Of a copy. Its bytes are the caller's to bound, by what the disk has and how long it takes.
const COPIED: Limits = Limits { entries: 1_000_000, file: u64::MAX, total: u64::MAX, names: 128 << 20 };

/// Long names and pax headers are read into memory.
const LONGEST_EXTENSION: u64 = 64 << 10;
const LONGEST_PATH: usize = 1024;
const LONGEST_NAME: usize = 255;
const BUFFER: usize = 128 << 10;
/// The bits of a mode that an archive may set: only the owner can write.
const OTHERS_MODE: u32 = 0o755;
/// The same of a copy: no power of its owner for others, and none of its own.
const COPIED_MODE: u32 = 0o777;
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
        .hint("Nothing was unpacked. Look where the archive comes from.")
}

/// Unpacks `from` into the empty directory `into`. It reads the whole stream, also what follows the end of the tar. After an
/// error, the caller removes `into` with what was written.
pub fn tar_gz(from: impl BufRead, into: &Path, limits: Limits) -> Result<Vec<FileRecord>> {
    let root = HeldDir::open(into, Links::Followed).map_err(|e| disk::write_error(e, into, 0))?;
    tar(MultiGzDecoder::new(from), &root, limits, Purpose::Install)
}

/// Unpacks what a container gave, by the same rules but for sizes.
pub fn copied(from: impl Read, into: &HeldDir) -> Result<()> {
    tar(from, into, COPIED, Purpose::Copy).map(drop)
}

/// What is unpacked for an installation is read back by its digests, and survives a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Install,
    Copy,
}

fn tar(from: impl Read, into: &HeldDir, limits: Limits, purpose: Purpose) -> Result<Vec<FileRecord>> {
    let mut archive = Blocks { inner: Limited { inner: from, left: limits.total }, left: 0, padding: 0 };
    let mut tree = Tree::new(into, limits, purpose)?;
    let mut extension = Extension::default();
    let mut buffer = vec![0; BUFFER];
    while let Some(header) = archive.header().map_err(|e| broken("", e))? {
        tree.count()?;
        let kind = header.entry_type();
        let size = header.entry_size().map_err(|e| broken("", e))?;
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader => {
                archive.content(size);
                extension.read(kind, &mut archive)?;
                continue;
            }
            // A header for all entries. We take nothing from it.
            EntryType::XGlobalHeader => {
                archive.content(size);
                if size > LONGEST_EXTENSION {
                    return Err(unsafe_archive("", "a header without measure"));
                }
                continue;
            }
            _ => {}
        }
        let extension = std::mem::take(&mut extension);
        let name = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let name = String::from_utf8(name)
            .map_err(|e| unsafe_archive(&String::from_utf8_lossy(e.as_bytes()), "the name is not UTF-8"))?;
        // One that the header has no room for stands in front of it alone (archive/tar of Go, from 8 GiB on).
        let size = match extension.size {
            Some(whole) if size == 0 || size == whole => whole,
            Some(_) => return Err(unsafe_archive(&name, "two different sizes")),
            None => size,
        };
        archive.content(size);
        let mode = header.mode();
        let mode = |name: &str| mode.map_err(|e| broken(name, e));
        let link = || -> Result<String> {
            let target = match extension.link.clone() {
                Some(target) => target,
                None => header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default(),
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
                tree.file(&name, mode(&name)?, size, &mut archive, &mut buffer)?;
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
    let mut rest = archive.inner;
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

/// A tar, header by header. (The tar crate takes a size in front of a header only where it reads names without measure.)
struct Blocks<R> {
    inner: R,
    /// Of the entry: what is not read yet, and what fills its last block.
    left: u64,
    padding: u64,
}

impl<R: Read> Blocks<R> {
    /// The next one, or `None` at the end of the tar.
    fn header(&mut self) -> io::Result<Option<Header>> {
        for rest in [std::mem::take(&mut self.left), std::mem::take(&mut self.padding)] {
            if io::copy(&mut (&mut self.inner).take(rest), &mut io::sink())? < rest {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut got = 0;
        while got < block.len() {
            match self.inner.read(&mut block[got..]) {
                Ok(0) if got == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let counted =
            block.iter().enumerate().map(|(at, b)| u32::from(if (148..156).contains(&at) { b' ' } else { *b }));
        if counted.sum::<u32>() != header.cksum()? {
            return Err(io::Error::other("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// What follows the header.
    fn content(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK;
    }
}

impl<R: Read> Read for Blocks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = (&mut self.inner).take(self.left).read(buffer)?;
        self.left -= n as u64;
        Ok(n)
    }
}

const BLOCK: u64 = 512;

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
    root: &'a HeldDir,
    limits: Limits,
    purpose: Purpose,
    entries: usize,
    /// The bytes of all names.
    names: usize,
    /// The keys are lower-case paths: on a Mac's disk `A` and `a` are one file.
    nodes: HashMap<String, (String, Node)>,
    files: Vec<FileRecord>,
    dirs: Vec<(String, u32)>,
    links: Vec<(String, String)>,
    syncer: Syncer,
}

impl<'a> Tree<'a> {
    fn new(root: &'a HeldDir, limits: Limits, purpose: Purpose) -> Result<Self> {
        Ok(Self {
            root,
            limits,
            purpose,
            entries: 0,
            names: 0,
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

    fn remember(&mut self, name: &str) -> Result<()> {
        self.names += name.len();
        if self.names > self.limits.names { Err(unsafe_archive("", "names without measure")) } else { Ok(()) }
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
        self.remember(&path)?;
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
                self.remember(&path)?;
                self.nodes.insert(path.to_lowercase(), (path.clone(), Node::Dir));
                self.root.create_dir(Path::new(&path)).map_err(|e| self.refused(e, name, &path))?;
            }
        }
        if let Some(mode) = mode {
            self.remember(&path)?;
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
        let full = self.root.path().join(&path);
        let file = self.root.create(Path::new(&path)).map_err(|e| self.refused(e, name, &path))?;
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
            if self.purpose == Purpose::Copy {
                keep(&file, &buffer[..n]).map_err(|e| disk::write_error(e, &full, left))?;
                left -= n as u64;
                continue;
            }
            hasher.update(&buffer[..n]);
            (&*file).write_all(&buffer[..n]).map_err(|e| disk::write_error(e, &full, left))?;
            left -= n as u64;
            if (size - left) / FLUSH > (size - left - n as u64) / FLUSH {
                self.syncer.begin(&file, &full);
            }
        }
        let mode = (mode & self.modes()) | 0o600;
        settle(&file, mode).map_err(|e| disk::write_error(e, &full, 0))?;
        if self.purpose == Purpose::Copy {
            // What ends with a hole has no end yet.
            return file.set_len(size).map_err(|e| disk::write_error(e, &full, 0));
        }
        self.syncer.add(file, full)?;
        let sha256 = Digest::of(&hasher.finalize());
        self.files.push(FileRecord { path, content: Content::File { size, sha256, mode } });
        Ok(())
    }

    fn modes(&self) -> u32 {
        if self.purpose == Purpose::Copy { COPIED_MODE } else { OTHERS_MODE }
    }

    fn symlink(&mut self, name: &str, target: &str) -> Result<()> {
        let path = self.place(name, Node::Link)?;
        check_link(name, &path, target)?;
        self.remember(target)?;
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
        self.root.hard_link(Path::new(&spelt), Path::new(&path)).map_err(|e| self.refused(e, name, &path))?;
        if let Some(FileRecord { content, .. }) = self.files.get(index) {
            let content = content.clone();
            self.files.push(FileRecord { path, content });
        }
        Ok(())
    }

    /// When the disk has the name already, two names collide there that differ for us, for example in their Unicode form.
    fn refused(&self, e: io::Error, name: &str, path: &str) -> Error {
        match e.kind() {
            io::ErrorKind::AlreadyExists => unsafe_archive(name, "the name is there twice for this disk"),
            io::ErrorKind::InvalidFilename => unsafe_archive(name, "a name this disk cannot hold"),
            _ => disk::write_error(e, &self.root.path().join(path), 0),
        }
    }

    fn finish(mut self) -> Result<Vec<FileRecord>> {
        for (path, target) in std::mem::take(&mut self.links) {
            self.root.symlink(&target, Path::new(&path)).map_err(|e| self.refused(e, &path, &path))?;
            if self.purpose == Purpose::Install {
                self.files.push(FileRecord { path, content: Content::Link { link: target } });
            }
        }
        // The innermost first: nothing can be made below a directory once it is read-only.
        self.dirs.sort_by(|a, b| b.0.cmp(&a.0));
        for (path, mode) in &self.dirs {
            let mode = (mode & self.modes()) | 0o700;
            self.root.set_mode(Path::new(path), mode).map_err(|e| self.refused(e, path, path))?;
        }
        self.syncer.finish()?;
        if self.purpose == Purpose::Copy {
            return Ok(Vec::new());
        }
        let dirs = self.nodes.values().filter(|(_, node)| matches!(node, Node::Dir)).map(|(path, _)| path.as_str());
        for dir in dirs.chain([""]) {
            let synced = self.root.below(Path::new(dir)).and_then(|dir| dir.sync());
            synced.map_err(|e| disk::write_error(e, &self.root.path().join(dir), 0))?;
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

/// Writes what is not only zeros; the rest becomes a hole, so that a file of nothing but its size fills no disk.
fn keep(mut file: &File, mut data: &[u8]) -> io::Result<()> {
    let is_hole = |block: &[u8]| block == &ZEROS[..block.len()];
    while let Some(first) = data.chunks(HOLE).next() {
        let hole = is_hole(first);
        let length = data.chunks(HOLE).take_while(|block| is_hole(block) == hole).map(<[u8]>::len).sum();
        let (run, rest) = data.split_at(length);
        if hole {
            file.seek(SeekFrom::Current(i64::try_from(length).unwrap_or_default()))?;
        } else {
            file.write_all(run)?;
        }
        data = rest;
    }
    Ok(())
}

/// No filesystem has smaller holes.
const HOLE: usize = 4096;
const ZEROS: [u8; HOLE] = [0; HOLE];

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

/// Takes the bytes as a tar.gz, as the tar in one, and as a container's tar. All are unpacked below the directory, or are
/// `ARCHIVE_UNSAFE`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    const SMALL: Limits = Limits { entries: 100, file: 1 << 20, total: 4 << 20, names: 64 << 10 };
    fuzz_one(|to| tar_gz(data, to, SMALL));
    // A mutated header has a wrong checksum and would end here: we correct it in every block that could be a header.
    let mut corrected = data.to_vec();
    for block in corrected.chunks_exact_mut(512) {
        let digit = |(i, b): (usize, &u8)| u32::from(if (148..156).contains(&i) { b' ' } else { *b });
        let sum: u32 = block.iter().enumerate().map(digit).sum();
        if sum != 8 * u32::from(b' ') {
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gz.write_all(&corrected).unwrap();
    let gz = gz.finish().unwrap();
    fuzz_one(|to| tar_gz(gz.as_slice(), to, SMALL));
    fuzz_one(|to| tar(corrected.as_slice(), &HeldDir::open(to, Links::Followed).unwrap(), SMALL, Purpose::Copy));
}

#[cfg(any(test, feature = "fuzzing"))]
fn fuzz_one(unpack: impl FnOnce(&Path) -> Result<Vec<FileRecord>>) {
    // In memory: a disk would be told of each file, and a hundred times fewer inputs could be tried.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let sandbox = tempfile::tempdir_in(place).unwrap();
    let to = sandbox.path().join("to");
    fs::create_dir(&to).unwrap();
    match unpack(&to) {
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

//! Copying between this computer and a container: what a destination means, as `docker cp` has it, the same on every engine; and a
//! tar of what lies here.

use std::{
    collections::HashMap,
    fs::{self, Metadata},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

use super::{backend::BoxStream, types::PathKind, validate};
use crate::{
    error::{Error, ErrorCode, Result},
    fetch::{
        held::{Found, HeldDir, Links, modified},
        pieces::Pieces,
        unpack,
    },
    task,
};

/// A path in a container, by its text alone.
pub(super) struct Place {
    /// Absolute, without `.`, `..` and slashes at its end.
    pub(super) path: String,
    /// It ends as a directory's does.
    directory: bool,
}

impl Place {
    pub(super) fn of(path: &str) -> Self {
        let directory = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
        Self { path: validate::clean_path_there(path), directory }
    }

    fn split(&self) -> (String, String) {
        let (dir, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        (if dir.is_empty() { "/".to_owned() } else { dir.to_owned() }, name.to_owned())
    }
}

/// Where a tar is unpacked, and the name in it; `None` for what a directory holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) directory: String,
    pub(super) name: Option<String>,
}

/// `there` is what is at the place, links followed.
pub(super) fn target(place: &Place, there: Option<&PathKind>, source: &Source) -> Result<Target> {
    let refuse = |problem: &str| Err(Error::invalid("containerPath", format!("{} {problem}", place.path)));
    let (parent, name) = place.split();
    match there {
        Some(PathKind::Directory) => Ok(Target { directory: place.path.clone(), name: source.name.clone() }),
        Some(_) if source.is_directory() => refuse("is a file, and a directory is to be copied"),
        Some(_) if place.directory => refuse("is not a directory"),
        None if place.directory && !source.is_directory() => refuse("is not there, and would have to be a directory"),
        _ => Ok(Target { directory: parent, name: Some(name) }),
    }
}

/// What is to be copied from here, held open: nothing that is put in its place meanwhile is read.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    what: What,
    /// `None`: what the directory holds.
    name: Option<String>,
}

#[derive(Debug)]
enum What {
    Dir(HeldDir),
    /// Or a link.
    One(Found),
}

impl Source {
    /// A link is copied as a link, unless a slash follows its name. For a thread that may block.
    pub(super) fn find(path: &str, links: Links) -> Result<Self> {
        let ends = |end: &str| path.ends_with(end) || cfg!(windows) && path.ends_with(&end.replace('/', "\\"));
        let contents = ends("/.") || path == ".";
        let refuse = |problem: &str| Err(Error::invalid("source", format!("{path} {problem}")));
        let wrong = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => Error::invalid("source", format!("{path} does not exist")),
            io::ErrorKind::NotADirectory => Error::invalid("source", format!("{path} is not a directory")),
            io::ErrorKind::PermissionDenied => Error::io(e, "Cannot read", Path::new(path)),
            _ => Error::invalid("source", format!("cannot read {path}: {e}")).source(e),
        };
        let whole = Path::new(path);
        let (what, name) = match whole.file_name() {
            Some(name) if !contents && !ends("/") => {
                let parent = whole.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
                let parent = HeldDir::open(parent, links).map_err(wrong)?;
                match parent.look(name).map_err(wrong)? {
                    Found::Dir => (What::Dir(parent.below(Path::new(name)).map_err(wrong)?), Some(name.to_owned())),
                    Found::Other => return refuse("is neither a file, a directory nor a link"),
                    one => (What::One(one), Some(name.to_owned())),
                }
            }
            // Also `..` and `/`.
            name => {
                let dir = HeldDir::open(whole, links).map_err(wrong)?;
                let real = || Some(fs::canonicalize(whole).ok()?.file_name()?.to_owned());
                (What::Dir(dir), name.map(ToOwned::to_owned).or_else(real))
            }
        };
        let name = name.filter(|_| !contents).map(|name| name.to_string_lossy().into_owned());
        Ok(Self { path: whole.to_owned(), what, name })
    }

    /// What a directory holds.
    pub(super) fn contents(dir: HeldDir) -> Self {
        Self { path: dir.path().to_owned(), what: What::Dir(dir), name: None }
    }

    fn is_directory(&self) -> bool {
        matches!(self.what, What::Dir(_))
    }

    /// A tar of it under that name, made as it is read.
    pub(super) fn pack(self, name: Option<String>) -> BoxStream<Bytes> {
        self.pack_chosen(name, Box::new(|_| Chosen::Taken))
    }

    /// The same of a part of a directory.
    pub(super) fn pack_chosen(self, name: Option<String>, choose: Choose) -> BoxStream<Bytes> {
        task::stream(move |out| async move {
            let (send, mut receive) = mpsc::channel::<Bytes>(4);
            let packing = task::blocking(move || {
                let mut builder = Builder::new(Sending { send, piece: BytesMut::new() });
                let mut packer = Packer { builder: &mut builder, links: HashMap::new(), ways: Vec::new() };
                let name = PathBuf::from(name.as_deref().unwrap_or("."));
                match self.what {
                    What::Dir(dir) => packer.add_all(&dir, &name, &choose),
                    What::One(found) => packer.add(&self.path, &name, found),
                }?;
                let mut pieces = builder.into_inner().map_err(|e| read_error(&self.path, e))?;
                pieces.flush().map_err(|e| read_error(&self.path, e))
            });
            let sending = async {
                while let Some(piece) = receive.recv().await {
                    out.put(piece).await?;
                }
                Ok(())
            };
            tokio::try_join!(packing, sending).map(|_| ())
        })
    }
}

/// Decides about a path below a directory, with slashes between its names.
pub(super) type Choose = Box<dyn Fn(&str) -> Chosen + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    Taken,
    /// If it is a directory, only as the way to what is taken below it.
    Way,
    Left,
}

fn read_error(path: &Path, e: io::Error) -> Error {
    Error::io(e, "Cannot copy", path)
}

/// Sends what is written, in pieces of some size. Blocks while nobody takes them.
struct Sending {
    send: mpsc::Sender<Bytes>,
    piece: BytesMut,
}

const PIECE: usize = 64 << 10;

impl Write for Sending {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(data);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = self.piece.split().freeze();
        if piece.is_empty() {
            return Ok(());
        }
        self.send.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

struct Packer<'a> {
    builder: &'a mut Builder<Sending>,
    /// The names of files with several, by device and number.
    links: HashMap<(u64, u64), PathBuf>,
    /// Directories that are to be written when something below them is.
    ways: Vec<(PathBuf, Header)>,
}

impl Packer<'_> {
    fn add_all(&mut self, root: &HeldDir, name: &Path, choose: &Choose) -> Result<()> {
        let mut open = vec![(PathBuf::new(), Chosen::Taken)];
        while let Some((below, chosen)) = open.pop() {
            let path = root.path().join(&below);
            let fail = |e: io::Error| read_error(&path, e);
            let Some(dir) = there(root.below(&below)).map_err(fail)? else { continue };
            let name = name.join(&below);
            // The directory in the container stays as it is when only what this one holds is copied.
            if name != Path::new(".") {
                let meta = dir.metadata().map_err(fail)?;
                self.ways.push((name.clone(), header(EntryType::Directory, mode(&meta), modified(&meta))));
            }
            if chosen == Chosen::Taken {
                self.add_ways(&name)?;
            }
            let mut names = dir.names().map_err(fail)?;
            names.sort();
            let mut dirs = Vec::new();
            for one in names {
                let (path, below) = (path.join(&one), below.join(&one));
                let chosen = choose(&slashes(&below));
                if chosen == Chosen::Left {
                    continue;
                }
                match there(dir.look(&one)) {
                    Ok(Some(Found::Dir)) => dirs.push((below, chosen)),
                    // It may be one that nobody may read.
                    _ if chosen == Chosen::Way => {}
                    Ok(None) => {}
                    Ok(Some(found)) => {
                        self.add_ways(&name)?;
                        self.add(&path, &name.join(one), found)?;
                    }
                    Err(e) => return Err(read_error(&path, e)),
                }
            }
            open.extend(dirs.into_iter().rev());
        }
        Ok(())
    }

    /// The directories that lead to `name`, or are it, if they were not written yet. The others hold nothing.
    fn add_ways(&mut self, name: &Path) -> Result<()> {
        for (way, mut header) in std::mem::take(&mut self.ways) {
            if name.starts_with(&way) {
                self.append(&way, &mut header, &way, io::empty())?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, name: &Path, found: Found) -> Result<()> {
        let (file, meta) = match found {
            Found::File(file, meta) => (file, meta),
            Found::Link { to, modified } => {
                let mut header = header(EntryType::Symlink, 0o777, modified);
                return self.builder.append_link(&mut header, name, to).map_err(|e| read_error(path, e));
            }
            // A socket has nothing to copy. A pipe or a device here means another there.
            Found::Dir | Found::Other => return Ok(()),
        };
        if let Some(key) = several_names(&meta) {
            if let Some(first) = self.links.get(&key) {
                let mut header = header(EntryType::Link, mode(&meta), modified(&meta));
                return self.builder.append_link(&mut header, name, first).map_err(|e| read_error(path, e));
            }
            self.links.insert(key, name.to_owned());
        }
        let mut header = header(EntryType::Regular, mode(&meta), modified(&meta));
        header.set_size(meta.len());
        // The header has said how long it is, whatever it does meanwhile.
        self.append(path, &mut header, name, file.chain(io::repeat(0)).take(meta.len()))
    }

    fn append(&mut self, path: &Path, header: &mut Header, name: &Path, content: impl Read) -> Result<()> {
        self.builder.append_data(header, name, content).map_err(|e| read_error(path, e))
    }
}

/// With slashes between its names.
pub(super) fn slashes(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// `None`: it was removed since it was listed.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Root's: a number of this computer's users means somebody else in a container.
fn header(kind: EntryType, mode: u32, modified: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mode(mode);
    header.set_mtime(modified);
    header
}

#[cfg(unix)]
fn mode(meta: &Metadata) -> u32 {
    use std::os::unix::fs::MetadataExt;
    meta.mode() & 0o7777
}

/// As docker has it on Windows, where no file says whether it is a program.
#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    0o755
}

#[cfg(unix)]
fn several_names(meta: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    (meta.nlink() > 1).then(|| (meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn several_names(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Unpacks a container's tar into a directory of this computer, which is made if it is not there. Nothing that is there is
/// replaced. When this is dropped, the work ends and removes what it has written.
pub(super) async fn unpack(mut archive: BoxStream<Bytes>, to: PathBuf, links: Links) -> Result<()> {
    let (send, mut receive) = mpsc::channel(4);
    let unpacking = task::blocking(move || unpack_here(Pieces::new(|| receive.blocking_recv()), &to, links));
    let feeding = async {
        while let Some(piece) = archive.next().await {
            // The unpacking that ended early says why itself.
            if send.send(Some(piece?)).await.is_err() {
                return Ok(());
            }
        }
        _ = send.send(None).await;
        Ok(())
    };
    let ((), ()) = tokio::try_join!(feeding, unpacking)?;
    Ok(())
}

fn unpack_here(archive: impl Read, to: &Path, links: Links) -> Result<()> {
    let wrong = |e: io::Error, path: &Path| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Error::invalid("to", format!("{} cannot be made: {e}", path.display()))
        }
        _ => Error::io(e, "Cannot write", path),
    };
    let parent = to.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    if let Some(name) = to.file_name() {
        let made = HeldDir::open(parent, links).and_then(|parent| parent.create_dir(Path::new(name)));
        match made {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(wrong(e, to)),
            _ => {}
        }
    }
    let target = HeldDir::open(to, links).map_err(|e| wrong(e, to))?;
    let beside = tempfile::Builder::new().prefix(".lima-runtime-copy-").tempdir_in(to).map_err(|e| wrong(e, to))?;
    let made = Path::new(beside.path().file_name().unwrap_or_default());
    let held = target.below(made).map_err(|e| wrong(e, beside.path()))?;
    unpack::copied(archive, &held)?;
    let names = held.names().map_err(|e| wrong(e, beside.path()))?;
    let taken = |path: PathBuf| {
        Error::new(ErrorCode::NameInUse, format!("{} is there already", path.display()))
            .detail("path", path.display().to_string())
            .hint("Remove it, or copy to another directory.")
    };
    if let Some(name) = names.iter().find(|name| target.look(name).is_ok()) {
        return Err(taken(to.join(name)));
    }
    for name in names {
        held.move_to(&name, &target).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => taken(to.join(&name)),
            _ => wrong(e, &to.join(&name)),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(dir: &Path, name: &str) -> Result<Source> {
        Source::find(&format!("{}/{name}", dir.display()), Links::Followed)
    }

    fn leads(path: &str, there: Option<&PathKind>, source: &Source) -> Option<(String, Option<String>)> {
        target(&Place::of(path), there, source).ok().map(|t| (t.directory, t.name))
    }

    /// https://docs.docker.com/reference/cli/docker/container/cp/
    #[test]
    fn a_destination_means_what_docker_says() {
        use PathKind::{Directory, File};
        let here = tempfile::tempdir().unwrap();
        fs::write(here.path().join("f"), "").unwrap();
        fs::create_dir(here.path().join("d")).unwrap();
        let source = |name: &str| find(here.path(), name).unwrap();
        let (file, dir, contents) = (source("f"), source("d"), source("d/."));
        let at = |directory: &str, name: &str| Some((directory.to_owned(), Some(name.to_owned())));
        assert_eq!(leads("/a/b", None, &file), at("/a", "b"));
        assert_eq!(leads("/b", None, &file), at("/", "b"));
        assert_eq!(leads("/a/b/", None, &file), None);
        assert_eq!(leads("/a/b", Some(&File), &file), at("/a", "b"));
        assert_eq!(leads("/a/b/", Some(&File), &file), None);
        assert_eq!(leads("/a/b", Some(&Directory), &file), at("/a/b", "f"));
        assert_eq!(leads("/a/b/../c/", Some(&Directory), &file), at("/a/c", "f"));
        assert_eq!(leads("/a/b", None, &dir), at("/a", "b"));
        assert_eq!(leads("/a/b", None, &contents), at("/a", "b"));
        assert_eq!(leads("/a/b", Some(&File), &dir), None);
        assert_eq!(leads("/a/b", Some(&Directory), &dir), at("/a/b", "d"));
        assert_eq!(leads("/a/b", Some(&Directory), &contents), Some(("/a/b".into(), None)));
        assert_eq!(leads("/", Some(&Directory), &file), at("/", "f"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_tar_has_modes_links_and_no_owner() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        use futures_util::TryStreamExt;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("d/empty")).unwrap();
        fs::write(at("d/run"), "run").unwrap();
        fs::set_permissions(at("d/run"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::hard_link(at("d/run"), at("d/same")).unwrap();
        symlink("/etc/passwd", at("d/link")).unwrap();
        fs::write(at("d").join("n".repeat(200)), vec![7; 200_000]).unwrap();
        let pack = async |source: Source, name: Option<&str>| {
            let all: Vec<Bytes> = source.pack(name.map(str::to_owned)).try_collect().await.unwrap();
            all.concat()
        };
        let tar = pack(find(dir.path(), "d").unwrap(), Some("new")).await;
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
            let link = entry.link_name().unwrap().map(|l| l.display().to_string()).unwrap_or_default();
            let path = entry.path().unwrap().display().to_string();
            seen.push((path, entry.header().entry_type(), link, entry.header().mode().unwrap(), entry.size()));
        }
        let names: Vec<_> = seen.iter().map(|s| s.0.trim_end_matches('/').to_owned()).collect();
        let long = format!("new/{}", "n".repeat(200));
        assert_eq!(names, ["new", "new/link", &long, "new/run", "new/same", "new/empty"]);
        assert_eq!((seen[1].1, seen[1].2.as_str()), (EntryType::Symlink, "/etc/passwd"));
        assert_eq!(seen[2].4, 200_000);
        assert_eq!((seen[3].1, seen[3].3, seen[3].4), (EntryType::Regular, 0o750, 3));
        assert_eq!((seen[4].1, seen[4].2.as_str()), (EntryType::Link, "new/run"));
        // What it holds: `d/.`
        let tar = pack(find(dir.path(), "d/.").unwrap(), None).await;
        let mut archive = tar::Archive::new(tar.as_slice());
        let first = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(first.path().unwrap().display().to_string().trim_start_matches("./"), "link");
    }

    /// A container that has the directory mounted turns it into a link, once it is being copied.
    #[cfg(unix)]
    #[tokio::test]
    async fn what_is_read_is_what_was_found() {
        use std::os::unix::fs::symlink;

        use futures_util::TryStreamExt;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, text) in [("shared/d/file", "the application's"), ("secret/file", "a secret")] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), text).unwrap();
        }
        fs::create_dir_all(at("secret/d")).unwrap();
        fs::write(at("secret/d/file"), "a secret").unwrap();
        let sources = ["shared/d/file", "shared/d", "shared/d/."].map(|name| find(dir.path(), name).unwrap());
        fs::rename(at("shared"), at("moved")).unwrap();
        symlink(at("secret"), at("shared")).unwrap();
        for source in sources {
            let tar: Vec<Bytes> = source.pack(Some("x".to_owned())).try_collect().await.unwrap();
            let tar = String::from_utf8_lossy(&tar.concat()).into_owned();
            assert!(tar.contains("the application's") && !tar.contains("a secret"), "{tar}");
        }
        // Who is not trusted was asked about a real path: there is no link in it.
        for name in ["shared/file", "shared/d/file", "shared/d", "shared/d/."] {
            let path = at(name).canonicalize().unwrap();
            let (real, turned) = (path.to_str().unwrap(), at(name));
            Source::find(real, Links::Refused).unwrap();
            Source::find(turned.to_str().unwrap(), Links::Refused).unwrap_err();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_source_is_a_file_a_directory_or_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for name in ["pipe", "file/", "file/.", "file/x", "none", "none/", "none/none"] {
            let e = find(dir.path(), name).unwrap_err();
            assert_eq!(
                (e.code(), e.details()["field"].as_str()),
                (ErrorCode::InvalidArgument, Some("source")),
                "{name}"
            );
        }
    }

    /// A tar that arrives in two parts; `between` happens when all of the first is unpacked.
    #[cfg(unix)]
    fn in_two_parts(
        entries: [&[(&str, &str)]; 2],
        between: impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static,
    ) -> BoxStream<Bytes> {
        let [first, second] = entries.map(|entries| {
            let mut tar = Builder::new(Vec::new());
            for (name, text) in entries {
                let mut header = header(EntryType::Regular, 0o644, 0);
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, name, text.as_bytes()).unwrap();
            }
            Bytes::from(tar.into_inner().unwrap())
        });
        let first = first.slice(..first.len() - 1024);
        let second = futures_util::stream::once(async move {
            between().await;
            Ok(second)
        });
        futures_util::stream::once(async { Ok(first) }).chain(second).boxed()
    }

    #[cfg(unix)]
    async fn until(what: impl Fn() -> bool) {
        use std::time::Duration;
        let looking = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), looking).await.expect("it never happens");
    }

    /// What a copy is unpacked in, before it is in its place.
    #[cfg(unix)]
    fn beside(to: &Path) -> Option<PathBuf> {
        fs::read_dir(to).ok()?.find_map(|e| Some(e.ok()?.path()).filter(|p| p.to_string_lossy().contains("-copy-")))
    }

    /// A container that has the destination mounted, and root's rights there.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_directory_that_becomes_a_link_is_not_written_through() {
        use std::os::unix::fs::symlink;
        for turned in ["", "a", "a/b"] {
            let dir = tempfile::tempdir().unwrap();
            let (to, outside) = (dir.path().join("to"), dir.path().join("outside"));
            for name in ["", "a", "a/b"] {
                fs::create_dir_all(outside.join(name)).unwrap();
            }
            let (there, lead) = (to.clone(), outside.clone());
            let turn = move || -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
                Box::pin(async move {
                    until(|| beside(&there).is_some_and(|dir| dir.join("a/b/first").exists())).await;
                    let place = beside(&there).unwrap().join(turned);
                    // As `strip_suffix`: a path that ends with a slash is what the link leads to.
                    let place: PathBuf = place.components().collect();
                    fs::rename(&place, there.join("moved")).unwrap();
                    symlink(lead.join(turned), place).unwrap();
                })
            };
            let archive = in_two_parts([&[("a/b/first", "1")], &[("a/b/second", "2"), ("a/third", "3")]], turn);
            let result = unpack(archive, to.clone(), Links::Followed).await;
            let found: Vec<_> = ["a/b/second", "a/third", "second", "third", "b/second"]
                .iter()
                .filter(|name| outside.join(name).exists())
                .collect();
            assert!(found.is_empty(), "{turned}: {found:?} are outside, {result:?}");
        }
    }

    /// One that is left in the middle.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_copy_that_is_dropped_ends_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("to");
        let never = || -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(std::future::pending()) };
        let archive = in_two_parts([&[("a/b", "1")], &[]], never);
        let copy = tokio::spawn(unpack(archive, to.clone(), Links::Followed));
        until(|| beside(&to).is_some_and(|dir| dir.join("a/b").exists())).await;
        copy.abort();
        until(|| fs::read_dir(&to).unwrap().next().is_none()).await;
    }
}

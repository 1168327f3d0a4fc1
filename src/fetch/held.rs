//! A directory that is held open, and what lies below it. No path below it goes through a link, whoever changes what is there
//! meanwhile: a container may have the directory mounted. (On Windows, paths are names alone.)

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io,
    path::{Component, Path, PathBuf},
};

/// What a caller's word for a path of this computer leads through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    Followed,
    /// It was judged as a real path: a link that is there now was put there since.
    Refused,
}

/// What a name in a directory is.
#[derive(Debug)]
pub enum Found {
    Dir,
    File(File, Metadata),
    Link {
        to: PathBuf,
        /// In seconds since 1970.
        modified: u64,
    },
    /// A socket, a pipe, a device.
    Other,
}

#[derive(Debug)]
pub struct HeldDir {
    path: PathBuf,
    #[cfg(unix)]
    fd: std::os::fd::OwnedFd,
}

/// A path below a directory, which climbs nowhere.
fn parts(path: &Path) -> io::Result<Vec<&OsStr>> {
    let inside = |part| match part {
        Component::Normal(name) => Some(Ok(name)),
        Component::CurDir => None,
        _ => Some(Err(io::ErrorKind::InvalidInput.into())),
    };
    path.components().filter_map(inside).collect()
}

/// A path's parent, below a directory, and its name there.
#[cfg(unix)]
fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((path.parent().unwrap_or(Path::new("")), name))
}

/// When it was changed last, in seconds since 1970.
pub fn modified(meta: &Metadata) -> u64 {
    let at = meta.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    at.map_or(0, |since| since.as_secs())
}

impl HeldDir {
    /// What it was called when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(unix)]
mod of_unix {
    use std::os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    };

    use rustix::fs::{self as sys, AtFlags, Dir, FileType, Mode, OFlags};

    use super::*;

    /// To walk through a directory needs no right to list it.
    #[cfg(target_os = "linux")]
    const WALK: OFlags = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    const WALK: OFlags = OFlags::RDONLY;
    const DIR: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
    const ALL: Mode = Mode::from_raw_mode(0o777);

    impl HeldDir {
        pub fn open(path: &Path, links: Links) -> io::Result<Self> {
            if links == Links::Followed {
                let fd = sys::open(path, WALK | DIR, Mode::empty())?;
                return Ok(Self { path: path.to_owned(), fd });
            }
            let root = Self { path: PathBuf::from("/"), fd: sys::open("/", WALK | DIR, Mode::empty())? };
            root.below(path.strip_prefix("/").map_err(|_| io::ErrorKind::InvalidInput)?)
        }

        pub fn below(&self, path: &Path) -> io::Result<Self> {
            let mut fd = self.fd.try_clone()?;
            for name in parts(path)? {
                fd = sys::openat(&fd, name, WALK | DIR | OFlags::NOFOLLOW, Mode::empty())?;
            }
            Ok(Self { path: self.path.join(path), fd })
        }

        /// It, with the right to list it.
        fn listed(&self) -> io::Result<OwnedFd> {
            Ok(sys::openat(&self.fd, ".", OFlags::RDONLY | DIR, Mode::empty())?)
        }

        pub fn metadata(&self) -> io::Result<Metadata> {
            File::from(self.fd.try_clone()?).metadata()
        }

        pub fn names(&self) -> io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            for entry in Dir::new(self.listed()?)? {
                let name = entry?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.push(OsString::from_vec(name));
                }
            }
            Ok(names)
        }

        pub fn look(&self, name: &OsStr) -> io::Result<Found> {
            let stat = sys::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Found::Dir,
                FileType::Symlink => {
                    let to = sys::readlinkat(&self.fd, name, Vec::new())?;
                    let to = PathBuf::from(OsStr::from_bytes(to.as_bytes()));
                    Found::Link { to, modified: u64::try_from(stat.st_mtime).unwrap_or_default() }
                }
                FileType::RegularFile => {
                    // A pipe that was put there since would keep us.
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let file = File::from(sys::openat(&self.fd, name, flags, Mode::empty())?);
                    let meta = file.metadata()?;
                    if meta.is_file() { Found::File(file, meta) } else { Found::Other }
                }
                _ => Found::Other,
            })
        }

        pub fn create_dir(&self, path: &Path) -> io::Result<()> {
            let (parent, name) = split(path)?;
            Ok(sys::mkdirat(&self.below(parent)?.fd, name, ALL)?)
        }

        /// A new file.
        pub fn create(&self, path: &Path) -> io::Result<File> {
            let (parent, name) = split(path)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(File::from(sys::openat(&self.below(parent)?.fd, name, flags, Mode::from_raw_mode(0o666))?))
        }

        pub fn hard_link(&self, original: &Path, path: &Path) -> io::Result<()> {
            let ((from, old), (to, new)) = (split(original)?, split(path)?);
            Ok(sys::linkat(&self.below(from)?.fd, old, &self.below(to)?.fd, new, AtFlags::empty())?)
        }

        pub fn symlink(&self, target: &str, path: &Path) -> io::Result<()> {
            let (parent, name) = split(path)?;
            Ok(sys::symlinkat(target, &self.below(parent)?.fd, name)?)
        }

        /// Of a directory.
        pub fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
            use std::os::unix::fs::PermissionsExt;
            File::from(self.below(path)?.listed()?).set_permissions(fs::Permissions::from_mode(mode))
        }

        /// Makes its names outlive a power cut.
        pub fn sync(&self) -> io::Result<()> {
            File::from(self.listed()?).sync_all()
        }

        /// Gives a name to another directory of the same disk. `AlreadyExists` where it has one of the kind.
        pub fn move_to(&self, name: &OsStr, other: &Self) -> io::Result<()> {
            #[cfg(any(target_os = "linux", target_vendor = "apple"))]
            match sys::renameat_with(&self.fd, name, &other.fd, name, sys::RenameFlags::NOREPLACE) {
                // A file system that cannot.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => {}
                result => return Ok(result?),
            }
            if other.look(name).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(sys::renameat(&self.fd, name, &other.fd, name)?)
        }
    }
}

#[cfg(not(unix))]
mod of_others {
    use std::fs::OpenOptions;

    use super::*;

    impl HeldDir {
        pub fn open(path: &Path, _: Links) -> io::Result<Self> {
            if fs::metadata(path)?.is_dir() {
                Ok(Self { path: path.to_owned() })
            } else {
                Err(io::ErrorKind::NotADirectory.into())
            }
        }

        fn at(&self, path: &Path) -> io::Result<PathBuf> {
            Ok(parts(path)?.iter().fold(self.path.clone(), |path, name| path.join(name)))
        }

        pub fn below(&self, path: &Path) -> io::Result<Self> {
            let mut at = self.path.clone();
            for name in parts(path)? {
                at.push(name);
                if !fs::symlink_metadata(&at)?.is_dir() {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
            }
            Ok(Self { path: at })
        }

        pub fn metadata(&self) -> io::Result<Metadata> {
            fs::metadata(&self.path)
        }

        pub fn names(&self) -> io::Result<Vec<OsString>> {
            fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name())).collect()
        }

        pub fn look(&self, name: &OsStr) -> io::Result<Found> {
            let path = self.path.join(name);
            let meta = fs::symlink_metadata(&path)?;
            Ok(if meta.is_dir() {
                Found::Dir
            } else if meta.is_symlink() {
                Found::Link { to: fs::read_link(path)?, modified: modified(&meta) }
            } else if meta.is_file() {
                Found::File(File::open(path)?, meta)
            } else {
                Found::Other
            })
        }

        pub fn create_dir(&self, path: &Path) -> io::Result<()> {
            fs::create_dir(self.at(path)?)
        }

        /// A new file.
        pub fn create(&self, path: &Path) -> io::Result<File> {
            OpenOptions::new().write(true).create_new(true).open(self.at(path)?)
        }

        pub fn hard_link(&self, original: &Path, path: &Path) -> io::Result<()> {
            fs::hard_link(self.at(original)?, self.at(path)?)
        }

        pub fn symlink(&self, target: &str, path: &Path) -> io::Result<()> {
            super::super::unpack::make_link(target, &self.at(path)?)
        }

        /// Of a directory.
        pub fn set_mode(&self, _: &Path, _: u32) -> io::Result<()> {
            Ok(())
        }

        /// Makes its names outlive a power cut: Windows' renames are journalled.
        pub fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        /// Gives a name to another directory of the same disk. `AlreadyExists` where it has one of the kind.
        pub fn move_to(&self, name: &OsStr, other: &Self) -> io::Result<()> {
            if other.look(name).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(self.path.join(name), other.path.join(name))
        }
    }
}

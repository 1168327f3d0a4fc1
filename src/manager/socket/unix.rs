//! A socket, `<dataDir>/sock/docker.sock`, that only this user reaches.

use std::{
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

use crate::error::{Error, ErrorCode, Result};

/// What `sun_path` holds, with the byte that ends it.
const LONGEST: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

pub(super) struct Listener {
    accepting: UnixListener,
    path: PathBuf,
    inode: u64,
}

/// `PATH_TOO_LONG` where no socket can have that path.
pub(crate) fn check(path: &Path) -> Result<()> {
    let length = path.as_os_str().as_bytes().len();
    if length <= LONGEST {
        return Ok(());
    }
    let text = format!("{} has {length} bytes, and a socket's path at most {LONGEST}", path.display());
    Err(Error::new(ErrorCode::PathTooLong, text)
        .hint(format!("Choose a dataDir that is {} bytes shorter.", length - LONGEST))
        .detail("path", path.display().to_string())
        .detail("limit", LONGEST))
}

/// The directory of a socket and of the lock beside it: nobody else reaches the socket before it has its mode.
pub(super) fn prepare(dir: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io(e, "creating", dir)),
        _ => crate::fetch::owner::check(dir)?,
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(|e| Error::io(e, "protecting", dir))
}

impl Listener {
    pub(super) fn bind(path: &Path) -> Result<Self> {
        let failed = |e| Error::io(e, "serving", path);
        // Of a process that was killed.
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let accepting = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let inode = std::fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok(Self { accepting, path: path.to_owned(), inode })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.accepting.accept().await?.0)
    }

    pub(super) fn is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode)
    }

    pub(super) fn take_away(&self) {
        // Somebody may have put another one there.
        if self.is_there() {
            _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.take_away();
    }
}

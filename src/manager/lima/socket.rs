//! `<dataDir>/sock/docker.sock`: the engine for programs of this computer, served over our own connection. Lima's forward
//! ends with its ssh, and is not made again (docs/reference/lima.md#after-a-sleep).

use std::{
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::UnixListener;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    error::{Error, ErrorCode, Result},
    guest::Guest,
    relay, task,
};

/// What `sun_path` holds, with the byte that ends it.
const LONGEST: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// A socket that is served until it is dropped.
pub(super) struct Served {
    path: PathBuf,
    inode: u64,
    _accepting: AbortOnDropHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        // Another process of the application may serve its own there by now.
        if self.is_there() {
            _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Served {
    pub(super) fn is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode)
    }
}

/// `PATH_TOO_LONG` where no socket can have that path.
pub(super) fn check(path: &Path) -> Result<()> {
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

/// Serves the socket `socket` of a guest at `path`. `PATH_TOO_LONG` where no socket can have that path.
pub(super) fn serve(path: &Path, guest: Arc<dyn Guest>, socket: String) -> Result<Served> {
    check(path)?;
    let dir = path.parent().unwrap_or(path);
    // Nobody else reaches the socket before it has its mode.
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::io(e, "creating", dir)),
        _ => crate::fetch::owner::check(dir)?,
    }
    let failed = |e| Error::io(e, "serving", path);
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    // Of a process that has gone, or of another one of the application: who came last serves.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let inode = std::fs::symlink_metadata(path).map_err(failed)?.ino();
    let accepting = AbortOnDropHandle::new(task::spawn(accept(listener, guest, socket)));
    Ok(Served { path: path.to_owned(), inode, _accepting: accepting })
}

/// Whoever connects while there is no VM finds the connection closed.
async fn accept(listener: UnixListener, guest: Arc<dyn Guest>, socket: String) {
    let engine = || {
        let (guest, socket) = (guest.clone(), socket.clone());
        async move { guest.connect(&socket).await }
    };
    relay::serve("the Docker socket", || async { Ok(listener.accept().await?.0) }, engine).await;
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    use super::*;
    use crate::guest::local::LocalGuest;

    #[tokio::test]
    async fn it_is_this_users_alone_and_carries_half_closes_and_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, path) = (dir.path().join("engine.sock"), dir.path().join("sock/docker.sock"));
        let listener = UnixListener::bind(&engine).unwrap();
        task::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                all.reverse();
                stream.write_all(&all).await.unwrap();
            }
        });
        let guest: Arc<dyn Guest> = Arc::new(LocalGuest::new(""));
        let first = serve(&path, guest.clone(), engine.display().to_string()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let ask = async || {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(b"abc").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        };
        assert_eq!(ask().await, "cba");
        let second = serve(&path, guest, engine.display().to_string()).unwrap();
        assert!(!first.is_there());
        drop(first);
        assert_eq!(ask().await, "cba", "the one that left took only its own");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let guest: Arc<dyn Guest> = Arc::new(LocalGuest::new(""));
        let e = serve(Path::new(&format!("/{}", "x".repeat(LONGEST))), guest, String::new()).map(drop).unwrap_err();
        assert_eq!(e.code(), ErrorCode::PathTooLong);
    }
}

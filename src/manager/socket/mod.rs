//! The Docker engine for programs of this computer, served over our own connection. Lima's forward ends with its ssh, and is
//! not made again (docs/reference/lima.md#after-a-sleep); WSL has none.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::task::AbortOnDropHandle;
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub(crate) use system::check;

use crate::{
    call::Call,
    error::{ErrorCode, Result},
    fetch::{lock::Lock, owner},
    guest::Guest,
    mutex::Mutex,
    relay, task,
};

/// A socket that is served until this is dropped; or will be, once the process of the application that serves it has ended.
pub(crate) struct Served {
    /// While it is this process that serves.
    listener: Arc<Mutex<Option<Arc<system::Listener>>>>,
    task: AbortOnDropHandle<()>,
}

impl Served {
    /// Whether nothing has to be done, as far as this process knows.
    pub(crate) fn is_there(&self) -> bool {
        !self.task.is_finished() && self.listener.lock().as_ref().is_none_or(|listener| listener.is_there())
    }
}

impl Served {
    /// Returns once another one can serve.
    pub(crate) async fn end(mut self) {
        self.task.abort();
        _ = (&mut self.task).await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // At once: the task ends some time later, and then gives the lock away.
        if let Some(listener) = self.listener.lock().take() {
            listener.take_away();
        }
    }
}

/// Serves the socket `socket` of a guest at `path`. One process does, which has a lock in the directory `dir`: the others wait
/// for it. `PATH_TOO_LONG` where no socket can have that path.
pub(crate) async fn serve(path: &Path, dir: &Path, guest: Arc<dyn Guest>, socket: String) -> Result<Served> {
    check(path)?;
    system::prepare(dir)?;
    let lock = dir.join("serving.lock");
    let now = Call { timeout: Some(Duration::ZERO), ..Call::default() };
    let held = match Lock::acquire(&lock, owner::check, &now, None).await {
        Ok(held) => Some((held, Arc::new(system::Listener::bind(path)?))),
        Err(e) if e.code() == ErrorCode::Locked => None,
        Err(e) => return Err(e),
    };
    let listener = Arc::new(Mutex::new(held.as_ref().map(|(_, listener)| listener.clone())));
    let task = task::spawn(run(held, path.to_owned(), lock, listener.clone(), guest, socket));
    Ok(Served { listener, task: AbortOnDropHandle::new(task) })
}

/// Whoever connects while there is no guest finds the connection closed.
async fn run(
    held: Option<(Lock, Arc<system::Listener>)>,
    path: PathBuf,
    lock: PathBuf,
    served: Arc<Mutex<Option<Arc<system::Listener>>>>,
    guest: Arc<dyn Guest>,
    socket: String,
) {
    let taken_over = async || -> Result<_> {
        let held = Lock::acquire(&lock, owner::check, &Call::default(), None).await?;
        let listener = Arc::new(system::Listener::bind(&path)?);
        *served.lock() = Some(listener.clone());
        Ok((held, listener))
    };
    let (_held, listener) = match held {
        Some(held) => held,
        None => match taken_over().await {
            Ok(held) => held,
            Err(error) => return tracing::warn!(%error, "the Docker socket is not served any more"),
        },
    };
    let engine = || {
        let (guest, socket) = (guest.clone(), socket.clone());
        async move { guest.connect(&socket).await }
    };
    relay::serve("the Docker socket", || listener.accept(), engine).await;
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{UnixListener, UnixStream},
    };

    use super::*;
    use crate::guest::local::LocalGuest;

    /// Sends back what it gets, turned round.
    fn engine(path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        task::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                all.reverse();
                stream.write_all(&all).await.unwrap();
            }
        });
    }

    async fn ask(path: &Path) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(b"abc").await?;
        stream.shutdown().await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        Ok(said)
    }

    #[tokio::test]
    async fn it_is_this_users_alone_and_carries_half_closes() {
        let dir = tempfile::tempdir().unwrap();
        let (there, sock) = (dir.path().join("engine.sock"), dir.path().join("sock"));
        let path = sock.join("docker.sock");
        engine(&there);
        let guest: Arc<dyn Guest> = Arc::new(LocalGuest::new(""));
        let served = serve(&path, &sock, guest, there.display().to_string()).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&sock)), (0o600, 0o700));
        assert_eq!(ask(&path).await.unwrap(), "cba");
        assert!(served.is_there());
        std::fs::remove_file(&path).unwrap();
        assert!(!served.is_there());
        drop(served);
    }

    /// Of two processes on one directory, whichever ends, the other one serves.
    #[tokio::test]
    async fn who_waits_serves_when_the_one_before_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (there, sock) = (dir.path().join("engine.sock"), dir.path().join("sock"));
        let path = sock.join("docker.sock");
        engine(&there);
        let guest: Arc<dyn Guest> = Arc::new(LocalGuest::new(""));
        let begin = async || serve(&path, &sock, guest.clone(), there.display().to_string()).await.unwrap();
        let inode = || std::fs::symlink_metadata(&path).map(|meta| (meta.ino(), meta.ctime_nsec())).ok();
        let (first, second) = (begin().await, begin().await);
        assert!(first.is_there() && second.is_there());
        assert_eq!(ask(&path).await.unwrap(), "cba");
        let before = inode();
        // One that waits and leaves takes nothing away.
        let third = begin().await;
        drop(third);
        assert_eq!((ask(&path).await.unwrap().as_str(), inode()), ("cba", before));
        drop(first);
        // Nobody called anything of the second one.
        while ask(&path).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert!(second.is_there() && inode() != before);
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let guest: Arc<dyn Guest> = Arc::new(LocalGuest::new(""));
        let path = dir.path().join("x".repeat(200));
        let e = serve(&path, dir.path(), guest, String::new()).await.map(drop).unwrap_err();
        assert_eq!(e.code(), ErrorCode::PathTooLong);
    }
}

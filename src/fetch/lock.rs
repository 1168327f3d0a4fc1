//! One process at a time: a lock on a file, which the operating system frees when its holder dies.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::disk;
use crate::{
    call::Call,
    error::{Error, ErrorCode, Result},
};

/// Held until the last clone is gone: background work that outlives an aborted call keeps its clone.
#[derive(Clone, Debug)]
pub struct Lock {
    _file: Arc<File>,
    path: PathBuf,
}

impl Lock {
    /// Waits for the holder, as long as `call` allows: `LOCKED` after its timeout, `ABORTED` at its signal. Where there
    /// is no holder it is had at once, however little of the timeout is left.
    pub async fn acquire(path: &Path, call: &Call) -> Result<Self> {
        let mut news = Self::wait(path.to_owned())?;
        let mut next = async || Ok(news.recv().await.unwrap_or_else(|| Some(Err(Error::internal(ENDED)))));
        let mut found = Call { timeout: None, ..call.clone() }.run(None, next()).await?;
        while found.is_none() {
            found = call.run(None, next()).await.map_err(|e| match (e.code(), call.timeout) {
                (ErrorCode::Timeout, Some(after)) => locked(path, after),
                _ => e,
            })?;
        }
        found.unwrap_or_else(|| Err(Error::internal(ENDED)))
    }

    /// `None`: somebody holds it.
    fn wait(path: PathBuf) -> Result<UnboundedReceiver<Option<Result<Self>>>> {
        let (send, receive) = unbounded_channel();
        // A thread of its own, because nothing ends a wait for a lock: one that nobody waits for any more gets the
        // lock in the end, finds no receiver, and lets it go. A parked thread of a runtime's pool would hold up the
        // process's end.
        std::thread::Builder::new()
            .name("lima-runtime-lock".into())
            .spawn(move || {
                let locked = lock(&path, || _ = send.send(None));
                _ = send.send(Some(locked.map(|file| Self { _file: Arc::new(file), path })));
            })
            .map_err(|e| Error::internal(format!("Cannot start a thread: {e}")))?;
        Ok(receive)
    }

    /// Removes the lock's own file, for an uninstall; those who wait see that it is another one and start again.
    pub fn remove_file(&self) -> Result<()> {
        // Elsewhere an open file keeps its name until it is closed, and a new one could not be made.
        if cfg!(unix) { disk::remove(&self.path) } else { Ok(()) }
    }
}

const ENDED: &str = "The thread that waits for the lock ended";

fn lock(path: &Path, taken: impl Fn()) -> Result<File> {
    if let Some(dir) = path.parent() {
        disk::create_dir(dir)?;
    }
    let fail = |e| Error::io(e, "Cannot lock", path).hint("Give this user write access to the directory.");
    loop {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = match file {
            Ok(file) => file,
            // Removed with its directory by an uninstall, between the two calls.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                disk::create_dir(path.parent().unwrap_or(Path::new(".")))?;
                continue;
            }
            Err(e) => return Err(fail(e)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::debug!(path = %path.display(), "waiting for another process");
                taken();
                file.lock().map_err(fail)?;
            }
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        }
        if same_file(&file, path) {
            return Ok(file);
        }
    }
}

/// Whether `path` still names the file we locked: an uninstall may have removed it while we waited.
#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn same_file(_: &File, _: &Path) -> bool {
    true
}

fn locked(path: &Path, after: Duration) -> Error {
    let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    Error::new(ErrorCode::Locked, format!("Another process is at work here: {} was locked for {ms} ms", path.display()))
        .detail("path", path.display().to_string())
        .detail("timeoutMs", ms)
        .hint("Wait until it is done, or pass a larger timeoutMs.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(timeout_ms: u64) -> Call {
        Call { timeout: Some(Duration::from_millis(timeout_ms)), ..Call::default() }
    }

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_then_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/lock");
        let first = Lock::acquire(&path, &Call::default()).await.unwrap();
        let second = tokio::spawn({
            let path = path.clone();
            async move { Lock::acquire(&path, &Call::default()).await }
        });
        let e = Lock::acquire(&path, &call(20)).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Locked);
        assert!(!second.is_finished());
        // A clone holds it, too.
        let clone = first.clone();
        drop(first);
        assert_eq!(Lock::acquire(&path, &call(20)).await.unwrap_err().code(), ErrorCode::Locked);
        drop(clone);
        drop(second.await.unwrap().unwrap());
        Lock::acquire(&path, &call(5_000)).await.unwrap();
    }

    #[tokio::test]
    async fn without_a_holder_no_deadline_is_too_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::acquire(&path, &call(0)).await.unwrap();
        assert_eq!(Lock::acquire(&path, &call(0)).await.unwrap_err().code(), ErrorCode::Locked);
        drop(held);
    }

    #[tokio::test]
    async fn an_aborted_wait_ends_and_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::acquire(&path, &Call::default()).await.unwrap();
        let aborted = Call::default();
        let waiting = tokio::spawn({
            let (path, call) = (path.clone(), aborted.clone());
            async move { Lock::acquire(&path, &call).await.unwrap_err().code() }
        });
        aborted.cancel.cancel();
        // While the lock is held.
        assert_eq!(waiting.await.unwrap(), ErrorCode::Aborted);
        drop(held);
        Lock::acquire(&path, &call(5_000)).await.unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_lock_whose_file_is_removed_is_not_two_locks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::acquire(&path, &Call::default()).await.unwrap();
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { Lock::acquire(&path, &Call::default()).await.unwrap() }
        });
        tokio::task::yield_now().await;
        first.remove_file().unwrap();
        drop(first);
        let second = waiting.await.unwrap();
        assert_eq!(Lock::acquire(&path, &call(20)).await.unwrap_err().code(), ErrorCode::Locked);
        drop(second);
    }
}

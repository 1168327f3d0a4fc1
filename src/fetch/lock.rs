//! One process at a time: a lock on a file, which the operating system frees when its holder dies.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard},
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::disk;
use crate::{
    call::Call,
    error::{Error, ErrorCode, Result},
    mutex::Mutex,
    task,
};

/// Held until the last clone is gone: background work that outlives an aborted call keeps its clone.
#[derive(Clone, Debug)]
pub struct Lock {
    file: Arc<File>,
    path: PathBuf,
}

impl Lock {
    /// Waits for the holder, as long as `call` or else `deadline` allows: `LOCKED` after that, `ABORTED` at its signal.
    /// A free lock is taken at once, however little time is left. `check` sees the directory first.
    pub async fn acquire(path: &Path, check: Check, call: &Call, deadline: Option<Duration>) -> Result<Self> {
        let mut news = queue_up(path, check)?;
        let mut next = async || Ok(news.recv().await.unwrap_or_else(|| Some(Err(Error::internal(ENDED)))));
        let mut found = Call { timeout: None, ..call.clone() }.run(None, next()).await?;
        while found.is_none() {
            found = call.run(deadline, next()).await.map_err(|e| match (e.code(), call.timeout.or(deadline)) {
                (ErrorCode::Timeout, Some(after)) => locked(path, after),
                _ => e,
            })?;
        }
        found.unwrap_or_else(|| Err(Error::internal(ENDED)))
    }

    /// Takes it with others who share it, or alone, if that is possible now; `None` where it is not. Only who wants it alone makes the
    /// file, and nobody its directory: without them it is an error.
    pub fn at_once(path: &Path, how: How) -> io::Result<Option<Self>> {
        loop {
            let file = open(path, how == How::Alone)?;
            let taken = match how {
                How::Shared => file.try_lock_shared(),
                How::Alone => file.try_lock(),
            };
            match taken {
                Ok(()) if same_file(&file, path) => return Ok(Some(Self::of(file, path))),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
    }

    /// Blocks while somebody has it alone.
    pub fn share(path: &Path) -> io::Result<Self> {
        loop {
            let file = open(path, false)?;
            file.lock_shared()?;
            if same_file(&file, path) {
                return Ok(Self::of(file, path));
            }
        }
    }

    fn of(file: File, path: &Path) -> Self {
        Self { file: Arc::new(file), path: path.to_owned() }
    }

    /// Returns when no clone of it is left but this one: nobody reports that.
    pub async fn alone(&self) {
        while Arc::strong_count(&self.file) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Says by the file's time that it was held until now.
    pub fn touch(&self) {
        _ = self.file.set_modified(SystemTime::now());
    }

    /// How long ago its last holder [said](Lock::touch) so; nothing where the clock was set back.
    pub fn unused(&self) -> Duration {
        let said = self.file.metadata().and_then(|meta| meta.modified()).ok();
        said.and_then(|at| at.elapsed().ok()).unwrap_or_default()
    }

    /// As [`task::blocking`]; the lock is held until `work` has ended, even when its caller has left.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let held = self.clone();
        task::blocking(move || {
            let _held = held;
            work()
        })
        .await
    }

    /// Removes the lock's own file, for an uninstall; those who wait see that it is another one and start again.
    pub fn remove_file(&self) -> Result<()> {
        // Elsewhere an open file keeps its name until it is closed, and a new one could not be made.
        if cfg!(unix) { disk::remove(&self.path) } else { Ok(()) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Shared,
    Alone,
}

/// What has to be true of a directory before anything is made in it.
pub type Check = fn(&Path) -> Result<()>;

const ENDED: &str = "The thread that waits for the lock ended";

/// Who waits for one lock in this process. There is a thread for each of these, and no other.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiter>,
    /// The thread has seen that somebody has it.
    taken: bool,
}

/// `None`: somebody holds it.
type Waiter = UnboundedSender<Option<Result<Lock>>>;

static QUEUES: Mutex<BTreeMap<PathBuf, Queue>> = Mutex::new(BTreeMap::new());

fn queues() -> MutexGuard<'static, BTreeMap<PathBuf, Queue>> {
    QUEUES.lock()
}

fn queue_up(path: &Path, check: Check) -> Result<UnboundedReceiver<Option<Result<Lock>>>> {
    let (send, receive) = unbounded_channel();
    let mut queues = queues();
    if let Some(queue) = queues.get_mut(path) {
        if queue.taken {
            _ = send.send(None);
        }
        queue.waiting.retain(|w| !w.is_closed());
        queue.waiting.push_back(send);
        return Ok(receive);
    }
    // A thread of its own: nothing can end a wait for a file's lock, and a thread of the runtime's pool that waits would hold
    // up the end of the process. One is enough for all who wait here.
    std::thread::Builder::new()
        .name("lima-runtime-lock".into())
        .spawn({
            let path = path.to_owned();
            move || serve(&path, check)
        })
        .map_err(|e| Error::internal(format!("Cannot start a thread: {e}")))?;
    queues.insert(path.to_owned(), Queue { waiting: VecDeque::from([send]), taken: false });
    Ok(receive)
}

/// Takes the lock for one waiter after the other, until nobody waits any more. If all have left meanwhile, it is freed.
fn serve(path: &Path, check: Check) {
    let taken = || {
        if let Some(queue) = queues().get_mut(path) {
            queue.taken = true;
            queue.waiting.retain(|waiter| waiter.send(None).is_ok());
        }
    };
    loop {
        let mut got = Some(lock(path, check, taken).map(|file| Lock::of(file, path)));
        let mut queues = queues();
        let Some(queue) = queues.get_mut(path) else { return };
        queue.taken = false;
        while let Some(lock) = got.take()
            && let Some(waiter) = queue.waiting.pop_front()
        {
            // The waiter has left: the lock comes back.
            got = waiter.send(Some(lock)).err().and_then(|e| e.0);
        }
        if queue.waiting.is_empty() {
            queues.remove(path);
            return;
        }
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    disk::open_private(OpenOptions::new().write(true).create(create).truncate(false), path)
}

fn lock(path: &Path, check: Check, taken: impl Fn()) -> Result<File> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let ready = || {
        check(dir)?;
        disk::create_dir(dir)?;
        // Again: somebody may have made it first.
        check(dir)
    };
    ready()?;
    let fail = |e| Error::io(e, "Cannot lock", path).hint("Give this user write access to the directory.");
    loop {
        let file = match open(path, true) {
            Ok(file) => file,
            // Removed with its directory by an uninstall, between the two calls.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                ready()?;
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

    async fn acquire(path: &Path, call: &Call) -> Result<Lock> {
        Lock::acquire(path, |_| Ok(()), call, None).await
    }

    fn call(timeout_ms: u64) -> Call {
        Call { timeout: Some(Duration::from_millis(timeout_ms)), ..Call::default() }
    }

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_then_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/lock");
        let first = acquire(&path, &Call::default()).await.unwrap();
        let second = tokio::spawn({
            let path = path.clone();
            async move { acquire(&path, &Call::default()).await }
        });
        let e = acquire(&path, &call(20)).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Locked);
        assert!(!second.is_finished());
        // A clone holds it, too.
        let clone = first.clone();
        drop(first);
        assert_eq!(acquire(&path, &call(20)).await.unwrap_err().code(), ErrorCode::Locked);
        drop(clone);
        drop(second.await.unwrap().unwrap());
        acquire(&path, &call(5_000)).await.unwrap();
    }

    #[tokio::test]
    async fn without_a_holder_no_deadline_is_too_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = acquire(&path, &call(0)).await.unwrap();
        assert_eq!(acquire(&path, &call(0)).await.unwrap_err().code(), ErrorCode::Locked);
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn the_methods_own_deadline_ends_the_wait_of_a_call_that_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _held = acquire(&path, &Call::default()).await.unwrap();
        let minute = Some(Duration::from_secs(60));
        let e = Lock::acquire(&path, |_| Ok(()), &Call::default(), minute).await.unwrap_err();
        assert_eq!((e.code(), &e.details()["timeoutMs"]), (ErrorCode::Locked, &60_000.into()));
    }

    #[tokio::test]
    async fn who_waits_longest_is_next_and_who_left_gets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = acquire(&path, &Call::default()).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for n in 0..20 {
            let (path, order, call) = (path.clone(), order.clone(), Call::default());
            let cancel = call.cancel.clone();
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            let task = tokio::spawn(async move {
                let wait = acquire(&path, &call);
                let mut wait = std::pin::pin!(wait);
                assert!(futures_util::poll!(&mut wait).is_pending());
                begun.send(()).unwrap();
                let lock = wait.await?;
                order.lock().push(n);
                drop(lock);
                Ok::<_, Error>(())
            });
            has_begun.await.unwrap();
            waiting.push((task, cancel));
        }
        for (_, cancel) in waiting.iter().step_by(2) {
            cancel.cancel();
        }
        for (task, _) in waiting.into_iter().step_by(2) {
            assert_eq!(task.await.unwrap().unwrap_err().code(), ErrorCode::Aborted);
        }
        drop(first);
        let last = acquire(&path, &Call::default()).await.unwrap();
        assert_eq!(*order.lock(), (1..20).step_by(2).collect::<Vec<_>>());
        drop(last);
    }

    #[test]
    fn those_who_share_keep_out_who_wants_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(Lock::at_once(&path, How::Shared).is_err() && !path.exists());
        let at_once = |how| Lock::at_once(&path, how).unwrap();
        drop(at_once(How::Alone).unwrap());
        let (one, other) = (at_once(How::Shared).unwrap(), at_once(How::Shared).unwrap());
        drop(one);
        assert!(at_once(How::Alone).is_none());
        other.touch();
        drop(other);
        let alone = at_once(How::Alone).unwrap();
        assert!(at_once(How::Shared).is_none() && alone.unused() < Duration::from_secs(60));
        alone.file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        assert!(alone.unused() >= Duration::from_secs(3600));
        alone.file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        assert_eq!(alone.unused(), Duration::ZERO);
        let waits = std::thread::spawn({
            let path = path.clone();
            move || Lock::share(&path).unwrap()
        });
        drop(alone);
        drop(waits.join().unwrap());
        assert!(Lock::at_once(&dir.path().join("none/lock"), How::Alone).is_err() && !dir.path().join("none").exists());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nothing_but_a_file_of_ours_is_a_lock() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = dir.path().join("lock");
        drop(acquire(&path, &Call::default()).await.unwrap());
        assert_eq!(mode(&path), 0o600);
        // Of an earlier version: whoever can open it can keep it for ever.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        drop(acquire(&path, &Call::default()).await.unwrap());
        assert_eq!(mode(&path), 0o600);

        let elsewhere = dir.path().join("elsewhere");
        std::fs::write(&elsewhere, "").unwrap();
        std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o644)).unwrap();
        for make in [
            (|path| symlink(path.with_file_name("elsewhere"), path).unwrap()) as fn(&Path),
            |path| symlink(path.with_file_name("new"), path).unwrap(),
            // Opened to write, it waits for a reader.
            |path| rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap(),
            |path| std::fs::create_dir(path).unwrap(),
        ] {
            disk::remove(&path).unwrap();
            make(&path);
            let e = acquire(&path, &call(5_000)).await.unwrap_err();
            assert_eq!((e.code(), e.details()["path"].as_str()), (ErrorCode::PermissionDenied, path.to_str()), "{e}");
        }
        assert!(!dir.path().join("new").exists());
        assert_eq!(mode(&elsewhere), 0o644);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_lock_whose_file_is_removed_is_not_two_locks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = acquire(&path, &Call::default()).await.unwrap();
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { acquire(&path, &Call::default()).await.unwrap() }
        });
        tokio::task::yield_now().await;
        first.remove_file().unwrap();
        drop(first);
        let second = waiting.await.unwrap();
        assert_eq!(acquire(&path, &call(20)).await.unwrap_err().code(), ErrorCode::Locked);
        drop(second);
    }
}

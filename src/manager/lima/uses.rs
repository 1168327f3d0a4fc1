//! Who uses the VM, in this process and in others. Each process with a use holds a shared lock on a file in the instance's
//! directory. A process that stops an unused VM holds the lock alone, so that a use that begins meanwhile waits.

use std::{
    path::Path,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    fetch::lock::{How, Lock},
    mutex::Mutex,
};

/// In the instance's directory.
pub(super) const FILE: &str = "lima-runtime.use";

#[derive(Clone, Default)]
pub(super) struct Uses(Arc<Inner>);

#[derive(Default)]
struct Inner {
    now: Mutex<Now>,
    /// Held while the lock is taken, by one use at a time. In it is the wait for a process that holds the lock alone, which
    /// cannot be cancelled: the next use goes on with it.
    taking: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
    ended: Notify,
    trims: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Now {
    count: usize,
    lock: Option<Lock>,
    /// When the last one ended.
    last: Option<Instant>,
}

/// Dropping it ends the use.
pub(super) struct Using(Arc<Inner>);

impl Uses {
    /// Begins a use; waits while the VM is being stopped as unused. Where no VM was started yet there is no file to lock.
    pub(super) async fn enter(&self, path: &Path) -> Using {
        if let Some(using) = self.join() {
            return using;
        }
        let mut taking = self.0.taking.lock().await;
        loop {
            if let Some(using) = self.join() {
                return using;
            }
            let Ok(None) = Lock::at_once(path, How::Shared).map(|lock| lock.map(|lock| self.now().lock = Some(lock)))
            else {
                self.now().count += 1;
                return Using(self.0.clone());
            };
            let freed = taking.get_or_insert_with(|| freed(path));
            if freed.await.is_err() {
                // There was no thread that could wait.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            *taking = None;
        }
    }

    /// Only where this process has the lock: a use that began before the file existed does not keep others from stopping the VM.
    fn join(&self) -> Option<Using> {
        let mut now = self.now();
        now.lock.is_some().then(|| {
            now.count += 1;
            Using(self.0.clone())
        })
    }

    /// Held while the guest's free space is given back.
    pub(super) fn trims(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.0.trims.clone()
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock()
    }

    /// How many there are in this process, and when the last one ended.
    pub(super) fn here(&self) -> (usize, Option<Instant>) {
        let now = self.now();
        (now.count, now.last)
    }

    /// Returns once the last one has ended, or did since this was called last.
    pub(super) async fn ended(&self) {
        self.0.ended.notified().await;
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        let mut now = self.0.now.lock();
        now.count -= 1;
        if now.count > 0 {
            return;
        }
        if let Some(lock) = now.lock.take() {
            lock.touch();
        }
        now.last = Some(Instant::now());
        drop(now);
        self.0.ended.notify_one();
    }
}

/// Receives once no process holds the lock alone any more.
fn freed(path: &Path) -> oneshot::Receiver<()> {
    let (tell, told) = oneshot::channel();
    let path = path.to_owned();
    // Not one of the runtime's threads: it would hold up the end of the process.
    _ = std::thread::Builder::new().name("lima-runtime-use".into()).spawn(move || {
        _ = Lock::share(&path);
        _ = tell.send(());
    });
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_use_that_begins_while_the_vm_is_stopped_waits_and_one_that_is_given_up_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let uses = Uses::default();
        let alone = || Lock::at_once(&path, How::Alone).unwrap();
        drop(alone().unwrap());
        let (one, other) = (uses.enter(&path).await, uses.enter(&path).await);
        drop(one);
        assert!(alone().is_none() && uses.here() == (1, None));
        drop(other);
        assert!(matches!(uses.here(), (0, Some(_))));
        uses.ended().await;

        // A program that another test starts at this moment may still have the file open.
        let stopping = loop {
            match alone() {
                Some(lock) => break lock,
                None => tokio::task::yield_now().await,
            }
        };
        let (mut given_up, mut waits) = (Box::pin(uses.enter(&path)), Box::pin(uses.enter(&path)));
        assert!(futures_util::poll!(&mut given_up).is_pending() && futures_util::poll!(&mut waits).is_pending());
        drop(given_up);
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(stopping);
        let using = waits.await;
        assert!(uses.here().0 == 1 && alone().is_none());
        drop(using);
        while alone().is_none() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_use_from_before_there_was_a_lock_lets_the_next_one_take_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let uses = Uses::default();
        let before = uses.enter(&path).await;
        drop(Lock::at_once(&path, How::Alone).unwrap());
        let after = uses.enter(&path).await;
        assert!(uses.here().0 == 2 && Lock::at_once(&path, How::Alone).unwrap().is_none());
        drop((before, after));
        // A program that another test starts at this moment may still have the file open.
        while Lock::at_once(&path, How::Alone).unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn without_a_vm_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let uses = Uses::default();
        let using = uses.enter(&dir.path().join("vms/default").join(FILE)).await;
        assert_eq!(uses.here().0, 1);
        drop(using);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }
}

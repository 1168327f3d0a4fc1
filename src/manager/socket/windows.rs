//! A named pipe. Windows lets its maker, the administrators and the system write to it
//! (learn.microsoft.com/windows/win32/ipc/named-pipe-security-and-access-rights), and nobody from another computer reach it.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    net::windows::named_pipe::{NamedPipeServer, ServerOptions},
    sync::Mutex,
};

use crate::{
    error::{Error, Result},
    fetch::disk,
};

pub(super) struct Listener {
    path: PathBuf,
    /// The one that the next client finds.
    waiting: Mutex<Option<NamedPipeServer>>,
}

/// Names of pipes have 256 letters, and ours fewer.
#[expect(clippy::unnecessary_wraps, reason = "as on other systems")]
pub(crate) fn check(_: &Path) -> Result<()> {
    Ok(())
}

/// The directory of the lock.
pub(super) fn prepare(dir: &Path) -> Result<()> {
    disk::create_dir(dir)
}

fn instance(path: &Path, first: bool) -> io::Result<NamedPipeServer> {
    ServerOptions::new().first_pipe_instance(first).reject_remote_clients(true).create(path)
}

impl Listener {
    /// An error where another program has a pipe of that name: it may want to be taken for us.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        let first = instance(path, true).map_err(|e| Error::io(e, "serving", path))?;
        Ok(Self { path: path.to_owned(), waiting: Mutex::new(Some(first)) })
    }

    pub(super) async fn accept(&self) -> io::Result<NamedPipeServer> {
        let mut waiting = self.waiting.lock().await;
        let pipe = match waiting.take() {
            Some(pipe) => pipe,
            None => instance(&self.path, false)?,
        };
        pipe.connect().await?;
        *waiting = instance(&self.path, false).ok();
        Ok(pipe)
    }

    #[expect(clippy::unused_self, reason = "as on other systems")]
    pub(super) fn is_there(&self) -> bool {
        true
    }

    /// It goes with its last handle.
    #[expect(clippy::unused_self, reason = "as on other systems")]
    pub(super) fn take_away(&self) {}
}

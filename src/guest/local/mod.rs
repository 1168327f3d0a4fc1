//! This machine as a guest: containerd on Linux.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use async_trait::async_trait;
use tokio::net::UnixStream;

use super::{Guest, Socket, bridge};
use crate::{
    error::{Error, ErrorCode, Result},
    process::{self, Command, Output, Process, identity::Identity},
    task,
};

#[derive(Debug, Clone)]
pub struct LocalGuest {
    containerd_socket: String,
    /// The process in whose root directory the socket is.
    owner: Option<Identity>,
    /// Only root may open its sockets, and sudo asks for no password.
    by_sudo: bool,
}

/// Programs that write container specifications get no other variable of our environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl LocalGuest {
    pub fn new(containerd_socket: impl Into<String>) -> Self {
        Self { containerd_socket: containerd_socket.into(), owner: None, by_sudo: false }
    }

    /// Its sockets lie in the root directory of process `owner`, addressed through `/proc/<pid>/root`.
    #[must_use]
    pub fn of(self, owner: Identity) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// Goes through sudo when this user may not open the socket.
    pub async fn reaching(containerd_socket: impl Into<String>) -> Self {
        let at = Self::new(containerd_socket);
        let closed = |e: std::io::Error| e.kind() == std::io::ErrorKind::PermissionDenied;
        let by_sudo = UnixStream::connect(&at.containerd_socket).await.is_err_and(closed);
        Self { by_sudo, ..at }
    }

    pub fn is_by_sudo(&self) -> bool {
        self.by_sudo
    }
}

#[async_trait]
impl Guest for LocalGuest {
    async fn run(&self, command: Command) -> Result<Output> {
        self.spawn(command).await?.output().await
    }

    async fn spawn(&self, command: Command) -> Result<Process> {
        let argv = command.full_argv(rustix::process::geteuid().is_root())?;
        let mut argv = argv.into_iter().map(OsString::from_vec);
        let mut child = std::process::Command::new(argv.next().unwrap_or_default());
        child.args(argv).env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").current_dir("/");
        if let Some(home) = home::home_dir() {
            child.env("HOME", home);
        }
        process::spawn(child, command.input, None).await
    }

    async fn connect(&self, path: &str) -> Result<Socket> {
        if self.by_sudo {
            return bridge::connect(self, path, true).await;
        }
        let stream = UnixStream::connect(path).await.map_err(|e| {
            Error::new(ErrorCode::ContainerdNotReady, format!("{path} cannot be opened: {e}"))
                .detail("path", path)
                .hint(match e.kind() {
                    std::io::ErrorKind::PermissionDenied => "Ask for access to it, or run as a user who has it.",
                    _ => "Start containerd, or name the socket of one that runs.",
                })
                .source(e)
        })?;
        // The number was its own during the connect only if it still lives.
        if self.owner.is_some_and(|owner| !owner.lives()) {
            return Err(Error::new(ErrorCode::ContainerdNotReady, format!("{path} is of a containerd that has ended"))
                .detail("path", path));
        }
        Ok(Box::new(stream))
    }

    async fn read_files(&self, paths: &[String], root: bool) -> Result<Vec<Option<Vec<u8>>>> {
        if root && !rustix::process::geteuid().is_root() {
            return super::read_files(self, paths, root).await;
        }
        let paths = paths.to_vec();
        let read = move || Ok(paths.iter().map(|path| std::fs::read(path).ok()).collect());
        task::blocking(read).await
    }

    fn containerd_socket(&self) -> &str {
        &self.containerd_socket
    }
}

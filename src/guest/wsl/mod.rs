//! A WSL2 distribution as a guest, over `wsl.exe`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Guest, Leader, Socket, bridge};
use crate::{
    error::{Error, ErrorCode, Result},
    process::{Chunk, Command, Driver, Exit, Output, Process, TERM_GRACE},
    task,
};

mod frame;
mod program;
pub mod text;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use frame::fuzz;

pub use program::{Wsl, arguments};

/// Cheap to clone.
#[derive(Clone)]
pub struct WslGuest(Arc<Inner>);

struct Inner {
    wsl: Wsl,
    distribution: String,
    containerd_socket: String,
    /// How many of our commands run in it now: as long as there is one, the distribution is up.
    live: AtomicUsize,
}

impl Inner {
    fn stopped(&self) -> Error {
        let text = format!("The WSL distribution {} stopped under a command, or wsl.exe did", self.distribution);
        Error::new(ErrorCode::VmNotRunning, text)
            .detail("distribution", self.distribution.clone())
            .hint("Start it again: startDaemon() or initialize().")
    }
}

impl WslGuest {
    pub fn new(wsl: Wsl, distribution: impl Into<String>, containerd_socket: impl Into<String>) -> Self {
        let (distribution, containerd_socket) = (distribution.into(), containerd_socket.into());
        Self(Arc::new(Inner { wsl, distribution, containerd_socket, live: AtomicUsize::default() }))
    }

    /// `VM_NOT_RUNNING` unless the distribution runs: `wsl.exe` would start it for any command
    /// (docs/reference/wsl.md#starting-by-asking).
    async fn check_running(&self) -> Result<()> {
        if self.0.live.load(Ordering::Relaxed) > 0 || self.0.wsl.running().await?.contains(&self.0.distribution) {
            return Ok(());
        }
        let known = self.0.wsl.distributions().await?.contains(&self.0.distribution);
        Err(if known {
            Error::new(ErrorCode::VmNotRunning, format!("The WSL distribution {} is stopped", self.0.distribution))
                .hint("Start it: startDaemon() or initialize().")
        } else {
            text::error("", "WSL_E_DISTRO_NOT_FOUND")
        }
        .detail("distribution", self.0.distribution.clone()))
    }

    /// The same distribution, which starts for a command when it does not run.
    pub fn booting(&self) -> Booting {
        Booting(self.clone())
    }

    /// Runs `command`; starts the distribution when it does not run.
    pub async fn boot(&self, command: Command) -> Result<Process> {
        let line = frame::line(&command.full_argv(true)?);
        let mark = frame::mark();
        let shell = ["/bin/sh", "-c", frame::SCRIPT, &mark];
        let child = self.0.wsl.start(self.0.wsl.inside(&self.0.distribution, shell)).await?;
        let (process, driver, ended) = Process::driven();
        let (started, answer) = oneshot::channel();
        let session = Session { guest: self.0.clone(), child, filter: frame::Filter::new(&mark) };
        // In a task: dropping this future must not leave a command running.
        task::spawn(session.drive(line, command.input, driver, started, ended));
        answer.await.unwrap_or_else(|_| Err(Error::internal("the task driving a command is gone")))?;
        Ok(process)
    }
}

#[async_trait]
impl Guest for WslGuest {
    async fn run(&self, command: Command) -> Result<Output> {
        self.spawn(command).await?.output().await
    }

    async fn spawn(&self, command: Command) -> Result<Process> {
        // Refuses a command that no program can receive before anything runs.
        command.full_argv(true)?;
        self.check_running().await?;
        self.boot(command).await
    }

    async fn connect(&self, path: &str) -> Result<Socket> {
        bridge::connect(self, path, false).await
    }

    fn containerd_socket(&self) -> &str {
        &self.0.containerd_socket
    }
}

/// Of [`WslGuest::booting`].
#[derive(Clone)]
pub struct Booting(WslGuest);

#[async_trait]
impl Guest for Booting {
    async fn run(&self, command: Command) -> Result<Output> {
        self.0.boot(command).await?.output().await
    }

    async fn spawn(&self, command: Command) -> Result<Process> {
        self.0.boot(command).await
    }

    async fn connect(&self, path: &str) -> Result<Socket> {
        self.0.connect(path).await
    }

    fn containerd_socket(&self) -> &str {
        self.0.containerd_socket()
    }
}

/// One command and the `wsl.exe` that carries it.
struct Session {
    guest: Arc<Inner>,
    child: Process,
    filter: frame::Filter,
}

impl Session {
    async fn drive(
        mut self,
        line: Bytes,
        input: Bytes,
        driver: Driver,
        started: oneshot::Sender<Result<()>>,
        ended: oneshot::Sender<Result<Exit>>,
    ) {
        let begun = tokio::select! {
            begun = self.wait_for_leader() => begun,
            // The guest's shell has no command yet; without its line it ends.
            () = driver.cancel.cancelled() => return,
        };
        match begun {
            Ok(leader) => {
                _ = started.send(Ok(()));
                let guest = self.guest.clone();
                guest.live.fetch_add(1, Ordering::Relaxed);
                let exit = self.run_command(leader, line, input, driver).await;
                guest.live.fetch_sub(1, Ordering::Relaxed);
                _ = ended.send(exit);
            }
            Err(e) => _ = started.send(Err(e)),
        }
    }

    /// The identity of the guest's shell, once it waits for its line; or the error that wsl.exe printed instead.
    async fn wait_for_leader(&mut self) -> Result<Leader> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.child.next().await {
                Some(Chunk::Stdout(data)) => stdout.extend_from_slice(&data),
                Some(Chunk::Stderr(data)) => stderr.extend_from_slice(&self.filter.pass(&data)),
                None => {
                    stderr.extend_from_slice(&self.filter.rest());
                    let said = program::message_of(&Output { exit: Exit::Code(-1), stdout, stderr });
                    // A wsl.exe that fails says why; one that is ended, or whose distribution is, says nothing.
                    if said.is_empty() {
                        return Err(self.guest.stopped());
                    }
                    return Err(text::error("Running a command in the distribution", &said)
                        .detail("distribution", self.guest.distribution.clone()));
                }
            }
            if let Some(leader) = self.filter.leader {
                return Ok(leader);
            }
        }
    }

    async fn run_command(mut self, leader: Leader, line: Bytes, input: Bytes, driver: Driver) -> Result<Exit> {
        let Driver { input: mut more_input, chunks, cancel } = driver;
        let stdin = self.child.stdin.take();
        let feed = async move {
            let Some(stdin) = stdin else { return };
            let mut next = Some(line);
            let mut rest = (!input.is_empty()).then_some(input);
            while let Some(data) = next {
                if stdin.send(data).await.is_err() {
                    return;
                }
                next = match rest.take() {
                    Some(input) => Some(input),
                    None => more_input.recv().await,
                };
            }
        };
        tokio::pin!(feed);
        let mut input_done = false;
        let mut ending: Option<tokio::task::JoinHandle<()>> = None;
        loop {
            let asked = ending.is_some();
            let end = async {
                match &mut ending {
                    Some(task) => _ = task.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                chunk = self.child.next() => match chunk {
                    Some(Chunk::Stdout(data)) => _ = chunks.send(Chunk::Stdout(data)).await,
                    Some(Chunk::Stderr(data)) => {
                        let data = self.filter.pass(&data);
                        if !data.is_empty() {
                            _ = chunks.send(Chunk::Stderr(data)).await;
                        }
                    }
                    None => break,
                },
                () = &mut feed, if !input_done => input_done = true,
                () = cancel.cancelled(), if !asked => {
                    ending = Some(task::spawn(end_group(self.guest.clone(), leader, true)));
                }
                // Whatever is left of the command, we can end wsl.exe.
                () = end => break,
            }
        }
        let rest = self.filter.rest();
        if !rest.is_empty() {
            _ = chunks.send(Chunk::Stderr(rest)).await;
        }
        if let Some(exit) = self.filter.exit {
            return Ok(exit);
        }
        if ending.is_none() {
            // wsl.exe has ended, but the command may go on: end it, since its caller is told that it failed.
            task::spawn(end_group(self.guest.clone(), leader, false));
        }
        Err(self.guest.stopped())
    }
}

/// Ends a command's process group with a second command: `wsl.exe` cannot end what it started
/// (docs/reference/wsl.md#commands-that-go-on). `politely` sends TERM first.
async fn end_group(guest: Arc<Inner>, leader: Leader, politely: bool) {
    // Otherwise the distribution would be started only to find nothing.
    if !guest.wsl.running().await.is_ok_and(|all| all.contains(&guest.distribution)) {
        return;
    }
    let (script, [pid, began, how]) = leader.end(politely);
    let command = guest.wsl.inside(&guest.distribution, ["/bin/sh", "-s", "--", &pid, &began, &how]);
    let work = async {
        let mut shell = guest.wsl.start(command).await?;
        if let Some(stdin) = shell.stdin.take() {
            _ = stdin.send(script.into()).await;
        }
        shell.output().await
    };
    if !matches!(tokio::time::timeout(TERM_GRACE * 5, work).await, Ok(Ok(_))) {
        tracing::warn!(?leader, "a command in the distribution could not be ended");
    }
}

//! A guest behind sshd, reached in process: a spawned ssh costs seventy times as much for each command and cannot end what
//! it started. docs/reference/ssh.md lists what this module guards against. Where the library cannot log in, the ssh
//! program does (`program.rs`).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use russh::{ChannelMsg, Disconnect, Sig};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::{Guest, Leader, Socket};
use crate::{
    error::{Error, ErrorCode, Result},
    process::{Chunk, Command, Driver, Exit, Output, Process, STRAGGLER_GRACE, TERM_GRACE},
    task,
};

mod link;
mod program;
mod quote;
mod target;

use link::{Channel, ConnectError, Handle, Link, Streams, lost};
pub use program::strict;
pub use target::{SshProgram, SshTarget};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use quote::fuzz;

/// sshd allows ten sessions for each connection by default, and counts cancelled ones until they are gone
/// (docs/reference/ssh.md#ten-sessions). Eight leave room for the commands that end others.
const MAX_SESSIONS: usize = 8;

/// Cheap to clone. Connects on first use, and again after each loss.
#[derive(Clone)]
pub struct SshGuest(Arc<Inner>);

struct Inner {
    target: SshTarget,
    commands: Link,
    sessions: Arc<Semaphore>,
    kills: Semaphore,
    streams: Arc<Streams>,
    forwards: program::Forwards,
}

impl SshGuest {
    pub fn new(target: SshTarget) -> Self {
        Self(Arc::new(Inner {
            target,
            commands: Link::default(),
            sessions: Arc::new(Semaphore::new(MAX_SESSIONS)),
            kills: Semaphore::new(1),
            streams: Arc::default(),
            forwards: program::Forwards::default(),
        }))
    }

    /// Whether a connection is up or being made, as far as that is known without asking the guest.
    pub fn is_connected(&self) -> bool {
        self.0.commands.is_up() || self.0.streams.is_up()
    }

    /// Drops all connections but those of commands that stream, which end with their commands: before the guest stops. Does not
    /// wait for a login that is under way.
    pub async fn disconnect(&self) {
        self.0.commands.cancel();
        self.renew().await;
    }

    /// The same after the host slept: a login that is under way may be a new one, and ends first. The next call connects anew.
    pub async fn renew(&self) {
        self.0.streams.close();
        self.0.commands.close().await;
        self.0.forwards.lock().await.clear();
    }

    /// The ssh program, when the library cannot log in. Decided for each call anew: a single answer could come from
    /// anybody.
    async fn program(&self) -> Result<Option<&SshProgram>> {
        let Some(program) = &self.0.target.program else { return Ok(None) };
        match self.0.commands.get(&self.0.target).await {
            Ok(_) => Ok(None),
            Err(ConnectError::Final(e)) => Err(e),
            Err(ConnectError::Unsupported(e)) => {
                tracing::warn!(%e, "the ssh program is used instead");
                Ok(Some(program))
            }
        }
    }

    /// Starts `command` on the shared connection, or on its own.
    async fn start(&self, command: Command, own_connection: bool) -> Result<Process> {
        let line = quote::line(&command.full_argv(self.0.target.user == "root")?)?;
        if let Some(program) = self.program().await? {
            let permit = self.0.session(own_connection).await;
            return program.start(&line, command.input, self.0.sudo(command.root), permit).await;
        }
        let (process, driver, ended) = Process::driven();
        let (started, answer) = oneshot::channel();
        let guest = self.0.clone();
        // In a task: dropping this future must not leave a session open.
        task::spawn(async move {
            let permit = tokio::select! {
                permit = guest.session(own_connection) => permit,
                () = driver.cancel.cancelled() => return,
            };
            // Not cancelled half-way: a session that opens after everybody left would stay open.
            let opened = if own_connection {
                guest.streams.session(&guest.target, &line, &driver.cancel).await
            } else {
                guest.open(&line).await
            };
            let (handle, channel) = match opened {
                Ok(opened) => opened,
                Err(e) => {
                    _ = started.send(Err(e));
                    return;
                }
            };
            _ = started.send(Ok(()));
            let session = Session { guest: &guest, handle: &handle, channel, root: command.root };
            let outcome = session.drive(command.input, driver).await;
            match outcome {
                _ if !own_connection => {}
                Ok(End { clean: true, .. }) => guest.streams.keep(handle),
                _ => _ = handle.disconnect(Disconnect::ByApplication, "", "").await,
            }
            drop(permit);
            _ = ended.send(outcome.map(|end| end.exit));
        });
        answer.await.unwrap_or_else(|_| Err(Error::internal("the task driving a command is gone")))?;
        Ok(process)
    }
}

#[async_trait]
impl Guest for SshGuest {
    async fn run(&self, command: Command) -> Result<Output> {
        self.start(command, false).await?.output().await
    }

    async fn spawn(&self, command: Command) -> Result<Process> {
        self.start(command, true).await
    }

    async fn connect(&self, path: &str) -> Result<Socket> {
        let inner = &self.0;
        if let Some(program) = self.program().await? {
            return program.connect(path, &inner.forwards).await;
        }
        Ok(Box::new(inner.streams.socket(&inner.target, path).await?))
    }

    fn containerd_socket(&self) -> &str {
        &self.0.target.containerd_socket
    }
}

impl Inner {
    fn sudo(&self, root: bool) -> &'static [&'static str] {
        if root && self.target.user != "root" { &["sudo", "-n"] } else { &[] }
    }

    async fn session(&self, own_connection: bool) -> Option<OwnedSemaphorePermit> {
        if own_connection { None } else { self.sessions.clone().acquire_owned().await.ok() }
    }

    /// A session of the shared connection, with `line` running in it.
    async fn open(&self, line: &[u8]) -> Result<(Arc<Handle>, Channel)> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let handle = self.commands.get(&self.target).await?;
            match handle.channel_open_session().await {
                Ok(channel) => {
                    channel.exec(true, line).await.map_err(lost)?;
                    return Ok((handle, channel));
                }
                // sshd counts a closed session until its loop comes round, which it has done by the time the next request
                // arrives.
                Err(russh::Error::ChannelOpenFailure(_)) if attempt < 10 => {}
                Err(russh::Error::ChannelOpenFailure(reason)) => {
                    let text = format!("The guest takes no further command: {reason:?}");
                    return Err(Error::new(ErrorCode::EngineUnreachable, text));
                }
                // The connection had died unnoticed; the guest has not been asked anything yet.
                Err(_) if attempt == 1 => self.commands.forget(&handle).await,
                Err(e) => return Err(lost(e)),
            }
        }
    }
}

struct End {
    exit: Exit,
    /// Nothing of the command is left on the connection.
    clean: bool,
}

struct Session<'a> {
    guest: &'a Inner,
    handle: &'a Handle,
    channel: Channel,
    root: bool,
}

impl Session<'_> {
    async fn drive(self, input: Bytes, driver: Driver) -> Result<End> {
        let Driver { input: mut more_input, chunks, cancel } = driver;
        let Self { guest, handle, channel, root } = self;
        let (mut read, write) = channel.split();
        let write = &write;
        let feed = async {
            // A writer that waits for the window does not notice that the channel closed; it is dropped together with the
            // reader (docs/reference/ssh.md#writers).
            let mut next = Some(input);
            while let Some(data) = next {
                if write.data_bytes(data).await.is_err() {
                    return;
                }
                next = more_input.recv().await;
            }
            _ = write.eof().await;
        };
        tokio::pin!(feed);
        let (mut input_done, mut exit, mut filter) = (false, None, quote::LeaderFilter::default());
        // Set by cancelling: when and how to end a command that has not ended.
        let mut escalation: Option<(Instant, Escalation)> = None;
        // A session of the command that kills may hang.
        let (mut over, mut killed) = (false, false);
        loop {
            let deadline = escalation.as_ref().map(|(at, _)| *at);
            let late = async {
                match (deadline, &exit) {
                    (Some(at), _) => tokio::time::sleep_until(at).await,
                    // The command has ended, but a child may hold its output for ever.
                    (None, Some(_)) => tokio::time::sleep(STRAGGLER_GRACE).await,
                    (None, None) => std::future::pending().await,
                }
            };
            tokio::select! {
                message = read.wait() => match message {
                    // Status, end of file and data arrive in any order; only the channel's end means that nothing more
                    // comes (docs/reference/ssh.md#order-of-messages).
                    None => {
                        over = true;
                        break;
                    }
                    Some(ChannelMsg::Data { data }) => _ = chunks.send(Chunk::Stdout(data)).await,
                    Some(ChannelMsg::ExtendedData { data, .. }) => {
                        let data = filter.pass(data);
                        if !data.is_empty() {
                            _ = chunks.send(Chunk::Stderr(data)).await;
                        }
                        if filter.leader.is_some() && matches!(escalation, Some((_, Escalation::Term))) {
                            escalation = Some(term(write).await);
                        }
                    }
                    Some(ChannelMsg::ExitStatus { exit_status }) => {
                        exit = Some(Exit::Code(i32::try_from(exit_status).unwrap_or(i32::MAX)));
                    }
                    Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                        exit = Some(Exit::Signal(match signal_name {
                            Sig::Custom(name) => name,
                            known => format!("{known:?}"),
                        }));
                    }
                    Some(ChannelMsg::Failure) => {
                        _ = write.close().await;
                        let text = "The guest's SSH server refused to run a command";
                        return Err(Error::new(ErrorCode::PermissionDenied, text));
                    }
                    Some(_) => {}
                },
                () = &mut feed, if !input_done => input_done = true,
                () = cancel.cancelled(), if escalation.is_none() => {
                    // A signal sent before the shell runs reaches nobody (docs/reference/ssh.md#signals-too-early).
                    escalation = Some(match filter.leader {
                        Some(_) => term(write).await,
                        None => (Instant::now() + TERM_GRACE, Escalation::Term),
                    });
                }
                () = late => match escalation.take() {
                    Some((_, Escalation::Term)) if exit.is_none() => escalation = Some(term(write).await),
                    Some((_, Escalation::Kill)) if exit.is_none() => {
                        if let Some(leader) = filter.leader {
                            killed = true;
                            guest.kill(handle, leader, root).await;
                        }
                        escalation = Some((Instant::now() + TERM_GRACE, Escalation::Leave));
                    }
                    _ => break,
                },
            }
        }
        // Without this, sshd counts the session against its limit for ever.
        _ = write.close().await;
        let rest = filter.rest();
        if !rest.is_empty() {
            _ = chunks.send(Chunk::Stderr(rest)).await;
        }
        let exit = exit.ok_or_else(|| lost(russh::Error::Disconnect))?;
        Ok(End { exit, clean: over && !killed })
    }
}

async fn term(write: &russh::ChannelWriteHalf<russh::client::Msg>) -> (Instant, Escalation) {
    _ = write.signal(Sig::TERM).await;
    (Instant::now() + TERM_GRACE, Escalation::Kill)
}

enum Escalation {
    /// Send TERM once the command is known to run.
    Term,
    /// TERM had no effect: a second command sends KILL to the whole process group.
    Kill,
    /// Nothing helped: give the channel up.
    Leave,
}

impl Inner {
    /// Never sends KILL through sshd: it would end sudo and leave its child (docs/reference/ssh.md#cancelling). The process
    /// group holds both.
    async fn kill(&self, handle: &Handle, leader: Leader, root: bool) {
        let Ok(_one_at_a_time) = self.kills.acquire().await else { return };
        let line = quote::ending(leader, false, self.sudo(root));
        let work = async {
            let mut channel = handle.channel_open_session().await?;
            channel.exec(true, line).await?;
            while channel.wait().await.is_some() {}
            channel.close().await
        };
        if !matches!(tokio::time::timeout(TERM_GRACE, work).await, Ok(Ok(()))) {
            tracing::warn!(?leader, "a command in the guest could not be ended");
        }
    }
}

//! A connection of the user's own ssh program that carries sockets: one for all ports of an engine. A login for each would
//! cost a quarter of a second and run into sshd's limits (docs/reference/ssh.md#ports-over-one-connection).

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{net::UnixStream, sync::Mutex};
use tokio_util::task::AbortOnDropHandle;

use super::{
    ssh::{self, SshAddress},
    tunnels::Dialer,
};
use crate::{
    error::{Error, ErrorCode, Result},
    guest::Socket,
    mutex,
    process::{self, Chunk, Process},
    task,
};

/// ssh becomes the shell's process. It reads no input with `-N`, so it would outlive us: what waits at the end of our pipe ends
/// the whole group, and so never a stranger that has got a number of it.
const ENDS_WITH_US: &str = "exec 3<&0; { cat <&3; kill 0; } >/dev/null 2>&1 & exec \"$@\" 3<&- </dev/null";
/// Its control socket, in a directory of its own: ssh interprets `%` in a path.
const CONTROL: &str = "c";
/// How long a login may take.
const LOGIN: Duration = Duration::from_secs(20);
/// How long ssh may take to open a socket here, which asks nobody at the other end.
const ASK: Duration = Duration::from_secs(5);
/// Nothing tells that the control socket is there: how often we look.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// After a login that failed, nobody tries anew for so long.
const PAUSE: Duration = Duration::from_secs(2);
/// What is kept of ssh's words.
const WORDS: usize = 4 << 10;

/// Connects when it is asked, and again when the connection was lost.
pub(super) struct SshLink {
    target: SshAddress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    master: Option<Master>,
    failed: Option<(Instant, ErrorCode, String)>,
}

/// A running ssh.
struct Master {
    dir: tempfile::TempDir,
    /// Each has a socket in `dir`, whose name is its index.
    forwarded: Vec<SocketAddr>,
    running: AbortOnDropHandle<()>,
}

impl SshLink {
    pub(super) fn new(target: SshAddress) -> Self {
        Self { target, state: Mutex::default() }
    }

    async fn renew(&self, state: &mut State) -> Result<()> {
        if let Some((at, code, why)) = &state.failed
            && at.elapsed() < PAUSE
        {
            return Err(Error::new(*code, why.as_str()));
        }
        state.master = None;
        match Master::begin(&self.target).await {
            Ok(master) => *state = State { master: Some(master), failed: None },
            Err(e) => {
                state.failed = Some((Instant::now(), e.code(), e.message().to_owned()));
                return Err(e);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Dialer for SshLink {
    async fn ready(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        match &state.master {
            Some(master) if !master.running.is_finished() => Ok(()),
            _ => self.renew(&mut state).await,
        }
    }

    async fn dial(&self, to: SocketAddr) -> Result<Socket> {
        let mut state = self.state.lock().await;
        if let Some(master) = &mut state.master {
            match master.dial(to).await {
                Ok(socket) => return Ok(socket),
                Err(e) => tracing::debug!(%e, "the ssh connection of the ports is lost"),
            }
        }
        self.renew(&mut state).await?;
        match &mut state.master {
            Some(master) => master.dial(to).await,
            None => Err(Error::internal("the ssh connection vanished")),
        }
    }
}

impl Master {
    async fn begin(target: &SshAddress) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("lr-").tempdir();
        let dir = dir.map_err(|e| Error::io(e, "making a directory in", &std::env::temp_dir()))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ENDS_WITH_US, "sh"]).arg(program()?).arg("-N").current_dir(dir.path());
        for option in [
            // Not those of the user's own settings, which may be shared with their terminals, or taken.
            "ControlMaster=yes",
            &format!("ControlPath={CONTROL}"),
            "ControlPersist=no",
            "ClearAllForwardings=yes",
            // A connection whose other end is gone is noticed.
            "ServerAliveInterval=15",
            "ServerAliveCountMax=3",
        ] {
            command.args(["-o", option]);
        }
        command.args(target.login());
        let ssh = process::spawn(command, Bytes::new(), None).await?;
        let words = Arc::<mutex::Mutex<Vec<u8>>>::default();
        let running = AbortOnDropHandle::new(task::spawn(drain(ssh, words.clone())));
        let master = Self { dir, forwarded: Vec::new(), running };
        let began = Instant::now();
        while !master.path(CONTROL).exists() {
            if master.running.is_finished() || began.elapsed() > LOGIN {
                return Err(unreachable(&words.lock()));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(master)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn dial(&mut self, to: SocketAddr) -> Result<Socket> {
        let known = self.forwarded.iter().position(|known| *known == to);
        let name = known.unwrap_or(self.forwarded.len()).to_string();
        if known.is_none() {
            self.forward(&name, to).await?;
            self.forwarded.push(to);
        }
        let stream = UnixStream::connect(self.path(&name)).await;
        Ok(Box::new(stream.map_err(|e| Error::io(e, "opening a socket of", Path::new("ssh")))?))
    }

    async fn forward(&self, name: &str, to: SocketAddr) -> Result<()> {
        let mut command = Command::new(program()?);
        // No settings: the forwards in them would be asked for, too. Only a path has a slash in it.
        command.args([
            "-F",
            "/dev/null",
            "-S",
            CONTROL,
            "-O",
            "forward",
            "-L",
            &format!("./{name}:{to}"),
            "--",
            "engine",
        ]);
        command.current_dir(self.dir.path());
        let asked = async { process::spawn(command, Bytes::new(), None).await?.output().await };
        match tokio::time::timeout(ASK, asked).await {
            Ok(Ok(output)) if output.success() => Ok(()),
            Ok(Ok(output)) => Err(unreachable(&output.stderr)),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(unreachable(b"it does not answer")),
        }
    }
}

/// Holds the program until it ends or the task does.
async fn drain(mut ssh: Process, words: Arc<mutex::Mutex<Vec<u8>>>) {
    while let Some(chunk) = ssh.next().await {
        if let Chunk::Stderr(data) = chunk {
            tracing::debug!(said = %String::from_utf8_lossy(&data).trim(), "ssh");
            let mut words = words.lock();
            let room = WORDS - words.len().min(WORDS);
            words.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
}

fn program() -> Result<PathBuf> {
    ssh::program().map_err(|e| Error::new(ErrorCode::NotInstalled, e.to_string()).hint("Install OpenSSH's client."))
}

fn unreachable(words: &[u8]) -> Error {
    let words = String::from_utf8_lossy(words);
    let last = words.trim().lines().last().unwrap_or("it ended or waits without a word");
    Error::new(ErrorCode::EngineUnreachable, format!("ssh cannot carry ports: {last}"))
}

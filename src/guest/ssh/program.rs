//! The ssh program, for a guest that the library cannot log in to because it does not know a cipher or the user's key. Each
//! command costs a login, some seventy times as much. The program exits with 255 both when a signal ended the command and
//! when the connection was lost (docs/reference/ssh.md#the-ssh-program).

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    net::UnixStream,
    sync::{Mutex, OwnedSemaphorePermit, mpsc, watch},
};

use super::{link::CONNECT_TIMEOUT, quote, target::SshProgram};
use crate::{
    env_vars,
    error::{Error, ErrorCode, Result},
    guest::{Leader, Socket},
    process::{self, Chunk, Driver, Exit, Process},
    task,
};

/// Options that override Lima's own configuration, which trusts whoever answers at the port. The file is named relative to
/// the program's working directory, since ssh interprets quotes and `%` in a path.
pub fn strict(host: &str, known_hosts: &str) -> Vec<String> {
    [
        "NoHostAuthenticationForLocalhost=no",
        "StrictHostKeyChecking=yes",
        "HostKeyAlgorithms=ssh-ed25519",
        "UpdateHostKeys=no",
        "GlobalKnownHostsFile=/dev/null",
        &format!("UserKnownHostsFile={known_hosts}"),
        &format!("HostKeyAlias={host}"),
    ]
    .iter()
    .flat_map(|option| ["-o".to_owned(), (*option).to_owned()])
    .collect()
}

/// Sockets of the guest that an ssh process forwards to this machine.
pub(super) type Forwards = Mutex<Vec<Forward>>;

pub(super) struct Forward {
    path: String,
    dir: tempfile::TempDir,
    ssh: Process,
}

/// Nothing signals that the forwarded socket exists: how often we look.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl SshProgram {
    /// A separate login, with an empty environment.
    fn command(&self, more: &[&OsStr]) -> std::process::Command {
        let mut ssh = std::process::Command::new(env_vars::ssh());
        let (dir, known_hosts) = (self.known_hosts.parent(), self.known_hosts.file_name().unwrap_or_default());
        ssh.env_clear().current_dir(dir.unwrap_or(Path::new("/"))).arg("-F").arg(&self.config);
        ssh.args(strict(&self.host, &known_hosts.to_string_lossy()));
        for name in ["PATH", "HOME"] {
            ssh.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        for option in [
            // Not through Lima's master connection: a live one allows few sessions, a dead one prints noise.
            "ControlMaster=no",
            "ControlPath=none",
            "LogLevel=ERROR",
            "BatchMode=yes",
            "ServerAliveInterval=5",
            "ExitOnForwardFailure=yes",
            &format!("ConnectTimeout={}", CONNECT_TIMEOUT.as_secs()),
        ] {
            ssh.args(["-o", option]);
        }
        ssh.args(more);
        ssh
    }

    async fn run(&self, line: &[u8], input: Bytes) -> Result<Process> {
        let words = ["-T", &self.host, "--"].map(OsStr::new);
        process::spawn(self.command(&[&words[..], &[OsStr::from_bytes(line)]].concat()), input, None).await
    }

    /// Runs `line`, which first reports its process number. `permit` is returned when it has ended.
    pub(super) async fn start(
        &self,
        line: &[u8],
        input: Bytes,
        sudo: &'static [&'static str],
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Process> {
        let mut ssh = self.run(line, input).await?;
        let (mut process, Driver { chunks, cancel, .. }, ended) = Process::driven();
        process.stdin = ssh.stdin.take();
        let this = self.clone();
        task::spawn(async move {
            let _permit = permit;
            let (found, leader) = watch::channel(None);
            let mut filter = quote::LeaderFilter::default();
            let pump = async {
                while let Some(chunk) = ssh.next().await {
                    let chunk = match chunk {
                        Chunk::Stderr(data) => Chunk::Stderr(filter.pass(data)),
                        stdout @ Chunk::Stdout(_) => stdout,
                    };
                    found.send_if_modified(|known| std::mem::replace(known, filter.leader) != filter.leader);
                    if !matches!(&chunk, Chunk::Stderr(data) if data.is_empty()) {
                        _ = chunks.send(chunk).await;
                    }
                }
            };
            let given_up = async {
                cancel.cancelled().await;
                this.end(leader, sudo).await;
            };
            tokio::select! {
                () = pump => {}
                () = given_up => return,
            }
            let rest = filter.rest();
            let exit = match ssh.exit().await {
                Ok(Exit::Code(255)) if filter.leader.is_none() => Err(unreachable(&rest)),
                other => {
                    if !rest.is_empty() {
                        _ = chunks.send(Chunk::Stderr(rest)).await;
                    }
                    other
                }
            };
            _ = ended.send(exit);
        });
        Ok(process)
    }

    /// Ending ssh here does not end the command there: a second command ends its process group.
    async fn end(&self, mut leader: watch::Receiver<Option<Leader>>, sudo: &[&str]) {
        let Ok(Ok(Some(leader))) =
            tokio::time::timeout(CONNECT_TIMEOUT, leader.wait_for(Option::is_some)).await.map(|r| r.map(|l| *l))
        else {
            return;
        };
        if let Ok(killer) = self.run(&quote::ending(leader, true, sudo), Bytes::new()).await {
            _ = killer.output().await;
        }
    }

    /// Connects through an ssh forward, made once for each path (docs/reference/ssh.md#forwarded-sockets).
    pub(super) async fn connect(&self, path: &str, forwards: &Forwards) -> Result<Socket> {
        // For a missing socket ssh would close the connection without a message.
        let check = quote::line(&["test", "-w", path].map(|word| word.as_bytes().to_vec()))?;
        if !self.start(&check, Bytes::new(), &[], None).await?.output().await?.success() {
            let text = format!("The guest cannot open {path}");
            return Err(Error::new(ErrorCode::ContainerdNotReady, text).detail("path", path));
        }
        {
            let mut forwards = forwards.lock().await;
            forwards.retain_mut(|f| f.ssh.output.try_recv() != Err(mpsc::error::TryRecvError::Disconnected));
            if let Some(forward) = forwards.iter().find(|f| f.path == path)
                && let Ok(stream) = UnixStream::connect(forward.socket()).await
            {
                return Ok(Box::new(stream));
            }
        }
        // Not under the lock: who disconnects does not wait for a login.
        let forward = self.forward(path).await?;
        let stream = UnixStream::connect(forward.socket()).await;
        forwards.lock().await.push(forward);
        Ok(Box::new(stream.map_err(|e| Error::io(e, "opening a socket of", Path::new("ssh")))?))
    }

    async fn forward(&self, path: &str) -> Result<Forward> {
        let made = || tempfile::Builder::new().prefix("lr-").tempdir();
        let dir = made().map_err(|e| Error::io(e, "making a directory in", &std::env::temp_dir()))?;
        let mut spec = dir.path().join("s").into_os_string();
        spec.push(":");
        spec.push(path);
        let words = [OsStr::new("-N"), OsStr::new("-L"), &spec, OsStr::new(&self.host)];
        let ssh = process::spawn(self.command(&words), Bytes::new(), None).await?;
        let mut forward = Forward { path: path.to_owned(), dir, ssh };
        let began = Instant::now();
        while !forward.socket().exists() {
            match forward.ssh.output.try_recv() {
                Ok(Chunk::Stderr(words)) => return Err(unreachable(&words)),
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(unreachable(b"")),
                _ if began.elapsed() > CONNECT_TIMEOUT => return Err(unreachable(b"no answer")),
                _ => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
        Ok(forward)
    }
}

impl Forward {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }
}

fn unreachable(stderr: &[u8]) -> Error {
    let stderr = String::from_utf8_lossy(stderr);
    let last = stderr.trim().lines().last().unwrap_or("it ended without a word");
    let e = if last.contains("Permission denied") {
        let hint = "The VM's SSH settings were changed. Recreate the VM.";
        Error::new(ErrorCode::VmBroken, format!("The guest does not let us in: {last}")).hint(hint)
    } else {
        Error::new(ErrorCode::VmNotRunning, format!("ssh cannot reach the guest: {last}"))
    };
    e.detail("stderr", stderr.trim())
}

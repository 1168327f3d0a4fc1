//! Children of this process. `tokio::process` reaps through its own SIGCHLD handler, which conflicts with Node's
//! (docs/reference/node-api.md#children); here a thread waits for each child.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Stdio},
};

use bytes::Bytes;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::net::unix::pipe;

use super::{
    pipes::{self, Pipes},
    program::{Driver, Exit, Hold, Process, TERM_GRACE, could_not_start, named},
};
use crate::{
    error::{Error, Result},
    task,
};

/// Bytes, for a thread that makes one call.
const WAITING_STACK: usize = 64 << 10;

/// Starts `command` in a process group of its own, all three streams piped.
pub async fn spawn(mut command: std::process::Command, input: Bytes, hold: Option<Hold>) -> Result<Process> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    let what = named(&command);
    tracing::debug!(what, "a program starts");
    // Forking a large process is slow. A caller who leaves meanwhile drops the `Group`, which ends it.
    let group = tokio::task::spawn_blocking(move || command.spawn().map(Group))
        .await
        .map_err(|e| Error::internal("starting a program failed").source(e))?
        .map_err(|e| could_not_start(&program, e))?;
    let (process, driver, ended) = Process::driven();
    task::spawn(async move {
        let exit = drive(group, input, driver).await;
        tracing::debug!(what, ?exit, "a program ended");
        drop(hold);
        _ = ended.send(exit.map_err(|e| Error::internal(format!("running {program} failed: {e}")).source(e)));
    });
    Ok(process)
}

/// The leader of a process group. Its number is not reused until it is reaped.
struct Group(Child);

impl Group {
    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw)
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid() else { return };
        if rustix::process::kill_process_group(pid, signal) == Err(rustix::io::Errno::PERM) {
            // It runs as root through sudo: only root can end it.
            let name = if signal == Signal::KILL { "KILL" } else { "TERM" };
            let group = format!("-{}", pid.as_raw_nonzero());
            _ = std::process::Command::new("sudo")
                .args(["-n", "kill", "-s", name, "--", &group])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::KILL);
        _ = self.0.wait();
    }
}

async fn drive(mut group: Group, input: Bytes, driver: Driver) -> io::Result<Exit> {
    let cancel = driver.cancel.clone();
    let pipes = (group.0.stdin.take(), group.0.stdout.take(), group.0.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(io::Error::other("a stream is missing")) };
    let stdin = pipe::Sender::from_owned_fd(OwnedFd::from(stdin))?;
    let stdout = pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?;
    let stderr = pipe::Receiver::from_owned_fd(OwnedFd::from(stderr))?;
    let pid = group.pid().ok_or_else(|| io::Error::other("no process number"))?;
    let group = std::sync::Arc::new(group);

    let exited = async {
        let mut exited = std::pin::pin!(ended(pid));
        let send = |signal| {
            let group = group.clone();
            tokio::task::spawn_blocking(move || group.signal(signal))
        };
        let ended = tokio::select! {
            ended = &mut exited => ended,
            () = cancel.cancelled() => {
                _ = send(Signal::TERM).await;
                let in_time = tokio::time::timeout(TERM_GRACE, &mut exited).await;
                // In time, too: ends what the leader left in its group.
                _ = send(Signal::KILL).await;
                match in_time {
                    Ok(ended) => ended,
                    Err(_) => exited.await,
                }
            }
        };
        // Where there is no such child any more, the number may be another's.
        let is_ours = |e: &io::Error| e.raw_os_error() != Some(rustix::io::Errno::CHILD.raw_os_error());
        if ended.as_ref().is_err_and(is_ours) {
            // Nobody would notice its end.
            _ = send(Signal::KILL).await;
        }
        ended
    };
    pipes::carry(Pipes { stdin, stdout, stderr }, input, driver, exited).await?;
    // The signals have been sent: no other owner is left.
    let mut group = std::sync::Arc::into_inner(group).ok_or_else(|| io::Error::other("the child is still in use"))?;
    let status = group.0.wait()?;
    Ok(status.code().map_or_else(|| Exit::Signal(name(status.signal().unwrap_or_default())), Exit::Code))
}

/// Resolves once a child of this process has ended. It is not reaped: the number stays taken while somebody may still send a
/// signal to it. A thread of its own waits: of those of the runtime that may block there are 512, and each log that is followed
/// may be a program.
pub async fn ended(pid: Pid) -> io::Result<()> {
    let (ended, end) = tokio::sync::oneshot::channel();
    let wait = move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let done = loop {
            match rustix::process::waitid(WaitId::Pid(pid), options) {
                Err(rustix::io::Errno::INTR) => {}
                done => break done,
            }
        };
        _ = ended.send(done.map(drop));
    };
    std::thread::Builder::new().name("lima-runtime-child".into()).stack_size(WAITING_STACK).spawn(wait)?;
    Ok(end.await.map_err(io::Error::other)??)
}

fn name(signal: i32) -> String {
    const NAMES: [(Signal, &str); 12] = [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::ILL, "ILL"),
        (Signal::ABORT, "ABRT"),
        (Signal::BUS, "BUS"),
        (Signal::FPE, "FPE"),
        (Signal::KILL, "KILL"),
        (Signal::SEGV, "SEGV"),
        (Signal::PIPE, "PIPE"),
        (Signal::ALARM, "ALRM"),
        (Signal::TERM, "TERM"),
    ];
    NAMES.iter().find(|(s, _)| s.as_raw() == signal).map_or_else(|| signal.to_string(), |(_, n)| (*n).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cat() -> std::process::Command {
        std::process::Command::new("cat")
    }

    #[test]
    fn programs_that_run_on_let_others_start() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build().unwrap();
        runtime.block_on(async {
            let mut waiting = Vec::new();
            for _ in 0..5 {
                waiting.push(spawn(cat(), Bytes::new(), None).await.unwrap());
            }
            let said = spawn(cat(), Bytes::from_static(b"last"), None).await.unwrap().output().await.unwrap();
            assert_eq!(said.stdout, b"last");
            for one in waiting {
                one.end().await;
            }
        });
    }

    #[tokio::test]
    async fn its_end_is_seen_and_it_is_left_to_be_reaped() {
        let mut child = cat().stdin(Stdio::piped()).spawn().unwrap();
        let mut end = std::pin::pin!(ended(Pid::from_child(&child)));
        assert!(futures_util::poll!(&mut end).is_pending());
        drop(child.stdin.take());
        end.await.unwrap();
        assert!(child.wait().unwrap().success());
        assert!(ended(Pid::from_child(&child)).await.is_err(), "it is nobody's child any more");
    }
}

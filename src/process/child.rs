//! Children of this process. `tokio::process` reaps through its own SIGCHLD handler, which conflicts with Node's
//! (docs/reference/node-api.md#children); here a blocking thread waits for each child.

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
    program::{Driver, Exit, Hold, Process, TERM_GRACE, could_not_start},
};
use crate::{
    error::{Error, Result},
    task,
};

/// Starts `command` in a process group of its own, all three streams piped.
pub async fn spawn(mut command: std::process::Command, input: Bytes, hold: Option<Hold>) -> Result<Process> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    // Forking a large process is slow. A caller who leaves meanwhile drops the `Group`, which ends it.
    let group = tokio::task::spawn_blocking(move || command.spawn().map(Group))
        .await
        .map_err(|e| Error::internal("starting a program failed").source(e))?
        .map_err(|e| could_not_start(&program, e))?;
    let (process, driver, ended) = Process::driven();
    task::spawn(async move {
        let exit = drive(group, input, driver).await;
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
        // Not reaped here: the number stays taken while somebody may still send a signal to it.
        let wait = move || loop {
            match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(rustix::io::Errno::INTR) => {}
                _ => return,
            }
        };
        let mut exited = tokio::task::spawn_blocking(wait);
        let send = |signal| {
            let group = group.clone();
            tokio::task::spawn_blocking(move || group.signal(signal))
        };
        tokio::select! {
            _ = &mut exited => {}
            () = cancel.cancelled() => {
                _ = send(Signal::TERM).await;
                if tokio::time::timeout(TERM_GRACE, &mut exited).await.is_err() {
                    _ = send(Signal::KILL).await;
                    _ = exited.await;
                } else {
                    // Ends what the leader left in its group.
                    _ = send(Signal::KILL).await;
                }
            }
        }
    };
    pipes::carry(Pipes { stdin, stdout, stderr }, input, driver, exited).await;
    // The waiting thread and the signals have finished: no other owner is left.
    let mut group = std::sync::Arc::into_inner(group).ok_or_else(|| io::Error::other("the child is still in use"))?;
    let status = group.0.wait()?;
    Ok(status.code().map_or_else(|| Exit::Signal(name(status.signal().unwrap_or_default())), Exit::Code))
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

//! Children of this process on Windows, which has no SIGCHLD to conflict over and no TERM: a dropped child ends at once.

use std::{io, process::Stdio};

use bytes::Bytes;
use tokio::process::Child;

use super::{
    pipes::{self, Pipes},
    program::{Driver, Exit, Hold, Process, could_not_start, named},
};
use crate::{
    error::{Error, Result},
    task,
};

/// Without it a console window appears for a graphical program.
const CREATE_NO_WINDOW: u32 = 0x0800_0000;

/// Starts `command` with all three streams piped.
pub async fn spawn(mut command: std::process::Command, input: Bytes, hold: Option<Hold>) -> Result<Process> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    std::os::windows::process::CommandExt::creation_flags(&mut command, CREATE_NO_WINDOW);
    let program = command.get_program().to_string_lossy().into_owned();
    let what = named(&command);
    tracing::debug!(what, "a program starts");
    let child =
        tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(|e| could_not_start(&program, e))?;
    let (process, driver, ended) = Process::driven();
    task::spawn(async move {
        let exit = drive(child, input, driver).await;
        tracing::debug!(what, ?exit, "a program ended");
        drop(hold);
        _ = ended.send(exit.map_err(|e| Error::internal(format!("running {program} failed: {e}")).source(e)));
    });
    Ok(process)
}

async fn drive(mut child: Child, input: Bytes, driver: Driver) -> io::Result<Exit> {
    let cancel = driver.cancel.clone();
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(io::Error::other("a stream is missing")) };
    let exited = async {
        tokio::select! {
            status = child.wait() => return status,
            () = cancel.cancelled() => {}
        }
        child.start_kill()?;
        child.wait().await
    };
    let status = pipes::carry(Pipes { stdin, stdout, stderr }, input, driver, exited).await?;
    Ok(status.code().map_or_else(|| Exit::Signal("KILL".into()), Exit::Code))
}

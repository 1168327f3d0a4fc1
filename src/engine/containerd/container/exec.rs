//! Processes beside a container's own, by `nerdctl exec`, since containerd's own streams end in the guest
//! (docs/reference/containerd.md#streams-of-a-process): its client is the process's stand-in, and what ends it ends
//! the process. Its own exit code says nothing; its last line does
//! (docs/reference/nerdctl.md#exit-code-of-exec).

use std::{io, pin::Pin, sync::atomic::Ordering, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::AsyncWrite,
    sync::{mpsc, watch},
};
use tokio_util::{
    io::{CopyToBytes, SinkWriter},
    sync::{CancellationToken, PollSender},
};

use super::super::{
    nerdctl::{
        errors::{self},
        variables,
    },
    prelude::*,
};
use super::find::{invalid_state, running};
use crate::{
    engine::Attached,
    process::{Chunk, Exit, Output},
};

/// How long a container that is being killed may be said to run.
const DYING: Duration = Duration::from_secs(2);
/// Of those that nobody asks for.
const KEPT: usize = 1000;

pub(crate) async fn attach(c: &Containerd, id: &str) -> Result<Attached> {
    let (container, _) = running(c, id).await?;
    let command = c.nerdctl.command(["attach", "--detach-keys=", &container.id]);
    let begun = CancellationToken::new();
    begun.cancel();
    let (_, attached) = attached(c, &container.id, command, begun).await?;
    Ok(attached)
}

pub(crate) async fn exec(
    c: &Containerd,
    id: &str,
    argv: &[String],
    options: &ExecOptions,
) -> Result<(String, Attached)> {
    let (container, _) = running(c, id).await?;
    let mut args = vec!["exec".to_owned(), "--interactive".into()];
    args.extend(options.tty.then(|| "--tty".to_owned()));
    args.extend(variables::flags(&options.env)?);
    args.extend(options.workdir.iter().map(|d| format!("--workdir={d}")));
    args.extend(options.user.iter().map(|u| format!("--user={u}")));
    // nerdctl swallows one `--`, and only the first (docs/reference/nerdctl.md#double-dash).
    args.extend([container.id.clone(), "--".into()]);
    args.extend(argv.iter().cloned());
    // nerdctl loses an end of input that comes before its process runs, and does not say when it does
    // (docs/reference/nerdctl.md#input-of-exec): the next start of an exec in this container is ours, since one begins
    // at a time.
    let turn = c.execs.turn.clone().lock_owned().await;
    let mut events = c.events_of(&container.id).await?;
    let begun = CancellationToken::new();
    let exec =
        attached(c, &container.id, variables::with(c.nerdctl.command(args), &options.env), begun.clone()).await?;
    task::spawn(async move {
        let started = async {
            while let Some(Ok(event)) = events.next().await {
                if event.action == "exec_start" {
                    return;
                }
            }
        };
        tokio::select! {
            () = started => begun.cancel(),
            () = begun.cancelled() => {}
        }
        drop(turn);
    });
    Ok(exec)
}

/// The end of input is passed on when `begun` is cancelled; the process's own end cancels it too.
async fn attached(
    c: &Containerd,
    id: &str,
    command: crate::process::Command,
    begun: CancellationToken,
) -> Result<(String, Attached)> {
    let mut process = c.nerdctl.spawn(command).await?;
    let stdin = process.stdin.take().map(|stdin| {
        let (send, mut input) = mpsc::channel(1);
        let begun = begun.clone();
        task::spawn(async move {
            while let Some(data) = input.recv().await {
                if stdin.send(data).await.is_err() {
                    return;
                }
            }
            begun.cancelled().await;
        });
        send
    });
    let (ended, code) = watch::channel(None);
    let exec = c.execs.last.fetch_add(1, Ordering::Relaxed).to_string();
    {
        let mut codes = c.execs.codes.lock();
        if codes.len() >= KEPT {
            codes.retain(|_, code| code.borrow().is_none() && code.has_changed().is_ok());
        }
        codes.insert(exec.clone(), code);
    }
    let (c, id) = (c.clone(), id.to_owned());
    let output = task::stream(move |out| async move {
        let _over = begun.drop_guard();
        let mut held = LastLine::default();
        while let Some(chunk) = process.next().await {
            let chunk = match chunk {
                Chunk::Stdout(data) => OutputChunk { stream: OutputStream::Stdout, data },
                Chunk::Stderr(data) => OutputChunk { stream: OutputStream::Stderr, data: held.pass(&data) },
            };
            if !chunk.data.is_empty() {
                out.put(chunk).await?;
            }
        }
        let exit = process.exit().await?;
        let (code, rest) = match verdict(&exit, held.held.freeze()) {
            Verdict::Ended(code, rest) => (code, rest),
            Verdict::Failed(stderr) => {
                let error =
                    errors::refusal(About::Container(&id), &Output { exit, stdout: vec![], stderr: stderr.into() });
                // Between the look at it and the exec, the container ended; runc may know it before containerd says so.
                let mut gone = !matches!(c.api.task(&id).await, Ok(Some(t)) if t.state == ContainerState::Running);
                if !gone && ["setns", "namespace path"].iter().any(|word| error.message().contains(word)) {
                    gone = tokio::time::timeout(DYING, c.api.wait(&id)).await.is_ok();
                }
                return Err(if gone && error.code() == ErrorCode::EngineError {
                    invalid_state(&id, "is not running").source(error)
                } else {
                    error
                });
            }
        };
        ended.send_replace(Some(code));
        if !rest.is_empty() {
            out.put(OutputChunk { stream: OutputStream::Stderr, data: rest }).await?;
        }
        Ok(())
    });
    let input: Pin<Box<dyn AsyncWrite + Send>> = match stdin {
        Some(stdin) => {
            let sink = PollSender::new(stdin).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
            Box::pin(SinkWriter::new(CopyToBytes::new(sink)))
        }
        None => Box::pin(tokio::io::sink()),
    };
    Ok((exec, Attached { output, input }))
}

/// Standard error without nerdctl's last words, which are held back until it is known whether they are.
#[derive(Default)]
struct LastLine {
    held: BytesMut,
}

const WORDS: &[u8] = b"time=\"";
/// nerdctl's are no longer than an argument vector; what is, the process says.
const LONGEST: usize = 256 << 10;

impl LastLine {
    /// What certainly is the process's: everything but a last line that may be nerdctl's.
    fn pass(&mut self, data: &[u8]) -> Bytes {
        self.held.extend_from_slice(data);
        let body = self.held.strip_suffix(b"\n").map_or(self.held.len(), <[u8]>::len);
        let line = self.held[..body].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let last = &self.held[line..];
        let may_be = last.starts_with(WORDS) || WORDS.starts_with(last);
        // The process's own output may end without a newline right before them.
        let inside = last.windows(WORDS.len()).rposition(|w| w == WORDS).map(|at| line + at);
        let cut = if may_be { line } else { inside.unwrap_or(self.held.len()) };
        let cut = if self.held.len() - cut > LONGEST { self.held.len() } else { cut };
        self.held.split_to(cut).freeze()
    }
}

enum Verdict {
    Ended(i64, Bytes),
    /// nerdctl could not run it.
    Failed(Bytes),
}

fn verdict(exit: &Exit, last: Bytes) -> Verdict {
    let text = String::from_utf8_lossy(&last);
    let said = errors::fault(text.trim_end_matches('\n'));
    match (exit, said) {
        (Exit::Code(0), _) => Verdict::Ended(0, last),
        (Exit::Code(_), Some(said)) => {
            if let Some(code) = said.strip_prefix("exec failed with exit code ").and_then(|c| c.trim().parse().ok()) {
                return Verdict::Ended(code, Bytes::new());
            }
            // Before containerd 2, `: unknown` follows (docs/reference/nerdctl.md#errors-of-exec).
            let of_runc = |words: &str| said.contains("OCI runtime exec failed") && said.contains(words);
            // Not of the program: the container ended while the exec began.
            let too_late = of_runc("namespace path: lstat /proc/");
            // Of the caller's own arguments.
            if of_runc("chdir to cwd") {
                return Verdict::Failed(last);
            }
            if said.contains("executable file not found") || of_runc("no such file or directory") && !too_late {
                return Verdict::Ended(127, format!("{said}\n").into());
            }
            if of_runc("permission denied") || of_runc("is a directory") {
                return Verdict::Ended(126, format!("{said}\n").into());
            }
            Verdict::Failed(last)
        }
        _ => Verdict::Failed(last),
    }
}

pub(crate) async fn end(c: &Containerd, exec: &str) -> Result<ExecEnd> {
    let code = c.execs.codes.lock().remove(exec);
    let unknown =
        || Error::new(ErrorCode::InvalidState, "The process ended and left no exit code").detail("exec", exec);
    let mut code = code.ok_or_else(unknown)?;
    let ended = code.wait_for(Option::is_some).await.map_err(|_| unknown())?;
    ended.map(|exit_code| ExecEnd { exit_code, began: true }).ok_or_else(unknown)
}

/// nerdctl's client is no terminal: it has no size to pass on (docs/reference/nerdctl.md#signals-to-exec).
pub(crate) async fn resize(c: &Containerd, exec: &str, _columns: u16, _rows: u16) -> Result<()> {
    let known = c.execs.codes.lock().contains_key(exec);
    if known { Ok(()) } else { Err(Error::new(ErrorCode::InvalidState, "The process has ended").detail("exec", exec)) }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let mut last = LastLine::default();
    let mut out: Vec<u8> = data.chunks(7).flat_map(|piece| last.pass(piece)).collect();
    let held = last.held.freeze();
    out.extend_from_slice(&held);
    assert_eq!(out, data);
    let code = data.first().copied().unwrap_or_default();
    verdict(&Exit::Code(code.into()), held);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(parts: &[&str]) -> (String, String) {
        let mut held = LastLine::default();
        let out: Vec<u8> = parts.iter().flat_map(|p| held.pass(p.as_bytes())).collect();
        (String::from_utf8(out).unwrap(), String::from_utf8(held.held.to_vec()).unwrap())
    }

    #[test]
    fn nerdctls_last_words_are_told_from_the_processs() {
        let words = "time=\"2026-11-23T13:37:02Z\" level=fatal msg=\"exec failed with exit code 7\"\n";
        assert_eq!(passed(&["err\n", words]), ("err\n".into(), words.into()));
        assert_eq!(passed(&["no newline", words]), ("no newline".into(), words.into()));
        let (out, held) = passed(&["err\nti", "me=\"2026", &words[10..]]);
        assert_eq!((out.as_str(), held.as_str()), ("err\n", words));
        assert_eq!(passed(&[words, "more\n"]), (format!("{words}more\n"), String::new()));
        let endless = "x".repeat(LONGEST);
        assert_eq!(passed(&[&words[..10], &endless]), (format!("{}{endless}", &words[..10]), String::new()));
        assert!(matches!(verdict(&Exit::Code(1), words.into()), Verdict::Ended(7, rest) if rest.is_empty()));
        assert!(matches!(verdict(&Exit::Code(0), words.into()), Verdict::Ended(0, rest) if rest == words.as_bytes()));
    }

    #[test]
    fn what_is_missing_is_the_program_or_the_container() {
        let level =
            |msg: &str| format!("time=\"2026-11-26T10:12:02Z\" level=fatal msg=\"OCI runtime exec failed: {msg}\"\n");
        let missing = level("exec failed: unable to start container process: exec: stat /x: no such file or directory");
        assert!(matches!(verdict(&Exit::Code(1), missing.into()), Verdict::Ended(127, _)));
        // containerd 1.6 with runc 1.1, of a container killed as the exec began.
        let ended = level(
            "exec failed: unable to create new parent process: namespace path: lstat /proc/6680/ns/ipc: no such file or \
             directory: unknown",
        );
        assert!(matches!(verdict(&Exit::Code(1), ended.into()), Verdict::Failed(_)));
    }
}

//! Reaches a socket of the guest through a program there that joins it to its standard streams: for a guest whose sockets
//! we cannot open, and for a socket that only root may open, through sudo.

use std::io;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use tokio_util::{
    io::{CopyToBytes, SinkWriter, StreamReader},
    sync::PollSender,
};

use super::{Guest, Socket};
use crate::{
    error::{Error, ErrorCode, Result},
    process::{Chunk, Command, Exit, Process},
};

/// Joins standard input and output to the socket `$1` with the first program that can
/// (docs/reference/wsl.md#bridge-to-a-socket). The exit codes say that the socket or the program is missing; `begun` says
/// that neither is.
const BRIDGE_SCRIPT: &str = r#"[ -S "$1" ] || exit 71
if buildctl --version >/dev/null 2>&1; then set -- buildctl --addr "unix://$1" dial-stdio
# It greets the engine first: not for containerd.
elif [ "${1##*/}" = docker.sock ] && docker --version >/dev/null 2>&1; then set -- docker --host "unix://$1" system dial-stdio
elif socat -V >/dev/null 2>&1; then set -- socat - "UNIX-CONNECT:$1"
elif nc -h 2>&1 | grep -q -e '-[A-Za-z]*U'; then
  if nc -h 2>&1 | grep -q -e '-[A-Za-z]*N'; then set -- nc -N -U "$1"; else set -- nc -U "$1"; fi
else exit 72
fi
echo begun >&2
exec "$@""#;
const BEGUN: &str = "begun";
const NO_SOCKET: i32 = 71;
const NO_PROGRAM: i32 = 72;
/// How much of the program's messages is kept, in bytes.
const MAX_MESSAGES: usize = 64 * 1024;

/// Opens the socket at `path`; as `root`, through `sudo -n` where the guest's user is not root. Dropping it ends the
/// program. `CONTAINERD_NOT_READY` when there is no socket, `PERMISSION_DENIED` when sudo asks for a password or the guest
/// has no program that can join the streams.
pub async fn connect<G: Guest + ?Sized>(guest: &G, path: &str, root: bool) -> Result<Socket> {
    let command = Command::new(["sh", "-c", BRIDGE_SCRIPT, "sh", path]);
    let mut process = guest.spawn(Command { root, ..command }).await?;
    let mut words = Vec::new();
    loop {
        match process.next().await {
            Some(Chunk::Stderr(data)) => words.extend_from_slice(&data),
            // The two streams are not ordered: the server's first bytes may come before `begun`.
            Some(Chunk::Stdout(data)) => return Ok(bridged(process, data, path.to_owned())),
            None => break,
        }
        // Text after `begun` is the program's complaint: then the program ends, or the socket's data follows.
        if words.ends_with(&[BEGUN.as_bytes(), b"\n"].concat()) {
            return Ok(bridged(process, Bytes::new(), path.to_owned()));
        }
        // A login greeting of any length may come first.
        words.drain(..words.len().saturating_sub(MAX_MESSAGES));
    }
    Err(refused(path, root, &process.exit().await?, String::from_utf8_lossy(&words).trim()))
}

fn refused(path: &str, root: bool, exit: &Exit, words: &str) -> Error {
    let (code, text, hint) = match exit {
        // The program was found, but nobody answers at the socket.
        _ if words.contains(BEGUN) => {
            let words = words.split(BEGUN).last().unwrap_or_default().trim();
            (ErrorCode::ContainerdNotReady, format!("Nobody answers at {path}: {words}"), "Start containerd.")
        }
        Exit::Code(NO_SOCKET) => {
            (ErrorCode::ContainerdNotReady, format!("There is no socket at {path}"), "Start containerd.")
        }
        Exit::Code(NO_PROGRAM) => (
            ErrorCode::PermissionDenied,
            format!("{path} is closed to us, and no program there can open it in our place"),
            "Install socat or buildctl where containerd runs, or give this user access to the socket.",
        ),
        _ if root => (
            ErrorCode::PermissionDenied,
            format!("{path} cannot be opened, nor by sudo: {words}"),
            "Ask for access to it, run as a user who has it, or allow sudo without a password.",
        ),
        _ => (ErrorCode::ContainerdNotReady, format!("{path} cannot be opened: {words}"), "Try again."),
    };
    Error::new(code, text).detail("path", path).hint(hint)
}

/// `first` is what the socket has already sent.
fn bridged(mut process: Process, first: Bytes, path: String) -> Socket {
    let stdin = process.stdin.take().map(PollSender::new);
    let chunks = stream::unfold((process, path), |(mut process, path)| async move {
        loop {
            match process.next().await? {
                Chunk::Stdout(data) => return Some((Ok(data), (process, path))),
                // Its messages, in case it fails.
                Chunk::Stderr(data) => {
                    let words = String::from_utf8_lossy(&data[..data.len().min(1024)]).into_owned();
                    tracing::debug!(path, words, "the bridge to a socket");
                }
            }
        }
    });
    let chunks = stream::iter((!first.is_empty()).then_some(Ok(first))).chain(chunks);
    let read = StreamReader::new(Box::pin(chunks) as stream::BoxStream<'static, io::Result<Bytes>>);
    match stdin {
        Some(stdin) => {
            let sink = stdin.sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
            Box::new(tokio::io::join(read, SinkWriter::new(CopyToBytes::new(sink))))
        }
        None => Box::new(tokio::io::join(read, tokio::io::sink())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_decides_the_code() {
        let refused_connection = "begun\nsocat[1] E connect: Connection refused";
        for (exit, root, words, code) in [
            (71, true, "", ErrorCode::ContainerdNotReady),
            (72, true, "", ErrorCode::PermissionDenied),
            (72, false, "", ErrorCode::PermissionDenied),
            (1, true, "sudo: a password is required", ErrorCode::PermissionDenied),
            (127, true, "sudo: not found", ErrorCode::PermissionDenied),
            (1, true, refused_connection, ErrorCode::ContainerdNotReady),
            (1, false, refused_connection, ErrorCode::ContainerdNotReady),
            (1, false, "", ErrorCode::ContainerdNotReady),
        ] {
            assert_eq!(refused("/run/c.sock", root, &Exit::Code(exit), words).code(), code, "{exit} {root} {words}");
        }
    }

    /// A guest whose bridge is this script.
    #[cfg(unix)]
    struct Says(&'static str);

    #[cfg(unix)]
    #[async_trait::async_trait]
    impl Guest for Says {
        async fn run(&self, _: Command) -> Result<crate::process::Output> {
            unreachable!()
        }
        async fn spawn(&self, _: Command) -> Result<Process> {
            crate::guest::local::LocalGuest::new("").spawn(Command::new(["sh", "-c", self.0])).await
        }
        async fn connect(&self, _: &str) -> Result<Socket> {
            unreachable!()
        }
        fn containerd_socket(&self) -> &str {
            unreachable!()
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nothing_that_the_socket_says_is_lost() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for (script, expected) in [
            // `begun` comes after the socket's first bytes.
            ("printf settings; read -r x; echo begun >&2; printf %s $x", "settingsours"),
            ("yes | head -c 200000 >&2; printf '\\nbegun\\n' >&2; read -r x; printf %s $x", "ours"),
        ] {
            let mut socket = connect(&Says(script), "/run/c.sock", false).await.unwrap();
            socket.write_all(b"ours\n").await.unwrap();
            let mut heard = String::new();
            socket.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, expected, "{script}");
        }
    }
}

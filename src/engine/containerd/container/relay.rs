//! The streams of a process beside a container's own. containerd opens FIFOs in its own file system
//! (docs/reference/containerd.md#streams-of-a-process); a shell there makes them, and joins them with its own streams.

use bytes::{Bytes, BytesMut};

use super::super::{prelude::*, source::containers::Streams};
use crate::process::{Chunk, Process};

/// Makes the FIFOs, names their directory on a line, and copies. `$1` says whether there is input, `$2` whether there is an
/// error stream. It ends with the output; each FIFO is opened when containerd opens its other end.
const RELAY: &str = r#"umask 077
d=$(mktemp -d /run/lima-runtime.XXXXXX 2>/dev/null || mktemp -d) || exit 1
i=
trap 'rm -rf -- "$d"' EXIT
trap 'exit 1' HUP INT TERM
mkfifo -- "$d/0" "$d/1" "$d/2" || exit 1
echo "$d"
exec 3<&0 </dev/null
if [ "$1" ]; then cat <&3 >"$d/0" 3<&- & i=$!; fi
exec 3<&-
cat <"$d/1" & o=$!
if [ "$2" ]; then cat <"$d/2" >&2 & e=$!; wait "$e"; fi
wait "$o"
# Some shells say that they ended a job.
exec 2>/dev/null
[ -z "$i" ] || kill "$i"
"#;

/// A directory's name is no longer.
const LONGEST: usize = 4096;

pub(super) struct Relay {
    process: Process,
    /// What came behind the directory's name.
    early: Option<Bytes>,
    dir: String,
    tty: bool,
    stdin: bool,
}

impl Relay {
    pub(super) async fn open(c: &Containerd, stdin: bool, tty: bool) -> Result<Self> {
        let word = |is: bool| if is { "1" } else { "" };
        let mut process = c.guest().spawn(c.inside(["sh", "-c", RELAY, "sh", word(stdin), word(!tty)])).await?;
        if !stdin {
            process.stdin = None;
        }
        let mut said = BytesMut::new();
        let mut why = BytesMut::new();
        while let Some(chunk) = process.next().await {
            match chunk {
                Chunk::Stdout(data) => said.extend_from_slice(&data),
                Chunk::Stderr(data) => why.extend_from_slice(&data[..data.len().min(LONGEST - why.len().min(LONGEST))]),
            }
            if let Some(at) = said.iter().position(|b| *b == b'\n') {
                let dir = String::from_utf8_lossy(&said.split_to(at)).into_owned();
                let early = said.split_off(1).freeze();
                return Ok(Self { process, early: Some(early).filter(|e| !e.is_empty()), dir, tty, stdin });
            }
            if said.len() > LONGEST {
                break;
            }
        }
        let why = String::from_utf8_lossy(&why).trim().to_owned();
        Err(Error::new(ErrorCode::EngineError, format!("The streams of a process could not be made: {why}")))
    }

    pub(super) fn streams(&self) -> Streams {
        let path = |is: bool, name: &str| if is { format!("{}/{name}", self.dir) } else { String::new() };
        Streams { stdin: path(self.stdin, "0"), stdout: path(true, "1"), stderr: path(!self.tty, "2") }
    }

    pub(super) fn take_input(&mut self) -> Option<tokio::sync::mpsc::Sender<Bytes>> {
        self.process.stdin.take()
    }

    pub(super) async fn next(&mut self) -> Option<OutputChunk> {
        if let Some(data) = self.early.take() {
            return Some(OutputChunk { stream: OutputStream::Stdout, data });
        }
        Some(match self.process.next().await? {
            Chunk::Stdout(data) => OutputChunk { stream: OutputStream::Stdout, data },
            Chunk::Stderr(data) => OutputChunk { stream: OutputStream::Stderr, data },
        })
    }
}

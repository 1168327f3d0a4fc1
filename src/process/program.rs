//! A command, its output and its exit, the same for a child of this process and in a guest.

use std::path::Path;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

use crate::{
    error::{Error, ErrorCode, Result},
    task,
};

/// Kept until the child has ended, even when nobody waits for it any more; for example, a lock.
pub type Hold = std::sync::Arc<dyn std::any::Any + Send + Sync>;

/// A program to run. Arguments are bytes that no shell interprets.
#[derive(Debug, Clone, Default)]
pub struct Command {
    pub argv: Vec<Vec<u8>>,
    /// Added to the environment. The process list shows it: not for secrets.
    pub env: Vec<(String, Vec<u8>)>,
    /// Written first to its standard input.
    pub input: Bytes,
    /// Run as root, through `sudo -n` unless the user is root.
    pub root: bool,
}

impl Command {
    pub fn new<A: Into<Vec<u8>>>(argv: impl IntoIterator<Item = A>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    #[must_use]
    pub fn root(mut self) -> Self {
        self.root = true;
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn input(mut self, input: impl Into<Bytes>) -> Self {
        self.input = input.into();
        self
    }

    /// The whole argument vector, with `sudo` and `env` in front where they are needed.
    pub(crate) fn full_argv(&self, is_root: bool) -> Result<Vec<Vec<u8>>> {
        let program = self.argv.first().filter(|p| !p.is_empty());
        let program = program.ok_or_else(|| Error::invalid("argv", "names no program"))?;
        // env and sudo would read such a word as a variable.
        if program.contains(&b'=') {
            return Err(Error::invalid("argv[0]", "a program's name cannot hold '='"));
        }
        if let Some(i) = self.argv.iter().position(|a| a.contains(&0)) {
            return Err(Error::invalid(format!("argv[{i}]"), "holds a NUL byte"));
        }
        let mut all: Vec<Vec<u8>> = Vec::with_capacity(self.argv.len() + 4);
        if self.root && !is_root {
            all.extend(["sudo", "-n", "--"].map(Into::into));
        }
        if !self.env.is_empty() {
            all.push("env".into());
        }
        for (name, value) in &self.env {
            let valid = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
            if name.is_empty() || !name.chars().enumerate().all(valid) || value.contains(&0) {
                return Err(Error::invalid(format!("env.{name}"), "not a variable a program can get"));
            }
            all.push([name.as_bytes(), b"=", value].concat());
        }
        all.extend(self.argv.iter().cloned());
        Ok(all)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// The signal's name without SIG, or its number when it has none: `TERM`, `KILL`.
    Signal(String),
}

impl Exit {
    /// `error` with the exit among its details.
    pub(crate) fn of(&self, error: Error) -> Error {
        match self {
            Exit::Code(code) => error.detail("exitCode", *code),
            Exit::Signal(name) => error.detail("signal", name.clone()),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

/// The most output of a program that is kept in memory.
pub const KEPT: usize = 64 << 20;

/// A program's output as it comes, limited over both streams.
pub(crate) struct Collected {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    limit: usize,
}

impl Collected {
    pub fn up_to(limit: usize) -> Self {
        Self { stdout: Vec::new(), stderr: Vec::new(), limit }
    }

    pub fn stdout(&mut self, data: &[u8]) -> Result<()> {
        self.room(data)?;
        self.stdout.extend_from_slice(data);
        Ok(())
    }

    pub fn stderr(&mut self, data: &[u8]) -> Result<()> {
        self.room(data)?;
        self.stderr.extend_from_slice(data);
        Ok(())
    }

    fn room(&self, data: &[u8]) -> Result<()> {
        let left = self.limit.saturating_sub(self.stdout.len()).saturating_sub(self.stderr.len());
        if data.len() <= left { Ok(()) } else { Err(Error::too_large("The program's output", self.limit)) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// The result of a program. Any exit is an [`Output`]; an error means that the program could not run, or that its exit is
/// unknown.
#[derive(Debug, Clone)]
pub struct Output {
    pub exit: Exit,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn success(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// Standard output of a program that succeeded; any other exit is an error with the exit and the last messages.
    pub fn checked(self, program: &str) -> Result<Vec<u8>> {
        if self.success() {
            return Ok(self.stdout);
        }
        let stderr = String::from_utf8_lossy(&self.stderr).trim().to_owned();
        let last = stderr.lines().last().unwrap_or("no message");
        let error = Error::new(ErrorCode::EngineError, format!("{program} ended with {}: {last}", self.exit));
        Err(self.exit.of(error).detail("stderr", stderr))
    }
}

/// A running program. Dropping it ends the program in the background, as long as the runtime lives: TERM, then KILL after
/// [`TERM_GRACE`].
#[derive(Debug)]
pub struct Process {
    /// Dropping it ends the input.
    pub stdin: Option<mpsc::Sender<Bytes>>,
    pub(crate) output: mpsc::Receiver<Chunk>,
    exit: oneshot::Receiver<Result<Exit>>,
    kill: DropGuard,
}

/// The other ends of a [`Process`]'s channels, for the task that drives it.
pub(crate) struct Driver {
    pub(crate) input: mpsc::Receiver<Bytes>,
    pub(crate) chunks: mpsc::Sender<Chunk>,
    /// Cancelled when the program shall end.
    pub(crate) cancel: CancellationToken,
}

/// Gives a program all of `pieces`, and then ends its input. When they fail, the input stays open, for the caller to drop behind the
/// program: part of an archive could pass for the whole.
pub(crate) async fn feed(
    input: &mut Option<mpsc::Sender<Bytes>>,
    mut pieces: impl Stream<Item = Result<Bytes>> + Unpin,
) -> Result<()> {
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        // One that ended early says why itself.
        if let Some(input) = input
            && input.send(piece).await.is_err()
        {
            break;
        }
    }
    *input = None;
    Ok(())
}

/// How long a program may take to end after TERM.
pub const TERM_GRACE: std::time::Duration = std::time::Duration::from_secs(2);
/// A program can end while its child still holds its output: how long we then wait for a byte.
pub(crate) const STRAGGLER_GRACE: std::time::Duration = std::time::Duration::from_secs(2);
/// Chunks (32 KiB at most) between the program and a slow reader.
const BACKLOG: usize = 16;

/// A program as the log calls it: without its arguments, which may be private. What limactl is to do is not.
pub(super) fn named(command: &std::process::Command) -> String {
    let mut name = Path::new(command.get_program()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Behind the flags of all commands (`lima::limactl`).
    let mut words = command.get_args().filter_map(|arg| arg.to_str()).filter(|word| *word != "json");
    if name == "limactl"
        && let Some(verb) = words.find(|word| word.bytes().all(|b| b.is_ascii_lowercase()))
    {
        name.push(' ');
        name.push_str(verb);
    }
    name
}

pub(super) fn could_not_start(program: &str, e: std::io::Error) -> Error {
    let code = match e.kind() {
        std::io::ErrorKind::NotFound => ErrorCode::NotInstalled,
        std::io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
        _ => ErrorCode::Internal,
    };
    Error::new(code, format!("{program} could not be started: {e}")).detail("path", program).source(e)
}

impl Process {
    /// The sender is for the exit.
    pub(crate) fn driven() -> (Self, Driver, oneshot::Sender<Result<Exit>>) {
        let (stdin, input) = mpsc::channel(BACKLOG);
        let (chunks, output) = mpsc::channel(BACKLOG);
        let (ended, exit) = oneshot::channel();
        let cancel = CancellationToken::new();
        let kill = cancel.clone().drop_guard();
        (Self { stdin: Some(stdin), output, exit, kill }, Driver { input, chunks, cancel }, ended)
    }

    /// The next chunk of output; `None` at the end. A slow reader makes the program wait.
    pub async fn next(&mut self) -> Option<Chunk> {
        self.output.recv().await
    }

    /// Waits for the exit. Unread output is dropped.
    pub async fn exit(mut self) -> Result<Exit> {
        self.stdin = None;
        while self.output.recv().await.is_some() {}
        let exit = self.exit.await.unwrap_or_else(|_| Err(Error::internal("the task driving a program is gone")));
        drop(self.kill.disarm());
        exit
    }

    /// Ends the program and returns once it has ended.
    pub async fn end(self) {
        let Self { stdin, mut output, exit, kill } = self;
        drop((stdin, kill));
        while output.recv().await.is_some() {}
        _ = exit.await;
    }

    /// All its output, kept in memory; a program that prints more than [`KEPT`] is ended. Reads in a task of its own: a
    /// busy caller must not stall a connection that others share.
    pub async fn output(mut self) -> Result<Output> {
        self.stdin = None;
        AbortOnDropHandle::new(task::spawn(async move {
            let mut kept = Collected::up_to(KEPT);
            while let Some(chunk) = self.next().await {
                match chunk {
                    Chunk::Stdout(data) => kept.stdout(&data)?,
                    Chunk::Stderr(data) => kept.stderr(&data)?,
                }
            }
            let Collected { stdout, stderr, .. } = kept;
            Ok(Output { exit: self.exit().await?, stdout, stderr })
        }))
        .await
        .unwrap_or_else(|e| Err(Error::internal("reading a program's output failed").source(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_a_name_without_what_is_private() {
        let named = |words: &[&str]| named(std::process::Command::new(words[0]).args(&words[1..]));
        assert_eq!(named(&["/bin/limactl", "--tty=false", "--log-format", "json", "start", "b"]), "limactl start");
        assert_eq!(named(&["/usr/bin/ssh", "-l", "alice", "host"]), "ssh");
        assert_eq!(named(&["limactl", "--version"]), "limactl");
    }

    #[tokio::test]
    async fn an_input_that_fails_does_not_end() {
        let (sender, mut got) = mpsc::channel(4);
        let mut input = Some(sender);
        let pieces = [Ok(Bytes::from_static(b"a")), Err(Error::internal("no more"))];
        feed(&mut input, futures_util::stream::iter(pieces)).await.unwrap_err();
        assert_eq!(got.recv().await.unwrap(), "a");
        assert_eq!(got.try_recv(), Err(mpsc::error::TryRecvError::Empty));
        feed(&mut input, futures_util::stream::iter([Ok(Bytes::from_static(b"b"))])).await.unwrap();
        assert_eq!((got.recv().await.unwrap().as_ref(), got.recv().await), (b"b".as_slice(), None));
    }
}

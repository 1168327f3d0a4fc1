//! The `limactl` program: how to call it and what its messages mean. It has one exit code for all failures, so the messages
//! decide (docs/reference/lima.md#exit-code; recorded in `tests/fixtures/limactl-<version>`).

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    env_vars,
    error::{Error, ErrorCode, Result},
    fetch::owner,
    process::{self, Chunk, Exit, Hold},
    task,
};

/// One line of limactl's standard error.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub level: Level,
    pub message: String,
    /// What else the line carries: `location`, `digest`, `error`.
    pub fields: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
    /// The reason why the command is about to fail.
    Fatal,
    /// Not from the logger: a download's name, a message of the template, a panic (docs/reference/lima.md#log-lines).
    Raw,
}

impl Line {
    /// A line that is not a log entry becomes a raw one.
    pub fn parse(line: &str) -> Self {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
            return Self { level: Level::Raw, message: line.to_owned(), fields: Map::new() };
        };
        let mut take = |key| match fields.remove(key) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let level = match take("level").as_str() {
            "trace" | "debug" => Level::Debug,
            "warning" | "warn" => Level::Warning,
            "error" => Level::Error,
            "fatal" | "panic" => Level::Fatal,
            _ => Level::Info,
        };
        let message = take("msg");
        fields.remove("time");
        Self { level, message, fields }
    }

    /// The message without the mark of the host agent's own log (docs/reference/lima.md#log-of-the-host-agent).
    pub fn text(&self) -> &str {
        self.message.strip_prefix("[hostagent] ").unwrap_or(&self.message)
    }
}

/// What a failed command means for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    RootUser,
    /// x86_64 under Rosetta, or a macOS without the driver.
    UnsupportedPlatform,
    AlreadyExists,
    /// No such instance, or a directory without `lima.yaml`.
    Missing,
    /// A pid file says that it runs, wholly or in part.
    SeemsRunning,
    /// `stop` of an instance that does not run, `edit` or `delete` of one that does.
    WrongState,
    ChecksumMismatch,
    DownloadFailed,
    DiskFull,
    PortTaken,
    /// The template or a setting is wrong.
    Invalid,
    PathTooLong,
    /// The host agent started and gave up, or runs degraded.
    HostAgent,
    Other,
}

impl Failure {
    /// Takes the last fatal message, or all of standard error when there was none. Version 2 quotes with backticks and
    /// version 1 with double quotes, so no pattern holds a quote (docs/reference/lima.md#quotes-in-messages).
    pub fn of(text: &str) -> Self {
        const WORDS: [(&str, Failure); 26] = [
            ("must not run as the root user", Failure::RootUser),
            ("running under rosetta", Failure::UnsupportedPlatform),
            ("no space left on device", Failure::DiskFull),
            ("expected digest ", Failure::ChecksumMismatch),
            ("failed to download ", Failure::DownloadFailed),
            ("address already in use", Failure::PortTaken),
            ("Could not set up host forwarding rule", Failure::PortTaken),
            (" already exists", Failure::AlreadyExists),
            (" seems running", Failure::SeemsRunning),
            ("errors inspecting instance", Failure::SeemsRunning),
            ("pidfile ", Failure::SeemsRunning),
            ("expected status ", Failure::WrongState),
            ("cannot edit a running instance", Failure::WrongState),
            ("too long: ", Failure::PathTooLong),
            ("is not a valid identifier", Failure::Invalid),
            ("the YAML is invalid", Failure::Invalid),
            ("failed to unmarshal YAML", Failure::Invalid),
            ("template requires Lima version", Failure::Invalid),
            ("field `", Failure::Invalid),
            ("unknown flag", Failure::Invalid),
            ("lima.yaml: no such file or directory", Failure::Missing),
            ("did not start up in ", Failure::HostAgent),
            ("host agent process has exited", Failure::HostAgent),
            ("exiting, status=", Failure::HostAgent),
            ("degraded, status=", Failure::HostAgent),
            ("did not receive an event with the ", Failure::HostAgent),
        ];
        WORDS.iter().find(|(words, _)| text.contains(words)).map_or(Self::Other, |(_, failure)| *failure)
    }

    fn code(self) -> ErrorCode {
        match self {
            Self::RootUser => ErrorCode::RootUser,
            Self::UnsupportedPlatform => ErrorCode::UnsupportedPlatform,
            Self::AlreadyExists | Self::SeemsRunning | Self::WrongState => ErrorCode::InvalidState,
            Self::Missing => ErrorCode::VmNotRunning,
            Self::ChecksumMismatch => ErrorCode::ChecksumMismatch,
            Self::DownloadFailed => ErrorCode::DownloadFailed,
            Self::DiskFull => ErrorCode::DiskFull,
            Self::PortTaken => ErrorCode::PortInUse,
            Self::Invalid => ErrorCode::InvalidArgument,
            Self::PathTooLong => ErrorCode::PathTooLong,
            Self::HostAgent | Self::Other => ErrorCode::VmStartFailed,
        }
    }

    fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::RootUser => "Run the application as an ordinary user.",
            Self::UnsupportedPlatform => "Install the Lima that was built for this processor.",
            Self::DownloadFailed => "Check the network and the proxy settings, then try again.",
            Self::DiskFull => "Free some disk space, then try again.",
            Self::PathTooLong => "Choose a shorter dataDir.",
            Self::Invalid => "Check the template and the resources.",
            _ => return None,
        })
    }
}

/// A failed command, for callers that decide by its kind.
#[derive(Debug)]
pub struct Failed {
    pub failure: Failure,
    pub error: Error,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { failure: Failure::Other, error }
    }
}

/// One installed limactl with one LIMA_HOME.
#[derive(Debug, Clone)]
pub struct Limactl {
    program: PathBuf,
    lima_home: PathBuf,
    env: Vec<(OsString, OsString)>,
    hold: Option<Hold>,
}

/// What Lima needs of the system, without Homebrew: Lima would prefer a broken `qemu-img` there to its own
/// (docs/reference/lima.md#environment-of-limactl).
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";
/// Lines kept for the error of a failing command.
const MAX_LINES: usize = 50;
/// The longest line that is read; the rest of a longer one is dropped. Lima's log lines are below 10 KB.
const MAX_LINE: usize = 64 << 10;
/// How much of a line is kept for an error.
const MAX_SHOWN: usize = 2 << 10;
/// More than any command we run prints: `--version` one line, `list` some kilobytes an instance.
const MAX_STDOUT: usize = 4 << 20;

impl Limactl {
    /// `program` is the absolute path of limactl; `proxy` replaces the proxy settings of our own environment.
    /// `extra` is for tests on machines that need more, such as `QEMU_SYSTEM_X86_64`.
    pub fn new(program: PathBuf, lima_home: PathBuf, proxy: Option<&str>, extra: &[(&str, &OsStr)]) -> Self {
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        for name in env_vars::FOR_LIMACTL {
            env.extend(std::env::var_os(name).map(|value| (name.into(), value)));
        }
        if !env.iter().any(|(name, _)| name == "HOME") {
            // Lima panics without one.
            env.extend(home::home_dir().map(|home| ("HOME".into(), home.into_os_string())));
        }
        for name in env_vars::PROXIES {
            let ours = || env_vars::get(name).or_else(|| env_vars::get(&name.to_ascii_uppercase()));
            let value = match proxy {
                Some(proxy) if name != "no_proxy" => Some(proxy.to_owned()),
                _ => ours(),
            };
            env.extend(value.map(|value| (name.into(), value.into())));
        }
        env.push(("PATH".into(), PATH.into()));
        env.push(("LIMA_HOME".into(), lima_home.clone().into_os_string()));
        env.extend(extra.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        Self { program, lima_home, env, hold: None }
    }

    /// Each command holds `lock` until its process has ended, also after its caller gave up
    /// (docs/reference/lima.md#no-lock-on-an-instance).
    #[must_use]
    pub fn holding(&self, lock: Hold) -> Self {
        Self { hold: Some(lock), ..self.clone() }
    }

    pub fn lima_home(&self) -> &Path {
        &self.lima_home
    }

    /// Makes the instance with this YAML and copies or downloads its image; boots nothing. Always called before a first
    /// start (docs/reference/lima.md#start-makes-what-is-missing).
    pub async fn create(&self, name: &str, yaml: String, on_line: impl FnMut(Line)) -> Result<(), Failed> {
        self.run(&["create", "--name", name, "-"], yaml.into(), on_line).await.map(drop)
    }

    /// Boots an existing instance and returns when Lima calls it ready, which says nothing about containerd
    /// (docs/reference/lima.md#running-and-ready). Dropping the future ends limactl; the host agent goes on
    /// (docs/reference/lima.md#killed-limactl).
    pub async fn start(
        &self,
        name: &str,
        timeout: std::time::Duration,
        on_line: impl FnMut(Line),
    ) -> Result<(), Failed> {
        let timeout = format!("{}s", timeout.as_secs().max(1));
        self.run(&["start", "--timeout", &timeout, name], Bytes::new(), on_line).await.map(drop)
    }

    /// Never `--force`, which kills what the pid files name, whatever it is (docs/reference/lima.md#forced-stop).
    pub async fn stop(&self, name: &str) -> Result<(), Failed> {
        self.run(&["stop", name], Bytes::new(), |_| {}).await.map(drop)
    }

    /// The instance must not run. A missing instance is not an error.
    pub async fn delete(&self, name: &str) -> Result<(), Failed> {
        self.run(&["delete", name], Bytes::new(), |_| {}).await.map(drop)
    }

    /// Runs `work`, which holds that lock until it has ended, too.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let hold = self.hold.clone();
        task::blocking(move || {
            let _hold = hold;
            work()
        })
        .await
    }

    /// `1.2.1`.
    pub async fn version(&self) -> Result<String> {
        let out = self.run(&["--version"], Bytes::new(), |_| {}).await?;
        let text = String::from_utf8_lossy(&out);
        Ok(text.trim().rsplit(' ').next().unwrap_or_default().trim_start_matches('v').to_owned())
    }

    /// Returns standard output. `on_line` sees standard error as it comes.
    async fn run(&self, args: &[&str], input: Bytes, mut on_line: impl FnMut(Line)) -> Result<Vec<u8>, Failed> {
        owner::check(self.program.parent().unwrap_or(Path::new("/")))?;
        let mut command = std::process::Command::new(&self.program);
        command.args(["--tty=false", "--log-format", "json"]).args(args);
        // limactl writes a rejected YAML to the working directory, which is `/` for a desktop application
        // (docs/reference/lima.md#rejected-yaml).
        let parent = self.lima_home.parent().unwrap_or(Path::new("/"));
        command.env_clear().envs(self.env.iter().map(|(k, v)| (k, v))).current_dir(parent);
        let mut process = process::spawn(command, input, self.hold.clone()).await?;
        process.stdin = None;
        let (mut stdout, mut pending, mut fatal) = (Vec::new(), Vec::new(), None);
        let mut tail = std::collections::VecDeque::with_capacity(MAX_LINES);
        let mut take = |bytes: &[u8], fatal: &mut Option<String>| {
            let text = String::from_utf8_lossy(bytes);
            let line = Line::parse(text.trim_end_matches(['\n', '\r']));
            if line.level == Level::Fatal {
                *fatal = Some(beginning(&line.message));
            }
            if tail.len() == MAX_LINES {
                tail.pop_front();
            }
            tail.push_back(beginning(&line.message));
            on_line(line);
        };
        while let Some(chunk) = process.next().await {
            match chunk {
                Chunk::Stdout(data) if stdout.len() + data.len() > MAX_STDOUT => {
                    return Err(too_much().into());
                }
                Chunk::Stdout(data) => stdout.extend_from_slice(&data),
                Chunk::Stderr(data) => {
                    for piece in data.split_inclusive(|&b| b == b'\n') {
                        let room = MAX_LINE.saturating_sub(pending.len());
                        pending.extend_from_slice(&piece[..piece.len().min(room)]);
                        if piece.ends_with(b"\n") {
                            take(&pending, &mut fatal);
                            pending.clear();
                        }
                    }
                }
            }
        }
        if !pending.is_empty() {
            take(&pending, &mut fatal);
        }
        let exit = process.exit().await?;
        if exit == Exit::Code(0) {
            return Ok(stdout);
        }
        let lines: Vec<String> = tail.into();
        let said = lines.join("\n");
        let failure = Failure::of(fatal.as_deref().unwrap_or(&said));
        let verb = args.first().copied().unwrap_or_default();
        let why = fatal.or_else(|| lines.last().cloned()).unwrap_or_else(|| exit.to_string());
        let mut error = Error::new(failure.code(), format!("limactl {verb} failed: {why}")).detail("logTail", said);
        if let Exit::Code(code) = exit {
            error = error.detail("exitCode", code);
        }
        if let Some(hint) = failure.hint() {
            error = error.hint(hint);
        }
        Err(Failed { failure, error })
    }
}

fn beginning(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= MAX_SHOWN) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

fn too_much() -> Error {
    Error::new(ErrorCode::EngineError, format!("limactl printed more than {MAX_STDOUT} bytes"))
        .hint("Mend the installation with install({ repair: true }).")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A limactl that is this script.
    fn printing(script: &str) -> (tempfile::TempDir, Limactl) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("limactl");
        crate::fetch::disk::write_program(&program, format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
        let limactl = Limactl::new(program, dir.path().join("vms"), None, &[]);
        (dir, limactl)
    }

    #[tokio::test]
    async fn what_limactl_prints_has_an_end() {
        let (_dir, limactl) = printing("exec yes");
        let e = limactl.version().await.unwrap_err();
        assert!(e.message().contains("more than"), "{e}");

        // A line without an end, a line that is too long, and the last message, which counts all the same.
        let long = "head -c 3000000 /dev/zero | tr '\\0' x";
        let script = format!(
            "printf '{{\"level\":\"info\",\"msg\":\"'; {long}; echo '\"}}'; echo '{{\"level\":\"fatal\",\"msg\":\"instance `x` already exists\"}}'; {long}; exit 1"
        );
        let (_dir, limactl) = printing(&format!("({script}) >&2; exit 1"));
        let mut lengths = Vec::new();
        let failed = limactl.create("x", String::new(), |line| lengths.push(line.message.len())).await.unwrap_err();
        assert_eq!(failed.failure, Failure::AlreadyExists);
        assert!(lengths.len() == 3 && lengths.iter().all(|n| *n <= MAX_LINE), "{lengths:?}");
        assert!(failed.error.details()["logTail"].as_str().unwrap().len() < 3 * (MAX_SHOWN + 10));
    }

    pub(crate) const VERSIONS: [&str; 2] = ["1.2.1", "2.2.0"];

    /// What the real limactl of that version printed.
    pub(crate) fn recorded(version: &str, name: &str) -> (i64, Vec<Line>) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let path = dir.join(format!("limactl-{version}")).join(name);
        let v: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        (v["exitCode"].as_i64().unwrap(), v["stderr"].as_str().unwrap().lines().map(Line::parse).collect())
    }

    #[test]
    fn every_recorded_failure_is_told_apart() {
        for (file, failure) in [
            ("create-exists.json", Failure::AlreadyExists),
            ("edit-running.json", Failure::WrongState),
            ("edit-shrink-disk.json", Failure::Invalid),
            ("name-too-long.json", Failure::Invalid),
            ("start-bad-digest.json", Failure::ChecksumMismatch),
            ("start-bad-image.json", Failure::DownloadFailed),
            ("stop-again.json", Failure::WrongState),
            ("stop-missing.json", Failure::Missing),
            ("validate-bad.json", Failure::Invalid),
        ] {
            for version in VERSIONS {
                // The two versions were given different names; for 2.2.0 the path was too long, not the name.
                let failure = match (file, version) {
                    ("name-too-long.json", "2.2.0") => Failure::PathTooLong,
                    _ => failure,
                };
                let (exit, lines) = recorded(version, file);
                assert_eq!(exit, 1, "{version}/{file}");
                let last = lines.last().unwrap();
                assert_eq!(last.level, Level::Fatal, "{version}/{file}");
                assert_eq!(Failure::of(&last.message), failure, "{version}/{file}: {}", last.message);
            }
        }
        let (exit, lines) = recorded("1.2.1", "start-degraded.json");
        assert_eq!((exit, Failure::of(&lines.last().unwrap().message)), (1, Failure::HostAgent));
        let another = "another hostagent may already be running with pid 7 (pidfile `/home/kai/.lima/default/ha.pid`)";
        assert_eq!(Failure::of(another), Failure::SeemsRunning);
    }

    #[test]
    fn a_successful_run_holds_no_fatal_line() {
        for file in
            ["start-first.json", "start-already-running.json", "stop.json", "delete.json", "delete-missing.json"]
        {
            for version in VERSIONS {
                let (exit, lines) = recorded(version, file);
                assert_eq!(exit, 0);
                assert!(lines.iter().all(|l| l.level != Level::Fatal && l.level != Level::Raw), "{version}/{file}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_given_up_holds_the_lock_until_it_has_ended() {
        let lock: Hold = std::sync::Arc::new(());
        let limactl = Limactl::new("limactl".into(), "/".into(), None, &[]).holding(lock.clone());
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let work = limactl.blocking(move || {
            _ = ended.recv();
            Ok(())
        });
        assert!(tokio::time::timeout(std::time::Duration::ZERO, work).await.is_err());
        drop(limactl);
        assert_eq!(std::sync::Arc::strong_count(&lock), 2);
        drop(end);
        while std::sync::Arc::strong_count(&lock) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn lines_that_are_no_log_entries_pass_as_they_are() {
        for raw in ["Downloading the image (noble.img)", "panic: boom", "{half", "[1]", ""] {
            assert_eq!(Line::parse(raw), Line { level: Level::Raw, message: raw.into(), fields: Map::new() });
        }
        let l = Line::parse(r#"{"level":"info","msg":"[hostagent] x","arch":"x86_64","time":"t"}"#);
        assert_eq!((l.level, l.text(), &l.fields["arch"]), (Level::Info, "x", &Value::from("x86_64")));
    }
}

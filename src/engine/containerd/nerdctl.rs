//! The one place that runs nerdctl.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, OnceCell};

use super::Settings;
use crate::{
    error::{Error, ErrorCode, Result},
    guest::Guest,
    process::{Command, Exit, Output, Process},
};

/// What a command was about: the same words of nerdctl's mean another code.
#[derive(Debug, Clone, Copy)]
pub(super) enum On<'a> {
    Engine,
    Container(&'a str),
    Image(&'a str),
    Network(&'a str),
    Volume(&'a str),
}

/// A nerdctl that hangs must not hold the queue for ever. Far longer than what it runs for takes on a slow guest.
pub(super) const DEADLINE: Duration = Duration::from_secs(180);

pub(super) struct Nerdctl {
    guest: Arc<dyn Guest>,
    root: bool,
    /// The program and its global flags.
    base: Vec<String>,
    env: Vec<(String, Vec<u8>)>,
    /// Its locks and CNI's make commands that change something wait for each other, and some of them fail instead
    /// (docs/reference/nerdctl.md#commands-in-turn).
    queue: Mutex<()>,
    version: OnceCell<(u32, u32, u32)>,
}

impl Nerdctl {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut base = vec![settings.nerdctl.clone(), format!("--namespace={}", settings.namespace)];
        let mut env = Vec::new();
        if let Some(dir) = &settings.rootless {
            env.push(("XDG_RUNTIME_DIR".to_owned(), dir.clone().into_bytes()));
        } else {
            base.push(format!("--address={}", settings.guest.containerd_socket()));
            base.push(format!("--data-root={}", settings.data_root));
            base.push(format!("--cni-netconfpath={}", settings.cni_netconf_path));
        }
        base.extend(settings.cni_path.as_ref().map(|path| format!("--cni-path={path}")));
        Self {
            guest: settings.guest.clone(),
            root: settings.root,
            base,
            env,
            queue: Mutex::default(),
            version: OnceCell::new(),
        }
    }

    /// `nerdctl <global flags> <args>`, to be given to one of the methods below.
    pub(super) fn command<A: Into<Vec<u8>>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let argv = self.base.iter().map(|a| a.clone().into_bytes()).chain(args.into_iter().map(Into::into));
        Command { root: self.root, env: self.env.clone(), ..Command::new(argv) }
    }

    /// Its version; the lowest where it does not say.
    pub(super) async fn version(&self) -> (u32, u32, u32) {
        let ask = async || {
            let program = self.base.first().cloned().unwrap_or_default();
            let command =
                Command { root: self.root, env: self.env.clone(), ..Command::new([program, "--version".into()]) };
            Ok::<_, Error>(version(&String::from_utf8_lossy(&self.guest.run(command).await?.checked("nerdctl")?)))
        };
        self.version.get_or_try_init(ask).await.copied().unwrap_or_default()
    }

    /// Runs what changes something, when those before it have ended. Its standard output.
    pub(super) async fn write<A: Into<Vec<u8>>>(
        &self,
        on: On<'_>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Vec<u8>> {
        self.write_command(on, self.command(args), DEADLINE).await
    }

    /// The same with a command of the caller's (variables, input) and a deadline.
    pub(super) async fn write_command(&self, on: On<'_>, command: Command, deadline: Duration) -> Result<Vec<u8>> {
        let _turn = self.queue.lock().await;
        self.run(on, command, deadline).await
    }

    /// Our turn to change something by other means, when those before us have ended.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.queue.lock().await
    }

    /// Runs what only reads.
    pub(super) async fn read<A: Into<Vec<u8>>>(
        &self,
        on: On<'_>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Vec<u8>> {
        self.run(on, self.command(args), DEADLINE).await
    }

    /// Starts what prints as it goes. How it ended is for the caller to judge, with [`refusal`].
    pub(super) async fn spawn(&self, command: Command) -> Result<Process> {
        self.guest.spawn(command).await.map_err(not_there)
    }

    async fn run(&self, on: On<'_>, command: Command, deadline: Duration) -> Result<Vec<u8>> {
        // Dropping the future is TERM, then KILL: its locks are the kernel's and go with it.
        let output = tokio::time::timeout(deadline, self.guest.run(command)).await.map_err(|_| {
            Error::new(ErrorCode::Timeout, format!("nerdctl did not end within {} s", deadline.as_secs()))
        })?;
        let output = output.map_err(not_there)?;
        if output.success() { Ok(output.stdout) } else { Err(refusal(on, &output)) }
    }
}

/// Of `nerdctl version 2.3.5`, `v2.3.4` or `1.6.20~ds1`: what comes after the numbers does not count.
pub(super) fn version(said: &str) -> (u32, u32, u32) {
    let word = said.split_whitespace().last().unwrap_or_default();
    let mut numbers = word.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

fn not_there(e: Error) -> Error {
    if e.code() != ErrorCode::NotInstalled {
        return e;
    }
    Error::new(ErrorCode::NotInstalled, "nerdctl is not installed")
        .hint("Install nerdctl 2.1 or later, or name it: new ContainerdAdapter({ nerdctlPath }).")
        .source(e)
}

/// nerdctl's last words: the messages of its log lines that matter (docs/reference/nerdctl.md#errors).
pub(super) fn messages(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut all: Vec<String> = text.lines().filter_map(fault).collect();
    if all.is_empty() {
        all.extend(text.lines().rfind(|l| !l.trim().is_empty()).map(str::to_owned));
    }
    all.join("\n")
}

/// The message of a line that logs an error.
pub(super) fn fault(line: &str) -> Option<String> {
    let rest = line.strip_prefix("time=")?;
    let rest = rest.split_once(" level=")?.1;
    let rest = rest.strip_prefix("fatal ").or_else(|| rest.strip_prefix("error "))?;
    Some(unquote(rest.strip_prefix("msg=")?))
}

/// A value of logfmt: bare, or quoted as Go quotes strings. What follows the closing quote is other fields.
fn unquote(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"') else { return value.to_owned() };
    let mut out = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(kind @ ('x' | 'u' | 'U')) => {
                    let digits = match kind {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let code: String = chars.by_ref().take(digits).collect();
                    out.push(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'));
                }
                Some(other) => out.push(other),
                None => {}
            },
            _ => out.push(c),
        }
    }
    out
}

/// The code of what nerdctl said (docs/reference/nerdctl.md#error-texts).
pub(super) fn refusal(on: On<'_>, output: &Output) -> Error {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = messages(&output.stderr);
    let error = match &output.exit {
        // sudo and env say so this way.
        Exit::Code(127) => not_there(Error::new(ErrorCode::NotInstalled, said.clone())),
        _ => classify(on, &said),
    };
    let error = match &output.exit {
        Exit::Code(code) => error.detail("exitCode", *code),
        Exit::Signal(name) => error.detail("signal", name.clone()),
    };
    error.detail("stderr", stderr)
}

/// The code of a message.
pub(super) fn classify(on: On<'_>, said: &str) -> Error {
    let has = |part: &str| said.contains(part);
    let code = if has("no such image") || has("image not available") {
        ErrorCode::ImageNotFound
    } else if has("no network found matching") || has("no such network") || has("unable to find any network") {
        ErrorCode::NetworkNotFound
    } else if has("volume.json\" does not exist") || (has("volume \"") && has("not found")) {
        ErrorCode::VolumeNotFound
    } else if has("no such container") || has("no such object") {
        ErrorCode::ContainerNotFound
    } else if has("is already used by ID") || has("already exists") && matches!(on, On::Network(_)) {
        ErrorCode::NameInUse
    } else if has("port is already allocated") || has("address already in use") {
        ErrorCode::PortInUse
    } else if has("conflict: unable to delete")
        || has("is in use")
        || has("is in running status")
        || has("is in paused status")
    {
        ErrorCode::InUse
    } else if has("is already paused")
        || has("is not paused")
        || has("is not running")
        || has("no running task found")
        || has("already exists")
        || has("cannot exec in a")
    {
        ErrorCode::InvalidState
    } else if has("must match pattern")
        || has("unknown flag")
        || has("unsupported restart policy")
        || has("invalid reference format")
    {
        ErrorCode::InvalidArgument
    } else if has("cannot access containerd socket") && has("permission denied") {
        ErrorCode::PermissionDenied
    } else if has("cannot access containerd socket")
        || has("rootless containerd not running")
        || has("transport: Error while dialing")
        || has("error reading from server")
    {
        ErrorCode::ContainerdNotReady
    } else if has("a password is required") || has("is not in the sudoers") {
        ErrorCode::PermissionDenied
    } else if has("401 Unauthorized")
        || has("pull access denied")
        || has("authorization failed")
        || has("403 Forbidden")
        || has("no basic auth credentials")
    {
        ErrorCode::RegistryAuth
    } else if has("no space left on device") {
        ErrorCode::DiskFull
    } else if has(": not found") && matches!(on, On::Image(_)) {
        ErrorCode::ImageNotFound
    } else {
        ErrorCode::EngineError
    };
    let subject = match on {
        On::Engine => None,
        On::Container(id) => Some(("id", "container", id)),
        On::Image(name) => Some(("image", "image", name)),
        On::Network(name) => Some(("network", "network", name)),
        On::Volume(name) => Some(("volume", "volume", name)),
    };
    match subject {
        None => Error::new(code, format!("nerdctl: {said}")),
        Some((field, kind, name)) => {
            let message = match code {
                ErrorCode::ContainerNotFound
                | ErrorCode::ImageNotFound
                | ErrorCode::NetworkNotFound
                | ErrorCode::VolumeNotFound
                    if said.contains(name) || name.is_empty() =>
                {
                    format!("No such {kind}: {name}")
                }
                _ => said.to_owned(),
            };
            Error::new(code, message).detail(field, name)
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    messages(data);
    let exit = Exit::Code(data.first().copied().unwrap_or_default().into());
    for on in [On::Engine, On::Container("web"), On::Image("x"), On::Network("n"), On::Volume("v")] {
        let output = Output { exit: exit.clone(), stdout: Vec::new(), stderr: data.to_vec() };
        refusal(on, &output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases_and_builds() {
        assert_eq!(version("nerdctl version 2.3.5\n"), (2, 3, 5));
        assert_eq!(version("nerdctl version v2.1.6-12-g0123abc.m"), (2, 1, 6));
        assert_eq!(version("nerdctl version 2.4.0-rc.1"), (2, 4, 0));
        assert_eq!(version("what?"), (0, 0, 0));
    }

    #[test]
    fn log_lines_are_read_as_go_quoted_them() {
        let line = r#"time="2026-11-23T13:37:02Z" level=fatal msg="name-store error\nname \"c1\" is already used by ID \"ab\"""#;
        assert_eq!(fault(line).unwrap(), "name-store error\nname \"c1\" is already used by ID \"ab\"");
        assert_eq!(fault(r#"time="x" level=warning msg="cgroup""#), None);
        assert_eq!(fault(r#"time="x" level=error msg=bare"#).unwrap(), "bare");
        assert_eq!(
            messages(b"panic: environment variable HOME is not set\n"),
            "panic: environment variable HOME is not set"
        );
    }
}

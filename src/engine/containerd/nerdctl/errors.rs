//! What nerdctl says when it fails, and the code of it.

use crate::{
    error::{Error, ErrorCode},
    process::{Exit, Output},
};

/// What a command was about: the same words of nerdctl's mean another code.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    Engine,
    Container(&'a str),
    Image(&'a str),
    Network(&'a str),
    Volume(&'a str),
}

pub(crate) fn not_there(e: Error) -> Error {
    if e.code() != ErrorCode::NotInstalled {
        return e;
    }
    Error::new(ErrorCode::NotInstalled, "nerdctl is not installed")
        .hint("Install nerdctl 2.1 or later, or name it: new ContainerdAdapter({ nerdctlPath }).")
        .source(e)
}

/// nerdctl's last words: the messages of its log lines that matter (docs/reference/nerdctl.md#errors).
pub(crate) fn messages(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut all: Vec<String> = text.lines().filter_map(fault).collect();
    if all.is_empty() {
        all.extend(text.lines().rfind(|l| !l.trim().is_empty()).map(str::to_owned));
    }
    all.join("\n")
}

/// The message of a line that logs an error.
pub(crate) fn fault(line: &str) -> Option<String> {
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
pub(crate) fn refusal(on: About<'_>, output: &Output) -> Error {
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
pub(crate) fn classify(on: About<'_>, said: &str) -> Error {
    let has = |part: &str| said.contains(part);
    let code = if has("no such image") || has("image not available") {
        ErrorCode::ImageNotFound
    } else if has("no network found matching") || has("no such network") || has("unable to find any network") {
        ErrorCode::NetworkNotFound
    } else if has("volume.json\" does not exist") || (has("volume \"") && has("not found")) {
        ErrorCode::VolumeNotFound
    } else if has("no such container") || has("no such object") {
        ErrorCode::ContainerNotFound
    } else if has("is already used by ID") || has("already exists") && matches!(on, About::Network(_)) {
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
    } else if has(": not found") && matches!(on, About::Image(_)) {
        ErrorCode::ImageNotFound
    } else {
        ErrorCode::EngineError
    };
    let subject = match on {
        About::Engine => None,
        About::Container(id) => Some(("id", "container", id)),
        About::Image(name) => Some(("image", "image", name)),
        About::Network(name) => Some(("network", "network", name)),
        About::Volume(name) => Some(("volume", "volume", name)),
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
    for on in [About::Engine, About::Container("web"), About::Image("x"), About::Network("n"), About::Volume("v")] {
        let output = Output { exit: exit.clone(), stdout: Vec::new(), stderr: data.to_vec() };
        refusal(on, &output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

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

/// Words of a message, all of which it must have, what it must be about, and its code: the first row that fits counts.
type Row = (&'static [&'static str], Subject, ErrorCode);

#[derive(Clone, Copy, PartialEq)]
enum Subject {
    Any,
    Image,
    Network,
}

#[rustfmt::skip]
const WORDS: &[Row] = {
    use ErrorCode::*;
    use Subject::*;
    &[
        (&["no such image"], Any, ImageNotFound),
        (&["image not available"], Any, ImageNotFound),
        (&["no network found matching"], Any, NetworkNotFound),
        (&["no such network"], Any, NetworkNotFound),
        (&["unable to find any network"], Any, NetworkNotFound),
        (&["volume.json\" does not exist"], Any, VolumeNotFound),
        (&["volume \"", "not found"], Any, VolumeNotFound),
        (&["no such container"], Any, ContainerNotFound),
        (&["no such object"], Any, ContainerNotFound),
        (&["is already used by ID"], Any, NameInUse),
        (&["already exists"], Network, NameInUse),
        (&["port is already allocated"], Any, PortInUse),
        (&["address already in use"], Any, PortInUse),
        (&["conflict: unable to delete"], Any, InUse),
        (&["is in use"], Any, InUse),
        (&["is in running status"], Any, InUse),
        (&["is in paused status"], Any, InUse),
        (&["is already paused"], Any, InvalidState),
        (&["is not paused"], Any, InvalidState),
        (&["is not running"], Any, InvalidState),
        (&["no running task found"], Any, InvalidState),
        (&["already exists"], Any, InvalidState),
        (&["cannot exec in a"], Any, InvalidState),
        (&["must match pattern"], Any, InvalidArgument),
        (&["unknown flag"], Any, InvalidArgument),
        (&["unsupported restart policy"], Any, InvalidArgument),
        (&["invalid reference format"], Any, InvalidArgument),
        (&["cannot access containerd socket", "permission denied"], Any, PermissionDenied),
        (&["cannot access containerd socket"], Any, ContainerdNotReady),
        (&["rootless containerd not running"], Any, ContainerdNotReady),
        (&["transport: Error while dialing"], Any, ContainerdNotReady),
        (&["error reading from server"], Any, ContainerdNotReady),
        (&["a password is required"], Any, PermissionDenied),
        (&["is not in the sudoers"], Any, PermissionDenied),
        (&["401 Unauthorized"], Any, RegistryAuth),
        (&["pull access denied"], Any, RegistryAuth),
        (&["authorization failed"], Any, RegistryAuth),
        (&["403 Forbidden"], Any, RegistryAuth),
        (&["no basic auth credentials"], Any, RegistryAuth),
        (&["no space left on device"], Any, DiskFull),
        (&[": not found"], Image, ImageNotFound),
    ]
};

/// The code of a message.
fn classify(on: About<'_>, said: &str) -> Error {
    let about = match on {
        About::Image(_) => Subject::Image,
        About::Network(_) => Subject::Network,
        _ => Subject::Any,
    };
    let fits = |(words, subject, _): &&Row| {
        words.iter().all(|word| said.contains(word)) && (*subject == Subject::Any || *subject == about)
    };
    let code = WORDS.iter().find(fits).map_or(ErrorCode::EngineError, |(.., code)| *code);
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

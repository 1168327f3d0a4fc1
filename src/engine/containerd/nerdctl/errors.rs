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

/// The level of a line of the log, and its message, as it is quoted.
pub(crate) fn log_message(line: &str) -> Option<(&str, &str)> {
    let (level, rest) = line.strip_prefix("time=")?.split_once(" level=")?.1.split_once(' ')?;
    Some((level, rest.strip_prefix("msg=")?))
}

/// The message of a line that logs an error.
pub(crate) fn fault(line: &str) -> Option<String> {
    let (level, message) = log_message(line)?;
    matches!(level, "fatal" | "error").then(|| unquoted(message))
}

/// A value of logfmt: bare, or quoted as Go quotes strings. What follows the closing quote is other fields.
pub(crate) fn unquoted(value: &str) -> String {
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
    output.exit.of(error).detail("stderr", stderr)
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
    use ErrorCode as Code;
    use Subject::{Any, Image, Network};
    &[
        (&["no such image"], Any, Code::ImageNotFound),
        (&["image not available"], Any, Code::ImageNotFound),
        (&["no network found matching"], Any, Code::NetworkNotFound),
        (&["no such network"], Any, Code::NetworkNotFound),
        (&["unable to find any network"], Any, Code::NetworkNotFound),
        (&["volume.json\" does not exist"], Any, Code::VolumeNotFound),
        (&["volume \"", "not found"], Any, Code::VolumeNotFound),
        (&["no such container"], Any, Code::ContainerNotFound),
        (&["no such object"], Any, Code::ContainerNotFound),
        (&["is already used by ID"], Any, Code::NameInUse),
        (&["already exists"], Network, Code::NameInUse),
        (&["port is already allocated"], Any, Code::PortInUse),
        (&["address already in use"], Any, Code::PortInUse),
        (&["conflict: unable to delete"], Any, Code::InUse),
        (&["is in use"], Any, Code::InUse),
        (&["is in running status"], Any, Code::InUse),
        (&["is in paused status"], Any, Code::InUse),
        (&["is already paused"], Any, Code::InvalidState),
        (&["is not paused"], Any, Code::InvalidState),
        (&["is not running"], Any, Code::InvalidState),
        (&["no running task found"], Any, Code::InvalidState),
        (&["already exists"], Any, Code::InvalidState),
        (&["cannot exec in a"], Any, Code::InvalidState),
        (&["must match pattern"], Any, Code::InvalidArgument),
        (&["unknown flag"], Any, Code::InvalidArgument),
        (&["unsupported restart policy"], Any, Code::InvalidArgument),
        (&["invalid reference format"], Any, Code::InvalidArgument),
        (&["cannot access containerd socket", "permission denied"], Any, Code::PermissionDenied),
        (&["cannot access containerd socket"], Any, Code::ContainerdNotReady),
        (&["rootless containerd not running"], Any, Code::ContainerdNotReady),
        (&["transport: Error while dialing"], Any, Code::ContainerdNotReady),
        (&["error reading from server"], Any, Code::ContainerdNotReady),
        (&["a password is required"], Any, Code::PermissionDenied),
        (&["is not in the sudoers"], Any, Code::PermissionDenied),
        (&["401 Unauthorized"], Any, Code::RegistryAuth),
        (&["pull access denied"], Any, Code::RegistryAuth),
        (&["authorization failed"], Any, Code::RegistryAuth),
        (&["403 Forbidden"], Any, Code::RegistryAuth),
        (&["no basic auth credentials"], Any, Code::RegistryAuth),
        (&["no space left on device"], Any, Code::DiskFull),
        (&[": not found"], Image, Code::ImageNotFound),
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

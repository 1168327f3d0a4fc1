//! Finds the argument that is to blame in the messages of runc, crun and the kernel, which are the same from every engine.

use super::{types::*, validate};
use crate::error::{Error, ErrorCode};

/// Why a container did not start, with the argument to blame if there is one.
pub(super) fn start(e: Error, spec: &ContainerSpec) -> Error {
    if !is_unexplained(&e) {
        return e;
    }
    let said = message_without_field(&e).to_owned();
    let lower = said.to_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|t| lower.contains(t));
    // If the caller gave no command, the image's own was run.
    let command = if spec.command.is_empty() { "image" } else { "command[0]" };
    if has(&["cannot assign requested address"]) {
        let given = |host: &str| validate::port_mapping("1", host).ok().and_then(|p| p.host_ip);
        let mut ports = spec.ports.iter().filter_map(|(port, host)| Some((port, given(host)?.to_string())));
        if let Some((port, address)) = ports.find(|(_, address)| said.contains(address.as_str())) {
            let problem = format!("{address} is no address of the engine's machine: {said}");
            return blame_field(&e, &format!("ports.{port}"), &problem)
                .hint("Publish on 127.0.0.1, on one of its own addresses, or on none in particular.");
        }
    }
    if has(&["error mounting", "trying to mount a directory onto a file", "bind mount"])
        && has(&["not a directory", "is a directory"])
    {
        let volumes = spec.volumes.iter().enumerate();
        let named = volumes.filter(|(_, v)| said.contains(&v.container)).max_by_key(|(_, v)| v.container.len());
        if let Some((i, _)) = named {
            return blame_field(&e, &format!("volumes[{i}].container"), &said)
                .hint("A directory can be mounted on a directory only, and a file on a file.");
        }
    }
    if has(&["exec format error"]) {
        let hint = "The program is for another kind of processor, or is no program. See `platform`.";
        return blame_field(&e, command, &said).hint(hint);
    }
    if missing_program_exit_code(&lower).is_some() {
        return blame_field(&e, command, &said)
            .hint("The image has no such program. A shell's words need a shell: ['sh', '-c', '…'].");
    }
    if is_missing_user(&lower) {
        return blame_field(&e, "image", &said);
    }
    e
}

/// The same for a process in a running container.
pub(super) fn exec(e: Error, options: &ExecOptions) -> Error {
    match field_of_exec(&e.message().to_lowercase(), options) {
        Some(field) if is_unexplained(&e) => blame_field(&e, field, message_without_field(&e)),
        _ => e,
    }
}

/// The result of an exec whose process never ran; `said` is the engine's message. A missing program is not an error, but an
/// exit code as in a shell.
pub(super) fn result_of_unstarted_exec(
    exit_code: i64,
    said: Vec<u8>,
    options: &ExecOptions,
) -> Result<ExecOutput, Error> {
    let text = String::from_utf8_lossy(&said).trim().to_owned();
    let lower = text.to_lowercase();
    if let Some(field) = field_of_exec(&lower, options) {
        return Err(Error::invalid(field, text));
    }
    match missing_program_exit_code(&lower) {
        Some(exit_code) => Ok(ExecOutput { exit_code, stdout: bytes::Bytes::new(), stderr: said.into() }),
        // This is not an engine's message: the process did run.
        None if !lower.contains("oci runtime") => {
            Ok(ExecOutput { exit_code, stdout: said.into(), stderr: bytes::Bytes::new() })
        }
        None => Err(Error::new(ErrorCode::EngineError, text)),
    }
}

fn field_of_exec(lower: &str, options: &ExecOptions) -> Option<&'static str> {
    let bad_user = options.user.is_some() && is_missing_user(lower);
    let bad_dir = options.workdir.is_some() && lower.contains("chdir");
    bad_user.then_some("user").or(bad_dir.then_some("workdir"))
}

fn is_missing_user(lower: &str) -> bool {
    ["unable to find user", "unable to find group", "no matching entries in", "no users found", "no groups found"]
        .iter()
        .any(|t| lower.contains(t))
}

/// The exit code of a missing program, or none if the message is not about that.
fn missing_program_exit_code(lower: &str) -> Option<i64> {
    let has = |texts: &[&str]| texts.iter().any(|t| lower.contains(t));
    // Messages about the program itself: other missing things have other words.
    if !has(&["exec: ", "executable", "crun: open", "attempted to invoke a command"])
        || has(&["namespace path", "chdir"])
    {
        return None;
    }
    if has(&["executable file not found", "executable file `", "no such file or directory"]) {
        return Some(127);
    }
    has(&["permission denied", "is a directory", "exec format error"]).then_some(126)
}

/// Whether an error says only that the engine refused.
fn is_unexplained(e: &Error) -> bool {
    let named = e.details().get("field").is_some_and(|f| f != "id" && f != "config");
    !named && matches!(e.code(), ErrorCode::EngineError | ErrorCode::InvalidArgument)
}

/// Its message, without the argument that it already blames.
fn message_without_field(e: &Error) -> &str {
    let field = e.details().get("field").and_then(|f| f.as_str()).unwrap_or_default();
    e.message().strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(e.message())
}

/// A new error about `field`, with the same details.
fn blame_field(e: &Error, field: &str, problem: &str) -> Error {
    Error::invalid(field, problem).details_of(e).detail("field", field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ContainerSpec {
        serde_json::from_str(text).unwrap()
    }

    fn field(e: &Error) -> &str {
        assert_eq!(e.code(), ErrorCode::InvalidArgument, "{}", e.message());
        e.details()["field"].as_str().unwrap()
    }

    /// Recorded from dockerd 20.10.24 (runc 1.1), nerdctl 2.1.6 and 2.3.5, podman 4.3.1.
    #[test]
    fn the_argument_is_named_whoever_says_it() {
        let spec = spec(
            r#"{"name":"web","image":"i","command":["nosuch"],"ports":{"80":"8080","81/udp":"203.0.113.9:8099"},
                "volumes":[{"host":"/a","container":"/etc"},{"host":"/b","container":"/etc/passwd"}]}"#,
        );
        for (said, expected) in [
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: \
                 exec: \"nosuch\": executable file not found in $PATH: unknown",
                "command[0]",
            ),
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: \
                 exec: \"/etc\": permission denied: unknown",
                "command[0]",
            ),
            (
                "runc: exec failed: unable to start container process: exec: \"/x\": stat /x: no such file or directory",
                "command[0]",
            ),
            (
                "crun: executable file `nosuch` not found in $PATH: No such file or directory: OCI runtime attempted to invoke a command that was not found",
                "command[0]",
            ),
            ("exec /x: exec format error", "command[0]"),
            ("unable to find user nosuch: no matching entries in passwd file", "image"),
            (
                "driver failed programming external connectivity on endpoint c2 (d5a3fe7e5607): Error starting userland proxy: \
                 listen tcp4 203.0.113.9:8099: bind: cannot assign requested address",
                "ports.81/udp",
            ),
            (
                "cannot listen on the TCP port: listen tcp4 203.0.113.9:8099: bind: cannot assign requested address",
                "ports.81/udp",
            ),
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: \
                 error during container init: error mounting \"/b\" to rootfs at \"/etc/passwd\": mount /b:/etc/passwd (via \
                 /proc/self/fd/6), flags: 0x5000: not a directory: unknown: Are you trying to mount a directory onto a file",
                "volumes[1].container",
            ),
        ] {
            for e in [
                Error::new(ErrorCode::EngineError, said).detail("status", 500),
                Error::invalid("id", said).detail("status", 500),
            ] {
                let e = start(e, &spec);
                assert_eq!((field(&e), &e.details()["status"]), (expected, &500.into()), "{said}");
                assert!(e.message().ends_with(said) && !e.message().contains("id: "), "{}", e.message());
            }
        }
        let bare = ContainerSpec { command: Vec::new(), ..spec.clone() };
        let e = Error::new(ErrorCode::EngineError, "exec: \"x\": executable file not found in $PATH");
        assert_eq!(field(&start(e, &bare)), "image");
        for e in [
            Error::new(ErrorCode::PortInUse, "exec: \"x\": executable file not found"),
            Error::invalid("volumes[0].host", "exec: \"x\": executable file not found"),
            Error::new(ErrorCode::EngineError, "something else"),
            Error::new(ErrorCode::EngineError, "listen tcp4 198.51.100.1:80: bind: cannot assign requested address"),
        ] {
            let (code, message) = (e.code(), e.message().to_owned());
            let e = start(e, &spec);
            assert_eq!((e.code(), e.message()), (code, message.as_str()));
        }
    }

    #[test]
    fn an_exec_that_never_began() {
        let options: ExecOptions = serde_json::from_str(r#"{"user":"nosuch","workdir":"/nosuch"}"#).unwrap();
        let runc = |why: &str| {
            format!("OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown\r\n")
        };
        let ends = |said: &str, options: &ExecOptions| result_of_unstarted_exec(126, said.into(), options);
        let e = ends("unable to find user nosuch: no matching entries in passwd file\r\n", &options).unwrap_err();
        assert_eq!(field(&e), "user");
        let e = ends("unable to find group nosuch: no matching entries in group file\r\n", &options).unwrap_err();
        assert_eq!(field(&e), "user");
        let dir = runc("chdir to cwd (\"/nosuch\") set in config.json failed: no such file or directory");
        assert_eq!(field(&ends(&dir, &options).unwrap_err()), "workdir");
        let none = ExecOptions::default();
        for (why, code) in [
            ("exec: \"/no/such\": stat /no/such: no such file or directory", 127),
            ("exec: \"nosuch\": executable file not found in $PATH", 127),
            ("exec: \"/etc\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
        ] {
            let out = ends(&runc(why), &none).unwrap();
            assert_eq!((out.exit_code, out.stdout.len(), &out.stderr[..]), (code, 0, runc(why).as_bytes()));
        }
        assert_eq!(ends(&runc("something new"), &none).unwrap_err().code(), ErrorCode::EngineError);
        // Output of a program whose process the engine has forgotten.
        let out = ends("hello\n", &none).unwrap();
        assert_eq!((out.exit_code, &out.stdout[..]), (126, &b"hello\n"[..]));
        let e = Error::new(ErrorCode::EngineError, "unable to find user nosuch: no matching entries in passwd file");
        assert_eq!(field(&exec(e, &options)), "user");
    }
}

//! What keeps a container's last words. nerdctl's logger stops reading when it hears that the container has ended, whatever
//! its pipes still hold (2.3.5, pkg/logging/logging.go: `stdoutR.Cancel()`), and they hold up to 64 KiB. A shell around it,
//! which has the same pipes, writes the rest into the log. The logger also stops when containerd does, while the container
//! goes on (docs/reference/nerdctl.md#logger-ends-with-containerd): the shell starts it again. Before 2.3.4 the logger itself
//! loses what it has read, and there is nothing to be kept.

use std::collections::HashMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::{nerdctl::labels::LOG_URI, prelude::*};
use crate::{guest::BEGAN, shell::quoted};

/// The version from which on the logger writes what it has read before it ends.
const SINCE: (u32, u32, u32) = (2, 3, 4);
/// In nerdctl's directory of the container.
const SCRIPT: &str = "lima-runtime-logger.sh";
/// Held as long as something may still be written; nerdctl's own lock goes with its logger.
pub(crate) const LOCK: &str = "lima-runtime-logger.lock";

/// Runs as containerd runs a logger: the container's output at descriptors 3 and 4, and 5 to be closed when it is ready.
const RUN: &str = r#"dir=${0%/*}
log=$dir/${dir##*/}-json.log
exec 9>"$dir/lima-runtime-logger.lock"
flock -w 2 9
"$program" _NERDCTL_INTERNAL_LOGGING "$store" 9>&- &
logger=$!
exec 5>&-
over=
trap 'over=1; kill -s TERM "$logger"' HUP INT TERM
while kill -0 "$logger"; do wait "$logger"; done
# The shim's directory, which is this shell's, has the number of the container's first process.
init=$(cat init.pid) && began "$init" && since=$at
while [ -z "$over" ] && [ -n "$since" ] && began "$init" && [ "$at" = "$since" ]; do
  sleep 1 9>&-
  "$program" _NERDCTL_INTERNAL_LOGGING "$store" 5>/dev/null 9>&- &
  logger=$!
  while kill -0 "$logger"; do wait "$logger"; done
done
export LC_ALL=C
for stream in 3:stdout 4:stderr; do
  dd "if=/proc/self/fd/${stream%:*}" iflag=nonblock bs=65536 count=64 | od -An -v -tu1 |
    awk -v "stream=${stream#*:}" -v "time=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)" '
      BEGIN {
        for (i = 0; i < 256; i++) text[i] = i < 32 ? sprintf("\\u%04x", i) : sprintf("%c", i)
        text[34] = "\\\""; text[92] = "\\\\"; text[127] = "\\u007f"
        end = "\",\"stream\":\"" stream "\",\"time\":\"" time "\"}\n"
      }
      function put() { printf "{\"log\":\"%s%s", line, end; line = "" }
      { for (i = 1; i <= NF; i++) { line = line text[$i]; if ($i == 10) put() } }
      END { if (line != "") put() }' >>"$log"
done
"#;

/// Takes the logger's place in a container just made; what is to be changed in its labels.
pub(crate) async fn install(c: &Containerd, made: &Container, dir: &str) -> Result<HashMap<String, String>> {
    const WRITE: &str = r#"umask 077; cat >"$1""#;
    let Some((program, store)) = made.labels.get(LOG_URI).and_then(|uri| nerdctls(uri)) else {
        return Ok(HashMap::new());
    };
    if c.nerdctl.version().await < SINCE {
        return Ok(HashMap::new());
    }
    let path = format!("{dir}/{SCRIPT}");
    let script = format!(
        "# Written by lima-runtime: nerdctl's logger, and then what it left in its pipes.\nexec 2>/dev/null\nprogram={}\nstore={}\n{BEGAN}\n{RUN}",
        quoted(&program),
        quoted(&store)
    );
    c.guest().run(c.command(["sh", "-c", WRITE, "sh", &path]).input(script)).await?.checked("sh")?;
    // The shim makes two words of each part of the query, and no order among them.
    Ok([(LOG_URI.to_owned(), format!("binary:///bin/sh?{}=log", encoded(&path)))].into())
}

/// Ends the logger of a container whose start failed: nerdctl's before 2.3.4 waits for its task for ever. It is known by all of
/// what containerd's shim gave it: the program's words, whose container it is, and who runs it.
pub(crate) async fn end(c: &Containerd, id: &str) {
    const END: &str = r#"grep -lsaF "CONTAINER_ID=$1" /proc/[0-9]*/environ | while IFS=/ read -r _ _ pid _; do
  began "$pid" || continue
  since=$at
  [ -O "/proc/$pid" ] && [ "$(tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n 2p)" = _NERDCTL_INTERNAL_LOGGING ] || continue
  own=$(tr '\0' '\n' <"/proc/$pid/environ" | grep -xcF -e "CONTAINER_ID=$1" -e "CONTAINER_NAMESPACE=$2")
  [ "$own" = 2 ] && began "$pid" && [ "$at" = "$since" ] || continue
  kill -s TERM "$pid"
done"#;
    let ended = c.guest().run(c.command(["sh", "-c", &[BEGAN, END].concat(), "sh", id, c.namespace()])).await;
    if let Err(e) = ended.and_then(|output| output.checked("sh")) {
        tracing::debug!(id, %e, "a logger may be left");
    }
}

/// nerdctl's program and its directory, of `binary:///usr/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl%2F…`.
fn nerdctls(uri: &str) -> Option<(String, String)> {
    let (program, store) = uri.strip_prefix("binary://")?.split_once("?_NERDCTL_INTERNAL_LOGGING=")?;
    Some((decoded(program, false)?, decoded(store, true)?))
}

/// As Go reads a URI: in a query, a plus is a blank.
fn decoded(text: &str, query: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let (high, low) = (char::from(bytes.next()?), char::from(bytes.next()?));
                u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok()?
            }
            b'+' if query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

fn encoded(text: &str) -> String {
    const SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');
    utf8_percent_encode(text, SET).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nerdctls_own_logger_is_known_by_its_address() {
        let uri = "binary:///opt/with%20blank/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fa+b%2F1935db59";
        assert_eq!(nerdctls(uri), Some(("/opt/with blank/nerdctl".into(), "/var/lib/a b/1935db59".into())));
        for other in ["", "file:///log", "binary:///bin/sh?-c=x", "binary:///x?_NERDCTL_INTERNAL_LOGGING=%2"] {
            assert_eq!(nerdctls(other), None);
        }
        assert_eq!(encoded("/a b+c/ü"), "/a%20b%2Bc/%C3%BC");
    }

    /// Where the script ran with this logger, by a shell that got it as its argument.
    #[cfg(target_os = "linux")]
    fn logged(logger: &str, run: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (program, state) = (dir.path().join("logger"), dir.path().join("c1"));
        std::fs::create_dir(&state).unwrap();
        std::fs::write(&program, format!("#!/bin/sh\n{logger}")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let script = state.join(SCRIPT);
        let text = format!("exec 2>/dev/null\nprogram='{}'\nstore=/nowhere\n{BEGAN}\n{RUN}", program.display());
        std::fs::write(&script, text).unwrap();
        let mut shell = std::process::Command::new("sh");
        let status = shell.args(["-c", run, "sh"]).arg(&script).current_dir(dir.path()).status();
        assert!(status.unwrap().success());
        dir
    }

    /// The script with a logger that reads a little and ends, as nerdctl's does when the container has ended.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_logger_leaves_in_its_pipes_comes_into_the_log() {
        // Its writers stay open, as the shim's do.
        let run = r#"mkfifo out err; exec 6<>out 7<>err; printf 'one\ntwo "\\\ttab \303\274\377\n\001\000' >&6; printf 'of err' >&7
            exec sh "$1" log 3<out 4<err 5>ready"#;
        let dir = logged("exec 5>&-\nIFS= read -r line <&3\n", run);
        let text = std::fs::read(dir.path().join("c1/c1-json.log")).unwrap();
        let lines: Vec<_> = String::from_utf8_lossy(&text)
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|v| (v["stream"].as_str().unwrap().to_owned(), v["log"].as_str().unwrap().to_owned()))
            .collect();
        let line = |stream: &str, log: &str| (stream.to_owned(), log.to_owned());
        assert_eq!(
            lines,
            [line("stdout", "two \"\\\ttab ü\u{fffd}\n"), line("stdout", "\u{1}\0"), line("stderr", "of err")]
        );
    }

    /// A logger that reads a line and ends, while the container's first process lives: as nerdctl's when containerd is killed.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_logger_that_ends_before_its_container_is_started_again() {
        // The second one finds the descriptor that it is to close when it is ready, and ends the container.
        let read = "IFS= read -r line <&3\necho \"$line\" >>seen\n: >&5 || echo closed >>seen\nif [ \"$line\" = two ]; then kill \"$(cat init.pid)\"; while [ -e running ]; do sleep 0.1; done; fi\n";
        let run = r#"mkfifo out err; exec 6<>out 7<>err; printf 'one\ntwo\n' >&6; >running
            (sleep 600 & echo $! >init.pid; wait; rm running) 6>&- 7>&- &
            while [ ! -s init.pid ]; do sleep 0.1; done
            exec sh "$1" log 3<out 4<err 5>ready"#;
        let dir = logged(read, run);
        assert_eq!(std::fs::read_to_string(dir.path().join("seen")).unwrap(), "one\ntwo\n");
    }
}

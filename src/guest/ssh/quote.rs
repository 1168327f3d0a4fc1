//! sshd passes a command to the user's shell as one string (docs/reference/ssh.md#one-command-string). Only this module
//! makes such a string of an argument vector.

use crate::{
    error::{Error, Result},
    guest::Leader,
    shell,
};

/// Linux takes no single argument longer than this (`MAX_ARG_STRLEN`), and the whole command is one argument of the
/// guest's shell.
const MAX_ARGUMENT: usize = 128 * 1024 - 1;

/// The shell prints this and its identity first, then becomes the command. That makes it possible to end a command that
/// ignores sshd's signal.
pub(super) const MARKER: &[u8] = b"lima-runtime-pid:";

/// A line for a POSIX shell that runs exactly `argv`.
pub(super) fn line(argv: &[Vec<u8>]) -> Result<Vec<u8>> {
    // A shell builtin reads it, into a variable that no program uses.
    let mut line = [
        b"{ read -r LIMA_RUNTIME_STAT </proc/$$/stat; } 2>/dev/null; echo ",
        MARKER,
        b"$$ ${LIMA_RUNTIME_STAT##*)} >&2; exec",
    ]
    .concat();
    words(argv, &mut line);
    if line.len() > MAX_ARGUMENT {
        let problem = format!("{} bytes once quoted, more than the {MAX_ARGUMENT} a guest takes", line.len());
        return Err(Error::invalid("argv", problem).hint("Pass large data through standard input."));
    }
    Ok(line)
}

/// A line that ends `leader`'s group, through `sudo` where only root may.
pub(super) fn ending(leader: Leader, politely: bool, sudo: &[&str]) -> Vec<u8> {
    let (script, arguments) = leader.end(politely);
    let mut line = b"exec".to_vec();
    words(sudo, &mut line);
    words(["sh", "-c", &script, "sh"], &mut line);
    words(arguments, &mut line);
    line
}

fn words<W: AsRef<[u8]>>(argv: impl IntoIterator<Item = W>, line: &mut Vec<u8>) {
    for word in argv {
        line.push(b' ');
        line.extend(shell::quote(word.as_ref()));
    }
}

/// Removes the marker's line from standard error, wherever it stands among the shell's own output.
#[derive(Default)]
pub(super) struct LeaderFilter {
    held: Vec<u8>,
    pub(super) leader: Option<Leader>,
    done: bool,
}

impl LeaderFilter {
    /// Returns the part of standard error that is the command's.
    pub(super) fn pass(&mut self, data: bytes::Bytes) -> bytes::Bytes {
        if self.done {
            return data;
        }
        self.held.extend_from_slice(&data);
        if let Some(start) = self.held.windows(MARKER.len()).position(|w| w == MARKER)
            && let Some(length) = self.held[start..].iter().position(|&b| b == b'\n')
        {
            let line: Vec<u8> = self.held.drain(start..=start + length).collect();
            self.leader = std::str::from_utf8(&line[MARKER.len()..]).ok().and_then(Leader::parse);
            return self.rest();
        }
        // A login script may print something, within limits.
        if self.held.len() > 64 * 1024 { self.rest() } else { bytes::Bytes::new() }
    }

    pub(super) fn rest(&mut self) -> bytes::Bytes {
        self.done = true;
        std::mem::take(&mut self.held).into()
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let mut filter = LeaderFilter::default();
    let mut out: Vec<u8> = data.chunks(5).flat_map(|piece| filter.pass(bytes::Bytes::copy_from_slice(piece))).collect();
    out.extend(filter.rest());
    assert!(out.len() <= data.len());
}

#[cfg(all(test, unix))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_pid_line_is_found_in_pieces_and_among_noise() {
        let mut f = LeaderFilter::default();
        let mut out = Vec::new();
        for part in [
            "hello from .bash",
            "rc\nlima-runt",
            "ime-pid:41",
            "7 S 1 417 417 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 47",
            "11 0\nreal ",
            "error\n",
        ] {
            out.extend_from_slice(&f.pass(bytes::Bytes::from(part)));
        }
        assert_eq!(f.leader, Leader::parse("417 S 1 417 417 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711"));
        assert!(f.leader.is_some());
        assert_eq!(String::from_utf8(out).unwrap(), "hello from .bashrc\nreal error\n");
    }

    #[test]
    fn a_line_too_long_for_the_guest_is_refused() {
        let e = line(&[b"true".to_vec(), vec![b'\''; 40_000]]).unwrap_err();
        assert_eq!(e.code(), crate::error::ErrorCode::InvalidArgument);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
        #[test]
        fn every_shell_here_reads_back_what_was_quoted(
            words in prop::collection::vec(prop::collection::vec(1u8..=255, 0..40), 0..8),
        ) {
            use std::os::unix::ffi::OsStringExt;
            let mut argv = vec![b"printf".to_vec(), b"%s\\0".to_vec()];
            argv.extend(words.iter().cloned());
            // printf without arguments prints its format once.
            let expected: Vec<u8> =
                if words.is_empty() { vec![0] } else { words.iter().flat_map(|w| [w, &b"\0"[..]].concat()).collect() };
            for shell in ["/bin/sh", "/bin/bash"] {
                if !std::path::Path::new(shell).exists() {
                    continue;
                }
                let script = std::ffi::OsString::from_vec(line(&argv).unwrap());
                let out = std::process::Command::new(shell).arg("-c").arg(script).output().unwrap();
                prop_assert_eq!(&out.stdout, &expected, "{}", shell);
            }
        }
    }
}

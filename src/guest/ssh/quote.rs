//! sshd hands a command to the user's shell as one string (docs/reference/ssh.md#one-command-string). This is the only
//! place that makes such a string.

use crate::error::{Error, Result};

/// Linux takes no single argument longer than this (`MAX_ARG_STRLEN`), and the whole command is one argument of the
/// guest's shell.
const LONGEST: usize = 128 * 1024 - 1;

/// What the shell says first, with its process number, which the command then takes over. The way to a command that
/// does not end when sshd is asked to end it.
pub(super) const MARKER: &[u8] = b"lima-runtime-pid:";

/// A line for a POSIX shell that runs exactly `argv`.
pub(super) fn line(argv: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut line = [b"echo ", MARKER, b"$$ >&2; exec"].concat();
    for word in argv {
        line.push(b' ');
        quote(word, &mut line);
    }
    if line.len() > LONGEST {
        let problem = format!("{} bytes once quoted, more than the {LONGEST} a guest takes", line.len());
        return Err(Error::invalid("argv", problem).hint("Pass large data through standard input."));
    }
    Ok(line)
}

/// Within single quotes a POSIX shell interprets nothing; only the single quote itself cannot stand there.
fn quote(word: &[u8], line: &mut Vec<u8>) {
    line.push(b'\'');
    for &byte in word {
        if byte == b'\'' {
            line.extend_from_slice(b"'\\''");
        } else {
            line.push(byte);
        }
    }
    line.push(b'\'');
}

/// Takes the marker's line out of standard error, wherever the shell's own noise put it.
#[derive(Default)]
pub(super) struct PidFilter {
    held: Vec<u8>,
    pub(super) pid: Option<u32>,
    done: bool,
}

impl PidFilter {
    /// What of standard error is the command's.
    pub(super) fn pass(&mut self, data: bytes::Bytes) -> bytes::Bytes {
        if self.done {
            return data;
        }
        self.held.extend_from_slice(&data);
        if let Some(start) = self.held.windows(MARKER.len()).position(|w| w == MARKER)
            && let Some(length) = self.held[start..].iter().position(|&b| b == b'\n')
        {
            let line: Vec<u8> = self.held.drain(start..=start + length).collect();
            let digits = std::str::from_utf8(&line[MARKER.len()..line.len() - 1]).unwrap_or_default();
            self.pid = digits.parse().ok();
            return self.rest();
        }
        // A login script may talk, but not for ever.
        if self.held.len() > 64 * 1024 { self.rest() } else { bytes::Bytes::new() }
    }

    pub(super) fn rest(&mut self) -> bytes::Bytes {
        self.done = true;
        std::mem::take(&mut self.held).into()
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let mut filter = PidFilter::default();
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
        let mut f = PidFilter::default();
        let mut out = Vec::new();
        for part in ["hello from .bash", "rc\nlima-runt", "ime-pid:41", "7\nreal ", "error\n"] {
            out.extend_from_slice(&f.pass(bytes::Bytes::from(part)));
        }
        assert_eq!(f.pid, Some(417));
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

//! How a command reaches a distribution, and how its exit is reported.
//!
//! Not on the command line of `wsl.exe`: Windows limits that to 32,767 characters of UTF-16, `wsl.exe` parses part of it by
//! its own rules, and every program of the user can read it (docs/reference/wsl.md#command-lines). A shell in the guest
//! reads the command from its standard input, as one line of ASCII; the command's own input follows.
//!
//! The exit code of `wsl.exe` is not enough either: when `wsl.exe` is ended, it looks like a command that failed, while the
//! command goes on (docs/reference/wsl.md#commands-that-go-on). So the shell reports its identity and the command's exit on
//! standard error.

use bytes::Bytes;

use crate::{guest::Leader, process::Exit, random, shell};

/// For the guest's shell; `$0` is the [`mark`]. One line, without characters that Windows treats specially. The command
/// gets no variable of Windows or WSL, since it would end up in containers. TERM goes to the whole group: it ends the
/// command and leaves the shell to report the exit; what the shell itself prints about it is dropped.
pub(super) const SCRIPT: &str = "{ read -r LIMA_RUNTIME_STAT </proc/$$/stat; } 2>/dev/null; \
    echo $0 leader $$ ${LIMA_RUNTIME_STAT##*)} >&2; IFS= read -r line || exit 125; trap : TERM; exec 3>&2 2>/dev/null; \
    (exec 2>&3 3>&-; eval \"exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    LANG=C.UTF-8 $(printf %b \"$line\")\"); echo $0 exit $? >&3";

/// A prefix that only this command's shell knows.
pub(super) fn mark() -> String {
    format!("lima-runtime-{}", random::word())
}

/// Quotes each word for the shell, and escapes the result for `printf %b`.
pub(super) fn line(argv: &[Vec<u8>]) -> Bytes {
    let mut line = Vec::new();
    let mut put = |byte: u8| match byte {
        b'\\' | ..b' ' | 127.. => line.extend(format!("\\0{byte:03o}").into_bytes()),
        plain => line.push(plain),
    };
    for word in argv {
        put(b' ');
        shell::quote(word).into_iter().for_each(&mut put);
    }
    line.push(b'\n');
    line.into()
}

/// Removes the shell's reports from standard error.
pub(super) struct Filter {
    mark: Vec<u8>,
    held: Vec<u8>,
    pub(super) leader: Option<Leader>,
    pub(super) exit: Option<Exit>,
}

impl Filter {
    pub(super) fn new(mark: &str) -> Self {
        Self { mark: mark.as_bytes().to_vec(), held: Vec::new(), leader: None, exit: None }
    }

    /// What of standard error is the command's.
    pub(super) fn pass(&mut self, data: &[u8]) -> Bytes {
        self.held.extend_from_slice(data);
        let mut out = Vec::new();
        while let Some(start) = self.held.windows(self.mark.len()).position(|w| w == self.mark) {
            out.extend(self.held.drain(..start));
            let Some(end) = self.held.iter().position(|b| *b == b'\n') else { return out.into() };
            let said: Vec<u8> = self.held.drain(..=end).skip(self.mark.len()).collect();
            let said = String::from_utf8_lossy(&said).into_owned();
            match said.trim().split_once(' ') {
                Some(("leader", words)) => self.leader = Leader::parse(words),
                Some(("exit", number)) => self.exit = number.parse().ok().map(exit),
                _ => {}
            }
        }
        // The end may be the beginning of a mark.
        let begins = |n: &usize| self.held.ends_with(&self.mark[..*n]);
        let kept = (1..self.mark.len().min(self.held.len() + 1)).rev().find(begins).unwrap_or(0);
        out.extend(self.held.drain(..self.held.len() - kept));
        out.into()
    }

    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }
}

/// A shell reports a signal as 128 plus its number. A program that exits with such a code is reported the same way.
fn exit(code: i32) -> Exit {
    let name = match code - 128 {
        1 => "HUP",
        2 => "INT",
        3 => "QUIT",
        4 => "ILL",
        6 => "ABRT",
        8 => "FPE",
        9 => "KILL",
        11 => "SEGV",
        13 => "PIPE",
        14 => "ALRM",
        15 => "TERM",
        _ => return Exit::Code(code),
    };
    Exit::Signal(name.to_owned())
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    const MARK: &str = "lima-runtime-0123456789abcdef";
    let read = |size: usize| {
        let mut filter = Filter::new(MARK);
        let mut out: Vec<u8> = data.chunks(size).flat_map(|piece| filter.pass(piece)).collect();
        out.extend(filter.rest());
        (out, filter.leader, filter.exit)
    };
    let whole = read(data.len().max(1));
    assert!(whole.0.len() <= data.len());
    assert_eq!(read(1), whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shells_words_are_found_in_pieces_and_nothing_else_is_held_back() {
        let mark = mark();
        assert_ne!(mark, super::mark());
        let leader = "417 S 1 417 417 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        let all = format!("warning\n{mark} leader {leader}\nreal {}error{mark} exit 137\nlate\n", &mark[..9]);
        for size in 1..all.len() {
            let mut filter = Filter::new(&mark);
            let mut out: Vec<u8> = all.as_bytes().chunks(size).flat_map(|part| filter.pass(part)).collect();
            out.extend(filter.rest());
            assert_eq!(String::from_utf8(out).unwrap(), format!("warning\nreal {}errorlate\n", &mark[..9]));
            assert_eq!((filter.leader, filter.exit), (Leader::parse(leader), Some(Exit::Signal("KILL".into()))));
        }
        let mut filter = Filter::new(&mark);
        assert_eq!(filter.pass(b"at once"), "at once");
    }

    #[test]
    fn a_line_is_one_line_of_ascii() {
        let argv = [b"printf".to_vec(), (1..=255).collect()];
        let line = line(&argv);
        assert!(line[..line.len() - 1].iter().all(|b| (b' '..127).contains(b)));
        assert!(SCRIPT.bytes().all(|b| (b' '..127).contains(&b)));
    }

    /// Splits a command line as `CommandLineToArgvW` does (its page on learn.microsoft.com, "Remarks").
    fn words(line: &str) -> Vec<String> {
        let (mut all, mut word, mut quoted, mut some) = (Vec::new(), String::new(), false, false);
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                ' ' | '\t' if !quoted => {
                    if some {
                        all.push(std::mem::take(&mut word));
                    }
                    some = false;
                    continue;
                }
                '\\' => {
                    let mut count = 1;
                    while chars.next_if_eq(&'\\').is_some() {
                        count += 1;
                    }
                    if chars.peek() == Some(&'"') {
                        word.push_str(&"\\".repeat(count / 2));
                        if count % 2 == 1 {
                            word.push('"');
                            chars.next();
                        }
                    } else {
                        word.push_str(&"\\".repeat(count));
                    }
                }
                '"' => quoted = !quoted,
                other => word.push(other),
            }
            some = true;
        }
        if some {
            all.push(word);
        }
        all
    }

    #[test]
    fn the_script_survives_windows_quoting() {
        // As the standard library quotes it: in double quotes, with inner ones escaped.
        assert!(!SCRIPT.contains('\\'));
        let quoted = format!("\"{}\"", SCRIPT.replace('"', "\\\""));
        let line = format!("/bin/sh -c {quoted} lima-runtime-1");
        assert_eq!(words(&line), ["/bin/sh", "-c", SCRIPT, "lima-runtime-1"]);
    }
}

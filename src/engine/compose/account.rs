//! What a compose says while it works, a line each, and how it ended.

use tokio_util::sync::CancellationToken;

use crate::{
    call,
    error::{Error, ErrorCode, Result},
    process::{Chunk, Exit, Lines, Process},
    progress::{ComposeProgress, ComposeState, Sink, Throttle},
};

/// What is kept of other words, and how much of a line is read.
const SAID: usize = 64 << 10;
/// More tell nobody anything.
const MOST_WARNINGS: usize = 64;
const LONGEST_LINE: usize = 1 << 20;

pub(crate) struct Account {
    progress: Throttle<ComposeProgress>,
    /// What was said of the failure.
    faults: Vec<String>,
    /// Some composes say the same twice.
    warned: Vec<String>,
    /// The end of the rest.
    said: String,
    /// The image that is fetched, or was in vain.
    pub(crate) image: Option<String>,
}

impl Account {
    pub(crate) fn new(sink: Sink<ComposeProgress>) -> Self {
        Self { progress: Throttle::new(sink), faults: Vec::new(), warned: Vec::new(), said: String::new(), image: None }
    }

    /// The words for a failure.
    pub(crate) fn fault(&self) -> String {
        let last = || self.said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it did not say why").to_owned();
        if self.faults.is_empty() { last() } else { self.faults.join("\n") }
    }

    /// What else was said.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    pub(crate) fn warn(&mut self, text: &str) {
        if self.warned.iter().any(|w| w == text) || self.warned.len() == MOST_WARNINGS {
            return;
        }
        self.warned.push(text.to_owned());
        call::warn(Error::new(ErrorCode::EngineWarning, text));
        self.progress.always(ComposeProgress::whole(text, ComposeState::Warning));
    }

    pub(crate) fn event(&mut self, event: ComposeProgress) {
        // Layers tell their bytes many times a second.
        if event.current.is_some() && event.state == ComposeState::Working {
            self.progress.offer(|| event);
        } else {
            self.progress.always(event);
        }
    }

    pub(crate) fn fails(&mut self, text: String) {
        let kept: usize = self.faults.iter().map(String::len).sum();
        if kept + text.len() <= SAID && !text.trim().is_empty() {
            self.progress.always(ComposeProgress::whole(&text, ComposeState::Failed));
            self.faults.push(text);
        }
    }

    pub(crate) fn keep(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
        if self.said.len() > 2 * SAID {
            let mut from = self.said.len() - SAID;
            while !self.said.is_char_boundary(from) {
                from += 1;
            }
            self.said.drain(..from);
        }
    }
}

/// Hands `input` over, and `take` each line of the standard error, up to the program's end; its standard output is given back. When
/// `gone` is cancelled, it is ended.
pub(crate) async fn follow(
    mut process: Process,
    gone: &CancellationToken,
    mut take: impl FnMut(&str),
) -> Result<(Exit, Vec<u8>)> {
    process.stdin = None;
    let (mut lines, mut out) = (Lines::default(), Vec::new());
    loop {
        let chunk = tokio::select! {
            chunk = process.next() => chunk,
            () = gone.cancelled() => {
                process.end().await;
                return Err(call::aborted());
            }
        };
        match chunk {
            None => break,
            // Of a run that prints more than that nothing is read there.
            Some(Chunk::Stdout(data)) if out.len() + data.len() <= LONGEST_LINE * 4 => out.extend_from_slice(&data),
            Some(Chunk::Stdout(_)) => {}
            Some(Chunk::Stderr(data)) => read(&mut lines, &data, &mut take),
        }
    }
    read(&mut lines, b"\n", &mut take);
    Ok((process.exit().await?, out))
}

fn read(lines: &mut Lines, data: &[u8], take: &mut impl FnMut(&str)) {
    lines.push(data);
    while let Some(line) = lines.line() {
        // Drawn over one another.
        for line in String::from_utf8_lossy(&line).split('\r').map(str::trim_end).filter(|line| !line.is_empty()) {
            take(line);
        }
    }
    if lines.rest().len() > LONGEST_LINE {
        lines.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_talks_without_end_is_kept_so_far() {
        let mut account = Account::new(crate::progress::ignore());
        for _ in 0..10 {
            account.keep(&"ä".repeat(SAID));
            account.fails("x".repeat(SAID / 2 + 1));
        }
        assert!(account.said().len() <= 4 * SAID && account.fault().len() <= SAID);
        let (mut lines, mut taken) = (Lines::default(), 0);
        for _ in 0..100 {
            read(&mut lines, &vec![b'x'; 64 << 10], &mut |_| taken += 1);
            assert!(lines.rest().len() <= LONGEST_LINE);
        }
        read(&mut lines, b"\nshort\n", &mut |line| {
            assert!(line == "short" || line.len() > 99);
            taken += 1;
        });
        assert_eq!(taken, 2);
    }
}

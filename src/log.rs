//! What the code says by `tracing`. The last lines are kept for whoever collects diagnostics; `LIMA_RUNTIME_LOG` has them printed,
//! too, on standard error.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::Once,
};

#[cfg(unix)]
use tracing::field::{DisplayValue, display};
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::{Layer, SubscriberExt},
    util::SubscriberInitExt,
};

use crate::{
    env_vars,
    error::{Error, ErrorCode},
    mutex::Mutex,
};

/// Lines of each kind; the oldest go first.
const KEPT: usize = 500;
/// Bytes. Longer ones are not kept: cut, a secret in it might not be known for one.
const LONGEST: usize = 4 << 10;

static LINES: Mutex<Lines> = Mutex::new(Lines { faults: VecDeque::new(), others: VecDeque::new() });
static BEGUN: Once = Once::new();

#[derive(Default)]
struct Lines {
    /// Warnings and errors, which what goes on all the time must not push out.
    faults: VecDeque<String>,
    others: VecDeque<String>,
}

/// From here on lines are kept.
pub fn begin() {
    BEGUN.call_once(|| {
        let asked = env_vars::get(env_vars::LIMA_RUNTIME_LOG);
        let (printed, wrong) = level(asked.as_deref());
        let layer = fmt::layer().with_ansi(false).log_internal_errors(false).with_writer(Writers { printed });
        // Not what the libraries say, whose words we do not know.
        let ours = Targets::new().with_target("lima_runtime", LevelFilter::DEBUG);
        // A program in Rust that uses this crate may have a subscriber of its own.
        _ = tracing_subscriber::registry().with(layer.with_filter(ours)).try_init();
        if let Some(value) = wrong {
            tracing::warn!(value, "LIMA_RUNTIME_LOG is none of off, error, warn, info and debug: warnings are printed");
        }
    });
}

/// Bytes of what goes on that are given; the faults beside them have as many at most.
const GIVEN: usize = 100 << 10;

/// The last lines, oldest first, as they were written.
#[cfg_attr(not(unix), allow(dead_code, reason = "diagnostics are collected of VMs alone"))]
pub(crate) fn kept() -> String {
    let lines = LINES.lock();
    let mut all: Vec<&str> = Vec::new();
    for lines in [&lines.faults, &lines.others] {
        let mut size = 0;
        let newest = lines.iter().rev().map(String::as_str);
        all.extend(newest.take_while(|line| {
            size += line.len();
            size <= GIVEN
        }));
    }
    // Each begins with its time.
    all.sort_by_key(|line| line.split(' ').next());
    all.concat()
}

/// Why work under a deadline failed; nothing where it was not over in time.
#[cfg(unix)]
pub(crate) fn why<T, E: std::fmt::Display, L>(outcome: Result<Result<T, E>, L>) -> Option<DisplayValue<E>> {
    outcome.ok().and_then(Result::err).map(display)
}

/// Says that work failed which is long and rare, so that the log tells it whatever the caller does with the error.
pub(crate) fn failed(work: &str) -> impl FnOnce(&Error) {
    move |error| match error.code() {
        ErrorCode::Aborted => tracing::info!("{work} was given up"),
        code => tracing::error!(code = code.as_str(), %error, "{work} failed"),
    }
}

/// The most that is printed, and a value that says nothing; then warnings are, so that somebody reads of it.
fn level(asked: Option<&str>) -> (LevelFilter, Option<&str>) {
    let Some(asked) = asked else { return (LevelFilter::OFF, None) };
    // More than debug is not compiled in.
    let known = [LevelFilter::OFF, LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG];
    match known.into_iter().find(|level| asked.eq_ignore_ascii_case(&level.to_string())) {
        Some(level) => (level, None),
        None => (LevelFilter::WARN, Some(asked)),
    }
}

struct Writers {
    printed: LevelFilter,
}

impl<'a> MakeWriter<'a> for Writers {
    type Writer = Writer;

    fn make_writer(&'a self) -> Writer {
        Writer { printed: false, is_fault: false }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Writer {
        Writer { printed: *about.level() <= self.printed, is_fault: *about.level() <= Level::WARN }
    }
}

struct Writer {
    printed: bool,
    is_fault: bool,
}

impl Write for Writer {
    /// Is given a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if self.printed {
            // Nobody may be there to read it, and there is nobody to tell.
            _ = io::stderr().write_all(one_line(&text).as_bytes());
        }
        if text.len() <= LONGEST {
            let mut lines = LINES.lock();
            let lines = if self.is_fault { &mut lines.faults } else { &mut lines.others };
            if lines.len() == KEPT {
                lines.pop_front();
            }
            lines.push_back(text.into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Errors quote what programs, guests and registries say: on a terminal it must neither pass for a line of ours nor steer it.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.trim_end().chars() {
        if line.len() >= LONGEST {
            line.push('…');
            break;
        }
        // Also what ends a line or turns its direction.
        let steers = c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_short() {
        let said = "WARN a\nWARN b\x1b[2J\u{9b}1m\u{202e}c\r\n";
        assert_eq!(one_line(said), "WARN a\\nWARN b\\u{1b}[2J\\u{9b}1m\\u{202e}c\n");
        assert!(one_line(&"\u{1b}é".repeat(10_000)).len() < LONGEST + 10);
    }

    #[test]
    fn an_unknown_level_is_told() {
        assert_eq!(level(None), (LevelFilter::OFF, None));
        assert_eq!(level(Some("debug")), (LevelFilter::DEBUG, None));
        assert_eq!(level(Some("Info")), (LevelFilter::INFO, None));
        assert_eq!(level(Some("OFF")), (LevelFilter::OFF, None));
        for value in ["loud", "trace", "5", " debug"] {
            assert_eq!(level(Some(value)), (LevelFilter::WARN, Some(value)));
        }
    }

    #[test]
    fn the_last_lines_are_kept_and_faults_for_longer() {
        begin();
        tracing::warn!("a fault");
        for n in 0..KEPT + 10 {
            tracing::debug!(n, "said");
        }
        tracing::debug!(text = "x".repeat(LONGEST), "too long");
        let kept = kept();
        assert!(!kept.contains(" n=1\n") && kept.contains(&format!(" n={}\n", KEPT + 9)), "{kept}");
        assert!(kept.contains("a fault") && !kept.contains("too long"));
        let times: Vec<_> =
            kept.lines().filter(|line| line.contains("lima_runtime::log")).map(|line| &line[..27]).collect();
        assert!(times.is_sorted(), "{kept}");
    }
}

//! What to do when an attempt to download ends: decided here, in one place, from facts alone.

use std::time::Duration;

/// How often a download is tried again without one new byte in between: about a minute, which outlives a router's
/// restart but not a person's patience.
pub const RETRIES: u32 = 7;

const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A server that asks for more than this is answered with an error that says so.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// Why an attempt ended before its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// No connection, or a connection lost, or silent for too long.
    Connection,
    /// TLS refused the server, a redirect loop, a redirect to plain http: another try gives the same.
    Refused,
    Status {
        status: u16,
        retry_after: Option<Duration>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    After(Duration),
    GiveUp,
}

/// `failures` counts the attempts in a row that brought no new byte, this one included; 0 when it brought some.
/// `jitter` is 0–1: machines that lost the same server must not come back in step.
pub fn next(ended: Ended, failures: u32, retries: u32, jitter: f64) -> Next {
    if failures > retries {
        return Next::GiveUp;
    }
    let backoff = || {
        let delay = FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_DELAY);
        // A cut connection that made progress is simply continued.
        if failures == 0 { FIRST_DELAY.mul_f64(0.2 * jitter) } else { delay.mul_f64(0.5 + 0.5 * jitter) }
    };
    match ended {
        Ended::Connection => Next::After(backoff()),
        Ended::Status { status: 408 | 425 | 429 | 500 | 502 | 503 | 504, retry_after } => match retry_after {
            Some(asked) if asked > LONGEST_RETRY_AFTER => Next::GiveUp,
            Some(asked) => Next::After(asked.max(backoff())),
            None => Next::After(backoff()),
        },
        Ended::Refused | Ended::Status { .. } => Next::GiveUp,
    }
}

/// A `Retry-After` header: seconds, or a date.
pub fn retry_after(value: &str, now: std::time::SystemTime) -> Option<Duration> {
    let value = value.trim();
    match value.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// What the server's answer means for the bytes we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The body continues at the byte we asked for; the whole file has `total` bytes, where the server says.
    Continue {
        total: Option<u64>,
    },
    /// The body is the file from its first byte: what we have is of no use.
    FromStart {
        total: Option<u64>,
    },
    /// There is nothing behind what we have: the file is whole.
    Whole,
    /// The range we asked for does not fit this file: ask again without one.
    AskWithoutRange,
    Ended(Ended),
}

/// The parts of a response that decide.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head<'a> {
    pub status: u16,
    pub content_length: Option<u64>,
    pub content_range: Option<&'a str>,
    pub retry_after: Option<Duration>,
}

/// `from` is the first byte asked for; 0 means no range was asked for.
pub fn answer(head: Head<'_>, from: u64) -> Answer {
    match head.status {
        200 => Answer::FromStart { total: head.content_length },
        206 if from == 0 => Answer::Ended(Ended::Refused),
        206 => match head.content_range.and_then(parse_content_range) {
            Some((first, last, total)) if first == from => Answer::Continue { total: total.or(Some(last + 1)) },
            // A range nobody asked for.
            _ => Answer::AskWithoutRange,
        },
        416 if from > 0 && head.content_range == Some(&format!("bytes */{from}")) => Answer::Whole,
        416 if from > 0 => Answer::AskWithoutRange,
        status => Answer::Ended(Ended::Status { status, retry_after: head.retry_after }),
    }
}

/// `bytes 5-9/10` as (5, 9, Some(10)); `bytes 5-9/*` where the server does not know the whole.
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<u64>().ok()?);
    let total = match total.trim() {
        "*" => None,
        n => Some(n.parse::<u64>().ok()?),
    };
    (first <= last && total.is_none_or(|t| last < t)).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> Ended {
        Ended::Status { status, retry_after: None }
    }

    #[test]
    fn what_is_worth_another_try() {
        let retried = |e| matches!(next(e, 1, RETRIES, 0.5), Next::After(_));
        assert!(retried(Ended::Connection));
        for s in [408, 425, 429, 500, 502, 503, 504] {
            assert!(retried(status(s)), "{s}");
        }
        for s in [301, 304, 400, 401, 403, 404, 407, 410, 451, 501] {
            assert!(!retried(status(s)), "{s}");
        }
        assert!(!retried(Ended::Refused));
    }

    #[test]
    fn the_tries_end_unless_bytes_came() {
        assert_eq!(next(Ended::Connection, RETRIES + 1, RETRIES, 0.0), Next::GiveUp);
        assert!(matches!(next(Ended::Connection, RETRIES, RETRIES, 0.0), Next::After(_)));
        assert!(matches!(next(Ended::Connection, 0, 0, 0.0), Next::After(_)), "progress resets the count");
        assert_eq!(next(Ended::Connection, 1, 0, 0.0), Next::GiveUp);
    }

    #[test]
    fn the_delay_doubles_with_jitter_up_to_a_limit() {
        let delay = |n, j| match next(Ended::Connection, n, 99, j) {
            Next::After(d) => d,
            Next::GiveUp => unreachable!(),
        };
        assert_eq!(delay(1, 1.0), FIRST_DELAY);
        assert_eq!(delay(1, 0.0), FIRST_DELAY / 2);
        assert_eq!(delay(3, 1.0), FIRST_DELAY * 4);
        assert_eq!(delay(50, 1.0), LONGEST_DELAY);
        assert!(delay(0, 1.0) <= Duration::from_millis(100), "a cut connection is continued at once");
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let asked = |s| next(Ended::Status { status: 429, retry_after: Some(Duration::from_secs(s)) }, 1, RETRIES, 1.0);
        assert_eq!(asked(7), Next::After(Duration::from_secs(7)));
        assert_eq!(asked(0), Next::After(FIRST_DELAY), "zero is no reason to hammer");
        assert_eq!(asked(3600), Next::GiveUp);
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after("12", now), Some(Duration::from_secs(12)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn what_an_answer_means_for_the_bytes_we_have() {
        let head = |status, content_range| Head { status, content_range, ..Head::default() };
        let whole = |status| Head { status, content_length: Some(10), ..Head::default() };
        assert_eq!(answer(whole(200), 0), Answer::FromStart { total: Some(10) });
        assert_eq!(answer(whole(200), 5), Answer::FromStart { total: Some(10) }, "changed, or knows no ranges");
        assert_eq!(answer(head(206, Some("bytes 5-9/10")), 5), Answer::Continue { total: Some(10) });
        assert_eq!(answer(head(206, Some("bytes 5-9/*")), 5), Answer::Continue { total: Some(10) });
        assert_eq!(answer(head(206, Some("bytes 0-9/10")), 5), Answer::AskWithoutRange);
        assert_eq!(answer(head(206, Some("bytes 5-10/10")), 5), Answer::AskWithoutRange, "lies about the end");
        assert_eq!(answer(head(206, None), 5), Answer::AskWithoutRange);
        assert_eq!(answer(head(206, Some("bytes 0-9/10")), 0), Answer::Ended(Ended::Refused));
        assert_eq!(answer(head(416, Some("bytes */10")), 5), Answer::AskWithoutRange);
        assert_eq!(answer(head(416, Some("bytes */10")), 10), Answer::Whole);
        assert_eq!(answer(head(416, None), 10), Answer::AskWithoutRange);
        assert_eq!(answer(head(416, None), 0), Answer::Ended(status(416)));
        assert_eq!(answer(head(503, None), 5), Answer::Ended(status(503)));
    }
}

//! Times as engines write them: RFC 3339 in answers, decimal seconds in queries, and the phrases of `docker ps`.

use prost_types::Timestamp;

use super::types::Millis;

/// Parses `2024-05-01T10:00:00.123456789Z`, also with an offset. None for an invalid time, and for Go's zero time, which
/// means "never".
pub(super) fn parse(text: &str) -> Option<Millis> {
    i64::try_from(parse_nanos(text)?.div_euclid(1_000_000)).ok()
}

/// The range of a JavaScript `Date`: 100 million days before and after 1970.
const DATE_RANGE: std::ops::RangeInclusive<Millis> = -8_640_000_000_000_000..=8_640_000_000_000_000;

/// A time from an engine, limited to the range of a `Date`.
pub(super) fn of_seconds(seconds: i64) -> Millis {
    of_millis(seconds.saturating_mul(1000))
}

/// As [`of_seconds`], in milliseconds.
pub(super) fn of_millis(millis: i64) -> Millis {
    millis.clamp(*DATE_RANGE.start(), *DATE_RANGE.end())
}

/// As [`parse`], in nanoseconds.
pub(super) fn parse_nanos(text: &str) -> Option<i128> {
    // The library also takes a date alone, a time without a zone, and years of more digits: no engine writes those.
    let has_zone = text.get(19..)?.contains(['Z', '+', '-']);
    if !has_zone || !text.starts_with(|c: char| c.is_ascii_digit()) || text < "0002" {
        return None;
    }
    let Timestamp { seconds, nanos } = text.parse().ok()?;
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
}

/// Seconds with a fraction, as the API takes them. A double holds today's times to the microsecond.
pub(super) fn query(seconds: f64) -> String {
    format!("{seconds:.6}")
}

/// Rounded as by `docker ps`, with the units of go-units' `HumanDuration`.
pub(super) fn human(millis: Millis) -> String {
    let seconds = millis.max(0) / 1000;
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours <= 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

pub(super) fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_engine() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2000-02-29T12:00:00Z"), Some(951_825_600_000));
        assert_eq!(parse("2024-05-01T10:00:00.123456789Z"), Some(1_714_557_600_123));
        assert_eq!(parse("2024-05-01T12:00:00.5+02:00"), Some(1_714_557_600_500));
        assert_eq!(parse("2024-05-01T05:30:00-04:30"), Some(1_714_557_600_000));
        for text in [
            "0001-01-01T00:00:00Z",
            "",
            "yesterday",
            "2024-05-01",
            "2024-05-01T10:00:00",
            "2024-13-01T10:00:00Z",
            "2024-02-30T10:00:00Z",
            "+12024-05-01T10:00:00Z",
            "-2024-05-01T10:00:00Z",
            "2024-05-01T10:00:00+9223372036854775807:00",
            "2024-05-01T10:00:00--1:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn no_number_is_no_date() {
        assert_eq!(of_seconds(5), 5000);
        for wild in [i64::MAX, i64::MIN, 8_640_000_000_001, -8_640_000_000_001] {
            assert!(DATE_RANGE.contains(&of_seconds(wild)), "{wild}");
        }
    }

    #[test]
    fn durations_in_words() {
        for (s, text) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (300, "5 minutes"),
            (4000, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
        ] {
            assert_eq!(human(s * 1000), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn digits_in_the_right_places_do_not_overflow(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{0,12}[+-][0-9]{1,20}:[0-9]{1,20}") {
            assert!(parse(&text).is_none_or(|t| DATE_RANGE.contains(&t)));
        }
    }
}

//! When an engine read a counter, on our clock.

use std::time::{Duration, Instant};

use crate::{
    engine::{time, types::Millis},
    mutex::Mutex,
};

/// The engine's clock on ours. Engines up to 20.10 answer at the tick of a second, whenever they are asked
/// (docs/reference/docker.md#clock-of-stats): when a counter was read they must say themselves.
#[derive(Default)]
pub(super) struct Clock(Mutex<Option<(Millis, Instant)>>);

impl Clock {
    pub(super) fn instant(&self, read: &str) -> Instant {
        let now = Instant::now();
        let Some(read) = time::parse(read) else { return now };
        let mut anchor = self.0.lock();
        let (read0, at0) = *anchor.get_or_insert((read, now));
        let apart = Duration::from_millis(read.abs_diff(read0));
        let at = if read >= read0 { at0.checked_add(apart) } else { at0.checked_sub(apart) };
        // One of the clocks was set, or a VM slept.
        let at = at.filter(|at| now.duration_since(*at).max(at.duration_since(now)) < SKEW);
        at.unwrap_or_else(|| {
            *anchor = Some((read, now));
            now
        })
    }
}

const SKEW: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_two_readings_is_the_engines() {
        let clock = Clock::default();
        let first = clock.instant("2024-05-01T10:00:00.500Z");
        let second = clock.instant("2024-05-01T10:00:01.750Z");
        assert_eq!(second - first, Duration::from_millis(1250));
        // A clock that was set is followed.
        let now = Instant::now();
        let third = clock.instant("2025-01-01T00:00:00Z");
        assert!(third >= now);
        assert_eq!(clock.instant("2025-01-01T00:00:01Z") - third, Duration::from_secs(1));
    }
}

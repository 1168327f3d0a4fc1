//! Signals by name.

use crate::error::{Error, Result};

/// By number, from 1 on (signal(7), of all architectures we are built for).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Checked by [`validate::signal`]: a number, or a name in capitals with or without SIG.
pub(crate) fn signal_number(signal: &str) -> Result<u32> {
    if let Ok(number) = signal.parse() {
        return Ok(number);
    }
    let bare = signal.strip_prefix("SIG").unwrap_or(signal);
    let real_time = |from: u32, rest: &str| {
        let offset: u32 = if rest.is_empty() { 0 } else { rest[1..].parse().ok()? };
        if from == 34 { Some(from + offset) } else { from.checked_sub(offset) }
    };
    let number = match bare {
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        "UNUSED" => Some(31),
        _ if bare.starts_with("RTMIN") => real_time(34, &bare[5..]),
        _ if bare.starts_with("RTMAX") => real_time(64, &bare[5..]),
        _ => (1..).zip(SIGNALS).find(|(_, name)| *name == bare).map(|(n, _)| n),
    };
    number.ok_or_else(|| Error::invalid("signal", format!("{signal:?} is not a signal")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (name, number) in [
            ("SIGUSR1", 10),
            ("USR1", 10),
            ("10", 10),
            ("SIGKILL", 9),
            ("TERM", 15),
            ("RTMIN+1", 35),
            ("SIGRTMAX", 64),
            ("SYS", 31),
        ] {
            assert_eq!(signal_number(name).unwrap(), number, "{name}");
        }
    }
}

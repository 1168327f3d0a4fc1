//! Signals by name.

use super::validate;
use crate::error::{Error, Result};

/// By number, from 1 on (signal(7), of all architectures we are built for).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// By its number, or its name with or without SIG, as [`validate::signal`] lets them pass.
pub(crate) fn signal_number(signal: &str) -> Result<u32> {
    let signal = validate::signal("signal", Some(signal))?;
    if let Ok(number) = signal.parse() {
        return Ok(number);
    }
    let bare = signal.strip_prefix("SIG").unwrap_or(&signal);
    let offset = |rest: &str| rest.get(1..).and_then(|n| n.parse::<u32>().ok()).unwrap_or_default();
    let number = match bare {
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        "UNUSED" => Some(31),
        _ => match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
            (Some(rest), _) => Some(34 + offset(rest)),
            (_, Some(rest)) => Some(64 - offset(rest)),
            _ => (1..).zip(SIGNALS).find(|(_, name)| *name == bare).map(|(n, _)| n),
        },
    };
    number.ok_or_else(|| Error::invalid("signal", format!("{signal:?} is not a signal")))
}

/// The signal that asks a container to end, by its label. That is the image's text: where it is no signal, it must not keep the
/// container from ending.
pub(crate) fn signal_of_stop(label: Option<&str>) -> u32 {
    label.and_then(|said| signal_number(said).ok()).unwrap_or(15)
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

    #[test]
    fn a_record_may_name_any_signal() {
        for (said, number) in [
            ("SIGQUIT", 3),
            ("sigint", 2),
            ("rtmin+3", 37),
            ("SIGRTMAX-1", 63),
            ("3", 3),
            ("", 15),
            ("nonsense", 15),
            ("99999", 15),
            ("RTMINé", 15),
            ("RTMIN+4294967295", 15),
        ] {
            assert_eq!(signal_of_stop(Some(said)), number, "{said}");
        }
        assert_eq!(signal_of_stop(None), 15);
    }
}

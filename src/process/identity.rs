//! Identifies a process. A number alone is reused; with its start time and boot it means one process for ever. A process
//! gets a signal only when these match.

use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// A process, and what tells it from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    pid: i32,
    /// As the system counts: on Linux clock ticks since the boot, on macOS microseconds since 1970.
    started: u64,
    boot: u64,
}

/// The process that has a number now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Nobody,
    /// A process that the system hides from us.
    Hidden,
    Process(Identity),
}

impl Identity {
    /// The process that has the number now; `None` when there is none, or it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        match find(i32::try_from(pid).ok()?) {
            Found::Process(identity) => Some(identity),
            _ => None,
        }
    }

    /// From a number and a start time that were read together.
    #[cfg(target_os = "linux")]
    pub(crate) fn new(pid: i32, started: u64) -> Option<Self> {
        Some(Self { pid, started, boot: system::boot()? })
    }

    pub fn lives(&self) -> bool {
        find(self.pid) == Found::Process(*self)
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Started in the same boot, and not earlier.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_since(&self, other: &Self) -> bool {
        self.boot == other.boot && self.started >= other.started
    }

    /// Number and start time, as a shell reads them in `/proc`.
    pub(crate) fn for_a_shell(&self) -> (String, String) {
        (self.pid.to_string(), self.started.to_string())
    }

    /// Sends `signal` to this process only; false when it is gone.
    pub fn signal(&self, signal: Signal) -> bool {
        Held::take(*self).is_some_and(|held| held.signal(signal).is_ok())
    }

    /// Whether it ran at `moment`: a process that has a number now and had it then had it in between.
    pub(crate) fn ran_at(&self, moment: SystemTime) -> bool {
        system::began(self).is_some_and(|began| began <= moment + CLOCK_TOLERANCE)
    }
}

/// Clocks are read one after the other, and file times are coarse.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

pub fn find(pid: i32) -> Found {
    if pid <= 0 { Found::Nobody } else { system::find(pid) }
}

/// A process that we hold open and then checked, so that its number cannot mean another one meanwhile.
struct Held {
    identity: Identity,
    /// Absent on Linux before 5.3 and on macOS; there the process is checked right before the signal.
    #[cfg(target_os = "linux")]
    fd: Option<std::os::fd::OwnedFd>,
}

impl Held {
    /// `None` when it has ended.
    fn take(identity: Identity) -> Option<Self> {
        #[cfg(target_os = "linux")]
        let fd = {
            use rustix::{io::Errno, process::PidfdFlags};
            match rustix::process::pidfd_open(Pid::from_raw(identity.pid)?, PidfdFlags::empty()) {
                Ok(fd) => Some(fd),
                Err(Errno::SRCH) => return None,
                Err(e) => {
                    tracing::debug!(%e, "no pidfd");
                    None
                }
            }
        };
        identity.lives().then_some(Self {
            identity,
            #[cfg(target_os = "linux")]
            fd,
        })
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(fd) = &self.fd {
            return Ok(rustix::process::pidfd_send_signal(fd, signal)?);
        }
        match Pid::from_raw(self.identity.pid) {
            Some(pid) if self.identity.lives() => Ok(rustix::process::kill_process(pid, signal)?),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    #[cfg(target_os = "linux")]
    fn pidfd(&self) -> Option<&std::os::fd::OwnedFd> {
        self.fd.as_ref()
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "as on Linux")]
    fn pidfd(&self) -> Option<&std::os::fd::OwnedFd> {
        None
    }
}

/// How often we look where no end is reported.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Sends `signal` to those of `processes` that live, and waits until they have ended; returns those that have not in time.
/// Blocks.
pub fn end(processes: &[Identity], signal: Signal, within: Duration) -> Vec<Identity> {
    let deadline = Instant::now() + within;
    let mut left: Vec<Held> = processes.iter().filter_map(|p| Held::take(*p)).collect();
    for held in &left {
        if let Err(e) = held.signal(signal) {
            tracing::debug!(%e, pid = held.identity.pid, "a signal was not sent");
        }
    }
    while !left.is_empty() {
        let Some(rest) = deadline.checked_duration_since(Instant::now()) else { break };
        wait(&left, rest);
        left.retain(|held| held.identity.lives());
    }
    left.into_iter().map(|held| held.identity).collect()
}

/// Waits until one of them may have ended.
fn wait(processes: &[Held], rest: Duration) {
    use rustix::event::{PollFd, PollFlags, Timespec};
    let fds: Option<Vec<_>> = processes.iter().map(Held::pidfd).collect();
    let Some(fds) = fds else { return std::thread::sleep(POLL_INTERVAL.min(rest)) };
    let timeout = Timespec { tv_sec: rest.as_secs().cast_signed(), tv_nsec: rest.subsec_nanos().into() };
    let mut fds: Vec<PollFd<'_>> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    if rustix::event::poll(&mut fds, Some(&timeout)).is_err() {
        std::thread::sleep(POLL_INTERVAL.min(rest));
    }
}

#[cfg(target_os = "linux")]
pub(crate) mod system {
    use std::{
        fs,
        time::{Duration, SystemTime},
    };

    use super::{Found, Identity};

    /// Part of `/proc/<pid>/stat`, read at once.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Stat {
        pub(crate) ended: bool,
        pub(crate) parent: i32,
        pub(crate) session: i32,
        pub(crate) started: u64,
    }

    pub(crate) fn stat(pid: i32) -> Option<Stat> {
        parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    pub(super) fn parse(text: &[u8]) -> Option<Stat> {
        // The name before it may hold anything.
        let after = text.iter().rposition(|&b| b == b')')? + 1;
        let fields: Vec<&str> = str::from_utf8(&text[after..]).ok()?.split_ascii_whitespace().collect();
        Some(Stat {
            ended: matches!(*fields.first()?, "Z" | "X" | "x"),
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    pub(super) fn find(pid: i32) -> Found {
        match stat(pid) {
            Some(stat) if !stat.ended => Identity::new(pid, stat.started).map_or(Found::Hidden, Found::Process),
            _ => Found::Nobody,
        }
    }

    pub(crate) fn boot_name() -> String {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    }

    /// The first digits of the boot's random name.
    pub(super) fn boot() -> Option<u64> {
        u64::from_str_radix(boot_name().replace('-', "").get(..16)?, 16).ok()
    }

    /// By the current clock; setting the clock moves the result.
    pub(super) fn began(identity: &Identity) -> Option<SystemTime> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime = Duration::try_from_secs_f64(uptime.split(' ').next()?.parse().ok()?).ok()?;
        // Linux reports hundredths of a second, whatever its timer is.
        let started = Duration::from_millis(identity.started.checked_mul(10)?);
        SystemTime::now().checked_sub(uptime.checked_sub(started)?)
    }
}

#[cfg(target_os = "macos")]
mod system {
    use std::time::{Duration, SystemTime};

    use super::{Found, Identity};

    pub(super) fn find(pid: i32) -> Found {
        // SAFETY: a structure of numbers alone, for which nothing but zeros is a value.
        let mut info: libc::proc_bsdinfo = unsafe { std::mem::zeroed() };
        let size = i32::try_from(size_of_val(&info)).unwrap_or_default();
        // SAFETY: `info` lives, and has `size` bytes.
        let got = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, (&raw mut info).cast(), size) };
        if got == size {
            let started = info.pbi_start_tvsec.wrapping_mul(1_000_000).wrapping_add(info.pbi_start_tvusec);
            // A wall-clock time: no other boot repeats it.
            return Found::Process(Identity { pid, started, boot: 0 });
        }
        let denied = std::io::Error::last_os_error().kind() == std::io::ErrorKind::PermissionDenied;
        // macOS reports no ended process.
        if denied { Found::Hidden } else { Found::Nobody }
    }

    pub(super) fn began(identity: &Identity) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(identity.started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> std::process::Child {
        std::process::Command::new("sleep").arg("1000").spawn().unwrap()
    }

    #[test]
    fn a_number_that_was_given_anew_is_another_process() {
        let mut child = sleeper();
        let it = Identity::of(child.id()).unwrap();
        assert!(it.lives());
        // Another start time or boot gets no signal.
        for other in [Identity { started: it.started + 1, ..it }, Identity { boot: it.boot ^ 1, ..it }] {
            assert!(!other.lives());
            assert!(!other.signal(Signal::KILL));
            assert!(end(&[other], Signal::KILL, Duration::from_secs(5)).is_empty());
        }
        assert!(it.lives());
        assert!(end(&[it], Signal::TERM, Duration::from_secs(20)).is_empty());
        // A zombie until it is reaped.
        assert!(!it.lives() && !it.signal(Signal::KILL));
        child.wait().unwrap();
        assert_eq!(find(it.pid), Found::Nobody);
        assert_eq!((find(0), find(-1)), (Found::Nobody, Found::Nobody));
    }

    #[test]
    fn what_does_not_end_in_time_is_told() {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "trap '' TERM; echo; read x"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut [0]).unwrap();
        let it = Identity::of(child.id()).unwrap();
        assert_eq!(end(&[it], Signal::TERM, Duration::from_millis(50)), [it]);
        assert!(end(&[it], Signal::KILL, Duration::from_secs(20)).is_empty());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_ran_since_it_began() {
        let before = SystemTime::now();
        let mut child = sleeper();
        let it = Identity::of(child.id()).unwrap();
        assert!(it.ran_at(SystemTime::now()));
        assert!(!it.ran_at(before - Duration::from_secs(5)));
        assert!(Identity::of(std::process::id()).unwrap().lives());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_may_hold_anything() {
        let stat = b"12 (a) R 1 2 (\xff)) S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        let expected = system::Stat { ended: false, parent: 7, session: 9, started: 4711 };
        assert_eq!(system::parse(stat), Some(expected));
        assert_eq!(system::parse(b"12 (a"), None);
    }
}

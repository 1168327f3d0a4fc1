//! Which processes are the daemon's, and how they end. No number is signalled before it has been looked at.

use std::{
    collections::HashSet,
    fs,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};

/// A process, and what tells it from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pid: i32,
    /// Clock ticks since the machine's start.
    started: u64,
    boot: String,
}

impl Identity {
    pub(super) fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        Some(Self { pid, started: stat(pid)?.1, boot: boot() })
    }

    pub(super) fn lives(&self) -> bool {
        self.boot == boot()
            && stat(self.pid).is_some_and(|(_, started)| started == self.started)
            && !is_zombie(self.pid)
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }
}

/// Of this run of the machine.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Parent and start time.
fn stat(pid: i32) -> Option<(i32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|t| Some(t[t.rfind(')')? + 1..].trim_start().starts_with('Z')))
        .unwrap_or(true)
}

/// A mount namespace, by its inode; held open, so that the number stays its own.
pub(super) struct Space {
    inode: u64,
    _open: fs::File,
}

impl Space {
    fn of(pid: i32) -> Option<Self> {
        let open = fs::File::open(format!("/proc/{pid}/ns/mnt")).ok()?;
        let inode = open.metadata().ok()?.ino();
        Some(Self { inode, _open: open })
    }
}

/// The namespaces of the daemon and of what it left when it died: those of processes that name `run`, other than the
/// one we are in.
pub(super) fn spaces(run: &Path) -> Vec<Space> {
    let here = Space::of(std::process::id().cast_signed()).map(|s| s.inode);
    let mut found: Vec<Space> = Vec::new();
    let needle = run.as_os_str().as_bytes();
    for pid in all() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !line.windows(needle.len()).any(|w| w == needle) {
            continue;
        }
        if let Some(space) = Space::of(pid)
            && Some(space.inode) != here
            && found.iter().all(|s| s.inode != space.inode)
        {
            found.push(space);
        }
    }
    found
}

/// Everything that lives in `spaces`, and what came of it: a container's processes have a namespace of their own.
pub(super) fn members(spaces: &[Space]) -> Vec<Identity> {
    let mut ours: HashSet<i32> =
        all().filter(|&pid| Space::of(pid).is_some_and(|s| spaces.iter().any(|o| o.inode == s.inode))).collect();
    loop {
        let before = ours.len();
        for pid in all() {
            if stat(pid).is_some_and(|(parent, _)| ours.contains(&parent)) {
                ours.insert(pid);
            }
        }
        if ours.len() == before {
            break;
        }
    }
    ours.into_iter().filter_map(|pid| Identity::of(pid.cast_unsigned())).filter(Identity::lives).collect()
}

fn all() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// Sends `signal` to those of `processes` that live, and waits until they are gone; those that are not in time are
/// returned. Blocks.
pub(super) fn end(processes: &[Identity], signal: Signal, within: Duration) -> Vec<Identity> {
    let deadline = Instant::now() + within;
    // A descriptor cannot come to mean another process between the look and the signal.
    let open: Vec<(Identity, OwnedFd)> = processes
        .iter()
        .filter_map(|p| {
            let fd = pidfd_open(Pid::from_raw(p.pid)?, PidfdFlags::empty()).ok()?;
            p.lives().then(|| (p.clone(), fd))
        })
        .collect();
    for (_, fd) in &open {
        _ = pidfd_send_signal(fd, signal);
    }
    let mut left = open;
    while !left.is_empty() {
        let Some(rest) = deadline.checked_duration_since(Instant::now()) else { break };
        let timeout = Timespec { tv_sec: rest.as_secs().cast_signed(), tv_nsec: rest.subsec_nanos().into() };
        let mut fds: Vec<PollFd<'_>> = left.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)).collect();
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
        let gone: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut gone = gone.into_iter();
        left.retain(|_| !gone.next().unwrap_or(false));
    }
    left.into_iter().map(|(p, _)| p).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_given_anew_is_another_process() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let it = Identity::of(child.id()).unwrap();
        assert!(it.lives());
        assert!(!Identity { started: it.started + 1, ..it.clone() }.lives());
        assert!(!Identity { boot: "another".into(), ..it.clone() }.lives());
        // Not the one recorded: no signal.
        let other = Identity { started: it.started + 1, ..it.clone() };
        assert!(end(&[other], Signal::KILL, Duration::from_secs(5)).is_empty());
        assert!(it.lives());
        assert!(end(std::slice::from_ref(&it), Signal::TERM, Duration::from_secs(20)).is_empty());
        child.wait().unwrap();
        assert!(!it.lives());
    }

    #[test]
    fn our_own_namespace_is_never_taken_for_the_daemons() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "read x"])
            .arg(dir.path())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(spaces(dir.path()).is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

//! Which processes are the daemon's. Their arguments prove nothing: anybody can name our directory, and an administrator
//! may enter our namespace. What counts is what the system says and we recorded: the daemon's identity, its session, and a
//! mark in the mount namespace that we made.
//!
//! A process is in a session only by being born there: containerd's shims are, although the init process adopts them; a
//! shell that `nsenter` brought is not. A session's number is reused once all its processes have ended; then the mark is
//! missing.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
};

use serde::{Deserialize, Serialize};

use crate::process::identity::{Identity, system};

/// The daemon, as recorded when it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Service {
    /// containerd itself, or the rootlesskit above it.
    pub(super) process: Identity,
    /// It led a session of its own.
    pub(super) session: i32,
    /// The source of a mount in its namespace: a random number.
    pub(super) mark: String,
}

impl Service {
    /// The living processes of the daemon: itself, those of its session and namespace, and all their descendants. A
    /// container's processes have their own namespaces and sessions, but descend from their shim.
    pub(super) fn members(&self) -> Vec<Identity> {
        let processes = all();
        let mut ours: HashSet<Identity> = HashSet::new();
        let mut marked = HashMap::new();
        for (identity, stat) in &processes {
            let born = stat.session == self.session && identity.is_since(&self.process);
            if *identity == self.process || (born && self.has_mark(identity.pid(), &mut marked)) {
                ours.insert(*identity);
            }
        }
        loop {
            let parents: HashMap<i32, Identity> = ours.iter().map(|p| (p.pid(), *p)).collect();
            let before = ours.len();
            for (identity, stat) in &processes {
                // A parent that still lives is the one we found, not another with its number.
                if let Some(parent) = parents.get(&stat.parent)
                    && !ours.contains(identity)
                    && parent.lives()
                {
                    ours.insert(*identity);
                }
            }
            if ours.len() == before {
                break;
            }
        }
        ours.into_iter().filter(Identity::lives).collect()
    }

    /// Whether the process is in our mount namespace. `known` caches the answer for each namespace.
    fn has_mark(&self, pid: i32, known: &mut HashMap<u64, bool>) -> bool {
        let Ok(space) = fs::metadata(format!("/proc/{pid}/ns/mnt")) else { return false };
        *known.entry(space.ino()).or_insert_with(|| has_mark(pid, &self.mark))
    }
}

pub(super) fn has_mark(pid: i32, mark: &str) -> bool {
    // The source of a mount is the second word after the dash.
    let source = |line: &str| line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(mark);
    !mark.is_empty() && fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|text| text.lines().any(source))
}

fn all() -> Vec<(Identity, system::Stat)> {
    let pids =
        fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let process = |pid| {
        let stat = system::stat(pid).filter(|s| !s.ended)?;
        Some((Identity::new(pid, stat.started)?, stat))
    };
    pids.filter_map(process).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::process::CommandExt,
        process::{Child, Command, Stdio},
        time::Duration,
    };

    use rustix::process::Signal;

    use super::*;
    use crate::process::identity::end;

    /// Starts a shell that leads a session, and waits until it prints `up`.
    fn start(script: &str, args: &[&str]) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: setsid is one system call and allocates nothing.
        unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) };
        let mut child = command.spawn().unwrap();
        let mut line = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"up\n");
        child
    }

    fn pids(service: &Service) -> Vec<u32> {
        let mut pids: Vec<u32> = service.members().iter().map(|p| p.pid().cast_unsigned()).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn a_member_was_born_in_the_session_and_lives_in_the_marked_namespace() {
        if !rustix::process::geteuid().is_root() {
            crate::skip::skip_without_root("to make a mount namespace");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mark = format!("lima-runtime-test-{}", std::process::id());
        // A daemon with one child adopted by the init process, as containerd's shims are, and one of its own.
        let daemon = r#"
            exec unshare --mount --propagation slave sh -c '
                mount -t tmpfs "$1" "$2"
                (sleep 1000 & echo $! >"$2/orphan")
                sleep 1000 & echo $! >"$2/child"
                unshare --mount sleep 1000 & echo $! >"$2/container"
                cp "$2"/* "$3"; echo up; read x
            ' sh "$@"
        "#;
        let (inside, outside) = (tempfile::tempdir().unwrap(), dir.path().to_str().unwrap());
        let mut leader = start(daemon, &[&mark, inside.path().to_str().unwrap(), outside]);
        let pid = |name: &str| -> u32 { fs::read_to_string(dir.path().join(name)).unwrap().trim().parse().unwrap() };
        let process = Identity::of(leader.id()).unwrap();
        let service = Service { process, session: process.pid(), mark: mark.clone() };
        let mut expected = vec![leader.id(), pid("orphan"), pid("child"), pid("container")];
        expected.sort_unstable();

        // An administrator's shell in the namespace, and a process whose arguments name everything.
        let target = format!("--target={}", leader.id());
        let mut visitor = start(r#"exec nsenter "$1" --mount sh -c 'sleep 1000 & echo up; wait'"#, &[&target]);
        let mut namesake = start("echo up; read x", &[outside, &mark]);
        assert!(has_mark(visitor.id().cast_signed(), &mark) && !has_mark(namesake.id().cast_signed(), &mark));
        assert_eq!(pids(&service), expected);

        // After a kill its session is still found, but not the container, whose parent is gone.
        leader.kill().unwrap();
        leader.wait().unwrap();
        let left = pids(&service);
        assert!(left.contains(&pid("orphan")) && left.contains(&pid("child")));
        assert!(!left.contains(&visitor.id()) && !left.contains(&namesake.id()));
        // A record of another boot, daemon or namespace matches no living process.
        let later = Identity::of(namesake.id()).unwrap();
        assert!(later.is_since(&process));
        let others = [
            Service { mark: "lima-runtime-another".into(), ..service.clone() },
            Service { mark: String::new(), ..service.clone() },
            Service { session: 1, ..service.clone() },
        ];
        for other in others {
            assert_eq!(pids(&other), [] as [u32; 0], "{other:?}");
        }
        let all = [left, vec![pid("container")]].concat();
        let all: Vec<_> = all.into_iter().filter_map(Identity::of).collect();
        assert!(end(&all, Signal::KILL, Duration::from_secs(20)).is_empty());
        assert_eq!(pids(&service), [] as [u32; 0]);
        // The other two are untouched.
        for visitor in [&mut visitor, &mut namesake] {
            assert!(visitor.try_wait().unwrap().is_none());
            let group = rustix::process::Pid::from_child(visitor);
            rustix::process::kill_process_group(group, Signal::KILL).unwrap();
            visitor.wait().unwrap();
        }
        drop(leader.stdin.take().map(|mut s| s.write_all(b"")));
    }

    #[test]
    fn a_session_whose_number_was_given_anew_has_no_mark() {
        let mut other = start("echo up; read x", &[]);
        let process = Identity::of(other.id()).unwrap();
        // A daemon that had this number before.
        let before =
            Service { process: Identity::new(process.pid(), 1).unwrap(), session: process.pid(), mark: "x".into() };
        assert_eq!(pids(&before), [] as [u32; 0]);
        assert!(other.try_wait().unwrap().is_none());
        drop(other.stdin.take());
        other.wait().unwrap();
    }
}

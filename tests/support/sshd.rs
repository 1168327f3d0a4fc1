//! A real sshd on loopback, run by an ordinary user, as the end of a guest. The tests of JavaScript know how to start one.

use std::{
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use lima_runtime::guest::ssh::{SshGuest, SshProgram, SshTarget};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::skip::skip_without;

/// As root the tests run sshd as this user (`scripts/setup.mjs` makes it).
const TEST_USER: &str = "lima-runtime-test";

pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
}

/// Who the guest's user is: ourselves, or the test user when we are root.
pub fn user() -> Option<User> {
    let want = if geteuid().is_root() { TEST_USER.into() } else { geteuid().as_raw().to_string() };
    let out = Command::new("getent").args(["passwd", &want]).output().ok()?;
    let line = String::from_utf8(out.stdout).ok()?;
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|n| !n.is_empty())?.to_owned();
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(User { name, uid, gid, home: fields.nth(1)?.to_owned() })
}

pub struct Sshd {
    dir: PathBuf,
    pub port: u16,
    user: User,
    /// Of the server; 0 while there is none.
    pid: i32,
    child: Child,
    answers: BufReader<ChildStdout>,
    /// The kind of the host's key.
    kind: &'static str,
}

impl Sshd {
    /// `None` on a machine that cannot run one; the test counts as skipped.
    pub fn start() -> Option<Self> {
        Self::with_keys(["ed25519", "ed25519"])
    }

    /// The kinds of the host's key and of the user's.
    pub fn with_keys(kinds: [&'static str; 2]) -> Option<Self> {
        if !Path::new("/usr/sbin/sshd").exists() {
            skip_without("/usr/sbin/sshd");
            return None;
        }
        let Some(user) = user() else {
            skip_without(format_args!("user {TEST_USER}"));
            return None;
        };
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/__test__/support/sshd-child.mjs")).args(kinds);
        let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            skip_without("node on the PATH");
            return None;
        };
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut this = Self { dir: PathBuf::new(), port: 0, user, pid: 0, child, answers, kind: kinds[0] };
        this.dir = this.answer().into();
        this.port = this.answer().parse().unwrap();
        this.pid = this.answer().parse().unwrap();
        this.pin();
        this.give("");
        Some(this)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "sshd's process ended");
        line.trim().to_owned()
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{word}").unwrap();
        self.pid = self.answer().parse().unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Hands a file of the directory, or the directory itself, to the guest's user.
    pub fn give(&self, name: &str) {
        if !geteuid().is_root() {
            return;
        }
        let owner = format!("{}:{}", self.user.uid, self.user.gid);
        assert!(Command::new("chown").args(["-R", &owner]).arg(self.path(name)).status().unwrap().success());
    }

    /// The user's key under another passphrase, or in another form: what `ssh-keygen -p` is told.
    pub fn rewrite_key(&self, passphrase: &str, form: &[&str]) {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-p", "-P", "", "-N", passphrase, "-f"]).arg(self.path("user")).args(form);
        assert!(keygen.stdout(Stdio::null()).status().unwrap().success());
    }

    pub fn new_host_key(&self) {
        std::fs::remove_file(self.path("host")).unwrap();
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", self.kind, "-N", "", "-f"]).arg(self.path("host")).status();
        assert!(made.unwrap().success());
        self.give("");
    }

    /// What the host has is what its guest must have.
    pub fn pin(&self) {
        let key = std::fs::read_to_string(self.path("host.pub")).unwrap();
        std::fs::write(self.path("pin"), &key).unwrap();
        std::fs::write(self.path("known_hosts"), format!("lima-default {key}")).unwrap();
    }

    /// Lines of sshd's configuration, before all others.
    pub fn configure(&self, lines: &str) {
        let rest = std::fs::read_to_string(self.path("sshd_config")).unwrap();
        std::fs::write(self.path("sshd_config"), format!("{lines}\n{rest}")).unwrap();
    }

    /// Returns once it listens.
    pub fn up(&mut self) {
        self.tell("start");
    }

    /// To the server and to all that it started: a process for each connection, in a session of its own.
    pub fn signal(&self, signal: Signal) {
        let mut all = Vec::from_iter((self.pid != 0).then_some(self.pid));
        let parents = parents();
        let mut i = 0;
        while i < all.len() {
            let this = all[i];
            all.extend(parents.iter().filter(|(_, parent)| *parent == this).map(|(pid, _)| *pid));
            i += 1;
        }
        for pid in all.into_iter().filter_map(Pid::from_raw) {
            _ = kill_process(pid, signal);
        }
    }

    /// The server and every connection to it, at once.
    pub fn down(&mut self) {
        self.signal(Signal::KILL);
        self.tell("stop");
    }

    pub fn target(&self) -> SshTarget {
        SshTarget {
            host: Ipv4Addr::LOCALHOST.into(),
            port: self.port,
            user: self.user.name.clone(),
            identity: self.path("user"),
            pin: self.path("pin"),
            containerd_socket: self.path("containerd.sock").display().to_string(),
            program: None,
        }
    }

    /// With the ssh program to fall back to, and a configuration as Lima writes it
    /// (docs/reference/lima.md#ssh-configuration).
    pub fn guest_with_program(&self) -> SshGuest {
        SshGuest::new(self.target_with_program())
    }

    pub fn target_with_program(&self) -> SshTarget {
        let dir = self.dir.display();
        let text = format!(
            "Host lima-default\n  IdentityFile \"{dir}/user\"\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  \
             NoHostAuthenticationForLocalhost yes\n  PreferredAuthentications publickey\n  BatchMode yes\n  \
             IdentitiesOnly yes\n  User {}\n  ControlMaster auto\n  ControlPath \"{dir}/ssh.sock\"\n  \
             ControlPersist yes\n  Hostname 127.0.0.1\n  Port {}\n",
            self.user.name, self.port
        );
        let config = self.path("ssh.config");
        std::fs::write(&config, text).unwrap();
        let program = SshProgram { config, host: "lima-default".into(), known_hosts: self.path("known_hosts") };
        SshTarget { program: Some(program), ..self.target() }
    }

    pub fn guest(&self) -> SshGuest {
        SshGuest::new(self.target())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        drop(self.child.stdin.take());
        _ = self.child.wait();
    }
}

/// Every process here with its parent.
fn parents() -> Vec<(i32, i32)> {
    let stat = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, parent))
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(stat).collect()
}

//! What a rootless engine needs of this machine, and what to do when it is missing.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::{Value, json};

use crate::error::{Error, ErrorCode};

/// Directories that a desktop's PATH may leave out.
pub(super) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) const ROOT: &str = "root";
pub(super) const ORDINARY: &str = "an ordinary user";

/// One thing that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MissingRequirement {
    pub(super) what: String,
    /// A command, or a sentence.
    pub(super) advice: String,
}

impl MissingRequirement {
    fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }
}

/// The needed programs that come with the engine.
pub(super) struct Brought<'a> {
    pub(super) programs: &'a [&'a str],
    /// Where they are, once installed.
    pub(super) dirs: Option<&'a [PathBuf]>,
}

/// This machine, or a test's.
pub(super) struct RootlessHost {
    pub(super) root: PathBuf,
    pub(super) user: String,
    pub(super) uid: u32,
    pub(super) kernel: String,
}

impl RootlessHost {
    pub(super) fn this() -> Self {
        let uid = rustix::process::getuid().as_raw();
        Self {
            root: "/".into(),
            user: user_name(uid).unwrap_or_else(|| uid.to_string()),
            uid,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    fn setting(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|t| t.trim().to_owned())
    }

    fn finds(&self, program: &str, brought: &Brought) -> bool {
        let runs = |dir: &PathBuf| {
            fs::metadata(dir.join(program)).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        brought.dirs.map_or(brought.programs.contains(&program), |dirs| dirs.iter().any(runs))
            || SYSTEM_PATH.split(':').any(|dir| runs(&self.path(dir)))
    }

    /// What a Docker engine that runs as root needs beside its archive.
    pub(super) fn missing_for_root(&self) -> Vec<MissingRequirement> {
        let none = Brought { programs: &[], dirs: None };
        let missing = |(program, package): &(&str, &str)| {
            let advice = format!("sudo apt-get install {package}");
            (!self.finds(program, &none))
                .then(|| MissingRequirement::new(format!("{program} is not installed"), advice))
        };
        [("iptables", "iptables"), ("ip", "iproute2")].iter().filter_map(missing).collect()
    }

    /// Whether `/etc/subuid` or `/etc/subgid` gives this user enough numbers for an image's users.
    fn has_range(&self, file: &str) -> bool {
        let text = self.setting(file).unwrap_or_default();
        text.lines().any(|line| {
            let mut fields = line.split(':');
            let (name, _start, count) = (fields.next(), fields.next(), fields.next());
            name.is_some_and(|n| n == self.user || n == self.uid.to_string())
                && count.and_then(|c| c.trim().parse::<u64>().ok()).is_some_and(|c| c >= 65_536)
        })
    }

    /// Everything that is missing, in the order to mend it.
    pub(super) fn missing(&self, brought: &Brought) -> Vec<MissingRequirement> {
        let mut missing = Vec::new();
        if self.setting("/proc/sys/user/max_user_namespaces").as_deref() == Some("0")
            || self.setting("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0")
        {
            missing.push(MissingRequirement::new(
                "user namespaces are switched off",
                "sudo sysctl -w user.max_user_namespaces=28633; sudo sysctl -w kernel.unprivileged_userns_clone=1",
            ));
        }
        if self.setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
            missing.push(MissingRequirement::new(
                "AppArmor keeps programs from making user namespaces",
                "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ));
        }
        if kernel_before(&self.kernel, (5, 11)) {
            missing.push(MissingRequirement::new(
                format!("Linux {} cannot mount overlay file systems for an ordinary user", self.kernel),
                "Linux 5.11 or newer is needed",
            ));
        }
        for program in ["newuidmap", "newgidmap"] {
            if !self.finds(program, brought) {
                missing.push(MissingRequirement::new(
                    format!("{program} is not installed"),
                    "sudo apt-get install uidmap (Fedora: sudo dnf install shadow-utils)",
                ));
            }
        }
        if !self.has_range("/etc/subuid") || !self.has_range("/etc/subgid") {
            missing.push(MissingRequirement::new(
                format!("{} has no range of 65536 numbers in /etc/subuid and /etc/subgid", self.user),
                format!("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}", self.user),
            ));
        }
        for (program, package) in [
            ("rootlesskit", "rootlesskit"),
            ("slirp4netns", "slirp4netns"),
            ("iptables", "iptables"),
            ("nsenter", "util-linux"),
        ] {
            if !self.finds(program, brought) {
                missing.push(MissingRequirement::new(
                    format!("{program} is not installed"),
                    format!("sudo apt-get install {package}"),
                ));
            }
        }
        let tun = self.path("/dev/net/tun");
        if let Err(e) = fs::OpenOptions::new().read(true).write(true).open(&tun) {
            let advice = if e.kind() == std::io::ErrorKind::NotFound {
                "sudo modprobe tun"
            } else {
                "sudo chmod 0666 /dev/net/tun (what systemd's own rule gives it)"
            };
            missing.push(MissingRequirement::new("/dev/net/tun cannot be opened by this user", advice));
        }
        missing
    }
}

/// Reports all of it in one error; `who` runs it.
pub(super) fn error(who: &str, missing: &[MissingRequirement]) -> Error {
    let list = missing.iter().map(|l| l.what.as_str()).collect::<Vec<_>>().join("; ");
    let mut advice: Vec<&str> = Vec::new();
    for requirement in missing {
        if !advice.contains(&requirement.advice.as_str()) {
            advice.push(&requirement.advice);
        }
    }
    let details: Vec<Value> = missing.iter().map(|l| json!({ "what": l.what, "advice": l.advice })).collect();
    Error::new(ErrorCode::UnsupportedPlatform, format!("This machine cannot run containers for {who}: {list}"))
        .hint(format!("{}.{}", advice.join("; "), if who == ROOT { "" } else { " Or start it as root." }))
        .detail("missing", details)
}

fn kernel_before(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) < wanted,
        // An unknown version is not refused.
        _ => false,
    }
}

fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid)).then(|| fields[0].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn machine(dir: &Path) -> RootlessHost {
        RootlessHost { root: dir.to_owned(), user: "ann".into(), uid: 1000, kernel: "6.1.0-18-amd64".into() }
    }

    fn put(dir: &Path, path: &str, text: &str) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_machine_with_everything_lacks_nothing_and_each_thing_has_its_advice() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for program in ["newuidmap", "newgidmap", "nsenter"] {
            put(root, &format!("usr/bin/{program}"), "");
        }
        put(root, "usr/sbin/iptables", "");
        put(root, "bundled/rootlesskit", "");
        put(root, "bundled/slirp4netns", "");
        put(root, "etc/subuid", "bob:100000:65536\nann:165536:65536\n");
        put(root, "etc/subgid", "1000:165536:65536\n");
        put(root, "dev/net/tun", "");
        put(root, "proc/sys/user/max_user_namespaces", "100\n");
        let (programs, dirs) = (&["rootlesskit", "slirp4netns"], [root.join("bundled")]);
        let all = |m: &RootlessHost| m.missing(&Brought { programs, dirs: Some(&dirs) });
        let missing = |m: &RootlessHost| all(m).into_iter().map(|l| l.advice).collect::<Vec<_>>().join("\n");
        assert_eq!(missing(&machine(root)), "");
        assert_eq!(machine(root).missing(&Brought { programs, dirs: None }), []);
        // Docker's extras have no slirp4netns, and as root it needs the machine's programs.
        let lacks = machine(root).missing(&Brought { programs: &programs[..1], dirs: None });
        assert_eq!(lacks.iter().map(|l| l.what.as_str()).collect::<Vec<_>>(), ["slirp4netns is not installed"]);
        assert_eq!(machine(root).missing_for_root().len(), 1);

        put(root, "proc/sys/user/max_user_namespaces", "0\n");
        assert!(missing(&machine(root)).contains("user.max_user_namespaces"));
        put(root, "proc/sys/user/max_user_namespaces", "100\n");
        put(root, "proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        assert!(missing(&machine(root)).contains("apparmor_restrict_unprivileged_userns=0"));
        put(root, "proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0\n");
        put(root, "etc/subgid", "ann:165536:1000\n");
        assert!(
            missing(&machine(root)).contains("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ann")
        );
        put(root, "etc/subgid", "ann:165536:65536\n");
        fs::remove_file(root.join("usr/bin/newgidmap")).unwrap();
        fs::remove_file(root.join("dev/net/tun")).unwrap();
        let e = error(ORDINARY, &all(&machine(root)));
        assert_eq!(e.code(), ErrorCode::UnsupportedPlatform);
        assert!(e.hint_text().unwrap().contains("uidmap") && e.hint_text().unwrap().contains("modprobe tun"));
        assert_eq!(e.details()["missing"].as_array().unwrap().len(), 2);
        let old = RootlessHost { kernel: "5.10.0".into(), ..machine(root) };
        assert!(missing(&old).contains("5.11"));
    }
}

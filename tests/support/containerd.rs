//! A real containerd of our own, which the tests of JavaScript know how to start. Needs root.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::geteuid;

use super::skip::{skip_without, skip_without_root};

pub struct Containerd {
    dir: PathBuf,
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Containerd {
    /// `None` where it cannot run; the test counts as skipped.
    pub fn start() -> Option<Self> {
        let missing = ["/usr/bin/containerd", "/usr/bin/ctr", "/usr/sbin/runc", "/usr/bin/busybox"];
        if let Some(program) = missing.iter().find(|p| !Path::new(p).exists()) {
            skip_without(program);
            return None;
        }
        if !geteuid().is_root() {
            skip_without_root("a containerd that runs containers");
            return None;
        }
        let mut command = Command::new("node");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/__test__/support/containerd-child.mjs"));
        let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            skip_without("node on the PATH");
            return None;
        };
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut this = Self { dir: PathBuf::new(), child, answers };
        this.dir = this.answer().into();
        Some(this)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "containerd's process ended");
        line.trim().to_owned()
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{word}").unwrap();
        assert_eq!(self.answer(), word);
    }

    /// A namespace of this daemon alone: cgroups are named after it, and all daemons share the machine's.
    pub fn namespace(&self) -> String {
        let dir = self.dir.file_name().unwrap().to_str().unwrap();
        dir.replace('_', "-").to_lowercase()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("sock")
    }

    pub fn up(&mut self) {
        self.tell("start");
    }

    /// Containers go on without it.
    pub fn down(&mut self) {
        self.tell("halt");
    }

    pub fn ctr(&self, namespace: &str, args: &[&str]) -> String {
        let socket = self.socket();
        let out = Command::new("ctr")
            .args(["--address", socket.to_str().unwrap(), "--namespace", namespace])
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Starts a container of the local busybox; `labels` as `key=value`.
    pub fn run(&self, namespace: &str, id: &str, labels: &[&str], command: &[&str]) {
        let rootfs = self.dir.join(format!("rootfs-{id}"));
        for dir in ["bin", "proc", "sys", "dev", "etc"] {
            std::fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        std::fs::copy("/usr/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        // Of its own too: runc's default directory is one for all daemons, and names would clash.
        let runc = self.dir.join("runc");
        let mut args = vec!["run", "--detach", "--null-io", "--runc-root", runc.to_str().unwrap()];
        args.extend(labels.iter().flat_map(|l| ["--label", l]));
        args.extend(["--rootfs", rootfs.to_str().unwrap(), id, "/bin/busybox"]);
        args.extend(command);
        self.ctr(namespace, &args);
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let ended = self.child.wait();
        assert!(std::thread::panicking() || ended.is_ok_and(|status| status.success()), "containerd was not tidied up");
    }
}

//! A real containerd of our own: root, state and socket in a temporary directory. Needs root.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::skip::{skip_without, skip_without_root};

pub struct Containerd {
    dir: tempfile::TempDir,
    child: Option<Child>,
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
        let dir = tempfile::Builder::new().prefix("lr-ctrd-").tempdir().unwrap();
        let config = format!(
            "version = 2\nroot = '{dir}/root'\nstate = '{dir}/state'\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{dir}/sock'\n",
            dir = dir.path().display(),
        );
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let mut this = Self { dir, child: None };
        this.up();
        Some(this)
    }

    /// A namespace of this daemon alone: cgroups are named after it, and all daemons share the machine's.
    pub fn namespace(&self) -> String {
        let dir = self.dir.path().file_name().unwrap().to_str().unwrap();
        dir.replace('_', "-")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    pub fn up(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = Command::new("/usr/bin/containerd")
            .arg("--config")
            .arg(self.dir.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let began = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(120), "containerd did not come up:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Containers go on without it.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            child.wait().unwrap();
        }
    }

    pub fn ctr(&self, namespace: &str, args: &[&str]) -> String {
        let socket = self.socket();
        let out = Command::new("/usr/bin/ctr")
            .args(["--address", socket.to_str().unwrap(), "--namespace", namespace])
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Starts a container of the local busybox; `labels` as `key=value`.
    pub fn run(&self, namespace: &str, id: &str, labels: &[&str], command: &[&str]) {
        let rootfs = self.dir.path().join(format!("rootfs-{id}"));
        for dir in ["bin", "proc", "sys", "dev", "etc"] {
            std::fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        std::fs::copy("/usr/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        // Of its own too: runc's default directory is one for all daemons, and names would clash.
        let runc = self.dir.path().join("runc");
        let mut args = vec!["run", "--detach", "--null-io", "--runc-root", runc.to_str().unwrap()];
        args.extend(labels.iter().flat_map(|l| ["--label", l]));
        args.extend(["--rootfs", rootfs.to_str().unwrap(), id, "/bin/busybox"]);
        args.extend(command);
        self.ctr(namespace, &args);
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if self.child.is_none() {
            self.up();
        }
        for namespace in self.ctr("default", &["namespaces", "ls", "-q"]).lines() {
            for id in self.ctr(namespace, &["tasks", "ls", "-q"]).lines() {
                let _ = std::panic::catch_unwind(|| self.ctr(namespace, &["tasks", "rm", "--force", id]));
            }
        }
        self.down();
    }
}

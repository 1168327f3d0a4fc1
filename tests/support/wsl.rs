//! A computer with the stand-in for `wsl.exe` (`wsl.sh`), and what its distributions are made of.

use std::{
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use lima_runtime::guest::wsl::{Wsl, WslGuest};
use rustix::process::geteuid;

use super::skip::{skip_without, skip_without_root};

pub struct Computer {
    pub dir: tempfile::TempDir,
}

impl Computer {
    /// `None` where it cannot run; the test counts as skipped.
    pub fn start() -> Option<Self> {
        let needed = ["/usr/bin/socat", "/usr/bin/nsenter", "/usr/bin/iconv"];
        if let Some(program) = needed.iter().find(|p| !Path::new(p).exists()) {
            skip_without(program);
            return None;
        }
        if !geteuid().is_root() {
            skip_without_root("the stand-in for wsl.exe");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("lr-wsl-").tempdir().unwrap();
        let this = Self { dir };
        std::fs::create_dir(this.path("d")).unwrap();
        std::fs::write(this.program(), include_bytes!("wsl.sh")).unwrap();
        std::fs::set_permissions(this.program(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Some(this)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self) -> PathBuf {
        self.path("wsl.exe")
    }

    pub fn wsl(&self) -> Wsl {
        Wsl::at(self.program())
    }

    /// What a test says about the computer: `missing`, `novm`, `old`.
    pub fn set(&self, fact: &str, is: bool) {
        if is {
            std::fs::write(self.path(fact), "").unwrap();
        } else {
            _ = std::fs::remove_file(self.path(fact));
        }
    }

    /// A distribution that runs, and the way into it.
    pub async fn guest(&self, name: &str, socket: &str) -> WslGuest {
        let archive = self.path("rootfs.tar.gz");
        std::fs::write(&archive, rootfs()).unwrap();
        self.wsl().import(name, &self.path(&format!("disk-{name}")), &archive).await.unwrap();
        let guest = WslGuest::new(self.wsl(), name, socket);
        let command = lima_runtime::process::Command::new(["true"]);
        assert!(guest.boot(command).await.unwrap().output().await.unwrap().success());
        guest
    }

    /// On this machine, of the distribution's first process.
    pub fn init(&self, name: &str) -> Option<i32> {
        std::fs::read_to_string(self.path(&format!("d/{name}/init"))).ok()?.split(' ').next()?.parse().ok()
    }

    /// This machine's numbers of the processes that live in a distribution, each with its number there.
    pub fn processes(&self, name: &str) -> Vec<(i32, i32)> {
        let Some(init) = self.init(name) else { return Vec::new() };
        let space = |pid: i32| std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|m| m.ino());
        let Some(ours) = space(init) else { return Vec::new() };
        let inside = |pid: i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            if status.lines().any(|l| l.starts_with("State:\tZ")) {
                return None;
            }
            status.lines().find_map(|l| l.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
        };
        all().filter(|pid| space(*pid) == Some(ours)).filter_map(|pid| Some((pid, inside(pid)?))).collect()
    }

    /// Those `wsl.exe` that carry a command now.
    pub fn carriers(&self, name: &str) -> Vec<i32> {
        let start = format!("nsenter\0--target\0{}\0", self.init(name).unwrap_or_default());
        let carries =
            |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().starts_with(start.as_bytes());
        all().filter(carries).collect()
    }
}

impl Drop for Computer {
    fn drop(&mut self) {
        for name in std::fs::read_dir(self.path("d")).unwrap().flatten() {
            let mut terminate = self.wsl().command(["--terminate".as_ref(), name.file_name().as_os_str()]);
            _ = terminate.stdout(std::process::Stdio::null()).status();
        }
    }
}

fn all() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// A root file system to import; the programs are the stand-in's.
pub fn rootfs() -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut add = |path: &str, mode: u32, kind: tar::EntryType, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        header.set_entry_type(kind);
        tar.append_data(&mut header, path, data).unwrap();
    };
    for dir in ["etc", "root", "var", "var/log", "var/lib", "mnt"] {
        add(dir, 0o755, tar::EntryType::Directory, b"");
    }
    add("etc/passwd", 0o644, tar::EntryType::Regular, b"root:x:0:0:root:/root:/bin/sh\n");
    add("etc/group", 0o644, tar::EntryType::Regular, b"root:x:0:\n");
    let mut gz = tar.into_inner().unwrap();
    gz.flush().unwrap();
    gz.finish().unwrap()
}

//! The root disk of a VM as an image for others: who the VM was is taken out of it, then it is written compressed. When is decided in
//! `manager/lima/bake.rs`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::template::VmType;
use crate::{
    env_vars,
    error::{Error, ErrorCode, Result},
    process::{self, Chunk, Command},
};

const SCRIPT: &str = include_str!("../../templates/bake.sh");
/// Part of QEMU. Lima's own images are of this format, and vz converts it (docs/reference/lima.md#disks).
const PROGRAM: &str = "qemu-img";

/// Takes out of a guest what is `user`'s and its own. `units` are those of engines. Nobody can log in after it.
pub fn without_identity(user: &str, units: &[&str]) -> Command {
    Command::new(["sh", "-c", SCRIPT, "sh", user].into_iter().chain(units.iter().copied())).root()
}

/// `NOT_INSTALLED` without the program that writes images.
pub async fn check_program() -> Result<()> {
    let missing = |e: Error| {
        Error::new(ErrorCode::NotInstalled, format!("{PROGRAM} is needed to write an image: {}", e.message()))
            .hint("Install QEMU's tools: qemu-utils of Debian and Ubuntu, qemu-img of Fedora, qemu of Homebrew.")
            .detail("path", PROGRAM)
    };
    let ran = async {
        let mut version = std::process::Command::new(program()?);
        version.arg("--version");
        process::spawn(version, Bytes::new(), None).await?.output().await
    };
    let out = ran.await.map_err(missing)?;
    if out.success() { Ok(()) } else { Err(missing(Error::internal("it does not run"))) }
}

fn program() -> Result<PathBuf> {
    env_vars::program(PROGRAM).ok_or_else(|| Error::new(ErrorCode::NotInstalled, "it is not on the PATH"))
}

/// Writes the root disk at `from`, which no VM uses, to `to`: without what it is based on, compressed. `said` gets percents.
pub async fn write(from: &Path, driver: VmType, to: &Path, said: impl Fn(f64) + Send) -> Result<()> {
    let mut convert = std::process::Command::new(program()?);
    convert.args(arguments(from, driver, to));
    let mut process = process::spawn(convert, Bytes::new(), None).await?;
    let (mut errors, mut line) = (Vec::new(), Vec::new());
    while let Some(chunk) = process.next().await {
        match chunk {
            Chunk::Stderr(data) if errors.len() < 4096 => errors.extend_from_slice(&data),
            Chunk::Stderr(_) => {}
            Chunk::Stdout(data) => {
                for &byte in &data {
                    if byte == b'\r' || byte == b'\n' {
                        if let Some(percent) = percent(&line) {
                            said(percent);
                        }
                        line.clear();
                    } else if line.len() < 64 {
                        line.push(byte);
                    }
                }
            }
        }
    }
    let exit = process.exit().await?;
    if exit == process::Exit::Code(0) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&errors).trim().to_owned();
    if said.contains("No space left on device") {
        let text = format!("The disk is full: {} cannot be written", to.display());
        return Err(Error::new(ErrorCode::DiskFull, text).hint("Free some disk space, then try again."));
    }
    Err(Error::internal(format!("{PROGRAM} failed: {exit}")).detail("stderr", said))
}

/// The format is named: a guest writes what a raw disk begins with.
fn arguments(from: &Path, driver: VmType, to: &Path) -> Vec<OsString> {
    let format = match driver {
        VmType::Vz => "raw",
        VmType::Qemu => "qcow2",
    };
    let words = ["convert", "-p", "-c", "-f", format, "-O", "qcow2"].into_iter().map(OsString::from);
    words.chain([from.into(), to.into()]).collect()
}

/// `    (12.50/100%)`
fn percent(line: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(line).ok()?.trim().strip_prefix('(')?.strip_suffix("/100%)")?;
    text.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use super::*;

    /// Runs the script in a root of its own, with programs that only say what they were called with.
    fn baked(root: &Path, failing: &str) -> (std::process::Output, String) {
        let (programs, said) = (root.join("programs"), root.join("said"));
        fs::create_dir_all(&programs).unwrap();
        for name in ["systemctl", "cloud-init", "apt-get", "userdel", "fstrim", "update-ca-certificates", "id", "sync"]
        {
            // `id` fails where the user is gone.
            let exit = i32::from((name == failing) != (name == "id"));
            let text = format!("#!/bin/sh\necho {name} \"$*\" >>'{}'\nexit {exit}\n", said.display());
            fs::write(programs.join(name), text).unwrap();
            fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let units = ["containerd.service", "buildkit.service"];
        let out = std::process::Command::new("sh")
            .args(["-c", SCRIPT, "sh", "lima"])
            .args(units)
            .env("LIMA_RUNTIME_ROOT", root)
            .env("PATH", path)
            .output()
            .unwrap();
        (out, fs::read_to_string(&said).unwrap_or_default())
    }

    fn guest() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let at = move |path: &str| root.join(path);
        let files = [
            ("etc/ssh/lima-runtime_host_key", "secret"),
            ("etc/ssh/ssh_host_rsa_key", "secret"),
            ("etc/ssh/ssh_host_rsa_key.pub", "public"),
            ("etc/ssh/sshd_config", "HostKey /etc/ssh/lima-runtime_host_key\nUsePAM yes\n"),
            ("etc/ssh/sshd_config.d/05-lima-runtime-hostkey.conf", "HostKey x"),
            ("etc/ssh/sshd_config.d/10-lima-runtime.conf", "MaxSessions 100"),
            ("root/.ssh/authorized_keys", "ssh-ed25519 x"),
            ("etc/sudoers.d/90-cloud-init-users", "lima ALL"),
            ("usr/local/share/ca-certificates/cloud-init-ca-cert-1.crt", "x"),
            ("usr/local/share/ca-certificates/of-the-image.crt", "x"),
            ("etc/environment", "PATH=/bin\n#LIMA-START\nhttps_proxy=http://user:secret@proxy\n#LIMA-END\n"),
            ("etc/fstab", "/dev/vda / ext4\nmount0 /home/me virtiofs rw,comment=cloudconfig 0 0\n"),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("var/lib/systemd/random-seed", "x"),
            ("var/lib/systemd/linger/lima", ""),
            ("var/lib/apt/lists/main_Packages", "x"),
            ("var/log/cloud-init-output.log", "secret"),
            ("tmp/left", "secret"),
            ("usr/local/bin/nerdctl", "program"),
            ("usr/local/lib/lima-runtime/data-disk", "x"),
            ("etc/systemd/system/containerd.service.d/05-lima-runtime-data.conf", "x"),
            ("etc/systemd/system/containerd.service.d/10-lima-runtime.conf", "x"),
            (
                "etc/buildkit/buildkitd.toml",
                "[worker.oci]\n# BEGIN lima-runtime\n[registry.\"a:5000\"]\n# END lima-runtime\n",
            ),
            ("etc/buildkit/lima-runtime/certificates/lima-runtime.crt", "x"),
            ("etc/systemd/system/buildkit.service.d/lima-runtime.conf", "x"),
            ("etc/docker/daemon.json", "{}"),
            ("etc/netplan/50-cloud-init.yaml", "macaddress"),
            ("etc/passwd-", "lima:x:501:1000:A Person"),
        ];
        std::os::unix::fs::symlink("lima.guest", {
            fs::create_dir_all(at("home")).unwrap();
            at("home/lima.linux")
        })
        .unwrap();
        for (path, text) in files {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        }
        (dir, at)
    }

    #[test]
    fn an_image_holds_what_is_installed_and_nothing_of_the_vm_it_was() {
        let (dir, at) = guest();
        let (out, said) = baked(dir.path(), "");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = |path: &str| fs::read_to_string(at(path)).unwrap();
        let gone = [
            "etc/ssh/lima-runtime_host_key",
            "etc/ssh/ssh_host_rsa_key",
            "etc/ssh/ssh_host_rsa_key.pub",
            "etc/ssh/sshd_config.d/05-lima-runtime-hostkey.conf",
            "root/.ssh",
            "etc/sudoers.d/90-cloud-init-users",
            "usr/local/share/ca-certificates/cloud-init-ca-cert-1.crt",
            "var/lib/systemd/random-seed",
            "var/lib/systemd/linger/lima",
            "var/lib/apt/lists/main_Packages",
            "tmp/left",
            "usr/local/lib/lima-runtime/data-disk",
            "etc/systemd/system/containerd.service.d/05-lima-runtime-data.conf",
            "etc/buildkit/lima-runtime",
            "etc/systemd/system/buildkit.service.d/lima-runtime.conf",
            "etc/docker",
            "etc/netplan/50-cloud-init.yaml",
            "etc/passwd-",
            "home/lima.linux",
        ];
        for path in gone {
            assert!(fs::symlink_metadata(at(path)).is_err(), "{path} is there");
        }
        assert_eq!(text("etc/buildkit/buildkitd.toml"), "[worker.oci]\n");
        for path in ["etc/machine-id", "var/log/cloud-init-output.log"] {
            assert_eq!(text(path), "", "{path}");
        }
        assert_eq!(text("etc/environment"), "PATH=/bin\n");
        assert_eq!(text("etc/fstab"), "/dev/vda / ext4\n");
        assert_eq!(text("etc/ssh/sshd_config"), "UsePAM yes\n");
        for path in [
            "usr/local/bin/nerdctl",
            "usr/local/share/ca-certificates/of-the-image.crt",
            "etc/ssh/sshd_config.d/10-lima-runtime.conf",
            "etc/systemd/system/containerd.service.d/10-lima-runtime.conf",
        ] {
            assert!(at(path).exists(), "{path} is gone");
        }
        let called = |words: &str| assert!(said.lines().any(|line| line.starts_with(words)), "{words} in {said}");
        called("systemctl disable --now containerd.service");
        called("systemctl disable --now buildkit.service");
        called("cloud-init clean --logs");
        called("userdel -f -r lima");
        called("fstrim -a");
    }

    #[test]
    fn an_image_that_would_know_its_vm_is_none() {
        let rows = [
            ("cloud-init", "cloud-init keeps"),
            ("id", "the user lima cannot be removed"),
            ("update-ca-certificates", "among the trusted ones"),
        ];
        for (program, words) in rows {
            let (dir, _) = guest();
            let (out, _) = baked(dir.path(), program);
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(!out.status.success() && said.contains(words), "{program}: {said}");
        }
    }

    #[test]
    fn a_disk_is_read_as_what_its_driver_writes() {
        let words = |driver| {
            let words = arguments(Path::new("/d/disk"), driver, Path::new("/o/image"));
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(VmType::Qemu), "convert -p -c -f qcow2 -O qcow2 /d/disk /o/image");
        assert_eq!(words(VmType::Vz), "convert -p -c -f raw -O qcow2 /d/disk /o/image");
    }

    #[test]
    fn percents_are_read() {
        assert_eq!(percent(b"    (12.50/100%)"), Some(12.5));
        assert_eq!(percent(b"    (100.00/100%)"), Some(100.0));
        for line in [b"".as_slice(), b"(x/100%)", b"(101/100%)", b"(NaN/100%)", b"\xff"] {
            assert_eq!(percent(line), None);
        }
    }
}

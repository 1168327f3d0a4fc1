//! containerd in a guest is installed by Lima at a first boot. Whether it is the version that the VM is to have is seen to here:
//! Lima's own way from one version to another can end half-way (docs/reference/lima.md#containerd-in-the-guest).

use super::{
    disk::{disk_full, system_disk},
    docker::Archive,
};
use crate::{
    error::{Error, ErrorCode, Result},
    guest::Guest,
    process::Command,
};

/// Where Lima unpacks it.
const PREFIX: &str = "/usr/local";
/// The digest of the archive that we unpacked last.
const MARK: &str = "/usr/local/lib/lima-runtime/nerdctl-full.sha256";
const DONE: &str = "/run/lima-boot-done";

/// Prints the digest, and what nerdctl calls itself; nothing while Lima may still install it.
const LOOK: &str = r#"[ -e "$1" ] || exit 0
echo "mark $(cat "$3" 2>/dev/null)"
echo "version $("$2/bin/nerdctl" --version 2>/dev/null)"
"#;

/// Takes the digest, where it is noted, where to unpack, and the units to run, with the archive on its standard input. What is
/// running goes on in its old shims.
const UNPACK: &str = r#"set -eu
umask 022
digest=$1 mark=$2 prefix=$3
shift 3
mkdir -p "$prefix" "${mark%/*}"
rm -f "$mark"
tar -xzf - -C "$prefix" --no-same-owner
printf '%s\n' "$digest" >"$mark.new"
sync
mv -f "$mark.new" "$mark"
systemctl daemon-reload
for unit; do
  [ -e "$prefix/lib/systemd/system/$unit" ] || continue
  systemctl enable "$unit" >/dev/null 2>&1
  systemctl --no-block restart "$unit"
done
"#;

/// Whether the guest has another version than the archive's.
pub async fn is_other(guest: &impl Guest, archive: &Archive) -> Result<bool> {
    let said = guest.run(Command::new(["sh", "-c", LOOK, "sh", DONE, PREFIX, MARK])).await?;
    Ok(differs(&String::from_utf8_lossy(&said.stdout), archive))
}

fn differs(said: &str, archive: &Archive) -> bool {
    let after = |word: &str| said.lines().find_map(|line| line.strip_prefix(word)).map(str::trim);
    let (Some(mark), Some(version)) = (after("mark"), after("version")) else { return false };
    let number = version.rsplit(' ').next().unwrap_or_default();
    mark != archive.sha256 && number.trim_start_matches('v') != archive.version
}

/// Puts the archive's programs into the guest, in the place of others, and has `units` run by them.
pub async fn unpack(guest: &impl Guest, archive: &Archive, units: &[&str]) -> Result<()> {
    let words = ["sh", "-c", UNPACK, "sh", &archive.sha256, MARK, PREFIX].into_iter().chain(units.iter().copied());
    let out = guest.hand_over(Command::new(words).root(), &archive.path).await?;
    if out.success() {
        return Ok(());
    }
    let what = "containerd cannot be unpacked in the VM";
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    if said.contains("No space left on device") {
        return Err(disk_full(what, system_disk(guest).await));
    }
    Err(Error::new(ErrorCode::ContainerdNotReady, what).detail("stderr", said))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

    use super::*;

    fn archive(version: &str) -> Archive {
        Archive { path: "/x".into(), sha256: "a".repeat(64), version: version.into() }
    }

    #[test]
    fn a_version_is_another_one_by_its_own_word_unless_we_unpacked_it() {
        let digest = "a".repeat(64);
        let rows = [
            ("", "2.3.5", false),
            ("mark \nversion nerdctl version 2.3.5\n", "2.3.5", false),
            ("mark \nversion nerdctl version v2.3.5\n", "2.3.5", false),
            ("mark \nversion nerdctl version 2.1.6\n", "2.3.5", true),
            // An installation that was cut off.
            ("mark \nversion \n", "2.3.5", true),
            ("mark bbb\nversion nerdctl version 2.1.6\n", "2.3.5", true),
            // A build that calls itself something else: once is enough.
            (&format!("mark {digest}\nversion nerdctl version a-fork\n"), "2.3.5", false),
        ];
        for (said, version, other) in rows {
            assert_eq!(differs(said, &archive(version)), other, "{said:?}");
        }
    }

    fn program(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn what_is_there_is_replaced_and_runs() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let said = at("said");
        program(&at("programs/systemctl"), &format!("echo \"$@\" >>'{}'", said.display()));
        program(&at("local/bin/nerdctl"), "echo nerdctl version 2.1.6");
        let look = || {
            let paths = ["done", "local", "mark/sha256"].map(at);
            let out = std::process::Command::new("sh").args(["-c", LOOK, "sh"]).args(paths).output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        assert_eq!(look(), "", "Lima is still at it");
        fs::write(at("done"), "").unwrap();
        assert_eq!(look(), "mark \nversion nerdctl version 2.1.6\n");

        program(&at("new/bin/nerdctl"), "echo nerdctl version 2.3.5");
        fs::create_dir_all(at("new/lib/systemd/system")).unwrap();
        fs::write(at("new/lib/systemd/system/containerd.service"), "[Service]").unwrap();
        let tar = std::process::Command::new("tar").arg("-C").arg(at("new")).args(["-czf", "-", "bin", "lib"]).output();
        let unpack = |archive: &[u8]| {
            use std::io::Write;
            let mut shell = std::process::Command::new("sh")
                .args(["-c", UNPACK, "sh", "digest"])
                .args([at("mark/sha256"), at("local")])
                .args(["containerd.service", "none.service"])
                .env("PATH", format!("{}:{}", at("programs").display(), std::env::var("PATH").unwrap()))
                .stdin(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            _ = shell.stdin.take().unwrap().write_all(archive);
            shell.wait().unwrap().success()
        };
        let whole = tar.unwrap().stdout;
        assert!(unpack(&whole));
        assert_eq!(look(), "mark digest\nversion nerdctl version 2.3.5\n");
        let said = fs::read_to_string(&said).unwrap();
        assert_eq!(said, "daemon-reload\nenable containerd.service\n--no-block restart containerd.service\n");
        // One that was cut off is not taken for the whole.
        assert!(!unpack(&whole[..whole.len() / 2]));
        assert!(look().starts_with("mark \n"));
    }
}

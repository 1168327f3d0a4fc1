//! The Docker Engine in a guest with systemd: its static archive, handed over on a command's standard input, and what
//! runs it (docs/reference/docker.md#static-archive).

use serde_json::json;

use super::disk::{disk_full, system_disk};
use crate::{
    error::{Error, ErrorCode, Result},
    fetch::record::Record,
    guest::Guest,
    manager::registries::RegistryOptions,
    process::Command,
};

/// An archive of the cache, checked when it was fetched, and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    pub path: std::path::PathBuf,
    pub sha256: String,
    pub version: String,
}

impl Archive {
    pub fn of((path, record): (std::path::PathBuf, Record)) -> Self {
        Self { path, sha256: record.sha256.to_string(), version: record.version }
    }
}

/// What to do about one in a VM that does not answer.
pub const MEND: &str = "Start the VM again: start() mends the engine in it. See diagnose().";
/// For people in the guest, and our own wrapper.
pub const CLI: &str = "/usr/local/bin/docker";
/// The programs have a directory of their own: nerdctl-full, which may lie in /usr/local too, has a containerd and a runc of
/// the same names.
pub const PROGRAMS: &str = "/usr/local/lib/lima-runtime/docker";
/// Where the unit below listens.
const SOCKET: &str = "/run/docker.sock";
const DOCKERD: &str = "/usr/local/lib/lima-runtime/docker/dockerd";

/// Puts the programs of an archive in their place, all of them or none.
const UNPACK: &str = r#"set -eu
umask 022
mkdir -p "${3%/*}" "${2%/*}"
new=$(mktemp -d "$2.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
tar -xzf - -C "$new" --no-same-owner --strip-components=1
[ -x "$new/dockerd" ] || { echo 'the archive holds no dockerd' >&2; exit 1; }
printf '%s\n' "$1" >"$new/sha256"
sync
rm -rf "$2.old"
[ ! -e "$2" ] || mv -T "$2" "$2.old"
mv -T "$new" "$2"
rm -rf "$2.old"
ln -sfn "$2/docker" "$3"
"#;

/// Prints the mark where all the programs are.
const MARK_OF_ALL: &str = r#"for name in dockerd docker containerd runc; do [ -x "$1/$name" ] || exit 0; done
cat "$1/sha256""#;

/// Takes dockerd's path, the engine's socket, and pairs of a path and a text: writes what differs, and has the engine
/// run as they say, by these programs. Whether it does is asked over its socket. Containers live on where the daemon is restarted.
const PLACE: &str = r#"set -eu
umask 022
changed=
# Whether the daemon is that program: another one lies there where newer ones came after it.
pid=$(systemctl show --property=MainPID --value docker.service 2>/dev/null) || pid=
if [ -e "/proc/${pid:-0}/exe" ] && ! [ "/proc/$pid/exe" -ef "$1" ]; then changed=1; fi
socket=$2
shift 2
while [ $# -gt 0 ]; do
  if ! [ -f "$1" ] || [ "$(cat "$1"; echo x)" != "$2"x ]; then
    mkdir -p "${1%/*}"
    printf %s "$2" >"$1.new"
    mv -f "$1.new" "$1"
    changed=1
  fi
  shift 2
done
units='docker.socket docker.service'
# systemd goes on listening at a socket whose file somebody removed.
listens() { systemctl is-active --quiet docker.socket && [ -S "$socket" ]; }
if [ -z "$changed" ] && listens && systemctl is-active --quiet $units && systemctl is-enabled --quiet $units; then exit 0; fi
systemctl unmask docker.socket docker.service >/dev/null 2>&1
# Of an engine with the image store of before: dockerd keeps them, and does not show them.
grep -lE '"Driver":"(overlay2|overlay|vfs|aufs|devicemapper)"' /var/lib/docker/containers/*/config.v2.json 2>/dev/null || :
[ -z "$changed" ] || systemctl daemon-reload
systemctl enable docker.socket docker.service >/dev/null 2>&1
systemctl reset-failed docker.service >/dev/null 2>&1 || :
# A socket is not made while its service runs. One that is there stays: containers have it mounted.
if ! listens; then
  systemctl stop docker.service
  systemctl restart docker.socket
fi
systemctl --no-block restart docker.service
"#;

const SERVICE: &str = "[Unit]
Description=Docker Engine of lima-runtime
After=network-online.target docker.socket
Wants=network-online.target
Requires=docker.socket
StartLimitIntervalSec=0

[Service]
Type=notify
EnvironmentFile=-/etc/environment
Environment=PATH=/usr/local/lib/lima-runtime/docker:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Of a run that was cut off: nobody else is the service's main process.
ExecStartPre=/bin/rm -f /run/docker.pid
ExecStart=/usr/local/lib/lima-runtime/docker/dockerd --host=fd://
ExecReload=/bin/kill -s HUP $MAINPID
TimeoutStartSec=0
TimeoutStopSec=20
Restart=always
RestartSec=2
LimitNOFILE=infinity
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-500
Delegate=yes
KillMode=process

[Install]
WantedBy=multi-user.target
";

/// Of the guest's user, who connects to it over SSH.
fn socket_unit(user: &str) -> String {
    format!(
        "[Unit]
Description=API socket of lima-runtime's Docker Engine

[Socket]
ListenStream=/run/docker.sock
SocketMode=0660
SocketUser={user}
SocketGroup=root

[Install]
WantedBy=sockets.target
"
    )
}

/// dockerd's settings wherever it runs.
pub fn settings(registries: &RegistryOptions) -> Result<serde_json::Map<String, serde_json::Value>> {
    let mut settings = registries.daemon_json()?;
    settings.insert("features".into(), json!({ "containerd-snapshotter": true }));
    settings.insert("log-driver".into(), "json-file".into());
    settings.insert("log-opts".into(), json!({ "max-size": "10m", "max-file": "3" }));
    Ok(settings)
}

fn daemon_json(registries: &RegistryOptions) -> Result<String> {
    let mut settings = settings(registries)?;
    settings.insert("live-restore".into(), true.into());
    Ok(format!("{:#}\n", serde_json::Value::Object(settings)))
}

/// Path and text of each file.
fn files(user: &str, registries: &RegistryOptions) -> Result<[(&'static str, String); 3]> {
    Ok([
        ("/etc/docker/daemon.json", daemon_json(registries)?),
        ("/etc/systemd/system/docker.socket", socket_unit(user)),
        ("/etc/systemd/system/docker.service", SERVICE.to_owned()),
    ])
}

/// Whether the guest has other programs, not all of them, or none.
pub async fn is_missing(guest: &impl Guest, archive: &Archive) -> Result<bool> {
    let there = guest.run(Command::new(["sh", "-c", MARK_OF_ALL, "sh", PROGRAMS])).await?;
    Ok(String::from_utf8_lossy(&there.stdout).trim() != archive.sha256)
}

/// Has the engine run, by the programs that are there, for the guest's `user`; at once where it does. `ENGINE_UNREACHABLE` with
/// what the guest said.
pub async fn place(guest: &impl Guest, user: &str, registries: &RegistryOptions) -> Result<()> {
    let files = files(user, registries)?;
    let words = ["sh", "-c", PLACE, "sh", DOCKERD, SOCKET].into_iter();
    let pairs = files.iter().flat_map(|(path, text)| [*path, text.as_str()]);
    let out = guest.run(Command::new(words.chain(pairs)).root()).await?;
    if !out.success() {
        return Err(failed(guest, "The Docker engine in the VM does not start", &out.stderr).await);
    }
    let hidden = String::from_utf8_lossy(&out.stdout).lines().count();
    if hidden > 0 {
        let text = format!(
            "/var/lib/docker in the VM holds containers of an older Docker Engine with another image store, {hidden} of them: \
             they stay there, and are not listed"
        );
        let hint =
            "Bring over what they hold with the engine that made them: images by save and load, data by volumes.";
        crate::call::warn(Error::new(ErrorCode::EngineWarning, text).hint(hint));
    }
    Ok(())
}

/// Puts the archive's programs into the guest.
pub async fn unpack(guest: &impl Guest, archive: &Archive) -> Result<()> {
    let out = guest.hand_over(unpacking(&archive.sha256), &archive.path).await?;
    if out.success() {
        return Ok(());
    }
    Err(failed(guest, "The Docker engine cannot be unpacked in the VM", &out.stderr).await)
}

/// Takes the archive with that digest on its standard input.
pub fn unpacking(sha256: &str) -> Command {
    Command::new(["sh", "-c", UNPACK, "sh", sha256, PROGRAMS, CLI]).root()
}

async fn failed(guest: &impl Guest, what: &str, stderr: &[u8]) -> Error {
    let said = String::from_utf8_lossy(stderr).trim().to_owned();
    if said.contains("No space left on device") {
        return disk_full(what, system_disk(guest).await);
    }
    Error::new(ErrorCode::EngineUnreachable, what).detail("stderr", said)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs the script that unpacks, as the guest does.
    fn unpacked(dir: &Path, digest: &str, archive: &[u8]) -> std::process::Output {
        use std::io::Write;
        let (programs, cli) = (dir.join("lib/docker"), dir.join("bin/docker"));
        let mut shell = std::process::Command::new("sh")
            .args(["-c", UNPACK, "sh", digest])
            .args([&programs, &cli])
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // One that refuses it does not read to the end.
        _ = shell.stdin.take().unwrap().write_all(archive);
        shell.wait_with_output().unwrap()
    }

    fn archive(program: &str, text: &str) -> Vec<u8> {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (name, text) in [(program, text), ("docker", "#!/bin/sh\n")] {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o755);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, format!("docker/{name}"), text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn programs_of_which_one_is_gone_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let mark = || {
            let out =
                std::process::Command::new("sh").args(["-c", MARK_OF_ALL, "sh"]).arg(dir.path()).output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        assert_eq!(mark(), "");
        for name in ["dockerd", "docker", "containerd", "runc"] {
            crate::fetch::disk::write_program(&dir.path().join(name), b"#!/bin/sh\n").unwrap();
        }
        std::fs::write(dir.path().join("sha256"), "abc\n").unwrap();
        assert_eq!(mark(), "abc\n");
        std::fs::remove_file(dir.path().join("dockerd")).unwrap();
        assert_eq!(mark(), "");
    }

    #[test]
    fn programs_are_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let there = |name: &str| std::fs::read_to_string(dir.path().join("lib/docker").join(name)).unwrap();
        for version in ["one", "two"] {
            let out = unpacked(dir.path(), version, &archive("dockerd", version));
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            assert_eq!((there("dockerd").as_str(), there("sha256").trim()), (version, version));
            assert!(dir.path().join("bin/docker").exists());
        }
        let whole = archive("dockerd", "three");
        for broken in [&whole[..whole.len() / 2], b"no archive", b"", &archive("something", "else")] {
            assert!(!unpacked(dir.path(), "three", broken).status.success());
            assert_eq!(there("sha256").trim(), "two");
            let left: Vec<_> = std::fs::read_dir(dir.path().join("lib")).unwrap().flatten().collect();
            assert_eq!(left.len(), 1, "{left:?}");
        }
    }

    /// Runs the script that places `unit` and has the engine run, with a systemctl that writes down what it is asked to do.
    fn placed(dir: &Path, unit: &Path) -> Vec<String> {
        let log = dir.join("log");
        _ = std::fs::remove_file(&log);
        let path = format!("{}:/usr/bin:/bin", dir.join("bin").display());
        let out = std::process::Command::new("sh")
            .args(["-c", PLACE, "sh", dir.join("dockerd").to_str().unwrap()])
            .arg(dir.join("docker.sock"))
            .args([unit.to_str().unwrap(), "as it should be\n"])
            .env("PATH", path)
            .env("DIR", dir)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(std::fs::read_to_string(unit).unwrap(), "as it should be\n");
        std::fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_daemon_that_was_masked_disabled_stopped_or_changed_runs_again() {
        let dir = tempfile::tempdir().unwrap();
        let (unit, state) = (dir.path().join("etc/docker.service"), |name: &str| dir.path().join(name));
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        let systemctl = "#!/bin/sh\necho \"$*\" >>\"$DIR/log\"\ncase \"$1 $3\" in\n'show --value') cat \"$DIR/pid\" 2>/dev/null ;;\n'is-active docker.socket') [ -e \"$DIR/active\" ] ;;\n'is-enabled docker.socket') [ -e \"$DIR/enabled\" ] ;;\nesac\n";
        crate::fetch::disk::write_program(&state("bin/systemctl"), systemctl.as_bytes()).unwrap();
        for name in ["active", "enabled"] {
            std::fs::write(state(name), "").unwrap();
        }
        let listen = || {
            _ = std::fs::remove_file(state("docker.sock"));
            std::os::unix::net::UnixListener::bind(state("docker.sock")).unwrap()
        };
        let mut _socket = listen();
        let restart = "--no-block restart docker.service";
        let asks = |said: &[String], word: &str| said.iter().any(|line| line == word);
        assert!(asks(&placed(dir.path(), &unit), restart), "its file was not there");
        let said = placed(dir.path(), &unit);
        let only_asks = |said: &[String]| said.iter().all(|line| line.starts_with("is-") || line.starts_with("show "));
        assert!(only_asks(&said), "it runs: {said:?}");
        // Programs that were replaced under it, whatever the guest's clock says and said then.
        let mut daemon = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(state("pid"), daemon.id().to_string()).unwrap();
        let its = std::fs::canonicalize(format!("/proc/{}/exe", daemon.id())).unwrap();
        for (program, replaced) in [(its.as_path(), false), (Path::new("/bin/sh"), true), (its.as_path(), false)] {
            _ = std::fs::remove_file(state("dockerd"));
            std::os::unix::fs::symlink(program, state("dockerd")).unwrap();
            let said = placed(dir.path(), &unit);
            assert_eq!((asks(&said, restart), only_asks(&said)), (replaced, !replaced), "{program:?}: {said:?}");
        }
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        let broken: [(&str, &dyn Fn()); 6] = [
            ("without its socket", &|| std::fs::remove_file(state("docker.sock")).unwrap()),
            ("masked", &|| {
                std::fs::remove_file(&unit).unwrap();
                std::os::unix::fs::symlink("/dev/null", &unit).unwrap();
            }),
            ("disabled", &|| std::fs::remove_file(state("enabled")).unwrap()),
            ("stopped", &|| std::fs::remove_file(state("active")).unwrap()),
            ("emptied", &|| std::fs::write(&unit, "").unwrap()),
            ("gone", &|| std::fs::remove_file(&unit).unwrap()),
        ];
        for (name, breaks) in broken {
            breaks();
            let said = placed(dir.path(), &unit);
            for word in ["unmask docker.socket docker.service", "enable docker.socket docker.service", restart] {
                assert!(asks(&said, word), "{name}: {said:?}");
            }
            // A socket that is there stays: containers have it mounted.
            let goes = ["stopped", "without its socket"].contains(&name);
            assert_eq!(asks(&said, "restart docker.socket"), goes, "{name}: {said:?}");
            _socket = listen();
            for name in ["active", "enabled"] {
                std::fs::write(state(name), "").unwrap();
            }
        }
    }

    #[test]
    fn a_socket_is_the_guests_users_and_there_before_the_service() {
        let registries = json!({ "mirrors": { "docker.io": ["https://m"] }, "insecure": ["h:5000"] });
        let registries = serde_json::from_value(registries).unwrap();
        let [(_, settings), (_, socket), (_, service)] = files("lima", &registries).unwrap();
        assert!(socket.contains("\nSocketUser=lima\n") && socket.contains("\nSocketMode=0660\n"));
        assert!(service.contains("\nRequires=docker.socket\n") && service.contains("docker.socket\n"));
        for line in [
            "Type=notify",
            "Delegate=yes",
            "KillMode=process",
            "Restart=always",
            "ExecStartPre=/bin/rm -f /run/docker.pid",
            "StartLimitIntervalSec=0",
        ] {
            assert!(service.contains(&format!("\n{line}\n")), "{line}");
        }
        let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
        assert_eq!(settings["live-restore"], true);
        assert_eq!(settings["features"]["containerd-snapshotter"], true);
        assert_eq!(
            (&settings["registry-mirrors"][0], &settings["insecure-registries"][0]),
            (&json!("https://m"), &json!("h:5000"))
        );
    }
}

//! What is written before a start: directories, configurations, and the wrappers that other programs run.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{BundledRuntime, bridge::Bridge, dockerd, network, rootless};
use crate::{
    engine::containerd::certificates,
    error::{Error, Result},
    fetch::{disk, owner},
    manager::{buildkit, payload::UserEngine, registries},
};

impl BundledRuntime {
    /// Returns the mount points that it made. `bridge` is Docker's, as root.
    pub(super) fn prepare(&self, rootless: bool, bridge: Option<&Bridge>) -> Result<Vec<PathBuf>> {
        let (dir, local) = (self.dir(), &self.payload().local);
        let run = self.run_dir();
        remove_run(&run)?;
        let replacing = local.private.iter().map(|(_, own)| own);
        let dirs = local.dirs.iter().map(|(name, _)| name);
        for name in dirs.chain(replacing).chain(&["run/mark", "bin"]) {
            disk::create_dir(&dir.join(name))?;
        }
        for (name, mode) in [("run", 0o700)].iter().chain(local.dirs) {
            let private = dir.join(name);
            owner::check(&private)?;
            // A link that an administrator made leads to his own directory.
            if !private.is_symlink() {
                fs::set_permissions(&private, fs::Permissions::from_mode(*mode))
                    .map_err(|e| Error::io(e, "Cannot protect", &private))?;
            }
        }
        let mut made = Vec::new();
        if !rootless {
            for (place, _) in local.private {
                if !Path::new(place).exists() {
                    disk::create_dir(Path::new(place))?;
                    made.push(place.into());
                }
            }
        }
        let paths = self.paths();
        let inside = enter_script(&run, rootless)? + "enter \"$@\"\n";
        disk::write_program(&paths.inside, inside.as_bytes())?;
        match self.engine() {
            UserEngine::Containerd => {
                self.write_containerd_config(&dir.join("config.toml"), &dir.join("root"))?;
                // Replaces the machine's file, which is for another daemon.
                disk::write_text(&dir.join("nerdctl.toml"), "")?;
                let certificates = certificates(&self.options.network.http.ca_certificates)?;
                registries::place_in(&dir.join("registries"), &self.options.registries, &certificates)?;
                let tables = self.options.registries.buildkitd_toml()?;
                buildkit::place_in(&dir.join("buildkit"), &tables, &certificates)?;
                network::write_default(&paths.networks)?;
                disk::remove(&paths.docker)?;
                disk::write_program(&paths.nerdctl, self.wrapper(rootless)?.as_bytes())?;
            }
            UserEngine::Docker => {
                self.write_containerd_config(&self.docker_file("containerd.toml"), &self.docker_file("root"))?;
                let socket = paths.docker_socket.to_string_lossy();
                let mut settings = dockerd::daemon_json(&socket, bridge, &self.options.registries)?;
                for (name, path) in [
                    ("containerd", paths.address),
                    ("data-root", self.docker_file("data")),
                    ("exec-root", "/run/docker".into()),
                    ("pidfile", run.join("docker.pid")),
                ] {
                    settings.insert(name.into(), path.to_string_lossy().into());
                }
                disk::write_json(&self.docker_file("daemon.json"), &settings)?;
                disk::remove(&paths.docker_socket)?;
                disk::remove(&paths.nerdctl)?;
                disk::write_program(&paths.docker, self.docker_wrapper()?.as_bytes())?;
            }
        }
        Ok(made)
    }

    pub(super) fn docker_file(&self, name: &str) -> PathBuf {
        self.dir().join("docker").join(name)
    }

    /// A configuration for both containerd 1.6 and 2.x (docs/reference/containerd.md#configuration).
    fn write_containerd_config(&self, path: &Path, root: &Path) -> Result<()> {
        let text = |path: &Path| format!("{:?}", path.display().to_string());
        let run = self.run_dir();
        let config = format!(
            "version = 2\nroot = {root}\nstate = {state}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \
             \"io.containerd.nri.v1.nri\"]\n[grpc]\naddress = {address}\n[plugins.\"io.containerd.internal.v1.opt\"]\n\
             path = {opt}\n",
            root = text(root),
            state = text(&run.join("state")),
            address = text(&self.paths().address),
            opt = text(&run.join("opt")),
        );
        disk::write_text(path, &config)
    }

    /// The wrapper for docker, for this engine whatever its caller's environment names.
    fn docker_wrapper(&self) -> Result<String> {
        Ok(format!(
            "#!/bin/sh\n# Written by lima-runtime at each start of its Docker engine.\nunset DOCKER_CONTEXT DOCKER_TLS DOCKER_TLS_VERIFY \
             DOCKER_CERT_PATH DOCKER_API_VERSION\nDOCKER_HOST=unix://{socket}\nexport DOCKER_HOST\nexec {docker} \"$@\"\n",
            socket = quoted(&self.paths().docker_socket)?,
            docker = quoted(&self.programs().join("docker"))?,
        ))
    }

    /// The wrapper for nerdctl, which any program can run with any arguments.
    fn wrapper(&self, rootless: bool) -> Result<String> {
        let dir = self.dir();
        let paths = self.paths();
        Ok(format!(
            r#"{enter_script}PATH={bin}:$PATH
# Nothing else of the caller's environment: it would end up in containers. Who calls with none says so: what is in it is
# for a process in a container.
LIMA_RUNTIME_CLEAN='env -i'
[ "${{LIMA_RUNTIME_ENVIRONMENT-}}" != clean ] || LIMA_RUNTIME_CLEAN='env -u LIMA_RUNTIME_ENVIRONMENT'
enter $LIMA_RUNTIME_CLEAN PATH="$PATH" HOME="${{HOME:-/}}" LANG=C.UTF-8 XDG_RUNTIME_DIR="$LIMA_RUNTIME_RUN" \
  {rootless_vars}NERDCTL_TOML={toml} \
  ${{DOCKER_CONFIG:+"DOCKER_CONFIG=$DOCKER_CONFIG"}} ${{http_proxy:+"http_proxy=$http_proxy"}} \
  ${{https_proxy:+"https_proxy=$https_proxy"}} ${{no_proxy:+"no_proxy=$no_proxy"}} \
  {nerdctl} --address {address} --data-root {data} --cni-path {cni} --cni-netconfpath {networks} --hosts-dir {hosts} "$@"
"#,
            enter_script = enter_script(&self.run_dir(), rootless)?,
            rootless_vars = if rootless {
                format!(
                    "ROOTLESSKIT_STATE_DIR=\"$LIMA_RUNTIME_RUN/rootlesskit\" ROOTLESSKIT_PARENT_EUID={} ROOTLESSKIT_PARENT_EGID={} ",
                    rustix::process::geteuid().as_raw(),
                    rustix::process::getegid().as_raw()
                )
            } else {
                String::new()
            },
            bin = quoted(&self.programs())?,
            toml = quoted(&dir.join("nerdctl.toml"))?,
            nerdctl = quoted(&self.programs().join("nerdctl"))?,
            address = quoted(&paths.address)?,
            data = quoted(&paths.data_root)?,
            cni = quoted(&paths.cni)?,
            networks = quoted(&paths.networks)?,
            hosts = quoted(&dir.join("registries"))?,
        ))
    }
}

/// dockerd makes a directory in it that only root may look into, and a killed one leaves it.
pub(super) fn remove_run(run: &Path) -> Result<()> {
    _ = fs::set_permissions(run.join("docker/libnetwork"), fs::Permissions::from_mode(0o700));
    disk::remove(run)
}

/// The beginning of a shell script that defines `enter`, which becomes a program in the daemon's namespaces. The script
/// opens the namespaces, checks the process once more, and enters what it holds open: otherwise the number could belong to
/// another process, with that one's programs in its namespaces. The variables have names that no container uses, since a
/// shell passes on its environment.
pub(super) fn enter_script(run: &Path, rootless: bool) -> Result<String> {
    let (hold, others) = if rootless {
        (
            r#"7<"/proc/$LIMA_RUNTIME_PID/ns/user" 8<"/proc/$LIMA_RUNTIME_PID/ns/net" "#,
            r#"
  LIMA_RUNTIME_SPACE="$LIMA_RUNTIME_SPACE --user=/proc/self/fd/7 --preserve-credentials"
  [ -e "$LIMA_RUNTIME_RUN/rootlesskit/netns" ] || LIMA_RUNTIME_SPACE="$LIMA_RUNTIME_SPACE --net=/proc/self/fd/8""#,
        )
    } else {
        ("", "")
    };
    Ok(format!(
        r#"#!/bin/sh
# Written by lima-runtime at each start of its engine.
PATH={SYSTEM_PATH}
export PATH
LIMA_RUNTIME_RUN={run}
refuse() {{ echo "the engine is not running$1: start it first" >&2; exit 1; }}
# Whether the process with this number is the one that began at that moment.
look() {{
  [ "$LIMA_RUNTIME_BOOT" = "$LIMA_RUNTIME_NOW" ] || return 1
  {{ IFS= read -r LIMA_RUNTIME_STAT <"/proc/$LIMA_RUNTIME_PID/stat"; }} 2>/dev/null || return 1
  set -f
  set -- ${{LIMA_RUNTIME_STAT##*) }}
  [ "${{20-}}" = "$LIMA_RUNTIME_BEGAN" ]
}}
{{ read -r LIMA_RUNTIME_PID LIMA_RUNTIME_BEGAN LIMA_RUNTIME_BOOT <"$LIMA_RUNTIME_RUN/entry"; }} 2>/dev/null ||
  refuse ', or for another user'
case $LIMA_RUNTIME_PID,$LIMA_RUNTIME_BEGAN in ,* | *, | *[!0-9,]*) refuse '' ;; esac
{{ read -r LIMA_RUNTIME_NOW </proc/sys/kernel/random/boot_id; }} 2>/dev/null || refuse ''
look || refuse ' any more'
exec {hold}9<"/proc/$LIMA_RUNTIME_PID/ns/mnt"
look || refuse ' any more'
LIMA_RUNTIME_SPACE=
if [ "$(readlink /proc/self/ns/mnt)" != "$(readlink /proc/self/fd/9)" ]; then
  LIMA_RUNTIME_SPACE="nsenter --mount=/proc/self/fd/9 --wd=."{others}
fi
enter() {{ exec $LIMA_RUNTIME_SPACE /bin/sh -c 'exec 7<&- 8<&- 9<&-; exec "$@"' sh "$@"; }}
"#,
        SYSTEM_PATH = rootless::SYSTEM_PATH,
        run = quoted(run)?,
    ))
}

/// Quoted for the shell.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| Error::invalid("dataDir", "must be UTF-8"))?;
    Ok(crate::shell::quoted(text))
}

#[cfg(test)]
mod tests {
    use super::{super::daemon::entry_line, *};
    use crate::process::identity::Identity;

    #[test]
    fn what_a_killed_dockerd_shut_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let shut = run.join("docker/libnetwork");
        fs::create_dir_all(&shut).unwrap();
        fs::write(shut.join("1.sock"), "").unwrap();
        fs::set_permissions(&shut, fs::Permissions::from_mode(0o600)).unwrap();
        remove_run(&run).unwrap();
        assert!(!run.exists());
    }

    /// The beginning of the scripts in each shell that is installed here, with this process as the daemon.
    #[test]
    fn the_way_in_is_looked_at_and_leaves_the_callers_variables_alone() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("it's a $(run)");
        fs::create_dir(&run).unwrap();
        let us = entry_line(&Identity::of(std::process::id()).unwrap());
        let us = us.trim();
        let [pid, began, boot] = us.split(' ').collect::<Vec<_>>()[..] else { panic!("{us}") };
        let script = dir.path().join("enter");
        let variables = ["pid", "run", "began", "boot", "at", "stat", "space", "line", "sh"];
        for shell in [&["sh"][..], &["bash"], &["bash", "--posix"], &["busybox", "sh"]] {
            for rootless in [false, true] {
                fs::write(&script, enter_script(&run, rootless).unwrap() + "enter \"$@\"\n").unwrap();
                let enter = |entry: &str| {
                    fs::write(run.join("entry"), entry).unwrap();
                    let mut command = std::process::Command::new(shell[0]);
                    command.args(&shell[1..]).arg(&script).args([
                        "sh",
                        "-c",
                        r#"env; ls /proc/$$/fd; echo "$1""#,
                        "sh",
                        "* $x",
                    ]);
                    // Without the environment of these tests.
                    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
                    command.envs(variables.map(|name| (name, "theirs"))).output().unwrap()
                };
                let out = enter(&format!("{us}\n"));
                let said = String::from_utf8(out.stdout).unwrap();
                assert!(out.status.success(), "{shell:?}: {}", String::from_utf8_lossy(&out.stderr));
                for name in variables {
                    assert!(said.lines().any(|line| line == format!("{name}=theirs")), "{shell:?}: {name} in {said}");
                }
                assert!(!said.contains("LIMA_RUNTIME") && said.ends_with("* $x\n"), "{shell:?}: {said}");
                assert!(!said.lines().any(|line| ["7", "8", "9"].contains(&line)), "{shell:?}: {said}");
                for wrong in [
                    String::new(),
                    format!("{pid} {began}0 {boot}\n"),
                    format!("{pid} {began} {boot}x\n"),
                    format!("{pid} {began}\n"),
                    format!("1 {began} {boot}\n"),
                    format!("self {began} {boot}\n"),
                    format!("{pid}/task/{pid} {began} {boot}\n"),
                ] {
                    let out = enter(&wrong);
                    let said = String::from_utf8_lossy(&out.stderr).into_owned();
                    assert!(
                        out.status.code() == Some(1) && said.contains("is not running"),
                        "{shell:?} {wrong}: {said}"
                    );
                    assert!(out.stdout.is_empty());
                }
            }
        }
    }
}

//! A containerd of this machine, and where it is found.

#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{
    client::Containerd,
    engine::{ContainerdEngine, Finding, answering},
    settings::Settings,
};
use super::options::{BuildkitPlaces, ContainerdOptions};
use crate::{
    engine::{Adapter, RuntimeType, validate},
    error::{Error, Result},
    mutex::Mutex,
};
#[cfg(unix)]
use crate::{
    error::ErrorCode,
    guest::{BEGAN, local::LocalGuest},
    process::identity::Identity,
};

/// The value of the label on what the adapter makes, and the namespace.
const APP: &str = "kai";
/// Where a system's containerd listens.
#[cfg(unix)]
const SOCKET: &str = "/run/containerd/containerd.sock";
/// Runs a command in the namespaces of a rootless containerd, whose first process `$1` began at `$2`. They are entered as
/// they are held open: later the number may be another's.
#[cfg(unix)]
const ENTER: &str = r#"
exec 7<"/proc/$1/ns/user" 8<"/proc/$1/ns/net" 9<"/proc/$1/ns/mnt"
began "$1" && [ "$at" = "$2" ] || { echo 'the rootless containerd is not running any more' >&2; exit 1; }
shift 2
exec nsenter --user=/proc/self/fd/7 --preserve-credentials --mount=/proc/self/fd/9 --net=/proc/self/fd/8 --wd=/ -- \
  /bin/sh -c 'exec 7<&- 8<&- 9<&-; exec "$@"' sh "$@"
"#;

/// An adapter whose nerdctl can be named later.
#[derive(Clone)]
pub struct LocalContainerd {
    pub adapter: Adapter,
    engine: Arc<ContainerdEngine>,
    options: Arc<Mutex<ContainerdOptions>>,
}

impl LocalContainerd {
    /// Connects to nothing yet.
    pub fn new(mut options: ContainerdOptions) -> Result<Self> {
        let app = options.app_name.clone().unwrap_or_else(|| APP.to_owned());
        validate::app_name(&app)?;
        if let Some(namespace) = &options.namespace {
            validate::object_name("namespace", namespace)?;
        }
        if let Some(address) = &mut options.address {
            *address = address.strip_prefix("unix://").unwrap_or(address).to_owned();
            // Windows' own forms are judged when the engine is looked for.
            if !cfg!(windows) {
                absolute("address", address)?;
            }
        }
        for (field, path) in [
            ("nerdctlPath", &options.nerdctl_path),
            ("dataRoot", &options.data_root),
            ("cniPath", &options.cni_path),
            ("cniNetconfPath", &options.cni_netconf_path),
            ("insidePath", &options.inside_path),
        ] {
            path.as_deref().map_or(Ok(()), |p| absolute(field, p))?;
        }
        if let Some(BuildkitPlaces { programs, settings, cache }) = &options.buildkit {
            for (field, path) in [("programs", programs), ("settings", settings), ("cache", cache)] {
                absolute(&format!("buildkit.{field}"), path)?;
            }
        }
        let options = Arc::new(Mutex::new(options));
        let found = options.clone();
        let find = move || -> Finding {
            let options = found.lock().clone();
            Box::pin(async move { find(&options).await })
        };
        let engine = Arc::new(ContainerdEngine::new(RuntimeType::Containerd, Box::new(find)));
        Ok(Self { adapter: Adapter::new(engine.clone(), app), engine, options })
    }

    /// The calls after this one run the nerdctl at `path`.
    pub async fn set_nerdctl_path(&self, path: String) -> Result<()> {
        absolute("path", &path)?;
        self.options.lock().nerdctl_path = Some(path);
        self.engine.forget().await;
        Ok(())
    }
}

fn absolute(field: &str, path: &str) -> Result<()> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{path:?} is not an absolute path")))
}

#[cfg(unix)]
async fn find(options: &ContainerdOptions) -> Result<Containerd> {
    use crate::env_vars;

    let is_root = rustix::process::geteuid().is_root();
    let runtime_dir = env_vars::get(env_vars::XDG_RUNTIME_DIR);
    let rootless = runtime_dir
        .as_deref()
        .filter(|_| !is_root)
        .and_then(|dir| Some((dir, rootless_child(&std::path::Path::new(dir).join("containerd-rootless"))?)));
    let namespace = options.namespace.as_deref().unwrap_or(APP);
    let app = options.app_name.as_deref().unwrap_or(APP);
    let mut settings = match (&options.address, rootless) {
        (None, Some((dir, child))) => {
            // Its nerdctl enters the namespaces by itself, and knows the way.
            let guest = LocalGuest::new(format!("/proc/{}/root{SOCKET}", child.pid())).of(child);
            let mut s = Settings::system(Arc::new(guest), RuntimeType::Containerd, namespace, app);
            let home = home::home_dir().unwrap_or_default();
            s.rootless = Some(dir.to_owned());
            s.root = false;
            let (pid, began) = child.for_a_shell();
            s.inside = ["sh", "-c", &[BEGAN, ENTER].concat(), "sh", &pid, &began].map(str::to_owned).into();
            s.data_root = home.join(".local/share/nerdctl").display().to_string();
            s.cni_netconf_path = home.join(".config/cni/net.d").display().to_string();
            s
        }
        (address, _) => {
            let socket = address.as_deref().unwrap_or(SOCKET);
            if address.is_none() && !std::path::Path::new(socket).exists() {
                return Err(Error::new(ErrorCode::NotInstalled, "There is no containerd on this machine")
                    .detail("path", socket)
                    .hint("Install containerd and nerdctl, or use the bundled ones."));
            }
            // What is this user's own is not asked for as root.
            let guest = if options.exclusive { LocalGuest::new(socket) } else { LocalGuest::reaching(socket).await };
            Settings::system(Arc::new(guest), RuntimeType::Containerd, namespace, app)
        }
    };
    adjust(&mut settings, options);
    if options.exclusive {
        // It belongs to this user, whoever that is.
        settings.root = is_root;
        settings.own_dirs = own_dirs(options);
    }
    answering(settings).await
}

/// Where the files lie that the options of an exclusive engine name.
#[cfg(unix)]
fn own_dirs(options: &ContainerdOptions) -> Vec<PathBuf> {
    let beside = [&options.address, &options.nerdctl_path, &options.inside_path].into_iter().flatten();
    let beside = beside.filter_map(|file| Path::new(file).parent());
    let dirs = [&options.data_root, &options.cni_path, &options.cni_netconf_path].into_iter().flatten().map(Path::new);
    beside.chain(dirs).map(Path::to_owned).collect()
}

/// The first process in the namespaces of a RootlessKit whose state `dir` is. The file holds its number alone, which may be
/// another's by now; but who is the child of the process that holds the lock beside it is the one. (rootless-containers/
/// rootlesskit, pkg/parent/parent.go)
#[cfg(target_os = "linux")]
fn rootless_child(dir: &std::path::Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;

    use crate::process::identity::system::stat;

    let pid: u32 = std::fs::read_to_string(dir.join("child_pid")).ok()?.trim().parse().ok()?;
    let lock = std::fs::metadata(dir.join("lock")).ok()?.ino().to_string();
    // `1: FLOCK  ADVISORY  WRITE 20769 fe:00:10152129 0 EOF`
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let holds = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let at = fields.iter().position(|f| *f == "FLOCK")?;
        let inode = fields.get(at + 4)?.rsplit(':').next()?;
        (at == 1 && inode == lock).then(|| fields[at + 3].parse::<i32>().ok()).flatten()
    };
    let child = Identity::of(pid)?;
    let parent = stat(child.pid())?.parent;
    (locks.lines().filter_map(holds).any(|holder| holder == parent) && child.lives()).then_some(child)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn rootless_child(_: &std::path::Path) -> Option<Identity> {
    None
}

#[cfg(windows)]
async fn find(options: &ContainerdOptions) -> Result<Containerd> {
    let namespace = options.namespace.as_deref().unwrap_or(APP);
    let app = options.app_name.as_deref().unwrap_or(APP);
    let mut settings = super::wsl::settings(options, crate::guest::wsl::Wsl::default(), app, namespace)?;
    adjust(&mut settings, options);
    answering(settings).await
}

/// What the options name takes the place of what was found.
fn adjust(settings: &mut Settings, options: &ContainerdOptions) {
    if let Some(path) = &options.nerdctl_path {
        settings.nerdctl.clone_from(path);
    }
    if let Some(path) = &options.data_root {
        settings.data_root.clone_from(path);
    }
    if let Some(path) = &options.cni_netconf_path {
        settings.cni_netconf_path.clone_from(path);
    }
    settings.cni_path.clone_from(&options.cni_path);
    settings.inside.extend(options.inside_path.clone());
    settings.private |= options.exclusive;
    settings.buildkit.clone_from(&options.buildkit);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs, process::Command, time::Instant};

    use super::*;
    use crate::skip::{skip, skip_without};

    #[test]
    fn a_rootless_containerds_process_is_known_by_the_lock_beside_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut command = Command::new("rootlesskit");
        if rustix::process::geteuid().is_root() {
            let user = ["--reuid=lima-runtime-test", "--regid=lima-runtime-test", "--clear-groups"];
            command = Command::new("setpriv");
            command.args(user).arg("rootlesskit");
            if !Command::new("chown").arg("lima-runtime-test").arg(dir.path()).status().unwrap().success() {
                skip_without("ordinary user");
                return;
            }
        }
        command.arg("--state-dir").arg(&state).args(["sleep", "1000"]).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        let Ok(mut rootlesskit) = command.env("HOME", dir.path()).spawn() else {
            skip_without("rootlesskit");
            return;
        };
        let began = Instant::now();
        let child = loop {
            if let Some(child) = rootless_child(&state) {
                break child;
            }
            if rootlesskit.try_wait().unwrap().is_some() {
                skip("rootlesskit cannot run here");
                return;
            }
            assert!(began.elapsed().as_secs() < 60);
            std::thread::yield_now();
        };
        let (pid, at) = child.for_a_shell();
        let enter = |pid: &str, at: &str| {
            let mut command = Command::new("sh");
            command
                .args(["-c", &[BEGAN, ENTER].concat(), "sh", pid, at, "readlink", "/proc/self/ns/user"])
                .output()
                .unwrap()
        };
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap().display().to_string();
        if rustix::process::geteuid().is_root() {
            // nsenter keeps root's credentials, which are nobody's in there.
            assert_ne!(space(&pid), space("self"));
        }
        assert!(!enter(&pid, &format!("{at}0")).status.success());

        // The number of another process: of its parent, of one that has nothing to do with it.
        fs::remove_file(state.join("child_pid")).unwrap();
        for other in [rootlesskit.id(), std::process::id(), 1] {
            fs::write(state.join("child_pid"), other.to_string()).unwrap();
            assert_eq!(rootless_child(&state), None, "{other}");
        }
        fs::write(state.join("child_pid"), &pid).unwrap();
        assert_eq!(rootless_child(&state), Some(child));
        // Dead, it holds no lock.
        rootlesskit.kill().unwrap();
        rootlesskit.wait().unwrap();
        assert_eq!(rootless_child(&state), None);
        crate::process::identity::end(&[child], rustix::process::Signal::KILL, std::time::Duration::from_secs(20));
    }
}

//! Starts and stops our containerd, without touching any other one on this machine.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{ChildStdin, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Signal, geteuid};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixDatagram, UnixStream};

use super::{
    BundledRuntime, network,
    processes::{Service, has_mark},
    rootless, rules,
};
use crate::{
    call::Call,
    engine::containerd::Api,
    env_vars,
    error::{Error, ErrorCode, Result},
    fetch::{disk, lock::Lock, owner},
    guest::{Guest, local::LocalGuest},
    process::{
        Command,
        identity::{Identity, end, system},
    },
    progress::{Phase, RuntimeProgress, Sink},
    task,
};

/// Enough for a cold start of containerd on a slow disk.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long containers may take to end by themselves; Docker gives them as much.
const END_GRACE: Duration = Duration::from_secs(10);
/// A socket's path may have 107 bytes, and containerd makes a second one beside its own
/// (docs/reference/containerd.md#socket).
const MAX_ADDRESS: usize = 107 - ".ttrpc".len();

/// `run/daemon.json`: the daemon that we started.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DaemonRecord {
    #[serde(flatten)]
    service: Service,
    rootless: bool,
    /// Mount points that we made on this machine.
    made: Vec<PathBuf>,
    /// It is up, and the wrappers can enter its namespaces.
    ready: bool,
}

/// Paths that containerd, nerdctl and the CNI plugins use whatever their options say
/// (docs/reference/containerd.md#built-in-paths), each with the directory of ours that replaces it.
const PRIVATE_DIRECTORIES: [(&str, &str); 3] =
    [("/run/containerd", "run/containerd"), ("/run/nerdctl", "run/nerdctl"), ("/var/lib/cni", "leases")];

/// Waits for a line, which we send once the daemon is recorded; marks its mount namespace; mounts our directories over
/// those of [`PRIVATE_DIRECTORIES`]; becomes containerd. Arguments: the mark and its mount point, the configuration, the program, and pairs
/// of directories.
const DAEMON_SCRIPT: &str = r#"
set -e
read -r line
exec </dev/null
mount -t tmpfs -o size=4k,mode=700 "$1" "$2"
config=$3 containerd=$4
shift 4
while [ $# -gt 0 ]; do
  # In a copied-up directory of rootlesskit's this is a link to the machine's.
  [ ! -L "$1" ] || rm "$1"
  mkdir -p "$1"
  mount --bind "$2" "$1"
  shift 2
done
[ ! -L /run/xtables.lock ] || rm /run/xtables.lock
exec "$containerd" --config "$config"
"#;

impl BundledRuntime {
    /// Whether our containerd lives and its socket accepts connections.
    pub async fn is_running(&self) -> bool {
        // Root reads nothing below another user's directory.
        owner::check(self.dir()).is_ok()
            && self.started().is_some_and(|s| s.ready && s.service.process.lives())
            && UnixStream::connect(self.paths().address).await.is_ok()
    }

    /// Why no daemon can run here: for an ordinary user, what this machine lacks. Before an installation, without counting
    /// the programs that it brings.
    pub(in crate::manager) fn obstacle(&self, installed: bool) -> Option<Error> {
        if geteuid().is_root() {
            return owner::check(self.dir()).err();
        }
        let missing = rootless::RootlessHost::this().missing(installed.then(|| self.programs()).as_deref());
        (!missing.is_empty()).then(|| rootless::error(&missing))
    }

    fn record(&self, started: &DaemonRecord) -> Result<()> {
        disk::write_json(&self.run_dir().join("daemon.json"), started)
    }

    /// rootlesskit's child; containerd runs in its namespaces.
    fn rootless_child(&self) -> Option<Identity> {
        Identity::of(fs::read_to_string(self.run_dir().join("rootlesskit/child_pid")).ok()?.trim().parse().ok()?)
    }

    fn started(&self) -> Option<DaemonRecord> {
        disk::read_json(&self.run_dir().join("daemon.json"))
    }

    /// Resolves once containerd answers. Codes: `NOT_INSTALLED`, `UNSUPPORTED_PLATFORM` with what a rootless containerd
    /// lacks here, `PATH_TOO_LONG`, `CONTAINERD_NOT_READY` with the end of its log.
    pub async fn start_daemon(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let lock = self.home.lock(call, START_TIMEOUT).await?;
        call.run(START_TIMEOUT, self.start_under(&lock, &sink)).await
    }

    async fn start_under(&self, lock: &Lock, sink: &Sink<RuntimeProgress>) -> Result<()> {
        let ready = || sink(RuntimeProgress::ready("containerd is ready"));
        if self.is_running().await {
            ready();
            return Ok(());
        }
        if !self.is_installed(&Call::default()).await? {
            return Err(Error::new(ErrorCode::NotInstalled, "containerd is not installed")
                .detail("path", self.paths().containerd.display().to_string())
                .hint("Call initialize() or install() first."));
        }
        let address = self.paths().address;
        if address.as_os_str().len() > MAX_ADDRESS {
            return Err(Error::new(ErrorCode::PathTooLong, format!("{} is too long for a socket", address.display()))
                .hint(format!(
                    "Choose a shorter dataDir: its path may have {} bytes.",
                    MAX_ADDRESS - "/run/containerd.sock".len()
                ))
                .detail("path", address.display().to_string()));
        }
        let rootless = !geteuid().is_root();
        if let Some(obstacle) = self.obstacle(true) {
            return Err(obstacle);
        }
        sink(RuntimeProgress::new(Phase::Boot, "Starting containerd"));
        // End what a killed daemon left, its containers included: two daemons must not write the same files.
        if let Some(before) = self.started() {
            self.end_processes(lock, before.service).await?;
            self.remove_rules().await?;
        }
        let made = self.prepare(rootless)?;
        let mark = mark()?;
        let notify = self.run_dir().join("ready.sock");
        let ready_socket = UnixDatagram::bind(&notify).map_err(|e| Error::io(e, "Cannot listen at", &notify))?;
        let mut launched = StartingDaemon::new(&mut self.spawn(rootless, &notify, &mark)?)
            .map_err(|e| self.failed(e.message()).source(e))?;
        let process = launched.identity;
        let service = Service { process, session: process.pid(), mark };
        let mut started = DaemonRecord { service, rootless, made, ready: false };
        self.record(&started)?;
        launched.release();
        let mut message = [0; 256];
        loop {
            tokio::select! {
                got = ready_socket.recv(&mut message) => {
                    let n = got.map_err(|e| Error::io(e, "Cannot read from", &notify))?;
                    if String::from_utf8_lossy(&message[..n]).lines().any(|l| l == "READY=1") {
                        break;
                    }
                }
                () = launched.ended() => return Err(self.failed("containerd ended as soon as it was started")),
            }
        }
        drop(ready_socket);
        disk::remove(&notify)?;
        let version = self.api("default")?.version().await.map_err(|e| self.failed(e.message()))?;
        tracing::info!(version, "containerd is up");
        let entry = if rootless { self.rootless_child() } else { Some(process) };
        let Some(entry) = entry.filter(|p| has_mark(p.pid(), &started.service.mark)) else {
            return Err(self.failed("its namespaces cannot be entered"));
        };
        disk::write_text(&self.run_dir().join("entry"), &entry_line(&entry))?;
        started.ready = true;
        self.record(&started)?;
        launched.keep();
        ready();
        Ok(())
    }

    /// Ends the containers, then the daemon: TERM, then KILL. Only its files stay. A daemon that does not run is not an
    /// error.
    pub async fn stop_daemon(&self, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let lock = self.home.lock(call, STOP_TIMEOUT).await?;
        call.run(STOP_TIMEOUT, self.stop_under(&lock)).await
    }

    pub(super) async fn stop_under(&self, lock: &Lock) -> Result<()> {
        let started = self.started();
        if let Some(DaemonRecord { service, .. }) = &started {
            if service.process.lives() {
                self.end_containers().await;
            }
            self.end_processes(lock, service.clone()).await?;
        }
        self.remove_rules().await?;
        if geteuid().is_root() {
            let networks = self.paths().networks;
            let idle = task::blocking(move || Ok(network::idle_bridges(&networks))).await?;
            for bridge in idle {
                let command = Command::new(["ip", "link", "delete", "dev", &bridge, "type", "bridge"]);
                if let Err(e) = LocalGuest::new("").run(command).await.and_then(|o| o.checked("ip")) {
                    tracing::warn!(error = %e, bridge, "a bridge stays");
                }
            }
        }
        let run = self.run_dir();
        task::blocking(move || disk::remove(&run)).await?;
        for place in started.map(|s| s.made).unwrap_or_default() {
            // Fails when another program uses the directory.
            let _ = fs::remove_dir(place);
        }
        Ok(())
    }

    /// Removes the daemon's images, containers and volumes. Only the user's own namespace may remove files of rootless
    /// containers.
    pub(super) async fn remove_data(&self) -> Result<()> {
        let all = ["root", "data", "networks", "leases", "registries", "config.toml", "nerdctl.toml", "containerd.log"];
        let mut left = Vec::new();
        for path in all.map(|name| self.dir().join(name)) {
            let target = path.clone();
            match task::blocking(move || disk::remove(&target)).await {
                Err(e) if e.code() == ErrorCode::PermissionDenied && !geteuid().is_root() => left.push(path),
                done => done?,
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let program = self.rootlesskit().into_os_string().into_encoded_bytes();
        let mut argv = vec![program, b"rm".to_vec(), b"-rf".to_vec(), b"--".to_vec()];
        argv.extend(left.into_iter().map(|p| p.into_os_string().into_encoded_bytes()));
        LocalGuest::new("").run(Command::new(argv)).await?.checked("rootlesskit").map(drop)
    }

    /// What a daemon that was killed could not take back: its containers' rules on this machine. A rootless one's are in
    /// its own network namespace.
    async fn remove_rules(&self) -> Result<()> {
        let data_root = self.paths().data_root;
        let ours = task::blocking(move || Ok(rules::containers(&data_root))).await?;
        if geteuid().is_root() && !ours.is_empty() {
            rules::remove(&ours).await;
        }
        Ok(())
    }

    /// Ends each container's process with TERM, then KILL, and deletes its task, which removes its network. Restart
    /// policies stay for the next start. What does not end is left to [`Self::end_processes`].
    async fn end_containers(&self) {
        let tasks = self.run_dir().join("state/io.containerd.runtime.v2.task");
        let mut left: Vec<(String, String)> = Vec::new();
        // Repeated: a restart policy may have started a container again.
        for _ in 0..3 {
            let mut found: Vec<(String, String)> = disk::entries(&tasks)
                .iter()
                .flat_map(|ns| disk::entries(ns).into_iter().map(|t| (name(ns), name(&t))))
                .collect();
            found.retain(|task| !left.contains(task));
            if found.is_empty() {
                return;
            }
            let ends = found.iter().map(async |(namespace, id)| {
                let ended = self.end_container(namespace, id).await;
                ended.inspect_err(|e| tracing::warn!(error = %e, namespace, id, "a container does not end")).is_ok()
            });
            let ended = futures_util::future::join_all(ends).await;
            left.extend(found.into_iter().zip(ended).filter(|(_, ended)| !ended).map(|(task, _)| task));
        }
    }

    async fn end_container(&self, namespace: &str, id: &str) -> Result<()> {
        let api = self.api(namespace)?;
        let kill = async |signal: Signal| api.kill(id, signal.as_raw().cast_unsigned()).await;
        // A container that has ended cannot be killed and needs no wait; a paused one receives no signal. The shim of one that
        // is half made may never answer.
        let asked = tokio::time::timeout(END_GRACE, async {
            let _ = api.resume(id).await;
            kill(Signal::TERM).await
        });
        if asked.await.is_err() {
            return Err(Error::new(ErrorCode::Timeout, "its shim does not answer"));
        }
        if tokio::time::timeout(END_GRACE, api.wait(id)).await.is_err() {
            let _ = kill(Signal::KILL).await;
            let _ = tokio::time::timeout(END_GRACE, api.wait(id)).await;
        }
        let ctr = self.programs().join("ctr").into_os_string().into_encoded_bytes();
        let address = self.paths().address.into_os_string().into_encoded_bytes();
        let words = ["--namespace", namespace, "tasks", "delete", "--force", id].map(|w| w.as_bytes().to_vec());
        let argv = [vec![ctr, b"--address".to_vec(), address], words.to_vec()].concat();
        LocalGuest::new("").run(Command::new(argv)).await?.checked("ctr").map(drop)
    }

    /// Ends the daemon first, then what is left of it.
    async fn end_processes(&self, lock: &Lock, service: Service) -> Result<()> {
        let left = lock
            .blocking(move || {
                // Collected before as well: once its shim has ended, a container's process has no parent of ours.
                let mut found = service.members();
                let mut left = end(&[service.process], Signal::TERM, END_GRACE);
                if !left.is_empty() {
                    left = end(&left, Signal::KILL, END_GRACE);
                }
                found.extend(service.members());
                left.extend(end(&found, Signal::TERM, END_GRACE / 5));
                left.extend(service.members());
                let left = end(&left, Signal::KILL, END_GRACE);
                Ok(left.into_iter().map(|p| p.pid()).collect::<Vec<_>>())
            })
            .await?;
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorCode::InUse, format!("containerd's processes do not end: {left:?}"))
            .hint("They may wait for a disk or a network drive; try again."))
    }

    fn api(&self, namespace: &str) -> Result<Api> {
        let address = self.paths().address.to_string_lossy().into_owned();
        Api::new(Arc::new(LocalGuest::new(address)), namespace)
    }

    /// Writes directories, configurations and wrappers; returns the mount points that it made.
    fn prepare(&self, rootless: bool) -> Result<Vec<PathBuf>> {
        let dir = self.dir();
        let run = self.run_dir();
        disk::remove(&run)?;
        for name in
            ["root", "data", "networks", "leases", "registries", "run/containerd", "run/nerdctl", "run/mark", "bin"]
        {
            disk::create_dir(&dir.join(name))?;
        }
        // Rootless containers' users belong to none of the user's groups and must pass through these directories.
        for (name, mode) in [("run", 0o700), ("root", 0o711), ("data", 0o711)] {
            let private = dir.join(name);
            owner::check(&private)?;
            // A link that an administrator made leads to his own directory.
            if !private.is_symlink() {
                fs::set_permissions(&private, fs::Permissions::from_mode(mode))
                    .map_err(|e| Error::io(e, "Cannot protect", &private))?;
            }
        }
        let mut made = Vec::new();
        if !rootless {
            for (place, _) in PRIVATE_DIRECTORIES {
                if !Path::new(place).exists() {
                    disk::create_dir(Path::new(place))?;
                    made.push(place.into());
                }
            }
        }
        let text = |path: &Path| format!("{:?}", path.display().to_string());
        // A configuration for both containerd 1.6 and 2.x (docs/reference/containerd.md#configuration).
        let config = format!(
            "version = 2\nroot = {root}\nstate = {state}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \
             \"io.containerd.nri.v1.nri\"]\n[grpc]\naddress = {address}\n[plugins.\"io.containerd.internal.v1.opt\"]\n\
             path = {opt}\n",
            root = text(&dir.join("root")),
            state = text(&run.join("state")),
            address = text(&self.paths().address),
            opt = text(&run.join("opt")),
        );
        disk::write_text(&dir.join("config.toml"), &config)?;
        // Replaces the machine's file, which is for another daemon.
        disk::write_text(&dir.join("nerdctl.toml"), "")?;
        network::write_default(&self.paths().networks)?;
        let inside = enter_script(&self.run_dir(), rootless)? + "enter \"$@\"\n";
        disk::write_program(&self.paths().inside, inside.as_bytes())?;
        disk::write_program(&self.paths().nerdctl, self.wrapper(rootless)?.as_bytes())?;
        Ok(made)
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

    fn rootlesskit(&self) -> PathBuf {
        let bundled = self.programs().join("rootlesskit");
        if bundled.exists() { bundled } else { "rootlesskit".into() }
    }

    fn spawn(&self, rootless: bool, notify: &Path, mark: &str) -> Result<std::process::Command> {
        let dir = self.dir();
        let mut command = if rootless {
            let mut command = std::process::Command::new(self.rootlesskit());
            command.arg("--state-dir").arg(self.run_dir().join("rootlesskit"));
            command.args(["--net=slirp4netns", "--mtu=65520", "--disable-host-loopback", "--port-driver=builtin"]);
            command.args(["--copy-up=/etc", "--copy-up=/run", "--copy-up=/var/lib", "--propagation=rslave"]);
            command
        } else {
            let mut command = std::process::Command::new("unshare");
            command.args(["--mount", "--propagation", "slave", "--"]);
            command
        };
        command.args(["/bin/sh", "-c", DAEMON_SCRIPT, "sh", mark]).arg(self.run_dir().join("mark"));
        command.arg(dir.join("config.toml")).arg(self.paths().containerd);
        for (place, own) in PRIVATE_DIRECTORIES {
            command.arg(place).arg(dir.join(own));
        }
        let log_path = dir.join("containerd.log");
        let open = || -> std::io::Result<[fs::File; 2]> {
            let log = disk::open_private(fs::OpenOptions::new().append(true).create(true), &log_path)?;
            // Holds the last start only. It stays the same file for its readers.
            log.set_len(0)?;
            Ok([log.try_clone()?, log])
        };
        let [log, second] = open().map_err(|e| Error::io(e, "Cannot write", &log_path))?;
        command.stdin(Stdio::piped()).stdout(log).stderr(second).current_dir("/").env_clear();
        command.env("PATH", format!("{}:{}", self.programs().display(), rootless::SYSTEM_PATH));
        // docs/reference/containerd.md#readiness-of-the-daemon
        command.env("LANG", "C.UTF-8").env("NOTIFY_SOCKET", notify);
        for name in ["HOME", "USER", "XDG_RUNTIME_DIR"] {
            command.envs(env_vars::get(name).map(|value| (name, value)));
        }
        for name in env_vars::PROXIES {
            for name in [name.to_owned(), name.to_ascii_uppercase()] {
                command.envs(env_vars::get(&name).map(|value| (name, value)));
            }
        }
        // SAFETY: setsid is one system call and allocates nothing.
        unsafe {
            // Without a terminal: it outlives the application.
            command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into));
        }
        Ok(command)
    }

    fn failed(&self, what: &str) -> Error {
        let log = fs::read_to_string(self.dir().join("containerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        Error::new(ErrorCode::ContainerdNotReady, format!("containerd did not come up: {what}"))
            .detail("log", tail)
            .detail("path", self.dir().join("containerd.log").display().to_string())
            .hint("details.log holds its last words.")
    }
}

/// The beginning of a shell script that defines `enter`, which becomes a program in the daemon's namespaces. The script
/// opens the namespaces, checks the process once more, and enters what it holds open: otherwise the number could belong to
/// another process, with that one's programs in its namespaces. The variables have names that no container uses, since a
/// shell passes on its environment.
fn enter_script(run: &Path, rootless: bool) -> Result<String> {
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
# Written by lima-runtime at each start of its containerd.
PATH={SYSTEM_PATH}
export PATH
LIMA_RUNTIME_RUN={run}
refuse() {{ echo "containerd is not running$1: start it first" >&2; exit 1; }}
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

/// The line that the wrappers read: process, start time, boot.
fn entry_line(entry: &Identity) -> String {
    let (pid, began) = entry.for_a_shell();
    format!("{pid} {began} {}\n", system::boot_name())
}

/// A unique name for the mount.
fn mark() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let number = fs::read_to_string(path).map_err(|e| Error::io(e, "Cannot read", path))?;
    Ok(format!("lima-runtime-{}", number.trim()))
}

/// Quoted for the shell.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| Error::invalid("dataDir", "must be UTF-8"))?;
    Ok(crate::shell::quoted(text))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A daemon that is starting. Dropped before [`StartingDaemon::keep`], it is ended.
struct StartingDaemon {
    identity: Identity,
    /// Closed without a line, it tells the daemon to end.
    gate: Option<ChildStdin>,
    ended: tokio::sync::oneshot::Receiver<()>,
    kept: bool,
}

impl StartingDaemon {
    fn new(command: &mut std::process::Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|e| {
            Error::new(ErrorCode::ContainerdNotReady, format!("{program} could not be started: {e}")).source(e)
        })?;
        let gate = child.stdin.take();
        let Some(identity) = Identity::of(child.id()) else {
            _ = child.wait();
            return Err(Error::new(
                ErrorCode::ContainerdNotReady,
                format!("{program} ended as soon as it was started"),
            ));
        };
        Ok(Self { identity, gate, ended: super::end_of(child)?, kept: false })
    }

    /// A failed write means that the daemon has ended, which is noticed elsewhere.
    fn release(&mut self) {
        if let Some(mut gate) = self.gate.take() {
            _ = gate.write_all(b"\n");
        }
    }

    async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for StartingDaemon {
    fn drop(&mut self) {
        if !self.kept {
            let identity = self.identity;
            std::thread::spawn(move || end(&[identity], Signal::KILL, END_GRACE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The starter may end before it has recorded the daemon.
    #[test]
    fn what_nobody_recorded_ends_before_it_does_anything() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", DAEMON_SCRIPT, "sh", "lima-runtime-test"]).args([
            place("mark"),
            place("config"),
            "/bin/true".into(),
        ]);
        command.args([place("made"), dir.path().into()]).stdin(Stdio::null());
        assert!(!command.output().unwrap().status.success());
        assert!(disk::entries(dir.path()).is_empty());
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

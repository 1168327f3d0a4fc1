//! Starts and stops our engine, without touching any other one on this machine.

use std::{
    ffi::OsString,
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
    BundledOptions, BundledRuntime, MEND,
    bridge::{Bridge, Place},
    dockerd,
    files::remove_run,
    network,
    processes::{Service, has_mark},
    rootless::{self, Brought, RootlessHost},
    rules,
};
use crate::{
    call::Call,
    engine::{containerd::Api, docker},
    env_vars,
    error::{Error, ErrorCode, Result},
    fetch::{disk, lock::Lock, owner},
    guest::{Guest, local::LocalGuest},
    log,
    manager::payload::UserEngine,
    process::{
        Command,
        identity::{Identity, end, system},
    },
    progress::{Phase, RuntimeProgress, Sink, forward_only, ignore},
    task,
};

/// Enough for a cold start on a slow disk; of Docker also for the end of one that hangs.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const DOCKER_START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long containers may take to end by themselves; Docker gives them as much.
const END_GRACE: Duration = Duration::from_secs(10);
/// dockerd ends its containers before itself.
const DOCKERD_GRACE: Duration = Duration::from_secs(30);
/// How long a running Docker may take to answer; before a start ends it, because it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const HUNG_AFTER: Duration = Duration::from_secs(20);
/// A socket's path may have 107 bytes, and containerd makes a second one beside its own
/// (docs/reference/containerd.md#socket).
const MAX_ADDRESS: usize = 107 - ".ttrpc".len();

/// `run/daemon.json`: the daemon that we started.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DaemonRecord {
    #[serde(flatten)]
    service: Service,
    #[serde(default)]
    engine: UserEngine,
    rootless: bool,
    /// Mount points that we made on this machine.
    made: Vec<PathBuf>,
    /// It is up, and the wrappers can enter its namespaces.
    ready: bool,
}

/// Waits for a line, which we send once the daemon is recorded; marks its mount namespace; mounts our directories over the
/// engine's private paths; becomes the engine. Arguments: the mark and its mount point, pairs of directories, `--` and the
/// command.
const DAEMON_SCRIPT: &str = r#"
set -e
read -r line
exec </dev/null
mount -t tmpfs -o size=4k,mode=700 "$1" "$2"
shift 2
while [ "$1" != -- ]; do
  # In a copied-up directory of rootlesskit's this is a link to the machine's.
  [ ! -L "$1" ] || rm "$1"
  mkdir -p "$1"
  mount --bind "$2" "$1"
  shift 2
done
shift
[ ! -L /run/xtables.lock ] || rm /run/xtables.lock
exec "$@"
"#;

impl BundledRuntime {
    /// Whether our engine lives and answers.
    pub async fn is_running(&self) -> bool {
        self.answers(ANSWER_TIMEOUT).await
    }

    async fn answers(&self, within: Duration) -> bool {
        // Root reads nothing below another user's directory.
        owner::check(self.dir()).is_ok()
            && self.started().is_some_and(|s| s.engine == self.engine() && s.ready && s.service.process.lives())
            && UnixStream::connect(self.paths().address).await.is_ok()
            && match self.engine() {
                UserEngine::Containerd => true,
                UserEngine::Docker => {
                    let answer = tokio::time::timeout(within, self.docker_ready()).await;
                    answer.is_ok_and(|answer| answer.is_ok())
                }
            }
    }

    /// The same directory with another engine.
    fn with(&self, engine: UserEngine) -> Self {
        let options = BundledOptions { engine: Some(engine), ..self.options.clone() };
        Self { options, home: self.home.clone() }
    }

    async fn docker_ready(&self) -> Result<()> {
        let socket = self.paths().docker_socket;
        docker::ready(Arc::new(LocalGuest::new("")), &socket.to_string_lossy(), MEND).await.map(drop)
    }

    /// Why no daemon can run here: what this machine lacks. Before an installation, without counting the programs that it
    /// brings.
    pub(in crate::manager) fn obstacle(&self, installed: bool) -> Option<Error> {
        let (who, missing) = if geteuid().is_root() {
            if let Err(e) = owner::check(self.dir()) {
                return Some(e);
            }
            if self.engine() == UserEngine::Containerd {
                return None;
            }
            (rootless::ROOT, RootlessHost::this().missing_for_root())
        } else {
            let dirs = installed.then(|| self.program_dirs());
            let brought = Brought { programs: self.payload().local.brings, dirs: dirs.as_deref() };
            (rootless::ORDINARY, RootlessHost::this().missing(&brought))
        };
        (!missing.is_empty()).then(|| rootless::error(who, &missing))
    }

    /// Those of the engine, and for an ordinary user what it needs beside.
    fn program_dirs(&self) -> Vec<PathBuf> {
        self.program_dirs_of(self.engine())
    }

    fn program_dirs_of(&self, engine: UserEngine) -> Vec<PathBuf> {
        let beside = engine.payload().local.rootless.map(|(part, programs)| self.home.link(part).join(programs));
        [self.programs_of(engine)].into_iter().chain(beside).collect()
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

    /// Resolves once the engine answers. Codes: `NOT_INSTALLED`, `UNSUPPORTED_PLATFORM` with what it lacks here,
    /// `PATH_TOO_LONG`, `CONTAINERD_NOT_READY` or for Docker `ENGINE_UNREACHABLE` with the end of its log.
    pub async fn start_daemon(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let deadline = match self.engine() {
            UserEngine::Containerd => START_TIMEOUT,
            UserEngine::Docker => DOCKER_START_TIMEOUT,
        };
        let lock = self.home.lock(call, deadline).await?;
        let started = call.run(deadline, self.start_under(&lock, &forward_only(sink))).await;
        started.inspect_err(log::failed("the start of the engine"))
    }

    async fn start_under(&self, lock: &Lock, sink: &Sink<RuntimeProgress>) -> Result<()> {
        let payload = self.payload();
        let ready = || sink(RuntimeProgress::ready(&format!("{} is ready", payload.name())));
        if self.answers(HUNG_AFTER).await {
            ready();
            return Ok(());
        }
        if !self.is_installed(&Call::default()).await? {
            let text = format!("{} is not installed", payload.name());
            return Err(Error::new(ErrorCode::NotInstalled, text)
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
        sink(RuntimeProgress::new(Phase::Boot, format!("Starting {}", payload.title)));
        match self.started() {
            // The other engine makes room; after a crash it starts once more, to say what it holds.
            Some(before) if before.engine != self.engine() => {
                if !before.service.process.lives() {
                    let other = self.with(before.engine);
                    if let Err(error) = Box::pin(other.start_under(lock, &ignore())).await {
                        tracing::warn!(%error, "what the other engine holds is not known");
                    }
                }
                self.stop_under(lock).await?;
            }
            // End what a killed daemon left, its containers included: two daemons must not write the same files.
            Some(before) => {
                self.end_processes(lock, before.service, END_GRACE).await?;
                self.remove_rules().await?;
            }
            None => {}
        }
        self.make_current()?;
        let bridge = if self.engine() == UserEngine::Docker && !rootless {
            let dir = self.dir().join("docker");
            disk::create_dir(&dir)?;
            owner::check(&dir)?;
            let (record, data_root) = self.bridge_files();
            Some(Bridge::make(Place { guest: &LocalGuest::new(""), record: &record, data_root: &data_root }).await?)
        } else {
            None
        };
        let made = self.prepare(rootless, bridge.as_ref())?;
        let mark = mark()?;
        let notify = self.run_dir().join("ready.sock");
        let ready_socket = UnixDatagram::bind(&notify).map_err(|e| Error::io(e, "Cannot listen at", &notify))?;
        let mut launched = StartingDaemon::new(&mut self.spawn(rootless, &notify, &mark)?)
            .map_err(|e| self.failed(e.message()).source(e))?;
        let process = launched.identity;
        let service = Service { process, session: process.pid(), mark };
        let mut started = DaemonRecord { service, engine: self.engine(), rootless, made, ready: false };
        self.record(&started)?;
        launched.service = Some(started.service.clone());
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
                () = launched.ended() => return Err(self.failed("it ended as soon as it was started")),
            }
        }
        drop(ready_socket);
        disk::remove(&notify)?;
        let version = self.api("default")?.version().await.map_err(|e| self.failed(e.message()))?;
        if self.engine() == UserEngine::Docker {
            self.docker_ready().await.map_err(|e| self.failed(e.message()))?;
            let socket = self.paths().docker_socket;
            fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))
                .map_err(|e| Error::io(e, "Cannot protect", &socket))?;
        }
        tracing::info!(containerd = version, engine = payload.title, "up");
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
        if let Some(DaemonRecord { service, engine, .. }) = &started {
            let grace = match engine {
                UserEngine::Containerd => END_GRACE,
                UserEngine::Docker => DOCKERD_GRACE,
            };
            if service.process.lives() {
                self.note_left(engine.payload()).await;
                if *engine == UserEngine::Containerd {
                    self.end_containers().await;
                }
            }
            self.end_processes(lock, service.clone(), grace).await?;
        }
        self.remove_rules().await?;
        if geteuid().is_root() {
            let configured = self.paths().networks;
            for name in task::blocking(move || Ok(network::idle_bridges(&configured))).await? {
                network::delete(&name).await;
            }
            let (record, data_root) = self.bridge_files();
            if let Some(bridge) = Bridge::recorded(&record) {
                bridge.remove(Place { guest: &LocalGuest::new(""), record: &record, data_root: &data_root }).await;
            }
        }
        disk::remove(&self.paths().docker_socket)?;
        let run = self.run_dir();
        task::blocking(move || remove_run(&run)).await?;
        for place in started.map(|s| s.made).unwrap_or_default() {
            // Fails when another program uses the directory.
            let _ = fs::remove_dir(place);
        }
        Ok(())
    }

    /// Removes the daemon's images, containers and volumes. Only the user's own namespace may remove files of rootless
    /// containers.
    pub(super) async fn remove_data(&self) -> Result<()> {
        let engines = [self.engine(), self.engine().other()];
        let all = engines.iter().flat_map(|engine| engine.payload().local.store);
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
        let ctr = self.programs_of(UserEngine::Containerd).join("ctr").into_os_string().into_encoded_bytes();
        let address = self.paths().address.into_os_string().into_encoded_bytes();
        let words = ["--namespace", namespace, "tasks", "delete", "--force", id].map(|w| w.as_bytes().to_vec());
        let argv = [vec![ctr, b"--address".to_vec(), address], words.to_vec()].concat();
        LocalGuest::new("").run(Command::new(argv)).await?.checked("ctr").map(drop)
    }

    /// Ends the daemon first, which has `grace` for it, then what is left of it.
    async fn end_processes(&self, lock: &Lock, service: Service, grace: Duration) -> Result<()> {
        let left = lock
            .blocking(move || {
                // Collected before as well: once its shim has ended, a container's process has no parent of ours.
                let mut found = service.members();
                let mut left = end(&[service.process], Signal::TERM, grace);
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
        Err(Error::new(ErrorCode::InUse, format!("The engine's processes do not end: {left:?}"))
            .hint("They may wait for a disk or a network drive; try again."))
    }

    fn api(&self, namespace: &str) -> Result<Api> {
        let address = self.paths().address.to_string_lossy().into_owned();
        Api::new(Arc::new(LocalGuest::new(address)), namespace)
    }

    fn rootlesskit(&self) -> PathBuf {
        let engines = [self.engine(), self.engine().other()].into_iter();
        let dirs = engines.flat_map(|engine| self.program_dirs_of(engine));
        let bundled = dirs.map(|dir| dir.join("rootlesskit")).find(|p| p.exists());
        bundled.unwrap_or_else(|| "rootlesskit".into())
    }

    /// What the script becomes.
    fn engine_command(&self, rootless: bool) -> Vec<OsString> {
        let containerd = self.paths().containerd.into_os_string();
        match self.engine() {
            UserEngine::Containerd => {
                vec![containerd, "--config".into(), self.dir().join("config.toml").into()]
            }
            UserEngine::Docker => {
                let mut words: Vec<OsString> = ["/bin/sh", "-c", dockerd::START, "sh"].map(Into::into).into();
                words.extend([
                    containerd,
                    self.docker_file("containerd.toml").into(),
                    self.paths().address.into(),
                    self.programs().join("dockerd").into(),
                    "--config-file".into(),
                    self.docker_file("daemon.json").into(),
                ]);
                words.extend(rootless.then(|| "--rootless".into()));
                words
            }
        }
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
        for (place, own) in self.payload().local.private {
            command.arg(place).arg(dir.join(own));
        }
        command.arg("--").args(self.engine_command(rootless));
        let log_path = dir.join(self.payload().local.log);
        let open = || -> std::io::Result<[fs::File; 2]> {
            let log = disk::open_private(fs::OpenOptions::new().append(true).create(true), &log_path)?;
            // Holds the last start only. It stays the same file for its readers.
            log.set_len(0)?;
            Ok([log.try_clone()?, log])
        };
        let [log, second] = open().map_err(|e| Error::io(e, "Cannot write", &log_path))?;
        command.stdin(Stdio::piped()).stdout(log).stderr(second).current_dir("/").env_clear();
        let mut path: Vec<String> = self.program_dirs().iter().map(|dir| dir.display().to_string()).collect();
        path.push(rootless::SYSTEM_PATH.to_owned());
        command.env("PATH", path.join(":"));
        // docs/reference/containerd.md#readiness-of-the-daemon
        command.env("LANG", "C.UTF-8").env("NOTIFY_SOCKET", notify);
        // Where there is no session, dockerd needs one all the same.
        command.env("XDG_RUNTIME_DIR", self.run_dir());
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
        let payload = self.payload();
        let path = self.dir().join(payload.local.log);
        let log = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        Error::new(payload.local.silent, format!("{} did not come up: {what}", payload.name()))
            .detail("log", tail)
            .detail("path", path.display().to_string())
            .hint("details.log holds its last words.")
    }
}

/// The line that the wrappers read: process, start time, boot.
pub(super) fn entry_line(entry: &Identity) -> String {
    let (pid, began) = entry.for_a_shell();
    format!("{pid} {began} {}\n", system::boot_name())
}

/// A unique name for the mount.
fn mark() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let number = fs::read_to_string(path).map_err(|e| Error::io(e, "Cannot read", path))?;
    Ok(format!("lima-runtime-{}", number.trim()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A daemon that is starting. Dropped before [`StartingDaemon::keep`], it is ended.
struct StartingDaemon {
    identity: Identity,
    /// Once it is recorded: with what it has started itself.
    service: Option<Service>,
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
        Ok(Self { identity, service: None, gate, ended: super::end_of(child)?, kept: false })
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
            let (identity, service) = (self.identity, self.service.take());
            std::thread::spawn(move || {
                let mut all = service.as_ref().map(Service::members).unwrap_or_default();
                end(&[identity], Signal::KILL, END_GRACE);
                all.extend(service.iter().flat_map(Service::members));
                end(&all, Signal::KILL, END_GRACE)
            });
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
        command.args(["-c", DAEMON_SCRIPT, "sh", "lima-runtime-test"]);
        command.args([place("mark"), place("made"), dir.path().into(), "--".into(), "/bin/true".into()]);
        command.stdin(Stdio::null());
        assert!(!command.output().unwrap().status.success());
        assert!(disk::entries(dir.path()).is_empty());
    }
}

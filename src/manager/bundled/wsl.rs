//! An engine of the application's own on Windows: nerdctl-full or a Docker Engine in a WSL2 distribution that nobody else uses.
//!
//! Everything in the distribution is ours and has its usual path. A distribution of our name is ours only if its disk lies
//! in our directory; another one is not touched.
//!
//! It compiles everywhere; its tests run on Linux with a stand-in for `wsl.exe`. It has not run on Windows yet.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    BundledOptions, MEND,
    bridge::{Bridge, Place},
    dockerd, left,
};
use crate::{
    call::Call,
    engine::{
        Adapter, RuntimeType,
        containerd::{Api, certificates, wsl::windows},
        docker, validate,
    },
    env_vars,
    error::{Error, ErrorCode, Result},
    fetch::{
        bundle::Bundle,
        disk,
        install::Home,
        lock::Lock,
        manifest::{Part, Request},
        platform::Platform,
        progress::Meter,
        record::Record,
    },
    guest::{
        BEGAN, CONTAINERS, Guest,
        wsl::{Wsl, WslGuest, arguments, text},
    },
    log,
    manager::{
        payload::{
            self, Payload, UserEngine,
            compose::{self, Compose},
            left::Running,
        },
        registries,
        socket::{self, Served, serve},
    },
    process::Command,
    progress::{Phase, RuntimeProgress, Sink, forward_only},
    task,
};

/// Where containerd listens in the distribution.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// Where dockerd keeps what it has.
const DOCKER_DATA: &str = "/var/lib/docker";
/// nerdctl-full, unpacked.
const PREFIX: &str = "/usr/local";
/// Includes the boot of WSL's virtual machine.
const START_TIMEOUT: Duration = Duration::from_secs(180);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a starting containerd is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long another caller may take between asking whether the distribution runs and running a command in it.
const SETTLE_TIME: Duration = Duration::from_millis(300);
/// How long a running containerd may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Windows keeps a distribution's disk here, in the directory given at its import (docs/reference/wsl.md#disk).
const DISK_FILE: &str = "ext4.vhdx";
const LOG_FILE: &str = "/var/log/lima-runtime.log";

/// Read at the distribution's next start. No Windows programs and no Windows PATH in it, so that nothing in a container
/// reaches Windows by accident (learn.microsoft.com/windows/wsl/wsl-config).
const WSL_CONF: &str =
    "[boot]\nsystemd=false\n[interop]\nenabled=false\nappendWindowsPath=false\n[user]\ndefault=root\n";

/// Runs the engine in the foreground: WSL ends a distribution 15 s after the last program that Windows started in it
/// (docs/reference/wsl.md#idle-distributions), so the `wsl.exe` that runs this script stays. Before it
/// `engine`, `programs`, `daemon` and the daemon's variables are set.
const DAEMON_SCRIPT: &str = r#"exec >/var/log/lima-runtime.log 2>&1 </dev/null
# Of the root that WSL makes: volumes and containers see what is mounted later.
mount --make-rshared / || true
mkdir -p /run/containerd
began $$
echo "$$ $at $engine" >/run/lima-runtime.pid
PATH=$programs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin exec $daemon
"#;
const DAEMON_FILE: &str = "/etc/lima-runtime/daemon";
/// What the application trusts beside the distribution's own.
const CERTIFICATES: &str = "/etc/lima-runtime/certificates";

/// Takes pairs of a path and a text.
const WRITE: &str = r#"set -e
umask 077
while [ $# -gt 0 ]; do
  mkdir -p "${1%/*}"
  printf %s "$2" >"$1"
  shift 2
done
"#;

/// Installs iptables, the only program that the archives lack.
const IPTABLES_SCRIPT: &str = "command -v iptables >/dev/null || { apt-get update -q && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends iptables; }";

/// Says which engine runs; nothing where none does. Its number counts only with its start time.
const WHO: &str = r#"read -r pid since engine </run/lima-runtime.pid && began "$pid" && [ "$at" = "$since" ] || exit 0
echo "${engine:-containerd}""#;

/// Ends the engine first, so that restart policies stay as they are, then the containers' processes, which get 10 s. `$1` is
/// where the engine that runs has these, `$2` how long it may take to end them itself.
const HALT_SCRIPT: &str = r#"state=$1 n=0
there() { began "$pid" && [ "$at" = "$since" ]; }
if read -r pid since engine </run/lima-runtime.pid && there; then
  kill "$pid"
  while [ $n -lt "$2" ] && there; do n=$((n + 1)); sleep 0.2; done
fi
end TERM 50"#;

/// `wsl.json`: the distribution that we made; written once it is complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct DistributionRecord {
    distribution: String,
    rootfs: Record,
    /// The engines' archives that were unpacked into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nerdctl: Option<Record>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    docker: Option<Record>,
}

impl DistributionRecord {
    fn archive(&self, engine: UserEngine) -> Option<&Record> {
        match engine {
            UserEngine::Containerd => self.nerdctl.as_ref(),
            UserEngine::Docker => self.docker.as_ref(),
        }
    }
}

/// The state that detection shows.
#[derive(Debug)]
pub enum WslState {
    /// The engine answers, with its version.
    Ready(String),
    Stopped,
    Installable,
    /// WSL is missing, or cannot run virtual machines.
    Unavailable(Error),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct WslRuntime {
    options: Arc<BundledOptions>,
    home: Home,
    wsl: Wsl,
    guest: WslGuest,
    distribution: String,
    served: Arc<tokio::sync::Mutex<Option<Served>>>,
}

impl WslRuntime {
    pub(super) fn new(options: BundledOptions, home: Home, wsl: Wsl) -> Self {
        let distribution = name_for(home.dir());
        let guest = WslGuest::new(wsl.clone(), &distribution, SOCKET);
        Self { options: Arc::new(options), home, wsl, guest, distribution, served: Arc::default() }
    }

    /// With another `wsl.exe`, as in tests.
    pub fn over(options: BundledOptions, wsl: Wsl) -> Result<Self> {
        let own = super::BundledRuntime::new(options)?;
        Ok(Self::new(own.options.clone(), own.home.clone(), wsl))
    }

    pub fn distribution(&self) -> &str {
        &self.distribution
    }

    pub fn guest(&self) -> &WslGuest {
        &self.guest
    }

    /// What [`crate::engine::containerd::ContainerdOptions::address`] takes.
    pub fn address(&self) -> String {
        format!("wsl://{}{SOCKET}", self.distribution)
    }

    pub fn engine(&self) -> UserEngine {
        self.options.engine.unwrap_or_default()
    }

    fn payload(&self) -> &'static Payload {
        self.engine().payload()
    }

    /// The first makes the distribution; the second is unpacked into it.
    pub fn parts(&self) -> [Part; 2] {
        [Part::WslRootfs, self.payload().part]
    }

    /// Where the engine listens in the distribution.
    pub fn socket(&self) -> &'static str {
        self.payload().socket
    }

    /// Where programs of this computer reach a Docker engine, while the application lives.
    pub fn docker_socket(&self) -> PathBuf {
        if cfg!(windows) {
            return format!(r"\\.\pipe\lima-runtime-{}", self.distribution).into();
        }
        self.home.dir().join("sock").join("docker.sock")
    }

    /// For the Docker engine, which need not run yet. `NOT_INSTALLED` where containerd is the engine.
    pub fn adapter(&self) -> Result<Adapter> {
        self.engine().must_be(UserEngine::Docker, "here")?;
        let app = self.options.label();
        validate::app_name(app)?;
        let guest = Arc::new(self.guest.clone());
        let dir = compose::IN_GUEST.to_owned();
        let place = compose::Place { guest: guest.clone(), dir, root: true, keeps_download: false };
        let vm = docker::Vm {
            guest,
            socket: self.socket().to_owned(),
            runtime_type: RuntimeType::Containerd,
            host: Some(windows()),
            internal: Some(super::bridge::internal(&self.bridge_record())),
            own_dir: self.home.dir().to_owned(),
            compose: Compose::new(&self.home, &self.options.network, self.options.bundle_dirs(), place),
            mend: MEND,
        };
        Ok(docker::adapter_in(vm, app))
    }

    pub fn nerdctl(&self) -> String {
        UserEngine::Containerd.payload().wsl.program.concat()
    }

    pub fn cni(&self) -> String {
        format!("{PREFIX}/libexec/cni")
    }

    fn disk_dir(&self) -> PathBuf {
        self.home.dir().join("wsl")
    }

    fn bridge_record(&self) -> PathBuf {
        self.home.dir().join("docker").join("bridge.json")
    }

    /// What was noted of the engine that is not this one.
    pub fn left(&self) -> Vec<payload::left::LeftContainer> {
        payload::left::read(&self.home.dir().join(left::FILE), self.engine())
    }

    fn record(&self) -> PathBuf {
        self.home.dir().join("wsl.json")
    }

    /// Whether the distribution of our name is ours: its disk lies here.
    fn is_ours(&self) -> bool {
        self.disk_dir().join(DISK_FILE).exists()
    }

    fn made(&self) -> Option<DistributionRecord> {
        disk::read_json(&self.record())
            .filter(|m: &DistributionRecord| m.distribution == self.distribution && self.is_ours())
    }

    pub fn is_installed(&self) -> bool {
        self.made().is_some_and(|made| made.archive(self.engine()).is_some())
    }

    pub fn has_pre_bundled(&self) -> bool {
        let dirs = self.options.bundle_dirs();
        let there = |p, part| matches!(Bundle::find(&dirs, p, part, &self.options.network), Ok(Some(_)));
        Platform::current().is_ok_and(|p| self.parts().iter().all(|part| there(p, *part)))
    }

    /// Runs nerdctl or docker, and returns its standard output. `NOT_INSTALLED` with the other engine.
    pub async fn exec(
        &self,
        engine: UserEngine,
        args: &[String],
        input: Option<Bytes>,
        call: &Call,
    ) -> Result<Vec<u8>> {
        self.engine().must_be(engine, "here")?;
        call.run(None, async {
            let payload = self.payload();
            let words = payload.wsl.program.iter().copied().chain(args.iter().map(String::as_str));
            let command = Command::new(words).root().input(input.unwrap_or_default());
            self.guest.run(command).await?.checked(payload.program)
        })
        .await
    }

    /// Does not start the distribution.
    pub async fn is_running(&self) -> bool {
        matches!(tokio::time::timeout(ANSWER_TIMEOUT, self.version()).await, Ok(Ok(_)))
    }

    async fn version(&self) -> Result<String> {
        let guest = Arc::new(self.guest.clone());
        match self.engine() {
            UserEngine::Containerd => Api::new(guest, "default")?.version().await,
            UserEngine::Docker => docker::ready(guest, self.socket(), MEND).await,
        }
    }

    /// The state as far as it is known within `limit`: Windows may have to start WSL's service first.
    pub async fn state(&self, limit: Duration) -> WslState {
        if self.is_installed() {
            return match tokio::time::timeout(limit, self.version()).await {
                Ok(Ok(version)) => WslState::Ready(version),
                _ => WslState::Stopped,
            };
        }
        match tokio::time::timeout(limit, self.wsl.check()).await {
            Ok(Err(e)) => WslState::Unavailable(e),
            Err(_) if !self.wsl.program().exists() => WslState::Unavailable(text::error("", "wsl.exe --install")),
            _ => WslState::Installable,
        }
    }

    /// Makes the distribution and installs the engine in it, unless that is done.
    pub async fn install(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let lock = self.home.lock(call, None).await?;
        let installed = call.run(None, self.install_under(&lock, forward_only(sink))).await;
        installed.inspect_err(log::failed("an installation"))
    }

    async fn install_under(&self, lock: &Lock, sink: Sink<RuntimeProgress>) -> Result<()> {
        let platform = Platform::current()?;
        let meter = Meter::new(sink);
        let (engine, payload, parts) = (self.engine(), self.payload(), self.parts());
        let done = || meter.say(Phase::Ready, None, format!("{} is installed", payload.name()));
        meter.say(Phase::Resolve, None, "Looking up what is installed");
        let made = self.made();
        let remote = match self.options.network.open().await {
            Ok(remote) => Some(remote),
            // Without a network, the installed version will do.
            Err(e) if self.is_installed() && e.code() == ErrorCode::DownloadFailed => None,
            Err(e) => return Err(e),
        };
        let (dirs, network) = (self.options.bundle_dirs(), self.options.network.clone());
        let bundle = task::blocking(move || Bundle::find(&dirs, platform, parts[1], &network)).await?;
        if let Some(bundle) = &bundle {
            bundle.advise(parts[1]);
        }
        let mut wanted = Vec::new();
        if let Some(made) = &made {
            let ships = bundle.as_ref().and_then(|b| b.record(parts[1]).ok());
            let right = match (made.archive(engine), ships, &remote) {
                (None, ..) => false,
                (Some(have), Some(ships), _) => ships.version == have.version && ships.sha256 == have.sha256,
                (Some(have), None, Some(remote)) => have.satisfies(&remote.wanted(parts[1], platform)?),
                (Some(_), None, None) => true,
            };
            // The programs of a running daemon are not replaced.
            if right || self.is_running().await {
                done();
                return Ok(());
            }
        } else {
            // Checked before hundreds of megabytes are downloaded.
            self.wsl.check().await?;
            if self.exists().await? && !self.is_ours() {
                return Err(text::error("", "ERROR_ALREADY_EXISTS").detail("distribution", self.distribution.clone()));
            }
            wanted.push(parts[0]);
        }
        wanted.push(parts[1]);
        let requests: Vec<Request> = wanted.iter().map(|&part| Request { part, unpacked: false }).collect();
        let network = self.options.network.clone();
        let open = async || match remote {
            Some(remote) => Ok(remote),
            None => network.open().await,
        };
        self.home.bring(&requests, platform, bundle.as_ref(), open, &meter, lock).await?;
        let mut made = if let Some(made) = made {
            // The other engine's containers end as they do at a stop.
            self.stop_under().await?;
            made
        } else {
            let (distribution, rootfs) = (self.distribution.clone(), self.make(&meter).await?);
            DistributionRecord { distribution, rootfs, nerdctl: None, docker: None }
        };
        meter.say(Phase::Extract, Some(payload.part), format!("Installing {} in the distribution", payload.title));
        let (path, archive) = self.fetched(payload.part)?;
        self.unpack(&archive, &path).await?;
        self.provision().await?;
        // The configuration is read at the next start.
        self.wsl.terminate(&self.distribution).await?;
        match engine {
            UserEngine::Containerd => made.nerdctl = Some(archive),
            UserEngine::Docker => made.docker = Some(archive),
        }
        let (path, cache) = (self.record(), self.home.dir().join("cache"));
        lock.blocking(move || {
            disk::write_json(&path, &made)?;
            // The archives are not needed any more.
            disk::remove(&cache)
        })
        .await?;
        done();
        Ok(())
    }

    async fn exists(&self) -> Result<bool> {
        Ok(self.wsl.distributions().await?.contains(&self.distribution))
    }

    fn fetched(&self, part: Part) -> Result<(PathBuf, Record)> {
        self.home.file(part).ok_or_else(|| Error::internal(format!("{part} is gone as soon as it came")))
    }

    /// Makes a new distribution.
    async fn make(&self, meter: &Arc<Meter>) -> Result<Record> {
        let (archive, record) = self.fetched(Part::WslRootfs)?;
        meter.say(Phase::Create, Some(Part::WslRootfs), "Making the WSL distribution");
        // One that was left half made.
        self.remove_distribution().await?;
        let dir = self.disk_dir();
        task::blocking({
            let dir = dir.clone();
            move || disk::create_dir(&dir)
        })
        .await?;
        self.wsl.import(&self.distribution, &dir, &archive).await?;
        Ok(record)
    }

    /// Through standard input: the distribution may not see the archive's path.
    async fn unpack(&self, archive: &Record, path: &Path) -> Result<()> {
        let command = match self.engine() {
            UserEngine::Containerd => Command::new(["tar", "-xzf", "-", "-C", PREFIX, "--no-same-owner"]),
            UserEngine::Docker => payload::docker::unpacking(archive.sha256.as_str()),
        };
        self.guest.booting().hand_over(command, path).await?.checked("tar").map(drop)
    }

    async fn provision(&self) -> Result<()> {
        self.write(&[("/etc/wsl.conf", WSL_CONF)]).await?;
        let out = self.guest.booting().run(Command::new(["sh", "-c", IPTABLES_SCRIPT])).await?;
        out.checked("apt-get").map(drop).map_err(|e| {
            Error::new(ErrorCode::DownloadFailed, "iptables, which networks of containers need, could not be installed")
                .hint("Look whether this computer reaches the internet, or give a wsl-rootfs that has it.")
                .source(e)
        })
    }

    async fn write(&self, files: &[(&str, &str)]) -> Result<()> {
        let words = ["sh", "-c", WRITE, "sh"].into_iter().chain(files.iter().flat_map(|(path, text)| [*path, *text]));
        self.guest.booting().run(Command::new(words)).await?.checked("sh").map(drop)
    }

    /// What the engine reads as it starts.
    async fn configure(&self) -> Result<()> {
        let in_wsl = &self.payload().wsl;
        let mut variables = proxies();
        let config = match self.engine() {
            UserEngine::Containerd => format!(
                "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.nri.v1.nri\"]\n[grpc]\naddress = {SOCKET:?}\n"
            ),
            UserEngine::Docker => {
                let certificates = certificates(&self.options.network.http.ca_certificates)?;
                if !certificates.is_empty() {
                    const WRITE_ONE: &str = r#"mkdir -p "$1" && cat >"$1/lima-runtime.pem""#;
                    let command = Command::new(["sh", "-c", WRITE_ONE, "sh", CERTIFICATES]).input(certificates);
                    self.guest.booting().run(command).await?.checked("sh")?;
                    // Beside the distribution's own file of certificates (pkg.go.dev/crypto/x509#SystemCertPool).
                    variables.extend(["export SSL_CERT_DIR=", CERTIFICATES, ":/etc/ssl/certs\n"]);
                }
                let (guest, record) = (self.guest.booting(), self.bridge_record());
                let dir = record.parent().unwrap_or(Path::new("")).to_owned();
                task::blocking(move || disk::create_dir(&dir)).await?;
                let place = Place { guest: &guest, record: &record, data_root: DOCKER_DATA };
                let bridge = Bridge::make(place).await?;
                let mut settings = dockerd::daemon_json(self.socket(), Some(&bridge), &self.options.registries)?;
                for (name, path) in
                    [("data-root", DOCKER_DATA), ("exec-root", "/run/docker"), ("pidfile", "/run/docker.pid")]
                {
                    settings.insert(name.to_owned(), path.into());
                }
                serde_json::to_string(&settings).map_err(|e| Error::internal(e.to_string()))?
            }
        };
        let script = format!(
            "{BEGAN}engine={}\nprograms={}\ndaemon={:?}\n{variables}{DAEMON_SCRIPT}",
            self.engine().as_str(),
            in_wsl.programs,
            in_wsl.daemon
        );
        self.write(&[(DAEMON_FILE, script.as_str()), (in_wsl.config, config.as_str())]).await
    }

    /// Serves the Docker engine to programs of this computer from now on.
    async fn serve_socket(&self) {
        let mut served = self.served.lock().await;
        if self.engine() != UserEngine::Docker || served.as_ref().is_some_and(Served::is_there) {
            return;
        }
        if let Some(before) = served.take() {
            before.end().await;
        }
        let (path, dir) = (self.docker_socket(), self.home.dir().join("sock"));
        match serve(&path, &dir, Arc::new(self.guest.clone()), self.socket().to_owned()).await {
            Ok(now) => *served = Some(now),
            // The engine runs, and its adapter reaches it.
            Err(e) => {
                let text = "The engine is not served to other programs of this computer";
                crate::call::warn(Error::new(ErrorCode::EngineWarning, text).source(e));
            }
        }
    }

    /// nerdctl or docker of this distribution, for other programs to run.
    pub fn wrapper(&self, engine: UserEngine) -> PathBuf {
        self.home.dir().join("bin").join(format!("{}.cmd", engine.payload().program))
    }

    /// Of the engine that runs.
    fn write_wrapper(&self) -> Result<()> {
        let path = self.wrapper(self.engine());
        disk::create_dir(path.parent().unwrap_or(Path::new("")))?;
        disk::remove(&self.wrapper(self.engine().other()))?;
        disk::write_program(&path, self.wrapper_text().as_bytes())
    }

    fn wrapper_text(&self) -> String {
        let words: Vec<_> = arguments(&self.distribution).iter().map(|a| a.to_string_lossy().into_owned()).collect();
        format!(
            "@rem Written by lima-runtime: {} in its WSL distribution.\r\n@\"%SystemRoot%\\System32\\wsl.exe\" {} {} %*\r\n",
            self.payload().program,
            words.join(" "),
            self.payload().wsl.program.join(" ")
        )
    }

    /// Installs what is missing, and starts the engine.
    pub async fn initialize(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        self.install(sink.clone(), call).await?;
        self.start_daemon(sink, call).await
    }

    /// Resolves once the engine answers.
    pub async fn start_daemon(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let lock = self.home.lock(call, START_TIMEOUT).await?;
        let started = call.run(START_TIMEOUT, self.start_under(&lock, &forward_only(sink))).await;
        started.inspect_err(log::failed("the start of the engine"))
    }

    async fn start_under(&self, lock: &Lock, sink: &Sink<RuntimeProgress>) -> Result<()> {
        let name = self.payload().name();
        if !self.is_installed() {
            return Err(Error::new(ErrorCode::NotInstalled, format!("{name} is not installed"))
                .detail("distribution", self.distribution.clone())
                .hint("Call initialize() or install() first."));
        }
        if self.engine() == UserEngine::Docker {
            socket::check(&self.docker_socket())?;
        }
        let ready = || sink(RuntimeProgress::ready(&format!("{name} is ready")));
        if self.is_running().await {
            self.serve_socket().await;
            ready();
            return Ok(());
        }
        sink(RuntimeProgress::new(Phase::Boot, format!("Starting {} in WSL", self.payload().title)));
        if self.wsl.running().await?.contains(&self.distribution) {
            if self.who_runs().await == Some(self.engine().other()) {
                // It makes room, and its containers end as they do at a stop.
                self.stop_under().await?;
            } else {
                // An engine that does not answer blocks a new one.
                self.wsl.terminate(&self.distribution).await?;
            }
        }
        let (wsl, distribution) = (self.wsl.clone(), self.distribution.clone());
        let launched = StartingDistribution { wsl, distribution, lock: lock.clone(), kept: false };
        self.configure().await?;
        let mut ended = self.launch()?;
        loop {
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.version());
            let answer = tokio::select! {
                answer = answer => answer,
                _ = &mut ended => return Err(self.failed().await),
            };
            if let Ok(Ok(version)) = answer {
                tracing::info!(version, distribution = self.distribution, engine = name, "up");
                if self.engine() == UserEngine::Containerd {
                    let certificates = certificates(&self.options.network.http.ca_certificates)?;
                    registries::place(&self.guest, &self.options.registries, &certificates).await?;
                }
                let this = self.clone();
                task::blocking(move || this.write_wrapper()).await?;
                launched.keep();
                self.serve_socket().await;
                ready();
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The engine that lives in a distribution that runs.
    async fn who_runs(&self) -> Option<UserEngine> {
        let said = self.guest.run(Command::new(["sh", "-c", &[BEGAN, WHO].concat()])).await.ok()?;
        UserEngine::parse(String::from_utf8_lossy(&said.stdout).trim())
    }

    /// Starts the `wsl.exe` that runs the engine, and reports its end. It outlives this process.
    fn launch(&self) -> Result<tokio::sync::oneshot::Receiver<()>> {
        let mut command = self.wsl.inside(&self.distribution, ["/bin/sh", DAEMON_FILE]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        #[cfg(windows)]
        {
            // No window, and not ended by our Ctrl+C.
            const CREATE_NO_WINDOW: u32 = 0x0800_0000;
            const CREATE_NEW_PROCESS_GROUP: u32 = 0x0000_0200;
            std::os::windows::process::CommandExt::creation_flags(
                &mut command,
                CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP,
            );
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|e| {
            Error::new(self.payload().local.silent, format!("wsl.exe could not be started: {e}")).source(e)
        })?;
        super::end_of(child)
    }

    async fn failed(&self) -> Error {
        let command = Command::new(["tail", "-n", "20", LOG_FILE]);
        let log = async { self.guest.boot(command).await?.output().await }.await.map(|o| o.stdout).unwrap_or_default();
        let payload = self.payload();
        Error::new(payload.local.silent, format!("{} did not come up in the WSL distribution", payload.name()))
            .detail("log", String::from_utf8_lossy(&log).into_owned())
            .detail("distribution", self.distribution.clone())
            .hint("details.log holds its last words.")
    }

    /// Ends the containers, then the distribution. One that does not run is not an error.
    pub async fn stop_daemon(&self, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let _lock = self.home.lock(call, STOP_TIMEOUT).await?;
        call.run(STOP_TIMEOUT, self.stop_under()).await
    }

    async fn stop_under(&self) -> Result<()> {
        if !self.is_ours() || !self.wsl.running().await?.contains(&self.distribution) {
            return Ok(());
        }
        let payload = self.who_runs().await.unwrap_or(self.engine()).payload();
        let at = Running {
            guest: Arc::new(WslGuest::new(self.wsl.clone(), &self.distribution, payload.socket)),
            socket: payload.socket,
            namespaces: Vec::new(),
            data_root: None,
            app: self.options.label(),
        };
        left::note(self.home.dir(), payload, at).await;
        let (script, grace) = ([BEGAN, CONTAINERS, HALT_SCRIPT].concat(), payload.wsl.grace.to_string());
        if let Err(e) = self.guest.run(Command::new(["sh", "-c", &script, "sh", payload.state, &grace])).await {
            tracing::warn!(error = %e, "the containers were not asked to end");
        }
        let record = self.bridge_record();
        if let Some(bridge) = Bridge::recorded(&record) {
            // It outlives the distribution (docs/reference/wsl.md#one-network).
            bridge.remove(Place { guest: &self.guest, record: &record, data_root: DOCKER_DATA }).await;
        }
        loop {
            self.wsl.terminate(&self.distribution).await?;
            // Another caller's command may have started it again.
            tokio::time::sleep(SETTLE_TIME).await;
            if !self.wsl.running().await?.contains(&self.distribution) {
                return Ok(());
            }
        }
    }

    /// Removes the distribution with its images, containers and volumes, and our files.
    pub async fn uninstall(&self, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let lock = self.home.lock(call, STOP_TIMEOUT).await?;
        call.run(None, async {
            self.stop_under().await?;
            self.remove_distribution().await?;
            *self.served.lock().await = None;
            let (home, held) = (self.home.clone(), lock.clone());
            let all = ["wsl.json", "install.json", left::FILE, "wsl", "bin", "docker", "sock", "versions", "cache"];
            lock.blocking(move || home.remove(&all, &held)).await
        })
        .await
    }

    async fn remove_distribution(&self) -> Result<()> {
        if self.is_ours() && self.exists().await? {
            self.wsl.unregister(&self.distribution).await?;
        }
        Ok(())
    }
}

/// Stops the distribution when its start is given up.
struct StartingDistribution {
    wsl: Wsl,
    distribution: String,
    /// Nobody else starts it before it has stopped.
    lock: Lock,
    kept: bool,
}

impl StartingDistribution {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for StartingDistribution {
    fn drop(&mut self) {
        if !self.kept {
            let (wsl, distribution, lock) = (self.wsl.clone(), self.distribution.clone(), self.lock.clone());
            tokio::spawn(async move {
                if let Err(error) = wsl.terminate(&distribution).await {
                    tracing::warn!(%error, distribution, "what a start left that was given up was not ended");
                }
                drop(lock);
            });
        }
    }
}

/// A name of characters that WSL accepts (docs/reference/wsl.md#names-of-distributions), different for each directory.
fn name_for(dir: &Path) -> String {
    use sha2::{Digest, Sha256};
    let app = dir.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let plain: String = app.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(40).collect();
    let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    let plain = plain.trim_start_matches(['.', '-']);
    format!("{}-{}", if plain.is_empty() { "lima-runtime" } else { plain }, hex::encode(&digest[..4]))
}

/// The proxy settings of our environment, for a shell to read.
fn proxies() -> String {
    let names = env_vars::PROXIES.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_uppercase()]);
    let line = |name: String| {
        let value = env_vars::get(&name)?.replace('\'', r"'\''");
        Some(format!("export {name}='{value}'\n"))
    };
    names.filter_map(line).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_has_a_name_of_its_own_that_wsl_takes() {
        let name = name_for(Path::new("/home/Müller/kai desktop/containerd"));
        assert!(name.starts_with("kaidesktop-") && name.len() == "kaidesktop-".len() + 8, "{name}");
        assert_ne!(name, name_for(Path::new("/home/other/kai desktop/containerd")));
        assert!(name_for(Path::new("/")).starts_with("lima-runtime-"));
        assert!(name_for(Path::new("/-d/containerd")).starts_with("d-"));
    }
}

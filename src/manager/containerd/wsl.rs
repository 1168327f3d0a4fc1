//! containerd of the application's own on Windows: nerdctl-full in a WSL2 distribution that nobody else uses.
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
use tokio::io::AsyncReadExt;

use super::BundledOptions;
use crate::{
    call::Call,
    engine::containerd::{Api, certificates},
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
    manager::{payload::UserEngine, registries},
    process::Command,
    progress::{Phase, RuntimeProgress, Sink},
    task,
};

/// The first makes the distribution; the second is unpacked into it.
pub const PARTS: [Part; 2] = [Part::WslRootfs, Part::NerdctlFull];
/// Where containerd listens in the distribution.
pub const SOCKET: &str = "/run/containerd/containerd.sock";
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

/// Runs containerd in the foreground: WSL ends a distribution 15 s after the last program that Windows started in it
/// (docs/reference/wsl.md#idle-distributions), so the `wsl.exe` that runs this script stays. `$1` is a file of variables.
const DAEMON_SCRIPT: &str = r#"exec >/var/log/lima-runtime.log 2>&1 </dev/null
. "$1"
# Of the root that WSL makes: volumes and containers see what is mounted later.
mount --make-rshared / || true
mkdir -p /run/containerd
began $$
echo "$$ $at" >/run/lima-runtime.pid
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin exec containerd --config /etc/lima-runtime/containerd.toml
"#;

/// Installs iptables, the only program that nerdctl-full lacks.
const IPTABLES_SCRIPT: &str = "command -v iptables >/dev/null || { apt-get update -q && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends iptables; }";

/// Ends containerd first, so that restart policies stay as they are, then the containers' processes, which get 10 s.
/// containerd's number counts only with its start time.
const HALT_SCRIPT: &str = r#"read -r pid since </run/lima-runtime.pid && began "$pid" && [ "$at" = "$since" ] && kill "$pid"
end TERM 50"#;

/// `wsl.json`: the distribution that we made; written once it is complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct DistributionRecord {
    distribution: String,
    rootfs: Record,
    nerdctl: Record,
}

/// The state that detection shows.
#[derive(Debug)]
pub enum WslState {
    /// containerd answers, with its version.
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
}

impl WslRuntime {
    pub(super) fn new(options: BundledOptions, home: Home, wsl: Wsl) -> Self {
        let distribution = name_for(home.dir());
        let guest = WslGuest::new(wsl.clone(), &distribution, SOCKET);
        Self { options: Arc::new(options), home, wsl, guest, distribution }
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

    pub fn nerdctl(&self) -> String {
        format!("{PREFIX}/bin/nerdctl")
    }

    pub fn cni(&self) -> String {
        format!("{PREFIX}/libexec/cni")
    }

    fn disk_dir(&self) -> PathBuf {
        self.home.dir().join("wsl")
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
        self.made().is_some()
    }

    pub fn has_pre_bundled(&self) -> bool {
        let dirs = self.options.bundle_dirs();
        let there = |p, part| matches!(Bundle::find(&dirs, p, part, &self.options.network), Ok(Some(_)));
        Platform::current().is_ok_and(|p| PARTS.iter().all(|part| there(p, *part)))
    }

    /// `UNSUPPORTED_PLATFORM` for an engine that is not brought here yet.
    pub fn refuse_docker(&self) -> Result<()> {
        if self.options.engine.unwrap_or_default() == UserEngine::Containerd {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::UnsupportedPlatform,
            "The Docker engine of the application's own does not run in WSL yet",
        )
        .hint("Leave the option engine out, or use Docker Desktop."))
    }

    /// Runs nerdctl, and returns its standard output.
    pub async fn exec(&self, args: &[String], input: Option<Bytes>, call: &Call) -> Result<Vec<u8>> {
        self.refuse_docker()?;
        call.run(None, async {
            let nerdctl = self.nerdctl();
            let words = std::iter::once(nerdctl.as_str()).chain(args.iter().map(String::as_str));
            let command = Command::new(words).root().input(input.unwrap_or_default());
            self.guest.run(command).await?.checked("nerdctl")
        })
        .await
    }

    /// Does not start the distribution.
    pub async fn is_running(&self) -> bool {
        self.refuse_docker().is_ok() && matches!(tokio::time::timeout(ANSWER_TIMEOUT, self.version()).await, Ok(Ok(_)))
    }

    async fn version(&self) -> Result<String> {
        Api::new(Arc::new(self.guest.clone()), "default")?.version().await
    }

    /// The state as far as it is known within `limit`: Windows may have to start WSL's service first.
    pub async fn state(&self, limit: Duration) -> WslState {
        if let Err(e) = self.refuse_docker() {
            return WslState::Unavailable(e);
        }
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

    /// Makes the distribution and installs nerdctl-full in it, unless that is done.
    pub async fn install(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        self.refuse_docker()?;
        let call = &call.in_steps();
        let lock = self.home.lock(call, None).await?;
        call.run(None, self.install_under(&lock, sink)).await
    }

    async fn install_under(&self, lock: &Lock, sink: Sink<RuntimeProgress>) -> Result<()> {
        let platform = Platform::current()?;
        let meter = Meter::new(sink);
        let done = || meter.say(Phase::Ready, None, "containerd is installed");
        meter.say(Phase::Resolve, None, "Looking up what is installed");
        let made = self.made();
        let remote = match self.options.network.open().await {
            Ok(remote) => Some(remote),
            // Without a network, the installed version will do.
            Err(e) if made.is_some() && e.code() == ErrorCode::DownloadFailed => None,
            Err(e) => return Err(e),
        };
        let (dirs, network) = (self.options.bundle_dirs(), self.options.network.clone());
        let bundle = task::blocking(move || Bundle::find(&dirs, platform, PARTS[1], &network)).await?;
        if let Some(bundle) = &bundle {
            bundle.advise(PARTS[1]);
        }
        let mut wanted = Vec::new();
        if let Some(made) = &made {
            let ships = bundle.as_ref().and_then(|b| b.record(PARTS[1]).ok());
            let right = match (ships, &remote) {
                (Some(ships), _) => ships.version == made.nerdctl.version && ships.sha256 == made.nerdctl.sha256,
                (None, Some(remote)) => made.nerdctl.satisfies(&remote.wanted(PARTS[1], platform)?),
                (None, None) => true,
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
            wanted.push(PARTS[0]);
        }
        wanted.push(PARTS[1]);
        let requests: Vec<Request> = wanted.iter().map(|&part| Request { part, unpacked: false }).collect();
        let network = self.options.network.clone();
        let open = async || match remote {
            Some(remote) => Ok(remote),
            None => network.open().await,
        };
        self.home.bring(&requests, platform, bundle.as_ref(), open, &meter, lock).await?;
        let rootfs = match made {
            Some(made) => made.rootfs,
            None => self.make(&meter).await?,
        };
        meter.say(Phase::Extract, Some(Part::NerdctlFull), "Installing containerd in the distribution");
        let (nerdctl, archive) = self.fetched(Part::NerdctlFull)?;
        self.unpack(&archive).await?;
        self.provision().await?;
        // The configuration is read at the next start.
        self.wsl.terminate(&self.distribution).await?;
        let made = DistributionRecord { distribution: self.distribution.clone(), rootfs, nerdctl };
        let (path, cache) = (self.record(), self.home.dir().join("cache"));
        let wrapper = (self.wrapper(), self.wrapper_text());
        lock.blocking(move || {
            disk::create_dir(wrapper.0.parent().unwrap_or(Path::new("")))?;
            disk::write_program(&wrapper.0, wrapper.1.as_bytes())?;
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

    fn fetched(&self, part: Part) -> Result<(Record, PathBuf)> {
        let record = self.home.whole(part, crate::fetch::record::Look::Stat);
        record.zip(self.home.file(part)).ok_or_else(|| Error::internal(format!("{part} is gone as soon as it came")))
    }

    /// Makes a new distribution.
    async fn make(&self, meter: &Arc<Meter>) -> Result<Record> {
        let (record, archive) = self.fetched(Part::WslRootfs)?;
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
    async fn unpack(&self, archive: &Path) -> Result<()> {
        let fail = |e| Error::io(e, "Cannot read", archive);
        let mut file = tokio::fs::File::open(archive).await.map_err(fail)?;
        let command = Command::new(["tar", "-xzf", "-", "-C", PREFIX, "--no-same-owner"]);
        let mut process = self.guest.boot(command).await?;
        let stdin = process.stdin.take();
        let feed = async {
            let Some(stdin) = stdin else { return Ok(()) };
            loop {
                let mut buffer = bytes::BytesMut::with_capacity(256 << 10);
                if file.read_buf(&mut buffer).await.map_err(fail)? == 0 || stdin.send(buffer.freeze()).await.is_err() {
                    return Ok(());
                }
            }
        };
        let (sent, output) = tokio::join!(feed, process.output());
        output?.checked("tar")?;
        sent
    }

    async fn provision(&self) -> Result<()> {
        let config = format!(
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.nri.v1.nri\"]\n[grpc]\naddress = {SOCKET:?}\n"
        );
        self.write("/etc/wsl.conf", WSL_CONF).await?;
        self.write("/etc/lima-runtime/containerd.toml", &config).await?;
        self.write("/etc/lima-runtime/daemon", &[BEGAN, DAEMON_SCRIPT].concat()).await?;
        let out = self.guest.boot(Command::new(["sh", "-c", IPTABLES_SCRIPT])).await?.output().await?;
        out.checked("apt-get").map(drop).map_err(|e| {
            Error::new(ErrorCode::DownloadFailed, "iptables, which networks of containers need, could not be installed")
                .hint("Look whether this computer reaches the internet, or give a wsl-rootfs that has it.")
                .source(e)
        })
    }

    async fn write(&self, path: &str, text: &str) -> Result<()> {
        const WRITE: &str = r#"mkdir -p "${1%/*}" && cat >"$1""#;
        let command = Command::new(["sh", "-c", WRITE, "sh", path]).input(text.to_owned());
        self.guest.boot(command).await?.output().await?.checked("sh").map(drop)
    }

    /// nerdctl of this distribution, for other programs to run.
    pub fn wrapper(&self) -> PathBuf {
        self.home.dir().join("bin").join("nerdctl.cmd")
    }

    fn wrapper_text(&self) -> String {
        let words: Vec<_> = arguments(&self.distribution).iter().map(|a| a.to_string_lossy().into_owned()).collect();
        format!(
            "@rem Written by lima-runtime: nerdctl in its WSL distribution.\r\n@\"%SystemRoot%\\System32\\wsl.exe\" {} {} %*\r\n",
            words.join(" "),
            self.nerdctl()
        )
    }

    /// Installs what is missing, and starts containerd.
    pub async fn initialize(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        self.install(sink.clone(), call).await?;
        self.start_daemon(sink, call).await
    }

    /// Resolves once containerd answers.
    pub async fn start_daemon(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        self.refuse_docker()?;
        let call = &call.in_steps();
        let lock = self.home.lock(call, START_TIMEOUT).await?;
        call.run(START_TIMEOUT, self.start_under(&lock, &sink)).await
    }

    async fn start_under(&self, lock: &Lock, sink: &Sink<RuntimeProgress>) -> Result<()> {
        if !self.is_installed() {
            return Err(Error::new(ErrorCode::NotInstalled, "containerd is not installed")
                .detail("distribution", self.distribution.clone())
                .hint("Call initialize() or install() first."));
        }
        let ready = || sink(RuntimeProgress::ready("containerd is ready"));
        if self.is_running().await {
            ready();
            return Ok(());
        }
        sink(RuntimeProgress::new(Phase::Boot, "Starting containerd in WSL"));
        // A containerd that does not answer blocks a new one.
        if self.wsl.running().await?.contains(&self.distribution) {
            self.wsl.terminate(&self.distribution).await?;
        }
        self.write("/run/lima-runtime.env", &proxies()).await?;
        let (wsl, distribution) = (self.wsl.clone(), self.distribution.clone());
        let launched = StartingDistribution { wsl, distribution, lock: lock.clone(), kept: false };
        let mut ended = self.launch()?;
        loop {
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.version());
            let answer = tokio::select! {
                answer = answer => answer,
                _ = &mut ended => return Err(self.failed().await),
            };
            if let Ok(Ok(version)) = answer {
                tracing::info!(version, distribution = self.distribution, "containerd is up");
                let certificates = certificates(&self.options.network.http.ca_certificates)?;
                registries::place(&self.guest, &self.options.registries, &certificates).await?;
                launched.keep();
                ready();
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Starts the `wsl.exe` that runs containerd, and reports its end. It outlives this process.
    fn launch(&self) -> Result<tokio::sync::oneshot::Receiver<()>> {
        let script = ["/bin/sh", "/etc/lima-runtime/daemon", "/run/lima-runtime.env"];
        let mut command = self.wsl.inside(&self.distribution, script);
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
            Error::new(ErrorCode::ContainerdNotReady, format!("wsl.exe could not be started: {e}")).source(e)
        })?;
        super::end_of(child)
    }

    async fn failed(&self) -> Error {
        let command = Command::new(["tail", "-n", "20", LOG_FILE]);
        let log = async { self.guest.boot(command).await?.output().await }.await.map(|o| o.stdout).unwrap_or_default();
        Error::new(ErrorCode::ContainerdNotReady, "containerd did not come up in the WSL distribution")
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
        let halt = async {
            self.guest
                .boot(Command::new(["sh", "-c", &[BEGAN, CONTAINERS, HALT_SCRIPT].concat()]))
                .await?
                .output()
                .await
        };
        if let Err(e) = halt.await {
            tracing::warn!(error = %e, "the containers were not asked to end");
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
            let (home, held) = (self.home.clone(), lock.clone());
            let all = ["wsl.json", "install.json", "wsl", "bin", "versions", "cache"];
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

//! Finds runtimes: probes all places at once, for a time too short for a person to notice.

use std::time::Duration;

use serde::Serialize;

use super::options::ContainerOptions;
use crate::{
    engine::{
        docker::{self, Endpoint, Probe},
        types::RuntimeType,
    },
    fetch::{FetchOptions, manifest::Part, platform::Platform},
    manager::{bundled::BundledRuntime, lima::LimaRuntime, payload::UserEngine},
    progress::Component,
};

/// Slightly more than Docker's own probe spends on a socket that hangs; detection shall take less than 300 ms.
const DETECT_TIMEOUT: Duration = Duration::from_millis(270);
/// The time for one socket, or one question to WSL.
#[cfg(any(target_os = "linux", windows))]
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// The time for a socket that sudo and a program must open.
#[cfg(target_os = "linux")]
const SUDO_PROBE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Answers now.
    Ready,
    /// Installed; a start brings it up.
    Stopped,
    /// Can be downloaded.
    Installable,
    Unavailable,
}

/// A place that was probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    pub endpoint: String,
    /// Where its address comes from.
    pub source: String,
    /// Why it was not used; `None` for the one that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A part that is still to be downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Download {
    pub component: Component,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// `RuntimeDetail` of the public API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    #[serde(rename = "type")]
    pub runtime: RuntimeType,
    pub state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What would make it available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Of a runtime of the application's own: what runs containers in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<UserEngine>,
    /// How much is still to be downloaded; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_bytes: Option<u64>,
    /// The parts of that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub downloads: Vec<Download>,
    /// Installed, but its start needs more files.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// The most memory it takes while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// How long its last start took here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_start_ms: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// The application ships it: installing needs no download.
    #[serde(skip)]
    pub bundled: bool,
    /// The containerd of the application's own.
    #[serde(skip)]
    pub own: bool,
}

impl Detail {
    pub(super) fn new(runtime: RuntimeType, state: State) -> Self {
        Self {
            runtime,
            state,
            version: None,
            endpoint: None,
            reason: None,
            hint: None,
            engine: None,
            download_bytes: None,
            downloads: Vec::new(),
            incomplete: false,
            memory_bytes: None,
            disk_bytes: None,
            last_start_ms: None,
            tried: Vec::new(),
            bundled: false,
            own: false,
        }
    }

    fn unavailable(runtime: RuntimeType, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::new(runtime, State::Unavailable) }
    }

    /// Notes what a start still fetches, by a manifest that needs no network. The file is small, so it is read in place.
    fn must_fetch(&mut self, network: &FetchOptions, parts: &[Part]) {
        let manifest = network.manifest_here().zip(Platform::current().ok());
        let bytes = |part: Part| {
            let (manifest, platform) = manifest.as_ref()?;
            manifest.find(part, *platform, &network.choice).ok()?.size()
        };
        self.downloads = parts.iter().map(|p| Download { component: p.component(), bytes: bytes(*p) }).collect();
        let sum = self.downloads.iter().map(|download| download.bytes).sum::<Option<u64>>();
        self.download_bytes = sum.filter(|sum| *sum > 0);
    }

    /// Usable without a download.
    fn usable(&self) -> bool {
        matches!(self.state, State::Ready | State::Stopped) || self.bundled
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detection {
    pub docker: bool,
    pub containerd: bool,
    pub lima: bool,
    pub details: Vec<Detail>,
}

impl Detection {
    pub(super) fn of(details: Vec<Detail>) -> Self {
        let usable = |runtime| details.iter().any(|d| d.runtime == runtime && d.usable());
        Self {
            docker: usable(RuntimeType::Docker),
            containerd: usable(RuntimeType::Containerd),
            lima: usable(RuntimeType::Lima),
            details,
        }
    }

    fn detail(&self, runtime: RuntimeType) -> Option<&Detail> {
        self.details.iter().find(|d| d.runtime == runtime)
    }

    pub(super) fn usable(&self, runtime: RuntimeType) -> bool {
        self.detail(runtime).is_some_and(Detail::usable)
    }

    pub(super) fn installable(&self, runtime: RuntimeType) -> bool {
        self.detail(runtime).is_some_and(|d| d.state == State::Installable)
    }

    /// Why it is not ready; ready to show.
    pub(super) fn reason(&self, runtime: RuntimeType) -> String {
        let detail = self.detail(runtime);
        detail.and_then(|d| d.reason.clone()).unwrap_or_else(|| match detail.map(|d| d.state) {
            Some(State::Installable) => "it is not installed".into(),
            _ => "it is not there".into(),
        })
    }
}

pub(super) async fn detect(options: &ContainerOptions, own: &BundledRuntime, runtime: &LimaRuntime) -> Detection {
    let (docker, containerd, lima) = tokio::join!(
        within(RuntimeType::Docker, docker(options)),
        within(RuntimeType::Containerd, containerd(options, own)),
        within(RuntimeType::Lima, lima(runtime)),
    );
    Detection::of(vec![docker, containerd, lima])
}

async fn within(runtime: RuntimeType, look: impl Future<Output = Detail>) -> Detail {
    tokio::time::timeout(DETECT_TIMEOUT, look)
        .await
        .unwrap_or_else(|_| Detail::unavailable(runtime, "it did not answer in time"))
}

const START_DOCKER: &str = "Start Docker, or install Docker Desktop, OrbStack or Docker Engine.";

async fn docker(options: &ContainerOptions) -> Detail {
    let docker = RuntimeType::Docker;
    let probes = match docker::probe(options.docker.host.as_deref()).await {
        Ok(probes) => probes,
        // An invalid DOCKER_HOST.
        Err(e) => {
            let hint = e.hint_text().map(str::to_owned);
            return Detail { hint, ..Detail::unavailable(docker, e.message()) };
        }
    };
    let tried = probes
        .iter()
        .map(|p| Tried { endpoint: p.endpoint.to_string(), source: p.source.clone(), reason: p.reason.clone() })
        .collect();
    if let Some(found) = probes.iter().find(|p| p.reachable) {
        return Detail {
            version: found.version.clone(),
            endpoint: Some(found.endpoint.to_string()),
            tried,
            ..Detail::new(docker, State::Ready)
        };
    }
    // Explain the one that a person can act on: a socket that exists.
    let absent = |p: &Probe| matches!(&p.endpoint, Endpoint::Unix(path) if !path.exists());
    let worth = probes.iter().find(|p| !absent(p)).or(if probes.len() == 1 { probes.first() } else { None });
    let reason = worth.and_then(|p| p.reason.clone()).unwrap_or_else(|| "No Docker engine was found".into());
    let endpoint = worth.map(|p| p.endpoint.to_string());
    Detail { endpoint, tried, hint: Some(START_DOCKER.into()), ..Detail::unavailable(docker, reason) }
}

#[cfg(unix)]
async fn lima(runtime: &LimaRuntime) -> Detail {
    use crate::{call::Call, fetch::record::Look, manager::lima::repair};

    let lima = RuntimeType::Lima;
    let engine = Some(runtime.engine());
    if rustix::process::geteuid().is_root() {
        let hint = Some("Run the application as an ordinary user.".to_owned());
        return Detail { hint, engine, ..Detail::unavailable(lima, "Lima refuses to run as root") };
    }
    let call = Call::default();
    let installed = runtime.is_installed(&call).await.unwrap_or(false);
    let state = if installed { State::Stopped } else { State::Installable };
    let mut detail = Detail { engine, ..Detail::new(lima, state) };
    detail.endpoint = Some(runtime.dir().display().to_string());
    if let Ok(resources) = runtime.resources() {
        (detail.memory_bytes, detail.disk_bytes) = (Some(resources.memory), Some(resources.disk));
    }
    if installed {
        match runtime.status(&call).await {
            Ok(status) => {
                detail.version = status.lima_version;
                detail.reason = status.reason;
                if status.state == repair::State::Running {
                    detail.state = State::Ready;
                }
            }
            Err(e) => detail.reason = Some(e.message().to_owned()),
        }
    } else {
        detail.bundled = runtime.has_pre_bundled(&call).await.unwrap_or(false);
    }
    if detail.state != State::Ready {
        let (home, archive) = (runtime.home().clone(), runtime.payload().part);
        let bundled = detail.bundled;
        let look = crate::task::blocking(move || {
            let absent = |part: &Part| !(bundled && *part == Part::Lima) && home.whole(*part, Look::Stat).is_none();
            Ok([Part::Lima, Part::Image, archive].into_iter().filter(absent).collect::<Vec<_>>())
        });
        let missing = look.await.unwrap_or_default();
        detail.incomplete = !missing.is_empty();
        detail.must_fetch(&runtime.options().network, &missing);
    }
    detail
}

#[cfg(not(unix))]
async fn lima(_: &LimaRuntime) -> Detail {
    Detail::unavailable(RuntimeType::Lima, "Lima runs on macOS and Linux")
}

/// The system's containerd or the one that an address names; without one, or with another engine, the application's own.
#[cfg(target_os = "linux")]
pub(super) async fn containerd(options: &ContainerOptions, own: &BundledRuntime) -> Detail {
    if own.engine() != UserEngine::Containerd {
        return own_containerd(own).await;
    }
    let found = given_containerd(options).await;
    if found.state == State::Ready || options.containerd.address.is_some() {
        return found;
    }
    Detail { tried: found.tried, ..own_containerd(own).await }
}

#[cfg(target_os = "linux")]
async fn own_containerd(own: &BundledRuntime) -> Detail {
    use crate::call::Call;

    let call = Call::default();
    let socket = match own.engine() {
        UserEngine::Containerd => own.paths().address,
        UserEngine::Docker => own.paths().docker_socket,
    };
    let endpoint = Some(format!("unix://{}", socket.display()));
    let engine = Some(own.engine());
    let detail = Detail { own: true, endpoint, engine, ..Detail::new(RuntimeType::Containerd, State::Ready) };
    if own.is_running().await {
        return detail;
    }
    let installed = own.is_installed(&call).await.unwrap_or(false);
    if let Some(e) = own.obstacle(installed) {
        let (reason, hint) = (Some(e.message().to_owned()), e.hint_text().map(str::to_owned));
        return Detail { state: State::Unavailable, reason, hint, ..detail };
    }
    if installed {
        return Detail { state: State::Stopped, ..detail };
    }
    let bundled = own.has_pre_bundled(&call).await.unwrap_or(false);
    let mut detail = Detail { state: State::Installable, bundled, ..detail };
    if !bundled {
        detail.must_fetch(&own.options().network, &own.parts());
    }
    detail
}

#[cfg(target_os = "linux")]
async fn given_containerd(options: &ContainerOptions) -> Detail {
    use std::{path::Path, sync::Arc};

    use crate::{engine::containerd::Api, guest::local::LocalGuest};

    let containerd = RuntimeType::Containerd;
    let place = &options.containerd;
    let address = place.address.clone().unwrap_or_else(|| "/run/containerd/containerd.sock".into());
    let path = address.strip_prefix("unix://").unwrap_or(&address).to_owned();
    let version = async {
        if !Path::new(&path).exists() {
            return Err(format!("There is no socket at {path}"));
        }
        let guest = LocalGuest::reaching(path.clone()).await;
        let probe = if guest.is_by_sudo() { SUDO_PROBE_TIMEOUT } else { PROBE_TIMEOUT };
        let api = Api::new(Arc::new(guest), "default").map_err(|e| e.message().to_owned())?;
        match tokio::time::timeout(probe, api.version()).await {
            Ok(answer) => answer.map_err(|e| e.message().to_owned()),
            Err(_) => Err(format!("The containerd at {path} does not answer")),
        }
    };
    let version = version.await;
    let source = if place.address.is_some() { "address" } else { "the system's containerd" };
    let tried = vec![Tried {
        endpoint: format!("unix://{path}"),
        source: source.into(),
        reason: version.as_ref().err().cloned(),
    }];
    let base = Detail { endpoint: Some(format!("unix://{path}")), tried, ..Detail::new(containerd, State::Ready) };
    let program = nerdctl(place.nerdctl_path.as_deref().map(Path::new));
    match version {
        Ok(version) => {
            let version = Some(version);
            // nerdctl creates and starts containers.
            if program.is_some() {
                return Detail { version, ..base };
            }
            let reason = Some("containerd answers, but there is no nerdctl".to_owned());
            let hint = Some("Install nerdctl, or name it in nerdctlPath.".to_owned());
            Detail { version, state: State::Unavailable, reason, hint, ..base }
        }
        Err(reason) => {
            let hint = Some("Start containerd, and give this user access to its socket.".to_owned());
            Detail { state: State::Unavailable, reason: Some(reason), hint, ..base }
        }
    }
}

/// containerd in the application's own WSL distribution.
#[cfg(windows)]
pub(super) async fn containerd(_: &ContainerOptions, own: &BundledRuntime) -> Detail {
    use crate::manager::bundled::wsl::WslState;

    let wsl = own.wsl();
    let endpoint = Some(format!("{} in the WSL distribution {}", wsl.socket(), wsl.distribution()));
    let engine = Some(own.engine());
    let detail = Detail { own: true, endpoint, engine, ..Detail::new(RuntimeType::Containerd, State::Ready) };
    match wsl.state(PROBE_TIMEOUT).await {
        WslState::Ready(version) => Detail { version: Some(version), ..detail },
        WslState::Stopped => Detail { state: State::Stopped, ..detail },
        WslState::Installable => {
            let bundled = wsl.has_pre_bundled();
            let mut detail = Detail { state: State::Installable, bundled, ..detail };
            if !bundled {
                detail.must_fetch(&own.options().network, &wsl.parts());
            }
            detail
        }
        WslState::Unavailable(e) => Detail {
            state: State::Unavailable,
            reason: Some(e.message().to_owned()),
            hint: e.hint_text().map(str::to_owned),
            ..detail
        },
    }
}

#[cfg(not(any(target_os = "linux", windows)))]
#[expect(clippy::unused_async, reason = "as on Linux")]
pub(super) async fn containerd(_: &ContainerOptions, _: &BundledRuntime) -> Detail {
    Detail::unavailable(RuntimeType::Containerd, "containerd runs in the Lima VM on macOS")
}

/// The path of nerdctl: the given one, else from the `PATH`.
#[cfg(target_os = "linux")]
fn nerdctl(given: Option<&std::path::Path>) -> Option<std::path::PathBuf> {
    if let Some(path) = given {
        return path.is_file().then(|| path.to_owned());
    }
    crate::env_vars::program("nerdctl")
}

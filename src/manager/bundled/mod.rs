//! An engine of the application's own: containerd (nerdctl-full) or Docker. On Linux: programs in our directory, the daemon
//! beside any other one. On Windows: in a WSL2 distribution (`wsl`).
//!
//! On Linux the daemon gets its own mount namespace, in which the paths that its programs hard-code (`/run/containerd`,
//! `/run/nerdctl`, `/var/lib/cni`; `/run/docker`, `/etc/docker`) are our directories. So it meets no other engine of this
//! machine and leaves nothing there. What each engine keeps stays when the other one runs; one runs at a time.

mod bridge;
#[cfg(target_os = "linux")]
mod daemon;
mod dockerd;
#[cfg(unix)]
mod engine;
#[cfg(target_os = "linux")]
mod files;
#[cfg(not(windows))]
mod install;
mod left;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod rootless;
mod routes;
#[cfg(target_os = "linux")]
mod rules;
#[cfg(windows)]
mod windows;
pub mod wsl;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::payload::{
    self, Payload, UserEngine,
    context::{self, ContextName, ContextOptions},
};
use crate::{
    call::Call,
    engine::{containerd::BuildkitPlaces, validate},
    error::{Error, Result},
    fetch::{bundle::Bundle, install::Home},
    manager::registries::RegistryOptions,
};

crate::fetch::options_with_network! {
    /// `BundledRuntimeManager`'s options in the public API.
    pub struct BundledOptions {
        pub app_name: Option<String>,
        pub app_dir: Option<PathBuf>,
        pub data_dir: Option<PathBuf>,
        pub bundled_dir: Option<PathBuf>,
        /// Electron's `process.resourcesPath`, which the facade reads.
        #[serde(skip)]
        pub resources_path: Option<PathBuf>,
        /// What runs the containers.
        #[serde(deserialize_with = "payload::given")]
        pub engine: Option<UserEngine>,
        pub registries: RegistryOptions,
    }
}

/// What to do about an engine that does not answer.
const MEND: &str = "Start it again: startDaemon() mends it, and says what it logged.";

impl BundledOptions {
    /// The value of the application's label.
    fn label(&self) -> &str {
        self.app_name.as_deref().unwrap_or("kai")
    }

    fn bundle_dirs(&self) -> Vec<PathBuf> {
        match &self.bundled_dir {
            Some(dir) => vec![dir.clone()],
            None => Bundle::usual_dirs(self.resources_path.as_deref()),
        }
    }
}

/// Reports when a daemon that we started ends. Nobody else waits for it, and as a zombie it would look alive to others: a
/// thread of its own waits, as long as the daemon lives.
fn end_of(mut daemon: std::process::Child) -> Result<tokio::sync::oneshot::Receiver<()>> {
    let (send, ended) = tokio::sync::oneshot::channel();
    let wait = move || {
        let _ = daemon.wait();
        let _ = send.send(());
    };
    let thread = std::thread::Builder::new().name("lima-runtime-containerd".into());
    thread.spawn(wait).map_err(|e| Error::internal(format!("Cannot start a thread: {e}")))?;
    Ok(ended)
}

pub struct BundledRuntime {
    options: BundledOptions,
    home: Home,
    #[cfg(windows)]
    wsl: wsl::WslRuntime,
}

/// Where the programs and the socket are, or will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundledPaths {
    pub engine: UserEngine,
    /// Our wrapper of docker, and the socket that it uses.
    pub docker: PathBuf,
    pub docker_socket: PathBuf,
    /// Our wrapper, which runs nerdctl for this daemon without its caller's environment.
    pub nerdctl: PathBuf,
    /// Runs a command in the daemon's namespaces.
    #[cfg(not(windows))]
    pub inside: PathBuf,
    /// The path of nerdctl in the distribution, which the engine runs.
    #[cfg(windows)]
    pub guest_nerdctl: String,
    /// The raw program.
    pub containerd: PathBuf,
    pub address: PathBuf,
    /// nerdctl's data: names, logs and volumes.
    pub data_root: PathBuf,
    /// The directory of the CNI plugins; `networks` has the networks' configurations.
    pub cni: PathBuf,
    pub networks: PathBuf,
    pub buildkit: BuildkitPlaces,
}

impl BundledRuntime {
    pub fn new(options: BundledOptions) -> Result<Self> {
        if let Some(app) = &options.app_name {
            validate::app_name(app)?;
        }
        options.registries.check("", options.engine.unwrap_or_default())?;
        let dir = match &options.data_dir {
            Some(dir) => dir.clone(),
            None => super::lima::app_dir(options.app_dir.as_deref(), options.app_name.as_deref())?.join("containerd"),
        };
        let dir = std::path::absolute(&dir).map_err(|e| Error::invalid("dataDir", e))?;
        let home = Home::new(dir);
        #[cfg(windows)]
        let wsl = wsl::WslRuntime::new(options.clone(), home.clone(), crate::guest::wsl::Wsl::default());
        Ok(Self {
            options,
            home,
            #[cfg(windows)]
            wsl,
        })
    }

    pub fn options(&self) -> &BundledOptions {
        &self.options
    }

    pub fn engine(&self) -> UserEngine {
        self.options.engine.unwrap_or_default()
    }

    pub fn payload(&self) -> &'static Payload {
        self.engine().payload()
    }

    /// `NOT_INSTALLED` where it is the other engine.
    pub fn must_have(&self, engine: UserEngine) -> Result<()> {
        self.engine().must_be(engine, "here")
    }

    /// `NOT_INSTALLED` where containerd is the engine; other codes as of [`context::register`].
    pub async fn register_docker_context(&self, options: ContextOptions, call: &Call) -> Result<()> {
        self.must_have(UserEngine::Docker)?;
        context::register(options, self.app_name(), self.paths().docker_socket, call).await
    }

    pub async fn unregister_docker_context(&self, options: ContextName, call: &Call) -> Result<()> {
        context::unregister(options, self.app_name(), self.paths().docker_socket, call).await
    }

    fn app_name(&self) -> &str {
        self.options.app_name.as_deref().unwrap_or(super::lima::APP_NAME)
    }

    /// `<dataDir>`.
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    #[cfg(not(windows))]
    pub fn paths(&self) -> BundledPaths {
        let dir = self.dir();
        BundledPaths {
            engine: self.engine(),
            docker: dir.join("bin").join("docker"),
            docker_socket: dir.join("sock").join("docker.sock"),
            nerdctl: dir.join("bin").join("nerdctl"),
            inside: dir.join("bin").join("inside"),
            containerd: self.programs().join("containerd"),
            address: self.run_dir().join("containerd.sock"),
            data_root: dir.join("data"),
            cni: self.home.current().join("libexec").join("cni"),
            networks: dir.join("networks"),
            buildkit: BuildkitPlaces {
                programs: self.programs().display().to_string(),
                settings: dir.join("buildkit").display().to_string(),
                cache: dir.join("buildkit").join("cache").display().to_string(),
            },
        }
    }

    #[cfg(not(windows))]
    fn programs(&self) -> PathBuf {
        self.programs_of(self.engine())
    }

    #[cfg(not(windows))]
    fn programs_of(&self, engine: UserEngine) -> PathBuf {
        let payload = engine.payload();
        self.home.link(payload.part).join(payload.local.programs)
    }

    /// Files of a running daemon: sockets, state, its identity.
    #[cfg(not(windows))]
    fn run_dir(&self) -> PathBuf {
        self.dir().join("run")
    }
}

#[cfg(not(any(target_os = "linux", windows)))]
#[expect(clippy::unused_async, reason = "as on Linux")]
mod elsewhere {
    use super::BundledRuntime;
    use crate::{
        call::Call,
        error::{Error, ErrorCode, Result},
        fetch::lock::Lock,
        progress::{RuntimeProgress, Sink},
    };

    impl BundledRuntime {
        pub async fn start_daemon(&self, _sink: Sink<RuntimeProgress>, _call: &Call) -> Result<()> {
            Err(Error::new(ErrorCode::UnsupportedPlatform, "An engine runs containers on Linux only")
                .hint("Use Lima on macOS."))
        }

        pub async fn stop_daemon(&self, _call: &Call) -> Result<()> {
            Ok(())
        }

        pub async fn is_running(&self) -> bool {
            false
        }

        pub(super) async fn stop_under(&self, _lock: &Lock) -> Result<()> {
            Ok(())
        }

        pub(super) async fn remove_data(&self) -> Result<()> {
            Ok(())
        }
    }
}

#[cfg(all(test, not(windows)))]
mod tests {
    use super::*;

    #[test]
    fn everything_lies_below_one_directory() {
        let runtime = |json: serde_json::Value| BundledRuntime::new(serde_json::from_value(json).unwrap()).unwrap();
        let r = runtime(serde_json::json!({ "appDir": "/a" }));
        assert_eq!(r.dir(), Path::new("/a/containerd"));
        let paths = r.paths();
        assert_eq!(paths.containerd, Path::new("/a/containerd/current/bin/containerd"));
        assert_eq!(paths.address, Path::new("/a/containerd/run/containerd.sock"));
        assert_eq!(runtime(serde_json::json!({ "dataDir": "/d", "appDir": "/a" })).dir(), Path::new("/d"));
    }
}

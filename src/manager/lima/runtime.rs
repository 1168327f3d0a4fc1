//! The runtime's options, directories and saved state. The files beside add what it does.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::state::IdleStop;
#[cfg(not(unix))]
use super::state::{Resources, VmType};
#[cfg(unix)]
use super::{
    boot::{BootId, KeptConnection},
    idle::Idle,
    resources::Resources,
    uses::Uses,
};
use crate::{
    app_dir::{APP_NAME, app_dir},
    engine::validate,
    error::{Error, Result},
    fetch::install::Home,
    manager::{
        payload::{Payload, UserEngine},
        registries::RegistryOptions,
    },
};
#[cfg(unix)]
use crate::{
    error::ErrorCode,
    lima::{paths, template::VmType},
    manager::socket::Served,
    mutex::Mutex,
};

/// The instance's name that applications expect. Lima 1.x would give it port 60022; we choose a free one.
const INSTANCE: &str = "default";
/// nerdctl's own default.
const NAMESPACE: &str = "default";

crate::fetch::options_with_network! {
    /// `LimaRuntimeOptions` of the public API.
    pub struct LimaOptions {
        pub app_name: Option<String>,
        pub app_dir: Option<PathBuf>,
        pub data_dir: Option<PathBuf>,
        pub bundled_dir: Option<PathBuf>,
        /// Electron's `process.resourcesPath`, which the facade reads.
        #[serde(skip)]
        pub resources_path: Option<PathBuf>,
        pub instance: Option<String>,
        pub resources: Resources,
        /// A Lima template in place of the built-in one.
        pub template: Option<PathBuf>,
        /// containerd's namespace, of the adapter, of commands and of the wrapper.
        pub namespace: Option<String>,
        pub vm_type: Option<VmType>,
        pub rosetta: Option<bool>,
        /// What runs containers in the VM.
        #[serde(deserialize_with = "crate::manager::payload::given")]
        pub engine: Option<UserEngine>,
        pub registries: RegistryOptions,
        /// The engine's socket in the guest, for a template that has it elsewhere.
        pub engine_socket: Option<String>,
        /// How long nobody may use the VM before it is stopped.
        pub idle_stop_ms: Option<IdleStop>,
    } with image_variant
}

/// Cheap to clone; the clones share the connection to the VM.
#[derive(Clone)]
pub struct LimaRuntime {
    pub(super) options: Arc<LimaOptions>,
    pub(super) home: Home,
    #[cfg(unix)]
    pub(super) kept: Arc<tokio::sync::Mutex<Option<KeptConnection>>>,
    /// The Docker socket on the host.
    #[cfg(unix)]
    pub(super) served: Arc<tokio::sync::Mutex<Option<Served>>>,
    #[cfg(unix)]
    pub(super) unreachable: Arc<Mutex<Option<BootId>>>,
    /// Whether it was warned of a foreign `limaHome`.
    #[cfg(unix)]
    pub(super) warned: Arc<std::sync::atomic::AtomicBool>,
    #[cfg(unix)]
    pub(super) uses: Uses,
    #[cfg(unix)]
    pub(super) idle: Option<Arc<Idle>>,
}

/// The paths of the programs, installed or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimaPaths {
    /// limactl itself.
    pub limactl: PathBuf,
    /// Our wrappers, which run a command or nerdctl in the VM.
    pub lima: PathBuf,
    pub nerdctl: PathBuf,
    pub docker: PathBuf,
    /// On the host, while the VM runs.
    pub containerd_socket: PathBuf,
    /// On the host, while the application lives.
    pub docker_socket: PathBuf,
}

/// The contents of `<dataDir>/state.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimaState {
    /// A short directory instead of `<dataDir>/vms`, where that is too long for a socket's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lima_home: Option<PathBuf>,
    /// The resources from `configure()`, which take precedence over the options.
    pub resources: Resources,
    /// A rollback put them back: the versions stay until somebody asks for an upgrade.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

impl LimaRuntime {
    pub fn new(options: LimaOptions) -> Result<Self> {
        if let Some(name) = options.namespace.as_deref().filter(|name| !is_namespace(name)) {
            let problem =
                format!("{name:?} is not made of letters and digits, with single '.', '_' or '-' between them");
            return Err(Error::invalid("namespace", problem));
        }
        // Both are parts of paths that are removed.
        if let Some(app) = &options.app_name {
            validate::app_name(app)?;
        }
        #[cfg(unix)]
        if let Some(name) = &options.instance {
            paths::check_name("instance", name)?;
        }
        options.registries.check("", options.engine.unwrap_or_default())?;
        let home = Home::new(data_dir(&options)?);
        Ok(Self {
            #[cfg(unix)]
            uses: Uses::default(),
            #[cfg(unix)]
            idle: options.idle_stop_ms.map(|IdleStop(limit)| Arc::new(Idle::new(limit))),
            options: Arc::new(options),
            home,
            #[cfg(unix)]
            kept: Arc::default(),
            #[cfg(unix)]
            served: Arc::default(),
            #[cfg(unix)]
            unreachable: Arc::default(),
            #[cfg(unix)]
            warned: Arc::default(),
        })
    }

    pub fn options(&self) -> &LimaOptions {
        &self.options
    }

    /// `<dataDir>`.
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// The installed files.
    pub fn home(&self) -> &Home {
        &self.home
    }

    pub fn instance(&self) -> &str {
        self.options.instance.as_deref().unwrap_or(INSTANCE)
    }

    pub fn engine(&self) -> UserEngine {
        self.options.engine.unwrap_or_default()
    }

    pub fn payload(&self) -> &'static Payload {
        self.engine().payload()
    }

    /// `NOT_INSTALLED` when the VM has the other engine.
    pub fn must_have(&self, engine: UserEngine) -> Result<()> {
        self.engine().must_be(engine, "in the VM")
    }

    /// The engine's socket in the guest.
    #[cfg(unix)]
    pub(super) fn engine_socket(&self) -> &str {
        self.options.engine_socket.as_deref().unwrap_or(self.payload().socket)
    }

    /// containerd's namespace.
    pub fn namespace(&self) -> &str {
        self.options.namespace.as_deref().unwrap_or(NAMESPACE)
    }

    /// The contents of `state.json`, without a directory of VMs that we cannot have chosen: we remove what lies in it.
    pub fn state(&self) -> LimaState {
        let state = self.recorded_state();
        #[cfg(unix)]
        let state = self.without_foreign_home(state);
        state
    }

    #[cfg(unix)]
    fn without_foreign_home(&self, mut state: LimaState) -> LimaState {
        if let Some(foreign) = state.lima_home.take_if(|home| !self.chose(home))
            && !self.warned.load(std::sync::atomic::Ordering::Relaxed)
        {
            let (file, foreign) = (self.dir().join("state.json"), foreign.display());
            let text =
                format!("{} names {foreign} as limaHome, which is none of ours: it is left alone", file.display());
            let warning = Error::new(ErrorCode::InvalidState, text)
                .detail("path", file.display().to_string())
                .hint("A VM that lies there is found again with the appName and HOME that it was made with.");
            self.warned.fetch_or(crate::call::warn(warning), std::sync::atomic::Ordering::Relaxed);
        }
        state
    }

    pub(super) fn recorded_state(&self) -> LimaState {
        crate::fetch::disk::read_json(&self.dir().join("state.json")).unwrap_or_default()
    }

    #[cfg(unix)]
    fn chose(&self, lima_home: &Path) -> bool {
        let user = home::home_dir().unwrap_or_default();
        crate::lima::paths::is_ours(lima_home, self.dir(), &user, self.app_name())
    }

    pub(super) fn app_name(&self) -> &str {
        self.options.app_name.as_deref().unwrap_or(APP_NAME)
    }

    /// `LIMA_HOME`, which holds only instances (docs/reference/lima.md#lima_home).
    pub fn lima_home(&self) -> PathBuf {
        self.state().lima_home.unwrap_or_else(|| self.dir().join("vms"))
    }

    pub fn paths(&self) -> LimaPaths {
        let bin = self.dir().join("bin");
        LimaPaths {
            limactl: bin.join("limactl"),
            lima: bin.join("lima"),
            nerdctl: bin.join("nerdctl"),
            docker: bin.join("docker"),
            docker_socket: self.dir().join("sock").join("docker.sock"),
            containerd_socket: self.lima_home().join(self.instance()).join("sock").join("containerd.sock"),
        }
    }
}

/// Whether containerd accepts it as an identifier.
fn is_namespace(name: &str) -> bool {
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric());
    name.len() <= 76 && name.split(['.', '_', '-']).all(word)
}

fn data_dir(options: &LimaOptions) -> Result<PathBuf> {
    let dir = match &options.data_dir {
        Some(dir) => dir.clone(),
        None => app_dir(options.app_dir.as_deref(), options.app_name.as_deref())?.join("lima"),
    };
    std::path::absolute(&dir).map_err(|e| Error::invalid("dataDir", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_follow_the_options() {
        let runtime = |json: serde_json::Value| LimaRuntime::new(serde_json::from_value(json).unwrap());
        let r = runtime(serde_json::json!({ "dataDir": "/d", "appDir": "/a", "resources": { "cpus": 2 } })).unwrap();
        assert_eq!(r.dir(), Path::new("/d"));
        assert_eq!(r.paths().limactl, Path::new("/d/bin/limactl"));
        assert_eq!(r.paths().containerd_socket, Path::new("/d/vms/default/sock/containerd.sock"));
        assert_eq!(runtime(serde_json::json!({ "appDir": "/a" })).unwrap().dir(), Path::new("/a/lima"));
        let named = runtime(serde_json::json!({ "appName": "other" })).unwrap();
        assert!(named.dir().ends_with("other/lima"));
        for bad in ["../x", "", ".x"] {
            for options in
                [serde_json::json!({ "appName": bad }), serde_json::json!({ "appName": bad, "dataDir": "/d" })]
            {
                let e = runtime(options).map(|_| ()).unwrap_err();
                assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("appName")));
            }
        }
    }
}

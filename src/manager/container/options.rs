//! The application's options, and the runtime that it prefers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    engine::{docker::DockerOptions, types::RuntimeType},
    manager::{
        lima::LimaOptions,
        payload::{UserEngine, given},
        registries::RegistryOptions,
    },
};

/// `ContainerManagerOptions` of the public API.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContainerOptions {
    pub preferred: Option<Preference>,
    pub install_if_missing: bool,
    pub app_name: Option<String>,
    pub app_dir: Option<PathBuf>,
    pub docker: DockerOptions,
    pub containerd: crate::engine::containerd::ContainerdOptions,
    /// What runs containers in a runtime of the application's own.
    #[serde(deserialize_with = "given")]
    pub engine: Option<UserEngine>,
    /// Of a VM whose options name none, and of the bundled runtime.
    pub registries: RegistryOptions,
    /// Absent, its `appName`, `appDir` and `engine` are those above.
    pub lima: LimaOptions,
}

/// A wish for a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    Auto,
    Docker,
    Containerd,
    Lima,
}

impl Preference {
    /// `None` for [`Preference::Auto`].
    pub fn runtime(self) -> Option<RuntimeType> {
        match self {
            Self::Auto => None,
            Self::Docker => Some(RuntimeType::Docker),
            Self::Containerd => Some(RuntimeType::Containerd),
            Self::Lima => Some(RuntimeType::Lima),
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        serde_json::from_value(name.into()).ok()
    }
}

impl From<RuntimeType> for Preference {
    fn from(runtime: RuntimeType) -> Self {
        match runtime {
            RuntimeType::Docker => Self::Docker,
            RuntimeType::Containerd => Self::Containerd,
            RuntimeType::Lima => Self::Lima,
        }
    }
}

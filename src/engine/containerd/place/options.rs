//! What names a containerd and its nerdctl.

use serde::{Deserialize, Serialize};

/// `new ContainerdAdapter(options)`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContainerdOptions {
    /// containerd's socket; found when absent.
    pub address: Option<String>,
    pub nerdctl_path: Option<String>,
    pub namespace: Option<String>,
    pub app_name: Option<String>,
    pub data_root: Option<String>,
    pub cni_path: Option<String>,
    pub cni_netconf_path: Option<String>,
    pub inside_path: Option<String>,
    pub exclusive: bool,
    pub buildkit: Option<BuildkitPlaces>,
}

/// A BuildKit of an engine of the application's own: it runs while something is built. Paths where the engine is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildkitPlaces {
    pub programs: String,
    /// The directory of its configuration and certificates.
    pub settings: String,
    pub cache: String,
}

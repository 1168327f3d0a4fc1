//! What names a containerd and its nerdctl.

use serde::Deserialize;

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
}

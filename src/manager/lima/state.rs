//! What a VM is and what state it is in, as the public API says it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    NotInstalled,
    NotCreated,
    Stopped,
    Starting,
    Running,
    Stopping,
    /// `start()` repairs it.
    Broken,
}

/// `getStatus()`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub state: State,
    /// When the state is not what one would expect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of the Lima that made the VM, else of the one installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lima_version: Option<String>,
    /// What the VM has, or what the first start will give it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<VmResources>,
    /// While the VM runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_port: Option<u16>,
}

impl From<State> for Status {
    fn from(state: State) -> Self {
        Self { state, reason: None, lima_version: None, resources: None, ssh_port: None }
    }
}

/// `VmResources`, settled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VmResources {
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub disk: u64,
    pub mounts: Vec<MountOption>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountOption {
    pub location: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_point: Option<String>,
    #[serde(default)]
    pub writable: bool,
}

/// `getVMInfo()`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VmInfo {
    pub name: String,
    pub status: State,
    pub dir: PathBuf,
    /// `aarch64` or `x86_64`.
    pub arch: String,
    pub vm_type: String,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub disk: u64,
    /// While the VM runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_port: Option<u16>,
    pub lima_version: String,
}

/// What `configure()` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configured {
    /// The VM runs with other resources until it is started again.
    pub restart_required: bool,
}

/// One check of `diagnose()`, ready to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiagnosticCheck {
    /// Stable.
    pub id: &'static str,
    pub title: &'static str,
    pub status: Verdict,
    pub detail: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Warn,
    Fail,
    /// It does not apply here, or not now.
    Skipped,
}

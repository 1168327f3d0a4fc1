//! A VM and its state, as in the public API.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de::Error};

#[cfg(unix)]
use crate::lima::data_disk::KeptData;
use crate::{
    fetch::{digest::Digest, manifest::BakedEngine},
    manager::payload::left::LeftContainer,
    progress::RuntimeProgress,
};

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
    /// Set when the state is not the expected one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It was stopped because nobody used it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// The version of Lima that made the VM, else the installed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lima_version: Option<String>,
    /// What the VM has, or what the first start will give it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<VmResources>,
    /// While the VM runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_port: Option<u16>,
    /// Without a VM: what the next one takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_data: Option<KeptData>,
    /// Absent without a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousVm>,
    /// What the engine holds that the VM had before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<LeftContainer>,
}

impl From<State> for Status {
    fn from(state: State) -> Self {
        Self {
            state,
            reason: None,
            idle: false,
            lima_version: None,
            resources: None,
            ssh_port: None,
            kept_data: None,
            previous: None,
            left: Vec::new(),
        }
    }
}

/// `idleStopMs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleStop(pub Duration);

impl<'de> Deserialize<'de> for IdleStop {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // As Node's own timers take them.
        const MOST: f64 = i32::MAX as f64;
        let ms = f64::deserialize(d)?;
        if ms.fract() == 0.0 && (1_000.0..=MOST).contains(&ms) {
            return Ok(Self(Duration::from_secs_f64(ms / 1_000.0)));
        }
        Err(D::Error::custom(format!("must be a whole number of milliseconds from 1000 to {MOST}, not {ms}")))
    }
}

/// What happens to a VM by its idleness.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum IdleEvent {
    Progress(RuntimeProgress),
    /// It was stopped or started, or that failed.
    Settled,
}

/// `delete()`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeleteOptions {
    /// Keep what the engines hold, for the next VM.
    pub keep_data: bool,
}

/// What the way back from an upgrade may cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyMode {
    /// Neither time nor space: there is one where the file system clones files.
    #[default]
    Auto,
    /// The bytes that the VM takes.
    Always,
    Never,
}

/// `upgrade()`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct UpgradeOptions {
    pub copy: CopyMode,
}

/// `bake()`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BakeOptions {
    /// The file to write.
    pub output: PathBuf,
    /// Where the image will be: then a manifest is written beside it that names it.
    pub url: Option<String>,
}

/// What `bake()` has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BakedImage {
    pub path: PathBuf,
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    pub engine: BakedEngine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<PathBuf>,
}

/// The VM before its last upgrade, to which a rollback leads.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviousVm {
    /// Milliseconds since 1970.
    pub created: u64,
    /// By the names of the option `versions`.
    pub versions: BTreeMap<&'static str, String>,
    /// Bytes, if it shares none of them with the VM.
    pub size: u64,
}

/// `VmResources`, complete.
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

/// The answer of `configure()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configured {
    /// The running VM has other resources until its next start.
    pub restart_required: bool,
}

/// One check of `diagnose()`, ready to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiagnosticCheck {
    /// A stable name.
    pub id: &'static str,
    pub title: &'static str,
    pub status: Verdict,
    pub detail: String,
    /// What to do, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Warn,
    Fail,
    /// Does not apply here, or not now.
    Skipped,
}

/// Lima has no VMs elsewhere.
#[cfg(not(unix))]
type KeptData = serde_json::Value;
#[cfg(not(unix))]
pub type Resources = serde_json::Value;
#[cfg(not(unix))]
pub type VmType = serde_json::Value;

//! The domain types, as they are passed to JavaScript (serde, camelCase); `index.d.ts` documents them. Times are
//! milliseconds since the Unix epoch, sizes are bytes.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use super::config::types::*;

/// The sum of an engine's counts, which may be any numbers.
pub(super) fn total(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
}

pub type Labels = BTreeMap<String, String>;
/// Milliseconds since the Unix epoch; js/ turns it into a `Date`.
pub type Millis = i64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeType {
    Docker,
    Containerd,
    Lima,
}

/// The label on everything that we create; its value is the `appName`. On an engine that is not ours, `prune` is limited to
/// it.
pub const APP_LABEL: &str = "lima-runtime.app";

// ---- what a caller asks for -------------------------------------------------------------------------------------
// A field that nobody knows is refused: of a misspelt option a default would come that nobody wanted.

/// A container to be created: the public `ContainerConfig`, and in `docker` every field of Docker's create body that the
/// public type has no name for, so that a Docker API served from this crate loses nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "as the public type has them")]
pub struct ContainerSpec {
    pub name: String,
    pub image: String,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Container port (`80`, `80/udp`) to host port (`8080`, `127.0.0.1:8080`).
    #[serde(default)]
    pub ports: BTreeMap<String, String>,
    #[serde(default)]
    pub volumes: Vec<VolumeMount>,
    #[serde(default)]
    pub networks: Vec<String>,
    #[serde(default)]
    pub command: Vec<String>,
    pub healthcheck: Option<Healthcheck>,
    pub restart: Option<RestartPolicy>,
    #[serde(default)]
    pub labels: Labels,
    pub platform: Option<String>,
    /// For pulling an image that is missing.
    #[serde(default)]
    pub credentials: StoredCredentials,

    // The process.
    /// An empty list takes the image's own away.
    pub entrypoint: Option<Vec<String>>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    #[serde(default)]
    pub tty: bool,
    /// Standard input stays open.
    #[serde(default)]
    pub stdin: bool,
    pub init: Option<bool>,
    #[serde(default)]
    pub auto_remove: bool,
    pub stop_signal: Option<String>,
    /// Seconds.
    pub stop_timeout: Option<f64>,
    #[serde(default)]
    pub resources: Resources,

    // Its files.
    /// By the path in the container.
    #[serde(default)]
    pub tmpfs: BTreeMap<String, TmpfsOptions>,
    #[serde(default)]
    pub mounts: Vec<MountSpec>,
    #[serde(default)]
    pub read_only_rootfs: bool,

    // Its powers.
    #[serde(default)]
    pub privileged: bool,
    #[serde(default)]
    pub cap_add: Vec<String>,
    #[serde(default)]
    pub cap_drop: Vec<String>,
    #[serde(default)]
    pub security_opt: Vec<String>,
    #[serde(default)]
    pub group_add: Vec<String>,
    /// `/dev/x`, `/dev/x:/dev/y`, `/dev/x:/dev/y:rw`.
    #[serde(default)]
    pub devices: Vec<String>,
    pub gpus: Option<Gpus>,
    #[serde(default)]
    pub ulimits: BTreeMap<String, Ulimit>,
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,

    // Its network.
    /// Name to address, or `host-gateway`.
    #[serde(default)]
    pub extra_hosts: BTreeMap<String, String>,
    #[serde(default)]
    pub dns: Vec<String>,
    #[serde(default)]
    pub dns_search: Vec<String>,
    #[serde(default)]
    pub dns_options: Vec<String>,
    /// `none`, `host`, or `container:` and an id or name.
    pub network_mode: Option<String>,
    /// By the network, as `networks` names it.
    #[serde(default)]
    pub network_options: BTreeMap<String, EndpointOptions>,

    // The engine's part.
    pub logging: Option<Logging>,
    pub runtime: Option<String>,
    pub pid_mode: Option<String>,
    pub ipc_mode: Option<String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,

    #[serde(skip)]
    pub docker: Map<String, Value>,
}

/// What of a container can be changed later.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerUpdate {
    pub resources: Option<Resources>,
    pub restart: Option<RestartPolicy>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeMount {
    /// An absolute path on the host, or a volume's name.
    pub host: String,
    pub container: String,
    #[serde(default)]
    pub read_only: bool,
}

/// Times in milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Healthcheck {
    pub test: Vec<String>,
    pub interval: f64,
    pub timeout: f64,
    pub retries: f64,
    pub start_period: Option<f64>,
    /// Between two checks of the start period.
    pub start_interval: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    No,
    Always,
    OnFailure,
    UnlessStopped,
}

pub type Filters = BTreeMap<String, Vec<String>>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListOptions {
    pub all: bool,
    pub filters: Filters,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchOptions {
    pub filters: Filters,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogOptions {
    pub follow: bool,
    /// Only the last lines; all if absent.
    pub tail: Option<f64>,
    /// Unix time in seconds, perhaps with a fraction.
    pub since: Option<f64>,
    pub timestamps: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { follow: false, tail: None, since: None, timestamps: false, stdout: true, stderr: true }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullOptions {
    pub platform: Option<String>,
    pub auth: Option<RegistryAuth>,
    #[serde(default)]
    pub credentials: StoredCredentials,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushOptions {
    pub auth: Option<RegistryAuth>,
    #[serde(default)]
    pub credentials: StoredCredentials,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitOptions {
    /// The new image's.
    pub reference: String,
    pub message: Option<String>,
    pub author: Option<String>,
    /// Whether its processes stand still meanwhile; by default they do.
    pub pause: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyFromOptions {
    /// A directory of this computer to unpack into.
    pub to: Option<String>,
}

/// What is at a path in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathKind {
    Directory,
    /// Anything that is neither a directory nor a link.
    File,
    /// A link, and the path in the container to which it leads; `None` where it leads nowhere.
    Link(Option<String>),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct BuildOptions {
    /// A path in the context.
    pub dockerfile: Option<String>,
    pub tags: Vec<String>,
    pub args: BTreeMap<String, String>,
    /// A stage.
    pub target: Option<String>,
    pub platform: Option<String>,
    pub labels: Labels,
    pub secrets: BTreeMap<String, Secret>,
    pub cache_from: Vec<String>,
    pub no_cache: bool,
    /// Look in the registries for newer images of those that it begins with.
    pub pull: bool,
    pub credentials: StoredCredentials,
}

/// What all methods about a project of compose have. Not `Debug`: `env` may hold secrets.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ComposeOptions {
    pub project_name: Option<String>,
    /// Of an object: what its relative paths are relative to.
    pub directory: Option<String>,
    pub env: BTreeMap<String, String>,
    pub profiles: Vec<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ComposeUpOptions {
    pub project_name: Option<String>,
    pub directory: Option<String>,
    pub env: BTreeMap<String, String>,
    pub profiles: Vec<String>,
    /// All when empty.
    pub services: Vec<String>,
    pub pull: Option<ComposePull>,
    pub build: bool,
    /// Until what has a healthcheck is healthy.
    pub wait: bool,
    pub remove_orphans: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ComposeDownOptions {
    pub project_name: Option<String>,
    pub directory: Option<String>,
    pub env: BTreeMap<String, String>,
    pub profiles: Vec<String>,
    pub volumes: bool,
    pub remove_orphans: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ComposePsOptions {
    pub project_name: Option<String>,
}

/// When images are fetched; without one, as the project says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComposePull {
    Always,
    Missing,
    Never,
}

impl ComposePull {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Missing => "missing",
            Self::Never => "never",
        }
    }
}

/// What nobody is told. It crosses in base64.
#[derive(Clone)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        // Without a word of it in the error.
        let unread = |_| serde::de::Error::custom("is neither a string nor bytes");
        let text = serde_json::Value::deserialize(from)?;
        let text = text.as_str().unwrap_or("%");
        STANDARD.decode(text).map(Self).map_err(unread)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuiltImage {
    pub id: String,
}

/// Which credentials of docker's configuration a pull or a push without `auth` may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredCredentials {
    #[default]
    User,
    None,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistryAuth({})", self.username)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkOptions {
    pub driver: Option<String>,
    pub internal: bool,
    pub attachable: bool,
    pub labels: Labels,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeOptions {
    pub driver: Option<String>,
    #[serde(default)]
    pub labels: Labels,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneOptions {
    pub containers: Option<bool>,
    pub images: Option<bool>,
    pub volumes: Option<bool>,
    pub networks: Option<bool>,
    pub scope: Option<PruneScope>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PruneScope {
    App,
    Engine,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecOptions {
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    /// Bytes of standard output and standard error together.
    pub max_output: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpawnOptions {
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    #[serde(default)]
    pub privileged: bool,
    #[serde(default)]
    pub tty: bool,
    /// Of the terminal; both or none.
    pub columns: Option<f64>,
    pub rows: Option<f64>,
    /// Without it, the input is empty. Default: true.
    pub stdin: Option<bool>,
}

impl SpawnOptions {
    pub fn has_input(&self) -> bool {
        self.stdin.unwrap_or(true)
    }

    /// Columns and rows, once they have been checked.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and below 2^16")]
    pub fn size(&self) -> Option<(u16, u16)> {
        self.columns.zip(self.rows).map(|(columns, rows)| (columns as u16, rows as u16))
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttachOptions {
    pub stdin: bool,
    /// Begin with what it has printed so far.
    pub logs: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WaitOptions {
    pub condition: WaitCondition,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitCondition {
    #[default]
    Exited,
    Healthy,
    Removed,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventOptions {
    /// Unix time in seconds: past events since then come first, as far as the engine remembers them.
    pub since: Option<f64>,
    #[serde(default)]
    pub filters: Filters,
}

/// For an adapter whose callers are not trusted.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestrictedOptions {
    /// Also what is not the application's.
    pub foreign: bool,
    /// Containers with powers over the engine's machine.
    pub powers: bool,
}

// ---- what an engine answers -------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    Running,
    /// Also Docker's `created`.
    Stopped,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Healthy,
    Unhealthy,
    Starting,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    pub container_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerInfo {
    pub id: String,
    pub name: String,
    pub image: String,
    pub state: ContainerState,
    pub status: String,
    pub health: Health,
    pub created: Millis,
    pub ports: Vec<Port>,
}

/// A container of a project of compose.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComposeContainer {
    #[serde(flatten)]
    pub info: ContainerInfo,
    pub service: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDetails {
    #[serde(flatten)]
    pub info: ContainerInfo,
    pub labels: Labels,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub networks: Vec<NetworkAttachment>,
    /// Absent while it runs, and if it never ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Millis>,
    pub restart_policy: RestartPolicy,
    /// The engine's own answer, which also has what the typed fields leave out.
    pub raw: Value,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    #[serde(rename = "type")]
    pub kind: String,
    /// Host path, or the volume's name.
    pub source: String,
    pub destination: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAttachment {
    pub id: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    pub aliases: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStats {
    /// Percent of one CPU.
    pub cpu: f64,
    pub memory: MemoryStats,
    pub network: NetworkStats,
    #[serde(rename = "blockIO")]
    pub block_io: BlockIoStats,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MemoryStats {
    pub used: u64,
    pub limit: u64,
    pub percentage: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NetworkStats {
    pub rx: u64,
    pub tx: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BlockIoStats {
    pub read: u64,
    pub write: u64,
}

/// Counters as an engine reports them; [`super::stats`] makes percentages of two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StatsSample {
    /// When the counters were read.
    pub at: std::time::Instant,
    /// CPU time used since the container's start.
    pub cpu: Duration,
    pub memory_used: u64,
    pub memory_limit: u64,
    pub network: NetworkStats,
    pub block_io: BlockIoStats,
}

#[derive(Debug, Clone, Serialize)]
pub struct ImageInfo {
    pub id: String,
    pub tags: Vec<String>,
    pub size: u64,
    pub created: Millis,
}

/// One of several platforms is the one that a container here would be made of.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageDetails {
    #[serde(flatten)]
    pub info: ImageInfo,
    /// `name@sha256:…`, as registries know it.
    pub digests: Vec<String>,
    pub os: String,
    pub architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    pub labels: Labels,
    pub env: BTreeMap<String, String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    pub ports: Vec<String>,
    pub volumes: Vec<String>,
    /// Digests of the unpacked layers, lowest first.
    pub layers: Vec<String>,
    /// The engine's own answer; with containerd, the image's configuration.
    pub raw: Value,
}

/// One step of an image's making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageHistoryEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Millis>,
    pub created_by: String,
    pub comment: String,
    /// Bytes that it added, unpacked.
    pub size: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct NetworkInfo {
    pub id: String,
    pub name: String,
    pub driver: String,
    /// Full ids of the containers attached to it.
    pub containers: Vec<String>,
    #[serde(skip)]
    pub labels: Labels,
    /// The network of containers that name none.
    #[serde(skip)]
    pub is_default: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct VolumeInfo {
    pub name: String,
    pub driver: String,
    pub mountpoint: String,
    #[serde(skip)]
    pub labels: Labels,
}

/// What is known of one network.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkDetails {
    #[serde(flatten)]
    pub info: NetworkInfo,
    pub internal: bool,
    pub attachable: bool,
    pub labels: Labels,
    pub subnets: Vec<Subnet>,
    /// The engine's own answer.
    pub raw: Value,
}

impl NetworkDetails {
    pub(super) fn new(info: NetworkInfo, raw: Value) -> Self {
        let labels = info.labels.clone();
        Self { info, internal: false, attachable: false, labels, subnets: Vec::new(), raw }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    pub subnet: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// What is known of one volume.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeDetails {
    #[serde(flatten)]
    pub info: VolumeInfo,
    pub labels: Labels,
    /// The engine's own answer.
    pub raw: Value,
}

impl VolumeDetails {
    pub(super) fn new(info: VolumeInfo, raw: Value) -> Self {
        Self { labels: info.labels.clone(), info, raw }
    }
}

/// A table with the titles of its columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessList {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemInfo {
    pub os: String,
    pub architecture: String,
    pub cpus: u64,
    pub memory: u64,
    pub runtime_version: String,
    /// What runs healthchecks: the engine, a timer in the guest, or this process while it lives.
    pub healthchecks: HealthcheckDriver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthcheckDriver {
    Engine,
    Timer,
    Process,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PruneResult {
    pub containers_deleted: u64,
    pub images_deleted: u64,
    pub volumes_deleted: u64,
    pub networks_deleted: u64,
    /// Bytes.
    pub space_reclaimed: u64,
}

impl PruneResult {
    pub(super) fn reclaim(&mut self, bytes: u64) {
        self.space_reclaimed = total([self.space_reclaimed, bytes]);
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DiskUsageEntry {
    pub count: u64,
    pub size: u64,
    /// Bytes that a prune could free.
    pub reclaimable: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskUsage {
    pub images: DiskUsageEntry,
    pub containers: DiskUsageEntry,
    pub volumes: DiskUsageEntry,
    pub build_cache: DiskUsageEntry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Container,
    Image,
    Network,
    Volume,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeEvent {
    pub time: Millis,
    pub kind: EventKind,
    pub action: String,
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The container's [`APP_LABEL`], if the event is about one.
    #[serde(skip)]
    pub app: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    Stdout,
    Stderr,
}

/// A piece of a container's output, as it arrived.
#[derive(Debug, Clone)]
pub struct OutputChunk {
    pub stream: OutputStream,
    pub data: Bytes,
}

#[derive(Debug, Clone)]
pub struct ExecOutput {
    pub exit_code: i64,
    pub stdout: Bytes,
    pub stderr: Bytes,
}

/// How the process of an exec ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecEnd {
    pub exit_code: i64,
    /// False if it never ran; its standard output then is the engine's message.
    pub began: bool,
}

/// How long a stop waits before it kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopTimeout {
    Seconds(u32),
    /// It waits for the process without a limit.
    Never,
}

impl Default for StopTimeout {
    /// The default of Docker and of nerdctl.
    fn default() -> Self {
        Self::Seconds(10)
    }
}

impl StopTimeout {
    /// From the form that engines store: a negative number means no limit.
    pub fn of(seconds: i64) -> Self {
        if seconds < 0 { Self::Never } else { Self::Seconds(u32::try_from(seconds).unwrap_or(u32::MAX)) }
    }
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitResult {
    pub exit_code: i64,
}

//! containerd by nerdctl alone, where nobody but nerdctl may open its socket: what the API tells, each at the price of
//! a process. What nerdctl has no command for is said to be missing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prost::Message;
use prost_types::{Any, Timestamp};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::{
    BoxStream, Containerd,
    api::{Container, Image, Task},
    containers, labels,
    nerdctl::{Nerdctl, On, refusal},
    proto::containerd::{
        events::TaskExit,
        services::containers::v1::container::Runtime,
        types::{Descriptor, Envelope},
    },
};
use crate::{
    engine::{time, types::*},
    error::{Error, ErrorCode, Result},
    guest::Guest,
    process::{Chunk, Command, Output},
};

/// Something may be removed between a list and the look at what was in it.
const TRIES: usize = 5;

pub(super) struct Alone {
    guest: Arc<dyn Guest>,
    nerdctl: Arc<Nerdctl>,
    namespace: String,
    root: bool,
    /// Manifests and configurations of the images looked at, by digest.
    blobs: Mutex<HashMap<String, Vec<u8>>>,
    /// Bytes of the unpacked images looked at, by the digest their names lead to.
    unpacked: Mutex<HashMap<String, u64>>,
    /// Whether the containers we restart are meant to run, by id: nerdctl gives them no such label.
    meant: Mutex<HashMap<String, String>>,
}

impl Alone {
    pub(super) fn new(guest: Arc<dyn Guest>, nerdctl: Arc<Nerdctl>, namespace: &str, root: bool) -> Self {
        let (blobs, unpacked, meant) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { guest, nerdctl, namespace: namespace.to_owned(), root, blobs, unpacked, meant }
    }

    /// What nerdctl can do only to what containerd knows by itself.
    pub(super) fn lacks(what: &str) -> Error {
        Error::new(ErrorCode::PermissionDenied, format!("nerdctl alone cannot {what}"))
            .hint("Give this user access to containerd's socket, or run as a user who has it.")
    }

    async fn native(&self) -> Result<NativeInfo> {
        let out = self.nerdctl.read(On::Engine, ["info", "--mode=native", "--format=json"]).await?;
        Ok(objects::<NativeInfo>(&out)?.pop().unwrap_or_default())
    }

    pub(super) async fn version(&self) -> Result<String> {
        let version = self.native().await?.daemon.and_then(|d| d.version).map(|v| v.version);
        version.ok_or_else(|| Error::new(ErrorCode::ContainerdNotReady, "nerdctl reaches no containerd"))
    }

    pub(super) async fn restart_policies(&self) -> Result<Vec<String>> {
        let plugins = self.native().await?.daemon.and_then(|d| d.plugins).map(|p| p.plugins).unwrap_or_default();
        Ok(plugins.into_iter().filter(|p| p.id == "restart").flat_map(|p| p.capabilities).collect())
    }

    /// All containers with their tasks.
    pub(super) async fn everything(&self) -> Result<Vec<(Container, Option<Task>)>> {
        for _ in 0..TRIES {
            let out = self.nerdctl.read(On::Engine, ["ps", "--all", "--quiet", "--no-trunc"]).await?;
            let ids = String::from_utf8_lossy(&out).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            match self.inspect(On::Engine, &ids).await {
                // One of them is gone, and nerdctl says nothing of the others.
                Err(e) if e.code() == ErrorCode::ContainerNotFound => {}
                done => return done,
            }
        }
        Err(Error::new(ErrorCode::EngineError, "Containers come and go too quickly for nerdctl to list them"))
    }

    async fn inspect(&self, on: On<'_>, ids: &[String]) -> Result<Vec<(Container, Option<Task>)>> {
        let args = ["container", "inspect", "--mode=native", "--format=json", "--"].into_iter();
        let out = self.nerdctl.read(on, args.chain(ids.iter().map(String::as_str))).await?;
        let meant = self.meant.lock().unwrap_or_else(PoisonError::into_inner);
        let known = objects::<NativeContainer>(&out)?.into_iter().map(|found| {
            let (mut container, task) = found.split();
            if let Some(status) = meant.get(&container.id) {
                container.labels.insert(containers::OUR_STATUS.to_owned(), status.clone());
            }
            (container, task)
        });
        Ok(known.collect())
    }

    /// Those of this name, or with an id that begins with it.
    pub(super) async fn called(&self, reference: &str) -> Result<Vec<Container>> {
        // No name holds another character, and nerdctl trips over some.
        if !reference.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
            return Ok(Vec::new());
        }
        match self.inspect(On::Container(reference), &[reference.to_owned()]).await {
            Ok(found) => Ok(found.into_iter().map(|(container, _)| container).collect()),
            Err(e) if e.code() == ErrorCode::ContainerNotFound => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// The container of a whole id.
    pub(super) async fn one(&self, id: &str) -> Result<(Container, Option<Task>)> {
        if id.len() == 64
            && let Some(found) = self.inspect(On::Container(id), &[id.to_owned()]).await?.pop()
        {
            return Ok(found);
        }
        Err(containers::not_found(id))
    }

    /// Of all labels, nerdctl can change the restart policy alone: there is none for one that is stopped.
    pub(super) async fn set_labels(&self, id: &str, labels: &HashMap<String, String>) -> Result<()> {
        let update = async |policy: &str| {
            let args = ["update", &format!("--restart={policy}"), id];
            self.nerdctl.write(On::Container(id), args).await.map(drop)
        };
        if let Some(policy) = labels.get(labels::MONITOR_POLICY) {
            return update(if policy.is_empty() { "no" } else { policy }).await;
        }
        let status = labels.get(labels::MONITOR_STATUS).or_else(|| labels.get(containers::OUR_STATUS));
        let Some(status) = status else { return Err(Self::lacks("set labels")) };
        let (container, _) = self.one(id).await?;
        match (container.labels.get(labels::MONITOR_POLICY).map(String::as_str), status.as_str()) {
            (Some("always"), "stopped") => update("no").await,
            (Some("no"), "running") => update("always").await,
            (None, _) => {
                let mut meant = self.meant.lock().unwrap_or_else(PoisonError::into_inner);
                meant.insert(id.to_owned(), status.clone());
                Ok(())
            }
            // `nerdctl stop` leaves a note that the others heed.
            _ => Ok(()),
        }
    }

    /// nerdctl knows signals by their names.
    pub(super) async fn kill(&self, id: &str, signal: u32) -> Result<()> {
        let name = containers::signal_name(signal).ok_or_else(|| Self::lacks("send real-time signals"))?;
        self.tell(id, &["kill", &format!("--signal={name}")]).await
    }

    /// `pause`, `unpause`, or `kill` with its flag.
    pub(super) async fn tell(&self, id: &str, args: &[&str]) -> Result<()> {
        self.nerdctl.read(On::Container(id), args.iter().copied().chain([id])).await.map(drop)
    }

    pub(super) async fn wait(&self, id: &str) -> Result<i64> {
        let process = self.nerdctl.spawn(self.nerdctl.command(["wait", id])).await?;
        let output = process.output().await?;
        if !output.success() {
            // Its task, or all of it, went meanwhile.
            let (_, task) = self.one(id).await?;
            let code = task.and_then(|t| t.exit_code);
            return code.ok_or_else(|| refusal(On::Container(id), &output));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().map_err(|_| garbled(&output.stdout))
    }

    /// From the kernel: `nerdctl stats` takes a second, and rounds.
    pub(super) async fn sample(&self, id: &str) -> Result<StatsSample> {
        let (_, task) = self.one(id).await?;
        let pid = task.filter(|t| t.exit_code.is_none()).map(|t| t.pid).ok_or_else(|| {
            Error::new(ErrorCode::InvalidState, format!("Container {id} is not running")).detail("id", id)
        })?;
        let argv = ["sh", "-c", COUNTERS, "sh", &pid.to_string()].map(str::to_owned);
        let out = self.guest.run(Command { root: self.root, ..Command::new(argv) }).await?.checked("sh")?;
        counters(&String::from_utf8_lossy(&out), Instant::now())
    }

    pub(super) async fn images(&self) -> Result<Vec<Image>> {
        for _ in 0..TRIES {
            let out = self.nerdctl.read(On::Engine, ["images", "--no-trunc", "--format=json"]).await?;
            let mut wanted: Vec<String> = objects::<ImageLine>(&out)?.into_iter().map(|i| i.digest).collect();
            wanted.sort_unstable();
            wanted.dedup();
            if wanted.is_empty() {
                return Ok(Vec::new());
            }
            match self.look_at(On::Engine, &wanted).await {
                Err(e) if e.code() == ErrorCode::ImageNotFound => {}
                done => return done,
            }
        }
        Err(Error::new(ErrorCode::EngineError, "Images come and go too quickly for nerdctl to list them"))
    }

    pub(super) async fn image(&self, name: &str) -> Result<Option<Image>> {
        match self.look_at(On::Image(name), &[name.to_owned()]).await {
            Ok(found) => Ok(found.into_iter().find(|i| i.name == name)),
            Err(e) if e.code() == ErrorCode::ImageNotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// By names, or by digests: those give all their names.
    async fn look_at(&self, on: On<'_>, wanted: &[String]) -> Result<Vec<Image>> {
        let args = ["image", "inspect", "--mode=native", "--format=json", "--"].into_iter();
        let out = self.nerdctl.read(on, args.chain(wanted.iter().map(String::as_str))).await?;
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut images = Vec::new();
        for image in objects::<NativeImage>(&out)? {
            let texts = [
                (image.index_desc, image.index),
                (image.manifest_desc, image.manifest),
                (image.config_desc, image.config),
            ];
            for (descriptor, text) in texts {
                if let (Some(NativeDescriptor { digest, .. }), Some(text)) = (descriptor, text) {
                    blobs.insert(digest, text.to_string().into_bytes());
                }
            }
            let found = image.image;
            let digest = found.target.digest;
            unpacked.insert(digest.clone(), image.size);
            images.push(Image {
                name: found.name,
                labels: found.labels.unwrap_or_default(),
                target: Some(Descriptor { digest, size: found.target.size, ..Descriptor::default() }),
                created_at: timestamp(&found.created_at),
                ..Image::default()
            });
        }
        images.sort_by(|a, b| a.name.cmp(&b.name));
        images.dedup_by(|a, b| a.name == b.name);
        Ok(images)
    }

    pub(super) fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Bytes of an image's layers.
    pub(super) fn unpacked(&self, target: &str) -> Option<u64> {
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).get(target).copied()
    }

    pub(super) async fn delete_image(&self, name: &str) -> Result<bool> {
        match self.nerdctl.write(On::Image(name), ["rmi", "--force", "--", name]).await {
            Ok(_) => Ok(true),
            Err(e) if e.code() == ErrorCode::ImageNotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn name_image(&self, name: &str, image: &Image) -> Result<()> {
        self.nerdctl.write(On::Image(&image.name), ["tag", "--", &image.name, name]).await.map(drop)
    }

    /// Bytes of a container's own layer.
    pub(super) async fn layer_size(&self, id: &str) -> Result<Option<u64>> {
        let args = ["container", "inspect", "--size", "--format={{json .SizeRw}}", "--", id];
        match self.nerdctl.read(On::Container(id), args).await {
            Ok(out) => Ok(String::from_utf8_lossy(&out).trim().parse().ok()),
            Err(e) if e.code() == ErrorCode::ContainerNotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What happens from now on. `sign` is the topic of [`Alone::publish`].
    pub(super) fn envelopes(self: Arc<Self>, sign: &'static str) -> BoxStream<Envelope> {
        super::events::async_stream(move |out| async move {
            let mut process = match self.nerdctl.spawn(self.nerdctl.command(["events", "--format=json"])).await {
                Ok(process) => process,
                Err(e) => {
                    _ = out.send(Err(e)).await;
                    return;
                }
            };
            process.stdin = None;
            let (mut text, mut stderr) = (Vec::new(), Vec::new());
            while let Some(chunk) = process.next().await {
                match chunk {
                    Chunk::Stdout(data) => text.extend_from_slice(&data),
                    Chunk::Stderr(data) => stderr.extend_from_slice(&data),
                }
                while let Some(end) = text.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    // A blank line follows each of `nerdctl events`.
                    if let Some(envelope) = envelope(&line, &self.namespace, sign)
                        && out.send(Ok(envelope)).await.is_err()
                    {
                        return;
                    }
                }
            }
            let ended = process.exit().await;
            _ = out
                .send(Err(match ended {
                    Ok(exit) => refusal(On::Engine, &Output { exit, stdout: Vec::new(), stderr }),
                    Err(e) => e,
                }))
                .await;
        })
    }

    /// nerdctl has no command that says something; a label of the namespace is something that happens.
    pub(super) async fn publish(&self) -> Result<()> {
        let label = "--label=lima-runtime.listened=true";
        match self.nerdctl.read(On::Engine, ["namespace", "update", label, &self.namespace]).await {
            // It comes with the first thing in it.
            Err(e) if e.message().contains("not found") => {
                self.nerdctl.read(On::Engine, ["namespace", "create", &self.namespace]).await.map(drop)
            }
            done => done.map(drop),
        }
    }
}

/// One JSON value after the other.
fn objects<T: DeserializeOwned>(text: &[u8]) -> Result<Vec<T>> {
    serde_json::Deserializer::from_slice(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|e| garbled(text).source(e))
}

fn garbled(text: &[u8]) -> Error {
    let shown: String = String::from_utf8_lossy(text).chars().take(1000).collect();
    Error::new(ErrorCode::EngineError, "nerdctl's answer cannot be read").detail("stdout", shown)
}

fn timestamp(text: &str) -> Option<Timestamp> {
    let nanos = time::parse_nanos(text)?;
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    Some(Timestamp { seconds: i64::try_from(seconds).ok()?, nanos: i32::try_from(nanos).ok()? })
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct NativeInfo {
    daemon: Option<NativeDaemon>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NativeDaemon {
    plugins: Option<NativePlugins>,
    version: Option<NativeVersion>,
}

#[derive(Deserialize)]
struct NativePlugins {
    #[serde(default)]
    plugins: Vec<NativePlugin>,
}

#[derive(Deserialize)]
struct NativePlugin {
    #[serde(default)]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    capabilities: Vec<String>,
}

#[derive(Deserialize)]
struct NativeVersion {
    version: String,
}

/// `nerdctl container inspect --mode=native`: containerd's record, and what its task says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NativeContainer {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: HashMap<String, String>,
    #[serde(default)]
    image: String,
    #[serde(default, deserialize_with = "or_default")]
    runtime: NativeRuntime,
    #[serde(default)]
    snapshot_key: String,
    #[serde(default)]
    snapshotter: String,
    #[serde(default)]
    created_at: String,
    #[serde(default)]
    updated_at: String,
    spec: Option<Value>,
    process: Option<NativeProcess>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct NativeRuntime {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NativeProcess {
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    status: NativeStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct NativeStatus {
    status: String,
    exit_status: u32,
    exit_time: String,
}

impl NativeContainer {
    fn split(self) -> (Container, Option<Task>) {
        let spec = self.spec.map(|s| Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
            value: s.to_string().into_bytes(),
        });
        let task = self.process.map(|p| {
            let state = match p.status.status.as_str() {
                "running" => ContainerState::Running,
                "paused" | "pausing" => ContainerState::Paused,
                "stopped" => ContainerState::Exited,
                _ => ContainerState::Stopped,
            };
            let ended = state == ContainerState::Exited;
            Task {
                state,
                pid: p.pid,
                exit_code: ended.then_some(i64::from(p.status.exit_status)),
                exited_at: time::parse(&p.status.exit_time).filter(|_| ended),
            }
        });
        let container = Container {
            id: self.id,
            labels: self.labels,
            image: self.image,
            runtime: Some(Runtime { name: self.runtime.name, options: None }),
            spec,
            snapshotter: self.snapshotter,
            snapshot_key: self.snapshot_key,
            created_at: timestamp(&self.created_at),
            updated_at: timestamp(&self.updated_at),
            ..Container::default()
        };
        (container, task)
    }
}

/// A line of `nerdctl images`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageLine {
    digest: String,
}

/// `nerdctl image inspect --mode=native`.
#[derive(Deserialize)]
struct NativeImage {
    #[serde(rename = "Image")]
    image: NativeRecord,
    #[serde(rename = "IndexDesc")]
    index_desc: Option<NativeDescriptor>,
    #[serde(rename = "Index")]
    index: Option<Value>,
    #[serde(rename = "ManifestDesc")]
    manifest_desc: Option<NativeDescriptor>,
    #[serde(rename = "Manifest")]
    manifest: Option<Value>,
    #[serde(rename = "ImageConfigDesc")]
    config_desc: Option<NativeDescriptor>,
    #[serde(rename = "ImageConfig")]
    config: Option<Value>,
    #[serde(default)]
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NativeRecord {
    name: String,
    labels: Option<HashMap<String, String>>,
    target: NativeDescriptor,
    #[serde(default)]
    created_at: String,
}

#[derive(Deserialize)]
struct NativeDescriptor {
    digest: String,
    #[serde(default)]
    size: i64,
}

/// A line of `nerdctl events`; `event` is JSON again.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EventLine {
    timestamp: String,
    namespace: String,
    topic: String,
    event: String,
}

fn envelope(line: &[u8], namespace: &str, sign: &str) -> Option<Envelope> {
    let line: EventLine = serde_json::from_slice(line).ok()?;
    let said: Value = serde_json::from_str(&line.event).ok()?;
    let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| said[key].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let of_namespace = line.topic.starts_with("/namespaces/") && text("name") == namespace;
    // The first field of each is its subject, and only the end of a task is asked for more.
    let subject = ["container_id", "id", "name"].map(text).into_iter().find(|s| !s.is_empty()).unwrap_or_default();
    let event = TaskExit {
        container_id: subject,
        id: text("id"),
        pid: number("pid"),
        exit_status: number("exit_status"),
        exited_at: None,
    };
    let event = Any { type_url: String::new(), value: event.encode_to_vec() };
    Some(Envelope {
        timestamp: timestamp(&line.timestamp),
        namespace: line.namespace,
        topic: if of_namespace { sign.to_owned() } else { line.topic },
        event: Some(event),
    })
}

/// The counters of a process's control groups, of version 2 or 1 (Linux, Documentation/admin-guide): `key value` lines.
const COUNTERS: &str = r#"
dir() { sed -n "s,^[0-9]*:\([^:]*\,\)*$1\(\,[^:]*\)*:,,p" "/proc/$pid/cgroup" | head -n 1; }
say() { [ ! -r "$2" ] || printf '%s %s\n' "$1" "$(head -n 1 "$2")"; }
pid=$1; top=/sys/fs/cgroup
if [ -e "$top/cgroup.controllers" ]; then
  g=$top$(sed -n 's,^0::,,p' "/proc/$pid/cgroup")
  sed -n 's/^usage_usec /usec /p' "$g/cpu.stat"
  say used "$g/memory.current"; say limit "$g/memory.max"
  sed -n 's/^inactive_file /cache /p' "$g/memory.stat"
  [ ! -r "$g/io.stat" ] || sed -n 's/.*rbytes=\([0-9]*\) wbytes=\([0-9]*\).*/read \1\nwrite \2/p' "$g/io.stat"
else
  g=$top/cpuacct$(dir cpuacct); [ -d "$g" ] || g=$top/cpu,cpuacct$(dir cpuacct); say nsec "$g/cpuacct.usage"
  g=$top/memory$(dir memory); say used "$g/memory.usage_in_bytes"; say limit "$g/memory.limit_in_bytes"
  sed -n 's/^total_inactive_file /cache /p' "$g/memory.stat"
  g=$top/blkio$(dir blkio)
  sed -n 's/^[0-9:]* Read /read /p; s/^[0-9:]* Write /write /p' "$g/blkio.throttle.io_service_bytes_recursive" 2>/dev/null
fi
true
"#;

fn counters(text: &str, at: Instant) -> Result<StatsSample> {
    let mut sum: HashMap<&str, u64> = HashMap::new();
    for (key, value) in text.lines().filter_map(|l| l.split_once(' ')) {
        // `max` is no limit.
        let sum = sum.entry(key).or_default();
        *sum = sum.saturating_add(value.trim().parse().unwrap_or(0));
    }
    let get = |key: &str| sum.get(key).copied().unwrap_or_default();
    if !sum.contains_key("used") {
        return Err(Error::new(ErrorCode::InvalidState, "The container's control group is gone"));
    }
    let limit = get("limit");
    Ok(StatsSample {
        at,
        cpu: Duration::from_micros(get("usec")) + Duration::from_nanos(get("nsec")),
        memory_used: get("used").saturating_sub(get("cache")),
        memory_limit: if limit >= 1 << 60 { 0 } else { limit },
        network: NetworkStats { rx: 0, tx: 0 },
        block_io: BlockIoStats { read: get("read"), write: get("write") },
    })
}

/// A healthcheck as the flags of `nerdctl create`, which knows commands of a shell alone.
pub(super) fn health_flags(check: &Healthcheck) -> Vec<String> {
    let command = match check.test.split_first() {
        Some((kind, words)) if kind == "CMD" => {
            let quoted = words.iter().map(|w| format!("'{}'", w.replace('\'', r"'\''")));
            quoted.collect::<Vec<_>>().join(" ")
        }
        Some((_, words)) => words.join(" "),
        None => return Vec::new(),
    };
    let mut flags = vec![
        format!("--health-cmd={command}"),
        format!("--health-interval={}ms", check.interval),
        format!("--health-timeout={}ms", check.timeout),
        format!("--health-retries={}", check.retries),
    ];
    flags.extend(check.start_period.map(|ms| format!("--health-start-period={ms}ms")));
    flags
}

impl Containerd {
    pub(super) fn is_alone(&self) -> bool {
        self.api.alone().is_some()
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = objects::<NativeImage>(data);
    let _ = objects::<Value>(data);
    for line in data.split(|b| *b == b'\n') {
        envelope(line, "default", "/lima-runtime");
    }
    let _ = counters(&text, Instant::now());
    timestamp(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_nerdctl_prints_them() {
        let line = br#"{"Timestamp":"2026-11-23T13:57:30.5Z","ID":"ab","Namespace":"kai","Topic":"/tasks/exit","Status":"unknown","Event":"{\"container_id\":\"ab\",\"id\":\"ab\",\"pid\":7,\"exit_status\":3}"}"#;
        let read = envelope(line, "kai", "/sign").unwrap();
        let exit = TaskExit::decode(read.event.unwrap().value.as_slice()).unwrap();
        assert_eq!((read.topic.as_str(), exit.container_id.as_str(), exit.exit_status), ("/tasks/exit", "ab", 3));
        assert_eq!(read.timestamp.unwrap().nanos, 500_000_000);
        let line = br#"{"Timestamp":"","ID":"","Namespace":"kai","Topic":"/namespaces/update","Status":"unknown","Event":"{\"name\":\"kai\"}"}"#;
        assert_eq!(envelope(line, "kai", "/sign").unwrap().topic, "/sign");
        assert_eq!(envelope(line, "other", "/sign").unwrap().topic, "/namespaces/update");
        assert!(envelope(b"\n", "kai", "/sign").is_none() && envelope(&line[..40], "kai", "/sign").is_none());
    }

    #[test]
    fn a_container_and_half_of_it() {
        let text = br#"{"ID":"ab","Labels":{"nerdctl/name":"x"},"Image":"i","Runtime":{"Name":"r","Options":null},"SnapshotKey":"ab","CreatedAt":"2026-11-23T13:57:30Z","Spec":{"process":{"args":["a"]}},"Process":{"Pid":7,"Status":{"Status":"stopped","ExitStatus":9,"ExitTime":"2026-11-23T13:57:31Z"}}}
{"ID":"cd","Labels":null}"#;
        let all: Vec<_> = objects::<NativeContainer>(text).unwrap().into_iter().map(NativeContainer::split).collect();
        let (container, task) = &all[0];
        assert_eq!((container.labels["nerdctl/name"].as_str(), container.created_at.unwrap().nanos), ("x", 0));
        assert_eq!(task.as_ref().unwrap().exit_code, Some(9));
        assert_eq!(container.spec.as_ref().unwrap().value, br#"{"process":{"args":["a"]}}"#);
        assert_eq!(all[1].1, None);
        assert_eq!(objects::<NativeContainer>(&text[..50]).err().unwrap().code(), ErrorCode::EngineError);
    }

    #[test]
    fn counters_of_both_versions() {
        let one = "nsec 5001\nused 100\nlimit 9223372036854771712\ncache 30\nread 1\nread 2\nwrite 4\n";
        let sample = counters(one, Instant::now()).unwrap();
        assert_eq!((sample.cpu, sample.memory_used, sample.memory_limit), (Duration::from_nanos(5001), 70, 0));
        assert_eq!((sample.block_io.read, sample.block_io.write), (3, 4));
        let two = counters("usec 7\nused 100\nlimit max\ncache 0\n", Instant::now()).unwrap();
        assert_eq!((two.cpu, two.memory_limit), (Duration::from_micros(7), 0));
        assert!(counters("", Instant::now()).is_err());
    }

    #[test]
    fn a_command_becomes_a_shells() {
        let check = Healthcheck {
            test: ["CMD", "test", "it's"].map(str::to_owned).into(),
            interval: 200.0,
            timeout: 1000.0,
            retries: 3.0,
            start_period: None,
        };
        assert_eq!(health_flags(&check)[..2], ["--health-cmd='test' 'it'\\''s'", "--health-interval=200ms"]);
    }
}

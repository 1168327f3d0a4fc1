//! What nerdctl keeps in files of the guest (docs/reference/nerdctl.md#container-files): read in one go for many
//! containers, and kept.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::super::{
    settings::Settings,
    source::{
        api::millis,
        containers::{Container, Task},
    },
};
use super::labels::STATE_DIR;
use crate::{
    engine::{Millis, Port, Protocol, time},
    error::Result,
    mutex::Mutex,
    process::Command,
};

/// A container's record, and its task where it has one.
pub(crate) type WithTask = (Arc<Container>, Option<Task>);

/// What was read of a container's files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    pub(crate) ports: Vec<Port>,
    /// The same in the words in which nerdctl hands them to the CNI plugins.
    pub(crate) port_mappings: Value,
    /// Of its last start.
    pub(crate) started_at: Option<Millis>,
}

/// Ports do not change after the create, and the start time only with the task: both are read again when the
/// container's record or its task is another.
#[derive(Clone, Copy, PartialEq)]
struct Version {
    updated: Millis,
    pid: u32,
    ended: bool,
}

struct Entry {
    version: Version,
    /// The subscription to events that stood then.
    listening: Option<u64>,
    kept: Kept,
}

pub(crate) struct Files {
    settings: Arc<Settings>,
    store: OnceCell<String>,
    /// By container id.
    kept: Mutex<HashMap<String, Entry>>,
}

impl Files {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, store: OnceCell::new(), kept: Mutex::default() }
    }

    /// nerdctl's directory for this daemon: the data root, then a digest of the socket's real path
    /// (docs/reference/nerdctl.md#data-directory).
    pub(crate) async fn store(&self) -> Result<&str> {
        let guest = &self.settings.guest;
        let find = || async {
            let readlink = ["readlink", "-f", "--", guest.containerd_socket()];
            let command = Command { root: self.settings.root, ..Command::new(readlink) };
            let out = guest.run(command).await?.checked("readlink")?;
            let real = String::from_utf8_lossy(&out);
            let digest = Sha256::digest(real.trim_end_matches('\n').as_bytes());
            Ok(format!("{}/{}", self.settings.data_root, hex::encode(&digest[..4])))
        };
        self.store.get_or_try_init(find).await.map(String::as_str)
    }

    /// nerdctl's directory of one container.
    pub(crate) async fn container_dir(&self, id: &str) -> Result<String> {
        Ok(format!("{}/containers/{}/{id}", self.store().await?, self.settings.namespace))
    }

    /// Where nerdctl keeps a container's files: what its label says only if it is a place that nerdctl itself would choose. We
    /// read there as root, and the label is anybody's who may make containers.
    pub(crate) async fn state_dir(&self, container: &Container) -> Result<String> {
        // The same daemon, called by another address, has another directory (docs/reference/nerdctl.md#data-directory).
        match self.said_state_dir(container) {
            Some(said) => Ok(said.to_owned()),
            None => self.container_dir(&container.id).await,
        }
    }

    pub(crate) fn said_state_dir<'a>(&self, container: &'a Container) -> Option<&'a str> {
        let said = container.labels.get(STATE_DIR)?;
        is_state_dir(said, &self.settings.data_root, &self.settings.namespace, &container.id).then_some(said)
    }

    /// For these containers; `whole` when there are no others. `listening` is the number of the subscription that stands.
    pub(crate) async fn of(
        &self,
        containers: &[WithTask],
        whole: bool,
        listening: Option<u64>,
    ) -> Result<HashMap<String, Kept>> {
        let mut found = HashMap::with_capacity(containers.len());
        let mut missing = Vec::new();
        {
            let mut kept = self.kept.lock();
            if whole && kept.len() > containers.len() {
                let ids: HashSet<&str> = containers.iter().map(|(c, _)| c.id.as_str()).collect();
                kept.retain(|id, _| ids.contains(id.as_str()));
            }
            for (container, task) in containers {
                // Without a task it may have been started and lost it since: only the event of the start tells.
                let holds = |e: &&Entry| {
                    e.version == version_of(container, task.as_ref())
                        && (task.is_some() || listening.is_some() && e.listening == listening)
                };
                match kept.get(&container.id).filter(holds) {
                    Some(entry) => {
                        found.insert(container.id.clone(), entry.kept.clone());
                    }
                    None => missing.push((container, task)),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let mut paths = Vec::with_capacity(missing.len() * 2);
        for (container, _) in &missing {
            let dir = self.state_dir(container).await?;
            paths.extend([format!("{dir}/network-config.json"), format!("{dir}/lifecycle.json")]);
        }
        let contents = self.settings.guest.read_files(&paths, self.settings.root).await?;
        let mut kept = self.kept.lock();
        for ((container, task), contents) in missing.into_iter().zip(contents.chunks(2)) {
            let read = read(contents.first().cloned().flatten(), contents.get(1).cloned().flatten());
            let version = version_of(container, task.as_ref());
            kept.insert(container.id.clone(), Entry { version, listening, kept: read.clone() });
            found.insert(container.id.clone(), read);
        }
        Ok(found)
    }

    pub(crate) fn forget(&self, id: &str) {
        self.kept.lock().remove(id);
    }
}

fn is_state_dir(dir: &str, data_root: &str, namespace: &str, id: &str) -> bool {
    let rest = dir.strip_prefix(data_root).and_then(|rest| rest.strip_prefix('/'));
    let store = rest.and_then(|rest| rest.strip_suffix(&format!("/containers/{namespace}/{id}")));
    store.is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn version_of(container: &Container, task: Option<&Task>) -> Version {
    Version {
        updated: container.updated_at.as_ref().map(millis).unwrap_or_default(),
        pid: task.map_or(0, |t| t.pid),
        ended: task.is_some_and(|t| t.exit_code.is_some()),
    }
}

#[derive(Deserialize, Default)]
struct NetworkConfig {
    #[serde(rename = "portMappings", default)]
    port_mappings: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PublishedPort {
    host_port: u16,
    container_port: u16,
    protocol: String,
}

#[derive(Deserialize, Default)]
struct Lifecycle {
    #[serde(default)]
    started_at: String,
}

/// A file half written is as good as none: it is read again with the next change.
fn read(network: Option<Vec<u8>>, lifecycle: Option<Vec<u8>>) -> Kept {
    let network: NetworkConfig = network.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let lifecycle: Lifecycle = lifecycle.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let mappings: Vec<PublishedPort> = Deserialize::deserialize(&network.port_mappings).unwrap_or_default();
    let mut ports: Vec<Port> = (mappings.into_iter())
        .filter_map(|m| {
            let protocol = match m.protocol.as_str() {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => return None,
            };
            Some(Port { container_port: m.container_port, host_port: Some(m.host_port), protocol })
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    Kept { ports, port_mappings: network.port_mappings, started_at: time::parse(&lifecycle.started_at) }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    read(Some(data.to_vec()), Some(data.to_vec()));
    is_state_dir(&String::from_utf8_lossy(data), "/var/lib/nerdctl", "default", "x");
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: &str = "/var/lib/nerdctl/1935db59/containers/kai/c1";

    #[test]
    fn a_directory_of_nerdctls_is_below_its_root_and_has_the_containers_id() {
        let root = "/var/lib/nerdctl";
        assert!(is_state_dir(DIR, root, "kai", "c1"));
        let elsewhere = "/var/lib/nerdctl/../../../etc/containers/kai/c1";
        for wrong in [
            "",
            "/etc",
            elsewhere,
            "/var/lib/nerdctl/1935db5/containers/kai/c1",
            "/var/lib/nerdctl/1935db59/containers/kai/c2",
        ] {
            assert!(!is_state_dir(wrong, root, "kai", "c1"), "{wrong}");
        }
    }

    #[test]
    fn what_nerdctl_wrote_and_half_of_it() {
        let network =
            br#"{"portMappings":[{"HostPort":18080,"ContainerPort":80,"Protocol":"tcp","HostIP":"127.0.0.1"}]}"#;
        let lifecycle = br#"{"started_at":"1970-01-01T00:00:01.5Z","create_error":false}"#;
        let kept = read(Some(network.to_vec()), Some(lifecycle.to_vec()));
        assert_eq!(kept.ports, [Port { container_port: 80, host_port: Some(18080), protocol: Protocol::Tcp }]);
        assert_eq!(kept.started_at, Some(1500));
        for end in 0..network.len() - 1 {
            assert!(read(Some(network[..end].to_vec()), None).ports.is_empty());
        }
        assert_eq!(
            read(Some(b"{}".to_vec()), Some(br#"{"started_at":"0001-01-01T00:00:00Z"}"#.to_vec())).started_at,
            None
        );
    }
}

//! What nerdctl keeps in files of the guest (docs/reference/nerdctl.md#container-files): read in one go for many
//! containers, and kept.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Containerd,
    api::{Container, Task},
    containers::Known,
    labels,
};
use crate::{
    engine::{Millis, Port, Protocol, time},
    error::Result,
};

/// What was read of a container's files.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    pub(super) ports: Vec<Port>,
    /// Of its last start.
    pub(super) started_at: Option<Millis>,
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

/// By container id.
#[derive(Default)]
pub(super) struct Files(Mutex<HashMap<String, Entry>>);

impl Files {
    /// For these containers; `whole` when there are no others.
    pub(super) async fn of(&self, c: &Containerd, containers: &[Known], whole: bool) -> Result<HashMap<String, Kept>> {
        let listening = c.hub.standing();
        let mut found = HashMap::with_capacity(containers.len());
        let mut missing = Vec::new();
        {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
            let dir = labels::state_dir(c, container).await?;
            paths.extend([format!("{dir}/network-config.json"), format!("{dir}/lifecycle.json")]);
        }
        let contents = c.guest().read_files(&paths, c.settings.root).await?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((container, task), contents) in missing.into_iter().zip(contents.chunks(2)) {
            let read = read(contents.first().cloned().flatten(), contents.get(1).cloned().flatten());
            let version = version_of(container, task.as_ref());
            kept.insert(container.id.clone(), Entry { version, listening, kept: read.clone() });
            found.insert(container.id.clone(), read);
        }
        Ok(found)
    }

    pub(super) fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

fn version_of(container: &Container, task: Option<&Task>) -> Version {
    Version {
        updated: container.updated_at.as_ref().map(super::api::millis).unwrap_or_default(),
        pid: task.map_or(0, |t| t.pid),
        ended: task.is_some_and(|t| t.exit_code.is_some()),
    }
}

/// A container's published ports, in the words in which nerdctl hands them to the CNI plugins.
pub(super) async fn port_mappings(c: &Containerd, container: &Container) -> Result<Value> {
    let path = format!("{}/network-config.json", labels::state_dir(c, container).await?);
    let read = c.guest().read_files(&[path], c.settings.root).await?.pop().flatten();
    let mut config: Value = read.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    Ok(config["portMappings"].take())
}

#[derive(Deserialize, Default)]
struct NetworkConfig {
    #[serde(rename = "portMappings", default)]
    port_mappings: Option<Vec<PortMapping>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PortMapping {
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
    let mut ports: Vec<Port> = (network.port_mappings.unwrap_or_default().into_iter())
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
    Kept { ports, started_at: time::parse(&lifecycle.started_at) }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    read(Some(data.to_vec()), Some(data.to_vec()));
}

#[cfg(test)]
mod tests {
    use super::*;

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

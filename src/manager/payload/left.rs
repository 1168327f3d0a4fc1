//! What the engine holds that ran before `engine` was changed. It is asked while it still runs: later nobody can.

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Payload, UserEngine};
use crate::{
    engine::{
        LabelledMethods, RuntimeType,
        containerd::{Containerd, ContainerdEngine, Finding, Settings},
        docker,
        types::{APP_LABEL, ContainerInfo, ContainerState, ListOptions},
    },
    error::{Error, Result},
    fetch::disk,
    guest::Guest,
};

/// Whoever made them named them, and published their ports: no more is kept than a person would look through.
const MOST: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

/// A container of an engine that does not run any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftContainer {
    #[serde(flatten)]
    pub info: ContainerInfo,
    /// It carries the application's label.
    pub own: bool,
}

#[derive(Serialize, Deserialize)]
struct Left {
    engine: UserEngine,
    containers: Vec<LeftContainer>,
}

/// An engine that answers.
pub struct Running<'a> {
    pub guest: Arc<dyn Guest>,
    /// Also the one that `guest` has for it.
    pub socket: &'a str,
    /// containerd's.
    pub namespaces: Vec<String>,
    /// nerdctl's directory, where it is not the usual one.
    pub data_root: Option<&'a str>,
    /// The value of the application's label.
    pub app: &'a str,
}

impl Payload {
    /// What the engine holds.
    pub async fn held(&self, at: &Running<'_>) -> Result<Vec<LeftContainer>> {
        let all = ListOptions { all: true, ..ListOptions::default() };
        let filters = [("label".to_owned(), vec![format!("{APP_LABEL}={}", at.app)])].into();
        let held = self.containers(at, &all).await?;
        let own = self.containers(at, &ListOptions { filters, ..all }).await?;
        let is_own = |info: &ContainerInfo| own.iter().any(|o| o.id == info.id);
        Ok(held.into_iter().map(|info| LeftContainer { own: is_own(&info), info }).collect())
    }

    async fn containers(&self, at: &Running<'_>, options: &ListOptions) -> Result<Vec<ContainerInfo>> {
        if self.engine == UserEngine::Docker {
            return docker::containers_in(at.guest.clone(), at.socket, options).await;
        }
        let mut all = Vec::new();
        for namespace in &at.namespaces {
            let mut settings = Settings::system(at.guest.clone(), RuntimeType::Containerd, namespace, "");
            if let Some(data_root) = at.data_root {
                settings.data_root = data_root.to_owned();
                // It belongs to this user.
                settings.root = false;
            }
            let find = move || -> Finding {
                let settings = settings.clone();
                Box::pin(async { Containerd::new(settings) })
            };
            all.extend(ContainerdEngine::new(RuntimeType::Containerd, Box::new(find)).list(options).await?);
        }
        Ok(all)
    }
}

/// What is kept of `containers` of an engine that is put to rest now.
pub fn record(engine: UserEngine, containers: Vec<LeftContainer>) -> Result<String> {
    let mut containers: Vec<_> = containers.into_iter().take(MOST).map(ended).collect();
    let mut room = MOST_BYTES;
    containers.retain(|container| {
        let bytes = serde_json::to_vec(container).map_or(usize::MAX, |text| text.len());
        let fits = bytes <= room;
        room -= if fits { bytes } else { 0 };
        fits
    });
    serde_json::to_string(&Left { engine, containers }).map_err(|e| Error::internal(e.to_string()))
}

/// Its engine's rest ends it.
fn ended(mut container: LeftContainer) -> LeftContainer {
    use ContainerState::{Paused, Restarting, Running};
    if matches!(container.info.state, Running | Paused | Restarting) {
        container.info.state = ContainerState::Exited;
        container.info.status = "Ended with its engine".into();
    }
    container
}

/// What was recorded in that file of the engine that is not `engine`. Where it has changed back, nothing.
pub fn read(path: &Path, engine: UserEngine) -> Vec<LeftContainer> {
    let left = disk::read_json::<Left>(path).filter(|left| left.engine != engine);
    left.map(|left| left.containers).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::types::Health;

    fn container(name: &str) -> LeftContainer {
        let (id, image, status) = ("a".repeat(64), "busybox".into(), "Up 5 minutes".into());
        let (state, health) = (ContainerState::Running, Health::None);
        let info = ContainerInfo { id, name: name.into(), image, state, status, health, created: 1, ports: Vec::new() };
        LeftContainer { info, own: false }
    }

    #[test]
    fn what_is_kept_has_an_end_and_any_name() {
        let names = ["../../etc/passwd", "a\"b\\c\u{0}\u{1b}[2J\n", "é\u{202e}", ""];
        let text = record(UserEngine::Docker, names.map(container).into()).unwrap();
        let left: Left = serde_json::from_str(&text).unwrap();
        assert!(left.containers.iter().map(|c| c.info.name.as_str()).eq(names));
        let many = (0..5000).map(|i| container(&i.to_string())).collect();
        let left: Left = serde_json::from_str(&record(UserEngine::Docker, many).unwrap()).unwrap();
        assert_eq!(left.containers.len(), MOST);
        let large = [container("first"), container(&"x".repeat(MOST_BYTES)), container("last")];
        let left: Left = serde_json::from_str(&record(UserEngine::Docker, large.into()).unwrap()).unwrap();
        assert!(left.containers.iter().map(|c| c.info.name.as_str()).eq(["first", "last"]));
    }

    #[test]
    fn only_the_other_engines_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("left.json");
        assert!(read(&file, UserEngine::Docker).is_empty());
        std::fs::write(&file, record(UserEngine::Docker, vec![container("web")]).unwrap()).unwrap();
        assert!(read(&file, UserEngine::Docker).is_empty());
        let [left] = read(&file, UserEngine::Containerd).try_into().unwrap();
        assert_eq!((left.info.name.as_str(), left.info.state), ("web", ContainerState::Exited));
        // Somebody has written something else there.
        std::fs::write(&file, "{\"engine\":\"docker\",\"containers\":7}").unwrap();
        assert!(read(&file, UserEngine::Containerd).is_empty());
    }
}

//! What the engine holds that the VM had before. Nobody can ask it while it rests, so it is asked before it is put to rest.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::state::LeftContainer;
use crate::{
    engine::types::{APP_LABEL, ContainerState, ListOptions},
    error::Result,
    fetch::disk,
    guest::{Guest, ssh::SshGuest},
    lima::instance::Instance,
    manager::payload::{Payload, UserEngine},
    process::Command,
    task,
};

const FILE: &str = "lima-runtime.left.json";
/// How long an engine may take that has started with its guest for the last time.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Whoever made them named them, and published their ports: no more is kept than a person would look through.
const MOST: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Left {
    engine: UserEngine,
    containers: Vec<LeftContainer>,
}

/// Asks the engine `other`, which is to be put to rest, what it holds, and keeps the answer beside the instance.
pub(super) async fn note(
    instance: &Instance,
    other: &Payload,
    (guest, socket): (&SshGuest, &str),
    (app, namespace): (&str, &str),
) -> Result<()> {
    // One that rests already was asked when it was put to rest.
    let unit = other.daemon.last().copied().unwrap_or_default();
    if !guest.run(Command::new(["systemctl", "is-enabled", "--quiet", unit]).root()).await?.success() {
        return Ok(());
    }
    let list =
        async |options: &ListOptions| other.containers(Arc::new(guest.clone()), socket, namespace, options).await;
    let all = ListOptions { all: true, ..ListOptions::default() };
    let began = Instant::now();
    let held = loop {
        match list(&all).await {
            Err(_) if began.elapsed() < PATIENCE => tokio::time::sleep(POLL_INTERVAL).await,
            answer => break answer?,
        }
    };
    let filters = [("label".to_owned(), vec![format!("{APP_LABEL}={app}")])].into();
    let own = list(&ListOptions { filters, ..all }).await?;
    let containers = held.into_iter().map(|info| LeftContainer { own: own.iter().any(|o| o.id == info.id), info });
    let text = record(other.engine, containers.map(ended).collect())?;
    instance.write(FILE, &text).await
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

fn record(engine: UserEngine, mut containers: Vec<LeftContainer>) -> Result<String> {
    let mut room = MOST_BYTES;
    containers.truncate(MOST);
    containers.retain(|container| {
        let bytes = serde_json::to_vec(container).map_or(usize::MAX, |text| text.len());
        let fits = bytes <= room;
        room -= if fits { bytes } else { 0 };
        fits
    });
    serde_json::to_string(&Left { engine, containers }).map_err(|e| crate::error::Error::internal(e.to_string()))
}

/// What was noted of the engine that is not `engine`. Of an instance that has changed back, nothing.
pub(super) async fn read(instance: &Instance, engine: UserEngine) -> Vec<LeftContainer> {
    let path = instance.path(FILE);
    let left = task::blocking(move || Ok(disk::read_json::<Left>(&path))).await.ok().flatten();
    left.filter(|left| left.engine != engine).map(|left| left.containers).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::types::{ContainerInfo, Health};

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

    #[tokio::test]
    async fn only_the_other_engines_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance { name: "default".into(), dir: dir.path().into() };
        assert!(read(&instance, UserEngine::Docker).await.is_empty());
        let text = record(UserEngine::Docker, vec![ended(container("web"))]).unwrap();
        instance.write(FILE, &text).await.unwrap();
        assert!(read(&instance, UserEngine::Docker).await.is_empty());
        let [left] = read(&instance, UserEngine::Containerd).await.try_into().unwrap();
        assert_eq!((left.info.name.as_str(), left.info.state), ("web", ContainerState::Exited));
        // Somebody has written something else there.
        instance.write(FILE, "{\"engine\":\"docker\",\"containers\":7}").await.unwrap();
        assert!(read(&instance, UserEngine::Containerd).await.is_empty());
    }
}

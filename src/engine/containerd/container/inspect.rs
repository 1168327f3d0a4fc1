//! What is known about one container.

use super::super::{
    nerdctl::{
        files::Kept,
        labels::{IMAGE, MONITOR_POLICY, RESTART},
    },
    network::hosts::attachments,
    prelude::*,
    source::api::millis,
};
use super::{
    find::find_with_task,
    health::health_of,
    restart_policy::{comes_back, policy},
    spec::{mounts, spec, strings},
};
use crate::engine::image_config::variables;

pub(crate) async fn inspect(c: &Containerd, id: &str) -> Result<ContainerInfo> {
    let (container, task) = find_with_task(c, id).await?;
    let kept = c.kept(&container, task.clone()).await?;
    let task = c.ends.or_task(&container.id, task, &kept);
    Ok(info(&container, task.as_ref(), kept, time::now()))
}

pub(crate) fn info(container: &Container, task: Option<&Task>, kept: Kept, now: Millis) -> ContainerInfo {
    let state = match task {
        Some(task) if task.state == ContainerState::Exited && comes_back(container, task) => ContainerState::Restarting,
        Some(task) => task.state,
        // Its task went with the guest or the daemon: it did run.
        None if kept.started_at.is_some() => ContainerState::Exited,
        None => ContainerState::Stopped,
    };
    let health = health_of(container);
    let name = labels::name(container).filter(|name| !name.is_empty());
    ContainerInfo {
        id: container.id.clone(),
        name: name.unwrap_or(&container.id).to_owned(),
        image: container.labels.get(IMAGE).cloned().unwrap_or_else(|| reference::familiar(&container.image).to_owned()),
        state,
        status: status(state, task, kept.started_at, health, now),
        health,
        created: container.created_at.as_ref().map(millis).unwrap_or_default(),
        ports: kept.ports,
    }
}

/// The words of `docker ps`.
fn status(state: ContainerState, task: Option<&Task>, started: Option<Millis>, health: Health, now: Millis) -> String {
    let up = || time::human(now.saturating_sub(started.unwrap_or(now)));
    let exit = task.and_then(|t| t.exit_code);
    let ago = |t: &Task| time::human(now.saturating_sub(t.exited_at.unwrap_or(now)));
    match (state, task, exit) {
        (ContainerState::Running, ..) => {
            let mark = match health {
                Health::Healthy => " (healthy)",
                Health::Unhealthy => " (unhealthy)",
                Health::Starting => " (health: starting)",
                Health::None => "",
            };
            format!("Up {}{mark}", up())
        }
        (ContainerState::Paused, ..) => format!("Up {} (Paused)", up()),
        (ContainerState::Restarting, Some(t), Some(code)) => format!("Restarting ({code}) {} ago", ago(t)),
        (_, Some(t), Some(code)) => format!("Exited ({code}) {} ago", ago(t)),
        (ContainerState::Exited, ..) => "Exited".into(),
        _ => "Created".into(),
    }
}

pub(crate) async fn details(c: &Containerd, id: &str) -> Result<ContainerDetails> {
    let (container, task) = find_with_task(c, id).await?;
    let kept = c.kept(&container, task.clone()).await?;
    let started_at = kept.started_at;
    let task = c.ends.or_task(&container.id, task, &kept);
    let info = info(&container, task.as_ref(), kept, time::now());
    let ended = !matches!(info.state, ContainerState::Running | ContainerState::Paused | ContainerState::Restarting);
    let spec = spec(&container);
    let networks = attachments(c, &container, !ended).await?;
    let label = |key: &str| container.labels.get(key).map(String::as_str);
    let raw = serde_json::json!({
        "id": container.id,
        "image": container.image,
        "labels": container.labels,
        "snapshotter": container.snapshotter,
        "snapshotKey": container.snapshot_key,
        "runtime": container.runtime.as_ref().map(|r| r.name.clone()),
        "pid": task.as_ref().map(|t| t.pid),
        "spec": spec,
    });
    Ok(ContainerDetails {
        labels: labels::labels_of(&container),
        command: strings(&spec["process"]["args"]).map(str::to_owned).collect(),
        env: variables(strings(&spec["process"]["env"])),
        mounts: mounts(&container),
        networks,
        exit_code: task.as_ref().and_then(|t| t.exit_code).filter(|_| ended),
        started_at,
        finished_at: task.as_ref().and_then(|t| t.exited_at).filter(|_| ended),
        restart_policy: policy(label(RESTART).or_else(|| label(MONITOR_POLICY))),
        raw,
        info,
    })
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    use super::super::nerdctl::labels::{EMPTY, HEALTH_STATE, HEALTHCHECK, STOP_TIMEOUT};
    let text = String::from_utf8_lossy(data);
    reference::familiar(&text);
    let seconds = i64::from_le_bytes(std::array::from_fn(|i| data.get(i).copied().unwrap_or_default()));
    let created_at = Some(prost_types::Timestamp { seconds, nanos: i32::MAX });
    let keys = [HEALTHCHECK, HEALTH_STATE, RESTART, EMPTY, IMAGE, STOP_TIMEOUT];
    let labels = keys.map(|key| (key.to_owned(), text.clone().into_owned())).into();
    let spec = Some(prost_types::Any { type_url: String::new(), value: data.to_vec() });
    let container = Container { labels, spec, created_at, ..Container::default() };
    mounts(&container);
    labels::stop_timeout(&container);
    labels::labels_of(&container);
    let task = Task { state: ContainerState::Exited, pid: 1, exit_code: Some(1), exited_at: Some(seconds) };
    info(&container, Some(&task), Kept::default(), time::now());
}

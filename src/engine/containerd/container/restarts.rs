//! What follows on events: restarts that are ours to do, and what is remembered of ends.

use std::{sync::Weak, time::Duration};

use super::super::{
    client::Inner,
    events::hub::Follower,
    nerdctl::labels::{AUTO_REMOVE, RESTART},
    prelude::*,
};
use super::{
    lifecycle::{remove_ended, start},
    restart_policy::{meant_to_run, policy_name, watched},
};
use crate::call::{CONTAINER_CALL, Call};

/// Of one engine, which it does not keep alive.
pub(crate) struct Restarts(pub(crate) Weak<Inner>);

impl Follower for Restarts {
    fn subscribed(&self) {
        if let Some(c) = Containerd::upgrade(&self.0) {
            task::spawn(async move { resume(&c).await });
        }
    }

    fn happened(&self, event: &RuntimeEvent) {
        let Some(c) = Containerd::upgrade(&self.0).filter(|_| event.kind == EventKind::Container) else { return };
        match (event.action.as_str(), event.exit_code) {
            ("start", _) => c.files.forget(&event.id),
            ("destroy", _) => c.ends.forget(&event.id),
            ("die", Some(code)) => {
                c.ends.remember(&event.id, code, event.time);
                let id = event.id.clone();
                task::spawn(async move { ended(&c, &id, code).await });
            }
            _ => {}
        }
    }
}

/// What failed while nobody watched.
async fn resume(c: &Containerd) {
    for (container, task) in c.everything().await.unwrap_or_default() {
        let ours = watched(&container) || container.labels.contains_key(AUTO_REMOVE);
        if let Some(code) = task.and_then(|t| t.exit_code).filter(|_| ours) {
            ended(c, &container.id, code).await;
        }
    }
}

/// A container ended: starts it again, or removes it, where that is ours to do.
async fn ended(c: &Containerd, id: &str, exit_code: i64) {
    let Ok(container) = c.api.container(id).await else { return };
    if container.labels.contains_key(AUTO_REMOVE) {
        // Unless it runs again.
        if c.api.task(id).await.is_ok_and(|task| task.is_some_and(|t| t.exit_code.is_none())) {
            return;
        }
        match Call::default().run(CONTAINER_CALL, remove_ended(c, id)).await {
            Err(e) if e.code() != ErrorCode::ContainerNotFound => {
                tracing::warn!(id, %e, "a container that was to be removed at its end is still there");
            }
            _ => {}
        }
        return;
    }
    let enough =
        exit_code != 0 || container.labels.get(RESTART).is_some_and(|p| p != policy_name(RestartPolicy::OnFailure));
    if !enough || !watched(&container) || !meant_to_run(&container) {
        return;
    }
    // Docker's back-off (docs/reference/docker.md#restarts).
    let mut delay = Duration::from_millis(100);
    for _ in 0..ATTEMPTS {
        tokio::time::sleep(delay).await;
        delay *= 2;
        let again = c.api.container(id).await;
        if !again.is_ok_and(|a| meant_to_run(&a)) {
            return;
        }
        match Call::default().run(CONTAINER_CALL, start(c, id)).await {
            Ok(()) => return,
            Err(e) => tracing::warn!(id, %e, "a container that failed could not be started again"),
        }
    }
}

/// How often a restart of ours is tried before it is given up: for two minutes and a half.
const ATTEMPTS: usize = 10;

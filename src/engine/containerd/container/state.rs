//! What this process knows of containers, and containerd does not.

use std::collections::HashMap;

use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use super::super::{nerdctl::files::Kept, source::containers::Task};
use crate::{
    engine::{ContainerState, HealthcheckDriver, Millis},
    mutex::Mutex,
};

/// How containers ended that we heard of: containerd 2 forgets it when it is started anew
/// (docs/reference/containerd.md#ended-tasks-after-a-restart).
#[derive(Default)]
pub(crate) struct Ends(Mutex<HashMap<String, Task>>);

impl Ends {
    pub(crate) fn remember(&self, id: &str, exit_code: i64, at: Millis) {
        let end = Task { state: ContainerState::Exited, pid: 0, exit_code: Some(exit_code), exited_at: Some(at) };
        self.0.lock().insert(id.to_owned(), end);
    }

    pub(crate) fn forget(&self, id: &str) {
        self.0.lock().remove(id);
    }

    /// The task, or what is known of the one the container had since its last start.
    pub(crate) fn or_task(&self, id: &str, task: Option<Task>, kept: &Kept) -> Option<Task> {
        task.or_else(|| {
            let ends = self.0.lock();
            ends.get(id).filter(|end| kept.started_at.is_some() && end.exited_at >= kept.started_at).cloned()
        })
    }
}

/// Who runs the checks, and those that are ours to run.
#[derive(Default)]
pub(crate) struct Healthchecks {
    pub(crate) driver: OnceCell<HealthcheckDriver>,
    pub(crate) tasks: Mutex<HashMap<String, AbortOnDropHandle<()>>>,
}

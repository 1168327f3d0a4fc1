//! A container's start, stop and end.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;

use super::super::{
    nerdctl::labels::{AUTO_REMOVE, HEALTHCHECK, MONITOR_POLICY, MONITOR_STATUS, OUR_STATUS, RESTART},
    network::attach,
    prelude::*,
    source::containers::not_found,
};
use super::{
    find::{find, find_with_task, invalid_state, running},
    flags, health, logger, record,
    restart_policy::{monitored, policy, set_policy, set_status, watched},
};
use crate::engine::{
    host::HostPort,
    signals::{signal_number, signal_of_stop},
    tidy::tidy,
};

pub(crate) async fn start(c: &Containerd, id: &str) -> Result<()> {
    let (container, task) = find_with_task(c, id).await?;
    match task.map(|t| t.state) {
        // As Docker: nothing to do.
        Some(ContainerState::Running) => return Ok(()),
        Some(ContainerState::Paused) => return Err(invalid_state(id, "is paused")),
        _ => {}
    }
    let _turn = c.roots.of(&container.id).await;
    record::before_start(c, &container).await?;
    if watched(&container) || container.labels.contains_key(AUTO_REMOVE) {
        // Before it can end.
        if let Err(e) = c.hub.listen().await {
            tracing::warn!(%e, "containerd's events cannot be followed");
        }
    }
    if watched(&container) {
        set_status(c, &container, "running").await?;
    }
    let result = nerdctl_start(c, id, &container).await;
    c.files.forget(&container.id);
    if result.is_err() {
        logger::end(c, &container.id).await;
    }
    result.map_err(|e| match e.code() {
        // What is missing is inside the message of runc: the program, a mount's source.
        ErrorCode::EngineError | ErrorCode::ContainerNotFound => {
            Error::new(ErrorCode::EngineError, e.message()).detail("id", id)
        }
        _ => e,
    })?;
    started(c, &container).await
}

/// `nerdctl start`, while two kinds of labels are taken off the container: the restart monitor's
/// (docs/reference/nerdctl.md#start-and-the-monitor), and the healthcheck's, of which nerdctl would make timers
/// (docs/reference/nerdctl.md#health-timers).
async fn nerdctl_start(c: &Containerd, id: &str, container: &Container) -> Result<()> {
    let policy = match (container.labels.get(MONITOR_POLICY), container.labels.get(RESTART)) {
        (Some(policy), _) => Some(policy.clone()).filter(|p| p != "no"),
        // A start that was killed may have left it taken off.
        (None, Some(asked)) => monitored(c, policy(Some(asked))).await?.map(str::to_owned),
        (None, None) => None,
    };
    let mut labels = HashMap::new();
    if let Some(policy) = policy {
        labels.insert(MONITOR_POLICY, policy);
        labels.insert(MONITOR_STATUS, "stopped".to_owned());
        // A stop that comes meanwhile writes here what it wants.
        labels.insert(OUR_STATUS, String::new());
    }
    if let Some(check) = container.labels.get(HEALTHCHECK)
        && health::driver(c).await == HealthcheckDriver::Timer
    {
        labels.insert(HEALTHCHECK, check.clone());
    }
    let start = async || c.nerdctl.write(About::Container(id), ["start", &container.id]).await.map(drop);
    if labels.is_empty() {
        return start().await;
    }
    let mut hidden = HiddenLabels::new(c, &container.id, labels).await?;
    let result = start().await;
    hidden.restore(result.is_ok()).await?;
    result
}

/// Labels taken off a container, until they are shown again or this is dropped.
struct HiddenLabels {
    c: Containerd,
    id: String,
    labels: HashMap<&'static str, String>,
}

impl HiddenLabels {
    async fn new(c: &Containerd, id: &str, labels: HashMap<&'static str, String>) -> Result<Self> {
        let hidden = Self { c: c.clone(), id: id.to_owned(), labels };
        // containerd keeps no label without a value.
        c.api.set_labels(id, hidden.labels.keys().map(|key| ((*key).to_owned(), String::new())).collect()).await?;
        Ok(hidden)
    }

    async fn restore(&mut self, running: bool) -> Result<()> {
        if running && let Some(status) = self.labels.get_mut(MONITOR_STATUS) {
            let meanwhile = self.c.api.container(&self.id).await?;
            if meanwhile.labels.get(OUR_STATUS).is_none_or(|s| s != "stopped") {
                "running".clone_into(status);
            }
        }
        self.c.api.set_labels(&self.id, owned(self.labels.clone())).await?;
        self.labels.clear();
        Ok(())
    }
}

impl Drop for HiddenLabels {
    fn drop(&mut self) {
        let labels = std::mem::take(&mut self.labels);
        if labels.is_empty() {
            return;
        }
        let (c, id) = (self.c.clone(), std::mem::take(&mut self.id));
        tidy("a start was given up, and a container's restart policy or healthcheck is lost", move || {
            let (c, id, labels) = (c.clone(), id.clone(), owned(labels.clone()));
            Box::pin(async move { c.api.set_labels(&id, labels).await })
        });
    }
}

fn owned(labels: HashMap<&'static str, String>) -> HashMap<String, String> {
    labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What follows on each start.
async fn started(c: &Containerd, container: &Container) -> Result<()> {
    attach::started(c, container).await?;
    if let Some(host) = &c.settings.host {
        let ports = c.kept(container, None).await?.ports;
        let ports: Vec<HostPort> = ports.iter().filter_map(|p| Some((p.protocol, p.host_port?))).collect();
        if !ports.is_empty() {
            host.await_ports(&ports).await?;
        }
    }
    health::started(c, container).await
}

pub(crate) async fn stop_timeout(c: &Containerd, id: &str) -> Result<StopTimeout> {
    find(c, id).await.map(|container| labels::stop_timeout(&container))
}

pub(crate) async fn stop(c: &Containerd, id: &str, timeout: Option<u32>) -> Result<()> {
    let container = find(c, id).await?;
    record::nerdctls_own(c, &container)?;
    // First: the monitor brings back what ends while it is meant to run
    // (docs/reference/nerdctl.md#stop-and-restart-policies).
    set_status(c, &container, "stopped").await?;
    stop_with(c, &container, timeout).await?;
    health::stopped(c, &container.id).await;
    Ok(())
}

/// We wait for the container's end, not nerdctl: while nerdctl waited, no other call could change anything.
async fn stop_with(c: &Containerd, container: &Container, timeout: Option<u32>) -> Result<()> {
    let timeout = timeout.map_or_else(|| labels::stop_timeout(container), StopTimeout::Seconds);
    let ended = ask_to_end(c, container, timeout).await?;
    let result = c.nerdctl.write(About::Container(&container.id), ["stop", "--time=0", &container.id]).await;
    c.files.forget(&container.id);
    match result {
        // One that removes itself.
        Err(e) if ended && e.code() == ErrorCode::ContainerNotFound => Ok(()),
        other => other.map(drop),
    }
}

/// Sends the container's own signal, and waits for its end as long as it may take. False where it goes on; then nerdctl kills
/// it.
async fn ask_to_end(c: &Containerd, container: &Container, timeout: StopTimeout) -> Result<bool> {
    let patience = match timeout {
        StopTimeout::Seconds(0) => return Ok(false),
        StopTimeout::Seconds(seconds) => Duration::from_secs(seconds.into()),
        // As long as the caller has patience.
        StopTimeout::Never => Duration::MAX,
    };
    let Some(task) = c.api.task(&container.id).await?.filter(|t| t.exit_code.is_none()) else { return Ok(true) };
    let signal = signal_of_stop(container.labels.get(labels::STOP_SIGNAL).map(String::as_str));
    let end = async {
        c.api.kill(&container.id, signal).await?;
        if task.state == ContainerState::Paused {
            // As nerdctl: a frozen process takes no notice of it.
            c.api.resume(&container.id).await?;
        }
        c.api.wait(&container.id).await
    };
    match tokio::time::timeout(patience, end).await {
        // Of one that ended just now.
        Ok(Err(e)) if e.code() == ErrorCode::ContainerNotFound => Ok(true),
        Ok(ended) => ended.map(|_| true),
        Err(_) => Ok(false),
    }
}

pub(crate) async fn restart(c: &Containerd, id: &str, timeout: Option<u32>) -> Result<()> {
    let container = find(c, id).await?;
    record::nerdctls_own(c, &container)?;
    set_status(c, &container, "stopped").await?;
    if !container.labels.contains_key(AUTO_REMOVE) {
        stop_with(c, &container, timeout).await?;
        return start(c, &container.id).await;
    }
    // This end is not its last one.
    let mark =
        async |value: &str| c.api.set_labels(&container.id, [(AUTO_REMOVE.to_owned(), value.to_owned())].into()).await;
    mark("").await?;
    let again = async {
        stop_with(c, &container, timeout).await?;
        c.hub.listen().await?;
        start(c, &container.id).await
    };
    let result = again.await;
    mark("true").await?;
    // Meanwhile nobody would have removed it.
    if c.api.task(&container.id).await?.is_none_or(|t| t.exit_code.is_some()) {
        remove_ended(c, &container.id).await?;
    }
    result
}

pub(crate) async fn update(c: &Containerd, id: &str, changes: &ContainerUpdate) -> Result<()> {
    let (container, task) = find_with_task(c, id).await?;
    record::nerdctls_own(c, &container)?;
    let removes_itself = container.labels.contains_key(AUTO_REMOVE);
    if removes_itself && changes.restart.is_some_and(|policy| policy != RestartPolicy::No) {
        return Err(invalid_state(id, "is removed at its end, and so cannot be started again"));
    }
    if let Some(resources) = &changes.resources {
        flags::check_limits(c, resources).await?;
        let flags = flags::update(resources);
        if !flags.is_empty() {
            let args = ["update".to_owned()].into_iter().chain(flags).chain([container.id.clone()]);
            c.nerdctl.write(About::Container(id), args).await?;
        }
    }
    match changes.restart {
        Some(policy) => set_policy(c, &container, policy, task.is_some_and(|t| t.exit_code.is_none())).await,
        None => Ok(()),
    }
}

pub(crate) async fn kill(c: &Containerd, id: &str, signal: &str) -> Result<()> {
    let (container, task) = find_with_task(c, id).await?;
    let number = signal_number(signal)?;
    let Some(task) = task.filter(|t| t.exit_code.is_none()) else { return Err(invalid_state(id, "is not running")) };
    // As Docker: who kills it does not want it back.
    if number == 9 || number == 15 {
        set_status(c, &container, "stopped").await?;
    }
    match c.api.kill(&container.id, number).await {
        Err(e) if e.code() == ErrorCode::ContainerNotFound => return Err(invalid_state(id, "is not running")),
        other => other?,
    }
    if number == 9 && task.state == ContainerState::Paused {
        // A frozen process does not die (docs/reference/containerd.md#tasks).
        _ = c.api.resume(&container.id).await;
    }
    Ok(())
}

/// What a container that removes itself leaves is nobody's: its anonymous volumes go, too.
pub(super) async fn remove_ended(c: &Containerd, id: &str) -> Result<()> {
    let (container, _) = find_with_task(c, id).await?;
    record::nerdctls_own(c, &container)?;
    remove_with(c, id, &container, true, true).await
}

/// Anonymous volumes stay, as with `docker rm`: they may hold data. Those of a container that never ran hold none, and
/// nobody could name them afterwards.
pub(crate) async fn remove(c: &Containerd, id: &str, force: bool) -> Result<()> {
    let (container, task) = find_with_task(c, id).await?;
    if !force && task.as_ref().is_some_and(|t| matches!(t.state, ContainerState::Running | ContainerState::Paused)) {
        return Err(Error::new(ErrorCode::InUse, format!("Container {id} is running"))
            .detail("id", id)
            .hint("Stop it first, or pass force."));
    }
    record::nerdctls_own(c, &container)?;
    let never_ran = task.is_none() && c.kept(&container, None).await?.started_at.is_none();
    remove_with(c, id, &container, force, never_ran).await
}

async fn remove_with(c: &Containerd, id: &str, container: &Container, force: bool, volumes: bool) -> Result<()> {
    let mut args = vec!["rm"];
    args.extend(force.then_some("--force"));
    args.extend((volumes && record::takes_own_volumes(container)).then_some("--volumes"));
    args.push(&container.id);
    set_status(c, container, "stopped").await?;
    c.nerdctl.write(About::Container(id), args).await?;
    c.files.forget(&container.id);
    health::stopped(c, &container.id).await;
    attach::removed(c, &container.id).await
}

/// nerdctl keeps the name in its labels, in its store of names and in its files for `/etc/hosts`.
pub(crate) async fn rename(c: &Containerd, id: &str, name: &str) -> Result<()> {
    let container = find(c, id).await?;
    record::nerdctls_own(c, &container)?;
    c.nerdctl.write(About::Container(id), ["rename", "--", &container.id, name]).await?;
    c.files.forget(&container.id);
    Ok(())
}

pub(crate) async fn pause(c: &Containerd, id: &str) -> Result<()> {
    let (container, _) = running(c, id).await?;
    c.api.pause(&container.id).await
}

pub(crate) async fn unpause(c: &Containerd, id: &str) -> Result<()> {
    let (container, task) = find_with_task(c, id).await?;
    if task.is_none_or(|t| t.state != ContainerState::Paused) {
        return Err(invalid_state(id, "is not paused"));
    }
    c.api.resume(&container.id).await
}

pub(crate) async fn wait(c: &Containerd, reference: &str) -> Result<WaitResult> {
    let (container, task) = find_with_task(c, reference).await?;
    let id = container.id.as_str();
    if task.is_none() {
        let kept = c.kept(&container, None).await?;
        if let Some(exit_code) = c.ends.or_task(id, None, &kept).and_then(|end| end.exit_code) {
            return Ok(WaitResult { exit_code });
        }
        if kept.started_at.is_some() {
            return Err(invalid_state(id, "ended with the engine's restart, and left no exit code"));
        }
        // Never started: until it has been.
        let mut events = c.events_of(id).await?;
        while c.api.task(id).await?.is_none() {
            let event = events.next().await.ok_or_else(|| not_found(reference))??;
            if event.action == "destroy" {
                return Err(not_found(reference));
            }
        }
    }
    c.api.wait(id).await.map(|exit_code| WaitResult { exit_code })
}

//! Restart policies: who carries one out, and the labels that say whether a container is meant to run.

use std::collections::HashMap;

use super::super::{
    nerdctl::labels::{
        EXPLICITLY_STOPPED, LOG_URI, MONITOR_COUNT, MONITOR_LOG, MONITOR_POLICY, MONITOR_STATUS, OUR_STATUS, RESTART,
    },
    prelude::*,
};

/// The policy by which containerd's monitor does what is wanted, where it has one.
pub(crate) async fn monitored(c: &Containerd, policy: RestartPolicy) -> Result<Option<&'static str>> {
    let known = c.restart_policies().await?;
    let has = |name: &str| known.iter().any(|k| k == name);
    // The monitor's `always` ignores a stop, and 1.6 has no other policy (docs/reference/containerd.md#restart-policies):
    // what it lacks is made of its status label, or of our own watching.
    Ok(match policy {
        RestartPolicy::OnFailure => has("on-failure").then_some("on-failure"),
        _ if has("unless-stopped") => Some("unless-stopped"),
        _ => Some("always"),
    })
}

/// Whether we restart it, not containerd.
pub(crate) fn watched(container: &Container) -> bool {
    container.labels.contains_key(RESTART) && !container.labels.contains_key(MONITOR_POLICY)
}

/// What the monitor, or our own watching, makes of an end of the container.
pub(crate) async fn set_status(c: &Containerd, container: &Container, status: &str) -> Result<()> {
    if container.labels.contains_key(MONITOR_POLICY) || container.labels.contains_key(RESTART) {
        c.api.set_labels(&container.id, [(status_label(container).to_owned(), status.to_owned())].into()).await?;
    }
    Ok(())
}

/// Gives a container another policy; `lives`: whether it runs.
pub(crate) async fn set_policy(
    c: &Containerd,
    container: &Container,
    policy: RestartPolicy,
    lives: bool,
) -> Result<()> {
    let status = if lives { "running" } else { "stopped" };
    let mut labels: HashMap<String, String> =
        [RESTART, OUR_STATUS, MONITOR_POLICY, MONITOR_STATUS, MONITOR_LOG, MONITOR_COUNT, EXPLICITLY_STOPPED]
            .map(|key| (key.to_owned(), String::new()))
            .into();
    let mut put = |key: &str, value: &str| _ = labels.insert(key.to_owned(), value.to_owned());
    if policy != RestartPolicy::No {
        put(RESTART, policy_name(policy));
        if let Some(word) = monitored(c, policy).await? {
            put(MONITOR_POLICY, word);
            put(MONITOR_STATUS, status);
            put(MONITOR_LOG, container.labels.get(LOG_URI).map_or("", String::as_str));
        } else {
            c.hub.listen().await?;
            put(OUR_STATUS, status);
        }
    }
    c.api.set_labels(&container.id, labels).await
}

fn status_label(container: &Container) -> &'static str {
    if watched(container) { OUR_STATUS } else { MONITOR_STATUS }
}

pub(crate) fn meant_to_run(container: &Container) -> bool {
    let says = |label: &str, word: &str| container.labels.get(label).is_some_and(|s| s == word);
    says(status_label(container), "running") && !says(EXPLICITLY_STOPPED, "true")
}

pub(crate) fn comes_back(container: &Container, task: &Task) -> bool {
    let label = |key: &str| container.labels.get(key).map(String::as_str);
    let failed = task.exit_code.is_some_and(|code| code != 0);
    let policy = label(MONITOR_POLICY).or_else(|| label(RESTART)).unwrap_or("no");
    meant_to_run(container) && policy != "no" && (failed || !policy.starts_with("on-failure"))
}

pub(crate) fn policy(text: Option<&str>) -> RestartPolicy {
    match text {
        Some("always") => RestartPolicy::Always,
        Some("unless-stopped") => RestartPolicy::UnlessStopped,
        Some(t) if t.starts_with("on-failure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::No,
    }
}

pub(crate) fn policy_name(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::No => "no",
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::UnlessStopped => "unless-stopped",
    }
}

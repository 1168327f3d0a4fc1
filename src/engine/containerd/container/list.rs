//! The list of containers, and Docker's filters of it.

use super::super::prelude::*;
use super::{inspect::info, spec::mounts};

pub(crate) async fn list(c: &Containerd, options: &ListOptions) -> Result<Vec<ContainerInfo>> {
    let all = c.everything().await?;
    let mut kept = c.kept_of(&all, true).await?;
    let now = time::now();
    let filters = &options.filters;
    let shows_ended = options.all || filters.contains_key("status") || filters.contains_key("exited");
    let mut found: Vec<(i64, ContainerInfo)> = Vec::with_capacity(all.len());
    for (container, task) in &all {
        let running = task.as_ref().is_some_and(|t| t.exit_code.is_none());
        if !running && !shows_ended {
            continue;
        }
        let kept = kept.remove(&container.id).unwrap_or_default();
        let task = c.ends.or_task(&container.id, task.clone(), &kept);
        let shown = info(container, task.as_ref(), kept, now);
        if filters.iter().all(|(key, values)| matches(key, values, container, task.as_ref(), &shown, &all)) {
            found.push((created_nanos(container), shown));
        }
    }
    // The newest first, as docker ps.
    found.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
    Ok(found.into_iter().map(|(_, info)| info).collect())
}

fn created_nanos(container: &Container) -> i64 {
    container
        .created_at
        .as_ref()
        .map_or(0, |t| t.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(t.nanos)))
}

/// One of Docker's filters: one of its values fits; of labels, all of them.
fn matches(
    key: &str,
    values: &[String],
    container: &Container,
    task: Option<&Task>,
    shown: &ContainerInfo,
    all: &[WithTask],
) -> bool {
    let any = |fits: &dyn Fn(&str) -> bool| values.is_empty() || values.iter().any(|v| fits(v));
    match key {
        "name" => any(&|v| shown.name.contains(v.trim_start_matches('/'))),
        "id" => any(&|v| shown.id.starts_with(v)),
        "label" => labels::fit(&labels::labels_of(container), values),
        "status" => any(&|v| match v {
            "created" => shown.state == ContainerState::Stopped,
            _ => serde_json::to_value(shown.state).is_ok_and(|s| s == v),
        }),
        "exited" => any(&|v| task.and_then(|t| t.exit_code).is_some_and(|code| v.parse() == Ok(code))),
        "health" => any(&|v| serde_json::to_value(shown.health).is_ok_and(|h| h == v)),
        "ancestor" => any(&|v| {
            let (a, b) = (reference::familiar(v), reference::familiar(&container.image));
            a == b || v == shown.image || b.rsplit_once(':').is_some_and(|(name, _)| name == a)
        }),
        "network" => any(&|v| labels::networks(container).iter().any(|n| n == v)),
        "volume" => any(&|v| mounts(container).iter().any(|m| m.source == v || m.destination == v)),
        "publish" | "expose" => any(&|v| {
            let (port, protocol) = v.split_once('/').unwrap_or((v, "tcp"));
            shown.ports.iter().any(|p| {
                let number = if key == "publish" { p.host_port } else { Some(p.container_port) };
                number.is_some_and(|n| port.parse() == Ok(n)) && (protocol == "udp") == (p.protocol == Protocol::Udp)
            })
        }),
        "before" | "since" => any(&|v| {
            let other = all.iter().map(|(o, _)| o).find(|o| o.id.starts_with(v) || labels::name(o) == Some(v));
            other.is_some_and(|o| {
                let (mine, its) = (created_nanos(container), created_nanos(o));
                if key == "before" { mine < its } else { mine > its }
            })
        }),
        _ => true,
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let seconds = i64::from_le_bytes(std::array::from_fn(|i| data.get(i).copied().unwrap_or_default()));
    let created_at = Some(prost_types::Timestamp { seconds, nanos: i32::MAX });
    created_nanos(&Container { created_at, ..Container::default() });
}

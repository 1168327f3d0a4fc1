//! Which container a reference means, and whether it runs.

use super::super::{nerdctl::labels::NAME, prelude::*, source::containers::not_found};
use crate::{engine::tidy::is_away, guest::BEGAN};

pub(crate) fn invalid_state(id: &str, why: &str) -> Error {
    Error::new(ErrorCode::InvalidState, format!("Container {id} {why}")).detail("id", id)
}

/// Resolves at a container's end. A wait that fails is not its end: containerd may be gone, or so busy that it gives it up.
pub(super) async fn end(c: &Containerd, id: &str) -> Result<()> {
    match c.api.wait(id).await {
        Err(e) if is_away(&e) || runs(c, id).await? => Err(e),
        _ => Ok(()),
    }
}

pub(super) async fn runs(c: &Containerd, id: &str) -> Result<bool> {
    let task = c.api.task(id).await?;
    Ok(task.is_some_and(|t| matches!(t.state, ContainerState::Running | ContainerState::Paused)))
}

/// A name, an id, or the beginning of one id; a name wins.
pub(crate) async fn find(c: &Containerd, reference: &str) -> Result<Container> {
    let wanted = reference.trim_start_matches('/');
    let mut filters = vec![format!("labels.{NAME:?}=={wanted:?}")];
    if wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
        filters.push(format!("id~=\"^{wanted}\""));
    }
    let mut found = c.api.containers(filters).await?;
    let named = |f: &Container| labels::name(f) == Some(wanted);
    if let Some(i) = found.iter().position(named).or_else(|| found.iter().position(|f| f.id == wanted)) {
        return Ok(found.swap_remove(i));
    }
    match found.len() {
        0 => Err(not_found(reference)),
        1 => Ok(found.swap_remove(0)),
        n => Err(Error::new(
            ErrorCode::ContainerNotFound,
            format!("{n} containers have ids that begin with {reference}"),
        )
        .detail("id", reference)
        .hint("Pass more of the id.")),
    }
}

/// The container and its task. Gone meanwhile is not found.
pub(crate) async fn find_with_task(c: &Containerd, reference: &str) -> Result<(Container, Option<Task>)> {
    let container = find(c, reference).await?;
    let task = c.api.task(&container.id).await?;
    Ok((container, task))
}

/// The full id of a container that runs and is not paused.
pub(crate) async fn running(c: &Containerd, reference: &str) -> Result<(Container, Task)> {
    let (container, task) = find_with_task(c, reference).await?;
    match task {
        Some(task) if task.state == ContainerState::Running => Ok((container, task)),
        Some(task) if task.state == ContainerState::Paused => Err(invalid_state(reference, "is paused")),
        _ => Err(invalid_state(reference, "is not running")),
    }
}

pub(crate) async fn running_or_paused(c: &Containerd, reference: &str) -> Result<(Container, Task)> {
    let (container, task) = find_with_task(c, reference).await?;
    let task = task.filter(|t| matches!(t.state, ContainerState::Running | ContainerState::Paused));
    Ok((container, task.ok_or_else(|| invalid_state(reference, "is not running"))?))
}

/// A container's first process, and the moment it began.
pub(crate) struct FirstProcess {
    pub(crate) pid: String,
    pub(crate) began: String,
}

/// The container's process, where it lives.
pub(crate) async fn living(c: &Containerd, id: &str) -> Result<Option<FirstProcess>> {
    const SAY: &str = r#"began "$1" && printf %s "$at""#;
    let pid = async || -> Result<Option<u32>> {
        let lives = |t: &Task| matches!(t.state, ContainerState::Running | ContainerState::Paused);
        Ok(c.api.task(id).await?.filter(lives).map(|t| t.pid))
    };
    let mut now = pid().await?;
    while let Some(number) = now {
        let text = number.to_string();
        let out = c.guest().run(c.inside(["sh", "-c", &[BEGAN, SAY].concat(), "sh", &text])).await?;
        // Before and after the look the number was this container's.
        now = pid().await?;
        if now == Some(number) {
            let began = String::from_utf8_lossy(&out.checked("sh")?).into_owned();
            return Ok(Some(FirstProcess { pid: text, began }));
        }
    }
    Ok(None)
}

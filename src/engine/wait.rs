//! Waits for what an engine's events tell of: the events say that something changed, and the container is then looked at.

use futures_util::StreamExt;

use super::{backend::Engine, types::*};
use crate::error::{Error, ErrorCode, Result};

/// Until the container is healthy, or gone.
pub(super) async fn until(engine: &dyn Engine, id: &str, condition: WaitCondition) -> Result<()> {
    let full = engine.inspect(id).await?.id;
    let of = |value: &str| vec![value.to_owned()];
    let filters = Filters::from([("type".to_owned(), of("container")), ("container".to_owned(), of(&full))]);
    // It stands before the first look: nothing is missed.
    let mut events = engine.events(&EventOptions { since: None, filters }).await?;
    loop {
        match engine.inspect(&full).await {
            Err(e) if e.code() == ErrorCode::ContainerNotFound && condition == WaitCondition::Removed => return Ok(()),
            Err(e) => return Err(e),
            Ok(info) if condition == WaitCondition::Healthy && is_healthy(&info, id)? => return Ok(()),
            Ok(_) => {}
        }
        loop {
            let event = events.next().await.ok_or_else(|| {
                Error::new(ErrorCode::EngineUnreachable, "The engine ended its events").detail("id", id)
            })??;
            // Each healthcheck is an exec; what comes of it has an event of its own.
            if !event.action.starts_with("exec_") {
                break;
            }
        }
    }
}

fn is_healthy(info: &ContainerInfo, id: &str) -> Result<bool> {
    let never = |why: &str| Error::new(ErrorCode::InvalidState, format!("Container {id} {why}")).detail("id", id);
    match (info.health, info.state) {
        (_, ContainerState::Exited | ContainerState::Dead | ContainerState::Removing) => Err(never("has ended")),
        (Health::None, _) => Err(Error::invalid("condition", format!("container {id} has no healthcheck"))
            .hint("Create it with a healthcheck, or wait for something else.")),
        (Health::Unhealthy, _) => Err(never("is unhealthy")),
        (health, _) => Ok(health == Health::Healthy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_be_healthy_is_an_error() {
        use ContainerState::{Exited, Paused, Running, Stopped};
        let judge = |health, state| {
            let info = ContainerInfo {
                id: "f00".into(),
                name: "web".into(),
                image: "busybox".into(),
                state,
                status: String::new(),
                health,
                created: 0,
                ports: Vec::new(),
            };
            is_healthy(&info, "web").map_err(|e| e.code())
        };
        assert_eq!(judge(Health::Healthy, Running), Ok(true));
        // Not started yet, too.
        for state in [Running, Stopped, Paused] {
            assert_eq!(judge(Health::Starting, state), Ok(false));
            assert_eq!(judge(Health::None, state), Err(ErrorCode::InvalidArgument));
        }
        assert_eq!(judge(Health::Unhealthy, Running), Err(ErrorCode::InvalidState));
        assert_eq!(judge(Health::Healthy, Exited), Err(ErrorCode::InvalidState));
    }
}

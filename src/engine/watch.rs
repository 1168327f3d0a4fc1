//! A list of containers that is kept: what an engine's events tell is looked at, and the list follows.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    backend::{BoxStream, Engine},
    types::*,
};
use crate::{
    error::{Error, ErrorCode, Result},
    task,
};

/// Between two tries to reach an engine that is gone: the first, and the longest.
const PAUSE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];
/// How often, and how long apart, a list is asked that does not show yet what an event told of
/// (docs/reference/docker.md#ends-in-lists).
const LATE: (u32, Duration) = (50, Duration::from_millis(50));
/// A list of so many is read anew rather than each of them.
const MANY: usize = 20;

type List = Vec<ContainerInfo>;

/// The list at first, then each new one; a slow reader gets the newest. It goes on when the engine was gone for a while.
pub(super) async fn containers(engine: Arc<dyn Engine>, filters: Filters) -> Result<BoxStream<List>> {
    let (events, all) = begin(engine.as_ref(), &filters).await?;
    let (tell, told) = watch::channel(all);
    let follow = AbortOnDropHandle::new(task::spawn(follow(engine, filters, events, tell)));
    Ok(stream::unfold((told, follow, true), |(mut told, follow, first)| async move {
        if !first {
            told.changed().await.ok()?;
        }
        let all = told.borrow_and_update().clone();
        Some((Ok(all), (told, follow, false)))
    })
    .boxed())
}

/// The events stand before the list is read: nothing is missed.
async fn begin(engine: &dyn Engine, filters: &Filters) -> Result<(BoxStream<RuntimeEvent>, List)> {
    let kind = Filters::from([("type".to_owned(), vec!["container".to_owned()])]);
    let events = engine.events(&EventOptions { since: None, filters: kind }).await?;
    Ok((events, read(engine, filters).await?))
}

/// Keeps the list of all containers until the engine ends its events, and says why it does.
#[cfg(unix)]
pub(crate) async fn until_lost(engine: &dyn Engine, tell: &watch::Sender<List>) -> Error {
    let all = Filters::new();
    match begin(engine, &all).await {
        Ok((mut events, first)) => {
            set(tell, first);
            kept(engine, &all, &mut events, tell).await
        }
        Err(e) => e,
    }
}

async fn read(engine: &dyn Engine, filters: &Filters) -> Result<List> {
    engine.list(&ListOptions { all: true, filters: filters.clone() }).await
}

async fn follow(
    engine: Arc<dyn Engine>,
    filters: Filters,
    mut events: BoxStream<RuntimeEvent>,
    tell: watch::Sender<List>,
) {
    let [mut pause, longest] = PAUSE;
    loop {
        let lost = kept(engine.as_ref(), &filters, &mut events, &tell).await;
        tracing::debug!(%lost, "a watched list waits for its engine");
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
            if let Ok((again, all)) = begin(engine.as_ref(), &filters).await {
                events = again;
                pause = PAUSE[0];
                set(&tell, all);
                break;
            }
        }
    }
}

fn set(tell: &watch::Sender<List>, all: List) {
    tell.send_if_modified(|now| {
        let new = *now != all;
        *now = all;
        new
    });
}

/// Until the events end.
async fn kept(
    engine: &dyn Engine,
    filters: &Filters,
    events: &mut BoxStream<RuntimeEvent>,
    tell: &watch::Sender<List>,
) -> Error {
    loop {
        let first = match events.next().await {
            Some(Ok(event)) => event,
            Some(Err(e)) => return e,
            None => return Error::new(ErrorCode::EngineUnreachable, "The engine ended its events"),
        };
        // Of a burst, one look.
        let mut changed = Changed::default();
        changed.note(first);
        let mut lost = None;
        while let Some(next) = events.next().now_or_never() {
            match next {
                Some(Ok(event)) => changed.note(event),
                Some(Err(e)) => lost = Some(e),
                None => lost = Some(Error::new(ErrorCode::EngineUnreachable, "The engine ended its events")),
            }
            if lost.is_some() {
                break;
            }
        }
        if let Err(e) = changed.look(engine, filters, tell).await {
            return e;
        }
        if let Some(lost) = lost {
            return lost;
        }
    }
}

#[derive(Default)]
struct Changed {
    gone: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl Changed {
    fn note(&mut self, event: RuntimeEvent) {
        match event.action.as_str() {
            // Nothing that a list shows.
            a if a.starts_with("exec_") => {}
            "top" | "attach" | "detach" | "resize" | "commit" | "copy" | "export" | "archive-path"
            | "extract-to-dir" | "prune" => {}
            "destroy" => {
                self.others.remove(&event.id);
                self.gone.insert(event.id);
            }
            _ => {
                self.others.insert(event.id);
            }
        }
    }

    async fn look(self, engine: &dyn Engine, filters: &Filters, tell: &watch::Sender<List>) -> Result<()> {
        let mut all = tell.borrow().clone();
        // The event says it all.
        all.retain(|c| !self.gone.contains(&c.id));
        if !self.others.is_empty() {
            let named = ["id", "name", "before", "since"].iter().any(|key| filters.contains_key(*key));
            let mut these = filters.clone();
            let whole = named || self.others.len() > MANY;
            if !whole {
                these.insert("id".to_owned(), self.others.iter().cloned().collect());
            }
            let (tries, pause) = LATE;
            for _ in 0..tries {
                if !self.is_late(engine).await? {
                    break;
                }
                tokio::time::sleep(pause).await;
            }
            let found = read(engine, &these).await?;
            if whole {
                all = found;
            } else {
                // In the places that they had; new ones at the beginning, as in a list.
                for info in found.iter().rev() {
                    match all.iter_mut().find(|c| c.id == info.id) {
                        Some(known) => known.clone_from(info),
                        None => all.insert(0, info.clone()),
                    }
                }
                all.retain(|c| !self.others.contains(&c.id) || found.iter().any(|f| f.id == c.id));
            }
        }
        set(tell, all);
        Ok(())
    }

    /// Whether the engine's list lags behind what it says of one container.
    async fn is_late(&self, engine: &dyn Engine) -> Result<bool> {
        let these = Filters::from([("id".to_owned(), self.others.iter().cloned().collect())]);
        let listed = read(engine, &these).await?;
        for id in &self.others {
            let shown = listed.iter().find(|c| c.id == *id);
            match (engine.inspect(id).await, shown) {
                (Ok(now), Some(shown)) if now.state == shown.state && now.name == shown.name => {}
                (Err(e), None) if e.code() == ErrorCode::ContainerNotFound => {}
                (Err(e), _) if e.code() != ErrorCode::ContainerNotFound => return Err(e),
                _ => return Ok(true),
            }
        }
        Ok(false)
    }
}

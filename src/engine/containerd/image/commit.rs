//! Making an image of a container.

use super::super::{
    container::{find::find_with_task, record},
    prelude::*,
};
use super::{documents::facts, reference::full};
use crate::engine::tidy::{is_away, tidy, unless_away};

pub(crate) async fn commit(c: &Containerd, id: &str, options: &CommitOptions) -> Result<String> {
    let (container, task) = find_with_task(c, id).await?;
    record::nerdctls_own(c, &container)?;
    let name = full(&options.reference);
    // By us: a nerdctl that is killed would leave it so.
    let mut paused = None;
    if options.pause.unwrap_or(true) && task.is_some_and(|t| t.state == ContainerState::Running) {
        let mut still = Paused { c: c.clone(), id: container.id.clone() };
        if let Err(e) = c.api.pause(&container.id).await {
            if !is_away(&e) {
                still.id.clear();
            }
            return Err(e);
        }
        paused = Some(still);
    }
    let mut args = vec!["commit".to_owned(), "--pause=false".to_owned()];
    args.extend(options.message.as_ref().map(|message| format!("--message={message}")));
    args.extend(options.author.as_ref().map(|author| format!("--author={author}")));
    args.extend([container.id.clone(), name.clone()]);
    // Not in turn with others: it takes no lock but the container's own, and may take long.
    let made = c.nerdctl.read(About::Container(id), args).await;
    if let Some(paused) = paused {
        paused.end().await;
    }
    made?;
    let image = c.api.image(&name).await?;
    let facts = match &image {
        Some(image) => facts(c, image).await?,
        None => None,
    };
    facts
        .map(|facts| facts.id.clone())
        .ok_or_else(|| Error::internal("nerdctl made no image").detail("reference", name))
}

/// A container that stands still, until this is dropped.
struct Paused {
    c: Containerd,
    id: String,
}

impl Paused {
    async fn end(mut self) {
        // While containerd is away, that is left to do.
        if resume(self.c.clone(), self.id.clone()).await.is_ok() {
            self.id.clear();
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if self.id.is_empty() {
            return;
        }
        let (c, id) = (self.c.clone(), std::mem::take(&mut self.id));
        tidy("a container of which an image was made may stand still", move || Box::pin(resume(c.clone(), id.clone())));
    }
}

async fn resume(c: Containerd, id: String) -> Result<()> {
    // It may have ended, or somebody else has let it go on.
    c.api.resume(&id).await.or_else(unless_away)
}

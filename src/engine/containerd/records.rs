//! The containers' records, kept: containerd reads and sends all of them for each list, and says when one changes.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Containerd, api::Container, events::Version};
use crate::error::Result;

type All = Arc<[Arc<Container>]>;

#[derive(Default)]
pub(super) struct Records(Mutex<Option<(Version, All)>>);

impl Records {
    fn kept(&self, version: Version) -> Option<All> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(of, _)| *of == version).map(|(_, all)| all.clone())
    }

    /// All of them, as they are at the call.
    pub(super) async fn all(&self, c: &Containerd) -> Result<All> {
        // What has changed already need not be waited for.
        if c.hub.version().is_some_and(|v| self.kept(v).is_some())
            && let Some(now) = c.caught_up().await
            && let Some(all) = self.kept(now)
        {
            return Ok(all);
        }
        // The version of before: what changes while they are read is a later one.
        let version = c.hub.version();
        let all: All = c.api.containers(vec![]).await?.into_iter().map(Arc::new).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = version.map(|v| (v, all.clone()));
        Ok(all)
    }
}

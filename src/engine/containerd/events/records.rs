//! The containers' records, kept: containerd reads and sends all of them for each list, and says when one changes.

use std::sync::Arc;

use super::super::source::{api::Api, containers::Container};
use super::hub::{Hub, Version};
use crate::{error::Result, mutex::Mutex};

type All = Arc<[Arc<Container>]>;

#[derive(Default)]
pub(crate) struct Records(Mutex<Option<(Version, All)>>);

impl Records {
    fn kept(&self, version: Version) -> Option<All> {
        let kept = self.0.lock();
        kept.as_ref().filter(|(of, _)| *of == version).map(|(_, all)| all.clone())
    }

    /// All of them, as they are at the call.
    pub(crate) async fn all(&self, api: &Api, hub: &Hub) -> Result<All> {
        // What has changed already need not be waited for.
        if hub.version().is_some_and(|v| self.kept(v).is_some())
            && let Some(now) = hub.caught_up().await
            && let Some(all) = self.kept(now)
        {
            return Ok(all);
        }
        // The version of before: what changes while they are read is a later one.
        let version = hub.version();
        let all: All = api.containers(vec![]).await?.into_iter().map(Arc::new).collect();
        *self.0.lock() = version.map(|v| (v, all.clone()));
        Ok(all)
    }
}

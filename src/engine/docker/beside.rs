//! What an engine on another machine lacks here, as the calls about containers see it.

use std::borrow::Cow;

use async_trait::async_trait;

use crate::{engine::types::ContainerSpec, error::Result};

#[async_trait]
pub(super) trait Beside: Send + Sync + 'static {
    /// `spec` as the engine is to get it. `INVALID_ARGUMENT` for a path of this computer; `PORT_IN_USE` for a port that a
    /// program here has.
    async fn there<'a>(&self, spec: &'a ContainerSpec) -> Result<Cow<'a, ContainerSpec>>;
    async fn created(&self, id: &str, spec: &ContainerSpec);
    async fn started(&self, id: &str, new: bool) -> Result<()>;
    /// Somebody asks about containers: from now on, the ports of those that run are here.
    async fn asked(&self);
}

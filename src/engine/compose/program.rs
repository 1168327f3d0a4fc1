use async_trait::async_trait;

use crate::{
    error::Result,
    progress::{ComposeProgress, Sink},
};

/// docker compose for an engine of the application's own, where that runs. Whence it comes, the engine does not know.
#[async_trait]
pub trait Program: Send + Sync {
    /// Its path there, where it is there already.
    async fn there(&self) -> Result<Option<String>>;
    /// Its path there; brings it where it is not there yet, whole or not at all. Dropping the future gives that up.
    async fn bring(&self, sink: &Sink<ComposeProgress>) -> Result<String>;
}

//! The engine of the VM as a context of the docker CLI.

use super::runtime::LimaRuntime;
use crate::{
    call::Call,
    error::Result,
    manager::payload::{
        UserEngine,
        context::{self, ContextName, ContextOptions},
    },
};

impl LimaRuntime {
    /// `NOT_INSTALLED` where the VM has another engine; other codes as of [`context::register`].
    pub async fn register_docker_context(&self, options: ContextOptions, call: &Call) -> Result<()> {
        self.must_have(UserEngine::Docker)?;
        context::register(options, self.app_name(), self.paths().docker_socket, call).await
    }

    pub async fn unregister_docker_context(&self, options: ContextName, call: &Call) -> Result<()> {
        context::unregister(options, self.app_name(), self.paths().docker_socket, call).await
    }
}

//! The engine of the VM as a context of the docker CLI: written when the application asks for it, never else.

use serde::Deserialize;

use super::runtime::LimaRuntime;
use crate::{call::Call, engine::docker, error::Result, manager::payload::UserEngine, task};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContextOptions {
    /// The application's name by default.
    pub name: Option<String>,
    /// From now on it is the one that `docker` uses.
    #[serde(rename = "use")]
    pub current: bool,
}

/// Options of the way back.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContextName {
    pub name: Option<String>,
}

impl LimaRuntime {
    /// Codes: `NOT_INSTALLED` where the VM has another engine, `NAME_IN_USE`, `INVALID_ARGUMENT`, `INVALID_STATE` for a
    /// `config.json` that cannot be understood.
    pub async fn register_docker_context(&self, options: ContextOptions, call: &Call) -> Result<()> {
        self.must_have(UserEngine::Docker)?;
        let (name, socket) = (self.context_name(options.name), self.paths().docker_socket);
        let app = self.app_name().to_owned();
        call.run(None, task::blocking(move || docker::register_context(&name, &socket, &app, options.current))).await
    }

    /// Takes it away; a context of that name that leads elsewhere stays.
    pub async fn unregister_docker_context(&self, options: ContextName, call: &Call) -> Result<()> {
        let (name, socket) = (self.context_name(options.name), self.paths().docker_socket);
        call.run(None, task::blocking(move || docker::unregister_context(&name, &socket))).await
    }

    fn context_name(&self, name: Option<String>) -> String {
        name.unwrap_or_else(|| self.app_name().to_owned())
    }
}

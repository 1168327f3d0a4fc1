//! An engine of ours as a context of the docker CLI: written when the application asks for it, never else.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{call::Call, engine::docker, error::Result, task};

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

/// Describes the engine at `socket`, by default under the application's name. Codes: `NAME_IN_USE`, `INVALID_ARGUMENT`,
/// `INVALID_STATE` for a `config.json` that cannot be understood.
pub async fn register(options: ContextOptions, app: &str, socket: PathBuf, call: &Call) -> Result<()> {
    let app = app.to_owned();
    let name = options.name.unwrap_or_else(|| app.clone());
    call.run(None, task::blocking(move || docker::register_context(&name, &socket, &app, options.current))).await
}

/// Takes it away; a context of that name that leads elsewhere stays.
pub async fn unregister(options: ContextName, app: &str, socket: PathBuf, call: &Call) -> Result<()> {
    let name = options.name.unwrap_or_else(|| app.to_owned());
    call.run(None, task::blocking(move || docker::unregister_context(&name, &socket))).await
}

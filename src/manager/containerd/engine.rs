//! What is done with the engine: the adapter for Docker's, and the engine's own program.

use std::{path::Path, sync::Arc};

use bytes::Bytes;

use super::BundledRuntime;
use crate::{
    call::Call,
    engine::{Adapter, docker, types::RuntimeType, validate},
    error::{Error, ErrorCode, Result},
    guest::{Guest, local::LocalGuest},
    manager::payload::UserEngine,
    process::Command,
};

/// The application's label when it has no name.
const DEFAULT_APP: &str = "kai";
/// What to do about one that does not answer.
pub(super) const MEND: &str = "Start it again: startDaemon() mends it, and says what it logged.";

impl BundledRuntime {
    /// An adapter for the Docker engine, which need not run yet. As a runtime it is the one that a person knows as
    /// containerd, whichever engine is chosen. `NOT_INSTALLED` where containerd is the engine.
    pub fn adapter(&self) -> Result<Adapter> {
        self.must_have(UserEngine::Docker)?;
        docker_for(&self.paths().docker_socket, self.options().app_name.as_deref().unwrap_or(DEFAULT_APP))
    }

    /// Runs nerdctl or docker, and returns its standard output. No deadline of its own: a pull takes what it takes.
    /// `NOT_INSTALLED` before the first start and with the other engine; `ENGINE_ERROR` for every end but exit code 0, with
    /// `details.exitCode` (or `signal`) and `details.stderr`.
    pub async fn exec(
        &self,
        engine: UserEngine,
        args: &[String],
        input: Option<Bytes>,
        call: &Call,
    ) -> Result<Vec<u8>> {
        self.must_have(engine)?;
        let paths = self.paths();
        let program = match engine {
            UserEngine::Containerd => paths.nerdctl,
            UserEngine::Docker => paths.docker,
        };
        call.run(None, async {
            if !tokio::fs::try_exists(&program).await.unwrap_or_default() {
                return Err(Error::new(ErrorCode::NotInstalled, format!("{} is not there yet", program.display()))
                    .detail("path", program.display().to_string())
                    .hint("Call initialize() first."));
            }
            let program = program.into_os_string().into_encoded_bytes();
            let words = std::iter::once(program).chain(args.iter().map(|a| a.clone().into_bytes()));
            let command = Command::new(words).input(input.unwrap_or_default());
            LocalGuest::new("").run(command).await?.checked(self.payload().program)
        })
        .await
    }
}

#[cfg(target_os = "linux")]
pub(super) fn docker_at(socket: &Path) -> Result<Adapter> {
    docker_for(socket, DEFAULT_APP)
}

fn docker_for(socket: &Path, app: &str) -> Result<Adapter> {
    validate::app_name(app)?;
    let vm = docker::Vm {
        guest: Arc::new(LocalGuest::new("")),
        socket: socket.to_string_lossy().into_owned(),
        runtime_type: RuntimeType::Containerd,
        host: None,
        mend: MEND,
    };
    Ok(docker::adapter_in(vm, app))
}

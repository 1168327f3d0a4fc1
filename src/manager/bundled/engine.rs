//! What is done with the engine: the adapter for Docker's, and the engine's own program.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;

use super::{BundledRuntime, MEND, bridge};
use crate::{
    call::Call,
    engine::{Adapter, docker, types::RuntimeType, validate},
    error::{Error, ErrorCode, Result},
    guest::{Guest, local::LocalGuest},
    manager::payload::{
        UserEngine,
        compose::{self, Compose},
    },
    process::Command,
};

impl BundledRuntime {
    /// An adapter for the Docker engine, which need not run yet. As a runtime it is the one that a person knows as
    /// containerd, whichever engine is chosen. `NOT_INSTALLED` where containerd is the engine.
    pub fn adapter(&self) -> Result<Adapter> {
        self.must_have(UserEngine::Docker)?;
        let app = self.options().label();
        validate::app_name(app)?;
        let as_root = cfg!(target_os = "linux") && rustix::process::geteuid().is_root();
        let guest = Arc::new(LocalGuest::new(""));
        let dir = self.dir().join("compose").to_string_lossy().into_owned();
        let place = compose::Place { guest: guest.clone(), dir, root: false, keeps_download: false };
        let vm = docker::Vm {
            guest,
            socket: self.paths().docker_socket.to_string_lossy().into_owned(),
            runtime_type: RuntimeType::Containerd,
            host: None,
            internal: as_root.then(|| bridge::internal(&self.bridge_files().0)),
            own_dir: self.dir().to_owned(),
            compose: Compose::new(&self.home, &self.options.network, self.options.bundle_dirs(), place),
            mend: MEND,
        };
        Ok(docker::adapter_in(vm, app))
    }

    /// The record of Docker's bridge, and dockerd's directory.
    pub(super) fn bridge_files(&self) -> (PathBuf, String) {
        let dir = self.dir().join("docker");
        (dir.join("bridge.json"), dir.join("data").to_string_lossy().into_owned())
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

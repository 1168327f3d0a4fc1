//! On Windows, `BundledRuntime` does everything in the WSL distribution.

use std::path::PathBuf;

use bytes::Bytes;

use super::{BundledPaths, BundledRuntime, wsl::WslRuntime};
use crate::{
    call::Call,
    engine::{Adapter, containerd::BuildkitPlaces},
    error::Result,
    manager::payload::UserEngine,
    progress::{RuntimeProgress, Sink},
    task,
};

impl BundledRuntime {
    pub fn wsl(&self) -> WslRuntime {
        self.wsl.clone()
    }

    pub fn paths(&self) -> BundledPaths {
        let wsl = self.wsl();
        BundledPaths {
            engine: self.engine(),
            docker: wsl.wrapper(UserEngine::Docker),
            docker_socket: wsl.docker_socket(),
            nerdctl: wsl.wrapper(UserEngine::Containerd),
            guest_nerdctl: wsl.nerdctl(),
            containerd: PathBuf::from("/usr/local/bin/containerd"),
            address: wsl.address().into(),
            data_root: "/var/lib/nerdctl".into(),
            cni: wsl.cni().into(),
            networks: "/etc/cni/net.d".into(),
            buildkit: BuildkitPlaces {
                programs: "/usr/local/bin".into(),
                settings: "/etc/buildkit".into(),
                cache: "/var/lib/buildkit".into(),
            },
        }
    }

    pub async fn is_installed(&self, call: &Call) -> Result<bool> {
        let wsl = self.wsl();
        call.run(None, task::blocking(move || Ok(wsl.is_installed()))).await
    }

    pub async fn has_pre_bundled(&self, call: &Call) -> Result<bool> {
        let wsl = self.wsl();
        call.run(None, task::blocking(move || Ok(wsl.has_pre_bundled()))).await
    }

    pub async fn is_running(&self) -> bool {
        self.wsl().is_running().await
    }

    pub fn adapter(&self) -> Result<Adapter> {
        self.wsl().adapter()
    }

    pub async fn exec(
        &self,
        engine: UserEngine,
        args: &[String],
        input: Option<Bytes>,
        call: &Call,
    ) -> Result<Vec<u8>> {
        self.wsl().exec(engine, args, input, call).await
    }

    pub async fn install(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        self.wsl().install(sink, call).await
    }

    pub async fn initialize(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        self.wsl().initialize(sink, call).await
    }

    pub async fn start_daemon(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        self.wsl().start_daemon(sink, call).await
    }

    pub async fn stop_daemon(&self, call: &Call) -> Result<()> {
        self.wsl().stop_daemon(call).await
    }

    pub async fn uninstall(&self, call: &Call) -> Result<()> {
        self.wsl().uninstall(call).await
    }
}

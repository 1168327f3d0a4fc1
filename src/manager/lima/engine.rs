//! The adapter for the engine in the VM, and what this computer does for it: mounts and ports.

use std::sync::Arc;

use async_trait::async_trait;

use super::{LimaRuntime, MountOption};
use crate::{
    engine::{
        Adapter, Engine, RuntimeType,
        containerd::{Containerd, ContainerdEngine, Settings},
        docker,
        host::{Host, HostPort},
        types::Protocol,
        validate,
    },
    error::Result,
    manager::payload::{
        UserEngine,
        compose::{self, Compose},
        docker::MEND,
    },
};

/// The application's label when it has no name.
const DEFAULT_APP: &str = "kai";

impl LimaRuntime {
    /// The value of the application's label.
    pub(super) fn label(&self) -> &str {
        self.options().app_name.as_deref().unwrap_or(DEFAULT_APP)
    }

    /// An adapter for the VM's containers. It stays valid while the VM is stopped, started or made again. While no VM runs,
    /// every call fails with `VM_NOT_RUNNING`, or starts one that rests by `idleStopMs`.
    pub fn adapter(&self) -> Result<Adapter> {
        Ok(Adapter::new(self.counting(self.bare_engine()?), self.label()))
    }

    /// The adapter's engine, but its calls do not count as uses of the VM.
    pub(super) fn bare_engine(&self) -> Result<Arc<dyn Engine>> {
        let app = self.label().to_owned();
        validate::app_name(&app)?;
        if self.engine() == UserEngine::Docker {
            return Ok(docker::engine_in(
                docker::Vm {
                    guest: self.guest(),
                    socket: self.engine_socket().to_owned(),
                    runtime_type: RuntimeType::Lima,
                    host: Some(Arc::new(self.clone())),
                    internal: None,
                    own_dir: self.dir().to_owned(),
                    compose: self.compose(),
                    mend: MEND,
                },
                &app,
            ));
        }
        let mut settings = Settings::system(self.guest(), RuntimeType::Lima, self.namespace(), &app);
        settings.private = true;
        settings.ca_certificates.clone_from(&self.options().network.http.ca_certificates);
        settings.host = Some(Arc::new(self.clone()));
        settings.own_dirs = vec![self.dir().to_owned()];
        // Made by the first call: a connection needs a runtime, which a constructor does not have.
        let find = move || -> crate::engine::containerd::Finding {
            let settings = settings.clone();
            Box::pin(async { Containerd::new(settings) })
        };
        Ok(Arc::new(ContainerdEngine::new(RuntimeType::Lima, Box::new(find))))
    }
}

impl LimaRuntime {
    /// docker compose in the VM.
    fn compose(&self) -> Arc<Compose> {
        let (guest, dir) = (self.guest(), compose::IN_GUEST.to_owned());
        let place = compose::Place { guest, dir, root: true, keeps_download: true };
        Compose::new(self.home(), &self.options().network, self.bundle_dirs(), place)
    }
}

#[async_trait]
impl Host for LimaRuntime {
    fn mounts(&self) -> Vec<(String, String)> {
        let home = home::home_dir().unwrap_or_default().display().to_string();
        let full = |path: String| match path.strip_prefix('~') {
            Some(rest) => format!("{home}{rest}"),
            None => path,
        };
        let pair = |m: MountOption| {
            let host = full(m.location);
            (host.clone(), m.mount_point.map_or(host, full))
        };
        self.resources().map(|r| r.mounts.into_iter().map(pair).collect()).unwrap_or_default()
    }

    fn forwards(&self, _protocol: Protocol) -> bool {
        true
    }

    async fn check_ports(&self, ports: &[HostPort]) -> Result<()> {
        self.check_host_ports(ports).await
    }

    async fn await_ports(&self, ports: &[HostPort]) -> Result<()> {
        self.await_host_ports(ports).await
    }
}

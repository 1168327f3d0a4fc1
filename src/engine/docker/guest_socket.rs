//! The engine's socket in a guest, which the guest's own channel leads to, and what the engine there asks of the computer
//! around it.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::{
    engine::{
        config,
        host::{self, Host, HostPort},
        types::{ContainerInfo, ContainerSpec, Port},
        validate,
    },
    error::{Error, ErrorCode, Result},
    guest::{Guest, Socket},
};

/// A unix socket of a guest.
#[derive(Clone)]
pub struct GuestSocket {
    guest: Arc<dyn Guest>,
    pub(super) path: String,
    host: Option<Arc<dyn Host>>,
}

impl GuestSocket {
    pub(super) fn new(guest: Arc<dyn Guest>, path: &str, host: Option<Arc<dyn Host>>) -> Self {
        Self { guest, path: path.to_owned(), host }
    }

    pub(super) async fn connect(&self) -> Result<Socket> {
        self.guest.connect(&self.path).await.map_err(|e| match e.code() {
            // This machine's sockets are otherwise containerd's.
            ErrorCode::ContainerdNotReady => Error::new(ErrorCode::EngineUnreachable, e.message()).source(e),
            _ => e,
        })
    }

    /// `spec` in the guest's words, once its ports are seen to be free here: host paths are those of the guest, and a port
    /// without an address is published on 127.0.0.1, for nobody else uses this engine.
    pub(super) async fn in_guest<'a>(&self, spec: &'a ContainerSpec) -> Result<Cow<'a, ContainerSpec>> {
        let mut ours = Cow::Borrowed(spec);
        if let Some(host) = &self.host {
            host::check_published(host.as_ref(), spec).await?;
        }
        host::on_loopback(&mut ours);
        let Some(host) = &self.host else { return Ok(ours) };
        for (i, (field, given)) in config::host_paths(spec).enumerate() {
            // The engine's own API socket is where it listens.
            if validate::is_docker_socket(given) {
                continue;
            }
            let path = host::path_in_guest(host, &self.guest, true, &field, given).await?;
            if field.starts_with("volumes") && !validate::is_socket_name(given) {
                // The engine would make it as root, and then own it, which a mount of the host does not let root do
                // (docs/reference/lima.md#mounts). Where it cannot be made, the engine says why.
                _ = tokio::fs::create_dir_all(given).await;
            }
            if path != given
                && let Some(there) = config::host_paths_mut(ours.to_mut()).nth(i)
            {
                *there = path;
            }
        }
        Ok(ours)
    }

    /// Returns once what the container publishes answers on this computer, or some time later with a warning.
    pub(super) async fn await_ports(&self, container: &ContainerInfo) -> Result<()> {
        let port = |p: &Port| Some((p.protocol, p.host_port?));
        let ports: Vec<HostPort> = container.ports.iter().filter_map(port).collect();
        match &self.host {
            Some(host) if !ports.is_empty() => host.await_ports(&ports).await,
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for GuestSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestSocket({})", self.path)
    }
}

impl PartialEq for GuestSocket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.guest, &other.guest) && self.path == other.path
    }
}

impl Eq for GuestSocket {}

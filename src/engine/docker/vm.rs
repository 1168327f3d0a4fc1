//! An engine of the application's own, in a VM or on this machine.

use std::{path::PathBuf, sync::Arc};

use super::{api::Api, containers, endpoint::Endpoint, guest_socket::GuestSocket, system};
use crate::{
    engine::{
        ComposeProgram,
        host::Host,
        types::{ContainerInfo, ListOptions, RuntimeType},
    },
    error::{Error, ErrorCode, Result},
    guest::Guest,
};

/// Where such an engine is.
#[derive(Clone)]
pub struct Vm {
    pub guest: Arc<dyn Guest>,
    /// The engine's, in the guest.
    pub socket: String,
    pub runtime_type: RuntimeType,
    /// Of a VM: this machine's own engine needs nothing of its host.
    pub host: Option<Arc<dyn Host>>,
    /// What the names of internal networks' bridges begin with, where it is not dockerd that keeps these closed. Seven more
    /// bytes fit.
    pub internal: Option<String>,
    /// What lies here of it, on this computer.
    pub own_dir: PathBuf,
    /// docker compose where the engine runs. On this computer the user's plugin goes before it.
    pub compose: Arc<dyn ComposeProgram>,
    /// What to do where it does not answer. The hints of an engine of the user's lead elsewhere.
    pub mend: &'static str,
}

impl Vm {
    pub(super) async fn connect(&self) -> Result<Api> {
        let socket = GuestSocket::new(self.guest.clone(), &self.socket, self.host.clone());
        Api::connect(Endpoint::Guest(socket)).await
    }
}

/// The version of the engine behind a guest's socket, if it answers: `GET /_ping`, and what it says of itself. `mend` as in
/// [`Vm`].
pub async fn ready(guest: Arc<dyn Guest>, socket: &str, mend: &str) -> Result<String> {
    let ask = async { system::info(Api::connect(Endpoint::Guest(GuestSocket::new(guest, socket, None))).await?).await };
    ask.await.map(|info| info.runtime_version).map_err(|e| explained(e, mend))
}

/// What the engine behind a guest's socket holds.
pub async fn containers_in(guest: Arc<dyn Guest>, socket: &str, options: &ListOptions) -> Result<Vec<ContainerInfo>> {
    containers::list(Api::connect(Endpoint::Guest(GuestSocket::new(guest, socket, None))).await?, options).await
}

pub(super) fn explained(e: Error, mend: &str) -> Error {
    if e.code() == ErrorCode::EngineUnreachable { e.hint(mend) } else { e }
}

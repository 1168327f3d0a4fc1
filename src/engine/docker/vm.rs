//! An engine in a VM of ours.

use std::sync::Arc;

use super::{api::Api, containers, endpoint::Endpoint, guest_socket::GuestSocket, system};
use crate::{
    engine::{
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
    pub host: Arc<dyn Host>,
}

impl Vm {
    pub(super) async fn connect(&self) -> Result<Api> {
        let socket = GuestSocket::new(self.guest.clone(), &self.socket, Some(self.host.clone()));
        Api::connect(Endpoint::Guest(socket)).await
    }
}

/// Whether the engine behind a guest's socket answers: `GET /_ping`, and what it says of itself.
pub async fn ready(guest: Arc<dyn Guest>, socket: &str) -> Result<()> {
    let api = Api::connect(Endpoint::Guest(GuestSocket::new(guest, socket, None))).await.map_err(explained)?;
    system::info(api).await.map(drop).map_err(explained)
}

/// What the engine behind a guest's socket holds.
pub async fn containers_in(guest: Arc<dyn Guest>, socket: &str, options: &ListOptions) -> Result<Vec<ContainerInfo>> {
    containers::list(Api::connect(Endpoint::Guest(GuestSocket::new(guest, socket, None))).await?, options).await
}

/// What to do about an engine in the VM that does not answer. The hints of an engine of the user's lead elsewhere.
pub(super) fn explained(e: Error) -> Error {
    if e.code() == ErrorCode::EngineUnreachable {
        return e.hint("Start the VM again: start() mends the engine in it. See diagnose().");
    }
    e
}

//! After a change of `engine`: what the VM's other engine holds. It is asked before it is disabled.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::Result,
    guest::{Guest, ssh::SshGuest},
    lima::instance::Instance,
    manager::payload::{
        Payload, UserEngine,
        left::{self, LeftContainer, Running},
    },
    process::Command,
    task,
};

const FILE: &str = "lima-runtime.left.json";
/// How long an engine may take that has started with its guest for the last time.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Asks the engine `other`, which is to be disabled, what it holds, and writes the answer into the instance's directory.
pub(super) async fn note(
    instance: &Instance,
    other: &Payload,
    (guest, socket): (&SshGuest, &str),
    (app, namespace): (&str, &str),
) -> Result<()> {
    // One that is disabled already was asked before that.
    let unit = other.daemon.last().copied().unwrap_or_default();
    if !guest.run(Command::new(["systemctl", "is-enabled", "--quiet", unit]).root()).await?.success() {
        return Ok(());
    }
    let at = Running {
        guest: Arc::new(guest.clone()),
        socket,
        namespaces: vec![namespace.to_owned()],
        data_root: None,
        app,
    };
    let began = Instant::now();
    let held = loop {
        match other.held(&at).await {
            Err(_) if began.elapsed() < PATIENCE => tokio::time::sleep(POLL_INTERVAL).await,
            answer => break answer?,
        }
    };
    instance.write(FILE, &left::record(other.engine, held)?).await
}

/// What was noted of the engine that is not `engine`; nothing where the VM has changed back.
pub(super) async fn read(instance: &Instance, engine: UserEngine) -> Vec<LeftContainer> {
    let path = instance.path(FILE);
    task::blocking(move || Ok(left::read(&path, engine))).await.unwrap_or_default()
}

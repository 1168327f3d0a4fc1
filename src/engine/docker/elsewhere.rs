//! An engine on another machine: paths of this computer mean nothing to it, and its ports are not here.

use std::{borrow::Cow, path::Path};

use async_trait::async_trait;

use super::{api::Api, beside::Beside, endpoint::Endpoint, tunnels::Tunnels};
use crate::{
    address,
    engine::{
        config,
        host::{self, asked_for, published},
        types::ContainerSpec,
        validate,
    },
    error::{Error, Result},
};

pub(super) struct Elsewhere {
    /// Host paths are those of the engine's machine.
    remote_paths: bool,
    /// Where ssh leads there. Without a shell on the machine, what the engine publishes stays there.
    tunnels: Option<Tunnels>,
}

impl Elsewhere {
    /// `None` for an engine on this machine, as far as its address tells. `api` asks the engine.
    /// The ports that the application asks for are noted in its directory.
    pub(super) fn of(api: &Api, app_dir: Option<&Path>, remote_paths: bool) -> Option<Self> {
        if !is_elsewhere(api.endpoint()) {
            return None;
        }
        #[cfg(unix)]
        let tunnels = match api.endpoint() {
            Endpoint::Ssh(target) => {
                let link = super::ssh_link::SshLink::new(target.clone());
                let asked = app_dir.map(|dir| super::asked::Noted::new(dir, api.endpoint()));
                Some(Tunnels::new(api.clone(), asked, std::sync::Arc::new(link)))
            }
            _ => None,
        };
        #[cfg(not(unix))]
        let tunnels = {
            _ = app_dir;
            None
        };
        Some(Self { remote_paths, tunnels })
    }
}

#[async_trait]
impl Beside for Elsewhere {
    async fn there<'a>(&self, spec: &'a ContainerSpec) -> Result<Cow<'a, ContainerSpec>> {
        let mut there = Cow::Borrowed(spec);
        if !self.remote_paths {
            check_paths(spec)?;
        }
        if let Some(tunnels) = &self.tunnels {
            check_protocols(spec)?;
            tunnels.check(&published(spec)).await?;
            host::on_loopback(&mut there);
        }
        Ok(there)
    }

    async fn created(&self, id: &str, spec: &ContainerSpec) {
        if let Some(tunnels) = &self.tunnels {
            tunnels.created(id, &asked_for(spec)).await;
        }
    }

    async fn started(&self, id: &str, new: bool) -> Result<()> {
        match &self.tunnels {
            Some(tunnels) => tunnels.started(id, new).await,
            None => Ok(()),
        }
    }

    async fn asked(&self) {
        if let Some(tunnels) = &self.tunnels {
            tunnels.begin().await;
        }
    }
}

fn is_elsewhere(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Ssh(_) => true,
        Endpoint::Tcp { host, .. } => !address::is_loopback(host),
        // `\\\\computer\pipe\…` is another computer's.
        Endpoint::Npipe(path) => !path.starts_with(r"\\.\") && !path.starts_with(r"\\?\"),
        Endpoint::Unix(_) | Endpoint::Guest(_) => false,
    }
}

/// A volume has a name; the engine's own API socket is where it listens.
fn check_paths(spec: &ContainerSpec) -> Result<()> {
    let mut paths = config::host_paths(spec);
    let Some((field, path)) = paths.find(|(_, path)| !validate::is_docker_socket(path)) else { return Ok(()) };
    let problem = format!("{path:?} is a path of this computer, and the engine is on another one");
    Err(Error::invalid(field, problem).hint(
        "Use a volume by its name, or say with `remotePaths: true` that paths are those of the engine's machine.",
    ))
}

/// ssh carries TCP alone. A port with an address of that machine's own is not meant for this one.
fn check_protocols(spec: &ContainerSpec) -> Result<()> {
    let is_for_us = |host: &str| host.rsplit_once(':').is_none_or(|(address, _)| address::is_loopback(address));
    let udp = spec.ports.iter().find(|(port, host)| port.ends_with("/udp") && is_for_us(host));
    udp.map_or(Ok(()), |(port, _)| Err(host::udp_stays(port)))
}

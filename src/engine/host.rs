//! The machine around a guest, where they are two: what an engine in the guest must ask of it.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;

use super::{
    types::{ContainerSpec, Protocol},
    validate,
};
use crate::{
    error::{Error, ErrorCode, Result},
    guest::Guest,
    process::Command,
    task,
};

#[async_trait]
pub trait Host: Send + Sync {
    /// The host's directories that the guest sees, and where it sees them.
    fn mounts(&self) -> Vec<(String, String)>;
    /// The mount in which the guest sees a path of the host, and that path there. Reads links: not on the runtime's threads.
    fn guest_path(&self, path: &str) -> Option<(String, String)> {
        // `strip_prefix` goes by the letters: `..` would lead out of the mount, in the guest.
        let path = validate::clean_path(path);
        self.mounts().into_iter().find_map(|(from, to)| {
            // Of a mount at a link (macOS's /tmp), the real place is the same one.
            let rest = Path::new(&path).strip_prefix(&from).map(Path::to_owned).or_else(|e| {
                let real = std::fs::canonicalize(&from).map_err(|_| e)?;
                Path::new(&path).strip_prefix(real).map(Path::to_owned)
            });
            let path = Path::new(&to).join(rest.ok()?).display().to_string();
            Some((to, path))
        })
    }
    /// The host's directory that the guest sees, and the place in it, of a path of the guest.
    fn host_path(&self, path: &str) -> Option<(PathBuf, PathBuf)> {
        let path = validate::clean_path(path);
        self.mounts().into_iter().find_map(|(from, to)| {
            let rest = Path::new(&path).strip_prefix(to).ok()?;
            Some((from.clone().into(), Path::new(&from).join(rest)))
        })
    }
    /// Whether ports of this protocol are forwarded at all.
    fn forwards(&self, protocol: Protocol) -> bool;
    /// `PORT_IN_USE` when a program of the host has one of these ports.
    async fn check_ports(&self, ports: &[HostPort]) -> Result<()>;
    /// Returns once these ports are forwarded, or some time later.
    async fn await_ports(&self, ports: &[HostPort]) -> Result<()>;
}

/// A port of the host: TCP's and UDP's are apart.
pub type HostPort = (Protocol, u16);

/// Where the guest sees a path of the host that is to be mounted; the path itself where no mount of ours holds it and it
/// names a socket, which may be the guest's own. `INVALID_ARGUMENT` for what the guest does not see. `root`: how the guest is
/// asked.
pub async fn path_in_guest(
    host: &Arc<dyn Host>,
    guest: &Arc<dyn Guest>,
    root: bool,
    field: &str,
    path: &str,
) -> Result<String> {
    let (mounts, asked) = (host.clone(), path.to_owned());
    if let Some((mount, found)) = task::blocking(move || Ok(mounts.guest_path(&asked))).await? {
        // One that failed leaves an empty directory, and Lima says nothing of it (docs/reference/lima.md#mounts).
        let question = Command { root, ..Command::new(["mountpoint", "-q", "--", &mount]) };
        if guest.run(question).await?.success() {
            return Ok(found);
        }
        let problem = format!("{path:?} is not in the VM: {mount} is not mounted there");
        return Err(Error::invalid(field, problem).hint("Restart the VM. If that does not help, see diagnose()."));
    }
    if validate::is_socket_name(path) {
        return Ok(path.to_owned());
    }
    let shown: Vec<_> = host.mounts().into_iter().map(|(from, _)| from).collect();
    let shown = if shown.is_empty() { "no directory of this machine".to_owned() } else { shown.join(", ") };
    Err(Error::invalid(field, format!("{path:?} is not in the VM, which sees {shown}"))
        .hint("Move the files there, or add the directory: manager.configure({ mounts })."))
}

/// Whether what `spec` publishes can be reached from the host: `INVALID_ARGUMENT` for a protocol that is not forwarded,
/// `PORT_IN_USE` for a port that a program of the host has.
pub async fn check_published(host: &dyn Host, spec: &ContainerSpec) -> Result<()> {
    if let Some(udp) = spec.ports.keys().find(|p| p.ends_with("/udp") && !host.forwards(Protocol::Udp)) {
        return Err(udp_stays(udp));
    }
    host.check_ports(&published(spec)).await
}

/// A key of `ports` whose protocol is not forwarded.
pub fn udp_stays(port: &str) -> Error {
    Error::invalid(format!("ports.{port}"), "udp ports are not forwarded to this machine")
        .hint("Publish a tcp port, or reach the container from another one on the same network.")
}

/// The ports of the host that `spec` publishes on, but for those that the engine is to choose.
pub fn published(spec: &ContainerSpec) -> Vec<HostPort> {
    asked_for(spec).into_iter().filter(|(_, port)| *port > 0).collect()
}

/// The same; those that the engine is to choose as 0.
pub fn asked_for(spec: &ContainerSpec) -> Vec<HostPort> {
    let port = |(container, host): (&String, &String)| {
        let mapping = validate::port_mapping(container, host).ok()?;
        Some((mapping.protocol, mapping.host_port))
    };
    spec.ports.iter().filter_map(port).collect()
}

/// `spec` with every port without an address on 127.0.0.1: nobody else is to reach it.
pub fn on_loopback(spec: &mut Cow<ContainerSpec>) {
    if spec.ports.values().any(|host| !host.contains(':')) {
        for host in spec.to_mut().ports.values_mut().filter(|host| !host.contains(':')) {
            *host = format!("{}:{host}", Ipv4Addr::LOCALHOST);
        }
    }
}

/// Whether no program of this computer listens there.
pub fn is_free((protocol, port): HostPort) -> bool {
    let taken = |ip| {
        let bound = match protocol {
            Protocol::Tcp => TcpListener::bind((ip, port)).map(drop),
            Protocol::Udp => UdpSocket::bind((ip, port)).map(drop),
        };
        bound.is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse)
    };
    // macOS lets us bind loopback on a port that another program has on all addresses.
    !(taken(Ipv4Addr::LOCALHOST) || (cfg!(target_os = "macos") && taken(Ipv4Addr::UNSPECIFIED)))
}

pub fn in_use((protocol, port): HostPort) -> Error {
    Error::new(ErrorCode::PortInUse, format!("Port {port} of this computer is taken by another program"))
        .detail("port", port)
        .detail("protocol", protocol.name())
        .hint("Choose another port, or end the program that has it.")
}

pub fn forbidden((protocol, port): HostPort) -> Error {
    let text = format!("Port {port} of this computer is the administrator's: nothing may be forwarded there");
    Error::new(ErrorCode::PermissionDenied, text)
        .detail("port", port)
        .detail("protocol", protocol.name())
        .hint("Choose a port from 1024 on.")
}

/// A warning: `of` is whose port it is, and `why` it leads nowhere.
pub fn not_forwarded((protocol, port): HostPort, of: &str, why: &str) -> Error {
    let name = protocol.name();
    let text = format!("Port {port}/{name} of {of} is not forwarded to this computer: {why}");
    Error::new(ErrorCode::PortNotForwarded, text).detail("port", port).detail("protocol", name)
}

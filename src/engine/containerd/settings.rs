//! Where one containerd is, how its nerdctl is called, and what an engine in a guest must know of the host.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use crate::{
    engine::{types::*, validate},
    env_vars,
    error::{Error, Result},
    guest::Guest,
};

/// Where one containerd is and how its nerdctl is called. The defaults are a system containerd's.
#[derive(Clone)]
pub struct Settings {
    pub guest: Arc<dyn Guest>,
    pub runtime_type: RuntimeType,
    pub namespace: String,
    pub app: String,
    /// nerdctl in the guest: a path, or a name its PATH has.
    pub nerdctl: String,
    pub data_root: String,
    pub cni_netconf_path: String,
    /// Where the CNI plugins are; nerdctl looks in its usual places when absent.
    pub cni_path: Option<String>,
    /// nerdctl and what reads its files run as root.
    pub root: bool,
    /// Nobody but us uses this engine: ports without an address are published on 127.0.0.1.
    pub private: bool,
    /// PEM texts or paths of PEM files: authorities that registries may be certified by.
    pub ca_certificates: Vec<String>,
    /// A rootless one: its `XDG_RUNTIME_DIR`.
    pub rootless: Option<String>,
    /// The words before a command that must see what containerd sees, where it has namespaces of its own.
    pub inside: Vec<String>,
    /// The machine around the guest, where they are two.
    pub host: Option<Arc<dyn Host>>,
}

impl Settings {
    pub fn system(guest: Arc<dyn Guest>, runtime_type: RuntimeType, namespace: &str, app: &str) -> Self {
        Self {
            guest,
            runtime_type,
            namespace: namespace.to_owned(),
            app: app.to_owned(),
            nerdctl: "nerdctl".into(),
            data_root: "/var/lib/nerdctl".into(),
            cni_netconf_path: "/etc/cni/net.d".into(),
            cni_path: None,
            root: true,
            private: false,
            ca_certificates: Vec::new(),
            rootless: None,
            inside: Vec::new(),
            host: None,
        }
    }

    /// The certificates to trust beside the guest's own, as one PEM; empty for none.
    pub(crate) fn certificates(&self) -> Result<String> {
        let mut all = String::new();
        if let Some(path) = env_vars::get(env_vars::NODE_EXTRA_CA_CERTS) {
            // As Node: a file that cannot be read is no reason to stop.
            all = std::fs::read_to_string(path).unwrap_or_default();
        }
        for (i, given) in self.ca_certificates.iter().enumerate() {
            let text = if given.contains("-----BEGIN") { Ok(given.clone()) } else { std::fs::read_to_string(given) };
            let text = text.map_err(|e| Error::invalid(format!("caCertificates[{i}]"), e))?;
            all.extend(["\n", text.as_str()]);
        }
        Ok(all)
    }
}

/// What a guest's engine must know of the host.
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
    /// Whether ports of this protocol are forwarded at all.
    fn forwards(&self, protocol: Protocol) -> bool;
    /// `PORT_IN_USE` when a program of the host has one of these ports.
    async fn check_ports(&self, ports: &[HostPort]) -> Result<()>;
    /// Returns once these ports are forwarded, or some time later.
    async fn await_ports(&self, ports: &[HostPort]) -> Result<()>;
}

/// A port of the host: TCP's and UDP's are apart.
pub type HostPort = (Protocol, u16);

//! Where one containerd is, and how its nerdctl is called.

use std::{path::PathBuf, sync::Arc};

use super::place::options::BuildkitPlaces;
use crate::{
    engine::{host::Host, types::RuntimeType},
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
    /// Where none runs beside it all the time.
    pub buildkit: Option<BuildkitPlaces>,
    /// On this computer, what an engine of the application's own is made of.
    pub own_dirs: Vec<PathBuf>,
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
            buildkit: None,
            own_dirs: Vec::new(),
        }
    }

    /// The certificates to trust beside the guest's own, as one PEM; empty for none.
    pub(crate) fn certificates(&self) -> Result<String> {
        certificates(&self.ca_certificates)
    }
}

/// Those of Node's variable and the `given` PEM texts or files, as one PEM; empty for none.
pub fn certificates(given: &[String]) -> Result<String> {
    let mut all = String::new();
    if let Some(path) = env_vars::get(env_vars::NODE_EXTRA_CA_CERTS) {
        // As Node: a file that cannot be read is no reason to stop.
        all = std::fs::read_to_string(path).unwrap_or_default();
    }
    for (i, given) in given.iter().enumerate() {
        let text = if given.contains("-----BEGIN") { Ok(given.clone()) } else { std::fs::read_to_string(given) };
        let text = text.map_err(|e| Error::invalid(format!("caCertificates[{i}]"), e))?;
        all.extend(["\n", text.as_str()]);
    }
    Ok(all)
}

//! Docker's daemon on this machine or in a WSL distribution, beside another one (docs/reference/docker.md#a-second-engine).
//!
//! On this machine its containerd is started by us, not by dockerd, which would give it a session of its own: what a killed
//! daemon leaves is found by the session (`processes`).

use serde_json::{Map, Value, json};

use super::bridge::Bridge;
use crate::{
    error::Result,
    manager::{payload::docker, registries::RegistryOptions},
};

/// Starts containerd, and becomes dockerd once that listens. Arguments: containerd, its configuration and socket; dockerd and
/// its own.
#[cfg(target_os = "linux")]
pub(super) const START: &str = r#"
set -e
(unset NOTIFY_SOCKET; exec "$1" --config "$2") &
while [ ! -S "$3" ]; do
  kill -0 $! 2>/dev/null || exit 1
  sleep 0.05
done
shift 3
exec "$@"
"#;

/// How long dockerd may take to end its containers, in seconds.
const SHUTDOWN: u32 = 10;

/// Nothing of it is on the command line, which everybody sees. `bridge` as root.
pub(super) fn daemon_json(
    socket: &str,
    bridge: Option<&Bridge>,
    registries: &RegistryOptions,
) -> Result<Map<String, Value>> {
    let mut settings = docker::settings(registries)?;
    let mut set = |name: &str, value: Value| _ = settings.insert(name.into(), value);
    set("hosts", json!([format!("unix://{socket}")]));
    // The machine may have a group "docker", whose members are not to reach this engine.
    set("group", "root".into());
    set("shutdown-timeout", SHUTDOWN.into());
    if let Some(bridge) = bridge {
        // Another dockerd of this machine has its rules in chains of these names, and would lose them at our start.
        for name in ["iptables", "ip6tables", "ip-masq"] {
            set(name, false.into());
        }
        set("bridge", bridge.name.as_str().into());
        set("fixed-cidr", bridge.first_network().into());
        set("default-address-pools", json!([{ "base": bridge.addresses(), "size": 24 }]));
    }
    Ok(settings)
}

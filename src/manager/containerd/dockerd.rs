//! Docker's daemon on this machine, beside another one (docs/reference/docker.md#a-second-engine).
//!
//! Its containerd is started by us, not by dockerd, which would give it a session of its own: what a killed daemon leaves
//! is found by the session (`processes`).

use serde_json::{Value, json};

use super::{BundledRuntime, bridge::Bridge};
use crate::error::Result;

/// Starts containerd, and becomes dockerd once that listens. Arguments: containerd, its configuration and socket; dockerd and
/// its own.
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

/// Nothing of it is on the command line, which everybody sees.
pub(super) fn daemon_json(runtime: &BundledRuntime, bridge: Option<&Bridge>) -> Result<Value> {
    let (paths, run) = (runtime.paths(), runtime.run_dir());
    let mut settings = json!({
        "hosts": [format!("unix://{}", paths.docker_socket.display())],
        // The machine may have a group "docker", whose members are not to reach this engine.
        "group": "root",
        "containerd": paths.address,
        "data-root": runtime.docker_file("data"),
        "exec-root": "/run/docker",
        "pidfile": run.join("docker.pid"),
        "features": { "containerd-snapshotter": true },
        "log-driver": "json-file",
        "log-opts": { "max-size": "10m", "max-file": "3" },
        "shutdown-timeout": SHUTDOWN,
    });
    if let (Some(bridge), Some(settings)) = (bridge, settings.as_object_mut()) {
        // Another dockerd of this machine has its rules in chains of these names, and would lose them at our start.
        for name in ["iptables", "ip6tables", "ip-masq"] {
            settings.insert(name.into(), false.into());
        }
        settings.insert("bridge".into(), bridge.name.as_str().into());
        settings.insert("fixed-cidr".into(), bridge.first_network().into());
        settings.insert("default-address-pools".into(), json!([{ "base": bridge.addresses(), "size": 24 }]));
    }
    if let Some(settings) = settings.as_object_mut() {
        settings.extend(runtime.options().registries.daemon_json()?);
    }
    Ok(settings)
}

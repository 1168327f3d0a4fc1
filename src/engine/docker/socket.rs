//! `/var/run/docker.sock` as a volume's host: it means the API socket of the engine that is asked, wherever that listens.

use serde::Deserialize;

use super::{
    api::{self, Api},
    endpoint::Endpoint,
    error::{On, OnExt},
};
use crate::error::Result;

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Machine {
    operating_system: String,
    kernel_version: String,
}

/// The socket, where the engine runs on this machine and listens on one. A rootless engine's, a private daemon's and a
/// context's are elsewhere; in a VM, and on another machine, it is where everybody expects it.
pub(super) async fn of_this_machine(api: &Api) -> Result<Option<String>> {
    let Endpoint::Unix(path) = api.endpoint() else { return Ok(None) };
    let Some(kernel) = kernel() else { return Ok(None) };
    let machine: Machine = api.get_json(api::SMALL, "info", &[]).await.on(On::Engine)?;
    Ok(machine.is_this_one(&kernel).then(|| path.display().to_string()))
}

impl Machine {
    /// A VM has a kernel of its own, and its socket here is one that leads there.
    fn is_this_one(&self, kernel: &str) -> bool {
        self.kernel_version == kernel && !self.operating_system.starts_with("Docker Desktop")
    }
}

#[cfg(target_os = "linux")]
fn kernel() -> Option<String> {
    rustix::system::uname().release().to_str().ok().map(str::to_owned)
}

/// Other systems have no engine of Linux containers on themselves.
#[cfg(not(target_os = "linux"))]
fn kernel() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_another_machine() {
        let machine =
            |system: &str, kernel: &str| Machine { operating_system: system.into(), kernel_version: kernel.into() };
        assert!(machine("Debian GNU/Linux 12 (bookworm)", "6.1.0-1").is_this_one("6.1.0-1"));
        // Colima and Rancher Desktop, Docker Desktop under WSL, whose kernel is everybody's.
        assert!(!machine("Ubuntu 24.04 LTS", "6.8.0-39-generic").is_this_one("6.1.0-1"));
        assert!(!machine("Docker Desktop", "6.1.0-1").is_this_one("6.1.0-1"));
    }
}

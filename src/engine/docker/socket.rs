//! `/var/run/docker.sock` as a volume's host: it means the API socket of the engine that is asked, wherever that listens.

use serde::Deserialize;

use super::{
    api::{self, Api},
    endpoint::Endpoint,
    error::ResultExt,
    refusal::About,
    ssh::SshAddress,
};
use crate::error::Result;

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct EngineInfo {
    operating_system: String,
    kernel_version: String,
    name: String,
}

struct Ours {
    kernel: String,
    name: String,
}

/// Whether the engine is on this very machine, as far as it can tell.
pub(super) async fn is_this_machine(api: &Api) -> Result<bool> {
    let Some(ours) = this_machine() else { return Ok(false) };
    let machine: EngineInfo = api.get_json(api::SMALL, "info", &[]).await.about(About::Engine)?;
    Ok(machine.is_this_one(&ours.kernel) && machine.name == ours.name)
}

/// The socket, where it is known: the engine listens on one of this machine, or of the one that ssh goes to. A rootless
/// engine's, a private daemon's and a context's are elsewhere than usual; in a VM it is where everybody expects it.
pub(super) async fn on_its_machine(api: &Api) -> Result<Option<String>> {
    let (path, kernel) = match api.endpoint() {
        Endpoint::Unix(path) => match this_machine() {
            Some(ours) => (path.display().to_string(), Some(ours.kernel)),
            None => return Ok(None),
        },
        Endpoint::Guest(socket) => return Ok(Some(socket.path.clone())),
        Endpoint::Ssh(SshAddress { socket: Some(path), .. }) => (path.clone(), None),
        _ => return Ok(None),
    };
    let machine: EngineInfo = api.get_json(api::SMALL, "info", &[]).await.about(About::Engine)?;
    let is_there = match kernel {
        Some(kernel) => machine.is_this_one(&kernel),
        None => machine.may_have(&path),
    };
    Ok(is_there.then_some(path))
}

impl EngineInfo {
    /// A VM has a kernel of its own, and its socket here is one that leads there.
    fn is_this_one(&self, kernel: &str) -> bool {
        self.kernel_version == kernel && !self.is_desktop()
    }

    /// What ssh reaches may be a Mac, too, whose engine is in a VM.
    fn may_have(&self, path: &str) -> bool {
        !self.is_desktop() && !path.starts_with("/Users/")
    }

    fn is_desktop(&self) -> bool {
        self.operating_system.starts_with("Docker Desktop")
    }
}

#[cfg(target_os = "linux")]
fn this_machine() -> Option<Ours> {
    let uname = rustix::system::uname();
    Some(Ours { kernel: uname.release().to_str().ok()?.to_owned(), name: uname.nodename().to_str().ok()?.to_owned() })
}

/// Other systems have no engine of Linux containers on themselves.
#[cfg(not(target_os = "linux"))]
fn this_machine() -> Option<Ours> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_another_machine() {
        let machine = |system: &str, kernel: &str| EngineInfo {
            operating_system: system.into(),
            kernel_version: kernel.into(),
            ..EngineInfo::default()
        };
        assert!(machine("Debian GNU/Linux 12 (bookworm)", "6.1.0-1").is_this_one("6.1.0-1"));
        // Colima and Rancher Desktop, Docker Desktop under WSL, whose kernel is everybody's.
        assert!(!machine("Ubuntu 24.04 LTS", "6.8.0-39-generic").is_this_one("6.1.0-1"));
        assert!(!machine("Docker Desktop", "6.1.0-1").is_this_one("6.1.0-1"));
        assert!(machine("Debian GNU/Linux 12 (bookworm)", "").may_have("/run/user/1000/docker.sock"));
        assert!(!machine("Docker Desktop", "").may_have("/run/host-services/docker.sock"));
        assert!(!machine("Ubuntu 24.04 LTS", "").may_have("/Users/me/.colima/default/docker.sock"));
    }
}

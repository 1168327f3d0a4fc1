//! Facts about this machine; [`super`] judges them.

use std::path::Path;

use crate::{
    env_vars,
    error::Result,
    fetch::platform::{Hardware, Platform, ThisMachine},
};

pub(super) trait System: Send + Sync {
    /// `14.5`; `None` elsewhere.
    fn macos(&self) -> Option<String>;
    /// By the hardware.
    fn platform(&self) -> Result<Platform>;
    /// Whether this process was built for another processor than it runs on.
    fn is_translated(&self) -> bool;
    fn has_rosetta(&self) -> bool;
    /// As `codesign` prints them; `None` when it fails.
    fn entitlements(&self, program: &Path) -> Option<String>;
    fn is_quarantined(&self, path: &Path) -> bool;
    fn has_kvm(&self) -> bool;
    fn is_root(&self) -> bool;
    /// How many bytes this user can still write where `dir` lies or will lie.
    fn available(&self, dir: &Path) -> Option<u64>;
    /// The caller's setting, else the environment's, each with its name.
    fn proxies(&self, option: Option<&str>) -> Vec<(String, String)>;
}

pub(super) struct RealSystem;

/// What a program of the system prints on both streams; `None` when it fails.
pub(super) fn output_of(program: &str, args: &[&std::ffi::OsStr]) -> Option<String> {
    let out = std::process::Command::new(program).args(args).stdin(std::process::Stdio::null()).output().ok()?;
    let text = [out.stdout, out.stderr].concat();
    out.status.success().then(|| String::from_utf8_lossy(&text).trim().to_owned())
}

impl System for RealSystem {
    fn macos(&self) -> Option<String> {
        if !cfg!(target_os = "macos") {
            return None;
        }
        Some(output_of("/usr/sbin/sysctl", &["-n".as_ref(), "kern.osproductversion".as_ref()]).unwrap_or_default())
    }

    fn platform(&self) -> Result<Platform> {
        Platform::current()
    }

    fn is_translated(&self) -> bool {
        ThisMachine.apple_silicon() && ThisMachine.process_arch() != "aarch64"
    }

    fn has_rosetta(&self) -> bool {
        Path::new("/Library/Apple/usr/libexec/oah/libRosettaRuntime").exists()
    }

    fn entitlements(&self, program: &Path) -> Option<String> {
        // codesign does not follow links.
        let program = program.canonicalize().ok()?;
        output_of("/usr/bin/codesign", &["-d".as_ref(), "--entitlements".as_ref(), "-".as_ref(), program.as_os_str()])
    }

    fn is_quarantined(&self, path: &Path) -> bool {
        rustix::fs::getxattr(path, "com.apple.quarantine", &mut [0_u8; 0]).is_ok()
    }

    fn has_kvm(&self) -> bool {
        std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
    }

    fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn available(&self, dir: &Path) -> Option<u64> {
        let there = dir.ancestors().find(|d| d.exists())?;
        fs4::available_space(there).ok()
    }

    fn proxies(&self, option: Option<&str>) -> Vec<(String, String)> {
        if let Some(proxy) = option {
            return vec![("proxy".into(), proxy.to_owned())];
        }
        let set = |name: &&str| env_vars::get(name).or_else(|| env_vars::get(&name.to_ascii_uppercase()));
        let found: Vec<_> =
            env_vars::PROXIES.iter().filter_map(|name| set(name).map(|value| ((*name).to_owned(), value))).collect();
        // Exceptions without a proxy.
        if found.iter().all(|(name, _)| name == "no_proxy") { Vec::new() } else { found }
    }
}

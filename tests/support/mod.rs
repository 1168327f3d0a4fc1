#![allow(dead_code, reason = "each test binary uses a part of it")]

#[cfg(target_os = "linux")]
pub mod containerd;
pub mod docker_archive;
pub mod nerdctl_full;
pub mod ordinary;
pub mod releases;
pub mod skip;
pub mod sshd;
#[cfg(target_os = "linux")]
pub mod wsl;

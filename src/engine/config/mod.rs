//! A container's configuration: its parts, what they may say, and the paths in it.

mod check;
mod paths;
mod security;
pub(super) mod types;
mod values;

pub(super) use check::{container, update};
pub(crate) use paths::{host_paths, host_paths_mut};
pub(super) use security::{SecurityOpt, beyond, security_opt, shared};
pub(super) use values::{container_of, cpus, device, memory_swap, whole};

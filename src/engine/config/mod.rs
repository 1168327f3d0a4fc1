//! A container's configuration: its parts, what they may say, and the paths in it.

mod check;
mod names;
mod paths;
mod security;
pub(super) mod types;
mod values;

pub(super) use check::{container, update};
pub(super) use names::{CAPABILITIES, LIMITS};
pub(crate) use paths::{host_paths, host_paths_mut};
pub(super) use security::{SecurityOpt, powers_of, security_opt, shared};
pub(super) use values::{container_of, cpus, device, memory_swap, tmpfs_options, whole};

/// A configuration with `more` in it.
#[cfg(test)]
pub(super) fn spec(more: &serde_json::Value) -> super::types::ContainerSpec {
    let mut config = serde_json::json!({ "name": "web", "image": "i" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

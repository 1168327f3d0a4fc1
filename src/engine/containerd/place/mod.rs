//! Where a containerd is found, and how it is reached there. The one in a VM is `manager/lima/engine.rs`'s.

pub(crate) mod local;
pub(crate) mod options;
pub mod wsl;

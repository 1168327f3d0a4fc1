//! nerdctl, and what it keeps in a container's labels and in files of the guest.

pub(crate) mod errors;
pub(crate) mod files;
pub(crate) mod labels;
pub(crate) mod runner;

//! containerd's own API, over one kept connection: records, tasks, images, blobs and events.

pub(crate) mod api;
mod connection;
pub(crate) mod containers;
pub(crate) mod events;
pub(crate) mod images;
pub(crate) mod metrics;
mod rpc;

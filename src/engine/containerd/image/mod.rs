//! Images: read and named over the API; pulled, loaded and saved by nerdctl, which knows registries and archives.

pub(crate) mod archive;
pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod commit;
pub(crate) mod details;
pub(crate) mod documents;
pub(crate) mod images;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod reference;
mod registry;
pub(crate) mod transfer;

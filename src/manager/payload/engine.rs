//! The engines to choose from.

use serde::{Deserialize, Serialize};

/// `UserEngine` of the public API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserEngine {
    #[default]
    Containerd,
    Docker,
}

/// For an option: its absence is the default, `null` is none.
pub fn given<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Option<UserEngine>, D::Error> {
    UserEngine::deserialize(from).map(Some)
}

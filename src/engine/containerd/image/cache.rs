//! What is read of images, kept.

use std::{collections::HashMap, sync::Arc};

use super::super::turns::Turns;
use crate::{
    engine::{Labels, Millis},
    mutex::Mutex,
};

/// What does not change under a digest, read once.
#[derive(Default)]
pub(crate) struct Cache {
    pub(crate) facts: Mutex<HashMap<String, Arc<ImageFacts>>>,
    pub(crate) layers: Mutex<HashMap<String, u64>>,
    pub(crate) loads: tokio::sync::Mutex<()>,
    /// One pull or push of an image at a time: two pulls wait for each other's blobs
    /// (docs/reference/containerd.md#pulls-of-one-image), two pushes have one name for what they send.
    pub(crate) turns: Turns,
}

/// One platform's image, as its manifest and configuration tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageFacts {
    /// The configuration's digest: Docker's id of an image.
    pub(crate) id: String,
    pub(crate) created: Millis,
    /// The unpacked layers' names: each says what it and those below it hold.
    pub(crate) chain: Vec<String>,
    pub(crate) blobs: Blobs,
    pub(crate) labels: Labels,
}

/// What a manifest names, with bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Blobs {
    pub(crate) config: (String, u64),
    pub(crate) layers: Vec<(String, u64)>,
}

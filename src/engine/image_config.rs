//! What an image says of itself: the part of its configuration that Docker's answer and the OCI document have in common.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::types::{ImageDetails, ImageInfo, Labels};

/// Whoever made the image wrote it: any member may be missing or null.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ImageConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    labels: Option<Labels>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, Value>>,
    volumes: Option<BTreeMap<String, Value>>,
}

/// Where an image runs, and who made it.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) os: String,
    pub(super) architecture: String,
    pub(super) variant: Option<String>,
    pub(super) author: Option<String>,
}

impl ImageConfig {
    pub(super) fn details(
        self,
        info: ImageInfo,
        origin: Origin,
        digests: Vec<String>,
        layers: Vec<String>,
        raw: Value,
    ) -> ImageDetails {
        let said = |text: Option<String>| text.filter(|t| !t.is_empty());
        ImageDetails {
            info,
            digests,
            os: origin.os,
            architecture: origin.architecture,
            variant: said(origin.variant),
            author: said(origin.author),
            labels: self.labels.unwrap_or_default(),
            env: variables(self.env.iter().flatten().map(String::as_str)),
            entrypoint: self.entrypoint.unwrap_or_default(),
            command: self.cmd.unwrap_or_default(),
            workdir: said(self.working_dir),
            user: said(self.user),
            stop_signal: said(self.stop_signal),
            ports: self.exposed_ports.unwrap_or_default().into_keys().collect(),
            volumes: self.volumes.unwrap_or_default().into_keys().collect(),
            layers,
            raw,
        }
    }
}

/// Of `NAME=value`; what has no value has an empty one.
pub(super) fn variables<'a>(env: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    env.into_iter().map(|e| e.split_once('=').unwrap_or((e, ""))).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

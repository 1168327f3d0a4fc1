//! What is read of a container's OCI specification.

use serde::Deserialize;

use super::super::{nerdctl::labels, source::containers::Container};
use crate::engine::types::Mount;

/// What of an OCI spec is read.
#[derive(Deserialize, Default)]
pub(crate) struct Spec {
    #[serde(default)]
    pub(crate) process: SpecProcess,
    #[serde(default)]
    pub(crate) mounts: Vec<SpecMount>,
}

#[derive(Deserialize, Default)]
pub(crate) struct SpecProcess {
    #[serde(default)]
    pub(crate) args: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) env: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
pub(crate) struct SpecMount {
    #[serde(default)]
    pub(crate) destination: String,
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) source: String,
    #[serde(default)]
    pub(crate) options: Option<Vec<String>>,
}

pub(crate) fn spec_of(container: &Container) -> Spec {
    container.spec.as_ref().and_then(|any| serde_json::from_slice(&any.value).ok()).unwrap_or_default()
}

/// nerdctl's own record where there is one, which knows volumes by name; else the binds of the spec.
pub(crate) fn mounts_of(container: &Container, spec: &Spec) -> Vec<Mount> {
    if let Some(mounts) = labels::mounts(&container.labels) {
        return mounts;
    }
    let own = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];
    (spec.mounts.iter())
        .filter(|m| m.kind == "bind" && !own.contains(&m.destination.as_str()))
        .map(|m| Mount {
            kind: "bind".into(),
            source: m.source.clone(),
            destination: m.destination.clone(),
            read_only: m.options.iter().flatten().any(|o| o == "ro"),
        })
        .collect()
}

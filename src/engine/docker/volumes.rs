//! Volumes.

use bollard::query_parameters as q;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{self, Api},
    error::{Failure, ResultExt},
    refusal::About,
};
use crate::{engine::types::*, error::Result};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    name: String,
}

/// A volume of that name and driver is taken as it is: Docker's own rule (docs/reference/docker.md#volumes-that-exist),
/// and nerdctl's.
pub(super) async fn create(api: Api, name: &str, options: &VolumeOptions) -> Result<String> {
    let request = json!({ "Name": name, "Driver": options.driver, "Labels": options.labels });
    let created: Created = api.post_json("volumes/create", &[], &request).await.about(About::CreateVolume)?;
    Ok(created.name)
}

pub(super) async fn remove(api: Api, name: &str, force: bool) -> Result<()> {
    let options = q::RemoveVolumeOptions { force };
    api.bollard().remove_volume(name, Some(options)).await.about(About::Volume(name))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volumes {
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    name: String,
    driver: String,
    #[serde(default)]
    mountpoint: String,
    labels: Option<Labels>,
}

pub(super) async fn list(api: Api) -> Result<Vec<VolumeInfo>> {
    let found: Volumes = api.get_json(api::ALL, "volumes", &[]).await.about(About::Engine)?;
    Ok(found.volumes.unwrap_or_default().into_iter().map(info).collect())
}

fn info(v: Volume) -> VolumeInfo {
    VolumeInfo { name: v.name, driver: v.driver, mountpoint: v.mountpoint, labels: v.labels.unwrap_or_default() }
}

pub(super) async fn inspect(api: Api, name: &str) -> Result<VolumeDetails> {
    let about = About::Volume(name);
    let raw: Value = api.get_json(api::ONE, &format!("volumes/{}", api::encode(name)), &[]).await.about(about)?;
    let volume = Volume::deserialize(&raw).map_err(|e| Failure::from(e).about(about))?;
    Ok(VolumeDetails::new(info(volume), raw))
}

//! What containerd stores: images, their blobs and their unpacked layers.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use prost_types::{Any, FieldMask};
use tonic::Code;

use super::{
    api::{Api, Image, refused},
    proto::containerd::services::{
        containers::v1::{Container, UpdateContainerRequest},
        content::v1::{InfoRequest, ListStatusesRequest, ReadContentRequest, Status},
        images::v1::{CreateImageRequest, DeleteImageRequest, GetImageRequest, UpdateImageRequest},
        leases::v1::{
            DeleteRequest as DeleteLeaseRequest, Lease, ListRequest as ListLeasesRequest, ListResourcesRequest,
        },
        snapshots::v1::{Info as SnapshotInfo, ListSnapshotsRequest, StatSnapshotRequest, UsageRequest},
    },
};
use crate::{
    engine::types::total,
    error::{Error, Result},
};

/// nerdctl's default on Linux.
pub(super) const SNAPSHOTTER: &str = "overlayfs";
/// A manifest or configuration is a few kilobytes; nothing of ours reads larger blobs.
const LARGEST_BLOB: u64 = 4 << 20;

/// What is asked for may not be there.
fn optional<T>(answer: Result<T, tonic::Status>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(refused(status)),
    }
}

impl Api {
    pub(super) async fn image(&self, name: &str) -> Result<Option<Image>> {
        let request = GetImageRequest { name: name.to_owned() };
        let answer = optional(self.ask(request).await)?;
        Ok(answer.and_then(|a| a.image))
    }

    /// Gives `name` to what `image` is, whatever had it before.
    pub(super) async fn name_image(&self, name: &str, image: Image) -> Result<()> {
        let image = Some(Image { name: name.to_owned(), created_at: None, updated_at: None, ..image });
        let create = CreateImageRequest { image: image.clone(), source_date_epoch: None };
        match self.ask(create).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => {
                let update = UpdateImageRequest { image, update_mask: None, source_date_epoch: None };
                self.ask(update).await.map(drop).map_err(refused)
            }
            Err(status) => Err(refused(status)),
        }
    }

    /// False: there was none. Returns once what only this name held is gone
    /// (docs/reference/containerd.md#deleted-images).
    pub(super) async fn delete_image(&self, name: &str) -> Result<bool> {
        let request = DeleteImageRequest { name: name.to_owned(), sync: true, target: None };
        Ok(optional(self.ask(request).await)?.is_some())
    }

    /// What the container's next start is made from, and labels beside the ones it has.
    pub(super) async fn set_spec(&self, id: &str, spec: Any, labels: HashMap<String, String>) -> Result<()> {
        let mut paths = vec!["spec".to_owned()];
        paths.extend(labels.keys().map(|key| format!("labels.{key}")));
        let request = UpdateContainerRequest {
            container: Some(Container { id: id.to_owned(), labels, spec: Some(spec), ..Container::default() }),
            update_mask: Some(FieldMask { paths }),
        };
        self.ask(request).await.map(drop).map_err(refused)
    }

    /// A small blob, whole; `None` where it is not there.
    pub(super) async fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let Some(size) = self.blob_size(digest).await? else { return Ok(None) };
        if size > LARGEST_BLOB {
            return Err(Error::internal(format!("{digest} has {size} bytes, more than any manifest")));
        }
        let request = ReadContentRequest { digest: digest.to_owned(), offset: 0, size: 0 };
        let Some(mut stream) = optional(self.open(request).await)? else { return Ok(None) };
        let mut all = Vec::new();
        while let Some(piece) = stream.try_next().await.map_err(refused)? {
            all.extend_from_slice(&piece.data);
        }
        Ok(Some(all))
    }

    /// Bytes of a blob that is there whole.
    pub(super) async fn blob_size(&self, digest: &str) -> Result<Option<u64>> {
        let request = InfoRequest { digest: digest.to_owned() };
        let answer = optional(self.ask(request).await)?;
        Ok(answer.and_then(|a| a.info).map(|i| unsigned(i.size)))
    }

    /// The blobs on their way in: `ref` is `layer-sha256:…`, `offset` what has arrived
    /// (docs/reference/containerd.md#blobs-on-their-way).
    pub(super) async fn arriving(&self) -> Result<Vec<Status>> {
        let answer = self.ask(ListStatusesRequest { filters: vec![] }).await.map_err(refused)?;
        Ok(answer.statuses)
    }

    /// Bytes and the parent of an unpacked layer, or of a container's own; `None` where there is none.
    pub(super) async fn snapshot_size(&self, key: &str) -> Result<Option<u64>> {
        let request = UsageRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        let answer = optional(self.ask(request).await)?;
        Ok(answer.map(|a| unsigned(a.size)))
    }

    pub(super) async fn has_snapshot(&self, key: &str) -> Result<bool> {
        let request = StatSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        Ok(optional(self.ask(request).await)?.is_some())
    }

    pub(super) async fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        let request = ListSnapshotsRequest { snapshotter: SNAPSHOTTER.to_owned(), filters: vec![] };
        let mut stream = self.open(request).await.map_err(refused)?;
        let mut all = Vec::new();
        while let Some(part) = stream.try_next().await.map_err(refused)? {
            all.extend(part.info);
        }
        Ok(all)
    }

    /// What is being fetched or unpacked holds a lease; the ids.
    pub(super) async fn leases(&self) -> Result<HashSet<String>> {
        let answer = self.ask(ListLeasesRequest { filters: vec![] }).await;
        Ok(answer.map_err(refused)?.leases.into_iter().map(|Lease { id, .. }| id).collect())
    }

    /// Digests of the blobs that a lease keeps.
    pub(super) async fn leased(&self, id: &str) -> Result<HashSet<String>> {
        let request = ListResourcesRequest { id: id.to_owned() };
        let answer = optional(self.ask(request).await)?;
        Ok(answer.into_iter().flat_map(|a| a.resources).map(|r| r.id).collect())
    }

    /// Returns once what only this lease held is gone (docs/reference/containerd.md#leases).
    pub(super) async fn delete_lease(&self, id: &str) -> Result<()> {
        let request = DeleteLeaseRequest { id: id.to_owned(), sync: true };
        optional(self.ask(request).await).map(drop)
    }

    /// Bytes of all blobs: what images keep beside their unpacked layers.
    pub(super) async fn blobs_size(&self) -> Result<u64> {
        use super::proto::containerd::services::content::v1::ListContentRequest;
        let mut stream = self.open(ListContentRequest { filters: vec![] }).await.map_err(refused)?;
        let mut sizes = Vec::new();
        while let Some(part) = stream.try_next().await.map_err(refused)? {
            sizes.extend(part.info.iter().map(|i| unsigned(i.size)));
        }
        Ok(total(sizes))
    }
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

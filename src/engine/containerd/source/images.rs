//! What containerd stores: images, their blobs and their unpacked layers.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use tonic::Code;

use super::super::proto::containerd::services::{
    content::v1::{InfoRequest, ListContentRequest, ListStatusesRequest, ReadContentRequest, Status},
    images::v1::{CreateImageRequest, DeleteImageRequest, GetImageRequest, ListImagesRequest, UpdateImageRequest},
    leases::v1::{DeleteRequest as DeleteLeaseRequest, Lease, ListRequest as ListLeasesRequest, ListResourcesRequest},
    snapshots::v1::{Info as SnapshotInfo, ListSnapshotsRequest, MountsRequest, StatSnapshotRequest, UsageRequest},
};
pub(crate) use super::super::proto::containerd::types::Mount;
use super::api::{Api, optional, refused};
use crate::{
    engine::types::total,
    error::{Error, Result},
};

/// nerdctl's default on Linux.
pub(crate) const SNAPSHOTTER: &str = "overlayfs";
/// A manifest or configuration is a few kilobytes; nothing of ours reads larger blobs.
const LARGEST_BLOB: u64 = 4 << 20;

pub use super::super::proto::containerd::services::images::v1::Image;

impl Api {
    pub async fn images(&self) -> Result<Vec<Image>> {
        let answer = self.ask(ListImagesRequest::default()).await.map_err(refused)?;
        Ok(answer.images)
    }

    pub(crate) async fn image(&self, name: &str) -> Result<Option<Image>> {
        let request = GetImageRequest { name: name.to_owned() };
        let answer = optional(self.ask(request).await)?;
        Ok(answer.and_then(|a| a.image))
    }

    /// Gives `name` to what `image` is, whatever had it before.
    pub(crate) async fn name_image(&self, name: &str, image: Image) -> Result<()> {
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
    pub(crate) async fn delete_image(&self, name: &str) -> Result<bool> {
        let request = DeleteImageRequest { name: name.to_owned(), sync: true, target: None };
        Ok(optional(self.ask(request).await)?.is_some())
    }

    /// A small blob, whole; `None` where it is not there.
    pub(crate) async fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>> {
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
    pub(crate) async fn blob_size(&self, digest: &str) -> Result<Option<u64>> {
        let request = InfoRequest { digest: digest.to_owned() };
        let answer = optional(self.ask(request).await)?;
        Ok(answer.and_then(|a| a.info).map(|i| unsigned(i.size)))
    }

    /// The blobs on their way in: `ref` is `layer-sha256:…`, `offset` what has arrived
    /// (docs/reference/containerd.md#blobs-on-their-way).
    pub(crate) async fn arriving(&self) -> Result<Vec<Status>> {
        let answer = self.ask(ListStatusesRequest { filters: vec![] }).await.map_err(refused)?;
        Ok(answer.statuses)
    }

    /// Bytes and the parent of an unpacked layer, or of a container's own; `None` where there is none.
    pub(crate) async fn snapshot_size(&self, key: &str) -> Result<Option<u64>> {
        let request = UsageRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        let answer = optional(self.ask(request).await)?;
        Ok(answer.map(|a| unsigned(a.size)))
    }

    pub(crate) async fn has_snapshot(&self, key: &str) -> Result<bool> {
        let request = StatSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        Ok(optional(self.ask(request).await)?.is_some())
    }

    /// How a container's own layer is mounted.
    pub(crate) async fn mounts(&self, snapshotter: &str, key: &str) -> Result<Vec<Mount>> {
        let request = MountsRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
        Ok(self.ask(request).await.map_err(refused)?.mounts)
    }

    pub(crate) async fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        let request = ListSnapshotsRequest { snapshotter: SNAPSHOTTER.to_owned(), filters: vec![] };
        let mut stream = self.open(request).await.map_err(refused)?;
        let mut all = Vec::new();
        while let Some(part) = stream.try_next().await.map_err(refused)? {
            all.extend(part.info);
        }
        Ok(all)
    }

    /// What is being fetched or unpacked holds a lease; the ids.
    pub(crate) async fn leases(&self) -> Result<HashSet<String>> {
        let answer = self.ask(ListLeasesRequest { filters: vec![] }).await;
        Ok(answer.map_err(refused)?.leases.into_iter().map(|Lease { id, .. }| id).collect())
    }

    /// Digests of the blobs that a lease keeps.
    pub(crate) async fn leased(&self, id: &str) -> Result<HashSet<String>> {
        let request = ListResourcesRequest { id: id.to_owned() };
        let answer = optional(self.ask(request).await)?;
        Ok(answer.into_iter().flat_map(|a| a.resources).map(|r| r.id).collect())
    }

    /// Returns once what only this lease held is gone (docs/reference/containerd.md#leases).
    pub(crate) async fn delete_lease(&self, id: &str) -> Result<()> {
        let request = DeleteLeaseRequest { id: id.to_owned(), sync: true };
        optional(self.ask(request).await).map(drop)
    }

    /// Bytes of all blobs: what images keep beside their unpacked layers.
    pub(crate) async fn blobs_size(&self) -> Result<u64> {
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

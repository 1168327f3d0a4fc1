//! The trait of a backend, and the streams that it uses.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{methods::container_methods, types::*};
use crate::{
    error::Result,
    progress::{PullProgress, Sink},
};

pub type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;
pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;

/// An attached process: the container's own or that of an exec. Dropping it closes the connection; a container's own
/// process then goes on, that of an exec is ended.
pub struct Attached {
    pub output: BoxStream<OutputChunk>,
    /// Shutting it down ends the process's input; the output goes on.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

macro_rules! declared {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// The part of an [`Engine`] that is about one container.
        #[async_trait]
        pub trait ContainerMethods: Send + Sync + 'static {$(
            $(#[$doc])*
            async fn $name(&self, id: &str, $($arg: $type),*) -> Result<$answer>;
        )*}
    };
}
container_methods!(declared);

/// A backend. [`Adapter`](super::Adapter) has checked all arguments; ids may also be names, unless the method says
/// otherwise. The same situation gives an error of the same code on every backend ([`ErrorCode`](crate::error::ErrorCode)).
/// No method has a timeout of its own.
#[async_trait]
pub trait Engine: ContainerMethods {
    fn runtime_type(&self) -> RuntimeType;
    /// Whether only this application uses the engine.
    async fn is_private(&self) -> Result<bool>;
    /// Succeeds if the engine answers.
    async fn ping(&self) -> Result<()>;
    async fn system_info(&self) -> Result<SystemInfo>;
    async fn disk_usage(&self) -> Result<DiskUsage>;

    /// Creates the container attached to all its networks, without starting it; returns the full id. On an error it removes
    /// what it has created.
    async fn create(&self, spec: &ContainerSpec) -> Result<String>;
    async fn list(&self, options: &ListOptions) -> Result<Vec<ContainerInfo>>;

    /// To be called once the output has ended.
    async fn exec_end(&self, exec: &str) -> Result<ExecEnd>;
    async fn exec_resize(&self, exec: &str, columns: u16, rows: u16) -> Result<()>;

    async fn pull(&self, image: &str, options: &PullOptions, progress: Sink<PullProgress>) -> Result<()>;
    async fn images(&self) -> Result<Vec<ImageInfo>>;
    /// With a `platform`: whether the image is present for that platform.
    async fn image_exists(&self, image: &str, platform: Option<&str>) -> Result<bool>;
    async fn remove_image(&self, image: &str, force: bool) -> Result<()>;
    async fn tag_image(&self, image: &str, target: &str) -> Result<()>;
    /// `archive` is a tar or tar.gz; returns the loaded references.
    async fn load_image(&self, archive: BoxStream<Bytes>) -> Result<Vec<String>>;
    async fn save_image(&self, images: &[String]) -> Result<BoxStream<Bytes>>;

    async fn create_network(&self, name: &str, options: &NetworkOptions) -> Result<String>;
    async fn remove_network(&self, id: &str) -> Result<()>;
    async fn networks(&self) -> Result<Vec<NetworkInfo>>;
    async fn connect_network(&self, container: &str, network: &str) -> Result<()>;
    async fn disconnect_network(&self, container: &str, network: &str) -> Result<()>;

    async fn create_volume(&self, name: &str, options: &VolumeOptions) -> Result<String>;
    async fn remove_volume(&self, name: &str, force: bool) -> Result<()>;
    async fn volumes(&self) -> Result<Vec<VolumeInfo>>;

    async fn events(&self, options: &EventOptions) -> Result<BoxStream<RuntimeEvent>>;
    /// Removes unused objects of the given kinds; the caller has decided `scope`.
    async fn prune(&self, options: &PruneOptions) -> Result<PruneResult>;
}

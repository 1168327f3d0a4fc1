//! The trait of a backend, and the streams that it uses.

use std::{path::PathBuf, pin::Pin, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    build::Build,
    compose::Composition,
    methods::{container_methods, labelled_methods, unlabelled_methods},
    types::*,
};
use crate::{
    error::Result,
    fetch::held::Links,
    progress::{BuildProgress, ComposeProgress, PullProgress, Sink},
};

pub type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;
pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;

/// An attached process: the container's own or that of an exec. Dropping the output closes the connection; a container's
/// own process then goes on, that of an exec is ended.
pub struct Attached {
    pub output: BoxStream<OutputChunk>,
    /// Shutting it down ends the process's input, where that is no terminal; the output goes on.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// It has a terminal, and all its output is standard output.
    pub tty: bool,
    pub control: Arc<dyn Control>,
}

/// What can be done with an attached process beside its streams.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// How it ended; to be called once the output has ended.
    async fn end(&self) -> Result<ExecEnd>;
    async fn resize(&self, columns: u16, rows: u16) -> Result<()>;
    /// Sends it a signal; one that has ended gets none.
    async fn kill(&self, signal: u32) -> Result<()>;
}

macro_rules! declared {
    ($trait:ident: $($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// A part of [`Engine`].
        #[async_trait]
        pub trait $trait: Send + Sync + 'static {$(
            $(#[$doc])*
            async fn $name(&self, $($arg: $type),*) -> Result<$answer>;
        )*}
    };
}
container_methods!(declared);
unlabelled_methods!(declared);
labelled_methods!(declared);

/// A backend. [`Adapter`](super::Adapter) has checked all arguments; ids may also be names, unless the method says
/// otherwise. The same situation gives an error of the same code on every backend ([`ErrorCode`](crate::error::ErrorCode)).
/// No method has a timeout of its own.
#[async_trait]
pub trait Engine: ContainerMethods + UnlabelledMethods + LabelledMethods {
    fn runtime_type(&self) -> RuntimeType;
    /// Whether only this application uses the engine.
    async fn is_private(&self) -> Result<bool>;
    /// Directories of this computer with what an engine of the application's own is made of: whoever mounts one has its socket,
    /// its keys or its programs.
    async fn own_dirs(&self) -> Result<Vec<PathBuf>>;
    /// Refuses a path of this computer from which, or to which, whoever calls may not copy. How its links are taken.
    async fn copied_path(&self, field: &str, path: &str) -> Result<Links>;
    /// `archive` is a tar or tar.gz; returns the loaded references.
    async fn load_image(&self, archive: BoxStream<Bytes>) -> Result<Vec<String>>;
    /// Returns the image's id.
    async fn build(&self, build: Build, progress: &Sink<BuildProgress>) -> Result<String>;
    /// Whether whoever calls may have projects of compose; asked before a word of theirs is looked at.
    fn may_compose(&self) -> Result<()>;
    /// Runs the engine's own compose.
    async fn compose(&self, run: &Composition, progress: &Sink<ComposeProgress>) -> Result<()>;
    /// The containers of a project of compose.
    async fn composed(&self, project: &str) -> Result<Vec<ComposeContainer>>;
    /// Unpacks a tar in a directory of a container.
    async fn write_path(&self, id: &str, directory: &str, archive: BoxStream<Bytes>) -> Result<()>;
    async fn create_network(&self, name: &str, options: &NetworkOptions) -> Result<String>;
    /// Removes unused objects of the given kinds; the caller has decided `scope`.
    async fn prune(&self, options: &PruneOptions) -> Result<PruneResult>;
}

//! An engine that rests while nobody uses it: each call is a use, from before it begins to its end, or to that of the stream that it
//! gives.

use std::{
    any::Any,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

use super::{
    backend::{Attached, BoxStream, ContainerMethods, Engine, LabelledMethods, UnlabelledMethods},
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

/// Dropping it ends the use.
pub(crate) type Use = Box<dyn Any + Send + Sync>;

/// Who lets it rest.
#[async_trait]
pub(crate) trait Uses: Send + Sync + 'static {
    /// Returns once it can be used.
    async fn begin(&self) -> Result<Use>;
    /// It holds less than before.
    fn pruned(&self);
}

pub(crate) struct OnUse {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) uses: Arc<dyn Uses>,
}

/// What may last longer than the call that gave it.
trait Lasting: Sized {
    fn with(self, _: Use) -> Self {
        self
    }
}

struct Used<S>(S, Option<Use>);

impl<S: Stream<Item = Result<T>> + Unpin, T> Stream for Used<S> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let next = Pin::new(&mut self.0).poll_next(cx);
        if let Poll::Ready(None | Some(Err(_))) = next {
            self.1 = None;
        }
        next
    }
}

impl<T: 'static> Lasting for BoxStream<T> {
    fn with(self, held: Use) -> Self {
        Box::pin(Used(self, Some(held)))
    }
}

/// Its process ends with its container, which is in use as long as it runs.
impl Lasting for Attached {
    fn with(self, held: Use) -> Self {
        Self { output: self.output.with(held), ..self }
    }
}

macro_rules! over {
    ($($answer:ty)*) => {$(impl Lasting for $answer {})*};
}
over! {
    () bool String StopTimeout WaitResult ContainerInfo ContainerDetails StatsSample ProcessList Option<PathKind> SystemInfo
    DiskUsage Vec<ImageInfo> ImageDetails Vec<ImageHistoryEntry> Vec<ContainerInfo> Vec<NetworkInfo> NetworkDetails
    Vec<VolumeInfo> VolumeDetails
}

macro_rules! counted {
    ($trait:ident: $($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $trait for OnUse {$(
            async fn $name(&self, $($arg: $type),*) -> Result<$answer> {
                let held = self.uses.begin().await?;
                self.engine.$name($($arg),*).await.map(|answer| answer.with(held))
            }
        )*}
    };
}
container_methods!(counted);
unlabelled_methods!(counted);
labelled_methods!(counted);

#[async_trait]
impl Engine for OnUse {
    fn runtime_type(&self) -> RuntimeType {
        self.engine.runtime_type()
    }

    async fn is_private(&self) -> Result<bool> {
        self.engine.is_private().await
    }

    async fn own_dirs(&self) -> Result<Vec<PathBuf>> {
        self.engine.own_dirs().await
    }

    async fn copied_path(&self, field: &str, path: &str) -> Result<Links> {
        self.engine.copied_path(field, path).await
    }

    async fn load_image(&self, archive: BoxStream<Bytes>) -> Result<Vec<String>> {
        let _held = self.uses.begin().await?;
        self.engine.load_image(archive).await
    }

    async fn build(&self, build: Build, progress: &Sink<BuildProgress>) -> Result<String> {
        let _held = self.uses.begin().await?;
        self.engine.build(build, progress).await
    }

    fn may_compose(&self) -> Result<()> {
        self.engine.may_compose()
    }

    async fn compose(&self, run: &Composition, progress: &Sink<ComposeProgress>) -> Result<()> {
        let _held = self.uses.begin().await?;
        self.engine.compose(run, progress).await
    }

    async fn composed(&self, project: &str) -> Result<Vec<ComposeContainer>> {
        let _held = self.uses.begin().await?;
        self.engine.composed(project).await
    }

    async fn write_path(&self, id: &str, directory: &str, archive: BoxStream<Bytes>) -> Result<()> {
        let _held = self.uses.begin().await?;
        self.engine.write_path(id, directory, archive).await
    }

    async fn create_network(&self, name: &str, options: &NetworkOptions) -> Result<String> {
        let _held = self.uses.begin().await?;
        self.engine.create_network(name, options).await
    }

    async fn prune(&self, options: &PruneOptions) -> Result<PruneResult> {
        let _held = self.uses.begin().await?;
        let pruned = self.engine.prune(options).await?;
        self.uses.pruned();
        Ok(pruned)
    }
}

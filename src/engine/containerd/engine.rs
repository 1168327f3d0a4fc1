//! The [`Engine`] of one containerd.

use std::{future::Future, path::PathBuf, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{
    compose,
    container::{files, health, restarts::Restarts},
    image::{archive, build},
    network::networks,
    prelude::*,
    prune,
    settings::Settings,
};
use crate::{
    engine::{
        Attached, ContainerMethods, Engine, LabelledMethods, UnlabelledMethods,
        build::Build,
        compose::{self as projects, Composition},
        methods::{container_methods, labelled_methods, unlabelled_methods},
    },
    fetch::held::Links,
    progress::{BuildProgress, ComposeProgress, PullProgress, Sink},
};

/// What each of the methods calls.
mod functions {
    pub(super) use super::super::{
        client::events,
        container::{
            create::create,
            exec::{attach, exec},
            files::{path_kind, read_path},
            inspect::*,
            lifecycle::*,
            list::list,
            logs::logs,
            processes::processes,
            stats::*,
        },
        image::{
            archive::save as save_image,
            commit::commit,
            details::{history as image_history, inspect as inspect_image},
            images::{exists as image_exists, list as images, remove as remove_image, tag as tag_image},
            pull::pull,
            push::push,
        },
        network::{
            attach::{connect as connect_network, disconnect as disconnect_network},
            networks::{inspect as network, list as networks, remove as remove_network},
        },
        system::{disk_usage, info as system_info, ping},
        volume::{create as create_volume, inspect as volume, list as volumes, remove as remove_volume},
    };
}

/// One that does not answer is not found.
pub async fn answering(settings: Settings) -> Result<Containerd> {
    let found = Containerd::new(settings)?;
    found.api.version().await?;
    Ok(found)
}

pub type Finding = Pin<Box<dyn Future<Output = Result<Containerd>> + Send>>;

/// How an engine is found when it is first needed, and again after it was lost.
pub type Find = Box<dyn Fn() -> Finding + Send + Sync>;

/// The [`Engine`] of one containerd, found when first needed.
pub struct ContainerdEngine {
    runtime_type: RuntimeType,
    find: Find,
    found: Mutex<Option<Containerd>>,
}

impl ContainerdEngine {
    pub fn new(runtime_type: RuntimeType, find: Find) -> Self {
        Self { runtime_type, find, found: Mutex::default() }
    }

    async fn at(&self) -> Result<Containerd> {
        // Held while it searches: callers at the same time share one search.
        let mut found = self.found.lock().await;
        let containerd = if let Some(containerd) = found.as_ref() {
            containerd.clone()
        } else {
            let fresh = found.insert((self.find)().await?).clone();
            fresh.hub.follow(Box::new(Restarts(fresh.downgrade())));
            let c = fresh.clone();
            task::spawn(async move {
                if let Err(error) = health::adopt(&c).await {
                    tracing::debug!(%error, "healthchecks of what runs already");
                }
            });
            fresh
        };
        // Events are remembered from the first call on, for those who ask `since`.
        containerd.listen();
        Ok(containerd)
    }

    /// The next call looks for the engine anew: nerdctl was installed elsewhere, or the daemon has another socket.
    pub async fn forget(&self) {
        *self.found.lock().await = None;
    }
}

macro_rules! by_functions {
    ($trait:ident: $($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $trait for ContainerdEngine {$(
            async fn $name(&self, $($arg: $type),*) -> Result<$answer> {
                functions::$name(&self.at().await?, $($arg),*).await
            }
        )*}
    };
}
container_methods!(by_functions);
unlabelled_methods!(by_functions);
labelled_methods!(by_functions);

#[async_trait]
impl Engine for ContainerdEngine {
    fn runtime_type(&self) -> RuntimeType {
        self.runtime_type
    }

    async fn is_private(&self) -> Result<bool> {
        Ok(self.at().await?.settings.private)
    }

    async fn own_dirs(&self) -> Result<Vec<PathBuf>> {
        Ok(self.at().await?.settings.own_dirs.clone())
    }

    async fn copied_path(&self, _: &str, _: &str) -> Result<Links> {
        Ok(Links::Followed)
    }

    async fn load_image(&self, archive: BoxStream<Bytes>) -> Result<Vec<String>> {
        archive::load(&self.at().await?, archive).await
    }

    async fn write_path(&self, id: &str, directory: &str, archive: BoxStream<Bytes>) -> Result<()> {
        files::write_path(&self.at().await?, id, directory, archive).await
    }

    async fn build(&self, build: Build, progress: &Sink<BuildProgress>) -> Result<String> {
        build::build(&self.at().await?, build, progress).await
    }

    fn may_compose(&self) -> Result<()> {
        Ok(())
    }

    async fn compose(&self, run: &Composition, progress: &Sink<ComposeProgress>) -> Result<()> {
        let c = self.at().await?;
        compose::compose(self, &c, run, progress).await?;
        let after = async {
            projects::reached(self, run, c.settings.host.as_ref()).await?;
            projects::healthy(self, run).await
        };
        tokio::select! {
            done = after => done,
            () = run.gone.cancelled() => Err(crate::call::aborted()),
        }
    }

    async fn composed(&self, project: &str) -> Result<Vec<ComposeContainer>> {
        projects::containers(self, project).await
    }

    async fn create_network(&self, name: &str, options: &NetworkOptions) -> Result<String> {
        networks::create(&self.at().await?, name, options).await
    }

    async fn prune(&self, options: &PruneOptions) -> Result<PruneResult> {
        prune::prune(&self.at().await?, options).await
    }
}

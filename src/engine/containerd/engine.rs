//! The [`Engine`] of one containerd.

use std::{future::Future, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{
    container::{create, exec, health, list, restarts::Restarts},
    image::{archive, images, pull},
    network::{attach, networks},
    prelude::*,
    prune,
    settings::Settings,
    system, volume,
};
use crate::{
    engine::{Attached, ContainerMethods, Engine, methods::container_methods},
    progress::{PullProgress, Sink},
};

/// What [`container_methods`] calls.
mod functions {
    pub(super) use super::super::container::{exec::*, inspect::*, lifecycle::*, logs::*, stats::*};
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

macro_rules! of_one_container {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl ContainerMethods for ContainerdEngine {$(
            async fn $name(&self, id: &str, $($arg: $type),*) -> Result<$answer> {
                functions::$name(&self.at().await?, id, $($arg),*).await
            }
        )*}
    };
}
container_methods!(of_one_container);

/// Each other method of the trait with the function that does it, of the containerd that was found; and the others.
macro_rules! methods {
    ($($method:ident($($name:ident: $kind:ty),*) -> $answer:ty = $work:path;)* { $($other:tt)* }) => {
        #[async_trait]
        impl Engine for ContainerdEngine {
            $(async fn $method(&self, $($name: $kind),*) -> Result<$answer> {
                $work(&self.at().await?, $($name),*).await
            })*
            $($other)*
        }
    };
}

methods! {
    ping() -> () = system::ping;
    system_info() -> SystemInfo = system::info;
    disk_usage() -> DiskUsage = system::disk_usage;
    create(spec: &ContainerSpec) -> String = create::create;
    list(options: &ListOptions) -> Vec<ContainerInfo> = list::list;
    exec_end(exec: &str) -> ExecEnd = exec::end;
    pull(image: &str, options: &PullOptions, progress: Sink<PullProgress>) -> () = pull::pull;
    images() -> Vec<ImageInfo> = images::list;
    image_exists(image: &str, platform: Option<&str>) -> bool = images::exists;
    remove_image(image: &str, force: bool) -> () = images::remove;
    tag_image(image: &str, target: &str) -> () = images::tag;
    load_image(archive: BoxStream<Bytes>) -> Vec<String> = archive::load;
    save_image(images: &[String]) -> BoxStream<Bytes> = archive::save;
    create_network(name: &str, options: &NetworkOptions) -> String = networks::create;
    remove_network(id: &str) -> () = networks::remove;
    networks() -> Vec<NetworkInfo> = networks::list;
    connect_network(container: &str, network: &str) -> () = attach::connect;
    disconnect_network(container: &str, network: &str) -> () = attach::disconnect;
    create_volume(name: &str, options: &VolumeOptions) -> String = volume::create;
    remove_volume(name: &str, force: bool) -> () = volume::remove;
    volumes() -> Vec<VolumeInfo> = volume::list;
    events(options: &EventOptions) -> BoxStream<RuntimeEvent> = Containerd::events;
    prune(options: &PruneOptions) -> PruneResult = prune::prune;
    {
        fn runtime_type(&self) -> RuntimeType {
            self.runtime_type
        }

        async fn is_private(&self) -> Result<bool> {
            Ok(self.at().await?.settings.private)
        }

        async fn exec_resize(&self, exec: &str, columns: u16, rows: u16) -> Result<()> {
            exec::resize(&self.at().await?, exec, columns, rows)
        }
    }
}

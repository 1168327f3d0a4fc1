//! The [`Engine`] of one containerd.

use std::{future::Future, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{
    client::Containerd,
    container::{create, exec, find, health, inspect, lifecycle, list, logs, restarts::Restarts, stats},
    image::{archive, images, pull},
    nerdctl::labels,
    network::{attach, networks},
    prune,
    settings::Settings,
    system, volume,
};
use crate::{
    engine::{Attached, BoxStream, Engine, types::*},
    error::Result,
    progress::{PullProgress, Sink},
    task,
};

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

#[async_trait]
impl Engine for ContainerdEngine {
    fn runtime_type(&self) -> RuntimeType {
        self.runtime_type
    }

    async fn is_private(&self) -> Result<bool> {
        Ok(self.at().await?.settings.private)
    }

    async fn ping(&self) -> Result<()> {
        system::ping(&self.at().await?).await
    }

    async fn system_info(&self) -> Result<SystemInfo> {
        system::info(&self.at().await?).await
    }

    async fn disk_usage(&self) -> Result<DiskUsage> {
        system::disk_usage(&self.at().await?).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        create::create(&self.at().await?, spec).await
    }

    async fn start(&self, id: &str) -> Result<()> {
        lifecycle::start(&self.at().await?, id).await
    }

    async fn stop(&self, id: &str, timeout: Option<u32>) -> Result<()> {
        lifecycle::stop(&self.at().await?, id, timeout).await
    }

    async fn stop_timeout(&self, id: &str) -> Result<StopTimeout> {
        find::find(&self.at().await?, id).await.map(|c| labels::stop_timeout(&c))
    }

    async fn restart(&self, id: &str, timeout: Option<u32>) -> Result<()> {
        lifecycle::restart(&self.at().await?, id, timeout).await
    }

    async fn kill(&self, id: &str, signal: &str) -> Result<()> {
        lifecycle::kill(&self.at().await?, id, signal).await
    }

    async fn remove(&self, id: &str, force: bool) -> Result<()> {
        lifecycle::remove(&self.at().await?, id, force).await
    }

    async fn pause(&self, id: &str) -> Result<()> {
        lifecycle::pause(&self.at().await?, id).await
    }

    async fn unpause(&self, id: &str) -> Result<()> {
        lifecycle::unpause(&self.at().await?, id).await
    }

    async fn wait(&self, id: &str) -> Result<WaitResult> {
        lifecycle::wait(&self.at().await?, id).await
    }

    async fn inspect(&self, id: &str) -> Result<ContainerInfo> {
        inspect::inspect(&self.at().await?, id).await
    }

    async fn details(&self, id: &str) -> Result<ContainerDetails> {
        inspect::details(&self.at().await?, id).await
    }

    async fn list(&self, options: &ListOptions) -> Result<Vec<ContainerInfo>> {
        list::list(&self.at().await?, options).await
    }

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<BoxStream<OutputChunk>> {
        logs::logs(&self.at().await?, id, options).await
    }

    async fn sample(&self, id: &str) -> Result<StatsSample> {
        stats::sample(&self.at().await?, id).await
    }

    async fn samples(&self, id: &str) -> Result<BoxStream<StatsSample>> {
        stats::samples(&self.at().await?, id).await
    }

    async fn attach(&self, id: &str) -> Result<Attached> {
        exec::attach(&self.at().await?, id).await
    }

    async fn exec(&self, id: &str, argv: &[String], options: &ExecOptions) -> Result<(String, Attached)> {
        exec::exec(&self.at().await?, id, argv, options).await
    }

    async fn exec_end(&self, exec: &str) -> Result<ExecEnd> {
        exec::exit_code(&self.at().await?, exec).await.map(|exit_code| ExecEnd { exit_code, began: true })
    }

    async fn exec_resize(&self, exec: &str, columns: u16, rows: u16) -> Result<()> {
        exec::resize(&self.at().await?, exec, columns, rows)
    }

    async fn pull(&self, image: &str, options: &PullOptions, progress: Sink<PullProgress>) -> Result<()> {
        pull::pull(&self.at().await?, image, options, progress).await
    }

    async fn images(&self) -> Result<Vec<ImageInfo>> {
        images::list(&self.at().await?).await
    }

    async fn image_exists(&self, image: &str, platform: Option<&str>) -> Result<bool> {
        images::exists(&self.at().await?, image, platform).await
    }

    async fn remove_image(&self, image: &str, force: bool) -> Result<()> {
        images::remove(&self.at().await?, image, force).await
    }

    async fn tag_image(&self, image: &str, target: &str) -> Result<()> {
        images::tag(&self.at().await?, image, target).await
    }

    async fn load_image(&self, archive: BoxStream<Bytes>) -> Result<Vec<String>> {
        archive::load(&self.at().await?, archive).await
    }

    async fn save_image(&self, images: &[String]) -> Result<BoxStream<Bytes>> {
        archive::save(&self.at().await?, images).await
    }

    async fn create_network(&self, name: &str, options: &NetworkOptions) -> Result<String> {
        let c = self.at().await?;
        let id = networks::create(&c, name, options).await?;
        c.hub.tell(EventKind::Network, "create", &id, Some(name));
        Ok(id)
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        let c = self.at().await?;
        networks::remove(&c, id).await?;
        c.hub.tell(EventKind::Network, "destroy", id, None);
        Ok(())
    }

    async fn networks(&self) -> Result<Vec<NetworkInfo>> {
        networks::list(&self.at().await?).await
    }

    async fn connect_network(&self, container: &str, network: &str) -> Result<()> {
        let c = self.at().await?;
        attach::connect(&c, container, network).await?;
        c.hub.tell(EventKind::Network, "connect", network, None);
        Ok(())
    }

    async fn disconnect_network(&self, container: &str, network: &str) -> Result<()> {
        let c = self.at().await?;
        attach::disconnect(&c, container, network).await?;
        c.hub.tell(EventKind::Network, "disconnect", network, None);
        Ok(())
    }

    async fn create_volume(&self, name: &str, options: &VolumeOptions) -> Result<String> {
        let c = self.at().await?;
        let name = volume::create(&c, name, options).await?;
        c.hub.tell(EventKind::Volume, "create", &name, None);
        Ok(name)
    }

    async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let c = self.at().await?;
        volume::remove(&c, name, force).await?;
        c.hub.tell(EventKind::Volume, "destroy", name, None);
        Ok(())
    }

    async fn volumes(&self) -> Result<Vec<VolumeInfo>> {
        volume::list(&self.at().await?).await
    }

    async fn events(&self, options: &EventOptions) -> Result<BoxStream<RuntimeEvent>> {
        self.at().await?.events(options).await
    }

    async fn prune(&self, options: &PruneOptions) -> Result<PruneResult> {
        prune::prune(&self.at().await?, options).await
    }
}

//! Docker, over bollard.
//!
//! `endpoint` finds the engine (with `context` and `ssh`), `transport` connects to it, `api` asks it, `error` says what
//! its refusals mean; the other files hold a subject each.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{Adapter, Attached, BoxStream, Engine, time, types::*, validate};
use crate::{
    error::{ErrorCode, Result},
    progress::{PullProgress, Sink},
};

mod api;
mod containers;
mod context;
mod download;
mod endpoint;
mod error;
mod events;
mod exec;
mod images;
mod logs;
mod networks;
mod proxy;
mod prune;
mod pull;
mod socket;
mod spec;
mod ssh;
mod stats;
mod system;
mod transport;
mod volumes;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    use super::{api, containers, events, images, pull, stats, system};
    pub(crate) use super::{
        context::fuzz as context, download::fuzz as http, endpoint::fuzz as endpoint, error::fuzz as refusal,
        logs::fuzz_frames as frames,
    };

    /// What an engine answers, each of its kinds.
    pub(crate) fn json(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        for parser in [containers::fuzz, stats::fuzz, events::fuzz, system::fuzz, pull::fuzz, images::fuzz] {
            parser(&text);
        }
    }

    /// One document a line.
    pub(crate) fn lines(data: &[u8]) {
        let lines = api::fuzz_lines(data);
        for line in &lines {
            events::fuzz(line);
            stats::fuzz(line);
        }
        pull::fuzz(&lines.join("\n"));
    }
}

use api::Api;
pub use endpoint::{Endpoint, Probe, Tls, probe};
pub use ssh::SshTarget;

/// `new DockerAdapter(options)`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DockerOptions {
    /// Endpoint as in `DOCKER_HOST`; found as the docker CLI finds it when absent.
    pub host: Option<String>,
    pub app_name: Option<String>,
}

/// The value of [`APP_LABEL`] when the application gives no name.
const APP: &str = "kai";

/// Connects to nothing yet: the first call does.
pub fn adapter(options: DockerOptions) -> Result<Adapter> {
    if let Some(host) = &options.host {
        endpoint::Endpoint::parse("host", host, None)?;
    }
    let app: Arc<str> = options.app_name.as_deref().unwrap_or(APP).into();
    validate::app_name(&app)?;
    let engine = DockerEngine { host: options.host, app: app.clone(), api: tokio::sync::Mutex::default() };
    Ok(Adapter::new(Arc::new(engine), app))
}

struct DockerEngine {
    host: Option<String>,
    app: Arc<str>,
    /// Where the engine was found; nothing after it was lost.
    api: tokio::sync::Mutex<Option<Api>>,
}

type Work<'a, T> = Box<dyn Fn(Api) -> BoxFuture<'a, Result<T>> + Send + Sync + 'a>;

impl DockerEngine {
    async fn api(&self) -> Result<Api> {
        // Held while it searches: callers at the same time share one search.
        let mut api = self.api.lock().await;
        if let Some(api) = api.as_ref() {
            return Ok(api.clone());
        }
        let found =
            endpoint::find(endpoint::candidates(self.host.as_deref(), &endpoint::Surroundings::of_process())?).await?;
        tracing::debug!(endpoint = %found.endpoint(), version = ?found.version(), "found the engine");
        Ok(api.insert(found).clone())
    }

    /// Runs one call. When it finds the engine gone, the next call looks for it anew; this one does so itself where the
    /// engine was never reached.
    fn with<'a, T, F>(&'a self, work: impl Fn(Api) -> F + Send + Sync + 'a) -> BoxFuture<'a, Result<T>>
    where
        T: Send + 'a,
        F: Future<Output = Result<T>> + Send + 'a,
    {
        Box::pin(self.twice(Box::new(move |api| Box::pin(work(api)))))
    }

    /// Apart from [`Self::with`] and its many kinds of work: once for each kind of answer.
    async fn twice<'a, T>(&'a self, work: Work<'a, T>) -> Result<T> {
        let mut tried = false;
        loop {
            match self.once(&work).await {
                Err(e) if !tried && error::never_reached(&e) => tried = true,
                outcome => return outcome,
            }
        }
    }

    async fn once<T, F: Future<Output = Result<T>>>(&self, work: impl FnOnce(Api) -> F) -> Result<T> {
        let api = self.api().await?;
        let outcome = work(api.clone()).await;
        if outcome.as_ref().is_err_and(|e| e.code() == ErrorCode::EngineUnreachable) {
            self.forget(&api).await;
        }
        outcome
    }

    async fn forget(&self, api: &Api) {
        let mut current = self.api.lock().await;
        if current.as_ref().is_some_and(|c| c.is(api)) {
            *current = None;
        }
    }
}

#[async_trait]
impl Engine for DockerEngine {
    fn runtime_type(&self) -> RuntimeType {
        RuntimeType::Docker
    }

    /// The user's.
    async fn is_private(&self) -> Result<bool> {
        Ok(false)
    }

    async fn ping(&self) -> Result<()> {
        self.with(system::ping).await
    }

    async fn system_info(&self) -> Result<SystemInfo> {
        self.with(system::info).await
    }

    async fn disk_usage(&self) -> Result<DiskUsage> {
        self.with(system::disk_usage).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        self.with(|api| containers::create(api, spec)).await
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.with(|api| containers::start(api, id)).await
    }

    async fn stop(&self, id: &str, timeout: Option<u32>) -> Result<()> {
        self.with(|api| containers::stop(api, id, timeout)).await
    }

    async fn stop_timeout(&self, id: &str) -> Result<StopTimeout> {
        self.with(|api| containers::stop_timeout(api, id)).await
    }

    async fn restart(&self, id: &str, timeout: Option<u32>) -> Result<()> {
        self.with(|api| containers::restart(api, id, timeout)).await
    }

    async fn kill(&self, id: &str, signal: &str) -> Result<()> {
        self.with(|api| containers::kill(api, id, signal)).await
    }

    async fn remove(&self, id: &str, force: bool) -> Result<()> {
        self.with(|api| containers::remove(api, id, force)).await
    }

    async fn pause(&self, id: &str) -> Result<()> {
        self.with(|api| containers::pause(api, id)).await
    }

    async fn unpause(&self, id: &str) -> Result<()> {
        self.with(|api| containers::unpause(api, id)).await
    }

    async fn wait(&self, id: &str) -> Result<WaitResult> {
        self.with(|api| containers::wait(api, id)).await
    }

    async fn inspect(&self, id: &str) -> Result<ContainerInfo> {
        self.with(|api| containers::inspect(api, id)).await
    }

    async fn details(&self, id: &str) -> Result<ContainerDetails> {
        self.with(|api| containers::details(api, id)).await
    }

    async fn list(&self, options: &ListOptions) -> Result<Vec<ContainerInfo>> {
        self.with(|api| containers::list(api, options)).await
    }

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<BoxStream<OutputChunk>> {
        self.with(|api| logs::logs(api, id, options)).await
    }

    async fn sample(&self, id: &str) -> Result<StatsSample> {
        self.with(|api| stats::sample(api, id)).await
    }

    async fn samples(&self, id: &str) -> Result<BoxStream<StatsSample>> {
        self.with(|api| stats::samples(api, id)).await
    }

    async fn attach(&self, id: &str) -> Result<Attached> {
        self.with(|api| exec::attach(api, id)).await
    }

    async fn exec(&self, id: &str, argv: &[String], options: &ExecOptions) -> Result<(String, Attached)> {
        self.with(|api| exec::exec(api, id, argv, options)).await
    }

    async fn exec_end(&self, exec: &str) -> Result<ExecEnd> {
        self.with(|api| exec::end(api, exec)).await
    }

    async fn exec_resize(&self, exec: &str, columns: u16, rows: u16) -> Result<()> {
        self.with(|api| exec::resize(api, exec, columns, rows)).await
    }

    async fn pull(&self, image: &str, options: &PullOptions, progress: Sink<PullProgress>) -> Result<()> {
        self.with(|api| pull::pull(api, image, options, progress.clone())).await
    }

    async fn images(&self) -> Result<Vec<ImageInfo>> {
        self.with(images::list).await
    }

    async fn image_exists(&self, image: &str, platform: Option<&str>) -> Result<bool> {
        self.with(|api| images::exists(api, image, platform)).await
    }

    async fn remove_image(&self, image: &str, force: bool) -> Result<()> {
        self.with(|api| images::remove(api, image, force)).await
    }

    async fn tag_image(&self, image: &str, target: &str) -> Result<()> {
        self.with(|api| images::tag(api, image, target)).await
    }

    async fn load_image(&self, archive: BoxStream<Bytes>) -> Result<Vec<String>> {
        self.once(|api| images::load(api, archive)).await
    }

    async fn save_image(&self, images: &[String]) -> Result<BoxStream<Bytes>> {
        self.with(|api| images::save(api, images)).await
    }

    async fn create_network(&self, name: &str, options: &NetworkOptions) -> Result<String> {
        self.with(|api| networks::create(api, name, options, &self.app)).await
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        self.with(|api| networks::remove(api, id)).await
    }

    async fn networks(&self) -> Result<Vec<NetworkInfo>> {
        self.with(networks::list).await
    }

    async fn connect_network(&self, container: &str, network: &str) -> Result<()> {
        self.with(|api| networks::connect(api, container, network)).await
    }

    async fn disconnect_network(&self, container: &str, network: &str) -> Result<()> {
        self.with(|api| networks::disconnect(api, container, network)).await
    }

    async fn create_volume(&self, name: &str, options: &VolumeOptions) -> Result<String> {
        self.with(|api| volumes::create(api, name, options)).await
    }

    async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        self.with(|api| volumes::remove(api, name, force)).await
    }

    async fn volumes(&self) -> Result<Vec<VolumeInfo>> {
        self.with(volumes::list).await
    }

    async fn events(&self, options: &EventOptions) -> Result<BoxStream<RuntimeEvent>> {
        self.with(|api| events::events(api, options)).await
    }

    async fn prune(&self, options: &PruneOptions) -> Result<PruneResult> {
        self.with(|api| prune::prune(api, options, &self.app)).await
    }
}

//! Docker, over bollard.
//!
//! `search` finds the engine (with `context`), `transport` connects to its `endpoint` (with `proxy`, `tls` and `ssh`), `api`
//! asks it, `error` says why a call failed and `refusal` what an engine's words mean; the other files hold a subject each.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{
    Adapter, Attached, BoxStream, ContainerMethods, Engine, LabelledMethods, UnlabelledMethods,
    build::Build,
    compose::{self as projects, Composition},
    methods::{container_methods, labelled_methods, unlabelled_methods},
    types::*,
    validate,
};
use crate::{
    error::{Error, ErrorCode, Result},
    fetch::held::Links,
    progress::{BuildProgress, ComposeProgress, PullProgress, Sink},
};

mod api;
#[cfg_attr(not(unix), allow(dead_code, reason = "there is no ssh:// yet"))]
mod asked;
mod beside;
mod build;
mod clock;
mod compose;
mod containers;
mod context;
mod download;
mod elsewhere;
mod endpoint;
mod error;
mod events;
mod exec;
mod files;
mod guest_socket;
mod host_config;
mod images;
mod logs;
mod networks;
mod proxy;
mod prune;
mod pull;
mod refusal;
mod search;
mod session;
mod socket;
mod spec;
mod ssh;
#[cfg(unix)]
mod ssh_link;
mod stats;
mod system;
mod tls;
mod transport;
#[cfg_attr(not(unix), allow(dead_code, reason = "there is no ssh:// yet"))]
mod tunnels;
mod vm;
mod volumes;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    use super::{api, build, compose, containers, events, images, pull, stats, system};
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
        build::fuzz(&lines.join("\n"));
        compose::fuzz(&lines.join("\n"));
    }
}

use api::Api;
use elsewhere::Elsewhere;
pub use endpoint::Endpoint;
pub use search::{Probe, probe};
pub use ssh::SshAddress;
pub use tls::Tls;
pub use vm::{Vm, containers_in, ready};

/// `new DockerAdapter(options)`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DockerOptions {
    /// Endpoint as in `DOCKER_HOST`; found as the docker CLI finds it when absent.
    pub host: Option<String>,
    pub app_name: Option<String>,
    /// Where it notes the ports that it asked an engine elsewhere for.
    pub app_dir: Option<PathBuf>,
    /// The paths in `volumes` are those of the engine's machine, where that is another one.
    #[serde(default)]
    pub remote_paths: bool,
}

/// The value of [`APP_LABEL`] when the application gives no name.
const APP: &str = "kai";

/// Connects to nothing yet: the first call does.
pub fn adapter(options: DockerOptions) -> Result<Adapter> {
    if let Some(host) = &options.host {
        Endpoint::parse("host", host, None)?;
    }
    let app: Arc<str> = options.app_name.as_deref().unwrap_or(APP).into();
    validate::app_name(&app)?;
    // Without one, ports are known as long as the adapter lives.
    let app_dir = crate::app_dir::app_dir(options.app_dir.as_deref(), options.app_name.as_deref()).ok();
    let app_dir = app_dir.and_then(|dir| std::path::absolute(dir).ok());
    let place = Place::Found { host: options.host, app_dir, remote_paths: options.remote_paths };
    Ok(Adapter::new(Arc::new(DockerEngine::new(place, app.clone())), app))
}

/// An engine of the application's own, for the application of that name. Connects to nothing yet.
pub fn adapter_in(vm: Vm, app: &str) -> Adapter {
    Adapter::new(engine_in(vm, app), app)
}

/// The same, without what an adapter adds.
pub fn engine_in(vm: Vm, app: &str) -> Arc<dyn Engine> {
    Arc::new(DockerEngine::new(Place::Vm(vm), app.into()))
}

/// Describes the engine at a socket of this computer for the docker CLI. Reads and writes files: not for an async thread.
pub fn register_context(name: &str, socket: &Path, app: &str, current: bool) -> Result<()> {
    context::register(&docker_dir()?, name, socket, app, current)
}

/// Takes away what [`register_context`] made.
pub fn unregister_context(name: &str, socket: &Path) -> Result<()> {
    context::unregister(&docker_dir()?, name, socket)
}

fn docker_dir() -> Result<PathBuf> {
    search::Surroundings::of_process().docker_dir().ok_or_else(|| {
        Error::new(ErrorCode::InvalidState, "This user has no home directory for docker's settings")
            .hint("Set DOCKER_CONFIG.")
    })
}

enum Place {
    /// Where the docker CLI would find it, or where the caller says.
    Found {
        host: Option<String>,
        app_dir: Option<PathBuf>,
        remote_paths: bool,
    },
    Vm(Vm),
}

struct DockerEngine {
    place: Place,
    app: Arc<str>,
    found: tokio::sync::Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// Where the engine was found; nothing after it was lost.
    api: Option<Api>,
    /// Of the last one: its ports stay when it is lost and found again.
    elsewhere: Option<(Endpoint, Arc<Elsewhere>)>,
}

impl Found {
    fn elsewhere(&mut self, api: &Api, app_dir: Option<&Path>, remote_paths: bool) -> Option<Arc<Elsewhere>> {
        if let Some((endpoint, elsewhere)) = &self.elsewhere
            && endpoint == api.endpoint()
        {
            return Some(elsewhere.clone());
        }
        let made = Elsewhere::of(api, app_dir, remote_paths).map(Arc::new);
        self.elsewhere = made.clone().map(|made| (api.endpoint().clone(), made));
        made
    }
}

/// What each of the methods calls.
mod functions {
    pub(super) use super::{
        containers::*,
        events::events,
        exec::{attach, exec},
        files::{path_kind, read_path},
        images::{
            commit, exists as image_exists, history as image_history, inspect as inspect_image, list as images,
            remove as remove_image, save as save_image, tag as tag_image,
        },
        logs::logs,
        networks::{
            connect as connect_network, disconnect as disconnect_network, inspect as network, list as networks,
            remove as remove_network,
        },
        pull::{pull, push},
        stats::{sample, samples},
        system::{disk_usage, info as system_info, ping},
        volumes::{create as create_volume, inspect as volume, list as volumes, remove as remove_volume},
    };
}

type Work<'a, T> = Box<dyn Fn(Api) -> BoxFuture<'a, Result<T>> + Send + Sync + 'a>;

impl DockerEngine {
    fn new(place: Place, app: Arc<str>) -> Self {
        Self { place, app, found: tokio::sync::Mutex::default() }
    }

    fn vm(&self) -> Option<&Vm> {
        if let Place::Vm(vm) = &self.place { Some(vm) } else { None }
    }

    async fn api(&self) -> Result<Api> {
        // Held while it searches: callers at the same time share one search.
        let mut found = self.found.lock().await;
        if let Some(api) = &found.api {
            return Ok(api.clone());
        }
        let api = match &self.place {
            Place::Vm(vm) => vm.connect().await?,
            Place::Found { host, app_dir, remote_paths } => {
                let around = search::Surroundings::of_process();
                let api = search::find(search::candidates(host.as_deref(), &around)?).await?;
                let elsewhere = found.elsewhere(&api, app_dir.as_deref(), *remote_paths);
                api.with(elsewhere.map(|e| e as Arc<dyn beside::Beside>))
            }
        };
        tracing::debug!(endpoint = %api.endpoint(), version = ?api.version(), "found the engine");
        Ok(found.api.insert(api).clone())
    }

    /// Runs one call. When it finds the engine gone, the next call looks for it anew; this one does so itself where the
    /// engine was never reached.
    fn with<'a, T, F>(&'a self, work: impl Fn(Api) -> F + Send + Sync + 'a) -> BoxFuture<'a, Result<T>>
    where
        T: Send + 'a,
        F: Future<Output = Result<T>> + Send + 'a,
    {
        Box::pin(self.with_retry(Box::new(move |api| Box::pin(work(api)))))
    }

    /// Not generic over the kind of work, so that the compiler makes it only once for each kind of answer.
    async fn with_retry<'a, T>(&'a self, work: Work<'a, T>) -> Result<T> {
        let mut tried = false;
        loop {
            match self.without_retry(&work).await {
                Err(e) if !tried && error::never_reached(&e) => tried = true,
                outcome => return outcome,
            }
        }
    }

    async fn without_retry<T, F: Future<Output = Result<T>>>(&self, work: impl FnOnce(Api) -> F) -> Result<T> {
        let explained = |e| match self.vm() {
            Some(vm) => vm::explained(e, vm.mend),
            None => e,
        };
        let api = self.api().await.map_err(explained)?;
        let outcome = work(api.clone()).await;
        if outcome.as_ref().is_err_and(|e| e.code() == ErrorCode::EngineUnreachable) {
            self.forget(&api).await;
        }
        outcome.map_err(explained)
    }

    async fn forget(&self, api: &Api) {
        let mut found = self.found.lock().await;
        if found.api.as_ref().is_some_and(|c| c.is_same(api)) {
            found.api = None;
        }
    }
}

macro_rules! by_functions {
    ($trait:ident: $($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $trait for DockerEngine {$(
            async fn $name(&self, $($arg: $type),*) -> Result<$answer> {
                self.with(|api| functions::$name(api, $($arg),*)).await
            }
        )*}
    };
}
container_methods!(by_functions);
unlabelled_methods!(by_functions);
labelled_methods!(by_functions);

#[async_trait]
impl Engine for DockerEngine {
    fn runtime_type(&self) -> RuntimeType {
        self.vm().map_or(RuntimeType::Docker, |vm| vm.runtime_type)
    }

    /// Any other one is the user's.
    async fn is_private(&self) -> Result<bool> {
        Ok(self.vm().is_some())
    }

    async fn own_dirs(&self) -> Result<Vec<PathBuf>> {
        Ok(self.vm().map(|vm| vm.own_dir.clone()).into_iter().collect())
    }

    async fn copied_path(&self, _: &str, _: &str) -> Result<Links> {
        Ok(Links::Followed)
    }

    async fn load_image(&self, archive: BoxStream<Bytes>) -> Result<Vec<String>> {
        self.without_retry(|api| images::load(api, archive)).await
    }

    async fn build(&self, build: Build, progress: &Sink<BuildProgress>) -> Result<String> {
        self.without_retry(|api| build::build(api, build, progress)).await
    }

    fn may_compose(&self) -> Result<()> {
        Ok(())
    }

    async fn compose(&self, run: &Composition, progress: &Sink<ComposeProgress>) -> Result<()> {
        self.without_retry(|api| compose::compose(self, api, self.vm(), run, progress)).await?;
        projects::reached(self, run, self.vm().and_then(|vm| vm.host.as_ref())).await
    }

    async fn composed(&self, project: &str) -> Result<Vec<ComposeContainer>> {
        projects::containers(self, project).await
    }

    async fn write_path(&self, id: &str, directory: &str, archive: BoxStream<Bytes>) -> Result<()> {
        self.without_retry(|api| files::write_path(api, id, directory, archive)).await
    }

    async fn create_network(&self, name: &str, options: &NetworkOptions) -> Result<String> {
        let internal = self.vm().and_then(|vm| vm.internal.as_deref());
        self.with(|api| networks::create(api, name, options, &self.app, internal)).await
    }

    async fn prune(&self, options: &PruneOptions) -> Result<PruneResult> {
        let private = self.vm().is_some();
        self.with(|api| prune::prune(api, options, &self.app, private)).await
    }
}

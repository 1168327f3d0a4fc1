//! Which runtime an application uses: finds runtimes and chooses one.

mod choice;
mod detect;
mod options;

use std::path::PathBuf;

pub use choice::{DecidedBy, Selection};
pub use detect::{Detail, Detection, State, Tried};
pub use options::{ContainerOptions, Preference};

use super::{
    bundled::{BundledOptions, BundledRuntime},
    lima::{LimaRuntime, app_dir},
    registries::RegistryOptions,
};
use crate::{
    call::Call,
    engine::{docker::Endpoint, types::RuntimeType},
    error::{Error, Result},
};

/// Finds runtimes and chooses one; the caller makes the adapter.
pub struct ContainerManager {
    options: ContainerOptions,
    app_dir: PathBuf,
    own: BundledRuntime,
    lima: LimaRuntime,
}

impl ContainerManager {
    /// Reads and writes no file.
    pub fn new(mut options: ContainerOptions) -> Result<Self> {
        let app_dir = app_dir(options.app_dir.as_deref(), options.app_name.as_deref())?;
        let app_dir = std::path::absolute(&app_dir).map_err(|e| Error::invalid("appDir", e))?;
        if let Some(host) = &options.docker.host {
            Endpoint::parse("docker.host", host, None)?;
        }
        let lima = &mut options.lima;
        if lima.app_dir.is_none() && lima.app_name.is_none() {
            lima.app_dir = Some(app_dir.clone());
            lima.app_name.clone_from(&options.app_name);
        }
        lima.engine = lima.engine.or(options.engine);
        options.registries.check("", options.engine.unwrap_or_default())?;
        lima.registries.check("lima.", lima.engine.unwrap_or_default())?;
        #[cfg(unix)]
        if let Some(name) = &lima.instance {
            crate::lima::paths::check_name("lima.instance", name)?;
        }
        if lima.registries == RegistryOptions::default() {
            lima.registries.clone_from(&options.registries);
        }
        let own = BundledRuntime::new(BundledOptions {
            engine: options.engine,
            registries: options.registries.clone(),
            app_dir: Some(app_dir.clone()),
            bundled_dir: lima.bundled_dir.clone(),
            resources_path: lima.resources_path.clone(),
            network: lima.network.clone(),
            ..BundledOptions::default()
        })?;
        let lima = LimaRuntime::new(options.lima.clone())?;
        Ok(Self { options, app_dir, own, lima })
    }

    /// Probes all runtimes at once. Starts nothing, and uses no network except to reach the engines.
    pub async fn detect(&self, call: &Call) -> Result<Detection> {
        call.run(None, async {
            let looking = async { Ok(detect::detect(&self.options, &self.own, &self.lima).await) };
            let (mut found, last_start) = tokio::try_join!(looking, choice::starts(&self.app_dir))?;
            for detail in &mut found.details {
                detail.last_start_ms = last_start(detail.runtime);
            }
            Ok(found)
        })
        .await
    }

    /// The runtime to use now: by the environment, the constructor or the saved choice, else whichever is there.
    pub async fn select(&self, call: &Call) -> Result<Selection> {
        call.run(None, async {
            let (saved, trouble) = choice::read(&self.app_dir).await?;
            let request = choice::request(self.options.preferred, saved)?;
            let found = detect::detect(&self.options, &self.own, &self.lima).await;
            let mut selection = choice::choose(request, &found, self.options.install_if_missing)?;
            let said = [trouble, selection.explanation.take()].into_iter().flatten().collect::<Vec<_>>().join(" ");
            selection.explanation = Some(said).filter(|s| !s.is_empty());
            Ok(selection)
        })
        .await
    }

    /// Whether the containerd to use is the application's own, because there is no other.
    pub async fn containerd_is_own(&self, call: &Call) -> Result<bool> {
        call.run(None, async { Ok(detect::containerd(&self.options, &self.own).await.own) }).await
    }

    /// Saves how long a start without a download took.
    pub async fn save_start(&self, runtime: RuntimeType, ms: u64, call: &Call) -> Result<()> {
        choice::write_start(&self.app_dir, runtime, ms, call).await
    }

    /// Saves the person's choice.
    pub async fn save(&self, preference: Preference, call: &Call) -> Result<()> {
        choice::write(&self.app_dir, preference, call).await
    }
}

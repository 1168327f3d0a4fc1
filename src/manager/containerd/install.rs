//! Installs nerdctl-full on this machine.

use super::BundledRuntime;
use crate::{
    call::{CONTAINER_CALL, Call},
    error::{Error, ErrorCode, Result},
    fetch::{
        bundle::Bundle,
        disk,
        lock::Lock,
        manifest::{Part, Request},
        owner,
        platform::Platform,
        progress::Meter,
        record::Look,
    },
    progress::{Phase, RuntimeProgress, Sink},
    task,
};

const PART: Part = Part::NerdctlFull;

impl BundledRuntime {
    /// Whether the programs are installed, as far as can be seen without reading them.
    pub async fn is_installed(&self, call: &Call) -> Result<bool> {
        let home = self.home.clone();
        let look = move || {
            owner::check(home.dir())?;
            Ok(current(&home))
        };
        call.run(None, task::blocking(look)).await
    }

    /// Whether the application ships nerdctl-full.
    pub async fn has_pre_bundled(&self, call: &Call) -> Result<bool> {
        let (dirs, network) = (self.options.bundle_dirs(), self.options.network.clone());
        let work = task::blocking(move || Ok(Bundle::find(&dirs, Platform::current()?, PART, &network)?.is_some()));
        call.run(None, work).await
    }

    /// Installs what is missing, in one step: an interrupted installation leaves the old state.
    pub async fn install(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let lock = self.home.lock(call, None).await?;
        call.run(None, self.install_under(&lock, sink)).await
    }

    async fn install_under(&self, lock: &Lock, sink: Sink<RuntimeProgress>) -> Result<()> {
        let platform = Platform::current()?;
        if !cfg!(target_os = "linux") {
            return Err(Error::new(ErrorCode::UnsupportedPlatform, "containerd runs containers on Linux only")
                .hint("Use Lima on macOS."));
        }
        let meter = Meter::new(sink);
        meter.say(Phase::Resolve, None, "Looking up what is installed");
        let (home, dirs, network) = (self.home.clone(), self.options.bundle_dirs(), self.options.network.clone());
        let (installed, bundle) = task::blocking(move || {
            let installed = if current(&home) { home.whole(PART, Look::Stat) } else { None };
            Ok((installed, Bundle::find(&dirs, platform, PART, &network)?))
        })
        .await?;
        if let Some(bundle) = &bundle {
            bundle.advise(PART);
        }
        let mut remote = None;
        let right = match (&installed, bundle.as_ref().and_then(|b| b.record(PART).ok())) {
            (None, _) => false,
            (Some(have), Some(ships)) => have.version == ships.version && have.sha256 == ships.sha256,
            (Some(have), None) => match self.options.network.open().await {
                Ok(opened) => {
                    let right = have.satisfies(&opened.wanted(PART, platform)?);
                    remote = Some(opened);
                    right
                }
                // Without a network, the installed version will do.
                Err(e) if e.code() == ErrorCode::DownloadFailed => true,
                Err(e) => return Err(e),
            },
        };
        // The programs of a running daemon are not replaced.
        if right || (installed.is_some() && self.is_running().await) {
            meter.say(Phase::Ready, None, "containerd is installed");
            return Ok(());
        }
        let network = self.options.network.clone();
        let open = async || match remote {
            Some(opened) => Ok(opened),
            None => network.open().await,
        };
        self.home
            .bring(&[Request { part: PART, unpacked: true }], platform, bundle.as_ref(), open, &meter, lock)
            .await?;
        let home = self.home.clone();
        lock.blocking(move || {
            // Containers hold the path of the nerdctl that made them, so old versions stay while there may be containers
            // (docs/reference/nerdctl.md#environment-of-the-caller). The archive is not needed any more.
            home.prune(home.dir().join("root").exists(), |_| false)?;
            disk::remove(&home.dir().join("cache"))
        })
        .await?;
        meter.say(Phase::Ready, None, "containerd is installed");
        Ok(())
    }

    pub async fn initialize(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        // Checked first, before a useless download.
        #[cfg(target_os = "linux")]
        if let Some(obstacle) = self.obstacle(false) {
            return Err(obstacle);
        }
        self.install(sink.clone(), call).await?;
        self.start_daemon(sink, call).await
    }

    /// Ends the daemon and its containers, and removes them with their images, volumes and programs.
    pub async fn uninstall(&self, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let lock = self.home.lock(call, CONTAINER_CALL).await?;
        call.run(None, async {
            self.stop_under(&lock).await?;
            self.remove_data().await?;
            let (home, held) = (self.home.clone(), lock.clone());
            // The record first: what an interruption leaves after that does not count as installed.
            let all = ["install.json", "current", "bin", "versions", "cache"];
            lock.blocking(move || home.remove(&all, &held)).await
        })
        .await
    }
}

fn current(home: &crate::fetch::install::Home) -> bool {
    home.whole(PART, Look::Stat).is_some_and(|r| home.current_version().as_ref() == Some(&r.dir))
}

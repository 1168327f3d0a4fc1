//! Installs the engine's programs on this machine.

use super::{BundledRuntime, left};
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
    log,
    progress::{Phase, RuntimeProgress, Sink, forward_only},
    task,
};

impl BundledRuntime {
    /// What is to be installed, the engine's own archive first.
    pub(in crate::manager) fn parts(&self) -> Vec<Part> {
        let payload = self.payload();
        let beside = payload.local.rootless.filter(|_| is_ordinary()).map(|(part, _)| part);
        [payload.part].into_iter().chain(beside).collect()
    }

    /// Mends the links to the current versions: a process may have died just before it made them.
    pub(super) fn make_current(&self) -> Result<()> {
        for part in self.parts() {
            if let Some(record) = self.home.whole(part, Look::Stat).filter(|r| !self.home.is_current(part, r)) {
                self.home.switch_to(part, &record)?;
            }
        }
        Ok(())
    }

    /// Whether the programs are installed, as far as can be seen without reading them.
    pub async fn is_installed(&self, call: &Call) -> Result<bool> {
        let (home, parts) = (self.home.clone(), self.parts());
        let look = move || {
            owner::check(home.dir())?;
            Ok(parts.iter().all(|part| home.whole(*part, Look::Stat).is_some()))
        };
        call.run(None, task::blocking(look)).await
    }

    /// Whether the application ships all that is to be installed.
    pub async fn has_pre_bundled(&self, call: &Call) -> Result<bool> {
        let (dirs, network, parts) = (self.options.bundle_dirs(), self.options.network.clone(), self.parts());
        let work = task::blocking(move || {
            let bundle = Bundle::find(&dirs, Platform::current()?, parts[0], &network)?;
            Ok(bundle.is_some_and(|b| parts.iter().all(|part| b.has(Request { part: *part, unpacked: true }))))
        });
        call.run(None, work).await
    }

    /// Installs what is missing, in one step: an interrupted installation leaves the old state.
    pub async fn install(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let lock = self.home.lock(call, None).await?;
        let installed = call.run(None, self.install_under(&lock, forward_only(sink))).await;
        installed.inspect_err(log::failed("an installation"))
    }

    async fn install_under(&self, lock: &Lock, sink: Sink<RuntimeProgress>) -> Result<()> {
        let platform = Platform::current()?;
        if !cfg!(target_os = "linux") {
            return Err(Error::new(ErrorCode::UnsupportedPlatform, "An engine runs containers on Linux only")
                .hint("Use Lima on macOS."));
        }
        let meter = Meter::new(sink);
        meter.say(Phase::Resolve, None, "Looking up what is installed");
        let parts = self.parts();
        let (home, dirs, network) = (self.home.clone(), self.options.bundle_dirs(), self.options.network.clone());
        let (installed, bundle) = task::blocking({
            let parts = parts.clone();
            move || {
                let installed: Vec<_> = parts.iter().map(|part| home.whole(*part, Look::Stat)).collect();
                Ok((installed, Bundle::find(&dirs, platform, parts[0], &network)?))
            }
        })
        .await?;
        if let Some(bundle) = &bundle {
            bundle.advise(parts[0]);
        }
        let (mut remote, mut offline) = (None, false);
        let mut wanted = Vec::new();
        for (&part, have) in parts.iter().zip(&installed) {
            let right = match (have, bundle.as_ref().and_then(|b| b.record(part).ok())) {
                (None, _) => false,
                (Some(have), Some(ships)) => have.version == ships.version && have.sha256 == ships.sha256,
                (Some(have), None) => {
                    if remote.is_none() && !offline {
                        match self.options.network.open().await {
                            Ok(opened) => remote = Some(opened),
                            // Without a network, the installed version will do.
                            Err(e) if e.code() == ErrorCode::DownloadFailed => offline = true,
                            Err(e) => return Err(e),
                        }
                    }
                    match &remote {
                        Some(remote) => have.satisfies(&remote.wanted(part, platform)?),
                        None => true,
                    }
                }
            };
            if !right {
                wanted.push(Request { part, unpacked: true });
            }
        }
        let done = format!("{} is installed", self.payload().name());
        // The programs of a running daemon are not replaced.
        if wanted.is_empty() || (installed.iter().all(Option::is_some) && self.is_running().await) {
            if !self.is_running().await {
                self.make_current()?;
            }
            meter.say(Phase::Ready, None, done);
            return Ok(());
        }
        let network = self.options.network.clone();
        let open = async || match remote {
            Some(opened) => Ok(opened),
            None => network.open().await,
        };
        let asked = parts.iter().any(|part| self.options.network.choice.versions.of(*part).is_some());
        match self.home.bring(&wanted, platform, bundle.as_ref(), open, &meter, lock).await {
            // What is there will do until the network is back.
            Err(e) if e.code() == ErrorCode::DownloadFailed && installed.iter().all(Option::is_some) && !asked => {
                crate::call::warn(e);
                self.make_current()?;
                meter.say(Phase::Ready, None, done);
                return Ok(());
            }
            brought => brought?,
        }
        let home = self.home.clone();
        lock.blocking(move || {
            // Containers hold the path of the nerdctl that made them, so old versions stay while there may be containers
            // (docs/reference/nerdctl.md#environment-of-the-caller). The archive is not needed any more.
            home.prune(home.dir().join("root").exists(), &[], |_| false)?;
            disk::remove(&home.dir().join("cache"))
        })
        .await?;
        meter.say(Phase::Ready, None, done);
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
            let links = Part::ALL.map(Part::link_name);
            lock.blocking(move || {
                let links = links.iter().map(String::as_str);
                let all: Vec<&str> = ["install.json", left::FILE]
                    .into_iter()
                    .chain(links)
                    .chain(["bin", "compose", "versions", "cache"])
                    .collect();
                home.remove(&all, &held)
            })
            .await
        })
        .await
    }
}

#[cfg(unix)]
fn is_ordinary() -> bool {
    !rustix::process::geteuid().is_root()
}

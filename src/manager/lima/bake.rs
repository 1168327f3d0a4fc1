//! An image of a VM that is set up, for others to start from: their guests install nothing. What is taken out of it and how it is
//! written is in `lima/bake.rs`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use url::Url;

use super::{
    BakeOptions, BakedImage, InstallOptions, LimaOptions, LimaRuntime,
    install::newest,
    machine::{Machine, refuse_root},
};
use crate::{
    call::Call,
    error::{Error, ErrorCode, Result},
    fetch::{
        disk,
        lock::Lock,
        manifest::{BakedEngine, Choice, Manifest, Part, Source, file_name},
        platform::Platform,
        record::Look,
    },
    guest::Guest,
    lima::bake,
    manager::{payload::UserEngine, registries::RegistryOptions},
    progress::{Phase, RuntimeProgress, Sink, forward_only, ignore},
    task,
};

/// For what is done in the guest at the end: mostly for giving its free space back.
const IN_GUEST_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How long a limactl may take to end whose caller gave up.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the image goes. All of it is known to work before a VM boots.
struct Output {
    image: PathBuf,
    /// Beside it, until it is whole.
    half: TempDir,
    /// With an address: the manifest's path, and what it will name besides.
    manifest: Option<(PathBuf, Url, Manifest)>,
}

/// What a caller wants, as it can be meant.
struct Wanted {
    image: PathBuf,
    url: Option<Url>,
}

impl BakeOptions {
    fn check(&self) -> Result<Wanted> {
        let mut url = None;
        if let Some(text) = &self.url {
            let named = |url: &Url| matches!(url.scheme(), "https" | "http") && file_name(url).is_some();
            url = Url::parse(text).ok().filter(named);
            if url.is_none() {
                let problem = "is not the http(s) address of a file with a plain name: letters, digits, . _ + -";
                return Err(Error::invalid("url", format!("{text:?} {problem}")));
            }
        }
        let plain = self.output.file_name().is_some() && !self.output.as_os_str().as_encoded_bytes().contains(&0);
        let image = if plain { std::path::absolute(&self.output).ok() } else { None };
        let Some(image) = image.filter(|image| !image.is_dir()) else {
            return Err(Error::invalid("output", format!("{} names no file", self.output.display())));
        };
        Ok(Wanted { image, url })
    }
}

impl LimaRuntime {
    /// Makes a VM in a `dataDir` that has none, takes out of it what is its own, writes its root disk as an image, and removes it,
    /// whatever happened. Codes: those of `start`; `INVALID_ARGUMENT`; `INVALID_STATE` where there is a VM, data or a copy of one;
    /// `NOT_INSTALLED` without QEMU's tools; `DISK_FULL`.
    pub async fn bake(&self, options: &BakeOptions, sink: Sink<RuntimeProgress>, call: &Call) -> Result<BakedImage> {
        // The image is for others, whose directories are others.
        let mut without_mounts = LimaOptions::clone(&self.options);
        without_mounts.resources.mounts = Some(Vec::new());
        Self { options: Arc::new(without_mounts), ..self.clone() }.bake_whole(options, sink, call).await
    }

    async fn bake_whole(&self, options: &BakeOptions, sink: Sink<RuntimeProgress>, call: &Call) -> Result<BakedImage> {
        let call = &call.in_steps();
        refuse_root()?;
        let wanted = options.check()?;
        self.check_bake()?;
        call.run(None, bake::check_program()).await?;
        let (lima_home, lock) = self.lock_to_start(call).await?;
        call.run(None, self.end_rollbacks(&lock)).await?;
        let machine = self.machine(lima_home.clone(), None);
        let there = machine.instance().facts().await?.directory || machine.data().await.is_some();
        if there || self.previous_copy().await?.is_some() {
            let text = format!("{} has a VM, or the data or a copy of one", self.dir().display());
            return Err(Error::new(ErrorCode::InvalidState, text).hint("Bake in a dataDir of its own."));
        }
        let output = call.run(None, self.output(wanted)).await?;
        let baked = self.bake_under(&lock, lima_home, output, &sink, call).await;
        // Also what a caller that gave up has left, once the last limactl of that has ended.
        _ = tokio::time::timeout(END_TIMEOUT, lock.alone()).await;
        match (baked, self.delete_under(lock, false, ignore(), &Call::default()).await) {
            (Ok(baked), Ok(())) => {
                sink(RuntimeProgress::ready("The image is written"));
                Ok(baked)
            }
            (Ok(_), Err(e)) | (Err(e), Ok(())) => Err(e),
            (Err(e), Err(left)) => Err(e.detail("vmLeft", left.message())),
        }
    }

    /// What an image would hold that others must not have.
    fn check_bake(&self) -> Result<()> {
        let options = self.options();
        if options.template.is_some() {
            return Err(Error::invalid("template", "an image that is baked is the manifest's")
                .hint("Leave the template out. What it provisions runs at each boot, of a baked image too."));
        }
        if !self.resources()?.mounts.is_empty() {
            let text = format!("configure() gave the VM of {} mounts, which an image would keep", self.dir().display());
            return Err(Error::new(ErrorCode::InvalidState, text).hint("Bake in a dataDir of its own."));
        }
        if options.registries != RegistryOptions::default() {
            return Err(Error::invalid("registries", "an image would keep them")
                .hint("Leave them out: each start writes those of its own runtime."));
        }
        if self.choose_lima_home()?.file_name().is_none_or(|name| name != "vms") {
            // It would lie where that of every dataDir does that is too long, under another lock.
            let problem = format!("the path {} is too long for Lima's sockets", self.dir().display());
            return Err(Error::invalid("dataDir", problem).hint("Choose a shorter one, such as one in /tmp."));
        }
        // With or without a scheme.
        let who = |proxy: &str| Some(proxy.rsplit_once('@')?.0.rsplit('/').next()?.to_owned());
        let with_password = |proxy: &str| who(proxy).is_some_and(|who| who.contains(':'));
        // limactl hands those of the environment to the guest, too.
        let of_environment = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?.to_ascii_lowercase();
            if name.ends_with("_proxy") { value.into_string().ok() } else { None }
        });
        if options.network.http.proxy.iter().cloned().chain(of_environment).any(|proxy| with_password(&proxy)) {
            let problem = "its password might stay in the free space of the image";
            let hint = "Bake where no proxy or one without a password is needed.";
            return Err(Error::invalid("proxy", problem).hint(hint));
        }
        Ok(())
    }

    /// Makes the directories of the output.
    async fn output(&self, wanted: Wanted) -> Result<Output> {
        let Wanted { image, url } = wanted;
        let mut manifest = None;
        if let Some(url) = url {
            let mut path = image.clone().into_os_string();
            path.push(".manifest.json");
            manifest = Some((path.into(), url, self.options().network.open().await?.manifest));
        }
        task::blocking(move || {
            let parent = image.parent().unwrap_or(&image);
            let half = disk::temp_dir_in(parent)
                .map_err(|e| Error::invalid("output", format!("{} cannot be written", parent.display())).source(e))?;
            Ok(Output { image, half, manifest })
        })
        .await
    }

    async fn bake_under(
        &self,
        lock: &Lock,
        lima_home: PathBuf,
        output: Output,
        sink: &Sink<RuntimeProgress>,
        call: &Call,
    ) -> Result<BakedImage> {
        let booting = {
            let sink = sink.clone();
            // A VM that is ready is no image yet.
            let booting = move |event: RuntimeProgress| {
                if event.phase != Phase::Ready {
                    sink(event);
                }
            };
            forward_only(Arc::new(booting))
        };
        // An older version in place of the one that is wanted would be in every VM.
        let wanted = InstallOptions { released: true, ..InstallOptions::default() };
        let guest = self.start_under(lock.clone(), lima_home.clone(), wanted, &booting, call).await?;
        let machine = self.machine(lima_home, Some(lock.clone()));
        sink(RuntimeProgress::new(Phase::Provision, "Taking out what is this VM's own"));
        let user = machine.instance().ssh_config().await?.user;
        let units: Vec<_> = [UserEngine::Containerd, UserEngine::Docker]
            .into_iter()
            .flat_map(|engine| [engine.payload().daemon, engine.payload().beside].concat())
            .collect();
        let cleaned = async { guest.run(bake::without_identity(&user, &units)).await?.checked("bake.sh") };
        call.run(IN_GUEST_TIMEOUT, cleaned).await?;
        self.stop_under(lock.clone(), sink, call).await?;
        call.run(None, self.write_image(&machine, output, sink)).await
    }

    async fn write_image(&self, machine: &Machine, to: Output, sink: &Sink<RuntimeProgress>) -> Result<BakedImage> {
        let said = |percent| {
            sink(RuntimeProgress {
                percent: Some(percent),
                ..RuntimeProgress::new(Phase::Extract, "Writing the image")
            });
        };
        said(0.0);
        let Output { image: path, half, manifest } = to;
        let new = half.path().join("image");
        bake::write(&machine.instance().root_disk(), self.vm_type(), &new, said).await?;
        let (home, part, made_of) = (self.home().clone(), self.payload().part, self.baked_of_vm().await);
        task::blocking(move || {
            let (installed, base) = (home.whole(part, Look::Stat), home.whole(Part::Image, Look::Stat));
            let (Some(record), Some(base)) = (newest(installed, made_of).0, base) else {
                return Err(Error::internal(format!("no record of {part} or of the image")));
            };
            let engine = BakedEngine { part, version: record.version, sha256: record.sha256 };
            let hashed = std::fs::File::open(&new).and_then(|file| disk::sync_file(&file));
            let (sha256, size) =
                hashed.and_then(|()| disk::hash_file(&new)).map_err(|e| Error::io(e, "reading", &new))?;
            // The one of another image would be published with this one.
            if let Some((named, ..)) = &manifest {
                disk::remove(named)?;
            }
            std::fs::rename(&new, &path).map_err(|e| Error::io(e, "writing", &path))?;
            drop(half);
            let manifest = manifest.map(|(named, url, whole)| -> Result<PathBuf> {
                let platform = Platform::current()?;
                let known = whole.known(Part::Image, platform, &base.sha256, &Choice::default());
                let (kernel, initrd) = known.map_or((None, None), |(_, listed)| (listed.kernel, listed.initrd));
                let (sha256, engine) = (sha256.clone(), Some(engine.clone()));
                let source = Source { url, sha256, size: Some(size), contents: None, kernel, initrd, engine };
                disk::write_json_for_all(&named, &whole.with_baked(platform.guest(), source).to_json())?;
                Ok(named)
            });
            Ok(BakedImage { path, sha256, size, engine, manifest: manifest.transpose()? })
        })
        .await
    }
}

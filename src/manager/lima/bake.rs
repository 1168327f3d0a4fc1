//! An image of a VM that is set up, for others to start from: their guests install nothing.

use std::{path::PathBuf, time::Duration};

use super::{
    BakeOptions, BakedImage, DeleteOptions, InstallOptions, LimaRuntime,
    install::newest,
    machine::{Machine, refuse_root},
};
use crate::{
    call::Call,
    error::{Error, ErrorCode, Result},
    fetch::{
        disk,
        lock::Lock,
        manifest::{BakedEngine, Source, file_name},
        platform::Platform,
        record::Look,
    },
    guest::Guest,
    lima::{bake, template::Arch},
    manager::payload::UserEngine,
    progress::{Phase, RuntimeProgress, Sink, forward_only},
    task,
};

/// For what is done in the guest at the end: mostly for giving its free space back.
const IN_GUEST_TIMEOUT: Duration = Duration::from_secs(10 * 60);

impl LimaRuntime {
    /// Makes a VM in a `dataDir` that has none, takes out of it what is its own, writes its root disk as an image, and removes it,
    /// whatever happened. Codes: those of `start`; `INVALID_ARGUMENT`; `INVALID_STATE` where there is a VM or data of one;
    /// `NOT_INSTALLED` without QEMU's tools; `DISK_FULL`.
    pub async fn bake(&self, options: &BakeOptions, sink: Sink<RuntimeProgress>, call: &Call) -> Result<BakedImage> {
        let (call, sink) = (&call.in_steps(), forward_only(sink));
        refuse_root()?;
        let output = self.check_bake(options)?;
        call.run(None, bake::check_program()).await?;
        let (lima_home, lock) = self.lock_to_start(call).await?;
        let machine = self.machine(lima_home.clone(), None);
        if machine.instance().facts().await?.directory || machine.data().await.is_some() {
            let text = format!("{} has a VM, or the data of one", self.dir().display());
            return Err(Error::new(ErrorCode::InvalidState, text).hint("Bake in a dataDir of its own."));
        }
        let baked = self.bake_under(lock, lima_home, (options, output), &sink, call).await;
        // Also what a caller that gave up has left. The lock is free again when the last limactl of that has ended.
        let removed = self.delete(&DeleteOptions::default(), crate::progress::ignore(), &Call::default()).await;
        let baked = baked?;
        removed?;
        sink(RuntimeProgress::ready("The image is written"));
        Ok(baked)
    }

    /// The absolute path of the image.
    fn check_bake(&self, options: &BakeOptions) -> Result<PathBuf> {
        if self.options().template.is_some() {
            return Err(Error::invalid("template", "an image that is baked is the manifest's")
                .hint("Leave the template out. What it provisions runs at each boot, of a baked image too."));
        }
        if !self.resources()?.mounts.is_empty() {
            return Err(Error::invalid("resources.mounts", "an image would keep the mounts of this computer"));
        }
        let named = |url: &url::Url| matches!(url.scheme(), "https" | "http") && file_name(url).is_some();
        if let Some(url) = options.url.as_ref().filter(|url| !named(url)) {
            return Err(Error::invalid("url", format!("{url} is not the http(s) address of a file")));
        }
        let named =
            |path: &std::path::Path| path.file_name().is_some() && !path.as_os_str().as_encoded_bytes().contains(&0);
        if !named(&options.output) {
            return Err(Error::invalid("output", format!("{:?} names no file", options.output)));
        }
        let output = std::path::absolute(&options.output).map_err(|e| Error::invalid("output", e))?;
        if output.is_dir() {
            return Err(Error::invalid("output", format!("{} is a directory", output.display())));
        }
        Ok(output)
    }

    async fn bake_under(
        &self,
        lock: Lock,
        lima_home: PathBuf,
        (options, output): (&BakeOptions, PathBuf),
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
            std::sync::Arc::new(booting) as Sink<RuntimeProgress>
        };
        let guest =
            self.start_under(lock.clone(), lima_home.clone(), InstallOptions::default(), &booting, call).await?;
        let machine = self.machine(lima_home, Some(lock.clone()));
        let source = call.run(None, self.source_of_baked()).await?;
        sink(RuntimeProgress::new(Phase::Bake, "Taking out what is this VM's own"));
        let user = machine.instance().ssh_config().await?.user;
        let units: Vec<_> = [UserEngine::Containerd, UserEngine::Docker]
            .into_iter()
            .flat_map(|engine| [engine.payload().daemon, engine.payload().beside].concat())
            .collect();
        let cleaned = async { guest.run(bake::without_identity(&user, &units)).await?.checked("bake.sh") };
        call.run(IN_GUEST_TIMEOUT, cleaned).await?;
        self.stop_under(lock.clone(), sink, call).await?;
        call.run(None, self.write_image(&machine, options, output, source, sink)).await
    }

    /// What a manifest says of the image, but its address, digest and size.
    async fn source_of_baked(&self) -> Result<(Option<Source>, BakedEngine)> {
        let (home, part) = (self.home().clone(), self.payload().part);
        let installed = task::blocking(move || Ok(home.whole(part, Look::Stat))).await?;
        let record = newest(installed, self.baked_of_vm().await).0;
        let record = record.ok_or_else(|| Error::internal(format!("no record of {part}")))?;
        let engine = BakedEngine { part, version: record.version, sha256: record.sha256 };
        Ok((self.image(Arch::this()?).await?.1, engine))
    }

    async fn write_image(
        &self,
        machine: &Machine,
        options: &BakeOptions,
        output: PathBuf,
        (listed, engine): (Option<Source>, BakedEngine),
        sink: &Sink<RuntimeProgress>,
    ) -> Result<BakedImage> {
        const WRITING: &str = "Writing the image";
        sink(RuntimeProgress { percent: Some(0.0), ..RuntimeProgress::new(Phase::Bake, WRITING) });
        let parent = output.parent().unwrap_or(&output).to_owned();
        let half = task::blocking(move || disk::temp_dir_in(&parent)).await?;
        let new = half.path().join("image");
        let said =
            |percent| sink(RuntimeProgress { percent: Some(percent), ..RuntimeProgress::new(Phase::Bake, WRITING) });
        bake::write(&machine.instance().root_disk(), self.vm_type(), &new, said).await?;
        let to = output.clone();
        let (sha256, size) = task::blocking(move || {
            let hashed = disk::hash_file(&new).map_err(|e| Error::io(e, "reading", &new))?;
            std::fs::rename(&new, &to).map_err(|e| Error::io(e, "writing", &to))?;
            drop(half);
            Ok(hashed)
        })
        .await?;
        let mut manifest = None;
        if let Some(url) = &options.url {
            let (kernel, initrd) = listed.map_or((None, None), |listed| (listed.kernel, listed.initrd));
            let source = Source {
                url: url.clone(),
                sha256: sha256.clone(),
                size: Some(size),
                contents: None,
                kernel,
                initrd,
                engine: Some(engine.clone()),
            };
            let whole = self.options().network.open().await?.manifest;
            let whole = whole.with_baked(Platform::current()?.guest(), source).to_json();
            let mut path = output.clone().into_os_string();
            path.push(".manifest.json");
            let path = PathBuf::from(path);
            let to = path.clone();
            task::blocking(move || disk::write_json_for_all(&to, &whole)).await?;
            manifest = Some(path);
        }
        Ok(BakedImage { path: output, sha256, size, engine, manifest })
    }
}

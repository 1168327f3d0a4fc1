//! What a caller does with the VM. One process at a time works in a data directory, with a deadline, and stops at once when
//! its caller gives up; the next call continues from what is left.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    Configured, DeleteOptions, InstallOptions, LimaRuntime, LimaState, MountOption, PreviousVm, Resources, State,
    Status, VmInfo, VmResources,
    guest::not_running,
    install::newest,
    left,
    machine::{Machine, Plan, refuse_root},
    resources::HostResources,
};
use crate::{
    call::{CONTAINER_CALL, Call},
    error::{Error, ErrorCode, Result},
    fetch::{
        disk,
        lock::Lock,
        manifest::{self, BakedEngine, Choice, Part},
        platform::Platform,
        record::{Look, Record},
    },
    guest::{Guest, ssh::SshGuest},
    lima::{
        limactl::Limactl,
        paths,
        template::{self, Arch, BUILT_IN, Kernel, Shape, VmBootFile, VmFile, VmSettings, VmType},
    },
    log,
    manager::{
        payload::{UserEngine, docker::Archive},
        socket::{self, Served, serve},
    },
    process::Command,
    progress::{RuntimeProgress, Sink, forward_only},
    task,
};

/// Without downloads, which have an idle timeout of their own.
const FIRST_BOOT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// A guest that still boots then may take as long as it shows progress: an emulated one, or one of a computer under load.
const WARM_START_TIMEOUT: Duration = Duration::from_secs(3 * 60);
const WARM_START_QUIET: Duration = Duration::from_secs(60);
/// A guest that does not visibly shut down is ended by force long before.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(3 * 60);
const DELETE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a living VM may take to answer after a sleep.
const WAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer flush could last into the host's sleep.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets the guest's clock to the host's time `$1` when they are seconds apart (docs/reference/lima.md#clock).
const SET_CLOCK_SCRIPT: &str = r#"d=$(($(date +%s) - $1)); [ "$d" -gt -2 ] && [ "$d" -lt 2 ] || date -s "@$1""#;

impl LimaRuntime {
    /// Starts no process and waits for no lock.
    pub async fn status(&self, call: &Call) -> Result<Status> {
        let machine = self.machine(self.lima_home(), None);
        // Boxed: callers wrap it in futures of their own.
        call.run(
            None,
            Box::pin(async {
                let instance = machine.instance();
                let (mut state, mut reason) = machine.state().await?;
                let mut lima_version = instance.lima_version().await;
                if state == State::NotCreated {
                    let home = self.home().clone();
                    let record = task::blocking(move || Ok(home.whole(Part::Lima, Look::Stat))).await?;
                    if !self.is_installed(&Call::default()).await? {
                        state = State::NotInstalled;
                    } else if lima_version.is_none() {
                        lima_version = record.map(|r| r.version);
                    }
                }
                let mut ssh_port = None;
                if state == State::Running {
                    ssh_port = instance.info().await.map(|info| info.ssh_local_port);
                    if self.is_unreachable().await {
                        (state, reason) = (State::Broken, Some("The VM does not answer over SSH"));
                    }
                }
                let none = matches!(state, State::NotCreated | State::NotInstalled);
                let kept_data = if none { machine.data().await } else { None };
                let least = kept_data.map_or(0, |kept| kept.disk);
                let wanted = || self.resources().ok().map(|r| VmResources { disk: r.disk.max(least), ..r });
                let resources = machine.shape().await.map(VmResources::from).or_else(wanted);
                let left = left::read(instance, self.engine()).await;
                let idle = state == State::Stopped && self.rests();
                if idle {
                    reason = Some("It was stopped because nobody used it");
                }
                let copied = self.previous_copy().await?;
                if copied.as_ref().is_some_and(|(copied, _)| copied.returning) {
                    let text = "A rollback is under way, or was interrupted: start() ends it";
                    (state, reason) = (State::Broken, Some(text));
                }
                let (reason, previous) = (reason.map(Into::into), copied.and_then(PreviousVm::of));
                Ok(Status { state, reason, idle, lima_version, resources, ssh_port, kept_data, previous, left })
            }),
        )
        .await
    }

    /// Information about the VM; `INVALID_STATE` when there is none.
    pub async fn info(&self, call: &Call) -> Result<VmInfo> {
        let status = self.status(call).await?;
        let machine = self.machine(self.lima_home(), None);
        let Some(shape) = machine.shape().await else {
            return Err(Error::new(ErrorCode::InvalidState, "There is no VM yet").hint("Start it: start() creates it."));
        };
        Ok(VmInfo {
            name: self.instance().to_owned(),
            status: status.state,
            dir: machine.instance().dir.clone(),
            arch: shape.arch,
            vm_type: shape.vm_type,
            cpus: shape.cpus,
            memory: shape.memory,
            disk: shape.disk,
            ssh_port: status.ssh_port,
            lima_version: status.lima_version.unwrap_or_default(),
        })
    }

    /// Whether our host agent answers and last said that the VM runs, and SSH has not found the VM dead.
    pub async fn is_running(&self) -> bool {
        self.machine(self.lima_home(), None).instance().is_running().await && !self.is_unreachable().await
    }

    /// Installs what is missing, makes the VM when there is none, and brings it to running from any state. Codes: those of
    /// `install` and [`Machine::start`]; `LOCKED` when another process works here longer than `timeoutMs`.
    pub async fn start(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<SshGuest> {
        self.start_if(|| true, sink, call).await
    }

    /// Starts a VM that was stopped because nobody used it, unless somebody stopped it for good meanwhile. One that another
    /// process has started runs.
    pub(super) async fn start_resting(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        match self.start_if(|| self.rests(), sink, call).await {
            Err(e) if e.code() == ErrorCode::VmNotRunning && self.is_running().await => Ok(()),
            started => started.map(drop),
        }
    }

    async fn start_if(
        &self,
        wanted: impl Fn() -> bool + Send,
        sink: Sink<RuntimeProgress>,
        call: &Call,
    ) -> Result<SshGuest> {
        let (call, sink) = (&call.in_steps(), forward_only(sink));
        let (lima_home, lock) = self.lock_to_start(call).await?;
        if !wanted() {
            return Err(not_running());
        }
        self.start_under(lock, lima_home, InstallOptions::default(), &sink, call).await
    }

    /// `LIMA_HOME` in use, or the one for a first start, and the lock. Refuses wrong settings before anything is changed.
    pub(super) async fn lock_to_start(&self, call: &Call) -> Result<(PathBuf, Lock)> {
        refuse_root()?;
        self.check_spaces(&self.resources()?, "resources.", None)?;
        self.check_socket()?;
        let lima_home = self.choose_lima_home()?;
        Ok((lima_home, self.lock(call, FIRST_BOOT_TIMEOUT).await?))
    }

    /// Brings what a boot needs, by `options`, then the VM to running.
    pub(super) async fn start_under(
        &self,
        lock: Lock,
        lima_home: PathBuf,
        options: InstallOptions,
        sink: &Sink<RuntimeProgress>,
        call: &Call,
    ) -> Result<SshGuest> {
        let started = self.bring_up(lock, lima_home, options, sink, call).await;
        started.inspect_err(log::failed("the start of the VM"))
    }

    async fn bring_up(
        &self,
        lock: Lock,
        lima_home: PathBuf,
        options: InstallOptions,
        sink: &Sink<RuntimeProgress>,
        call: &Call,
    ) -> Result<SshGuest> {
        self.remember_lima_home(&lima_home)?;
        call.run(None, self.end_rollbacks(&lock)).await?;
        let created = self.machine(lima_home.clone(), None).instance().facts().await?.disk;
        let needed = InstallOptions { components: self.needed(created).components, ..options };
        call.run(None, self.install_under(&lock, &needed, sink.clone())).await?;
        let plan = self.plan().await?;
        let machine = self.machine(lima_home, Some(lock));
        let started = async {
            let start = machine.start(&plan, sink);
            if !created || call.timeout.is_some() {
                return start.await;
            }
            tokio::select! {
                started = start => started,
                late = machine.overdue(WARM_START_TIMEOUT, WARM_START_QUIET) => Err(late),
            }
        };
        let guest = match call.run(FIRST_BOOT_TIMEOUT, started).await {
            // Only the logs tell what it waited for (docs/reference/lima.md#hanging-start).
            Err(e) if e.code() == ErrorCode::Timeout => return Err(machine.with_logs(e).await),
            other => other?,
        };
        self.rests_no_more().await;
        self.keep_connection(&machine, &guest).await;
        self.note_start().await;
        self.serve_socket().await?;
        Ok(guest)
    }

    /// A template names its own image and containerd, but no Docker engine. A VM with a disk needs no image, but containerd
    /// at each boot (docs/reference/lima.md#archive-at-each-boot).
    pub(super) fn needed(&self, created: bool) -> InstallOptions {
        match (&self.options().template, created) {
            (Some(_), _) if self.engine() == UserEngine::Containerd => InstallOptions::default(),
            (None, false) => InstallOptions::for_boot(self.payload()),
            _ => InstallOptions { components: vec![Part::Lima, self.payload().part], ..InstallOptions::default() },
        }
    }

    /// Stops the containers, then the guest; by force what does not end in time. No VM is not an error.
    pub async fn stop(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        refuse_root()?;
        let (call, sink) = (&call.in_steps(), forward_only(sink));
        let lock = self.lock(call, STOP_TIMEOUT).await?;
        self.stop_under(lock, &sink, call).await
    }

    pub(super) async fn stop_under(&self, lock: Lock, sink: &Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        call.run(STOP_TIMEOUT, async {
            self.rests_no_more().await;
            self.disconnect().await;
            self.machine(self.lima_home(), Some(lock)).stop(sink).await
        })
        .await
    }

    pub async fn restart(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<SshGuest> {
        self.stop(sink.clone(), call).await?;
        self.start(sink, call).await
    }

    /// Removes the VM with its contents, or all but those; downloads stay.
    pub async fn delete(&self, options: &DeleteOptions, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        refuse_root()?;
        let (call, sink, keep) = (&call.in_steps(), forward_only(sink), options.keep_data);
        let limit = if keep { STOP_TIMEOUT + DELETE_TIMEOUT } else { DELETE_TIMEOUT };
        let lock = self.lock(call, limit).await?;
        self.delete_under(lock, keep, sink, call).await
    }

    pub(super) async fn delete_under(
        &self,
        lock: Lock,
        keep: bool,
        sink: Sink<RuntimeProgress>,
        call: &Call,
    ) -> Result<()> {
        let limit = if keep { STOP_TIMEOUT + DELETE_TIMEOUT } else { DELETE_TIMEOUT };
        call.run(limit, async {
            if keep {
                // What is to be kept may be in the copy.
                self.end_rollbacks(&lock).await?;
            }
            self.disconnect().await;
            self.machine(self.lima_home(), Some(lock)).delete(keep, &sink).await
        })
        .await
    }

    /// Makes a new VM with the same settings, and starts it.
    pub async fn factory_reset(
        &self,
        options: &DeleteOptions,
        sink: Sink<RuntimeProgress>,
        call: &Call,
    ) -> Result<SshGuest> {
        self.delete(options, sink.clone(), call).await?;
        self.start(sink, call).await
    }

    /// Sets the resources of the VM, existing or not. They stay until the next call, also after an upgrade or reset. A
    /// running VM gets them at its next start. `INVALID_ARGUMENT` for more than this computer has, and for a disk smaller
    /// than the VM's.
    pub async fn configure(&self, resources: Resources, call: &Call) -> Result<Configured> {
        let check = || resources.clone().over(&self.state().resources).over(&self.options().resources);
        self.check_spaces(&check().resolve(HostResources::this(), "")?, "", None)?;
        let call = &call.in_steps();
        let lock = self.lock(call, CONTAINER_CALL).await?;
        call.run(None, async {
            let machine = self.machine(self.lima_home(), None);
            let (wanted, state) = (check().resolve(HostResources::this(), "")?, self.recorded_state());
            let shape = machine.shape().await;
            let there = match &shape {
                Some(shape) => Some(shape.disk),
                None => machine.data().await.map(|kept| kept.disk),
            };
            if let Some(there) = there.filter(|&there| resources.disk.is_some() && wanted.disk < there) {
                let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
                let problem = format!("{:.1} GiB is less than the {:.1} GiB the VM has", gib(wanted.disk), gib(there));
                let hint = "A disk can only grow. To make it smaller, delete() the VM with all it holds first.";
                return Err(Error::invalid("disk", problem).hint(hint));
            }
            let home = self.dir().join("state.json");
            let state = LimaState { resources: resources.clone().over(&state.resources), ..state };
            lock.blocking(move || disk::write_json(&home, &state)).await?;
            let alive = matches!(machine.state().await?.0, State::Starting | State::Running);
            let changed = shape.is_some_and(|shape| {
                let disk = wanted.disk.max(shape.disk);
                VmResources::from(shape) != VmResources { disk, ..wanted }
            });
            Ok(Configured { restart_required: alive && changed })
        })
        .await
    }

    /// The host is about to sleep: flushes the guest's disks, as far as time allows.
    pub async fn suspend(&self) {
        if self.machine(self.lima_home(), None).instance().is_running().await {
            let flush = async { self.ssh().await?.run(Command::new(["sync"])).await };
            _ = tokio::time::timeout(FLUSH_TIMEOUT, flush).await;
        }
    }

    /// The host woke up. For a VM that should run: sets its clock, renews the connections, and starts it again when it does
    /// not answer within 10 s. A stopped VM stays stopped.
    pub async fn resume(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let (state, _) = call.run(None, self.machine(self.lima_home(), None).state()).await?;
        if !matches!(state, State::Running | State::Broken) || self.rests() {
            return Ok(());
        }
        // The connections may be dead unnoticed (docs/reference/lima.md#after-a-sleep).
        self.renew_connection().await;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let set_clock = Command::new(["sh", "-c", SET_CLOCK_SCRIPT, "sh", &now.as_secs().to_string()]).root();
        let probe = async { self.note_answer(self.ssh().await?.run(set_clock).await)?.checked("date") };
        match tokio::time::timeout(WAKE_TIMEOUT, call.run(None, probe)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) if matches!(e.code(), ErrorCode::Aborted | ErrorCode::Timeout) => Err(e),
            other => {
                let error = crate::log::why(other);
                tracing::warn!(error, "the VM did not wake up");
                self.start(sink, call).await.map(drop)
            }
        }
    }

    /// `PATH_TOO_LONG` for a Docker socket that cannot be.
    pub(super) fn check_socket(&self) -> Result<()> {
        if self.engine() == UserEngine::Docker { socket::check(&self.paths().docker_socket) } else { Ok(()) }
    }

    /// Serves the Docker socket from now on, if the engine is Docker.
    async fn serve_socket(&self) -> Result<()> {
        if self.engine() != UserEngine::Docker {
            return Ok(());
        }
        let mut served = self.served.lock().await;
        if served.as_ref().is_some_and(Served::is_there) {
            return Ok(());
        }
        // A clone with the same handle would keep itself alive.
        let runtime = LimaRuntime { served: Arc::default(), ..self.clone() };
        let socket = self.engine_socket().to_owned();
        if let Some(before) = served.take() {
            before.end().await;
        }
        let path = self.paths().docker_socket;
        let dir = path.parent().unwrap_or(&path);
        *served = Some(serve(&path, dir, runtime.counting_guest(), socket).await?);
        Ok(())
    }

    /// Every limactl holds `lock`, so that one whose caller gave up keeps the next caller waiting.
    pub(super) fn machine(&self, lima_home: PathBuf, lock: Option<Lock>) -> Machine {
        let proxy = self.options().network.http.proxy.as_deref();
        let mut limactl = Limactl::new(self.paths().limactl, lima_home, proxy, &[]);
        if let Some(lock) = lock {
            limactl = limactl.holding(std::sync::Arc::new(lock));
        }
        Machine::new(limactl, self.instance(), self.engine())
            .with_socket(self.engine_socket())
            .of_app(self.label(), self.namespace())
    }

    /// `LIMA_HOME` in use, or the one for a first start, short enough for Lima's sockets.
    pub(super) fn choose_lima_home(&self) -> Result<PathBuf> {
        if let Some(home) = self.state().lima_home {
            return Ok(home);
        }
        let user = home::home_dir()
            .ok_or_else(|| Error::new(ErrorCode::InvalidArgument, "dataDir: this user has no home directory"))?;
        paths::lima_home(self.dir(), self.instance(), &user, self.app_name())
    }

    /// The caller holds the lock.
    fn remember_lima_home(&self, chosen: &std::path::Path) -> Result<()> {
        if self.state().lima_home.is_some() || chosen.ends_with("vms") {
            return Ok(());
        }
        let state = LimaState { lima_home: Some(chosen.to_owned()), ..self.recorded_state() };
        disk::write_json(&self.dir().join("state.json"), &state)
    }

    /// By `configure()`, else the options, else the defaults.
    pub(in crate::manager) fn resources(&self) -> Result<VmResources> {
        self.state().resources.over(&self.options().resources).resolve(HostResources::this(), "resources.")
    }

    pub(super) fn vm_type(&self) -> VmType {
        self.options().vm_type.unwrap_or(VmType::DEFAULT)
    }

    /// `lima` is the installed version; without one, the requested version counts.
    fn check_spaces(&self, resources: &VmResources, at: &str, lima: Option<&str>) -> Result<()> {
        let lima = lima.or_else(|| self.options().network.choice.versions.of(Part::Lima));
        resources.mounts.iter().try_for_each(|m| template::check_spaces(at, &m.into(), self.vm_type(), lima))
    }

    /// The image of a new VM, and the engine in a baked one. One without a boot loader has kernel and initrd in the manifest: Lima
    /// downloads those few megabytes and checks their digests.
    async fn image(&self, arch: Arch) -> Result<(Option<VmFile>, Option<BakedEngine>)> {
        // A template of the caller's names its own.
        let found = if self.options().template.is_none() { self.fetched(Part::Image).await? } else { None };
        let Some((path, record)) = found else { return Ok((None, None)) };
        let (mut file, engine) = (VmFile::here(&path, arch), record.engine);
        let Ok(remote) = self.options().network.open().await else { return Ok((Some(file), engine)) };
        let known = remote.manifest.known(Part::Image, Platform::current()?, &record.sha256, &Choice::default());
        let Some((_, listed)) = known else { return Ok((Some(file), engine)) };
        let at = |file: &manifest::BootFile| {
            (remote.origin.rewrite(&file.url).to_string(), Some(format!("sha256:{}", file.sha256)))
        };
        file.kernel = listed.kernel.as_ref().map(|boot| {
            let (location, digest) = at(boot);
            Kernel { location, digest, cmdline: boot.cmdline.clone().unwrap_or_default() }
        });
        file.initrd = listed.initrd.as_ref().map(|boot| {
            let (location, digest) = at(boot);
            VmBootFile { location, digest }
        });
        Ok((Some(file), engine))
    }

    /// A file of the cache, checked when it was fetched.
    async fn fetched(&self, part: Part) -> Result<Option<(PathBuf, Record)>> {
        let home = self.home().clone();
        task::blocking(move || Ok(home.file(part))).await
    }

    async fn plan(&self) -> Result<Plan> {
        let options = self.options();
        let base = match &options.template {
            None => BUILT_IN.to_owned(),
            Some(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|e| Error::invalid("template", format!("{} cannot be read: {e}", path.display())).source(e))?,
        };
        let arch = Arch::this()?;
        let (resources, home) = (self.resources()?, self.home().clone());
        let lima = task::blocking(move || Ok(home.whole(Part::Lima, Look::Stat))).await?;
        self.check_spaces(&resources, "resources.", lima.map(|record| record.version).as_deref())?;
        let (image, engine) = self.image(arch).await?;
        let made = self.has_vm().await?;
        let baked = if made { self.baked_of_vm().await } else { engine };
        let baked = baked.filter(|engine| engine.part == self.payload().part);
        let containerd = self.engine() == UserEngine::Containerd;
        // What the guest has of its image it needs no archive for, unless that is newer.
        let newer = |record: &Record| !newest(Some(record.clone()), baked.clone()).1;
        // A template of the caller's names its own containerd.
        let ours = !containerd || options.template.is_none();
        let fetched = if ours { self.fetched(self.payload().part).await? } else { None };
        let archive = fetched.filter(|(_, record)| newer(record)).map(Archive::of);
        let nerdctl = archive.as_ref().filter(|_| containerd).map(|archive| VmFile::here(&archive.path, arch));
        let in_image = baked.is_some() && archive.is_none();
        let settings = VmSettings {
            arch,
            vm_type: self.vm_type(),
            cpus: resources.cpus,
            memory: resources.memory,
            disk: resources.disk,
            data: None,
            mounts: resources.mounts.iter().map(Into::into).collect(),
            images: Vec::from_iter(image),
            nerdctl: Vec::from_iter(nerdctl),
            containerd: containerd && !in_image,
            ssh_port: 0,
            rosetta: options.rosetta.unwrap_or(true),
            ca_certificates: options.network.http.ca_certificates.clone(),
        };
        let registries = options.registries.clone();
        Ok(Plan { base, settings, archive, baked: if made { None } else { baked }, registries })
    }
}

impl From<Shape> for VmResources {
    fn from(Shape { cpus, memory, disk, mounts, .. }: Shape) -> Self {
        let mounts = mounts.into_iter().map(|m: template::VmMount| MountOption {
            location: m.location,
            mount_point: m.mount_point,
            writable: m.writable,
        });
        Self { cpus, memory, disk, mounts: mounts.collect() }
    }
}

//! One VM: brings it to running from any state, and stops it. The caller holds the lock of its directory.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use rustix::process::{Signal, geteuid};

use super::{
    left,
    repair::{State, Step, next_step, state},
};
use crate::{
    engine::containerd::certificates,
    error::{Error, ErrorCode, Result},
    fetch::{manifest::BakedEngine, owner},
    guest::{
        Guest,
        ssh::{SshGuest, SshProgram, SshTarget},
    },
    lima::{
        data_disk::{self, Attached, DataDisk, KeptData},
        instance::{AgentHealth, Facts, Instance, release},
        limactl::{Failed, Failure, Limactl, Line},
        previous::Previous,
        progress::StartProgress,
        template::{self, VmSettings},
    },
    manager::{
        payload::{self, FullDisk, Payload, UserEngine, docker::Archive},
        registries::{self, RegistryOptions},
    },
    process::{Command, Exit, identity::Identity},
    progress::{Phase, RuntimeProgress, Sink},
    task,
};

/// What a new VM is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The template's text.
    pub base: String,
    /// `ssh_port` is replaced by a free one.
    pub settings: VmSettings,
    /// What the guest gets over SSH. Lima brings containerd itself, as a rule.
    pub archive: Option<Archive>,
    /// What the image of a new VM holds.
    pub baked: Option<BakedEngine>,
    pub registries: RegistryOptions,
}

pub struct Machine {
    limactl: Limactl,
    instance: Instance,
    data: DataDisk,
    payload: &'static Payload,
    /// The engine's, in the guest.
    socket: String,
    /// The application's label, and containerd's namespace.
    owner: (String, String),
    stall: Duration,
}

/// How long limactl waits for the guest's requirements; the call's own deadline also counts.
const BOOT_TIMEOUT: Duration = Duration::from_secs(25 * 60);
/// How long a VM that Lima calls running may take to answer before it is booted again.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The same right after a boot: an emulated guest on a busy machine is slow. The call's own deadline usually comes first.
const BOOTED_READY_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// A guest that shows no progress for this long will not continue by itself.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Lima looks for its agent every ten seconds: how long that may take once the guest's boot scripts have ended.
const AGENT_SEARCH_TIME: Duration = Duration::from_secs(30);
/// How often the guest's progress is read.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// How long a silent engine may still be starting; then it is restarted.
const ENGINE_GRACE: Duration = Duration::from_secs(10);
/// For one question to the engine: a daemon that hangs takes the connection and says nothing.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a host agent may take to answer; its socket exists a second after its pid file.
const AGENT_TIMEOUT: Duration = Duration::from_secs(10);
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a guest may take that visibly shuts down.
const SLOW_END_TIMEOUT: Duration = Duration::from_secs(110);
/// How long the containers may take to end: ten seconds by themselves, the rest for a slow guest.
const QUIESCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Nothing reports the end of a process or of limactl's work: how often we look.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// More steps than any chain of repairs takes.
const MAX_STEPS: usize = 16;
/// One boot, and one more after a repair.
const MAX_BOOTS: usize = 2;

impl Machine {
    pub fn new(limactl: Limactl, name: &str, engine: UserEngine) -> Self {
        let (instance, payload) = (Instance::new(limactl.lima_home(), name), engine.payload());
        let data = DataDisk::of(limactl.lima_home(), name);
        let (socket, owner) = (payload.socket.into(), Default::default());
        Self { limactl, instance, data, payload, socket, owner, stall: STALL_TIMEOUT }
    }

    /// How long a booting guest may show no progress; for tests.
    #[must_use]
    pub fn with_stall(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// Another socket, for tests whose guest is this machine.
    #[must_use]
    pub fn with_socket(self, path: impl Into<String>) -> Self {
        Self { socket: path.into(), ..self }
    }

    /// Whose containers are noted when the engine is changed.
    #[must_use]
    pub fn of_app(self, label: &str, namespace: &str) -> Self {
        Self { owner: (label.to_owned(), namespace.to_owned()), ..self }
    }

    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The engine that ran in the guest last. A VM of an earlier version has no record: it ran containerd.
    async fn engine(&self) -> UserEngine {
        self.ran().await.0
    }

    /// That engine, and its socket.
    async fn ran(&self) -> (UserEngine, String) {
        let record = self.instance.engine().await.unwrap_or_default();
        let (name, socket) = record.split_once(' ').unwrap_or((&record, ""));
        let engine = UserEngine::parse(name).unwrap_or_default();
        (engine, if socket.is_empty() { engine.payload().socket.to_owned() } else { socket.to_owned() })
    }

    /// Reads only the directory and the host agent's socket.
    pub async fn state(&self) -> Result<(State, Option<&'static str>)> {
        Ok(state(&self.instance.facts().await?))
    }

    /// The settings in `lima.yaml`, with the size of its data disk; `None` while there is no VM.
    pub async fn shape(&self) -> Option<template::Shape> {
        let document = self.document().await?;
        let mut shape = template::shape(&document)?;
        if template::has_data(&document, &self.data.name)
            && let Some(data) = self.data().await
        {
            shape.disk = data.disk;
        }
        Some(shape)
    }

    async fn document(&self) -> Option<String> {
        tokio::fs::read_to_string(self.instance.path("lima.yaml")).await.ok()
    }

    /// The data disk, of a VM or kept for the next.
    pub async fn data(&self) -> Option<KeptData> {
        let data = self.data.clone();
        task::blocking(move || Ok(data.facts())).await.ok().flatten()
    }

    /// Brings the VM to running from any state and returns its guest: SSH works, the engine answers. Codes: `ROOT_USER`,
    /// `VM_START_FAILED`, `VM_BROKEN`, `CONTAINERD_NOT_READY`, `ENGINE_UNREACHABLE`, `DISK_FULL`, `PORT_IN_USE`, `CHECKSUM_MISMATCH`,
    /// `DOWNLOAD_FAILED`, `INVALID_ARGUMENT`, `INVALID_STATE` for a VM of a newer Lima; `details.hostAgentLog`,
    /// `details.serialLog` and, for an engine that does not answer, `details.guestLog` hold the ends of the logs.
    pub async fn start(&self, plan: &Plan, sink: &Sink<RuntimeProgress>) -> Result<SshGuest> {
        refuse_root()?;
        let lines = || {
            let (mut progress, instance) = (StartProgress::default(), self.instance.clone());
            move |line: Line| {
                if instance.reports_lost_agent(&line) {
                    let instance = instance.clone();
                    task::spawn(async move { instance.cancel_agent_forward().await });
                }
                if let Some(event) = progress.of(&line) {
                    sink(event);
                }
            }
        };
        let (mut boots, mut failure) = (0, None);
        for _ in 0..MAX_STEPS {
            let facts = self.instance.facts().await?;
            match next_step(&facts) {
                Step::Create => {
                    sink(RuntimeProgress::new(Phase::Create, "Creating the VM"));
                    self.create(plan, lines()).await?;
                }
                Step::Discard => self.remove_directory().await?,
                Step::RestoreYaml => {
                    // A VM of an earlier version has none, and gets none.
                    let data = self.data().await.map(|_| self.attach(plan));
                    let data = match data {
                        Some(data) => Some(data.await?),
                        None => None,
                    };
                    self.instance.write("lima.yaml", &Self::render(plan, data)?).await?;
                }
                Step::AwaitAgent => {
                    if !self.wait_until(AGENT_TIMEOUT, |f| next_step(f) != Step::AwaitAgent).await? {
                        self.end_our_processes().await?;
                    }
                }
                Step::Join => {
                    sink(RuntimeProgress::new(Phase::Boot, "Waiting for a start that is under way"));
                    if !self.wait_until(BOOT_TIMEOUT, |f| next_step(f) != Step::Join).await? {
                        self.end_our_processes().await?;
                    }
                }
                Step::AwaitEnd => {
                    if !self.wait_until(END_TIMEOUT, |f| next_step(f) != Step::AwaitEnd).await? {
                        self.end_our_processes().await?;
                    }
                }
                Step::EndOurs => self.end_our_processes().await?,
                Step::Boot if boots == MAX_BOOTS => break,
                Step::Boot => {
                    // If this one succeeds, nobody else hears of it.
                    if let Some(error) = &failure {
                        tracing::warn!(%error, "the VM is booted again");
                    }
                    boots += 1;
                    if let Err(e) = self.boot(plan, lines()).await {
                        let retry =
                            matches!(e.failure, Failure::PortTaken | Failure::HostAgent | Failure::SeemsRunning);
                        let e = self.with_logs(e.error).await;
                        if !retry {
                            return Err(e);
                        }
                        failure = Some(e);
                    }
                }
                // The VM runs the other engine.
                Step::Verify if boots == 0 && self.engine().await != self.payload.engine => {
                    self.stop(sink).await?;
                }
                Step::Verify => match self.wait_until_ready(plan, boots > 0, sink).await {
                    // The VM ended meanwhile.
                    Ok(None) => {}
                    // Without Lima's agent in the guest, no published port is forwarded. A VM that already ran is left
                    // alone; one that we booted ourselves gets a second boot.
                    Ok(Some((_, false))) if boots == 1 => {
                        tracing::warn!("Lima's agent does not answer: the VM is booted again");
                        self.stop(sink).await?;
                    }
                    Ok(Some((guest, _))) => {
                        self.record_processes().await;
                        if let Some(disk) = self.full_disk(&guest).await {
                            crate::call::warn(payload::runs_on_full_disk(self.payload, disk));
                        }
                        let ran = format!("{} {}", self.payload.engine.as_str(), self.socket);
                        self.instance.record_engine(&ran).await?;
                        tracing::info!(engine = self.payload.title, boots, "the VM is up");
                        sink(RuntimeProgress::ready("The VM is ready"));
                        return Ok(guest);
                    }
                    Err(e) if boots == MAX_BOOTS || is_final(&e) => {
                        return Err(self.with_logs(e).await);
                    }
                    Err(e) => {
                        failure = Some(self.with_logs(e).await);
                        self.stop(sink).await?;
                    }
                },
            }
        }
        Err(failure.unwrap_or_else(|| {
            Error::new(ErrorCode::VmBroken, "The VM could not be brought to running")
                .hint("Reset it with factoryReset(); this loses what it holds.")
        }))
    }

    /// Stops the VM: the containers, then the guest, each with a deadline and then by force. No VM, or a stopped one, is
    /// not an error.
    pub async fn stop(&self, sink: &Sink<RuntimeProgress>) -> Result<()> {
        refuse_root()?;
        let facts = self.instance.facts().await?;
        if is_alive(&facts) {
            sink(RuntimeProgress::new(Phase::Stop, "Stopping the containers"));
            self.quiesce().await;
            sink(RuntimeProgress::new(Phase::Stop, "Stopping the VM"));
            // Lima refuses to stop a VM that it calls broken (docs/reference/lima.md#stop); force remains.
            let stop = self.limactl.stop(&self.instance.name);
            let stopped = tokio::select! {
                stopped = stop => Some(stopped),
                () = self.stalls(END_TIMEOUT, SLOW_END_TIMEOUT) => None,
            };
            if !matches!(stopped, Some(Ok(()))) || is_alive(&self.instance.facts().await?) {
                let error = stopped.and_then(Result::err).map(|failed| tracing::field::display(failed.error));
                tracing::warn!(error, "the VM is ended by force");
                self.end_our_processes().await?;
            }
        }
        if facts.directory {
            self.instance.remove_leftovers().await?;
        }
        Ok(())
    }

    /// Removes the VM with its contents, or all but its data disk, which the next VM takes; `INVALID_STATE` for one that has
    /// none. Not through `limactl delete`, which also removes the LaunchAgent of an instance of the same name in the user's own
    /// Lima (docs/reference/lima.md#delete).
    pub async fn delete(&self, keep_data: bool, sink: &Sink<RuntimeProgress>) -> Result<()> {
        refuse_root()?;
        if keep_data {
            self.must_have_data().await?;
            self.stop(sink).await?;
        } else if is_alive(&self.instance.facts().await?) {
            // Its contents are removed anyway: no need to be gentle.
            self.end_our_processes().await?;
        }
        sink(RuntimeProgress::new(Phase::Delete, "Deleting the VM"));
        // No later VM is put back to what this one was.
        let previous = Previous::of(self.limactl.lima_home(), &self.instance.name);
        self.limactl.blocking(move || previous.remove()).await?;
        let data = self.data.clone();
        if keep_data {
            self.remove_directory().await?;
            return self.limactl.blocking(move || data.release()).await;
        }
        // The data first: cut off after that, a VM without its disk is left, which does not start. Cut off the other way, the
        // next VM would bring back what was to be gone.
        self.limactl.blocking(move || data.give_up()).await?;
        self.remove_directory().await?;
        let data = self.data.clone();
        self.limactl.blocking(move || data.sweep()).await
    }

    async fn must_have_data(&self) -> Result<()> {
        let facts = self.instance.facts().await?;
        let has = match self.document().await {
            Some(document) => template::has_data(&document, &self.data.name),
            None => self.data().await.is_some(),
        };
        if has && facts.disk && self.data().await.is_none() {
            return Err(Error::new(ErrorCode::VmBroken, "The VM's data disk is missing: nothing can be kept")
                .hint("Put its file back, or delete() the VM with all it holds."));
        }
        if has || !facts.disk {
            return Ok(());
        }
        let hint = "It was made by an earlier version, and stays as it is. Save its images and what its volumes hold, then \
                    delete() it with all it holds: the next VM has a data disk.";
        Err(Error::new(ErrorCode::InvalidState, "The VM has no data disk: nothing of it can be kept").hint(hint))
    }

    /// The guest by Lima's `ssh.config`; not connected yet.
    pub async fn guest(&self) -> Result<SshGuest> {
        self.guest_with(&self.socket).await
    }

    /// Another connection, which takes `socket` for the engine's.
    async fn guest_with(&self, socket: &str) -> Result<SshGuest> {
        // The ssh program obeys its configuration, so nobody else may have written it.
        owner::check(&self.instance.dir)?;
        let config = self.instance.ssh_config().await?;
        let Some(pinned) = self.instance.pinned_host_key().await else {
            let text = "The VM was not started by this package: its host key is not known";
            return Err(Error::new(ErrorCode::VmNotRunning, text).hint("Restart the VM."));
        };
        // A VM started by an earlier version of ours has no file for the ssh program.
        self.instance.pin_host_key(&pinned).await?;
        Ok(SshGuest::new(SshTarget {
            host: Ipv4Addr::LOCALHOST.into(),
            port: config.port,
            user: config.user,
            identity: config.identity,
            pin: self.instance.pin(),
            containerd_socket: socket.to_owned(),
            program: Some(SshProgram {
                config: self.instance.path("ssh.config"),
                host: self.instance.host(),
                known_hosts: self.instance.known_hosts(),
            }),
        }))
    }

    fn render(plan: &Plan, data: Option<Attached>) -> Result<String> {
        template::render(&plan.base, &VmSettings { ssh_port: free_port()?, data, ..plan.settings.clone() })
    }

    /// Readies the data disk for a boot.
    async fn attach(&self, plan: &Plan) -> Result<Attached> {
        let (data, size) = (self.data.clone(), plan.settings.disk);
        self.limactl.blocking(move || data.attach(size)).await
    }

    async fn create(&self, plan: &Plan, on_line: impl FnMut(Line)) -> Result<()> {
        let home = self.limactl.lima_home().to_owned();
        tokio::fs::create_dir_all(&home).await.map_err(|e| Error::io(e, "creating", &home))?;
        let (data, size) = (self.data.clone(), plan.settings.disk);
        self.limactl.blocking(move || data.create(size)).await?;
        let data = self.attach(plan).await?;
        match self.limactl.create(&self.instance.name, Self::render(plan, Some(data))?, on_line).await {
            // Another process was faster; the next facts show its result.
            Ok(()) | Err(Failed { failure: Failure::AlreadyExists, .. }) => {}
            Err(e) => return Err(e.error),
        }
        match &plan.baked {
            Some(engine) => self.instance.record_baked(engine).await,
            None => Ok(()),
        }
    }

    async fn boot(&self, plan: &Plan, on_line: impl FnMut(Line)) -> Result<(), Failed> {
        let version = self.limactl.version().await?;
        self.refuse_downgrade(&version).await?;
        self.instance.remove_leftovers().await?;
        self.prepare_yaml(Some(plan), false).await?;
        self.instance.record_lima(&version).await?;
        let started = self.limactl.start(&self.instance.name, BOOT_TIMEOUT, on_line).await;
        // A failed start may leave processes.
        self.record_processes().await;
        match started {
            Ok(()) => Ok(()),
            Err(mut failed) if failed.failure == Failure::HostAgent => {
                // limactl only says that the agent ended; the agent's log says why.
                let log = self.instance.log_tail("ha.stderr.log", 50).await;
                match Failure::of(&log) {
                    Failure::PortTaken => {
                        self.prepare_yaml(None, true).await?;
                        failed.failure = Failure::PortTaken;
                    }
                    // Another agent started first.
                    Failure::SeemsRunning => failed.failure = Failure::SeemsRunning,
                    Failure::DiskFull => {
                        failed.failure = Failure::DiskFull;
                        failed.error = Error::new(ErrorCode::DiskFull, "The disk is full: the VM cannot start")
                            .hint("Free some disk space, then try again.");
                    }
                    _ => {}
                }
                Err(failed)
            }
            Err(failed) => Err(failed),
        }
    }

    /// An older Lima does not find a newer one's disk by its name, and would make an empty one beside it
    /// (docs/reference/lima.md#disk-names).
    async fn refuse_downgrade(&self, version: &str) -> Result<()> {
        let Some(newest) = self.instance.newest_lima().await else { return Ok(()) };
        match (release(version), release(&newest)) {
            (Some(ours), Some(theirs)) if ours < theirs => {
                let text = format!("The VM was run by Lima {newest}, and the one installed is {version}");
                let hint = format!(
                    "Install Lima {newest} or later (versions: {{ lima: '{newest}' }}), or delete() the VM with all it holds."
                );
                Err(Error::new(ErrorCode::InvalidState, text).hint(hint).detail("needed", newest))
            }
            _ => Ok(()),
        }
    }

    async fn record_processes(&self) {
        if let Err(e) = self.instance.record_processes().await {
            tracing::warn!(error = %e, "the VM's processes are known by their pid files alone");
        }
    }

    /// Applies changed resources. Keeps the SSH port if it is free, else picks another. From here on the guest's host key
    /// is pinned.
    async fn prepare_yaml(&self, plan: Option<&Plan>, another_port: bool) -> Result<()> {
        let path = self.instance.path("lima.yaml");
        let mut text = tokio::fs::read_to_string(&path).await.map_err(|e| Error::io(e, "reading", &path))?;
        if let Some(plan) = plan {
            if self.engine().await != self.payload.engine {
                text = template::with_boot_of(&text, &plan.base)?;
            }
            let data = if template::has_data(&text, &self.data.name) { Some(self.attach(plan).await?) } else { None };
            text = template::with_settings(&text, &VmSettings { data, ..plan.settings.clone() })?;
        }
        let taken = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err();
        if another_port || template::ssh_port(&text).is_none_or(taken) {
            text = template::with_ssh_port(&text, free_port()?)?;
        }
        let (text, host_key) = template::with_host_key(&text)?;
        self.instance.write("lima.yaml", &text).await?;
        self.instance.pin_host_key(&host_key).await
    }

    async fn remove_directory(&self) -> Result<()> {
        let dir = self.instance.dir.clone();
        self.limactl
            .blocking(move || match std::fs::remove_dir_all(&dir) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(e, "removing", &dir)),
                _ => Ok(()),
            })
            .await
    }

    /// Waits until SSH works and the engine answers; also tells whether the VM is healthy. A silent engine is restarted
    /// once. `None` when Lima no longer calls the VM running. After our own boot (`booted`) a guest may take as long as the
    /// caller waits and it shows progress; Lima's limits are shorter, so a VM it called degraded is healthy once its agent
    /// has answered.
    async fn wait_until_ready(
        &self,
        plan: &Plan,
        booted: bool,
        sink: &Sink<RuntimeProgress>,
    ) -> Result<Option<(SshGuest, bool)>> {
        let (ready, patience) =
            if booted { (BOOTED_READY_TIMEOUT, READY_TIMEOUT) } else { (READY_TIMEOUT, ENGINE_GRACE) };
        let guest = self.guest().await?;
        let (mut began, mut restarted) = (Instant::now(), false);
        let (mut asked, mut progress, mut moved) = (None::<Instant>, BootProgress::default(), Instant::now());
        let mut brought = false;
        loop {
            let answer = async {
                if !brought {
                    self.bring(&guest, plan, sink).await?;
                    // The engine has its time from here on, however long its archive took.
                    (brought, began, moved) = (true, Instant::now(), Instant::now());
                    if booted {
                        let waiting = format!("Waiting for {}", self.payload.title);
                        // Lima is done.
                        sink(RuntimeProgress {
                            percent: Some(100.0),
                            ..RuntimeProgress::new(Phase::Provision, waiting)
                        });
                    }
                }
                within(PROBE_TIMEOUT, self.payload.probe(&guest, &self.socket)).await
            };
            let answer = answer.await;
            let health = self.instance.health().await;
            if health == AgentHealth::Waiting && asked.is_none_or(|at| at.elapsed() > PROGRESS_INTERVAL) {
                self.instance.cancel_agent_forward().await;
            }
            if answer.is_ok() && (health != AgentHealth::Waiting || !booted) {
                return Ok(Some((guest, health == AgentHealth::Whole)));
            }
            if next_step(&self.instance.facts().await?) != Step::Verify {
                return Ok(None);
            }
            if booted && asked.is_none_or(|at| at.elapsed() > PROGRESS_INTERVAL) {
                let now = self.progress(&guest).await;
                if now != progress {
                    (progress, moved) = (now, Instant::now());
                }
                asked = Some(Instant::now());
            }
            let limit = if answer.is_ok() && progress.done { AGENT_SEARCH_TIME.min(self.stall) } else { self.stall };
            let given_up = began.elapsed() > ready || (booted && moved.elapsed() > limit);
            match answer {
                Ok(()) if given_up => return Ok(Some((guest, false))),
                Err(e) if given_up || is_final(&e) => return Err(e),
                Err(e) if self.payload.is_silent(&e) && !restarted && began.elapsed() > patience => {
                    restarted = true;
                    if let Some(disk) = self.full_disk(&guest).await {
                        return Err(payload::disk_full(e.message(), disk));
                    }
                    _ = tokio::time::timeout(READY_TIMEOUT, guest.run(self.payload.restart())).await;
                    // It has its time again.
                    (began, moved) = (Instant::now(), Instant::now());
                }
                _ => {}
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Installs an engine that Lima does not, tells the engine of registries, and ends the other engine if it ran here before.
    async fn bring(&self, guest: &SshGuest, plan: &Plan, sink: &Sink<RuntimeProgress>) -> Result<()> {
        if self.document().await.is_some_and(|document| template::has_data(&document, &self.data.name)) {
            in_time(place_data(guest)).await?;
        }
        let (ran, socket) = self.ran().await;
        if ran != self.payload.engine {
            // Of an engine that does not answer, nothing is listed; it holds it all the same.
            let noted = tokio::time::timeout(left::PATIENCE, self.note_left(ran, &socket)).await;
            if !matches!(noted, Ok(Ok(()))) {
                let error = crate::log::why(noted);
                tracing::warn!(error, "what the other engine holds is not known");
            }
            in_time(self.payload.take_over(guest)).await?;
        }
        if self.payload.engine == UserEngine::Docker {
            if let Some(archive) = &plan.archive
                && in_time(payload::docker::is_missing(guest, archive)).await?
            {
                sink(RuntimeProgress::new(Phase::Provision, "Installing the Docker engine in the VM"));
                // It takes as long as the archive; a connection that is dead ends by itself.
                payload::docker::unpack(guest, archive).await?;
            }
            let user = self.instance.ssh_config().await?.user;
            in_time(payload::docker::place(guest, &user, &plan.registries)).await?;
        } else {
            let certificates = certificates(&plan.settings.ca_certificates)?;
            in_time(registries::place(guest, &plan.registries, &certificates)).await?;
            if !plan.settings.containerd {
                // Lima enables only what it installs.
                in_time(self.payload.enable(guest)).await?;
            } else if let Some(archive) = &plan.archive
                && in_time(payload::containerd::is_other(guest, archive)).await?
            {
                sink(RuntimeProgress::new(Phase::Provision, "Installing containerd in the VM"));
                let units = [self.payload.daemon, self.payload.beside].concat();
                payload::containerd::unpack(guest, archive, &units).await?;
            }
        }
        Ok(())
    }

    async fn full_disk(&self, guest: &SshGuest) -> Option<FullDisk> {
        tokio::time::timeout(AGENT_TIMEOUT, payload::full_disk(guest)).await.ok().flatten()
    }

    async fn note_left(&self, ran: UserEngine, socket: &str) -> Result<()> {
        let (guest, (app, namespace)) = (self.guest_with(socket).await?, &self.owner);
        let noted = left::note(&self.instance, ran.payload(), (&guest, socket), (app, namespace)).await;
        guest.disconnect().await;
        noted
    }

    /// The guest's progress, by its consoles and the log of its boot scripts.
    async fn progress(&self, guest: &SshGuest) -> BootProgress {
        let ask = guest.run(Command::new(["sh", "-c", PROGRESS_SCRIPT]).root());
        let said = match tokio::time::timeout(AGENT_TIMEOUT, ask).await {
            Ok(Ok(out)) => String::from_utf8_lossy(&out.stdout).into_owned(),
            _ => String::new(),
        };
        BootProgress { consoles: self.instance.consoles().await, done: said.contains("done"), said }
    }

    /// Returns when `limit` is over and the guest then shows no progress for `quiet`.
    pub async fn overdue(&self, limit: Duration, quiet: Duration) -> Error {
        let began = Instant::now();
        tokio::time::sleep(limit).await;
        self.stalls(quiet, Duration::MAX).await;
        crate::call::timed_out(Duration::from_secs(began.elapsed().as_secs()))
    }

    /// Returns when the guest has shown no progress for `long`, or after `longest`.
    async fn stalls(&self, long: Duration, longest: Duration) {
        let began = Instant::now();
        let (mut seen, mut moved) = (self.instance.consoles().await, began);
        while moved.elapsed() < long && began.elapsed() < longest {
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = self.instance.consoles().await;
            if now != seen {
                (seen, moved) = (now, Instant::now());
            }
        }
    }

    /// Ends the containers if possible; a VM that does not answer is ended anyway.
    async fn quiesce(&self) {
        let work = async {
            let guest = self.guest().await?;
            let out = guest.run(self.engine().await.payload().quiesce()).await;
            guest.disconnect().await;
            out
        };
        match tokio::time::timeout(QUIESCE_TIMEOUT, work).await {
            Ok(Ok(_)) => {}
            other => {
                let error = crate::log::why(other);
                tracing::warn!(error, "the containers were not ended first");
            }
        }
    }

    /// Ends the host agent and the driver, if they are ours: gently, then by force. Each process is checked again right
    /// before its signal; a pid file alone proves nothing.
    async fn end_our_processes(&self) -> Result<()> {
        let facts = self.instance.facts().await?;
        if !facts.agent.is_ours() && facts.driver.is_ours() {
            // The guest may be healthy: let it write its data.
            self.quiesce().await;
        }
        let signals = [(Signal::INT, AGENT_TIMEOUT), (Signal::TERM, AGENT_TIMEOUT / 2), (Signal::KILL, END_TIMEOUT)];
        // An agent without its VM would wait in vain for the shutdown.
        let skip = usize::from(!facts.driver.is_ours());
        for (signal, patience) in signals.into_iter().skip(skip) {
            let facts = self.instance.facts().await?;
            for process in our_processes(&facts) {
                process.signal(signal);
            }
            if self.wait_until(patience, |f| our_processes(f).next().is_none()).await? {
                break;
            }
        }
        // A killed agent leaves its ssh, which would wait for the VM for ever.
        self.instance.ssh_control(&["-O", "exit"]).await;
        if is_alive(&self.instance.facts().await?) {
            return Err(Error::new(ErrorCode::VmBroken, "The VM's processes cannot be ended")
                .hint("Restart the computer, then try again."));
        }
        self.instance.remove_leftovers().await?;
        Ok(())
    }

    /// Whether the facts meet `so` within `patience`.
    async fn wait_until(&self, patience: Duration, so: impl Fn(&Facts) -> bool) -> Result<bool> {
        let began = Instant::now();
        loop {
            if so(&self.instance.facts().await?) {
                return Ok(true);
            }
            if began.elapsed() > patience {
                return Ok(false);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub(super) async fn with_logs(&self, error: Error) -> Error {
        let agent = self.instance.log_tail("ha.stderr.log", 50).await;
        let serial = match self.instance.log_tail("serialv.log", 50).await {
            text if text.is_empty() => self.instance.log_tail("serial.log", 50).await,
            text => text,
        };
        let error = error.detail("hostAgentLog", agent).detail("serialLog", serial);
        if !self.payload.is_silent(&error) {
            return error;
        }
        let guest = async { self.guest().await?.run(self.payload.log()).await };
        match tokio::time::timeout(AGENT_TIMEOUT, guest).await {
            Ok(Ok(out)) => error.detail("guestLog", String::from_utf8_lossy(&out.stdout)),
            _ => error,
        }
    }
}

/// Another boot makes no room, and no other disk.
fn is_final(e: &Error) -> bool {
    e.code() == ErrorCode::DiskFull || e.details().get("dataDisk").is_some()
}

/// Has the guest mount what engines keep. No engine starts without it.
async fn place_data(guest: &SshGuest) -> Result<()> {
    let out = guest.run(Command::new([data_disk::PROGRAM, "now"]).root()).await?;
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    match out.exit {
        Exit::Code(0) => Ok(()),
        Exit::Code(3) => Err(Error::new(ErrorCode::InvalidState, format!("The VM's data cannot be used: {said}"))
            .hint("Use the newer version of the application. The data stays as it is.")
            .detail("dataDisk", "newer")),
        Exit::Code(4) => Err(Error::new(ErrorCode::VmBroken, format!("The VM's data cannot be used: {said}"))
            .hint("No engine was started, and nothing changed. A damaged file system is mended in the VM, by e2fsck.")
            .detail("dataDisk", "unusable")),
        _ => Err(Error::new(ErrorCode::VmBroken, "The VM's data disk is not mounted").detail("stderr", said)),
    }
}

/// A guest's progress while it boots.
#[derive(Default, PartialEq)]
struct BootProgress {
    consoles: u64,
    said: String,
    /// Its boot scripts have ended.
    done: bool,
}

/// Prints `done` once Lima's boot scripts have ended, and how much cloud-init has logged.
const PROGRESS_SCRIPT: &str = "[ -e /run/lima-boot-done ] && echo done; stat -c %s /var/log/cloud-init-output.log";

/// A question to the guest, which may hang.
async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    within(READY_TIMEOUT, work).await
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(crate::call::timed_out(limit)))
}

fn is_alive(facts: &Facts) -> bool {
    facts.answers || our_processes(facts).next().is_some()
}

/// Those of the instance's processes that are ours.
fn our_processes(facts: &Facts) -> impl Iterator<Item = Identity> + use<> {
    use crate::lima::instance::Holder::Ours;
    let (agent, driver) = (facts.agent, facts.driver);
    // With vz, both are one process.
    let driver = if driver == agent { None } else { Some(driver) };
    [Some(agent), driver].into_iter().flatten().filter_map(|holder| match holder {
        Ours(process) => Some(process),
        _ => None,
    })
}

pub(super) fn refuse_root() -> Result<()> {
    if geteuid().is_root() {
        return Err(Error::new(ErrorCode::RootUser, "Lima does not run as root")
            .hint("Run the application as an ordinary user."));
    }
    Ok(())
}

/// A port picked by the system. It is not reserved until Lima takes it; a start that finds it taken picks another.
fn free_port() -> Result<u16> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
    port.map(|a| a.port())
        .map_err(|e| Error::new(ErrorCode::PortInUse, format!("No free port for the VM's SSH: {e}")).source(e))
}

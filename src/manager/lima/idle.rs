//! `idleStopMs`: a VM that nobody uses for that long is stopped, and the next use starts it. What this process does is counted
//! (`uses`), what runs is told by the engine's events; what neither tells is asked of the guest, once, before it is stopped.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};
use tokio_util::{io::InspectReader, task::AbortOnDropHandle};

use super::{
    boot::BootId,
    lifecycle::STOP_TIMEOUT,
    runtime::LimaRuntime,
    state::IdleEvent,
    uses::{self, Using},
};
use crate::{
    call::{Call, beforehand},
    engine::{self, ContainerInfo, ContainerState, Engine, Use},
    error::{Error, Result},
    fetch::lock::{How, Lock},
    guest::{BEGAN, CONTAINERS, Guest, Socket},
    lima::instance::Instance,
    manager::payload::{self, UserEngine},
    mutex::Mutex,
    process::{Command, Output, Process},
    progress::{RuntimeProgress, Sink},
    task,
};

/// A file in the instance's directory while the VM rests. It names the boot that was ended, so a later boot makes it invalid,
/// whoever starts that.
const MARK: &str = "lima-runtime.idle";
/// How long the guest may take to say whether somebody uses it.
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);
/// The command has a shorter limit of its own.
const TRIM_TIMEOUT: Duration = Duration::from_secs(180);
/// containerd's monitor starts a container again within ten seconds of its end, and no event tells that it will
/// (docs/reference/containerd.md#restart-monitor).
const RESTART: Duration = Duration::from_secs(15);

/// Prints what uses the guest: a container's process, of whatever namespace, or a program in a session of ssh that is not this
/// one: a person's, our wrappers' or limactl's. Lima's own mounts do not count.
const LOOK: &str = r#"
[ -z "$(containers)" ] || { echo 'a container'; exit; }
# Sets $name, $parent.
process() {
  { IFS= read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  name=${stat#*(}
  name=${name%)*}
  set -- ${stat##*) }
  parent=${2-}
}
own=' ' pid=$$
while process "$pid"; do own="$own$pid " pid=$parent; done
servers=' '
for dir in /proc/[0-9]*; do
  process "${dir#/proc/}" || continue
  case $name in sshd | sshd-*) servers="$servers${dir#/proc/} " ;; esac
done
for dir in /proc/[0-9]*; do
  process "${dir#/proc/}" || continue
  case $name in sshd | sshd-* | sshfs | sftp-server) continue ;; esac
  case $own in *" ${dir#/proc/} "*) continue ;; esac
  case $servers in *" $parent "*) echo "a session: $name"; exit ;; esac
done
"#;

/// What [`next`] decides by.
struct Facts {
    /// The VM was stopped because nobody used it.
    rests: bool,
    /// How many there are in this process.
    uses: usize,
    running_containers: usize,
    /// When the last use of this process or the last container ended. `None` where the VM is not known to run.
    quiet: Option<Instant>,
    /// The VM is not stopped before this: another process uses it, or a container may be about to restart.
    hold: Option<Instant>,
    now: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Start,
    Stop,
    /// Until this time, or until a use ends or a container changes.
    Wait(Option<Instant>),
}

fn next(facts: &Facts, limit: Duration) -> Next {
    if facts.rests {
        return if facts.uses > 0 { Next::Start } else { Next::Wait(None) };
    }
    match facts.quiet {
        Some(quiet) if facts.uses == 0 && facts.running_containers == 0 => {
            let at = (quiet + limit).max(facts.hold.unwrap_or(quiet));
            if facts.now >= at { Next::Stop } else { Next::Wait(Some(at)) }
        }
        _ => Next::Wait(None),
    }
}

/// A container in Docker's state `restarting` will run again.
fn runs(state: ContainerState) -> bool {
    use ContainerState::{Paused, Removing, Restarting, Running};
    matches!(state, Running | Paused | Restarting | Removing)
}

/// What the clones of a runtime with `idleStopMs` share.
pub(super) struct Idle {
    limit: Duration,
    /// The task of [`keep`], from the first use on. It ends with the runtime.
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
    /// The newest adapter's engine, whose connection for events can be used.
    engine: Mutex<Option<Weak<dyn Engine>>>,
    listener: Mutex<Option<Sink<IdleEvent>>>,
    /// One start for all who wait for it.
    waking: Mutex<Option<watch::Receiver<Waking>>>,
}

type Waking = Option<Result<(), Arc<Error>>>;

impl Idle {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            keeper: Mutex::default(),
            engine: Mutex::default(),
            listener: Mutex::default(),
            waking: Mutex::default(),
        }
    }

    fn tell(&self, event: IdleEvent) {
        let listener = self.listener.lock().clone();
        if let Some(listener) = listener {
            listener(event);
        }
    }

    fn progress(self: &Arc<Self>) -> Sink<RuntimeProgress> {
        let idle = self.clone();
        Arc::new(move |progress| idle.tell(IdleEvent::Progress(progress)))
    }
}

/// How a stop ended.
enum Outcome {
    /// The VM does not run any more.
    Stopped,
    /// Somebody else uses the VM, or did. It is not stopped for this long.
    Used(Duration),
}

impl LimaRuntime {
    /// `listener` hears of stops and starts that `idleStopMs` causes.
    pub fn listen(&self, listener: Sink<IdleEvent>) {
        if let Some(idle) = &self.idle {
            *idle.listener.lock() = Some(listener);
        }
    }

    fn instance_dir(&self) -> Instance {
        Instance::new(&self.lima_home(), self.instance())
    }

    /// Whether the VM was stopped because nobody used it.
    pub(super) fn rests(&self) -> bool {
        let instance = self.instance_dir();
        let mark = std::fs::read_to_string(instance.path(MARK));
        mark.is_ok_and(|mark| BootId::of(&instance.path("ssh.config")).is_some_and(|boot| boot.to_string() == mark))
    }

    /// Ends the rest: from now on a use does not start the VM. The caller holds the directory's lock.
    pub(super) async fn rests_no_more(&self) {
        _ = tokio::fs::remove_file(self.instance_dir().path(MARK)).await;
    }

    /// The time without a use begins now. The caller holds the directory's lock.
    pub(super) async fn note_start(&self) {
        // A VM of an earlier version has no such file; those who use one do not make it.
        _ = Lock::at_once(&self.instance_dir().path(uses::FILE), How::Alone);
        drop(self.undisturbed().await);
        self.keep_watch();
    }

    /// Until what this returns is dropped, no process stops the VM as unused. A VM that rests is not started.
    pub(super) async fn undisturbed(&self) -> Using {
        self.uses.enter(&self.instance_dir().path(uses::FILE)).await
    }

    /// A use of the VM, until what this returns is dropped. With `idleStopMs`, a VM that rests is started first.
    pub(super) async fn used(&self) -> Result<Using> {
        beforehand(async {
            let using = self.undisturbed().await;
            self.keep_watch();
            let Some(idle) = &self.idle else { return Ok(using) };
            let (uses, last) = self.uses.here();
            let facts = Facts {
                rests: self.rests(),
                uses,
                running_containers: 0,
                quiet: last,
                hold: None,
                now: Instant::now(),
            };
            if next(&facts, idle.limit) == Next::Start {
                self.wake(idle).await?;
            }
            Ok(using)
        })
        .await
    }

    async fn wake(&self, idle: &Arc<Idle>) -> Result<()> {
        let mut told = {
            let mut waking = idle.waking.lock();
            let under_way = waking.clone().filter(|told| told.borrow().is_none() && told.has_changed().is_ok());
            under_way.unwrap_or_else(|| {
                let (tell, told) = watch::channel(None);
                let (this, idle) = (self.clone(), idle.clone());
                // A task of its own: a caller that gives up does not end the start for others.
                task::spawn(async move {
                    let started = this.start_resting(idle.progress(), &Call::default()).await;
                    idle.tell(IdleEvent::Settled);
                    tell.send_replace(Some(started.map_err(Arc::new)));
                });
                waking.insert(told).clone()
            })
        };
        let told = told.wait_for(Option::is_some).await.map_err(|_| Error::internal("A start of the VM ended"))?;
        match told.as_ref() {
            Some(Err(e)) => {
                let copy = Error::new(e.code(), e.message()).details_of(e);
                Err(e.hint_text().into_iter().fold(copy, Error::hint))
            }
            _ => Ok(()),
        }
    }

    fn keep_watch(&self) {
        let Some(idle) = &self.idle else { return };
        idle.keeper.lock().get_or_insert_with(|| {
            // Without `idle` and `served`: they hold this task, which would keep itself alive.
            let vm = Self { served: Arc::default(), idle: None, ..self.clone() };
            AbortOnDropHandle::new(task::spawn(keep(Arc::downgrade(idle), vm, idle.limit)))
        });
    }

    /// The engine of an adapter: what is asked of it is a use.
    pub(super) fn counting(&self, engine: Arc<dyn Engine>) -> Arc<dyn Engine> {
        if let Some(idle) = &self.idle {
            *idle.engine.lock() = Some(Arc::downgrade(&engine));
        }
        Arc::new(engine::OnUse { engine, uses: Arc::new(self.clone()) })
    }

    /// The guest for the engine's socket on this computer: each connection to that is a use.
    pub(super) fn counting_guest(self) -> Arc<dyn Guest> {
        Arc::new(UsedGuest(self.guest(), self))
    }

    async fn stop_unused(&self, idle: &Arc<Idle>) -> Result<Outcome> {
        let dir = self.instance_dir();
        if !dir.is_running().await {
            return Ok(Outcome::Stopped);
        }
        // Before the locks are taken, so that nobody waits for a slow guest.
        let who = tokio::time::timeout(LOOK_TIMEOUT, self.look()).await;
        if !matches!(&who, Ok(Ok(None))) {
            tracing::debug!(?who, "the VM is not idle");
            return Ok(Outcome::Used(idle.limit));
        }
        let now = Call { timeout: Some(Duration::ZERO), ..Call::default() };
        // A process that has the lock is at work with the VM.
        let Ok(lock) = self.lock(&now, None).await else { return Ok(Outcome::Used(idle.limit)) };
        let machine = self.machine(self.lima_home(), Some(lock));
        let instance = machine.instance();
        if !instance.is_running().await {
            return Ok(Outcome::Stopped);
        }
        let alone = Lock::at_once(&instance.path(uses::FILE), How::Alone);
        let Some(alone) = alone.map_err(|e| Error::io(e, "locking", &instance.path(uses::FILE)))? else {
            return Ok(Outcome::Used(idle.limit));
        };
        let left = idle.limit.saturating_sub(alone.unused());
        if !left.is_zero() {
            return Ok(Outcome::Used(left));
        }
        // Before the stop: if we end half-way, the next use starts the VM.
        if let Some(boot) = BootId::of(&instance.path("ssh.config")) {
            instance.write(MARK, &boot.to_string()).await?;
        }
        let stop = async {
            self.disconnect().await;
            machine.stop(&idle.progress()).await
        };
        let stopped = Call::default().run(STOP_TIMEOUT, stop).await;
        if stopped.is_err() && instance.is_running().await {
            self.rests_no_more().await;
        }
        drop(alone);
        idle.tell(IdleEvent::Settled);
        stopped.map(|()| Outcome::Stopped)
    }

    /// What uses the guest.
    async fn look(&self) -> Result<Option<String>> {
        let text = [BEGAN, CONTAINERS, "state=$1\n", LOOK].concat();
        let command = Command::new(["sh", "-c", &text, "sh", self.payload().state]).root();
        let said = String::from_utf8_lossy(&self.ssh().await?.run(command).await?.checked("sh")?).trim().to_owned();
        Ok(Some(said).filter(|said| !said.is_empty()))
    }
}

/// Stops the VM when nobody uses it.
async fn keep(idle: Weak<Idle>, vm: LimaRuntime, limit: Duration) {
    let (tell, mut containers) = watch::channel(Vec::<ContainerInfo>::new());
    let tell = Arc::new(tell);
    let (mut follow, mut followed) = (None, None);
    let (mut running, mut ended, mut down, mut hold) = (0, None::<Instant>, None, None);
    loop {
        let now = Instant::now();
        let before =
            std::mem::replace(&mut running, containers.borrow_and_update().iter().filter(|c| runs(c.state)).count());
        if before > 0 && running == 0 {
            ended = Some(now);
            hold = (vm.engine() == UserEngine::Containerd).then(|| now + RESTART);
        }
        let (uses, last) = vm.uses.here();
        // Uses from before the VM was last stopped do not count.
        let quiet = last.max(ended).filter(|last| down.is_none_or(|down| *last > down));
        if quiet.is_some() && followed != Some((quiet, hold)) {
            followed = Some((quiet, hold));
            let unknown = follow.as_ref().is_none_or(AbortOnDropHandle::is_finished);
            if let Some(engine) = idle.upgrade().filter(|_| unknown).and_then(|idle| vm.engine_to_follow(&idle)) {
                let tell = tell.clone();
                follow = Some(AbortOnDropHandle::new(task::spawn(async move {
                    let error = engine::until_lost(engine.as_ref(), &tell).await;
                    tracing::debug!(%error, "what runs in the VM is not known");
                    tell.send_replace(Vec::new());
                })));
            }
        }
        let facts = Facts { rests: false, uses, running_containers: running, quiet, hold, now };
        match next(&facts, limit) {
            Next::Stop => {
                let Some(idle) = idle.upgrade() else { return };
                match vm.stop_unused(&idle).await {
                    Ok(Outcome::Stopped) => {
                        (follow, down) = (None, Some(Instant::now()));
                        tell.send_replace(Vec::new());
                        (running, ended, hold) = (0, None, None);
                    }
                    Ok(Outcome::Used(left)) => hold = Some(Instant::now() + left),
                    Err(error) => {
                        tracing::warn!(%error, "an unused VM could not be stopped");
                        hold = Some(Instant::now() + limit);
                    }
                }
            }
            Next::Start | Next::Wait(None) => tokio::select! {
                () = vm.uses.ended() => {}
                _ = containers.changed() => {}
            },
            Next::Wait(Some(at)) => tokio::select! {
                () = vm.uses.ended() => {}
                _ = containers.changed() => {}
                () = tokio::time::sleep_until(at) => {}
            },
        }
    }
}

impl LimaRuntime {
    fn engine_to_follow(&self, idle: &Idle) -> Option<Arc<dyn Engine>> {
        let known = idle.engine.lock().as_ref().and_then(Weak::upgrade);
        known.or_else(|| self.bare_engine().ok())
    }
}

#[async_trait]
impl engine::Uses for LimaRuntime {
    async fn begin(&self) -> Result<Use> {
        Ok(Box::new(self.used().await?))
    }

    fn pruned(&self) {
        let vm = self.clone();
        task::spawn(async move {
            // One that is under way, or the next stop, gives back what this prune freed.
            let Ok(_alone) = vm.uses.trims().try_lock_owned() else { return };
            let _using = vm.undisturbed().await;
            let trim = async { vm.ssh().await?.run(payload::trim()).await?.checked("fstrim") };
            if let Err(error) = Call::default().run(TRIM_TIMEOUT, trim).await {
                tracing::debug!(%error, "the host's file is as large as it was");
            }
        });
    }
}

/// The guest; each `run` and each connection is a use of the VM.
struct UsedGuest(Arc<dyn Guest>, LimaRuntime);

#[async_trait]
impl Guest for UsedGuest {
    async fn run(&self, command: Command) -> Result<Output> {
        let _using = self.1.used().await?;
        self.0.run(command).await
    }

    async fn spawn(&self, command: Command) -> Result<Process> {
        self.0.spawn(command).await
    }

    async fn connect(&self, path: &str) -> Result<Socket> {
        let using = self.1.used().await?;
        let socket = self.0.connect(path).await?;
        Ok(Box::new(InspectReader::new(socket, move |_| _ = &using)))
    }

    fn containerd_socket(&self) -> &str {
        self.0.containerd_socket()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn only_what_nobody_has_used_for_that_long_is_stopped_and_only_what_rests_is_started() {
        let began = Instant::now();
        let at = |s| began + Duration::from_secs(s);
        let facts =
            |now| Facts { rests: false, uses: 0, running_containers: 0, quiet: Some(began), hold: None, now: at(now) };
        assert_eq!(next(&facts(0), LIMIT), Next::Wait(Some(at(60))));
        assert_eq!(next(&facts(59), LIMIT), Next::Wait(Some(at(60))));
        assert_eq!(next(&facts(60), LIMIT), Next::Stop);
        // After any time: there is a use, or a container, or no VM that is known to run.
        for busy in [
            Facts { uses: 1, ..facts(900) },
            Facts { running_containers: 1, ..facts(900) },
            Facts { quiet: None, ..facts(900) },
            Facts { rests: true, ..facts(900) },
        ] {
            assert_eq!(next(&busy, LIMIT), Next::Wait(None));
        }
        // Another process used it.
        assert_eq!(next(&Facts { hold: Some(at(100)), ..facts(70) }, LIMIT), Next::Wait(Some(at(100))));
        assert_eq!(next(&Facts { hold: Some(at(10)), ..facts(70) }, LIMIT), Next::Stop);
        assert_eq!(next(&Facts { rests: true, uses: 1, ..facts(0) }, LIMIT), Next::Start);
    }

    #[test]
    fn a_container_that_will_run_is_use_and_one_that_has_ended_is_none() {
        use ContainerState::{Dead, Exited, Paused, Restarting, Running, Stopped};
        assert!([Running, Paused, Restarting].into_iter().all(runs));
        assert!(![Stopped, Exited, Dead].into_iter().any(runs));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_guest_tells_of_containers_and_of_sessions_that_are_not_the_one_that_asks() {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path().join("proc");
        let process = |pid: &str, name: &str, parent: u32| {
            std::fs::create_dir_all(proc.join(pid)).unwrap();
            std::fs::write(proc.join(pid).join("stat"), format!("{pid} ({name}) S {parent} 1 1 0\n")).unwrap();
        };
        let own = "mkdir -p PROC/$$; echo \"$$ (sh) S 13 1 1 0\" >PROC/$$/stat\n";
        let text = [own, "containers() { cat PROC/containers; }\n", LOOK].concat();
        let text = text.replace("PROC", "/proc").replace("/proc", &proc.display().to_string());
        let look = || {
            let out = std::process::Command::new("sh").args(["-c", &text]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&out.stderr), "");
            String::from_utf8(out.stdout).unwrap()
        };
        process("1", "systemd", 0);
        process("10", "sshd", 1);
        for (pid, name, parent) in [("11", "sshd", 10), ("12", "sshd-session", 11), ("13", "sudo", 12)] {
            process(pid, name, parent);
        }
        process("20", "sshd", 10);
        process("21", "sshfs", 20);
        process("30", "(sd-pam) 10", 1);
        std::fs::write(proc.join("containers"), "").unwrap();
        assert_eq!(look(), "");
        process("40", "sshd-session", 10);
        process("41", "na) sh (me", 40);
        assert_eq!(look(), "a session: na) sh (me\n");
        std::fs::write(proc.join("containers"), "77:1\n").unwrap();
        assert_eq!(look(), "a container\n");
    }
}

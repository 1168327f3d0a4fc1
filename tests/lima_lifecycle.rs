//! The VM's lifecycle against a stand-in for limactl with a real sshd as its guest: every fault, then `start()`.
#![cfg(unix)]

use std::{
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lima_runtime::{
    call::Call,
    error::ErrorCode,
    fetch::platform::Platform,
    guest::{Guest, ssh::SshGuest},
    lima::{
        data_disk::DataDisk,
        instance::Holder,
        limactl::Limactl,
        template::{Arch, BUILT_IN, VmSettings, VmType, ssh_port},
    },
    manager::{
        lima::{
            DeleteOptions, LimaOptions, LimaRuntime,
            machine::{Machine, Plan},
            repair::State,
        },
        payload::UserEngine,
        registries::RegistryOptions,
    },
    process::{Command, identity::Identity},
    progress::{self, Phase, RuntimeProgress},
};
use rustix::process::Signal;
use serde_json::json;
use support::{ordinary, skip::skip_without};
use tokio::net::UnixListener;

mod support;

struct Rig {
    dir: tempfile::TempDir,
    machine: Machine,
    plan: Plan,
    /// What the real lock of the data directory does.
    lock: Arc<tokio::sync::Mutex<()>>,
    limactl: Limactl,
    _containerd: UnixListener,
}

/// Those that the stand-in can be; `LIMA_RUNTIME_TEST_LIMA` names one.
fn versions() -> Vec<String> {
    match std::env::var("LIMA_RUNTIME_TEST_LIMA") {
        Ok(version) => vec![version],
        Err(_) => ["1.2.1", "2.2.0"].map(Into::into).into(),
    }
}

impl Rig {
    fn new() -> Option<Self> {
        Self::with("2.2.0")
    }

    fn with(version: &str) -> Option<Self> {
        if !std::path::Path::new("/usr/sbin/sshd").exists() {
            skip_without("/usr/sbin/sshd");
            return None;
        }
        let node = std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join("node")).find(|p| p.exists());
        let Some(node) = node else {
            skip_without("node on the PATH");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("lr-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("limactl.mjs"), include_str!("support/limactl.mjs")).unwrap();
        let script = format!("exec '{}' '{}' \"$@\"\n", node.display(), at("limactl.mjs").display());
        std::fs::write(at("script"), script).unwrap();
        install(dir.path(), version);
        std::fs::create_dir(at("vms")).unwrap();
        let socket = at("containerd.sock");
        let containerd = UnixListener::bind(&socket).unwrap();
        let limactl = Limactl::new(at("limactl"), at("vms").canonicalize().unwrap(), None, &[]);
        let machine =
            Machine::new(limactl.clone(), "default", UserEngine::Containerd).with_socket(socket.to_str().unwrap());
        let settings = VmSettings {
            arch: Arch::X86_64,
            vm_type: VmType::Qemu,
            cpus: 1,
            memory: 1 << 30,
            disk: 1 << 30,
            data: None,
            mounts: vec![],
            images: vec![],
            nerdctl: vec![],
            ssh_port: 0,
            containerd: true,
            rosetta: false,
            ca_certificates: vec![],
        };
        let plan = Plan {
            base: BUILT_IN.into(),
            settings,
            archive: None,
            baked: None,
            registries: RegistryOptions::default(),
        };
        Some(Self { dir, machine, plan, lock: Arc::default(), limactl, _containerd: containerd })
    }

    fn machine(&self) -> Machine {
        Machine::new(self.limactl.clone(), "default", UserEngine::Containerd)
            .with_socket(self.path("containerd.sock").to_str().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.machine.instance().path(name)
    }

    fn fault(&self, name: &str) {
        std::fs::write(self.path("fault"), name).unwrap();
    }

    async fn start(&self) -> SshGuest {
        let guest = self.machine.start(&self.plan, &progress::ignore()).await;
        let guest = guest.unwrap_or_else(|e| panic!("{e}\n{:#?}", e.details()));
        assert!(guest.run(Command::new(["true"])).await.unwrap().success());
        assert_eq!(self.machine.state().await.unwrap().0, State::Running);
        assert!(self.machine.instance().is_running().await);
        guest
    }

    async fn process(&self, file: &str) -> Identity {
        let facts = self.machine.instance().facts().await.unwrap();
        match if file == "ha.pid" { facts.agent } else { facts.driver } {
            Holder::Ours(process) => process,
            other => panic!("{file}: {other:?}"),
        }
    }

    async fn kill(&self, file: &str) {
        let process = self.process(file).await;
        assert!(process.signal(Signal::KILL));
        until(|| !process.lives()).await;
    }

    /// The processes whose command line names our directory.
    fn processes(&self) -> Vec<String> {
        let dir = self.dir.path().to_str().unwrap();
        let lines = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&line).replace('\0', " "))
        });
        lines.filter(|line| line.contains(dir)).collect()
    }

    /// Another limactl in the place of the one there is.
    fn becomes(&self, version: &str) {
        install(self.dir.path(), version);
    }

    fn boots(&self) -> usize {
        std::fs::read_to_string(self.path("boots")).unwrap_or_default().lines().count()
    }

    async fn finish(self) {
        self.machine.stop(&progress::ignore()).await.unwrap();
        assert_eq!(self.machine.state().await.unwrap().0, State::Stopped);
        until(|| self.processes().is_empty()).await;
    }
}

fn install(dir: &std::path::Path, version: &str) {
    let script = std::fs::read_to_string(dir.join("script")).unwrap();
    let fresh = dir.join("limactl.new");
    std::fs::write(&fresh, format!("#!/bin/sh\nLIMA_STAND_IN={version}\nexport LIMA_STAND_IN\n{script}")).unwrap();
    std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(fresh, dir.join("limactl")).unwrap();
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A failed test leaves processes.
        let instance = self.machine.instance();
        let look = || tokio::runtime::Runtime::new().ok()?.block_on(instance.facts()).ok();
        let facts = std::thread::scope(|scope| scope.spawn(look).join().ok().flatten());
        for holder in facts.iter().flat_map(|facts| [facts.agent, facts.driver]) {
            if let Holder::Ours(process) = holder {
                process.signal(Signal::KILL);
            }
        }
    }
}

async fn until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(180), "never came true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A process that is nobody's business but the test's.
struct Bystander(std::process::Child);

impl Bystander {
    fn new() -> Self {
        Self(std::process::Command::new("sleep").arg("86400").spawn().unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    AgentKilled,
    DriverKilled,
    PoweredOff,
    /// All processes gone, their pid files still there.
    Reboot,
    /// The same, and the numbers belong to somebody else.
    RebootRecycled,
    /// Everything but the disk is gone from the directory.
    YamlLost,
    OnlyDirectory,
    PortTaken,
    CreationCut,
    CreationEmpty,
    StopHalfWay,
}

const FAULTS: [Fault; 11] = [
    Fault::AgentKilled,
    Fault::DriverKilled,
    Fault::PoweredOff,
    Fault::Reboot,
    Fault::RebootRecycled,
    Fault::YamlLost,
    Fault::OnlyDirectory,
    Fault::PortTaken,
    Fault::CreationCut,
    Fault::CreationEmpty,
    Fault::StopHalfWay,
];

/// From running to broken.
async fn inject(rig: &Rig, fault: Fault, bystander: &Bystander) -> Option<TcpListener> {
    let ignore = progress::ignore();
    match fault {
        Fault::AgentKilled => rig.kill("ha.pid").await,
        Fault::DriverKilled => rig.kill("qemu.pid").await,
        Fault::PoweredOff => {
            let process = rig.process("qemu.pid").await;
            assert!(process.signal(Signal::TERM));
            until(|| !process.lives()).await;
        }
        Fault::Reboot | Fault::RebootRecycled => {
            let (agent, driver) = (rig.process("ha.pid").await, rig.process("qemu.pid").await);
            for process in [agent, driver] {
                process.signal(Signal::KILL);
                until(|| !process.lives()).await;
            }
            if matches!(fault, Fault::RebootRecycled) {
                for file in ["ha.pid", "qemu.pid"] {
                    std::fs::write(rig.file(file), format!("{}\n", bystander.0.id())).unwrap();
                }
            }
        }
        Fault::YamlLost => {
            rig.machine.stop(&ignore).await.unwrap();
            std::fs::remove_file(rig.file("lima.yaml")).unwrap();
        }
        Fault::OnlyDirectory => {
            rig.machine.delete(false, &ignore).await.unwrap();
            std::fs::create_dir(&rig.machine.instance().dir).unwrap();
        }
        Fault::PortTaken => {
            rig.machine.stop(&ignore).await.unwrap();
            let port = ssh_port(&std::fs::read_to_string(rig.file("lima.yaml")).unwrap()).unwrap();
            return Some(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
        }
        Fault::CreationCut | Fault::CreationEmpty => {
            rig.machine.delete(false, &ignore).await.unwrap();
            rig.fault(if matches!(fault, Fault::CreationCut) { "create-cut" } else { "create-empty" });
            assert!(rig.machine.start(&rig.plan, &ignore).await.is_err());
            assert_eq!(rig.machine.state().await.unwrap().0, State::NotCreated);
        }
        Fault::StopHalfWay => assert!(rig.process("ha.pid").await.signal(Signal::INT)),
    }
    None
}

#[tokio::test]
async fn a_boot_is_overdue_once_the_guest_shows_nothing_more() {
    let Some(rig) = Rig::new() else { return };
    std::fs::create_dir_all(rig.machine.instance().path("")).unwrap();
    let (log, quiet) = (rig.file("serial.log"), Duration::from_secs(3));
    let (boots, machine) = (Arc::new(()), rig.machine());
    let booting = Arc::downgrade(&boots);
    let guest = std::thread::spawn(move || {
        while booting.upgrade().is_some() {
            let mut text = std::fs::read(&log).unwrap_or_default();
            text.push(b'.');
            std::fs::write(&log, text).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let mut overdue = Box::pin(machine.overdue(Duration::ZERO, quiet));
    assert!(tokio::time::timeout(quiet * 2, &mut overdue).await.is_err(), "it showed progress");
    drop(boots);
    assert_eq!(overdue.await.code(), ErrorCode::Timeout);
    guest.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_ends_in_running_after_every_fault() {
    if !ordinary::here("start_ends_in_running_after_every_fault") {
        return;
    }
    for version in versions() {
        every_fault(&version).await;
    }
}

async fn every_fault(version: &str) {
    let Some(rig) = Rig::with(version) else { return };
    let rounds: usize = std::env::var("LIMA_RUNTIME_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut faults: Vec<Fault> = FAULTS.iter().copied().cycle().take(FAULTS.len() * rounds).collect();
    // A fixed shuffle: a failure can be repeated.
    let mut seed = 0x9E37_79B9_u64;
    for i in (1..faults.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        faults.swap(i, usize::try_from(seed >> 33).unwrap() % (i + 1));
    }
    rig.start().await;
    let mut bystander = Bystander::new();
    let mut count = 0;
    for fault in faults {
        // Whatever else is repaired, the disk is the user's.
        let disk = rig.file(if version == "1.2.1" { "diffdisk" } else { "disk" });
        std::fs::write(&disk, format!("{fault:?} {count}")).unwrap();
        let _held = inject(&rig, fault, &bystander).await;
        let began = Instant::now();
        rig.start().await;
        eprintln!("{fault:?}: running again after {:?}", began.elapsed());
        assert!(bystander.0.try_wait().unwrap().is_none(), "{fault:?}: a process that is not ours was ended");
        if !matches!(fault, Fault::OnlyDirectory | Fault::CreationCut | Fault::CreationEmpty) {
            assert_eq!(std::fs::read_to_string(&disk).unwrap(), format!("{fault:?} {count}"));
        }
        count += 1;
    }
    let gentle = std::fs::read_to_string(rig.path("stops")).unwrap_or_default();
    assert!(!gentle.contains("force"), "limactl stop -f kills by pid files unread");
    eprintln!("{count} faults repaired with Lima {version}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_is_created_started_stopped_and_deleted() {
    if !ordinary::here("a_vm_is_created_started_stopped_and_deleted") {
        return;
    }
    for version in versions() {
        whole_life(&version).await;
    }
}

async fn whole_life(version: &str) {
    let Some(rig) = Rig::with(version) else { return };
    let ignore = progress::ignore();
    assert_eq!(rig.machine.state().await.unwrap().0, State::NotCreated);
    // Nothing there: nothing to stop or delete.
    rig.machine.stop(&ignore).await.unwrap();
    rig.machine.delete(false, &ignore).await.unwrap();

    let seen = Arc::new(Mutex::new(Vec::<RuntimeProgress>::new()));
    let events = seen.clone();
    let sink: progress::Sink<RuntimeProgress> = Arc::new(move |e| events.lock().unwrap().push(e));
    rig.machine.start(&rig.plan, &sink).await.unwrap();
    let events = std::mem::take(&mut *seen.lock().unwrap());
    let mut phases: Vec<Phase> = events.iter().map(|e| e.phase).collect();
    phases.dedup();
    assert_eq!(phases, [Phase::Create, Phase::Boot, Phase::Provision, Phase::Ready]);
    assert!(events.windows(2).all(|p| p[0].phase != p[1].phase || p[0].percent <= p[1].percent), "{events:#?}");

    // A second start finds it running.
    let (agent, guest) = (rig.process("ha.pid").await, rig.start().await);
    assert_eq!(rig.process("ha.pid").await, agent);

    rig.machine.stop(&sink).await.unwrap();
    assert_eq!(rig.machine.state().await.unwrap().0, State::Stopped);
    assert_eq!(guest.run(Command::new(["true"])).await.unwrap_err().code(), ErrorCode::VmNotRunning);
    let asked = std::fs::read_to_string(rig.path("guest.log")).unwrap();
    let stopped =
        asked.contains("systemctl stop \"$unit\"") && asked.contains(" sh /run/containerd containerd.service\n");
    assert!(stopped, "the containers were not ended first: {asked}");
    rig.machine.stop(&sink).await.unwrap();

    rig.start().await;
    rig.machine.delete(false, &sink).await.unwrap();
    assert_eq!(rig.machine.state().await.unwrap().0, State::NotCreated);
    until(|| rig.processes().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_engines_keep_outlives_the_vm() {
    if !ordinary::here("what_engines_keep_outlives_the_vm") {
        return;
    }
    for version in versions() {
        kept_data(&version).await;
    }
}

async fn kept_data(version: &str) {
    use std::os::unix::fs::FileExt;
    let Some(rig) = Rig::with(version) else { return };
    let ignore = progress::ignore();
    rig.start().await;
    let disk = DataDisk::of(&rig.path("vms").canonicalize().unwrap(), "default").path();
    let formats = || std::fs::read_to_string(rig.path("formats")).unwrap().lines().count();
    let file = || std::fs::OpenOptions::new().read(true).write(true).open(&disk).unwrap();
    let data = || {
        let mut bytes = [0; 8];
        file().read_exact_at(&mut bytes, 2 << 20).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    file().write_all_at(b"the data", 2 << 20).unwrap();
    let still = |what: &str| assert_eq!((data().as_str(), formats()), ("the data", 1), "{version}: {what}");
    let yaml = || std::fs::read_to_string(rig.file("lima.yaml")).unwrap();
    assert!(yaml().contains("disk: 20GiB") && yaml().contains("format: true"), "{}", yaml());
    rig.machine.stop(&ignore).await.unwrap();
    rig.start().await;
    assert!(yaml().contains("format: false"), "a disk that holds something may be formatted: {}", yaml());
    still("another boot");

    // A crash leaves the disk's mark of use, which vz of Lima 1.x never takes over.
    std::fs::write(rig.path("vz"), "").unwrap();
    for pid in ["ha.pid", "qemu.pid"] {
        rig.kill(pid).await;
    }
    assert!(std::fs::read_link(disk.with_file_name("in_use_by")).is_ok());
    rig.start().await;
    still("a crash");

    // A larger one.
    rig.machine.stop(&ignore).await.unwrap();
    let mut larger = rig.plan.clone();
    larger.settings.disk = 3 << 30;
    rig.machine.start(&larger, &ignore).await.unwrap();
    assert_eq!(rig.machine.shape().await.unwrap().disk, 3 << 30);
    still("a larger disk");

    rig.machine.delete(true, &ignore).await.unwrap();
    let asked = std::fs::read_to_string(rig.path("guest.log")).unwrap();
    assert!(asked.trim_end().ends_with("containerd.service"), "the containers were not ended first: {asked}");
    assert_eq!(rig.machine.state().await.unwrap().0, State::NotCreated);
    assert_eq!(rig.machine.data().await.unwrap().disk, 3 << 30);
    rig.machine.delete(true, &ignore).await.unwrap();
    still("no VM");
    // A creation that is cut off, and the next.
    rig.fault("create-cut");
    assert!(rig.machine.start(&rig.plan, &ignore).await.is_err());
    rig.start().await;
    still("a new VM");

    // A deletion that was cut off, before and after the directory lost its beginning.
    for lost in [&["lima.yaml"][..], &["lima.yaml", "disk", "diffdisk"]] {
        rig.machine.stop(&ignore).await.unwrap();
        for name in lost {
            _ = std::fs::remove_file(rig.file(name));
        }
        rig.start().await;
        assert!(yaml().contains("name: lr-"), "{}", yaml());
        still("a deletion that was cut off");
    }

    // The guest says that it cannot have the disk: no second boot, and nobody waits.
    for (exit, code) in [("3", ErrorCode::InvalidState), ("4", ErrorCode::VmBroken)] {
        std::fs::write(rig.path("data-disk"), "what is wrong").unwrap();
        std::fs::write(rig.path("data-disk.exit"), exit).unwrap();
        rig.machine.stop(&ignore).await.unwrap();
        let boots = rig.boots();
        let e = rig.machine.start(&rig.plan, &ignore).await.map(drop).unwrap_err();
        assert_eq!((e.code(), rig.boots() - boots), (code, 1), "{e}");
        assert!(e.message().contains("what is wrong"), "{e}");
        std::fs::remove_file(rig.path("data-disk")).unwrap();
    }
    rig.start().await;

    // A disk that is lost is not replaced by an empty one.
    rig.machine.stop(&ignore).await.unwrap();
    std::fs::rename(&disk, rig.path("lost")).unwrap();
    let e = rig.machine.start(&rig.plan, &ignore).await.map(drop).unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmBroken, "{e}");
    assert!(!disk.exists());
    std::fs::rename(rig.path("lost"), &disk).unwrap();
    rig.start().await;
    still("it was put back");

    rig.machine.delete(false, &ignore).await.unwrap();
    assert!(!disk.exists() && rig.machine.data().await.is_none());
    rig.start().await;
    assert_eq!((data().as_str(), formats()), ("\0\0\0\0\0\0\0\0", 2));

    // A VM of an earlier version: all it has is on its one disk.
    rig.machine.stop(&ignore).await.unwrap();
    let (before, after) = yaml().split_once("additionalDisks:").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let rest = after.split_once("fsType: ext4\n").unwrap().1;
    std::fs::write(rig.file("lima.yaml"), before + rest).unwrap();
    std::fs::remove_dir_all(disk.parent().unwrap()).unwrap();
    rig.start().await;
    let e = rig.machine.delete(true, &ignore).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::InvalidState, "{e}");
    assert!(!yaml().contains("additionalDisks") && !disk.exists());
    assert_eq!(rig.machine.state().await.unwrap().0, State::Running, "it was left as it was");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_lima_does_not_get_the_disk_of_a_newer_one() {
    if !ordinary::here("an_older_lima_does_not_get_the_disk_of_a_newer_one") {
        return;
    }
    let Some(rig) = Rig::with("1.2.1") else { return };
    let refused = async || {
        let before = snapshot(&rig.machine.instance().dir);
        rig.becomes("1.2.1");
        let e = rig.machine.start(&rig.plan, &progress::ignore()).await.map(drop).unwrap_err();
        assert_eq!((e.code(), &e.details()["needed"]), (ErrorCode::InvalidState, &"2.2.0".into()), "{e}");
        assert!(e.hint_text().unwrap().contains("2.2.0"), "{e}");
        assert_eq!(snapshot(&rig.machine.instance().dir), before, "it was changed all the same");
        assert_eq!(rig.machine.state().await.unwrap().0, State::Stopped);
        rig.becomes("2.2.0");
    };
    // An upgrade keeps what there is, ...
    rig.start().await;
    std::fs::write(rig.file("diffdisk"), "the user's").unwrap();
    rig.machine.stop(&progress::ignore()).await.unwrap();
    rig.becomes("2.2.0");
    rig.start().await;
    rig.machine.stop(&progress::ignore()).await.unwrap();
    assert_eq!(std::fs::read_to_string(rig.file("disk")).unwrap(), "the user's");
    // ... and is for good, as is a VM that the newer one made.
    refused().await;
    rig.start().await;
    rig.machine.delete(false, &progress::ignore()).await.unwrap();
    rig.start().await;
    rig.machine.stop(&progress::ignore()).await.unwrap();
    std::fs::remove_file(rig.file("lima-runtime.lima")).unwrap();
    refused().await;
    rig.start().await;
    rig.finish().await;
}

fn snapshot(dir: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let entry =
        |e: std::fs::DirEntry| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap_or_default());
    let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().flatten().map(entry).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_repaired_is_told_with_the_log() {
    if !ordinary::here("what_cannot_be_repaired_is_told_with_the_log") {
        return;
    }
    let Some(rig) = Rig::new() else { return };
    rig.fault("disk-full");
    let e = rig.machine.start(&rig.plan, &progress::ignore()).await.map(drop).unwrap_err();
    assert_eq!(e.code(), ErrorCode::DiskFull);
    assert!(e.hint_text().is_some() && e.details()["hostAgentLog"].as_str().unwrap().contains("No space left"));
    // The user made room.
    rig.start().await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_first_at_a_new_vms_port_is_not_believed() {
    if !ordinary::here("who_answers_first_at_a_new_vms_port_is_not_believed") {
        return;
    }
    let Some(rig) = Rig::new() else { return };
    rig.fault("impostor");
    let started =
        tokio::time::timeout(Duration::from_secs(10), rig.machine.start(&rig.plan, &progress::ignore())).await;
    assert!(started.is_err(), "{:?}", started.map(|guest| guest.map(drop)));
    assert_eq!(rig.machine.state().await.unwrap().0, State::Running, "as far as Lima can tell");
    assert!(!rig.path("guest.log").exists(), "it was told a command");
    let key = std::fs::read_to_string(rig.file("lima-runtime.hostkey")).unwrap();
    rig.machine.delete(false, &progress::ignore()).await.unwrap();

    // Each VM has a key of its own, for its whole life.
    rig.start().await;
    let other = std::fs::read_to_string(rig.file("lima-runtime.hostkey")).unwrap();
    assert_ne!(other, key);
    rig.machine.stop(&progress::ignore()).await.unwrap();
    rig.start().await;
    assert_eq!(std::fs::read_to_string(rig.file("lima-runtime.hostkey")).unwrap(), other);
    let private = std::fs::metadata(rig.file("lima.yaml")).unwrap();
    assert_eq!(private.permissions().mode() & 0o777, 0o600);
    let guest = rig.machine.guest().await.unwrap();
    std::fs::remove_file(rig.file("lima-runtime.known_hosts")).unwrap();
    drop(guest);
    rig.machine.guest().await.unwrap();
    assert_eq!(
        std::fs::read_to_string(rig.file("lima-runtime.known_hosts")).unwrap(),
        format!("lima-default {other}\n"),
        "the ssh program's file is made anew"
    );
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_takes_its_time_is_waited_for() {
    if !ordinary::here("a_guest_that_takes_its_time_is_waited_for") {
        return;
    }
    for version in versions() {
        let Some(rig) = Rig::with(&version) else { return };
        for fault in ["agent-late", "agent-later"] {
            let before = rig.boots();
            rig.fault(fault);
            rig.start().await;
            let events = std::fs::read_to_string(rig.file("ha.stdout.log")).unwrap();
            let log = std::fs::read_to_string(rig.file("ha.stderr.log")).unwrap();
            assert!(log.contains("Guest agent is running"), "{version}, {fault}: {log}");
            assert_eq!(events.contains("degraded"), fault == "agent-later", "{version}, {fault}: {events}");
            assert_eq!(rig.boots() - before, 1, "{version}, {fault}: it was booted again");
            rig.machine.stop(&progress::ignore()).await.unwrap();
        }
        // One that does not come in the time it has gets a second boot.
        let machine = rig.machine();
        let machine = machine.with_stall(Duration::from_secs(2));
        let before = rig.boots();
        rig.fault("agent-never");
        let guest = machine.start(&rig.plan, &progress::ignore()).await.unwrap_or_else(|e| panic!("{e}"));
        assert!(guest.run(Command::new(["true"])).await.unwrap().success());
        assert_eq!(rig.boots() - before, 2, "{version}");
        rig.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_containerd_is_restarted() {
    if !ordinary::here("a_silent_containerd_is_restarted") {
        return;
    }
    let Some(rig) = Rig::new() else { return };
    rig.start().await;
    std::fs::write(rig.path("containerd-dead"), "").unwrap();
    let agent = rig.process("ha.pid").await;
    rig.start().await;
    assert_eq!(rig.process("ha.pid").await, agent, "the VM need not be restarted for it");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_hangs_is_ended_by_force() {
    if !ordinary::here("a_stop_that_hangs_is_ended_by_force") {
        return;
    }
    let Some(rig) = Rig::new() else { return };
    rig.start().await;
    rig.fault("stop-hangs");
    rig.machine.stop(&progress::ignore()).await.unwrap();
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_given_up_at_any_moment_can_be_repeated() {
    if !ordinary::here("a_start_given_up_at_any_moment_can_be_repeated") {
        return;
    }
    let Some(rig) = Rig::new() else { return };
    let began = Instant::now();
    rig.start().await;
    let whole = began.elapsed();
    for i in 0..10_u32 {
        if i % 2 == 0 {
            rig.machine.delete(false, &progress::ignore()).await.unwrap();
        } else {
            rig.machine.stop(&progress::ignore()).await.unwrap();
        }
        let socket = rig.path("containerd.sock");
        let held: Arc<dyn std::any::Any + Send + Sync> = Arc::new(rig.lock.clone().lock_owned().await);
        let machine = Machine::new(rig.limactl.holding(held), "default", UserEngine::Containerd)
            .with_socket(socket.to_str().unwrap());
        let cut = whole * i / 10;
        let given_up = tokio::time::timeout(cut, machine.start(&rig.plan, &progress::ignore())).await;
        drop(machine);
        // As the next caller would: wait until limactl is gone.
        drop(rig.lock.lock().await);
        eprintln!("given up after {cut:?}: {}", if given_up.is_err() { "cut" } else { "was done" });
        rig.start().await;
    }
    rig.finish().await;
}

/// A data directory as an installation leaves it, with the stand-in for Lima.
fn runtime(rig: &Rig, options: &serde_json::Value) -> LimaRuntime {
    let data = rig.path("data");
    let bin = data.join("versions/2.2.0/bin");
    if !bin.exists() {
        let platform = Platform::current().unwrap().as_str();
        let digest = "0".repeat(64);
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(data.join("cache")).unwrap();
        std::fs::copy(rig.path("limactl"), bin.join("limactl")).unwrap();
        std::os::unix::fs::symlink("versions/2.2.0", data.join("current")).unwrap();
        std::fs::create_dir(data.join("bin")).unwrap();
        std::os::unix::fs::symlink("../current/bin/limactl", data.join("bin/limactl")).unwrap();
        let record = |dir: &str, files: serde_json::Value| json!({ "version": "2.2.0", "source": "test", "sha256": digest, "installedAt": 0, "dir": dir, "files": files });
        let file = |name: &str| {
            std::fs::write(data.join("cache").join(name), "").unwrap();
            record("cache", json!([{ "path": name, "size": 0, "sha256": digest, "mode": 0o644 }]))
        };
        let components = json!({
            "lima": record("versions/2.2.0", json!([])), "image": file("image"), "nerdctl-full": file("nerdctl"),
        });
        let inventory = json!({ "schema": 1, "platform": platform, "components": components });
        std::fs::write(data.join("install.json"), inventory.to_string()).unwrap();
        let sources = json!({ "sources": [{ "url": "https://example.invalid/x", "sha256": digest }] });
        let part = json!({ "version": "2.2.0", "platforms": { platform: sources } });
        let manifest = json!({ "schema": 1, "components": { "lima": part, "image": part, "nerdctl-full": part } });
        std::fs::write(rig.path("manifest.json"), manifest.to_string()).unwrap();
    }
    let mut all = json!({
        "dataDir": data, "manifest": rig.path("manifest.json"),
        "resources": { "cpus": 1, "memory": "512MiB", "mounts": [] },
    });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let mut options: LimaOptions = serde_json::from_value(all).unwrap();
    options.engine_socket = Some(rig.path("containerd.sock").to_str().unwrap().into());
    LimaRuntime::new(options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runtime_needs_its_options_only() {
    if !ordinary::here("the_runtime_needs_its_options_only") {
        return;
    }
    let Some(rig) = Rig::new() else { return };
    let (call, ignore) = (Call::default(), progress::ignore::<RuntimeProgress>);

    // Refused before anything is made.
    for bad in [json!({ "resources": { "cpus": 0 } }), json!({ "resources": { "memory": "4GB" } })] {
        let e = runtime(&rig, &bad).start(ignore(), &call).await.map(drop).unwrap_err();
        assert_eq!(e.code(), ErrorCode::InvalidArgument, "{bad}");
        assert!(!rig.path("data/vms").exists(), "{bad}");
    }
    for bad in ["a/b", "", "..", "_disks", "/x", &"x".repeat(80)] {
        let options = json!({ "dataDir": rig.path("data"), "instance": bad });
        let e = LimaRuntime::new(serde_json::from_value(options).unwrap()).err().unwrap();
        assert_eq!(e.code(), ErrorCode::InvalidArgument, "{bad}");
    }

    let runtime = Arc::new(runtime(&rig, &json!({})));
    assert_eq!(runtime.status(&call).await.unwrap().state, State::NotCreated);
    assert!(!runtime.is_running().await);
    // One way in for the life of the application, whatever the VM does meanwhile.
    let way_in = runtime.guest();
    let answers = async || way_in.run(Command::new(["true"])).await.map(|out| out.success()).map_err(|e| e.code());
    assert_eq!(answers().await, Err(ErrorCode::VmNotRunning));

    // Two at once: one works, the other waits and finds it done.
    let (one, two) = tokio::join!(runtime.start(ignore(), &call), runtime.start(ignore(), &call));
    let (one, two) = (one.unwrap_or_else(|e| panic!("{e} {:#?}", e.details())), two.unwrap());
    assert!(one.run(Command::new(["true"])).await.unwrap().success());
    assert!(two.run(Command::new(["true"])).await.unwrap().success());
    let status = runtime.status(&call).await.unwrap();
    assert_eq!((status.state, status.lima_version.as_deref()), (State::Running, Some("2.2.0")));
    assert!(status.ssh_port.is_some() && runtime.is_running().await);
    assert_eq!(answers().await, Ok(true));
    let yaml = std::fs::read_to_string(rig.path("data/vms/default/lima.yaml")).unwrap();
    assert!(yaml.contains("data/cache/image") && yaml.contains("memory: 512MiB"), "{yaml}");
    assert_ne!(ssh_port(&yaml), Some(60022), "Lima's own choice for an instance called default");

    // Somebody else works here.
    let lock = runtime.lock(&call, None).await.unwrap();
    let soon = Call { timeout: Some(Duration::from_millis(50)), ..Call::default() };
    assert_eq!(runtime.stop(ignore(), &soon).await.unwrap_err().code(), ErrorCode::Locked);
    drop(lock);

    // Given up: at once, and the next call goes on from there.
    let abort = Call::default();
    let restarting = tokio::spawn({
        let (runtime, abort) = (runtime.clone(), abort.clone());
        async move { runtime.restart(progress::ignore(), &abort).await.map(drop) }
    });
    let log = rig.path("data/vms/default/ha.stdout.log");
    until(|| std::fs::read_to_string(&log).unwrap_or_default().contains("exiting")).await;
    let given_up = Instant::now();
    abort.cancel.cancel();
    assert_eq!(restarting.await.unwrap().unwrap_err().code(), ErrorCode::Aborted);
    eprintln!("aborted after {:?}", given_up.elapsed());
    runtime.start(ignore(), &call).await.unwrap_or_else(|e| panic!("{e} {:#?}", e.details()));

    runtime.factory_reset(&DeleteOptions::default(), ignore(), &call).await.unwrap();
    assert_eq!(runtime.status(&call).await.unwrap().state, State::Running);
    assert_eq!(answers().await, Ok(true));
    runtime.stop(ignore(), &call).await.unwrap();
    assert_eq!(runtime.status(&call).await.unwrap().state, State::Stopped);
    assert_eq!(answers().await, Err(ErrorCode::VmNotRunning));

    // A deadline that passes says what it waited for.
    std::fs::write(rig.path("data/fault"), "ssh-hangs").unwrap();
    let soon = Call { timeout: Some(Duration::from_secs(2)), ..Call::default() };
    let e = runtime.start(ignore(), &soon).await.map(drop).unwrap_err();
    assert_eq!(e.code(), ErrorCode::Timeout);
    assert!(e.details()["hostAgentLog"].is_string() && e.details()["serialLog"].is_string(), "{:#?}", e.details());
    runtime.delete(&DeleteOptions::default(), ignore(), &call).await.unwrap();
    assert_eq!(runtime.status(&call).await.unwrap().state, State::NotCreated);
    until(|| rig.processes().is_empty()).await;
}

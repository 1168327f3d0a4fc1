//! The Lima layer against the real program, when `LIMA_RUNTIME_TEST_LIMACTL` names it (an absolute path, run by an
//! ordinary user). `LIMA_RUNTIME_TEST_TEMPLATE` names a template with an image that this machine can boot, in place of
//! the built-in one; `QEMU_SYSTEM_X86_64` is passed on.
#![cfg(unix)]

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lima_runtime::{
    guest::Guest,
    lima::{
        instance::Holder,
        limactl::{Failure, Limactl},
        template::{self, Arch, BUILT_IN, VmMount, VmSettings, VmType},
    },
    manager::{
        lima::{
            machine::{Machine, Plan},
            repair::State,
        },
        payload::UserEngine,
        registries::RegistryOptions,
    },
    process::Command,
    progress::{Phase, RuntimeProgress, Sink},
};
use skip::skip;

#[path = "support/skip.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod skip;

/// The program under test, with a LIMA_HOME of its own.
fn real() -> Option<(tempfile::TempDir, Limactl)> {
    let Some(program) = std::env::var_os("LIMA_RUNTIME_TEST_LIMACTL").map(PathBuf::from) else {
        skip("LIMA_RUNTIME_TEST_LIMACTL names no limactl");
        return None;
    };
    let dir = tempfile::Builder::new().prefix("lr-").tempdir().unwrap();
    let home = dir.path().join("vms");
    std::fs::create_dir(&home).unwrap();
    let qemu = std::env::var_os("QEMU_SYSTEM_X86_64");
    let extra: Vec<_> = qemu.iter().map(|path| ("QEMU_SYSTEM_X86_64", path.as_os_str())).collect();
    Some((dir, Limactl::new(program, home.canonicalize().unwrap(), None, &extra)))
}

fn base_template() -> String {
    std::env::var("LIMA_RUNTIME_TEST_TEMPLATE")
        .map_or_else(|_| BUILT_IN.to_owned(), |path| std::fs::read_to_string(path).unwrap())
}

fn settings() -> VmSettings {
    VmSettings {
        arch: if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 },
        vm_type: VmType::DEFAULT,
        cpus: 2,
        memory: 2 << 30,
        disk: 100 << 30,
        data: None,
        mounts: vec![VmMount { location: "~".into(), mount_point: None, writable: true }],
        images: vec![],
        nerdctl: vec![],
        ssh_port: 40022,
        rosetta: true,
        containerd: true,
        ca_certificates: vec![],
    }
}

#[tokio::test]
async fn limactl_takes_every_rendering() {
    let Some((dir, limactl)) = real() else { return };
    assert!(limactl.version().await.unwrap().starts_with(|c: char| c.is_ascii_digit()));
    let base = settings();
    let variants = [
        base.clone(),
        VmSettings { mounts: vec![], memory: (1 << 30) + 1, ..base.clone() },
        VmSettings {
            mounts: vec![
                VmMount { location: "/srv".into(), mount_point: None, writable: false },
                VmMount { location: "/srv/a b".into(), mount_point: Some("/mnt/ab".into()), writable: true },
            ],
            ca_certificates: vec!["/etc/ssl/certs/ca-certificates.crt".into()],
            ..base.clone()
        },
        VmSettings { arch: Arch::Aarch64, ..base.clone() },
        VmSettings { arch: Arch::X86_64, ..base },
    ];
    for (i, settings) in variants.iter().enumerate() {
        let path = dir.path().join(format!("{i}.yaml"));
        let yaml = template::render(BUILT_IN, settings).unwrap();
        std::fs::write(&path, &yaml).unwrap();
        let program = std::env::var_os("LIMA_RUNTIME_TEST_LIMACTL").unwrap();
        let said = std::process::Command::new(program).args(["--tty=false", "validate"]).arg(&path).output().unwrap();
        assert!(said.status.success(), "{}\n{yaml}", String::from_utf8_lossy(&said.stderr));
    }
}

#[tokio::test]
async fn create_and_delete_leave_what_the_contract_says() {
    let Some((_dir, limactl)) = real() else { return };
    let yaml = template::render(&base_template(), &settings()).unwrap();
    limactl.create("default", yaml.clone(), |_| {}).await.unwrap();
    assert!(limactl.lima_home().join("default/lima.yaml").exists());
    assert_eq!(limactl.create("default", yaml.clone(), |_| {}).await.unwrap_err().failure, Failure::AlreadyExists);
    assert_eq!(limactl.stop("default").await.unwrap_err().failure, Failure::WrongState);
    assert_eq!(limactl.create("bad", "images: 5".into(), |_| {}).await.unwrap_err().failure, Failure::Invalid);
    limactl.delete("default").await.unwrap();
    limactl.delete("default").await.unwrap();
    assert!(!limactl.lima_home().join("default").exists());
}

/// Boots a VM: minutes. `LIMA_RUNTIME_TEST_BOOT=1` asks for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_boots_answers_is_repaired_and_stops() {
    if std::env::var_os("LIMA_RUNTIME_TEST_BOOT").is_none() {
        skip("LIMA_RUNTIME_TEST_BOOT is not set");
        return;
    }
    let Some((dir, limactl)) = real() else { return };
    let shared = dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("hello"), "from the host").unwrap();
    let mount =
        VmMount { location: shared.to_str().unwrap().into(), mount_point: Some("/mnt/shared".into()), writable: true };
    let settings = VmSettings { mounts: vec![mount], disk: 6 << 30, ..settings() };
    let plan =
        Plan { base: base_template(), settings, archive: None, baked: None, registries: RegistryOptions::default() };
    let machine = Machine::new(limactl, "default", UserEngine::Containerd);
    let instance = machine.instance().clone();
    let began = Instant::now();
    let seen = Arc::new(Mutex::new(Vec::<RuntimeProgress>::new()));
    let events = seen.clone();
    let sink: Sink<RuntimeProgress> = Arc::new(move |event| {
        eprintln!("{:>6.1} {:?} {:?} {}", began.elapsed().as_secs_f32(), event.phase, event.percent, event.message);
        events.lock().unwrap().push(event);
    });

    assert_eq!(machine.state().await.unwrap().0, State::NotCreated);
    let guest = machine.start(&plan, &sink).await.unwrap_or_else(|e| panic!("{e}\n{:#?}", e.details()));
    let mut phases: Vec<Phase> = seen.lock().unwrap().iter().map(|e| e.phase).collect();
    phases.dedup();
    assert!(phases.starts_with(&[Phase::Create, Phase::Boot, Phase::Provision]), "{phases:?}");
    assert_eq!(phases.last(), Some(&Phase::Ready));
    assert!(!phases.contains(&Phase::Stop), "a boot that only took its time was repeated");
    assert_eq!(machine.state().await.unwrap().0, State::Running);
    assert!(instance.is_running().await);

    let whoami = guest.run(Command::new(["id", "-un"])).await.unwrap();
    assert_eq!(whoami.stdout, b"lima\n");
    let version = guest.run(Command::new(["nerdctl", "version"]).root()).await.unwrap().checked("nerdctl").unwrap();
    assert!(String::from_utf8_lossy(&version).contains("containerd"));
    // The host key that was known before the guest was.
    let keys = guest.run(Command::new(["sh", "-c", "sshd -T | grep ^hostkey\\ "]).root()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&keys.stdout), "hostkey /etc/ssh/lima-runtime_host_key\n");
    let hello = guest.run(Command::new(["cat", "/mnt/shared/hello"])).await.unwrap();
    assert_eq!(hello.stdout, b"from the host");
    let sessions = guest.run(Command::new(["sh", "-c", "sshd -T | grep -i maxsessions"]).root()).await.unwrap();
    assert_eq!(sessions.stdout, b"maxsessions 100\n");

    // Running already: nothing to do but to look.
    let again = Instant::now();
    machine.start(&plan, &sink).await.unwrap();
    eprintln!("start() of a running VM: {:?}", again.elapsed());

    // The host agent dies; its VM runs on alone.
    let Holder::Ours(agent) = instance.facts().await.unwrap().agent else { panic!() };
    assert!(agent.signal(rustix::process::Signal::KILL));
    while machine.state().await.unwrap().0 != State::Broken {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(guest.run(Command::new(["true"])).await.map(|o| o.success()).ok(), Some(true));
    let guest = machine.start(&plan, &sink).await.unwrap_or_else(|e| panic!("{e}\n{:#?}", e.details()));
    assert!(guest.run(Command::new(["true"])).await.unwrap().success());
    guest.disconnect().await;

    machine.stop(&sink).await.unwrap();
    assert_eq!(machine.state().await.unwrap().0, State::Stopped);
    machine.stop(&sink).await.unwrap();
    machine.delete(false, &sink).await.unwrap();
    assert_eq!(machine.state().await.unwrap().0, State::NotCreated);
    assert!(!instance.dir.exists());
}

/// The processes whose command line names `dir`, but for ourselves.
fn processes(dir: &std::path::Path) -> Vec<(i32, String)> {
    let dir = dir.to_str().unwrap();
    let line = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).ok()?).replace('\0', " ");
        (line.contains(dir) && pid != i32::try_from(std::process::id()).ok()?).then_some((pid, line))
    };
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(line).collect()
}

/// Boots a VM three times and more: `LIMA_RUNTIME_TEST_BOOT=1` asks for it, `LIMA_RUNTIME_TEST_ROUNDS` repeats the two
/// faults.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_ends_in_running_after_a_kill_of_the_agent_and_of_the_driver() {
    if std::env::var_os("LIMA_RUNTIME_TEST_BOOT").is_none() {
        skip("LIMA_RUNTIME_TEST_BOOT is not set");
        return;
    }
    let Some((dir, limactl)) = real() else { return };
    let rounds: usize = std::env::var("LIMA_RUNTIME_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let settings = VmSettings { mounts: vec![], disk: 6 << 30, ..settings() };
    let plan =
        Plan { base: base_template(), settings, archive: None, baked: None, registries: RegistryOptions::default() };
    let machine = Machine::new(limactl, "default", UserEngine::Containerd);
    let began = Instant::now();
    let sink: Sink<RuntimeProgress> = Arc::new(move |event| {
        eprintln!("{:>7.1} {:?} {}", began.elapsed().as_secs_f32(), event.phase, event.message);
    });
    let start = async || {
        let guest = machine.start(&plan, &sink).await.unwrap_or_else(|e| panic!("{e}\n{:#?}", e.details()));
        assert!(guest.run(Command::new(["true"])).await.unwrap().success());
        assert_eq!(machine.state().await.unwrap().0, State::Running);
        guest
    };
    let ours = async || {
        let facts = machine.instance().facts().await.unwrap();
        match (facts.agent, facts.driver) {
            (Holder::Ours(agent), Holder::Ours(driver)) => (agent, driver),
            other => panic!("{other:?}"),
        }
    };
    let mut bystander = std::process::Command::new("sleep").arg("86400").spawn().unwrap();
    let mut guest = start().await;
    guest.run(Command::new(["sh", "-c", "echo kept >/root/kept; sync"]).root()).await.unwrap();
    for round in 0..rounds {
        for kill_agent in [true, false] {
            let (agent, driver) = ours().await;
            let victim = if kill_agent { agent } else { driver };
            eprintln!(
                "{:>7.1} round {round}: kill {}",
                began.elapsed().as_secs_f32(),
                if kill_agent { "agent" } else { "driver" }
            );
            assert!(victim.signal(rustix::process::Signal::KILL));
            // Seen at once or not: start() is to find out by itself.
            guest.disconnect().await;
            guest = start().await;
            let (new_agent, new_driver) = ours().await;
            assert!(new_agent != agent && new_driver != driver && !agent.lives() && !driver.lives());
            for (pid, line) in processes(dir.path()) {
                let known = pid == new_agent.pid() || pid == new_driver.pid();
                assert!(known || line.contains("ssh"), "an orphan: {pid} {line}");
            }
            let kept = guest.run(Command::new(["cat", "/root/kept"]).root()).await.unwrap();
            assert_eq!(kept.stdout, b"kept\n", "the disk is the user's");
            assert!(bystander.try_wait().unwrap().is_none(), "a process that is not ours was ended");
            eprintln!("{:>7.1} running again", began.elapsed().as_secs_f32());
        }
    }
    machine.stop(&sink).await.unwrap();
    assert_eq!(machine.state().await.unwrap().0, State::Stopped);
    assert_eq!(processes(dir.path()), []);
    machine.delete(false, &sink).await.unwrap();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

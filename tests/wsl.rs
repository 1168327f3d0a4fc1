//! An engine of our own as it is on Windows, over a stand-in for `wsl.exe`: from archives on a mirror to a container in
//! a distribution, and back to nothing. The containerd, dockerd, runc and all else in the distribution are real.
#![cfg(target_os = "linux")]

mod support;

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use lima_runtime::{
    call::Call,
    engine::{
        Adapter, ContainerSpec, ContainerState, ExecOptions, ListOptions, NetworkOptions, RuntimeType, WaitOptions,
        containerd::{ContainerdEngine, ContainerdOptions, answering, wsl::settings},
    },
    error::ErrorCode,
    fetch::platform::Platform,
    guest::Guest,
    manager::{
        bundled::wsl::{WslRuntime, WslState},
        payload::UserEngine,
    },
    process::Command,
    progress::{Phase, RuntimeProgress, ignore},
};
use support::{docker_archive, nerdctl_full, releases, releases::Releases, wsl::Computer};

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(300), work).await.expect("hangs")
}

struct Site {
    computer: Computer,
    runtime: WslRuntime,
    server: Releases,
}

/// `None` where the machine cannot; it has said why.
fn site(engine: UserEngine) -> Option<Site> {
    let computer = Computer::start()?;
    if let Some(program) = ["/usr/bin/containerd", "/usr/sbin/runc"].iter().find(|p| !std::path::Path::new(p).exists())
    {
        support::skip::skip_without(program);
        return None;
    }
    let server = Releases::start();
    let source = |name: &str, archive: Vec<u8>| {
        let sha256 = releases::sha256(&archive);
        server.file(&format!("/files.example/{name}"), archive);
        let sources = serde_json::json!([{ "url": format!("https://files.example/{name}"), "sha256": sha256 }]);
        serde_json::json!({ "version": "1.0", "platforms": { Platform::current().unwrap().guest().as_str(): { "sources": sources } } })
    };
    let mut manifest = serde_json::json!({ "schema": 1, "components": {
        "nerdctl-full": source("nerdctl-full.tar.gz", programs()),
        "wsl-rootfs": source("rootfs.wsl", support::wsl::rootfs()),
    } });
    if engine == UserEngine::Docker {
        let [docker, _] = docker_archive::archives()?;
        manifest["components"]["docker"] = source("docker.tgz", docker);
        if let Some(compose) = real_compose() {
            manifest["components"]["compose"] = source("docker-compose", compose);
        }
    }
    std::fs::write(computer.path("manifest.json"), manifest.to_string()).unwrap();
    let runtime = runtime(&computer, &server, engine);
    Some(Site { computer, runtime, server })
}

fn real_compose() -> Option<Vec<u8>> {
    std::env::var_os("LIMA_RUNTIME_TEST_COMPOSE").map(|path| std::fs::read(path).unwrap())
}

fn runtime(computer: &Computer, server: &Releases, engine: UserEngine) -> WslRuntime {
    let options = serde_json::json!({
        "appDir": computer.path("kai"), "manifest": computer.path("manifest.json"), "mirror": server.url(""),
        "engine": engine,
    });
    WslRuntime::over(serde_json::from_value(options).unwrap(), computer.wsl()).unwrap()
}

/// Laid out as nerdctl-full is (docs/reference/nerdctl.md#nerdctl-full), small: the machine's own programs under its
/// names.
fn programs() -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut add = |path: &str, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, path, data).unwrap();
    };
    let calls = |program: &str| format!("#!/bin/sh\nexec {program} \"$@\"\n").into_bytes();
    for program in ["/usr/bin/containerd", "/usr/bin/containerd-shim-runc-v2", "/usr/bin/ctr", "/usr/sbin/runc"] {
        add(&format!("bin/{}", program.rsplit('/').next().unwrap()), &calls(program));
    }
    for plugin in ["bridge", "firewall", "host-local", "loopback", "portmap", "tuning"] {
        add(&format!("libexec/cni/{plugin}"), &calls(&format!("/usr/lib/cni/{plugin}")));
    }
    if let Some(nerdctl) = nerdctl_full::real_nerdctl() {
        add("bin/nerdctl", &std::fs::read(nerdctl).unwrap());
    }
    tar.into_inner().unwrap().finish().unwrap()
}

impl Site {
    fn adapter(&self) -> Adapter {
        let options = ContainerdOptions { address: Some(self.runtime.address()), ..ContainerdOptions::default() };
        let mut settings = settings(&options, self.computer.wsl(), "kai", "kai").unwrap();
        settings.nerdctl = self.runtime.nerdctl();
        settings.cni_path = Some(self.runtime.cni());
        let find = move || -> lima_runtime::engine::containerd::Finding {
            let settings = settings.clone();
            Box::pin(answering(settings))
        };
        Adapter::new(Arc::new(ContainerdEngine::new(RuntimeType::Containerd, Box::new(find))), "kai")
    }

    async fn inside(&self, script: &str) -> String {
        let out = within(self.runtime.guest().run(Command::new(["sh", "-c", script]))).await.unwrap();
        assert!(out.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn name(&self) -> &str {
        self.runtime.distribution()
    }
}

/// A container as nerdctl labels them, made without it: `ctr` has no networks.
const RUN: &str = "set -e
mkdir -p /root/web/bin /root/web/proc /root/web/sys /root/web/dev /root/web/etc
cp /usr/bin/busybox /root/web/bin/busybox
ctr --namespace kai run --detach --null-io --label nerdctl/name=web --rootfs /root/web web \\
  /bin/busybox sh -c 'trap \"exit 0\" TERM; while :; do sleep 0.2; done'";

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_in_a_distribution() {
    let Some(site) = site(UserEngine::Containerd) else { return };
    let (call, runtime) = (Call::default(), &site.runtime);
    assert!(matches!(within(runtime.state(Duration::from_secs(10))).await, WslState::Installable));
    let e = within(runtime.start_daemon(ignore(), &call)).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::NotInstalled);

    let phases = Arc::new(Mutex::new(Vec::new()));
    let seen = phases.clone();
    let note = move |p: RuntimeProgress| seen.lock().unwrap().push(p.phase);
    let began = Instant::now();
    within(runtime.initialize(Arc::new(note), &call)).await.unwrap();
    eprintln!("installed and up after {:?}", began.elapsed());
    let phases = std::mem::take(&mut *phases.lock().unwrap());
    for phase in [Phase::Download, Phase::Create, Phase::Extract, Phase::Boot, Phase::Ready] {
        assert!(phases.contains(&phase), "{phase:?} in {phases:?}");
    }
    assert!(runtime.is_installed() && runtime.is_running().await);
    assert!(matches!(within(runtime.state(Duration::from_secs(10))).await, WslState::Ready(_)));
    assert!(!site.computer.path("kai/containerd/cache").exists(), "the archives have served their purpose");
    let first = site.computer.init(site.name());
    within(runtime.initialize(ignore(), &call)).await.unwrap();
    assert_eq!(site.computer.init(site.name()), first, "what runs is left alone");
    let wrapper = std::fs::read_to_string(runtime.wrapper(UserEngine::Containerd)).unwrap();
    assert!(wrapper.contains(&format!("--distribution {} ", site.name())) && wrapper.contains("%*"), "{wrapper}");
    assert_eq!(runtime.adapter().map(drop).unwrap_err().code(), ErrorCode::NotInstalled);

    // The engine, over the bridge.
    let adapter = site.adapter();
    site.inside(RUN).await;
    let info = within(adapter.system_info(&call)).await.unwrap();
    assert!(!info.runtime_version.is_empty());
    let began = Instant::now();
    let list = within(adapter.list_containers(&ListOptions::default(), &call)).await.unwrap();
    eprintln!("containerd {}; a list took {:?}", info.runtime_version, began.elapsed());
    assert_eq!(list.iter().map(|c| (c.name.as_str(), c.state)).collect::<Vec<_>>(), [("web", ContainerState::Running)]);
    within(adapter.kill_container(&list[0].id, None, &call)).await.unwrap();
    let ended = within(adapter.wait_container(&list[0].id, &WaitOptions::default(), &call)).await.unwrap();
    assert_eq!(ended.exit_code, 137);

    if nerdctl_full::real_nerdctl().is_some() {
        let image = site.computer.path("image.tar");
        nerdctl_full::image("hello", &image);
        within(adapter.load_image_file(&image, &call)).await.unwrap();
        let spec =
            serde_json::json!({ "name": "real", "image": "web:1", "command": ["/bin/busybox", "sleep", "1000"] });
        let spec: ContainerSpec = serde_json::from_value(spec).unwrap();
        let id = within(adapter.start_container(spec, &call)).await.unwrap();
        let argv = ["/bin/busybox", "sh", "-c", "echo out; exit 7"].map(str::to_owned);
        let out = within(adapter.exec(&id, &argv, &ExecOptions::default(), None, &call)).await.unwrap();
        assert_eq!((out.exit_code, &out.stdout[..]), (7, &b"out\n"[..]));
        let spec = site.inside("cat /run/containerd/io.containerd.runtime.v2.task/kai/*/config.json").await;
        assert!(spec.contains("ociVersion") && !spec.contains("WSL_"), "nothing of WSL's own environment: {spec}");
        eprintln!("a container of the real nerdctl ran, and exec's code came through");
    } else {
        site.inside("ctr --namespace kai task rm web; ctr --namespace kai container rm web").await;
        site.inside(RUN).await;
    }

    // Stopped with a container that runs; nothing starts it by asking.
    within(runtime.stop_daemon(&call)).await.unwrap();
    assert!(!runtime.is_running().await && site.computer.init(site.name()).is_none());
    assert!(matches!(within(runtime.state(Duration::from_secs(10))).await, WslState::Stopped));
    let e = within(adapter.list_containers(&ListOptions::default(), &call)).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning, "{e}");
    assert!(site.computer.init(site.name()).is_none());
    within(runtime.stop_daemon(&call)).await.unwrap();

    // And again: what it kept is there, on the same adapter.
    within(runtime.start_daemon(ignore(), &call)).await.unwrap();
    let all = ListOptions { all: true, ..ListOptions::default() };
    assert!(!within(adapter.list_containers(&all, &call)).await.unwrap().is_empty());

    // Removed while it runs.
    within(runtime.uninstall(&call)).await.unwrap();
    assert!(!runtime.is_installed() && !site.computer.path("kai/containerd").exists());
    assert_eq!(within(site.computer.wsl().distributions()).await.unwrap(), Vec::<String>::new());
    within(runtime.uninstall(&call)).await.unwrap();
    let e = within(adapter.list_containers(&ListOptions::default(), &call)).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::NotInstalled, "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_left_alone_and_what_cannot_run_is_not_fetched() {
    let Some(site) = site(UserEngine::Containerd) else { return };
    let (call, runtime) = (Call::default(), &site.runtime);
    for (fact, hint) in [("missing", "wsl --install"), ("novm", "firmware")] {
        site.computer.set(fact, true);
        let e = within(runtime.install(ignore(), &call)).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::UnsupportedPlatform);
        assert!(e.hint_text().unwrap().contains(hint), "{e}");
        let WslState::Unavailable(e) = within(runtime.state(Duration::from_secs(10))).await else { panic!("{fact}") };
        assert!(e.hint_text().unwrap().contains(hint));
        site.computer.set(fact, false);
    }
    assert!(!site.computer.path("kai/containerd/cache").exists(), "nothing was fetched");

    // Somebody else's distribution of our name.
    let archive = site.computer.path("other.tar.gz");
    std::fs::write(&archive, support::wsl::rootfs()).unwrap();
    let theirs = site.computer.path("theirs");
    within(site.computer.wsl().import(site.name(), &theirs, &archive)).await.unwrap();
    let e = within(runtime.install(ignore(), &call)).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::NameInUse, "{e}");
    within(runtime.stop_daemon(&call)).await.unwrap();
    within(runtime.uninstall(&call)).await.unwrap();
    assert_eq!(within(site.computer.wsl().distributions()).await.unwrap(), [site.name()]);
    assert!(theirs.join("ext4.vhdx").exists());
    within(site.computer.wsl().unregister(site.name())).await.unwrap();

    // One that was left half-made is made anew; a start that is given up leaves nothing running.
    let ours = site.computer.path("kai/containerd/wsl");
    std::fs::create_dir_all(&ours).unwrap();
    within(site.computer.wsl().import(site.name(), &ours, &archive)).await.unwrap();
    std::fs::write(ours.join("rootfs/left"), "").unwrap();
    assert!(!runtime.is_installed());
    within(runtime.install(ignore(), &call)).await.unwrap();
    assert!(runtime.is_installed() && !ours.join("rootfs/left").exists());

    let abort = Call::default();
    let cancel = abort.cancel.clone();
    let at_boot = move |p: RuntimeProgress| {
        if p.phase == Phase::Boot {
            cancel.cancel();
        }
    };
    let e = within(runtime.start_daemon(Arc::new(at_boot), &abort)).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Aborted);

    // What does not come up says why.
    std::fs::write(ours.join("rootfs/var/lib/containerd"), "in the way").unwrap();
    let e = within(runtime.start_daemon(ignore(), &call)).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::ContainerdNotReady, "{e}");
    assert!(e.details()["log"].as_str().unwrap().contains("/var/lib/containerd"), "{:?}", e.details());
    within(runtime.uninstall(&call)).await.unwrap();
    assert!(!site.computer.path("kai/containerd").exists());
}

/// What a program of this computer hears at the engine's socket.
fn ping(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_compose_in_a_distribution() {
    if real_compose().is_none() {
        support::skip::skip("LIMA_RUNTIME_TEST_COMPOSE names no docker-compose to be brought there");
        return;
    }
    let Some(site) = site(UserEngine::Docker) else { return };
    let (call, runtime) = (Call::default(), &site.runtime);
    within(runtime.initialize(ignore(), &call)).await.unwrap_or_else(|e| panic!("{e} {:?}", e.details()));
    let is_compose = |r: &releases::Request| r.path.ends_with("/docker-compose");
    assert!(!site.server.take().0.iter().any(is_compose), "a start does not need it");
    let adapter = runtime.adapter().unwrap();
    let image = site.computer.path("image.tar");
    nerdctl_full::image("hello", &image);
    within(adapter.load_image_file(&image, &call)).await.unwrap();
    let project = r#"{"name":"demo","services":{"web":{"image":"web:1","environment":{"TOKEN":"${TOKEN}"}}}}"#;
    let up = serde_json::json!({ "env": { "TOKEN": "$x 'y'" } });
    let up: lima_runtime::engine::ComposeUpOptions = serde_json::from_value(up).unwrap();
    within(adapter.compose_up(None, Some(project), &up, ignore(), &call))
        .await
        .unwrap_or_else(|e| panic!("{e} {:?}", e.details()));
    assert_eq!(site.server.take().0.iter().filter(|r| is_compose(r)).count(), 1);
    let found =
        within(adapter.compose_ps(None, Some(project), &serde_json::from_str("{}").unwrap(), &call)).await.unwrap();
    let [web] = &found[..] else { panic!("{}", found.len()) };
    assert_eq!((web.service.as_str(), web.info.state), ("web", ContainerState::Running));
    let env = within(adapter.container_details(&web.info.id, &call)).await.unwrap().env;
    assert_eq!(env["TOKEN"], "$x 'y'");
    site.inside("test -x /usr/local/lib/lima-runtime/compose/*/docker-compose").await;
    let down = serde_json::from_str("{}").unwrap();
    within(adapter.compose_down(None, Some(project), &down, ignore(), &call)).await.unwrap();
    let left =
        within(adapter.compose_ps(None, Some(project), &serde_json::from_str("{}").unwrap(), &call)).await.unwrap();
    assert!(left.is_empty());
    within(runtime.uninstall(&call)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_engine_in_a_distribution() {
    let Some(site) = site(UserEngine::Docker) else { return };
    let (call, runtime) = (Call::default(), &site.runtime);
    assert!(matches!(within(runtime.state(Duration::from_secs(10))).await, WslState::Installable));
    assert_eq!(within(runtime.start_daemon(ignore(), &call)).await.unwrap_err().code(), ErrorCode::NotInstalled);
    let args = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    let docker = async |words: &[&str]| {
        let said = within(runtime.exec(UserEngine::Docker, &args(words), None, &call)).await;
        said.map(|said| String::from_utf8(said).unwrap().trim().to_owned())
    };
    let began = Instant::now();
    within(runtime.initialize(ignore(), &call)).await.unwrap_or_else(|e| panic!("{e} {:?}", e.details()));
    eprintln!("installed and up after {:?}", began.elapsed());
    let WslState::Ready(version) = within(runtime.state(Duration::from_secs(60))).await else { panic!("not ready") };
    assert_eq!(docker(&["version", "--format", "{{.Server.Version}}"]).await.unwrap(), version);
    let first = site.computer.init(site.name());
    within(runtime.initialize(ignore(), &call)).await.unwrap();
    assert_eq!(site.computer.init(site.name()), first, "what runs is left alone");
    let wrapper = std::fs::read_to_string(runtime.wrapper(UserEngine::Docker)).unwrap();
    assert!(
        wrapper.contains(&format!("--distribution {} ", site.name())) && wrapper.contains("docker.sock %*"),
        "{wrapper}"
    );
    assert!(!runtime.wrapper(UserEngine::Containerd).exists());
    let e = within(runtime.exec(UserEngine::Containerd, &args(&["ps"]), None, &call)).await.unwrap_err();
    assert_eq!((e.code(), e.details()["engine"].as_str()), (ErrorCode::NotInstalled, Some("docker")));
    assert!(e.hint_text().unwrap().contains("engine: 'containerd'"));

    // The engine, over the bridge; and for other programs, at its socket.
    let adapter = runtime.adapter().unwrap();
    assert!(adapter.is_private(&call).await.unwrap());
    let image = site.computer.path("image.tar");
    nerdctl_full::image("hello", &image);
    within(adapter.load_image_file(&image, &call)).await.unwrap();
    let start = async |spec: serde_json::Value| {
        within(adapter.start_container(serde_json::from_value(spec).unwrap(), &call)).await
    };
    let taken = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let holder = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, taken)).unwrap();
    let e = start(serde_json::json!({ "name": "refused", "image": "web:1", "ports": { "80": taken.to_string() } }))
        .await
        .unwrap_err();
    assert_eq!((e.code(), &e.details()["port"]), (ErrorCode::PortInUse, &taken.into()), "a port of Windows");
    drop(holder);
    let e = start(serde_json::json!({ "name": "refused", "image": "web:1", "ports": { "80/udp": taken.to_string() } }))
        .await
        .unwrap_err();
    assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("ports.80/udp")));
    let e = start(
        serde_json::json!({ "name": "refused", "image": "web:1", "volumes": [{ "host": "/tmp", "container": "/x" }] }),
    )
    .await;
    assert_eq!(e.unwrap_err().code(), ErrorCode::InvalidArgument, "no drive of Windows");
    within(adapter.create_network("own", &NetworkOptions::default(), &call)).await.unwrap();
    let closed = NetworkOptions { internal: true, ..NetworkOptions::default() };
    within(adapter.create_network("closed", &closed, &call)).await.unwrap();
    let id = start(serde_json::json!({
        "name": "web", "image": "web:1", "networks": ["own"], "restart": "always",
        "volumes": [{ "host": "/var/run/docker.sock", "container": "/var/run/docker.sock" }],
    }))
    .await
    .unwrap_or_else(|e| panic!("{e} {:?}", e.details()));
    let fetched = docker(&["run", "--rm", "--network", "own", "web:1", "/bin/busybox", "wget", "-qO-", "http://web/"]);
    assert_eq!(fetched.await.unwrap(), "hello");
    let look = ["/bin/busybox", "sh", "-c", "test -S /var/run/docker.sock && echo out; exit 7"].map(str::to_owned);
    let out = within(adapter.exec(&id, &look, &ExecOptions::default(), None, &call)).await.unwrap();
    assert_eq!((out.exit_code, &out.stdout[..]), (7, &b"out\n"[..]), "{}", String::from_utf8_lossy(&out.stderr));
    let socket = runtime.docker_socket();
    assert!(ping(&socket).unwrap().ends_with("OK"));
    let rules = site.inside("iptables -S; iptables -t nat -S").await;
    assert!(rules.contains("lrd-") && !rules.contains("DOCKER"), "{rules}");

    // A daemon that was killed.
    site.inside("kill -s KILL $(cat /run/docker.pid)").await;
    assert!(!within(runtime.is_running()).await);
    within(runtime.start_daemon(ignore(), &call)).await.unwrap_or_else(|e| panic!("{e} {:?}", e.details()));
    // Its restart policy, which dockerd follows after it answers.
    let up = async || within(adapter.list_containers(&ListOptions::default(), &call)).await.unwrap();
    within(async { while up().await.iter().all(|c| c.id != id) {} }).await;
    assert!(ping(&socket).unwrap().ends_with("OK"));

    // Stopped; nothing starts it by asking.
    within(runtime.stop_daemon(&call)).await.unwrap();
    assert!(!runtime.is_running().await && site.computer.init(site.name()).is_none());
    assert!(matches!(within(runtime.state(Duration::from_secs(10))).await, WslState::Stopped));
    let e = within(adapter.list_containers(&ListOptions::default(), &call)).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning, "{e}");
    assert!(site.computer.init(site.name()).is_none());

    // The other engine beside it, and back: what each made stays.
    let other = self::runtime(&site.computer, &site.server, UserEngine::Containerd);
    assert!(!other.is_installed() && runtime.is_installed());
    within(runtime.start_daemon(ignore(), &call)).await.unwrap();
    within(other.initialize(ignore(), &call)).await.unwrap_or_else(|e| panic!("{e} {:?}", e.details()));
    assert!(other.is_running().await && !within(runtime.is_running()).await && runtime.is_installed());
    let left: Vec<_> = other.left().into_iter().map(|c| (c.info.id, c.info.state, c.own)).collect();
    assert_eq!(left, [(id.clone(), ContainerState::Exited, true)]);
    assert!(runtime.left().is_empty());
    assert!(other.wrapper(UserEngine::Containerd).exists() && !runtime.wrapper(UserEngine::Docker).exists());
    let left = site.inside("iptables -S; ip -o link show type bridge").await;
    assert!(!left.contains("lrd-"), "{left}");
    within(runtime.start_daemon(ignore(), &call)).await.unwrap();
    assert!(!within(other.is_running()).await);
    let all = ListOptions { all: true, ..ListOptions::default() };
    let listed = within(adapter.list_containers(&all, &call)).await.unwrap();
    assert_eq!(listed.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);

    // Removed while it runs.
    within(runtime.uninstall(&call)).await.unwrap();
    assert!(!runtime.is_installed() && !site.computer.path("kai/containerd").exists());
    assert!(ping(&socket).is_err());
    assert_eq!(within(site.computer.wsl().distributions()).await.unwrap(), Vec::<String>::new());
}

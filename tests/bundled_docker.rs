//! A Docker engine of our own: from an archive on a mirror to a container that answers, and back to nothing.
#![cfg(target_os = "linux")]

mod support;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use lima_runtime::{
    call::Call,
    engine::{Adapter, ContainerState, NetworkOptions, RestrictedOptions},
    error::ErrorCode,
    fetch::{
        manifest::{Choice, Manifest, Part},
        platform::Platform,
    },
    manager::{
        bundled::BundledRuntime,
        payload::{UserEngine, context::ContextOptions},
    },
    progress::{Phase, ignore},
};
use rustix::process::{Pid, Signal, kill_process};
use support::{
    docker_archive, nerdctl_full, ordinary,
    releases::{self, Releases},
    skip::skip_without_root,
};

/// A mirror with the archives, and a runtime that takes them from there.
struct Site {
    dir: tempfile::TempDir,
    runtime: BundledRuntime,
    /// With containerd, in the same directory.
    other: BundledRuntime,
    _server: Releases,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn site() -> Option<Site> {
    let archives = docker_archive::archives()?;
    let server = Releases::start();
    let host = Platform::current().unwrap();
    let mut components = serde_json::Map::new();
    let [engine, rootless] = archives;
    let parts =
        [(Part::Docker, engine), (Part::DockerRootless, rootless), (Part::NerdctlFull, nerdctl_full::archive()?)];
    for (part, archive) in parts {
        let mut wanted = Manifest::built_in().find(part, host, &Choice::default()).unwrap();
        let source = wanted.sources.remove(0);
        // The pinned digest is the real release's; this is another one.
        let sources = serde_json::json!([{ "url": source.url, "sha256": releases::sha256(&archive) }]);
        server.file(&format!("/{}{}", source.url.host_str().unwrap(), source.url.path()), archive);
        let platforms = serde_json::json!({ host.guest().as_str(): { "sources": sources } });
        components
            .insert(part.as_str().into(), serde_json::json!({ "version": wanted.version, "platforms": platforms }));
    }
    let dir = tempfile::Builder::new().prefix("lr-d-").tempdir().unwrap();
    let path = dir.path().join("manifest.json");
    std::fs::write(&path, serde_json::json!({ "schema": 1, "components": components }).to_string()).unwrap();
    let data = dir.path().join("data");
    let with = |engine: &str| {
        let options = serde_json::json!({
            "dataDir": data, "manifest": path, "mirror": server.url(""), "engine": engine, "appName": "bundled-docker",
        });
        BundledRuntime::new(serde_json::from_value(options).unwrap()).unwrap()
    };
    let [runtime, other] = ["docker", "containerd"].map(with);
    Some(Site { dir, runtime, other, _server: server })
}

fn site_of_root() -> Option<Site> {
    if !is_root() {
        skip_without_root("the engine runs as a service of root's");
        return None;
    }
    site()
}

impl Site {
    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn docker(&self, args: &[&str]) -> String {
        let out = Command::new(self.runtime.paths().docker)
            .args(args)
            // Of a caller's own Docker.
            .env("DOCKER_HOST", "unix:///nowhere")
            .env("DOCKER_CONTEXT", "nowhere")
            .output()
            .unwrap();
        assert!(out.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// A container that serves `page`; returns its port on this machine.
    fn serve(&self, page: &str) -> u16 {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let image = self.dir.path().join("image.tar");
        nerdctl_full::image(page, &image);
        self.docker(&["load", "-i", image.to_str().unwrap()]);
        let publish = format!("127.0.0.1:{port}:80");
        let id = self.docker(&["run", "-d", "--restart", "always", "-p", &publish, "web:1"]);
        assert_eq!(id.len(), 64);
        port
    }

    fn record(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.data().join("run/daemon.json")).unwrap()).unwrap()
    }

    /// The process that we started: dockerd, or the rootlesskit above it.
    fn daemon(&self) -> Pid {
        Pid::from_raw(self.record()["process"]["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
    }

    /// Processes whose command line names our directory.
    fn processes(&self) -> Vec<String> {
        let ours = self.data();
        let ours = ours.to_str().unwrap();
        let line = |e: std::fs::DirEntry| {
            let bytes = std::fs::read(e.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(line).filter(|l| l.contains(ours)).collect()
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.data().join("docker/daemon.json")).unwrap()).unwrap()
    }

    /// As root its bridge, whose name is also that of its chain of rules.
    fn bridge(&self) -> Option<String> {
        let name = self.settings()["bridge"].as_str()?.to_owned();
        assert!(rules().contains(&name));
        Some(name)
    }

    fn assert_nothing_runs(&self, bridge: Option<&str>) {
        assert_eq!(self.processes(), Vec::<String>::new());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.data().to_str().unwrap()), "{mounts}");
        assert!(!self.data().join("run").exists());
        if let Some(bridge) = bridge {
            assert!(!Path::new("/sys/class/net").join(bridge).exists());
            assert!(!rules().contains(bridge), "{}", rules());
        }
    }

    async fn up(&self) {
        self.runtime.start_daemon(ignore(), &Call::default()).await.unwrap_or_else(|e| panic!("{e} {:?}", e.details()));
    }
}

impl Drop for Site {
    /// A test that fails leaves no daemon behind.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let uninstall = || {
            let ended = tokio::runtime::Runtime::new().map(|r| r.block_on(self.runtime.uninstall(&Call::default())));
            eprintln!("uninstalled after the failure: {ended:?}");
        };
        std::thread::scope(|s| s.spawn(uninstall).join()).ok();
    }
}

/// The firewall's, as root.
fn rules() -> String {
    let save = |table| Command::new("iptables").args(["-w", "10", "-t", table, "-S"]).output().unwrap().stdout;
    String::from_utf8([save("filter"), save("nat")].concat()).unwrap()
}

/// What the page server says, once it listens.
fn get(port: u16) -> String {
    let began = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
            let mut text = String::new();
            if stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1") {
                return text.split_once("\r\n\r\n").unwrap().1.to_owned();
            }
        }
        assert!(began.elapsed() < Duration::from_secs(180), "nothing answers at port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Size, time and owner of what is the machine's own Docker's.
fn machines_own() -> Vec<Option<(u64, i64, u32)>> {
    let paths = [
        "/etc/docker",
        "/etc/docker/key.json",
        "/run/docker",
        "/run/docker.sock",
        "/var/lib/docker",
        "/run/docker.pid",
    ];
    paths.map(|p| std::fs::symlink_metadata(p).ok().map(|m| (m.size(), m.mtime(), m.uid()))).to_vec()
}

async fn whole_life(site: &Site) {
    let call = Call::default();
    let runtime = &site.runtime;
    let before = machines_own();
    assert_eq!(runtime.start_daemon(ignore(), &call).await.unwrap_err().code(), ErrorCode::NotInstalled);
    let args = ["ps".to_owned()];
    assert_eq!(runtime.exec(UserEngine::Docker, &args, None, &call).await.unwrap_err().code(), ErrorCode::NotInstalled);
    let phases = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = phases.clone();
    let began = Instant::now();
    let sink = move |p: lima_runtime::progress::RuntimeProgress| seen.lock().unwrap().push(p.phase);
    match runtime.initialize(Arc::new(sink), &call).await {
        Err(e) if !is_root() && e.code() == ErrorCode::UnsupportedPlatform => {
            let missing = e.details()["missing"].as_array().unwrap();
            assert!(!missing.is_empty() && !site.data().exists());
            for lack in missing {
                assert!(e.hint_text().unwrap().contains(lack["advice"].as_str().unwrap()));
            }
            eprintln!("rootless: {e}\n  hint: {}", e.hint_text().unwrap());
            return;
        }
        other => other.unwrap_or_else(|e| panic!("{e} {:?}", e.details())),
    }
    eprintln!("installed and up after {:?}", began.elapsed());
    for phase in [Phase::Download, Phase::Extract, Phase::Boot, Phase::Ready] {
        assert!(phases.lock().unwrap().contains(&phase), "{phase:?}");
    }
    assert!(runtime.is_running().await && runtime.is_installed(&call).await.unwrap());
    site.up().await;
    let socket = runtime.paths().docker_socket;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    let bridge = site.bridge();
    assert_eq!(bridge.is_some(), is_root());

    let port = site.serve("Hello from our own Docker");
    assert_eq!(get(port), "Hello from our own Docker");
    // The other engine's program is refused by name; its own is run.
    let e = runtime.exec(UserEngine::Containerd, &args, None, &call).await.unwrap_err();
    assert_eq!((e.code(), e.details()["engine"].as_str()), (ErrorCode::NotInstalled, Some("docker")));
    assert!(e.hint_text().unwrap().contains("engine: 'containerd'"));
    let listed = runtime.exec(UserEngine::Docker, &args, None, &call).await.unwrap();
    assert!(String::from_utf8(listed).unwrap().contains("web:1"));

    // A network of its own, a name on it, and the engine's socket in a container: made and reached through the adapter.
    let adapter = runtime.adapter().unwrap();
    assert!(adapter.is_private(&call).await.unwrap());
    adapter.create_network("own", &NetworkOptions::default(), &call).await.unwrap();
    let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let spec = serde_json::json!({
        "name": "inner", "image": "web:1", "networks": ["own"], "ports": { "80": inner.to_string() },
        "volumes": [{ "host": "/var/run/docker.sock", "container": "/var/run/docker.sock" }],
    });
    let id = adapter.start_container(serde_json::from_value(spec).unwrap(), &call).await.unwrap();
    assert_eq!(site.docker(&["port", "inner", "80"]), format!("127.0.0.1:{inner}"));
    let mounts = adapter.container_details(&id, &call).await.unwrap().mounts;
    assert_eq!(mounts[0].source, socket.to_str().unwrap());
    let fetched =
        site.docker(&["run", "--rm", "--network", "own", "web:1", "/bin/busybox", "wget", "-qO-", "http://inner/"]);
    assert_eq!(fetched, "Hello from our own Docker");

    // A window gets no mount that hands out the engine, whatever the application permits it.
    let window = adapter.restricted(RestrictedOptions { foreign: true, powers: true });
    let link = site.dir.path().join("link");
    std::os::unix::fs::symlink(site.data(), &link).unwrap();
    let [data, above] = [site.data(), site.dir.path().to_owned()];
    for path in [data.join("sock"), data.join("docker/new"), data, above, link.join("bin"), "/".into()] {
        let volume = serde_json::json!({ "host": path, "container": "/x", "readOnly": true });
        let spec = serde_json::json!({ "name": "refused", "image": "web:1", "volumes": [volume] });
        let e = window.start_container(serde_json::from_value(spec).unwrap(), &call).await.unwrap_err();
        let field = e.details()["field"].as_str();
        assert_eq!(
            (e.code(), field),
            (ErrorCode::PermissionDenied, Some("volumes[0].host")),
            "{}: {e}",
            path.display()
        );
    }

    assert_eq!(machines_own(), before, "nothing of the machine's own Docker is touched");
    let stranger = if is_root() {
        an_internal_network_stays_closed(site, &adapter).await;
        Some(Stranger::within(&site.settings()))
    } else {
        None
    };
    runtime.stop_daemon(&call).await.unwrap();
    assert!(!runtime.is_running().await);
    site.assert_nothing_runs(bridge.as_deref());
    drop(stranger);
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() && !socket.exists());
    assert_eq!(adapter.ping(&call).await.unwrap_err().code(), ErrorCode::EngineUnreachable);
    runtime.stop_daemon(&call).await.unwrap();

    site.up().await;
    assert_eq!(get(port), "Hello from our own Docker", "restart: always");
    adapter.ping(&call).await.unwrap();
    let mut other = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    if is_root() {
        faults(site, port, "Hello from our own Docker").await;
        // A number that means another process now: it is left alone, and ours is found all the same.
        let mut daemon = site.record();
        daemon["process"]["pid"] = other.id().into();
        std::fs::write(site.data().join("run/daemon.json"), daemon.to_string()).unwrap();
        assert!(!runtime.is_running().await);
    } else {
        kill_process(site.daemon(), Signal::KILL).unwrap();
        site.up().await;
        assert_eq!(get(port), "Hello from our own Docker", "after it was killed");
    }
    // Uninstalled from running.
    runtime.uninstall(&call).await.unwrap();
    assert!(other.try_wait().unwrap().is_none(), "a process that is not ours was ended");
    other.kill().unwrap();
    other.wait().unwrap();
    site.assert_nothing_runs(bridge.as_deref());
    assert!(!site.data().exists(), "{:?}", releases::tree(&site.data()));
    eprintln!("uninstalled: no process, mount, interface, rule or file");
}

/// Asked as it makes room, and started once more where it was killed.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_before_holds_is_listed() {
    let Some(site) = site_of_root() else { return };
    let (call, docker, containerd) = (Call::default(), &site.runtime, &site.other);
    docker.initialize(ignore(), &call).await.unwrap_or_else(|e| panic!("{e} {:?}", e.details()));
    site.serve("theirs");
    let spec = serde_json::json!({ "name": "ours", "image": "web:1" });
    let adapter = docker.adapter().unwrap();
    let ours = adapter.start_container(serde_json::from_value(spec).unwrap(), &call).await.unwrap();
    for killed in [false, true] {
        site.up().await;
        if killed {
            std::fs::remove_file(site.data().join("left.json")).unwrap();
            kill_process(site.daemon(), Signal::KILL).unwrap();
        }
        containerd.initialize(ignore(), &call).await.unwrap_or_else(|e| panic!("{e} {:?}", e.details()));
        let mut left = containerd.left(&call).await.unwrap();
        left.sort_by_key(|c| !c.own);
        assert_eq!(left.iter().map(|c| c.own).collect::<Vec<_>>(), [true, false], "killed: {killed}");
        assert_eq!((left[0].info.id.as_str(), left[0].info.state), (ours.as_str(), ContainerState::Exited));
        assert!(docker.left(&call).await.unwrap().is_empty());
    }
    site.up().await;
    assert!(!containerd.is_running().await && containerd.left(&call).await.unwrap().is_empty());
    assert_eq!(site.docker(&["ps", "--all", "--quiet"]).lines().count(), 2, "found again");
    docker.uninstall(&call).await.unwrap();
    assert!(!site.data().exists(), "{:?}", releases::tree(&site.data()));
}

fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).status().unwrap().success()
}

/// A bridge of somebody's that looks like one of Docker's and has an address of ours.
struct Stranger(String);

impl Stranger {
    fn within(settings: &serde_json::Value) -> Self {
        let pool = settings["default-address-pools"][0]["base"].as_str().unwrap();
        let name = format!("br-{:012x}", std::process::id());
        assert!(ip(&["link", "add", &name, "type", "bridge"]));
        let address = pool.replace(".0.0/16", ".200.1/24");
        assert!(ip(&["address", "add", &address, "dev", &name]) && ip(&["link", "set", &name, "up"]));
        Self(name)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let deleted = ip(&["link", "delete", "dev", &self.0]);
        assert!(deleted || std::thread::panicking(), "a bridge that is not ours is gone");
    }
}

/// A machine beyond this one, with a page.
struct Outside {
    name: String,
    address: String,
    server: std::process::Child,
}

impl Outside {
    fn start() -> Self {
        let id = std::process::id();
        let (name, ours, theirs) = (format!("lr-out-{id}"), format!("lro{id}"), format!("lrp{id}"));
        let net = format!("198.18.{}", id % 256);
        let (here, address) = (format!("{net}.1/30"), format!("{net}.2"));
        assert!(ip(&["netns", "add", &name]));
        assert!(ip(&["link", "add", &ours, "type", "veth", "peer", "name", &theirs, "netns", &name]));
        assert!(ip(&["address", "add", &here, "dev", &ours]) && ip(&["link", "set", &ours, "up"]));
        assert!(ip(&["-n", &name, "address", "add", &format!("{address}/30"), "dev", &theirs]));
        assert!(ip(&["-n", &name, "link", "set", &theirs, "up"]));
        let pages = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&pages).unwrap();
        std::fs::write(pages.join("index.html"), "outside").unwrap();
        let mut server = Command::new("ip");
        server.args(["netns", "exec", &name, "busybox", "httpd", "-f", "-p", "80", "-h"]).arg(&pages);
        Self { server: server.spawn().unwrap(), name, address }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        _ = self.server.kill();
        _ = self.server.wait();
        _ = ip(&["netns", "delete", &self.name]);
        _ = std::fs::remove_dir_all(std::env::temp_dir().join(&self.name));
    }
}

/// Even for a container that gives itself a route.
async fn an_internal_network_stays_closed(site: &Site, adapter: &Adapter) {
    let outside = Outside::start();
    let closed = NetworkOptions { internal: true, ..NetworkOptions::default() };
    adapter.create_network("closed", &closed, &Call::default()).await.unwrap();
    let fetch = |network: &str| {
        let subnet = site.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", network]);
        let words = format!(
            "/bin/busybox ip route replace default via {}; /bin/busybox timeout 5 /bin/busybox wget -qO- http://{}/",
            subnet.replace(".0/24", ".1"),
            outside.address
        );
        let mut command = Command::new(site.runtime.paths().docker);
        command.args(["run", "--rm", "--cap-add", "NET_ADMIN", "--network", network, "web:1"]);
        let out = command.args(["/bin/busybox", "sh", "-c", &words]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let began = Instant::now();
    while fetch("own") != "outside" {
        assert!(began.elapsed() < Duration::from_secs(180), "the server beyond does not answer");
    }
    assert_eq!(fetch("closed"), "");
    site.docker(&["network", "rm", "closed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_root_from_a_mirror_to_a_container_and_back_to_nothing() {
    if let Some(site) = site_of_root() {
        whole_life(&site).await;
    }
}

/// A daemon whose containerd was killed, one that was killed itself, and one that hangs are started again.
async fn faults(site: &Site, port: u16, page: &str) {
    let children = format!("/proc/{0}/task/{0}/children", site.daemon().as_raw_nonzero());
    let children = std::fs::read_to_string(children).unwrap();
    let named =
        |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "containerd\n");
    let containerd = children.split_whitespace().find(named).unwrap().parse().unwrap();
    for (what, pid) in [("its containerd", Pid::from_raw(containerd)), ("it", None)] {
        kill_process(pid.unwrap_or_else(|| site.daemon()), Signal::KILL).unwrap();
        let began = Instant::now();
        while site.runtime.is_running().await {
            assert!(began.elapsed() < Duration::from_secs(120));
        }
        assert!(!site.processes().is_empty(), "the container goes on");
        site.up().await;
        assert_eq!(get(port), page, "after {what} was killed");
    }
    let hung = site.daemon();
    kill_process(hung, Signal::STOP).unwrap();
    assert!(!site.runtime.is_running().await);
    site.up().await;
    assert!(site.daemon() != hung && get(port) == page, "after it hung");
}

#[tokio::test]
async fn an_engine_that_is_none_is_refused_and_the_other_one_says_so() {
    for engine in [serde_json::json!("podman"), serde_json::json!(""), serde_json::json!(7), serde_json::Value::Null] {
        let options = serde_json::json!({ "dataDir": "/nowhere", "engine": engine });
        assert!(serde_json::from_value::<lima_runtime::manager::bundled::BundledOptions>(options).is_err(), "{engine}");
    }
    let options = serde_json::json!({ "dataDir": "/nowhere" });
    let containerd = BundledRuntime::new(serde_json::from_value(options).unwrap()).unwrap();
    let call = Call::default();
    let refused = |e: lima_runtime::error::Error| {
        assert_eq!(e.code(), ErrorCode::NotInstalled, "{e}");
        assert!(e.hint_text().unwrap().contains("engine: 'docker'"));
    };
    refused(containerd.exec(UserEngine::Docker, &[], None, &call).await.unwrap_err());
    refused(containerd.adapter().map(drop).unwrap_err());
    refused(containerd.register_docker_context(ContextOptions::default(), &call).await.unwrap_err());
}

/// As the ordinary test user, on a machine whose `/dev/net/tun` is as systemd makes it.
#[test]
fn as_an_ordinary_user_it_runs_or_says_exactly_what_is_missing() {
    const ME: &str = "as_an_ordinary_user_it_runs_or_says_exactly_what_is_missing";
    if !is_root() {
        return rootless();
    }
    ordinary::again(ME, ordinary::WITH_TUN, |_, command| _ = command.env_remove("XDG_RUNTIME_DIR"));
}

#[tokio::main]
async fn rootless() {
    if let Some(site) = site() {
        whole_life(&site).await;
    }
}

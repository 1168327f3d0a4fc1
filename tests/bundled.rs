//! containerd of our own: from an archive on a mirror to a container that answers, and back to nothing.
#![cfg(target_os = "linux")]

mod support;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use lima_runtime::{
    call::{Call, Warnings},
    engine::{ExecOptions, NetworkOptions, containerd::LocalContainerd},
    error::{Error, ErrorCode},
    fetch::manifest::{Choice, Manifest, Part},
    fetch::platform::Platform,
    manager::bundled::BundledRuntime,
    progress::{Phase, ignore},
};
use support::{
    nerdctl_full, ordinary,
    releases::Releases,
    skip::{skip_without, skip_without_root},
    sshd::user,
};

/// A mirror with the archive, and a runtime that takes it from there.
struct Site {
    dir: tempfile::TempDir,
    runtime: BundledRuntime,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `None` where the machine cannot; it has said why.
fn site_of_root() -> Option<Site> {
    if !is_root() {
        skip_without_root("containerd runs as a service of root's");
        return None;
    }
    site()
}

fn site() -> Option<Site> {
    let archive = nerdctl_full::archive()?;
    let server = Releases::start();
    let host = Platform::current().unwrap();
    let mut wanted = Manifest::built_in().find(Part::NerdctlFull, host, &Choice::default()).unwrap();
    let source = wanted.sources.remove(0);
    let mirrored = format!("/{}{}", source.url.host_str().unwrap(), source.url.path());
    // The pinned digest is the real release's; this is another one.
    let sha256 = support::releases::sha256(&archive);
    server.file(&mirrored, archive);
    let dir = tempfile::Builder::new().prefix("lr-b-").tempdir().unwrap();
    let manifest = serde_json::json!({ "schema": 1, "components": { "nerdctl-full": { "version": wanted.version, "platforms": {
        Platform::current().unwrap().guest().as_str(): { "sources": [{ "url": source.url, "sha256": sha256 }] },
    } } } });
    let path = dir.path().join("manifest.json");
    std::fs::write(&path, manifest.to_string()).unwrap();
    let options = serde_json::json!({ "appDir": dir.path(), "manifest": path, "mirror": server.url("") });
    let runtime = BundledRuntime::new(serde_json::from_value(options).unwrap()).unwrap();
    Some(Site { dir, runtime })
}

impl Site {
    fn containerd(&self) -> PathBuf {
        self.dir.path().join("containerd")
    }

    fn nerdctl(&self, args: &[&str]) -> Output {
        Command::new(self.runtime.paths().nerdctl).args(args).env("SECRET", "of-the-caller").output().unwrap()
    }

    fn nerdctl_ok(&self, args: &[&str]) -> String {
        let out = self.nerdctl(args);
        assert!(out.status.success(), "nerdctl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    fn ctr(&self, args: &[&str]) -> String {
        let paths = self.runtime.paths();
        let out = Command::new(paths.containerd.with_file_name("ctr"))
            .args(["--address", paths.address.to_str().unwrap()])
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// A container that serves `page`; returns its port on this machine.
    fn serve(&self, page: &str) -> u16 {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        if nerdctl_full::real_nerdctl().is_some() {
            let image = self.dir.path().join("image.tar");
            nerdctl_full::image(page, &image);
            self.nerdctl_ok(&["load", "-i", image.to_str().unwrap()]);
            let publish = format!("127.0.0.1:{port}:80");
            let id = self.nerdctl_ok(&["run", "-d", "--restart", "always", "-p", &publish, "web:1"]);
            assert_eq!(id.len(), 64);
        } else {
            // Without nerdctl there is no network of its own; the daemon is the same.
            let rootfs = self.dir.path().join("rootfs");
            for dir in ["bin", "proc", "sys", "dev", "etc", "www"] {
                std::fs::create_dir_all(rootfs.join(dir)).unwrap();
            }
            std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
            std::fs::write(rootfs.join("www/index.html"), page).unwrap();
            let listen = format!("127.0.0.1:{port}");
            let rootfs = rootfs.to_str().unwrap();
            let web = ["/bin/busybox", "httpd", "-f", "-p", &listen, "-h", "/www"];
            self.ctr(&[&["run", "--detach", "--null-io", "--net-host", "--rootfs", rootfs, "web"][..], &web].concat());
        }
        port
    }

    /// What is recorded of who we started.
    fn record(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.containerd().join("run/daemon.json")).unwrap()).unwrap()
    }

    fn daemon(&self) -> i32 {
        self.record()["process"]["pid"].as_i64().unwrap().try_into().unwrap()
    }

    /// Processes whose command line names our directory.
    fn processes(&self) -> Vec<String> {
        let ours = self.containerd();
        let ours = ours.to_str().unwrap();
        let line = |e: std::fs::DirEntry| {
            let bytes = std::fs::read(e.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(line).filter(|l| l.contains(ours)).collect()
    }

    fn bridge(&self) -> Option<PathBuf> {
        let text = std::fs::read_to_string(self.runtime.paths().networks.join("nerdctl-bridge.conflist")).ok()?;
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        Some(Path::new("/sys/class/net").join(config["plugins"][0]["bridge"].as_str().unwrap()))
    }

    fn assert_nothing_runs(&self) {
        assert_eq!(self.processes(), Vec::<String>::new());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.containerd().to_str().unwrap()), "{mounts}");
        assert!(self.bridge().is_none_or(|b| !b.exists()));
        assert!(!self.containerd().join("run").exists());
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

/// What the page server says, once it listens.
fn get(port: u16) -> String {
    let began = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let mut text = String::new();
            if stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1") {
                return text.split_once("\r\n\r\n").unwrap().1.to_owned();
            }
        }
        assert!(began.elapsed() < Duration::from_secs(180), "nothing answers at port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn kill(pid: i32) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

/// A process of somebody else's, which says that it has come so far.
struct Bystander(std::process::Child);

impl Bystander {
    fn new(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        let mut child =
            command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        assert_eq!(&up, b"up\n");
        Self(child)
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // And whom it started.
        let group = rustix::process::Pid::from_child(&self.0);
        _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        _ = self.0.wait();
    }
}

/// A network attached while the container runs is attached where the daemon is: its lease lies with the daemon's, and the
/// container has it after a restart, too.
async fn live_network(site: &Site) {
    let (call, paths) = (Call::default(), site.runtime.paths());
    let options = serde_json::json!({
        "address": paths.address, "nerdctlPath": paths.nerdctl, "dataRoot": paths.data_root, "cniPath": paths.cni,
        "cniNetconfPath": paths.networks, "insidePath": paths.inside, "namespace": "default", "exclusive": true,
    });
    let engine = LocalContainerd::new(serde_json::from_value(options).unwrap()).unwrap().adapter;
    let id = site.nerdctl_ok(&["ps", "-q", "--no-trunc"]);
    engine.create_network("live", &NetworkOptions::default(), &call).await.unwrap();
    engine.connect_network(&id, "live", &call).await.unwrap();
    // Its wrapper lets nothing of its caller's environment through, but what is for the process.
    let options = ExecOptions { env: [("KEY".to_owned(), "two\nlines\n".to_owned())].into(), ..ExecOptions::default() };
    let argv = ["/bin/busybox", "cat", "/proc/self/environ"].map(str::to_owned);
    let own = engine.exec(&id, &argv, &options, None, &call).await.unwrap().stdout;
    assert!(own.split(|b| *b == 0).any(|entry| entry == b"KEY=two\nlines\n"), "{}", String::from_utf8_lossy(&own));
    let address = async || {
        let networks = engine.container_details(&id, &call).await.unwrap().networks;
        networks.into_iter().find(|n| n.name == "live").and_then(|n| n.ip_address)
    };
    let leases = site.containerd().join("leases/networks/live");
    let ip = address().await.unwrap();
    assert!(leases.join(&ip).exists(), "{ip}: {:?}", support::releases::tree(&site.containerd().join("leases")));
    assert!(!Path::new("/var/lib/cni/networks/live").join(&ip).exists());
    engine.restart_container(&id, Some(0.0), &call).await.unwrap();
    assert!(leases.join(address().await.unwrap()).exists());
    engine.disconnect_network(&id, "live", &call).await.unwrap();
    assert_eq!(address().await, None);
    let left = std::fs::read_dir(&leases).unwrap().flatten().filter(|e| e.file_name().as_encoded_bytes()[0] != b'l');
    assert_eq!(left.count(), 0, "leases");
    eprintln!("a network came and went with {ip} while the container ran");
}

async fn whole_life(site: &Site) {
    let call = Call::default();
    let runtime = &site.runtime;
    let e = runtime.start_daemon(ignore(), &call).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::NotInstalled);
    let phases = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = phases.clone();
    let began = Instant::now();
    runtime
        .initialize(
            std::sync::Arc::new(move |p: lima_runtime::progress::RuntimeProgress| seen.lock().unwrap().push(p.phase)),
            &call,
        )
        .await
        .unwrap();
    eprintln!("installed and up after {:?}", began.elapsed());
    let phases = std::mem::take(&mut *phases.lock().unwrap());
    for phase in [Phase::Download, Phase::Extract, Phase::Boot, Phase::Ready] {
        assert!(phases.contains(&phase), "{phase:?} in {phases:?}");
    }
    assert!(runtime.is_running().await && runtime.is_installed(&call).await.unwrap());
    runtime.start_daemon(ignore(), &call).await.unwrap();

    if !is_root() && nerdctl_full::real_nerdctl().is_none() {
        // ctr asks for cgroups that an ordinary user has none of; nerdctl does without.
        runtime.uninstall(&call).await.unwrap();
        site.assert_nothing_runs();
        return;
    }
    let port = site.serve("Hello from our own containerd");
    assert_eq!(get(port), "Hello from our own containerd");
    eprintln!("a container answers at port {port}");
    if nerdctl_full::real_nerdctl().is_some() {
        let spec = site.nerdctl_ok(&["ps", "-q"]);
        let spec = site.nerdctl_ok(&["container", "inspect", "--mode=native", &spec]);
        assert!(!spec.contains("of-the-caller"));
        live_network(site).await;
        assert_eq!(get(port), "Hello from our own containerd");
    }

    runtime.stop_daemon(&call).await.unwrap();
    assert!(!runtime.is_running().await);
    site.assert_nothing_runs();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    runtime.stop_daemon(&call).await.unwrap();

    if nerdctl_full::real_nerdctl().is_some() {
        runtime.start_daemon(ignore(), &call).await.unwrap();
        assert_eq!(get(port), "Hello from our own containerd", "restart: always");
        // Uninstalled from running.
        assert!(runtime.is_running().await);
    }
    runtime.uninstall(&call).await.unwrap();
    site.assert_nothing_runs();
    assert!(!site.containerd().exists(), "{:?}", support::releases::tree(&site.containerd()));
    eprintln!("uninstalled: no process, mount, interface or file");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_root_from_a_mirror_to_a_container_and_back_to_nothing() {
    if let Some(site) = site_of_root() {
        whole_life(&site).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_the_old_version_will_do() {
    let Some(site) = site_of_root() else { return };
    let record = || std::fs::read_to_string(site.containerd().join("install.json")).unwrap();
    site.runtime.install(ignore(), &Call::default()).await.unwrap();
    let before = record();
    let path = site.dir.path().join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let part = &mut manifest["components"]["nerdctl-full"];
    part["version"] = "99.0.0".into();
    for platform in part["platforms"].as_object_mut().unwrap().values_mut() {
        let source = &mut platform["sources"][0];
        source["url"] = "https://127.0.0.1:9/new.tar.gz".into();
        source["sha256"] = "0".repeat(64).into();
    }
    std::fs::write(&path, manifest.to_string()).unwrap();
    let call = Call { warnings: Some(Warnings::default()), ..Call::default() };
    site.runtime.install(ignore(), &call).await.unwrap();
    let codes = call.warnings.as_ref().unwrap().take().iter().map(Error::code).collect::<Vec<_>>();
    assert_eq!((codes, record()), (vec![ErrorCode::DownloadFailed], before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_was_killed_is_started_again_and_its_containers_do_not_stay() {
    let Some(site) = site_of_root() else { return };
    let call = Call::default();
    site.runtime.initialize(ignore(), &call).await.unwrap();
    let port = site.serve("first");
    assert_eq!(get(port), "first");
    let id = nerdctl_full::real_nerdctl().map(|_| site.nerdctl_ok(&["ps", "-q", "--no-trunc"]));
    let rules = || Command::new("iptables").args(["-w", "-t", "nat", "-S"]).output().unwrap().stdout;
    let has_rules = |id: &String| String::from_utf8_lossy(&rules()).contains(id);
    assert!(id.as_ref().is_none_or(has_rules));
    kill(site.daemon());
    let began = Instant::now();
    while site.runtime.is_running().await {
        assert!(began.elapsed() < Duration::from_secs(120));
        tokio::task::yield_now().await;
    }
    assert!(!site.processes().is_empty(), "the container goes on without its daemon");
    site.runtime.start_daemon(ignore(), &call).await.unwrap();
    assert!(site.runtime.is_running().await);

    // A number that means another process now: it is left alone, and ours is found all the same.
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    let record = site.containerd().join("run/daemon.json");
    let mut daemon = site.record();
    daemon["process"]["pid"] = other.id().into();
    std::fs::write(&record, daemon.to_string()).unwrap();
    assert!(!site.runtime.is_running().await);
    site.runtime.uninstall(&call).await.unwrap();
    assert!(other.try_wait().unwrap().is_none(), "a process that is not ours was ended");
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(!id.as_ref().is_some_and(has_rules), "rules of the container stay on this machine");
    site.assert_nothing_runs();
    assert!(!site.containerd().exists());
}

/// Whose arguments name our directory, and who looks around in our namespace, is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_daemons_processes_and_nobody_elses() {
    let Some(site) = site_of_root() else { return };
    let call = Call::default();
    site.runtime.initialize(ignore(), &call).await.unwrap();
    let port = site.serve("first");
    assert_eq!(get(port), "first");
    // An administrator who reads the log, and what else runs in the service that he does it in.
    let ours = site.containerd();
    let log = ours.join("containerd.log");
    let tail = "sleep 1000 & echo up; exec tail -n 0 -f \"$1\"";
    let mut service = Bystander::new("unshare", &["--mount", "sh", "-c", tail, "sh", log.to_str().unwrap()]);
    let inside = service.0.id().to_string();
    let mut beside = Bystander::new("nsenter", &["--target", &inside, "--mount", "sh", "-c", "echo up; read x"]);
    // One who went into our namespace by hand, and an editor of one of our files.
    let target = site.daemon().to_string();
    let mut visitor = Bystander::new("nsenter", &["--target", &target, "--mount", "sh", "-c", "echo up; read x"]);
    let config = ours.join("config.toml");
    let mut editor = Bystander::new("sh", &["-c", "echo up; read x", "vi", config.to_str().unwrap()]);
    let mut all_live = || [&mut service, &mut beside, &mut visitor, &mut editor].map(Bystander::lives) == [true; 4];

    // What a killed daemon left is found without it.
    kill(site.daemon());
    site.runtime.start_daemon(ignore(), &call).await.unwrap();
    assert!(all_live(), "started after a crash");
    site.runtime.stop_daemon(&call).await.unwrap();
    assert!(all_live(), "stopped");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    site.runtime.uninstall(&call).await.unwrap();
    assert!(all_live(), "uninstalled");
    drop((service, beside, visitor, editor));
    site.assert_nothing_runs();
}

/// What the wrapper knows of the daemon is a number, which may be another's by now: a container's, with programs of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_wrapper_enters_no_namespace_but_the_daemons() {
    let Some(site) = site_of_root() else { return };
    let call = Call::default();
    site.runtime.initialize(ignore(), &call).await.unwrap();
    // A container whose every program says that it ran, as root of this machine.
    let rootfs = site.dir.path().join("poisoned");
    for dir in ["bin", "usr", "proc", "sys", "dev", "etc", "tmp"] {
        std::fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    std::os::unix::fs::symlink("../bin", rootfs.join("usr/bin")).unwrap();
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    for program in ["env", "sh", "cat", "nsenter", "true"] {
        let path = rootfs.join("bin").join(program);
        std::fs::write(&path, "#!/bin/busybox sh\n/bin/busybox touch /tmp/pwned\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let words = ["run", "--detach", "--null-io", "--net-host", "--rootfs", rootfs.to_str().unwrap(), "poisoned"];
    site.ctr(&[&words[..], &["/bin/busybox", "sleep", "1000"]].concat());
    let tasks = site.ctr(&["tasks", "ls"]);
    let pid = tasks.lines().find(|l| l.starts_with("poisoned")).unwrap().split_whitespace().nth(1).unwrap();
    let pwned = rootfs.join("tmp/pwned");
    let inside = || Command::new(&site.runtime.paths().inside).arg("true").output().unwrap();
    assert!(inside().status.success());

    let run = site.containerd().join("run");
    let entry = run.join("entry");
    let right = std::fs::read_to_string(&entry).unwrap();
    let [daemon, began, boot] = right.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{right}") };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let theirs = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap();
    let another = "00000000-0000-0000-0000-000000000000";
    // Of a daemon that had the container's number; of another boot; no record at all.
    for wrong in [
        format!("{pid} {began} {boot}"),
        format!("{pid} {theirs} {another}"),
        format!("{daemon} {began} {another}"),
        format!("{daemon} {theirs}1 {boot}"),
        format!("{daemon} {began}"),
        format!("../{pid} {theirs} {boot}"),
        String::new(),
    ] {
        std::fs::write(&entry, format!("{wrong}\n")).unwrap();
        // As an earlier version wrote it.
        std::fs::write(run.join("pid"), pid).unwrap();
        for out in [site.nerdctl(&["version"]), inside()] {
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert_eq!((out.status.code(), said.contains("is not running")), (Some(1), true), "{wrong}: {said}");
        }
        assert!(!pwned.exists(), "a program of the container ran as root: {wrong}");
    }
    // The poison works, where it is let in.
    std::fs::write(&entry, format!("{pid} {theirs} {boot}\n")).unwrap();
    let out = inside();
    assert!(pwned.exists(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::write(&entry, right).unwrap();
    assert!(inside().status.success());
    site.runtime.uninstall(&call).await.unwrap();
    site.assert_nothing_runs();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_given_up_leaves_nothing() {
    let Some(site) = site_of_root() else { return };
    site.runtime.install(ignore(), &Call::default()).await.unwrap();
    let call = Call::default();
    let cancel = call.cancel.clone();
    let at_boot = move |p: lima_runtime::progress::RuntimeProgress| {
        if p.phase == Phase::Boot {
            cancel.cancel();
        }
    };
    let e = site.runtime.start_daemon(std::sync::Arc::new(at_boot), &call).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Aborted);
    site.runtime.stop_daemon(&Call::default()).await.unwrap();
    site.assert_nothing_runs();
    // What does not come up says why.
    std::fs::create_dir_all(site.containerd()).unwrap();
    let bad = site.containerd().join("root");
    std::fs::remove_dir_all(&bad).ok();
    std::fs::write(&bad, "in the way").unwrap();
    let e = site.runtime.start_daemon(ignore(), &Call::default()).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::InvalidArgument, "{e}");
    site.runtime.uninstall(&Call::default()).await.unwrap();
    site.assert_nothing_runs();
    assert!(!site.containerd().exists());
}

/// Whoever owns the data directory puts links where root is about to write.
#[tokio::test(flavor = "multi_thread")]
async fn as_root_nothing_is_followed_or_written_in_another_users_directory() {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};
    if !is_root() {
        skip_without_root("who alone must follow nothing");
        return;
    }
    let Some(user) = user() else {
        skip_without("ordinary user to be attacked by");
        return;
    };
    let Some(site) = site() else { return };
    let call = Call::default();
    site.runtime.install(ignore(), &call).await.unwrap();
    let victims = tempfile::tempdir().unwrap();
    let victim = |name: &str| victims.path().join(name);
    std::fs::write(victim("file"), "root's own").unwrap();
    std::fs::create_dir(victim("dir")).unwrap();
    std::fs::write(victim("dir/kept"), "").unwrap();
    std::fs::set_permissions(victim("dir"), PermissionsExt::from_mode(0o700)).unwrap();
    let ours = site.containerd();
    for name in ["bin/nerdctl", "bin/inside", "containerd.log", "config.toml", "nerdctl.toml", ".tmp-install.json"] {
        std::fs::create_dir_all(ours.join(name).parent().unwrap()).unwrap();
        symlink(victim("file"), ours.join(name)).unwrap();
    }
    for name in ["data", "root", "leases"] {
        symlink(victim("dir"), ours.join(name)).unwrap();
    }
    let owned = Command::new("chown").args(["-hR", &user.name]).arg(&ours).status().unwrap();
    assert!(owned.success());

    let refused = |e: lima_runtime::error::Error| {
        assert_eq!((e.code(), e.details()["path"].as_str()), (ErrorCode::PermissionDenied, ours.to_str()), "{e}");
        assert!(e.hint_text().is_some());
    };
    refused(site.runtime.is_installed(&call).await.unwrap_err());
    refused(site.runtime.start_daemon(ignore(), &call).await.unwrap_err());
    refused(site.runtime.initialize(ignore(), &call).await.unwrap_err());
    refused(site.runtime.install(ignore(), &call).await.unwrap_err());
    refused(site.runtime.stop_daemon(&call).await.unwrap_err());
    refused(site.runtime.uninstall(&call).await.unwrap_err());
    assert!(!site.runtime.is_running().await);
    let untouched = || {
        assert_eq!(std::fs::read_to_string(victim("file")).unwrap(), "root's own");
        assert_eq!(std::fs::metadata(victim("dir")).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(victim("dir/kept").exists());
    };
    untouched();

    // Root's again, with the links still in it: what we write replaces them, and what we cannot is named.
    let owned = Command::new("chown").args(["-hR", "root"]).arg(&ours).status().unwrap();
    assert!(owned.success());
    let e = site.runtime.start_daemon(ignore(), &call).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::PermissionDenied, "{e}");
    assert_eq!(e.details()["path"].as_str(), ours.join("containerd.log").to_str());
    untouched();
    // A link of the user's alone, to a directory of his.
    std::fs::remove_file(ours.join("data")).unwrap();
    symlink(victim("dir"), ours.join("data")).unwrap();
    lchown(ours.join("data"), Some(user.uid), Some(user.gid)).unwrap();
    let e = site.runtime.start_daemon(ignore(), &call).await.unwrap_err();
    assert_eq!((e.code(), e.details()["path"].as_str()), (ErrorCode::PermissionDenied, ours.join("data").to_str()));
    untouched();
    site.runtime.uninstall(&call).await.unwrap();
    untouched();
    assert!(!ours.exists());
}

/// As the ordinary test user: on this machine as it is, and on one whose `/dev/net/tun` is as systemd makes it.
#[test]
fn as_an_ordinary_user_it_runs_or_says_exactly_what_is_missing() {
    const ME: &str = "as_an_ordinary_user_it_runs_or_says_exactly_what_is_missing";
    if !is_root() {
        return rootless();
    }
    for prepare in ["exec \"$@\"", ordinary::WITH_TUN] {
        ordinary::again(ME, prepare, |dir, command| {
            if let Some(nerdctl) = nerdctl_full::real_nerdctl() {
                let reachable = dir.join("nerdctl");
                std::fs::copy(nerdctl, &reachable).unwrap();
                command.env("LIMA_RUNTIME_TEST_NERDCTL", reachable);
            }
        });
    }
}

#[tokio::main]
async fn rootless() {
    let Some(site) = site() else { return };
    let call = Call::default();
    site.runtime.install(ignore(), &call).await.unwrap();
    match site.runtime.start_daemon(ignore(), &call).await {
        Ok(()) => {
            eprintln!("rootless: up");
            site.runtime.uninstall(&call).await.unwrap();
            whole_life(&site).await;
        }
        Err(e) => {
            assert_eq!(e.code(), ErrorCode::UnsupportedPlatform, "{e} {:?}", e.details());
            let missing = e.details()["missing"].as_array().unwrap();
            assert!(!missing.is_empty());
            for lack in missing {
                assert!(e.hint_text().unwrap().contains(lack["advice"].as_str().unwrap()));
            }
            eprintln!("rootless: {e}\n  hint: {}", e.hint_text().unwrap());
            site.runtime.uninstall(&call).await.unwrap();
            site.assert_nothing_runs();
            assert!(!site.containerd().exists());
        }
    }
}

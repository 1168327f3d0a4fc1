//! docker compose as it is brought to an engine's machine: fetched once, checked, and put in its place whole or not at all.
#![cfg(target_os = "linux")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use lima_runtime::{
    engine::ComposeProgram,
    error::{Error, ErrorCode, Result},
    fetch::{
        FetchOptions,
        bundle::{self, DownloadOptions},
        http::HttpOptions,
        install::Home,
        manifest::{Choice, Versions},
        platform::Platform,
    },
    guest::{Guest, Socket, local::LocalGuest},
    manager::payload::compose::{Compose, Place},
    process::{Command, Output, Process},
    progress::{ComposeProgress, ComposeState, ignore},
};
use serde_json::json;
use support::releases::{Fault, Releases, sha256, tree};

mod support;

const FILE: &str = "/docker-compose-linux";

struct Bench {
    server: Releases,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(program: &[u8]) -> Self {
        let bench = Self { server: Releases::start(), dir: tempfile::tempdir().unwrap() };
        bench.publish("1.0.0", program);
        bench
    }

    /// This version is now the one that is wanted.
    fn publish(&self, version: &str, program: &[u8]) {
        let path = format!("{FILE}-{version}");
        self.server.file(&path, program);
        let platform = Platform::current().unwrap().guest();
        let sources = json!([{ "url": self.server.url(&path), "sha256": sha256(program), "size": program.len() }]);
        self.manifest(
            &json!({ "compose": { "version": version, "platforms": { platform.as_str(): { "sources": sources } } } }),
        );
    }

    fn manifest(&self, components: &serde_json::Value) {
        fs::write(self.path("manifest.json"), json!({ "schema": 1, "components": components }).to_string()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As another process would have it.
    fn compose(&self) -> Arc<Compose> {
        self.compose_in(Arc::new(LocalGuest::new("")), false)
    }

    fn compose_in(&self, guest: Arc<dyn Guest>, keeps_download: bool) -> Arc<Compose> {
        self.compose_with(guest, keeps_download, None)
    }

    /// With the version that the application asks for.
    fn compose_with(&self, guest: Arc<dyn Guest>, keeps_download: bool, version: Option<&str>) -> Arc<Compose> {
        let versions = Versions { compose: version.map(Into::into), ..Versions::default() };
        let network = FetchOptions {
            manifest: Some(self.path("manifest.json").display().to_string()),
            http: HttpOptions { retries: Some(0), ..HttpOptions::default() },
            choice: Choice { versions, ..Choice::default() },
            ..FetchOptions::default()
        };
        let dir = self.path("guest/compose").display().to_string();
        let place = Place { guest, dir, root: false, keeps_download };
        Compose::new(&Home::new(self.path("home")), &network, vec![self.path("bundled")], place)
    }

    /// What is in the guest.
    fn placed(&self) -> Vec<String> {
        tree(&self.path("guest/compose"))
    }

    /// Of the server so far.
    fn asked(&self) -> usize {
        self.server.take().0.len()
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(300), work).await.expect("hangs")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projects_at_once_fetch_it_once_and_it_is_there_for_all_who_come_later() {
    let program = vec![7; 3_000_000];
    let bench = Bench::new(&program);
    let (one, other) = (bench.compose(), bench.compose());
    assert_eq!(one.there().await.unwrap(), None, "asking fetches nothing");
    assert_eq!(bench.asked(), 0);
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let sink: lima_runtime::progress::Sink<ComposeProgress> = Arc::new(move |e| seen.lock().unwrap().push(e));
    // Of one application, and of two.
    let [a, b, c] = within(async {
        let (a, b, c) = tokio::join!(one.bring(&sink), one.bring(&sink), other.bring(&sink));
        [a.unwrap(), b.unwrap(), c.unwrap()]
    })
    .await;
    assert!(a == b && b == c, "{a} {b} {c}");
    assert_eq!(bench.asked(), 1);
    assert_eq!(fs::read(&a).unwrap(), program);
    assert_eq!(fs::metadata(&a).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(bench.placed(), [format!("{}/docker-compose", sha256(&program))]);
    assert!(!bench.path("home/cache").exists(), "the download is not needed any more");
    let events = std::mem::take(&mut *events.lock().unwrap());
    assert!(events.iter().all(|e| e.resource == "docker compose" && !e.status.is_empty()), "{events:?}");
    assert!(events.iter().any(|e| e.total == Some(program.len() as u64)), "{events:?}");
    let done: Vec<_> = events.iter().filter(|e| e.state == ComposeState::Done).map(|e| &e.status).collect();
    assert_eq!(done, ["docker compose 1.0.0 is installed"]);

    bench.server.remove(&format!("{FILE}-1.0.0"));
    assert_eq!(within(bench.compose().bring(&ignore())).await.unwrap(), a);
    assert_eq!(bench.asked(), 0);

    // A newer one takes its place. While it cannot be had, the older one does, unless somebody asked for the newer one.
    bench.publish("1.0.1", b"newer");
    bench.server.remove(&format!("{FILE}-1.0.1"));
    let compose = bench.compose();
    assert_eq!(within(compose.bring(&ignore())).await.unwrap(), a);
    assert!(bench.asked() > 0);
    assert_eq!(within(compose.bring(&ignore())).await.unwrap(), a);
    assert!(bench.asked() > 0, "the network may be back");
    let asking = bench.compose_with(Arc::new(LocalGuest::new("")), false, Some("1.0.1"));
    let e = within(asking.bring(&ignore())).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::DownloadFailed);
    assert_eq!(fs::read(&a).unwrap(), program);
    bench.publish("1.0.1", b"newer");
    let newer = within(bench.compose().bring(&ignore())).await.unwrap();
    assert_eq!(fs::read(newer).unwrap(), b"newer");
    assert_eq!(bench.placed(), [format!("{}/docker-compose", sha256(b"newer"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_made_anew_gets_what_was_fetched() {
    let bench = Bench::new(b"program");
    let compose = bench.compose_in(Arc::new(LocalGuest::new("")), true);
    let path = within(compose.bring(&ignore())).await.unwrap();
    fs::remove_dir_all(bench.path("guest")).unwrap();
    assert_eq!(bench.asked(), 1);
    assert_eq!(within(compose.bring(&ignore())).await.unwrap(), path);
    assert_eq!((fs::read(&path).unwrap().as_slice(), bench.asked()), (&b"program"[..], 0));
    // Nor is it needed who says which one is wanted, where that is out of reach.
    fs::remove_dir_all(bench.path("guest")).unwrap();
    let manifest = bench.server.url("/none.json");
    let network = FetchOptions {
        manifest: Some(manifest),
        http: HttpOptions { retries: Some(0), ..HttpOptions::default() },
        ..FetchOptions::default()
    };
    let place = || Place {
        guest: Arc::new(LocalGuest::new("")),
        dir: bench.path("guest/compose").display().to_string(),
        root: false,
        keeps_download: true,
    };
    for home in ["home", "elsewhere"] {
        let compose = Compose::new(&Home::new(bench.path(home)), &network, Vec::new(), place());
        assert_eq!(within(compose.bring(&ignore())).await.unwrap(), path, "{home}");
    }
    fs::remove_dir_all(bench.path("guest")).unwrap();
    let compose = Compose::new(&Home::new(bench.path("elsewhere")), &network, Vec::new(), place());
    assert_eq!(within(compose.bring(&ignore())).await.unwrap_err().code(), ErrorCode::DownloadFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_or_is_another_is_said_and_leaves_nothing() {
    let program = vec![1; 2_000_000];
    let bench = Bench::new(&program);
    let refused = async |code: ErrorCode| {
        let e = within(bench.compose().bring(&ignore())).await.expect_err("brought");
        assert_eq!((e.code(), bench.placed()), (code, Vec::new()), "{e}");
        e
    };
    bench.server.faults([Fault::Status(503, "")]);
    let e = refused(ErrorCode::DownloadFailed).await;
    assert!(e.hint_text().unwrap().contains("download --component compose"), "{:?}", e.hint_text());

    bench.server.file(&format!("{FILE}-1.0.0"), vec![2; program.len()]);
    let e = refused(ErrorCode::ChecksumMismatch).await;
    assert_eq!(e.details()["expected"], sha256(&program));

    bench.manifest(&json!({}));
    let e = refused(ErrorCode::NotInstalled).await;
    assert!(e.hint_text().unwrap().contains("`compose`"), "{:?}", e.hint_text());

    // An abort on the way: what has come is kept, and the next one goes on.
    bench.publish("1.0.0", &program);
    bench.server.take();
    bench.server.faults([Fault::Stall(1_000_000)]);
    let compose = bench.compose();
    let sent = async {
        while bench.server.sent() < 1_000_000 {
            tokio::task::yield_now().await;
        }
    };
    let nobody = ignore();
    within(async {
        tokio::select! {
            _ = compose.bring(&nobody) => panic!("brought"),
            () = sent => {}
        }
    })
    .await;
    assert_eq!(bench.placed(), [] as [&str; 0]);
    let path = within(compose.bring(&ignore())).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), program);
}

/// This machine, with a full disk, or with a line that is cut.
struct Odd(LocalGuest, &'static str);

#[async_trait]
impl Guest for Odd {
    async fn run(&self, command: Command) -> Result<Output> {
        self.0.run(command).await
    }

    async fn spawn(&self, command: Command) -> Result<Process> {
        self.0.spawn(command).await
    }

    async fn connect(&self, path: &str) -> Result<Socket> {
        self.0.connect(path).await
    }

    async fn hand_over(&self, command: Command, file: &Path) -> Result<Output> {
        let work = [&["sh", "-c", self.1, "sh"].map(|w| w.as_bytes().to_vec())[..], &command.argv].concat();
        self.0.hand_over(Command { argv: work, ..command }, file).await
    }

    fn containerd_socket(&self) -> &str {
        self.0.containerd_socket()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_room_or_at_the_end_of_a_line_that_is_cut_has_all_of_it_or_nothing() {
    let bench = Bench::new(&vec![3; 1_000_000]);
    let refused = async |how: &'static str| -> Error {
        let compose = bench.compose_in(Arc::new(Odd(LocalGuest::new(""), how)), true);
        let e = within(compose.bring(&ignore())).await.expect_err("placed");
        assert_eq!(bench.placed(), [] as [&str; 0]);
        e
    };
    // The words of a real disk that is full.
    let e = refused("cat >/dev/full").await;
    assert_eq!(e.code(), ErrorCode::DiskFull, "{e}");
    let e = refused(r#"head -c 1000 | "$@""#).await;
    assert_eq!(e.code(), ErrorCode::EngineError, "{e}");
    assert!(e.details()["stderr"].as_str().unwrap().contains("did not arrive whole"), "{:?}", e.details());
    // What one left that was killed goes with the next.
    fs::create_dir_all(bench.path("guest/compose/.new.123456")).unwrap();
    let path = within(bench.compose().bring(&ignore())).await.unwrap();
    assert!(Path::new(&path).exists() && !bench.path("guest/compose/.new.123456").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_ships_it() {
    let bench = Bench::new(b"shipped");
    let options: DownloadOptions = serde_json::from_value(json!({
        "components": ["compose"], "out": bench.path("bundled"), "manifest": bench.path("manifest.json"),
    }))
    .unwrap();
    let reports = within(bundle::download(options, ignore(), &lima_runtime::call::Call::default())).await.unwrap();
    assert_eq!((reports.len(), bench.asked()), (1, 1));
    let path = within(bench.compose().bring(&ignore())).await.unwrap();
    assert_eq!((fs::read(path).unwrap().as_slice(), bench.asked()), (&b"shipped"[..], 0));
}

//! Installing Lima from a release server that misbehaves: what happens on the wire, and what is on the disk afterwards.
#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lima_runtime::{
    call::{Call, Warnings},
    error::{Error, ErrorCode},
    fetch::{
        bundle::{self, DownloadOptions},
        manifest::Part,
        platform::Platform,
        record::Inventory,
    },
    manager::{
        lima::{InstallOptions, LimaRuntime, UninstallOptions},
        payload::UserEngine,
    },
    progress::{self, RuntimeProgress},
};
use releases::{Fault, Releases, lima_archive, sha256, tree};
use serde_json::json;

#[path = "support/releases.rs"]
mod releases;

const MB: usize = 1_000_000;
const LIMA: &str = "/lima-1.2.1.tar.gz";
const IMAGE: &str = "/image.img";
const FULL: &str = "/nerdctl-full.tar.gz";

/// A server with a Lima to install, and an application's data directory.
struct Bench {
    server: Releases,
    dir: tempfile::TempDir,
    archive: Vec<u8>,
}

impl Bench {
    fn new(size: usize) -> Self {
        let (server, dir, archive) = (Releases::start(), tempfile::tempdir().unwrap(), lima_archive(size, "1.2.1"));
        server.file(LIMA, archive.clone());
        let bench = Self { server, dir, archive };
        bench.manifest("1.2.1", &[json!({ "url": bench.server.url(LIMA), "sha256": sha256(&bench.archive) })]);
        bench
    }

    fn manifest(&self, version: &str, sources: &[serde_json::Value]) {
        let platform = Platform::current().unwrap();
        self.components(&json!({
            "lima": { "version": version, "platforms": { platform.as_str(): { "sources": sources } } } }));
    }

    fn components(&self, components: &serde_json::Value) {
        let manifest = json!({ "schema": 1, "components": components });
        fs::write(self.dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    }

    /// Lima, an image and this version of nerdctl-full, on the server and in the manifest.
    fn publish_for_boot(&self, image: &[u8], version: &str, full: &[u8]) {
        let published = |version: &str, platform: Platform, path: &str, bytes: &[u8]| {
            self.server.file(path, bytes);
            let source = json!({ "url": self.server.url(path), "sha256": sha256(bytes) });
            json!({ "version": version, "platforms": { platform.as_str(): { "sources": [source] } } })
        };
        let host = Platform::current().unwrap();
        self.components(&json!({
            "lima": published("1.2.1", host, LIMA, &self.archive),
            "image": published("24.04", host.guest(), IMAGE, image),
            "nerdctl-full": published(version, host.guest(), FULL, full),
        }));
    }

    async fn install_for_boot(&self, sink: progress::Sink<RuntimeProgress>) -> Result<(), Error> {
        self.runtime().install(InstallOptions::for_boot(UserEngine::Containerd.payload()), sink, &Call::default()).await
    }

    /// Bytes of whole and begun downloads.
    fn cached(&self) -> usize {
        let is_note = |path: &str| Path::new(path).extension().is_some_and(|e| e == "json");
        let files = tree(&self.data()).into_iter().filter(|p| p.starts_with("cache/") && !is_note(p));
        files.map(|p| fs::read(self.data().join(p)).unwrap().len()).sum()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("lima")
    }

    fn runtime(&self) -> LimaRuntime {
        self.runtime_with(&json!({}))
    }

    fn runtime_with(&self, more: &serde_json::Value) -> LimaRuntime {
        let mut options = json!({ "dataDir": self.data(), "manifest": self.dir.path().join("manifest.json"),
            "bundledDir": self.dir.path().join("bundled"), "retries": 2, "idleTimeoutMs": 180_000 });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        LimaRuntime::new(serde_json::from_value(options).unwrap()).unwrap()
    }

    async fn install(&self) -> Result<(), Error> {
        self.runtime().install(InstallOptions::default(), progress::ignore(), &Call::default()).await
    }

    async fn refused(&self) -> Error {
        let e = self.install().await.expect_err("installed");
        self.assert_nothing_installed().await;
        e
    }

    async fn assert_nothing_installed(&self) {
        assert!(!self.runtime().is_installed(&Call::default()).await.unwrap());
        let left: Vec<_> = tree(&self.data()).into_iter().filter(|p| !p.starts_with("cache/") && p != "lock").collect();
        assert_eq!(left, [] as [&str; 0]);
    }

    async fn assert_installed(&self, version: &str) {
        let runtime = self.runtime();
        assert!(runtime.is_installed(&Call::default()).await.unwrap());
        let text = fs::read_to_string(runtime.paths().limactl).unwrap();
        assert!(text.contains(version), "{text}");
        assert!(self.data().join("share/lima/templates/default.yaml").exists());
        assert!(self.data().join("share/doc/lima/templates/default.yaml").exists(), "the link works");
        let stray: Vec<_> =
            tree(&self.data()).into_iter().filter(|p| p.contains(".tmp") || p.contains(".part")).collect();
        assert_eq!(stray, [] as [&str; 0]);
    }
}

/// A download under way.
fn is_part(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == "part")
}

#[tokio::test]
async fn an_install_downloads_once_and_is_complete() {
    let bench = Bench::new(3 * MB);
    let events = Arc::new(Mutex::new(Vec::<RuntimeProgress>::new()));
    let into = events.clone();
    let sink: progress::Sink<RuntimeProgress> = Arc::new(move |e| into.lock().unwrap().push(e));
    bench.runtime().install(InstallOptions::default(), sink, &Call::default()).await.unwrap();
    bench.assert_installed("1.2.1").await;
    let (requests, sent) = bench.server.take();
    assert_eq!((requests.len(), sent), (1, bench.archive.len()));
    // The record says what, whence, which digest.
    let inventory = Inventory::read(&bench.data().join("install.json")).unwrap();
    let record = &inventory.components[&Part::Lima];
    assert_eq!((record.version.as_str(), record.sha256.as_str()), ("1.2.1", sha256(&bench.archive).as_str()));
    assert_eq!((record.source.clone(), record.files.len()), (bench.server.url(LIMA), 4));
    // Progress is numbered, and never goes back.
    let events = events.lock().unwrap().clone();
    let percents: Vec<f64> = events.iter().filter_map(|e| e.percent).collect();
    assert!(percents.is_sorted() && percents.last() == Some(&100.0), "{percents:?}");
    assert!(events.iter().all(|e| !e.message.is_empty()));
    // A second install asks for nothing.
    bench.install().await.unwrap();
    assert_eq!(bench.server.take().0, []);
}

#[tokio::test]
async fn all_that_a_boot_needs_comes_at_once_and_is_installed_together_or_not_at_all() {
    let mut bench = Bench::new(2 * MB);
    let (image, full) = (vec![1; 3 * MB], vec![2; MB]);
    let all = bench.archive.len() + image.len() + full.len();
    bench.publish_for_boot(&image, "2.1.6", &full);
    bench.server.remove(IMAGE);
    let e = bench.install_for_boot(progress::ignore()).await.unwrap_err();
    assert_eq!((e.code(), &e.details()["status"]), (ErrorCode::DownloadFailed, &json!(404)));
    bench.assert_nothing_installed().await;

    let kept = bench.cached();
    // Another server: the first may still be answering who has been stopped.
    bench.server = Releases::start();
    bench.publish_for_boot(&image, "2.1.6", &full);
    let events = Arc::new(Mutex::new(Vec::<RuntimeProgress>::new()));
    let into = events.clone();
    bench.install_for_boot(Arc::new(move |e| into.lock().unwrap().push(e))).await.unwrap();
    bench.assert_installed("1.2.1").await;
    assert_eq!(bench.server.take().1, all - kept, "what came of the others was not fetched again");
    assert_eq!(bench.cached(), all);
    let events = events.lock().unwrap();
    let last = events.iter().rfind(|e| e.total.is_some()).unwrap();
    assert_eq!((last.transferred, last.total, last.percent), (Some(all as u64), Some(all as u64), Some(100.0)));
    let percents: Vec<f64> = events.iter().filter_map(|e| e.percent).collect();
    assert!(percents.is_sorted(), "{percents:?}");
}

#[tokio::test]
async fn a_first_boot_fetches_three_files_each_once_and_the_smaller_image() {
    let bench = Bench::new(1000);
    let host = Platform::current().unwrap();
    let publish = |path: &str, platform: Platform, size: usize| {
        let bytes = if path == LIMA { lima_archive(size, "9.2.0") } else { vec![path.as_bytes()[1]; size] };
        let source = json!({ "url": bench.server.url(path), "sha256": sha256(&bytes), "size": bytes.len() });
        bench.server.file(path, bytes);
        json!({ "platforms": { platform.as_str(): { "sources": [source] } } })
    };
    let minimal = publish("/minimal.img", host.guest(), 227_000);
    let variants = json!({ "minimal": minimal, "server": publish("/server-image.img", host.guest(), 620_000) });
    let one =
        |version: &str, release: serde_json::Value| json!({ "default": version, "versions": { version: release } });
    let components = json!({
        "lima": one("9.2.0", publish(LIMA, host, 37_000)),
        "image": one("24.04", json!({ "variants": variants })),
        "nerdctl-full": one("9.3.5", publish(FULL, host.guest(), 88_000)),
    });
    let manifest = json!({ "schema": 2, "components": components });
    fs::write(bench.dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    let boot = async |more: serde_json::Value| {
        let runtime = bench.runtime_with(&more);
        runtime
            .install(InstallOptions::for_boot(UserEngine::Containerd.payload()), progress::ignore(), &Call::default())
            .await
            .unwrap();
        let (requests, sent) = bench.server.take();
        let mut paths: Vec<_> = requests.into_iter().map(|r| r.path).collect();
        paths.sort();
        (paths, sent)
    };
    let (paths, sent) = boot(json!({})).await;
    assert_eq!(paths, [LIMA, "/minimal.img", FULL]);
    assert_eq!(sent, bench.cached(), "not a byte that is not kept");
    // The other image, and nothing else again.
    assert_eq!(boot(json!({ "imageVariant": "server" })).await, (vec!["/server-image.img".to_owned()], 620_000));
    assert_eq!(boot(json!({ "imageVariant": "server" })).await.0, [] as [&str; 0]);
    // Where the default one has gone, as dated images do, the other one; but not for who asked for that very one.
    bench.runtime().uninstall(UninstallOptions::default(), &Call::default()).await.unwrap();
    bench.server.remove("/minimal.img");
    let asked = bench.runtime_with(&json!({ "imageVariant": "minimal" }));
    let e = asked
        .install(InstallOptions::for_boot(UserEngine::Containerd.payload()), progress::ignore(), &Call::default())
        .await
        .unwrap_err();
    assert_eq!((e.code(), &e.details()["status"]), (ErrorCode::DownloadFailed, &json!(404)));
    assert!(!bench.server.take().0.iter().any(|r| r.path == "/server-image.img"));
    let (mut paths, _) = boot(json!({})).await;
    // What was given up with the image may be served, and counted, only now.
    paths.dedup();
    assert!(paths.ends_with(&["/minimal.img".into(), FULL.into(), "/server-image.img".into()]), "{paths:?}");
}

#[tokio::test]
async fn the_archive_that_a_vm_names_outlives_every_clean_up() {
    let bench = Bench::new(100_000);
    let [first, second, third] = [vec![1; 1000], vec![2; 1000], vec![3; 1000]];
    let is_cached = |bytes: &[u8]| bench.data().join("cache/download").join(sha256(bytes)).join(&FULL[1..]).exists();
    let update = async |version: &str, full: &[u8]| {
        bench.publish_for_boot(&[7; 1000], version, full);
        bench.install_for_boot(progress::ignore()).await.unwrap();
        assert!(is_cached(full));
    };
    update("2.1.6", &first).await;
    let vm = bench.data().join("vms/kai");
    fs::create_dir_all(&vm).unwrap();
    let location = bench.data().join("cache/download").join(sha256(&first)).join(&FULL[1..]);
    fs::write(vm.join("lima.yaml"), format!("containerd: {{ archives: [{{ location: {location:?} }}] }}\n")).unwrap();
    update("2.2.0", &second).await;
    assert!(is_cached(&first), "the VM needs it at its next boot");
    update("2.3.0", &third).await;
    assert!(is_cached(&first) && !is_cached(&second));
    bench.runtime().uninstall(UninstallOptions { keep_data: true }, &Call::default()).await.unwrap();
    assert!(is_cached(&first) && !is_cached(&third));
    fs::remove_dir_all(&vm).unwrap();
    update("2.3.0", &third).await;
    assert!(!is_cached(&first));
}

#[tokio::test]
async fn a_connection_cut_again_and_again_is_continued() {
    let bench = Bench::new(4 * MB);
    bench.server.faults((0..12).map(|_| Fault::Cut(300_000)));
    bench.install().await.unwrap();
    bench.assert_installed("1.2.1").await;
    let (requests, sent) = bench.server.take();
    assert_eq!(requests.len(), 13);
    assert_eq!(requests[0].range, None);
    assert!(requests[1..].iter().all(|r| r.range.is_some() && r.if_range.is_some()));
    assert!(sent <= bench.archive.len() * 105 / 100, "{sent} of {}", bench.archive.len());
}

#[tokio::test]
async fn an_abort_ends_a_download_that_stalls_and_the_next_install_goes_on() {
    let bench = Bench::new(4 * MB);
    bench.server.faults([Fault::Stall(2 * MB)]);
    let call = Call::default();
    let running = tokio::spawn({
        let (runtime, call) = (bench.runtime(), call.clone());
        async move { runtime.install(InstallOptions::default(), progress::ignore(), &call).await }
    });
    while bench.server.sent() < 2 * MB {
        tokio::task::yield_now().await;
    }
    let part = || tree(&bench.data()).into_iter().find(|p| is_part(p));
    while part().and_then(|p| fs::metadata(bench.data().join(p)).ok()).is_none_or(|m| m.len() < 1_900_000) {
        tokio::task::yield_now().await;
    }
    call.cancel.cancel();
    assert_eq!(running.await.unwrap().unwrap_err().code(), ErrorCode::Aborted);
    bench.install().await.unwrap();
    bench.assert_installed("1.2.1").await;
    let (requests, sent) = bench.server.take();
    assert!(requests.last().unwrap().range.is_some());
    assert!(sent <= bench.archive.len() * 105 / 100, "{sent} of {}", bench.archive.len());
}

#[tokio::test]
async fn a_file_that_changed_on_the_server_starts_again() {
    for fault in [Fault::None, Fault::NoRanges, Fault::WrongRange] {
        let bench = Bench::new(2 * MB);
        let other = lima_archive(MB, "other");
        bench.server.file(LIMA, other);
        bench.server.faults([Fault::Cut(500_000), Fault::Status(404, "")]);
        assert_eq!(bench.refused().await.code(), ErrorCode::DownloadFailed);
        // The right one is there now, under another ETag.
        bench.server.file(LIMA, bench.archive.clone());
        bench.server.faults([fault.clone()]);
        bench.install().await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        bench.assert_installed("1.2.1").await;
    }
}

#[tokio::test]
async fn bytes_that_rotted_on_the_disk_are_fetched_again() {
    let bench = Bench::new(2 * MB);
    bench.server.faults([Fault::Cut(MB), Fault::Status(404, "")]);
    bench.refused().await;
    let part = tree(&bench.data()).into_iter().find(|p| is_part(p)).unwrap();
    let path = bench.data().join(part);
    let mut bytes = fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    fs::write(&path, bytes).unwrap();
    bench.install().await.unwrap();
    bench.assert_installed("1.2.1").await;
}

#[tokio::test]
async fn one_flipped_bit_is_a_wrong_checksum_wherever_it_is() {
    let bench = Bench::new(200_000);
    let bits = bench.archive.len() * 8;
    for bit in (0..100).map(|i| i * 7919 * 13 % bits).chain([0, 8 * 3, 8 * 10, bits - 1, bits - 64]) {
        let mut flipped = bench.archive.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        bench.server.file(LIMA, flipped);
        let e = bench.refused().await;
        assert_eq!(e.code(), ErrorCode::ChecksumMismatch, "bit {bit}: {e}");
        assert_eq!(e.details()["expected"], sha256(&bench.archive));
        assert_eq!(tree(&bench.data()).iter().filter(|p| p.starts_with("cache")).count(), 0);
    }
}

#[tokio::test]
async fn what_the_server_says_decides_on_another_try() {
    let bench = Bench::new(100_000);
    bench.server.faults([Fault::Status(503, ""), Fault::Status(429, "retry-after: 1\r\n")]);
    let started = Instant::now();
    bench.install().await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "Retry-After");
    bench.runtime().uninstall(UninstallOptions::default(), &Call::default()).await.unwrap();

    bench.server.take();
    bench.server.faults([Fault::Status(403, ""), Fault::None]);
    let e = bench.refused().await;
    assert_eq!((e.code(), &e.details()["status"]), (ErrorCode::DownloadFailed, &json!(403)));
    assert_eq!(e.details()["url"], bench.server.url(LIMA));
    assert_eq!(bench.server.take().0.len(), 1, "403 is final");

    bench.server.faults([Fault::Status(500, ""), Fault::Status(502, ""), Fault::Status(504, "")]);
    let e = bench.refused().await;
    assert_eq!((e.code(), &e.details()["status"]), (ErrorCode::DownloadFailed, &json!(504)));

    bench.server.faults([Fault::Status(429, "retry-after: 86400\r\n")]);
    assert_eq!(bench.refused().await.details()["retryAfterSeconds"], 86400);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_and_tried_again() {
    let bench = Bench::new(MB);
    bench.server.faults([Fault::Stall(400_000)]);
    let runtime = bench.runtime_with(&json!({ "idleTimeoutMs": 300 }));
    runtime.install(InstallOptions::default(), progress::ignore(), &Call::default()).await.unwrap();
    bench.assert_installed("1.2.1").await;
    assert_eq!(bench.server.take().0.len(), 2);
}

#[tokio::test]
async fn sources_are_tried_in_order_and_one_without_a_digest_is_none() {
    let bench = Bench::new(100_000);
    let gone = json!({ "url": bench.server.url("/gone.tar.gz"), "sha256": "0".repeat(64) });
    let there = json!({ "url": bench.server.url(LIMA), "sha256": sha256(&bench.archive) });
    // A list of digests beside the file comes from whoever sends the file, a mirror for one.
    let bare = json!({ "url": bench.server.url("/r/lima-x.tar.gz") });
    bench.server.file("/r/SHA256SUMS", format!("{}  lima-x.tar.gz\n", sha256(&bench.archive)));
    bench.server.file("/r/lima-x.tar.gz", bench.archive.clone());
    bench.manifest("1.2.1", &[bare.clone(), gone, there]);
    bench.install().await.unwrap();
    bench.assert_installed("1.2.1").await;
    let paths = || bench.server.take().0.into_iter().map(|r| r.path).collect::<Vec<_>>();
    assert_eq!(paths(), ["/gone.tar.gz", LIMA]);
    bench.runtime().uninstall(UninstallOptions::default(), &Call::default()).await.unwrap();
    bench.manifest("1.2.1", &[bare]);
    let e = bench.refused().await;
    assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("manifest")));
    assert_eq!(e.details()["url"], bench.server.url("/r/lima-x.tar.gz"), "it names the source");
    assert_eq!(paths(), [] as [&str; 0], "nothing is asked for");
}

#[tokio::test]
async fn no_byte_is_taken_beyond_the_size_of_the_file() {
    let bench = Bench::new(100_000);
    let size = bench.archive.len();
    let source = |size: Option<usize>| {
        let mut source = json!({ "url": bench.server.url(LIMA), "sha256": sha256(&bench.archive) });
        if let Some(size) = size {
            source["size"] = json!(size);
        }
        source
    };
    // What was asked for, and then bytes without end.
    bench.manifest("1.2.1", &[source(Some(size))]);
    bench.server.faults([Fault::Endless]);
    let e = bench.refused().await;
    assert_eq!((e.code(), &e.details()["expected"]), (ErrorCode::ChecksumMismatch, &json!(size)));
    let (requests, sent) = bench.server.take();
    assert_eq!(requests.len(), 1, "nor is it asked for again");
    // What the connection holds by itself is on its way before anyone can end it.
    assert!(sent < 16 * MB, "{sent} bytes after the last one");
    assert!(bench.cached() <= size, "{} bytes are kept", bench.cached());
    // Where the manifest says no size there is still an end.
    bench.manifest("1.2.1", &[source(None)]);
    bench.server.faults([Fault::Announce(1 << 40)]);
    let e = bench.refused().await;
    assert_eq!((e.code(), &e.details()["actual"]), (ErrorCode::ChecksumMismatch, &json!(1u64 << 40)));
    assert_eq!(bench.server.take().0.len(), 1);
    bench.install().await.unwrap();
    bench.assert_installed("1.2.1").await;
}

#[tokio::test]
async fn a_manifest_without_end_is_none() {
    let bench = Bench::new(1000);
    let install = async |manifest: &str| {
        let runtime = bench.runtime_with(&json!({ "manifest": manifest }));
        runtime.install(InstallOptions::default(), progress::ignore(), &Call::default()).await.unwrap_err()
    };
    let e = install("/dev/zero").await;
    assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("manifest")));
    bench.server.file("/manifest.json", "{");
    bench.server.faults([Fault::Endless]);
    let e = install(&bench.server.url("/manifest.json")).await;
    assert_eq!(e.code(), ErrorCode::DownloadFailed);
    let (requests, sent) = bench.server.take();
    assert!(requests.len() == 1 && sent < 16 * MB, "{} requests, {sent} bytes", requests.len());
    // Nor does a refusal have one.
    bench.server.faults([Fault::Status(403, "transfer-encoding: chunked\r\n")]);
    assert_eq!(install(&bench.server.url("/manifest.json")).await.details()["status"], 403);
}

#[tokio::test]
async fn a_hostile_archive_with_the_right_digest_leaves_nothing_behind() {
    let bench = Bench::new(1000);
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(1);
    tar.append_data(&mut header, "bin/limactl", &b"x"[..]).unwrap();
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "out", "/etc/passwd").unwrap();
    let hostile = tar.into_inner().unwrap().finish().unwrap();
    bench.server.file(LIMA, hostile.clone());
    bench.manifest("1.2.1", &[json!({ "url": bench.server.url(LIMA), "sha256": sha256(&hostile) })]);
    let e = bench.refused().await;
    assert_eq!((e.code(), &e.details()["entry"]), (ErrorCode::ArchiveUnsafe, &json!("out")));
    assert_eq!(tree(&bench.data()), ["lock"]);
}

#[tokio::test]
async fn repair_reads_every_byte_and_mends_without_a_network() {
    let bench = Bench::new(500_000);
    bench.install().await.unwrap();
    let agent = bench.data().join("current/share/lima/lima-guestagent.Linux-x86_64.gz");
    let mut bytes = fs::read(&agent).unwrap();
    bytes[77] ^= 1;
    fs::write(&agent, &bytes).unwrap();
    fs::write(bench.data().join("versions/.tmp-killed"), "leftover").unwrap();
    bench.server.remove(LIMA);
    bench.install().await.unwrap();
    assert_eq!(fs::read(&agent).unwrap(), bytes, "only repair reads the bytes");
    let repair = InstallOptions { repair: true, ..InstallOptions::default() };
    bench.runtime().install(repair, progress::ignore(), &Call::default()).await.unwrap();
    assert_ne!(fs::read(&agent).unwrap(), bytes);
    bench.assert_installed("1.2.1").await;
    // What is plainly not whole is seen without being asked to look.
    fs::remove_file(&agent).unwrap();
    assert!(!bench.runtime().is_installed(&Call::default()).await.unwrap());
    bench.install().await.unwrap();
    bench.assert_installed("1.2.1").await;
}

#[tokio::test]
async fn many_at_once_download_once() {
    let bench = Bench::new(2 * MB);
    let all = (0..8).map(|_| bench.install());
    for done in futures_util::future::join_all(all).await {
        done.unwrap();
    }
    assert_eq!(bench.server.take().0.len(), 1);
    // Somebody else at work: the timeout says so, unless nothing is to be done.
    let _held = bench.runtime().lock(&Call::default(), None).await.unwrap();
    bench.install().await.unwrap();
    let call = Call { timeout: Some(Duration::from_millis(50)), ..Call::default() };
    let repair = InstallOptions { repair: true, ..InstallOptions::default() };
    let e = bench.runtime().install(repair, progress::ignore(), &call).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Locked);
}

#[tokio::test]
async fn a_newer_version_replaces_the_old_one_but_not_under_a_running_vm() {
    let bench = Bench::new(100_000);
    bench.install().await.unwrap();
    let newer = lima_archive(100_000, "1.10.0");
    bench.server.file("/new.tar.gz", newer.clone());
    bench.manifest("1.10.0", &[json!({ "url": bench.server.url("/new.tar.gz"), "sha256": sha256(&newer) })]);
    // A VM runs, as far as its host agent's command line shows (docs/reference/lima.md#pid-files); `sh` takes any further
    // words.
    let vm = bench.data().join("vms/kai");
    fs::create_dir_all(&vm).unwrap();
    fs::write(vm.join("lima.yaml"), "").unwrap();
    let pid_file = vm.canonicalize().unwrap().join("ha.pid");
    let mut agent = std::process::Command::new("/bin/sh")
        .args(["-c", "echo; read x", "limactl", "hostagent", "--pidfile", pid_file.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Spawned, it has for a moment no command line at all.
    std::io::Read::read_exact(&mut agent.stdout.take().unwrap(), &mut [0]).unwrap();
    fs::write(&pid_file, agent.id().to_string()).unwrap();
    bench.install().await.unwrap();
    bench.assert_installed("1.2.1").await;
    let e = bench.runtime().uninstall(UninstallOptions::default(), &Call::default()).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::InUse);
    // It died, and after a reboot somebody else has its number: that is no VM.
    agent.kill().unwrap();
    agent.wait().unwrap();
    fs::write(&pid_file, std::process::id().to_string()).unwrap();
    bench.install().await.unwrap();
    bench.assert_installed("1.10.0").await;
    assert!(!bench.data().join("versions/1.2.1").exists(), "nothing uses it");
    // A VM of the newer one is not given to the older one.
    bench.manifest("1.2.1", &[json!({ "url": bench.server.url(LIMA), "sha256": sha256(&bench.archive) })]);
    bench.install().await.unwrap();
    bench.assert_installed("1.10.0").await;
}

#[tokio::test]
async fn without_a_network_the_old_version_will_do_unless_the_new_one_is_asked_for() {
    let bench = Bench::new(1000);
    bench.install().await.unwrap();
    bench.manifest("1.10.0", &[json!({ "url": "http://127.0.0.1:9/new.tar.gz", "sha256": "0".repeat(64) })]);
    let call = Call { warnings: Some(Warnings::default()), ..Call::default() };
    let install = async |options| bench.runtime().install(options, progress::ignore(), &call).await;
    install(InstallOptions::default()).await.unwrap();
    bench.assert_installed("1.2.1").await;
    let codes = call.warnings.as_ref().unwrap().take().iter().map(Error::code).collect::<Vec<_>>();
    assert_eq!(codes, [ErrorCode::DownloadFailed]);
    let asked = InstallOptions { released: true, ..InstallOptions::default() };
    assert_eq!(install(asked).await.unwrap_err().code(), ErrorCode::DownloadFailed);
    bench.assert_installed("1.2.1").await;
}

/// Several versions of Lima in a manifest of schema 2, on the server.
fn publish_versions(bench: &Bench, default: &str, versions: &[(&str, Option<&str>)]) {
    let platform = Platform::current().unwrap();
    let release = |&(version, advice): &(&str, Option<&str>)| {
        let (path, bytes) = (format!("/lima-{version}.tar.gz"), lima_archive(50_000, version));
        let source = json!({ "url": bench.server.url(&path), "sha256": sha256(&bytes), "size": bytes.len() });
        bench.server.file(&path, bytes);
        let release = json!({ "advice": advice, "platforms": { platform.as_str(): { "sources": [source] } } });
        (version.to_owned(), release)
    };
    let versions: serde_json::Map<_, _> = versions.iter().map(release).collect();
    let components = json!({ "lima": { "default": default, "versions": versions } });
    let manifest = json!({ "schema": 2, "components": components });
    fs::write(bench.dir.path().join("manifest.json"), manifest.to_string()).unwrap();
}

fn versions(lima: &str) -> serde_json::Value {
    json!({ "versions": { "lima": lima } })
}

#[tokio::test]
async fn a_version_can_be_asked_for_and_one_with_an_advice_warns() {
    let bench = Bench::new(1000);
    publish_versions(&bench, "9.2.0", &[("9.2.0", None), ("9.1.2", Some("out of support"))]);
    let call = Call { warnings: Some(Warnings::default()), ..Call::default() };
    let install = async |more: &serde_json::Value| {
        bench.runtime_with(more).install(InstallOptions::default(), progress::ignore(), &call).await
    };
    let advised = || {
        let warnings = call.warnings.as_ref().unwrap().take();
        warnings.iter().filter(|w| w.message().contains("9.1.2")).map(Error::code).collect::<Vec<_>>()
    };
    install(&json!({})).await.unwrap();
    bench.assert_installed("9.2.0").await;
    assert_eq!(advised(), []);
    let e = install(&versions("9.9.9")).await.unwrap_err();
    assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("versions.lima")));
    assert!(e.message().contains("9.1.2, 9.2.0"), "{}", e.message());
    bench.assert_installed("9.2.0").await;
    // Beside the other one, and switched.
    install(&versions("9.1.2")).await.unwrap();
    bench.assert_installed("9.1.2").await;
    assert_eq!(advised(), [ErrorCode::OutdatedVersion]);
}

#[tokio::test]
async fn an_older_version_is_refused_over_a_vm_and_the_newer_one_stays_for_who_asks_for_none() {
    let bench = Bench::new(1000);
    publish_versions(&bench, "9.2.0", &[("9.2.0", None), ("9.1.2", None)]);
    bench.install().await.unwrap();
    let vm = bench.data().join("vms/kai");
    fs::create_dir_all(&vm).unwrap();
    fs::write(vm.join("lima.yaml"), "").unwrap();
    let older = bench.runtime_with(&versions("9.1.2"));
    let install = async || older.install(InstallOptions::default(), progress::ignore(), &Call::default()).await;
    let e = install().await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::InvalidState);
    assert_eq!((&e.details()["installed"], &e.details()["wanted"]), (&json!("9.2.0"), &json!("9.1.2")));
    bench.assert_installed("9.2.0").await;
    publish_versions(&bench, "9.1.2", &[("9.1.2", None)]);
    bench.install().await.unwrap();
    bench.assert_installed("9.2.0").await;
    // Without the VM nothing is in the way.
    fs::remove_dir_all(&vm).unwrap();
    install().await.unwrap();
    bench.assert_installed("9.1.2").await;
}

/// What `npx lima-runtime download` makes, in `<dir>/bundled`.
async fn bundle_of(bench: &Bench) -> bundle::DownloadReport {
    let (out, manifest) = (bench.dir.path().join("bundled"), bench.dir.path().join("manifest.json"));
    let options: DownloadOptions = serde_json::from_value(json!({ "out": out, "manifest": manifest })).unwrap();
    bundle::download(options, progress::ignore(), &Call::default()).await.unwrap().remove(0)
}

/// As [`Bench::new`]'s manifest, which also says what is in the archive: the bundle is then unpacked.
async fn name_contents(bench: &Bench) {
    let contents = bundle_of(bench).await.contents.unwrap();
    let source = json!({ "url": bench.server.url(LIMA), "sha256": sha256(&bench.archive), "contents": contents });
    bench.manifest("1.2.1", &[source]);
}

#[tokio::test]
async fn a_bundle_is_found_and_installs_without_a_network() {
    for unpacked in [false, true] {
        let bench = Bench::new(500_000);
        let call = Call::default();
        let there = async || bench.runtime().has_pre_bundled(&call).await.unwrap();
        assert!(!there().await);
        if unpacked {
            name_contents(&bench).await;
            fs::remove_dir_all(bench.dir.path().join("bundled")).unwrap();
            bench.server.take();
        }
        let report = bundle_of(&bench).await;
        let file = report.path.join(if unpacked { "bin/limactl" } else { &LIMA[1..] });
        assert!(report.downloaded && file.exists());
        let out = bench.dir.path().join("bundled");
        let platform = Platform::current().unwrap();
        assert!(tree(&out).iter().all(|p| p.starts_with(platform.as_str())), "{:?}", tree(&out));
        // What is there and whole is not fetched again; what is not, is.
        assert!(!bundle_of(&bench).await.downloaded);
        assert_eq!(bench.server.take().0.len(), 1);
        fs::write(&file, "tampered").unwrap();
        assert!(bundle_of(&bench).await.downloaded);

        assert!(there().await);
        bench.server.take();
        bench.server.remove(LIMA);
        bench.install().await.unwrap();
        bench.assert_installed("1.2.1").await;
        assert_eq!(bench.server.take().0, []);

        // A bundle whose bytes are wrong is not installed.
        bench.runtime().uninstall(UninstallOptions::default(), &call).await.unwrap();
        let damaged = if unpacked {
            report.path.join("share/lima/lima-guestagent.Linux-x86_64.gz")
        } else {
            report.path.join(&LIMA[1..])
        };
        let mut bytes = fs::read(&damaged).unwrap();
        bytes[5] ^= 1;
        fs::write(&damaged, bytes).unwrap();
        assert!(there().await, "nobody has read it yet");
        assert_eq!(bench.refused().await.code(), ErrorCode::DownloadFailed, "asked the network, which has it no more");
    }
}

#[tokio::test]
async fn a_bundle_is_believed_by_the_manifest_not_by_its_own_list() {
    for unpacked in [false, true] {
        let bench = Bench::new(50_000);
        if unpacked {
            name_contents(&bench).await;
        }
        let report = bundle_of(&bench).await;
        bench.server.remove(LIMA);
        // Somebody who can write there puts a program of theirs in, and its digest into the list.
        let list = report.path.with_file_name("bundle.json");
        let mut inventory: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
        let record = &mut inventory["components"]["lima"];
        let theirs = if unpacked {
            let program = b"#!/bin/sh\necho theirs\n".to_vec();
            fs::write(report.path.join("bin/limactl"), &program).unwrap();
            program
        } else {
            let archive = lima_archive(1000, "theirs");
            fs::write(report.path.join(&LIMA[1..]), &archive).unwrap();
            record["sha256"] = json!(sha256(&archive));
            archive
        };
        let file = record["files"].as_array_mut().unwrap().iter_mut().find(|f| {
            let path = f["path"].as_str().unwrap();
            path == "bin/limactl" || path == &LIMA[1..]
        });
        let file = file.unwrap();
        (file["size"], file["sha256"]) = (json!(theirs.len()), json!(sha256(&theirs)));
        fs::write(&list, inventory.to_string()).unwrap();
        assert!(!bench.runtime().has_pre_bundled(&Call::default()).await.unwrap());
        assert_eq!(bench.refused().await.code(), ErrorCode::DownloadFailed, "nothing of theirs is taken");
        // A manifest beside it says nothing either: the one that ships with the package decides.
        fs::copy(bench.dir.path().join("manifest.json"), list.with_file_name("manifest.json")).unwrap();
        let options = json!({ "dataDir": bench.data(), "bundledDir": bench.dir.path().join("bundled"),
            "mirror": bench.server.url("") });
        let runtime = LimaRuntime::new(serde_json::from_value(options).unwrap()).unwrap();
        assert!(!runtime.has_pre_bundled(&Call::default()).await.unwrap());
    }
}

#[tokio::test]
async fn a_bundles_list_opens_no_file_to_others() {
    let bench = Bench::new(1000);
    bench.publish_for_boot(&vec![1; 9000], "9.3.5", &vec![2; 9000]);
    let (out, manifest) = (bench.dir.path().join("bundled"), bench.dir.path().join("manifest.json"));
    let options = json!({ "out": out, "manifest": manifest, "components": ["lima", "image", "nerdctl-full"] });
    let options: DownloadOptions = serde_json::from_value(options).unwrap();
    bundle::download(options, progress::ignore(), &Call::default()).await.unwrap();
    let list = out.join(Platform::current().unwrap().as_str()).join("bundle.json");
    let mut inventory: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    for part in ["lima", "image", "nerdctl-full"] {
        inventory["components"][part]["files"][0]["mode"] = json!(0o666);
    }
    fs::write(&list, inventory.to_string()).unwrap();
    bench.server.take();
    bench.install_for_boot(progress::ignore()).await.unwrap();
    assert_eq!(bench.server.take().0, [], "all of it comes from the bundle");
    let cache = tree(&bench.data()).into_iter().filter(|p| p.starts_with("cache/")).collect::<Vec<_>>();
    assert_eq!(cache.len(), 2, "{cache:?}");
    for path in cache {
        let mode = fs::metadata(bench.data().join(&path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644, "{path}");
    }
}

#[tokio::test]
async fn a_bundle_of_another_version_than_the_one_asked_for_is_left() {
    let bench = Bench::new(1000);
    publish_versions(&bench, "9.1.2", &[("9.1.2", None), ("9.2.0", None)]);
    bundle_of(&bench).await;
    let call = Call::default();
    // Whoever asks for none gets what the application ships.
    publish_versions(&bench, "9.2.0", &[("9.1.2", None), ("9.2.0", None)]);
    bench.install().await.unwrap();
    bench.assert_installed("9.1.2").await;
    let newer = bench.runtime_with(&versions("9.2.0"));
    assert!(!newer.has_pre_bundled(&call).await.unwrap());
    newer.install(InstallOptions::default(), progress::ignore(), &call).await.unwrap();
    bench.assert_installed("9.2.0").await;
}

#[tokio::test]
async fn uninstall_removes_what_we_installed_and_nothing_else() {
    let bench = Bench::new(50_000);
    bench.install().await.unwrap();
    fs::write(bench.data().join("the users own.txt"), "").unwrap();
    fs::create_dir_all(bench.data().join("vms/kai")).unwrap();
    fs::write(bench.data().join("vms/kai/lima.yaml"), "").unwrap();
    let call = Call::default();
    bench.runtime().uninstall(UninstallOptions { keep_data: true }, &call).await.unwrap();
    assert_eq!(tree(&bench.data()), ["the users own.txt", "vms/kai/lima.yaml"]);
    bench.runtime().uninstall(UninstallOptions::default(), &call).await.unwrap();
    assert_eq!(tree(&bench.data()), ["the users own.txt"]);
    fs::remove_file(bench.data().join("the users own.txt")).unwrap();
    bench.runtime().uninstall(UninstallOptions::default(), &call).await.unwrap();
    assert!(!bench.data().exists());
}

#[tokio::test]
async fn what_the_state_file_names_is_removed_only_where_we_made_it() {
    let bench = Bench::new(50_000);
    bench.install().await.unwrap();
    for file in ["install.json", "lock"] {
        let mode = fs::metadata(bench.data().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    // Whoever can write one small file could have any directory removed.
    let precious = bench.dir.path().join("documents");
    fs::create_dir_all(precious.join("default")).unwrap();
    fs::write(precious.join("default/lima.yaml"), "").unwrap();
    fs::write(precious.join("thesis.txt"), "").unwrap();
    let call = Call::default();
    for named in [&precious, bench.dir.path(), Path::new("/tmp")] {
        fs::write(bench.data().join("state.json"), json!({ "limaHome": named, "resources": {} }).to_string()).unwrap();
        assert_eq!(bench.runtime().state().lima_home, None);
        assert_eq!(bench.runtime().lima_home(), bench.data().join("vms"));
    }
    // What was configured meanwhile is written beside it, and loses it not.
    fs::write(bench.data().join("state.json"), json!({ "limaHome": precious, "resources": {} }).to_string()).unwrap();
    let resources = serde_json::from_value(json!({ "cpus": 1 })).unwrap();
    let call = Call { warnings: Some(Warnings::default()), ..call };
    bench.runtime().configure(resources, &call).await.unwrap();
    let warnings = call.warnings.as_ref().unwrap().take();
    let named = |w: &Error| w.code() == ErrorCode::InvalidState && w.message().contains("documents");
    assert!(warnings.iter().any(named), "{warnings:?}");
    let state = fs::read_to_string(bench.data().join("state.json")).unwrap();
    assert!(state.contains("documents") && state.contains("cpus"), "{state}");
    assert_eq!(fs::metadata(bench.data().join("state.json")).unwrap().permissions().mode() & 0o777, 0o600);
    bench.runtime().uninstall(UninstallOptions::default(), &call).await.unwrap();
    assert_eq!(tree(&precious), ["default/lima.yaml", "thesis.txt"]);
    assert!(!bench.data().exists());
}

#[tokio::test]
async fn a_wrong_manifest_is_the_callers_mistake() {
    let bench = Bench::new(1000);
    let install = async |more| {
        let runtime = bench.runtime_with(&more);
        runtime.install(InstallOptions::default(), progress::ignore(), &Call::default()).await.unwrap_err()
    };
    let e = install(json!({ "manifest": "/no/such.json" })).await;
    assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("manifest")));
    // Who answers it decides what is installed; on this machine that is nobody else.
    let e = install(json!({ "manifest": "http://192.0.2.1/m.json" })).await;
    assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("manifest")));
    let e = install(json!({ "mirror": "nonsense" })).await;
    assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("mirror")));
    let e = install(json!({ "dataDir": Path::new("/proc/nowhere") })).await;
    assert_eq!(e.code(), ErrorCode::InvalidArgument, "{e}");
}

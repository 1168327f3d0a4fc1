//! containerd's API against a real containerd, runc and cgroups.
#![cfg(target_os = "linux")]

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use lima_runtime::{
    engine::{
        ContainerState, EventOptions, LabelledMethods, RuntimeType,
        containerd::{Api, ContainerdEngine, Settings, answering},
    },
    error::ErrorCode,
    guest::local::LocalGuest,
    manager::payload::{UserEngine, left::Running},
};
use support::containerd::Containerd;

mod support;

/// Long enough for a busy machine; a test that gets here has failed.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(180), work).await.expect("hangs")
}

fn api(daemon: &Containerd) -> (Api, String) {
    let namespace = daemon.namespace();
    let guest = LocalGuest::new(daemon.socket().to_str().unwrap());
    (Api::new(Arc::new(guest), &namespace).unwrap(), namespace)
}

const SLEEP: &[&str] = &["sleep", "1000"];

#[tokio::test]
async fn reads_what_runs_and_what_ended() {
    let Some(daemon) = Containerd::start() else { return };
    let (api, ns) = api(&daemon);
    assert!(!within(api.version()).await.unwrap().is_empty());
    assert_eq!(within(api.containers(vec![])).await.unwrap(), vec![]);
    // containerd 1.6 knows nothing but `always`; 1.7 and later name it among others.
    assert!(within(api.restart_policies()).await.unwrap().contains(&"always".to_owned()));

    daemon.run(&ns, "web", &["nerdctl/name=web-1"], SLEEP);
    daemon.run(&ns, "job", &["nerdctl/name=job-1"], &["sh", "-c", "exit 7"]);
    daemon.run(&format!("{ns}-2"), "other", &[], SLEEP);

    assert_eq!(within(api.wait("job")).await.unwrap(), 7);
    let all = within(api.containers(vec![])).await.unwrap();
    assert_eq!(all.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["job", "web"]);
    let by_name = within(api.containers(vec!["labels.\"nerdctl/name\"==web-1".into()])).await.unwrap();
    assert_eq!(by_name[0].id, "web");
    let tasks = within(api.tasks()).await.unwrap();
    assert_eq!(tasks["web"].state, ContainerState::Running);
    assert!(tasks["web"].pid > 1);
    assert_eq!((tasks["job"].state, tasks["job"].exit_code), (ContainerState::Exited, Some(7)));
    assert_eq!(within(api.task("nosuch")).await.unwrap(), None);
    let e = within(api.container("nosuch")).await.unwrap_err();
    assert_eq!((e.code(), e.details()["id"].as_str()), (ErrorCode::ContainerNotFound, Some("nosuch")));
}

/// As before another engine takes its place in a VM.
#[tokio::test]
async fn what_an_engine_holds_is_listed_by_what_its_payload_says() {
    let Some(daemon) = Containerd::start() else { return };
    let ns = daemon.namespace();
    daemon.run(&ns, "web", &["nerdctl/name=web-1", "lima-runtime.app=kai"], SLEEP);
    daemon.run(&ns, "job", &["nerdctl/name=job-1"], &["sh", "-c", "exit 7"]);
    daemon.run(&format!("{ns}-2"), "other", &[], SLEEP);
    let socket = daemon.socket();
    let socket = socket.to_str().unwrap();
    let list = async |namespaces: &[&str]| {
        let at = Running {
            guest: Arc::new(LocalGuest::new(socket)),
            socket,
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
            data_root: None,
            app: "kai",
        };
        let held = within(UserEngine::Containerd.payload().held(&at)).await.unwrap();
        let mut held: Vec<_> = held.into_iter().map(|c| (c.info.name, c.own)).collect();
        held.sort();
        held
    };
    let ours = [("job-1".to_owned(), false), ("web-1".to_owned(), true)];
    assert_eq!(list(&[&ns]).await, ours);
    assert_eq!(list(&[&ns, &format!("{ns}-2")]).await.len(), 3);
}

#[tokio::test]
async fn labels_are_set_one_by_one() {
    let Some(daemon) = Containerd::start() else { return };
    let (api, ns) = api(&daemon);
    daemon.run(&ns, "web", &["keep=1", "change=1"], SLEEP);
    let new = "commas, \"quotes\"\nand {\"json\": 1}";
    within(api.set_labels("web", HashMap::from([("change".into(), new.into())]))).await.unwrap();
    let labels = within(api.container("web")).await.unwrap().labels;
    assert_eq!((labels["keep"].as_str(), labels["change"].as_str()), ("1", new));
}

#[tokio::test]
async fn pause_resume_kill() {
    let Some(daemon) = Containerd::start() else { return };
    let (api, ns) = api(&daemon);
    daemon.run(&ns, "web", &[], SLEEP);
    within(api.pause("web")).await.unwrap();
    assert_eq!(within(api.task("web")).await.unwrap().unwrap().state, ContainerState::Paused);
    within(api.resume("web")).await.unwrap();
    within(api.kill("web", 9)).await.unwrap();
    assert_eq!(within(api.wait("web")).await.unwrap(), 137);
    assert_eq!(within(api.kill("web", 9)).await.unwrap_err().code(), ErrorCode::ContainerNotFound);
}

#[tokio::test]
async fn one_burning_core_reads_as_one_core() {
    let Some(daemon) = Containerd::start() else { return };
    let (api, ns) = api(&daemon);
    daemon.run(&ns, "burn", &[], &["sh", "-c", "while :; do :; done"]);
    let began = Instant::now();
    let first = within(api.sample("burn")).await.unwrap();
    // Until half a second of CPU time has been used, however busy the machine is.
    let second = within(async {
        loop {
            let s = api.sample("burn").await.unwrap();
            if s.cpu > first.cpu + Duration::from_millis(500) {
                return s;
            }
        }
    })
    .await;
    // Both readings are within.
    assert!(second.cpu <= first.cpu + began.elapsed().mul_f64(1.1));
    assert!(second.memory_used > 0);
    assert_eq!(within(api.sample("nosuch")).await.unwrap_err().code(), ErrorCode::InvalidState);
}

// ctr blocks a thread, and the events must flow meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_our_namespace_only_and_no_exec_ends() {
    let Some(daemon) = Containerd::start() else { return };
    let ns = daemon.namespace();
    let guest = LocalGuest::new(daemon.socket().to_str().unwrap());
    let settings = Settings::system(Arc::new(guest), RuntimeType::Containerd, &ns, "kai");
    let find = move || -> lima_runtime::engine::containerd::Finding { Box::pin(answering(settings.clone())) };
    let engine = ContainerdEngine::new(RuntimeType::Containerd, Box::new(find));
    let mut events = within(engine.events(&EventOptions::default())).await.unwrap();
    daemon.run(&format!("{ns}-2"), "other", &[], &["sh", "-c", "exit 5"]);
    daemon.run(&ns, "web", &[], SLEEP);
    daemon.ctr(&ns, &["tasks", "exec", "--exec-id", "e", "web", "/bin/busybox", "true"]);
    daemon.run(&ns, "last", &[], &["sh", "-c", "exit 3"]);
    let mut all = Vec::new();
    while !matches!(all.last(), Some((action, id, _)) if action == "die" && id == "last") {
        let event = within(events.next()).await.unwrap().unwrap();
        all.push((event.action, event.id, event.exit_code));
    }
    assert!(all.contains(&("start".into(), "web".into(), None)), "{all:?}");
    let ends: Vec<_> = all.iter().filter(|(action, ..)| action == "die").collect();
    assert_eq!(ends, [&("die".to_owned(), "last".to_owned(), Some(3))]);
}

#[tokio::test]
async fn a_restarted_daemon_is_found_again_and_a_stopped_one_is_said_to_be_down() {
    let Some(mut daemon) = Containerd::start() else { return };
    let (api, ns) = api(&daemon);
    daemon.run(&ns, "web", &[], SLEEP);
    assert_eq!(within(api.tasks()).await.unwrap().len(), 1);
    daemon.down();
    let e = within(api.tasks()).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::ContainerdNotReady, "{e}");
    daemon.up();
    // The first call may still meet the old connection; none after it does.
    let _ = within(api.tasks()).await;
    assert_eq!(within(api.tasks()).await.unwrap()["web"].state, ContainerState::Running);
}

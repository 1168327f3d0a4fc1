//! A lock that somebody else holds: another process, another user. One test, because it counts this process's threads.
#![cfg(target_os = "linux")]

mod support;

use std::{
    io::{BufRead, BufReader},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use lima_runtime::{call::Call, error::ErrorCode, manager::bundled::BundledRuntime};

/// Another process that has the lock, as `user` where one is named.
fn holder(path: &Path, user: Option<&support::sshd::User>) -> Child {
    let mut command = Command::new("flock");
    command.arg(path).args(["-c", "echo held; read x"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    child
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

const WAITING: usize = 1_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_held_elsewhere_ends_by_the_deadline_and_costs_one_thread() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("containerd");
    std::fs::create_dir(&data).unwrap();
    let runtime = || {
        let options = serde_json::json!({ "dataDir": data });
        BundledRuntime::new(serde_json::from_value(options).unwrap()).unwrap()
    };
    let mut process = holder(&data.join("lock"), None);
    // Whatever this runtime starts once is there before we count.
    let soon = Call { timeout: Some(Duration::from_millis(50)), ..Call::default() };
    assert_eq!(runtime().stop_daemon(&soon).await.unwrap_err().code(), ErrorCode::Locked);
    let before = threads();

    let call = Call::default();
    let waiting: Vec<_> = (0..WAITING)
        .map(|_| {
            let (runtime, call) = (runtime(), call.clone());
            tokio::spawn(async move { runtime.stop_daemon(&call).await.map_err(|e| e.code()) })
        })
        .collect();
    let e = runtime().stop_daemon(&soon).await.unwrap_err();
    assert_eq!((e.code(), &e.details()["timeoutMs"]), (ErrorCode::Locked, &50.into()));
    let counted = threads();
    eprintln!("{WAITING} waiting calls: {before} threads before, {counted} now");
    assert!(counted <= before + 4, "{before} threads became {counted}");
    call.cancel.cancel();
    for task in waiting {
        assert_eq!(task.await.unwrap(), Err(ErrorCode::Aborted));
    }

    // It is had as soon as that process has gone, by all who wait.
    let call = Call::default();
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (runtime, call) = (runtime(), call.clone());
            tokio::spawn(async move { runtime.stop_daemon(&call).await })
        })
        .collect();
    process.kill().unwrap();
    process.wait().unwrap();
    // The shell that it started has the lock, too, until its input ends.
    for task in waiting {
        task.await.unwrap().unwrap();
    }

    if !rustix::process::geteuid().is_root() {
        support::skip::skip_without_root("the part of another user");
        return;
    }
    let Some(user) = support::sshd::user() else {
        support::skip::skip_without("ordinary user");
        return;
    };
    // Another user cannot open the lock's file; as an earlier version left it, he could, and keep it.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let lock = data.join("lock");
    let tries = Command::new("flock").arg("--nonblock").arg(&lock).arg("true").uid(user.uid).gid(user.gid).output();
    assert!(!tries.unwrap().status.success());
    std::fs::set_permissions(&lock, PermissionsExt::from_mode(0o644)).unwrap();
    let mut theirs = holder(&lock, Some(&user));
    let e = runtime().stop_daemon(&soon).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Locked);
    theirs.kill().unwrap();
    theirs.wait().unwrap();
    runtime().stop_daemon(&Call::default()).await.unwrap();

    // A directory of his is none for root, whatever lock lies in it.
    chown(&data, Some(user.uid), Some(user.gid)).unwrap();
    let e = runtime().stop_daemon(&soon).await.unwrap_err();
    assert_eq!((e.code(), e.details()["path"].as_str()), (ErrorCode::PermissionDenied, data.to_str()));
    let e = runtime().uninstall(&soon).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::PermissionDenied);
    assert!(lock.exists());
}

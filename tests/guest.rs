//! What every guest must do, against this machine and against a real sshd; then what only SSH can get wrong.
#![cfg(unix)]

use std::{
    future::Future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use lima_runtime::{
    error::ErrorCode,
    guest::{
        Guest,
        local::LocalGuest,
        ssh::SshGuest,
        wsl::{WslGuest, text},
    },
    process::{Chunk, Command, Exit},
};
use proptest::prelude::*;
use rustix::process::Signal;
use support::{sshd::Sshd, wsl::Computer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

mod support;

/// Long enough for a busy machine; a test that gets here has failed.
const HANG: Duration = Duration::from_secs(180);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, work).await.expect("hangs")
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < HANG, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn sh(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

fn alive(pid: i32) -> bool {
    // A zombie is gone: nobody but its parent can tell.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// The number a script wrote with `echo $$ > file`, once it is there.
async fn pid_in(path: &Path) -> i32 {
    let mut pid = None;
    until("no pid file", || {
        pid = std::fs::read_to_string(path).ok().filter(|t| t.ends_with('\n')).and_then(|t| t.trim().parse().ok());
        pid.is_some()
    })
    .await;
    pid.unwrap()
}

async fn contract(guest: Arc<dyn Guest>, dir: &Path, alive: impl Fn(i32) -> bool) {
    // Exit code, both streams, environment, input.
    let command = sh("cat; echo \"$GREETING\" >&2; exit 7").env("GREETING", "it's $HOME\n").input("in\0put");
    let out = within(guest.run(command)).await.unwrap();
    assert_eq!(out.exit, Exit::Code(7));
    assert_eq!(out.stdout, b"in\0put");
    assert_eq!(out.stderr, b"it's $HOME\n\n");

    // Ends that are easily confused.
    assert_eq!(within(guest.run(sh("exit 255"))).await.unwrap().exit, Exit::Code(255));
    assert_eq!(within(guest.run(sh("kill -9 $$"))).await.unwrap().exit, Exit::Signal("KILL".into()));

    // Input: large and echoed, large and never read, none.
    let big: Vec<u8> = (0..5_000_000u32).map(|i| (i % 251) as u8).collect();
    let out = within(guest.run(Command::new(["cat"]).input(big.clone()))).await.unwrap();
    assert!(out.stdout == big, "{} bytes came back of {}", out.stdout.len(), big.len());
    let out = within(guest.run(sh("exit 3").input(big.clone()))).await.unwrap();
    assert_eq!(out.exit, Exit::Code(3));
    assert_eq!(within(guest.run(Command::new(["cat"]))).await.unwrap().stdout, b"");

    // Many at once, more than a server allows sessions.
    let all = (0..25).map(|i| guest.run(Command::new(["printf".to_owned(), "%s".into(), format!("{i}")])));
    for (i, out) in within(futures_util::future::join_all(all)).await.into_iter().enumerate() {
        assert_eq!(out.unwrap().stdout, i.to_string().into_bytes());
    }

    // A child that holds the output does not hold the answer.
    let out = within(guest.run(sh("echo done; sleep 300 & exec true"))).await.unwrap();
    assert_eq!((out.exit, &out.stdout[..]), (Exit::Code(0), &b"done\n"[..]));

    // Streams: input and output in turns.
    let mut p = within(guest.spawn(Command::new(["cat"]).input("one"))).await.unwrap();
    assert_eq!(within(p.next()).await, Some(Chunk::Stdout("one".into())));
    p.stdin.as_ref().unwrap().send("two".into()).await.unwrap();
    assert_eq!(within(p.next()).await, Some(Chunk::Stdout("two".into())));
    p.stdin = None;
    assert_eq!(within(p.next()).await, None);
    assert_eq!(within(p.exit()).await.unwrap(), Exit::Code(0));

    // A reader that stops reading stops the command, not the guest.
    let mut slow = within(guest.spawn(Command::new(["yes"]))).await.unwrap();
    assert!(within(slow.next()).await.is_some());
    assert!(within(guest.run(Command::new(["true"]))).await.unwrap().success());
    drop(slow);

    // Dropping the future ends the command, also one that does not want to.
    for (name, script) in [("polite", ""), ("stubborn", "trap '' TERM; ")] {
        let file = dir.join(name);
        let script = format!("{script}echo $$ > '{}'; while :; do sleep 0.1; done", file.display());
        let running = tokio::spawn({
            let guest = guest.clone();
            async move { guest.run(sh(&script)).await }
        });
        let pid = pid_in(&file).await;
        assert!(alive(pid));
        running.abort();
        until(&format!("{name} still runs"), || !alive(pid)).await;
    }
    // So does dropping a stream.
    let file = dir.join("streamed");
    let p = within(guest.spawn(sh(&format!("echo $$ > '{}'; exec sleep 300", file.display())))).await.unwrap();
    let pid = pid_in(&file).await;
    drop(p);
    until("streamed still runs", || !alive(pid)).await;

    // Cancelled commands give their place back: more of them than a server allows sessions.
    for _ in 0..12 {
        let cancelled = tokio::time::timeout(Duration::from_millis(30), guest.run(Command::new(["sleep", "300"])));
        assert!(cancelled.await.is_err());
    }
    assert!(within(guest.run(Command::new(["true"]))).await.unwrap().success());

    // Sockets.
    let path = dir.join("echo.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut r, mut w) = socket.split();
                _ = tokio::io::copy(&mut r, &mut w).await;
            });
        }
    });
    let path = path.to_str().unwrap();
    let mut socket = within(guest.connect(path)).await.unwrap();
    socket.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    within(socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"ping");
    let e = within(guest.connect("/nonexistent/containerd.sock")).await.err().unwrap();
    assert_eq!(e.code(), ErrorCode::ContainerdNotReady);

    // What no program can get is refused before anything runs.
    for bad in [
        Command::default(),
        Command::new([""]),
        Command::new(["a=b"]),
        Command::new([&b"echo"[..], b"a\0b"]),
        Command::new(["true"]).env("A=B", "c"),
        Command::new(["true"]).env("1A", "c"),
        Command::new(["true"]).env("A", "b\0"),
    ] {
        let e = within(guest.run(bad.clone())).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::InvalidArgument, "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_machine_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract(Arc::new(LocalGuest::new("/run/containerd/containerd.sock")), dir.path(), alive).await;
    let e = LocalGuest::new("").run(Command::new(["/nonexistent/program"])).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::NotInstalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_keeps_the_contract() {
    let Some(sshd) = Sshd::start() else { return };
    let shared = sshd.path("shared");
    std::fs::create_dir(&shared).unwrap();
    sshd.give("shared");
    contract(Arc::new(sshd.guest()), &shared, alive).await;
    let out = sshd.guest().run(Command::new(["/nonexistent/program"])).await.unwrap();
    assert_eq!(out.exit, Exit::Code(127));
    assert!(!String::from_utf8_lossy(&out.stderr).contains("lima-runtime-pid"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wsl_distribution_keeps_the_contract() {
    let Some(computer) = Computer::start() else { return };
    let guest = computer.guest("kai-1", "/run/none.sock").await;
    let shared = computer.path("shared");
    std::fs::create_dir(&shared).unwrap();
    contract(Arc::new(guest.clone()), &shared, |pid| computer.processes("kai-1").iter().any(|(_, p)| *p == pid)).await;
    let out = guest.run(Command::new(["/nonexistent/program"])).await.unwrap();
    assert_eq!(out.exit, Exit::Code(127));
    assert!(!String::from_utf8_lossy(&out.stderr).contains("lima-runtime"));
    // Nothing of this side's or of WSL's own environment.
    let out = guest.run(Command::new(["env"]).env("A", "b")).await.unwrap();
    let expected = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOME=/root\nLANG=C.UTF-8\nA=b\n";
    assert!(String::from_utf8_lossy(&out.stdout).replace("PWD=/\n", "").ends_with(expected), "{out:?}");
}

/// Arbitrary words through `printf`, which prints each with a NUL after it.
fn comes_back(guest: &dyn Guest, cases: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let words = prop::collection::vec(prop::collection::vec(1u8..=255, 0..200), 1..12);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(words in words)| {
        let mut argv = vec![b"printf".to_vec(), b"%s\\0".to_vec()];
        argv.extend(words.iter().cloned());
        let out = runtime.block_on(within(guest.run(Command::new(argv)))).unwrap();
        let expected: Vec<u8> = words.iter().flat_map(|w| [w, &b"\0"[..]].concat()).collect();
        prop_assert_eq!(out.stdout, expected);
        prop_assert_eq!(out.stderr, b"");
    });
    // Near the guest's limit for one argument, and past Windows' for a whole command line.
    let long = vec![b'x'; 120_000];
    let out = runtime.block_on(within(guest.run(Command::new([&b"printf"[..], b"%s", &long])))).unwrap();
    assert!(out.stdout == long);
}

#[test]
fn any_argument_vector_comes_back_byte_for_byte_through_sshd() {
    if let Some(sshd) = Sshd::start() {
        comes_back(&sshd.guest(), 200);
    }
}

#[test]
fn any_argument_vector_comes_back_byte_for_byte_through_wsl() {
    let Some(computer) = Computer::start() else { return };
    let guest = tokio::runtime::Runtime::new().unwrap().block_on(computer.guest("kai-1", "/run/none.sock"));
    comes_back(&guest, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_wsl_is_told_apart() {
    let Some(computer) = Computer::start() else { return };
    let guest = computer.guest("kai-1", "/run/none.sock").await;
    let run = |guest: WslGuest| async move { within(guest.run(Command::new(["true"]))).await };
    // In both encodings.
    for old in [false, true] {
        computer.set("old", old);
        within(computer.wsl().terminate("kai-1")).await.unwrap();
        // The guest remembers for a while that it was up: another one does not.
        let fresh = WslGuest::new(computer.wsl(), "kai-1", "/run/none.sock");
        let e = run(fresh.clone()).await.unwrap_err();
        assert_eq!((e.code(), &e.details()["distribution"]), (ErrorCode::VmNotRunning, &"kai-1".into()), "{e}");
        let Err(e) = fresh.connect("/run/none.sock").await else { panic!("a stopped distribution has no socket") };
        assert_eq!(e.code(), ErrorCode::VmNotRunning);
        assert!(computer.init("kai-1").is_none(), "asking must not start it");

        let e = run(WslGuest::new(computer.wsl(), "kai-2", "")).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::NotInstalled, "{e}");
        assert!(e.hint_text().is_some());

        let boot = async || guest.boot(Command::new(["true"])).await.unwrap_err();
        computer.set("novm", true);
        let e = boot().await;
        assert_eq!((e.code(), e.hint_text()), (ErrorCode::UnsupportedPlatform, Some(text::ENABLE_VIRTUALIZATION)));
        assert_eq!(computer.wsl().check().await.unwrap_err().message(), e.message());
        computer.set("novm", false);
        computer.wsl().check().await.unwrap();

        computer.set("missing", true);
        let e = boot().await;
        assert_eq!((e.code(), e.hint_text()), (ErrorCode::UnsupportedPlatform, Some(text::INSTALL_WSL)));
        assert_eq!(e.details()["missing"][0]["advice"], text::INSTALL_WSL);
        computer.set("missing", false);
        assert!(guest.boot(Command::new(["true"])).await.unwrap().output().await.unwrap().success());
    }
    // Not even the program is there.
    let none = lima_runtime::guest::wsl::Wsl::at("/nonexistent/wsl.exe");
    let e = none.check().await.unwrap_err();
    assert_eq!((e.code(), e.hint_text()), (ErrorCode::UnsupportedPlatform, Some(text::INSTALL_WSL)));

    // Without a program between its sockets and us.
    let path = computer.path("listens.sock");
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    let path = path.to_str().unwrap();
    drop(within(guest.connect(path)).await.unwrap());
    for name in ["socat", "nc", "buildctl"] {
        let shadow = format!("printf '#!/bin/sh\nexit 1\n' >/usr/local/bin/{name}; chmod 755 /usr/local/bin/{name}");
        assert!(within(guest.run(sh(&format!("mkdir -p /usr/local/bin; {shadow}")))).await.unwrap().success());
    }
    let Err(e) = within(guest.connect(path)).await else { panic!("nothing can open it") };
    assert_eq!(e.code(), ErrorCode::PermissionDenied);
    assert!(e.hint_text().unwrap().contains("socat"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wsl_exe_that_was_ended_is_an_error_and_leaves_no_orphan() {
    let Some(computer) = Computer::start() else { return };
    let guest = computer.guest("kai-1", "/run/none.sock").await;
    let file = computer.path("under");
    let script = format!("echo $$ > '{}'; exec sleep 300", file.display());
    let running = tokio::spawn({
        let guest = guest.clone();
        async move { guest.run(sh(&script)).await }
    });
    let pid = pid_in(&file).await;
    let lives = || computer.processes("kai-1").iter().any(|(_, p)| *p == pid);
    let [carrier] = computer.carriers("kai-1")[..] else { panic!("one command is under way") };
    assert!(lives());
    _ = rustix::process::kill_process(rustix::process::Pid::from_raw(carrier).unwrap(), Signal::KILL);
    let e = within(running).await.unwrap().unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning, "no exit code that the command might have had: {e}");
    until("the command goes on without its wsl.exe", || !lives()).await;

    // A distribution that is stopped under a command. What ended the command before it may still be at work in there.
    let file = computer.path("stopped");
    let script = format!("echo $$ > '{}'; exec sleep 300", file.display());
    let running = tokio::spawn({
        let guest = guest.clone();
        async move { guest.run(sh(&script)).await }
    });
    pid_in(&file).await;
    within(computer.wsl().terminate("kai-1")).await.unwrap();
    assert_eq!(within(running).await.unwrap().unwrap_err().code(), ErrorCode::VmNotRunning);
    let e = within(guest.run(Command::new(["true"]))).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning);
    assert!(computer.init("kai-1").is_none(), "asking must not start it");

    // Ended before the command began, where it says nothing: as `false` does.
    let ended = WslGuest::new(lima_runtime::guest::wsl::Wsl::at("/bin/false"), "kai-1", "");
    assert_eq!(ended.boot(Command::new(["true"])).await.err().unwrap().code(), ErrorCode::VmNotRunning);

    // Given up while it starts: nothing runs afterwards.
    for _ in 0..5 {
        let given_up = tokio::time::timeout(Duration::from_millis(5), guest.boot(Command::new(["sleep", "300"])));
        drop(given_up.await);
    }
    assert!(guest.boot(Command::new(["true"])).await.unwrap().output().await.unwrap().success());
    until("something is left", || computer.processes("kai-1").len() <= 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_comes_back_after_the_server_was_gone() {
    let Some(mut sshd) = Sshd::start() else { return };
    let guest = sshd.guest();
    let path = sshd.path("api.sock");
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    sshd.give("api.sock");
    let path = path.to_str().unwrap();
    assert!(within(guest.run(Command::new(["true"]))).await.unwrap().success());
    let _socket = within(guest.connect(path)).await.unwrap();

    // Under a command: an error, and not an exit code that the command might have had.
    let file = sshd.path("under");
    let script = format!("echo $$ > '{}'; exec sleep 300", file.display());
    let running = tokio::spawn({
        let guest = guest.clone();
        async move { guest.run(sh(&script)).await }
    });
    let orphan = pid_in(&file).await;
    sshd.down();
    let e = within(running).await.unwrap().unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning);
    _ = rustix::process::kill_process(rustix::process::Pid::from_raw(orphan).unwrap(), Signal::KILL);

    // While it is down.
    assert_eq!(within(guest.run(Command::new(["true"]))).await.unwrap_err().code(), ErrorCode::VmNotRunning);
    assert_eq!(within(guest.connect(path)).await.err().unwrap().code(), ErrorCode::VmNotRunning);

    // And back, by itself.
    sshd.up();
    assert!(within(guest.run(Command::new(["true"]))).await.unwrap().success());
    within(guest.connect(path)).await.unwrap();

    // A connection that we dropped ourselves is made again, too.
    guest.disconnect().await;
    assert!(within(guest.run(Command::new(["true"]))).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_given_up() {
    let Some(sshd) = Sshd::start() else { return };
    let guest = sshd.guest();
    within(guest.run(Command::new(["true"]))).await.unwrap();
    sshd.signal(Signal::STOP);
    let e = within(guest.run(Command::new(["true"]))).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning);
    // All who wait are told, and not one after the other.
    let many = (0..24).map(|_| guest.spawn(Command::new(["true"])));
    for answer in within(futures_util::future::join_all(many)).await {
        assert_eq!(answer.err().unwrap().code(), ErrorCode::VmNotRunning);
    }
    sshd.signal(Signal::CONT);
    assert!(within(guest.spawn(Command::new(["true"]))).await.unwrap().output().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_closes_does_not_wait_for_a_login() {
    let Some(sshd) = Sshd::start() else { return };
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = sshd.target();
    target.port = silent.local_addr().unwrap().port();
    let guest = SshGuest::new(target);
    let asked = tokio::spawn({
        let guest = guest.clone();
        async move { guest.run(Command::new(["true"])).await }
    });
    let _login = within(silent.accept()).await.unwrap();
    // The login itself may take 30 s.
    tokio::time::timeout(Duration::from_secs(10), guest.disconnect()).await.unwrap();
    let e = within(asked).await.unwrap().unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning);
    assert!(e.message().contains("was closed"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_at_our_port_is_not_our_guest() {
    let Some(mut sshd) = Sshd::start() else { return };
    // Also before we have ever been connected; and it does not matter that nobody else is there.
    for kind in ["ed25519", "ecdsa"] {
        let Some(other) = Sshd::with_keys([kind, "ed25519"]) else { return };
        for program in [true, false] {
            let mut target = if program { sshd.target_with_program() } else { sshd.target() };
            (target.port, target.user) = (other.port, sshd.target().user);
            std::fs::copy(other.path("user"), sshd.path("user-there")).unwrap();
            target.identity = sshd.path("user-there");
            let guest = SshGuest::new(target);
            let e = within(guest.run(Command::new(["true"]))).await.unwrap_err();
            assert_eq!(e.code(), ErrorCode::VmNotRunning, "{e}");
            assert!(e.message().contains("not our VM"), "{e}");
            let e = within(guest.connect("/run/containerd/containerd.sock")).await.err().unwrap();
            assert!(e.message().contains("not our VM"), "{e}");
        }
    }
    within(sshd.guest().run(Command::new(["true"]))).await.unwrap();
    let pinned = std::fs::read(sshd.path("pin")).unwrap();
    sshd.down();
    sshd.new_host_key();
    sshd.up();
    let e = within(sshd.guest().run(Command::new(["true"]))).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning);
    assert!(e.message().contains("not our VM"), "{e}");
    assert_eq!(std::fs::read(sshd.path("pin")).unwrap(), pinned);

    // Nothing is learnt from an answer: without a pin nobody is the guest.
    std::fs::remove_file(sshd.path("pin")).unwrap();
    let e = within(sshd.guest().run(Command::new(["true"]))).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning);
    assert!(!sshd.path("pin").exists());
    sshd.pin();
    within(sshd.guest().run(Command::new(["true"]))).await.unwrap();
}

/// Whoever sits at the VM's port once, before or after it, decides nothing for later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_odd_answer_is_no_reason_for_the_ssh_program() {
    let Some(sshd) = Sshd::start() else { return };
    let Some(mut odd) = Sshd::start() else { return };
    odd.down();
    odd.configure("Ciphers aes256-ctr");
    odd.up();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = sshd.target_with_program();
    target.port = listener.local_addr().unwrap().port();
    // The program would be seen: it ends at once with words of its own.
    target.program.as_mut().unwrap().config = sshd.path("nonexistent");
    let port = sshd.port;
    let oddities: [&[u8]; 4] = [
        b"SSH-1.0-x\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14\0\0",
        &[0xff; 10_000],
    ];
    for (i, oddity) in oddities.iter().map(Some).chain([None]).enumerate() {
        let guest = SshGuest::new(target.clone());
        let first = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            if let Some(bytes) = oddity {
                _ = socket.write_all(bytes).await;
                _ = socket.shutdown().await;
                _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
            } else {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", odd.port)).await.unwrap();
                _ = tokio::io::copy_bidirectional(&mut socket, &mut server).await;
            }
        };
        let (answer, ()) = within(async { tokio::join!(guest.run(Command::new(["true"])), first) }).await;
        let e = answer.unwrap_err();
        assert_eq!(e.code(), ErrorCode::VmNotRunning, "{i}: {e}");
        let programs = e.message().contains("ssh cannot reach");
        assert_eq!(programs, oddity.is_none(), "{i}: only a cipher that we do not know is for the program: {e}");
        assert!(e.message().len() < 500, "{i}: {e}");

        let second = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            _ = tokio::io::copy_bidirectional(&mut socket, &mut server).await;
        };
        let answer = async {
            let out = guest.run(Command::new(["true"])).await;
            guest.disconnect().await;
            out
        };
        let (answer, ()) = within(async { tokio::join!(answer, second) }).await;
        assert!(answer.unwrap_or_else(|e| panic!("{i}: {e}")).success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_run_as_root_ends_when_it_is_cancelled() {
    let Some(sshd) = Sshd::start() else { return };
    let guest = sshd.guest();
    let probe = within(guest.run(Command::new(["id", "-u"]).root())).await.unwrap();
    if !probe.success() {
        support::skip::skip_without(format_args!("sudo: {}", String::from_utf8_lossy(&probe.stderr).trim()));
        return;
    }
    assert_eq!(probe.stdout, b"0\n");
    for (name, script) in [("root", ""), ("stubborn-root", "trap '' TERM; ")] {
        let file = sshd.path(name);
        let script = format!("{script}echo $$ > '{}'; while :; do sleep 0.1; done", file.display());
        let running = tokio::spawn({
            let guest = guest.clone();
            async move { guest.run(sh(&script).root().env("A", "b")).await }
        });
        let pid = pid_in(&file).await;
        running.abort();
        until(&format!("{name} still runs"), || !alive(pid)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_on_the_server_when_the_guest_is_dropped() {
    let Some(sshd) = Sshd::start() else { return };
    let guest = sshd.guest();
    for _ in 0..3 {
        let p = within(guest.spawn(Command::new(["sleep", "300"]))).await.unwrap();
        drop(p);
    }
    within(guest.run(Command::new(["true"]))).await.unwrap();
    let connections = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ours = format!("0100007F:{:04X}", sshd.port);
        table.lines().filter(|l| l.split_whitespace().nth(1) == Some(&ours) && l.contains(" 01 ")).count()
    };
    assert!(connections() > 0);
    drop(guest);
    until("connections stay open", || connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_at_once_all_get_in() {
    let Some(mut sshd) = Sshd::start() else { return };
    // Its own limit, beyond which it refuses: ours and the connection of short commands.
    sshd.configure("MaxStartups 5:100:5");
    sshd.down();
    sshd.up();
    let guest = sshd.guest();
    let many = (0..30).map(|_| guest.spawn(Command::new(["cat"])));
    let running: Vec<_> = within(futures_util::future::join_all(many)).await.into_iter().map(Result::unwrap).collect();
    for process in running {
        assert!(within(process.output()).await.unwrap().success());
    }
    // One after the other: on the same connection.
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let said = within(guest.spawn(sh("echo $SSH_CONNECTION"))).await.unwrap().output().await.unwrap();
        ports.insert(said.stdout);
    }
    assert_eq!(ports.len(), 1, "{ports:?}");

    // Those who leave while they wait for their turn let the others in.
    let gone = (0..30).map(|_| tokio::time::timeout(Duration::from_millis(1), guest.spawn(Command::new(["cat"]))));
    drop(futures_util::future::join_all(gone).await);
    assert!(within(guest.spawn(Command::new(["true"]))).await.unwrap().output().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_nobody_reads_stalls_no_other() {
    let Some(sshd) = Sshd::start() else { return };
    let guest = sshd.guest();
    let path = sshd.path("api.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    sshd.give("api.sock");
    // Sends without an end to who asks for that, and tells when nobody takes any more; to everybody else what it gets.
    let (full, mut is_full) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let full = full.clone();
            tokio::spawn(async move {
                let mut asked = [0; 4];
                socket.read_exact(&mut asked).await.unwrap();
                if &asked == b"flow" {
                    let (piece, mut told) = (vec![b'x'; 64 << 10], false);
                    loop {
                        match tokio::time::timeout(Duration::from_secs(2), socket.write_all(&piece)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(_)) => return,
                            Err(_) if told => {}
                            Err(_) => told = full.send(()).is_ok(),
                        }
                    }
                }
                socket.write_all(&asked).await.unwrap();
            });
        }
    });
    let path = path.to_str().unwrap();
    let echo = async || {
        let mut socket = within(guest.connect(path)).await.unwrap();
        socket.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        within(socket.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"ping");
    };
    let mut flows = Vec::new();
    for _ in 0..3 {
        let mut flow = within(guest.connect(path)).await.unwrap();
        flow.write_all(b"flow").await.unwrap();
        within(is_full.recv()).await.unwrap();
        flows.push(flow);
        echo().await;
    }
    // What was stopped goes on.
    let mut some = vec![0; 16 << 20];
    within(flows[0].read_exact(&mut some)).await.unwrap();
    assert!(some.iter().all(|byte| *byte == b'x'));
    drop(flows);
    echo().await;
    guest.disconnect().await;
    echo().await;
}

#[tokio::test]
async fn a_key_in_another_form_is_for_the_ssh_program() {
    let Some(sshd) = Sshd::with_keys(["ed25519", "ecdsa"]) else { return };
    assert!(within(sshd.guest().run(Command::new(["true"]))).await.unwrap().success());
    sshd.rewrite_key("", &["-m", "PEM"]);
    let e = within(sshd.guest().run(Command::new(["true"]))).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmBroken);
    assert!(e.message().contains("no usable SSH key"), "{e}");
    assert!(within(sshd.guest_with_program().run(Command::new(["true"]))).await.unwrap().success());
    sshd.rewrite_key("a passphrase", &[]);
    let e = within(sshd.guest().run(Command::new(["true"]))).await.unwrap_err();
    assert!(e.message().contains("encrypted"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_library_cannot_log_in_the_ssh_program_does() {
    // A cipher that we do not know.
    let Some(mut sshd) = Sshd::start() else { return };
    sshd.down();
    sshd.configure("Ciphers aes256-ctr");
    sshd.up();
    let e = within(sshd.guest().run(Command::new(["true"]))).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning);
    assert!(e.message().contains("Cipher algorithm"), "{e}");

    let guest = Arc::new(sshd.guest_with_program());
    let command = sh("cat; echo \"$GREETING\" >&2; exit 7").env("GREETING", "it's $HOME\n").input("in\0put");
    let out = within(guest.run(command)).await.unwrap();
    assert_eq!((out.exit, &out.stdout[..], &out.stderr[..]), (Exit::Code(7), &b"in\0put"[..], &b"it's $HOME\n\n"[..]));
    assert_eq!(within(guest.run(sh("exit 255"))).await.unwrap().exit, Exit::Code(255));
    let argv = [&b"printf"[..], b"%s\\0", b"", b"'", b"$(id)", b"\n", b"\xff\x01"];
    assert_eq!(within(guest.run(Command::new(argv))).await.unwrap().stdout, b"\0'\0$(id)\0\n\0\xff\x01\0");
    let all = (0..12).map(|i| guest.run(Command::new(["printf".to_owned(), "%s".into(), format!("{i}")])));
    for (i, out) in within(futures_util::future::join_all(all)).await.into_iter().enumerate() {
        assert_eq!(out.unwrap().stdout, i.to_string().into_bytes());
    }
    let mut p = within(guest.spawn(Command::new(["cat"]).input("one"))).await.unwrap();
    assert_eq!(within(p.next()).await, Some(Chunk::Stdout("one".into())));
    p.stdin.as_ref().unwrap().send("two".into()).await.unwrap();
    assert_eq!(within(p.next()).await, Some(Chunk::Stdout("two".into())));
    p.stdin = None;
    assert_eq!(within(p.exit()).await.unwrap(), Exit::Code(0));

    // The end of the ssh here would be no end there.
    let shared = sshd.path("shared");
    std::fs::create_dir(&shared).unwrap();
    sshd.give("shared");
    for (name, script) in [("polite", ""), ("stubborn", "trap '' TERM; ")] {
        let file = shared.join(name);
        let script = format!("{script}echo $$ > '{}'; while :; do sleep 0.1; done", file.display());
        let running = tokio::spawn({
            let guest = guest.clone();
            async move { guest.run(sh(&script)).await }
        });
        let pid = pid_in(&file).await;
        running.abort();
        until(&format!("{name} still runs"), || !alive(pid)).await;
    }

    let path = sshd.path("echo.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    sshd.give("echo.sock");
    let path = path.to_str().unwrap();
    for _ in 0..2 {
        let mut socket = within(guest.connect(path)).await.unwrap();
        let (mut peer, _) = within(listener.accept()).await.unwrap();
        peer.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        within(socket.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"ping");
    }
    let e = within(guest.connect("/nonexistent/containerd.sock")).await.err().unwrap();
    assert_eq!(e.code(), ErrorCode::ContainerdNotReady);

    // Another server at its port is not our guest, though Lima's configuration would take any.
    sshd.down();
    assert_eq!(within(guest.run(Command::new(["true"]))).await.unwrap_err().code(), ErrorCode::VmNotRunning);
    sshd.new_host_key();
    sshd.up();
    let e = within(guest.run(Command::new(["true"]))).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VmNotRunning, "{e}");

    // A key of the user's that the library cannot use.
    let Some(sshd) = Sshd::with_keys(["ed25519", "rsa"]) else { return };
    assert_eq!(within(sshd.guest().run(Command::new(["true"]))).await.unwrap_err().code(), ErrorCode::VmBroken);
    assert!(within(sshd.guest_with_program().run(Command::new(["true"]))).await.unwrap().success());
}

//! Lima refuses root, so its tests run as an ordinary user: this binary once more, when root runs it.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use super::{skip, skip::skip_without, sshd::user};

/// Whether the body of `test` is to run here: we are an ordinary user. As root, runs the test as one, and its failure
/// is ours.
pub fn here(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let Some(user) = user() else {
        skip_without("ordinary user to run as");
        return false;
    };
    // The build's directory may be closed to others.
    let dir = tempfile::Builder::new().prefix("lr-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let copy = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new(copy);
    command.args(["--exact", test, "--nocapture"]).uid(user.uid).gid(user.gid).current_dir("/");
    command.env("HOME", user.home).env("USER", user.name);
    // A process that another test starts meanwhile has our copy open for writing until it becomes another program.
    let out = loop {
        match command.output() {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            done => break done.unwrap(),
        }
    };
    ends_well(out);
    false
}

/// Runs `test` once more, as the ordinary user with mounts of his own: `prepare` is a line of shell that makes these and ends
/// in `exec \"$@\"`, `more` may add to the command, whose program lies in the directory.
pub fn again(test: &str, prepare: &str, more: impl FnOnce(&Path, &mut Command)) {
    let Some(user) = user() else {
        skip_without("ordinary user to run as");
        return;
    };
    let dir = tempfile::Builder::new().prefix("lr-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let copy = dir.path().join("test");
    // By a process of its own: what this one has open for writing, another test's fork holds on to, and it cannot be run.
    let cp = Command::new("cp").arg("--").args([std::env::current_exe().unwrap(), copy.clone()]).status().unwrap();
    assert!(cp.success());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", prepare, "sh", "setpriv"]);
    command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]).arg("--clear-groups");
    command.arg(&copy).args(["--exact", test, "--nocapture"]).current_dir("/");
    command.env("HOME", &user.home).env("USER", &user.name);
    more(dir.path(), &mut command);
    ends_well(command.stdin(Stdio::null()).output().unwrap());
}

/// A line for [`again`]: `/dev/net/tun` as systemd makes it.
pub const WITH_TUN: &str = "mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200; exec \"$@\"";

/// Of this binary as an ordinary user: what it printed is what this test printed, and its end is this test's.
pub fn ends_well(out: Output) {
    for line in [out.stdout, out.stderr].concat().split(|b| *b == b'\n').map(String::from_utf8_lossy) {
        // Its test has our name.
        match line.split_once(&format!("{}: ", skip::mark())) {
            Some((_, why)) => skip::skip(why),
            // Set in: `npm test` counts the lines of libtest, and these are of the same test.
            None => eprintln!("  {line}"),
        }
    }
    assert!(out.status.success(), "it failed as an ordinary user");
}

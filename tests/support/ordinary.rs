//! Lima refuses root, so its tests run as an ordinary user: this binary once more, when root runs it.

use std::{os::unix::process::CommandExt, process::Command};

use super::sshd::user;

/// Whether the body of `test` is to run here: we are an ordinary user. As root, runs the test as one, and its failure
/// is ours.
pub fn here(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let Some(user) = user() else {
        eprintln!("SKIPPED: no ordinary user to run as; run `node scripts/setup.mjs test`");
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
    let status = loop {
        match command.status() {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            done => break done.unwrap(),
        }
    };
    assert!(status.success(), "{test} failed as an ordinary user");
    false
}

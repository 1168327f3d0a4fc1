//! Lima refuses root, so its tests run as an ordinary user: this binary once more, when root runs it.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Output},
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

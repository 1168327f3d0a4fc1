//! A test that finds on its way that it cannot run says why. libtest calls it passed, and shows of a passed test nothing but
//! what goes past its capture; `npm test` counts these lines, and in CI fails for the first two kinds.

use std::{fmt::Display, fs::File, io::Write, os::fd::AsFd};

/// For want of what `scripts/setup.mjs` brings.
pub fn skip_without(what: impl Display) {
    skip(format_args!("no {what}; run `node scripts/setup.mjs test`"));
}

pub fn skip_without_root(why: impl Display) {
    skip(format_args!("needs root: {why}"));
}

/// For want of anything else: a program that no package has, a kernel that lets nobody.
pub fn skip(why: impl Display) {
    // In one piece and past the buffer, in which libtest may have a part of a line.
    let out = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    File::from(out).write_all(format!("{}: {why}\n", mark()).as_bytes()).unwrap();
}

/// libtest names each test's thread after it.
pub fn mark() -> String {
    format!("SKIPPED {}", std::thread::current().name().unwrap_or_default())
}

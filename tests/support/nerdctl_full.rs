//! Archives like nerdctl-full's, of Debian's programs, and an image of the machine's own busybox.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use flate2::{Compression, write::GzEncoder};

use super::skip::skip_without;

/// The nerdctl that `LIMA_RUNTIME_TEST_NERDCTL` names.
pub fn real_nerdctl() -> Option<String> {
    std::env::var("LIMA_RUNTIME_TEST_NERDCTL").ok().filter(|p| !p.is_empty())
}

/// The layout of the real one (docs/reference/nerdctl.md#nerdctl-full): `bin`, `libexec/cni`. `None` where a program
/// is missing; the test counts as skipped.
pub fn archive() -> Option<Vec<u8>> {
    static MADE: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    MADE.get_or_init(make).clone()
}

fn make() -> Option<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::none()));
    let mut add = |path: &str, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, path, data).unwrap();
    };
    let mut programs: Vec<(String, String)> = [
        ("bin/containerd", "/usr/bin/containerd"),
        ("bin/containerd-shim-runc-v2", "/usr/bin/containerd-shim-runc-v2"),
        ("bin/ctr", "/usr/bin/ctr"),
        ("bin/runc", "/usr/sbin/runc"),
    ]
    .map(|(to, from)| (to.to_owned(), from.to_owned()))
    .to_vec();
    for plugin in ["bridge", "firewall", "host-local", "loopback", "portmap", "tuning"] {
        programs.push((format!("libexec/cni/{plugin}"), format!("/usr/lib/cni/{plugin}")));
    }
    for (to, from) in programs {
        let Ok(data) = std::fs::read(&from) else {
            skip_without(from);
            return None;
        };
        add(&to, &data);
    }
    match real_nerdctl() {
        Some(path) => add("bin/nerdctl", &std::fs::read(path).unwrap()),
        None => add("bin/nerdctl", b"#!/bin/sh\necho nerdctl version 2.1.6\n"),
    }
    Some(tar.into_inner().unwrap().finish().unwrap())
}

/// An image as `docker save` writes it, tagged `web:1`: busybox's httpd with one page, on port 80. The tests of JavaScript
/// know how; their module runs from here, for whoever may not read the checkout.
pub fn image(page: &str, to: &Path) {
    const MAKE: &str = "
        const [, , path, page] = process.argv
        writeFileSync(path, httpdArchive({ tags: ['web:1'], page }))";
    let mut node = Command::new("node");
    node.args(["--input-type=module", "-"]).arg(to).arg(page);
    let mut node = node.stdin(Stdio::piped()).spawn().unwrap();
    let script = [include_str!("../../__test__/support/images.mjs"), MAKE].concat();
    node.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(node.wait().unwrap().success());
}

//! Archives like nerdctl-full's, of Debian's programs, and an image of the machine's own busybox.

use std::{io::Write, path::Path, sync::OnceLock};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use super::releases::sha256;

/// The nerdctl that `LIMA_RUNTIME_TEST_NERDCTL` names.
pub fn real_nerdctl() -> Option<String> {
    std::env::var("LIMA_RUNTIME_TEST_NERDCTL").ok().filter(|p| !p.is_empty())
}

/// The layout of the real one (docs/reference/nerdctl.md#nerdctl-full): `bin`, `libexec/cni`. `None`, with the reason on
/// stderr, where a program is missing.
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
            eprintln!("SKIPPED: no {from}; run `node scripts/setup.mjs test`");
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

/// An image as `docker save` writes it, tagged `web:1`: busybox's httpd with one page, on port 80.
pub fn image(page: &str, to: &Path) {
    let file = |tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, path, data).unwrap();
    };
    let mut layer = tar::Builder::new(Vec::new());
    file(&mut layer, "bin/busybox", 0o755, &std::fs::read("/bin/busybox").unwrap());
    file(&mut layer, "www/index.html", 0o644, page.as_bytes());
    let layer = layer.into_inner().unwrap();
    let config = json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": { "Cmd": ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))] },
    })
    .to_string();
    let name = format!("{}.json", sha256(config.as_bytes()));
    let manifest = json!([{ "Config": name, "RepoTags": ["web:1"], "Layers": ["layer.tar"] }]).to_string();
    let mut image = tar::Builder::new(Vec::new());
    file(&mut image, &name, 0o644, config.as_bytes());
    file(&mut image, "layer.tar", 0o644, &layer);
    file(&mut image, "manifest.json", 0o644, manifest.as_bytes());
    std::fs::File::create(to).unwrap().write_all(&image.into_inner().unwrap()).unwrap();
}

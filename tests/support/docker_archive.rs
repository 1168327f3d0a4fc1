//! Archives like Docker's static ones, of Debian's programs (docs/reference/docker.md#static-archive).

use std::sync::OnceLock;

use flate2::{Compression, write::GzEncoder};

use super::skip::skip_without;

/// The engine, and what an ordinary user needs beside it. `None` where a program is missing; the test counts as skipped.
pub fn archives() -> Option<[Vec<u8>; 2]> {
    static MADE: OnceLock<Option<[Vec<u8>; 2]>> = OnceLock::new();
    MADE.get_or_init(|| {
        let engine = [
            "/usr/sbin/dockerd",
            "/usr/bin/docker",
            "/usr/sbin/docker-proxy",
            "/usr/bin/docker-init",
            "/usr/bin/containerd",
            "/usr/bin/containerd-shim-runc-v2",
            "/usr/sbin/runc",
        ];
        // Dockers before 28 need the second one.
        let extras = ["/usr/bin/rootlesskit", "/usr/bin/rootlesskit-docker-proxy"];
        Some([pack("docker", &engine)?, pack("docker-rootless-extras", &extras)?])
    })
    .clone()
}

fn pack(dir: &str, programs: &[&str]) -> Option<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::none()));
    for program in programs {
        let Ok(data) = std::fs::read(program) else {
            skip_without(program);
            return None;
        };
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, format!("{dir}/{}", program.rsplit('/').next().unwrap()), &data[..]).unwrap();
    }
    Some(tar.into_inner().unwrap().finish().unwrap())
}

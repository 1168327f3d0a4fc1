//! `npm run protos`: containerd's and cgroups' interface definitions into Rust.

use std::{error::Error, path::Path};

const API: &str = "github.com/containerd/containerd/api";
const FILES: &[&str] = &[
    "services/containers/v1/containers",
    "services/content/v1/content",
    "services/events/v1/events",
    "services/images/v1/images",
    "services/introspection/v1/introspection",
    "services/leases/v1/leases",
    "services/snapshots/v1/snapshots",
    "services/tasks/v1/tasks",
    "services/version/v1/version",
    "events/task",
    "types/event",
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let protos = here.parent().ok_or("no parent")?;
    let out = protos.join("../src/engine/containerd/proto");
    std::fs::create_dir_all(&out)?;
    // SAFETY: nothing else runs yet.
    unsafe { std::env::set_var("PROTOC", protoc_bin_vendored::protoc_bin_path()?) };
    let mut files: Vec<_> = FILES.iter().map(|f| protos.join(API).join(format!("{f}.proto"))).collect();
    for version in [1, 2] {
        files.push(protos.join(format!("github.com/containerd/cgroups/cgroup{version}/stats/metrics.proto")));
    }
    tonic_prost_build::configure()
        // Messages only: src/engine/containerd/source/rpc.rs has the methods.
        .build_server(false)
        .build_client(false)
        .include_file("mod.rs")
        .out_dir(&out)
        .compile_protos(&files, &[protos.to_owned(), protoc_bin_vendored::include_path()?])?;
    Ok(())
}

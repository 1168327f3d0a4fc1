//! Any bytes, as a tar.gz and as the tar in one: unpacked below the directory, or refused with `ARCHIVE_UNSAFE`.
#![no_main]

use std::{fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use lima_runtime::{
    error::ErrorCode,
    fetch::unpack::{Limits, tar_gz},
};

const LIMITS: Limits = Limits { entries: 100, file: 1 << 20, total: 4 << 20 };

fuzz_target!(|data: &[u8]| {
    check(data);
    // The checksum of a header is the mutator's wall: it is made right for every block that could be one.
    let mut tar = data.to_vec();
    for block in tar.chunks_exact_mut(512) {
        let sum: u32 = block.iter().enumerate().map(|(i, b)| u32::from(if (148..156).contains(&i) { b' ' } else { *b })).sum();
        if sum != 8 * u32::from(b' ') {
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let mut gz = GzEncoder::new(Vec::new(), Compression::none());
    gz.write_all(&tar).unwrap();
    check(&gz.finish().unwrap());
});

fn check(archive: &[u8]) {
    let sandbox = tempfile::tempdir().unwrap();
    let to = sandbox.path().join("to");
    fs::create_dir(&to).unwrap();
    match tar_gz(archive, &to, LIMITS) {
        Ok(files) => {
            let root = to.canonicalize().unwrap();
            for f in &files {
                let path = root.join(&f.path);
                assert!(fs::symlink_metadata(&path).is_ok(), "{f:?}");
                if let Ok(real) = path.canonicalize() {
                    assert!(real.starts_with(&root), "{f:?} leads to {}", real.display());
                }
            }
        }
        Err(e) => assert_eq!(e.code(), ErrorCode::ArchiveUnsafe, "{e}"),
    }
    let outside: Vec<_> = fs::read_dir(sandbox.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside, [Path::new("to").as_os_str()]);
}

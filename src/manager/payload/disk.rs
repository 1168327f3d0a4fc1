//! Whether the guest's disks are full: an engine does not start then, or does not work.

use crate::{
    error::{Error, ErrorCode},
    guest::Guest,
    process::Command,
};

/// Prints free blocks, all inodes and free inodes of the system's disk and of the data disk, a line each; a VM without a data disk
/// has one line. A file system that makes inodes as it needs them has 0 of them.
const FREE: [&str; 6] = ["stat", "-f", "-c", "%f %c %d", "/var/lib", "/var/lib/lima-runtime"];

/// Whether the guest's disk has no room for what an engine writes as it starts.
pub async fn is_full(guest: &impl Guest) -> bool {
    let Ok(out) = guest.run(Command::new(FREE).root()).await else { return false };
    has_no_room(&String::from_utf8_lossy(&out.stdout))
}

fn has_no_room(said: &str) -> bool {
    said.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        // A mebibyte.
        matches!(numbers[..], [blocks, inodes, free] if blocks < 256 || (inodes > 0 && free == 0))
    })
}

/// What to do about that: the engine that would remove things does not run.
pub fn disk_full(what: &str) -> Error {
    Error::new(ErrorCode::DiskFull, format!("{what}: the VM's disk is full"))
        .hint("Give it a larger disk with configure(), then restart() it.")
}

/// For one that runs all the same: it cannot keep what it is told, and dockerd then shows no container at all
/// (docs/reference/docker.md#a-full-disk).
pub fn runs_on_full_disk(payload: &super::Payload) -> Error {
    let text =
        format!("{} runs, but the VM's disk is full: containers may be hidden and fail to start", payload.name());
    Error::new(ErrorCode::DiskFull, text)
        .hint("Remove images and volumes that nothing uses, or give the VM a larger disk with configure(); then restart() it.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_by_what_is_free() {
        let rows = [
            ("0 1000 500\n", true),
            ("255 1000 500", true),
            ("256 1000 500", false),
            ("90000 1000 0", true),
            // btrfs.
            ("90000 0 0", false),
            // The system, and the data.
            ("90000 1000 500\n0 1000 500\n", true),
            ("", false),
            ("x", false),
            ("0 1", false),
        ];
        for (said, full) in rows {
            assert_eq!(has_no_room(said), full, "{said:?}");
        }
    }
}

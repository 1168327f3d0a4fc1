//! Whether the guest's disks are full: an engine does not start then, or does not work.

use crate::{
    error::{Error, ErrorCode},
    guest::Guest,
    process::Command,
};

/// Prints free blocks, all inodes and free inodes of the system's disk and of the data disk, a line each; a VM without a data disk
/// has one line. A file system that makes inodes as it needs them has 0 of them.
const FREE: [&str; 6] = ["stat", "-f", "-c", "%f %c %d", "/var/lib", "/var/lib/lima-runtime"];

/// One that has no room for what an engine writes as it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullDisk {
    /// `resources.disk` is its size: the data disk, or the only one.
    Data,
    /// Of a VM with a data disk: its size is fixed.
    System,
}

impl FullDisk {
    fn of(said: &str) -> Option<Self> {
        let full = |line: &str| {
            let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
            // A mebibyte.
            matches!(numbers[..], [blocks, inodes, free] if blocks < 256 || (inodes > 0 && free == 0))
        };
        let lines: Vec<_> = said.lines().map(full).collect();
        match lines[..] {
            [true] | [false, true] => Some(Self::Data),
            [true, _] => Some(Self::System),
            _ => None,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Data => "Give it a larger disk with configure(), then restart() it.",
            Self::System => "factoryReset({ keepData: true }) makes it anew, with what its engines hold.",
        }
    }
}

/// The guest's disk that is full, if one is.
pub async fn full_disk(guest: &impl Guest) -> Option<FullDisk> {
    let out = guest.run(Command::new(FREE).root()).await.ok()?;
    FullDisk::of(&String::from_utf8_lossy(&out.stdout))
}

/// The one that programs lie on: of a guest that has no other, the one that grows.
pub(super) async fn system_disk(guest: &impl Guest) -> FullDisk {
    let said = guest.run(Command::new(FREE).root()).await.map(|out| out.stdout).unwrap_or_default();
    if String::from_utf8_lossy(&said).lines().count() > 1 { FullDisk::System } else { FullDisk::Data }
}

/// The engine that would remove things does not run.
pub fn disk_full(what: &str, disk: FullDisk) -> Error {
    Error::new(ErrorCode::DiskFull, format!("{what}: the VM's disk is full")).hint(disk.hint())
}

/// For one that runs all the same: it cannot keep what it is told, and dockerd then shows no container at all
/// (docs/reference/docker.md#a-full-disk).
pub fn runs_on_full_disk(payload: &super::Payload, disk: FullDisk) -> Error {
    let text =
        format!("{} runs, but the VM's disk is full: containers may be hidden and fail to start", payload.name());
    let hint = match disk {
        FullDisk::Data => {
            "Remove images and volumes that nothing uses, or give the VM a larger disk with configure(); then restart() it."
        }
        FullDisk::System => disk.hint(),
    };
    Error::new(ErrorCode::DiskFull, text).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_by_what_is_free() {
        let rows = [
            ("0 1000 500\n", Some(FullDisk::Data)),
            ("255 1000 500", Some(FullDisk::Data)),
            ("256 1000 500", None),
            ("90000 1000 0", Some(FullDisk::Data)),
            // btrfs.
            ("90000 0 0", None),
            // The system, and the data.
            ("90000 1000 500\n0 1000 500\n", Some(FullDisk::Data)),
            ("0 1000 500\n0 1000 500\n", Some(FullDisk::System)),
            ("0 1000 500\n90000 1000 500\n", Some(FullDisk::System)),
            ("90000 1000 500\n90000 1000 500\n", None),
            ("", None),
            ("x", None),
            ("0 1", None),
        ];
        for (said, full) in rows {
            assert_eq!(FullDisk::of(said), full, "{said:?}");
        }
        // A larger disk would be the other one.
        assert!(!disk_full("x", FullDisk::System).hint_text().unwrap().contains("configure"));
    }
}

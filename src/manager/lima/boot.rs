//! One boot of the VM, and the connection that was made in it.

use std::{os::unix::fs::MetadataExt, path::Path};

use crate::guest::ssh::SshGuest;

/// The connection of one boot: Lima writes `ssh.config` anew at each.
pub(super) struct KeptConnection {
    pub(super) boot: BootId,
    pub(super) guest: SshGuest,
}

/// Identifies one boot by its `ssh.config`: inode and modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BootId(u64, i64, i64);

impl std::fmt::Display for BootId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.0, self.1, self.2)
    }
}

impl BootId {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self(meta.ino(), meta.mtime(), meta.mtime_nsec()))
    }
}

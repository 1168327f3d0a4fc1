//! The record of what is installed or bundled: versions, sources, digests and dates. `install.json` and `bundle.json`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    digest::Digest,
    disk,
    manifest::{BakedEngine, Part, Wanted},
    platform::Platform,
};
use crate::error::Result;

const SCHEMA: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    schema: u32,
    pub platform: Platform,
    #[serde(default)]
    pub components: BTreeMap<Part, Record>,
}

/// One component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub version: String,
    /// An address, or the directory it was copied from.
    pub source: String,
    /// Of the file as it was published: the archive, not what was in it.
    pub sha256: Digest,
    /// Milliseconds since 1970.
    pub installed_at: u64,
    /// Where the files lie, relative to the inventory's own directory.
    pub dir: PathBuf,
    pub files: Vec<FileRecord>,
    /// Of a baked image, as the manifest said when it was brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<BakedEngine>,
}

/// One file or link; directories are not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileRecord {
    /// Relative, with `/`.
    pub path: String,
    #[serde(flatten)]
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    File { size: u64, sha256: Digest, mode: u32 },
    Link { link: String },
}

impl Inventory {
    pub fn new(platform: Platform) -> Self {
        Self { schema: SCHEMA, platform, components: BTreeMap::new() }
    }

    /// `None` when there is none, or when this version does not understand it.
    pub fn read(path: &Path) -> Option<Self> {
        disk::read_json::<Self>(path).filter(|i| i.schema == SCHEMA)
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        disk::write_json(path, self)
    }

    /// For a bundle, which every user of the application reads.
    pub fn write_for_all(&self, path: &Path) -> Result<()> {
        disk::write_json_for_all(path, self)
    }
}

/// One digest for all files of an unpacked archive, made from a line for each file, sorted by path. The manifest has it, so
/// that nobody need believe the list beside the files.
pub fn contents(files: &[FileRecord]) -> Digest {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hasher = Sha256::new();
    for FileRecord { path, content } in files {
        // No path has a line break, and the first word tells the kind.
        hasher.update(match content {
            Content::File { size, sha256, mode } => format!("file {mode:o} {size} {sha256} {path}\n"),
            Content::Link { link } => format!("link {path}\n  {link}\n"),
        });
    }
    Digest::of(&hasher.finalize())
}

impl Record {
    /// It is the part that a manifest asks for.
    pub fn satisfies(&self, wanted: &Wanted) -> bool {
        self.version == wanted.version && wanted.sources.iter().any(|s| s.sha256 == self.sha256)
    }

    /// Whether this is the published file itself, not its contents.
    pub fn is_archive(&self) -> bool {
        matches!(&self.files[..], [FileRecord { content: Content::File { sha256, .. }, .. }] if *sha256 == self.sha256)
    }

    pub fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn size(&self) -> u64 {
        self.files
            .iter()
            .map(|f| match f.content {
                Content::File { size, .. } => size,
                Content::Link { .. } => 0,
            })
            .fold(0, u64::saturating_add)
    }
}

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Every file exists and has the right kind and size. No file is read.
    Stat,
    /// Every byte is read.
    Digest,
}

/// The paths below `root` that differ from the record. `pardon` may accept a file whose bytes differ.
pub fn damaged<'a>(
    root: &Path,
    files: &'a [FileRecord],
    look: Look,
    pardon: impl Fn(&Path) -> bool,
) -> impl Iterator<Item = &'a str> {
    files.iter().filter(move |f| !whole(&root.join(&f.path), &f.content, look, &pardon)).map(|f| f.path.as_str())
}

fn whole(path: &Path, content: &Content, look: Look, pardon: impl Fn(&Path) -> bool) -> bool {
    match content {
        Content::Link { link } => fs::read_link(path).is_ok_and(|t| t == Path::new(link)),
        Content::File { size, sha256, mode } => {
            let Ok(meta) = fs::symlink_metadata(path) else { return false };
            if !meta.is_file() || !runnable(&meta, *mode) {
                return false;
            }
            let same = meta.len() == *size
                && (look == Look::Stat || disk::hash_file(path).is_ok_and(|(digest, _)| digest == *sha256));
            same || pardon(path)
        }
    }
}

/// A program without its execute bit is useless. Other changes of the mode are left to the user.
#[cfg(unix)]
fn runnable(meta: &fs::Metadata, mode: u32) -> bool {
    use std::os::unix::fs::PermissionsExt;
    mode & 0o100 == 0 || meta.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn runnable(_: &fs::Metadata, _: u32) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_found_by_the_look_that_can_see_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let file = |name: &str, text: &str| {
            fs::write(root.join(name), text).unwrap();
            let (sha256, size) = disk::hash_file(&root.join(name)).unwrap();
            FileRecord { path: name.into(), content: Content::File { size, sha256, mode: 0o644 } }
        };
        let files = [file("same", "a"), file("bit", "a"), file("shorter", "ab"), file("gone", "a")];
        assert_eq!(damaged(root, &files, Look::Digest, |_| false).count(), 0);
        fs::write(root.join("bit"), "b").unwrap();
        fs::write(root.join("shorter"), "a").unwrap();
        fs::remove_file(root.join("gone")).unwrap();
        assert_eq!(damaged(root, &files, Look::Stat, |_| false).collect::<Vec<_>>(), ["shorter", "gone"]);
        assert_eq!(damaged(root, &files, Look::Digest, |_| false).collect::<Vec<_>>(), ["bit", "shorter", "gone"]);
        let pardoned = damaged(root, &files, Look::Digest, |p| p.ends_with("bit")).collect::<Vec<_>>();
        assert_eq!(pardoned, ["shorter", "gone"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_without_its_execute_bit_is_damaged() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        fs::write(&path, "").unwrap();
        let (sha256, size) = disk::hash_file(&path).unwrap();
        let files = [FileRecord { path: "p".into(), content: Content::File { size, sha256, mode: 0o755 } }];
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(damaged(dir.path(), &files, Look::Stat, |_| false).count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(damaged(dir.path(), &files, Look::Stat, |_| false).count(), 0);
    }

    #[test]
    fn an_inventory_survives_the_way_to_disk_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("install.json");
        assert!(Inventory::read(&path).is_none());
        let digest = Digest::try_from("0".repeat(64)).unwrap();
        let mut inventory = Inventory::new(Platform::LinuxX64);
        let files = vec![
            FileRecord { path: "a".into(), content: Content::File { size: 3, sha256: digest.clone(), mode: 0o755 } },
            FileRecord { path: "b".into(), content: Content::Link { link: "a".into() } },
        ];
        let record = Record {
            version: "1".into(),
            source: "x".into(),
            sha256: digest,
            installed_at: 1,
            dir: "v".into(),
            files,
            engine: None,
        };
        assert_eq!(record.size(), 3);
        let all = Content::File { size: u64::MAX, sha256: record.sha256.clone(), mode: 0o644 };
        let files = [&record.files[..], &[FileRecord { path: "c".into(), content: all }]].concat();
        assert_eq!(Record { files, ..record.clone() }.size(), u64::MAX);
        inventory.components.insert(Part::NerdctlFull, record.clone());
        inventory.write(&path).unwrap();
        assert_eq!(Inventory::read(&path).unwrap().components[&Part::NerdctlFull], record);
        fs::write(&path, r#"{"schema":99,"platform":"linux-x64"}"#).unwrap();
        assert!(Inventory::read(&path).is_none());
    }
}

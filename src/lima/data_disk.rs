//! The disk that holds what the engines of an instance keep. It lies beside the instance, in Lima's `_disks`, so it outlives
//! it (docs/reference/lima.md#disks). We make it ourselves: a raw file, which is there whole or not at all.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_norway::{Mapping, Value};

use super::hostkey::provisions;
use crate::{
    error::{Error, ErrorCode, Result},
    fetch::disk,
};

/// Of a VM with a data disk: the system, the engine's programs, and what does not outlive the VM.
pub const ROOT_DISK: u64 = 20 << 30;

#[derive(Debug, Clone)]
pub struct DataDisk {
    /// For Lima.
    pub name: String,
    dir: PathBuf,
    instance: String,
}

/// What is known of one from here. Nobody here reads its file system, which a guest wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KeptData {
    /// Bytes.
    pub disk: u64,
    /// Bytes that it takes on this computer.
    pub used: u64,
}

/// How it is attached at the next boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub name: String,
    /// Nothing was written to it yet: Lima may format it.
    pub blank: bool,
}

/// Where Lima's boot script has the first partition begin, by sfdisk's rule.
const PARTITION: u64 = 1 << 20;
/// What is looked at of a file system's beginning, where each has its first words.
const BEGINNING: usize = 64 << 10;
/// The part of the first sector that a GPT leaves empty, and where each format of disk images has its mark.
const BOOT_CODE: usize = 440;

impl DataDisk {
    pub fn of(lima_home: &Path, instance: &str) -> Self {
        let name = name(instance);
        Self { dir: lima_home.join("_disks").join(&name), name, instance: instance.to_owned() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self) -> PathBuf {
        self.dir.join("datadisk")
    }

    pub fn facts(&self) -> Option<KeptData> {
        let meta = std::fs::symlink_metadata(self.path()).ok().filter(std::fs::Metadata::is_file)?;
        Some(KeptData { disk: meta.len(), used: meta.blocks() * 512 })
    }

    /// Makes it where there is none. The caller holds the lock.
    pub fn create(&self, size: u64) -> Result<()> {
        if self.facts().is_some() {
            return Ok(());
        }
        let disks = self.dir.parent().unwrap_or(&self.dir);
        disk::remove_leftovers(disks)?;
        let new = disk::temp_dir_in(disks)?;
        let path = new.path().join("datadisk");
        let make = || {
            let file = disk::open_private(OpenOptions::new().write(true).create_new(true), &path)?;
            file.set_len(size)?;
            disk::sync_file(&file)
        };
        make().map_err(|e| disk::write_error(e, &path, 0))?;
        disk::replace_dir(&new.keep(), &self.dir)
    }

    /// Readies it for a boot while the VM is stopped: grown to `size`, and free of the mark of a VM that crashed. Never makes
    /// one: an empty disk in the place of a lost one would look like lost data.
    pub fn attach(&self, size: u64) -> Result<Attached> {
        let broken = |text: String, hint: &str| {
            Error::new(ErrorCode::VmBroken, text).hint(hint).detail("path", self.path().display().to_string())
        };
        let open = disk::open_regular(OpenOptions::new().read(true).write(true), &self.path());
        let mut file = open.map_err(|e| match e.kind() {
            ErrorKind::NotFound => broken(
                "The VM's data disk is missing".into(),
                "Put its file back. Without it, delete() the VM and start() a new one.",
            ),
            _ => Error::io(e, "opening", &self.path()),
        })?;
        let fail = |e| Error::io(e, "reading", &self.path());
        if read_at(&mut file, 0, BOOT_CODE).map_err(fail)?.iter().any(|&byte| byte != 0) {
            // Lima and QEMU would take it for what it says it is, and follow the names of files in it.
            let hint = "A program of the VM wrote that. To start anew, delete() the VM: it loses what it holds.";
            return Err(broken("The VM's data disk begins like an image of another format".into(), hint));
        }
        let blank = read_at(&mut file, PARTITION, BEGINNING).map_err(fail)?.iter().all(|&byte| byte == 0);
        if file.metadata().map_err(fail)?.len() < size {
            file.set_len(size).map_err(|e| disk::write_error(e, &self.path(), 0))?;
        }
        self.release()?;
        Ok(Attached { name: self.name.clone(), blank })
    }

    /// Removes the mark of our instance, which a crash leaves and vz refuses (docs/reference/lima.md#disks). Another instance's
    /// stays.
    pub fn release(&self) -> Result<()> {
        let mark = self.dir.join("in_use_by");
        match std::fs::read_link(&mark) {
            Ok(by) if by.file_name().is_some_and(|name| *name == *self.instance) => disk::remove(&mark),
            _ => Ok(()),
        }
    }

    /// Takes it away in one step; [`DataDisk::sweep`] gives the space back.
    pub fn give_up(&self) -> Result<()> {
        if std::fs::symlink_metadata(&self.dir).is_err() {
            return Ok(());
        }
        let disks = self.dir.parent().unwrap_or(&self.dir);
        let gone = disk::temp_dir_in(disks)?.keep();
        std::fs::rename(&self.dir, &gone).map_err(|e| Error::io(e, "removing", &self.dir))
    }

    pub fn sweep(&self) -> Result<()> {
        disk::remove_leftovers(self.dir.parent().unwrap_or(&self.dir))
    }
}

/// A label of ext4 has 16 bytes and Lima's is `lima-<name>`; a longer one would be cut, not found again, and the disk formatted
/// at each boot (docs/reference/lima.md#disks).
fn name(instance: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(instance);
    digest[..4].iter().fold("lr-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn read_at(file: &mut File, from: u64, most: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most);
    file.seek(SeekFrom::Start(from))?;
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

const SCRIPT: &str = include_str!("../../templates/data-disk.sh");
/// In the guest: mounts what engines keep.
pub const PROGRAM: &str = "/usr/local/lib/lima-runtime/data-disk";
const MARK: &str = "# The data disk of lima-runtime.";

/// Runs at each boot before any engine (docs/reference/lima.md#boot-commands), so that also the first start of an engine finds
/// its directories on the disk.
const PROVISION: &str = r#"#!/bin/sh
# The data disk of lima-runtime.
(
dir=/usr/local/lib/lima-runtime
mkdir -p "$dir"
cat >"$dir/data-disk.new" <<'LIMA_RUNTIME_DATA_DISK'
<script>LIMA_RUNTIME_DATA_DISK
chmod 755 "$dir/data-disk.new"
mv -f "$dir/data-disk.new" "$dir/data-disk"
changed=
for unit in containerd stargz-snapshotter buildkit docker; do
  file=/etc/systemd/system/$unit.service.d/05-lima-runtime-data.conf
  text="[Service]
ExecStartPre=$dir/data-disk"
  if [ "$(cat "$file" 2>/dev/null)" != "$text" ]; then
    mkdir -p "${file%/*}"
    printf '%s\n' "$text" >"$file"
    changed=1
  fi
done
[ -z "$changed" ] || systemctl daemon-reload
)
"#;

/// Lays the disk and the script that mounts it into a document.
pub fn lay(document: &mut Mapping, disk: &Attached) -> Result<()> {
    let mut entry = Mapping::new();
    entry.insert("name".into(), disk.name.as_str().into());
    entry.insert("format".into(), disk.blank.into());
    entry.insert("fsType".into(), "ext4".into());
    let all = disks(document)?;
    match all.iter().position(|d| name_of(d) == Some(&disk.name)) {
        Some(at) => all[at] = entry.into(),
        None => all.insert(0, entry.into()),
    }
    let text = SCRIPT.replace("$LIMA_RUNTIME_LABEL", &format!("lima-{}", disk.name));
    let mut provision = Mapping::new();
    provision.insert("mode".into(), "boot".into());
    provision.insert("script".into(), PROVISION.replace("<script>", &text).into());
    let all = provisions(document)?;
    let ours = |p: &Value| p.get("script").and_then(Value::as_str).is_some_and(|script| script.contains(MARK));
    match all.iter().position(ours) {
        Some(at) => all[at] = provision.into(),
        None => all.insert(0, provision.into()),
    }
    Ok(())
}

/// Whether a document has the disk of that name.
pub fn is_in(document: &Value, name: &str) -> bool {
    let all = document.get("additionalDisks").and_then(Value::as_sequence);
    all.is_some_and(|all| all.iter().any(|d| name_of(d) == Some(name)))
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.as_str().or_else(|| entry.get("name")?.as_str())
}

fn disks(document: &mut Mapping) -> Result<&mut Vec<Value>> {
    let value = document.entry("additionalDisks".into()).or_insert_with(|| Value::Sequence(Vec::new()));
    if value.is_null() {
        *value = Value::Sequence(Vec::new());
    }
    value.as_sequence_mut().ok_or_else(|| Error::invalid("template", "additionalDisks is not a list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, DataDisk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = DataDisk::of(dir.path(), "default");
        (dir, disk)
    }

    fn write_at(disk: &DataDisk, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        OpenOptions::new().write(true).open(disk.path()).unwrap().write_all_at(bytes, at).unwrap();
    }

    #[test]
    fn a_disk_is_made_once_grows_and_is_blank_until_it_holds_something() {
        let (_dir, disk) = disk();
        assert_eq!(disk.facts(), None);
        assert_eq!(disk.attach(1 << 30).unwrap_err().code(), ErrorCode::VmBroken, "an empty one instead of a lost one");
        disk.create(1 << 30).unwrap();
        assert_eq!(disk.facts().map(|facts| (facts.disk, facts.used < 1 << 20)), Some((1 << 30, true)));
        assert!(disk.attach(1 << 30).unwrap().blank);
        // A formatting that was cut off before the file system was there.
        write_at(&disk, 512, b"EFI PART");
        assert!(disk.attach(1 << 30).unwrap().blank);
        write_at(&disk, PARTITION + 1080, &[0x53, 0xef]);
        disk.create(2 << 30).unwrap();
        assert_eq!(disk.attach(3 << 30).unwrap(), Attached { name: disk.name.clone(), blank: false });
        assert_eq!(disk.attach(2 << 30).unwrap(), Attached { name: disk.name.clone(), blank: false });
        assert_eq!(disk.facts().unwrap().disk, 3 << 30);
        assert_eq!((&disk.name[..3], disk.name.len()), ("lr-", 11), "lima-<name> is a label of 16 bytes");

        disk.give_up().unwrap();
        assert_eq!(disk.facts(), None);
        disk.give_up().unwrap();
        disk.sweep().unwrap();
        assert_eq!(disk::entries(disk.dir.parent().unwrap()).len(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_no_disk() {
        let (_dir, disk) = disk();
        std::fs::create_dir_all(&disk.dir).unwrap();
        std::fs::create_dir(disk.dir.with_file_name(".tmp-x")).unwrap();
        disk.create(1 << 20).unwrap();
        assert!(disk.attach(1 << 20).unwrap().blank);
        assert_eq!(disk::entries(disk.dir.parent().unwrap()), std::slice::from_ref(&disk.dir));
        // A link in its place is followed by nobody.
        std::fs::remove_file(disk.path()).unwrap();
        std::os::unix::fs::symlink("/dev/zero", disk.path()).unwrap();
        assert_eq!(disk.facts(), None);
        disk.attach(1 << 20).unwrap_err();
    }

    #[test]
    fn a_guest_cannot_have_its_disk_taken_for_an_image_that_names_files() {
        for mark in [&b"QFI\xfb\0\0\0\x03"[..], b"KDMV", b"vhdxfile", b"conectix", b"# Disk DescriptorFile", b"shdw"] {
            let (_dir, disk) = disk();
            disk.create(1 << 20).unwrap();
            write_at(&disk, 0, mark);
            assert_eq!(disk.attach(1 << 20).unwrap_err().code(), ErrorCode::VmBroken, "{mark:?}");
        }
        let (_dir, disk) = disk();
        disk.create(1 << 20).unwrap();
        // VirtualBox's.
        write_at(&disk, 64, &[0x7f, 0x10, 0xda, 0xbe]);
        disk.attach(1 << 20).unwrap_err();
    }

    #[test]
    fn only_our_own_mark_of_use_is_removed() {
        let (dir, disk) = disk();
        disk.create(1 << 20).unwrap();
        let mark = disk.dir.join("in_use_by");
        for (by, stays) in [("default", false), ("other", true)] {
            _ = std::fs::remove_file(&mark);
            std::os::unix::fs::symlink(dir.path().join(by), &mark).unwrap();
            disk.attach(1 << 20).unwrap();
            assert_eq!(std::fs::read_link(&mark).is_ok(), stays, "{by}");
        }
    }

    #[test]
    fn a_document_has_the_disk_once_and_may_format_it_only_while_it_is_blank() {
        let mut root: Mapping = serde_norway::from_str("additionalDisks: [theirs]\nprovision:\n").unwrap();
        for blank in [true, false, false] {
            let attached = Attached { name: "lr-00000000".into(), blank };
            lay(&mut root, &attached).unwrap();
            let all = root["additionalDisks"].as_sequence().unwrap();
            assert_eq!((all.len(), &all[0]["format"], &all[1]), (2, &Value::from(blank), &Value::from("theirs")));
        }
        let value = Value::Mapping(root.clone());
        assert!(is_in(&value, "lr-00000000") && is_in(&value, "theirs") && !is_in(&value, "lr-1"));
        let scripts = root["provision"].as_sequence().unwrap();
        assert_eq!((scripts.len(), &scripts[0]["mode"]), (1, &Value::from("boot")));
        let script = scripts[0]["script"].as_str().unwrap();
        assert!(script.contains("label=lima-lr-00000000\n") && !script.contains("{{"), "{script}");
        let mut bad: Mapping = serde_norway::from_str("additionalDisks: 1").unwrap();
        lay(&mut bad, &Attached { name: "x".into(), blank: true }).unwrap_err();
    }

    /// A guest that the script takes for one: what it asks of the system is made up and written down.
    struct Guest(tempfile::TempDir);

    impl Guest {
        fn new() -> Self {
            let guest = Self(tempfile::tempdir().unwrap());
            for name in ["bin", "run", "var/lib", "etc"] {
                std::fs::create_dir_all(guest.path(name)).unwrap();
            }
            let log = r#"echo "${0##*/} $*" >>"$DIR/log""#;
            // A mount of the disk is a file beside, one of a directory a link to it.
            let programs = [
                ("mountpoint", r#"[ -e "$DIR/mounted" ]"#),
                ("findmnt", r#"[ -e "$DIR/by-lima" ]"#),
                ("e2fsck", r#"echo broken; exit "$(cat "$DIR/fsck" 2>/dev/null || echo 0)""#),
                (
                    "mount",
                    r#"if [ -e "$DIR/unmountable" ]; then echo 'wrong fs type' >&2; exit 32; fi
case $1 in
  --bind) if [ -e "$DIR/unbindable" ]; then exit 0; fi; rmdir "$3" && ln -s "$2" "$3" ;;
  *) : >"$DIR/mounted" ;;
esac"#,
                ),
            ];
            for (name, text) in programs {
                let text = format!("#!/bin/sh\n{log}\n{text}\n");
                disk::write_program(&guest.path("bin").join(name), text.as_bytes()).unwrap();
            }
            guest
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        /// The exit code, what it said, and the programs it called.
        fn run(&self, label: &str) -> (i32, String, Vec<String>) {
            _ = std::fs::remove_file(self.path("log"));
            // A block device that every machine has is the disk.
            let device = "device=/dev/disk/by-label/$label";
            assert!(SCRIPT.contains(device));
            let out = std::process::Command::new("sh")
                .args(["-c", &SCRIPT.replace(device, "device=$label").replace("[ -b ", "[ -e "), "sh", "now"])
                .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
                .envs([
                    ("DIR", self.0.path()),
                    ("LIMA_RUNTIME_ROOT", self.0.path()),
                    ("LIMA_RUNTIME_LABEL", label.as_ref()),
                ])
                .output()
                .unwrap();
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            let called = log.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
            (out.status.code().unwrap(), String::from_utf8_lossy(&out.stderr).into_owned(), called)
        }
    }

    #[test]
    fn every_directory_of_an_engine_is_on_the_disk_or_the_script_fails() {
        let guest = Guest::new();
        assert_eq!(guest.run("/nonexistent").0, 1, "its boot may still bring the disk");
        guest.write("run/lima-boot-done", "");
        let (code, said, _) = guest.run("/nonexistent");
        assert!(code == 4 && said.contains("no disk has the label"), "{code} {said}");
        std::fs::remove_file(guest.path("run/lima-boot-done")).unwrap();
        let (code, said, called) = guest.run("/dev/null");
        assert_eq!((code, said.as_str()), (0, ""));
        assert_eq!(called.iter().filter(|name| *name == "mount").count(), 8);
        let disk = guest.path("var/lib/lima-runtime");
        for (there, name) in [
            ("var/lib/containerd", "containerd"),
            ("var/lib/containerd-stargz-grpc", "stargz"),
            ("var/lib/nerdctl", "nerdctl"),
            ("var/lib/buildkit", "buildkit"),
            ("etc/cni/net.d", "networks"),
            ("var/lib/cni", "leases"),
            ("var/lib/docker", "docker"),
        ] {
            assert_eq!(std::fs::canonicalize(guest.path(there)).unwrap(), disk.join(name).canonicalize().unwrap());
        }
        assert_eq!(std::fs::read_to_string(disk.join("lima-runtime.format")).unwrap(), "1\n");
        // Once more: nothing to do.
        assert_eq!(guest.run("/dev/null"), (0, String::new(), vec!["mountpoint".into()]));
        // A newer version's.
        guest.write("var/lib/lima-runtime/lima-runtime.format", "2\n");
        assert_eq!(guest.run("/dev/null").0, 3);
        assert_eq!(std::fs::read_to_string(disk.join("lima-runtime.format")).unwrap(), "2\n");
    }

    #[test]
    fn a_disk_that_cannot_be_had_is_said_and_not_passed_over() {
        for (fault, code) in [("fsck", 4), ("unmountable", 4), ("unbindable", 4)] {
            let guest = Guest::new();
            guest.write(fault, "4");
            let (exit, said, _) = guest.run("/dev/null");
            assert!(exit == code && !said.is_empty(), "{fault}: {exit} {said}");
        }
        // In use by Lima, which has just mounted it.
        let guest = Guest::new();
        guest.write("fsck", "8");
        assert_eq!(guest.run("/dev/null").0, 0);
        let guest = Guest::new();
        guest.write("by-lima", "");
        assert!(!guest.run("/dev/null").2.contains(&"e2fsck".to_owned()));
        // A disk that leads elsewhere.
        let guest = Guest::new();
        std::fs::create_dir_all(guest.path("var/lib/lima-runtime")).unwrap();
        std::os::unix::fs::symlink("/etc", guest.path("var/lib/lima-runtime/nerdctl")).unwrap();
        let (exit, said, _) = guest.run("/dev/null");
        assert!(exit == 4 && said.contains("link"), "{exit} {said}");
    }
}

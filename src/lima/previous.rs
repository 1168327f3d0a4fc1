//! The VM as it was before its last upgrade: a copy beside it, and the way back to it. Where the file system clones files, a copy
//! takes milliseconds and no space; elsewhere it is made when the caller asks for it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::data_disk::DataDisk;
use crate::{
    call::aborted,
    error::{Error, ErrorCode, Result},
    fetch::{disk, manifest::Part, record::Record},
};

/// What the copy is of.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// Milliseconds since 1970.
    pub made_at: u64,
    /// What was installed.
    pub parts: BTreeMap<Part, Record>,
    /// The last boot before it. Until the next one the VM is what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Its files by their places, with their lengths.
    files: BTreeMap<PathBuf, u64>,
    /// The way back has begun: whoever comes next ends it.
    #[serde(default)]
    pub returning: bool,
}

/// How a copy goes on, and whether it still shall.
pub struct Watch<'a> {
    pub cancelled: &'a CancellationToken,
    /// Bytes written, and of how many at most.
    pub said: &'a dyn Fn(u64, u64),
}

/// In LIMA_HOME, where a name with `_` is no instance and renaming crosses no file system (docs/reference/lima.md#lima_home).
#[derive(Debug, Clone)]
pub struct Previous {
    dir: PathBuf,
    vm: PathBuf,
    data: PathBuf,
}

const ALL: &str = "_previous";
const RECORD: &str = "copy.json";
/// Larger ones are disks.
const SMALL: u64 = 16 << 20;
/// Copied in one go: how soon a caller that gave up is heard.
const PIECE: u64 = 64 << 20;

impl Previous {
    pub fn of(lima_home: &Path, instance: &str) -> Self {
        let dir = lima_home.join(ALL).join(instance);
        Self { dir, vm: lima_home.join(instance), data: DataDisk::of(lima_home, instance).dir().to_owned() }
    }

    /// Those of these homes that are on their way back.
    pub fn returning(homes: &[PathBuf]) -> Vec<(Self, Copied)> {
        let all = homes.iter().flat_map(|home| copies(home).map(move |copy| (home, copy)));
        let returning = all.filter(|(_, (_, copied))| copied.returning);
        returning
            .filter_map(|(home, (dir, copied))| Some((Self::of(home, dir.file_name()?.to_str()?), copied)))
            .collect()
    }

    pub fn read(&self) -> Option<Copied> {
        disk::read_json(&self.dir.join(RECORD))
    }

    /// Bytes that it takes on this computer if it shares none of them with the VM.
    pub fn size(&self) -> u64 {
        taken(&self.dir)
    }

    /// Whether there is a new copy now, whole or not at all; `always`: also where every byte must be written. The one before goes
    /// when the new one is whole. The VM is stopped; the caller holds the lock. `DISK_FULL` before anything is written.
    pub fn make(
        &self,
        parts: BTreeMap<Part, Record>,
        boot: Option<String>,
        always: bool,
        watch: &Watch<'_>,
    ) -> Result<bool> {
        let total = if always { self.check_room()? } else { 0 };
        let all = self.all();
        disk::create_dir(all)?;
        disk::remove_leftovers(all)?;
        let new = disk::temp_dir_in(all)?;
        let from = [(&self.vm, "vm"), (&self.data, "data")];
        let mut copying = Copying { always, watch, root: new.path(), files: BTreeMap::new(), done: 0, total };
        for (dir, name) in from.into_iter().filter(|(dir, _)| dir.exists()) {
            let to = new.path().join(name);
            let copied = copying.dir(dir, &to);
            if watch.cancelled.is_cancelled() {
                return Err(aborted());
            }
            let left = copying.total.saturating_sub(copying.done);
            if !copied.map_err(|e| disk::write_error(e, &to, left))? {
                return Ok(false);
            }
        }
        let copied = Copied { made_at: Record::now(), parts, boot, files: copying.files, returning: false };
        disk::write_json(&new.path().join(RECORD), &copied)?;
        disk::replace_dir(&new.keep(), &self.dir)?;
        Ok(true)
    }

    /// `DISK_FULL` where a copy that must be written has no room; the bytes that one takes.
    pub fn check_room(&self) -> Result<u64> {
        let total = taken(&self.vm) + taken(&self.data);
        if !clones(self.all())? {
            disk::check_space(self.all(), total)?;
        }
        Ok(total)
    }

    fn all(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// `INVALID_STATE` for one that has lost something.
    pub fn check(&self, copied: &Copied) -> Result<()> {
        let whole = |(path, size): (&PathBuf, &u64)| {
            fs::symlink_metadata(self.dir.join(path)).is_ok_and(|meta| meta.is_file() && meta.len() == *size)
        };
        if copied.returning || copied.files.iter().all(whole) {
            return Ok(());
        }
        Err(Error::new(ErrorCode::InvalidState, "The copy of the VM is not whole any more")
            .hint("The VM stays as it is. discardPrevious() gives the copy's space back."))
    }

    /// Puts the copy in the VM's place, once it was seen to be whole. Runs again from any point; `restore` has what was installed
    /// be installed again.
    pub fn take_back(&self, mut copied: Copied, restore: impl FnOnce(&Copied) -> Result<()>) -> Result<()> {
        if !copied.returning {
            self.check(&copied)?;
            copied.returning = true;
            disk::write_json(&self.dir.join(RECORD), &copied)?;
        }
        for (name, place) in [("data", &self.data), ("vm", &self.vm)] {
            let copy = self.dir.join(name);
            if copy.exists() {
                // Not exchanged: one that was cut off there could not be told from one that had not begun.
                disk::remove(place)?;
                fs::rename(&copy, place).map_err(|e| Error::io(e, "putting back", place))?;
            }
        }
        restore(&copied)?;
        self.remove()
    }

    /// The record first: what an interruption leaves after that is no copy.
    pub fn remove(&self) -> Result<()> {
        disk::remove(&self.dir.join(RECORD))?;
        disk::remove(&self.dir)?;
        disk::remove_leftovers(self.all())
    }
}

/// What copies in these homes need to be put back: versions, and texts that name files.
pub fn needed(homes: &[PathBuf]) -> (Vec<Record>, Vec<String>) {
    let (mut records, mut texts) = (Vec::new(), Vec::new());
    for (dir, copied) in homes.iter().flat_map(|home| copies(home)) {
        records.extend(copied.parts.into_values());
        texts.extend(fs::read_to_string(dir.join("vm").join("lima.yaml")));
    }
    (records, texts)
}

/// Of a home; what is still being made has no record.
fn copies(home: &Path) -> impl Iterator<Item = (PathBuf, Copied)> + use<> {
    let entries = disk::entries(&home.join(ALL)).into_iter();
    entries.filter_map(|dir| disk::read_json(&dir.join(RECORD)).map(|copied| (dir, copied)))
}

/// What an uninstall that keeps the VMs takes with Lima: no copy can be put back without its version.
pub fn remove_all(home: &Path) -> Result<()> {
    disk::remove(&home.join(ALL))
}

/// Bytes on this computer.
fn taken(dir: &Path) -> u64 {
    let size = |path: &PathBuf| match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => taken(path),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    disk::entries(dir).iter().map(size).sum()
}

/// Whether files here can share their bytes.
fn clones(dir: &Path) -> Result<bool> {
    let probe = disk::temp_dir_in(dir)?;
    let (from, to) = (probe.path().join("from"), probe.path().join("to"));
    fs::write(&from, [0; 4096]).and_then(|()| clone(&from, &to)).map_err(|e| disk::write_error(e, &from, 0))
}

struct Copying<'a> {
    always: bool,
    watch: &'a Watch<'a>,
    root: &'a Path,
    files: BTreeMap<PathBuf, u64>,
    done: u64,
    total: u64,
}

impl Copying<'_> {
    /// `false` where a disk cannot be cloned. What belongs to a run of the VM stays out: sockets, pid files, its mark of use.
    fn dir(&mut self, from: &Path, to: &Path) -> io::Result<bool> {
        fs::create_dir(to)?;
        fs::set_permissions(to, fs::metadata(from)?.permissions())?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (path, name, kind) = (entry.path(), entry.file_name(), entry.file_type()?);
            let of_a_run =
                path.extension().is_some_and(|e| e == "pid" || e == "sock" || e == "tmp") || name == "in_use_by";
            let place = to.join(&name);
            if of_a_run {
            } else if kind.is_dir() {
                if !self.dir(&path, &place)? {
                    return Ok(false);
                }
            } else if kind.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&path)?, &place)?;
            } else if kind.is_file() && !self.file(&path, &place)? {
                return Ok(false);
            }
        }
        disk::sync_dir(to)?;
        Ok(true)
    }

    fn file(&mut self, from: &Path, to: &Path) -> io::Result<bool> {
        let size = fs::symlink_metadata(from)?.len();
        self.files.insert(to.strip_prefix(self.root).unwrap_or(to).to_owned(), size);
        if clone(from, to)? {
            return Ok(true);
        }
        let mut source = disk::open_regular(OpenOptions::new().read(true), from)?;
        let meta = source.metadata()?;
        if meta.blocks() * 512 > SMALL && !self.always {
            return Ok(false);
        }
        let mut target = OpenOptions::new().write(true).create_new(true).mode(meta.mode()).open(to)?;
        self.data(&mut source, &mut target, meta.len())?;
        disk::sync_file(&target)?;
        Ok(true)
    }

    /// Leaves holes as they are.
    fn data(&mut self, source: &mut File, target: &mut File, size: u64) -> io::Result<()> {
        use rustix::{fs::SeekFrom as Where, io::Errno};
        target.set_len(size)?;
        let mut at = 0;
        while at < size {
            let data = match rustix::fs::seek(&*source, Where::Data(at)) {
                Ok(data) => data,
                // Nothing but a hole follows.
                Err(Errno::NXIO) => break,
                Err(_) => at,
            };
            let end = rustix::fs::seek(&*source, Where::Hole(data)).unwrap_or(size).min(data + PIECE);
            source.seek(SeekFrom::Start(data))?;
            target.seek(SeekFrom::Start(data))?;
            let copied = io::copy(&mut Read::by_ref(source).take(end - data), target)?;
            if copied < end - data {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.done += copied;
            (self.watch.said)(self.done, self.total.max(self.done));
            if self.watch.cancelled.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            at = end;
        }
        target.flush()
    }
}

/// A file that shares its bytes with another until one of them is written. `false` where the file system cannot.
#[cfg(target_vendor = "apple")]
fn clone(from: &Path, to: &Path) -> io::Result<bool> {
    let source = disk::open_regular(OpenOptions::new().read(true), from)?;
    if rustix::fs::fclonefileat(&source, rustix::fs::CWD, to, rustix::fs::CloneFlags::empty()).is_err() {
        return Ok(false);
    }
    disk::sync_file(&File::open(to)?)?;
    Ok(true)
}

#[cfg(not(target_vendor = "apple"))]
fn clone(from: &Path, to: &Path) -> io::Result<bool> {
    let source = disk::open_regular(OpenOptions::new().read(true), from)?;
    let mode = source.metadata()?.mode();
    let target = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        // Else a power cut might leave the record of a copy, and no bytes in it.
        disk::sync_file(&target)?;
        return Ok(true);
    }
    fs::remove_file(to)?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: &str) -> Record {
        let json = serde_json::json!({ "version": version, "source": "", "sha256": "0".repeat(64), "installedAt": 0, "dir": "x", "files": [] });
        serde_json::from_value(json).unwrap()
    }

    struct Vm(tempfile::TempDir, Previous);

    impl Vm {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let previous = Previous::of(dir.path(), "default");
            fs::create_dir_all(previous.vm.join("sock")).unwrap();
            DataDisk::of(dir.path(), "default").create(64 << 20).unwrap();
            let vm = Self(dir, previous);
            vm.write("old");
            for (name, text) in [("disk", "the system"), ("ha.pid", "1"), ("sock/x", "")] {
                fs::write(vm.1.vm.join(name), text).unwrap();
            }
            std::os::unix::fs::symlink("disk", vm.1.vm.join("diffdisk")).unwrap();
            std::os::unix::fs::symlink("x", vm.1.data.join("in_use_by")).unwrap();
            vm
        }

        fn write(&self, text: &str) {
            use std::os::unix::fs::FileExt;
            fs::write(self.1.vm.join("lima.yaml"), text).unwrap();
            let disk = OpenOptions::new().write(true).open(self.1.data.join("datadisk")).unwrap();
            disk.write_all_at(text.as_bytes(), 32 << 20).unwrap();
        }

        fn state(&self) -> (String, String) {
            use std::os::unix::fs::FileExt;
            let mut bytes = [0; 3];
            File::open(self.1.data.join("datadisk")).unwrap().read_exact_at(&mut bytes, 32 << 20).unwrap();
            (fs::read_to_string(self.1.vm.join("lima.yaml")).unwrap(), String::from_utf8_lossy(&bytes).into_owned())
        }

        fn copy(&self) -> bool {
            let watch = Watch { cancelled: &CancellationToken::new(), said: &|_, _| {} };
            self.1.make([(Part::Lima, record("1"))].into(), None, true, &watch).unwrap()
        }
    }

    #[test]
    fn a_copy_is_put_back_whole_wherever_it_was_cut_off() {
        let old = ("old".to_owned(), "old".to_owned());
        for cut in 0..4 {
            let vm = Vm::new();
            assert!(vm.1.read().is_none());
            assert!(vm.copy());
            vm.write("new");
            let copied = vm.1.read().unwrap();
            let as_before = |copied: &Copied| {
                assert_eq!(copied.parts[&Part::Lima].version, "1");
                assert!(copied.returning);
                Ok(())
            };
            // As a process leaves it that was killed at this point.
            let begun =
                || disk::write_json(&vm.1.dir.join(RECORD), &Copied { returning: true, ..copied.clone() }).unwrap();
            match cut {
                0 => {}
                1 => {
                    begun();
                    fs::remove_dir_all(&vm.1.data).unwrap();
                }
                2 => {
                    begun();
                    fs::remove_dir_all(&vm.1.data).unwrap();
                    fs::rename(vm.1.dir.join("data"), &vm.1.data).unwrap();
                }
                _ => {
                    let died = |_: &Copied| Err(Error::internal("died"));
                    vm.1.take_back(copied, died).unwrap_err();
                }
            }
            let found = Previous::returning(&[vm.0.path().to_owned()]);
            assert_eq!(found.len(), usize::from(cut > 0));
            vm.1.take_back(vm.1.read().unwrap(), as_before).unwrap();
            assert_eq!(vm.state(), old, "{cut}");
            assert!(vm.1.read().is_none() && vm.1.vm.join("sock").is_dir());
            assert!(!vm.1.vm.join("ha.pid").exists() && fs::read_link(vm.1.data.join("in_use_by")).is_err());
            assert_eq!(fs::read_link(vm.1.vm.join("diffdisk")).unwrap(), Path::new("disk"));
        }
    }

    #[test]
    fn a_copy_that_lost_a_disk_takes_nothing_away() {
        for lost in ["data/datadisk", "vm/disk"] {
            let vm = Vm::new();
            assert!(vm.copy());
            vm.write("new");
            OpenOptions::new().write(true).open(vm.1.dir.join(lost)).unwrap().set_len(1).unwrap();
            let e = vm.1.take_back(vm.1.read().unwrap(), |_| panic!("it goes on")).unwrap_err();
            assert_eq!(e.code(), ErrorCode::InvalidState);
            assert_eq!(vm.state(), ("new".to_owned(), "new".to_owned()));
            assert!(!vm.1.read().unwrap().returning);
        }
    }

    #[test]
    fn a_copy_keeps_holes_and_a_new_one_takes_its_place() {
        let vm = Vm::new();
        assert!(vm.copy());
        let copy = vm.1.dir.join("data/datadisk");
        let meta = fs::metadata(&copy).unwrap();
        assert!(meta.len() == 64 << 20 && meta.blocks() * 512 < 8 << 20, "{meta:?}");
        vm.write("new");
        assert!(vm.copy());
        vm.1.take_back(vm.1.read().unwrap(), |_| Ok(())).unwrap();
        assert_eq!(vm.state().0, "new");
    }

    #[test]
    fn a_copy_that_was_given_up_leaves_the_one_before() {
        let vm = Vm::new();
        assert!(vm.copy());
        vm.write("new");
        let cancelled = CancellationToken::new();
        // While it is written.
        let said = |done, total| {
            assert!(done <= total);
            cancelled.cancel();
        };
        let watch = Watch { cancelled: &cancelled, said: &said };
        let made = vm.1.make(BTreeMap::new(), None, true, &watch);
        // A file system that clones is done before anybody can give up.
        if clones(vm.0.path()).unwrap() {
            return;
        }
        assert_eq!(made.unwrap_err().code(), ErrorCode::Aborted);
        assert_eq!(disk::entries(&vm.0.path().join(ALL)), std::slice::from_ref(&vm.1.dir));
        vm.1.take_back(vm.1.read().unwrap(), |_| Ok(())).unwrap();
        assert_eq!(vm.state().0, "old");
    }
}

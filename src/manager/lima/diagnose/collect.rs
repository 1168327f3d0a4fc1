//! Writes an archive for a support person: the findings, the settings and the ends of the logs, without anything private
//! ([`super::scrub`]).

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use super::{answer, scrub::Scrubber};
use crate::{
    call::Call,
    error::{Error, Result},
    fetch::{disk, record::Record},
    lima::instance::Instance,
    log,
    manager::lima::LimaRuntime,
    process::Command,
    task,
};

const COLLECT_TIMEOUT: Duration = Duration::from_secs(2 * 60);
/// How many bytes are kept of the end of each log and of the guest's answers.
const MAX_TAIL: u64 = 256 << 10;
/// The instance's files by Lima's names; which serial logs exist depends on the driver.
const INSTANCE_FILES: [&str; 8] = [
    "lima.yaml",
    "lima-version",
    "ssh.config",
    "ha.stdout.log",
    "ha.stderr.log",
    "serial.log",
    "serialp.log",
    "serialv.log",
];
/// Commands for a guest that answers.
const GUEST_COMMANDS: [(&str, &str); 6] = [
    ("docker.log", "journalctl -u docker --no-pager -n 1000"),
    ("containerd.log", "journalctl -u containerd --no-pager -n 1000"),
    // More than is kept, so that a line that is cut goes.
    ("boot.log", "tail -c 300000 /var/log/cloud-init-output.log"),
    ("services.txt", "systemctl --failed --no-pager"),
    ("disk.txt", "df -h"),
    ("memory.txt", "cat /proc/meminfo"),
];

impl LimaRuntime {
    /// Writes a `.tar.gz` to `path`, whole or not at all and for this user alone, and returns its absolute path. Codes:
    /// `INVALID_ARGUMENT` when `path` is in no directory or is not a regular file, `PERMISSION_DENIED`, `DISK_FULL`.
    pub async fn collect_diagnostics(&self, path: &Path, call: &Call) -> Result<PathBuf> {
        let path = std::path::absolute(path).map_err(|e| Error::invalid("path", e))?;
        call.run(COLLECT_TIMEOUT, async {
            let checks = self.diagnose(&Call::default()).await?;
            let mut files =
                vec![("checks.json".to_owned(), pretty(&checks)), ("about.json".to_owned(), pretty(&self.about()))];
            if checks.iter().any(|c| c.id == "ssh" && c.status == super::Verdict::Ok) {
                files.extend(self.guest_files().await);
            }
            let instance = Instance::new(&self.lima_home(), self.instance());
            files.push(("lima-runtime.log".to_owned(), end_of(log::kept().into_bytes())));
            let (dir, proxy) = (self.dir().to_owned(), self.options().network.http.proxy.clone());
            task::blocking(move || {
                files.extend(host_files(&dir, &instance));
                write(&path, files, &Scrubber::of_this_machine(proxy.as_deref()))?;
                Ok(path)
            })
            .await
        })
        .await
    }

    fn about(&self) -> serde_json::Value {
        let options = self.options();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "dataDir": self.dir(),
            "limaHome": self.lima_home(),
            "instance": self.instance(),
            "engine": self.engine(),
            "ownTemplate": options.template.is_some(),
            "rosetta": options.rosetta,
            "ownProxy": options.network.http.proxy.is_some(),
            "ownCertificates": options.network.http.ca_certificates.len(),
            "ownManifest": options.network.manifest.is_some(),
            "mirror": options.network.mirror.is_some(),
        })
    }

    async fn guest_files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let Ok(guest) = self.ssh().await else { return files };
        for (name, words) in GUEST_COMMANDS {
            let said = answer(&guest, Command::new(words.split(' ')).root()).await;
            let text = said.unwrap_or_else(|e| format!("{words}: {}", e.message()));
            files.push((format!("guest/{name}"), end_of(text.into_bytes())));
        }
        files
    }
}

fn pretty(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

fn host_files(dir: &Path, instance: &Instance) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("instance/files.txt".to_owned(), listing(&instance.dir).into_bytes())];
    let named = |to: String, path: PathBuf| Some((to, tail(&path)?));
    files.extend(["install.json", "state.json"].iter().filter_map(|f| named((*f).to_owned(), dir.join(f))));
    files.extend(INSTANCE_FILES.iter().filter_map(|f| named(format!("instance/{f}"), instance.path(f))));
    files
}

/// The end of a log, in whole lines: a cut line may lack the word that marks a secret.
fn tail(path: &Path) -> Option<Vec<u8>> {
    // Links are not followed: the archive is sent to others.
    let mut file = disk::open_regular(fs::OpenOptions::new().read(true), path).ok()?;
    // One byte more tells whether there is more.
    let from = file.metadata().ok()?.len().saturating_sub(MAX_TAIL + 1);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_TAIL + 1).read_to_end(&mut bytes).ok()?;
    Some(end_of(bytes))
}

fn end_of(mut bytes: Vec<u8>) -> Vec<u8> {
    let most = usize::try_from(MAX_TAIL).unwrap_or(usize::MAX);
    if bytes.len() > most {
        bytes.drain(..bytes.len() - most);
        let line = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..line);
    }
    bytes
}

/// Name, size, and seconds since 1970.
fn listing(dir: &Path) -> String {
    let mut lines: Vec<String> = disk::entries(dir)
        .iter()
        .filter_map(|path| {
            let meta = fs::symlink_metadata(path).ok()?;
            let age = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
            Some(format!("{} {} {age}\n", path.file_name()?.to_string_lossy(), meta.len()))
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// Whether nothing exists at `path`. Only a regular file may be replaced: a device, a pipe or a link belongs to somebody.
fn is_new(path: &Path) -> Result<bool> {
    let kind = match fs::symlink_metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(Error::io(e, "Cannot look at", path)),
    };
    let what = match kind {
        kind if kind.is_file() => return Ok(false),
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a link",
        _ => "no file",
    };
    Err(Error::invalid("path", format!("{} is {what}", path.display()))
        .hint("Name a file, or one that is not there yet."))
}

fn write(path: &Path, files: Vec<(String, Vec<u8>)>, scrubber: &Scrubber) -> Result<()> {
    let parent = path.parent().filter(|p| p.is_dir());
    let parent = parent.ok_or_else(|| Error::invalid("path", format!("{} is in no directory", path.display())))?;
    let new = is_new(path)?;
    let archive = || -> std::io::Result<()> {
        // Readable by this user alone.
        let file = tempfile::Builder::new().prefix(disk::TEMP_PREFIX).tempfile_in(parent)?;
        let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        for (name, bytes) in files {
            let text = scrubber.scrub(&String::from_utf8_lossy(&bytes));
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(Record::now() / 1000);
            tar.append_data(&mut header, format!("lima-runtime-diagnostics/{name}"), text.as_bytes())?;
        }
        let mut file = tar.into_inner()?.finish()?;
        file.flush()?;
        disk::sync_file(file.as_file())?;
        if new {
            file.persist_noclobber(path)?
        } else {
            file.persist(path)?
        };
        Ok(())
    };
    archive().map_err(|e| disk::write_error(e, path, MAX_TAIL))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{error::ErrorCode, manager::lima::LimaOptions};

    fn read(path: &Path) -> BTreeMap<String, String> {
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(path).unwrap()));
        let entry = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        };
        tar.entries().unwrap().map(entry).collect()
    }

    #[tokio::test]
    async fn the_archive_holds_the_logs_and_none_of_the_secrets() {
        const SECRET: &str = "Tr0ub4dor3XyzzyQw";
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("lima");
        let instance = data.join("vms/default");
        fs::create_dir_all(&instance).unwrap();
        let planted = format!(
            "password: {SECRET}\n{{\"msg\":\"token={SECRET}\"}}\nhttp://u:{SECRET}@p:1\n-----BEGIN X KEY-----\n{SECRET}\n\
             -----END X KEY-----\n203.0.113.7 /Users/somebodyelse/x\nit booted\n"
        );
        for file in INSTANCE_FILES {
            // A long log, cut inside the line of a secret.
            let long = "x".repeat(usize::try_from(MAX_TAIL).unwrap() - 8);
            let cut =
                if file == "ha.stderr.log" { format!("password: {SECRET}{SECRET}\n{long}") } else { String::new() };
            fs::write(instance.join(file), if cut.is_empty() { planted.clone() } else { cut + "\nthe end\n" }).unwrap();
        }
        // A link to a private file, and a pipe.
        fs::write(data.join("state.json"), format!("{{}} {SECRET}")).unwrap();
        let (link, pipe) = (instance.join("serialp.log"), instance.join("serialv.log"));
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("../../state.json", &link).unwrap();
        fs::rename(data.join("state.json"), data.join("theirs")).unwrap();
        std::os::unix::fs::symlink("theirs", data.join("state.json")).unwrap();
        fs::remove_file(&pipe).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let mut options = LimaOptions { data_dir: Some(data.clone()), ..Default::default() };
        options.network.http.proxy = Some(format!("http://me:{SECRET}@proxy:1"));
        let runtime = LimaRuntime::new(options).unwrap();
        let path = dir.path().join("out.tar.gz");
        let made = runtime.collect_diagnostics(&path, &Call::default()).await.unwrap();
        assert_eq!(made, path);
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
        let files = read(&path);
        for (name, text) in &files {
            for gone in [SECRET, "203.0.113.7", "somebodyelse"] {
                assert!(!text.contains(gone), "{name}: {text}");
            }
        }
        for name in ["state.json", "instance/serialp.log", "instance/serialv.log"] {
            assert!(!files.contains_key(&format!("lima-runtime-diagnostics/{name}")), "{name}");
        }
        let at = |name: &str| &files[&format!("lima-runtime-diagnostics/{name}")];
        assert!(at("instance/serial.log").contains("it booted"));
        assert!(at("instance/ha.stderr.log").ends_with("the end\n"));
        assert!(at("instance/files.txt").contains("lima.yaml"));
        assert!(at("checks.json").contains("\"id\": \"disk-space\"") && at("checks.json").contains("proxy=http://"));
        assert!(at("about.json").contains("\"ownProxy\": true"));
        // Nothing else is left, and nothing was changed.
        assert_eq!(disk::entries(dir.path()).len(), 2);
        assert_eq!(disk::entries(&data).len(), 3);
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_is_refused() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let places = tempfile::tempdir().unwrap();
        let at = |name: &str| places.path().join(name);
        fs::write(at("file"), "as it was").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let mut bad = vec![dir.path().to_owned(), dir.path().join("none/out.tar.gz")];
        bad.extend(["link", "dangling", "pipe", "socket"].map(at));
        // Root could replace a device.
        if rustix::process::geteuid().is_root() {
            let kind = rustix::fs::FileType::CharacterDevice;
            let null = rustix::fs::makedev(1, 3);
            match rustix::fs::mknodat(rustix::fs::CWD, at("device"), kind, 0o600.into(), null) {
                Ok(()) => bad.push(at("device")),
                Err(e) => crate::skip::skip(format_args!("no device can be made here: {e}")),
            }
        }
        let before = disk::entries(places.path()).len();
        let options = LimaOptions { data_dir: Some(dir.path().join("lima")), ..Default::default() };
        let runtime = LimaRuntime::new(options).unwrap();
        for bad in bad {
            let kind = || fs::symlink_metadata(&bad).ok().map(|m| m.file_type());
            let was = kind();
            let e = runtime.collect_diagnostics(&bad, &Call::default()).await.unwrap_err();
            assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("path")));
            assert_eq!(kind(), was, "{}", bad.display());
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "as it was");
        assert_eq!(disk::entries(places.path()).len(), before);
        runtime.collect_diagnostics(&at("file"), &Call::default()).await.unwrap();
        assert!(!read(&at("file")).is_empty());
        assert_eq!(disk::entries(dir.path()).len(), 0);
    }
}

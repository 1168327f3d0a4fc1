//! What an instance's directory and its host agent's socket tell, without starting a process (on macOS one `ps` for a pid
//! file whose process does not answer).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::limactl::Line;
use crate::{
    env_vars,
    error::{Error, ErrorCode, Result},
    fetch::{disk, manifest::BakedEngine},
    process::{
        self,
        identity::{self, Found, Identity},
    },
    task,
};

#[derive(Debug, Clone)]
pub struct Instance {
    pub name: String,
    /// `<LIMA_HOME>/<name>` with links followed, as Lima writes it.
    pub dir: PathBuf,
}

/// The process that a pid file names (docs/reference/lima.md#pid-files).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// There is no pid file.
    Absent,
    /// The process is gone, after a crash or a reboot.
    Gone,
    /// Another process has the number by chance; it is not ours to touch.
    Foreign,
    Ours(Identity),
}

impl Holder {
    pub fn is_ours(self) -> bool {
        matches!(self, Holder::Ours(_))
    }
}

/// The last state that the host agent wrote to `ha.stdout.log` (docs/reference/lima.md#events-of-the-host-agent). It may
/// come from an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    None,
    Booting,
    Running,
    /// The VM runs, but a requirement or probe failed.
    Degraded,
    Exiting,
}

/// The health of a running VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentHealth {
    Whole,
    /// Lima gave up before the guest was up; it may still come up.
    Waiting,
    /// Something failed for good.
    Degraded,
}

/// An instance at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub directory: bool,
    pub yaml: bool,
    /// There is a disk with a system on it; otherwise the next start makes one.
    pub disk: bool,
    pub agent: Holder,
    /// With vz, the same process as the agent.
    pub driver: Holder,
    /// The agent answers at its socket. Only our agent can, since the socket lies in our directory.
    pub answers: bool,
    pub event: AgentState,
}

/// What `<dir>/ssh.config` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshConfig {
    pub port: u16,
    pub user: String,
    pub identity: PathBuf,
}

/// The processes that the pid files named right after we started the instance.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedProcesses {
    processes: Vec<Identity>,
}

/// How long the ssh master may take; a healthy one answers at once.
const SSH_MASTER_TIMEOUT: Duration = Duration::from_secs(10);
const CONSOLES: [&str; 3] = ["serial.log", "serialp.log", "serialv.log"];
/// Our own files in the instance's directory.
const HOST_KEY_FILE: &str = "lima-runtime.hostkey";
const NEWEST_LIMA_FILE: &str = "lima-runtime.lima";
const PROCESSES_FILE: &str = "lima-runtime.processes.json";
const ENGINE_FILE: &str = "lima-runtime.engine";
const BAKED_FILE: &str = "lima-runtime.baked.json";
pub const KNOWN_HOSTS_FILE: &str = "lima-runtime.known_hosts";
/// The pid files of the agent and the drivers: vz runs in the agent, QEMU in its own process.
const PID_FILES: [&str; 3] = ["ha.pid", "vz.pid", "qemu.pid"];

/// A healthy agent answers in a millisecond; Lima itself gives it three seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How much of a log's end is read for the last state.
const TAIL_BYTES: u64 = 16 * 1024;
/// How much of a log's beginning is read for the first one.
const HEAD_BYTES: u64 = 64 * 1024;

impl Instance {
    pub fn new(lima_home: &Path, name: &str) -> Self {
        Self { name: name.to_owned(), dir: lima_home.join(name) }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub async fn facts(&self) -> Result<Facts> {
        let this = self.clone();
        let files = task::blocking(move || Ok(this.files()));
        let (files, answers) = tokio::join!(files, self.info());
        let mut facts = files?;
        facts.answers = answers.is_some();
        Ok(facts)
    }

    /// Whether the VM runs as far as Lima can tell: our agent answers, and its last state says so. Costs one socket and one
    /// file.
    pub async fn is_running(&self) -> bool {
        if self.info().await.is_none() {
            return false;
        }
        let log = self.path("ha.stdout.log");
        let event = task::blocking(move || Ok(last_state(&log))).await;
        matches!(event, Ok(AgentState::Running | AgentState::Degraded))
    }

    /// What the host agent reports about itself; `None` when it does not answer.
    pub async fn info(&self) -> Option<HostAgentInfo> {
        tokio::time::timeout(ANSWER_TIMEOUT, ask(&self.path("ha.sock"))).await.ok()?.ok()
    }

    /// Whether the agent or the driver lives. Blocks: it reads files and may run one `ps` on macOS.
    pub fn has_processes(&self) -> bool {
        let facts = self.files();
        facts.agent.is_ours() || facts.driver.is_ours()
    }

    fn files(&self) -> Facts {
        let exists = |file| self.path(file).exists();
        let [agent, vz, qemu] = self.holders();
        Facts {
            directory: self.dir.is_dir(),
            yaml: exists("lima.yaml"),
            disk: exists("diffdisk") || exists("disk"),
            agent,
            driver: if vz == Holder::Absent { qemu } else { vz },
            answers: false,
            event: last_state(&self.path("ha.stdout.log")),
        }
    }

    fn holders(&self) -> [Holder; 3] {
        let known: RecordedProcesses = disk::read_json(&self.path(PROCESSES_FILE)).unwrap_or_default();
        PID_FILES.map(|file| self.holder(file, &known))
    }

    fn holder(&self, file: &str, known: &RecordedProcesses) -> Holder {
        let path = self.path(file);
        let Ok(text) = std::fs::read_to_string(&path) else { return Holder::Absent };
        let found = identity::find(text.trim().parse().unwrap_or(0));
        judge(found, known, |process| {
            let written = std::fs::metadata(&path).and_then(|m| m.modified());
            written.is_ok_and(|written| process.ran_at(written)) && self.looks_like(process, file != "qemu.pid")
        })
    }

    /// The agent and QEMU both name files of the directory on their command line. Other programs may, too: this only tells
    /// the agent from QEMU.
    fn looks_like(&self, process: &Identity, is_agent: bool) -> bool {
        let inside = format!("{}/", self.dir.display());
        Pid::from_raw(process.pid())
            .and_then(command_line)
            .is_some_and(|line| line.contains(&inside) && (!is_agent || line.contains(" hostagent ")))
    }

    /// Records which processes run the VM now, so that they are known later even if the clock is changed. For the caller
    /// that has just started the VM, under its lock.
    pub async fn record_processes(&self) -> Result<()> {
        let this = self.clone();
        task::blocking(move || {
            let processes = this.holders().into_iter().filter_map(|holder| match holder {
                Holder::Ours(process) => Some(process),
                _ => None,
            });
            let (known, path) = (RecordedProcesses { processes: processes.collect() }, this.path(PROCESSES_FILE));
            if known.processes.is_empty() || disk::read_json::<RecordedProcesses>(&path).as_ref() == Some(&known) {
                return Ok(());
            }
            disk::write_json(&path, &known)
        })
        .await
    }

    /// Lima writes it anew at each start.
    pub async fn ssh_config(&self) -> Result<SshConfig> {
        let path = self.path("ssh.config");
        let text = tokio::fs::read_to_string(&path).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorCode::VmNotRunning, "The VM has not been started yet").hint("Start it.").source(e)
            }
            _ => Error::io(e, "reading", &path),
        })?;
        SshConfig::parse(&text).ok_or_else(|| {
            let text = format!("{} names no port, user and key", path.display());
            Error::new(ErrorCode::VmBroken, text).detail("path", path.display().to_string())
        })
    }

    /// The version of Lima that made the instance.
    pub async fn lima_version(&self) -> Option<String> {
        let text = tokio::fs::read_to_string(self.path("lima-version")).await.ok()?;
        Some(text.trim().trim_start_matches('v').to_owned()).filter(|v| !v.is_empty())
    }

    /// The newest version of Lima that made or started the instance, as far as we have seen.
    pub async fn newest_lima(&self) -> Option<String> {
        let ran = tokio::fs::read_to_string(self.path(NEWEST_LIMA_FILE)).await.ok().map(|text| text.trim().to_owned());
        let made = self.lima_version().await;
        [ran, made].into_iter().flatten().max_by_key(|version| release(version))
    }

    /// Records that `version` starts the instance, so that no older one starts it later.
    pub async fn record_lima(&self, version: &str) -> Result<()> {
        let newer = self.newest_lima().await.is_some_and(|newest| release(&newest) > release(version));
        if newer { Ok(()) } else { self.write(NEWEST_LIMA_FILE, version).await }
    }

    /// The name of the engine that ran in the guest last, if it was recorded.
    pub async fn engine(&self) -> Option<String> {
        Some(tokio::fs::read_to_string(self.path(ENGINE_FILE)).await.ok()?.trim().to_owned())
    }

    pub async fn record_engine(&self, name: &str) -> Result<()> {
        self.write(ENGINE_FILE, name).await
    }

    /// The engine of the image that the VM was made from, if that was a baked one.
    pub async fn baked(&self) -> Option<BakedEngine> {
        let path = self.path(BAKED_FILE);
        task::blocking(move || Ok(disk::read_json(&path))).await.ok().flatten()
    }

    pub async fn record_baked(&self, engine: &BakedEngine) -> Result<()> {
        let (path, engine) = (self.path(BAKED_FILE), engine.clone());
        task::blocking(move || disk::write_json(&path, &engine)).await
    }

    /// The root disk, a file that our driver wrote: qcow2 of QEMU, else raw (docs/reference/lima.md#disk-names).
    pub fn root_disk(&self) -> PathBuf {
        let new = self.path("disk");
        if new.exists() { new } else { self.path("diffdisk") }
    }

    /// The file with the guest's host key, in OpenSSH's format. It lies in the directory, so it goes with the VM.
    pub fn pin(&self) -> PathBuf {
        self.path(HOST_KEY_FILE)
    }

    /// The same key for the ssh program, under [`Instance::host`].
    pub fn known_hosts(&self) -> PathBuf {
        self.path(KNOWN_HOSTS_FILE)
    }

    /// The guest's name in Lima's `ssh.config`.
    pub fn host(&self) -> String {
        format!("lima-{}", self.name)
    }

    /// `None` before the first boot that we started.
    pub async fn pinned_host_key(&self) -> Option<String> {
        let text = tokio::fs::read_to_string(self.pin()).await.ok()?;
        Some(text.trim().to_owned()).filter(|key| !key.is_empty())
    }

    /// From now on a server at the VM's port must have this key.
    pub async fn pin_host_key(&self, public: &str) -> Result<()> {
        self.write(HOST_KEY_FILE, public).await?;
        self.write(KNOWN_HOSTS_FILE, &format!("{} {public}\n", self.host())).await
    }

    /// Writes the whole file or nothing, readable by this user alone. A file that holds the text already is left as it is.
    pub async fn write(&self, file: &str, text: &str) -> Result<()> {
        let (path, text) = (self.path(file), text.to_owned());
        task::blocking(move || {
            if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
                return Ok(());
            }
            let write = || -> std::io::Result<()> {
                let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(&path))?;
                std::io::Write::write_all(&mut file, text.as_bytes())?;
                file.as_file().sync_all()?;
                file.persist(&path)?;
                Ok(())
            };
            write().map_err(|e| Error::io(e, "writing", &path))
        })
        .await
    }

    /// The health of a VM that Lima calls running. Lima waits a minute for its agent in the guest, then calls the VM
    /// degraded, but keeps looking for the agent: one that comes late forwards ports all the same.
    pub async fn health(&self) -> AgentHealth {
        let (events, log) = (self.path("ha.stdout.log"), self.path("ha.stderr.log"));
        let work = move || Ok(health(&events, || log_contains(&log, "\"msg\":\"Guest agent is running\"")));
        task::blocking(work).await.unwrap_or(AgentHealth::Degraded)
    }

    /// How many bytes the guest's consoles have printed.
    pub async fn consoles(&self) -> u64 {
        let paths = CONSOLES.map(|file| self.path(file));
        let work = move || Ok(paths.iter().map(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).sum());
        task::blocking(work).await.unwrap_or_default()
    }

    /// Whether the host agent says that it lost the guest agent (lima-vm/lima#2227, fixed in 2.0).
    pub fn reports_lost_agent(&self, line: &Line) -> bool {
        line.text() == "guest agent events closed unexpectedly"
            && line
                .fields
                .get("error")
                .and_then(|e| e.as_str())
                .is_some_and(|e| e.contains("ga.sock: connect: no such"))
    }

    /// When the guest agent does not answer, Lima before 2.0 forwards its socket again. ssh refuses that while the first
    /// forward stands, and Lima removes the socket: a late agent is lost for ever. Once the first forward is cancelled,
    /// Lima's next attempt, within ten seconds, succeeds. Does nothing while the socket exists.
    pub async fn cancel_agent_forward(&self) {
        let local = self.path("ga.sock");
        if !local.exists() && self.path("qemu.pid").exists() {
            let forward = format!("{}:/run/lima-guestagent.sock", local.display());
            self.ssh_control(&["-O", "cancel", "-L", &forward]).await;
        }
    }

    /// Sends a control command to the ssh master that Lima keeps open to the guest, if there is one.
    pub async fn ssh_control(&self, words: &[&str]) {
        if !self.path("ssh.sock").exists() {
            return;
        }
        let mut ssh = std::process::Command::new(env_vars::ssh());
        // By its name alone: ssh interprets a path.
        ssh.current_dir(&self.dir).args(["-F", "/dev/null", "-o", "ControlPath=ssh.sock"]).args(words).arg("lima");
        if let Ok(process) = process::spawn(ssh, bytes::Bytes::new(), None).await {
            _ = tokio::time::timeout(SSH_MASTER_TIMEOUT, process.output()).await;
        }
    }

    /// Removes the pid files and sockets of processes that are gone or not ours, as Lima's forced stop does, but without
    /// killing what the pid files name. Does nothing while one of the processes is ours.
    pub async fn remove_leftovers(&self) -> Result<Vec<String>> {
        let this = self.clone();
        let work = move || -> Result<Vec<String>> {
            if this.has_processes() {
                return Ok(Vec::new());
            }
            let mut removed = Vec::new();
            for entry in std::fs::read_dir(&this.dir).map_err(|e| Error::io(e, "reading", &this.dir))?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = Path::new(&name);
                if path.extension().is_some_and(|e| e == "pid" || e == "sock" || e == "tmp") {
                    std::fs::remove_file(entry.path()).map_err(|e| Error::io(e, "removing", &entry.path()))?;
                    removed.push(name);
                }
            }
            Ok(removed)
        };
        task::blocking(work).await
    }

    /// The last lines of one of the instance's logs, for an error's details.
    pub async fn log_tail(&self, file: &str, lines: usize) -> String {
        let path = self.path(file);
        let text = task::blocking(move || Ok(tail(&path))).await.ok().flatten().unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// The part of a version on which an instance's layout depends: its first two numbers. `None` for a build without a
/// version.
pub fn release(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '+']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

impl SshConfig {
    /// `Key value` or `Key "value"`, keys in any case, as `ssh -F` reads it.
    pub fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            text.lines().find_map(|line| {
                let (k, v) = line.trim().split_once([' ', '\t', '='])?;
                k.eq_ignore_ascii_case(key).then(|| v.trim().trim_matches('"').to_owned())
            })
        };
        Some(Self { port: value("Port")?.parse().ok()?, user: value("User")?, identity: value("IdentityFile")?.into() })
    }
}

/// Judges the process that a pid file names. A recorded process is ours. For another, `was_it` tells whether it wrote the
/// file, since somebody else may have started the VM: a process that ran at that time and has the number now had it then.
fn judge(found: Found, known: &RecordedProcesses, was_it: impl FnOnce(&Identity) -> bool) -> Holder {
    match found {
        Found::Nobody => Holder::Gone,
        Found::Process(process) if known.processes.contains(&process) || was_it(&process) => Holder::Ours(process),
        Found::Process(_) | Found::Hidden => Holder::Foreign,
    }
}

/// `GET /v1/info` (docs/reference/lima.md#socket-of-the-host-agent).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostAgentInfo {
    #[serde(default)]
    pub ssh_local_port: u16,
}

async fn ask(socket: &Path) -> Result<HostAgentInfo, Box<dyn std::error::Error + Send + Sync>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // A task of its own: the connection may end before we have read the answer.
    let _connection = AbortOnDropHandle::new(task::spawn(connection));
    let request = hyper::Request::get("/v1/info")
        .header("host", "lima-hostagent")
        .body(http_body_util::Empty::<bytes::Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(format!("status {}", response.status()).into());
    }
    let body = http_body_util::Limited::new(response.into_body(), 1 << 20).collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

fn tail(path: &Path) -> Option<String> {
    use std::io::Seek;
    let mut file = open(path)?;
    let length = file.metadata().ok()?.len();
    file.seek(std::io::SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    text(file, TAIL_BYTES)
}

fn head(path: &Path) -> Option<String> {
    text(open(path)?, HEAD_BYTES)
}

fn open(path: &Path) -> Option<std::fs::File> {
    disk::open_regular(std::fs::OpenOptions::new().read(true), path).ok()
}

fn text(file: std::fs::File, most: u64) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// One line of `ha.stdout.log` (lima v2.2.0 pkg/hostagent/events/events.go).
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AgentStatus {
    running: bool,
    degraded: bool,
    exiting: bool,
    errors: Vec<String>,
    cloud_init_progress: Option<serde::de::IgnoredAny>,
    port_forward: Option<serde::de::IgnoredAny>,
    vsock: Option<serde::de::IgnoredAny>,
}

impl AgentStatus {
    fn parse(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Record {
            status: AgentStatus,
        }
        Some(serde_json::from_str::<Record>(line).ok()?.status)
    }

    /// An event about something else that repeats the state. Since Lima 2.1; the state is looked up without the lock
    /// (emitPortForwardEvent), so it may be outdated.
    fn is_repeated(&self) -> bool {
        self.cloud_init_progress.is_some() || self.port_forward.is_some() || self.vsock.is_some()
    }

    fn event(&self) -> AgentState {
        match (self.exiting, self.running, self.degraded) {
            (true, ..) => AgentState::Exiting,
            (_, true, true) => AgentState::Degraded,
            (_, true, false) => AgentState::Running,
            _ => AgentState::Booting,
        }
    }
}

fn last_state(log: &Path) -> AgentState {
    last_status(log).map_or(AgentState::None, |status| status.event())
}

fn health(events: &Path, agent_ran: impl FnOnce() -> bool) -> AgentHealth {
    match last_status(events) {
        Some(status) if status.degraded => {
            // All errors come in one text. Of Lima's errors (pkg/hostagent: hostagent.go, requirements.go, mount.go) only
            // the waits that timed out may still be met.
            let late = |e: &String| {
                !e.contains(" reverse sshfs for ")
                    && (e.contains("guest agent does not seem to be running") || e.contains("failed to satisfy the "))
            };
            if !status.errors.iter().all(late) {
                AgentHealth::Degraded
            } else if agent_ran() {
                AgentHealth::Whole
            } else {
                AgentHealth::Waiting
            }
        }
        _ => AgentHealth::Whole,
    }
}

fn last_status(log: &Path) -> Option<AgentStatus> {
    status_of(&tail(log).unwrap_or_default(), || head(log).unwrap_or_default())
}

fn status_of(tail: &str, head: impl FnOnce() -> String) -> Option<AgentStatus> {
    let mut repeated = None;
    for status in tail.lines().rev().filter_map(AgentStatus::parse) {
        if !status.is_repeated() {
            return Some(status);
        }
        repeated = repeated.or(Some(status));
    }
    let repeated = repeated?;
    if repeated.event() != AgentState::Booting {
        return Some(repeated);
    }
    // The agent's own state stands far above: its first events are at the log's beginning.
    head().lines().rev().filter_map(AgentStatus::parse).find(|status| !status.is_repeated()).or(Some(repeated))
}

/// Whether a line of the log holds these words. Reads line by line: a log grows as long as its VM runs.
fn log_contains(log: &Path, words: &str) -> bool {
    use std::io::BufRead;
    let Some(file) = open(log) else { return false };
    let (mut reader, mut line) = (std::io::BufReader::new(file), Vec::new());
    loop {
        line.clear();
        match std::io::Read::take(&mut reader, TAIL_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return false,
            Ok(_) if memchr::memmem::find(&line, words.as_bytes()).is_some() => return true,
            Ok(_) => {}
        }
    }
}

/// The arguments, joined by spaces; empty for a zombie, `None` when the system does not tell them.
fn command_line(pid: Pid) -> Option<String> {
    if cfg!(target_os = "linux") {
        let bytes = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        return Some(String::from_utf8_lossy(&bytes).replace('\0', " "));
    }
    let out = std::process::Command::new("/bin/ps")
        .args(["-ww", "-o", "command=", "-p", &pid.as_raw_nonzero().to_string()])
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    SshConfig::parse(text);
    release(text);
    if let Some(status) = status_of(text, || text.to_owned()) {
        status.event();
    }
    let _ = serde_json::from_str::<HostAgentInfo>(text);
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::process::CommandExt,
        process::Stdio,
    };

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::lima::limactl::tests::{VERSIONS, recorded};

    fn instance() -> (tempfile::TempDir, Instance) {
        let home = tempfile::tempdir().unwrap();
        let instance = Instance::new(&home.path().canonicalize().unwrap(), "default");
        std::fs::create_dir(&instance.dir).unwrap();
        (home, instance)
    }

    fn write(instance: &Instance, file: &str, text: impl std::fmt::Display) {
        std::fs::write(instance.path(file), text.to_string()).unwrap();
    }

    struct Running(std::process::Child);
    impl Drop for Running {
        fn drop(&mut self) {
            _ = self.0.kill();
            _ = self.0.wait();
        }
    }

    /// Starts a process with this command line.
    fn pretend(line: &[&str]) -> Running {
        // `sh -c 'read x'` waits for its input, and takes any further words.
        let mut command = std::process::Command::new("/bin/sh");
        command
            .arg0(line[0])
            .args(["-c", "echo; read x"])
            .args(&line[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Right after the spawn it has no command line yet.
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        Running(child)
    }

    #[tokio::test]
    async fn nothing_there_is_nothing_found() {
        let home = tempfile::tempdir().unwrap();
        let facts = Instance::new(home.path(), "default").facts().await.unwrap();
        assert!(!facts.directory && !facts.yaml && !facts.disk && !facts.answers);
        assert_eq!((facts.agent, facts.driver, facts.event), (Holder::Absent, Holder::Absent, AgentState::None));
    }

    #[tokio::test]
    async fn a_pid_counts_only_for_our_own_process() {
        let (_home, instance) = instance();
        let dir = instance.dir.to_str().unwrap();
        let pid_file = format!("{dir}/ha.pid");
        let ours = pretend(&["limactl", "x", "hostagent", "--pidfile", &pid_file, "default"]);
        let sibling = pretend(&["limactl", "x", "hostagent", "--pidfile", &format!("{dir}2/ha.pid"), "default2"]);
        let qemu = pretend(&["qemu-system-x86_64", "x", "-pidfile", &format!("{dir}/qemu.pid")]);
        let at = |child: &Running| child.0.id();
        let identity = |child: &Running| Identity::of(at(child)).unwrap();

        write(&instance, "ha.pid", format!("{}\n", at(&ours)));
        write(&instance, "qemu.pid", at(&qemu));
        let facts = instance.facts().await.unwrap();
        assert!(facts.agent.is_ours() && facts.driver.is_ours(), "{facts:?}");

        // A process that started after the file was written has the number by chance, whatever its arguments say.
        let ages_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        for file in ["ha.pid", "qemu.pid"] {
            let opened = std::fs::File::options().write(true).open(instance.path(file)).unwrap();
            opened.set_modified(ages_ago).unwrap();
        }
        let facts = instance.facts().await.unwrap();
        assert_eq!((facts.agent, facts.driver), (Holder::Foreign, Holder::Foreign));
        // A recorded process is known even when the clock was changed.
        disk::write_json(&instance.path(PROCESSES_FILE), &RecordedProcesses { processes: vec![identity(&ours)] })
            .unwrap();
        let facts = instance.facts().await.unwrap();
        assert_eq!((facts.agent, facts.driver), (Holder::Ours(identity(&ours)), Holder::Foreign));

        write(&instance, "ha.pid", at(&sibling));
        assert_eq!(instance.facts().await.unwrap().agent, Holder::Foreign);
        write(&instance, "ha.pid", at(&qemu));
        assert_eq!(instance.facts().await.unwrap().agent, Holder::Foreign);
        write(&instance, "ha.pid", std::process::id());
        assert_eq!(instance.facts().await.unwrap().agent, Holder::Foreign);

        write(&instance, "ha.pid", at(&ours));
        write(&instance, "qemu.pid", at(&qemu));
        std::fs::remove_file(instance.path(PROCESSES_FILE)).unwrap();
        instance.record_processes().await.unwrap();
        let known: RecordedProcesses = disk::read_json(&instance.path(PROCESSES_FILE)).unwrap();
        assert_eq!(known.processes, [identity(&ours), identity(&qemu)]);

        // A zombie, an unused number, no number.
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        write(&instance, "ha.pid", dead.id());
        let began = std::time::Instant::now();
        while instance.facts().await.unwrap().agent != Holder::Gone {
            assert!(began.elapsed() < Duration::from_secs(120));
        }
        dead.wait().unwrap();
        for text in ["", "x", "-1", "0", "2147483647", "99999999999"] {
            write(&instance, "ha.pid", text);
            assert_eq!(instance.facts().await.unwrap().agent, Holder::Gone, "{text}");
        }
    }

    /// Judged the same on every system, also where a system hides a fact.
    #[test]
    fn a_process_is_judged_by_what_the_system_says_of_it() {
        let mut child = pretend(&["x"]);
        let process = Identity::of(child.0.id()).unwrap();
        let (nobody, known) = (RecordedProcesses::default(), RecordedProcesses { processes: vec![process] });
        let never = |_: &Identity| panic!("no need to look");
        assert_eq!(judge(Found::Nobody, &known, never), Holder::Gone);
        assert_eq!(judge(Found::Hidden, &known, never), Holder::Foreign);
        assert_eq!(judge(Found::Process(process), &known, never), Holder::Ours(process));
        assert_eq!(judge(Found::Process(process), &nobody, |_| true), Holder::Ours(process));
        assert_eq!(judge(Found::Process(process), &nobody, |_| false), Holder::Foreign);
        // Another with the same number.
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        let other = Identity::of(std::process::id()).unwrap();
        assert_eq!(judge(Found::Process(other), &known, |_| false), Holder::Foreign);
    }

    #[tokio::test]
    async fn the_last_complete_word_of_the_agent_counts() {
        let (_home, instance) = instance();
        let mut log = std::fs::File::create(instance.path("ha.stdout.log")).unwrap();
        for (line, event) in [
            (r#"{"time":"t","status":{"sshLocalPort":36269}}"#, AgentState::Booting),
            (r#"{"time":"t","status":{"running":true,"degraded":true,"errors":["x"]}}"#, AgentState::Degraded),
            (r#"{"time":"t","status":{"running":true,"sshLocalPort":36269}}"#, AgentState::Running),
            (r#"{"time":"t","status":{"exit"#, AgentState::Running),
        ] {
            writeln!(log, "{line}").unwrap();
            assert_eq!(last_state(&instance.path("ha.stdout.log")), event, "{line}");
        }
        writeln!(log, "{}\n{{\"status\":{{\"exiting\":true}}}}", "x".repeat(100_000)).unwrap();
        assert_eq!(last_state(&instance.path("ha.stdout.log")), AgentState::Exiting);
    }

    /// As 2.2.0 wrote it, and with a state that such an event may have looked up a moment before.
    #[tokio::test]
    async fn an_event_about_a_port_is_none_about_the_vm() {
        let (_home, instance) = instance();
        let log = instance.path("ha.stdout.log");
        let own = |status: &str| format!("{{\"time\":\"t\",\"status\":{status}}}\n");
        let port = |running: &str| {
            own(&format!(
                r#"{{{running}"sshLocalPort":44827,"portForward":{{"type":"forwarding","protocol":"udp","guestAddr":"0.0.0.0:7001","hostAddr":"127.0.0.1:7001"}}}}"#
            ))
        };
        let (booting, running) = (own(r#"{"sshLocalPort":44827}"#), own(r#"{"running":true,"sshLocalPort":44827}"#));
        let degraded = own(r#"{"running":true,"degraded":true,"errors":["x"],"sshLocalPort":44827}"#);
        let exiting = own(r#"{"exiting":true}"#);
        let progress = own(r#"{"sshLocalPort":44827,"cloudInitProgress":{"logLine":"x","active":true}}"#);
        let (late, now) = (port(""), port("\"running\":true,"));
        for (events, expected) in [
            (vec![booting.clone(), late.clone()], AgentState::Booting),
            (vec![booting.clone(), progress.clone()], AgentState::Booting),
            (vec![booting.clone(), running.clone(), now.clone()], AgentState::Running),
            (vec![booting.clone(), running.clone(), late.clone()], AgentState::Running),
            (vec![booting.clone(), late.clone(), running.clone(), progress.clone(), late.clone()], AgentState::Running),
            (vec![booting.clone(), degraded.clone(), now.clone()], AgentState::Degraded),
            (vec![booting.clone(), running.clone(), exiting.clone(), now.clone()], AgentState::Exiting),
            // So many that the agent's own states lie outside the part that is read.
            (vec![booting.clone(), running.clone(), now.repeat(1000)], AgentState::Running),
            (vec![booting.clone(), running.clone(), late.repeat(1000)], AgentState::Running),
            (vec![booting.clone(), late.repeat(1000), exiting, late.clone()], AgentState::Exiting),
        ] {
            std::fs::write(&log, events.concat()).unwrap();
            assert_eq!(last_state(&log), expected, "{}", events.concat().chars().take(600).collect::<String>());
        }
    }

    #[tokio::test]
    async fn an_agent_that_answers_is_running_only_after_it_said_so() {
        let (_home, instance) = instance();
        assert!(!instance.is_running().await);
        let listener = tokio::net::UnixListener::bind(instance.path("ha.sock")).unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let n = socket.read(&mut request).await.unwrap();
                assert!(request[..n].starts_with(b"GET /v1/info HTTP/1.1\r\n"));
                let body = r#"{"sshLocalPort":36269}"#;
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        });
        assert_eq!(instance.info().await.unwrap().ssh_local_port, 36269);
        assert!(instance.facts().await.unwrap().answers);
        assert!(!instance.is_running().await);
        write(&instance, "ha.stdout.log", "{\"status\":{\"running\":true}}\n");
        assert!(instance.is_running().await);
    }

    #[test]
    fn limas_ssh_config_is_read() {
        let text = "# comment\nHost lima-default\n  IdentityFile \"/Users/a b/_config/user\"\n  StrictHostKeyChecking no\n  \
                    User lima\n  ControlPath \"/x/ssh.sock\"\n  Hostname 127.0.0.1\n  Port 60022\n";
        let config = SshConfig { port: 60022, user: "lima".into(), identity: "/Users/a b/_config/user".into() };
        assert_eq!(SshConfig::parse(text), Some(config));
        assert_eq!(SshConfig::parse("Host x\n  User lima\n"), None);
    }

    /// As 1.2.1 wrote it when a slow guest's agent was late.
    #[test]
    fn the_lost_way_to_the_guest_agent_is_seen() {
        let (_home, instance) = instance();
        let (_, lines) = recorded("1.2.1", "start-degraded.json");
        assert!(lines.iter().filter(|line| instance.reports_lost_agent(line)).count() > 10);
        for version in VERSIONS {
            // Late, but found.
            let (_, lines) = recorded(version, "start-first.json");
            assert!(!lines.iter().any(|line| instance.reports_lost_agent(line)), "{version}");
        }
        let errors =
            |text: &str| format!("{{\"status\":{{\"running\":true,\"degraded\":true,\"errors\":[{text:?}]}}}}\n");
        let late = "guest agent does not seem to be running; port forwards will not work";
        let mount = "failed to mount reverse sshfs for \"/a\" on \"/a\": x";
        let probe = "failed to satisfy the optional requirement 3 of 3 `containerd must answer`: x";
        let log = instance.path("ha.stdout.log");
        for (text, agent_ran, expected) in [
            (late.to_owned(), false, AgentHealth::Waiting),
            (late.to_owned(), true, AgentHealth::Whole),
            (probe.to_owned(), true, AgentHealth::Whole),
            (format!("{mount}\n{late}"), true, AgentHealth::Degraded),
            ("something else".to_owned(), true, AgentHealth::Degraded),
        ] {
            std::fs::write(&log, errors(&text)).unwrap();
            assert_eq!(health(&log, || agent_ran), expected, "{text}");
        }
        write(
            &instance,
            "ha.stderr.log",
            "x\n{\"level\":\"info\",\"msg\":\"Guest agent is running\",\"time\":\"t\"}\n",
        );
        assert!(log_contains(&instance.path("ha.stderr.log"), "\"msg\":\"Guest agent is running\""));
        assert!(!log_contains(&instance.path("ha.stderr.log"), "\"msg\":\"Guest agent is gone\""));
    }

    #[tokio::test]
    async fn the_newest_lima_counts() {
        let (_home, instance) = instance();
        assert_eq!(instance.newest_lima().await, None);
        for (version, newest) in [("1.10.0", "1.10.0"), ("1.9.3", "1.10.0"), ("2.2.0", "2.2.0"), ("<unknown>", "2.2.0")]
        {
            instance.record_lima(version).await.unwrap();
            assert_eq!(instance.newest_lima().await.as_deref(), Some(newest), "{version}");
        }
        // A patch release does not change an instance's layout.
        instance.record_lima("2.2.1").await.unwrap();
        assert!(release("v2.2.0") == release("2.2.9-alpha") && release("<unknown>").is_none());
        write(&instance, "lima-version", "v2.3.0\n");
        assert_eq!(instance.newest_lima().await.as_deref(), Some("2.3.0"));
    }

    #[tokio::test]
    async fn cleaning_up_takes_pid_and_socket_files_only() {
        let (_home, instance) = instance();
        for file in ["ha.pid", "vz.pid", "ha.sock", "x.tmp", "lima.yaml", "diffdisk", "ha.stderr.log"] {
            write(&instance, file, "");
        }
        let mut removed = instance.remove_leftovers().await.unwrap();
        removed.sort();
        assert_eq!(removed, ["ha.pid", "ha.sock", "vz.pid", "x.tmp"]);
        assert!(instance.path("lima.yaml").exists() && instance.path("diffdisk").exists());
    }
}

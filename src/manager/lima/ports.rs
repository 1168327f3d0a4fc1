//! A container's published port is a listener in the guest until Lima's host agent has seen it (it looks every three
//! seconds) and listens on the host. What it does it says in its log (docs/reference/lima.md#published-ports); nobody
//! dials a port to find out, since a server that answers once would have answered us.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::LimaRuntime;
use crate::{
    call,
    error::{Error, ErrorCode, Result},
    task,
};

/// How long a published port may take to appear on the host.
const FORWARD: Duration = Duration::from_secs(10);
/// The log tells nobody that it grew: how often we look.
const LOOK: Duration = Duration::from_millis(100);

/// What `nerdctl run` is asked to publish.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Publishing {
    /// The command ends while the container lives.
    pub detached: bool,
    /// TCP ports of the host.
    pub ports: Vec<u16>,
    /// UDP ports of the host, which not every Lima forwards (docs/reference/lima.md#udp-ports).
    pub udp: Vec<u16>,
}

impl Publishing {
    /// `None` when these arguments run no container.
    pub fn of(args: &[String]) -> Option<Self> {
        let rest = match args {
            [run, rest @ ..] if run == "run" => rest,
            [container, run, rest @ ..] if container == "container" && run == "run" => rest,
            _ => return None,
        };
        let mut this = Self::default();
        let mut words = rest.iter();
        // Up to the image; what follows it is the container's.
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None if ALONE.contains(&long) => (long, None),
                    None => (long, words.next().map(String::as_str)),
                };
                match (name, value) {
                    ("", _) => break,
                    ("detach", value) => this.detached = value != Some("false"),
                    ("publish", Some(value)) => this.publish(value),
                    _ => {}
                }
            } else if let Some(letters) = word.strip_prefix('-').filter(|l| !l.is_empty()) {
                for (i, letter) in letters.char_indices() {
                    if letter == 'd' {
                        this.detached = true;
                    } else if !matches!(letter, 'i' | 't' | 'q') {
                        // It takes a value: the rest of the word, or the next one.
                        let rest = letters[i + letter.len_utf8()..].trim_start_matches('=');
                        let value = if rest.is_empty() { words.next().map_or("", String::as_str) } else { rest };
                        if letter == 'p' {
                            this.publish(value);
                        }
                        break;
                    }
                }
            } else {
                break;
            }
        }
        Some(this)
    }

    /// `[ip:]host:container[/tcp]`; a port that the guest chooses, or a range, is left to itself.
    fn publish(&mut self, value: &str) {
        let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
        let list = match protocol {
            "tcp" => &mut self.ports,
            "udp" => &mut self.udp,
            _ => return,
        };
        if let Some((host, _container)) = ports.rsplit_once(':') {
            let port = host.rsplit(':').next().unwrap_or(host);
            list.extend(port.parse::<u16>().ok().filter(|&p| p > 0));
        }
    }
}

/// nerdctl's flags of `run` that take no value (docs/reference/nerdctl.md#flags-of-run).
const ALONE: [&str; 15] = [
    "detach",
    "disable-content-trust",
    "help",
    "init",
    "insecure-registry",
    "interactive",
    "ipfs",
    "no-healthcheck",
    "oom-kill-disable",
    "privileged",
    "quiet",
    "read-only",
    "rm",
    "rootfs",
    "tty",
];

/// What the host agent forwards, as its log tells.
pub struct Forwards {
    log: PathBuf,
    read: u64,
    /// The last word on each port of the host.
    ports: BTreeMap<u16, Forward>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Forward {
    Open,
    Closed,
    Failed(String),
}

impl Forwards {
    /// Of the current boot, from the log's beginning.
    async fn read(log: PathBuf) -> Result<Self> {
        Self { log, read: 0, ports: BTreeMap::new() }.more().await
    }

    async fn more(mut self) -> Result<Self> {
        task::blocking(move || {
            let text = from(&self.log, self.read).map_err(|e| Error::io(e, "reading", &self.log))?;
            // The last line may be half written.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            self.read += whole as u64;
            text[..whole].lines().for_each(|line| self.line(line));
            Ok(self)
        })
        .await
    }

    fn line(&mut self, line: &str) {
        // Most of the log is of other things.
        if !line.contains("orward") && !line.contains("failed to listen") {
            return;
        }
        let Ok(entry) = serde_json::from_str::<serde_json::Value>(line.trim_start_matches('\0')) else { return };
        let said = entry["msg"].as_str().unwrap_or_default();
        let port_at_end = |text: &str| text.rsplit(':').next().and_then(|p| p.trim().parse().ok());
        if let Some(rest) = said.strip_prefix("Forwarding TCP from ") {
            self.ports.extend(port_at_end(rest).map(|port| (port, Forward::Open)));
        } else if let Some(rest) = said.strip_prefix("Stopping forwarding TCP from ") {
            self.ports.extend(port_at_end(rest).map(|port| (port, Forward::Closed)));
        } else if let Some(rest) = said.strip_prefix("Port forwarding closed proto:tcp host:") {
            let host = rest.split(' ').next().and_then(port_at_end);
            self.ports.extend(host.map(|port| (port, Forward::Closed)));
        } else if said.starts_with("failed to listen") {
            // … listen tcp 127.0.0.1:8080: bind: address already in use
            let port = said.split("tcp ").filter_map(|t| port_at_end(t.split(": ").next()?)).last();
            self.ports.extend(port.map(|port| (port, Forward::Failed(said.to_owned()))));
        }
    }

    fn is_open(&self, port: u16) -> bool {
        self.ports.get(&port) == Some(&Forward::Open)
    }

    fn failure(&self, ports: &[u16]) -> Option<Error> {
        ports.iter().find_map(|port| match self.ports.get(port) {
            Some(Forward::Failed(why)) => Some(in_use(*port).detail("logTail", why.as_str())),
            _ => None,
        })
    }
}

impl LimaRuntime {
    async fn forwards(&self) -> Result<Forwards> {
        Forwards::read(self.machine(self.lima_home(), None).instance().path("ha.stderr.log")).await
    }

    /// `PORT_IN_USE` when a program of the host listens on one of these TCP ports. One that Lima forwards already is for
    /// the guest to judge: the host agent notices the end of a container only seconds later.
    pub async fn check_host_ports(&self, ports: &[u16]) -> Result<()> {
        let taken: Vec<u16> = ports.iter().copied().filter(|&port| !is_free(port)).collect();
        if taken.is_empty() {
            return Ok(());
        }
        let forwards = self.forwards().await?;
        taken.into_iter().find(|&port| !forwards.is_open(port)).map_or(Ok(()), |port| Err(in_use(port)))
    }

    /// Returns once these TCP ports answer on the host, or after 10 s with a warning: then the container's own listener
    /// is late, and its time will come. `PORT_IN_USE` when another program was faster.
    pub async fn await_host_ports(&self, ports: &[u16]) -> Result<()> {
        let began = Instant::now();
        let mut forwards = self.forwards().await?;
        loop {
            let shut: Vec<u16> = ports.iter().copied().filter(|&port| !forwards.is_open(port)).collect();
            if shut.is_empty() || began.elapsed() > FORWARD {
                // It says so before it tries.
                tokio::time::sleep(LOOK).await;
                forwards = forwards.more().await?;
                if let Some(error) = forwards.failure(ports) {
                    return Err(error);
                }
                for port in shut.into_iter().filter(|&port| !forwards.is_open(port)) {
                    let hint = "It will answer once the container listens. If it never does, restart the VM.";
                    call::warn(not_forwarded(port, &format!("not within {} s", FORWARD.as_secs())).hint(hint));
                }
                return Ok(());
            }
            if let Some(error) = forwards.failure(ports) {
                return Err(error);
            }
            tokio::time::sleep(LOOK).await;
            forwards = forwards.more().await?;
        }
    }
}

/// What a published UDP port comes to.
pub(super) fn udp(port: u16) -> Error {
    not_forwarded(port, "Lima forwards no UDP").hint("Publish a TCP port, or reach the container from another one.")
}

fn not_forwarded(port: u16, why: &str) -> Error {
    let text = format!("Port {port} of the VM is not forwarded to this computer: {why}");
    Error::new(ErrorCode::PortNotForwarded, text).detail("port", port)
}

fn from(path: &Path, offset: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    // Lossy would change the length, and with it the next offset.
    Ok(bytes.into_iter().map(|b| if b.is_ascii() { char::from(b) } else { '?' }).collect())
}

fn is_free(port: u16) -> bool {
    let taken = |ip| TcpListener::bind((ip, port)).is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse);
    // macOS lets us have the loopback address of a port that somebody has on all addresses.
    !(taken(Ipv4Addr::LOCALHOST) || (cfg!(target_os = "macos") && taken(Ipv4Addr::UNSPECIFIED)))
}

fn in_use(port: u16) -> Error {
    Error::new(ErrorCode::PortInUse, format!("Port {port} of this computer is taken by another program"))
        .detail("port", port)
        .hint("Choose another port, or end the program that listens there.")
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    let mut forwards = Forwards { log: PathBuf::new(), read: 0, ports: BTreeMap::new() };
    text.lines().for_each(|line| forwards.line(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publishing(line: &str) -> Option<Publishing> {
        Publishing::of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_ports_of_a_run_are_read_as_nerdctl_reads_them() {
        let some = |detached, ports: &[u16]| Some(Publishing { detached, ports: ports.to_vec(), udp: vec![] });
        assert_eq!(publishing("ps -p 80:80"), None);
        assert_eq!(publishing("run -d -p 8080:80 nginx"), some(true, &[8080]));
        assert_eq!(publishing("container run -dp 8080:80 nginx"), some(true, &[8080]));
        assert_eq!(publishing("run -itdp8080:80 nginx"), some(true, &[8080]));
        assert_eq!(publishing("run --detach --publish=127.0.0.1:8080:80/tcp nginx"), some(true, &[8080]));
        assert_eq!(publishing("run --publish 1:1 --publish 2:2 --name x --rm -e -d nginx"), some(false, &[1, 2]));
        // The container's own arguments, names that are flags' values, other protocols, the guest's choice.
        assert_eq!(publishing("run alpine nc -d -p 80:80"), some(false, &[]));
        assert_eq!(publishing("run --name -d alpine"), some(false, &[]));
        assert_eq!(publishing("run -p 80 -p 0:80 -p 1-3:1-3 -p 5:5/sctp x"), some(false, &[]));
        let udp = Publishing { detached: false, ports: vec![1], udp: vec![53] };
        assert_eq!(publishing("run -p 127.0.0.1:53:53/udp -p 1:1 x"), Some(udp));
        assert_eq!(publishing("run --detach=false -- x -p 1:1"), some(false, &[]));
        assert_eq!(publishing("run -é x"), some(false, &[]));
    }

    #[test]
    fn the_last_word_on_a_port_counts() {
        let mut f = Forwards { log: PathBuf::new(), read: 0, ports: BTreeMap::new() };
        let mut said = |msg: &str| f.line(&serde_json::json!({ "level": "info", "msg": msg }).to_string());
        said("Forwarding TCP from 0.0.0.0:8080 to 127.0.0.1:8080");
        said("Not forwarding TCP 0.0.0.0:22");
        said("Forwarding TCP from [::]:9090 to 127.0.0.1:9090");
        said("Port forwarding closed proto:tcp host:127.0.0.1:9090 guest:[::]:9090");
        said("Forwarding TCP from 0.0.0.0:7070 to 127.0.0.1:7070");
        said("failed to listen to TCP connection: listen tcp 127.0.0.1:7070: bind: address already in use");
        assert!(f.is_open(8080) && !f.is_open(9090) && !f.is_open(7070) && !f.is_open(22));
        assert_eq!(f.failure(&[8080, 7070]).unwrap().details()["port"], 7070);
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_is_not_forwarded_in_time_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let options = serde_json::json!({ "dataDir": dir.path() });
        let runtime = LimaRuntime::new(serde_json::from_value(options).unwrap()).unwrap();
        let log = dir.path().join("vms/default/ha.stderr.log");
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        std::fs::write(&log, "{\"msg\":\"Forwarding TCP from 0.0.0.0:80 to 127.0.0.1:80\"}\n").unwrap();
        let began = Instant::now();
        runtime.await_host_ports(&[80]).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1) && call::take_warnings().is_empty());
        runtime.await_host_ports(&[80, 81]).await.unwrap();
        assert!(began.elapsed() >= FORWARD);
        let [warning] = &call::take_warnings()[..] else { panic!() };
        assert_eq!((warning.code(), &warning.details()["port"]), (ErrorCode::PortNotForwarded, &81.into()));
    }

    #[tokio::test]
    async fn the_log_is_read_on_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let open = |port: u16| format!("{{\"msg\":\"Forwarding TCP from 0.0.0.0:{port} to 127.0.0.1:{port}\"}}\n");
        let half = open(81);
        std::fs::write(&log, format!("{{\"msg\":\"é\"}}\n{}{}", open(80), &half[..20])).unwrap();
        let f = Forwards::read(log.clone()).await.unwrap();
        assert!(f.is_open(80) && !f.is_open(81));
        std::fs::write(&log, format!("{{\"msg\":\"é\"}}\n{}{half}", open(80))).unwrap();
        assert!(f.more().await.unwrap().is_open(81));
    }
}

//! A container's published port listens only in the guest until Lima's host agent notices it (it looks every three seconds)
//! and listens on the host. The agent's log tells (docs/reference/lima.md#published-ports). We never dial a port to find
//! out: a server that answers only once would have answered us.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::LimaRuntime;
use crate::{
    call,
    engine::{
        host::{self, HostPort, forbidden, in_use, is_free},
        types::Protocol,
    },
    error::{Error, Result},
    task,
};

/// How long a published port may take to appear on the host.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);
/// Nothing reports that the log has grown: how often we look.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The longest line that is read; those about ports are below 1 KB.
const MAX_LINE: u64 = 64 << 10;

/// What a `nerdctl run` or `docker run` publishes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Publishing {
    /// The command ends and the container goes on.
    pub detached: bool,
    /// The host's ports.
    pub ports: Vec<HostPort>,
}

impl Publishing {
    /// `None` when these arguments do not run a container.
    pub fn of(args: &[String]) -> Option<Self> {
        let rest = match args {
            [run, rest @ ..] if run == "run" => rest,
            [container, run, rest @ ..] if container == "container" && run == "run" => rest,
            _ => return None,
        };
        let mut this = Self::default();
        let mut words = rest.iter();
        // Options end at the image; the rest is the container's.
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None if FLAGS_WITHOUT_VALUE.contains(&long) => (long, None),
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
                    } else if !matches!(letter, 'i' | 't' | 'q' | 'P') {
                        // This option takes a value: the rest of the word, or the next one.
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

    /// Reads `[ip:]host:container[/tcp|/udp]`; skips ranges, and ports that the guest chooses.
    fn publish(&mut self, value: &str) {
        let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return,
        };
        if let Some((host, _container)) = ports.rsplit_once(':') {
            let port = host.rsplit(':').next().unwrap_or(host);
            self.ports.extend(port.parse().ok().filter(|&p| p > 0).map(|port| (protocol, port)));
        }
    }
}

/// The flags of both without a value (docs/reference/nerdctl.md#flags-of-run).
const FLAGS_WITHOUT_VALUE: [&str; 18] = [
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
    "publish-all",
    "quiet",
    "read-only",
    "rm",
    "rootfs",
    "sig-proxy",
    "tty",
    "use-api-socket",
];

/// The ports that the host agent forwards, by its log.
pub struct Forwards {
    log: PathBuf,
    read: u64,
    /// Inside a line that is too long to be read.
    within: bool,
    /// The last message about each port of the host.
    ports: BTreeMap<HostPort, Forward>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Forward {
    Open,
    Closed,
    Failed(String),
}

impl Forwards {
    /// Reads the log of the current boot from its beginning.
    async fn read(log: PathBuf) -> Result<Self> {
        Self::of(log).more().await
    }

    fn of(log: PathBuf) -> Self {
        Self { log, read: 0, within: false, ports: BTreeMap::new() }
    }

    /// Reads what was written since, line by line: a guest can make the log long.
    async fn more(mut self) -> Result<Self> {
        task::blocking(move || {
            let failed = |e, log: &Path| Error::io(e, "reading", log);
            let mut log = File::open(&self.log).map_err(|e| failed(e, &self.log))?;
            log.seek(SeekFrom::Start(self.read)).map_err(|e| failed(e, &self.log))?;
            let (mut log, mut line) = (BufReader::new(log), Vec::new());
            loop {
                line.clear();
                let read =
                    log.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(|e| failed(e, &self.log))?;
                let ended = line.ends_with(b"\n");
                if !ended && (read as u64) < MAX_LINE {
                    return Ok(self);
                }
                self.read += read as u64;
                if ended && !self.within {
                    self.line(&String::from_utf8_lossy(&line));
                }
                self.within = !ended;
            }
        })
        .await
    }

    fn line(&mut self, line: &str) {
        // Most lines are about other things.
        if !line.contains("orward") && !line.contains("failed to listen") {
            return;
        }
        let Ok(entry) = serde_json::from_str::<serde_json::Value>(line) else { return };
        let said = entry["msg"].as_str().unwrap_or_default();
        let port_at_end = |text: &str| text.rsplit(':').next()?.trim().parse::<u16>().ok();
        for (protocol, name) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
            let upper = name.to_ascii_uppercase();
            let told = if let Some(rest) = said.strip_prefix(&format!("Forwarding {upper} from ")) {
                port_at_end(rest).map(|port| (port, Forward::Open))
            } else if let Some(rest) = said.strip_prefix(&format!("Stopping forwarding {upper} from ")) {
                port_at_end(rest).map(|port| (port, Forward::Closed))
            } else if let Some(rest) = said.strip_prefix(&format!("Port forwarding closed proto:{name} host:")) {
                rest.split(' ').next().and_then(port_at_end).map(|port| (port, Forward::Closed))
            } else if said.starts_with("failed to listen") && said.contains(&format!(" {name}")) {
                // 1.x: … listen tcp 127.0.0.1:80: bind: address already in use; 2.x ends with the address and has the
                // reason in a field.
                let port = said.split(' ').find_map(|word| port_at_end(word.trim_end_matches(':')));
                let why = format!("{said} {}", entry["error"].as_str().unwrap_or_default());
                port.map(|port| (port, Forward::Failed(why.trim_end().to_owned())))
            } else {
                None
            };
            self.ports.extend(told.map(|(port, forward)| ((protocol, port), forward)));
        }
    }

    fn is_open(&self, port: HostPort) -> bool {
        self.ports.get(&port) == Some(&Forward::Open)
    }

    fn failure(&self, ports: &[HostPort]) -> Option<Error> {
        ports.iter().find_map(|port| match self.ports.get(port) {
            Some(Forward::Failed(why)) if why.contains("permission denied") => Some(forbidden(*port)),
            Some(Forward::Failed(_)) => Some(in_use(*port)),
            _ => None,
        })
    }
}

impl LimaRuntime {
    async fn forwards(&self) -> Result<Forwards> {
        Forwards::read(self.machine(self.lima_home(), None).instance().path("ha.stderr.log")).await
    }

    /// `PORT_IN_USE` when a program of the host has one of these ports. A port that Lima already forwards is left to the
    /// guest to judge, since the host agent notices the end of a container only seconds later.
    pub async fn check_host_ports(&self, ports: &[HostPort]) -> Result<()> {
        let taken: Vec<HostPort> = ports.iter().copied().filter(|&port| !is_free(port)).collect();
        if taken.is_empty() {
            return Ok(());
        }
        let forwards = self.forwards().await?;
        taken.into_iter().find(|&port| !forwards.is_open(port)).map_or(Ok(()), |port| Err(in_use(port)))
    }

    /// Returns once these ports are forwarded, or after 10 s with a warning: the container may listen later. `PORT_IN_USE`
    /// when another program was faster.
    pub async fn await_host_ports(&self, ports: &[HostPort]) -> Result<()> {
        let began = Instant::now();
        let mut forwards = self.forwards().await?;
        loop {
            let shut: Vec<HostPort> = ports.iter().copied().filter(|&port| !forwards.is_open(port)).collect();
            if shut.is_empty() || began.elapsed() > FORWARD_TIMEOUT {
                // The agent logs the forward before it tries it.
                tokio::time::sleep(POLL_INTERVAL).await;
                forwards = forwards.more().await?;
                if let Some(error) = forwards.failure(ports) {
                    return Err(error);
                }
                for port in shut.into_iter().filter(|&port| !forwards.is_open(port)) {
                    call::warn(not_forwarded(port));
                }
                return Ok(());
            }
            if let Some(error) = forwards.failure(ports) {
                return Err(error);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            forwards = forwards.more().await?;
        }
    }
}

fn not_forwarded(port: HostPort) -> Error {
    host::not_forwarded(port, "the VM", &format!("not within {} s", FORWARD_TIMEOUT.as_secs()))
        .hint("It will answer once the container listens. If it never does, restart the VM.")
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    let mut forwards = Forwards::of(PathBuf::new());
    text.lines().for_each(|line| forwards.line(line));
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{Ipv4Addr, TcpListener, UdpSocket},
    };

    use serde_json::json;

    use super::*;
    use crate::error::ErrorCode;

    /// With this log of its host agent.
    fn runtime(log: &str) -> (tempfile::TempDir, LimaRuntime, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let options = json!({ "dataDir": dir.path() });
        let runtime = LimaRuntime::new(serde_json::from_value(options).unwrap()).unwrap();
        let path = dir.path().join("vms/default/ha.stderr.log");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, log).unwrap();
        (dir, runtime, path)
    }

    fn publishing(line: &str) -> Option<Publishing> {
        Publishing::of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_ports_of_a_run_are_read_as_nerdctl_and_docker_read_them() {
        let some = |detached, ports: &[u16]| {
            Some(Publishing { detached, ports: ports.iter().map(|&port| (Protocol::Tcp, port)).collect() })
        };
        assert_eq!(publishing("ps -p 80:80"), None);
        assert_eq!(publishing("run -d -p 8080:80 nginx"), some(true, &[8080]));
        assert_eq!(publishing("container run -dp 8080:80 nginx"), some(true, &[8080]));
        assert_eq!(publishing("run -itdp8080:80 nginx"), some(true, &[8080]));
        assert_eq!(publishing("run --detach --publish=127.0.0.1:8080:80/tcp nginx"), some(true, &[8080]));
        assert_eq!(publishing("run --publish 1:1 --publish 2:2 --name x --rm -e -d nginx"), some(false, &[1, 2]));
        assert_eq!(publishing("run -dP -p 8080:80 --sig-proxy --publish-all -p 1:1 nginx"), some(true, &[8080, 1]));
        assert_eq!(publishing("run --use-api-socket -Pp 8080:80 nginx -p 2:2"), some(false, &[8080]));
        // The container's own arguments, option values that look like flags, other protocols, ports that the guest chooses.
        assert_eq!(publishing("run alpine nc -d -p 80:80"), some(false, &[]));
        assert_eq!(publishing("run --name -d alpine"), some(false, &[]));
        assert_eq!(publishing("run -p 80 -p 0:80 -p 1-3:1-3 -p 5:5/sctp x"), some(false, &[]));
        let udp = Publishing { detached: false, ports: vec![(Protocol::Udp, 53), (Protocol::Tcp, 1)] };
        assert_eq!(publishing("run -p 127.0.0.1:53:53/udp -p 1:1 x"), Some(udp));
        assert_eq!(publishing("run --detach=false -- x -p 1:1"), some(false, &[]));
        assert_eq!(publishing("run -é x"), some(false, &[]));
    }

    #[test]
    fn the_last_word_on_a_port_counts() {
        use Protocol::{Tcp, Udp};
        let mut f = Forwards::of(PathBuf::new());
        let mut said = |msg: &str| f.line(&json!({ "level": "info", "msg": msg }).to_string());
        said("Forwarding TCP from 0.0.0.0:8080 to 127.0.0.1:8080");
        said("Not forwarding TCP 0.0.0.0:22");
        said("Forwarding TCP from [::]:9090 to 127.0.0.1:9090");
        said("Forwarding UDP from 0.0.0.0:9090 to 127.0.0.1:9090");
        said("Port forwarding closed proto:tcp host:127.0.0.1:9090 guest:[::]:9090");
        assert!(f.is_open((Tcp, 8080)) && !f.is_open((Tcp, 22)));
        assert!(!f.is_open((Tcp, 9090)) && f.is_open((Udp, 9090)), "they are apart");
    }

    /// As Lima 1.x and 2.x wrote it.
    #[test]
    fn a_port_that_somebody_has_is_told_by_the_log() {
        use Protocol::{Tcp, Udp};
        let (use_, denied) = ("bind: address already in use", "bind: permission denied");
        for (protocol, name, words) in [(Tcp, "tcp", "to TCP connection"), (Udp, "udp", "udp")] {
            let upper = name.to_ascii_uppercase();
            for (why, code) in [(use_, ErrorCode::PortInUse), (denied, ErrorCode::PermissionDenied)] {
                let error = format!("listen {name} 127.0.0.1:700: {why}");
                let (one, two) =
                    (format!("failed to listen {words}: {error}"), format!("failed to listen {name}: 127.0.0.1:700"));
                for entry in [json!({ "msg": one }), json!({ "msg": two, "error": error })] {
                    let mut f = Forwards::of(PathBuf::new());
                    f.line(
                        &json!({ "msg": format!("Forwarding {upper} from 0.0.0.0:700 to 127.0.0.1:700") }).to_string(),
                    );
                    assert!(f.is_open((protocol, 700)));
                    f.line(&entry.to_string());
                    let failure = f.failure(&[(protocol, 80), (protocol, 700)]).unwrap();
                    assert_eq!((failure.code(), &failure.details()["port"]), (code, &700.into()), "{entry}");
                    assert_eq!(failure.details()["protocol"], name);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_port_of_the_other_protocol_is_another_one() {
        let (_dir, runtime, log) = runtime("");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let e = runtime.check_host_ports(&[(Protocol::Udp, port)]).await.unwrap_err();
        assert_eq!((e.code(), &e.details()["port"]), (ErrorCode::PortInUse, &port.into()));
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            runtime.check_host_ports(&[(Protocol::Tcp, port)]).await.unwrap();
        }
        // Lima has the port: the guest decides.
        std::fs::write(&log, format!("{{\"msg\":\"Forwarding UDP from 0.0.0.0:{port} to 127.0.0.1:{port}\"}}\n"))
            .unwrap();
        runtime.check_host_ports(&[(Protocol::Udp, port)]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_is_not_forwarded_in_time_is_a_warning() {
        let (_dir, runtime, _) = runtime("{\"msg\":\"Forwarding TCP from 0.0.0.0:80 to 127.0.0.1:80\"}\n");
        let began = Instant::now();
        let warnings = call::Warnings::default();
        let call = call::Call { warnings: Some(warnings.clone()), ..call::Call::default() };
        call.run(None, runtime.await_host_ports(&[(Protocol::Tcp, 80)])).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1) && warnings.take().is_empty());
        call.run(None, runtime.await_host_ports(&[(Protocol::Tcp, 80), (Protocol::Udp, 81)])).await.unwrap();
        assert!(began.elapsed() >= FORWARD_TIMEOUT);
        let [warning] = &warnings.take()[..] else { panic!() };
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
        assert!(f.is_open((Protocol::Tcp, 80)) && !f.is_open((Protocol::Tcp, 81)));
        std::fs::write(&log, format!("{{\"msg\":\"é\"}}\n{}{half}", open(80))).unwrap();
        let f = f.more().await.unwrap();
        assert!(f.is_open((Protocol::Tcp, 81)));
        // A line too long to be read; what follows in it does not count as a line.
        let mut more = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        write!(more, "{}{}", "x".repeat(usize::try_from(MAX_LINE).unwrap()), open(82)).unwrap();
        let f = f.more().await.unwrap();
        write!(more, "{}{}", "y".repeat(3 * usize::try_from(MAX_LINE).unwrap() + 1), open(83)).unwrap();
        write!(more, "{}", open(84)).unwrap();
        let f = f.more().await.unwrap();
        let opened = [82, 83, 84].map(|port| f.is_open((Protocol::Tcp, port)));
        assert_eq!(opened, [false, false, true]);
    }
}

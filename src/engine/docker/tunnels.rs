//! The published ports of an engine on another machine, on this computer: each listens on 127.0.0.1 while its container runs,
//! as a VM's does. What the engine says may be anything, and others may share it: no port listens that this application did not
//! ask for, for that container.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    sync::{Mutex, OnceCell},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    api::{self, Api},
    asked::{Asked, Noted},
    error::ResultExt,
    events,
    refusal::About,
    socket,
};
use crate::{
    call,
    engine::{
        host::{HostPort, forbidden, in_use, is_free, not_forwarded},
        types::*,
    },
    error::{Error, ErrorCode, Result},
    guest::Socket,
    mutex, relay, task,
};

/// Opens sockets of the engine's machine.
#[async_trait]
pub(super) trait Dialer: Send + Sync + 'static {
    /// Whether it can, as far as that is known without opening one.
    async fn ready(&self) -> Result<()>;
    async fn dial(&self, to: SocketAddr) -> Result<Socket>;
}

/// The most ports that listen here at a time: each is an open file.
const MOST: usize = 512;
/// Ports below are the system's: no engine chooses one.
const UNPRIVILEGED: u16 = 1024;
/// Between two looks: events may come in any number.
const BREATH: Duration = Duration::from_millis(200);
/// An end is told before the engine has cleaned up and its list shows it: when to look once more, doubled each time, up to
/// the second.
const SETTLING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often a port is tried that somebody else has.
const RETRY: Duration = Duration::from_secs(10);
/// How long an engine may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Before the engine's events are asked for again; doubled each time, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Dropping it closes all ports.
pub(super) struct Tunnels {
    inner: Arc<Inner>,
    watching: Mutex<Option<AbortOnDropHandle<()>>>,
}

struct Inner {
    api: Api,
    /// What was asked for before, and by others of the application's processes.
    noted: Option<Noted>,
    dialer: Arc<dyn Dialer>,
    /// Held while the engine is asked: an older answer must not undo a newer one.
    state: Mutex<State>,
    same_machine: OnceCell<bool>,
}

#[derive(Default)]
struct State {
    /// The ports of the containers that were created here, by their full ids.
    asked: BTreeMap<String, Asked>,
    open: BTreeMap<u16, Listening>,
}

struct Listening {
    to: Arc<mutex::Mutex<SocketAddr>>,
    task: AbortOnDropHandle<()>,
}

/// What a look at the engine led to.
#[derive(Default)]
struct Look {
    wanted: BTreeMap<u16, Wanted>,
    failed: BTreeMap<u16, io::ErrorKind>,
    running: BTreeSet<String>,
}

impl Tunnels {
    pub(super) fn new(api: Api, noted: Option<Noted>, dialer: Arc<dyn Dialer>) -> Self {
        let inner = Inner { api, noted, dialer, state: Mutex::default(), same_machine: OnceCell::new() };
        Self { inner: Arc::new(inner), watching: Mutex::default() }
    }

    /// Opens the ports of the application's running containers, and follows what becomes of them from now on.
    pub(super) async fn begin(&self) {
        let mut watching = self.watching.lock().await;
        if watching.is_none() {
            self.inner.look_again().await;
            *watching = Some(AbortOnDropHandle::new(task::spawn(watch(self.inner.clone()))));
        }
    }

    /// `PORT_IN_USE` when a program of this computer has one of these ports. Of a port that is ours already, the engine judges.
    pub(super) async fn check(&self, ports: &[HostPort]) -> Result<()> {
        let state = self.inner.state.lock().await;
        let taken = |port: &&HostPort| !state.open.contains_key(&port.1) && !is_free(**port);
        ports.iter().find(taken).map_or(Ok(()), |port| Err(in_use(*port)))
    }

    /// A container that was created with these ports; 0 is the engine's choice.
    pub(super) async fn created(&self, id: &str, ports: &[HostPort]) {
        let tcp = || ports.iter().filter(|(protocol, _)| *protocol == Protocol::Tcp).map(|(_, port)| *port);
        let asked =
            Asked { ports: tcp().filter(|port| *port > 0).collect(), any: tcp().filter(|port| *port == 0).count() };
        if let Some(noted) = self.inner.noted.clone().filter(|_| tcp().next().is_some()) {
            let (id, asked) = (id.to_owned(), asked.clone());
            let written = task::blocking(move || noted.write(&id, &asked)).await;
            if let Err(error) = written {
                tracing::warn!(%error, "the ports of a container are known to this process alone");
            }
        }
        self.inner.state.lock().await.asked.insert(id.to_owned(), asked);
    }

    /// Opens the ports of a container that runs now. A port that is taken is an error when the container is `new`, and else a
    /// warning, as for whatever else goes wrong: the container runs.
    pub(super) async fn started(&self, id: &str, new: bool) -> Result<()> {
        self.begin().await;
        let look = self.inner.look().await?;
        let mine: Vec<u16> = look.wanted.iter().filter(|(_, w)| w.id == id).map(|(port, _)| *port).collect();
        for port in &mine {
            let port = (Protocol::Tcp, *port);
            let Some(kind) = look.failed.get(&port.1) else { continue };
            let error = match kind {
                io::ErrorKind::AddrInUse => in_use(port),
                io::ErrorKind::PermissionDenied => forbidden(port),
                kind => stays(port, &kind.to_string()),
            };
            if new {
                return Err(error);
            }
            call::warn(stays(port, error.message()));
        }
        if look.running.contains(id) && !self.inner.is_this_machine().await? {
            let state = self.inner.state.lock().await;
            let asked = state.asked.get(id).into_iter().flat_map(|asked| &asked.ports);
            for port in asked.filter(|port| !mine.contains(port)) {
                call::warn(stays((Protocol::Tcp, *port), "the engine does not publish it"));
            }
        }
        let first = mine.iter().find(|port| !look.failed.contains_key(port));
        if let Some(port) = first
            && let Err(e) = self.inner.dialer.ready().await
        {
            call::warn(stays((Protocol::Tcp, *port), e.message()));
        }
        Ok(())
    }
}

fn stays(port: HostPort, why: &str) -> Error {
    not_forwarded(port, "the engine's machine", why)
        .hint("Each connection to the port tries anew. The host has to allow ssh's forwards (AllowTcpForwarding).")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    state: String,
    ports: Option<Vec<Published>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Published {
    #[serde(default, rename = "IP")]
    ip: Option<String>,
    #[serde(default)]
    public_port: Option<u64>,
    #[serde(default, rename = "Type")]
    protocol: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    id: String,
    /// There.
    to: SocketAddr,
}

impl Container {
    fn runs(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }
}

impl Published {
    /// The port, and where it is reached on its machine.
    fn address(&self) -> Option<(u16, SocketAddr)> {
        let port = u16::try_from(self.public_port?).ok().filter(|port| *port > 0 && self.protocol == "tcp")?;
        let ip = match self.ip.as_deref().unwrap_or_default() {
            "" => Ipv4Addr::LOCALHOST.into(),
            ip => match ip.parse().ok()? {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            },
        };
        Some((port, SocketAddr::new(ip, port)))
    }
}

/// The ports that are to listen here: those that were asked for, of the containers that were created so.
fn wanted(containers: &[Container], asked: &BTreeMap<String, Asked>) -> BTreeMap<u16, Wanted> {
    let mut wanted = BTreeMap::new();
    for container in containers.iter().filter(|c| c.runs()) {
        let Some(asked) = asked.get(&container.id) else { continue };
        let mut addresses: Vec<_> = container.ports.iter().flatten().filter_map(Published::address).collect();
        // Of a port on both address families, IPv4's.
        addresses.sort_unstable();
        let mut chosen = BTreeSet::new();
        for (port, to) in addresses {
            let may = if asked.ports.contains(&port) {
                true
            } else if port >= UNPRIVILEGED && (chosen.contains(&port) || chosen.len() < asked.any) {
                chosen.insert(port);
                true
            } else {
                false
            };
            if may && (wanted.len() < MOST || wanted.contains_key(&port)) {
                wanted.entry(port).or_insert_with(|| Wanted { id: container.id.clone(), to });
            }
        }
    }
    wanted
}

impl Inner {
    /// Asks the engine what runs, and makes the open ports those of it.
    async fn look(&self) -> Result<Look> {
        let mut state = self.state.lock().await;
        let query = [("all", "1".to_owned())];
        let containers: Vec<Container> =
            in_time(async { self.api.get_json(api::ALL, "containers/json", &query).await.about(About::Engine) })
                .await?;
        let there: BTreeSet<String> = containers.iter().map(|c| c.id.clone()).collect();
        state.asked.retain(|id, _| there.contains(id));
        state.asked.extend(self.noted(there).await);
        let wanted = if self.is_this_machine().await? { BTreeMap::new() } else { wanted(&containers, &state.asked) };
        let closed: Vec<u16> = state.open.keys().filter(|port| !wanted.contains_key(port)).copied().collect();
        for port in closed {
            if let Some(listening) = state.open.remove(&port) {
                listening.close().await;
            }
        }
        let mut look =
            Look { running: containers.into_iter().filter(Container::runs).map(|c| c.id).collect(), ..Look::default() };
        for (port, Wanted { to, .. }) in &wanted {
            if let Some(open) = state.open.get(port) {
                *open.to.lock() = *to;
                continue;
            }
            match listen(*port, *to, self.dialer.clone()).await {
                Ok(listening) => _ = state.open.insert(*port, listening),
                Err(e) => {
                    tracing::debug!(%port, %e, "cannot listen for a port of an engine elsewhere");
                    look.failed.insert(*port, e.kind());
                }
            }
        }
        look.wanted = wanted;
        Ok(look)
    }

    /// What is noted of the containers that are `there`.
    async fn noted(&self, there: BTreeSet<String>) -> BTreeMap<String, Asked> {
        let Some(noted) = self.noted.clone() else { return BTreeMap::new() };
        let read = move || {
            let (there, gone) = noted.read().into_iter().partition::<BTreeMap<_, _>, _>(|(id, _)| there.contains(id));
            for id in gone.keys() {
                noted.forget(id);
            }
            Ok(there)
        };
        task::blocking(read).await.unwrap_or_default()
    }

    /// When a port is to be tried again.
    async fn look_again(&self) -> Option<Duration> {
        let pending = match self.look().await {
            Ok(look) => !look.failed.is_empty(),
            Err(e) => {
                tracing::debug!(%e, "an engine elsewhere does not say what it publishes");
                true
            }
        };
        pending.then_some(RETRY)
    }

    /// Over ssh to this machine itself, the engine listens here: a port of ours would be in its way.
    async fn is_this_machine(&self) -> Result<bool> {
        self.same_machine.get_or_try_init(|| in_time(socket::is_this_machine(&self.api))).await.copied()
    }
}

/// Creations wait for a look: an engine that went silent holds none up for longer.
async fn in_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|_| {
        let text = "The engine does not say which ports it publishes";
        Err(Error::new(ErrorCode::EngineUnreachable, text).hint("Look at the ssh connection to its machine."))
    })
}

async fn listen(port: u16, to: SocketAddr, dialer: Arc<dyn Dialer>) -> io::Result<Listening> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let to = Arc::new(mutex::Mutex::new(to));
    let there = to.clone();
    let task = task::spawn(async move {
        let connect = || {
            let (dialer, to) = (dialer.clone(), *there.lock());
            async move { dialer.dial(to).await }
        };
        let accept = || async {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        relay::serve("a port of an engine elsewhere", accept, connect).await;
    });
    Ok(Listening { to, task: AbortOnDropHandle::new(task) })
}

impl Listening {
    /// Returns once the port is free.
    async fn close(self) {
        self.task.abort();
        _ = self.task.await;
    }
}

async fn watch(inner: Arc<Inner>) {
    let of = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let filters = Filters::from([
        ("type".into(), of(&["container"])),
        ("event".into(), of(&["start", "die", "stop", "destroy"])),
    ]);
    let mut pause = AGAIN.0;
    loop {
        match events::raw(&inner.api, None, &filters).await {
            Ok(mut events) => {
                // Of what happened before, nobody tells.
                let (mut next, mut settling) = (inner.look_again().await, SETTLING.1);
                loop {
                    let event = match next {
                        Some(long) => tokio::time::timeout(long, events.next()).await,
                        None => Ok(events.next().await),
                    };
                    match event {
                        Ok(Some(Ok(_))) => (pause, settling) = (AGAIN.0, SETTLING.0),
                        Ok(_) => break,
                        Err(_) => settling *= 2,
                    }
                    let pending = inner.look_again().await;
                    next = if settling < SETTLING.1 { Some(settling) } else { pending };
                    settling = settling.min(SETTLING.1);
                    tokio::time::sleep(BREATH).await;
                }
            }
            Err(e) => tracing::debug!(%e, "an engine elsewhere does not say what happens"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, BufReader},
        net::TcpStream,
    };

    use super::*;
    use crate::{engine::docker::endpoint::Endpoint, warnings::Warnings};

    fn containers(value: Value) -> Vec<Container> {
        serde_json::from_value(value).unwrap()
    }

    fn to(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_opens_no_port_that_nobody_asked_for() {
        let published =
            |ip: &str, port: Value| json!({ "IP": ip, "PrivatePort": 80, "PublicPort": port, "Type": "tcp" });
        let there = containers(json!([
            { "Id": "asked", "Labels": null, "State": "running", "Ports": [
                published("::", json!(8080)), published("0.0.0.0", json!(8080)), published("127.0.0.1", json!(80)),
                published("127.0.0.1", json!(9999)), published("10.0.0.7", json!(8081)), published("x y", json!(8082)),
                { "PrivatePort": 53, "PublicPort": 8083, "Type": "udp", "IP": "127.0.0.1" },
            ] },
            { "Id": "paused", "State": "paused", "Ports": [
                published("127.0.0.1", json!(22)), published("127.0.0.1", json!(8080)), published("127.0.0.1", json!(1024)),
                published("", json!(0)), published("", json!(70_000)), published("", json!(u64::MAX)),
                { "PrivatePort": 5, "Type": "tcp" },
            ] },
            { "Id": "ended", "State": "exited", "Ports": [published("127.0.0.1", json!(3000))] },
            // Anybody may give his containers our label.
            { "Id": "another's", "Labels": { APP_LABEL: "kai" }, "State": "running", "Ports": [published("127.0.0.1", json!(3001))] },
        ]));
        let exactly = |ports: &[u16]| Asked { ports: ports.iter().copied().collect(), any: 0 };
        let asked = BTreeMap::from([
            ("asked".to_owned(), exactly(&[80, 8080, 8081, 8082, 8083])),
            ("paused".to_owned(), exactly(&[1024, 8080])),
            ("ended".to_owned(), exactly(&[3000])),
        ]);
        let of = |id: &str, address: &str| Wanted { id: id.to_owned(), to: to(address) };
        assert_eq!(
            wanted(&there, &asked),
            BTreeMap::from([
                (80, of("asked", "127.0.0.1:80")),
                (1024, of("paused", "127.0.0.1:1024")),
                (8080, of("asked", "127.0.0.1:8080")),
                (8081, of("asked", "10.0.0.7:8081")),
            ])
        );
        // Of the engine's choice as many as it was left to choose, and none of the system's.
        let chosen = containers(json!([{ "Id": "asked", "State": "running", "Ports": [
            published("127.0.0.1", json!(22)), published("127.0.0.1", json!(49_153)), published("::1", json!(49_153)),
            published("127.0.0.1", json!(49_154)), published("127.0.0.1", json!(49_155)), published("127.0.0.1", json!(8080)),
        ] }]));
        let asked = BTreeMap::from([("asked".to_owned(), Asked { ports: BTreeSet::from([8080]), any: 2 })]);
        let open: Vec<u16> = wanted(&chosen, &asked).into_keys().collect();
        assert_eq!(open, [8080, 49_153, 49_154]);
        let many: Vec<Value> = (1024..4000).map(|port| published("127.0.0.1", json!(port))).collect();
        let many = containers(json!([{ "Id": "many", "State": "running", "Ports": many }]));
        let asked = BTreeMap::from([("many".to_owned(), Asked { ports: (1024..4000).collect(), any: 0 })]);
        assert_eq!(wanted(&many, &asked).len(), MOST);
    }

    /// Answers what it was last told to; its events end at once.
    struct Engine {
        says: Arc<mutex::Mutex<Value>>,
        host: String,
        _serving: AbortOnDropHandle<()>,
    }

    impl Engine {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let host = listener.local_addr().unwrap().to_string();
            let says = Arc::new(mutex::Mutex::new(json!([])));
            let told = says.clone();
            let serving = task::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    task::spawn(answer(stream, told.clone()));
                }
            });
            Self { says, host, _serving: AbortOnDropHandle::new(serving) }
        }

        fn says(&self, id: &str, state: &str, ports: &[u16]) {
            let ports: Vec<_> = ports
                .iter()
                .map(|p| json!({ "IP": "127.0.0.1", "PublicPort": p, "PrivatePort": 80, "Type": "tcp" }))
                .collect();
            *self.says.lock() = json!([{ "Id": id, "Labels": { APP_LABEL: "kai" }, "State": state, "Ports": ports }]);
        }

        async fn tunnels(&self, dialer: impl Dialer) -> Tunnels {
            self.tunnels_of(None, dialer).await
        }

        /// Of an application with a directory.
        async fn tunnels_of(&self, app_dir: Option<&std::path::Path>, dialer: impl Dialer) -> Tunnels {
            let endpoint = Endpoint::parse("host", &format!("tcp://{}", self.host), None).unwrap();
            let noted = app_dir.map(|dir| Noted::new(dir, &endpoint));
            Tunnels::new(Api::connect(endpoint).await.unwrap(), noted, Arc::new(dialer))
        }
    }

    async fn answer(stream: TcpStream, says: Arc<mutex::Mutex<Value>>) {
        use tokio::io::AsyncBufReadExt;
        let mut lines = BufReader::new(stream);
        loop {
            let mut asked = String::new();
            loop {
                let mut line = String::new();
                if lines.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                if line == "\r\n" {
                    break;
                }
                asked.push_str(&line);
            }
            let body = match asked.split(' ').nth(1).unwrap_or_default() {
                path if path.contains("/containers/json") => says.lock().to_string(),
                path if path.contains("/info") => "{}".to_owned(),
                _ => String::new(),
            };
            let text = format!("HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if lines.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// Says where it was led to, and sends back what it gets; or leads nowhere.
    struct Echo(bool);

    #[async_trait]
    impl Dialer for Echo {
        async fn ready(&self) -> Result<()> {
            if self.0 { Ok(()) } else { Err(Error::new(ErrorCode::EngineUnreachable, "nobody there")) }
        }

        async fn dial(&self, to: SocketAddr) -> Result<Socket> {
            self.ready().await?;
            let (ours, mut theirs) = tokio::io::duplex(64);
            task::spawn(async move {
                let mut got = String::new();
                theirs.read_to_string(&mut got).await.unwrap();
                theirs.write_all(format!("{to} {got}").as_bytes()).await.unwrap();
            });
            Ok(Box::new(ours))
        }
    }

    async fn says(port: u16) -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        let mut all = String::new();
        stream.read_to_string(&mut all).await?;
        Ok(all)
    }

    fn free() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    async fn refused(port: u16) {
        // The task that listened ends on a thread of the runtime.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    const TCP: Protocol = Protocol::Tcp;

    #[tokio::test]
    async fn a_port_listens_while_its_container_runs_and_the_tunnels_live() {
        let engine = Engine::start().await;
        let tunnels = engine.tunnels(Echo(true)).await;
        let (port, other) = (free(), free());
        tunnels.check(&[(TCP, port)]).await.unwrap();
        tunnels.created("a", &[(TCP, port), (Protocol::Udp, other)]).await;
        engine.says("a", "running", &[port, other]);
        tunnels.started("a", true).await.unwrap();
        assert_eq!(says(port).await.unwrap(), format!("127.0.0.1:{port} hello"));
        assert!(says(other).await.is_err(), "nobody asked for it");
        tunnels.check(&[(TCP, port)]).await.unwrap();

        engine.says("a", "exited", &[port]);
        tunnels.inner.look().await.unwrap();
        assert!(says(port).await.is_err());
        engine.says("a", "running", &[port]);
        tunnels.started("a", false).await.unwrap();
        assert_eq!(says(port).await.unwrap(), format!("127.0.0.1:{port} hello"));
        drop(tunnels);
        refused(port).await;
    }

    #[tokio::test]
    async fn a_later_run_opens_what_this_application_asked_for_and_no_label_does() {
        let (engine, dir) = (Engine::start().await, tempfile::tempdir().unwrap());
        let port = free();
        let first = engine.tunnels_of(Some(dir.path()), Echo(true)).await;
        first.created("a", &[(TCP, port)]).await;
        drop(first);
        engine.says("a", "running", &[port]);
        // An adapter that did not ask for it, whatever label it has.
        let other = engine.tunnels(Echo(true)).await;
        other.begin().await;
        assert!(says(port).await.is_err());
        let later = engine.tunnels_of(Some(dir.path()), Echo(true)).await;
        later.begin().await;
        assert_eq!(says(port).await.unwrap(), format!("127.0.0.1:{port} hello"));
        // A container that is gone is forgotten: another one with its number asked for nothing.
        *engine.says.lock() = json!([]);
        later.inner.look().await.unwrap();
        drop(later);
        refused(port).await;
        engine.says("a", "running", &[port]);
        let last = engine.tunnels_of(Some(dir.path()), Echo(true)).await;
        last.begin().await;
        assert!(says(port).await.is_err());
    }

    #[tokio::test]
    async fn what_goes_wrong_with_a_port_is_told() {
        let engine = Engine::start().await;
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, gone) = (taken.local_addr().unwrap().port(), free());
        let tunnels = engine.tunnels(Echo(false)).await;
        assert_eq!(tunnels.check(&[(TCP, gone), (TCP, port)]).await.unwrap_err().code(), ErrorCode::PortInUse);
        // It was free when it was looked at.
        tunnels.created("a", &[(TCP, port), (TCP, gone)]).await;
        engine.says("a", "running", &[port]);
        let e = tunnels.started("a", true).await.unwrap_err();
        assert_eq!((e.code(), &e.details()["port"]), (ErrorCode::PortInUse, &port.into()));

        let warned = Warnings::default();
        Warnings::scope(Some(warned.clone()), tunnels.started("a", false)).await.unwrap();
        let told: Vec<_> = warned.take().into_iter().map(|w| (w.code(), w.details()["port"].clone())).collect();
        assert_eq!(told, [(ErrorCode::PortNotForwarded, port.into()), (ErrorCode::PortNotForwarded, gone.into())]);

        drop(taken);
        Warnings::scope(Some(warned.clone()), tunnels.started("a", true)).await.unwrap();
        let told = warned.take().into_iter().map(|w| w.message().to_owned()).collect::<Vec<_>>();
        assert!(told.len() == 2 && told[1].contains("nobody there"), "{told:?}");
        assert_eq!(says(port).await.unwrap_or_default(), "", "closed without a word");
    }
}

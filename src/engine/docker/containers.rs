//! Containers: their life, and what is known about them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use bollard::query_parameters as q;
use futures_util::{Stream, StreamExt};
use hyper::{Response, body::Incoming};
use serde::Deserialize;
use serde_json::Value;

use super::{
    api::{self, Api, ApiVersion, Created, bare},
    endpoint::Endpoint,
    error::{Failure, ResultExt},
    events::{self, Event},
    host_config, images, networks,
    refusal::{About, field_of_source, missing_source, volume_of},
    socket,
    spec::{self, Creation},
};
use crate::{
    call,
    engine::{config, image_config::variables, time, types::*, validate},
    error::{Error, ErrorCode, Result},
};

pub(super) async fn create(api: Api, spec: &ContainerSpec) -> Result<String> {
    let mut spec = match api.endpoint() {
        Endpoint::Guest(socket) => socket.in_guest(spec).await?,
        _ => match api.elsewhere() {
            Some(elsewhere) => elsewhere.there(spec).await?,
            None => Cow::Borrowed(spec),
        },
    };
    if config::host_paths(&spec).any(|(_, path)| validate::is_docker_socket(path))
        && let Some(there) = socket::on_its_machine(&api).await?
    {
        for path in config::host_paths_mut(spec.to_mut()).filter(|path| validate::is_docker_socket(path)) {
            path.clone_from(&there);
        }
    }
    // Docker gives a container its image's labels. One that is there already is not replaced: an empty project is nobody's.
    for key in images::reserved_labels(&api, &spec.image, spec.platform.as_deref()).await? {
        spec.to_mut().labels.entry(key).or_default();
    }
    if api.is_podman() {
        spec::check_podmans_texts(&spec)?;
    }
    let mut query = vec![("name", spec.name.clone())];
    query.extend(spec.platform.iter().map(|platform| ("platform", platform.clone())));
    let mut made = HashSet::new();
    let (Created { id, warnings }, later) = loop {
        let Creation { body, later } = spec::creation(&spec, api.version(), &made)?;
        let failure = match api.post_json("containers/create", &query, &body).await {
            Ok(created) => break (created, later),
            Err(failure) => failure,
        };
        let missing = to_be_made(&spec, &made, &failure.to_string());
        if missing.is_empty() {
            return Err(failure.about(About::Create(&spec)));
        }
        for i in missing {
            refuse_to_make(&spec, i, api.version())?;
            made.insert(spec.volumes[i].host.clone());
        }
    };
    for warning in warnings.unwrap_or_default() {
        call::warn(Error::new(ErrorCode::EngineWarning, warning).detail("container", spec.name.as_str()));
    }
    if let Some(elsewhere) = api.elsewhere() {
        elsewhere.created(&id, &spec).await;
    }
    for (network, settings) in later {
        if let Err(e) = networks::connect_with(&api, &id, &network, settings).await {
            if let Err(cleanup) = remove(api, &id, true).await {
                tracing::warn!(%id, %cleanup, "could not remove a container that is not on all its networks");
            }
            return Err(e);
        }
    }
    Ok(id)
}

/// The volumes whose host path the engine does not have. It names one at a time; where it cannot be told which is meant, all
/// that could be.
fn to_be_made(spec: &ContainerSpec, made: &HashSet<String>, said: &str) -> Vec<usize> {
    let Some(path) = missing_source(said) else { return Vec::new() };
    // Of `mounts` none is made.
    if field_of_source(spec, path).is_some_and(|field| field.starts_with("mounts")) {
        return Vec::new();
    }
    let is_open = |v: &VolumeMount| validate::is_host_path(&v.host) && !made.contains(&v.host);
    match volume_of(spec, path).filter(|i| is_open(&spec.volumes[*i])) {
        Some(i) => vec![i],
        None => (spec.volumes.iter().enumerate())
            .filter(|(_, v)| is_open(v) && !validate::is_socket_name(&v.host))
            .map(|(i, _)| i)
            .collect(),
    }
}

/// A path the engine does not have becomes a directory there, as with `docker run -v`
/// (docs/reference/docker.md#binds-and-mounts). A socket must not: a program that looks for an engine would find a
/// directory of its name.
fn refuse_to_make(spec: &ContainerSpec, i: usize, version: ApiVersion) -> Result<()> {
    let missing = &spec.volumes[i];
    let refused =
        |part: &str, path: &str, why: &str| Error::invalid(format!("volumes[{i}].{part}"), format!("{path:?} {why}"));
    if validate::is_socket_name(&missing.host) {
        let problem = "is not on the engine's machine, and a socket cannot be made up";
        return Err(refused("host", &missing.host, problem).hint(
            "Start what listens on that socket, or leave the volume out: not every engine has a Docker socket.",
        ));
    }
    if version < spec::MOUNTPOINTS_MADE {
        // A bind is one text with colons in it; that of a drive is known to be none of them.
        let drive = usize::from(cfg!(windows)) * 2;
        for (part, path, from) in [("host", &missing.host, drive), ("container", &missing.container, 0)] {
            if path.get(from..).is_some_and(|p| p.contains(':')) {
                let problem = "has a colon, and the engine makes no directory for such a mount";
                return Err(refused(part, path, problem).hint("Make the directory on the engine's machine first."));
            }
        }
    }
    Ok(())
}

pub(super) async fn start(api: Api, id: &str) -> Result<()> {
    api.bollard().start_container(bare(id), None::<q::StartContainerOptions>).await.about(About::Container(id))?;
    match started(api, id, true).await {
        // One that removes itself, and has ended.
        Err(e) if e.code() == ErrorCode::ContainerNotFound => Ok(()),
        other => other,
    }
}

pub(super) async fn update(api: Api, id: &str, changes: &ContainerUpdate) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Updated {
        warnings: Option<Vec<String>>,
    }
    let path = format!("containers/{}/update", api::encode(bare(id)));
    let done: Updated = api.post_json(&path, &[], &host_config::update(changes)).await.about(About::Container(id))?;
    for warning in done.warnings.unwrap_or_default() {
        call::warn(Error::new(ErrorCode::EngineWarning, warning).detail("container", id));
    }
    Ok(())
}

/// From a VM and from another machine, a published port comes to this computer only after the start.
async fn started(api: Api, id: &str, new: bool) -> Result<()> {
    if let Some(elsewhere) = api.elsewhere() {
        return elsewhere.started(&state_of(&api, id).await?.id, new).await;
    }
    let Endpoint::Guest(socket) = api.endpoint() else { return Ok(()) };
    socket.await_ports(&inspect(api.clone(), id).await?).await
}

fn seconds(timeout: Option<u32>) -> Option<i32> {
    timeout.map(|t| i32::try_from(t).unwrap_or(i32::MAX))
}

pub(super) async fn stop(api: Api, id: &str, timeout: Option<u32>) -> Result<()> {
    let options = q::StopContainerOptions { signal: None, t: seconds(timeout) };
    api.bollard().stop_container(bare(id), Some(options)).await.about(About::Container(id))
}

pub(super) async fn restart(api: Api, id: &str, timeout: Option<u32>) -> Result<()> {
    let options = q::RestartContainerOptions { signal: None, t: seconds(timeout) };
    api.bollard().restart_container(bare(id), Some(options)).await.about(About::Container(id))?;
    started(api, id, false).await
}

pub(super) async fn kill(api: Api, id: &str, signal: &str) -> Result<()> {
    let options = q::KillContainerOptions { signal: signal.to_owned() };
    api.bollard().kill_container(bare(id), Some(options)).await.about(About::Container(id))
}

/// Anonymous volumes stay, as with `docker rm`: they may hold data. Those of a container that never ran hold none, and
/// nobody could name them afterwards.
pub(super) async fn remove(api: Api, id: &str, force: bool) -> Result<()> {
    let never_ran = state_of(&api, id).await?.is_new();
    let options = q::RemoveContainerOptions { v: never_ran, force, link: false };
    api.bollard().remove_container(bare(id), Some(options)).await.about(About::Container(id))
}

pub(super) async fn rename(api: Api, id: &str, name: &str) -> Result<()> {
    let options = q::RenameContainerOptions { name: name.to_owned() };
    api.bollard().rename_container(bare(id), options).await.about(About::Container(id))
}

pub(super) async fn processes(api: Api, id: &str) -> Result<ProcessList> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Top {
        titles: Vec<String>,
        processes: Option<Vec<Vec<String>>>,
    }
    let path = format!("containers/{}/top", api::encode(bare(id)));
    let top: Top = api.get_json(api::ALL, &path, &[]).await.about(About::Container(id))?;
    Ok(ProcessList { titles: top.titles, processes: top.processes.unwrap_or_default() })
}

pub(super) async fn pause(api: Api, id: &str) -> Result<()> {
    api.bollard().pause_container(bare(id)).await.about(About::Container(id))
}

pub(super) async fn unpause(api: Api, id: &str) -> Result<()> {
    api.bollard().unpause_container(bare(id)).await.about(About::Container(id))
}

/// Not through bollard, which makes an error of an exit code other than 0 (docs/reference/docker.md#exit-codes-of-waits). The
/// engine calls one that never ran ended (docs/reference/docker.md#waits-before-a-start).
pub(super) async fn wait(api: Api, id: &str) -> Result<WaitResult> {
    if state_of(&api, id).await?.is_new() {
        let of = |what: &[&str]| what.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let filters = Filters::from([("type".into(), of(&["container"])), ("event".into(), of(&["die", "destroy"]))]);
        let mut events = events::raw(&api, None, &filters).await.about(About::Engine)?;
        // The engine waits from when the head of its answer has come: an end after the look below is not missed.
        let next = begin_wait(&api, id, &[("condition", "next-exit".to_owned())]).await?;
        let now = state_of(&api, id).await?;
        if now.is_new() {
            return wait_for_the_first(&api, id, &now.id, end_wait(next, id), &mut events).await;
        }
    }
    end_wait(begin_wait(&api, id, &[]).await?, id).await
}

/// A wait also ends when the container is removed, and has an exit code then, too. Only the events tell an end from a removal.
async fn wait_for_the_first(
    api: &Api,
    id: &str,
    full: &str,
    end: impl Future<Output = Result<WaitResult>>,
    events: &mut (impl Stream<Item = Result<Event, Failure>> + Unpin),
) -> Result<WaitResult> {
    let removed = || Error::new(ErrorCode::ContainerNotFound, format!("Container {id} was removed")).detail("id", id);
    let mut died = Box::pin(async {
        while let Some(event) = events.next().await {
            let event = event.about(About::Engine)?;
            if event.actor.id == full {
                return if event.action == "die" { Ok(()) } else { Err(removed()) };
            }
        }
        Err(Failure::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)).about(About::Engine))
    });
    let mut end = Box::pin(end);
    tokio::select! {
        died = &mut died => {
            died?;
            end.await
        }
        ended = &mut end => {
            let ended = ended?;
            // One that removes itself is gone by now, too.
            match state_of(api, full).await {
                Err(e) if e.code() == ErrorCode::ContainerNotFound => died.await.map(|()| ended),
                _ => Ok(ended),
            }
        }
    }
}

pub(super) async fn begin_wait(api: &Api, id: &str, query: api::Query<'_>) -> Result<Response<Incoming>> {
    let path = format!("containers/{}/wait", api::encode(bare(id)));
    api.post(&path, query, api::empty()).await.about(About::Container(id))
}

pub(super) async fn end_wait(answer: Response<Incoming>, id: &str) -> Result<WaitResult> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        status_code: i64,
        error: Option<WaitError>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct WaitError {
        #[serde(default)]
        message: String,
    }
    let about = About::Container(id);
    let answer: Answer = api::json(api::SMALL, answer).await.about(about)?;
    match answer.error {
        Some(e) if !e.message.is_empty() => Err(Failure::in_stream(e.message).about(about)),
        _ => Ok(WaitResult { exit_code: answer.status_code }),
    }
}

/// How long a stop waits that is given no time: as long as the container says, else the engine.
pub(super) async fn stop_timeout(api: Api, id: &str) -> Result<StopTimeout> {
    let config = read(&raw(&api, id).await?)?.config;
    Ok(config.and_then(|c| c.stop_timeout).map_or(StopTimeout::default(), StopTimeout::of))
}

/// What the engine says about one container, with nothing left out.
pub(super) async fn raw(api: &Api, id: &str) -> Result<Value> {
    api.get_json(api::ONE, &format!("containers/{}/json", api::encode(bare(id))), &[]).await.about(About::Container(id))
}

/// As Docker means it: a paused one runs, too.
pub(super) async fn is_running(api: &Api, id: &str) -> Result<bool> {
    Ok(read(&raw(api, id).await?)?.state.running)
}

struct Current {
    id: String,
    status: String,
}

impl Current {
    /// Created, and never started. Podman has two more words for it.
    fn is_new(&self) -> bool {
        matches!(self.status.as_str(), "created" | "configured" | "initialized")
    }
}

async fn state_of(api: &Api, id: &str) -> Result<Current> {
    let i = read(&raw(api, id).await?)?;
    Ok(Current { id: i.id, status: i.state.status })
}

/// Whoever asks about containers finds the ports of those that run, wherever the engine is.
async fn asked(api: &Api) {
    if let Some(elsewhere) = api.elsewhere() {
        elsewhere.asked().await;
    }
}

pub(super) async fn inspect(api: Api, id: &str) -> Result<ContainerInfo> {
    asked(&api).await;
    let raw = raw(&api, id).await?;
    read(&raw).map(|i| info(&i, time::now()))
}

pub(super) async fn details(api: Api, id: &str) -> Result<ContainerDetails> {
    asked(&api).await;
    let raw = raw(&api, id).await?;
    let i = read(&raw)?;
    Ok(details_of(i, raw, time::now()))
}

fn read(raw: &Value) -> Result<Inspect> {
    Inspect::deserialize(raw).map_err(|e| Failure::from(e).about(About::Engine))
}

// What of an answer is read. Everything is optional that any engine has ever left out or answered `null` to.

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspect {
    id: String,
    #[serde(default)]
    name: String,
    created: Option<String>,
    state: State,
    config: Option<Config>,
    host_config: Option<HostConfig>,
    #[serde(default)]
    network_settings: NetworkSettings,
    mounts: Option<Vec<MountPoint>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    status: String,
    running: bool,
    exit_code: i64,
    started_at: String,
    finished_at: String,
    health: Option<HealthState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthState {
    status: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: String,
    labels: Option<Labels>,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    env: Option<Vec<String>>,
    stop_timeout: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    restart_policy: Option<Restart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Restart {
    name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    networks: Option<BTreeMap<String, EndpointSettings>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    host_port: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct EndpointSettings {
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    mac_address: String,
    aliases: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct MountPoint {
    #[serde(rename = "Type")]
    kind: String,
    name: Option<String>,
    source: String,
    destination: String,
    #[serde(rename = "RW")]
    writable: bool,
}

fn info(i: &Inspect, now: Millis) -> ContainerInfo {
    let mut ports: Vec<Port> = Vec::new();
    for (key, bindings) in i.network_settings.ports.iter().flatten() {
        let Some((container_port, protocol)) = port_key(key) else { continue };
        let hosts: Vec<_> = bindings.iter().flatten().map(|b| b.host_port.as_deref()?.parse().ok()).collect();
        let hosts = if hosts.is_empty() { vec![None] } else { hosts };
        ports.extend(hosts.into_iter().map(|host_port| Port { container_port, host_port, protocol }));
    }
    // Bound on IPv4 and on IPv6: one port.
    ports.sort_unstable();
    ports.dedup();
    let health = i.state.health.as_ref().map_or(Health::None, |h| health(h.status.as_deref()));
    ContainerInfo {
        id: i.id.clone(),
        name: bare(&i.name).to_owned(),
        image: i.config.as_ref().map(|c| c.image.clone()).unwrap_or_default(),
        state: state(&i.state.status),
        status: status(&i.state, health, now),
        health,
        created: i.created.as_deref().and_then(time::parse).unwrap_or_default(),
        ports,
    }
}

fn details_of(i: Inspect, raw: Value, now: Millis) -> ContainerDetails {
    let info = info(&i, now);
    let ended = !matches!(i.state.status.as_str(), "running" | "paused" | "restarting");
    let finished_at = time::parse(&i.state.finished_at);
    let config = i.config.unwrap_or_default();
    let mut command = config.entrypoint.unwrap_or_default();
    command.extend(config.cmd.unwrap_or_default());
    let restart = i.host_config.and_then(|h| h.restart_policy).and_then(|r| r.name);
    ContainerDetails {
        info,
        labels: config.labels.unwrap_or_default(),
        command,
        env: variables(config.env.iter().flatten().map(String::as_str)),
        mounts: (i.mounts.unwrap_or_default().into_iter())
            .map(|m| Mount {
                source: m.name.filter(|_| m.kind == "volume").unwrap_or(m.source),
                kind: m.kind,
                destination: m.destination,
                read_only: !m.writable,
            })
            .collect(),
        networks: (i.network_settings.networks.unwrap_or_default().into_iter())
            .map(|(name, e)| NetworkAttachment {
                id: e.network_id,
                name,
                ip_address: Some(e.ip_address).filter(|s| !s.is_empty()),
                mac_address: Some(e.mac_address).filter(|s| !s.is_empty()),
                aliases: e.aliases.unwrap_or_default(),
            })
            .collect(),
        exit_code: (ended && finished_at.is_some()).then_some(i.state.exit_code),
        started_at: time::parse(&i.state.started_at),
        finished_at: finished_at.filter(|_| ended),
        restart_policy: match restart.as_deref() {
            Some("always") => RestartPolicy::Always,
            Some("on-failure") => RestartPolicy::OnFailure,
            Some("unless-stopped") => RestartPolicy::UnlessStopped,
            _ => RestartPolicy::No,
        },
        raw,
    }
}

/// Unknown states are taken for the one in which nothing runs.
fn state(text: &str) -> ContainerState {
    match text {
        "running" => ContainerState::Running,
        "paused" => ContainerState::Paused,
        "restarting" => ContainerState::Restarting,
        "removing" => ContainerState::Removing,
        "exited" => ContainerState::Exited,
        "dead" => ContainerState::Dead,
        _ => ContainerState::Stopped,
    }
}

fn health(text: Option<&str>) -> Health {
    match text {
        Some("healthy") => Health::Healthy,
        Some("unhealthy") => Health::Unhealthy,
        Some("starting") => Health::Starting,
        _ => Health::None,
    }
}

/// As `docker ps` words it: the engine does so itself only in its list.
fn status(s: &State, health: Health, now: Millis) -> String {
    let since = |text: &str| time::human(now.saturating_sub(time::parse(text).unwrap_or(now)));
    match s.status.as_str() {
        "running" | "paused" => {
            let mark = match (s.status.as_str(), health) {
                ("paused", _) => " (Paused)",
                (_, Health::Healthy) => " (healthy)",
                (_, Health::Unhealthy) => " (unhealthy)",
                (_, Health::Starting) => " (health: starting)",
                (_, Health::None) => "",
            };
            format!("Up {}{mark}", since(&s.started_at))
        }
        "restarting" => format!("Restarting ({}) {} ago", s.exit_code, since(&s.finished_at)),
        "exited" => format!("Exited ({}) {} ago", s.exit_code, since(&s.finished_at)),
        "removing" => "Removal In Progress".into(),
        "dead" => "Dead".into(),
        _ => "Created".into(),
    }
}

fn port_key(key: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    Some((port.parse().ok()?, protocol_of(protocol)?))
}

fn protocol_of(text: &str) -> Option<Protocol> {
    match text {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        // SCTP has no place in the public type.
        _ => None,
    }
}

// ---- the list ---------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    id: String,
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    created: i64,
    ports: Option<Vec<SummaryPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SummaryPort {
    private_port: u16,
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    protocol: String,
}

/// Not through bollard: only what is shown is parsed, which is most of the time a list takes.
pub(super) async fn list(api: Api, options: &ListOptions) -> Result<Vec<ContainerInfo>> {
    let mut query = vec![("all", u8::from(options.all).to_string())];
    if !options.filters.is_empty() {
        query.push(("filters", api::filters(&literal(&options.filters))));
    }
    asked(&api).await;
    let found: Vec<Summary> = api.get_json(api::ALL, "containers/json", &query).await.about(About::Engine)?;
    Ok(found.into_iter().map(summary).collect())
}

/// The engine takes a name for a regular expression that matches anywhere (docs/reference/docker.md#names-in-filters).
fn literal(filters: &Filters) -> Filters {
    let mut filters = filters.clone();
    for value in filters.get_mut("name").into_iter().flatten() {
        // A punctuation mark behind a backslash is itself (RE2).
        let plain = |c: char| if c.is_ascii_punctuation() { format!("\\{c}") } else { c.into() };
        *value = bare(value).chars().map(plain).collect();
    }
    filters
}

fn summary(s: Summary) -> ContainerInfo {
    let mut ports: Vec<Port> = (s.ports.unwrap_or_default().into_iter())
        .filter_map(|p| {
            let protocol = protocol_of(&p.protocol)?;
            Some(Port { container_port: p.private_port, host_port: p.public_port, protocol })
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    // The others are the names that links gave it: `/other/alias`.
    let names = s.names.unwrap_or_default();
    let name = names.iter().map(|n| bare(n)).find(|n| !n.contains('/')).unwrap_or_default().to_owned();
    // The list's answer has no field for it before API 1.52; its words do.
    let health = match s.status.rsplit_once(" (").map(|(_, mark)| mark) {
        Some("healthy)") => Health::Healthy,
        Some("unhealthy)") => Health::Unhealthy,
        Some("health: starting)") => Health::Starting,
        _ => Health::None,
    };
    ContainerInfo {
        id: s.id,
        name,
        image: s.image,
        state: state(&s.state),
        status: s.status,
        health,
        created: time::of_seconds(s.created),
        ports,
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    let now = 1_800_000_000_000;
    if let Ok(found) = serde_json::from_str::<Vec<Summary>>(text) {
        found.into_iter().map(summary).for_each(drop);
    }
    if let Ok(raw) = serde_json::from_str::<Value>(text)
        && let Ok(inspect) = read(&raw)
    {
        info(&inspect, now);
        details_of(inspect, raw, now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inspected(mut value: Value) -> Inspect {
        value["Id"] = json!("f00");
        value["Name"] = json!("/web");
        read(&value).unwrap()
    }

    #[test]
    fn created_reads_as_stopped_and_null_is_nothing() {
        let i = inspected(json!({ "State": { "Status": "created", "StartedAt": "0001-01-01T00:00:00Z",
            "FinishedAt": "0001-01-01T00:00:00Z" }, "Config": null, "Mounts": null, "NetworkSettings": { "Ports": null } }));
        let d = details_of(i, Value::Null, 0);
        assert_eq!(
            (d.info.state, d.info.status.as_str(), d.info.name.as_str()),
            (ContainerState::Stopped, "Created", "web")
        );
        assert_eq!((d.exit_code, d.started_at, d.finished_at), (None, None, None));
        assert_eq!(d.info.health, Health::None);
    }

    #[test]
    fn status_is_what_docker_ps_prints() {
        let at = |status: &str, health: Option<&str>| {
            let i = inspected(json!({ "State": { "Status": status, "ExitCode": 7, "StartedAt": "1970-01-01T00:00:00Z",
                "FinishedAt": "1970-01-01T00:00:05Z", "Health": health.map(|h| json!({ "Status": h })) } }));
            info(&i, 10_000).status
        };
        assert_eq!(at("running", None), "Up 10 seconds");
        assert_eq!(at("running", Some("healthy")), "Up 10 seconds (healthy)");
        assert_eq!(at("running", Some("starting")), "Up 10 seconds (health: starting)");
        assert_eq!(at("paused", Some("healthy")), "Up 10 seconds (Paused)");
        assert_eq!(at("exited", None), "Exited (7) 5 seconds ago");
    }

    #[test]
    fn a_port_bound_on_both_address_families_is_one_port() {
        let i = inspected(json!({ "State": { "Status": "running" }, "NetworkSettings": { "Ports": {
            "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }, { "HostIp": "::", "HostPort": "8080" }],
            "53/udp": null, "9/sctp": null } } }));
        assert_eq!(
            info(&i, 0).ports,
            [
                Port { container_port: 53, host_port: None, protocol: Protocol::Udp },
                Port { container_port: 80, host_port: Some(8080), protocol: Protocol::Tcp },
            ]
        );
    }

    #[test]
    fn a_summary_keeps_the_containers_own_name_and_finds_health_in_the_words() {
        let s: Summary = serde_json::from_value(json!({ "Id": "f", "Names": ["/other/alias", "/web"], "Image": "i",
            "State": "running", "Status": "Up 2 minutes (healthy)", "Created": 5, "Ports": null }))
        .unwrap();
        let c = summary(s);
        assert_eq!((c.name.as_str(), c.health, c.created), ("web", Health::Healthy, 5000));
    }

    fn spec(volumes: &Value) -> ContainerSpec {
        serde_json::from_value(json!({ "name": "web", "image": "i", "volumes": volumes })).unwrap()
    }

    #[test]
    fn what_is_made_is_never_another_mount() {
        let spec = spec(&json!([
            { "host": "/no/such/docker.sock", "container": "/a" },
            { "host": "/new", "container": "/data:ro" },
            { "host": "/new:ro", "container": "/b" },
            { "host": "/srv/pipeline-data", "container": "/c" },
            { "host": "//./pipe/docker_engine", "container": "/d" },
        ]));
        let (old, new) = (ApiVersion(1, 41), spec::MOUNTPOINTS_MADE);
        let refused = |i: usize, version| {
            let e = refuse_to_make(&spec, i, version).err()?;
            assert_eq!(e.code(), ErrorCode::InvalidArgument);
            Some(e.details()["field"].as_str()?.to_owned())
        };
        assert_eq!(refused(0, new).as_deref(), Some("volumes[0].host"));
        assert_eq!(refused(1, old).as_deref(), Some("volumes[1].container"));
        assert_eq!(refused(2, old).as_deref(), Some("volumes[2].host"));
        assert_eq!((refused(1, new), refused(2, new)), (None, None));
        assert_eq!((refused(3, old), refused(3, new)), (None, None));
        assert_eq!(refused(4, new).as_deref(), Some("volumes[4].host"));
    }

    #[test]
    fn the_path_that_is_missing_is_told_from_the_engines_words() {
        let spec = spec(&json!([
            { "host": "/b", "container": "/1" },
            { "host": "/a/b", "container": "/2" },
            { "host": "data", "container": "/3" },
            { "host": "/x/docker.sock", "container": "/4" },
        ]));
        let of = |path: &str, made: &[&str]| {
            let said = format!(
                "volumes[0].host: invalid mount config for type \"bind\": bind source path does not exist: {path}"
            );
            to_be_made(&spec, &made.iter().map(|m| (*m).to_owned()).collect(), &said)
        };
        assert_eq!(of("/a/b", &[]), [1]);
        assert_eq!(of("/b", &[]), [0]);
        assert_eq!(of("/host_mnt/a/b", &[]), [1]);
        assert_eq!(of("/x/docker.sock", &[]), [3]);
        // A drive of Windows has another name in the VM.
        assert_eq!(of("/run/desktop/mnt/host/c/x", &[]), [0, 1]);
        assert_eq!(of("/run/desktop/mnt/host/c/x", &["/b", "/a/b"]), [0usize; 0]);
        assert_eq!(to_be_made(&spec, &HashSet::new(), "Duplicate mount point: /b"), [0usize; 0]);
    }

    #[test]
    fn a_filters_value_is_no_pattern() {
        let filters = Filters::from([
            ("name".to_owned(), vec!["web.1".to_owned(), "/a+b".to_owned()]),
            ("label".to_owned(), vec!["a.b=c".to_owned()]),
        ]);
        let literal = literal(&filters);
        assert_eq!(literal["name"], [r"web\.1", r"a\+b"]);
        assert_eq!(literal["label"], ["a.b=c"]);
    }
}

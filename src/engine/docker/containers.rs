//! Containers: their life, and what is known about them.

use std::collections::BTreeMap;

use bollard::query_parameters as q;
use serde::Deserialize;
use serde_json::Value;

use super::{
    api::{self, Api},
    error::{Failure, On, OnExt},
    networks,
    spec::{self, HostPaths},
    time,
};
use crate::{
    engine::{types::*, validate},
    error::{Error, ErrorCode, Result},
};

/// Docker prints names with a slash; in a path it would be one too many.
pub(super) fn bare(id: &str) -> &str {
    id.trim_start_matches('/')
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

pub(super) async fn create(api: Api, spec: &ContainerSpec) -> Result<String> {
    let (id, later) = match create_with(&api, spec, HostPaths::MustExist).await {
        Err(e) if e.code() == ErrorCode::InvalidArgument && e.message().contains("bind source path does not exist") => {
            refuse_made_directories(spec)?;
            create_with(&api, spec, HostPaths::Made).await?
        }
        other => other?,
    };
    for network in &later {
        if let Err(e) = networks::connect(api.clone(), &id, network).await {
            if let Err(cleanup) = remove(api, &id, true).await {
                tracing::warn!(%id, %cleanup, "could not remove a container that is not on all its networks");
            }
            return Err(e);
        }
    }
    Ok(id)
}

async fn create_with(api: &Api, spec: &ContainerSpec, paths: HostPaths) -> Result<(String, Vec<String>)> {
    let made = spec::creation(spec, api.version(), paths)?;
    let mut query = vec![("name", spec.name.clone())];
    if let Some(platform) = &spec.platform {
        query.push(("platform", platform.clone()));
    }
    let created: Created =
        api.post_json("containers/create", &query, &made.body).await.map_err(|failure| match failure {
            // On a 404 it is the image that is missing.
            f if f.is_not_found() => f.on(On::Image(&spec.image)),
            f => f.on(On::Container(&spec.name)),
        })?;
    Ok((created.id, made.later))
}

/// A path the engine does not have becomes a directory there, as with `docker run -v`
/// (docs/reference/docker.md#binds-and-mounts). A socket must not: a program that looks for an engine would find a
/// directory of its name.
fn refuse_made_directories(spec: &ContainerSpec) -> Result<()> {
    for (i, v) in spec.volumes.iter().enumerate().filter(|(_, v)| validate::is_host_path(&v.host)) {
        let missing = |why: &str| Err(Error::invalid(format!("volumes[{i}].host"), format!("{:?} {why}", v.host)));
        let local_and_there = std::path::Path::new(&v.host).exists();
        if is_socket_name(&v.host) && !local_and_there {
            return missing("is not on the engine's machine, and a socket cannot be made up").map_err(|e| {
                e.hint(
                    "Start what listens on that socket, or leave the volume out: not every engine has a Docker socket.",
                )
            });
        }
        if v.host.contains(':') && !cfg!(windows) && !local_and_there {
            return missing("does not exist, and the engine makes no directory with a colon in its name");
        }
    }
    Ok(())
}

fn is_socket_name(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|e| e.eq_ignore_ascii_case("sock")) || path.contains("pipe")
}

pub(super) async fn start(api: Api, id: &str) -> Result<()> {
    api.bollard().start_container(bare(id), None::<q::StartContainerOptions>).await.on(On::Container(id))
}

fn seconds(timeout: Option<u32>) -> Option<i32> {
    timeout.map(|t| i32::try_from(t).unwrap_or(i32::MAX))
}

pub(super) async fn stop(api: Api, id: &str, timeout: Option<u32>) -> Result<()> {
    let options = q::StopContainerOptions { signal: None, t: seconds(timeout) };
    api.bollard().stop_container(bare(id), Some(options)).await.on(On::Container(id))
}

pub(super) async fn restart(api: Api, id: &str, timeout: Option<u32>) -> Result<()> {
    let options = q::RestartContainerOptions { signal: None, t: seconds(timeout) };
    api.bollard().restart_container(bare(id), Some(options)).await.on(On::Container(id))
}

pub(super) async fn kill(api: Api, id: &str, signal: &str) -> Result<()> {
    let options = q::KillContainerOptions { signal: signal.to_owned() };
    api.bollard().kill_container(bare(id), Some(options)).await.on(On::Container(id))
}

/// Anonymous volumes stay, as with `docker rm`: they may hold data. Those of a container that never ran hold none, and
/// nobody could name them afterwards.
pub(super) async fn remove(api: Api, id: &str, force: bool) -> Result<()> {
    let never_ran = read(&raw(&api, id).await?)?.state.status == "created";
    let options = q::RemoveContainerOptions { v: never_ran, force, link: false };
    api.bollard().remove_container(bare(id), Some(options)).await.on(On::Container(id))
}

pub(super) async fn pause(api: Api, id: &str) -> Result<()> {
    api.bollard().pause_container(bare(id)).await.on(On::Container(id))
}

pub(super) async fn unpause(api: Api, id: &str) -> Result<()> {
    api.bollard().unpause_container(bare(id)).await.on(On::Container(id))
}

/// Not through bollard, which makes an error of an exit code other than 0 (docs/reference/docker.md#exit-codes-of-waits).
pub(super) async fn wait(api: Api, id: &str) -> Result<WaitResult> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        status_code: i64,
        error: Option<WaitError>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct WaitError {
        message: String,
    }
    let on = On::Container(id);
    let path = format!("containers/{}/wait", api::encode(bare(id)));
    let answer = api.post(&path, &[], api::empty()).await.on(on)?;
    let answer: Answer = api::json(answer).await.on(on)?;
    match answer.error {
        Some(e) if !e.message.is_empty() => Err(Failure::in_stream(e.message).on(on)),
        _ => Ok(WaitResult { exit_code: answer.status_code }),
    }
}

/// What the engine says about one container, with nothing left out.
pub(super) async fn raw(api: &Api, id: &str) -> Result<Value> {
    api.get_json(&format!("containers/{}/json", api::encode(bare(id))), &[]).await.on(On::Container(id))
}

/// As Docker means it: a paused one runs, too.
pub(super) async fn is_running(api: &Api, id: &str) -> Result<bool> {
    Ok(read(&raw(api, id).await?)?.state.running)
}

pub(super) async fn inspect(api: Api, id: &str) -> Result<ContainerInfo> {
    let raw = raw(&api, id).await?;
    read(&raw).map(|i| info(&i, time::now()))
}

pub(super) async fn details(api: Api, id: &str) -> Result<ContainerDetails> {
    let raw = raw(&api, id).await?;
    let i = read(&raw)?;
    Ok(details_of(i, raw, time::now()))
}

fn read(raw: &Value) -> Result<Inspect> {
    Inspect::deserialize(raw).map_err(|e| Failure::strange(e.to_string()).on(On::Engine))
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
        env: (config.env.unwrap_or_default().into_iter())
            .map(|e| e.split_once('=').map_or_else(|| (e.clone(), String::new()), |(k, v)| (k.into(), v.into())))
            .collect(),
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

/// The words of `docker ps`, which only the list brings along.
fn status(s: &State, health: Health, now: Millis) -> String {
    let since = |text: &str| time::human(now - time::parse(text).unwrap_or(now));
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
        query.push(("filters", api::filters(&options.filters)));
    }
    let found: Vec<Summary> = api.get_json("containers/json", &query).await.on(On::Engine)?;
    Ok(found.into_iter().map(summary).collect())
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
        created: s.created * 1000,
        ports,
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

    #[test]
    fn a_socket_is_never_made_up() {
        let spec: ContainerSpec = serde_json::from_value(json!({ "name": "web", "image": "i",
            "volumes": [{ "host": "/ok", "container": "/a" }, { "host": "/no/such/docker.sock", "container": "/b" }] }))
        .unwrap();
        let e = refuse_made_directories(&spec).unwrap_err();
        assert_eq!((e.code(), &e.details()["field"]), (ErrorCode::InvalidArgument, &"volumes[1].host".into()));
    }
}

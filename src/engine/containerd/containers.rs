//! Containers: their life, and what is known about them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Containerd, HostPort,
    api::{self, Container, Task},
    events, files, health, images,
    labels::{
        self, EXPLICITLY_STOPPED, HEALTH_STATE, HEALTHCHECK, MONITOR_LOG, MONITOR_POLICY, MONITOR_STATUS, NAME,
        UNFINISHED,
    },
    logger,
    nerdctl::On,
    networks,
};
use crate::{
    call,
    engine::{reference, time, types::*, validate},
    error::{Error, ErrorCode, Result},
    guest::BEGAN,
    task,
};

/// The policy the caller asked for, where containerd's own is another.
const RESTART: &str = "lima-runtime.restart";
/// The image as the caller named it.
const IMAGE: &str = "lima-runtime.image";
/// Keys of labels without a value, as JSON: containerd keeps no such label (docs/reference/containerd.md#labels).
const EMPTY: &str = "lima-runtime.empty-labels";
/// The same of one that we restart. Not by the monitor's label: what has that, the monitor starts and stops whatever its
/// policy, without its log (docs/reference/containerd.md#restart-monitor).
pub(super) const OUR_STATUS: &str = "lima-runtime.restart-status";

/// As a label: its flags know no other form than CMD-SHELL.
fn healthcheck(check: &Healthcheck) -> String {
    let nanos = |ms: f64| (ms * 1e6).round();
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and below 2^53")]
    let number = |n: f64| Value::from(n as i64);
    let mut json = serde_json::json!({
        "Test": check.test,
        "Interval": number(nanos(check.interval)),
        "Timeout": number(nanos(check.timeout)),
        "Retries": number(check.retries),
    });
    if let Some(start) = check.start_period {
        json["StartPeriod"] = number(nanos(start));
    }
    json.to_string()
}

fn health_of(container: &Container) -> Health {
    let json = |key: &str| container.labels.get(key).and_then(|l| serde_json::from_str::<Value>(l).ok());
    let Some(check) = json(HEALTHCHECK).filter(|c| c["Test"][0] != "NONE") else { return Health::None };
    if check["Test"].as_array().is_none_or(Vec::is_empty) {
        return Health::None;
    }
    match json(HEALTH_STATE).as_ref().and_then(|s| s["Status"].as_str()) {
        Some("healthy") => Health::Healthy,
        Some("unhealthy") => Health::Unhealthy,
        _ => Health::Starting,
    }
}

pub(super) fn not_found(id: &str) -> Error {
    Error::new(ErrorCode::ContainerNotFound, format!("No such container: {id}")).detail("id", id)
}

fn invalid_state(id: &str, why: &str) -> Error {
    Error::new(ErrorCode::InvalidState, format!("Container {id} {why}")).detail("id", id)
}

/// A name, an id, or the beginning of one id; a name wins.
pub(super) async fn find(c: &Containerd, reference: &str) -> Result<Container> {
    let wanted = reference.trim_start_matches('/');
    let mut found = c.api.called(wanted).await?;
    let named = |f: &Container| f.labels.get(NAME).is_some_and(|n| n == wanted);
    if let Some(i) = found.iter().position(named).or_else(|| found.iter().position(|f| f.id == wanted)) {
        return Ok(found.swap_remove(i));
    }
    match found.len() {
        0 => Err(not_found(reference)),
        1 => Ok(found.swap_remove(0)),
        n => Err(Error::new(
            ErrorCode::ContainerNotFound,
            format!("{n} containers have ids that begin with {reference}"),
        )
        .detail("id", reference)
        .hint("Pass more of the id.")),
    }
}

/// How containers ended that we heard of: containerd 2 forgets it when it is started anew
/// (docs/reference/containerd.md#ended-tasks-after-a-restart).
#[derive(Default)]
pub(super) struct Ends(Mutex<HashMap<String, Task>>);

impl Ends {
    pub(super) fn remember(&self, id: &str, exit_code: i64, at: Millis) {
        let end = Task { state: ContainerState::Exited, pid: 0, exit_code: Some(exit_code), exited_at: Some(at) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), end);
    }

    pub(super) fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The task, or what is known of the one the container had since its last start.
    fn or_task(&self, id: &str, task: Option<Task>, kept: &files::Kept) -> Option<Task> {
        task.or_else(|| {
            let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            ends.get(id).filter(|end| kept.started_at.is_some() && end.exited_at >= kept.started_at).cloned()
        })
    }
}

/// The container and its task. Gone meanwhile is not found.
async fn look(c: &Containerd, reference: &str) -> Result<(Container, Option<Task>)> {
    let container = find(c, reference).await?;
    let task = c.api.task(&container.id).await?;
    Ok((container, task))
}

/// The full id of a container that runs and is not paused.
pub(super) async fn running(c: &Containerd, reference: &str) -> Result<(Container, Task)> {
    let (container, task) = look(c, reference).await?;
    match task {
        Some(task) if task.state == ContainerState::Running => Ok((container, task)),
        Some(task) if task.state == ContainerState::Paused => Err(invalid_state(reference, "is paused")),
        _ => Err(invalid_state(reference, "is not running")),
    }
}

pub(super) async fn running_or_paused(c: &Containerd, reference: &str) -> Result<(Container, Task)> {
    let (container, task) = look(c, reference).await?;
    let task = task.filter(|t| matches!(t.state, ContainerState::Running | ContainerState::Paused));
    Ok((container, task.ok_or_else(|| invalid_state(reference, "is not running"))?))
}

// ---- their life -------------------------------------------------------------------------------------------------

pub(super) async fn create(c: &Containerd, spec: &ContainerSpec) -> Result<String> {
    let ours = our_labels(spec)?;
    check_ports(spec)?;
    check_addresses(c, spec).await?;
    let args = arguments(c, spec, &ours).await?;
    if let Some(host) = &c.settings.host {
        if let Some(udp) = spec.ports.keys().find(|p| p.ends_with("/udp") && !host.forwards(Protocol::Udp)) {
            return Err(Error::invalid(format!("ports.{udp}"), "udp ports are not forwarded to this machine")
                .hint("Publish a tcp port, or reach the container from another one on the same network."));
        }
        host.check_ports(&host_ports(spec)).await?;
    }
    let create = async || c.nerdctl.write(On::Container(&spec.name), args.iter().map(String::as_str)).await;
    let created = match create().await {
        Err(e) if e.code() == ErrorCode::NameInUse && free_stale_name(c, &spec.name, e.message()).await? => {
            create().await
        }
        Err(e) if e.code() == ErrorCode::PortInUse && free_ports(c, spec).await? => create().await,
        other => other,
    };
    let out = created.map_err(|e| explained(e, spec))?;
    let text = String::from_utf8_lossy(&out);
    let id = text.lines().map(str::trim).rfind(|l| l.len() == 64 && l.bytes().all(|b| b.is_ascii_hexdigit()));
    let id = id.map(str::to_owned).ok_or_else(|| {
        Error::internal("nerdctl create printed no id").detail("stdout", text.chars().take(1000).collect::<String>())
    })?;
    if let Err(e) = complete(c, spec, &ours, &id).await {
        let own = c.api.container(&id).await.is_ok_and(|made| labels::takes_own_volumes(&made));
        let args = ["rm", "--force"].into_iter().chain(own.then_some("--volumes"));
        _ = c.nerdctl.write(On::Container(&id), args.chain([id.as_str()])).await;
        return Err(e);
    }
    if !spec.ports.is_empty() && spec.networks.iter().any(|n| n == "host") {
        // As Docker says it.
        let warning = "Published ports are discarded when using host network mode";
        call::warn(Error::new(ErrorCode::EngineWarning, warning).detail("container", spec.name.as_str()));
    }
    Ok(id)
}

/// The policy by which containerd's monitor does what is wanted, where it has one.
async fn monitored(c: &Containerd, policy: RestartPolicy) -> Result<Option<&'static str>> {
    let known = c.restart_policies().await?;
    let has = |name: &str| known.iter().any(|k| k == name);
    // The monitor's `always` ignores a stop, and 1.6 has no other policy (docs/reference/containerd.md#restart-policies):
    // what it lacks is made of its status label, or of our own watching.
    Ok(match policy {
        RestartPolicy::OnFailure => has("on-failure").then_some("on-failure"),
        _ if has("unless-stopped") => Some("unless-stopped"),
        _ => Some("always"),
    })
}

/// Labels that a container is made with: the caller's and our notes.
fn our_labels(spec: &ContainerSpec) -> Result<Labels> {
    let mut all = spec.labels.clone();
    all.insert(IMAGE.into(), spec.image.clone());
    if let Some(policy) = spec.restart.filter(|p| *p != RestartPolicy::No) {
        all.insert(RESTART.into(), word(policy).into());
    }
    let empty: Vec<&String> = spec.labels.iter().filter(|(_, v)| v.is_empty()).map(|(k, _)| k).collect();
    if !empty.is_empty() {
        all.insert(EMPTY.into(), serde_json::json!(empty).to_string());
    }
    match all.iter().find(|(k, v)| k.len() + v.len() > 4096) {
        None => Ok(all),
        Some((key, _)) => {
            Err(Error::invalid(format!("labels.{key}"), "containerd takes 4096 bytes for a label's key and value"))
        }
    }
}

/// What nerdctl lets nobody give, or only where everybody sees it; and what it took from the image goes again. Nothing starts
/// the container before: the monitor heeds no record without a status.
async fn complete(c: &Containerd, spec: &ContainerSpec, ours: &Labels, id: &str) -> Result<()> {
    let made = c.api.container(id).await?;
    let dir = c.container_dir(id).await?;
    let of_image = labels::of_image(&made, ours, c.namespace(), &dir);
    let mut changes: HashMap<String, String> = of_image.iter().map(|key| (key.clone(), String::new())).collect();
    changes.insert(UNFINISHED.to_owned(), String::new());
    // nerdctl reads its flags' values as CSV, whose \r\n is \n (docs/reference/nerdctl.md#flag-values).
    let altered = ours.iter().filter(|(key, value)| made.labels.get(*key).is_some_and(|v| v != *value));
    changes.extend(altered.map(|(key, value)| (key.clone(), value.clone())));
    if let Some(check) = spec.healthcheck.as_ref().filter(|h| h.test.first().is_some_and(|t| t != "NONE")) {
        changes.insert(HEALTHCHECK.to_owned(), healthcheck(check));
    }
    changes.extend(logger::install(c, &made, &dir).await?);
    if let Some(policy) = spec.restart.filter(|p| *p != RestartPolicy::No) {
        if let Some(policy) = monitored(c, policy).await? {
            let log = changes.get(labels::LOG_URI).or_else(|| made.labels.get(labels::LOG_URI)).cloned();
            changes.insert(MONITOR_POLICY.to_owned(), policy.to_owned());
            // Else the monitor starts what was only created.
            changes.insert(MONITOR_STATUS.to_owned(), "stopped".to_owned());
            changes.insert(MONITOR_LOG.to_owned(), log.unwrap_or_default());
        } else {
            changes.insert(OUR_STATUS.to_owned(), "stopped".to_owned());
        }
    }
    labels::rewrite(c, &made, changes, &spec.env).await?;
    labels::warn(spec, &of_image);
    Ok(())
}

fn host_ports(spec: &ContainerSpec) -> Vec<HostPort> {
    let port = |(container, host): (&String, &String)| {
        let mapping = validate::port_mapping(container, host).ok()?;
        Some((mapping.protocol, mapping.host_port))
    };
    spec.ports.iter().filter_map(port).collect()
}

fn explained(e: Error, spec: &ContainerSpec) -> Error {
    let again = |code, message: String, hint: &str| {
        Error::new(code, message).hint(hint).source(Error::new(e.code(), e.message()))
    };
    match e.code() {
        ErrorCode::NameInUse => again(
            e.code(),
            format!("The name {} is taken", spec.name),
            "Remove the container of that name, or choose another.",
        ),
        ErrorCode::PortInUse => {
            let port =
                spec.ports.values().map(|p| p.rsplit(':').next().unwrap_or(p)).find(|p| e.message().contains(*p));
            let port = port.map_or_else(|| e.message().to_owned(), |p| format!("Host port {p} is taken"));
            again(e.code(), port, "Stop what listens on it, or choose another host port.")
        }
        ErrorCode::ImageNotFound => {
            Error::new(e.code(), format!("No such image: {}", spec.image)).detail("image", spec.image.as_str())
        }
        ErrorCode::NetworkNotFound => {
            let network = spec.networks.iter().find(|n| e.message().contains(n.as_str())).or(spec.networks.first());
            Error::new(e.code(), format!("No such network: {}", network.map_or("", String::as_str)))
        }
        _ => e,
    }
}

/// `nerdctl create …`.
async fn arguments(c: &Containerd, spec: &ContainerSpec, ours: &Labels) -> Result<Vec<String>> {
    let mut args: Vec<String> = vec!["create".into(), format!("--name={}", spec.name), "--pull=never".into()];
    for (container, host) in &spec.ports {
        let host = if host.contains(':') || !c.settings.private { host.clone() } else { format!("127.0.0.1:{host}") };
        args.push(format!("--publish={host}:{container}"));
    }
    for (i, v) in spec.volumes.iter().enumerate() {
        args.push(volume(c, i, v).await?);
    }
    args.extend(networks::called(c, &spec.networks).await?.iter().map(|n| format!("--network={n}")));
    if let Some(platform) = &spec.platform {
        args.push(format!("--platform={platform}"));
    }
    if spec.healthcheck.as_ref().is_some_and(|check| check.test.first().is_some_and(|t| t == "NONE")) {
        args.push("--no-healthcheck".into());
    }
    // What its image says of that counts for nothing; containerd keeps no label without a value.
    args.push(format!("--label={MONITOR_STATUS}="));
    args.push(format!("--label={UNFINISHED}=true"));
    args.extend(ours.iter().map(|(k, v)| format!("--label={k}={v}")));
    args.push(called_by_name(c, &spec.image).await?);
    if !spec.command.is_empty() {
        // nerdctl swallows one, and only the first.
        args.push("--".into());
        args.extend(spec.command.iter().cloned());
    }
    Ok(args)
}

/// nerdctl 2.1 does not find an image by Docker's id of it.
async fn called_by_name(c: &Containerd, image: &str) -> Result<String> {
    if !reference::is_id(image) {
        return Ok(image.to_owned());
    }
    Ok(images::resolve(c, image).await?.into_iter().next().unwrap_or_else(|| image.to_owned()))
}

/// Ports of an address that the engine's machine does not have would be published nowhere, and nobody told: nerdctl makes
/// firewall rules of them.
async fn check_addresses(c: &Containerd, spec: &ContainerSpec) -> Result<()> {
    let mut asked = Vec::new();
    for (container, host) in &spec.ports {
        let ip = validate::port_mapping(container, host)?.host_ip;
        asked.extend(ip.filter(|ip| !ip.is_loopback() && !ip.is_unspecified()).map(|ip| (container, ip)));
    }
    if asked.is_empty() {
        return Ok(());
    }
    // IPv4: addresses above `/32 host LOCAL`; IPv6: 32 digits.
    let text = c.guest().run(c.inside(["cat", "/proc/net/fib_trie", "/proc/net/if_inet6"])).await?.stdout;
    let own = own_addresses(&String::from_utf8_lossy(&text));
    match asked.iter().find(|(_, ip)| !own.contains(ip)) {
        Some((port, ip)) => {
            Err(Error::invalid(format!("ports.{port}"), format!("{ip} is no address of the engine's machine"))
                .hint("Publish on 127.0.0.1, on one of its own addresses, or on none in particular."))
        }
        None => Ok(()),
    }
}

fn own_addresses(text: &str) -> HashSet<IpAddr> {
    let mut own = HashSet::new();
    let mut last: Option<IpAddr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.ends_with("host LOCAL") {
            own.extend(last);
        } else if let Some(number) = line.get(..32).and_then(|digits| u128::from_str_radix(digits, 16).ok()) {
            own.insert(IpAddr::from(Ipv6Addr::from(number)));
        }
    }
    own
}

async fn volume(c: &Containerd, i: usize, v: &VolumeMount) -> Result<String> {
    let field = || format!("volumes[{i}].host");
    mountable(i, "container", &v.container)?;
    if !validate::is_host_path(&v.host) {
        return Ok(format!("--volume={}:{}{}", v.host, v.container, if v.read_only { ":ro" } else { "" }));
    }
    if validate::is_docker_socket(&v.host) {
        let problem = format!("{:?} is Docker's API, and this engine is containerd", v.host);
        return Err(Error::invalid(field(), problem).hint(
            "A program that needs Docker's API needs a Docker Engine: choose engine: 'docker', or use DockerAdapter.",
        ));
    }
    let mut path = v.host.clone();
    if let Some(host) = &c.settings.host {
        let (guest, asked) = (host.clone(), v.host.clone());
        if let Some((mount, found)) = task::blocking(move || Ok(guest.guest_path(&asked))).await? {
            path = found;
            // One that failed leaves an empty directory, and Lima says nothing of it (docs/reference/lima.md#mounts).
            if !c.guest().run(c.command(["mountpoint", "-q", "--", &mount])).await?.success() {
                let problem = format!("{:?} is not in the VM: {mount} is not mounted there", v.host);
                return Err(
                    Error::invalid(field(), problem).hint("Restart the VM. If that does not help, see diagnose().")
                );
            }
        } else if !validate::is_socket_name(&v.host) {
            let shown: Vec<_> = host.mounts().into_iter().map(|(from, _)| from).collect();
            let shown = if shown.is_empty() { "no directory of this machine".to_owned() } else { shown.join(", ") };
            return Err(Error::invalid(field(), format!("{:?} is not in the VM, which sees {shown}", v.host))
                .hint("Move the files there, or add the directory: manager.configure({ mounts })."));
        }
    }
    let found = c.guest().run(c.command(["test", "-e", &path])).await?.success();
    if !found && validate::is_socket_name(&v.host) {
        let what = "is not on the engine's machine, and a socket cannot be made up";
        return Err(Error::invalid(field(), format!("{:?} {what}", v.host)).hint(
            "Start what listens on that socket, or leave the volume out: not every engine has a Docker socket.",
        ));
    }
    mountable(i, "host", &path)?;
    Ok(format!("--volume={path}:{}{}", v.container, if v.read_only { ":ro" } else { "" }))
}

/// nerdctl makes one text with colons of every form of a mount, and reads it as CSV
/// (docs/reference/nerdctl.md#mounts-in-text).
fn mountable(i: usize, part: &str, path: &str) -> Result<()> {
    let what = if path.contains(':') {
        "a colon"
    } else if path.contains("\r\n") {
        "\\r\\n"
    } else {
        return Ok(());
    };
    let problem = format!("{path:?} has {what}, which nerdctl cannot mount");
    Err(Error::invalid(format!("volumes[{i}].{part}"), problem).hint("Choose a path without one."))
}

/// A name whose container is gone, left behind by a nerdctl that was killed
/// (docs/reference/nerdctl.md#names-left-behind).
async fn free_stale_name(c: &Containerd, name: &str, message: &str) -> Result<bool> {
    let Some(id) = message.split("is already used by ID \"").nth(1).and_then(|rest| rest.split('"').next()) else {
        return Ok(false);
    };
    if id.len() != 64 || c.api.container(id).await.err().is_none_or(|e| e.code() != ErrorCode::ContainerNotFound) {
        return Ok(false);
    }
    let (store, ns) = (c.store().await?, c.namespace());
    // Of 2.1 and of 2.2.
    let files = [format!("{store}/{ns}/{name}"), format!("{store}/names/{ns}/{name}")];
    let argv = ["rm", "-f", "--"].into_iter().chain(files.iter().map(String::as_str));
    c.guest().run(c.command(argv)).await?.checked("rm")?;
    Ok(true)
}

/// Ends the process that the file `$1` names, when it is a `sleep` that holds one of the ports after it, in the kernel's
/// writing (docs/reference/nerdctl.md#ports-kept): its number may be another's by now.
const FREE: &str = r#"
pid=$(cat "$1") && shift || exit 1
case $pid in '' | *[!0-9]*) exit 1 ;; esac
[ "$(tr '\0' ' ' <"/proc/$pid/cmdline")" = 'sleep infinity ' ] || exit 1
began "$pid" || exit 1
since=$at sockets=
for table in tcp tcp6 udp udp6; do
  while read -r _ local _ _ _ _ _ _ _ inode _; do
    for port; do [ "${local##*:}" != "$port" ] || sockets="$sockets socket:[$inode]"; done
  done <"/proc/$pid/net/$table"
done
for fd in "/proc/$pid/fd"/*; do
  case "$sockets " in
    *" $(readlink "$fd") "*)
      began "$pid" && [ "$at" = "$since" ] && kill "$pid"
      exit
      ;;
  esac
done
exit 1
"#;

/// nerdctl keeps the host ports of a container that ended (docs/reference/nerdctl.md#ports-kept). Frees those that
/// stand in the way; whether there were any.
async fn free_ports(c: &Containerd, spec: &ContainerSpec) -> Result<bool> {
    let wanted = host_ports(spec);
    let all = everything(c).await?;
    let kept = c.files.of(c, &all, true).await?;
    let mut freed = false;
    for (container, task) in &all {
        let ended = task.as_ref().is_none_or(|t| t.exit_code.is_some());
        let has = kept.get(&container.id).is_some_and(|k| {
            k.ports.iter().any(|p| p.host_port.is_some_and(|port| wanted.contains(&(p.protocol, port))))
        });
        if ended && has {
            let file = format!("/run/nerdctl/{}/{}/port-reserver.pid", c.namespace(), container.id);
            let ports = wanted.iter().map(|(_, port)| format!("{port:04X}"));
            let script = [BEGAN, FREE].concat();
            let argv = ["sh", "-c", &script, "sh", &file].map(str::to_owned).into_iter().chain(ports);
            freed |= c.guest().run(c.inside(argv)).await?.success();
            // From 2.3 on nerdctl ends whoever has the number in it.
            c.guest().run(c.inside(["rm", "-f", "--", &file])).await?.checked("rm")?;
            // The network: a stop of what has ended does nothing else.
            _ = c.nerdctl.write(On::Container(&container.id), ["stop", &container.id]).await;
        }
    }
    Ok(freed)
}

/// One host port leads to one port of the container: nerdctl makes both, and one of them is never reached.
fn check_ports(spec: &ContainerSpec) -> Result<()> {
    let mut taken: Vec<validate::PortMapping> = Vec::new();
    for (container, host) in &spec.ports {
        let port = validate::port_mapping(container, host)?;
        let address = |port: &validate::PortMapping| port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let same = |other: &&validate::PortMapping| {
            let (a, b) = (address(other), address(&port));
            let meet = a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified());
            meet && other.host_port == port.host_port && other.protocol == port.protocol
        };
        if let Some(other) = taken.iter().find(same) {
            let text = format!("Host port {} is given to two ports of the container", port.host_port);
            return Err(Error::new(ErrorCode::PortInUse, text)
                .detail("port", port.host_port)
                .detail("field", format!("ports.{container}"))
                .hint(format!("Choose another one for {} or {}.", other.container_port, port.container_port)));
        }
        taken.push(port);
    }
    Ok(())
}

pub(super) async fn start(c: &Containerd, id: &str) -> Result<()> {
    let (container, task) = look(c, id).await?;
    match task.map(|t| t.state) {
        // As Docker: nothing to do.
        Some(ContainerState::Running) => return Ok(()),
        Some(ContainerState::Paused) => return Err(invalid_state(id, "is paused")),
        _ => {}
    }
    labels::before_start(c, &container).await?;
    if watched(&container) {
        // Before it can fail.
        c.watch().await;
        set_status(c, &container, "running").await?;
    }
    let result = nerdctl_start(c, id, &container).await;
    c.files.forget(&container.id);
    if result.is_err() {
        logger::end(c, &container.id).await;
    }
    result.map_err(|e| match e.code() {
        // What is missing is inside the message of runc: the program, a mount's source.
        ErrorCode::EngineError | ErrorCode::ContainerNotFound => {
            Error::new(ErrorCode::EngineError, e.message()).detail("id", id)
        }
        _ => e,
    })?;
    started(c, &container).await
}

/// `nerdctl start`, with what it makes too much of out of its sight: the restart monitor's labels
/// (docs/reference/nerdctl.md#start-and-the-monitor), and the healthcheck's, of which it makes timers of its own
/// (docs/reference/nerdctl.md#health-timers).
async fn nerdctl_start(c: &Containerd, id: &str, container: &Container) -> Result<()> {
    let policy = match (container.labels.get(MONITOR_POLICY), container.labels.get(RESTART)) {
        (Some(policy), _) => Some(policy.clone()).filter(|p| p != "no"),
        // Or it was taken off by a start that was killed.
        (None, Some(asked)) => monitored(c, policy(Some(asked))).await?.map(str::to_owned),
        (None, None) => None,
    };
    let mut labels = HashMap::new();
    if let Some(policy) = policy {
        labels.insert(MONITOR_POLICY, policy);
        labels.insert(MONITOR_STATUS, "stopped".to_owned());
        // Says what a stop wanted meanwhile.
        labels.insert(OUR_STATUS, String::new());
    }
    if let Some(check) = container.labels.get(HEALTHCHECK)
        && health::driver(c).await == HealthcheckDriver::Timer
    {
        labels.insert(HEALTHCHECK, check.clone());
    }
    let start = async || c.nerdctl.write(On::Container(id), ["start", &container.id]).await.map(drop);
    if labels.is_empty() {
        return start().await;
    }
    let mut hidden = Hidden::new(c, &container.id, labels).await?;
    let result = start().await;
    hidden.show(result.is_ok()).await?;
    result
}

/// Labels taken off a container, until they are shown again or this is dropped.
struct Hidden {
    c: Containerd,
    id: String,
    labels: HashMap<&'static str, String>,
}

impl Hidden {
    async fn new(c: &Containerd, id: &str, labels: HashMap<&'static str, String>) -> Result<Self> {
        let hidden = Self { c: c.clone(), id: id.to_owned(), labels };
        // containerd keeps no label without a value.
        c.api.set_labels(id, hidden.labels.keys().map(|key| ((*key).to_owned(), String::new())).collect()).await?;
        Ok(hidden)
    }

    async fn show(&mut self, running: bool) -> Result<()> {
        if running && let Some(status) = self.labels.get_mut(MONITOR_STATUS) {
            let meanwhile = self.c.api.container(&self.id).await?;
            if meanwhile.labels.get(OUR_STATUS).is_none_or(|s| s != "stopped") {
                "running".clone_into(status);
            }
        }
        self.c.api.set_labels(&self.id, owned(self.labels.clone())).await?;
        self.labels.clear();
        Ok(())
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let labels = std::mem::take(&mut self.labels);
        if labels.is_empty() {
            return;
        }
        let (c, id) = (self.c.clone(), std::mem::take(&mut self.id));
        task::spawn(async move {
            if let Err(e) = c.api.set_labels(&id, owned(labels)).await {
                tracing::warn!(id, %e, "a start was given up, and the container's restart policy or healthcheck is lost");
            }
        });
    }
}

fn owned(labels: HashMap<&'static str, String>) -> HashMap<String, String> {
    labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What follows on each start.
async fn started(c: &Containerd, container: &Container) -> Result<()> {
    networks::started(c, &container.id).await?;
    if let Some(host) = &c.settings.host {
        let ports = kept(c, container, None).await?.ports;
        let ports: Vec<HostPort> = ports.iter().filter_map(|p| Some((p.protocol, p.host_port?))).collect();
        if !ports.is_empty() {
            host.await_ports(&ports).await?;
        }
    }
    health::started(c, &container.id).await
}

/// Whether we restart it, not containerd.
fn watched(container: &Container) -> bool {
    container.labels.contains_key(RESTART) && !container.labels.contains_key(MONITOR_POLICY)
}

/// What the monitor, or our own watching, makes of an end of the container.
async fn set_status(c: &Containerd, container: &Container, status: &str) -> Result<()> {
    if container.labels.contains_key(MONITOR_POLICY) || container.labels.contains_key(RESTART) {
        c.api.set_labels(&container.id, [(status_label(container).to_owned(), status.to_owned())].into()).await?;
    }
    Ok(())
}

fn status_label(container: &Container) -> &'static str {
    if watched(container) { OUR_STATUS } else { MONITOR_STATUS }
}

fn meant_to_run(container: &Container) -> bool {
    let says = |label: &str, word: &str| container.labels.get(label).is_some_and(|s| s == word);
    says(status_label(container), "running") && !says(EXPLICITLY_STOPPED, "true")
}

/// What failed while nobody watched.
pub(super) async fn resume(c: &Containerd) {
    for (container, task) in everything(c).await.unwrap_or_default() {
        if let Some(code) = task.and_then(|t| t.exit_code).filter(|_| watched(&container)) {
            ended(c, &container.id, code).await;
        }
    }
}

/// A container ended: starts it again where that is ours to do.
pub(super) async fn ended(c: &Containerd, id: &str, exit_code: i64) {
    let Ok(container) = c.api.container(id).await else { return };
    let enough = exit_code != 0 || container.labels.get(RESTART).is_some_and(|p| p != word(RestartPolicy::OnFailure));
    if !enough || !watched(&container) || !meant_to_run(&container) {
        return;
    }
    // Docker's back-off (docs/reference/docker.md#restarts).
    let mut delay = Duration::from_millis(100);
    for _ in 0..ATTEMPTS {
        tokio::time::sleep(delay).await;
        delay *= 2;
        let again = c.api.container(id).await;
        if !again.is_ok_and(|a| meant_to_run(&a)) {
            return;
        }
        match start(c, id).await {
            Ok(()) => return,
            Err(e) => tracing::warn!(id, %e, "a container that failed could not be started again"),
        }
    }
}

/// How often a restart of ours is tried before it is given up: for two minutes and a half.
const ATTEMPTS: usize = 10;

/// What the end of a container may take once it is killed.
const STOP: Duration = Duration::from_secs(60);

/// The container's own, as nerdctl keeps it.
pub(super) fn stop_timeout(container: &Container) -> StopTimeout {
    let seconds = container.labels.get(labels::STOP_TIMEOUT).and_then(|s| s.parse().ok());
    seconds.map_or(StopTimeout::default(), StopTimeout::of)
}

pub(super) async fn stop(c: &Containerd, id: &str, timeout: Option<u32>) -> Result<()> {
    let container = find(c, id).await?;
    labels::nerdctls_own(c, &container)?;
    // First: the monitor brings back what ends while it is meant to run
    // (docs/reference/nerdctl.md#stop-and-restart-policies).
    set_status(c, &container, "stopped").await?;
    stop_with(c, &container, timeout).await?;
    health::stopped(c, &container.id).await;
    Ok(())
}

/// The time that the container gets passes here: while nerdctl waited, no other call could change anything.
async fn stop_with(c: &Containerd, container: &Container, timeout: Option<u32>) -> Result<()> {
    let timeout = timeout.map_or_else(|| stop_timeout(container), StopTimeout::Seconds);
    let ended = ask_to_end(c, container, timeout).await?;
    let command = c.nerdctl.command(["stop", "--time=0", &container.id]);
    let result = c.nerdctl.write_command(On::Container(&container.id), command, STOP).await;
    c.files.forget(&container.id);
    match result {
        // One that removes itself.
        Err(e) if ended && e.code() == ErrorCode::ContainerNotFound => Ok(()),
        other => other.map(drop),
    }
}

/// Sends the container's own signal, and waits for its end as long as it may take. False where it goes on; then nerdctl kills
/// it.
async fn ask_to_end(c: &Containerd, container: &Container, timeout: StopTimeout) -> Result<bool> {
    let patience = match timeout {
        StopTimeout::Seconds(0) => return Ok(false),
        StopTimeout::Seconds(seconds) => Duration::from_secs(seconds.into()),
        // As long as the caller has patience.
        StopTimeout::Never => Duration::MAX,
    };
    let Some(task) = c.api.task(&container.id).await?.filter(|t| t.exit_code.is_none()) else { return Ok(true) };
    let signal = container.labels.get(labels::STOP_SIGNAL).map_or("TERM", String::as_str);
    let end = async {
        c.api.kill(&container.id, signal_number(signal)?).await?;
        if task.state == ContainerState::Paused {
            // As nerdctl: a frozen process takes no notice of it.
            c.api.resume(&container.id).await?;
        }
        c.api.wait(&container.id).await
    };
    match tokio::time::timeout(patience, end).await {
        // Of one that ended just now.
        Ok(Err(e)) if e.code() == ErrorCode::ContainerNotFound => Ok(true),
        Ok(ended) => ended.map(|_| true),
        Err(_) => Ok(false),
    }
}

pub(super) async fn restart(c: &Containerd, id: &str, timeout: Option<u32>) -> Result<()> {
    let container = find(c, id).await?;
    labels::nerdctls_own(c, &container)?;
    set_status(c, &container, "stopped").await?;
    stop_with(c, &container, timeout).await?;
    start(c, &container.id).await
}

pub(super) async fn kill(c: &Containerd, id: &str, signal: &str) -> Result<()> {
    let (container, task) = look(c, id).await?;
    let number = signal_number(signal)?;
    let Some(task) = task.filter(|t| t.exit_code.is_none()) else { return Err(invalid_state(id, "is not running")) };
    // As Docker: who kills it does not want it back.
    if number == 9 || number == 15 {
        set_status(c, &container, "stopped").await?;
    }
    match c.api.kill(&container.id, number).await {
        Err(e) if e.code() == ErrorCode::ContainerNotFound => return Err(invalid_state(id, "is not running")),
        other => other?,
    }
    if number == 9 && task.state == ContainerState::Paused {
        // A frozen process does not die (docs/reference/containerd.md#tasks).
        _ = c.api.resume(&container.id).await;
    }
    Ok(())
}

/// By number, from 1 on (signal(7), of all architectures we are built for).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Checked by [`validate::signal`]: a number, or a name in capitals with or without SIG.
fn signal_number(signal: &str) -> Result<u32> {
    if let Ok(number) = signal.parse() {
        return Ok(number);
    }
    let bare = signal.strip_prefix("SIG").unwrap_or(signal);
    let real_time = |from: u32, rest: &str| {
        let offset: u32 = if rest.is_empty() { 0 } else { rest[1..].parse().ok()? };
        if from == 34 { Some(from + offset) } else { from.checked_sub(offset) }
    };
    let number = match bare {
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        "UNUSED" => Some(31),
        _ if bare.starts_with("RTMIN") => real_time(34, &bare[5..]),
        _ if bare.starts_with("RTMAX") => real_time(64, &bare[5..]),
        _ => (1..).zip(SIGNALS).find(|(_, name)| *name == bare).map(|(n, _)| n),
    };
    number.ok_or_else(|| Error::invalid("signal", format!("{signal:?} is not a signal")))
}

/// Anonymous volumes stay, as with `docker rm`: they may hold data. Those of a container that never ran hold none, and
/// nobody could name them afterwards.
pub(super) async fn remove(c: &Containerd, id: &str, force: bool) -> Result<()> {
    let (container, task) = look(c, id).await?;
    if !force && task.as_ref().is_some_and(|t| matches!(t.state, ContainerState::Running | ContainerState::Paused)) {
        return Err(Error::new(ErrorCode::InUse, format!("Container {id} is running"))
            .detail("id", id)
            .hint("Stop it first, or pass force."));
    }
    labels::nerdctls_own(c, &container)?;
    let never_ran = task.is_none() && kept(c, &container, None).await?.started_at.is_none();
    let mut args = vec!["rm"];
    args.extend(force.then_some("--force"));
    args.extend((never_ran && labels::takes_own_volumes(&container)).then_some("--volumes"));
    args.push(&container.id);
    set_status(c, &container, "stopped").await?;
    c.nerdctl.write(On::Container(id), args).await?;
    c.files.forget(&container.id);
    health::stopped(c, &container.id).await;
    networks::removed(c, &container.id).await
}

pub(super) async fn pause(c: &Containerd, id: &str) -> Result<()> {
    let (container, _) = running(c, id).await?;
    c.api.pause(&container.id).await
}

pub(super) async fn unpause(c: &Containerd, id: &str) -> Result<()> {
    let (container, task) = look(c, id).await?;
    if task.is_none_or(|t| t.state != ContainerState::Paused) {
        return Err(invalid_state(id, "is not paused"));
    }
    c.api.resume(&container.id).await
}

pub(super) async fn wait(c: &Containerd, reference: &str) -> Result<WaitResult> {
    let (container, task) = look(c, reference).await?;
    let id = container.id.as_str();
    if task.is_none() {
        let kept = kept(c, &container, None).await?;
        if let Some(exit_code) = c.ends.or_task(id, None, &kept).and_then(|end| end.exit_code) {
            return Ok(WaitResult { exit_code });
        }
        if kept.started_at.is_some() {
            return Err(invalid_state(id, "ended with the engine's restart, and left no exit code"));
        }
        // Never started: until it has been.
        let mut events = events::of_container(c, id).await?;
        while c.api.task(id).await?.is_none() {
            let event = events.next().await.ok_or_else(|| not_found(reference))??;
            if event.action == "destroy" {
                return Err(not_found(reference));
            }
        }
    }
    c.api.wait(id).await.map(|exit_code| WaitResult { exit_code })
}

// ---- what is known about them -----------------------------------------------------------------------------------

/// A container's record, and its task where it has one.
pub(super) type Known = (Arc<Container>, Option<Task>);

pub(super) async fn everything(c: &Containerd) -> Result<Vec<Known>> {
    let (containers, mut tasks) = tokio::try_join!(c.records.all(c), c.api.tasks())?;
    Ok(containers.iter().map(|container| (container.clone(), tasks.remove(&container.id))).collect())
}

async fn kept(c: &Containerd, container: &Container, task: Option<Task>) -> Result<files::Kept> {
    let one = [(Arc::new(container.clone()), task)];
    Ok(c.files.of(c, &one, false).await?.remove(&container.id).unwrap_or_default())
}

pub(super) async fn inspect(c: &Containerd, id: &str) -> Result<ContainerInfo> {
    let (container, task) = look(c, id).await?;
    let kept = kept(c, &container, task.clone()).await?;
    let task = c.ends.or_task(&container.id, task, &kept);
    Ok(info(&container, task.as_ref(), kept, time::now()))
}

pub(super) async fn list(c: &Containerd, options: &ListOptions) -> Result<Vec<ContainerInfo>> {
    let all = everything(c).await?;
    let mut kept = c.files.of(c, &all, true).await?;
    let now = time::now();
    let filters = &options.filters;
    let shows_ended = options.all || filters.contains_key("status") || filters.contains_key("exited");
    let mut found: Vec<(i64, ContainerInfo)> = Vec::with_capacity(all.len());
    for (container, task) in &all {
        let running = task.as_ref().is_some_and(|t| t.exit_code.is_none());
        if !running && !shows_ended {
            continue;
        }
        let kept = kept.remove(&container.id).unwrap_or_default();
        let task = c.ends.or_task(&container.id, task.clone(), &kept);
        let shown = info(container, task.as_ref(), kept, now);
        if filters.iter().all(|(key, values)| matches(key, values, container, task.as_ref(), &shown, &all)) {
            found.push((created_nanos(container), shown));
        }
    }
    // The newest first, as docker ps.
    found.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
    Ok(found.into_iter().map(|(_, info)| info).collect())
}

fn created_nanos(container: &Container) -> i64 {
    container
        .created_at
        .as_ref()
        .map_or(0, |t| t.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(t.nanos)))
}

/// One of Docker's filters: one of its values fits; of labels, all of them.
fn matches(
    key: &str,
    values: &[String],
    container: &Container,
    task: Option<&Task>,
    shown: &ContainerInfo,
    all: &[Known],
) -> bool {
    let any = |fits: &dyn Fn(&str) -> bool| values.is_empty() || values.iter().any(|v| fits(v));
    match key {
        "name" => any(&|v| shown.name.contains(v.trim_start_matches('/'))),
        "id" => any(&|v| shown.id.starts_with(v)),
        "label" => values.iter().all(|v| match v.split_once('=') {
            Some((k, wanted)) => container.labels.get(k).is_some_and(|l| l == wanted),
            None => labels_of(container).contains_key(v),
        }),
        "status" => any(&|v| match v {
            "created" => shown.state == ContainerState::Stopped,
            _ => serde_json::to_value(shown.state).is_ok_and(|s| s == v),
        }),
        "exited" => any(&|v| task.and_then(|t| t.exit_code).is_some_and(|code| v.parse() == Ok(code))),
        "health" => any(&|v| serde_json::to_value(shown.health).is_ok_and(|h| h == v)),
        "ancestor" => any(&|v| {
            let (a, b) = (reference::familiar(v), reference::familiar(&container.image));
            a == b || v == shown.image || b.rsplit_once(':').is_some_and(|(name, _)| name == a)
        }),
        "network" => any(&|v| networks::names(container).iter().any(|n| n == v)),
        "volume" => {
            any(&|v| mounts_of(container, &spec_of(container)).iter().any(|m| m.source == v || m.destination == v))
        }
        "publish" | "expose" => any(&|v| {
            let (port, protocol) = v.split_once('/').unwrap_or((v, "tcp"));
            shown.ports.iter().any(|p| {
                let number = if key == "publish" { p.host_port } else { Some(p.container_port) };
                number.is_some_and(|n| port.parse() == Ok(n)) && (protocol == "udp") == (p.protocol == Protocol::Udp)
            })
        }),
        "before" | "since" => any(&|v| {
            let other =
                all.iter().map(|(o, _)| o).find(|o| o.id.starts_with(v) || o.labels.get(NAME).is_some_and(|n| n == v));
            other.is_some_and(|o| {
                let (mine, its) = (created_nanos(container), created_nanos(o));
                if key == "before" { mine < its } else { mine > its }
            })
        }),
        _ => true,
    }
}

fn info(container: &Container, task: Option<&Task>, kept: files::Kept, now: Millis) -> ContainerInfo {
    let state = match task {
        Some(task) if task.state == ContainerState::Exited && comes_back(container, task) => ContainerState::Restarting,
        Some(task) => task.state,
        // Its task went with the guest or the daemon: it did run.
        None if kept.started_at.is_some() => ContainerState::Exited,
        None => ContainerState::Stopped,
    };
    let health = health_of(container);
    let name = container.labels.get(NAME).cloned().unwrap_or_default();
    ContainerInfo {
        id: container.id.clone(),
        name: if name.is_empty() { container.id.clone() } else { name },
        image: container.labels.get(IMAGE).cloned().unwrap_or_else(|| reference::familiar(&container.image).to_owned()),
        state,
        status: status(state, task, kept.started_at, health, now),
        health,
        created: container.created_at.as_ref().map(api::millis).unwrap_or_default(),
        ports: kept.ports,
    }
}

fn comes_back(container: &Container, task: &Task) -> bool {
    let label = |key: &str| container.labels.get(key).map(String::as_str);
    let failed = task.exit_code.is_some_and(|code| code != 0);
    let policy = label(MONITOR_POLICY).or_else(|| label(RESTART)).unwrap_or("no");
    meant_to_run(container) && policy != "no" && (failed || !policy.starts_with("on-failure"))
}

/// The words of `docker ps`.
fn status(state: ContainerState, task: Option<&Task>, started: Option<Millis>, health: Health, now: Millis) -> String {
    let up = || time::human(now.saturating_sub(started.unwrap_or(now)));
    let exit = task.and_then(|t| t.exit_code);
    let ago = |t: &Task| time::human(now.saturating_sub(t.exited_at.unwrap_or(now)));
    match (state, task, exit) {
        (ContainerState::Running, ..) => {
            let mark = match health {
                Health::Healthy => " (healthy)",
                Health::Unhealthy => " (unhealthy)",
                Health::Starting => " (health: starting)",
                Health::None => "",
            };
            format!("Up {}{mark}", up())
        }
        (ContainerState::Paused, ..) => format!("Up {} (Paused)", up()),
        (ContainerState::Restarting, Some(t), Some(code)) => format!("Restarting ({code}) {} ago", ago(t)),
        (_, Some(t), Some(code)) => format!("Exited ({code}) {} ago", ago(t)),
        (ContainerState::Exited, ..) => "Exited".into(),
        _ => "Created".into(),
    }
}

/// What of an OCI spec is read.
#[derive(Deserialize, Default)]
struct Spec {
    #[serde(default)]
    process: SpecProcess,
    #[serde(default)]
    mounts: Vec<SpecMount>,
}

#[derive(Deserialize, Default)]
struct SpecProcess {
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
struct SpecMount {
    #[serde(default)]
    destination: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    options: Option<Vec<String>>,
}

fn spec_of(container: &Container) -> Spec {
    container.spec.as_ref().and_then(|any| serde_json::from_slice(&any.value).ok()).unwrap_or_default()
}

/// nerdctl's own record where there is one, which knows volumes by name; else the binds of the spec.
fn mounts_of(container: &Container, spec: &Spec) -> Vec<Mount> {
    if let Some(mounts) = labels::mounts(&container.labels) {
        return mounts;
    }
    let own = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];
    (spec.mounts.iter())
        .filter(|m| m.kind == "bind" && !own.contains(&m.destination.as_str()))
        .map(|m| Mount {
            kind: "bind".into(),
            source: m.source.clone(),
            destination: m.destination.clone(),
            read_only: m.options.iter().flatten().any(|o| o == "ro"),
        })
        .collect()
}

#[derive(Deserialize, Default)]
struct Hosts {
    #[serde(rename = "Networks", default)]
    networks: BTreeMap<String, Attachment>,
}

#[derive(Deserialize, Default)]
struct Attachment {
    #[serde(default)]
    ips: Vec<Ip>,
    #[serde(default)]
    interfaces: Vec<Interface>,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
    #[serde(default)]
    interface: Option<usize>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    mac: String,
}

/// Networks by name, with the addresses nerdctl noted for the running container.
async fn attachments(c: &Containerd, container: &Container, running: bool) -> Result<Vec<NetworkAttachment>> {
    let file = format!("{}/etchosts/{}/{}/meta.json", c.store().await?, c.namespace(), container.id);
    let read = c.guest().read_files(&[file], c.settings.root).await?.pop().flatten();
    let mut hosts: Hosts = read.filter(|_| running).and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let mut names = networks::names(container);
    names
        .extend(hosts.networks.keys().filter(|n| !networks::names(container).contains(n)).cloned().collect::<Vec<_>>());
    let name = container.labels.get(NAME).cloned();
    Ok((names.into_iter())
        .map(|network| {
            let at = hosts.networks.remove(&network).unwrap_or_default();
            let ip = at.ips.iter().find(|ip| ip.address.contains('.')).or(at.ips.first());
            let mac = ip.and_then(|ip| at.interfaces.get(ip.interface?)).map(|i| i.mac.clone());
            NetworkAttachment {
                id: network_id(&network),
                ip_address: ip.map(|ip| ip.address.split('/').next().unwrap_or_default().to_owned()),
                mac_address: mac.filter(|m| !m.is_empty()),
                aliases: name.iter().cloned().collect(),
                name: network,
            }
        })
        .collect())
}

/// nerdctl's: the digest of the name (docs/reference/nerdctl.md#network-ids).
pub(super) fn network_id(name: &str) -> String {
    use sha2::{Digest, Sha256};
    crate::hex::lower(&Sha256::digest(name.as_bytes()))
}

pub(super) async fn details(c: &Containerd, id: &str) -> Result<ContainerDetails> {
    let (container, task) = look(c, id).await?;
    let kept = kept(c, &container, task.clone()).await?;
    let started_at = kept.started_at;
    let task = c.ends.or_task(&container.id, task, &kept);
    let info = info(&container, task.as_ref(), kept, time::now());
    let ended = !matches!(info.state, ContainerState::Running | ContainerState::Paused | ContainerState::Restarting);
    let spec = spec_of(&container);
    let networks = attachments(c, &container, !ended).await?;
    let label = |key: &str| container.labels.get(key).map(String::as_str);
    let raw = serde_json::json!({
        "id": container.id,
        "image": container.image,
        "labels": container.labels,
        "snapshotter": container.snapshotter,
        "snapshotKey": container.snapshot_key,
        "runtime": container.runtime.as_ref().map(|r| r.name.clone()),
        "pid": task.as_ref().map(|t| t.pid),
        "spec": container.spec.as_ref().and_then(|any| serde_json::from_slice::<Value>(&any.value).ok()),
    });
    Ok(ContainerDetails {
        labels: labels_of(&container),
        command: spec.process.args.clone().unwrap_or_default(),
        env: (spec.process.env.iter().flatten())
            .map(|e| e.split_once('=').map_or_else(|| (e.clone(), String::new()), |(k, v)| (k.into(), v.into())))
            .collect(),
        mounts: mounts_of(&container, &spec),
        networks,
        exit_code: task.as_ref().and_then(|t| t.exit_code).filter(|_| ended),
        started_at,
        finished_at: task.as_ref().and_then(|t| t.exited_at).filter(|_| ended),
        restart_policy: policy(label(RESTART).or_else(|| label(MONITOR_POLICY))),
        raw,
        info,
    })
}

/// The caller's labels, without nerdctl's, containerd's and our notes.
pub(super) fn labels_of(container: &Container) -> Labels {
    let notes = |k: &str| {
        k.starts_with("nerdctl/")
            || k.starts_with("containerd.io/restart.")
            || k == "io.containerd.image.config.stop-signal"
            || [RESTART, OUR_STATUS, IMAGE, EMPTY, UNFINISHED, networks::CHANGED].contains(&k)
            || k.starts_with("lima-runtime/")
    };
    let empty: Vec<String> = container.labels.get(EMPTY).and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default();
    let kept = container.labels.iter().filter(|(k, _)| !notes(k)).map(|(k, v)| (k.clone(), v.clone()));
    kept.chain(empty.into_iter().map(|k| (k, String::new()))).collect()
}

fn policy(text: Option<&str>) -> RestartPolicy {
    match text {
        Some("always") => RestartPolicy::Always,
        Some("unless-stopped") => RestartPolicy::UnlessStopped,
        Some(t) if t.starts_with("on-failure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::No,
    }
}

fn word(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::No => "no",
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::UnlessStopped => "unless-stopped",
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    own_addresses(&text);
    reference::familiar(&text);
    let seconds = i64::from_le_bytes(std::array::from_fn(|i| data.get(i).copied().unwrap_or_default()));
    let created_at = Some(prost_types::Timestamp { seconds, nanos: i32::MAX });
    let keys = [HEALTHCHECK, HEALTH_STATE, RESTART, EMPTY, IMAGE, "nerdctl/stop-timeout"];
    let labels = keys.map(|key| (key.to_owned(), text.clone().into_owned())).into();
    let spec = Some(prost_types::Any { type_url: String::new(), value: data.to_vec() });
    let container = Container { labels, spec, created_at, ..Container::default() };
    mounts_of(&container, &spec_of(&container));
    created_nanos(&container);
    stop_timeout(&container);
    labels_of(&container);
    let task = Task { state: ContainerState::Exited, pid: 1, exit_code: Some(1), exited_at: Some(seconds) };
    info(&container, Some(&task), files::Kept::default(), time::now());
    let _ = serde_json::from_slice::<Hosts>(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Mounts(Vec<(String, String)>);

    #[async_trait::async_trait]
    impl super::super::Host for Mounts {
        fn mounts(&self) -> Vec<(String, String)> {
            self.0.clone()
        }

        fn forwards(&self, _: Protocol) -> bool {
            true
        }

        async fn check_ports(&self, _: &[HostPort]) -> Result<()> {
            Ok(())
        }

        async fn await_ports(&self, _: &[HostPort]) -> Result<()> {
            Ok(())
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_path_of_the_host_is_one_that_the_guest_has_mounted() {
        use crate::{engine::RuntimeType, guest::local::LocalGuest};
        let empty = tempfile::tempdir().unwrap();
        let failed = empty.path().display().to_string();
        let link = empty.path().join("link");
        std::os::unix::fs::symlink("/usr/lib", &link).unwrap();
        let guest = std::sync::Arc::new(LocalGuest::new("/nonexistent.sock"));
        let mut settings = super::super::Settings::system(guest, RuntimeType::Lima, "default", "kai");
        settings.root = false;
        settings.host = Some(std::sync::Arc::new(Mounts(vec![
            ("/Users/me".into(), "/proc".into()),
            ("/Users/lost".into(), failed.clone()),
            (link.display().to_string(), "/proc".into()),
        ])));
        let c = Containerd::new(settings).unwrap();
        let mount = |host: &str| VolumeMount { host: host.into(), container: "/in".into(), read_only: true };
        assert_eq!(volume(&c, 0, &mount("/Users/me/self")).await.unwrap(), "--volume=/proc/self:/in:ro");
        // A mount at a link, called by its real name.
        assert_eq!(volume(&c, 0, &mount("/usr/lib/../lib/self")).await.unwrap(), "--volume=/proc/self:/in:ro");
        // Climbing leads nowhere that the guest sees, least of all to a directory of its own.
        for host in ["/Users/me/../../etc", "/Users/me/../me/../../etc", "/../etc"] {
            let e = volume(&c, 0, &mount(host)).await.unwrap_err();
            assert_eq!(e.details()["field"], "volumes[0].host", "{host}");
        }
        for (host, named) in [("/Users/lost/x", failed.as_str()), ("/Users/other", "/Users/me, /Users/lost")] {
            let e = volume(&c, 0, &mount(host)).await.unwrap_err();
            assert_eq!(
                (e.code(), e.details()["field"].as_str()),
                (ErrorCode::InvalidArgument, Some("volumes[0].host"))
            );
            assert!(e.message().contains(named), "{e}");
        }
    }

    /// A process like nerdctl's, which holds `port` where one is given.
    #[cfg(target_os = "linux")]
    fn reserver(time: &str, port: Option<std::net::TcpListener>) -> std::process::Child {
        let mut command = std::process::Command::new("sleep");
        command.arg(time);
        if let Some(port) = port {
            command.stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(port)));
        }
        command.spawn().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_port_is_freed_by_ending_who_holds_it_and_nobody_else() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = port.local_addr().unwrap().port();
        let file = tempfile::NamedTempFile::new().unwrap();
        let socket = port.try_clone().unwrap();
        let mut holder = reserver("infinity", Some(port));
        let mut other = reserver("infinity", None);
        let mut server = reserver("1000", Some(socket));
        let free = |pid: &str, port: u16| {
            // As nerdctl writes it, without a newline.
            std::fs::write(file.path(), pid).unwrap();
            let mut command = std::process::Command::new("sh");
            command
                .args(["-c", &[BEGAN, FREE].concat(), "sh"])
                .arg(file.path())
                .args([format!("{port:04X}"), "0001".into()]);
            command.stderr(std::process::Stdio::null()).status().unwrap().success()
        };
        // The number was given anew, to a process with the same words, to one with the port; the one whose port is not
        // wanted; no number.
        assert!(!free(&other.id().to_string(), number));
        assert!(!free(&server.id().to_string(), number));
        assert!(!free(&holder.id().to_string(), number ^ 1));
        for pid in ["", "0", "-1", "1 2", "x", "$(kill 0)"] {
            assert!(!free(pid, number), "{pid}");
        }
        for child in [&mut holder, &mut other, &mut server] {
            assert!(child.try_wait().unwrap().is_none());
        }
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(free(&holder.id().to_string(), number));
        holder.wait().unwrap();
        std::net::TcpListener::bind(("127.0.0.1", number)).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn one_host_port_leads_to_one_port() {
        let check = |ports: &[(&str, &str)]| {
            let ports: BTreeMap<_, _> = ports.iter().copied().collect();
            check_ports(
                &serde_json::from_value(serde_json::json!({ "name": "web", "image": "i", "ports": ports })).unwrap(),
            )
        };
        for twice in [
            [("80", "8080"), ("81", "8080")],
            [("80", "127.0.0.1:8080"), ("81", "8080")],
            [("80", "0.0.0.0:8080"), ("81", "10.0.0.1:8080")],
            [("80/udp", "[::1]:53"), ("81/udp", "[::]:53")],
        ] {
            let e = check(&twice).unwrap_err();
            assert_eq!(
                (e.code(), e.details()["field"].as_str()),
                (ErrorCode::PortInUse, Some(&*format!("ports.{}", twice[1].0)))
            );
        }
        for apart in [
            [("80", "8080"), ("81", "8081")],
            [("80", "8080"), ("80/udp", "8080")],
            [("80", "127.0.0.1:8080"), ("81", "127.0.0.2:8080")],
            [("80", "127.0.0.1:8080"), ("81", "[::]:8080")],
        ] {
            assert!(check(&apart).is_ok(), "{apart:?}");
        }
    }

    #[test]
    fn signals_by_name_and_number() {
        for (name, number) in [
            ("SIGUSR1", 10),
            ("USR1", 10),
            ("10", 10),
            ("SIGKILL", 9),
            ("TERM", 15),
            ("RTMIN+1", 35),
            ("SIGRTMAX", 64),
            ("SYS", 31),
        ] {
            assert_eq!(signal_number(name).unwrap(), number, "{name}");
        }
    }

    #[test]
    fn the_machines_addresses() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.4.0.0/24 2 0 2\n           \
                    |-- 10.4.0.7\n              /32 host LOCAL\n        |-- 10.4.0.255\n           /32 link BROADCAST\n\
                    fe80000000000000a00027fffe4e66a1 02 40 20 80     eth0\n";
        let own = own_addresses(text);
        assert_eq!(own, ["10.4.0.7", "fe80::a000:27ff:fe4e:66a1"].map(|a| a.parse().unwrap()).into());
        assert!(own_addresses("cat: no such file").is_empty());
    }
}

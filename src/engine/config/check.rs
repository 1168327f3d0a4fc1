//! Whether a configuration can be carried out, as far as it can be told without the engine. Each error names its field as the
//! caller wrote it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde_json::Value;

use super::{
    super::{
        types::*,
        validate::{
            MAX_PATH_LENGTH, MAX_VALUE_LENGTH, arguments, driver_name, env, id_or_name, image, is_host_path, labels,
            object_name, parts, platform, port_mapping, reserved, seconds, shown, shown_key, signal, text, user,
            whole_number, workdir,
        },
    },
    names::{CAPABILITIES, LIMITS},
    security::security_opt,
    values::{container_of, device, memory_swap},
};
use crate::{
    error::{Error, Result},
    size,
};

pub(in super::super) fn container(spec: &ContainerSpec) -> Result<()> {
    object_name("name", &spec.name)?;
    image("image", &spec.image)?;
    env("env", &spec.env)?;
    for (container, host) in &spec.ports {
        port_mapping(container, host)?;
    }
    for (i, n) in spec.networks.iter().enumerate() {
        id_or_name(&format!("networks[{i}]"), n)?;
    }
    spec.healthcheck.as_ref().map_or(Ok(()), healthcheck)?;
    labels("labels", &spec.labels)?;
    spec.platform.as_deref().map_or(Ok(()), |p| platform("platform", p))?;
    process(spec)?;
    resources(&spec.resources)?;
    files(spec)?;
    powers(spec)?;
    network(spec)?;
    engines_part(spec)
}

/// What of a container is to be changed.
pub(in super::super) fn update(changes: &ContainerUpdate) -> Result<()> {
    let Some(wanted) = &changes.resources else {
        return match changes.restart {
            Some(_) => Ok(()),
            None => Err(Error::invalid("changes", "there is nothing to change: neither resources nor restart")),
        };
    };
    resources(wanted)?;
    for (field, given) in [("shmSize", wanted.shm_size.is_some()), ("oomScoreAdj", wanted.oom_score_adj.is_some())] {
        if given {
            return Err(Error::invalid(format!("resources.{field}"), "cannot be changed")
                .hint("Make the container anew with the other value."));
        }
    }
    Ok(())
}

// ---- the process ------------------------------------------------------------------------------------------------

fn process(spec: &ContainerSpec) -> Result<()> {
    arguments("command", &spec.command)?;
    if let Some(entrypoint) = &spec.entrypoint {
        arguments("entrypoint", entrypoint)?;
        if entrypoint.is_empty() && spec.command.is_empty() {
            return Err(Error::invalid("entrypoint", "without one, a command is needed"));
        }
        if entrypoint.first().is_some_and(String::is_empty) {
            return Err(Error::invalid("entrypoint[0]", "the program to run is missing"));
        }
    }
    spec.user.as_deref().map_or(Ok(()), user)?;
    spec.workdir.as_deref().map_or(Ok(()), workdir)?;
    for (field, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        name.as_deref().map_or(Ok(()), |name| host_name(field, name, 63))?;
    }
    if spec.auto_remove && spec.restart.is_some_and(|policy| policy != RestartPolicy::No) {
        return Err(Error::invalid("autoRemove", "what is started again cannot be removed at its end")
            .hint("Leave out autoRemove or restart."));
    }
    spec.stop_signal.as_deref().map_or(Ok(()), |name| signal("stopSignal", Some(name)).map(drop))?;
    seconds("stopTimeout", spec.stop_timeout).map(drop)
}

/// A host's name, of RFC 1123.
fn host_name(field: &str, name: &str, most: usize) -> Result<()> {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.len() <= most && name.split('.').all(is_part) {
        return Ok(());
    }
    let problem = format!("{} is not a host's name: at most {most} letters, digits, - and .", shown(name));
    Err(Error::invalid(field, problem))
}

/// Milliseconds. Docker refuses intervals under one; a day is longer than any useful one.
const DAY: u64 = 86_400_000;

fn healthcheck(h: &Healthcheck) -> Result<()> {
    match h.test.first().map(String::as_str) {
        Some("NONE") if h.test.len() == 1 => {}
        Some("CMD") if h.test.len() >= 2 => {}
        Some("CMD-SHELL") if h.test.len() == 2 => {}
        _ => {
            return Err(Error::invalid("healthcheck.test", "must be ['CMD', …], ['CMD-SHELL', '…'] or ['NONE']"));
        }
    }
    arguments("healthcheck.test", &h.test)?;
    whole_number("healthcheck.interval", h.interval, 1, DAY)?;
    whole_number("healthcheck.timeout", h.timeout, 1, DAY)?;
    whole_number("healthcheck.retries", h.retries, 1, 1000)?;
    h.start_period.map_or(Ok(0), |v| whole_number("healthcheck.startPeriod", v, 0, DAY))?;
    h.start_interval.map_or(Ok(0), |v| whole_number("healthcheck.startInterval", v, 1, DAY)).map(drop)
}

// ---- resources --------------------------------------------------------------------------------------------------

/// Docker's least memory of a container (moby daemon/daemon_unix.go, `linuxMinMemory`): runc itself needs it.
const MIN_MEMORY: u64 = 6 << 20;
/// The kernel's limits of a process's number and of CPU shares.
const MAX_PIDS: u64 = 1 << 22;
const SHARES: (u64, u64) = (2, 262_144);

fn resources(r: &Resources) -> Result<()> {
    let field = |name: &str| format!("resources.{name}");
    if let Some(cpus) = r.cpus
        && !(0.01..=4096.0).contains(&cpus)
    {
        return Err(Error::invalid(field("cpus"), format!("{cpus} is not a number from 0.01 to 4096")));
    }
    r.cpu_shares.map_or(Ok(0), |n| whole_number(&field("cpuShares"), n, SHARES.0, SHARES.1))?;
    r.cpuset.as_deref().map_or(Ok(()), |set| cpuset(&field("cpuset"), set))?;
    let memory = sized(&field("memory"), r.memory.as_ref(), MIN_MEMORY)?;
    let reserved = sized(&field("memoryReservation"), r.memory_reservation.as_ref(), MIN_MEMORY)?;
    if let (Some(memory), Some(reserved)) = (memory, reserved)
        && reserved > memory
    {
        return Err(Error::invalid(
            field("memoryReservation"),
            format!("{reserved} bytes are more than memory's {memory}"),
        ));
    }
    if let Some(swap) = &r.memory_swap {
        let name = field("memorySwap");
        let Some(swap) = memory_swap(swap) else {
            return Err(Error::invalid(name, format!("{} is no size", shown_value(swap))).hint(size::HINT));
        };
        match memory {
            None => {
                let problem = "is memory and swap together, and so needs memory";
                return Err(Error::invalid(name, problem));
            }
            Some(memory) if swap >= 0 && u64::try_from(swap).is_ok_and(|swap| swap < memory) => {
                let problem = format!("{swap} bytes, memory and swap together, are less than memory's {memory}");
                return Err(Error::invalid(name, problem));
            }
            Some(_) => {}
        }
    }
    sized(&field("shmSize"), r.shm_size.as_ref(), 4096)?;
    r.pids.map_or(Ok(()), |n| or_unlimited(&field("pids"), n, 1, MAX_PIDS))?;
    match r.oom_score_adj {
        Some(n) if n.fract() != 0.0 || !(-1000.0..=1000.0).contains(&n) => {
            Err(Error::invalid(field("oomScoreAdj"), format!("{n} is not a whole number from -1000 to 1000")))
        }
        _ => Ok(()),
    }
}

fn sized(field: &str, value: Option<&Value>, least: u64) -> Result<Option<u64>> {
    let Some(value) = value else { return Ok(None) };
    match size::read(value) {
        Some(bytes) if bytes >= least && bytes < 1 << 53 => Ok(Some(bytes)),
        Some(bytes) => Err(Error::invalid(field, format!("{bytes} bytes are not from {least} to {}", 1_u64 << 53))),
        None => Err(Error::invalid(field, format!("{} is no size", shown_value(value))).hint(size::HINT)),
    }
}

fn shown_value(value: &Value) -> String {
    value.as_str().map_or_else(|| shown(&value.to_string()), shown)
}

fn or_unlimited(field: &str, value: f64, min: u64, max: u64) -> Result<()> {
    if is_unlimited(value) {
        return Ok(());
    }
    whole_number(field, value, min, max).map(drop).map_err(|e| e.hint("-1 means no limit."))
}

#[expect(clippy::float_cmp, reason = "the caller's own number")]
fn is_unlimited(value: f64) -> bool {
    value == -1.0
}

/// `0-3,5`
fn cpuset(field: &str, set: &str) -> Result<()> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let is_range = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
        None => number(part).is_some(),
    };
    if set.len() <= 1024 && set.split(',').all(is_range) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{} is no list of CPUs, for example 0-3,5", shown(set))))
}

// ---- files ------------------------------------------------------------------------------------------------------

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

fn files(spec: &ContainerSpec) -> Result<()> {
    let mut mounted = BTreeMap::new();
    let mut place = |field: String, target: &str, of: String| -> Result<()> {
        inside(&field, target)?;
        if let Some(first) = mounted.insert(parts(target, |c| c == '/').join("/"), of) {
            return Err(Error::invalid(field, format!("{first} is mounted at {} already", shown(target))));
        }
        Ok(())
    };
    for (i, v) in spec.volumes.iter().enumerate() {
        text(&format!("volumes[{i}].host"), &v.host, MAX_PATH_LENGTH)?;
        place(format!("volumes[{i}].container"), &v.container, format!("volumes[{i}]"))?;
        if !is_host_path(&v.host) {
            volume_name(&format!("volumes[{i}].host"), &v.host)?;
        }
    }
    for (i, m) in spec.mounts.iter().enumerate() {
        place(format!("mounts[{i}].target"), &m.target, format!("mounts[{i}]"))?;
        mount(i, m)?;
    }
    for (target, options) in &spec.tmpfs {
        let field = format!("tmpfs.{}", shown_key(target));
        place(field.clone(), target, field.clone())?;
        sized(&format!("{field}.size"), options.size.as_ref(), 1)?;
        options.mode.map_or(Ok(0), |mode| whole_number(&format!("{field}.mode"), mode, 0, 0o7777))?;
    }
    Ok(())
}

/// A place in the container, other than its root.
fn inside(field: &str, path: &str) -> Result<()> {
    text(field, path, MAX_PATH_LENGTH)?;
    if path.starts_with('/') && !parts(path, |c| c == '/').is_empty() {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{} is not an absolute path inside the container", shown(path))))
}

fn volume_name(field: &str, name: &str) -> Result<()> {
    object_name(field, name)
        .map_err(|_| Error::invalid(field, format!("{} is neither an absolute path nor a volume's name", shown(name))))
}

fn mount(i: usize, m: &MountSpec) -> Result<()> {
    let field = |name: &str| format!("mounts[{i}].{name}");
    let only = |name: &str, kind: &str| Err(Error::invalid(field(name), format!("is of a {kind} alone")));
    m.source.as_deref().map_or(Ok(()), |source| text(&field("source"), source, MAX_PATH_LENGTH))?;
    match (m.kind, m.source.as_deref()) {
        (MountKind::Bind, Some(source)) if is_host_path(source) => {}
        (MountKind::Bind, Some(source)) => {
            return Err(Error::invalid(field("source"), format!("{} is not an absolute path", shown(source))));
        }
        (MountKind::Bind, None) => return Err(Error::invalid(field("source"), "a path of the host is needed")),
        (MountKind::Volume, Some(source)) => object_name(&field("source"), source)?,
        (MountKind::Volume, None) if m.read_only => {
            return Err(Error::invalid(field("source"), "a volume without a name is new, and of no use to read alone"));
        }
        (MountKind::Tmpfs, Some(_)) => return Err(Error::invalid(field("source"), "a tmpfs has none")),
        (MountKind::Volume | MountKind::Tmpfs, None) => {}
    }
    match &m.propagation {
        Some(_) if m.kind != MountKind::Bind => return only("propagation", "bind"),
        Some(p) if !PROPAGATIONS.contains(&p.as_str()) => {
            let problem = format!("{} is none of {}", shown(p), PROPAGATIONS.join(", "));
            return Err(Error::invalid(field("propagation"), problem));
        }
        _ => {}
    }
    match &m.subpath {
        Some(_) if m.kind != MountKind::Volume => only("subpath", "volume"),
        Some(path) => {
            text(&field("subpath"), path, MAX_PATH_LENGTH)?;
            let is_below = !path.is_empty() && path.split('/').all(|part| !["", ".", ".."].contains(&part));
            if m.source.is_some() && is_below {
                return Ok(());
            }
            Err(Error::invalid(field("subpath"), format!("{} is not a path below a named volume", shown(path))))
        }
        None => Ok(()),
    }
}

// ---- powers -----------------------------------------------------------------------------------------------------

fn powers(spec: &ContainerSpec) -> Result<()> {
    for (field, names) in [("capAdd", &spec.cap_add), ("capDrop", &spec.cap_drop)] {
        for (i, name) in names.iter().enumerate() {
            let upper = name.to_ascii_uppercase();
            let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if bare != "ALL" && !CAPABILITIES.contains(&bare) {
                let problem = format!("{} is no capability, for example NET_ADMIN or ALL", shown(name));
                return Err(Error::invalid(format!("{field}[{i}]"), problem));
            }
        }
    }
    for (i, option) in spec.security_opt.iter().enumerate() {
        security_opt(&format!("securityOpt[{i}]"), option)?;
    }
    for (i, group) in spec.group_add.iter().enumerate() {
        let is_group = !group.is_empty()
            && group.len() <= 128
            && !group.starts_with('-')
            && group.chars().all(|c| c.is_ascii_alphanumeric() || "_.-$".contains(c));
        if !is_group {
            let problem = format!("{} is not a group, for example 1000 or audio", shown(group));
            return Err(Error::invalid(format!("groupAdd[{i}]"), problem));
        }
    }
    for (i, one) in spec.devices.iter().enumerate() {
        device(&format!("devices[{i}]"), one)?;
    }
    match &spec.gpus {
        Some(Gpus::Count(n)) => _ = whole_number("gpus", *n, 1, 64)?,
        Some(Gpus::Devices(ids)) => {
            let is_id = |id: &String| {
                !id.is_empty()
                    && id.len() <= 128
                    && id.chars().all(|c| c.is_ascii_alphanumeric() || "_.:/-".contains(c))
            };
            if ids.is_empty() {
                return Err(Error::invalid("gpus", "at least one id is needed"));
            }
            if let Some(i) = ids.iter().position(|id| !is_id(id)) {
                return Err(Error::invalid(format!("gpus[{i}]"), format!("{} is no GPU's id", shown(&ids[i]))));
            }
        }
        Some(Gpus::All) | None => {}
    }
    for (name, Ulimit { soft, hard }) in &spec.ulimits {
        let field = format!("ulimits.{}", shown_key(name));
        // Neither Docker nor nerdctl sets the size of the address space (github.com/docker/go-units ulimit.go).
        let known = || LIMITS.into_iter().filter(|limit| *limit != "as");
        if !known().any(|limit| limit == name) {
            let known: Vec<_> = known().collect();
            return Err(Error::invalid(field, "no such limit").hint(format!("Known: {}.", known.join(", "))));
        }
        for (part, value) in [("soft", *soft), ("hard", *hard)] {
            let part = if soft.to_bits() == hard.to_bits() { field.clone() } else { format!("{field}.{part}") };
            or_unlimited(&part, value, 0, 1 << 53)?;
        }
        if !is_unlimited(*hard) && (is_unlimited(*soft) || soft > hard) {
            return Err(Error::invalid(format!("{field}.soft"), format!("{soft} is more than hard's {hard}")));
        }
    }
    for (name, value) in &spec.sysctls {
        let field = format!("sysctls.{}", shown_key(name));
        let is_name = name.len() <= 256
            && name.contains(['.', '/'])
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
            && name.split(['.', '/']).all(|part| !part.is_empty());
        if !is_name {
            return Err(Error::invalid(field, "is not a kernel parameter's name, for example net.core.somaxconn"));
        }
        line(&field, value)?;
    }
    Ok(())
}

/// Text of one line.
fn line(field: &str, value: &str) -> Result<()> {
    text(field, value, MAX_VALUE_LENGTH)?;
    if value.contains(['\n', '\r']) { Err(Error::invalid(field, "has more than one line")) } else { Ok(()) }
}

// ---- the network ------------------------------------------------------------------------------------------------

fn network(spec: &ContainerSpec) -> Result<()> {
    for (name, address) in &spec.extra_hosts {
        let field = format!("extraHosts.{}", shown_key(name));
        // Names of services have underscores.
        host_name(&field, &name.replace('_', "a"), 253)?;
        if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(field, format!("{} is neither an IP address nor host-gateway", shown(address))));
        }
    }
    for (i, server) in spec.dns.iter().enumerate() {
        if server.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(format!("dns[{i}]"), format!("{} is not an IP address", shown(server))));
        }
    }
    for (i, domain) in spec.dns_search.iter().enumerate() {
        if domain != "." {
            host_name(&format!("dnsSearch[{i}]"), &domain.replace('_', "a"), 253)?;
        }
    }
    for (i, option) in spec.dns_options.iter().enumerate() {
        let is_option = !option.is_empty()
            && option.len() <= 128
            && option.chars().all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c));
        if !is_option {
            let problem = format!("{} is no option of resolv.conf, for example ndots:2", shown(option));
            return Err(Error::invalid(format!("dnsOptions[{i}]"), problem));
        }
    }
    network_mode(spec)?;
    for (name, endpoint) in &spec.network_options {
        let field = format!("networkOptions.{}", shown_key(name));
        if !spec.networks.contains(name) {
            return Err(Error::invalid(field, "is about a network that is not in networks"));
        }
        for (i, alias) in endpoint.aliases.iter().enumerate() {
            host_name(&format!("{field}.aliases[{i}]"), &alias.replace('_', "a"), 63)?;
        }
        if let Some(ip) = endpoint.ipv4.as_deref().filter(|ip| ip.parse::<Ipv4Addr>().is_err()) {
            return Err(Error::invalid(format!("{field}.ipv4"), format!("{} is not an IPv4 address", shown(ip))));
        }
        if let Some(ip) = endpoint.ipv6.as_deref().filter(|ip| ip.parse::<Ipv6Addr>().is_err()) {
            return Err(Error::invalid(format!("{field}.ipv6"), format!("{} is not an IPv6 address", shown(ip))));
        }
        let is_mac = |mac: &str| {
            let pairs: Vec<&str> = mac.split(':').collect();
            pairs.len() == 6 && pairs.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        if let Some(mac) = endpoint.mac.as_deref().filter(|mac| !is_mac(mac)) {
            let problem = format!("{} is not a MAC address, for example 02:42:ac:11:00:02", shown(mac));
            return Err(Error::invalid(format!("{field}.mac"), problem));
        }
    }
    Ok(())
}

fn network_mode(spec: &ContainerSpec) -> Result<()> {
    let Some(mode) = &spec.network_mode else { return Ok(()) };
    match container_of(mode) {
        Some(other) => id_or_name("networkMode", other)?,
        None if ["none", "host"].contains(&mode.as_str()) => {}
        None => {
            let problem = format!("{} is none of 'none', 'host', 'container:<id>'", shown(mode));
            return Err(Error::invalid("networkMode", problem).hint("Networks by their names are in `networks`."));
        }
    }
    let shares = container_of(mode).is_some();
    let excluded = [
        ("networks", !spec.networks.is_empty()),
        ("ports", !spec.ports.is_empty()),
        // They are the other container's.
        ("hostname", shares && spec.hostname.is_some()),
        ("domainname", shares && spec.domainname.is_some()),
        ("extraHosts", shares && !spec.extra_hosts.is_empty()),
        ("dns", shares && !spec.dns.is_empty()),
        ("dnsSearch", shares && !spec.dns_search.is_empty()),
        ("dnsOptions", shares && !spec.dns_options.is_empty()),
    ];
    match excluded.iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(Error::invalid(*field, format!("cannot be with networkMode {}", shown(mode)))),
        None => Ok(()),
    }
}

// ---- the engine's part ------------------------------------------------------------------------------------------

const IPC_MODES: [&str; 4] = ["none", "private", "shareable", "host"];

fn engines_part(spec: &ContainerSpec) -> Result<()> {
    if let Some(Logging { driver, options }) = &spec.logging {
        driver_name("logging.driver", driver)?;
        for (key, value) in options {
            let field = format!("logging.options.{}", shown_key(key));
            if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
                return Err(Error::invalid(field, "is not an option's name, for example max-size"));
            }
            line(&field, value)?;
        }
    }
    if let Some(runtime) = &spec.runtime {
        let is_name = runtime.starts_with(|c: char| c.is_ascii_alphanumeric())
            && runtime.len() <= 128
            && runtime.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if !is_name {
            return Err(Error::invalid(
                "runtime",
                format!("{} is not a runtime's name, for example runc", shown(runtime)),
            ));
        }
    }
    for (field, mode, own) in [("pidMode", &spec.pid_mode, &["host"][..]), ("ipcMode", &spec.ipc_mode, &IPC_MODES[..])]
    {
        match mode.as_deref().map(|mode| (mode, container_of(mode))) {
            Some((_, Some(other))) => id_or_name(field, other)?,
            Some((mode, None)) if !own.contains(&mode) => {
                let problem = format!("{} is none of {}, container:<id>", shown(mode), own.join(", "));
                return Err(Error::invalid(field, problem));
            }
            _ => {}
        }
    }
    let shares_memory =
        spec.ipc_mode.as_deref().is_some_and(|m| m == "host" || m == "none" || container_of(m).is_some());
    if shares_memory && spec.resources.shm_size.is_some() {
        return Err(Error::invalid("resources.shmSize", "the container has no /dev/shm of its own with this ipcMode"));
    }
    for (key, value) in &spec.annotations {
        let field = format!("annotations.{}", shown_key(key));
        if key.is_empty() || key.len() > 4096 || key.contains(|c: char| c.is_control() || c == '=') {
            return Err(Error::invalid(
                field,
                "an annotation's name may not be empty, nor hold = or control characters",
            ));
        }
        if let Some(prefix) = reserved(key) {
            return Err(Error::invalid(field, format!("annotations that begin with {prefix} are the engine's own"))
                .hint("Choose another name, for example com.example.tier."));
        }
        line(&field, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::spec, *};
    use serde_json::json;

    fn field(more: &Value) -> String {
        let e = container(&spec(more)).expect_err(&more.to_string());
        assert!(e.message().len() < 400, "{}", e.message());
        e.details()["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_mount_point_is_one_however_it_is_written() {
        let twice = |second: &str| json!({ "volumes": [{ "host": "/a", "container": "/data" }, { "host": "vol", "container": second }] });
        for same in ["/data", "/data/", "//data", "/./data", "/data/.", "/x/../data", "/../data"] {
            assert_eq!(field(&twice(same)), "volumes[1].container", "{same}");
            let mount = json!({ "volumes": [{ "host": "/a", "container": "/data" }], "mounts": [{ "type": "tmpfs", "target": same }] });
            assert_eq!(field(&mount), "mounts[0].target", "{same}");
            let tmpfs = json!({ "mounts": [{ "type": "volume", "target": "/data" }], "tmpfs": { same: {} } });
            assert_eq!(field(&tmpfs), format!("tmpfs.{same}"));
        }
        for root in ["/", "//", "/.", "/..", "/x/..", "data", ""] {
            assert_eq!(field(&twice(root)), "volumes[1].container", "{root}");
            assert_eq!(field(&json!({ "tmpfs": { root: {} } })), format!("tmpfs.{root}"));
        }
        assert!(container(&spec(&twice("/data/x"))).is_ok() && container(&spec(&twice("/Data"))).is_ok());
    }

    #[test]
    fn what_is_possible_passes() {
        for more in [
            json!({ "entrypoint": ["sh", "-c"], "command": ["x"], "user": "1000:audio", "workdir": "/w", "hostname": "a.b-c" }),
            json!({ "entrypoint": [], "command": ["x"] }),
            json!({ "stopSignal": "SIGRTMIN+3", "stopTimeout": 0, "autoRemove": true, "restart": "no" }),
            json!({ "resources": { "cpus": 0.5, "cpuShares": 2, "cpuset": "0-3,5", "memory": "6MiB", "memorySwap": -1, "pids": -1,
                "memoryReservation": 6_291_456, "shmSize": "64MiB", "oomScoreAdj": -1000 } }),
            json!({ "mounts": [{ "type": "bind", "source": "/a", "target": "/b", "propagation": "rslave" },
                { "type": "volume", "target": "/c" }, { "type": "volume", "source": "data", "target": "/d", "subpath": "x/y" },
                { "type": "tmpfs", "target": "/e", "readOnly": true }], "tmpfs": { "/f": { "size": 1, "mode": 0o1777 } } }),
            json!({ "capAdd": ["net_admin", "CAP_SYS_TIME"], "capDrop": ["ALL"], "groupAdd": ["audio", "7"],
                "ulimits": { "nofile": { "soft": 1, "hard": -1 }, "core": -1 }, "sysctls": { "net.ipv4.conf.eth0/1.x": "1 2" } }),
            json!({ "extraHosts": { "a_b.c": "host-gateway", "d": "::1" }, "dns": ["1.1.1.1"], "dnsSearch": ["a.b", "."], "dnsOptions": ["ndots:2"] }),
            json!({ "networks": ["n"], "networkOptions": { "n": { "aliases": ["a"], "ipv4": "10.1.2.3", "ipv6": "fd00::2", "mac": "02:42:ac:11:00:02" } } }),
            json!({ "networkMode": "container:web", "pidMode": "host", "ipcMode": "shareable", "annotations": { "com.example.a": "b" } }),
            json!({ "ports": { "80": "0", "81": "127.0.0.1:0" }, "gpus": 1, "runtime": "runc", "logging": { "driver": "json-file", "options": { "max-size": "1m" } } }),
        ] {
            assert!(container(&spec(&more)).is_ok(), "{more}: {:?}", container(&spec(&more)));
        }
    }

    #[test]
    fn what_is_not_possible_is_named() {
        for (more, expected) in [
            (json!({ "entrypoint": [] }), "entrypoint"),
            (json!({ "entrypoint": [""] }), "entrypoint[0]"),
            (json!({ "entrypoint": ["a", "b\0"] }), "entrypoint[1]"),
            (json!({ "user": "-x" }), "user"),
            (json!({ "workdir": "w" }), "workdir"),
            (json!({ "hostname": "a b" }), "hostname"),
            (json!({ "hostname": "-a" }), "hostname"),
            (json!({ "hostname": "x".repeat(64) }), "hostname"),
            (json!({ "domainname": "a..b" }), "domainname"),
            (json!({ "stopSignal": "SIGNONE" }), "stopSignal"),
            (json!({ "stopTimeout": -1 }), "stopTimeout"),
            (json!({ "autoRemove": true, "restart": "always" }), "autoRemove"),
            (json!({ "resources": { "cpus": 0 } }), "resources.cpus"),
            (json!({ "resources": { "cpus": -1 } }), "resources.cpus"),
            (json!({ "resources": { "cpuShares": 1 } }), "resources.cpuShares"),
            (json!({ "resources": { "cpuset": "3-1" } }), "resources.cpuset"),
            (json!({ "resources": { "cpuset": "" } }), "resources.cpuset"),
            (json!({ "resources": { "memory": "5MiB" } }), "resources.memory"),
            (json!({ "resources": { "memory": "512MB" } }), "resources.memory"),
            (json!({ "resources": { "memory": -1 } }), "resources.memory"),
            (json!({ "resources": { "memory": true } }), "resources.memory"),
            (json!({ "resources": { "memorySwap": "64MiB" } }), "resources.memorySwap"),
            (json!({ "resources": { "memory": "64MiB", "memorySwap": "32MiB" } }), "resources.memorySwap"),
            (json!({ "resources": { "memory": "64MiB", "memorySwap": -2 } }), "resources.memorySwap"),
            (
                json!({ "resources": { "memory": "64MiB", "memoryReservation": "65MiB" } }),
                "resources.memoryReservation",
            ),
            (json!({ "resources": { "pids": 0 } }), "resources.pids"),
            (json!({ "resources": { "shmSize": 0 } }), "resources.shmSize"),
            (json!({ "resources": { "oomScoreAdj": 1001 } }), "resources.oomScoreAdj"),
            (json!({ "resources": { "shmSize": "1MiB" }, "ipcMode": "host" }), "resources.shmSize"),
            (json!({ "tmpfs": { "/t": { "size": 0 } } }), "tmpfs./t.size"),
            (json!({ "tmpfs": { "/t": { "mode": 4096 } } }), "tmpfs./t.mode"),
            (json!({ "mounts": [{ "type": "bind", "target": "/a" }] }), "mounts[0].source"),
            (json!({ "mounts": [{ "type": "bind", "source": "a", "target": "/a" }] }), "mounts[0].source"),
            (json!({ "mounts": [{ "type": "volume", "source": "/a", "target": "/a" }] }), "mounts[0].source"),
            (json!({ "mounts": [{ "type": "volume", "target": "/a", "readOnly": true }] }), "mounts[0].source"),
            (json!({ "mounts": [{ "type": "tmpfs", "source": "a", "target": "/a" }] }), "mounts[0].source"),
            (
                json!({ "mounts": [{ "type": "bind", "source": "/a", "target": "/a", "subpath": "x" }] }),
                "mounts[0].subpath",
            ),
            (
                json!({ "mounts": [{ "type": "volume", "source": "aa", "target": "/a", "subpath": "../x" }] }),
                "mounts[0].subpath",
            ),
            (
                json!({ "mounts": [{ "type": "volume", "source": "aa", "target": "/a", "propagation": "shared" }] }),
                "mounts[0].propagation",
            ),
            (
                json!({ "mounts": [{ "type": "bind", "source": "/a", "target": "/a", "propagation": "no" }] }),
                "mounts[0].propagation",
            ),
            (json!({ "capAdd": ["NONE"] }), "capAdd[0]"),
            (json!({ "capDrop": ["ALL", "--x"] }), "capDrop[1]"),
            (json!({ "securityOpt": ["seccomp=/p"] }), "securityOpt[0]"),
            (json!({ "groupAdd": ["a,b"] }), "groupAdd[0]"),
            (json!({ "devices": ["fuse"] }), "devices[0]"),
            (json!({ "gpus": 0 }), "gpus"),
            (json!({ "gpus": [] }), "gpus"),
            (json!({ "gpus": ["a,b"] }), "gpus[0]"),
            (json!({ "ulimits": { "files": 1 } }), "ulimits.files"),
            (json!({ "ulimits": { "nofile": { "soft": 2, "hard": 1 } } }), "ulimits.nofile.soft"),
            (json!({ "ulimits": { "nofile": { "soft": -1, "hard": 1 } } }), "ulimits.nofile.soft"),
            (json!({ "ulimits": { "nofile": { "soft": 1, "hard": 1.5 } } }), "ulimits.nofile.hard"),
            (json!({ "ulimits": { "nofile": -2 } }), "ulimits.nofile"),
            (json!({ "sysctls": { "x": "1" } }), "sysctls.x"),
            (json!({ "sysctls": { "net..x": "1" } }), "sysctls.net..x"),
            (json!({ "sysctls": { "net.x": "1\n2" } }), "sysctls.net.x"),
            (json!({ "extraHosts": { "a b": "1.1.1.1" } }), "extraHosts.a b"),
            (json!({ "extraHosts": { "a": "gateway" } }), "extraHosts.a"),
            (json!({ "dns": ["one"] }), "dns[0]"),
            (json!({ "dnsSearch": ["a b"] }), "dnsSearch[0]"),
            (json!({ "dnsOptions": ["a b"] }), "dnsOptions[0]"),
            (json!({ "networkMode": "bridge" }), "networkMode"),
            (json!({ "networkMode": "container:" }), "networkMode"),
            (json!({ "networkMode": "container:-x" }), "networkMode"),
            (json!({ "networkMode": "host", "networks": ["n1"] }), "networks"),
            (json!({ "networkMode": "none", "ports": { "80": "0" } }), "ports"),
            (json!({ "networkMode": "container:x", "hostname": "h" }), "hostname"),
            (json!({ "networkMode": "container:x", "dns": ["1.1.1.1"] }), "dns"),
            (json!({ "networkOptions": { "n1": {} } }), "networkOptions.n1"),
            (
                json!({ "networks": ["n1"], "networkOptions": { "n1": { "aliases": ["a b"] } } }),
                "networkOptions.n1.aliases[0]",
            ),
            (json!({ "networks": ["n1"], "networkOptions": { "n1": { "ipv4": "::1" } } }), "networkOptions.n1.ipv4"),
            (
                json!({ "networks": ["n1"], "networkOptions": { "n1": { "ipv6": "1.1.1.1" } } }),
                "networkOptions.n1.ipv6",
            ),
            (json!({ "networks": ["n1"], "networkOptions": { "n1": { "mac": "02:42" } } }), "networkOptions.n1.mac"),
            (json!({ "logging": { "driver": "binary:///bin/sh" } }), "logging.driver"),
            (json!({ "logging": { "driver": "x", "options": { "a=b": "c" } } }), "logging.options.a=b"),
            (json!({ "runtime": "/bin/sh" }), "runtime"),
            (json!({ "pidMode": "private" }), "pidMode"),
            (json!({ "ipcMode": "public" }), "ipcMode"),
            (json!({ "annotations": { "nerdctl/state-dir": "/" } }), "annotations.nerdctl/state-dir"),
            (json!({ "annotations": { "io.containerd.x": "/" } }), "annotations.io.containerd.x"),
            (json!({ "annotations": { "a=b": "c" } }), "annotations.a=b"),
            (json!({ "ports": { "0": "80" } }), "ports.0"),
            (
                json!({ "healthcheck": { "test": ["CMD", "x"], "interval": 1, "timeout": 1, "retries": 1, "startInterval": 0 } }),
                "healthcheck.startInterval",
            ),
        ] {
            assert_eq!(field(&more), expected, "{more}");
        }
        let changes =
            |value: Value| update(&serde_json::from_value(value).unwrap()).err().map(|e| e.details()["field"].clone());
        assert_eq!(changes(json!({})), Some("changes".into()));
        assert_eq!(changes(json!({ "resources": { "shmSize": "1MiB" } })), Some("resources.shmSize".into()));
        assert_eq!(changes(json!({ "resources": { "oomScoreAdj": 1 } })), Some("resources.oomScoreAdj".into()));
        assert_eq!(changes(json!({ "resources": { "pids": -1 }, "restart": "no" })), None);
    }
}

//! A container's settings as fields of Docker's create call.

use serde_json::{Map, Value, json};

use super::api::ApiVersion;
use crate::{
    engine::{
        config::{SecurityOpt, device, memory_swap, security_opt, tmpfs_options, whole},
        types::*,
    },
    error::{Error, Result},
    size,
};

/// From which API on the engine knows a field; before, it would ignore it.
const ANNOTATIONS: ApiVersion = ApiVersion(1, 43);
const SUBPATH: ApiVersion = ApiVersion(1, 45);

/// `INVALID_ARGUMENT` where the engine is older than the field. `engine`: the first one that has it.
pub(super) fn since(field: &str, engine: &str, known: ApiVersion, version: ApiVersion) -> Result<()> {
    if version >= known {
        return Ok(());
    }
    Err(Error::invalid(field, "this engine is too old to know it")
        .hint(format!("Docker Engine {engine} and later have it.")))
}

/// What stands in the body itself.
pub(super) fn of_process(spec: &ContainerSpec) -> Map<String, Value> {
    let mut body = Map::new();
    let mut put = |key: &str, value: Option<Value>| body.extend(value.map(|value| (key.to_owned(), value)));
    put("Entrypoint", spec.entrypoint.as_ref().map(|e| json!(e)));
    put("User", spec.user.as_ref().map(|u| json!(u)));
    put("WorkingDir", spec.workdir.as_ref().map(|w| json!(w)));
    put("Hostname", spec.hostname.as_ref().map(|h| json!(h)));
    put("Domainname", spec.domainname.as_ref().map(|d| json!(d)));
    put("Tty", spec.tty.then_some(Value::Bool(true)));
    put("OpenStdin", spec.stdin.then_some(Value::Bool(true)));
    put("StopSignal", spec.stop_signal.as_ref().map(|s| json!(s.to_ascii_uppercase())));
    put("StopTimeout", spec.stop_timeout.map(|t| json!(whole(t))));
    body
}

pub(super) fn host_config(spec: &ContainerSpec, version: ApiVersion) -> Result<Map<String, Value>> {
    let mut host = resources(&spec.resources);
    let mut put = |key: &str, value: Option<Value>| host.extend(value.map(|value| (key.to_owned(), value)));
    let list = |list: &[String]| (!list.is_empty()).then(|| json!(list));
    put("Init", spec.init.map(Value::from));
    put("AutoRemove", spec.auto_remove.then_some(Value::Bool(true)));
    put("ReadonlyRootfs", spec.read_only_rootfs.then_some(Value::Bool(true)));
    put("Privileged", spec.privileged.then_some(Value::Bool(true)));
    put("CapAdd", list(&spec.cap_add));
    put("CapDrop", list(&spec.cap_drop));
    put("GroupAdd", list(&spec.group_add));
    put("Dns", list(&spec.dns));
    put("DnsSearch", list(&spec.dns_search));
    put("DnsOptions", list(&spec.dns_options));
    let hosts: Vec<_> = spec.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect();
    put("ExtraHosts", list(&hosts));
    put("NetworkMode", spec.network_mode.as_ref().map(|m| json!(m)));
    put("PidMode", spec.pid_mode.as_ref().map(|m| json!(m)));
    put("IpcMode", spec.ipc_mode.as_ref().map(|m| json!(m)));
    put("Runtime", spec.runtime.as_ref().map(|r| json!(r)));
    put("Sysctls", (!spec.sysctls.is_empty()).then(|| json!(spec.sysctls)));
    put("LogConfig", spec.logging.as_ref().map(|l| json!({ "Type": l.driver, "Config": l.options })));
    let tmpfs: Map<String, Value> =
        spec.tmpfs.iter().map(|(target, options)| (target.clone(), tmpfs_options(options).into())).collect();
    put("Tmpfs", (!tmpfs.is_empty()).then(|| tmpfs.into()));
    let ulimits: Vec<Value> = (spec.ulimits.iter())
        .map(|(name, limit)| json!({ "Name": name, "Soft": whole(limit.soft), "Hard": whole(limit.hard) }))
        .collect();
    put("Ulimits", (!ulimits.is_empty()).then(|| ulimits.into()));
    if !spec.annotations.is_empty() {
        since("annotations", "24", ANNOTATIONS, version)?;
        put("Annotations", Some(json!(spec.annotations)));
    }
    let mut devices = Vec::new();
    for (i, text) in spec.devices.iter().enumerate() {
        let d = device(&format!("devices[{i}]"), text)?;
        devices.push(json!({ "PathOnHost": d.host, "PathInContainer": d.container, "CgroupPermissions": d.mode }));
    }
    put("Devices", (!devices.is_empty()).then(|| devices.into()));
    put("DeviceRequests", spec.gpus.as_ref().map(|gpus| json!([gpu_request(gpus)])));
    security(spec, &mut host)?;
    Ok(host)
}

fn security(spec: &ContainerSpec, host: &mut Map<String, Value>) -> Result<()> {
    let mut options = Vec::new();
    for (i, text) in spec.security_opt.iter().enumerate() {
        match security_opt(&format!("securityOpt[{i}]"), text)? {
            // The CLI's word for two lists.
            SecurityOpt::SystemPathsUnconfined => {
                host.insert("MaskedPaths".into(), json!([]));
                host.insert("ReadonlyPaths".into(), json!([]));
            }
            other => options.push(other.to_string()),
        }
    }
    if !options.is_empty() {
        host.insert("SecurityOpt".into(), json!(options));
    }
    Ok(())
}

fn gpu_request(gpus: &Gpus) -> Value {
    let mut request = json!({ "Driver": "", "Capabilities": [["gpu"]] });
    match gpus {
        Gpus::All => request["Count"] = json!(-1),
        Gpus::Count(n) => request["Count"] = json!(whole(*n)),
        Gpus::Devices(ids) => request["DeviceIDs"] = json!(ids),
    }
    request
}

fn resources(r: &Resources) -> Map<String, Value> {
    let mut host = Map::new();
    let mut put = |key: &str, value: Option<Value>| host.extend(value.map(|value| (key.to_owned(), value)));
    let bytes = |value: &Option<Value>| value.as_ref().and_then(size::read).map(Value::from);
    put("NanoCpus", r.cpus.map(|cpus| json!(whole((cpus * 1e9).round()))));
    put("CpuShares", r.cpu_shares.map(|n| json!(whole(n))));
    put("CpusetCpus", r.cpuset.as_ref().map(|set| json!(set)));
    put("Memory", bytes(&r.memory));
    put("MemorySwap", r.memory_swap.as_ref().and_then(memory_swap).map(Value::from));
    put("MemoryReservation", bytes(&r.memory_reservation));
    put("ShmSize", bytes(&r.shm_size));
    put("PidsLimit", r.pids.map(|n| json!(whole(n))));
    put("OomScoreAdj", r.oom_score_adj.map(|n| json!(whole(n))));
    host
}

/// The body of an update.
pub(super) fn update(changes: &ContainerUpdate) -> Value {
    let mut body = changes.resources.as_ref().map(resources).unwrap_or_default();
    // As at a create: else memory could not grow beyond the swap that was given with it.
    if let Some(memory) = body.get("Memory").and_then(Value::as_u64) {
        body.entry("MemorySwap").or_insert_with(|| json!(memory.saturating_mul(2)));
    }
    if let Some(policy) = changes.restart {
        body.insert("RestartPolicy".into(), json!({ "Name": policy }));
    }
    body.into()
}

/// An entry of `mounts`.
pub(super) fn mount(i: usize, m: &MountSpec, version: ApiVersion) -> Result<Value> {
    let kind = match m.kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
    };
    let mut mount = json!({ "Type": kind, "Target": m.target, "ReadOnly": m.read_only });
    if let Some(source) = &m.source {
        mount["Source"] = json!(source);
    }
    if let Some(propagation) = &m.propagation {
        mount["BindOptions"] = json!({ "Propagation": propagation });
    }
    if let Some(path) = &m.subpath {
        since(&format!("mounts[{i}].subpath"), "26", SUBPATH, version)?;
        mount["VolumeOptions"] = json!({ "Subpath": path });
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::spec;

    const OLD: ApiVersion = ApiVersion(1, 41);
    const NEW: ApiVersion = ApiVersion(1, 48);

    #[test]
    fn every_setting_reaches_the_engine() {
        let spec = spec(&json!({
            "entrypoint": ["a", "b"], "user": "1:2", "workdir": "/w", "hostname": "h", "domainname": "d", "tty": true, "stdin": true,
            "stopSignal": "sigquit", "stopTimeout": 7, "init": true, "autoRemove": true, "readOnlyRootfs": true, "privileged": true,
            "resources": { "cpus": 1.5, "cpuShares": 512, "cpuset": "0", "memory": "64MiB", "memorySwap": -1, "memoryReservation": "32MiB",
                "pids": 50, "shmSize": "1MiB", "oomScoreAdj": 100 },
            "tmpfs": { "/t": { "size": "1MiB", "mode": 0o1770 }, "/u": {} }, "capAdd": ["NET_ADMIN"], "capDrop": ["ALL"],
            "securityOpt": ["no-new-privileges", "systempaths=unconfined", "seccomp=unconfined"], "groupAdd": ["7"],
            "devices": ["/dev/a:/dev/b:r"], "gpus": ["0", "1"], "ulimits": { "nofile": { "soft": 1, "hard": 2 }, "core": -1 },
            "sysctls": { "net.x": "1" }, "extraHosts": { "a": "host-gateway" }, "dns": ["1.1.1.1"], "dnsSearch": ["s"], "dnsOptions": ["o"],
            "networkMode": "none", "logging": { "driver": "json-file", "options": { "max-size": "1m" } }, "runtime": "runc",
            "pidMode": "host", "ipcMode": "shareable", "annotations": { "a": "b" },
        }));
        assert_eq!(
            Value::from(of_process(&spec)),
            json!({ "Entrypoint": ["a", "b"], "User": "1:2", "WorkingDir": "/w", "Hostname": "h", "Domainname": "d", "Tty": true,
                "OpenStdin": true, "StopSignal": "SIGQUIT", "StopTimeout": 7 })
        );
        assert_eq!(
            Value::from(host_config(&spec, NEW).unwrap()),
            json!({
                "NanoCpus": 1_500_000_000, "CpuShares": 512, "CpusetCpus": "0", "Memory": 64 << 20, "MemorySwap": -1,
                "MemoryReservation": 32 << 20, "PidsLimit": 50, "ShmSize": 1 << 20, "OomScoreAdj": 100, "Init": true, "AutoRemove": true,
                "ReadonlyRootfs": true, "Privileged": true, "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"], "GroupAdd": ["7"],
                "Dns": ["1.1.1.1"], "DnsSearch": ["s"], "DnsOptions": ["o"], "ExtraHosts": ["a:host-gateway"], "NetworkMode": "none",
                "PidMode": "host", "IpcMode": "shareable", "Runtime": "runc", "Sysctls": { "net.x": "1" },
                "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m" } },
                "Tmpfs": { "/t": "size=1048576,mode=1770", "/u": "" },
                "Ulimits": [{ "Name": "core", "Soft": -1, "Hard": -1 }, { "Name": "nofile", "Soft": 1, "Hard": 2 }],
                "Annotations": { "a": "b" },
                "Devices": [{ "PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r" }],
                "DeviceRequests": [{ "Driver": "", "Capabilities": [["gpu"]], "DeviceIDs": ["0", "1"] }],
                "MaskedPaths": [], "ReadonlyPaths": [], "SecurityOpt": ["no-new-privileges=true", "seccomp=unconfined"],
            })
        );
        assert!(of_process(&ContainerSpec::default()).is_empty());
        assert!(host_config(&ContainerSpec::default(), OLD).unwrap().is_empty());
    }

    #[test]
    fn an_engine_that_would_ignore_a_field_gets_none() {
        let field = |e: Error| e.details()["field"].as_str().unwrap().to_owned();
        let annotated = spec(&json!({ "annotations": { "a": "b" } }));
        assert_eq!(field(host_config(&annotated, OLD).unwrap_err()), "annotations");
        let mounts = spec(&json!({ "mounts": [
            { "type": "volume", "source": "data", "target": "/d", "subpath": "x" },
            { "type": "bind", "source": "/a", "target": "/b", "propagation": "rslave", "readOnly": true },
        ] }))
        .mounts;
        assert_eq!(field(mount(0, &mounts[0], OLD).unwrap_err()), "mounts[0].subpath");
        assert_eq!(mount(0, &mounts[0], NEW).unwrap()["VolumeOptions"], json!({ "Subpath": "x" }));
        assert_eq!(
            mount(1, &mounts[1], OLD).unwrap(),
            json!({ "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true, "BindOptions": { "Propagation": "rslave" } })
        );
    }

    #[test]
    fn memory_is_changed_with_its_swap() {
        let body = |changes: Value| update(&serde_json::from_value(changes).unwrap());
        assert_eq!(
            body(json!({ "resources": { "memory": "64MiB" } })),
            json!({ "Memory": 64 << 20, "MemorySwap": 128 << 20 })
        );
        assert_eq!(
            body(json!({ "resources": { "memory": "64MiB", "memorySwap": "64MiB", "pids": -1 }, "restart": "always" })),
            json!({ "Memory": 64 << 20, "MemorySwap": 64 << 20, "PidsLimit": -1, "RestartPolicy": { "Name": "always" } })
        );
    }
}

//! A container's specification as the body of Docker's create call.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::{api::ApiVersion, host_config};
use crate::{
    engine::{
        config::whole,
        types::{ContainerSpec, Healthcheck},
        validate,
    },
    error::{Error, Result},
};

/// From this API on a container is created with all its networks; before, the others are connected afterwards
/// (docs/reference/docker.md#networks-at-create).
const MANY_NETWORKS: ApiVersion = ApiVersion(1, 44);

/// From this API on a container has a MAC address in each network, and checks come sooner after its start.
const MAC_OF_ENDPOINT: ApiVersion = ApiVersion(1, 44);
const START_INTERVAL: ApiVersion = ApiVersion(1, 44);

/// From this API on the engine makes the directory of a mount, too, where it is asked to.
pub(super) const MOUNTPOINTS_MADE: ApiVersion = ApiVersion(1, 42);

pub(super) struct Creation {
    pub body: Value,
    /// To be connected after the create, with the settings there.
    pub later: Vec<(String, Value)>,
}

/// Host paths are mounts, each by itself and as it is given: the engine refuses one it does not have. For those of `made` it
/// makes a directory, as `docker run -v` does; an old engine knows how only from a bind.
pub(super) fn creation(spec: &ContainerSpec, version: ApiVersion, made: &HashSet<String>) -> Result<Creation> {
    let mut exposed = Map::new();
    let mut bindings = Map::new();
    for (container, host) in &spec.ports {
        let p = validate::port_mapping(container, host)?;
        let key = format!("{}/{}", p.container_port, p.protocol.name());
        // No host IP: Docker's own rule decides.
        let ip = p.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        exposed.insert(key.clone(), json!({}));
        if let Value::Array(all) = bindings.entry(key).or_insert_with(|| json!([])) {
            all.push(json!({ "HostIp": ip, "HostPort": p.host_port.to_string() }));
        }
    }
    let (mut mounts, mut binds) = (Vec::new(), Vec::new());
    for v in &spec.volumes {
        let is_path = validate::is_host_path(&v.host);
        let absent = is_path && made.contains(&v.host);
        if absent && version < MOUNTPOINTS_MADE {
            binds.push(format!("{}:{}{}", v.host, v.container, if v.read_only { ":ro" } else { "" }));
            continue;
        }
        let kind = if is_path { "bind" } else { "volume" };
        let mut mount = json!({ "Type": kind, "Source": v.host, "Target": v.container, "ReadOnly": v.read_only });
        if absent {
            mount["BindOptions"] = json!({ "CreateMountpoint": true });
        }
        mounts.push(mount);
    }
    for (i, m) in spec.mounts.iter().enumerate() {
        mounts.push(host_config::mount(i, m, version)?);
    }
    let mut host_config = json!({ "PortBindings": bindings, "Mounts": mounts, "Binds": binds });
    merge(&mut host_config, &host_config::host_config(spec, version)?.into());
    if let Some(policy) = spec.restart {
        host_config["RestartPolicy"] = json!({ "Name": policy });
    }
    let mut body = json!({
        "Image": spec.image,
        "Env": spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        "Labels": spec.labels,
        "ExposedPorts": exposed,
    });
    merge(&mut body, &host_config::of_process(spec).into());
    if !spec.command.is_empty() {
        body["Cmd"] = json!(spec.command);
    }
    if let Some(h) = &spec.healthcheck {
        body["Healthcheck"] = healthcheck(h, version)?;
    }
    let mut later = Vec::new();
    if let Some((first, rest)) = spec.networks.split_first() {
        host_config["NetworkMode"] = json!(first);
        let mut endpoints = Map::from_iter([(first.clone(), endpoint(spec, first, version, &mut body)?)]);
        for network in rest.iter().filter(|n| *n != first) {
            let settings = endpoint(spec, network, version, &mut body)?;
            if version >= MANY_NETWORKS {
                endpoints.insert(network.clone(), settings);
            } else {
                later.push((network.clone(), settings));
            }
        }
        // They are modes; podman refuses an endpoint of one (docs/reference/docker.md#errors-of-podman).
        if !(matches!(first.as_str(), "host" | "none") && endpoints.len() == 1) {
            body["NetworkingConfig"] = json!({ "EndpointsConfig": endpoints });
        }
    }
    body["HostConfig"] = host_config;
    merge(&mut body, &Value::Object(spec.docker.clone()));
    Ok(Creation { body, later })
}

/// podman makes one text with commas of each mount and one with a colon of each tmpfs, without quotes: what stands behind such a mark
/// would be an option, another source among them (docs/reference/docker.md#mounts-of-podman).
pub(super) fn check_podmans_texts(spec: &ContainerSpec) -> Result<()> {
    let plain = |field: String, path: &str, marks: &[char]| match path.chars().find(|c| marks.contains(c)) {
        Some(mark) => {
            Err(Error::invalid(field, format!("{path:?} has {mark:?}, which podman would not take for a part of it"))
                .hint("Choose a path without it."))
        }
        None => Ok(()),
    };
    let of_mount = |field: String, path: &str| plain(field, path, &[',', '"', '\n', '\r']);
    for (i, v) in spec.volumes.iter().enumerate() {
        of_mount(format!("volumes[{i}].host"), &v.host)?;
        of_mount(format!("volumes[{i}].container"), &v.container)?;
    }
    for (i, m) in spec.mounts.iter().enumerate() {
        let parts =
            [("source", m.source.as_deref()), ("target", Some(m.target.as_str())), ("subpath", m.subpath.as_deref())];
        for (part, path) in parts {
            of_mount(format!("mounts[{i}].{part}"), path.unwrap_or_default())?;
        }
    }
    spec.tmpfs.keys().try_for_each(|target| plain(format!("tmpfs.{}", validate::shown_key(target)), target, &[':']))
}

/// A container's settings in one of its networks. An old engine knows one MAC address, the container's.
fn endpoint(spec: &ContainerSpec, network: &str, version: ApiVersion, body: &mut Value) -> Result<Value> {
    let mut settings = json!({});
    let Some(options) = spec.network_options.get(network) else { return Ok(settings) };
    if !options.aliases.is_empty() {
        settings["Aliases"] = json!(options.aliases);
    }
    for (key, address) in [("IPv4Address", &options.ipv4), ("IPv6Address", &options.ipv6)] {
        if let Some(address) = address {
            settings["IPAMConfig"][key] = json!(address);
        }
    }
    if let Some(mac) = &options.mac {
        if version >= MAC_OF_ENDPOINT {
            settings["MacAddress"] = json!(mac);
        } else if spec.networks.len() == 1 {
            body["MacAddress"] = json!(mac);
        } else {
            host_config::since(&format!("networkOptions.{network}.mac"), "25", MAC_OF_ENDPOINT, version)?;
        }
    }
    Ok(settings)
}

fn healthcheck(h: &Healthcheck, version: ApiVersion) -> Result<Value> {
    let mut check = json!({
        "Test": h.test,
        "Interval": nanoseconds(h.interval),
        "Timeout": nanoseconds(h.timeout),
        "Retries": whole(h.retries),
        "StartPeriod": nanoseconds(h.start_period.unwrap_or(0.0)),
    });
    if let Some(interval) = h.start_interval {
        host_config::since("healthcheck.startInterval", "25", START_INTERVAL, version)?;
        check["StartInterval"] = json!(nanoseconds(interval));
    }
    Ok(check)
}

fn nanoseconds(millis: f64) -> i64 {
    whole(millis) * 1_000_000
}

/// `over` wins; objects are joined key by key.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ContainerSpec {
        serde_json::from_str(text).unwrap()
    }

    const OLD: ApiVersion = ApiVersion(1, 41);

    #[test]
    fn every_field_reaches_the_engine() {
        let mut spec = spec(
            r#"{"name":"web","image":"i:1","env":{"A":"b=c"},"command":["sh","-c","echo 'x'"],
                "ports":{"80":"8080","53/udp":"127.0.0.1:53","81":"[::1]:81"},
                "volumes":[{"host":"/a b:c","container":"/d","readOnly":true},{"host":"data","container":"/v"}],
                "networks":["one","two"],"restart":"unless-stopped","labels":{"l":"v"},
                "healthcheck":{"test":["CMD-SHELL","true"],"interval":1500,"timeout":1000,"retries":3,"startPeriod":2}}"#,
        );
        spec.docker = serde_json::from_str(r#"{"Tty":true,"HostConfig":{"ShmSize":7}}"#).unwrap();
        let made = creation(&spec, OLD, &HashSet::new()).unwrap();
        assert_eq!(made.later, [("two".to_owned(), json!({}))]);
        assert_eq!(
            made.body,
            json!({
                "Image": "i:1", "Env": ["A=b=c"], "Cmd": ["sh", "-c", "echo 'x'"], "Labels": { "l": "v" }, "Tty": true,
                "ExposedPorts": { "80/tcp": {}, "53/udp": {}, "81/tcp": {} },
                "Healthcheck": { "Test": ["CMD-SHELL", "true"], "Interval": 1_500_000_000, "Timeout": 1_000_000_000,
                    "Retries": 3, "StartPeriod": 2_000_000 },
                "HostConfig": {
                    "ShmSize": 7,
                    "PortBindings": {
                        "80/tcp": [{ "HostIp": "", "HostPort": "8080" }],
                        "53/udp": [{ "HostIp": "127.0.0.1", "HostPort": "53" }],
                        "81/tcp": [{ "HostIp": "::1", "HostPort": "81" }],
                    },
                    "Mounts": [
                        { "Type": "bind", "Source": "/a b:c", "Target": "/d", "ReadOnly": true },
                        { "Type": "volume", "Source": "data", "Target": "/v", "ReadOnly": false },
                    ],
                    "Binds": [], "RestartPolicy": { "Name": "unless-stopped" }, "NetworkMode": "one",
                },
                "NetworkingConfig": { "EndpointsConfig": { "one": {} } },
            })
        );
    }

    #[test]
    fn podman_gets_no_path_that_would_be_more_than_one() {
        let field = |more: &str| {
            let spec = spec(&format!(r#"{{"name":"web","image":"i",{more}}}"#));
            check_podmans_texts(&spec).err().map(|e| e.details()["field"].as_str().unwrap().to_owned())
        };
        for (more, refused) in [
            (r#""volumes":[{"host":"mine","container":"/x,source=theirs"}]"#, "volumes[0].container"),
            (r#""volumes":[{"host":"/ok,source=/etc,target=/x","container":"/y"}]"#, "volumes[0].host"),
            (r#""volumes":[{"host":"/ok","container":"/x\nsource=/etc"}]"#, "volumes[0].container"),
            (r#""mounts":[{"type":"bind","source":"/ok","target":"/x,source=/etc"}]"#, "mounts[0].target"),
            (r#""mounts":[{"type":"bind","source":"/ok,source=/etc","target":"/x"}]"#, "mounts[0].source"),
            (r#""mounts":[{"type":"volume","target":"/x,source=theirs"}]"#, "mounts[0].target"),
            (
                r#""mounts":[{"type":"volume","source":"v1","target":"/x","subpath":"a,source=theirs"}]"#,
                "mounts[0].subpath",
            ),
            (r#""mounts":[{"type":"tmpfs","target":"/x\""}]"#, "mounts[0].target"),
            (r#""tmpfs":{"/t:exec,suid,dev":{}}"#, "tmpfs./t:exec,suid,dev"),
        ] {
            assert_eq!(field(more).as_deref(), Some(refused));
        }
        let fine = r#""volumes":[{"host":"/a b:c=d","container":"/x=1"}],"mounts":[{"type":"volume","target":"/y"}],"tmpfs":{"/t,u":{}}"#;
        assert_eq!(field(fine), None);
    }

    #[test]
    fn a_newer_engine_gets_all_networks_at_once() {
        let spec = spec(r#"{"name":"web","image":"i","networks":["one","two"]}"#);
        let made = creation(&spec, ApiVersion(1, 44), &HashSet::new()).unwrap();
        assert!(made.later.is_empty());
        assert_eq!(made.body["NetworkingConfig"]["EndpointsConfig"], json!({ "one": {}, "two": {} }));
    }

    #[test]
    fn settings_of_a_network_go_with_it() {
        let both = spec(
            r#"{"name":"web","image":"i","networks":["one","two"],"networkOptions":{
                "one":{"aliases":["a","b"],"ipv4":"10.1.2.3","ipv6":"fd00::2"},"two":{"mac":"02:42:ac:11:00:02"}}}"#,
        );
        let one =
            json!({ "Aliases": ["a", "b"], "IPAMConfig": { "IPv4Address": "10.1.2.3", "IPv6Address": "fd00::2" } });
        let made = creation(&both, ApiVersion(1, 44), &HashSet::new()).unwrap();
        let endpoints = json!({ "one": one, "two": { "MacAddress": "02:42:ac:11:00:02" } });
        assert_eq!(made.body["NetworkingConfig"]["EndpointsConfig"], endpoints);
        let e = creation(&both, OLD, &HashSet::new()).err().unwrap();
        assert_eq!(e.details()["field"], "networkOptions.two.mac");
        let alone = spec(
            r#"{"name":"web","image":"i","networks":["two"],"networkOptions":{"two":{"mac":"02:42:ac:11:00:02","aliases":["a"]}}}"#,
        );
        let body = creation(&alone, OLD, &HashSet::new()).unwrap().body;
        assert_eq!(body["MacAddress"], "02:42:ac:11:00:02");
        assert_eq!(body["NetworkingConfig"]["EndpointsConfig"], json!({ "two": { "Aliases": ["a"] } }));
        let checked = spec(
            r#"{"name":"web","image":"i","healthcheck":{"test":["CMD","x"],"interval":9,"timeout":9,"retries":1,"startInterval":2}}"#,
        );
        let e = creation(&checked, OLD, &HashSet::new()).err().unwrap();
        assert_eq!(e.details()["field"], "healthcheck.startInterval");
        let body = creation(&checked, START_INTERVAL, &HashSet::new()).unwrap().body;
        assert_eq!(body["Healthcheck"]["StartInterval"], 2_000_000);
    }

    #[test]
    fn the_hosts_network_and_none_have_no_endpoint() {
        for name in ["host", "none"] {
            let spec = spec(&format!(r#"{{"name":"web","image":"i","networks":["{name}"]}}"#));
            let made = creation(&spec, OLD, &HashSet::new()).unwrap();
            assert_eq!(made.body["HostConfig"]["NetworkMode"], json!(name));
            assert!(made.body.get("NetworkingConfig").is_none());
        }
    }

    #[test]
    fn a_directory_is_made_only_when_asked_for() {
        let spec = spec(
            r#"{"name":"web","image":"i","volumes":[{"host":"/new","container":"/c","readOnly":true},
                {"host":"/there:ro","container":"/data:ro"},{"host":"data","container":"/v:ro"}]}"#,
        );
        let made = HashSet::from(["/new".to_owned()]);
        let mount = |kind: &str, source: &str, target: &str| json!({ "Type": kind, "Source": source, "Target": target, "ReadOnly": false });
        // The others are as they were.
        let others = [mount("bind", "/there:ro", "/data:ro"), mount("volume", "data", "/v:ro")];
        let old = creation(&spec, OLD, &made).unwrap().body;
        assert_eq!(old["HostConfig"]["Binds"], json!(["/new:/c:ro"]));
        assert_eq!(old["HostConfig"]["Mounts"], json!(others));
        let new = creation(&spec, MOUNTPOINTS_MADE, &made).unwrap().body;
        assert_eq!(new["HostConfig"]["Binds"], json!([]));
        let first = json!({ "Type": "bind", "Source": "/new", "Target": "/c", "ReadOnly": true, "BindOptions": { "CreateMountpoint": true } });
        assert_eq!(new["HostConfig"]["Mounts"], json!([first, others[0], others[1]]));
    }

    #[test]
    fn no_command_leaves_the_images_own() {
        let made = creation(&spec(r#"{"name":"web","image":"i"}"#), OLD, &HashSet::new()).unwrap();
        assert!(made.body.get("Cmd").is_none() && made.body.get("Healthcheck").is_none());
    }
}

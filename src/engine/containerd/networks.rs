//! Networks. nerdctl makes and removes them; to a container that exists they are attached here, because nerdctl cannot:
//! the CNI plugins are run in its network namespace, and its own record says so to nerdctl's hook at the next start
//! (docs/reference/nerdctl.md#network-commands, docs/reference/nerdctl.md#networks-of-a-container).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Containerd,
    api::{Container, Task},
    containers, files,
    labels::NETWORKS,
    nerdctl::On,
};
use crate::{
    engine::{types::*, validate},
    error::{Error, ErrorCode, Result},
    guest::BEGAN,
    process::{Command, Output},
};

/// nerdctl knows no such flag: it is remembered, because Docker's callers may look for it.
const ATTACHABLE: &str = "lima-runtime.attachable";
/// On a container that was attached to something later: its leases may not be where nerdctl expects them.
pub(super) const CHANGED: &str = "lima-runtime.networks-changed";
/// Where nerdctl looks for the plugins (docs/reference/nerdctl.md#plugin-directories).
const PLUGINS: [&str; 5] =
    ["/opt/cni/bin", "/usr/local/libexec/cni", "/usr/local/lib/cni", "/usr/libexec/cni", "/usr/lib/cni"];
/// What nerdctl takes, with an address after it, for another container's network or a namespace, and without one for the
/// engine's own namespace (2.1 to 2.3, pkg/netutil/nettype).
const MEANT_OTHERWISE: [&str; 2] = ["container", "ns"];
const LEASES: &str = "/var/lib/cni/networks";
const RESULTS: &str = "/var/lib/cni/results";

/// One `.conflist`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Network {
    pub(super) name: String,
    #[serde(rename = "nerdctlID", default)]
    pub(super) id: String,
    #[serde(rename = "nerdctlLabels", default)]
    pub(super) labels: Option<Labels>,
    #[serde(rename = "cniVersion", default)]
    version: String,
    #[serde(default)]
    plugins: Vec<Value>,
    /// The file's own bytes.
    #[serde(skip)]
    text: Vec<u8>,
}

impl Network {
    fn driver(&self) -> String {
        self.plugins.first().and_then(|p| p["type"].as_str()).unwrap_or_default().to_owned()
    }

    pub(super) fn is_default(&self) -> bool {
        self.name == "bridge" || self.has_label("nerdctl/default-network", "true")
    }

    pub(super) fn has_label(&self, key: &str, value: &str) -> bool {
        self.labels.as_ref().and_then(|l| l.get(key)).is_some_and(|v| v == value)
    }
}

/// Those that nerdctl made, read in one go.
pub(super) async fn all(c: &Containerd) -> Result<Vec<Network>> {
    const READ: &str =
        r#"for f in "$1"/*.conflist "$1/$2"/*.conflist; do [ ! -f "$f" ] || { cat -- "$f"; printf '\0'; }; done"#;
    let argv = ["sh", "-c", READ, "sh", c.settings.cni_netconf_path.as_str(), c.namespace()];
    let texts = c.guest().run(c.command(argv)).await?.checked("sh")?;
    let parse = |text: &[u8]| {
        let network: Network = serde_json::from_slice(text).ok()?;
        (!network.id.is_empty()).then(|| Network { text: text.to_vec(), ..network })
    };
    Ok(texts.split(|b| *b == 0).filter_map(parse).collect())
}

fn not_found(reference: &str) -> Error {
    Error::new(ErrorCode::NetworkNotFound, format!("There is no network {reference}")).detail("id", reference)
}

/// A name, an id, or the beginning of one id; a name wins.
async fn find(c: &Containerd, reference: &str) -> Result<Network> {
    let mut networks = all(c).await?;
    let exact = networks.iter().position(|n| n.name == reference || n.id == reference);
    let begins = || {
        let mut found = networks.iter().enumerate().filter(|(_, n)| n.id.starts_with(reference)).map(|(i, _)| i);
        found.next().filter(|_| found.next().is_none())
    };
    let i = exact.or_else(begins).ok_or_else(|| not_found(reference))?;
    Ok(networks.swap_remove(i))
}

/// nerdctl records a network as it was called, and finds it by its name alone: ids become names.
pub(super) async fn called(c: &Containerd, references: &[String]) -> Result<Vec<String>> {
    if references.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(i) = references.iter().position(|r| MEANT_OTHERWISE.contains(&r.as_str())) {
        let problem = format!("nerdctl takes {:?} for the beginning of a namespace's address", references[i]);
        return Err(Error::invalid(format!("networks[{i}]"), problem));
    }
    let networks = all(c).await?;
    let name = |reference: &String| {
        let named = networks.iter().any(|n| n.name == *reference);
        let mut meant = networks.iter().filter(|n| !named && n.id.starts_with(reference.as_str()));
        meant.next().filter(|_| meant.next().is_none()).map_or_else(|| reference.clone(), |n| n.name.clone())
    };
    Ok(references.iter().map(name).collect())
}

pub(super) async fn create(c: &Containerd, name: &str, options: &NetworkOptions) -> Result<String> {
    if MEANT_OTHERWISE.contains(&name) {
        return Err(Error::new(ErrorCode::NameInUse, format!("nerdctl takes {name} for no network's name"))
            .detail("field", "name")
            .hint("Choose another name."));
    }
    let mut args = vec!["network".to_owned(), "create".to_owned(), format!("--label={APP_LABEL}={}", c.settings.app)];
    args.extend(options.driver.as_ref().map(|d| format!("--driver={d}")));
    args.extend(options.internal.then(|| "--internal".to_owned()));
    args.extend(options.attachable.then(|| format!("--label={ATTACHABLE}=true")));
    args.extend(["--".to_owned(), name.to_owned()]);
    let out = c.nerdctl.write(On::Network(name), args).await.map_err(|e| match &options.driver {
        Some(driver) if e.message().contains("unsupported cni driver") => {
            Error::invalid("driver", format!("containerd has no network driver {driver:?}"))
                .hint("Use bridge, macvlan or ipvlan.")
        }
        _ => e,
    })?;
    let text = String::from_utf8_lossy(&out);
    let id = text.lines().map(str::trim).rfind(|l| l.len() == 64 && l.bytes().all(|b| b.is_ascii_hexdigit()));
    id.map(str::to_owned).ok_or_else(|| Error::internal("nerdctl network create printed no id"))
}

pub(super) async fn remove(c: &Containerd, id: &str) -> Result<()> {
    let network = find(c, id).await?;
    if network.is_default() {
        return Err(validate::own_network("id", id));
    }
    c.nerdctl.write(On::Network(id), ["network", "rm", &network.name]).await.map(drop)
}

pub(super) async fn list(c: &Containerd) -> Result<Vec<NetworkInfo>> {
    let (networks, (containers, tasks)) = tokio::try_join!(all(c), c.api.everything())?;
    let lives =
        |id: &str| tasks.get(id).is_some_and(|t| matches!(t.state, ContainerState::Running | ContainerState::Paused));
    let attached: Vec<_> = containers.iter().filter(|c| lives(&c.id)).map(|c| (names(c), &c.id)).collect();
    let info = |n: Network| NetworkInfo {
        driver: n.driver(),
        is_default: n.is_default(),
        containers: attached.iter().filter(|(all, _)| all.contains(&n.name)).map(|(_, id)| (*id).clone()).collect(),
        id: n.id,
        name: n.name,
        labels: n.labels.unwrap_or_default(),
    };
    Ok(networks.into_iter().map(info).collect())
}

/// A container's networks, in the order of their interfaces.
pub(super) fn names(container: &Container) -> Vec<String> {
    container.labels.get(NETWORKS).and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default()
}

/// A container's first process, and the moment it began.
struct First {
    pid: String,
    began: String,
}

/// The container's process, where it lives.
async fn living(c: &Containerd, id: &str) -> Result<Option<First>> {
    const SAY: &str = r#"began "$1" && printf %s "$at""#;
    let pid = async || -> Result<Option<u32>> {
        let lives = |t: &Task| matches!(t.state, ContainerState::Running | ContainerState::Paused);
        Ok(c.api.task(id).await?.filter(lives).map(|t| t.pid))
    };
    let mut now = pid().await?;
    while let Some(number) = now {
        let text = number.to_string();
        let out = c.guest().run(c.inside(["sh", "-c", &[BEGAN, SAY].concat(), "sh", &text])).await?;
        // Before and after the look the number was this container's.
        now = pid().await?;
        if now == Some(number) {
            let began = String::from_utf8_lossy(&out.checked("sh")?).into_owned();
            return Ok(Some(First { pid: text, began }));
        }
    }
    Ok(None)
}

async fn both(c: &Containerd, container: &str, network: &str) -> Result<(Container, Network)> {
    Ok((containers::find(c, container).await?, find(c, network).await?))
}

pub(super) async fn connect(c: &Containerd, container: &str, network: &str) -> Result<()> {
    let _turn = c.nerdctl.turn().await;
    let (container, network) = both(c, container, network).await?;
    let state = |problem: String| Error::new(ErrorCode::InvalidState, problem).detail("id", container.id.as_str());
    let mut names = names(&container);
    if names.contains(&network.name) {
        return Err(state(format!("The container is connected to {} already", network.name)));
    }
    if let Some(other) = names.iter().find(|n| matches!(n.as_str(), "host" | "none") || n.starts_with("container:")) {
        return Err(state(format!("The container uses the network {other}, and can have no other beside it")));
    }
    names.push(network.name.clone());
    let Some(first) = living(c, &container.id).await? else { return record(c, &container, &names).await };
    let hosts = Hosts::read(c).await?;
    let interface = free_interface(&hosts, &container.id, names.len() - 1);
    let endpoint = Endpoint { c, network: &network, container: &container.id, interface: &interface, first };
    let result = endpoint.attach(&json!({ "portMappings": files::port_mappings(c, &container).await? })).await?;
    let kept = async {
        record(c, &container, &names).await?;
        hosts.with(&container.id, &network.name, Some(result)).write(c).await
    };
    if let Err(e) = kept.await {
        let _ = endpoint.detach().await;
        return Err(e);
    }
    Ok(())
}

pub(super) async fn disconnect(c: &Containerd, container: &str, network: &str) -> Result<()> {
    let _turn = c.nerdctl.turn().await;
    let (container, network) = both(c, container, network).await?;
    let mut names = names(&container);
    let Some(at) = names.iter().position(|n| *n == network.name) else {
        return Err(Error::new(ErrorCode::InvalidState, format!("The container is not connected to {}", network.name))
            .detail("id", container.id.as_str()));
    };
    names.remove(at);
    if let Some(first) = living(c, &container.id).await? {
        let hosts = Hosts::read(c).await?;
        let interface = hosts.interface(&container.id, &network.name).unwrap_or_else(|| format!("eth{at}"));
        Endpoint { c, network: &network, container: &container.id, interface: &interface, first }.detach().await?;
        record(c, &container, &names).await?;
        return hosts.with(&container.id, &network.name, None).write(c).await;
    }
    record(c, &container, &names).await
}

/// The next one after those in use.
fn free_interface(hosts: &Hosts, container: &str, at_least: usize) -> String {
    let used = hosts.interfaces(container);
    let free = |n: &usize| !used.contains(&format!("eth{n}"));
    // One more than there are is free for certain.
    format!("eth{}", (at_least..=at_least + used.len()).find(free).unwrap_or(at_least))
}

/// In the label, for those who ask, and in an annotation of the specification, for nerdctl's hook at the next start.
async fn record(c: &Containerd, container: &Container, names: &[String]) -> Result<()> {
    let list = json!(names).to_string();
    let spec = container.spec.as_ref().ok_or_else(|| Error::internal("a container without a specification"))?;
    let mut json: Value = serde_json::from_slice(&spec.value)
        .map_err(|e| Error::internal("a container's specification is not JSON").source(e))?;
    json["annotations"][NETWORKS] = list.clone().into();
    let changed = prost_types::Any { type_url: spec.type_url.clone(), value: json.to_string().into_bytes() };
    let labels = [(NETWORKS.to_owned(), list), (CHANGED.to_owned(), "true".to_owned())].into();
    c.api.set_spec(&container.id, changed, labels).await
}

/// One end of a network in a container.
struct Endpoint<'a> {
    c: &'a Containerd,
    network: &'a Network,
    container: &'a str,
    interface: &'a str,
    first: First,
}

/// Runs a plugin with the network namespace of the process `$1` that began at `$2`, which it is given by a descriptor: the
/// number may be another container's by then. Without that process there is none, and nothing but to detach. The plugin
/// is this process, and whom it asks finds the descriptor, too.
const WITH_NETNS: &str = r#"{ command exec 9<"/proc/$1/ns/net"; } 2>/dev/null
CNI_NETNS=/proc/$$/fd/9
began "$1" && [ "$at" = "$2" ] || { CNI_NETNS= && [ "$CNI_COMMAND" = DEL ] || { echo 'it has ended' >&2; exit 1; }; }
export CNI_NETNS
shift 2
exec "$@""#;

impl Endpoint<'_> {
    /// As nerdctl calls the container to CNI (docs/reference/cni.md#names-nerdctl-uses).
    fn cni_id(&self) -> String {
        format!("{}-{}", self.c.namespace(), self.container)
    }

    fn cache(&self) -> String {
        format!("{RESULTS}/{}-{}-{}", self.network.name, self.cni_id(), self.interface)
    }

    async fn plugins(&self) -> Result<String> {
        const FIRST: &str = r#"for d; do [ ! -x "$d/bridge" ] || { printf %s "$d"; exit; }; done; exit 1"#;
        if let Some(path) = &self.c.settings.cni_path {
            return Ok(path.clone());
        }
        let argv = ["sh", "-c", FIRST, "sh"].into_iter().chain(PLUGINS);
        let out = self.c.guest().run(self.c.inside(argv)).await?;
        if out.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        Err(Error::new(ErrorCode::NotInstalled, "The CNI plugins are not installed")
            .hint("Install containernetworking-plugins, or nerdctl-full."))
    }

    /// Runs the network's plugins one after the other, each with the result of the one before
    /// (docs/reference/cni.md#chain-of-plugins). `capabilities`: what those get of it that ask for it; as nerdctl's hook
    /// does, every network has the published ports.
    async fn attach(&self, capabilities: &Value) -> Result<Value> {
        let path = self.plugins().await?;
        let mut result = Value::Null;
        for plugin in &self.network.plugins {
            match self.run(&path, "ADD", plugin, &result, capabilities).await {
                Ok(output) => {
                    result = serde_json::from_slice(&output).unwrap_or(result);
                    self.name_sandbox(&mut result);
                }
                Err(e) => {
                    let _ = self.detach_with(&path, &result, capabilities).await;
                    return Err(e);
                }
            }
        }
        // What libcni keeps for whoever detaches it: nerdctl, when it stops the container
        // (docs/reference/cni.md#results-cache).
        let cached = json!({
            "kind": "cniCacheV1", "containerId": self.cni_id(), "config": STANDARD.encode(&self.network.text),
            "ifName": self.interface, "networkName": self.network.name, "cniArgs": [["IgnoreUnknown", "1"]],
            "capabilityArgs": capabilities, "result": result,
        });
        write(self.c, &self.cache(), cached.to_string()).await?;
        Ok(result)
    }

    /// As nerdctl names it, for later readers.
    fn name_sandbox(&self, result: &mut Value) {
        for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
            if interface["sandbox"].as_str().is_some_and(|s| !s.is_empty()) {
                interface["sandbox"] = format!("/proc/{}/ns/net", self.first.pid).into();
            }
        }
    }

    async fn detach(&self) -> Result<()> {
        let cached = self.c.guest().run(self.c.inside(["cat", "--", &self.cache()])).await?;
        let cached: Value = serde_json::from_slice(&cached.stdout).unwrap_or_default();
        self.detach_with(&self.plugins().await?, &cached["result"], &cached["capabilityArgs"]).await?;
        self.c.guest().run(self.c.inside(["rm", "-f", "--", &self.cache()])).await?.checked("rm").map(drop)
    }

    async fn detach_with(&self, path: &str, result: &Value, capabilities: &Value) -> Result<()> {
        for plugin in self.network.plugins.iter().rev() {
            self.run(path, "DEL", plugin, result, capabilities).await?;
        }
        Ok(())
    }

    async fn run(
        &self,
        path: &str,
        verb: &str,
        plugin: &Value,
        result: &Value,
        capabilities: &Value,
    ) -> Result<Vec<u8>> {
        let kind = plugin["type"].as_str().filter(|t| !t.contains('/')).unwrap_or_default();
        let mut config = plugin.clone();
        config["name"] = self.network.name.clone().into();
        config["cniVersion"] = self.network.version.clone().into();
        if !result.is_null() {
            config["prevResult"] = result.clone();
        }
        // portmap takes its rules back only from who names the ports (docs/reference/cni.md#ports-at-removal).
        for (name, value) in capabilities.as_object().into_iter().flatten() {
            if plugin["capabilities"][name] == true && !value.is_null() {
                config["runtimeConfig"][name] = value.clone();
            }
        }
        let (script, plugin) = ([BEGAN, WITH_NETNS].concat(), format!("{path}/{kind}"));
        let command: Command = self
            .c
            .inside(["sh", "-c", &script, "sh", &self.first.pid, &self.first.began, &plugin])
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", self.cni_id())
            .env("CNI_IFNAME", self.interface)
            .env("CNI_ARGS", "IgnoreUnknown=1")
            .env("CNI_PATH", path)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .input(config.to_string());
        let output = self.c.guest().run(command).await?;
        if output.success() {
            return Ok(output.stdout);
        }
        Err(self.failed(kind, output))
    }

    /// A plugin says why on its standard output (docs/reference/cni.md#errors).
    fn failed(&self, kind: &str, output: Output) -> Error {
        #[derive(Deserialize)]
        struct Said {
            msg: String,
            #[serde(default)]
            details: String,
        }
        let said = serde_json::from_slice::<Said>(&output.stdout).ok();
        let Some(said) = said else { return output.checked(kind).err().unwrap_or_else(|| Error::internal(kind)) };
        Error::new(ErrorCode::EngineError, format!("The network plugin {kind}: {} {}", said.msg, said.details).trim())
            .detail("network", self.network.name.as_str())
    }
}

async fn write(c: &Containerd, path: &str, text: impl Into<bytes::Bytes>) -> Result<()> {
    // In its place: a container has the file mounted, not the name.
    const WRITE: &str = r#"mkdir -p -- "${1%/*}" && cat >"$1""#;
    c.guest().run(c.inside(["sh", "-c", WRITE, "sh", path]).input(text)).await?.checked("sh").map(drop)
}

/// Who is where, as nerdctl keeps it for the containers' `/etc/hosts`.
struct Hosts {
    dir: String,
    all: BTreeMap<String, Host>,
}

#[derive(Clone)]
struct Host {
    /// `meta.json`.
    meta: Value,
    hosts: String,
    meta_changed: bool,
}

/// nerdctl's part of the file; the rest is the container's own.
const BEGIN: &str = "# <nerdctl>";
const END: &str = "# </nerdctl>";

impl Hosts {
    async fn read(c: &Containerd) -> Result<Self> {
        const READ: &str = r#"cd -- "$1" 2>/dev/null || exit 0
for d in *; do
  [ -f "$d/meta.json" ] && [ -f "$d/hosts" ] || continue
  printf '%s\0' "$d"; cat "$d/meta.json"; printf '\0'; cat "$d/hosts"; printf '\0'
done"#;
        let dir = format!("{}/etchosts/{}", c.store().await?, c.namespace());
        let out = c.guest().run(c.command(["sh", "-c", READ, "sh", &dir])).await?.checked("sh")?;
        let fields: Vec<&[u8]> = out.split(|b| *b == 0).collect();
        let host = |f: &[&[u8]]| {
            let meta = serde_json::from_slice(f[1]).ok()?;
            let hosts = String::from_utf8_lossy(f[2]).into_owned();
            Some((String::from_utf8_lossy(f[0]).into_owned(), Host { meta, hosts, meta_changed: false }))
        };
        Ok(Self { dir, all: fields.chunks_exact(3).filter_map(host).collect() })
    }

    fn networks<'a>(&'a self, container: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.all.get(container).and_then(|h| h.meta["Networks"].as_object()).into_iter().flatten()
    }

    /// The name of the interface of one network in a container.
    fn interface(&self, container: &str, network: &str) -> Option<String> {
        self.networks(container).find(|(name, _)| *name == network).and_then(|(_, result)| inside(result))
    }

    fn interfaces(&self, container: &str) -> Vec<String> {
        self.networks(container).filter_map(|(_, result)| inside(result)).collect()
    }

    /// With the container on the network, or no more.
    fn with(mut self, container: &str, network: &str, result: Option<Value>) -> Self {
        if let Some(host) = self.all.get_mut(container) {
            match result {
                Some(result) => host.meta["Networks"][network] = result,
                None => {
                    host.meta["Networks"].as_object_mut().map(|n| n.remove(network));
                }
            }
            host.meta_changed = true;
        }
        self
    }

    /// The files that are not as they should be.
    async fn write(&self, c: &Containerd) -> Result<()> {
        for (id, host) in &self.all {
            if host.meta_changed {
                write(c, &format!("{}/{id}/meta.json", self.dir), host.meta.to_string()).await?;
            }
            let fresh = self.file(host);
            if fresh != host.hosts {
                write(c, &format!("{}/{id}/hosts", self.dir), fresh).await?;
            }
        }
        Ok(())
    }

    /// A container's `/etc/hosts`, as nerdctl writes it (docs/reference/nerdctl.md#hosts-files): itself and those it
    /// shares a network with.
    fn file(&self, host: &Host) -> String {
        let mut out = String::new();
        let mut ours = false;
        for line in host.hosts.lines() {
            match line {
                BEGIN => ours = true,
                END => ours = false,
                _ if !ours => out.extend([line, "\n"]),
                _ => {}
            }
        }
        out.extend([BEGIN, "\n127.0.0.1\tlocalhost localhost.localdomain\n::1\t\tlocalhost localhost.localdomain\n"]);
        for (name, ip) in host.meta["ExtraHosts"].as_object().into_iter().flatten() {
            out.extend([format!("{:<15} {name}\n", ip.as_str().unwrap_or_default())]);
        }
        let mine = |network: &str| host.meta["Networks"].get(network).is_some();
        for peer in self.all.values() {
            for (network, result) in peer.meta["Networks"].as_object().into_iter().flatten().filter(|(n, _)| mine(n)) {
                let addresses = result["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str());
                for address in addresses {
                    let ip = address.split('/').next().unwrap_or(address);
                    out.extend([format!("{ip:<15} {}\n", aliases(&peer.meta, network))]);
                }
            }
        }
        out + END + "\n"
    }
}

fn aliases(meta: &Value, network: &str) -> String {
    let text = |key: &str| meta[key].as_str().filter(|t| !t.is_empty());
    let mut words = Vec::new();
    if let (Some(host), Some(domain)) = (text("Hostname"), text("Domainname")) {
        words.push(format!("{host}.{domain}"));
    }
    for name in [text("Hostname"), text("Name")].into_iter().flatten() {
        words.push(name.to_owned());
        if network != "bridge" {
            words.push(format!("{name}.{network}"));
        }
    }
    words.join(" ")
}

/// The interface that lies in the container.
fn inside(result: &Value) -> Option<String> {
    let all = result["interfaces"].as_array()?;
    all.iter().find(|i| i["sandbox"].as_str().is_some_and(|s| !s.is_empty()))?["name"].as_str().map(str::to_owned)
}

/// Called once a container's task runs (after start and restart): nerdctl's hook has attached what is recorded. Leases
/// of interfaces it has no more are given back.
pub(super) async fn started(c: &Containerd, id: &str) -> Result<()> {
    let container = c.api.container(id).await?;
    if !container.labels.contains_key(CHANGED) {
        return Ok(());
    }
    let current: Vec<String> =
        names(&container).iter().enumerate().map(|(i, network)| format!("{network}/eth{i}")).collect();
    give_back(c, id, &current).await
}

/// Called after a container was removed: gives back leases that nerdctl did not know of.
pub(super) async fn removed(c: &Containerd, id: &str) -> Result<()> {
    give_back(c, id, &[]).await
}

/// Removes a container's leases (docs/reference/cni.md#leases) but those of `current` (`<network>/<interface>`).
async fn give_back(c: &Containerd, id: &str, current: &[String]) -> Result<()> {
    const GIVE_BACK: &str = r#"owner=$1; shift
grep -rlsx -- "$owner" /var/lib/cni/networks 2>/dev/null | while IFS= read -r lease; do
  interface=$(tail -n 1 "$lease" | tr -d '\r\n'); network=${lease%/*}; network=${network##*/}
  for used; do [ "$used" != "$network/$interface" ] || continue 2; done
  rm -f -- "$lease"
done"#;
    debug_assert!(GIVE_BACK.contains(LEASES));
    let owner = format!("{}-{id}", c.namespace());
    let argv = ["sh", "-c", GIVE_BACK, "sh", &owner].into_iter().chain(current.iter().map(String::as_str));
    c.guest().run(c.inside(argv)).await?.checked("sh").map(drop)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let _ = serde_json::from_slice::<Network>(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_plugin_gets_the_namespace_of_the_process_that_was_meant() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let (pid, began) = crate::process::identity::Identity::of(child.id()).unwrap().for_a_shell();
        let run = |pid: &str, began: &str, verb: &str| {
            let plugin = r#"echo "$CNI_NETNS $(readlink "$CNI_NETNS")""#;
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &[BEGAN, WITH_NETNS].concat(), "sh", pid, began, "sh", "-c", plugin]);
            let out = command.env("CNI_COMMAND", verb).output().unwrap();
            (out.status.success(), String::from_utf8(out.stdout).unwrap().trim().to_owned())
        };
        let space = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        for verb in ["ADD", "DEL"] {
            let (done, said) = run(&pid, &began, verb);
            assert!(done && said.starts_with("/proc/") && said.ends_with(&format!(" {}", space.display())), "{said}");
        }
        // Another has the number by now; nobody has.
        child.kill().unwrap();
        let another = (std::process::id().to_string(), began.clone());
        child.wait().unwrap();
        for (pid, began) in [another, (pid, began)] {
            assert_eq!(run(&pid, &began, "ADD"), (false, String::new()));
            assert_eq!(run(&pid, &began, "DEL"), (true, String::new()));
        }
    }

    fn host(name: &str, networks: &Value, hosts: &str) -> Host {
        let meta = json!({ "ID": name, "Name": name, "Hostname": format!("{name}-host"), "Networks": networks });
        Host { meta, hosts: hosts.into(), meta_changed: false }
    }

    #[test]
    fn a_hosts_file_names_those_of_the_same_networks_and_keeps_what_is_not_ours() {
        let on = |ip: &str, interface: &str| {
            json!({ "ips": [{ "address": ip }],
            "interfaces": [{ "name": "br-1" }, { "name": interface, "sandbox": "/proc/1/ns/net" }] })
        };
        let own = "10.0.0.9 mine\n# <nerdctl>\nold\n# </nerdctl>\n";
        let mut hosts = Hosts { dir: String::new(), all: BTreeMap::new() };
        hosts.all.insert("a".into(), host("a", &json!({ "bridge": on("10.4.0.2/24", "eth0") }), own));
        hosts.all.insert("b".into(), host("b", &json!({ "net": on("10.4.1.2/24", "eth0") }), ""));
        let file = hosts.file(&hosts.all["a"]);
        assert!(
            file.starts_with("10.0.0.9 mine\n# <nerdctl>\n127.0.0.1\tlocalhost") && file.ends_with("# </nerdctl>\n")
        );
        assert!(file.contains("10.4.0.2        a-host a\n") && !file.contains("old") && !file.contains("b-host"));

        assert_eq!(free_interface(&hosts, "a", 1), "eth1");
        let hosts = hosts.with("a", "net", Some(on("10.4.1.3/24", "eth1")));
        assert_eq!(free_interface(&hosts, "a", 1), "eth2");
        assert_eq!(hosts.interface("a", "net").as_deref(), Some("eth1"));
        assert!(hosts.file(&hosts.all["a"]).contains("10.4.1.2        b-host b-host.net b b.net\n"));
        assert!(hosts.file(&hosts.all["b"]).contains("10.4.1.3        a-host a-host.net a a.net\n"));
        let hosts = hosts.with("a", "net", None);
        assert!(!hosts.file(&hosts.all["b"]).contains("a-host"));
    }
}

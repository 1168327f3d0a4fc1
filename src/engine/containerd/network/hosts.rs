//! Who is where on which network, as nerdctl keeps it for the containers' `/etc/hosts`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    super::{container::spec::spec, prelude::*},
    networks::network_id,
};

/// Who is where, as nerdctl keeps it for the containers' `/etc/hosts`.
pub(crate) struct Hosts {
    dir: String,
    all: BTreeMap<String, ContainerHosts>,
}

#[derive(Clone)]
struct ContainerHosts {
    /// `meta.json`.
    meta: Value,
    hosts: String,
    meta_changed: bool,
}

/// nerdctl's part of the file; the rest is the container's own.
const BEGIN: &str = "# <nerdctl>";
const END: &str = "# </nerdctl>";

impl Hosts {
    pub(crate) async fn read(c: &Containerd) -> Result<Self> {
        const READ: &str = r#"cd -- "$1" 2>/dev/null || exit 0
for d in *; do
  [ -f "$d/meta.json" ] && [ -f "$d/hosts" ] || continue
  printf '%s\0' "$d"; cat "$d/meta.json"; printf '\0'; cat "$d/hosts"; printf '\0'
done"#;
        let dir = dir(c).await?;
        let out = c.guest().run(c.command(["sh", "-c", READ, "sh", &dir])).await?.checked("sh")?;
        let fields: Vec<&[u8]> = out.split(|b| *b == 0).collect();
        let host = |f: &[&[u8]]| {
            let meta = serde_json::from_slice(f[1]).ok()?;
            let hosts = String::from_utf8_lossy(f[2]).into_owned();
            Some((String::from_utf8_lossy(f[0]).into_owned(), ContainerHosts { meta, hosts, meta_changed: false }))
        };
        Ok(Self { dir, all: fields.chunks_exact(3).filter_map(host).collect() })
    }

    fn networks<'a>(&'a self, container: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.all.get(container).and_then(|h| h.meta["Networks"].as_object()).into_iter().flatten()
    }

    /// The name of the interface of one network in a container.
    pub(crate) fn interface(&self, container: &str, network: &str) -> Option<String> {
        self.networks(container).find(|(name, _)| *name == network).and_then(|(_, result)| inside(result))
    }

    /// The next one after those in use.
    pub(crate) fn free_interface(&self, container: &str, at_least: usize) -> String {
        let used: Vec<String> = self.networks(container).filter_map(|(_, result)| inside(result)).collect();
        let free = |n: &usize| !used.contains(&format!("eth{n}"));
        // One more than there are is free for certain.
        format!("eth{}", (at_least..=at_least + used.len()).find(free).unwrap_or(at_least))
    }

    /// With the container on the network, or no more.
    pub(crate) fn with(mut self, container: &str, network: &str, result: Option<Value>) -> Self {
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
    pub(crate) async fn write(&self, c: &Containerd) -> Result<()> {
        for (id, host) in &self.all {
            if host.meta_changed {
                c.write_file(&format!("{}/{id}/meta.json", self.dir), host.meta.to_string()).await?;
            }
            let fresh = self.file(host);
            if fresh != host.hosts {
                c.write_file(&format!("{}/{id}/hosts", self.dir), fresh).await?;
            }
        }
        Ok(())
    }

    /// A container's `/etc/hosts`, as nerdctl writes it (docs/reference/nerdctl.md#hosts-files): itself and those it
    /// shares a network with.
    fn file(&self, host: &ContainerHosts) -> String {
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

/// A container's networks by name, with the addresses nerdctl noted while it runs.
pub(crate) async fn attachments(
    c: &Containerd,
    container: &Container,
    running: bool,
) -> Result<Vec<NetworkAttachment>> {
    let file = format!("{}/{}/meta.json", dir(c).await?, container.id);
    let read = c.guest().read_files(&[file], c.settings.root).await?.pop().flatten().filter(|_| running);
    let meta: Value = read.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let mut names = labels::networks(container);
    let noted = meta["Networks"].as_object().into_iter().flatten().map(|(name, _)| name);
    names.extend(noted.filter(|name| !labels::networks(container).contains(name)).cloned());
    let spec = spec(container);
    // The container's own name, and the aliases that it was made with.
    let known = container.labels.get(labels::HOSTNAME).map(String::as_str).unwrap_or_default();
    let aliases = known.split_whitespace().filter(|word| spec["hostname"] != **word);
    let called: Vec<String> = labels::name(container).into_iter().chain(aliases).map(str::to_owned).collect();
    Ok(names.into_iter().map(|network| attachment(network, &meta, &called)).collect())
}

fn attachment(network: String, meta: &Value, called: &[String]) -> NetworkAttachment {
    let result = &meta["Networks"][&network];
    let ips: Vec<&Value> = result["ips"].as_array().into_iter().flatten().collect();
    let address = |ip: &Value| ip["address"].as_str().and_then(|a| a.split('/').next()).map(str::to_owned);
    let ip = ips.iter().find(|ip| address(ip).is_some_and(|a| a.contains('.'))).or(ips.first());
    let mac =
        ip.and_then(|ip| result["interfaces"].get(usize::try_from(ip["interface"].as_u64()?).ok()?)?["mac"].as_str());
    NetworkAttachment {
        id: network_id(&network),
        ip_address: ip.and_then(|ip| address(ip)),
        mac_address: mac.filter(|m| !m.is_empty()).map(str::to_owned),
        aliases: called.to_vec(),
        name: network,
    }
}

/// In the guest: a directory for each container.
async fn dir(c: &Containerd) -> Result<String> {
    Ok(format!("{}/etchosts/{}", c.files.store().await?, c.namespace()))
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    if let Ok(meta) = serde_json::from_slice(data) {
        attachment("bridge".to_owned(), &meta, &[]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host(name: &str, networks: &Value, hosts: &str) -> ContainerHosts {
        let meta = json!({ "ID": name, "Name": name, "Hostname": format!("{name}-host"), "Networks": networks });
        ContainerHosts { meta, hosts: hosts.into(), meta_changed: false }
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

        assert_eq!(hosts.free_interface("a", 1), "eth1");
        let hosts = hosts.with("a", "net", Some(on("10.4.1.3/24", "eth1")));
        assert_eq!(hosts.free_interface("a", 1), "eth2");
        assert_eq!(hosts.interface("a", "net").as_deref(), Some("eth1"));
        assert!(hosts.file(&hosts.all["a"]).contains("10.4.1.2        b-host b-host.net b b.net\n"));
        assert!(hosts.file(&hosts.all["b"]).contains("10.4.1.3        a-host a-host.net a a.net\n"));
        let hosts = hosts.with("a", "net", None);
        assert!(!hosts.file(&hosts.all["b"]).contains("a-host"));
    }
}

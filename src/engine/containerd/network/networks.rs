//! The networks there are: files that nerdctl makes.

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::{nerdctl::runner::printed_id, prelude::*};

/// What nerdctl takes, with an address after it, for another container's network or a namespace, and without one for the
/// engine's own namespace (2.1 to 2.3, pkg/netutil/nettype).
const NO_NAMES: [&str; 2] = ["container", "ns"];

/// One `.conflist`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Network {
    pub(crate) name: String,
    #[serde(rename = "nerdctlID", default)]
    pub(crate) id: String,
    #[serde(rename = "nerdctlLabels", default)]
    pub(crate) labels: Option<Labels>,
    #[serde(rename = "cniVersion", default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) plugins: Vec<Value>,
    /// The file's own bytes.
    #[serde(skip)]
    pub(crate) text: Vec<u8>,
}

impl Network {
    fn driver(&self) -> String {
        self.plugins.first().and_then(|p| p["type"].as_str()).unwrap_or_default().to_owned()
    }

    pub(crate) fn is_default(&self) -> bool {
        self.name == "bridge" || self.has_label(labels::DEFAULT_NETWORK, "true")
    }

    pub(crate) fn has_label(&self, key: &str, value: &str) -> bool {
        self.labels.as_ref().and_then(|l| l.get(key)).is_some_and(|v| v == value)
    }
}

/// Those that nerdctl made, read in one go.
pub(crate) async fn all(c: &Containerd) -> Result<Vec<Network>> {
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
pub(crate) async fn find(c: &Containerd, reference: &str) -> Result<Network> {
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
pub(crate) async fn names_of(c: &Containerd, references: &[String]) -> Result<Vec<String>> {
    if references.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(i) = references.iter().position(|r| NO_NAMES.contains(&r.as_str())) {
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

pub(crate) async fn create(c: &Containerd, name: &str, options: &NetworkOptions) -> Result<String> {
    if NO_NAMES.contains(&name) {
        return Err(Error::new(ErrorCode::NameInUse, format!("nerdctl takes {name} for no network's name"))
            .detail("field", "name")
            .hint("Choose another name."));
    }
    let mut args = vec!["network".to_owned(), "create".to_owned(), format!("--label={APP_LABEL}={}", c.settings.app)];
    args.extend(labels::flags(&options.labels)?);
    args.extend(options.driver.as_ref().map(|d| format!("--driver={d}")));
    args.extend(options.internal.then(|| "--internal".to_owned()));
    args.extend(options.attachable.then(|| format!("--label={}=true", labels::ATTACHABLE)));
    args.extend(["--".to_owned(), name.to_owned()]);
    let out = c.nerdctl.write(About::Network(name), args).await.map_err(|e| match &options.driver {
        Some(driver) if e.message().contains("unsupported cni driver") => {
            Error::invalid("driver", format!("containerd has no network driver {driver:?}"))
                .hint("Use bridge, macvlan or ipvlan.")
        }
        _ => e,
    })?;
    let id = printed_id(&out)?;
    c.hub.tell(EventKind::Network, "create", &id, Some(name));
    Ok(id)
}

pub(crate) async fn remove(c: &Containerd, id: &str) -> Result<()> {
    let network = find(c, id).await?;
    if network.is_default() {
        return Err(validate::own_network("id", id));
    }
    c.nerdctl.write(About::Network(id), ["network", "rm", &network.name]).await?;
    c.hub.tell(EventKind::Network, "destroy", id, None);
    Ok(())
}

pub(crate) async fn inspect(c: &Containerd, id: &str) -> Result<NetworkDetails> {
    let (network, listed) = tokio::try_join!(find(c, id), list(c))?;
    let info = listed.into_iter().find(|n| n.id == network.id).ok_or_else(|| not_found(id))?;
    let raw: Value = serde_json::from_slice(&network.text).unwrap_or_default();
    Ok(details(info, &network, raw))
}

fn details(info: NetworkInfo, network: &Network, raw: Value) -> NetworkDetails {
    let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
    let main = network.plugins.first().cloned().unwrap_or_default();
    let ranges = main["ipam"]["ranges"].as_array().into_iter().flatten();
    let ranges = ranges.filter_map(Value::as_array).flatten();
    let subnets = ranges.filter_map(|r| Some(Subnet { subnet: text(r, "subnet")?, gateway: text(r, "gateway") }));
    NetworkDetails {
        // nerdctl makes an internal one of a bridge that is no gateway.
        internal: main["type"] == "bridge" && main["isGateway"] != true,
        attachable: network.has_label(labels::ATTACHABLE, "true"),
        subnets: subnets.collect(),
        ..NetworkDetails::new(info, raw)
    }
}

pub(crate) async fn list(c: &Containerd) -> Result<Vec<NetworkInfo>> {
    let (networks, containers) = tokio::try_join!(all(c), c.everything())?;
    let lives = |t: &Task| matches!(t.state, ContainerState::Running | ContainerState::Paused);
    let living = containers.iter().filter(|(_, task)| task.as_ref().is_some_and(lives));
    let attached: Vec<_> = living.map(|(c, _)| (labels::networks(c), &c.id)).collect();
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

/// nerdctl's: the digest of the name (docs/reference/nerdctl.md#network-ids).
pub(crate) fn network_id(name: &str) -> String {
    hex::encode(Sha256::digest(name.as_bytes()))
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let _ = serde_json::from_slice::<Network>(data);
}

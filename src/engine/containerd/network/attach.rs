//! Attaches networks to a container that is there, and gives back what it held.

use serde_json::{Value, json};

use super::super::{
    container::find::{self, living},
    nerdctl::labels::{CHANGED, NETWORKS},
    prelude::*,
};
use super::{
    cni::Attachment,
    hosts::Hosts,
    networks::{self, Network},
};

const LEASES: &str = "/var/lib/cni/networks";

async fn both(c: &Containerd, container: &str, network: &str) -> Result<(Container, Network)> {
    Ok((find::find(c, container).await?, networks::find(c, network).await?))
}

pub(crate) async fn connect(c: &Containerd, container: &str, reference: &str) -> Result<()> {
    let _turn = c.nerdctl.turn().await;
    let (container, network) = both(c, container, reference).await?;
    let state = |problem: String| Error::new(ErrorCode::InvalidState, problem).detail("id", container.id.as_str());
    let mut names = labels::networks(&container);
    if names.contains(&network.name) {
        return Err(state(format!("The container is connected to {} already", network.name)));
    }
    if let Some(other) = names.iter().find(|n| matches!(n.as_str(), "host" | "none") || n.starts_with("container:")) {
        return Err(state(format!("The container uses the network {other}, and can have no other beside it")));
    }
    names.push(network.name.clone());
    let Some(first) = living(c, &container.id).await? else {
        return record(c, &container, &names, "connect", reference).await;
    };
    let hosts = Hosts::read(c).await?;
    let ports = c.kept(&container, None).await?.port_mappings;
    let interface = hosts.free_interface(&container.id, names.len() - 1);
    let endpoint = Attachment { c, network: &network, container: &container.id, interface: &interface, first };
    let result = endpoint.attach(&json!({ "portMappings": ports })).await?;
    let kept = async {
        hosts.with(&container.id, &network.name, Some(result)).write(c).await?;
        record(c, &container, &names, "connect", reference).await
    };
    if let Err(e) = kept.await {
        let _ = endpoint.detach().await;
        return Err(e);
    }
    Ok(())
}

pub(crate) async fn disconnect(c: &Containerd, container: &str, reference: &str) -> Result<()> {
    let _turn = c.nerdctl.turn().await;
    let (container, network) = both(c, container, reference).await?;
    let mut names = labels::networks(&container);
    let Some(at) = names.iter().position(|n| *n == network.name) else {
        return Err(Error::new(ErrorCode::InvalidState, format!("The container is not connected to {}", network.name))
            .detail("id", container.id.as_str()));
    };
    names.remove(at);
    if let Some(first) = living(c, &container.id).await? {
        let hosts = Hosts::read(c).await?;
        let interface = hosts.interface(&container.id, &network.name).unwrap_or_else(|| format!("eth{at}"));
        Attachment { c, network: &network, container: &container.id, interface: &interface, first }.detach().await?;
        hosts.with(&container.id, &network.name, None).write(c).await?;
    }
    record(c, &container, &names, "disconnect", reference).await
}

/// In the label, for those who ask, and in an annotation of the specification, for nerdctl's hook at the next start.
async fn record(c: &Containerd, container: &Container, names: &[String], action: &str, network: &str) -> Result<()> {
    let list = json!(names).to_string();
    let spec = container.spec.as_ref().ok_or_else(|| Error::internal("a container without a specification"))?;
    let mut json: Value = serde_json::from_slice(&spec.value)
        .map_err(|e| Error::internal("a container's specification is not JSON").source(e))?;
    json["annotations"][NETWORKS] = list.clone().into();
    let changed = prost_types::Any { type_url: spec.type_url.clone(), value: json.to_string().into_bytes() };
    let labels = [(NETWORKS.to_owned(), list), (CHANGED.to_owned(), "true".to_owned())].into();
    c.api.set_spec(&container.id, changed, labels).await?;
    c.hub.tell(EventKind::Network, action, network, None);
    Ok(())
}

/// Called once a container's task runs (after start and restart): nerdctl's hook has attached what is recorded. Leases
/// of interfaces it has no more are given back.
pub(crate) async fn started(c: &Containerd, container: &Container) -> Result<()> {
    if !container.labels.contains_key(CHANGED) {
        return Ok(());
    }
    let current: Vec<String> =
        labels::networks(container).iter().enumerate().map(|(i, network)| format!("{network}/eth{i}")).collect();
    give_back(c, &container.id, &current).await
}

/// Called after a container was removed: gives back leases that nerdctl did not know of.
pub(crate) async fn removed(c: &Containerd, id: &str) -> Result<()> {
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

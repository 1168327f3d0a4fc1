//! Networks.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{self, Api, bare},
    error::{Failure, ResultExt},
    refusal::About,
};
use crate::{
    call,
    engine::types::*,
    error::{Error, ErrorCode, Result},
    random,
};

/// Not through bollard, which knows `CheckDuplicate` no more: before API 1.44 an engine makes two networks of one name
/// without it (docs/reference/docker.md#networks-of-one-name).
/// `internal` as in [`super::Vm`].
pub(super) async fn create(
    api: Api,
    name: &str,
    options: &NetworkOptions,
    app: &str,
    internal: Option<&str>,
) -> Result<String> {
    let mut labels = options.labels.clone();
    labels.insert(APP_LABEL.to_owned(), app.to_owned());
    let mut body = json!({
        "Name": name, "CheckDuplicate": true, "Internal": options.internal, "Attachable": options.attachable,
        "Labels": labels,
    });
    if let Some(driver) = &options.driver {
        body["Driver"] = json!(driver);
    }
    if let Some(begins) =
        internal.filter(|_| options.internal && matches!(options.driver.as_deref(), None | Some("bridge")))
    {
        let name = format!("{begins}{}", &random::word()[..7]);
        body["Options"] = json!({ "com.docker.network.bridge.name": name });
    }
    let created: Created = api.post_json("networks/create", &[], &body).await.about(About::CreateNetwork)?;
    if let Some(warning) = created.warning.filter(|w| !w.is_empty()) {
        call::warn(Error::new(ErrorCode::EngineWarning, warning).detail("network", name));
    }
    Ok(created.id)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
    warning: Option<String>,
}

pub(super) async fn remove(api: Api, id: &str) -> Result<()> {
    api.bollard().remove_network(id).await.about(About::Network(id))
}

pub(super) async fn inspect(api: Api, id: &str) -> Result<NetworkDetails> {
    let about = About::Network(id);
    let raw: Value = api.get_json(api::ONE, &format!("networks/{}", api::encode(id)), &[]).await.about(about)?;
    details(raw).map_err(|e| Failure::from(e).about(about))
}

fn details(raw: Value) -> serde_json::Result<NetworkDetails> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Rest {
        #[serde(default)]
        internal: bool,
        #[serde(default)]
        attachable: bool,
        #[serde(rename = "IPAM")]
        ipam: Option<Ipam>,
        containers: Option<BTreeMap<String, Value>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Ipam {
        config: Option<Vec<Pool>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pool {
        subnet: Option<String>,
        gateway: Option<String>,
    }
    let rest = Rest::deserialize(&raw)?;
    let mut info = info(Network::deserialize(&raw)?);
    info.containers = rest.containers.unwrap_or_default().into_keys().collect();
    let pools = rest.ipam.and_then(|i| i.config).unwrap_or_default().into_iter();
    let some = |text: Option<String>| text.filter(|t| !t.is_empty());
    let subnets = pools.filter_map(|p| Some(Subnet { subnet: some(p.subnet)?, gateway: some(p.gateway) })).collect();
    let details = NetworkDetails::new(info, raw);
    Ok(NetworkDetails { internal: rest.internal, attachable: rest.attachable, subnets, ..details })
}

pub(super) async fn connect(api: Api, container: &str, network: &str) -> Result<()> {
    connect_with(&api, container, network, Value::Null).await
}

/// With the settings that the container is to have there.
pub(super) async fn connect_with(api: &Api, container: &str, network: &str, settings: Value) -> Result<()> {
    let body = json!({ "Container": bare(container), "EndpointConfig": settings });
    change(api, container, network, "connect", &body).await
}

pub(super) async fn disconnect(api: Api, container: &str, network: &str) -> Result<()> {
    change(&api, container, network, "disconnect", &json!({ "Container": bare(container), "Force": false })).await
}

async fn change(api: &Api, container: &str, network: &str, how: &str, body: &Value) -> Result<()> {
    let path = format!("networks/{}/{how}", api::encode(network));
    let answer = api.post(&path, &[], api::json_body(body)).await.about(About::Connect { container, network })?;
    api::drain(answer).await;
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    id: String,
    name: String,
    driver: String,
    labels: Option<Labels>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    id: String,
    network_settings: Option<Settings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    networks: Option<BTreeMap<String, Attachment>>,
}

#[derive(Deserialize)]
struct Attachment {
    #[serde(rename = "NetworkID", default)]
    network: String,
}

/// The list of networks leaves their containers out; the list of containers names their networks. Two calls, however
/// many there are.
pub(super) async fn list(api: Api) -> Result<Vec<NetworkInfo>> {
    let (networks, members) = futures_util::future::try_join(
        api.get_json::<Vec<Network>>(api::ALL, "networks", &[]),
        api.get_json::<Vec<Member>>(api::ALL, "containers/json", &[]),
    )
    .await
    .about(About::Engine)?;
    Ok(joined(networks, members))
}

fn joined(networks: Vec<Network>, members: Vec<Member>) -> Vec<NetworkInfo> {
    let mut containers: HashMap<String, Vec<String>> = HashMap::new();
    for member in members {
        for attachment in member.network_settings.and_then(|s| s.networks).into_iter().flatten() {
            containers.entry(attachment.1.network).or_default().push(member.id.clone());
        }
    }
    (networks.into_iter())
        .map(|n| NetworkInfo { containers: containers.remove(&n.id).unwrap_or_default(), ..info(n) })
        .collect()
}

fn info(n: Network) -> NetworkInfo {
    NetworkInfo {
        containers: Vec::new(),
        id: n.id,
        is_default: n.name == "bridge",
        name: n.name,
        driver: n.driver,
        labels: n.labels.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_container_is_listed_on_each_of_its_networks() {
        let networks = json!([{ "Id": "n1", "Name": "one", "Driver": "bridge" }, { "Id": "n2", "Name": "two", "Driver": "bridge" }]);
        let members = json!([
            { "Id": "c1", "NetworkSettings": { "Networks": { "one": { "NetworkID": "n1" }, "two": { "NetworkID": "n2" } } } },
            { "Id": "c2", "NetworkSettings": { "Networks": { "one": { "NetworkID": "n1" } } } },
            { "Id": "c3", "NetworkSettings": null },
        ]);
        let found = joined(from_value(networks).unwrap(), from_value(members).unwrap());
        assert_eq!(found[0].containers, ["c1", "c2"]);
        assert_eq!(found[1].containers, ["c1"]);
    }
}

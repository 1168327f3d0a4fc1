//! The daemon's default network, and the bridges that networks leave behind.

use std::{fs, net::Ipv4Addr, path::Path};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::routes::{is_free, used};
use crate::{
    error::Result,
    fetch::{digest::Digest, disk},
    guest::{Guest, local::LocalGuest},
    process::Command,
};

/// nerdctl's name for the default network, whose file lies outside the namespaces' directories
/// (docs/reference/nerdctl.md#network-files).
const DEFAULT_NETWORK: &str = "bridge";

/// Writes the default network's configuration once. nerdctl would use the bridge `nerdctl0`, which another nerdctl of this
/// machine may have.
pub(super) fn write_default(networks: &Path) -> Result<()> {
    let path = networks.join(format!("nerdctl-{DEFAULT_NETWORK}.conflist"));
    if path.exists() {
        return Ok(());
    }
    disk::create_dir(networks)?;
    let used = used(&fs::read_to_string("/proc/net/route").unwrap_or_default());
    let (bridge, first) = default_bridge(networks);
    let third = (0..=255u8).map(|n| first.wrapping_add(n)).find(|&n| is_free(subnet(n), 24, &used)).unwrap_or(first);
    let config = json!({
        "cniVersion": "1.0.0",
        "name": DEFAULT_NETWORK,
        "nerdctlID": Digest::of(&Sha256::digest(DEFAULT_NETWORK)).as_str(),
        "nerdctlLabels": { "nerdctl/default-network": "true" },
        "plugins": [
            { "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": format!("10.{SECOND_BYTE}.{third}.0/24"), "gateway": format!("10.{SECOND_BYTE}.{third}.1") }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            } },
            { "type": "portmap", "capabilities": { "portMappings": true } },
            { "type": "firewall", "ingressPolicy": "same-bridge" },
            { "type": "tuning" },
        ],
    });
    disk::write_json(&path, &config)
}

/// The bridge's name (15 bytes at most) and a number for its addresses, different for each directory.
fn default_bridge(networks: &Path) -> (String, u8) {
    let own = Sha256::digest(networks.as_os_str().as_encoded_bytes());
    (format!("lr-{}", &Digest::of(&own).as_str()[..10]), own[4])
}

/// Not 10.4, from which every nerdctl takes its networks (docs/reference/nerdctl.md#network-ids).
const SECOND_BYTE: u8 = 5;

fn subnet(third: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, SECOND_BYTE, third, 0)
}

fn is_idle(name: &str) -> bool {
    let ports = Path::new("/sys/class/net").join(name).join("brif");
    ports.is_dir() && disk::entries(&ports).is_empty()
}

/// The bridges of our networks that exist and that nothing is attached to.
pub(super) fn idle_bridges(networks: &Path) -> Vec<String> {
    bridges(networks).into_iter().filter(|name| is_idle(name)).collect()
}

/// The bridges in the configurations below `networks` whose names we or nerdctl chose. Whoever writes a configuration may
/// name any other bridge.
fn bridges(networks: &Path) -> Vec<String> {
    let mut files = disk::entries(networks);
    files.extend(files.clone().iter().flat_map(|d| disk::entries(d)));
    let (default, _) = default_bridge(networks);
    let name = |config: Value| {
        let bridge = config["plugins"].as_array()?.iter().find_map(|p| p["bridge"].as_str())?;
        let of_its_id = config["nerdctlID"].as_str()?.get(..12).map(|id| format!("br-{id}"));
        (bridge == default || Some(bridge) == of_its_id.as_deref()).then(|| bridge.to_owned())
    };
    files.iter().filter_map(|f| disk::read_json::<Value>(f)).filter_map(name).collect()
}

pub(super) async fn delete(bridge: &str) {
    let command = Command::new(["ip", "link", "delete", "dev", bridge, "type", "bridge"]);
    if let Err(e) = LocalGuest::new("").run(command).await.and_then(|o| o.checked("ip")) {
        tracing::warn!(error = %e, bridge, "a bridge stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_the_machine_is_not_taken_again() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            br0\t0007050A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            br1\t0040050A\t00000000\t0001\t0\t0\t0\t00C0FFFF\t0\t0\t0\n";
        let used = used(routes);
        assert_eq!(used.len(), 3);
        let free = |third| is_free(subnet(third), 24, &used);
        assert!(free(6) && !free(7) && !free(65) && free(128));
        assert!(!is_free(subnet(9), 24, &[(u32::from(Ipv4Addr::new(10, 0, 0, 0)), 0xff00_0000)]));
    }

    #[test]
    fn only_the_bridges_of_our_own_networks_are_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        write_default(dir.path()).unwrap();
        // As nerdctl 2.1.6 writes one, and as anybody may.
        let id = "eefd2c5b2c5ab1b0e9cfcea1a4c8a0d2f0a3e6b1c2d3e4f5a6b7c8d9e0f1a2b3";
        for (file, id, bridge) in [
            ("default/nerdctl-live.conflist", id, format!("br-{}", &id[..12])),
            ("default/nerdctl-docker.conflist", id, "docker0".into()),
            ("default/nerdctl-other.conflist", "", "br-".into()),
            ("nerdctl-odd.conflist", "br", "../../x".into()),
        ] {
            let config = json!({ "nerdctlID": id, "plugins": [{ "type": "bridge", "bridge": bridge }] });
            disk::create_dir(dir.path().join(file).parent().unwrap()).unwrap();
            disk::write_json(&dir.path().join(file), &config).unwrap();
        }
        let mut found = bridges(dir.path());
        found.sort();
        assert_eq!(found, ["br-eefd2c5b2c5a".to_owned(), default_bridge(dir.path()).0]);
    }

    #[test]
    fn the_default_network_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        write_default(dir.path()).unwrap();
        let file = dir.path().join("nerdctl-bridge.conflist");
        let config: Value = disk::read_json(&file).unwrap();
        assert!(config["plugins"][0]["bridge"].as_str().unwrap().len() <= 15);
        fs::write(&file, "{}").unwrap();
        write_default(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{}");
    }
}

//! The daemon's networks: the one every container gets, and the interfaces they all leave behind.

use std::{fs, net::Ipv4Addr, path::Path};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    error::Result,
    fetch::{disk, manifest::Digest},
};

/// nerdctl's name for it; its file lies above the namespaces' (docs/reference/nerdctl.md#network-files).
const DEFAULT: &str = "bridge";

/// Writes the default network's configuration once. nerdctl would make it with the bridge `nerdctl0`, which may be
/// another nerdctl's of this machine.
pub(super) fn write_default(networks: &Path) -> Result<()> {
    let path = networks.join(format!("nerdctl-{DEFAULT}.conflist"));
    if path.exists() {
        return Ok(());
    }
    disk::create_dir(networks)?;
    let own = Sha256::digest(networks.as_os_str().as_encoded_bytes());
    let used = used(&fs::read_to_string("/proc/net/route").unwrap_or_default());
    let third = (0..=255u8).map(|n| own[4].wrapping_add(n)).find(|&n| is_free(n, &used)).unwrap_or(own[4]);
    // 15 bytes are the longest name of an interface.
    let bridge = format!("lr-{}", &Digest::of(&own).as_str()[..10]);
    let config = json!({
        "cniVersion": "1.0.0",
        "name": DEFAULT,
        "nerdctlID": Digest::of(&Sha256::digest(DEFAULT)).as_str(),
        "nerdctlLabels": { "nerdctl/default-network": "true" },
        "plugins": [
            { "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": format!("10.{OWN}.{third}.0/24"), "gateway": format!("10.{OWN}.{third}.1") }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            } },
            { "type": "portmap", "capabilities": { "portMappings": true } },
            { "type": "firewall", "ingressPolicy": "same-bridge" },
            { "type": "tuning" },
        ],
    });
    disk::write_json(&path, &config)
}

/// Not 10.4, from whose start every nerdctl takes its networks (docs/reference/nerdctl.md#network-ids).
const OWN: u8 = 5;

fn is_free(third: u8, used: &[(u32, u32)]) -> bool {
    let (net, mask) = (u32::from(Ipv4Addr::new(10, OWN, third, 0)), 0xffff_ff00);
    used.iter().all(|(n, m)| *m == 0 || (n & m & mask) != (net & m & mask))
}

/// Networks and masks of `/proc/net/route`.
fn used(routes: &str) -> Vec<(u32, u32)> {
    let number = |hex: Option<&&str>| u32::from_str_radix(hex?, 16).ok().map(u32::swap_bytes);
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some((number(fields.get(1))?, number(fields.get(7))?))
    };
    routes.lines().skip(1).filter_map(line).collect()
}

/// The bridges that the configurations below `networks` name, as far as they are there and nothing hangs on them.
pub(super) fn idle_bridges(networks: &Path) -> Vec<String> {
    let mut files = disk::entries(networks);
    files.extend(files.clone().iter().flat_map(|d| disk::entries(d)));
    let bridges = files
        .iter()
        .filter_map(|f| disk::read_json::<Value>(f))
        .filter_map(|c| c["plugins"].as_array()?.iter().find_map(|p| p["bridge"].as_str().map(str::to_owned)));
    let idle = |name: &String| {
        let ports = Path::new("/sys/class/net").join(name).join("brif");
        ports.is_dir() && disk::entries(&ports).is_empty()
    };
    bridges.filter(|n| !n.contains('/')).filter(idle).collect()
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
        assert!(is_free(6, &used) && !is_free(7, &used) && !is_free(65, &used) && is_free(128, &used));
        assert!(!is_free(9, &[(u32::from(Ipv4Addr::new(10, 0, 0, 0)), 0xff00_0000)]));
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

//! The default bridge of a Docker engine that runs as root, its addresses, and the rules that let its containers out.
//!
//! dockerd makes its own rules in chains of fixed names, and clears these when it starts: two of them would take each
//! other's away (docs/reference/docker.md#a-second-engine). So ours makes none, publishes ports by docker-proxy, and has one
//! chain with a name of its own.

use std::{fs, net::Ipv4Addr, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::network::{self, is_idle, used};
use crate::{
    error::{Error, ErrorCode, Result},
    fetch::disk,
    guest::{Guest, local::LocalGuest},
    process::{Command, Output},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bridge {
    /// Also the chain's.
    pub(super) name: String,
    /// Of 10.x.0.0/16, from which all its networks come.
    second: u8,
}

#[derive(Serialize, Deserialize)]
struct Addresses {
    second: u8,
}

/// Not 10.4 and 10.5, from which containerd's networks come.
const FIRST: u8 = 6;
const LAST: u8 = 99;

/// `$1`: the chain; `$2`: its addresses; `$3`: `on`, or anything else. Networks do not reach each other, and nobody else
/// reaches a container unless it publishes a port.
const RULES: &str = r#"
chain=$1 pool=$2
rule() { iptables -w 10 "$@"; }
jump() {
  while rule -t "$1" -D "$2" "$3" "$pool" -j "$chain" 2>/dev/null; do :; done
  [ "$4" != on ] || rule -t "$1" -I "$2" "$3" "$pool" -j "$chain"
}
jump filter FORWARD -s off
jump filter FORWARD -d off
jump nat POSTROUTING -s off
for table in filter nat; do
  if rule -t $table -F "$chain" 2>/dev/null; then rule -t $table -X "$chain"; fi
done
[ "$3" = on ] || exit 0
set -e
[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || echo 1 >/proc/sys/net/ipv4/ip_forward
rule -N "$chain"
# What stays on one bridge passes here where the kernel has br_netfilter.
rule -A "$chain" -m physdev --physdev-is-bridged -j ACCEPT 2>/dev/null || :
rule -A "$chain" -s "$pool" -d "$pool" -j DROP
rule -A "$chain" -s "$pool" -j ACCEPT
rule -A "$chain" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
rule -A "$chain" -j DROP
rule -t nat -N "$chain"
rule -t nat -A "$chain" ! -d "$pool" -j MASQUERADE
jump filter FORWARD -s on
jump filter FORWARD -d on
jump nat POSTROUTING -s on
"#;

impl Bridge {
    /// What was recorded by [`Bridge::make`].
    pub(super) fn recorded(record: &Path) -> Option<Self> {
        let Addresses { second } = disk::read_json(record)?;
        (FIRST..=LAST).contains(&second).then(|| Self { name: name_for(record), second })
    }

    /// Makes the bridge, with the addresses it had before or free ones, and the rules.
    pub(super) async fn make(record: &Path) -> Result<Self> {
        let name = name_for(record);
        let before = Self::recorded(record);
        if let Some(before) = &before {
            before.rules("off").await?;
        }
        let recorded = before.as_ref().map(|b| b.second);
        let count = LAST - FIRST + 1;
        let first = before.map_or(FIRST + digest(record)[4] % count, |b| b.second);
        // In turn from where it was, or anywhere.
        for second in (0..count).map(|n| FIRST + (first - FIRST + n) % count) {
            if !is_free(second, &name, recorded) {
                continue;
            }
            let bridge = Self { name: name.clone(), second };
            // First of all: who takes away what a start left that was cut off goes by it.
            disk::write_json(record, &Addresses { second })?;
            if !exists(&name) {
                ip(&["link", "add", &name, "type", "bridge"]).await?.checked("ip")?;
            }
            ip(&["address", "flush", "dev", &name]).await?;
            ip(&["address", "add", &bridge.address(), "dev", &name]).await?.checked("ip")?;
            ip(&["link", "set", &name, "up"]).await?.checked("ip")?;
            // Another one may have taken the same meanwhile: then it is for whose name comes first.
            if is_free(second, &name, recorded) || others(second, &name).iter().all(|other| *other > name) {
                bridge.rules("on").await?;
                return Ok(bridge);
            }
        }
        Err(Error::new(ErrorCode::InUse, format!("No network of 10.{FIRST}.0.0/16 to 10.{LAST}.0.0/16 is free"))
            .hint("The routes of this machine take them all; see `ip route`."))
    }

    /// Takes away the rules and the bridges, its own and `networks`' that nothing is attached to.
    pub(super) async fn remove(&self, networks: &[String]) {
        if let Err(e) = self.rules("off").await {
            tracing::warn!(error = %e, chain = self.name, "rules stay");
        }
        let mut all = networks.to_vec();
        all.extend(bridges_in(&self.addresses()).await);
        all.push(self.name.clone());
        all.sort();
        all.dedup();
        for bridge in all.iter().filter(|name| is_idle(name)) {
            delete(bridge).await;
        }
    }

    async fn rules(&self, turn: &str) -> Result<()> {
        let command = Command::new(["sh", "-c", RULES, "sh", &self.name, &self.addresses(), turn]);
        LocalGuest::new("").run(command).await?.checked("iptables").map(drop)
    }

    fn address(&self) -> String {
        format!("10.{}.0.1/24", self.second)
    }

    pub(super) fn addresses(&self) -> String {
        format!("10.{}.0.0/16", self.second)
    }

    /// The default bridge's own.
    pub(super) fn first_network(&self) -> String {
        format!("10.{}.0.0/24", self.second)
    }
}

fn digest(record: &Path) -> impl std::ops::Deref<Target = [u8]> + use<> {
    Sha256::digest(record.as_os_str().as_encoded_bytes())
}

/// Different for each directory. Names hold 15 bytes.
fn name_for(record: &Path) -> String {
    format!("lrd-{}", hex::encode(&digest(record)[..5]))
}

/// Of a network of Docker's with that id.
pub(super) fn of_network(id: &str) -> Option<String> {
    id.get(..12).map(|id| format!("br-{id}"))
}

pub(super) async fn delete(name: &str) {
    if let Err(e) = ip(&["link", "delete", "dev", name, "type", "bridge"]).await.and_then(|o| o.checked("ip")) {
        tracing::warn!(error = %e, name, "a bridge stays");
    }
}

fn exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

async fn ip(words: &[&str]) -> Result<Output> {
    LocalGuest::new("").run(Command::new(std::iter::once("ip").chain(words.iter().copied()))).await
}

/// Docker's bridges with an address of ours: of a network that nobody could list, because the daemon was killed.
async fn bridges_in(pool: &str) -> Vec<String> {
    let Ok(out) = ip(&["-o", "-4", "address", "show", "to", pool]).await else { return Vec::new() };
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines()
        .filter_map(|l| l.split_whitespace().nth(1))
        .filter(|n| n.starts_with("br-"))
        .map(str::to_owned)
        .collect()
}

fn routes() -> String {
    fs::read_to_string("/proc/net/route").unwrap_or_default()
}

/// Whether no other interface has a route into 10.`second`.0.0/16. In the one that was `recorded`, Docker's networks are ours: a
/// daemon that was killed leaves their bridges.
fn is_free(second: u8, own: &str, recorded: Option<u8>) -> bool {
    is_free_by(&routes(), second, own, recorded)
}

fn is_free_by(routes: &str, second: u8, own: &str, recorded: Option<u8>) -> bool {
    let ours = |name: &str| name == own || (recorded == Some(second) && name.starts_with("br-"));
    let theirs: Vec<&str> = routes.lines().filter(|l| !l.split_whitespace().next().is_some_and(ours)).collect();
    network::is_free(Ipv4Addr::new(10, second, 0, 0), 16, &used(&theirs.join("\n")))
}

/// Engines like this one that have the same addresses.
fn others(second: u8, own: &str) -> Vec<String> {
    let routes = routes();
    let names = routes.lines().skip(1).filter_map(|l| l.split_whitespace().next());
    let taking = |name: &&str| {
        *name != own && name.starts_with("lrd-") && {
            let line: Vec<&str> = routes.lines().filter(|l| l.split_whitespace().next() == Some(*name)).collect();
            !is_free_by(&format!("header\n{}", line.join("\n")), second, own, None)
        }
    };
    names.filter(taking).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_others_are_not_taken() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            tun0\t0000080A\t00000000\t0001\t0\t0\t0\t0000FEFF\t0\t0\t0\n\
            lrd-own\t0000070A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            br-0123456789ab\t0001070A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        // 10.8.0.0/15 is the tunnel's, 10.7.0.0/24 our own, 10.7.1.0/24 a network's that a killed daemon left.
        let free = |second| is_free_by(routes, second, "lrd-own", Some(7));
        assert!(free(7) && !free(8) && !free(9) && free(10));
        assert!(!is_free_by(routes, 7, "lrd-own", None) && !is_free_by(routes, 7, "lrd-own", Some(10)));
        assert!(!is_free_by(routes, 7, "lrd-other", Some(7)));
    }
}

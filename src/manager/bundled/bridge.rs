//! The default bridge of a Docker engine that runs as root, its addresses, and the rules that let its containers out.
//!
//! dockerd makes its own rules in chains of fixed names, and clears these when it starts: two of them would take each
//! other's away (docs/reference/docker.md#a-second-engine). So ours makes none, publishes ports by docker-proxy, and has one
//! chain with a name of its own. So in WSL, too, whose distributions share one network (docs/reference/wsl.md#one-network).

use std::{net::Ipv4Addr, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::routes::{self, used};
use crate::{
    error::{Error, ErrorCode, Result},
    fetch::disk,
    guest::Guest,
    process::Command,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bridge {
    /// Also the chain's.
    pub(super) name: String,
    /// Of 10.x.0.0/16, from which all its networks come.
    second: u8,
}

/// Where one is made.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) guest: &'a dyn Guest,
    /// On this computer: which addresses it has.
    pub(super) record: &'a Path,
    /// dockerd's directory in the guest.
    pub(super) data_root: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Addresses {
    second: u8,
}

/// Not 10.4 and 10.5, from which containerd's networks come.
const FIRST: u8 = 6;
const LAST: u8 = 99;

/// `$1`: the chain; `$2`: its addresses; `$3`: `on`, or anything else; `$4`: the bridges of internal networks. Networks do not
/// reach each other, and nobody else reaches a container unless it publishes a port. What comes from an internal network goes
/// nowhere, whatever address it gives itself.
const RULES: &str = r#"
chain=$1 pool=$2 turn=$3 internal=$4
rule() { iptables -w 10 "$@"; }
jump() {
  table=$1 parent=$2 now=$3
  shift 3
  while rule -t "$table" -D "$parent" "$@" -j "$chain" 2>/dev/null; do :; done
  [ "$now" != on ] || rule -t "$table" -I "$parent" "$@" -j "$chain"
}
jumps() {
  jump filter FORWARD "$1" -s "$pool"
  jump filter FORWARD "$1" -d "$pool"
  jump filter FORWARD "$1" -i "$internal"
  jump filter FORWARD "$1" -o "$internal"
  jump nat POSTROUTING "$1" -s "$pool"
}
jumps off
for table in filter nat; do
  if rule -t $table -F "$chain" 2>/dev/null; then rule -t $table -X "$chain"; fi
done
for way in -i -o; do
  while ip6tables -w 10 -D FORWARD $way "$internal" -j DROP 2>/dev/null; do :; done
  # Not where the kernel has no IPv6.
  [ "$turn" != on ] || ip6tables -w 10 -I FORWARD $way "$internal" -j DROP 2>/dev/null || :
done
[ "$turn" = on ] || exit 0
set -e
[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || echo 1 >/proc/sys/net/ipv4/ip_forward
rule -N "$chain"
# What stays on one bridge passes here where the kernel has br_netfilter.
rule -A "$chain" -m physdev --physdev-is-bridged -j ACCEPT 2>/dev/null || :
rule -A "$chain" -i "$internal" -j DROP
rule -A "$chain" -o "$internal" -j DROP
rule -A "$chain" -s "$pool" -d "$pool" -j DROP
rule -A "$chain" -s "$pool" -j ACCEPT
rule -A "$chain" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
rule -A "$chain" -j DROP
rule -t nat -N "$chain"
rule -t nat -A "$chain" ! -d "$pool" -j MASQUERADE
jumps on
"#;

/// `$1`: the bridge; `$2`: its address.
const UP: &str = r#"set -e
ip link show dev "$1" >/dev/null 2>&1 || ip link add "$1" type bridge
ip address flush dev "$1"
ip address add "$2" dev "$1"
ip link set "$1" up
"#;

/// A shell function that says which bridges of networks are this engine's: `$1` is what the names of internal ones begin with,
/// `$2` the file in which dockerd keeps its networks. Others have bridges of such names, too.
const OWNED: &str = r#"owned() {
  ip -o link show type bridge | while read -r _ name _; do
    name=${name%:}
    case $name in
    "$1"*) echo "$name" ;;
    br-????????????) if grep -qF "${name#br-}" "$2" 2>/dev/null; then echo "$name"; fi ;;
    esac
  done
}
"#;

/// Deletes what [`OWNED`] finds, and `$3`, unless something is attached.
const REMOVE: &str = r#"
for name in $(owned "$1" "$2") "$3"; do
  [ -n "$(ip -o link show dev "$name" type bridge 2>/dev/null)" ] || continue
  [ -z "$(ip -o link show master "$name")" ] || continue
  ip link delete dev "$name" type bridge
done
"#;

impl Bridge {
    /// What was recorded by [`Bridge::make`].
    pub(super) fn recorded(record: &Path) -> Option<Self> {
        let Addresses { second } = disk::read_json(record)?;
        (FIRST..=LAST).contains(&second).then(|| Self { name: name_for(record), second })
    }

    /// Makes the bridge, with the addresses it had before or free ones, and the rules.
    pub(super) async fn make(place: Place<'_>) -> Result<Self> {
        let Place { guest, record, .. } = place;
        let name = name_for(record);
        let before = Self::recorded(record);
        if let Some(before) = &before {
            before.rules(place, "off").await?;
        }
        // A daemon that was killed leaves the bridges of its networks.
        let owned = place.owned().await?;
        let count = LAST - FIRST + 1;
        let first = before.map_or(FIRST + digest(record)[4] % count, |b| b.second);
        let there = place.routes().await?;
        // In turn from where it was, or anywhere.
        for second in (0..count).map(|n| FIRST + (first - FIRST + n) % count) {
            if !is_free(&there, second, &name, &owned) {
                continue;
            }
            let bridge = Self { name: name.clone(), second };
            // First of all: who takes away what a start left that was cut off goes by it.
            disk::write_json(record, &Addresses { second })?;
            run(guest, UP, &[&name, &bridge.address()]).await?.checked("ip")?;
            // Another one may have taken the same meanwhile: then it is for whose name comes first.
            let there = place.routes().await?;
            if is_free(&there, second, &name, &owned) || others(&there, second, &name).iter().all(|o| *o > name) {
                bridge.rules(place, "on").await?;
                return Ok(bridge);
            }
        }
        Err(Error::new(ErrorCode::InUse, format!("No network of 10.{FIRST}.0.0/16 to 10.{LAST}.0.0/16 is free"))
            .hint("The routes of this machine take them all; see `ip route`."))
    }

    /// Takes away the rules and the bridges, its own and its networks', that nothing is attached to.
    pub(super) async fn remove(&self, place: Place<'_>) {
        if let Err(e) = self.rules(place, "off").await {
            tracing::warn!(error = %e, chain = self.name, "rules stay");
        }
        let (internal, store) = (internal(place.record), place.store());
        let removed = run(place.guest, &[OWNED, REMOVE].concat(), &[&internal, &store, &self.name]).await;
        if let Err(e) = removed.and_then(|out| out.checked("ip")) {
            tracing::warn!(error = %e, "bridges stay");
        }
    }

    async fn rules(&self, place: Place<'_>, turn: &str) -> Result<()> {
        let (addresses, internal) = (self.addresses(), format!("{}+", internal(place.record)));
        run(place.guest, RULES, &[&self.name, &addresses, turn, &internal]).await?.checked("iptables").map(drop)
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

impl Place<'_> {
    /// Where dockerd keeps its networks, with their ids in plain letters.
    fn store(&self) -> String {
        format!("{}/network/files/local-kv.db", self.data_root)
    }

    async fn owned(&self) -> Result<Vec<String>> {
        let script = [OWNED, "owned \"$1\" \"$2\"\n"].concat();
        let out = run(self.guest, &script, &[&internal(self.record), &self.store()]).await?.checked("ip")?;
        Ok(String::from_utf8_lossy(&out).lines().map(str::to_owned).collect())
    }

    async fn routes(&self) -> Result<String> {
        let out = self.guest.run(Command::new(["cat", "/proc/net/route"])).await?.checked("cat")?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

async fn run(guest: &dyn Guest, script: &str, words: &[&str]) -> Result<crate::process::Output> {
    guest.run(Command::new(["sh", "-c", script, "sh"].iter().chain(words).copied())).await
}

fn digest(record: &Path) -> impl std::ops::Deref<Target = [u8]> + use<> {
    Sha256::digest(record.as_os_str().as_encoded_bytes())
}

/// Different for each directory. Names hold 15 bytes.
fn name_for(record: &Path) -> String {
    format!("lrd-{}", hex::encode(&digest(record)[..5]))
}

/// What the names of internal networks' bridges begin with; seven more bytes fit. A rule knows them by it before they are made.
pub(super) fn internal(record: &Path) -> String {
    format!("li{}-", &hex::encode(&digest(record)[..3])[..5])
}

/// Whether no interface but this engine's own has a route into 10.`second`.0.0/16.
fn is_free(routes: &str, second: u8, own: &str, owned: &[String]) -> bool {
    let ours = |name: &str| name == own || owned.iter().any(|o| o == name);
    let theirs: Vec<&str> = routes.lines().filter(|l| !l.split_whitespace().next().is_some_and(ours)).collect();
    routes::is_free(Ipv4Addr::new(10, second, 0, 0), 16, &used(&theirs.join("\n")))
}

/// Engines like this one that have the same addresses.
fn others(routes: &str, second: u8, own: &str) -> Vec<String> {
    let names = routes.lines().skip(1).filter_map(|l| l.split_whitespace().next());
    let taking = |name: &&str| {
        *name != own && name.starts_with("lrd-") && {
            let line: Vec<&str> = routes.lines().filter(|l| l.split_whitespace().next() == Some(*name)).collect();
            !is_free(&format!("header\n{}", line.join("\n")), second, own, &[])
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
        let free = |second| is_free(routes, second, "lrd-own", &["br-0123456789ab".to_owned()]);
        assert!(free(7) && !free(8) && !free(9) && free(10));
        assert!(!is_free(routes, 7, "lrd-own", &[]) && !is_free(routes, 7, "lrd-own", &["br-other".to_owned()]));
        assert!(!is_free(routes, 7, "lrd-other", &["br-0123456789ab".to_owned()]));
    }

    /// The names of all bridges hold 15 bytes at most, and a network's is told by what dockerd keeps, not by how it looks.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_bridge_is_ours_by_what_the_daemon_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let internal = internal(dir.path());
        assert!(name_for(dir.path()).len() <= 15 && internal.len() == 8, "{internal}");
        // As `ip` and dockerd's store show them.
        let ip = "#!/bin/sh\nfor name in docker0 br-0123456789ab br-ba9876543210 \"$INTERNAL\"0123456 li00000-0123456; do\n\
            echo \"5: $name: <BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state DOWN mode DEFAULT\"\ndone\n";
        crate::fetch::disk::write_program(&dir.path().join("ip"), ip.as_bytes()).unwrap();
        let store = dir.path().join("local-kv.db");
        let id = "0123456789ab".repeat(6);
        std::fs::write(
            &store,
            [b"\x00\xffdocker/network/v1.0/network/".as_slice(), &id.as_bytes()[..64], b"/\x00"].concat(),
        )
        .unwrap();
        let script = [OWNED, "owned \"$1\" \"$2\"\n"].concat();
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, "sh", &internal]).arg(&store).env("PATH", path).env("INTERNAL", &internal);
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), ["br-0123456789ab", &format!("{internal}0123456")]);
    }
}

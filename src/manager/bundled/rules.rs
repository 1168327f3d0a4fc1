//! Rules of the packet filter that CNI's plugins made for our containers. nerdctl's hook takes them back when a task is
//! deleted; nobody deletes the tasks of a daemon that was killed (docs/reference/cni.md#rules-left-behind).

use std::{collections::BTreeSet, path::Path};

use crate::{
    error::Result,
    fetch::disk,
    guest::{Guest, local::LocalGuest},
    process::Command,
};

/// The containers below nerdctl's data directory, as CNI knows them (docs/reference/cni.md#names-nerdctl-uses).
pub(super) fn containers(data_root: &Path) -> BTreeSet<String> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let namespaces =
        disk::entries(data_root).into_iter().flat_map(|address| disk::entries(&address.join("containers")));
    namespaces
        .flat_map(|ns| disk::entries(&ns).into_iter().map(move |id| format!("{}-{}", name(&ns), name(&id))))
        .collect()
}

/// Removes what is left of `containers`, none of which runs.
pub(super) async fn remove(containers: &BTreeSet<String>) {
    for family in ["iptables", "ip6tables"] {
        if let Err(e) = remove_of(family, containers).await {
            tracing::warn!(error = %e, family, "rules of ended containers stay");
        }
    }
}

async fn remove_of(family: &str, containers: &BTreeSet<String>) -> Result<()> {
    let run = async |command: Command| LocalGuest::new("").run(command).await?.checked(family);
    let list = async |table| run(Command::new([family, "-w", "10", "-t", table, "-S"])).await;
    let (nat, filter) = (list("nat").await?, list("filter").await?);
    let removal = removal(&String::from_utf8_lossy(&nat), &String::from_utf8_lossy(&filter), containers);
    if removal.is_empty() {
        return Ok(());
    }
    let restore = format!("{family}-restore");
    run(Command::new([&restore, "--noflush", "-w", "10"]).input(removal)).await.map(drop)
}

/// What `iptables-restore` is told to remove the rules of `ours`, of both tables as `iptables -S` prints them; nothing when
/// there are none.
fn removal(nat: &str, filter: &str, ours: &BTreeSet<String>) -> String {
    let owner = |rule: &str| Some(rule.split_once(r#" id: \""#)?.1.split_once(r#"\""#)?.0.to_owned());
    let address = |rule: &str| Some(rule.strip_prefix("-A POSTROUTING -s ")?.split_once(' ')?.0.to_owned());
    // The rules that lead to a container's chains: only they and what is in those chains name it.
    let leads = |rule: &&str| rule.starts_with("-A POSTROUTING ") || rule.starts_with("-A CNI-HOSTPORT-DNAT ");
    let (own, others): (Vec<&str>, Vec<&str>) =
        nat.lines().filter(leads).partition(|rule| owner(rule).is_some_and(|id| ours.contains(&id)));
    let chains: BTreeSet<&str> =
        own.iter().filter_map(|rule| Some(rule.rsplit_once(" -j ")?.1)).filter(|c| is_hash(c)).collect();
    // A rule of the firewall's says no more than the address, which another container may have, too.
    let taken: BTreeSet<String> = others.iter().filter_map(|rule| address(rule)).collect();
    let free: BTreeSet<String> = own.iter().filter_map(|rule| address(rule)).filter(|a| !taken.contains(a)).collect();
    let firewall = |rule: &&str| rule.starts_with("-A CNI-FORWARD ") && rule.split(' ').any(|word| free.contains(word));
    let delete = |rule: &str| rule.replacen("-A", "-D", 1);
    let emptied = chains.iter().flat_map(|chain| [format!("-F {chain}"), format!("-X {chain}")]);
    let nat: Vec<String> = own.iter().map(|rule| delete(rule)).chain(emptied).collect();
    let filter: Vec<String> = filter.lines().filter(firewall).map(delete).collect();
    let table = |name: &str, lines: Vec<String>| {
        if lines.is_empty() { String::new() } else { format!("*{name}\n{}\nCOMMIT\n", lines.join("\n")) }
    };
    table("nat", nat) + &table("filter", filter)
}

/// A chain of one container, named by a hash (docs/reference/cni.md#rules-left-behind).
fn is_hash(chain: &str) -> bool {
    let hash = chain.strip_prefix("CNI-").map(|rest| rest.strip_prefix("DN-").unwrap_or(rest));
    chain.len() == 28 && hash.is_some_and(|hash| hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "default-654418952b9f5600d56779e6199586ab13e32a414da72e2dc25322d2e45e57aa";
    const OTHER: &str = "default-9da7c845f924c26f7a3a8903011543358b64bdc403421d46146b7d7a85d11102";

    /// As `iptables -S` of 1.8.9 printed the rules of two containers of nerdctl 2.1.6 with the plugins 1.1.1, one of which
    /// was our killed daemon's.
    fn nat() -> String {
        let container = |id: &str, masq: &str, dnat: &str, address: &str, port: u16| {
            format!(
                r#"-N {masq}
-N {dnat}
-A POSTROUTING -s {address}/32 -m comment --comment "name: \"bridge\" id: \"{id}\"" -j {masq}
-A {masq} ! -d 224.0.0.0/4 -m comment --comment "name: \"bridge\" id: \"{id}\"" -j MASQUERADE
-A {dnat} -d 127.0.0.1/32 -p tcp -m tcp --dport {port} -j DNAT --to-destination {address}:80
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"bridge\" id: \"{id}\"" -m multiport --dports {port} -j {dnat}
"#
            )
        };
        [
            "-P PREROUTING ACCEPT\n-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n",
            "-A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ\n",
            &container(OURS, "CNI-8e522d9688787b5f65d21b54", "CNI-DN-8e522d9688787b5f65d21", "10.5.37.2", 45877),
            &container(OTHER, "CNI-f437a8951692013fd117d89e", "CNI-DN-f437a8951692013fd117d", "10.4.0.3", 18098),
        ]
        .concat()
    }

    const FILTER: &str = "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD\n\
        -A CNI-FORWARD -d 10.5.37.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
        -A CNI-FORWARD -s 10.5.37.2/32 -j ACCEPT\n\
        -A CNI-FORWARD -s 10.5.37.20/32 -j ACCEPT\n-A CNI-FORWARD -s 10.4.0.3/32 -j ACCEPT\n";

    fn ours() -> BTreeSet<String> {
        [OURS.to_owned()].into()
    }

    #[test]
    fn all_of_our_containers_rules_go_and_nobody_elses() {
        let comment = |word: &str| format!(r#"-m comment --comment "{word}name: \"bridge\" id: \"{OURS}\"""#);
        let expected = [
            "*nat",
            &format!("-D POSTROUTING -s 10.5.37.2/32 {} -j CNI-8e522d9688787b5f65d21b54", comment("")),
            &format!(
                "-D CNI-HOSTPORT-DNAT -p tcp {} -m multiport --dports 45877 -j CNI-DN-8e522d9688787b5f65d21",
                comment("dnat ")
            ),
            "-F CNI-8e522d9688787b5f65d21b54",
            "-X CNI-8e522d9688787b5f65d21b54",
            "-F CNI-DN-8e522d9688787b5f65d21",
            "-X CNI-DN-8e522d9688787b5f65d21",
            "COMMIT",
            "*filter",
            "-D CNI-FORWARD -d 10.5.37.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-D CNI-FORWARD -s 10.5.37.2/32 -j ACCEPT",
            "COMMIT\n",
        ];
        assert_eq!(removal(&nat(), FILTER, &ours()), expected.join("\n"));
        // After a stop that went well.
        assert_eq!(removal(&nat(), FILTER, &BTreeSet::from(["default-1f".to_owned()])), "");
    }

    #[test]
    fn an_address_or_a_chain_that_is_somebody_elses_too_stays() {
        let shared = nat().replace("10.4.0.3", "10.5.37.2");
        assert!(!removal(&shared, FILTER, &ours()).contains("*filter"));
        let crafted = format!(r#"-A POSTROUTING -m comment --comment " id: \"{OURS}\"" -j CNI-HOSTPORT-MASQ"#);
        assert!(!removal(&crafted, "", &ours()).contains("-X"));
    }

    #[test]
    fn containers_are_those_that_nerdctl_keeps_a_directory_of() {
        let data = tempfile::tempdir().unwrap();
        for dir in ["1935db59/containers/default/1f", "1935db59/containers/k8s.io/2f", "1935db59/volumes/default/v"] {
            std::fs::create_dir_all(data.path().join(dir)).unwrap();
        }
        assert_eq!(containers(data.path()), BTreeSet::from(["default-1f".to_owned(), "k8s.io-2f".to_owned()]));
    }
}

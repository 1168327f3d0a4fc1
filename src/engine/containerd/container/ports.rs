//! Ports of a container to be made: whether they can be published, and who keeps them.

use std::{
    borrow::Cow,
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::super::prelude::*;
use crate::{engine::host, guest::BEGAN, random};

/// Ports of an address that the engine's machine does not have would be published nowhere, and nobody told: nerdctl makes
/// firewall rules of them.
pub(crate) async fn check_addresses(c: &Containerd, spec: &ContainerSpec) -> Result<()> {
    let mut asked = Vec::new();
    for (container, host) in &spec.ports {
        let ip = validate::port_mapping(container, host)?.host_ip;
        asked.extend(ip.filter(|ip| !ip.is_loopback() && !ip.is_unspecified()).map(|ip| (container, ip)));
    }
    if asked.is_empty() {
        return Ok(());
    }
    // IPv4: addresses above `/32 host LOCAL`; IPv6: 32 digits.
    let text = c.guest().run(c.inside(["cat", "/proc/net/fib_trie", "/proc/net/if_inet6"])).await?.stdout;
    let own = own_addresses(&String::from_utf8_lossy(&text));
    match asked.iter().find(|(_, ip)| !own.contains(ip)) {
        Some((port, ip)) => {
            Err(Error::invalid(format!("ports.{port}"), format!("{ip} is no address of the engine's machine"))
                .hint("Publish on 127.0.0.1, on one of its own addresses, or on none in particular."))
        }
        None => Ok(()),
    }
}

pub(crate) fn own_addresses(text: &str) -> HashSet<IpAddr> {
    let mut own = HashSet::new();
    let mut last: Option<IpAddr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.ends_with("host LOCAL") {
            own.extend(last);
        } else if let Some(number) = line.get(..32).and_then(|digits| u128::from_str_radix(digits, 16).ok()) {
            own.insert(IpAddr::from(Ipv6Addr::from(number)));
        }
    }
    own
}

/// IANA's ports for what chooses its own.
const DYNAMIC: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// `spec` with ports in the place of those that the engine is to choose. nerdctl's own choice is always the first one that nobody
/// listens on, which another container may have that does not run yet; without root it makes none.
pub(crate) async fn with_chosen_ports<'a>(c: &Containerd, spec: &'a ContainerSpec) -> Result<Cow<'a, ContainerSpec>> {
    const READ: &str = "cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 2>/dev/null; :";
    let mut chosen = Cow::Borrowed(spec);
    if host::asked_for(spec).iter().all(|(_, port)| *port > 0) {
        return Ok(chosen);
    }
    let text = c.guest().run(c.inside(["sh", "-c", READ])).await?.checked("sh")?;
    let mut taken = listening(&String::from_utf8_lossy(&text));
    let all = c.everything().await?;
    let kept = c.kept_of(&all, true).await?;
    taken.extend(kept.values().flat_map(|k| &k.ports).filter_map(|p| p.host_port));
    taken.extend(host::published(spec).iter().map(|(_, port)| *port));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in the range of the two")]
    let from = DYNAMIC.start() + (random::fraction() * f64::from(DYNAMIC.end() - DYNAMIC.start())) as u16;
    let mut free = (from..=*DYNAMIC.end()).chain(*DYNAMIC.start()..from).filter(|port| !taken.contains(port));
    for (container, host) in &mut chosen.to_mut().ports {
        let mapping = validate::port_mapping(container, host)?;
        if mapping.host_port > 0 {
            continue;
        }
        let port = loop {
            let Some(port) = free.next() else {
                return Err(Error::new(ErrorCode::PortInUse, "No port is free from 49152 on"));
            };
            match &c.settings.host {
                Some(around) => match around.check_ports(&[(mapping.protocol, port)]).await {
                    Err(e) if e.code() == ErrorCode::PortInUse => {}
                    other => break other.map(|()| port)?,
                },
                None => break port,
            }
        };
        let address = host.rsplit_once(':').map(|(address, _)| format!("{address}:")).unwrap_or_default();
        *host = format!("{address}{port}");
    }
    Ok(chosen)
}

/// The local ports of the kernel's tables of sockets.
fn listening(tables: &str) -> HashSet<u16> {
    let port = |line: &str| u16::from_str_radix(line.split_whitespace().nth(1)?.rsplit_once(':')?.1, 16).ok();
    tables.lines().filter_map(port).collect()
}

/// One host port leads to one port of the container: nerdctl makes both, and one of them is never reached.
pub(crate) fn check_ports(spec: &ContainerSpec) -> Result<()> {
    let mut taken: Vec<validate::PortMapping> = Vec::new();
    for (container, host) in &spec.ports {
        let port = validate::port_mapping(container, host)?;
        let address = |port: &validate::PortMapping| port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let same = |other: &&validate::PortMapping| {
            let (a, b) = (address(other), address(&port));
            let meet = a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified());
            meet && other.host_port == port.host_port && other.protocol == port.protocol
        };
        if let Some(other) = taken.iter().find(same) {
            let text = format!("Host port {} is given to two ports of the container", port.host_port);
            return Err(Error::new(ErrorCode::PortInUse, text)
                .detail("port", port.host_port)
                .detail("field", format!("ports.{container}"))
                .hint(format!("Choose another one for {} or {}.", other.container_port, port.container_port)));
        }
        taken.push(port);
    }
    Ok(())
}

/// Ends the process that the file `$1` names, when it is a `sleep` that holds one of the ports after it, in the kernel's
/// writing (docs/reference/nerdctl.md#ports-kept): its number may be another's by now.
const FREE: &str = r#"
pid=$(cat "$1") && shift || exit 1
case $pid in '' | *[!0-9]*) exit 1 ;; esac
[ "$(tr '\0' ' ' <"/proc/$pid/cmdline")" = 'sleep infinity ' ] || exit 1
began "$pid" || exit 1
since=$at sockets=
for table in tcp tcp6 udp udp6; do
  while read -r _ local _ _ _ _ _ _ _ inode _; do
    for port; do [ "${local##*:}" != "$port" ] || sockets="$sockets socket:[$inode]"; done
  done <"/proc/$pid/net/$table"
done
for fd in "/proc/$pid/fd"/*; do
  case "$sockets " in
    *" $(readlink "$fd") "*)
      began "$pid" && [ "$at" = "$since" ] && kill "$pid"
      exit
      ;;
  esac
done
exit 1
"#;

/// nerdctl keeps the host ports of a container that ended (docs/reference/nerdctl.md#ports-kept). Frees those that
/// stand in the way; whether there were any.
pub(crate) async fn free_ports(c: &Containerd, spec: &ContainerSpec) -> Result<bool> {
    let wanted = host::published(spec);
    let all = c.everything().await?;
    let kept = c.kept_of(&all, true).await?;
    let mut freed = false;
    for (container, task) in &all {
        let ended = task.as_ref().is_none_or(|t| t.exit_code.is_some());
        let has = kept.get(&container.id).is_some_and(|k| {
            k.ports.iter().any(|p| p.host_port.is_some_and(|port| wanted.contains(&(p.protocol, port))))
        });
        if ended && has {
            let file = format!("/run/nerdctl/{}/{}/port-reserver.pid", c.namespace(), container.id);
            let ports = wanted.iter().map(|(_, port)| format!("{port:04X}"));
            let script = [BEGAN, FREE].concat();
            let argv = ["sh", "-c", &script, "sh", &file].map(str::to_owned).into_iter().chain(ports);
            freed |= c.guest().run(c.inside(argv)).await?.success();
            // From 2.3 on nerdctl ends whoever has the number in it.
            c.guest().run(c.inside(["rm", "-f", "--", &file])).await?.checked("rm")?;
            // The network: a stop of what has ended does nothing else.
            _ = c.nerdctl.write(About::Container(&container.id), ["stop", &container.id]).await;
        }
    }
    Ok(freed)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    own_addresses(&String::from_utf8_lossy(data));
    listening(&String::from_utf8_lossy(data));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A process like nerdctl's, which holds `port` where one is given.
    #[cfg(target_os = "linux")]
    fn reserver(time: &str, port: Option<std::net::TcpListener>) -> std::process::Child {
        let mut command = std::process::Command::new("sleep");
        command.arg(time);
        if let Some(port) = port {
            command.stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(port)));
        }
        command.spawn().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_port_is_freed_by_ending_who_holds_it_and_nobody_else() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = port.local_addr().unwrap().port();
        let file = tempfile::NamedTempFile::new().unwrap();
        let socket = port.try_clone().unwrap();
        let mut holder = reserver("infinity", Some(port));
        let mut other = reserver("infinity", None);
        let mut server = reserver("1000", Some(socket));
        let free = |pid: &str, port: u16| {
            // As nerdctl writes it, without a newline.
            std::fs::write(file.path(), pid).unwrap();
            let mut command = std::process::Command::new("sh");
            command
                .args(["-c", &[BEGAN, FREE].concat(), "sh"])
                .arg(file.path())
                .args([format!("{port:04X}"), "0001".into()]);
            command.stderr(std::process::Stdio::null()).status().unwrap().success()
        };
        // The number was given anew, to a process with the same words, to one with the port; the one whose port is not
        // wanted; no number.
        assert!(!free(&other.id().to_string(), number));
        assert!(!free(&server.id().to_string(), number));
        assert!(!free(&holder.id().to_string(), number ^ 1));
        for pid in ["", "0", "-1", "1 2", "x", "$(kill 0)"] {
            assert!(!free(pid, number), "{pid}");
        }
        for child in [&mut holder, &mut other, &mut server] {
            assert!(child.try_wait().unwrap().is_none());
        }
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(free(&holder.id().to_string(), number));
        holder.wait().unwrap();
        std::net::TcpListener::bind(("127.0.0.1", number)).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn one_host_port_leads_to_one_port() {
        let check = |ports: &[(&str, &str)]| {
            let ports: BTreeMap<_, _> = ports.iter().copied().collect();
            check_ports(
                &serde_json::from_value(serde_json::json!({ "name": "web", "image": "i", "ports": ports })).unwrap(),
            )
        };
        for twice in [
            [("80", "8080"), ("81", "8080")],
            [("80", "127.0.0.1:8080"), ("81", "8080")],
            [("80", "0.0.0.0:8080"), ("81", "10.0.0.1:8080")],
            [("80/udp", "[::1]:53"), ("81/udp", "[::]:53")],
        ] {
            let e = check(&twice).unwrap_err();
            assert_eq!(
                (e.code(), e.details()["field"].as_str()),
                (ErrorCode::PortInUse, Some(&*format!("ports.{}", twice[1].0)))
            );
        }
        for apart in [
            [("80", "8080"), ("81", "8081")],
            [("80", "8080"), ("80/udp", "8080")],
            [("80", "127.0.0.1:8080"), ("81", "127.0.0.2:8080")],
            [("80", "127.0.0.1:8080"), ("81", "[::]:8080")],
        ] {
            assert!(check(&apart).is_ok(), "{apart:?}");
        }
    }

    #[test]
    fn ports_that_somebody_has() {
        let text = "  sl  local_address rem_address   st\n   0: 0100007F:C350 00000000:0000 0A\n\
                    0: 00000000000000000000000001000000:0035 0000:0000 07\n junk\n";
        assert_eq!(listening(text), HashSet::from([50_000, 53]));
    }

    #[test]
    fn the_machines_addresses() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.4.0.0/24 2 0 2\n           \
                    |-- 10.4.0.7\n              /32 host LOCAL\n        |-- 10.4.0.255\n           /32 link BROADCAST\n\
                    fe80000000000000a00027fffe4e66a1 02 40 20 80     eth0\n";
        let own = own_addresses(text);
        assert_eq!(own, ["10.4.0.7", "fe80::a000:27ff:fe4e:66a1"].map(|a| a.parse().unwrap()).into());
        assert!(own_addresses("cat: no such file").is_empty());
    }
}

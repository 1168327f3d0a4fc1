//! A container's settings as `nerdctl create` takes them, and which of them it cannot carry out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{super::prelude::*, find::find, mounts};
use crate::{
    engine::config::{self, SecurityOpt, container_of, memory_swap, security_opt, whole},
    size,
};

/// The log drivers of nerdctl, each with its options: it leaves out what it does not know. An address in a driver's place is a
/// program to be run; with `none` the output goes to who starts the container, and ends with it
/// (docs/reference/nerdctl.md#flags-of-create).
const LOG_DRIVERS: [(&str, &[&str]); 4] = [
    (JSON_FILE, &["max-size", "max-file"]),
    ("journald", &["tag", "env", "labels"]),
    (
        "fluentd",
        &[
            "fluentd-address",
            "fluentd-async",
            "fluentd-buffer-limit",
            "fluentd-retry-wait",
            "fluentd-max-retries",
            "fluentd-sub-second-precision",
            "fluentd-async-reconnect-interval",
            "fluentd-request-ack",
            "tag",
        ],
    ),
    (
        "syslog",
        &[
            "syslog-address",
            "syslog-facility",
            "syslog-tls-ca-cert",
            "syslog-tls-cert",
            "syslog-tls-key",
            "syslog-tls-skip-verify",
            "syslog-format",
            "tag",
        ],
    ),
];
/// What nerdctl logs with if nothing else is said.
pub(crate) const JSON_FILE: &str = "json-file";
/// The first nerdctl whose `--ipc=container:` shares more than `/dev/shm` (pkg/ipcutil/ipcutil.go).
const SHARES_IPC: (u32, u32, u32) = (2, 3, 5);

/// What is refused here although Docker has it; nothing is left out silently.
pub(crate) fn check(spec: &ContainerSpec, version: (u32, u32, u32)) -> Result<()> {
    let refuse = |field: String, why: &str| Err(Error::invalid(field, format!("nerdctl {why}")));
    if spec.stdin && !spec.tty {
        return Err(Error::invalid("stdin", "nerdctl keeps standard input open only together with a terminal")
            .hint("Add tty: true, or run the program by itself with its own input."));
    }
    for (i, mount) in spec.mounts.iter().enumerate() {
        if mount.subpath.is_some() {
            return refuse(format!("mounts[{i}].subpath"), "mounts whole volumes alone");
        }
    }
    for (i, option) in spec.security_opt.iter().enumerate() {
        let field = format!("securityOpt[{i}]");
        match security_opt(&field, option)? {
            SecurityOpt::Seccomp(profile) if profile != "unconfined" => {
                return refuse(field, "takes a profile only as a file of its machine");
            }
            SecurityOpt::Label(_) => return refuse(field, "gives no SELinux labels"),
            _ => {}
        }
    }
    spec.logging.as_ref().map_or(Ok(()), check_logging)?;
    if spec.ipc_mode.as_deref() == Some("none") {
        return refuse("ipcMode".into(), "always gives the container a /dev/shm");
    }
    if spec.ipc_mode.as_deref().is_some_and(|m| container_of(m).is_some()) && version < SHARES_IPC {
        return refuse("ipcMode".into(), "before 2.3.5 shares only /dev/shm with another container");
    }
    let addressed = |o: &EndpointOptions| o.ipv4.is_some() || o.ipv6.is_some() || o.mac.is_some();
    if spec.networks.len() > 1
        && let Some((network, _)) = spec.network_options.iter().find(|(_, o)| addressed(o))
    {
        return refuse(format!("networkOptions.{network}"), "gives an address only in the one network of a container");
    }
    Ok(())
}

fn check_logging(Logging { driver, options }: &Logging) -> Result<()> {
    let Some((_, known)) = LOG_DRIVERS.iter().find(|(name, _)| name == driver) else {
        let all = LOG_DRIVERS.map(|(name, _)| name).join(", ");
        return Err(Error::invalid("logging.driver", format!("nerdctl has no log driver {driver}"))
            .hint(format!("It has {all}.")));
    };
    if let Some(key) = options.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Error::invalid(format!("logging.options.{key}"), format!("is no option of nerdctl's {driver}"))
            .hint(format!("There is: {}.", known.join(", "))));
    }
    if options.contains_key("max-file") && !options.contains_key("max-size") {
        return Err(Error::invalid("logging.options.max-file", "counts only together with max-size"));
    }
    Ok(())
}

/// What depends on the engine's machine.
pub(crate) async fn check_machine(c: &Containerd, spec: &ContainerSpec) -> Result<()> {
    check_limits(c, &spec.resources).await?;
    let profile = |text: &String| matches!(security_opt("", text), Ok(SecurityOpt::AppArmor(p)) if p != "unconfined");
    if let Some(i) = spec.security_opt.iter().position(profile) {
        const ENABLED: &str = "[ \"$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)\" = Y ]";
        if !c.guest().run(c.command(["sh", "-c", ENABLED])).await?.success() {
            return Err(Error::invalid(format!("securityOpt[{i}]"), "the engine's machine has no AppArmor"));
        }
    }
    for (i, text) in spec.devices.iter().enumerate() {
        let device = config::device("", text)?;
        let argv = ["sh", "-c", r#"[ -b "$1" ] || [ -c "$1" ] || [ -d "$1" ]"#, "sh", device.host];
        if !c.guest().run(c.command(argv)).await?.success() {
            let problem = format!("{:?} is no device of the engine's machine", device.host);
            return Err(Error::invalid(format!("devices[{i}]"), problem));
        }
    }
    Ok(())
}

pub(crate) async fn check_limits(c: &Containerd, r: &Resources) -> Result<()> {
    if r.cpus.is_some() || r.cpuset.is_some() {
        check_cpus(c, r).await?;
    }
    if c.settings.rootless.is_some() { check_rootless(c, r).await } else { Ok(()) }
}

/// nerdctl leaves the CPUs to the kernel, which says nothing of the field.
async fn check_cpus(c: &Containerd, r: &Resources) -> Result<()> {
    let out = c.guest().run(c.command(["cat", "/sys/devices/system/cpu/online"])).await?.checked("cat")?;
    let there = cpu_numbers(String::from_utf8_lossy(&out).trim());
    if let Some(wanted) = r.cpus {
        config::cpus(wanted, there.len() as u64)?;
    }
    let set = r.cpuset.as_deref().map(cpu_numbers).unwrap_or_default();
    match set.iter().find(|cpu| !there.contains(cpu)) {
        Some(cpu) => {
            Err(Error::invalid("resources.cpuset", format!("the engine's machine has no CPU of the number {cpu}")))
        }
        None => Ok(()),
    }
}

/// Of `0-3,5`.
fn cpu_numbers(set: &str) -> Vec<u16> {
    let numbers = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse::<u16>().ok()?..=to.parse().ok()?)
    };
    set.split(',').filter_map(numbers).flatten().collect()
}

async fn check_rootless(c: &Containerd, r: &Resources) -> Result<()> {
    // nerdctl raises it to this, with a warning that nobody sees (pkg/cmd/container/run_linux.go).
    if let Some(score) = r.oom_score_adj.filter(|score| *score < 100.0) {
        let problem = format!("{score} is below 100, the least without root");
        return Err(Error::invalid("resources.oomScoreAdj", problem));
    }
    // These are left out with control groups of version 1 (pkg/cmd/container/run_cgroup_linux.go).
    let mut limits = Vec::new();
    changeable(&mut |_, value| limits.extend(value), r);
    limits.extend(r.cpus.map(|n| n.to_string()));
    let version_2 = ["test", "-e", "/sys/fs/cgroup/cgroup.controllers"];
    if !limits.is_empty() && !c.guest().run(c.command(version_2)).await?.success() {
        return Err(Error::invalid("resources", "without root, limits need control groups of version 2"));
    }
    Ok(())
}

/// The flags. `check` has looked at `spec`.
pub(crate) async fn of(c: &Containerd, spec: &ContainerSpec) -> Result<Vec<String>> {
    let mut args = plain(spec)?;
    for (i, mount) in spec.mounts.iter().enumerate() {
        args.push(mounts::mount(c, i, mount).await?);
    }
    for target in spec.tmpfs.keys() {
        mounts::mountable(&format!("tmpfs.{target}"), target)?;
    }
    // By its id: nerdctl takes a name for the beginning of one, too, and `--pid`'s in small letters.
    for (flag, mode) in [("network", &spec.network_mode), ("pid", &spec.pid_mode), ("ipc", &spec.ipc_mode)] {
        match mode.as_deref().map(|mode| (mode, container_of(mode))) {
            Some((_, Some(other))) => args.push(format!("--{flag}=container:{}", find(c, other).await?.id)),
            Some((mode, None)) => args.push(format!("--{flag}={mode}")),
            None => {}
        }
    }
    Ok(args)
}

/// Those that need no look at the machine.
fn plain(spec: &ContainerSpec) -> Result<Vec<String>> {
    let mut args: Vec<String> = Vec::new();
    let mut flag = |name: &str, value: Option<String>| args.extend(value.map(|value| format!("--{name}={value}")));
    let text = |value: &Option<String>| value.clone();
    if let Some(entrypoint) = &spec.entrypoint {
        // The first of `command`, where the image's own is to go.
        let program = if entrypoint.is_empty() { spec.command.get(..1).unwrap_or_default() } else { entrypoint };
        for word in program {
            flag("entrypoint", Some(word.clone()));
        }
    }
    flag("user", text(&spec.user));
    flag("workdir", text(&spec.workdir));
    flag("hostname", text(&spec.hostname));
    flag("domainname", text(&spec.domainname));
    // Also for a runc before 1.2, which heeds nothing else.
    flag("sysctl", spec.domainname.as_ref().map(|name| format!("kernel.domainname={name}")));
    flag("tty", spec.tty.then(|| "true".to_owned()));
    flag("init", spec.init.map(|init| init.to_string()));
    flag("read-only", spec.read_only_rootfs.then(|| "true".to_owned()));
    flag("privileged", spec.privileged.then(|| "true".to_owned()));
    flag("runtime", text(&spec.runtime));
    for (name, values) in [
        ("cap-add", &spec.cap_add),
        ("cap-drop", &spec.cap_drop),
        ("group-add", &spec.group_add),
        ("device", &spec.devices),
        ("dns", &spec.dns),
        ("dns-search", &spec.dns_search),
        ("dns-option", &spec.dns_options),
    ] {
        for value in values {
            flag(name, Some(value.clone()));
        }
    }
    for (i, option) in spec.security_opt.iter().enumerate() {
        flag("security-opt", Some(security_opt(&format!("securityOpt[{i}]"), option)?.to_string()));
    }
    match &spec.gpus {
        Some(Gpus::All) => flag("gpus", Some("all".to_owned())),
        Some(Gpus::Count(n)) => flag("gpus", Some(whole(*n).to_string())),
        // CSV: a list with commas is one field.
        Some(Gpus::Devices(ids)) => flag("gpus", Some(format!("\"device={}\"", ids.join(",")))),
        None => {}
    }
    let limit = |n: f64| whole(n).to_string();
    for (name, Ulimit { soft, hard }) in &spec.ulimits {
        flag("ulimit", Some(format!("{name}={}:{}", limit(*soft), limit(*hard))));
    }
    pairs(&mut flag, "sysctl", "=", &spec.sysctls);
    pairs(&mut flag, "add-host", ":", &spec.extra_hosts);
    pairs(&mut flag, "annotation", "=", &spec.annotations);
    for (target, options) in &spec.tmpfs {
        flag("tmpfs", Some(mounts::tmpfs(target, options)));
    }
    if let Some(Logging { driver, options }) = &spec.logging {
        flag("log-driver", Some(driver.clone()));
        pairs(&mut flag, "log-opt", "=", options);
    }
    // One network, by `check`.
    for options in spec.network_options.values() {
        flag("ip", text(&options.ipv4));
        flag("ip6", text(&options.ipv6));
        flag("mac-address", text(&options.mac));
    }
    resources(&mut flag, &spec.resources);
    Ok(args)
}

fn pairs(flag: &mut impl FnMut(&str, Option<String>), name: &str, mark: &str, all: &BTreeMap<String, String>) {
    for (key, value) in all {
        flag(name, Some(format!("{key}{mark}{value}")));
    }
}

fn bytes(value: Option<&Value>) -> Option<String> {
    value.and_then(size::read).map(|bytes| bytes.to_string())
}

fn resources(flag: &mut impl FnMut(&str, Option<String>), r: &Resources) {
    flag("cpus", r.cpus.map(|n| n.to_string()));
    flag("shm-size", bytes(r.shm_size.as_ref()));
    flag("oom-score-adj", r.oom_score_adj.map(|n| whole(n).to_string()));
    changeable(flag, r);
}

/// Those of `update`, too.
fn changeable(flag: &mut impl FnMut(&str, Option<String>), r: &Resources) {
    flag("cpu-shares", r.cpu_shares.map(|n| whole(n).to_string()));
    flag("cpuset-cpus", r.cpuset.clone());
    flag("memory", bytes(r.memory.as_ref()));
    flag("memory-swap", r.memory_swap.as_ref().and_then(memory_swap).map(|n| n.to_string()));
    flag("memory-reservation", bytes(r.memory_reservation.as_ref()));
    flag("pids-limit", r.pids.map(|n| whole(n).to_string()));
}

/// The flags of `nerdctl update`.
pub(crate) fn update(r: &Resources) -> Vec<String> {
    const PERIOD: f64 = 100_000.0;
    let mut args: Vec<String> = Vec::new();
    let mut flag = |name: &str, value: Option<String>| args.extend(value.map(|value| format!("--{name}={value}")));
    // Its `--cpus` empties the cpuset and changes nothing else (cmd/nerdctl/container/container_update.go).
    flag("cpu-quota", r.cpus.map(|n| whole((n * PERIOD).round()).to_string()));
    flag("cpu-period", r.cpus.map(|_| whole(PERIOD).to_string()));
    changeable(&mut flag, r);
    args
}

/// What follows the image: the rest of the command.
pub(crate) fn command(spec: &ContainerSpec) -> &[String] {
    match &spec.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => spec.command.get(1..).unwrap_or_default(),
        _ => &spec.command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::spec;
    use serde_json::json;

    #[test]
    fn every_setting_reaches_nerdctl() {
        let spec = spec(&json!({
            "entrypoint": ["a", "b c"], "command": ["d"], "user": "1:2", "workdir": "/w", "hostname": "h", "domainname": "d.e", "tty": true,
            "init": false, "readOnlyRootfs": true, "privileged": true, "runtime": "runc", "capAdd": ["NET_ADMIN"], "capDrop": ["ALL"],
            "groupAdd": ["7"], "devices": ["/dev/a:/dev/b:r"], "dns": ["1.1.1.1"], "dnsSearch": ["s"], "dnsOptions": ["o"],
            "securityOpt": ["no-new-privileges", "systempaths=unconfined"], "gpus": ["0", "1"],
            "ulimits": { "nofile": { "soft": 1, "hard": -1 } }, "sysctls": { "net.x": "1 2" }, "extraHosts": { "a": "host-gateway" },
            "annotations": { "k": "v=w" }, "tmpfs": { "/t": { "size": "1MiB", "mode": 0o1770 }, "/u": {} },
            "logging": { "driver": "json-file", "options": { "max-size": "1m" } }, "networks": ["n1"],
            "networkOptions": { "n1": { "ipv4": "10.1.2.3", "ipv6": "fd00::2", "mac": "02:42:ac:11:00:02" } },
            "resources": { "cpus": 1.5, "cpuShares": 512, "cpuset": "0", "memory": "64MiB", "memorySwap": -1, "memoryReservation": "32MiB",
                "pids": 50, "shmSize": "1MiB", "oomScoreAdj": 100 },
        }));
        let flags = [
            "--entrypoint=a",
            "--entrypoint=b c",
            "--user=1:2",
            "--workdir=/w",
            "--hostname=h",
            "--domainname=d.e",
            "--sysctl=kernel.domainname=d.e",
            "--tty=true",
            "--init=false",
            "--read-only=true",
            "--privileged=true",
            "--runtime=runc",
            "--cap-add=NET_ADMIN",
            "--cap-drop=ALL",
            "--group-add=7",
            "--device=/dev/a:/dev/b:r",
            "--dns=1.1.1.1",
            "--dns-search=s",
            "--dns-option=o",
            "--security-opt=no-new-privileges=true",
            "--security-opt=systempaths=unconfined",
            "--gpus=\"device=0,1\"",
            "--ulimit=nofile=1:-1",
            "--sysctl=net.x=1 2",
            "--add-host=a:host-gateway",
            "--annotation=k=v=w",
            "--tmpfs=/t:size=1048576,mode=1770",
            "--tmpfs=/u",
            "--log-driver=json-file",
            "--log-opt=max-size=1m",
            "--ip=10.1.2.3",
            "--ip6=fd00::2",
            "--mac-address=02:42:ac:11:00:02",
            "--cpus=1.5",
            "--shm-size=1048576",
            "--oom-score-adj=100",
            "--cpu-shares=512",
            "--cpuset-cpus=0",
            "--memory=67108864",
            "--memory-swap=-1",
            "--memory-reservation=33554432",
            "--pids-limit=50",
        ];
        assert_eq!(plain(&spec).unwrap(), flags);
        assert_eq!(command(&spec), ["d"]);
        assert!(plain(&ContainerSpec::default()).unwrap().is_empty());
    }

    #[test]
    fn without_an_entrypoint_the_command_is_the_program() {
        let spec = spec(&json!({ "entrypoint": [], "command": ["sh", "-c", "x"] }));
        assert_eq!(
            (plain(&spec).unwrap(), command(&spec)),
            (vec!["--entrypoint=sh".to_owned()], &["-c".into(), "x".into()][..])
        );
    }

    #[test]
    fn what_nerdctl_lacks_is_refused_by_name() {
        for (more, field) in [
            (json!({ "stdin": true }), "stdin"),
            (
                json!({ "mounts": [{ "type": "volume", "source": "data", "target": "/d", "subpath": "x" }] }),
                "mounts[0].subpath",
            ),
            (json!({ "securityOpt": ["seccomp={}"] }), "securityOpt[0]"),
            (json!({ "securityOpt": ["no-new-privileges", "label=x"] }), "securityOpt[1]"),
            (json!({ "logging": { "driver": "gelf" } }), "logging.driver"),
            (json!({ "logging": { "driver": "binary:/bin/sh" } }), "logging.driver"),
            (
                json!({ "logging": { "driver": "json-file", "options": { "log-path": "/etc/x" } } }),
                "logging.options.log-path",
            ),
            (
                json!({ "logging": { "driver": "json-file", "options": { "max-file": "2" } } }),
                "logging.options.max-file",
            ),
            (json!({ "ipcMode": "none" }), "ipcMode"),
            (json!({ "ipcMode": "container:x" }), "ipcMode"),
            (
                json!({ "networks": ["n1", "n2"], "networkOptions": { "n2": { "mac": "02:42:ac:11:00:02" } } }),
                "networkOptions.n2",
            ),
        ] {
            assert_eq!(check(&spec(&more), (2, 1, 6)).unwrap_err().details()["field"], field, "{more}");
        }
        let fine = json!({ "stdin": true, "tty": true, "ipcMode": "container:x", "securityOpt": ["seccomp=unconfined"],
            "networks": ["n1", "n2"], "networkOptions": { "n2": { "aliases": ["a"] } } });
        assert!(check(&spec(&fine), (2, 3, 5)).is_ok());
    }

    #[test]
    fn processors_are_told_by_their_numbers() {
        assert_eq!(cpu_numbers("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(cpu_numbers("0"), [0]);
        assert!(cpu_numbers("").is_empty() && cpu_numbers("3-1").is_empty());
    }

    #[test]
    fn an_update_gives_cpus_as_a_quota() {
        let r: Resources = serde_json::from_value(json!({ "cpus": 0.5, "memory": "64MiB", "pids": -1 })).unwrap();
        assert_eq!(update(&r), ["--cpu-quota=50000", "--cpu-period=100000", "--memory=67108864", "--pids-limit=-1"]);
    }
}

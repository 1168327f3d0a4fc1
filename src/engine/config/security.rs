//! What gives a container powers over the engine's machine.

use super::{
    super::{
        types::{ContainerSpec, Resources, Ulimit},
        validate::{MAX_VALUE_LENGTH, shown, text},
    },
    values::container_of,
};
use crate::error::{Error, Result};

/// An entry of `securityOpt`, of those that every engine means alike.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum SecurityOpt<'a> {
    NoNewPrivileges(bool),
    /// `unconfined`, or a profile's JSON.
    Seccomp(&'a str),
    AppArmor(&'a str),
    /// SELinux's.
    Label(&'a str),
    SystemPathsUnconfined,
}

/// As programs of the command line take it.
impl std::fmt::Display for SecurityOpt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoNewPrivileges(on) => write!(f, "no-new-privileges={on}"),
            Self::Seccomp(profile) => write!(f, "seccomp={profile}"),
            Self::AppArmor(profile) => write!(f, "apparmor={profile}"),
            Self::Label(label) => write!(f, "label={label}"),
            Self::SystemPathsUnconfined => f.write_str("systempaths=unconfined"),
        }
    }
}

pub(in super::super) fn security_opt<'a>(field: &str, given: &'a str) -> Result<SecurityOpt<'a>> {
    text(field, given, MAX_VALUE_LENGTH)?;
    let (name, value) = given.split_once(['=', ':']).unwrap_or((given, ""));
    let is_word = |value: &str| {
        !value.is_empty()
            && value.len() <= 256
            && value.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-/+,".contains(c))
    };
    match (name, value) {
        ("no-new-privileges", "" | "true") => Ok(SecurityOpt::NoNewPrivileges(true)),
        ("no-new-privileges", "false") => Ok(SecurityOpt::NoNewPrivileges(false)),
        ("systempaths", "unconfined") => Ok(SecurityOpt::SystemPathsUnconfined),
        ("seccomp", "unconfined") => Ok(SecurityOpt::Seccomp(value)),
        ("seccomp", profile) if serde_json::from_str::<serde_json::Map<_, _>>(profile).is_ok() => {
            Ok(SecurityOpt::Seccomp(profile))
        }
        ("seccomp", _) => Err(Error::invalid(field, format!("{} is no profile", shown(given)))
            .hint("Write 'seccomp=unconfined', or the profile's own JSON behind 'seccomp='.")),
        ("apparmor", profile) if is_word(profile) => Ok(SecurityOpt::AppArmor(profile)),
        ("label", label) if is_word(label) => Ok(SecurityOpt::Label(label)),
        _ => Err(Error::invalid(field, format!("{} is no security option", shown(given))).hint(
            "Known: no-new-privileges, seccomp=unconfined, seccomp=<JSON>, apparmor=<profile>, label=<label>, \
             systempaths=unconfined.",
        )),
    }
}

/// Limits that let a process without capabilities go before those of the machine (setrlimit(2)).
const PRIORITIES: [&str; 2] = ["nice", "rtprio"];

fn is_raised(limit: &Ulimit) -> bool {
    limit.soft.abs() > 0.0 || limit.hard.abs() > 0.0
}

/// The names of the fields by which the container would have powers beyond itself: nobody who is not trusted may set them. Paths of
/// the host are judged by `hostPath`, networks by the engine's list. `POWERS` in electron/methods.ts has the same fields.
pub(in super::super) fn powers_of(spec: &ContainerSpec) -> Vec<String> {
    // Every field is named, so that a new one does not compile before somebody has decided on which side it is.
    #[rustfmt::skip]
    let ContainerSpec {
        privileged, devices, gpus, cap_add, security_opt, runtime, sysctls, logging, annotations, network_mode, pid_mode, ipc_mode,
        resources, ulimits, mounts,
        // No power, or judged elsewhere. `docker` comes from no caller of the public API.
        name: _, image: _, env: _, ports: _, volumes: _, networks: _, command: _, healthcheck: _, restart: _, labels: _, platform: _,
        credentials: _, entrypoint: _, user: _, workdir: _, hostname: _, domainname: _, tty: _, stdin: _, init: _, auto_remove: _,
        stop_signal: _, stop_timeout: _, tmpfs: _, read_only_rootfs: _, cap_drop: _, group_add: _, extra_hosts: _, dns: _,
        dns_search: _, dns_options: _, network_options: _, docker: _,
    } = spec;
    #[rustfmt::skip]
    let Resources {
        oom_score_adj,
        cpus: _, cpu_shares: _, cpuset: _, memory: _, memory_swap: _, memory_reservation: _, shm_size: _, pids: _,
    } = resources;
    let mut found = Vec::new();
    let mut note = |is: bool, field: &str| found.extend(is.then(|| field.to_owned()));
    let shares = |mode: &Option<String>, own: &[&str]| mode.as_deref().is_some_and(|mode| !own.contains(&mode));
    note(*privileged, "privileged");
    note(!devices.is_empty(), "devices");
    note(gpus.is_some(), "gpus");
    note(!cap_add.is_empty(), "capAdd");
    note(!security_opt.is_empty(), "securityOpt");
    note(runtime.is_some(), "runtime");
    note(!sysctls.is_empty(), "sysctls");
    note(logging.is_some(), "logging");
    note(!annotations.is_empty(), "annotations");
    note(shares(network_mode, &["none"]), "networkMode");
    note(shares(pid_mode, &[]), "pidMode");
    note(shares(ipc_mode, &["none", "private", "shareable"]), "ipcMode");
    note(oom_score_adj.is_some_and(|n| n < 0.0), "resources.oomScoreAdj");
    let raised = PRIORITIES.into_iter().filter(|of| ulimits.get(*of).is_some_and(is_raised));
    found.extend(raised.map(|of| format!("ulimits.{of}")));
    let propagated = mounts.iter().enumerate().filter(|(_, m)| m.propagation.is_some());
    found.extend(propagated.map(|(i, _)| format!("mounts[{i}].propagation")));
    found
}

/// The containers whose namespaces `spec` shares, with their fields.
pub(in super::super) fn shared(spec: &mut ContainerSpec) -> impl Iterator<Item = (&'static str, &mut String)> {
    let modes =
        [("networkMode", &mut spec.network_mode), ("pidMode", &mut spec.pid_mode), ("ipcMode", &mut spec.ipc_mode)];
    modes.into_iter().filter_map(|(field, mode)| Some((field, mode.as_mut().filter(|m| container_of(m).is_some())?)))
}

#[cfg(test)]
mod tests {
    use super::{super::spec, *};
    use serde_json::{Value, json};

    #[test]
    fn options_that_mean_the_same_everywhere() {
        let read = |text| security_opt("securityOpt[0]", text);
        assert_eq!(read("no-new-privileges").unwrap(), SecurityOpt::NoNewPrivileges(true));
        assert_eq!(read("no-new-privileges:true").unwrap(), SecurityOpt::NoNewPrivileges(true));
        assert_eq!(read("seccomp:unconfined").unwrap(), SecurityOpt::Seccomp("unconfined"));
        assert_eq!(read(r#"seccomp={"a":1}"#).unwrap(), SecurityOpt::Seccomp(r#"{"a":1}"#));
        assert_eq!(read("apparmor=docker-default").unwrap(), SecurityOpt::AppArmor("docker-default"));
        assert_eq!(read("label=type:x_t").unwrap(), SecurityOpt::Label("type:x_t"));
        for wrong in [
            "",
            "x",
            "seccomp",
            "seccomp=/etc/profile.json",
            "systempaths=none",
            "no-new-privileges=1",
            "apparmor=",
            "apparmor=a b",
            "a\0",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_reaches_beyond_a_container() {
        let fields = |more: Value| powers_of(&spec(&more));
        for (more, field) in [
            (json!({ "privileged": true }), "privileged"),
            (json!({ "devices": ["/dev/fuse"] }), "devices"),
            (json!({ "gpus": "all" }), "gpus"),
            (json!({ "gpus": [] }), "gpus"),
            (json!({ "capAdd": ["NET_ADMIN"] }), "capAdd"),
            (json!({ "securityOpt": ["no-new-privileges"] }), "securityOpt"),
            (json!({ "runtime": "runc" }), "runtime"),
            (json!({ "sysctls": { "net.x": "1" } }), "sysctls"),
            (json!({ "logging": { "driver": "syslog" } }), "logging"),
            (json!({ "annotations": { "a": "b" } }), "annotations"),
            (json!({ "networkMode": "host" }), "networkMode"),
            (json!({ "networkMode": "container:x" }), "networkMode"),
            (json!({ "pidMode": "host" }), "pidMode"),
            (json!({ "pidMode": "container:x" }), "pidMode"),
            (json!({ "ipcMode": "host" }), "ipcMode"),
            (json!({ "ipcMode": "container:x" }), "ipcMode"),
            (json!({ "resources": { "oomScoreAdj": -1 } }), "resources.oomScoreAdj"),
            (json!({ "ulimits": { "rtprio": 1 } }), "ulimits.rtprio"),
            (json!({ "ulimits": { "rtprio": { "soft": 0, "hard": -1 } } }), "ulimits.rtprio"),
            (json!({ "ulimits": { "nice": 40 } }), "ulimits.nice"),
            (
                json!({ "mounts": [{ "type": "bind", "source": "/a", "target": "/b", "propagation": "rshared" }] }),
                "mounts[0].propagation",
            ),
        ] {
            assert_eq!(fields(more), [field]);
        }
        let harmless = json!({ "privileged": false, "devices": [], "capAdd": [], "capDrop": ["ALL"], "readOnlyRootfs": true,
            "networkMode": "none", "ipcMode": "private", "ulimits": { "nofile": 9, "nice": 0, "rtprio": 0 }, "groupAdd": ["1"], "tty": true,
            "resources": { "memory": "64MiB", "oomScoreAdj": 5 }, "tmpfs": { "/t": {} }, "init": true, "user": "0" });
        assert!(fields(harmless).is_empty());
    }
}

//! The labels of a container's record that somebody acts on, and who reads them: containerd's restart monitor, nerdctl and its
//! hook (as root), and we.

use std::collections::HashMap;

use serde::Deserialize;

use super::super::source::containers::Container;
use crate::{
    engine::types::*,
    error::{Error, Result},
};

/// containerd's restart monitor: what it does, whether the container is meant to run, and where its output goes.
pub(crate) const MONITOR_POLICY: &str = "containerd.io/restart.policy";
pub(crate) const MONITOR_STATUS: &str = "containerd.io/restart.status";
pub(crate) const MONITOR_LOG: &str = "containerd.io/restart.loguri";
pub(crate) const MONITOR_COUNT: &str = "containerd.io/restart.count";
/// `nerdctl stop` says so there; of the monitor's policies `unless-stopped` alone heeds it.
pub(crate) const EXPLICITLY_STOPPED: &str = "containerd.io/restart.explicitly-stopped";
pub(crate) const STOP_SIGNAL: &str = "io.containerd.image.config.stop-signal";

// nerdctl's (docs/reference/nerdctl.md#labels-it-writes).
pub(crate) const NAME: &str = "nerdctl/name";
pub(crate) const NAMESPACE: &str = "nerdctl/namespace";
pub(crate) const NETWORKS: &str = "nerdctl/networks";
pub(crate) const HEALTHCHECK: &str = "nerdctl/healthcheck";
pub(crate) const HEALTH_STATE: &str = "nerdctl/healthstate";
pub(crate) const STOP_TIMEOUT: &str = "nerdctl/stop-timeout";
pub(crate) const LOG_URI: &str = "nerdctl/log-uri";
pub(crate) const STATE_DIR: &str = "nerdctl/state-dir";
pub(crate) const MOUNTS: &str = "nerdctl/mounts";
pub(crate) const ANONYMOUS: &str = "nerdctl/anonymous-volumes";
pub(crate) const HOSTNAME: &str = "nerdctl/hostname";
pub(crate) const LOG_CONFIG: &str = "nerdctl/log-config";
// Only of a container that was made with their flags.
pub(crate) const IP: &str = "nerdctl/ip";
pub(crate) const IP6: &str = "nerdctl/ip6";
pub(crate) const MAC: &str = "nerdctl/mac-address";
pub(crate) const DOMAINNAME: &str = "nerdctl/domainname";
pub(crate) const PID_CONTAINER: &str = "nerdctl/pid-container";
pub(crate) const PRIVILEGED: &str = "nerdctl/privileged";
/// Of a network.
pub(crate) const DEFAULT_NETWORK: &str = "nerdctl/default-network";

// Ours.
/// The policy the caller asked for, where containerd's own is another.
pub(crate) const RESTART: &str = "lima-runtime.restart";
/// The image as the caller named it.
pub(crate) const IMAGE: &str = "lima-runtime.image";
/// Keys of labels without a value, as JSON: containerd keeps no such label (docs/reference/containerd.md#labels).
pub(crate) const EMPTY: &str = "lima-runtime.empty-labels";
/// Whether a container that we restart is meant to run. The monitor's own label would make the monitor start and stop it, whatever
/// its policy, without its log (docs/reference/containerd.md#restart-monitor).
pub(crate) const OUR_STATUS: &str = "lima-runtime.restart-status";
/// Of a network. nerdctl has no such flag; Docker's callers may look for it.
pub(crate) const ATTACHABLE: &str = "lima-runtime.attachable";
/// On a container whose create is not over: what must not be there may still be, and what must be may be missing.
pub(crate) const UNFINISHED: &str = "lima-runtime.unfinished";
/// Which of nerdctl's labels a container has because its caller asked for them, as JSON with their values.
pub(crate) const ASKED: &str = "lima-runtime.asked";
/// On a container that is removed at its end.
pub(crate) const AUTO_REMOVE: &str = "lima-runtime.auto-remove";
/// On a container that was attached to something later: its leases may not be where nerdctl expects them.
pub(crate) const CHANGED: &str = "lima-runtime.networks-changed";

/// What nerdctl 2.1 to 2.3 itself writes of a container made with the flags that we use, over an image's label of the
/// same name (docs/reference/nerdctl.md#labels-of-images).
pub(crate) const NERDCTL_WRITES: [&str; 13] = [
    NAME,
    NETWORKS,
    LOG_URI,
    STATE_DIR,
    NAMESPACE,
    HOSTNAME,
    "nerdctl/extraHosts",
    LOG_CONFIG,
    "nerdctl/platform",
    "nerdctl/host-config",
    "nerdctl/dns",
    "nerdctl/ipc",
    "nerdctl/auto-remove",
];

/// What it may write, and where an image's label says no more than the image may: a command inside the container, its user.
pub(crate) const IMAGES_MAY_SET: [&str; 2] = [HEALTHCHECK, "nerdctl/user"];
/// What it writes later.
pub(crate) const NERDCTL_WRITES_LATER: [&str; 3] = [HEALTH_STATE, STOP_TIMEOUT, "nerdctl/error"];

/// The prefixes whose labels somebody acts on: the monitor runs a program (`restart.loguri`), nerdctl and its hook
/// write a file (`pid-file`), give the container's address to another namespace (`network-namespace`), remove
/// directories (`state-dir`, `ipc`) and volumes (`anonymous-volumes`), all as root
/// (docs/reference/nerdctl.md#labels-it-obeys).
pub(crate) const OBEYED_PREFIXES: [&str; 4] = ["containerd.io/", "io.containerd.", "io.cri-containerd", "nerdctl/"];

/// A container's mount, in nerdctl's words.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct LabelMount {
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    #[serde(rename = "RW")]
    pub(crate) writable: bool,
}

/// nerdctl's own list of a container's mounts, as far as it can be read. One label holds all of them, or since 2.3.2 each has
/// For a network or a volume. `INVALID_ARGUMENT` naming the label.
pub(crate) fn flags(labels: &Labels) -> Result<Vec<String>> {
    let flag = |(key, value): (&String, &String)| {
        if key.contains("\r\n") || value.contains("\r\n") {
            // It reads its flags' values as CSV.
            return Err(Error::invalid(format!("labels.{key}"), "nerdctl makes \\n of \\r\\n"));
        }
        Ok(format!("--label={key}={value}"))
    };
    labels.iter().map(flag).collect()
}

/// its own (docs/reference/nerdctl.md#mounts-label).
pub(crate) fn mounts(labels: &HashMap<String, String>) -> Vec<LabelMount> {
    let whole = labels.get(MOUNTS).and_then(|text| read_mounts(text));
    let each = || (0..).map_while(|i| labels.get(&format!("{MOUNTS}.{i}"))).filter_map(|text| read_mounts(text));
    whole.unwrap_or_else(|| each().flatten().collect())
}

/// Of a label in either form.
pub(crate) fn read_mounts(text: &str) -> Option<Vec<LabelMount>> {
    serde_json::from_str(text).or_else(|_| serde_json::from_str(text).map(|one| vec![one])).ok()
}

pub(crate) fn name(container: &Container) -> Option<&str> {
    container.labels.get(NAME).map(String::as_str)
}

/// A container's networks, in the order of their interfaces.
pub(crate) fn networks(container: &Container) -> Vec<String> {
    container.labels.get(NETWORKS).and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default()
}

/// What its caller asked for of nerdctl's labels.
pub(crate) fn asked(text: Option<&String>) -> Labels {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Whether its output is written where [`super::super::container::logs`] reads it; else, by which driver.
pub(crate) fn other_log_driver(container: &Container) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(container.labels.get(LOG_CONFIG)?).ok()?;
    config["driver"].as_str().filter(|driver| !["", "json-file"].contains(driver)).map(str::to_owned)
}

/// The container's own, as nerdctl keeps it.
pub(crate) fn stop_timeout(container: &Container) -> StopTimeout {
    let seconds = container.labels.get(STOP_TIMEOUT).and_then(|s| s.parse().ok());
    seconds.map_or(StopTimeout::default(), StopTimeout::of)
}

/// The caller's labels, without nerdctl's, containerd's and our notes.
pub(crate) fn labels_of(container: &Container) -> Labels {
    let notes = |k: &str| {
        k.starts_with("nerdctl/")
            || k.starts_with("containerd.io/restart.")
            || k == "io.containerd.image.config.stop-signal"
            || [RESTART, OUR_STATUS, IMAGE, EMPTY, UNFINISHED, CHANGED, ASKED, AUTO_REMOVE].contains(&k)
            || k.starts_with("lima-runtime/")
    };
    let empty: Vec<String> = container.labels.get(EMPTY).and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default();
    let kept = container.labels.iter().filter(|(k, _)| !notes(k)).map(|(k, v)| (k.clone(), v.clone()));
    kept.chain(empty.into_iter().map(|k| (k, String::new()))).collect()
}

/// Docker's filter: all of `key` or `key=value`.
pub(crate) fn fit(labels: &Labels, wanted: &[String]) -> bool {
    wanted.iter().all(|wanted| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|l| l == value),
        None => labels.contains_key(wanted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(labels: &[(&str, &str)]) -> Container {
        Container {
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Container::default()
        }
    }

    #[test]
    fn mounts_are_read_from_one_label_and_from_one_each() {
        let volume = r#"{"Type":"volume","Name":"data","Source":"/v/data/_data","Destination":"/d","RW":true}"#;
        // nerdctl 2.1.6 and 2.3.5.
        let whole = format!(r#"[{volume},{{"Type":"bind","Source":"/x","Destination":"/y"}}]"#);
        let one = mounts(&container(&[("nerdctl/mounts", &whole)]).labels);
        let each =
            [("nerdctl/mounts.0", volume), ("nerdctl/mounts.1", r#"{"Type":"none","Source":"/x","Destination":"/y"}"#)];
        let two = mounts(&container(&each).labels);
        for found in [one, two] {
            let found: Vec<_> = found.iter().map(|m| (m.name.as_str(), m.source.as_str(), m.writable)).collect();
            assert_eq!(found, [("data", "/v/data/_data", true), ("", "/x", false)]);
        }
        let eleven: Vec<_> =
            (0..11).map(|i| (format!("nerdctl/mounts.{i}"), format!(r#"{{"Source":"/{i}"}}"#))).collect();
        let found = mounts(&eleven.into_iter().collect());
        assert_eq!(found.last().unwrap().source, "/10", "in the order of their numbers");
        assert!(mounts(&HashMap::new()).is_empty());
    }
}

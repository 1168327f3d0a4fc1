//! Judges the labels of a container's record. What a caller gives has been checked ([`validate::labels`]); what comes from an
//! image, or from whoever else may write records, is judged here.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::super::{nerdctl::labels::*, prelude::*};
use super::spec::{places, spec};
use crate::call;

/// Whether `nerdctl rm --volumes` takes only what it made up for this container: volumes of a generated name that are
/// mounted in it. The label alone could name any (docs/reference/nerdctl.md#anonymous-volumes).
pub(crate) fn takes_own_volumes(container: &Container) -> bool {
    let Some(text) = container.labels.get(ANONYMOUS) else { return true };
    let Ok(names) = serde_json::from_str::<Vec<String>>(text) else { return false };
    let spec = spec(container);
    names.iter().all(|name| {
        let generated = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        generated && places(&spec).any(|(source, ..)| source.ends_with(&format!("/{name}/_data")))
    })
}

/// Finds the labels of a record that neither nerdctl nor we have written, by their keys and values. The image is not asked: its name
/// may be another image's by now.
struct Judge<'a> {
    container: &'a Container,
    namespace: &'a str,
    state_dir: &'a str,
    /// What nerdctl was told to write.
    asked: Labels,
}

impl Judge<'_> {
    /// Whether nerdctl may have written it when it made the container.
    fn is_nerdctls(&self, key: &str, value: &str) -> bool {
        match key {
            STOP_SIGNAL => validate::signal("", Some(value)).is_ok(),
            STATE_DIR => value == self.state_dir,
            NAMESPACE => value == self.namespace,
            ANONYMOUS => takes_own_volumes(self.container),
            _ if key == MOUNTS || key.strip_prefix("nerdctl/mounts.").is_some_and(|n| n.parse::<u32>().is_ok()) => {
                is_mounted(self.container, value)
            }
            _ => {
                NERDCTL_WRITES.contains(&key)
                    || IMAGES_MAY_SET.contains(&key)
                    || self.asked.get(key).is_some_and(|v| v == value)
            }
        }
    }

    fn is_later(&self, key: &str, value: &str) -> bool {
        match key {
            MONITOR_LOG => self.container.labels.get(LOG_URI).is_some_and(|uri| uri == value),
            MONITOR_POLICY | MONITOR_STATUS | MONITOR_COUNT | EXPLICITLY_STOPPED => true,
            STOP_TIMEOUT => value.parse::<u32>().is_ok(),
            _ => NERDCTL_WRITES_LATER.contains(&key),
        }
    }

    fn strangers(&self, own: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let mut keys: Vec<String> =
            self.container.labels.iter().filter(|(k, v)| !own(k, v)).map(|(k, _)| k.clone()).collect();
        keys.sort_unstable();
        keys
    }
}

/// The keys, of a container just made with the labels `ours`, that came from its image and that no image may set.
pub(crate) fn of_image(container: &Container, ours: &Labels, namespace: &str, state_dir: &str) -> Vec<String> {
    let judge = Judge { container, namespace, state_dir, asked: asked(ours.get(ASKED)) };
    judge.strangers(|key, value| {
        key == UNFINISHED
            || ours.get(key).is_some_and(|v| v == value)
            || validate::reserved(key).is_none()
            || judge.is_nerdctls(key, value)
    })
}

/// The keys, of a container that is to start, that engines obey and that neither nerdctl, the monitor nor we wrote.
pub(crate) fn strangers(container: &Container, namespace: &str, state_dir: &str) -> Vec<String> {
    let judge = Judge { container, namespace, state_dir, asked: asked(container.labels.get(ASKED)) };
    judge.strangers(|key, value| {
        !OBEYED_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
            || judge.is_nerdctls(key, value)
            || judge.is_later(key, value)
    })
}

/// Whether a list of mounts is true: each of them is in the specification.
fn is_mounted(container: &Container, label: &str) -> bool {
    let spec = spec(container);
    let has = |m: &LabelMount| {
        places(&spec).any(|(source, place, _)| place == m.destination && (source == m.source || m.kind == "tmpfs"))
    };
    labels::read_mounts(label).is_some_and(|mounts| mounts.iter().all(has))
}

/// nerdctl acts as root on what a record's labels say: it removes the directories they name. It wrote them itself where they
/// name its own directory, whose name no image can know; `ctr` copies an image's.
pub(crate) fn nerdctls_own(c: &Containerd, container: &Container) -> Result<()> {
    if c.files.said_state_dir(container).is_some() || !container.labels.keys().any(|k| k.starts_with("nerdctl/")) {
        return Ok(());
    }
    let said = container.labels.get(STATE_DIR).map_or("none", String::as_str);
    let problem =
        format!("Container {} was not made by this nerdctl: its labels name {said:?} as its directory", container.id);
    Err(Error::new(ErrorCode::InvalidState, problem)
        .detail("id", container.id.as_str())
        .hint("Use the program that made it."))
}

/// Changes labels (none is kept without a value), and the specification with them: its annotations, from which nerdctl's hook
/// reads, say no more than the labels do. `env` takes the place of variables of the same name, `hostname` of what the hook is
/// told of the container's name.
pub(crate) async fn rewrite(
    c: &Containerd,
    container: &Container,
    mut changes: HashMap<String, String>,
    env: &BTreeMap<String, String>,
    hostname: Option<String>,
) -> Result<()> {
    changes.extend(hostname.iter().map(|name| (HOSTNAME.to_owned(), name.clone())));
    let mut labels = container.labels.clone();
    labels.extend(changes.clone());
    let spec = container.spec.as_ref().ok_or_else(|| Error::internal("a container without a specification"))?;
    let mut json: Value = serde_json::from_slice(&spec.value)
        .map_err(|e| Error::internal("a container's specification is not JSON").source(e))?;
    clean_spec(&mut json, &labels, env);
    if let Some(name) = hostname {
        json["annotations"][HOSTNAME] = name.into();
    }
    let spec = prost_types::Any { type_url: spec.type_url.clone(), value: json.to_string().into_bytes() };
    c.api.set_spec(&container.id, spec, changes).await
}

fn clean_spec(spec: &mut Value, labels: &HashMap<String, String>, env: &BTreeMap<String, String>) {
    if let Some(annotations) = spec["annotations"].as_object_mut() {
        annotations.retain(|key, value| {
            !key.starts_with("nerdctl/") || labels.get(key).is_some_and(|label| value == label.as_str())
        });
    }
    if !env.is_empty() {
        let given = |entry: &Value| entry.as_str().and_then(|e| Some(env.contains_key(e.split_once('=')?.0)));
        let mut all: Vec<Value> = spec["process"]["env"].as_array().cloned().unwrap_or_default();
        all.retain(|entry| given(entry) != Some(true));
        all.extend(env.iter().map(|(name, value)| Value::from(format!("{name}={value}"))));
        spec["process"]["env"] = all.into();
    }
}

/// Checks a container's record before nerdctl or the monitor acts on it.
pub(crate) async fn before_start(c: &Containerd, container: &Container) -> Result<()> {
    nerdctls_own(c, container)?;
    if container.labels.contains_key(UNFINISHED) {
        return Err(unfinished(&container.id));
    }
    // Containers of others are left as they are.
    if !container.labels.contains_key(APP_LABEL) {
        return Ok(());
    }
    let strangers = strangers(container, c.namespace(), &c.files.state_dir(container).await?);
    if strangers.is_empty() {
        return Ok(());
    }
    tracing::warn!(id = container.id, ?strangers, "labels that nobody may give are taken off a container");
    rewrite(c, container, strangers.into_iter().map(|key| (key, String::new())).collect(), &BTreeMap::new(), None).await
}

/// Tells the caller what of the image did not reach the container.
pub(crate) fn warn(spec: &ContainerSpec, keys: &[String]) {
    if keys.is_empty() {
        return;
    }
    let text = format!("Labels of the image {} were not given to {}: {}", spec.image, spec.name, keys.join(", "));
    call::warn(
        Error::new(ErrorCode::InvalidArgument, text)
            .detail("image", spec.image.as_str())
            .hint("Engines act on labels with these names. An image has no reason to carry them."),
    );
}

pub(crate) fn unfinished(id: &str) -> Error {
    Error::new(ErrorCode::InvalidState, format!("Container {id} was left half made by a start that was cut off"))
        .detail("id", id)
        .hint("Remove it, and make it anew.")
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let spec = prost_types::Any { type_url: String::new(), value: data.to_vec() };
    let keys = [MOUNTS.to_owned(), format!("{MOUNTS}.0"), ANONYMOUS.to_owned(), STATE_DIR.to_owned()];
    let labels = keys.map(|key| (key, text.clone())).into();
    let container = Container { labels, spec: Some(spec), ..Container::default() };
    takes_own_volumes(&container);
    strangers(&container, "default", "/var/lib/nerdctl");
    of_image(&container, &Labels::new(), "default", "/var/lib/nerdctl");
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    const DIR: &str = "/var/lib/nerdctl/1935db59/containers/kai/c1";

    fn container(labels: &[(&str, &str)], spec: &Value) -> Container {
        Container {
            id: "c1".into(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            spec: Some(prost_types::Any { type_url: String::new(), value: spec.to_string().into_bytes() }),
            ..Container::default()
        }
    }

    #[test]
    fn what_is_not_nerdctls_own_is_told_from_what_is() {
        let spec = json!({ "mounts": [{ "destination": "/d", "source": "/v/data/_data" }] });
        let mount = r#"{"Type":"volume","Name":"data","Source":"/v/data/_data","Destination":"/d"}"#;
        let made = [
            ("nerdctl/name", "web"),
            ("nerdctl/namespace", "kai"),
            ("nerdctl/state-dir", DIR),
            ("nerdctl/log-uri", "binary:///usr/bin/nerdctl?x=y"),
            ("nerdctl/mounts.0", mount),
            ("nerdctl/user", "1000"),
            ("io.containerd.image.config.stop-signal", "SIGQUIT"),
            ("com.example.tier", "web"),
            ("lima-runtime.app", "kai"),
        ];
        let ours = Labels::from([("lima-runtime.app".to_owned(), "kai".to_owned())]);
        assert_eq!(of_image(&container(&made, &spec), &ours, "kai", DIR), Vec::<String>::new());
        for evil in [
            ("containerd.io/restart.status", "running"),
            ("containerd.io/restart.loguri", "binary:///bin/sh"),
            ("io.containerd.image.config.stop-signal", "nonsense"),
            ("io.cri-containerd.kind", "sandbox"),
            ("nerdctl/pid-file", "/etc/x"),
            ("nerdctl/stop-timeout", "42"),
            ("nerdctl/mounts.0", r#"{"Type":"bind","Source":"/","Destination":"/host"}"#),
            ("nerdctl/mounts", r#"[{"Type":"bind","Source":"/","Destination":"/host"}]"#),
            ("nerdctl/anonymous-volumes", r#"["data"]"#),
            ("nerdctl/state-dir", "/etc"),
            ("nerdctl/namespace", "other"),
            ("lima-runtime.app", "other"),
            ("lima-runtime.restart", "always"),
            ("com.docker.compose.project", "theirs"),
        ] {
            let mut labels: Vec<_> = made.iter().copied().filter(|(k, _)| *k != evil.0).collect();
            labels.push(evil);
            assert_eq!(of_image(&container(&labels, &spec), &ours, "kai", DIR), [evil.0]);
        }
        // An image says under these names what only a caller may ask for.
        for (key, value) in [("nerdctl/ip", "10.0.0.9"), ("nerdctl/pid-container", "c2"), ("nerdctl/domainname", "d")] {
            let mut labels = made.to_vec();
            labels.push((key, value));
            assert_eq!(of_image(&container(&labels, &spec), &ours, "kai", DIR), [key]);
            let asked = json!({ key: value }).to_string();
            let mut asking = ours.clone();
            asking.insert(ASKED.to_owned(), asked.clone());
            assert_eq!(of_image(&container(&labels, &spec), &asking, "kai", DIR), Vec::<String>::new());
            assert_eq!(strangers(&container(&labels, &spec), "kai", DIR), [key]);
            labels.push((ASKED, &asked));
            assert_eq!(strangers(&container(&labels, &spec), "kai", DIR), Vec::<String>::new());
            // Of an image that says both.
            assert_eq!(of_image(&container(&labels, &spec), &ours, "kai", DIR), [ASKED, key]);
        }
        // What the monitor and nerdctl write later is theirs; a log of its own the monitor has not.
        let mut later = made.to_vec();
        later.extend([
            ("containerd.io/restart.status", "running"),
            ("containerd.io/restart.loguri", "binary:///usr/bin/nerdctl?x=y"),
            ("nerdctl/stop-timeout", "42"),
            ("nerdctl/error", "x"),
        ]);
        assert_eq!(strangers(&container(&later, &spec), "kai", DIR), Vec::<String>::new());
        later.extend([("containerd.io/restart.loguri", "binary:///bin/sh"), ("nerdctl/stop-timeout", "x")]);
        let found = strangers(&container(&later, &spec), "kai", DIR);
        assert_eq!(found, ["containerd.io/restart.loguri", "nerdctl/stop-timeout"]);
    }

    #[test]
    fn volumes_of_a_generated_name_that_are_mounted_may_go_with_the_container() {
        let name = "ab".repeat(32);
        let spec = json!({ "mounts": [{ "source": format!("/v/{name}/_data") }, { "source": "/v/data/_data" }] });
        let takes = |label: &str| takes_own_volumes(&container(&[("nerdctl/anonymous-volumes", label)], &spec));
        assert!(takes(&json!([name]).to_string()) && takes("[]") && takes_own_volumes(&container(&[], &spec)));
        assert!(!takes(r#"["data"]"#) && !takes(&json!(["cd".repeat(32)]).to_string()) && !takes("{"));
    }

    #[test]
    fn a_specification_says_what_the_labels_say() {
        let mut spec = json!({
            "annotations": { "nerdctl/name": "web", "nerdctl/pid-file": "/etc/x", "nerdctl/state-dir": "/etc", "other": "1" },
            "process": { "env": ["PATH=/bin", "A=old", "HOSTNAME=h"] },
        });
        let labels = [("nerdctl/name", "web"), ("nerdctl/state-dir", DIR), ("nerdctl/pid-file", "")];
        let env = BTreeMap::from([("A".to_owned(), "two\nlines ".to_owned()), ("B".to_owned(), String::new())]);
        clean_spec(&mut spec, &container(&labels, &json!({})).labels, &env);
        assert_eq!(spec["annotations"], json!({ "nerdctl/name": "web", "other": "1" }));
        assert_eq!(spec["process"]["env"], json!(["PATH=/bin", "HOSTNAME=h", "A=two\nlines ", "B="]));
    }
}

//! What is read of a container's OCI specification, and what is mounted in it.

use std::collections::HashSet;

use serde_json::Value;

use super::super::{
    nerdctl::labels::{self, LabelMount},
    source::containers::Container,
};
use crate::engine::types::Mount;

/// Null where there is none that can be read.
pub(crate) fn spec(container: &Container) -> Value {
    container.spec.as_ref().and_then(|any| serde_json::from_slice(&any.value).ok()).unwrap_or_default()
}

pub(crate) fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Where each mount of the specification comes from and where it is, with the mount itself.
pub(crate) fn places<'a>(spec: &'a Value) -> impl Iterator<Item = (&'a str, &'a str, &'a Value)> {
    let text = |mount: &'a Value, key: &str| mount[key].as_str().unwrap_or_default();
    let place = move |mount| (text(mount, "source"), text(mount, "destination"), mount);
    spec["mounts"].as_array().into_iter().flatten().map(place)
}

/// The volume whose directory this is, as nerdctl lays them out: `…/volumes/<namespace>/<name>/_data`.
fn volume_at(source: &str) -> Option<&str> {
    let mut parts = source.strip_suffix("/_data")?.rsplit('/');
    let (name, _namespace) = (parts.next()?, parts.next()?);
    (parts.next()? == "volumes").then_some(name)
}

/// What is mounted, the same for all who ask: nerdctl's labels say it in the caller's words; what they do not say, or say wrongly,
/// the specification does.
pub(crate) fn mounts(container: &Container) -> Vec<Mount> {
    const OWN: [&str; 3] = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];
    let (spec, labelled) = (spec(container), labels::mounts(&container.labels));
    let is_labelled = |source: &str, place: &str| labelled.iter().any(|l| l.source == source && l.destination == place);
    let rest = places(&spec).filter(|(source, place, mount)| {
        // Beside a list of nerdctl's, other binds are nerdctl's own.
        let wanted = volume_at(source).is_some() || labelled.is_empty() && mount["type"] == "bind";
        wanted && !OWN.contains(place) && !is_labelled(source, place)
    });
    let rest = rest.map(|(source, place, mount)| LabelMount {
        kind: "bind".to_owned(),
        source: source.to_owned(),
        destination: place.to_owned(),
        writable: !strings(&mount["options"]).any(|o| o == "ro"),
        ..LabelMount::default()
    });
    let shown = |m: LabelMount| {
        let volume = volume_at(&m.source).map(str::to_owned);
        let volume = volume.or_else(|| Some(m.name).filter(|name| m.kind == "volume" && !name.is_empty()));
        Mount {
            kind: match (&volume, m.kind.as_str()) {
                (Some(_), _) => "volume".to_owned(),
                // nerdctl 2.3 writes the kernel's word for a bind.
                (None, "none") => "bind".to_owned(),
                _ => m.kind,
            },
            source: volume.unwrap_or(m.source),
            destination: m.destination,
            read_only: !m.writable,
        }
    };
    let rest: Vec<LabelMount> = rest.collect();
    labelled.into_iter().chain(rest).map(shown).collect()
}

/// Names of the volumes that these containers use; one that is stopped counts.
pub(crate) fn used_volumes<'a>(containers: impl IntoIterator<Item = &'a Container>) -> HashSet<String> {
    let mounts = containers.into_iter().flat_map(mounts);
    mounts.filter(|m| m.kind == "volume").map(|m| m.source).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(labels: &[(&str, &str)], spec: &Value) -> Container {
        Container {
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            spec: Some(prost_types::Any { type_url: String::new(), value: spec.to_string().into_bytes() }),
            ..Container::default()
        }
    }

    fn read(container: &Container) -> Vec<(String, String, String)> {
        mounts(container).into_iter().map(|m| (m.kind, m.source, m.destination)).collect()
    }

    fn said(kind: &str, source: &str, place: &str) -> (String, String, String) {
        (kind.into(), source.into(), place.into())
    }

    #[test]
    fn labels_in_pieces_that_say_not_all_leave_the_rest_to_the_specification() {
        let spec = json!({ "mounts": [
            { "type": "proc", "source": "proc", "destination": "/proc" },
            { "type": "bind", "source": "/v/etchosts/c1/hosts", "destination": "/etc/hosts" },
            { "type": "bind", "source": "/v/volumes/kai/data/_data", "destination": "/d" },
            { "type": "bind", "source": "/v/volumes/kai/more/_data", "destination": "/m" },
        ] });
        let data = r#"{"Type":"volume","Name":"data","Source":"/v/volumes/kai/data/_data","Destination":"/d"}"#;
        let both = [said("volume", "data", "/d"), said("volume", "more", "/m")];
        for second in ["{", "1", ""] {
            let container = container(&[("nerdctl/mounts.0", data), ("nerdctl/mounts.1", second)], &spec);
            assert_eq!(read(&container), both, "{second:?}");
            assert_eq!(used_volumes([&container]), ["data", "more"].map(str::to_owned).into());
        }
        // A record of another program; one whose labels call the volume by another's name.
        assert_eq!(read(&container(&[], &spec)), both);
        let liar = data.replace(r#""data""#, r#""other""#);
        assert_eq!(read(&container(&[("nerdctl/mounts.0", &liar)], &spec)), both);
    }

    #[test]
    fn a_bind_is_no_volume_by_the_end_of_its_path() {
        let spec = json!({ "mounts": [{ "type": "bind", "source": "/home/me/_data", "destination": "/d", "options": ["ro"] }] });
        let bind = container(&[], &spec);
        assert_eq!(read(&bind), [said("bind", "/home/me/_data", "/d")]);
        assert!(mounts(&bind)[0].read_only && used_volumes([&bind, &Container::default()]).is_empty());
        let named = container(
            &[("nerdctl/mounts", r#"[{"Type":"volume","Name":"a"},{"Type":"none","Source":"/x"}]"#)],
            &json!({}),
        );
        assert_eq!(read(&named), [said("volume", "a", ""), said("bind", "/x", "")]);
    }
}

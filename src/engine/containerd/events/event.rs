//! An event in the words of Docker, made of containerd's.

use std::{collections::HashMap, sync::Arc};

use prost::Message;

use super::super::{
    nerdctl::labels,
    proto::containerd::{events::TaskExit, types::Envelope},
    source::{
        api::{Api, millis},
        containers::Container,
        events::Subject,
    },
};
use crate::{
    engine::{reference, time, types::*},
    error::Result,
};

/// An event, with what the filters ask for.
#[derive(Debug, Clone)]
pub(crate) struct Remembered {
    pub(crate) event: RuntimeEvent,
    pub(crate) image: Option<String>,
    pub(crate) labels: Arc<Labels>,
}

/// What the filters and the name need, by container id.
pub(crate) struct Named {
    name: Option<String>,
    image: String,
    labels: Arc<Labels>,
}

pub(crate) async fn containers_by_id(api: &Api) -> Result<HashMap<String, Named>> {
    Ok(api.containers(vec![]).await?.into_iter().map(|c| (c.id.clone(), named(&c))).collect())
}

fn named(c: &Container) -> Named {
    Named {
        name: labels::name(c).map(str::to_owned),
        image: reference::familiar(&c.image).to_owned(),
        labels: Arc::new(labels::labels_of(c)),
    }
}

pub(crate) async fn read(api: &Api, envelope: &Envelope, names: &mut HashMap<String, Named>) -> Option<Remembered> {
    if !api.is_mine(envelope) {
        return None;
    }
    let data = envelope.event.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
    let id = Subject::decode(data).ok()?.id;
    let mut exit_code = None;
    let action = match envelope.topic.as_str() {
        "/containers/create" => "create",
        "/containers/update" => "update",
        "/containers/delete" => "destroy",
        "/tasks/start" => "start",
        "/tasks/paused" => "pause",
        "/tasks/resumed" => "unpause",
        "/tasks/oom" => "oom",
        "/tasks/exec-added" => "exec_create",
        "/tasks/exec-started" => "exec_start",
        "/tasks/exit" => {
            let exit = TaskExit::decode(data).ok()?;
            exit_code = Some(i64::from(exit.exit_status));
            // An exec's end has the same topic, with the exec's id (docs/reference/containerd.md#ends-of-execs).
            if exit.id == exit.container_id { "die" } else { "exec_die" }
        }
        "/images/create" | "/images/update" => "tag",
        "/images/delete" => "delete",
        _ => return None,
    };
    let time = envelope.timestamp.as_ref().map_or_else(time::now, millis);
    if envelope.topic.starts_with("/images/") {
        let name = reference::familiar(&id).to_owned();
        let event = RuntimeEvent {
            time,
            kind: EventKind::Image,
            action: action.into(),
            id: name.clone(),
            name: Some(name.clone()),
            exit_code,
            app: None,
        };
        return Some(Remembered { event, image: Some(name), labels: Arc::default() });
    }
    // It may have got another name.
    if action == "update" {
        names.remove(&id);
    }
    if !names.contains_key(&id)
        && action != "destroy"
        && let Ok(container) = api.container(&id).await
    {
        names.insert(id.clone(), named(&container));
    }
    let gone;
    let about = if action == "destroy" {
        gone = names.remove(&id);
        gone.as_ref()
    } else {
        names.get(&id)
    };
    let event = RuntimeEvent {
        time,
        kind: EventKind::Container,
        action: action.into(),
        id,
        name: about.and_then(|a| a.name.clone()),
        exit_code,
        app: about.and_then(|a| a.labels.get(APP_LABEL).cloned()),
    };
    Some(Remembered {
        event,
        image: about.map(|a| a.image.clone()),
        labels: about.map(|a| a.labels.clone()).unwrap_or_default(),
    })
}

/// As Docker filters: one value of each kind fits; of labels, all of them.
pub(crate) fn fits(filters: &Filters, known: &Remembered) -> bool {
    let Remembered { event, image, labels: own } = known;
    let is = |kind: EventKind, v: &str| {
        event.kind == kind
            && (event.name.as_deref() == Some(v) || event.id == v || v.len() >= 12 && event.id.starts_with(v))
    };
    filters.iter().all(|(key, values)| {
        let any = |one: &dyn Fn(&str) -> bool| values.is_empty() || values.iter().any(|v| one(v));
        match key.as_str() {
            "type" => any(&|v| serde_json::to_value(event.kind).is_ok_and(|k| k == v)),
            "event" => any(&|v| event.action == v),
            "container" => any(&|v| is(EventKind::Container, v)),
            "network" => any(&|v| is(EventKind::Network, v)),
            "volume" => any(&|v| is(EventKind::Volume, v)),
            "image" => {
                any(&|v| image.as_ref().is_some_and(|i| *i == reference::familiar(v) || i.split(':').next() == Some(v)))
            }
            "label" => labels::fit(own, values),
            _ => true,
        }
    })
}

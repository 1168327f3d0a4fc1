//! What happens on the engine.

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt, TryStreamExt};
use serde::Deserialize;

use super::{
    api::{self, Api},
    error::{Failure, ResultExt},
    refusal::About,
};
use crate::{
    engine::{BoxStream, time, types::*},
    error::Result,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event {
    #[serde(rename = "Type")]
    kind: String,
    pub(super) action: String,
    pub(super) actor: Actor,
    #[serde(default, rename = "time")]
    seconds: i64,
    #[serde(default, rename = "timeNano")]
    nanos: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Actor {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) attributes: BTreeMap<String, String>,
}

const KINDS: [&str; 4] = ["container", "image", "network", "volume"];

pub(super) async fn events(api: Api, options: &EventOptions) -> Result<BoxStream<RuntimeEvent>> {
    let mut filters = options.filters.clone();
    filters.entry("type".into()).or_insert_with(|| KINDS.map(str::to_owned).to_vec());
    let events = raw(&api, options.since, &filters).await.about(About::Engine)?;
    Ok(events
        .map_err(|e| e.about(About::Engine))
        .try_filter_map(|event| std::future::ready(Ok(runtime_event(event))))
        .boxed())
}

/// The stream stands when this returns: nothing that happens afterwards is missed.
pub(super) async fn raw(
    api: &Api,
    since: Option<f64>,
    filters: &Filters,
) -> Result<impl Stream<Item = Result<Event, Failure>> + Send + Unpin + use<>, Failure> {
    let mut query = vec![("filters", api::filters(filters))];
    if let Some(since) = since {
        query.push(("since", time::query(since)));
    }
    Ok(api::json_lines(api::ONE, api.get("events", &query).await?))
}

fn runtime_event(event: Event) -> Option<RuntimeEvent> {
    let kind = match event.kind.as_str() {
        "container" => EventKind::Container,
        "image" => EventKind::Image,
        "network" => EventKind::Network,
        "volume" => EventKind::Volume,
        _ => return None,
    };
    let Actor { id, mut attributes } = event.actor;
    Some(RuntimeEvent {
        time: if event.nanos > 0 { event.nanos / 1_000_000 } else { time::of_seconds(event.seconds) },
        kind,
        action: event.action,
        exit_code: attributes.get("exitCode").and_then(|c| c.parse().ok()),
        app: attributes.remove(APP_LABEL),
        name: attributes.remove("name").or_else(|| (kind == EventKind::Volume).then(|| id.clone())),
        id,
    })
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    if let Ok(event) = serde_json::from_str(text) {
        runtime_event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Option<RuntimeEvent> {
        runtime_event(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_death_brings_its_exit_code() {
        let e = event(
            r#"{"status":"die","id":"f00","from":"busybox","Type":"container","Action":"die","Actor":{"ID":"f00",
            "Attributes":{"exitCode":"137","image":"busybox","name":"web"}},"scope":"local","time":5,"timeNano":5123000000}"#,
        )
        .unwrap();
        assert_eq!((e.time, e.kind, e.action.as_str(), e.id.as_str()), (5123, EventKind::Container, "die", "f00"));
        assert_eq!((e.name.as_deref(), e.exit_code), (Some("web"), Some(137)));
    }

    #[test]
    fn a_kind_without_a_name_of_ours_is_passed_over() {
        assert!(event(r#"{"Type":"plugin","Action":"enable","Actor":{"ID":"p"}}"#).is_none());
    }
}

//! Pulling and pushing images.

use std::collections::HashMap;

use futures_util::StreamExt;
use hyper::{Method, header::HeaderValue};
use serde::Deserialize;

use super::{
    api::{self, Api},
    error::{Failure, ResultExt},
    images,
    refusal::About,
};
use crate::{
    call,
    engine::{
        credentials::{self, Credentials},
        reference,
        types::{PullOptions, PushOptions, total},
        validate,
    },
    error::{Error, Result},
    progress::{PullProgress, Sink, Throttle},
};

/// One line of the engine's account.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Line {
    id: Option<String>,
    status: String,
    #[serde(rename = "progressDetail")]
    detail: Option<Detail>,
    error: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Detail {
    current: Option<u64>,
    total: Option<u64>,
}

pub(super) async fn pull(api: Api, image: &str, options: &PullOptions, progress: &Sink<PullProgress>) -> Result<()> {
    let (credentials, why_none) = credentials::for_call(options.auth.as_ref(), options.credentials, image).await;
    let path = api.path("images/create", &query(image, options.platform.as_deref())?);
    let outcome = stream(&api, About::Pull(image), &path, credentials.as_ref(), progress).await;
    outcome.map_err(|e| credentials::with_reason(e, why_none))
}

/// Without a tag the engine would pull every one there is (docs/reference/docker.md#pull-without-a-tag). The "tag" may be a digest.
fn query(image: &str, platform: Option<&str>) -> Result<Vec<(&'static str, String)>> {
    let image = validate::reference_of_image("name", image)?;
    let mut query = vec![("fromImage", image.familiar_name()), ("tag", image.tag_or_digest().to_owned())];
    query.extend(platform.map(|p| ("platform", p.to_owned())));
    Ok(query)
}

pub(super) async fn push(api: Api, image: &str, options: &PushOptions, progress: &Sink<PullProgress>) -> Result<()> {
    // The engine says it in several ways, some of them in the words of a registry.
    if !images::exists(api.clone(), image, None).await? {
        return Err(reference::not_found(image));
    }
    let (credentials, why_none) = credentials::for_call(options.auth.as_ref(), options.credentials, image).await;
    let name = validate::reference_of_image("name", image)?;
    let query = [("tag", name.tag_or_digest().to_owned())];
    let path = api.path(&format!("images/{}/push", api::encode(&name.familiar_name())), &query);
    // It wants the header, even of one who has none to give.
    let credentials = credentials.unwrap_or_default();
    let outcome = stream(&api, About::Push(image), &path, Some(&credentials), progress).await;
    outcome.map_err(|e| credentials::with_reason(e, why_none))
}

async fn stream(
    api: &Api,
    about: About<'_>,
    path: &str,
    credentials: Option<&Credentials>,
    progress: &Sink<PullProgress>,
) -> Result<()> {
    let (image, done) = match about {
        About::Pull(image) => (image, "Pulled"),
        About::Push(image) => (image, "Pushed"),
        _ => return Err(Error::internal("neither a pull nor a push")),
    };
    let mut request = api::request(Method::POST, path, api::empty()).about(about)?;
    if let Some(credentials) = credentials {
        let value = HeaderValue::from_str(&credentials.header()).map_err(|e| Error::internal(e.to_string()))?;
        request.headers_mut().insert("X-Registry-Auth", value);
    }
    let answer = within(image, api.send(request)).await?.about(about)?;
    let mut lines = api::json_lines::<Line>(api::SMALL, answer);
    let throttle = Throttle::new(progress.clone());
    let mut layers = Layers::default();
    while let Some(line) = within(image, lines.next()).await? {
        let line = line.about(about)?;
        if let Some(error) = line.error {
            return Err(Failure::in_stream(error).about(about));
        }
        layers.take(&line);
        // The last line of a push is for programs.
        if !line.status.is_empty() {
            throttle.offer(|| layers.progress(&line));
        }
    }
    throttle.always(layers.done(format!("{done} {image}")));
    Ok(())
}

async fn within<T>(image: &str, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(call::IDLE, work).await.map_err(|_| {
        call::timed_out(call::IDLE)
            .detail("image", image)
            .hint("The registry sends nothing. Look at the network, or try again.")
    })
}

/// More than any image has, and than any engine's name of one.
const MOST_LAYERS: usize = 4096;
const LONGEST_ID: usize = 256;

/// Bytes over all layers, as the engine tells them layer by layer.
#[derive(Default)]
struct Layers {
    all: HashMap<String, Layer>,
}

#[derive(Default)]
struct Layer {
    current: u64,
    /// None until the engine has told its size.
    total: Option<u64>,
}

impl Layers {
    fn take(&mut self, line: &Line) {
        let Some(id) = line.id.as_ref().filter(|id| id.len() <= LONGEST_ID) else { return };
        if self.all.len() >= MOST_LAYERS && !self.all.contains_key(id) {
            return;
        }
        let detail = line.detail.as_ref();
        match line.status.as_str() {
            // The manifest's own line bears the tag as its id.
            s if s.starts_with("Pulling from") => {}
            "Pulling fs layer" | "Waiting" | "Preparing" => {
                self.all.entry(id.clone()).or_default();
            }
            "Downloading" | "Pushing" => {
                let layer = self.all.entry(id.clone()).or_default();
                // A retry begins at zero: what we said stays said.
                layer.current = layer.current.max(detail.and_then(|d| d.current).unwrap_or_default());
                let total = detail.and_then(|d| d.total).filter(|t| *t > 0).or(layer.total);
                layer.total = total.map(|t| t.max(layer.current));
            }
            "Already exists" | "Layer already exists" => {
                self.all.insert(id.clone(), Layer { current: 0, total: Some(0) });
            }
            "Download complete" | "Verifying Checksum" | "Extracting" | "Pull complete" | "Pushed" => {
                let layer = self.all.entry(id.clone()).or_default();
                layer.current = layer.total.unwrap_or(layer.current);
                layer.total = Some(layer.current);
            }
            s if s.starts_with("Mounted from") => {
                self.all.insert(id.clone(), Layer { current: 0, total: Some(0) });
            }
            _ => {}
        }
    }

    fn bytes(&self) -> (u64, u64) {
        let current = total(self.all.values().map(|l| l.current));
        (current, total(self.all.values().map(|l| l.total.unwrap_or(l.current))))
    }

    fn progress(&self, line: &Line) -> PullProgress {
        let (current, total) = self.bytes();
        // Layers whose size is not known yet are taken for as large as the others.
        let known = || self.all.values().filter(|l| l.total.is_some()).count() as f64 / self.all.len() as f64;
        PullProgress::of(
            line.status.clone(),
            (total > 0).then(|| current as f64 / total as f64 * 100.0 * known()),
            (current, total),
        )
    }

    fn done(&self, status: String) -> PullProgress {
        PullProgress::of(status, Some(100.0), self.bytes())
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    let mut layers = Layers::default();
    for line in text.lines().filter_map(|l| serde_json::from_str::<Line>(l).ok()) {
        layers.take(&line);
        let percent = layers.progress(&line).progress.unwrap_or_default();
        assert!((0.0..=100.0).contains(&percent), "{percent}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{mutex::Mutex, progress::pull_forward_only};

    fn line(id: &str, status: &str, current: u64, total: u64) -> Line {
        Line {
            id: Some(id.into()),
            status: status.into(),
            detail: Some(Detail { current: Some(current), total: Some(total) }),
            error: None,
        }
    }

    #[test]
    fn bytes_of_all_layers_are_one_progress() {
        let mut layers = Layers::default();
        for l in [
            line("latest", "Pulling from library/busybox", 0, 0),
            line("a", "Pulling fs layer", 0, 0),
            line("b", "Pulling fs layer", 0, 0),
            line("c", "Already exists", 0, 0),
            line("a", "Downloading", 50, 100),
        ] {
            layers.take(&l);
        }
        let p = layers.progress(&Line::default());
        assert_eq!((p.current, p.total), (Some(50), Some(100)));
        // Half of one of two layers whose sizes count.
        assert!((p.progress.unwrap() - 100.0 / 3.0).abs() < 0.1, "{p:?}");
        layers.take(&line("b", "Downloading", 300, 300));
        layers.take(&line("a", "Download complete", 0, 0));
        let p = layers.progress(&Line::default());
        assert_eq!((p.current, p.total, p.progress), (Some(400), Some(400), Some(100.0)));
    }

    #[test]
    fn an_engine_that_names_layers_without_end_is_heeded_so_far() {
        let mut layers = Layers::default();
        layers.take(&line("a", "Downloading", 1, 2));
        for n in 0..2 * MOST_LAYERS {
            layers.take(&line(&format!("l{n}"), "Waiting", 0, 0));
        }
        layers.take(&line(&"x".repeat(LONGEST_ID + 1), "Waiting", 0, 0));
        layers.take(&line("a", "Downloading", 2, 2));
        assert_eq!((layers.all.len(), layers.bytes()), (MOST_LAYERS, (2, 2)));
    }

    proptest! {
        #[test]
        fn it_never_goes_back(lines in prop::collection::vec(
            ("[a-d]", prop::sample::select(vec!["Pulling fs layer", "Waiting", "Downloading", "Download complete", "Extracting", "Pull complete", "Already exists", "Retrying in 5 seconds", "Preparing", "Pushing", "Pushed", "Layer already exists", "Mounted from a/b"]), 0u64..1000, 0u64..1000),
            0..60,
        )) {
            let mut layers = Layers::default();
            let seen = Arc::new(Mutex::new(Vec::new()));
            let events = seen.clone();
            let sink = pull_forward_only(Arc::new(move |p: PullProgress| events.lock().push(p)));
            for (id, status, current, total) in lines {
                let l = line(&id, status, current, total);
                layers.take(&l);
                sink(layers.progress(&l));
            }
            let mut last = 0.0;
            for p in seen.lock().iter() {
                let now = p.progress.unwrap_or(last);
                prop_assert!(now >= last && now <= 100.0, "{now} after {last}");
                prop_assert!(p.current <= p.total);
                last = now;
            }
        }
    }

    #[test]
    fn no_tag_means_latest_and_not_all() {
        let query = |image: &str, platform| query(image, platform).unwrap();
        assert_eq!(query("busybox", None), [("fromImage", "busybox".into()), ("tag", "latest".into())]);
        assert_eq!(
            query("r:5/b:1", Some("linux/arm64")),
            [("fromImage", "r:5/b".into()), ("tag", "1".into()), ("platform", "linux/arm64".into())]
        );
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(query("docker.io/ghcr.io/x:1", None)[0].1, "docker.io/ghcr.io/x");
        for image in [format!("MYREG/b@{digest}"), format!("MYREG/b:1@{digest}")] {
            assert_eq!(query(&image, None), [("fromImage", "MYREG/b".into()), ("tag", digest.clone())]);
        }
    }
}

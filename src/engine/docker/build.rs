//! Building an image: by the engine's BuildKit, or by its classic builder where there is no other.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt;
use hyper::{Method, header};
use prost::Message;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::{self, Api, ApiVersion},
    error::Failure,
    refusal::About,
    session::{self, Given},
};
use crate::{
    engine::{
        build::{self, Account, Build, Status},
        reference,
    },
    error::{Error, Result},
    progress::{BuildProgress, Sink},
};

/// From this API on an engine may have a BuildKit.
const BUILDKIT: ApiVersion = ApiVersion(1, 39);
/// What hyper takes for a path, with some room.
const LONGEST_PATH: usize = 60 << 10;
/// One of BuildKit's messages may hold the output of a second.
const LONGEST_LINE: api::Limit = 16 << 20;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Line {
    id: String,
    aux: Value,
    /// Of the classic builder.
    stream: String,
    error: Option<String>,
}

pub(super) async fn build(api: Api, build: Build, sink: &Sink<BuildProgress>) -> Result<String> {
    let session = if api.is_podman() || api.version() < BUILDKIT {
        None
    } else {
        match session::open(&api, Given::of(&build)).await {
            Ok(session) => Some(session),
            // An engine that has none.
            Err(Failure::Answer { status: 404 | 501, .. }) => None,
            Err(e) => return Err(e.about(About::Engine)),
        }
    };
    if session.is_none() && !build.secrets.is_empty() {
        return Err(Error::invalid("secrets", "this engine has no BuildKit, and its own builder knows no secrets"));
    }
    let path = api.path("build", &query(&build, session.as_ref().map(|session| session.id.as_str())));
    if path.len() > LONGEST_PATH {
        return Err(Error::invalid(
            "args",
            format!("with labels and tags, {} bytes are more than an engine takes", path.len()),
        ));
    }
    let mut account = Account::new(sink.clone(), &build.secrets);
    let is_classic = session.is_none();
    let (body, broken) = api::streamed(build.tar);
    let outcome = async {
        let mut request = api::request(Method::POST, &path, body)?;
        request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-tar"));
        let mut lines = api::json_lines::<Line>(LONGEST_LINE, api.send(request).await?);
        let mut id = None;
        while let Some(line) = lines.next().await {
            if let Some(found) = take(line?, is_classic, &mut account)? {
                id = Some(found);
            }
        }
        id.ok_or_else(|| Failure::strange("it does not say which image it built"))
    }
    .await;
    if let Some(e) = broken.lock().take() {
        return Err(e);
    }
    outcome.map_err(|e| match e {
        Failure::Answer { message, .. } => build::refused(&message, &account, &build.secrets),
        e => e.about(About::Engine),
    })
}

fn query(build: &Build, session: Option<&str>) -> Vec<(&'static str, String)> {
    let o = &build.options;
    let mut query = vec![("dockerfile", build.dockerfile.clone())];
    let one = || "1".to_owned();
    query.extend(session.map(|_| ("version", "2".to_owned())));
    query.extend(session.map(|id| ("session", id.to_owned())));
    query.extend(o.tags.iter().map(|tag| ("t", tag.clone())));
    query.extend(o.target.iter().map(|target| ("target", target.clone())));
    query.extend(o.platform.iter().map(|platform| ("platform", platform.clone())));
    query.extend(o.no_cache.then(|| ("nocache", one())));
    query.extend(o.pull.then(|| ("pull", one())));
    if !o.args.is_empty() {
        query.push(("buildargs", json!(o.args).to_string()));
    }
    if !o.labels.is_empty() {
        query.push(("labels", json!(o.labels).to_string()));
    }
    if !o.cache_from.is_empty() {
        query.push(("cachefrom", json!(o.cache_from).to_string()));
    }
    if session.is_none() {
        // Also after a failure.
        query.extend([("rm", one()), ("forcerm", one())]);
    }
    query
}

/// The image's id, where the line says it.
fn take(line: Line, is_classic: bool, account: &mut Account) -> Result<Option<String>, Failure> {
    if let Some(error) = line.error {
        return Err(Failure::in_stream(error));
    }
    if line.id == "moby.buildkit.trace" {
        let trace = line.aux.as_str().and_then(|text| STANDARD.decode(text).ok());
        let status = trace.and_then(|trace| Status::decode(trace.as_slice()).ok());
        account.take(status.ok_or_else(|| Failure::strange("its account of a build"))?);
        return Ok(None);
    }
    // Besides BuildKit an engine says which names it gave.
    if is_classic && !line.stream.is_empty() {
        account.classic(&line.stream);
    }
    Ok(line.aux["ID"].as_str().filter(|id| reference::is_id(id)).map(str::to_owned))
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    let mut account = Account::new(crate::progress::ignore(), &build::Secrets::default());
    for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        if let Err(e) = take(line, true, &mut account) {
            assert!(!build::refused(&e.to_string(), &account, &build::Secrets::default()).message().is_empty());
        }
    }
}

//! The Docker API at one endpoint. Calls without an answer go through bollard; whatever has a body, and must lose no field of
//! it, is asked for here, over the same connections.

use std::{io, pin::Pin, sync::Arc};

use bollard::{BollardRequest, ClientVersion};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Frame, Incoming},
    header,
};
use hyper_util::{
    client::legacy::{Client, ResponseFuture},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{beside::Beside, clock::Clock, endpoint::Endpoint, error::Failure, proxy::Proxy, transport::Connector};
use crate::{
    address::bracketed,
    engine::BoxStream,
    error::{Error, ErrorCode, Result},
    mutex::Mutex,
};

/// Bollard's own body type, which it does not name.
pub(super) type Body =
    Either<Full<Bytes>, StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>>>;

/// The newest API whose answers this crate has been written against.
const NEWEST: ApiVersion = ApiVersion(1, 51);
const OLDEST: ApiVersion = ApiVersion(1, 24);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion(pub usize, pub usize);

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// The version both sides speak; `theirs` is the newest that the engine knows (docs/reference/docker.md#api-versions).
fn agree(theirs: Option<ApiVersion>, endpoint: &Endpoint) -> Result<ApiVersion> {
    let theirs = theirs.ok_or_else(|| {
        Error::new(ErrorCode::EngineUnreachable, format!("What answers at {endpoint} is no Docker engine"))
            .hint("Look what listens there, or name another endpoint.")
    })?;
    if theirs < OLDEST {
        return Err(Error::new(
            ErrorCode::EngineError,
            format!("The engine at {endpoint} speaks Docker API {}.{}, which is too old", theirs.0, theirs.1),
        )
        .hint("Update Docker to 20.10 or newer."));
    }
    Ok(theirs.min(NEWEST))
}

/// Cheap to clone: the connections are shared.
#[derive(Clone)]
pub(super) struct Api(Arc<Inner>, Option<Arc<dyn Beside>>);

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Api({})", self.0.endpoint)
    }
}

struct Inner {
    endpoint: Endpoint,
    http: Http,
    bollard: bollard::Docker,
    version: ApiVersion,
    engine_version: Option<String>,
    podman: bool,
    clock: Clock,
}

/// Query parameters. `Option`s that are absent leave theirs out.
pub(super) type Query<'a> = &'a [(&'a str, String)];

impl Api {
    /// Connects, and agrees on an API version.
    pub(super) async fn connect(endpoint: Endpoint) -> Result<Self> {
        let http = Http::new(&endpoint);
        let ping = request(Method::GET, "/_ping", empty()).map_err(|e| e.at(&endpoint))?;
        let answer = http.request(ping).map_err(|e| e.at(&endpoint))?.await.map_err(|e| {
            match http.connector.take_read_error() {
                Some(told) if !e.is_connect() => Failure::from(told).at(&endpoint),
                _ => Failure::from(e).at(&endpoint),
            }
        })?;
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        // `Docker/20.10.24 (linux)`
        let engine_version = header("server").and_then(|s| {
            s.split_once('/').map(|(_, rest)| rest.split([' ', '+']).next().unwrap_or_default().to_owned())
        });
        let theirs = header("api-version").as_deref().and_then(ApiVersion::parse);
        let podman = answer.headers().contains_key("libpod-api-version");
        if !answer.status().is_success() {
            let status = answer.status();
            return Err(Error::new(
                ErrorCode::EngineUnreachable,
                format!("What answers at {endpoint} is not ready or no Docker engine: HTTP {status}"),
            )
            .hint(super::error::START_DOCKER));
        }
        drain(answer).await;
        let version = agree(theirs, &endpoint)?;
        let bollard = bollard(http.clone(), version)?;
        Ok(Self(
            Arc::new(Inner { endpoint, http, bollard, version, engine_version, podman, clock: Clock::default() }),
            None,
        ))
    }

    #[must_use]
    pub(super) fn with(self, elsewhere: Option<Arc<dyn Beside>>) -> Self {
        Self(self.0, elsewhere)
    }

    /// What an engine on another machine lacks here.
    pub(super) fn elsewhere(&self) -> Option<&dyn Beside> {
        self.1.as_deref()
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    pub(super) fn http(&self) -> &Http {
        &self.0.http
    }

    pub(super) fn version(&self) -> ApiVersion {
        self.0.version
    }

    pub(super) fn engine_version(&self) -> Option<&str> {
        self.0.engine_version.as_deref()
    }

    pub(super) fn is_podman(&self) -> bool {
        self.0.podman
    }

    pub(super) fn bollard(&self) -> &bollard::Docker {
        &self.0.bollard
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// `path` without the version, its parts already [`encode`]d.
    pub(super) fn path(&self, path: &str, query: Query<'_>) -> String {
        let ApiVersion(major, minor) = self.0.version;
        let mut out = format!("/v{major}.{minor}/{path}");
        for (i, (key, value)) in query.iter().enumerate() {
            out.push(if i == 0 { '?' } else { '&' });
            out.push_str(key);
            out.push('=');
            out.push_str(&encode(value));
        }
        out
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        self.0.http.send(request).await
    }

    pub(super) async fn get(&self, path: &str, query: Query<'_>) -> Result<Response<Incoming>, Failure> {
        self.send(request(Method::GET, &self.path(path, query), empty())?).await
    }

    pub(super) async fn get_json<T: DeserializeOwned>(
        &self,
        limit: Limit,
        path: &str,
        query: Query<'_>,
    ) -> Result<T, Failure> {
        parsed(&self.get_whole(limit, path, query).await?)
    }

    /// Apart from what is read of it, so that it is compiled once.
    async fn get_whole(&self, limit: Limit, path: &str, query: Query<'_>) -> Result<Vec<u8>, Failure> {
        whole(limit, self.get(path, query).await?).await
    }

    pub(super) async fn post(&self, path: &str, query: Query<'_>, body: Body) -> Result<Response<Incoming>, Failure> {
        self.send(request(Method::POST, &self.path(path, query), body)?).await
    }

    /// To make something: the answer is little more than its id.
    pub(super) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
        body: &Value,
    ) -> Result<T, Failure> {
        parsed(&self.post_whole(path, query, body).await?)
    }

    async fn post_whole(&self, path: &str, query: Query<'_>, body: &Value) -> Result<Vec<u8>, Failure> {
        whole(SMALL, self.post(path, query, json_body(body)).await?).await
    }

    /// A connection that belongs to one process: what comes after the answer's head is its streams.
    pub(super) async fn upgrade(
        &self,
        path: &str,
        query: Query<'_>,
        body: Body,
    ) -> Result<(hyper::HeaderMap, impl AsyncRead + AsyncWrite + Send + Unpin + use<>), Failure> {
        self.upgraded(request(Method::POST, &self.path(path, query), body)?, "tcp").await
    }

    pub(super) async fn upgraded(
        &self,
        mut request: Request<Body>,
        protocol: &'static str,
    ) -> Result<(hyper::HeaderMap, impl AsyncRead + AsyncWrite + Send + Unpin + use<>), Failure> {
        request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static(protocol));
        let answer = self.send(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::strange(format!("HTTP {} instead of an upgraded connection", answer.status())));
        }
        let headers = answer.headers().clone();
        Ok((headers, TokioIo::new(hyper::upgrade::on(answer).await?)))
    }
}

/// Bollard over our connections. It leaves the version out of its paths, so it is put in here: without one, a newer
/// engine would answer in its newest form.
fn bollard(http: Http, version: ApiVersion) -> Result<bollard::Docker> {
    let transport = move |mut request: BollardRequest| {
        let http = http.clone();
        async move {
            let tail = request.uri().path_and_query().map_or("/", |p| p.as_str());
            let path = format!("/v{}.{}{tail}", version.0, version.1);
            *request.uri_mut() = path.parse::<Uri>().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
            // Only with an HTTP client of its own does bollard have a place for the errors of one; and it would read any
            // refusal to its end.
            http.send(request).await.map_err(|e| io::Error::other(e).into())
        }
    };
    let version = ClientVersion { major_version: version.0, minor_version: version.1 };
    // Its deadline is not wanted, a stop may take long: calls end early in one place, `Call::run`.
    bollard::Docker::connect_with_custom_transport(transport, Some(BASE), u64::from(u32::MAX), &version)
        .map_err(|e| Error::internal(e.to_string()))
}

/// Where an engine has no address: the connector knows where to, and this only fills the Host header.
const BASE: &str = "http://docker";

/// An engine's connections, and how it wants to be asked over them.
#[derive(Clone)]
pub(super) struct Http {
    pub(super) connector: Connector,
    client: Client<Connector, Body>,
    /// For requests that take their connection over. It is `client` where there is no proxy.
    tunnelled: Client<Connector, Body>,
    /// What stands before every path.
    base: Arc<str>,
}

impl Http {
    fn new(endpoint: &Endpoint) -> Self {
        let connector = Connector::new(endpoint.clone());
        let build = |connector: Connector| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(std::time::Duration::from_secs(30))
                // A list comes in one read then, and not in many that each wake two tasks.
                .http1_read_buf_exact_size(64 * 1024)
                .build::<_, Body>(connector)
        };
        let client = build(connector.clone());
        let tunnelled = connector.forwarder().map_or_else(|| client.clone(), |_| build(connector.tunnelled()));
        let base = match endpoint {
            // As an address can have it: a host with a zone or a blank in it has none.
            Endpoint::Tcp { host, port, prefix, .. } => {
                let real = format!("http://{}:{port}{prefix}", bracketed(host));
                if real.parse::<Uri>().is_ok() { real } else { format!("{BASE}{prefix}") }
            }
            _ => BASE.to_owned(),
        };
        Self { connector, client, tunnelled, base: base.into() }
    }

    /// Of a request for a path.
    fn request(&self, mut request: Request<Body>) -> Result<ResponseFuture, Failure> {
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let uri = format!("{}{path}", self.base).parse::<Uri>();
        *request.uri_mut() = uri.map_err(|e| Failure::strange(e.to_string()))?;
        if request.headers().contains_key(header::UPGRADE) {
            return Ok(self.tunnelled.request(request));
        }
        if let Some(authorization) = self.connector.forwarder().and_then(Proxy::authorization) {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        Ok(self.client.request(request))
    }

    /// A refusal is read, too: up to a size at which looking through it takes no time.
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        let answer = self.request(request)?.await?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let (body, _) = read(SMALL, answer).await?;
        Err(Failure::answer(status.as_u16(), &body))
    }

    /// The head of a `GET` over a connection that is used once.
    pub(super) fn head(&self, path: &str) -> Vec<u8> {
        let address = self.base.strip_prefix("http://").unwrap_or(&self.base);
        let (host, prefix) = address.split_at(address.find('/').unwrap_or(address.len()));
        let forwarder = self.connector.forwarder();
        let target = if forwarder.is_some() { &self.base } else { prefix };
        let mut head = format!("GET {target}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n").into_bytes();
        if let Some(authorization) = forwarder.and_then(Proxy::authorization) {
            head.extend_from_slice(&[b"Proxy-Authorization: ", authorization.as_bytes(), b"\r\n"].concat());
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

pub(super) fn request(method: Method, path: &str, body: Body) -> Result<Request<Body>, Failure> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|e| Failure::strange(e.to_string()))
}

pub(super) fn empty() -> Body {
    Either::Left(Full::default())
}

/// A body that is sent as it comes, and where its own error is noted: that would come back as "the request's body failed".
pub(super) fn streamed(content: BoxStream<Bytes>) -> (Body, Arc<Mutex<Option<Error>>>) {
    let broken: Arc<Mutex<Option<Error>>> = Arc::default();
    let note = broken.clone();
    let body = content.map(move |piece| {
        piece.map(Frame::data).map_err(|e| {
            let text = io::Error::other(e.to_string());
            *note.lock() = Some(e);
            text
        })
    });
    (Either::Right(StreamBody::new(body.boxed())), broken)
}

pub(super) fn json_body(value: &Value) -> Body {
    Either::Left(Full::new(value.to_string().into()))
}

/// The answer of a call that made something.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Created {
    pub(super) id: String,
    pub(super) warnings: Option<Vec<String>>,
}

/// Most bytes of an answer that are kept.
pub(super) type Limit = usize;
/// What is said of one event: an id, an exit code, a refusal, a line of a pull.
pub(super) const SMALL: Limit = 1 << 20;
/// What is known about one thing. The largest are containers with all the labels, variables and arguments they may have.
pub(super) const ONE: Limit = 16 << 20;
/// About all there are.
pub(super) const ALL: Limit = 64 << 20;

/// The answer's first bytes, and whether there are more.
async fn read(limit: Limit, answer: Response<Incoming>) -> Result<(Vec<u8>, bool), Failure> {
    let (mut body, mut all) = (answer.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if data.len() > limit - all.len() {
            all.extend_from_slice(&data[..limit - all.len()]);
            return Ok((all, true));
        }
        all.extend_from_slice(&data);
    }
    Ok((all, false))
}

async fn whole(limit: Limit, answer: Response<Incoming>) -> Result<Vec<u8>, Failure> {
    let (body, more) = read(limit, answer).await?;
    if more { Err(Failure::TooLarge(limit)) } else { Ok(body) }
}

pub(super) async fn json<T: DeserializeOwned>(limit: Limit, answer: Response<Incoming>) -> Result<T, Failure> {
    parsed(&whole(limit, answer).await?)
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    Ok(serde_json::from_slice(body)?)
}

/// Connections go back to the pool only when their answer has been read. One that goes on and on is not worth it.
pub(super) async fn drain(answer: Response<Incoming>) {
    let _ = read(SMALL, answer).await;
}

/// An answer's bytes as they come.
pub(super) fn bytes(answer: Response<Incoming>) -> impl Stream<Item = Result<Bytes, Failure>> + Send + Unpin {
    TryStreamExt::map_err(answer.into_body().into_data_stream(), Failure::from)
}

/// One JSON document a line, of which `limit` is the longest.
pub(super) fn json_lines<T: DeserializeOwned + Send + 'static>(
    limit: Limit,
    answer: Response<Incoming>,
) -> impl Stream<Item = Result<T, Failure>> + Send + Unpin {
    let reader = tokio_util::io::StreamReader::new(bytes(answer).map_err(io::Error::other));
    let lines = tokio_util::codec::FramedRead::new(reader, tokio_util::codec::LinesCodec::new_with_max_length(limit));
    lines
        .map_err(move |e| Failure::from_line(e, limit))
        .try_filter(|line| std::future::ready(!line.trim().is_empty()))
        .map(|line| line.and_then(|l| parsed(l.as_bytes())))
}

/// A part of a path, or a query's value. `/` and `:` stay: image references hold them.
pub(super) fn encode(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const SET: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b':').remove(b'@');
    utf8_percent_encode(text, SET).to_string()
}

/// Docker prints names with a slash; in a path it would be one too many.
pub(super) fn bare(id: &str) -> &str {
    id.trim_start_matches('/')
}

/// Filters as the API wants them.
pub(super) fn filters(filters: &crate::engine::types::Filters) -> String {
    serde_json::to_string(filters).unwrap_or_default()
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_lines(data: &[u8]) -> Vec<String> {
    use tokio_util::codec::Decoder;
    let mut codec = tokio_util::codec::LinesCodec::new_with_max_length(SMALL);
    let mut buffer = bytes::BytesMut::from(data);
    let mut lines = Vec::new();
    while let Ok(Some(line)) = codec.decode_eof(&mut buffer) {
        ApiVersion::parse(&line);
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_as_numbers() {
        assert!(ApiVersion::parse("1.9") < ApiVersion::parse("1.41"));
        assert_eq!(ApiVersion::parse("1.41"), Some(ApiVersion(1, 41)));
        assert_eq!(ApiVersion::parse("one"), None);
    }

    #[test]
    fn the_older_side_decides_on_the_version_within_what_we_know() {
        let at = |theirs: &str| agree(ApiVersion::parse(theirs), &Endpoint::Unix("/d.sock".into()));
        assert_eq!(at("1.41").unwrap(), ApiVersion(1, 41));
        assert_eq!(at("1.99").unwrap(), NEWEST);
        assert_eq!(at("1.23").unwrap_err().code(), ErrorCode::EngineError);
        assert_eq!(at("").unwrap_err().code(), ErrorCode::EngineUnreachable);
    }

    #[test]
    fn a_part_of_a_path_cannot_leave_it() {
        assert_eq!(encode("a?b=c&d#e"), "a%3Fb%3Dc%26d%23e");
        assert_eq!(encode("reg:5000/a/b:c@sha256:0"), "reg:5000/a/b:c@sha256:0");
    }
}

//! A build's session: a connection on which BuildKit asks its client, by gRPC (docs of moby/buildkit, `session/`). It may have the
//! secrets of this build, and the user's credentials for the registries that the build names; of files it gets none.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::{Method, header::HeaderValue, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Request, Response, Status,
    server::{Grpc, UnaryService},
};

use super::{
    api::{self, Api},
    error::Failure,
};
use crate::{
    engine::{
        build::{self, Build, Secrets},
        raw::Raw,
        reference,
        types::StoredCredentials,
    },
    random, task,
};

const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Dropping it closes the connection, and with it ends the build.
pub(super) struct Session {
    pub(super) id: String,
    _serving: AbortOnDropHandle<()>,
}

/// What may be asked for.
pub(super) struct Given {
    secrets: Secrets,
    registries: BTreeSet<String>,
    stored: StoredCredentials,
}

pub(super) async fn open(api: &Api, given: Given) -> Result<Session, Failure> {
    let id = format!("{}{}", random::word(), random::word());
    let mut request = api::request(Method::POST, &api.path("session", &[]), api::empty())?;
    let headers = request.headers_mut();
    let text = |text: &str| HeaderValue::from_str(text).map_err(|e| Failure::strange(e.to_string()));
    headers.insert("X-Docker-Expose-Session-Uuid", text(&id)?);
    headers.insert("X-Docker-Expose-Session-Name", HeaderValue::from_static("lima-runtime"));
    headers.insert("X-Docker-Expose-Session-Sharedkey", HeaderValue::from_static(""));
    for method in [CREDENTIALS, SECRET, HEALTH] {
        headers.append("X-Docker-Expose-Session-Grpc-Method", HeaderValue::from_static(method));
    }
    let (_, connection) = api.upgraded(request, "h2c").await?;
    let serving = task::spawn(async move {
        if let Err(error) = serve(connection, Arc::new(given)).await {
            tracing::debug!(%error, "a build's session");
        }
    });
    Ok(Session { id, _serving: AbortOnDropHandle::new(serving) })
}

/// More than BuildKit asks at once, and what it asks with.
const MOST_AT_ONCE: u32 = 64;
const LONGEST_QUESTION: usize = 64 << 10;

async fn serve(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    given: Arc<Given>,
) -> Result<(), hyper::Error> {
    let answer = service_fn(move |request: hyper::Request<_>| {
        let question = Question { given: given.clone(), method: request.uri().path().to_owned() };
        async move {
            let mut grpc = Grpc::new(Raw).max_decoding_message_size(LONGEST_QUESTION);
            Ok::<_, Infallible>(grpc.unary(question, request).await)
        }
    });
    http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(MOST_AT_ONCE)
        .max_header_list_size(16 << 10)
        .serve_connection(TokioIo::new(connection), answer)
        .await
}

struct Question {
    given: Arc<Given>,
    method: String,
}

impl UnaryService<Bytes> for Question {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, question: Request<Bytes>) -> Self::Future {
        let (given, method) = (self.given.clone(), std::mem::take(&mut self.method));
        Box::pin(async move { Ok(Response::new(given.answer(&method, &question.into_inner()).await?.into())) })
    }
}

/// `CredentialsRequest`, `GetSecretRequest`: of what.
#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    of: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CredentialsAnswer {
    #[prost(string, tag = "1")]
    username: String,
    #[prost(string, tag = "2")]
    secret: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SecretAnswer {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthAnswer {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

impl Given {
    pub(super) fn of(build: &Build) -> Self {
        let (secrets, registries) = (build.secrets.clone(), build.registries.clone());
        Self { secrets, registries, stored: build.options.credentials }
    }

    async fn answer(&self, method: &str, question: &[u8]) -> Result<Vec<u8>, Status> {
        let asked = Asked::decode(question).map_err(|e| Status::invalid_argument(e.to_string()));
        match method {
            HEALTH => Ok(HealthAnswer { status: SERVING }.encode_to_vec()),
            SECRET => {
                let data = self.secrets.get(&asked?.of).ok_or_else(|| Status::not_found("no such secret"))?.to_vec();
                Ok(SecretAnswer { data }.encode_to_vec())
            }
            CREDENTIALS => {
                let found = build::stored(&self.registries, self.stored, domain(&asked?.of)).await;
                let (username, secret) = found.map(|found| found.for_buildkit()).unwrap_or_default();
                Ok(CredentialsAnswer { username, secret }.encode_to_vec())
            }
            _ => Err(Status::unimplemented("not of this session")),
        }
    }
}

/// BuildKit calls Docker Hub by the host that it connects to.
fn domain(host: &str) -> &str {
    if host == "registry-1.docker.io" { reference::HUB } else { host }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use hyper::{HeaderMap, Request};

    use super::*;

    fn given() -> Given {
        Given {
            secrets: Secrets::from_iter([("token".to_owned(), b"hunter2".to_vec())]),
            registries: BTreeSet::new(),
            stored: StoredCredentials::User,
        }
    }

    fn framed(message: &[u8]) -> Bytes {
        let mut all = vec![0];
        all.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        all.extend(message);
        all.into()
    }

    /// What a call is answered: the message, or the status.
    async fn ask(client: &mut h2::client::SendRequest<Bytes>, method: &str, data: Bytes) -> Result<Bytes, String> {
        let request = Request::post(format!("http://x{method}")).body(()).unwrap();
        let (answer, mut body) = client.clone().ready().await.unwrap().send_request(request, false).unwrap();
        body.send_data(data, true).unwrap();
        let answer = answer.await.unwrap();
        let status = |headers: &HeaderMap| headers.get("grpc-status").map(|s| s.to_str().unwrap().to_owned());
        if let Some(status) = status(answer.headers()) {
            return Err(status);
        }
        let mut body = answer.into_body();
        let mut all = BytesMut::new();
        while let Some(piece) = body.data().await {
            all.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(status(&body.trailers().await.unwrap().unwrap()).unwrap(), "0");
        // Behind a flag and the length.
        Ok(all.split_off(5).freeze())
    }

    #[tokio::test]
    async fn buildkit_gets_what_the_build_has_and_nothing_else() {
        let (here, there) = tokio::io::duplex(64 << 10);
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(here, Arc::new(given()))));
        let (mut client, connection) = h2::client::handshake(there).await.unwrap();
        let connection = tokio::spawn(connection);
        let of = |of: &str| framed(&Asked { of: of.to_owned() }.encode_to_vec());
        let secret = ask(&mut client, SECRET, of("token")).await.unwrap();
        assert_eq!(SecretAnswer::decode(secret).unwrap().data, b"hunter2");
        assert_eq!(ask(&mut client, SECRET, of("other")).await.unwrap_err(), "5");
        assert_eq!(ask(&mut client, HEALTH, framed(&[])).await.unwrap(), [8, 1].as_slice());
        // Of a registry that the build does not name, whatever is stored.
        let none = ask(&mut client, CREDENTIALS, of("registry-1.docker.io")).await.unwrap();
        assert!(none.is_empty());
        for method in [
            "/moby.filesync.v1.FileSync/DiffCopy",
            "/moby.filesync.v1.Auth/FetchToken",
            "/moby.sshforward.v1.SSH/ForwardAgent",
        ] {
            assert_eq!(ask(&mut client, method, of("/etc/passwd")).await.unwrap_err(), "12", "{method}");
        }
        for wrong in [
            Bytes::new(),
            Bytes::from_static(&[0, 0, 0, 0, 9, 1]),
            Bytes::from_static(&[1, 0, 0, 0, 0]),
            framed(&vec![10; LONGEST_QUESTION + 1]),
            framed(&[0xff]),
        ] {
            assert_ne!(ask(&mut client, SECRET, wrong).await.unwrap_err(), "0");
        }
        drop(serving);
        assert!(connection.await.unwrap().is_ok() || client.ready().await.is_err());
    }
}

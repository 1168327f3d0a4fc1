//! The kept connection to containerd.

use std::{sync::Arc, time::Instant};

use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::interceptor::{InterceptedService, Interceptor},
    transport::{Channel, Endpoint},
};

use crate::{
    error::{Error, Result},
    guest::{Guest, Socket},
    mutex::Mutex,
    task,
};

pub(crate) type Service = InterceptedService<Channel, Namespace>;

/// Sends `containerd-namespace` with every request (docs/reference/containerd.md#namespaces), and knows when the last
/// one was made.
#[derive(Clone)]
pub(crate) struct Namespace {
    name: MetadataValue<Ascii>,
    asked: Asked,
}

type Asked = Arc<Mutex<Instant>>;

impl Interceptor for Namespace {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        *self.asked.lock() = Instant::now();
        request.metadata_mut().insert("containerd-namespace", self.name.clone());
        Ok(request)
    }
}

/// Made without connecting; when the connection was lost, the next call connects anew.
pub(crate) fn service(guest: Arc<dyn Guest>, namespace: &str) -> Result<Service> {
    let header = namespace
        .parse()
        .map_err(|_| Error::invalid("namespace", format!("{namespace:?} is not a containerd namespace")))?;
    let asked: Asked = Arc::new(Mutex::new(Instant::now()));
    let headers = Namespace { name: header, asked: asked.clone() };
    let connect = tower::service_fn(move |_| {
        let (guest, asked) = (guest.clone(), asked.clone());
        async move { connect(guest, asked).await.map(TokioIo::new) }
    });
    // The name is never looked up: the connector knows where to go.
    let channel = Endpoint::from_static("http://containerd").connect_with_connector_lazy(connect);
    Ok(InterceptedService::new(channel, headers))
}

/// An attempt goes on when the request that began it was given up, and the next request gets what came of it: when that
/// is a failure from before it was made, it is tried again.
async fn connect(guest: Arc<dyn Guest>, asked: Asked) -> Result<Socket> {
    let attempt = async || {
        let guest = guest.clone();
        let work = async move { (guest.connect(guest.containerd_socket()).await, Instant::now()) };
        let done = AbortOnDropHandle::new(task::spawn(work)).await;
        done.map_err(|e| Error::internal("connecting to containerd failed").source(e))
    };
    let (done, ended) = attempt().await?;
    let old = done.is_err() && ended < *asked.lock();
    if old { attempt().await?.0 } else { done }
}

//! containerd's gRPC API: what it knows by itself, without nerdctl's files.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures_util::{Stream, StreamExt, TryFutureExt, TryStreamExt};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::interceptor::{InterceptedService, Interceptor},
    transport::{Channel, Endpoint},
};

use super::{
    events::Subject,
    labels, metrics,
    proto::containerd::{
        events::{TaskExit, TaskStart},
        services::{
            containers::v1 as containers,
            events::v1::{PublishRequest, SubscribeRequest},
            images::v1 as images,
            introspection::v1::PluginsRequest,
            tasks::v1 as tasks,
        },
        types::Envelope,
        v1::types::{Process, Status as ProcessStatus},
    },
    rpc::{self, Method},
};
use crate::{
    engine::{BoxStream, ContainerState, Millis, StatsSample, time},
    error::{Error, ErrorCode, Result},
    guest::{Guest, Socket},
    task,
};

pub use containers::Container;
pub use images::Image;

pub(super) type Service = InterceptedService<Channel, Namespace>;

/// Our own sign that a subscription stands: containerd gives none
/// (docs/reference/containerd.md#a-subscription-has-no-beginning).
pub(super) const SIGN: &str = "/lima-runtime/subscribed";

/// Sends `containerd-namespace` with every request (docs/reference/containerd.md#namespaces), and knows when the last
/// one was made.
#[derive(Clone)]
pub(super) struct Namespace {
    name: MetadataValue<Ascii>,
    asked: Asked,
}

type Asked = Arc<Mutex<Instant>>;

impl Interceptor for Namespace {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        request.metadata_mut().insert("containerd-namespace", self.name.clone());
        Ok(request)
    }
}

/// A kept connection. Made without connecting; when it was lost, the next call connects anew.
#[derive(Clone)]
pub struct Api {
    service: Service,
    namespace: Arc<str>,
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
    let old = done.is_err() && ended < *asked.lock().unwrap_or_else(PoisonError::into_inner);
    if old { attempt().await?.0 } else { done }
}

/// What a container's task says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub state: ContainerState,
    pub pid: u32,
    /// Once it ended.
    pub exit_code: Option<i64>,
    pub exited_at: Option<Millis>,
}

/// An event of this namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum ApiEvent {
    TaskStarted {
        container: String,
    },
    /// A container's own process ended; execs that end are not reported.
    TaskExited {
        container: String,
        exit_code: i64,
    },
    /// Anything else, by its topic (`/containers/create`, `/images/delete` …).
    Other {
        topic: String,
    },
}

impl Api {
    pub fn new(guest: Arc<dyn Guest>, namespace: &str) -> Result<Self> {
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
        Ok(Self { service: InterceptedService::new(channel, headers), namespace: namespace.into() })
    }

    /// The daemon's version, for example `1.6.20~ds1`: the readiness probe, too (docs/reference/containerd.md#version).
    pub async fn version(&self) -> Result<String> {
        let answer = self.ask(()).await.map_err(refused)?;
        Ok(answer.version)
    }

    /// Restart policies that the daemon's restart monitor knows; containerd 1.6 names none and knows `always` alone
    /// (docs/reference/containerd.md#restart-policies).
    pub async fn restart_policies(&self) -> Result<Vec<String>> {
        let request = PluginsRequest { filters: vec!["id==restart".to_owned()] };
        let answer = self.ask(request).await.map_err(refused)?;
        let mut policies: Vec<String> = answer.plugins.into_iter().flat_map(|p| p.capabilities).collect();
        if policies.is_empty() {
            policies.push("always".to_owned());
        }
        Ok(policies)
    }

    /// `filters` in containerd's own language, for example `labels."nerdctl/name"==web`; all of them when empty.
    pub async fn containers(&self, filters: Vec<String>) -> Result<Vec<Container>> {
        let answer = self.ask(containers::ListContainersRequest { filters }).await.map_err(refused)?;
        Ok(answer.containers)
    }

    /// Those of this name, or with an id that begins with it.
    pub(super) async fn called(&self, reference: &str) -> Result<Vec<Container>> {
        let mut filters = vec![format!("labels.{:?}=={reference:?}", labels::NAME)];
        if reference.bytes().all(|b| b.is_ascii_hexdigit()) {
            filters.push(format!("id~=\"^{reference}\""));
        }
        self.containers(filters).await
    }

    /// Everything there is, with the tasks by container id.
    pub(super) async fn everything(&self) -> Result<(Vec<Container>, HashMap<String, Task>)> {
        tokio::try_join!(self.containers(vec![]), self.tasks())
    }

    pub async fn container(&self, id: &str) -> Result<Container> {
        let request = containers::GetContainerRequest { id: id.to_owned() };
        let answer = self.ask(request).await.map_err(|s| of_container(s, id))?;
        answer.container.ok_or_else(|| not_found(id))
    }

    /// Sets labels, and leaves the others.
    pub async fn set_labels(&self, id: &str, labels: HashMap<String, String>) -> Result<()> {
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let request = containers::UpdateContainerRequest {
            container: Some(Container { id: id.to_owned(), labels, ..Container::default() }),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        self.ask(request).await.map_err(|s| of_container(s, id))?;
        Ok(())
    }

    /// The tasks by container id. A container without one never ran, or lost its task with the daemon or the guest
    /// (docs/reference/containerd.md#tasks).
    pub async fn tasks(&self) -> Result<HashMap<String, Task>> {
        let request = tasks::ListTasksRequest::default();
        let answer = self.ask(request).await.map_err(refused)?;
        Ok(answer.tasks.into_iter().map(|p| (p.id.clone(), task(&p))).collect())
    }

    pub async fn task(&self, id: &str) -> Result<Option<Task>> {
        let request = tasks::GetRequest { container_id: id.to_owned(), ..tasks::GetRequest::default() };
        match self.ask(request).await {
            Ok(answer) => Ok(answer.process.as_ref().map(task)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(refused(status)),
        }
    }

    pub async fn pause(&self, id: &str) -> Result<()> {
        let request = tasks::PauseTaskRequest { container_id: id.to_owned() };
        self.ask(request).await.map(drop).map_err(|s| of_container(s, id))
    }

    pub async fn resume(&self, id: &str) -> Result<()> {
        let request = tasks::ResumeTaskRequest { container_id: id.to_owned() };
        self.ask(request).await.map(drop).map_err(|s| of_container(s, id))
    }

    pub async fn kill(&self, id: &str, signal: u32) -> Result<()> {
        let request = tasks::KillRequest { container_id: id.to_owned(), signal, ..tasks::KillRequest::default() };
        self.ask(request).await.map(drop).map_err(|s| of_container(s, id))
    }

    /// Waits for the container's own process; answers at once when it has ended.
    pub async fn wait(&self, id: &str) -> Result<i64> {
        let request = tasks::WaitRequest { container_id: id.to_owned(), ..tasks::WaitRequest::default() };
        let answer = self.ask(request).await.map_err(|s| of_container(s, id))?;
        Ok(i64::from(answer.exit_status))
    }

    /// One reading of a running container's counters. Network counters are not containerd's to know.
    pub async fn sample(&self, id: &str) -> Result<StatsSample> {
        let request = tasks::MetricsRequest { filters: vec![format!("id=={id}")] };
        let answer = self.ask(request).await.map_err(|s| of_container(s, id))?;
        let at = Instant::now();
        let data = answer.metrics.into_iter().find(|m| m.id == id).and_then(|m| m.data);
        let data = data.ok_or_else(|| {
            Error::new(ErrorCode::InvalidState, format!("Container {id} is not running")).detail("id", id)
        })?;
        metrics::sample(&data, at)
    }

    pub async fn images(&self) -> Result<Vec<Image>> {
        let answer = self.ask(images::ListImagesRequest::default()).await.map_err(refused)?;
        Ok(answer.images)
    }

    /// What happens in every namespace, from now on, as containerd says it.
    pub(super) fn envelopes(&self) -> BoxStream<Envelope> {
        let subscribed = rpc::open(self.service.clone(), SubscribeRequest { filters: vec![] });
        subscribed.try_flatten_stream().map_err(refused).boxed()
    }

    pub(super) async fn ask<M: Method>(&self, request: M) -> Result<M::Answer, Status> {
        rpc::ask(self.service.clone(), request).await
    }

    pub(super) async fn open<M: Method>(
        &self,
        request: M,
    ) -> Result<impl Stream<Item = Result<M::Answer, Status>> + Send + Unpin + use<M>, Status> {
        rpc::open(self.service.clone(), request).await
    }

    /// Says [`SIGN`] on the daemon's stream of events, with `mark` for its subject.
    pub(super) async fn publish(&self, mark: &str) -> Result<()> {
        let event = prost_types::Any {
            type_url: "containerd.events.ContainerUpdate".into(),
            value: Subject { id: mark.to_owned() }.encode_to_vec(),
        };
        let request = PublishRequest { topic: SIGN.to_owned(), event: Some(event) };
        self.ask(request).await.map(drop).map_err(refused)
    }

    pub(super) fn is_mine(&self, envelope: &Envelope) -> bool {
        // Every namespace's events arrive, whatever the header says
        // (docs/reference/containerd.md#events-of-all-namespaces).
        envelope.namespace == *self.namespace
    }

    /// Events from now on. The first answer comes with the first event
    /// (docs/reference/containerd.md#a-subscription-has-no-beginning), so nothing waits for a beginning: poll the stream.
    pub fn events(&self) -> BoxStream<ApiEvent> {
        let this = self.clone();
        self.envelopes()
            .filter_map(move |envelope| {
                let event = match envelope {
                    Ok(e) if this.is_mine(&e) => event(&e).map(Ok),
                    Ok(_) => None,
                    Err(e) => Some(Err(e)),
                };
                std::future::ready(event)
            })
            .boxed()
    }
}

pub(super) fn millis(t: &prost_types::Timestamp) -> Millis {
    time::of_millis(t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos) / 1_000_000))
}

fn task(process: &Process) -> Task {
    let status = process.status();
    let state = match status {
        ProcessStatus::Running => ContainerState::Running,
        ProcessStatus::Paused | ProcessStatus::Pausing => ContainerState::Paused,
        ProcessStatus::Stopped => ContainerState::Exited,
        ProcessStatus::Created | ProcessStatus::Unknown => ContainerState::Stopped,
    };
    let exit_code = (status == ProcessStatus::Stopped).then_some(i64::from(process.exit_status));
    let exited_at = process.exited_at.as_ref().filter(|_| exit_code.is_some()).map(millis);
    Task { state, pid: process.pid, exit_code, exited_at }
}

fn event(envelope: &Envelope) -> Option<ApiEvent> {
    let data = envelope.event.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
    match envelope.topic.as_str() {
        "/tasks/start" => {
            let e: TaskStart = prost::Message::decode(data).ok()?;
            Some(ApiEvent::TaskStarted { container: e.container_id })
        }
        "/tasks/exit" => {
            let e: TaskExit = prost::Message::decode(data).ok()?;
            // An exec's end has the same topic, with the exec's id (docs/reference/containerd.md#ends-of-execs).
            (e.id == e.container_id)
                .then(|| ApiEvent::TaskExited { container: e.container_id, exit_code: i64::from(e.exit_status) })
        }
        topic => Some(ApiEvent::Other { topic: topic.to_owned() }),
    }
}

fn not_found(id: &str) -> Error {
    Error::new(ErrorCode::ContainerNotFound, format!("No such container: {id}")).detail("id", id)
}

fn of_container(status: Status, id: &str) -> Error {
    match status.code() {
        Code::NotFound => not_found(id),
        Code::FailedPrecondition => {
            Error::new(ErrorCode::InvalidState, status.message()).detail("id", id).source(status)
        }
        _ => refused(status),
    }
}

/// Codes by situation. When the connection could not be made, the guest's own error says why.
pub(super) fn refused(status: Status) -> Error {
    let mut cause = std::error::Error::source(&status);
    while let Some(e) = cause {
        if let Some(ours) = e.downcast_ref::<Error>() {
            let again = Error::new(ours.code(), ours.message());
            return match ours.hint_text() {
                Some(hint) => again.hint(hint),
                None => again,
            };
        }
        cause = e.source();
    }
    let code = match status.code() {
        // What the daemon itself says has no cause; a connection that breaks has, and many codes (cancelled, internal).
        _ if std::error::Error::source(&status).is_some() => ErrorCode::ContainerdNotReady,
        Code::Unavailable => ErrorCode::ContainerdNotReady,
        Code::PermissionDenied => ErrorCode::PermissionDenied,
        _ => ErrorCode::EngineError,
    };
    Error::new(code, format!("containerd: {}", status.message())).source(status)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    for topic in ["/tasks/start", "/tasks/exit", "/images/create"] {
        let any = prost_types::Any { type_url: String::new(), value: data.to_vec() };
        event(&Envelope { topic: topic.into(), event: Some(any), ..Envelope::default() });
    }
    if let Ok(process) = Process::decode(data) {
        task(&process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_is_no_answer_of_the_daemon() {
        for code in [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled] {
            let mut broken = Status::new(code, "h2 protocol error");
            broken.set_source(Arc::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
            assert_eq!(refused(broken).code(), ErrorCode::ContainerdNotReady, "{code:?}");
        }
        for code in [Code::Unknown, Code::Internal, Code::Cancelled] {
            assert_eq!(refused(Status::new(code, "no")).code(), ErrorCode::EngineError, "{code:?}");
        }
    }
}

//! The methods of containerd's API, by the message that asks.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hyper::http::uri::PathAndQuery;
use prost::Message;
use tonic::{Request, Response, Status, Streaming, client::Grpc};

use super::super::proto::containerd::{
    services::{
        containers::v1 as containers, content::v1 as content, events::v1 as events, images::v1 as images,
        introspection::v1 as introspection, leases::v1 as leases, snapshots::v1 as snapshots, tasks::v1 as tasks,
        version::v1 as version,
    },
    types::Envelope,
};
use super::connection::Service;
use crate::engine::raw::Raw;

/// A request, where it goes and what comes back.
pub(crate) trait Method: Message {
    const PATH: &'static str;
    type Answer: Message + Default + 'static;
}

macro_rules! methods {
    ($($path:literal: $request:ty => $answer:ty,)*) => {
        $(impl Method for $request {
            const PATH: &'static str = concat!("/containerd.services.", $path);
            type Answer = $answer;
        })*
    };
}

methods! {
    "containers.v1.Containers/Get": containers::GetContainerRequest => containers::GetContainerResponse,
    "containers.v1.Containers/List": containers::ListContainersRequest => containers::ListContainersResponse,
    "containers.v1.Containers/Update": containers::UpdateContainerRequest => containers::UpdateContainerResponse,
    "content.v1.Content/Info": content::InfoRequest => content::InfoResponse,
    "content.v1.Content/List": content::ListContentRequest => content::ListContentResponse,
    "content.v1.Content/ListStatuses": content::ListStatusesRequest => content::ListStatusesResponse,
    "content.v1.Content/Read": content::ReadContentRequest => content::ReadContentResponse,
    "events.v1.Events/Publish": events::PublishRequest => (),
    "events.v1.Events/Subscribe": events::SubscribeRequest => Envelope,
    "images.v1.Images/Create": images::CreateImageRequest => images::CreateImageResponse,
    "images.v1.Images/Delete": images::DeleteImageRequest => (),
    "images.v1.Images/Get": images::GetImageRequest => images::GetImageResponse,
    "images.v1.Images/List": images::ListImagesRequest => images::ListImagesResponse,
    "images.v1.Images/Update": images::UpdateImageRequest => images::UpdateImageResponse,
    "introspection.v1.Introspection/Plugins": introspection::PluginsRequest => introspection::PluginsResponse,
    "leases.v1.Leases/Delete": leases::DeleteRequest => (),
    "leases.v1.Leases/List": leases::ListRequest => leases::ListResponse,
    "leases.v1.Leases/ListResources": leases::ListResourcesRequest => leases::ListResourcesResponse,
    "snapshots.v1.Snapshots/List": snapshots::ListSnapshotsRequest => snapshots::ListSnapshotsResponse,
    "snapshots.v1.Snapshots/Mounts": snapshots::MountsRequest => snapshots::MountsResponse,
    "snapshots.v1.Snapshots/Stat": snapshots::StatSnapshotRequest => snapshots::StatSnapshotResponse,
    "snapshots.v1.Snapshots/Usage": snapshots::UsageRequest => snapshots::UsageResponse,
    "tasks.v1.Tasks/CloseIO": tasks::CloseIoRequest => (),
    "tasks.v1.Tasks/DeleteProcess": tasks::DeleteProcessRequest => tasks::DeleteResponse,
    "tasks.v1.Tasks/Exec": tasks::ExecProcessRequest => (),
    "tasks.v1.Tasks/Get": tasks::GetRequest => tasks::GetResponse,
    "tasks.v1.Tasks/Kill": tasks::KillRequest => (),
    "tasks.v1.Tasks/List": tasks::ListTasksRequest => tasks::ListTasksResponse,
    "tasks.v1.Tasks/ListPids": tasks::ListPidsRequest => tasks::ListPidsResponse,
    "tasks.v1.Tasks/Metrics": tasks::MetricsRequest => tasks::MetricsResponse,
    "tasks.v1.Tasks/Pause": tasks::PauseTaskRequest => (),
    "tasks.v1.Tasks/ResizePty": tasks::ResizePtyRequest => (),
    "tasks.v1.Tasks/Resume": tasks::ResumeTaskRequest => (),
    "tasks.v1.Tasks/Start": tasks::StartRequest => tasks::StartResponse,
    "tasks.v1.Tasks/Wait": tasks::WaitRequest => tasks::WaitResponse,
    // The only one without a question.
    "version.v1.Version/Version": () => version::VersionResponse,
}

/// For one answer.
pub(crate) async fn ask<M: Method>(service: Service, request: M) -> Result<M::Answer, Status> {
    decoded(unary(service, M::PATH, request.encode_to_vec().into()).await?)
}

/// For as many as come.
pub(crate) async fn open<M: Method>(
    service: Service,
    request: M,
) -> Result<impl Stream<Item = Result<M::Answer, Status>> + Send + Unpin + use<M>, Status> {
    let answers = streaming(service, M::PATH, request.encode_to_vec().into()).await?;
    Ok(answers.map(|answer| answer.and_then(decoded)))
}

fn decoded<T: Message + Default>(bytes: Bytes) -> Result<T, Status> {
    T::decode(bytes).map_err(|e| Status::internal(e.to_string()))
}

/// A list of a few hundred containers with their specs goes past tonic's 4 MiB.
const LARGEST_ANSWER: usize = 64 << 20;

async fn client(service: Service) -> Result<Grpc<Service>, Status> {
    let mut grpc = Grpc::new(service).max_decoding_message_size(LARGEST_ANSWER);
    grpc.ready().await.map_err(|e| Status::unknown(format!("Service was not ready: {e}")))?;
    Ok(grpc)
}

async fn unary(service: Service, path: &'static str, request: Bytes) -> Result<Bytes, Status> {
    let path = PathAndQuery::from_static(path);
    client(service).await?.unary(Request::new(request), path, Raw).await.map(Response::into_inner)
}

async fn streaming(service: Service, path: &'static str, request: Bytes) -> Result<Streaming<Bytes>, Status> {
    let path = PathAndQuery::from_static(path);
    client(service).await?.server_streaming(Request::new(request), path, Raw).await.map(Response::into_inner)
}

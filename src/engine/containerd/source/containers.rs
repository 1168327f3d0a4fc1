//! Containers' records, and their tasks.

use std::{collections::HashMap, time::Instant};

#[cfg(any(test, feature = "fuzzing"))]
use prost::Message as _;
use prost_types::{Any, FieldMask};
use serde_json::Value;
use tonic::{Code, Status};

use super::super::proto::containerd::{
    services::{containers::v1 as containers, tasks::v1 as tasks},
    v1::types::{Process, Status as ProcessStatus},
};
use super::{
    api::{Api, millis, optional, refused},
    metrics,
};
use crate::{
    engine::{ContainerState, Millis, StatsSample},
    error::{Error, ErrorCode, Result},
};

pub use containers::Container;

/// What a container's task says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub state: ContainerState,
    pub pid: u32,
    /// Once it ended.
    pub exit_code: Option<i64>,
    pub exited_at: Option<Millis>,
}

impl Api {
    /// `filters` in containerd's own language, for example `labels."nerdctl/name"==web`; all of them when empty.
    pub async fn containers(&self, filters: Vec<String>) -> Result<Vec<Container>> {
        let answer = self.ask(containers::ListContainersRequest { filters }).await.map_err(refused)?;
        Ok(answer.containers)
    }

    pub async fn container(&self, id: &str) -> Result<Container> {
        let request = containers::GetContainerRequest { id: id.to_owned() };
        let answer = self.ask(request).await.map_err(|s| of_container(s, id))?;
        answer.container.ok_or_else(|| not_found(id))
    }

    /// Sets labels, and leaves the others.
    pub async fn set_labels(&self, id: &str, labels: HashMap<String, String>) -> Result<()> {
        self.update(Container { id: id.to_owned(), labels, ..Container::default() }).await
    }

    /// What the container's next start is made from, and labels beside the ones it has.
    pub(crate) async fn set_spec(&self, id: &str, spec: Any, labels: HashMap<String, String>) -> Result<()> {
        self.update(Container { id: id.to_owned(), labels, spec: Some(spec), ..Container::default() }).await
    }

    /// A field that is empty stays as it is.
    async fn update(&self, container: Container) -> Result<()> {
        let id = container.id.clone();
        let mut paths: Vec<String> = container.labels.keys().map(|key| format!("labels.{key}")).collect();
        paths.extend(container.spec.is_some().then(|| "spec".to_owned()));
        let request =
            containers::UpdateContainerRequest { container: Some(container), update_mask: Some(FieldMask { paths }) };
        self.ask(request).await.map(drop).map_err(|s| of_container(s, &id))
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
        Ok(optional(self.ask(request).await)?.and_then(|answer| answer.process.as_ref().map(task)))
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

    /// The processes of a running container, by their numbers where its containerd is.
    pub async fn pids(&self, id: &str) -> Result<Vec<u32>> {
        let request = tasks::ListPidsRequest { container_id: id.to_owned() };
        let answer = self.ask(request).await.map_err(|s| of_container(s, id))?;
        Ok(answer.processes.into_iter().map(|p| p.pid).collect())
    }

    /// Of the container's own process's terminal.
    pub async fn resize(&self, id: &str, columns: u16, rows: u16) -> Result<()> {
        self.exec_of(id, "").resize(columns, rows).await
    }

    /// A process beside the container's own.
    pub(crate) fn exec_of(&self, container: &str, exec: &str) -> Exec {
        Exec { api: self.clone(), container: container.to_owned(), id: exec.to_owned() }
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
}

#[derive(Clone)]
pub(crate) struct Exec {
    api: Api,
    container: String,
    id: String,
}

/// Where a process's streams are: FIFOs, which whoever opens them has made. An empty one is none.
pub(crate) struct Streams {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Exec {
    fn ids(&self) -> (String, String) {
        (self.container.clone(), self.id.clone())
    }

    fn refused(&self, status: Status) -> Error {
        of_container(status, &self.container)
    }

    pub(crate) async fn create(&self, process: &Value, streams: Streams) -> Result<()> {
        let (container_id, exec_id) = self.ids();
        let Streams { stdin, stdout, stderr } = streams;
        let terminal = process["terminal"].as_bool().unwrap_or_default();
        let spec = Some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
            value: process.to_string().into_bytes(),
        });
        let request = tasks::ExecProcessRequest { container_id, stdin, stdout, stderr, terminal, spec, exec_id };
        self.api.ask(request).await.map_err(|s| self.refused(s))
    }

    pub(crate) async fn start(&self) -> Result<()> {
        let (container_id, exec_id) = self.ids();
        self.api.ask(tasks::StartRequest { container_id, exec_id }).await.map(drop).map_err(|s| self.refused(s))
    }

    /// Its exit code, once it has ended.
    pub(crate) async fn wait(&self) -> Result<i64> {
        let (container_id, exec_id) = self.ids();
        let answer = self.api.ask(tasks::WaitRequest { container_id, exec_id }).await.map_err(|s| self.refused(s))?;
        Ok(i64::from(answer.exit_status))
    }

    pub(crate) async fn kill(&self, signal: u32) -> Result<()> {
        let (container_id, exec_id) = self.ids();
        let request = tasks::KillRequest { container_id, exec_id, signal, all: false };
        self.api.ask(request).await.map_err(|s| self.refused(s))
    }

    pub(crate) async fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let (container_id, exec_id) = self.ids();
        let request = tasks::ResizePtyRequest { container_id, exec_id, width: columns.into(), height: rows.into() };
        self.api.ask(request).await.map_err(|s| self.refused(s))
    }

    /// The daemon holds the input open beside whoever writes to it.
    pub(crate) async fn close_input(&self) -> Result<()> {
        let (container_id, exec_id) = self.ids();
        self.api.ask(tasks::CloseIoRequest { container_id, exec_id, stdin: true }).await.map_err(|s| self.refused(s))
    }

    /// Of one that has ended, or never began.
    pub(crate) async fn delete(&self) -> Result<()> {
        let (container_id, exec_id) = self.ids();
        let request = tasks::DeleteProcessRequest { container_id, exec_id };
        self.api.ask(request).await.map(drop).map_err(|s| self.refused(s))
    }
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

fn of_container(status: Status, id: &str) -> Error {
    match status.code() {
        Code::NotFound => not_found(id),
        Code::FailedPrecondition => {
            Error::new(ErrorCode::InvalidState, status.message()).detail("id", id).source(status)
        }
        _ => refused(status),
    }
}

pub(crate) fn not_found(id: &str) -> Error {
    Error::new(ErrorCode::ContainerNotFound, format!("No such container: {id}")).detail("id", id)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    if let Ok(process) = Process::decode(data) {
        task(&process);
    }
}

//! Processes beside a container's own, and the attaching to either.

use bollard::{models::ExecConfig, query_parameters as q};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::ReaderStream;

use super::{
    api::{self, Api},
    containers::{self, bare},
    error::{Failure, On, OnExt},
    events,
    logs::{self, Framing},
};
use crate::{
    engine::{Attached, types::*},
    error::{Error, ErrorCode, Result},
};

pub(super) async fn exec(api: Api, id: &str, argv: &[String], options: &ExecOptions) -> Result<(String, Attached)> {
    let on = On::Container(id);
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(options.tty),
        cmd: Some(argv.to_vec()),
        env: Some(options.env.iter().map(|(k, v)| format!("{k}={v}")).collect()),
        working_dir: options.workdir.clone(),
        user: options.user.clone(),
        ..ExecConfig::default()
    };
    let exec = api.bollard().create_exec(bare(id), config).await.on(on)?.id;
    let body = api::json_body(&json!({ "Detach": false, "Tty": options.tty })).on(on)?;
    let (_, connection) = api.upgrade(&format!("exec/{exec}/start"), &[], body).await.on(on)?;
    let framing = if options.tty { Framing::Raw } else { Framing::Multiplexed };
    Ok((exec, attached(connection, framing, id)))
}

pub(super) async fn attach(api: Api, id: &str) -> Result<Attached> {
    let query = ["stream", "stdin", "stdout", "stderr"].map(|k| (k, "1".to_owned()));
    let path = format!("containers/{}/attach", api::encode(bare(id)));
    let (headers, connection) = api.upgrade(&path, &query, api::empty()).await.on(On::Container(id))?;
    let framing = logs::framing(&api, id, &headers).await?;
    Ok(attached(connection, framing, id))
}

fn attached(connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, framing: Framing, id: &str) -> Attached {
    let (read, write) = tokio::io::split(connection);
    let output = ReaderStream::with_capacity(read, 64 * 1024).map(|r| r.map_err(Failure::from));
    Attached { output: logs::demultiplex(output, framing, id.to_owned()), input: Box::pin(write) }
}

/// The streams of a process may end before the engine has noted its end: then its `exec_die` event is waited for
/// (docs/reference/docker.md#ends-of-execs).
pub(super) async fn exit_code(api: Api, exec: &str) -> Result<i64> {
    let on = On::Engine;
    if let Some(code) = ended(&api, exec).await? {
        return Ok(code);
    }
    let filters = Filters::from([("type".into(), vec!["container".into()]), ("event".into(), vec!["exec_die".into()])]);
    let mut deaths = events::raw(&api, None, &filters).await.on(on)?;
    // It may have ended before the subscription.
    if let Some(code) = ended(&api, exec).await? {
        return Ok(code);
    }
    while let Some(event) = deaths.next().await {
        let attributes = event.on(on)?.actor.attributes;
        if attributes.get("execID").is_some_and(|id| id == exec) {
            if let Some(code) = attributes.get("exitCode").and_then(|c| c.parse().ok()) {
                return Ok(code);
            }
            break;
        }
    }
    let unknown =
        || Error::new(ErrorCode::InvalidState, "The process ended and left no exit code").detail("exec", exec);
    ended(&api, exec).await?.ok_or_else(unknown)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    running: bool,
    exit_code: Option<i64>,
    pid: i64,
    #[serde(rename = "ContainerID")]
    container_id: Option<String>,
}

async fn ended(api: &Api, exec: &str) -> Result<Option<i64>> {
    let path = format!("exec/{}/json", api::encode(exec));
    let state: State = api.get_json(&path, &[]).await.on(On::Engine)?;
    let Some(code) = state.exit_code.filter(|_| !state.running) else { return Ok(None) };
    // A process that never began: there is no such program, or its container ended first. Both are 126 to Docker
    // (docs/reference/docker.md#execs-that-could-not-start).
    if code == 126
        && state.pid == 0
        && let Some(id) = state.container_id
        && !containers::is_running(api, &id).await?
    {
        let message = format!("Container {id} ended before the command could run");
        return Err(Error::new(ErrorCode::InvalidState, message).detail("id", id));
    }
    Ok(Some(code))
}

pub(super) async fn resize(api: Api, exec: &str, columns: u16, rows: u16) -> Result<()> {
    let options = q::ResizeExecOptions { h: rows.into(), w: columns.into() };
    api.bollard().resize_exec(exec, options).await.on(On::Engine)
}

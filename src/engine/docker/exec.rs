//! Processes beside a container's own, and the attaching to either.

use std::time::Duration;

use bollard::{models::ExecConfig, query_parameters as q};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::ReaderStream;

use super::{
    api::{self, Api, bare},
    containers,
    error::{Failure, ResultExt},
    events,
    logs::{self, Framing},
    refusal::About,
};
use crate::{
    engine::{Attached, types::*},
    error::{Error, ErrorCode, Result},
    random, task,
};

pub(super) async fn exec(api: Api, id: &str, argv: &[String], options: &ExecOptions) -> Result<(String, Attached)> {
    let about = About::Container(id);
    let mark = format!("{MARK}={}", random::word());
    let env = options.env.iter().map(|(k, v)| format!("{k}={v}")).chain([mark.clone()]).collect();
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(options.tty),
        cmd: Some(argv.to_vec()),
        env: Some(env),
        working_dir: options.workdir.clone(),
        user: options.user.clone(),
        ..ExecConfig::default()
    };
    let exec = create(&api, id, &config).await?;
    let body = api::json_body(&json!({ "Detach": false, "Tty": options.tty })).about(about)?;
    let mut process =
        ExecProcess { api, container: id.to_owned(), exec, mark, user: options.user.clone(), ended: false };
    let exec = process.exec.clone();
    let (_, connection) = process.api.upgrade(&format!("exec/{exec}/start"), &[], body).await.about(about)?;
    let framing = if options.tty { Framing::Raw } else { Framing::Multiplexed };
    let Attached { mut output, input } = attached(connection, framing, id);
    let output = futures_util::stream::poll_fn(move |cx| {
        let piece = output.poll_next_unpin(cx);
        process.note_end(&piece);
        piece
    });
    Ok((exec, Attached { output: output.boxed(), input }))
}

async fn create(api: &Api, id: &str, config: &ExecConfig) -> Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Created {
        id: String,
    }
    let path = format!("containers/{}/exec", api::encode(bare(id)));
    let created: Created = api.post_json(&path, &[], config).await.about(About::Container(id))?;
    Ok(created.id)
}

/// The variable by which the processes of one exec are known. The engine has no call that ends them, and lets them live
/// when nobody listens any more (docs/reference/docker.md#execs-without-a-listener).
const MARK: &str = "LIMA_RUNTIME_EXEC";

/// Ends every process that has the mark. It runs in the container: where that has no shell, the processes go on.
const END: &str = r#"for p in /proc/[0-9]*; do
  if grep -qs "$1" "$p/environ"; then kill -s "$2" "${p#/proc/}"; fi
done"#;

/// The process of an exec, which is ended with this.
struct ExecProcess {
    api: Api,
    container: String,
    exec: String,
    mark: String,
    user: Option<String>,
    ended: bool,
}

impl ExecProcess {
    /// Its output ends when the process does.
    fn note_end<T>(&mut self, piece: &std::task::Poll<Option<T>>) {
        self.ended |= matches!(piece, std::task::Poll::Ready(None));
    }
}

impl Drop for ExecProcess {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (api, container, exec) = (self.api.clone(), self.container.clone(), self.exec.clone());
        let (mark, user) = (self.mark.clone(), self.user.take());
        task::spawn(async move {
            // TERM first, then KILL, and that more than once: the process may not have started yet.
            let mut pause = Duration::from_millis(200);
            for signal in ["TERM", "KILL", "KILL", "KILL", "KILL"] {
                let argv = ["sh", "-c", END, "sh", &mark, signal].map(str::to_owned).to_vec();
                let config = ExecConfig { cmd: Some(argv), user: user.clone(), ..ExecConfig::default() };
                let end = async {
                    if ended(&api, &exec).await?.is_some() {
                        return Ok(true);
                    }
                    let killer = create(&api, &container, &config).await?;
                    let body = api::json_body(&json!({ "Detach": true })).about(About::Engine)?;
                    let answer = api.post(&format!("exec/{killer}/start"), &[], body).await.about(About::Engine)?;
                    api::drain(answer).await;
                    Ok::<_, Error>(false)
                };
                match end.await {
                    Ok(false) => tokio::time::sleep(pause).await,
                    Ok(true) => return,
                    Err(e) => return tracing::debug!(%e, "a process whose caller is gone could not be ended"),
                }
                pause *= 3;
            }
        });
    }
}

pub(super) async fn attach(api: Api, id: &str) -> Result<Attached> {
    let query = ["stream", "stdin", "stdout", "stderr"].map(|k| (k, "1".to_owned()));
    let path = format!("containers/{}/attach", api::encode(bare(id)));
    let (headers, connection) = api.upgrade(&path, &query, api::empty()).await.about(About::Container(id))?;
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
pub(super) async fn end(api: Api, exec: &str) -> Result<ExecEnd> {
    let about = About::Engine;
    if let Some(end) = ended(&api, exec).await? {
        return Ok(end);
    }
    let filters = Filters::from([("type".into(), vec!["container".into()]), ("event".into(), vec!["exec_die".into()])]);
    let mut deaths = events::raw(&api, None, &filters).await.about(about)?;
    // It may have ended before the subscription.
    if let Some(end) = ended(&api, exec).await? {
        return Ok(end);
    }
    while let Some(event) = deaths.next().await {
        let attributes = event.about(about)?.actor.attributes;
        if attributes.get("execID").is_some_and(|id| id == exec) {
            if let Some(exit_code) = attributes.get("exitCode").and_then(|c| c.parse().ok()) {
                return Ok(ExecEnd { exit_code, began: true });
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

async fn ended(api: &Api, exec: &str) -> Result<Option<ExecEnd>> {
    let path = format!("exec/{}/json", api::encode(exec));
    let state: State = api.get_json(api::ONE, &path, &[]).await.about(About::Engine)?;
    let Some(exit_code) = state.exit_code.filter(|_| !state.running) else { return Ok(None) };
    // A process that never began: there is no such program, or its container ended first. Docker gives it the
    // codes of a shell (docs/reference/docker.md#execs-that-could-not-start).
    let began = state.pid != 0 || !(126..=128).contains(&exit_code);
    if !began
        && let Some(id) = state.container_id
        && !containers::is_running(api, &id).await?
    {
        let message = format!("Container {id} ended before the command could run");
        return Err(Error::new(ErrorCode::InvalidState, message).detail("id", id));
    }
    Ok(Some(ExecEnd { exit_code, began }))
}

pub(super) async fn resize(api: Api, exec: &str, columns: u16, rows: u16) -> Result<()> {
    let options = q::ResizeExecOptions { h: rows.into(), w: columns.into() };
    api.bollard().resize_exec(exec, options).await.about(About::Engine)
}

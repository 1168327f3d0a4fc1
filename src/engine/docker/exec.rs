//! Processes beside a container's own, and the attaching to either.

use std::{task::Poll, time::Duration};

use async_trait::async_trait;
use bollard::query_parameters as q;
use futures_util::StreamExt;
use hyper::{Response, body::Incoming};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::{
    api::{self, Api, ApiVersion, bare},
    containers,
    error::{Failure, ResultExt},
    events,
    logs::{self, Framing},
    refusal::About,
};
use crate::{
    engine::{
        Attached, BoxStream, Control,
        tidy::{is_away, tidy},
        types::*,
    },
    error::{Error, ErrorCode, Result},
    random,
};

/// From here on, an exec's terminal begins with a size.
const SIZED: ApiVersion = ApiVersion(1, 42);

/// Keys that nobody types. By default dockerd ends a terminal's input at Ctrl-P and Ctrl-Q, and holds a Ctrl-P back until the next
/// key (docs/reference/docker.md#keys-that-detach).
fn no_detaching() -> String {
    let keys = random::word();
    keys.chars().fold("ctrl-^".to_owned(), |keys, key| format!("{keys},{key}"))
}

pub(super) async fn exec(api: Api, id: &str, argv: &[String], options: &SpawnOptions) -> Result<Attached> {
    let about = About::Container(id);
    let mark = format!("{MARK}={}", random::word());
    let env: Vec<String> = options.env.iter().map(|(k, v)| format!("{k}={v}")).chain([mark.clone()]).collect();
    let size = options.size().filter(|_| options.tty);
    let console = size.filter(|_| api.version() >= SIZED).map(|(columns, rows)| [rows, columns]);
    let config = json!({
        "AttachStdin": options.has_input(), "AttachStdout": true, "AttachStderr": true, "Tty": options.tty,
        "DetachKeys": options.tty.then(no_detaching), "ConsoleSize": console, "Cmd": argv, "Env": env,
        "Privileged": options.privileged, "WorkingDir": options.workdir, "User": options.user,
    });
    let exec = create(&api, id, &config).await?;
    let body = api::json_body(&json!({ "Detach": false, "Tty": options.tty, "ConsoleSize": console }));
    let spawned = Spawned { api, container: id.to_owned(), exec, mark, user: options.user.clone() };
    let mut process = Held { spawned: spawned.clone(), ended: false };
    let path = format!("exec/{}/start", spawned.exec);
    let (_, connection) = spawned.api.upgrade(&path, &[], body).await.about(about)?;
    let framing = if options.tty { Framing::Raw } else { Framing::Multiplexed };
    let (mut output, input) = streams(connection, framing, id);
    if let Some((columns, rows)) = size.filter(|_| console.is_none()) {
        output = sized(output, &spawned, columns, rows).await;
    }
    let mut output = Messages::told(output, options.tty);
    let output = futures_util::stream::poll_fn(move |cx| {
        let piece = output.poll_next_unpin(cx);
        process.note_end(&piece);
        piece
    });
    Ok(Attached { output: output.boxed(), input, tty: options.tty, control: std::sync::Arc::new(spawned) })
}

/// The output of a terminal that has got its size. The engine answers once the process has begun; one that does not begin only
/// ends its output.
async fn sized(
    mut output: BoxStream<OutputChunk>,
    spawned: &Spawned,
    columns: u16,
    rows: u16,
) -> BoxStream<OutputChunk> {
    let mut early = Vec::new();
    let mut resized = std::pin::pin!(spawned.resize(columns, rows));
    while early.len() < MOST_EARLY {
        tokio::select! {
            _ = &mut resized => break,
            piece = output.next() => match piece {
                Some(piece) => early.push(piece),
                None => return futures_util::stream::iter(early).boxed(),
            },
        }
    }
    futures_util::stream::iter(early).chain(output).boxed()
}

/// Pieces of output, 64 KiB at most, that wait for a terminal's size.
const MOST_EARLY: usize = 64;

async fn create(api: &Api, id: &str, config: &Value) -> Result<String> {
    let path = format!("containers/{}/exec", api::encode(bare(id)));
    let created: api::Created = api.post_json(&path, &[], config).await.about(About::Container(id))?;
    Ok(created.id)
}

/// The engine's own message about what it could not start comes as standard output, and is no output.
struct Messages;

impl Messages {
    const BEGINNINGS: [&[u8]; 4] =
        [b"OCI runtime exec failed", b"unable to find user", b"unable to find group", b"exec failed"];

    fn told(output: BoxStream<OutputChunk>, tty: bool) -> BoxStream<OutputChunk> {
        if tty {
            return output;
        }
        // A first piece that may be one is held until it is known to be the only one.
        let state = (output.fuse(), None, true);
        futures_util::stream::unfold(state, |(mut output, mut waiting, first)| async move {
            if let Some(chunk) = waiting.take() {
                return Some((chunk, (output, None, false)));
            }
            let next = output.next().await?;
            let held = match next {
                Ok(chunk)
                    if first
                        && chunk.stream == OutputStream::Stdout
                        && Self::BEGINNINGS.iter().any(|b| chunk.data.starts_with(b)) =>
                {
                    chunk
                }
                other => return Some((other, (output, None, false))),
            };
            waiting = output.next().await;
            let stream = if waiting.is_none() { OutputStream::Stderr } else { OutputStream::Stdout };
            Some((Ok(OutputChunk { stream, ..held }), (output, waiting, false)))
        })
        .boxed()
    }
}

/// The variable by which the processes of one exec are known. The engine has no call that ends them, and lets them live
/// when nobody listens any more (docs/reference/docker.md#execs-without-a-listener).
const MARK: &str = "LIMA_RUNTIME_EXEC";

/// Ends every process that has the mark. It runs in the container: where that has no shell, the processes go on.
const END: &str = r#"for p in /proc/[0-9]*; do
  if grep -qs "$1" "$p/environ"; then kill -s "$2" "${p#/proc/}"; fi
done"#;

/// Sends a signal to the process that was started, and to none of its children, which have the mark, too. Its parent is
/// outside of the container's namespace of processes; where that is the machine's, its parent has no mark. Ends with 3 when
/// there is none.
const SIGNAL: &str = r#"sent=3
for parents in outside unmarked; do
  for p in /proc/[0-9]*; do
    grep -qs "$1" "$p/environ" || continue
    parent=
    while read -r key value; do [ "$key" != PPid: ] || parent=$value; done 2>/dev/null <"$p/status"
    case $parents in
      outside) [ "$parent" = 0 ] || continue ;;
      *) ! grep -qs "$1" "/proc/$parent/environ" || continue ;;
    esac
    kill -s "$2" "${p#/proc/}" && sent=0
  done
  [ "$sent" != 0 ] || break
done
exit "$sent""#;

#[derive(Clone)]
struct Spawned {
    api: Api,
    container: String,
    exec: String,
    mark: String,
    user: Option<String>,
}

#[async_trait]
impl Control for Spawned {
    /// The streams of a process may end before the engine has noted its end: then its `exec_die` event is waited for
    /// (docs/reference/docker.md#ends-of-execs).
    async fn end(&self) -> Result<ExecEnd> {
        end(&self.api, &self.exec).await
    }

    async fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let options = q::ResizeExecOptions { h: rows.into(), w: columns.into() };
        let resized =
            self.api.bollard().resize_exec(&self.exec, options).await.about(About::Container(&self.container));
        match resized {
            Err(_) if matches!(ended(&self.api, &self.exec).await, Ok(Some(_))) => Ok(()),
            other => other,
        }
    }

    async fn kill(&self, signal: u32) -> Result<()> {
        // It may not have begun.
        for again in [true, true, true, false] {
            if ended(&self.api, &self.exec).await?.is_some() {
                return Ok(());
            }
            let said = match self.run(&["sh", "-c", SIGNAL, "sh", &self.mark, &signal.to_string()]).await? {
                (0, _) => return Ok(()),
                (3, _) if again => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
                (_, said) => said,
            };
            if ended(&self.api, &self.exec).await?.is_none() {
                let message = "The process could not be signalled from inside its container";
                return Err(Error::new(ErrorCode::EngineError, message)
                    .detail("id", self.container.as_str())
                    .detail("stderr", String::from_utf8_lossy(&said).trim())
                    .hint(
                        "Docker has no call for it: it takes sh, grep and kill in the container, as the same user.",
                    ));
            }
        }
        Ok(())
    }
}

impl Spawned {
    /// Runs a program of the container as the process's user; how it ended, and what it printed.
    async fn run(&self, argv: &[&str]) -> Result<(i64, Vec<u8>)> {
        let about = About::Container(&self.container);
        let config = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": argv, "User": self.user });
        let exec = create(&self.api, &self.container, &config).await?;
        let body = api::json_body(&json!({ "Detach": false, "Tty": false }));
        let (_, connection) = self.api.upgrade(&format!("exec/{exec}/start"), &[], body).await.about(about)?;
        let (mut output, mut input) = streams(connection, Framing::Multiplexed, &self.container);
        _ = input.shutdown().await;
        let mut said = Vec::new();
        while let Some(chunk) = output.next().await {
            let data = chunk?.data;
            said.extend_from_slice(&data[..data.len().min(4096_usize.saturating_sub(said.len()))]);
        }
        Ok((end(&self.api, &exec).await?.exit_code, said))
    }
}

/// The process of an exec, which is ended with this.
struct Held {
    spawned: Spawned,
    ended: bool,
}

impl Held {
    /// Its output ends when the process does.
    fn note_end<T>(&mut self, piece: &Poll<Option<T>>) {
        self.ended |= matches!(piece, Poll::Ready(None));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let spawned = self.spawned.clone();
        tidy("a process whose caller is gone may run on", move || Box::pin(end_it(spawned.clone())));
    }
}

async fn end_it(Spawned { api, container, exec, mark, user }: Spawned) -> Result<()> {
    // TERM first, then KILL, and that more than once: the process may not have started yet.
    let mut pause = Duration::from_millis(200);
    for signal in ["TERM", "KILL", "KILL", "KILL", "KILL"] {
        match ended(&api, &exec).await {
            Ok(Some(_)) => return Ok(()),
            Err(e) if is_away(&e) => return Err(e),
            // An engine that was started anew knows no exec of before, whose process may live on.
            Ok(None) | Err(_) => {}
        }
        let config = json!({ "Cmd": ["sh", "-c", END, "sh", mark, signal], "User": user });
        let killer = create(&api, &container, &config).await?;
        let body = api::json_body(&json!({ "Detach": true }));
        let answer = api.post(&format!("exec/{killer}/start"), &[], body).await.about(About::Engine)?;
        api::drain(answer).await;
        tokio::time::sleep(pause).await;
        pause *= 3;
    }
    Ok(())
}

pub(super) async fn attach(api: Api, id: &str, options: &AttachOptions) -> Result<Attached> {
    let container = containers::raw(&api, id).await?;
    let is = |part: &str, key: &str| container[part][key].as_bool().unwrap_or_default();
    if !is("State", "Running") {
        let message = format!("Container {id} is not running");
        return Err(Error::new(ErrorCode::InvalidState, message).detail("id", id));
    }
    if options.stdin && !is("Config", "OpenStdin") {
        return Err(Error::invalid("stdin", format!("container {id} was created without an open input")));
    }
    let full = container["Id"].as_str().unwrap_or(id).to_owned();
    let tty = is("Config", "Tty");
    // It stands before the streams do, which end with the container.
    let wait = containers::begin_wait(&api, &full, &[]).await?;
    let mut query: Vec<_> = ["stream", "stdout", "stderr"].map(|k| (k, "1".to_owned())).into();
    query.extend(options.stdin.then(|| ("stdin", "1".to_owned())));
    query.extend(options.logs.then(|| ("logs", "1".to_owned())));
    query.extend(tty.then(|| ("detachKeys", no_detaching())));
    let path = format!("containers/{full}/attach");
    let (_, connection) = api.upgrade(&path, &query, api::empty()).await.about(About::Container(id))?;
    let framing = if tty { Framing::Raw } else { Framing::Multiplexed };
    let (output, input) = streams(connection, framing, id);
    let control = Own { api, container: full, wait: tokio::sync::Mutex::new(Some(wait)) };
    Ok(Attached { output, input, tty, control: std::sync::Arc::new(control) })
}

/// A container's own process.
struct Own {
    api: Api,
    container: String,
    wait: tokio::sync::Mutex<Option<Response<Incoming>>>,
}

#[async_trait]
impl Control for Own {
    async fn end(&self) -> Result<ExecEnd> {
        let wait = match self.wait.lock().await.take() {
            Some(wait) => wait,
            None => containers::begin_wait(&self.api, &self.container, &[]).await?,
        };
        let WaitResult { exit_code } = containers::end_wait(wait, &self.container).await?;
        Ok(ExecEnd { exit_code, began: true })
    }

    async fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let options = q::ResizeContainerTTYOptions { h: rows.into(), w: columns.into() };
        let about = About::Container(&self.container);
        self.api.bollard().resize_container_tty(&self.container, options).await.about(about)
    }

    async fn kill(&self, signal: u32) -> Result<()> {
        containers::kill(self.api.clone(), &self.container, &signal.to_string()).await
    }
}

type Input = std::pin::Pin<Box<dyn AsyncWrite + Send>>;

fn streams(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    framing: Framing,
    id: &str,
) -> (BoxStream<OutputChunk>, Input) {
    let (read, write) = tokio::io::split(connection);
    let output = ReaderStream::with_capacity(read, 64 * 1024).map(|r| r.map_err(Failure::from));
    (logs::demultiplex(output, framing, id.to_owned()), Box::pin(write))
}

async fn end(api: &Api, exec: &str) -> Result<ExecEnd> {
    let about = About::Engine;
    if let Some(end) = ended(api, exec).await? {
        return Ok(end);
    }
    let filters = Filters::from([("type".into(), vec!["container".into()]), ("event".into(), vec!["exec_die".into()])]);
    let mut deaths = events::raw(api, None, &filters).await.about(about)?;
    // It may have ended before the subscription.
    if let Some(end) = ended(api, exec).await? {
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
    ended(api, exec).await?.ok_or_else(unknown)
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(pieces: &[(OutputStream, &str)]) -> Vec<(OutputStream, String)> {
        let all: Vec<_> = (pieces.iter())
            .map(|(stream, text)| Ok(OutputChunk { stream: *stream, data: text.as_bytes().to_vec().into() }))
            .collect();
        let told = Messages::told(futures_util::stream::iter(all).boxed(), false);
        told.map(|c| c.map(|c| (c.stream, String::from_utf8(c.data.into()).unwrap())).unwrap()).collect().await
    }

    #[tokio::test]
    async fn the_engines_message_is_no_output() {
        use OutputStream::{Stderr, Stdout};
        let message = "OCI runtime exec failed: exec failed: no such program\r\n";
        assert_eq!(told(&[(Stdout, message)]).await, [(Stderr, message.to_owned())]);
        // What prints more is a program.
        for pieces in [
            &[(Stdout, message), (Stdout, "more")][..],
            &[(Stdout, message), (Stderr, "more"), (Stdout, "and more")],
            &[(Stdout, "more"), (Stdout, message)],
            &[(Stderr, message)],
            &[],
        ] {
            let same: Vec<_> = pieces.iter().map(|(s, t)| (*s, (*t).to_owned())).collect();
            assert_eq!(told(pieces).await, same);
        }
    }
}

//! Processes beside a container's own, by containerd's API, and the attaching to the container's own, by its log.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{io::AsyncWrite, sync::watch};
use tokio_util::{
    io::{CopyToBytes, SinkWriter},
    sync::PollSender,
};

use super::{
    super::{prelude::*, source::containers::Exec},
    find::{invalid_state, running, running_or_paused},
    lifecycle, logs,
    relay::Relay,
    spec::spec,
    users,
};
use crate::{
    engine::{
        Attached, Control,
        config::CAPABILITIES,
        refused,
        tidy::{is_away, tidy, unless_away},
    },
    process::STRAGGLER_GRACE,
    random,
};

/// How long a container that is being killed may be said to run.
const DYING: Duration = Duration::from_secs(2);
/// How long a process may take to end after TERM, and after KILL.
const PATIENCE: [(u32, Duration); 2] = [(15, Duration::from_secs(2)), (9, Duration::from_secs(10))];
/// More than pipes and copiers hold of a process that has ended: what comes behind it is of another, which has the pipe, too.
const LATE: usize = 4 << 20;
/// As Docker has it.
const TERM: &str = "TERM=xterm";

pub(crate) async fn exec(c: &Containerd, id: &str, argv: &[String], options: &SpawnOptions) -> Result<Attached> {
    let (container, task) = running(c, id).await?;
    let (process, mut relay) = tokio::try_join!(
        process(c, &container, &task, argv, options),
        Relay::open(c, options.has_input(), options.tty),
    )?;
    let exec = c.api.exec_of(&container.id, &random::word());
    let mut held = Held { exec: exec.clone(), ended: false };
    if let Err(e) = exec.create(&process, relay.streams()).await {
        // While containerd is away nobody knows what became of it.
        held.ended = !is_away(&e);
        return Err(gone(c, &container.id, e).await);
    }
    if let Err(e) = exec.start().await {
        held.ended = !is_away(&e);
        if held.ended {
            let never = exec.clone();
            task::spawn(async move { never.delete().await });
        }
        return unstarted(gone(c, &container.id, e).await, options.tty);
    }
    let input: Pin<Box<dyn AsyncWrite + Send>> = match relay.take_input() {
        Some(sender) => {
            let sink = PollSender::new(sender).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
            let exec = exec.clone();
            Box::pin(Input { to: Box::pin(SinkWriter::new(CopyToBytes::new(sink))), exec: Some(exec) })
        }
        None => Box::pin(tokio::io::sink()),
    };
    let (ended, code) = watch::channel(None);
    let of = exec.clone();
    let output = task::stream(move |out| async move {
        // All of it: one of its fields alone would leave it outside.
        let mut held = held;
        let mut wait = Box::pin(of.wait());
        let mut code = None;
        // Since its end.
        let (mut waited, mut late) = (Duration::ZERO, 0);
        loop {
            let from = Instant::now();
            let chunk = tokio::select! {
                chunk = relay.next() => chunk,
                end = &mut wait, if code.is_none() => {
                    code = Some(end?);
                    continue;
                }
                // Another process holds its output.
                () = tokio::time::sleep(STRAGGLER_GRACE.saturating_sub(waited)), if code.is_some() => break,
            };
            let Some(chunk) = chunk else { break };
            if code.is_some() {
                waited += from.elapsed();
                late += chunk.data.len();
            }
            out.put(chunk).await?;
            if late > LATE {
                break;
            }
        }
        let code = match code {
            Some(code) => code,
            None => wait.await?,
        };
        held.ended = true;
        // Where another process holds its output, the daemon takes ten seconds over it.
        let over = of.clone();
        task::spawn(async move { over.delete().await });
        ended.send_replace(Some(code));
        Ok(())
    });
    Ok(Attached { output, input, tty: options.tty, control: Arc::new(Spawned { exec, code }) })
}

/// The process of an exec, which is ended with this.
struct Held {
    exec: Exec,
    ended: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let exec = self.exec.clone();
        // Its shim keeps it when containerd was killed.
        tidy("a process whose caller is gone may run on", move || Box::pin(end(exec.clone())));
    }
}

async fn end(exec: Exec) -> Result<()> {
    for (signal, patience) in PATIENCE {
        // It may have ended by itself, or not have begun.
        exec.kill(signal).await.or_else(unless_away)?;
        if let Ok(ended) = tokio::time::timeout(patience, exec.wait()).await {
            ended.map(drop).or_else(unless_away)?;
            break;
        }
    }
    exec.delete().await.or_else(unless_away)
}

struct Spawned {
    exec: Exec,
    code: watch::Receiver<Option<i64>>,
}

#[async_trait]
impl Control for Spawned {
    async fn end(&self) -> Result<ExecEnd> {
        let mut code = self.code.clone();
        let code = code.wait_for(Option::is_some).await.map_err(|_| crate::call::aborted())?;
        Ok(ExecEnd { exit_code: code.unwrap_or_default(), began: true })
    }

    async fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        self.unless_ended(self.exec.resize(columns, rows).await)
    }

    async fn kill(&self, signal: u32) -> Result<()> {
        self.unless_ended(self.exec.kill(signal).await)
    }
}

impl Spawned {
    /// Of a process that has ended, containerd knows nothing any more, or says so.
    fn unless_ended(&self, done: Result<()>) -> Result<()> {
        match done {
            Err(e) if self.code.borrow().is_some() || is_over(&e) => Ok(()),
            other => other,
        }
    }
}

fn is_over(e: &Error) -> bool {
    let said = e.message();
    e.code() == ErrorCode::ContainerNotFound
        || ["process already finished", "cannot resize a stopped", "no such process", "not found"]
            .iter()
            .any(|words| said.contains(words))
}

/// The input of an exec: containerd is told of its end, too.
struct Input {
    to: Pin<Box<dyn AsyncWrite + Send>>,
    exec: Option<Exec>,
}

impl Input {
    fn close(&mut self) {
        if let Some(exec) = self.exec.take() {
            // The process may have ended.
            task::spawn(async move { exec.close_input().await });
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.to.as_mut().poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.to.as_mut().poll_shutdown(cx))?;
        self.close();
        Poll::Ready(Ok(()))
    }
}

/// The specification of a process in the container, made of the container's own.
async fn process(
    c: &Containerd,
    container: &Container,
    task: &Task,
    argv: &[String],
    options: &SpawnOptions,
) -> Result<Value> {
    let mut process = spec(container)["process"].take();
    if !process.is_object() {
        return Err(Error::new(ErrorCode::EngineError, "The container's record has no specification")
            .detail("id", container.id.as_str()));
    }
    if let Some(user) = &options.user {
        process["user"] = users::resolve(c, task.pid, user).await?;
    }
    if options.privileged {
        let out = c.guest().run(c.inside(["cat", "/proc/self/status"])).await?.checked("cat")?;
        let all = capabilities(&String::from_utf8_lossy(&out));
        process["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
        if let Some(process) = process.as_object_mut() {
            process.remove("apparmorProfile");
        }
    }
    adapt(&mut process, argv, options);
    Ok(process)
}

fn adapt(process: &mut Value, argv: &[String], options: &SpawnOptions) {
    let mut env: Vec<String> =
        process["env"].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    if options.tty && !env.iter().any(|v| name(v) == "TERM") {
        env.push(TERM.to_owned());
    }
    env.retain(|v| !options.env.contains_key(&name(v)));
    env.extend(options.env.iter().map(|(k, v)| format!("{k}={v}")));
    process["env"] = json!(env);
    process["args"] = json!(argv);
    process["terminal"] = json!(options.tty);
    if let Some(dir) = &options.workdir {
        process["cwd"] = json!(dir);
    }
    if let Some(process) = process.as_object_mut() {
        // Of its own terminal.
        process.remove("consoleSize");
        if let Some((columns, rows)) = options.size() {
            process.insert("consoleSize".to_owned(), json!({ "width": columns, "height": rows }));
        }
    }
}

/// Those that a process has, by its `/proc/self/status`: runc can give no others.
fn capabilities(status: &str) -> Vec<String> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect()
}

/// What could not be started is a program that is not there: then it ends as in a shell.
fn unstarted(e: Error, tty: bool) -> Result<Attached> {
    let said = e.message().trim_start_matches("containerd: ").to_owned();
    let lower = said.to_lowercase();
    let code = refused::missing_program_exit_code(&lower).filter(|_| lower.contains("oci runtime exec failed"));
    let Some(exit_code) = code else { return Err(e) };
    let stream = if tty { OutputStream::Stdout } else { OutputStream::Stderr };
    let message = OutputChunk { stream, data: Bytes::from(format!("{said}\n")) };
    Ok(Attached {
        output: futures_util::stream::iter([Ok(message)]).boxed(),
        input: Box::pin(tokio::io::sink()),
        tty,
        control: Arc::new(Never { code: exit_code }),
    })
}

struct Never {
    code: i64,
}

#[async_trait]
impl Control for Never {
    async fn end(&self) -> Result<ExecEnd> {
        Ok(ExecEnd { exit_code: self.code, began: true })
    }

    async fn resize(&self, _: u16, _: u16) -> Result<()> {
        Ok(())
    }

    async fn kill(&self, _: u32) -> Result<()> {
        Ok(())
    }
}

/// The container may have ended between the look at it and the exec; runc may know it before containerd says so.
async fn gone(c: &Containerd, id: &str, error: Error) -> Error {
    let mut gone = !matches!(c.api.task(id).await, Ok(Some(t)) if t.state == ContainerState::Running);
    let said = error.message();
    if !gone && ["setns", "namespace path"].iter().any(|word| said.contains(word)) {
        gone = tokio::time::timeout(DYING, c.api.wait(id)).await.is_ok();
    }
    if gone && matches!(error.code(), ErrorCode::EngineError | ErrorCode::InvalidState | ErrorCode::ContainerNotFound) {
        return invalid_state(id, "is not running").source(error);
    }
    error
}

/// nerdctl gives what it starts in the background no input, and all output to its log.
pub(crate) async fn attach(c: &Containerd, id: &str, options: &AttachOptions) -> Result<Attached> {
    let (container, _) = running_or_paused(c, id).await?;
    if options.stdin {
        return Err(Error::invalid("stdin", "containerd keeps no input of a container's own process open")
            .hint("Start a process in the container: spawnInContainer."));
    }
    let tty = spec(&container)["process"]["terminal"].as_bool().unwrap_or_default();
    let wanted = LogOptions { follow: true, tail: (!options.logs).then_some(0.0), ..LogOptions::default() };
    let output = logs::logs(c, &container.id, &wanted).await?;
    let control = Arc::new(Own { c: c.clone(), id: container.id });
    Ok(Attached { output, input: Box::pin(tokio::io::sink()), tty, control })
}

/// A container's own process.
struct Own {
    c: Containerd,
    id: String,
}

#[async_trait]
impl Control for Own {
    async fn end(&self) -> Result<ExecEnd> {
        Ok(ExecEnd { exit_code: self.c.api.wait(&self.id).await?, began: true })
    }

    async fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        self.c.api.resize(&self.id, columns, rows).await
    }

    async fn kill(&self, signal: u32) -> Result<()> {
        lifecycle::kill(&self.c, &self.id, &signal.to_string()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_the_containers_own_with_what_was_asked_for() {
        let own = json!({
            "terminal": true, "consoleSize": { "width": 1, "height": 2 }, "cwd": "/srv", "args": ["sh"],
            "env": ["PATH=/bin", "A=1", "AB=2"], "user": { "uid": 5, "gid": 6 }, "noNewPrivileges": true,
        });
        let argv = ["cat".to_owned(), "-".to_owned()];
        let mut plain = own.clone();
        let env = [("A".to_owned(), "3=4".to_owned())].into();
        adapt(&mut plain, &argv, &SpawnOptions { env, ..SpawnOptions::default() });
        let expected = json!({
            "terminal": false, "cwd": "/srv", "args": ["cat", "-"], "env": ["PATH=/bin", "AB=2", "A=3=4"],
            "user": { "uid": 5, "gid": 6 }, "noNewPrivileges": true,
        });
        assert_eq!(plain, expected);
        let mut tty = own;
        let size = SpawnOptions { tty: true, columns: Some(80.0), rows: Some(24.0), ..SpawnOptions::default() };
        adapt(&mut tty, &argv, &size);
        assert_eq!(tty["consoleSize"], json!({ "width": 80, "height": 24 }));
        assert_eq!((&tty["terminal"], &tty["env"][3]), (&json!(true), &json!("TERM=xterm")));
    }

    #[test]
    fn all_capabilities_are_those_of_root_there() {
        assert_eq!(capabilities("Name:\tcat\nCapEff:\t0000000000000005\n"), ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(capabilities("CapEff:\t000001ffffffffff\n").len(), CAPABILITIES.len());
        assert_eq!(capabilities("CapEff:\tffffffffffffffff\n").len(), CAPABILITIES.len());
        assert!(capabilities("").is_empty());
    }

    #[test]
    fn what_is_missing_is_the_program_or_the_container() {
        let failed = |why: &str| {
            let said = format!("containerd: OCI runtime exec failed: exec failed: {why}: unknown");
            unstarted(Error::new(ErrorCode::EngineError, said), false).is_ok()
        };
        assert!(failed("unable to start container process: exec: \"x\": executable file not found in $PATH"));
        assert!(failed("unable to start container process: exec: stat /x: no such file or directory"));
        // containerd 1.6 with runc 1.1, of a container killed as the exec began.
        assert!(!failed(
            "unable to create new parent process: namespace path: lstat /proc/6680/ns/ipc: no such file or directory"
        ));
        assert!(!failed("unable to start container process: chdir to cwd (\"/x\") failed: no such file or directory"));
    }
}

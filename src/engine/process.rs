//! A process in a container as its caller holds it: two streams of output, an input and an end. An engine has one stream for
//! both outputs; it is taken apart here, so that each is read at its own pace.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::{
    io::AsyncWrite,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    backend::{Attached, BoxStream, Control},
    refused, signals,
    types::*,
    validate,
};
use crate::{
    call::{self, CONTAINER_CALL, Call},
    error::{Error, Result},
    task,
};

/// Output that waits for the reader of one stream, in bytes. Beyond it the process waits, and so does its other stream.
const WAITING: usize = 256 * 1024;
/// An engine's message about what it could not start is no longer than an argument vector.
const LONGEST_MESSAGE: usize = 256 * 1024;

/// Dropping it ends a process that was spawned, and lets go of one that was attached to.
pub struct ContainerProcess {
    /// None where it was not asked for.
    pub stdin: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    pub stdout: BoxStream<Bytes>,
    /// None with a terminal.
    pub stderr: Option<BoxStream<Bytes>>,
    pub handle: ProcessHandle,
    pub end: End,
    /// Cancelled when it has ended, or was let go: nobody reads its input any more, which an engine need not tell.
    pub over: CancellationToken,
    pub held: Held,
}

/// Ends the process when it is dropped.
pub struct Held {
    _reading: AbortOnDropHandle<()>,
}

/// The exit code, to be waited for once all output has been handed over.
pub struct End(oneshot::Receiver<Result<i64>>);

impl End {
    pub async fn code(self) -> Result<i64> {
        self.0.await.unwrap_or_else(|_| Err(call::aborted()))
    }
}

impl ContainerProcess {
    /// `spawned`: the options it was spawned with, where it was.
    pub(super) fn new(attached: Attached, stdin: bool, spawned: Option<SpawnOptions>) -> Self {
        let Attached { output, input, tty, control } = attached;
        let (out, stdout) = queue();
        let (err, stderr) = queue();
        let (told, end) = oneshot::channel();
        let ends = control.clone();
        let over = CancellationToken::new();
        let ended = over.clone().drop_guard();
        let reading = AbortOnDropHandle::new(task::spawn(async move {
            let end = read(output, &out, &err, ends.as_ref(), spawned.as_ref()).await;
            // The streams end before the process is said to have.
            drop((out, err));
            _ = told.send(end);
            drop(ended);
        }));
        Self {
            stdin: stdin.then(|| if tty { Box::pin(WithoutEnd(input)) as _ } else { input }),
            stdout,
            stderr: (!tty).then_some(stderr),
            handle: ProcessHandle(control),
            end: End(end),
            over,
            held: Held { _reading: reading },
        }
    }
}

/// Does something with a process; cheap to clone.
#[derive(Clone)]
pub struct ProcessHandle(Arc<dyn Control>);

impl ProcessHandle {
    /// Of its terminal.
    pub async fn resize(&self, columns: f64, rows: f64) -> Result<()> {
        let (columns, rows) = validate::terminal_size(columns, rows)?;
        Call::default().run(CONTAINER_CALL, self.0.resize(columns, rows)).await
    }

    /// `SIGTERM` of itself. A process that has ended gets none, which is no error.
    pub async fn kill(&self, signal: Option<&str>) -> Result<()> {
        let signal = signals::signal_number(signal.unwrap_or("SIGTERM"))?;
        Call::default().run(CONTAINER_CALL, self.0.kill(signal)).await
    }
}

async fn read(
    mut output: BoxStream<OutputChunk>,
    out: &Queue,
    err: &Queue,
    control: &dyn Control,
    spawned: Option<&SpawnOptions>,
) -> Result<i64> {
    // All that was said, while it may still be the engine's message.
    let mut said = Some(Vec::new());
    while let Some(chunk) = output.next().await {
        let chunk = chunk.map_err(|e| blamed(e, spawned))?;
        match &mut said {
            Some(text) if text.len() + chunk.data.len() <= LONGEST_MESSAGE => text.extend_from_slice(&chunk.data),
            other => *other = None,
        }
        let queue = if chunk.stream == OutputStream::Stdout { out } else { err };
        queue.put(chunk.data).await;
    }
    let ExecEnd { exit_code, began } = control.end().await.map_err(|e| blamed(e, spawned))?;
    match (spawned, said) {
        (Some(options), Some(said)) if !began => refused::end_of_unstarted_exec(exit_code, &said, options),
        _ => Ok(exit_code),
    }
}

fn blamed(e: Error, spawned: Option<&SpawnOptions>) -> Error {
    match spawned {
        Some(options) => refused::exec(e, options),
        None => e,
    }
}

struct Queue {
    room: Arc<Semaphore>,
    send: mpsc::UnboundedSender<(Bytes, OwnedSemaphorePermit)>,
}

impl Queue {
    /// Waits for room. What nobody will read is dropped.
    async fn put(&self, data: Bytes) {
        let size = u32::try_from(data.len().clamp(1, WAITING)).unwrap_or(u32::MAX);
        let room = tokio::select! {
            room = self.room.clone().acquire_many_owned(size) => room,
            () = self.send.closed() => return,
        };
        if let Ok(room) = room {
            _ = self.send.send((data, room));
        }
    }
}

fn queue() -> (Queue, BoxStream<Bytes>) {
    let (send, receive) = mpsc::unbounded_channel();
    let stream = stream::unfold(receive, |mut receive| async {
        let (data, _room): (Bytes, OwnedSemaphorePermit) = receive.recv().await?;
        Some((Ok(data), receive))
    });
    (Queue { room: Arc::new(Semaphore::new(WAITING)), send }, stream.boxed())
}

/// The input of a terminal. It has no end: an engine that is told of one would close the output, too
/// (docs/reference/docker.md#end-of-a-terminals-input).
struct WithoutEnd(Pin<Box<dyn AsyncWrite + Send>>);

impl AsyncWrite for WithoutEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.0.as_mut().poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    struct Ended(ExecEnd);

    #[async_trait::async_trait]
    impl Control for Ended {
        async fn end(&self) -> Result<ExecEnd> {
            Ok(self.0)
        }

        async fn resize(&self, _: u16, _: u16) -> Result<()> {
            Ok(())
        }

        async fn kill(&self, _: u32) -> Result<()> {
            Ok(())
        }
    }

    fn process(output: BoxStream<OutputChunk>, end: ExecEnd) -> ContainerProcess {
        let attached =
            Attached { output, input: Box::pin(tokio::io::sink()), tty: false, control: Arc::new(Ended(end)) };
        ContainerProcess::new(attached, false, Some(SpawnOptions::default()))
    }

    fn pieces(all: Vec<(OutputStream, Vec<u8>)>) -> BoxStream<OutputChunk> {
        let all = all.into_iter().map(|(stream, data)| Ok(OutputChunk { stream, data: data.into() }));
        stream::iter(all.collect::<Vec<_>>()).boxed()
    }

    const ENDED: ExecEnd = ExecEnd { exit_code: 7, began: true };

    #[tokio::test]
    async fn the_streams_are_taken_apart_and_come_before_the_end() {
        let all = pieces(vec![
            (OutputStream::Stdout, b"out".to_vec()),
            (OutputStream::Stderr, b"err".to_vec()),
            (OutputStream::Stdout, vec![b'x'; WAITING * 3]),
        ]);
        let mut process = process(all, ENDED);
        let mut end = Box::pin(process.end.code());
        // The large piece does not fit beside the small one.
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), &mut end).await.is_err());
        assert_eq!(process.stdout.next().await.unwrap().unwrap(), "out");
        assert_eq!(end.await.unwrap(), 7);
        assert_eq!(process.stdout.next().await.unwrap().unwrap().len(), WAITING * 3);
        assert!(process.stdout.next().await.is_none());
        assert_eq!(process.stderr.as_mut().unwrap().next().await.unwrap().unwrap(), "err");
    }

    #[tokio::test]
    async fn what_nobody_reads_any_more_holds_up_nothing() {
        let all = pieces(vec![(OutputStream::Stderr, vec![0; WAITING]); 10]);
        let process = process(all, ENDED);
        drop(process.stderr);
        assert_eq!(process.end.code().await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_process_that_is_let_go_ends_its_source() {
        let (told, dropped) = oneshot::channel::<()>();
        let source = stream::poll_fn(move |_| {
            let _held = &told;
            std::task::Poll::Pending
        });
        let process = process(source.boxed(), ENDED);
        drop(process.held);
        assert_eq!(process.end.code().await.unwrap_err().code(), ErrorCode::Aborted);
        dropped.await.unwrap_err();
    }

    #[tokio::test]
    async fn what_never_began_ends_as_in_a_shell() {
        let said = b"OCI runtime exec failed: exec: \"nosuch\": executable file not found in $PATH: unknown\r\n";
        let all = pieces(vec![(OutputStream::Stderr, said.to_vec())]);
        let process = process(all, ExecEnd { exit_code: 126, began: false });
        assert_eq!(process.end.code().await.unwrap(), 127);
    }
}

//! A process in a container: the streams and calls that the facade makes a `ContainerProcess` of.

use std::{pin::Pin, sync::Arc};

use lima_runtime::{
    engine::{ContainerProcess, End, Held, ProcessHandle},
    error::Error,
    mutex::Mutex,
};
use napi::Env;
use napi_derive::napi;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Mutex as AsyncMutex,
};
use tokio_util::sync::CancellationToken;

use crate::{
    convert::Copied,
    promise::{Answer, Promised, promise},
    stream::ByteStream,
};

type Input = Pin<Box<dyn AsyncWrite + Send>>;

#[napi]
pub struct NativeProcess {
    handle: ProcessHandle,
    stdin: Arc<AsyncMutex<Option<Input>>>,
    stdout: Mutex<Option<ByteStream>>,
    stderr: Mutex<Option<ByteStream>>,
    end: Mutex<Option<End>>,
    held: Mutex<Option<Held>>,
    closed: CancellationToken,
    has_stdin: bool,
}

impl From<ContainerProcess> for NativeProcess {
    fn from(process: ContainerProcess) -> Self {
        let ContainerProcess { stdin, stdout, stderr, handle, end, over, held } = process;
        Self {
            handle,
            has_stdin: stdin.is_some(),
            stdin: Arc::new(AsyncMutex::new(stdin)),
            stdout: Mutex::new(Some(ByteStream::new(stdout))),
            stderr: Mutex::new(stderr.map(ByteStream::new)),
            end: Mutex::new(Some(end)),
            held: Mutex::new(Some(held)),
            closed: over,
        }
    }
}

#[napi]
impl NativeProcess {
    #[napi(getter)]
    pub fn has_stdin(&self) -> bool {
        self.has_stdin
    }

    /// Once.
    #[napi]
    pub fn take_stdout(&self) -> Option<ByteStream> {
        self.stdout.lock().take()
    }

    /// Once; none with a terminal.
    #[napi]
    pub fn take_stderr(&self) -> Option<ByteStream> {
        self.stderr.lock().take()
    }

    /// False when nobody reads any more: stop writing.
    #[napi(ts_args_type = "chunk: Uint8Array", ts_return_type = "Promise<boolean>")]
    pub fn write<'e>(&self, env: &'e Env, chunk: Copied) -> Promised<'e> {
        let (stdin, closed) = (self.stdin.clone(), self.closed.clone());
        promise(env, async move {
            let mut stdin = stdin.lock().await;
            let Some(to) = stdin.as_mut() else { return Ok(false) };
            let write = async {
                to.write_all(&chunk.0).await?;
                to.flush().await
            };
            let written = tokio::select! {
                biased;
                () = closed.cancelled() => false,
                written = write => written.is_ok(),
            };
            if !written {
                *stdin = None;
            }
            Ok(written)
        })
    }

    #[napi(ts_return_type = "Promise<void>")]
    pub fn end_input<'e>(&self, env: &'e Env) -> Promised<'e> {
        let (stdin, closed) = (self.stdin.clone(), self.closed.clone());
        promise(env, async move {
            if let Some(mut to) = stdin.lock().await.take() {
                tokio::select! {
                    () = closed.cancelled() => {}
                    // A process that has ended takes no end.
                    _ = to.shutdown() => {}
                }
            }
            Ok(())
        })
    }

    #[napi(ts_return_type = "Promise<void>")]
    pub fn resize<'e>(&self, env: &'e Env, columns: f64, rows: f64) -> Promised<'e> {
        let handle = self.handle.clone();
        promise(env, async move { handle.resize(columns, rows).await })
    }

    #[napi(ts_return_type = "Promise<void>")]
    pub fn kill<'e>(&self, env: &'e Env, signal: Option<String>) -> Promised<'e> {
        let handle = self.handle.clone();
        promise(env, async move { handle.kill(signal.as_deref()).await })
    }

    /// The exit code, once.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn exit<'e>(&self, env: &'e Env) -> Promised<'e> {
        let end = self.end.lock().take();
        promise(env, async move {
            let end = end.ok_or_else(|| Error::internal("a process ends once"))?;
            Ok(Answer::object(end.code().await?))
        })
    }

    /// Ends a process that was spawned; lets go of one that was attached to.
    #[napi]
    pub fn close(&self) {
        self.closed.cancel();
        drop(self.held.lock().take());
        if let Ok(mut stdin) = self.stdin.try_lock() {
            *stdin = None;
        }
    }
}

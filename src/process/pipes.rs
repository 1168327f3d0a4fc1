//! Carries a child's three streams to and from a [`super::program::Process`].

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::program::{Chunk, Driver, STRAGGLER_GRACE};

pub(super) struct Pipes<I, O, E> {
    pub(super) stdin: I,
    pub(super) stdout: O,
    pub(super) stderr: E,
}

/// Returns the result of `exited` once the output has ended, too.
pub(super) async fn carry<T>(
    pipes: Pipes<impl AsyncWrite + Unpin, impl AsyncRead + Unpin, impl AsyncRead + Unpin>,
    input: Bytes,
    Driver { input: mut more_input, chunks, .. }: Driver,
    exited: impl Future<Output = T>,
) -> T {
    let Pipes { mut stdin, stdout, stderr } = pipes;
    let gone = CancellationToken::new();
    let feed = async {
        // A program may close its input without reading it.
        let mut next = Some(input);
        while let Some(data) = next {
            if stdin.write_all(&data).await.is_err() || stdin.flush().await.is_err() {
                return;
            }
            next = more_input.recv().await;
        }
        drop(stdin);
    };
    let exited = async {
        let done = exited.await;
        gone.cancel();
        done
    };
    let out = pump(stdout, Chunk::Stdout, &chunks, &gone);
    let work = async { tokio::join!(exited, out, pump(stderr, Chunk::Stderr, &chunks, &gone)).0 };
    tokio::pin!(feed, work);
    let mut input_done = false;
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = &mut feed, if !input_done => input_done = true,
        }
    }
}

async fn pump(
    mut pipe: impl AsyncRead + Unpin,
    wrap: fn(Bytes) -> Chunk,
    chunks: &mpsc::Sender<Chunk>,
    gone: &CancellationToken,
) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(32 * 1024);
        let late = async {
            gone.cancelled().await;
            tokio::time::sleep(STRAGGLER_GRACE).await;
        };
        tokio::select! {
            read = pipe.read_buf(&mut buffer) => match read {
                Ok(1..) => {}
                _ => return,
            },
            () = late => return,
        }
        // Without a reader it reads on, so that the program does not hang on a full pipe while it ends.
        _ = chunks.send(wrap(buffer.split().freeze())).await;
    }
}

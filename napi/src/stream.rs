//! Streams are pulled: `read()` and `close()`. Node's Readable and async iterators are made of these in the facade;
//! napi's web streams cannot cancel a pull that waits for a quiet source (docs/reference/node-api.md#streams).

use std::{sync::Arc, task::Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, StreamExt, stream::BoxStream};
use lima_runtime::{
    engine::BoxRead,
    error::{Error, Result as CoreResult},
};

use napi::{Env, bindgen_prelude::within_runtime_if_available};
use napi_derive::napi;
use serde::Serialize;
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    sync::{Mutex, MutexGuard},
};
use tokio_util::sync::CancellationToken;

use crate::{
    convert::Copied,
    promise::{Answer, Promised, promise},
};

struct Source<T> {
    /// None once it has ended: a source is dropped (and its connection closed) as soon as nobody will read it.
    stream: Mutex<Option<BoxStream<'static, CoreResult<T>>>>,
    closed: CancellationToken,
}

impl<T> Source<T> {
    fn new(stream: impl Stream<Item = CoreResult<T>> + Send + 'static) -> Self {
        Self { stream: Mutex::new(Some(stream.boxed())), closed: CancellationToken::new() }
    }

    async fn next(&self) -> Option<CoreResult<T>> {
        let mut guard = self.stream.lock().await;
        let stream = guard.as_mut()?;
        let item = tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            item = stream.next() => item,
        };
        self.release(guard, matches!(item, Some(Ok(_))));
        item
    }

    /// The next item, or the end, if it is there already.
    fn ready(&self) -> Poll<Option<CoreResult<T>>> {
        let Ok(mut guard) = self.stream.try_lock() else { return Poll::Pending };
        let Some(stream) = guard.as_mut() else { return Poll::Ready(None) };
        // Only the wait is dropped, no item: the source keeps its place.
        let Some(item) = stream.next().now_or_never() else { return Poll::Pending };
        self.release(guard, matches!(item, Some(Ok(_))));
        Poll::Ready(item)
    }

    fn release(&self, mut guard: MutexGuard<'_, Option<BoxStream<'static, CoreResult<T>>>>, open: bool) {
        if !open {
            *guard = None;
        }
        drop(guard);
        // A `close` that came during the read could not drop the source.
        if self.closed.is_cancelled() {
            self.close();
        }
    }

    /// Wakes a read that waits, and drops the source: at once, or as that read's last act.
    fn close(&self) {
        self.closed.cancel();
        if let Ok(mut guard) = self.stream.try_lock() {
            // A connection may need the runtime to say goodbye, and JavaScript's thread is outside of it.
            within_runtime_if_available(|| *guard = None);
        }
    }
}

/// Bytes: a log, a saved image.
#[napi]
pub struct ByteStream(Arc<Pieces>);

struct Pieces {
    source: Source<Bytes>,
    rest: Mutex<Rest>,
}

/// What a read leaves for the next one.
#[derive(Default)]
struct Rest {
    bytes: Bytes,
    /// It came behind bytes that have to be handed out first.
    error: Option<Error>,
}

impl Pieces {
    fn new(stream: impl Stream<Item = CoreResult<Bytes>> + Send + 'static) -> Self {
        Self { source: Source::new(stream), rest: Mutex::default() }
    }

    async fn take(&self, max: usize) -> CoreResult<Option<Bytes>> {
        let mut rest = self.rest.lock().await;
        if rest.bytes.is_empty() {
            if let Some(error) = rest.error.take() {
                return Err(error);
            }
            // An empty piece is no end.
            while rest.bytes.is_empty() {
                match self.source.next().await.transpose()? {
                    Some(piece) => rest.bytes = piece,
                    None => return Ok(None),
                }
            }
        }
        if rest.bytes.len() >= max {
            return Ok(Some(rest.bytes.split_to(max)));
        }
        let mut out = BytesMut::from(std::mem::take(&mut rest.bytes));
        while out.len() < max {
            match self.source.ready() {
                Poll::Ready(Some(Ok(mut piece))) => {
                    let room = max - out.len();
                    if piece.len() > room {
                        rest.bytes = piece.split_off(room);
                    }
                    out.extend_from_slice(&piece);
                }
                Poll::Ready(Some(Err(error))) => {
                    rest.error = Some(error);
                    break;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(Some(out.freeze()))
    }
}

impl ByteStream {
    pub fn new(stream: impl Stream<Item = CoreResult<Bytes>> + Send + 'static) -> Self {
        Self(Arc::new(Pieces::new(stream)))
    }
}

#[napi]
impl ByteStream {
    /// At least one byte and at most `max`, joining pieces that are there already; `null` at the end.
    #[napi(ts_return_type = "Promise<Buffer | null>")]
    pub fn read<'e>(&self, env: &'e Env, max: u32) -> Promised<'e> {
        let pieces = self.0.clone();
        promise(env, async move { pieces.take(max as usize).await.map(|bytes| Answer::Bytes(bytes.map(Copied))) })
    }

    #[napi]
    pub fn close(&self) {
        self.0.source.close();
    }
}

/// Items as JSON: events, stats.
#[napi]
pub struct ItemStream {
    source: Arc<Source<String>>,
}

impl ItemStream {
    pub fn new<T: Serialize + 'static>(stream: impl Stream<Item = CoreResult<T>> + Send + 'static) -> Self {
        let text = stream
            .map(|item| item.and_then(|item| serde_json::to_string(&item).map_err(|e| Error::internal(e.to_string()))));
        Self { source: Arc::new(Source::new(text)) }
    }
}

#[napi]
impl ItemStream {
    /// The next item, or `null` at the end.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn next<'e>(&self, env: &'e Env) -> Promised<'e> {
        let source = self.source.clone();
        promise(env, async move { source.next().await.transpose().map(Answer::Text) })
    }

    #[napi]
    pub fn close(&self) {
        self.source.close();
    }
}

/// Bytes on their way in: a `Readable` of the caller, an image archive. A write settles when there is room for the
/// next one, which is the back-pressure.
#[napi]
pub struct Upload {
    write: Arc<Mutex<Option<DuplexStream>>>,
    read: lima_runtime::mutex::Mutex<Option<DuplexStream>>,
}

#[napi]
impl Upload {
    #[napi(constructor)]
    #[allow(clippy::new_without_default, reason = "made by JavaScript only")]
    pub fn new() -> Self {
        let (write, read) = tokio::io::duplex(256 * 1024);
        Self { write: Arc::new(Mutex::new(Some(write))), read: lima_runtime::mutex::Mutex::new(Some(read)) }
    }

    /// False when nobody reads any more: stop writing.
    #[napi(ts_args_type = "chunk: Uint8Array", ts_return_type = "Promise<boolean>")]
    pub fn write<'e>(&self, env: &'e Env, chunk: Copied) -> Promised<'e> {
        let write = self.write.clone();
        promise(env, async move {
            match write.lock().await.as_mut() {
                Some(w) => Ok(w.write_all(&chunk.0).await.is_ok()),
                None => Ok(false),
            }
        })
    }

    #[napi(ts_return_type = "Promise<void>")]
    pub fn end<'e>(&self, env: &'e Env) -> Promised<'e> {
        let write = self.write.clone();
        promise(env, async move {
            *write.lock().await = None;
            Ok(())
        })
    }
}

impl Upload {
    pub fn reader(&self) -> CoreResult<BoxRead> {
        let mut read = self.read.lock();
        read.take().map(|r| Box::new(r) as BoxRead).ok_or_else(|| Error::internal("an upload is read once"))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::stream;
    use tokio::sync::mpsc;

    use super::*;

    fn pieces(list: &[&'static str]) -> Vec<CoreResult<Bytes>> {
        list.iter().map(|p| Ok(Bytes::from_static(p.as_bytes()))).collect()
    }

    /// Tells when it is dropped.
    fn watched<S: Stream>(stream: S) -> (impl Stream<Item = S::Item>, tokio::sync::oneshot::Receiver<()>) {
        let (tell, dropped) = tokio::sync::oneshot::channel::<()>();
        let mut stream = Box::pin(stream);
        let watched = stream::poll_fn(move |cx| {
            let _held = &tell;
            Pin::new(&mut stream).poll_next(cx)
        });
        (watched, dropped)
    }

    async fn all(s: &Pieces, max: usize) -> (Vec<String>, Option<Error>) {
        let mut out = Vec::new();
        loop {
            match s.take(max).await {
                Ok(Some(b)) => out.push(String::from_utf8(b.into()).unwrap()),
                Ok(None) => return (out, None),
                Err(e) => return (out, Some(e)),
            }
        }
    }

    #[tokio::test]
    async fn pieces_that_are_there_are_joined_and_none_is_lost() {
        let s = Pieces::new(stream::iter(pieces(&["ab", "", "cdefg", "h", "ijklmnop"])));
        assert_eq!(all(&s, 4).await.0, ["abcd", "efgh", "ijkl", "mnop"]);
        let s = Pieces::new(stream::iter(pieces(&["", "a"])));
        assert_eq!(all(&s, 4).await.0, ["a"]);
    }

    #[tokio::test]
    async fn an_error_behind_bytes_comes_after_them_once() {
        let mut list = pieces(&["abc", "de"]);
        list.push(Err(Error::internal("cut")));
        let s = Pieces::new(stream::iter(list));
        let (read, error) = all(&s, 4).await;
        assert_eq!((read.concat().as_str(), error.unwrap().message()), ("abcde", "cut"));
        assert!(matches!(s.take(4).await, Ok(None)));
    }

    #[tokio::test]
    async fn close_wakes_a_read_that_waits_and_drops_the_source() {
        let (stream, dropped) = watched(stream::pending::<CoreResult<Bytes>>());
        let s = Arc::new(Pieces::new(stream));
        let reader = s.clone();
        let read = tokio::spawn(async move { reader.take(1).await });
        tokio::task::yield_now().await;
        s.source.close();
        assert!(matches!(read.await.unwrap(), Ok(None)));
        assert!(dropped.await.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn close_at_any_moment_of_a_read_drops_the_source() {
        for _ in 0..500 {
            let (send, receive) = mpsc::unbounded_channel::<CoreResult<Bytes>>();
            let (stream, dropped) =
                watched(stream::unfold(receive, |mut r| async { r.recv().await.map(|item| (item, r)) }));
            let s = Arc::new(Pieces::new(stream));
            let reader = s.clone();
            let read = tokio::spawn(async move { reader.take(64).await });
            for piece in pieces(&["a", "b", "c"]) {
                let _ = send.send(piece);
            }
            s.source.close();
            let _ = read.await.unwrap();
            assert!(dropped.await.is_err());
        }
    }
}

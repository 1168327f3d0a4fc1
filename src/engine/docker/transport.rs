//! One HTTP client over every way to an engine: unix socket, named pipe, TCP, TLS and ssh.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use hyper::{Uri, rt::ReadBufCursor};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{endpoint::Endpoint, proxy::Proxy, ssh, tls::secured};
use crate::{env_vars, guest::Duplex, mutex::Mutex};

/// A connection to an engine.
pub(super) struct Stream {
    io: TokioIo<Box<dyn Duplex>>,
    read_error: ReadError,
    /// At its other end is a proxy, which passes requests on.
    forwarded: bool,
}

/// Why the last read failed. With TLS 1.3 the server looks at our certificate when our side of the handshake has ended: its
/// refusal may come before the first request, and hyper then says only that the connection was not ready.
type ReadError = Arc<Mutex<Option<io::Error>>>;

impl Stream {
    pub(super) fn into_inner(self) -> impl AsyncRead + AsyncWrite + Send + Unpin {
        self.io.into_inner()
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.forwarded)
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Poll::Ready(Err(e)) = &read {
            let e = io::Error::new(e.kind(), e.to_string());
            *self.read_error.lock() = Some(e);
        }
        read
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Makes connections to one endpoint, whatever address the request names.
#[derive(Clone)]
pub(super) struct Connector {
    endpoint: Arc<Endpoint>,
    proxy: Option<Arc<Proxy>>,
    /// Its connections carry more than requests: a proxy that only passes those on is asked for a tunnel.
    tunnels: bool,
    read_error: ReadError,
}

impl Connector {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let proxy = Proxy::of(&endpoint, env_vars::get).map(Arc::new);
        Self { endpoint: Arc::new(endpoint), proxy, tunnels: false, read_error: ReadError::default() }
    }

    /// For connections that become a process's own.
    pub(super) fn tunnelled(&self) -> Self {
        Self { tunnels: true, ..self.clone() }
    }

    /// The proxy that wants to be asked as one.
    pub(super) fn forwarder(&self) -> Option<&Proxy> {
        self.proxy.as_deref().filter(|proxy| proxy.forwards)
    }

    /// Why the last connection that could not be read failed.
    pub(super) fn take_read_error(&self) -> Option<io::Error> {
        self.read_error.lock().take()
    }

    fn stream(&self, io: impl Duplex + 'static) -> Stream {
        Stream { io: TokioIo::new(Box::new(io)), read_error: self.read_error.clone(), forwarded: false }
    }

    pub(super) async fn connect(&self) -> io::Result<Stream> {
        match self.endpoint.as_ref() {
            #[cfg(windows)]
            Endpoint::Npipe(path) => npipe(path).await.map(|pipe| self.stream(pipe)),
            #[cfg(unix)]
            Endpoint::Unix(path) => tokio::net::UnixStream::connect(path).await.map(|unix| self.stream(unix)),
            #[cfg(not(windows))]
            Endpoint::Npipe(_) => Err(unsupported("named pipes")),
            #[cfg(not(unix))]
            Endpoint::Unix(_) => Err(unsupported("unix sockets")),
            Endpoint::Tcp { host, port, tls, .. } => {
                let direct = async || {
                    let tcp = TcpStream::connect((host.as_str(), *port)).await?;
                    tcp.set_nodelay(true)?;
                    Ok::<Box<dyn Duplex>, io::Error>(Box::new(tcp))
                };
                let io = match self.proxy.as_deref() {
                    None => direct().await?,
                    Some(proxy) if !proxy.forwards => proxy.tunnel().await?,
                    Some(proxy) if !self.tunnels => {
                        return Ok(Stream { forwarded: true, ..self.stream(proxy.connect().await?) });
                    }
                    Some(proxy) => match proxy.tunnel().await {
                        Ok(io) => io,
                        // Many open one only to port 443. The CLI goes straight there in any case.
                        Err(refused) => direct().await.map_err(|_| refused)?,
                    },
                };
                match tls {
                    Some(tls) => secured(host, tls, io).await.map(|io| self.stream(io)),
                    None => Ok(self.stream(io)),
                }
            }
            Endpoint::Ssh(target) => ssh::connect(target).await.map(|ssh| self.stream(ssh)),
            // The guest's own word, which says more than the kinds of the operating system, is found again by its type.
            Endpoint::Guest(socket) => socket.connect().await.map_err(io::Error::other).map(|io| self.stream(io)),
        }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.connect().await })
    }
}

fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("there are no {what} on this system"))
}

#[cfg(windows)]
async fn npipe(path: &str) -> io::Result<tokio::net::windows::named_pipe::NamedPipeClient> {
    /// All instances of the pipe are taken; the server makes a new one at once.
    const ERROR_PIPE_BUSY: i32 = 231;
    loop {
        match tokio::net::windows::named_pipe::ClientOptions::new().open(path) {
            Ok(pipe) => return Ok(pipe),
            // Windows' own WaitNamedPipe blocks the thread; tokio documents this loop instead.
            Err(e) if e.raw_os_error() == Some(ERROR_PIPE_BUSY) => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            Err(e) => return Err(e),
        }
    }
}

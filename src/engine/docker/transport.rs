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
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    endpoint::{Endpoint, Tls},
    proxy::Proxy,
    ssh,
};
use crate::{env_vars, mutex::Mutex};

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection to an engine.
pub(super) struct Stream {
    io: TokioIo<Box<dyn Duplex>>,
    refusal: Refusal,
    /// At its other end is a proxy, which passes requests on.
    forwarded: bool,
}

/// Why the other end broke a connection off. Under TLS 1.3 it looks at our certificate once the handshake is over for us:
/// its word may come before the first request, and hyper then only says that the connection was not ready.
type Refusal = Arc<Mutex<Option<io::Error>>>;

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
            *self.refusal.lock() = Some(e);
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
    /// For what is more than requests: a proxy that only passes those on is asked for a tunnel.
    whole: bool,
    refusal: Refusal,
}

impl Connector {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let proxy = Proxy::of(&endpoint, env_vars::get).map(Arc::new);
        Self { endpoint: Arc::new(endpoint), proxy, whole: false, refusal: Refusal::default() }
    }

    /// For connections that become a process's own.
    pub(super) fn whole(&self) -> Self {
        Self { whole: true, ..self.clone() }
    }

    /// The proxy that wants to be asked as one.
    pub(super) fn forwarder(&self) -> Option<&Proxy> {
        self.proxy.as_deref().filter(|proxy| proxy.forwards)
    }

    /// What the last connection that was broken off was told.
    pub(super) fn refusal(&self) -> Option<io::Error> {
        self.refusal.lock().take()
    }

    fn stream(&self, io: impl Duplex + 'static) -> Stream {
        Stream { io: TokioIo::new(Box::new(io)), refusal: self.refusal.clone(), forwarded: false }
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
                    Some(proxy) if !self.whole => {
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
        }
    }
}

/// TLS with `host` at the other end of `io`. Files are read each time: certificates may be renewed while we run.
pub(super) async fn secured(host: &str, tls: &Tls, io: Box<dyn Duplex>) -> io::Result<Box<dyn Duplex>> {
    let config = Arc::new(client_config(tls).map_err(io::Error::other)?);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(tokio_rustls::TlsConnector::from(config).connect(name, io).await?))
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

fn client_config(tls: &Tls) -> Result<rustls::ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    use rustls_platform_verifier::BuilderVerifierExt;

    let builder = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?;
    let builder = if tls.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(no_verify::NoVerify))
    } else if let Some(ca) = &tls.ca {
        let mut roots = rustls::RootCertStore::empty();
        for cert in CertificateDer::pem_file_iter(ca).map_err(|e| format!("{}: {e}", ca.display()))? {
            roots.add(cert?)?;
        }
        builder.with_root_certificates(roots)
    } else {
        builder.with_platform_verifier()?
    };
    let Some((cert, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| format!("{}: {e}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{}: {e}", key.display()))?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

mod no_verify {
    //! For a docker context that says `SkipTLSVerify`: its author decided.
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    #[derive(Debug)]
    pub(super) struct NoVerify;

    impl ServerCertVerifier for NoVerify {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}

//! The one HTTP client: the system's trust store and proxies, redirects within reason, nothing decoded.

use std::time::{Duration, SystemTime};

use reqwest::{
    Certificate, Client, NoProxy, Proxy, Response,
    header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use url::Url;

use super::{
    disk,
    retry::{self, Ended, Head, Next},
};
use crate::{
    call, env_vars,
    error::{Error, ErrorCode, Result},
    random, task,
};

const CONNECT: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 10;
/// All authorities of a system are some hundred kilobytes.
const CERTIFICATES_LIMIT: u64 = 16 << 20;

/// What a caller may say about the network.
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// Goes before the environment's and the system's; `NO_PROXY` holds for it, too.
    pub proxy: Option<String>,
    /// PEM texts, or paths of PEM files: trusted beside the system's.
    pub ca_certificates: Vec<String>,
    /// How long a download may go without a byte; [`call::IDLE`] by default.
    pub idle: Option<Duration>,
    /// How often it is tried again without a new byte in between; [`retry::RETRIES`] by default.
    pub retries: Option<u32>,
}

#[derive(Clone)]
pub struct Http {
    client: Client,
    idle: Duration,
    retries: u32,
}

/// An attempt that ended: what to decide on, and what to say if that is the end.
#[derive(Debug)]
pub struct FailedAttempt {
    pub ended: Ended,
    pub error: Error,
}

impl Http {
    pub async fn new(options: HttpOptions) -> Result<Self> {
        let idle = options.idle.unwrap_or(call::IDLE);
        let retries = options.retries.unwrap_or(retry::RETRIES);
        // Reading the system's certificates takes tens of milliseconds.
        let client = task::blocking(move || client(&options)).await?;
        Ok(Self { client, idle, retries })
    }

    pub async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Response, FailedAttempt> {
        let sent = self.client.get(url.clone()).headers(headers).send();
        match tokio::time::timeout(self.idle, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(e)) => Err(failed(url, &e)),
            Err(_) => Err(self.stalled(url)),
        }
    }

    /// The next piece of a body; `None` at its end.
    pub async fn chunk(&self, url: &Url, response: &mut Response) -> Result<Option<bytes::Bytes>, FailedAttempt> {
        match tokio::time::timeout(self.idle, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(e)) => Err(failed(url, &e)),
            Err(_) => Err(self.stalled(url)),
        }
    }

    fn stalled(&self, url: &Url) -> FailedAttempt {
        let message = format!("{} sent nothing for {} s", shown(url), self.idle.as_secs_f64());
        FailedAttempt { ended: Ended::Connection, error: download_failed(url, message) }
    }

    /// Waits before the next attempt, or gives the error back when there shall be none.
    pub async fn pause(&self, failed: FailedAttempt, failures: u32) -> Result<()> {
        match retry::next(failed.ended, failures, self.retries, random::fraction()) {
            Next::GiveUp => Err(failed.error),
            Next::After(delay) => {
                tracing::debug!(error = %failed.error, ?delay, "trying again");
                tokio::time::sleep(delay).await;
                Ok(())
            }
        }
    }

    /// A small text, whole.
    pub async fn text(&self, url: &Url, limit: usize) -> Result<String> {
        let mut failures = 0;
        loop {
            failures += 1;
            match self.try_text(url, limit).await {
                Ok(text) => return Ok(text),
                Err(e) => self.pause(e, failures).await?,
            }
        }
    }

    async fn try_text(&self, url: &Url, limit: usize) -> Result<String, FailedAttempt> {
        let mut response = self.get(url, HeaderMap::new()).await?;
        if response.status() != 200 {
            return Err(refused(url, &response));
        }
        let bad = |problem: &str| FailedAttempt {
            ended: Ended::Refused,
            error: download_failed(url, format!("{}: {problem}", shown(url))),
        };
        let mut text = Vec::new();
        while let Some(chunk) = self.chunk(url, &mut response).await? {
            if text.len() + chunk.len() > limit {
                return Err(bad(&format!("it has more than {limit} bytes")));
            }
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).map_err(|_| bad("not a text"))
    }
}

fn client(options: &HttpOptions) -> Result<Client> {
    // The provider is the process's; whoever came first has set the same or a better one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut extra = Vec::new();
    if let Some(path) = env_vars::get(env_vars::NODE_EXTRA_CA_CERTS) {
        // As Node: a file that cannot be read is no reason to stop.
        match certificates(&path, env_vars::NODE_EXTRA_CA_CERTS) {
            Ok(found) => extra.extend(found),
            Err(e) => tracing::warn!(%e, "ignored"),
        }
    }
    for (i, text) in options.ca_certificates.iter().enumerate() {
        extra.extend(certificates(text, &format!("caCertificates[{i}]"))?);
    }
    let proxy = options
        .proxy
        .as_deref()
        .map(|p| Proxy::all(p).map_err(|e| Error::invalid("proxy", format!("not a proxy's address: {e}"))))
        .transpose()?
        .map(|p| p.no_proxy(NoProxy::from_env()));
    let none = ["NO_PROXY", "no_proxy"].into_iter().find_map(env_vars::get);
    let no_proxy = none.is_some_and(|list| env_vars::no_proxy_at_all(&list));
    let builder = || {
        let mut headers = HeaderMap::new();
        // A file is wanted as it was published: its digest is that of its bytes.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let builder = Client::builder()
            .user_agent(concat!("lima-runtime/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .referer(false)
            .connect_timeout(CONNECT)
            .redirect(Policy::custom(|attempt| {
                let from_https = attempt.previous().last().is_some_and(|u| u.scheme() == "https");
                if from_https && attempt.url().scheme() != "https" {
                    attempt.error("a redirect from https to http")
                } else if attempt.previous().len() > REDIRECTS {
                    attempt.error("too many redirects")
                } else {
                    attempt.follow()
                }
            }));
        match &proxy {
            _ if no_proxy => builder.no_proxy(),
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        }
    };
    match builder().tls_certs_merge(extra.clone()).build() {
        Ok(client) => Ok(client),
        // A system without any certificates, as small containers are: plain http still works, and what was given.
        Err(e) => {
            tracing::warn!(%e, "the system's certificates cannot be read");
            builder().tls_certs_only(extra).build().map_err(|e| {
                Error::new(ErrorCode::DownloadFailed, format!("Cannot set up an HTTP client: {e}")).source(e)
            })
        }
    }
}

/// `text` is PEM, or the path of a PEM file.
fn certificates(text: &str, field: &str) -> Result<Vec<Certificate>> {
    let pem = if text.contains("-----BEGIN") {
        text.as_bytes().to_vec()
    } else {
        disk::read_limited(std::path::Path::new(text), CERTIFICATES_LIMIT)
            .map_err(|e| Error::invalid(field, format!("cannot read {text}: {e}")).source(e))?
    };
    let found = Certificate::from_pem_bundle(&pem).map_err(|e| Error::invalid(field, format!("{e}")).source(e))?;
    if found.is_empty() { Err(Error::invalid(field, "holds no certificate")) } else { Ok(found) }
}

/// The address without what a log must not hold: passwords, and the tokens of signed addresses.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.to_string()
}

pub fn download_failed(url: &Url, message: impl Into<String>) -> Error {
    let error = Error::new(ErrorCode::DownloadFailed, message).detail("url", shown(url));
    error.hint("Try again: what has come is kept. If it stays, check the network connection and the mirror.")
}

/// Which part of a response decides what happens.
pub fn head(response: &Response) -> Head<'_> {
    let text = |name: HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok());
    Head {
        status: response.status().as_u16(),
        content_length: text(CONTENT_LENGTH).and_then(|v| v.parse().ok()),
        content_range: text(CONTENT_RANGE),
        retry_after: text(RETRY_AFTER).and_then(|v| retry::retry_after(v, SystemTime::now())),
    }
}

/// A status that is no success.
pub fn refused(url: &Url, response: &Response) -> FailedAttempt {
    let status = response.status();
    let Head { retry_after, .. } = head(response);
    let hint = match status.as_u16() {
        404 | 410 => "The file is not there any more: update the manifest, or set a mirror that has it.",
        401 | 403 | 407 => "Check whether the network asks for a login or a proxy, or set a mirror.",
        _ => "Try again later, or set a mirror.",
    };
    let mut error =
        download_failed(url, format!("{} answered {status}", shown(url))).detail("status", status.as_u16()).hint(hint);
    if let Some(after) = retry_after {
        error = error.detail("retryAfterSeconds", after.as_secs());
    }
    FailedAttempt { ended: Ended::Status { status: status.as_u16(), retry_after }, error }
}

fn failed(url: &Url, e: &reqwest::Error) -> FailedAttempt {
    let mut causes = Vec::new();
    let mut certificate = false;
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(e);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        certificate |= is_certificate(cause);
        next = cause.source();
    }
    causes.dedup();
    let why = causes.last().cloned().unwrap_or_else(|| e.to_string());
    let (ended, hint) = if certificate {
        (
            Ended::Refused,
            "The server's certificate is not trusted. Behind a company's proxy, name its certificate authority in \
             caCertificates or NODE_EXTRA_CA_CERTS.",
        )
    } else if e.is_redirect() || e.is_builder() {
        (Ended::Refused, "Check the manifest and the mirror.")
    } else {
        (Ended::Connection, "Check the network connection and the proxy settings; what has come is kept.")
    };
    let error =
        download_failed(url, format!("Cannot download {}: {why}", shown(url))).detail("causes", causes).hint(hint);
    FailedAttempt { ended, error }
}

/// An `io::Error` hides what it holds from `source()`, and may hold another one.
fn is_certificate(cause: &(dyn std::error::Error + 'static)) -> bool {
    match (cause.downcast_ref::<rustls::Error>(), cause.downcast_ref::<std::io::Error>()) {
        (Some(e), _) => matches!(e, rustls::Error::InvalidCertificate(_)),
        (_, Some(e)) => e.get_ref().is_some_and(|inner| is_certificate(inner)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_no_secret_of_the_address() {
        let url = Url::parse("https://me:secret@h.example/a?token=t").unwrap();
        assert_eq!(shown(&url), "https://h.example/a");
    }

    #[tokio::test]
    async fn what_a_caller_gives_is_checked() {
        let refuse = async |options: HttpOptions, field: &str| {
            let e = Http::new(options).await.map(|_| ()).unwrap_err();
            assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some(field)));
        };
        refuse(HttpOptions { proxy: Some("http://[".into()), ..HttpOptions::default() }, "proxy").await;
        let ca = |text: &str| HttpOptions { ca_certificates: vec![text.into()], ..HttpOptions::default() };
        refuse(ca("/no/such/file.pem"), "caCertificates[0]").await;
        refuse(ca("-----BEGIN nothing"), "caCertificates[0]").await;
    }
}

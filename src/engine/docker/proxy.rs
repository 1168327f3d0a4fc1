//! The proxy between us and an engine at `tcp://`, as the docker CLI takes it from the environment
//! (docs/reference/docker.md#engine-behind-a-proxy).

use std::io;

use hyper::{Uri, header::HeaderValue};
use hyper_util::{
    client::{
        legacy::connect::proxy::Tunnel,
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{
    endpoint::Endpoint,
    tls::{Tls, secured},
};
use crate::{
    address::{bracketed, is_loopback},
    env_vars,
    guest::Duplex,
};

#[derive(Debug, Clone)]
pub(super) struct Proxy {
    found: Intercept,
    /// `host:port` of the engine.
    engine: String,
    /// Requests are passed on as they are; else, and for what is more than a request, it has to open a tunnel.
    pub(super) forwards: bool,
}

impl Proxy {
    /// None for an engine on this machine, and for those that `NO_PROXY` names.
    pub(super) fn of(endpoint: &Endpoint, var: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let Endpoint::Tcp { host, port, tls, .. } = endpoint else { return None };
        if is_loopback(host) {
            return None;
        }
        let either = |name: &str| var(name).or_else(|| var(&name.to_lowercase())).unwrap_or_default();
        let none = either("NO_PROXY");
        if env_vars::no_proxy_at_all(&none) {
            return None;
        }
        // One with a port is meant for that port alone.
        let none = none.split(',').map(str::trim).filter_map(|entry| match entry.rsplit_once(':') {
            Some((name, p)) if !name.contains(':') || name.ends_with(']') => {
                (p.parse() == Ok(*port)).then(|| name.trim_matches(['[', ']']))
            }
            _ => Some(entry),
        });
        let none = none.collect::<Vec<_>>().join(",");
        let matcher = Matcher::builder().http(either("HTTP_PROXY")).https(either("HTTPS_PROXY")).no(none).build();
        let engine = format!("{}:{port}", bracketed(host));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let found = matcher.intercept(&format!("{scheme}://{engine}/").parse().ok()?)?;
        Some(Self { found, engine, forwards: tls.is_none() })
    }

    /// For the head of a request that is passed on.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.found.basic_auth()
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Duplex>> {
        reach(self.found.uri()).await.map_err(|e| self.failed(e.kind(), &e))
    }

    /// A connection to the engine itself, through the proxy.
    pub(super) async fn tunnel(&self) -> io::Result<Box<dyn Duplex>> {
        let to_proxy = tower::service_fn(|uri: Uri| async move { reach(&uri).await.map(TokioIo::new) });
        let mut tunnel = Tunnel::new(self.found.uri().clone(), to_proxy);
        if let Some(authorization) = self.authorization() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let engine = self.engine.parse::<Uri>().map_err(io::Error::other)?;
        match tunnel.call(engine).await {
            Ok(io) => Ok(io.into_inner()),
            Err(e) => Err(self.failed(io::ErrorKind::ConnectionRefused, &e)),
        }
    }

    fn failed(&self, kind: io::ErrorKind, e: &dyn std::fmt::Display) -> io::Error {
        let at = self.found.uri().authority().map_or("", |a| a.as_str());
        io::Error::new(kind, format!("the proxy {at} gives no connection: {e}"))
    }
}

async fn reach(proxy: &Uri) -> io::Result<Box<dyn Duplex>> {
    let tls = match proxy.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        other => {
            let problem = format!("{} proxies are not supported here", other.unwrap_or_default());
            return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
        }
    };
    let host = proxy.host().unwrap_or_default().trim_matches(['[', ']']);
    let tcp = TcpStream::connect((host, proxy.port_u16().unwrap_or(if tls { 443 } else { 80 }))).await?;
    tcp.set_nodelay(true)?;
    if tls { secured(host, &Tls::default(), Box::new(tcp)).await } else { Ok(Box::new(tcp)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(endpoint: &str, vars: &[(&str, &str)]) -> Option<String> {
        let tls = endpoint.ends_with(":2376").then(Tls::default);
        let endpoint = Endpoint::parse("host", endpoint, tls).unwrap();
        let var = |name: &str| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned());
        Proxy::of(&endpoint, var).map(|p| p.found.uri().to_string())
    }

    /// As the docker CLI 28.2.2 went, and Go's net/http has it.
    #[test]
    fn which_proxy() {
        const P: &str = "http://p:3128";
        let http = ("HTTP_PROXY", P);
        let found = Some(format!("{P}/"));
        assert_eq!(by("tcp://h:2375", &[http]), found);
        assert_eq!(by("tcp://h:2375", &[("http_proxy", "p:3128")]), found);
        assert_eq!(by("tcp://10.0.0.7:2375", &[http]), found);
        assert_eq!(by("tcp://[fd00::7]:2375", &[http]), found);
        assert_eq!(by("tcp://h:2376", &[("HTTPS_PROXY", P)]), found);
        for (endpoint, vars) in [
            ("tcp://h:2376", &[http][..]),
            ("tcp://h:2375", &[("HTTPS_PROXY", P)]),
            ("tcp://h:2375", &[("ALL_PROXY", P)]),
            ("tcp://localhost:2375", &[http]),
            ("tcp://127.0.0.7:2375", &[http]),
            ("tcp://[::1]:2375", &[http]),
            ("tcp://:2375", &[http]),
            ("unix:///x", &[http]),
            ("ssh://h", &[http]),
        ] {
            assert_eq!(by(endpoint, vars), None, "{endpoint} {vars:?}");
        }
    }

    #[test]
    fn its_password_is_no_part_of_its_address() {
        let endpoint = Endpoint::parse("host", "tcp://h:2375", None).unwrap();
        let var = |name: &str| (name == "HTTP_PROXY").then(|| "http://me:secret@p:3128".to_owned());
        let proxy = Proxy::of(&endpoint, var).unwrap();
        assert_eq!(proxy.found.uri(), "http://p:3128/");
        assert_eq!(proxy.authorization().unwrap(), "Basic bWU6c2VjcmV0");
        assert!(!format!("{proxy:?}").contains("secret"));
    }

    #[test]
    fn where_none_is_wanted() {
        for (endpoint, no, direct) in [
            ("tcp://h:2375", "*", true),
            ("tcp://10.0.0.7:2375", "*", true),
            ("tcp://[fd00::7]:2375", "a, *", true),
            ("tcp://10.0.0.7:2375", "10.0.0.7", true),
            ("tcp://10.0.0.7:2375", "x,10.0.0.0/8", true),
            ("tcp://10.0.0.7:2375", "10.0.0.7:2375", true),
            ("tcp://10.0.0.7:2375", "10.0.0.7:80", false),
            ("tcp://[fd00::7]:2375", "[fd00::7]:2375", true),
            ("tcp://[fd00::7]:2375", "fd00::7", true),
            ("tcp://a.b.c:2375", ".b.c", true),
            ("tcp://a.b.c:2375", "b.c:2375", true),
            ("tcp://a.b.c:2375", "c.b", false),
            ("tcp://a.b.c:2375", "", false),
        ] {
            let proxy = by(endpoint, &[("HTTP_PROXY", "http://p:1"), ("NO_PROXY", no)]);
            assert_eq!(proxy.is_none(), direct, "{endpoint} {no}");
        }
    }
}

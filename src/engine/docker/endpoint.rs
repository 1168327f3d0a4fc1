//! An engine's address, as `DOCKER_HOST` and the docker CLI write it.

use std::{fmt, path::PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{guest_socket::GuestSocket, ssh::SshAddress, tls::Tls};
use crate::{
    address::bracketed,
    error::{Error, Result},
};

/// Where the CLI looks when nobody says anything, and when only the scheme is said.
pub(super) const SOCKET: &str = "/var/run/docker.sock";
pub(super) const PIPE: &str = r"\\.\pipe\docker_engine";

/// What would end a path, or be taken for an escape.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');
const USER: &AsciiSet = &PATH.add(b'/').add(b':').add(b'@');

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    /// As Windows opens it: `\\.\pipe\docker_engine`.
    Npipe(String),
    Tcp {
        host: String,
        port: u16,
        /// What stands before every path of the API: "", or `/prefix`.
        prefix: String,
        tls: Option<Tls>,
    },
    Ssh(SshAddress),
    Guest(GuestSocket),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Npipe(path) => write!(f, "npipe://{}", path.replace('\\', "/")),
            Self::Tcp { host, port, prefix, .. } => write!(f, "tcp://{}:{port}{prefix}", bracketed(host)),
            Self::Guest(socket) => write!(f, "{} in the VM", socket.path),
            Self::Ssh(SshAddress { user, host, port, socket }) => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{}@", utf8_percent_encode(user, USER))?;
                }
                f.write_str(&bracketed(host))?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                write!(f, "{}", utf8_percent_encode(socket.as_deref().unwrap_or_default(), PATH))
            }
        }
    }
}

impl Endpoint {
    /// `text` as in `DOCKER_HOST`, in the forms that the docker CLI takes (docs/reference/docker.md#forms-of-docker_host); `tls`
    /// is what goes with a TCP endpoint. `field` names the text in an error.
    pub fn parse(field: &str, text: &str, tls: Option<Tls>) -> Result<Self> {
        let bad = |problem: &str| {
            Error::invalid(field, format!("{text:?} is not an endpoint: {problem}"))
                .hint("For example unix:///var/run/docker.sock, tcp://127.0.0.1:2375 or ssh://user@host.")
        };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(bad("it is empty"));
        }
        if trimmed.contains(['\0', '\n', '\r']) {
            return Err(bad("it holds a NUL or a newline"));
        }
        let (scheme, rest) = match trimmed.split_once("://") {
            Some(parts) => parts,
            // A host; but not the path of somebody who forgot what it is a path of.
            None if ["/", "unix:", "npipe:", "ssh:"].iter().any(|mistake| trimmed.starts_with(mistake)) => {
                return Err(bad("it has no scheme"));
            }
            None => ("tcp", trimmed),
        };
        match scheme {
            "unix" if rest.is_empty() => Ok(Self::Unix(SOCKET.into())),
            "unix" => std::path::absolute(rest).map(Self::Unix).map_err(|e| bad(&e.to_string())),
            "npipe" if rest.is_empty() => Ok(Self::Npipe(PIPE.into())),
            "npipe" if rest.len() > 2 => Ok(Self::Npipe(rest.replace('/', r"\"))),
            "npipe" => Err(bad("the pipe's path is missing")),
            "tcp" | "http" | "https" => {
                let tls = tls.or_else(|| (scheme == "https").then(Tls::default));
                let default = if tls.is_some() { 2376 } else { 2375 };
                let Authority { user, host, port, path } = authority(rest).map_err(bad)?;
                if user.is_some() {
                    return Err(bad("a user name means nothing here"));
                }
                let prefix = path.trim_end_matches('/').to_owned();
                if format!("{prefix}/x").parse::<hyper::Uri>().is_err() {
                    return Err(bad("its path is none of an address"));
                }
                // As the docker CLI: no host means this one.
                let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
                Ok(Self::Tcp { host, port: port.unwrap_or(default), prefix, tls })
            }
            "ssh" => {
                let Authority { user, host, port, path } = authority(rest).map_err(bad)?;
                if host.is_empty() {
                    return Err(bad("the host is missing"));
                }
                let user = user.map(|u| decoded(&u)).transpose().map_err(bad)?;
                let socket = Some(path.as_str()).filter(|p| !p.trim_matches('/').is_empty()).map(decoded);
                Ok(Self::Ssh(SshAddress { user, host, port, socket: socket.transpose().map_err(bad)? }))
            }
            _ => Err(bad("unknown scheme")),
        }
    }

    /// No socket of that name is worth no probe; the others say by their answer.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Unix(path) if matches!(path.try_exists(), Ok(false)))
    }
}

struct Authority {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    path: String,
}

fn authority(text: &str) -> Result<Authority, &'static str> {
    if text.contains(['?', '#']) {
        return Err("there is no place for a query or a fragment");
    }
    let (text, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("there is a blank before or in the host");
    }
    let (user, rest) = match text.rsplit_once('@') {
        Some(("", _)) => return Err("the user name is empty"),
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, text),
    };
    if user.as_deref().is_some_and(|u| u.contains(':')) {
        return Err("a password has no place in it");
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']').ok_or("a bracket is not closed")?;
            (host, after.strip_prefix(':').or(if after.is_empty() { None } else { Some("?") }))
        }
        None => rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    if host.contains(['[', ']']) {
        return Err("brackets stand around an IPv6 address alone");
    }
    let port = match port {
        None | Some("") => None,
        Some(p) => Some(p.parse().ok().filter(|p| *p > 0).ok_or("the port is not a number from 1 to 65535")?),
    };
    Ok(Authority { user, host: host.to_owned(), port, path: path.to_owned() })
}

/// Without the `%20` of an address.
fn decoded(text: &str) -> Result<String, &'static str> {
    let text = percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| "it is not UTF-8")?;
    if text.contains(['\0', '\n', '\r']) { Err("it holds a NUL or a newline") } else { Ok(text.into_owned()) }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    if let Ok(endpoint) = Endpoint::parse("host", text, None) {
        let printed = endpoint.to_string();
        assert_eq!(Endpoint::parse("host", &printed, None).map(|e| e.to_string()).ok(), Some(printed));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorCode;

    fn parse(text: &str) -> Result<Endpoint> {
        Endpoint::parse("host", text, None)
    }

    #[test]
    fn endpoints_parse_and_print_alike() {
        for text in [
            "unix:///var/run/docker.sock",
            "tcp://127.0.0.1:2375",
            "tcp://[::1]:2375",
            "ssh://me@box:2222",
            "ssh://box",
            "npipe:////./pipe/docker_engine",
            "tcp://box:1/pre/fix",
            "ssh://me@box:22/run/user/7/docker.sock",
            "ssh://[::1]:22",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("tcp://box").unwrap().to_string(), "tcp://box:2375");
        assert_eq!(parse("tcp://:2375/").unwrap().to_string(), "tcp://127.0.0.1:2375");
        let tls = Endpoint::parse("host", "tcp://box", Some(Tls::default())).unwrap();
        assert_eq!(tls.to_string(), "tcp://box:2376");
        assert!(matches!(parse("https://box:1").unwrap(), Endpoint::Tcp { tls: Some(_), .. }));
    }

    /// As the docker CLI 28.2.2 took them, with an engine at the other end that wrote its requests down, and an `ssh` that
    /// wrote down its arguments.
    #[test]
    fn every_form_that_the_docker_cli_takes() {
        for (text, meant) in [
            ("localhost:2399", "tcp://localhost:2399"),
            ("localhost", "tcp://localhost:2375"),
            (":2399", "tcp://127.0.0.1:2399"),
            ("[::1]:2399", "tcp://[::1]:2399"),
            ("10.0.0.7:2399/engine", "tcp://10.0.0.7:2399/engine"),
            (" \ttcp://h:2399\n", "tcp://h:2399"),
            ("\nlocalhost:2399\r\n", "tcp://localhost:2399"),
            ("tcp://", "tcp://127.0.0.1:2375"),
            ("tcp://h:", "tcp://h:2375"),
            ("tcp://[::1]:", "tcp://[::1]:2375"),
            ("tcp://h:1/a/b/", "tcp://h:1/a/b"),
            ("unix://", "unix:///var/run/docker.sock"),
            (" unix:///x.sock ", "unix:///x.sock"),
            ("npipe://", "npipe:////./pipe/docker_engine"),
            ("ssh://u@h/path/docker.sock", "ssh://u@h/path/docker.sock"),
            ("ssh://u@h:22/", "ssh://u@h:22"),
            ("ssh://[::1]:22/x.sock", "ssh://[::1]:22/x.sock"),
            ("ssh://u%40x@h/a%20b%25/$(x).sock", "ssh://u%40x@h/a%20b%25/$(x).sock"),
            ("  ssh://h/p/s\n", "ssh://h/p/s"),
        ] {
            assert_eq!(parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}")).to_string(), meant, "{text:?}");
        }
        assert!(parse("unix://x.sock").unwrap().to_string().ends_with("/x.sock"));
    }

    #[test]
    fn what_is_no_endpoint_names_its_field() {
        for text in [
            "",
            " \n",
            "/var/run/docker.sock",
            "unix:/var/run/docker.sock",
            "tcp://h:0",
            "tcp://h:70000",
            "tcp://h:x",
            "tcp://h/v1?x",
            "tcp://h/a b",
            "tcp://h\n:1",
            "tcp://h x:1",
            "tcp://127.[1]:23ttp://h:175",
            "ssh://h\u{a0}/x",
            "ssh://h/a%00b",
            "ssh://h/%ff",
            "ssh://h?x=1",
            "ftp://h",
            "ssh://",
            "ssh://me:secret@h",
            "ssh://@h",
            "tcp://[::1",
            "unix:///a\0b",
        ] {
            let e = parse(text).unwrap_err();
            assert_eq!((e.code(), &e.details()["field"]), (ErrorCode::InvalidArgument, &"host".into()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_parsed_endpoint_prints_as_itself(host in "[a-z][a-z0-9.-]{0,20}", port in 1u16.., user in "[a-z]{1,8}") {
            for text in [format!("tcp://{host}:{port}"), format!("ssh://{user}@{host}:{port}")] {
                prop_assert_eq!(parse(&text).unwrap().to_string(), text);
            }
        }
    }
}

//! Why a call to the engine failed: it refused, cannot be reached, or answers what nobody understands.

use std::{error::Error as StdError, io};

use super::{
    endpoint::Endpoint,
    refusal::{About, refusal},
};
use crate::error::{Error, ErrorCode};

pub(super) const START_DOCKER: &str =
    "Start Docker (Docker Desktop, OrbStack, Colima, or the docker service) and try again.";
const DOCKER_GROUP: &str = "Add your user to the docker group (sudo usermod -aG docker $USER) and log in again.";

/// Why a request failed, before anybody has said what it was about.
#[derive(Debug)]
pub(super) enum Failure {
    /// The engine refused.
    Answer { status: u16, message: String },
    /// There is no connection.
    Unreached(Box<dyn StdError + Send + Sync>),
    /// It broke off.
    Connection(Box<dyn StdError + Send + Sync>),
    /// An answer that makes no sense.
    Strange(String),
    /// One of more bytes than there may be.
    TooLarge(usize),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer { message, .. } | Self::Strange(message) => f.write_str(message),
            Self::Connection(e) | Self::Unreached(e) => e.fmt(f),
            Self::TooLarge(limit) => write!(f, "more than {limit} bytes"),
        }
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Connection(e) | Self::Unreached(e) => Some(e.as_ref()),
            _ => None,
        }
    }
}

impl From<hyper::Error> for Failure {
    fn from(e: hyper::Error) -> Self {
        Self::Connection(e.into())
    }
}

impl From<hyper_util::client::legacy::Error> for Failure {
    fn from(e: hyper_util::client::legacy::Error) -> Self {
        if e.is_connect() { Self::Unreached(e.into()) } else { Self::Connection(e.into()) }
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        // One of ours that went through a reader.
        match e.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(e) => Self::Connection(e.into()),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(e: serde_json::Error) -> Self {
        Self::Strange(e.to_string())
    }
}

impl From<bollard::errors::Error> for Failure {
    fn from(e: bollard::errors::Error) -> Self {
        use bollard::errors::Error as E;
        match e {
            E::DockerResponseServerError { status_code, message } => Self::Answer { status: status_code, message },
            E::DockerStreamError { error } => Self::in_stream(error),
            E::IOError { err } => err.into(),
            E::HyperResponseError { err } => err.into(),
            other => Self::Strange(other.to_string()),
        }
    }
}

impl Failure {
    pub(super) fn answer(status: u16, body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Message {
            message: String,
        }
        let message = serde_json::from_slice(body)
            .map_or_else(|_| String::from_utf8_lossy(body).trim().to_owned(), |m: Message| m.message);
        let message = if message.is_empty() { format!("HTTP {status} without a message") } else { message };
        Self::Answer { status, message }
    }

    /// An error that came inside a stream, after the engine had said 200 (docs/reference/docker.md#errors-in-a-stream).
    pub(super) fn in_stream(message: String) -> Self {
        Self::Answer { status: 500, message }
    }

    pub(super) fn unreached(e: io::Error) -> Self {
        Self::Unreached(e.into())
    }

    pub(super) fn strange(what: impl Into<String>) -> Self {
        Self::Strange(what.into())
    }

    pub(super) fn from_line(e: tokio_util::codec::LinesCodecError, limit: usize) -> Self {
        match e {
            tokio_util::codec::LinesCodecError::Io(e) => e.into(),
            tokio_util::codec::LinesCodecError::MaxLineLengthExceeded => Self::TooLarge(limit),
        }
    }

    /// With nothing but the endpoint to say.
    pub(super) fn at(self, endpoint: &Endpoint) -> Error {
        match self {
            Self::Unreached(e) => connection(e, false, Some(endpoint)),
            Self::Connection(e) => connection(e, true, Some(endpoint)),
            other => other.about(About::Engine),
        }
    }

    pub(super) fn about(self, about: About<'_>) -> Error {
        match self {
            Self::Answer { status, message } => refusal(status, message.trim(), about),
            Self::Unreached(e) => connection(e, false, None),
            Self::Connection(e) => connection(e, true, None),
            Self::Strange(what) => Error::new(
                ErrorCode::EngineError,
                format!("The engine gave an answer that cannot be understood: {what}"),
            ),
            Self::TooLarge(limit) => Error::too_large("The engine's answer", limit),
        }
    }
}

pub(super) trait ResultExt<T> {
    fn about(self, about: About<'_>) -> Result<T, Error>;
}

impl<T, E: Into<Failure>> ResultExt<T> for Result<T, E> {
    fn about(self, about: About<'_>) -> Result<T, Error> {
        self.map_err(|e| e.into().about(about))
    }
}

/// Marks the source of an error for [`never_reached`]; its words are those of what it holds.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Unreached(Box<dyn StdError + Send + Sync>);

/// The connection could not even be made: the call can be made again elsewhere.
pub(super) fn never_reached(e: &Error) -> bool {
    e.code() == ErrorCode::EngineUnreachable && StdError::source(e).is_some_and(<dyn StdError>::is::<Unreached>)
}

fn way_out(endpoint: Option<&Endpoint>) -> &'static str {
    match endpoint {
        Some(Endpoint::Ssh(_)) => {
            "Look whether `ssh` to that host works without a question, and `docker version` on it."
        }
        Some(Endpoint::Tcp { tls: Some(_), .. }) => {
            "Look whether the engine runs there, and whether ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH are its."
        }
        Some(Endpoint::Tcp { .. }) => {
            "Look whether the engine runs there, and whether it wants TLS (DOCKER_TLS_VERIFY)."
        }
        _ => START_DOCKER,
    }
}

/// The word of a guest whose socket could not be opened. A VM does not tell a closed socket from one that nobody listens at.
fn said_by_guest<'a>(e: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(e);
    while let Some(e) = next {
        let io = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(guest) = io.and_then(|e| e.downcast_ref()).or_else(|| e.downcast_ref()) {
            return Some(guest);
        }
        next = e.source();
    }
    None
}

fn connection(e: Box<dyn StdError + Send + Sync>, reached: bool, endpoint: Option<&Endpoint>) -> Error {
    if let Some(guest) = said_by_guest(e.as_ref()).filter(|guest| guest.code() != ErrorCode::ContainerdNotReady) {
        let error = Error::new(guest.code(), guest.message()).details_of(guest);
        return match guest.hint_text() {
            Some(hint) => error.hint(hint),
            None => error,
        };
    }
    let at = endpoint.map_or_else(String::new, |e| format!(" at {e}"));
    let mut deepest: &(dyn StdError + 'static) = e.as_ref();
    let mut denied = false;
    loop {
        denied |= deepest.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
        match deepest.source() {
            Some(next) => deepest = next,
            None => break,
        }
    }
    let error = if denied {
        Error::new(ErrorCode::PermissionDenied, format!("We may not talk to the engine{at}: {deepest}"))
            .hint(if cfg!(windows) { "Run as a member of the docker-users group." } else { DOCKER_GROUP })
    } else {
        let what = if reached { "The connection to the engine broke off" } else { "No engine answers" };
        Error::new(ErrorCode::EngineUnreachable, format!("{what}{at}: {deepest}")).hint(way_out(endpoint))
    };
    let error = match endpoint {
        Some(endpoint) => error.detail("endpoint", endpoint.to_string()),
        None => error,
    };
    if reached { error.source(e) } else { error.source(Unreached(e)) }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    use crate::engine::types::{ContainerSpec, SpawnOptions, VolumeMount};
    let status = 400 + u16::from(data.first().copied().unwrap_or_default());
    let volumes = vec![VolumeMount { host: "/b".into(), container: "/etc".into(), read_only: false }];
    let spec = ContainerSpec { image: "x".into(), volumes, ..ContainerSpec::default() };
    for about in [
        About::Engine,
        About::Container("web"),
        About::Create(&spec),
        About::Image("x"),
        About::Pull("x"),
        About::Push("x"),
        About::Commit("web"),
        About::Path("web"),
        About::Tag { source: "x" },
        About::Network("n"),
        About::CreateNetwork,
        About::Connect { container: "web", network: "n" },
        About::Volume("v"),
        About::CreateVolume,
    ] {
        let error = Failure::answer(status, data.get(1..).unwrap_or_default()).about(about);
        assert!(!error.message().is_empty());
        crate::engine::refused::start(error, &spec);
    }
    let _ = crate::engine::refused::end_of_unstarted_exec(126, data, &SpawnOptions::default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_we_may_not_open_is_named_with_the_way_out() {
        let e = Failure::from(io::Error::from(io::ErrorKind::PermissionDenied)).at(&Endpoint::Unix("/s".into()));
        assert_eq!(e.code(), ErrorCode::PermissionDenied);
        assert!(e.message().contains("unix:///s") && e.hint_text().unwrap().contains("docker"));
    }
}

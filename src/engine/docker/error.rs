//! The engine's refusals, and the connection's, as the codes they mean on every backend.

use std::{error::Error as StdError, io};

use super::endpoint::Endpoint;
use crate::error::{Error, ErrorCode};

pub(super) const START_DOCKER: &str =
    "Start Docker (Docker Desktop, OrbStack, Colima, or the docker service) and try again.";
const DOCKER_GROUP: &str = "Add your user to the docker group (sudo usermod -aG docker $USER) and log in again.";
const LOG_IN: &str = "Pass auth, or log in with `docker login` first.";

/// What a call was about, for the errors that do not say it themselves.
#[derive(Debug, Clone, Copy)]
pub(super) enum On<'a> {
    Container(&'a str),
    Image(&'a str),
    /// Like an image, but a registry is asked.
    Pull(&'a str),
    Network(&'a str),
    Volume(&'a str),
    Engine,
}

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
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer { message, .. } | Self::Strange(message) => f.write_str(message),
            Self::Connection(e) | Self::Unreached(e) => e.fmt(f),
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

    pub(super) fn from_line(e: tokio_util::codec::LinesCodecError) -> Self {
        match e {
            tokio_util::codec::LinesCodecError::Io(e) => e.into(),
            e @ tokio_util::codec::LinesCodecError::MaxLineLengthExceeded => Self::Strange(e.to_string()),
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Answer { status: 404, .. })
    }

    /// With nothing but the endpoint to say.
    pub(super) fn at(self, endpoint: &Endpoint) -> Error {
        match self {
            Self::Unreached(e) => connection(e, false, Some(endpoint)),
            Self::Connection(e) => connection(e, true, Some(endpoint)),
            other => other.on(On::Engine),
        }
    }

    pub(super) fn on(self, on: On<'_>) -> Error {
        match self {
            Self::Answer { status, message } => refusal(status, message.trim(), on),
            Self::Unreached(e) => connection(e, false, None),
            Self::Connection(e) => connection(e, true, None),
            Self::Strange(what) => Error::new(
                ErrorCode::EngineError,
                format!("The engine gave an answer that cannot be understood: {what}"),
            ),
        }
    }
}

pub(super) trait OnExt<T> {
    fn on(self, on: On<'_>) -> Result<T, Error>;
}

impl<T, E: Into<Failure>> OnExt<T> for Result<T, E> {
    fn on(self, on: On<'_>) -> Result<T, Error> {
        self.map_err(|e| e.into().on(on))
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

fn connection(e: Box<dyn StdError + Send + Sync>, reached: bool, endpoint: Option<&Endpoint>) -> Error {
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

/// The engine's message is what there is to go by: one status has many meanings (docs/reference/docker.md#errors). The
/// oldest engine looked at is 20.10.
fn refusal(status: u16, message: &str, on: On<'_>) -> Error {
    let lower = message.to_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|t| lower.contains(t));
    let with = |code: ErrorCode| Error::new(code, message).detail("status", status);
    if has(&["no space left on device"]) {
        return with(ErrorCode::DiskFull).hint("Free some space, for example with prune().");
    }
    if has(&["port is already allocated", "address already in use"]) {
        return port_in_use(message).detail("status", status);
    }
    if let On::Pull(image) = on {
        return pull(image, message, &lower).detail("status", status);
    }
    if has(&["no such container", "no such exec"]) {
        return not_found(
            ErrorCode::ContainerNotFound,
            "container",
            if let On::Container(id) = on { id } else { last_word(message) },
        )
        .detail("status", status);
    }
    if has(&["no such image", "reference does not exist", "image not known"]) {
        return not_found(
            ErrorCode::ImageNotFound,
            "image",
            if let On::Image(id) = on { id } else { last_word(message) },
        )
        .detail("status", status);
    }
    if has(&["no such network"]) || (lower.contains("network ") && lower.ends_with("not found")) {
        return not_found(
            ErrorCode::NetworkNotFound,
            "network",
            if let On::Network(id) = on { id } else { last_word(message) },
        )
        .detail("status", status);
    }
    if has(&["no such volume"]) {
        return not_found(
            ErrorCode::VolumeNotFound,
            "volume",
            if let On::Volume(id) = on { id } else { last_word(message) },
        )
        .detail("status", status);
    }
    if lower.contains("is already in use by container") || (status == 409 && has(&["already exists", "already in use"]))
    {
        return with(ErrorCode::NameInUse).hint("Choose another name, or remove what has it now.");
    }
    if has(&[
        "is in use",
        "is using",
        "being used by",
        "has active endpoints",
        "dependent child images",
        "must be forced",
    ]) || (status == 409
        && has(&["you cannot remove a", "cannot remove container"])
        && !has(&["already in progress"]))
    {
        return with(ErrorCode::InUse).hint("Stop or remove what uses it first, or force it.");
    }
    if has(&[
        "is not running",
        "is not paused",
        "already paused",
        "is paused",
        "is restarting",
        "is already in progress",
        "marked for removal",
        "is not connected to",
        "is already attached to network",
        // Of an endpoint, that is: it is connected.
        "already exists in network",
        "already stopped",
    ]) {
        return with(ErrorCode::InvalidState);
    }
    match (status, on) {
        (404, On::Container(id)) => not_found(ErrorCode::ContainerNotFound, "container", id),
        (404, On::Image(id)) => not_found(ErrorCode::ImageNotFound, "image", id),
        (404, On::Network(id)) => not_found(ErrorCode::NetworkNotFound, "network", id),
        (404, On::Volume(id)) => not_found(ErrorCode::VolumeNotFound, "volume", id),
        (400, _) | (403, On::Network(_)) => with(ErrorCode::InvalidArgument),
        (409, _) => with(ErrorCode::InvalidState),
        _ => with(ErrorCode::EngineError),
    }
    .detail("status", status)
}

/// The engine's own last word: what is missing, where it is not what the call was about.
fn last_word(message: &str) -> &str {
    let message = message.strip_suffix(" not found").unwrap_or(message);
    message.rsplit(' ').next().unwrap_or(message)
}

fn not_found(code: ErrorCode, what: &str, id: &str) -> Error {
    Error::new(code, format!("There is no {what} {id}")).detail("id", id)
}

fn port_in_use(message: &str) -> Error {
    let port = port_of(message);
    let text = port.map_or_else(|| message.to_owned(), |p| format!("Host port {p} is already in use: {message}"));
    let error =
        Error::new(ErrorCode::PortInUse, text).hint("Choose another host port, or stop what listens on this one.");
    match port {
        Some(port) => error.detail("port", port),
        None => error,
    }
}

/// `Bind for 0.0.0.0:8080 failed: port is already allocated`, `listen tcp4 0.0.0.0:8080: bind: address already in use`,
/// `failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use`: the first address's port.
fn port_of(message: &str) -> Option<u16> {
    let from = ["bind host port ", "Bind for ", "listen tcp", "listen udp"].iter().find_map(|t| message.find(t))?;
    message[from..].split_whitespace().find_map(|word| {
        let word = word.trim_end_matches([':', ',']);
        // An IPv6 address stands in brackets.
        let after = match word.rsplit_once("]:") {
            Some((_, after)) => after,
            None => word.split_once(':')?.1,
        };
        after.split([':', '/']).next()?.parse().ok()
    })
}

fn pull(image: &str, message: &str, lower: &str) -> Error {
    let has = |texts: &[&str]| texts.iter().any(|t| lower.contains(t));
    let image_missing = || {
        Error::new(ErrorCode::ImageNotFound, format!("There is no image {image}: {message}"))
            .detail("id", image)
            .hint("Check the name and tag.")
    };
    if has(&[
        "manifest unknown",
        "not found: manifest",
        "repository name not known",
        "name unknown",
        "no matching manifest",
    ]) || (has(&["not found"]) && has(&["manifest for", "failed to resolve reference"]))
    {
        image_missing()
    } else if has(&[
        "unauthorized",
        "no basic auth credentials",
        "authentication required",
        "incorrect username or password",
        "pull access denied",
        "access to the resource is denied",
        "authorization failed",
        "insufficient_scope",
        "403 forbidden",
    ]) {
        Error::new(ErrorCode::RegistryAuth, format!("The registry refused to give {image}: {message}"))
            .detail("image", image)
            .hint(format!("{LOG_IN} A registry may say the same of an image that does not exist."))
    } else if has(&["invalid reference format", "invalid tag format"]) {
        Error::invalid("name", message)
    } else if has(&["not found"]) {
        image_missing()
    } else {
        let error = Error::new(ErrorCode::EngineError, format!("Pulling {image} failed: {message}"));
        if has(&[
            "no such host",
            "connection refused",
            "i/o timeout",
            "network is unreachable",
            "tls handshake timeout",
        ]) {
            return error.hint("The engine does not reach the registry: look at its network, DNS and proxy settings.");
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use ErrorCode::*;

    use super::*;

    fn code(status: u16, message: &str, on: On<'_>) -> ErrorCode {
        refusal(status, message, on).code()
    }

    #[test]
    fn the_same_situation_has_the_same_code() {
        for (status, message, on, expected) in [
            (404, "No such container: ghost", On::Container("ghost"), ContainerNotFound),
            (404, "No such image: none:latest", On::Container("c"), ImageNotFound),
            (404, "network nope not found", On::Container("c"), NetworkNotFound),
            (404, "get v: no such volume", On::Volume("v"), VolumeNotFound),
            (
                409,
                r#"Conflict. The container name "/web" is already in use by container "0af". You have to remove (or rename) that container to be able to reuse that name."#,
                On::Container("web"),
                NameInUse,
            ),
            (409, "network with name n already exists", On::Network("n"), NameInUse),
            (409, "remove v: volume is in use - [0af]", On::Volume("v"), InUse),
            (
                409,
                "You cannot remove a running container 0af. Stop the container before attempting removal or force remove",
                On::Container("0af"),
                InUse,
            ),
            (
                409,
                "conflict: unable to remove repository reference \"b\" (must force) - container 0 is using its referenced image 1",
                On::Image("b"),
                InUse,
            ),
            (403, "error while removing network: network n id 0 has active endpoints", On::Network("n"), InUse),
            (403, "bridge is a pre-defined network and cannot be removed", On::Network("bridge"), InvalidArgument),
            (409, "Container 0af is not running", On::Container("0af"), InvalidState),
            (500, "cannot pause: Container 0af is already paused", On::Container("0af"), InvalidState),
            (409, "removal of container 0af is already in progress", On::Container("0af"), InvalidState),
            (400, "invalid mount config for type \"bind\"", On::Container("c"), InvalidArgument),
            (500, "write /var/lib/x: no space left on device", On::Engine, DiskFull),
            (500, "something new", On::Engine, EngineError),
            (
                404,
                "manifest for b:nope not found: manifest unknown: manifest unknown",
                On::Pull("b:nope"),
                ImageNotFound,
            ),
            (500, "Head \"http://r/v2/a/manifests/latest\": no basic auth credentials", On::Pull("r/a"), RegistryAuth),
            (
                404,
                "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                On::Pull("x"),
                RegistryAuth,
            ),
        ] {
            assert_eq!(code(status, message, on), expected, "{message}");
        }
    }

    #[test]
    fn the_port_is_named() {
        for (message, port) in [
            (
                "driver failed programming external connectivity on endpoint web (8f2): Bind for 0.0.0.0:8080 failed: port is already allocated",
                8080,
            ),
            ("Error starting userland proxy: listen tcp4 0.0.0.0:81: bind: address already in use", 81),
            ("Error starting userland proxy: listen tcp [::1]:82: bind: address already in use", 82),
            ("failed to bind host port for 0.0.0.0:83:172.17.0.2:80/tcp: address already in use", 83),
            ("failed to bind host port 127.0.0.1:84/tcp: address already in use", 84),
        ] {
            let e = refusal(500, message, On::Container("web"));
            assert_eq!((e.code(), &e.details()["port"]), (PortInUse, &port.into()), "{message}");
            assert!(e.message().contains(&port.to_string()));
        }
    }

    #[test]
    fn the_id_is_in_the_message() {
        let e = refusal(404, "No such container: ghost", On::Container("ghost"));
        assert_eq!((e.message(), &e.details()["id"]), ("There is no container ghost", &"ghost".into()));
        let e = refusal(404, "network nope not found", On::Container("c"));
        assert_eq!(e.message(), "There is no network nope");
        let e = refusal(404, "No such image: none:latest", On::Container("c"));
        assert_eq!(e.message(), "There is no image none:latest");
    }

    #[test]
    fn a_socket_we_may_not_open_is_named_with_the_way_out() {
        let e = Failure::from(io::Error::from(io::ErrorKind::PermissionDenied)).at(&Endpoint::Unix("/s".into()));
        assert_eq!(e.code(), PermissionDenied);
        assert!(e.message().contains("unix:///s") && e.hint_text().unwrap().contains("docker"));
    }

    proptest::proptest! {
        #[test]
        fn no_message_makes_it_panic(status in 400u16..600, message in "\\PC*") {
            for on in [On::Container("c"), On::Pull("i"), On::Engine] {
                let _ = refusal(status, &message, on);
            }
            let _ = refusal(status, &format!("Bind for {message} failed: port is already allocated"), On::Engine);
        }
    }
}

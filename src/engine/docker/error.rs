//! The engine's refusals, and the connection's, as the codes they mean on every backend.

use std::{error::Error as StdError, io};

use super::endpoint::Endpoint;
use crate::{
    engine::{
        registry,
        types::{ContainerSpec, VolumeMount},
    },
    error::{Error, ErrorCode},
};

pub(super) const START_DOCKER: &str =
    "Start Docker (Docker Desktop, OrbStack, Colima, or the docker service) and try again.";
const DOCKER_GROUP: &str = "Add your user to the docker group (sudo usermod -aG docker $USER) and log in again.";

/// What a call was about. A refusal says of what is there that it is not, or that it is used; of what is to be made it
/// says why it cannot be.
#[derive(Debug, Clone, Copy)]
pub(super) enum On<'a> {
    Container(&'a str),
    Create(&'a ContainerSpec),
    Image(&'a str),
    /// Like an image, but a registry is asked.
    Pull(&'a str),
    Tag {
        source: &'a str,
    },
    Network(&'a str),
    CreateNetwork,
    /// Also to disconnect it.
    Connect {
        container: &'a str,
        network: &'a str,
    },
    Volume(&'a str),
    CreateVolume,
    Engine,
}

impl<'a> On<'a> {
    /// The argument that is meant when the engine does not say which.
    fn field(self) -> Option<&'static str> {
        Some(match self {
            Self::Container(_) | Self::Image(_) | Self::Network(_) => "id",
            Self::Create(_) => "config",
            Self::Pull(_) | Self::CreateNetwork | Self::Volume(_) | Self::CreateVolume => "name",
            Self::Tag { .. } => "target",
            Self::Connect { .. } => "networkId",
            Self::Engine => return None,
        })
    }

    fn container(self) -> Option<&'a str> {
        match self {
            Self::Container(id) | Self::Connect { container: id, .. } => Some(id),
            _ => None,
        }
    }

    fn image(self) -> Option<&'a str> {
        match self {
            Self::Image(image) | Self::Tag { source: image } => Some(image),
            Self::Create(spec) => Some(&spec.image),
            _ => None,
        }
    }

    fn network(self, message: &str) -> Option<&'a str> {
        match self {
            Self::Network(id) | Self::Connect { network: id, .. } => Some(id),
            Self::Create(spec) => spec.networks.iter().map(String::as_str).find(|n| message.contains(n)),
            _ => None,
        }
    }

    fn volume(self) -> Option<&'a str> {
        if let Self::Volume(name) = self { Some(name) } else { None }
    }
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
            Self::TooLarge(limit) => Error::too_large("The engine's answer", limit),
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

/// The engine's message is what there is to go by: one status has many meanings (docs/reference/docker.md#errors and
/// #errors-of-podman). Only a status is judged by what the call was about, and never that of a call that makes something.
fn refusal(status: u16, message: &str, on: On<'_>) -> Error {
    let lower = message.to_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|t| lower.contains(t));
    let with = |code: ErrorCode| Error::new(code, message);
    let invalid = |field: Option<&str>| match field {
        Some(field) => Error::invalid(field, message),
        None => Error::new(ErrorCode::InvalidArgument, message),
    };
    let missing = |code, what, id: Option<&str>, marks: &[&str]| {
        not_found(code, what, id.or_else(|| word_after(message, marks)), message)
    };
    let error = if has(&["no space left on device"]) {
        with(ErrorCode::DiskFull).hint("Free some space, for example with prune().")
    } else if has(&["port is already allocated", "address already in use"]) && !has(&["ipam"]) {
        port_in_use(message)
    } else if let Some((field, hint)) = of_an_argument(message, &lower, on) {
        let error = invalid(Some(&field));
        if hint.is_empty() { error } else { error.hint(hint) }
    } else if let On::Pull(image) = on {
        registry::refused(image, message)
    } else if has(&["no address pool", "address pool", "free subnet from subnet pools"]) {
        with(ErrorCode::EngineError).hint(
            "Remove networks that nobody uses, for example with prune({ networks: true }), or give the engine more address \
             pools (default-address-pools).",
        )
    } else if has(&[
        "is not connected to",
        "is already connected",
        "is already attached to network",
        "already exists in network",
    ]) {
        // The last one is of an endpoint: it is connected.
        with(ErrorCode::InvalidState)
    } else if has(&["no such container", "no container with name or id", "no such exec", "no exec session"]) {
        let marks = ["No such container: ", "no container with name or ID ", "No such exec instance: "];
        missing(ErrorCode::ContainerNotFound, "container", on.container(), &marks)
    } else if has(&["does not match the specified platform"]) {
        let platform = if let On::Create(spec) = on { spec.platform.as_deref().unwrap_or_default() } else { "" };
        let image = on.image().unwrap_or_default();
        Error::new(ErrorCode::ImageNotFound, format!("There is no image {image} for {platform}: {message}"))
            .detail("id", image)
    } else if has(&["no such image", "reference does not exist", "image not known", "failed to find image"]) {
        missing(ErrorCode::ImageNotFound, "image", on.image(), &["No such image: ", "no such image: "])
    } else if has(&["no such network", "network not found"])
        || (lower.contains("network ") && lower.ends_with("not found"))
    {
        let marks = ["with name or ID ", "No such network: ", "network "];
        missing(ErrorCode::NetworkNotFound, "network", on.network(message), &marks)
    } else if has(&["no such volume", "no volume with name"]) {
        missing(ErrorCode::VolumeNotFound, "volume", on.volume(), &["get ", "no volume with name "])
    } else if has(&[
        "is already in use by",
        "on predefined",
        "conflicts with a valid network mode",
        "network already exists",
    ]) || (status == 409 && has(&["already exists", "already in use"]))
    {
        with(ErrorCode::NameInUse).hint("Choose another name, or remove what has it now.")
    } else if has(&[
        "is in use",
        "is using",
        "being used",
        "has active endpoints",
        "has associated containers",
        "dependent child images",
        "must be forced",
        "cannot be removed without force",
    ]) || (status == 409
        && has(&["you cannot remove a", "cannot remove container"])
        && !has(&["already in progress"]))
    {
        with(ErrorCode::InUse).hint("Stop or remove what uses it first, or force it.")
    } else if has(&[
        "is not running",
        "is not paused",
        "already paused",
        "is paused",
        "is restarting",
        "is already in progress",
        "marked for removal",
        "already stopped",
        "container state improper",
    ]) {
        with(ErrorCode::InvalidState)
    } else {
        // An engine that does not know the call itself.
        let unknown_call = has(&["page not found"]) || lower == "not found";
        match (status, on) {
            (404, _) if unknown_call => {
                with(ErrorCode::EngineError).hint("The engine does not know this call. Is it up to date?")
            }
            (404, On::Container(id)) => not_found(ErrorCode::ContainerNotFound, "container", Some(id), message),
            (404, On::Image(id)) => not_found(ErrorCode::ImageNotFound, "image", Some(id), message),
            (404, On::Network(id)) => not_found(ErrorCode::NetworkNotFound, "network", Some(id), message),
            (404, On::Volume(id)) => not_found(ErrorCode::VolumeNotFound, "volume", Some(id), message),
            (400, _) | (403, On::Network(_) | On::Connect { .. }) => invalid(on.field()),
            (409, _) => with(ErrorCode::InvalidState),
            _ => with(ErrorCode::EngineError),
        }
    };
    error.detail("status", status)
}

/// The argument that the engine's words are about, and what to do.
fn of_an_argument(message: &str, lower: &str, on: On<'_>) -> Option<(String, &'static str)> {
    let has = |texts: &[&str]| texts.iter().any(|t| lower.contains(t));
    if has(&["invalid reference format", "invalid tag format", "ambiguous tag"]) && !has(&["no such image"]) {
        let field = if matches!(on, On::Create(_)) { "image" } else { on.field()? };
        return Some((field.into(), "An engine of several years knows fewer forms of names than those of today."));
    }
    if has(&["unknown operating system or architecture"]) {
        return Some(("platform".into(), ""));
    }
    match on {
        On::Container(_) if has(&["invalid signal"]) => Some(("signal".into(), "")),
        On::CreateNetwork | On::CreateVolume
            if has(&["plugin", "unsupported driver"])
                && has(&["not found", "not be found", "missing", "unsupported"]) =>
        {
            Some(("driver".into(), "The engine has no driver of that name."))
        }
        On::CreateNetwork if has(&["not a swarm manager"]) => {
            Some(("driver".into(), "This driver needs an engine in Swarm mode."))
        }
        On::CreateNetwork if has(&["only one instance of"]) => {
            Some(("driver".into(), "Attach containers to the one there is."))
        }
        On::Network(_) if has(&["pre-defined network", "default network"]) => {
            Some(("id".into(), "The engine's own networks stay."))
        }
        On::Create(spec) => {
            let volume = |part: fn(&VolumeMount) -> &str| {
                let volumes = spec.volumes.iter().enumerate();
                let named = volumes.filter(|(_, v)| message.contains(part(v)));
                named.max_by_key(|(_, v)| part(v).len()).map(|(i, _)| i)
            };
            if has(&["duplicate mount"]) {
                return Some((format!("volumes[{}].container", volume(|v| &v.container)?), ""));
            }
            if has(&["source path does not exist"]) {
                return Some((format!("volumes[{}].host", volume(|v| &v.host)?), ""));
            }
            has(&["invalid restart policy", "not a valid restart policy"]).then(|| ("restart".into(), ""))
        }
        _ => None,
    }
}

/// The first word behind one of these, without its quotes.
fn word_after<'a>(message: &'a str, marks: &[&str]) -> Option<&'a str> {
    let rest = marks.iter().find_map(|mark| message.split_once(mark))?.1;
    rest.split_whitespace().next().map(|word| word.trim_matches(['"', '\'', ':', ',']))
}

fn not_found(code: ErrorCode, what: &str, id: Option<&str>, message: &str) -> Error {
    match id {
        Some(id) => Error::new(code, format!("There is no {what} {id}")).detail("id", id),
        None => Error::new(code, message),
    }
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

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let status = 400 + u16::from(data.first().copied().unwrap_or_default());
    let volumes = vec![VolumeMount { host: "/b".into(), container: "/etc".into(), read_only: false }];
    let spec = ContainerSpec { image: "x".into(), volumes, ..ContainerSpec::default() };
    for on in [
        On::Engine,
        On::Container("web"),
        On::Create(&spec),
        On::Image("x"),
        On::Pull("x"),
        On::Tag { source: "x" },
        On::Network("n"),
        On::CreateNetwork,
        On::Connect { container: "web", network: "n" },
        On::Volume("v"),
        On::CreateVolume,
    ] {
        let error = Failure::answer(status, data.get(1..).unwrap_or_default()).on(on);
        assert!(!error.message().is_empty());
        crate::engine::refused::start(error, &spec);
    }
}

#[cfg(test)]
mod tests {
    use ErrorCode::*;

    use super::*;

    fn spec() -> ContainerSpec {
        serde_json::from_str(
            r#"{"name":"c1","image":"busybox:latest","networks":["n0","nosuch"],"platform":"linux/arm64",
                "volumes":[{"host":"/a","container":"/x"},{"host":"/a/b","container":"/x/y"}]}"#,
        )
        .unwrap()
    }

    /// The call, the answer, the code, and the field where an argument is to blame or the id where something is missing.
    type Row<'a> = (On<'a>, u16, &'a str, ErrorCode, Option<&'a str>);

    fn judge(rows: &[Row<'_>]) {
        for (on, status, message, code, named) in rows {
            let e = refusal(*status, message, *on);
            assert_eq!(e.code(), *code, "{on:?} {status} {message}: {}", e.message());
            let key = if *code == InvalidArgument { "field" } else { "id" };
            assert_eq!(e.details().get(key).and_then(|v| v.as_str()), *named, "{on:?} {status} {message}");
            assert_eq!(e.details()["status"], *status);
        }
    }

    /// As dockerd 20.10.24 answered; marked ones by moby's sources of a newer one.
    #[test]
    fn what_dockerd_says() {
        let spec = spec();
        let create = On::Create(&spec);
        let c1 = On::Container("c1");
        let connect = On::Connect { container: "c1", network: "n1" };
        judge(&[
            // ---- to make something
            (create, 404, "No such image: busybox:latest", ImageNotFound, Some("busybox:latest")),
            (
                create,
                400,
                "invalid reference format: repository name must be lowercase",
                InvalidArgument,
                Some("image"),
            ),
            (
                create,
                409,
                r#"Conflict. The container name "/c1" is already in use by container "13b3". You have to remove (or rename) that container to be able to reuse that name."#,
                NameInUse,
                None,
            ),
            (
                create,
                404,
                "image with reference busybox:latest was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64",
                ImageNotFound,
                Some("busybox:latest"),
            ),
            (create, 404, "network nosuch not found", NetworkNotFound, Some("nosuch")),
            (create, 400, "Duplicate mount point: /x/y", InvalidArgument, Some("volumes[1].container")),
            (
                create,
                400,
                "invalid mount config for type \"bind\": bind source path does not exist: /a/b",
                InvalidArgument,
                Some("volumes[1].host"),
            ),
            (create, 400, "invalid restart policy 'bogus'", InvalidArgument, Some("restart")),
            (create, 400, "something new", InvalidArgument, Some("config")),
            (create, 500, "invalid mode: bogus", EngineError, None),
            // 404 of a create is not about what is created.
            (
                create,
                404,
                "create v1: error looking up volume plugin nosuchdrv: plugin \"nosuchdrv\" not found",
                EngineError,
                None,
            ),
            (create, 404, "something new", EngineError, None),
            (On::CreateNetwork, 409, "network with name n1 already exists", NameInUse, None),
            (On::CreateNetwork, 403, "operation is not permitted on predefined bridge network ", NameInUse, None),
            (On::CreateNetwork, 404, "plugin \"nosuchdrv\" not found", InvalidArgument, Some("driver")),
            (
                On::CreateNetwork,
                500,
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
                InvalidArgument,
                Some("driver"),
            ),
            (
                On::CreateNetwork,
                403,
                "only one instance of \"host\" network is allowed",
                InvalidArgument,
                Some("driver"),
            ),
            (
                On::CreateNetwork,
                404,
                "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
                EngineError,
                None,
            ),
            // Of a newer one.
            (On::CreateNetwork, 400, "all predefined address pools have been fully subnetted", EngineError, None),
            (On::CreateNetwork, 404, "something new", EngineError, None),
            (
                On::CreateVolume,
                404,
                "create v2: error looking up volume plugin nosuchdrv: plugin \"nosuchdrv\" not found",
                InvalidArgument,
                Some("driver"),
            ),
            (On::CreateVolume, 400, "create v2: invalid option: \"bogus\"", InvalidArgument, Some("name")),
            (
                On::CreateVolume,
                409,
                "a volume with the name v1 already exists with the local driver. Choose a different volume name",
                NameInUse,
                None,
            ),
            (On::CreateVolume, 404, "something new", EngineError, None),
            // ---- of what is there, or not
            (c1, 404, "No such container: c1", ContainerNotFound, Some("c1")),
            (c1, 404, "network nosuch not found", NetworkNotFound, Some("nosuch")),
            (c1, 404, "No such exec instance: 8f2", ContainerNotFound, Some("c1")),
            (c1, 409, "Container 13b3 is not running", InvalidState, None),
            (c1, 500, "Container 13b3 is not paused", InvalidState, None),
            (c1, 409, "Container 13b3 is already paused", InvalidState, None),
            (c1, 409, "Container c1 is paused, unpause the container before exec", InvalidState, None),
            (c1, 409, "Cannot kill container: c1: Container 13b3 is not running", InvalidState, None),
            (c1, 409, "removal of container c1 is already in progress", InvalidState, None),
            (
                c1,
                409,
                "You cannot remove a running container 13b3. Stop the container before attempting removal or force remove",
                InUse,
                None,
            ),
            (c1, 400, "Invalid signal: BOGUS", InvalidArgument, Some("signal")),
            // The call itself is not known, not the container.
            (c1, 404, "page not found", EngineError, None),
            (On::Network("n1"), 404, "network n1 not found", NetworkNotFound, Some("n1")),
            (
                On::Network("n1"),
                403,
                "error while removing network: network n1 id cae8 has active endpoints",
                InUse,
                None,
            ),
            (
                On::Network("bridge"),
                403,
                "bridge is a pre-defined network and cannot be removed",
                InvalidArgument,
                Some("id"),
            ),
            (connect, 404, "No such container: c1", ContainerNotFound, Some("c1")),
            (connect, 404, "network n1 not found", NetworkNotFound, Some("n1")),
            (connect, 403, "endpoint with name c1 already exists in network n1", InvalidState, None),
            (connect, 500, "container 13b3 is not connected to network n1", InvalidState, None),
            (
                connect,
                400,
                "container cannot be disconnected from host network or connected to host network",
                InvalidArgument,
                Some("networkId"),
            ),
            (connect, 404, "something new", EngineError, None),
            (On::Volume("v1"), 404, "get v1: no such volume", VolumeNotFound, Some("v1")),
            (On::Volume("v1"), 409, "remove v1: volume is in use - [0af]", InUse, None),
            (On::Image("a"), 404, "No such image: a:latest", ImageNotFound, Some("a")),
            (
                On::Image("[::1]/a"),
                400,
                "no such image: [::1]/a: invalid reference format",
                ImageNotFound,
                Some("[::1]/a"),
            ),
            (
                On::Image("a"),
                409,
                "conflict: unable to remove repository reference \"a\" (must force) - container 13b3 is using its referenced image 3fcd",
                InUse,
                None,
            ),
            (On::Tag { source: "a" }, 404, "No such image: a:latest", ImageNotFound, Some("a")),
            (On::Tag { source: "a" }, 500, "invalid reference format", InvalidArgument, Some("target")),
            (On::Tag { source: "a" }, 500, "invalid tag format", InvalidArgument, Some("target")),
            (
                On::Tag { source: "a" },
                400,
                "refusing to create an ambiguous tag using digest algorithm as name",
                InvalidArgument,
                Some("target"),
            ),
            (
                On::Pull("a"),
                400,
                "\"bogus\": unknown operating system or architecture: invalid argument",
                InvalidArgument,
                Some("platform"),
            ),
            (On::Pull("a"), 400, "invalid reference format", InvalidArgument, Some("name")),
            (
                On::Pull("a"),
                404,
                "manifest for a:1 not found: manifest unknown: manifest unknown",
                ImageNotFound,
                Some("a"),
            ),
            (On::Engine, 500, "write /var/lib/x: no space left on device", DiskFull, None),
            (On::Engine, 500, "something new", EngineError, None),
            (On::Engine, 404, "page not found", EngineError, None),
        ]);
        let pools = refusal(404, "could not find an available, non-overlapping IPv4 address pool", On::CreateNetwork);
        assert!(pools.hint_text().unwrap().contains("prune") && pools.message().contains("non-overlapping"));
    }

    /// As podman 4.3.1's compatible API answered.
    #[test]
    fn what_podman_says() {
        let spec = spec();
        let create = On::Create(&spec);
        let c1 = On::Container("c1");
        let connect = On::Connect { container: "c1", network: "n1" };
        judge(&[
            (
                create,
                500,
                "container create: creating container storage: the container name \"c1\" is already in use by fea8. You have to remove that container to be able to reuse that name: that name is already in use",
                NameInUse,
                None,
            ),
            (
                create,
                404,
                "no such image: docker.io/library/busybox:latest: image not known",
                ImageNotFound,
                Some("busybox:latest"),
            ),
            (
                create,
                500,
                "container create: unable to find network with name or ID nosuch: network not found",
                NetworkNotFound,
                Some("nosuch"),
            ),
            (
                create,
                500,
                "fill out specgen: /x: duplicate mount destination",
                InvalidArgument,
                Some("volumes[0].container"),
            ),
            (
                create,
                500,
                "container create: running container create option: \"bogus\" is not a valid restart policy: invalid argument",
                InvalidArgument,
                Some("restart"),
            ),
            (
                create,
                500,
                "normalizing image: normalizing name \"MYREG/a:1\" (orig: \"MYREG/a:1\") for compat API: invalid reference format: repository name must be lowercase",
                InvalidArgument,
                Some("image"),
            ),
            (On::CreateNetwork, 500, "network name n1 already used: network already exists", NameInUse, None),
            (
                On::CreateNetwork,
                500,
                "cannot create network with name \"bridge\" because it conflicts with a valid network mode",
                NameInUse,
                None,
            ),
            (On::CreateNetwork, 500, "unsupported driver nosuchdrv: invalid argument", InvalidArgument, Some("driver")),
            (
                On::CreateVolume,
                500,
                "volume v2 uses volume plugin nosuchdrv but it could not be retrieved: no volume plugin with name nosuchdrv available: required plugin missing",
                InvalidArgument,
                Some("driver"),
            ),
            (c1, 404, "no container with name or ID \"c1\" found: no such container", ContainerNotFound, Some("c1")),
            (c1, 404, "no exec session with ID 8f2 found: no such exec session", ContainerNotFound, Some("c1")),
            (c1, 500, "\"created\" is not running, can't pause: container state improper", InvalidState, None),
            (
                c1,
                500,
                "can only kill running containers. fea8 is in state created: container state improper",
                InvalidState,
                None,
            ),
            (
                c1,
                500,
                "can only create exec sessions on running containers: container state improper",
                InvalidState,
                None,
            ),
            (
                c1,
                500,
                "cannot remove container fea8 as it is running - running or paused containers cannot be removed without force: container state improper",
                InUse,
                None,
            ),
            (On::Network("n1"), 404, "network not found", NetworkNotFound, Some("n1")),
            (
                On::Network("n1"),
                500,
                "\"n1\" has associated containers with it. Use -f to forcibly delete containers and pods: network is being used",
                InUse,
                None,
            ),
            (On::Network("podman"), 500, "default network podman cannot be removed", InvalidArgument, Some("id")),
            (
                connect,
                404,
                "no container with name or ID \"c1\" found: no such container",
                ContainerNotFound,
                Some("c1"),
            ),
            (
                connect,
                500,
                "container fea8 is already connected to network \"n1\": network already exists",
                InvalidState,
                None,
            ),
            (On::Volume("v1"), 404, "no volume with name \"v1\" found: no such volume", VolumeNotFound, Some("v1")),
            (
                On::Image("a"),
                404,
                "failed to find image a: docker.io/library/a: No such image",
                ImageNotFound,
                Some("a"),
            ),
            (On::Image("a"), 500, "docker.io/library/a: image not known", ImageNotFound, Some("a")),
        ]);
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
        let spec = spec();
        for (status, message, on, said) in [
            (404, "No such container: ghost", On::Container("ghost"), "There is no container ghost"),
            (404, "network nope not found", On::Container("c"), "There is no network nope"),
            (404, "No such image: none:latest", On::Container("c"), "There is no image none:latest"),
            (
                500,
                "unable to find network with name or ID nope: network not found",
                On::Create(&spec),
                "There is no network nope",
            ),
        ] {
            assert_eq!(refusal(status, message, on).message(), said);
        }
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
            let spec = spec();
            for on in [On::Container("c"), On::Create(&spec), On::CreateNetwork, On::Pull("i"), On::Engine] {
                let _ = refusal(status, &message, on);
            }
            let _ = refusal(status, &format!("Bind for {message} failed: port is already allocated"), On::Engine);
        }
    }
}

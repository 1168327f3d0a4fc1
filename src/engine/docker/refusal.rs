//! What an engine refuses, by its words, as the code that it means on every backend.

use crate::{
    engine::{
        config,
        registry::{self, Asked},
        types::{ContainerSpec, VolumeMount},
    },
    error::{Error, ErrorCode},
};

/// What a call was about. A refusal says of what is there that it is not, or that it is used; of what is to be made it
/// says why it cannot be.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    Container(&'a str),
    Create(&'a ContainerSpec),
    Image(&'a str),
    /// Like an image, but a registry is asked.
    Pull(&'a str),
    Push(&'a str),
    /// An image is made of the container.
    Commit(&'a str),
    Tag {
        source: &'a str,
    },
    /// Of a container.
    Path(&'a str),
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

impl<'a> About<'a> {
    /// The argument that is meant when the engine does not say which.
    fn field(self) -> Option<&'static str> {
        Some(match self {
            Self::Container(_) | Self::Image(_) | Self::Network(_) => "id",
            Self::Create(_) => "config",
            Self::Commit(_) => "reference",
            Self::Path(_) => "containerPath",
            Self::Pull(_) | Self::Push(_) | Self::CreateNetwork | Self::Volume(_) | Self::CreateVolume => "name",
            Self::Tag { .. } => "target",
            Self::Connect { .. } => "networkId",
            Self::Engine => return None,
        })
    }

    fn spec(self) -> Option<&'a ContainerSpec> {
        if let Self::Create(spec) = self { Some(spec) } else { None }
    }

    /// What is there, or should be, and bears the name that the caller gave.
    fn thing(self) -> Option<Thing> {
        Some(match self {
            Self::Container(_) | Self::Commit(_) => Thing::Container,
            Self::Image(_) => Thing::Image,
            Self::Network(_) => Thing::Network,
            Self::Volume(_) => Thing::Volume,
            _ => return None,
        })
    }
}

/// What an engine may not have.
#[derive(Debug, Clone, Copy)]
enum Thing {
    Container,
    Image,
    Network,
    Volume,
}

impl Thing {
    /// The code, the word for it, and what stands before its name in an engine's message.
    fn facts(self) -> (ErrorCode, &'static str, &'static [&'static str]) {
        match self {
            Self::Container => (
                ErrorCode::ContainerNotFound,
                "container",
                &["No such container: ", "no container with name or ID ", "No such exec instance: "],
            ),
            Self::Image => (ErrorCode::ImageNotFound, "image", &["No such image: ", "no such image: "]),
            Self::Network => {
                (ErrorCode::NetworkNotFound, "network", &["with name or ID ", "No such network: ", "network "])
            }
            Self::Volume => (ErrorCode::VolumeNotFound, "volume", &["get ", "no volume with name "]),
        }
    }

    /// As the caller named it.
    fn named<'a>(self, about: About<'a>, message: &str) -> Option<&'a str> {
        match (self, about) {
            (
                Self::Container,
                About::Container(id) | About::Commit(id) | About::Path(id) | About::Connect { container: id, .. },
            )
            | (Self::Image, About::Image(id) | About::Tag { source: id })
            | (Self::Network, About::Network(id) | About::Connect { network: id, .. })
            | (Self::Volume, About::Volume(id)) => Some(id),
            (Self::Image, About::Create(spec)) => Some(&spec.image),
            (Self::Network, About::Create(spec)) => {
                spec.networks.iter().map(String::as_str).find(|n| message.contains(n))
            }
            _ => None,
        }
    }

    fn missing(self, about: About<'_>, message: &str) -> Error {
        let (code, what, marks) = self.facts();
        match self.named(about, message).or_else(|| word_after(message, marks)) {
            Some(id) => Error::new(code, format!("There is no {what} {id}")).detail("id", id),
            None => Error::new(code, message),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Meaning {
    Code(ErrorCode, Option<&'static str>),
    /// An argument, by its name, and what to do.
    Argument(&'static str, Option<&'static str>),
    /// The argument that the call is about.
    Subject(Option<&'static str>),
    /// The host of a volume of the container to be made, or the path in it.
    VolumeHost,
    VolumePath,
    Missing(Thing),
    /// The thing that the call is about is not there.
    MissingSubject,
    OtherPlatform,
    PortInUse,
    /// A registry's words, which every engine passes on.
    Registry,
}

/// Which refusals have this meaning.
struct Row {
    about: fn(About<'_>) -> bool,
    status: Option<u16>,
    /// Of each group one is in the message.
    words: &'static [&'static [&'static str]],
    /// None of these is.
    without: &'static [&'static str],
    meaning: Meaning,
}

impl Row {
    const fn of(words: &'static [&'static [&'static str]], meaning: Meaning) -> Self {
        Self { about: |_| true, status: None, words, without: &[], meaning }
    }

    const fn about(self, about: fn(About<'_>) -> bool) -> Self {
        Self { about, ..self }
    }

    const fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    const fn without(self, without: &'static [&'static str]) -> Self {
        Self { without, ..self }
    }

    fn fits(&self, status: u16, lines: &str, about: About<'_>) -> bool {
        let one_of = |words: &[&str]| words.iter().any(|w| lines.contains(w));
        (self.about)(about)
            && self.status.is_none_or(|s| s == status)
            && self.words.iter().all(|group| one_of(group))
            && !one_of(self.without)
    }
}

/// The engine's message is what there is to go by: one status has many meanings (docs/reference/docker.md#errors and
/// #errors-of-podman). The words are in lower case, and a newline in them is where the message begins or ends. The first row
/// that fits counts.
#[rustfmt::skip]
const REFUSALS: &[Row] = &[
    Row::of(&[&["no space left on device"]],
        Meaning::Code(ErrorCode::DiskFull, Some("Free some space, for example with prune()."))),
    Row::of(&[&["port is already allocated", "address already in use"]], Meaning::PortInUse).without(&["ipam"]),
    // ---- an argument
    Row::of(&[&["invalid reference format", "invalid tag format", "ambiguous tag"]], Meaning::Argument("image", OLD_NAMES))
        .about(|a| matches!(a, About::Create(_))).without(&["no such image"]),
    Row::of(&[&["invalid reference format", "invalid tag format", "ambiguous tag"]], Meaning::Subject(OLD_NAMES))
        .without(&["no such image"]),
    Row::of(&[&["unknown operating system or architecture"]], Meaning::Argument("platform", None)),
    Row::of(&[&["invalid signal"]], Meaning::Argument("signal", None)).about(|a| matches!(a, About::Container(_))),
    Row::of(&[&["plugin", "unsupported driver"], &["not found", "not be found", "missing", "unsupported"]],
        Meaning::Argument("driver", Some("The engine has no driver of that name.")))
        .about(|a| matches!(a, About::CreateNetwork | About::CreateVolume)),
    Row::of(&[&["not a swarm manager"]],
        Meaning::Argument("driver", Some("This driver needs an engine in Swarm mode.")))
        .about(|a| matches!(a, About::CreateNetwork)),
    Row::of(&[&["only one instance of"]],
        Meaning::Argument("driver", Some("Attach containers to the one there is.")))
        .about(|a| matches!(a, About::CreateNetwork)),
    Row::of(&[&["pre-defined network", "default network"]],
        Meaning::Argument("id", Some("The engine's own networks stay."))).about(|a| matches!(a, About::Network(_))),
    Row::of(&[&["duplicate mount"]], Meaning::VolumePath),
    Row::of(&[&[NO_SOURCE]], Meaning::VolumeHost),
    Row::of(&[&["invalid restart policy", "not a valid restart policy"]],
        Meaning::Argument("restart", None)).about(|a| matches!(a, About::Create(_))),
    Row::of(&[&["read-only", "read only"]], Meaning::Code(ErrorCode::PermissionDenied, None))
        .about(|a| matches!(a, About::Path(_))),
    Row::of(&[&["could not find the file", "no such file or directory", "could not be found", "not a directory",
        "cannot overwrite", "is a directory", "file exists", "too many links", "too many levels of symbolic"]], Meaning::Subject(None)).about(|a| matches!(a, About::Path(_))),
    Row::of(&[], Meaning::Registry),
    Row::of(&[&["range of cpus is from"]], Meaning::Argument("resources.cpus", None)),
    Row::of(&[&["requested cpus are not available"]], Meaning::Argument("resources.cpuset", None)),
    Row::of(&[&["unknown or invalid runtime name", "unknown runtime specified"]], Meaning::Argument("runtime", None)),
    // ---- what is there, or not
    Row::of(&[&["address pool", "free subnet from subnet pools"]], Meaning::Code(ErrorCode::EngineError, Some(
        "Remove networks that nobody uses, for example with prune({ networks: true }), or give the engine more address \
         pools (default-address-pools)."))),
    // The last one is of an endpoint: it is connected.
    Row::of(&[&["is not connected to", "is already connected", "is already attached to network", "already exists in network"]],
        Meaning::Code(ErrorCode::InvalidState, None)),
    Row::of(&[&["no such container", "no container with name or id", "no such exec", "no exec session"]],
        Meaning::Missing(Thing::Container)),
    Row::of(&[&["does not match the specified platform"]], Meaning::OtherPlatform),
    Row::of(&[&["no such image", "reference does not exist", "image not known", "failed to find image"]],
        Meaning::Missing(Thing::Image)),
    Row::of(&[&["no such network", "network not found"]], Meaning::Missing(Thing::Network)),
    Row::of(&[&["network "], &["not found\n"]], Meaning::Missing(Thing::Network)),
    Row::of(&[&["no such volume", "no volume with name"]], Meaning::Missing(Thing::Volume)),
    // ---- what is in the way
    Row::of(&[&["is already in use by", "on predefined", "conflicts with a valid network mode", "network already exists"]],
        Meaning::Code(ErrorCode::NameInUse, OTHER_NAME)),
    Row::of(&[&["already exists", "already in use"]], Meaning::Code(ErrorCode::NameInUse, OTHER_NAME)).status(409),
    Row::of(&[&["is in use", "is using", "being used", "has active endpoints", "has associated containers",
        "dependent child images", "must be forced", "cannot be removed without force"]],
        Meaning::Code(ErrorCode::InUse, FREE_IT)),
    Row::of(&[&["you cannot remove a", "cannot remove container"]],
        Meaning::Code(ErrorCode::InUse, FREE_IT)).status(409).without(&["already in progress"]),
    Row::of(&[&["is not running", "is not paused", "already paused", "is paused", "is restarting", "is already in progress",
        "marked for removal", "already stopped", "container state improper", "does not support reading",
        "because autoremove is enabled"]],
        Meaning::Code(ErrorCode::InvalidState, None)),
    // ---- by the status: never of a call that makes something
    Row::of(&[&["page not found", "\nnot found\n"]],
        Meaning::Code(ErrorCode::EngineError, Some("The engine does not know this call. Is it up to date?"))).status(404),
    Row::of(&[], Meaning::MissingSubject).status(404),
    // What its machine or its user may not do, in words that dockerd takes for a program's.
    Row::of(&[&["error during container init"]], Meaning::Code(ErrorCode::EngineError, None)).status(400)
        .without(&["exec: "]),
    Row::of(&[], Meaning::Subject(None)).status(400),
    Row::of(&[], Meaning::Code(ErrorCode::InvalidArgument, None)).status(400),
    Row::of(&[], Meaning::Subject(None)).status(403).about(|a| matches!(a, About::Network(_) | About::Connect { .. })),
    Row::of(&[], Meaning::Code(ErrorCode::InvalidState, None)).status(409),
];

const OLD_NAMES: Option<&str> = Some("An engine of several years knows fewer forms of names than those of today.");
const OTHER_NAME: Option<&str> = Some("Choose another name, or remove what has it now.");
const FREE_IT: Option<&str> = Some("Stop or remove what uses it first, or force it.");
/// What dockerd says before the path of a bind that its machine does not have.
const NO_SOURCE: &str = "source path does not exist";

pub(super) fn refusal(status: u16, message: &str, about: About<'_>) -> Error {
    let lines = format!("\n{}\n", message.to_lowercase());
    let mut fitting = REFUSALS.iter().filter(|row| row.fits(status, &lines, about));
    let error = fitting.find_map(|row| row.meaning.error(message, about));
    error.unwrap_or_else(|| Error::new(ErrorCode::EngineError, message)).detail("status", status)
}

impl Meaning {
    /// None where the message or the call lacks what the meaning is about.
    fn error(self, message: &str, about: About<'_>) -> Option<Error> {
        let hinted = |error: Error, hint: Option<&str>| match hint {
            Some(hint) => error.hint(hint),
            None => error,
        };
        Some(match self {
            Self::Code(code, hint) => hinted(Error::new(code, message), hint),
            Self::Argument(field, hint) => hinted(Error::invalid(field, message), hint),
            Self::Subject(hint) => hinted(Error::invalid(about.field()?, message), hint),
            Self::VolumeHost => Error::invalid(field_of_source(about.spec()?, missing_source(message)?)?, message),
            Self::VolumePath => {
                let i = longest(about.spec()?, |v| &v.container, |path| message.contains(path))?;
                Error::invalid(format!("volumes[{i}].container"), message)
            }
            Self::Missing(thing) => thing.missing(about, message),
            Self::MissingSubject => about.thing()?.missing(about, message),
            Self::OtherPlatform => {
                let image = Thing::Image.named(about, message)?;
                let platform = about.spec().and_then(|spec| spec.platform.as_deref()).unwrap_or_default();
                let text = format!("There is no image {image} for {platform}: {message}");
                Error::new(ErrorCode::ImageNotFound, text).detail("id", image)
            }
            Self::PortInUse => port_in_use(message),
            Self::Registry => {
                let (asked, image) = match about {
                    About::Pull(image) => (Asked::Pull, image),
                    About::Push(image) => (Asked::Push, image),
                    _ => return None,
                };
                registry::refused(asked, image, message)
            }
        })
    }
}

/// The host path that the engine does not have, by its words.
pub(super) fn missing_source(message: &str) -> Option<&str> {
    message.split_once(NO_SOURCE).map(|(_, path)| path.trim_start_matches([':', ' ']))
}

/// The volume that is meant by a path as the engine says it. Docker Desktop says it as its VM has it: ours is its end.
pub(super) fn volume_of(spec: &ContainerSpec, path: &str) -> Option<usize> {
    longest(spec, |v| &v.host, |host| path.ends_with(host))
}

/// The same with those of `mounts`, which come before a volume of the same path: the engine makes no directory for them.
pub(super) fn field_of_source(spec: &ContainerSpec, path: &str) -> Option<String> {
    let meant = config::host_paths(spec).filter(|(_, host)| path.ends_with(host));
    meant.max_by_key(|(_, host)| host.len()).map(|(field, _)| field)
}

fn longest(spec: &ContainerSpec, path: fn(&VolumeMount) -> &str, is_meant: impl Fn(&str) -> bool) -> Option<usize> {
    let meant = spec.volumes.iter().map(path).enumerate().filter(|(_, path)| is_meant(path));
    meant.max_by_key(|(_, path)| path.len()).map(|(i, _)| i)
}

/// The first word behind one of these, without its quotes.
fn word_after<'a>(message: &'a str, marks: &[&str]) -> Option<&'a str> {
    let rest = marks.iter().find_map(|mark| message.split_once(mark))?.1;
    rest.split_whitespace().next().map(|word| word.trim_matches(['"', '\'', ':', ',']))
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

    const C1: About<'_> = About::Container("c1");
    const CONNECT: About<'_> = About::Connect { container: "c1", network: "n1" };

    /// The call, the answer, the code, and the field where an argument is to blame or the id where something is missing.
    type Row<'a> = (About<'a>, u16, &'a str, ErrorCode, Option<&'a str>);

    fn judge(rows: &[Row<'_>]) {
        for (about, status, message, code, named) in rows {
            let e = refusal(*status, message, *about);
            assert_eq!(e.code(), *code, "{about:?} {status} {message}: {}", e.message());
            let key = if *code == InvalidArgument { "field" } else { "id" };
            assert_eq!(e.details().get(key).and_then(|v| v.as_str()), *named, "{about:?} {status} {message}");
            assert_eq!(e.details()["status"], *status);
        }
    }

    /// As dockerd 20.10.24 answered; marked ones by moby's sources of a newer one.
    #[rustfmt::skip]
    #[test]
    fn what_dockerd_says() {
        let spec = spec();
        let create = About::Create(&spec);
        judge(&[
            // ---- to make something
            (create, 404, "No such image: busybox:latest", ImageNotFound, Some("busybox:latest")),
            (create, 400, "invalid reference format: repository name must be lowercase", InvalidArgument, Some("image")),
            (create, 409, r#"Conflict. The container name "/c1" is already in use by container "13b3". You have to remove (or rename) that container to be able to reuse that name."#, NameInUse, None),
            (create, 404, "image with reference busybox:latest was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64", ImageNotFound, Some("busybox:latest")),
            (create, 404, "network nosuch not found", NetworkNotFound, Some("nosuch")),
            (create, 400, "Duplicate mount point: /x/y", InvalidArgument, Some("volumes[1].container")),
            (create, 400, "invalid mount config for type \"bind\": bind source path does not exist: /a/b", InvalidArgument, Some("volumes[1].host")),
            (create, 400, "invalid restart policy 'bogus'", InvalidArgument, Some("restart")),
            (create, 400, "something new", InvalidArgument, Some("config")),
            (create, 500, "invalid mode: bogus", EngineError, None),
            // 404 of a create is not about what is created.
            (create, 404, "create v1: error looking up volume plugin nosuchdrv: plugin \"nosuchdrv\" not found", EngineError, None),
            (create, 404, "something new", EngineError, None),
            (About::CreateNetwork, 409, "network with name n1 already exists", NameInUse, None),
            (About::CreateNetwork, 403, "operation is not permitted on predefined bridge network ", NameInUse, None),
            (About::CreateNetwork, 404, "plugin \"nosuchdrv\" not found", InvalidArgument, Some("driver")),
            (About::CreateNetwork, 500, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.", InvalidArgument, Some("driver")),
            (About::CreateNetwork, 403, "only one instance of \"host\" network is allowed", InvalidArgument, Some("driver")),
            (About::CreateNetwork, 404, "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network", EngineError, None),
            // Of a newer one.
            (About::CreateNetwork, 400, "all predefined address pools have been fully subnetted", EngineError, None),
            (About::CreateNetwork, 404, "something new", EngineError, None),
            (About::CreateVolume, 404, "create v2: error looking up volume plugin nosuchdrv: plugin \"nosuchdrv\" not found", InvalidArgument, Some("driver")),
            (About::CreateVolume, 400, "create v2: invalid option: \"bogus\"", InvalidArgument, Some("name")),
            (About::CreateVolume, 409, "a volume with the name v1 already exists with the local driver. Choose a different volume name", NameInUse, None),
            (About::CreateVolume, 404, "something new", EngineError, None),
            // ---- of what is there, or not
            (C1, 404, "No such container: c1", ContainerNotFound, Some("c1")),
            (C1, 404, "network nosuch not found", NetworkNotFound, Some("nosuch")),
            (C1, 404, "No such exec instance: 8f2", ContainerNotFound, Some("c1")),
            (C1, 409, "Container 13b3 is not running", InvalidState, None),
            (C1, 500, "Container 13b3 is not paused", InvalidState, None),
            (C1, 409, "Container 13b3 is already paused", InvalidState, None),
            (C1, 409, "Container c1 is paused, unpause the container before exec", InvalidState, None),
            (C1, 409, "Cannot kill container: c1: Container 13b3 is not running", InvalidState, None),
            (C1, 409, "removal of container c1 is already in progress", InvalidState, None),
            (C1, 409, "You cannot remove a running container 13b3. Stop the container before attempting removal or force remove", InUse, None),
            (C1, 400, "Invalid signal: BOGUS", InvalidArgument, Some("signal")),
            (C1, 400, "OCI runtime create failed: runc create failed: unable to start container process: error during container \
                 init: open /proc/sys/kernel/domainname: permission denied: unknown", EngineError, None),
            // The call itself is not known, not the container.
            (C1, 404, "page not found", EngineError, None),
            (About::Network("n1"), 404, "network n1 not found", NetworkNotFound, Some("n1")),
            (About::Network("n1"), 403, "error while removing network: network n1 id cae8 has active endpoints", InUse, None),
            (About::Network("bridge"), 403, "bridge is a pre-defined network and cannot be removed", InvalidArgument, Some("id")),
            (CONNECT, 404, "No such container: c1", ContainerNotFound, Some("c1")),
            (CONNECT, 404, "network n1 not found", NetworkNotFound, Some("n1")),
            (CONNECT, 403, "endpoint with name c1 already exists in network n1", InvalidState, None),
            (CONNECT, 500, "container 13b3 is not connected to network n1", InvalidState, None),
            (CONNECT, 400, "container cannot be disconnected from host network or connected to host network", InvalidArgument, Some("networkId")),
            (CONNECT, 404, "something new", EngineError, None),
            (About::Volume("v1"), 404, "get v1: no such volume", VolumeNotFound, Some("v1")),
            (About::Volume("v1"), 409, "remove v1: volume is in use - [0af]", InUse, None),
            (About::Image("a"), 404, "No such image: a:latest", ImageNotFound, Some("a")),
            (About::Image("[::1]/a"), 400, "no such image: [::1]/a: invalid reference format", ImageNotFound, Some("[::1]/a")),
            (About::Image("a"), 409, "conflict: unable to remove repository reference \"a\" (must force) - container 13b3 is using its referenced image 3fcd", InUse, None),
            (About::Tag { source: "a" }, 404, "No such image: a:latest", ImageNotFound, Some("a")),
            (About::Tag { source: "a" }, 500, "invalid reference format", InvalidArgument, Some("target")),
            (About::Tag { source: "a" }, 500, "invalid tag format", InvalidArgument, Some("target")),
            (About::Tag { source: "a" }, 400, "refusing to create an ambiguous tag using digest algorithm as name", InvalidArgument, Some("target")),
            (About::Pull("a"), 400, "\"bogus\": unknown operating system or architecture: invalid argument", InvalidArgument, Some("platform")),
            (About::Pull("a"), 400, "invalid reference format", InvalidArgument, Some("name")),
            (About::Pull("a"), 404, "manifest for a:1 not found: manifest unknown: manifest unknown", ImageNotFound, Some("a")),
            (About::Engine, 500, "write /var/lib/x: no space left on device", DiskFull, None),
            (About::Engine, 500, "something new", EngineError, None),
            (About::Engine, 404, "page not found", EngineError, None),
        ]);
        let pools =
            refusal(404, "could not find an available, non-overlapping IPv4 address pool", About::CreateNetwork);
        assert!(pools.hint_text().unwrap().contains("prune") && pools.message().contains("non-overlapping"));
    }

    /// As podman 4.3.1's compatible API answered.
    #[rustfmt::skip]
    #[test]
    fn what_podman_says() {
        let spec = spec();
        let create = About::Create(&spec);
        judge(&[
            (create, 500, "container create: creating container storage: the container name \"c1\" is already in use by fea8. You have to remove that container to be able to reuse that name: that name is already in use", NameInUse, None),
            (create, 404, "no such image: docker.io/library/busybox:latest: image not known", ImageNotFound, Some("busybox:latest")),
            (create, 500, "container create: unable to find network with name or ID nosuch: network not found", NetworkNotFound, Some("nosuch")),
            (create, 500, "fill out specgen: /x: duplicate mount destination", InvalidArgument, Some("volumes[0].container")),
            (create, 500, "container create: running container create option: \"bogus\" is not a valid restart policy: invalid argument", InvalidArgument, Some("restart")),
            (create, 500, "normalizing image: normalizing name \"MYREG/a:1\" (orig: \"MYREG/a:1\") for compat API: invalid reference format: repository name must be lowercase", InvalidArgument, Some("image")),
            (About::CreateNetwork, 500, "network name n1 already used: network already exists", NameInUse, None),
            (About::CreateNetwork, 500, "cannot create network with name \"bridge\" because it conflicts with a valid network mode", NameInUse, None),
            (About::CreateNetwork, 500, "unsupported driver nosuchdrv: invalid argument", InvalidArgument, Some("driver")),
            (About::CreateVolume, 500, "volume v2 uses volume plugin nosuchdrv but it could not be retrieved: no volume plugin with name nosuchdrv available: required plugin missing", InvalidArgument, Some("driver")),
            (C1, 404, "no container with name or ID \"c1\" found: no such container", ContainerNotFound, Some("c1")),
            (C1, 404, "no exec session with ID 8f2 found: no such exec session", ContainerNotFound, Some("c1")),
            (C1, 500, "\"created\" is not running, can't pause: container state improper", InvalidState, None),
            (C1, 500, "can only kill running containers. fea8 is in state created: container state improper", InvalidState, None),
            (C1, 500, "can only create exec sessions on running containers: container state improper", InvalidState, None),
            (C1, 500, "cannot remove container fea8 as it is running - running or paused containers cannot be removed without force: container state improper", InUse, None),
            (About::Network("n1"), 404, "network not found", NetworkNotFound, Some("n1")),
            (About::Network("n1"), 500, "\"n1\" has associated containers with it. Use -f to forcibly delete containers and pods: network is being used", InUse, None),
            (About::Network("podman"), 500, "default network podman cannot be removed", InvalidArgument, Some("id")),
            (CONNECT, 404, "no container with name or ID \"c1\" found: no such container", ContainerNotFound, Some("c1")),
            (CONNECT, 500, "container fea8 is already connected to network \"n1\": network already exists", InvalidState, None),
            (About::Volume("v1"), 404, "no volume with name \"v1\" found: no such volume", VolumeNotFound, Some("v1")),
            (About::Image("a"), 404, "failed to find image a: docker.io/library/a: No such image", ImageNotFound, Some("a")),
            (About::Image("a"), 500, "docker.io/library/a: image not known", ImageNotFound, Some("a")),
        ]);
    }

    #[rustfmt::skip]
    #[test]
    fn the_port_is_named() {
        for (message, port) in [
            ("driver failed programming external connectivity on endpoint web (8f2): Bind for 0.0.0.0:8080 failed: port is already allocated", 8080),
            ("Error starting userland proxy: listen tcp4 0.0.0.0:81: bind: address already in use", 81),
            ("Error starting userland proxy: listen tcp [::1]:82: bind: address already in use", 82),
            ("failed to bind host port for 0.0.0.0:83:172.17.0.2:80/tcp: address already in use", 83),
            ("failed to bind host port 127.0.0.1:84/tcp: address already in use", 84),
        ] {
            let e = refusal(500, message, About::Container("web"));
            assert_eq!((e.code(), &e.details()["port"]), (PortInUse, &port.into()), "{message}");
            assert!(e.message().contains(&port.to_string()));
        }
    }

    #[rustfmt::skip]
    #[test]
    fn the_id_is_in_the_message() {
        let spec = spec();
        for (status, message, about, said) in [
            (404, "No such container: ghost", About::Container("ghost"), "There is no container ghost"),
            (404, "network nope not found", About::Container("c"), "There is no network nope"),
            (404, "No such image: none:latest", About::Container("c"), "There is no image none:latest"),
            (500, "unable to find network with name or ID nope: network not found", About::Create(&spec), "There is no network nope"),
        ] {
            assert_eq!(refusal(status, message, about).message(), said);
        }
    }
}

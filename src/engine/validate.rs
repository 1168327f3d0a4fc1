//! Checks values before any engine is asked. Each error names its field as the caller wrote it.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

use super::{
    reference::{self, Reference},
    types::*,
};
use crate::{
    error::{Error, ErrorCode, Result},
    process,
};

/// Docker's rule for the names of containers, networks and volumes, which is also nerdctl's: `[a-zA-Z0-9][a-zA-Z0-9_.-]`
/// and at least two characters (docs/reference/nerdctl.md#names).
pub(super) fn object_name(field: &str, name: &str) -> Result<()> {
    let mut chars = name.chars();
    let ok = chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && name.len() >= 2
        && name.len() <= 253
        && chars.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if ok {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!(
            "{} is not a name: 2 to 253 of the letters a-z A-Z 0-9 _ . -, beginning with a letter or digit",
            shown(name)
        ),
    ))
}

/// The application's name: it becomes a label's value and the last part of a directory.
pub(crate) fn app_name(name: &str) -> Result<()> {
    let ok = !name.trim().is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control() || "/\\:".contains(c));
    if ok { Ok(()) } else { Err(Error::invalid("appName", format!("{} is not a directory's name", shown(name)))) }
}

/// An id, an id prefix or a name, for a place where anything else would be read as a path or a flag.
pub(super) fn id_or_name(field: &str, id: &str) -> Result<()> {
    // Docker itself prints names with a leading slash.
    let bare = id.strip_prefix('/').unwrap_or(id);
    let ok = bare.chars().next().is_some_and(|c| c.is_ascii_alphanumeric())
        && bare.len() <= 253
        && bare.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if ok { Ok(()) } else { Err(Error::invalid(field, format!("{} is neither an id nor a name", shown(id)))) }
}

/// An image reference (`registry:5000/path/name:tag@sha256:…`).
pub(super) fn reference_of_image<'a>(field: &str, image: &'a str) -> Result<Reference<'a>> {
    if image.is_empty() {
        return Err(Error::invalid(field, "an image reference is needed, for example busybox:latest"));
    }
    Reference::parse(image).map_err(|problem| Error::invalid(field, format!("{} {problem}", shown(image))))
}

/// The same, or an image's id. The beginning of an id is parsed as a reference.
pub(super) fn image(field: &str, image: &str) -> Result<()> {
    if reference::is_id(image) { Ok(()) } else { reference_of_image(field, image).map(drop) }
}

/// A name to give to an image: that cannot be a digest.
pub(super) fn tag(field: &str, target: &str) -> Result<()> {
    match reference_of_image(field, target)? {
        r if r.digest.is_some() => Err(Error::invalid(field, "a digest cannot be given to an image")),
        // Docker's own rule: it could be mistaken for a digest.
        r if r.familiar_name() == "sha256" => Err(Error::invalid(field, "sha256 is no image's name")),
        _ => Ok(()),
    }
}

/// A name of an image here that a registry can be given.
pub(super) fn image_to_push(field: &str, image: &str) -> Result<()> {
    match reference_of_image(field, image)? {
        r if r.digest.is_some() => {
            Err(Error::invalid(field, "a registry is given an image by name and tag, not by its digest"))
        }
        _ => Ok(()),
    }
}

pub(super) fn seconds(field: &str, value: Option<f64>) -> Result<Option<u32>> {
    value.map(|v| whole_number(field, v, 0, 86_400).map(|v| u32::try_from(v).unwrap_or(u32::MAX))).transpose()
}

/// A whole number in the range; fractions and NaN are errors and not rounded.
pub(super) fn whole_number(field: &str, value: f64, min: u64, max: u64) -> Result<u64> {
    if value.fract() == 0.0 && value >= min as f64 && value <= max as f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range and whole, by the line above"
        )]
        return Ok(value as u64);
    }
    Err(Error::invalid(field, format!("{value} is not a whole number from {min} to {max}")))
}

/// Linux's signals, with and without `SIG`, and its real-time ones.
const SIGNALS: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
    "TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
    "WINCH", "IO", "POLL", "PWR", "SYS", "UNUSED",
];

pub(super) fn signal(field: &str, signal: Option<&str>) -> Result<String> {
    let given = signal.unwrap_or("SIGKILL");
    let upper = given.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |rest: &str, sign: char| {
        rest.is_empty() || rest.strip_prefix(sign).and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n <= 30)
    };
    let ok = given.bytes().all(|b| b.is_ascii_digit()) && given.parse::<u32>().is_ok_and(|n| (1..=64).contains(&n))
        || SIGNALS.contains(&bare)
        || bare.strip_prefix("RTMIN").is_some_and(|rest| real_time(rest, '+'))
        || bare.strip_prefix("RTMAX").is_some_and(|rest| real_time(rest, '-'));
    if ok {
        Ok(upper)
    } else {
        Err(Error::invalid(field, format!("{} is not a signal, for example SIGTERM or 15", shown(given))))
    }
}

/// Returns the limit of the output in bytes, and how the process is to be spawned.
pub(super) fn exec(argv: &[String], options: &ExecOptions, input: bool) -> Result<(usize, SpawnOptions)> {
    let most = options.max_output.map(|n| whole_number("maxOutput", n, 1, MAX_OUTPUT)).transpose()?;
    let ExecOptions { env, workdir, user, .. } = options.clone();
    let options = SpawnOptions { env, workdir, user, stdin: Some(input), ..SpawnOptions::default() };
    spawn(argv, &options)?;
    Ok((most.and_then(|n| usize::try_from(n).ok()).unwrap_or(process::KEPT), options))
}

pub(super) fn spawn(argv: &[String], options: &SpawnOptions) -> Result<()> {
    for (field, size) in [("columns", options.columns), ("rows", options.rows)] {
        if let Some(size) = size {
            whole_number(field, size, 1, MAX_SIZE)?;
            if !options.tty {
                return Err(Error::invalid(field, "only a terminal has a size").hint("Pass tty: true."));
            }
        }
    }
    if options.columns.is_some() != options.rows.is_some() {
        let missing = if options.rows.is_none() { "rows" } else { "columns" };
        return Err(Error::invalid(missing, "columns and rows go together"));
    }
    if argv.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("argv", "the program to run is missing"));
    }
    arguments("argv", argv)?;
    env("env", &options.env)?;
    options.workdir.as_deref().map_or(Ok(()), workdir)?;
    options.user.as_deref().map_or(Ok(()), user)
}

/// Of a terminal, in Linux's `struct winsize`.
const MAX_SIZE: u64 = u16::MAX as u64;

/// A terminal's new size.
pub(crate) fn terminal_size(columns: f64, rows: f64) -> Result<(u16, u16)> {
    let one =
        |field: &str, size: f64| whole_number(field, size, 1, MAX_SIZE).map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    Ok((one("columns", columns)?, one("rows", rows)?))
}

pub(super) fn workdir(dir: &str) -> Result<()> {
    text("workdir", dir, MAX_PATH_LENGTH)?;
    if dir.starts_with('/') {
        return Ok(());
    }
    Err(Error::invalid("workdir", format!("{} is not an absolute path", shown(dir))))
}

pub(super) fn user(user: &str) -> Result<()> {
    let ok = !user.is_empty()
        && user.len() <= 128
        && user.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-$".contains(c))
        && !user.starts_with('-');
    if ok {
        return Ok(());
    }
    Err(Error::invalid("user", format!("{} is not a user, for example 1000:1000 or www-data", shown(user))))
}

/// A size that a Buffer can surely have.
const MAX_OUTPUT: u64 = (1 << 31) - 1;

pub(super) fn env(field: &str, env: &BTreeMap<String, String>) -> Result<()> {
    for (k, v) in env {
        let field = format!("{field}.{}", shown_key(k));
        if k.is_empty() || k.contains(['=', '\0']) {
            return Err(Error::invalid(field, "a variable's name may not be empty, nor hold = or NUL"));
        }
        // The kernel takes this as one string: NAME=value.
        let name = k.len() + 1;
        if name > MAX_ARGUMENT_LENGTH {
            return Err(Error::invalid(field, format!("a name of {} bytes is too long", k.len())));
        }
        text(&field, v, MAX_ARGUMENT_LENGTH - name)?;
    }
    total(field, env.iter().map(|(k, v)| k.len() + v.len() + 2))
}

pub(super) fn arguments(field: &str, argv: &[String]) -> Result<()> {
    for (i, arg) in argv.iter().enumerate() {
        text(&format!("{field}[{i}]"), arg, MAX_ARGUMENT_LENGTH)?;
    }
    total(field, argv.iter().map(|a| a.len() + 1))
}

/// Linux's limit for one argument or `NAME=value` (`MAX_ARG_STRLEN`, less the NUL), and the default limit for all of them
/// together (a quarter of an 8 MiB stack).
const MAX_ARGUMENT_LENGTH: usize = 128 * 1024 - 1;
const MAX_ARGUMENTS_LENGTH: usize = 2 * 1024 * 1024;
/// The kernel's `PATH_MAX`.
pub(super) const MAX_PATH_LENGTH: usize = 4096;
/// Longer than any label or credential in use; the largest are tokens of cloud registries.
pub(super) const MAX_VALUE_LENGTH: usize = 64 * 1024;

pub(super) fn total(field: &str, sizes: impl Iterator<Item = usize>) -> Result<()> {
    match sizes.sum::<usize>() {
        n if n > MAX_ARGUMENTS_LENGTH => {
            Err(Error::invalid(field, format!("{n} bytes in all are more than {MAX_ARGUMENTS_LENGTH}")))
        }
        _ => Ok(()),
    }
}

/// At most `max` bytes and no NUL, which ends a string in every layer below.
pub(super) fn text(field: &str, text: &str, max: usize) -> Result<()> {
    if text.len() > max {
        return Err(Error::invalid(field, format!("{} bytes are more than {max}", text.len())));
    }
    if text.contains('\0') { Err(Error::invalid(field, "holds a NUL character")) } else { Ok(()) }
}

/// The path of a file on this machine to be read.
pub(super) fn file(field: &str, path: &str) -> Result<()> {
    if path.is_empty() { Err(Error::invalid(field, "a path is needed")) } else { text(field, path, MAX_PATH_LENGTH) }
}

/// A network's or volume's driver: `bridge`, `vieux/sshfs:latest`.
pub(super) fn driver(driver: Option<&str>) -> Result<()> {
    driver.map_or(Ok(()), |name| driver_name("driver", name))
}

pub(super) fn driver_name(field: &str, name: &str) -> Result<()> {
    // An address, which nerdctl takes for a program to be run, has `//` in it.
    let ok = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 256
        && !name.contains("//")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/:@".contains(c));
    if ok { Ok(()) } else { Err(Error::invalid(field, format!("{} is not a driver's name", shown(name)))) }
}

/// Prefixes of labels that an engine, or a program beside it, acts on: containerd's restart monitor runs what its labels
/// say, nerdctl's hook writes files, `docker compose down` removes what carries its project. Docker reserves `com.docker.`
/// (docs/reference/docker.md#reserved-labels), and nerdctl's compose reads the same. podman's auto-update restarts the systemd
/// unit that a label names. The rule is the same for all engines,
/// so that a configuration means the same on each.
const RESERVED_PREFIXES: &[&str] = &[
    "PODMAN_SYSTEMD_UNIT",
    "com.docker.",
    "containerd.io/",
    "desktop.docker.io/",
    "io.containerd.",
    "io.containers.",
    "io.cri-containerd",
    "lima-runtime.",
    "lima-runtime/",
    "nerdctl/",
];

/// The reserved prefix that a label's name has.
pub(super) fn reserved(key: &str) -> Option<&'static str> {
    RESERVED_PREFIXES.iter().copied().find(|prefix| key.starts_with(prefix))
}

/// Labels given by a caller.
pub(super) fn labels(field: &str, labels: &Labels) -> Result<()> {
    for (k, v) in labels {
        let field = format!("{field}.{}", shown_key(k));
        if k.is_empty() || k.contains(['=', '\0', '\n']) {
            return Err(Error::invalid(field, "a label's name may not be empty, nor hold =, NUL or a newline"));
        }
        if let Some(prefix) = reserved(k) {
            return Err(Error::invalid(field, format!("labels that begin with {prefix} are the engine's own"))
                .hint("Choose another name, for example com.example.tier."));
        }
        text(&field, v, MAX_VALUE_LENGTH)?;
    }
    total(field, labels.iter().map(|(k, v)| k.len() + v.len()))
}

pub(super) fn platform(field: &str, platform: &str) -> Result<()> {
    let parts: Vec<&str> = platform.split('/').collect();
    let ok = (2..=3).contains(&parts.len())
        && parts.iter().all(|p| !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c)));
    if ok {
        Ok(())
    } else {
        Err(Error::invalid(field, format!("{} is not a platform, for example linux/amd64", shown(platform))))
    }
}

/// A checked entry of `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortMapping {
    pub container_port: u16,
    pub protocol: Protocol,
    /// None means the backend's default.
    pub host_ip: Option<std::net::IpAddr>,
    /// 0 is the engine's choice.
    pub host_port: u16,
}

pub(crate) fn port_mapping(container: &str, host: &str) -> Result<PortMapping> {
    let field = format!("ports.{}", shown_key(container));
    let (port, protocol) = match container.split_once('/') {
        None | Some((_, "tcp")) => (container.split('/').next().unwrap_or_default(), Protocol::Tcp),
        Some((port, "udp")) => (port, Protocol::Udp),
        Some((_, other)) => return Err(Error::invalid(field, format!("{} is neither tcp nor udp", shown(other)))),
    };
    let container_port = port_number(&field, port, 1)?;
    let (ip, port) = match host.rsplit_once(':') {
        None => (None, host),
        Some((ip, port)) => {
            let bare = ip.strip_prefix('[').and_then(|s| s.strip_suffix(']')).unwrap_or(ip);
            let ip = bare.parse().map_err(|_| Error::invalid(&field, format!("{} is not an IP address", shown(ip))))?;
            (Some(ip), port)
        }
    };
    Ok(PortMapping { container_port, protocol, host_ip: ip, host_port: port_number(&field, port, 0)? })
}

fn port_number(field: &str, text: &str, least: u16) -> Result<u16> {
    match text.parse::<u16>() {
        Ok(n) if n >= least && text.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
        _ => Err(Error::invalid(field, format!("{} is not a port from {least} to 65535", shown(text)))),
    }
}

/// Docker's own socket under both its names: `/var/run` is a link. As a volume's host path it means access to the engine's
/// API.
pub(super) fn is_docker_socket(path: &str) -> bool {
    matches!(path, "/var/run/docker.sock" | "/run/docker.sock")
}

/// Whether a name looks like a socket or pipe; no directory should be called so.
pub(super) fn is_socket_name(path: &str) -> bool {
    let pipe = path.replace('\\', "/");
    std::path::Path::new(path).extension().is_some_and(|e| e.eq_ignore_ascii_case("sock"))
        || ["//./pipe/", "//?/pipe/"].iter().any(|p| pipe.starts_with(p))
}

/// Networks that every engine has, or has a word for. They cannot be created or removed.
const BUILT_IN_NETWORKS: [&str; 4] = ["bridge", "host", "none", DEFAULT_NETWORK];
/// Docker's word for the network of a container that names none.
pub(super) const DEFAULT_NETWORK: &str = "default";

/// The name of a network to be created.
pub(super) fn network_to_create(field: &str, name: &str) -> Result<()> {
    object_name(field, name)?;
    if BUILT_IN_NETWORKS.contains(&name) {
        return Err(Error::new(ErrorCode::NameInUse, format!("{name} is a network of the engine's own"))
            .detail("field", field)
            .hint("Choose another name."));
    }
    Ok(())
}

/// The name or id of a network to be removed.
pub(super) fn network_to_remove(field: &str, id: &str) -> Result<()> {
    id_or_name(field, id)?;
    if BUILT_IN_NETWORKS[..3].contains(&id) { Err(own_network(field, id)) } else { Ok(()) }
}

pub(super) fn own_network(field: &str, id: &str) -> Error {
    Error::invalid(field, format!("{} is a network of the engine's own, and stays", shown(id)))
}

/// Whether it is a path on the host and not a volume's name.
pub(crate) fn is_host_path(host: &str) -> bool {
    let drive = host.as_bytes().get(1) == Some(&b':') && matches!(host.as_bytes().get(2), Some(b'\\' | b'/'));
    host.starts_with('/') || (cfg!(windows) && (drive || host.starts_with(r"\\")))
}

/// The parts of an absolute path without `.` and `..`, by the text alone, as docker, nerdctl and Go's `path.Clean` do it:
/// so what is compared is what is mounted.
pub(super) fn parts(path: &str, is_separator: impl Fn(char) -> bool) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split(is_separator) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

/// The same for a path of this machine, with its drive or share.
pub(crate) fn clean_path(path: &str) -> String {
    let prefix = match Path::new(path).components().next() {
        Some(Component::Prefix(prefix)) => prefix.as_os_str().len(),
        _ => 0,
    };
    clean(path, prefix, std::path::MAIN_SEPARATOR)
}

/// The same of a path in a container, which is Linux's whatever this machine is.
pub(super) fn clean_path_there(path: &str) -> String {
    clean(path, 0, '/')
}

/// `prefix` is the length of the drive or share. Without one it is a path of the engine's machine, which is Linux: Docker's
/// socket, also where this machine is Windows.
fn clean(path: &str, prefix: usize, separator: char) -> String {
    let (prefix, rest) = path.split_at_checked(prefix).unwrap_or(("", path));
    let parts = parts(rest, |c| c == '/' || c == separator);
    let separator = if prefix.is_empty() { '/' } else { separator };
    format!("{prefix}{separator}{}", parts.join(separator.encode_utf8(&mut [0; 4])))
}

pub(super) fn log_options(o: &LogOptions) -> Result<()> {
    if let Some(tail) = o.tail {
        whole_number("tail", tail, 0, 1 << 40)?;
    }
    if !o.stdout && !o.stderr {
        return Err(Error::invalid("stdout", "stdout and stderr are both off: nothing to read"));
    }
    unix_time("since", o.since)
}

pub(super) fn event_options(o: &EventOptions) -> Result<()> {
    unix_time("since", o.since)?;
    known_filters("filters", &o.filters, &["container", "event", "image", "label", "network", "type", "volume"])
}

fn unix_time(field: &str, value: Option<f64>) -> Result<()> {
    match value {
        Some(v) if !(0.0..=4e9).contains(&v) => {
            Err(Error::invalid(field, format!("{v} is not a Unix time in seconds"))
                .hint("Milliseconds? Divide by 1000."))
        }
        _ => Ok(()),
    }
}

/// The filters of `GET /containers/json`, except those of a Swarm or Windows.
const CONTAINER_FILTERS: &[&str] = &[
    "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network", "publish", "since", "status",
    "volume",
];

/// Filters that take only some words of Docker's.
const FILTER_WORDS: &[(&str, &[&str])] = &[
    ("health", &["starting", "healthy", "unhealthy", "none"]),
    ("status", &["created", "restarting", "running", "removing", "paused", "exited", "dead"]),
];

pub(super) fn container_filters(field: &str, filters: &Filters) -> Result<()> {
    known_filters(field, filters, CONTAINER_FILTERS)?;
    for (key, words) in FILTER_WORDS {
        let Some(wrong) = filters.get(*key).and_then(|v| v.iter().find(|v| !words.contains(&v.as_str()))) else {
            continue;
        };
        return Err(Error::invalid(
            format!("{field}.{key}"),
            format!("{} is none of {}", shown(wrong), words.join(", ")),
        ));
    }
    Ok(())
}

fn known_filters(field: &str, filters: &Filters, known: &[&str]) -> Result<()> {
    if let Some(k) = filters.keys().find(|k| !known.contains(&k.as_str())) {
        return Err(Error::invalid(format!("{field}.{}", shown_key(k)), "no such filter")
            .hint(format!("Known: {}.", known.join(", "))));
    }
    for (k, values) in filters {
        for (i, v) in values.iter().enumerate() {
            text(&format!("{field}.{k}[{i}]"), v, MAX_PATH_LENGTH)?;
        }
    }
    Ok(())
}

pub(super) fn pull_options(o: &PullOptions) -> Result<()> {
    if let Some(p) = &o.platform {
        platform("platform", p)?;
    }
    auth(o.auth.as_ref())
}

pub(super) fn auth(auth: Option<&RegistryAuth>) -> Result<()> {
    match auth {
        Some(a) if a.username.is_empty() => Err(Error::invalid("auth.username", "is empty")),
        Some(a) => text("auth.username", &a.username, MAX_VALUE_LENGTH)
            .and_then(|()| text("auth.password", &a.password, MAX_VALUE_LENGTH)),
        None => Ok(()),
    }
}

/// A path in a container.
pub(super) fn container_path(field: &str, path: &str) -> Result<()> {
    text(field, path, MAX_PATH_LENGTH)?;
    if path.starts_with('/') {
        Ok(())
    } else {
        Err(Error::invalid(field, format!("{} is not an absolute path", shown(path))))
    }
}

pub(super) fn commit_options(o: &CommitOptions) -> Result<()> {
    tag("reference", &o.reference)?;
    for (field, value) in [("message", &o.message), ("author", &o.author)] {
        text(field, value.as_deref().unwrap_or_default(), MAX_VALUE_LENGTH)?;
    }
    Ok(())
}

/// Quoted, and shortened to 60 characters.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

pub(super) fn shown_key(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(result: Result<impl Sized>) -> String {
        let e = result.err().expect("refused");
        assert!(e.message().len() < 300, "{}", e.message());
        e.details()["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn signals_are_names_and_numbers_of_linux() {
        for ok in ["SIGTERM", "term", "9", "64", "RTMIN", "SIGRTMIN+3", "RTMAX-1"] {
            assert!(signal("signal", Some(ok)).is_ok(), "{ok}");
        }
        for wrong in ["", "0", "65", "-9", "+9", "SIGNONSENSE", "SIG", "RTMIN+99", "RTMIN-1", "TERM ", "9;"] {
            assert_eq!(field(signal("signal", Some(wrong))), "signal", "{wrong}");
        }
        assert_eq!(signal("signal", None).unwrap(), "SIGKILL");
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_before() {
        let argv = |n: usize| vec!["x".repeat(n)];
        assert!(arguments("argv", &argv(MAX_ARGUMENT_LENGTH)).is_ok());
        assert_eq!(field(arguments("argv", &argv(MAX_ARGUMENT_LENGTH + 1))), "argv[0]");
        assert_eq!(field(arguments("argv", &vec!["x".repeat(1000); 3000])), "argv");
        let one = |n: usize| BTreeMap::from([("A".to_owned(), "x".repeat(n))]);
        assert!(env("env", &one(MAX_ARGUMENT_LENGTH - 2)).is_ok());
        assert_eq!(field(env("env", &one(MAX_ARGUMENT_LENGTH - 1))), "env.A");
        assert_eq!(
            field(env("env", &BTreeMap::from([("K".repeat(MAX_ARGUMENT_LENGTH * 2), String::new())]))),
            format!("env.{}", "K".repeat(60))
        );
    }

    #[test]
    fn a_filters_value_is_checked_where_the_words_are_known() {
        let filters = |k: &str, v: &str| Filters::from([(k.to_owned(), vec![v.to_owned()])]);
        assert!(container_filters("filters", &filters("status", "exited")).is_ok());
        assert_eq!(field(container_filters("filters", &filters("status", "flying"))), "filters.status");
        assert_eq!(field(container_filters("filters", &filters("colour", "red"))), "filters.colour");
        assert_eq!(field(container_filters("filters", &filters("name", &"x".repeat(5000)))), "filters.name[0]");
    }

    #[test]
    fn an_engines_labels_are_not_a_callers() {
        let one = |key: &str| Labels::from([(key.to_owned(), "x".to_owned())]);
        for key in ["containerd.io/restart.loguri", "nerdctl/mounts.0", "com.docker.swarm.task", "lima-runtime.app"] {
            assert_eq!(field(labels("labels", &one(key))), format!("labels.{key}"));
        }
        for key in ["com.example/x", "containerd.io", "my.nerdctl/x", "Nerdctl/x", "com.dockerless.x"] {
            assert!(labels("labels", &one(key)).is_ok(), "{key}");
        }
    }

    #[test]
    fn a_path_that_climbs_is_where_it_leads() {
        for (path, clean) in [
            ("/Users/me/../../etc", "/etc"),
            ("/../../etc", "/etc"),
            ("/a//b/./c/", "/a/b/c"),
            ("/a/..", "/"),
            ("/a/..b/...", "/a/..b/..."),
        ] {
            assert_eq!(clean_path(path), clean, "{path}");
        }
    }

    #[test]
    fn a_path_without_a_drive_is_the_engines_on_windows() {
        for (path, prefix, there) in [
            ("/var/run/docker.sock", 0, "/var/run/docker.sock"),
            (r"/var\run/.\../run//docker.sock/", 0, "/var/run/docker.sock"),
            (r"/..\..", 0, "/"),
            (r"C:\Users/me\..\..\x", 2, r"C:\x"),
            ("C:/..", 2, r"C:\"),
            (r"\\server\share\a\..\..\b", 14, r"\\server\share\b"),
        ] {
            assert_eq!(clean(path, prefix, '\\'), there, "{path}");
        }
        assert_eq!(clean(r"/a\..\b", 0, '/'), r"/a\..\b");
    }

    #[test]
    fn sockets_by_name() {
        for path in
            ["/var/run/docker.sock", "/run/user/1000/docker.sock", "/x.SOCK", r"\\.\pipe\docker_engine", "//./pipe/x"]
        {
            assert!(is_socket_name(path), "{path}");
        }
        for path in ["/srv/pipeline-data", "/pipe", "/x.sock/dir", "/sock", r"C:\pipe\x"] {
            assert!(!is_socket_name(path), "{path}");
        }
        assert!(is_docker_socket("/var/run/docker.sock") && !is_docker_socket("/run/user/1000/docker.sock"));
    }

    #[test]
    fn the_engines_own_networks_are_taken() {
        for name in BUILT_IN_NETWORKS {
            assert_eq!(network_to_create("name", name).unwrap_err().code(), ErrorCode::NameInUse);
        }
        assert!(network_to_create("name", "bridges").is_ok());
        assert_eq!(field(network_to_create("name", "-x")), "name");
    }

    #[test]
    fn how_much_an_exec_may_print() {
        let exec = |options: &ExecOptions| exec(&["ls".to_owned()], options, false).map(|(limit, _)| limit);
        let most = |n: f64| exec(&ExecOptions { max_output: Some(n), ..ExecOptions::default() });
        assert_eq!(most(1.0).unwrap(), 1);
        assert_eq!(exec(&ExecOptions::default()).unwrap(), process::KEPT);
        for wrong in [0.0, -1.0, 1.5, f64::NAN, f64::INFINITY, 2_147_483_648.0] {
            assert_eq!(field(most(wrong)), "maxOutput");
        }
    }

    #[test]
    fn the_size_of_a_terminal() {
        let sized = |columns: Option<f64>, rows: Option<f64>, tty: bool| {
            spawn(&["sh".to_owned()], &SpawnOptions { tty, columns, rows, ..SpawnOptions::default() })
        };
        assert!(sized(Some(1.0), Some(65_535.0), true).is_ok() && sized(None, None, true).is_ok());
        for wrong in [0.0, -1.0, 2.5, 65_536.0, f64::NAN] {
            assert_eq!(field(sized(Some(wrong), Some(24.0), true)), "columns");
            assert_eq!(field(sized(Some(80.0), Some(wrong), true)), "rows");
            assert_eq!(field(terminal_size(80.0, wrong)), "rows");
        }
        assert_eq!(field(sized(Some(80.0), None, true)), "rows");
        assert_eq!(field(sized(Some(80.0), Some(24.0), false)), "columns");
        assert_eq!(terminal_size(80.0, 24.0).unwrap(), (80, 24));
    }

    #[test]
    fn drivers_and_tags() {
        assert!(driver(Some("vieux/sshfs:latest")).is_ok() && driver(None).is_ok());
        assert_eq!(field(driver(Some(""))), "driver");
        assert_eq!(field(driver(Some("--help"))), "driver");
        assert!(tag("target", "a/b:c").is_ok());
        assert_eq!(field(tag("target", "a@sha256:00")), "target");
    }
}

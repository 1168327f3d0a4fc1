//! Finds the argument that is to blame in the messages of runc, crun and the kernel, which are the same from every engine.

use super::{
    config::{LIMITS, container_of},
    types::*,
    validate,
};
use crate::error::{Error, ErrorCode};

/// Why a container did not start, with the argument to blame if there is one.
pub(super) fn start(e: Error, spec: &ContainerSpec) -> Error {
    // The container itself has just been made: it is one whose namespace it was to share.
    let modes = [("networkMode", &spec.network_mode), ("pidMode", &spec.pid_mode), ("ipcMode", &spec.ipc_mode)];
    let mut shared = modes.into_iter().filter_map(|(field, mode)| Some((field, container_of(mode.as_deref()?)?)));
    if e.code() == ErrorCode::ContainerNotFound
        && let Some((field, other)) = shared.next()
    {
        return Error::new(e.code(), format!("{field}: there is no container {other}"))
            .detail("id", other)
            .detail("field", field);
    }
    if !is_unexplained(&e) {
        return e;
    }
    let said = message_without_field(&e).to_owned();
    let lower = said.to_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|t| lower.contains(t));
    // What was run is the first word of these that the caller gave; else the image's own.
    let has_entrypoint = spec.entrypoint.as_ref().is_some_and(|e| !e.is_empty());
    let command = match (has_entrypoint, spec.command.is_empty()) {
        (true, _) => "entrypoint[0]",
        (false, false) => "command[0]",
        (false, true) => "image",
    };
    if let Some(field) = setting(&said, &lower, spec) {
        return blame_field(&e, &field, &said);
    }
    if has(&["cannot assign requested address"]) {
        let given = |host: &str| validate::port_mapping("1", host).ok().and_then(|p| p.host_ip);
        let mut ports = spec.ports.iter().filter_map(|(port, host)| Some((port, given(host)?.to_string())));
        if let Some((port, address)) = ports.find(|(_, address)| said.contains(address.as_str())) {
            let problem = format!("{address} is no address of the engine's machine: {said}");
            return blame_field(&e, &format!("ports.{port}"), &problem)
                .hint("Publish on 127.0.0.1, on one of its own addresses, or on none in particular.");
        }
    }
    if has(&["error mounting", "trying to mount a directory onto a file", "bind mount"])
        && has(&["not a directory", "is a directory"])
    {
        let volumes = spec.volumes.iter().enumerate().map(|(i, v)| (format!("volumes[{i}].container"), &v.container));
        let mounts = spec.mounts.iter().enumerate().map(|(i, m)| (format!("mounts[{i}].target"), &m.target));
        let named = volumes.chain(mounts).filter(|(_, target)| said.contains(*target));
        if let Some((field, _)) = named.max_by_key(|(_, target)| target.len()) {
            return blame_field(&e, &field, &said)
                .hint("A directory can be mounted on a directory only, and a file on a file.");
        }
    }
    if has(&["exec format error"]) {
        let hint = "The program is for another kind of processor, or is no program. See `platform`.";
        return blame_field(&e, command, &said).hint(hint);
    }
    if missing_program_exit_code(&lower).is_some() {
        return blame_field(&e, command, &said)
            .hint("The image has no such program. A shell's words need a shell: ['sh', '-c', '…'].");
    }
    if is_missing_user(&lower) {
        return blame_field(&e, if spec.user.is_some() { "user" } else { "image" }, &said);
    }
    e
}

/// Why a container could not be changed.
pub(super) fn update(e: Error, changes: &ContainerUpdate) -> Error {
    let lower = e.message().to_lowercase();
    match changes.resources.as_ref().and_then(|r| resource(&lower, r)) {
        Some(field) if is_unexplained(&e) => blame_field(&e, field, message_without_field(&e)),
        _ => e,
    }
}

/// The field that an engine, a runtime or the kernel could not carry out, by its words.
fn setting(said: &str, lower: &str, spec: &ContainerSpec) -> Option<String> {
    let has = |texts: &[&str]| texts.iter().any(|t| lower.contains(t));
    let one = |is: bool, field: &str| is.then(|| field.to_owned());
    let no_device = has(&["gathering device information", "no such file", "not a device node"]);
    let device = || {
        let paths = spec.devices.iter().map(|d| d.split(':').next().unwrap_or_default());
        let named = paths.enumerate().filter(|(_, path)| said.contains(path)).max_by_key(|(_, path)| path.len());
        named.filter(|_| no_device).map(|(i, _)| format!("devices[{i}]"))
    };
    let sysctl = || {
        let asks = |name: &&String| said.contains(name.as_str()) || said.contains(&name.replace('.', "/"));
        let named = spec.sysctls.keys().filter(asks).max_by_key(|name| name.len());
        named.filter(|_| has(&["sysctl", "/proc/sys"])).map(|name| format!("sysctls.{name}"))
    };
    let ulimit = || {
        // runc names a limit by the kernel's number of it.
        let number = lower.split_once("rlimit type ").map(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
        let kind = number.flatten().and_then(|n| LIMITS.get(n.parse::<usize>().ok()?));
        let named = spec.ulimits.keys().find(|name| kind.map_or(lower.contains(name.as_str()), |kind| kind == name));
        named.filter(|_| has(&["rlimit", "ulimit"])).map(|name| format!("ulimits.{name}"))
    };
    let security = || {
        let word =
            ["apparmor", "seccomp", "label", "no-new-privileges"].into_iter().find(|word| lower.contains(word))?;
        let i = spec.security_opt.iter().position(|option| option.starts_with(word))?;
        Some(format!("securityOpt[{i}]"))
    };
    let group = || {
        let i = spec.group_add.iter().position(|group| said.contains(group.as_str()))?;
        (is_missing_user(lower) && lower.contains("group")).then(|| format!("groupAdd[{i}]"))
    };
    let network = || {
        let is_address = has(&[
            "user specified ip address",
            "not in subnet",
            "does not belong to",
            "no configured subnet",
            "failed to allocate",
            "ip range",
        ]);
        let is_alias = has(&["network-scoped alias", "network-scoped aliases"]);
        let first = spec.network_options.keys().find(|name| said.contains(name.as_str()));
        let first = first.or_else(|| spec.network_options.keys().next())?;
        let options = &spec.network_options[first];
        if is_alias && !options.aliases.is_empty() {
            return Some(format!("networkOptions.{first}.aliases"));
        }
        let part = if options.ipv6.is_some() && options.ipv4.is_none() { "ipv6" } else { "ipv4" };
        is_address.then(|| format!("networkOptions.{first}.{part}"))
    };
    let logging = spec.logging.as_ref().and_then(|_| {
        if has(&["log opt", "log-opt"]) {
            return Some("logging.options".to_owned());
        }
        one(has(&["log driver", "logging driver", "logger", "logging plugin"]), "logging.driver")
    });
    let propagation = || {
        let i = spec.mounts.iter().position(|m| m.propagation.as_ref().is_some_and(|p| !p.ends_with("private")))?;
        has(&["slave mount", "shared mount", "optional field neither"]).then(|| format!("mounts[{i}].propagation"))
    };
    device()
        .or_else(propagation)
        // Of a machine that has no such directory itself.
        .or_else(|| one(spec.ipc_mode.as_deref() == Some("host") && has(&["/dev/mqueue", "/dev/shm"]), "ipcMode"))
        .or_else(|| one(spec.gpus.is_some() && has(&["device driver", "nvidia", "gpu", "cdi"]), "gpus"))
        .or_else(|| one(spec.init == Some(true) && has(&["docker-init", "init binary", "tini"]), "init"))
        .or_else(sysctl)
        .or_else(ulimit)
        .or_else(security)
        .or_else(group)
        .or_else(network)
        .or(logging)
        .or_else(|| {
            one(spec.runtime.as_deref().is_some_and(|r| said.contains(r)) && has(&["runtime", "shim"]), "runtime")
        })
        .or_else(|| one(!spec.cap_add.is_empty() && has(&["capabilit", "unknown capability"]), "capAdd"))
        .or_else(|| one(!spec.extra_hosts.is_empty() && has(&["host-gateway"]), "extraHosts"))
        .or_else(|| one(spec.workdir.is_some() && has(&["chdir to cwd", "mkdir cwd", "working directory"]), "workdir"))
        .or_else(|| resource(lower, &spec.resources).map(str::to_owned))
}

/// A limit, by the kernel's file of it or by Docker's words.
fn resource(lower: &str, r: &Resources) -> Option<&'static str> {
    let rows: [(bool, &[&str], &str); 8] = [
        (r.cpuset.is_some(), &["cpuset", "requested cpus are not available"], "resources.cpuset"),
        (r.cpus.is_some(), &["range of cpus", "cpu.cfs_quota", "cpu.max"], "resources.cpus"),
        (r.cpu_shares.is_some(), &["cpu.shares", "cpu.weight", "cpu-shares"], "resources.cpuShares"),
        (r.memory_swap.is_some(), &["memory.memsw", "memory.swap.max", "memoryswap"], "resources.memorySwap"),
        (
            r.memory_reservation.is_some(),
            &["memory.soft_limit", "memory.low", "memory reservation"],
            "resources.memoryReservation",
        ),
        (
            r.memory.is_some(),
            &["memory.limit", "memory.max", "minimum memory limit", "memory limit should", "memory.memsw"],
            "resources.memory",
        ),
        (r.pids.is_some(), &["pids.max", "pids limit"], "resources.pids"),
        (r.oom_score_adj.is_some(), &["oom_score_adj", "oom score"], "resources.oomScoreAdj"),
    ];
    rows.iter()
        .find(|(given, words, _)| *given && words.iter().any(|word| lower.contains(word)))
        .map(|(.., field)| *field)
}

/// The same for a process in a running container.
pub(super) fn exec(e: Error, options: &SpawnOptions) -> Error {
    match field_of_exec(&e.message().to_lowercase(), options) {
        Some(field) if is_unexplained(&e) => blame_field(&e, field, message_without_field(&e)),
        _ => e,
    }
}

/// The exit code of an exec whose process never ran; `said` is the engine's message. A missing program is not an error, but
/// an exit code as in a shell.
pub(super) fn end_of_unstarted_exec(exit_code: i64, said: &[u8], options: &SpawnOptions) -> Result<i64, Error> {
    let text = String::from_utf8_lossy(said).trim().to_owned();
    let lower = text.to_lowercase();
    if let Some(field) = field_of_exec(&lower, options) {
        return Err(Error::invalid(field, text));
    }
    match missing_program_exit_code(&lower) {
        Some(exit_code) => Ok(exit_code),
        // This is not an engine's message: the process did run.
        None if !lower.contains("oci runtime") => Ok(exit_code),
        None => Err(Error::new(ErrorCode::EngineError, text)),
    }
}

fn field_of_exec(lower: &str, options: &SpawnOptions) -> Option<&'static str> {
    let bad_user = options.user.is_some() && is_missing_user(lower);
    let bad_dir = options.workdir.is_some() && lower.contains("chdir");
    bad_user.then_some("user").or(bad_dir.then_some("workdir"))
}

fn is_missing_user(lower: &str) -> bool {
    ["unable to find user", "unable to find group", "no matching entries in", "no users found", "no groups found"]
        .iter()
        .any(|t| lower.contains(t))
}

/// The exit code of a missing program, or none if the message is not about that.
pub(super) fn missing_program_exit_code(lower: &str) -> Option<i64> {
    let has = |texts: &[&str]| texts.iter().any(|t| lower.contains(t));
    // Messages about the program itself: other missing things have other words.
    if !has(&["exec: ", "executable", "crun: open", "attempted to invoke a command"])
        || has(&["namespace path", "chdir"])
    {
        return None;
    }
    if has(&["executable file not found", "executable file `", "no such file or directory"]) {
        return Some(127);
    }
    has(&["permission denied", "is a directory", "exec format error"]).then_some(126)
}

/// Whether an error says only that the engine refused.
fn is_unexplained(e: &Error) -> bool {
    let named = e.details().get("field").is_some_and(|f| f != "id" && f != "config");
    !named && matches!(e.code(), ErrorCode::EngineError | ErrorCode::InvalidArgument)
}

/// Its message, without the argument that it already blames.
fn message_without_field(e: &Error) -> &str {
    let field = e.details().get("field").and_then(|f| f.as_str()).unwrap_or_default();
    e.message().strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(e.message())
}

/// A new error about `field`, with the same details.
fn blame_field(e: &Error, field: &str, problem: &str) -> Error {
    Error::invalid(field, problem).details_of(e).detail("field", field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> ContainerSpec {
        serde_json::from_str(text).unwrap()
    }

    fn field(e: &Error) -> &str {
        assert_eq!(e.code(), ErrorCode::InvalidArgument, "{}", e.message());
        e.details()["field"].as_str().unwrap()
    }

    /// Recorded from dockerd 20.10.24 (runc 1.1), nerdctl 2.1.6 and 2.3.5, podman 4.3.1.
    #[test]
    fn the_argument_is_named_whoever_says_it() {
        let spec = spec(
            r#"{"name":"web","image":"i","command":["nosuch"],"ports":{"80":"8080","81/udp":"203.0.113.9:8099"},
                "volumes":[{"host":"/a","container":"/etc"},{"host":"/b","container":"/etc/passwd"}]}"#,
        );
        for (said, expected) in [
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: \
                 exec: \"nosuch\": executable file not found in $PATH: unknown",
                "command[0]",
            ),
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: \
                 exec: \"/etc\": permission denied: unknown",
                "command[0]",
            ),
            (
                "runc: exec failed: unable to start container process: exec: \"/x\": stat /x: no such file or directory",
                "command[0]",
            ),
            (
                "crun: executable file `nosuch` not found in $PATH: No such file or directory: OCI runtime attempted to invoke a command that was not found",
                "command[0]",
            ),
            ("exec /x: exec format error", "command[0]"),
            ("unable to find user nosuch: no matching entries in passwd file", "image"),
            (
                "driver failed programming external connectivity on endpoint c2 (d5a3fe7e5607): Error starting userland proxy: \
                 listen tcp4 203.0.113.9:8099: bind: cannot assign requested address",
                "ports.81/udp",
            ),
            (
                "cannot listen on the TCP port: listen tcp4 203.0.113.9:8099: bind: cannot assign requested address",
                "ports.81/udp",
            ),
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: \
                 error during container init: error mounting \"/b\" to rootfs at \"/etc/passwd\": mount /b:/etc/passwd (via \
                 /proc/self/fd/6), flags: 0x5000: not a directory: unknown: Are you trying to mount a directory onto a file",
                "volumes[1].container",
            ),
        ] {
            for e in [
                Error::new(ErrorCode::EngineError, said).detail("status", 500),
                Error::invalid("id", said).detail("status", 500),
            ] {
                let e = start(e, &spec);
                assert_eq!((field(&e), &e.details()["status"]), (expected, &500.into()), "{said}");
                assert!(e.message().ends_with(said) && !e.message().contains("id: "), "{}", e.message());
            }
        }
        let bare = ContainerSpec { command: Vec::new(), ..spec.clone() };
        let e = Error::new(ErrorCode::EngineError, "exec: \"x\": executable file not found in $PATH");
        assert_eq!(field(&start(e, &bare)), "image");
        for e in [
            Error::new(ErrorCode::PortInUse, "exec: \"x\": executable file not found"),
            Error::invalid("volumes[0].host", "exec: \"x\": executable file not found"),
            Error::new(ErrorCode::EngineError, "something else"),
            Error::new(ErrorCode::EngineError, "listen tcp4 198.51.100.1:80: bind: cannot assign requested address"),
        ] {
            let (code, message) = (e.code(), e.message().to_owned());
            let e = start(e, &spec);
            assert_eq!((e.code(), e.message()), (code, message.as_str()));
        }
    }

    #[test]
    fn a_setting_is_named_that_could_not_be_carried_out() {
        let spec = spec(
            r#"{"name":"web","image":"i","command":["x"],"entrypoint":["nosuch"],"user":"nobody","workdir":"/etc/passwd",
                "devices":["/dev/nope:/dev/x"],"gpus":"all","init":true,"sysctls":{"kernel.x_y":"1"},"runtime":"wasm",
                "securityOpt":["no-new-privileges","apparmor=mine"],"groupAdd":["crew"],"logging":{"driver":"nolog"},
                "mounts":[{"type":"bind","source":"/m","target":"/m","propagation":"rslave"}],
                "networks":["n1"],"networkOptions":{"n1":{"ipv4":"10.1.1.1","aliases":["a"]}},"ulimits":{"nofile":1},
                "resources":{"cpuset":"0","cpus":1,"memory":"64MiB","pids":5,"oomScoreAdj":-5},"extraHosts":{"a":"host-gateway"}}"#,
        );
        for (said, expected) in [
            (
                "error gathering device information while adding custom device \"/dev/nope\": no such file or directory",
                "devices[0]",
            ),
            ("could not select device driver \"\" with capabilities: [[gpu]]", "gpus"),
            ("no known GPU vendor found in CDI specs", "gpus"),
            ("exec: \"docker-init\": executable file not found in $PATH", "init"),
            ("path /m is mounted on / but it is not a shared or slave mount", "mounts[0].propagation"),
            ("init binary \"tini\" not found", "init"),
            ("sysctl \"kernel.x_y\" is not in a separate kernel namespace", "sysctls.kernel.x_y"),
            ("open /proc/sys/kernel/x_y: no such file or directory", "sysctls.kernel.x_y"),
            ("runtime \"wasm\" binary not installed: file does not exist", "runtime"),
            ("apply apparmor profile: apparmor failed to apply profile", "securityOpt[1]"),
            ("unable to find group crew: no matching entries in group file", "groupAdd[0]"),
            ("unable to find user nobody: no matching entries in passwd file", "user"),
            ("logger: no log driver named 'nolog' is registered", "logging.driver"),
            (
                "user specified IP address is supported only when connecting to networks with user configured subnets",
                "networkOptions.n1.ipv4",
            ),
            ("error setting rlimit type 7: operation not permitted", "ulimits.nofile"),
            ("write /sys/fs/cgroup/cpuset/x/cpuset.cpus: numerical result out of range", "resources.cpuset"),
            ("write /proc/self/oom_score_adj: permission denied", "resources.oomScoreAdj"),
            ("unable to derive the IP value for host-gateway", "extraHosts"),
            ("exec: \"nosuch\": executable file not found in $PATH", "entrypoint[0]"),
            ("chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory", "workdir"),
        ] {
            let e = start(Error::new(ErrorCode::EngineError, said), &spec);
            assert_eq!(field(&e), expected, "{said}");
        }
        let changes = serde_json::from_str(r#"{"resources":{"memory":"6MiB"}}"#).unwrap();
        let e =
            Error::new(ErrorCode::EngineError, "write /sys/fs/cgroup/x/memory.limit_in_bytes: device or resource busy");
        assert_eq!(field(&update(e, &changes)), "resources.memory");
    }

    #[test]
    fn an_exec_that_never_began() {
        let options: SpawnOptions = serde_json::from_str(r#"{"user":"nosuch","workdir":"/nosuch"}"#).unwrap();
        let runc = |why: &str| {
            format!("OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown\r\n")
        };
        let ends = |said: &str, options: &SpawnOptions| end_of_unstarted_exec(126, said.as_bytes(), options);
        let e = ends("unable to find user nosuch: no matching entries in passwd file\r\n", &options).unwrap_err();
        assert_eq!(field(&e), "user");
        let e = ends("unable to find group nosuch: no matching entries in group file\r\n", &options).unwrap_err();
        assert_eq!(field(&e), "user");
        let dir = runc("chdir to cwd (\"/nosuch\") set in config.json failed: no such file or directory");
        assert_eq!(field(&ends(&dir, &options).unwrap_err()), "workdir");
        let none = SpawnOptions::default();
        for (why, code) in [
            ("exec: \"/no/such\": stat /no/such: no such file or directory", 127),
            ("exec: \"nosuch\": executable file not found in $PATH", 127),
            ("exec: \"/etc\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
        ] {
            assert_eq!(ends(&runc(why), &none).unwrap(), code);
        }
        assert_eq!(ends(&runc("something new"), &none).unwrap_err().code(), ErrorCode::EngineError);
        // Output of a program whose process the engine has forgotten.
        assert_eq!(ends("hello\n", &none).unwrap(), 126);
        let e = Error::new(ErrorCode::EngineError, "unable to find user nosuch: no matching entries in passwd file");
        assert_eq!(field(&exec(e, &options)), "user");
    }
}

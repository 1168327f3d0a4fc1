//! Projects of compose, by docker's own program. In a guest of ours it is the one that is brought there; elsewhere the user's plugin,
//! which also runs without the docker CLI, and beside an engine of ours on this computer the brought one where there is no plugin.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    api::Api,
    endpoint::Endpoint,
    refusal::{About, refusal},
    search::Surroundings,
    vm::Vm,
};
use crate::{
    call,
    engine::{
        Engine,
        compose::{Account, Action, Composition, Source, follow, no_service, recipes, there},
        registry::{self, Asked},
    },
    env_vars,
    error::{Error, ErrorCode, Result},
    process::{self, Command, Exit},
    progress::{self, ComposeProgress, ComposeState, Sink},
};

/// The first that tells what it does as JSON (docker/compose#11478).
const OLDEST: (u32, u32) = (2, 29);
/// Where docker's CLI looks for its plugins, after the user's own directory (docker/cli, cli-plugins/manager), and where Homebrew and
/// Docker Desktop put theirs.
const PLUGIN_DIRS: &[&str] = if cfg!(windows) {
    &[r"C:\ProgramData\Docker\cli-plugins", r"C:\Program Files\Docker\cli-plugins"]
} else {
    &[
        "/usr/local/lib/docker/cli-plugins",
        "/usr/local/libexec/docker/cli-plugins",
        "/usr/lib/docker/cli-plugins",
        "/usr/libexec/docker/cli-plugins",
        "/opt/homebrew/lib/docker/cli-plugins",
        "/Applications/Docker.app/Contents/Resources/cli-plugins",
    ]
};
/// Of our environment compose gets these alone: where programs are, and what credential helpers need to reach a keychain. A
/// project's `${…}` would have read all others.
const FROM_OURS: &[&str] = if cfg!(windows) {
    &["PATH", "SystemRoot", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "ProgramData", "ProgramFiles", "TEMP"]
} else {
    &["PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DOCKER_CONFIG"]
};

/// `engine` is the one of `api`; `vm` says where an engine of the application's own is.
pub(super) async fn compose(
    engine: &dyn Engine,
    api: Api,
    vm: Option<&Vm>,
    run: &Composition,
    sink: &Sink<ComposeProgress>,
) -> Result<()> {
    let place = match vm {
        Some(vm) if vm.host.is_some() => match brought(vm, run, sink).await? {
            Some(program) => Place::There { program, vm },
            None => return Ok(()),
        },
        _ => {
            let program = match (program(&Surroundings::of_process()).await, vm) {
                (Err(none), Some(vm)) if none.code() == ErrorCode::NotInstalled => match brought(vm, run, sink).await {
                    Ok(Some(program)) => program.into(),
                    Ok(None) => return Ok(()),
                    // There is none to bring.
                    Err(e) if e.code() == ErrorCode::NotInstalled => return Err(none),
                    Err(e) => return Err(e),
                },
                (found, _) => found?,
            };
            Place::Here { program, way: Way::to(&api)? }
        }
    };
    let mut run = match &place {
        Place::Here { .. } => run.clone(),
        // As the user whom the socket is given to.
        Place::There { vm, .. } => there::seen_there(vm.host.as_ref(), &vm.guest, true, run).await?,
    };
    if let Place::There { vm, .. } = &place
        && let Action::Up { services, .. } = &run.action
    {
        // With the services that these need.
        let services = services.clone();
        let config = check(&place, &run.with(Action::Check { services })).await?;
        there::fetch(engine, &mut run, &config, sink).await?;
        if let Some(host) = &vm.host {
            recipes::build(engine, host, &mut run, &config, sink).await?;
        }
    }
    let (exit, _, account) = place.once(&run, sink.clone()).await?;
    if exit == Exit::Code(0) {
        return Ok(());
    }
    let error = refused(&exit, &account);
    if error.code() == ErrorCode::EngineError {
        // Whether it is the project's fault, compose knows.
        check(&place, &run.with(Action::CHECK)).await?;
        if let Some(error) = no_service(error.message()) {
            return Err(error);
        }
    }
    Err(error)
}

/// What compose makes of the project; what is wrong with it.
async fn check(place: &Place<'_>, run: &Composition) -> Result<Vec<u8>> {
    let (exit, config, account) = place.once(run, progress::ignore()).await?;
    if exit == Exit::Code(0) {
        return Ok(config);
    }
    let said = account.fault();
    Err(no_service(&said).unwrap_or_else(|| Error::invalid("project", said)))
}

/// The path of the program that is the application's affair; nothing where one that is not there has nothing to take back.
async fn brought(vm: &Vm, run: &Composition, sink: &Sink<ComposeProgress>) -> Result<Option<String>> {
    let work = async { if run.takes_back { vm.compose.there().await } else { vm.compose.bring(sink).await.map(Some) } };
    tokio::select! {
        found = work => found,
        () = run.gone.cancelled() => Err(call::aborted()),
    }
}

/// Where compose runs.
enum Place<'a> {
    Here { program: PathBuf, way: Way },
    There { program: String, vm: &'a Vm },
}

const FLAGS: [&str; 2] = ["--progress=json", "--ansi=never"];

impl Place<'_> {
    /// Its exit, standard output and account.
    async fn once(&self, run: &Composition, sink: Sink<ComposeProgress>) -> Result<(Exit, Vec<u8>, Account)> {
        let process = match self {
            Self::Here { program, way } => {
                let mut command = std::process::Command::new(program);
                command.args(FLAGS).args(run.arguments(true));
                command.env_clear().envs(environment(run, way, |name| std::env::var_os(name)));
                command.current_dir(&run.directory);
                let input = match &run.source {
                    Source::File(_) => bytes::Bytes::new(),
                    Source::Text(text) => text.clone(),
                };
                process::spawn(command, input, None).await?
            }
            Self::There { program, vm } => {
                let words = std::iter::once(program.as_str()).chain(FLAGS).map(str::to_owned);
                let command = Command::new(words.chain(run.arguments(true)));
                let host = format!("unix://{}", vm.socket);
                vm.guest.spawn(there::command(command, run, &[(env_vars::DOCKER_HOST, &host)])).await?
            }
        };
        let mut account = Account::new(sink);
        // The run itself warns of the same.
        let warns = !matches!(run.action, Action::Check { .. });
        let (exit, out) = follow(process, &run.gone, |line| read(&mut account, line, warns)).await?;
        Ok((exit, out, account))
    }
}

fn environment(run: &Composition, way: &Way, ours: impl Fn(&str) -> Option<OsString>) -> Vec<(String, OsString)> {
    let mut all: Vec<_> =
        FROM_OURS.iter().filter_map(|name| Some(((*name).to_owned(), ours(name).filter(|v| !v.is_empty())?))).collect();
    all.push((env_vars::DOCKER_HOST.to_owned(), way.host.clone().into()));
    if let Some(dir) = &way.certificates {
        all.push((env_vars::DOCKER_CERT_PATH.to_owned(), dir.clone().into()));
        all.push((env_vars::DOCKER_TLS_VERIFY.to_owned(), "1".into()));
    }
    // What lies in a directory by chance is no part of an object.
    if matches!(run.source, Source::Text(_)) {
        all.push(("COMPOSE_DISABLE_ENV_FILE".to_owned(), "1".into()));
    }
    all.extend(run.env.iter().map(|(name, value)| (name.clone(), value.into())));
    all
}

/// The plugin that docker's CLI would run, or else the program of its name.
async fn program(around: &Surroundings) -> Result<PathBuf> {
    let name = format!("docker-compose{}", std::env::consts::EXE_SUFFIX);
    let dirs = around.docker_dir().into_iter().map(|dir| dir.join("cli-plugins"));
    let dirs = dirs.chain(PLUGIN_DIRS.iter().map(PathBuf::from));
    let found = dirs.map(|dir| dir.join(&name)).filter(|file| file.is_file());
    let mut old = None;
    for file in found.chain(env_vars::program("docker-compose")) {
        match version(&file).await {
            Some(version) if version >= OLDEST => return Ok(file),
            Some(version) => _ = old.get_or_insert((file, version)),
            None => {}
        }
    }
    let (text, hint) = match old {
        Some((file, (major, minor))) => (
            format!("{} is docker compose {major}.{minor}, which is too old", file.display()),
            format!("Install docker compose {}.{} or later.", OLDEST.0, OLDEST.1),
        ),
        None => (
            "docker compose is not installed on this computer".to_owned(),
            "Install the plugin: Docker Desktop brings it, packages call it docker-compose-plugin or docker-compose-v2; or put the \
             program of github.com/docker/compose into ~/.docker/cli-plugins as docker-compose."
                .to_owned(),
        ),
    };
    Err(Error::new(ErrorCode::NotInstalled, text).detail("program", "docker-compose").hint(hint))
}

async fn version(program: &Path) -> Option<(u32, u32)> {
    let mut command = std::process::Command::new(program);
    command.args(["version", "--short"]).env_clear();
    command.envs(FROM_OURS.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    let asked = async { process::spawn(command, bytes::Bytes::new(), None).await?.output().await };
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), asked).await.ok()?.ok()?;
    version_in(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.success())
}

/// Of `2.39.4`, `v5.5.1` or `2.40.2-desktop.1`.
fn version_in(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.trim().trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// How compose reaches the engine: as we do, or through a socket of ours, where docker's programs would not find the way.
struct Way {
    host: String,
    certificates: Option<PathBuf>,
    #[cfg(unix)]
    _served: Option<served::Served>,
}

impl Way {
    fn to(api: &Api) -> Result<Self> {
        let endpoint = api.endpoint();
        let is_plain = matches!(endpoint, Endpoint::Unix(_) | Endpoint::Npipe(_) | Endpoint::Tcp { tls: None, .. });
        #[cfg(unix)]
        {
            let served = if is_plain { None } else { Some(served::serve(endpoint.clone())?) };
            let host = served.as_ref().map_or_else(|| endpoint.to_string(), |served| served.host.clone());
            Ok(Self { host, certificates: None, _served: served })
        }
        #[cfg(not(unix))]
        {
            let certificates = certificates(endpoint);
            if is_plain || certificates.is_some() {
                return Ok(Self { host: endpoint.to_string(), certificates });
            }
            let text = "On Windows docker compose reaches an engine over TLS only by a directory of certificates";
            Err(Error::new(ErrorCode::UnsupportedPlatform, text)
                .hint("Set DOCKER_HOST and DOCKER_CERT_PATH, whose directory has ca.pem, cert.pem and key.pem."))
        }
    }
}

/// The directory of an endpoint's certificates, where docker's programs read them as we do.
#[cfg(any(test, not(unix)))]
fn certificates(endpoint: &Endpoint) -> Option<PathBuf> {
    let Endpoint::Tcp { tls: Some(tls), prefix, .. } = endpoint else { return None };
    let (ca, (cert, key)) = tls.ca.as_ref().zip(tls.client.as_ref())?;
    let dir = ca.parent()?;
    let of_dir = [ca, cert, key] == [&dir.join("ca.pem"), &dir.join("cert.pem"), &dir.join("key.pem")];
    (of_dir && prefix.is_empty() && !tls.skip_verify).then(|| dir.to_owned())
}

#[cfg(unix)]
mod served {
    use std::os::unix::fs::PermissionsExt;

    use tokio::net::UnixListener;
    use tokio_util::task::AbortOnDropHandle;

    use super::super::{endpoint::Endpoint, transport::Connector};
    use crate::{
        error::{Error, ErrorCode, Result},
        guest::Socket,
        relay, task,
    };

    /// A socket that only this user reaches, and that is there as long as this is.
    pub(super) struct Served {
        pub(super) host: String,
        _task: AbortOnDropHandle<()>,
        _dir: tempfile::TempDir,
    }

    pub(super) fn serve(endpoint: Endpoint) -> Result<Served> {
        if let Endpoint::Tcp { prefix, .. } = &endpoint
            && !prefix.is_empty()
        {
            let problem = format!("docker compose reaches no engine behind a path ({prefix}) over TLS");
            return Err(Error::invalid("host", problem));
        }
        let temp = std::env::temp_dir();
        let failed = |e| Error::io(e, "serving the engine in", &temp);
        let only_ours = std::fs::Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().prefix("lima-runtime-").permissions(only_ours).tempdir().map_err(failed)?;
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let connector = Connector::new(endpoint).tunnelled();
        let connect = move || {
            let connector = connector.clone();
            async move {
                let no_engine = |e: std::io::Error| Error::new(ErrorCode::EngineUnreachable, e.to_string()).source(e);
                let stream = connector.connect().await.map_err(no_engine)?;
                Ok(Box::new(stream.into_inner()) as Socket)
            }
        };
        let accepting = async move {
            let accept = || async { listener.accept().await.map(|(stream, _)| stream) };
            relay::serve("compose's socket", accept, connect).await;
        };
        let task = AbortOnDropHandle::new(task::spawn(accepting));
        Ok(Served { host: format!("unix://{}", path.display()), _task: task, _dir: dir })
    }
}

/// A line of its account. One that is of its log has a level, the last one of a run that fails has an error.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Line {
    id: String,
    parent_id: String,
    text: String,
    status: String,
    details: String,
    current: u64,
    total: u64,
    level: String,
    msg: String,
    error: bool,
    message: String,
}

/// Reads a line of its account (docs/reference/docker.md#compose).
fn read(account: &mut Account, line: &str, warns: bool) {
    let parsed = if line.starts_with('{') { serde_json::from_str::<Line>(line).ok() } else { None };
    let Some(l) = parsed else { return account.keep(line) };
    if l.error {
        return account.fails(l.message);
    }
    match l.level.as_str() {
        "" => {}
        "warning" if warns => return account.warn(&l.msg),
        "error" | "fatal" => return account.fails(l.msg),
        _ => return,
    }
    if l.id.is_empty() && l.text.is_empty() && l.status.is_empty() {
        return;
    }
    // Newer ones say what kind of state it is, and what it is in `text`; older ones have it in `status`.
    let (state, status) = match l.status.as_str() {
        "Working" => (ComposeState::Working, l.text),
        "Done" => (ComposeState::Done, l.text),
        "Warning" => (ComposeState::Warning, l.text),
        "Error" => (ComposeState::Failed, if l.text.is_empty() { l.status } else { l.text }),
        "" => (state_of(&l.text), l.text),
        _ => (state_of(&l.status), l.status),
    };
    if let Some(image) = l.id.strip_prefix("Image ") {
        account.image = Some(image.to_owned());
    }
    let event = ComposeProgress {
        resource: l.id,
        parent: Some(l.parent_id).filter(|p| !p.is_empty()),
        status,
        state,
        details: Some(l.details).filter(|d| !d.is_empty()),
        current: (l.total > 0).then_some(l.current),
        total: (l.total > 0).then_some(l.total),
    };
    account.event(event);
}

/// By the words with which compose says that something is over.
fn state_of(words: &str) -> ComposeState {
    const DONE: [&str; 17] = [
        "Created",
        "Started",
        "Running",
        "Healthy",
        "Exited",
        "Restarted",
        "Stopped",
        "Killed",
        "Removed",
        "Built",
        "Pulled",
        "Recreated",
        "Skipped",
        "Exists",
        "Pull complete",
        "Download complete",
        "Already exists",
    ];
    match words {
        "Error" => ComposeState::Failed,
        "Warning" => ComposeState::Warning,
        _ if DONE.contains(&words) => ComposeState::Done,
        _ => ComposeState::Working,
    }
}

fn refused(exit: &Exit, account: &Account) -> Error {
    let said = account.fault();
    let message = said.trim().trim_start_matches("Error response from daemon: ");
    let image = account.image.as_deref().unwrap_or("the image");
    let of_registry = registry::refused(Asked::Pull, image, message);
    let of_wait = ["is unhealthy", "dependency failed to start", "exited ("].iter().any(|w| message.contains(w));
    let error = match refusal(0, message, About::Engine) {
        e if e.code() != ErrorCode::EngineError => e,
        _ if matches!(of_registry.code(), ErrorCode::ImageNotFound | ErrorCode::RegistryAuth) => of_registry,
        _ if of_wait => Error::new(ErrorCode::InvalidState, message),
        _ if message.contains("docker API at") => Error::new(ErrorCode::EngineUnreachable, message),
        e => e,
    };
    let error = exit.of(error);
    if account.said().is_empty() { error } else { error.detail("stderr", account.said()) }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    let mut account = Account::new(progress::ignore());
    for line in text.lines() {
        read(&mut account, line, true);
    }
    assert!(!refused(&Exit::Code(1), &account).message().is_empty());
    version_in(text);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mutex::Mutex;

    /// As 5.5.1 and 2.39.4 said it.
    #[test]
    fn both_forms_of_its_lines() {
        use ComposeState::{Done, Failed, Warning, Working};
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = events.clone();
        let mut account =
            Account::new(Arc::new(move |e: ComposeProgress| seen.lock().push((e.resource, e.status, e.state))));
        for line in [
            r#"{"id":"Container demo-web-1","status":"Working","text":"Creating"}"#,
            r#"{"id":"Container demo-web-1","status":"Created"}"#,
            r#"{"id":"4f4fb700ef54","parent_id":"Image busybox","status":"Working","text":"Downloading","current":5,"total":10}"#,
            r#"{"id":"Image busybox","status":"Error","text":"manifest unknown"}"#,
            r#"{"level":"warning","msg":"The \"FOO\" variable is not set. Defaulting to a blank string.","time":"2026-11-30T05:03:23Z"}"#,
            r#"{"error":true,"message":"validating -: services.a additional properties 'imagee' not allowed"}"#,
            "a word of another's",
        ] {
            read(&mut account, line, true);
        }
        let of = |resource: &str, status: &str, state| (resource.to_owned(), status.to_owned(), state);
        let mut events = std::mem::take(&mut *events.lock());
        // So soon after the one before it, bytes may be left out.
        events.retain(|(_, status, _)| status != "Downloading");
        assert_eq!(
            events,
            [
                of("Container demo-web-1", "Creating", Working),
                of("Container demo-web-1", "Created", Done),
                of("Image busybox", "manifest unknown", Failed),
                of("", "The \"FOO\" variable is not set. Defaulting to a blank string.", Warning),
                of("", "validating -: services.a additional properties 'imagee' not allowed", Failed),
            ]
        );
        assert_eq!(account.fault(), "validating -: services.a additional properties 'imagee' not allowed");
        assert_eq!((account.image.as_deref(), account.said()), (Some("busybox"), "a word of another's\n"));
    }

    #[test]
    fn what_went_wrong() {
        let code = |said: &str| {
            let mut account = Account::new(progress::ignore());
            account.fails(said.to_owned());
            refused(&Exit::Code(1), &account).code().as_str()
        };
        for (said, expected) in [
            (
                "Error response from daemon: driver failed programming external connectivity on endpoint demo-web-1 (9a): Bind for 0.0.0.0:8080 failed: port is already allocated",
                "PORT_IN_USE",
            ),
            (
                "Error response from daemon: manifest for r.example/none:1 not found: manifest unknown: manifest unknown",
                "IMAGE_NOT_FOUND",
            ),
            (
                "Error response from daemon: Head \"https://r.example/v2/a/manifests/1\": unauthorized: authentication required",
                "REGISTRY_AUTH",
            ),
            ("container demo-web-1 is unhealthy", "INVALID_STATE"),
            (
                "failed to connect to the docker API at unix:///x.sock; check if the path is correct",
                "ENGINE_UNREACHABLE",
            ),
            ("something new", "ENGINE_ERROR"),
        ] {
            assert_eq!(code(said), expected, "{said}");
        }
    }

    #[test]
    fn compose_sees_little_of_our_environment() {
        let run = Composition::of(
            (None, Some("{}")),
            &crate::engine::ComposeOptions {
                project_name: Some("demo".into()),
                env: [("TAG".to_owned(), "7".to_owned())].into(),
                ..Default::default()
            },
            Action::CHECK,
        )
        .unwrap();
        let ours =
            |name: &str| Some(OsString::from(if name == "HOME" { String::new() } else { format!("our {name}") }));
        let names = |certificates: Option<&str>| -> Vec<String> {
            let certificates = certificates.map(PathBuf::from);
            let way = Way {
                host: "unix:///x.sock".into(),
                certificates,
                #[cfg(unix)]
                _served: None,
            };
            environment(&run, &way, ours).into_iter().map(|(name, _)| name).collect()
        };
        let mut expected: Vec<_> = FROM_OURS.iter().copied().filter(|n| *n != "HOME").collect();
        expected.extend(["DOCKER_HOST", "COMPOSE_DISABLE_ENV_FILE", "TAG"]);
        assert_eq!(names(None), expected);
        let before = expected.len() - 2;
        expected.splice(before..before, ["DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"]);
        assert_eq!(names(Some("/c")), expected);
    }

    #[test]
    fn certificates_are_a_directory_where_dockers_programs_would_read_the_same() {
        use crate::engine::docker::tls::Tls;
        let dir = tempfile::tempdir().unwrap();
        for name in ["ca.pem", "cert.pem", "key.pem"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let of = |address: &str, tls: Option<Tls>| certificates(&Endpoint::parse("host", address, tls).unwrap());
        let whole = || Tls::of_dir(dir.path(), false);
        assert_eq!(of("tcp://box", Some(whole())).as_deref(), Some(dir.path()));
        assert_eq!(of("tcp://box", None), None);
        assert_eq!(of("tcp://box/behind", Some(whole())), None);
        assert_eq!(of("tcp://box", Some(Tls::of_dir(dir.path(), true))), None);
        assert_eq!(of("tcp://box", Some(Tls { ca: Some("/elsewhere/ca.pem".into()), ..whole() })), None);
        std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
        assert_eq!(of("tcp://box", Some(whole())), None, "the system's trust store");
    }

    #[test]
    fn versions_of_releases_and_builds() {
        assert_eq!(version_in("2.39.4\n"), Some((2, 39)));
        assert_eq!(version_in("v5.5.1"), Some((5, 5)));
        assert_eq!(version_in("2.40.2-desktop.1"), Some((2, 40)));
        assert_eq!(version_in("1.29.2"), Some((1, 29)));
        assert_eq!(version_in("unknown"), None);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_an_aborted_one_never_made_is_taken_back_without_a_download() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        use crate::{
            engine::{ComposeProgram, types::RuntimeType},
            guest::local::LocalGuest,
        };

        #[derive(Default)]
        struct NotThere(AtomicUsize);
        #[async_trait::async_trait]
        impl ComposeProgram for NotThere {
            async fn there(&self) -> Result<Option<String>> {
                Ok(None)
            }
            async fn bring(&self, _: &Sink<ComposeProgress>) -> Result<String> {
                self.0.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }
        }
        let program = Arc::new(NotThere::default());
        let vm = Vm {
            guest: Arc::new(LocalGuest::new("")),
            socket: String::new(),
            runtime_type: RuntimeType::Lima,
            host: None,
            internal: None,
            own_dir: PathBuf::new(),
            compose: program.clone(),
            mend: "",
        };
        let options = crate::engine::ComposeOptions { project_name: Some("demo".into()), ..Default::default() };
        let up = Action::Up { services: Vec::new(), pull: None, build: None, wait: false, remove_orphans: false };
        let run = Composition::of((None, Some("{}")), &options, up).unwrap();
        run.gone.cancel();
        let ignore = progress::ignore();
        assert_eq!(brought(&vm, &run, &ignore).await.unwrap_err().code(), ErrorCode::Aborted);
        let before = program.0.load(Ordering::Relaxed);
        assert_eq!(brought(&vm, &run.back(), &ignore).await.unwrap(), None);
        assert_eq!(program.0.load(Ordering::Relaxed), before);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_users_own_plugin_comes_first_and_an_old_one_counts_for_none() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let plugins = dir.path().join("cli-plugins");
        std::fs::create_dir(&plugins).unwrap();
        let file = plugins.join("docker-compose");
        let put = |said: &str| {
            // Written beside it: a file that is open for writing cannot be run.
            let beside = plugins.join("new");
            std::fs::write(&beside, format!("#!/bin/sh\necho {said}\n")).unwrap();
            std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::rename(beside, &file).unwrap();
        };
        let config = dir.path().display().to_string();
        let around =
            Surroundings { var: Box::new(move |name| (name == "DOCKER_CONFIG").then(|| config.clone())), home: None };
        put("v5.5.1");
        assert_eq!(program(&around).await.unwrap(), file);
        put("1.29.2");
        // One of this computer may be there.
        assert_ne!(program(&around).await.ok(), Some(file));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn an_engine_behind_a_way_of_ours_is_served_to_this_user_alone_and_no_longer_than_needed() {
        use std::os::unix::fs::MetadataExt;

        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        use crate::{engine::docker::guest_socket::GuestSocket, guest::local::LocalGuest};

        let dir = tempfile::tempdir().unwrap();
        let engine = dir.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&engine).unwrap();
        crate::task::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all.reverse();
            stream.write_all(&all).await.unwrap();
        });
        let guest = std::sync::Arc::new(LocalGuest::new(""));
        let served = served::serve(Endpoint::Guest(GuestSocket::new(guest, engine.to_str().unwrap(), None))).unwrap();
        let path = PathBuf::from(served.host.strip_prefix("unix://").unwrap());
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"abc").await.unwrap();
        // Half-closed, as an attached stream is.
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "cba");
        drop(served);
        assert!(!path.parent().unwrap().exists());
    }
}

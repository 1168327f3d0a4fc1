//! Where the engine is: found as the docker CLI finds it (docs/reference/docker.md#finding-the-engine), and where the CLI
//! finds none, among the sockets people have.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    api::Api,
    context,
    endpoint::{Endpoint, PIPE, SOCKET},
    error::START_DOCKER,
    tls::Tls,
};
use crate::{
    env_vars,
    error::{Error, ErrorCode, Result},
};

type Variables = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What the search reads from around the process; tests make their own.
pub(crate) struct Surroundings {
    pub var: Variables,
    pub home: Option<PathBuf>,
}

impl Surroundings {
    pub(crate) fn of_process() -> Self {
        Self { var: Box::new(env_vars::get), home: home::home_dir() }
    }

    pub(super) fn docker_dir(&self) -> Option<PathBuf> {
        (self.var)(env_vars::DOCKER_CONFIG).map(PathBuf::from).or_else(|| Some(self.home.as_ref()?.join(".docker")))
    }
}

/// A place where an engine may be, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub endpoint: Endpoint,
    pub source: String,
}

/// In the order in which they count. An endpoint that somebody named outright is the only one.
pub(crate) fn candidates(host: Option<&str>, around: &Surroundings) -> Result<Vec<Candidate>> {
    let var = &around.var;
    if let Some(host) = host {
        return Ok(vec![Candidate {
            endpoint: Endpoint::parse("host", host, env_tls(around))?,
            source: "host".into(),
        }]);
    }
    if let Some(host) = var(env_vars::DOCKER_HOST).filter(|host| !host.trim().is_empty()) {
        let endpoint = Endpoint::parse(env_vars::DOCKER_HOST, &host, env_tls(around))?;
        return Ok(vec![Candidate { endpoint, source: env_vars::DOCKER_HOST.into() }]);
    }
    let mut found = Vec::new();
    let docker_dir = around.docker_dir();
    if let Some(name) = var(env_vars::DOCKER_CONTEXT) {
        if name != context::DEFAULT {
            let dir =
                docker_dir.ok_or_else(|| Error::invalid(env_vars::DOCKER_CONTEXT, "there is no home directory"))?;
            let endpoint = context::endpoint(&dir, &name)?;
            return Ok(vec![Candidate { endpoint, source: format!("context {name}") }]);
        }
    } else if let Some(dir) = docker_dir
        && let Some(name) = context::current(&dir)
    {
        // A current context that cannot be read is passed over: nobody named it to us. So is one that an application had
        // written for its own engine: it is no Docker of the user's, and there only while that application lives.
        match context::endpoint(&dir, &name) {
            Ok(_) if context::is_an_applications(&dir, &name) => {}
            Ok(endpoint) => found.push(Candidate { endpoint, source: format!("context {name}") }),
            Err(error) => tracing::warn!(%error, "the current docker context cannot be used"),
        }
    }
    for (endpoint, source) in usual_places(around) {
        if !found.iter().any(|c| c.endpoint == endpoint) {
            found.push(Candidate { endpoint, source: source.to_owned() });
        }
    }
    Ok(found)
}

/// TLS where `DOCKER_TLS_VERIFY` or `DOCKER_CERT_PATH` is set. The certificate is verified in both cases: a connection
/// that anybody could intercept is not what a certificate directory is for.
fn env_tls(around: &Surroundings) -> Option<Tls> {
    let dir = (around.var)(env_vars::DOCKER_CERT_PATH).map(PathBuf::from);
    if dir.is_none() && (around.var)(env_vars::DOCKER_TLS_VERIFY).is_none() {
        return None;
    }
    Some(dir.or_else(|| around.docker_dir()).map_or_else(Tls::default, |d| Tls::of_dir(&d, false)))
}

/// Where Docker Desktop, OrbStack, Colima, Rancher Desktop and the Linux packages put their sockets.
fn usual_places(around: &Surroundings) -> Vec<(Endpoint, &'static str)> {
    if cfg!(windows) {
        return vec![
            (Endpoint::Npipe(PIPE.into()), "Docker Desktop"),
            (Endpoint::Npipe(r"\\.\pipe\dockerDesktopLinuxEngine".into()), "Docker Desktop (Linux containers)"),
        ];
    }
    let mut found = Vec::new();
    let mut add = |path: PathBuf, source| found.push((Endpoint::Unix(path), source));
    if let Some(home) = &around.home {
        for (path, source) in [
            (".docker/run/docker.sock", "Docker Desktop"),
            (".docker/desktop/docker.sock", "Docker Desktop"),
            (".orbstack/run/docker.sock", "OrbStack"),
            (".colima/default/docker.sock", "Colima"),
            (".rd/docker.sock", "Rancher Desktop"),
        ] {
            add(home.join(path), source);
        }
    }
    if let Some(dir) = (around.var)(env_vars::XDG_RUNTIME_DIR) {
        add(Path::new(&dir).join("docker.sock"), "rootless Docker");
    }
    add(SOCKET.into(), "the system's Docker");
    found
}

/// What a look at one endpoint showed.
#[derive(Debug, Clone)]
pub struct Probe {
    pub endpoint: Endpoint,
    /// Who named it: `host`, `DOCKER_HOST`, `context colima`, `OrbStack`, ….
    pub source: String,
    pub reachable: bool,
    /// The engine's version, where it answered.
    pub version: Option<String>,
    /// Why it is not reachable, ready to show.
    pub reason: Option<String>,
}

/// What one dead or hung socket may cost.
pub(crate) const PROBE: Duration = Duration::from_millis(250);
/// How long to go on waiting when nobody has answered by then: an engine under load.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same, where the engine may be far away.
const PATIENCE_FAR: Duration = Duration::from_secs(15);

/// Looks at every place where an engine may be, all at once; takes no longer than 250 ms. In the order in which the
/// adapter would take them.
pub async fn probe(host: Option<&str>) -> Result<Vec<Probe>> {
    let candidates = candidates(host, &Surroundings::of_process())?;
    Ok(futures_util::future::join_all(candidates.into_iter().map(|Candidate { endpoint, source }| async move {
        let outcome = tokio::time::timeout(PROBE, reach(&endpoint)).await.unwrap_or_else(|_| Err(no_answer(&endpoint)));
        let (version, reason) = match outcome {
            Ok(api) => (api.engine_version().map(str::to_owned), None),
            Err(e) => (None, Some(e.message().to_owned())),
        };
        Probe { endpoint, source, reachable: reason.is_none(), version, reason }
    }))
    .await)
}

/// The first candidate, in their order, that answers.
pub(super) async fn find(candidates: Vec<Candidate>) -> Result<Api> {
    let started = Instant::now();
    let mut pending: FuturesUnordered<_> =
        candidates.iter().enumerate().map(|(i, c)| async move { (i, reach(&c.endpoint).await) }).collect();
    let mut answers: Vec<Option<Result<Api>>> = candidates.iter().map(|_| None).collect();
    let far = candidates.iter().any(|c| matches!(c.endpoint, Endpoint::Tcp { .. } | Endpoint::Ssh(_)));
    let patience = if far { PATIENCE_FAR } else { PATIENCE };
    while started.elapsed() < patience {
        let early = started.elapsed() < PROBE;
        // Somebody has answered, and everybody before them has had their turn.
        let first = answers.iter().position(|a| matches!(a, Some(Ok(_))));
        if let Some(i) = first
            && (!early || answers[..i].iter().all(Option::is_some))
        {
            return answers.swap_remove(i).unwrap_or_else(|| Err(Error::internal("an answer vanished")));
        }
        let until = started + if early { PROBE } else { patience };
        match tokio::time::timeout_at(until.into(), pending.next()).await {
            Ok(Some((i, answer))) => answers[i] = Some(answer),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    if let Some(i) = answers.iter().position(|a| matches!(a, Some(Ok(_)))) {
        return answers.swap_remove(i).unwrap_or_else(|| Err(Error::internal("an answer vanished")));
    }
    Err(none_answers(&candidates, answers))
}

/// One error out of many: the one a person can do something about.
fn none_answers(candidates: &[Candidate], answers: Vec<Option<Result<Api>>>) -> Error {
    let mut tried = serde_json::Map::new();
    let mut most_useful: Option<Error> = None;
    for (c, answer) in candidates.iter().zip(answers) {
        let error = answer.and_then(Result::err).unwrap_or_else(|| no_answer(&c.endpoint));
        tried.insert(c.endpoint.to_string(), error.message().into());
        let better = match &most_useful {
            None => !c.endpoint.is_absent() || candidates.len() == 1,
            Some(w) => error.code() == ErrorCode::PermissionDenied && w.code() != ErrorCode::PermissionDenied,
        };
        if better {
            most_useful = Some(error);
        }
    }
    most_useful
        .unwrap_or_else(|| Error::new(ErrorCode::EngineUnreachable, "No Docker engine was found").hint(START_DOCKER))
        .detail("tried", tried)
}

fn no_answer(endpoint: &Endpoint) -> Error {
    Error::new(ErrorCode::EngineUnreachable, format!("The engine at {endpoint} does not answer")).hint(START_DOCKER)
}

async fn reach(endpoint: &Endpoint) -> Result<Api> {
    if endpoint.is_absent() {
        return Err(
            Error::new(ErrorCode::EngineUnreachable, format!("There is no socket at {endpoint}")).hint(START_DOCKER)
        );
    }
    Api::connect(endpoint.clone()).await
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn around(vars: &[(&str, &str)], home: Option<&Path>) -> Surroundings {
        let vars: HashMap<String, String> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Surroundings { var: Box::new(move |k| vars.get(k).cloned()), home: home.map(Path::to_owned) }
    }

    #[test]
    fn the_variable_is_trimmed_and_a_blank_one_names_nothing() {
        let blank = around(&[(env_vars::DOCKER_HOST, " \n")], None);
        assert_eq!(candidates(None, &blank).unwrap()[0].source, "the system's Docker");
        let trimmed = around(&[(env_vars::DOCKER_HOST, " localhost:2399\n")], None);
        assert_eq!(candidates(None, &trimmed).unwrap()[0].endpoint.to_string(), "tcp://localhost:2399");
    }

    #[test]
    fn what_is_named_outright_is_the_only_candidate() {
        let env = around(&[(env_vars::DOCKER_HOST, "tcp://b:1"), (env_vars::DOCKER_CONTEXT, "c")], None);
        let by_host = candidates(Some("unix:///a.sock"), &env).unwrap();
        assert_eq!(by_host.len(), 1);
        assert_eq!(by_host[0].endpoint.to_string(), "unix:///a.sock");
        let by_env = candidates(None, &env).unwrap();
        assert_eq!((by_env.len(), by_env[0].endpoint.to_string()), (1, "tcp://b:1".into()));
    }

    #[cfg(unix)]
    #[test]
    fn the_current_context_comes_before_the_usual_sockets() {
        let dir = tempfile::tempdir().unwrap();
        context::tests::write_context(dir.path(), "colima", r#"{"Host":"unix:///x/colima.sock"}"#);
        std::fs::write(dir.path().join("config.json"), r#"{"currentContext":"colima"}"#).unwrap();
        let config = dir.path().to_str().unwrap();
        let env = around(
            &[(env_vars::DOCKER_CONFIG, config), (env_vars::XDG_RUNTIME_DIR, "/run/user/7")],
            Some(Path::new("/home/me")),
        );
        let order: Vec<_> = candidates(None, &env).unwrap().into_iter().map(|c| c.endpoint.to_string()).collect();
        assert_eq!(
            order,
            [
                "unix:///x/colima.sock",
                "unix:///home/me/.docker/run/docker.sock",
                "unix:///home/me/.docker/desktop/docker.sock",
                "unix:///home/me/.orbstack/run/docker.sock",
                "unix:///home/me/.colima/default/docker.sock",
                "unix:///home/me/.rd/docker.sock",
                "unix:///run/user/7/docker.sock",
                "unix:///var/run/docker.sock",
            ]
        );
        // `default` means: not a context.
        let env = around(&[(env_vars::DOCKER_CONFIG, config), (env_vars::DOCKER_CONTEXT, "default")], None);
        assert_eq!(candidates(None, &env).unwrap()[0].endpoint.to_string(), "unix:///var/run/docker.sock");
    }

    #[cfg(unix)]
    #[test]
    fn the_context_of_an_applications_own_engine_is_not_the_users_docker() {
        let dir = tempfile::tempdir().unwrap();
        let (config, socket) = (dir.path().to_str().unwrap(), Path::new("/d/sock/docker.sock"));
        context::register(dir.path(), "kai", socket, "kai", true).unwrap();
        let env = around(&[(env_vars::DOCKER_CONFIG, config)], Some(Path::new("/home/me")));
        let found = candidates(None, &env).unwrap();
        assert_eq!(found[0].source, "Docker Desktop");
        assert!(!found.iter().any(|c| c.endpoint == Endpoint::Unix(socket.into())));
        // Whoever names it means it.
        let env = around(&[(env_vars::DOCKER_CONFIG, config), (env_vars::DOCKER_CONTEXT, "kai")], None);
        assert_eq!(candidates(None, &env).unwrap()[0].endpoint, Endpoint::Unix(socket.into()));
    }

    #[test]
    fn an_unknown_context_that_was_named_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().to_str().unwrap();
        let env = around(&[(env_vars::DOCKER_CONFIG, config), (env_vars::DOCKER_CONTEXT, "gone")], None);
        assert_eq!(candidates(None, &env).unwrap_err().code(), ErrorCode::InvalidArgument);
    }

    #[test]
    fn tls_by_either_variable_and_always_verified() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), "").unwrap();
        let path = dir.path().to_str().unwrap();
        let env =
            around(&[(env_vars::DOCKER_HOST, "tcp://b"), (env_vars::DOCKER_CERT_PATH, path)], Some(Path::new("/h")));
        let Endpoint::Tcp { tls: Some(tls), port: 2376, .. } = &candidates(None, &env).unwrap()[0].endpoint else {
            panic!("no TLS")
        };
        assert_eq!((tls.ca.as_deref(), tls.client.is_none()), (Some(&*dir.path().join("ca.pem")), true));
        assert!(!tls.skip_verify);
    }

    #[cfg(unix)]
    mod sockets {
        use tokio::{
            io::{AsyncReadExt, AsyncWriteExt},
            net::UnixListener,
        };

        use super::*;

        fn at(path: &Path) -> Candidate {
            Candidate { endpoint: Endpoint::Unix(path.into()), source: "test".into() }
        }

        /// Answers every request as an engine's `/_ping` does.
        fn engine(path: &Path) {
            let listener = UnixListener::bind(path).unwrap();
            tokio::spawn(async move {
                while let Ok((mut s, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let mut buf = [0; 1024];
                        while s.read(&mut buf).await.is_ok_and(|n| n > 0) {
                            let answer = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24 (linux)\r\nContent-Length: 2\r\n\r\nOK";
                            s.write_all(answer.as_bytes()).await.unwrap();
                        }
                    });
                }
            });
        }

        #[tokio::test]
        async fn a_hung_socket_and_a_dead_one_before_it_do_not_hide_an_engine() {
            let dir = tempfile::tempdir().unwrap();
            let [hung, dead, good] = ["hung", "dead", "good"].map(|n| dir.path().join(n));
            let _hung = UnixListener::bind(&hung).unwrap();
            drop(UnixListener::bind(&dead).unwrap());
            engine(&good);
            let began = Instant::now();
            let api = find(vec![at(&hung), at(&dead), at(&good)]).await.unwrap();
            assert_eq!(api.endpoint().to_string(), format!("unix://{}", good.display()));
            assert!(began.elapsed() >= PROBE, "the one before it was not waited for");
        }

        #[tokio::test]
        async fn the_first_in_order_wins_not_the_fastest() {
            let dir = tempfile::tempdir().unwrap();
            let [a, b] = ["a", "b"].map(|n| dir.path().join(n));
            engine(&a);
            engine(&b);
            let api = find(vec![at(&b), at(&a)]).await.unwrap();
            assert_eq!(api.endpoint(), &Endpoint::Unix(b));
        }

        #[tokio::test]
        async fn a_probe_tells_the_version_or_the_reason() {
            let dir = tempfile::tempdir().unwrap();
            let [hung, good] = ["hung", "good"].map(|n| dir.path().join(n));
            let _hung = UnixListener::bind(&hung).unwrap();
            engine(&good);
            let look = |path: &Path| {
                let host = format!("unix://{}", path.display());
                async move { probe(Some(&host)).await.unwrap().remove(0) }
            };
            // On a busy machine it may answer too late.
            let found = loop {
                let found = look(&good).await;
                if found.reachable {
                    break found;
                }
            };
            assert_eq!((found.version.as_deref(), found.source.as_str()), (Some("20.10.24"), "host"));
            let began = Instant::now();
            let found = look(&hung).await;
            assert!(!found.reachable && found.reason.unwrap().contains("does not answer"));
            assert!(began.elapsed() >= PROBE);
        }

        #[tokio::test]
        async fn nobody_there_says_what_was_tried() {
            let dir = tempfile::tempdir().unwrap();
            let dead = dir.path().join("dead");
            drop(UnixListener::bind(&dead).unwrap());
            let e = find(vec![at(&dir.path().join("none")), at(&dead)]).await.unwrap_err();
            assert_eq!(e.code(), ErrorCode::EngineUnreachable);
            assert_eq!(e.details()["tried"].as_object().unwrap().len(), 2);
            assert!(e.hint_text().is_some());
        }
    }
}

//! Projects of compose: what is asked of an engine's own compose, and what that says. What a project means is compose's to know: of
//! a file we read the name alone.

mod account;
mod program;
mod project;
pub(crate) mod recipes;
mod runs;
pub(crate) mod there;

use std::sync::Arc;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

pub(crate) use account::{Account, follow};
pub use program::Program;
pub(crate) use runs::Runs;

use super::{backend::Engine, host::Host, types::*, wait};
use crate::error::{Error, ErrorCode, Result};

/// Both engines' composes write these labels on each container.
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";

/// One run of an engine's compose. Its arguments have been checked.
#[derive(Clone)]
pub struct Composition {
    pub(crate) name: String,
    pub(crate) source: Source,
    /// What its relative paths are relative to, absolute.
    pub(crate) directory: String,
    /// By the caller, or a file: not merely where this process is.
    pub(crate) directory_is_given: bool,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) profiles: Vec<String>,
    pub(crate) action: Action,
    /// When it is cancelled, compose is ended, and the run returns once it has ended.
    pub(crate) gone: CancellationToken,
    /// It takes back what an aborted one has made: a compose that is not there has made nothing, and is not fetched for this.
    pub(crate) takes_back: bool,
}

#[derive(Clone)]
pub(crate) enum Source {
    /// An absolute path.
    File(String),
    /// Handed over on the standard input: it may hold secrets.
    Text(bytes::Bytes),
}

#[derive(Clone)]
pub(crate) enum Action {
    Up {
        services: Vec<String>,
        pull: Option<ComposePull>,
        /// Whether all that can be built is, or nothing; else what is not there.
        build: Option<bool>,
        wait: bool,
        remove_orphans: bool,
    },
    Down {
        volumes: bool,
        remove_orphans: bool,
    },
    /// Whether compose can read it, and what it makes of these services; all of them where none is named. Of no engine is anything
    /// asked.
    Check {
        services: Vec<String>,
    },
}

impl Action {
    pub(crate) const CHECK: Self = Self::Check { services: Vec::new() };
}

impl Composition {
    pub(crate) fn with(&self, action: Action) -> Self {
        Self { action, ..self.clone() }
    }

    /// What takes back what this one has made; it is not ended with it.
    pub(crate) fn back(&self) -> Self {
        let action = Action::Down { volumes: false, remove_orphans: false };
        Self { gone: CancellationToken::new(), takes_back: true, ..self.with(action) }
    }

    /// Compose's arguments. None of them is secret: they stand in the process list. `waits`: whether this compose can wait.
    pub(crate) fn arguments(&self, waits: bool) -> Vec<String> {
        let file = match &self.source {
            Source::File(path) => path,
            Source::Text(_) => "-",
        };
        // With `=`, whatever a value begins with is a value.
        let mut argv = vec![
            format!("--project-name={}", self.name),
            format!("--project-directory={}", self.directory),
            format!("--file={file}"),
        ];
        argv.extend(self.profiles.iter().map(|profile| format!("--profile={profile}")));
        let mut say = |words: &[&str]| argv.extend(words.iter().map(|w| (*w).to_owned()));
        match &self.action {
            Action::Up { services, pull, build, wait, remove_orphans } => {
                say(&["up", "--detach"]);
                let pull = pull.map(|pull| format!("--pull={}", pull.word()));
                say(pull.as_slice().iter().map(String::as_str).collect::<Vec<_>>().as_slice());
                let flags = [
                    (*build == Some(true), "--build"),
                    (*build == Some(false), "--no-build"),
                    (*wait && waits, "--wait"),
                    (*remove_orphans, "--remove-orphans"),
                ];
                say(&flags.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect::<Vec<_>>());
                say(&["--"]);
                argv.extend(services.iter().cloned());
            }
            Action::Down { volumes, remove_orphans } => {
                say(&["down"]);
                let flags = [(*volumes, "--volumes"), (*remove_orphans, "--remove-orphans")];
                say(&flags.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect::<Vec<_>>());
            }
            Action::Check { services } if services.is_empty() => say(&["config"]),
            Action::Check { services } => {
                say(&["config", "--"]);
                argv.extend(services.iter().cloned());
            }
        }
        argv
    }
}

/// Of a failure's words, what the caller's `services` are to blame for.
pub(crate) fn no_service(said: &str) -> Option<Error> {
    said.contains("no such service").then(|| Error::invalid("services", said.trim()))
}

/// The project's containers, by the labels that its compose wrote.
pub(crate) async fn containers(engine: &dyn Engine, name: &str) -> Result<Vec<ComposeContainer>> {
    let filters = Filters::from([("label".to_owned(), vec![format!("{PROJECT}={name}")])]);
    let found = engine.list(&ListOptions { all: true, filters }).await?;
    let service = async |info: ContainerInfo| match engine.details(&info.id).await {
        Ok(mut details) => {
            let service = details.labels.remove(SERVICE).unwrap_or_default();
            Ok(Some(ComposeContainer { info, service }))
        }
        // Gone meanwhile.
        Err(e) if e.code() == ErrorCode::ContainerNotFound => Ok(None),
        Err(e) => Err(e),
    };
    let mut all = Vec::with_capacity(found.len());
    for one in join_all(found.into_iter().map(service)).await {
        all.extend(one?);
    }
    all.sort_by(|a, b| (&a.service, &a.info.name).cmp(&(&b.service, &b.info.name)));
    Ok(all)
}

/// Until what a project publishes can be reached from this computer, where its engine is in a guest.
pub(crate) async fn reached(engine: &dyn Engine, run: &Composition, host: Option<&Arc<dyn Host>>) -> Result<()> {
    let (Some(host), Action::Up { .. }) = (host, &run.action) else { return Ok(()) };
    let all = containers(engine, &run.name).await?;
    let ports = all.iter().flat_map(|c| &c.info.ports);
    let ports: Vec<_> = ports.filter_map(|port| Some((port.protocol, port.host_port?))).collect();
    if ports.is_empty() { Ok(()) } else { host.await_ports(&ports).await }
}

/// Until all of the project's containers are healthy that have a healthcheck, where its compose does not wait itself.
pub(crate) async fn healthy(engine: &dyn Engine, run: &Composition) -> Result<()> {
    let Action::Up { wait: true, .. } = &run.action else { return Ok(()) };
    for ComposeContainer { info, .. } in containers(engine, &run.name).await? {
        if info.health != Health::None {
            wait::until(engine, &info.id, WaitCondition::Healthy).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn composition(action: Action) -> Composition {
        Composition {
            name: "demo".into(),
            source: Source::File("/srv/-x/compose.yaml".into()),
            directory: "/srv/-x".into(),
            directory_is_given: true,
            env: vec![("TOKEN".into(), "hunter2".into())],
            profiles: vec!["debug".into()],
            action,
            gone: CancellationToken::new(),
            takes_back: false,
        }
    }

    #[test]
    fn arguments_of_each_action() {
        let up = Action::Up {
            services: vec!["web".into()],
            pull: Some(ComposePull::Missing),
            build: Some(true),
            wait: true,
            remove_orphans: true,
        };
        let common =
            ["--project-name=demo", "--project-directory=/srv/-x", "--file=/srv/-x/compose.yaml", "--profile=debug"];
        let of = |action, waits, words: &[&str]| {
            assert_eq!(composition(action).arguments(waits), [&common[..], words].concat());
        };
        let words = ["up", "--detach", "--pull=missing", "--build", "--wait", "--remove-orphans", "--", "web"];
        of(up.clone(), true, &words);
        of(up, false, &words.into_iter().filter(|w| *w != "--wait").collect::<Vec<_>>());
        of(Action::Down { volumes: false, remove_orphans: false }, true, &["down"]);
        of(Action::Down { volumes: true, remove_orphans: true }, true, &["down", "--volumes", "--remove-orphans"]);
        of(Action::CHECK, true, &["config"]);
        of(Action::Check { services: vec!["web".into()] }, true, &["config", "--", "web"]);
        let text = Composition { source: Source::Text("{}".into()), ..composition(Action::CHECK) };
        assert!(text.arguments(true).contains(&"--file=-".to_owned()));
    }

    proptest! {
        #[test]
        fn no_value_becomes_a_flag_and_no_secret_an_argument(
            directory in "/[ -~]{0,20}", profile in "[ -~]{1,10}", service in "[ -~]{1,10}", secret in "[a-z]{12}",
        ) {
            let up = Action::Up { services: vec![service], pull: None, build: None, wait: false, remove_orphans: false };
            let run = Composition {
                directory,
                profiles: vec![profile],
                env: vec![("S".into(), secret.clone())],
                source: Source::Text(secret.clone().into()),
                ..composition(up)
            };
            let argv = run.arguments(true);
            let flags: Vec<_> =
                argv.iter().take_while(|a| *a != "--").map(|a| a.split('=').next().unwrap_or_default()).collect();
            prop_assert_eq!(flags, ["--project-name", "--project-directory", "--file", "--profile", "up", "--detach"]);
            prop_assert!(!argv.iter().any(|a| a.contains(&secret)));
        }
    }
}

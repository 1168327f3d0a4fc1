//! A compose that runs where its engine does: the project in the words of that place, and images fetched before.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    super::{
        backend::Engine,
        host::{self, Host},
        types::*,
        validate,
    },
    Action, Composition, Source,
};
use crate::{
    call,
    error::Result,
    guest::Guest,
    process::Command,
    progress::{ComposeProgress, ComposeState, PullProgress, Sink},
};

/// Takes all variables away that a project's `${…}` could read, and makes those of the input: a line each (`NAME:base64`), up to an
/// empty one. The rest of the input is the program's. None of the values stands in an argument of ours.
const CLEARED: &str = r#"
for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
  case $name in PATH | HOME | LANG | PWD | XDG_RUNTIME_DIR | _) ;; *) unset "$name" ;; esac
done
while IFS= read -r line && [ -n "$line" ]; do
  value=$(printf %s "${line#*:}" | base64 -d && echo .) || exit 1
  export "${line%%:*}=${value%.}"
done
cd -- "$1" || exit 1
shift
exec "$@"
"#;

/// What runs `command`, a compose with the arguments of `run`, in an environment of the run's variables and `more`.
pub(crate) fn command(command: Command, run: &Composition, more: &[(&str, &str)]) -> Command {
    let script = ["/bin/sh", "-c", CLEARED, "sh", &run.directory].map(|word| word.as_bytes().to_vec());
    let argv = script.into_iter().chain(command.argv).collect();
    let mut input = String::new();
    let mut variable = |name: &str, value: &str| input.extend([name, ":", &STANDARD.encode(value), "\n"]);
    for (name, value) in &run.env {
        variable(name, value);
    }
    for (name, value) in more {
        variable(name, value);
    }
    // What lies in a directory by chance is no part of an object.
    if matches!(run.source, Source::Text(_)) {
        variable("COMPOSE_DISABLE_ENV_FILE", "1");
    }
    input.push('\n');
    let mut input = input.into_bytes();
    if let Source::Text(text) = &run.source {
        input.extend_from_slice(text);
    }
    Command { argv, ..command }.input(input)
}

/// The same in the words of the guest. `root`: how that is asked.
pub(crate) async fn seen_there(
    host: Option<&Arc<dyn Host>>,
    guest: &Arc<dyn Guest>,
    root: bool,
    run: &Composition,
) -> Result<Composition> {
    let mut run = run.clone();
    let Some(host) = host else { return Ok(run) };
    let there = async |field: &str, path: &str| host::path_in_guest(host, guest, root, field, path).await;
    match &mut run.source {
        Source::File(path) => {
            *path = there("project", path).await?;
            let (directory, _) = path.rsplit_once('/').unwrap_or_default();
            run.directory = if directory.is_empty() { "/".to_owned() } else { directory.to_owned() };
        }
        Source::Text(_) => match there("directory", &run.directory).await {
            Ok(directory) => run.directory = directory,
            // Few objects name a path that is relative to where this process happens to be.
            Err(_) if !run.directory_is_given => "/".clone_into(&mut run.directory),
            Err(e) => return Err(e),
        },
    }
    Ok(run)
}

/// As far as images go, what `config` makes of a project.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Resolved {
    services: BTreeMap<String, Service>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Service {
    image: Option<String>,
    build: Option<serde_norway::Value>,
    platform: Option<String>,
    pull_policy: Option<String>,
}

/// An image to fetch. `always`: also one that is there.
#[derive(Debug, PartialEq, Eq)]
struct Image {
    name: String,
    platform: Option<String>,
    always: bool,
}

impl Resolved {
    /// What cannot be read, compose fetches.
    fn of(config: &[u8]) -> Self {
        serde_norway::from_slice(config).unwrap_or_default()
    }

    /// `asked` counts for all services, as it does for compose.
    fn images(&self, asked: Option<ComposePull>) -> Vec<Image> {
        let image = |service: &Service| {
            let name = service.image.clone().filter(|_| service.build.is_none())?;
            let always = match (asked, service.pull_policy.as_deref()) {
                (Some(ComposePull::Never), _) | (None, Some("never" | "build")) => return None,
                (Some(ComposePull::Always), _) | (None, Some("always")) => true,
                _ => false,
            };
            let wanted = Image { name, platform: service.platform.clone(), always };
            validate::image("image", &wanted.name).is_ok().then_some(wanted)
        };
        let mut all = Vec::new();
        for wanted in self.services.values().filter_map(image) {
            if !all.contains(&wanted) {
                all.push(wanted);
            }
        }
        all
    }

    /// What compose is told of the images, once they are fetched.
    fn after(&self, asked: Option<ComposePull>) -> Option<ComposePull> {
        let policies = || self.services.values().filter_map(|service| service.pull_policy.as_deref());
        let fetches = policies().any(|policy| policy == "always");
        // Said of all services, it would count for those that want something else, too.
        let only = policies().all(|policy| matches!(policy, "always" | "missing" | "if_not_present"));
        match asked {
            Some(ComposePull::Never) => asked,
            // It would fetch them once more, and without credentials.
            _ if fetches && (asked.is_some() || only) => Some(ComposePull::Missing),
            _ => None,
        }
    }
}

/// Fetches the images that an `up` needs, by our own pull: it has the user's credentials, tells of bytes, and no other command waits
/// for it. `config` is what compose made of the project; compose is then not to fetch them anew.
pub(crate) async fn fetch(
    engine: &dyn Engine,
    run: &mut Composition,
    config: &[u8],
    sink: &Sink<ComposeProgress>,
) -> Result<()> {
    let gone = run.gone.clone();
    let Action::Up { pull, .. } = &mut run.action else { return Ok(()) };
    let resolved = Resolved::of(config);
    tokio::select! {
        fetched = all(engine, resolved.images(*pull), sink) => fetched?,
        () = gone.cancelled() => return Err(call::aborted()),
    }
    *pull = resolved.after(*pull);
    Ok(())
}

async fn all(engine: &dyn Engine, images: Vec<Image>, sink: &Sink<ComposeProgress>) -> Result<()> {
    for Image { name, platform, always } in images {
        if !always && engine.image_exists(&name, platform.as_deref()).await? {
            continue;
        }
        let of_image = |status: String, state| ComposeProgress {
            resource: format!("Image {name}"),
            ..ComposeProgress::whole(&status, state)
        };
        let (events, image) = (sink.clone(), name.clone());
        let told: Sink<PullProgress> = Arc::new(move |p: PullProgress| {
            let whole = ComposeProgress::whole(&p.status, ComposeState::Working);
            events(ComposeProgress { resource: format!("Image {image}"), current: p.current, total: p.total, ..whole });
        });
        let options = PullOptions { platform, ..PullOptions::default() };
        if let Err(e) = engine.pull(&name, &options, &told).await {
            sink(of_image(e.message().to_owned(), ComposeState::Failed));
            return Err(e);
        }
        sink(of_image("Pulled".to_owned(), ComposeState::Done));
    }
    Ok(())
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let resolved = Resolved::of(data);
    assert!(resolved.images(None).len() <= resolved.services.len());
    resolved.after(None);
    super::recipes::fuzz(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_project_reads_the_callers_variables_alone() {
        use std::io::Write;
        for shell in [&["sh"][..], &["bash", "--posix"], &["busybox", "sh"]] {
            let mut command = std::process::Command::new(shell[0]);
            command.args(&shell[1..]).args(["-c", CLEARED, "sh", "/tmp", "sh", "-c", "env | sort; pwd; cat"]);
            command.env_clear().env("PATH", "/usr/bin:/bin").env("COMPOSE_FILE", "x").env("OURS", "a\nB=c");
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
            let mut child = command.spawn().unwrap();
            let input = format!("A:{}\nB:\n\n{{\"services\": 1}}\n", STANDARD.encode("$x\n'y'\n"));
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
            assert!(out.contains("A=$x\n") && out.contains("'y'\n") && out.contains("\nB=\n"), "{shell:?}: {out}");
            assert!(!out.contains("COMPOSE_FILE") && !out.contains("OURS"), "{shell:?}: {out}");
            assert!(out.ends_with("/tmp\n{\"services\": 1}\n"), "{shell:?}: {out}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_program_gets_the_project_and_its_variables_where_it_runs() {
        use crate::{engine::ComposeOptions, guest::local::LocalGuest};
        let options = ComposeOptions {
            project_name: Some("demo".into()),
            directory: Some("/tmp".into()),
            env: [("TOKEN".to_owned(), "hunter2".to_owned())].into(),
            ..ComposeOptions::default()
        };
        let run = Composition::of((None, Some("{}")), &options, Action::CHECK).unwrap();
        let script = Command::new([
            "sh",
            "-c",
            r#"printf '%s ' "$@" "$PWD" "$TOKEN" "$DOCKER_HOST" "$COMPOSE_DISABLE_ENV_FILE"; cat"#,
            "sh",
            "-x",
        ]);
        let command = command(script, &run, &[("DOCKER_HOST", "unix:///x.sock")]);
        assert!(!command.argv.iter().any(|word| String::from_utf8_lossy(word).contains("hunter2")));
        let said = LocalGuest::new("").run(command).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "-x /tmp hunter2 unix:///x.sock 1 {}");
    }

    #[test]
    fn images_are_fetched_as_the_project_and_its_caller_say() {
        use ComposePull::{Always, Missing, Never};
        let resolved = Resolved::of(
            br#"{"services":{
                "a":{"image":"a"},"again":{"image":"a"},"built":{"image":"b","build":{"context":"."}},
                "fresh":{"image":"f","pull_policy":"always","platform":"linux/arm64"},"n":{"image":"n","pull_policy":"never"},
                "odd":{"image":"UPPER:"},"without":{}}}"#,
        );
        let of = |asked| -> Vec<(String, bool)> {
            resolved.images(asked).into_iter().map(|image| (image.name, image.always)).collect()
        };
        let list =
            |all: &[(&str, bool)]| all.iter().map(|(name, always)| ((*name).to_owned(), *always)).collect::<Vec<_>>();
        assert_eq!(of(None), list(&[("a", false), ("f", true)]));
        assert_eq!(of(Some(Missing)), list(&[("a", false), ("f", false), ("n", false)]));
        assert_eq!(of(Some(Always)), list(&[("a", true), ("f", true), ("n", true)]));
        assert_eq!(of(Some(Never)), []);
        let after = |asked, text: &str| Resolved::of(text.as_bytes()).after(asked);
        let plain = "services: {a: {image: a}, n: {image: n, pull_policy: never}}";
        let fresh = "services: {a: {image: a, pull_policy: always}, b: {image: b}}";
        let built = "services: {a: {image: a, pull_policy: always}, b: {build: {context: .}, pull_policy: build}}";
        for (asked, of_plain, of_fresh, of_built) in [
            (None, None, Some(Missing), None),
            (Some(Always), None, Some(Missing), Some(Missing)),
            (Some(Missing), None, Some(Missing), Some(Missing)),
            (Some(Never), Some(Never), Some(Never), Some(Never)),
        ] {
            assert_eq!(
                [plain, fresh, built].map(|text| after(asked, text)),
                [of_plain, of_fresh, of_built],
                "{asked:?}"
            );
        }
    }
}

//! Projects of compose, by nerdctl's own. It reads the project where it runs, and starts a nerdctl for each container.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    container::health,
    image::{images, pull},
    nerdctl::errors::{log_message, refusal, unquoted},
    prelude::*,
};
use crate::{
    call,
    engine::{
        compose::{Account, Action, Composition, Source, follow, no_service},
        host,
        registry::{self, Asked},
    },
    process::{Command, Exit, Output},
    progress::{self, ComposeProgress, ComposeState, PullProgress, Sink},
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
}

pub(crate) async fn compose(c: &Containerd, run: &Composition, sink: &Sink<ComposeProgress>) -> Result<()> {
    let mut run = seen_there(c, run).await?;
    // First: what is wrong with the project has no effect yet.
    let (exit, resolved, account) = once(c, &run.with(Action::Check), progress::ignore()).await?;
    if exit != Exit::Code(0) {
        let error = failure(exit, &account);
        let is_ours = error.code() == ErrorCode::EngineError;
        return Err(if is_ours { Error::invalid("project", account.fault()) } else { error });
    }
    if let Action::Up { services, pull, .. } = &mut run.action
        && services.is_empty()
        && *pull != Some(ComposePull::Never)
    {
        let always = pull.take() == Some(ComposePull::Always);
        tokio::select! {
            fetched = fetch(c, &resolved, always, sink) => fetched?,
            () = run.gone.cancelled() => return Err(call::aborted()),
        }
    }
    let turn = tokio::select! {
        turn = c.nerdctl.turn() => turn,
        () = run.gone.cancelled() => return Err(call::aborted()),
    };
    let (exit, _, account) = once(c, &run, sink.clone()).await?;
    drop(turn);
    if exit != Exit::Code(0) {
        return Err(no_service(&account.fault()).unwrap_or_else(|| failure(exit, &account)));
    }
    if matches!(run.action, Action::Up { .. }) { health::adopt(c).await } else { Ok(()) }
}

/// The same in the words of where nerdctl runs.
async fn seen_there(c: &Containerd, run: &Composition) -> Result<Composition> {
    let mut run = run.clone();
    let Some(host) = &c.settings.host else { return Ok(run) };
    let there = async |field: &str, path: &str| {
        host::path_in_guest(host, &c.settings.guest, c.settings.root, field, path).await
    };
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

/// Fetches the images that are not there, by our own pull: it has the user's credentials, tells of bytes, and no other command waits
/// for it.
async fn fetch(c: &Containerd, resolved: &[u8], always: bool, sink: &Sink<ComposeProgress>) -> Result<()> {
    // What cannot be read, nerdctl fetches.
    let resolved: Resolved = serde_norway::from_slice(resolved).unwrap_or_default();
    for Service { image, build, platform } in resolved.services.into_values() {
        let Some(image) = image.filter(|_| build.is_none()) else { continue };
        if validate::image("image", &image).is_err()
            || !always && images::exists(c, &image, platform.as_deref()).await?
        {
            continue;
        }
        let of_image = |status: String, state| ComposeProgress {
            resource: format!("Image {image}"),
            ..ComposeProgress::whole(&status, state)
        };
        let (events, name) = (sink.clone(), image.clone());
        let told: Sink<PullProgress> = std::sync::Arc::new(move |p: PullProgress| {
            let whole = ComposeProgress::whole(&p.status, ComposeState::Working);
            events(ComposeProgress { resource: format!("Image {name}"), current: p.current, total: p.total, ..whole });
        });
        let options = PullOptions { platform, ..PullOptions::default() };
        if let Err(e) = pull::pull(c, &image, &options, &told).await {
            sink(of_image(e.message().to_owned(), ComposeState::Failed));
            return Err(e);
        }
        sink(of_image("Pulled".to_owned(), ComposeState::Done));
    }
    Ok(())
}

/// Its exit, standard output and account.
async fn once(c: &Containerd, run: &Composition, sink: Sink<ComposeProgress>) -> Result<(Exit, Vec<u8>, Account)> {
    let process = c.nerdctl.spawn(command(c, run)).await?;
    let mut account = Account::new(sink);
    // The run itself warns of the same.
    let warns = !matches!(run.action, Action::Check);
    let (exit, out) = follow(process, &run.gone, |line| read(&mut account, line, warns)).await?;
    Ok((exit, out, account))
}

fn command(c: &Containerd, run: &Composition) -> Command {
    let command = c.nerdctl.command(std::iter::once("compose".to_owned()).chain(run.arguments(false)));
    let script = ["/bin/sh", "-c", CLEARED, "sh", &run.directory].map(|word| word.as_bytes().to_vec());
    let argv = script.into_iter().chain(command.argv).collect();
    let mut input = String::new();
    let mut variable = |name: &str, value: &str| input.extend([name, ":", &STANDARD.encode(value), "\n"]);
    for (name, value) in &run.env {
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

/// Reads a line of its log.
fn read(account: &mut Account, line: &str, warns: bool) {
    let Some((level, message)) = log_message(line) else { return account.keep(line) };
    let message = unquoted(message);
    match level {
        "fatal" | "error" => account.fails(message),
        "warning" if warns && !is_false(&message) => account.warn(&message),
        // A command line, with the values of variables.
        "info" if !message.starts_with("Running [") => happens(account, &message),
        _ => {}
    }
}

/// nerdctl warns of what it, or the library that it reads projects with, has heeded (docs/reference/nerdctl.md#compose).
fn is_false(warning: &str) -> bool {
    let ignored = warning.strip_prefix("Ignoring: service ");
    ignored.is_some_and(|w| w.ends_with(": [EnvFiles]") || w.contains(": depends_on: ") && w.ends_with(": [Required]"))
        || warning == "Ignoring: [Profiles]"
        || warning.ends_with("already exists and will be returned as-is")
}

/// `Creating container demo-web-1`.
fn happens(account: &mut Account, message: &str) {
    let mut words = message.split_whitespace();
    let event = match (words.next(), words.next(), words.next()) {
        (Some(verb), Some(kind @ ("container" | "network" | "volume" | "image")), Some(name)) => {
            account.image = (kind == "image").then(|| name.to_owned());
            let (first, rest) = kind.split_at(1);
            let resource = format!("{}{rest} {name}", first.to_uppercase());
            ComposeProgress { resource, ..ComposeProgress::whole(verb, ComposeState::Working) }
        }
        _ => ComposeProgress::whole(message, ComposeState::Working),
    };
    account.event(event);
}

fn failure(exit: Exit, account: &Account) -> Error {
    let said = account.fault();
    // As nerdctl writes it in its log; its own words may hold the values of variables.
    let stderr = format!("time=\"\" level=fatal msg={said:?}").into_bytes();
    let output = Output { exit, stdout: Vec::new(), stderr };
    match &account.image {
        Some(image) => registry::explain(Asked::Pull, image, refusal(About::Image(image), &output)),
        None => refusal(About::Engine, &output),
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let mut account = Account::new(progress::ignore());
    for line in String::from_utf8_lossy(data).lines() {
        read(&mut account, line, true);
    }
    assert!(!failure(Exit::Code(1), &account).message().is_empty());
    _ = serde_norway::from_slice::<Resolved>(data);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mutex::Mutex;

    /// As 2.3.5 said it.
    #[test]
    fn its_lines_without_its_command_lines() {
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = events.clone();
        let mut account =
            Account::new(Arc::new(move |e: ComposeProgress| seen.lock().push((e.resource, e.status, e.state))));
        for line in [
            r#"time="2026-11-30T05:20:01Z" level=info msg="Creating network demo_default""#,
            r#"time="2026-11-30T05:20:01Z" level=warning msg="Ignoring: service web: [Foo]""#,
            r#"time="2026-11-30T05:20:01Z" level=warning msg="Ignoring: service web: depends_on: db: [Required]""#,
            r#"time="2026-11-30T05:20:01Z" level=warning msg="volume \"demo_data\" already exists and will be returned as-is""#,
            r#"time="2026-11-30T05:20:01Z" level=info msg="Ensuring image busybox""#,
            r#"time="2026-11-30T05:20:02Z" level=info msg="Running [/usr/bin/nerdctl run -e=TOKEN=hunter2 busybox]""#,
            r#"time="2026-11-30T05:20:02Z" level=fatal msg="error while creating container demo-web-1: exit status 1""#,
        ] {
            read(&mut account, line, true);
        }
        let failure = failure(Exit::Code(1), &account);
        let told = std::mem::take(&mut *events.lock());
        assert!(!format!("{told:?}{}{failure:?}", account.said()).contains("hunter2"));
        let of = |resource: &str, status: &str, state| (resource.to_owned(), status.to_owned(), state);
        let all = [
            of("Network demo_default", "Creating", ComposeState::Working),
            of("", "Ignoring: service web: [Foo]", ComposeState::Warning),
            of("Image busybox", "Ensuring", ComposeState::Working),
            of("", "error while creating container demo-web-1: exit status 1", ComposeState::Failed),
        ];
        assert_eq!(told, all);
        assert!(failure.message().contains("error while creating container demo-web-1"), "{failure}");
    }

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
}

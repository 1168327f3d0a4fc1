//! Projects of compose, by nerdctl's own. It reads the project where it runs, and starts a nerdctl for each container.

use super::{
    container::health,
    nerdctl::errors::{log_message, refusal, unquoted},
    prelude::*,
    settings::Settings,
};
use crate::{
    call,
    engine::{
        Engine,
        compose::{Account, Action, Composition, follow, no_service, there},
        registry::{self, Asked},
    },
    process::{Command, Exit, Output},
    progress::{self, ComposeProgress, ComposeState, Sink},
};

/// `engine` is the one of `c`.
pub(crate) async fn compose(
    engine: &dyn Engine,
    c: &Containerd,
    run: &Composition,
    sink: &Sink<ComposeProgress>,
) -> Result<()> {
    let Settings { host, guest, root, .. } = &*c.settings;
    let mut run = there::seen_there(host.as_ref(), guest, *root, run).await?;
    // First: what is wrong with the project has no effect yet.
    let (exit, config, account) = once(c, &run.with(Action::CHECK), progress::ignore()).await?;
    if exit != Exit::Code(0) {
        let error = failure(exit, &account);
        let is_ours = error.code() == ErrorCode::EngineError;
        return Err(if is_ours { Error::invalid("project", account.fault()) } else { error });
    }
    // What some services need beside them, nerdctl knows.
    if matches!(&run.action, Action::Up { services, .. } if services.is_empty()) {
        there::fetch(engine, &mut run, &config, sink).await?;
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

/// Its exit, standard output and account.
async fn once(c: &Containerd, run: &Composition, sink: Sink<ComposeProgress>) -> Result<(Exit, Vec<u8>, Account)> {
    let process = c.nerdctl.spawn(command(c, run)).await?;
    let mut account = Account::new(sink);
    // The run itself warns of the same.
    let warns = !matches!(run.action, Action::Check { .. });
    let (exit, out) = follow(process, &run.gone, |line| read(&mut account, line, warns)).await?;
    Ok((exit, out, account))
}

fn command(c: &Containerd, run: &Composition) -> Command {
    let command = c.nerdctl.command(std::iter::once("compose".to_owned()).chain(run.arguments(false)));
    there::command(command, run, &[])
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
    there::fuzz(data);
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
}

//! Chooses a runtime from what is wanted and what was found.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{detect::Detection, options::Preference};
use crate::{
    call::{CONTAINER_CALL, Call},
    engine::types::RuntimeType,
    env_vars,
    error::{Error, ErrorCode, Result},
    fetch::{disk, lock::Lock, owner},
    task,
};

/// Who asked for the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DecidedBy {
    /// `KAI_CONTAINER_RUNTIME`.
    Environment,
    Constructor,
    /// `<appDir>/runtime.json`.
    Saved,
    /// Nobody asked: whichever is there.
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    preference: Preference,
    source: DecidedBy,
}

/// The result of [`super::ContainerManager::select`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    #[serde(rename = "type")]
    pub runtime: RuntimeType,
    pub source: DecidedBy,
    /// It must be downloaded first.
    pub install: bool,
    /// Why it is not the requested one; ready to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

pub(super) fn request(constructor: Option<Preference>, saved: Option<Preference>) -> Result<Request> {
    resolve(env_vars::get(env_vars::KAI_CONTAINER_RUNTIME).as_deref(), constructor, saved)
}

fn resolve(environment: Option<&str>, constructor: Option<Preference>, saved: Option<Preference>) -> Result<Request> {
    if let Some(name) = environment {
        let preference = Preference::parse(name).ok_or_else(|| {
            let name: String = name.chars().take(60).collect();
            Error::invalid(env_vars::KAI_CONTAINER_RUNTIME, format!("{name:?} is no runtime"))
                .hint("Use docker, containerd, lima or auto, or unset the variable.")
        })?;
        return Ok(Request { preference, source: DecidedBy::Environment });
    }
    let of = |preference: Option<Preference>, source| preference.map(|preference| Request { preference, source });
    // An application that passes 'auto' leaves the choice to the person.
    let constructor = constructor.filter(|p| *p != Preference::Auto);
    Ok(of(constructor, DecidedBy::Constructor)
        .or_else(|| of(saved, DecidedBy::Saved))
        .unwrap_or(Request { preference: Preference::Auto, source: DecidedBy::Auto }))
}

/// The order in which 'auto' tries them.
fn order(macos: bool) -> [RuntimeType; 3] {
    use RuntimeType::{Containerd, Docker, Lima};
    if macos { [Docker, Lima, Containerd] } else { [Docker, Containerd, Lima] }
}

pub(super) fn choose(request: Request, found: &Detection, install_if_missing: bool) -> Result<Selection> {
    let source = if request.preference == Preference::Auto { DecidedBy::Auto } else { request.source };
    let take = |runtime, explanation: Option<String>| {
        let usable = found.usable(runtime);
        (usable || (install_if_missing && found.installable(runtime))).then_some(Selection {
            runtime,
            source,
            install: !usable,
            explanation,
        })
    };
    let mut explanation = None;
    if let Some(runtime) = request.preference.runtime() {
        if let Some(selection) = take(runtime, None) {
            return Ok(selection);
        }
        let why = found.reason(runtime);
        // A variable asks for exactly that runtime: no other one, but an error.
        if request.source == DecidedBy::Environment {
            let code = if found.installable(runtime) { ErrorCode::NotInstalled } else { ErrorCode::EngineUnreachable };
            let name = name(runtime);
            return Err(Error::new(code, format!("{} asks for {name}: {why}", env_vars::KAI_CONTAINER_RUNTIME))
                .hint("Make it available, or unset the variable."));
        }
        explanation = Some(format!("{} was chosen, but cannot be used now: {why}.", name(runtime)));
    }
    let order = order(cfg!(target_os = "macos"));
    let usable = order.into_iter().find(|t| found.usable(*t));
    // A download is chosen only when nothing is usable.
    let next = usable.or_else(|| order.into_iter().find(|t| take(*t, None).is_some()));
    match next {
        Some(runtime) => {
            let explanation = explanation.map(|e| format!("{e} {} is used instead.", name(runtime)));
            let source = DecidedBy::Auto;
            Ok(Selection { runtime, source, install: usable.is_none(), explanation })
        }
        None => Err(nothing(found)),
    }
}

fn nothing(found: &Detection) -> Error {
    let reasons: Map<String, Value> =
        found.details.iter().map(|d| (key(d.runtime), found.reason(d.runtime).into())).collect();
    let installable = order(cfg!(target_os = "macos")).into_iter().find(|t| found.installable(*t));
    let hint = match installable {
        Some(runtime) => format!("Install {} (installIfMissing, or switchRuntime), or start Docker.", name(runtime)),
        None => "Install Docker and start it.".to_owned(),
    };
    Error::new(ErrorCode::NotInstalled, "No container runtime can be used on this machine")
        .detail("reasons", reasons)
        .hint(hint)
}

pub(super) fn name(runtime: RuntimeType) -> &'static str {
    match runtime {
        RuntimeType::Docker => "Docker",
        RuntimeType::Containerd => "containerd",
        RuntimeType::Lima => "Lima",
    }
}

const RUNTIME_KEY: &str = "runtime";

fn file(app_dir: &Path) -> PathBuf {
    app_dir.join("runtime.json")
}

/// The saved choice, and what was wrong with its file, ready to show.
pub(super) async fn read(app_dir: &Path) -> Result<(Option<Preference>, Option<String>)> {
    let path = file(app_dir);
    task::blocking(move || Ok(read_now(&path))).await
}

fn read_now(path: &Path) -> (Option<Preference>, Option<String>) {
    match load(path) {
        Ok(values) => match values.get(RUNTIME_KEY) {
            None => (None, None),
            Some(value) => match value.as_str().and_then(Preference::parse) {
                Some(preference) => (Some(preference), None),
                None => (None, Some(format!("The saved runtime in {} is none that we know.", path.display()))),
            },
        },
        Err(said) => (None, Some(said)),
    }
}

/// What the file holds. A broken file is renamed: its owner may need it, we must not.
fn load(path: &Path) -> Result<Map<String, Value>, String> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(format!("{} cannot be read: {e}.", path.display())),
    };
    serde_json::from_slice(&text).map_err(|e| {
        let aside = path.with_extension("json.broken");
        let moved = std::fs::rename(path, &aside);
        tracing::warn!(path = %path.display(), %e, ?moved, "broken, set aside");
        format!("{} was broken, and is now {}.", path.display(), aside.display())
    })
}

pub(super) async fn write(app_dir: &Path, preference: Preference, call: &Call) -> Result<()> {
    change(app_dir, call, move |values| drop(values.insert(RUNTIME_KEY.to_owned(), serde_json::json!(preference))))
        .await
}

/// How long each runtime took to start, shown to a person who waits for the next start.
const LAST_STARTS_KEY: &str = "lastStartMs";

pub(super) async fn write_start(app_dir: &Path, runtime: RuntimeType, ms: u64, call: &Call) -> Result<()> {
    change(app_dir, call, move |values| {
        // Another program's value is left alone.
        if let Value::Object(starts) = values.entry(LAST_STARTS_KEY).or_insert_with(|| Map::new().into()) {
            starts.insert(key(runtime), ms.into());
        }
    })
    .await
}

pub(super) async fn starts(app_dir: &Path) -> Result<impl Fn(RuntimeType) -> Option<u64> + use<>> {
    let path = file(app_dir);
    // A broken file is ignored here; `read` reports it.
    let values = task::blocking(move || Ok(disk::read_json::<Map<String, Value>>(&path).unwrap_or_default())).await?;
    Ok(move |runtime| values.get(LAST_STARTS_KEY)?.get(key(runtime))?.as_u64())
}

fn key(runtime: RuntimeType) -> String {
    name(runtime).to_lowercase()
}

async fn change(
    app_dir: &Path,
    call: &Call,
    edit: impl FnOnce(&mut Map<String, Value>) + Send + 'static,
) -> Result<()> {
    let lock = Lock::acquire(&app_dir.join("runtime.lock"), owner::check, call, Some(CONTAINER_CALL)).await?;
    let path = file(app_dir);
    // Not cancelled half-way: it is too short for that.
    task::blocking(move || {
        let _lock = lock;
        let mut values = load(&path).unwrap_or_default();
        edit(&mut values);
        disk::write_json(&path, &values)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Detail, State},
        *,
    };

    fn found(docker: State, containerd: State, lima: State) -> Detection {
        let detail = |runtime, state| Detail { reason: Some("for a reason".into()), ..Detail::new(runtime, state) };
        Detection::of(vec![
            detail(RuntimeType::Docker, docker),
            detail(RuntimeType::Containerd, containerd),
            detail(RuntimeType::Lima, lima),
        ])
    }

    fn requested(preference: Preference, source: DecidedBy) -> Request {
        Request { preference, source }
    }

    #[test]
    fn the_environment_goes_before_the_constructor_and_that_before_the_saved_choice() {
        use Preference::{Auto, Containerd, Docker, Lima};
        let of = |e, c, s| resolve(e, c, s).map(|w| (w.preference, w.source)).unwrap();
        assert_eq!(of(Some("lima"), Some(Docker), Some(Containerd)), (Lima, DecidedBy::Environment));
        assert_eq!(of(Some("auto"), Some(Docker), Some(Containerd)), (Auto, DecidedBy::Environment));
        assert_eq!(of(None, Some(Docker), Some(Containerd)), (Docker, DecidedBy::Constructor));
        assert_eq!(of(None, Some(Auto), Some(Containerd)), (Containerd, DecidedBy::Saved));
        assert_eq!(of(None, None, None), (Auto, DecidedBy::Auto));
        let e = resolve(Some("podman"), None, None).unwrap_err();
        assert_eq!(
            (e.code(), e.details()["field"].as_str()),
            (ErrorCode::InvalidArgument, Some("KAI_CONTAINER_RUNTIME"))
        );
    }

    #[test]
    fn auto_takes_docker_then_what_is_there_and_downloads_only_when_allowed() {
        use State::{Installable, Ready, Stopped, Unavailable};
        let auto = requested(Preference::Auto, DecidedBy::Auto);
        let pick = |f: &Detection, install| choose(auto, f, install).map(|s| (s.runtime, s.install));
        assert_eq!(pick(&found(Ready, Ready, Ready), true).unwrap(), (RuntimeType::Docker, false));
        assert_eq!(pick(&found(Unavailable, Installable, Stopped), true).unwrap(), (RuntimeType::Lima, false));
        let only_download = found(Unavailable, Unavailable, Installable);
        assert_eq!(pick(&only_download, true).unwrap(), (RuntimeType::Lima, true));
        let e = pick(&only_download, false).unwrap_err();
        assert_eq!(e.code(), ErrorCode::NotInstalled);
        assert!(e.hint_text().unwrap().contains("Lima"), "{:?}", e.hint_text());
        assert_eq!(e.details()["reasons"]["docker"], "for a reason");
        assert_eq!(order(true)[1], RuntimeType::Lima);
        assert_eq!(order(false)[1], RuntimeType::Containerd);
    }

    #[test]
    fn a_choice_that_cannot_be_used_falls_back_and_says_so_but_a_variable_does_not() {
        use State::{Installable, Ready, Unavailable};
        let f = found(Ready, Unavailable, Installable);
        let s = choose(requested(Preference::Lima, DecidedBy::Saved), &f, false).unwrap();
        assert_eq!((s.runtime, s.source, s.install), (RuntimeType::Docker, DecidedBy::Auto, false));
        let said = s.explanation.unwrap();
        assert!(said.contains("Lima was chosen") && said.ends_with("Docker is used instead."), "{said}");
        // Wanted and allowed to be installed: it is chosen.
        let s = choose(requested(Preference::Lima, DecidedBy::Saved), &f, true).unwrap();
        assert_eq!((s.runtime, s.install, s.explanation), (RuntimeType::Lima, true, None));
        let e = choose(requested(Preference::Lima, DecidedBy::Environment), &f, false).unwrap_err();
        assert_eq!(e.code(), ErrorCode::NotInstalled);
        let e = choose(requested(Preference::Containerd, DecidedBy::Environment), &f, true).unwrap_err();
        assert_eq!(e.code(), ErrorCode::EngineUnreachable);
    }

    #[tokio::test]
    async fn the_choice_is_kept_beside_what_others_keep_and_a_broken_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let app = dir.path().join("new/app");
        let call = Call::default();
        assert_eq!(read(&app).await.unwrap(), (None, None));
        write(&app, Preference::Docker, &call).await.unwrap();
        assert_eq!(read(&app).await.unwrap(), (Some(Preference::Docker), None));
        std::fs::write(file(&app), r#"{ "theirs": { "a": [1, 2] }, "runtime": "podman" }"#).unwrap();
        let (preference, said) = read(&app).await.unwrap();
        assert_eq!(preference, None);
        assert!(said.unwrap().contains("none that we know"));
        write(&app, Preference::Auto, &call).await.unwrap();
        let kept: Value = serde_json::from_slice(&std::fs::read(file(&app)).unwrap()).unwrap();
        assert_eq!(kept, serde_json::json!({ "theirs": { "a": [1, 2] }, "runtime": "auto" }));
        write_start(&app, RuntimeType::Lima, 1234, &call).await.unwrap();
        write_start(&app, RuntimeType::Containerd, 5, &call).await.unwrap();
        let of = starts(&app).await.unwrap();
        assert_eq!(
            [of(RuntimeType::Lima), of(RuntimeType::Containerd), of(RuntimeType::Docker)],
            [Some(1234), Some(5), None]
        );
        assert_eq!(read(&app).await.unwrap().0, Some(Preference::Auto));
        std::fs::write(file(&app), r#"{ "lastStartMs": "theirs" }"#).unwrap();
        write_start(&app, RuntimeType::Lima, 1234, &call).await.unwrap();
        assert_eq!(starts(&app).await.unwrap()(RuntimeType::Lima), None);
        for broken in ["", "{", "[1]", "null", "{\"runtime\": \"docker\"", "\u{0}"] {
            std::fs::write(file(&app), broken).unwrap();
            let (preference, said) = read(&app).await.unwrap();
            assert_eq!(preference, None, "{broken}");
            assert!(said.unwrap().contains("runtime.json.broken"));
            assert_eq!(std::fs::read_to_string(app.join("runtime.json.broken")).unwrap(), broken);
            assert!(!file(&app).exists());
        }
        write(&app, Preference::Lima, &call).await.unwrap();
        assert_eq!(read(&app).await.unwrap().0, Some(Preference::Lima));
    }
}

//! The checks of a project and its options.

use std::{collections::BTreeMap, fmt::Write, io::Read, path::Path};

use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{types::*, validate},
    Action, Composition, Source,
};
use crate::error::{Error, ErrorCode, Result};

/// As long as a file of compose's may be, and an object.
const LONGEST: u64 = 1 << 20;
/// What of a project's name fits into the names of its containers, which are names of hosts.
const LONGEST_NAME: usize = 63;
/// A variable whose name begins so leads compose, or what it runs, elsewhere: git for a remote part of a project, a credential
/// helper, the programs' own libraries. Windows knows no case.
const STEERING: [&str; 15] = [
    "COMPOSE_",
    "DOCKER_",
    "BUILDKIT_",
    "BUILDX_",
    "CONTAINERD_",
    "NERDCTL_",
    "LD_",
    "DYLD_",
    "XDG_",
    "GIT_",
    "SSH_",
    "SSL_",
    "DBUS_",
    "OTEL_",
    "GODEBUG",
];
const STEERING_NAMES: [&str; 25] = [
    "PATH",
    "HOME",
    "PWD",
    "IFS",
    "ENV",
    "CNI_PATH",
    "NETCONFPATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "TMPDIR",
    "TEMP",
    "TMP",
    "BASH_ENV",
    "SYSTEMROOT",
    "WINDIR",
    "COMSPEC",
    "PATHEXT",
    "USERPROFILE",
    "APPDATA",
    "LOCALAPPDATA",
    "PROGRAMDATA",
    "PROGRAMFILES",
    "SYSTEMDRIVE",
];

impl Composition {
    /// Reads the file's name alone: not for the runtime's threads.
    pub(crate) fn of(
        (file, object): (Option<&str>, Option<&str>),
        ComposeOptions { project_name, directory, env, profiles }: &ComposeOptions,
        action: Action,
    ) -> Result<Self> {
        let given = directory.is_some();
        let (source, directory, own_name) = match (file, object) {
            (Some(path), None) => {
                if directory.is_some() {
                    let problem = "is for an object: what a file says is relative to the directory that it lies in";
                    return Err(Error::invalid("directory", problem));
                }
                of_file(path)?
            }
            (None, Some(text)) => of_object(text, directory.as_deref())?,
            _ => return Err(Error::invalid("project", "must be the path of a file, or an object")),
        };
        let name = match project_name.as_ref().or(own_name.as_ref()) {
            Some(name) => {
                let field = if project_name.is_some() { "projectName" } else { "name" };
                project_name_is_valid(field, name)?;
                name.clone()
            }
            None => match &source {
                Source::File(_) => named_after(&directory)?,
                Source::Text(_) => {
                    return Err(Error::invalid("projectName", "an object needs one, or a `name` of its own"));
                }
            },
        };
        variables(env)?;
        let words = |field: &str, all: &[String]| {
            let mut each = all.iter().enumerate();
            each.try_for_each(|(i, word)| word_of_a_project(&format!("{field}[{i}]"), word))
        };
        words("profiles", profiles)?;
        if let Action::Up { services, .. } = &action {
            words("services", services)?;
        }
        Ok(Self {
            name,
            directory_is_given: given || matches!(source, Source::File(_)),
            source,
            directory,
            env: env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            profiles: profiles.clone(),
            action,
            gone: tokio_util::sync::CancellationToken::new(),
            takes_back: false,
        })
    }
}

/// Compose's rule for a service's name. One that begins with a dash is none of ours.
fn word_of_a_project(field: &str, word: &str) -> Result<()> {
    let letters = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if letters && !word.is_empty() && word.len() <= 253 && !word.starts_with('-') {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{} is not a name: letters a-z A-Z 0-9 . _ -", validate::shown(word))))
}

fn project_name_is_valid(field: &str, name: &str) -> Result<()> {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let letters = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c));
    if begins && letters && name.len() <= LONGEST_NAME {
        return Ok(());
    }
    let problem = format!("{} is not a project's name: {LONGEST_NAME} of a-z 0-9 _ -", validate::shown(name));
    Err(Error::invalid(field, problem).hint("It begins with a letter or a digit."))
}

/// As compose names a project that has no name: by the directory's.
fn named_after(directory: &str) -> Result<String> {
    let base = Path::new(directory).file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String =
        base.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(*c)).collect();
    let name = name.trim_start_matches(['-', '_']);
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(Error::invalid("projectName", format!("{directory} gives none: say one")));
    }
    Ok(name.to_owned())
}

fn variables(env: &BTreeMap<String, String>) -> Result<()> {
    for name in env.keys() {
        let field = || format!("env.{}", validate::shown_key(name));
        let letters = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
        if name.is_empty() || !name.chars().enumerate().all(letters) {
            return Err(Error::invalid(field(), "a project refers to variables of the letters A-Z a-z 0-9 _"));
        }
        let upper = name.to_ascii_uppercase();
        if STEERING.iter().any(|begins| upper.starts_with(begins)) || STEERING_NAMES.contains(&upper.as_str()) {
            let problem = "steers compose itself: a project has options, and values by other names";
            return Err(Error::invalid(field(), problem));
        }
    }
    validate::env("env", env)
}

type Found = (Source, String, Option<String>);

fn of_file(path: &str) -> Result<Found> {
    let bad = |problem: String| Error::invalid("project", problem);
    validate::file("project", path)?;
    if path == "-" || path.contains("://") || path.starts_with("git@") {
        let problem = format!("{} is not the path of a file of this computer", validate::shown(path));
        return Err(bad(problem).hint("Fetch it first. What is elsewhere is nobody's word for what runs here."));
    }
    let whole = std::path::absolute(path).map_err(|e| bad(e.to_string()))?;
    let whole = whole.to_str().ok_or_else(|| bad("its path is no text".to_owned()))?.to_owned();
    let cannot = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::PermissionDenied => Error::io(e, "Cannot read", Path::new(&whole)),
        _ => bad(format!("cannot read {whole}: {e}")).source(e),
    };
    // Of a pipe without a writer even the opening would wait.
    let meta = std::fs::metadata(&whole).map_err(cannot)?;
    if !meta.is_file() {
        return Err(bad(format!("{whole} is not a file")).hint("Name the file itself, for example compose.yaml in it."));
    }
    if meta.len() > LONGEST {
        return Err(bad(format!("{whole} has {} bytes, and may have {LONGEST}", meta.len())));
    }
    // No more than that of one that grows, or whose length nobody knows: those in /proc have none.
    let mut text = Vec::new();
    std::fs::File::open(&whole).and_then(|f| f.take(LONGEST + 1).read_to_end(&mut text)).map_err(cannot)?;
    if text.len() as u64 > LONGEST {
        return Err(bad(format!("{whole} may have {LONGEST} bytes, and has more")));
    }
    let own_name = name_in(&text)?;
    let directory = Path::new(&whole).parent().unwrap_or(Path::new("/")).display().to_string();
    Ok((Source::File(whole), directory, own_name))
}

/// The name that a file gives the project. What else is wrong in it, compose says.
fn name_in(text: &[u8]) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Top {
        name: Option<serde_norway::Value>,
    }
    let mut last = None;
    for document in serde_norway::Deserializer::from_slice(text) {
        let Ok(top) = Top::deserialize(document) else { break };
        last = top.name.or(last);
    }
    match last {
        None | Some(serde_norway::Value::Null) => Ok(None),
        Some(serde_norway::Value::String(name)) if !name.contains('$') => Ok(Some(name)),
        Some(_) => Err(Error::invalid("projectName", "the file's own `name` is not known before compose reads it")
            .hint("Say projectName: it is the one that counts.")),
    }
}

fn of_object(text: &str, directory: Option<&str>) -> Result<Found> {
    if text.len() as u64 > LONGEST {
        return Err(Error::invalid("project", format!("has {} bytes, and may have {LONGEST}", text.len())));
    }
    let value: Value = serde_json::from_str(text).map_err(|e| Error::invalid("project", e))?;
    let own_name = match value.get("name") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.clone()),
        Some(_) => return Err(Error::invalid("name", "must be a string")),
    };
    if !value.is_object() {
        return Err(Error::invalid("project", "must be the path of a file, or an object"));
    }
    let directory = match directory {
        Some(given) => {
            validate::file("directory", given)?;
            std::path::absolute(given)
        }
        None => std::env::current_dir(),
    };
    let directory = directory.map_err(|e| Error::invalid("directory", e))?;
    if !directory.is_dir() {
        let problem = format!("{} is not a directory", directory.display());
        return Err(
            Error::new(ErrorCode::InvalidArgument, format!("directory: {problem}")).detail("field", "directory")
        );
    }
    let directory = directory.to_str().ok_or_else(|| Error::invalid("directory", "its path is no text"))?.to_owned();
    Ok((Source::Text(as_yaml(text).into()), directory, own_name))
}

/// JSON's text as YAML reads it the same: YAML takes some letters that JSON leaves as they are for ends of lines, and refuses others.
fn as_yaml(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn down() -> Action {
        Action::Down { volumes: false, remove_orphans: false }
    }

    fn field(of: Result<Composition>) -> String {
        let e = of.err().expect("refused");
        assert_eq!(e.code(), ErrorCode::InvalidArgument, "{e}");
        e.details()["field"].as_str().unwrap().to_owned()
    }

    fn options(change: impl FnOnce(&mut ComposeOptions)) -> ComposeOptions {
        let mut options = ComposeOptions { project_name: Some("demo".into()), ..ComposeOptions::default() };
        change(&mut options);
        options
    }

    #[test]
    fn names_of_projects() {
        for good in ["a", "0", "my-app_2"] {
            project_name_is_valid("projectName", good).unwrap();
        }
        for bad in ["", "A", "-a", "_a", "a.b", "../a", "a b", "ä", "a\n", &"a".repeat(64)] {
            assert_eq!(
                field(Composition::of((None, Some("{}")), &options(|o| o.project_name = Some(bad.into())), down())),
                "projectName"
            );
        }
        assert_eq!(named_after("/srv/_My.App 2").unwrap(), "myapp2");
        assert!(named_after("/").is_err() && named_after("/srv/日本").is_err());
    }

    #[test]
    fn the_name_of_a_file_is_the_projects() {
        let name = |text: &str| name_in(text.as_bytes()).map_err(|e| e.details()["field"].clone());
        assert_eq!(name("services: {}\n"), Ok(None));
        assert_eq!(name("name: demo\nservices:\n  a: !reset null\n"), Ok(Some("demo".into())));
        assert_eq!(name("name: one\n---\nservices: {}\n---\nname: two\n"), Ok(Some("two".into())));
        // Compose says what is wrong with it.
        assert_eq!(name("\t: ["), Ok(None));
        for unknown in ["name: ${X}", "name: [a]", "name: 7"] {
            assert_eq!(name(unknown), Err("projectName".into()), "{unknown}");
        }
    }

    #[test]
    fn a_file_is_a_file_of_this_computer() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("compose.yaml");
        std::fs::write(&file, "name: demo\n").unwrap();
        let of = |path: &str| Composition::of((Some(path), None), &ComposeOptions::default(), down());
        let found = of(file.to_str().unwrap()).unwrap();
        assert_eq!((found.name.as_str(), found.directory.as_str()), ("demo", dir.path().to_str().unwrap()));
        let elsewhere = ["-", "https://example.com/c.yaml", "oci://r.example/app", "git@example.com:a/b.git", ""];
        for bad in elsewhere.into_iter().chain([dir.path().to_str().unwrap(), "/dev/null/c.yaml", "a\0b"]) {
            assert_eq!(field(of(bad)), "project", "{bad}");
        }
        let with = options(|o| o.directory = Some("/".into()));
        assert_eq!(field(Composition::of((Some(file.to_str().unwrap()), None), &with, down())), "directory");
    }

    #[test]
    fn options_that_cannot_be() {
        let of = |change: fn(&mut ComposeOptions)| field(Composition::of((None, Some("{}")), &options(change), down()));
        assert_eq!(of(|o| o.project_name = None), "projectName");
        assert_eq!(of(|o| o.directory = Some("/dev/null/none".into())), "directory");
        assert_eq!(of(|o| o.profiles = vec!["a".into(), "--help".into()]), "profiles[1]");
        for name in [
            "COMPOSE_FILE",
            "DOCKER_HOST",
            "LD_PRELOAD",
            "PATH",
            "HOME",
            "a-b",
            "1a",
            "",
            "A=B",
            "GIT_SSH_COMMAND",
            "Path",
            "docker_host",
            "https_proxy",
            "SSL_CERT_FILE",
            "UserProfile",
            "DBUS_SESSION_BUS_ADDRESS",
        ] {
            let set = |o: &mut ComposeOptions| _ = o.env.insert(name.to_owned(), String::new());
            let refused = field(Composition::of((None, Some("{}")), &options(set), down()));
            assert!(refused.starts_with("env."), "{refused}");
        }
        let up =
            Action::Up { services: vec!["-f".into()], pull: None, build: None, wait: false, remove_orphans: false };
        assert_eq!(field(Composition::of((None, Some("{}")), &options(|_| ()), up)), "services[0]");
        for object in ["[]", "1", "{"] {
            assert_eq!(field(Composition::of((None, Some(object)), &options(|_| ()), down())), "project");
        }
        assert_eq!(field(Composition::of((None, Some(r#"{"name":1}"#)), &options(|_| ()), down())), "name");
    }

    proptest! {
        #[test]
        fn an_object_is_the_same_as_yaml(text in any::<String>()) {
            let json = serde_json::json!({ "services": { "a": { "command": text } } });
            let yaml: Value = serde_norway::from_str(&as_yaml(&json.to_string())).unwrap();
            prop_assert_eq!(yaml, json);
        }
    }
}

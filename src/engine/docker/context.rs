//! Docker contexts: `config.json` names the current one, `contexts/meta/<sha256 of its name>/meta.json` describes it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{endpoint::Endpoint, tls::Tls};
use crate::{
    engine::types::APP_LABEL,
    env_vars,
    error::{Error, ErrorCode, Result},
    fetch::disk,
};

/// The context that is none: the engine is found without one.
pub(super) const DEFAULT: &str = "default";

/// In `config.json`.
const CURRENT: &str = "currentContext";

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    #[serde(default, deserialize_with = "or_null")]
    endpoints: Endpoints,
    #[serde(default, deserialize_with = "or_null")]
    metadata: Map<String, Value>,
}

#[derive(Deserialize, Default)]
struct Endpoints {
    #[serde(default)]
    docker: Option<Docker>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Docker {
    #[serde(deserialize_with = "or_null")]
    host: String,
    #[serde(rename = "SkipTLSVerify", deserialize_with = "or_null")]
    skip_tls_verify: bool,
}

/// `null` is as if nothing stood there, as for the docker CLI (pkg.go.dev/encoding/json#Unmarshal).
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The current context of `config.json`, unless it is the default. A file that cannot be read names none, as for the
/// docker CLI.
pub(super) fn current(docker_dir: &Path) -> Option<String> {
    let text = std::fs::read(docker_dir.join("config.json")).ok()?;
    let config: Config = serde_json::from_slice(&text).ok()?;
    config.current_context.filter(|c| !c.is_empty() && c != DEFAULT)
}

/// Whether it leads to an application's own engine, and not to the user's.
pub(super) fn is_an_applications(docker_dir: &Path, name: &str) -> bool {
    described(&meta_file(docker_dir, name)).is_ok_and(|there| there.is_some_and(|there| there.app.is_some()))
}

pub(super) fn endpoint(docker_dir: &Path, name: &str) -> Result<Endpoint> {
    let bad = |problem: String| {
        Error::invalid(env_vars::DOCKER_CONTEXT, problem).hint("`docker context ls` lists the contexts there are.")
    };
    let id = id(name);
    let path = docker_dir.join("contexts/meta").join(&id).join("meta.json");
    let text = std::fs::read(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => bad(format!("there is no docker context {name:?}")),
        _ => Error::io(e, "Cannot read", &path),
    })?;
    let meta: Meta =
        serde_json::from_slice(&text).map_err(|e| bad(format!("{} cannot be understood: {e}", path.display())))?;
    let docker = meta
        .endpoints
        .docker
        .filter(|d| !d.host.is_empty())
        .ok_or_else(|| bad(format!("the docker context {name:?} has no docker endpoint")))?;
    let dir: PathBuf = docker_dir.join("contexts/tls").join(id).join("docker");
    let tls = (dir.is_dir() || docker.skip_tls_verify).then(|| Tls::of_dir(&dir, docker.skip_tls_verify));
    Endpoint::parse(env_vars::DOCKER_CONTEXT, &docker.host, tls)
}

/// What `docker context ls` shows of ours.
const DESCRIPTION: &str = "Docker Engine of lima-runtime";

/// Describes the engine at the socket `path` under `name` for the docker CLI, with `current` as the one to use. A context of
/// the application `app` whose socket has gone is led here. `NAME_IN_USE` where another engine has the name, `INVALID_ARGUMENT
/// name` for what is none, `INVALID_STATE` for files that cannot be changed safely; then nothing is.
pub(super) fn register(docker_dir: &Path, name: &str, path: &Path, app: &str, current: bool) -> Result<()> {
    check_name(name)?;
    let host = address(path);
    let file = meta_file(docker_dir, name);
    let config = if current { with_current(docker_dir, Some(name), None)? } else { None };
    let there = described(&file)?;
    let ours = there.as_ref().is_some_and(|there| {
        let stale = there.host.strip_prefix("unix://").is_some_and(|old| std::fs::symlink_metadata(old).is_err());
        there.host == host || (stale && there.app.as_deref() == Some(app))
    });
    if let Some(there) = there.as_ref().filter(|_| !ours) {
        let text = format!("The docker context {name:?} leads to another engine: {:?}", there.host);
        return Err(Error::new(ErrorCode::NameInUse, text)
            .hint("Choose another name, or remove it with `docker context rm`.")
            .detail("name", name));
    }
    if there.is_none_or(|there| there.host != host) {
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).map_err(|e| Error::io(e, "creating", dir))?;
        }
        let meta = json!({
            "Name": name,
            "Metadata": { "Description": DESCRIPTION, APP_LABEL: app },
            "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } },
        });
        disk::write_json(&file, &meta)?;
    }
    config.map_or(Ok(()), |(path, config)| disk::write_json(&path, &config))
}

/// Takes away what [`register`] made of that name for the socket `path`, and nothing else.
pub(super) fn unregister(docker_dir: &Path, name: &str, path: &Path) -> Result<()> {
    check_name(name)?;
    let file = meta_file(docker_dir, name);
    let host = address(path);
    if described(&file)?.is_some_and(|there| there.host == host) {
        // The CLI complains of a current context that is not there.
        if let Some((path, config)) = with_current(docker_dir, None, Some(name))? {
            disk::write_json(&path, &config)?;
        }
        disk::remove(file.parent().unwrap_or(&file))?;
    }
    Ok(())
}

/// As the CLI writes a socket, or a named pipe of Windows.
fn address(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.starts_with(r"\\") { Endpoint::Npipe(text.into_owned()) } else { Endpoint::Unix(path.to_owned()) }
        .to_string()
}

/// The docker CLI's rule (docs/reference/docker.md#contexts).
fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    let good = name.len() > 1
        && name.len() <= 100
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|b| plain(b) || b"_.+-".contains(&b));
    if good && name != DEFAULT {
        return Ok(());
    }
    Err(Error::invalid("name", format!("{name:?} is no name of a docker context"))
        .hint("Two or more letters, digits, '_', '.', '+' or '-', the first one a letter or a digit; not \"default\"."))
}

fn meta_file(docker_dir: &Path, name: &str) -> PathBuf {
    docker_dir.join("contexts/meta").join(id(name)).join("meta.json")
}

/// A context of somebody's.
struct There {
    host: String,
    /// The application that had it written.
    app: Option<String>,
}

/// `None` where there is none in that file.
fn described(file: &Path) -> Result<Option<There>> {
    let Some((_, text)) = contents(file)? else { return Ok(None) };
    let meta: Option<Meta> = serde_json::from_slice(&text).ok();
    let app = meta.as_ref().and_then(|meta| meta.metadata.get(APP_LABEL)?.as_str().map(Into::into));
    let host = meta.and_then(|meta| meta.endpoints.docker).map(|docker| docker.host).unwrap_or_default();
    Ok(Some(There { host, app }))
}

/// What a file of docker's holds, and where it really is: often where a person keeps such files, with a link to it. A link
/// that leads nowhere is refused: a file in its place would hide the one that a disk, not mounted now, has.
fn contents(path: &Path) -> Result<Option<(PathBuf, Vec<u8>)>> {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match std::fs::read(&real) {
        Ok(text) => Ok(Some((real, text))),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(e, "reading", &real)),
        Err(_) if std::fs::symlink_metadata(path).is_err() => Ok(None),
        Err(_) => {
            let text = format!("{} is a link to a file that is not there", path.display());
            Err(Error::new(ErrorCode::InvalidState, text)
                .hint("Bring the file back, or remove the link.")
                .detail("path", path.display().to_string()))
        }
    }
}

/// `config.json` with one field changed and the others kept: to `name`, or to none where it is `only`. `None` where it is so.
fn with_current(
    docker_dir: &Path,
    name: Option<&str>,
    only: Option<&str>,
) -> Result<Option<(PathBuf, Map<String, Value>)>> {
    let path = docker_dir.join("config.json");
    let (path, mut config) = match contents(&path)? {
        None => (path, Map::new()),
        Some((path, text)) => match serde_json::from_slice(&text) {
            Ok(config) => (path, config),
            Err(e) => {
                let text = format!("{} cannot be understood, and is left as it is: {e}", path.display());
                return Err(Error::new(ErrorCode::InvalidState, text)
                    .hint("Mend it, or choose the context by `docker context use`."));
            }
        },
    };
    let there = config.get(CURRENT).and_then(Value::as_str);
    match (name, only) {
        (Some(name), _) if there != Some(name) => _ = config.insert(CURRENT.to_owned(), name.into()),
        (None, Some(only)) if there == Some(only) => _ = config.remove(CURRENT),
        _ => return Ok(None),
    }
    Ok(Some((path, config)))
}

fn id(name: &str) -> String {
    hex::encode(Sha256::digest(name))
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let _ = serde_json::from_slice::<Config>(data);
    if let Ok(meta) = serde_json::from_slice::<Meta>(data)
        && let Some(docker) = meta.endpoints.docker
    {
        let _ = Endpoint::parse(env_vars::DOCKER_CONTEXT, &docker.host, None);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn write_context(docker_dir: &Path, name: &str, docker: &str) {
        let dir = docker_dir.join("contexts/meta").join(id(name));
        std::fs::create_dir_all(&dir).unwrap();
        let meta = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{docker}}}}}"#);
        std::fs::write(dir.join("meta.json"), meta).unwrap();
    }

    #[test]
    fn the_directory_is_the_sha256_of_the_name() {
        assert_eq!(id("desktop-linux"), "fe9c6bd7a66301f49ca9b6a70b217107cd1284598bfc254700c989b916da791e");
    }

    #[test]
    fn a_context_brings_its_certificates() {
        let dir = tempfile::tempdir().unwrap();
        write_context(dir.path(), "far", r#"{"Host":"tcp://box:2376","SkipTLSVerify":false}"#);
        let tls = dir.path().join("contexts/tls").join(id("far")).join("docker");
        std::fs::create_dir_all(&tls).unwrap();
        for f in ["ca.pem", "cert.pem", "key.pem"] {
            std::fs::write(tls.join(f), "").unwrap();
        }
        let Endpoint::Tcp { tls: Some(found), .. } = endpoint(dir.path(), "far").unwrap() else { panic!("no TLS") };
        assert_eq!(found.client, Some((tls.join("cert.pem"), tls.join("key.pem"))));
    }

    #[test]
    fn a_broken_config_names_no_context() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(current(dir.path()), None);
        for text in ["", "{", "[]", r#"{"currentContext":""}"#, r#"{"currentContext":"default"}"#, "{}"] {
            std::fs::write(dir.path().join("config.json"), text).unwrap();
            assert_eq!(current(dir.path()), None, "{text}");
        }
        std::fs::write(dir.path().join("config.json"), r#"{"auths":{},"currentContext":"colima"}"#).unwrap();
        assert_eq!(current(dir.path()).as_deref(), Some("colima"));
    }

    #[cfg(unix)]
    #[test]
    fn ours_is_registered_beside_others_and_goes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (docker, config) = (dir.path().join(".docker"), dir.path().join("dotfiles.json"));
        std::fs::create_dir(&docker).unwrap();
        std::fs::write(&config, r#"{"auths":{"x":{}},"credsStore":"osxkeychain"}"#).unwrap();
        std::os::unix::fs::symlink(&config, docker.join("config.json")).unwrap();
        let (ours, other) = (Path::new("/d/sock/docker.sock"), Path::new("/e/sock/docker.sock"));
        register(&docker, "kai", ours, "app", false).unwrap();
        assert_eq!(current(&docker), None, "nobody asked for it");
        assert_eq!(endpoint(&docker, "kai").unwrap(), Endpoint::Unix(ours.into()));
        register(&docker, "kai", ours, "app", true).unwrap();
        assert_eq!(current(&docker).as_deref(), Some("kai"));
        assert!(docker.join("config.json").is_symlink());
        let kept: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        assert_eq!((&kept["auths"], &kept["credsStore"]), (&json!({ "x": {} }), &"osxkeychain".into()));

        assert_eq!(register(&docker, "kai", other, "another app", true).unwrap_err().code(), ErrorCode::NameInUse);
        unregister(&docker, "kai", other).unwrap();
        assert_eq!(current(&docker).as_deref(), Some("kai"), "it is not the other one's to remove");
        unregister(&docker, "kai", ours).unwrap();
        unregister(&docker, "kai", ours).unwrap();
        assert_eq!(current(&docker), None);
        assert!(endpoint(&docker, "kai").is_err());

        std::fs::write(&config, "{").unwrap();
        assert_eq!(register(&docker, "kai", ours, "app", true).unwrap_err().code(), ErrorCode::InvalidState);
        assert_eq!(std::fs::read(&config).unwrap(), b"{");
        for name in ["", "k", "default", "a/b", "../x", "-k", "k x", "é1"] {
            let e = register(&docker, name, ours, "app", false).unwrap_err();
            assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("name")), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_context_of_this_application_is_led_to_its_new_place_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (docker, place) = (dir.path().join(".docker"), dir.path().join("old.sock"));
        let new = Path::new("/new/sock/docker.sock");
        let leads_to = |name: &str| endpoint(&docker, name).unwrap();
        register(&docker, "kai", &place, "app", true).unwrap();
        let refused = |app: &str, name: &str| {
            let before = std::fs::read(meta_file(&docker, name)).unwrap();
            assert_eq!(register(&docker, name, new, app, true).unwrap_err().code(), ErrorCode::NameInUse);
            assert_eq!(std::fs::read(meta_file(&docker, name)).unwrap(), before);
            assert_eq!(current(&docker).as_deref(), Some("kai"));
        };
        refused("another app", "kai");
        // Another VM of this application is served there.
        let listener = std::os::unix::net::UnixListener::bind(&place).unwrap();
        refused("app", "kai");
        drop(listener);
        std::fs::remove_file(&place).unwrap();
        register(&docker, "kai", new, "app", false).unwrap();
        assert_eq!(leads_to("kai"), Endpoint::Unix(new.into()));
        // Of a person's making, and what cannot be understood.
        write_context(&docker, "mine", r#"{"Host":"unix:///gone.sock"}"#);
        refused("app", "mine");
        std::fs::write(meta_file(&docker, "mine"), "{").unwrap();
        refused("app", "mine");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_left_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (docker, away) = (dir.path().join(".docker"), dir.path().join("unmounted/config.json"));
        std::fs::create_dir(&docker).unwrap();
        let (ours, config) = (Path::new("/d/sock/docker.sock"), docker.join("config.json"));
        std::os::unix::fs::symlink(&away, &config).unwrap();
        assert_eq!(register(&docker, "kai", ours, "app", true).unwrap_err().code(), ErrorCode::InvalidState);
        assert_eq!(std::fs::read_link(&config).unwrap(), away);
        assert!(endpoint(&docker, "kai").is_err(), "half of it was done");
        // Nobody asked for the current one to change.
        register(&docker, "kai", ours, "app", false).unwrap();
        assert!(unregister(&docker, "kai", ours).is_err());
        std::fs::remove_file(&config).unwrap();
        unregister(&docker, "kai", ours).unwrap();
        // The context's own file.
        let meta = meta_file(&docker, "kai");
        std::fs::create_dir_all(meta.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&away, &meta).unwrap();
        assert_eq!(register(&docker, "kai", ours, "app", false).unwrap_err().code(), ErrorCode::InvalidState);
        assert!(meta.is_symlink());
    }

    /// Go writes an empty map as `null`, and reads it so.
    #[test]
    fn null_is_as_if_nothing_stood_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = meta_file(dir.path(), "far");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        for text in [
            r#"{"Name":"far","Metadata":null,"Endpoints":{"docker":{"Host":"tcp://box:1","SkipTLSVerify":null}}}"#,
            r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://box:1"},"kubernetes":null}}"#,
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(endpoint(dir.path(), "far").unwrap(), Endpoint::parse("host", "tcp://box:1", None).unwrap());
            assert!(!is_an_applications(dir.path(), "far"));
        }
        for text in
            [r#"{"Endpoints":null}"#, r#"{"Endpoints":{"docker":null}}"#, r#"{"Endpoints":{"docker":{"Host":null}}}"#]
        {
            std::fs::write(&file, text).unwrap();
            assert!(endpoint(dir.path(), "far").unwrap_err().message().contains("no docker endpoint"), "{text}");
        }
    }

    #[test]
    fn a_pipe_is_written_as_the_cli_writes_one() {
        assert_eq!(address(Path::new(r"\\.\pipe\lima-runtime-kai")), "npipe:////./pipe/lima-runtime-kai");
        assert_eq!(address(Path::new("/d/sock/docker.sock")), "unix:///d/sock/docker.sock");
    }

    #[test]
    fn a_context_without_an_endpoint_says_so() {
        let dir = tempfile::tempdir().unwrap();
        write_context(dir.path(), "k8s", r#"{"Host":""}"#);
        assert!(endpoint(dir.path(), "k8s").unwrap_err().message().contains("no docker endpoint"));
        assert!(endpoint(dir.path(), "gone").unwrap_err().message().contains("there is no docker context"));
    }
}

//! Registry credentials, as the docker CLI keeps them: in `config.json`, or with a credential helper it names
//! (docs/reference/docker.md#credentials).

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde::{Deserialize, Serialize};

use crate::{
    engine::types::{PullOptions, RegistryAuth, StoredCredentials},
    env_vars,
};

/// Docker Hub's key in `config.json`.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";
/// A helper may have to ask the person for their keychain.
const HELPER: Duration = Duration::from_secs(30);

/// What goes, as JSON in base64, into the header `X-Registry-Auth`.
#[derive(Serialize, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    password: String,
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    identity_token: String,
    #[serde(rename = "serveraddress")]
    server: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({} at {})", self.username, self.server)
    }
}

impl Credentials {
    pub(crate) fn given(auth: &RegistryAuth, image: &str) -> Self {
        Self {
            username: auth.username.clone(),
            password: auth.password.clone(),
            server: registry(image).into(),
            ..Self::default()
        }
    }

    pub(crate) fn header(&self) -> String {
        URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// As it stands in `config.json` under its registry.
    pub(crate) fn entry(&self) -> serde_json::Value {
        if self.identity_token.is_empty() {
            serde_json::json!({ "auth": STANDARD.encode(format!("{}:{}", self.username, self.password)) })
        } else {
            serde_json::json!({ "identitytoken": self.identity_token })
        }
    }

    fn new(server: &str, username: String, secret: String) -> Self {
        let server = server.to_owned();
        // How helpers mark an identity token.
        if username == "<token>" {
            Self { identity_token: secret, server, ..Self::default() }
        } else {
            Self { username, password: secret, server, ..Self::default() }
        }
    }
}

/// The key of an image's registry: a first component with a dot or a port is a host, as is `localhost`.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => HUB,
            host => host,
        },
        _ => HUB,
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
}

/// What a pull shows the registry; and why there is none where there might be.
pub(crate) async fn for_pull(options: &PullOptions, image: &str) -> (Option<Credentials>, Option<String>) {
    match (&options.auth, options.credentials) {
        (Some(auth), _) => (Some(Credentials::given(auth, image)), None),
        (None, StoredCredentials::None) => (None, None),
        (None, StoredCredentials::User) => match of_this_user(image).await {
            Ok(found) => (found, None),
            Err(why) => {
                tracing::warn!(%why, "pulling without credentials");
                (None, Some(why))
            }
        },
    }
}

/// What this process's user has for an image's registry, as [`stored`].
pub(crate) async fn of_this_user(image: &str) -> Result<Option<Credentials>, String> {
    let dir = env_vars::get(env_vars::DOCKER_CONFIG).map(PathBuf::from);
    stored(dir.or_else(|| Some(home::home_dir()?.join(".docker"))), image).await
}

/// None when nobody knows any. An error says why they could not be had; a pull goes on without, as the CLI's does.
pub(crate) async fn stored(docker_dir: Option<PathBuf>, image: &str) -> Result<Option<Credentials>, String> {
    let Some(dir) = docker_dir else { return Ok(None) };
    let registry = registry(image).to_owned();
    // The helper's deadline ends its process; the thread ends with it.
    crate::task::blocking(move || Ok(look_up(&dir, &registry, HELPER))).await.map_err(|e| e.to_string())?
}

fn look_up(docker_dir: &Path, registry: &str, deadline: Duration) -> Result<Option<Credentials>, String> {
    let path = docker_dir.join("config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    let config: Config = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    if let Some(helper) = config.cred_helpers.get(registry).or(Some(&config.creds_store)).filter(|h| !h.is_empty())
        && let Some(found) = ask_helper(helper, registry, docker_dir, deadline)?
    {
        return Ok(Some(found));
    }
    let entry = config.auths.iter().find(|(key, _)| host(key) == host(registry)).map(|(_, e)| e);
    entry.map_or(Ok(None), |e| of_entry(e, registry))
}

/// `https://host/v1/` is `host`.
fn host(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    bare.split('/').next().unwrap_or(bare)
}

fn of_entry(entry: &Entry, registry: &str) -> Result<Option<Credentials>, String> {
    let (mut username, mut password) = (entry.username.clone(), entry.password.clone());
    if !entry.auth.is_empty() {
        let text = STANDARD.decode(entry.auth.trim()).ok().and_then(|b| String::from_utf8(b).ok());
        let pair = text.as_deref().and_then(|t| t.split_once(':'));
        let (u, p) = pair.ok_or_else(|| format!("the entry of {registry} is not user:password in base64"))?;
        (username, password) = (u.to_owned(), p.trim_end_matches('\0').to_owned());
    }
    if username.is_empty() && entry.identity_token.is_empty() {
        // The helper's place holder: it had none.
        return Ok(None);
    }
    Ok(Some(Credentials {
        username,
        password,
        identity_token: entry.identity_token.clone(),
        server: registry.to_owned(),
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// The protocol of docker-credential-helpers: the registry on standard input, JSON on standard output.
fn ask_helper(
    helper: &str,
    registry: &str,
    docker_dir: &Path,
    deadline: Duration,
) -> Result<Option<Credentials>, String> {
    if !helper.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Err(format!("{helper:?} is not the name of a credential helper"));
    }
    let name = format!("docker-credential-{helper}");
    let program = find_program(&name, docker_dir).unwrap_or_else(|| PathBuf::from(&name));
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("{name}: {e}"))?;
    let (send, answer) = std::sync::mpsc::channel();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let text = registry.to_owned();
    let reader = std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A helper that does not read its input says why by its exit code.
            let _ = stdin.write_all(text.as_bytes());
        }
        let mut out = String::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(1 << 20).read_to_string(&mut out);
        }
        let _ = send.send(out);
    });
    let Ok(out) = answer.recv_timeout(deadline) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{name} did not answer within {} s", deadline.as_secs_f64()));
    };
    let _ = reader.join();
    let status = child.wait().map_err(|e| format!("{name}: {e}"))?;
    if !status.success() {
        return if out.contains("credentials not found") {
            Ok(None)
        } else {
            Err(format!("{name}: {}", out.trim().lines().next().unwrap_or("failed without a word")))
        };
    }
    let answer: HelperAnswer = serde_json::from_str(&out).map_err(|_| format!("{name} gave no JSON"))?;
    Ok(Some(Credentials::new(registry, answer.username, answer.secret)))
}

/// An app that was started from a dock or menu has a short PATH: the places where helpers are put come after it.
fn find_program(name: &str, docker_dir: &Path) -> Option<PathBuf> {
    let more = ["/usr/local/bin", "/opt/homebrew/bin", "/Applications/Docker.app/Contents/Resources/bin"];
    env_vars::path()
        .into_iter()
        .chain([docker_dir.join("bin")])
        .chain(more.map(PathBuf::from))
        .map(|dir| dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
        .find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        dir
    }

    fn look(dir: &tempfile::TempDir, registry: &str) -> Result<Option<Credentials>, String> {
        look_up(dir.path(), registry, Duration::from_secs(5))
    }

    #[test]
    fn an_images_registry() {
        for (image, key) in [
            ("busybox", HUB),
            ("me/app:1", HUB),
            ("docker.io/library/busybox", HUB),
            ("ghcr.io/a/b", "ghcr.io"),
            ("localhost/a", "localhost"),
            ("127.0.0.1:5000/a@sha256:0", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry(image), key);
        }
    }

    #[test]
    fn the_file_itself_may_hold_them() {
        // u:p:w
        let dir = config(
            r#"{"auths":{"https://reg.example/v1/":{"auth":"dTpwOnc="},"empty":{},"t":{"identitytoken":"tok"}}}"#,
        );
        let found = look(&dir, "reg.example").unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "p:w"));
        assert_eq!(look(&dir, "empty").unwrap(), None);
        assert_eq!(look(&dir, "other").unwrap(), None);
        assert_eq!(look(&dir, "t").unwrap().unwrap().identity_token, "tok");
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        assert!(look(&config("{"), "r").is_err());
        assert!(look(&config(r#"{"auths":{"r":{"auth":"!!"}}}"#), "r").is_err());
        assert!(look(&config(r#"{"credsStore":"../../bin/sh"}"#), "r").is_err());
        assert!(look(&config(r#"{"credsStore":"nobody-has-this"}"#), "r").is_err());
        assert_eq!(look_up(Path::new("/nonexistent"), "r", HELPER), Ok(None));
    }

    #[test]
    fn the_header_is_json_in_base64_that_a_header_can_hold() {
        let auth = RegistryAuth { username: "u".into(), password: "p\n\u{ff}?>".into() };
        let header = Credentials::given(&auth, "reg.example/a").header();
        let value: serde_json::Value = serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({ "username": "u", "password": "p\n\u{ff}?>", "serveraddress": "reg.example" })
        );
    }

    #[cfg(unix)]
    mod helpers {
        use std::os::unix::fs::PermissionsExt;

        use super::*;

        fn helper(dir: &tempfile::TempDir, name: &str, script: &str) {
            let bin = dir.path().join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            let path = bin.join(format!("docker-credential-{name}"));
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }

        #[test]
        fn a_registrys_own_helper_comes_before_the_store() {
            let dir = config(r#"{"credsStore":"store","credHelpers":{"r.example":"own"},"auths":{"r.example":{}}}"#);
            helper(&dir, "own", r#"read r; echo "{\"ServerURL\":\"$r\",\"Username\":\"own\",\"Secret\":\"$1-$r\"}""#);
            helper(&dir, "store", r#"cat >/dev/null; echo '{"ServerURL":"x","Username":"<token>","Secret":"tok"}'"#);
            let own = look(&dir, "r.example").unwrap().unwrap();
            assert_eq!((own.username.as_str(), own.password.as_str()), ("own", "get-r.example"));
            assert_eq!(look(&dir, "s.example").unwrap().unwrap().identity_token, "tok");
        }

        #[test]
        fn a_helper_without_them_leaves_the_file() {
            let dir = config(r#"{"credsStore":"none","auths":{"r":{"auth":"dTpw"}}}"#);
            helper(&dir, "none", "echo 'credentials not found in native keychain'; exit 1");
            assert_eq!(look(&dir, "r").unwrap().unwrap().username, "u");
        }

        #[test]
        fn a_helper_that_hangs_is_ended() {
            let dir = config(r#"{"credsStore":"hang"}"#);
            helper(&dir, "hang", "exec sleep 60");
            let e = look_up(dir.path(), "r", Duration::from_millis(100)).unwrap_err();
            assert!(e.contains("did not answer"), "{e}");
        }

        #[test]
        fn a_helper_that_fails_says_its_words() {
            let dir = config(r#"{"credsStore":"bad"}"#);
            helper(&dir, "bad", "echo 'the keychain is locked'; exit 2");
            assert!(look(&dir, "r").unwrap_err().contains("the keychain is locked"));
        }
    }
}

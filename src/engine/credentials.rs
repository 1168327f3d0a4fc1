//! Registry credentials, as the docker CLI keeps them: in `config.json`, or in a credential helper that it names
//! (docs/reference/docker.md#credentials).
//!
//! Not by the crate docker_credential (1.4.0): it waits for a helper without end, on the caller's thread, looks for it in PATH
//! alone, and knows neither bearer tokens nor the store that the CLI takes when none is named.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reference::{self, Reference};
use crate::{
    engine::types::{RegistryAuth, StoredCredentials},
    env_vars,
    error::{Error, ErrorCode},
    process,
};

/// Docker Hub's key in `config.json`.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";
/// A helper may have to ask the user to unlock a keychain.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// The content of the header `X-Registry-Auth`, which is JSON in base64.
#[derive(Serialize, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    password: String,
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    identity_token: String,
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    registry_token: String,
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
            server: registry(image).unwrap_or_default().to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn header(&self) -> String {
        URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The entry of `config.json` for its registry.
    pub(crate) fn entry(&self) -> Value {
        let mut entry = serde_json::Map::new();
        let mut put = |key: &str, value: &str| {
            if !value.is_empty() {
                entry.insert(key.to_owned(), value.into());
            }
        };
        if !self.username.is_empty() {
            put("auth", &STANDARD.encode(format!("{}:{}", self.username, self.password)));
        }
        put("identitytoken", &self.identity_token);
        put("registrytoken", &self.registry_token);
        entry.into()
    }

    /// User name and password; an identity token has no user.
    pub(crate) fn for_buildkit(&self) -> (String, String) {
        match self.identity_token.as_str() {
            "" => (self.username.clone(), self.password.clone()),
            token => (String::new(), token.to_owned()),
        }
    }

    fn is_empty(&self) -> bool {
        [&self.username, &self.password, &self.identity_token, &self.registry_token].iter().all(|s| s.is_empty())
    }

    fn new(server: &str, username: String, secret: String) -> Self {
        let server = server.to_owned();
        // This user name is how helpers mark an identity token.
        if username == "<token>" {
            Self { identity_token: secret, server, ..Self::default() }
        } else {
            Self { username, password: secret, server, ..Self::default() }
        }
    }
}

/// The key of an image's registry. Docker Hub's is not a host name, so no other registry can have the same.
fn registry(image: &str) -> Option<&str> {
    Reference::parse(image).ok().map(|r| key(r.domain()))
}

/// The key of the registry that references call `domain`.
pub(crate) fn key(domain: &str) -> &str {
    if domain == reference::HUB { HUB } else { domain }
}

/// The members of `config.json` that are used (docs/reference/docker.md#credentials). Like Go and so the CLI, this treats a
/// member that is null or of the wrong type as absent, and ignores the case of member names.
#[derive(Default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    helpers: BTreeMap<String, String>,
    store: String,
}

#[derive(Default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identity_token: String,
    registry_token: String,
}

fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    let all = value.as_object();
    all.and_then(|all| all.get(name).or_else(|| all.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v)))
        .unwrap_or(&Value::Null)
}

fn text(value: &Value, name: &str) -> String {
    member(value, name).as_str().unwrap_or_default().to_owned()
}

fn each<T>(value: &Value, name: &str, read: impl Fn(&Value) -> T) -> BTreeMap<String, T> {
    member(value, name).as_object().into_iter().flatten().map(|(k, v)| (k.clone(), read(v))).collect()
}

impl Config {
    fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        // Anything after the first value is ignored.
        let first = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().next();
        let value = first.transpose()?.unwrap_or_default();
        Ok(Self {
            auths: each(&value, "auths", |entry| Entry {
                auth: text(entry, "auth"),
                username: text(entry, "username"),
                password: text(entry, "password"),
                identity_token: text(entry, "identitytoken"),
                registry_token: text(entry, "registrytoken"),
            }),
            helpers: each(&value, "credHelpers", |helper| helper.as_str().unwrap_or_default().to_owned()),
            store: text(&value, "credsStore"),
        })
    }

    /// The helper for a registry. Its own entry in `credHelpers` may be "", which means the file.
    fn helper(&self, registry: &str, docker_dir: &Path) -> String {
        if let Some(own) = self.helpers.get(registry) {
            return own.clone();
        }
        if self.store.is_empty() && self.helpers.is_empty() && self.auths.is_empty() {
            return default_store(docker_dir).unwrap_or_default().to_owned();
        }
        self.store.clone()
    }

    /// The entry with the exact key, or with a key as old CLIs wrote it: `https://host/v1/`.
    fn entry(&self, registry: &str) -> Option<&Entry> {
        self.auths.get(registry).or_else(|| self.auths.iter().find(|(key, _)| host(key) == registry).map(|(_, e)| e))
    }
}

/// The store that the CLI uses by default, if its helper is installed.
fn default_store(docker_dir: &Path) -> Option<&'static str> {
    let store = if cfg!(target_os = "macos") {
        "osxkeychain"
    } else if cfg!(windows) {
        "wincred"
    } else if find_program("pass", docker_dir).is_some() {
        "pass"
    } else {
        "secretservice"
    };
    find_program(&format!("docker-credential-{store}"), docker_dir).map(|_| store)
}

/// The credentials for a pull or a push, and if there are none although there might be, why.
pub(crate) async fn for_call(
    auth: Option<&RegistryAuth>,
    stored: StoredCredentials,
    image: &str,
) -> (Option<Credentials>, Option<String>) {
    match (auth, stored) {
        (Some(auth), _) => (Some(Credentials::given(auth, image)), None),
        (None, StoredCredentials::None) => (None, None),
        (None, StoredCredentials::User) => match for_this_user(image).await {
            Ok(found) => (found, None),
            Err(why) => {
                // Without what a helper said, which may be what it should have kept.
                tracing::warn!("asking a registry without credentials");
                (None, Some(why))
            }
        },
    }
}

/// What refused a pull or a push, and why there were no credentials for it.
pub(crate) fn with_reason(refused: Error, why_none: Option<String>) -> Error {
    match why_none {
        Some(why) if refused.code() == ErrorCode::RegistryAuth => refused.detail("credentials", why),
        _ => refused,
    }
}

/// The credentials of this process's user for an image's registry, see [`stored`].
pub(crate) async fn for_this_user(image: &str) -> Result<Option<Credentials>, String> {
    let dir = env_vars::get(env_vars::DOCKER_CONFIG).map(PathBuf::from);
    stored(dir.or_else(|| Some(home::home_dir()?.join(".docker"))), image).await
}

/// None if none are stored. The error says why they could not be read; like the CLI's, a pull then goes on without them.
pub(crate) async fn stored(docker_dir: Option<PathBuf>, image: &str) -> Result<Option<Credentials>, String> {
    let (Some(dir), Some(registry)) = (docker_dir, registry(image)) else { return Ok(None) };
    look_up(&dir, registry, HELPER_TIMEOUT).await
}

async fn look_up(docker_dir: &Path, registry: &str, deadline: Duration) -> Result<Option<Credentials>, String> {
    let path = docker_dir.join("config.json");
    let why = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let config = match tokio::fs::read(&path).await {
        Ok(bytes) => Config::read(&bytes).map_err(|e| why(&e))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Config::default(),
        Err(e) => return Err(why(&e)),
    };
    let entry = config.entry(registry);
    let helper = config.helper(registry, docker_dir);
    let asked = if helper.is_empty() { None } else { Some(ask_helper(&helper, registry, docker_dir, deadline).await) };
    match asked {
        // A bearer token comes from the file: no helper keeps one.
        Some(Ok(found)) => {
            let token = entry.map(|e| e.registry_token.clone()).unwrap_or_default();
            let found = found.unwrap_or_else(|| Credentials { server: registry.to_owned(), ..Credentials::default() });
            Ok(Some(Credentials { registry_token: token, ..found }).filter(|c| !c.is_empty()))
        }
        // If a helper is missing or fails, the file is used.
        Some(Err(why)) => entry.map_or(Ok(None), |e| of_entry(e, registry))?.map_or(Err(why), |found| Ok(Some(found))),
        None => entry.map_or(Ok(None), |e| of_entry(e, registry)),
    }
}

/// The host of a key: of `https://host/v1/` it is `host`.
fn host(key: &str) -> &str {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    bare.split('/').next().unwrap_or(bare)
}

fn of_entry(entry: &Entry, registry: &str) -> Result<Option<Credentials>, String> {
    let (mut username, mut password) = (entry.username.clone(), entry.password.clone());
    if !entry.auth.is_empty() {
        let plain = STANDARD.decode(entry.auth.replace(['\r', '\n'], "")).ok();
        let plain = plain.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let pair = plain.as_deref().and_then(|t| t.split_once(':')).filter(|(user, _)| !user.is_empty());
        let (u, p) = pair.ok_or_else(|| format!("the entry of {registry} is not user:password in base64"))?;
        (username, password) = (u.to_owned(), p.trim_matches('\0').to_owned());
    }
    let found = Credentials {
        username,
        password,
        identity_token: entry.identity_token.clone(),
        registry_token: entry.registry_token.clone(),
        server: registry.to_owned(),
    };
    // An empty entry only says that a helper keeps the credentials.
    Ok(Some(found).filter(|c| !c.is_empty()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: Option<String>,
    secret: Option<String>,
}

/// The protocol of docker-credential-helpers: the registry goes to standard input, JSON comes from standard output.
async fn ask_helper(
    helper: &str,
    registry: &str,
    docker_dir: &Path,
    deadline: Duration,
) -> Result<Option<Credentials>, String> {
    if !helper.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Err(format!("{helper:?} is not the name of a credential helper"));
    }
    let name = format!("docker-credential-{helper}");
    let program = find_program(&name, docker_dir).ok_or_else(|| format!("there is no program {name}"))?;
    let mut command = std::process::Command::new(program);
    command.arg("get");
    let input = bytes::Bytes::copy_from_slice(registry.as_bytes());
    let running = async { process::spawn(command, input, None).await?.output().await };
    let output = tokio::time::timeout(deadline, running).await;
    let output = output.map_err(|_| format!("{name} did not answer within {} s", deadline.as_secs_f64()))?;
    let output = output.map_err(|e| e.to_string())?;
    if !output.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return if said.trim() == "credentials not found in native keychain" {
            Ok(None)
        } else {
            Err(format!("{name}: {}", said.trim().lines().next().unwrap_or("failed without a word")))
        };
    }
    let answer: HelperAnswer = serde_json::from_slice(&output.stdout).map_err(|_| format!("{name} gave no JSON"))?;
    let found = Credentials::new(registry, answer.username.unwrap_or_default(), answer.secret.unwrap_or_default());
    Ok(Some(found).filter(|c| !c.is_empty()))
}

/// An app that was started from a dock or menu has a short PATH, so the usual directories of helpers are searched after it.
fn find_program(name: &str, docker_dir: &Path) -> Option<PathBuf> {
    let more = ["/usr/local/bin", "/opt/homebrew/bin", "/Applications/Docker.app/Contents/Resources/bin"];
    env_vars::path()
        .into_iter()
        .chain([docker_dir.join("bin")])
        .chain(more.map(PathBuf::from))
        .map(|dir| dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
        .find(|p| p.is_file())
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let _ = serde_json::from_slice::<HelperAnswer>(data);
    let Ok(config) = Config::read(data) else { return };
    for (key, entry) in &config.auths {
        // The entry has a helper of its own, so that no helper installed here is used.
        config.helpers.get(key);
        assert!(config.entry(key).is_some() && config.entry(host(key)).is_some(), "{key}");
        if let Ok(Some(found)) = of_entry(entry, key) {
            found.header();
            found.entry();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        dir
    }

    async fn look(dir: &tempfile::TempDir, registry: &str) -> Result<Option<Credentials>, String> {
        look_up(dir.path(), registry, Duration::from_secs(5)).await
    }

    /// `user:password` and the tokens after it; `-` for none.
    fn shown(found: Option<Credentials>) -> String {
        let Some(c) = found else { return "-".into() };
        [format!("{}:{}", c.username, c.password), c.identity_token, c.registry_token].join(" ").trim_end().to_owned()
    }

    #[test]
    fn an_images_registry() {
        for (image, key) in [
            ("busybox", HUB),
            ("me/app:1", HUB),
            ("docker.io/library/busybox", HUB),
            ("index.docker.io/library/busybox", HUB),
            ("ghcr.io/a/b", "ghcr.io"),
            ("localhost/a", "localhost"),
            ("127.0.0.1:5000/a:1", "127.0.0.1:5000"),
            ("[::1]:5000/a:1", "[::1]:5000"),
            // Docker Hub's credentials are only for Docker Hub.
            ("MYREG/app", "MYREG"),
            ("Docker/app", "Docker"),
            ("registry-1.docker.io/library/a", "registry-1.docker.io"),
            ("docker.io:443/library/a", "docker.io:443"),
        ] {
            assert_eq!(registry(image), Some(key), "{image}");
        }
        for image in ["", "x:y:z", "evil.example\\@docker.io/a", "https://index.docker.io/v1/"] {
            assert_eq!(registry(image), None, "{image}");
        }
    }

    /// What `docker pull` of the docker CLI 28.2.2 sent to an engine that recorded its header, row by row. Where the CLI
    /// gave up on the file with a warning, we use what is readable.
    #[tokio::test]
    async fn config_json_reads_as_the_docker_cli_reads_it() {
        for (text, registry, expected) in [
            (r#"{"auths":{"r.io":{"auth":"dTpw"}},"credsStore":null,"credHelpers":null}"#, "r.io", "u:p"),
            (r#"{"auths":{"http://r.io":{"auth":"YTpi"},"r.io":{"auth":"dTpw"}}}"#, "r.io", "u:p"),
            (r#"{"auths":{"r.io":{"auth":"dTpw"},"https://r.io/v1/":{"auth":"YTpi"}}}"#, "r.io", "u:p"),
            (r#"{"auths":{"http://r.io/v1/":{"auth":"YTpi"},"other":null}}"#, "r.io", "a:b"),
            (r#"{"auths":{"r.io":{"auth":"dTpwOnc="}}}"#, "r.io", "u:p:w"),
            (r#"{"auths":{"R.io":{"auth":"dTpw"}}}"#, "r.io", "-"),
            (r#"{"auths":{"docker.io":{"auth":"dTpw"}}}"#, HUB, "-"),
            (r#"{"auths":{"index.docker.io":{"auth":"dTpw"}}}"#, HUB, "-"),
            (r#"{"auths":{"https://index.docker.io/v1":{"auth":"dTpw"}}}"#, HUB, "-"),
            (r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#, HUB, "u:p"),
            (r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#, "MYREG", "-"),
            (r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#, "registry-1.docker.io", "-"),
            (r#"{"auths":{"MYREG":{"auth":"dTpw"}}}"#, "MYREG", "u:p"),
            (r#"{"AUTHS":{"r.io":{"AUTH":"dTpw"}}}"#, "r.io", "u:p"),
            (r#"{"auths":{"r.io":{"auth":"dTpw","identitytoken":null,"username":null}}}"#, "r.io", "u:p"),
            (r#"{"auths":{"r.io":{"auth":"dTpw","identitytoken":"tok"}}}"#, "r.io", "u:p tok"),
            (r#"{"auths":{"r.io":{"identitytoken":"tok","registrytoken":"rt"}}}"#, "r.io", ": tok rt"),
            (r#"{"auths":{"r.io":{"username":"x","password":"y"}}}"#, "r.io", "x:y"),
            (r#"{"auths":{"r.io":null}}"#, "r.io", "-"),
            (r#"{"auths":{"r.io":{}}}"#, "r.io", "-"),
            (r#"{"auths":null}"#, "r.io", "-"),
            (r#"{"auths":{"s.io":{"auth":"dTpw\n"}}}"#, "s.io", "u:p"),
            (r#"{"auths":{"s.io":{"auth":"dTpw"}}} garbage"#, "s.io", "u:p"),
            (r#"{"auths":{"s.io:5000":{"auth":"dTpw"}}}"#, "s.io:5000", "u:p"),
            (r#"{"auths":{"s.io:5000":{"auth":"dTpw"}}}"#, "s.io", "-"),
            (r#"{"auths":{"https://s.io:5000/v2/":{"auth":"dTpw"}}}"#, "s.io:5000", "u:p"),
            (r#"{"auths":{"s.io/v2/":{"auth":"dTpw"}}}"#, "s.io", "u:p"),
            (r#"{"auths":{"s.io/team":{"auth":"dTpw"}}}"#, "s.io", "u:p"),
            (r#"{"auths":{"https://[::1]:5000":{"auth":"dTpw"}}}"#, "[::1]:5000", "u:p"),
            (r#"{"auths":{"r.io":{"auth":"dTo="}}}"#, "r.io", "u:"),
            ("", "r.io", "-"),
            ("{}", "r.io", "-"),
            // The CLI warns about these.
            (r#"{"auths":{"r.io":{"auth":"!!"},"s.io":{"auth":"dTpw"}}}"#, "s.io", "u:p"),
            (r#"{"auths":{"a.io":{"auth":5},"s.io":{"auth":"dTpw"}}}"#, "s.io", "u:p"),
            (r#"{"auths":{"s.io":{"auth":"dTpw"}},"credsStore":7,"psFormat":7}"#, "s.io", "u:p"),
        ] {
            let found = look(&config(text), registry).await.unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(shown(found), expected, "{text} for {registry}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_says_so() {
        for text in [
            "{",
            "x",
            r#"{"auths":{"r":{"auth":"!!"}}}"#,
            r#"{"auths":{"r":{"auth":"OnA="}}}"#,
            r#"{"credsStore":"../../bin/sh"}"#,
            r#"{"credsStore":"nobody-has-this"}"#,
        ] {
            assert!(look(&config(text), "r").await.is_err(), "{text}");
        }
        assert_eq!(look_up(Path::new("/nonexistent"), "r", HELPER_TIMEOUT).await, Ok(None));
    }

    #[test]
    fn the_header_is_json_in_base64_that_a_header_can_hold() {
        let auth = RegistryAuth { username: "u".into(), password: "p\n\u{ff}?>".into() };
        let header = Credentials::given(&auth, "reg.example/a").header();
        let value: Value = serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({ "username": "u", "password": "p\n\u{ff}?>", "serveraddress": "reg.example" })
        );
    }

    #[cfg(unix)]
    mod helpers {
        use super::*;

        /// Another process writes this file: a child that another test starts meanwhile would inherit our open file, and
        /// running the helper would fail ("Text file busy").
        fn helper(dir: &tempfile::TempDir, name: &str, script: &str) {
            let bin = dir.path().join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            let status = std::process::Command::new("sh")
                .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$2" >"$1"; chmod 755 "$1""#, "sh"])
                .arg(bin.join(format!("docker-credential-{name}")))
                .arg(script)
                .status();
            assert!(status.unwrap().success());
        }

        #[tokio::test]
        async fn a_registrys_own_helper_comes_before_the_store() {
            let dir = config(r#"{"credsStore":"store","credHelpers":{"r.example":"own"},"auths":{"r.example":{}}}"#);
            helper(&dir, "own", r#"read r; echo "{\"ServerURL\":\"$r\",\"Username\":\"own\",\"Secret\":\"$1-$r\"}""#);
            helper(&dir, "store", r#"cat >/dev/null; echo '{"ServerURL":"x","Username":"<token>","Secret":"tok"}'"#);
            assert_eq!(shown(look(&dir, "r.example").await.unwrap()), "own:get-r.example");
            assert_eq!(shown(look(&dir, "s.example").await.unwrap()), ": tok");
        }

        /// Recorded as in [`config_json_reads_as_the_docker_cli_reads_it`].
        #[tokio::test]
        async fn a_helper_and_the_file() {
            for (rest, expected) in [
                (r#""credsStore":"good""#, "hu:hs  rt"),
                (r#""credsStore":"none""#, "-"),
                (r#""credsStore":"null""#, "-"),
                (r#""credsStore":"bad""#, "u:p"),
                (r#""credsStore":"nojson""#, "u:p"),
                (r#""credsStore":"nobody-has-this""#, "u:p"),
                (r#""credsStore":"../x""#, "u:p"),
                (r#""credsStore":"good","credHelpers":{"r.io":""}"#, "u:p"),
                (r#""credsStore":"good","credHelpers":{"r.io":null}"#, "u:p"),
                (r#""credHelpers":{"R.IO":"good"}"#, "u:p"),
                (r#""credHelpers":{"https://r.io":"good"}"#, "u:p"),
                (r#""credHelpers":{"r.io":"good"}"#, "hu:hs"),
            ] {
                // A registry token always comes from the file.
                let token = if expected.ends_with("rt") { r#","registrytoken":"rt""# } else { "" };
                let dir = config(&format!(r#"{{"auths":{{"r.io":{{"auth":"dTpw"{token}}}}},{rest}}}"#));
                helper(&dir, "good", r#"cat >/dev/null; echo '{"ServerURL":"x","Username":"hu","Secret":"hs"}'"#);
                helper(&dir, "none", "cat >/dev/null; echo 'credentials not found in native keychain'; exit 1");
                helper(&dir, "null", r#"cat >/dev/null; echo '{"ServerURL":"x","Username":null}'"#);
                helper(&dir, "bad", "cat >/dev/null; echo 'the keychain is locked'; exit 2");
                helper(&dir, "nojson", "cat >/dev/null; echo hello");
                assert_eq!(shown(look(&dir, "r.io").await.unwrap()), expected, "{rest}");
            }
        }

        #[cfg(target_os = "linux")]
        #[tokio::test]
        async fn where_nothing_is_said_the_systems_own_store_is_asked() {
            let say = |user: &str| format!(r#"cat >/dev/null; echo '{{"Username":"{user}","Secret":"s"}}'"#);
            for (text, expected) in [
                ("", "keys:s"),
                ("{}", "keys:s"),
                (r#"{"auths":null}"#, "keys:s"),
                (r#"{"auths":{"other":{}}}"#, "-"),
                (r#"{"credHelpers":{"other":"x"}}"#, "-"),
            ] {
                let dir = config(text);
                for name in ["secretservice", "pass"] {
                    helper(&dir, name, &say("keys"));
                }
                assert_eq!(shown(look(&dir, "r.io").await.unwrap()), expected, "{text}");
            }
        }

        #[tokio::test]
        async fn a_helper_that_hangs_is_ended() {
            for hangs in ["exec sleep 60", "exec >&-; exec sleep 60"] {
                let dir = config(r#"{"credsStore":"hang"}"#);
                helper(&dir, "hang", hangs);
                let e = look_up(dir.path(), "r", Duration::from_millis(100)).await.unwrap_err();
                assert!(e.contains("did not answer"), "{e}");
            }
        }

        #[tokio::test]
        async fn a_helper_that_fails_says_its_words() {
            let dir = config(r#"{"credsStore":"bad"}"#);
            helper(&dir, "bad", "echo 'the keychain is locked'; exit 2");
            assert!(look(&dir, "r").await.unwrap_err().contains("the keychain is locked"));
        }
    }
}

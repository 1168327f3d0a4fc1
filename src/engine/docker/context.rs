//! Docker contexts: `config.json` names the current one, `contexts/meta/<sha256 of its name>/meta.json` describes it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{endpoint::Endpoint, tls::Tls};
use crate::{
    env_vars,
    error::{Error, Result},
};

/// The context that is none: the engine is found without one.
pub(super) const DEFAULT: &str = "default";

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Docker>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Docker {
    #[serde(default)]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// The current context of `config.json`, unless it is the default. A file that cannot be read names none, as for the
/// docker CLI.
pub(super) fn current(docker_dir: &Path) -> Option<String> {
    let text = std::fs::read(docker_dir.join("config.json")).ok()?;
    let config: Config = serde_json::from_slice(&text).ok()?;
    config.current_context.filter(|c| !c.is_empty() && c != DEFAULT)
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

    #[test]
    fn a_context_without_an_endpoint_says_so() {
        let dir = tempfile::tempdir().unwrap();
        write_context(dir.path(), "k8s", r#"{"Host":""}"#);
        assert!(endpoint(dir.path(), "k8s").unwrap_err().message().contains("no docker endpoint"));
        assert!(endpoint(dir.path(), "gone").unwrap_err().message().contains("there is no docker context"));
    }
}

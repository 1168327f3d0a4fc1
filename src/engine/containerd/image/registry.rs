//! A nerdctl that asks a registry: with proxies, credentials and certificates that stand in no argument.

use serde_json::json;

use super::super::prelude::*;
use crate::{
    engine::{
        credentials::{self, Credentials},
        types::{RuntimeType, StoredCredentials},
    },
    env_vars,
    guest::BEGAN,
    process::Command,
};

/// `made BASE WHAT` makes a directory that nobody else can have made, and prints its path; what a killed predecessor left goes
/// first: its name says who it was. `in_memory` makes `$dir` in a place that is ours or lets nobody touch others' files, and that
/// no disk has (docs/reference/nerdctl.md#registry-settings).
pub(super) const DIRECTORIES: &str = r#"
made() {
  for old in "$1/lima-runtime-$2".*; do
    who=${old##*/lima-runtime-$2.}
    who=${who%%.*}
    [ -d "$old" ] && [ ! -L "$old" ] && [ -O "$old" ] || continue
    began "${who%-*}" && [ "$at" = "${who#*-}" ] || rm -rf -- "$old"
  done
  began $$
  mktemp -d "$1/lima-runtime-$2.$$-$at.XXXXXXXXXX"
}
in_memory() {
  for base in "$XDG_RUNTIME_DIR" /run /dev/shm; do
    [ -n "$base" ] && [ -w "$base" ] && [ "$(stat -f -c %T "$base")" = tmpfs ] || continue
    [ -O "$base" ] || [ -k "$base" ] || continue
    dir=$(made "$base" auth) && return
  done
  echo 'time=now level=fatal msg="no tmpfs to keep the credentials on"' >&2
  exit 1
}
"#;

/// Runs a nerdctl with proxies, credentials and certificates that stand in no argument and lie in memory alone, and go with
/// it. Input: one line of JSON (Docker's `config.json`; empty where there is none, nor a certificate), then variables, a line
/// each, an empty line, and a PEM. `$1` is the registry.
const WITH_SECRETS: &str = r#"
umask 077
IFS= read -r config
while IFS= read -r line && [ -n "$line" ]; do export "$line"; done
registry=$1
program=$2
shift 2
[ -n "$config" ] || exec "$program" "$@" </dev/null
in_memory
child=
trap 'rm -rf "$dir"' EXIT
trap 'kill "$child" 2>/dev/null; exit 143' HUP INT TERM
printf '%s\n' "$config" >"$dir/config.json"
mkdir -p "$dir/certs.d/$registry"
cat >"$dir/certs.d/$registry/ca.crt"
# What the guest says of a registry, a hosts.toml with a mirror or plain HTTP, a directory of ours would hide.
said=
for root in /etc/containerd/certs.d /etc/docker/certs.d; do
  for name in "$registry" "${registry%:*}_${registry##*:}_" _default; do [ ! -d "$root/$name" ] || said=yes; done
done
if [ -z "$said" ] && [ -s "$dir/certs.d/$registry/ca.crt" ]; then
  set -- --hosts-dir "$dir/certs.d" --hosts-dir /etc/containerd/certs.d --hosts-dir /etc/docker/certs.d "$@"
fi
DOCKER_CONFIG=$dir "$program" "$@" </dev/null &
child=$!
wait "$child"
"#;

/// A nerdctl that asks the registry of `name`.
pub(super) fn asking_registry(
    c: &Containerd,
    args: Vec<String>,
    name: &str,
    credentials: Option<&Credentials>,
    stored: StoredCredentials,
) -> Result<Command> {
    let command = c.nerdctl.command(args);
    let certificates = c.settings.certificates()?;
    // Without a configuration of ours nerdctl reads the guest's.
    let anonymous = stored == StoredCredentials::None;
    let secrets = credentials.is_some() || !certificates.is_empty() || anonymous;
    let mut variables = String::new();
    // On this machine the proxies that lead out of it are ours, and so is the directory in memory; a guest has its own.
    if c.settings.runtime_type == RuntimeType::Containerd {
        for name in env_vars::PROXIES {
            let value = env_vars::either(name);
            // Some hold a password.
            variables.extend(value.filter(|v| !v.contains('\n')).map(|value| format!("{name}={value}\n")));
        }
        let dir = env_vars::get(env_vars::XDG_RUNTIME_DIR).filter(|_| secrets);
        variables.extend(dir.map(|dir| format!("XDG_RUNTIME_DIR={dir}\n")));
    }
    if !secrets && variables.is_empty() {
        return Ok(command);
    }
    let registry = name.split('/').next().unwrap_or_default();
    let key = if registry == "docker.io" { credentials::HUB } else { registry };
    let auths = credentials.map(|c| json!({ key: c.entry() }));
    let config = json!({ "auths": auths.unwrap_or_else(|| json!({})) }).to_string();
    let config = if secrets { config.as_str() } else { "" };
    let script =
        ["/bin/sh", "-c", &[BEGAN, DIRECTORIES, WITH_SECRETS].concat(), "sh", registry].map(|a| a.as_bytes().to_vec());
    let whole = script.into_iter().chain(command.argv).collect();
    Ok(Command { argv: whole, input: format!("{config}\n{variables}\n{certificates}").into(), ..command })
}

pub(super) const NO_PROXY: &str = "Here containerd itself fetches, and heeds the proxy settings of its own service alone: \
    `systemctl edit containerd`, Environment=HTTPS_PROXY=…";

/// Whether proxies are set that the daemon does not get from us.
pub(super) async fn proxies_are_lost(c: &Containerd) -> bool {
    // Daemons of ours, here or in a guest, have them (docs/reference/nerdctl.md#transfer-service).
    let others = c.settings.runtime_type == RuntimeType::Containerd && !c.settings.private;
    others
        && env_vars::PROXIES.iter().any(|p| *p != "no_proxy" && env_vars::either(p).is_some())
        && c.nerdctl.version().await >= (2, 3, 0)
        && c.containerd_version().await.is_ok_and(|version| version >= (2, 0, 0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn credentials_stay_no_longer_than_the_pull_they_are_of() {
        use std::io::Write;
        let Ok(base) = tempfile::tempdir_in("/dev/shm") else { return crate::skip::skip("no /dev/shm") };
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let (pid, began) = crate::process::identity::Identity::of(child.id()).unwrap().for_a_shell();
        let left = |who: &str| base.path().join(format!("lima-runtime-auth.{who}.aaaaaaaaaa"));
        let lives = left(&format!("{pid}-{began}"));
        // Its number is another's by now; as an earlier version named it; of nobody.
        let gone = [left(&format!("{pid}-1")), left(&pid), left("999999999-1"), left("x")];
        for dir in gone.iter().chain([&lives]) {
            std::fs::create_dir(dir).unwrap();
        }
        let mut pull = std::process::Command::new("sh");
        pull.args(["-c", &[BEGAN, DIRECTORIES, WITH_SECRETS].concat(), "sh", "r.example", "true"])
            .env("XDG_RUNTIME_DIR", base.path());
        let mut pull = pull.stdin(std::process::Stdio::piped()).spawn().unwrap();
        pull.stdin.take().unwrap().write_all(b"{\"auths\":{}}\n\n").unwrap();
        assert!(pull.wait().unwrap().success());
        let there: Vec<_> = std::fs::read_dir(base.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(there, [lives]);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_anonymous_pull_has_an_empty_configuration_in_place_of_the_guests() {
        use crate::{engine::RuntimeType, guest::local::LocalGuest};
        let guest = Arc::new(LocalGuest::new("/nonexistent.sock"));
        let c = Containerd::new(super::super::super::settings::Settings::system(
            guest,
            RuntimeType::Lima,
            "default",
            "kai",
        ))
        .unwrap();
        let name = "docker.io/library/x:1";
        let command =
            asking_registry(&c, vec!["pull".into(), name.into()], name, None, StoredCredentials::None).unwrap();
        assert_eq!(command.argv[0], b"/bin/sh");
        assert!(command.input.starts_with(br#"{"auths":{}}"#));
    }
}

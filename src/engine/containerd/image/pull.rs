//! Pulling an image: nerdctl fetches, or from 2.3 on has containerd 2 do it; bytes are read over the API as they arrive,
//! because nerdctl's own figures are rounded (docs/reference/nerdctl.md#progress-of-a-pull).

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use super::super::{nerdctl::errors::refusal, prelude::*};
use super::{documents, reference::full, transfer::Transfer};
use crate::{
    call,
    engine::{
        credentials::{self, Credentials},
        registry,
        types::{PullOptions, RuntimeType, StoredCredentials},
    },
    env_vars,
    guest::BEGAN,
    process::{Chunk, Collected, Command, Exit, Output, Process},
    progress::{PullProgress, Sink, Throttle},
};

/// How often we look how far it is: nerdctl says nothing while it unpacks, or while containerd fetches.
const LOOK: Duration = Duration::from_millis(250);

/// containerd tells of whole MiB alone (core/content/helpers.go, copyWithBuffer): on a slow line one takes longer than
/// [`call::IDLE`].
const STEP_IDLE: Duration = Duration::from_secs(180);
/// Unpacking a large layer moves nothing that can be seen.
const UNPACK_IDLE: Duration = Duration::from_secs(15 * 60);
/// Of a pull: one block, and all that is said of failures, a registry's words among them.
const LARGEST_WORDS: usize = 4 << 20;

/// Runs a nerdctl with proxies, credentials and certificates that stand in no argument and lie in memory alone, and go with
/// it. Input: one line of JSON (Docker's `config.json`; empty where there is none, nor a certificate), then variables, a line
/// each, an empty line, and a PEM. `$1` is the registry. The directory is one that nobody else can have made, in a place
/// that is ours or lets nobody touch others' files; what a killed predecessor left goes first: its name says who it was
/// (docs/reference/nerdctl.md#registry-settings).
const WITH_SECRETS: &str = r#"
umask 077
IFS= read -r config
while IFS= read -r line && [ -n "$line" ]; do export "$line"; done
registry=$1
program=$2
shift 2
[ -n "$config" ] || exec "$program" "$@" </dev/null
dir=
for base in "$XDG_RUNTIME_DIR" /run /dev/shm; do
  [ -n "$base" ] && [ -w "$base" ] && [ "$(stat -f -c %T "$base")" = tmpfs ] || continue
  [ -O "$base" ] || [ -k "$base" ] || continue
  for old in "$base"/lima-runtime-auth.*; do
    who=${old##*/lima-runtime-auth.}
    who=${who%%.*}
    [ -d "$old" ] && [ ! -L "$old" ] && [ -O "$old" ] || continue
    began "${who%-*}" && [ "$at" = "${who#*-}" ] || rm -rf -- "$old"
  done
  began $$
  dir=$(mktemp -d "$base/lima-runtime-auth.$$-$at.XXXXXXXXXX") && break
done
[ -n "$dir" ] || { echo 'time=now level=fatal msg="no tmpfs to keep the credentials on"' >&2; exit 1; }
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

pub(crate) async fn pull(
    c: &Containerd,
    image: &str,
    options: &PullOptions,
    progress: &Sink<PullProgress>,
) -> Result<()> {
    let name = full(image);
    let turn = {
        let mut pulls = c.images.pulls.lock();
        // Nobody waits for those any more.
        pulls.retain(|_, turn| Arc::strong_count(turn) > 1);
        pulls.entry(name.clone()).or_default().clone()
    };
    let _turn = turn.lock().await;
    let (credentials, why_none) = credentials::for_pull(options, image).await;
    let command = command(c, &name, options, credentials.as_ref())?;
    run(c, image, &name, command, progress).await.map_err(|e| credentials::with_reason(e, why_none))
}

fn command(c: &Containerd, name: &str, options: &PullOptions, credentials: Option<&Credentials>) -> Result<Command> {
    let mut args = vec!["pull".to_owned()];
    args.extend(options.platform.as_ref().map(|p| format!("--platform={p}")));
    args.push(name.to_owned());
    let command = c.nerdctl.command(args);
    let certificates = c.settings.certificates()?;
    // Without a configuration of ours nerdctl reads the guest's.
    let anonymous = options.credentials == StoredCredentials::None;
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
    let script = ["/bin/sh", "-c", &[BEGAN, WITH_SECRETS].concat(), "sh", registry].map(|a| a.as_bytes().to_vec());
    let whole = script.into_iter().chain(command.argv).collect();
    Ok(Command { argv: whole, input: format!("{config}\n{variables}\n{certificates}").into(), ..command })
}

async fn run(c: &Containerd, image: &str, name: &str, command: Command, progress: &Sink<PullProgress>) -> Result<()> {
    let mut running = Running::start(c, command).await?;
    let throttle = Throttle::new(progress.clone());
    let (mut stdout, mut said) = (String::new(), Collected::up_to(LARGEST_WORDS));
    let mut transfer = Transfer::default();
    throttle.always(transfer.progress(format!("Resolving {image}")));
    let (mut moved, mut unpacking) = (Instant::now(), false);
    let mut look = tokio::time::interval(LOOK);
    loop {
        let idle = match (unpacking, transfer.knows_layers()) {
            (true, _) => UNPACK_IDLE,
            (_, true) => STEP_IDLE,
            _ => call::IDLE,
        };
        let mut looked = false;
        tokio::select! {
            chunk = running.next() => match chunk {
                Some(Chunk::Stdout(data)) => {
                    stdout.push_str(&String::from_utf8_lossy(&data));
                    if stdout.len() > LARGEST_WORDS {
                        return Err(Error::too_large("nerdctl's account of the pull", LARGEST_WORDS));
                    }
                    // A block is whole at the line after `elapsed:`.
                    let Some(end) = stdout.rfind("elapsed:").and_then(|at| Some(at + stdout[at..].find('\n')?)) else {
                        continue;
                    };
                    let rest = stdout.split_off(end + 1);
                    let blocks = std::mem::replace(&mut stdout, rest);
                    for block in blocks.split("elapsed:") {
                        if transfer.take(c, block).await {
                            moved = Instant::now();
                        }
                    }
                    running.fetched.extend(transfer.digests());
                }
                Some(Chunk::Stderr(data)) => said.stderr(&data)?,
                None => break,
            },
            _ = look.tick() => looked = true,
            () = tokio::time::sleep_until(moved + idle) => return Err(silent(image, idle)),
        }
        // nerdctl waits for the registry, and does not see that its daemon is gone.
        if looked {
            match transfer.look(c).await {
                Ok(true) => moved = Instant::now(),
                Err(e) if matches!(e.code(), ErrorCode::ContainerdNotReady | ErrorCode::VmNotRunning) => return Err(e),
                _ => {}
            }
        }
        if transfer.is_complete() && !unpacking {
            unpacking = true;
            transfer.turn_to_unpacking(image, &throttle);
        }
        if unpacking {
            if looked {
                let status = transfer.unpacked(c, image).await;
                throttle.offer(|| transfer.progress(status));
            }
        } else {
            let status = if transfer.knows_layers() { "Downloading" } else { "Resolving" };
            throttle.offer(|| transfer.progress(format!("{status} {image}")));
        }
    }
    let output = Output { exit: running.exit().await?, stdout: Vec::new(), stderr: said.stderr };
    if !output.success() {
        let e = registry::explain(image, refusal(About::Image(image), &output));
        return Err(if e.code() == ErrorCode::EngineError && proxies_are_lost(c).await { e.hint(NO_PROXY) } else { e });
    }
    if !transfer.knows_layers()
        && let Some(pulled) = c.api.image(name).await?
        && let Some(target) = pulled.target
    {
        // It was there already, or nerdctl was quicker than its first word.
        transfer.layers(documents::blobs(c, &target.digest).await?, true);
    }
    if !unpacking {
        // The last bytes and the unpacking were over before nerdctl spoke again.
        transfer.all_arrived();
        transfer.turn_to_unpacking(image, &throttle);
    }
    throttle.always(transfer.done(image));
    Ok(())
}

/// A nerdctl that pulls. One that is killed leaves its lease behind, which keeps what it had fetched for a day
/// (docs/reference/nerdctl.md#killed-pulls): the lease then goes after it.
struct Running {
    c: Containerd,
    process: Option<Process>,
    /// The leases there were before.
    leases: HashSet<String>,
    fetched: HashSet<String>,
}

impl Running {
    async fn start(c: &Containerd, command: Command) -> Result<Self> {
        let leases = c.api.leases().await?;
        let mut process = c.nerdctl.spawn(command).await?;
        process.stdin = None;
        Ok(Self { c: c.clone(), process: Some(process), leases, fetched: HashSet::new() })
    }

    async fn next(&mut self) -> Option<Chunk> {
        self.process.as_mut()?.next().await
    }

    async fn exit(mut self) -> Result<Exit> {
        match self.process.take() {
            Some(process) => process.exit().await,
            None => Err(Error::internal("a pull that has ended")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(process), Ok(runtime)) = (self.process.take(), tokio::runtime::Handle::try_current()) else { return };
        let (c, leases, fetched) =
            (self.c.clone(), std::mem::take(&mut self.leases), std::mem::take(&mut self.fetched));
        runtime.spawn(async move {
            process.end().await;
            if let Err(e) = release(&c, &leases, &fetched).await {
                tracing::warn!(%e, "what an aborted pull had fetched stays for a day");
            }
        });
    }
}

/// Of the new leases, ours: the only one that holds what we saw it fetch, or the only one where it was too early to see.
async fn release(c: &Containerd, before: &HashSet<String>, fetched: &HashSet<String>) -> Result<()> {
    let mut ours = Vec::new();
    for id in c.api.leases().await?.into_iter().filter(|id| !before.contains(id)) {
        if fetched.is_empty() || !c.api.leased(&id).await?.is_disjoint(fetched) {
            ours.push(id);
        }
    }
    match ours.as_slice() {
        [ours] => c.api.delete_lease(ours).await,
        _ => Ok(()),
    }
}

const NO_PROXY: &str = "Here containerd itself fetches, and heeds the proxy settings of its own service alone: \
    `systemctl edit containerd`, Environment=HTTPS_PROXY=…";

/// Whether proxies are set that the daemon does not get from us.
async fn proxies_are_lost(c: &Containerd) -> bool {
    // Daemons of ours, here or in a guest, have them (docs/reference/nerdctl.md#transfer-service).
    let others = c.settings.runtime_type == RuntimeType::Containerd && !c.settings.private;
    others
        && env_vars::PROXIES.iter().any(|p| *p != "no_proxy" && env_vars::either(p).is_some())
        && c.nerdctl.version().await >= (2, 3, 0)
        && c.containerd_version().await.is_ok_and(|version| version >= (2, 0, 0))
}

fn silent(image: &str, idle: Duration) -> Error {
    call::timed_out(idle).detail("image", image).hint("The registry sends nothing. Look at the network, or try again.")
}

#[cfg(test)]
mod tests {
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
        pull.args(["-c", &[BEGAN, WITH_SECRETS].concat(), "sh", "r.example", "true"])
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
        let anonymous = PullOptions { credentials: StoredCredentials::None, ..PullOptions::default() };
        let command = command(&c, "docker.io/library/x:1", &anonymous, None).unwrap();
        assert_eq!(command.argv[0], b"/bin/sh");
        assert!(command.input.starts_with(br#"{"auths":{}}"#));
    }
}

//! Building an image: by the BuildKit that is where containerd runs, with its own client. What that builds is loaded as any
//! archive is, whichever namespace or store BuildKit itself has.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::{prelude::*, source::images::SNAPSHOTTER};
use super::{archive, details, reference::full, registry::DIRECTORIES};
use crate::{
    engine::{
        build::{self, Account, Build, Secrets, Status},
        credentials,
        reference::Reference,
        types::{BuildOptions, RuntimeType, StoredCredentials},
    },
    env_vars,
    guest::BEGAN,
    process::{Chunk, Command, Exit, Lines, Process, feed},
    progress::{BuildProgress, Sink},
    random,
};

/// `$1` is BuildKit's address, empty for where it is looked for; `$2` the namespace; `$3` where nerdctl is; `$4` the runtime directory
/// of a rootless containerd; `$5` is `yes` where the context's own list of what is left out counts; `$6` is the Dockerfile. `$7`
/// and `$8` are the directories of an own BuildKit's settings and cache, empty for none; `$9` is its containerd's socket, and `${10}`
/// the program that leads to where that is. The rest is for buildctl. Input: one line of JSON (Docker's `config.json`), secrets, a line each (`name:base64`), an empty line, and
/// the context's tar. The secrets lie in memory alone. The Dockerfile is read from a directory of its own, so that it need not be
/// seen by what it builds.
const BUILD: &str = r#"
umask 077
address=$1 namespace=$2 beside=$3 rootless=$4 lists=$5 file=$6 settings=$7 cache=$8 containerd=$9
shift 9
inside=$1
shift
PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}${beside:+:$beside}
wrong() { echo "lima-runtime: $1" >&2; exit 46; }
command -v buildctl >/dev/null || wrong buildctl
run=${rootless:-/run}
for name in "buildkit-$namespace" buildkit-default buildkit; do
  [ -z "$address$cache" ] && [ -S "$run/$name/buildkitd.sock" ] && address=unix://$run/$name/buildkitd.sock
done
[ -n "$address$cache" ] || wrong buildkitd
# It asks for tokens itself. Where ours lie (manager/buildkit.rs); Go reads them beside the system's bundle.
own=${settings:-/etc/buildkit}/lima-runtime/certificates
[ ! -d "$own" ] || export SSL_CERT_DIR=/etc/ssl/certs:/etc/pki/tls/certs:$own
dir= work= child= daemon=
tidy() {
  rm -rf -- "$dir" "$work"
  [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null
}
trap tidy EXIT
trap 'kill "$child" 2>/dev/null; exit 143' HUP INT TERM
if [ -z "$address" ]; then
  program=$(command -v buildkitd) || wrong buildkitd
  mkdir -p "$cache" || exit 1
  # Two want no cache in common: a build waits for the other.
  exec 6>"$cache/lock"
  flock -w 3600 6 || { echo 'another build goes on for an hour' >&2; wrong start; }
  socket=$cache/buildkitd.sock mode=
  rm -f "$socket"
  [ "$(id -u)" = 0 ] || mode=--containerd-worker-rootless
  # It ends with this build, whatever ends that.
  ${inside:+"$inside"} setpriv --pdeathsig TERM env "PATH=$PATH" "$program" \
    --addr "unix://$socket" --root "$cache" --config "$settings/buildkitd.toml" --oci-worker=false \
    --containerd-worker=true --containerd-worker-addr "$containerd" --containerd-worker-net host $mode </dev/null >"$cache/log" 2>&1 &
  daemon=$!
  address=unix://$socket
fi
[ -z "$rootless" ] || XDG_RUNTIME_DIR=$rootless
in_memory
IFS= read -r config
printf '%s\n' "$config" >"$dir/config.json"
count=0
while IFS= read -r line && [ -n "$line" ]; do
  count=$((count + 1))
  printf '%s' "${line#*:}" | base64 -d >"$dir/$count" || wrong base64
  set -- "$@" --secret "id=${line%%:*},src=$dir/$count"
done
work=$(made /var/tmp build) || exit 1
mkdir "$work/context" "$work/dockerfile" || exit 1
# Not with the times in it: BuildKit keeps one context for all its clients, and takes a file of the same size and time for the
# same. Not every tar refuses a link to a file outside.
tar -x -p -m -f - -C "$work/context" || wrong tar
exec </dev/null
links=$(find "$work/context" -type f -links +1 -exec stat -c '%h %d:%i' {} + | sort | uniq -c | awk '$1 != $2') || exit 1
[ -z "$links" ] || wrong tar
root=$(readlink -f -- "$work/context")
real=$(readlink -f -- "$root/$file")
case $real in "$root"/*) [ -f "$real" ] || wrong dockerfile ;; *) wrong dockerfile ;; esac
cp -- "$real" "$work/dockerfile/Dockerfile" || exit 1
own=$real.dockerignore
if [ "$lists" != yes ]; then
  echo '#' >"$work/dockerfile/Dockerfile.dockerignore"
elif [ -f "$own" ] && [ ! -L "$own" ]; then
  cp -- "$own" "$work/dockerfile/Dockerfile.dockerignore" || exit 1
fi
while [ "$daemon" ] && ! [ -S "$socket" ]; do
  kill -0 "$daemon" 2>/dev/null || { tail -n 20 "$cache/log" >&2; wrong start; }
  sleep 0.1
done
DOCKER_CONFIG=$dir buildctl --addr "$address" build --progress=rawjson --frontend dockerfile.v0 --opt filename=Dockerfile \
  --local "context=$work/context" --local "dockerfile=$work/dockerfile" "$@" &
child=$!
wait "$child"
"#;

/// What the script says before a word of its own.
const OURS: &str = "lima-runtime: ";

/// BuildKit's arguments. None of them is secret: they stand in the process list.
fn arguments(o: &BuildOptions) -> Vec<String> {
    let mut argv = Vec::new();
    let mut flag = |name: &str, value: String| argv.extend([format!("--{name}"), value]);
    let plain = [("target", &o.target), ("platform", &o.platform)];
    for (key, value) in plain {
        if let Some(value) = value {
            flag("opt", format!("{key}={value}"));
        }
    }
    for (kind, all) in [("build-arg", &o.args), ("label", &o.labels)] {
        for (key, value) in all {
            flag("opt", format!("{kind}:{key}={value}"));
        }
    }
    if o.pull {
        flag("opt", "image-resolve-mode=pull".to_owned());
    }
    for image in &o.cache_from {
        flag("import-cache", format!("type=registry,ref={image}"));
    }
    // Of a name's characters none means something here but the comma between two.
    let names: Vec<_> = o.tags.iter().filter_map(|tag| Reference::parse(tag).ok()).map(|tag| tag.full()).collect();
    let names = if names.is_empty() { String::new() } else { format!(",\"name={}\"", names.join(",")) };
    flag("output", format!("type=docker{names}"));
    if o.no_cache {
        argv.push("--no-cache".to_owned());
    }
    argv
}

/// Docker's `config.json` for the registries that the build names.
async fn auths(registries: BTreeSet<String>, stored: StoredCredentials) -> Value {
    let mut auths = serde_json::Map::new();
    for domain in &registries {
        if let Some(found) = build::stored(&registries, stored, domain).await {
            auths.insert(credentials::key(domain).to_owned(), found.entry());
        }
    }
    auths.into()
}

fn command(c: &Containerd, build: &Build, auths: &Value) -> Command {
    let mut input = json!({ "auths": auths }).to_string();
    input.push('\n');
    for (id, secret) in build.secrets.iter() {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        input.extend([id, ":", &STANDARD.encode(secret), "\n"]);
    }
    input.push('\n');
    // A guest has its own.
    let own = c.settings.buildkit.as_ref();
    let here = c.settings.runtime_type == RuntimeType::Containerd;
    let address = env_vars::get(env_vars::BUILDKIT_HOST).filter(|_| here && own.is_none()).unwrap_or_default();
    let beside = c.settings.nerdctl.rsplit_once('/').map_or("", |(dir, _)| dir);
    let words = [
        "sh",
        "-c",
        &[BEGAN, DIRECTORIES, BUILD].concat(),
        "sh",
        &address,
        c.namespace(),
        own.map_or(beside, |own| &own.programs),
        c.settings.rootless.as_deref().unwrap_or_default(),
        if build.is_directory { "yes" } else { "no" },
        &build.dockerfile,
        own.map_or("", |own| &own.settings),
        own.map_or("", |own| &own.cache),
        c.guest().containerd_socket(),
        c.settings.inside.first().map_or("", String::as_str),
    ];
    let argv = words.map(str::to_owned).into_iter().chain(arguments(&build.options));
    c.command(argv).input(input)
}

pub(crate) async fn build(c: &Containerd, mut build: Build, sink: &Sink<BuildProgress>) -> Result<String> {
    // Not every nerdctl says that it loaded an image without a name.
    let for_now = build.options.tags.is_empty().then(|| format!("localhost/lima-runtime-build:{}", random::word()));
    build.options.tags.extend(for_now.clone());
    let auths = auths(build.registries.clone(), build.options.credentials).await;
    let command = command(c, &build, &auths);
    let Build { tar, secrets, .. } = build;
    let mut process = c.guest().spawn(command).await?;
    let mut input = process.stdin.take();
    let (send, mut image) = mpsc::channel::<Bytes>(4);
    let load = async {
        // Of a build that fails there is none.
        let Some(first) = image.recv().await else { return Ok(Vec::new()) };
        let rest = futures_util::stream::unfold(image, |mut image| async { image.recv().await.map(|p| (p, image)) });
        archive::load(c, futures_util::stream::iter([first]).chain(rest).map(Ok).boxed()).await
    };
    let mut account = Account::new(sink.clone(), &secrets);
    let built = async { Ok(tokio::join!(follow(process, send, &mut account), load)) };
    let ((), (ended, loaded)) = tokio::try_join!(feed(&mut input, tar), built)?;
    let (exit, said) = ended?;
    if exit != Exit::Code(0) {
        return Err(refused(&exit, &said, &account, &secrets));
    }
    let name = loaded?.into_iter().next().ok_or_else(|| Error::internal("BuildKit gave no image"))?;
    let id = details::inspect(c, &name).await?.info.id;
    if let Some(name) = for_now
        && let Some(image) = c.api.image(&full(&name)).await?
    {
        let digest = image.target.as_ref().map(|target| target.digest.clone()).unwrap_or_default();
        // As nerdctl calls what has no name.
        c.api.name_image(&format!("{SNAPSHOTTER}@{digest}"), image).await?;
        c.api.delete_image(&full(&name)).await?;
    }
    Ok(id)
}

/// One of BuildKit's messages may hold the output of a second.
const LONGEST_LINE: usize = 16 << 20;
/// What is kept of other words.
const SAID: usize = 64 << 10;

/// Passes on the image and the account, and keeps what else is said.
async fn follow(mut process: Process, image: mpsc::Sender<Bytes>, account: &mut Account) -> Result<(Exit, String)> {
    let (mut lines, mut said) = (Lines::default(), String::new());
    while let Some(chunk) = process.next().await {
        match chunk {
            // Who loads it says why it stops.
            Chunk::Stdout(data) => _ = image.send(data).await,
            Chunk::Stderr(data) => {
                lines.push(&data);
                while let Some(line) = lines.line() {
                    take(&line, account, &mut said);
                }
                if lines.rest().len() > LONGEST_LINE {
                    return Err(Error::too_large("BuildKit's account", LONGEST_LINE));
                }
            }
        }
    }
    take(lines.rest(), account, &mut said);
    drop(image);
    Ok((process.exit().await?, said))
}

fn take(line: &[u8], account: &mut Account, said: &mut String) {
    match serde_json::from_slice::<Status>(line) {
        Ok(status) if line.starts_with(b"{") => account.take(status),
        _ if said.len() + line.len() <= SAID => said.push_str(&String::from_utf8_lossy(line)),
        _ => {}
    }
}

fn refused(exit: &Exit, said: &str, account: &Account, secrets: &Secrets) -> Error {
    let ours = said.lines().find_map(|line| line.strip_prefix(OURS));
    let other = || said.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with(OURS)).unwrap_or_default();
    let missing = |what: &str| {
        Error::new(ErrorCode::NotInstalled, format!("There is no BuildKit where containerd runs: {what}")).hint(
            "Install buildkitd and buildctl (nerdctl-full has both) and start buildkitd; on this computer BUILDKIT_HOST may say where \
             it listens.",
        )
    };
    match (exit, ours) {
        (Exit::Code(46), Some("buildctl")) => missing("buildctl is not in PATH"),
        (Exit::Code(46), Some("buildkitd")) => missing("buildkitd does not listen"),
        (Exit::Code(46), Some("start")) => {
            Error::new(ErrorCode::EngineUnreachable, format!("BuildKit does not start: {}", other()))
                .detail("stderr", said)
        }
        (Exit::Code(46), Some("dockerfile")) => {
            Error::invalid("dockerfile", "there is no such file in the context, or it leads out of it")
        }
        (Exit::Code(46), Some("tar")) if said.contains("No space left") => Error::new(ErrorCode::DiskFull, other()),
        (Exit::Code(46), Some("tar")) => {
            Error::invalid("context", format!("not a tar that can be unpacked: {}", other()))
        }
        _ => {
            let message = said.split_once("error: ").map_or_else(other, |(_, message)| message);
            if message.contains("error while dialing") || message.contains("Error while dialing") {
                return Error::new(
                    ErrorCode::EngineUnreachable,
                    format!("BuildKit does not answer: {}", message.trim()),
                )
                .hint("Start buildkitd where containerd runs.");
            }
            build::refused(message, account, secrets)
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let mut account = Account::new(crate::progress::ignore(), &Secrets::default());
    let mut said = String::new();
    for line in data.split_inclusive(|b| *b == b'\n') {
        take(line, &mut account, &mut said);
    }
    for exit in [Exit::Code(46), Exit::Code(1)] {
        assert!(!refused(&exit, &said, &account, &Secrets::default()).message().is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_argument_whatever_is_in_it() {
        let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        let options = BuildOptions {
            tags: vec!["me/app".into(), "r.example:5000/x:2".into()],
            args: one("A", "--allow security.insecure, b=\"c\"\n"),
            labels: one("com.example", "x,y=z"),
            cache_from: vec!["r.example/c:1".into()],
            no_cache: true,
            pull: true,
            ..BuildOptions::default()
        };
        assert_eq!(
            arguments(&options),
            [
                "--opt",
                "build-arg:A=--allow security.insecure, b=\"c\"\n",
                "--opt",
                "label:com.example=x,y=z",
                "--opt",
                "image-resolve-mode=pull",
                "--import-cache",
                "type=registry,ref=r.example/c:1",
                "--output",
                "type=docker,\"name=docker.io/me/app:latest,r.example:5000/x:2\"",
                "--no-cache",
            ]
        );
        assert_eq!(arguments(&BuildOptions::default()), ["--output", "type=docker"]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let account = Account::new(crate::progress::ignore(), &Secrets::default());
        let code = |exit, said: &str| refused(&Exit::Code(exit), said, &account, &Secrets::default()).code().as_str();
        assert_eq!(code(46, "lima-runtime: buildctl\n"), "NOT_INSTALLED");
        assert_eq!(code(46, "lima-runtime: buildkitd\n"), "NOT_INSTALLED");
        assert_eq!(code(46, "tar: This does not look like a tar archive\nlima-runtime: tar\n"), "INVALID_ARGUMENT");
        let dial = "error: listing workers for Build: failed to list workers: Unavailable: connection error: desc = \"transport: \
            Error while dialing: dial unix /run/x.sock: connect: connection refused\"";
        assert_eq!(code(1, dial), "ENGINE_UNREACHABLE");
        assert_eq!(code(1, "error: failed to solve: target stage \"x\" could not be found\n"), "INVALID_ARGUMENT");
    }
}

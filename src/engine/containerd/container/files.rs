//! Files of a container, read and written by a tar of the guest's in a jail: a mount namespace of its own, in whose root there
//! are the container's root at `/c` and three programs. Whatever links the container makes, and when, nothing else is there
//! to lead to. The programs are copies, run with the guest's own loader: the container's files are data to them.

use bytes::Bytes;
use serde_json::Value;

use super::super::{prelude::*, source::images::Mount};
use super::{
    find::{FirstProcess, find, living},
    spec::{places, spec, strings},
};
use crate::{
    guest::BEGAN,
    process::{Chunk, Collected, Command, Exit, KEPT, Output, Process, feed},
};

/// Enters the mount namespace of the process `$1` that began at `$2`, by descriptors: the number may be another container's by
/// then. The root directory stays the guest's, whose programs can be run there; the working directory is the container's root. It
/// goes on in a copy of the namespace, in which nothing that is mounted is seen by the container.
const OF_PROCESS: &str = r#"
{ command exec 3<"/proc/$1/ns/mnt" 4<"/proc/$1/root"; } 2>/dev/null
began "$1" && [ "$at" = "$2" ] || { echo 'lima-runtime: ended' >&2; exit 44; }
then=$3 jail=$4
shift 4
nsenter --mount=/proc/self/fd/3 --root=/ --wd=/proc/self/fd/4 -- \
  unshare --mount --propagation unchanged -- sh -c "$then" sh "$jail" "$@"
"#;

/// In the copy of the namespace. The container cannot take its `/proc` away: to do so it would have to be root of the guest.
const IN_NAMESPACE: &str = r#"
exec 3<&- 4<&-
mount -c --make-rprivate . &&
  mount -c -t tmpfs -o mode=0755,nosuid,nodev,size=64m tmpfs ./proc || exit 1
tools ./proc
mkdir ./proc/c && mount -c --rbind . ./proc/c && umount -c ./proc/c/proc || exit 1
umount -c -l ./proc/c/proc 2>/dev/null || :
jailed ./proc "$@"
"#;

/// Of a container that does not run: mounts its root as containerd says. `$1` is a directory from which the mount's paths begin,
/// `$2` its kind, `$3` its source, `$4` its options, `$5` the jail, `$6` is `ro` for a root that is read-only, `$7` how many volumes
/// follow, three words each.
const OF_SNAPSHOT: &str = r#"
place=$(mktemp -d /run/lima-runtime-files.XXXXXXXXXX) || exit 1
trap 'rmdir -- "$place"' EXIT
then=$1
shift
unshare --mount --propagation private -- sh -c "$then" sh "$place" "$@"
"#;

const IN_SNAPSHOT: &str = r#"
place=$1
cd "$2" && mount -c -t tmpfs -o mode=0755,nosuid,nodev,size=64m tmpfs "$place" || exit 1
tools "$place"
mkdir "$place/c"
if [ "$3" = bind ]; then mount -c --rbind "$4" "$place/c"; else mount -c -t "$3" -o "$5" "$4" "$place/c"; fi || exit 1
jail=$6 locked=$7 volumes=$8
shift 8
root=$place/c
while [ "$volumes" -gt 0 ]; do
  volumes=$((volumes - 1))
  if [ -d "$1" ] && walk "$2" yes; then
    # Where the image has nothing, and nothing may be written, it is not seen.
    if [ -e "$at" ] || mkdir -- "$at" 2>/dev/null; then
      mount -c --rbind "$1" "$at" && { [ "$3" != ro ] || mount -c -o remount,bind,ro "$at"; } || exit 1
    fi
  fi
  shift 3
done
[ "$locked" != ro ] || mount -c -o remount,bind,ro "$root" || exit 1
cd /
jailed "$place" "$jail" "$@"
"#;

/// `tools DIRECTORY` puts the programs there, with what they are linked to. `jailed DIRECTORY SCRIPT WORD…` becomes the script with
/// that directory as its root. A container that sees another `/proc` has links that lead out of any root, `/proc/1/root`, and can
/// put one in a directory's place meanwhile: without these powers the kernel lets nobody through (proc_pid_root(5)).
const JAIL: &str = r#"
tools() {
  mkdir "$1/lib" || exit 1
  for tool in sh tar readlink; do
    program=$(command -v "$tool") && program=$(readlink -f -- "$program") && cp -L -- "$program" "$1/$tool" ||
      { echo "lima-runtime: no $tool" >&2; exit 45; }
    ldd "$program" 2>/dev/null | while read -r name arrow path rest; do
      case $name,$arrow,$path in
        /*) mkdir -p -- "$1${name%/*}" && cp -L -- "$name" "$1$name" ;;
        *,=\>,/*) cp -L -- "$path" "$1/lib/" ;;
      esac
    done
  done
}
jailed() {
  at=$1
  shift
  capped=$(command -v setpriv) || { echo 'lima-runtime: no setpriv' >&2; exit 45; }
  exec env -i LD_LIBRARY_PATH=/lib PATH=/ LC_ALL=C "$capped" --inh-caps=-all \
    --bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+mknod,+setfcap,+sys_chroot -- "$(command -v chroot)" "$at" /sh -c "$@"
}
"#;

/// `walk PATH FOLLOW` sets `$at` to where the path leads below `$root`, and `$link` if it ends at a link, through which it goes
/// only with FOLLOW=yes. False where it does not lead anywhere.
const WALK: &str = r#"
walk() {
  at=$root left=$1 links=0 link=
  while :; do
    while [ "${left#/}" != "$left" ]; do left=${left#/}; done
    [ -n "$left" ] || return 0
    part=${left%%/*}
    case $left in */*) left=${left#*/} ;; *) left= ;; esac
    link=
    case $part in
      .) continue ;;
      ..) [ "$at" = "$root" ] || at=${at%/*}; continue ;;
    esac
    if [ -L "$at/$part" ]; then
      if [ -z "$left" ] && [ "$2" != yes ]; then
        at=$at/$part link=yes
        return 0
      fi
      links=$((links + 1))
      [ "$links" -le 40 ] || return 1
      to=$(readlink -n -- "$at/$part" && echo x) || return 1
      to=${to%x}
      case $to in /*) at=$root ;; esac
      left=$to/$left
      continue
    fi
    [ -z "$left" ] || [ -d "$at/$part" ] || return 1
    at=$at/$part
  done
}
"#;

/// In the jail.
const WORK: &str = r#"
root=/c
wrong() { echo "lima-runtime: $1" >&2; exit 46; }
path=$2 follow=no
case $path in */ | */.) follow=yes ;; esac
case $1 in
  kind)
    walk "$path" no || { printf n; exit 0; }
    if [ -n "$link" ]; then
      walk "$path" yes || { printf l; exit 0; }
      at=${at#/c}
      printf 'l%s' "${at:-/}"
    elif [ -d "$at" ]; then printf d
    elif [ -e "$at" ]; then printf f
    else printf n; fi
    ;;
  read)
    walk "$path" "$follow" || wrong path
    [ -n "$link" ] || [ -e "$at" ] || wrong path
    case $path in */ | */.) [ -d "$at" ] || wrong directory ;; esac
    case $path in */.) base=. ;; *) base=${at##*/} ;; esac
    [ "$at" != /c ] || base=.
    if [ "$base" = . ]; then cd "$at"; else cd "${at%/*}"; fi || exit 1
    echo 'lima-runtime: begins' >&2
    exec tar --create --file=- --numeric-owner -- "$base"
    ;;
  write)
    walk "$path" yes || wrong path
    [ -e "$at" ] || wrong path
    [ -d "$at" ] || wrong directory
    # What tar says depends on whether the name is there already.
    [ -w "$at" ] || wrong readonly
    cd "$at" || exit 1
    exec tar --extract --file=- --numeric-owner --same-owner --preserve-permissions
    ;;
esac
"#;

/// What the scripts say before a word of theirs.
const OURS: &str = "lima-runtime: ";

/// The command that does `work` (`kind`, `read`, `write`) at a path.
async fn command(c: &Containerd, container: &Container, work: &str, path: &str) -> Result<Command> {
    let jail = [WALK, WORK].concat();
    let words = |script: String| ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()];
    let mut argv = Vec::new();
    if let Some(FirstProcess { pid, began }) = living(c, &container.id).await? {
        argv.extend(words([BEGAN, OF_PROCESS].concat()));
        argv.extend([pid, began, [JAIL, IN_NAMESPACE].concat(), jail]);
    } else {
        let mounts = c.api.mounts(&container.snapshotter, &container.snapshot_key).await?;
        let [mount] = mounts.as_slice() else {
            let problem = "The container's files are not on one layer that can be mounted";
            return Err(Error::new(ErrorCode::EngineError, problem).detail("id", container.id.as_str()));
        };
        argv.extend(words(OF_SNAPSHOT.to_owned()));
        argv.push([JAIL, WALK, IN_SNAPSHOT].concat());
        argv.extend(mounting(mount, work == "write"));
        argv.push(jail);
        let spec = spec(container);
        argv.push(if spec["root"]["readonly"] == true { "ro" } else { "rw" }.to_owned());
        let volumes = volumes(&spec);
        argv.push((volumes.len() / 3).to_string());
        argv.extend(volumes);
    }
    argv.extend(["sh".to_owned(), work.to_owned(), path.to_owned()]);
    Ok(c.inside(argv))
}

/// Where the paths of a mount begin, its kind, its source and its options. One page holds no more than some fifty layers' whole
/// paths. What only reads has the container's own layer as one of those below: the container may be started meanwhile.
fn mounting(mount: &Mount, writes: bool) -> [String; 4] {
    let layers = |option: &str| -> Vec<String> {
        option.split_once('=').into_iter().flat_map(|(_, paths)| paths.split(':').map(str::to_owned)).collect()
    };
    let mut given = mount.options.clone();
    let upper = given.iter().find_map(|option| option.strip_prefix("upperdir=")).map(str::to_owned);
    if let Some(upper) = upper.filter(|_| !writes) {
        given.retain(|option| !option.starts_with("upperdir=") && !option.starts_with("workdir="));
        for option in &mut given {
            if let Some(lower) = option.strip_prefix("lowerdir=") {
                *option = format!("lowerdir={upper}:{lower}");
            }
        }
    }
    let is_path = |option: &&String| ["lowerdir=", "upperdir=", "workdir="].iter().any(|key| option.starts_with(key));
    let paths: Vec<String> = given.iter().filter(is_path).flat_map(|option| layers(option)).collect();
    let mut base = paths.first().map_or("/", |first| first.rsplit_once('/').map_or("/", |(dir, _)| dir)).to_owned();
    while !base.is_empty() && !paths.iter().all(|path| path.starts_with(&format!("{base}/"))) {
        base.truncate(base.rfind('/').unwrap_or(0));
    }
    let prefix = format!("{base}/");
    let shorter = |option: &String| {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let values: Vec<&str> = value.split(':').map(|path| path.strip_prefix(&prefix).unwrap_or(path)).collect();
        format!("{key}={}", values.join(":"))
    };
    let options: Vec<String> =
        given.iter().map(|option| if is_path(&option) { shorter(option) } else { option.clone() }).collect();
    let base = if base.is_empty() { "/".to_owned() } else { base };
    [base, mount.r#type.clone(), mount.source.clone(), options.join(",")]
}

/// Directories of the guest that are mounted in the container: source, place, and whether it may be written.
fn volumes(spec: &Value) -> Vec<String> {
    let binds = places(spec).filter(|(_, _, mount)| {
        let kind = mount["type"].as_str().unwrap_or_default();
        matches!(kind, "bind" | "none")
    });
    binds
        .flat_map(|(source, place, mount)| {
            let how = if strings(&mount["options"]).any(|o| o == "ro") { "ro" } else { "rw" };
            [source.to_owned(), place.to_owned(), how.to_owned()]
        })
        .collect()
}

/// What went wrong, by the scripts' own words, by tar's, and by the guest's.
fn refused(id: &str, path: &str, output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr);
    let ours = said.lines().filter_map(|line| line.strip_prefix(OURS)).find(|word| *word != "begins");
    let of_path = |problem: &str| Error::invalid("containerPath", format!("{path} {problem}"));
    let last = said.lines().rfind(|line| !line.trim().is_empty() && !line.contains("getcwd")).unwrap_or("no message");
    let error = match (&output.exit, ours) {
        (Exit::Code(44), _) => super::find::invalid_state(id, "ended meanwhile").hint("Try again."),
        (Exit::Code(45), Some(word)) => {
            Error::new(ErrorCode::NotInstalled, format!("Where containerd runs there is {word}"))
                .hint("Copying files needs tar, and nsenter, setpriv and unshare of util-linux.")
        }
        (Exit::Code(46), Some("directory")) => of_path("is not a directory"),
        (Exit::Code(46), Some("readonly")) => {
            Error::new(ErrorCode::PermissionDenied, format!("{path} may not be written"))
        }
        (Exit::Code(46), _) => of_path("is not there"),
        (Exit::Code(127), _) => {
            Error::new(ErrorCode::NotInstalled, format!("A program that copying files needs is not there: {last}"))
                .hint("Install tar, and nsenter, setpriv and unshare of util-linux, where containerd runs.")
        }
        _ if said.contains("Read-only file system") => Error::new(ErrorCode::PermissionDenied, last),
        _ if said.contains("No space left") => Error::new(ErrorCode::DiskFull, last),
        _ if said.contains("not look like a tar") || said.contains("Unexpected EOF") => {
            Error::invalid("source", format!("not a tar that can be unpacked: {last}"))
        }
        _ if said.contains("Permission denied") || said.contains("not permitted") => {
            Error::new(ErrorCode::PermissionDenied, format!("The files of {id} cannot be reached: {last}"))
                .hint("Reading a container's files needs root's rights where containerd runs.")
        }
        _ => Error::new(ErrorCode::EngineError, format!("Copying failed: {last}")),
    };
    error.detail("stderr", said.chars().take(4000).collect::<String>())
}

pub(crate) async fn path_kind(c: &Containerd, id: &str, path: &str) -> Result<Option<PathKind>> {
    let container = find(c, id).await?;
    let output = c.guest().run(command(c, &container, "kind", path).await?).await?;
    if !output.success() {
        return Err(refused(id, path, &output));
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(match said.split_at_checked(1) {
        Some(("d", _)) => Some(PathKind::Directory),
        Some(("f", _)) => Some(PathKind::File),
        Some(("l", "")) => Some(PathKind::Link(None)),
        Some(("l", to)) => Some(PathKind::Link(Some(to.to_owned()))),
        Some(("n", _)) => None,
        _ => return Err(refused(id, path, &output)),
    })
}

pub(crate) async fn read_path(c: &Containerd, id: &str, path: &str) -> Result<BoxStream<Bytes>> {
    let container = find(c, id).await?;
    let mut process = c.guest().spawn(command(c, &container, "read", path).await?).await?;
    process.stdin = None;
    let mut said = Collected::up_to(KEPT);
    // Whether there is anything to read is known before tar begins.
    let first = loop {
        match process.next().await {
            Some(Chunk::Stderr(data)) => {
                said.stderr(&data)?;
                if said.stderr.windows(BEGINS.len()).any(|w| w == BEGINS) {
                    break Bytes::new();
                }
            }
            Some(Chunk::Stdout(data)) => break data,
            None => return Err(ended(process, said.stderr, id, path).await),
        }
    };
    let (id, path) = (id.to_owned(), path.to_owned());
    Ok(task::stream(move |out| async move {
        if !first.is_empty() {
            out.put(first).await?;
        }
        while let Some(chunk) = process.next().await {
            match chunk {
                Chunk::Stdout(data) => out.put(data).await?,
                Chunk::Stderr(data) => said.stderr(&data)?,
            }
        }
        let output = Output { exit: process.exit().await?, stdout: Vec::new(), stderr: said.stderr };
        // 1: a file changed while it was read.
        if matches!(output.exit, Exit::Code(0 | 1)) { Ok(()) } else { Err(refused(&id, &path, &output)) }
    }))
}

const BEGINS: &[u8] = b"lima-runtime: begins\n";

async fn ended(process: Process, stderr: Vec<u8>, id: &str, path: &str) -> Error {
    match process.exit().await {
        Ok(exit) => refused(id, path, &Output { exit, stdout: Vec::new(), stderr }),
        Err(e) => e,
    }
}

pub(crate) async fn write_path(c: &Containerd, id: &str, directory: &str, archive: BoxStream<Bytes>) -> Result<()> {
    let container = find(c, id).await?;
    let _turn = c.roots.of(&container.id).await;
    let mut process = c.guest().spawn(command(c, &container, "write", directory).await?).await?;
    let mut input = process.stdin.take();
    let ((), output) = tokio::try_join!(feed(&mut input, archive), process.output())?;
    if output.success() { Ok(()) } else { Err(refused(id, directory, &output)) }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let code = data.first().copied().unwrap_or_default();
    let output = Output { exit: Exit::Code(code.into()), stdout: Vec::new(), stderr: data.to_vec() };
    assert!(!refused("web", "/x", &output).message().is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a race would reach: the jail's root has another `/proc` below it.
    #[cfg(target_os = "linux")]
    #[test]
    fn no_link_of_a_proc_leads_out_of_the_jail() {
        if !rustix::process::geteuid().is_root() {
            return crate::skip::skip_without_root("only root mounts");
        }
        let dir = tempfile::tempdir().unwrap();
        let script = [
            JAIL,
            r#"
            tools "$1" && mkdir -p "$1/c/p" && mount --rbind /proc "$1/c/p" || exit 1
            jailed "$1" 'cd "/c/p/$1/root" 2>&- && echo out; echo here' sh "$2"
            "#,
        ];
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script.concat(), "sh"]).arg(dir.path());
        let output = command.arg(std::process::id().to_string()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "here\n", "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn many_layers_fit_in_a_page() {
        let dir = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let layers: Vec<_> = (0..100).map(|n| format!("{dir}/{n}/fs")).collect();
        let mount = Mount {
            r#type: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: vec![
                "index=off".into(),
                format!("workdir={dir}/101/work"),
                format!("upperdir={dir}/101/fs"),
                format!("lowerdir={}", layers.join(":")),
            ],
        };
        let [base, kind, source, options] = mounting(&mount, true);
        assert_eq!((base.as_str(), kind.as_str(), source.as_str()), (dir, "overlay", "overlay"));
        assert!(options.starts_with("index=off,workdir=101/work,upperdir=101/fs,lowerdir=0/fs:1/fs:"), "{options}");
        assert!(options.len() < 1000);
        let [base, _, _, options] = mounting(&mount, false);
        assert_eq!(base, dir);
        assert!(options.starts_with("index=off,lowerdir=101/fs:0/fs:1/fs:"), "{options}");
        let one = Mount {
            r#type: "bind".into(),
            source: format!("{dir}/1/fs"),
            target: String::new(),
            options: vec!["rbind".into()],
        };
        assert_eq!(mounting(&one, false)[0], "/");
    }
}

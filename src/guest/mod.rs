//! Where containers run: this machine, a Lima VM, a WSL distribution. The engine asks a [`Guest`] to run a
//! command or to open a socket, and does not know which it is.

use std::path::Path;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::{
    error::{Error, Result},
    process::{Command, Output, Process},
};

mod bridge;
#[cfg(unix)]
pub mod local;
#[cfg(unix)]
pub mod ssh;
pub mod wsl;

pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream to a unix socket of the guest. Dropping it closes the socket.
pub type Socket = Box<dyn Duplex>;

/// A shell function for scripts in the guest: `began PID` sets `$at` to the start time of that process, which tells it from
/// a later one with the same number. False when there is no such process, or it has ended.
pub(crate) const BEGAN: &str = r#"began() {
  at=
  { IFS= read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  # The name before it may hold anything.
  set -- ${stat##*) }
  case ${1-} in '' | Z | X) return 1 ;; esac
  at=${20-}
  [ "$at" ]
}
"#;

/// Shell functions for scripts that include [`BEGAN`]. `end SIGNAL ROUNDS` sends a signal to the first process of every
/// container and waits, five rounds a second; false when some still live. A process counts as a container's when its
/// control group names the container.
pub(crate) const CONTAINERS: &str = r#"containers() {
  for file in "${state:-/run/containerd}"/io.containerd.runtime.v2.task/*/*/init.pid; do
    [ -e "$file" ] || continue
    pid=$(cat "$file") id=${file%/init.pid}
    id=${id##*/}
    began "$pid" || continue
    while read -r line; do
      case $line/ in *"/$id/"* | *"-$id.scope/"*) echo "$pid:$at"; break ;; esac
    done <"/proc/$pid/cgroup"
  done
}
lives() { began "${1%:*}" && [ "$at" = "${1#*:}" ]; }
end() {
  all=$(containers)
  n=0
  for one in $all; do ! lives "$one" || { kill -s CONT "${one%:*}"; kill -s "$1" "${one%:*}"; }; done
  while :; do
    left=
    for one in $all; do ! lives "$one" || left=1; done
    [ -n "$left" ] || return 0
    [ $n -lt "$2" ] || return 1
    n=$((n + 1))
    sleep 0.2
  done
}
"#;

/// The leader of a command's process group in the guest: a shell that reports its identity before it does anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    pid: u32,
    began: u64,
}

impl Leader {
    /// Parses its number and the fields behind the name in `/proc/<pid>/stat`.
    pub(crate) fn parse(said: &str) -> Option<Self> {
        let mut words = said.split_ascii_whitespace();
        // The 22nd field of proc(5)'s line.
        Some(Self { pid: words.next()?.parse().ok()?, began: words.nth(19)?.parse().ok()? })
    }

    /// A script with its arguments that ends the whole group with KILL; `politely` sends TERM two seconds before. It does
    /// nothing when the number belongs to another process by now.
    pub(crate) fn end(self, politely: bool) -> (String, [String; 3]) {
        const END: &str = r#"began "$1" && [ "$at" = "$2" ] || exit 0
exec 2>/dev/null
if [ "$3" = politely ]; then
  kill -s TERM -- "-$1"
  for n in 1 2 3 4 5 6 7 8 9 10; do
    sleep 0.2
    kill -s 0 -- "-$1" || exit 0
  done
  # While somebody is left of the group, nobody else gets its number.
  began "$1"
  [ -z "$at" ] || [ "$at" = "$2" ] || exit 0
fi
kill -s KILL -- "-$1"
"#;
        let how = if politely { "politely" } else { "at-once" };
        ([BEGAN, END].concat(), [self.pid.to_string(), self.began.to_string(), how.to_owned()])
    }
}

/// How many paths surely fit on one command line.
const MAX_PATHS: usize = 300;
const READ_FILES_SCRIPT: &str =
    r#"for f do if [ -f "$f" ] && [ -r "$f" ]; then printf +; cat -- "$f"; fi; printf '\0'; done"#;

/// Every method may fail with `VM_NOT_RUNNING` when the guest does not answer or goes away meanwhile, and with
/// `INVALID_ARGUMENT` for a command that no program can receive. Only connecting has a deadline of its own.
#[async_trait]
pub trait Guest: Send + Sync + 'static {
    /// Runs `command` to its end and keeps its output in memory. Dropping the future ends the command.
    async fn run(&self, command: Command) -> Result<Output>;
    /// Starts `command`. Its output is read as it comes; a slow reader makes the command wait.
    async fn spawn(&self, command: Command) -> Result<Process>;
    /// Opens the unix socket at `path`. `CONTAINERD_NOT_READY` when nobody listens there or the guest's user may not open
    /// it (a VM does not tell the two apart); `PERMISSION_DENIED` when it is known to be closed to us.
    async fn connect(&self, path: &str) -> Result<Socket>;
    /// The contents of small files that hold no NUL byte, such as JSON; `None` for a file that is missing or unreadable.
    async fn read_files(&self, paths: &[String], root: bool) -> Result<Vec<Option<Vec<u8>>>> {
        read_files(self, paths, root).await
    }
    /// Runs `command` with a file of this computer on its standard input, of which it holds no more than a piece in memory. The
    /// guest may not see the file itself.
    async fn hand_over(&self, command: Command, file: &Path) -> Result<Output> {
        let fail = |e| Error::io(e, "Cannot read", file);
        let mut source = tokio::fs::File::open(file).await.map_err(fail)?;
        let mut process = self.spawn(command).await?;
        let stdin = process.stdin.take();
        let feed = async {
            let Some(stdin) = stdin else { return Ok(()) };
            loop {
                let mut piece = bytes::BytesMut::with_capacity(PIECE);
                let read = source.read_buf(&mut piece).await.map_err(fail)?;
                // One that has ended says why on its standard error.
                if read == 0 || stdin.send(piece.freeze()).await.is_err() {
                    return Ok(());
                }
            }
        };
        let (sent, output) = tokio::join!(feed, process.output());
        let output = output?;
        sent.map(|()| output)
    }
    /// Where containerd listens in this guest.
    fn containerd_socket(&self) -> &str;
}

/// What of a file is read at once.
const PIECE: usize = 256 << 10;

/// Reads many files with one command.
async fn read_files<G: Guest + ?Sized>(guest: &G, paths: &[String], root: bool) -> Result<Vec<Option<Vec<u8>>>> {
    let mut all = Vec::with_capacity(paths.len());
    for some in paths.chunks(MAX_PATHS) {
        let argv = ["sh", "-c", READ_FILES_SCRIPT, "sh"].into_iter().chain(some.iter().map(String::as_str));
        let output = guest.run(Command { root, ..Command::new(argv) }).await?.checked("sh")?;
        let contents = output.split(|b| *b == 0).take(some.len()).map(|part| match part {
            [b'+', content @ ..] => Some(content.to_vec()),
            _ => None,
        });
        all.extend(contents);
    }
    all.resize(paths.len(), None);
    Ok(all)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{os::unix::process::CommandExt, process::Child};

    use super::{BEGAN, CONTAINERS, Leader};

    fn sleeper(words: &str) -> Child {
        std::process::Command::new("sh").args(["-c", words]).process_group(0).spawn().unwrap()
    }

    fn leader(child: &Child) -> Leader {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        Leader::parse(&format!("{}{}", child.id(), stat.rsplit(')').next().unwrap())).unwrap()
    }

    fn end(leader: Leader, politely: bool) {
        let (script, arguments) = leader.end(politely);
        assert!(std::process::Command::new("sh").args(["-c", &script, "sh"]).args(arguments).status().is_ok());
    }

    #[test]
    fn a_group_is_ended_by_who_leads_it_and_not_by_its_number() {
        for politely in [true, false] {
            let mut child = sleeper("exec sleep 1000");
            let it = leader(&child);
            assert_eq!(it.pid, child.id());
            // A number that belonged to a process that has ended.
            for began in [it.began + 1, it.began - 1] {
                end(Leader { began, ..it }, politely);
            }
            assert!(child.try_wait().unwrap().is_none(), "{politely}");
            end(it, politely);
            let signal = std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap());
            assert_eq!(signal, Some(if politely { 15 } else { 9 }));
        }
    }

    #[test]
    fn a_containers_process_is_the_one_in_its_control_group() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name).display().to_string();
        let script = [BEGAN, CONTAINERS, "containers; end TERM 0; end KILL 50"].concat();
        let script =
            script.replace("/run/containerd", &place("run")).replace("/proc/$pid/cgroup", &place("cgroup.$pid"));
        let container = |id: &str, cgroup: &str| {
            // A container's first process often ignores TERM.
            let child = sleeper("trap '' TERM; exec sleep 1000");
            let bundle = dir.path().join("run/io.containerd.runtime.v2.task/kai").join(id);
            std::fs::create_dir_all(&bundle).unwrap();
            std::fs::write(bundle.join("init.pid"), child.id().to_string()).unwrap();
            std::fs::write(place(&format!("cgroup.{}", child.id())), format!("1:x:/other\n0::{cgroup}\n")).unwrap();
            child
        };
        // Control groups as cgroupfs and systemd name them, and one with a child group; then processes that only reuse a
        // container's old number.
        let mut ours = [
            container("1f0e", "/kai/1f0e"),
            container("2f0e", "/system.slice/nerdctl-2f0e.scope"),
            container("3f0e", "/system.slice/nerdctl-3f0e.scope/init.scope"),
        ];
        let mut others =
            [container("4f0e", "/kai/4f0e5"), container("init", "/init.scope"), container("a.b", "/user.slice/a-b")];
        let out = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut found: Vec<_> = ours.iter().map(|c| format!("{}:{}", c.id(), leader(c).began)).collect();
        let said = String::from_utf8(out.stdout).unwrap();
        let mut said: Vec<_> = said.lines().collect();
        found.sort();
        said.sort_unstable();
        assert_eq!(said, found);
        for child in &mut ours {
            child.wait().unwrap();
        }
        for child in &mut others {
            assert!(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The leader obeys TERM; another process of its group ignores it.
    #[test]
    fn what_outlives_the_leader_is_ended_too() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let words = format!("(trap '' TERM; exec >'{}'; echo; exec sleep 1000) & exec sleep 1000", fifo.display());
        let mut child = sleeper(&words);
        let mut other = std::fs::File::open(&fifo).unwrap();
        std::io::Read::read_exact(&mut other, &mut [0]).unwrap();
        let it = leader(&child);
        let waits = std::thread::spawn(move || child.wait().unwrap());
        end(it, true);
        waits.join().unwrap();
        // Its end of the pipe closes when it ends.
        assert_eq!(std::io::Read::read(&mut other, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_shell_knows_when_a_process_began_and_that_it_has_ended() {
        for shell in [&["sh"][..], &["bash", "--posix"], &["busybox", "sh"]] {
            let began = |pid: u32| {
                let mut command = std::process::Command::new(shell[0]);
                let script = [BEGAN, r#"began "$1" && echo "$at""#].concat();
                let out = command.args(&shell[1..]).args(["-c", &script, "sh", &pid.to_string()]).output().unwrap();
                assert_eq!(String::from_utf8_lossy(&out.stderr), "");
                (out.status.success(), String::from_utf8(out.stdout).unwrap().trim().to_owned())
            };
            let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            let (_, started) = crate::process::identity::Identity::of(child.id()).unwrap().for_a_shell();
            assert_eq!(began(child.id()), (true, started), "{shell:?}");
            child.kill().unwrap();
            // First a zombie, then no process.
            while began(child.id()).0 {}
            child.wait().unwrap();
            assert_eq!(began(child.id()), (false, String::new()), "{shell:?}");
        }
    }
}

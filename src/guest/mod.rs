//! Where containers run: this machine, a Lima VM, a WSL distribution. The engine asks a [`Guest`] to run a
//! command or to open a socket, and does not know which it is.

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    error::Result,
    process::{Command, Output, Process},
};

#[cfg(unix)]
pub mod local;
#[cfg(unix)]
pub mod ssh;
pub mod wsl;

pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream to a unix socket of the guest. Dropping it closes the socket.
pub type Socket = Box<dyn Duplex>;

/// For scripts in the guest: `began PID` puts into `$at` when the process with that number began, which tells it from a later
/// one with the same number; false when there is none, or one that has ended.
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

/// What one command line holds for certain.
const AT_ONCE: usize = 300;
const READ_FILES: &str = r#"for f do if [ -f "$f" ] && [ -r "$f" ]; then printf +; cat -- "$f"; fi; printf '\0'; done"#;

/// Errors every method can have: `VM_NOT_RUNNING` when the guest does not answer or went away under the call,
/// `INVALID_ARGUMENT` for a command no program can get. No method has a deadline of its own beyond connecting.
#[async_trait]
pub trait Guest: Send + Sync + 'static {
    /// Runs `command` to its end and keeps its output in memory. Dropping the future ends the command.
    async fn run(&self, command: Command) -> Result<Output>;
    /// Starts `command`; its output is read as it comes, and the command waits for a slow reader.
    async fn spawn(&self, command: Command) -> Result<Process>;
    /// Opens the unix socket at `path`. `CONTAINERD_NOT_READY` when nobody listens there, or the guest's user may
    /// not open it (a guest does not tell the two apart).
    async fn connect(&self, path: &str) -> Result<Socket>;
    /// The contents of small files without NUL bytes, such as JSON; `None` for what is not there or cannot be read.
    async fn read_files(&self, paths: &[String], root: bool) -> Result<Vec<Option<Vec<u8>>>> {
        read_files(self, paths, root).await
    }
    /// Where containerd listens in this guest.
    fn containerd_socket(&self) -> &str;
}

/// With one command for many files.
async fn read_files<G: Guest + ?Sized>(guest: &G, paths: &[String], root: bool) -> Result<Vec<Option<Vec<u8>>>> {
    let mut all = Vec::with_capacity(paths.len());
    for some in paths.chunks(AT_ONCE) {
        let argv = ["sh", "-c", READ_FILES, "sh"].into_iter().chain(some.iter().map(String::as_str));
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
    use super::BEGAN;

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
            // A zombie, and then nobody.
            while began(child.id()).0 {}
            child.wait().unwrap();
            assert_eq!(began(child.id()), (false, String::new()), "{shell:?}");
        }
    }
}

//! `bin/lima`, and `bin/nerdctl` or `bin/docker`, for people and programs that need not know about a VM. Each knows one VM by
//! its path, asks nothing, and passes every argument on unchanged.

use std::path::Path;

use super::runtime::LimaRuntime;
use crate::{
    error::Result, fetch::disk, guest::ssh::strict, lima::instance::KNOWN_HOSTS_FILE, manager::payload::UserEngine,
    shell,
};

/// For any POSIX shell. Placeholders in angle brackets become quoted words. With the `C` locale each byte is a character,
/// so every argument can be quoted. No shared connection is used: one that died during the host's sleep would hang. Only a
/// server with the VM's host key is accepted.
const SCRIPT: &str = r#"#!/bin/sh
# Made by lima-runtime's install, which writes it anew.
LC_ALL=C
PATH=${PATH:+$PATH:}/usr/bin:/bin
export LC_ALL PATH
dir=<dir>
if ! [ -S "$dir/ha.sock" ] || ! [ -f "$dir/ssh.config" ]; then
  echo "${0##*/}: the VM is not running" >&2
  exit 255
fi
quote() {
  rest=$1 word=
  while :; do
    case $rest in
      *\'*)
        word=$word${rest%%\'*}"'\\''"
        rest=${rest#*\'}
        ;;
      *) break ;;
    esac
  done
  line="$line '$word$rest'"
}
tty=-T
[ -t 0 ] && [ -t 1 ] && tty=-t
set -- <command>"$@"
# The same directory in the guest, where it is mounted there.
line=cd
quote "${PWD:-/}"
line="$line 2>/dev/null; exec"
for word; do quote "$word"; done
[ $# -eq 0 ] && line=
set -- "$tty" <host>
[ -n "$line" ] && set -- "$@" -- "$line"
# The file of the host key is named without its directory: ssh would read a path in its own way.
cd "$dir" || exit 255
exec ssh -F "$dir/ssh.config" <strict>-o ControlPath=none -o BatchMode=yes -o LogLevel=ERROR "$@"
"#;

/// A program's name and text.
type Wrapper = (&'static str, Vec<u8>);

impl LimaRuntime {
    /// The name and text of each wrapper, and of the one that this VM had for its other engine.
    pub(super) fn wrappers(&self) -> ([Wrapper; 2], Wrapper) {
        let home = self.choose_lima_home().unwrap_or_else(|_| self.lima_home());
        let dir = home.join(self.instance());
        let of = |engine: UserEngine| {
            let payload = engine.payload();
            let sudo: &[&str] = if payload.root { &["sudo", "-n", "--"] } else { &[] };
            (payload.program, script(&dir, self.instance(), &[sudo, &self.program(engine)].concat()))
        };
        let engine = self.engine();
        ([("lima", script(&dir, self.instance(), &[])), of(engine)], of(engine.other()))
    }
}

fn script(dir: &Path, instance: &str, command: &[&str]) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let words = |words: &[&str]| {
        words.iter().flat_map(|word| [shell::quote(word.as_bytes()), b" ".to_vec()].concat()).collect()
    };
    let host = format!("lima-{instance}");
    let strict = strict(&host, KNOWN_HOSTS_FILE);
    let parts = [
        ("<dir>", shell::quote(dir.as_os_str().as_bytes())),
        ("<command>", words(command)),
        ("<host>", shell::quote(host.as_bytes())),
        ("<strict>", words(&strict.iter().map(String::as_str).collect::<Vec<_>>())),
    ];
    let mut text = Vec::new();
    let mut rest = SCRIPT;
    while let Some((at, (name, value))) =
        parts.iter().filter_map(|p| Some((rest.find(p.0)?, p))).min_by_key(|(at, _)| *at)
    {
        text.extend_from_slice(&rest.as_bytes()[..at]);
        text.extend_from_slice(value);
        rest = &rest[at + name.len()..];
    }
    text.extend_from_slice(rest.as_bytes());
    text
}

/// Whether the wrappers are up to date, and the `stale` one is not there. One that we may not write counts as it is.
pub(super) fn up_to_date(bin: &Path, (wrappers, stale): &([Wrapper; 2], Wrapper)) -> bool {
    let writable = rustix::fs::access(bin, rustix::fs::Access::WRITE_OK).is_ok();
    let there = |name: &str| std::fs::read(bin.join(name));
    wrappers.iter().all(|(name, text)| there(name).is_ok_and(|there| there == *text || !writable))
        && (!writable || !there(stale.0).is_ok_and(|there| there == stale.1))
}

/// One of another VM's stays, whatever its engine.
pub(super) fn write(bin: &Path, (wrappers, stale): &([Wrapper; 2], Wrapper)) -> Result<()> {
    if std::fs::read(bin.join(stale.0)).is_ok_and(|there| there == stale.1) {
        disk::remove(&bin.join(stale.0))?;
    }
    wrappers.iter().try_for_each(|(name, text)| disk::write_program(&bin.join(name), text))
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt, process::Command};

    use proptest::prelude::*;

    use super::*;

    /// A wrapper whose ssh runs the line as sshd would, in a directory with every dangerous character in its name.
    fn rig() -> (tempfile::TempDir, std::path::PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("it's a \"dir\" $(x) `y` é\n");
        std::fs::create_dir_all(dir.join("bin")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("ha.sock")).unwrap();
        std::fs::write(dir.join("ssh.config"), "").unwrap();
        let ssh = "#!/bin/sh\nfor last; do :; done\nexec /bin/sh -c \"$last\"\n";
        disk::write_program(&dir.join("bin/ssh"), ssh.as_bytes()).unwrap();
        let [lima, nerdctl, docker] =
            ["lima", "nerdctl", "docker"].map(|n| (n, script(&dir, "default", &["printf", "%s\\0"])));
        write(&dir.join("bin"), &([lima, nerdctl], docker)).unwrap();
        (home, dir)
    }

    fn wrapper(dir: &Path, shell: &str) -> Command {
        let mut command = Command::new(shell);
        command.arg(dir.join("bin/nerdctl")).current_dir("/").env("PATH", dir.join("bin"));
        command
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
        #[test]
        fn every_argument_arrives_as_it_is(words in prop::collection::vec(prop::collection::vec(1u8..=255, 0..40), 1..8)) {
            let (_home, dir) = rig();
            let expected: Vec<u8> = words.iter().flat_map(|w| [w, &b"\0"[..]].concat()).collect();
            for shell in ["/bin/sh", "/bin/bash"] {
                let out = wrapper(&dir, shell).args(words.iter().map(|w| OsString::from_vec(w.clone()))).output().unwrap();
                prop_assert_eq!(&out.stdout, &expected, "{}: {}", shell, String::from_utf8_lossy(&out.stderr));
            }
        }
    }

    #[test]
    fn without_a_vm_it_says_so_and_asks_nothing() {
        let (_home, dir) = rig();
        std::fs::remove_file(dir.join("ha.sock")).unwrap();
        let out = wrapper(&dir, "/bin/sh").arg("ps").output().unwrap();
        assert_eq!(out.status.code(), Some(255));
        assert_eq!(String::from_utf8(out.stderr).unwrap(), "nerdctl: the VM is not running\n");
    }
}

//! What the buildkitd beside a guest's containerd is told of registries, certificates and proxies. It reads none of containerd's
//! files, only a configuration of its own (moby/buildkit `docs/buildkitd.toml.md`, `util/resolver/resolver.go`), which Lima writes
//! (docs/reference/lima.md#the-guests-buildkitd).

#[cfg(target_os = "linux")]
use std::path::Path;

#[cfg(target_os = "linux")]
use crate::fetch::disk;
use crate::{error::Result, guest::Guest, process::Command};

/// Takes `$1`, the directory of the configuration, and `$2`, where is noted what a buildkitd was started with. With `same` it tells
/// whether one started now would be told the same. Else it puts the tables of ours at the end of the configuration, between two
/// marks; a table that somebody else wrote counts, and no TOML may have two of a name.
const MERGE: &str = r##"# Written by lima-runtime at each start; run before each start of buildkitd.
set -eu
own=$1/lima-runtime stamp=$2
told() {
  cat "$own/registries.toml" "$own/certificates/lima-runtime.crt" 2>/dev/null || :
  grep -i _proxy= /etc/environment 2>/dev/null || :
}
if [ "${3-}" = same ]; then
  [ "$(told)" = "$(cat "$stamp" 2>/dev/null)" ]
  exit
fi
file=$(readlink -f "$1/buildkitd.toml")
[ -f "$file" ] && was=$(cat "$file"; echo x) || was=x
is=$(printf %s "${was%x}" | awk -v ours="$own/registries.toml" '
  function take(line,  quote) {
    text = text line "\n"
    sub(/^[ \t]*/, "", line)
    # A table of all registries, or one of them without a title of its own: nothing can be added.
    if (line ~ /^(\[[ \t]*)?["\047]?registry["\047]?[ \t]*[]=]/ || line ~ /^["\047]?registry["\047]?[ \t]*[.]/) all = 1
    if (!sub(/^\[+[ \t]*["\047]?registry["\047]?[ \t]*[.][ \t]*/, "", line)) return
    quote = substr(line, 1, 1)
    if (quote == "\"" || quote == "\047") {
      line = substr(line, 2)
      line = substr(line, 1, index(line, quote) - 1)
    } else sub(/[] \t.].*/, "", line)
    theirs[line] = 1
  }
  BEGIN { first = "# BEGIN lima-runtime"; last = "# END lima-runtime" }
  $0 == first && !inside { inside = 1; held = $0; next }
  inside { held = held "\n" $0; if ($0 == last) { inside = 0; held = "" }; next }
  { take($0) }
  END {
    # Whoever took the last mark away has made all of it his.
    if (inside) { count = split(held, lines, "\n"); for (i = 2; i <= count; i++) take(lines[i]) }
    while ((getline line < ours) > 0) {
      if (line ~ /^\[/) {
        name = line
        sub(/^\[registry[.]"/, "", name)
        sub(/"\]$/, "", name)
        keep = !all && !(name in theirs)
      }
      if (keep) block = block line "\n"
    }
    printf "%s", text
    if (block != "") printf "%s\n%s%s\n", first, block, last
  }'; echo x)
if [ "$is" = x ]; then rm -f "$file"
elif [ "$is" != "$was" ]; then
  cp -p "$file" "$file.new" 2>/dev/null || :
  printf %s "${is%x}" >"$file.new"
  mv -f "$file.new" "$file"
fi
# A proxy may have a password.
umask 077
told >"$stamp.new"
mv -f "$stamp.new" "$stamp"
"##;

/// Takes the directory of the configuration, the place of the note, that of the unit's own settings, a directory that systemd has
/// and that of the processes, then the tables and the merging script, and a PEM or nothing as its input. A buildkitd that was told something else starts
/// again, unless it builds: then the next start of it or of ours tells it.
const PLACE: &str = r##"set -eu
umask 022
base=$1 own=$1/lima-runtime stamp=$2 settings=$3 systemd=$4 processes=$5
pem=$(cat; echo x)
put() {
  [ ! -f "$1" ] || [ "$(cat "$1"; echo x)" != "$2"x ] || return 1
  mkdir -p "${1%/*}" && printf %s "$2" >"$1.new" && mv -f "$1.new" "$1" || exit 1
}
put "$own/registries.toml" "$6" || :
put "$own/merge" "$7" || :
lines=
if [ "$pem" = x ]; then rm -rf "$own/certificates"
else
  put "$own/certificates/lima-runtime.crt" "${pem%x}" || :
  lines="Environment=SSL_CERT_DIR=/etc/ssl/certs:/etc/pki/tls/certs:$own/certificates
"
fi
if [ ! -d "$systemd" ]; then exec sh "$own/merge" "$base" "$stamp"; fi
! put "$settings" "# Written by lima-runtime at each start.
[Service]
EnvironmentFile=-/etc/environment
${lines}ExecStartPre=-/bin/sh $own/merge $base $stamp
" || systemctl daemon-reload
! sh "$own/merge" "$base" "$stamp" same || exit 0
for name in "$processes"/[0-9]*/comm; do
  { read -r name <"$name"; } 2>/dev/null || continue
  [ "$name" != buildctl ] || exit 0
done
timeout 60 systemctl try-restart buildkit.service >/dev/null 2>&1 || :
"##;

const DIR: &str = "/etc/buildkit";
const STAMP: &str = "/run/lima-runtime-buildkit";
const SETTINGS: &str = "/etc/systemd/system/buildkit.service.d/lima-runtime.conf";
const SYSTEMD: &str = "/run/systemd/system";

/// Has a guest's buildkitd, there already or not yet, know the tables and the `certificates`, a PEM or empty.
pub async fn place(guest: &impl Guest, tables: &str, certificates: &str) -> Result<()> {
    let words = ["sh", "-c", PLACE, "sh", DIR, STAMP, SETTINGS, SYSTEMD, "/proc", tables, MERGE];
    let command = Command::new(words).root().input(certificates.to_owned());
    guest.run(command).await?.checked("sh").map(drop)
}

/// The same for a BuildKit of this machine's that runs for us alone, in a directory of ours. Blocks.
#[cfg(target_os = "linux")]
pub fn place_in(dir: &Path, tables: &str, certificates: &str) -> Result<()> {
    disk::write_text(&dir.join("buildkitd.toml"), tables)?;
    let own = dir.join("lima-runtime").join("certificates");
    if certificates.is_empty() {
        return disk::remove(&own);
    }
    disk::create_dir(&own)?;
    disk::write_text(&own.join("lima-runtime.crt"), certificates)
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, io::Write, process};

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn config(&self) -> Option<String> {
            fs::read_to_string(self.path("etc/buildkitd.toml")).ok()
        }

        fn write(&self, text: &str) {
            fs::create_dir_all(self.path("etc")).unwrap();
            fs::write(self.path("etc/buildkitd.toml"), text).unwrap();
        }

        fn run(script: &str, words: &[&Path], more: &[&str], input: &str, programs: Option<&Path>) -> bool {
            let mut command = process::Command::new("sh");
            command.args(["-c", script, "sh"]).args(words).args(more).stdin(process::Stdio::piped());
            if let Some(dir) = programs {
                let path = std::env::var("PATH").unwrap_or_default();
                command.env("PATH", format!("{}:{path}", dir.display()));
            }
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait().unwrap().success()
        }

        fn place(&self, tables: &str, pem: &str, systemd: &str, programs: Option<&Path>) {
            let paths = ["etc", "stamp", "unit.d/lima-runtime.conf", systemd, "proc"].map(|name| self.path(name));
            let words = paths.each_ref().map(std::path::PathBuf::as_path);
            assert!(Self::run(PLACE, &words, &[tables, MERGE], pem, programs));
        }
    }

    const OURS: &str = "[registry.\"a:5000\"]\nhttp = true\n\n[registry.\"docker.io\"]\nmirrors = [\"a:5000\"]\n";

    fn block(tables: &str) -> String {
        format!("# BEGIN lima-runtime\n{tables}# END lima-runtime\n")
    }

    #[test]
    fn what_others_wrote_stays_and_ours_comes_and_goes() {
        let here = Place::new();
        here.place(OURS, "", "none", None);
        assert_eq!(here.config().unwrap(), block(OURS));
        here.place("", "", "none", None);
        assert_eq!(here.config(), None);
        let theirs = "[worker.oci]\n  enabled = false\n\n[worker.containerd]\n  namespace = \"default\" # \\n";
        here.write(theirs);
        for _ in 0..2 {
            here.place(OURS, "", "none", None);
            assert_eq!(here.config().unwrap(), format!("{theirs}\n{}", block(OURS)));
        }
        // Behind ours, too.
        here.write(&format!("{}[dns]\n", here.config().unwrap()));
        here.place("", "", "none", None);
        assert_eq!(here.config().unwrap(), format!("{theirs}\n[dns]\n"));
    }

    #[test]
    fn a_table_that_somebody_else_wrote_counts() {
        let here = Place::new();
        let rest = OURS.split_once("\n\n").unwrap().1;
        for title in [
            "[registry.\"a:5000\"]",
            "[ registry . 'a:5000' ]",
            "  [[registry.\"a:5000\".keypair]]",
            "[\"registry\".\"a:5000\"]",
            "# BEGIN lima-runtime\n[registry.\"a:5000\"]",
        ] {
            here.write(&format!("{title}\n"));
            here.place(OURS, "", "none", None);
            let kept = title.trim_start_matches("# BEGIN lima-runtime\n");
            assert_eq!(here.config().unwrap(), format!("{kept}\n{}", block(rest)), "{title}");
        }
        for all in ["registry = { }", "registry.\"x\".http = true", "[registry]", "'registry'.x.http = true"] {
            here.write(&format!("{all}\n"));
            here.place(OURS, "", "none", None);
            assert_eq!(here.config().unwrap(), format!("{all}\n"));
        }
        // Only named like it.
        here.write("[registryx.\"a:5000\"]\nregistry_b = 1\n");
        here.place(OURS, "", "none", None);
        assert!(here.config().unwrap().ends_with(&block(OURS)));
    }

    #[test]
    fn a_daemon_is_restarted_when_it_was_told_something_else() {
        let here = Place::new();
        for dir in ["bin", "systemd"] {
            fs::create_dir(here.path(dir)).unwrap();
        }
        let (log, program) = (here.path("log"), here.path("bin/systemctl"));
        // As a unit that runs: started again, it runs what stands before its start.
        let script = format!(
            "#!/bin/sh\necho \"$1\" >>{log}\n[ \"$1\" != try-restart ] || sed -n 's/^ExecStartPre=-//p' {unit} | sh\n",
            log = log.display(),
            unit = here.path("unit.d/lima-runtime.conf").display(),
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let bin = here.path("bin");
        let place = |tables: &str, pem: &str| {
            here.place(tables, pem, "systemd", Some(&bin));
            let said = fs::read_to_string(&log).unwrap_or_default();
            _ = fs::remove_file(&log);
            said.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        here.write("[worker.oci]\n");
        // A daemon that runs has what the stamp says: as far as the machine has proxies, it is told of them here.
        place("", "");
        assert_eq!(place("", ""), <[&str; 0]>::default());
        assert_eq!(place(OURS, ""), ["try-restart"]);
        assert_eq!(here.config().unwrap(), format!("[worker.oci]\n{}", block(OURS)));
        assert_eq!(place(OURS, ""), <[&str; 0]>::default());
        assert_eq!(place(OURS, "a PEM\n"), ["daemon-reload", "try-restart"]);
        let unit = fs::read_to_string(here.path("unit.d/lima-runtime.conf")).unwrap();
        let trusted = format!(":{}\n", here.path("etc/lima-runtime/certificates").display());
        assert!(unit.contains("Environment=SSL_CERT_DIR=/etc/ssl/certs:") && unit.contains(&trusted), "{unit}");
        // Not while it builds; the next time, it is.
        fs::create_dir_all(here.path("proc/7")).unwrap();
        fs::write(here.path("proc/7/comm"), "buildctl\n").unwrap();
        assert_eq!(place("", "a PEM\n"), <[&str; 0]>::default());
        fs::remove_file(here.path("proc/7/comm")).unwrap();
        assert_eq!(place("", "a PEM\n"), ["try-restart"]);
        assert_eq!(here.config().unwrap(), "[worker.oci]\n");
        assert_eq!(place("", ""), ["daemon-reload", "try-restart"]);
        assert!(!here.path("etc/lima-runtime/certificates").exists());
        // As after a boot at which somebody else wrote the file anew: what stands before the start brings ours back.
        place(OURS, "");
        here.write("[worker.oci]\n");
        let pre: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("ExecStartPre=-/bin/sh ")).collect();
        assert!(Place::run(&format!("exec sh {}", pre[0]), &[], &[], "", None));
        assert_eq!(here.config().unwrap(), format!("[worker.oci]\n{}", block(OURS)));
    }
}

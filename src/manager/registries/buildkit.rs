//! The same for builds: a guest's buildkitd reads nothing of what containerd reads
//! (docs/reference/containerd.md#registries-of-buildkit).

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Mirror, RegistryOptions};
use crate::{
    error::{Error, ErrorCode, Result},
    guest::Guest,
    process::Command,
    warnings::warn,
};

const FILE: &str = "/etc/buildkit/buildkitd.toml";
const UNIT: &str = "buildkit.service";
/// Between these lines the file is ours; the rest is Lima's or a person's.
const BEGIN: &str = "# Written by lima-runtime at each start, to the next line of the kind.";
const END: &str = "# So far by lima-runtime.";

/// Takes the file, its unit and the two marks, then pairs of a registry and its table. What a person says of a registry holds:
/// with two tables for one, buildkitd does not start. It reads the file only as it starts.
const PLACE: &str = r#"set -eu
umask 022
file=$1 unit=$2 begin=$3 end=$4
shift 4
now= rest=
if [ -f "$file" ]; then
  now=$(cat "$file"; echo x)
  rest=$(sed "/^$begin\$/,/^$end\$/d" "$file"; echo x)
fi
now=${now%x} rest=${rest%x} ours=
while [ $# -gt 0 ]; do
  case $rest in
    *"[registry.\"$1\"]"*) ;;
    *) ours=$ours$2 ;;
  esac
  shift 2
done
new=$rest
newline='
'
if [ -n "$ours" ]; then
  case $rest in ''|*"$newline") ;; *) rest=$rest$newline ;; esac
  new=$rest$begin$newline$ours$end$newline
fi
[ "$new" != "$now" ] || exit 0
mkdir -p "${file%/*}"
printf %s "$new" >"$file.new"
mv -f "$file.new" "$file"
systemctl try-restart "$unit"
"#;

#[derive(Default)]
struct Table<'a> {
    mirrors: Vec<&'a str>,
    http: bool,
    insecure: bool,
}

impl RegistryOptions {
    /// A registry and the text of its table each. Where a host is both `http` and `insecure`, buildkitd tries HTTPS first.
    fn tables(&self) -> Result<Vec<(&str, String)>> {
        let mut tables = BTreeMap::<&str, Table>::new();
        for (registry, mirrors) in &self.mirrors {
            for mirror in mirrors {
                let Mirror { scheme, host } = Mirror::parse("registries", mirror)?;
                let asked = &mut tables.entry(registry).or_default().mirrors;
                if !asked.contains(&host) {
                    asked.push(host);
                }
                tables.entry(host).or_default().http |= scheme == "http";
            }
        }
        for host in &self.insecure {
            let table = tables.entry(host).or_default();
            (table.http, table.insecure) = (true, true);
        }
        let with_any = tables.into_iter().filter(|(_, t)| t.http || t.insecure || !t.mirrors.is_empty());
        Ok(with_any.map(|(registry, table)| (registry, table.text(registry))).collect())
    }
}

impl Table<'_> {
    /// No value can hold a quote: a host is letters, digits and what `check_host` lets pass.
    fn text(&self, registry: &str) -> String {
        let mut text = format!("[registry.\"{registry}\"]\n");
        if !self.mirrors.is_empty() {
            _ = writeln!(text, "  mirrors = [\"{}\"]", self.mirrors.join("\", \""));
        }
        for (key, is_so) in [("http", self.http), ("insecure", self.insecure)] {
            if is_so {
                _ = writeln!(text, "  {key} = true");
            }
        }
        text
    }
}

/// Has a guest's buildkitd ask `registries`; with none, nothing of ours is left in its file. It is started again only where
/// that changes. One that does not start is a warning: containers need no builds.
pub async fn place(guest: &impl Guest, registries: &RegistryOptions) -> Result<()> {
    let tables = registries.tables()?;
    let words = ["sh", "-c", PLACE, "sh", FILE, UNIT, BEGIN, END].into_iter();
    let pairs = tables.iter().flat_map(|(registry, text)| [*registry, text.as_str()]);
    let out = guest.run(Command::new(words.chain(pairs)).root()).await?;
    if !out.success() {
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        let e =
            Error::new(ErrorCode::EngineWarning, "buildkitd in the VM was not told of registries, or does not start");
        warn(
            e.detail("stderr", said).hint(format!("Builds may not reach them. See `journalctl -u {UNIT}` in the VM.")),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(value: serde_json::Value) -> RegistryOptions {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_buildkitd_reads() {
        let given = options(json!({
            "mirrors": {
                "docker.io": ["https://one.example", "http://10.0.0.7:5000", "https://one.example/"],
                "ghcr.io": [],
                "[::1]:5000": ["https://loose.example"],
            },
            "insecure": ["loose.example", "[::1]:5000"],
        }));
        let text: String = given.tables().unwrap().into_iter().map(|(_, text)| text).collect();
        assert_eq!(
            text,
            "[registry.\"10.0.0.7:5000\"]\n  http = true\n\
             [registry.\"[::1]:5000\"]\n  mirrors = [\"loose.example\"]\n  http = true\n  insecure = true\n\
             [registry.\"docker.io\"]\n  mirrors = [\"one.example\", \"10.0.0.7:5000\"]\n\
             [registry.\"loose.example\"]\n  http = true\n  insecure = true\n"
        );
        assert!(RegistryOptions::default().tables().unwrap().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn our_part_comes_and_goes_and_the_rest_stays() {
        use std::os::unix::fs::PermissionsExt;

        let base = tempfile::tempdir().unwrap();
        let (dir, bin) = (base.path().join("buildkit"), base.path().join("bin"));
        let (file, restarts) = (dir.join("buildkitd.toml"), base.path().join("restarts"));
        std::fs::create_dir(&bin).unwrap();
        std::fs::write(bin.join("systemctl"), format!("#!/bin/sh\necho \"$*\" >>'{}'\n", restarts.display())).unwrap();
        std::fs::set_permissions(bin.join("systemctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let place = |given: &RegistryOptions| {
            let tables = given.tables().unwrap();
            let status = std::process::Command::new("sh")
                .args(["-c", PLACE, "sh", file.to_str().unwrap(), UNIT, BEGIN, END])
                .args(tables.iter().flat_map(|(registry, text)| [*registry, text]))
                .env("PATH", &path)
                .status();
            assert!(status.unwrap().success());
            std::fs::read_to_string(&file).ok()
        };
        let times = || std::fs::read_to_string(&restarts).unwrap_or_default().lines().count();
        let (none, one) = (RegistryOptions::default(), options(json!({ "insecure": ["a:5000"] })));
        let ours = |table: &str| format!("{BEGIN}\n{table}{END}\n");
        let a = ours("[registry.\"a:5000\"]\n  http = true\n  insecure = true\n");

        assert_eq!((place(&none), times()), (None, 0), "nothing is made of nothing");
        assert_eq!((place(&one), times()), (Some(a.clone()), 1));
        assert_eq!((place(&one), times()), (Some(a.clone()), 1), "and nothing is done twice");
        assert_eq!((place(&none), times()), (Some(String::new()), 2));
        for theirs in ["[worker.oci]\n  enabled = false\n", "# no newline at its end"] {
            std::fs::write(&file, theirs).unwrap();
            let newline = if theirs.ends_with('\n') { "" } else { "\n" };
            assert_eq!(place(&one), Some(format!("{theirs}{newline}{a}")));
            let other = options(json!({ "mirrors": { "docker.io": ["https://m"] } }));
            let b = ours("[registry.\"docker.io\"]\n  mirrors = [\"m\"]\n");
            assert_eq!(place(&other), Some(format!("{theirs}{newline}{b}")));
            assert_eq!(place(&none), Some(format!("{theirs}{newline}")));
        }
        let theirs = "[registry.\"a:5000\"]\n  http = false\n";
        std::fs::write(&file, theirs).unwrap();
        assert_eq!(place(&one).as_deref(), Some(theirs), "what a person says holds");
        assert!(std::fs::read_to_string(&restarts).unwrap().lines().all(|line| line == format!("try-restart {UNIT}")));
    }
}

//! Mirrors of registries, and registries that are not to prove who they are: as containerd and dockerd read them
//! (docs/reference/containerd.md#hosts-of-registries, docs/reference/docker.md#mirrors).

#[cfg(unix)]
use std::path::Path;
use std::{collections::BTreeMap, fmt::Write as _, net::Ipv6Addr};

use serde::Deserialize;
use serde_json::{Value, json};

#[cfg(unix)]
use crate::fetch::disk;
use crate::{
    error::{Error, Result},
    guest::Guest,
    manager::{buildkit, payload::engine::UserEngine},
    process::Command,
};

/// `RegistryOptions` of the public API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RegistryOptions {
    /// A registry's host, and the addresses that are asked before it, in order.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts whose certificates are not looked at, and which may speak HTTP.
    pub insecure: Vec<String>,
}

/// Docker Hub, as image references name it.
const HUB: &str = "docker.io";
/// Its other names, which no reference keeps.
const HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
/// All mirrors and insecure hosts together: they go as arguments to a program.
const MOST: usize = 200;
/// What tells a file of ours from one that a person wrote.
const MARK: &str = "# Written by lima-runtime at each start.";

/// A mirror, its parts checked.
#[derive(Debug, PartialEq, Eq)]
struct Mirror<'a> {
    scheme: &'static str,
    host: &'a str,
}

impl RegistryOptions {
    /// `INVALID_ARGUMENT` naming the value that is wrong, as `registries.mirrors.docker.io[0]`; `at` is what stands before that.
    pub fn check(&self, at: &str, engine: UserEngine) -> Result<()> {
        if self.mirrors.values().map(Vec::len).sum::<usize>() + self.mirrors.len() + self.insecure.len() > MOST {
            return Err(Error::invalid(format!("{at}registries"), format!("more than {MOST} hosts and mirrors")));
        }
        for (registry, mirrors) in &self.mirrors {
            let field = format!("{at}registries.mirrors.{}", shown(registry));
            check_host(&field, registry)?;
            if HUB_ALIASES.contains(&registry.as_str()) {
                let problem = "image references name Docker Hub as docker.io";
                return Err(Error::invalid(field, problem).hint("Use docker.io."));
            }
            if engine == UserEngine::Docker && registry != HUB {
                let problem = "the Docker engine knows mirrors of docker.io alone";
                return Err(Error::invalid(field, problem).hint("Leave it out, or use engine: 'containerd'."));
            }
            for (i, mirror) in mirrors.iter().enumerate() {
                Mirror::parse(&format!("{field}[{i}]"), mirror)?;
            }
        }
        for (i, host) in self.insecure.iter().enumerate() {
            check_host(&format!("{at}registries.insecure[{i}]"), host)?;
        }
        Ok(())
    }

    /// What goes into dockerd's `daemon.json`.
    pub fn daemon_json(&self) -> Result<serde_json::Map<String, Value>> {
        self.check("", UserEngine::Docker)?;
        let mut settings = serde_json::Map::new();
        let mirrors = self.mirrors.get(HUB).into_iter().flatten();
        let mirrors: Vec<_> =
            mirrors.map(|mirror| Ok(Mirror::parse("registries", mirror)?.to_string())).collect::<Result<_>>()?;
        for (key, list) in [("registry-mirrors", &mirrors), ("insecure-registries", &self.insecure)] {
            if !list.is_empty() {
                settings.insert(key.to_owned(), json!(list));
            }
        }
        Ok(settings)
    }

    /// The tables of buildkitd's configuration. A mirror is a host there, and its scheme is what is said of that host, also where
    /// an image names it. With `http` and `insecure` it tries both ways, as containerd does with what is written for it.
    pub fn buildkitd_toml(&self) -> Result<String> {
        #[derive(Default)]
        struct Table<'a> {
            mirrors: Vec<&'a str>,
            http: Option<bool>,
            insecure: bool,
        }
        self.check("", UserEngine::Containerd)?;
        let mut tables = BTreeMap::<&str, Table<'_>>::new();
        for (registry, mirrors) in &self.mirrors {
            for mirror in mirrors {
                let Mirror { scheme, host } = Mirror::parse("registries", mirror)?;
                // Said also for https: loopback speaks HTTP there by default.
                tables.entry(host).or_default().http.get_or_insert(scheme == "http");
                let mirrors = &mut tables.entry(registry).or_default().mirrors;
                if !mirrors.contains(&host) {
                    mirrors.push(host);
                }
            }
        }
        for host in &self.insecure {
            let table = tables.entry(host).or_default();
            (table.http, table.insecure) = (Some(true), true);
        }
        let mut text = String::new();
        for (host, Table { mirrors, http, insecure }) in tables {
            // JSON's strings and lists are TOML's, too.
            _ = writeln!(text, "[registry.{}]", json!(host));
            if !mirrors.is_empty() {
                _ = writeln!(text, "mirrors = {}", json!(mirrors));
            }
            if let Some(http) = http {
                _ = writeln!(text, "http = {http}");
            }
            if insecure {
                text.push_str("insecure = true\n");
            }
        }
        Ok(text)
    }

    /// What containerd finds in its directory of registries `dir`: path and text of each file. Where it finds anything about a
    /// registry, nobody else's certificates count for it: those of `certificates`, a PEM or empty, go beside it.
    fn files(&self, dir: &str, certificates: &str) -> Result<BTreeMap<String, String>> {
        self.check("", UserEngine::Containerd)?;
        // JSON's strings are TOML's, too.
        let ca = match certificates {
            "" => String::new(),
            _ => format!("  ca = {}\n", json!(format!("{dir}/{CERTIFICATES}"))),
        };
        let is_insecure = |host: &str| self.insecure.iter().any(|insecure| insecure == host);
        let entry = |text: &mut String, scheme: &str, host: &str, capabilities: &str| {
            // No value can hold a quote: a host is letters, digits and what check_host lets pass.
            let title = format!("\n[host.\"{scheme}://{host}\"]\n");
            // containerd reads nothing of a file with the same title twice.
            if text.contains(&title) {
                return;
            }
            _ = writeln!(text, "{title}  capabilities = [{capabilities}]");
            if scheme == "https" {
                text.push_str(&ca);
                if is_insecure(host) {
                    text.push_str("  skip_verify = true\n");
                }
            }
        };
        let mut files = BTreeMap::new();
        for registry in self.mirrors.keys().chain(&self.insecure) {
            let mut text = format!("{MARK}\n");
            // Where nothing is said of it, containerd knows where a registry is.
            if is_insecure(registry) {
                _ = writeln!(text, "server = \"http://{registry}\"");
            }
            for mirror in self.mirrors.get(registry).into_iter().flatten() {
                let Mirror { scheme, host } = Mirror::parse("registries", mirror)?;
                entry(&mut text, scheme, host, "\"pull\", \"resolve\"");
                if scheme == "https" && is_insecure(host) {
                    entry(&mut text, "http", host, "\"pull\", \"resolve\"");
                }
            }
            if is_insecure(registry) {
                entry(&mut text, "https", registry, "\"pull\", \"resolve\", \"push\"");
            }
            files.insert(format!("{registry}/{HOSTS}"), text);
        }
        Ok(files)
    }
}

/// Takes the directory of registries, the two names of files and the mark, then pairs of a path and a text, and a PEM or
/// nothing as its input: writes what differs, and removes those of ours that nobody asks for any more.
const PLACE: &str = r#"set -eu
umask 022
dir=$1 hosts=$2 certificates=$1/$3 mark=$4
shift 4
asked() {
  for word; do [ "$file" != "$dir/$word" ] || return 0; done
  return 1
}
for file in "$dir"/*/"$hosts"; do
  [ -f "$file" ] && [ ! -L "$file" ] || continue
  IFS= read -r first <"$file" || :
  [ "$first" = "$mark" ] || continue
  asked "$@" || { rm -f "$file"; rmdir "${file%/*}" 2>/dev/null || :; }
done
if [ $# = 0 ]; then
  [ ! -e "$certificates" ] || rm -f "$certificates"
  exit 0
fi
mkdir -p "$dir"
cat >"$certificates.new"
if [ -s "$certificates.new" ]; then mv -f "$certificates.new" "$certificates"
else rm -f "$certificates.new" "$certificates"; fi
while [ $# -gt 0 ]; do
  file=$dir/$1
  if ! [ -f "$file" ] || [ "$(cat "$file"; echo x)" != "$2"x ]; then
    mkdir -p "${file%/*}"
    printf %s "$2" >"$file.new"
    mv -f "$file.new" "$file"
  fi
  shift 2
done
"#;

/// containerd reads them at each pull, for nerdctl (docs/reference/nerdctl.md#registry-settings).
const GUEST_DIR: &str = "/etc/containerd/certs.d";
const HOSTS: &str = "hosts.toml";
const CERTIFICATES: &str = "lima-runtime.crt";

/// Has a guest's containerd and the buildkitd beside it ask `registries`; with none, nothing of ours is left in containerd's
/// directory. `certificates` is a PEM, or empty.
pub async fn place(guest: &impl Guest, registries: &RegistryOptions, certificates: &str) -> Result<()> {
    let files = registries.files(GUEST_DIR, certificates)?;
    let words = ["sh", "-c", PLACE, "sh", GUEST_DIR, HOSTS, CERTIFICATES, MARK].into_iter();
    let pairs = files.iter().flat_map(|(path, text)| [path.as_str(), text.as_str()]);
    // Not as an argument: a bundle of certificates may be too long for one.
    let command = Command::new(words.chain(pairs)).root().input(certificates.to_owned());
    guest.run(command).await?.checked("sh")?;
    buildkit::place(guest, &registries.buildkitd_toml()?, certificates).await
}

/// The same for a containerd of this machine, in its directory. Blocks.
#[cfg(unix)]
pub fn place_in(dir: &Path, registries: &RegistryOptions, certificates: &str) -> Result<()> {
    let files = registries.files(&dir.display().to_string(), certificates)?;
    let is_asked = |path: &Path| files.keys().any(|asked| dir.join(asked) == path);
    for there in disk::entries(dir) {
        let file = there.join(HOSTS);
        let is_ours = || std::fs::read_to_string(&file).is_ok_and(|text| text.lines().next() == Some(MARK));
        if !is_asked(&file) && is_ours() {
            disk::remove(&file)?;
            // Whoever put a certificate beside it keeps that.
            _ = std::fs::remove_dir(&there);
        }
    }
    let beside = dir.join(CERTIFICATES);
    if files.is_empty() || certificates.is_empty() {
        disk::remove(&beside)?;
    } else {
        disk::create_dir(dir)?;
        disk::write_text(&beside, certificates)?;
    }
    for (path, text) in files {
        let file = dir.join(path);
        disk::create_dir(file.parent().unwrap_or(dir))?;
        disk::write_text(&file, &text)?;
    }
    Ok(())
}

impl<'a> Mirror<'a> {
    /// `https://host[:port]`, or `http://`. A path is refused: containerd and dockerd do not agree on what it means.
    fn parse(field: &str, text: &'a str) -> Result<Self> {
        let bad = |problem: &str| {
            Error::invalid(field, format!("{} is no mirror: {problem}", shown(text)))
                .hint("For example https://mirror.example or http://10.0.0.7:5000.")
        };
        let (scheme, host) = match text.split_once("://") {
            Some(("https", host)) => ("https", host),
            Some(("http", host)) => ("http", host),
            Some(_) => return Err(bad("its scheme is neither https nor http")),
            None => return Err(bad("it begins with neither https:// nor http://")),
        };
        let host = host.strip_suffix('/').unwrap_or(host);
        if host.contains('@') {
            return Err(bad("a password has no place in it"));
        }
        if host.contains(['/', '?', '#']) {
            return Err(bad("only a host and a port may follow"));
        }
        check_host(field, host)?;
        Ok(Self { scheme, host })
    }
}

impl std::fmt::Display for Mirror<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)
    }
}

/// `host`, `host:port`, `[IPv6]` or `[IPv6]:port`, of the letters that a reference may have there: nothing that means anything
/// in a path, in TOML, in JSON or to a shell.
fn check_host(field: &str, text: &str) -> Result<()> {
    let bad = |problem: &str| {
        Error::invalid(field, format!("{} is no registry: {problem}", shown(text)))
            .hint("Write its host as image references do: ghcr.io, registry.example:5000.")
    };
    if text.contains("://") {
        return Err(bad("a scheme has no place in it"));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| bad("a bracket is not closed"))?;
            let canonical =
                host.parse::<Ipv6Addr>().is_ok() && host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            if !canonical {
                return Err(bad("there is no IPv6 address in the brackets"));
            }
            match after.strip_prefix(':') {
                None if after.is_empty() => (None, None),
                None => return Err(bad("only a port may follow an address")),
                Some(port) => (None, Some(port)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let word = |w: &str| {
        let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        ends(w.bytes().next()) && ends(w.bytes().last()) && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.is_some_and(|host| host.len() > 253 || !host.split('.').all(word)) {
        return Err(bad("a host is letters, digits, dots and dashes"));
    }
    let is_port = |p: &str| !p.starts_with('0') && p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok();
    if port.is_some_and(|port| !is_port(port)) {
        return Err(bad("its port is not a number from 1 to 65535"));
    }
    Ok(())
}

/// A value of the caller's in a message: of bounded length, on one line, and without a password.
fn shown(text: &str) -> String {
    let text = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    let short: String = text.chars().take(80).collect();
    let plain = !short.is_empty() && short.len() == text.len() && short.chars().all(|c| c.is_ascii_graphic());
    if plain { short } else { format!("{short:?}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorCode;

    fn options(value: Value) -> RegistryOptions {
        serde_json::from_value(value).unwrap()
    }

    fn field(result: Result<()>) -> String {
        let e = result.unwrap_err();
        assert_eq!(e.code(), ErrorCode::InvalidArgument);
        e.details()["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_containerd_reads() {
        let files = options(json!({
            "mirrors": { "docker.io": ["https://one.example", "http://10.0.0.7:5000/"], "ghcr.io": ["https://loose.example:8443"] },
            "insecure": ["loose.example:8443", "[::1]:5000"],
        }))
        .files("/certs.d", "")
        .unwrap();
        let names: Vec<_> = files.keys().map(|path| path.strip_suffix("/hosts.toml").unwrap()).collect();
        assert_eq!(names, ["[::1]:5000", "docker.io", "ghcr.io", "loose.example:8443"]);
        let of = |name: &str| files[&format!("{name}/hosts.toml")].strip_prefix(MARK).unwrap();
        assert_eq!(
            of("docker.io"),
            "\n\n[host.\"https://one.example\"]\n  capabilities = [\"pull\", \"resolve\"]\n\
             \n[host.\"http://10.0.0.7:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        assert_eq!(
            of("ghcr.io"),
            "\n\n[host.\"https://loose.example:8443\"]\n  capabilities = [\"pull\", \"resolve\"]\n  skip_verify = true\n\
             \n[host.\"http://loose.example:8443\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        assert_eq!(
            of("[::1]:5000"),
            "\nserver = \"http://[::1]:5000\"\n\
             \n[host.\"https://[::1]:5000\"]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n  skip_verify = true\n"
        );
        assert!(RegistryOptions::default().files("/certs.d", "a PEM").unwrap().is_empty());
        let certified = options(json!({ "mirrors": { "docker.io": ["https://a", "http://b"] } }))
            .files("/a \"b\"", "a PEM")
            .unwrap();
        assert_eq!(
            certified["docker.io/hosts.toml"].matches(r#"  ca = "/a \"b\"/lima-runtime.crt""#).count(),
            1,
            "only for https"
        );
    }

    #[test]
    fn what_buildkitd_reads() {
        let given = options(json!({
            "mirrors": {
                "docker.io": ["https://one.example", "http://10.0.0.7:5000/", "http://one.example"],
                "ghcr.io": ["https://loose.example:8443"],
                "quay.io": [],
            },
            "insecure": ["loose.example:8443", "[::1]:5000"],
        }));
        assert_eq!(
            given.buildkitd_toml().unwrap(),
            "[registry.\"10.0.0.7:5000\"]\nhttp = true\n\
             [registry.\"[::1]:5000\"]\nhttp = true\ninsecure = true\n\
             [registry.\"docker.io\"]\nmirrors = [\"one.example\",\"10.0.0.7:5000\"]\n\
             [registry.\"ghcr.io\"]\nmirrors = [\"loose.example:8443\"]\n\
             [registry.\"loose.example:8443\"]\nhttp = true\ninsecure = true\n\
             [registry.\"one.example\"]\nhttp = false\n"
        );
        assert_eq!(RegistryOptions::default().buildkitd_toml().unwrap(), "");
    }

    #[test]
    fn what_dockerd_reads() {
        let given = options(
            json!({ "mirrors": { "docker.io": ["https://one.example/", "http://10.0.0.7:5000"] }, "insecure": ["10.0.0.7:5000"] }),
        );
        assert_eq!(
            Value::Object(given.daemon_json().unwrap()),
            json!({ "registry-mirrors": ["https://one.example", "http://10.0.0.7:5000"], "insecure-registries": ["10.0.0.7:5000"] })
        );
        assert!(RegistryOptions::default().daemon_json().unwrap().is_empty());
        let other = options(json!({ "mirrors": { "docker.io": [], "ghcr.io": ["https://one.example"] } }));
        other.check("", UserEngine::Containerd).unwrap();
        assert_eq!(field(other.check("lima.", UserEngine::Docker)), "lima.registries.mirrors.ghcr.io");
    }

    #[test]
    fn what_would_break_out_of_a_value_is_refused_by_name() {
        let wrong = [
            "",
            " ",
            "a b",
            "../x",
            "a/../b",
            "a/b",
            "a\n",
            "a\"]",
            "a'",
            "a\\",
            "a\0",
            "a$x",
            "a`x`",
            "a;b",
            "a#b",
            "a?b",
            "u@h",
            ".",
            "..",
            "-a",
            "a-",
            ".a",
            "a.",
            "a..b",
            "_default",
            "é.example",
            "http://a",
            "https://a",
            "a:0",
            "a:65536",
            "a:",
            "a:+80",
            "a:080",
            "a:b",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[::g]",
            "[1.2.3.4]",
            "[::ffff:1.2.3.4]",
            "[fe80::1%eth0]",
            "10.0.0.0/8",
        ];
        let long = "a".repeat(254);
        for text in wrong.into_iter().chain([long.as_str()]) {
            let e = options(json!({ "insecure": ["good", text] })).check("", UserEngine::Containerd).unwrap_err();
            assert_eq!(e.details()["field"], "registries.insecure[1]", "{text:?}");
            assert!(!e.message().contains('\n') && e.message().len() < 300, "{}", e.message());
            let name = field(options(json!({ "mirrors": { text: [] } })).check("", UserEngine::Containerd));
            assert!(name.starts_with("registries.mirrors.") && !name.contains('\n'), "{name}");
            for scheme in ["https://", "http://"] {
                let mirror = format!("{scheme}{text}");
                let given = options(json!({ "mirrors": { "docker.io": ["https://good", mirror] } }));
                assert_eq!(
                    field(given.check("", UserEngine::Containerd)),
                    "registries.mirrors.docker.io[1]",
                    "{text:?}"
                );
            }
        }
        for mirror in [
            "mirror.example",
            "ftp://a",
            "HTTPS://a",
            "https:/a",
            "//a",
            "file:///etc",
            "https://a//",
            "https://a/v2/x",
        ] {
            let given = options(json!({ "mirrors": { "ghcr.io": [mirror] } }));
            assert_eq!(field(given.check("", UserEngine::Containerd)), "registries.mirrors.ghcr.io[0]", "{mirror}");
        }
        for alias in HUB_ALIASES {
            assert_eq!(
                field(options(json!({ "mirrors": { alias: [] } })).check("", UserEngine::Containerd)),
                format!("registries.mirrors.{alias}")
            );
        }
        for text in
            ["ghcr.io", "localhost", "localhost:5000", "10.0.0.7", "A.b-c.example:65535", "[::1]", "[2001:db8::7]:443"]
        {
            options(json!({ "mirrors": { text: [format!("https://{text}")] }, "insecure": [text] }))
                .check("", UserEngine::Containerd)
                .unwrap();
        }
        let many: Vec<String> = (0..=MOST).map(|n| format!("h{n}")).collect();
        assert_eq!(field(options(json!({ "insecure": many })).check("", UserEngine::Containerd)), "registries");
    }

    proptest! {
        #[test]
        fn whatever_passes_is_one_value_in_each_file(registry in "[ -~]{0,12}", mirror in "[ -~]{0,12}") {
            let given = options(json!({ "mirrors": { &registry: [format!("https://{mirror}")] }, "insecure": [&mirror] }));
            if given.check("", UserEngine::Containerd).is_ok() {
                let safe = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
                let mirror = mirror.trim_end_matches('/');
                prop_assert!(safe(&registry) && safe(mirror) && !registry.starts_with('.'));
                for line in given.buildkitd_toml().unwrap().lines() {
                    let title = line.strip_prefix("[registry.\"").and_then(|rest| rest.strip_suffix("\"]"));
                    let list = line.strip_prefix("mirrors = [\"").and_then(|rest| rest.strip_suffix("\"]"));
                    let word = ["http = true", "http = false", "insecure = true"].contains(&line);
                    prop_assert!(word || title.or(list).is_some_and(safe), "{}", line);
                }
            }
        }
    }

    #[test]
    fn no_address_is_written_twice_and_no_password_is_told() {
        let given = options(
            json!({ "mirrors": { "a": ["https://b", "https://b/", "http://b", "https://a"] }, "insecure": ["a", "b"] }),
        );
        let text = &given.files("/certs.d", "").unwrap()["a/hosts.toml"];
        let titles: Vec<_> = text.lines().filter(|line| line.starts_with('[')).collect();
        assert_eq!(titles, ["https://b", "http://b", "https://a", "http://a"].map(|at| format!("[host.\"{at}\"]")));
        for given in [
            json!({ "mirrors": { "a": ["https://me:secret@h"] } }),
            json!({ "insecure": ["me:secret@h"] }),
            json!({ "mirrors": { "me:secret@h": [] } }),
        ] {
            let e = options(given).check("", UserEngine::Containerd).unwrap_err();
            assert!(!format!("{e:?}").contains("secret"), "{e:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_of_ours_come_and_go_and_others_stay() {
        use std::io::Write;
        let read = |dir: &Path, name: &str| std::fs::read_to_string(dir.join(name).join("hosts.toml")).ok();
        let by_shell = |dir: &Path, given: &RegistryOptions| {
            let files = given.files(dir.to_str().unwrap(), "a PEM\n").unwrap();
            let status = std::process::Command::new("sh")
                .args(["-c", PLACE, "sh", dir.to_str().unwrap(), HOSTS, CERTIFICATES, MARK])
                .args(files.iter().flat_map(|(path, text)| [path, text]))
                .stdin(std::process::Stdio::piped())
                .spawn()
                .and_then(|mut shell| {
                    // One that nobody asks anything of does not read.
                    _ = shell.stdin.take().unwrap().write_all(b"a PEM\n");
                    shell.wait()
                });
            assert!(status.unwrap().success());
        };
        let by_us = |dir: &Path, given: &RegistryOptions| place_in(dir, given, "a PEM\n").unwrap();
        for place in [&by_shell as &dyn Fn(&Path, &RegistryOptions), &by_us] {
            let base = tempfile::tempdir().unwrap();
            let dir = base.path().join("certs.d");
            place(&dir, &RegistryOptions::default());
            let given =
                options(json!({ "mirrors": { "docker.io": ["https://a"] }, "insecure": ["b:5000", "[::1]:1"] }));
            place(&dir, &given);
            for (path, text) in given.files(dir.to_str().unwrap(), "a PEM\n").unwrap() {
                assert_eq!(std::fs::read_to_string(dir.join(path)).unwrap(), text);
            }
            assert_eq!(std::fs::read_to_string(dir.join(CERTIFICATES)).unwrap(), "a PEM\n");
            // A person's: one of its own, one with a certificate beside ours.
            std::fs::create_dir(dir.join("theirs")).unwrap();
            std::fs::write(dir.join("theirs/hosts.toml"), "server = \"https://x\"\n").unwrap();
            std::fs::write(dir.join("b:5000/ca.crt"), "x").unwrap();
            place(&dir, &options(json!({ "mirrors": { "docker.io": ["https://c"] } })));
            assert!(read(&dir, "docker.io").unwrap().contains("https://c") && read(&dir, "theirs").is_some());
            assert!(
                read(&dir, "b:5000").is_none() && dir.join("b:5000/ca.crt").exists() && !dir.join("[::1]:1").exists()
            );
            place(&dir, &RegistryOptions::default());
            assert!(!dir.join("docker.io").exists() && read(&dir, "theirs").is_some());
            assert!(!dir.join(CERTIFICATES).exists());
        }
    }
}

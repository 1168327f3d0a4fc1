//! Names of hosts and domains. Public ones stay, since a support person must know which registry did not answer.

use std::ops::Range;

use super::rewriter::{Rewriter, at, before, is_blank, line_end, run};

pub const HOST: &str = "<host>";

/// Public domains with their subdomains; no user has a host of his own there.
const PUBLIC_DOMAINS: &[&str] = &[
    "alpinelinux.org",
    "apple.com",
    "canonical.com",
    "cloud-init.io",
    "cncf.io",
    "containerd.io",
    "debian.org",
    "docker.com",
    "docker.io",
    "fedoraproject.org",
    "freedesktop.org",
    "gcr.io",
    "ghcr.io",
    "github.com",
    "github.io",
    "githubusercontent.com",
    "gitlab.com",
    "gnu.org",
    "golang.org",
    "google.golang.org",
    "gopkg.in",
    "k8s.io",
    "kernel.org",
    "kubernetes.io",
    "launchpad.net",
    "letsencrypt.org",
    "lima-vm.io",
    "mcr.microsoft.com",
    "nodejs.org",
    "npmjs.com",
    "npmjs.org",
    "opencontainers.org",
    "openssh.com",
    "libssh.org",
    "pkg.dev",
    "quay.io",
    "rust-lang.org",
    "snapcraft.io",
    "systemd.io",
    "ubuntu.com",
];
/// Names that every machine has.
const COMMON_NAMES: &[&str] = &[
    "localhost",
    "localhost.localdomain",
    "host.lima.internal",
    "subnet.lima.internal",
    "host.docker.internal",
    "gateway.docker.internal",
    "kubernetes.docker.internal",
    "host.containers.internal",
    "ip6-localhost",
    "broadcasthost",
    "localhost4",
    "localhost6",
];
/// Last labels that mark a host, not a file, a module or a version. Country codes that are also file extensions are left
/// out.
const HOST_SUFFIXES: &[&str] = &[
    "local",
    "lan",
    "home",
    "internal",
    "intranet",
    "corp",
    "private",
    "localdomain",
    "domain",
    "workgroup",
    "arpa",
    "box",
    "example",
    "invalid",
    "test",
    "com",
    "net",
    "org",
    "edu",
    "gov",
    "mil",
    "biz",
    "io",
    "dev",
    "cloud",
    "tech",
    "ai",
    "co",
    "tv",
    "xyz",
    "site",
    "online",
    "store",
    "eu",
    "uk",
    "de",
    "fr",
    "nl",
    "be",
    "ch",
    "at",
    "se",
    "dk",
    "fi",
    "es",
    "pt",
    "cz",
    "ru",
    "ua",
    "tr",
    "cn",
    "tw",
    "hk",
    "jp",
    "kr",
    "sg",
    "th",
    "vn",
    "au",
    "nz",
    "ca",
    "mx",
    "br",
    "ar",
    "us",
    "ie",
    "il",
    "ae",
    "za",
    "gr",
    "hu",
    "ro",
    "bg",
    "hr",
    "lt",
    "lv",
    "ee",
    "lu",
    "ir",
    "sa",
    "eg",
    "ke",
    "ng",
    "pk",
    "bd",
    "lk",
    "my",
    "kz",
    "by",
    "ge",
    "cl",
    "pe",
    "onion",
];
/// File extensions: a number after `name.ext:` is a line.
const FILE_EXTENSIONS: &[&str] = &[
    "go", "rs", "c", "h", "cc", "cpp", "ts", "js", "mjs", "cjs", "py", "sh", "yaml", "yml", "json", "toml", "log",
    "conf", "service", "socket", "sock", "txt", "md", "cfg",
];

/// Whether the name belongs to nobody in particular and may stay.
pub fn is_known(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let numbers = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let below = |of: &str| name.strip_suffix(of).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    // The short id of a container.
    let container = name.len() == 12 && name.bytes().all(|b| b.is_ascii_hexdigit());
    numbers
        || container
        || name.starts_with("lima-")
        || COMMON_NAMES.contains(&name.as_str())
        || PUBLIC_DOMAINS.iter().any(|of| below(of))
}

fn is_host(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')
}

pub fn scrub(text: &str) -> String {
    let mut out = Rewriter::new(text);
    let (mut from, mut last) = (0, 0..0);
    while let Some(found) = run(text, from, is_host) {
        from = found.end;
        let word = text[found.clone()].trim_end_matches(['.', '-']);
        let name = found.start..found.start + word.len();
        let beside = before(text, name.start) == b'_' || at(text, found.end) == b'_';
        if !beside && !is_known(word) && looks_like(text, &name, &text[last]) {
            out.replace(name, HOST);
        }
        last = found;
    }
    out.finish()
}

fn looks_like(text: &str, name: &Range<usize>, last: &str) -> bool {
    let word = &text[name.clone()];
    let port = at(text, name.end) == b':' && at(text, name.end + 1).is_ascii_digit();
    let labels: Vec<&str> = word.split('.').collect();
    let letters = |l: &&str| l.len() > 1 && l.bytes().all(|b| b.is_ascii_alphabetic()) || l.starts_with("xn--");
    let apart = is_blank(before(text, name.start)) || at(text, name.end) == b'.';
    match labels.as_slice() {
        [_] => {
            // `lookup nas: no such host`, `dial tcp nas:5000`
            let named = word.bytes().any(|b| b.is_ascii_alphabetic()) && is_blank(before(text, name.start));
            named
                && (last == "lookup" && at(text, name.end) != b'_'
                    || port && ["tcp", "tcp4", "tcp6", "udp"].contains(&last))
        }
        [.., end] if labels.iter().all(|l| !l.is_empty()) && letters(end) => {
            let end = end.to_ascii_lowercase();
            HOST_SUFFIXES.contains(&end.as_str())
                || end.starts_with("xn--")
                || port && !FILE_EXTENSIONS.contains(&end.as_str())
                || apart && ["lookup", "search", "domain", "Domain"].contains(&last)
        }
        _ => false,
    }
}

/// The domains after `search` and `domain` in a `resolv.conf`.
pub fn domains_of(resolv_conf: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line[..line_end(line, 0)].split_ascii_whitespace();
        if matches!(words.next(), Some("search" | "domain")) {
            found.extend(words.filter(|w| w.len() > 1 && !is_known(w)).map(str::to_owned));
        }
    }
    found
}

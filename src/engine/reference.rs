//! Image references, parsed in one place: by the grammar of distribution/reference (`regexp.go`, `normalize.go`), as Docker
//! and nerdctl parse them. This is our own parser because the crates for it depend on a regex engine or an HTTP client.

use crate::error::{Error, ErrorCode};

/// Docker Hub's name in references.
pub(crate) const HUB: &str = "docker.io";
/// Its old name, which means the same.
const OLD_HUB: &str = "index.docker.io";
/// The path of Docker Hub's images that are written without a user.
const OFFICIAL_PREFIX: &str = "library/";
/// `RepositoryNameTotalLengthMax`.
const MAX_PATH_LENGTH: usize = 255;

/// `host/path:tag@digest`, with the host and `library/` filled in where they were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    domain: &'a str,
    official: bool,
    path: &'a str,
    pub tag: Option<&'a str>,
    pub digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// The error is a description to be put after the text itself.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        if is_id(text) {
            return Err("is an image's id, not a reference");
        }
        let (domain, rest) = match text.split_once('/') {
            Some((OLD_HUB, rest)) => (HUB, rest),
            // Only a host may contain capitals.
            Some((host, rest))
                if host == "localhost" || host.contains(|c: char| ".:".contains(c) || c.is_uppercase()) =>
            {
                (host, rest)
            }
            _ => (HUB, text),
        };
        let (rest, digest) = rest.split_once('@').map_or((rest, None), |(rest, digest)| (rest, Some(digest)));
        let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
        if !is_host(domain) {
            return Err("is not an image reference: its registry is not a host");
        }
        if path.chars().any(char::is_uppercase) {
            return Err("has capital letters; image names are lower case");
        }
        let official = domain == HUB && !path.contains('/');
        if !path.split('/').all(is_component) {
            return Err("is not an image reference");
        }
        if path.len() + if official { OFFICIAL_PREFIX.len() } else { 0 } > MAX_PATH_LENGTH {
            return Err("is too long: an image's name has 255 characters at most");
        }
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err("is not an image reference: its tag is no tag");
        }
        if digest.is_some_and(|d| !is_digest(d)) {
            return Err("is not an image reference: its digest is no digest");
        }
        Ok(Self { domain, official, path, tag, digest })
    }

    /// The registry: a host, perhaps with a port; [`HUB`] if none is written.
    pub fn domain(&self) -> &'a str {
        self.domain
    }

    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The short form: without the Hub and its `library/`, where it means the same image without them.
    pub fn familiar_name(&self) -> String {
        let whole = format!("{}/{}", self.domain, self.path);
        familiar(&whole).to_owned()
    }

    /// What engines ask a registry for: if there are both a digest and a tag, the digest.
    pub fn tag_or_digest(&self) -> &'a str {
        self.digest.or(self.tag).unwrap_or("latest")
    }

    /// The complete form, as in containerd's store: `busybox` becomes `docker.io/library/busybox:latest`.
    pub fn full(&self) -> String {
        let mark = if self.digest.is_some() { '@' } else { ':' };
        let official = if self.official { OFFICIAL_PREFIX } else { "" };
        format!("{}/{official}{}{mark}{}", self.domain, self.path, self.tag_or_digest())
    }
}

/// The short form of a full name or reference. A path on the Hub that looks like another registry (`docker.io/ghcr.io/x`)
/// keeps its host: without it, that other registry would be asked.
pub(crate) fn familiar(full: &str) -> &str {
    let Some(path) = full.strip_prefix(HUB).and_then(|rest| rest.strip_prefix('/')) else { return full };
    let short = path.strip_prefix(OFFICIAL_PREFIX).filter(|rest| !rest.contains('/')).unwrap_or(path);
    if is_id(short) || Reference::parse(short).is_ok_and(|r| r.domain != HUB) { full } else { short }
}

/// Here is none of that name or id.
pub(crate) fn not_found(image: &str) -> Error {
    Error::new(ErrorCode::ImageNotFound, format!("There is no image {image}")).detail("id", image)
}

/// 64 hexadecimal digits, which no name may consist of; also with `sha256:` before them, where they would be a name's tag.
pub(crate) fn is_id(text: &str) -> bool {
    is_hex(text.strip_prefix("sha256:").unwrap_or(text), 64)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_host(text: &str) -> bool {
    let is_port = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return !address.is_empty()
            && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_label = |l: &str| {
        let dash = |b: Option<u8>| b.is_none_or(|b| b == b'-');
        l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !dash(l.bytes().next()) && !dash(l.bytes().last())
    };
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Letters and digits, separated by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators = text.split(|c: char| c.is_ascii() && is_word(c as u8));
    let is_separator = |s: &str| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    text.bytes().next().is_some_and(is_word)
        && text.bytes().last().is_some_and(is_word)
        && separators.into_iter().all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

/// Only of the algorithms that go-digest knows.
fn is_digest(text: &str) -> bool {
    match text.split_once(':') {
        Some(("sha256", hex)) => is_hex(hex, 64),
        Some(("sha384", hex)) => is_hex(hex, 96),
        Some(("sha512", hex)) => is_hex(hex, 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest() -> String {
        format!("sha256:{}", "f".repeat(64))
    }

    /// Checks domain, familiar name, tag, digest, and the name in the store.
    fn valid(text: &str, domain: &str, familiar: &str, tag: Option<&str>, digest: Option<&str>, full: &str) {
        let r = Reference::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(
            (r.domain(), r.familiar_name().as_str(), r.tag, r.digest),
            (domain, familiar, tag, digest),
            "{text}"
        );
        assert_eq!(r.full(), full, "{text}");
    }

    #[test]
    fn what_is_valid_and_what_it_means() {
        let latest = |s: &str| format!("{s}:latest");
        for name in ["busybox", "test_com", "test.com", "192.168.1.1", "a", "docker---rules", "dock__er", "1a-b.c_d"] {
            valid(name, HUB, name, None, None, &latest(&format!("docker.io/library/{name}")));
        }
        valid("test.com:5000", HUB, "test.com", Some("5000"), None, "docker.io/library/test.com:5000");
        valid("lower:UPPER", HUB, "lower", Some("UPPER"), None, "docker.io/library/lower:UPPER");
        valid("me/app:1", HUB, "me/app", Some("1"), None, "docker.io/me/app:1");
        for host in ["", "docker.io/", "index.docker.io/", "docker.io/library/", "library/"] {
            valid(&format!("{host}a:1"), HUB, "a", Some("1"), None, "docker.io/library/a:1");
        }
        valid("library/a/b", HUB, "library/a/b", None, None, "docker.io/library/a/b:latest");
        for domain in [
            "test.com",
            "test:5000",
            "localhost",
            "MYREG",
            "Docker",
            "127.0.0.1:5000",
            "xn--n3h.com",
            "sub-dom1.foo.com",
            "[::1]",
            "[::1]:5000",
            "[2001:db8:1:2:3:4:5:6]:5000",
            "registry-1.docker.io",
        ] {
            let name = format!("{domain}/re.po/x");
            valid(&name, domain, &name, None, None, &latest(&name));
            valid(
                &format!("{domain}/r:a-B_1."),
                domain,
                &format!("{domain}/r"),
                Some("a-B_1."),
                None,
                &format!("{domain}/r:a-B_1."),
            );
            let whole = format!("{domain}/r:1@{}", digest());
            let full = format!("{domain}/r@{}", digest());
            valid(&whole, domain, &format!("{domain}/r"), Some("1"), Some(&digest()), &full);
        }
        // Without the Hub, these would be another registry's.
        for name in ["docker.io/localhost/x", "docker.io/ghcr.io/a/x"] {
            valid(name, HUB, name, None, None, &latest(name));
            assert_eq!(familiar(&latest(name)), latest(name));
        }
        // With a host it cannot be an id.
        let hex = "1a".repeat(32);
        assert!(Reference::parse(&format!("docker.io/{hex}")).is_ok());
        let long = format!("example.com/{}:tag", "a".repeat(255));
        assert!(Reference::parse(&long).is_ok());
    }

    #[test]
    fn what_is_not() {
        let hex = "1a".repeat(32);
        let long = format!("example.com/{}", "a".repeat(256));
        for text in [
            "",
            " ",
            ":justtag",
            "name:",
            "name@",
            "x:y:z",
            "a b",
            "a\0b",
            "a\nb",
            "-x",
            "a/",
            "/a",
            "a//b",
            "docker///docker",
            "Upper:tag",
            "me/App:1",
            "test:5000/Upper/lower:tag",
            "docker.io/docker/Docker",
            "aa/asdf$$^/aa",
            "https://github.com/a/b",
            "-docker/docker",
            "docker-/docker",
            "-docker.io/docker/docker",
            "____/____",
            "_docker/_docker",
            "dock..er/docker",
            "dock_.er/docker",
            "dock-.er/docker",
            "dock___er/docker",
            "[2001:db8::1]",
            "[2001:db8::1]:5000",
            "[fe80::1%eth0]:5000/repo",
            "[2001:db8:3:4::192.0.2.33]:5000/debian",
            "fc00::1:5000/debian",
            "[::1/a",
            "[]/a",
            "[::1]x/a",
            "[::1]:/a",
            "host:/a",
            "host:x/a",
            "h..t/a",
            "-h.t/a",
            "h-.t/a",
            "name:-tag",
            "name:.tag",
            "name:tag@",
            "żółw",
            "UPPER",
            "ａ/b",
            hex.as_str(),
            long.as_str(),
            "repo@sha256:ffffffffffffffffffffffffffffffffff",
            "repo@sha256:",
            "repo@md5:ffffffffffffffffffffffffffffffff",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert!(Reference::parse(&format!("@{}", digest())).is_err());
        assert!(Reference::parse(&format!("name@{}", digest().to_uppercase())).is_err());
        assert!(Reference::parse(&digest()).unwrap_err().contains("id"));
        assert!(Reference::parse(&format!("name:{}", "t".repeat(129))).is_err());
    }

    proptest! {
        #[test]
        fn what_the_grammar_makes_is_taken(
            domain in "(([a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?\\.){1,3}[a-z]{2}|localhost|\\[[0-9a-f]{0,4}:[0-9a-f:]{1,6}\\]|[A-Z][A-Z0-9]{0,5})(:[0-9]{1,5})?/|",
            path in "[a-z0-9]{1,9}(([._]|__|-{1,3})[a-z0-9]{1,5}){0,3}(/[a-z0-9]{1,9}){0,2}",
            tag in "(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20})?",
            digest in "(@sha256:[0-9a-f]{64})?",
        ) {
            let text = format!("{domain}{path}{tag}{digest}");
            // The first part of a path may look like a host and then is taken for one.
            let r = Reference::parse(&text);
            prop_assert!(r.is_ok() || domain.is_empty(), "{}: {:?}", text, r);
            if let Ok(r) = r {
                prop_assert_eq!(r.tag, tag.strip_prefix(':'));
                prop_assert_eq!(r.digest, digest.strip_prefix('@'));
                let again = r.full();
                prop_assert_eq!(Reference::parse(&again).unwrap().full(), again);
                if !domain.is_empty() {
                    prop_assert_eq!(r.domain(), domain.trim_end_matches('/'));
                }
            }
        }
    }
}

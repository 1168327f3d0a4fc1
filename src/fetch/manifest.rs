//! The manifest: what can be fetched, in which version, from where, and the digest that says it is right.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use url::Url;

use super::platform::Platform;
use crate::{
    env_vars,
    error::{Error, ErrorCode, Result},
    progress::Component,
};

const BUILT_IN: &str = include_str!("../../templates/manifest.json");
pub const SCHEMA: u32 = 1;

/// What a manifest lists. `nerdctl` is the Windows program; `nerdctl-full` is containerd with everything, for a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Lima,
    NerdctlFull,
    Nerdctl,
    Image,
    WslRootfs,
}

impl Part {
    pub const ALL: [Part; 5] = [Self::Lima, Self::NerdctlFull, Self::Nerdctl, Self::Image, Self::WslRootfs];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lima => "lima",
            Self::NerdctlFull => "nerdctl-full",
            Self::Nerdctl => "nerdctl",
            Self::Image => "image",
            Self::WslRootfs => "wsl-rootfs",
        }
    }

    /// How a person calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Lima => "Lima",
            Self::NerdctlFull => "containerd",
            Self::Nerdctl => "nerdctl",
            Self::Image => "the guest image",
            Self::WslRootfs => "the WSL root file system",
        }
    }

    pub fn component(self) -> Component {
        match self {
            Self::Lima => Component::Lima,
            Self::NerdctlFull | Self::Nerdctl => Component::Nerdctl,
            Self::Image | Self::WslRootfs => Component::Image,
        }
    }

    /// The platform a manifest lists this part under, for a machine of `host`: what runs in a guest goes by the guest.
    fn platform(self, host: Platform) -> Platform {
        match self {
            Self::Lima | Self::Nerdctl => host,
            Self::NerdctlFull | Self::Image | Self::WslRootfs => host.guest(),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    components: BTreeMap<Part, Versioned>,
}

#[derive(Debug, Clone, Deserialize)]
struct Versioned {
    version: String,
    platforms: BTreeMap<Platform, Sources>,
}

#[derive(Debug, Clone, Deserialize)]
struct Sources {
    sources: Vec<Source>,
}

/// One place to get a part from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Source {
    pub url: Url,
    /// Lower-case hex. Absent: the `SHA256SUMS` beside the file decides.
    #[serde(default)]
    pub sha256: Option<Digest>,
    /// Bytes; absent where nobody has looked.
    #[serde(default)]
    pub size: Option<u64>,
    /// For images that bring no boot loader.
    #[serde(default)]
    pub kernel: Option<BootFile>,
    #[serde(default)]
    pub initrd: Option<BootFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BootFile {
    pub url: Url,
    pub sha256: Digest,
    #[serde(default)]
    pub cmdline: Option<String>,
}

/// A sha256, as 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(String);

impl Digest {
    pub fn of(hash: &[u8]) -> Self {
        Self(crate::hex::lower(hash))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hex = text.strip_prefix("sha256:").unwrap_or(&text).to_ascii_lowercase();
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(hex))
        } else {
            Err(format!("{text:?} is not a sha256: 64 hex digits"))
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part as one machine needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub part: Part,
    pub version: String,
    /// Never empty; tried in order.
    pub sources: Vec<Source>,
}

impl Manifest {
    /// The manifest that ships with the package.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN, "the built-in manifest").expect("a test parses the built-in manifest")
    }

    /// `origin` names the manifest in an error.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Schema {
            schema: u32,
        }
        let bad = |problem: String| {
            Error::new(ErrorCode::InvalidArgument, format!("manifest: {origin}: {problem}"))
                .detail("field", "manifest")
                .detail("path", origin)
                .hint("templates/manifest.schema.json describes the form.")
        };
        // First of all: a newer form gets an error about its version, not about its fields.
        let Schema { schema } = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if schema != SCHEMA {
            return Err(bad(format!("schema {schema} is not the {SCHEMA} this version knows")));
        }
        let mut de = serde_json::Deserializer::from_str(text);
        let manifest: Self =
            serde_path_to_error::deserialize(&mut de).map_err(|e| bad(format!("{}: {}", e.path(), e.inner())))?;
        for (part, versioned) in &manifest.components {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
            // It names a directory.
            if versioned.version.is_empty()
                || versioned.version.starts_with('.')
                || versioned.version.len() > 64
                || !versioned.version.chars().all(plain)
            {
                return Err(bad(format!("components.{part}.version: {:?} is not a version", versioned.version)));
            }
            for (platform, Sources { sources }) in &versioned.platforms {
                let at = format!("components.{part}.platforms.{platform}.sources");
                if sources.is_empty() {
                    return Err(bad(format!("{at} is empty")));
                }
                for (i, source) in sources.iter().enumerate() {
                    if !matches!(source.url.scheme(), "https" | "http") || file_name(&source.url).is_none() {
                        return Err(bad(format!("{at}[{i}].url: {} is not the http(s) address of a file", source.url)));
                    }
                }
            }
        }
        Ok(manifest)
    }

    /// `None`: this machine needs no such part, or there is none for it.
    pub fn find(&self, part: Part, host: Platform) -> Option<Wanted> {
        let versioned = self.components.get(&part)?;
        let sources = versioned.platforms.get(&part.platform(host))?.sources.clone();
        Some(Wanted { part, version: versioned.version.clone(), sources })
    }

    /// Whether any part, for any platform, has this digest.
    pub fn names_digest(&self, digest: &str) -> bool {
        let sources = || self.components.values().flat_map(|v| v.platforms.values()).flat_map(|s| &s.sources);
        sources().any(|s| s.sha256.as_ref().is_some_and(|d| d.as_str() == digest))
    }
}

/// Where the manifest and the files come from, as the caller or the environment says.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// A path or an http(s) address.
    pub manifest: Option<String>,
    pub mirror: Option<Mirror>,
}

impl Origin {
    /// An option given by the caller goes before the environment's.
    pub fn new(manifest: Option<&str>, mirror: Option<&str>) -> Result<Self> {
        let given = |option: Option<&str>, name| option.map(str::to_owned).or_else(|| env_vars::get(name));
        let mirror = given(mirror, env_vars::LIMA_RUNTIME_MIRROR).map(|m| Mirror::parse(&m)).transpose()?;
        Ok(Self { manifest: given(manifest, env_vars::LIMA_RUNTIME_MANIFEST), mirror })
    }

    pub fn rewrite(&self, url: &Url) -> Url {
        self.mirror.as_ref().map_or_else(|| url.clone(), |m| m.rewrite(url))
    }
}

/// `https://host/path` becomes `<mirror>/host/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror(Url);

impl Mirror {
    pub fn parse(text: &str) -> Result<Self> {
        let mut url = Url::parse(text).map_err(|e| Error::invalid("mirror", format!("{text:?}: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(Error::invalid("mirror", format!("{text:?} is not an http(s) address")));
        }
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self(url))
    }

    fn rewrite(&self, url: &Url) -> Url {
        let mut new = self.0.clone();
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        new.set_path(&format!("{}/{host}{}", self.0.path().trim_end_matches('/'), url.path()));
        new.set_query(url.query());
        new
    }
}

/// The name a file is stored under: the last part of its address, when that is a plain one.
pub fn file_name(url: &Url) -> Option<&str> {
    let name = url.path_segments()?.next_back()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    (!name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(plain)).then_some(name)
}

/// The digest of `name` in the text of a `SHA256SUMS`: lines of `<hex>  <name>` or `<hex> *<name>`.
pub fn find_sum(sums: &str, name: &str) -> Option<Digest> {
    sums.lines().find_map(|line| {
        let (hex, file) = line.trim().split_once(char::is_whitespace)?;
        let file = file.trim_start().trim_start_matches('*').trim_start_matches("./");
        (file == name).then(|| Digest::try_from(hex.to_owned()).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_built_in_manifest_names_what_every_platform_needs() {
        let m = Manifest::built_in();
        let lima = |p| m.find(Part::Lima, p).unwrap();
        assert_eq!(lima(Platform::DarwinArm64).version, "1.2.1");
        assert_eq!(
            lima(Platform::DarwinArm64).sources[0].sha256.as_ref().unwrap().as_str(),
            "4c6e20510b456a4e380500096ecce72c18d0ce98548064dc8089797de2290fdc"
        );
        for host in [Platform::DarwinArm64, Platform::DarwinX64, Platform::LinuxX64, Platform::LinuxArm64] {
            assert!(lima(host).sources[0].url.path().ends_with(".tar.gz"));
            for part in [Part::Image, Part::NerdctlFull] {
                let wanted = m.find(part, host).unwrap();
                let arch = if host.guest() == Platform::LinuxArm64 { "arm64" } else { "amd64" };
                assert!(wanted.sources.iter().all(|s| s.url.path().contains(arch)), "{part} on {host}");
            }
        }
        assert!(m.find(Part::Lima, Platform::Win32X64).is_none());
        assert!(m.find(Part::Nerdctl, Platform::Win32X64).is_some());
        // The guest's image is dated, newest first, each with its own digest; only the undated one goes by SHA256SUMS.
        let images = m.find(Part::Image, Platform::DarwinArm64).unwrap().sources;
        let (last, dated) = images.split_last().unwrap();
        assert!(dated.iter().all(|s| s.sha256.is_some()) && dated.len() >= 3);
        assert!(last.sha256.is_none());
        assert!(dated.is_sorted_by(|a, b| a.url.path() > b.url.path()));
    }

    #[test]
    fn a_bad_manifest_is_refused_with_the_place() {
        let refuse = |text: &str, says: &str| {
            let e = Manifest::parse(text, "m.json").unwrap_err();
            assert_eq!(e.code(), ErrorCode::InvalidArgument);
            assert!(e.message().contains(says) && e.message().contains("m.json"), "{}", e.message());
        };
        refuse("{", "EOF");
        refuse(r#"{"schema":2}"#, "schema 2");
        refuse(r#"{"schema":1,"components":{"soup":{}}}"#, "soup");
        let source = |version: &str, source: &str| {
            format!(
                r#"{{"schema":1,"components":{{"lima":{{"version":"{version}","platforms":{{"linux-x64":{{"sources":[{source}]}}}}}}}}}}"#
            )
        };
        refuse(&source("1", ""), "is empty");
        refuse(&source("1", r#"{"url":"ftp://x/y"}"#), "http(s)");
        refuse(&source("1", r#"{"url":"https://x/"}"#), "http(s)");
        refuse(&source("1", r#"{"url":"https://x/y","sha256":"abc"}"#), "sha256");
        refuse(&source("../1", r#"{"url":"https://x/y"}"#), "version");
        refuse(&source("1", r#"{"url":"https://x/..%2fy"}"#), "http(s)");
        assert!(Manifest::parse(&source("1", r#"{"url":"https://x/y","note":"kept for later"}"#), "m.json").is_ok());
    }

    #[test]
    fn a_mirror_takes_the_host_into_the_path() {
        let rewrite = |mirror: &str, address: &str| Mirror::parse(mirror).unwrap().rewrite(&url(address)).to_string();
        assert_eq!(
            rewrite("http://127.0.0.1:8080", "https://github.com/a/b.tar.gz"),
            "http://127.0.0.1:8080/github.com/a/b.tar.gz"
        );
        assert_eq!(rewrite("https://m.example/x/", "https://h:8443/a?b=c"), "https://m.example/x/h:8443/a?b=c");
        assert_eq!(rewrite("https://u:p@m.example", "https://h/a%20b"), "https://u:p@m.example/h/a%20b");
        assert_eq!(Mirror::parse("m.example").unwrap_err().code(), ErrorCode::InvalidArgument);
        assert_eq!(Mirror::parse("file:///x").unwrap_err().code(), ErrorCode::InvalidArgument);
    }

    #[test]
    fn sums_are_found_by_their_exact_name() {
        let a = "a".repeat(64);
        let b = "B".repeat(64);
        let sums = format!("{b}  lima-1-extra.tar.gz\r\n{a} *lima-1.tar.gz\nnot a line\n");
        assert_eq!(find_sum(&sums, "lima-1.tar.gz").unwrap().as_str(), a);
        assert_eq!(find_sum(&sums, "lima-1-extra.tar.gz").unwrap().as_str(), b.to_lowercase());
        assert_eq!(find_sum(&sums, "lima"), None);
    }
}

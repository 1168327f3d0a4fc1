//! The manifest lists what can be fetched, its versions and addresses, and the digests that the files must have.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use url::Url;

use super::{digest::Digest, platform::Platform};
use crate::{
    env_vars,
    error::{Error, ErrorCode, Result},
    progress::Component,
};

const BUILT_IN: &str = include_str!("../../templates/manifest.json");
pub const SCHEMA: u32 = 2;
/// It has one version of each component, and digests may be missing: applications have written such manifests.
const OLD_SCHEMA: u32 = 1;
const MIB: u64 = 1 << 20;
/// Ends the version of an image that was baked from the one before it.
const BAKED: &str = "-baked";

/// What a manifest lists. `nerdctl` is the Windows program; `nerdctl-full` is containerd with everything, and `docker` the
/// static Docker Engine, for a guest; `docker-rootless` is what an ordinary user of Linux needs beside that. `compose` is
/// docker's, a bare program, which the first project fetches.
/// Another part needs a name here and a row in [`Part::facts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Lima,
    NerdctlFull,
    Docker,
    DockerRootless,
    Compose,
    Nerdctl,
    Image,
    WslRootfs,
}

struct PartTraits {
    name: &'static str,
    /// Its name for people.
    title: &'static str,
    component: Component,
    /// It runs in a guest, and is listed under the guest's platform.
    guest: bool,
    /// The option that chooses its version.
    version: Option<&'static str>,
    /// It never has so many bytes: here the download of a source without a size ends.
    most: u64,
}

impl Part {
    pub const ALL: [Part; 8] = [
        Self::Lima,
        Self::NerdctlFull,
        Self::Docker,
        Self::DockerRootless,
        Self::Compose,
        Self::Nerdctl,
        Self::Image,
        Self::WslRootfs,
    ];

    #[rustfmt::skip]
    const fn facts(self) -> PartTraits {
        let (name, title, component, guest, version, most) = match self {
            Self::Lima => ("lima", "Lima", Component::Lima, false, Some("lima"), 256),
            Self::NerdctlFull => ("nerdctl-full", "containerd", Component::Nerdctl, true, Some("nerdctl"), 1024),
            Self::Docker => ("docker", "Docker Engine", Component::Docker, true, Some("docker"), 512),
            Self::DockerRootless => ("docker-rootless", "Docker's rootless extras", Component::Docker, true, Some("docker"), 256),
            Self::Compose => ("compose", "docker compose", Component::Docker, true, Some("compose"), 256),
            Self::Nerdctl => ("nerdctl", "nerdctl", Component::Nerdctl, false, Some("nerdctl"), 256),
            Self::Image => ("image", "the guest image", Component::Image, true, None, 1024),
            Self::WslRootfs => ("wsl-rootfs", "the WSL root file system", Component::Image, true, None, 1024),
        };
        PartTraits { name, title, component, guest, version, most: most * MIB }
    }

    pub fn as_str(self) -> &'static str {
        self.facts().name
    }

    pub fn title(self) -> &'static str {
        self.facts().title
    }

    pub fn component(self) -> Component {
        self.facts().component
    }

    /// What `versions` calls it.
    pub fn option(self) -> Option<&'static str> {
        self.facts().version
    }

    /// The directory of a version, below `versions`. Docker's parts have the same versions.
    pub fn dir_name(self, version: &str) -> String {
        match self {
            Self::Docker | Self::DockerRootless => format!("{self}-{version}"),
            _ => version.to_owned(),
        }
    }

    /// The name of the link to the version in use. Docker's stay where another engine is installed beside it.
    pub fn link_name(self) -> String {
        match self {
            Self::Docker | Self::DockerRootless => format!("current-{self}"),
            _ => "current".to_owned(),
        }
    }

    /// The platform under which a manifest lists this part for a machine of `host`; that of the guest, for what runs there.
    fn platform(self, host: Platform) -> Platform {
        if self.facts().guest { host.guest() } else { host }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A wanted part, and its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub part: Part,
    /// True: the archive's contents, in `versions/`. False: the file as it was published, in the cache.
    pub unpacked: bool,
}

/// What the caller chooses of a manifest; where it says nothing, the manifest's default is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Choice {
    pub versions: Versions,
    pub image_variant: Option<ImageVariant>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Versions {
    pub lima: Option<String>,
    /// The version of nerdctl-full and of nerdctl.
    pub nerdctl: Option<String>,
    pub docker: Option<String>,
    pub compose: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageVariant {
    /// It has less than half the size. Its first boot downloads what it lacks.
    Minimal,
    /// It boots without a network.
    Server,
}

impl ImageVariant {
    pub const DEFAULT: Self = Self::Minimal;

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Server => "server",
        }
    }
}

impl Versions {
    fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { lima, nerdctl, docker, compose } = self;
        let all = [("lima", lima), ("nerdctl", nerdctl), ("docker", docker), ("compose", compose)];
        all.into_iter().filter_map(|(name, version)| Some((name, version.as_deref()?)))
    }

    /// The one asked for.
    pub fn of(&self, part: Part) -> Option<&str> {
        let option = part.option()?;
        self.given().find(|(name, _)| *name == option).map(|(_, version)| version)
    }
}

#[derive(Debug, Clone)]
pub struct Manifest {
    components: BTreeMap<Part, Versioned>,
}

/// The form of schema 2.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Versioned {
    default: String,
    versions: BTreeMap<String, Release>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Release {
    /// Why it should not be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    platforms: Platforms,
    /// In place of `platforms`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    variants: BTreeMap<ImageVariant, Variant>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Variant {
    platforms: Platforms,
}

type Platforms = BTreeMap<Platform, Sources>;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sources {
    sources: Vec<Listed>,
}

/// A source as the manifest has it. One without a digest is never fetched.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    url: Url,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<BootFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd: Option<BootFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<BakedEngine>,
}

/// One place to get a part from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub url: Url,
    pub sha256: Digest,
    /// Bytes; absent where nobody has looked.
    pub size: Option<u64>,
    /// The digest of the archive's contents ([`super::record::contents`]). A bundle of unpacked files is recognized by it.
    pub contents: Option<Digest>,
    /// For images that bring no boot loader.
    pub kernel: Option<BootFile>,
    pub initrd: Option<BootFile>,
    /// For a baked image.
    pub engine: Option<BakedEngine>,
}

/// The engine that a baked image holds, installed: a VM that is made from it needs no archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BakedEngine {
    pub part: Part,
    pub version: String,
    /// Of the archive that it was installed from.
    pub sha256: Digest,
}

impl Listed {
    fn source(&self) -> Option<Source> {
        Some(Source {
            sha256: self.sha256.clone()?,
            url: self.url.clone(),
            size: self.size,
            contents: self.contents.clone(),
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            engine: self.engine.clone(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFile {
    pub url: Url,
    pub sha256: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
}

/// A part as one machine needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub part: Part,
    pub version: String,
    /// Why this version should not be used.
    pub advice: Option<String>,
    /// At least one; they are tried in this order.
    pub sources: Vec<Source>,
}

impl Wanted {
    /// What the source with that digest holds, of a baked image.
    pub fn engine(&self, sha256: &Digest) -> Option<BakedEngine> {
        self.sources.iter().find(|source| source.sha256 == *sha256)?.engine.clone()
    }

    /// The size of the first source. Another source may be another file, of another size.
    pub fn size(&self) -> Option<u64> {
        self.sources.first()?.size
    }

    /// `source` has at most so many bytes.
    pub fn most(&self, source: &Source) -> u64 {
        source.size.unwrap_or(self.part.facts().most)
    }
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
        #[derive(Deserialize)]
        struct Document {
            components: BTreeMap<Part, Versioned>,
        }
        let bad = |problem: String| bad(origin, &problem);
        // Read first: the error about a newer schema names the schema, not a field.
        let Schema { schema } = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        let components = match schema {
            SCHEMA => fields::<Document>(text).map_err(bad)?.components,
            OLD_SCHEMA => fields::<old::Document>(text).map_err(bad)?.into(),
            _ => return Err(bad(format!("schema {schema} is not the {SCHEMA} this version knows"))),
        };
        for (part, component) in &components {
            if !component.versions.contains_key(&component.default) {
                return Err(bad(format!(
                    "components.{part}.default: {:?} is not among its versions",
                    component.default
                )));
            }
            for (version, release) in &component.versions {
                check(*part, version, release, schema).map_err(bad)?;
            }
        }
        Ok(Self { components })
    }

    /// `INVALID_ARGUMENT` for a version that is not listed, naming those that are.
    pub fn check(&self, choice: &Choice) -> Result<()> {
        for (option, asked) in choice.versions.given() {
            let parts = Part::ALL.into_iter().filter(|p| p.facts().version == Some(option));
            let known = parts.filter_map(|p| self.components.get(&p)).flat_map(|c| c.versions.keys());
            let known: std::collections::BTreeSet<&str> = known.map(String::as_str).collect();
            if !known.contains(asked) {
                let list = if known.is_empty() { "none".into() } else { Vec::from_iter(known).join(", ") };
                let problem = format!("{asked:?} is not in the manifest, which has {list}");
                return Err(Error::invalid(format!("versions.{option}"), problem));
            }
        }
        Ok(())
    }

    /// `UNSUPPORTED_PLATFORM` where there is none for this machine.
    pub fn find(&self, part: Part, host: Platform, choice: &Choice) -> Result<Wanted> {
        self.check(choice)?;
        let missing = |what: String| {
            Error::new(ErrorCode::UnsupportedPlatform, format!("The manifest has no {what} for {host}"))
                .detail("platform", host.as_str())
                .detail("component", part.as_str())
        };
        let component = self.components.get(&part).ok_or_else(|| missing(part.to_string()))?;
        let version = choice.versions.of(part).unwrap_or(&component.default);
        let named = || missing(format!("{part} {version}"));
        let release = component.versions.get(version).ok_or_else(named)?;
        let platforms = release.of(choice.image_variant)?.into_iter();
        let mut listed = platforms.filter_map(|p| p.get(&part.platform(host))).flat_map(|s| &s.sources).peekable();
        let first = *listed.peek().ok_or_else(named)?;
        let sources: Vec<_> = listed.filter_map(Listed::source).collect();
        if sources.is_empty() {
            return Err(undigested(part, &first.url));
        }
        Ok(Wanted { part, version: version.to_owned(), advice: release.advice.clone(), sources })
    }

    /// The version that has a file with this digest, and its source, whichever version is the default.
    pub fn known(&self, part: Part, host: Platform, sha256: &Digest, choice: &Choice) -> Option<(Wanted, Source)> {
        let component = self.components.get(&part)?;
        let asked = |version: &str| choice.versions.of(part).is_none_or(|asked| asked == version);
        component.versions.iter().filter(|(version, _)| asked(version)).find_map(|(version, release)| {
            let variants = release.variants.iter().filter(|(v, _)| choice.image_variant.is_none_or(|a| a == **v));
            let platforms = std::iter::once(&release.platforms).chain(variants.map(|(_, v)| &v.platforms));
            let sources = platforms.filter_map(|p| p.get(&part.platform(host))).flat_map(|s| &s.sources);
            let source = sources.filter_map(Listed::source).find(|s| s.sha256 == *sha256)?;
            let (version, advice) = (version.clone(), release.advice.clone());
            Some((Wanted { part, version, advice, sources: vec![source.clone()] }, source))
        })
    }

    /// This manifest with a baked image as the default one of `platform`'s guests, and the engine in it as the default version. The
    /// image is a version of its own, in which other platforms have what they had.
    #[must_use]
    pub fn with_baked(mut self, platform: Platform, baked: Source) -> Self {
        let Source { url, sha256, size, contents, kernel, initrd, engine } = baked;
        if let Some(BakedEngine { part, version, .. }) = &engine
            && let Some(component) = self.components.get_mut(part).filter(|c| c.versions.contains_key(version))
        {
            component.default.clone_from(version);
        }
        let source = Listed { url, sha256: Some(sha256), size, contents, kernel, initrd, engine };
        let component = self
            .components
            .entry(Part::Image)
            .or_insert_with(|| Versioned { default: String::new(), versions: BTreeMap::new() });
        let version = match component.default.as_str() {
            done if done.ends_with(BAKED) => done.to_owned(),
            base => format!("{}{BAKED}", if base.is_empty() { "1" } else { base }),
        };
        let mut release = component.versions.get(&component.default).cloned().unwrap_or_default();
        let variants = release.variants.values_mut().map(|variant| &mut variant.platforms);
        let mut all: Vec<_> = variants.collect();
        if all.is_empty() {
            all.push(&mut release.platforms);
        }
        for platforms in all {
            platforms.insert(platform, Sources { sources: vec![source.clone()] });
        }
        component.versions.insert(version.clone(), release);
        component.default = version;
        self
    }

    /// As a file of the present schema.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "schema": SCHEMA, "components": self.components })
    }

    /// Whether any part, in any version and for any platform, has this digest.
    pub fn names_digest(&self, digest: &str) -> bool {
        self.sources().any(|(_, s)| s.sha256.as_ref().is_some_and(|d| d.as_str() == digest))
    }

    /// All sources.
    fn sources(&self) -> impl Iterator<Item = (Part, &Listed)> {
        let releases = self.components.iter().flat_map(|(part, c)| c.versions.values().map(|r| (*part, r)));
        releases.flat_map(|(part, r)| {
            let all = std::iter::once(&r.platforms).chain(r.variants.values().map(|v| &v.platforms));
            all.flat_map(BTreeMap::values).flat_map(|s| &s.sources).map(move |s| (part, s))
        })
    }
}

impl Release {
    /// The best is the first. An image without variants serves every request. A caller that asks for no variant gets the
    /// others as substitutes: Ubuntu removes a dated image after some months, each variant at its own time.
    fn of(&self, variant: Option<ImageVariant>) -> Result<Vec<&Platforms>> {
        let all = || self.variants.iter().map(|(v, p)| (*v, &p.platforms));
        match variant {
            _ if self.variants.is_empty() => Ok(vec![&self.platforms]),
            None => {
                let (first, rest): (Vec<_>, Vec<_>) = all().partition(|(v, _)| *v == ImageVariant::DEFAULT);
                Ok(first.into_iter().chain(rest).map(|(_, p)| p).collect())
            }
            Some(asked) => all().find(|(v, _)| *v == asked).map(|(_, p)| vec![p]).ok_or_else(|| {
                let known = all().map(|(v, _)| v.as_str()).collect::<Vec<_>>().join(", ");
                Error::invalid("imageVariant", format!("the manifest has only {known}"))
            }),
        }
    }
}

fn bad(origin: &str, problem: &str) -> Error {
    Error::new(ErrorCode::InvalidArgument, format!("manifest: {origin}: {problem}"))
        .detail("field", "manifest")
        .detail("path", origin)
        .hint("templates/manifest.schema.json describes the form.")
}

/// Nothing is installed without a digest of the manifest. A list of digests beside the file proves nothing: whoever sends
/// a false file sends a false list.
fn undigested(part: Part, url: &Url) -> Error {
    let url = super::http::shown(url);
    Error::new(ErrorCode::InvalidArgument, format!("manifest: {part} has no sha256 for {url}"))
        .detail("field", "manifest")
        .detail("url", url)
        .hint("Give the source its sha256 in the manifest, as its publisher says it.")
}

fn fields<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut de = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut de).map_err(|e| format!("{}: {}", e.path(), e.inner()))
}

fn check(part: Part, version: &str, release: &Release, schema: u32) -> Result<(), String> {
    let at = if schema == OLD_SCHEMA {
        format!("components.{part}")
    } else {
        format!("components.{part}.versions.{version}")
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    // The version is the name of a directory.
    if version.is_empty() || version.starts_with('.') || version.len() > 64 || !version.chars().all(plain) {
        return Err(format!("components.{part}: {version:?} is not a version"));
    }
    if !release.variants.is_empty() && part != Part::Image {
        return Err(format!("{at}.variants: only an image has variants"));
    }
    let variants = release.variants.iter().map(|(v, p)| (format!("{at}.variants.{}", v.as_str()), &p.platforms));
    for (at, platforms) in variants.chain([(at.clone(), &release.platforms)]) {
        for (platform, Sources { sources }) in platforms {
            let at = format!("{at}.platforms.{platform}.sources");
            if sources.is_empty() {
                return Err(format!("{at} is empty"));
            }
            for (i, source) in sources.iter().enumerate() {
                let url = &source.url;
                if !matches!(url.scheme(), "https" | "http") || file_name(url).is_none() {
                    return Err(format!("{at}[{i}].url: {url} is not the http(s) address of a file"));
                }
                if schema != OLD_SCHEMA && source.sha256.is_none() {
                    return Err(format!("{at}[{i}]: {url} has no sha256"));
                }
                if let Some(engine) = &source.engine
                    && (part != Part::Image || !matches!(engine.part, Part::NerdctlFull | Part::Docker))
                {
                    return Err(format!("{at}[{i}].engine: {part} holds no {}", engine.part));
                }
                if source.size == Some(0) {
                    return Err(format!("{at}[{i}].size: {url} has more than 0 bytes"));
                }
            }
        }
    }
    Ok(())
}

/// Schema 1.
mod old {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::{Part, Platforms, Release, Versioned};

    #[derive(Deserialize)]
    pub struct Document {
        components: BTreeMap<Part, Component>,
    }

    #[derive(Deserialize)]
    struct Component {
        version: String,
        platforms: Platforms,
    }

    impl From<Document> for BTreeMap<Part, Versioned> {
        fn from(document: Document) -> Self {
            let convert = |Component { version, platforms }| Versioned {
                default: version.clone(),
                versions: [(version, Release { advice: None, platforms, variants: BTreeMap::new() })].into(),
            };
            document.components.into_iter().map(|(part, c)| (part, convert(c))).collect()
        }
    }
}

/// Where the caller or the environment says that the manifest and the files come from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// A path or an http(s) address.
    pub manifest: Option<String>,
    pub mirror: Option<Mirror>,
}

impl Origin {
    /// The caller's option takes precedence over the environment.
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

/// The name of the stored file: the last part of its address, if that is a plain name.
pub fn file_name(url: &Url) -> Option<&str> {
    let name = url.path_segments()?.next_back()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    (!name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn choice(json: &serde_json::Value) -> Choice {
        serde_json::from_value(json.clone()).unwrap()
    }

    #[test]
    fn the_built_in_manifest_names_what_every_platform_needs() {
        let m = Manifest::built_in();
        let find = |part, host| m.find(part, host, &Choice::default()).unwrap();
        assert_eq!(find(Part::Lima, Platform::DarwinArm64).version, "2.2.0");
        for host in [Platform::DarwinArm64, Platform::DarwinX64, Platform::LinuxX64, Platform::LinuxArm64] {
            assert!(find(Part::Lima, host).sources[0].url.path().ends_with(".tar.gz"));
            for part in [Part::Image, Part::NerdctlFull, Part::Docker, Part::DockerRootless, Part::Compose] {
                let wanted = find(part, host);
                let arch =
                    if host.guest() == Platform::LinuxArm64 { ["arm64", "aarch64"] } else { ["amd64", "x86_64"] };
                let fits = |s: &Source| arch.iter().any(|arch| s.url.path().contains(arch));
                assert!(wanted.sources.iter().all(fits), "{part} on {host}");
                assert_eq!(wanted.advice, None, "{part} is by default what should be used");
            }
        }
        find(Part::WslRootfs, Platform::Win32X64);
        find(Part::Compose, Platform::Win32X64);
        let e = m.find(Part::Lima, Platform::Win32X64, &Choice::default()).unwrap_err();
        assert_eq!(e.code(), ErrorCode::UnsupportedPlatform);
        // The versions that the first application asked for are there, with advice against them.
        let first = choice(&serde_json::json!({ "versions": { "lima": "1.2.1", "nerdctl": "2.1.6" } }));
        for part in [Part::Lima, Part::NerdctlFull] {
            assert!(m.find(part, Platform::DarwinArm64, &first).unwrap().advice.is_some(), "{part}");
        }
        let images = |json: serde_json::Value| {
            let wanted = m.find(Part::Image, Platform::DarwinArm64, &choice(&json)).unwrap();
            let variant = |s: &Source| file_name(&s.url).unwrap().split('-').nth(2).unwrap().to_owned();
            wanted.sources.iter().map(variant).collect::<Vec<_>>()
        };
        // The other variant replaces the default one, but never one that was asked for.
        assert_eq!(images(serde_json::json!({})), ["minimal", "server"]);
        assert_eq!(images(serde_json::json!({ "imageVariant": "minimal" })), ["minimal"]);
        assert_eq!(images(serde_json::json!({ "imageVariant": "server" })), ["server"]);
    }

    #[test]
    fn a_baked_image_is_the_default_one_of_its_guests_and_of_no_others() {
        let digest = |digit: char| Digest::try_from(digit.to_string().repeat(64)).unwrap();
        let baked = |name: &str, digit| Source {
            url: url(&format!("https://images.example.com/{name}.img")),
            sha256: digest(digit),
            size: Some(7),
            contents: None,
            kernel: None,
            initrd: None,
            engine: Some(BakedEngine { part: Part::NerdctlFull, version: "2.3.5".into(), sha256: digest('e') }),
        };
        let parse = |m: &Manifest| Manifest::parse(&m.to_json().to_string(), "test").unwrap();
        let before = Manifest::built_in();
        let one = parse(&before.clone().with_baked(Platform::LinuxArm64, baked("arm", 'a')));
        let image = |m: &Manifest, host| m.find(Part::Image, host, &Choice::default()).unwrap();
        let arm = image(&one, Platform::DarwinArm64);
        // The same image for both variants.
        assert_eq!(arm.version, "24.04-baked");
        assert!(arm.sources.iter().all(|source| *source == baked("arm", 'a')));
        assert_eq!(arm.engine(&digest('a')), baked("arm", 'a').engine);
        assert_eq!(arm.engine(&digest('b')), None);
        let server = choice(&serde_json::json!({ "imageVariant": "server" }));
        for choice in [Choice::default(), server] {
            let found = |m: &Manifest| m.find(Part::Image, Platform::LinuxX64, &choice).unwrap().sources;
            assert_eq!(found(&one), found(&before));
        }
        // The other processor's, and this one's once more.
        let two =
            one.with_baked(Platform::LinuxX64, baked("x64", 'b')).with_baked(Platform::LinuxArm64, baked("arm2", 'c'));
        let two = parse(&two);
        assert_eq!(image(&two, Platform::LinuxX64).sources[0], baked("x64", 'b'));
        assert_eq!(image(&two, Platform::LinuxArm64).sources[0], baked("arm2", 'c'));
        assert_eq!(image(&two, Platform::LinuxArm64).version, "24.04-baked");
        for part in Part::ALL.into_iter().filter(|part| *part != Part::Image) {
            assert_eq!(
                two.find(part, Platform::LinuxX64, &Choice::default()).ok(),
                before.find(part, Platform::LinuxX64, &Choice::default()).ok()
            );
        }
        // Else every first start would put the newer one over it.
        let mut older = baked("old", 'd');
        older.engine = older.engine.map(|engine| BakedEngine { version: "2.1.6".into(), ..engine });
        let older = parse(&before.clone().with_baked(Platform::LinuxX64, older));
        assert_eq!(older.find(Part::NerdctlFull, Platform::LinuxX64, &Choice::default()).unwrap().version, "2.1.6");
        // An image holds engines, and nothing else holds any.
        let mut bad = one_with("lima");
        for part in ["lima", "image"] {
            bad["components"]["image"]["versions"]["1"]["platforms"]["linux-x64"]["sources"][0]["engine"]["part"] =
                part.into();
            let e = Manifest::parse(&bad.to_string(), "test").unwrap_err();
            assert!(e.message().contains("engine"), "{e}");
        }
    }

    /// A manifest of one image that holds `part`.
    fn one_with(part: &str) -> serde_json::Value {
        let engine = serde_json::json!({ "part": part, "version": "1", "sha256": "e".repeat(64) });
        let source =
            serde_json::json!({ "url": "https://x.example/y.img", "sha256": "a".repeat(64), "engine": engine });
        serde_json::json!({ "schema": 2, "components": { "image": { "default": "1", "versions": {
            "1": { "platforms": { "linux-x64": { "sources": [source] } } } } } } })
    }

    /// Every download has a digest and an end. Where the size is not known, the end is a limit that no such file reaches;
    /// when `scripts/update-manifest.mjs` has filled the size in, the file is removed from this list.
    #[test]
    fn every_source_that_ships_has_a_digest_and_an_end() {
        const NO_SIZE: [&str; 17] = [
            "docker-29.8.1.tgz",
            "docker-29.8.1.tgz",
            "docker-compose-linux-aarch64",
            "docker-compose-linux-x86_64",
            "docker-rootless-extras-29.8.1.tgz",
            "docker-rootless-extras-29.8.1.tgz",
            "lima-1.2.1-Darwin-arm64.tar.gz",
            "lima-1.2.1-Darwin-x86_64.tar.gz",
            "lima-2.2.0-Linux-aarch64.tar.gz",
            "lima-2.2.0-Linux-x86_64.tar.gz",
            "nerdctl-full-2.1.6-linux-amd64.tar.gz",
            "nerdctl-full-2.1.6-linux-arm64.tar.gz",
            "nerdctl-full-2.3.5-linux-amd64.tar.gz",
            "nerdctl-full-2.3.5-linux-arm64.tar.gz",
            "ubuntu-24.04-minimal-cloudimg-amd64.img",
            "ubuntu-24.04.4-wsl-amd64.wsl",
            "ubuntu-24.04.4-wsl-amd64.wsl",
        ];
        let m = Manifest::built_in();
        let mut without = Vec::new();
        for (part, source) in m.sources() {
            assert!(source.sha256.is_some(), "{part}: {} has no sha256", source.url);
            assert_eq!(source.url.scheme(), "https", "{}", source.url);
            match source.size {
                Some(size) => assert!(size < part.facts().most, "{}", source.url),
                None => without.push(file_name(&source.url).unwrap().to_owned()),
            }
        }
        without.sort();
        assert!(without.iter().all(|name| NO_SIZE.contains(&name.as_str())), "{without:?}");
        let known = NO_SIZE.iter().filter(|name| !without.iter().any(|w| w == *name)).collect::<Vec<_>>();
        assert!(known.is_empty(), "their sizes are known now, strike them from the list: {known:?}");
    }

    #[test]
    fn the_template_names_what_the_manifest_names() {
        let template: serde_json::Value = serde_norway::from_str(crate::lima::template::BUILT_IN).unwrap();
        let m = Manifest::built_in();
        for (part, listed) in
            [(Part::Image, &template["images"]), (Part::NerdctlFull, &template["containerd"]["archives"])]
        {
            let mut ours = Vec::new();
            for (host, arch) in [(Platform::LinuxX64, "x86_64"), (Platform::LinuxArm64, "aarch64")] {
                for source in m.find(part, host, &Choice::default()).unwrap().sources {
                    let digest = format!("sha256:{}", source.sha256);
                    ours.push(serde_json::json!({ "location": source.url.as_str(), "arch": arch, "digest": digest }));
                }
            }
            assert_eq!(listed.as_array().unwrap(), &ours, "{part}");
        }
    }

    /// A manifest of one source of Lima for linux-x64.
    fn of(schema: u32, version: &str, source: &str) -> String {
        let platforms = format!(r#""platforms":{{"linux-x64":{{"sources":[{source}]}}}}"#);
        let component = if schema == 1 {
            format!(r#"{{"version":"{version}",{platforms}}}"#)
        } else {
            format!(r#"{{"default":"{version}","versions":{{"{version}":{{{platforms}}}}}}}"#)
        };
        format!(r#"{{"schema":{schema},"components":{{"lima":{component}}}}}"#)
    }

    #[test]
    fn a_bad_manifest_is_refused_with_the_place() {
        let refuse = |text: &str, says: &str| {
            let e = Manifest::parse(text, "m.json").unwrap_err();
            assert_eq!(e.code(), ErrorCode::InvalidArgument);
            assert!(e.message().contains(says) && e.message().contains("m.json"), "{}", e.message());
        };
        let digest = "a".repeat(64);
        refuse("{", "EOF");
        refuse(r#"{"schema":3}"#, "schema 3");
        for schema in [1, 2] {
            refuse(&format!(r#"{{"schema":{schema},"components":{{"soup":{{}}}}}}"#), "soup");
            refuse(&of(schema, "1", ""), "is empty");
            refuse(&of(schema, "1", r#"{"url":"ftp://x/y"}"#), "http(s)");
            refuse(&of(schema, "1", r#"{"url":"https://x/"}"#), "http(s)");
            refuse(&of(schema, "1", r#"{"url":"https://x/y","sha256":"abc"}"#), "sha256");
            refuse(&of(schema, "../1", r#"{"url":"https://x/y"}"#), "version");
            refuse(&of(schema, "1", r#"{"url":"https://x/..%2fy"}"#), "http(s)");
            refuse(&of(schema, "1", &format!(r#"{{"url":"https://x/y","sha256":"{digest}","size":0}}"#)), "size");
            let later = format!(r#"{{"url":"https://x/y","sha256":"{digest}","note":"kept for later"}}"#);
            assert!(Manifest::parse(&of(schema, "1", &later), "m.json").is_ok());
        }
        refuse(&of(2, "1", r#"{"url":"https://x/y"}"#), "https://x/y has no sha256");
        refuse(&of(2, "1", "").replace(r#""default":"1""#, r#""default":"2""#), r#""2" is not among its versions"#);
    }

    #[test]
    fn a_manifest_of_schema_1_is_read_and_a_source_without_a_digest_is_none() {
        let find = |sources: &str| {
            let m = Manifest::parse(&of(1, "1.2.1", sources), "m.json").unwrap();
            m.find(Part::Lima, Platform::LinuxX64, &Choice::default())
        };
        let bare = r#"{"url":"https://me:secret@x/bare.tar.gz?token=t"}"#;
        let whole = format!(r#"{{"url":"https://x/whole.tar.gz","sha256":"{}","size":7}}"#, "a".repeat(64));
        let wanted = find(&format!("{bare},{whole}")).unwrap();
        assert_eq!((wanted.version.as_str(), wanted.size(), wanted.sources.len()), ("1.2.1", Some(7), 1));
        let e = find(bare).unwrap_err();
        assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some("manifest")));
        assert!(e.message().contains("no sha256 for https://x/bare.tar.gz"), "{}", e.message());
        assert_eq!(e.details()["url"], "https://x/bare.tar.gz");
    }

    #[test]
    fn what_is_not_in_the_manifest_is_refused_with_what_is() {
        let m = Manifest::built_in();
        let refuse = |json: serde_json::Value, field: &str, says: &str| {
            let e = m.find(Part::Image, Platform::LinuxX64, &choice(&json)).unwrap_err();
            assert_eq!((e.code(), e.details()["field"].as_str()), (ErrorCode::InvalidArgument, Some(field)));
            assert!(e.message().contains(says), "{}", e.message());
        };
        refuse(serde_json::json!({ "versions": { "lima": "9.9" } }), "versions.lima", "1.2.1, 2.2.0");
        refuse(serde_json::json!({ "versions": { "nerdctl": "" } }), "versions.nerdctl", "2.1.6, 2.3.5");
        refuse(serde_json::json!({ "versions": { "docker": "28.0.0" } }), "versions.docker", "29.8.1");
        // Known, but not for this machine.
        let old = choice(&serde_json::json!({ "versions": { "lima": "1.2.1" } }));
        let e = m.find(Part::Lima, Platform::LinuxX64, &old).unwrap_err();
        assert_eq!(e.code(), ErrorCode::UnsupportedPlatform);
        assert!(e.message().contains("lima 1.2.1 for linux-x64"), "{}", e.message());
        for wrong in [serde_json::json!({ "versions": { "soup": "1" } }), serde_json::json!({ "imageVariant": "huge" })]
        {
            assert!(serde_json::from_value::<Choice>(wrong.clone()).is_err(), "{wrong}");
        }
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
        // The last one once ended the call with a panic: the parser of host names asserts that it gets no such name.
        for bad in ["m.example", "file:///x", "https://éA.example/"] {
            assert_eq!(Mirror::parse(bad).unwrap_err().code(), ErrorCode::InvalidArgument, "{bad}");
        }
    }
}

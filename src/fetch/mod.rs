//! From a manifest to an installed program: resolve, download, verify, unpack, switch.
//!
//! `manifest` says what exists and where; `download` brings bytes into the cache, checked; `unpack` turns an archive
//! into a directory while it arrives; `install` puts that in its place; `bundle` does the same for an app's build.

pub mod bundle;
pub mod digest;
pub mod disk;
pub mod download;
pub mod held;
pub mod http;
pub mod install;
pub mod lock;
pub mod manifest;
pub mod owner;
pub mod pieces;
pub mod platform;
pub mod progress;
pub mod record;
pub mod retry;
pub mod unpack;

use std::{collections::BTreeSet, path::Path};

use crate::{
    address::is_loopback,
    call,
    error::{Error, ErrorCode, Result},
    mutex::Mutex,
    task,
};
use manifest::{Choice, Manifest, Origin, Part, Wanted};

/// What a caller may say about where things come from, and which of them; part of the options of everything that
/// downloads.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// Path or address of a manifest in place of the built-in one.
    pub manifest: Option<String>,
    pub mirror: Option<String>,
    pub http: http::HttpOptions,
    /// Versions and the image's variant, in place of the manifest's defaults.
    pub choice: Choice,
}

/// Options that hold a [`FetchOptions`] beside fields of their own, written in one object. Every name is known, since a
/// misspelt option would be a default that nobody wanted; of a flattened struct serde would neither refuse that nor say
/// which field is wrong.
macro_rules! options_with_network {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$meta_of:meta])* pub $field:ident: $type:ty,)*
    } $(with $variant:ident)?) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, serde::Deserialize)]
        #[serde(from = "Written")]
        pub struct $name {
            $($(#[$meta_of])* pub $field: $type,)*
            pub network: $crate::fetch::FetchOptions,
        }

        #[derive(Default, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
        struct Written {
            $($(#[$meta_of])* $field: $type,)*
            manifest: Option<String>,
            mirror: Option<String>,
            proxy: Option<String>,
            ca_certificates: Vec<String>,
            idle_timeout_ms: Option<u64>,
            retries: Option<u32>,
            versions: $crate::fetch::manifest::Versions,
            $($variant: Option<$crate::fetch::manifest::ImageVariant>,)?
        }

        impl From<Written> for $name {
            fn from(w: Written) -> Self {
                #[allow(unused_mut, reason = "not all choose a variant")]
                let mut choice = $crate::fetch::manifest::Choice { versions: w.versions, image_variant: None };
                $(choice.$variant = w.$variant;)?
                Self {
                    $($field: w.$field,)*
                    network: $crate::fetch::FetchOptions {
                        manifest: w.manifest,
                        mirror: w.mirror,
                        http: $crate::fetch::http::HttpOptions {
                            proxy: w.proxy,
                            ca_certificates: w.ca_certificates,
                            idle: w.idle_timeout_ms.map(std::time::Duration::from_millis),
                            retries: w.retries,
                        },
                        choice,
                    },
                }
            }
        }
    };
}
pub(crate) use options_with_network;

/// Where things come from, ready to ask.
pub struct Remote {
    pub http: http::Http,
    pub origin: Origin,
    pub manifest: Manifest,
    pub choice: Choice,
}

/// A manifest is a few kilobytes.
const MANIFEST_LIMIT: usize = 1 << 20;

impl FetchOptions {
    pub async fn open(&self) -> Result<Remote> {
        let origin = Origin::new(self.manifest.as_deref(), self.mirror.as_deref())?;
        let http = http::Http::new(self.http.clone()).await?;
        let manifest = match &origin.manifest {
            Some(at) if is_address(at) => {
                let url = url::Url::parse(at).map_err(|e| Error::invalid("manifest", format!("{at:?}: {e}")))?;
                if url.scheme() == "http" && !url.host_str().is_some_and(is_loopback) {
                    // Its digests are all that files are known by.
                    let problem = "over http anybody on the way could change it: use https, or a file";
                    return Err(Error::invalid("manifest", format!("{}: {problem}", http::shown(&url))));
                }
                Manifest::parse(&http.text(&url, MANIFEST_LIMIT).await?, &http::shown(&url))?
            }
            at => {
                let at = at.clone();
                task::blocking(move || read_manifest(at.as_deref())).await?
            }
        };
        manifest.check(&self.choice)?;
        Ok(Remote { http, origin, manifest, choice: self.choice.clone() })
    }

    /// The manifest, as far as it can be had without a network: one at an address is not asked for. Blocks.
    pub fn local_manifest(&self) -> Result<Manifest> {
        let given = Origin::new(self.manifest.as_deref(), None)?.manifest;
        read_manifest(given.as_deref().filter(|at| !is_address(at)))
    }

    /// As [`FetchOptions::local_manifest`]; `None` when the manifest is somewhere else.
    pub fn manifest_here(&self) -> Option<Manifest> {
        let given = Origin::new(self.manifest.as_deref(), None).ok()?.manifest;
        if given.as_deref().is_some_and(is_address) { None } else { read_manifest(given.as_deref()).ok() }
    }
}

fn is_address(manifest: &str) -> bool {
    manifest.starts_with("http://") || manifest.starts_with("https://")
}

fn read_manifest(path: Option<&str>) -> Result<Manifest> {
    let Some(path) = path else { return Ok(Manifest::built_in()) };
    let unreadable = |e| Error::invalid("manifest", format!("cannot read {path}: {e}")).source(e);
    let text = disk::read_limited(Path::new(path), MANIFEST_LIMIT as u64).map_err(unreadable)?;
    Manifest::parse(&String::from_utf8_lossy(&text), path)
}

impl Remote {
    pub fn wanted(&self, part: Part, platform: platform::Platform) -> Result<Wanted> {
        self.manifest.find(part, platform, &self.choice).inspect(advise)
    }
}

/// A warning of the process, once for each version: the caller chose it, or its manifest did.
pub fn advise(wanted: &Wanted) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let Some(advice) = &wanted.advice else { return };
    let what = format!("{} {}", wanted.part.title(), wanted.version);
    let mut said = SAID.lock();
    let warning = || {
        Error::new(ErrorCode::OutdatedVersion, format!("{what}: {advice}"))
            .detail("component", wanted.part.as_str())
            .detail("version", wanted.version.clone())
            .hint("Leave the version out of `versions` to have the one this package is tested with.")
    };
    if !said.contains(&what) && call::warn(warning()) {
        said.insert(what);
    }
}

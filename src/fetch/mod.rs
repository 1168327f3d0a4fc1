//! From a manifest to an installed program: resolve, download, verify, unpack, switch.
//!
//! `manifest` says what exists and where; `download` brings bytes into the cache, checked; `unpack` turns an archive
//! into a directory while it arrives; `install` puts that in its place; `bundle` does the same for an app's build.

pub mod bundle;
pub mod disk;
pub mod download;
pub mod http;
pub mod install;
pub mod lock;
pub mod manifest;
pub mod owner;
pub mod platform;
pub mod progress;
pub mod record;
pub mod retry;
pub mod unpack;

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    task,
};
use manifest::{Manifest, Origin, Part, Wanted};

/// What a caller may say about where things come from; part of the options of everything that downloads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// Path or address of a manifest in place of the built-in one.
    pub manifest: Option<String>,
    pub mirror: Option<String>,
    pub proxy: Option<String>,
    /// PEM texts or paths of PEM files.
    pub ca_certificates: Vec<String>,
    /// How long a download may go without a byte; 60,000 by default.
    pub idle_timeout_ms: Option<u64>,
    /// How often a download is tried again without a new byte in between; 7 by default.
    pub retries: Option<u32>,
}

/// Where things come from, ready to ask.
pub struct Remote {
    pub http: http::Http,
    pub origin: Origin,
    pub manifest: Manifest,
}

/// A manifest is a few kilobytes.
const MANIFEST_LIMIT: usize = 1 << 20;

impl Network {
    pub async fn open(&self) -> Result<Remote> {
        let origin = Origin::new(self.manifest.as_deref(), self.mirror.as_deref())?;
        let http = http::Http::new(http::HttpOptions {
            proxy: self.proxy.clone(),
            ca_certificates: self.ca_certificates.clone(),
            idle: self.idle_timeout_ms.map(Duration::from_millis),
            retries: self.retries,
        })
        .await?;
        let manifest = match &origin.manifest {
            None => Manifest::built_in(),
            Some(at) if at.starts_with("http://") || at.starts_with("https://") => {
                let url = url::Url::parse(at).map_err(|e| Error::invalid("manifest", format!("{at:?}: {e}")))?;
                Manifest::parse(&http.text(&url, MANIFEST_LIMIT).await?, &http::shown(&url))?
            }
            Some(at) => {
                let path = PathBuf::from(at);
                let text = task::blocking(move || {
                    std::fs::read_to_string(&path).map_err(|e| {
                        Error::invalid("manifest", format!("cannot read {}: {e}", path.display())).source(e)
                    })
                });
                Manifest::parse(&text.await?, at)?
            }
        };
        Ok(Remote { http, origin, manifest })
    }
}

impl Remote {
    pub fn wanted(&self, part: Part, platform: platform::Platform) -> Result<Wanted> {
        use crate::error::ErrorCode::UnsupportedPlatform;
        self.manifest.find(part, platform).ok_or_else(|| {
            Error::new(UnsupportedPlatform, format!("The manifest has no {part} for {platform}"))
                .detail("platform", platform.as_str())
                .detail("component", part.as_str())
        })
    }
}

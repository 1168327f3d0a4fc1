//! docker compose for a Docker engine of ours: fetched by the first project that needs it, and put where the engine runs, whole or
//! not at all. A directory of its digest's name holds it, so nothing is replaced that runs.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::docker::Archive;
use crate::{
    call::Call,
    engine::ComposeProgram,
    error::{Error, ErrorCode, Result},
    fetch::{
        FetchOptions, Remote,
        bundle::Bundle,
        disk,
        install::Home,
        lock::Lock,
        manifest::{Part, Request},
        owner,
        platform::Platform,
        progress::Meter,
    },
    guest::Guest,
    process::Command,
    progress::{ComposeProgress, ComposeState, RuntimeProgress, Sink},
    task,
};

/// Beside Docker's own programs in a guest (`docker::PROGRAMS`), which are replaced as one directory.
pub const IN_GUEST: &str = "/usr/local/lib/lima-runtime/compose";
const PROGRAM: &str = "docker-compose";
/// What progress calls it.
const RESOURCE: &str = "docker compose";

/// Takes the digest, the directory, and the program on its standard input.
const PLACE: &str = r#"set -eu
umask 022
mkdir -p "$2"
# Of one that was cut off: whoever is here is alone.
rm -rf "$2"/.new.*
new=$(mktemp -d "$2/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT
cat >"$new/docker-compose"
sum=$(sha256sum <"$new/docker-compose")
[ "${sum%% *}" = "$1" ] || { echo 'it did not arrive whole' >&2; exit 1; }
chmod 755 "$new" "$new/docker-compose"
sync
rm -rf "${2:?}/${1:?}"
mv -T "$new" "$2/$1"
for other in "$2"/*; do [ "$other" = "$2/$1" ] || rm -rf "$other"; done
"#;

/// Prints the digests of those that are there.
const LOOK: &str =
    r#"for one in "$1"/*/docker-compose; do [ ! -x "$one" ] || { one=${one%/*}; echo "${one##*/}"; }; done"#;

/// Where it is to be.
pub struct Place {
    pub guest: Arc<dyn Guest>,
    /// Of the guest.
    pub dir: String,
    pub root: bool,
    /// The downloaded file stays here, for a guest that is made anew.
    pub keeps_download: bool,
}

/// Asked for by projects; it fetches nothing before.
pub struct Compose {
    home: Home,
    network: FetchOptions,
    bundle_dirs: Vec<PathBuf>,
    place: Place,
    /// The digests of which one is wanted, once this process knows. Held while it is brought: who comes meanwhile waits.
    wanted: Mutex<Option<Vec<String>>>,
}

impl Compose {
    pub fn new(home: &Home, network: &FetchOptions, bundle_dirs: Vec<PathBuf>, place: Place) -> Arc<Self> {
        let (home, network) = (home.clone(), network.clone());
        Arc::new(Self { home, network, bundle_dirs, place, wanted: Mutex::default() })
    }

    fn path(&self, digest: &str) -> String {
        format!("{}/{digest}/{PROGRAM}", self.place.dir)
    }

    /// The digests of those that are there.
    async fn look(&self) -> Result<Vec<String>> {
        // Root runs nothing below another user's directory.
        let dir = self.home.dir().to_owned();
        task::blocking(move || owner::check(&dir)).await?;
        let said =
            self.place.guest.run(Command::new(["sh", "-c", LOOK, "sh", &self.place.dir])).await?.checked("sh")?;
        Ok(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect())
    }

    /// One of those, if it is there; any where nobody could say which.
    async fn find(&self, wanted: Option<&[String]>) -> Result<Option<String>> {
        let there = self.look().await?;
        let right = |digest: &&String| wanted.is_none_or(|wanted| wanted.contains(digest));
        Ok(there.iter().find(right).map(|digest| self.path(digest)))
    }

    /// Where the right one comes from.
    async fn source(&self, platform: Platform) -> Result<(Vec<String>, Supply)> {
        let (dirs, network) = (self.bundle_dirs.clone(), self.network.clone());
        let bundle = task::blocking(move || Bundle::find(&dirs, platform, Part::Compose, &network)).await?;
        if let Some(bundle) = bundle {
            bundle.advise(Part::Compose);
            return Ok((vec![bundle.record(Part::Compose)?.sha256.to_string()], Supply::Bundle(bundle)));
        }
        let remote = self.network.open().await?;
        let wanted = remote.wanted(Part::Compose, platform).map_err(|e| match e.code() {
            ErrorCode::UnsupportedPlatform => {
                Error::new(ErrorCode::NotInstalled, "The manifest names no docker compose for this engine")
                    .hint(
                        "Give your manifest the component `compose`, as this package's templates/manifest.json has it.",
                    )
                    .source(e)
            }
            _ => e,
        })?;
        Ok((wanted.sources.iter().map(|source| source.sha256.to_string()).collect(), Supply::Remote(Box::new(remote))))
    }

    async fn fetch(&self, platform: Platform, from: Supply, meter: &Arc<Meter>, lock: &Lock) -> Result<()> {
        let (bundle, remote) = match from {
            Supply::Bundle(bundle) => (Some(bundle), None),
            Supply::Remote(remote) => (None, Some(*remote)),
        };
        let network = self.network.clone();
        let open = async || match remote {
            Some(remote) => Ok(remote),
            None => network.open().await,
        };
        let request = Request { part: Part::Compose, unpacked: false };
        self.home.bring(&[request], platform, bundle.as_ref(), open, meter, lock).await.map_err(unshipped)
    }

    async fn fetched(&self) -> Result<Option<Archive>> {
        let home = self.home.clone();
        task::blocking(move || Ok(home.file(Part::Compose).map(Archive::of))).await
    }

    async fn put(&self, archive: &Archive) -> Result<()> {
        let Place { guest, dir, root, .. } = &self.place;
        let command = Command::new(["sh", "-c", PLACE, "sh", &archive.sha256, dir]);
        let out = guest.hand_over(Command { root: *root, ..command }, &archive.path).await?;
        if out.success() { Ok(()) } else { Err(failed(&out.stderr)) }
    }
}

enum Supply {
    Bundle(Bundle),
    Remote(Box<Remote>),
}

#[async_trait]
impl ComposeProgram for Compose {
    async fn there(&self) -> Result<Option<String>> {
        self.find(None).await
    }

    async fn bring(&self, sink: &Sink<ComposeProgress>) -> Result<String> {
        let mut wanted = self.wanted.lock().await;
        if let Some(digests) = wanted.as_deref()
            && let Some(path) = self.find(Some(digests)).await?
        {
            return Ok(path);
        }
        let platform = Platform::current()?;
        let (digests, supply) = match self.source(platform).await {
            Ok((digests, supply)) => (Some(digests), Ok(supply)),
            // Without a network, what is there will do.
            Err(e) if e.code() == ErrorCode::DownloadFailed => (None, Err(e)),
            Err(e) => return Err(e),
        };
        wanted.clone_from(&digests);
        if let Some(path) = self.find(digests.as_deref()).await? {
            return Ok(path);
        }
        let meter = Meter::new(told(sink));
        let lock = self.home.lock(&Call::default(), None).await?;
        // Another process may have brought it meanwhile.
        if let Some(path) = self.find(digests.as_deref()).await? {
            return Ok(path);
        }
        let absent = match supply {
            Ok(supply) => match self.fetch(platform, supply, &meter, &lock).await {
                Ok(()) => Error::internal("docker compose is gone as soon as it came"),
                Err(e) => {
                    // As with an engine: what is there will do until the network is back.
                    if e.code() != ErrorCode::DownloadFailed || self.network.choice.versions.compose.is_some() {
                        return Err(e);
                    }
                    if let Some(path) = self.find(None).await? {
                        crate::call::warn(e);
                        return Ok(path);
                    }
                    e
                }
            },
            Err(e) => unshipped(e),
        };
        let archive = self.fetched().await?.ok_or(absent)?;
        self.put(&archive).await?;
        if !self.place.keeps_download {
            let cache = self.home.dir().join("cache");
            lock.blocking(move || disk::remove(&cache)).await?;
        }
        sink(event(&format!("docker compose {} is installed", archive.version), ComposeState::Done));
        Ok(self.path(&archive.sha256))
    }
}

fn event(status: &str, state: ComposeState) -> ComposeProgress {
    ComposeProgress { resource: RESOURCE.to_owned(), ..ComposeProgress::whole(status, state) }
}

/// The events of a download as a project's.
fn told(sink: &Sink<ComposeProgress>) -> Sink<RuntimeProgress> {
    let sink = sink.clone();
    Arc::new(move |p: RuntimeProgress| {
        sink(ComposeProgress { current: p.transferred, total: p.total, ..event(&p.message, ComposeState::Working) });
    })
}

/// What a failed download leaves to do.
fn unshipped(e: Error) -> Error {
    if e.code() != ErrorCode::DownloadFailed {
        return e;
    }
    let hint = e.hint_text().unwrap_or_default().to_owned();
    e.hint(format!("{hint} An application can ship it: npx lima-runtime download --component compose.").trim_start())
}

fn failed(stderr: &[u8]) -> Error {
    let said = String::from_utf8_lossy(stderr).trim().to_owned();
    let what = "docker compose cannot be put beside the engine";
    if said.contains("No space left on device") {
        return Error::new(ErrorCode::DiskFull, format!("{what}: its disk is full")).hint(
            "Remove what is not needed, as by prune(), or give a VM a larger disk: configure(), then restart().",
        );
    }
    Error::new(ErrorCode::EngineError, what).detail("stderr", said)
}

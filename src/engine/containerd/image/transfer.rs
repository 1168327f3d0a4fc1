//! How far a pull is, read from nerdctl's account and from the content store.

use std::collections::{HashMap, HashSet};

use super::super::prelude::*;
use super::{cache::Blobs, documents};
use crate::{
    engine::types::total,
    progress::{PullProgress, Throttle},
};

/// More digests than any image has: of further ones, the account is not heeded.
pub(super) const MOST: usize = 4096;

/// One line of nerdctl's account: `layer-sha256:<hex>:    downloading    |…|  1.0 MiB/28.6 MiB`, or of the transfer service's
/// tree: `   └──layer-sha256:64ee74a43d15d8fb47f7b  downloading  |…|   2.0 MiB/3.0 MiB`, which cuts digests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) kind: &'a str,
    /// Its beginning, at least.
    pub(super) digest: &'a str,
    pub(super) status: &'a str,
    /// Bytes that have arrived, and all of them: rounded.
    pub(super) amount: Option<(u64, u64)>,
}

impl<'a> Line<'a> {
    /// So much of a digest is no other's.
    const ENOUGH: usize = "sha256:".len() + 12;
    const WHOLE: usize = "sha256:".len() + 64;
    /// Longer is no word for a state.
    const LONGEST: usize = 64;

    fn all(block: &'a str) -> Vec<Self> {
        block.lines().filter_map(Self::parse).collect()
    }

    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        // Cursor movements and branches of the tree may stand before it.
        let key = words.find(|word| word.contains("-sha256:"))?.trim_end_matches(':');
        let at = key.find("-sha256:")?;
        let kind = key[..at].rsplit(|c: char| !c.is_ascii_lowercase()).next()?;
        let digest = Some(&key[at + 1..]).filter(|d| (Self::ENOUGH..=Self::WHOLE).contains(&d.len()))?;
        let amount = line.rsplit('|').next().and_then(|text| {
            let (arrived, total) = text.trim().split_once('/')?;
            Some((bytes(arrived)?, bytes(total)?))
        });
        let status = words.next().filter(|status| status.len() <= Self::LONGEST)?;
        Some(Self { kind, digest, status, amount })
    }

    /// In the words of nerdctl, and in those of the transfer service.
    fn is_whole(status: &str) -> bool {
        matches!(status, "done" | "complete" | "extracting" | "extracted") || Self::was_here(status)
    }

    fn was_here(status: &str) -> bool {
        matches!(status, "exists" | "already")
    }
}

/// What the transfer service fetches: `application/vnd.oci.image.index.v1+json sha256:<hex>`, below the tree.
fn target(block: &str) -> Option<&str> {
    block.lines().find_map(|line| {
        let (kind, digest) = line.trim().split_once(' ')?;
        let hex = digest.strip_prefix("sha256:")?;
        (kind.contains('/') && hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digest)
    })
}

/// `28.6 MiB`.
fn bytes(text: &str) -> Option<u64> {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (number, unit) = text.trim().split_once(' ')?;
    let power = UNITS.iter().position(|u| *u == unit)?;
    let number: f64 = number.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above; a float saturates")]
    Some((number * 1024f64.powi(i32::try_from(power).ok()?)) as u64)
}

/// How far a pull is.
#[derive(Default)]
pub(crate) struct Transfer {
    blobs: Option<Blobs>,
    /// Bytes that have arrived, by digest; what was here already counts for nothing.
    arrived: HashMap<String, u64>,
    /// Beginnings of digests, as in nerdctl's account.
    here: HashSet<String>,
    seen: HashMap<String, (String, Option<(u64, u64)>)>,
    target: Option<String>,
    /// Whether we have said how much it is: that changes no more.
    said: bool,
    chain: Option<Vec<String>>,
    unpacked: usize,
}

impl Transfer {
    /// Takes a block; true when something has moved.
    pub(crate) async fn take(&mut self, c: &Containerd, block: &str) -> bool {
        let lines = Line::all(block);
        if self.target.is_none() {
            self.target = target(block).map(str::to_owned);
        }
        let moved = self.note(&lines);
        let whole = |kind: &str| lines.iter().find(|l| l.kind == kind && Line::is_whole(l.status));
        // The transfer service leaves out what is unpacked already: the configuration tells.
        let tells = self.target.is_none() || whole("config").is_some() || lines.iter().any(|l| l.kind == "layer");
        if self.blobs.is_none()
            && tells
            && let Some(manifest) = whole("manifest")
        {
            let blobs = match self.whole(c, manifest.digest).await {
                Ok(Some(digest)) => documents::blobs(c, &digest).await.unwrap_or_default(),
                _ => None,
            };
            self.layers(blobs, false);
            if self.target.is_some() {
                self.find_here(c).await.unwrap_or_default();
            }
        }
        for (digest, size) in self.blobs.iter().flat_map(|b| &b.layers) {
            if self.seen.iter().any(|(begin, (status, _))| digest.starts_with(begin) && Line::is_whole(status)) {
                self.arrived.insert(digest.clone(), *size);
            }
        }
        moved
    }

    fn note(&mut self, lines: &[Line<'_>]) -> bool {
        let mut moved = false;
        for line in lines {
            if self.seen.len() >= MOST && !self.seen.contains_key(line.digest) {
                continue;
            }
            let now = (line.status.to_owned(), line.amount);
            let before = self.seen.insert(line.digest.to_owned(), now.clone());
            moved |= before.as_ref() != Some(&now);
            let untouched = before.is_none_or(|(status, _)| status == "waiting");
            if line.kind == "layer" && Line::was_here(line.status) && untouched && !self.said {
                self.here.insert(line.digest.to_owned());
            }
        }
        moved
    }

    /// Layers that the transfer service need not fetch, and may not speak of.
    async fn find_here(&mut self, c: &Containerd) -> Result<()> {
        let Some(blobs) = &self.blobs else { return Ok(()) };
        let chain = documents::chain_of(c, &blobs.config.0).await?.unwrap_or_default();
        for (i, (digest, _)) in blobs.layers.iter().enumerate() {
            let unpacked = match chain.get(i) {
                Some(name) => c.api.has_snapshot(name).await?,
                None => false,
            };
            let spoken_of = self.seen.keys().any(|begin| digest.starts_with(begin));
            if unpacked || !spoken_of && c.api.blob_size(digest).await?.is_some() {
                self.here.insert(digest.clone());
            }
        }
        Ok(())
    }

    /// A manifest's digest by its beginning: it is what is fetched, or what that lists.
    async fn whole(&self, c: &Containerd, begin: &str) -> Result<Option<String>> {
        if begin.len() == "sha256:".len() + 64 {
            return Ok(Some(begin.to_owned()));
        }
        let Some(target) = &self.target else { return Ok(None) };
        if target.starts_with(begin) {
            return Ok(Some(target.clone()));
        }
        Ok(documents::manifests(c, target).await?.into_iter().find(|digest| digest.starts_with(begin)))
    }

    /// Reads what has arrived; true when something has moved.
    pub(crate) async fn look(&mut self, c: &Containerd) -> Result<bool> {
        let arriving = c.api.arriving().await?;
        let Some(blobs) = &self.blobs else { return Ok(false) };
        let mut moved = false;
        for status in arriving {
            let digest = status.r#ref.split_once('-').map_or("", |(_, d)| d);
            if let Some((digest, size)) = blobs.layers.iter().find(|(d, _)| d == digest) {
                let offset = u64::try_from(status.offset).unwrap_or_default().min(*size);
                let before = self.arrived.entry(digest.clone()).or_default();
                // A layer that begins anew keeps what was said of it.
                moved |= offset > *before;
                *before = (*before).max(offset);
            }
        }
        Ok(moved)
    }

    /// Of what this pull fetches: what tells its lease from others.
    pub(crate) fn digests(&self) -> impl Iterator<Item = String> {
        let layers = self.blobs.iter().flat_map(|b| b.layers.iter().chain([&b.config]));
        self.target.iter().chain(self.seen.keys()).chain(layers.map(|(digest, _)| digest)).cloned()
    }

    fn was_here(&self, digest: &str) -> bool {
        self.here.iter().any(|begin| digest.starts_with(begin))
    }

    pub(crate) fn layers(&mut self, blobs: Option<Blobs>, all_here: bool) {
        if all_here && let Some(blobs) = &blobs {
            self.here.extend(blobs.layers.iter().map(|(d, _)| d.clone()));
        }
        self.blobs = blobs;
    }

    pub(crate) fn knows_layers(&self) -> bool {
        self.blobs.is_some()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.blobs.as_ref().is_some_and(|b| {
            b.layers
                .iter()
                .all(|(digest, size)| self.was_here(digest) || self.arrived.get(digest).is_some_and(|a| a >= size))
        })
    }

    pub(crate) fn all_arrived(&mut self) {
        let all = self.blobs.iter().flat_map(|b| b.layers.iter().cloned());
        self.arrived.extend(all);
    }

    /// The bar is full before the words change; both are said however quick it is.
    pub(crate) fn turn_to_unpacking(&mut self, image: &str, throttle: &Throttle<PullProgress>) {
        if self.bytes().1 > 0 {
            throttle.always(self.progress(format!("Downloaded {image}")));
            throttle.always(self.progress(format!("Unpacking {image}")));
        }
    }

    /// What is to come in this pull, each blob once.
    fn bytes(&self) -> (u64, u64) {
        let mut counted: HashMap<&str, (u64, u64)> = HashMap::new();
        for (digest, size) in self.blobs.iter().flat_map(|b| &b.layers) {
            if !self.was_here(digest) {
                let arrived = self.arrived.get(digest).copied().unwrap_or_default();
                counted.insert(digest, (arrived.min(*size), *size));
            }
        }
        (total(counted.values().map(|(current, _)| *current)), total(counted.values().map(|(_, size)| *size)))
    }

    pub(crate) fn progress(&mut self, status: String) -> PullProgress {
        let (current, total) = self.bytes();
        self.said |= total > 0;
        PullProgress::of(status, (total > 0).then(|| current as f64 / total as f64 * 100.0), (current, total))
    }

    /// What to say while it is unpacked: a layer that is done has a name in the snapshotter.
    pub(crate) async fn unpacked(&mut self, c: &Containerd, image: &str) -> String {
        if self.chain.is_none()
            && let Some(blobs) = &self.blobs
        {
            self.chain = documents::chain_of(c, &blobs.config.0).await.ok().flatten();
        }
        let Some(chain) = &self.chain else { return format!("Unpacking {image}") };
        while let Some(next) = chain.get(self.unpacked)
            && c.api.has_snapshot(next).await.unwrap_or(false)
        {
            self.unpacked += 1;
        }
        let layer = (self.unpacked + 1).min(chain.len());
        format!("Unpacking {image}: layer {layer} of {}", chain.len())
    }

    pub(crate) fn done(&mut self, image: &str) -> PullProgress {
        let (_, total) = self.bytes();
        PullProgress::of(format!("Pulled {image}"), Some(100.0), (total, total))
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    let mut transfer = Transfer::default();
    // It draws what it shows again and again.
    for screen in text.split("\n\n") {
        let lines = Line::all(screen);
        transfer.note(&lines);
        transfer.is_complete();
        target(screen);
        let (current, total) = transfer.bytes();
        assert!(current <= total, "{current} of {total}");
        let percent = transfer.progress(String::new()).progress.unwrap_or_default();
        assert!((0.0..=100.0).contains(&percent), "{percent}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nerdctls_account_is_read() {
        // From a recorded pull (nerdctl 2.1.6), colours and all.
        let block = "127.0.0.1:5000/busybox:1.0:                                                       resolved       |\u{1b}[32m++++++++++++++++++++++++++++++++++++++\u{1b}[0m| \n\
            manifest-sha256:3e9c5e9fd6eef245c2742a25d0d14b00903c58a0c0f6597d4f1948c9fba721d4: done           |\u{1b}[32m++++++++++++++++++++++++++++++++++++++\u{1b}[0m| \n\
            layer-sha256:b6b5974a7eb267a2016c703f3142e1c8b0f3dd2ade7783d960942f9869fcdc44:    downloading    |\u{1b}[32m\u{1b}[0m--------------------------------------|    0.0 B/39.2 MiB \n";
        let lines = Line::all(block);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].kind, lines[0].status), ("manifest", "done"));
        assert_eq!((lines[1].kind, lines[1].amount), ("layer", Some((0, 41_104_179))));
        assert_eq!(lines[1].digest, "sha256:b6b5974a7eb267a2016c703f3142e1c8b0f3dd2ade7783d960942f9869fcdc44");
        let digest = "sha256:b6b5974a7eb2";
        assert_eq!(Line::parse(&format!("\u{1b}[1A\u{1b}[2Klayer-{digest}: waiting")).unwrap().kind, "layer");
        let long = "b".repeat(65);
        for line in ["elapsed: 0.1 s", "layer-sha256:b6b5: waiting", &format!("layer-sha256:{long}: waiting")] {
            assert_eq!(Line::parse(line), None);
        }
        assert_eq!(Line::parse(&format!("layer-{digest}: {long}")), None);
    }

    #[test]
    fn an_account_without_an_end_is_heeded_so_far() {
        let mut transfer = Transfer::default();
        let block = (0..2 * MOST).map(|n| format!("layer-sha256:{n:064}: waiting\n")).collect::<Vec<_>>().concat();
        transfer.note(&Line::all(&block));
        assert!(transfer.note(&Line::all(&format!("layer-sha256:{:064}: done\n", 0))));
        assert_eq!(transfer.seen.len(), MOST);
    }

    /// From a recorded pull (nerdctl 2.3.5, containerd 2.3.4).
    #[test]
    fn the_transfer_services_tree_is_read() {
        let tree = |first: &str, second: &str| {
            format!(
                "127.0.0.1:37909/a/b:1\tfetching image content\t\n\
                └──manifest-sha256:6136110a72ab713918925\tcomplete   \t|\u{1b}[32m++++++++++++++++++++++++++++++++++++++\u{1b}[0m|\t\n   \
                ├──config-sha256:7550666203db13ff967e\tcomplete   \t|\u{1b}[32m++++++++++++++++++++++++++++++++++++++\u{1b}[0m|\t\n   \
                ├──layer-sha256:64ee74a43d15d8fb47f7b\t{first}\n   │  └──layer-sha256:f257b4f1fc11ae0db734a\t{second}\n\
                application/vnd.oci.image.manifest.v1+json sha256:6136110a72ab71391892576f0a004dfb16c16819e5403e879ead7221e5e86af4\n\
                Pulling from OCI Registry (127.0.0.1:37909/a/b:1)\t"
            )
        };
        let waits = "waiting    \t|\u{1b}[32m\u{1b}[0m--------------------------------------|\t";
        let comes = "downloading\t|\u{1b}[32m+++++++++++++++++++++++++\u{1b}[0m-------------|\t 2.0 MiB/3.0 MiB\t";
        let block = tree(comes, waits);
        let lines = Line::all(&block);
        let read: Vec<_> = lines.iter().map(|l| (l.kind, l.digest, l.status, l.amount)).collect();
        assert_eq!(
            read,
            [
                ("manifest", "sha256:6136110a72ab713918925", "complete", None),
                ("config", "sha256:7550666203db13ff967e", "complete", None),
                ("layer", "sha256:64ee74a43d15d8fb47f7b", "downloading", Some((2 << 20, 3 << 20))),
                ("layer", "sha256:f257b4f1fc11ae0db734a", "waiting", None),
            ]
        );
        let whole = "sha256:6136110a72ab71391892576f0a004dfb16c16819e5403e879ead7221e5e86af4";
        assert_eq!(target(&block), Some(whole));

        let layer = |begin: &str, size| (format!("{begin:0<71}"), size);
        let layers =
            vec![layer("sha256:64ee74a43d15d8fb47f7b", 3 << 20), layer("sha256:f257b4f1fc11ae0db734a", 1 << 20)];
        let mut t = Transfer::default();
        t.layers(Some(Blobs { layers, ..Blobs::default() }), false);
        assert!(t.note(&lines));
        assert!(!t.note(&Line::all(&tree(comes, waits))), "the same block again moves nothing");
        assert!(t.note(&Line::all(&tree(&comes.replace("2.0", "2.9"), waits))));
        assert!(t.note(&Line::all(&tree("already exists\t", "complete   \t|++|\t"))));
        assert!(t.here.is_empty(), "what was fetched was not here");
        let mut t = Transfer { blobs: t.blobs, ..Transfer::default() };
        t.note(&Line::all(&tree(waits, waits)));
        t.note(&Line::all(&tree("already exists\t", waits)));
        assert_eq!(t.progress(String::new()).total, Some(1 << 20));
        t.note(&Line::all(&tree("already exists\t", "already exists\t")));
        assert_eq!(t.progress(String::new()).total, Some(1 << 20), "what has been said stays");
    }

    #[test]
    fn bytes_add_up_and_what_was_here_does_not_count() {
        let mut t = Transfer::default();
        let layers = vec![("sha256:a".to_owned(), 100), ("sha256:b".to_owned(), 300), ("sha256:b".to_owned(), 300)];
        t.layers(Some(Blobs { config: ("sha256:c".into(), 10), layers }), false);
        t.here.insert("sha256:a".into());
        t.arrived.insert("sha256:b".into(), 150);
        let p = t.progress("x".into());
        assert_eq!((p.current, p.total, p.progress), (Some(150), Some(300), Some(50.0)));
        assert!(!t.is_complete());
        t.arrived.insert("sha256:b".into(), 300);
        assert!(t.is_complete());
        assert_eq!(t.done("i").progress, Some(100.0));
    }
}

//! Images: read and named over the API; pulled, loaded and saved by nerdctl, which knows registries and archives.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use prost_types::Timestamp;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    BoxStream, Containerd,
    api::Image,
    nerdctl::{On, refusal},
    reference::{as_digest, familiar, full, is_tag},
    store::SNAPSHOTTER,
};
use crate::{
    engine::{platform::Platform, time, types::*},
    error::{Error, ErrorCode, Result},
    fetch::manifest::Digest,
    process::{Chunk, Collected, Command, KEPT, Output, Process},
};

pub(super) use super::pull::pull;

/// What does not change under a digest, read once.
#[derive(Default)]
pub(super) struct Cache {
    facts: Mutex<HashMap<String, Arc<Facts>>>,
    layers: Mutex<HashMap<String, u64>>,
    loads: tokio::sync::Mutex<()>,
    /// One pull of an image at a time: two of them wait for each other's blobs
    /// (docs/reference/containerd.md#pulls-of-one-image).
    pub(super) pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// One platform's image, as its manifest and configuration tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The configuration's digest: Docker's id of an image.
    pub(super) id: String,
    pub(super) created: Millis,
    /// The unpacked layers' names: each says what it and those below it hold.
    pub(super) chain: Vec<String>,
    pub(super) blobs: Blobs,
    pub(super) labels: Labels,
}

/// What a manifest names, with bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Blobs {
    pub(super) config: (String, u64),
    pub(super) layers: Vec<(String, u64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    size: u64,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    #[serde(default)]
    rootfs: RootFs,
    #[serde(rename = "config", default)]
    inner: Option<Inner>,
}

#[derive(Deserialize, Default)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Deserialize, Default)]
struct Inner {
    #[serde(rename = "Labels", default)]
    labels: Option<Labels>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an index lists.
pub(super) async fn manifests(c: &Containerd, index: &str) -> Result<Vec<String>> {
    let text = c.api.blob(index).await?.unwrap_or_default();
    let index = serde_json::from_slice::<Manifest>(&text).ok();
    Ok(index.into_iter().flat_map(|index| index.manifests).map(|manifest| manifest.digest).collect())
}

/// What a manifest names; an index leads to the first platform that is here. `None`: not here, or not readable.
pub(super) async fn blobs(c: &Containerd, target: &str) -> Result<Option<Blobs>> {
    let mut open = vec![target.to_owned()];
    // An index may name indexes; none of ours goes deeper.
    for _ in 0..64 {
        let Some(digest) = open.pop() else { break };
        let Some(text) = c.api.blob(&digest).await? else { continue };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else { continue };
        open.extend(manifest.manifests.into_iter().rev().map(|m| m.digest));
        if let Some(config) = manifest.config {
            let layers = manifest.layers.into_iter().map(|l| (l.digest, l.size)).collect();
            return Ok(Some(Blobs { config: (config.digest, config.size), layers }));
        }
    }
    Ok(None)
}

pub(super) async fn facts(c: &Containerd, image: &Image) -> Result<Option<Arc<Facts>>> {
    let Some(target) = image.target.as_ref().map(|t| t.digest.as_str()) else { return Ok(None) };
    if let Some(known) = locked(&c.images.facts).get(target) {
        return Ok(Some(known.clone()));
    }
    let Some(blobs) = blobs(c, target).await? else { return Ok(None) };
    let Some(text) = c.api.blob(&blobs.config.0).await? else { return Ok(None) };
    let Ok(config) = serde_json::from_slice::<Config>(&text) else { return Ok(None) };
    let facts = Arc::new(Facts {
        id: blobs.config.0.clone(),
        created: config.created.as_deref().and_then(time::parse).unwrap_or_default(),
        chain: chain(&config.rootfs.diff_ids),
        blobs,
        labels: config.inner.and_then(|c| c.labels).unwrap_or_default(),
    });
    locked(&c.images.facts).insert(target.to_owned(), facts.clone());
    Ok(Some(facts))
}

/// The unpacked layers' names of the image with this configuration.
pub(super) async fn chain_of(c: &Containerd, config: &str) -> Result<Option<Vec<String>>> {
    let text = c.api.blob(config).await?;
    Ok(text.and_then(|t| serde_json::from_slice::<Config>(&t).ok()).map(|c| chain(&c.rootfs.diff_ids)))
}

/// A layer's name covers those below it: the digest of its parent's name and its own
/// (docs/reference/containerd.md#unpacked-layers).
pub(super) fn chain(diff_ids: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for diff in diff_ids {
        let name = match names.last() {
            None => diff.clone(),
            Some(parent) => format!("sha256:{}", Digest::of(&Sha256::digest(format!("{parent} {diff}")))),
        };
        names.push(name);
    }
    names
}

/// Bytes of each unpacked layer; `None` where one is missing.
pub(super) async fn layer_sizes(c: &Containerd, chain: &[String]) -> Result<Option<Vec<u64>>> {
    let mut sizes = Vec::new();
    for name in chain {
        let known = locked(&c.images.layers).get(name).copied();
        let size = match known {
            Some(size) => size,
            None => match c.api.snapshot_size(name).await? {
                Some(size) => {
                    locked(&c.images.layers).insert(name.clone(), size);
                    size
                }
                None => return Ok(None),
            },
        };
        sizes.push(size);
    }
    Ok(Some(sizes))
}

/// What has one id, under all its names.
pub(super) struct Group {
    pub(super) id: String,
    /// As the store has them.
    pub(super) names: Vec<String>,
    pub(super) targets: HashSet<String>,
    pub(super) facts: Option<Arc<Facts>>,
    newest: i64,
}

impl Group {
    pub(super) fn tags(&self) -> Vec<String> {
        self.names.iter().filter(|n| is_tag(n)).map(|n| familiar(n).to_owned()).collect()
    }

    /// No name a person gave: nothing but an id leads to it.
    pub(super) fn is_dangling(&self) -> bool {
        self.names.iter().all(|n| !is_tag(n) && !is_digest_of_a_repository(n))
    }
}

fn is_digest_of_a_repository(name: &str) -> bool {
    name.split_once('@').is_some_and(|(repository, _)| repository.contains('/'))
}

pub(super) async fn groups(c: &Containerd) -> Result<Vec<Group>> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for image in c.api.images().await? {
        let facts = facts(c, &image).await?;
        let target = image.target.map(|t| t.digest).unwrap_or_default();
        let id = facts.as_ref().map_or_else(|| target.clone(), |f| f.id.clone());
        let imported = image.created_at.map_or(0, |t| t.seconds);
        let group = groups.entry(id.clone()).or_insert_with(|| Group {
            id,
            names: Vec::new(),
            targets: HashSet::new(),
            facts,
            newest: imported,
        });
        group.names.push(image.name);
        group.targets.insert(target);
        group.newest = group.newest.max(imported);
    }
    Ok(groups.into_values().collect())
}

pub(super) async fn list(c: &Containerd) -> Result<Vec<ImageInfo>> {
    let mut all = Vec::new();
    let mut groups = groups(c).await?;
    groups.sort_by_key(|g| std::cmp::Reverse(g.newest));
    for group in groups {
        let size = match &group.facts {
            Some(facts) => match layer_sizes(c, &facts.chain).await? {
                Some(sizes) => total(sizes),
                // Not unpacked: what was fetched is what there is.
                None => total(facts.blobs.layers.iter().map(|(_, size)| *size)),
            },
            None => 0,
        };
        let created = group.facts.as_ref().map_or(time::of_seconds(group.newest), |f| f.created);
        all.push(ImageInfo { tags: group.tags(), id: group.id, size, created });
    }
    Ok(all)
}

/// Names of the store that a reference or an id means; empty where there is none.
pub(super) async fn resolve(c: &Containerd, reference: &str) -> Result<Vec<String>> {
    let name = full(reference);
    if !reference.starts_with("sha256:") && c.api.image(&name).await?.is_some() {
        return Ok(vec![name]);
    }
    let Some(digest) = as_digest(reference) else { return Ok(Vec::new()) };
    let matching = groups(c)
        .await?
        .into_iter()
        .filter(|g| g.id.starts_with(&digest) || g.targets.iter().any(|t| t.starts_with(&digest)))
        .collect::<Vec<_>>();
    // The beginning of two ids is neither.
    Ok(if matching.len() == 1 { matching.into_iter().flat_map(|g| g.names).collect() } else { Vec::new() })
}

fn not_found(reference: &str) -> Error {
    Error::new(ErrorCode::ImageNotFound, format!("There is no image {reference}")).detail("id", reference)
}

pub(super) async fn exists(c: &Containerd, image: &str, platform: Option<&str>) -> Result<bool> {
    let names = resolve(c, image).await?;
    let (Some(name), Some(platform)) = (names.first(), platform) else { return Ok(!names.is_empty()) };
    let target = c.api.image(name).await?.and_then(|image| image.target);
    match target {
        Some(target) => is_for(c, target.digest, &Platform::parse(platform)).await,
        None => Ok(false),
    }
}

/// Whether what this names is here for a platform. An index names many, of which mostly one has been fetched.
async fn is_for(c: &Containerd, target: String, wanted: &Platform) -> Result<bool> {
    let mut open = vec![target];
    for _ in 0..64 {
        let Some(digest) = open.pop() else { break };
        let Some(text) = c.api.blob(&digest).await? else { continue };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else { continue };
        open.extend(manifest.manifests.into_iter().rev().map(|m| m.digest));
        let Some(config) = manifest.config else { continue };
        let text = c.api.blob(&config.digest).await?.unwrap_or_default();
        if let Ok(config) = serde_json::from_slice::<Config>(&text)
            && wanted.takes(&Platform::new(&config.os, &config.architecture, config.variant.as_deref()))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// As Docker does it: a name goes as long as the image has another one; the last one only when no container uses it,
/// or with force none that runs.
pub(super) async fn remove(c: &Containerd, image: &str, force: bool) -> Result<()> {
    let names = resolve(c, image).await?;
    let in_use = |problem: String| Error::new(ErrorCode::InUse, problem).detail("id", image);
    if names.is_empty() {
        return Err(not_found(image));
    }
    if names.len() > 1 && !force && names.iter().filter(|n| is_tag(n)).count() > 1 {
        return Err(in_use(format!("{image} has several names: {}", names.join(", ")))
            .hint("Remove it by its names, or pass force."));
    }
    let (containers, tasks) = c.api.everything().await?;
    for container in containers.iter().filter(|container| names.contains(&container.image)) {
        let ended = tasks.get(&container.id).is_none_or(|t| t.exit_code.is_some());
        if !ended {
            return Err(in_use(format!("{image} is used by the running container {}", container.id))
                .hint("Stop and remove the container first."));
        }
        if !force {
            return Err(in_use(format!("{image} is used by the stopped container {}", container.id))
                .hint("Remove the container first, or pass force."));
        }
    }
    for name in names {
        c.api.delete_image(&name).await?;
    }
    Ok(())
}

pub(super) async fn tag(c: &Containerd, image: &str, target: &str) -> Result<()> {
    let names = resolve(c, image).await?;
    let name = names.first().ok_or_else(|| not_found(image))?;
    let source = c.api.image(name).await?.ok_or_else(|| not_found(image))?;
    c.api.name_image(&full(target), source).await
}

/// From which nerdctl on archives are read and written by containerd's transfer service, and from which containerd on there is
/// one (`containerd.services.streaming.v1.Streaming`).
const TRANSFERS: ((u32, u32, u32), (u32, u32, u32)) = ((2, 3, 0), (1, 7, 0));

/// A command on archives: nerdctl's, or containerd's own where the two do not go together.
async fn archiver(c: &Containerd, nerdctls: Vec<String>, containerds: Vec<String>) -> Result<Command> {
    if c.nerdctl.version().await < TRANSFERS.0 || c.containerd_version().await? >= TRANSFERS.1 {
        return Ok(c.nerdctl.command(nerdctls));
    }
    let flags = [format!("--address={}", c.guest().containerd_socket()), format!("--namespace={}", c.namespace())];
    // ctr itself reads no tar.gz; what is none, gzip passes on.
    let shell = ["sh", "-c", r#"if [ "$5" = import ]; then gzip -cdf | "$@"; else exec "$@"; fi"#, "sh", "ctr"];
    let argv = shell.map(str::to_owned).into_iter().chain(flags).chain(containerds);
    Ok(c.inside(argv))
}

fn too_old(e: Error) -> Error {
    let text = "This nerdctl needs containerd 1.7 or later to load and save images, and it is older here";
    Error::new(ErrorCode::EngineError, text).hint("Update containerd, or use nerdctl 2.2 or an earlier one.").source(e)
}

fn refused(output: &Output) -> Error {
    let e = refusal(On::Engine, output);
    if e.message().contains("unknown service") || e.code() == ErrorCode::NotInstalled { too_old(e) } else { e }
}

/// The names that were loaded, in the archive's order; an image without one by its id.
pub(super) async fn load(c: &Containerd, mut archive: BoxStream<Bytes>) -> Result<Vec<String>> {
    // One after the other: what has changed is then of one archive.
    let _turn = c.images.loads.lock().await;
    let before = c.api.images().await?.into_iter().map(|image| (image.name, image.updated_at)).collect();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let import = words(&["image", "import", "--snapshotter", SNAPSHOTTER, "-"]);
    let mut process = c.nerdctl.spawn(archiver(c, words(&["load"]), import).await?).await?;
    let input = process.stdin.take();
    let feed = async {
        while let Some(piece) = archive.next().await {
            let piece = piece?;
            // One that ended early says why itself.
            if let Some(input) = &input
                && input.send(piece).await.is_err()
            {
                break;
            }
        }
        drop(input);
        Ok(())
    };
    let ((), output) = tokio::try_join!(feed, words_of(process))?;
    if !output.success() {
        let e = refused(&output);
        let archive = e.code() == ErrorCode::EngineError && e.hint_text().is_none();
        return Err(if archive { no_archive(e.message()) } else { e });
    }
    let loaded = loaded(&String::from_utf8_lossy(&output.stdout));
    let names = named(c, loaded, &before).await?;
    if names.is_empty() { Err(no_archive("there is no image in it")) } else { Ok(names) }
}

/// What is said of names, and of failures: three times a second nerdctl 2.3 draws a tree of all there is, too.
async fn words_of(mut process: Process) -> Result<Output> {
    let (mut last, mut kept) = (BytesMut::new(), Collected::up_to(KEPT));
    while let Some(chunk) = process.next().await {
        match chunk {
            Chunk::Stderr(data) => kept.stderr(&data)?,
            Chunk::Stdout(data) => {
                last.extend_from_slice(&data);
                while let Some(end) = last.iter().position(|b| *b == b'\n') {
                    let line = last.split_to(end + 1);
                    if NAMES.iter().any(|words| line.starts_with(words.as_bytes())) {
                        kept.stdout(&line)?;
                    }
                }
                if last.len() > KEPT {
                    return Err(Error::too_large("The program's output", KEPT));
                }
            }
        }
    }
    let Collected { stdout, stderr, .. } = kept;
    Ok(Output { exit: process.exit().await?, stdout, stderr })
}

/// nerdctl's words before a name, and ctr's.
const NAMES: [&str; 2] = ["Loaded image: ", "unpacking "];

/// Names of the store, each once: nerdctl's `Loaded image: <name>`, or ctr's `unpacking <name> (sha256:…)...done`.
fn loaded(said: &str) -> Vec<String> {
    let lines = || said.lines().map(str::trim);
    let of_nerdctl = lines().filter_map(|line| line.strip_prefix(NAMES[0]));
    let of_ctr = lines().filter_map(|line| Some(line.strip_prefix(NAMES[1])?.split_once(" (")?.0));
    let mut names: Vec<String> = Vec::new();
    for name in if of_nerdctl.clone().next().is_some() { of_nerdctl.collect::<Vec<_>>() } else { of_ctr.collect() } {
        let name = if name.contains('@') { name.to_owned() } else { full(name) };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Names that an archive's images have now. nerdctl 2.3 does not always say all of them, before it ends; what it says, and what
/// has changed since in the store, belongs to one archive. It gives the archive itself a name, too (`import@sha256:…`), which
/// would keep all of it when its last name has gone.
async fn named(c: &Containerd, said: Vec<String>, before: &HashMap<String, Option<Timestamp>>) -> Result<Vec<String>> {
    let all = c.api.images().await?;
    let is_new = |image: &&Image| before.get(&image.name) != Some(&image.updated_at);
    let digest = |image: &Image| image.target.as_ref().map(|target| target.digest.clone()).unwrap_or_default();
    let mut within = HashSet::new();
    for image in all.iter().filter(|i| said.contains(&i.name) || is_new(i) && i.name.starts_with(IMPORT)) {
        let digest = digest(image);
        within.extend(manifests(c, &digest).await?);
        within.insert(digest);
    }
    let new = all.iter().filter(is_new).filter(|i| within.contains(&digest(i)) && !said.contains(&i.name));
    let names: Vec<&str> = said.iter().map(String::as_str).chain(new.map(|i| i.name.as_str())).collect();
    let mut tags: Vec<String> = names.iter().filter(|n| is_tag(n)).map(|n| familiar(n).to_owned()).collect();
    let has_name = !tags.is_empty();
    for image in all.iter().filter(|i| names.contains(&i.name.as_str()) && !is_tag(&i.name)) {
        if has_name && image.name.starts_with(IMPORT) {
            c.api.delete_image(&image.name).await?;
        } else {
            tags.push(facts(c, image).await?.map_or_else(|| image.name.clone(), |facts| facts.id.clone()));
        }
    }
    Ok(tags)
}

const IMPORT: &str = "import@";

fn no_archive(why: &str) -> Error {
    Error::invalid("archive", format!("not an image archive: {why}"))
        .hint("It must be a tar or tar.gz as `docker save` writes it.")
}

pub(super) async fn save(c: &Containerd, images: &[String]) -> Result<BoxStream<Bytes>> {
    let (mut save, mut export) = (vec!["save".to_owned()], ["image", "export", "-"].map(str::to_owned).to_vec());
    for image in images {
        let name = resolve(c, image).await?.into_iter().next().ok_or_else(|| not_found(image))?;
        save.push(name.clone());
        export.push(name);
    }
    let process = c.nerdctl.spawn(archiver(c, save, export).await?).await?;
    let state = Some((process, Collected::up_to(KEPT)));
    let stream = futures_util::stream::unfold(state, |state| async {
        let (mut process, mut said): (Process, Collected) = state?;
        loop {
            match process.next().await {
                Some(Chunk::Stdout(data)) => return Some((Ok(data), Some((process, said)))),
                Some(Chunk::Stderr(data)) => {
                    if let Err(e) = said.stderr(&data) {
                        return Some((Err(e), None));
                    }
                }
                None => break,
            }
        }
        match process.exit().await {
            Ok(exit) => {
                let output = Output { exit, stdout: Vec::new(), stderr: said.stderr };
                (!output.success()).then(|| (Err(refused(&output)), None))
            }
            Err(e) => Some((Err(e), None)),
        }
    });
    Ok(stream.boxed())
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let _ = serde_json::from_slice::<Manifest>(data);
    if let Ok(config) = serde_json::from_slice::<Config>(data) {
        config.created.as_deref().and_then(time::parse);
        chain(&config.rootfs.diff_ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_is_said_by_nerdctl_and_by_ctr() {
        let digest = format!("import@sha256:{}", "0".repeat(64));
        // nerdctl 2.3.5, and below ctr of containerd 1.6.
        let said = format!("Loaded image: {digest}\nLoaded image: docker.io/a/b:1\nLoaded image: docker.io/a/b:1\n");
        assert_eq!(loaded(&said), [digest, "docker.io/a/b:1".to_owned()]);
        // nerdctl 2.1.6
        assert_eq!(loaded("unpacking docker.io/a/b:1 (sha256:00)...\nLoaded image: a/b:1\n"), ["docker.io/a/b:1"]);
        assert_eq!(loaded("unpacking docker.io/a/b:1 (sha256:00)...done\n"), ["docker.io/a/b:1"]);
        assert!(loaded("").is_empty());
    }

    #[test]
    fn a_layers_name_covers_those_below() {
        // The example of the OCI image specification's rule, computed by hand.
        let ids = ["sha256:aa".to_owned(), "sha256:bb".to_owned()];
        let second = format!("sha256:{}", Digest::of(&Sha256::digest("sha256:aa sha256:bb")));
        assert_eq!(chain(&ids), ["sha256:aa".to_owned(), second]);
        assert!(chain(&[]).is_empty());
    }
}

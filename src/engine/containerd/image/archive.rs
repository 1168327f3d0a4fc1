//! Loading and saving archives.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use prost_types::Timestamp;

use super::super::{
    nerdctl::errors::refusal,
    prelude::*,
    source::images::{Image, SNAPSHOTTER},
};
use super::{
    documents::{facts, manifests},
    images::resolve,
    reference::{familiar, full, is_tag},
};
use crate::process::{Chunk, Collected, Command, KEPT, Lines, Output, Process, feed};

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
    let e = refusal(About::Engine, output);
    if e.message().contains("unknown service") || e.code() == ErrorCode::NotInstalled { too_old(e) } else { e }
}

/// The names that were loaded, in the archive's order; an image without one by its id.
pub(crate) async fn load(c: &Containerd, archive: BoxStream<Bytes>) -> Result<Vec<String>> {
    // One after the other: what has changed is then of one archive.
    let _turn = c.images.loads.lock().await;
    let before = c.api.images().await?.into_iter().map(|image| (image.name, image.updated_at)).collect();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let import = words(&["image", "import", "--snapshotter", SNAPSHOTTER, "-"]);
    let mut process = c.nerdctl.spawn(archiver(c, words(&["load"]), import).await?).await?;
    let mut input = process.stdin.take();
    let ((), output) = tokio::try_join!(feed(&mut input, archive), words_of(process))?;
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
    let (mut lines, mut kept) = (Lines::default(), Collected::up_to(KEPT));
    while let Some(chunk) = process.next().await {
        match chunk {
            Chunk::Stderr(data) => kept.stderr(&data)?,
            Chunk::Stdout(data) => {
                lines.push(&data);
                while let Some(line) = lines.line() {
                    if NAMES.iter().any(|words| line.starts_with(words.as_bytes())) {
                        kept.stdout(&line)?;
                    }
                }
                if lines.rest().len() > KEPT {
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

pub(crate) async fn save(c: &Containerd, images: &[String]) -> Result<BoxStream<Bytes>> {
    let (mut save, mut export) = (vec!["save".to_owned()], ["image", "export", "-"].map(str::to_owned).to_vec());
    for image in images {
        let name = resolve(c, image).await?.into_iter().next().ok_or_else(|| reference::not_found(image))?;
        save.push(name.clone());
        export.push(name);
    }
    let mut process = c.nerdctl.spawn(archiver(c, save, export).await?).await?;
    Ok(task::stream(move |out| async move {
        let mut said = Collected::up_to(KEPT);
        while let Some(chunk) = process.next().await {
            match chunk {
                Chunk::Stdout(data) => out.put(data).await?,
                Chunk::Stderr(data) => said.stderr(&data)?,
            }
        }
        let output = Output { exit: process.exit().await?, stdout: Vec::new(), stderr: said.stderr };
        if output.success() { Ok(()) } else { Err(refused(&output)) }
    }))
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
}

//! Pushing an image: nerdctl sends it, whatever its version and containerd's; bytes are read from its account.

use std::collections::HashMap;

use tokio::time::Instant;

use super::super::{nerdctl::errors::refusal, prelude::*};
use super::{
    cache::Blobs,
    documents,
    pull::{LARGEST_WORDS, STEP_IDLE, silent},
    reference::full,
    registry::{NO_PROXY, asking_registry, proxies_are_lost},
    transfer::{Line, MOST},
};
use crate::{
    engine::{
        credentials,
        registry::{self, Asked},
        tidy::tidy,
        types::total,
    },
    process::{Chunk, Collected, Command, Output, Process},
    progress::{PullProgress, Sink, Throttle},
};

/// What nerdctl calls the part of an image that it sends, of one for several platforms.
const PART: &str = "-tmp-reduced-platform";

pub(crate) async fn push(
    c: &Containerd,
    image: &str,
    options: &PushOptions,
    progress: &Sink<PullProgress>,
) -> Result<()> {
    let name = full(image);
    let _turn = c.images.turns.of(&name).await;
    let found = c.api.image(&name).await?.ok_or_else(|| reference::not_found(image))?;
    let target = found.target.map(|target| target.digest).unwrap_or_default();
    let blobs = documents::blobs(c, &target).await?.unwrap_or_default();
    // All that an image for one platform has is here.
    let several = !documents::manifests(c, &target).await?.is_empty();
    let mut args = vec!["push".to_owned()];
    args.extend((!several).then(|| "--all-platforms".to_owned()));
    args.push(name.clone());
    let (credentials, why_none) = credentials::for_call(options.auth.as_ref(), options.credentials, image).await;
    let command = asking_registry(c, args, &name, credentials.as_ref(), options.credentials)?;
    let running = Running::start(c, command, several.then(|| format!("{name}{PART}"))).await?;
    run(c, image, running, blobs, progress).await.map_err(|e| credentials::with_reason(e, why_none))
}

async fn run(
    c: &Containerd,
    image: &str,
    mut running: Running,
    blobs: Blobs,
    progress: &Sink<PullProgress>,
) -> Result<()> {
    let throttle = Throttle::new(progress.clone());
    let mut sent = Sent::new(blobs);
    let (mut stdout, mut said) = (String::new(), Collected::up_to(LARGEST_WORDS));
    throttle.always(sent.progress(format!("Pushing {image}")));
    let mut moved = Instant::now();
    loop {
        tokio::select! {
            chunk = running.next() => match chunk {
                Some(Chunk::Stdout(data)) => {
                    stdout.push_str(&String::from_utf8_lossy(&data));
                    if stdout.len() > LARGEST_WORDS {
                        return Err(Error::too_large("nerdctl's account of the push", LARGEST_WORDS));
                    }
                    let Some(end) = stdout.rfind('\n') else { continue };
                    let rest = stdout.split_off(end + 1);
                    let lines = std::mem::replace(&mut stdout, rest);
                    if sent.take(&lines) {
                        moved = Instant::now();
                    }
                    throttle.offer(|| sent.progress(format!("Pushing {image}")));
                }
                Some(Chunk::Stderr(data)) => said.stderr(&data)?,
                None => break,
            },
            () = tokio::time::sleep_until(moved + STEP_IDLE) => return Err(silent(image, STEP_IDLE)),
        }
    }
    let output = Output { exit: running.exit().await?, stdout: Vec::new(), stderr: said.stderr };
    if !output.success() {
        let e = registry::explain(Asked::Push, image, refusal(About::Image(image), &output));
        return Err(if e.code() == ErrorCode::EngineError && proxies_are_lost(c).await { e.hint(NO_PROXY) } else { e });
    }
    sent.all();
    throttle.always(sent.progress(format!("Pushed {image}")));
    Ok(())
}

/// A nerdctl that pushes. One that is killed leaves the name of the part behind, which goes after it.
struct Running {
    c: Containerd,
    process: Option<Process>,
    part: Option<String>,
}

impl Running {
    async fn start(c: &Containerd, command: Command, part: Option<String>) -> Result<Self> {
        let mut process = c.nerdctl.spawn(command).await?;
        process.stdin = None;
        Ok(Self { c: c.clone(), process: Some(process), part })
    }

    async fn next(&mut self) -> Option<Chunk> {
        self.process.as_mut()?.next().await
    }

    async fn exit(mut self) -> Result<crate::process::Exit> {
        match self.process.take() {
            Some(process) => process.exit().await,
            None => Err(Error::internal("a push that has ended")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(process), Ok(runtime)) = (self.process.take(), tokio::runtime::Handle::try_current()) else { return };
        let (c, part) = (self.c.clone(), self.part.take());
        runtime.spawn(async move {
            process.end().await;
            if let Some(part) = part {
                tidy("an aborted push leaves a name behind", move || {
                    let (c, part) = (c.clone(), part.clone());
                    Box::pin(async move { c.api.delete_image(&part).await.map(drop) })
                });
            }
        });
    }
}

/// How much of each layer has been sent.
struct Sent {
    layers: HashMap<String, (u64, u64)>,
    seen: HashMap<String, (String, Option<(u64, u64)>)>,
}

impl Sent {
    fn new(blobs: Blobs) -> Self {
        let layers = blobs.layers.into_iter().map(|(digest, size)| (digest, (0, size))).collect();
        Self { layers, seen: HashMap::new() }
    }

    /// True when something has moved.
    fn take(&mut self, lines: &str) -> bool {
        let mut moved = false;
        for line in lines.lines().filter_map(Line::parse) {
            if self.seen.len() >= MOST && !self.seen.contains_key(line.digest) {
                continue;
            }
            let now = (line.status.to_owned(), line.amount);
            moved |= self.seen.insert(line.digest.to_owned(), now.clone()).as_ref() != Some(&now);
            if let Some((sent, size)) = self.layers.get_mut(line.digest) {
                let arrived = match (line.status, line.amount) {
                    // What the registry had is sent, too.
                    ("done" | "committing", _) => *size,
                    (_, Some((arrived, _))) => arrived.min(*size),
                    _ => 0,
                };
                *sent = arrived.max(*sent);
            }
        }
        moved
    }

    fn all(&mut self) {
        self.layers.values_mut().for_each(|(sent, size)| *sent = *size);
    }

    fn progress(&self, status: String) -> PullProgress {
        let (sent, size) = (total(self.layers.values().map(|l| l.0)), total(self.layers.values().map(|l| l.1)));
        let percent = if size > 0 { sent as f64 / size as f64 * 100.0 } else { 0.0 };
        PullProgress::of(status, Some(percent), (sent, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a recorded push (nerdctl 2.1.6).
    #[test]
    fn nerdctls_account_is_read() {
        let digest = |n: char| format!("sha256:{}", n.to_string().repeat(64));
        let layers = vec![(digest('a'), 4 << 20), (digest('b'), 1 << 20)];
        let mut sent = Sent::new(Blobs { config: (digest('c'), 10), layers });
        let block = format!(
            "manifest-{}: waiting        |--------------------------------------| \n\
             layer-{}:    uploading      |++++----| 1.0 MiB/4.0 MiB \nlayer-{}:    waiting        |----| \n\
             elapsed: 0.1 s  total:   0.0 B (0.0 B/s)\n",
            digest('d'),
            digest('a'),
            digest('b')
        );
        assert!(sent.take(&block));
        assert!(!sent.take(&block));
        assert_eq!(sent.progress(String::new()).progress, Some(20.0));
        assert!(sent.take(&format!("layer-{}: done |++++++|\n", digest('b'))));
        assert_eq!(sent.progress(String::new()).current, Some(2 << 20));
        sent.all();
        assert_eq!(sent.progress(String::new()).progress, Some(100.0));
        let endless = (0..2 * MOST).map(|n| format!("layer-sha256:{n:064}: waiting\n")).collect::<Vec<_>>().concat();
        sent.take(&endless);
        assert_eq!(sent.seen.len(), MOST);
    }
}

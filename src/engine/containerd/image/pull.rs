//! Pulling an image: nerdctl fetches, or from 2.3 on has containerd 2 do it; bytes are read over the API as they arrive,
//! because nerdctl's own figures are rounded (docs/reference/nerdctl.md#progress-of-a-pull).

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use super::super::{nerdctl::errors::refusal, prelude::*};
use super::{
    documents,
    reference::full,
    registry::{NO_PROXY, asking_registry, proxies_are_lost},
    transfer::Transfer,
};
use crate::{
    call,
    engine::{
        credentials,
        registry::{self, Asked},
    },
    process::{Chunk, Collected, Command, Exit, Output, Process},
    progress::{PullProgress, Sink, Throttle},
};

/// How often we look how far it is: nerdctl says nothing while it unpacks, or while containerd fetches.
const LOOK: Duration = Duration::from_millis(250);

/// containerd tells of whole MiB alone (core/content/helpers.go, copyWithBuffer): on a slow line one takes longer than
/// [`call::IDLE`].
pub(super) const STEP_IDLE: Duration = Duration::from_secs(180);
/// Unpacking a large layer moves nothing that can be seen.
const UNPACK_IDLE: Duration = Duration::from_secs(15 * 60);
/// Of a pull: one block, and all that is said of failures, a registry's words among them.
pub(super) const LARGEST_WORDS: usize = 4 << 20;

pub(crate) async fn pull(
    c: &Containerd,
    image: &str,
    options: &PullOptions,
    progress: &Sink<PullProgress>,
) -> Result<()> {
    let name = full(image);
    let _turn = c.images.turns.of(&name).await;
    let (credentials, why_none) = credentials::for_call(options.auth.as_ref(), options.credentials, image).await;
    let mut args = vec!["pull".to_owned()];
    args.extend(options.platform.as_ref().map(|p| format!("--platform={p}")));
    args.push(name.clone());
    let command = asking_registry(c, args, &name, credentials.as_ref(), options.credentials)?;
    run(c, image, &name, command, progress).await.map_err(|e| credentials::with_reason(e, why_none))
}

async fn run(c: &Containerd, image: &str, name: &str, command: Command, progress: &Sink<PullProgress>) -> Result<()> {
    let mut running = Running::start(c, command).await?;
    let throttle = Throttle::new(progress.clone());
    let (mut stdout, mut said) = (String::new(), Collected::up_to(LARGEST_WORDS));
    let mut transfer = Transfer::default();
    throttle.always(transfer.progress(format!("Resolving {image}")));
    let (mut moved, mut unpacking) = (Instant::now(), false);
    let mut look = tokio::time::interval(LOOK);
    loop {
        let idle = match (unpacking, transfer.knows_layers()) {
            (true, _) => UNPACK_IDLE,
            (_, true) => STEP_IDLE,
            _ => call::IDLE,
        };
        let mut looked = false;
        tokio::select! {
            chunk = running.next() => match chunk {
                Some(Chunk::Stdout(data)) => {
                    stdout.push_str(&String::from_utf8_lossy(&data));
                    if stdout.len() > LARGEST_WORDS {
                        return Err(Error::too_large("nerdctl's account of the pull", LARGEST_WORDS));
                    }
                    // A block is whole at the line after `elapsed:`.
                    let Some(end) = stdout.rfind("elapsed:").and_then(|at| Some(at + stdout[at..].find('\n')?)) else {
                        continue;
                    };
                    let rest = stdout.split_off(end + 1);
                    let blocks = std::mem::replace(&mut stdout, rest);
                    for block in blocks.split("elapsed:") {
                        if transfer.take(c, block).await {
                            moved = Instant::now();
                        }
                    }
                    running.fetched.extend(transfer.digests());
                }
                Some(Chunk::Stderr(data)) => said.stderr(&data)?,
                None => break,
            },
            _ = look.tick() => looked = true,
            () = tokio::time::sleep_until(moved + idle) => return Err(silent(image, idle)),
        }
        // nerdctl waits for the registry, and does not see that its daemon is gone.
        if looked {
            match transfer.look(c).await {
                Ok(true) => moved = Instant::now(),
                Err(e) if matches!(e.code(), ErrorCode::ContainerdNotReady | ErrorCode::VmNotRunning) => return Err(e),
                _ => {}
            }
        }
        if transfer.is_complete() && !unpacking {
            unpacking = true;
            transfer.turn_to_unpacking(image, &throttle);
        }
        if unpacking {
            if looked {
                let status = transfer.unpacked(c, image).await;
                throttle.offer(|| transfer.progress(status));
            }
        } else {
            let status = if transfer.knows_layers() { "Downloading" } else { "Resolving" };
            throttle.offer(|| transfer.progress(format!("{status} {image}")));
        }
    }
    let output = Output { exit: running.exit().await?, stdout: Vec::new(), stderr: said.stderr };
    if !output.success() {
        let e = registry::explain(Asked::Pull, image, refusal(About::Image(image), &output));
        return Err(if e.code() == ErrorCode::EngineError && proxies_are_lost(c).await { e.hint(NO_PROXY) } else { e });
    }
    if !transfer.knows_layers()
        && let Some(pulled) = c.api.image(name).await?
        && let Some(target) = pulled.target
    {
        // It was there already, or nerdctl was quicker than its first word.
        transfer.layers(documents::blobs(c, &target.digest).await?, true);
    }
    if !unpacking {
        // The last bytes and the unpacking were over before nerdctl spoke again.
        transfer.all_arrived();
        transfer.turn_to_unpacking(image, &throttle);
    }
    throttle.always(transfer.done(image));
    Ok(())
}

/// A nerdctl that pulls. One that is killed leaves its lease behind, which keeps what it had fetched for a day
/// (docs/reference/nerdctl.md#killed-pulls): the lease then goes after it.
struct Running {
    c: Containerd,
    process: Option<Process>,
    /// The leases there were before.
    leases: HashSet<String>,
    fetched: HashSet<String>,
}

impl Running {
    async fn start(c: &Containerd, command: Command) -> Result<Self> {
        let leases = c.api.leases().await?;
        let mut process = c.nerdctl.spawn(command).await?;
        process.stdin = None;
        Ok(Self { c: c.clone(), process: Some(process), leases, fetched: HashSet::new() })
    }

    async fn next(&mut self) -> Option<Chunk> {
        self.process.as_mut()?.next().await
    }

    async fn exit(mut self) -> Result<Exit> {
        match self.process.take() {
            Some(process) => process.exit().await,
            None => Err(Error::internal("a pull that has ended")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(process), Ok(runtime)) = (self.process.take(), tokio::runtime::Handle::try_current()) else { return };
        let (c, leases, fetched) =
            (self.c.clone(), std::mem::take(&mut self.leases), std::mem::take(&mut self.fetched));
        runtime.spawn(async move {
            process.end().await;
            if let Err(e) = release(&c, &leases, &fetched).await {
                tracing::warn!(%e, "what an aborted pull had fetched stays for a day");
            }
        });
    }
}

/// Of the new leases, ours: the only one that holds what we saw it fetch, or the only one where it was too early to see.
async fn release(c: &Containerd, before: &HashSet<String>, fetched: &HashSet<String>) -> Result<()> {
    let mut ours = Vec::new();
    for id in c.api.leases().await?.into_iter().filter(|id| !before.contains(id)) {
        if fetched.is_empty() || !c.api.leased(&id).await?.is_disjoint(fetched) {
            ours.push(id);
        }
    }
    match ours.as_slice() {
        [ours] => c.api.delete_lease(ours).await,
        _ => Ok(()),
    }
}

pub(super) fn silent(image: &str, idle: Duration) -> Error {
    call::timed_out(idle).detail("image", image).hint("The registry sends nothing. Look at the network, or try again.")
}

//! What is left to do for a caller who is gone. Where the engine is gone, too, it is done once that is back.

use std::{future::Future, pin::Pin, time::Duration};

use crate::{
    error::{Error, ErrorCode, Result},
    task,
};

/// Between two tries: the first, and the longest.
const PAUSE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];
/// How long an engine is waited for.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

type Work = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Hands `work` to a task that does it, again while the engine is away. A failure is logged as what is `left`.
pub(super) fn tidy(left: &'static str, work: impl Fn() -> Work + Send + 'static) {
    task::spawn(async move {
        if let Err(e) = persist(work).await {
            tracing::warn!(%e, "{left}");
        }
    });
}

async fn persist(work: impl Fn() -> Work) -> Result<()> {
    let until = tokio::time::Instant::now() + PATIENCE;
    let [mut pause, longest] = PAUSE;
    loop {
        match work().await {
            Err(e) if is_away(&e) && tokio::time::Instant::now() < until => tokio::time::sleep(pause).await,
            done => return done,
        }
        pause = (pause * 2).min(longest);
    }
}

/// Whether the engine did not answer, and may later.
pub(super) fn is_away(e: &Error) -> bool {
    matches!(e.code(), ErrorCode::EngineUnreachable | ErrorCode::ContainerdNotReady | ErrorCode::VmNotRunning)
}

/// For a step that need not succeed: what it is to undo may be gone already.
pub(super) fn unless_away(e: Error) -> Result<()> {
    if is_away(&e) {
        return Err(e);
    }
    tracing::debug!(%e, "a step of what is left to do");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    /// How often it was tried: `errors` first, then it succeeds.
    async fn tried(errors: &[ErrorCode]) -> (u32, Result<()>) {
        let count = Arc::new(AtomicU32::new(0));
        let errors = errors.to_vec();
        let done = persist(|| {
            let n = count.fetch_add(1, Ordering::Relaxed);
            let error = errors.get(n as usize).copied();
            Box::pin(async move { error.map_or(Ok(()), |code| Err(Error::new(code, "an error"))) })
        })
        .await;
        (count.load(Ordering::Relaxed), done)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_tried_again_only_while_the_engine_is_away() {
        use ErrorCode::*;
        assert!(matches!(tried(&[]).await, (1, Ok(()))));
        assert!(matches!(tried(&[EngineUnreachable, ContainerdNotReady, VmNotRunning]).await, (4, Ok(()))));
        assert!(matches!(tried(&[ContainerdNotReady, ContainerNotFound]).await, (2, Err(_))));
        let (count, done) = tried(&[EngineUnreachable; 1000]).await;
        assert!(count > 100 && count < 1000, "{count}");
        assert_eq!(done.unwrap_err().code(), EngineUnreachable);
    }
}

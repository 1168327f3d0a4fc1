//! What the caller of a call should know though the call ends well. It travels with the call, to its caller alone.

use std::sync::Arc;

use crate::{error::Error, mutex::Mutex};

tokio::task_local! {
    static CURRENT: Option<Warnings>;
}

#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<Error>>>);

/// More tell nobody anything.
const KEPT: usize = 64;

impl Warnings {
    /// What `work` warns of comes to `to`; without one, to the call around it.
    pub fn scope<F: Future>(to: Option<Self>, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(to.or_else(Self::current), work)
    }

    pub(crate) fn scope_blocking<T>(to: Option<Self>, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(to, work)
    }

    /// Those of the call that this is done for.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok().flatten()
    }

    /// Those since the last time.
    pub fn take(&self) -> Vec<Error> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// False where no caller would hear of it.
pub fn warn(warning: Error) -> bool {
    tracing::warn!(%warning);
    let Some(current) = Warnings::current() else { return false };
    let mut kept = current.0.lock();
    if kept.len() < KEPT {
        kept.push(warning);
    }
    true
}

//! Hands work to the runtime with its type erased: tokio would compile a task's whole machinery for each kind of work,
//! twice for each kind of future.

use std::{any::Any, future::Future, pin::Pin};

use futures_util::{Stream, StreamExt};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::task::AbortOnDropHandle;

use crate::{error::Result, warnings::Warnings};

/// Like [`tokio::spawn`].
pub fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let work: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(work);
    tokio::spawn(work)
}

/// A stream that a task fills, and whose error is the stream's last word. Dropping the stream ends the task.
pub fn stream<T: Send + 'static, F: Future<Output = Result<()>> + Send + 'static>(
    fill: impl FnOnce(Items<T>) -> F,
) -> Pin<Box<dyn Stream<Item = Result<T>> + Send>> {
    let (send, receive) = mpsc::channel(16);
    let work = fill(Items(send.clone()));
    let task = AbortOnDropHandle::new(spawn(async move {
        if let Err(e) = work.await {
            _ = send.send(Err(e)).await;
        }
    }));
    futures_util::stream::unfold((receive, task), |(mut receive, task)| async move {
        receive.recv().await.map(|item| (item, (receive, task)))
    })
    .boxed()
}

pub struct Items<T>(mpsc::Sender<Result<T>>);

impl<T> Items<T> {
    pub async fn put(&self, item: T) -> Result<()> {
        self.0.send(Ok(item)).await.map_err(|_| crate::call::aborted())
    }
}

type Value = Box<dyn Any + Send>;

/// Runs blocking work on a thread that may block. The work goes on when the caller's future is dropped.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let current = Warnings::current();
    let work = || Warnings::scope_blocking(current, work);
    let value = erased(Box::new(|| work().map(|value| Box::new(value) as Value))).await?;
    Ok(*value.downcast().expect("what the work returned"))
}

async fn erased(work: Box<dyn FnOnce() -> Result<Value> + Send>) -> Result<Value> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(crate::call::aborted()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[tokio::test]
    async fn blocking_work_hands_over_its_value_its_error_and_its_panic() {
        assert_eq!(blocking(|| Ok("a value".to_owned())).await.unwrap(), "a value");
        assert_eq!(blocking::<()>(|| Err(Error::internal("an error"))).await.unwrap_err().message(), "an error");
        let panic = spawn(blocking::<()>(|| panic!("a panic"))).await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"a panic"));
    }
}

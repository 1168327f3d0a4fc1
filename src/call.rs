//! Cancellation and deadlines: the one place where a call can end early.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorCode, Result};
pub use crate::warnings::{Warnings, warn};

/// What a caller says about one call: `{ signal, timeoutMs }` of the public API.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub cancel: CancellationToken,
    /// Replaces the method's own deadline.
    pub timeout: Option<Duration>,
    /// When the timeout began, for a method of several steps that share it; otherwise each [`Call::run`] has all of it.
    pub since: Option<Instant>,
    /// Where its warnings go, if the caller takes any.
    pub warnings: Option<Warnings>,
}

tokio::task_local! {
    /// Of the call around: how many hold its clock.
    static CLOCK: Arc<watch::Sender<u32>>;
}

#[cfg_attr(not(unix), allow(dead_code, reason = "only a VM rests"))]
/// Runs what has to be there before the call's own work can begin, in time that the method's own deadline does not count. That of a
/// caller's `timeoutMs` goes on.
pub(crate) async fn beforehand<T>(work: impl Future<Output = T>) -> T {
    struct Held(Option<Arc<watch::Sender<u32>>>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.iter().for_each(|clock| clock.send_modify(|holders| *holders -= 1));
        }
    }
    let held = Held(CLOCK.try_with(Clone::clone).ok());
    held.0.iter().for_each(|clock| clock.send_modify(|holders| *holders += 1));
    work.await
}

/// The deadline of an ordinary container call.
pub const CONTAINER_CALL: Duration = Duration::from_secs(60);
/// How long a download or pull may receive nothing.
pub const IDLE: Duration = Duration::from_secs(60);

impl Call {
    /// For a method of several steps: they share `timeout`, which begins now.
    #[must_use]
    pub fn in_steps(&self) -> Self {
        Self { since: Some(self.since.unwrap_or_else(Instant::now)), ..self.clone() }
    }

    /// Runs `work` until it ends, the caller aborts, or the deadline passes; then `work` is dropped. Cleanup that must
    /// happen (removing what was half made) belongs in a guard or a task of its own.
    pub fn run<'a, T: Send + 'a>(
        &'a self,
        deadline: impl Into<Option<Duration>>,
        work: impl Future<Output = Result<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T>> + Send + 'a {
        // On the heap: the caller's future would otherwise hold it twice, here and where it is polled.
        self.within(deadline.into(), Box::pin(work))
    }

    async fn within<T: Send>(
        &self,
        deadline: Option<Duration>,
        work: Pin<Box<dyn Future<Output = Result<T>> + Send + '_>>,
    ) -> Result<T> {
        let mut outcome = None;
        {
            let work = std::pin::pin!(async { outcome = Some(work.await) });
            self.until(deadline, work).await?;
        }
        outcome.expect("the work has ended")
    }

    /// Not generic, unlike [`Call::run`]: it is compiled once.
    async fn until(&self, deadline: Option<Duration>, work: Pin<&mut (dyn Future<Output = ()> + Send)>) -> Result<()> {
        let deadline = self.timeout.or(deadline);
        let left = match (self.timeout, self.since) {
            (Some(timeout), Some(since)) => Some(timeout.saturating_sub(since.elapsed())),
            _ => deadline,
        };
        let (clock, holdable) = (Arc::new(watch::Sender::new(0)), self.timeout.is_none());
        let mut held = clock.subscribe();
        let timer = async {
            let Some(mut left) = left else { return std::future::pending().await };
            loop {
                let began = Instant::now();
                tokio::select! {
                    () = tokio::time::sleep(left) => return,
                    _ = held.wait_for(|holders| *holders > 0), if holdable => {}
                }
                left = left.saturating_sub(began.elapsed());
                _ = held.wait_for(|holders| *holders == 0).await;
            }
        };
        // A panic ends this call with INTERNAL, not the application.
        let work = Warnings::scope(self.warnings.clone(), CLOCK.scope(clock.clone(), work));
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(aborted()),
            done = work => done.map_err(|panic| panicked(panic.as_ref())),
            () = timer => Err(timed_out(deadline.unwrap_or_default())),
        }
    }
}

pub fn aborted() -> Error {
    Error::new(ErrorCode::Aborted, "The operation was aborted")
}

pub fn timed_out(after: Duration) -> Error {
    let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    Error::new(ErrorCode::Timeout, format!("No answer within {} s", after.as_secs_f64()))
        .detail("timeoutMs", ms)
        .hint("Pass a larger timeoutMs, or look whether the engine is under load.")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic without a text");
    tracing::error!("a panic: {text}");
    Error::internal(format!("lima-runtime has a bug: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_a_call_that_never_answers() {
        let call = Call::default();
        let e = call.run::<()>(Duration::from_secs(5), std::future::pending()).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Timeout);
        assert_eq!(e.details()["timeoutMs"], 5000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_callers_timeout_replaces_the_methods() {
        let call = Call { timeout: Some(Duration::from_millis(10)), ..Call::default() };
        let e = call.run::<()>(None, std::future::pending()).await.unwrap_err();
        assert_eq!(e.details()["timeoutMs"], 10);
    }

    #[tokio::test(start_paused = true)]
    async fn steps_have_the_timeout_together_and_its_error_names_all_of_it() {
        let call = Call { timeout: Some(Duration::from_millis(200)), ..Call::default() }.in_steps();
        let step = async || {
            tokio::time::sleep(Duration::from_millis(150)).await;
            Ok(())
        };
        call.run(None, step()).await.unwrap();
        let e = call.in_steps().run(None, step()).await.unwrap_err();
        assert_eq!(e.details()["timeoutMs"], 200);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_methods_own_deadline_waits_for_what_comes_beforehand() {
        let sleep = |s| tokio::time::sleep(Duration::from_secs(s));
        let work = async |after| {
            sleep(1).await;
            beforehand(async { tokio::join!(beforehand(sleep(50)), sleep(100)) }).await;
            sleep(after).await;
            Ok(())
        };
        Call::default().run(Duration::from_secs(5), work(3)).await.unwrap();
        let began = Instant::now();
        let e = Call::default().run(Duration::from_secs(5), work(60)).await.unwrap_err();
        assert_eq!((e.code(), began.elapsed().as_secs()), (ErrorCode::Timeout, 105));
        let call = Call { timeout: Some(Duration::from_secs(20)), ..Call::default() };
        assert_eq!(call.run(None, work(0)).await.unwrap_err().details()["timeoutMs"], 20_000);
    }

    #[tokio::test]
    async fn an_aborted_call_is_aborted_even_before_it_begins() {
        let call = Call::default();
        call.cancel.cancel();
        let e = call.run(None, async { Ok(1) }).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Aborted);
    }

    #[tokio::test]
    async fn a_warning_reaches_the_caller_of_its_call_and_no_other() {
        let listening = || Call { warnings: Some(Warnings::default()), ..Call::default() };
        let (one, other) = (listening(), listening());
        let work = |text: &'static str| async move {
            tokio::task::yield_now().await;
            let told = crate::task::blocking(move || Ok(warn(Error::internal(text)))).await?;
            Ok(told && warn(Error::internal(text)))
        };
        let (both, told) = tokio::join!(one.run(None, work("one")), other.run(None, work("other")));
        assert!(both.unwrap() && told.unwrap());
        for (warnings, text) in [(one.warnings.unwrap(), "one"), (other.warnings.unwrap(), "other")] {
            let texts: Vec<_> = warnings.take().iter().map(|w| w.message().to_owned()).collect();
            assert_eq!(texts, [text, text]);
            assert!(warnings.take().is_empty());
        }
        assert!(!Call::default().run(None, work("nobody listens")).await.unwrap());
    }

    #[tokio::test]
    async fn a_panic_becomes_internal() {
        let e = Call::default().run::<()>(None, async { panic!("boom {}", 1) }).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Internal);
        assert!(e.message().contains("boom 1"));
    }
}

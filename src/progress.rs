//! Progress: the events of long work, and how often they are sent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::mutex::Mutex;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    #[default]
    Resolve,
    Download,
    Verify,
    Extract,
    Create,
    Boot,
    Provision,
    Ready,
    Stop,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    Lima,
    Image,
    Nerdctl,
    Containerd,
    Docker,
}

/// One event of installing, starting or stopping a runtime. `message` is English, ready to show.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeProgress {
    pub phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
    pub message: String,
    /// 0–100; never goes back within a phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transferred: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<f64>,
}

impl RuntimeProgress {
    pub fn new(phase: Phase, message: impl Into<String>) -> Self {
        Self { phase, message: message.into(), ..Self::default() }
    }

    pub fn ready(message: &str) -> Self {
        Self { percent: Some(100.0), ..Self::new(Phase::Ready, message) }
    }
}

/// One event of an image pull.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PullProgress {
    /// What is happening, ready to show.
    pub status: String,
    /// 0–100 over all layers; never goes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// Bytes over all layers known so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
}

impl PullProgress {
    /// `bytes` are those that are there and all of them, as far as any size is known.
    pub(crate) fn of(status: String, progress: Option<f64>, (current, total): (u64, u64)) -> Self {
        let known = total > 0;
        Self { status, progress, total: known.then_some(total), current: known.then_some(current) }
    }
}

/// One event of a build. Steps are numbered in the order in which the engine tells of them; 0 is sending the context.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum BuildProgress {
    Step {
        step: u32,
        name: String,
        state: StepState,
    },
    /// What is sent, fetched or unpacked.
    Bytes {
        step: u32,
        name: String,
        current: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    Log {
        step: u32,
        stream: OutputStream,
        text: String,
    },
}

/// One event of a project of compose.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComposeProgress {
    /// As compose calls it: `Container demo-web-1`, `Image redis:7`; empty for the whole project.
    pub resource: String,
    /// What it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What is happening, ready to show.
    pub status: String,
    pub state: ComposeState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

impl ComposeProgress {
    pub(crate) fn whole(status: &str, state: ComposeState) -> Self {
        let status = status.to_owned();
        Self { resource: String::new(), parent: None, status, state, details: None, current: None, total: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ComposeState {
    Working,
    Done,
    Warning,
    Failed,
}

/// In the order in which a step goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    Running,
    Done,
    Cached,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    Stdout,
    Stderr,
}

/// Where progress goes. Must not block: the work waits for it.
pub type Sink<P> = Arc<dyn Fn(P) + Send + Sync>;

pub fn ignore<P>() -> Sink<P> {
    Arc::new(|_| {})
}

/// Work that is repeated, like a boot after a repair, reports from the beginning; the events for `sink` never go back.
pub fn forward_only(sink: Sink<RuntimeProgress>) -> Sink<RuntimeProgress> {
    let furthest = Mutex::new(Vec::<(Phase, f64)>::new());
    let said = Mutex::new(String::new());
    Arc::new(move |mut event: RuntimeProgress| {
        // Once, not with each new number in it.
        let words = event.message.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
        if *said.lock() != words {
            words.clone_into(&mut said.lock());
            tracing::debug!(phase = ?event.phase, "{}", event.message);
        }
        if let Some(percent) = &mut event.percent {
            let mut furthest = furthest.lock();
            match furthest.iter_mut().find(|(phase, _)| *phase == event.phase) {
                Some((_, most)) => {
                    *most = most.max(*percent);
                    *percent = *most;
                }
                None => furthest.push((event.phase, *percent)),
            }
        }
        sink(event);
    })
}

/// The same for an image's: a layer that is fetched again begins anew.
pub fn pull_forward_only(sink: Sink<PullProgress>) -> Sink<PullProgress> {
    let furthest = Mutex::new((0.0, 0));
    Arc::new(move |mut event: PullProgress| {
        {
            let mut furthest = furthest.lock();
            let (percent, bytes) = &mut *furthest;
            *percent = event.progress.unwrap_or_default().max(*percent);
            *bytes = event.current.unwrap_or_default().max(*bytes);
            event.progress = event.progress.map(|_| *percent);
            event.current = event.current.map(|_| (*bytes).min(event.total.unwrap_or(*bytes)));
        }
        sink(event);
    })
}

/// About ten events a second suit a screen and the JavaScript thread.
const INTERVAL: Duration = Duration::from_millis(100);

/// Passes an event on when the last one is [`INTERVAL`] old. Events that a reader must not miss (a new phase, the last
/// event) go through [`Throttle::always`].
pub struct Throttle<P> {
    sink: Sink<P>,
    last: Mutex<Option<Instant>>,
}

impl<P> Throttle<P> {
    pub fn new(sink: Sink<P>) -> Self {
        Self { sink, last: Mutex::new(None) }
    }

    /// `event` is made only if it is sent.
    pub fn offer(&self, event: impl FnOnce() -> P) {
        {
            let mut last = self.last.lock();
            if last.is_some_and(|t| t.elapsed() < INTERVAL) {
                return;
            }
            *last = Some(Instant::now());
        }
        (self.sink)(event());
    }

    pub fn always(&self, event: P) {
        *self.last.lock() = Some(Instant::now());
        (self.sink)(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_is_done_again_does_not_go_back() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let events = seen.clone();
        let sink = forward_only(Arc::new(move |e: RuntimeProgress| events.lock().push(e.percent)));
        for (phase, percent) in [(Phase::Boot, 50.0), (Phase::Stop, 0.0), (Phase::Boot, 10.0), (Phase::Boot, 60.0)] {
            sink(RuntimeProgress { percent: Some(percent), ..RuntimeProgress::new(phase, "") });
        }
        assert_eq!(*seen.lock(), [Some(50.0), Some(0.0), Some(50.0), Some(60.0)]);
    }

    #[test]
    fn bytes_of_a_pull_do_not_go_back() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let events = seen.clone();
        let sink = pull_forward_only(Arc::new(move |e: PullProgress| events.lock().push((e.progress, e.current))));
        for said in [None, Some((50.0, 150)), Some((10.0, 20)), None, Some((60.0, 200))] {
            let (progress, current) = said.unzip();
            sink(PullProgress { progress, current, ..PullProgress::default() });
        }
        let furthest = (Some(50.0), Some(150));
        assert_eq!(*seen.lock(), [(None, None), furthest, furthest, (None, None), (Some(60.0), Some(200))]);
    }

    #[test]
    fn a_burst_is_one_event_and_the_last_always_arrives() {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let t = Throttle::new(Arc::new(move |_: u32| {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        (0..100_000).for_each(|i| t.offer(|| i));
        assert!(seen.load(Ordering::Relaxed) < 100);
        let before = seen.load(Ordering::Relaxed);
        t.always(1);
        assert_eq!(seen.load(Ordering::Relaxed), before + 1);
    }
}

//! What happens to containers and images, as it happens. containerd remembers nothing: one subscription is kept, and
//! what it said of late is remembered here, for those who ask `since`. Networks and volumes are not containerd's: of
//! them, only what is done through this engine is told.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use prost::Message;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_util::task::AbortOnDropHandle;

use super::super::{
    proto::containerd::types::Envelope,
    source::{
        api::Api,
        events::{SUBSCRIBED, Subject},
    },
};
use super::event::{Remembered, containers_by_id, fits, read};
use crate::{
    engine::{BoxStream, time, types::*},
    error::{Error, ErrorCode, Result},
    mutex::Mutex,
    task,
};

/// How many events are remembered.
const MEMORY: usize = 4096;
/// How often the sign is sent until it is seen.
const AGAIN: Duration = Duration::from_millis(50);
/// A stream that lags more than this costs more than it saves.
const CATCH_UP: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Log {
    /// The number of the oldest event kept.
    first: u64,
    events: VecDeque<Arc<Remembered>>,
    /// How many subscriptions have ended, and why the last one did.
    ended: u64,
    why: Option<(ErrorCode, String)>,
    /// How often a container's record was made, changed or removed.
    changes: u64,
}

/// Of the containers' records: the subscription, and the changes it has told of.
pub(crate) type Version = (u64, u64);

/// Who acts on events. The stream waits for it: it must not.
pub(crate) trait Follower: Send + Sync {
    /// A subscription stands. What happened before it is told to nobody.
    fn subscribed(&self);
    fn happened(&self, event: &RuntimeEvent);
}

/// What the subscription and those who ask it have in common.
#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    changed: watch::Sender<()>,
    /// The number of the last mark that came back. A mark is an event of our own on the daemon's stream: when it has arrived,
    /// so has all that was said before it.
    marked: watch::Sender<u64>,
    follower: OnceLock<Box<dyn Follower>>,
}

impl Shared {
    fn add(&self, known: Remembered) {
        {
            let mut log = self.log.lock();
            if log.events.len() == MEMORY {
                log.events.pop_front();
                log.first += 1;
            }
            log.events.push_back(Arc::new(known));
        }
        self.changed.send_replace(());
    }
}

pub(crate) struct Hub {
    api: Api,
    shared: Arc<Shared>,
    /// Tells our marks from those of others.
    prefix: String,
    marks: AtomicU64,
    /// Fills the log while it runs.
    listener: AsyncMutex<Option<AbortOnDropHandle<()>>>,
}

impl Hub {
    pub(crate) fn new(api: Api) -> Self {
        Self {
            api,
            shared: Arc::default(),
            prefix: format!("{}-", crate::random::word()),
            marks: AtomicU64::new(1),
            listener: AsyncMutex::default(),
        }
    }

    /// Once, before anybody listens.
    pub(crate) fn follow(&self, follower: Box<dyn Follower>) {
        _ = self.shared.follower.set(follower);
    }

    /// The number of the subscription that stands, where one does: nothing has been missed since it began.
    pub(crate) fn subscription(&self) -> Option<u64> {
        let stands = self.listener.try_lock().is_ok_and(|l| l.as_ref().is_some_and(|l| !l.is_finished()));
        stands.then(|| self.shared.log.lock().ended)
    }

    /// Whether somebody listens, or is about to.
    pub(crate) fn is_busy(&self) -> bool {
        self.listener.try_lock().map_or(true, |l| l.as_ref().is_some_and(|l| !l.is_finished()))
    }

    /// As far as has been heard.
    pub(crate) fn version(&self) -> Option<Version> {
        self.subscription().map(|subscription| (subscription, self.shared.log.lock().changes))
    }

    /// Listens, and waits until nothing can be missed any more.
    pub(crate) async fn listen(&self) -> Result<()> {
        let mut listener = self.listener.lock().await;
        if listener.as_ref().is_some_and(|l| !l.is_finished()) {
            return Ok(());
        }
        let mut stream = self.api.envelopes();
        let ask = async {
            loop {
                self.api.publish("").await?;
                tokio::time::sleep(AGAIN).await;
            }
        };
        let mut early = Vec::new();
        let seen = async {
            while let Some(envelope) = stream.next().await {
                let envelope = envelope?;
                if envelope.topic == SUBSCRIBED {
                    return Ok(());
                }
                early.push(envelope);
            }
            Err(closed())
        };
        tokio::select! {
            seen = seen => seen?,
            refused = ask => return refused,
        }
        let mut names = containers_by_id(&self.api).await?;
        let (api, shared, prefix) = (self.api.clone(), self.shared.clone(), self.prefix.clone());
        let work = async move {
            let mut stream = futures_util::stream::iter(early.into_iter().map(Ok)).chain(stream);
            let why = loop {
                match stream.next().await {
                    Some(Ok(envelope)) => {
                        if let Some(number) = mark(&envelope, &prefix) {
                            shared.marked.send_if_modified(|last| {
                                let further = number > *last;
                                *last = number.max(*last);
                                further
                            });
                        }
                        if envelope.topic.starts_with("/containers/") && api.is_mine(&envelope) {
                            shared.log.lock().changes += 1;
                        }
                        if let Some(known) = read(&api, &envelope, &mut names).await {
                            if let Some(follower) = shared.follower.get() {
                                follower.happened(&known.event);
                            }
                            shared.add(known);
                        }
                    }
                    Some(Err(e)) => break e,
                    None => break closed(),
                }
            };
            {
                let mut log = shared.log.lock();
                log.ended += 1;
                log.why = Some((why.code(), why.message().to_owned()));
            }
            shared.changed.send_replace(());
        };
        *listener = Some(AbortOnDropHandle::new(task::spawn(work)));
        if let Some(follower) = self.shared.follower.get() {
            follower.subscribed();
        }
        Ok(())
    }

    /// The version of the containers' records, once everything said before this call was heard: the daemon tells of a
    /// change before it answers to it, and all in one order (docs/reference/containerd.md#events-come-before-answers).
    /// `None` where nobody listens, or it takes too long.
    pub(crate) async fn caught_up(&self) -> Option<Version> {
        self.subscription()?;
        let mine = self.marks.fetch_add(1, Ordering::Relaxed);
        let heard = async {
            self.api.publish(&format!("{}{mine}", self.prefix)).await.ok()?;
            self.shared.marked.subscribe().wait_for(|last| *last >= mine).await.ok()?;
            self.version()
        };
        tokio::time::timeout(CATCH_UP, heard).await.ok().flatten()
    }

    /// Something was done that containerd does not know of.
    pub(crate) fn tell(&self, kind: EventKind, action: &str, id: &str, name: Option<&str>) {
        let event = RuntimeEvent {
            time: time::now(),
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            name: name.map(str::to_owned),
            exit_code: None,
            app: None,
        };
        self.shared.add(Remembered { event, image: None, labels: Arc::default() });
    }

    /// `keep` lives as long as the stream.
    pub(crate) async fn events(
        &self,
        options: &EventOptions,
        keep: impl Send + 'static,
    ) -> Result<BoxStream<RuntimeEvent>> {
        self.listen().await?;
        let filters = options.filters.clone();
        let since = options.since.map(|s| s * 1000.0);
        let (shared, mut changed) = (self.shared.clone(), self.shared.changed.subscribe());
        let (mut next, epoch) = {
            let log = shared.log.lock();
            let end = log.first + log.events.len() as u64;
            let old = since.map_or(0, |s| log.events.iter().filter(|k| k.event.time as f64 >= s).count() as u64);
            // Its listener may have ended since.
            (end - old, log.ended)
        };
        // What was before `since` may lie among them: clocks are not in order.
        let early = move |e: &RuntimeEvent| since.is_some_and(|s| (e.time as f64) < s);
        Ok(task::stream(move |out| async move {
            let _keep = keep;
            loop {
                changed.mark_unchanged();
                let (batch, over) = {
                    let log = shared.log.lock();
                    next = next.max(log.first);
                    let skip = usize::try_from(next - log.first).unwrap_or(usize::MAX);
                    let batch: Vec<_> = log.events.iter().skip(skip).cloned().collect();
                    next += batch.len() as u64;
                    let over = (log.ended > epoch).then(|| log.why.clone()).flatten();
                    (batch, over)
                };
                for known in batch {
                    if !early(&known.event) && fits(&filters, &known) {
                        out.put(known.event.clone()).await?;
                    }
                }
                if let Some((code, message)) = over {
                    return Err(Error::new(code, message));
                }
                changed.changed().await.map_err(|_| closed())?;
            }
        }))
    }
}

/// The number of a mark of ours.
fn mark(envelope: &Envelope, prefix: &str) -> Option<u64> {
    let data = envelope.event.as_ref().filter(|_| envelope.topic == SUBSCRIBED)?.value.as_slice();
    Subject::decode(data).ok()?.id.strip_prefix(prefix)?.parse().ok()
}

fn closed() -> Error {
    Error::new(ErrorCode::ContainerdNotReady, "containerd ended its events")
}

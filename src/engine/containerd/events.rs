//! What happens to containers and images, as it happens. containerd remembers nothing: one subscription is kept, and
//! what it said of late is remembered here, for those who ask `since`. Networks and volumes are not containerd's: of
//! them, only what is done through this engine is told.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use prost::Message;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{
    BoxStream, Containerd, Inner,
    api::{self, Api},
    containers, labels,
    proto::containerd::{events::TaskExit, types::Envelope},
};
use crate::{
    engine::{reference, time, types::*},
    error::{Error, ErrorCode, Result},
    task,
};

/// How many events are remembered.
const MEMORY: usize = 4096;
/// How often the sign is sent until it is seen.
const AGAIN: Duration = Duration::from_millis(50);
/// A stream that lags more than this costs more than it saves.
const CATCH_UP: Duration = Duration::from_millis(500);

/// An event, with what the filters ask for.
#[derive(Debug, Clone)]
struct Known {
    event: RuntimeEvent,
    image: Option<String>,
    labels: Arc<Labels>,
}

#[derive(Default)]
struct Log {
    /// The number of the oldest event kept.
    first: u64,
    events: VecDeque<Arc<Known>>,
    /// How many subscriptions have ended, and why the last one did.
    ended: u64,
    why: Option<(ErrorCode, String)>,
    /// How often a container's record was made, changed or removed.
    changes: u64,
}

/// Of the containers' records: the subscription, and the changes it has told of.
pub(super) type Version = (u64, u64);

/// What we say ourselves on the daemon's stream, to know that all that was said before has arrived.
struct Marks {
    /// Ours among those of others.
    prefix: String,
    said: AtomicU64,
    heard: watch::Sender<u64>,
}

impl Marks {
    fn number(&self, envelope: &Envelope) -> Option<u64> {
        let data = envelope.event.as_ref().filter(|_| envelope.topic == api::SIGN)?.value.as_slice();
        Subject::decode(data).ok()?.id.strip_prefix(&self.prefix)?.parse().ok()
    }
}

pub(super) struct Hub {
    log: Arc<Mutex<Log>>,
    changed: Arc<watch::Sender<()>>,
    marks: Arc<Marks>,
    /// Fills the log while it runs.
    listener: AsyncMutex<Option<AbortOnDropHandle<()>>>,
}

impl Default for Hub {
    fn default() -> Self {
        // Each is made with another key.
        let random = RandomState::new().hash_one(std::process::id());
        let marks = Marks { prefix: format!("{random:x}-"), said: AtomicU64::new(1), heard: watch::Sender::new(0) };
        Self {
            log: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
            marks: Arc::new(marks),
            listener: AsyncMutex::default(),
        }
    }
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// The number of the subscription that stands, where one does: nothing has been missed since it began.
    pub(super) fn standing(&self) -> Option<u64> {
        let stands = self.listener.try_lock().is_ok_and(|l| l.as_ref().is_some_and(|l| !l.is_finished()));
        stands.then(|| lock(&self.log).ended)
    }

    /// As far as has been heard.
    pub(super) fn version(&self) -> Option<Version> {
        self.standing().map(|subscription| (subscription, lock(&self.log).changes))
    }

    fn add(&self, known: Known) {
        add(&self.log, &self.changed, known);
    }
}

fn add(log: &Mutex<Log>, changed: &watch::Sender<()>, known: Known) {
    {
        let mut log = lock(log);
        if log.events.len() == MEMORY {
            log.events.pop_front();
            log.first += 1;
        }
        log.events.push_back(Arc::new(known));
    }
    changed.send_replace(());
}

impl Containerd {
    /// Begins to listen, without waiting for it.
    pub(super) fn listen(&self) {
        let busy = self.hub.listener.try_lock().map_or(true, |l| l.as_ref().is_some_and(|l| !l.is_finished()));
        if !busy {
            let this = self.clone();
            task::spawn(async move { _ = this.listening().await });
        }
    }

    /// Listens, and waits until nothing can be missed any more.
    async fn listening(&self) -> Result<()> {
        let mut listener = self.hub.listener.lock().await;
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
                if envelope.topic == api::SIGN {
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
        let names = containers_by_id(&self.api).await?;
        let (api, engine) = (self.api.clone(), Arc::downgrade(&self.0));
        let (log, changed, marks) = (self.hub.log.clone(), self.hub.changed.clone(), self.hub.marks.clone());
        let work = async move {
            let mut names = names;
            let mut stream = futures_util::stream::iter(early.into_iter().map(Ok)).chain(stream);
            let why = loop {
                match stream.next().await {
                    Some(Ok(envelope)) => {
                        if let Some(number) = marks.number(&envelope) {
                            marks.heard.send_if_modified(|heard| {
                                let further = number > *heard;
                                *heard = number.max(*heard);
                                further
                            });
                        }
                        if envelope.topic.starts_with("/containers/") && api.is_mine(&envelope) {
                            lock(&log).changes += 1;
                        }
                        if let Some(known) = read(&api, &envelope, &mut names).await {
                            follow_up(&engine, &known.event);
                            add(&log, &changed, known);
                        }
                    }
                    Some(Err(e)) => break e,
                    None => break closed(),
                }
            };
            {
                let mut log = lock(&log);
                log.ended += 1;
                log.why = Some((why.code(), why.message().to_owned()));
            }
            changed.send_replace(());
        };
        *listener = Some(AbortOnDropHandle::new(task::spawn(work)));
        resume(self.clone());
        Ok(())
    }

    /// Listening is begun where restarts or healthchecks are ours to do.
    pub(super) async fn watch(&self) {
        if let Err(e) = self.listening().await {
            tracing::warn!(%e, "containerd's events cannot be followed");
        }
    }

    /// The version of the containers' records, once everything said before this call was heard: the daemon tells of a
    /// change before it answers to it, and all in one order (docs/reference/containerd.md#events-come-before-answers).
    /// `None` where nobody listens, or it takes too long.
    pub(super) async fn caught_up(&self) -> Option<Version> {
        self.hub.standing()?;
        let marks = &self.hub.marks;
        let mine = marks.said.fetch_add(1, Ordering::Relaxed);
        let heard = async {
            self.api.publish(&format!("{}{mine}", marks.prefix)).await.ok()?;
            marks.heard.subscribe().wait_for(|heard| *heard >= mine).await.ok()?;
            self.hub.version()
        };
        tokio::time::timeout(CATCH_UP, heard).await.ok().flatten()
    }

    /// Something was done that containerd does not know of.
    pub(super) fn happened(&self, kind: EventKind, action: &str, id: &str, name: Option<&str>) {
        let event = RuntimeEvent {
            time: time::now(),
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            name: name.map(str::to_owned),
            exit_code: None,
            app: None,
        };
        self.hub.add(Known { event, image: None, labels: Arc::default() });
    }
}

fn closed() -> Error {
    Error::new(ErrorCode::ContainerdNotReady, "containerd ended its events")
}

fn resume(engine: Containerd) {
    task::spawn(async move { containers::resume(&engine).await });
}

fn follow_up(engine: &Weak<Inner>, event: &RuntimeEvent) {
    let Some(inner) = engine.upgrade().filter(|_| event.kind == EventKind::Container) else { return };
    match event.action.as_str() {
        "start" => inner.files.forget(&event.id),
        "destroy" => inner.ends.forget(&event.id),
        _ => {}
    }
    let ("die", Some(code)) = (event.action.as_str(), event.exit_code) else { return };
    inner.ends.remember(&event.id, code, event.time);
    let id = event.id.clone();
    task::spawn(async move { containers::ended(&Containerd(inner), &id, code).await });
}

/// What the filters and the name need, by container id.
struct Named {
    name: Option<String>,
    image: String,
    labels: Arc<Labels>,
}

async fn containers_by_id(api: &Api) -> Result<HashMap<String, Named>> {
    Ok(api.containers(vec![]).await?.into_iter().map(|c| (c.id.clone(), named(&c))).collect())
}

fn named(c: &api::Container) -> Named {
    Named {
        name: c.labels.get(labels::NAME).cloned(),
        image: reference::familiar(&c.image).to_owned(),
        labels: Arc::new(containers::labels_of(c)),
    }
}

/// Every event's first field names its subject.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Subject {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

async fn read(api: &Api, envelope: &Envelope, names: &mut HashMap<String, Named>) -> Option<Known> {
    if !api.is_mine(envelope) {
        return None;
    }
    let data = envelope.event.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
    let id = Subject::decode(data).ok()?.id;
    let mut exit_code = None;
    let action = match envelope.topic.as_str() {
        "/containers/create" => "create",
        "/containers/update" => "update",
        "/containers/delete" => "destroy",
        "/tasks/start" => "start",
        "/tasks/paused" => "pause",
        "/tasks/resumed" => "unpause",
        "/tasks/oom" => "oom",
        "/tasks/exec-added" => "exec_create",
        "/tasks/exec-started" => "exec_start",
        "/tasks/exit" => {
            let exit = TaskExit::decode(data).ok()?;
            exit_code = Some(i64::from(exit.exit_status));
            // An exec's end has the same topic, with the exec's id (docs/reference/containerd.md#ends-of-execs).
            if exit.id == exit.container_id { "die" } else { "exec_die" }
        }
        "/images/create" | "/images/update" => "tag",
        "/images/delete" => "delete",
        _ => return None,
    };
    let time = envelope.timestamp.as_ref().map_or_else(time::now, api::millis);
    if envelope.topic.starts_with("/images/") {
        let name = reference::familiar(&id).to_owned();
        let event = RuntimeEvent {
            time,
            kind: EventKind::Image,
            action: action.into(),
            id: name.clone(),
            name: Some(name.clone()),
            exit_code,
            app: None,
        };
        return Some(Known { event, image: Some(name), labels: Arc::default() });
    }
    if !names.contains_key(&id)
        && action != "destroy"
        && let Ok(container) = api.container(&id).await
    {
        names.insert(id.clone(), named(&container));
    }
    let gone;
    let about = if action == "destroy" {
        gone = names.remove(&id);
        gone.as_ref()
    } else {
        names.get(&id)
    };
    let event = RuntimeEvent {
        time,
        kind: EventKind::Container,
        action: action.into(),
        id,
        name: about.and_then(|a| a.name.clone()),
        exit_code,
        app: about.and_then(|a| a.labels.get(APP_LABEL).cloned()),
    };
    Some(Known {
        event,
        image: about.map(|a| a.image.clone()),
        labels: about.map(|a| a.labels.clone()).unwrap_or_default(),
    })
}

pub(super) async fn events(c: &Containerd, options: &EventOptions) -> Result<BoxStream<RuntimeEvent>> {
    c.listening().await?;
    let filters = options.filters.clone();
    let since = options.since.map(|s| s * 1000.0);
    let (log, mut changed) = (c.hub.log.clone(), c.hub.changed.subscribe());
    let (mut next, epoch) = {
        let log = lock(&log);
        let end = log.first + log.events.len() as u64;
        let old = since.map_or(0, |s| log.events.iter().filter(|k| k.event.time as f64 >= s).count() as u64);
        // Its listener may have ended since.
        (end - old, log.ended)
    };
    // What was before `since` may lie among them: clocks are not in order.
    let early = move |e: &RuntimeEvent| since.is_some_and(|s| (e.time as f64) < s);
    // It keeps the engine: as long as somebody listens, restarts go on.
    let keep = c.clone();
    Ok(async_stream(move |out| async move {
        let _keep = keep;
        loop {
            changed.mark_unchanged();
            let (batch, over) = {
                let log = lock(&log);
                next = next.max(log.first);
                let skip = usize::try_from(next - log.first).unwrap_or(usize::MAX);
                let batch: Vec<_> = log.events.iter().skip(skip).cloned().collect();
                next += batch.len() as u64;
                let over = (log.ended > epoch).then(|| log.why.clone()).flatten();
                (batch, over)
            };
            for known in batch {
                if !early(&known.event) && fits(&filters, &known) && out.send(Ok(known.event.clone())).await.is_err() {
                    return;
                }
            }
            if let Some((code, message)) = over {
                _ = out.send(Err(Error::new(code, message))).await;
                return;
            }
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                () = out.closed() => return,
            }
        }
    }))
}

/// The events of one container, from now on.
pub(super) async fn of_container(c: &Containerd, id: &str) -> Result<BoxStream<RuntimeEvent>> {
    let filters = Filters::from([("container".to_owned(), vec![id.to_owned()])]);
    events(c, &EventOptions { since: None, filters }).await
}

/// A stream that a task fills, and that ends the task when it is dropped.
pub(super) fn async_stream<T, F>(fill: impl FnOnce(tokio::sync::mpsc::Sender<Result<T>>) -> F) -> BoxStream<T>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (send, receive) = tokio::sync::mpsc::channel(16);
    let task = AbortOnDropHandle::new(task::spawn(fill(send)));
    futures_util::stream::unfold((receive, task), |(mut receive, task)| async move {
        receive.recv().await.map(|item| (item, (receive, task)))
    })
    .boxed()
}

/// As Docker filters: one value of each kind fits; of labels, all of them.
fn fits(filters: &Filters, known: &Known) -> bool {
    let Known { event, image, labels } = known;
    let is = |kind: EventKind, v: &str| {
        event.kind == kind
            && (event.name.as_deref() == Some(v) || event.id == v || v.len() >= 12 && event.id.starts_with(v))
    };
    filters.iter().all(|(key, values)| {
        let any = |one: &dyn Fn(&str) -> bool| values.is_empty() || values.iter().any(|v| one(v));
        match key.as_str() {
            "type" => any(&|v| serde_json::to_value(event.kind).is_ok_and(|k| k == v)),
            "event" => any(&|v| event.action == v),
            "container" => any(&|v| is(EventKind::Container, v)),
            "network" => any(&|v| is(EventKind::Network, v)),
            "volume" => any(&|v| is(EventKind::Volume, v)),
            "image" => {
                any(&|v| image.as_ref().is_some_and(|i| *i == reference::familiar(v) || i.split(':').next() == Some(v)))
            }
            "label" => values.iter().all(|v| match v.split_once('=') {
                Some((k, wanted)) => labels.get(k).is_some_and(|l| l == wanted),
                None => labels.contains_key(v.as_str()),
            }),
            _ => true,
        }
    })
}

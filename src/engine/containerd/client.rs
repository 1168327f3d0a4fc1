//! One containerd with its nerdctl, and what this process keeps of it.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::{
    container::state::{Ends, Healthchecks},
    events::{hub::Hub, records::Records},
    image::cache::Cache,
    nerdctl::{
        files::{Files, Kept, WithTask},
        runner::{self, Nerdctl},
    },
    settings::Settings,
    source::{
        api::Api,
        containers::{Container, Task},
    },
    turns::Turns,
};
use crate::{
    engine::{BoxStream, types::*, validate},
    error::Result,
    guest::Guest,
    process::Command,
    task,
};

/// One containerd with its nerdctl. Cheap to clone.
#[derive(Clone)]
pub struct Containerd(Arc<Inner>);

pub struct Inner {
    pub(crate) settings: Arc<Settings>,
    pub(crate) api: Api,
    pub(crate) nerdctl: Nerdctl,
    pub(crate) files: Files,
    pub(crate) hub: Hub,
    records: Records,
    pub(crate) images: Cache,
    /// By container: its start, and what writes its files, of which its root is mounted once more.
    pub(crate) roots: Turns,
    pub(crate) ends: Ends,
    pub(crate) health: Healthchecks,
    restart_policies: OnceCell<Vec<String>>,
}

impl Deref for Containerd {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Containerd {
    /// Connects to nothing yet.
    pub fn new(settings: Settings) -> Result<Self> {
        validate::object_name("namespace", &settings.namespace)?;
        let settings = Arc::new(settings);
        let api = Api::new(settings.guest.clone(), &settings.namespace)?;
        Ok(Self(Arc::new(Inner {
            nerdctl: Nerdctl::new(&settings),
            files: Files::new(settings.clone()),
            hub: Hub::new(api.clone()),
            records: Records::default(),
            images: Cache::default(),
            roots: Turns::default(),
            ends: Ends::default(),
            health: Healthchecks::default(),
            restart_policies: OnceCell::new(),
            api,
            settings,
        })))
    }

    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn upgrade(inner: &Weak<Inner>) -> Option<Self> {
        inner.upgrade().map(Self)
    }

    pub(crate) fn guest(&self) -> &Arc<dyn Guest> {
        &self.settings.guest
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    /// A command of the guest, as root where nerdctl is.
    pub(crate) fn command<A: Into<Vec<u8>>>(&self, argv: impl IntoIterator<Item = A>) -> Command {
        Command { root: self.settings.root, ..Command::new(argv) }
    }

    /// The same where containerd is: its network interfaces, `/run` and `/var/lib/cni`.
    pub(crate) fn inside<A: Into<Vec<u8>>>(&self, argv: impl IntoIterator<Item = A>) -> Command {
        let enter = self.settings.inside.iter().map(|word| word.clone().into_bytes());
        self.command(enter.chain(argv.into_iter().map(Into::into)))
    }

    /// The daemon's, as numbers.
    pub(crate) async fn containerd_version(&self) -> Result<(u32, u32, u32)> {
        self.api.version().await.map(|said| runner::version(&said))
    }

    pub(crate) async fn restart_policies(&self) -> Result<&[String]> {
        self.restart_policies.get_or_try_init(|| self.api.restart_policies()).await.map(Vec::as_slice)
    }

    pub(crate) async fn everything(&self) -> Result<Vec<WithTask>> {
        let (containers, mut tasks) = tokio::try_join!(self.records.all(&self.api, &self.hub), self.api.tasks())?;
        Ok(containers.iter().map(|container| (container.clone(), tasks.remove(&container.id))).collect())
    }

    /// What nerdctl's files say of these; `whole` when there are no others.
    pub(crate) async fn kept_of(&self, containers: &[WithTask], whole: bool) -> Result<HashMap<String, Kept>> {
        self.files.of(containers, whole, self.hub.subscription()).await
    }

    pub(crate) async fn kept(&self, container: &Container, task: Option<Task>) -> Result<Kept> {
        let one = [(Arc::new(container.clone()), task)];
        Ok(self.kept_of(&one, false).await?.remove(&container.id).unwrap_or_default())
    }

    /// Begins to listen, without waiting for it.
    pub(crate) fn listen(&self) {
        if !self.hub.is_busy() {
            let this = self.clone();
            task::spawn(async move { _ = this.hub.listen().await });
        }
    }

    /// The events of one container, from now on.
    pub(crate) async fn events_of(&self, id: &str) -> Result<BoxStream<RuntimeEvent>> {
        let filters = Filters::from([("container".to_owned(), vec![id.to_owned()])]);
        events(self, &EventOptions { since: None, filters }).await
    }

    /// Writes a file where containerd is, in its place: a container may have it mounted, not its name.
    pub(crate) async fn write_file(&self, path: &str, text: impl Into<Bytes>) -> Result<()> {
        const WRITE: &str = r#"mkdir -p -- "${1%/*}" && cat >"$1""#;
        self.guest().run(self.inside(["sh", "-c", WRITE, "sh", path]).input(text)).await?.checked("sh").map(drop)
    }
}

pub(crate) async fn events(c: &Containerd, options: &EventOptions) -> Result<BoxStream<RuntimeEvent>> {
    // As long as somebody listens, restarts go on.
    c.hub.events(options, c.clone()).await
}

//! The engine for callers that are not trusted, such as windows. They see and change only what carries the application's
//! label; anything else does not exist for them. A name or the beginning of an id is looked up among the application's own
//! objects, and the engine is then asked by the full id, so that a rename cannot put another object in its place. Volumes
//! have only names.
//!
//! A new method about what carries a label must be written here, too: there is no default.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;

use super::{
    backend::{Attached, BoxStream, ContainerMethods, Engine, LabelledMethods, UnlabelledMethods},
    build::Build,
    compose::Composition,
    config,
    methods::{container_methods, unlabelled_methods},
    types::*,
    validate::{is_docker_socket, is_host_path},
};
use crate::{
    error::{Error, ErrorCode, Result},
    fetch::held::Links,
    progress::{BuildProgress, ComposeProgress, PullProgress, Sink},
    task,
};

/// The only driver whose networks give no access to the host; those of host, macvlan and ipvlan do.
const BRIDGE: &str = "bridge";
/// The only driver whose volumes lie in the engine's own store.
const LOCAL: &str = "local";
/// Words that an engine does not take for a network's name: nerdctl's bare `ns` means the host's namespace.
const SPECIAL_NETWORK_NAMES: [&str; 5] = ["none", "host", "ns", "container", "default"];

pub(super) struct Restricted {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) app: Arc<str>,
    /// Also what is not the application's: only the rules about networks and volumes remain.
    pub(super) foreign: bool,
    /// Containers may have powers over the engine's machine.
    pub(super) powers: bool,
}

fn not_found(code: ErrorCode, what: &str, word: &str) -> Error {
    Error::new(code, format!("There is no {what} {word}")).detail("id", word)
}

fn denied(field: String, problem: String) -> Error {
    Error::new(ErrorCode::PermissionDenied, problem).detail("field", field)
}

/// Finds an object by name, full id, or the unique beginning of an id; a name wins.
fn find<'a, T>(all: &'a [T], word: &str, key: impl Fn(&'a T) -> (&'a str, &'a str)) -> Option<&'a T> {
    let word = word.trim_start_matches('/');
    let exact = all.iter().find(|t| key(t).1 == word).or_else(|| all.iter().find(|t| key(t).0 == word));
    exact.or_else(|| {
        let mut begin = all.iter().filter(|t| !word.is_empty() && key(t).0.starts_with(word));
        begin.next().filter(|_| begin.next().is_none())
    })
}

/// The path with its links followed; a missing part is where it would be made.
fn real(path: &Path) -> PathBuf {
    let (mut head, mut missing) = (path, Vec::new());
    loop {
        if let Ok(real) = std::fs::canonicalize(head) {
            return missing.iter().rev().fold(real, |path, name| path.join(name));
        }
        match (head.parent(), head.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name);
                head = parent;
            }
            _ => return path.to_owned(),
        }
    }
}

impl Restricted {
    fn has_our_label(&self, labels: &Labels) -> bool {
        self.foreign || labels.get(APP_LABEL).is_some_and(|app| *app == *self.app)
    }

    /// The same options, limited to the application's containers.
    fn limited_to_app(&self, options: &ListOptions) -> ListOptions {
        let mut own = options.clone();
        if !self.foreign {
            own.filters.entry("label".to_owned()).or_default().push(format!("{APP_LABEL}={}", self.app));
        }
        own
    }

    async fn containers(&self) -> Result<Vec<ContainerInfo>> {
        self.engine.list(&self.limited_to_app(&ListOptions { all: true, ..ListOptions::default() })).await
    }

    /// Refuses paths that would hand out the engine itself, whatever the application permitted.
    async fn keep_engine(&self, paths: Vec<(String, String)>) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let own = self.engine.own_dirs().await?;
        task::blocking(move || {
            let own: Vec<_> = own.iter().map(|dir| real(dir)).collect();
            let touches = |path: &Path| own.iter().any(|dir| dir.starts_with(path) || path.starts_with(dir));
            match paths.into_iter().find(|(_, path)| touches(&real(Path::new(path)))) {
                None => Ok(()),
                Some((field, path)) => {
                    let problem = format!("{field}: {path} holds the engine itself, or lies in what it is made of");
                    Err(denied(field, problem))
                }
            }
        })
        .await
    }

    fn called(all: &[ContainerInfo], word: &str) -> Result<String> {
        let found = find(all, word, |c| (c.id.as_str(), c.name.as_str()));
        found.map(|c| c.id.clone()).ok_or_else(|| not_found(ErrorCode::ContainerNotFound, "container", word))
    }

    async fn container(&self, word: &str) -> Result<String> {
        Self::called(&self.containers().await?, word)
    }

    async fn visible_networks(&self) -> Result<Vec<NetworkInfo>> {
        let mut all = self.engine.networks().await?;
        all.retain(|n| n.is_default || self.has_our_label(&n.labels));
        Ok(all)
    }

    async fn visible_network(&self, word: &str) -> Result<NetworkInfo> {
        Self::network_called(&self.visible_networks().await?, word).cloned()
    }

    fn network_called<'a>(all: &'a [NetworkInfo], word: &str) -> Result<&'a NetworkInfo> {
        let found = find(all, word, |n| (n.id.as_str(), n.name.as_str()));
        found.ok_or_else(|| not_found(ErrorCode::NetworkNotFound, "network", word))
    }

    /// The id of a network that a container may be attached to.
    fn joinable(all: &[NetworkInfo], field: &str, word: &str) -> Result<String> {
        let refused = |why: &str| {
            denied(field.to_owned(), format!("{field}: {word} {why}")).hint(
                "The application's own networks with the driver bridge can be used, and the engine's default one.",
            )
        };
        if SPECIAL_NETWORK_NAMES.contains(&word) {
            return Err(refused("is no network of containers alone"));
        }
        // nerdctl makes its default network with the first container.
        if word == BRIDGE && !all.iter().any(|n| n.is_default) {
            return Ok(word.to_owned());
        }
        let network = Self::network_called(all, word)?;
        if network.driver != BRIDGE || SPECIAL_NETWORK_NAMES.contains(&network.name.as_str()) {
            return Err(refused("reaches more than containers"));
        }
        Ok(network.id.clone())
    }

    /// Creates the missing volumes: an engine that creates one implicitly gives it no label. `NAME_IN_USE` if a volume is
    /// not the application's.
    async fn create_missing(&self, wanted: &[(String, String)], options: &VolumeOptions) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut made = BTreeSet::new();
        loop {
            let all = self.engine.volumes().await?;
            let mut missing = Vec::new();
            for (field, name) in wanted {
                match all.iter().find(|v| v.name == *name) {
                    Some(v) if self.has_our_label(&v.labels) => {}
                    None if !made.contains(name) => missing.push(name),
                    _ => {
                        let text = format!("{field}: the name {name} is taken by what is not this application's");
                        return Err(Error::new(ErrorCode::NameInUse, text)
                            .detail("field", field.as_str())
                            .hint("Choose another name."));
                    }
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
            for name in missing {
                if made.insert(name.clone()) {
                    self.engine.create_volume(name, options).await?;
                }
            }
            // Tried again: an engine silently uses a volume that was created meanwhile.
        }
    }

    fn labelled(&self, labels: &Labels) -> Labels {
        let mut labels = labels.clone();
        labels.insert(APP_LABEL.to_owned(), self.app.to_string());
        labels
    }
}

macro_rules! of_one_container {
    ($trait:ident: $($(#[$doc:meta])* $name:ident($id:ident: &str $(, $arg:ident: $type:ty)*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $trait for Restricted {$(
            async fn $name(&self, $id: &str, $($arg: $type),*) -> Result<$answer> {
                self.engine.$name(&self.container($id).await?, $($arg),*).await
            }
        )*}
    };
}
container_methods!(of_one_container);

// Images carry no label: whoever hands this engine out decides whether they may be changed.
macro_rules! passed_on {
    ($trait:ident: $($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $trait for Restricted {$(
            async fn $name(&self, $($arg: $type),*) -> Result<$answer> {
                self.engine.$name($($arg),*).await
            }
        )*}
    };
}
unlabelled_methods!(passed_on);

#[async_trait]
impl LabelledMethods for Restricted {
    async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        let mut spec = ContainerSpec { labels: self.labelled(&spec.labels), ..spec.clone() };
        if !self.powers
            && let Some(field) = config::powers_of(&spec).into_iter().next()
        {
            let problem = format!("{field}: gives the container powers over the engine's machine");
            return Err(denied(field, problem));
        }
        let mounted = config::host_paths(&spec).filter(|(_, path)| !is_docker_socket(path));
        self.keep_engine(mounted.map(|(field, path)| (field, path.to_owned())).collect()).await?;
        for (_, mode) in config::shared(&mut spec) {
            if let Some(word) = config::container_of(mode).map(str::to_owned) {
                *mode = format!("container:{}", self.container(&word).await?);
            }
        }
        if !spec.networks.is_empty() {
            let all = self.visible_networks().await?;
            for (i, network) in spec.networks.iter_mut().enumerate() {
                let id = Self::joinable(&all, &format!("networks[{i}]"), network)?;
                if let Some(options) = spec.network_options.remove(network.as_str()) {
                    spec.network_options.insert(id.clone(), options);
                }
                *network = id;
            }
        }
        let volumes = spec.volumes.iter().enumerate().filter(|(_, v)| !is_host_path(&v.host));
        let volumes = volumes.map(|(i, v)| (format!("volumes[{i}].host"), v.host.clone()));
        let mounts = spec.mounts.iter().enumerate().filter(|(_, m)| m.kind == MountKind::Volume);
        let mounts = mounts.filter_map(|(i, m)| Some((format!("mounts[{i}].source"), m.source.clone()?)));
        let named: Vec<_> = volumes.chain(mounts).collect();
        let options = VolumeOptions { driver: None, labels: self.labelled(&Labels::new()) };
        self.create_missing(&named, &options).await?;
        self.engine.create(&spec).await
    }

    async fn exec(&self, id: &str, argv: &[String], options: &SpawnOptions) -> Result<Attached> {
        let id = self.container(id).await?;
        if options.privileged && !self.powers {
            let problem = "privileged: gives the program powers over the engine's machine";
            return Err(denied("privileged".to_owned(), problem.to_owned()));
        }
        self.engine.exec(&id, argv, options).await
    }

    async fn list(&self, options: &ListOptions) -> Result<Vec<ContainerInfo>> {
        let mut own = self.limited_to_app(options);
        // These filters name a container; for another application's, the answer would tell when it was created.
        let naming = |key: &str| options.filters.get(key).is_some_and(|values| !values.is_empty());
        if naming("before") || naming("since") {
            let all = self.containers().await?;
            for key in ["before", "since"] {
                for word in own.filters.get_mut(key).into_iter().flatten() {
                    *word = Self::called(&all, word)?;
                }
            }
        }
        self.engine.list(&own).await
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        self.engine.remove_network(&self.visible_network(id).await?.id).await
    }

    async fn networks(&self) -> Result<Vec<NetworkInfo>> {
        let mut all = self.visible_networks().await?;
        if !self.foreign {
            let own: HashSet<_> = self.containers().await?.into_iter().map(|c| c.id).collect();
            for network in &mut all {
                network.containers.retain(|id| own.contains(id));
            }
        }
        Ok(all)
    }

    async fn network(&self, id: &str) -> Result<NetworkDetails> {
        let id = self.visible_network(id).await?.id;
        let mut details = self.engine.network(&id).await?;
        if !self.foreign {
            let own: HashSet<_> = self.containers().await?.into_iter().map(|c| c.id).collect();
            details.info.containers.retain(|id| own.contains(id));
            // It names the others, too.
            details.raw = Value::Null;
        }
        Ok(details)
    }

    async fn connect_network(&self, container: &str, network: &str) -> Result<()> {
        let container = self.container(container).await?;
        let network = Self::joinable(&self.visible_networks().await?, "networkId", network)?;
        self.engine.connect_network(&container, &network).await
    }

    async fn disconnect_network(&self, container: &str, network: &str) -> Result<()> {
        let container = self.container(container).await?;
        let network = self.visible_network(network).await?;
        self.engine.disconnect_network(&container, &network.id).await
    }

    async fn create_volume(&self, name: &str, options: &VolumeOptions) -> Result<String> {
        if let Some(driver) = options.driver.as_deref().filter(|d| *d != LOCAL) {
            return Err(denied("driver".into(), format!("driver: volumes of the driver {driver} lie elsewhere")));
        }
        let options = VolumeOptions { driver: options.driver.clone(), labels: self.labelled(&options.labels) };
        self.create_missing(&[("name".to_owned(), name.to_owned())], &options).await?;
        Ok(name.to_owned())
    }

    async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let found = self.volumes().await?.into_iter().any(|v| v.name == name);
        match (found, force) {
            (true, _) => self.engine.remove_volume(name, force).await,
            // As in an engine, force accepts a missing volume.
            (false, true) => Ok(()),
            (false, false) => Err(not_found(ErrorCode::VolumeNotFound, "volume", name)),
        }
    }

    async fn volumes(&self) -> Result<Vec<VolumeInfo>> {
        let mut all = self.engine.volumes().await?;
        all.retain(|v| self.has_our_label(&v.labels));
        Ok(all)
    }

    async fn volume(&self, name: &str) -> Result<VolumeDetails> {
        let details = self.engine.volume(name).await?;
        if self.has_our_label(&details.labels) {
            return Ok(details);
        }
        Err(not_found(ErrorCode::VolumeNotFound, "volume", name))
    }

    async fn events(&self, options: &EventOptions) -> Result<BoxStream<RuntimeEvent>> {
        let events = self.engine.events(options).await?;
        if self.foreign {
            return Ok(events);
        }
        // Read after the subscription: an object created meanwhile gives an event.
        let wanted = |kind: &str| options.filters.get("type").is_none_or(|t| t.iter().any(|t| t == kind));
        let mut known = EventFilter {
            of: Self { engine: self.engine.clone(), app: self.app.clone(), foreign: false, powers: false },
            networks: Vec::new(),
            volumes: HashSet::new(),
            images: self.engine.is_private().await?,
        };
        if wanted("network") {
            known.reload(EventKind::Network).await?;
        }
        if wanted("volume") {
            known.reload(EventKind::Volume).await?;
        }
        let own = futures_util::stream::unfold((events, known), |(mut events, mut known)| async {
            loop {
                match events.next().await? {
                    Ok(event) if !known.is_own(&event).await => {}
                    next => return Some((next, (events, known))),
                }
            }
        });
        Ok(own.boxed())
    }
}

#[async_trait]
impl Engine for Restricted {
    fn runtime_type(&self) -> RuntimeType {
        self.engine.runtime_type()
    }

    async fn is_private(&self) -> Result<bool> {
        self.engine.is_private().await
    }

    async fn own_dirs(&self) -> Result<Vec<PathBuf>> {
        self.engine.own_dirs().await
    }

    async fn copied_path(&self, field: &str, path: &str) -> Result<Links> {
        self.keep_engine(vec![(field.to_owned(), path.to_owned())]).await?;
        Ok(Links::Refused)
    }

    async fn build(&self, mut build: Build, progress: &Sink<BuildProgress>) -> Result<String> {
        build.apart(&self.app)?;
        self.engine.build(build, progress).await
    }

    /// What a project asks for, compose alone knows: paths, powers, names of others' things.
    fn may_compose(&self) -> Result<()> {
        if self.powers {
            return Ok(());
        }
        let problem = "project: a project of compose may ask for any power over the engine's machine";
        Err(denied("project".to_owned(), problem.to_owned()))
    }

    async fn compose(&self, run: &Composition, progress: &Sink<ComposeProgress>) -> Result<()> {
        self.may_compose()?;
        self.engine.compose(run, progress).await
    }

    async fn composed(&self, project: &str) -> Result<Vec<ComposeContainer>> {
        self.may_compose()?;
        self.engine.composed(project).await
    }

    async fn load_image(&self, archive: BoxStream<Bytes>) -> Result<Vec<String>> {
        self.engine.load_image(archive).await
    }

    async fn write_path(&self, id: &str, directory: &str, archive: BoxStream<Bytes>) -> Result<()> {
        self.engine.write_path(&self.container(id).await?, directory, archive).await
    }

    async fn create_network(&self, name: &str, options: &NetworkOptions) -> Result<String> {
        if let Some(driver) = options.driver.as_deref().filter(|d| *d != BRIDGE) {
            return Err(denied("driver".into(), format!("driver: networks with the driver {driver} reach the host's")));
        }
        if SPECIAL_NETWORK_NAMES.contains(&name) {
            return Err(Error::new(ErrorCode::NameInUse, format!("The name {name} has a meaning of its own"))
                .detail("field", "name"));
        }
        self.engine.create_network(name, options).await
    }

    async fn prune(&self, options: &PruneOptions) -> Result<PruneResult> {
        if self.foreign {
            return self.engine.prune(options).await;
        }
        // No image carries the label; on the application's own engine, all images are the application's.
        let images = PruneOptions { images: options.images, ..PruneOptions::default() };
        let others = PruneOptions { images: None, scope: Some(PruneScope::App), ..options.clone() };
        let mut result = self.engine.prune(&others).await?;
        let images = self.engine.prune(&images).await?;
        result.images_deleted = images.images_deleted;
        result.reclaim(images.space_reclaimed);
        Ok(result)
    }
}

/// Decides whose an event is. A container's event says so itself; about a network or a volume that is gone, nobody can be
/// asked.
struct EventFilter {
    of: Restricted,
    /// Id and name: engines give either.
    networks: Vec<(String, String)>,
    volumes: HashSet<String>,
    images: bool,
}

impl EventFilter {
    async fn reload(&mut self, kind: EventKind) -> Result<()> {
        if kind == EventKind::Volume {
            self.volumes.extend(self.of.volumes().await?.into_iter().map(|v| v.name));
        } else {
            let mut all = self.of.engine.networks().await?;
            all.retain(|n| self.of.has_our_label(&n.labels));
            self.networks.extend(all.into_iter().map(|n| (n.id, n.name)));
        }
        Ok(())
    }

    async fn is_own(&mut self, event: &RuntimeEvent) -> bool {
        match event.kind {
            EventKind::Container => return event.app.as_deref() == Some(&*self.of.app),
            EventKind::Image => return self.images,
            EventKind::Network | EventKind::Volume => {}
        }
        // If the engine does not answer, the event is not passed on.
        if event.action == "create" && self.reload(event.kind).await.is_err() {
            return false;
        }
        let gone = event.action == "destroy";
        if event.kind == EventKind::Volume {
            return if gone { self.volumes.remove(&event.id) } else { self.volumes.contains(&event.id) };
        }
        let meant = |(id, name): &(String, String)| *id == event.id || *name == event.id;
        let own = self.networks.iter().any(meant);
        if gone {
            self.networks.retain(|n| !meant(n));
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, is_default: bool) -> NetworkInfo {
        NetworkInfo {
            id: format!("id of {name}"),
            name: name.to_owned(),
            driver: BRIDGE.to_owned(),
            containers: Vec::new(),
            labels: Labels::default(),
            is_default,
        }
    }

    #[test]
    fn the_default_network_can_be_joined_before_the_engine_has_made_it() {
        let join = |all: &[NetworkInfo], word: &str| Restricted::joinable(all, "networks[0]", word);
        assert_eq!(join(&[], BRIDGE).unwrap(), BRIDGE);
        assert_eq!(join(&[network("bridge", true)], BRIDGE).unwrap(), "id of bridge");
        // Podman's has another name: `bridge` would be somebody's network there, of which nothing is known here.
        assert_eq!(join(&[network("podman", true)], BRIDGE).unwrap_err().code(), ErrorCode::NetworkNotFound);
        assert_eq!(join(&[], "other").unwrap_err().code(), ErrorCode::NetworkNotFound);
    }

    #[cfg(unix)]
    #[test]
    fn a_path_is_where_its_links_lead_and_a_missing_part_where_it_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let dir = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(dir.join("data")).unwrap();
        std::os::unix::fs::symlink(dir.join("data"), dir.join("link")).unwrap();
        assert_eq!(real(&dir.join("link/sock/x")), dir.join("data/sock/x"));
        assert_eq!(real(&dir.join("link/..")), dir);
        assert_eq!(real(&dir.join("none")), dir.join("none"));
    }
}

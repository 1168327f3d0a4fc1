//! What is the same on every backend: the checks, the timeouts, and the methods that take several engine calls.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backend::{BoxRead, BoxStream, Engine},
    build::{Build, BuildContext},
    compose::{Action, Composition, Runs},
    config,
    copy::{self, Place, Source},
    methods::adapter_methods,
    process::ContainerProcess,
    reference, refused,
    restricted::Restricted,
    stats::StatsHistory,
    types::*,
    validate, wait, watch,
};
use crate::{
    call::{CONTAINER_CALL, Call, Warnings},
    error::{Error, ErrorCode, Result},
    fetch::held::Links,
    process::Collected,
    progress::{self, BuildProgress, ComposeProgress, PullProgress, Sink},
    task,
};

/// A backend as callers use it. It is cheap to clone.
#[derive(Clone)]
pub struct Adapter {
    engine: Arc<dyn Engine>,
    stats: Arc<StatsHistory>,
    app: Arc<str>,
    /// Running removals of the containers that aborted starts had created.
    discards: TaskTracker,
    projects: Runs,
}

impl Adapter {
    /// `app` is the value of [`APP_LABEL`] on everything that this adapter creates.
    pub fn new(engine: Arc<dyn Engine>, app: impl Into<Arc<str>>) -> Self {
        let discards = TaskTracker::new();
        // `wait` needs a closed tracker, which accepts new tasks nevertheless.
        discards.close();
        Self { engine, stats: Arc::default(), app: app.into(), discards, projects: Runs::default() }
    }

    pub fn runtime_type(&self) -> RuntimeType {
        self.engine.runtime_type()
    }

    /// The same for callers that are not trusted: see [`Restricted`].
    #[must_use]
    pub fn restricted(&self, RestrictedOptions { foreign, powers }: RestrictedOptions) -> Self {
        let engine = Arc::new(Restricted { engine: self.engine.clone(), app: self.app.clone(), foreign, powers });
        Self { engine, ..self.clone() }
    }

    // ---- containers ---------------------------------------------------------------------------------------------

    /// Pulls the image if it is missing, then creates and starts the container. When anything after the create fails or is
    /// aborted, the container is removed again.
    pub async fn start_container(&self, spec: ContainerSpec, call: &Call) -> Result<String> {
        self.make(spec, true, call).await
    }

    /// The same, without the start.
    pub async fn create_container(&self, spec: ContainerSpec, call: &Call) -> Result<String> {
        self.make(spec, false, call).await
    }

    /// Starts one that is there; its full id.
    pub async fn start_existing(&self, id: &str, call: &Call) -> Result<String> {
        validate::id_or_name("id", id)?;
        call.run(CONTAINER_CALL, async {
            // By its id: what it is called may be another's when it has started.
            let found = self.engine.inspect(id).await?.id;
            self.engine.start(&found).await?;
            Ok(found)
        })
        .await
    }

    async fn make(&self, mut spec: ContainerSpec, starts: bool, call: &Call) -> Result<String> {
        config::container(&spec)?;
        for path in config::host_paths_mut(&mut spec) {
            *path = validate::clean_path(path);
        }
        self.add_app_label(&mut spec.labels);
        // Only Docker knows this word.
        if spec.networks == [validate::DEFAULT_NETWORK] && spec.network_options.is_empty() {
            spec.networks.clear();
        }
        // The pull gets no timeout from here: it has an idle timeout.
        call.run(None, async {
            // A caller that aborts a start and repeats it must not find the name still taken by the first try.
            self.discards.wait().await;
            // An image of that name for another platform does not count.
            if !self.engine.image_exists(&spec.image, spec.platform.as_deref()).await? {
                if reference::is_id(&spec.image) {
                    return Err(reference::not_found(&spec.image)
                        .hint("No registry knows an image by its id: pull it by its name."));
                }
                let options =
                    PullOptions { platform: spec.platform.clone(), auth: None, credentials: spec.credentials };
                self.engine.pull(&spec.image, &options, &progress::ignore()).await?;
            }
            Ok(())
        })
        .await?;
        // This is a task of its own, so that an abort cannot leave a created container behind.
        let engine = self.engine.clone();
        let gone = CancellationToken::new();
        let stopped = gone.clone();
        let work = async move {
            let id = engine.create(&spec).await.map_err(|e| refused::start(e, &spec))?;
            let started = match stopped.is_cancelled() {
                true => Err(crate::call::aborted()),
                false if starts => engine.start(&id).await,
                false => Ok(()),
            };
            match started {
                Ok(()) => Ok(id),
                Err(e) => {
                    discard(engine.as_ref(), &id).await;
                    Err(refused::start(e, &spec))
                }
            }
        };
        let engine = self.engine.clone();
        let late = |id: String| async move { discard(engine.as_ref(), &id).await };
        self.apart(CONTAINER_CALL, &gone, call, work, late).await
    }

    /// Runs `work` in a task of its own. A caller who aborts, or who drops this future, cancels `gone`, and the work ends as it sees
    /// fit; `late` gets what it then still gives. Others who wait for `discards` wait for that.
    async fn apart<T: Send + 'static, L: Future<Output = ()> + Send + 'static>(
        &self,
        deadline: impl Into<Option<Duration>>,
        gone: &CancellationToken,
        call: &Call,
        work: impl Future<Output = Result<T>> + Send + 'static,
        late: impl FnOnce(T) -> L + Send + 'static,
    ) -> Result<T> {
        let mut work = task::spawn(Warnings::scope(call.warnings.clone(), work));
        let dropped = gone.clone().drop_guard();
        match call.run(deadline, async { Ok((&mut work).await) }).await {
            Ok(joined) => {
                dropped.disarm();
                joined.unwrap_or_else(|e| Err(Error::internal(e.to_string())))
            }
            Err(early) => {
                self.discards.spawn(async move {
                    match tokio::time::timeout(GIVEN_UP, &mut work).await {
                        Ok(Ok(Ok(made))) => late(made).await,
                        Ok(_) => {}
                        Err(_) => work.abort(),
                    }
                });
                Err(early)
            }
        }
    }

    pub async fn update_container(&self, id: &str, changes: &ContainerUpdate, call: &Call) -> Result<()> {
        validate::id_or_name("id", id)?;
        config::update(changes)?;
        call.run(CONTAINER_CALL, self.engine.update(id, changes)).await.map_err(|e| refused::update(e, changes))
    }

    pub async fn stop_container(&self, id: &str, timeout: Option<f64>, call: &Call) -> Result<()> {
        validate::id_or_name("id", id)?;
        let timeout = validate::seconds("timeout", timeout)?;
        let call = &call.in_steps();
        let deadline = self.stop_deadline(id, timeout, call).await?;
        call.run(deadline, self.engine.stop(id, timeout)).await
    }

    pub async fn restart_container(&self, id: &str, timeout: Option<f64>, call: &Call) -> Result<()> {
        validate::id_or_name("id", id)?;
        let timeout = validate::seconds("timeout", timeout)?;
        let call = &call.in_steps();
        let deadline = self.stop_deadline(id, timeout, call).await?;
        call.run(deadline, self.engine.restart(id, timeout)).await
    }

    /// The container's stop timeout plus 30 s for the engine's own work; no limit if the container may take any time. The
    /// container's own timeout is looked up only if the caller gives neither.
    async fn stop_deadline(&self, id: &str, timeout: Option<u32>, call: &Call) -> Result<Option<Duration>> {
        let timeout = match timeout {
            Some(seconds) => StopTimeout::Seconds(seconds),
            None if call.timeout.is_some() => return Ok(None),
            None => call.run(CONTAINER_CALL, self.engine.stop_timeout(id)).await?,
        };
        Ok(match timeout {
            StopTimeout::Seconds(seconds) => Some(Duration::from_secs(u64::from(seconds) + 30)),
            StopTimeout::Never => None,
        })
    }

    pub async fn kill_container(&self, id: &str, signal: Option<&str>, call: &Call) -> Result<()> {
        validate::id_or_name("id", id)?;
        let signal = validate::signal("signal", signal)?;
        call.run(CONTAINER_CALL, self.engine.kill(id, &signal)).await
    }

    /// Waits without a limit, unless the caller gives a `timeoutMs`.
    pub async fn wait_container(&self, id: &str, options: &WaitOptions, call: &Call) -> Result<WaitResult> {
        validate::id_or_name("id", id)?;
        let wait = async {
            match options.condition {
                WaitCondition::Exited => self.engine.wait(id).await,
                condition => wait::until(self.engine.as_ref(), id, condition).await.map(|()| WaitResult::default()),
            }
        };
        call.run(None, wait).await
    }

    pub async fn rename_container(&self, id: &str, name: &str, call: &Call) -> Result<()> {
        validate::id_or_name("id", id)?;
        validate::object_name("name", name)?;
        call.run(CONTAINER_CALL, async {
            let info = self.engine.inspect(id).await?;
            // Engines disagree about a name that it has.
            if info.name == name { Ok(()) } else { self.engine.rename(&info.id, name).await }
        })
        .await
    }

    pub async fn list_containers(&self, options: &ListOptions, call: &Call) -> Result<Vec<ContainerInfo>> {
        validate::container_filters("filters", &options.filters)?;
        let found = call.run(CONTAINER_CALL, self.engine.list(options)).await?;
        // Docker also returns names that only contain the given one; callers take `[0]` and expect the exact one.
        let Some(names) = options.filters.get("name") else { return Ok(found) };
        let exact = |c: &ContainerInfo| names.iter().any(|n| n.trim_start_matches('/') == c.name);
        let (mut exact, others): (Vec<_>, Vec<_>) = found.into_iter().partition(exact);
        exact.extend(others);
        Ok(exact)
    }

    /// All containers that the filters let through, now and after each change.
    pub async fn watch_containers(&self, options: &WatchOptions, call: &Call) -> Result<BoxStream<Vec<ContainerInfo>>> {
        validate::container_filters("filters", &options.filters)?;
        call.run(CONTAINER_CALL, watch::containers(self.engine.clone(), options.filters.clone())).await
    }

    pub async fn logs(&self, id: &str, options: &LogOptions, call: &Call) -> Result<BoxStream<OutputChunk>> {
        validate::id_or_name("id", id)?;
        validate::log_options(options)?;
        if options.tail == Some(0.0) && !options.follow {
            // The container must exist nevertheless.
            call.run(CONTAINER_CALL, self.engine.inspect(id)).await?;
            return Ok(futures_util::stream::empty().boxed());
        }
        call.run(CONTAINER_CALL, self.engine.logs(id, options)).await
    }

    pub async fn container_stats(&self, id: &str, call: &Call) -> Result<ContainerStats> {
        validate::id_or_name("id", id)?;
        call.run(CONTAINER_CALL, self.stats.measure(self.engine.as_ref(), id)).await
    }

    pub async fn stream_stats(&self, id: &str, call: &Call) -> Result<BoxStream<ContainerStats>> {
        validate::id_or_name("id", id)?;
        let samples = call.run(CONTAINER_CALL, self.engine.samples(id)).await?;
        Ok(super::stats::of_samples(samples))
    }

    /// Starts `argv`. The deadline is that of the start.
    pub async fn spawn(
        &self,
        id: &str,
        argv: &[String],
        options: &SpawnOptions,
        call: &Call,
    ) -> Result<ContainerProcess> {
        validate::id_or_name("id", id)?;
        validate::spawn(argv, options)?;
        call.run(CONTAINER_CALL, self.spawned(id, argv, options)).await
    }

    async fn spawned(&self, id: &str, argv: &[String], options: &SpawnOptions) -> Result<ContainerProcess> {
        let attached = self.engine.exec(id, argv, options).await.map_err(|e| refused::exec(e, options))?;
        Ok(ContainerProcess::new(attached, options.has_input(), Some(options.clone())))
    }

    /// Attaches to the container's own process. The deadline is that of the attaching.
    pub async fn attach(&self, id: &str, options: &AttachOptions, call: &Call) -> Result<ContainerProcess> {
        validate::id_or_name("id", id)?;
        let attached = call.run(CONTAINER_CALL, self.engine.attach(id, options)).await?;
        Ok(ContainerProcess::new(attached, options.stdin, None))
    }

    /// Runs `argv` and waits for its end. `input` is written to its standard input, which is then closed. A process that
    /// prints more than its limit is ended, as is one whose caller is gone.
    pub async fn exec(
        &self,
        id: &str,
        argv: &[String],
        options: &ExecOptions,
        input: Option<Bytes>,
        call: &Call,
    ) -> Result<ExecOutput> {
        validate::id_or_name("id", id)?;
        let (limit, options) = validate::exec(argv, options, input.is_some())?;
        call.run(None, async {
            let ContainerProcess { stdin, mut stdout, stderr, end, held: _held, .. } =
                self.spawned(id, argv, &options).await?;
            let mut stderr = stderr.unwrap_or_else(|| futures_util::stream::empty().boxed());
            let feed = async {
                // A process that ends without reading its input breaks the pipe; its exit code tells the caller enough.
                if let (Some(mut stdin), Some(bytes)) = (stdin, input) {
                    let _ = stdin.write_all(&bytes).await;
                    let _ = stdin.shutdown().await;
                }
                std::future::pending::<()>().await;
            };
            let collect = async {
                let mut kept = Collected::up_to(limit);
                let (mut out, mut err) = (true, true);
                while out || err {
                    tokio::select! {
                        data = stdout.next(), if out => match data {
                            Some(data) => kept.stdout(&data?)?,
                            None => out = false,
                        },
                        data = stderr.next(), if err => match data {
                            Some(data) => kept.stderr(&data?)?,
                            None => err = false,
                        },
                    }
                }
                Ok::<_, Error>(kept)
            };
            let kept = tokio::select! {
                out = collect => out?,
                () = feed => unreachable!("feeding never ends before the output"),
            };
            let exit_code = end.code().await?;
            Ok(ExecOutput { exit_code, stdout: kept.stdout.into(), stderr: kept.stderr.into() })
        })
        .await
    }

    // ---- files --------------------------------------------------------------------------------------------------

    /// Copies a file or a directory of this computer, without a deadline of its own.
    pub async fn copy_file_to_container(&self, id: &str, source: &str, path: &str, call: &Call) -> Result<()> {
        validate::id_or_name("id", id)?;
        validate::file("source", source)?;
        validate::container_path("containerPath", path)?;
        call.run(None, async {
            let given = source.to_owned();
            let links = self.engine.copied_path("source", source).await?;
            let source = task::blocking(move || Source::find(&given, links)).await?;
            let mut place = Place::of(path);
            let there = self.at(id, &mut place).await?;
            let target = copy::target(&place, there.as_ref(), &source)?;
            self.engine.write_path(id, &target.directory, source.pack(target.name)).await
        })
        .await
    }

    /// Unpacks a tar in a directory of a container, without a deadline of its own.
    pub async fn copy_to_container(&self, id: &str, archive: BoxRead, path: &str, call: &Call) -> Result<()> {
        validate::id_or_name("id", id)?;
        validate::container_path("containerPath", path)?;
        let pieces = tokio_util::io::ReaderStream::with_capacity(archive, 64 * 1024)
            .map(|r| r.map_err(|e| Error::new(ErrorCode::EngineError, format!("Reading the archive: {e}")).source(e)));
        call.run(None, async {
            let mut place = Place::of(path);
            match self.at(id, &mut place).await? {
                Some(PathKind::Directory) => self.engine.write_path(id, &place.path, pieces.boxed()).await,
                Some(_) => Err(Error::invalid("containerPath", format!("{path} is not a directory"))),
                None => Err(Error::invalid("containerPath", format!("{path} is not there"))
                    .hint("A tar is unpacked in a directory of the container.")),
            }
        })
        .await
    }

    /// What is at the place, with a link there followed.
    async fn at(&self, id: &str, place: &mut Place) -> Result<Option<PathKind>> {
        match self.engine.path_kind(id, &place.path).await? {
            Some(PathKind::Link(Some(to))) => {
                place.path = to;
                self.engine.path_kind(id, &place.path).await
            }
            Some(PathKind::Link(None)) => Err(Error::invalid("containerPath", "is a link that leads nowhere")),
            other => Ok(other),
        }
    }

    /// A tar; an empty one where it is unpacked here.
    pub async fn copy_from_container(
        &self,
        id: &str,
        path: &str,
        options: &CopyFromOptions,
        call: &Call,
    ) -> Result<BoxStream<Bytes>> {
        validate::id_or_name("id", id)?;
        validate::container_path("containerPath", path)?;
        let Some(to) = &options.to else { return call.run(CONTAINER_CALL, self.engine.read_path(id, path)).await };
        validate::file("to", to)?;
        call.run(None, async {
            let links = self.engine.copied_path("to", to).await?;
            let archive = self.engine.read_path(id, path).await?;
            copy::unpack(archive, to.into(), links).await
        })
        .await?;
        Ok(futures_util::stream::empty().boxed())
    }

    pub async fn events(&self, options: &EventOptions, call: &Call) -> Result<BoxStream<RuntimeEvent>> {
        validate::event_options(options)?;
        call.run(CONTAINER_CALL, self.engine.events(options)).await
    }

    // ---- images -------------------------------------------------------------------------------------------------

    pub async fn pull_image(
        &self,
        image: &str,
        options: &PullOptions,
        progress: Sink<PullProgress>,
        call: &Call,
    ) -> Result<()> {
        validate::reference_of_image("name", image)?;
        validate::pull_options(options)?;
        let progress = progress::pull_forward_only(progress);
        call.run(None, self.engine.pull(image, options, &progress)).await
    }

    pub async fn push_image(
        &self,
        image: &str,
        options: &PushOptions,
        progress: Sink<PullProgress>,
        call: &Call,
    ) -> Result<()> {
        validate::image_to_push("name", image)?;
        validate::auth(options.auth.as_ref())?;
        let progress = progress::pull_forward_only(progress);
        call.run(None, self.engine.push(image, options, &progress)).await
    }

    /// Without a deadline: a step may say nothing for long.
    pub async fn build_image(
        &self,
        context: BuildContext,
        options: BuildOptions,
        progress: Sink<BuildProgress>,
        call: &Call,
    ) -> Result<BuiltImage> {
        call.run(None, async {
            let links = match &context {
                BuildContext::Directory(path) => {
                    validate::file("context", path)?;
                    self.engine.copied_path("context", path).await?
                }
                BuildContext::Tar(_) => Links::Followed,
            };
            let build = Build::of(context, options, links, &progress).await?;
            self.engine.build(build, &progress).await.map(|id| BuiltImage { id })
        })
        .await
    }

    /// Without a deadline of its own: what a container has changed may be large.
    pub async fn commit_container(&self, id: &str, options: &CommitOptions, call: &Call) -> Result<String> {
        validate::id_or_name("id", id)?;
        validate::commit_options(options)?;
        call.run(None, self.engine.commit(id, options)).await
    }

    pub async fn image_exists(&self, image: &str, call: &Call) -> Result<bool> {
        validate::image("name", image)?;
        call.run(CONTAINER_CALL, self.engine.image_exists(image, None)).await
    }

    pub async fn load_image_file(&self, path: &std::path::Path, call: &Call) -> Result<Vec<String>> {
        validate::file("archive", &path.to_string_lossy())?;
        let no_file = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => Error::invalid("archive", format!("{} does not exist", path.display())),
            std::io::ErrorKind::PermissionDenied => Error::io(e, "Cannot read", path),
            // For example a file with a slash behind its name, a name that is too long, or a loop of links.
            _ => Error::invalid("archive", format!("cannot read {}: {e}", path.display())).source(e),
        };
        // The kind is checked before the file is opened: opening a pipe without a writer would block.
        let kind =
            call.run(CONTAINER_CALL, async { tokio::fs::metadata(path).await.map_err(no_file) }).await?.file_type();
        if kind.is_dir() || is_pipe(kind) {
            let what = if kind.is_dir() { "is a directory" } else { "is a pipe or a socket: pass a stream" };
            return Err(Error::invalid("archive", format!("{} {what}", path.display())));
        }
        let file = call.run(CONTAINER_CALL, async { tokio::fs::File::open(path).await.map_err(no_file) }).await?;
        self.load_image(Box::new(file), call).await
    }

    pub async fn load_image(&self, archive: BoxRead, call: &Call) -> Result<Vec<String>> {
        let chunks = tokio_util::io::ReaderStream::with_capacity(archive, 64 * 1024)
            .map(|r| r.map_err(|e| Error::new(ErrorCode::EngineError, format!("Reading the archive: {e}")).source(e)));
        call.run(None, self.engine.load_image(chunks.boxed())).await
    }

    pub async fn save_image(&self, images: &[String], call: &Call) -> Result<BoxStream<Bytes>> {
        if images.is_empty() {
            return Err(Error::invalid("images", "at least one is needed"));
        }
        for (i, image) in images.iter().enumerate() {
            validate::image(&format!("images[{i}]"), image)?;
        }
        call.run(CONTAINER_CALL, self.engine.save_image(images)).await
    }

    // ---- projects of compose ------------------------------------------------------------------------------------

    /// Without a deadline. What an aborted one has made, where it made all of the project, is taken down again.
    pub async fn compose_up(
        &self,
        file: Option<&str>,
        object: Option<&str>,
        options: &ComposeUpOptions,
        progress: Sink<ComposeProgress>,
        call: &Call,
    ) -> Result<()> {
        let ComposeUpOptions { project_name, directory, env, profiles, services, pull, build, wait, remove_orphans } =
            options.clone();
        let action = Action::Up { services, pull, build: build.then_some(true), wait, remove_orphans };
        let options = ComposeOptions { project_name, directory, env, profiles };
        self.compose((file, object), options, action, progress, call).await
    }

    pub async fn compose_down(
        &self,
        file: Option<&str>,
        object: Option<&str>,
        options: &ComposeDownOptions,
        progress: Sink<ComposeProgress>,
        call: &Call,
    ) -> Result<()> {
        let ComposeDownOptions { project_name, directory, env, profiles, volumes, remove_orphans } = options.clone();
        let options = ComposeOptions { project_name, directory, env, profiles };
        self.compose((file, object), options, Action::Down { volumes, remove_orphans }, progress, call).await
    }

    pub async fn compose_ps(
        &self,
        file: Option<&str>,
        object: Option<&str>,
        options: &ComposePsOptions,
        call: &Call,
    ) -> Result<Vec<ComposeContainer>> {
        let options = ComposeOptions { project_name: options.project_name.clone(), ..ComposeOptions::default() };
        call.run(CONTAINER_CALL, async {
            let run = self.composition((file, object), options, Action::CHECK).await?;
            self.engine.composed(&run.name).await
        })
        .await
    }

    async fn composition(
        &self,
        (file, object): (Option<&str>, Option<&str>),
        options: ComposeOptions,
        action: Action,
    ) -> Result<Composition> {
        self.engine.may_compose()?;
        let (file, object) = (file.map(str::to_owned), object.map(str::to_owned));
        task::blocking(move || Composition::of((file.as_deref(), object.as_deref()), &options, action)).await
    }

    async fn compose(
        &self,
        project: (Option<&str>, Option<&str>),
        options: ComposeOptions,
        action: Action,
        progress: Sink<ComposeProgress>,
        call: &Call,
    ) -> Result<()> {
        let call = &call.in_steps();
        let is_up = matches!(action, Action::Up { .. });
        let (run, before, ours) = call
            .run(None, async {
                let run = self.composition(project, options, action).await?;
                // What an aborted one has made is being taken down.
                self.discards.wait().await;
                let ours = self.projects.join(&run.name);
                let before = self.engine.composed(&run.name).await?;
                Ok((run, before, ours))
            })
            .await?;
        let made_all = is_up && before.is_empty();
        let (engine, asked) = (self.engine.clone(), run.clone());
        // A task of its own, so that an abort leaves neither a running compose nor half a project.
        let work = async move {
            let outcome = engine.compose(&asked, &progress).await;
            if made_all && asked.gone.is_cancelled() && ours.is_alone() {
                let down = asked.back();
                if let Err(error) = engine.compose(&down, &progress::ignore()).await {
                    tracing::warn!(project = %down.name, %error, "could not take down what an aborted up had made");
                }
            }
            outcome
        };
        let error = match self.apart(None, &run.gone, call, work, |()| async {}).await {
            Ok(()) => return Ok(()),
            Err(early) if run.gone.is_cancelled() => return Err(early),
            Err(e) => e,
        };
        // As compose leaves it; the next `up` goes on from there.
        let left = if is_up && error.code() != ErrorCode::InvalidArgument {
            call.run(CONTAINER_CALL, self.engine.composed(&run.name)).await.unwrap_or_default()
        } else {
            Vec::new()
        };
        let left: Vec<_> = left.into_iter().map(|c| c.info.name).collect();
        Err(if left.is_empty() { error } else { error.detail("left", left) })
    }

    // ---- networks and volumes -----------------------------------------------------------------------------------

    pub async fn create_network(&self, name: &str, options: &NetworkOptions, call: &Call) -> Result<String> {
        validate::network_to_create("name", name)?;
        validate::driver(options.driver.as_deref())?;
        validate::labels("labels", &options.labels)?;
        call.run(CONTAINER_CALL, self.engine.create_network(name, options)).await
    }

    pub async fn create_volume(&self, name: &str, options: &VolumeOptions, call: &Call) -> Result<String> {
        validate::object_name("name", name)?;
        validate::driver(options.driver.as_deref())?;
        validate::labels("labels", &options.labels)?;
        let mut options = options.clone();
        self.add_app_label(&mut options.labels);
        call.run(CONTAINER_CALL, self.engine.create_volume(name, &options)).await
    }

    /// Without any kind given: containers, dangling images and networks.
    pub async fn prune(&self, options: &PruneOptions, call: &Call) -> Result<PruneResult> {
        let mut options = options.clone();
        if [options.containers, options.images, options.volumes, options.networks].iter().all(Option::is_none) {
            options.containers = Some(true);
            options.images = Some(true);
            options.networks = Some(true);
        }
        call.run(None, self.engine.prune(&options)).await
    }

    fn add_app_label(&self, labels: &mut Labels) {
        labels.entry(APP_LABEL.to_owned()).or_insert_with(|| self.app.to_string());
    }
}

macro_rules! checked_methods {
    ($($name:ident = $engine:ident($($arg:ident: $type:ty $(, $check:ident as $field:literal)?);*) -> $answer:ty;)*) => {
        impl Adapter {$(
            pub async fn $name(&self, $($arg: $type,)* call: &Call) -> Result<$answer> {
                $($(validate::$check($field, $arg)?;)?)*
                call.run(CONTAINER_CALL, self.engine.$engine($($arg),*)).await
            }
        )*}
    };
}
adapter_methods!(checked_methods);

#[cfg(unix)]
fn is_pipe(kind: std::fs::FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    kind.is_fifo() || kind.is_socket()
}

#[cfg(not(unix))]
fn is_pipe(_: std::fs::FileType) -> bool {
    false
}

/// How long an abandoned start may still take: a hanging program would hold up the starts after it.
const GIVEN_UP: Duration = Duration::from_secs(180);

async fn discard(engine: &dyn Engine, id: &str) {
    if let Err(cleanup) = Call::default().run(CONTAINER_CALL, engine.remove(id, true)).await
        // One that removes itself.
        && cleanup.code() != ErrorCode::ContainerNotFound
    {
        tracing::warn!(%id, %cleanup, "could not remove a container that failed to start");
    }
}

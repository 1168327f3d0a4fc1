//! Installs Lima's programs and the files that a first boot needs.

#[cfg(unix)]
use std::path::Path;
use std::{cmp::Ordering, fs, path::PathBuf, sync::Arc, time::Duration};

use serde::Deserialize;

use super::{
    runtime::{LimaRuntime, LimaState},
    state::CopyMode,
};
#[cfg(unix)]
use crate::lima::{instance::Instance, previous::needed as needed_by_copies};
use crate::{
    call::{CONTAINER_CALL, Call},
    error::{Error, ErrorCode, Result},
    fetch::{
        Remote,
        bundle::Bundle,
        disk,
        lock::Lock,
        manifest::{BakedEngine, Manifest, Part, Request, Wanted},
        platform::Platform,
        progress::Meter,
        record::{Look, Record},
    },
    log,
    manager::payload::Payload,
    progress::{Phase, RuntimeProgress, Sink, forward_only},
    task,
};

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct InstallOptions {
    /// Read every byte of the installation, and replace what differs from the record.
    pub repair: bool,
    /// Lima alone by default. A first boot also needs `image` and the engine's.
    #[serde(skip)]
    pub components: Vec<Part>,
    /// What the way back from an upgrade may cost.
    #[serde(skip)]
    pub copy: CopyMode,
    /// Also where a rollback holds the versions.
    #[serde(skip)]
    pub released: bool,
}

impl Default for InstallOptions {
    fn default() -> Self {
        Self { repair: false, components: vec![Part::Lima], copy: CopyMode::Auto, released: false }
    }
}

impl InstallOptions {
    pub fn for_boot(payload: &Payload) -> Self {
        Self { components: vec![Part::Lima, Part::Image, payload.part], ..Self::default() }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct UninstallOptions {
    /// Keep the VMs and the files they were made from.
    pub keep_data: bool,
}

impl LimaRuntime {
    /// Whether Lima is installed, as far as can be seen without reading its files.
    pub async fn is_installed(&self, call: &Call) -> Result<bool> {
        let home = self.home.clone();
        call.run(None, task::blocking(move || Ok(installed(&home, Look::Stat).is_some()))).await
    }

    /// Whether the application ships Lima.
    pub async fn has_pre_bundled(&self, call: &Call) -> Result<bool> {
        let (dirs, network) = (self.bundle_dirs(), self.options.network.clone());
        let work =
            task::blocking(move || Ok(Bundle::find(&dirs, Platform::current()?, Part::Lima, &network)?.is_some()));
        call.run(None, work).await
    }

    pub(super) fn bundle_dirs(&self) -> Vec<PathBuf> {
        match &self.options.bundled_dir {
            Some(dir) => vec![dir.clone()],
            None => Bundle::usual_dirs(self.options.resources_path.as_deref()),
        }
    }

    /// Only one process at a time works in `<dataDir>`.
    pub async fn lock(&self, call: &Call, deadline: impl Into<Option<Duration>> + Send) -> Result<Lock> {
        self.home.lock(call, deadline).await
    }

    /// Installs what is missing, in one step: an interrupted installation leaves the old state. When nothing is missing,
    /// nothing is written: an administrator's installation may be on a read-only disk.
    pub async fn install(&self, options: InstallOptions, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let installed = self.install_missing(&options, sink, &call.in_steps()).await;
        installed.inspect_err(log::failed("an installation"))
    }

    async fn install_missing(&self, options: &InstallOptions, sink: Sink<RuntimeProgress>, call: &Call) -> Result<()> {
        let meter = Meter::new(forward_only(sink));
        meter.say(Phase::Resolve, None, LOOKING);
        #[cfg(unix)]
        self.check_socket()?;
        let mut survey = Survey::default();
        // A repair reads every byte, but only once.
        if !options.repair {
            call.run(None, self.survey(options, &mut survey, &meter)).await?;
            if survey.is_satisfied() && self.has_programs() {
                meter.say(Phase::Ready, None, INSTALLED);
                return Ok(());
            }
        }
        let lock = self.lock(call, None).await?;
        call.run(None, self.apply(&lock, options, survey, &meter)).await?;
        meter.say(Phase::Ready, None, INSTALLED);
        Ok(())
    }

    /// Like [`LimaRuntime::install`], for a caller that holds the lock.
    pub async fn install_under(
        &self,
        lock: &Lock,
        options: &InstallOptions,
        sink: Sink<RuntimeProgress>,
    ) -> Result<()> {
        let meter = Meter::new(sink);
        meter.say(Phase::Resolve, None, LOOKING);
        self.apply(lock, options, Survey::default(), &meter).await
    }

    /// `before` is what was seen without the lock; only its manifest is still valid.
    async fn apply(&self, lock: &Lock, options: &InstallOptions, before: Survey, meter: &Arc<Meter>) -> Result<()> {
        self.end_rollbacks(lock).await?;
        let mut survey = Survey { remote: before.remote, ..Survey::default() };
        self.survey(options, &mut survey, meter).await?;
        let Survey { remote, bundle, requests, switch, replaces, required, .. } = survey;
        if let Some(record) = switch {
            self.home.switch_to(Part::Lima, &record)?;
        }
        let keep: Option<Manifest> = remote.as_ref().and_then(|r| r.as_ref().ok()).map(|r| r.manifest.clone());
        let open = async || match remote {
            Some(opened) => opened,
            None => self.options.network.open().await,
        };
        let platform = Platform::current()?;
        let fetched = self.home.fetch(&requests, platform, bundle.as_ref(), open, meter, lock).await;
        let ready = match fetched {
            // What is there will do until the network is back.
            Err(e) if e.code() == ErrorCode::DownloadFailed && !required => {
                crate::call::warn(e);
                Vec::new()
            }
            fetched => fetched?,
        };
        let changed = !ready.is_empty();
        // Under a hold Lima comes only where it was lost.
        let anew = changed && requests.iter().any(|request| request.part == Part::Lima);
        // Only now: the copy takes the place of an older one.
        if replaces && changed {
            self.keep_previous(lock, options.copy, meter).await?;
        }
        self.home.put(ready, platform, meter, lock).await?;
        let (this, released) = (self.clone(), options.released);
        lock.blocking(move || {
            this.write_programs()?;
            let state = this.recorded_state();
            // It holds the versions of a VM, and whatever else is brought is no upgrade of it.
            if state.held && (released || anew || instances(&this.instance_homes()).next().is_none()) {
                disk::write_json(&this.dir().join("state.json"), &LimaState { held: false, ..state })?;
            }
            if !changed {
                return Ok(());
            }
            this.prune(|digest| keep.as_ref().is_none_or(|manifest| manifest.names_digest(digest)))
        })
        .await
    }

    /// Removes what no VM and no copy of one needs; of downloads, not those that are `wanted`. Blocks.
    pub(super) fn prune(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let homes = self.instance_homes();
        let (kept, named) = needed_by_copies(&homes);
        let used = [named_by_instances(&homes), named].concat();
        self.home
            .prune(running(&homes), &kept, |digest| used.iter().any(|text| text.contains(digest)) || wanted(digest))
    }

    /// Whether a VM that is stopped for it would get other versions.
    #[cfg(unix)]
    pub(super) async fn would_change(&self, options: &InstallOptions) -> Result<bool> {
        let mut survey = Survey { as_stopped: true, ..Survey::default() };
        self.survey(options, &mut survey, &Meter::new(crate::progress::ignore())).await?;
        Ok(survey.replaces)
    }

    /// Finds out what is installed and what to do. Writes nothing.
    async fn survey(&self, options: &InstallOptions, survey: &mut Survey, meter: &Meter) -> Result<()> {
        let platform = Platform::current()?;
        let mut parts = options.components.clone();
        if !parts.contains(&Part::Lima) {
            parts.push(Part::Lima);
        }
        // What the image holds is known before the engine's turn comes.
        parts.sort_by_key(|part| (*part != Part::Image, *part));
        parts.dedup();
        let (dirs, network) = (self.bundle_dirs(), self.options.network.clone());
        survey.bundle = task::blocking(move || Bundle::find(&dirs, platform, Part::Lima, &network)).await?;
        let made = self.has_vm().await?;
        let mut baked = if made { self.baked_of_vm().await } else { None };
        let mut image_kept = true;

        // The network is not used for what is there: a remote manifest is read only when it decides.
        let depth = if options.repair { Look::Digest } else { Look::Stat };
        let (held, as_stopped) = (self.recorded_state().held && !options.released, survey.as_stopped);
        for part in parts {
            let bundled = survey.bundle.as_ref().and_then(|b| b.record(part).ok()).cloned();
            let wanted = if bundled.is_some() {
                if let Some(bundle) = &survey.bundle {
                    bundle.advise(part);
                }
                None
            } else {
                if survey.remote.is_none() {
                    survey.remote = Some(self.options.network.open().await);
                }
                match &survey.remote {
                    Some(Ok(remote)) => Some(remote.wanted(part, platform)?),
                    // Without a network, the installed version will do; a wrong option is still an error.
                    Some(Err(e)) if e.code() == ErrorCode::DownloadFailed => None,
                    _ => {
                        let e = survey.remote.take().and_then(Result::err);
                        return Err(e.unwrap_or_else(|| Error::internal("no manifest")));
                    }
                }
            };
            if options.repair {
                meter.say(Phase::Verify, Some(part), format!("Checking {}", part.title()));
            }
            let (home, homes) = (self.home.clone(), self.instance_homes());
            let in_image = baked.clone().filter(|engine| engine.part == part);
            let facts = task::blocking(move || {
                let installed = home.whole(part, depth);
                let is_there = installed.is_some();
                let (record, in_image) = newest(installed, in_image);
                let current = part != Part::Lima || record.as_ref().is_none_or(|r| home.is_current(part, r));
                Ok(PartFacts {
                    record,
                    current,
                    running: !as_stopped && running(&homes),
                    instances: instances(&homes).next().is_some(),
                    held,
                    in_image,
                    is_there,
                })
            })
            .await?;
            let asked = self.options.network.choice.versions.of(part).is_some();
            let replaces = facts.instances && part != Part::Image;
            let required = facts.record.is_none() || asked || options.repair || options.released;
            // In an image that is yet to come there is no engine while it does not come.
            survey.required |= facts.in_image && !facts.is_there && !image_kept;
            let there = facts.record.clone();
            match facts.decide(part, bundled.as_ref(), wanted.as_ref(), asked)? {
                Decision::Keep if part == Part::Image && !made => baked = there.and_then(|record| record.engine),
                Decision::Keep => {}
                Decision::Switch(record) => survey.switch = Some(record),
                Decision::Bring => {
                    if part == Part::Image && !made {
                        image_kept = false;
                        baked = engine_of(bundled.as_ref(), wanted.as_ref());
                    }
                    survey.requests.push(Request { part, unpacked: part == Part::Lima });
                    survey.replaces |= replaces;
                    survey.required |= required;
                }
            }
        }
        Ok(())
    }

    /// Removes what we installed; with `keep_data`, not the VMs and their files.
    pub async fn uninstall(&self, options: UninstallOptions, call: &Call) -> Result<()> {
        let call = &call.in_steps();
        let lock = self.lock(call, CONTAINER_CALL).await?;
        // Half of a VM may be in its copy.
        call.run(None, self.end_rollbacks(&lock)).await?;
        // A use would install what is to be gone.
        #[cfg(unix)]
        self.rests_no_more().await;
        let (home, homes) = (self.home.clone(), self.instance_homes());
        let work = task::blocking(move || {
            if running(&homes) {
                return Err(Error::new(ErrorCode::InUse, "The VM is running").hint("Stop it first."));
            }
            let dir = home.dir();
            // The record first: what an interruption leaves after that does not count as installed.
            for name in ["install.json", "current", "bin", "share", "sock", "versions"] {
                disk::remove(&dir.join(name))?;
            }
            if options.keep_data {
                let used = named_by_instances(&homes);
                crate::fetch::download::prune_cache(&home.cache(), |digest| used.iter().any(|t| t.contains(digest)))?;
                #[cfg(unix)]
                homes.iter().try_for_each(|home| crate::lima::previous::remove_all(home))?;
            } else {
                disk::remove(&dir.join("cache"))?;
                for instances in &homes {
                    disk::remove(instances)?;
                }
                disk::remove(&dir.join("state.json"))?;
            }
            home.remove(&[], &lock)
        });
        call.run(None, work).await
    }

    /// Whole or begun.
    #[cfg(unix)]
    pub(super) async fn has_vm(&self) -> Result<bool> {
        Ok(self.machine(self.lima_home(), None).instance().facts().await?.directory)
    }

    #[cfg(unix)]
    pub(super) async fn baked_of_vm(&self) -> Option<BakedEngine> {
        self.machine(self.lima_home(), None).instance().baked().await
    }

    #[cfg(unix)]
    pub(super) fn other_instances(&self) -> Vec<Instance> {
        instances(&self.instance_homes()).map(instance).filter(|other| other.name != self.instance()).collect()
    }

    /// Every directory that holds or held our instances.
    pub(super) fn instance_homes(&self) -> Vec<PathBuf> {
        let mut homes = vec![self.dir().join("vms")];
        homes.extend(self.state().lima_home);
        homes
    }
}

fn installed(home: &crate::fetch::install::Home, look: Look) -> Option<Record> {
    let record = home.whole(Part::Lima, look)?;
    let reachable = home.dir().join("bin").join("limactl").exists();
    (reachable && home.is_current(Part::Lima, &record)).then_some(record)
}

const LOOKING: &str = "Looking up what is installed";
const INSTALLED: &str = "Lima is installed";

#[derive(Default)]
struct Survey {
    /// The manifest, once it is needed.
    remote: Option<Result<Remote>>,
    bundle: Option<Bundle>,
    requests: Vec<Request>,
    switch: Option<Record>,
    /// A VM gets other versions than it has.
    replaces: bool,
    /// What is there will not do in place of the requests.
    required: bool,
    /// For who will stop the VM if it is to change.
    as_stopped: bool,
}

impl Survey {
    fn is_satisfied(&self) -> bool {
        self.requests.is_empty() && self.switch.is_none()
    }
}

/// The engine in an image that is brought. Of several sources it is not known yet which one it will be.
fn engine_of(bundled: Option<&Record>, wanted: Option<&Wanted>) -> Option<BakedEngine> {
    if let Some(record) = bundled {
        return record.engine.clone();
    }
    let sources = &wanted?.sources;
    let engine = sources.first()?.engine.as_ref()?;
    sources.iter().all(|source| source.engine.as_ref() == Some(engine)).then(|| engine.clone())
}

/// The newer of the engine that is installed and the one that the guest has of its image, and whether it is the latter. Of one
/// version with two digests it is the installed one, which somebody asked for since.
pub(super) fn newest(installed: Option<Record>, baked: Option<BakedEngine>) -> (Option<Record>, bool) {
    let newer = |engine: &BakedEngine| match &installed {
        None => true,
        Some(record) => match compare_versions(&engine.version, &record.version) {
            Ordering::Equal => engine.sha256 == record.sha256,
            order => order == Ordering::Greater,
        },
    };
    match baked.filter(newer) {
        Some(BakedEngine { version, sha256, .. }) => {
            let (source, dir, files) = (Part::Image.to_string(), PathBuf::new(), Vec::new());
            (Some(Record { version, source, sha256, installed_at: 0, dir, files, engine: None }), true)
        }
        None => (installed, false),
    }
}

/// The facts that decide whether a part is installed.
struct PartFacts {
    /// The record of a complete installation.
    record: Option<Record>,
    /// It is the version in use.
    current: bool,
    running: bool,
    instances: bool,
    /// By a rollback.
    held: bool,
    /// The record is of an engine that a baked image holds.
    in_image: bool,
    /// It is installed here, whatever an image holds.
    is_there: bool,
}

#[derive(Debug, PartialEq)]
enum Decision {
    Keep,
    /// Complete, but not in use: a process died just before the switch.
    Switch(Record),
    Bring,
}

impl PartFacts {
    /// `bundled` is what the application ships, which takes precedence; `wanted` is what the manifest asks for, if it could
    /// be read; `asked` tells that the caller named the version.
    fn decide(self, part: Part, bundled: Option<&Record>, wanted: Option<&Wanted>, asked: bool) -> Result<Decision> {
        let Self { record, current, running, instances, held, in_image, .. } = self;
        let Some(record) = record else { return Ok(Decision::Bring) };
        let (right, version) = match (bundled, wanted) {
            (Some(b), _) => (b.version == record.version && b.sha256 == record.sha256, Some(&b.version)),
            (None, Some(w)) => (record.satisfies(w), Some(&w.version)),
            // Without a manifest, the installed version will do.
            (None, None) => (true, None),
        };
        // Lima is replaced only while the VM is stopped, and an older Lima does not get a newer one's VM
        // (docs/reference/lima.md#disk-names).
        let older = version.filter(|v| compare_versions(v, &record.version) == Ordering::Less);
        match older {
            // The caller asked for this version: do not silently keep the newer one.
            Some(older) if (instances || in_image) && asked => {
                let title = part.title();
                let holds = if instances { "A VM of" } else { "The guest image with" };
                let hint = if instances {
                    "Ask for the installed version, or remove the VM with all it holds: delete()."
                } else {
                    "Ask for the version that the image holds, or name another image in the manifest."
                };
                Err(Error::new(
                    ErrorCode::InvalidState,
                    format!("{holds} {title} {} cannot be given to the older {title} {older}", record.version),
                )
                .detail("component", part.as_str())
                .detail("installed", record.version.clone())
                .detail("wanted", older.clone())
                .hint(hint))
            }
            _ if right || running || (held && instances) || (older.is_some() && (instances || in_image)) => {
                Ok(if current { Decision::Keep } else { Decision::Switch(record) })
            }
            _ => Ok(Decision::Bring),
        }
    }
}

/// Compares versions by their numbers: `1.10` is newer than `1.9`.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let numbers = |v: &str| v.split(['.', '-', '+']).map(|p| p.parse::<u64>().unwrap_or(0)).collect::<Vec<_>>();
    numbers(a).cmp(&numbers(b))
}

/// Links and their targets. limactl looks for its guest agent in `share` beside `bin`
/// (docs/reference/lima.md#file-of-the-guest-agent).
#[cfg(unix)]
const LINKS: [(&str, &str); 2] = [("bin/limactl", "../current/bin/limactl"), ("share", "current/share")];

#[cfg(unix)]
impl LimaRuntime {
    /// Whether the programs are where [`LimaRuntime::paths`] says.
    fn has_programs(&self) -> bool {
        let dir = self.dir();
        let right = |(link, target)| fs::read_link(dir.join(link)).is_ok_and(|named| named == Path::new(target));
        LINKS.into_iter().all(right) && super::wrappers::up_to_date(&dir.join("bin"), &self.wrappers())
    }

    fn write_programs(&self) -> Result<()> {
        if self.has_programs() {
            return Ok(());
        }
        let (dir, bin) = (self.dir(), self.dir().join("bin"));
        disk::create_dir(&bin)?;
        LINKS.into_iter().try_for_each(|(link, target)| disk::switch_link(Path::new(target), &dir.join(link)))?;
        super::wrappers::write(&bin, &self.wrappers())
    }
}

/// On other systems Lima has no programs.
#[cfg(not(unix))]
#[expect(clippy::unused_self, reason = "as on unix")]
impl LimaRuntime {
    fn has_programs(&self) -> bool {
        true
    }

    fn write_programs(&self) -> Result<()> {
        Ok(())
    }
}

/// The directories of instances. Lima's own directories begin with `_` and have no `lima.yaml`.
fn instances(homes: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
    homes.iter().flat_map(|h| disk::entries(h)).filter(|dir| dir.join("lima.yaml").exists())
}

/// The configurations of all instances, which name the files they were made from.
fn named_by_instances(homes: &[PathBuf]) -> Vec<String> {
    instances(homes).filter_map(|dir| fs::read_to_string(dir.join("lima.yaml")).ok()).collect()
}

/// Whether one of our VMs runs. A process that has a recorded number by chance does not count.
#[cfg(unix)]
fn running(homes: &[PathBuf]) -> bool {
    instances(homes).any(|dir| instance(dir).has_processes())
}

#[cfg(unix)]
fn instance(dir: PathBuf) -> Instance {
    // With links followed, as on the command lines of Lima's processes.
    let dir = dir.canonicalize().unwrap_or(dir);
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Instance { name, dir }
}

#[cfg(not(unix))]
#[expect(clippy::unused_async, reason = "as on unix")]
impl LimaRuntime {
    async fn has_vm(&self) -> Result<bool> {
        Ok(false)
    }

    async fn baked_of_vm(&self) -> Option<BakedEngine> {
        None
    }
}

#[cfg(not(unix))]
fn running(_: &[PathBuf]) -> bool {
    false
}

#[cfg(not(unix))]
fn needed_by_copies(_: &[PathBuf]) -> (Vec<Record>, Vec<String>) {
    Default::default()
}

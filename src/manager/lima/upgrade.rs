//! New versions for a VM that is there, and the way back from them.

use std::{fs, sync::Arc, time::UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::{
    InstallOptions, LimaRuntime, LimaState,
    boot::BootId,
    machine::refuse_root,
    state::{CopyMode, PreviousVm, UpgradeOptions},
};
use crate::{
    call::{CONTAINER_CALL, Call},
    error::{Error, ErrorCode, Result},
    fetch::{
        disk,
        lock::Lock,
        manifest::Part,
        progress::Meter,
        record::{Inventory, Look},
    },
    guest::ssh::SshGuest,
    lima::{
        instance::Instance,
        previous::{Copied, Previous, Watch},
    },
    progress::{Phase, RuntimeProgress, Sink, forward_only},
    task,
};

impl LimaRuntime {
    fn copy_of_vm(&self) -> Previous {
        Previous::of(&self.lima_home(), self.instance())
    }

    /// Brings Lima and the engine to the present versions, also a running VM's, which is stopped for it, and also where a rollback
    /// holds others. The VM runs then. Codes: those of `start`; `DISK_FULL` for a copy that must be written; `IN_USE` while another
    /// VM here runs.
    pub async fn upgrade(
        &self,
        options: &UpgradeOptions,
        sink: Sink<RuntimeProgress>,
        call: &Call,
    ) -> Result<SshGuest> {
        let (call, sink) = (&call.in_steps(), forward_only(sink));
        let (lima_home, lock) = self.lock_to_start(call).await?;
        call.run(None, self.end_rollbacks(&lock)).await?;
        let created = self.machine(lima_home.clone(), None).instance().facts().await?.disk;
        let wanted = InstallOptions { copy: options.copy, released: true, ..self.needed(created) };
        if created && call.run(None, self.would_change(&wanted)).await? {
            let (others, copy) = (self.other_instances(), self.copy_of_vm());
            let always = options.copy == CopyMode::Always;
            let ready = lock.blocking(move || {
                if let Some(other) = others.iter().find(|other| other.has_processes()) {
                    let text = format!("Another VM here runs, {}: VMs in one dataDir have one Lima", other.name);
                    let error = Error::new(ErrorCode::InUse, text).detail("instance", other.name.clone());
                    return Err(error.hint("Stop it first."));
                }
                if always { copy.check_room().map(drop) } else { Ok(()) }
            });
            call.run(None, ready).await?;
            self.stop_under(lock.clone(), &sink, call).await?;
        }
        self.start_under(lock, lima_home, wanted, &sink, call).await
    }

    /// Puts the VM back as it was before its last upgrade, with the versions of then, and starts it. What was written since is
    /// lost. `INVALID_STATE` without a copy, for one that is not whole, and where another VM here has run since.
    pub async fn rollback(&self, sink: Sink<RuntimeProgress>, call: &Call) -> Result<SshGuest> {
        let (call, sink) = (&call.in_steps(), forward_only(sink));
        let (lima_home, lock) = self.lock_to_start(call).await?;
        let copied = call.run(None, async {
            match self.previous_copy().await? {
                Some((copied, _)) => self.check_return(&copied).await.map(|()| copied),
                None => Err(Error::new(ErrorCode::InvalidState, "There is no copy of the VM to go back to")
                    .hint("upgrade({ copy: 'always' }) makes one also where the file system does not clone files.")),
            }
        });
        let copied = copied.await?;
        self.stop_under(lock.clone(), &sink, call).await?;
        sink(RuntimeProgress::new(Phase::Create, "Putting the VM back as it was"));
        call.run(None, self.take_back(self.copy_of_vm(), copied, &lock)).await?;
        self.start_under(lock, lima_home, InstallOptions::default(), &sink, call).await
    }

    /// Gives the copy's space back. Without a copy nothing happens.
    pub async fn discard_previous(&self, call: &Call) -> Result<()> {
        refuse_root()?;
        let call = &call.in_steps();
        let lock = self.lock(call, CONTAINER_CALL).await?;
        call.run(None, async {
            // Half of it may be in the VM's place by now.
            self.end_rollbacks(&lock).await?;
            let (copy, this) = (self.copy_of_vm(), self.clone());
            lock.blocking(move || {
                copy.remove()?;
                this.prune(|_| false)
            })
            .await
        })
        .await
    }

    /// Those that were cut off: a VM's place may be empty. The caller holds the lock.
    pub(super) async fn end_rollbacks(&self, lock: &Lock) -> Result<()> {
        let homes = self.instance_homes();
        for (copy, copied) in task::blocking(move || Ok(Previous::returning(&homes))).await? {
            self.take_back(copy, copied, lock).await?;
        }
        Ok(())
    }

    /// With the bytes that it takes.
    pub(super) async fn previous_copy(&self) -> Result<Option<(Copied, u64)>> {
        let copy = self.copy_of_vm();
        task::blocking(move || Ok(copy.read().map(|copied| (copied, copy.size())))).await
    }

    /// Keeps the VM, which is about to get other versions, as `mode` says.
    pub(super) async fn keep_previous(&self, lock: &Lock, mode: CopyMode, meter: &Arc<Meter>) -> Result<()> {
        let instance = self.machine(self.lima_home(), None).instance().clone();
        if mode == CopyMode::Never || !instance.facts().await?.disk {
            return Ok(());
        }
        let (copy, home, meter) = (self.copy_of_vm(), self.home().clone(), meter.clone());
        let cancelled = CancellationToken::new();
        // The work goes on when its caller has left.
        let _left = cancelled.clone().drop_guard();
        lock.blocking(move || {
            let boot = BootId::of(&instance.path("ssh.config")).map(|boot| boot.to_string());
            // It has not run since: what was replaced then is what it had.
            if copy.read().is_some_and(|copied| boot.is_some() && copied.boot == boot) {
                return Ok(());
            }
            let mut parts = Inventory::read(&home.inventory_path()).map(|i| i.components).unwrap_or_default();
            // No VM that is there gets another one.
            parts.remove(&Part::Image);
            if !parts.get(&Part::Lima).is_some_and(|lima| home.has(lima, Look::Stat)) {
                return Ok(());
            }
            let said = |done, total| meter.copied("Copying the VM as it is, for a way back", done, total);
            let watch = Watch { cancelled: &cancelled, said: &said };
            copy.make(parts, boot, mode == CopyMode::Always, &watch).map(drop)
        })
        .await
    }

    /// Refuses a rollback that would leave this VM or another one here without a version that may run it.
    async fn check_return(&self, copied: &Copied) -> Result<()> {
        let (home, lima, made_at) = (self.home().clone(), copied.parts.get(&Part::Lima).cloned(), copied.made_at);
        let (others, copy, copied) = (self.other_instances(), self.copy_of_vm(), copied.clone());
        task::blocking(move || {
            copy.check(&copied)?;
            let booted = |vm: &&Instance| {
                let at = fs::metadata(vm.path("ssh.config")).and_then(|meta| meta.modified()).ok();
                at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).is_some_and(|at| at.as_millis() > made_at.into())
            };
            if let Some(other) = others.iter().find(booted) {
                let text = format!("Another VM here, {}, has run with the newer versions", other.name);
                return Err(Error::new(ErrorCode::InvalidState, text).detail("instance", other.name.clone()).hint(
                    "VMs in one dataDir have one Lima and one engine. Without that VM the other one can go back.",
                ));
            }
            if lima.is_some_and(|lima| home.has(&lima, Look::Stat)) {
                return Ok(());
            }
            Err(Error::new(
                ErrorCode::InvalidState,
                "The Lima that the copy of the VM belongs to is not there any more",
            )
            .hint("The VM stays as it is. discardPrevious() gives the copy's space back."))
        })
        .await
    }

    async fn take_back(&self, copy: Previous, copied: Copied, lock: &Lock) -> Result<()> {
        let (home, this) = (self.home().clone(), self.clone());
        lock.blocking(move || {
            copy.take_back(copied, |copied| {
                let whole = copied.parts.iter().filter(|(_, record)| home.has(record, Look::Stat));
                // A VM of a baked image had its engine without one.
                let without = Some(this.payload().part).filter(|part| !copied.parts.contains_key(part));
                home.restore(whole.map(|(part, record)| (*part, record)), without)?;
                let state = LimaState { held: true, ..this.recorded_state() };
                disk::write_json(&this.dir().join("state.json"), &state)
            })
        })
        .await
    }
}

impl PreviousVm {
    /// `None` for a copy that is on its way back.
    pub(super) fn of((copied, size): (Copied, u64)) -> Option<Self> {
        let named = copied.parts.into_iter().filter_map(|(part, record)| Some((part.option()?, record.version)));
        (!copied.returning).then(|| Self { created: copied.made_at, versions: named.collect(), size })
    }
}

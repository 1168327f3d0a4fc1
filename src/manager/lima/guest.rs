//! The connection to the VM for the engine and for commands: kept open, and found again after each boot.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    boot::{BootId, KeptConnection},
    machine::Machine,
    runtime::LimaRuntime,
};
use crate::{
    error::{Error, ErrorCode, Result},
    guest::{Guest, Socket, ssh::SshGuest},
    process::{Command, Output, Process},
    task,
};

/// How long a VM that was found dead may take to answer after all.
const PROBE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

impl LimaRuntime {
    /// The VM as a guest. Connects on the first call; all calls of this runtime and its clones share one connection for
    /// commands and those for streams. The handle stays valid while the VM is stopped, started, deleted and made again: a
    /// call fails at once with `VM_NOT_RUNNING` meanwhile, and a later one connects anew.
    pub fn guest(&self) -> Arc<dyn Guest> {
        Arc::new(LimaGuest(self.clone()))
    }

    /// The connection of the current boot; `VM_NOT_RUNNING` when there is none.
    pub(super) async fn ssh(&self) -> Result<SshGuest> {
        let machine = self.machine(self.lima_home(), None);
        let config = machine.instance().path("ssh.config");
        // Read before the lock is taken: the usual call costs one stat.
        let boot = BootId::of(&config);
        {
            let kept = self.kept.lock().await;
            if let Some(kept) = kept.as_ref().filter(|k| Some(k.boot) == boot && k.guest.is_connected()) {
                return Ok(kept.guest.clone());
            }
        }
        let Some(boot) = boot else { return Err(not_running()) };
        // A booting VM accepts connections before anybody in it can answer.
        if !machine.instance().is_running().await {
            return Err(not_running());
        }
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|k| k.boot == boot) {
            return Ok(kept.guest.clone());
        }
        let guest = machine.guest().await?;
        *kept = Some(KeptConnection { boot, guest: guest.clone() });
        Ok(guest)
    }

    /// Keeps the connection that a start has just tested.
    pub(super) async fn keep_connection(&self, machine: &Machine, guest: &SshGuest) {
        let boot = BootId::of(&machine.instance().path("ssh.config"));
        let mut kept = self.kept.lock().await;
        *self.unreachable_boot() = None;
        if boot.is_some() && kept.as_ref().map(|k| k.boot) != boot {
            *kept = boot.map(|boot| KeptConnection { boot, guest: guest.clone() });
        }
    }

    /// Remembers whether the VM answered: Lima may call a VM running that nobody can reach.
    pub(super) fn note_answer<T>(&self, answer: Result<T>) -> Result<T> {
        let lost = matches!(&answer, Err(e) if e.code() == ErrorCode::VmNotRunning);
        *self.unreachable_boot() = if lost { self.current_boot() } else { None };
        answer
    }

    /// Whether SSH found the VM of this boot dead, and still does.
    pub(super) async fn is_unreachable(&self) -> bool {
        let unreachable = *self.unreachable_boot();
        if unreachable.is_none() || unreachable != self.current_boot() {
            return false;
        }
        let probe = Box::pin(async { self.note_answer(self.ssh().await?.run(Command::new(["true"])).await) });
        !matches!(tokio::time::timeout(PROBE_TIMEOUT, probe).await, Ok(Ok(_)))
    }

    fn unreachable_boot(&self) -> std::sync::MutexGuard<'_, Option<BootId>> {
        self.unreachable.lock()
    }

    fn current_boot(&self) -> Option<BootId> {
        BootId::of(&self.machine(self.lima_home(), None).instance().path("ssh.config"))
    }

    /// Closes the kept connection, before the VM stops.
    pub(super) async fn disconnect(&self) {
        let kept = self.kept.lock().await.take();
        if let Some(kept) = kept {
            kept.guest.disconnect().await;
        }
    }

    /// Closes it after the host slept, which nobody waits for; the next call connects anew.
    pub(super) async fn renew_connection(&self) {
        let kept = self.kept.lock().await.take();
        if let Some(kept) = kept {
            task::spawn(async move { kept.guest.renew().await });
        }
    }
}

pub(super) fn not_running() -> Error {
    Error::new(ErrorCode::VmNotRunning, "The VM is not running").hint("Start it.")
}

struct LimaGuest(LimaRuntime);

#[async_trait]
impl Guest for LimaGuest {
    async fn run(&self, command: Command) -> Result<Output> {
        self.0.note_answer(self.0.ssh().await?.run(command).await)
    }

    async fn spawn(&self, command: Command) -> Result<Process> {
        self.0.note_answer(self.0.ssh().await?.spawn(command).await)
    }

    async fn connect(&self, path: &str) -> Result<Socket> {
        self.0.note_answer(self.0.ssh().await?.connect(path).await)
    }

    fn containerd_socket(&self) -> &str {
        self.0.engine_socket()
    }
}

//! The engine's own program in the VM, over the warm connection.

use bytes::Bytes;

use super::{LimaRuntime, ports::Publishing};
use crate::{call::Call, error::Result, guest::Guest, manager::payload::UserEngine, process::Command};

impl LimaRuntime {
    /// Runs nerdctl as root in the VM, in our namespace, or docker as the guest's user, and returns its standard output.
    /// No deadline of its own: a pull takes what it takes. `VM_NOT_RUNNING` at once without a VM; `NOT_INSTALLED` where the
    /// VM has the other engine; `ENGINE_ERROR` for every end but exit code 0, with `details.exitCode` (or `signal`) and
    /// `details.stderr`; `PORT_IN_USE` when `run` is to publish a port that another program of the host has. A detached
    /// `run` returns once its ports are forwarded, or 10 s later with a warning.
    pub async fn exec(
        &self,
        engine: UserEngine,
        args: &[String],
        input: Option<Bytes>,
        call: &Call,
    ) -> Result<Vec<u8>> {
        self.must_have(engine)?;
        let payload = self.payload();
        call.run(None, async {
            let _using = self.used().await?;
            let publishing = Publishing::of(args).unwrap_or_default();
            let ssh = self.ssh().await?;
            self.check_host_ports(&publishing.ports).await?;
            let words = self.program(engine).into_iter().chain(args.iter().map(String::as_str));
            let command = Command { root: payload.root, ..Command::new(words) };
            let out = ssh.run(command.input(input.unwrap_or_default())).await;
            let out = self.note_answer(out)?.checked(payload.program)?;
            if publishing.detached && !publishing.ports.is_empty() {
                self.await_host_ports(&publishing.ports).await?;
            }
            Ok(out)
        })
        .await
    }

    /// The program and the words that belong before every caller's.
    pub(super) fn program(&self, engine: UserEngine) -> Vec<&str> {
        let program = engine.payload().program;
        match engine {
            UserEngine::Containerd => vec![program, "--namespace", self.namespace()],
            UserEngine::Docker => vec![program],
        }
    }
}

//! nerdctl in the VM, over the warm connection.

use bytes::Bytes;

use super::{LimaRuntime, ports::Publishing};
use crate::{call::Call, error::Result, guest::Guest, process::Command};

impl LimaRuntime {
    /// Runs nerdctl as root in the VM, in our namespace, and returns its standard output. Without a deadline of its own: a
    /// pull may take long. `VM_NOT_RUNNING` at once without a VM; `ENGINE_ERROR` for every exit but code 0, with
    /// `details.exitCode` (or `signal`) and `details.stderr`; `PORT_IN_USE` when `run` is to publish a port that another
    /// program of the host has. A detached `run` returns once its ports are forwarded, or after 10 s with a warning.
    pub async fn exec_nerdctl(&self, args: &[String], input: Option<Bytes>, call: &Call) -> Result<Vec<u8>> {
        call.run(None, async {
            let publishing = Publishing::of(args).unwrap_or_default();
            let ssh = self.ssh().await?;
            self.check_host_ports(&publishing.ports).await?;
            let words = ["nerdctl", "--namespace", self.namespace()].into_iter().chain(args.iter().map(String::as_str));
            let out = ssh.run(Command::new(words).root().input(input.unwrap_or_default())).await;
            let out = self.note_answer(out)?.checked("nerdctl")?;
            if publishing.detached && !publishing.ports.is_empty() {
                self.await_host_ports(&publishing.ports).await?;
            }
            Ok(out)
        })
        .await
    }
}

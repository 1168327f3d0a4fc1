//! The one place that runs nerdctl.

use std::sync::Arc;

use tokio::sync::{Mutex, OnceCell};

use super::super::settings::Settings;
use super::errors::{About, not_there, refusal};
use crate::{
    error::{Error, Result},
    guest::Guest,
    process::{Command, Process},
};

pub(crate) struct Nerdctl {
    guest: Arc<dyn Guest>,
    root: bool,
    /// The program and its global flags.
    base: Vec<String>,
    env: Vec<(String, Vec<u8>)>,
    /// Its locks and CNI's make commands that change something wait for each other, and some of them fail instead
    /// (docs/reference/nerdctl.md#commands-in-turn).
    queue: Mutex<()>,
    version: OnceCell<(u32, u32, u32)>,
}

impl Nerdctl {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut base = vec![settings.nerdctl.clone(), format!("--namespace={}", settings.namespace)];
        let mut env = Vec::new();
        if let Some(dir) = &settings.rootless {
            env.push(("XDG_RUNTIME_DIR".to_owned(), dir.clone().into_bytes()));
        } else {
            base.push(format!("--address={}", settings.guest.containerd_socket()));
            base.push(format!("--data-root={}", settings.data_root));
            base.push(format!("--cni-netconfpath={}", settings.cni_netconf_path));
        }
        base.extend(settings.cni_path.as_ref().map(|path| format!("--cni-path={path}")));
        Self {
            guest: settings.guest.clone(),
            root: settings.root,
            base,
            env,
            queue: Mutex::default(),
            version: OnceCell::new(),
        }
    }

    /// `nerdctl <global flags> <args>`, to be given to one of the methods below.
    pub(crate) fn command<A: Into<Vec<u8>>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let argv = self.base.iter().map(|a| a.clone().into_bytes()).chain(args.into_iter().map(Into::into));
        Command { root: self.root, env: self.env.clone(), ..Command::new(argv) }
    }

    /// Its version; the lowest where it does not say.
    pub(crate) async fn version(&self) -> (u32, u32, u32) {
        let ask = async || {
            let program = self.base.first().cloned().unwrap_or_default();
            let command =
                Command { root: self.root, env: self.env.clone(), ..Command::new([program, "--version".into()]) };
            Ok::<_, Error>(version(&String::from_utf8_lossy(&self.guest.run(command).await?.checked("nerdctl")?)))
        };
        self.version.get_or_try_init(ask).await.copied().unwrap_or_default()
    }

    /// Runs what changes something, when those before it have ended. Its standard output.
    pub(crate) async fn write<A: Into<Vec<u8>>>(
        &self,
        on: About<'_>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Vec<u8>> {
        let _turn = self.queue.lock().await;
        self.read(on, args).await
    }

    /// Our turn to change something by other means, when those before us have ended.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.queue.lock().await
    }

    /// Runs what only reads. The deadline is the call's; dropping the future is TERM, then KILL: its locks are the kernel's and go
    /// with it.
    pub(crate) async fn read<A: Into<Vec<u8>>>(
        &self,
        on: About<'_>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Vec<u8>> {
        let output = self.guest.run(self.command(args)).await.map_err(not_there)?;
        if output.success() { Ok(output.stdout) } else { Err(refusal(on, &output)) }
    }

    /// Starts what prints as it goes. How it ended is for the caller to judge, with [`refusal`].
    pub(crate) async fn spawn(&self, command: Command) -> Result<Process> {
        self.guest.spawn(command).await.map_err(not_there)
    }
}

/// The id on the last line that has one.
pub(crate) fn printed_id(out: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(out);
    let id = text.lines().map(str::trim).rfind(|l| l.len() == 64 && l.bytes().all(|b| b.is_ascii_hexdigit()));
    id.map(str::to_owned).ok_or_else(|| {
        Error::internal("nerdctl printed no id").detail("stdout", text.chars().take(1000).collect::<String>())
    })
}

/// Of `nerdctl version 2.3.5`, `v2.3.4` or `1.6.20~ds1`: what comes after the numbers does not count.
pub(crate) fn version(said: &str) -> (u32, u32, u32) {
    let word = said.split_whitespace().last().unwrap_or_default();
    let mut numbers = word.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        call::Call,
        engine::RuntimeType,
        error::ErrorCode,
        guest::Socket,
        process::{Exit, Output},
    };

    /// Where nerdctl takes its time.
    struct SlowGuest;

    #[async_trait::async_trait]
    impl Guest for SlowGuest {
        async fn run(&self, _: Command) -> Result<Output> {
            tokio::time::sleep(Duration::from_secs(500)).await;
            Ok(Output { exit: Exit::Code(0), stdout: b"done".to_vec(), stderr: Vec::new() })
        }

        async fn spawn(&self, _: Command) -> Result<Process> {
            unreachable!()
        }

        async fn connect(&self, _: &str) -> Result<Socket> {
            unreachable!()
        }

        fn containerd_socket(&self) -> &'static str {
            "/nonexistent.sock"
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_has_the_deadline_of_its_call_and_no_other() {
        let nerdctl = Nerdctl::new(&Settings::system(Arc::new(SlowGuest), RuntimeType::Containerd, "kai", "kai"));
        let write = async |seconds| {
            let call = Call { timeout: Some(Duration::from_secs(seconds)), ..Call::default() };
            call.run(None, nerdctl.write(About::Engine, ["rm", "web"])).await
        };
        assert_eq!(write(600).await.unwrap(), b"done");
        // The second waits for its turn, too.
        let (first, second) = tokio::join!(write(600), write(600));
        assert_eq!((first.is_ok(), second.unwrap_err().code()), (true, ErrorCode::Timeout));
    }

    #[test]
    fn versions_of_releases_and_builds() {
        assert_eq!(version("nerdctl version 2.3.5\n"), (2, 3, 5));
        assert_eq!(version("nerdctl version v2.1.6-12-g0123abc.m"), (2, 1, 6));
        assert_eq!(version("nerdctl version 2.4.0-rc.1"), (2, 4, 0));
        assert_eq!(version("what?"), (0, 0, 0));
    }
}

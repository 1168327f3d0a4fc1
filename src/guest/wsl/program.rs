//! `wsl.exe`: one method for each request. Reports facts and performs steps; `manager` decides when.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use super::text::{self, Fault};
use crate::{
    env_vars,
    error::{Error, ErrorCode, Result},
    process::{self, Output, Process},
};

/// For questions to WSL's service, which may have to be started first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Wsl {
    program: PathBuf,
}

impl Default for Wsl {
    /// The one of Windows itself, whatever the PATH says.
    fn default() -> Self {
        let root = env_vars::get(env_vars::SYSTEM_ROOT).unwrap_or_else(|| r"C:\Windows".to_owned());
        Self { program: Path::new(&root).join("System32").join("wsl.exe") }
    }
}

impl Wsl {
    /// Another program in its place.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A `wsl.exe` that is about to start. Its messages come in UTF-8 where it can; no variable of ours is passed into a
    /// distribution.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(args).env("WSL_UTF8", "1").env("WSL_DISABLE_WARNINGS", "1").env_remove("WSLENV");
        command
    }

    /// Runs `argv` in a distribution, as root. The first word must be plain, since `wsl.exe` reads it as a program's name;
    /// so must the distribution's name, since `wsl.exe` knows no quotes there.
    pub fn inside<A: AsRef<OsStr>>(
        &self,
        distribution: &str,
        argv: impl IntoIterator<Item = A>,
    ) -> std::process::Command {
        let mut command = self.command(["--distribution", distribution, "--user", "root", "--cd", "/", "--exec"]);
        command.args(argv);
        command
    }

    pub(super) async fn start(&self, command: std::process::Command) -> Result<Process> {
        process::spawn(command, bytes::Bytes::new(), None).await.map_err(|e| match e.code() {
            ErrorCode::NotInstalled => text::error("Starting wsl.exe", "wsl.exe --install").source(e),
            _ => e,
        })
    }

    async fn ask(&self, doing: &str, args: &[&OsStr], within: Option<Duration>) -> Result<String> {
        let work = async { self.start(self.command(args)).await?.output().await };
        let output = match within {
            None => work.await?,
            Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| {
                Error::new(ErrorCode::Timeout, format!("{doing}: wsl.exe did not answer within {} s", limit.as_secs()))
                    .hint("`wsl --shutdown` in a terminal ends all that runs in WSL, and mends a WSL that hangs.")
            })??,
        };
        let said = message_of(&output);
        if output.success() { Ok(said) } else { Err(text::error(doing, &said)) }
    }

    /// Checks that WSL is installed and can run virtual machines. An old version that does not know `--status` counts as
    /// able.
    pub async fn check(&self) -> Result<()> {
        let said = match self.ask("Asking for WSL's state", &["--status".as_ref()], Some(ANSWER_TIMEOUT)).await {
            Ok(said) => said,
            Err(e) if e.code() == ErrorCode::UnsupportedPlatform || e.code() == ErrorCode::Timeout => return Err(e),
            Err(_) => return Ok(()),
        };
        match text::fault(&said) {
            Fault::NoVirtualMachines => Err(text::error("Asking for WSL's state", &said)),
            _ => Ok(()),
        }
    }

    /// All distributions of this user, including those still being made.
    pub async fn distributions(&self) -> Result<Vec<String>> {
        self.list(&["--list", "--quiet", "--all"]).await
    }

    pub async fn running(&self) -> Result<Vec<String>> {
        self.list(&["--list", "--quiet", "--running"]).await
    }

    async fn list(&self, args: &[&str]) -> Result<Vec<String>> {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        match self.ask("Listing WSL's distributions", &args, Some(ANSWER_TIMEOUT)).await {
            Ok(said) if text::none_installed(&said) => Ok(Vec::new()),
            Ok(said) => Ok(text::names(&said)),
            Err(e) if e.code() == ErrorCode::NotInstalled => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// Makes a distribution of an archive, in `dir`. Takes minutes on a slow disk.
    pub async fn import(&self, distribution: &str, dir: &Path, archive: &Path) -> Result<()> {
        let args = ["--import".as_ref(), distribution.as_ref(), dir.as_os_str(), archive.as_os_str()];
        let args = [&args[..], &["--version".as_ref(), "2".as_ref()]].concat();
        self.ask("Importing the distribution", &args, None).await.map(drop)
    }

    /// Ends all that runs in it. One that does not run is no error (docs/reference/wsl.md#ending-and-removing).
    pub async fn terminate(&self, distribution: &str) -> Result<()> {
        let args = ["--terminate".as_ref(), distribution.as_ref()];
        self.ask("Stopping the distribution", &args, Some(ANSWER_TIMEOUT)).await.map(drop)
    }

    /// Removes it with all that is in it.
    pub async fn unregister(&self, distribution: &str) -> Result<()> {
        let args = ["--unregister".as_ref(), distribution.as_ref()];
        self.ask("Removing the distribution", &args, Some(ANSWER_TIMEOUT)).await.map(drop)
    }
}

/// wsl.exe prints errors to standard output, some versions to standard error (docs/reference/wsl.md#encoding).
pub(super) fn message_of(output: &Output) -> String {
    let (out, err) = (text::decode(&output.stdout), text::decode(&output.stderr));
    [out.trim(), err.trim()].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("\n")
}

/// For a wrapper that other programs start.
pub fn arguments(distribution: &str) -> [OsString; 7] {
    ["--distribution", distribution, "--user", "root", "--cd", "/", "--exec"].map(OsString::from)
}

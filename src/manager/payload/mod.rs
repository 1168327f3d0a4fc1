//! What makes a guest or this machine an engine: an archive, units and files, a readiness question, what mends it, and its
//! program. The lifecycles know this type, and no engine.

use std::sync::Arc;

use crate::{
    error::{Error, ErrorCode, Result},
    fetch::manifest::Part,
    guest::{BEGAN, CONTAINERS, Guest},
    process::Command,
};

pub mod compose;
pub mod containerd;
pub mod context;
mod disk;
pub mod docker;
pub mod engine;
pub mod left;

pub use disk::{FullDisk, disk_full, full_disk, runs_on_full_disk};
pub use engine::{UserEngine, given};

/// The facts of one engine.
#[derive(Debug)]
pub struct Payload {
    pub engine: UserEngine,
    /// As a person calls it.
    pub title: &'static str,
    /// Its archive.
    pub part: Part,
    /// In a guest.
    pub socket: &'static str,
    /// Of its containerd: where the numbers of its containers' processes are.
    pub state: &'static str,
    /// What a person or a program runs there.
    pub program: &'static str,
    /// The socket belongs to the guest's user, who needs no sudo for the program.
    pub root: bool,
    /// The units of its daemon, in the order of stopping.
    pub daemon: &'static [&'static str],
    /// Those beside them that an engine at rest does not need either.
    pub beside: &'static [&'static str],
    pub local: Local,
    pub wsl: InWsl,
}

/// How it runs in a WSL distribution of its own, which holds nothing else.
#[derive(Debug)]
pub struct InWsl {
    /// Its daemon and that one's arguments.
    pub daemon: &'static str,
    /// Where the daemon finds its programs, before the usual places.
    pub programs: &'static str,
    /// Where a caller finds the program.
    pub program: &'static [&'static str],
    /// What the daemon reads.
    pub config: &'static str,
    /// How long the daemon may take to end its containers, in fifths of a second. One that leaves them alone needs no time.
    pub grace: u32,
}

/// How it runs on this machine, beside engines of others.
#[derive(Debug)]
pub struct Local {
    /// Where its archive has the programs.
    pub programs: &'static str,
    /// What an ordinary user needs beside the archive, and where that has its programs.
    pub rootless: Option<(Part, &'static str)>,
    /// Of the programs that an ordinary user needs, those that come with it.
    pub brings: &'static [&'static str],
    /// Paths that its programs use whatever their options say, each with the directory of ours that replaces it
    /// (docs/reference/containerd.md#built-in-paths, docs/reference/docker.md#a-second-engine).
    pub private: &'static [(&'static str, &'static str)],
    /// Its directories and their modes. The users of rootless containers belong to none of the user's groups, and must pass
    /// through some.
    pub dirs: &'static [(&'static str, u32)],
    /// What it keeps: removed with it.
    pub store: &'static [&'static str],
    pub log: &'static str,
    /// What it reports where it does not come up.
    pub silent: ErrorCode,
}

const CONTAINERD: Payload = Payload {
    engine: UserEngine::Containerd,
    title: "containerd",
    part: Part::NerdctlFull,
    socket: "/run/containerd/containerd.sock",
    state: "/run/containerd",
    program: "nerdctl",
    root: true,
    daemon: &["containerd.service"],
    beside: &["stargz-snapshotter.service", "buildkit.service"],
    local: Local {
        programs: "bin",
        rootless: None,
        brings: &["rootlesskit", "slirp4netns"],
        private: &[("/run/containerd", "run/containerd"), ("/run/nerdctl", "run/nerdctl"), ("/var/lib/cni", "leases")],
        dirs: &[
            ("root", 0o711),
            ("data", 0o711),
            ("networks", 0o755),
            ("leases", 0o755),
            ("registries", 0o755),
            ("buildkit", 0o700),
        ],
        store: &[
            "root",
            "data",
            "networks",
            "leases",
            "registries",
            "buildkit",
            "config.toml",
            "nerdctl.toml",
            "containerd.log",
        ],
        log: "containerd.log",
        silent: ErrorCode::ContainerdNotReady,
    },
    wsl: InWsl {
        daemon: "containerd --config /etc/lima-runtime/containerd.toml",
        programs: "/usr/local/bin",
        program: &["/usr/local/bin/nerdctl"],
        config: "/etc/lima-runtime/containerd.toml",
        grace: 0,
    },
};

const DOCKER: Payload = Payload {
    engine: UserEngine::Docker,
    title: "the Docker engine",
    part: Part::Docker,
    socket: "/run/docker.sock",
    state: "/run/docker/containerd/daemon",
    program: "docker",
    root: false,
    daemon: &["docker.socket", "docker.service"],
    beside: &[],
    local: Local {
        programs: "docker",
        rootless: Some((Part::DockerRootless, "docker-rootless-extras")),
        brings: &["rootlesskit"],
        private: &[("/run/containerd", "run/containerd"), ("/run/docker", "run/docker"), ("/etc/docker", "docker/etc")],
        dirs: &[
            ("docker", 0o711),
            ("docker/root", 0o711),
            ("docker/data", 0o711),
            ("docker/etc", 0o755),
            ("sock", 0o700),
        ],
        store: &["docker", "sock", "docker.log"],
        log: "docker.log",
        silent: ErrorCode::EngineUnreachable,
    },
    wsl: InWsl {
        daemon: "dockerd --config-file /etc/lima-runtime/docker.json",
        programs: docker::PROGRAMS,
        program: &[docker::CLI, "--host", "unix:///run/docker.sock"],
        config: "/etc/lima-runtime/docker.json",
        grace: 100,
    },
};

impl UserEngine {
    pub fn payload(self) -> &'static Payload {
        match self {
            Self::Containerd => &CONTAINERD,
            Self::Docker => &DOCKER,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Docker => "docker",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Containerd, Self::Docker].into_iter().find(|engine| engine.as_str() == text)
    }

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Containerd => Self::Docker,
            Self::Docker => Self::Containerd,
        }
    }

    /// `NOT_INSTALLED` where `asked` is the other engine than this one, which runs at `place`.
    pub fn must_be(self, asked: Self, place: &str) -> Result<()> {
        if asked == self {
            return Ok(());
        }
        let (asked, is) = (asked.payload(), self.payload());
        let text = format!("There is no {} {place}: its engine is {}", asked.program, is.title);
        let (option, instead) = (asked.engine.as_str(), is.program);
        Err(Error::new(ErrorCode::NotInstalled, text)
            .hint(format!("Use the option engine: '{option}', or {instead}."))
            .detail("engine", is.engine.as_str()))
    }
}

/// Stops what is named, and does not start it at the next boot; then ends what runs in containers. A unit that is not there
/// is no error.
const REST: &str = r#"
for unit; do systemctl disable --now "$unit" >/dev/null 2>&1 || :; done
end TERM 50 || end KILL 10
"#;

/// Of a baked image they are off, so that no engine starts before its data is there.
const ENABLE: &str = r#"
for unit; do
  systemctl is-enabled --quiet "$unit" 2>/dev/null || systemctl enable "$unit" >/dev/null 2>&1 || :
  systemctl is-active --quiet "$unit" || systemctl start --no-block "$unit" || :
done
"#;

/// Stops the units named and ends what runs in containers: their restart policies stay as they are, for the daemon does not
/// see them end. What does not heed TERM, like many a first process of a container, would hold the guest's shutdown up for
/// 90 s.
const QUIESCE: &str = r#"
for unit; do systemctl stop "$unit" >/dev/null 2>&1 || :; done
end TERM 50 || end KILL 10
sync
# The host's file shrinks by what the guest no longer uses.
timeout 5 fstrim -a || true
"#;

/// Gives what a guest no longer uses back to the host, whose file shrinks: a disk only grows by itself. What was removed just now
/// counts once it is on the disk.
pub fn trim() -> Command {
    Command::new(["sh", "-c", "sync; exec timeout 120 fstrim -a"]).root()
}

impl Payload {
    /// As it begins a sentence. containerd is a name.
    pub fn name(&self) -> String {
        self.title.strip_prefix("the ").map_or_else(|| self.title.to_owned(), |rest| format!("The {rest}"))
    }

    /// Whether the engine answers: both what commands need and what the API needs.
    pub async fn probe<G: Guest + Clone>(&self, guest: &G, socket: &str) -> Result<()> {
        match self.engine {
            UserEngine::Containerd => {
                drop(guest.connect(socket).await?);
                let out = guest.run(Command::new(["ctr", "--address", socket, "version"]).root()).await?;
                if out.success() {
                    return Ok(());
                }
                let stderr = String::from_utf8_lossy(&out.stderr).trim().to_owned();
                let text = "containerd in the VM does not answer";
                Err(Error::new(ErrorCode::ContainerdNotReady, text).detail("stderr", stderr))
            }
            UserEngine::Docker => {
                crate::engine::docker::ready(Arc::new(guest.clone()), socket, docker::MEND).await.map(drop)
            }
        }
    }

    /// The engine says that it is not ready, and a restart may help.
    pub fn is_silent(&self, e: &Error) -> bool {
        matches!(e.code(), ErrorCode::ContainerdNotReady | ErrorCode::EngineUnreachable | ErrorCode::Timeout)
    }

    /// What the guest has to say of an engine that does not come up. Lima does not report failed boot scripts
    /// (docs/reference/lima.md#failed-boot-scripts), which install containerd.
    pub fn log(&self) -> Command {
        Command::new(
            match self.engine {
                UserEngine::Containerd => ["tail", "-n", "50", "/var/log/cloud-init-output.log"].as_slice(),
                UserEngine::Docker => &["journalctl", "--no-pager", "-n", "50", "-u", "docker.service"],
            }
            .iter()
            .copied(),
        )
        .root()
    }

    pub fn restart(&self) -> Command {
        let service = self.daemon.last().copied().unwrap_or_default();
        Command::new(["systemctl", "restart", service]).root()
    }

    /// What a VM is told before it ends.
    pub fn quiesce(&self) -> Command {
        self.script(QUIESCE, &[])
    }

    /// Makes room for this engine where the other one ran. What it made stays on the disk.
    pub async fn take_over(&self, guest: &impl Guest) -> Result<()> {
        let other = self.engine.other().payload();
        guest.run(other.script(REST, other.beside)).await?.checked("systemctl").map(drop)
    }

    /// Has the engine run, now and at each boot. What the image has no unit for is no error.
    pub async fn enable(&self, guest: &impl Guest) -> Result<()> {
        let words = ["sh", "-c", ENABLE, "sh"].into_iter();
        let enable = Command::new(words.chain(self.daemon.iter().chain(self.beside).copied())).root();
        guest.run(enable).await?.checked("systemctl").map(drop)
    }

    /// `work` on this engine's containers, its daemon and `more` units.
    fn script(&self, work: &str, more: &[&str]) -> Command {
        let text = [BEGAN, CONTAINERS, "state=$1\nshift\n", work].concat();
        let words = ["sh", "-c", &text, "sh", self.state].into_iter();
        Command::new(words.chain(self.daemon.iter().chain(more).copied())).root()
    }
}

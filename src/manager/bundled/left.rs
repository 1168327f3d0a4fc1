//! What the engine holds that ran here before: it is asked at each of its stops, since the next start may be another one's.

use std::{path::Path, time::Duration};

use super::BundledRuntime;
use crate::{
    call::Call,
    error::Result,
    fetch::disk,
    manager::payload::{
        Payload,
        left::{self, LeftContainer, Running},
    },
    process::Command,
    task,
};

pub(super) const FILE: &str = "left.json";
/// A stop waits no longer for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those in which nerdctl made a container; `$1` is its directory. Names are of letters, digits, `.`, `_` and `-`.
const NAMESPACES: &str = r#"for dir in "$1"/*/containers/*/; do
  [ ! -d "$dir" ] || basename "$dir"
done | sort -u"#;
const DATA_ROOT: &str = "/var/lib/nerdctl";

/// Asks an engine that is to be put to rest, and keeps the answer in `dir`. Of one that does not answer, nothing is known.
pub(super) async fn note(dir: &Path, payload: &Payload, mut at: Running<'_>) {
    let noted = tokio::time::timeout(PATIENCE, async {
        let data_root = at.data_root.unwrap_or(DATA_ROOT);
        let said = at.guest.run(Command::new(["sh", "-c", NAMESPACES, "sh", data_root])).await?.checked("sh")?;
        at.namespaces = String::from_utf8_lossy(&said).lines().map(str::to_owned).collect();
        let text = left::record(payload.engine, payload.held(&at).await?)?;
        let path = dir.join(FILE);
        task::blocking(move || disk::write_text(&path, &text)).await
    });
    if !matches!(noted.await, Ok(Ok(()))) {
        tracing::warn!(engine = payload.title, "what it holds is not known");
    }
}

impl BundledRuntime {
    /// What was noted of the engine that is not this one.
    pub async fn left(&self, call: &Call) -> Result<Vec<LeftContainer>> {
        let (path, engine) = (self.dir().join(FILE), self.engine());
        call.run(None, task::blocking(move || Ok(left::read(&path, engine)))).await
    }

    /// Asks the engine that runs on this machine.
    #[cfg(target_os = "linux")]
    pub(super) async fn note_left(&self, payload: &Payload) {
        use std::sync::Arc;

        use crate::{guest::local::LocalGuest, manager::payload::UserEngine};

        let paths = self.paths();
        let socket = match payload.engine {
            UserEngine::Containerd => paths.address,
            UserEngine::Docker => paths.docker_socket,
        };
        let (socket, data_root) = (socket.to_string_lossy(), paths.data_root.to_string_lossy());
        let at = Running {
            guest: Arc::new(LocalGuest::new(socket.clone())),
            socket: &socket,
            namespaces: Vec::new(),
            data_root: Some(&data_root),
            app: self.options().label(),
        };
        note(self.dir(), payload, at).await;
    }
}

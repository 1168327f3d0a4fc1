//! A containerd of this machine, and where it is found.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::{Containerd, ContainerdEngine, Settings};
#[cfg(unix)]
use crate::error::ErrorCode;
use crate::{
    engine::{Adapter, RuntimeType, validate},
    error::{Error, Result},
};

/// `new ContainerdAdapter(options)`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerdOptions {
    /// containerd's socket; found when absent.
    pub address: Option<String>,
    pub nerdctl_path: Option<String>,
    pub namespace: Option<String>,
    pub app_name: Option<String>,
    pub data_root: Option<String>,
    pub cni_path: Option<String>,
    pub cni_netconf_path: Option<String>,
    pub inside_path: Option<String>,
    pub exclusive: bool,
}

/// The value of the label on what the adapter makes, and the namespace.
const APP: &str = "kai";
/// Where a system's containerd listens.
#[cfg(unix)]
const SOCKET: &str = "/run/containerd/containerd.sock";
/// Runs a command in the namespaces of a rootless containerd; `$1` holds the pid of its first process.
#[cfg(unix)]
const ENTER: &str = r#"
pid=$(cat "$1") && shift && exec nsenter --target "$pid" --user --preserve-credentials --mount --net --wd=/ -- "$@"
"#;

/// An adapter whose nerdctl can be named later.
#[derive(Clone)]
pub struct LocalContainerd {
    pub adapter: Adapter,
    engine: Arc<ContainerdEngine>,
    options: Arc<Mutex<ContainerdOptions>>,
}

impl LocalContainerd {
    /// Connects to nothing yet.
    pub fn new(mut options: ContainerdOptions) -> Result<Self> {
        let app = options.app_name.clone().unwrap_or_else(|| APP.to_owned());
        validate::app_name(&app)?;
        if let Some(namespace) = &options.namespace {
            validate::object_name("namespace", namespace)?;
        }
        if let Some(address) = &mut options.address {
            *address = address.strip_prefix("unix://").unwrap_or(address).to_owned();
            // Windows' own forms are judged when the engine is looked for.
            if !cfg!(windows) {
                absolute("address", address)?;
            }
        }
        for (field, path) in [
            ("nerdctlPath", &options.nerdctl_path),
            ("dataRoot", &options.data_root),
            ("cniPath", &options.cni_path),
            ("cniNetconfPath", &options.cni_netconf_path),
            ("insidePath", &options.inside_path),
        ] {
            path.as_deref().map_or(Ok(()), |p| absolute(field, p))?;
        }
        let options = Arc::new(Mutex::new(options));
        let found = options.clone();
        let find = move || -> super::Finding {
            let options = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(async move { find(&options).await })
        };
        let engine = Arc::new(ContainerdEngine::new(RuntimeType::Containerd, Box::new(find)));
        Ok(Self { adapter: Adapter::new(engine.clone(), app), engine, options })
    }

    /// The calls after this one run the nerdctl at `path`.
    pub async fn set_nerdctl_path(&self, path: String) -> Result<()> {
        absolute("path", &path)?;
        self.options.lock().unwrap_or_else(PoisonError::into_inner).nerdctl_path = Some(path);
        self.engine.forget().await;
        Ok(())
    }
}

fn absolute(field: &str, path: &str) -> Result<()> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{path:?} is not an absolute path")))
}

#[cfg(unix)]
async fn find(options: &ContainerdOptions) -> Result<Containerd> {
    use crate::{env_vars, guest::local::LocalGuest};

    let is_root = rustix::process::geteuid().is_root();
    let runtime_dir = env_vars::get(env_vars::XDG_RUNTIME_DIR);
    let rootless = runtime_dir.as_deref().filter(|_| !is_root).and_then(|dir| {
        let child = std::fs::read_to_string(format!("{dir}/containerd-rootless/child_pid")).ok()?;
        Some((dir, format!("/proc/{}/root{SOCKET}", child.trim())))
    });
    let namespace = options.namespace.as_deref().unwrap_or(APP);
    let app = options.app_name.as_deref().unwrap_or(APP);
    let mut settings = match (&options.address, rootless) {
        (None, Some((dir, socket))) => {
            // Its nerdctl enters the namespaces by itself, and knows the way.
            let mut s = Settings::system(Arc::new(LocalGuest::new(socket)), RuntimeType::Containerd, namespace, app);
            let home = home::home_dir().unwrap_or_default();
            s.rootless = Some(dir.to_owned());
            s.root = false;
            let pid = format!("{dir}/containerd-rootless/child_pid");
            s.inside = ["sh", "-c", ENTER, "sh", &pid].map(str::to_owned).into();
            s.data_root = home.join(".local/share/nerdctl").display().to_string();
            s.cni_netconf_path = home.join(".config/cni/net.d").display().to_string();
            s
        }
        (address, _) => {
            let socket = address.as_deref().unwrap_or(SOCKET);
            if address.is_none() && !std::path::Path::new(socket).exists() {
                return Err(Error::new(ErrorCode::NotInstalled, "There is no containerd on this machine")
                    .detail("path", socket)
                    .hint("Install containerd and nerdctl, or use the bundled ones."));
            }
            Settings::system(Arc::new(LocalGuest::new(socket)), RuntimeType::Containerd, namespace, app)
        }
    };
    adjust(&mut settings, options);
    if options.exclusive {
        // It belongs to this user, whoever that is.
        settings.root = is_root;
    }
    answering(settings).await
}

#[cfg(windows)]
async fn find(options: &ContainerdOptions) -> Result<Containerd> {
    let namespace = options.namespace.as_deref().unwrap_or(APP);
    let app = options.app_name.as_deref().unwrap_or(APP);
    let mut settings = super::wsl::settings(options, crate::guest::wsl::Wsl::default(), app, namespace)?;
    adjust(&mut settings, options);
    super::wsl::answering(settings).await
}

/// What the options name takes the place of what was found.
fn adjust(settings: &mut Settings, options: &ContainerdOptions) {
    if let Some(path) = &options.nerdctl_path {
        settings.nerdctl.clone_from(path);
    }
    if let Some(path) = &options.data_root {
        settings.data_root.clone_from(path);
    }
    if let Some(path) = &options.cni_netconf_path {
        settings.cni_netconf_path.clone_from(path);
    }
    settings.cni_path.clone_from(&options.cni_path);
    settings.inside.extend(options.inside_path.clone());
    settings.private |= options.exclusive;
}

#[cfg(unix)]
async fn answering(settings: Settings) -> Result<Containerd> {
    let socket = settings.guest.containerd_socket().to_owned();
    // One that does not answer is not found.
    let closed = match tokio::net::UnixStream::connect(&socket).await {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => e,
        _ => {
            let found = Containerd::new(settings)?;
            found.api.version().await?;
            return Ok(found);
        }
    };
    let found = Containerd::alone(settings)?;
    match found.api.version().await {
        Ok(version) => {
            tracing::info!(socket, version, "containerd's socket is closed to this user: nerdctl alone serves");
            Ok(found)
        }
        Err(e) => Err(Error::new(ErrorCode::PermissionDenied, format!("{socket} cannot be opened: {closed}"))
            .detail("path", socket)
            .hint("Ask for access to it, run as a user who has it, or allow sudo without a password.")
            .source(e)),
    }
}

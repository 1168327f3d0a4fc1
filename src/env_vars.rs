//! Every environment variable this crate reads, in one place.

/// Where the engine is; as the docker CLI reads it.
pub const DOCKER_HOST: &str = "DOCKER_HOST";
/// Directory of `ca.pem`, `cert.pem` and `key.pem` for a TLS endpoint.
pub const DOCKER_CERT_PATH: &str = "DOCKER_CERT_PATH";
/// Non-empty: verify the engine's certificate.
pub const DOCKER_TLS_VERIFY: &str = "DOCKER_TLS_VERIFY";
/// The docker CLI's directory, `~/.docker` by default: contexts, registry credentials.
pub const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
/// Overrides the current docker context.
pub const DOCKER_CONTEXT: &str = "DOCKER_CONTEXT";
/// Where buildkitd listens, for builds on a containerd of this computer; as nerdctl and buildctl read it.
pub const BUILDKIT_HOST: &str = "BUILDKIT_HOST";
/// Where a rootless engine puts its socket.
pub const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
/// A path or address of a manifest that replaces the built-in one.
pub const LIMA_RUNTIME_MANIFEST: &str = "LIMA_RUNTIME_MANIFEST";
/// `https://host/path` is fetched as `<mirror>/host/path`.
pub const LIMA_RUNTIME_MIRROR: &str = "LIMA_RUNTIME_MIRROR";
/// What is printed on standard error of what goes on: off, error, warn, info or debug.
pub const LIMA_RUNTIME_LOG: &str = "LIMA_RUNTIME_LOG";
/// A PEM file of certificate authorities to trust beside the system's, as for Node itself.
pub const NODE_EXTRA_CA_CERTS: &str = "NODE_EXTRA_CA_CERTS";
/// Where applications keep their data on Linux; `~/.local/share` by default.
pub const XDG_DATA_HOME: &str = "XDG_DATA_HOME";
/// Where applications keep their data on Windows.
pub const LOCALAPPDATA: &str = "LOCALAPPDATA";
/// Where Windows is, and `wsl.exe` in it.
pub const SYSTEM_ROOT: &str = "SystemRoot";
/// The container runtime to use: docker, containerd, lima or auto. Takes precedence over the application's choice.
pub const KAI_CONTAINER_RUNTIME: &str = "KAI_CONTAINER_RUNTIME";
// The HTTP client itself reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY (in either case), and on Linux SSL_CERT_FILE
// and SSL_CERT_DIR.

/// The user's name. Diagnostics blank it, and every variable whose name suggests a secret.
#[cfg(unix)]
pub const USER_NAMES: [&str; 2] = ["USER", "LOGNAME"];

/// The variables that limactl gets from our environment; it gets no others.
#[cfg(unix)]
pub const FOR_LIMACTL: [&str; 7] =
    ["HOME", "LANG", "TMPDIR", "USER", "LOGNAME", "QEMU_SYSTEM_X86_64", "QEMU_SYSTEM_AARCH64"];
/// Proxy settings, in lower or upper case, reach limactl and through it the guest.
pub const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];

/// Whether `NO_PROXY` excludes every host. The HTTP client applies a star to names only, not to addresses
/// (hyperium/hyper-util `src/client/proxy/matcher.rs`).
pub fn no_proxy_at_all(list: &str) -> bool {
    list.split(',').any(|entry| entry.trim() == "*")
}

/// The variable's value. Empty counts as unset, as for the docker CLI.
pub fn get(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// A proxy setting, in lower or upper case.
pub fn either(name: &str) -> Option<String> {
    get(name).or_else(|| get(&name.to_ascii_uppercase()))
}

/// The directories of the `PATH`.
pub fn path() -> Vec<std::path::PathBuf> {
    absolute(&std::env::var_os("PATH").unwrap_or_default())
}

/// A program found on the `PATH`.
pub fn program(name: &str) -> Option<std::path::PathBuf> {
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    path().into_iter().map(|dir| dir.join(&name)).find(|file| file.is_file())
}

/// The ssh program, which every Mac and nearly every Linux has there if the `PATH` has none.
#[cfg(unix)]
pub fn ssh() -> std::path::PathBuf {
    program("ssh").unwrap_or_else(|| "/usr/bin/ssh".into())
}

/// Only absolute directories. The others, and empty ones, mean the working directory, where anybody may have put a program.
fn absolute(path: &std::ffi::OsStr) -> Vec<std::path::PathBuf> {
    std::env::split_paths(path).filter(|dir| dir.is_absolute()).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_working_directory_is_not_on_the_path() {
        let dirs = absolute(std::ffi::OsStr::new(":/usr/bin::.:bin:/bin:"));
        assert_eq!(dirs, ["/usr/bin", "/bin"].map(std::path::PathBuf::from));
    }
}

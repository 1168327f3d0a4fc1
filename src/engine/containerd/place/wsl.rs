//! containerd in a WSL2 distribution: what the engine must know of Windows around it.

use std::{net::Ipv4Addr, net::TcpListener, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::super::settings::Settings;
use super::options::ContainerdOptions;
use crate::{
    engine::{
        RuntimeType,
        host::{Host, HostPort},
        types::Protocol,
        validate,
    },
    error::{Error, ErrorCode, Result},
    guest::wsl::{Wsl, WslGuest},
};

const SCHEME: &str = "wsl://";
/// A named pipe, as containerd for Windows has one.
const PIPE: &str = r"\\.\pipe\";

/// Distribution and socket of `wsl://<distribution>/<path of the socket>`.
pub(crate) fn place(address: &str) -> Option<(&str, &str)> {
    let rest = address.strip_prefix(SCHEME)?;
    let (distribution, socket) = rest.split_at(rest.find('/')?);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // What wsl.exe takes for a name, and nothing that it would take for an option.
    let name = !distribution.is_empty() && !distribution.starts_with('-') && distribution.chars().all(plain);
    name.then_some((distribution, socket))
}

/// The engine of a distribution, through `wsl`.
pub fn settings(options: &ContainerdOptions, wsl: Wsl, app: &str, namespace: &str) -> Result<Settings> {
    let address = options.address.as_deref().unwrap_or_default();
    let Some((distribution, socket)) = place(address) else {
        if address.starts_with(PIPE) {
            let text = "A containerd of Windows itself runs Windows images only";
            return Err(Error::new(ErrorCode::UnsupportedPlatform, text).detail("address", address).hint(
                "Use nerdctl.exe for those. Linux images run in WSL2: new ContainerdAdapter(bundled.getAdapterOptions()) \
                 of a BundledRuntimeManager.",
            ));
        }
        return Err(Error::new(ErrorCode::NotInstalled, "On Windows, containerd runs in a WSL2 distribution")
            .detail("address", address)
            .hint("Pass the options that BundledRuntimeManager's getAdapterOptions() returns."));
    };
    let guest = Arc::new(WslGuest::new(wsl, distribution, socket));
    let mut settings = Settings::system(guest, RuntimeType::Containerd, namespace, app);
    settings.host = Some(windows());
    Ok(settings)
}

/// What an engine of any kind in a distribution asks of Windows.
pub fn windows() -> Arc<dyn Host> {
    Arc::new(Windows)
}

/// Windows around a distribution: its drives are below `/mnt` there, and its TCP ports on localhost here
/// (docs/reference/wsl.md#windows-around-it).
struct Windows;

/// Until WSL has seen a listener in the distribution (docs/reference/wsl.md#windows-around-it).
const FORWARDED: Duration = Duration::from_secs(10);

#[async_trait]
impl Host for Windows {
    fn mounts(&self) -> Vec<(String, String)> {
        vec![("this computer's drives (C:\\…)".into(), "/mnt".into())]
    }

    fn guest_path(&self, path: &str) -> Option<(String, String)> {
        let path = below_mnt(path)?;
        Some((path[.."/mnt/c".len()].to_owned(), path))
    }

    fn host_path(&self, path: &str) -> Option<(PathBuf, PathBuf)> {
        let drive = of_mnt(&validate::clean_path(path))?;
        Some((drive[.."C:\\".len()].into(), drive.into()))
    }

    /// WSL forwards TCP alone (docs/reference/wsl.md#windows-around-it).
    fn forwards(&self, protocol: Protocol) -> bool {
        protocol == Protocol::Tcp
    }

    async fn check_ports(&self, ports: &[HostPort]) -> Result<()> {
        match ports.iter().find(|(_, port)| taken(*port)) {
            None => Ok(()),
            Some((_, port)) => Err(Error::new(
                ErrorCode::PortInUse,
                format!("Port {port} of this computer is taken by another program"),
            )
            .detail("port", *port)
            .hint("Choose another port, or end the program that listens there.")),
        }
    }

    async fn await_ports(&self, ports: &[HostPort]) -> Result<()> {
        let forwarded = async {
            while !ports.iter().all(|(_, port)| taken(*port)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(FORWARDED, forwarded).await.is_err() {
            tracing::warn!(?ports, "WSL did not forward these ports");
        }
        Ok(())
    }
}

/// Somebody listens there; never found out by dialling.
fn taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse)
}

/// `C:\a\b` is `/mnt/c/a/b` in a distribution.
fn below_mnt(path: &str) -> Option<String> {
    let path = path.strip_prefix(r"\\?\").unwrap_or(path);
    match path.as_bytes() {
        [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic() => {
            let drive = (drive.to_ascii_lowercase() as char).to_string();
            let parts = validate::parts(&path[3..], |c| matches!(c, '\\' | '/'));
            Some(["/mnt", &drive].into_iter().chain(parts).collect::<Vec<_>>().join("/"))
        }
        _ => None,
    }
}

/// `/mnt/c/a/b` in a distribution is `C:\a\b`.
fn of_mnt(path: &str) -> Option<String> {
    let (drive, rest) = path.strip_prefix("/mnt/")?.split_at_checked(1)?;
    let plain = rest.is_empty() || rest.starts_with('/') && !rest.contains(['\\', ':']);
    let is_drive = drive.starts_with(|c: char| c.is_ascii_lowercase());
    (plain && is_drive)
        .then(|| format!("{}:\\{}", drive.to_ascii_uppercase(), rest.trim_start_matches('/').replace('/', "\\")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_distribution_and_its_socket() {
        assert_eq!(place("wsl://kai-1a/run/c.sock"), Some(("kai-1a", "/run/c.sock")));
        for bad in ["", "/run/c.sock", "wsl:///run/c.sock", "wsl://kai", "wsl://-d/x", "wsl://a b/x", r"\\.\pipe\x"] {
            assert_eq!(place(bad), None, "{bad}");
        }
        let error = |address: &str| {
            let options = ContainerdOptions { address: Some(address.into()), ..ContainerdOptions::default() };
            settings(&options, Wsl::at("/nonexistent"), "kai", "kai").err().unwrap()
        };
        let e = error(r"\\.\pipe\containerd-containerd");
        assert_eq!(e.code(), ErrorCode::UnsupportedPlatform);
        assert!(e.message().contains("Windows images only"));
        assert_eq!(error("").code(), ErrorCode::NotInstalled);
    }

    #[test]
    fn a_path_of_windows_is_found_in_the_distribution() {
        for (windows, linux) in [
            (r"C:\Users\me\my data", Some("/mnt/c/Users/me/my data")),
            ("d:/x", Some("/mnt/d/x")),
            (r"\\?\C:\x\", Some("/mnt/c/x")),
            (r"C:\", Some("/mnt/c")),
            (r"C:\Users\me\..\..\..\..\etc", Some("/mnt/c/etc")),
            (r"\\?\C:\..\../etc/.", Some("/mnt/c/etc")),
            (r"\\server\share", None),
            ("/tmp", None),
        ] {
            assert_eq!(below_mnt(windows).as_deref(), linux);
        }
    }

    #[test]
    fn a_path_of_the_distribution_is_found_on_windows() {
        for (linux, windows) in [
            ("/mnt/c/Users/me/my data", Some(r"C:\Users\me\my data")),
            ("/mnt/d", Some(r"D:\")),
            ("/mnt/c/", Some(r"C:\")),
            ("/mnt/cd/x", None),
            (r"/mnt/c/a\..\b", None),
            ("/mnt/c/a:stream", None),
            ("/mnt/é", None),
            ("/home/me", None),
        ] {
            assert_eq!(of_mnt(linux).as_deref(), windows, "{linux}");
        }
        let (drive, path) = Windows.host_path("/mnt/c/a/../b").unwrap();
        assert_eq!((drive.to_str(), path.to_str()), (Some(r"C:\"), Some(r"C:\b")));
    }

    #[tokio::test]
    async fn a_port_that_somebody_has_is_refused_by_its_number() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let e = Windows.check_ports(&[(Protocol::Tcp, port)]).await.unwrap_err();
        assert_eq!((e.code(), &e.details()["port"]), (ErrorCode::PortInUse, &port.into()));
        Windows.await_ports(&[(Protocol::Tcp, port)]).await.unwrap();
        assert!(Windows.forwards(Protocol::Tcp) && !Windows.forwards(Protocol::Udp));
    }
}

//! What a container to be made has mounted, as nerdctl takes it.

use super::super::prelude::*;
use crate::engine::{config, host};

pub(crate) async fn volume(c: &Containerd, i: usize, v: &VolumeMount) -> Result<String> {
    mountable(&format!("volumes[{i}].container"), &v.container)?;
    let mut source = v.host.clone();
    if validate::is_host_path(&v.host) {
        (source, _) = path(c, &format!("volumes[{i}].host"), &v.host).await?;
    }
    Ok(format!("--volume={source}:{}{}", v.container, if v.read_only { ":ro" } else { "" }))
}

/// An entry of `mounts`. A path has to be there.
pub(crate) async fn mount(c: &Containerd, i: usize, m: &MountSpec) -> Result<String> {
    mountable(&format!("mounts[{i}].target"), &m.target)?;
    let options: Vec<&str> = m.read_only.then_some("ro").into_iter().chain(m.propagation.as_deref()).collect();
    let options = if options.is_empty() { String::new() } else { format!(":{}", options.join(",")) };
    let target = &m.target;
    Ok(match (m.kind, &m.source) {
        (MountKind::Tmpfs, _) => format!("--tmpfs={target}{options}"),
        (_, None) => format!("--volume={target}{options}"),
        (MountKind::Volume, Some(name)) => format!("--volume={name}:{target}{options}"),
        (MountKind::Bind, Some(source)) => {
            let field = format!("mounts[{i}].source");
            let (path, is_there) = path(c, &field, source).await?;
            if !is_there {
                return Err(Error::invalid(field, format!("{source:?} is not on the engine's machine"))
                    .hint("Make it first, or use `volumes`, which makes a directory."));
            }
            format!("--volume={path}:{target}{options}")
        }
    })
}

/// A value of `tmpfs`, with nerdctl's own `noexec,nosuid,nodev` beside.
pub(crate) fn tmpfs(target: &str, options: &TmpfsOptions) -> String {
    let options = config::tmpfs_options(options);
    if options.is_empty() { target.to_owned() } else { format!("{target}:{options}") }
}

/// A path of the host as the engine's machine has it, and whether it is there.
async fn path(c: &Containerd, field: &str, given: &str) -> Result<(String, bool)> {
    if validate::is_docker_socket(given) {
        let problem = format!("{given:?} is Docker's API, and this engine is containerd");
        return Err(Error::invalid(field, problem).hint(
            "A program that needs Docker's API needs a Docker Engine: choose engine: 'docker', or use DockerAdapter.",
        ));
    }
    let mut path = given.to_owned();
    if let Some(host) = &c.settings.host {
        path = host::path_in_guest(host, c.guest(), c.settings.root, field, given).await?;
    }
    let found = c.guest().run(c.command(["test", "-e", &path])).await?.success();
    if !found && validate::is_socket_name(given) {
        let what = "is not on the engine's machine, and a socket cannot be made up";
        return Err(Error::invalid(field, format!("{given:?} {what}")).hint(
            "Start what listens on that socket, or leave the volume out: not every engine has a Docker socket.",
        ));
    }
    mountable(field, &path)?;
    Ok((path, found))
}

/// nerdctl makes one text with colons of every form of a mount, and reads it as CSV
/// (docs/reference/nerdctl.md#mounts-in-text).
pub(crate) fn mountable(field: &str, path: &str) -> Result<()> {
    let what = if path.contains(':') {
        "a colon"
    } else if path.contains("\r\n") {
        "\\r\\n"
    } else {
        return Ok(());
    };
    let problem = format!("{path:?} has {what}, which nerdctl cannot mount");
    Err(Error::invalid(field, problem).hint("Choose a path without one."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    struct Mounts(Vec<(String, String)>);

    #[async_trait::async_trait]
    impl host::Host for Mounts {
        fn mounts(&self) -> Vec<(String, String)> {
            self.0.clone()
        }

        fn forwards(&self, _: Protocol) -> bool {
            true
        }

        async fn check_ports(&self, _: &[host::HostPort]) -> Result<()> {
            Ok(())
        }

        async fn await_ports(&self, _: &[host::HostPort]) -> Result<()> {
            Ok(())
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_path_of_the_host_is_one_that_the_guest_has_mounted() {
        use crate::{engine::RuntimeType, guest::local::LocalGuest};
        let empty = tempfile::tempdir().unwrap();
        let failed = empty.path().display().to_string();
        let link = empty.path().join("link");
        std::os::unix::fs::symlink("/usr/lib", &link).unwrap();
        let guest = std::sync::Arc::new(LocalGuest::new("/nonexistent.sock"));
        let mut settings = super::super::super::settings::Settings::system(guest, RuntimeType::Lima, "default", "kai");
        settings.root = false;
        settings.host = Some(std::sync::Arc::new(Mounts(vec![
            ("/Users/me".into(), "/proc".into()),
            ("/Users/lost".into(), failed.clone()),
            (link.display().to_string(), "/proc".into()),
        ])));
        let c = Containerd::new(settings).unwrap();
        let mount = |host: &str| VolumeMount { host: host.into(), container: "/in".into(), read_only: true };
        assert_eq!(volume(&c, 0, &mount("/Users/me/self")).await.unwrap(), "--volume=/proc/self:/in:ro");
        // A mount at a link, called by its real name.
        assert_eq!(volume(&c, 0, &mount("/usr/lib/../lib/self")).await.unwrap(), "--volume=/proc/self:/in:ro");
        // Climbing leads nowhere that the guest sees, least of all to a directory of its own.
        for host in ["/Users/me/../../etc", "/Users/me/../me/../../etc", "/../etc"] {
            let e = volume(&c, 0, &mount(host)).await.unwrap_err();
            assert_eq!(e.details()["field"], "volumes[0].host", "{host}");
        }
        let at = |source: &str| MountSpec {
            kind: MountKind::Bind,
            source: Some(source.into()),
            target: "/in".into(),
            read_only: true,
            subpath: None,
            propagation: Some("rslave".into()),
        };
        assert_eq!(super::mount(&c, 0, &at("/Users/me/self")).await.unwrap(), "--volume=/proc/self:/in:ro,rslave");
        for (source, field) in [
            ("/Users/other", "mounts[0].source"),
            ("/Users/me/no-such", "mounts[0].source"),
            ("/var/run/docker.sock", "mounts[0].source"),
        ] {
            assert_eq!(super::mount(&c, 0, &at(source)).await.unwrap_err().details()["field"], field);
        }
        for (host, named) in [("/Users/lost/x", failed.as_str()), ("/Users/other", "/Users/me, /Users/lost")] {
            let e = volume(&c, 0, &mount(host)).await.unwrap_err();
            assert_eq!(
                (e.code(), e.details()["field"].as_str()),
                (ErrorCode::InvalidArgument, Some("volumes[0].host"))
            );
            assert!(e.message().contains(named), "{e}");
        }
    }
}

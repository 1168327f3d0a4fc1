//! `volumes` of a container to be made, as nerdctl takes them.

use super::super::prelude::*;
use crate::engine::host;

pub(crate) async fn volume(c: &Containerd, i: usize, v: &VolumeMount) -> Result<String> {
    let field = || format!("volumes[{i}].host");
    mountable(i, "container", &v.container)?;
    if !validate::is_host_path(&v.host) {
        return Ok(format!("--volume={}:{}{}", v.host, v.container, if v.read_only { ":ro" } else { "" }));
    }
    if validate::is_docker_socket(&v.host) {
        let problem = format!("{:?} is Docker's API, and this engine is containerd", v.host);
        return Err(Error::invalid(field(), problem).hint(
            "A program that needs Docker's API needs a Docker Engine: choose engine: 'docker', or use DockerAdapter.",
        ));
    }
    let mut path = v.host.clone();
    if let Some(host) = &c.settings.host {
        path = host::path_in_guest(host, c.guest(), c.settings.root, &field(), &v.host).await?;
    }
    let found = c.guest().run(c.command(["test", "-e", &path])).await?.success();
    if !found && validate::is_socket_name(&v.host) {
        let what = "is not on the engine's machine, and a socket cannot be made up";
        return Err(Error::invalid(field(), format!("{:?} {what}", v.host)).hint(
            "Start what listens on that socket, or leave the volume out: not every engine has a Docker socket.",
        ));
    }
    mountable(i, "host", &path)?;
    Ok(format!("--volume={path}:{}{}", v.container, if v.read_only { ":ro" } else { "" }))
}

/// nerdctl makes one text with colons of every form of a mount, and reads it as CSV
/// (docs/reference/nerdctl.md#mounts-in-text).
fn mountable(i: usize, part: &str, path: &str) -> Result<()> {
    let what = if path.contains(':') {
        "a colon"
    } else if path.contains("\r\n") {
        "\\r\\n"
    } else {
        return Ok(());
    };
    let problem = format!("{path:?} has {what}, which nerdctl cannot mount");
    Err(Error::invalid(format!("volumes[{i}].{part}"), problem).hint("Choose a path without one."))
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

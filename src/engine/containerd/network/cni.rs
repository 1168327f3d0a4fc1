//! One end of a network in a container, made and removed by the CNI plugins.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{container::find::FirstProcess, prelude::*};
use super::networks::Network;
use crate::{
    guest::BEGAN,
    process::{Command, Output},
};

/// Where nerdctl looks for the plugins (docs/reference/nerdctl.md#plugin-directories).
const PLUGINS: [&str; 5] =
    ["/opt/cni/bin", "/usr/local/libexec/cni", "/usr/local/lib/cni", "/usr/libexec/cni", "/usr/lib/cni"];

const RESULTS: &str = "/var/lib/cni/results";

/// One end of a network in a container.
pub(crate) struct Attachment<'a> {
    pub(crate) c: &'a Containerd,
    pub(crate) network: &'a Network,
    pub(crate) container: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) first: FirstProcess,
}

/// Runs a plugin with the network namespace of the process `$1` that began at `$2`, which it is given by a descriptor: the
/// number may be another container's by then. Without that process there is none, and nothing but to detach. The plugin
/// is this process, and whom it asks finds the descriptor, too.
const WITH_NETNS: &str = r#"{ command exec 9<"/proc/$1/ns/net"; } 2>/dev/null
CNI_NETNS=/proc/$$/fd/9
began "$1" && [ "$at" = "$2" ] || { CNI_NETNS= && [ "$CNI_COMMAND" = DEL ] || { echo 'it has ended' >&2; exit 1; }; }
export CNI_NETNS
shift 2
exec "$@""#;

impl Attachment<'_> {
    /// As nerdctl calls the container to CNI (docs/reference/cni.md#names-nerdctl-uses).
    fn cni_id(&self) -> String {
        format!("{}-{}", self.c.namespace(), self.container)
    }

    fn cache(&self) -> String {
        format!("{RESULTS}/{}-{}-{}", self.network.name, self.cni_id(), self.interface)
    }

    async fn plugins(&self) -> Result<String> {
        const FIRST: &str = r#"for d; do [ ! -x "$d/bridge" ] || { printf %s "$d"; exit; }; done; exit 1"#;
        if let Some(path) = &self.c.settings.cni_path {
            return Ok(path.clone());
        }
        let argv = ["sh", "-c", FIRST, "sh"].into_iter().chain(PLUGINS);
        let out = self.c.guest().run(self.c.inside(argv)).await?;
        if out.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        Err(Error::new(ErrorCode::NotInstalled, "The CNI plugins are not installed")
            .hint("Install containernetworking-plugins, or nerdctl-full."))
    }

    /// Runs the network's plugins one after the other, each with the result of the one before
    /// (docs/reference/cni.md#chain-of-plugins). `capabilities`: what those get of it that ask for it; as nerdctl's hook
    /// does, every network has the published ports.
    pub(crate) async fn attach(&self, capabilities: &Value) -> Result<Value> {
        let path = self.plugins().await?;
        let mut result = Value::Null;
        for plugin in &self.network.plugins {
            match self.run(&path, "ADD", plugin, &result, capabilities).await {
                Ok(output) => {
                    result = serde_json::from_slice(&output).unwrap_or(result);
                    self.name_sandbox(&mut result);
                }
                Err(e) => {
                    let _ = self.detach_with(&path, &result, capabilities).await;
                    return Err(e);
                }
            }
        }
        // What libcni keeps for whoever detaches it: nerdctl, when it stops the container
        // (docs/reference/cni.md#results-cache).
        let cached = json!({
            "kind": "cniCacheV1", "containerId": self.cni_id(), "config": STANDARD.encode(&self.network.text),
            "ifName": self.interface, "networkName": self.network.name, "cniArgs": [["IgnoreUnknown", "1"]],
            "capabilityArgs": capabilities, "result": result,
        });
        self.c.write_file(&self.cache(), cached.to_string()).await?;
        Ok(result)
    }

    /// As nerdctl names it, for later readers.
    fn name_sandbox(&self, result: &mut Value) {
        for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
            if interface["sandbox"].as_str().is_some_and(|s| !s.is_empty()) {
                interface["sandbox"] = format!("/proc/{}/ns/net", self.first.pid).into();
            }
        }
    }

    pub(crate) async fn detach(&self) -> Result<()> {
        let cached = self.c.guest().run(self.c.inside(["cat", "--", &self.cache()])).await?;
        let cached: Value = serde_json::from_slice(&cached.stdout).unwrap_or_default();
        self.detach_with(&self.plugins().await?, &cached["result"], &cached["capabilityArgs"]).await?;
        self.c.guest().run(self.c.inside(["rm", "-f", "--", &self.cache()])).await?.checked("rm").map(drop)
    }

    async fn detach_with(&self, path: &str, result: &Value, capabilities: &Value) -> Result<()> {
        for plugin in self.network.plugins.iter().rev() {
            self.run(path, "DEL", plugin, result, capabilities).await?;
        }
        Ok(())
    }

    async fn run(
        &self,
        path: &str,
        verb: &str,
        plugin: &Value,
        result: &Value,
        capabilities: &Value,
    ) -> Result<Vec<u8>> {
        let kind = plugin["type"].as_str().filter(|t| !t.contains('/')).unwrap_or_default();
        let mut config = plugin.clone();
        config["name"] = self.network.name.clone().into();
        config["cniVersion"] = self.network.version.clone().into();
        if !result.is_null() {
            config["prevResult"] = result.clone();
        }
        // portmap takes its rules back only from who names the ports (docs/reference/cni.md#ports-at-removal).
        for (name, value) in capabilities.as_object().into_iter().flatten() {
            if plugin["capabilities"][name] == true && !value.is_null() {
                config["runtimeConfig"][name] = value.clone();
            }
        }
        let (script, plugin) = ([BEGAN, WITH_NETNS].concat(), format!("{path}/{kind}"));
        let command: Command = self
            .c
            .inside(["sh", "-c", &script, "sh", &self.first.pid, &self.first.began, &plugin])
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", self.cni_id())
            .env("CNI_IFNAME", self.interface)
            .env("CNI_ARGS", "IgnoreUnknown=1")
            .env("CNI_PATH", path)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .input(config.to_string());
        let output = self.c.guest().run(command).await?;
        if output.success() {
            return Ok(output.stdout);
        }
        Err(self.failed(kind, output))
    }

    /// A plugin says why on its standard output (docs/reference/cni.md#errors).
    fn failed(&self, kind: &str, output: Output) -> Error {
        #[derive(Deserialize)]
        struct Said {
            msg: String,
            #[serde(default)]
            details: String,
        }
        let said = serde_json::from_slice::<Said>(&output.stdout).ok();
        let Some(said) = said else { return output.checked(kind).err().unwrap_or_else(|| Error::internal(kind)) };
        Error::new(ErrorCode::EngineError, format!("The network plugin {kind}: {} {}", said.msg, said.details).trim())
            .detail("network", self.network.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_plugin_gets_the_namespace_of_the_process_that_was_meant() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let (pid, began) = crate::process::identity::Identity::of(child.id()).unwrap().for_a_shell();
        let run = |pid: &str, began: &str, verb: &str| {
            let plugin = r#"echo "$CNI_NETNS $(readlink "$CNI_NETNS")""#;
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &[BEGAN, WITH_NETNS].concat(), "sh", pid, began, "sh", "-c", plugin]);
            let out = command.env("CNI_COMMAND", verb).output().unwrap();
            (out.status.success(), String::from_utf8(out.stdout).unwrap().trim().to_owned())
        };
        let space = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        for verb in ["ADD", "DEL"] {
            let (done, said) = run(&pid, &began, verb);
            assert!(done && said.starts_with("/proc/") && said.ends_with(&format!(" {}", space.display())), "{said}");
        }
        // Another has the number by now, which began in another tick of the clock; nobody has.
        child.kill().unwrap();
        let another = ("1".to_owned(), began.clone());
        child.wait().unwrap();
        for (pid, began) in [another, (pid, began)] {
            assert_eq!(run(&pid, &began, "ADD"), (false, String::new()));
            assert_eq!(run(&pid, &began, "DEL"), (true, String::new()));
        }
    }
}

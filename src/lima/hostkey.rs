//! The guest's SSH host key. We make it and put it into the guest's first boot command, so it is known before the first
//! connection: another program on the VM's port, before or after the VM, cannot pass for it.

use std::io::Read;

use russh::keys::{
    PrivateKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};
use serde_norway::{Mapping, Value};

use crate::error::{Error, ErrorCode, Result};

/// Runs before sshd starts, at each boot (cloud-init's `bootcmd` is one script for all commands, hence the subshell). A
/// `HostKey` line replaces the guest's own keys, so sshd offers only this one. cloud-init renews its own keys at each of
/// Lima's boots and leaves a file of another name alone.
const SCRIPT: &str = r#"#!/bin/sh
(
umask 077
key=/etc/ssh/lima-runtime_host_key
cat >"$key.new" <<'KEY'
<key>KEY
if cmp -s "$key.new" "$key" && grep -qs "^HostKey $key" /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*; then
  rm -f "$key.new"
  exit 0
fi
mv -f "$key.new" "$key"
if grep -Eqis '^include +/etc/ssh/sshd_config\.d/' /etc/ssh/sshd_config; then
  mkdir -p /etc/ssh/sshd_config.d
  echo "HostKey $key" >/etc/ssh/sshd_config.d/05-lima-runtime-hostkey.conf
else
  sed -i "1i HostKey $key" /etc/ssh/sshd_config
fi
# Where a socket has started it already.
systemctl --no-block try-reload-or-restart ssh.service sshd.service 2>/dev/null
)
"#;
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MARK: &str = "key=/etc/ssh/lima-runtime_host_key";

/// Adds a host key to an instance's document that has none, and returns the public half in OpenSSH's format. The private
/// half lies in `lima.yaml`, in a directory that only this user can read, and reaches only the guest's root.
pub fn add_to(document: &mut Mapping) -> Result<String> {
    let there = provisions(document)?.iter().find_map(|p| key_in(p.get("script")?.as_str()?));
    let failed = |e| Error::internal(format!("the host key cannot be written: {e}"));
    let key = if let Some(key) = there {
        key
    } else {
        let key = generate()?;
        let text = key.to_openssh(LineEnding::LF).map_err(failed)?;
        let mut provision = Mapping::new();
        provision.insert("mode".into(), "boot".into());
        provision.insert("script".into(), SCRIPT.replace("<key>", &text).into());
        let all = provisions(document)?;
        // Drops a script of ours whose key is damaged.
        all.retain(|p| !p.get("script").and_then(Value::as_str).is_some_and(|script| script.contains(MARK)));
        all.insert(0, provision.into());
        key
    };
    key.public_key().to_openssh().map_err(failed)
}

/// Takes the script with the host key out of a document.
pub fn provision_of(document: &mut Mapping) -> Result<Option<Value>> {
    if !document.contains_key("provision") {
        return Ok(None);
    }
    let all = provisions(document)?;
    let ours = |p: &Value| p.get("script").and_then(Value::as_str).is_some_and(|script| script.contains(MARK));
    Ok(all.iter().position(ours).map(|at| all.remove(at)))
}

/// Puts it where [`add_to`] would.
pub fn put_back(document: &mut Mapping, provision: Option<Value>) -> Result<()> {
    if let Some(provision) = provision {
        provisions(document)?.insert(0, provision);
    }
    Ok(())
}

pub(super) fn provisions(document: &mut Mapping) -> Result<&mut Vec<Value>> {
    let value = document.entry("provision".into()).or_insert_with(|| Value::Sequence(Vec::new()));
    if value.is_null() {
        *value = Value::Sequence(Vec::new());
    }
    value.as_sequence_mut().ok_or_else(|| Error::invalid("template", "provision is not a list"))
}

fn key_in(script: &str) -> Option<PrivateKey> {
    if !script.contains(MARK) {
        return None;
    }
    let (_, rest) = script.split_once(BEGIN)?;
    let (body, _) = rest.split_once(END)?;
    PrivateKey::from_openssh(format!("{BEGIN}{body}{END}\n")).ok()
}

fn generate() -> Result<PrivateKey> {
    let mut seed = [0; 32];
    let source = "/dev/urandom";
    let read = std::fs::File::open(source).and_then(|mut file| file.read_exact(&mut seed));
    read.map_err(|e| Error::new(ErrorCode::Internal, format!("{source} cannot be read: {e}")).source(e))?;
    Ok(Ed25519Keypair::from_seed(&seed).into())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn mapping(text: &str) -> Mapping {
        serde_norway::from_str(text).unwrap()
    }

    #[test]
    fn a_key_is_laid_in_once_and_stays() {
        let mut document = mapping("provision: [{mode: system, script: 'echo {{.User}}'}]\n");
        let public = add_to(&mut document).unwrap();
        assert!(public.starts_with("ssh-ed25519 AAAA"), "{public}");
        let before = document.clone();
        assert_eq!(add_to(&mut document).unwrap(), public);
        assert_eq!(document, before);
        // Written to YAML and read again, as happens at each boot.
        let mut again = mapping(&serde_norway::to_string(&document).unwrap());
        assert_eq!(add_to(&mut again).unwrap(), public);
        let all = again["provision"].as_sequence().unwrap();
        assert_eq!((all.len(), all[0]["mode"].as_str(), all[1]["mode"].as_str()), (2, Some("boot"), Some("system")));

        // Each VM has its own key.
        for text in ["{}", "provision:\n", "provision: []\n"] {
            assert_ne!(add_to(&mut mapping(text)).unwrap(), public);
        }
        assert_eq!(add_to(&mut mapping("provision: 5\n")).unwrap_err().code(), ErrorCode::InvalidArgument);
        // A damaged key is replaced; a key in another script is not the host key.
        let script = all[0]["script"].as_str().unwrap().replace("\nb3Bl", "\nxxxx");
        let mut damaged = Mapping::new();
        let mut provision = Mapping::new();
        provision.insert("script".into(), script.into());
        damaged.insert("provision".into(), Value::Sequence(vec![provision.into()]));
        assert_ne!(add_to(&mut damaged).unwrap(), public);
        assert_eq!(damaged["provision"].as_sequence().unwrap().len(), 1);
    }

    /// Runs the script with another directory for `/etc/ssh`; `systemctl` records its arguments.
    #[test]
    fn the_boot_command_leaves_sshd_with_this_key_alone() {
        let mut document = mapping("{}");
        let public = add_to(&mut document).unwrap();
        let script = document["provision"][0]["script"].as_str().unwrap().to_owned();
        for (config, file) in [
            ("Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n", "sshd_config.d/05-lima-runtime-hostkey.conf"),
            ("# include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\nMatch User x\n", "sshd_config"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let here = |text: &str| text.replace("/etc/ssh", dir.path().to_str().unwrap());
            std::fs::write(at("sshd_config"), here(config)).unwrap();
            // The script's grep has the path as a pattern.
            let script = here(&script).replace("/sshd_config\\.d/' ", "/sshd_config[.]d/' ");
            let script = format!("systemctl() {{ echo \"$*\" >>'{}'; }}\n{script}", at("asked").display());
            for round in 0..2 {
                let out = Command::new("sh").args(["-c", &script]).output().unwrap();
                assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
                let asked = std::fs::read_to_string(at("asked")).unwrap();
                assert_eq!(asked.lines().count(), 1, "nothing is to be done in round {round}: {asked}");
            }
            let text = std::fs::read_to_string(at(file)).unwrap();
            let line = format!("HostKey {}\n", at("lima-runtime_host_key").display());
            assert!(text.starts_with(&line) && text.matches("HostKey").count() == 1, "{text}");
            let out = Command::new("ssh-keygen").arg("-yf").arg(at("lima-runtime_host_key")).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), public);
            let mode = std::fs::metadata(at("lima-runtime_host_key")).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
        }
    }
}

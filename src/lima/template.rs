//! The instance's YAML: a base document with our settings over it. Written by a YAML library, so that no path or
//! certificate can break out of its value.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_norway::{Mapping, Value};

use super::{
    data_disk::{self, Attached, ROOT_DISK},
    hostkey,
    instance::release,
};
use crate::{
    error::{Error, Result},
    fetch::platform::Platform,
};

pub const BUILT_IN: &str = include_str!("../../templates/lima-containerd.yaml");

/// The processor, by Lima's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    #[serde(rename = "x86_64")]
    X86_64,
    Aarch64,
}

impl Arch {
    /// That of this machine's guests.
    pub fn this() -> Result<Self> {
        Ok(match Platform::current()?.guest() {
            Platform::LinuxArm64 => Self::Aarch64,
            _ => Self::X86_64,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmType {
    Vz,
    Qemu,
}

impl VmType {
    /// vz on macOS, which has Virtualization.framework; QEMU elsewhere.
    pub const DEFAULT: VmType = if cfg!(target_os = "macos") { VmType::Vz } else { VmType::Qemu };
}

/// A file to boot from or to install: an address, or an absolute path of this host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VmFile {
    pub location: String,
    pub arch: Arch,
    /// `sha256:…`; absent only for a local file that was verified already (docs/reference/lima.md#local-files).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<VmBootFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kernel {
    pub location: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    pub cmdline: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VmBootFile {
    pub location: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl VmFile {
    /// A file of this host that was verified.
    pub fn here(path: &Path, arch: Arch) -> Self {
        Self { location: path.to_string_lossy().into_owned(), arch, digest: None, kernel: None, initrd: None }
    }
}

/// A directory of the host, seen in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmMount {
    /// Absolute, or starting with `~`.
    pub location: String,
    /// Absent: the same path in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_point: Option<String>,
    #[serde(default)]
    pub writable: bool,
}

/// Everything the manager decides about a VM. `None` and an empty list keep the base document's value.
#[derive(Debug, Clone)]
pub struct VmSettings {
    pub arch: Arch,
    pub vm_type: VmType,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes: of the data disk, where the VM has one.
    pub disk: u64,
    /// Attached at the next boot.
    pub data: Option<Attached>,
    pub mounts: Vec<VmMount>,
    /// Tried in order.
    pub images: Vec<VmFile>,
    pub nerdctl: Vec<VmFile>,
    /// Lima installs and runs containerd. Otherwise we bring the engine.
    pub containerd: bool,
    /// A free port of the host. Without one, Lima gives 60022 to any instance called `default`, which collides with the
    /// user's own (docs/reference/lima.md#ssh-port).
    pub ssh_port: u16,
    /// Runs amd64 programs on Apple silicon.
    pub rosetta: bool,
    /// PEM texts, or PEM files of the host.
    pub ca_certificates: Vec<String>,
}

/// Writes `settings` over `base`. `INVALID_ARGUMENT` when the base is not a YAML mapping or a setting cannot be expressed.
pub fn render(base: &str, settings: &VmSettings) -> Result<String> {
    let mut root: Mapping = serde_norway::from_str(base)
        .map_err(|e| Error::invalid("template", format!("not a YAML mapping: {e}")).source(e))?;
    check_way_in("template", &root)?;
    for mount in &settings.mounts {
        check_mount("", mount)?;
    }
    set(&mut root, "vmType", settings.vm_type)?;
    set(&mut root, "arch", settings.arch)?;
    set(&mut root, "cpus", settings.cpus)?;
    set(&mut root, "memory", size(settings.memory))?;
    set(&mut root, "disk", size(if settings.data.is_some() { ROOT_DISK } else { settings.disk }))?;
    if let Some(data) = &settings.data {
        data_disk::lay(&mut root, data)?;
    }
    // Written even when empty: without the key Lima mounts nothing today, but might mount the home directory tomorrow.
    set(&mut root, "mounts", &settings.mounts)?;
    set(section(&mut root, "ssh")?, "localPort", settings.ssh_port)?;
    forward_udp(&mut root)?;
    if !settings.images.is_empty() {
        set(&mut root, "images", &settings.images)?;
    }
    if root.get("images").and_then(Value::as_sequence).is_none_or(Vec::is_empty) {
        return Err(Error::invalid("template", "names no images"));
    }
    lay_engine(&mut root, settings)?;
    if settings.rosetta && settings.vm_type == VmType::Vz && settings.arch == Arch::Aarch64 {
        let rosetta = section(&mut root, "rosetta")?;
        set(rosetta, "enabled", true)?;
        set(rosetta, "binfmt", true)?;
    }
    // limactl gets the proxy in its environment and writes it for the guest, with the host's address adapted
    // (docs/reference/lima.md#proxies).
    set(&mut root, "propagateProxyEnv", true)?;
    let (texts, files): (Vec<_>, Vec<_>) = settings.ca_certificates.iter().partition(|ca| ca.contains("-----BEGIN "));
    for (key, list) in [("certs", texts), ("files", files)] {
        if !list.is_empty() {
            set(section(&mut root, "caCerts")?, key, list)?;
        }
    }
    serde_norway::to_string(&root).map_err(|e| Error::internal(format!("the template cannot be written: {e}")))
}

/// Whether a `lima.yaml` attaches the data disk of that name.
pub fn has_data(document: &str, name: &str) -> bool {
    serde_norway::from_str::<Value>(document).is_ok_and(|root| data_disk::is_in(&root, name))
}

/// The SSH port that a `lima.yaml` names.
pub fn ssh_port(document: &str) -> Option<u16> {
    let root: Value = serde_norway::from_str(document).ok()?;
    root.get("ssh")?.get("localPort")?.as_u64()?.try_into().ok().filter(|&port| port > 0)
}

/// The part of a `lima.yaml` that can change between two boots, and what kind of VM it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub disk: u64,
    pub mounts: Vec<VmMount>,
    pub arch: String,
    pub vm_type: String,
}

/// `None` for a document that we did not make.
pub fn shape(document: &str) -> Option<Shape> {
    let root: Value = serde_norway::from_str(document).ok()?;
    let text = |key: &str| root.get(key)?.as_str().map(str::to_owned);
    let mounts = root.get("mounts").filter(|m| !m.is_null()).cloned();
    Some(Shape {
        cpus: root.get("cpus")?.as_u64()?.try_into().ok()?,
        memory: bytes(root.get("memory")?)?,
        disk: bytes(root.get("disk")?)?,
        mounts: mounts.map_or(Ok(Vec::new()), serde_norway::from_value).ok()?,
        arch: text("arch")?,
        vm_type: text("vmType")?,
    })
}

/// `document` with the settings that may change in an existing VM: CPUs, memory, mounts, the containerd to install, a disk
/// that grows, and UDP ports. The same text when nothing changes.
pub fn with_settings(document: &str, settings: &VmSettings) -> Result<String> {
    let root: Mapping = serde_norway::from_str(document)
        .map_err(|e| Error::invalid("lima.yaml", format!("not a YAML mapping: {e}")).source(e))?;
    check_way_in("lima.yaml", &root)?;
    let mut new = root.clone();
    set(&mut new, "cpus", settings.cpus)?;
    set(&mut new, "memory", size(settings.memory))?;
    if let Some(data) = &settings.data {
        data_disk::lay(&mut new, data)?;
    // Never smaller: Lima refuses to shrink a disk, which would lose its contents
    // (docs/reference/lima.md#settings-of-an-instance).
    } else if new.get("disk").and_then(bytes).is_none_or(|disk| disk < settings.disk) {
        set(&mut new, "disk", size(settings.disk))?;
    }
    set(&mut new, "mounts", &settings.mounts)?;
    forward_udp(&mut new)?;
    lay_engine(&mut new, settings)?;
    if new == root {
        return Ok(document.to_owned());
    }
    serde_norway::to_string(&new).map_err(|e| Error::internal(format!("lima.yaml cannot be written: {e}")))
}

/// `document` with the boot scripts and the containerd of `base`, for a VM that gets another engine. Its host key stays.
pub fn with_boot_of(document: &str, base: &str) -> Result<String> {
    let parsed = |field: &str, text: &str| -> Result<Mapping> {
        serde_norway::from_str(text).map_err(|e| Error::invalid(field, format!("not a YAML mapping: {e}")).source(e))
    };
    let (mut root, base) = (parsed("lima.yaml", document)?, parsed("template", base)?);
    let host_key = hostkey::provision_of(&mut root)?;
    for key in ["provision", "probes", "containerd"] {
        match base.get(key) {
            Some(said) => _ = root.insert(key.into(), said.clone()),
            None => _ = root.remove(key),
        }
    }
    hostkey::put_back(&mut root, host_key)?;
    serde_norway::to_string(&root).map_err(|e| Error::internal(format!("lima.yaml cannot be written: {e}")))
}

/// `document` with the host key it has or a new one, and that key's public half.
pub fn with_host_key(document: &str) -> Result<(String, String)> {
    let root: Mapping = serde_norway::from_str(document)
        .map_err(|e| Error::invalid("lima.yaml", format!("not a YAML mapping: {e}")).source(e))?;
    let mut new = root.clone();
    let public = hostkey::add_to(&mut new)?;
    if new == root {
        return Ok((document.to_owned(), public));
    }
    let text =
        serde_norway::to_string(&new).map_err(|e| Error::internal(format!("lima.yaml cannot be written: {e}")))?;
    Ok((text, public))
}

/// `document` with only the SSH port replaced, for an instance whose port was taken meanwhile.
pub fn with_ssh_port(document: &str, port: u16) -> Result<String> {
    let mut root: Mapping = serde_norway::from_str(document)
        .map_err(|e| Error::invalid("lima.yaml", format!("not a YAML mapping: {e}")).source(e))?;
    set(section(&mut root, "ssh")?, "localPort", port)?;
    serde_norway::to_string(&root).map_err(|e| Error::internal(format!("lima.yaml cannot be written: {e}")))
}

/// We cannot type a password, and a plain guest has neither containerd nor forwarded ports.
fn check_way_in(field: &str, root: &Mapping) -> Result<()> {
    let is = |value: Option<&Value>, so| value.and_then(Value::as_bool) == Some(so);
    let problem = if is(root.get("user").and_then(|user| user.get("passwordlessSudo")), false) {
        "user.passwordlessSudo: false: containerd in the VM is reached by sudo"
    } else if is(root.get("plain"), true) {
        "plain: true: Lima would install no containerd and forward no ports"
    } else {
        return Ok(());
    };
    Err(Error::invalid(field, problem).hint("Remove the line."))
}

/// Lima 1.x forwards UDP only with a rule (docs/reference/lima.md#udp-ports). A template that has a rule for UDP, or
/// forbids forwarding, keeps its own.
fn forward_udp(root: &mut Mapping) -> Result<()> {
    let said = root.get("portForwards").filter(|rules| !rules.is_null()).cloned();
    let mut rules: Vec<Value> = said
        .map_or(Ok(Vec::new()), serde_norway::from_value)
        .map_err(|e| Error::invalid("template", format!("portForwards is not a list: {e}")).source(e))?;
    let speaks_of_udp = |rule: &Value| {
        let protocol = rule.get("proto").and_then(Value::as_str);
        matches!(protocol, Some("udp" | "any")) || rule.get("ignore").and_then(Value::as_bool) == Some(true)
    };
    if rules.iter().any(speaks_of_udp) {
        return Ok(());
    }
    let rule: Mapping = [("proto".into(), "udp".into())].into_iter().collect();
    rules.push(rule.into());
    set(root, "portForwards", rules)
}

fn lay_engine(root: &mut Mapping, settings: &VmSettings) -> Result<()> {
    if !settings.containerd {
        // Also the user's own one, which Lima runs by default.
        for whose in ["system", "user"] {
            set(section(root, "containerd")?, whose, false)?;
        }
    } else if !settings.nerdctl.is_empty() {
        let containerd = section(root, "containerd")?;
        set(containerd, "archives", &settings.nerdctl)?;
        // A VM of a baked image had none to install.
        set(containerd, "system", true)?;
    }
    Ok(())
}

fn set(map: &mut Mapping, key: &str, value: impl Serialize) -> Result<()> {
    let value = serde_norway::to_value(value).map_err(|e| Error::invalid(key, e))?;
    map.insert(key.into(), value);
    Ok(())
}

fn section<'a>(map: &'a mut Mapping, key: &str) -> Result<&'a mut Mapping> {
    let value = map.entry(key.into()).or_insert_with(|| Value::Mapping(Mapping::new()));
    if value.is_null() {
        *value = Value::Mapping(Mapping::new());
    }
    value.as_mapping_mut().ok_or_else(|| Error::invalid("template", format!("{key} is not a mapping")))
}

/// Lima reads `4GiB`, and a bare number as bytes.
fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20)] {
        if bytes >> shift << shift == bytes {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Reads what [`size`] writes and what a person may have written: `4GiB`, `4G`, `4294967296`. Lima takes all units as
/// binary.
fn bytes(value: &Value) -> Option<u64> {
    if let Some(n) = value.as_u64() {
        return Some(n);
    }
    let text = value.as_str()?.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let power =
        ["", "k", "m", "g", "t"].iter().position(|u| *u == unit.trim_end_matches("ib").trim_end_matches('b'))?;
    number.checked_mul(1_u64 << (10 * power))
}

/// Refuses what Lima refuses, or accepts and never mounts (docs/reference/lima.md#mounts). `at_option` is what stands
/// before `mounts` in the caller's options.
pub fn check_mount(at_option: &str, mount: &VmMount) -> Result<()> {
    const TAKEN: [&str; 10] = ["/", "/bin", "/dev", "/etc", "/home", "/opt", "/sbin", "/tmp", "/usr", "/var"];
    let at = mount.mount_point.as_ref().unwrap_or(&mount.location);
    let in_home = mount.location == "~" || mount.location.starts_with("~/");
    if !in_home && !Path::new(&mount.location).is_absolute() {
        return Err(Error::invalid(
            format!("{at_option}mounts.location"),
            format!("{:?} is not an absolute path", mount.location),
        ));
    }
    if mount.mount_point.is_some() && !at.starts_with('/') {
        return Err(Error::invalid(format!("{at_option}mounts.mountPoint"), format!("{at:?} is not an absolute path")));
    }
    // Lima writes it unquoted into a YAML list and from there into a line of fstab.
    let breaks = |c: char| c != ' ' && (c.is_whitespace() || c.is_control() || ",[]{}".contains(c));
    if at.contains(breaks) {
        let problem = format!("{at:?}: a guest mounts no path with a comma, bracket, tab or line break");
        return Err(Error::invalid(format!("{at_option}mounts.mountPoint"), problem)
            .hint("Give a mountPoint of other characters."));
    }
    // Lima would expand the value as a template (docs/reference/lima.md#template-actions).
    if mount.location.contains("{{") || at.contains("{{") {
        return Err(Error::invalid(format!("{at_option}mounts.location"), "a path with '{{' cannot be mounted"));
    }
    let plain = if at.len() > 1 { at.trim_end_matches('/') } else { at };
    if TAKEN.contains(&plain) {
        return Err(Error::invalid(
            format!("{at_option}mounts.mountPoint"),
            format!("{at} belongs to the guest itself"),
        ));
    }
    Ok(())
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(document: &str) {
    ssh_port(document);
    shape(document);
    if let Ok(text) = with_ssh_port(document, 2222) {
        assert_eq!(ssh_port(&text), Some(2222));
    }
    if let Ok((text, key)) = with_host_key(document) {
        assert_eq!(with_host_key(&text).ok(), Some((text, key)));
    }
}

/// Lima before 2.2 accepts a mount point with a space and never mounts it; later only vz mounts it
/// (docs/reference/lima.md#mounts). `lima` is the version that will boot it, when that is known.
pub fn check_spaces(at_option: &str, mount: &VmMount, vm_type: VmType, lima: Option<&str>) -> Result<()> {
    let at = mount.mount_point.as_ref().unwrap_or(&mount.location);
    let mended = lima.is_none_or(|version| release(version).is_none_or(|release| release >= (2, 2)));
    if !at.contains(' ') || (mended && vm_type == VmType::Vz) {
        return Ok(());
    }
    let field = format!("{at_option}mounts.mountPoint");
    Err(Error::invalid(field, format!("{at:?}: this guest mounts no path with a space"))
        .hint("Give a mountPoint without spaces. Lima 2.2 mounts one with spaces on a Mac."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorCode;

    fn settings() -> VmSettings {
        VmSettings {
            arch: Arch::Aarch64,
            vm_type: VmType::Vz,
            cpus: 4,
            memory: 4 << 30,
            disk: 100 << 30,
            data: None,
            mounts: vec![VmMount { location: "~".into(), mount_point: None, writable: true }],
            images: vec![],
            nerdctl: vec![],
            ssh_port: 40022,
            rosetta: true,
            containerd: true,
            ca_certificates: vec![],
        }
    }

    fn parsed(text: &str) -> Value {
        serde_norway::from_str(text).unwrap()
    }

    #[test]
    fn the_default_vm_is_the_one_of_the_design() {
        let v = parsed(&render(BUILT_IN, &settings()).unwrap());
        assert_eq!(v["vmType"], "vz");
        assert_eq!(v["arch"], "aarch64");
        assert_eq!((&v["memory"], &v["disk"]), (&Value::from("4GiB"), &Value::from("100GiB")));
        assert_eq!(v["containerd"]["system"], true);
        assert_eq!(v["containerd"]["user"], false);
        assert_eq!(v["user"]["name"], "lima");
        assert_eq!(v["ssh"]["localPort"], 40022);
        assert_eq!(v["ssh"]["loadDotSSHPubKeys"], false);
        assert_eq!(v["mounts"][0]["location"], "~");
        assert_eq!(v["mounts"][0]["writable"], true);
        assert_eq!(v["portForwards"][0]["hostSocket"], "{{.Dir}}/sock/containerd.sock");
        assert_eq!(v["rosetta"]["binfmt"], true);
        let images = v["images"].as_sequence().unwrap();
        assert!(images.iter().all(|i| i["digest"].as_str().is_some_and(|d| d.starts_with("sha256:"))));
    }

    #[test]
    fn what_is_given_replaces_the_templates_word_and_the_rest_stays() {
        let base = "images: [{location: /a}]\nfirmware: {legacyBIOS: true}\nssh:\nmounts: [{location: /old}]\n";
        let image = VmFile {
            location: "/with space/é.qcow2".into(),
            arch: Arch::X86_64,
            digest: None,
            kernel: Some(Kernel { location: "/k".into(), digest: None, cmdline: "root=/dev/vda".into() }),
            initrd: None,
        };
        let s = VmSettings {
            arch: Arch::X86_64,
            vm_type: VmType::Qemu,
            memory: (1 << 30) + 1,
            mounts: vec![],
            images: vec![image],
            ca_certificates: vec!["/ca: \"x\"\n.pem".into(), "-----BEGIN CERTIFICATE-----\nx\n".into()],
            ..settings()
        };
        let v = parsed(&render(base, &s).unwrap());
        assert_eq!(v["firmware"]["legacyBIOS"], true);
        assert_eq!(v["images"][0]["location"], "/with space/é.qcow2");
        assert_eq!(v["images"][0]["kernel"]["cmdline"], "root=/dev/vda");
        assert_eq!(v["memory"], "1073741825");
        assert_eq!(v["mounts"].as_sequence().unwrap().len(), 0);
        assert_eq!(v["caCerts"]["files"][0], "/ca: \"x\"\n.pem");
        assert_eq!(v["caCerts"]["certs"][0], "-----BEGIN CERTIFICATE-----\nx\n");
        assert!(v.get("rosetta").is_none(), "Rosetta is Apple's");
    }

    #[cfg(unix)]
    #[test]
    fn the_scripts_of_the_template_are_bash() {
        let root: Value = serde_norway::from_str(BUILT_IN).unwrap();
        let scripts = ["provision", "probes"].into_iter().flat_map(|key| root[key].as_sequence().unwrap());
        for script in scripts.map(|s| s["script"].as_str().unwrap()) {
            let check = std::process::Command::new("bash").args(["-n", "-c", script]).output().unwrap();
            assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        }
    }

    #[test]
    fn a_template_or_mount_that_cannot_work_is_refused() {
        for base in ["[1]", "images: [", "ssh: 5", ""] {
            assert_eq!(
                render(base, &settings()).map(|_| ()).map_err(|e| e.code()),
                Err(ErrorCode::InvalidArgument),
                "{base}"
            );
        }
        for (location, mount_point) in [
            ("relative", None),
            ("", None),
            ("/", None),
            ("/etc/", None),
            ("/Users/a\tb", None),
            ("/Users/a,b", None),
            ("/Users/a", Some("/mnt/a\n- [x, /etc]")),
            ("/Users/a", Some("/mnt/[a]")),
            ("/Users/a", Some("mnt")),
            ("/Users/a", Some("/usr")),
            ("/Users/{{.Dir}}", None),
        ] {
            let mount =
                VmMount { location: location.into(), mount_point: mount_point.map(Into::into), writable: false };
            let e = render(BUILT_IN, &VmSettings { mounts: vec![mount], ..settings() }).map(|_| ()).unwrap_err();
            assert_eq!(e.code(), ErrorCode::InvalidArgument, "{location} {mount_point:?}");
        }
        let spaced = VmMount { location: "/Users/a, b".into(), mount_point: Some("/mnt/ab".into()), writable: false };
        render(BUILT_IN, &VmSettings { mounts: vec![spaced], ..settings() }).unwrap();
    }

    #[test]
    fn a_mount_point_with_a_space_needs_a_lima_that_mounts_it() {
        let check = |location: &str, at: Option<&str>, vm_type, lima| {
            let mount = VmMount { location: location.into(), mount_point: at.map(Into::into), writable: false };
            check_spaces("resources.", &mount, vm_type, lima)
        };
        for (vm_type, lima, mounted) in [
            (VmType::Vz, None, true),
            (VmType::Vz, Some("2.2.0"), true),
            (VmType::Vz, Some("2.10.1"), true),
            (VmType::Vz, Some("2.1.3"), false),
            (VmType::Vz, Some("1.2.1"), false),
            (VmType::Qemu, Some("2.2.0"), false),
            (VmType::Qemu, None, false),
        ] {
            for (location, at) in [("/Users/a b", None), ("/Users/a", Some("/mnt/a b"))] {
                let said = check(location, at, vm_type, lima);
                assert_eq!(said.is_ok(), mounted, "{vm_type:?} {lima:?}");
                assert!(said.err().is_none_or(|e| e.details()["field"] == "resources.mounts.mountPoint"));
            }
            check("/Users/a b", Some("/mnt/ab"), vm_type, lima).unwrap();
        }
    }

    #[test]
    fn udp_is_forwarded_by_every_lima_unless_the_template_says_otherwise() {
        let udp = |text: &str| {
            let rules = parsed(text)["portForwards"].as_sequence().cloned().unwrap_or_default();
            rules.iter().filter(|rule| rule.get("proto") == Some(&"udp".into())).count()
        };
        let rendered = render(BUILT_IN, &settings()).unwrap();
        assert_eq!(udp(&rendered), 1);
        assert_eq!(parsed(&rendered)["portForwards"][0]["guestSocket"], "/run/containerd/containerd.sock");
        // A VM of an earlier version of ours.
        let mut old: Mapping = serde_norway::from_str(&rendered).unwrap();
        old.remove("portForwards");
        let old = serde_norway::to_string(&old).unwrap();
        let new = with_settings(&old, &settings()).unwrap();
        assert_eq!((udp(&old), udp(&new), udp(&with_settings(&new, &settings()).unwrap())), (0, 1, 1));
        for (rules, expected) in [
            ("", 1),
            ("[]", 1),
            ("[{guestPort: 1}]", 1),
            ("[{proto: udp, guestPort: 1}]", 1),
            ("[{proto: any}]", 0),
            ("[{ignore: true}]", 0),
        ] {
            let base = format!("images: [{{location: /a}}]\nportForwards: {rules}\n");
            assert_eq!(udp(&render(&base, &settings()).unwrap()), expected, "{rules}");
        }
        assert!(render("images: [{location: /a}]\nportForwards: 1\n", &settings()).is_err());
    }

    #[test]
    fn a_guest_without_a_way_in_is_refused() {
        for line in ["user: {passwordlessSudo: false}", "plain: true"] {
            let base = format!("images: [{{location: /a}}]\n{line}\n");
            let e = render(&base, &settings()).map(drop).unwrap_err();
            assert_eq!((e.code(), &e.details()["field"]), (ErrorCode::InvalidArgument, &"template".into()), "{line}");
            let e = with_settings(&base, &settings()).map(drop).unwrap_err();
            assert_eq!((e.code(), &e.details()["field"]), (ErrorCode::InvalidArgument, &"lima.yaml".into()), "{line}");
        }
        let base = "images: [{location: /a}]\nuser: {passwordlessSudo: true}\nplain: false\n";
        render(base, &settings()).unwrap();
    }

    #[test]
    fn another_ssh_port_leaves_the_rest_alone() {
        let before = render(BUILT_IN, &settings()).unwrap();
        let after = with_ssh_port(&before, 50000).unwrap();
        let (mut a, b) = (parsed(&before), parsed(&after));
        assert_eq!((ssh_port(&before), ssh_port(&after)), (Some(40022), Some(50000)));
        assert_eq!((ssh_port("ssh: {localPort: 0}"), ssh_port("ssh: 1"), ssh_port("[")), (None, None, None));
        assert_eq!(b["ssh"]["localPort"], 50000);
        a["ssh"]["localPort"] = 50000.into();
        assert_eq!(a, b);
    }

    #[test]
    fn an_existing_vm_gets_what_may_change_and_keeps_the_rest() {
        let before = render(BUILT_IN, &settings()).unwrap();
        assert_eq!(with_settings(&before, &settings()).unwrap(), before);
        let file = VmFile { location: "/n.tgz".into(), arch: Arch::Aarch64, digest: None, kernel: None, initrd: None };
        let more = VmSettings {
            cpus: 6,
            memory: 6 << 30,
            disk: 120 << 30,
            mounts: vec![],
            nerdctl: vec![file],
            vm_type: VmType::Qemu,
            ssh_port: 1,
            ..settings()
        };
        let after = with_settings(&before, &more).unwrap();
        let shape = shape(&after).unwrap();
        assert_eq!((shape.cpus, shape.memory, shape.disk, shape.mounts.len()), (6, 6 << 30, 120 << 30, 0));
        assert_eq!((shape.arch.as_str(), shape.vm_type.as_str(), ssh_port(&after)), ("aarch64", "vz", Some(40022)));
        assert_eq!(parsed(&after)["containerd"]["archives"][0]["location"], "/n.tgz");
        // A disk never shrinks.
        let less = with_settings(&after, &VmSettings { disk: 20 << 30, ..settings() }).unwrap();
        assert_eq!(super::shape(&less).unwrap().disk, 120 << 30);
        for (text, expected) in
            [("4GiB", Some(4 << 30)), ("4g", Some(4 << 30)), ("512MB", Some(512 << 20)), ("x", None)]
        {
            assert_eq!(bytes(&text.into()), expected, "{text}");
        }
    }

    #[test]
    fn another_engine_gets_its_boot_and_leaves_the_host_key_and_the_rest_alone() {
        let before = render(BUILT_IN, &settings()).unwrap();
        let (before, key) = with_host_key(&before).unwrap();
        let docker = VmSettings { containerd: false, nerdctl: vec![], ..settings() };
        let there = with_settings(&with_boot_of(&before, BUILT_IN).unwrap(), &docker).unwrap();
        assert_eq!(parsed(&there)["containerd"]["system"], false);
        assert_eq!(parsed(&there)["containerd"]["user"], false);
        assert_eq!(with_host_key(&there).unwrap(), (there.clone(), key));
        let back = with_settings(&with_boot_of(&there, BUILT_IN).unwrap(), &settings()).unwrap();
        assert_eq!(parsed(&back), parsed(&before));
        // One of ours that had no key, and a template of somebody's that says nothing of the boot.
        let bare = with_boot_of("cpus: 1\nprobes: [x]\n", "images: []\n").unwrap();
        assert_eq!(parsed(&bare), parsed("cpus: 1"));
    }

    proptest! {
        #[test]
        fn any_path_survives_the_yaml(name in "[^\\p{C}\\s,\\[\\]{}]{1,30}") {
            let location = format!("/m/{name}");
            let mount = VmMount { location: location.clone(), mount_point: None, writable: true };
            let text = render(BUILT_IN, &VmSettings { mounts: vec![mount], ..settings() }).unwrap();
            prop_assert_eq!(&parsed(&text)["mounts"][0]["location"], location.as_str());
        }
    }
}

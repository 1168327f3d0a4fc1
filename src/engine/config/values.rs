//! Values of a configuration that are more than one word.

use serde_json::Value;

use super::{super::validate::shown, types::TmpfsOptions};
use crate::{
    error::{Error, Result},
    size,
};

/// Of `/dev/host[:/dev/container][:rwm]`.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Device<'a> {
    pub host: &'a str,
    pub container: &'a str,
    pub mode: &'a str,
}

pub(in super::super) fn device<'a>(field: &str, text: &'a str) -> Result<Device<'a>> {
    let parts: Vec<&str> = text.split(':').collect();
    let device = match parts[..] {
        [host] => Device { host, container: host, mode: "rwm" },
        [host, container] if container.starts_with('/') => Device { host, container, mode: "rwm" },
        [host, mode] => Device { host, container: host, mode },
        [host, container, mode] => Device { host, container, mode },
        _ => Device { host: "", container: "", mode: "" },
    };
    let is_path = |path: &str| path.len() > 1 && path.starts_with('/') && path.len() <= 4096;
    // nerdctl reads a list with commas.
    let is_plain = !text.contains(|c: char| c.is_control() || ",\"".contains(c));
    let is_mode = !device.mode.is_empty()
        && device.mode.len() <= 3
        && device.mode.chars().enumerate().all(|(i, c)| "rwm".contains(c) && !device.mode[..i].contains(c));
    if is_plain && is_path(device.host) && is_path(device.container) && is_mode {
        return Ok(device);
    }
    Err(Error::invalid(
        field,
        format!("{} is not a device, for example /dev/fuse or /dev/sda:/dev/xvda:rw", shown(text)),
    ))
}

/// The container of `container:<id or name>`.
pub(in super::super) fn container_of(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:")
}

/// Memory and swap together; -1 is no limit.
pub(in super::super) fn memory_swap(value: &Value) -> Option<i64> {
    if value.as_f64() == Some(-1.0) || value.as_str() == Some("-1") {
        return Some(-1);
    }
    size::read(value).and_then(|bytes| i64::try_from(bytes).ok())
}

#[expect(clippy::cast_possible_truncation, reason = "validated: whole, and far below 2^53")]
pub(in super::super) fn whole(value: f64) -> i64 {
    value as i64
}

/// As mount(8) takes them, beside the engine's `noexec,nosuid,nodev`.
pub(in super::super) fn tmpfs_options(options: &TmpfsOptions) -> String {
    let size = options.size.as_ref().and_then(size::read).map(|bytes| format!("size={bytes}"));
    let mode = options.mode.map(|mode| format!("mode={:o}", whole(mode)));
    size.into_iter().chain(mode).collect::<Vec<_>>().join(",")
}

/// Whether the engine's machine has so many.
pub(in super::super) fn cpus(wanted: f64, there: u64) -> Result<()> {
    if wanted <= there as f64 {
        return Ok(());
    }
    Err(Error::invalid("resources.cpus", format!("{wanted} are more than the {there} of the engine's machine")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn devices_in_their_forms() {
        let read = |text| device("devices[0]", text).map(|d| (d.host, d.container, d.mode));
        assert_eq!(read("/dev/fuse").unwrap(), ("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(read("/dev/a:/dev/b").unwrap(), ("/dev/a", "/dev/b", "rwm"));
        assert_eq!(read("/dev/a:r").unwrap(), ("/dev/a", "/dev/a", "r"));
        assert_eq!(read("/dev/a:/dev/b:rw").unwrap(), ("/dev/a", "/dev/b", "rw"));
        for wrong in [
            "",
            "/",
            "dev/a",
            "/dev/a:x",
            "/dev/a:",
            "/dev/a:/dev/b:rwx",
            "/dev/a:rr",
            "a:b:c:d",
            "/dev/a,/dev/b",
            "/a\0",
            "nvidia.com/gpu=all",
        ] {
            assert_eq!(device("devices[0]", wrong).unwrap_err().details()["field"], "devices[0]", "{wrong}");
        }
    }

    #[test]
    fn swap_without_a_limit() {
        assert_eq!(
            [json!(-1), json!("-1"), json!("1GiB")].map(|v| memory_swap(&v)),
            [Some(-1), Some(-1), Some(1 << 30)]
        );
        assert_eq!([json!(-2), json!("x"), json!(1.5)].map(|v| memory_swap(&v)), [None; 3]);
    }
}

//! The resources of a VM: `VmResources` of the public API, checked and completed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::{MountOption, VmResources};
use crate::{
    error::{Error, Result},
    lima::template::{self, VmMount},
    size,
};

/// Resources as the caller gave them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// `"4GiB"`, or bytes as a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<MountOption>>,
}

/// This machine's resources.
#[derive(Debug, Clone, Copy)]
pub struct HostResources {
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
}

const GIB: u64 = 1 << 30;
/// With less, the guest's own services have no room.
const MIN_MEMORY: u64 = 512 << 20;
/// Room for the guest image, where a VM has one disk, as those of earlier versions do.
const MIN_DISK: u64 = 5 * GIB;
const MAX_DISK: u64 = 64 << 40;

impl HostResources {
    pub fn this() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        Self { cpus, memory: memory() }
    }
}

#[cfg(target_os = "linux")]
fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)))
}

#[cfg(not(target_os = "linux"))]
fn memory() -> u64 {
    let out = std::process::Command::new("/usr/sbin/sysctl").args(["-n", "hw.memsize"]).output();
    out.ok().and_then(|o| String::from_utf8_lossy(&o.stdout).trim().parse().ok()).unwrap_or(8 * GIB)
}

impl Resources {
    /// Takes each value of `self`, else that of `base`.
    #[must_use]
    pub fn over(self, base: &Self) -> Self {
        Self {
            cpus: self.cpus.or(base.cpus),
            memory: self.memory.or_else(|| base.memory.clone()),
            disk: self.disk.or_else(|| base.disk.clone()),
            mounts: self.mounts.or_else(|| base.mounts.clone()),
        }
    }

    /// Defaults: 4 CPUs, 4 GiB but at most half of the host's memory, 100 GiB of disk, the home directory writable. `at` is
    /// where the caller wrote them: `resources.`.
    pub fn resolve(&self, host: HostResources, at: &str) -> Result<VmResources> {
        let cpus = match self.cpus {
            None => 4.min(host.cpus),
            Some(n) => whole(n).filter(|&n| n >= 1 && n <= host.cpus).ok_or_else(|| {
                Error::invalid(
                    format!("{at}cpus"),
                    format!("{n} is no whole number from 1 to this computer's {}", host.cpus),
                )
            })?,
        };
        let memory = match &self.memory {
            None => (4 * GIB).min(host.memory / 2),
            Some(v) => size(&format!("{at}memory"), v, MIN_MEMORY, host.memory)?,
        };
        let disk = match &self.disk {
            None => 100 * GIB,
            Some(v) => size(&format!("{at}disk"), v, MIN_DISK, MAX_DISK)?,
        };
        let home = || vec![MountOption { location: "~".into(), mount_point: None, writable: true }];
        let mounts = self.mounts.clone().unwrap_or_else(home);
        for mount in &mounts {
            template::check_mount(at, &VmMount::from(mount))?;
        }
        Ok(VmResources { cpus, memory, disk, mounts })
    }
}

impl From<&MountOption> for VmMount {
    fn from(m: &MountOption) -> Self {
        Self { location: m.location.clone(), mount_point: m.mount_point.clone(), writable: m.writable }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked right before")]
fn whole(n: f64) -> Option<u32> {
    (n.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&n)).then_some(n as u32)
}

fn size(field: &str, value: &Value, least: u64, most: u64) -> Result<u64> {
    let Some(bytes) = size::read(value) else {
        return Err(Error::invalid(field, format!("{value} is no size")).hint(size::HINT));
    };
    if bytes < least || bytes > most {
        let gib = |b: u64| b as f64 / GIB as f64;
        let problem = format!("{:.1} GiB is not between {:.1} and {:.1} GiB", gib(bytes), gib(least), gib(most));
        return Err(Error::invalid(field, problem));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorCode;

    const HOST: HostResources = HostResources { cpus: 8, memory: 16 * GIB };

    fn resolve(v: Value, host: HostResources) -> Result<VmResources> {
        serde_json::from_value::<Resources>(v).unwrap().resolve(host, "resources.")
    }

    #[test]
    fn the_defaults_never_ask_for_more_than_the_host_can_give() {
        let r = resolve(json!({}), HOST).unwrap();
        assert_eq!((r.cpus, r.memory, r.disk), (4, 4 * GIB, 100 * GIB));
        assert!(r.mounts.len() == 1 && r.mounts[0].location == "~" && r.mounts[0].writable);
        let r = resolve(json!({}), HostResources { cpus: 2, memory: 4 * GIB }).unwrap();
        assert_eq!((r.cpus, r.memory), (2, 2 * GIB));
        assert!(HostResources::this().cpus >= 1 && HostResources::this().memory > GIB / 2);
    }

    #[test]
    fn sizes_are_read_as_they_are_written() {
        let r = resolve(json!({ "cpus": 8, "memory": "1.5GiB", "disk": 10_u64 << 30, "mounts": [] }), HOST).unwrap();
        assert_eq!((r.cpus, r.memory, r.disk, r.mounts.len()), (8, 3 * GIB / 2, 10 * GIB, 0));
        assert_eq!(resolve(json!({ "memory": "2048 MiB" }), HOST).unwrap().memory, 2 * GIB);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let cases = [
            ("cpus", json!([0, 1.5, 10_000, -1, 9, 1e300])),
            (
                "memory",
                json!(["4", "4GB", "-1", "", "GiB", "1e1GiB", "nanGiB", "17GiB", "1KiB", 4, 1.5, -1, true, null, {}]),
            ),
            ("disk", json!(["1GiB", "4096TiB", "100", 0])),
        ];
        for (field, values) in cases {
            for value in values.as_array().unwrap().iter().filter(|v| !v.is_null()) {
                let e = resolve(json!({ field: value }), HOST).expect_err(&format!("{field}: {value}"));
                assert_eq!(e.code(), ErrorCode::InvalidArgument, "{field}: {value}");
                assert_eq!(e.details()["field"], format!("resources.{field}"));
            }
        }
    }
}

//! Which machine this is. By hardware: an x64 Electron under Rosetta needs the arm64 programs
//! (docs/reference/node-api.md#rosetta).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode, Result};

/// Node's names, `<process.platform>-<process.arch>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Platform {
    #[serde(rename = "darwin-arm64")]
    DarwinArm64,
    #[serde(rename = "darwin-x64")]
    DarwinX64,
    #[serde(rename = "linux-arm64")]
    LinuxArm64,
    #[serde(rename = "linux-x64")]
    LinuxX64,
    #[serde(rename = "win32-x64")]
    Win32X64,
}

/// What `decide` needs to know of a machine.
pub trait Hardware {
    /// As `std::env::consts::OS`.
    fn os(&self) -> &str;
    /// What this process was built for, as `std::env::consts::ARCH`.
    fn process_arch(&self) -> &str;
    /// Whether the processor is an Apple one, whatever this process was built for.
    fn apple_silicon(&self) -> bool;
}

impl Platform {
    pub const ALL: [Platform; 5] =
        [Self::DarwinArm64, Self::DarwinX64, Self::LinuxArm64, Self::LinuxX64, Self::Win32X64];

    pub fn current() -> Result<Self> {
        Self::decide(&ThisMachine)
    }

    pub fn decide(machine: &impl Hardware) -> Result<Self> {
        match (machine.os(), machine.process_arch()) {
            ("macos", "aarch64") => Ok(Self::DarwinArm64),
            ("macos", "x86_64") if machine.apple_silicon() => Ok(Self::DarwinArm64),
            ("macos", "x86_64") => Ok(Self::DarwinX64),
            ("linux", "aarch64") => Ok(Self::LinuxArm64),
            ("linux", "x86_64") => Ok(Self::LinuxX64),
            ("windows", "x86_64") => Ok(Self::Win32X64),
            (os, arch) => Err(Error::new(
                ErrorCode::UnsupportedPlatform,
                format!("There is no container runtime for {os} on {arch}"),
            )
            .detail("os", os)
            .detail("arch", arch)),
        }
    }

    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid("platform", format!("{name:?} is none of {known}"))
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::DarwinArm64 => "darwin-arm64",
            Self::DarwinX64 => "darwin-x64",
            Self::LinuxArm64 => "linux-arm64",
            Self::LinuxX64 => "linux-x64",
            Self::Win32X64 => "win32-x64",
        }
    }

    /// The Linux that runs inside a VM of this machine.
    #[must_use]
    pub fn guest(self) -> Self {
        match self {
            Self::DarwinArm64 | Self::LinuxArm64 => Self::LinuxArm64,
            Self::DarwinX64 | Self::LinuxX64 | Self::Win32X64 => Self::LinuxX64,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub struct ThisMachine;

impl Hardware for ThisMachine {
    fn os(&self) -> &str {
        std::env::consts::OS
    }

    fn process_arch(&self) -> &str {
        std::env::consts::ARCH
    }

    #[cfg(target_os = "macos")]
    fn apple_silicon(&self) -> bool {
        let mut value: libc::c_int = 0;
        let mut size = size_of_val(&value);
        // SAFETY: the name ends in NUL, and `value` and `size` describe the same live integer.
        let status = unsafe {
            libc::sysctlbyname(
                c"hw.optional.arm64".as_ptr(),
                (&raw mut value).cast(),
                &raw mut size,
                std::ptr::null_mut(),
                0,
            )
        };
        // Intel machines do not know the name.
        status == 0 && value == 1
    }

    #[cfg(not(target_os = "macos"))]
    fn apple_silicon(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(&'static str, &'static str, bool);

    impl Hardware for Machine {
        fn os(&self) -> &str {
            self.0
        }
        fn process_arch(&self) -> &str {
            self.1
        }
        fn apple_silicon(&self) -> bool {
            self.2
        }
    }

    #[test]
    fn the_hardware_decides_not_the_process() {
        let decide = |os, arch, apple| Platform::decide(&Machine(os, arch, apple)).map_err(|e| e.code());
        assert_eq!(decide("macos", "x86_64", true), Ok(Platform::DarwinArm64), "Rosetta");
        assert_eq!(decide("macos", "x86_64", false), Ok(Platform::DarwinX64));
        assert_eq!(decide("macos", "aarch64", true), Ok(Platform::DarwinArm64));
        assert_eq!(decide("linux", "x86_64", false), Ok(Platform::LinuxX64));
        assert_eq!(decide("linux", "aarch64", false), Ok(Platform::LinuxArm64));
        assert_eq!(decide("windows", "x86_64", false), Ok(Platform::Win32X64));
        assert_eq!(decide("freebsd", "x86_64", false), Err(ErrorCode::UnsupportedPlatform));
        assert_eq!(decide("linux", "riscv64", false), Err(ErrorCode::UnsupportedPlatform));
    }

    #[test]
    fn names_go_both_ways() {
        for p in Platform::ALL {
            assert_eq!(Platform::parse(p.as_str()).unwrap(), p);
            assert_eq!(serde_json::to_value(p).unwrap(), p.as_str());
        }
        assert_eq!(Platform::parse("amiga").unwrap_err().code(), ErrorCode::InvalidArgument);
    }
}

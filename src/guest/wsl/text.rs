//! Decodes the messages of `wsl.exe` (docs/reference/wsl.md#encoding) and tells what they mean
//! (docs/reference/wsl.md#errors).

use crate::error::{Error, ErrorCode};

/// UTF-16LE, or UTF-8 where `WSL_UTF8=1` is understood; either with or without a byte order mark.
pub fn decode(bytes: &[u8]) -> String {
    let utf16 = |bytes: &[u8]| {
        let units: Vec<u16> = bytes.chunks(2).map(|c| u16::from_le_bytes([c[0], *c.get(1).unwrap_or(&0)])).collect();
        String::from_utf16_lossy(&units)
    };
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        // In any language line ends and codes are ASCII, which in UTF-16 holds zero bytes.
        _ if bytes.contains(&0) => utf16(bytes),
        _ => String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| utf16(bytes)),
    };
    text.replace("\r\n", "\n")
}

/// The names that `--list --quiet` prints, one a line.
pub fn names(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

/// Why `wsl.exe` did not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Windows has at most the program, not the subsystem.
    NoWsl,
    /// WSL is installed, but cannot run virtual machines.
    NoVirtualMachines,
    NoDistribution,
    NameTaken,
    DiskFull,
    Other,
}

/// Recognised by what is the same in every language: the last part of `Error code: Wsl/Service/…`, the numbers that older
/// Windows prints instead, links and commands.
pub fn fault(text: &str) -> Fault {
    const KNOWN: [(Fault, &[&str]); 5] = [
        (
            Fault::NoVirtualMachines,
            &[
                "HCS_E_HYPERV_NOT_INSTALLED",
                "HCS_E_SERVICE_NOT_AVAILABLE",
                "WSL_E_VIRTUAL_MACHINE_PLATFORM_REQUIRED",
                "WSL_E_WSL2_NEEDED",
                "0x80370102",
                "0x80370114",
                "aka.ms/enablevirtualization",
                "aka.ms/wsl2-install",
            ],
        ),
        (Fault::NoDistribution, &["WSL_E_DISTRO_NOT_FOUND"]),
        (Fault::NameTaken, &["ERROR_ALREADY_EXISTS", "ERROR_FILE_EXISTS"]),
        (Fault::DiskFull, &["ERROR_DISK_FULL", "ERROR_HANDLE_DISK_FULL", "0x80070070"]),
        (
            Fault::NoWsl,
            &[
                "WSL_E_WSL_OPTIONAL_COMPONENT_REQUIRED",
                "WSL_E_OS_NOT_SUPPORTED",
                "REGDB_E_CLASSNOTREG",
                "0x8007019e",
                "wsl.exe --install",
                "wsl --install",
                "aka.ms/wslinstall",
            ],
        ),
    ];
    // A hint how to install a distribution does not mean that WSL is missing.
    if none_installed(text) {
        return Fault::NoDistribution;
    }
    let known = KNOWN.iter().find(|(_, signs)| signs.iter().any(|sign| text.contains(sign)));
    known.map_or(Fault::Other, |(fault, _)| *fault)
}

/// Whether a list says that there is no distribution at all.
pub fn none_installed(text: &str) -> bool {
    text.contains("--list --online") || text.contains("aka.ms/wslstore")
}

pub const INSTALL_WSL: &str =
    "Run `wsl --install --no-distribution` in a terminal as administrator, and restart the computer.";
pub const ENABLE_VIRTUALIZATION: &str = "Turn virtualization on in the computer's firmware settings, run `wsl --install --no-distribution` in a terminal \
     as administrator, and restart.";

/// The error for `text`, which wsl.exe printed while we were `doing` something.
pub fn error(doing: &str, text: &str) -> Error {
    let text = text.trim();
    let missing = |what: &str, advice: &str| {
        Error::new(ErrorCode::UnsupportedPlatform, what)
            .detail("missing", serde_json::json!([{ "what": what, "advice": advice }]))
            .hint(advice)
    };
    let error = match fault(text) {
        Fault::NoWsl => missing("The Windows Subsystem for Linux is not installed", INSTALL_WSL),
        Fault::NoVirtualMachines => missing("WSL2 cannot run virtual machines on this computer", ENABLE_VIRTUALIZATION),
        Fault::NoDistribution => Error::new(ErrorCode::NotInstalled, "The WSL distribution is not there")
            .hint("Call install(): the distribution was removed, or never made."),
        Fault::NameTaken => Error::new(ErrorCode::NameInUse, "A WSL distribution of that name exists, and is not ours")
            .hint("Remove it with `wsl --unregister`, or choose another appName."),
        Fault::DiskFull => {
            Error::new(ErrorCode::DiskFull, format!("{doing}: the disk is full")).hint("Free some space and try again.")
        }
        Fault::Other => {
            let first = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("no message");
            Error::new(ErrorCode::EngineError, format!("{doing}: wsl.exe: {first}"))
                .hint("`wsl --status` and `wsl --update` may tell more, or help.")
        }
    };
    error.detail("wsl", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn its_words_are_read_in_every_form_they_come_in() {
        // As `wsl.exe --list --quiet` prints them: UTF-16 without a byte order mark.
        let golden = b"U\0b\0u\0n\0t\0u\0\r\0\n\0k\0a\0i\0-\x001\0\r\0\n\0";
        assert_eq!(names(&decode(golden)), ["Ubuntu", "kai-1"]);
        let chinese = "不存在具有所提供名称的分发。\r\nError code: Wsl/Service/WSL_E_DISTRO_NOT_FOUND\r\n";
        let read = chinese.replace("\r\n", "\n");
        assert_eq!(decode(&utf16(chinese)), read);
        assert_eq!(decode(&[&[0xff, 0xfe][..], &utf16(chinese)].concat()), read);
        assert_eq!(decode(chinese.as_bytes()), read);
        assert_eq!(decode(&[&[0xef, 0xbb, 0xbf][..], chinese.as_bytes()].concat()), read);
        assert_eq!(decode(&utf16("分发")), "分发");
        assert_eq!(decode(b""), "");
        // Cut inside a character.
        assert_eq!(decode(b"a\0b\0c"), "abc");
    }

    #[test]
    fn each_fault_is_told_from_the_others() {
        // Texts: microsoft/WSL issues 10332, 12638, 12595, 5075, localization/strings/en-US/Resources.resw.
        let cases = [
            (
                "…\nError code: Wsl/Service/CreateInstance/CreateVm/HCS/HCS_E_HYPERV_NOT_INSTALLED",
                Fault::NoVirtualMachines,
            ),
            ("L'opération…\nError code: Wsl/Service/CreateVm/HCS_E_SERVICE_NOT_AVAILABLE", Fault::NoVirtualMachines),
            (
                "Please enable the Virtual Machine Platform Windows feature and ensure virtualization is enabled in the \
                 BIOS.\nFor information please visit https://aka.ms/wsl2-install",
                Fault::NoVirtualMachines,
            ),
            (
                "This application requires the Windows Subsystem for Linux Optional Component.\nInstall it by running: \
                 wsl.exe --install --no-distribution\nError code: Wsl/WSL_E_WSL_OPTIONAL_COMPONENT_REQUIRED",
                Fault::NoWsl,
            ),
            (
                "The Windows Subsystem for Linux is not installed. You can install by running 'wsl.exe --install'.",
                Fault::NoWsl,
            ),
            ("不存在具有所提供名称的分发。\nError code: Wsl/Service/WSL_E_DISTRO_NOT_FOUND", Fault::NoDistribution),
            (
                "Windows Subsystem for Linux has no installed distributions.\n\nUse 'wsl.exe --list --online' to list \
                 available distributions\nand 'wsl.exe --install <Distro>' to install.",
                Fault::NoDistribution,
            ),
            ("…\nError code: Wsl/Service/RegisterDistro/ERROR_ALREADY_EXISTS", Fault::NameTaken),
            ("…\nError code: Wsl/Service/RegisterDistro/ERROR_DISK_FULL", Fault::DiskFull),
            ("Catastrophic failure\nError code: Wsl/Service/E_UNEXPECTED", Fault::Other),
        ];
        for (text, expected) in cases {
            assert_eq!(fault(text), expected, "{text}");
        }
    }
}

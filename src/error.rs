//! The error type of this crate. Codes are part of the public API and mean the same on every backend.

use std::fmt;

use serde_json::{Map, Value};

pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Stable codes, listed with their meaning in `index.d.ts` (`RuntimeErrorCode`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code; a test compares it with `index.d.ts`.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }
        }
    };
}

codes! {
    /// The runtime asked for is not installed; `hint` says how to get it.
    NotInstalled = "NOT_INSTALLED",
    /// This operating system, architecture or version cannot run it.
    UnsupportedPlatform = "UNSUPPORTED_PLATFORM",
    /// Lima refuses to run as root (docs/reference/lima.md#root-is-refused).
    RootUser = "ROOT_USER",
    /// A socket path would be longer than the operating system allows.
    PathTooLong = "PATH_TOO_LONG",
    /// A download ended for good: the server refused, or the retries are used up.
    DownloadFailed = "DOWNLOAD_FAILED",
    /// The bytes are not the ones the manifest names. Nothing was installed.
    ChecksumMismatch = "CHECKSUM_MISMATCH",
    /// The archive writes outside its directory, or misstates its contents. Nothing was installed.
    ArchiveUnsafe = "ARCHIVE_UNSAFE",
    /// Not enough space on the disk.
    DiskFull = "DISK_FULL",
    /// Another process holds the lock, and `timeoutMs` passed.
    Locked = "LOCKED",
    /// Repair could not bring the VM out of its state.
    VmBroken = "VM_BROKEN",
    /// The VM did not come up.
    VmStartFailed = "VM_START_FAILED",
    /// The call needs a running VM, and there is none (or it stopped under the call).
    VmNotRunning = "VM_NOT_RUNNING",
    /// The VM runs, but its containerd does not answer.
    ContainerdNotReady = "CONTAINERD_NOT_READY",
    /// The deadline passed.
    Timeout = "TIMEOUT",
    /// The caller's `signal` was aborted.
    Aborted = "ABORTED",
    ContainerNotFound = "CONTAINER_NOT_FOUND",
    ImageNotFound = "IMAGE_NOT_FOUND",
    NetworkNotFound = "NETWORK_NOT_FOUND",
    VolumeNotFound = "VOLUME_NOT_FOUND",
    /// A container or network of that name exists.
    NameInUse = "NAME_IN_USE",
    /// The host port is taken; the message names it.
    PortInUse = "PORT_IN_USE",
    /// Never thrown; a warning of a call that succeeded: a published port of a VM does not answer on this computer.
    PortNotForwarded = "PORT_NOT_FORWARDED",
    /// Never thrown; a warning of a call that succeeded: the requested version of a program should not be used.
    OutdatedVersion = "OUTDATED_VERSION",
    /// The image, network or volume is used by a container, or the container is running.
    InUse = "IN_USE",
    /// An argument is wrong; `details.field` names it.
    InvalidArgument = "INVALID_ARGUMENT",
    /// The object is in a state that does not allow the call.
    InvalidState = "INVALID_STATE",
    /// The operating system refused: a socket, file or directory we may not open.
    PermissionDenied = "PERMISSION_DENIED",
    /// No engine answers at the endpoint.
    EngineUnreachable = "ENGINE_UNREACHABLE",
    /// Never thrown; a warning of a call that succeeded: the engine did not do all it was asked.
    EngineWarning = "ENGINE_WARNING",
    /// The registry wants credentials, or refused the ones it got.
    RegistryAuth = "REGISTRY_AUTH",
    /// A program's output, or an engine's answer, exceeds the limit for what is kept in memory.
    TooLarge = "TOO_LARGE",
    /// The engine refused for a reason without a code of its own; the message is the engine's.
    EngineError = "ENGINE_ERROR",
    /// A bug of ours.
    Internal = "INTERNAL",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Boxed, so that `Result<T>` stays small on the paths that succeed.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: ErrorCode,
    message: String,
    hint: Option<String>,
    details: Map<String, Value>,
    source: Option<Source>,
}

impl Error {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { code, message: message.into(), hint: None, details: Map::new(), source: None }))
    }

    /// `field` is the path a caller would write: `ports.80`, `volumes[0].host`.
    pub fn invalid(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        let field = field.into();
        Self::new(ErrorCode::InvalidArgument, format!("{field}: {problem}")).detail("field", field)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// What the person in front of the screen can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.details.insert(key.to_owned(), value.into());
        self
    }

    /// Takes over the details of `other`, which this error explains.
    #[must_use]
    pub(crate) fn details_of(mut self, other: &Self) -> Self {
        self.0.details.extend(other.0.details.clone());
        self
    }

    #[must_use]
    pub fn source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// `what` is more than `limit` bytes.
    pub fn too_large(what: &str, limit: usize) -> Self {
        Self::new(ErrorCode::TooLarge, format!("{what} is larger than {limit} bytes")).detail("limit", limit)
    }

    /// An operating system error on `path`, with the code that a user can act on.
    pub fn io(error: std::io::Error, doing: &str, path: &std::path::Path) -> Self {
        use std::io::ErrorKind as K;
        let code = match error.kind() {
            K::PermissionDenied | K::ReadOnlyFilesystem => ErrorCode::PermissionDenied,
            K::StorageFull | K::QuotaExceeded => ErrorCode::DiskFull,
            _ => ErrorCode::Internal,
        };
        Self::new(code, format!("{doing} {}: {error}", path.display()))
            .detail("path", path.display().to_string())
            .source(error)
    }

    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub fn details(&self) -> &Map<String, Value> {
        &self.0.details
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}

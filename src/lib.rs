//! A managed container runtime for desktop apps: Docker, containerd, or a Lima VM, behind one interface.
//!
//! The layers, top to bottom, each calling only those below: `manager`, `engine`, `guest`, `lima` and `fetch`; all use
//! `error`, `call`, `process`, `progress`, `task`, `log` and `env_vars`. See ARCHITECTURE.md.

#![cfg_attr(
    not(unix),
    allow(
        clippy::unnecessary_wraps,
        clippy::unused_async,
        reason = "where Windows has nothing to do, the function stays"
    )
)]

mod address;
mod app_dir;
pub mod call;
pub mod engine;
pub mod env_vars;
pub mod error;
pub mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod guest;
#[cfg(unix)]
pub mod lima;
pub mod log;
pub mod manager;
pub mod mutex;
pub mod process;
pub mod progress;
mod random;
mod relay;
mod shell;
mod size;
#[cfg(all(test, unix))]
#[path = "../tests/support/skip.rs"]
#[allow(dead_code, reason = "a Mac has fewer tests that need something")]
mod skip;
mod task;
mod warnings;

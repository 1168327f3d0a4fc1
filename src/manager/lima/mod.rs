//! The Lima runtime: a VM of the application's own with an engine in it.

#[cfg(unix)]
mod bake;
#[cfg(unix)]
mod boot;
mod context;
#[cfg(unix)]
pub(crate) mod diagnose;
#[cfg(not(unix))]
mod elsewhere;
#[cfg(unix)]
mod engine;
#[cfg(unix)]
mod guest;
#[cfg(unix)]
mod idle;
mod install;
#[cfg(unix)]
mod left;
#[cfg(unix)]
mod lifecycle;
#[cfg(unix)]
pub mod machine;
#[cfg(unix)]
pub mod ports;
#[cfg(unix)]
mod program;
#[cfg(unix)]
pub mod repair;
#[cfg(unix)]
mod resources;
mod runtime;
mod state;
#[cfg(unix)]
mod upgrade;
#[cfg(unix)]
mod uses;
#[cfg(unix)]
mod wrappers;

pub use crate::app_dir::{APP_NAME, app_dir};
#[cfg(unix)]
pub use crate::lima::template::VmType;
pub use install::{InstallOptions, UninstallOptions};
#[cfg(unix)]
pub use resources::Resources;
pub use runtime::{LimaOptions, LimaPaths, LimaRuntime, LimaState};
pub use state::{
    BakeOptions, BakedImage, Configured, CopyMode, DeleteOptions, DiagnosticCheck, IdleEvent, IdleStop, MountOption,
    PreviousVm, State, Status, UpgradeOptions, Verdict, VmInfo, VmResources,
};
#[cfg(not(unix))]
pub use state::{Resources, VmType};

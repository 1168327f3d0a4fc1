//! Container engines. [`Engine`] is what a backend must provide; [`Adapter`] is what a caller uses: it adds the same
//! checks, timeouts and combined methods to every backend.

mod adapter;
mod backend;
mod build;
mod compose;
mod config;
pub mod containerd;
mod copy;
mod credentials;
pub mod docker;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod host;
mod image_config;
mod methods;
#[cfg(unix)]
mod on_use;
mod platform;
mod process;
mod raw;
mod reference;
mod refused;
mod registry;
mod restricted;
mod signals;
mod stats;
mod tidy;
mod time;
pub mod types;
pub(crate) mod validate;
mod wait;
mod watch;

pub use adapter::Adapter;
pub use backend::{
    Attached, BoxRead, BoxStream, ContainerMethods, Control, Engine, LabelledMethods, UnlabelledMethods,
};
pub use build::BuildContext;
pub use compose::{Composition, Program as ComposeProgram};
#[cfg(unix)]
pub(crate) use on_use::{OnUse, Use, Uses};
pub use process::{ContainerProcess, End, Held, ProcessHandle};
pub use types::*;
#[cfg(unix)]
pub(crate) use watch::until_lost;

//! Running programs.

#[cfg(unix)]
mod child;
#[cfg(unix)]
pub mod identity;
mod pipes;
mod program;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use child::spawn;
#[cfg(unix)]
pub(crate) use program::STRAGGLER_GRACE;
pub use program::{Chunk, Command, Exit, Hold, KEPT, Output, Process, TERM_GRACE};
pub(crate) use program::{Collected, Driver};
#[cfg(windows)]
pub use windows::spawn;

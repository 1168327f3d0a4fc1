//! Running programs.

#[cfg(unix)]
mod child;
#[cfg(unix)]
pub mod identity;
mod lines;
mod pipes;
mod program;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use child::ended;
#[cfg(unix)]
pub use child::spawn;
pub use lines::Lines;
pub use program::{Chunk, Command, Exit, Hold, KEPT, Output, Process, TERM_GRACE};
pub(crate) use program::{Collected, Driver, STRAGGLER_GRACE, feed};
#[cfg(windows)]
pub use windows::spawn;

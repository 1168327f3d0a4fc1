//! Lima: its commands, its instance directories, its template. Reports facts and performs steps; what to do about them
//! is decided above.

mod hostkey;
pub mod instance;
pub mod limactl;
pub mod paths;
pub mod progress;
pub mod template;

//! Lima: its commands, instance directories and template. Reports facts and performs steps; `manager` decides.

mod hostkey;
pub mod instance;
pub mod limactl;
pub mod paths;
pub mod progress;
pub mod template;

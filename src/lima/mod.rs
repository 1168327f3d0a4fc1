//! Lima: its commands, instance directories and template. Reports facts and performs steps; `manager` decides.

pub mod bake;
pub mod data_disk;
mod hostkey;
pub mod instance;
pub mod limactl;
pub mod paths;
pub mod previous;
pub mod progress;
pub mod template;

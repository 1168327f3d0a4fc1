//! Lifecycles: decides what is installed, created, started and repaired, and when. The layers below report facts and
//! perform steps.

mod buildkit;
pub mod bundled;
pub mod container;
pub mod lima;
pub mod payload;
pub mod registries;
mod socket;

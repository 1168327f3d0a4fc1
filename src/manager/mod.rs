//! Lifecycles: what is installed, made, started and repaired, and when. The layers below report facts and do steps.

pub mod container;
pub mod containerd;
pub mod lima;

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod ordinary;
pub mod sshd;
pub mod wsl;

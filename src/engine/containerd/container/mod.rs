//! Containers: their life, and what is known about them.

pub(crate) mod create;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod find;
pub(crate) mod flags;
pub(crate) mod health;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod logger;
pub(crate) mod logs;
pub(crate) mod mounts;
pub(crate) mod ports;
pub(crate) mod processes;
pub(crate) mod record;
pub(crate) mod relay;
pub(crate) mod restart_policy;
pub(crate) mod restarts;
pub(crate) mod spec;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod users;

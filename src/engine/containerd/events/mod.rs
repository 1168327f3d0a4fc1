//! What happens, told to those who ask, and remembered.

pub(crate) mod event;
pub(crate) mod hub;
pub(crate) mod records;

//! What nearly every procedure works with.

pub(super) use super::{
    client::Containerd,
    nerdctl::{errors::About, files::WithTask, labels},
    source::containers::{Container, Task},
};
pub(super) use crate::{
    engine::{BoxStream, reference, time, types::*, validate},
    error::{Error, ErrorCode, Result},
    task,
};

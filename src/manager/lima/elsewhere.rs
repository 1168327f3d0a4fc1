//! Where Lima does not run, its methods exist and say so.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{
    LimaRuntime,
    state::{Configured, DiagnosticCheck, IdleEvent, State, Status, VmInfo},
};
use crate::{
    call::Call,
    error::{Error, ErrorCode, Result},
    progress::{RuntimeProgress, Sink},
};

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorCode::UnsupportedPlatform, "Lima runs on macOS and Linux only")
        .hint("Use Docker or the bundled containerd here."))
}

impl LimaRuntime {
    pub async fn status(&self, _: &Call) -> Result<Status> {
        Ok(State::NotInstalled.into())
    }

    pub async fn info(&self, _: &Call) -> Result<VmInfo> {
        unsupported()
    }

    pub fn adapter(&self) -> Result<crate::engine::Adapter> {
        unsupported()
    }

    pub async fn is_running(&self) -> bool {
        false
    }

    pub async fn start(&self, _: Sink<RuntimeProgress>, _: &Call) -> Result<()> {
        unsupported()
    }

    pub async fn stop(&self, _: Sink<RuntimeProgress>, _: &Call) -> Result<()> {
        unsupported()
    }

    pub async fn restart(&self, _: Sink<RuntimeProgress>, _: &Call) -> Result<()> {
        unsupported()
    }

    pub async fn delete(&self, _: &super::DeleteOptions, _: Sink<RuntimeProgress>, _: &Call) -> Result<()> {
        unsupported()
    }

    pub async fn factory_reset(&self, _: &super::DeleteOptions, _: Sink<RuntimeProgress>, _: &Call) -> Result<()> {
        unsupported()
    }

    pub async fn configure(&self, _: super::Resources, _: &Call) -> Result<Configured> {
        unsupported()
    }

    pub async fn suspend(&self) {}

    pub fn listen(&self, _: Sink<IdleEvent>) {}

    pub async fn resume(&self, _: Sink<RuntimeProgress>, _: &Call) -> Result<()> {
        Ok(())
    }

    pub async fn diagnose(&self, _: &Call) -> Result<Vec<DiagnosticCheck>> {
        unsupported()
    }

    pub async fn collect_diagnostics(&self, _: &Path, _: &Call) -> Result<PathBuf> {
        unsupported()
    }

    pub async fn exec(
        &self,
        _: crate::manager::payload::UserEngine,
        _: &[String],
        _: Option<Bytes>,
        _: &Call,
    ) -> Result<Vec<u8>> {
        unsupported()
    }
}

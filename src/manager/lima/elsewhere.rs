//! Where Lima does not run, its methods exist and say so.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    LimaRuntime,
    state::{Configured, CopyMode, DiagnosticCheck, IdleEvent, State, Status, VmInfo},
};
use crate::{
    call::Call,
    error::{Error, ErrorCode, Result},
    fetch::{lock::Lock, progress::Meter},
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

    pub async fn bake(&self, _: &super::BakeOptions, _: Sink<RuntimeProgress>, _: &Call) -> Result<super::BakedImage> {
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

    pub async fn upgrade(&self, _: &super::UpgradeOptions, _: Sink<RuntimeProgress>, _: &Call) -> Result<()> {
        unsupported()
    }

    pub async fn rollback(&self, _: Sink<RuntimeProgress>, _: &Call) -> Result<()> {
        unsupported()
    }

    pub async fn discard_previous(&self, _: &Call) -> Result<()> {
        unsupported()
    }

    pub(super) async fn keep_previous(&self, _: &Lock, _: CopyMode, _: &Arc<Meter>) -> Result<()> {
        Ok(())
    }

    pub(super) async fn end_rollbacks(&self, _: &Lock) -> Result<()> {
        Ok(())
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

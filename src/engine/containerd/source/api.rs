//! Asks containerd, and says what its refusals mean.

use std::sync::Arc;

use futures_util::Stream;
use tonic::{Code, Status};

use super::super::proto::containerd::services::introspection::v1::PluginsRequest;
use super::{
    connection::{self, Service},
    rpc::{self, Method},
};
use crate::{
    engine::{Millis, time},
    error::{Error, ErrorCode, Result},
    guest::Guest,
};

/// containerd, as one namespace of it.
#[derive(Clone)]
pub struct Api {
    pub(crate) service: Service,
    pub(crate) namespace: Arc<str>,
}

impl Api {
    /// Connects to nothing yet.
    pub fn new(guest: Arc<dyn Guest>, namespace: &str) -> Result<Self> {
        Ok(Self { service: connection::service(guest, namespace)?, namespace: namespace.into() })
    }

    /// The daemon's version, for example `1.6.20~ds1`: the readiness probe, too (docs/reference/containerd.md#version).
    pub async fn version(&self) -> Result<String> {
        let answer = self.ask(()).await.map_err(refused)?;
        Ok(answer.version)
    }

    /// Restart policies that the daemon's restart monitor knows; containerd 1.6 names none and knows `always` alone
    /// (docs/reference/containerd.md#restart-policies).
    pub async fn restart_policies(&self) -> Result<Vec<String>> {
        let request = PluginsRequest { filters: vec!["id==restart".to_owned()] };
        let answer = self.ask(request).await.map_err(refused)?;
        let mut policies: Vec<String> = answer.plugins.into_iter().flat_map(|p| p.capabilities).collect();
        if policies.is_empty() {
            policies.push("always".to_owned());
        }
        Ok(policies)
    }

    pub(crate) async fn ask<M: Method>(&self, request: M) -> Result<M::Answer, Status> {
        rpc::ask(self.service.clone(), request).await
    }

    pub(crate) async fn open<M: Method>(
        &self,
        request: M,
    ) -> Result<impl Stream<Item = Result<M::Answer, Status>> + Send + Unpin + use<M>, Status> {
        rpc::open(self.service.clone(), request).await
    }
}

pub(crate) fn millis(t: &prost_types::Timestamp) -> Millis {
    time::of_millis(t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos) / 1_000_000))
}

/// Codes by situation. When the connection could not be made, the guest's own error says why.
pub(crate) fn refused(status: Status) -> Error {
    let mut cause = std::error::Error::source(&status);
    while let Some(e) = cause {
        if let Some(ours) = e.downcast_ref::<Error>() {
            let again = Error::new(ours.code(), ours.message());
            return match ours.hint_text() {
                Some(hint) => again.hint(hint),
                None => again,
            };
        }
        cause = e.source();
    }
    let code = match status.code() {
        // What the daemon itself says has no cause; a connection that breaks has, and many codes (cancelled, internal).
        _ if std::error::Error::source(&status).is_some() => ErrorCode::ContainerdNotReady,
        Code::Unavailable => ErrorCode::ContainerdNotReady,
        Code::PermissionDenied => ErrorCode::PermissionDenied,
        _ => ErrorCode::EngineError,
    };
    Error::new(code, format!("containerd: {}", status.message())).source(status)
}

/// What is asked for may not be there.
pub(crate) fn optional<T>(answer: Result<T, Status>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(refused(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_connection_that_breaks_is_no_answer_of_the_daemon() {
        for code in [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled] {
            let mut broken = Status::new(code, "h2 protocol error");
            broken.set_source(Arc::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
            assert_eq!(refused(broken).code(), ErrorCode::ContainerdNotReady, "{code:?}");
        }
        for code in [Code::Unknown, Code::Internal, Code::Cancelled] {
            assert_eq!(refused(Status::new(code, "no")).code(), ErrorCode::EngineError, "{code:?}");
        }
    }
}

//! Container engines. [`Engine`] is what a backend must be able to do; [`Adapter`] is what a caller gets: the same
//! checks, deadlines and procedures over any of them.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    error::Result,
    progress::{PullProgress, Sink},
};

mod adapter;
pub mod containerd;
mod credentials;
pub mod docker;
mod platform;
mod reference;
mod refused;
mod registry;
mod restricted;
mod stats;
mod time;
pub mod types;
pub(crate) mod validate;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    pub(crate) use super::{
        containerd::fuzzing as containerd, credentials::fuzz as config_json, docker::fuzzing as docker,
    };
    use super::{platform::Platform, reference::Reference, registry, time, validate};

    /// What names an image, in the caller's words and an engine's; and what a registry refuses it with.
    pub(crate) fn references(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let _ = validate::image("image", &text);
        let _ = validate::tag("target", &text);
        let _ = validate::id_or_name("id", &text);
        registry::refused("docker.io/library/x:1", &text);
        registry::refused(&text, "manifest unknown");
        if validate::platform("platform", &text).is_ok() {
            let platform = Platform::parse(&text);
            assert!(platform.takes(&platform));
            platform.json();
        }
        if let Ok(reference) = Reference::parse(&text) {
            let again = |text: &str| Reference::parse(text).map(|r| r.full());
            let full = reference.full();
            assert_eq!(again(&full).as_ref(), Ok(&full));
            // What is shown, and what an engine is asked for, is the same image of the same registry.
            let mark = if reference.digest.is_some() { '@' } else { ':' };
            let familiar = format!("{}{mark}{}", reference.familiar_name(), reference.tag_or_digest());
            assert_eq!(again(&familiar), Ok(full));
        }
    }

    pub(crate) fn times(data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        if let Some(millis) = time::parse(&text) {
            // What a JavaScript Date can hold, in years of four digits.
            assert!((-62_200_000_000_000..=253_500_000_000_000).contains(&millis), "{millis}");
            time::human(millis);
        }
        time::parse_nanos(&text);
    }
}

pub use adapter::Adapter;
pub use types::*;

pub type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;
pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;

/// An attached process: of a container itself, or of an exec. Dropping it closes the connection; a container's own process
/// lives on, that of an exec is ended.
pub struct Attached {
    pub output: BoxStream<OutputChunk>,
    /// Shutting it down is the end of the process's input; output goes on.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// A backend. Arguments have been checked by [`Adapter`]; ids may be names, except where the text says otherwise.
/// The same situation is an error of the same code on all of them ([`ErrorCode`](crate::error::ErrorCode)). No method has a
/// deadline of its own.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    fn runtime_type(&self) -> RuntimeType;
    /// Nobody but this application uses it.
    async fn is_private(&self) -> Result<bool>;
    /// The engine is there and answers.
    async fn ping(&self) -> Result<()>;
    async fn system_info(&self) -> Result<SystemInfo>;
    async fn disk_usage(&self) -> Result<DiskUsage>;

    /// Creates without starting, attached to all its networks; returns the full id. Removes what it made if it fails.
    async fn create(&self, spec: &ContainerSpec) -> Result<String>;
    async fn start(&self, id: &str) -> Result<()>;
    /// `timeout` in seconds before the kill; the container's own (10 s by default) when absent.
    async fn stop(&self, id: &str, timeout: Option<u32>) -> Result<()>;
    /// What a stop without a `timeout` waits.
    async fn stop_timeout(&self, id: &str) -> Result<StopTimeout>;
    async fn restart(&self, id: &str, timeout: Option<u32>) -> Result<()>;
    async fn kill(&self, id: &str, signal: &str) -> Result<()>;
    async fn remove(&self, id: &str, force: bool) -> Result<()>;
    async fn pause(&self, id: &str) -> Result<()>;
    async fn unpause(&self, id: &str) -> Result<()>;
    async fn wait(&self, id: &str) -> Result<WaitResult>;
    async fn inspect(&self, id: &str) -> Result<ContainerInfo>;
    async fn details(&self, id: &str) -> Result<ContainerDetails>;
    async fn list(&self, options: &ListOptions) -> Result<Vec<ContainerInfo>>;
    async fn logs(&self, id: &str, options: &LogOptions) -> Result<BoxStream<OutputChunk>>;
    /// One reading of the counters.
    async fn sample(&self, id: &str) -> Result<StatsSample>;
    /// Readings as they come, about one a second, until the container stops.
    async fn samples(&self, id: &str) -> Result<BoxStream<StatsSample>>;
    async fn attach(&self, id: &str) -> Result<Attached>;

    /// Starts `argv` in the container; returns the exec's id and its streams.
    async fn exec(&self, id: &str, argv: &[String], options: &ExecOptions) -> Result<(String, Attached)>;
    /// Once its output has ended.
    async fn exec_end(&self, exec: &str) -> Result<ExecEnd>;
    async fn exec_resize(&self, exec: &str, columns: u16, rows: u16) -> Result<()>;

    async fn pull(&self, image: &str, options: &PullOptions, progress: Sink<PullProgress>) -> Result<()>;
    async fn images(&self) -> Result<Vec<ImageInfo>>;
    /// With a `platform`: whether it is here for that one.
    async fn image_exists(&self, image: &str, platform: Option<&str>) -> Result<bool>;
    async fn remove_image(&self, image: &str, force: bool) -> Result<()>;
    async fn tag_image(&self, image: &str, target: &str) -> Result<()>;
    /// `archive` is a tar or tar.gz; returns the references loaded.
    async fn load_image(&self, archive: BoxStream<Bytes>) -> Result<Vec<String>>;
    async fn save_image(&self, images: &[String]) -> Result<BoxStream<Bytes>>;

    async fn create_network(&self, name: &str, options: &NetworkOptions) -> Result<String>;
    async fn remove_network(&self, id: &str) -> Result<()>;
    async fn networks(&self) -> Result<Vec<NetworkInfo>>;
    async fn connect_network(&self, container: &str, network: &str) -> Result<()>;
    async fn disconnect_network(&self, container: &str, network: &str) -> Result<()>;

    async fn create_volume(&self, name: &str, options: &VolumeOptions) -> Result<String>;
    async fn remove_volume(&self, name: &str, force: bool) -> Result<()>;
    async fn volumes(&self) -> Result<Vec<VolumeInfo>>;

    async fn events(&self, options: &EventOptions) -> Result<BoxStream<RuntimeEvent>>;
    /// Removes what nothing uses, of the kinds asked for; `scope` has been decided.
    async fn prune(&self, options: &PruneOptions) -> Result<PruneResult>;
}

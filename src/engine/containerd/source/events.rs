//! What containerd says happens, in all its namespaces.

use futures_util::{StreamExt, TryFutureExt, TryStreamExt};
use prost::Message;

use super::super::proto::containerd::{
    services::events::v1::{PublishRequest, SubscribeRequest},
    types::Envelope,
};
use super::{
    api::{Api, refused},
    rpc,
};
use crate::{engine::BoxStream, error::Result};

/// Our own sign that a subscription stands: containerd gives none
/// (docs/reference/containerd.md#a-subscription-has-no-beginning).
pub(crate) const SUBSCRIBED: &str = "/lima-runtime/subscribed";

/// Every event's first field names its subject.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Subject {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

impl Api {
    /// What happens in every namespace, from now on, as containerd says it.
    pub(crate) fn envelopes(&self) -> BoxStream<Envelope> {
        let subscribed = rpc::open(self.service.clone(), SubscribeRequest { filters: vec![] });
        subscribed.try_flatten_stream().map_err(refused).boxed()
    }

    /// Says [`SUBSCRIBED`] on the daemon's stream of events, with `mark` for its subject.
    pub(crate) async fn publish(&self, mark: &str) -> Result<()> {
        let event = prost_types::Any {
            type_url: "containerd.events.ContainerUpdate".into(),
            value: Subject { id: mark.to_owned() }.encode_to_vec(),
        };
        let request = PublishRequest { topic: SUBSCRIBED.to_owned(), event: Some(event) };
        self.ask(request).await.map(drop).map_err(refused)
    }

    pub(crate) fn is_mine(&self, envelope: &Envelope) -> bool {
        // Every namespace's events arrive, whatever the header says
        // (docs/reference/containerd.md#events-of-all-namespaces).
        envelope.namespace == *self.namespace
    }
}

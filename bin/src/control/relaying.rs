//! A relay's side: answers; and that of a monitor, which is a relay with a part in the DHT.

use punchline_bridge::relay::Handle;
use tonic::{Request, Response, Status};

#[cfg(feature = "kad")]
use super::discovery;
use super::{
    proto::{self, node_server},
    reload::Reloader,
    service::{Events, events, in_time, reload},
    shape,
};
use crate::report::Reporter;

/// A relay that answers.
#[derive(Clone)]
pub(crate) struct AnsweringRelay {
    /// The relay.
    pub(crate) relay: Handle,
    /// The command that runs.
    pub(crate) command: &'static str,
    /// Its part in the DHT, if it takes any.
    #[cfg(feature = "kad")]
    pub(crate) dht: Option<punchline_discovery::kad::Dht>,
    /// What happens.
    pub(crate) reporter: Reporter,
    /// What reads files again.
    pub(crate) reloader: Reloader,
}

#[tonic::async_trait]
impl node_server::Node for AnsweringRelay {
    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::Status>, Status> {
        let status = in_time(self.relay.status()).await?;
        let mut told = shape::relay_status(&status, status.hindrance());
        self.command.clone_into(&mut told.command);
        #[cfg(feature = "kad")]
        if let Some(dht) = &self.dht {
            told.dht = Some(super::dht::status(&in_time(dht.status()).await?));
        }
        Ok(Response::new(told))
    }

    async fn ping(&self, _: Request<proto::PingRequest>) -> Result<Response<proto::Pong>, Status> {
        Err(Status::unimplemented("a relay pings nobody; ask a node that uses it to ping the relay"))
    }

    async fn explain(
        &self,
        _: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::Story>, Status> {
        Err(Status::unimplemented("a relay keeps no story of its peers; ask a node that uses it"))
    }

    async fn list_found(
        &self,
        _: Request<proto::ListFoundRequest>,
    ) -> Result<Response<proto::Found>, Status> {
        #[cfg(feature = "kad")]
        if let Some(dht) = &self.dht {
            return super::dht::found(dht).await;
        }
        Err(Status::unimplemented("a relay looks for nobody; ask a node that uses it"))
    }

    async fn retry(&self, _: Request<proto::RetryRequest>) -> Result<Response<proto::Retried>, Status> {
        Err(Status::unimplemented(
            "a relay dials nobody, so nothing waits here; ask a node that uses it",
        ))
    }

    async fn verify(
        &self,
        _: Request<proto::VerifyRequest>,
    ) -> Result<Response<proto::Verification>, Status> {
        Err(Status::unimplemented("a relay takes no part in a DHT; ask a node that uses it"))
    }

    async fn reload(
        &self,
        _: Request<proto::ReloadRequest>,
    ) -> Result<Response<proto::Reloaded>, Status> {
        reload(&self.reloader).await
    }

    async fn watch_events(
        &self,
        request: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        Ok(Response::new(events(&self.reporter, request.into_inner().follow)))
    }

    #[cfg(feature = "kad")]
    async fn put(&self, request: Request<proto::PutRequest>) -> Result<Response<proto::Stored>, Status> {
        discovery::put(self.dht()?, request.into_inner()).await.map(Response::new)
    }

    #[cfg(feature = "kad")]
    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::Got>, Status> {
        discovery::get(self.dht()?, request.into_inner()).await.map(Response::new)
    }

    #[cfg(feature = "kad")]
    async fn provide(
        &self,
        request: Request<proto::ProvideRequest>,
    ) -> Result<Response<proto::Provided>, Status> {
        discovery::provide(self.dht()?, request.into_inner()).await.map(Response::new)
    }

    #[cfg(feature = "kad")]
    async fn list_providers(
        &self,
        request: Request<proto::ListProvidersRequest>,
    ) -> Result<Response<proto::Providers>, Status> {
        discovery::providers(self.dht()?, request.into_inner()).await.map(Response::new)
    }

    #[cfg(feature = "kad")]
    async fn find_peer(
        &self,
        request: Request<proto::FindPeerRequest>,
    ) -> Result<Response<proto::Contact>, Status> {
        let text = request.into_inner().peer;
        let peer =
            text.parse().map_err(|error| Status::invalid_argument(format!("`{text}` is {error}")))?;
        discovery::find_peer(self.dht()?, peer).await.map(Response::new)
    }
}

#[cfg(feature = "kad")]
impl AnsweringRelay {
    /// What only a monitor does.
    fn dht(&self) -> Result<&punchline_discovery::kad::Dht, Status> {
        self.dht.as_ref().ok_or_else(|| {
            Status::unimplemented("a relay takes no part in a DHT; ask a node that does, or a monitor")
        })
    }
}

//! A relay's side: answers.

use punchline_bridge::relay::Handle;
use tonic::{Request, Response, Status};

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
        Ok(Response::new(shape::relay_status(&status, status.hindrance())))
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
}

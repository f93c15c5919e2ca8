//! From a tonic channel's "connect" to a stream.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use libp2p::PeerId;
use tonic::codegen::http::Uri;
use tower::Service as TowerService;

use crate::{Endpoint, error::OpenError, service::Service, stream::Stream};

/// Connects a tonic channel to one service of one peer. The channel calls it again by itself when the
/// stream ends, so a channel outlives restarts of the peer.
#[derive(Clone, Debug)]
pub struct Connector {
    endpoint: Endpoint,
    peer: PeerId,
    service: Service,
}

impl Connector {
    /// For `service` of `peer`, from `endpoint`.
    pub fn new(endpoint: Endpoint, peer: PeerId, service: Service) -> Self {
        Self { endpoint, peer, service }
    }
}

impl TowerService<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = OpenError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenError>> {
        Poll::Ready(Ok(()))
    }

    /// Opens a stream. The URI is a name only: who is dialled was said in [`Connector::new`].
    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { endpoint, peer, service } = self.clone();
        Box::pin(async move { Ok(TokioIo::new(endpoint.open(peer, service).await?)) })
    }
}

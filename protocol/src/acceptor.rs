//! The accepting side: a gRPC service to mount, and a bounded queue of what came of it.

use std::{fmt, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use tokio::sync::mpsc::{self, OwnedPermit};
use tonic::{Extensions, Request, Response, Status, Streaming, async_trait, codec::CompressionEncoding};

use crate::{
    admission::{AdmissionLimit, Pending},
    handshake::HandshakeError,
    identity::{Direction, Remote},
    link::{Lanes, lanes},
    node::Node,
    session::Session,
    wire::{
        KaspadMessage, MESSAGE_BYTES_MAX,
        proto::p2p_server::{P2p, P2pServer},
    },
};

/// Refused calls whose report the owner may leave unread; later ones go unreported. They are
/// refused all the same, and an attacker makes as many as it likes.
pub const REFUSALS_MAX: usize = 64;

/// What came of an inbound call.
#[derive(Debug)]
pub enum Inbound {
    /// The handshake succeeded.
    Ready(Session),
    /// The handshake failed.
    Failed {
        /// What the transport knows about the caller.
        remote: Remote,
        /// Why.
        error: HandshakeError,
    },
    /// The call was refused before any handshake.
    Refused {
        /// What the transport knows about the caller.
        remote: Remote,
        /// The bound it exceeded.
        limit: AdmissionLimit,
    },
}

/// The service to mount in a [`tonic::transport::Server`].
pub type AcceptService = P2pServer<Accepting>;

/// The accepting side of a [`Node`].
#[derive(Debug)]
pub struct Acceptor {
    service: Accepting,
    inbound: mpsc::Receiver<Inbound>,
    refusals: mpsc::Receiver<Inbound>,
}

impl Acceptor {
    pub(crate) fn new(node: Node, remote_of: Arc<RemoteOf>) -> Self {
        // A place in this queue is taken before a handshake starts, so that its outcome can
        // always be told: the queue's capacity is the bound on pending handshakes.
        let (accepted, inbound) = mpsc::channel(node.config().limits.pending_max.max(1));
        let (refused, refusals) = mpsc::channel(REFUSALS_MAX);
        let service = Accepting { node, remote_of, accepted, refused };
        Self { service, inbound, refusals }
    }

    /// The service, gzip in both directions, for messages of up to [`MESSAGE_BYTES_MAX`].
    pub fn service(&self) -> AcceptService {
        P2pServer::new(self.service.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// What came of the next inbound call. Cancel-safe.
    pub async fn next(&mut self) -> Inbound {
        tokio::select! {
            biased;
            Some(inbound) = self.inbound.recv() => inbound,
            Some(refusal) = self.refusals.recv() => refusal,
            // `self.service` holds a sender of each queue, so neither ever ends.
            else => std::future::pending().await,
        }
    }
}

/// Reads what the transport knows about a caller.
pub(crate) type RemoteOf = dyn Fn(&Extensions) -> Option<Remote> + Send + Sync;

/// The gRPC service behind [`AcceptService`].
#[derive(Clone)]
pub struct Accepting {
    node: Node,
    remote_of: Arc<RemoteOf>,
    accepted: mpsc::Sender<Inbound>,
    refused: mpsc::Sender<Inbound>,
}

impl fmt::Debug for Accepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepting").finish_non_exhaustive()
    }
}

#[async_trait]
impl P2p for Accepting {
    type MessageStreamStream = BoxStream<'static, Result<KaspadMessage, Status>>;

    async fn message_stream(
        &self,
        request: Request<Streaming<KaspadMessage>>,
    ) -> Result<Response<Self::MessageStreamStream>, Status> {
        let remote = (self.remote_of)(request.extensions())
            .ok_or_else(|| Status::invalid_argument("the caller has no address"))?;
        if self.node.is_shut_down() || self.accepted.is_closed() {
            return Err(Status::unavailable("this node is shutting down"));
        }
        let place = self.admit(&remote).map_err(|limit| {
            // A full queue of reports loses this one; see REFUSALS_MAX.
            let _ = self.refused.try_send(Inbound::Refused { remote: remote.clone(), limit });
            Status::resource_exhausted(limit.to_string())
        })?;
        let (lanes, outgoing) = lanes();
        let serving = place.serve(self.node.clone(), request.into_inner(), lanes, remote);
        self.node.tasks().spawn(serving);
        Ok(Response::new(outgoing.map(Ok).boxed()))
    }
}

impl Accepting {
    fn admit(&self, remote: &Remote) -> Result<Place, AdmissionLimit> {
        let pending = self.node.pending().admit(remote)?;
        let report = self.accepted.clone().try_reserve_owned();
        let limit = self.accepted.max_capacity();
        match report {
            Ok(report) => Ok(Place { pending, report }),
            Err(_full) => Err(AdmissionLimit::Pending { limit }),
        }
    }
}

/// The right to one handshake and to one report of its outcome.
struct Place {
    pending: Pending,
    report: OwnedPermit<Inbound>,
}

impl Place {
    async fn serve(self, node: Node, incoming: Streaming<KaspadMessage>, lanes: Lanes, remote: Remote) {
        let direction = Direction::Inbound;
        let outcome = node.converse(incoming, lanes, remote.clone(), direction).await;
        drop(self.pending);
        self.report.send(match outcome {
            Ok(session) => Inbound::Ready(session),
            Err(error) => Inbound::Failed { remote, error },
        });
    }
}

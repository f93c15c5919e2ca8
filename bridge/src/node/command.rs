//! What a program asks of its node.

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use std::time::Duration;
use tokio::sync::oneshot;

use super::{legs::Reply, requests::Served};
use crate::{
    addr::{HintSource, Ranges, RelayAddr, RelayLocator},
    error::ServeError,
    event::UpgradeCount,
    path::ConnectionId,
    service::Service,
    status::{Pong, Retried, Status},
};

/// What an [`Endpoint`](crate::Endpoint) asks for.
pub(crate) enum Command {
    Open {
        peer: PeerId,
        service: Service,
        ticket: Bytes,
        patience: Option<Duration>,
        reply: Reply,
    },
    Hold {
        peer: PeerId,
    },
    LetGo {
        peer: PeerId,
    },
    Learn {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// As `Learn`, by the peer's own word.
    Hear {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// As `Learn`, by somebody who need not be the peer.
    Hint {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        source: HintSource,
    },
    /// These sources find peers, within this time.
    SoughtBy {
        sources: Vec<String>,
        patience: Duration,
    },
    Welcome {
        service: Service,
        peers: Vec<PeerId>,
    },
    AllowUpgrades {
        allowed: bool,
    },
    KeepTo {
        ranges: Ranges,
    },
    Reserve {
        relay: RelayAddr,
    },
    ReserveAll(Vec<RelayLocator>),
    Close {
        connection: ConnectionId,
    },
    Serve {
        service: Service,
        served: Served,
        reply: oneshot::Sender<Result<(), ServeError>>,
    },
    CountUpgrades {
        reply: oneshot::Sender<Vec<UpgradeCount>>,
    },
    Ping {
        peer: PeerId,
        reply: oneshot::Sender<Option<Pong>>,
    },
    Retry {
        peer: Option<PeerId>,
        reply: oneshot::Sender<Retried>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    Shutdown,
}

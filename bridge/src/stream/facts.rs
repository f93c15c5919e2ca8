//! Who is at the other end of a stream, and the connections that carry it.

use std::{sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId};
use punchline_stream::{Facts, Pulse};
use tokio::sync::watch;

use super::{StreamId, meter::Meter};
use crate::{
    path::{ConnectionId, Direction, Path},
    service::Service,
};

/// The connection under a leg of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which one.
    pub connection: ConnectionId,
    /// Its path.
    pub path: Path,
    /// The peer's address on it.
    pub address: Multiaddr,
    /// When anything was heard on it.
    pub(crate) pulse: Pulse,
    /// What it has carried, if a relay limits that.
    pub(crate) meter: Option<Meter>,
}

impl punchline_stream::Route for Route {
    fn is_direct(&self) -> bool {
        self.path.is_direct()
    }

    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    fn relayed(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.add(bytes);
        }
    }
}

/// One completed move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveRecord {
    /// The path before.
    pub from: Path,
    /// The path since.
    pub to: Path,
    /// How long nothing could flow.
    pub gap: Duration,
    /// How the connection before was lost; none if it was alive.
    pub cause: Option<String>,
}

/// Who is at the other end of a stream, and how it gets there.
#[derive(Debug)]
pub struct StreamFacts {
    /// Its id, the same at both ends.
    pub stream: StreamId,
    /// The other end, authenticated by the connection's handshake.
    pub peer: PeerId,
    /// What it is for.
    pub service: Service,
    /// Who opened it.
    pub direction: Direction,
    /// The path it began on.
    pub path_at_open: Path,
    facts: Arc<Facts<Route>>,
}

impl From<punchline_stream::MoveRecord<Route>> for MoveRecord {
    fn from(record: punchline_stream::MoveRecord<Route>) -> Self {
        Self {
            from: record.from.path,
            to: record.to.path,
            gap: record.gap,
            cause: record.cause.map(|cause| cause.to_string()),
        }
    }
}

impl StreamFacts {
    pub(crate) fn new(peer: PeerId, facts: Arc<Facts<Route>>) -> Self {
        Self {
            stream: facts.stream,
            peer,
            service: facts.service.clone(),
            direction: facts.direction,
            path_at_open: facts.first_route.path,
            facts,
        }
    }

    /// The path that carries it now; while it waits for one, the last.
    pub fn path(&self) -> Path {
        self.facts.route().path
    }

    /// The connection that carries it now; while it waits for one, the last.
    pub fn route(&self) -> Route {
        self.facts.route()
    }

    /// Whether no connection carries it, and it waits for one: up to its patience.
    pub fn is_parked(&self) -> bool {
        self.facts.is_parked()
    }

    /// Tells of every change of the connection that carries it.
    pub fn watch(&self) -> watch::Receiver<Route> {
        self.facts.watch()
    }

    /// Its moves, oldest first; the last [`MOVES_REMEMBERED_MAX`](super::MOVES_REMEMBERED_MAX) of them.
    pub fn moves(&self) -> Vec<MoveRecord> {
        self.facts.moves().into_iter().map(MoveRecord::from).collect()
    }

    /// Bytes of payload sent directly; what a move sends again counts again.
    pub fn sent_direct_bytes(&self) -> u64 {
        self.facts.sent_direct_bytes()
    }

    /// Bytes of payload sent through relays.
    pub fn sent_relayed_bytes(&self) -> u64 {
        self.facts.sent_relayed_bytes()
    }

    /// Bytes of payload received directly; what a move delivers again counts again.
    pub fn received_direct_bytes(&self) -> u64 {
        self.facts.received_direct_bytes()
    }

    /// Bytes of payload received through relays.
    pub fn received_relayed_bytes(&self) -> u64 {
        self.facts.received_relayed_bytes()
    }

    /// Bytes of payload sent on all paths.
    pub fn sent_bytes(&self) -> u64 {
        self.facts.sent_bytes()
    }

    /// Bytes of payload received on all paths.
    pub fn received_bytes(&self) -> u64 {
        self.facts.received_bytes()
    }
}

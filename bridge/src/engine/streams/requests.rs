//! Streams that peers ask for and that nobody has decided on.

use std::{collections::BTreeMap, time::Instant};

use libp2p::PeerId;

use crate::{engine::input::InboundId, path::ConnectionId, service::Service};

#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) service: Service,
    /// The peer does not wait longer.
    deadline: Instant,
}

/// All of them. Their number counts as streams of their peers.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    all: BTreeMap<InboundId, Asked>,
}

impl Requests {
    pub(crate) fn insert(
        &mut self,
        inbound: InboundId,
        peer: PeerId,
        connection: ConnectionId,
        service: Service,
        deadline: Instant,
    ) {
        self.all.insert(inbound, Asked { peer, connection, service, deadline });
    }

    pub(crate) fn remove(&mut self, inbound: InboundId) -> Option<Asked> {
        self.all.remove(&inbound)
    }

    /// It is asked for by another connection from now on. Returns the one before.
    pub(crate) fn moved(&mut self, inbound: InboundId, to: ConnectionId) -> Option<ConnectionId> {
        let asked = self.all.get_mut(&inbound)?;
        Some(std::mem::replace(&mut asked.connection, to))
    }

    /// The services that a peer asks for, one entry a request.
    pub(crate) fn services_of(&self, peer: PeerId) -> impl Iterator<Item = &Service> {
        self.all.values().filter(move |asked| asked.peer == peer).map(|asked| &asked.service)
    }

    pub(crate) fn overdue(&self, now: Instant) -> Vec<InboundId> {
        let overdue = self.all.iter().filter(|(_, asked)| asked.deadline <= now);
        overdue.map(|(inbound, _)| *inbound).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().map(|asked| asked.deadline).min()
    }

    /// Whether one of them waits on this connection.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn contains(&self, inbound: InboundId) -> bool {
        self.all.contains_key(&inbound)
    }
}

//! Streams that somebody waits for: connecting first, then negotiating on one connection.

use std::{collections::BTreeMap, time::Instant};

use libp2p::PeerId;

use super::input::OpenId;
use crate::{error::OpenStage, path::ConnectionId, service::Service};

/// Connections that an open tries one after the other. Each is the best at that moment, so after three
/// the peer is not well.
pub(crate) const CONNECTIONS_TRIED_MAX: usize = 3;

#[derive(Debug)]
pub(crate) struct PendingOpen {
    pub(crate) peer: PeerId,
    pub(crate) service: Service,
    pub(crate) deadline: Instant,
    pub(crate) on: Option<ConnectionId>,
    pub(crate) tried: Vec<ConnectionId>,
}

impl PendingOpen {
    pub(crate) fn stage(&self) -> OpenStage {
        match self.on {
            None => OpenStage::Connecting,
            Some(_) => OpenStage::Negotiating,
        }
    }
}

/// All unanswered opens, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Opens {
    all: BTreeMap<OpenId, PendingOpen>,
}

impl Opens {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn insert(&mut self, open: OpenId, pending: PendingOpen) {
        self.all.insert(open, pending);
    }

    pub(crate) fn get_mut(&mut self, open: OpenId) -> Option<&mut PendingOpen> {
        self.all.get_mut(&open)
    }

    pub(crate) fn remove(&mut self, open: OpenId) -> Option<PendingOpen> {
        self.all.remove(&open)
    }

    /// Those that wait for any connection to `peer`.
    pub(crate) fn connecting_to(&self, peer: PeerId) -> Vec<OpenId> {
        let waits = |pending: &PendingOpen| pending.peer == peer && pending.on.is_none();
        self.all.iter().filter(|(_, pending)| waits(pending)).map(|(open, _)| *open).collect()
    }

    pub(crate) fn overdue(&self, now: Instant) -> Vec<OpenId> {
        self.all.iter().filter(|(_, pending)| pending.deadline <= now).map(|(open, _)| *open).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().map(|pending| pending.deadline).min()
    }

    pub(crate) fn ids(&self) -> Vec<OpenId> {
        self.all.keys().copied().collect()
    }
}

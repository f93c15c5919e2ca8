//! Streams that somebody waits for: connecting first, then negotiating on one connection.

use std::{collections::BTreeMap, time::Instant};

use libp2p::PeerId;

use super::sought::Lookup;
use crate::{
    engine::input::OpenId,
    error::{DialFailure, OpenStage},
    path::ConnectionId,
    service::Service,
};

/// Connections that an open tries one after the other. Each is the best at that moment, so after three
/// the peer is not well.
pub(crate) const CONNECTIONS_TRIED_MAX: usize = 3;

/// Circuits that are dialled for an open which waits for a direct connection, one after the other. A peer keeps an unused
/// one for 10 s, so three last for the open's 30 s.
const INTRODUCTIONS_MAX: u32 = 3;

#[derive(Debug)]
pub(crate) struct PendingOpen {
    pub(crate) peer: PeerId,
    pub(crate) service: Service,
    pub(crate) deadline: Instant,
    pub(crate) on: Option<ConnectionId>,
    pub(crate) tried: Vec<ConnectionId>,
    /// The peer takes no streams through relays.
    pub(crate) direct_only: bool,
    /// Circuits that ended while it waited for a direct connection.
    pub(crate) introductions: u32,
    /// Whether somebody else looks for the peer.
    pub(crate) lookup: Lookup,
    /// Ways that led nowhere while it was looked for.
    pub(crate) failed: Vec<DialFailure>,
}

impl PendingOpen {
    pub(crate) fn new(peer: PeerId, service: Service, deadline: Instant) -> Self {
        let (tried, direct_only, introductions, lookup, failed) = Default::default();
        Self { peer, service, deadline, on: None, tried, direct_only, introductions, lookup, failed }
    }

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

    pub(crate) fn get(&self, open: OpenId) -> Option<&PendingOpen> {
        self.all.get(&open)
    }

    /// It negotiates on a connection.
    pub(crate) fn begin(&mut self, open: OpenId, on: ConnectionId) {
        if let Some(pending) = self.all.get_mut(&open) {
            pending.on = Some(on);
        }
    }

    /// It came to nothing on its connection, and does not try that one again.
    pub(crate) fn give_up(&mut self, open: OpenId) -> Option<(&PendingOpen, ConnectionId)> {
        let pending = self.all.get_mut(&open)?;
        let connection = pending.on.take()?;
        pending.tried.push(connection);
        Some((pending, connection))
    }

    pub(crate) fn get_mut(&mut self, open: OpenId) -> Option<&mut PendingOpen> {
        self.all.get_mut(&open)
    }

    /// Somebody said where the peer may be: what comes of it says more than that it was looked for.
    pub(crate) fn hinted(&mut self, peer: PeerId) {
        let of_peer = self.all.values_mut().filter(|pending| pending.peer == peer);
        of_peer.for_each(|pending| pending.lookup.hinted());
    }

    /// Those that are not looked for any longer, since `now`.
    pub(crate) fn end_lookups(&mut self, now: Instant) -> Vec<OpenId> {
        let ended =
            |(open, pending): (&OpenId, &mut PendingOpen)| pending.lookup.ends(now).then_some(*open);
        self.all.iter_mut().filter_map(ended).collect()
    }

    pub(crate) fn next_lookup_end(&self) -> Option<Instant> {
        self.all.values().filter_map(|pending| pending.lookup.until()).min()
    }

    /// Whom those wait for that have no connection to negotiate on.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = PeerId> {
        self.all.values().filter(|pending| pending.on.is_none()).map(|pending| pending.peer)
    }

    /// It is for a direct connection from now on.
    pub(crate) fn wait_for_direct(&mut self, open: OpenId) {
        if let Some(pending) = self.all.get_mut(&open) {
            pending.direct_only = true;
        }
    }

    /// Whether an open waits for a direct connection to a peer that takes streams on no other.
    pub(crate) fn awaits_direct(&self, peer: PeerId) -> bool {
        self.all.values().any(|pending| pending.direct_only && pending.peer == peer)
    }

    /// A circuit to a peer has ended: the waiting opens for which another one may be dialled.
    pub(crate) fn introduced_again(&mut self, peer: PeerId) -> Vec<OpenId> {
        let again = |(open, pending): (&OpenId, &mut PendingOpen)| {
            let waits = pending.peer == peer && pending.on.is_none();
            if !waits || pending.introductions >= INTRODUCTIONS_MAX {
                return None;
            }
            pending.introductions += 1;
            Some(*open)
        };
        self.all.iter_mut().filter_map(again).collect()
    }

    /// The oldest that negotiates with a peer: what for, and on which connection.
    pub(crate) fn first_negotiating_with(&self, peer: PeerId) -> Option<(&Service, ConnectionId)> {
        let mut all = self.all.values().filter(|pending| pending.peer == peer);
        all.find_map(|pending| Some((&pending.service, pending.on?)))
    }

    /// How many negotiate with a peer.
    pub(crate) fn negotiating_with(&self, peer: PeerId) -> usize {
        let negotiates = |pending: &&PendingOpen| pending.peer == peer && pending.on.is_some();
        self.all.values().filter(negotiates).count()
    }

    pub(crate) fn remove(&mut self, open: OpenId) -> Option<PendingOpen> {
        self.all.remove(&open)
    }

    /// Those that wait for any connection to `peer`, or for one of its streams to end.
    pub(crate) fn connecting_to(&self, peer: PeerId) -> Vec<OpenId> {
        let waits = |pending: &PendingOpen| pending.peer == peer && pending.on.is_none();
        self.all.iter().filter(|(_, pending)| waits(pending)).map(|(open, _)| *open).collect()
    }

    /// Whether anybody waits for a stream to `peer`.
    pub(crate) fn is_wanted(&self, peer: PeerId) -> bool {
        self.all.values().any(|pending| pending.peer == peer)
    }

    pub(crate) fn overdue(&self, now: Instant) -> Vec<OpenId> {
        self.all.iter().filter(|(_, pending)| pending.deadline <= now).map(|(open, _)| *open).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().map(|pending| pending.deadline).min()
    }

    /// Those that negotiate, and where.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn negotiating(&self) -> impl Iterator<Item = (OpenId, ConnectionId)> {
        self.all.iter().filter_map(|(open, pending)| Some((*open, pending.on?)))
    }

    pub(crate) fn ids(&self) -> Vec<OpenId> {
        self.all.keys().copied().collect()
    }
}

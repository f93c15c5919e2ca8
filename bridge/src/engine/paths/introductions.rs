//! Peers that a relay introduced and whose streams it is not to carry: by our settings, or by the peer's.
//!
//! Their streams wait for a direct connection. The circuit is kept for what is said about the punch; when it ends, the
//! next one is dialled, but only so often for one open, and with growing waits for a stream.

use std::{collections::BTreeMap, time::Instant};

use libp2p::PeerId;

use crate::{
    config::RelayMode,
    engine::{Engine, input::OpenId, paths::connections::User},
    error::{OpenError, Refusal, UpgradeFailure},
    event::Event,
    path::{ConnectionId, Direction},
};

/// Why peers are not reached directly, as far as is known. Bounded by the connections.
#[derive(Debug, Default)]
pub(crate) struct Introductions {
    failures: BTreeMap<PeerId, UpgradeFailure>,
}

impl Introductions {
    /// An attempt to reach a peer directly failed.
    pub(crate) fn failed(&mut self, peer: PeerId, reason: &UpgradeFailure) {
        self.failures.insert(peer, reason.clone());
    }

    /// How the latest attempt to reach a peer directly failed.
    pub(crate) fn why(&self, peer: PeerId) -> Option<UpgradeFailure> {
        self.failures.get(&peer).cloned()
    }

    /// The peer is reached directly, or not at all.
    pub(crate) fn over(&mut self, peer: PeerId) {
        self.failures.remove(&peer);
    }
}

impl Engine {
    /// Whether streams of a peer wait for a direct connection while it is reached through relays.
    pub(in crate::engine) fn is_introduced(&self, peer: PeerId) -> bool {
        let barred = !self.connections.may_carry_relayed() || self.opens.awaits_direct(peer);
        barred && !self.connections.sound_relays(peer).is_empty()
    }

    /// Whether anybody waits for a direct connection to a peer.
    pub(in crate::engine) fn awaits_direct(&self, peer: PeerId) -> bool {
        match self.connections.may_carry_relayed() {
            true => self.opens.awaits_direct(peer),
            false => self.opens.is_wanted(peer),
        }
    }

    /// The peer takes no streams through relays: the open waits for a direct connection. False if it was not on a
    /// relayed one.
    pub(in crate::engine) fn wait_for_direct(&mut self, open: OpenId, now: Instant) -> bool {
        let on = self.opens.get(open).and_then(|pending| pending.on);
        if on.and_then(|on| self.path(on)).is_none_or(|path| path.is_direct()) {
            return false;
        }
        let Some((pending, connection)) = self.opens.give_up(open) else { return false };
        let (peer, service) = (pending.peer, pending.service.clone());
        let (reason, direction) = (Refusal::DirectOnly, Direction::Outbound);
        self.events.push_back(Event::StreamRefused { peer, service, reason, direction });
        self.opens.wait_for_direct(open);
        self.connections.remove_user(connection, User::Open(open), now);
        self.advance(open, now);
        true
    }

    /// A circuit has ended: those that wait for a direct connection are introduced again.
    pub(in crate::engine) fn introduction_lost(&mut self, peer: PeerId, now: Instant) {
        if self.connections.may_carry_relayed() && !self.opens.awaits_direct(peer) {
            return;
        }
        self.moves.unreachable(peer, |on| self.connections.is_shaky(on), now);
        for open in self.opens.introduced_again(peer) {
            self.advance(open, now);
        }
    }

    /// Nobody is connected to a peer, and nobody waits for a direct connection to it.
    pub(in crate::engine) fn forget_introduction(&mut self, peer: PeerId) {
        if self.connections.of(peer).next().is_none() && !self.awaits_direct(peer) {
            self.introductions.over(peer);
        }
    }

    /// Why an open that is overdue had no direct connection, if it waited for one.
    pub(in crate::engine) fn not_direct(&self, peer: PeerId) -> Option<OpenError> {
        let there = self.connections.may_carry_relayed();
        let why = self.introductions.why(peer);
        let introduced = self.is_introduced(peer) || (why.is_some() && self.awaits_direct(peer));
        introduced.then_some(OpenError::NotDirect { peer, there, why })
    }

    /// Whether relays are used at all.
    pub(in crate::engine) fn uses_relays(&self) -> bool {
        self.config.relay_mode != RelayMode::Off
    }

    /// Whether streams may run on a connection of ours.
    pub(in crate::engine) fn takes_streams(&self, connection: ConnectionId) -> bool {
        self.path(connection).is_none_or(|path| self.connections.may_carry(path))
    }
}

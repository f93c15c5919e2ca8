//! Who holds a place, and for whom one is kept.
//!
//! A place that was held is kept for a while after its connection ended: who comes back finds room, however
//! many strangers wait for it. It is kept only as long as it was held before, so that whoever comes and goes
//! keeps others out no longer than by staying.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::{
    Limited,
    rates::{Allowance, Rates},
};
use crate::{
    addr::place::{Place, Shares},
    event::LimitOwner,
    path::ConnectionId,
    relay::RelayConfig,
};

/// For whoever finds no place: places come free as peers leave, which nobody can foresee.
const RETRY: Duration = Duration::from_secs(30);

/// A node that moves between networks takes its place over once in a while. Two processes with one identity
/// do it all the time, and each time a connection is closed and made anew; they get four at once and then one
/// a minute.
const TAKEOVERS: Allowance = Allowance { burst: 4, interval: Duration::from_secs(60) };

/// That a peer has left is told to who asks so long after: over QUIC the other ends of its connections notice after
/// 2.4 s, and may have to dial the relay then.
const JUST: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Held {
    peer: PeerId,
    place: Place,
    since: Instant,
    /// How long the peer held it before it came back or moved.
    before: Duration,
    lapses: Instant,
}

#[derive(Debug)]
struct Kept {
    place: Place,
    until: Instant,
    held: Duration,
    /// When the peer's last connection ended, and whether its system ended it.
    left: Option<(Instant, bool)>,
}

/// What became of a place whose holder has gone.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) peer: PeerId,
    /// When it would have lapsed.
    pub(super) lapses: Instant,
    /// Until when it is kept.
    pub(super) kept_until: Option<Instant>,
    /// The peer holds no other.
    pub(super) last: bool,
}

/// Places held and kept, and their limits.
#[derive(Debug)]
pub(super) struct Reservations {
    max: usize,
    per_peer_max: usize,
    duration: Duration,
    kept_max: Duration,
    held: BTreeMap<ConnectionId, Held>,
    /// By peer, the newest last.
    of_peer: BTreeMap<PeerId, Vec<ConnectionId>>,
    kept: BTreeMap<PeerId, Kept>,
    /// Of both.
    shares: Shares,
    takeovers: Rates<PeerId>,
}

impl Reservations {
    pub(super) fn new(config: &RelayConfig) -> Self {
        Self {
            max: config.reservations,
            per_peer_max: config.reservations_per_peer,
            duration: config.reservation_duration,
            kept_max: config.places_kept,
            held: BTreeMap::new(),
            of_peer: BTreeMap::new(),
            kept: BTreeMap::new(),
            shares: Shares::new(config.reservations_share()),
            takeovers: Rates::new(TAKEOVERS),
        }
    }

    /// The peer's newest one: where circuits to it go.
    pub(super) fn newest(&self, peer: PeerId) -> Option<ConnectionId> {
        self.of_peer.get(&peer)?.last().copied()
    }

    /// All of the peer's, the newest last.
    pub(super) fn of(&self, peer: PeerId) -> &[ConnectionId] {
        self.of_peer.get(&peer).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_held(&self, connection: ConnectionId) -> bool {
        self.held.contains_key(&connection)
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.held.keys().copied()
    }

    /// Whether the place may pass to another connection of the peer.
    pub(super) fn may_take_over(&self, peer: PeerId, now: Instant) -> Result<(), Limited> {
        let (whose, limit) = (LimitOwner::Peer, self.takeovers.burst());
        let limited = |retry_after| Limited { whose, limit, retry_after };
        self.takeovers.check(peer, now).map_err(limited)
    }

    pub(super) fn took_over(&mut self, peer: PeerId, now: Instant) {
        self.takeovers.charge(peer, now);
    }

    /// Whether there is room for one more of this peer, in place of those `replaced`.
    pub(super) fn room(
        &mut self,
        peer: PeerId,
        place: Place,
        replaced: &[ConnectionId],
    ) -> Result<(), Limited> {
        if self.of(peer).len() - replaced.len() >= self.per_peer_max {
            let (whose, limit) = (LimitOwner::Peer, self.per_peer_max);
            return Err(Limited { whose, limit, retry_after: RETRY });
        }
        let kept = self.kept.get(&peer).map(|kept| kept.place);
        let places = replaced.iter().filter_map(|connection| Some(self.held.get(connection)?.place));
        let own: Vec<Place> = places.chain(kept).collect();
        own.iter().for_each(|place| self.shares.give_back(*place));
        let fits = self.shares.fits(place);
        own.iter().for_each(|place| self.shares.take(*place));
        let address = |limit| Limited { whose: LimitOwner::Address, limit, retry_after: RETRY };
        fits.map_err(address)?;
        if self.held.len() + self.kept.len() - own.len() >= self.max {
            return Err(Limited { whose: LimitOwner::Relay, limit: self.max, retry_after: RETRY });
        }
        Ok(())
    }

    /// The peer holds a place by this connection from now on. When it lapses, and until when the one that is
    /// now used was kept.
    pub(super) fn take(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        place: Place,
        now: Instant,
    ) -> (Instant, Option<Instant>) {
        let kept = self.kept.remove(&peer);
        if let Some(kept) = &kept {
            self.shares.give_back(kept.place);
        }
        let before = kept.as_ref().map_or(Duration::ZERO, |kept| kept.held);
        let lapses = now + self.duration;
        self.held.insert(connection, Held { peer, place, since: now, before, lapses });
        self.of_peer.entry(peer).or_default().push(connection);
        self.shares.take(place);
        (lapses, kept.map(|kept| kept.until))
    }

    /// When it would have lapsed, and when it lapses instead.
    pub(super) fn renew(
        &mut self,
        connection: ConnectionId,
        now: Instant,
    ) -> Option<(Instant, Instant)> {
        let held = self.held.get_mut(&connection)?;
        let lapses = now + self.duration;
        Some((std::mem::replace(&mut held.lapses, lapses), lapses))
    }

    /// The connection holds no place any more. The last one of a peer is kept.
    pub(super) fn end(&mut self, connection: ConnectionId, now: Instant) -> Option<Ended> {
        let held = self.held.remove(&connection)?;
        let peer = held.peer;
        self.shares.give_back(held.place);
        let others = self.of_peer.get_mut(&peer);
        let last = others.is_none_or(|others| {
            others.retain(|other| *other != connection);
            others.is_empty()
        });
        let mut kept_until = None;
        if last {
            self.of_peer.remove(&peer);
            kept_until = self.keep(&held, now);
        }
        Some(Ended { peer, lapses: held.lapses, kept_until, last })
    }

    fn keep(&mut self, held: &Held, now: Instant) -> Option<Instant> {
        let held_for = held.before + now.saturating_duration_since(held.since);
        let keep = held_for.min(self.kept_max);
        if keep.is_zero() {
            return None;
        }
        self.shares.take(held.place);
        let kept = Kept { place: held.place, until: now + keep, held: held_for, left: None };
        self.kept.insert(held.peer, kept);
        Some(now + keep)
    }

    /// The last connection of a peer whose place is kept is gone; `closed`: its system ended it.
    pub(super) fn left(&mut self, peer: PeerId, closed: bool, now: Instant) {
        if let Some(kept) = self.kept.get_mut(&peer) {
            kept.left = Some((now, closed));
        }
    }

    /// Whether its system ended it, if that was a moment ago and the peer has taken no place since.
    pub(super) fn has_just_left(&self, peer: PeerId, now: Instant) -> Option<bool> {
        let (left, closed) = self.kept.get(&peer)?.left?;
        (now.saturating_duration_since(left) < JUST).then_some(closed)
    }

    /// A place was kept long enough.
    pub(super) fn unkeep(&mut self, peer: PeerId) {
        if let Some(kept) = self.kept.remove(&peer) {
            self.shares.give_back(kept.place);
        }
    }

    /// Places held, and places kept.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.held.len(), self.kept.len())
    }

    /// Of both together.
    pub(super) fn limit(&self) -> usize {
        self.max
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.of_peer.is_empty() && self.kept.is_empty() && self.shares.is_empty()
    }
}

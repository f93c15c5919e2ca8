//! Our links to relays and our reservations with them: dial, wait for identify, reserve, hold, and
//! start over after each loss.
//!
//! ```text
//! link:         Down --dial--> Dialling --opened--> Identifying --identified or deadline--> Ready
//!                 ^----------------- failed or closed ------------------------------------'
//! reservation:  None --link ready--> Requested --accepted--> Held --ended--> None (backoff)
//! ```

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::input::DialId;
use crate::{addr::RelayAddr, config::Deadlines, path::ConnectionId};

/// What to do about a relay next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Dial(Vec<RelayAddr>),
    Reserve(RelayAddr),
    /// The link carries circuits from now on.
    Ready,
    /// It did not answer; start over with a new connection.
    Close(ConnectionId),
}

#[derive(Debug)]
struct Relay {
    addresses: Vec<RelayAddr>,
    link: Link,
    reservation: Reservation,
    /// Whether the operator wants a reservation, or the link only serves to dial circuits.
    reserve: bool,
    failures: u32,
    announced: Option<Duration>,
}

#[derive(Debug, PartialEq, Eq)]
enum Link {
    Down { retry: Option<Instant> },
    Dialling { dial: Option<DialId> },
    Identifying { connection: ConnectionId, deadline: Instant },
    Ready { connection: ConnectionId },
}

#[derive(Debug, PartialEq, Eq)]
enum Reservation {
    None { ask: Instant },
    Requested { deadline: Instant },
    Held,
}

/// Every relay in use, by its identity.
#[derive(Debug)]
pub(crate) struct Relays {
    all: HashMap<PeerId, Relay>,
    deadlines: Deadlines,
    max: usize,
    addresses_max: usize,
    jitter: StdRng,
}

/// One relay more than may be in use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyRelays {
    pub(crate) limit: usize,
}

impl Relays {
    pub(crate) fn new(deadlines: Deadlines, max: usize, addresses_max: usize, seed: u64) -> Self {
        Self { all: HashMap::new(), deadlines, max, addresses_max, jitter: StdRng::seed_from_u64(seed) }
    }

    /// Takes a relay into use, with a reservation or only for circuits.
    pub(crate) fn add(
        &mut self,
        address: &RelayAddr,
        reserve: bool,
        now: Instant,
    ) -> Result<(), TooManyRelays> {
        if !self.all.contains_key(&address.peer()) && self.all.len() >= self.max {
            return Err(TooManyRelays { limit: self.max });
        }
        let relay = self.all.entry(address.peer()).or_insert_with(|| Relay {
            addresses: Vec::new(),
            link: Link::Down { retry: None },
            reservation: Reservation::None { ask: now },
            reserve: false,
            failures: 0,
            announced: None,
        });
        if !relay.addresses.contains(address) && relay.addresses.len() < self.addresses_max {
            relay.addresses.push(address.clone());
        }
        relay.reserve |= reserve;
        if relay.reserve && relay.link == (Link::Down { retry: None }) {
            relay.link = Link::Down { retry: Some(now) };
        }
        Ok(())
    }

    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        self.all.contains_key(&peer)
    }

    pub(crate) fn is_ready(&self, peer: PeerId) -> bool {
        self.all.get(&peer).is_some_and(|relay| matches!(relay.link, Link::Ready { .. }))
    }

    /// Whether the link must stay up although nothing runs over it.
    pub(crate) fn needs_link(&self, peer: PeerId) -> bool {
        self.all.get(&peer).is_some_and(|relay| relay.reserve)
    }

    /// The address that leads to us through this relay.
    pub(crate) fn address(&self, peer: PeerId) -> Option<&RelayAddr> {
        self.all.get(&peer)?.addresses.first()
    }

    /// The links that carry circuits.
    pub(crate) fn ready(&self) -> Vec<(PeerId, ConnectionId)> {
        let ready = |(peer, relay): (&PeerId, &Relay)| match relay.link {
            Link::Ready { connection } => Some((*peer, connection)),
            _ => None,
        };
        self.all.iter().filter_map(ready).collect()
    }

    /// How long the relay said its reservations last.
    pub(crate) fn announced(&self, peer: PeerId) -> Option<Duration> {
        self.all.get(&peer)?.announced
    }

    /// A circuit is wanted now: do not wait for the backoff.
    pub(crate) fn want_link(&mut self, peer: PeerId, now: Instant) {
        if let Some(relay) = self.all.get_mut(&peer)
            && matches!(relay.link, Link::Down { .. })
        {
            relay.link = Link::Down { retry: Some(now) };
        }
    }

    pub(crate) fn dialling(&mut self, peer: PeerId, dial: DialId) {
        if let Some(relay) = self.all.get_mut(&peer) {
            relay.link = Link::Dialling { dial: Some(dial) };
        }
    }

    /// Returns the relay whose link this dial was to be.
    pub(crate) fn dial_failed(&mut self, dial: DialId, now: Instant) -> Option<PeerId> {
        let wanted = Link::Dialling { dial: Some(dial) };
        let (peer, relay) = self.all.iter_mut().find(|(_, relay)| relay.link == wanted)?;
        let wait = backoff(relay.failures, &self.deadlines, &mut self.jitter);
        relay.failures = relay.failures.saturating_add(1);
        relay.link = Link::Down { retry: relay.reserve.then(|| now + wait) };
        let peer = *peer;
        self.forget_unless_reserved(peer);
        Some(peer)
    }

    /// Attempts at a wanted reservation that failed since it was last held.
    pub(crate) fn failures(&self, peer: PeerId) -> Option<u32> {
        self.all.get(&peer).filter(|relay| relay.reserve).map(|relay| relay.failures)
    }

    pub(crate) fn connection_opened(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) {
        if let Some(relay) = self.all.get_mut(&peer)
            && matches!(relay.link, Link::Down { .. } | Link::Dialling { .. })
        {
            let deadline = now + self.deadlines.identify;
            relay.link = Link::Identifying { connection, deadline };
        }
    }

    /// Returns whether circuits may be dialled over the link from now on.
    pub(crate) fn identified(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        announced: Option<Duration>,
    ) -> bool {
        let Some(relay) = self.all.get_mut(&peer) else { return false };
        relay.announced = announced;
        match relay.link {
            Link::Identifying { connection: wanted, .. } if wanted == connection => {
                relay.link = Link::Ready { connection };
                true
            }
            _ => false,
        }
    }

    /// Returns whether a reservation went with it.
    pub(crate) fn connection_closed(&mut self, connection: ConnectionId, now: Instant) -> Option<Lost> {
        let (peer, relay) = self.all.iter_mut().find(|(_, relay)| match relay.link {
            Link::Identifying { connection: used, .. } | Link::Ready { connection: used } => {
                used == connection
            }
            Link::Down { .. } | Link::Dialling { .. } => false,
        })?;
        let held = relay.reservation == Reservation::Held;
        // The first redial is immediate: the relay may just have been restarted.
        relay.link = Link::Down { retry: relay.reserve.then_some(now) };
        relay.reservation = Reservation::None { ask: now };
        let relay = *peer;
        self.forget_unless_reserved(relay);
        Some(Lost { relay, held })
    }

    /// A relay that only served to dial circuits is taken into use again when the next one is wanted.
    fn forget_unless_reserved(&mut self, peer: PeerId) {
        self.all.retain(|other, relay| *other != peer || relay.reserve);
    }

    /// The first time and at each renewal. Returns whether the relay is one of ours.
    pub(crate) fn reservation_accepted(&mut self, peer: PeerId) -> bool {
        match self.all.get_mut(&peer) {
            Some(relay) => {
                relay.reservation = Reservation::Held;
                relay.failures = 0;
                true
            }
            None => false,
        }
    }

    /// Returns whether a held reservation was lost.
    pub(crate) fn reservation_ended(&mut self, peer: PeerId, now: Instant) -> bool {
        let Some(relay) = self.all.get_mut(&peer) else { return false };
        if matches!(relay.reservation, Reservation::None { .. }) {
            return false;
        }
        let held = relay.reservation == Reservation::Held;
        let wait = backoff(relay.failures, &self.deadlines, &mut self.jitter);
        relay.failures = relay.failures.saturating_add(1);
        relay.reservation = Reservation::None { ask: now + wait };
        held
    }

    /// What is due at `now`. Each step is said once.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<(PeerId, Step)> {
        let deadlines = &self.deadlines;
        let step = |relay: &mut Relay| relay.poll(deadlines, now);
        self.all.iter_mut().filter_map(|(peer, relay)| Some((*peer, step(relay)?))).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().filter_map(Relay::next_deadline).min()
    }
}

/// A relay's connection is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) relay: PeerId,
    /// Whether a reservation went with it.
    pub(crate) held: bool,
}

impl Relay {
    fn poll(&mut self, deadlines: &Deadlines, now: Instant) -> Option<Step> {
        match (&self.link, &self.reservation) {
            (Link::Down { retry: Some(at) }, _) if *at <= now => {
                self.link = Link::Dialling { dial: None };
                Some(Step::Dial(self.addresses.clone()))
            }
            (Link::Identifying { connection, deadline }, _) if *deadline <= now => {
                self.link = Link::Ready { connection: *connection };
                Some(Step::Ready)
            }
            (Link::Ready { .. }, Reservation::None { ask }) if self.reserve && *ask <= now => {
                self.reservation = Reservation::Requested { deadline: now + deadlines.reserve };
                self.addresses.first().cloned().map(Step::Reserve)
            }
            (Link::Ready { connection }, Reservation::Requested { deadline }) if *deadline <= now => {
                let connection = *connection;
                self.reservation = Reservation::Requested { deadline: now + deadlines.reserve };
                Some(Step::Close(connection))
            }
            _ => None,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match (&self.link, &self.reservation) {
            (Link::Down { retry }, _) => *retry,
            (Link::Identifying { deadline, .. }, _) => Some(*deadline),
            (Link::Ready { .. }, Reservation::None { ask }) => self.reserve.then_some(*ask),
            (Link::Ready { .. }, Reservation::Requested { deadline }) => Some(*deadline),
            (Link::Dialling { .. }, _) | (Link::Ready { .. }, Reservation::Held) => None,
        }
    }
}

/// Doubles from the first to the longest wait; the last quarter is random, so that a relay's clients
/// do not all come back in the same millisecond.
fn backoff(failures: u32, deadlines: &Deadlines, jitter: &mut StdRng) -> Duration {
    let (first, longest) = deadlines.reserve_backoff;
    let wait = first.saturating_mul(1 << failures.min(16)).min(longest);
    wait.mul_f64(jitter.random_range(0.75..=1.0))
}

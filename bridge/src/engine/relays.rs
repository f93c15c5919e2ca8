//! Our links to relays and our reservations with them: dial, wait for identify, reserve, hold, and
//! start over after each loss.
//!
//! ```text
//! link:  Down --dial--> Dialling --opened--> Identifying --identified or deadline--> Ready
//!          ^----------------- failed or closed ------------------------------------'
//! ```
//!
//! `reservation` is one reservation over such a link, `term` how long it holds, [`refusals`] when a relay may be asked
//! again. [`spares`] and `sparing`: second circuits, through other relays. [`sights`]: how relays see us over each
//! transport and family. [`blocked`]: what keeps us from them. [`health`]: how each does. `standing`: how we stand with each, for whoever asks.
//! `elsewhere`: what becomes of dials when this host is in another network.
//! `words`: which of what they say counts. [`names`]: what the names of relays stand for; `naming`: what follows from it.

pub(in crate::engine) mod blocked;
pub(in crate::engine) mod health;
pub(in crate::engine) mod links;
pub(in crate::engine) mod names;
pub(in crate::engine) mod refusals;

mod elsewhere;
mod naming;
mod redial;
mod reservation;
pub(in crate::engine) mod sights;
pub(in crate::engine) mod spares;
mod sparing;
mod standing;
mod term;
mod words;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use libp2p::{Multiaddr, PeerId};
use rand::{SeedableRng, rngs::StdRng};

use self::{
    health::Pulse,
    redial::{Redial, backoff},
    reservation::{Due, Reservation},
    term::Term,
};
use super::input::{DialId, Grant, ReserveId};
use crate::{
    addr::{RelayAddr, transport_of},
    config::Deadlines,
    error::{RelayFailure, ReserveFailure},
    path::{ConnectionId, Transport},
};

/// What to do about a relay next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Dial(Vec<RelayAddr>),
    Reserve {
        request: ReserveId,
        relay: RelayAddr,
        connection: ConnectionId,
    },
    /// The link carries circuits from now on.
    Ready,
    /// The reservation is over. Why it was not renewed, if the relay said.
    Lapsed {
        connection: ConnectionId,
        refused: Option<ReserveFailure>,
    },
    /// It did not answer; start over with a new connection.
    Unanswered {
        connection: ConnectionId,
        failure: ReserveFailure,
    },
}

#[derive(Debug)]
struct Relay {
    addresses: Vec<RelayAddr>,
    /// Those of them that are there only because a name stands for them.
    named: Vec<RelayAddr>,
    /// No name stands for it any more: it is let go of when its link is.
    vanished: bool,
    /// The operator gave its address, and wants a reservation.
    given: bool,
    link: Link,
    reservation: Reservation,
    /// Whether the operator wants a reservation, or the link only serves to dial circuits.
    reserve: bool,
    /// By how much its clock was said to differ from ours.
    clock_said: Option<i64>,
    /// As the latest reservation shows it.
    clock_ahead: Option<i64>,
    /// When its last word that it leaves was followed.
    left: Option<Instant>,
    /// How often it lately said where it sees us.
    sights: (Instant, u32),
    /// What failed last.
    last_error: Option<RelayFailure>,
    /// The missing peers that it was asked about over this link.
    asked_about: Vec<PeerId>,
    /// Dials that began in a network before this one, the latest first.
    outdated: Vec<DialId>,
    health: Pulse,
    /// When the link came up last.
    link_opened: Instant,
    redial: Redial,
}

#[derive(Debug, PartialEq, Eq)]
enum Link {
    Down { retry: Option<Instant> },
    Dialling { dial: Option<DialId> },
    Identifying { connection: ConnectionId, deadline: Instant },
    Ready { connection: ConnectionId },
}

/// Every relay in use, by its identity.
#[derive(Debug)]
pub(crate) struct Relays {
    all: BTreeMap<PeerId, Relay>,
    deadlines: Deadlines,
    max: usize,
    addresses_max: usize,
    next_request: u64,
    jitter: StdRng,
}

/// One relay more than may be in use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyRelays {
    pub(crate) limit: usize,
}

impl Relays {
    pub(crate) fn new(deadlines: Deadlines, max: usize, addresses_max: usize, seed: u64) -> Self {
        let jitter = StdRng::seed_from_u64(seed);
        Self { all: BTreeMap::new(), deadlines, max, addresses_max, next_request: 0, jitter }
    }

    /// Takes a relay into use, with a reservation or only for circuits.
    pub(crate) fn add(
        &mut self,
        address: &RelayAddr,
        reserve: bool,
        now: Instant,
    ) -> Result<(), TooManyRelays> {
        let max = self.addresses_max;
        let relay = self.room_for(address.peer(), now)?;
        if !relay.addresses.contains(address) && relay.addresses.len() < max {
            relay.addresses.push(address.clone());
        }
        if reserve {
            relay.given = true;
            relay.named.retain(|named| named != address);
            relay.want_place(now);
        }
        Ok(())
    }

    fn room_for(&mut self, peer: PeerId, now: Instant) -> Result<&mut Relay, TooManyRelays> {
        if !self.all.contains_key(&peer) && self.all.len() >= self.max {
            return Err(TooManyRelays { limit: self.max });
        }
        Ok(self.all.entry(peer).or_insert_with(|| Relay {
            addresses: Vec::new(),
            named: Vec::new(),
            vanished: false,
            given: false,
            link: Link::Down { retry: None },
            reservation: Reservation::new(now),
            reserve: false,
            clock_said: None,
            clock_ahead: None,
            left: None,
            sights: (now, 0),
            last_error: None,
            asked_about: Vec::new(),
            outdated: Vec::new(),
            health: Pulse::default(),
            link_opened: now,
            redial: Redial::default(),
        }))
    }

    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        self.all.contains_key(&peer)
    }

    /// What else leads to a relay, that would have been taken before this kind of address.
    pub(crate) fn passed_over(&self, peer: PeerId, taken: Transport) -> Vec<Transport> {
        let given = |kind: &Transport| {
            let addresses = self.all.get(&peer).into_iter().flat_map(|relay| &relay.addresses);
            addresses.map(|relay| transport_of(relay.address())).any(|other| other == *kind)
        };
        Transport::TO_RELAYS.into_iter().take(taken.turn()).filter(given).collect()
    }

    /// Whether the operator chose it, to reserve a place there. Others were perhaps named by a peer.
    pub(crate) fn is_chosen(&self, peer: PeerId) -> bool {
        self.all.get(&peer).is_some_and(|relay| relay.reserve)
    }

    /// The link to a relay, if circuits may be dialled over it.
    pub(crate) fn link(&self, peer: PeerId) -> Option<ConnectionId> {
        self.all.get(&peer)?.ready()
    }

    /// Whether a relay is to be told that these peers are missing: it was last told of others. It is told then.
    pub(crate) fn is_news(&mut self, relay: PeerId, missing: &[PeerId]) -> bool {
        let Some(relay) = self.all.get_mut(&relay) else { return false };
        let news = relay.asked_about != missing;
        if news {
            missing.clone_into(&mut relay.asked_about);
        }
        news
    }

    /// Whether the link must stay up although nothing runs over it.
    pub(crate) fn needs_link(&self, peer: PeerId) -> bool {
        self.all.get(&peer).is_some_and(|relay| relay.reserve)
    }

    /// The links that carry circuits.
    pub(crate) fn all_ready(&self) -> Vec<(PeerId, ConnectionId)> {
        self.all.iter().filter_map(|(peer, relay)| Some((*peer, relay.ready()?))).collect()
    }

    /// Where a relay listens.
    pub(crate) fn addresses(&self, peer: PeerId) -> Vec<Multiaddr> {
        let addresses = self.all.get(&peer).map(|relay| &relay.addresses);
        addresses.into_iter().flatten().map(|relay| relay.address().clone()).collect()
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
        let (silent, failures) = (relay.health.silent(now), relay.reservation.failures());
        let wait = redial::after_failed_dial(
            silent,
            failures,
            self.deadlines.reserve_backoff,
            &mut self.jitter,
        );
        relay.reservation.failed();
        relay.health.failed();
        relay.lost_link(now + wait);
        let peer = *peer;
        self.forget_unless_reserved(peer);
        Some(peer)
    }

    /// Attempts at a wanted reservation that failed since it was last held.
    pub(crate) fn failures(&self, peer: PeerId) -> Option<u32> {
        self.all.get(&peer).filter(|relay| relay.reserve).map(|relay| relay.reservation.failures())
    }

    /// Returns whether it is to be our link to a relay.
    pub(crate) fn connection_opened(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        now: Instant,
    ) -> bool {
        let Some(relay) = self.all.get_mut(&peer) else { return false };
        let wanted = matches!(relay.link, Link::Down { .. } | Link::Dialling { .. });
        if wanted {
            let deadline = now + self.deadlines.identify;
            relay.link = Link::Identifying { connection, deadline };
            relay.link_opened = now;
            relay.asked_about.clear();
        }
        wanted
    }

    /// Returns whether circuits may be dialled over the link from now on.
    pub(crate) fn identified(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        let Some(relay) = self.all.get_mut(&peer) else { return false };
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
        relay.health.failed();
        let lasted = now.saturating_duration_since(relay.link_opened);
        let wait =
            relay.redial.after_lost_link(lasted, self.deadlines.reserve_backoff, &mut self.jitter);
        relay.lost_link(now + wait);
        let held = relay.reservation.link_lost(now);
        let relay = *peer;
        self.forget_unless_reserved(relay);
        Some(Lost { relay, held })
    }

    /// A relay that only served to dial circuits is taken into use again when the next one is wanted.
    fn forget_unless_reserved(&mut self, peer: PeerId) {
        self.all.retain(|other, relay| *other != peer || relay.reserve);
    }

    /// The relay keeps a place for us, from `now` on, which is `at` by our wall clock. None if nobody waits for
    /// this answer any more.
    pub(crate) fn granted(
        &mut self,
        request: ReserveId,
        grant: &Grant,
        now: Instant,
        at: SystemTime,
    ) -> Option<Held> {
        let (peer, relay) = asked(&mut self.all, request)?;
        let term = Term::new(grant, at);
        relay.reservation.granted(&term, now);
        relay.health.granted(now);
        let address = relay.addresses.first()?.clone();
        relay.clock_ahead = term.clock_ahead;
        let clock_ahead = relay.clock_news(term.clock_ahead);
        let expires = term.is_known.then(|| at + term.lasts);
        Some(Held { relay: peer, address, expires, clock_ahead })
    }

    /// The relay keeps no place for us, or did not answer; returns which. None if nobody waits for it any more.
    pub(crate) fn refused(
        &mut self,
        request: ReserveId,
        failure: ReserveFailure,
        now: Instant,
    ) -> Option<Refused> {
        let first = self.deadlines.reserve_backoff.0;
        let (peer, relay) = asked(&mut self.all, request)?;
        let held = relay.reservation.is_held();
        let unanswered = matches!(failure, ReserveFailure::Deadline { .. });
        let wait = |failures, longest| backoff(failures, (first, longest), &mut self.jitter);
        relay.reservation.refused(failure, wait, now);
        relay.health.refused();
        let close = relay.ready().filter(|_| unanswered && !held);
        Some(Refused { relay: peer, held, close })
    }

    /// What is due at `now`. Each step is said once.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<(PeerId, Step)> {
        let mut steps = Vec::new();
        for (peer, relay) in &mut self.all {
            while let Some(step) = relay.poll(&self.deadlines, &mut self.next_request, now) {
                steps.push((*peer, step));
            }
        }
        steps
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

/// A reservation is held, for the first time or again.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) relay: PeerId,
    pub(crate) address: RelayAddr,
    /// By our wall clock; none if that is a guess.
    pub(crate) expires: Option<SystemTime>,
    /// How far the relay's clock is ahead of ours, in seconds, if that is worth saying.
    pub(crate) clock_ahead: Option<i64>,
}

/// A reservation was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) relay: PeerId,
    /// It was a renewal: what is held stays until its end.
    pub(crate) held: bool,
    /// The link is of no use.
    pub(crate) close: Option<ConnectionId>,
}

impl Relay {
    /// A reservation is wanted here.
    fn want_place(&mut self, now: Instant) {
        self.reserve = true;
        if self.link == (Link::Down { retry: None }) {
            self.link = Link::Down { retry: Some(now) };
        }
    }

    fn lost_link(&mut self, retry: Instant) {
        if self.vanished {
            self.unname();
        }
        self.link = Link::Down { retry: self.reserve.then_some(retry) };
    }

    fn ready(&self) -> Option<ConnectionId> {
        match self.link {
            Link::Ready { connection } => Some(connection),
            _ => None,
        }
    }

    /// Says a difference of the clocks once, and again if it has become another.
    fn clock_news(&mut self, ahead: Option<i64>) -> Option<i64> {
        let ahead = ahead?;
        let said = self.clock_said.is_some_and(|said| said.abs_diff(ahead) <= CLOCK_STEP.as_secs());
        if said {
            return None;
        }
        self.clock_said = Some(ahead);
        Some(ahead)
    }

    fn poll(&mut self, deadlines: &Deadlines, requests: &mut u64, now: Instant) -> Option<Step> {
        match self.link {
            Link::Down { retry: Some(at) } if at <= now => {
                self.link = Link::Dialling { dial: None };
                Some(Step::Dial(self.addresses.clone()))
            }
            Link::Identifying { connection, deadline } if deadline <= now => {
                self.link = Link::Ready { connection };
                Some(Step::Ready)
            }
            Link::Ready { connection } if self.reserve => {
                match self.reservation.poll(deadlines.reserve, now)? {
                    Due::Ask => {
                        let relay = self.addresses.first()?.clone();
                        *requests += 1;
                        let request = ReserveId(*requests);
                        self.reservation.sent(request, now + deadlines.reserve);
                        Some(Step::Reserve { request, relay, connection })
                    }
                    Due::Lapsed(refused) => Some(Step::Lapsed { connection, refused }),
                    Due::Unanswered => {
                        let failure = ReserveFailure::Deadline { deadline: deadlines.reserve };
                        Some(Step::Unanswered { connection, failure })
                    }
                }
            }
            _ => None,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self.link {
            Link::Down { retry } => retry,
            Link::Identifying { deadline, .. } => Some(deadline),
            Link::Ready { .. } if self.reserve => self.reservation.next_deadline(),
            Link::Dialling { .. } | Link::Ready { .. } => None,
        }
    }
}

/// A difference of the clocks is said again if it has changed by more.
const CLOCK_STEP: Duration = Duration::from_secs(90);

/// Who was asked in this request.
fn asked(all: &mut BTreeMap<PeerId, Relay>, request: ReserveId) -> Option<(PeerId, &mut Relay)> {
    let (peer, relay) = all.iter_mut().find(|(_, relay)| relay.reservation.is_answer(request))?;
    Some((*peer, relay))
}

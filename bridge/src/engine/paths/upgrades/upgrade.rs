//! One peer that is reached only through relays: where its rounds of punches stand.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::{
    OFFER_WAIT, SYNC_WAIT_MAX, Upgrades,
    schedule::{Next, Schedule},
    verdict::{Findings, GaveUp},
};
use crate::engine::input::{Exchange, Offer};

/// How long a punch has before an end calls as well: what a connection takes to come about, and some. Else two
/// would come about wherever the peer lets in whoever calls.
const CALL_ROUND_TRIPS: u32 = 4;
pub(crate) const CALL_WAIT: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) enum Phase {
    /// Until it is time to begin; or until the other end does.
    Resting { until: Option<Instant> },
    /// The peer was asked for its addresses.
    Asked { on: Exchange, patience: Option<Instant> },
    /// The peer offers its addresses, and is not answered before upgrades are allowed, and this one is due.
    Held { on: Exchange, addresses: Vec<Multiaddr> },
    /// The peer's offer was answered; it will say when.
    Answered { on: Exchange, addresses: Vec<Multiaddr> },
    /// Both ends know when.
    Waiting { at: Instant, addresses: Vec<Multiaddr>, round_trip: Duration },
    /// Both ends dial. If that brings no connection soon, this end calls at these addresses as well.
    Dialling { call: Option<(Instant, Vec<Multiaddr>)> },
}

#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) since: Instant,
    /// Nothing begins earlier, and no offer is answered: something better is under way.
    pub(super) not_before: Instant,
    pub(super) phase: Phase,
    /// Whether this end begins.
    pub(super) begins: bool,
    pub(super) schedule: Schedule,
    /// Punches in all.
    pub(super) attempts: u32,
    /// When failure is said, unless another offer comes.
    pub(super) settle: Option<Instant>,
    pub(super) offers: (Instant, u32),
    /// How often the peer said lately that another outcome is likely.
    pub(super) told: (Instant, u32),
    /// A row is to begin anew as soon as no exchange is under way.
    pub(super) again: bool,
    pub(super) findings: Findings,
}

impl Upgrade {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            not_before: now,
            phase: Phase::Resting { until: None },
            begins: false,
            schedule: Schedule::new(now),
            attempts: 0,
            settle: None,
            offers: (now, 0),
            told: (now, 0),
            again: false,
            findings: Findings::default(),
        }
    }

    /// The one that both ends speak in.
    pub(super) fn exchange(&self) -> Option<Exchange> {
        match self.phase {
            Phase::Asked { on, .. } | Phase::Held { on, .. } | Phase::Answered { on, .. } => Some(on),
            _ => None,
        }
    }

    /// Whether a row begins anew now. Dials that are under way go on.
    pub(super) fn is_again(&self) -> bool {
        self.again && matches!(self.phase, Phase::Resting { .. } | Phase::Dialling { .. })
    }

    pub(super) fn dials_go_on(&mut self) {
        if !matches!(self.phase, Phase::Dialling { .. }) {
            self.phase = Phase::Dialling { call: None };
        }
    }

    /// When nothing else has brought a connection, these are called.
    pub(super) fn call_later(&mut self, addresses: Vec<Multiaddr>, round_trip: Duration, now: Instant) {
        let wait = CALL_WAIT + round_trip.min(SYNC_WAIT_MAX) * CALL_ROUND_TRIPS;
        self.phase = Phase::Dialling { call: Some((now + wait, addresses)) };
    }

    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.forget_exchange();
        self.again = false;
        self.schedule = Schedule::new(now);
        self.findings.begin_anew();
        self.phase = Phase::Resting { until: Some(now) };
    }

    pub(super) fn begin_round(&mut self, ours: &Offer, now: Instant) {
        self.schedule.round_begins(now);
        self.attempts = self.attempts.saturating_add(1);
        self.findings.offered(ours);
    }

    /// Another exchange takes the place of one in which nobody was told to dial: that was no punch.
    pub(super) fn forget_exchange(&mut self) {
        if let Phase::Asked { .. } | Phase::Answered { .. } = self.phase {
            self.schedule.take_back();
            self.attempts = self.attempts.saturating_sub(1);
        }
    }

    /// Until the next round.
    pub(super) fn rest(&mut self, again: Duration, now: Instant) -> Next {
        let next = self.schedule.next(again, now);
        let (Next::Soon(at) | Next::Later(at)) = next;
        self.phase = Phase::Resting { until: self.begins.then_some(at) };
        self.settle = (!self.begins).then(|| now + OFFER_WAIT);
        next
    }

    /// Why, as far as is known.
    pub(super) fn give_up(&mut self, again: Option<Duration>) -> GaveUp {
        self.findings.verdict(self.attempts, again)
    }
}

impl Upgrades {
    /// As the beginner, the other end calls at these; at none if there are none.
    pub(crate) fn call_later(
        &mut self,
        peer: PeerId,
        at: Vec<Multiaddr>,
        round_trip: Duration,
        now: Instant,
    ) {
        if let Some(upgrade) = self.peers.get_mut(&peer).filter(|_| !at.is_empty()) {
            upgrade.call_later(at, round_trip, now);
        }
    }
}

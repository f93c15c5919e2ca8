//! What happens by itself, and when.

use std::{collections::BTreeSet, time::Instant};

use libp2p::PeerId;

use super::AskId;
use crate::path::ConnectionId;

/// What is due. Who sets one keeps its time, and clears it with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A connection on which nothing was said is closed.
    Silent(ConnectionId),
    /// A reservation lapses.
    Lapse(ConnectionId),
    /// A place that was kept for a peer is free.
    Unkept(PeerId),
    /// A circuit has waited long enough for its turn, or its destination has not answered.
    Unanswered(AskId),
    /// Refusals are summed up.
    Summary,
    /// The circuits that are left end.
    Left,
}

/// Bounded by what they belong to: at most one of each kind for each connection, peer and circuit.
#[derive(Debug, Default)]
pub(super) struct Timers {
    all: BTreeSet<(Instant, Due)>,
}

impl Timers {
    pub(super) fn set(&mut self, due: Due, at: Instant) {
        self.all.insert((at, due));
    }

    pub(super) fn clear(&mut self, due: Due, at: Instant) {
        self.all.remove(&(at, due));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.all.first().map(|(at, _)| *at)
    }

    /// Takes out the first one that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let (at, due) = self.all.first().copied().filter(|(at, _)| *at <= now)?;
        self.all.remove(&(at, due));
        Some(due)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

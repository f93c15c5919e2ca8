//! Peers whom somebody else is to find: a stream is opened to them, and no connection leads there.
//!
//! Whoever finds peers says so once, and by what. From then on each open has some time, from its beginning on, in which
//! the failure of all that is known is not the end: a hint may come, which is dialled at once. Whom opens wait for is told
//! as it changes, and taken back when none waits any longer. Only our own program opens streams, so nobody else can have
//! a node look for anybody; and there are as many at most as there may be opens.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::{
    engine::{Engine, input::OpenId},
    error::{DialFailure, DialFailureReason, OpenError, TriedWay},
};

/// Ways that led nowhere which one open remembers: hints may come for as long as it is looked for.
const FAILED_MAX: usize = 32;

/// How far a lookup is, for one open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Nobody looks for peers.
    #[default]
    None,
    /// Its time is not over. Whether anything was found.
    Until { end: Instant, found: bool },
    /// It is.
    Over { found: bool },
}

impl Lookup {
    pub(crate) fn hinted(&mut self) {
        if let Self::Until { found, .. } | Self::Over { found } = self {
            *found = true;
        }
    }

    /// Whether its time is over just now.
    pub(crate) fn ends(&mut self, now: Instant) -> bool {
        match *self {
            Self::Until { end, found } if end <= now => {
                *self = Self::Over { found };
                true
            }
            _ => false,
        }
    }

    pub(crate) fn until(self) -> Option<Instant> {
        match self {
            Self::Until { end, .. } => Some(end),
            Self::None | Self::Over { .. } => None,
        }
    }

    fn is_in_vain(self) -> bool {
        matches!(self, Self::Until { found: false, .. } | Self::Over { found: false })
    }
}

/// Who finds peers, and whom they are to find.
#[derive(Debug, Default)]
pub(crate) struct Sought {
    by: Vec<String>,
    patience: Duration,
    peers: BTreeSet<PeerId>,
    changed: bool,
}

impl Sought {
    /// Of an open that begins now.
    pub(crate) fn lookup(&self, now: Instant) -> Lookup {
        match self.by.is_empty() {
            true => Lookup::None,
            false => Lookup::Until { end: now + self.patience, found: false },
        }
    }

    pub(crate) fn by(&self) -> &[String] {
        &self.by
    }
}

impl Engine {
    pub(in crate::engine) fn sought_by(&mut self, by: Vec<String>, patience: Duration) {
        (self.sought.by, self.sought.patience) = (by, patience);
    }

    /// Whom others are to find from now on, and nobody else; none if that is as it was.
    pub(crate) fn poll_sought(&mut self) -> Option<BTreeSet<PeerId>> {
        std::mem::take(&mut self.sought.changed).then(|| self.sought.peers.clone())
    }

    pub(in crate::engine) fn note_sought(&mut self) {
        if self.sought.by.is_empty() && self.sought.peers.is_empty() {
            return;
        }
        let is_away = |peer: &PeerId| self.connections.of(*peer).next().is_none();
        let peers: BTreeSet<PeerId> = self.opens.wanted().filter(is_away).collect();
        if peers != self.sought.peers {
            self.sought.peers = peers;
            self.sought.changed = true;
        }
    }

    /// Whether somebody else looks for a peer that a stream is opened to.
    pub(in crate::engine) fn is_looked_for(&self, peer: PeerId) -> bool {
        let opens = self.opens.connecting_to(peer);
        opens
            .iter()
            .any(|open| self.opens.get(*open).is_some_and(|pending| pending.lookup.until().is_some()))
    }

    /// Whether a lookup is all that an open waits for whose own time is over: then that is over, too.
    pub(in crate::engine) fn only_looked_for(&mut self, open: OpenId) -> bool {
        let Some(pending) = self.opens.get_mut(open) else { return false };
        let away = self.connections.of(pending.peer).next().is_none();
        match pending.lookup {
            Lookup::Until { found, .. } if away && !self.dials.is_reaching(pending.peer) => {
                pending.lookup = Lookup::Over { found };
                true
            }
            _ => false,
        }
    }

    /// Nothing that is known leads to the peer. While it is looked for that is not the end.
    pub(in crate::engine) fn no_way(&mut self, open: OpenId, failed: &[DialFailure], now: Instant) {
        let Some(pending) = self.opens.get_mut(open) else { return };
        let room = FAILED_MAX.saturating_sub(pending.failed.len());
        pending.failed.extend(failed.iter().take(room).cloned());
        if pending.lookup.until().is_some() {
            return;
        }
        let (peer, lookup, mut tried) =
            (pending.peer, pending.lookup, std::mem::take(&mut pending.failed));
        if lookup.is_in_vain() {
            let way = TriedWay::Lookup(self.sought.by.clone());
            let within = self.sought.patience.min(self.config.deadlines.open);
            let reason = DialFailureReason::NotFound { within };
            tried.push(DialFailure { way, reason });
        }
        let error = match tried.is_empty() {
            true => OpenError::NoAddress { peer },
            false => OpenError::NoRouteToDestination { peer, tried },
        };
        self.fail(open, error, now);
    }

    /// Lookups whose time is over: what is still being dialled is waited for.
    pub(in crate::engine) fn give_up_lookups(&mut self, now: Instant) {
        for open in self.opens.end_lookups(now) {
            let Some(pending) = self.opens.get(open).filter(|pending| pending.on.is_none()) else {
                continue;
            };
            let peer = pending.peer;
            let connected = self.connections.of(peer).next().is_some();
            if !connected && !self.dials.is_reaching(peer) {
                self.no_way(open, &[], now);
            }
        }
    }
}

//! Peers that the program wants a connection to at all times, and when to look for a lost one again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

#[derive(Debug, Default)]
struct Hold {
    retry: Option<Instant>,
    failures: u32,
}

/// A reach that found nobody.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) failures: u32,
    pub(crate) retry_in: Duration,
}

/// By peer.
#[derive(Debug)]
pub(crate) struct Holds {
    all: HashMap<PeerId, Hold>,
    max: usize,
    backoff: (Duration, Duration),
}

impl Holds {
    pub(crate) fn new(max: usize, backoff: (Duration, Duration)) -> Self {
        Self { all: HashMap::new(), max, backoff }
    }

    /// Takes a peer in; false if there are as many as may be.
    pub(crate) fn add(&mut self, peer: PeerId) -> bool {
        if !self.all.contains_key(&peer) && self.all.len() >= self.max {
            return false;
        }
        self.all.entry(peer).or_default();
        true
    }

    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        self.all.contains_key(&peer)
    }

    /// There is a connection again.
    pub(crate) fn connected(&mut self, peer: PeerId) {
        if let Some(hold) = self.all.get_mut(&peer) {
            *hold = Hold::default();
        }
    }

    /// Nobody was found: look again later.
    pub(crate) fn missed(&mut self, peer: PeerId, now: Instant) -> Option<Missed> {
        let (first, longest) = self.backoff;
        let hold = self.all.get_mut(&peer)?;
        let retry_in = first.saturating_mul(1 << hold.failures.min(16)).min(longest);
        hold.failures = hold.failures.saturating_add(1);
        hold.retry = Some(now + retry_in);
        Some(Missed { failures: hold.failures, retry_in })
    }

    /// Those to look for now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<PeerId> {
        let due = |(peer, hold): (&PeerId, &mut Hold)| {
            hold.retry.take_if(|retry| *retry <= now).map(|_| *peer)
        };
        self.all.iter_mut().filter_map(due).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().filter_map(|hold| hold.retry).min()
    }
}

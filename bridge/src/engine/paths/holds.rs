//! Peers that the program wants a connection to at all times, and when to look for a lost one again.
//!
//! A hold is known at both ends: the peer is told on the connection that is kept, so that it does not close it
//! as unused. A peer that is not found costs ever less: attempts grow rare, and all missing peers together
//! share one pace. What ends the wait is a sign of life: its own dial, a relay that says it is there, or a
//! program that wants a stream now.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::path::ConnectionId;

/// A connection that lasted so long shows that the peer is there; one that ends before counts as a failure.
const LASTED: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
struct Hold {
    retry: Option<Instant>,
    failures: u32,
    connected: Option<Instant>,
    /// Where the peer was told.
    told: Option<ConnectionId>,
    /// When somebody last said that the peer is there.
    hinted: Option<Instant>,
    /// Whether it had its moment in which somebody may say where it is.
    awaited: bool,
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
    all: BTreeMap<PeerId, Hold>,
    max: usize,
    backoff: (Duration, Duration),
    pace: Duration,
}

impl Holds {
    /// `backoff`: the first and the longest wait of one peer. `pace`: between two attempts for any of those
    /// that are missing, on average.
    pub(crate) fn new(max: usize, backoff: (Duration, Duration), pace: Duration) -> Self {
        Self { all: BTreeMap::new(), max, backoff, pace }
    }

    /// Nothing is known yet of a peer that was never looked for. Whoever knows where it is has a moment to say so before
    /// that is told as a failure; false if it has had it.
    pub(crate) fn awaits_hints(&mut self, peer: PeerId, now: Instant) -> bool {
        let Some(hold) = self.all.get_mut(&peer).filter(|hold| !hold.awaited) else { return false };
        hold.awaited = true;
        hold.retry = Some(now + self.backoff.0);
        true
    }

    /// Takes a peer in; false if there are as many as may be.
    pub(crate) fn add(&mut self, peer: PeerId) -> bool {
        if !self.all.contains_key(&peer) && self.all.len() >= self.max {
            return false;
        }
        self.all.entry(peer).or_default();
        true
    }

    /// Takes a peer out. Returns the connection on which it was told, if it was.
    pub(crate) fn remove(&mut self, peer: PeerId) -> Option<ConnectionId> {
        self.all.remove(&peer)?.told
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        self.all.contains_key(&peer)
    }

    /// There is a connection again.
    pub(crate) fn connected(&mut self, peer: PeerId, now: Instant) {
        if let Some(hold) = self.all.get_mut(&peer) {
            hold.retry = None;
            hold.connected.get_or_insert(now);
        }
    }

    /// The last connection is gone. If it had lasted, the peer is looked for at once; else after a wait,
    /// which is returned.
    pub(crate) fn disconnected(&mut self, peer: PeerId, now: Instant) -> Option<Missed> {
        let hold = self.all.get_mut(&peer)?;
        hold.told = None;
        let since = hold.connected.take()?;
        if now.saturating_duration_since(since) >= LASTED {
            hold.failures = 0;
        }
        // The first one is forgiven: a process that was restarted is found at once.
        if hold.failures == 0 {
            hold.failures = 1;
            hold.retry = Some(now);
            return None;
        }
        self.missed(peer, now)
    }

    /// Nobody was found: look again later.
    pub(crate) fn missed(&mut self, peer: PeerId, now: Instant) -> Option<Missed> {
        let (first, longest) = self.backoff;
        let missing = self.all.values().filter(|hold| hold.connected.is_none()).count();
        let hold = self.all.get_mut(&peer)?;
        let backoff = first.saturating_mul(1 << hold.failures.min(16)).min(longest);
        // Few missing peers wait for their own backoff, many for their turn, but nobody beyond the longest wait
        // and its turn.
        let turn = self.pace.saturating_mul(u32::try_from(missing).unwrap_or(u32::MAX));
        let retry_in = if hold.failures < EAGER { backoff } else { backoff.max(turn) };
        hold.failures = hold.failures.saturating_add(1);
        hold.retry = Some(now + retry_in);
        Some(Missed { failures: hold.failures, retry_in })
    }

    /// Somebody says that the peer is there: it is looked for at once. Who says so again and again without its
    /// being true is not listened to.
    pub(crate) fn heard_of(&mut self, peer: PeerId, now: Instant) {
        let Some(hold) = self.all.get_mut(&peer).filter(|hold| hold.connected.is_none()) else { return };
        let again = hold.hinted.is_some_and(|at| now.saturating_duration_since(at) < HINT_INTERVAL);
        if !again && hold.retry.is_some() {
            hold.hinted = Some(now);
            hold.retry = Some(now);
        }
    }

    /// Those that wait for their next attempt.
    pub(crate) fn resting(&self, now: Instant) -> Vec<PeerId> {
        let waits = |(_, hold): &(&PeerId, &Hold)| hold.retry.is_some_and(|retry| retry > now);
        self.all.iter().filter(waits).map(|(peer, _)| *peer).collect()
    }

    /// It is looked for now.
    pub(crate) fn retry(&mut self, peer: PeerId, now: Instant) {
        if let Some(retry) = self.all.get_mut(&peer).and_then(|hold| hold.retry.as_mut()) {
            *retry = now;
        }
    }

    /// Where the peer is to be told that a connection is kept, if that is the `best`: the one that it was told
    /// on before, to take back; and the one to tell on.
    pub(crate) fn tell(
        &mut self,
        peer: PeerId,
        best: Option<ConnectionId>,
    ) -> Option<(Option<ConnectionId>, ConnectionId)> {
        let hold = self.all.get_mut(&peer)?;
        let best = best.filter(|best| hold.told != Some(*best))?;
        Some((hold.told.replace(best), best))
    }

    /// Those that were looked for and not found.
    pub(crate) fn missing(&self) -> Vec<PeerId> {
        let sought = |hold: &Hold| hold.failures > 0 || hold.awaited;
        let missing = self.all.iter().filter(|(_, hold)| hold.connected.is_none() && sought(hold));
        missing.map(|(peer, _)| *peer).collect()
    }

    /// How long until a peer is looked for again, if that is settled.
    pub(crate) fn retry_in(&self, peer: PeerId, now: Instant) -> Option<Duration> {
        Some(self.all.get(&peer)?.retry?.saturating_duration_since(now))
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

/// Hints about one peer count so often.
const HINT_INTERVAL: Duration = Duration::from_secs(10);

/// So many attempts for a peer that was just lost do not wait for the turn of others: it is mostly back soon.
const EAGER: u32 = 5;

//! Who waits for a peer, or for a place at a relay, and since when: whoever waits longer than is usual is told what for.
//!
//! [`Waits`] is the table: who is in it, and when what it waits for is due to be said. What that is, the engine finds in
//! its other tables.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::Engine;
use crate::{
    error::OpenError,
    event::{Awaited, Event, Waiting},
    status::WaitStatus,
};

/// What is waited for is said after the first, and then ever more rarely, up to the second between two times. Most
/// connections are there within a second; who looks at a silent program for 10 s begins to doubt it, and a dial that nobody
/// answers ends then: what it waits for is said before.
const SAID_AFTER: (Duration, Duration) = (Duration::from_secs(9), Duration::from_secs(600));

#[derive(Debug)]
struct Wait {
    since: Instant,
    said_at: Instant,
    pause: Duration,
    /// Why the last attempt found nobody.
    failed: Option<OpenError>,
}

/// By peer; as many as are held, opened to or reserved at.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    all: BTreeMap<PeerId, Wait>,
}

impl Waits {
    /// Somebody waits for the peer, or still does. If `anew`, it is said soon again, for whoever began just now.
    fn begin(&mut self, peer: PeerId, anew: bool, now: Instant) {
        let (first, _) = SAID_AFTER;
        let new = || Wait { since: now, said_at: now + first, pause: first, failed: None };
        let wait = self.all.entry(peer).or_insert_with(new);
        if anew {
            wait.said_at = wait.said_at.min(now + first);
        }
    }

    fn over(&mut self, peer: PeerId) {
        self.all.remove(&peer);
    }

    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    /// An attempt found nobody.
    pub(crate) fn failed(&mut self, peer: PeerId, error: &OpenError) {
        if let Some(wait) = self.all.get_mut(&peer) {
            wait.failed = Some(error.clone());
        }
    }

    fn take_due(&mut self, now: Instant) -> Vec<(PeerId, Duration)> {
        let due = |(peer, wait): (&PeerId, &mut Wait)| {
            if now < wait.said_at {
                return None;
            }
            wait.pause = (wait.pause * 2).min(SAID_AFTER.1);
            wait.said_at = now + wait.pause;
            Some((*peer, now - wait.since))
        };
        self.all.iter_mut().filter_map(due).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().map(|wait| wait.said_at).min()
    }

    #[cfg(any(test, debug_assertions))]
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.all.keys().copied()
    }
}

impl Engine {
    pub(in crate::engine) fn wait_begins(&mut self, peer: PeerId, anew: bool, now: Instant) {
        if self.stopping.is_none() && self.is_awaited(peer) {
            self.waits.begin(peer, anew, now);
        }
    }

    /// Something that was waited for may have come about, or is not wanted any more.
    pub(in crate::engine) fn wait_may_end(&mut self, peer: PeerId) {
        if !self.is_awaited(peer) {
            self.waits.over(peer);
        }
    }

    pub(in crate::engine) fn is_awaited(&self, peer: PeerId) -> bool {
        self.opens.is_wanted(peer) || self.is_missed(peer) || self.relays.lacks_place(peer)
    }

    /// A connection to it is kept, if only there were one.
    fn is_missed(&self, peer: PeerId) -> bool {
        self.holds.contains(peer) && self.connections.of(peer).next().is_none()
    }

    pub(in crate::engine) fn tell_waits(&mut self, now: Instant) {
        for (peer, waited) in self.waits.take_due(now) {
            let (waited_ms, awaits) = (waited.as_millis() as u64, self.awaits(peer, now));
            self.events.push_back(Event::Waiting(Waiting { peer, waited_ms, awaits }));
        }
    }

    /// Who waits, and what for.
    pub(in crate::engine) fn waits(&self, now: Instant) -> Vec<WaitStatus> {
        let status = |(peer, wait): (&PeerId, &Wait)| WaitStatus {
            peer: *peer,
            waited: now.saturating_duration_since(wait.since),
            awaits: self.awaits(*peer, now),
        };
        self.waits.all.iter().map(status).collect()
    }

    /// What brings the wait for a peer to its end, as far as that is under way.
    fn awaits(&self, peer: PeerId, now: Instant) -> Vec<Awaited> {
        let mut all = Vec::new();
        if let Some((service, on)) = self.opens.first_negotiating_with(peer)
            && let Some(path) = self.path(on)
        {
            all.push(Awaited::Answer { service: service.clone(), path });
        }
        let connecting = !self.opens.connecting_to(peer).is_empty();
        if connecting && self.is_introduced(peer) {
            all.push(Awaited::DirectPath { why: self.introductions.why(peer) });
        } else if connecting && self.connections.best(peer, &[]).is_some() {
            all.push(Awaited::Room { limit: self.config.limits.streams_per_peer });
        }
        if connecting && self.is_looked_for(peer) {
            all.push(Awaited::Lookup { by: self.sought.by().to_vec() });
        }
        if connecting || self.is_missed(peer) {
            self.ways_under_way(peer, &mut all, now);
        }
        if self.relays.lacks_place(peer) {
            all.extend(self.relays.awaits(peer, now));
        }
        all
    }

    fn ways_under_way(&self, peer: PeerId, all: &mut Vec<Awaited>, now: Instant) {
        let ways = self.dials.under_way(peer, now);
        if ways.is_empty()
            && let Some(in_ms) = self.holds.retry_in(peer, now)
        {
            let cause = self.waits.all.get(&peer).and_then(|wait| wait.failed.clone());
            all.push(Awaited::NextAttempt { in_ms: in_ms.as_millis() as u64, cause });
        }
        for way in ways {
            match way {
                // What the link to the relay waits for says more.
                Awaited::RelayLink { relay, .. } => all.extend(self.relays.awaits(relay, now)),
                way => all.push(way),
            }
        }
    }
}

//! A second circuit to each peer whose streams run through a relay, made through another relay before it is needed.
//!
//! A relay that dies takes its circuits with it. A circuit through another one that is up already takes the streams
//! over within one round trip; to make it first takes six, and as many more if there is no link to that relay.
//!
//! ```text
//! considered --a moment later--> there is one ------------------> looked at again, forgotten once it lasted
//!                 ^              there is none, a way is known --> dialled, or its link is, or it refuses; later again
//!                 |              there is no way, or no need ----> forgotten
//!                 '-- connections or addresses change
//! ```

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::engine::input::DialId;

/// A peer that becomes direct soon needs no spare: punches mostly succeed sooner.
const SPARE_AFTER: Duration = Duration::from_secs(3);

/// Before a spare is tried again that could not be made, or that somebody closed: doubled from the first to the
/// longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(300));

/// A spare that lasted so long is not one that the peer or the relay does not want.
const LASTED: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Spare {
    /// When it is looked at; none while it is being looked at.
    due: Option<Instant>,
    not_before: Instant,
    tries: u32,
    awaits: Option<PeerId>,
    /// When there was one, first.
    since: Option<Instant>,
}

/// By peer: those whose spare is looked after. Bounded by the peers with streams.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    all: BTreeMap<PeerId, Spare>,
    /// Those under way: to which peer, through which relay.
    dials: BTreeMap<DialId, (PeerId, PeerId)>,
}

impl Spares {
    /// Something changed for a peer whose streams run through relays.
    pub(crate) fn consider(&mut self, peer: PeerId, now: Instant) {
        let soon = now + SPARE_AFTER;
        let spare = self.all.entry(peer).or_insert(Spare {
            due: None,
            not_before: now,
            tries: 0,
            awaits: None,
            since: None,
        });
        if spare.awaits.is_none() {
            let at = soon.max(spare.not_before);
            spare.due = Some(spare.due.map_or(at, |due| due.min(at)));
        }
    }

    /// The peers to look at now. Each must be told of by [`Spares::settled`], [`Spares::there`] or [`Spares::tried`].
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<PeerId> {
        let due =
            |(peer, spare): (&PeerId, &mut Spare)| spare.due.take_if(|due| *due <= now).map(|_| *peer);
        self.all.iter_mut().filter_map(due).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().filter_map(|spare| spare.due).min()
    }

    /// None is needed, or none can be made.
    pub(crate) fn settled(&mut self, peer: PeerId) {
        self.all.remove(&peer);
    }

    /// There is one.
    pub(crate) fn there(&mut self, peer: PeerId, now: Instant) {
        let Some(spare) = self.all.get_mut(&peer) else { return };
        let lasts = *spare.since.get_or_insert(now) + LASTED;
        if lasts <= now {
            self.all.remove(&peer);
        } else {
            spare.due = Some(lasts);
        }
    }

    /// One is dialled, or the link to the relay that it `awaits`.
    pub(crate) fn tried(&mut self, peer: PeerId, awaits: Option<PeerId>, now: Instant) {
        let Some(spare) = self.all.get_mut(&peer) else { return };
        let (first, longest) = AGAIN;
        spare.not_before = now + first.saturating_mul(1 << spare.tries.min(16)).min(longest);
        spare.tries = spare.tries.saturating_add(1);
        (spare.since, spare.due, spare.awaits) = (None, Some(spare.not_before), awaits);
    }

    pub(crate) fn dialling(&mut self, dial: DialId, peer: PeerId, relay: PeerId) {
        self.dials.insert(dial, (peer, relay));
    }

    /// The link to a relay carries circuits from now on.
    pub(crate) fn link_ready(&mut self, relay: PeerId, now: Instant) {
        for spare in self.all.values_mut() {
            if spare.awaits.take_if(|awaited| *awaited == relay).is_some() {
                spare.due = Some(now);
            }
        }
    }

    /// A dial has become a connection, or failed. Returns whom it was to reach and through which relay, if it was for
    /// a spare.
    pub(crate) fn dialled(&mut self, dial: DialId) -> Option<(PeerId, PeerId)> {
        self.dials.remove(&dial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_spare_that_cannot_be_made_is_tried_ever_more_rarely_whatever_else_happens() {
        let (mut spares, peer, start) = (Spares::default(), PeerId::random(), Instant::now());
        spares.consider(peer, start);
        let (mut now, mut tries) = (start, 0);
        while now < start + 3600 * S {
            now += S;
            spares.consider(peer, now);
            for peer in spares.take_due(now) {
                tries += 1;
                spares.tried(peer, None, now);
            }
        }
        assert!((15..=20).contains(&tries), "{tries}");
    }

    #[test]
    fn one_that_lasted_is_forgotten_and_made_anew_soon_when_it_is_lost() {
        let (mut spares, peer, now) = (Spares::default(), PeerId::random(), Instant::now());
        spares.consider(peer, now);
        assert_eq!(spares.take_due(now + SPARE_AFTER), [peer]);
        spares.tried(peer, None, now);
        assert_eq!(spares.take_due(now + 4 * S), [peer]);
        spares.there(peer, now + 4 * S);
        let lasted = now + 4 * S + LASTED;
        assert_eq!(spares.take_due(lasted - S), []);
        assert_eq!(spares.take_due(lasted), [peer]);
        spares.there(peer, lasted);
        assert_eq!(spares.next_deadline(), None);
        spares.consider(peer, lasted);
        assert_eq!(spares.next_deadline(), Some(lasted + SPARE_AFTER));
    }

    #[test]
    fn one_that_waits_for_a_link_is_made_when_the_link_is_ready() {
        let (mut spares, peer, relay) = (Spares::default(), PeerId::random(), PeerId::random());
        let now = Instant::now();
        spares.consider(peer, now);
        spares.take_due(now + SPARE_AFTER);
        spares.tried(peer, Some(relay), now + SPARE_AFTER);
        spares.link_ready(PeerId::random(), now + SPARE_AFTER);
        assert_eq!(spares.take_due(now + SPARE_AFTER), []);
        spares.link_ready(relay, now + SPARE_AFTER);
        assert_eq!(spares.take_due(now + SPARE_AFTER), [peer]);
    }
}

//! Who is sought, what is known of whom, and what of it is worth handing on. Pure: `now` is an argument.
//!
//! Sources bring hints about anybody, and whoever can be heard by a source can bring as many as he likes. So there is
//! room for all that is sought, for few others, and for few addresses of one peer by one source; the oldest makes room.
//! Those about peers that nobody seeks are kept for whoever wants to see who is there, and for the case that they are
//! sought later.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use crate::hint::{Hint, Source};

/// Peers that are sought at once: as many as a node keeps connections to.
const SOUGHT_MAX: usize = 256;

/// Others that are remembered: a crowd on one network.
const OTHERS_MAX: usize = 512;

/// Addresses of one peer from one source: as many as are dialled at once.
const ADDRESSES_MAX: usize = 8;

/// An address is handed on again after this: whoever is there and cannot be reached is dialled 120 times an hour there.
const AGAIN: Duration = Duration::from_secs(30);

/// So many addresses of one peer are handed on in that time. Who names others all the time does not fill the way.
const HANDED_ON_MAX: usize = 16;

/// As many peers are sought as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} peers are sought already")]
pub struct Full {
    /// How many that is.
    pub limit: usize,
}

/// What is known of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who.
    pub peer: PeerId,
    /// Whether it is sought.
    pub sought: bool,
    /// Who says where it is, each once, best first.
    pub sources: Vec<Source>,
    /// Where it may be, each once, by the best source first.
    pub addresses: Vec<Multiaddr>,
}

#[derive(Debug)]
struct Entry {
    address: Multiaddr,
    source: Source,
    age: Duration,
    /// When it was said last.
    said: Instant,
    expires: Option<Instant>,
    /// When it was handed on last.
    handed_on: Option<Instant>,
}

#[derive(Debug, Default)]
struct Found {
    entries: Vec<Entry>,
    /// When the present window began, and how many addresses were handed on in it.
    window: Option<(Instant, usize)>,
}

impl Found {
    fn said(&self) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.said).max()
    }

    /// The place of an address, made if it is new.
    fn entry(&mut self, address: &Multiaddr, hint: &Hint, now: Instant) -> &mut Entry {
        let of_source = |entry: &Entry| entry.source == hint.source;
        let known = self.entries.iter().position(|entry| of_source(entry) && entry.address == *address);
        let at = known.unwrap_or_else(|| {
            if self.entries.iter().filter(|entry| of_source(entry)).count() >= ADDRESSES_MAX {
                let like = self.entries.iter().enumerate().filter(|(_, entry)| of_source(entry));
                let oldest = like.min_by_key(|(_, entry)| entry.said).map(|(at, _)| at);
                oldest.map(|at| self.entries.remove(at));
            }
            let (address, source) = (address.clone(), hint.source);
            let (age, expires, handed_on) = (hint.age, None, None);
            self.entries.push(Entry { address, source, age, said: now, expires, handed_on });
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }

    /// Whether one more address may be handed on.
    fn takes_place(&mut self, now: Instant) -> bool {
        let fresh = |(began, _): &(Instant, usize)| now.saturating_duration_since(*began) < AGAIN;
        let (began, count) = self.window.filter(fresh).unwrap_or((now, 0));
        let room = count < HANDED_ON_MAX;
        self.window = Some((began, count + usize::from(room)));
        room
    }
}

/// By peer.
#[derive(Debug)]
pub(crate) struct Book {
    local: PeerId,
    sought: BTreeSet<PeerId>,
    found: BTreeMap<PeerId, Found>,
}

impl Book {
    /// `local`: ourselves, whom nobody need find.
    pub(crate) fn new(local: PeerId) -> Self {
        Self { local, sought: BTreeSet::new(), found: BTreeMap::new() }
    }

    /// A peer is sought from now on. False if it was before.
    pub(crate) fn seek(&mut self, peer: PeerId) -> Result<bool, Full> {
        if self.sought.contains(&peer) {
            return Ok(false);
        }
        if self.sought.len() >= SOUGHT_MAX {
            return Err(Full { limit: SOUGHT_MAX });
        }
        Ok(self.sought.insert(peer))
    }

    /// A peer is not sought any more; what is known of it stays as of any other. False if it was not.
    pub(crate) fn forget(&mut self, peer: PeerId) -> bool {
        let was = self.sought.remove(&peer);
        if was && let Some(found) = self.found.remove(&peer) {
            self.make_room();
            self.found.insert(peer, found);
        }
        was
    }

    pub(crate) fn sought(&self) -> &BTreeSet<PeerId> {
        &self.sought
    }

    /// Takes what a source says. Returns what is to be handed on.
    pub(crate) fn take(&mut self, mut hint: Hint, now: Instant) -> Option<Hint> {
        if hint.peer == self.local || hint.addresses.is_empty() {
            return None;
        }
        let sought = self.sought.contains(&hint.peer);
        if !sought && !self.found.contains_key(&hint.peer) {
            self.make_room();
        }
        hint.addresses.truncate(ADDRESSES_MAX);
        let found = self.found.entry(hint.peer).or_default();
        let mut fresh = Vec::new();
        for address in &hint.addresses {
            let entry = found.entry(address, &hint, now);
            (entry.said, entry.age) = (now, hint.age);
            entry.expires = hint.lasts.map(|lasts| now + lasts);
            let again = |at: Instant| now.saturating_duration_since(at) >= AGAIN;
            if sought && entry.handed_on.is_none_or(again) && found.takes_place(now) {
                found.entry(address, &hint, now).handed_on = Some(now);
                fresh.push(address.clone());
            }
        }
        (!fresh.is_empty()).then_some(Hint { addresses: fresh, ..hint })
    }

    /// All hints about a peer, best first; they count as handed on.
    pub(crate) fn of(&mut self, peer: PeerId, now: Instant) -> Vec<Hint> {
        let Some(found) = self.found.get_mut(&peer) else { return Vec::new() };
        let mut hints = BTreeMap::<Source, Hint>::new();
        for entry in &mut found.entries {
            entry.handed_on = Some(now);
            let hint = hints.entry(entry.source).or_insert_with(|| {
                let lasts = entry.expires.map(|at| at.saturating_duration_since(now));
                let age = entry.age + now.saturating_duration_since(entry.said);
                Hint { peer, addresses: Vec::new(), source: entry.source, age, lasts }
            });
            hint.addresses.push(entry.address.clone());
        }
        hints.into_values().collect()
    }

    /// What is known, by peer.
    pub(crate) fn known(&self) -> Vec<Known> {
        let known = |(peer, found): (&PeerId, &Found)| {
            let mut entries: Vec<&Entry> = found.entries.iter().collect();
            entries.sort_by_key(|entry| entry.source);
            let sources: BTreeSet<Source> = entries.iter().map(|entry| entry.source).collect();
            let mut addresses: Vec<Multiaddr> = Vec::new();
            for Entry { address, .. } in entries {
                if !addresses.contains(address) {
                    addresses.push(address.clone());
                }
            }
            let sources = sources.into_iter().collect();
            Known { peer: *peer, sought: self.sought.contains(peer), sources, addresses }
        };
        self.found.iter().map(known).collect()
    }

    /// Forgets what has expired.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for found in self.found.values_mut() {
            found.entries.retain(|entry| entry.expires.is_none_or(|at| at > now));
        }
        self.found.retain(|_, found| !found.entries.is_empty());
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.found.values().flat_map(|found| &found.entries).filter_map(|entry| entry.expires).min()
    }

    /// For one more peer that nobody seeks.
    fn make_room(&mut self) {
        let others = || self.found.iter().filter(|(peer, _)| !self.sought.contains(peer));
        if others().count() >= OTHERS_MAX {
            let oldest = others().min_by_key(|(_, found)| found.said()).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.found.remove(&oldest));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn book() -> (Book, Instant) {
        (Book::new(PeerId::random()), Instant::now())
    }

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/192.168.1.9/tcp/{port}").parse().unwrap()
    }

    fn hint(peer: PeerId, ports: impl IntoIterator<Item = usize>) -> Hint {
        let addresses = ports.into_iter().map(at).collect();
        let (source, age) = (Source::LocalNetwork, Duration::ZERO);
        Hint { peer, addresses, source, age, lasts: Some(120 * S) }
    }

    #[test]
    fn what_is_said_of_a_sought_peer_is_handed_on_once_and_again_after_a_while() {
        let (mut book, now) = book();
        let peer = PeerId::random();
        assert_eq!(book.seek(peer), Ok(true));
        assert_eq!(book.take(hint(peer, [1]), now), Some(hint(peer, [1])));
        assert_eq!(book.take(hint(peer, [1, 2]), now + S), Some(hint(peer, [2])));
        assert_eq!(book.take(hint(peer, [1, 2]), now + 29 * S), None);
        assert_eq!(book.take(hint(peer, [1, 2]), now + 30 * S), Some(hint(peer, [1])));
    }

    #[test]
    fn what_is_said_of_others_is_kept_until_they_are_sought() {
        let (mut book, now) = book();
        let peer = PeerId::random();
        assert_eq!(book.take(hint(peer, [1]), now), None);
        book.seek(peer).unwrap();
        let found = book.of(peer, now + 20 * S);
        assert_eq!(found[0].addresses, [at(1)]);
        assert_eq!((found[0].age, found[0].lasts), (20 * S, Some(100 * S)));
        assert_eq!(book.take(hint(peer, [1]), now + 21 * S), None, "it was handed on");
    }

    #[test]
    fn what_nobody_repeats_is_forgotten_when_its_time_is_over() {
        let (mut book, now) = book();
        let peer = PeerId::random();
        book.take(hint(peer, [1]), now);
        book.take(hint(peer, [2]), now + 60 * S);
        assert_eq!(book.poll_timeout(), Some(now + 120 * S));
        book.take(hint(peer, [3]), now + 10 * S);
        book.take(hint(peer, [3]), now + 90 * S);
        book.handle_timeout(now + 120 * S);
        assert_eq!(book.known()[0].addresses, [at(2), at(3)]);
        book.handle_timeout(now + 180 * S);
        assert_eq!(book.known()[0].addresses, [at(3)], "it was repeated");
        book.handle_timeout(now + 210 * S);
        assert_eq!((book.known(), book.poll_timeout()), (Vec::new(), None));
    }

    #[test]
    fn who_names_address_after_address_fills_neither_memory_nor_the_way() {
        let (mut book, now) = book();
        let peer = PeerId::random();
        book.seek(peer).unwrap();
        let of_operator = Hint { source: Source::Static, lasts: None, ..hint(peer, [1]) };
        book.take(of_operator, now);
        let handed_on: usize = (2..1000).filter_map(|port| book.take(hint(peer, [port]), now)).count();
        assert_eq!(handed_on, HANDED_ON_MAX - 1, "the operator's was one");
        let known = &book.known()[0];
        assert_eq!(known.addresses.len(), 1 + ADDRESSES_MAX);
        assert_eq!(known.sources, [Source::Static, Source::LocalNetwork]);
        assert!(book.take(hint(peer, [1001]), now + AGAIN).is_some());
    }

    #[test]
    fn a_crowd_of_others_displaces_nobody_who_is_sought() {
        let (mut book, now) = book();
        let (sought, first) = (PeerId::random(), PeerId::random());
        book.seek(sought).unwrap();
        book.take(hint(sought, [1]), now);
        book.take(hint(first, [1]), now);
        for number in 1..=OTHERS_MAX {
            book.take(hint(PeerId::random(), [1]), now + S * number as u32);
        }
        let known = book.known();
        assert_eq!(known.len(), 1 + OTHERS_MAX);
        assert!(known.iter().any(|known| known.peer == sought && known.sought));
        assert!(known.iter().all(|known| known.peer != first), "the oldest of the others is gone");
    }

    #[test]
    fn one_sought_peer_too_many_is_refused() {
        let (mut book, _) = book();
        let peers: Vec<PeerId> = (0..SOUGHT_MAX).map(|_| PeerId::random()).collect();
        assert!(peers.iter().all(|peer| book.seek(*peer) == Ok(true)));
        assert_eq!(book.seek(peers[0]), Ok(false), "it is already");
        assert_eq!(book.seek(PeerId::random()), Err(Full { limit: SOUGHT_MAX }));
    }

    #[test]
    fn who_is_forgotten_makes_room_for_another_who_is_sought_and_counts_among_the_others() {
        let (mut book, now) = book();
        let peers: Vec<PeerId> = (0..SOUGHT_MAX).map(|_| PeerId::random()).collect();
        peers.iter().for_each(|peer| assert_eq!(book.seek(*peer), Ok(true)));
        book.take(hint(peers[0], [1]), now);
        assert!(book.forget(peers[0]) && !book.forget(peers[0]));
        assert_eq!(book.seek(PeerId::random()), Ok(true));
        assert_eq!(book.take(hint(peers[0], [2]), now), None, "it is not sought");
        for number in 1..=OTHERS_MAX {
            book.take(hint(PeerId::random(), [1]), now + S * number as u32);
        }
        assert!(book.known().iter().all(|known| known.peer != peers[0]));
        assert_eq!(book.known().len(), OTHERS_MAX);
    }

    #[test]
    fn what_several_say_is_known_once_and_that_of_the_best_source_first() {
        let (mut book, now) = book();
        let peer = PeerId::random();
        for (source, ports) in
            [(Source::Cache, [1, 2]), (Source::LocalNetwork, [2, 3]), (Source::Static, [3, 4])]
        {
            book.take(Hint { source, ..hint(peer, ports) }, now);
        }
        let known = &book.known()[0];
        assert_eq!(known.addresses, [3, 4, 2, 1].map(at));
        assert_eq!(known.sources, [Source::Static, Source::LocalNetwork, Source::Cache]);
    }

    #[test]
    fn nobody_is_told_where_he_is_himself() {
        let (mut book, now) = book();
        let local = book.local;
        book.take(hint(local, [1]), now);
        assert_eq!(book.known(), []);
    }
}

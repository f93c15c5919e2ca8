//! Names that stand for relays: what each stands for, and when it is looked up (again).
//!
//! ```text
//! Idle --wanted--> Due --asked--> Asked --answered--> Idle (or Due in an hour, of names that places are wanted at)
//!                   ^----- failed: after a backoff ----'
//! ```
//!
//! What was found stays in force when a later lookup fails: a DNS that is down takes no relay away.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::redial::after_failed_dial;
use crate::{
    addr::{RelayAddr, RelayName, policy::Source},
    engine::input::Resolved,
    status::RelayNameStatus,
};

/// Names that are known at once. Those that peers named make room for those of the operator, unless they are being looked up.
pub(super) const NAMES_MAX: usize = 32;

/// Peers that are sought behind one name.
const PEERS_MAX: usize = 256;

/// Relays of one name that are asked for a place, or tried to reach one peer. A name may stand for a fleet: each node has
/// places at the few that are nearest to its identity, and whoever looks for it looks there.
const RELAYS_PER_NAME_MAX: usize = 4;

/// What was looked up so lately is not looked up again.
const AGAIN: Duration = Duration::from_secs(5);

/// What a name stands for is looked up so often though its relays serve: one may have been added. A quarter of it is
/// random.
const REFRESH: Duration = Duration::from_secs(3600);

/// Every name of relays in use.
#[derive(Debug)]
pub(crate) struct RelayNames {
    all: BTreeMap<RelayName, Name>,
    backoff: (Duration, Duration),
    jitter: StdRng,
}

#[derive(Debug)]
struct Name {
    source: Source,
    /// Places are wanted at its relays.
    reserve: bool,
    /// They are sought behind its relays.
    peers: BTreeSet<PeerId>,
    lookup: Lookup,
    asked: Option<Instant>,
    /// In order, so that the order of records is no news.
    found: Vec<RelayAddr>,
    /// In a row, and when the first of them was.
    failures: u32,
    failing: Option<Instant>,
    failure: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Lookup {
    Idle,
    Due(Instant),
    Asked,
}

/// What a lookup came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its relays, each once.
    pub(crate) relays: Vec<PeerId>,
    /// It stood for something else before.
    pub(crate) is_news: bool,
    pub(crate) before: Vec<RelayAddr>,
    /// Who is sought behind it.
    pub(crate) peers: Vec<PeerId>,
}

impl RelayNames {
    pub(crate) fn new(backoff: (Duration, Duration), seed: u64) -> Self {
        Self { all: BTreeMap::new(), backoff, jitter: StdRng::seed_from_u64(seed) }
    }

    /// Places are wanted at its relays. False if there is no room for one more name.
    pub(crate) fn reserve(&mut self, name: &RelayName, now: Instant) -> bool {
        let Some(known) = self.room_for(name, Source::Operator) else { return false };
        if !known.reserve {
            known.reserve = true;
            known.want(now);
        }
        true
    }

    /// A peer is sought behind its relays. False if there is no room for one more.
    pub(crate) fn seek(&mut self, peer: PeerId, name: &RelayName, source: Source) -> bool {
        let Some(known) = self.room_for(name, source) else { return false };
        if known.peers.len() >= PEERS_MAX && !known.peers.contains(&peer) {
            return false;
        }
        known.peers.insert(peer);
        true
    }

    fn room_for(&mut self, name: &RelayName, source: Source) -> Option<&mut Name> {
        if !self.all.contains_key(name) && self.all.len() >= NAMES_MAX {
            // Somebody may wait for what is looked up.
            let idle = self.all.iter().filter(|(_, known)| known.lookup == Lookup::Idle);
            let worst = idle.max_by_key(|(_, known)| known.source);
            let worst = worst.filter(|(_, known)| source < known.source)?.0.clone();
            self.all.remove(&worst);
        }
        let known = self.all.entry(name.clone()).or_insert_with(|| Name {
            source,
            reserve: false,
            peers: BTreeSet::new(),
            lookup: Lookup::Idle,
            asked: None,
            found: Vec::new(),
            failures: 0,
            failing: None,
            failure: None,
        });
        known.source = known.source.min(source);
        Some(known)
    }

    /// The names behind which a peer is sought, and that were never resolved: they are wanted now.
    pub(crate) fn want_unresolved(&mut self, peer: PeerId, now: Instant) -> Vec<RelayName> {
        let behind = |known: &Name| known.found.is_empty() && known.peers.contains(&peer);
        let unresolved = self.all.iter_mut().filter(|(_, known)| behind(known));
        unresolved
            .map(|(name, known)| {
                known.want(now);
                name.clone()
            })
            .collect()
    }

    /// A relay is dialled (again): what its names stand for by now is wanted, unless that was asked a moment ago.
    pub(crate) fn dialled(&mut self, relay: PeerId, now: Instant) {
        let old = |known: &Name| known.asked.is_none_or(|asked| now >= asked + AGAIN);
        let leads = |known: &Name| known.found.iter().any(|found| found.peer() == relay);
        let wanted = self.all.values_mut().filter(|known| leads(known) && old(known));
        wanted.for_each(|known| known.want(now));
    }

    /// Names that could not be looked up, and wait for the next time.
    pub(crate) fn resting(&self, now: Instant) -> usize {
        self.all.values().filter(|known| known.is_resting(now)).count()
    }

    /// Those are looked up now.
    pub(crate) fn retry(&mut self, now: Instant) {
        for known in self.all.values_mut().filter(|known| known.is_resting(now)) {
            known.lookup = Lookup::Due(now);
        }
    }

    /// This host is in another network, where DNS may answer.
    pub(crate) fn network_changed(&mut self, now: Instant) {
        let failed = |known: &&mut Name| known.failures > 0;
        for known in self.all.values_mut().filter(failed) {
            known.asked = None;
            known.want(now);
        }
    }

    /// The names to look up now, and whether the operator gave each.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<(RelayName, bool)> {
        let due = |known: &Name| matches!(known.lookup, Lookup::Due(at) if at <= now);
        let mut names = Vec::new();
        for (name, known) in self.all.iter_mut().filter(|(_, known)| due(known)) {
            (known.lookup, known.asked) = (Lookup::Asked, Some(now));
            names.push((name.clone(), known.source == Source::Operator));
        }
        names
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let due = |known: &Name| match known.lookup {
            Lookup::Due(at) => Some(at),
            Lookup::Idle | Lookup::Asked => None,
        };
        self.all.values().filter_map(due).min()
    }

    /// Who gave a name that is being looked up.
    pub(crate) fn asked(&self, name: &RelayName) -> Option<Source> {
        let known = self.all.get(name).filter(|known| known.lookup == Lookup::Asked)?;
        Some(known.source)
    }

    /// It stands for these; at least one.
    pub(crate) fn resolved(
        &mut self,
        name: &RelayName,
        mut relays: Vec<RelayAddr>,
        now: Instant,
    ) -> Option<Answer> {
        relays.truncate(Resolved::RELAYS_MAX);
        relays.sort_by_cached_key(ToString::to_string);
        relays.dedup();
        let refresh = REFRESH.mul_f64(self.jitter.random_range(0.75..=1.0));
        let known = self.all.get_mut(name)?;
        let before = std::mem::replace(&mut known.found, relays);
        (known.failures, known.failing, known.failure) = (0, None, None);
        known.lookup = if known.reserve { Lookup::Due(now + refresh) } else { Lookup::Idle };
        let relays: BTreeSet<PeerId> = known.found.iter().map(RelayAddr::peer).collect();
        Some(Answer {
            relays: relays.into_iter().collect(),
            is_news: before != known.found,
            before,
            peers: known.peers.iter().copied().collect(),
        })
    }

    /// It could not be looked up, or stands for nothing that is of use. How often in a row; none if it is not known.
    pub(crate) fn failed(&mut self, name: &RelayName, cause: String, now: Instant) -> Option<u32> {
        let known = self.all.get_mut(name)?;
        let since = *known.failing.get_or_insert(now);
        let failing = now.saturating_duration_since(since);
        let wait = after_failed_dial(failing, known.failures, self.backoff, &mut self.jitter);
        known.failures = known.failures.saturating_add(1);
        known.failure = Some(cause);
        known.lookup = if known.reserve { Lookup::Due(now + wait) } else { Lookup::Idle };
        Some(known.failures)
    }

    /// What a name stood for when it was resolved last.
    pub(crate) fn found(&self, name: &RelayName) -> &[RelayAddr] {
        self.all.get(name).map_or(&[], |known| &known.found)
    }

    /// The relays at which a node with this identity wants places because of names, with their addresses.
    pub(crate) fn wanted(&self, local: PeerId) -> BTreeMap<PeerId, Vec<RelayAddr>> {
        let mut wanted: BTreeMap<PeerId, Vec<RelayAddr>> = BTreeMap::new();
        for known in self.all.values().filter(|known| known.reserve) {
            for relay in nearest(&known.found, local) {
                let addresses = wanted.entry(relay.peer()).or_default();
                if !addresses.contains(relay) {
                    addresses.push(relay.clone());
                }
            }
        }
        wanted
    }

    pub(crate) fn status(&self, now: Instant) -> Vec<RelayNameStatus> {
        let status = |(name, known): (&RelayName, &Name)| {
            let relays: BTreeSet<PeerId> = known.found.iter().map(RelayAddr::peer).collect();
            RelayNameStatus {
                name: name.clone(),
                relays: relays.into_iter().collect(),
                wanted: known.reserve,
                failures: known.failures,
                last_error: known.failure.clone(),
                retry: match known.lookup {
                    Lookup::Due(at) if known.failures > 0 => Some(at.saturating_duration_since(now)),
                    _ => None,
                },
            }
        };
        self.all.iter().map(status).collect()
    }
}

impl Name {
    fn is_resting(&self, now: Instant) -> bool {
        self.failures > 0 && matches!(self.lookup, Lookup::Due(at) if at > now)
    }

    /// It is looked up, unless that is under way or was done a moment ago: then a moment later.
    fn want(&mut self, now: Instant) {
        let at = self.asked.map_or(now, |asked| now.max(asked + AGAIN));
        self.lookup = match self.lookup {
            Lookup::Asked => Lookup::Asked,
            Lookup::Due(due) => Lookup::Due(due.min(at)),
            Lookup::Idle => Lookup::Due(at),
        };
    }
}

/// The addresses of those few relays that are nearest to a peer's identity: the same for whoever knows the same relays.
pub(crate) fn nearest(relays: &[RelayAddr], peer: PeerId) -> impl Iterator<Item = &RelayAddr> {
    // The last 32 bytes of an Ed25519 identity are its key, which is as good as random.
    let key = |peer: PeerId| peer.to_bytes().into_iter().rev().take(32).collect::<Vec<u8>>();
    let own = key(peer);
    let distance = |relay: PeerId| -> Vec<u8> {
        key(relay).into_iter().zip(&own).map(|(theirs, ours)| theirs ^ ours).collect()
    };
    let peers: BTreeSet<PeerId> = relays.iter().map(RelayAddr::peer).collect();
    let mut peers: Vec<PeerId> = peers.into_iter().collect();
    peers.sort_by_cached_key(|relay| distance(*relay));
    peers.truncate(RELAYS_PER_NAME_MAX);
    relays.iter().filter(move |relay| peers.contains(&relay.peer()))
}

//! When a node looks after itself in the DHT: joins, refreshes its table, says anew where it is. Pure: `now` and the seed
//! of the jitter are arguments.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// Between two light refreshes: a lookup of our own id and one in a random bucket, about 50 requests.
pub(crate) const REFRESH_EVERY: Duration = Duration::from_secs(300);

/// Between two full ones, which look into every bucket: hundreds of requests.
pub(crate) const BOOTSTRAP_EVERY: Duration = Duration::from_secs(1800);

/// What we say about ourselves is said anew after this: half of what it lasts.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_secs(3600);

/// But sooner where many nodes leave. By the model of `tests/sim` twenty keepers last an hour while up to this share of all
/// nodes leaves in a minute; half as long where twice as many do. More than all of the table cannot have left in the ten
/// minutes that are looked at, so it is 12 min at the soonest.
const CHURN_FOR_AN_HOUR: f64 = 0.02;

/// Nodes of the table that were not reached within this time tell how many leave.
const CHURN_WITHIN: Duration = Duration::from_secs(600);

/// So many at least: fewer may be chance.
const CHURN_MIN: usize = 3;

/// Of which so many are remembered: as many as a table has.
const LOST_MAX: usize = 1024;

/// After nodes were met that the table did not know, it is refreshed: they know others. Not more often than the second.
const AFTER_STRANGERS: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(20));

/// Where one in so many of those that a bootstrap node names is a stranger, they are of another part of the network. Fewer are
/// nodes that joined lately, which look around themselves: if each had its twenty neighbours look around as well, to join
/// would cost the network a thousand requests.
const STRANGERS_ONE_IN: usize = 3;

/// What was said when the network was smaller is said anew within this: it went to those who were nearest then, whom nobody asks
/// now. A table grows by two thirds of a bucket or more each time that the network doubles.
const GROWN_WITHIN: Duration = Duration::from_secs(30);

/// A publication that failed is tried again after these, and then after the last of them. The first are short: whoever
/// looks for this node finds nothing meanwhile.
const PUBLISH_AGAIN: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(45),
    Duration::from_secs(120),
    Duration::from_secs(600),
];

/// What changes is published after this: several things change at once.
const SETTLE: Duration = Duration::from_millis(200);

/// And not sooner than this after the last time, however often it changes.
const PUBLISH_APART: Duration = Duration::from_secs(5);

/// A bootstrap that led nowhere is tried again after this, doubled up to the second.
const BOOTSTRAP_AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// With fewer peers in the table, those that are remembered are dialled.
pub(crate) const FEW: usize = 4;

/// They are dialled again after this, doubled up to the second.
const DIAL_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Between two looks for what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task<I> {
    /// Dial peers that are remembered from before.
    DialRemembered,
    /// Look into every bucket.
    Bootstrap,
    /// Look for ourselves, and into one bucket.
    Refresh,
    /// Say this anew.
    Publish(I),
    /// Forget what has expired.
    Sweep,
}

/// Something that is said again and again.
#[derive(Debug, Default)]
struct Publication {
    /// None while it is under way, and before we have joined.
    due: Option<Instant>,
    begun: Option<Instant>,
    /// Peers in the table then.
    known: usize,
    under_way: bool,
    /// It changed while it was under way.
    changed: bool,
    failures: usize,
}

/// The loops of one node. `I`: what it publishes.
#[derive(Debug)]
pub(crate) struct Loops<I> {
    chance: u64,
    /// Peers in a bucket of the table.
    bucket: usize,
    known: usize,
    joined: bool,
    /// Every bucket was looked into once.
    looked_around: bool,
    bootstrapping: bool,
    bootstrap: Option<Instant>,
    bootstrap_pause: Duration,
    refresh: Option<Instant>,
    dial: Instant,
    dial_pause: Duration,
    sweep: Instant,
    refreshed: Option<Instant>,
    /// Nodes of the table that were not reached, with when.
    lost: BTreeMap<PeerId, Instant>,
    publications: BTreeMap<I, Publication>,
}

impl<I: Ord + Clone> Loops<I> {
    pub(crate) fn new(seed: u64, bucket: usize, now: Instant) -> Self {
        Self {
            chance: seed,
            bucket,
            known: 0,
            joined: false,
            looked_around: false,
            bootstrapping: false,
            bootstrap: None,
            bootstrap_pause: BOOTSTRAP_AGAIN.0,
            refresh: None,
            dial: now,
            dial_pause: DIAL_AGAIN.0,
            sweep: now + SWEEP_EVERY,
            refreshed: None,
            lost: BTreeMap::new(),
            publications: BTreeMap::new(),
        }
    }

    /// Whether our neighbourhood answered: we know it, and it knows us.
    pub(crate) fn joined(&self) -> bool {
        self.joined
    }

    /// The table has so many peers.
    pub(crate) fn knows(&mut self, peers: usize, now: Instant) {
        let first = self.known == 0 && peers > 0;
        self.known = peers;
        if first && !self.bootstrapping {
            self.bootstrap = Some(now);
        }
        if peers >= FEW {
            self.dial_pause = DIAL_AGAIN.0;
        }
        self.has_grown(now);
    }

    fn has_grown(&mut self, now: Instant) {
        let (known, grown) = (self.known, (self.bucket / 2).max(1));
        let is_old =
            |publication: &Publication| publication.failures == 0 && known >= publication.known + grown;
        if self.looked_around && self.publications.values().any(is_old) {
            let soon = now + self.jittered(GROWN_WITHIN / 2);
            for publication in self.publications.values_mut().filter(|publication| is_old(publication)) {
                publication.due = publication.due.map(|due| due.min(soon));
            }
        }
    }

    /// A node of the table was not reached.
    pub(crate) fn lost(&mut self, peer: PeerId, now: Instant) {
        self.lost.retain(|_, at| now.saturating_duration_since(*at) < CHURN_WITHIN);
        if self.lost.len() < LOST_MAX {
            self.lost.insert(peer, now);
        }
        let every = self.publish_every();
        for publication in self.publications.values_mut().filter(|publication| publication.failures == 0)
        {
            let soonest = publication.begun.map(|begun| (begun + every).max(now));
            publication.due = publication.due.map(|due| soonest.map_or(due, |soonest| due.min(soonest)));
        }
    }

    /// How often it is to be said what does not change, by the share of nodes that leave.
    fn publish_every(&self) -> Duration {
        let lost = self.lost.len();
        if lost < CHURN_MIN {
            return PUBLISH_EVERY;
        }
        // Those that left the table were in it.
        let share = lost as f64 / self.known.max(lost) as f64;
        let a_minute = share / (CHURN_WITHIN.as_secs_f64() / 60.0);
        PUBLISH_EVERY.mul_f64((CHURN_FOR_AN_HOUR / a_minute).min(1.0))
    }

    /// A bootstrap node named `named` nodes, of which `strangers` are dialled, since the table does not know them.
    pub(crate) fn met_strangers(&mut self, strangers: usize, named: usize, now: Instant) {
        if strangers == 0 || strangers * STRANGERS_ONE_IN < named {
            return;
        }
        let apart = self.refreshed.map_or(now, |refreshed| refreshed + AFTER_STRANGERS.1);
        let soon = apart.max(now + AFTER_STRANGERS.0);
        self.refresh = self.refresh.map(|refresh| refresh.min(soon));
    }

    /// A bootstrap has begun, be it ours or that of the library.
    pub(crate) fn bootstrap_began(&mut self) {
        (self.bootstrapping, self.bootstrap) = (true, None);
    }

    /// It has ended; `well`: somebody answered.
    pub(crate) fn bootstrap_ended(&mut self, well: bool, now: Instant) {
        self.bootstrapping = false;
        if !well {
            self.bootstrap = Some(now + self.bootstrap_pause);
            self.bootstrap_pause = (self.bootstrap_pause * 2).min(BOOTSTRAP_AGAIN.1);
            return;
        }
        self.bootstrap_pause = BOOTSTRAP_AGAIN.0;
        self.bootstrap = Some(now + self.jittered(BOOTSTRAP_EVERY));
        self.refresh = Some(now + self.jittered(REFRESH_EVERY));
        // What was said before went to those who were known then.
        let first = !std::mem::replace(&mut self.looked_around, true);
        for publication in self.publications.values_mut().filter(|_| first) {
            publication.changed |= publication.under_way;
            publication.due = publication.due.map(|due| due.min(now + SETTLE));
        }
        self.bootstrap_answered(now);
    }

    /// Somebody answered when the neighbourhood was looked for, which is the first part of a bootstrap. The others look into
    /// buckets further away; peers that never answer can make them last a minute.
    pub(crate) fn bootstrap_answered(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.joined, true) {
            for publication in self.publications.values_mut() {
                publication.due = Some(now);
            }
        }
    }

    /// This is to be said, or is another than before.
    pub(crate) fn changed(&mut self, item: I, now: Instant) {
        let joined = self.joined;
        let publication = self.publications.entry(item).or_default();
        publication.changed |= publication.under_way;
        publication.failures = 0;
        if joined && !publication.under_way {
            let apart = publication.begun.map(|begun| begun + PUBLISH_APART);
            let soon = apart.unwrap_or(now).max(now + SETTLE);
            publication.due = Some(publication.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// How much is said.
    pub(crate) fn items(&self) -> usize {
        self.publications.len()
    }

    /// It was said; `well`: somebody keeps it.
    pub(crate) fn published(&mut self, item: &I, well: bool, now: Instant) {
        let churn = self.publish_every();
        let every = self.jittered(churn);
        let Some(publication) = self.publications.get_mut(item) else { return };
        publication.under_way = false;
        let apart = publication.begun.map_or(now, |begun| begun + PUBLISH_APART).max(now);
        publication.due = Some(match (std::mem::take(&mut publication.changed), well) {
            (true, _) => apart,
            (false, true) => now + every,
            (false, false) => now + PUBLISH_AGAIN[publication.failures.min(PUBLISH_AGAIN.len() - 1)],
        });
        publication.failures = if well { 0 } else { publication.failures + 1 };
    }

    /// Something that is to be done at `now`, if anything is.
    pub(crate) fn poll_task(&mut self, now: Instant) -> Option<Task<I>> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.sweep <= now {
            self.sweep = now + SWEEP_EVERY;
            return Some(Task::Sweep);
        }
        if self.known < FEW && self.dial <= now {
            self.dial = now + self.jittered(self.dial_pause);
            self.dial_pause = (self.dial_pause * 2).min(DIAL_AGAIN.1);
            return Some(Task::DialRemembered);
        }
        if self.known > 0 && !self.bootstrapping && due(self.bootstrap) {
            self.bootstrap_began();
            return Some(Task::Bootstrap);
        }
        if due(self.refresh) {
            self.refresh = Some(now + self.jittered(REFRESH_EVERY));
            self.refreshed = Some(now);
            return Some(Task::Refresh);
        }
        let (item, publication) =
            self.publications.iter_mut().find(|(_, publication)| due(publication.due))?;
        (publication.due, publication.begun, publication.under_way) = (None, Some(now), true);
        publication.known = self.known;
        Some(Task::Publish(item.clone()))
    }

    /// When there is something to be done next.
    pub(crate) fn poll_timeout(&self) -> Instant {
        let dial = (self.known < FEW).then_some(self.dial);
        let bootstrap = self.bootstrap.filter(|_| self.known > 0 && !self.bootstrapping);
        let publications = self.publications.values().filter_map(|publication| publication.due);
        let all = dial.into_iter().chain(bootstrap).chain(self.refresh).chain(publications);
        all.chain([self.sweep]).min().unwrap_or(self.sweep)
    }

    /// A tenth more or less, so that nodes that began together do not go on together.
    fn jittered(&mut self, period: Duration) -> Duration {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let share = f64::from((self.chance >> 32) as u32) / f64::from(u32::MAX);
        period.mul_f64(0.9 + share / 5.0)
    }
}

#[cfg(test)]
mod tests;

//! What was said before, as far as it matters to what is said next. Pure, and bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use punchline_bridge::{Path, error::OpenError, event::Awaited};

use super::{
    Failure,
    called::Called,
    summary::{Pace, Summary, Untold},
    troubles::Troubles,
};
use crate::names::Names;

/// Peers whose paths are told. A node has fewer familiar ones, and of more the log is no place to read.
const PEERS_MAX: usize = 1024;

/// Forwards that wait for their peer: as many as a settings file may have tables.
const AWAITED_MAX: usize = 256;

/// Peers that were let in and are remembered for it; of more, the log is no place to read.
const LET_IN_MAX: usize = 1024;

/// News of one peer: a peer that comes and goes all day is a line in ten minutes.
const NEWS_OF_PEER: Pace = Pace { burst: 10, every: Duration::from_secs(600) };

/// News of a kind: strangers come to every public port.
const NEWS: Pace = Pace { burst: 60, every: Duration::from_secs(300) };

/// How often a relay says what it does for its peers, once it has many.
const TALLY_INTERVAL: Duration = Duration::from_secs(3600);

/// Peers of a relay that are told one by one; then they are counted.
const GREETED_MAX: u64 = 5;

/// Whose room a line takes. Identities are free, so strangers, however many, share what is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    /// This node's own matters, and those of peers that the settings or a person name.
    Ours,
    /// Of peers that used a service.
    LetIn,
    /// Of all others.
    Strangers,
}

impl Whose {
    pub(super) const ALL: [Self; 3] = [Self::Ours, Self::LetIn, Self::Strangers];
}

/// The memory of whoever says what happens.
pub(super) struct Said {
    pub(super) troubles: Troubles,
    news: Summary,
    /// News that were not told since that was said.
    left_out: u64,
    called: Called,
    /// Peers that the settings name.
    known: BTreeSet<PeerId>,
    /// Peers that used a service; bounded by [`LET_IN_MAX`].
    let_in: BTreeSet<PeerId>,
    /// The relays that the settings name, and those that hold a place for us.
    relays: BTreeSet<PeerId>,
    held: BTreeSet<PeerId>,
    peers: BTreeMap<PeerId, Paths>,
    awaited: BTreeMap<PeerId, Vec<String>>,
    /// The kind of NAT that was said, by family of addresses.
    nats: BTreeMap<String, String>,
    stopping: bool,
    tally: Tally,
}

/// The live connections of a peer, by path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Paths {
    direct: u32,
    relayed: u32,
    /// A line was written on it.
    told: bool,
}

/// How a peer's paths changed, where that is worth a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It had no connection, and has one.
    Came,
    /// Its last connection is gone.
    Went,
    /// Its last direct connection is gone, and a relayed one is left.
    Relayed,
    /// Nothing that people wait for.
    Nothing,
}

/// What a relay did since it last said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) kept: u64,
    pub(super) came: u64,
    pub(super) went: u64,
    pub(super) circuits: u64,
    pub(super) bytes: u64,
    greeted: u64,
    said: Option<Instant>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            troubles: Troubles::default(),
            news: Summary::new(NEWS_OF_PEER, NEWS),
            left_out: 0,
            called: Called::default(),
            known: BTreeSet::new(),
            let_in: BTreeSet::new(),
            relays: BTreeSet::new(),
            held: BTreeSet::new(),
            peers: BTreeMap::new(),
            awaited: BTreeMap::new(),
            nats: BTreeMap::new(),
            stopping: false,
            tally: Tally::default(),
        }
    }
}

impl Said {
    /// The settings name this relay.
    pub(super) fn names_relay(&mut self, relay: PeerId) {
        self.relays.insert(relay);
    }

    /// Whether the settings name it, or it holds a place for us.
    pub(super) fn is_relay(&self, peer: &PeerId) -> bool {
        self.relays.contains(peer) || self.held.contains(peer)
    }

    /// The settings name these peers.
    pub(super) fn knows(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        self.known.extend(peers);
    }

    /// What people call peers from now on.
    pub(super) fn calls(&mut self, names: Arc<Names>) {
        self.called = Called::new(names);
    }

    /// Whose room a line on this peer takes.
    pub(super) fn whose(&self, peer: &PeerId) -> Whose {
        if self.known.contains(peer) || self.is_relay(peer) || self.called.is_named(peer) {
            Whose::Ours
        } else if self.let_in.contains(peer) {
            Whose::LetIn
        } else {
            Whose::Strangers
        }
    }

    /// What a person calls the peer, if it has a name.
    pub(super) fn named(&self, peer: &PeerId) -> Option<String> {
        self.called.name(peer).map(str::to_owned)
    }

    /// What the peer is called in a line.
    pub(super) fn called(&self, peer: &PeerId) -> String {
        self.called.peer(peer)
    }

    /// Likewise of a relay.
    pub(super) fn relay(&self, relay: &PeerId) -> String {
        self.called.relay(relay)
    }

    /// Words of others, as they may stand in a line.
    pub(super) fn foreign(&self, words: &(impl Display + ?Sized)) -> String {
        self.called.foreign(words)
    }

    /// Why a program had no stream, without addresses.
    pub(super) fn failure(&self, failure: &Failure) -> String {
        self.called.failure(failure)
    }

    /// Likewise.
    pub(super) fn open_error(&self, error: &OpenError) -> String {
        self.called.open_error(error)
    }

    /// What is waited for, likewise.
    pub(super) fn awaited(&self, awaited: &Awaited) -> String {
        self.called.awaited(awaited)
    }

    /// Whether one more line of a kind on this node itself is welcome.
    pub(super) fn is_news(&mut self, kind: &'static str, now: Instant) -> bool {
        self.news.admit(kind, Whose::Ours, None, now)
    }

    /// Whether one more line of a kind on this peer is welcome.
    pub(super) fn is_news_of(&mut self, kind: &'static str, peer: PeerId, now: Instant) -> bool {
        let whose = self.whose(&peer);
        self.news.admit(kind, whose, Some(peer), now)
    }

    /// What is to be said of news that were left out, if it is time.
    pub(super) fn left_out(&mut self, now: Instant) -> Option<String> {
        self.left_out += self.news.poll(now).into_iter().map(|Untold { count, .. }| count).sum::<u64>();
        if self.left_out == 0 || !self.troubles.meet("left_out", Whose::Ours, "", now).is_told() {
            return None;
        }
        let count = std::mem::take(&mut self.left_out);
        Some(format!("{count} lines on peers that come and go were left out; the events have them"))
    }

    /// A relay holds a place for us. Whether that is new.
    pub(super) fn holds(&mut self, relay: PeerId) -> bool {
        self.held.insert(relay)
    }

    /// It does no longer.
    pub(super) fn lost(&mut self, relay: &PeerId) {
        self.held.remove(relay);
    }

    /// A forward waits for this peer: what is to be said when it is there. It is given back if it is there already.
    pub(super) fn awaits(&mut self, peer: PeerId, line: String) -> Option<String> {
        if self.peers.contains_key(&peer) {
            return Some(line);
        }
        if self.awaited.len() < AWAITED_MAX {
            let lines = self.awaited.entry(peer).or_default();
            lines.truncate(AWAITED_MAX - 1);
            lines.push(line);
        }
        None
    }

    /// This peer is there: what was to be said then.
    pub(super) fn arrived(&mut self, peer: &PeerId) -> Vec<String> {
        self.awaited.remove(peer).unwrap_or_default()
    }

    /// A connection is up. `tells`: it is worth a line, since this node wanted it or a relay made it; else only once the peer
    /// uses something.
    pub(super) fn opened(&mut self, peer: PeerId, path: Path, tells: bool) -> Change {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            return Change::Nothing;
        }
        let paths = self.peers.entry(peer).or_default();
        *paths.of(path) += 1;
        let is_new = tells && !paths.told;
        paths.told |= tells;
        if is_new { Change::Came } else { Change::Nothing }
    }

    /// The peer uses something. Whether that is the first line on it.
    pub(super) fn uses(&mut self, peer: &PeerId) -> bool {
        if self.let_in.len() < LET_IN_MAX {
            self.let_in.insert(*peer);
        }
        self.peers.get_mut(peer).is_some_and(|paths| !std::mem::replace(&mut paths.told, true))
    }

    pub(super) fn closed(&mut self, peer: PeerId, path: Path) -> Change {
        let Some(paths) = self.peers.get_mut(&peer) else { return Change::Nothing };
        let count = paths.of(path);
        *count = count.saturating_sub(1);
        let Paths { direct, relayed, told } = *paths;
        if direct + relayed == 0 {
            self.peers.remove(&peer);
        }
        match (direct, relayed) {
            _ if !told || self.stopping => Change::Nothing,
            (0, 0) => Change::Went,
            (0, _) if path.is_direct() => Change::Relayed,
            _ => Change::Nothing,
        }
    }

    /// What kind of NAT this node is behind. Whether that is another than was said.
    pub(super) fn is_other_nat(&mut self, family: String, nat: String) -> bool {
        self.nats.insert(family, nat.clone()).is_none_or(|before| before != nat)
    }

    /// What ends from now on ends because this node does.
    pub(super) fn stops(&mut self) {
        self.stopping = true;
    }

    /// Whether this node ends.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// What this relay counts.
    pub(super) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

impl Paths {
    fn of(&mut self, path: Path) -> &mut u32 {
        match path {
            Path::Direct => &mut self.direct,
            Path::Relayed { .. } => &mut self.relayed,
        }
    }
}

impl Tally {
    /// Whether a peer that came is told by its name.
    pub(super) fn greets(&mut self) -> bool {
        self.greeted += 1;
        self.greeted <= GREETED_MAX
    }

    /// What to say by now, if anything changed; it is forgotten then.
    pub(super) fn due(&mut self, now: Instant) -> Option<Self> {
        let said = *self.said.get_or_insert(now);
        let changed = self.came + self.went + self.circuits > 0;
        if now < said + TALLY_INTERVAL || !changed {
            return None;
        }
        let kept = Self { kept: self.kept, greeted: self.greeted, said: Some(now), ..Self::default() };
        Some(std::mem::replace(self, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_peers_than_the_limit_are_not_told_of_and_not_remembered() {
        let mut said = Said::default();
        for _ in 0..PEERS_MAX {
            assert_eq!(said.opened(PeerId::random(), Path::Direct, true), Change::Came);
        }
        let late = PeerId::random();
        assert_eq!(said.opened(late, Path::Direct, true), Change::Nothing);
        assert_eq!(said.closed(late, Path::Direct), Change::Nothing);
        assert_eq!(said.peers.len(), PEERS_MAX);
        for _ in 0..2 * AWAITED_MAX {
            said.awaits(late, "line".to_owned());
            said.awaits(PeerId::random(), "line".to_owned());
        }
        assert!(said.awaited.len() <= AWAITED_MAX);
        assert!(said.arrived(&late).len() <= AWAITED_MAX);
    }
}

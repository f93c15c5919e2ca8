//! Whether the relay that a stream runs through still lives, told by another one that does.
//!
//! A relay that is killed or hangs says nothing over QUIC, and nothing at all when its cable is pulled. Where a peer is
//! reached through two relays, it is asked over both at one moment, again and again: when the answer comes over one of
//! them alone, the other is dead, or as good as dead. A host that is busy, or a peer that sleeps, is late over both.
//!
//! The opener of streams asks, since it can move them; only over QUIC, since over TCP a killed relay's system says so
//! at once, and a hanging one is noticed by pings.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::LATE;
use crate::{
    engine::{Engine, input::Action},
    path::{ConnectionId, Transport},
    word::Word,
};

/// For an answer, beside twice what pings took lately; then the next question follows. A death is noticed within two of
/// these. Less would doubt ways on which a packet was lost; each question costs a small packet to and fro on each way.
pub(crate) const BEAT: Duration = Duration::from_millis(300);

/// A question that was asked over all ways to a peer at once.
#[derive(Debug)]
struct Beat {
    number: u64,
    said: Instant,
    ends: Instant,
    /// Where, and through which relay that leads.
    asked: BTreeMap<ConnectionId, PeerId>,
    answered: BTreeSet<ConnectionId>,
}

impl Beat {
    /// Where no answer came, though one came through another relay.
    fn silent(&self) -> Vec<ConnectionId> {
        let alive: BTreeSet<_> = self.answered.iter().filter_map(|id| self.asked.get(id)).collect();
        let other = |relay: &PeerId| alive.iter().any(|alive| *alive != relay);
        let silent = self.asked.iter().filter(|(id, _)| !self.answered.contains(id));
        silent.filter(|(_, relay)| other(relay)).map(|(id, _)| *id).collect()
    }
}

/// By peer: those that are asked. Bounded by the peers with streams of ours.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    all: BTreeMap<PeerId, Beat>,
    /// Where no answer came, and when it was asked for: what else was heard since decides.
    unanswered: BTreeMap<ConnectionId, Instant>,
    asked: u64,
}

impl Beats {
    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        self.all.contains_key(&peer)
    }

    /// Asks anew over these connections, through these relays; an answer took so long lately. Returns the question's
    /// number.
    fn ask(
        &mut self,
        peer: PeerId,
        over: BTreeMap<ConnectionId, PeerId>,
        took: Duration,
        now: Instant,
    ) -> u64 {
        self.asked += 1;
        let (number, ends, answered) = (self.asked, now + BEAT + took * 2, BTreeSet::new());
        self.all.insert(peer, Beat { number, said: now, ends, asked: over, answered });
        number
    }

    /// The answer to a question came over a connection.
    fn answered(&mut self, peer: PeerId, connection: ConnectionId, number: u64) {
        if let Some(beat) = self.all.get_mut(&peer)
            && beat.number == number
            && beat.asked.contains_key(&connection)
        {
            beat.answered.insert(connection);
        }
    }

    fn take_due(&mut self, now: Instant) -> Vec<(PeerId, Beat)> {
        self.all.extract_if(.., |_, beat| beat.ends <= now).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().map(|beat| beat.ends).min()
    }

    /// Something was last heard on a connection then. True if that was before a question that nobody answered on it.
    pub(crate) fn is_dead(&mut self, connection: ConnectionId, last: Option<Instant>) -> bool {
        let said = self.unanswered.remove(&connection);
        said.is_some_and(|said| last.is_none_or(|last| last < said))
    }

    pub(crate) fn closed(&mut self, connection: ConnectionId) {
        self.unanswered.remove(&connection);
    }
}

impl Engine {
    /// Asks a peer over all its circuits, if there are some through two relays and streams of ours need them.
    pub(in crate::engine) fn begin_beats(&mut self, peer: PeerId, now: Instant) {
        if !self.beats.contains(peer) {
            self.beat(peer, now);
        }
    }

    fn beat(&mut self, peer: PeerId, now: Instant) {
        let ours = !self.moves.of(peer).is_empty();
        let needed = ours && self.stopping.is_none() && self.connections.is_reached_through_relays(peer);
        if !needed || self.connections.sound_relays(peer).len() < 2 {
            return;
        }
        let circuits = || {
            let all = self.connections.of(peer);
            all.filter(|(_, found)| !found.path.is_direct() && !found.is_closing())
        };
        if !circuits().any(|(_, found)| found.transport == Transport::Quic) {
            return;
        }
        let took = circuits().filter_map(|(_, found)| found.took()).max().unwrap_or_default();
        let over = circuits().filter_map(|(id, found)| Some((id, found.path.relay()?)));
        let over: BTreeMap<ConnectionId, PeerId> = over.collect();
        let asked: Vec<ConnectionId> = over.keys().copied().collect();
        let word = Word::Beat(self.beats.ask(peer, over, took, now));
        let say = |connection| Action::Say { peer, connection, word: word.clone() };
        self.actions.extend(asked.into_iter().map(say));
    }

    /// The other end of a connection answers.
    pub(in crate::engine) fn echo(&mut self, connection: ConnectionId, number: u64, now: Instant) {
        let Some(peer) = self.peer(connection) else { return };
        self.beats.answered(peer, connection, number);
        if self.connections.is_heard(connection, now) {
            self.place_all(peer, now);
            // There are two ways again: both are asked.
            self.consider_spare(peer, now);
        }
    }

    /// What became of the questions whose time is over. Who is called late did not listen, and asks anew.
    pub(in crate::engine) fn beats_due(&mut self, now: Instant) {
        for (peer, beat) in self.beats.take_due(now) {
            if now.duration_since(beat.ends) <= LATE {
                for connection in beat.silent() {
                    self.beats.unanswered.insert(connection, beat.said);
                    self.actions.push_back(Action::TakePulse { connection });
                }
            }
            self.beat(peer, now);
        }
    }
}

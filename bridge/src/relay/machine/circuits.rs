//! Circuits: who waits for a turn at a destination, who is being introduced, and what is forwarded.
//!
//! A destination is asked about few circuits at once, because stock clients drop the eleventh without a
//! word. The rest wait their turn: the host that has least under way comes first, so that a crowd from one
//! place does not keep the others from a destination.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use libp2p::PeerId;

use super::{AskId, Limited};
use crate::{
    addr::place::{Place, Shares},
    event::LimitOwner,
    path::ConnectionId,
    relay::RelayConfig,
};

/// Circuits that one destination is asked about at once. rust-libp2p's client handles ten.
pub(super) const ASKED_MAX: usize = 8;

/// Circuits that wait for their turn at one destination: a full house of a server's clients comes back
/// together when it was away.
pub(super) const WAITING_MAX: usize = 256;

/// Longest wait for a turn. With the answer it stays below what clients give a circuit (10 s).
pub(super) const WAITING_DEADLINE: Duration = Duration::from_secs(4);

/// For a destination to answer: several round trips of the slowest links.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// The connection's handler measures the same deadline; this is only in case it does not answer.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// For whoever was refused: circuits end and turns come within seconds.
const RETRY: Duration = Duration::from_secs(2);

/// How far a circuit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// For its turn at the destination.
    Waiting { until: Instant },
    /// The destination was asked.
    Asked { until: Instant },
    /// Bytes are forwarded.
    Open,
}

#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) source: PeerId,
    pub(super) from: ConnectionId,
    pub(super) place: Place,
    pub(super) destination: PeerId,
    pub(super) to: ConnectionId,
    pub(super) stage: Stage,
}

/// All circuits, and their limits.
#[derive(Debug)]
pub(super) struct Circuits {
    max: usize,
    per_peer_max: usize,
    all: BTreeMap<AskId, Circuit>,
    of_source: BTreeMap<PeerId, usize>,
    shares: Shares,
    /// Those that wait or were asked about, by the destination's connection, the oldest first.
    turns: BTreeMap<ConnectionId, Vec<AskId>>,
}

impl Circuits {
    pub(super) fn new(config: &RelayConfig) -> Self {
        Self {
            max: config.circuits,
            per_peer_max: config.circuits_per_peer,
            all: BTreeMap::new(),
            of_source: BTreeMap::new(),
            shares: Shares::new(config.circuits_share()),
            turns: BTreeMap::new(),
        }
    }

    /// Whether there is room for one more circuit that `source` asks for.
    pub(super) fn room(&self, source: PeerId, place: Place) -> Result<(), Limited> {
        let limited = |whose, limit| Limited { whose, limit, retry_after: RETRY };
        if self.of_source.get(&source).is_some_and(|count| *count >= self.per_peer_max) {
            return Err(limited(LimitOwner::Peer, self.per_peer_max));
        }
        self.shares.fits(place).map_err(|limit| limited(LimitOwner::Address, limit))
    }

    /// Whether there is room among all circuits. The last question of all.
    pub(super) fn room_in_all(&self) -> Result<(), Limited> {
        if self.all.len() < self.max {
            return Ok(());
        }
        Err(Limited { whose: LimitOwner::Relay, limit: self.max, retry_after: RETRY })
    }

    /// Whether one more may wait at a destination: there is room, or who waits there with the most from one
    /// host makes room.
    pub(super) fn turn(&self, to: ConnectionId, place: Place) -> Result<Option<AskId>, Limited> {
        let waiting = self.waiting(to);
        if waiting.len() < WAITING_MAX {
            return Ok(None);
        }
        let mut hosts: BTreeMap<IpNet, usize> = BTreeMap::new();
        waiting.iter().for_each(|(_, host)| *hosts.entry(*host).or_default() += 1);
        let own = hosts.get(&place.host).copied().unwrap_or(0);
        let greediest =
            hosts.iter().max_by_key(|(_, count)| **count).filter(|(_, most)| **most > own + 1);
        let newest = greediest
            .and_then(|(greedy, _)| waiting.iter().rev().find(|(_, host)| host == greedy))
            .map(|(ask, _)| *ask);
        newest.map(Some).ok_or_else(Self::waited)
    }

    /// What is said to whoever could not wait, or waited in vain.
    pub(super) fn waited() -> Limited {
        Limited { whose: LimitOwner::Destination, limit: WAITING_MAX, retry_after: RETRY }
    }

    fn waiting(&self, to: ConnectionId) -> Vec<(AskId, IpNet)> {
        self.under_way(to)
            .filter(|(_, circuit)| matches!(circuit.stage, Stage::Waiting { .. }))
            .map(|(ask, circuit)| (ask, circuit.place.host))
            .collect()
    }

    fn under_way(&self, to: ConnectionId) -> impl Iterator<Item = (AskId, &Circuit)> {
        let turns = self.turns.get(&to).into_iter().flatten();
        turns.filter_map(|ask| Some((*ask, self.all.get(ask)?)))
    }

    /// One more, which waits for its turn. Until when.
    pub(super) fn wait(&mut self, ask: AskId, mut circuit: Circuit, now: Instant) -> Instant {
        let until = now + WAITING_DEADLINE;
        circuit.stage = Stage::Waiting { until };
        *self.of_source.entry(circuit.source).or_default() += 1;
        self.shares.take(circuit.place);
        self.turns.entry(circuit.to).or_default().push(ask);
        self.all.insert(ask, circuit);
        until
    }

    /// The next circuit that the destination is to be asked about, if it may be asked about one more.
    pub(super) fn next_turn(&self, to: ConnectionId) -> Option<AskId> {
        let mut asked: BTreeMap<IpNet, usize> = BTreeMap::new();
        for (_, circuit) in self.under_way(to) {
            if matches!(circuit.stage, Stage::Asked { .. }) {
                *asked.entry(circuit.place.host).or_default() += 1;
            }
        }
        if asked.values().sum::<usize>() >= ASKED_MAX {
            return None;
        }
        let waiting = self.waiting(to).into_iter();
        let least = waiting.min_by_key(|(_, host)| asked.get(host).copied().unwrap_or(0));
        least.map(|(ask, _)| ask)
    }

    /// The destination is asked. When the wait for a turn would have ended, and when that for the answer does.
    pub(super) fn ask(&mut self, ask: AskId, now: Instant) -> Option<(Instant, Instant)> {
        let circuit = self.all.get_mut(&ask)?;
        let Stage::Waiting { until: waited } = circuit.stage else { return None };
        let until = now + ANSWER_DEADLINE + ANSWER_SLACK;
        circuit.stage = Stage::Asked { until };
        Some((waited, until))
    }

    /// The destination has accepted. When the wait for it would have ended.
    pub(super) fn open(&mut self, ask: AskId) -> Option<Instant> {
        let circuit = self.all.get_mut(&ask)?;
        let Stage::Asked { until } = circuit.stage else { return None };
        circuit.stage = Stage::Open;
        let to = circuit.to;
        self.end_turn(ask, to);
        Some(until)
    }

    /// It is over, however far it was.
    pub(super) fn remove(&mut self, ask: AskId) -> Option<Circuit> {
        let circuit = self.all.remove(&ask)?;
        self.shares.give_back(circuit.place);
        if let Some(count) = self.of_source.get_mut(&circuit.source) {
            *count -= 1;
            if *count == 0 {
                self.of_source.remove(&circuit.source);
            }
        }
        self.end_turn(ask, circuit.to);
        Some(circuit)
    }

    fn end_turn(&mut self, ask: AskId, to: ConnectionId) {
        if let Some(turns) = self.turns.get_mut(&to) {
            turns.retain(|other| *other != ask);
            if turns.is_empty() {
                self.turns.remove(&to);
            }
        }
    }

    pub(super) fn get(&self, ask: AskId) -> Option<&Circuit> {
        self.all.get(&ask)
    }

    /// Those that begin or end at a connection.
    pub(super) fn at(&self, connection: ConnectionId) -> Vec<AskId> {
        let at = |circuit: &Circuit| circuit.from == connection || circuit.to == connection;
        self.all.iter().filter(|(_, circuit)| at(circuit)).map(|(ask, _)| *ask).collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (AskId, &Circuit)> {
        self.all.iter().map(|(ask, circuit)| (*ask, circuit))
    }

    /// Those that carry bytes, and those that are being set up.
    pub(super) fn counts(&self) -> (usize, usize) {
        let open = self.all.values().filter(|circuit| circuit.stage == Stage::Open).count();
        (open, self.all.len() - open)
    }

    /// Of both together.
    pub(super) fn limit(&self) -> usize {
        self.max
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    #[cfg(test)]
    pub(super) fn is_clear(&self) -> bool {
        self.all.is_empty()
            && self.of_source.is_empty()
            && self.shares.is_empty()
            && self.turns.is_empty()
    }
}

//! One search for what is near to a place: asks the nearest known, who tell of nearer ones, until the nearest have
//! answered. It never ends at a first answer: whoever lies first would decide it. Pure.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use super::{id::Id, item::Item, message::Node, table::NODES_PER_IP};

/// Nodes that one search remembers; the farthest are left out.
const CANDIDATES_MAX: usize = 100;

/// Peers that one search collects.
pub(super) const FOUND_MAX: usize = 500;

/// A search ends with what it has after this.
pub(super) const LASTS_MAX: Duration = Duration::from_secs(20);

/// Which search.
pub(super) type LookupId = u64;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Nodes,
    Peers,
    /// Signed with this salt, if it is signed.
    Value {
        salt: Vec<u8>,
    },
}

/// What is done at the nearest nodes once they are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    Announce { port: Option<u16> },
    Put { item: Item, replaces: Option<i64> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Asked,
    Answered {
        token: Option<Vec<u8>>,
        /// Of the value that it has.
        seq: Option<i64>,
    },
    Failed,
}

#[derive(Clone, Debug)]
struct Candidate {
    node: Node,
    state: State,
}

#[derive(Clone, Debug)]
pub(super) struct Lookup {
    pub(super) target: Id,
    pub(super) want: Want,
    pub(super) then: Then,
    pub(super) began: Instant,
    pub(super) asked: usize,
    pub(super) answered: usize,
    pub(super) peers: Vec<SocketAddrV4>,
    pub(super) item: Option<Item>,
    /// Whether ids have to fit their addresses.
    pub(super) strict: bool,
    /// Nearest first; ids that do not fit their address come last.
    candidates: Vec<Candidate>,
    /// Places where somebody is, whose id nobody knows.
    unknown: Vec<SocketAddrV4>,
    unknown_asked: Vec<SocketAddrV4>,
    width: usize,
    parallel: usize,
}

impl Lookup {
    /// `width`: how many of the nearest have to answer; `parallel`: how many are asked at once.
    pub(super) fn new(
        target: Id,
        want: Want,
        then: Then,
        [width, parallel]: [usize; 2],
        now: Instant,
    ) -> Self {
        let (asked, answered, item) = (0, 0, None);
        let (peers, candidates, unknown, unknown_asked) = Default::default();
        Self {
            target,
            want,
            then,
            began: now,
            asked,
            answered,
            peers,
            item,
            strict: true,
            candidates,
            unknown,
            unknown_asked,
            width,
            parallel,
        }
    }

    /// Somebody says that this node is there.
    pub(super) fn add(&mut self, node: Node) {
        let key = |node: &Node| {
            (self.strict && !node.id.fits(*node.address.ip()), node.id.distance(&self.target))
        };
        let Err(at) = self.candidates.binary_search_by_key(&key(&node), |known| key(&known.node)) else {
            return;
        };
        let same_place = |known: &&Candidate| known.node.address.ip() == node.address.ip();
        let known = self.candidates.iter().any(|known| known.node.address == node.address);
        if known || self.candidates.iter().filter(same_place).count() >= NODES_PER_IP {
            return;
        }
        self.candidates.insert(at, Candidate { node, state: State::Fresh });
        if self.candidates.len() > CANDIDATES_MAX {
            let fresh = self.candidates.iter().rposition(|candidate| candidate.state == State::Fresh);
            fresh.map(|fresh| self.candidates.remove(fresh));
        }
    }

    /// Somebody may be there.
    pub(super) fn add_unknown(&mut self, address: SocketAddrV4) {
        if !self.candidates.iter().any(|known| known.node.address == address) {
            self.unknown.push(address);
        }
    }

    /// Whom to ask next.
    pub(super) fn next(&mut self) -> Option<(SocketAddrV4, Option<Id>)> {
        if let Some(address) = self.unknown.pop() {
            self.unknown_asked.push(address);
            self.asked += 1;
            return Some((address, None));
        }
        let under_way =
            self.candidates.iter().filter(|candidate| candidate.state == State::Asked).count();
        if under_way >= self.parallel {
            return None;
        }
        let fresh = self.nearest().position(|candidate| candidate.state == State::Fresh)?;
        let fresh = self
            .candidates
            .iter_mut()
            .filter(|candidate| candidate.state != State::Failed)
            .nth(fresh)?;
        fresh.state = State::Asked;
        self.asked += 1;
        Some((fresh.node.address, Some(fresh.node.id)))
    }

    /// A node answered. `seq`: of the value that it has, if it has one that belongs there.
    pub(super) fn answered(
        &mut self,
        node: Node,
        nodes: Vec<Node>,
        token: Option<Vec<u8>>,
        seq: Option<i64>,
    ) {
        self.answered += 1;
        if let Some(at) = self.unknown_asked.iter().position(|address| *address == node.address) {
            self.unknown_asked.remove(at);
            self.add(node);
        }
        if let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.node == node) {
            candidate.state = State::Answered { token, seq };
        }
        nodes.into_iter().for_each(|node| self.add(node));
    }

    /// A node did not answer, or under another id.
    pub(super) fn failed(&mut self, address: SocketAddrV4) {
        self.unknown_asked.retain(|unknown| *unknown != address);
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.node.address == address)
        {
            candidate.state = State::Failed;
        }
    }

    /// Takes what it holds if it is newer than what is known.
    pub(super) fn take(&mut self, item: Item) {
        let newer = |known: &Item| (item.seq(), item.value()) > (known.seq(), known.value());
        if self.item.as_ref().is_none_or(newer) {
            self.item = Some(item);
        }
    }

    pub(super) fn take_peers(&mut self, peers: Vec<SocketAddrV4>) {
        for peer in peers {
            if self.peers.len() < FOUND_MAX && !self.peers.contains(&peer) {
                self.peers.push(peer);
            }
        }
    }

    /// Whether the nearest have answered, or its time is over.
    pub(super) fn is_done(&self, now: Instant) -> bool {
        let answered = |candidate: &Candidate| matches!(candidate.state, State::Answered { .. });
        let complete =
            self.unknown.is_empty() && self.unknown_asked.is_empty() && self.nearest().all(answered);
        complete || now.saturating_duration_since(self.began) >= LASTS_MAX
    }

    /// The nearest that answered.
    pub(super) fn found(&self) -> Vec<Node> {
        let answered = |candidate: &&Candidate| matches!(candidate.state, State::Answered { .. });
        self.nearest().filter(answered).map(|candidate| candidate.node).collect()
    }

    /// Where something can be written: the nearest, with their tokens. `older`: only where something older is.
    pub(super) fn places(&self, older: Option<i64>) -> Vec<(SocketAddrV4, Vec<u8>)> {
        let place = |candidate: &Candidate| match &candidate.state {
            State::Answered { token: Some(token), seq } => {
                let wanted = older.is_none_or(|newest| seq.is_some_and(|seq| seq < newest));
                wanted.then(|| (candidate.node.address, token.clone()))
            }
            _ => None,
        };
        self.nearest().filter_map(place).collect()
    }

    fn nearest(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.state != State::Failed).take(self.width)
    }
}

#[cfg(test)]
mod tests;

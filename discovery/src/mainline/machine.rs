//! A node of the network, without a socket and without a clock: takes packets and wishes, gives packets, events and
//! the time when it wants to be called again.
//!
//! `asking` is what it asks others, `answering` what it answers them, `upkeep` how it joins and stays in.

mod answering;
mod asking;
mod upkeep;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use self::asking::Pending;
use super::{
    door::{ANSWERS, ANSWERS_PER_IP, Door, Rate},
    id::Id,
    item::Item,
    lookup::{Lookup, LookupId},
    message::{Body, Node, Packet},
    store::Store,
    table::{REFRESH, Table},
};

/// Searches at once; one more is refused.
pub(super) const LOOKUPS_MAX: usize = 64;

/// Events that nobody has taken; the oldest is dropped.
const EVENTS_MAX: usize = 256;

/// How it behaves.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Answers others and keeps what they store. Otherwise it only asks, and says so (BEP 43).
    pub(super) serves: bool,
    /// Nodes of one bucket, and of the nearest that have to answer a search and keep what is stored.
    pub(super) bucket: usize,
    /// Nodes that one search asks at once.
    pub(super) parallel: usize,
    /// Who did not answer within this did not answer.
    pub(super) answer_within: Duration,
    /// A bucket in which nobody was looked for is refreshed after this.
    pub(super) refresh: Duration,
    /// Queries from one address that are answered.
    pub(super) answers_per_ip: Rate,
    /// Ids have to fit their addresses (BEP 42). In a private network of a few nodes nobody could know his yet.
    pub(super) strict: bool,
    /// Our address, if it is known.
    pub(super) public: Option<Ipv4Addr>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            serves: true,
            bucket: 20,
            parallel: 3,
            answer_within: Duration::from_secs(2),
            refresh: REFRESH,
            answers_per_ip: ANSWERS_PER_IP,
            strict: true,
            public: None,
        }
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MainlineEvent {
    /// A node answered that this one did not know.
    NodeDiscovered {
        /// Who, and where.
        node: Node,
    },
    /// A search ended.
    LookupCompleted {
        /// What was looked for.
        target: Id,
        /// Nodes that were asked.
        asked: usize,
        /// Nodes that answered.
        answered: usize,
        /// How long it took.
        took: Duration,
    },
    /// Somebody stored something at this node, or this node at others.
    DataStored {
        /// Under which key.
        target: Id,
        /// Nodes that said that they keep it; none if it is this one.
        nodes: Option<usize>,
    },
    /// The routing table has another number of nodes.
    RoutingTableUpdated {
        /// How many.
        nodes: usize,
    },
}

/// What a search led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nodes(Vec<Node>),
    Peers(Vec<SocketAddrV4>),
    Value(Option<Item>),
    /// Nodes that keep it now.
    Stored(usize),
}

/// As many searches are under way as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} searches are under way already")]
pub struct Busy {
    /// How many that is.
    pub limit: usize,
}

/// The routing table, and this node in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingTable {
    /// This node's id.
    pub id: Id,
    /// Whether this node answers others.
    pub serves: bool,
    /// Nodes that it knows.
    pub nodes: usize,
    /// Buckets that are not empty: how many bits their nodes' ids have in common with this one's, and how many nodes.
    pub buckets: Vec<(usize, usize)>,
    /// Where others see this node.
    pub seen_at: Option<SocketAddrV4>,
    /// Values and hashes that it keeps for others.
    pub values: usize,
    /// Hashes that peers are announced for.
    pub hashes: usize,
    /// Queries that were not answered, because there were too many.
    pub refused: u64,
}

pub(super) struct Machine {
    settings: Settings,
    table: Table,
    store: Store,
    door: Door,
    random: StdRng,
    lookups: BTreeMap<LookupId, Lookup>,
    next_lookup: LookupId,
    pending: BTreeMap<[u8; 4], Pending>,
    storing: BTreeMap<LookupId, asking::Storing>,
    upkeep: upkeep::Upkeep,
    refused: u64,
    sends: VecDeque<(SocketAddrV4, Vec<u8>)>,
    events: VecDeque<MainlineEvent>,
    outcomes: VecDeque<(LookupId, Outcome)>,
}

impl Machine {
    /// `seed`: random, and nobody else's.
    pub(super) fn new(settings: Settings, seed: [u8; 32], now: Instant) -> Self {
        let mut random = StdRng::from_seed(seed);
        let own = match settings.public {
            Some(ip) => Id::for_ip(ip, random.random()),
            None => Id::new(random.random()),
        };
        let door = Door::new(settings.answers_per_ip, ANSWERS, random.random(), now);
        let (lookups, pending, storing, sends, events, outcomes) = Default::default();
        Self {
            table: Table::new(own, settings.bucket, settings.strict, now)
                .refreshed_after(settings.refresh),
            store: Store::new(),
            door,
            random,
            lookups,
            next_lookup: 0,
            pending,
            storing,
            upkeep: upkeep::Upkeep::new(now),
            refused: 0,
            sends,
            events,
            outcomes,
            settings,
        }
    }

    /// Takes a packet.
    pub(super) fn received(&mut self, packet: &[u8], from: SocketAddrV4, now: Instant) {
        match Packet::read(packet) {
            Some(Err((transaction, refusal))) if self.answers(from, now) => {
                self.send(from, &Packet { transaction, body: Body::Refusal(refusal) });
            }
            Some(Err(_)) | None => {}
            Some(Ok(Packet { transaction, body })) => match body {
                Body::Query { from: id, query, read_only } => {
                    self.asked(transaction, Node { id, address: from }, query, read_only, now);
                }
                Body::Answer { answer, sees_us_at } => {
                    self.answered(&transaction, from, *answer, sees_us_at, now)
                }
                Body::Refusal(_) => self.refused(&transaction, from, now),
            },
        }
        self.go_on(now);
    }

    /// The next packet to be sent, and where.
    pub(super) fn poll_send(&mut self) -> Option<(SocketAddrV4, Vec<u8>)> {
        self.sends.pop_front()
    }

    /// What happened.
    pub(super) fn poll_event(&mut self) -> Option<MainlineEvent> {
        self.events.pop_front()
    }

    /// A search that ended.
    pub(super) fn poll_outcome(&mut self) -> Option<(LookupId, Outcome)> {
        self.outcomes.pop_front()
    }

    /// Whether it knows anybody.
    pub(super) fn is_joined(&self) -> bool {
        self.table.len() > 0
    }

    pub(super) fn routing_table(&self) -> RoutingTable {
        RoutingTable {
            id: self.table.own(),
            serves: self.settings.serves,
            nodes: self.table.len(),
            buckets: self.table.buckets(),
            seen_at: self.upkeep.seen_at(),
            values: self.store.values_len(),
            hashes: self.store.hashes_len(),
            refused: self.refused,
        }
    }

    fn send(&mut self, to: SocketAddrV4, packet: &Packet) {
        self.sends.push_back((to, packet.write(to)));
    }

    fn event(&mut self, event: MainlineEvent) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn table_changed(&mut self) {
        let nodes = self.table.len();
        self.event(MainlineEvent::RoutingTableUpdated { nodes });
    }
}

#[cfg(test)]
mod tests;

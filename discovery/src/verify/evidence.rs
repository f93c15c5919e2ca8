//! What the steps rest on: plain data, as it was found.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};

use super::Witnesses;
use crate::kad::Bootstrap;

/// What was found, and how long that took.
#[derive(Clone, Debug, Default)]
pub struct Timed<T> {
    /// How long.
    pub took: Duration,
    /// What.
    pub found: T,
}

/// All of it. What is none was not tried, because what it needs is not there.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Of step 1.
    pub table: Timed<Table>,
    /// Of step 2.
    pub publish: Timed<Option<Publish>>,
    /// Of step 3.
    pub read: Timed<Option<Read>>,
    /// Of step 4.
    pub peers: Timed<Peers>,
    /// Of step 5.
    pub directions: Timed<Directions>,
    /// Of step 6.
    pub members: Timed<Option<Members>>,
}

/// The nodes that are known.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The network of this node.
    pub network: String,
    /// Nodes in the table.
    pub nodes: BTreeSet<PeerId>,
    /// Nodes that answered a lookup just now.
    pub answered: BTreeSet<PeerId>,
    /// The nodes to begin with, as they do.
    pub bootstraps: Vec<Bootstrap>,
}

impl Table {
    /// Nodes that are known, be they in the table or not.
    pub fn known(&self) -> usize {
        self.nodes.union(&self.answered).count()
    }
}

/// Who keeps a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its key.
    pub key: Vec<u8>,
    /// Others than this node that give the same bytes back.
    pub by: BTreeSet<PeerId>,
    /// This node gives them back, too.
    pub by_us: bool,
    /// Copies with other bytes.
    pub others: usize,
}

/// What this node says, and who keeps it.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Nodes that said that they took what was said for the trial; or why nobody did.
    pub taken: Result<usize, String>,
    /// Who gives it back.
    pub probe: Kept,
    /// Who gives back where this node says that it is; none if it says nothing of itself.
    pub contact: Option<Kept>,
    /// Nodes that are known.
    pub known: usize,
}

/// What a stranger reads.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// Nodes in the stranger's table.
    pub table: usize,
    /// What was said for the trial.
    pub probe: Kept,
    /// Where this node says that it is; none if it says nothing of itself.
    pub contact: Option<Kept>,
}

/// Who was found.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// By the source that says so.
    pub by_source: BTreeMap<String, BTreeSet<PeerId>>,
    /// Those that the operator named to begin with.
    pub bootstraps: BTreeSet<PeerId>,
}

/// From whom a way leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From this node.
    Out,
    /// To it.
    In,
}

/// What a way leads over, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Nobody between.
    Direct,
    /// A relay.
    Relayed,
}

/// Who says that a way is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// The peer answered this node.
    Peer,
    /// A node of the DHT did.
    Node,
    /// A relay dialled this node there.
    Relay,
    /// A stranger of this process came through a relay.
    Stranger,
}

/// A way that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// From whom.
    pub direction: Direction,
    /// The other end; of a way to this node, whoever came, if that is known.
    pub peer: Option<PeerId>,
    /// Over which address.
    pub address: Option<Multiaddr>,
    /// What it leads over.
    pub route: Route,
    /// Who says that it is open, or why it is not.
    pub outcome: Result<Answerer, String>,
    /// The address is none of the internet.
    pub private: bool,
}

/// Both directions.
#[derive(Clone, Debug, Default)]
pub struct Directions {
    /// All ways that were tried.
    pub ways: Vec<Way>,
    /// This node is to be found, and does not only look for others.
    pub to_be_found: bool,
    /// The peer that had to be reached was not, and why.
    pub missed: Option<(PeerId, String)>,
}

/// How this node stands in a namespace.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// Its name; none: one of this node's own, for the trial.
    pub name: Option<String>,
    /// How it is called today, in hexadecimal: nodes with the same name and secret say the same.
    pub id: String,
    /// The key that was looked at.
    pub key: Vec<u8>,
    /// This node says that it is in it.
    pub joined: bool,
    /// It says so of one of the same name that has another secret, or none.
    pub other_secret: bool,
    /// In which it says that it is.
    pub all: Vec<String>,
    /// The stranger found it there.
    pub seen: bool,
    /// Who tells of it.
    pub witnesses: Witnesses,
}

//! What the DHT tells of itself.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId};

use super::{Health, counts::Traffic};
use crate::{
    Network,
    keys::Namespace,
    store::{Announced, Usage},
};

/// How a node's part in the DHT is.
#[derive(Clone, Debug)]
pub struct Status {
    /// Which network.
    pub network: String,
    /// Whether it answers others.
    pub server: bool,
    /// Whether it has found its neighbourhood: what it publishes is kept by the right nodes.
    pub joined: bool,
    /// Peers in its table, by bucket, the nearest first.
    pub buckets: Vec<Bucket>,
    /// Where it listens for others.
    pub listening: Vec<Multiaddr>,
    /// Connections of the DHT.
    pub connections: usize,
    /// The nodes to begin with.
    pub bootstraps: Vec<Bootstrap>,
    /// Since others last kept what it says of itself; none if they never did.
    pub published: Option<Duration>,
    /// What it keeps, for others and of its own.
    pub kept: Usage,
    /// What it refused to keep, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Whom it did not let into its table, by reason.
    pub denied: BTreeMap<&'static str, u64>,
    /// Peers that lookups passed over, since they asked others of the same network.
    pub passed_over: u64,
    /// Questions of others that were refused, since there were too many.
    pub refused_questions: u64,
    /// Addresses at which a peer was not, but another was: it is not dialled there for a while.
    pub banned: usize,
    /// About so many nodes are in the network; none while that is not known.
    pub nodes_estimated: Option<u64>,
    /// The nodes nearest to where this node's contact is kept are more than can be by chance: see
    /// [`Event::DensityAlarmRaised`].
    pub density_alarm: bool,
    /// Lookups that found what was looked for, since the start.
    pub lookups_found: u64,
    /// And those that did not.
    pub lookups_missed: u64,
    /// What passes between this node and others, and how long it takes.
    pub traffic: Traffic,
    /// The namespaces that matter to this node.
    pub namespaces: Vec<Space>,
    /// Under what others announce themselves here, by how many do: the fullest first, 32 at most.
    pub announced: Vec<Announced>,
}

/// A namespace that this node is in, or looks at.
#[derive(Clone, Debug)]
pub struct Space {
    /// Which.
    pub namespace: Namespace,
    /// What it is called today, by whoever knows it; shortened. Two who see the same mean the same one.
    pub hash: String,
    /// This node says that it is in it.
    pub joined: bool,
    /// Members that it knows of, itself left out.
    pub members: usize,
}

/// A node in the table.
#[derive(Clone, Debug)]
pub struct Node {
    /// Who.
    pub peer: PeerId,
    /// Where it was reached.
    pub addresses: Vec<Multiaddr>,
}

impl Status {
    /// Peers in the table.
    pub fn table(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.peers).sum()
    }
}

/// One bucket of the table: peers whose ids differ from ours at this bit first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Which: 255 has half of all ids, 254 half of the rest.
    pub index: u32,
    /// How many it has.
    pub peers: usize,
}

/// A node to begin with.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Where it is.
    pub address: Multiaddr,
    /// Who it is, once that is known.
    pub peer: Option<PeerId>,
    /// How it does.
    pub health: Health,
    /// How long it took to answer a ping.
    pub round_trip: Option<Duration>,
    /// Since its last answer.
    pub last_answer: Option<Duration>,
    /// Looks in a row that failed.
    pub misses: u32,
    /// Of which network it says that it is; none if it did not say, or is no node of ours.
    pub network: Option<Network>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Where a peer is.
    Peer,
    /// Who is in a namespace.
    Namespace,
    /// The nodes closest to an id.
    Closest,
    /// A value.
    Value,
}

impl Lookup {
    /// Its name, for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Namespace => "namespace",
            Self::Closest => "closest",
            Self::Value => "value",
        }
    }
}

/// What happens in the DHT.
#[derive(Clone, Debug)]
pub enum Event {
    /// It is listened on for other nodes.
    Listening {
        /// Where, with the real port.
        address: Multiaddr,
    },
    /// This node has found its neighbourhood.
    Joined {
        /// Peers in its table by then.
        table: usize,
        /// Since it began.
        took: Duration,
    },
    /// A node to begin with does otherwise than before.
    BootstrapChanged {
        /// Where it is.
        address: Multiaddr,
        /// Who it is, once that is known.
        peer: Option<PeerId>,
        /// How it does now.
        health: Health,
        /// Since it last answered a question; none if it never did.
        silent: Option<Duration>,
    },
    /// A node of the DHT that this one did not know.
    NodeDiscovered {
        /// Who.
        peer: PeerId,
        /// Where it was reached.
        address: Multiaddr,
    },
    /// The table has another number of peers.
    RoutingTableUpdated {
        /// How many.
        table: usize,
    },
    /// A lookup is over.
    LookupCompleted {
        /// Of what.
        lookup: Lookup,
        /// Whether it was found.
        found: bool,
        /// How long it took.
        took: Duration,
        /// Requests that it took.
        requests: u32,
    },
    /// Others keep a value of ours.
    DataStored {
        /// How many of them.
        nodes: usize,
    },
    /// The 20 nodes nearest to where this node's contact is kept lie nearer than chance allows: somebody may have made them to
    /// hide it. Others near it are told as well, until it ends.
    DensityAlarmRaised {
        /// Nodes that are expected where these 20 are: below 6.
        expected: f64,
        /// In a network of about so many.
        nodes: u64,
    },
    /// They do not any more.
    DensityAlarmEnded,
    /// Somebody is in a namespace that is watched. Said once.
    MemberFound {
        /// Of which.
        namespace: Namespace,
        /// Who.
        peer: PeerId,
    },
    /// Nobody says any more that it is.
    MemberLost {
        /// Of which.
        namespace: Namespace,
        /// Who.
        peer: PeerId,
    },
}

//! What is said of those who are refused: what they asked for, and whose limit it was.

use serde::{Deserialize, Serialize};

use super::Event;

/// What a refused peer had asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// A connection.
    Connection,
    /// A stream; the service's queue of unaccepted streams was full.
    Stream,
    /// One more stream than a peer may have.
    StreamOfPeer,
    /// Our own program: to use one more relay.
    Relay,
    /// Our own program: to keep a connection to one more peer.
    Hold,
    /// To remember where one more peer is.
    KnownPeer,
    /// Our own program: to let in one more peer.
    WelcomedPeer,
    /// A reservation at this relay.
    Reservation,
    /// A circuit through this relay.
    Circuit,
    /// To be told when a peer is at this relay.
    Watch,
    /// That this relay dials an address of its own, to see if it can be reached.
    DialBack,
    /// The place at this relay of another process with the same identity, once too often.
    Takeover,
}

/// Whose limit turned somebody away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitOwner {
    /// The relay's, for all its clients together.
    Relay,
    /// This node's, for all peers together.
    Node,
    /// That of all strangers together: what is left is kept for familiar peers.
    Strangers,
    /// That of everybody who comes through one relay.
    ThroughRelay,
    /// That of the service which was asked for.
    Service,
    /// That of the asker's IP address or network.
    Address,
    /// The asker's own.
    Peer,
    /// That of the peer which a circuit was to lead to.
    Destination,
    /// No number is: the operator keeps the asker's range of addresses away.
    Ranges,
}

impl Event {
    /// So many connections were not answered for the range that they came from.
    pub(crate) fn refused_ranges(count: u64) -> Self {
        let (what, whose) = (Asked::Connection, Some(LimitOwner::Ranges));
        Self::Refused { peer: None, what, limit: 0, whose, count }
    }
}

//! What a node is and knows at one moment, as plain data: for a person who asks how it is, and for programs.

use std::{collections::BTreeSet, fmt, time::Duration};

use libp2p::{Multiaddr, PeerId};
use serde::Serialize;

use crate::{
    addr::{RelayAddr, RelayName},
    error::{RelayFailure, UpgradeFailure},
    event::{Awaited, Blocked},
    nat::NatKind,
    path::{ConnectionId, Direction, Path, Transport},
    service::Service,
    stream::StreamId,
};

/// A node at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its identity.
    pub peer: PeerId,
    /// Since its start.
    pub uptime: Duration,
    /// Where it listens, with the real ports.
    pub listening: Vec<Multiaddr>,
    /// Where peers may find it, as it tells them: the best first.
    pub candidates: Vec<CandidateStatus>,
    /// Where its operator says that it is reached, and whether it is.
    pub external: Vec<ExternalStatus>,
    /// What it is behind over IPv4, as far as it knows.
    pub nat_v4: NatKind,
    /// Likewise over IPv6.
    pub nat_v6: NatKind,
    /// What this network seems to keep from relays and peers; none if nothing, as far as was seen.
    pub blocked: Option<Blocked>,
    /// The relays that it uses, by their identities.
    pub relays: Vec<RelayStatus>,
    /// The names of relays that it uses.
    pub relay_names: Vec<RelayNameStatus>,
    /// The peers that it is connected with, relays left out, by their identities.
    pub peers: Vec<PeerStatus>,
    /// Peers that somebody here waits for, and relays whose place this node waits for.
    pub waits: Vec<WaitStatus>,
    /// Its live streams.
    pub streams: Vec<StreamStatus>,
    /// Its limits and how full they are: those of the whole node, for those of one peer or address are asked before them.
    pub limits: Vec<LimitStatus>,
}

/// What a node is for: by that it is judged whether it is usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Peers are to find it.
    BeFound {
        /// It was given relays, through which they do.
        by_relays: bool,
    },
    /// It is to find one of these peers.
    Find(BTreeSet<PeerId>),
}

/// When a node is usable, in the one sentence that programs and documents tell.
pub const USABLE: &str = "A node is usable once a relay that answers holds a place for it, or four peers that it uses or lets \
    in are connected, or if it was given no relay; a client, or a process that only forwards, once a peer that it is for is \
    connected; a relay once it listens.";

impl Status {
    /// What keeps the node from being usable, in words; none if it is usable, which is as [`USABLE`] says. A relay that is
    /// wanted for dials alone need not hold a place. Strangers count for nothing: whoever likes can be four of them.
    pub fn hindrance(&self, purpose: &Purpose) -> Option<String> {
        match purpose {
            Purpose::Find(wanted) => {
                if self.peers.iter().any(|peer| wanted.contains(&peer.peer)) {
                    return None;
                }
                let missing = match wanted.first().filter(|_| wanted.len() == 1) {
                    Some(peer) => format!("peer {peer} is not connected"),
                    None => format!("none of the {} peers that it is for is connected", wanted.len()),
                };
                let relay = self.unserved().map(|why| format!(": {why}")).unwrap_or_default();
                Some(missing + &relay)
            }
            Purpose::BeFound { by_relays } => {
                let familiar = self.peers.iter().filter(|peer| peer.familiar).count();
                match *by_relays && self.relays.is_empty() {
                    _ if familiar >= PEERS_ENOUGH => None,
                    true => self.unserved().or_else(|| Some("no relay was dialled yet".to_owned())),
                    false => self.unserved(),
                }
            }
        }
    }

    /// Why no relay serves it; none if one does, or it has none.
    fn unserved(&self) -> Option<String> {
        let serves = |relay: &RelayStatus| match relay.state {
            RelayState::Reserved { .. } => relay.health.health != Health::Down,
            RelayState::Connected => !relay.wanted,
            RelayState::Down { .. } | RelayState::Connecting => false,
        };
        if self.relays.iter().any(serves) {
            return None;
        }
        let unknown = |name: &&RelayNameStatus| name.relays.is_empty();
        let Some(RelayStatus { relay, state, last_error, .. }) = self.relays.first() else {
            let RelayNameStatus { name, last_error, .. } = self.relay_names.iter().find(unknown)?;
            let cause = last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            return Some(format!("the relays of {name} are not known yet{cause}"));
        };
        let stands = match state {
            RelayState::Down { .. } => "is not reached",
            RelayState::Connecting => "does not answer yet",
            RelayState::Connected => "holds no place for this node yet",
            RelayState::Reserved { .. } => "answers no more",
        };
        let cause = last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        Some(format!("relay {relay} {stands}{cause}"))
    }
}

/// A limit, and how much of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// What it bounds: `streams_of_peers`, `connections`, … in the words of `design/limits.md`.
    pub what: &'static str,
    /// How much there is; of memory, bytes.
    pub used: u64,
    /// How much there may be.
    pub limit: u64,
}

impl LimitStatus {
    pub(crate) fn new(what: &'static str, used: usize, limit: usize) -> Self {
        Self { what, used: used as u64, limit: limit as u64 }
    }
}

/// A node that no relay serves is of use to those whom it is connected with; one of so many stays with a while.
const PEERS_ENOUGH: usize = 4;

/// An address of ours that peers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateStatus {
    /// The address.
    pub address: Multiaddr,
    /// How it is known.
    pub source: AddressSource,
}

/// An address that the operator states ([`Config::external`](crate::Config::external)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalStatus {
    /// The address.
    pub address: Multiaddr,
    /// Whether somebody reaches the node there.
    pub state: ExternalState,
    /// Where this host is to be sent what comes there; none if it does not listen over that transport and family.
    pub listener: Option<Multiaddr>,
}

/// Whether the node is reached at an address that the operator states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalState {
    /// No relay looked so far; at an address that is not public none ever does.
    Unchecked,
    /// A relay reached it.
    Confirmed,
    /// This relay dialled it and found nobody, and none reached it since.
    Unanswered {
        /// Which relay.
        relay: PeerId,
    },
}

/// How an address of ours is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// The operator states it.
    Operator,
    /// Our router forwards it to us.
    Router,
    /// A relay reached us there.
    Confirmed,
    /// A relay sees us come from there.
    Relay,
    /// It is one of this host.
    Interface,
}

/// A relay that the node uses.
#[derive(Clone, Debug)]
pub struct RelayStatus {
    /// The relay.
    pub relay: PeerId,
    /// Where it is dialled.
    pub addresses: Vec<RelayAddr>,
    /// How the node stands with it.
    pub state: RelayState,
    /// How it does.
    pub health: HealthStatus,
    /// What carries the link, if there is one.
    pub transport: Option<Transport>,
    /// The least that a ping took lately; none before the first answer.
    pub round_trip: Option<Duration>,
    /// Failures in a row, of the link and of requests for a reservation.
    pub failures: u32,
    /// What failed last, if nothing has succeeded since.
    pub last_error: Option<RelayFailure>,
    /// It is to hold a place for this node, which else only dials peers through it.
    pub wanted: bool,
    /// How many seconds its clock is ahead of ours, negative if behind, where they differ by more than a minute and a half.
    /// None while it holds no place for this node: it tells the time by what that lasts.
    pub clock_ahead: Option<i64>,
}

/// A name that stands for relays.
#[derive(Clone, Debug)]
pub struct RelayNameStatus {
    /// The name.
    pub name: RelayName,
    /// The relays that it stood for when it was resolved last; none if it never was.
    pub relays: Vec<PeerId>,
    /// Places are wanted there: else peers are sought behind its relays.
    pub wanted: bool,
    /// Lookups that failed since one succeeded.
    pub failures: u32,
    /// Why the last one failed, if it did.
    pub last_error: Option<String>,
    /// How long until the next one, if the last one failed and this node does so by itself.
    pub retry: Option<Duration>,
}

/// How a relay does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It was not heard yet, and nothing failed.
    #[default]
    Unknown,
    /// It answers.
    Healthy,
    /// It failed once or twice in a row, two answers are missing, or it refused this node a place.
    Degraded,
    /// It failed three times in a row, or was not heard for 40 s.
    Down,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
        })
    }
}

/// How a relay does, and what says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthStatus {
    /// The verdict.
    pub health: Health,
    /// How long ago it was heard; none if it never was.
    pub heard: Option<Duration>,
    /// Failures of dials and links since then.
    pub failures: u32,
    /// What half of its latest answers to pings, 64 at most, did not exceed.
    pub median: Option<Duration>,
    /// What 95 of a hundred of them did not exceed.
    pub p95: Option<Duration>,
}

/// How a node stands with a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayState {
    /// Not connected; dialled again after this, if at all by itself.
    Down {
        /// From now.
        retry: Option<Duration>,
    },
    /// The dial or the handshakes are under way.
    Connecting,
    /// Connected, with nothing held: others cannot be introduced to this node there.
    Connected,
    /// It holds a place for this node.
    Reserved {
        /// How long, unless it is renewed, as it is at half-life.
        lasts: Duration,
    },
}

/// A peer that the node is connected with.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub peer: PeerId,
    /// This node uses it, or a service of it would let the peer in, or did already; else it is a stranger.
    pub familiar: bool,
    /// The path of the best connection: where new streams go.
    pub path: Path,
    /// All connections, the best first.
    pub connections: Vec<ConnectionStatus>,
    /// Why it is not reached directly, as far as that was found out; none for a direct path, and before the first verdict.
    pub why_relayed: Option<UpgradeFailure>,
    /// How long until a direct path is tried again, if this end knows.
    pub next_attempt: Option<Duration>,
}

/// A wait for a peer, or for a place at a relay.
#[derive(Clone, Debug)]
pub struct WaitStatus {
    /// The peer or relay.
    pub peer: PeerId,
    /// How long somebody waits already.
    pub waited: Duration,
    /// What for, as far as it is under way.
    pub awaits: Vec<Awaited>,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct ConnectionStatus {
    /// The connection.
    pub connection: ConnectionId,
    /// How it reaches the peer.
    pub path: Path,
    /// What carries it; of a relayed one, the link to the relay.
    pub transport: Transport,
    /// Who made it.
    pub direction: Direction,
    /// The other end's address.
    pub address: Multiaddr,
    /// The least that a ping took lately; none before the first answer.
    pub round_trip: Option<Duration>,
    /// Since it was opened.
    pub age: Duration,
    /// Streams on it, and opens that wait for it.
    pub users: usize,
}

/// The answer to a ping.
#[derive(Clone, Debug)]
pub struct Pong {
    /// From the question to the answer, both at this node's engine.
    pub took: Duration,
    /// The connection that both took, where new streams would go.
    pub connection: ConnectionStatus,
}

/// What came of the wish to try at once what waits for its next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// So much is tried now; all 0: nothing was waiting.
    Begun {
        /// Peers that are relayed, and for which a direct path is tried; where they begin, they are asked to.
        upgrades: usize,
        /// Relays that are dialled, or asked for a place; with all of them, also names of relays that are looked up.
        relays: usize,
        /// Peers to which a connection is kept, and which are missing: they are looked for.
        peers: usize,
    },
    /// The last time is not long ago, and nothing was begun.
    TooSoon {
        /// Until it may be wished again.
        wait: Duration,
    },
}

/// A live stream.
#[derive(Clone, Debug)]
pub struct StreamStatus {
    /// Its id, the same at both ends.
    pub stream: StreamId,
    /// The other end.
    pub peer: PeerId,
    /// What it is for.
    pub service: Service,
    /// Who opened it.
    pub direction: Direction,
    /// The path that carries it now; while it waits for one, the last.
    pub path: Path,
    /// No connection carries it, and it waits for one.
    pub waits: bool,
    /// How often it moved, up to the number of moves that are remembered.
    pub moves: usize,
    /// Bytes of payload sent, directly and through relays.
    pub sent_bytes: ByPath,
    /// Likewise received.
    pub received_bytes: ByPath,
}

/// Bytes by path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByPath {
    /// On direct connections.
    pub direct: u64,
    /// Through relays.
    pub relayed: u64,
}

//! What happened, in one vocabulary: logs, metrics, reports and tests all come from these.
//!
//! Serialised, an event is one JSON object whose `"event"` field is its name in snake case; whoever
//! writes it down adds `"ts"`. `design/events.md` shows one example of each.

mod network;
mod refused;
mod upgrade;
mod waiting;
mod written;

use std::{net::IpAddr, time::SystemTime};

use libp2p::{Multiaddr, PeerId};
use serde::Serialize;

use self::written::{rfc3339, text, ways};

use crate::{
    addr::{RefusedAddresses, RelayName},
    error::{
        CloseCause, DialFailureReason, Family, ListenFailure, OpenError, Refusal, Tried, TriedWay,
        UpgradeFailure,
    },
    nat::{Filtering, Mapping, NatKind},
    path::{ConnectionId, Direction, Path, Transport},
    service::Service,
    status::Health,
    stream::StreamId,
};

pub use self::{
    network::{Blocked, CandidateSource, LetsIn, MappingFault, MappingProtocol},
    refused::{Asked, LimitOwner},
    upgrade::{Rung, UpgradeCount},
    waiting::{Awaited, Waiting},
};

/// Something that happened to this node.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The node accepts connections on `address`.
    Listening {
        /// Where, with the real port.
        address: Multiaddr,
    },
    /// The node does not listen on `address`, which it was to, and goes on without. Said once, at the start.
    ListenFailed {
        /// Where it was to listen.
        address: Multiaddr,
        /// Why it does not, and what to do.
        cause: ListenFailure,
    },
    /// The relay keeps a place for us: we are reachable under `address`. Said again at each renewal.
    ReservationHeld {
        /// The relay.
        relay: PeerId,
        /// The circuit address that leads to us.
        address: Multiaddr,
        /// When it lapses unless renewed; absent when the relay did not announce its duration.
        #[serde(serialize_with = "rfc3339")]
        expires: Option<SystemTime>,
        /// Most bytes the relay forwards for one circuit; absent when it announces no limit.
        circuit_bytes_max: Option<u64>,
        /// Longest life of one circuit in seconds; absent when it announces no limit.
        circuit_seconds_max: Option<u64>,
    },
    /// We are no longer reachable through this relay; the node tries again by itself.
    ReservationLost {
        /// The relay.
        relay: PeerId,
        /// Why, as far as we can know.
        cause: String,
    },
    /// No reservation was had; the node tries again by itself. Said at the first failure and then ever
    /// more rarely.
    ReservationFailed {
        /// The relay.
        relay: PeerId,
        /// Why.
        cause: String,
        /// Attempts that failed since it was last held.
        failures: u32,
    },
    /// A name stands for these relays, or for others than before.
    RelayNameResolved {
        /// The name.
        name: RelayName,
        /// Each by its identity.
        relays: Vec<PeerId>,
    },
    /// It is not known which relays a name stands for; the node looks again by itself. Said at the first failure and then
    /// ever more rarely, and not while a relay serves that it stood for.
    RelayNameFailed {
        /// The name.
        name: RelayName,
        /// Why, and what to do.
        cause: String,
        /// In a row.
        failures: u32,
    },
    /// The relay's clock and ours differ by more than a minute and a half. Reservations go by durations and
    /// are not disturbed; tickets that expire go by this clock.
    ClockDiffers {
        /// The relay.
        relay: PeerId,
        /// How many seconds it is ahead of us; negative if behind.
        seconds: i64,
    },
    /// This network seems to block what would lead to a relay. Either its addresses over `transports` were dialled and
    /// did not answer, and a WebSocket did; or it is there over TCP, and does not answer STUN, as it says that it
    /// does. Said once, and again when it is otherwise.
    NetworkBlocks {
        /// The relay.
        relay: PeerId,
        /// What did not get through.
        transports: Vec<Transport>,
        /// What follows from it.
        what: Blocked,
    },
    /// An address under which this node may be reachable, offered to peers for hole punching.
    CandidateFound {
        /// Exactly as observed: address and port as the outside sees them.
        address: Multiaddr,
        /// Who observed it.
        source: CandidateSource,
    },
    /// Our router forwards a port to us, or over IPv6 lets everybody in at it: whoever dials `address` reaches this
    /// node. Said again when the address changes.
    PortMapped {
        /// Which of the ports that we listen on.
        transport: Transport,
        /// Where the router takes connections for us.
        address: Multiaddr,
        /// How it was asked.
        protocol: MappingProtocol,
    },
    /// The router no longer does so, or we are no longer behind it. The node asks again by itself.
    PortMappingLost {
        /// Which of the ports that we listen on.
        transport: Transport,
        /// Where the router took connections for us.
        address: Multiaddr,
    },
    /// Our router forwards a port to us from an address where nobody can come, so it is no candidate. Said once for
    /// all ports.
    PortMappingUnusable {
        /// Which of the ports that we listen on.
        transport: Transport,
        /// Where the router takes connections for us.
        address: Multiaddr,
        /// How it was asked.
        protocol: MappingProtocol,
        /// Why nobody comes there, and what to do.
        cause: MappingFault,
    },
    /// A relay that is to hold a place for this node does better or worse than was said before.
    RelayHealth {
        /// Which relay.
        relay: PeerId,
        /// How it does.
        health: Health,
        /// How it did before.
        was: Health,
    },
    /// What kind of NAT this node is behind is known, or is another than was said before. Each family of addresses is
    /// told of by itself.
    NatFound {
        /// Of which addresses.
        #[serde(serialize_with = "text")]
        family: Family,
        /// How ports are mapped; absent if not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        mapping: Option<Mapping>,
        /// What is let in; absent if not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        filtering: Option<Filtering>,
        /// Both in words.
        #[serde(serialize_with = "text")]
        nat: NatKind,
        /// The address that others see; absent if not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        public_address: Option<IpAddr>,
        /// How many relays and servers it was learnt from; two ports of one server count as two.
        observers: u32,
    },
    /// A relay dialled an address of ours and reached us: it is an external address. Said again when `lets_in` changes.
    AddressConfirmed {
        /// Which address.
        address: Multiaddr,
        /// The relay.
        server: PeerId,
        /// Who else gets in there, as far as that proves it.
        lets_in: LetsIn,
    },
    /// An address of ours that was confirmed is no external address any more: relays no longer reach us there, or it is
    /// gone.
    AddressWithdrawn {
        /// Which address.
        address: Multiaddr,
    },
    /// A relay dialled an address that the operator states, and found nobody. It is told to peers all the same. Said once,
    /// until `address_confirmed` says otherwise.
    ExternalUnanswered {
        /// Which address.
        address: Multiaddr,
        /// The relay.
        relay: PeerId,
        /// Where this host is to be sent what comes there; absent if it does not listen over that transport and family.
        #[serde(skip_serializing_if = "Option::is_none")]
        listener: Option<Multiaddr>,
    },
    /// A connection is up.
    ConnectionOpened {
        /// The other end.
        peer: PeerId,
        /// Its id, unique in this process.
        connection: ConnectionId,
        /// Direct or relayed.
        path: Path,
        /// The relay in the middle, if relayed.
        #[serde(skip_serializing_if = "Option::is_none")]
        relay: Option<PeerId>,
        /// Who dialled.
        direction: Direction,
        /// What carries it (for a relayed one: our link to the relay).
        transport: Transport,
        /// The peer's address as we know it.
        address: Multiaddr,
        /// Most bytes that the relay forwards on it; absent if it announced no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        circuit_bytes_max: Option<u64>,
        /// Longest life in seconds that the relay gives it; absent if it announced no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        circuit_seconds_max: Option<u64>,
    },
    /// A connection ended.
    ConnectionClosed {
        /// The other end.
        peer: PeerId,
        /// Its id.
        connection: ConnectionId,
        /// Direct or relayed.
        path: Path,
        /// Why.
        cause: CloseCause,
    },
    /// A peer that was reached over a relay is now reached directly.
    UpgradeSucceeded {
        /// The other end.
        peer: PeerId,
        /// The direct connection.
        connection: ConnectionId,
        /// What carries it.
        transport: Transport,
        /// Milliseconds since the relayed connection opened.
        took_ms: u64,
        /// Hole punches that it took, this one included, as far as this end saw them.
        attempts: u32,
        /// How it came about, as far as this end knows.
        rung: Rung,
        /// What this node is behind.
        #[serde(serialize_with = "text")]
        local_nat: NatKind,
        /// What the peer is behind, as it says.
        #[serde(serialize_with = "text")]
        remote_nat: NatKind,
    },
    /// This end dials a peer that it reaches only through relays.
    UpgradeAttempted {
        /// The other end.
        peer: PeerId,
        /// How.
        rung: Rung,
        /// Hole punches so far, this one included.
        attempt: u32,
        /// Where.
        addresses: Vec<Multiaddr>,
    },
    /// The direct path could not be had; the relayed connection stays in use.
    UpgradeFailed {
        /// The other end.
        peer: PeerId,
        /// Why.
        reason: UpgradeFailure,
        /// Hole punches that failed, as far as this end saw them.
        attempts: u32,
        /// What this node is behind.
        #[serde(serialize_with = "text")]
        local_nat: NatKind,
        /// What the peer is behind, as it says.
        #[serde(serialize_with = "text")]
        remote_nat: NatKind,
        /// The addresses that were dialled since the last such event, each with its latest outcome; 16 at most.
        tried: Vec<Tried>,
        /// Seconds until this end begins another attempt; absent if that is for the peer to do.
        #[serde(skip_serializing_if = "Option::is_none")]
        again_seconds: Option<u64>,
    },
    /// A peer named addresses that this node does not dial.
    CandidatesRefused {
        /// Who named them.
        peer: PeerId,
        /// How many may be dialled.
        allowed: u32,
        /// How many may not, by reason.
        refused: RefusedAddresses,
    },
    /// A stream is ready for bytes.
    StreamOpened {
        /// The other end.
        peer: PeerId,
        /// Its id, the same at both ends.
        stream: StreamId,
        /// What it is for.
        service: Service,
        /// The path it starts on.
        path: Path,
        /// The relay in the middle, if that path is relayed.
        #[serde(skip_serializing_if = "Option::is_none")]
        relay: Option<PeerId>,
        /// Who opened it.
        direction: Direction,
    },
    /// A stream runs over another connection now; nothing was lost or doubled.
    StreamMoved {
        /// The other end.
        peer: PeerId,
        /// Its id.
        stream: StreamId,
        /// The path before.
        from: Path,
        /// The path since.
        to: Path,
        /// The relay in the middle, if that path is relayed.
        #[serde(skip_serializing_if = "Option::is_none")]
        relay: Option<PeerId>,
        /// Milliseconds in which nothing could flow, as far as this end can tell.
        gap_ms: f64,
        /// How the connection before was lost; absent if it was left for a better one.
        cause: Option<String>,
    },
    /// A stream ended.
    StreamClosed {
        /// The other end.
        peer: PeerId,
        /// Its id.
        stream: StreamId,
        /// What it was for.
        service: Service,
        /// How it ended.
        cause: StreamEnd,
        /// Bytes of payload sent on direct connections.
        sent_direct_bytes: u64,
        /// Bytes of payload sent through relays.
        sent_relayed_bytes: u64,
        /// Bytes of payload received on direct connections.
        received_direct_bytes: u64,
        /// Bytes of payload received through relays.
        received_relayed_bytes: u64,
    },
    /// A stream was turned away: ours by the peer, or a peer's because nobody serves it here. What a
    /// program refuses after a request of its own, it reports itself.
    StreamRefused {
        /// The other end.
        peer: PeerId,
        /// What was asked for.
        service: Service,
        /// What the refused end is told.
        reason: Refusal,
        /// Who asked: outbound is us.
        direction: Direction,
    },
    /// A peer that a connection is to be kept to cannot be reached; the node tries again by itself.
    PeerUnreachable {
        /// Who.
        peer: PeerId,
        /// Each way that was tried, with its failure.
        #[serde(serialize_with = "ways")]
        reason: OpenError,
        /// How often in a row.
        failures: u32,
        /// Milliseconds until the next attempt.
        retry_in_ms: u64,
    },
    /// A program of ours waits for a peer, or this node for a place at a relay: said after 10 s, and then ever more rarely.
    Waiting(Waiting),
    /// One way to a peer failed, while another is tried or has led to it.
    WayFailed {
        /// Who.
        peer: PeerId,
        /// The addresses that were known, or the relay.
        #[serde(serialize_with = "text")]
        way: TriedWay,
        /// Why.
        #[serde(serialize_with = "text")]
        reason: DialFailureReason,
    },
    /// A peer asked for more than a limit allows and was turned away.
    Refused {
        /// Who, if it is known already.
        peer: Option<PeerId>,
        /// What it asked for.
        what: Asked,
        /// The limit, as a count.
        limit: u64,
        /// Whose limit it is, where there are several for the same thing.
        #[serde(skip_serializing_if = "Option::is_none")]
        whose: Option<LimitOwner>,
        /// How often since the last such event; `peer` and `limit` are of the latest.
        count: u64,
    },
    /// This relay keeps a place for a peer.
    ReservationAccepted {
        /// Who may now be reached through us.
        peer: PeerId,
        /// Whether it had one already.
        renewed: bool,
    },
    /// This relay no longer keeps a place for a peer.
    ReservationEnded {
        /// Whose place it was.
        peer: PeerId,
    },
    /// This relay forwards between two peers.
    CircuitOpened {
        /// Who asked for it.
        source: PeerId,
        /// Whom it reached.
        destination: PeerId,
    },
    /// This relay stopped forwarding between two peers.
    CircuitClosed {
        /// Who asked for it.
        source: PeerId,
        /// Whom it reached.
        destination: PeerId,
        /// Why, if it did not simply end.
        cause: Option<String>,
        /// Bytes that were forwarded, both directions added up.
        bytes: u64,
    },
    /// Payload that this relay has carried since its start, in all substreams of all connections: its
    /// own talk with peers, and each forwarded byte once in each direction. Said every second in
    /// which it grew, and at the end.
    RelayTraffic {
        /// Bytes that came in.
        received_bytes: u64,
        /// Bytes that went out.
        sent_bytes: u64,
        /// Of these, what circuits carried: each forwarded byte once.
        forwarded_bytes: u64,
    },
    /// A peer came to this relay at an address that it did not know of, and that others may use from now on.
    ExternalFound {
        /// With the relay's identity, as peers are to be told it.
        address: Multiaddr,
    },
    /// This relay answers STUN.
    StunListening {
        /// Where, with the real port.
        address: Multiaddr,
        /// The port that answers come from if a client asks for another one; absent if there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        other_port: Option<u16>,
    },
    /// At the end of a node: how often upgrades of one kind came to one thing. Said for each that there was.
    UpgradesCounted(UpgradeCount),
    /// The node has closed everything.
    Stopped {},
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamEnd {
    /// Both directions were finished, and both ends know it.
    Finished,
    /// This end let go of it before that.
    Dropped,
    /// The peer ended it.
    Reset,
    /// No path came back in time.
    PathLost,
    /// The peer broke the protocol.
    Violation,
}

#[cfg(test)]
mod tests;

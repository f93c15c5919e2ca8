//! Peers, paths and events that examples are made of.

use libp2p::Multiaddr;
use punchline_bridge::{
    Event as Net, Path, Service, StreamId,
    error::{
        CloseCause, DialFailure, DialFailureReason, DialFailures, OpenError, Refusal, TriedWay,
        UpgradeFailure,
    },
    event::{Asked, Awaited, LimitOwner, Rung, Waiting},
    nat::NatKind,
    path::{ConnectionId, Direction, Transport},
    status::Health,
};

use super::*;

const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
const RELAY: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

pub(in crate::report::sentence) fn peer() -> PeerId {
    PEER.parse().unwrap()
}

pub(in crate::report::sentence) fn relay() -> PeerId {
    RELAY.parse().unwrap()
}

pub(in crate::report::sentence) fn service() -> Service {
    "web".parse().unwrap()
}

pub(in crate::report::sentence) fn at(address: &str) -> Multiaddr {
    address.parse().unwrap()
}

pub(in crate::report::sentence) fn own() -> Multiaddr {
    at("/ip4/198.51.100.4/tcp/41563")
}

pub(in crate::report::sentence) fn connection() -> ConnectionId {
    serde_json::from_str("\"2\"").unwrap()
}

pub(in crate::report::sentence) fn relayed() -> Path {
    Path::Relayed { relay: relay() }
}

pub(in crate::report::sentence) fn opened(path: Path) -> Net {
    Net::ConnectionOpened {
        peer: peer(),
        connection: connection(),
        path,
        relay: path.relay(),
        direction: Direction::Outbound,
        transport: Transport::Tcp,
        address: at("/ip4/203.0.113.9/tcp/35000"),
        circuit_bytes_max: None,
        circuit_seconds_max: None,
    }
}

pub(in crate::report::sentence) fn closed(path: Path) -> Net {
    let cause = CloseCause::Peer;
    Net::ConnectionClosed { peer: peer(), connection: connection(), path, cause }
}

pub(in crate::report::sentence) fn succeeded() -> Net {
    Net::UpgradeSucceeded {
        peer: peer(),
        connection: connection(),
        transport: Transport::Tcp,
        took_ms: 6,
        attempts: 1,
        rung: Rung::Punch,
        local_nat: NatKind::default(),
        remote_nat: NatKind::default(),
    }
}

pub(in crate::report::sentence) fn failed() -> Net {
    let failures = DialFailures { timed_out: 4, ..DialFailures::default() };
    Net::UpgradeFailed {
        peer: peer(),
        reason: UpgradeFailure::PunchFailed { failures },
        attempts: 4,
        local_nat: NatKind::default(),
        remote_nat: NatKind::default(),
        tried: Vec::new(),
        again_seconds: Some(26),
    }
}

pub(in crate::report::sentence) fn held() -> Net {
    Net::ReservationHeld {
        relay: relay(),
        address: own(),
        expires: None,
        circuit_bytes_max: None,
        circuit_seconds_max: None,
    }
}

pub(in crate::report::sentence) fn stream_opened(direction: Direction) -> Net {
    let (stream, path) = (StreamId::from_bytes([1; 16]), Path::Direct);
    Net::StreamOpened { peer: peer(), stream, service: service(), path, relay: None, direction }
}

pub(in crate::report::sentence) fn stream_refused(direction: Direction) -> Net {
    Net::StreamRefused { peer: peer(), service: service(), reason: Refusal::NotServed, direction }
}

pub(in crate::report::sentence) fn refused(what: Asked, whose: Option<LimitOwner>) -> Net {
    Net::Refused { peer: None, what, limit: 256, whose, count: 412 }
}

pub(in crate::report::sentence) fn accepted(renewed: bool) -> Net {
    Net::ReservationAccepted { peer: peer(), renewed }
}

pub(in crate::report::sentence) fn circuit_closed() -> Net {
    Net::CircuitClosed { source: peer(), destination: relay(), cause: None, bytes: 2048 }
}

pub(in crate::report::sentence) fn health(health: Health) -> Net {
    Net::RelayHealth { relay: relay(), health, was: Health::Degraded }
}

pub(in crate::report::sentence) fn traffic() -> Net {
    Net::RelayTraffic { received_bytes: 1, sent_bytes: 1, forwarded_bytes: 0 }
}

pub(in crate::report::sentence) fn waiting(awaits: Vec<Awaited>) -> Net {
    Net::Waiting(Waiting { peer: peer(), waited_ms: 10_000, awaits })
}

/// By two addresses, and through a relay.
pub(in crate::report::sentence) fn unreachable() -> OpenError {
    let direct = ["/ip4/203.0.113.9/tcp/35000", "/ip4/203.0.113.9/udp/35000/quic-v1"].map(at);
    let through = format!("/ip4/198.51.100.2/tcp/4001/p2p/{RELAY}").parse().unwrap();
    let (deadline, direct) = (Duration::from_secs(10), direct.to_vec());
    let causes = vec![
        DialFailure { way: TriedWay::Direct(direct), reason: DialFailureReason::Deadline { deadline } },
        DialFailure { way: TriedWay::Relay(through), reason: DialFailureReason::NoReservation },
    ];
    OpenError::NoRouteToDestination { peer: peer(), tried: causes }
}

//! A node's status as it is said on the control socket.

mod offers;

use std::{sync::Arc, time::Duration};

use libp2p::PeerId;
use punchline_bridge::{
    Path, RelayLocator,
    nat::NatKind,
    path::{Direction, Transport},
    relay,
    status::{
        AddressSource, CandidateStatus, ConnectionStatus, ExternalState, ExternalStatus, LimitStatus,
        PeerStatus, Pong, RelayNameStatus, RelayState, RelayStatus, Status, StreamStatus, WaitStatus,
    },
};

use super::{
    offers::{Forwarded, Offered},
    proto,
};
use crate::names::Names;

/// What is told besides the node's own status.
pub(super) struct Told {
    pub(super) command: &'static str,
    /// What keeps the node from being usable.
    pub(super) hindrance: Option<String>,
    pub(super) names: Names,
    /// The relays that the operator named.
    pub(super) named: Arc<[RelayLocator]>,
    pub(super) services: Vec<Offered>,
    pub(super) forwards: Vec<Forwarded>,
}

pub(super) fn status(status: &Status, told: Told) -> proto::Status {
    let Told { command, hindrance, names, named, services, forwards } = told;
    let services = services.into_iter().map(|offered| offers::service(offered, status, &names));
    let forwards = forwards.into_iter().map(|forward| offers::forward(forward, status, &names));
    proto::Status {
        peer: status.peer.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: crate::commit().map(str::to_owned),
        command: command.to_owned(),
        uptime_seconds: status.uptime.as_secs_f64(),
        listening: status.listening.iter().map(ToString::to_string).collect(),
        candidates: status.candidates.iter().map(candidate).collect(),
        external: status.external.iter().map(external).collect(),
        nat: nat(status.nat_v4),
        nat_v6: nat(status.nat_v6),
        relays: status.relays.iter().map(|relay| relay_used(relay, &names)).collect(),
        relay_names: status.relay_names.iter().map(relay_name).collect(),
        peers: status.peers.iter().map(|found| peer(found, &status.streams, &names)).collect(),
        streams: status.streams.iter().map(stream).collect(),
        hindrance: hindrance.map(|why| names.in_text(&why)),
        services: services.collect(),
        forwards: forwards.collect(),
        limits: status.limits.iter().map(limit).collect(),
        relaying: None,
        named_relays: named.iter().map(ToString::to_string).collect(),
        waits: status.waits.iter().map(|found| wait(found, &names)).collect(),
        dht: None,
        mainline: None,
        verification: None,
    }
}

/// What the peer is called here.
fn name(names: &Names, peer: PeerId) -> Option<String> {
    names.of(peer).map(ToString::to_string)
}

/// Likewise of a relay.
pub(super) fn relay_status(status: &relay::Status, hindrance: Option<String>) -> proto::Status {
    let relay::Load { connections, reservations, kept, circuits, circuits_waiting } = status.load;
    let relaying = proto::Relaying {
        external: status.external.iter().map(ToString::to_string).collect(),
        stun: status.stun.iter().map(ToString::to_string).collect(),
        connections: connections as u32,
        reservations: reservations as u32,
        kept: kept as u32,
        circuits: circuits as u32,
        circuits_waiting: circuits_waiting as u32,
        received_bytes: status.received_bytes,
        sent_bytes: status.sent_bytes,
        forwarded_bytes: status.forwarded_bytes,
    };
    proto::Status {
        peer: status.peer.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: crate::commit().map(str::to_owned),
        command: "relay".to_owned(),
        uptime_seconds: status.uptime.as_secs_f64(),
        listening: status.listening.iter().map(ToString::to_string).collect(),
        hindrance,
        limits: status.limits.iter().map(limit).collect(),
        relaying: Some(relaying),
        ..proto::Status::default()
    }
}

fn wait(wait: &WaitStatus, names: &Names) -> proto::Wait {
    proto::Wait {
        peer: wait.peer.to_string(),
        name: name(names, wait.peer),
        waited_seconds: wait.waited.as_secs_f64(),
        awaits: wait.awaits.iter().map(|awaited| names.in_text(&awaited.to_string())).collect(),
    }
}

fn limit(found: &LimitStatus) -> proto::Limit {
    proto::Limit { what: found.what.to_owned(), used: found.used, limit: found.limit }
}

/// Empty for what is not known.
fn nat(kind: NatKind) -> String {
    if kind == NatKind::default() { String::new() } else { kind.to_string() }
}

fn candidate(candidate: &CandidateStatus) -> proto::Candidate {
    let source = match candidate.source {
        AddressSource::Operator => "operator",
        AddressSource::Router => "router",
        AddressSource::Confirmed => "confirmed",
        AddressSource::Relay => "relay",
        AddressSource::Interface => "interface",
    };
    proto::Candidate { address: candidate.address.to_string(), source: source.to_owned() }
}

fn external(one: &ExternalStatus) -> proto::External {
    let (state, relay) = match one.state {
        ExternalState::Unchecked => ("unchecked", None),
        ExternalState::Confirmed => ("confirmed", None),
        ExternalState::Unanswered { relay } => ("unanswered", Some(relay.to_string())),
    };
    proto::External {
        address: one.address.to_string(),
        state: state.to_owned(),
        relay,
        listener: one.listener.as_ref().map(ToString::to_string),
    }
}

fn relay_used(relay: &RelayStatus, names: &Names) -> proto::Relay {
    let (state, reservation, retry) = match relay.state {
        RelayState::Down { retry } => ("down", None, retry),
        RelayState::Connecting => ("connecting", None, None),
        RelayState::Connected => ("connected", None, None),
        RelayState::Reserved { lasts } => ("reserved", Some(lasts), None),
    };
    proto::Relay {
        relay: relay.relay.to_string(),
        addresses: relay.addresses.iter().map(|relay| relay.address().to_string()).collect(),
        state: state.to_owned(),
        transport: relay.transport.map(transport),
        round_trip_ms: relay.round_trip.map(ms),
        reservation_seconds: reservation.map(|lasts| lasts.as_secs_f64()),
        retry_seconds: retry.map(|retry| retry.as_secs_f64()),
        failures: relay.failures,
        last_error: relay.last_error.as_ref().map(|error| names.in_text(&error.to_string())),
        wanted: relay.wanted,
        health: relay.health.health.to_string(),
        heard_seconds: relay.health.heard.map(|heard| heard.as_secs_f64()),
        round_trip_median_ms: relay.health.median.map(ms),
        round_trip_p95_ms: relay.health.p95.map(ms),
        name: name(names, relay.relay),
    }
}

fn relay_name(name: &RelayNameStatus) -> proto::RelayName {
    proto::RelayName {
        name: name.name.to_string(),
        relays: name.relays.iter().map(ToString::to_string).collect(),
        wanted: name.wanted,
        failures: name.failures,
        last_error: name.last_error.clone(),
        retry_seconds: name.retry.map(|retry| retry.as_secs_f64()),
    }
}

fn peer(peer: &PeerStatus, streams: &[StreamStatus], names: &Names) -> proto::Peer {
    let streams: Vec<_> = streams.iter().filter(|stream| stream.peer == peer.peer).collect();
    let sum = |bytes: fn(&StreamStatus) -> u64| streams.iter().map(|stream| bytes(stream)).sum();
    let best = peer.connections.first();
    proto::Peer {
        peer: peer.peer.to_string(),
        path: path(peer.path),
        relay: relay_of(peer.path),
        transport: best.map(|best| transport(best.transport)).unwrap_or_default(),
        address: best.map(|best| best.address.to_string()).unwrap_or_default(),
        round_trip_ms: best.and_then(|best| best.round_trip).map(ms),
        why_relayed: peer.why_relayed.as_ref().map(ToString::to_string),
        next_attempt_seconds: peer.next_attempt.map(|next| next.as_secs_f64()),
        streams: streams.len() as u32,
        sent_direct_bytes: sum(|stream| stream.sent_bytes.direct),
        sent_relayed_bytes: sum(|stream| stream.sent_bytes.relayed),
        received_direct_bytes: sum(|stream| stream.received_bytes.direct),
        received_relayed_bytes: sum(|stream| stream.received_bytes.relayed),
        connections: peer.connections.iter().map(|found| connection(found, names)).collect(),
        name: name(names, peer.peer),
    }
}

fn connection(connection: &ConnectionStatus, names: &Names) -> proto::Connection {
    proto::Connection {
        connection: connection.connection.to_string(),
        path: path(connection.path),
        relay: relay_of(connection.path),
        transport: transport(connection.transport),
        direction: direction(connection.direction),
        address: connection.address.to_string(),
        round_trip_ms: connection.round_trip.map(ms),
        age_seconds: connection.age.as_secs_f64(),
        users: connection.users as u32,
        relay_name: connection.path.relay().and_then(|relay| name(names, relay)),
    }
}

pub(super) fn pong(pong: &Pong, names: &Names) -> proto::Pong {
    proto::Pong { round_trip_ms: ms(pong.took), connection: Some(connection(&pong.connection, names)) }
}

fn stream(stream: &StreamStatus) -> proto::Stream {
    proto::Stream {
        stream: stream.stream.to_string(),
        peer: stream.peer.to_string(),
        service: stream.service.to_string(),
        direction: direction(stream.direction),
        path: path(stream.path),
        relay: relay_of(stream.path),
        waits: stream.waits,
        moves: stream.moves as u32,
        sent_direct_bytes: stream.sent_bytes.direct,
        sent_relayed_bytes: stream.sent_bytes.relayed,
        received_direct_bytes: stream.received_bytes.direct,
        received_relayed_bytes: stream.received_bytes.relayed,
    }
}

fn path(path: Path) -> String {
    if path.is_direct() { "direct" } else { "relayed" }.to_owned()
}

fn relay_of(path: Path) -> Option<String> {
    path.relay().map(|relay| relay.to_string())
}

fn transport(transport: Transport) -> String {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Quic => "quic",
        Transport::Websocket => "websocket",
    }
    .to_owned()
}

fn direction(direction: Direction) -> String {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
    .to_owned()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

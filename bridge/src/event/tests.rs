#![allow(clippy::unwrap_used)]
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::*;
use crate::{
    error::{DialFailure, DialFailures, DialOutcome, Family},
    nat::{Filtering, Mapping, NatClass},
};

fn relay() -> PeerId {
    "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN".parse().unwrap()
}

fn peer() -> PeerId {
    "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp".parse().unwrap()
}

fn connection(id: usize) -> ConnectionId {
    ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(id))
}

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

const PORT_RESTRICTED: NatKind = NatKind {
    mapping: Some(Mapping::EndpointIndependent),
    filtering: Some(Filtering::AddressAndPortDependent),
};

/// One of each kind; `position` does not compile when a kind is missing there.
fn examples() -> Vec<Event> {
    let relayed = Path::Relayed { relay: relay() };
    let stream = StreamId::from_bytes([0x5e; 16]);
    let service: Service = "kaspa-p2p".parse().unwrap();
    let circuit = format!("/ip4/203.0.113.7/tcp/4001/p2p/{}/p2p-circuit/p2p/{}", relay(), peer());
    vec![
        Event::Listening { address: address("/ip4/192.168.1.2/tcp/41563") },
        Event::ReservationHeld {
            relay: relay(),
            address: address(&circuit),
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
            circuit_bytes_max: Some(1 << 30),
            circuit_seconds_max: Some(7200),
        },
        Event::ReservationLost { relay: relay(), cause: "closed by the peer".to_owned() },
        Event::ReservationFailed {
            relay: relay(),
            cause: "the relay refused it".to_owned(),
            failures: 1,
        },
        Event::ClockDiffers { relay: relay(), seconds: -3604 },
        Event::CandidateFound {
            address: address("/ip4/198.51.100.4/tcp/35000"),
            source: CandidateSource::Relay { relay: relay() },
        },
        Event::ConnectionOpened {
            peer: peer(),
            connection: connection(2),
            path: relayed,
            relay: Some(relay()),
            direction: Direction::Outbound,
            transport: Transport::Tcp,
            address: address(&circuit),
            circuit_bytes_max: Some(1 << 30),
            circuit_seconds_max: Some(7200),
        },
        Event::ConnectionClosed {
            peer: peer(),
            connection: connection(2),
            path: relayed,
            cause: CloseCause::Unused,
        },
        Event::UpgradeSucceeded {
            peer: peer(),
            connection: connection(3),
            transport: Transport::Tcp,
            took_ms: 27,
            attempts: 1,
            rung: Rung::Punch,
            local_nat: PORT_RESTRICTED,
            remote_nat: NatKind::default(),
        },
        Event::UpgradeFailed {
            peer: peer(),
            reason: UpgradeFailure::PunchFailed {
                failures: DialFailures { timed_out: 4, ..DialFailures::default() },
            },
            attempts: 4,
            local_nat: PORT_RESTRICTED,
            remote_nat: NatKind::default(),
            tried: vec![Tried {
                address: address("/ip4/203.0.113.9/tcp/35000"),
                outcome: DialOutcome::TimedOut,
            }],
            again_seconds: Some(26),
        },
        Event::CandidatesRefused {
            peer: peer(),
            allowed: 2,
            refused: RefusedAddresses { unusable: 0, forbidden: 1, private: 3, surplus: 0, denied: 0 },
        },
        Event::StreamOpened {
            peer: peer(),
            stream,
            service: service.clone(),
            path: relayed,
            relay: relayed.relay(),
            direction: Direction::Outbound,
        },
        Event::StreamMoved {
            peer: peer(),
            stream,
            from: relayed,
            to: Path::Direct,
            relay: None,
            gap_ms: 0.4,
            cause: None,
        },
        Event::StreamClosed {
            peer: peer(),
            stream,
            service,
            cause: StreamEnd::Finished,
            sent_direct_bytes: 70_881_000,
            sent_relayed_bytes: 467,
            received_direct_bytes: 745,
            received_relayed_bytes: 395,
        },
        Event::StreamRefused {
            peer: peer(),
            service: "kaspad".parse().unwrap(),
            reason: Refusal::NotServed,
            direction: Direction::Outbound,
        },
        Event::PeerUnreachable {
            peer: peer(),
            reason: OpenError::NoRouteToDestination {
                peer: peer(),
                tried: vec![DialFailure {
                    way: TriedWay::Relay(
                        format!("/ip4/203.0.113.7/tcp/4001/p2p/{}", relay()).parse().unwrap(),
                    ),
                    reason: DialFailureReason::NoReservation,
                }],
            },
            failures: 1,
            retry_in_ms: 500,
        },
        Event::Refused { peer: Some(peer()), what: Asked::Stream, limit: 256, whose: None, count: 1 },
        Event::ReservationAccepted { peer: peer(), renewed: false },
        Event::ReservationEnded { peer: peer() },
        Event::CircuitOpened { source: peer(), destination: relay() },
        Event::CircuitClosed { source: peer(), destination: relay(), cause: None, bytes: 912_384 },
        Event::RelayTraffic { received_bytes: 5580, sent_bytes: 5574, forwarded_bytes: 1200 },
        Event::Stopped {},
        Event::ListenFailed {
            address: address("/ip6/::/tcp/0"),
            cause: ListenFailure::NoAddress { family: Family::V6 },
        },
        Event::PortMapped {
            transport: Transport::Quic,
            address: address("/ip4/198.51.100.4/udp/41563/quic-v1"),
            protocol: MappingProtocol::NatPmp,
        },
        Event::PortMappingLost {
            transport: Transport::Quic,
            address: address("/ip4/198.51.100.4/udp/41563/quic-v1"),
        },
        Event::PortMappingUnusable {
            transport: Transport::Tcp,
            address: address("/ip4/100.64.3.4/tcp/41563"),
            protocol: MappingProtocol::Upnp,
            cause: MappingFault::BehindNat,
        },
        Event::UpgradeAttempted {
            peer: peer(),
            rung: Rung::Punch,
            attempt: 1,
            addresses: vec![address("/ip4/203.0.113.9/tcp/35000")],
        },
        Event::NatFound {
            family: Family::V4,
            mapping: Some(Mapping::EndpointIndependent),
            filtering: Some(Filtering::AddressAndPortDependent),
            nat: PORT_RESTRICTED,
            public_address: Some([198, 51, 100, 4].into()),
            observers: 2,
        },
        Event::StunListening { address: address("/ip4/0.0.0.0/udp/3478"), other_port: Some(3479) },
        Event::AddressConfirmed {
            address: address("/ip4/198.51.100.4/tcp/41563"),
            server: peer(),
            lets_in: LetsIn::WhoWasSpokenTo,
        },
        Event::AddressWithdrawn { address: address("/ip4/198.51.100.4/tcp/41563") },
        Event::NetworkBlocks {
            relay: relay(),
            transports: vec![Transport::Tcp, Transport::Quic],
            what: Blocked::AllButWeb,
        },
        Event::UpgradesCounted(UpgradeCount {
            local_nat: NatClass::PortRestricted,
            remote_nat: NatClass::Unknown,
            transport: Transport::Tcp,
            rung: Rung::Punch,
            count: 12,
        }),
        Event::WayFailed {
            peer: peer(),
            way: TriedWay::Direct(vec![address("/ip4/203.0.113.9/tcp/35000")]),
            reason: DialFailureReason::Network { cause: "connection refused".to_owned() },
        },
        Event::RelayHealth { relay: relay(), health: Health::Down, was: Health::Degraded },
        Event::RelayNameResolved { name: "relay.example.org".parse().unwrap(), relays: vec![relay()] },
        Event::RelayNameFailed {
            name: "relay.example.org".parse().unwrap(),
            cause: "nobody answered".to_owned(),
            failures: 1,
        },
        Event::ExternalFound { address: address(&format!("/ip4/203.0.113.7/tcp/4001/p2p/{}", relay())) },
        Event::Waiting(Waiting {
            peer: peer(),
            waited_ms: 10_000,
            awaits: vec![
                Awaited::Dial { addresses: 2, names: Vec::new() },
                Awaited::RelayLink { relay: relay(), names: vec!["relay.example.org".to_owned()] },
            ],
        }),
        Event::ExternalUnanswered {
            address: address("/ip4/198.51.100.4/tcp/4001"),
            relay: relay(),
            listener: Some(address("/ip4/192.168.1.7/tcp/4001")),
        },
    ]
}

fn position(event: &Event) -> usize {
    match event {
        Event::Listening { .. } => 0,
        Event::ReservationHeld { .. } => 1,
        Event::ReservationLost { .. } => 2,
        Event::ReservationFailed { .. } => 3,
        Event::ClockDiffers { .. } => 4,
        Event::CandidateFound { .. } => 5,
        Event::ConnectionOpened { .. } => 6,
        Event::ConnectionClosed { .. } => 7,
        Event::UpgradeSucceeded { .. } => 8,
        Event::UpgradeFailed { .. } => 9,
        Event::CandidatesRefused { .. } => 10,
        Event::StreamOpened { .. } => 11,
        Event::StreamMoved { .. } => 12,
        Event::StreamClosed { .. } => 13,
        Event::StreamRefused { .. } => 14,
        Event::PeerUnreachable { .. } => 15,
        Event::Refused { .. } => 16,
        Event::ReservationAccepted { .. } => 17,
        Event::ReservationEnded { .. } => 18,
        Event::CircuitOpened { .. } => 19,
        Event::CircuitClosed { .. } => 20,
        Event::RelayTraffic { .. } => 21,
        Event::Stopped {} => 22,
        Event::ListenFailed { .. } => 23,
        Event::PortMapped { .. } => 24,
        Event::PortMappingLost { .. } => 25,
        Event::PortMappingUnusable { .. } => 26,
        Event::UpgradeAttempted { .. } => 27,
        Event::NatFound { .. } => 28,
        Event::StunListening { .. } => 29,
        Event::AddressConfirmed { .. } => 30,
        Event::AddressWithdrawn { .. } => 31,
        Event::NetworkBlocks { .. } => 32,
        Event::UpgradesCounted(..) => 33,
        Event::WayFailed { .. } => 34,
        Event::RelayHealth { .. } => 35,
        Event::RelayNameResolved { .. } => 36,
        Event::RelayNameFailed { .. } => 37,
        Event::ExternalFound { .. } => 38,
        Event::Waiting(..) => 39,
        Event::ExternalUnanswered { .. } => 40,
    }
}

#[test]
fn every_event_stands_in_the_document_as_it_is_written() {
    let document = include_str!("../../../design/events.md");
    let documented: Vec<Value> = document
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            let mut value: Value = serde_json::from_str(line).unwrap();
            value.as_object_mut().unwrap().remove("ts").expect("every event has a time");
            value
        })
        .collect();
    for (at, event) in examples().iter().enumerate() {
        assert_eq!(position(event), at);
        let written = serde_json::to_value(event).unwrap();
        assert!(documented.contains(&written), "not in design/events.md: {written}");
    }
}

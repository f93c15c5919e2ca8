//! Events and statuses in, numbers out.

use std::time::Duration;

use punchline_bridge::{
    error::{CloseCause, DialFailureReason, Refusal, TriedWay, UpgradeFailure},
    event::{Asked, LimitOwner, Rung, StreamEnd},
    nat::NatKind,
    path::{Direction, Transport},
    status::{
        ByPath, ConnectionStatus, Health, HealthStatus, LimitStatus, PeerStatus, RelayState,
        RelayStatus, StreamStatus,
    },
};

use super::*;
use crate::{gateway::event::Counted, report::Failure};

fn closed(peer: PeerId, stream: StreamId, sent_direct_bytes: u64) -> Event {
    Event::StreamClosed {
        peer,
        stream,
        service: "kaspad".parse().unwrap(),
        cause: StreamEnd::Finished,
        sent_direct_bytes,
        sent_relayed_bytes: 7,
        received_direct_bytes: 5,
        received_relayed_bytes: 3,
    }
}

fn alive(peer: PeerId, stream: StreamId, sent_direct_bytes: u64) -> StreamStatus {
    StreamStatus {
        stream,
        peer,
        service: "kaspad".parse().unwrap(),
        direction: Direction::Inbound,
        path: Path::Direct,
        waits: false,
        moves: 0,
        sent_bytes: ByPath { direct: sent_direct_bytes, relayed: 7 },
        received_bytes: ByPath::default(),
    }
}

pub(super) fn status(streams: Vec<StreamStatus>) -> Status {
    Status {
        waits: Vec::new(),
        peer: PeerId::random(),
        uptime: Duration::from_secs(90),
        listening: Vec::new(),
        candidates: Vec::new(),
        external: Vec::new(),
        nat_v4: NatKind::default(),
        nat_v6: NatKind::default(),
        blocked: None,
        relays: Vec::new(),
        relay_names: Vec::new(),
        peers: Vec::new(),
        streams,
        limits: vec![LimitStatus { what: "connections", used: 3, limit: 4096 }],
    }
}

pub(super) fn relay_status() -> relay::Status {
    let limit = |what, used| LimitStatus { what, used, limit: 1_024 };
    relay::Status {
        peer: PeerId::random(),
        uptime: Duration::ZERO,
        listening: Vec::new(),
        external: Vec::new(),
        stun: Vec::new(),
        load: relay::Load::default(),
        limits: vec![limit("reservations", 2), limit("circuits", 1)],
        received_bytes: 0,
        sent_bytes: 0,
        forwarded_bytes: 0,
    }
}

fn peer_over(transport: Transport, path: Path) -> PeerStatus {
    let connection = ConnectionStatus {
        connection: connection(1),
        path,
        transport,
        direction: Direction::Inbound,
        address: address(1),
        round_trip: Some(Duration::from_millis(20)),
        age: Duration::ZERO,
        users: 0,
    };
    let connections = vec![connection];
    let (why_relayed, next_attempt) = (None, None);
    PeerStatus { peer: PeerId::random(), familiar: true, path, connections, why_relayed, next_attempt }
}

#[test]
fn what_happens_is_counted_by_its_reason() {
    let metrics = Metrics::default();
    let (peer, kind) = (PeerId::random(), NatKind::default());
    metrics.record_all([
        Event::ConnectionOpened {
            peer,
            connection: connection(1),
            path: relayed(),
            relay: None,
            direction: Direction::Inbound,
            transport: Transport::Quic,
            address: address(1),
            circuit_bytes_max: None,
            circuit_seconds_max: None,
        },
        Event::ConnectionClosed {
            peer,
            connection: connection(1),
            path: relayed(),
            cause: CloseCause::Network { cause: "broken pipe".to_owned() },
        },
        Event::UpgradeSucceeded {
            peer,
            connection: connection(2),
            transport: Transport::Tcp,
            took_ms: 27,
            attempts: 1,
            rung: Rung::Punch,
            local_nat: kind,
            remote_nat: kind,
        },
        Event::UpgradeFailed {
            peer,
            reason: UpgradeFailure::NoCandidateThere,
            attempts: 4,
            local_nat: kind,
            remote_nat: kind,
            tried: Vec::new(),
            again_seconds: None,
        },
        Event::StreamMoved {
            peer,
            stream: stream(1),
            from: relayed(),
            to: Path::Direct,
            relay: None,
            gap_ms: 4.0,
            cause: None,
        },
        Event::Refused {
            peer: None,
            what: Asked::Connection,
            limit: 64,
            whose: Some(LimitOwner::Address),
            count: 12,
        },
        Event::WayFailed { peer, way: TriedWay::Named, reason: DialFailureReason::NoReservation },
    ]);
    let failed = GatewayEvent::ForwardFailed {
        peer,
        service: "kaspad".parse().unwrap(),
        reason: Failure::Other("no stream within 8 s".to_owned()),
    };
    metrics.record(&failed.into());
    let found = samples(&metrics, Part::Node);
    for (name, wanted) in [
        (r#"connections_opened_total{path="relayed",transport="quic",direction="inbound"}"#, 1.0),
        (r#"connections_closed_total{path="relayed",cause="network"}"#, 1.0),
        (r#"time_to_direct_seconds_sum{transport="tcp",rung="punch"}"#, 0.027),
        (r#"time_to_direct_seconds_bucket{le="0.025",transport="tcp",rung="punch"}"#, 0.0),
        (r#"time_to_direct_seconds_bucket{le="0.05",transport="tcp",rung="punch"}"#, 1.0),
        (r#"upgrades_failed_total{reason="no_candidate_there"}"#, 1.0),
        (r#"move_gap_seconds_sum{from="relayed",to="direct",cause="better_path"}"#, 0.004),
        (r#"refused_total{what="connection",whose="address"}"#, 12.0),
        (r#"ways_failed_total{reason="no_reservation"}"#, 1.0),
        (r#"opens_failed_total{reason="deadline"}"#, 1.0),
    ] {
        assert_eq!(found.get(&format!("punchline_{name}")), Some(&wanted), "{name} in {found:#?}");
    }
}

#[test]
fn strangers_make_no_series_however_many_come() {
    let (metrics, limits) = (Metrics::default(), Limits::default());
    metrics.observe(&status(Vec::new()), &limits, true);
    let before: Vec<String> = samples(&metrics, Part::Node).into_keys().collect();
    for number in 0..2_000 {
        let (peer, service) = (PeerId::random(), format!("service-{number}").parse().unwrap());
        metrics.record_all([
            Event::ConnectionOpened {
                peer,
                connection: connection(number),
                path: relayed(),
                relay: Some(PeerId::random()),
                direction: Direction::Inbound,
                transport: Transport::Tcp,
                address: address(number),
                circuit_bytes_max: None,
                circuit_seconds_max: None,
            },
            Event::ConnectionClosed {
                peer,
                connection: connection(number),
                path: relayed(),
                cause: CloseCause::Network { cause: format!("cause {number}") },
            },
            Event::StreamRefused {
                peer,
                service,
                reason: Refusal::NotServed,
                direction: Direction::Inbound,
            },
            Event::WayFailed {
                peer,
                way: TriedWay::Direct(vec![
                    format!("/ip4/203.0.113.1/tcp/{}", number % 65_535).parse().unwrap(),
                ]),
                reason: DialFailureReason::Network { cause: format!("cause {number}") },
            },
            Event::ReservationLost { relay: peer, cause: format!("cause {number}") },
            Event::CircuitClosed {
                source: peer,
                destination: peer,
                cause: Some(format!("cause {number}")),
                bytes: 1,
            },
            closed(peer, stream(number as u8), 1),
        ]);
        let refused = GatewayEvent::Refused { peer, what: Counted::ServiceConnection, limit: 9 };
        metrics.record(&refused.into());
    }
    let mut full = status(vec![alive(PeerId::random(), stream(1), 1)]);
    full.peers = (0..500).map(|_| peer_over(Transport::Tcp, relayed())).collect();
    metrics.observe(&full, &limits, false);
    metrics.measure(&full);
    let after: Vec<String> = samples(&metrics, Part::Node).into_keys().collect();
    assert_eq!(before, after);
    assert!(after.len() < 1_500, "{} series", after.len());
}

#[test]
fn bytes_of_a_stream_are_counted_while_it_lives_and_once() {
    let (metrics, limits) = (Metrics::default(), Limits::default());
    let (peer, one) = (PeerId::random(), stream(1));
    let sent = || {
        let name = r#"punchline_stream_bytes_total{direction="sent",path="direct"}"#;
        samples(&metrics, Part::Node)[name]
    };
    for (bytes, wanted) in [(100, 100.0), (100, 100.0), (250, 250.0)] {
        metrics.about_to_observe();
        metrics.observe(&status(vec![alive(peer, one, bytes)]), &limits, true);
        assert_eq!(sent(), wanted);
    }
    metrics.about_to_observe();
    metrics.record_all([closed(peer, one, 300)]);
    metrics.observe(&status(vec![alive(peer, one, 260)]), &limits, true);
    assert_eq!(sent(), 300.0, "the status is older than the end");
    metrics.about_to_observe();
    metrics.observe(&status(Vec::new()), &limits, true);
    metrics.record_all([closed(peer, stream(2), 11)]);
    assert_eq!(sent(), 311.0, "of a stream that no status showed");
}

#[test]
fn a_status_sets_gauges_anew_each_time() {
    let (metrics, limits) = (Metrics::default(), Limits::default());
    let mut full = status(vec![alive(PeerId::random(), stream(1), 1)]);
    full.peers = vec![
        peer_over(Transport::Tcp, Path::Direct),
        peer_over(Transport::Quic, Path::Direct),
        peer_over(Transport::Tcp, relayed()),
    ];
    full.relays = vec![RelayStatus {
        relay: PeerId::random(),
        addresses: Vec::new(),
        state: RelayState::Down { retry: None },
        health: HealthStatus { health: Health::Down, ..HealthStatus::default() },
        transport: None,
        round_trip: None,
        failures: 4,
        last_error: None,
        wanted: true,
        clock_ahead: None,
    }];
    metrics.observe(&full, &limits, false);
    metrics.measure(&full);
    let found = samples(&metrics, Part::Node);
    for (name, wanted) in [
        (r#"peers{path="direct"}"#, 2.0),
        (r#"connections{path="direct",transport="quic"}"#, 1.0),
        (r#"streams{path="direct",direction="inbound"}"#, 1.0),
        (r#"relays{state="down"}"#, 1.0),
        (r#"relay_health{health="down"}"#, 1.0),
        (r#"nat{family="ipv4",kind="unknown"}"#, 1.0),
        (r#"round_trip_seconds_count{path="relayed"}"#, 1.0),
        (r#"limit_used{limit="connections"}"#, 3.0),
        (r#"limit_max{limit="streams_per_peer"}"#, 128.0),
        ("relay_failures", 4.0),
        ("usable", 0.0),
        ("uptime_seconds", 90.0),
    ] {
        assert_eq!(found.get(&format!("punchline_{name}")), Some(&wanted), "{name} in {found:#?}");
    }
    metrics.observe(&status(Vec::new()), &limits, true);
    let found = samples(&metrics, Part::Node);
    assert_eq!(found[r#"punchline_peers{path="direct"}"#], 0.0);
    assert_eq!(found["punchline_usable"], 1.0);
}

#[test]
fn a_relay_counts_what_it_does_for_others() {
    let (metrics, peer) = (Metrics::default(), PeerId::random());
    let traffic = |forwarded_bytes| {
        let (received_bytes, sent_bytes) = (2 * forwarded_bytes, forwarded_bytes);
        Event::RelayTraffic { received_bytes, sent_bytes, forwarded_bytes }
    };
    metrics.record_all([
        Event::ReservationAccepted { peer, renewed: false },
        Event::ReservationAccepted { peer, renewed: true },
        Event::CircuitOpened { source: peer, destination: peer },
        Event::CircuitClosed { source: peer, destination: peer, cause: None, bytes: 9 },
        traffic(1_000),
        traffic(1_500),
    ]);
    metrics.observe_relay(&relay_status());
    let found = samples(&metrics, Part::Relay);
    for (name, wanted) in [
        (r#"relay_reservations_accepted_total{kind="renewed"}"#, 1.0),
        (r#"relay_circuits_closed_total{end="finished"}"#, 1.0),
        (r#"relay_traffic_bytes_total{direction="received"}"#, 3_000.0),
        ("relay_forwarded_bytes_total", 1_500.0),
        (r#"limit_used{limit="reservations"}"#, 2.0),
        (r#"limit_max{limit="circuits"}"#, 1_024.0),
    ] {
        assert_eq!(found.get(&format!("punchline_{name}")), Some(&wanted), "{name} in {found:#?}");
    }
    assert!(!found.keys().any(|name| name.starts_with("punchline_peers")), "a relay has no peers");
}

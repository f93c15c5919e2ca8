#![allow(clippy::unwrap_used)]
use std::{collections::BTreeSet, time::Duration};

use libp2p::Multiaddr;
use punchline_bridge::{
    Event as Net, Path, Service, StreamId,
    addr::RefusedAddresses,
    error::{
        CloseCause, DialFailureReason, DialFailures, Family, ListenFailure, Refusal, UpgradeFailure,
    },
    event::{
        Asked, Blocked, CandidateSource, LetsIn, LimitOwner, MappingFault, MappingProtocol, Rung,
        StreamEnd, UpgradeCount,
    },
    nat::{NatClass, NatKind},
    path::{ConnectionId, Direction, Transport},
};

use super::*;
use crate::report::tests::documented;

const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
const RELAY: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

fn peer() -> PeerId {
    PEER.parse().unwrap()
}

fn relay() -> PeerId {
    RELAY.parse().unwrap()
}

fn service() -> Service {
    "web".parse().unwrap()
}

fn at(address: &str) -> Multiaddr {
    address.parse().unwrap()
}

fn own() -> Multiaddr {
    at("/ip4/198.51.100.4/tcp/41563")
}

fn connection() -> ConnectionId {
    serde_json::from_str("\"2\"").unwrap()
}

fn relayed() -> Path {
    Path::Relayed { relay: relay() }
}

fn opened(path: Path) -> Net {
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

fn closed(path: Path) -> Net {
    let cause = CloseCause::Peer;
    Net::ConnectionClosed { peer: peer(), connection: connection(), path, cause }
}

fn succeeded() -> Net {
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

fn failed() -> Net {
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

fn held() -> Net {
    Net::ReservationHeld {
        relay: relay(),
        address: own(),
        expires: None,
        circuit_bytes_max: None,
        circuit_seconds_max: None,
    }
}

fn stream_opened(direction: Direction) -> Net {
    let (stream, path) = (StreamId::from_bytes([1; 16]), Path::Direct);
    Net::StreamOpened { peer: peer(), stream, service: service(), path, relay: None, direction }
}

fn stream_refused(direction: Direction) -> Net {
    Net::StreamRefused { peer: peer(), service: service(), reason: Refusal::NotServed, direction }
}

fn refused(what: Asked, whose: Option<LimitOwner>) -> Net {
    Net::Refused { peer: None, what, limit: 256, whose, count: 412 }
}

fn accepted(renewed: bool) -> Net {
    Net::ReservationAccepted { peer: peer(), renewed }
}

fn circuit_closed() -> Net {
    Net::CircuitClosed { source: peer(), destination: relay(), cause: None, bytes: 2048 }
}

fn traffic() -> Net {
    Net::RelayTraffic { received_bytes: 1, sent_bytes: 1, forwarded_bytes: 0 }
}

/// What the network does, and what is said of it if nothing was said before; an empty sentence is none.
fn of_the_network() -> Vec<(Net, Level, &'static str)> {
    use Level::{Debug, Info, Warn};
    vec![
        (Net::Listening { address: own() }, Debug, "listening on /ip4/198.51.100.4/tcp/41563"),
        (
            Net::ListenFailed { address: own(), cause: ListenFailure::NoAddress { family: Family::V6 } },
            Warn,
            "not listening on /ip4/198.51.100.4/tcp/41563: no interface has an IPv6 address",
        ),
        (held(), Info, "peers reach this node through relay 12D3…x6nXTN"),
        (
            Net::ReservationLost { relay: relay(), cause: "closed".to_owned() },
            Warn,
            "nobody reaches this node through relay 12D3…x6nXTN any more: closed. It is tried again",
        ),
        (
            Net::ReservationFailed { relay: relay(), cause: "no answer".to_owned(), failures: 1 },
            Warn,
            "relay 12D3…x6nXTN holds no place for this node: no answer. It is tried again",
        ),
        (
            Net::ClockDiffers { relay: relay(), seconds: -3604 },
            Warn,
            "the clock of relay 12D3…x6nXTN is 60 min behind this one: set the wrong one right",
        ),
        (
            Net::NetworkBlocks { relay: relay(), transports: Vec::new(), what: Blocked::Udp },
            Warn,
            "on the way to relay 12D3…x6nXTN: UDP seems to be blocked",
        ),
        (
            Net::CandidateFound { address: own(), source: CandidateSource::Relay { relay: relay() } },
            Debug,
            "this node may be reached at",
        ),
        (
            Net::PortMapped {
                transport: Transport::Tcp,
                address: own(),
                protocol: MappingProtocol::NatPmp,
            },
            Info,
            "the router lets peers in at /ip4/198.51.100.4/tcp/41563 (TCP, by NAT-PMP)",
        ),
        (
            Net::PortMappingLost { transport: Transport::Tcp, address: own() },
            Warn,
            "the router no longer lets peers in",
        ),
        (
            Net::PortMappingUnusable {
                transport: Transport::Tcp,
                address: own(),
                protocol: MappingProtocol::Upnp,
                cause: MappingFault::BehindNat,
            },
            Warn,
            "what the router forwards at /ip4/198.51.100.4/tcp/41563 is of no use: the router is behind another",
        ),
        (
            Net::NatFound {
                family: Family::V4,
                mapping: None,
                filtering: None,
                nat: NatKind::default(),
                public_address: None,
                observers: 2,
            },
            Info,
            "over IPv4, this node is behind: unknown",
        ),
        (
            Net::AddressConfirmed { address: own(), server: peer(), lets_in: LetsIn::Anybody },
            Info,
            "anybody reaches this node at /ip4/198.51.100.4/tcp/41563",
        ),
        (Net::AddressWithdrawn { address: own() }, Info, "nobody reaches this node at"),
        (opened(relayed()), Info, "12D3…c6iDEp is connected through relay 12D3…x6nXTN"),
        (closed(Path::Direct), Debug, "a connection with 12D3…c6iDEp ended: closed by the peer"),
        (succeeded(), Info, "12D3…c6iDEp is direct after 6 ms over TCP (was relayed)"),
        (
            Net::UpgradeAttempted {
                peer: peer(),
                rung: Rung::Punch,
                attempt: 1,
                addresses: vec![at("/ip4/203.0.113.9/tcp/35000")],
            },
            Debug,
            "12D3…c6iDEp is dialled directly (attempt 1)",
        ),
        (failed(), Warn, "12D3…c6iDEp stays relayed: no hole punch went through"),
        (
            Net::CandidatesRefused { peer: peer(), allowed: 0, refused: RefusedAddresses::default() },
            Debug,
            "12D3…c6iDEp named addresses that are not dialled",
        ),
        (
            Net::UpgradesCounted(UpgradeCount {
                local_nat: NatClass::Unknown,
                remote_nat: NatClass::Unknown,
                transport: Transport::Tcp,
                rung: Rung::Punch,
                count: 12,
            }),
            Debug,
            "12 times Punch over tcp",
        ),
        (
            stream_opened(Direction::Inbound),
            Debug,
            "a stream with 12D3…c6iDEp for `web` is open, direct",
        ),
        (
            Net::StreamMoved {
                peer: peer(),
                stream: StreamId::from_bytes([1; 16]),
                from: relayed(),
                to: Path::Direct,
                relay: None,
                gap_ms: 0.4,
                cause: None,
            },
            Debug,
            "a stream with 12D3…c6iDEp went from relayed to direct in 0.4 ms",
        ),
        (
            Net::StreamClosed {
                peer: peer(),
                stream: StreamId::from_bytes([1; 16]),
                service: service(),
                cause: StreamEnd::Finished,
                sent_direct_bytes: 0,
                sent_relayed_bytes: 0,
                received_direct_bytes: 0,
                received_relayed_bytes: 0,
            },
            Debug,
            "a stream with 12D3…c6iDEp for `web` ended",
        ),
        (stream_refused(Direction::Inbound), Info, "12D3…c6iDEp asked for `web`, and was refused"),
        (
            Net::PeerUnreachable {
                peer: peer(),
                reason: "no answer".to_owned(),
                failures: 1,
                retry_in_ms: 500,
            },
            Warn,
            "12D3…c6iDEp is not reached: no answer. It is tried again by itself",
        ),
        (
            Net::WayFailed {
                peer: peer(),
                way: "direct".to_owned(),
                reason: DialFailureReason::RelaysOff,
            },
            Debug,
            "12D3…c6iDEp is not reached by direct",
        ),
        (
            refused(Asked::Connection, Some(LimitOwner::Address)),
            Warn,
            "a connection was refused (412 times): the limit of one address is 256",
        ),
        (accepted(false), Info, "12D3…c6iDEp can be reached through this relay; 1 peer"),
        (Net::ReservationEnded { peer: peer() }, Debug, "12D3…c6iDEp has no place here any more"),
        (
            Net::CircuitOpened { source: peer(), destination: relay() },
            Debug,
            "12D3…c6iDEp is connected with 12D3…x6nXTN through this relay",
        ),
        (
            circuit_closed(),
            Debug,
            "12D3…c6iDEp and 12D3…x6nXTN are connected here no more, after 2048 bytes",
        ),
        (traffic(), Debug, ""),
        (
            Net::StunListening { address: at("/ip4/0.0.0.0/udp/3478"), other_port: None },
            Debug,
            "answering STUN on /ip4/0.0.0.0/udp/3478",
        ),
        (Net::Stopped {}, Info, "stopped"),
    ]
}

/// What programs and people do.
fn of_programs() -> Vec<(Event, Level, &'static str)> {
    use Level::{Debug, Info, Warn};
    let (peer, service) = (peer(), service());
    let reason = "the peer is not on the allow list".to_owned();
    let path = Path::Direct;
    vec![
        (
            SessionEvent::SessionReady {
                peer,
                network: "kaspa-mainnet".to_owned(),
                protocol_version: 11,
                user_agent: "/kaspad:2.1.0/\n2026-01-01 ERROR forged".to_owned(),
                path,
            }
            .into(),
            Info,
            "12D3…c6iDEp speaks kaspa-mainnet with this node, direct (version 11, /kaspad:2.1.0/ 2026-01-01 ERROR",
        ),
        (
            SessionEvent::SessionEnded { peer, cause: "closed".to_owned() }.into(),
            Info,
            "the session with 12D3…c6iDEp ended: closed",
        ),
        (
            SessionEvent::HandshakeFailed { peer, reason: "wrong network".to_owned(), last: false }
                .into(),
            Warn,
            "no session with 12D3…c6iDEp: wrong network",
        ),
        (
            SessionEvent::DialFailed { peer, reason: "no answer".to_owned(), retry_in_ms: Some(500) }
                .into(),
            Warn,
            "12D3…c6iDEp is not reached: no answer. It is tried again by itself",
        ),
        (
            SessionEvent::LoadDone { peer, bytes: 5, sha256: String::new(), ms: 7, path }.into(),
            Info,
            "a load of 5 bytes from 12D3…c6iDEp is here after 7 ms, direct",
        ),
        (
            SessionEvent::StreamTraffic {
                peer,
                stream: StreamId::from_bytes([1; 16]),
                path,
                sent_direct_bytes: 0,
                sent_relayed_bytes: 0,
                received_direct_bytes: 0,
                received_relayed_bytes: 0,
            }
            .into(),
            Debug,
            "the stream with 12D3…c6iDEp was counted",
        ),
        (
            SessionEvent::SessionPinged { peer, pings: 8, unanswered: 0, slowest_ms: 1.5 }.into(),
            Debug,
            "12D3…c6iDEp answered 8 pings but 0",
        ),
        (
            GatewayEvent::AccessRefused { peer, service: service.clone(), reason }.into(),
            Warn,
            "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp may not use `web`: the peer is not on the allow list. \
             If it is to, start with --allow 12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp, or give it a ticket",
        ),
        (
            GatewayEvent::AccessRevoked { peer, service: service.clone() }.into(),
            Info,
            "12D3…c6iDEp may no longer use `web`",
        ),
        (
            GatewayEvent::AccessReloaded { service: service.clone(), error: None }.into(),
            Info,
            "who may use `web` was read again",
        ),
        (
            GatewayEvent::TargetFailed {
                peer,
                service: service.clone(),
                target: "127.0.0.1:8000".to_owned(),
                reason: "no answer within 5 s".to_owned(),
            }
            .into(),
            Warn,
            "`web` does not answer at 127.0.0.1:8000 (12D3…c6iDEp asked for it): no answer within 5 s",
        ),
        (
            GatewayEvent::ForwardListening {
                peer,
                service: service.clone(),
                local: "127.0.0.1:18000".to_owned(),
            }
            .into(),
            Info,
            "looking for 12D3…c6iDEp; then `web` is at 127.0.0.1:18000",
        ),
        (
            GatewayEvent::ForwardFailed {
                peer,
                service: service.clone(),
                reason: "no answer".to_owned(),
            }
            .into(),
            Warn,
            "a connection to `web` of 12D3…c6iDEp came to nothing: no answer",
        ),
        (
            GatewayEvent::ForwardFull { peer, service, limit: 128 }.into(),
            Warn,
            "128 connections to `web` of 12D3…c6iDEp are open, and further ones wait; --max-connections",
        ),
        (
            GatewayEvent::Refused { peer, what: Counted::ServiceConnection, limit: 9 }.into(),
            Warn,
            "12D3…c6iDEp was turned away: the service has 9 connections already; --max-connections raises",
        ),
        (
            ReportEvent::EventsLost { count: 5 }.into(),
            Warn,
            "5 events are missing in the file of --events",
        ),
        (
            ReportEvent::Suppressed { what: "refused", count: 5, within_ms: 60_000 }.into(),
            Warn,
            "`refused` happened 5 times more in 60 s",
        ),
        (
            ReportEvent::NetsReloaded { error: Some("no such file".to_owned()) }.into(),
            Warn,
            "the ranges of addresses stay as they were: no such file",
        ),
    ]
}

fn name(event: &Event) -> String {
    serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned()
}

#[test]
fn every_event_has_decided_what_it_says() {
    let of_the_network =
        of_the_network().into_iter().map(|(event, level, says)| (event.into(), level, says));
    let all: Vec<(Event, Level, &str)> = of_the_network.chain(of_programs()).collect();
    let names: BTreeSet<String> = all.iter().map(|(event, ..)| name(event)).collect();
    let documented = documented();
    let known: BTreeSet<String> =
        documented.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, known, "each documented event stands in a table here, and no other");
    for (event, level, says) in all {
        match sentence(&event, &mut Said::default(), Instant::now()) {
            None => assert_eq!(says, "", "{event:?}"),
            Some((found, words)) => {
                assert!(!says.is_empty() && words.starts_with(says), "{words}");
                assert_eq!(found, level, "{words}");
                assert!(!words.contains('\n') && !words.contains("203.0.113.9"), "{words}");
            }
        }
    }
}

/// What an operator reads of these, one after the other.
fn read(said: &mut Said, events: impl IntoIterator<Item = Event>, now: Instant) -> Vec<String> {
    let said = events.into_iter().filter_map(|event| sentence(&event, said, now));
    said.filter(|(level, _)| *level != Level::Debug).map(|(_, words)| words).collect()
}

#[test]
fn a_peer_that_becomes_direct_goes_back_and_leaves_is_told_in_four_lines() {
    let steps = [
        opened(relayed()),
        opened(Path::Direct),
        succeeded(),
        closed(Path::Direct),
        opened(Path::Direct),
        closed(relayed()),
        closed(Path::Direct),
    ];
    let lines = read(&mut Said::default(), steps.map(Event::from), Instant::now());
    assert_eq!(
        lines,
        [
            "12D3…c6iDEp is connected through relay 12D3…x6nXTN",
            "12D3…c6iDEp is direct after 6 ms over TCP (was relayed)",
            "12D3…c6iDEp is relayed again: closed by the peer",
            "12D3…c6iDEp is gone: closed by the peer",
        ]
    );
}

#[test]
fn what_failed_for_a_while_is_said_to_be_over() {
    let (mut said, start) = (Said::default(), Instant::now());
    let cause = || "no answer".to_owned();
    let failed = |failures| Net::ReservationFailed { relay: relay(), cause: cause(), failures }.into();
    assert_eq!(read(&mut said, [failed(1), failed(2), failed(3)], start).len(), 1);
    let later = start + Duration::from_secs(180);
    let lines = read(&mut said, [held().into(), held().into()], later);
    assert_eq!(lines, ["peers reach this node through relay 12D3…x6nXTN again, after 3 min"]);
}

#[test]
fn a_forward_says_where_the_service_is_once_its_peer_is_there() {
    let (mut said, now) = (Said::default(), Instant::now());
    let listening = || {
        let (service, local) = (service(), "127.0.0.1:18000".to_owned());
        GatewayEvent::ForwardListening { peer: peer(), service, local }.into()
    };
    let unreachable = Net::PeerUnreachable {
        peer: peer(),
        reason: "the relay holds no reservation of it".to_owned(),
        failures: 1,
        retry_in_ms: 500,
    };
    read(&mut said, [listening(), unreachable.into()], now);
    let failed = GatewayEvent::ForwardFailed {
        peer: peer(),
        service: service(),
        reason: "no stream within 8 s".to_owned(),
    };
    let lines = read(&mut said, [failed.into()], now);
    let why = "a connection to `web` of 12D3…c6iDEp came to nothing: for 0 ms now it is not reached";
    assert_eq!(lines, [why], "and the cause is not said twice");
    let lines = read(&mut said, [opened(Path::Direct).into(), listening()], now);
    assert_eq!(
        lines,
        [
            "12D3…c6iDEp is connected directly over TCP (was not reached for 0 ms); ready: `web` is at 127.0.0.1:18000",
            "ready: `web` is at 127.0.0.1:18000"
        ]
    );
}

#[test]
fn a_stream_that_is_refused_or_a_last_attempt_is_not_told_twice() {
    let reason = || "no answer".to_owned();
    let dial = SessionEvent::DialFailed { peer: peer(), reason: reason(), retry_in_ms: None };
    let handshake = SessionEvent::HandshakeFailed { peer: peer(), reason: reason(), last: true };
    let twice = [stream_refused(Direction::Outbound).into(), dial.into(), handshake.into()];
    assert!(read(&mut Said::default(), twice, Instant::now()).is_empty());
}

#[test]
fn two_lines_of_a_forwarded_connection_are_for_who_looks_into_something() {
    let stream =
        || [stream_opened(Direction::Outbound).into(), stream_opened(Direction::Inbound).into()];
    assert!(read(&mut Said::default(), stream(), Instant::now()).is_empty());
}

#[test]
fn what_ends_because_the_node_does_is_no_failure() {
    let (mut said, now) = (Said::default(), Instant::now());
    read(&mut said, [held().into(), opened(relayed()).into()], now);
    said.stops();
    let lost = Net::ReservationLost { relay: relay(), cause: "shutdown".to_owned() };
    let lines = read(&mut said, [closed(relayed()).into(), lost.into(), Net::Stopped {}.into()], now);
    assert_eq!(lines, ["stopped"]);
}

#[test]
fn whoever_only_looks_whether_this_node_is_there_is_no_line_and_whoever_uses_it_is_one() {
    let (mut said, now) = (Said::default(), Instant::now());
    let mut came = opened(Path::Direct);
    if let Net::ConnectionOpened { direction, .. } = &mut came {
        *direction = Direction::Inbound;
    }
    let lines = read(&mut said, [came.clone().into(), closed(Path::Direct).into()], now);
    assert!(lines.is_empty(), "{lines:?}");
    let stream = || Event::from(stream_opened(Direction::Inbound));
    let lines = read(&mut said, [came.into(), stream(), stream(), closed(Path::Direct).into()], now);
    let told = ["12D3…c6iDEp uses `web`, direct", "12D3…c6iDEp is gone: closed by the peer"];
    assert_eq!(lines, told);
}

/// Told by a relay to which a hundred nodes keep a link: they renew their places, a home's line is renewed at night, some
/// of them meet, and scanners come by.
fn events_of_second(second: u64, peers: &[PeerId]) -> Vec<Net> {
    let mut events = vec![traffic()];
    let place = |every: u64| (second % every < 100).then(|| peers[(second % every) as usize]);
    if let Some(peer) = place(1800) {
        events.push(Net::ReservationAccepted { peer, renewed: second >= 1800 });
    }
    if let Some(peer) = place(6 * 3600).filter(|_| second > 3600) {
        events.push(Net::ReservationEnded { peer });
        events.push(Net::ReservationAccepted { peer, renewed: false });
    }
    if second.is_multiple_of(60) {
        events.push(refused(Asked::Connection, Some(LimitOwner::Ranges)));
        events.push(Net::CircuitOpened { source: peer(), destination: relay() });
        events.push(circuit_closed());
    }
    if second.is_multiple_of(600) {
        events.push(refused(Asked::DialBack, Some(LimitOwner::Peer)));
    }
    events
}

#[test]
fn a_day_of_an_idle_relay_with_a_hundred_nodes_is_less_than_two_hundred_lines() {
    let peers: Vec<PeerId> = (0..100).map(|_| PeerId::random()).collect();
    let (mut said, start) = (Said::default(), Instant::now());
    let mut lines = Vec::new();
    for second in 0..24 * 3600 {
        let now = start + Duration::from_secs(second);
        lines.extend(read(
            &mut said,
            events_of_second(second, &peers).into_iter().map(Event::from),
            now,
        ));
    }
    assert!(lines.len() < 200, "{} lines", lines.len());
    let hourly =
        lines.iter().filter(|line| line.starts_with("100 peers can be reached through this relay"));
    assert!(hourly.count() >= 20, "{lines:#?}");
}

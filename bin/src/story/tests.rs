#![allow(clippy::unwrap_used)]
mod bounds;
mod later;
mod stated;

use std::time::Duration;

use libp2p::identity::Keypair;
use punchline_bridge::{
    Event as BridgeEvent, Path, RelayAddr, Service, StreamId,
    addr::RefusedAddresses,
    error::{
        CircuitFault, CloseCause, DialFailure, DialFailureReason, DialFailures, DialOutcome, OpenError,
        PunchVerdict, Refusal, RelayFailure, ReserveFailure, Tried, TriedWay, UpgradeFailure,
    },
    event::{Blocked, MappingFault, MappingProtocol, Rung},
    nat::{Filtering, Mapping},
    path::{Direction, Transport},
    status::{ConnectionStatus, Health, HealthStatus},
};

use super::*;
use crate::{
    gateway::event::GatewayEvent,
    report::{Event, SessionEvent},
};

const ME: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
const RELAY: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
const PEER: &str = "12D3KooWAT96ww4D7rs4CpKLz8XyDw4W8biEnfdDSgtSWLSCPyhe";

const SYMMETRIC: NatKind = NatKind {
    mapping: Some(Mapping::DestinationDependent),
    filtering: Some(Filtering::AddressAndPortDependent),
};
const PORT_RESTRICTED: NatKind = NatKind {
    mapping: Some(Mapping::EndpointIndependent),
    filtering: Some(Filtering::AddressAndPortDependent),
};

fn id(text: &str) -> PeerId {
    text.parse().unwrap()
}

fn relay_addr() -> RelayAddr {
    format!("/ip4/203.0.113.7/tcp/4001/p2p/{RELAY}").parse().unwrap()
}

fn service() -> Service {
    "web".parse().unwrap()
}

/// A node with a peer that it knows, and the answers to why.
struct World {
    status: Status,
    memory: Memory,
    start: Instant,
}

impl World {
    /// A node that a relay keeps a place for, and nothing else.
    fn new() -> Self {
        let relay = RelayStatus {
            relay: id(RELAY),
            addresses: vec![relay_addr()],
            state: RelayState::Reserved { lasts: Duration::from_secs(1800) },
            health: HealthStatus { health: Health::Healthy, ..HealthStatus::default() },
            transport: Some(Transport::Tcp),
            round_trip: Some(Duration::from_millis(20)),
            failures: 0,
            last_error: None,
            wanted: true,
            clock_ahead: None,
        };
        let listening = ["/ip4/192.168.1.2/tcp/4001", "/ip4/192.168.1.2/udp/4001/quic-v1"];
        let status = Status {
            waits: Vec::new(),
            peer: id(ME),
            uptime: Duration::from_secs(600),
            listening: listening.iter().map(|text| text.parse().unwrap()).collect(),
            candidates: Vec::new(),
            external: Vec::new(),
            nat_v4: NatKind::default(),
            nat_v6: NatKind::default(),
            blocked: None,
            relays: vec![relay],
            relay_names: Vec::new(),
            peers: Vec::new(),
            streams: Vec::new(),
            limits: Vec::new(),
        };
        Self { status, memory: Memory::default(), start: Instant::now() }
    }

    /// The peer is connected, on this path.
    fn connected(mut self, path: Path, why_relayed: Option<UpgradeFailure>) -> Self {
        let connection = ConnectionStatus {
            connection: serde_json::from_str("\"1\"").unwrap(),
            path,
            transport: Transport::Tcp,
            direction: Direction::Outbound,
            address: "/ip4/198.51.100.9/tcp/35000".parse().unwrap(),
            round_trip: Some(Duration::from_millis(51)),
            age: Duration::from_secs(190),
            users: 1,
        };
        let next_attempt = why_relayed.is_some().then_some(Duration::from_secs(30));
        self.status.peers.push(PeerStatus {
            peer: id(PEER),
            familiar: true,
            path,
            connections: vec![connection],
            why_relayed,
            next_attempt,
        });
        self
    }

    fn relayed(why: Option<UpgradeFailure>) -> Self {
        Self::new().connected(Path::Relayed { relay: id(RELAY) }, why)
    }

    fn direct() -> Self {
        Self::new().connected(Path::Direct, None)
    }

    /// The relay is of no use.
    fn relay_fails(mut self, state: RelayState, failure: impl Into<RelayFailure>) -> Self {
        let relay = &mut self.status.relays[0];
        (relay.state, relay.failures, relay.last_error) = (state, 1, Some(failure.into()));
        self
    }

    fn hears(mut self, event: impl Into<Event>) -> Self {
        self.memory.hear(&event.into(), self.start);
        self
    }

    fn unreachable(self, way: TriedWay, reason: DialFailureReason) -> Self {
        let causes = vec![DialFailure { way, reason }];
        let reason = OpenError::NoRouteToDestination { peer: id(PEER), tried: causes };
        self.hears(BridgeEvent::PeerUnreachable {
            peer: id(PEER),
            reason,
            failures: 1,
            retry_in_ms: 500,
        })
    }

    fn refused(self, reason: Refusal) -> Self {
        let direction = Direction::Outbound;
        self.hears(BridgeEvent::StreamRefused { peer: id(PEER), service: service(), reason, direction })
    }

    fn tell(&self, peer: &str) -> Result<Story, Unknown> {
        tell(id(peer), &self.status, &self.memory, self.start + Duration::from_secs(5))
    }

    /// The first finding is this one, and says so.
    #[track_caller]
    fn finds(&self, fault: &str, why: &str, help: &str) {
        let story = self.tell(PEER).unwrap();
        let first = story.findings.first().unwrap_or_else(|| panic!("nothing found, and not {fault}"));
        assert_eq!(first.fault, fault, "{story:#?}");
        assert!(first.why.contains(why), "`{why}` is missing in: {}", first.why);
        assert!(first.help.contains(help), "`{help}` is missing in: {}", first.help);
    }
}

fn down(reason: DialFailureReason) -> World {
    World::new().relay_fails(RelayState::Down { retry: Some(Duration::from_secs(9)) }, reason)
}

fn refused_by_network() -> DialFailureReason {
    DialFailureReason::Network { cause: "Connection refused (os error 111)".to_owned() }
}

fn late() -> DialFailureReason {
    DialFailureReason::Deadline { deadline: Duration::from_secs(10) }
}

#[test]
fn relays_that_are_of_no_use_are_told_apart() {
    let wrong = DialFailureReason::WrongPeer { obtained: id(PEER) };
    let seek = |world: World| {
        world.unreachable(TriedWay::Relay(relay_addr()), DialFailureReason::NoReservation)
    };
    for (world, fault, why, help) in [
        (
            down(refused_by_network()),
            "relay_down",
            "at /ip4/203.0.113.7/tcp/4001",
            "that the relay runs",
        ),
        (down(late()), "relay_silent", "no answer within 10 s", "whether the relay's process hangs"),
        (down(wrong), "wrong_relay", PEER, &*format!("--relay /ip4/203.0.113.7/tcp/4001/p2p/{PEER}")),
    ] {
        seek(world).finds(fault, why, help);
    }
    let refuses = |failure: ReserveFailure| World::new().relay_fails(RelayState::Connected, failure);
    let deadline = Duration::from_secs(5);
    for (failure, fault) in [
        (ReserveFailure::Denied, "relay_refuses"),
        (ReserveFailure::Refused, "relay_refuses"),
        (ReserveFailure::Unsupported, "not_a_relay"),
        (ReserveFailure::Deadline { deadline }, "relay_silent"),
        (ReserveFailure::Link { cause: "gone".to_owned() }, "relay_down"),
    ] {
        seek(refuses(failure)).finds(fault, "keeps no place for this node", "");
    }
}

#[test]
fn a_relay_that_keeps_a_place_and_was_not_heard_hangs() {
    let mut world = World::new().unreachable(
        TriedWay::Relay(relay_addr()),
        DialFailureReason::CircuitFailed {
            reason: CircuitFault::Deadline { deadline: Duration::from_secs(20) },
        },
    );
    world.finds("circuit_silent", "", "");
    let heard = Some(Duration::from_secs(41));
    world.status.relays[0].health =
        HealthStatus { health: Health::Down, heard, ..HealthStatus::default() };
    world.finds("relay_silent", "was not heard for 41 s", "hangs");
}

#[test]
fn why_nobody_is_reached_is_told_by_the_way_that_tells_most() {
    let relay = || TriedWay::Relay(relay_addr());
    let direct = || TriedWay::Direct(vec!["/ip4/198.51.100.9/tcp/35000".parse().unwrap()]);
    let circuit = |reason| DialFailureReason::CircuitFailed { reason };
    for (way, reason, fault, help) in [
        (
            relay(),
            DialFailureReason::NoReservation,
            "peer_offline",
            "--relay /ip4/203.0.113.7/tcp/4001/p2p/",
        ),
        (relay(), refused_by_network(), "relay_down", "that the relay runs"),
        (relay(), late(), "relay_silent", "hangs"),
        (relay(), circuit(CircuitFault::PeerUnreachable), "circuit_silent", "the peer's process"),
        (
            relay(),
            DialFailureReason::WrongPeer { obtained: id(ME) },
            "wrong_relay",
            "--relay end in /p2p/",
        ),
        (direct(), refused_by_network(), "unreachable", "no firewall"),
        (direct(), late(), "unreachable", "no firewall"),
        (direct(), DialFailureReason::WrongPeer { obtained: id(ME) }, "wrong_peer", "--addr"),
        (
            TriedWay::Named,
            DialFailureReason::NotAllowed { refused: RefusedAddresses::default() },
            "not_allowed",
            "--assume-global",
        ),
        (TriedWay::Relays, DialFailureReason::RelaysOff, "relays_off", "--relay-mode"),
    ] {
        World::new().unreachable(way, reason).finds(fault, "", help);
    }
    let causes = vec![
        DialFailure { way: direct(), reason: late() },
        DialFailure { way: relay(), reason: DialFailureReason::NoReservation },
    ];
    let reason = OpenError::NoRouteToDestination { peer: id(PEER), tried: causes };
    let failed = SessionEvent::DialFailed { peer: id(PEER), reason: reason.into(), retry_in_ms: None };
    let story = World::new().hears(failed).tell(PEER).unwrap();
    let faults: Vec<_> = story.findings.iter().map(|finding| finding.fault.as_str()).collect();
    assert_eq!(faults, ["peer_offline", "unreachable"]);
    assert_eq!(
        (story.path.as_str(), story.now.as_str()),
        ("none", "not reached: there is no connection")
    );
}

#[test]
fn a_connection_that_ended_is_told_unless_the_search_for_another_failed_since() {
    let connection = serde_json::from_str("\"1\"").unwrap();
    let cause = CloseCause::System;
    let closed = || BridgeEvent::ConnectionClosed {
        peer: id(PEER),
        connection,
        path: Path::Direct,
        cause: cause.clone(),
    };
    let world = World::new().hears(closed());
    world.finds("lost", "closed by the peer's system", "running there");
    let relay = TriedWay::Relay(relay_addr());
    world.unreachable(relay, DialFailureReason::NoReservation).finds("peer_offline", "", "start it");
    let wanted = GatewayEvent::ForwardListening {
        peer: id(PEER),
        service: service(),
        local: "127.0.0.1:26111".to_owned(),
    };
    World::new().hears(wanted).finds("not_tried", "nobody has asked", "");
}

#[test]
fn whoever_was_refused_a_service_is_told_by_whom_and_what_to_do_there() {
    let allow = format!("--allow {ME}");
    for (reason, fault, help) in [
        (Refusal::NotServed, "not_served_there", allow.as_str()),
        (Refusal::TargetRefused, "target_down_there", "start the program behind `web`"),
        (Refusal::TargetUnreachable, "target_down_there", "start the program behind `web`"),
        (Refusal::TicketExpired, "ticket_void", "punchline ticket new --service web"),
        (Refusal::TicketUsed, "ticket_void", "punchline ticket new --service web"),
        (Refusal::Busy, "busy_there", "try again"),
        (Refusal::DirectOnly, "direct_only", "--relay-mode fallback"),
    ] {
        World::direct().refused(reason).finds(fault, "`web`", help);
    }
    let denied = GatewayEvent::AccessRefused {
        peer: id(PEER),
        service: service(),
        reason: "the peer is not on the allow list".to_owned(),
    };
    let allow = format!("--allow {PEER}");
    World::direct().hears(denied).finds("refused_here", "not on the allow list", &allow);
    let target = GatewayEvent::TargetFailed {
        peer: id(PEER),
        service: service(),
        target: "127.0.0.1:8000".to_owned(),
        reason: "connection refused".to_owned(),
    };
    World::direct().hears(target).finds("target_down_here", "127.0.0.1:8000", "start the program");
    let failed = SessionEvent::HandshakeFailed {
        peer: id(PEER),
        reason: "wrong network".to_owned(),
        last: false,
    };
    World::direct().hears(failed).finds("handshake_failed", "wrong network", "--network");
}

#[test]
fn a_service_that_was_opened_since_is_not_in_the_way() {
    let opened = BridgeEvent::StreamOpened {
        peer: id(PEER),
        stream: StreamId::from_bytes([7; 16]),
        service: service(),
        path: Path::Direct,
        relay: None,
        direction: Direction::Outbound,
    };
    let story = World::direct().refused(Refusal::TargetRefused).hears(opened).tell(PEER).unwrap();
    assert_eq!(story.findings, []);
    assert!(story.services[0].opened && story.services[0].count == 1, "{story:?}");
    let gone = World::new().refused(Refusal::Shutdown);
    let relay = TriedWay::Relay(relay_addr());
    gone.unreachable(relay, DialFailureReason::NoReservation).finds("peer_offline", "", "start it");
}

#[test]
fn why_a_peer_stays_relayed_is_told_with_what_would_help() {
    let failures = DialFailures { timed_out: 4, ..DialFailures::default() };
    let ports = |ours, theirs| UpgradeFailure::PortsChange { ours, theirs };
    let why_me = format!("punchline why {ME}");
    for (reason, fault, help) in [
        (ports(SYMMETRIC, SYMMETRIC), "symmetric_both", "UPnP, NAT-PMP or PCP"),
        (ports(SYMMETRIC, PORT_RESTRICTED), "symmetric_here", "IPv6 at both ends"),
        (ports(PORT_RESTRICTED, SYMMETRIC), "symmetric_there", "IPv6 at both ends"),
        (UpgradeFailure::PunchFailed { failures }, "punch_failed", "UPnP"),
        (UpgradeFailure::NoCandidateHere, "no_candidate_here", "--assume-global"),
        (UpgradeFailure::NoCandidateThere, "no_candidate_there", &why_me),
        (UpgradeFailure::WebOnly, "web_only", "UDP"),
        (UpgradeFailure::Limit { limit: 64 }, "limit_here", "an hour"),
        (UpgradeFailure::Unsupported, "no_punching", "DCUtR"),
        (UpgradeFailure::AtPeer { verdict: PunchVerdict::Limit }, "gave_up_there", &why_me),
        (
            UpgradeFailure::AllRefused { refused: RefusedAddresses::default() },
            "not_allowed",
            "--assume-global",
        ),
    ] {
        let said = reason.to_string();
        World::relayed(Some(reason)).finds(fault, &said, help);
    }
    World::relayed(None).finds("too_early", "no attempt", "--until-direct");
}

#[test]
fn the_peers_word_that_ports_change_is_judged_by_both_nats() {
    let verdict = UpgradeFailure::AtPeer { verdict: PunchVerdict::PortsChange };
    let mut world = World::relayed(Some(verdict.clone()));
    world.status.nat_v4 = SYMMETRIC;
    let failed = BridgeEvent::UpgradeFailed {
        peer: id(PEER),
        reason: verdict,
        attempts: 0,
        local_nat: SYMMETRIC,
        remote_nat: SYMMETRIC,
        tried: Vec::new(),
        again_seconds: None,
    };
    let world = world.hears(failed);
    world.finds("symmetric_both", "between these NATs", "UPnP");
    let story = world.tell(PEER).unwrap();
    let symmetric = "one port for each destination (symmetric)";
    assert_eq!(
        (story.here.unwrap().nat, story.there.unwrap().nat),
        (symmetric.into(), symmetric.into())
    );
}

#[test]
fn udp_that_is_blocked_counts_more_than_the_dials_that_failed_for_it() {
    let failures = DialFailures { timed_out: 4, ..DialFailures::default() };
    let mut world = World::relayed(Some(UpgradeFailure::PunchFailed { failures }));
    world.status.blocked = Some(Blocked::Udp);
    world.finds("udp_blocked", "UDP seems to be blocked", "let UDP out");
    let reason = UpgradeFailure::PortsChange { ours: SYMMETRIC, theirs: SYMMETRIC };
    world.status.peers[0].why_relayed = Some(reason);
    world.finds("symmetric_both", "", "");
}

#[test]
fn a_router_behind_the_providers_nat_is_not_told_to_map_ports() {
    let unusable = BridgeEvent::PortMappingUnusable {
        transport: Transport::Tcp,
        address: "/ip4/100.64.3.4/tcp/41563".parse().unwrap(),
        protocol: MappingProtocol::Upnp,
        cause: MappingFault::BehindNat,
    };
    let reason = UpgradeFailure::PortsChange { ours: SYMMETRIC, theirs: SYMMETRIC };
    let world = World::relayed(Some(reason)).hears(unusable);
    world.finds("symmetric_both", "", "ask the provider for a public address");
}

#[test]
fn who_listens_over_one_transport_is_told_to_listen_over_both() {
    let failures = DialFailures { refused: 2, ..DialFailures::default() };
    let mut world = World::relayed(Some(UpgradeFailure::PunchFailed { failures }));
    world.status.listening.truncate(1);
    world.finds("punch_failed", "", "listen over TCP and QUIC at both ends");
}

#[test]
fn a_clock_that_differs_is_told_beside_what_counts_more() {
    let mut world = World::direct().refused(Refusal::TicketExpired);
    world.status.relays[0].clock_ahead = Some(-3604);
    let story = world.tell(PEER).unwrap();
    let faults: Vec<_> = story.findings.iter().map(|finding| finding.fault.as_str()).collect();
    assert_eq!(faults, ["ticket_void", "clock_differs"]);
    assert!(story.findings[1].why.ends_with("is 60 min behind ours"), "{story:?}");
}

#[test]
fn what_happened_is_told_in_order_with_addresses_and_outcomes() {
    let address = || "/ip4/198.51.100.9/tcp/35000".parse().unwrap();
    let attempted = BridgeEvent::UpgradeAttempted {
        peer: id(PEER),
        rung: Rung::Punch,
        attempt: 2,
        addresses: vec![address()],
    };
    let failures = DialFailures { timed_out: 1, ..DialFailures::default() };
    let reason = UpgradeFailure::PunchFailed { failures };
    let failed = BridgeEvent::UpgradeFailed {
        peer: id(PEER),
        reason: reason.clone(),
        attempts: 2,
        local_nat: NatKind::default(),
        remote_nat: PORT_RESTRICTED,
        tried: vec![Tried { address: address(), outcome: DialOutcome::TimedOut }],
        again_seconds: Some(30),
    };
    let story = World::relayed(Some(reason)).hears(attempted).hears(failed).tell(PEER).unwrap();
    let [tried, failed] = &story.steps[..] else { panic!("two steps: {story:?}") };
    assert_eq!(tried.text, "this node tried to reach it directly, by hole punch 2");
    assert_eq!((tried.ago_seconds, tried.count), (5.0, 1));
    assert_eq!(tried.addresses[0].outcome, None);
    assert!(failed.text.starts_with("no direct path: no hole punch went through"), "{failed:?}");
    assert_eq!(failed.addresses[0].outcome.as_deref(), Some("timed_out"));
    assert_eq!(story.next_attempt_seconds, Some(30.0));
    assert_eq!((story.since_seconds, story.round_trip_ms), (Some(190.0), Some(51.0)));
    assert_eq!(story.there.unwrap().addresses, ["/ip4/198.51.100.9/tcp/35000"]);
    assert!(story.now.starts_with("reached through the relay 12D3"), "{}", story.now);
}

#[test]
fn a_relay_has_a_story_and_whoever_is_unknown_has_none() {
    let story = World::new().tell(RELAY).unwrap();
    assert_eq!((story.path.as_str(), &story.findings[..]), ("direct", &[][..]));
    assert_eq!(story.now, "a relay of this node, reached over TCP, that keeps a place for it");
    let story = down(refused_by_network()).tell(RELAY).unwrap();
    assert_eq!((story.path.as_str(), story.next_attempt_seconds), ("none", Some(9.0)));
    assert_eq!(story.findings[0].fault, "relay_down");
    assert_eq!(World::direct().tell(ME), Err(Unknown::Myself(id(ME))));
    let stranger = Keypair::generate_ed25519().public().to_peer_id().to_string();
    let error = World::direct().tell(&stranger).unwrap_err().to_string();
    assert!(error.contains(&format!("it knows {PEER}, {RELAY}")), "{error}");
}

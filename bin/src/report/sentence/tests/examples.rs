//! One event of each kind, and what is said of it if nothing was said before.

use punchline_bridge::{
    Event as Net, Path, StreamId,
    addr::RefusedAddresses,
    error::{DialFailureReason, Family, ListenFailure, OpenError, TriedWay},
    event::{
        Asked, Awaited, Blocked, CandidateSource, LetsIn, LimitOwner, MappingFault, MappingProtocol,
        Rung, StreamEnd, UpgradeCount,
    },
    nat::{NatClass, NatKind},
    path::{Direction, Transport},
    status::Health,
};

pub(super) use super::facts::*;
use super::*;
use crate::report::Failure;

/// What the network does, and what is said of it if nothing was said before; an empty sentence is none.
pub(super) fn of_the_network() -> Vec<(Net, Level, &'static str)> {
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
            Net::RelayNameResolved { name: "relay.lab".parse().unwrap(), relays: vec![relay()] },
            Debug,
            "relay.lab stands for 12D3…x6nXTN",
        ),
        (
            Net::RelayNameFailed {
                name: "relay.lab".parse().unwrap(),
                cause: "nobody answered".to_owned(),
                failures: 1,
            },
            Warn,
            "the relays of relay.lab are not known: nobody answered. It is tried again by itself",
        ),
        (
            Net::ExternalFound { address: at("/ip4/203.0.113.7/tcp/4001") },
            Info,
            "peers use: --relay /ip4/203.0.113.7/tcp/4001",
        ),
        (
            health(Health::Down),
            Warn,
            "relay 12D3…x6nXTN is down: it does not answer. It is dialled again",
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
        (
            Net::ExternalUnanswered {
                address: own(),
                relay: relay(),
                listener: Some(at("/ip4/192.168.1.7/tcp/4001")),
            },
            Warn,
            "nobody answers at /ip4/198.51.100.4/tcp/41563, where --external says that this node is reached",
        ),
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
                reason: OpenError::NoAddress { peer: peer() },
                failures: 1,
                retry_in_ms: 500,
            },
            Warn,
            "12D3…c6iDEp is not reached: no address is known for",
        ),
        (
            Net::PeerUnreachable { peer: peer(), reason: unreachable(), failures: 1, retry_in_ms: 500 },
            Warn,
            "12D3…c6iDEp is not reached: directly, at 2 addresses: no answer within 10 s; through relay \
             12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN: the relay holds no reservation of it; is it \
             running, and does it use this relay? It is tried again by itself",
        ),
        (
            waiting(vec![
                Awaited::Dial { addresses: 2, names: Vec::new() },
                Awaited::RelayLink { relay: relay(), names: vec!["relay.example.org".to_owned()] },
            ]),
            Warn,
            "still waiting for 12D3…c6iDEp after 10 s: its 2 addresses are dialled and do not answer yet; relay \
             12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN does not answer yet (DNS is asked for \
             relay.example.org first)",
        ),
        (
            waiting(vec![Awaited::NextAttempt { in_ms: 3900, cause: Some(unreachable()) }]),
            Warn,
            "still waiting for 12D3…c6iDEp after 10 s: it is looked for again in 4 s (the last time: directly, at 2 \
             addresses: no answer within 10 s; through relay",
        ),
        (
            Net::WayFailed { peer: peer(), way: TriedWay::Named, reason: DialFailureReason::RelaysOff },
            Debug,
            "12D3…c6iDEp is not reached by addresses that the peer named",
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
pub(super) fn of_programs() -> Vec<(Event, Level, &'static str)> {
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
            SessionEvent::DialFailed {
                peer,
                reason: Failure::Other("no answer".to_owned()),
                retry_in_ms: Some(500),
            }
            .into(),
            Warn,
            "12D3…c6iDEp is not reached: no answer. It is tried again by itself",
        ),
        (
            SessionEvent::DialFailed { peer, reason: unreachable().into(), retry_in_ms: None }.into(),
            Debug,
            "12D3…c6iDEp is not reached: directly, at 2 addresses: no answer within 10 s; through",
        ),
        (
            GatewayEvent::ForwardFailed { peer, service: service.clone(), reason: unreachable().into() }
                .into(),
            Warn,
            "a connection to `web` of 12D3…c6iDEp came to nothing: directly, at 2 addresses: no answer within 10 s;",
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
            GatewayEvent::PeerFound { peer, source: "mdns", addresses: Vec::new() }.into(),
            Debug,
            "12D3…c6iDEp may be on the local network",
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
                reason: Failure::Other("no answer".to_owned()),
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
            ReportEvent::MetricsListening { address: "127.0.0.1:9464".parse().unwrap() }.into(),
            Info,
            "metrics are at http://127.0.0.1:9464/metrics",
        ),
        (
            ReportEvent::PageListening { address: "127.0.0.1:9465".parse().unwrap() }.into(),
            Info,
            "the page is at http://127.0.0.1:9465/",
        ),
        (
            ReportEvent::NetsReloaded { error: Some("no such file".to_owned()) }.into(),
            Warn,
            "the ranges of addresses stay as they were: no such file",
        ),
    ]
}

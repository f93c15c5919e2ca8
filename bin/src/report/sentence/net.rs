//! What the network does to a node, in the order in which it may happen. Pure.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use punchline_bridge::{
    Event,
    event::{LetsIn, MappingProtocol},
    path::Transport,
    status::Health,
};

use super::{
    Level, Saying, foreign, key, peers,
    relay::{self, came, carried, due, went},
    short, tried_again, trouble,
};
use crate::report::{said::Said, troubles::span};

/// Each kind of event decides what it says.
pub(super) fn sentence(event: &Event, said: &mut Said, now: Instant) -> Saying {
    match event {
        Event::Listening { address } => debug(format!("listening on {address}")),
        Event::StunListening { address, .. } => debug(format!("answering STUN on {address}")),
        // What to run elsewhere: it could not be said at the start.
        Event::ExternalFound { address } => Some((Level::Info, format!("peers use: --relay {address}"))),
        Event::ListenFailed { address, cause } => {
            Some((Level::Warn, format!("not listening on {address}: {cause}")))
        }
        Event::ReservationHeld { relay, .. } => held(relay, said, now),
        Event::ReservationLost { relay, cause } => {
            said.lost(relay);
            if said.is_stopping() {
                return debug(format!("{} holds no place for this node any more", named(relay)));
            }
            let words = format!("nobody reaches this node through {} any more", named(relay));
            again("reservation_lost", relay, words, cause, said, now)
        }
        Event::ReservationFailed { relay, cause, failures: _ } => {
            let words = format!("{} holds no place for this node", named(relay));
            again("reservation_failed", relay, words, cause, said, now)
        }
        Event::RelayNameResolved { name, relays } => {
            relays.iter().for_each(|relay| said.names_relay(*relay));
            let relays: Vec<String> = relays.iter().map(short).collect();
            let words = format!("{name} stands for {}", relays.join(", "));
            match said.troubles.over("relay_name_failed", name.as_str(), now) {
                Some(away) => Some((Level::Info, format!("{words} again, after {}", span(away)))),
                None => debug(words),
            }
        }
        Event::RelayNameFailed { name, cause, failures: _ } => {
            let words = format!("the relays of {name} are not known: {}", tried_again(cause));
            trouble("relay_name_failed", name.as_str(), words, said, now)
        }
        Event::RelayHealth { relay, health, was: _ } => health_of(relay, *health, said, now),
        Event::ClockDiffers { relay, seconds } => clock(relay, *seconds, said, now),
        Event::NetworkBlocks { relay, what, .. } => {
            let words = format!("on the way to {}: {what}", named(relay));
            trouble("network_blocks", &key(relay), words, said, now)
        }
        Event::CandidateFound { address, .. } => debug(format!("this node may be reached at {address}")),
        Event::NatFound { family, nat, .. } => {
            let words = format!("over {family}, this node is behind: {nat}");
            match said.is_other_nat(family.to_string(), nat.to_string()) {
                true => own("nat_found", words, said, now),
                false => debug(words),
            }
        }
        Event::AddressConfirmed { address, lets_in, .. } => {
            let who = match lets_in {
                LetsIn::Anybody => "anybody reaches",
                LetsIn::WhoWasSpokenTo => "hosts that it spoke with reach",
            };
            own("address", format!("{who} this node at {address}"), said, now)
        }
        Event::AddressWithdrawn { address } => {
            own("address", format!("nobody reaches this node at {address} any more"), said, now)
        }
        Event::PortMapped { transport, address, protocol } => {
            let (carrier, by) = (carrier(*transport), mapping(*protocol));
            let words = format!("the router lets peers in at {address} ({carrier}, by {by})");
            own("port_mapped", words, said, now)
        }
        Event::PortMappingLost { address, .. } => {
            let words = format!("the router no longer lets peers in at {address}; it is asked again");
            trouble("port_mapping_lost", "", words, said, now)
        }
        Event::PortMappingUnusable { address, cause, .. } => {
            let words = format!("what the router forwards at {address} is of no use: {cause}");
            trouble("port_mapping_unusable", "", words, said, now)
        }
        Event::ConnectionOpened { peer, path, direction, transport, .. } => {
            peers::opened(peer, *path, *direction, *transport, said, now)
        }
        Event::ConnectionClosed { peer, path, cause, .. } => {
            peers::closed(peer, *path, &cause.to_string(), said, now)
        }
        Event::UpgradeSucceeded { peer, transport, took_ms, .. } => {
            peers::direct(peer, *transport, *took_ms, said, now)
        }
        Event::UpgradeAttempted { peer, attempt, .. } => {
            debug(format!("{} is dialled directly (attempt {attempt})", short(peer)))
        }
        Event::UpgradeFailed { peer, reason, again_seconds, .. } => {
            peers::stays_relayed(peer, &reason.to_string(), *again_seconds, said, now)
        }
        Event::UpgradesCounted(count) => {
            debug(format!("{} times {:?} over {}", count.count, count.rung, count.transport))
        }
        Event::CandidatesRefused { peer, refused, .. } => {
            debug(format!("{} named addresses that are not dialled: {refused}", short(peer)))
        }
        Event::StreamOpened { peer, service, path, direction, .. } => {
            peers::stream_opened(peer, service, *path, *direction, said, now)
        }
        Event::StreamMoved { peer, from, to, gap_ms, .. } => {
            debug(format!("a stream with {} went from {from} to {to} in {gap_ms} ms", short(peer)))
        }
        Event::StreamClosed { peer, service, cause, .. } => {
            debug(format!("a stream with {} for `{service}` ended: {cause:?}", short(peer)))
        }
        Event::StreamRefused { peer, service, reason, direction } => {
            peers::stream_refused(peer, service, *reason, *direction, said, now)
        }
        Event::PeerUnreachable { peer, reason, .. } => {
            let words = format!("{} is not reached", short(peer));
            again("peer_unreachable", peer, words, reason, said, now)
        }
        Event::WayFailed { peer, way, reason } => {
            debug(format!("{} is not reached by {}: {reason}", short(peer), foreign(way)))
        }
        Event::Refused { what, limit, whose, count, .. } => {
            peers::refused(*what, *limit, *whose, *count, said, now)
        }
        Event::ReservationAccepted { peer, renewed: false } => came(peer, said, now),
        Event::ReservationAccepted { peer, renewed: true } => {
            due(format!("{} renewed its place", short(peer)), said, now)
        }
        Event::ReservationEnded { peer } => went(peer, said, now),
        Event::CircuitOpened { source, destination } => due(
            format!("{} is connected with {} through this relay", short(source), short(destination)),
            said,
            now,
        ),
        Event::CircuitClosed { source, destination, cause, bytes } => {
            let words = relay::circuit_ended(source, destination, cause.as_deref(), *bytes);
            carried(*bytes, words, said, now)
        }
        // Every second, for who computes rates: no news for anybody.
        Event::RelayTraffic { .. } => None,
        Event::Stopped {} => Some((Level::Info, "stopped".to_owned())),
    }
}

fn held(relay: &PeerId, said: &mut Said, now: Instant) -> Saying {
    let lost = said.troubles.over("reservation_lost", &key(relay), now);
    let failed = said.troubles.over("reservation_failed", &key(relay), now);
    if !said.holds(*relay) {
        return debug(format!("{} renewed this node's place", named(relay)));
    }
    let mut words = format!("peers reach this node through {}", named(relay));
    if let Some(away) = lost.max(failed) {
        words += &format!(" again, after {}", span(away));
    }
    Some((Level::Info, words))
}

/// A relay that hangs is down and says nothing; one that is gone was told of when its place was lost.
fn health_of(relay: &PeerId, health: Health, said: &mut Said, now: Instant) -> Saying {
    let words = format!("{} is {health}", named(relay));
    let is_known = ["reservation_lost", "reservation_failed"]
        .iter()
        .any(|kind| said.troubles.lasts(kind, &key(relay), now).is_some());
    match health {
        Health::Down if !is_known => {
            let words = format!("{words}: it does not answer. It is dialled again and again by itself");
            trouble("relay_down", &key(relay), words, said, now)
        }
        Health::Healthy => match said.troubles.over("relay_down", &key(relay), now) {
            Some(away) => {
                Some((Level::Info, format!("{} answers again, after {}", named(relay), span(away))))
            }
            None => debug(words),
        },
        Health::Down | Health::Degraded | Health::Unknown => debug(words),
    }
}

fn clock(relay: &PeerId, seconds: i64, said: &mut Said, now: Instant) -> Saying {
    let words = format!(
        "the clock of {} is {} {} this one: set the wrong one right; tickets expire by it",
        named(relay),
        span(Duration::from_secs(seconds.unsigned_abs())),
        if seconds < 0 { "behind" } else { "ahead of" }
    );
    trouble("clock_differs", &key(relay), words, said, now)
}

/// What is tried again without anybody's help.
fn again(
    kind: &'static str,
    peer: &PeerId,
    words: String,
    cause: &(impl Display + ?Sized),
    said: &mut Said,
    now: Instant,
) -> Saying {
    let words = format!("{words}: {}", tried_again(cause));
    trouble(kind, &key(peer), words, said, now)
}

/// What is good to know of this node itself, unless it changes all the time.
fn own(kind: &'static str, words: String, said: &mut Said, now: Instant) -> Saying {
    let level = if said.is_news(kind, None, now) { Level::Info } else { Level::Debug };
    Some((level, words))
}

pub(super) fn debug(words: String) -> Saying {
    Some((Level::Debug, words))
}

/// A peer that is a relay.
pub(super) fn named(relay: &PeerId) -> String {
    format!("relay {}", short(relay))
}

/// A transport as people write it.
pub(super) fn carrier(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Quic => "QUIC",
        Transport::Websocket => "a WebSocket",
    }
}

fn mapping(protocol: MappingProtocol) -> &'static str {
    match protocol {
        MappingProtocol::Pcp => "PCP",
        MappingProtocol::NatPmp => "NAT-PMP",
        MappingProtocol::Upnp => "UPnP",
    }
}

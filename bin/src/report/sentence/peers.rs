//! How peers are reached, what they use, and who is turned away. Pure.

use std::time::Instant;

use libp2p::PeerId;
use punchline_bridge::{
    Path, Service,
    error::Refusal,
    event::{Asked, LimitOwner},
    path::{Direction, Transport},
};

use super::{
    Level, Saying, foreign, key,
    net::{carrier, debug, named},
    news, short, trouble,
};
use crate::report::{
    said::{Change, Said},
    troubles::span,
};

/// A connection is up.
pub(super) fn opened(
    peer: &PeerId,
    path: Path,
    direction: Direction,
    transport: Transport,
    said: &mut Said,
    now: Instant,
) -> Saying {
    if said.is_relay(peer) && path.is_direct() {
        return debug(format!("connected with {} over {}", named(peer), carrier(transport)));
    }
    // Relays test addresses of this node, and strangers look what is there.
    let tells = !path.is_direct() || direction == Direction::Outbound;
    let change = said.opened(*peer, path, tells);
    let away = said.troubles.over("peer_unreachable", &key(peer), now);
    let mut words = match path.relay() {
        None => format!("{} is connected directly over {}", short(peer), carrier(transport)),
        Some(relay) => format!("{} is connected through {}", short(peer), named(&relay)),
    };
    if let Some(away) = away {
        words += &format!(" (was not reached for {})", span(away));
    }
    let ready = said.arrived(peer);
    if !ready.is_empty() {
        return Some((Level::Info, format!("{words}; ready: {}", ready.join("; "))));
    }
    match change {
        Change::Came => news("paths", peer, words, said, now),
        _ => debug(words),
    }
}

/// A connection is gone.
pub(super) fn closed(peer: &PeerId, path: Path, cause: &str, said: &mut Said, now: Instant) -> Saying {
    if said.is_relay(peer) && path.is_direct() {
        return debug(format!("no longer connected with {}: {}", named(peer), foreign(cause)));
    }
    let (peer_name, cause) = (short(peer), foreign(cause));
    match said.closed(*peer, path) {
        Change::Went => news("paths", peer, format!("{peer_name} is gone: {cause}"), said, now),
        Change::Relayed => {
            news("paths", peer, format!("{peer_name} is relayed again: {cause}"), said, now)
        }
        Change::Came | Change::Nothing => debug(format!("a connection with {peer_name} ended: {cause}")),
    }
}

/// A peer that was relayed is not any more.
pub(super) fn direct(
    peer: &PeerId,
    transport: Transport,
    took_ms: u64,
    said: &mut Said,
    now: Instant,
) -> Saying {
    said.troubles.over("upgrade_failed", &key(peer), now);
    let words = format!(
        "{} is direct after {took_ms} ms over {} (was relayed)",
        short(peer),
        carrier(transport)
    );
    news("paths", peer, words, said, now)
}

/// A peer stays relayed, for now.
pub(super) fn stays_relayed(
    peer: &PeerId,
    reason: &str,
    again_seconds: Option<u64>,
    said: &mut Said,
    now: Instant,
) -> Saying {
    let again = again_seconds.map(|seconds| format!("; tried again in {seconds} s")).unwrap_or_default();
    let words = format!("{} stays relayed: {}{again}", short(peer), foreign(reason));
    trouble("upgrade_failed", &key(peer), words, said, now)
}

/// A stream runs; one of a peer proves that the program behind the service answers.
pub(super) fn stream_opened(
    peer: &PeerId,
    service: &Service,
    path: Path,
    direction: Direction,
    said: &mut Said,
    now: Instant,
) -> Saying {
    let words = format!("a stream with {} for `{service}` is open, {path}", short(peer));
    let (kind, subject) = match direction {
        Direction::Inbound => ("target_failed", service.as_str().to_owned()),
        Direction::Outbound => ("forward_failed", key(peer)),
    };
    let is_first = said.uses(peer);
    match said.troubles.over(kind, &subject, now) {
        Some(away) => Some((Level::Info, format!("`{service}` answers again, after {}", span(away)))),
        None if is_first => {
            news("paths", peer, format!("{} uses `{service}`, {path}", short(peer)), said, now)
        }
        None => debug(words),
    }
}

/// A stream was turned away. Of our own, whoever asked for it tells.
pub(super) fn stream_refused(
    peer: &PeerId,
    service: &Service,
    reason: Refusal,
    direction: Direction,
    said: &mut Said,
    now: Instant,
) -> Saying {
    match direction {
        Direction::Outbound => {
            debug(format!("{} refused a stream for `{service}`: {reason}", short(peer)))
        }
        Direction::Inbound => {
            let words = format!(
                "{} asked for `{service}`, and was refused: this node serves it not, or has no room",
                short(peer)
            );
            let telling = said.troubles.meet("stream_refused", &key(peer), now);
            let level = if telling.is_told() { Level::Info } else { Level::Debug };
            Some((level, format!("{words}{telling}")))
        }
    }
}

/// A limit was in the way.
pub(super) fn refused(
    what: Asked,
    limit: u64,
    whose: Option<LimitOwner>,
    count: u64,
    said: &mut Said,
    now: Instant,
) -> Saying {
    if whose == Some(LimitOwner::Ranges) {
        let words = format!(
            "{count} connections were not answered: --allow-net and --deny-net keep their addresses away"
        );
        let telling = said.troubles.meet("ranges", "", now);
        let level = if telling.is_told() { Level::Info } else { Level::Debug };
        return Some((level, format!("{words}{telling}")));
    }
    let words = format!("{} ({count} times): the limit {}is {limit}", asked(what), owner(whose));
    trouble("refused", asked(what), words, said, now)
}

fn asked(what: Asked) -> &'static str {
    match what {
        Asked::Connection => "a connection was refused",
        Asked::Stream => "a stream was refused, for too many wait for this service",
        Asked::StreamOfPeer => {
            "a stream was refused, for its peer has many; --max-streams-per-peer raises that"
        }
        Asked::Relay => "a relay is not used, for there are too many",
        Asked::Hold => "a connection is not kept, for there are too many",
        Asked::KnownPeer => "where a peer is was not remembered",
        Asked::WelcomedPeer => {
            "a peer on an allow list is treated as a stranger, for there are too many"
        }
        Asked::Reservation => "a place at this relay was refused; --max-reservations… raise that",
        Asked::Circuit => "a circuit through this relay was refused; --max-circuits… raise that",
        Asked::Watch => "a question who is at this relay was refused",
        Asked::DialBack => "a test of an address was refused",
        Asked::Takeover => {
            "a second process with the identity of a peer here was refused: does it run twice?"
        }
    }
}

/// Of whom the limit is.
fn owner(whose: Option<LimitOwner>) -> &'static str {
    match whose {
        None | Some(LimitOwner::Ranges) => "",
        Some(LimitOwner::Relay) => "of the relay ",
        Some(LimitOwner::Node) => "of this node ",
        Some(LimitOwner::Strangers) => "of all strangers ",
        Some(LimitOwner::ThroughRelay) => "of one relay ",
        Some(LimitOwner::Service) => "of one service ",
        Some(LimitOwner::Address) => "of one address ",
        Some(LimitOwner::Peer) => "of one peer ",
        Some(LimitOwner::Destination) => "of one destination ",
    }
}

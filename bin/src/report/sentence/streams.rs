//! Streams of peers and of this node, what they use, and who is turned away. Pure.

use std::time::Instant;

use libp2p::PeerId;
use punchline_bridge::{
    Event, Path, Service,
    error::Refusal,
    event::{Asked, LimitOwner},
    path::Direction,
};

use super::{Level, Saying, debug, key, news, told, trouble};
use crate::report::{
    said::{Said, Whose},
    troubles::span,
};

/// Events of other subjects say nothing here.
pub(super) fn sentence(event: &Event, said: &mut Said, now: Instant) -> Saying {
    match event {
        Event::StreamOpened { peer, service, path, direction, .. } => {
            opened(peer, service, *path, *direction, said, now)
        }
        Event::StreamMoved { peer, from, to, gap_ms, .. } => {
            let who = said.called(peer);
            debug(format!("a stream with {who} went from {from} to {to} in {gap_ms} ms"))
        }
        Event::StreamClosed { peer, service, cause, .. } => {
            debug(format!("a stream with {} for `{service}` ended: {cause:?}", said.called(peer)))
        }
        Event::StreamRefused { peer, service, reason, direction } => {
            turned_away(peer, service, *reason, *direction, said, now)
        }
        Event::Refused { what, limit, whose, count, .. } => {
            refused(*what, *limit, *whose, *count, said, now)
        }
        _ => None,
    }
}

/// A stream runs; one of a peer proves that the program behind the service answers.
fn opened(
    peer: &PeerId,
    service: &Service,
    path: Path,
    direction: Direction,
    said: &mut Said,
    now: Instant,
) -> Saying {
    let words = format!("a stream with {} for `{service}` is open, {path}", said.called(peer));
    let (kind, subject) = match direction {
        Direction::Inbound => ("target_failed", service.as_str().to_owned()),
        Direction::Outbound => ("forward_failed", key(peer)),
    };
    let is_first = said.uses(peer);
    match said.troubles.over(kind, &subject, now) {
        Some(away) => Some((Level::Info, format!("`{service}` answers again, after {}", span(away)))),
        None if is_first => {
            news("paths", peer, format!("{} uses `{service}`, {path}", said.called(peer)), said, now)
        }
        None => debug(words),
    }
}

/// A stream was turned away. Of our own, whoever asked for it tells.
fn turned_away(
    peer: &PeerId,
    service: &Service,
    reason: Refusal,
    direction: Direction,
    said: &mut Said,
    now: Instant,
) -> Saying {
    match direction {
        Direction::Outbound => {
            debug(format!("{} refused a stream for `{service}`: {reason}", said.called(peer)))
        }
        Direction::Inbound => {
            let words = format!(
                "{} asked for `{service}`, and was refused: this node serves it not, or has no room",
                said.called(peer)
            );
            let telling = said.troubles.meet("stream_refused", said.whose(peer), &key(peer), now);
            told(Level::Info, words, telling)
        }
    }
}

/// A limit was in the way.
fn refused(
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
        let telling = said.troubles.meet("ranges", Whose::Strangers, "", now);
        return told(Level::Info, words, telling);
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

//! How peers are reached, or why they are not. Pure.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use punchline_bridge::{
    Event, Path,
    event::Waiting,
    path::{Direction, Transport},
};

use super::{Level, Saying, debug, key, net::carrier, news, tried_again, trouble_with};
use crate::report::{
    said::{Change, Said},
    troubles::span,
};

/// Events of other subjects say nothing here.
pub(super) fn sentence(event: &Event, said: &mut Said, now: Instant) -> Saying {
    match event {
        Event::ConnectionOpened { peer, path, direction, transport, .. } => {
            opened(peer, *path, *direction, *transport, said, now)
        }
        Event::ConnectionClosed { peer, path, cause, .. } => {
            closed(peer, *path, &cause.to_string(), said, now)
        }
        Event::UpgradeSucceeded { peer, transport, took_ms, .. } => {
            direct(peer, *transport, *took_ms, said, now)
        }
        Event::UpgradeAttempted { peer, attempt, .. } => {
            debug(format!("{} is dialled directly (attempt {attempt})", said.called(peer)))
        }
        Event::UpgradeFailed { peer, reason, again_seconds, .. } => {
            stays_relayed(peer, &reason.to_string(), *again_seconds, said, now)
        }
        Event::CandidatesRefused { peer, refused, .. } => {
            debug(format!("{} named addresses that are not dialled: {refused}", said.called(peer)))
        }
        Event::PeerUnreachable { peer, reason, .. } => {
            let why = tried_again(&said.open_error(reason));
            let words = format!("{} is not reached: {why}", said.called(peer));
            trouble_with("peer_unreachable", peer, words, said, now)
        }
        Event::Waiting(waiting) => still_waits(waiting, said, now),
        Event::WayFailed { peer, way, reason } => {
            let (way, reason) = (said.foreign(way), said.foreign(reason));
            debug(format!("{} is not reached by {way}: {reason}", said.called(peer)))
        }
        _ => None,
    }
}

/// Somebody waits, and it was not said yet why nothing comes.
fn still_waits(waiting: &Waiting, said: &mut Said, now: Instant) -> Saying {
    let Waiting { peer, waited_ms, awaits } = waiting;
    let what = match said.is_relay(peer) {
        true => format!("for a place at {}", said.relay(peer)),
        false => format!("for {}", said.called(peer)),
    };
    let awaits: Vec<String> = awaits.iter().map(|awaited| said.awaited(awaited)).collect();
    let why = if awaits.is_empty() { String::new() } else { format!(": {}", awaits.join("; ")) };
    let words = format!("still waiting {what} after {}{why}", span(Duration::from_millis(*waited_ms)));
    let is_told = KNOWN.iter().any(|kind| said.troubles.lasts(kind, &key(peer), now).is_some());
    match is_told {
        true => debug(words),
        false => trouble_with("waiting", peer, words, said, now),
    }
}

/// Troubles that say why nobody came, until somebody does.
const KNOWN: [&str; 4] = ["peer_unreachable", "dial_failed", "reservation_failed", "reservation_lost"];

/// A connection is up.
fn opened(
    peer: &PeerId,
    path: Path,
    direction: Direction,
    transport: Transport,
    said: &mut Said,
    now: Instant,
) -> Saying {
    if said.is_relay(peer) && path.is_direct() {
        return debug(format!("connected with {} over {}", said.relay(peer), carrier(transport)));
    }
    // Relays test addresses of this node, and strangers look what is there.
    let tells = !path.is_direct() || direction == Direction::Outbound;
    let change = said.opened(*peer, path, tells);
    let away = said.troubles.over("peer_unreachable", &key(peer), now);
    said.troubles.over("waiting", &key(peer), now);
    let mut words = match path.relay() {
        None => format!("{} is connected directly over {}", said.called(peer), carrier(transport)),
        Some(relay) => format!("{} is connected through {}", said.called(peer), said.relay(&relay)),
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
fn closed(peer: &PeerId, path: Path, cause: &str, said: &mut Said, now: Instant) -> Saying {
    if said.is_relay(peer) && path.is_direct() {
        return debug(format!("no longer connected with {}: {}", said.relay(peer), said.foreign(cause)));
    }
    let (peer_name, cause) = (said.called(peer), said.foreign(cause));
    match said.closed(*peer, path) {
        Change::Went => news("paths", peer, format!("{peer_name} is gone: {cause}"), said, now),
        Change::Relayed => {
            news("paths", peer, format!("{peer_name} is relayed again: {cause}"), said, now)
        }
        Change::Came | Change::Nothing => debug(format!("a connection with {peer_name} ended: {cause}")),
    }
}

/// A peer that was relayed is not any more.
fn direct(peer: &PeerId, transport: Transport, took_ms: u64, said: &mut Said, now: Instant) -> Saying {
    said.troubles.over("upgrade_failed", &key(peer), now);
    let words = format!(
        "{} is direct after {took_ms} ms over {} (was relayed)",
        said.called(peer),
        carrier(transport)
    );
    news("paths", peer, words, said, now)
}

/// A peer stays relayed, for now.
fn stays_relayed(
    peer: &PeerId,
    reason: &str,
    again_seconds: Option<u64>,
    said: &mut Said,
    now: Instant,
) -> Saying {
    let again = again_seconds.map(|seconds| format!("; tried again in {seconds} s")).unwrap_or_default();
    let words = format!("{} stays relayed: {}{again}", said.called(peer), said.foreign(reason));
    trouble_with("upgrade_failed", peer, words, said, now)
}

//! What an event says to people, and how loudly. Pure: an event, what was said before, and the time.
//!
//! [`Level::Info`] is what an operator wants to know once, [`Level::Warn`] what failed, with cause and remedy;
//! [`Level::Debug`] is for who looks into something. What the network does is told in [`net`], of peers in [`peers`]
//! and what a relay counts in [`relay`]; what programs and people did, here.

mod net;
mod peers;
mod relay;

#[cfg(test)]
mod tests;

use std::{fmt::Display, time::Instant};

use libp2p::PeerId;

use super::{
    Event, ReportEvent, SessionEvent,
    said::Said,
    troubles::{Telling, span},
};
use crate::{
    gateway::{
        self,
        event::{Counted, GatewayEvent},
    },
    plain::one_line,
};

/// How loudly something is said. What ends the program is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Debug,
    Info,
    Warn,
}

/// What is said; none is nothing at all.
pub(super) type Saying = Option<(Level, String)>;

/// The sentence of an event.
pub(super) fn sentence(event: &Event, said: &mut Said, now: Instant) -> Saying {
    match event {
        Event::Bridge(event) => net::sentence(event, said, now),
        Event::Session(event) => session(event, said, now),
        Event::Gateway(event) => gateway(event, said, now),
        Event::Report(event) => report(event, said, now),
    }
}

fn session(event: &SessionEvent, said: &mut Said, now: Instant) -> Saying {
    use SessionEvent::{
        DialFailed, HandshakeFailed, LoadDone, SessionEnded, SessionPinged, SessionReady, StreamTraffic,
    };
    match event {
        SessionReady { peer, network, protocol_version, user_agent, path } => {
            said.troubles.over("dial_failed", &key(peer), now);
            said.troubles.over("handshake_failed", &key(peer), now);
            let words = format!(
                "{} speaks {network} with this node, {path} (version {protocol_version}, {})",
                short(peer),
                foreign(user_agent)
            );
            news("session", peer, words, said, now)
        }
        SessionEnded { peer, cause } => {
            let words = format!("the session with {} ended: {}", short(peer), foreign(cause));
            news("session", peer, words, said, now)
        }
        HandshakeFailed { peer, reason, last } => {
            let words = format!("no session with {}: {}", short(peer), foreign(reason));
            match last {
                true => Some((Level::Debug, words)),
                false => trouble("handshake_failed", &key(peer), words, said, now),
            }
        }
        // The program ends, and says why.
        DialFailed { peer, reason, retry_in_ms: None } => {
            Some((Level::Debug, format!("{} is not reached: {}", short(peer), foreign(reason))))
        }
        DialFailed { peer, reason, retry_in_ms: Some(_) } => {
            let words = format!("{} is not reached: {}", short(peer), tried_again(reason));
            trouble("dial_failed", &key(peer), words, said, now)
        }
        LoadDone { peer, bytes, ms, path, sha256: _ } => {
            let words =
                format!("a load of {bytes} bytes from {} is here after {ms} ms, {path}", short(peer));
            Some((Level::Info, words))
        }
        StreamTraffic { peer, .. } => {
            Some((Level::Debug, format!("the stream with {} was counted", short(peer))))
        }
        SessionPinged { peer, pings, unanswered, slowest_ms } => Some((
            Level::Debug,
            format!(
                "{} answered {pings} pings but {unanswered}, the slowest in {slowest_ms} ms",
                short(peer)
            ),
        )),
    }
}

fn gateway(event: &GatewayEvent, said: &mut Said, now: Instant) -> Saying {
    use GatewayEvent::{
        AccessRefused, AccessReloaded, AccessRevoked, ForwardFailed, ForwardFull, ForwardListening,
        Refused, TargetFailed,
    };
    match event {
        AccessRefused { peer, service, reason } => {
            let words = format!(
                "{peer} may not use `{service}`: {}. If it is to, start with --allow {peer}, or give it a ticket",
                foreign(reason)
            );
            trouble("access_refused", &key(peer), words, said, now)
        }
        AccessRevoked { peer, service } => {
            Some((Level::Info, format!("{} may no longer use `{service}` and was cut off", short(peer))))
        }
        AccessReloaded { service, error: None } => {
            Some((Level::Info, format!("who may use `{service}` was read again")))
        }
        AccessReloaded { service, error: Some(error) } => {
            Some((Level::Warn, format!("who may use `{service}` stays as it was: {error}")))
        }
        TargetFailed { peer, service, target, reason } => {
            let words = format!(
                "`{service}` does not answer at {target} ({} asked for it): {reason}",
                short(peer)
            );
            trouble("target_failed", service.as_str(), words, said, now)
        }
        ForwardListening { peer, service, local } => {
            let there = gateway::next_step(service, local);
            match said.awaits(*peer, there) {
                Some(there) => Some((Level::Info, format!("ready: {there}"))),
                None => {
                    let words = format!("looking for {}; then `{service}` is at {local}", short(peer));
                    Some((Level::Info, words))
                }
            }
        }
        ForwardFailed { peer, service, reason } => {
            let reason = match said.troubles.lasts("peer_unreachable", &key(peer), now) {
                Some(away) => format!("for {} now it is not reached", span(away)),
                None => foreign(reason),
            };
            let words =
                format!("a connection to `{service}` of {} came to nothing: {reason}", short(peer));
            trouble("forward_failed", &key(peer), words, said, now)
        }
        ForwardFull { peer, service, limit } => {
            let words = format!(
                "{limit} connections to `{service}` of {} are open, and further ones wait; --max-connections and \
                 --max-streams-per-peer (here and there) raise that",
                short(peer)
            );
            trouble("forward_full", &key(peer), words, said, now)
        }
        Refused { peer, what, limit } => {
            let words = match what {
                Counted::ServiceConnection => format!(
                    "{} was turned away: the service has {limit} connections already; --max-connections raises that",
                    short(peer)
                ),
                Counted::ServiceConnectionOfPeer => format!(
                    "{} was turned away: it has {limit} connections already; --max-connections-per-peer raises that",
                    short(peer)
                ),
            };
            trouble("service_full", &key(peer), words, said, now)
        }
    }
}

fn report(event: &ReportEvent, said: &mut Said, now: Instant) -> Saying {
    match event {
        ReportEvent::EventsLost { count } => {
            let words = format!("{count} events are missing in the file of --events");
            trouble("events_lost", "", words, said, now)
        }
        ReportEvent::Suppressed { what, count, within_ms } => {
            let words =
                format!("`{what}` happened {count} times more in {} s", within_ms.div_ceil(1000));
            trouble("suppressed", what, words, said, now)
        }
        ReportEvent::NetsReloaded { error: None } => {
            Some((Level::Info, "the ranges of addresses were read again".to_owned()))
        }
        ReportEvent::NetsReloaded { error: Some(error) } => {
            Some((Level::Warn, format!("the ranges of addresses stay as they were: {error}")))
        }
        ReportEvent::MetricsListening { address } => {
            Some((Level::Info, format!("metrics are at http://{address}/metrics")))
        }
        // Where other hosts come, the address has a secret, and is told once by itself.
        ReportEvent::PageListening { address } => {
            let level = if address.ip().is_loopback() { Level::Info } else { Level::Debug };
            Some((level, format!("the page is at http://{address}/")))
        }
    }
}

/// The block that says that the node is usable.
pub(super) fn block(lines: &[String]) -> String {
    format!("ready: {}", lines.join("\n    "))
}

/// What goes wrong: said once, and then summed up.
fn trouble(kind: &'static str, subject: &str, words: String, said: &mut Said, now: Instant) -> Saying {
    let telling: Telling = said.troubles.meet(kind, subject, now);
    let level = if telling.is_told() { Level::Warn } else { Level::Debug };
    Some((level, format!("{words}{telling}")))
}

/// What is good to know, unless it comes too often.
fn news(kind: &'static str, peer: &PeerId, words: String, said: &mut Said, now: Instant) -> Saying {
    let level = if said.is_news(kind, Some(*peer), now) { Level::Info } else { Level::Debug };
    Some((level, words))
}

fn key(peer: &PeerId) -> String {
    peer.to_string()
}

/// A peer's id as people compare it: its ends.
pub(crate) fn short(peer: &PeerId) -> String {
    let id = peer.to_string();
    let end = id.len().saturating_sub(SHORT.1);
    match (id.get(..SHORT.0), id.get(end..)) {
        (Some(start), Some(end)) => format!("{start}…{end}"),
        _ => id,
    }
}

/// Letters of an id at its start, which is the same in all, and at its end, which tells a million peers apart.
const SHORT: (usize, usize) = (4, 6);

/// Words that a peer or a relay may have chosen: on one line, and not longer than a reason ever is.
fn foreign(words: &(impl Display + ?Sized)) -> String {
    let line = one_line(&words.to_string());
    match line.char_indices().nth(FOREIGN_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// What failed, and mends itself.
fn tried_again(cause: &(impl Display + ?Sized)) -> String {
    let cause = foreign(cause);
    let end = if cause.ends_with(['?', '.', '!']) { "" } else { "." };
    format!("{cause}{end} It is tried again by itself")
}

/// Reasons of ours have 300 letters; with eight ways to a peer, a thousand.
const FOREIGN_MAX: usize = 1000;

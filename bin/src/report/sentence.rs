//! What an event says to people, and how loudly. Pure: an event, what was said before, and the time.
//!
//! [`Level::Info`] is what an operator wants to know once, [`Level::Warn`] what failed, with cause and remedy;
//! [`Level::Debug`] is for who looks into something. [`net`] says where the sentences of the bridge's events are; those of
//! what programs and people did stand here.

#[cfg(feature = "kad")]
mod dht;
mod net;
mod own;
mod peers;
mod relay;
mod relays;
mod streams;

#[cfg(test)]
mod tests;

use std::time::Instant;

use libp2p::PeerId;

use super::{
    Event, ReportEvent, SessionEvent,
    called::tried_again,
    said::{Said, Whose},
    troubles::{Telling, span},
};
use crate::gateway::{
    self,
    event::{Counted, GatewayEvent},
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
        #[cfg(feature = "kad")]
        Event::Dht(event) => dht::sentence(event, said),
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
                said.called(peer),
                said.foreign(user_agent)
            );
            news("session", peer, words, said, now)
        }
        SessionEnded { peer, cause } => {
            let words = format!("the session with {} ended: {}", said.called(peer), said.foreign(cause));
            news("session", peer, words, said, now)
        }
        HandshakeFailed { peer, reason, last } => {
            let words = format!("no session with {}: {}", said.called(peer), said.foreign(reason));
            match last {
                true => Some((Level::Debug, words)),
                false => trouble_with("handshake_failed", peer, words, said, now),
            }
        }
        // The program ends, and says why.
        DialFailed { peer, reason, retry_in_ms: None } => Some((
            Level::Debug,
            format!("{} is not reached: {}", said.called(peer), said.failure(reason)),
        )),
        DialFailed { peer, reason, retry_in_ms: Some(_) } => {
            let why = tried_again(&said.failure(reason));
            let words = format!("{} is not reached: {why}", said.called(peer));
            trouble_with("dial_failed", peer, words, said, now)
        }
        LoadDone { peer, bytes, ms, path, sha256: _ } => {
            let words = format!(
                "a load of {bytes} bytes from {} is here after {ms} ms, {path}",
                said.called(peer)
            );
            Some((Level::Info, words))
        }
        StreamTraffic { peer, .. } => {
            Some((Level::Debug, format!("the stream with {} was counted", said.called(peer))))
        }
        SessionPinged { peer, pings, unanswered, slowest_ms } => Some((
            Level::Debug,
            format!(
                "{} answered {pings} pings but {unanswered}, the slowest in {slowest_ms} ms",
                said.called(peer)
            ),
        )),
    }
}

fn gateway(event: &GatewayEvent, said: &mut Said, now: Instant) -> Saying {
    use GatewayEvent::{
        AccessRefused, AccessReloaded, AccessRevoked, ForwardFailed, ForwardFull, ForwardListening,
        PeerFound, Refused, TargetFailed,
    };
    match event {
        AccessRefused { peer, service, reason } => {
            let who = said.named(peer).unwrap_or_else(|| key(peer));
            let words = format!(
                "{who} may not use `{service}`: {}. If it is to, start with --allow {who}, or give it a ticket",
                said.foreign(reason)
            );
            trouble_with("access_refused", peer, words, said, now)
        }
        AccessRevoked { peer, service } => Some((
            Level::Info,
            format!("{} may no longer use `{service}` and was cut off", said.called(peer)),
        )),
        AccessReloaded { service, error: None } => {
            Some((Level::Info, format!("who may use `{service}` was read again")))
        }
        AccessReloaded { service, error: Some(error) } => {
            Some((Level::Warn, format!("who may use `{service}` stays as it was: {error}")))
        }
        TargetFailed { peer, service, target, reason } => {
            let words = format!(
                "`{service}` does not answer at {target} ({} asked for it): {reason}",
                said.called(peer)
            );
            trouble("target_failed", service.as_str(), words, said, now)
        }
        PeerFound { peer, source, addresses: _ } => {
            let where_from = match *source {
                "mdns" => "on the local network",
                "kad" => "where it says in the DHT that it is",
                _ => "where it was reached before",
            };
            Some((Level::Debug, format!("{} may be {where_from}", said.called(peer))))
        }
        ForwardListening { peer, service, local } => {
            let there = gateway::next_step(service, local);
            match said.awaits(*peer, there) {
                Some(there) => Some((Level::Info, format!("ready: {there}"))),
                None => {
                    let words =
                        format!("looking for {}; then `{service}` is at {local}", said.called(peer));
                    Some((Level::Info, words))
                }
            }
        }
        ForwardFailed { peer, service, reason } => {
            let reason = match said.troubles.lasts("peer_unreachable", &key(peer), now) {
                Some(away) => format!("for {} now it is not reached", span(away)),
                None => said.failure(reason),
            };
            let words = format!(
                "a connection to `{service}` of {} came to nothing: {reason}",
                said.called(peer)
            );
            trouble_with("forward_failed", peer, words, said, now)
        }
        ForwardFull { peer, service, limit } => {
            let words = format!(
                "{limit} connections to `{service}` of {} are open, and further ones wait; --max-connections and \
                 --max-streams-per-peer (here and there) raise that",
                said.called(peer)
            );
            trouble_with("forward_full", peer, words, said, now)
        }
        Refused { peer, what, limit } => {
            let words = match what {
                Counted::ServiceConnection => format!(
                    "{} was turned away: the service has {limit} connections already; --max-connections raises that",
                    said.called(peer)
                ),
                Counted::ServiceConnectionOfPeer => format!(
                    "{} was turned away: it has {limit} connections already; --max-connections-per-peer raises that",
                    said.called(peer)
                ),
            };
            trouble_with("service_full", peer, words, said, now)
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

/// What goes wrong with this node: said once, and then summed up.
fn trouble(kind: &'static str, subject: &str, words: String, said: &mut Said, now: Instant) -> Saying {
    told(Level::Warn, words, said.troubles.meet(kind, Whose::Ours, subject, now))
}

/// What goes wrong with a peer: strangers, however many, take no room of those whom this node knows.
fn trouble_with(
    kind: &'static str,
    peer: &PeerId,
    words: String,
    said: &mut Said,
    now: Instant,
) -> Saying {
    let whose = said.whose(peer);
    told(Level::Warn, words, said.troubles.meet(kind, whose, &key(peer), now))
}

/// At this level, if at all.
fn told(level: Level, words: String, telling: Telling) -> Saying {
    let level = if telling.is_told() { level } else { Level::Debug };
    Some((level, format!("{words}{telling}")))
}

fn debug(words: String) -> Saying {
    Some((Level::Debug, words))
}

/// What is good to know, unless it comes too often.
fn news(kind: &'static str, peer: &PeerId, words: String, said: &mut Said, now: Instant) -> Saying {
    let level = if said.is_news_of(kind, *peer, now) { Level::Info } else { Level::Debug };
    Some((level, words))
}

fn key(peer: &PeerId) -> String {
    peer.to_string()
}

//! The relays that this node uses: whether they keep a place for it, and how they do. Pure.

use std::time::Instant;

use libp2p::PeerId;
use punchline_bridge::{Event, status::Health};

use super::{Level, Saying, debug, key, tried_again, trouble};
use crate::report::{
    said::Said,
    troubles::{clocks_apart, span},
};

/// Events of other subjects say nothing here.
pub(super) fn sentence(event: &Event, said: &mut Said, now: Instant) -> Saying {
    match event {
        Event::ReservationHeld { relay, .. } => held(relay, said, now),
        Event::ReservationLost { relay, cause } => {
            said.lost(relay);
            if said.is_stopping() {
                return debug(format!("{} holds no place for this node any more", said.relay(relay)));
            }
            let words = format!("nobody reaches this node through {} any more", said.relay(relay));
            again("reservation_lost", relay, &words, cause, said, now)
        }
        Event::ReservationFailed { relay, cause, failures: _ } => {
            let words = format!("{} holds no place for this node", said.relay(relay));
            again("reservation_failed", relay, &words, cause, said, now)
        }
        Event::RelayNameResolved { name, relays } => {
            relays.iter().for_each(|relay| said.names_relay(*relay));
            let relays: Vec<String> = relays.iter().map(|relay| said.called(relay)).collect();
            let words = format!("{name} stands for {}", relays.join(", "));
            match said.troubles.over("relay_name_failed", name.as_str(), now) {
                Some(away) => Some((Level::Info, format!("{words} again, after {}", span(away)))),
                None => debug(words),
            }
        }
        Event::RelayNameFailed { name, cause, failures: _ } => {
            let why = tried_again(&said.foreign(cause));
            let words = format!("the relays of {name} are not known: {why}");
            trouble("relay_name_failed", name.as_str(), words, said, now)
        }
        Event::RelayHealth { relay, health, was: _ } => health_of(relay, *health, said, now),
        Event::ClockDiffers { relay, seconds } => clock(relay, *seconds, said, now),
        Event::NetworkBlocks { relay, what, .. } => {
            let words = format!("on the way to {}: {what}", said.relay(relay));
            trouble("network_blocks", &key(relay), words, said, now)
        }
        _ => None,
    }
}

/// Others reach this node: said each time, unless a link comes and goes all the time.
fn held(relay: &PeerId, said: &mut Said, now: Instant) -> Saying {
    said.troubles.over("waiting", &key(relay), now);
    let lost = said.troubles.over("reservation_lost", &key(relay), now);
    let failed = said.troubles.over("reservation_failed", &key(relay), now);
    if !said.holds(*relay) {
        return debug(format!("{} renewed this node's place", said.relay(relay)));
    }
    let mut words = format!("peers reach this node through {}", said.relay(relay));
    if let Some(away) = lost.max(failed) {
        words += &format!(" again, after {}", span(away));
    }
    let level = if said.is_news("held", now) { Level::Info } else { Level::Debug };
    Some((level, words))
}

/// A relay that hangs is down and says nothing; one that is gone was told of when its place was lost.
fn health_of(relay: &PeerId, health: Health, said: &mut Said, now: Instant) -> Saying {
    let words = format!("{} is {health}", said.relay(relay));
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
                let words = format!("{} answers again, after {}", said.relay(relay), span(away));
                Some((Level::Info, words))
            }
            None => debug(words),
        },
        Health::Down | Health::Degraded | Health::Unknown => debug(words),
    }
}

fn clock(relay: &PeerId, seconds: i64, said: &mut Said, now: Instant) -> Saying {
    let words = format!(
        "the clock of {} is {} {} this one: set the wrong one right; tickets expire by it",
        said.relay(relay),
        clocks_apart(seconds),
        if seconds < 0 { "behind" } else { "ahead of" }
    );
    trouble("clock_differs", &key(relay), words, said, now)
}

/// What is tried again without anybody's help.
fn again(
    kind: &'static str,
    relay: &PeerId,
    words: &str,
    cause: &str,
    said: &mut Said,
    now: Instant,
) -> Saying {
    let words = format!("{words}: {}", tried_again(&said.foreign(cause)));
    trouble(kind, &key(relay), words, said, now)
}

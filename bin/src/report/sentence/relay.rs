//! What a relay does for its peers: the first are told by name, and then it says every hour what it did. Pure.

use std::time::Instant;

use libp2p::PeerId;
use punchline_bridge::Event;

use super::{Level, Saying};
use crate::report::said::{Said, Tally};

/// Events of other subjects say nothing here.
pub(super) fn sentence(event: &Event, said: &mut Said, now: Instant) -> Saying {
    match event {
        Event::ReservationAccepted { peer, renewed: false } => came(peer, said, now),
        Event::ReservationAccepted { peer, renewed: true } => {
            due(format!("{} renewed its place", said.called(peer)), said, now)
        }
        Event::ReservationEnded { peer } => went(peer, said, now),
        Event::CircuitOpened { source, destination } => {
            let (source, destination) = (said.called(source), said.called(destination));
            due(format!("{source} is connected with {destination} through this relay"), said, now)
        }
        Event::CircuitClosed { source, destination, cause, bytes } => {
            let (source, destination) = (said.called(source), said.called(destination));
            let cause = cause.as_ref().map(|cause| format!(": {}", said.foreign(cause)));
            let cause = cause.unwrap_or_default();
            let words = format!(
                "{source} and {destination} are connected here no more, after {bytes} bytes{cause}"
            );
            carried(*bytes, words, said, now)
        }
        // Every second, for who computes rates: no news for anybody.
        _ => None,
    }
}

/// A peer has a place, which it did not have before.
fn came(peer: &PeerId, said: &mut Said, now: Instant) -> Saying {
    let who = said.called(peer);
    let tally = said.tally();
    tally.kept += 1;
    tally.came += 1;
    let kept = tally.kept;
    let words = format!("{who} can be reached through this relay; {}", peers(kept));
    if tally.greets() { Some((Level::Info, words)) } else { due(words, said, now) }
}

/// A peer has no place any more.
fn went(peer: &PeerId, said: &mut Said, now: Instant) -> Saying {
    let tally = said.tally();
    tally.kept = tally.kept.saturating_sub(1);
    tally.went += 1;
    due(format!("{} has no place here any more", said.called(peer)), said, now)
}

/// A circuit ended, after so many bytes.
fn carried(bytes: u64, words: String, said: &mut Said, now: Instant) -> Saying {
    let tally = said.tally();
    tally.circuits += 1;
    tally.bytes += bytes;
    due(words, said, now)
}

/// What was done since that was said, if it is time; else the event itself, for who looks into something.
fn due(words: String, said: &mut Said, now: Instant) -> Saying {
    let Some(Tally { kept, came, went, circuits, bytes, .. }) = said.tally().due(now) else {
        return Some((Level::Debug, words));
    };
    let words = format!(
        "{} can be reached through this relay ({came} came and {went} went); {circuits} circuits ended, after {} KiB",
        peers(kept),
        bytes.div_ceil(1024)
    );
    Some((Level::Info, words))
}

fn peers(count: u64) -> String {
    if count == 1 { "1 peer".to_owned() } else { format!("{count} peers") }
}

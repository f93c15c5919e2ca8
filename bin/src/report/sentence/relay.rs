//! What a relay does for its peers: the first are told by name, and then it says every hour what it did. Pure.

use std::time::Instant;

use libp2p::PeerId;

use super::{Level, Saying, foreign, short};
use crate::report::said::{Said, Tally};

/// A peer has a place, which it did not have before.
pub(super) fn came(peer: &PeerId, said: &mut Said, now: Instant) -> Saying {
    let tally = said.tally();
    tally.kept += 1;
    tally.came += 1;
    let kept = tally.kept;
    let words = format!("{} can be reached through this relay; {}", short(peer), peers(kept));
    if tally.greets() { Some((Level::Info, words)) } else { due(words, said, now) }
}

/// A peer has no place any more.
pub(super) fn went(peer: &PeerId, said: &mut Said, now: Instant) -> Saying {
    let tally = said.tally();
    tally.kept = tally.kept.saturating_sub(1);
    tally.went += 1;
    due(format!("{} has no place here any more", short(peer)), said, now)
}

/// A circuit ended, after so many bytes.
pub(super) fn carried(bytes: u64, words: String, said: &mut Said, now: Instant) -> Saying {
    let tally = said.tally();
    tally.circuits += 1;
    tally.bytes += bytes;
    due(words, said, now)
}

/// What was done since that was said, if it is time; else the event itself, for who looks into something.
pub(super) fn due(words: String, said: &mut Said, now: Instant) -> Saying {
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

/// How a circuit ended.
pub(super) fn circuit_ended(
    source: &PeerId,
    destination: &PeerId,
    cause: Option<&str>,
    bytes: u64,
) -> String {
    let cause = cause.map(|cause| format!(": {}", foreign(cause))).unwrap_or_default();
    format!(
        "{} and {} are connected here no more, after {bytes} bytes{cause}",
        short(source),
        short(destination)
    )
}

fn peers(count: u64) -> String {
    if count == 1 { "1 peer".to_owned() } else { format!("{count} peers") }
}

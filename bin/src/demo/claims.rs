//! What the demo claims, and whether the counters of both ends and of the relay bear it out. Pure.

use serde::Serialize;

use super::{
    show::bytes,
    stage::{Actor, Seen},
    story::{Act, ENDS, Scene, Story},
};

/// What the relay may carry beyond the streams' own bytes: introducing two peers takes about 20 KiB,
/// twice, and keeping three connections alive 2 KiB a second.
const INTRODUCTION_BYTES_MAX: u64 = 256 << 10;

/// What headers and encryption may add to the streams' bytes on the relay. About half a percent.
const ENVELOPE_PERCENT_MAX: u64 = 2;

/// Of what passes by the relay, so many thousandths may show in its counters: the keeping alive.
const STILL_PERMILLE_MAX: u64 = 10;

/// One thing the product promises, and what was measured.
#[derive(Debug, Serialize)]
pub(super) struct Claim {
    pub(super) text: &'static str,
    pub(super) measured: String,
    pub(super) holds: bool,
}

/// All of them, whether they hold or not.
pub(super) fn of(story: &Story) -> Vec<Claim> {
    vec![
        began_on_the_relay(story),
        moved_and_moved_back(story),
        stayed_one(story),
        arrived_unchanged(story),
        passed_by_the_relay(story),
        carried_what_went_through(story),
        ended_when_told(story),
    ]
}

fn began_on_the_relay(story: &Story) -> Claim {
    let relayed = |end: &Actor| {
        let at = |name| story.first(*end, name).is_some_and(|seen| seen.text("path") == "relayed");
        at("stream_opened") && at("session_ready")
    };
    let before = story.carried(Act::First);
    let ready = story.time_to_session().as_millis();
    Claim {
        text: "the session began on the relay",
        measured: format!("in {ready} ms; {} before the punch", bytes(before)),
        holds: ENDS.iter().all(relayed) && story.has(Scene::Carried(Act::First)),
    }
}

fn moved_and_moved_back(story: &Story) -> Claim {
    let moves: Vec<_> = Act::MOVED.iter().filter_map(|act| story.moved(*act)).collect();
    let worst = moves.iter().map(|moved| moved.worst_gap_ms()).fold(0.0, f64::max);
    let under_load = |act: &Act| story.carried(*act) >= act.bytes_min();
    Claim {
        text: "its stream moved under load",
        measured: format!("{} at both ends; worst gap {worst:.1} ms", moves.len()),
        holds: moves.len() == Act::MOVED.len() && Act::MOVED.iter().all(under_load),
    }
}

fn stayed_one(story: &Story) -> Claim {
    let most = |name| ENDS.iter().map(|end| story.times(*end, name)).max().unwrap_or_default();
    let one = |name| ENDS.iter().all(|end| story.times(*end, name) == 1);
    let none = |name| ENDS.iter().all(|end| story.times(*end, name) == 0);
    let pinged = story.first(Actor::Client, "session_pinged");
    let pinged = |field| pinged.map_or(0, |seen: &Seen| seen.number(field));
    let (pings, unanswered) = (pinged("pings"), pinged("unanswered"));
    Claim {
        text: "it stayed one session, one stream",
        measured: format!(
            "{} and {}; {pings} pings, {unanswered} unanswered",
            most("session_ready"),
            most("stream_opened")
        ),
        holds: one("session_ready")
            && one("stream_opened")
            && none("session_ended")
            && none("stream_closed")
            && pings > 0
            && unanswered == 0,
    }
}

fn arrived_unchanged(story: &Story) -> Claim {
    let load = ENDS.map(|end| story.first(end, "load_done"));
    let seen = |at: usize| load[at].map(|seen| (seen.number("bytes"), seen.text("sha256")));
    let short = |at| seen(at).map_or("none", |(_, hash)| hash.get(..8).unwrap_or("none"));
    let (sent, arrived) = (seen(0), seen(1));
    let carried: u64 = Act::MOVED.iter().map(|act| act.bytes_min()).sum();
    Claim {
        text: "every byte of it arrived, unchanged",
        measured: format!(
            "{}; SHA-256 {}, {}",
            bytes(arrived.map_or(0, |(bytes, _)| bytes)),
            short(0),
            short(1)
        ),
        holds: sent == arrived && sent.is_some_and(|(bytes, hash)| bytes >= carried && hash.len() == 64),
    }
}

fn passed_by_the_relay(story: &Story) -> Claim {
    let acts = [Act::Second, Act::Fourth].map(|act| story.watched(act));
    let still = acts.iter().all(|watched| {
        watched.direct_bytes >= Act::Second.bytes_min()
            && watched.relay_bytes <= watched.direct_bytes * STILL_PERMILLE_MAX / 1000
    });
    let sum = |count: fn(&super::story::Watched) -> u64| acts.iter().map(count).sum();
    Claim {
        text: "direct bytes passed the relay by",
        measured: format!(
            "{}; the relay counted {}",
            bytes(sum(|watched| watched.direct_bytes)),
            bytes(sum(|watched| watched.relay_bytes))
        ),
        holds: still,
    }
}

fn carried_what_went_through(story: &Story) -> Claim {
    let total = |field| ENDS.iter().map(|end| story.stream_bytes(*end, field)).sum::<u64>();
    let (sent, received) = (total("sent_relayed_bytes"), total("received_relayed_bytes"));
    let counted = story.relay_bytes();
    // In and out.
    let most = 2 * (sent + sent * ENVELOPE_PERCENT_MAX / 100) + INTRODUCTION_BYTES_MAX;
    Claim {
        text: "the relay carried the rest, no more",
        measured: format!("{}; {} counted in and out", bytes(sent), bytes(counted)),
        holds: received > 0 && (2 * received..=most).contains(&counted),
    }
}

fn ended_when_told(story: &Story) -> Claim {
    let clean = story.clean_exits();
    Claim {
        text: "all three ended when told to",
        measured: format!("{clean} of 3 exited 0 on SIGTERM"),
        holds: clean == 3,
    }
}

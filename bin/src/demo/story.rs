//! What happened in the demo, and whether it proves what we claim. Pure.

use std::{fmt, process::ExitStatus, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    LOAD_MIB,
    stage::{Actor, Seen},
};

/// What the relay may carry beyond the session's own bytes: introducing two peers takes about 20 KiB.
const INTRODUCTION_BYTES_MAX: u64 = 128 * 1024;

/// What headers and encryption may add to the session's bytes on the relay. About half a percent.
const ENVELOPE_PERCENT_MAX: u64 = 2;

/// What must happen, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    RelayListening,
    ReservationHeld,
    RelayedConnection,
    RelayedStream,
    Session,
    Upgraded,
    Moved,
    LoadSent,
    LoadReceived,
}

impl Scene {
    fn is(self, seen: &Seen) -> bool {
        let (actor, name, path) = match self {
            Self::RelayListening => (Actor::Relay, "listening", None),
            Self::ReservationHeld => (Actor::Server, "reservation_held", None),
            Self::RelayedConnection => (Actor::Client, "connection_opened", Some("relayed")),
            Self::RelayedStream => (Actor::Client, "stream_opened", Some("relayed")),
            // On a fast machine the stream may have moved before Ready came.
            Self::Session => (Actor::Client, "session_ready", None),
            Self::Upgraded => (Actor::Client, "upgrade_succeeded", None),
            Self::Moved => (Actor::Client, "stream_moved", None),
            Self::LoadSent => (Actor::Client, "load_done", Some("direct")),
            Self::LoadReceived => (Actor::Server, "load_done", Some("direct")),
        };
        seen.actor == actor && seen.name() == name && path.is_none_or(|path| seen.text("path") == path)
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RelayListening => "the relay listening",
            Self::ReservationHeld => "the server's reservation",
            Self::RelayedConnection => "the client's connection through the relay",
            Self::RelayedStream => "the client's stream through the relay",
            Self::Session => "Version, Verack and Ready",
            Self::Upgraded => "the upgrade to a direct connection",
            Self::Moved => "the session's move to the direct path",
            Self::LoadSent => "the end of the load at the client",
            Self::LoadReceived => "the end of the load at the server",
        })
    }
}

/// One thing the product promises, and what was measured.
#[derive(Debug, Serialize)]
pub(super) struct Claim {
    pub(super) text: &'static str,
    pub(super) measured: String,
    pub(super) holds: bool,
}

#[derive(Default)]
pub(super) struct Story {
    seen: Vec<Seen>,
    exits: Vec<(Actor, bool)>,
    /// Why it did not come to its end.
    failure: Option<String>,
}

impl Story {
    pub(super) fn add(&mut self, seen: Seen) {
        self.seen.push(seen);
    }

    pub(super) fn exited(&mut self, actor: Actor, status: ExitStatus) {
        self.exits.push((actor, status.success()));
    }

    pub(super) fn broke_off(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    pub(super) fn find(&self, scene: Scene) -> Option<&Seen> {
        self.seen.iter().find(|seen| scene.is(seen))
    }

    fn at(&self, scene: Scene) -> Duration {
        self.find(scene).map(|seen| seen.at).unwrap_or_default()
    }

    /// Payload of the client's streams by direction and path.
    pub(super) fn stream_bytes(&self, field: &str) -> u64 {
        let closed = |seen: &&Seen| seen.actor == Actor::Client && seen.name() == "stream_closed";
        self.seen.iter().filter(closed).map(|seen| seen.number(field)).sum()
    }

    /// What the relay received and sent in all, from its own counters.
    pub(super) fn relay_bytes(&self) -> u64 {
        let last = self.seen.iter().rev().find(|seen| seen.name() == "relay_traffic");
        last.map_or(0, |seen| seen.number("received_bytes") + seen.number("sent_bytes"))
    }

    /// From the client's first sight of the peer to Ready.
    pub(super) fn time_to_session(&self) -> Duration {
        self.at(Scene::Session).saturating_sub(self.at(Scene::RelayedConnection))
    }

    /// From the client's first sight of the peer to a direct connection.
    pub(super) fn time_to_direct(&self) -> Duration {
        let upgraded = self.find(Scene::Upgraded);
        Duration::from_millis(upgraded.map_or(0, |seen| seen.number("took_ms")))
    }

    /// How long nothing could flow while the session moved, in milliseconds.
    pub(super) fn gap_ms(&self) -> f64 {
        let moved = self.find(Scene::Moved);
        moved.and_then(|seen| seen.event.get("gap_ms")).and_then(Value::as_f64).unwrap_or_default()
    }

    /// Sessions that the client had: one, if the first survived the move.
    fn sessions(&self) -> usize {
        let ready = |seen: &&Seen| seen.actor == Actor::Client && seen.name() == "session_ready";
        self.seen.iter().filter(ready).count()
    }

    pub(super) fn load(&self) -> (u64, Duration) {
        let sent = self.find(Scene::LoadSent);
        let number = |field| sent.map_or(0, |seen| seen.number(field));
        (number("bytes"), Duration::from_millis(number("ms")))
    }

    pub(super) fn claims(&self) -> Vec<Claim> {
        let load_bytes = LOAD_MIB << 20;
        let sent = self.find(Scene::LoadSent);
        let received = self.find(Scene::LoadReceived);
        let hash =
            |seen: Option<&Seen>| seen.map(|seen| seen.text("sha256").to_owned()).unwrap_or_default();
        let same = hash(sent) == hash(received) && !hash(sent).is_empty();
        let arrived = |seen: Option<&Seen>| seen.map_or(0, |seen| seen.number("bytes"));
        let whole = arrived(sent) == arrived(received) && arrived(sent) >= load_bytes;
        let direct = self.stream_bytes("sent_direct_bytes");
        let relayed = self.stream_bytes("sent_relayed_bytes");
        let before = relayed + self.stream_bytes("received_relayed_bytes");
        let relay = self.relay_bytes();
        // In and out.
        let carried_max =
            2 * (before + before * ENVELOPE_PERCENT_MAX / 100 + INTRODUCTION_BYTES_MAX / 2);
        let clean = self.exits.len() == 3 && self.exits.iter().all(|(_, clean)| *clean);
        vec![
            Claim {
                text: "the peers met through the relay",
                measured: format!(
                    "Version, Verack, Ready {} ms after the circuit",
                    self.time_to_session().as_millis()
                ),
                holds: self.find(Scene::RelayedStream).is_some() && self.find(Scene::Session).is_some(),
            },
            Claim {
                text: "a direct connection replaced it",
                measured: format!("{} ms after the circuit", self.time_to_direct().as_millis()),
                holds: self.find(Scene::Upgraded).is_some(),
            },
            Claim {
                text: "the live session moved, load and all",
                measured: format!(
                    "{} session, gap {:.1} ms, {relayed} bytes of it on the relay",
                    self.sessions(),
                    self.gap_ms(),
                ),
                holds: self.sessions() == 1
                    && self.find(Scene::Moved).is_some_and(|seen| seen.text("to") == "direct"),
            },
            Claim {
                text: "every byte of the load arrived, unchanged",
                measured: format!(
                    "{} bytes, SHA-256 {} at the client; {}, {} at the server",
                    arrived(sent),
                    short(&hash(sent)),
                    arrived(received),
                    short(&hash(received))
                ),
                holds: same && whole,
            },
            Claim {
                text: "the load went over the direct path",
                measured: format!("{direct} bytes sent on it, {relayed} on the relayed"),
                holds: direct >= load_bytes,
            },
            Claim {
                text: "the relay saw none of the direct bytes",
                measured: format!(
                    "{relay} bytes in all, in and out: the introduction and {before} of the session"
                ),
                holds: relay > 0 && relay < carried_max,
            },
            Claim {
                text: "all three ended cleanly when told to",
                measured: format!(
                    "{} of 3 exited 0 on SIGTERM",
                    self.exits.iter().filter(|(_, clean)| *clean).count()
                ),
                holds: clean,
            },
        ]
    }

    pub(super) fn to_json(&self) -> Value {
        let ms = |duration: Duration| duration.as_millis() as u64;
        let claims = self.claims();
        let (load_bytes, load_took) = self.load();
        json!({
            "ok": self.failure.is_none() && claims.iter().all(|claim| claim.holds),
            "failure": self.failure,
            "claims": claims,
            "time_to_session_ms": ms(self.time_to_session()),
            "time_to_direct_ms": ms(self.time_to_direct()),
            "gap_ms": self.gap_ms(),
            "load_bytes": load_bytes,
            "load_ms": ms(load_took),
            "sha256": self.find(Scene::LoadReceived).map(|seen| seen.text("sha256")),
            "bytes": {
                "sent_direct": self.stream_bytes("sent_direct_bytes"),
                "sent_relayed": self.stream_bytes("sent_relayed_bytes"),
                "received_direct": self.stream_bytes("received_direct_bytes"),
                "received_relayed": self.stream_bytes("received_relayed_bytes"),
                "relay_total": self.relay_bytes(),
            },
            "timeline": self.seen.iter().map(|seen| json!({
                "at_ms": ms(seen.at), "who": seen.actor, "event": seen.event,
            })).collect::<Vec<_>>(),
        })
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or("none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_that_broke_off_is_not_ok_and_says_why() {
        let mut story = Story::default();
        assert_eq!(story.to_json()["failure"], Value::Null);
        story.broke_off("the relay ended on its own".to_owned());
        let told = story.to_json();
        assert_eq!(
            (&told["ok"], &told["failure"]),
            (&json!(false), &json!("the relay ended on its own"))
        );
    }
}

//! What happened in the demo, and what of it can be counted. Pure: a log of events, and questions to it.
//!
//! The story has four acts. The demo begins each but the first with a [`Cue`], and asks both ends for
//! their counters right before:
//!
//! ```text
//! relayed --allow-upgrades--> direct --close-direct--> relayed --allow-upgrades--> direct --end-load--
//! ```
//! `claims` judges it.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::{
    claims::{self, Claim},
    stage::{Actor, Seen},
};
use crate::rehearsal::Cue;

/// What the load must bring through the relay in each relayed act, at both ends.
pub(super) const RELAYED_BYTES_MIN: u64 = 4 << 20;

/// What it must bring over the direct path in each direct act, at both ends. Large enough that the relay
/// could not hide it.
pub(super) const DIRECT_BYTES_MIN: u64 = 16 << 20;

/// After a move to the direct path, until the relay has passed on what was under way.
const SETTLED: Duration = Duration::from_millis(300);

/// The two ends of the session.
pub(super) const ENDS: [Actor; 2] = [Actor::Client, Actor::Server];

/// A stretch of the story on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// On the relay, until the punch is allowed.
    First,
    /// Direct, until the direct connection is closed.
    Second,
    /// On the relay again.
    Third,
    /// Direct again, until the load ends.
    Fourth,
}

impl Act {
    /// Those that begin with a move.
    pub(super) const MOVED: [Self; 3] = [Self::Second, Self::Third, Self::Fourth];

    pub(super) fn path(self) -> &'static str {
        if self.is_direct() { "direct" } else { "relayed" }
    }

    pub(super) fn is_direct(self) -> bool {
        matches!(self, Self::Second | Self::Fourth)
    }

    /// What the load must bring in it.
    pub(super) fn bytes_min(self) -> u64 {
        if self.is_direct() { DIRECT_BYTES_MIN } else { RELAYED_BYTES_MIN }
    }

    /// The cue that begins the move to it.
    fn cue(self) -> Option<Cue> {
        match self {
            Self::First => None,
            Self::Second | Self::Fourth => Some(Cue::AllowUpgrades),
            Self::Third => Some(Cue::CloseDirect),
        }
    }
}

/// What must happen, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    RelayListening,
    ReservationHeld,
    /// At both ends.
    Session,
    /// Both ends have told what they carried, since the log was this long.
    Counted(usize),
    /// Both ends have moved to this act's path.
    Moved(Act),
    /// The load brought what it must in this act; in a direct one also while the relay was watched.
    Carried(Act),
    /// At both ends, and the client has told how the session answered meanwhile.
    LoadDone,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RelayListening => f.write_str("the relay listening"),
            Self::ReservationHeld => f.write_str("the server's reservation"),
            Self::Session => f.write_str("Version, Verack and Ready"),
            Self::Counted(_) => f.write_str("the count of both ends"),
            Self::Moved(act) => write!(f, "the stream's move to a {} path", act.path()),
            Self::Carried(act) => {
                let mebibytes = act.bytes_min() >> 20;
                write!(f, "{mebibytes} MiB of load on the {} path", act.path())
            }
            Self::LoadDone => f.write_str("the end of the load"),
        }
    }
}

/// A move of the stream, as both ends told it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moved {
    pub(super) act: Act,
    /// How long nothing could flow, at each end.
    pub(super) client_gap_ms: f64,
    pub(super) server_gap_ms: f64,
    /// From the cue until both ends had moved.
    pub(super) after: Duration,
}

impl Moved {
    pub(super) fn worst_gap_ms(&self) -> f64 {
        self.client_gap_ms.max(self.server_gap_ms)
    }
}

/// What passed while a direct act was watched from one count of the relay to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Watched {
    /// Sent or received directly, whichever end saw less.
    pub(super) direct_bytes: u64,
    /// By how much the relay's counters rose, in and out.
    pub(super) relay_bytes: u64,
}

#[derive(Default)]
pub(super) struct Story {
    seen: Vec<Seen>,
    exits: Vec<bool>,
    /// Why it did not come to its end.
    failure: Option<String>,
}

impl Story {
    pub(super) fn add(&mut self, seen: Seen) {
        self.seen.push(seen);
    }

    /// One of the three ended, with 0 or not.
    pub(super) fn exited(&mut self, clean: bool) {
        self.exits.push(clean);
    }

    pub(super) fn broke_off(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    /// How long the log is.
    pub(super) fn length(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn has(&self, scene: Scene) -> bool {
        match scene {
            Scene::RelayListening => self.first(Actor::Relay, "listening").is_some(),
            Scene::ReservationHeld => self.first(Actor::Server, "reservation_held").is_some(),
            Scene::Session => ENDS.iter().all(|end| self.first(*end, "session_ready").is_some()),
            Scene::Counted(since) => ENDS.iter().all(|end| {
                let late = self.seen.get(since..).unwrap_or_default();
                late.iter().any(|seen| seen.is(*end, "stream_traffic"))
            }),
            Scene::Moved(act) => self.moved(act).is_some(),
            Scene::Carried(act) => {
                let watched = !act.is_direct() || self.watched(act).direct_bytes >= act.bytes_min();
                watched && self.carried(act) >= act.bytes_min()
            }
            Scene::LoadDone => {
                ENDS.iter().all(|end| self.first(*end, "load_done").is_some())
                    && self.first(Actor::Client, "session_pinged").is_some()
            }
        }
    }

    pub(super) fn first(&self, actor: Actor, name: &str) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.is(actor, name))
    }

    /// Whether they were told to stop.
    pub(super) fn is_over(&self) -> bool {
        self.seen.iter().any(Seen::is_curtain)
    }

    /// How often an end said so before anybody was told to stop.
    pub(super) fn times(&self, actor: Actor, name: &str) -> usize {
        let stopped = self.seen.iter().position(Seen::is_curtain).unwrap_or(self.seen.len());
        self.seen[..stopped].iter().filter(|seen| seen.is(actor, name)).count()
    }

    /// Where the cue that begins an act stands; for the first act, the beginning.
    fn begin(&self, act: Act) -> Option<usize> {
        let Some(cue) = act.cue() else { return Some(0) };
        let nth = usize::from(act == Act::Fourth);
        let mut cues = self.seen.iter().enumerate().filter(|(_, seen)| seen.is_cue(cue));
        cues.nth(nth).map(|(at, _)| at)
    }

    /// Where the next act's cue stands, or the log ends.
    fn end(&self, act: Act) -> usize {
        let next = match act {
            Act::First => self.begin(Act::Second),
            Act::Second => self.begin(Act::Third),
            Act::Third => self.begin(Act::Fourth),
            Act::Fourth => self.seen.iter().position(|seen| seen.is_cue(Cue::EndLoad)),
        };
        next.unwrap_or(self.seen.len())
    }

    /// Where an end tells that it moved to an act's path.
    fn move_of(&self, act: Act, end: Actor) -> Option<usize> {
        let (begin, until) = (self.begin(act)?, self.end(act));
        let told = |seen: &Seen| seen.is(end, "stream_moved") && seen.text("to") == act.path();
        let at = self.seen.get(begin..until)?.iter().position(told)?;
        Some(begin + at)
    }

    pub(super) fn moved(&self, act: Act) -> Option<Moved> {
        let begin = self.seen[self.begin(act)?].at;
        let [client, server] = [Actor::Client, Actor::Server].map(|end| self.move_of(act, end));
        let (client, server) = (&self.seen[client?], &self.seen[server?]);
        Some(Moved {
            act,
            client_gap_ms: client.float("gap_ms"),
            server_gap_ms: server.float("gap_ms"),
            after: client.at.max(server.at).saturating_sub(begin),
        })
    }

    /// The last count of an end before a place in the log.
    fn counted(&self, end: Actor, before: usize, field: &str) -> u64 {
        let log = self.seen.get(..before).unwrap_or_default();
        let last = log.iter().rev().find(|seen| seen.is(end, "stream_traffic"));
        last.map_or(0, |seen| seen.number(field))
    }

    /// Bytes that the client sent and the server received on an act's path during it, whichever is less.
    pub(super) fn carried(&self, act: Act) -> u64 {
        let Some(begin) = self.begin(act) else { return 0 };
        let until = self.end(act);
        let grown = |end, direction: &str| {
            let field = format!("{direction}_{}_bytes", act.path());
            self.counted(end, until, &field).saturating_sub(self.counted(end, begin, &field))
        };
        grown(Actor::Client, "sent").min(grown(Actor::Server, "received"))
    }

    /// What passed by the relay in a direct act, from the first of its counts to the last.
    pub(super) fn watched(&self, act: Act) -> Watched {
        let moves = ENDS.map(|end| self.move_of(act, end));
        let [Some(client), Some(server)] = moves else { return Watched::default() };
        let moved = client.max(server);
        let settled = self.seen[moved].at + SETTLED;
        let counts = || {
            let act = (moved..self.end(act)).map(|at| (at, &self.seen[at]));
            act.filter(|(_, seen)| seen.is(Actor::Relay, "relay_traffic") && seen.at >= settled)
        };
        let (Some((from, first)), Some((to, last))) = (counts().next(), counts().next_back()) else {
            return Watched::default();
        };
        let grown = |end, field| {
            let next = self.seen[from..to].iter().find(|seen| seen.is(end, "stream_traffic"));
            let next = next.map(|seen| seen.number(field));
            next.map_or(0, |next| self.counted(end, to, field).saturating_sub(next))
        };
        let sent = grown(Actor::Client, "sent_direct_bytes");
        Watched {
            direct_bytes: sent.min(grown(Actor::Server, "received_direct_bytes")),
            relay_bytes: relayed(last).saturating_sub(relayed(first)),
        }
    }

    /// Payload of an end's streams by direction and path, in all.
    pub(super) fn stream_bytes(&self, end: Actor, field: &str) -> u64 {
        let closed = self.seen.iter().filter(|seen| seen.is(end, "stream_closed"));
        closed.map(|seen| seen.number(field)).sum()
    }

    /// What the relay received and sent in all, from its own counters.
    pub(super) fn relay_bytes(&self) -> u64 {
        let last = self.seen.iter().rev().find(|seen| seen.is(Actor::Relay, "relay_traffic"));
        last.map_or(0, relayed)
    }

    /// From the client's circuit to Ready.
    pub(super) fn time_to_session(&self) -> Duration {
        let at = |name| self.first(Actor::Client, name).map(|seen| seen.at).unwrap_or_default();
        at("session_ready").saturating_sub(at("connection_opened"))
    }

    /// How many of the three exited with 0.
    pub(super) fn clean_exits(&self) -> usize {
        self.exits.iter().filter(|clean| **clean).count()
    }

    pub(super) fn claims(&self) -> Vec<Claim> {
        claims::of(self)
    }

    pub(super) fn to_json(&self) -> Value {
        let ms = |duration: Duration| duration.as_millis() as u64;
        let claims = self.claims();
        let first_move = self.moved(Act::Second);
        let load = |field| self.first(Actor::Client, "load_done").map(|seen| seen.number(field));
        let bytes = |end| {
            json!({
                "sent_direct": self.stream_bytes(end, "sent_direct_bytes"),
                "sent_relayed": self.stream_bytes(end, "sent_relayed_bytes"),
                "received_direct": self.stream_bytes(end, "received_direct_bytes"),
                "received_relayed": self.stream_bytes(end, "received_relayed_bytes"),
                "relay_total": self.relay_bytes(),
            })
        };
        json!({
            "ok": self.failure.is_none() && claims.iter().all(|claim| claim.holds),
            "failure": self.failure,
            "claims": claims,
            "time_to_session_ms": ms(self.time_to_session()),
            "time_to_direct_ms": first_move.map_or(0, |moved| ms(moved.after)),
            "gap_ms": Act::MOVED.iter().filter_map(|act| self.moved(*act)).fold(0.0, |worst, moved| {
                moved.worst_gap_ms().max(worst)
            }),
            "load_bytes": load("bytes").unwrap_or_default(),
            "load_ms": load("ms").unwrap_or_default(),
            "sha256": self.first(Actor::Server, "load_done").map(|seen| seen.text("sha256")),
            "bytes": bytes(Actor::Client),
            "server_bytes": bytes(Actor::Server),
            "moves": Act::MOVED.iter().filter_map(|act| self.moved(*act)).map(|moved| json!({
                "to": moved.act.path(),
                "client_gap_ms": moved.client_gap_ms,
                "server_gap_ms": moved.server_gap_ms,
                "after_ms": ms(moved.after),
                "carried_bytes": self.carried(moved.act),
                "relay_bytes": moved.act.is_direct().then(|| self.watched(moved.act).relay_bytes),
            })).collect::<Vec<_>>(),
            "timeline": self.seen.iter().map(|seen| json!({
                "at_ms": ms(seen.at), "who": seen.actor, "event": seen.event,
            })).collect::<Vec<_>>(),
        })
    }
}

fn relayed(count: &Seen) -> u64 {
    count.number("received_bytes") + count.number("sent_bytes")
}

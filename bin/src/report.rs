//! Events out: one JSON object a line to wherever `--events` says, and a log line each.
//!
//! Reading order: here the vocabulary and the reporter; [`log`] writes to standard error; `outlet` keeps
//! whoever has a line from waiting for whoever reads it; `lines` writes whole ones or none, `place` knows
//! where to.

mod lines;
pub mod log;
mod outlet;
mod place;

use std::{io, num::NonZeroU64, path::Path, time::Duration};

use libp2p::PeerId;
use punchline_bridge::{Path as NetPath, StreamFacts, StreamId};
use serde::Serialize;
use serde_json::{Map, Value};

use self::{
    outlet::{Outlet, Voice},
    place::{NamedFile, Place},
};
use crate::gateway::event::GatewayEvent;

/// Everything a program of ours reports: what its node did, and what its sessions did.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// From the bridge.
    Bridge(punchline_bridge::Event),
    /// From the Kaspa sessions.
    Session(SessionEvent),
    /// From expose and forward.
    Gateway(GatewayEvent),
    /// Of the report itself.
    Report(ReportEvent),
}

/// What is to be said of the report itself.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ReportEvent {
    /// Events are missing here: they could not be written, or nobody read them fast enough.
    EventsLost {
        /// How many.
        count: u64,
    },
}

/// What happened to a Kaspa session.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SessionEvent {
    /// Version, Verack and Ready are done at both ends.
    SessionReady {
        /// The other end.
        peer: PeerId,
        /// Kaspa's name of the network: `kaspa-mainnet` and so on.
        network: String,
        /// The version that both speak.
        protocol_version: u32,
        /// What the peer calls itself.
        user_agent: String,
        /// The path of its stream.
        path: NetPath,
    },
    /// A session ended.
    SessionEnded {
        /// The other end.
        peer: PeerId,
        /// Why.
        cause: String,
    },
    /// Version, Verack and Ready were not completed.
    HandshakeFailed {
        /// The other end.
        peer: PeerId,
        /// Why.
        reason: String,
    },
    /// A peer could not be reached; tried again unless the program ends.
    DialFailed {
        /// The other end.
        peer: PeerId,
        /// Why.
        reason: String,
        /// Milliseconds until the next attempt; absent if there is none.
        retry_in_ms: Option<u64>,
    },
    /// A load has arrived whole.
    LoadDone {
        /// The other end.
        peer: PeerId,
        /// Bytes of the load, without any framing.
        bytes: u64,
        /// SHA-256 over them, in order, as hexadecimal digits.
        sha256: String,
        /// Milliseconds from the first to the last.
        ms: u64,
        /// The path of the session's stream when it was done.
        path: NetPath,
    },
    /// In a rehearsal: what the session's stream has carried so far.
    StreamTraffic {
        /// The other end.
        peer: PeerId,
        /// The stream.
        stream: StreamId,
        /// The path that carries it now.
        path: NetPath,
        /// Bytes of payload by direction and path, counted as in `stream_closed`.
        sent_direct_bytes: u64,
        /// Likewise.
        sent_relayed_bytes: u64,
        /// Likewise.
        received_direct_bytes: u64,
        /// Likewise.
        received_relayed_bytes: u64,
    },
    /// In a rehearsal: what the session itself said while the load ran.
    SessionPinged {
        /// The other end.
        peer: PeerId,
        /// Pings that were sent, one after the other's Pong.
        pings: u64,
        /// Those that were not answered.
        unanswered: u64,
        /// The longest round trip, in milliseconds.
        slowest_ms: f64,
    },
}

impl SessionEvent {
    /// What a stream has carried so far.
    pub(crate) fn traffic(facts: &StreamFacts) -> Self {
        Self::StreamTraffic {
            peer: facts.peer,
            stream: facts.stream,
            path: facts.path(),
            sent_direct_bytes: facts.sent_direct_bytes(),
            sent_relayed_bytes: facts.sent_relayed_bytes(),
            received_direct_bytes: facts.received_direct_bytes(),
            received_relayed_bytes: facts.received_relayed_bytes(),
        }
    }
}

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    out: Option<Outlet>,
}

impl Reporter {
    /// Events are logged and nothing else.
    pub fn none() -> Self {
        Self { out: None }
    }

    /// `-` is standard output; a file is made, or appended to. Before it has more than `bytes_max` bytes,
    /// it is moved to its name with `.1` at the end, and a new one begins.
    ///
    /// # Errors
    /// If the file cannot be opened, or `bytes_max` is for what is no regular file.
    pub fn open(events: &Path, bytes_max: Option<NonZeroU64>) -> io::Result<Self> {
        let gap = |count| line(&ReportEvent::EventsLost { count }.into()).unwrap_or_default();
        let (place, name) = match (events.to_str(), bytes_max) {
            (Some("-"), None) => (Place::stdout()?, "standard output".to_owned()),
            (Some("-"), Some(_)) => return Err(io::Error::other("only a file can be bounded")),
            _ => {
                let file = NamedFile::open(events, bytes_max.map(NonZeroU64::get))?;
                (Place::Named(file), events.display().to_string())
            }
        };
        let voice = Voice { subject: Some(format!("events to {name}")), gap };
        Ok(Self { out: Some(Outlet::start(place, voice)?) })
    }

    /// Whether [`Reporter::open`] may succeed; leaves no trace.
    ///
    /// # Errors
    /// If the file cannot be opened, or its directory does not exist.
    pub fn check(events: &Path) -> io::Result<()> {
        if events.to_str() == Some("-") { Ok(()) } else { place::check(events) }
    }

    /// Writes one event down and logs it; never waits.
    pub fn report(&self, event: impl Into<Event>) {
        let event = event.into();
        log::event(&event);
        if let (Some(out), Some(line)) = (&self.out, line(&event)) {
            out.send(line);
        }
    }

    /// The file of events is opened anew: it may have been moved away.
    pub fn reopen(&self) {
        if let Some(out) = &self.out {
            out.reopen();
        }
    }

    /// Waits until the events are written, or the deadline is over.
    pub fn finish(&self, deadline: Duration) {
        if let Some(out) = &self.out {
            out.finish(deadline);
        }
    }
}

/// Whether `--events` names a regular file, which may be moved away and opened anew.
pub fn is_file(events: &Path) -> bool {
    events.to_str() != Some("-") && events.metadata().map_or(true, |found| found.is_file())
}

/// An event as it is written: a JSON object that begins with the time, and the end of the line.
fn line(event: &Event) -> Option<String> {
    let Ok(Value::Object(fields)) = serde_json::to_value(event) else { return None };
    let mut object = Map::new();
    object.insert("ts".to_owned(), format!("{:.6}", jiff::Timestamp::now()).into());
    object.extend(fields);
    Some(Value::Object(object).to_string() + "\n")
}

impl From<punchline_bridge::Event> for Event {
    fn from(event: punchline_bridge::Event) -> Self {
        Self::Bridge(event)
    }
}

impl From<GatewayEvent> for Event {
    fn from(event: GatewayEvent) -> Self {
        Self::Gateway(event)
    }
}

impl From<SessionEvent> for Event {
    fn from(event: SessionEvent) -> Self {
        Self::Session(event)
    }
}

impl From<ReportEvent> for Event {
    fn from(event: ReportEvent) -> Self {
        Self::Report(event)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer() -> PeerId {
        "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp".parse().unwrap()
    }

    fn examples() -> Vec<SessionEvent> {
        vec![
            SessionEvent::SessionReady {
                peer: peer(),
                network: "kaspa-mainnet".to_owned(),
                protocol_version: 11,
                user_agent: "/kaspad:2.1.0/kaspad:2.1.0/".to_owned(),
                path: NetPath::Direct,
            },
            SessionEvent::SessionEnded { peer: peer(), cause: "the peer closed the session".to_owned() },
            SessionEvent::HandshakeFailed { peer: peer(), reason: "wrong network".to_owned() },
            SessionEvent::DialFailed {
                peer: peer(),
                reason: "no answer within 10 s".to_owned(),
                retry_in_ms: Some(500),
            },
            SessionEvent::LoadDone {
                peer: peer(),
                bytes: 67_108_864,
                sha256: "c02c9eec62d9025b6fcee5c96e6951eae9f8f50b3f68cda336707fbae3f4c7c0".to_owned(),
                ms: 5145,
                path: NetPath::Direct,
            },
            SessionEvent::StreamTraffic {
                peer: peer(),
                stream: StreamId::from_bytes([0x5e; 16]),
                path: NetPath::Direct,
                sent_direct_bytes: 70_881_000,
                sent_relayed_bytes: 4_718_600,
                received_direct_bytes: 745,
                received_relayed_bytes: 395,
            },
            SessionEvent::SessionPinged { peer: peer(), pings: 812, unanswered: 0, slowest_ms: 14.2 },
        ]
    }

    fn position(event: &SessionEvent) -> usize {
        match event {
            SessionEvent::SessionReady { .. } => 0,
            SessionEvent::SessionEnded { .. } => 1,
            SessionEvent::HandshakeFailed { .. } => 2,
            SessionEvent::DialFailed { .. } => 3,
            SessionEvent::LoadDone { .. } => 4,
            SessionEvent::StreamTraffic { .. } => 5,
            SessionEvent::SessionPinged { .. } => 6,
        }
    }

    #[test]
    fn every_session_event_stands_in_the_document_as_it_is_written() {
        let document = include_str!("../../design/events.md");
        let documented: Vec<Value> = document
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| {
                let mut value: Value = serde_json::from_str(line).unwrap();
                value.as_object_mut().unwrap().remove("ts").expect("every event has a time");
                value
            })
            .collect();
        for (at, event) in examples().iter().enumerate() {
            assert_eq!(position(event), at);
            let written = serde_json::to_value(event).unwrap();
            assert!(documented.contains(&written), "not in design/events.md: {written}");
        }
        let own = serde_json::to_value(ReportEvent::EventsLost { count: 1204 }).unwrap();
        assert!(documented.contains(&own), "not in design/events.md: {own}");
    }

    #[test]
    fn an_event_is_one_line_that_begins_with_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let reporter = Reporter::open(&path, None).unwrap();
        for event in examples() {
            reporter.report(event);
        }
        reporter.finish(Duration::from_secs(10));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), examples().len());
        for line in text.lines() {
            let fields: Value = serde_json::from_str(line).unwrap();
            let time = fields["ts"].as_str().unwrap();
            assert!(time.parse::<jiff::Timestamp>().is_ok());
            assert_eq!(time.len(), "2026-01-01T00:00:00.000000Z".len(), "microseconds: {time}");
            assert!(line.starts_with("{\"ts\":"), "{line}");
        }
    }
}

//! Events out: one JSON object a line to wherever `--events` says, and a log line each.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::PeerId;
use punchline_bridge::Path as NetPath;
use serde::Serialize;
use serde_json::{Map, Value};

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
    /// A load of Kaspa messages has arrived whole.
    LoadDone {
        /// The other end.
        peer: PeerId,
        /// Bytes of ids.
        bytes: u64,
        /// SHA-256 over them, in order, as hexadecimal digits.
        sha256: String,
        /// Milliseconds from the first to the last.
        ms: u64,
        /// The path of the session's stream when it was done.
        path: NetPath,
    },
}

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    out: Option<Arc<Mutex<Box<dyn Write + Send>>>>,
}

impl Reporter {
    /// Events are logged and nothing else.
    pub fn none() -> Self {
        Self { out: None }
    }

    /// `-` is standard output; a file is created, or appended to.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(events: &Path) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match events.to_str() {
            Some("-") => Box::new(io::stdout()),
            _ => Box::new(File::options().create(true).append(true).open(events)?),
        };
        Ok(Self { out: Some(Arc::new(Mutex::new(out))) })
    }

    /// Whether [`Reporter::open`] may succeed; leaves no trace.
    ///
    /// # Errors
    /// If the file cannot be opened, or its directory does not exist.
    pub fn check(events: &Path) -> io::Result<()> {
        if events.to_str() == Some("-") {
            return Ok(());
        }
        match File::options().append(true).open(events) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = events.parent().filter(|parent| !parent.as_os_str().is_empty());
                directory.unwrap_or(Path::new(".")).metadata().map(drop)
            }
            opened => opened.map(drop),
        }
    }

    /// Writes one event down and logs it.
    pub fn report(&self, event: impl Into<Event>) {
        let Ok(Value::Object(fields)) = serde_json::to_value(event.into()) else { return };
        log(&fields);
        let Some(out) = &self.out else { return };
        let mut line = Map::new();
        line.insert("ts".to_owned(), format!("{:.6}", jiff::Timestamp::now()).into());
        line.extend(fields);
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that went away is no reason to stop serving peers.
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            tracing::debug!(%error, "an event could not be written");
        }
    }
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

/// Peers' addresses are left out: they belong in the debug log and in the events file only.
fn log(fields: &Map<String, Value>) {
    let name = fields.get("event").and_then(Value::as_str).unwrap_or_default();
    let private = |key: &str| name == "connection_opened" && key == "address";
    let facts: Vec<String> = fields
        .iter()
        .filter(|(key, value)| *key != "event" && !private(key) && !value.is_null())
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key}={text}"),
            other => format!("{key}={other}"),
        })
        .collect();
    let facts = facts.join(" ");
    match name {
        "listen_failed" => tracing::warn!(%facts, "{name}"),
        _ => tracing::info!(%facts, "{name}"),
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
        ]
    }

    fn position(event: &SessionEvent) -> usize {
        match event {
            SessionEvent::SessionReady { .. } => 0,
            SessionEvent::SessionEnded { .. } => 1,
            SessionEvent::HandshakeFailed { .. } => 2,
            SessionEvent::DialFailed { .. } => 3,
            SessionEvent::LoadDone { .. } => 4,
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
    }

    #[test]
    fn an_event_is_one_line_that_begins_with_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let reporter = Reporter::open(&path).unwrap();
        for event in examples() {
            reporter.report(event);
        }
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

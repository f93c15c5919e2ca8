//! Events out: one JSON object a line to wherever `--events` says, and a log line each.
//!
//! Reading order: here the vocabulary and the reporter; `summary` holds strangers to a pace. `sentence` decides what an
//! event says to people, from what was `said` before; `troubles` are said once and then summed up. `entry` is a sentence
//! in the [`log`], which goes to standard error and looks as `format` says; `called` says what peers are called there.
//! `outlet` keeps whoever has a line from waiting for whoever reads it; `lines` writes whole ones or none, `place` knows
//! where to. `recent` is for who asks what happened; `memory` keeps what may explain how a peer is reached.

mod called;
mod entry;
mod failure;
mod format;
mod lines;
pub mod log;
mod memory;
mod outlet;
mod place;
mod recent;
mod said;
mod sentence;
mod summary;
mod troubles;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    num::NonZeroU64,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use punchline_bridge::{Path as NetPath, StreamFacts, StreamId};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{broadcast, watch};

pub use self::failure::Failure;
#[cfg(test)]
pub(crate) use self::recent::LAG_MAX;
pub(crate) use self::{
    entry::say,
    memory::{Memory, Moment, Outcome, Remembered, Step, Surroundings},
    troubles::clocks_apart,
};
use self::{
    outlet::{Outlet, Voice},
    place::{NamedFile, Place},
    recent::Recent,
    said::{Said, Whose},
    summary::{Summary, Untold},
};
#[cfg(feature = "kad")]
use crate::finding::event::DhtEvent;
use crate::{gateway::event::GatewayEvent, metrics::Metrics, names::Names, shapes};

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
    /// From the DHT.
    #[cfg(feature = "kad")]
    Dht(DhtEvent),
    /// Of the process itself.
    Report(ReportEvent),
}

/// What is to be said of the process itself: its report, and what it reads again.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ReportEvent {
    /// Events are missing here: they could not be written, or nobody read them fast enough.
    EventsLost {
        /// How many.
        count: u64,
    },
    /// More events of a kind than are told happened.
    Suppressed {
        /// Their name.
        what: &'static str,
        /// How many were not told.
        count: u64,
        /// Milliseconds since the first of them.
        within_ms: u64,
    },
    /// The file of ranges was read again.
    NetsReloaded {
        /// Why it could not be, if so: then the old ranges stay in force.
        error: Option<String>,
    },
    /// Metrics are told here.
    MetricsListening {
        /// Where, with the real port.
        address: SocketAddr,
    },
    /// The page is shown here.
    PageListening {
        /// Where, with the real port.
        address: SocketAddr,
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
        /// The program ends for it, and says so itself.
        #[serde(skip)]
        last: bool,
    },
    /// A peer could not be reached; tried again unless the program ends.
    DialFailed {
        /// The other end.
        peer: PeerId,
        /// Why.
        reason: Failure,
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

impl Event {
    /// What a stranger, or a program that tries without end, can cause as often as it likes: told at a pace,
    /// by kind and peer.
    fn crowd(&self) -> Option<(&'static str, Option<PeerId>)> {
        use GatewayEvent::{AccessRefused, ForwardFailed, ForwardFull, TargetFailed};
        use punchline_bridge::Event::{Refused, StreamRefused};
        Some(match self {
            Self::Bridge(Refused { peer, .. }) => ("refused", *peer),
            Self::Bridge(StreamRefused { peer, .. }) => ("stream_refused", Some(*peer)),
            Self::Session(SessionEvent::HandshakeFailed { peer, .. }) => {
                ("handshake_failed", Some(*peer))
            }
            Self::Gateway(GatewayEvent::Refused { peer, .. }) => ("refused", Some(*peer)),
            Self::Gateway(AccessRefused { peer, .. }) => ("access_refused", Some(*peer)),
            Self::Gateway(TargetFailed { peer, .. }) => ("target_failed", Some(*peer)),
            Self::Gateway(ForwardFailed { peer, .. }) => ("forward_failed", Some(*peer)),
            Self::Gateway(ForwardFull { peer, .. }) => ("forward_full", Some(*peer)),
            #[cfg(feature = "kad")]
            Self::Dht(DhtEvent::NodeDiscovered { .. }) => ("node_discovered", None),
            #[cfg(feature = "kad")]
            Self::Dht(DhtEvent::RoutingTableUpdated { .. }) => ("routing_table_updated", None),
            #[cfg(feature = "kad")]
            Self::Dht(_) => return None,
            Self::Bridge(_) | Self::Session(_) | Self::Gateway(_) | Self::Report(_) => return None,
        })
    }
}

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    out: Option<Outlet>,
    /// The file that `out` writes to, if it is one that can be opened anew.
    file: Option<Arc<Path>>,
    recent: Arc<Mutex<Recent>>,
    summary: Arc<Mutex<Summary>>,
    said: Arc<Mutex<Said>>,
    ready: watch::Sender<bool>,
    on_stdout: bool,
    memory: Arc<Mutex<Memory>>,
    metrics: Arc<Metrics>,
}

impl Reporter {
    /// Events are logged and nothing else.
    pub fn none() -> Self {
        let (recent, summary, said) = (Arc::default(), Arc::default(), Arc::default());
        let (ready, memory, metrics) = (watch::Sender::new(false), Arc::default(), Arc::default());
        Self { out: None, file: None, recent, summary, said, ready, on_stdout: false, memory, metrics }
    }

    /// `-` is standard output; a file is made, or appended to. Before it has more than `bytes_max` bytes,
    /// it is moved to its name with `.1` at the end, and a new one begins.
    ///
    /// # Errors
    /// If the file cannot be opened, or `bytes_max` is for what is no regular file.
    pub fn open(events: &Path, bytes_max: Option<NonZeroU64>) -> io::Result<Self> {
        let (place, name) = match (events.to_str(), bytes_max) {
            (Some("-"), None) => (Place::stdout()?, "standard output".to_owned()),
            (Some("-"), Some(_)) => return Err(io::Error::other("only a file can be bounded")),
            _ => {
                let file = NamedFile::open(events, bytes_max.map(NonZeroU64::get))?;
                (Place::Named(file), events.display().to_string())
            }
        };
        let voice = Voice { subject: Some(format!("events to {name}")), gap };
        let file = is_file(events).then(|| events.into());
        let on_stdout = events.to_str() == Some("-");
        Ok(Self { out: Some(Outlet::start(place, voice)?), file, on_stdout, ..Self::none() })
    }

    /// Whether [`Reporter::open`] may succeed; leaves no trace.
    ///
    /// # Errors
    /// If the file cannot be opened, or its directory does not exist.
    pub fn check(events: &Path) -> io::Result<()> {
        if events.to_str() == Some("-") { Ok(()) } else { place::check(events) }
    }

    /// Writes one event down and logs it; never waits. What may come in crowds is told at a pace, and the rest
    /// of it summed up.
    pub fn report(&self, event: impl Into<Event>) {
        self.report_at(&event.into(), Instant::now());
    }

    fn report_at(&self, event: &Event, now: Instant) {
        self.memory().hear(event, now);
        self.metrics.record(event);
        if let Some((what, peer)) = event.crowd() {
            let whose = self.whose(peer.as_ref());
            if !self.summary().admit(what, whose, peer, now) {
                return;
            }
        }
        self.tell(event, now);
    }

    fn tell(&self, event: &Event, now: Instant) {
        let Ok(Value::Object(fields)) = serde_json::to_value(event) else { return };
        self.log(event, &fields, now);
        let peer = fields.get("peer").and_then(Value::as_str).and_then(|peer| peer.parse().ok());
        let whose = self.whose(peer.as_ref());
        let line = line(&fields);
        self.recent().add(&fields, whose, line.trim_end().into());
        if let Some(out) = &self.out {
            out.send(line);
        }
    }

    fn log(&self, event: &Event, fields: &Map<String, Value>, now: Instant) {
        let mut said = self.said();
        let saying = sentence::sentence(event, &mut said, now);
        let facts = saying.as_ref().map(|_| entry::facts(event, fields, |peer| said.named(peer)));
        drop(said);
        if let Some(((level, words), facts)) = saying.zip(facts) {
            entry::log(level, &words, &facts);
        }
    }

    /// Whose room an event takes; of nobody in particular, that of strangers.
    fn whose(&self, peer: Option<&PeerId>) -> Whose {
        peer.map_or(Whose::Strangers, |peer| self.said().whose(peer))
    }

    /// The node is usable: says who it is, where it is reached, and what to run elsewhere. The relay or the peer that makes
    /// it usable was told of before.
    pub(crate) fn say_ready(&self, lines: &[String]) {
        say(&sentence::block(lines));
        self.ready.send_replace(true);
    }

    /// What ends from now on ends because the program does.
    pub(crate) fn stops(&self) {
        self.said().stops();
    }

    /// The settings name this relay, and so it is called one in the log.
    pub(crate) fn names_relay(&self, relay: PeerId) {
        self.said().names_relay(relay);
    }

    /// The settings name these peers: what happens to them is told, whatever strangers do.
    pub(crate) fn knows(&self, peers: impl IntoIterator<Item = PeerId>) {
        self.said().knows(peers);
    }

    /// What people call peers from now on.
    pub(crate) fn calls(&self, names: Names) {
        self.said().calls(Arc::new(names));
    }

    /// Returns when that was said.
    pub(crate) async fn ready(&self) {
        // The sender lives as long as anybody waits here.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Whether events go to standard output.
    pub(crate) fn has_stdout(&self) -> bool {
        self.on_stdout
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was reported lately, and what is from now on: a JSON object each, as it is written to files. Who lags behind
    /// loses the oldest.
    pub(crate) fn watch(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        self.recent().watch()
    }

    /// What was counted of all that was reported.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sums up what was not told, for as long as it runs.
    pub async fn sum_up(&self) -> Infallible {
        let mut pause = tokio::time::interval(SUMMARY_INTERVAL);
        loop {
            let now = pause.tick().await;
            self.sum_up_at(now.into_std());
        }
    }

    fn sum_up_at(&self, now: Instant) {
        let untold = self.summary().poll(now);
        self.tell_of(untold, now);
        if let Some(words) = self.said().left_out(now) {
            say(&words);
        }
    }

    fn tell_of(&self, untold: Vec<Untold>, now: Instant) {
        for Untold { what, count, within } in untold {
            let within_ms = within.as_millis() as u64;
            self.tell(&ReportEvent::Suppressed { what, count, within_ms }.into(), now);
        }
    }

    /// What is remembered of peers.
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn summary(&self) -> MutexGuard<'_, Summary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of events, if there is one that can be opened anew.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The file of events is opened anew: it may have been moved away.
    pub fn reopen(&self) {
        if let Some(out) = &self.out {
            out.reopen();
        }
    }

    /// Waits until the events are written, or the deadline is over.
    pub fn finish(&self, deadline: Duration) {
        let now = Instant::now();
        let untold = self.summary().finish(now);
        self.tell_of(untold, now);
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
fn line(fields: &Map<String, Value>) -> String {
    let mut object = Map::new();
    object.insert("ts".to_owned(), format!("{:.6}", jiff::Timestamp::now()).into());
    object.insert(shapes::KEY.to_owned(), shapes::EVENT.into());
    object.extend(fields.clone());
    Value::Object(object).to_string() + "\n"
}

/// The line that stands for so many lost ones.
pub(crate) fn gap(count: u64) -> String {
    match serde_json::to_value(Event::from(ReportEvent::EventsLost { count })) {
        Ok(Value::Object(fields)) => line(&fields),
        _ => String::new(),
    }
}

/// How often it is looked whether there is something to sum up.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(5);

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
mod tests;

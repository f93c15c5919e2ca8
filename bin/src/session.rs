//! From Kaspa sessions to the events that programs report.

use libp2p::PeerId;
use punchline_bridge::Path;
use punchline_protocol::{LoadReport, Remote, Session, SessionEvent as Happened};

use crate::report::SessionEvent;

/// The peer that the transport authenticated.
pub(crate) fn peer_of(remote: &Remote) -> Option<PeerId> {
    PeerId::from_bytes(remote.peer_id_bytes.as_ref()?).ok()
}

pub(crate) fn ready(peer: PeerId, session: &Session, path: Path) -> SessionEvent {
    let facts = session.facts();
    SessionEvent::SessionReady {
        peer,
        network: facts.network.to_string(),
        protocol_version: facts.protocol_version.number(),
        user_agent: facts.peer.user_agent.to_string(),
        path,
    }
}

/// What of a session is worth reporting.
pub(crate) fn report(peer: PeerId, event: Happened, path: Path) -> Option<SessionEvent> {
    match event {
        Happened::Load(load) => Some(load_done(peer, &load, path)),
        Happened::Message(_) | Happened::Addresses(_) | Happened::RoundTrip(_) => None,
    }
}

pub(crate) fn load_done(peer: PeerId, load: &LoadReport, path: Path) -> SessionEvent {
    SessionEvent::LoadDone {
        peer,
        bytes: load.bytes,
        sha256: load.sha256_hex(),
        ms: load.took.as_millis() as u64,
        path,
    }
}

//! From Kaspa sessions to the events that programs report.

use libp2p::PeerId;
use punchline_bridge::Path;
use punchline_protocol::{Remote, Session};

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

//! What must hold after every input, whatever drivers and peers do. Checked in tests and debug builds.

use super::{Engine, paths::connections::User};
#[cfg(test)]
use crate::stream::StreamKey;

impl Engine {
    /// Whether the engine looks after the stream: ours to move, or a peer's to end.
    #[cfg(test)]
    pub(crate) fn knows(&self, key: StreamKey) -> bool {
        self.moves.contains(key) || self.guests.contains(key)
    }

    /// The first rule that does not hold.
    pub(crate) fn broken_invariant(&self) -> Option<String> {
        if !self.connections.is_consistent() {
            return Some("the books of connections contradict each other".to_owned());
        }
        if !self.stream_places.is_consistent() {
            return Some("the books of peers' streams contradict each other".to_owned());
        }
        if let Some(peer) = self.waits.peers().find(|peer| !self.is_awaited(*peer)) {
            return Some(format!("{peer} is waited for by nobody"));
        }
        for (connection, user) in self.connections.users() {
            let known = match user {
                User::Open(open) => self.opens.get(open).is_some_and(|open| open.on == Some(connection)),
                User::Request(inbound) => self.requests.contains(inbound),
                // The driver answers each move and ends each leg.
                User::Move(_) | User::Leg(_) => true,
            };
            if !known {
                return Some(format!("connection {connection} is used by {user:?}, which is not there"));
            }
        }
        self.opens
            .negotiating()
            .find(|(open, on)| {
                self.connections
                    .get(*on)
                    .is_some_and(|_| !self.connections.is_user(*on, User::Open(*open)))
            })
            .map(|(open, on)| format!("{open:?} negotiates on connection {on} and does not keep it"))
    }
}

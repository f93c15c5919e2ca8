//! Connections that went quiet without anybody having said why.
//!
//! A path may die while nothing is under way on it. Transports say so late or never, and libp2p's pings
//! give a connection up only after 18 s. So a connection on which nothing was heard for
//! longer than from one ping to the next is *suspect*: streams leave it, new ones avoid it, and a direct one does
//! not keep us from punching. Nothing is closed for that, and an answer that comes late makes good.

use std::time::{Duration, Instant};

use super::{Connection, Connections};
use crate::{
    engine::liveness::{LATE, PING_PATIENCE, TOOK_MAX, fresh_for},
    path::ConnectionId,
};

impl Connections {
    /// The peer answered a ping on it, so long after it was asked, and after that was due. True if streams may have a reason
    /// to move: it was suspect, or it is nearer than was known.
    pub(crate) fn answered(
        &mut self,
        id: ConnectionId,
        round_trip: Duration,
        took: Duration,
        now: Instant,
    ) -> bool {
        let Some(connection) = self.all.get_mut(&id) else { return false };
        connection.answered = now;
        connection.note_answer(took);
        connection.hear_by = Some(now + connection.interval + connection.patience());
        let nearer = connection.round_trip.note(round_trip);
        std::mem::take(&mut connection.suspect) || nearer
    }

    /// The peer pinged us on it. True if it was suspect. Before it has answered once, nobody knows how long answers take.
    pub(crate) fn asked(&mut self, id: ConnectionId, now: Instant) -> bool {
        let Some(connection) = self.all.get_mut(&id) else { return false };
        connection.answered = now;
        if connection.took.is_some() {
            connection.hear_by = Some(now + connection.interval + connection.patience());
        }
        std::mem::take(&mut connection.suspect)
    }

    /// The peer said something else on it. True if it was suspect.
    pub(crate) fn is_heard(&mut self, id: ConnectionId, now: Instant) -> bool {
        let Some(connection) = self.all.get_mut(&id) else { return false };
        connection.answered = now;
        connection.hear_by = Some(now + connection.interval + connection.patience());
        std::mem::take(&mut connection.suspect)
    }

    /// Pings pass on it so often from now on, where something was heard just now.
    pub(crate) fn paced(&mut self, id: ConnectionId, interval: Duration, now: Instant) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        connection.interval = interval;
        if connection.hear_by.is_some() {
            connection.hear_by = Some(now + interval + connection.patience());
        }
    }

    /// Those on which no ping was answered in time; each is said once. Where this is called late,
    /// nobody has listened, and the wait starts anew.
    pub(crate) fn take_quiet(&mut self, now: Instant) -> Vec<ConnectionId> {
        let mut quiet = Vec::new();
        for (id, connection) in self.all.iter_mut().filter(|(_, found)| !found.is_closing()) {
            let Some(due) = connection.hear_by.take_if(|due| *due <= now) else { continue };
            if now.duration_since(due) > LATE {
                connection.hear_by = Some(now + connection.patience());
            } else {
                quiet.push(*id);
            }
        }
        quiet
    }

    /// When the next of them will have been quiet for long.
    pub(crate) fn next_quiet(&self) -> Option<Instant> {
        let watched = self.all.values().filter(|found| !found.is_closing());
        watched.filter_map(|found| found.hear_by).min()
    }

    /// Something was last heard on a quiet connection then. True if that is long ago.
    pub(crate) fn is_silent(&mut self, id: ConnectionId, heard: Option<Instant>, now: Instant) -> bool {
        let Some(connection) = self.all.get_mut(&id) else { return false };
        let due = heard.map(|heard| heard + connection.interval + connection.patience());
        connection.hear_by = due.filter(|due| *due > now && !connection.suspect);
        connection.hear_by.is_none()
    }

    /// Something speaks against a connection.
    pub(crate) fn suspect(&mut self, id: ConnectionId) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.suspect = true;
            connection.hear_by = None;
        }
    }

    pub(crate) fn is_suspect(&self, id: ConnectionId) -> bool {
        self.all.get(&id).is_some_and(|connection| connection.suspect)
    }
}

impl Connection {
    /// A ping was answered so long after it was due. What busy hosts add counts: with hundreds of connections at once it is
    /// more than the way. It is forgotten slowly, half of it in three pings, since who is busy is so by fits and starts.
    fn note_answer(&mut self, took: Duration) {
        let lately = self.took.unwrap_or_default() * 4 / 5;
        self.took = Some(took.max(lately).min(TOOK_MAX));
    }

    /// Whether the peer had answered so lately that it was there until now.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.answered) <= fresh_for(self.interval)
    }

    fn patience(&self) -> Duration {
        PING_PATIENCE + self.took.unwrap_or_default() * 2
    }
}

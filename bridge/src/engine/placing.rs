//! Every stream of ours on the best connection to its peer.

use std::time::Instant;

use libp2p::PeerId;

use super::{Engine, input::Action, moves::Standing};
use crate::{path::ConnectionId, stream::StreamKey};

impl Engine {
    pub(super) fn stream_moved(&mut self, key: StreamKey, to: ConnectionId, now: Instant) {
        self.orphans.attached(key);
        self.absences.settled(key);
        self.moves.moved(key, to);
        self.place(key, now);
    }

    /// A connection did not take the stream; perhaps because it is gone itself, or as good as gone.
    pub(super) fn move_failed(
        &mut self,
        key: StreamKey,
        connection: ConnectionId,
        silent: bool,
        now: Instant,
    ) {
        if self.moves.target(key) != Some(connection) {
            return;
        }
        self.moves.failed(key, now);
        if silent {
            self.suspect(key.peer, connection, now);
        } else if self.connections.get(connection).is_none() {
            self.spare(key.peer, now);
        }
    }

    /// No connection carries the stream any more. `lost` was the last; if `silent`, it may still be up.
    pub(super) fn stream_detached(
        &mut self,
        key: StreamKey,
        lost: Option<ConnectionId>,
        silent: bool,
        now: Instant,
    ) {
        if let Some(connection) = lost {
            self.absences.detached(key, connection);
        }
        self.moves.detached(key);
        if let Some(connection) = lost.filter(|_| silent) {
            self.suspect(key.peer, connection, now);
        }
        if self.moves.contains(key) {
            self.place(key, now);
            if silent && self.stopping.is_none() {
                // What is left may be just as dead and not known to be: a new connection shows.
                self.reach(key.peer, now);
            }
        } else {
            // An older connection may be just as dead and not known to be; one that came up after the
            // lost one last answered shows that the peer came back.
            let back = lost.is_some_and(|lost| self.connections.came_after(lost, key.peer));
            self.orphans.detached(key, back, now);
        }
    }

    /// The peer answered on a connection; if it was suspect, it may be the best again.
    pub(super) fn responsive(&mut self, connection: ConnectionId, now: Instant) {
        if self.connections.answered(connection, now)
            && let Some(peer) = self.peer(connection)
        {
            self.place_all(peer, now);
        }
    }

    /// Where pings stopped, streams may have heard something all the same: their bytes go first.
    pub(super) fn check_quiet(&mut self, now: Instant) {
        for connection in self.connections.take_quiet(now) {
            self.actions.push_back(Action::TakePulse { connection });
        }
    }

    pub(super) fn pulse_taken(&mut self, connection: ConnectionId, last: Option<Instant>, now: Instant) {
        if self.connections.is_silent(connection, last, now)
            && let Some(peer) = self.peer(connection)
        {
            self.suspect(peer, connection, now);
        }
    }

    /// A path is silent: our streams leave it, the idle ones too, and none goes there.
    fn suspect(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) {
        self.connections.suspect(connection);
        for key in self.moves.leave(connection, now) {
            self.place(key, now);
        }
        self.spare(peer, now);
    }

    fn spare(&mut self, peer: PeerId, now: Instant) {
        for key in self.moves.spare(peer) {
            self.place(key, now);
        }
    }

    pub(super) fn place_all(&mut self, peer: PeerId, now: Instant) {
        for key in self.moves.of(peer) {
            self.place(key, now);
        }
    }

    /// Moves a stream if there is reason to. From a direct connection that lives to another there is none.
    pub(super) fn place(&mut self, key: StreamKey, now: Instant) {
        let Some(standing) = self.moves.standing(key, now) else { return };
        if self.stopping.is_some() {
            return;
        }
        let best = self.connections.best(key.peer, &[]);
        let best = best.filter(|best| !self.connections.is_suspect(*best));
        let direct = |id: ConnectionId| self.path(id).is_some_and(|path| path.is_direct());
        let to = match standing {
            Standing::On(on) if self.connections.is_suspect(on) => best,
            Standing::On(on) => best.filter(|best| !direct(on) && direct(*best)),
            Standing::Detached => best,
            // What came after the loss is the surer way; the one before it is let go.
            Standing::Seeking(on) => {
                let newer = self.connections.newer(key.peer, on);
                newer.filter(|newer| {
                    direct(*newer) || !direct(on) || self.connections.unanswered_before(on, *newer)
                })
            }
            Standing::Busy => None,
        };
        if let Some(to) = to {
            self.move_to(key, to);
        } else if self.is_stranded(standing) && !self.reach(key.peer, now) {
            self.moves.failed(key, now);
        }
    }

    /// Whether nothing carries a stream, as far as one can tell.
    fn is_stranded(&self, standing: Standing) -> bool {
        match standing {
            Standing::On(on) => self.connections.is_suspect(on),
            Standing::Detached => true,
            Standing::Seeking(_) | Standing::Busy => false,
        }
    }

    fn move_to(&mut self, key: StreamKey, connection: ConnectionId) {
        self.moves.moving(key, connection);
        self.connections.add_user(connection);
        self.actions.push_back(Action::MoveStream { key, connection });
    }
}

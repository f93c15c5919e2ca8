//! Every stream of ours on the best connection to its peer.

use std::time::{Duration, Instant};

use libp2p::PeerId;

use crate::{
    engine::{Engine, input::Action, paths::connections::User, streams::moves::Standing},
    path::ConnectionId,
    stream::StreamKey,
};

impl Engine {
    pub(in crate::engine) fn stream_moved(&mut self, key: StreamKey, to: ConnectionId, now: Instant) {
        self.guests.moved(key, to);
        self.departures.settled(key);
        self.moves.moved(key, to, now);
        self.place(key, now);
    }

    /// A connection did not take the stream; perhaps because it is gone itself, or as good as gone.
    pub(in crate::engine) fn move_failed(
        &mut self,
        key: StreamKey,
        connection: ConnectionId,
        silent: bool,
        now: Instant,
    ) {
        self.connections.remove_user(connection, User::Move(key), now);
        if self.moves.target(key) != Some(connection) {
            return;
        }
        self.moves.failed(key, now);
        if silent {
            self.suspect(key.peer, connection, now);
        } else if self.connections.get(connection).is_none() {
            self.waive_waits(key.peer, now);
        }
    }

    /// No connection carries the stream any more. `lost` was the last; if `silent`, it may still be up.
    pub(in crate::engine) fn stream_detached(
        &mut self,
        key: StreamKey,
        lost: Option<ConnectionId>,
        silent: bool,
        now: Instant,
    ) {
        if let Some(connection) = lost {
            let relayed = self.path(connection).is_none_or(|path| !path.is_direct());
            self.departures.detached(key, connection, silent || relayed, now);
            if let Some(came) = self.moves.came(key, connection).filter(|_| silent) {
                self.connections.met_silence(connection, came, now);
            }
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
            self.guests.detached(key, back, now);
        }
    }

    /// The peer answered on a connection, which may be the best now.
    pub(in crate::engine) fn responsive(
        &mut self,
        connection: ConnectionId,
        round_trip: Duration,
        took: Duration,
        now: Instant,
    ) {
        let Some(peer) = self.peer(connection) else { return };
        let was_suspect = self.connections.is_suspect(connection);
        self.relays.answered(peer, round_trip, now);
        if self.connections.answered(connection, round_trip, took, now) {
            self.is_better(peer, connection, was_suspect, now);
        }
    }

    /// The peer pinged us on a connection: it lives there.
    pub(in crate::engine) fn asked_on(&mut self, connection: ConnectionId, now: Instant) {
        let Some(peer) = self.peer(connection) else { return };
        self.relays.asked_by(peer, now);
        if self.connections.asked(connection, now) {
            self.is_better(peer, connection, true, now);
        }
    }

    /// A connection may be the best now.
    fn is_better(&mut self, peer: PeerId, connection: ConnectionId, was_suspect: bool, now: Instant) {
        if was_suspect && self.path(connection).is_some_and(|path| path.is_direct()) {
            self.upgrades.unneeded(peer);
        }
        self.place_all(peer, now);
        self.consider_spare(peer, now);
    }

    /// Where pings stopped, streams may have heard something all the same: their bytes go first.
    pub(in crate::engine) fn check_quiet(&mut self, now: Instant) {
        let quiet = self.connections.take_quiet(now);
        for connection in quiet.into_iter().filter(|_| self.stopping.is_none()) {
            self.actions.push_back(Action::TakePulse { connection });
        }
    }

    pub(in crate::engine) fn pulse_taken(
        &mut self,
        connection: ConnectionId,
        last: Option<Instant>,
        now: Instant,
    ) {
        let silent = self.connections.is_silent(connection, last, now);
        if (self.beats.is_dead(connection, last) || silent)
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
        self.waive_waits(peer, now);
        if self.connections.is_only_relayed(peer) {
            self.relayed(peer, now);
        }
        self.hold_is_shaky(peer, now);
        self.consider_spare(peer, now);
    }

    /// If a connection to the peer is kept, and the best one may soon be none, another one is made.
    fn hold_is_shaky(&mut self, peer: PeerId, now: Instant) {
        if self.stopping.is_none() && self.holds.contains(peer) && self.best_is_shaky(peer) {
            self.reach(peer, now);
        }
    }

    /// A relay will end this connection soon: whoever of us uses it makes another one before.
    pub(in crate::engine) fn nearly_spent(&mut self, connection: ConnectionId, now: Instant) {
        self.connections.spend(connection);
        let Some(peer) = self.peer(connection) else { return };
        self.place_all(peer, now);
        self.hold_is_shaky(peer, now);
    }

    pub(in crate::engine) fn best_is_shaky(&self, peer: PeerId) -> bool {
        self.connections.best(peer, &[]).is_none_or(|best| self.connections.is_shaky(best))
    }

    pub(in crate::engine) fn waive_waits(&mut self, peer: PeerId, now: Instant) {
        for key in self.moves.waive_waits(peer) {
            self.place(key, now);
        }
    }

    pub(in crate::engine) fn place_all(&mut self, peer: PeerId, now: Instant) {
        for key in self.moves.of(peer) {
            self.place(key, now);
        }
    }

    /// Moves a stream if there is reason to.
    pub(in crate::engine) fn place(&mut self, key: StreamKey, now: Instant) {
        let Some(standing) = self.moves.standing(key, now) else { return };
        if self.stopping.is_some() {
            return;
        }
        let best = self.connections.best(key.peer, &[]);
        let best = best.filter(|best| !self.connections.is_suspect(*best));
        let to = match standing {
            Standing::On(on) => best.filter(|best| self.connections.is_clearly_better(*best, on)),
            Standing::Detached => best,
            // What came after the loss is the surer way; the one before it is let go.
            Standing::Seeking(on) => {
                let direct = |id| self.path(id).is_some_and(|path| path.is_direct());
                let newer = self.connections.newer(key.peer, on);
                newer.filter(|newer| {
                    direct(*newer) || !direct(on) || self.connections.unanswered_before(on, *newer)
                })
            }
            Standing::Busy => None,
        };
        if let Some(to) = to {
            self.move_to(key, to);
        } else if self.needs_path(standing)
            && !self.is_introduced(key.peer)
            && !self.reach(key.peer, now)
        {
            self.moves.failed(key, now);
        }
    }

    /// Whether nothing carries a stream, as far as one can tell, or soon will.
    fn needs_path(&self, standing: Standing) -> bool {
        match standing {
            Standing::On(on) => self.connections.is_shaky(on),
            Standing::Detached => true,
            Standing::Seeking(_) | Standing::Busy => false,
        }
    }

    fn move_to(&mut self, key: StreamKey, connection: ConnectionId) {
        self.moves.moving(key, connection);
        self.connections.add_user(connection, User::Move(key));
        self.actions.push_back(Action::MoveStream { key, connection });
    }
}

//! Which connection to a peer is better than another.

use std::{cmp::Ordering, time::Instant};

use libp2p::PeerId;

use super::{Connection, Connections, UNANSWERED, distance::Distance};
use crate::path::{ConnectionId, Path};

/// How good a connection is, the most important first; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    standing: Standing,
    /// In coarse steps, so that the transport decides between ways of about one length.
    distance: Distance,
    /// By the configured order.
    transport: usize,
    /// The older, the better: it has proved itself.
    order: u64,
}

/// What a stream moves for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    suspect: bool,
    /// Connections like it failed under load lately.
    demoted: bool,
    relayed: bool,
    /// Its relay will soon end it.
    spent: bool,
}

impl Connections {
    /// Whether a stream moves from one connection to another: that one stands better, or is much nearer.
    pub(crate) fn is_clearly_better(&self, id: ConnectionId, than: ConnectionId) -> bool {
        let Some(found) = self.all.get(&id) else { return false };
        let Some(other) = self.all.get(&than) else { return true };
        match self.rank_of(found).standing.cmp(&self.rank_of(other).standing) {
            Ordering::Less => true,
            Ordering::Equal => found.round_trip.is_much_nearer_than(&other.round_trip),
            Ordering::Greater => false,
        }
    }

    pub(super) fn rank_of(&self, connection: &Connection) -> Rank {
        let transport = self.transports.iter().position(|kind| *kind == connection.transport);
        Rank {
            standing: Standing {
                suspect: connection.suspect,
                demoted: self.is_demoted(connection),
                relayed: !connection.path.is_direct(),
                spent: connection.spent,
            },
            distance: connection.round_trip.distance(),
            transport: transport.unwrap_or(self.transports.len()),
            order: connection.order,
        }
    }

    /// The best connection to a peer that may carry streams. Those in `except` have failed already.
    pub(crate) fn best(&self, peer: PeerId, except: &[ConnectionId]) -> Option<ConnectionId> {
        self.best_of(peer, |id, found| self.may_carry(found.path) && !except.contains(&id))
    }

    /// The best direct connection to a peer.
    pub(crate) fn best_direct(&self, peer: PeerId, except: &[ConnectionId]) -> Option<ConnectionId> {
        self.best_of(peer, |id, found| found.path.is_direct() && !except.contains(&id))
    }

    fn best_of(
        &self,
        peer: PeerId,
        fits: impl Fn(ConnectionId, &Connection) -> bool,
    ) -> Option<ConnectionId> {
        self.of(peer)
            .filter(|(id, connection)| !connection.is_closing() && fits(*id, connection))
            .min_by_key(|(_, connection)| self.rank_of(connection))
            .map(|(id, _)| id)
    }

    /// Whether streams may run through relays.
    pub(crate) fn may_carry_relayed(&self) -> bool {
        self.relayed_streams
    }

    /// Whether streams may run on such a path.
    pub(crate) fn may_carry(&self, path: Path) -> bool {
        self.relayed_streams || path.is_direct()
    }

    /// The newest connection to a peer, if it is newer than `than` and nothing speaks against it.
    pub(crate) fn newer(&self, peer: PeerId, than: ConnectionId) -> Option<ConnectionId> {
        self.of(peer)
            .filter(|(id, found)| *id > than && !found.is_closing() && !found.suspect)
            .filter(|(_, found)| self.may_carry(found.path))
            .map(|(id, _)| id)
            .max()
    }

    /// Whether nobody had answered on a connection for a while when the `newer` one came up.
    pub(crate) fn unanswered_before(&self, id: ConnectionId, newer: ConnectionId) -> bool {
        let known = self.all.get(&id).zip(self.all.get(&newer));
        known.is_some_and(|(old, newer)| {
            newer.opened.saturating_duration_since(old.answered) > UNANSWERED
        })
    }

    /// Whether a peer has a connection that came up after this one had last answered.
    pub(crate) fn came_after(&self, lost: ConnectionId, peer: PeerId) -> bool {
        let live = self.all.get(&lost).map(|lost| lost.answered);
        let gone = || self.gone.iter().find(|(id, _)| *id == lost).map(|(_, answered)| *answered);
        let Some(answered) = live.or_else(gone) else { return false };
        self.of(peer).any(|(id, found)| id > lost && found.opened > answered)
    }

    /// Whether a stream on it needs another connection: it is suspect, or its relay will soon end it.
    pub(crate) fn is_shaky(&self, id: ConnectionId) -> bool {
        self.all.get(&id).is_none_or(|found| found.suspect || found.spent)
    }

    /// A relay will end a connection soon.
    pub(crate) fn spend(&mut self, id: ConnectionId) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.spent = true;
            connection.spent_at = None;
        }
    }

    /// Those whose relay will end them soon; each is said once.
    pub(crate) fn take_spent(&mut self, now: Instant) -> Vec<ConnectionId> {
        let due = |(id, found): (&ConnectionId, &mut Connection)| {
            found.spent_at.take_if(|at| *at <= now).map(|_| *id)
        };
        let spent: Vec<_> = self.all.iter_mut().filter_map(due).collect();
        spent.iter().for_each(|id| self.spend(*id));
        spent
    }

    /// When the next one is.
    pub(crate) fn next_spent(&self) -> Option<Instant> {
        self.all.values().filter_map(|found| found.spent_at).min()
    }
}

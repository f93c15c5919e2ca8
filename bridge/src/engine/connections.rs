//! Which connections are up, which of a peer's is the best, and which nobody uses any more.

mod watch;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::PeerId;

pub(crate) use self::watch::PING_INTERVAL;
use super::input::Opened;
use crate::{
    error::CloseCause,
    path::{ConnectionId, Path, Transport},
};

/// If a direct connection neither came up nor answered for so long before a relayed one came, the relayed
/// one is the surer: more than dials by several ways at once lie apart, and less than a stream waits for
/// an answer.
const UNANSWERED: Duration = Duration::from_millis(500);

/// One live connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: PeerId,
    pub(crate) path: Path,
    pub(crate) transport: Transport,
    pub(crate) direction: crate::path::Direction,
    opened: Instant,
    order: u64,
    users: usize,
    unused_since: Instant,
    closing: Option<CloseCause>,
    /// When the peer last answered on it.
    pub(crate) answered: Instant,
    /// How long pings took lately. None before the first was answered.
    took: Option<Duration>,
    /// When somebody must have spoken on it. Not before the peer has answered once.
    hear_by: Option<Instant>,
    /// A stream on it met silence, or nobody spoke on it in time; taken last until a ping is answered.
    suspect: bool,
}

impl Connection {
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }
}

/// All live connections, by id and by peer.
#[derive(Debug)]
pub(crate) struct Connections {
    all: HashMap<ConnectionId, Connection>,
    by_peer: HashMap<PeerId, Vec<ConnectionId>>,
    transports: [Transport; 2],
    opened: u64,
    /// Closed lately, with the time of the last answer; the streams on them may learn of it later.
    gone: VecDeque<(ConnectionId, Instant)>,
}

/// Closed connections that are remembered: those of one moment, when a network goes.
const GONE_MAX: usize = 256;

/// What keeps a peer's connections although no stream uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    None,
    /// All direct ones: it is a relay that we want to be reached through.
    Direct,
    /// The best one.
    Best,
}

/// How long a connection without users is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grace {
    pub(crate) relayed: Duration,
    pub(crate) direct: Duration,
}

impl Connections {
    pub(crate) fn new(transports: [Transport; 2]) -> Self {
        Self {
            all: HashMap::new(),
            by_peer: HashMap::new(),
            transports,
            opened: 0,
            gone: VecDeque::new(),
        }
    }

    pub(crate) fn opened(&mut self, opened: &Opened, now: Instant) {
        self.opened += 1;
        let connection = Connection {
            peer: opened.peer,
            path: opened.path,
            transport: opened.transport,
            direction: opened.direction,
            opened: now,
            order: self.opened,
            users: 0,
            unused_since: now,
            closing: None,
            answered: now,
            took: None,
            hear_by: None,
            suspect: false,
        };
        self.all.insert(opened.connection, connection);
        self.by_peer.entry(opened.peer).or_default().push(opened.connection);
    }

    /// Forgets a connection; its close cause is ours if we had asked for it.
    pub(crate) fn closed(&mut self, id: ConnectionId) -> Option<(Connection, Option<CloseCause>)> {
        let mut connection = self.all.remove(&id)?;
        if let Some(ids) = self.by_peer.get_mut(&connection.peer) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_peer.remove(&connection.peer);
            }
        }
        let cause = connection.closing.take();
        self.gone.truncate(GONE_MAX - 1);
        self.gone.push_front((id, connection.answered));
        Some((connection, cause))
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.all.get(&id)
    }

    pub(crate) fn of(&self, peer: PeerId) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let ids = self.by_peer.get(&peer).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| Some((*id, self.all.get(id)?)))
    }

    /// The best connection to a peer: direct before relayed, then the configured transport, then the
    /// older one. Those in `except` have failed already.
    pub(crate) fn best(&self, peer: PeerId, except: &[ConnectionId]) -> Option<ConnectionId> {
        self.of(peer)
            .filter(|(id, connection)| connection.closing.is_none() && !except.contains(id))
            .min_by_key(|(_, connection)| {
                let rank = self.transports.iter().position(|t| *t == connection.transport);
                (connection.suspect, !connection.path.is_direct(), rank, connection.order)
            })
            .map(|(id, _)| id)
    }

    /// The newest connection to a peer, if it is newer than `than` and nothing speaks against it.
    pub(crate) fn newer(&self, peer: PeerId, than: ConnectionId) -> Option<ConnectionId> {
        self.of(peer)
            .filter(|(id, found)| *id > than && found.closing.is_none() && !found.suspect)
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

    pub(crate) fn has_direct(&self, peer: PeerId) -> bool {
        self.of(peer).any(|(_, connection)| connection.path.is_direct())
    }

    /// Users of all of a peer's connections: streams, and opens under way.
    pub(crate) fn users_of(&self, peer: PeerId) -> usize {
        self.of(peer).map(|(_, connection)| connection.users).sum()
    }

    pub(crate) fn add_user(&mut self, id: ConnectionId) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.users += 1;
        }
    }

    pub(crate) fn remove_user(&mut self, id: ConnectionId, now: Instant) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.users = connection.users.saturating_sub(1);
            connection.unused_since = now;
        }
    }

    /// Starts the grace of a peer's connections anew.
    pub(crate) fn touch(&mut self, peer: PeerId, now: Instant) {
        for id in self.by_peer.get(&peer).into_iter().flatten() {
            if let Some(connection) = self.all.get_mut(id) {
                connection.unused_since = now;
            }
        }
    }

    /// Marks a connection as closing, once; false if it is already or is gone.
    pub(crate) fn begin_close(&mut self, id: ConnectionId, cause: CloseCause) -> bool {
        match self.all.get_mut(&id) {
            Some(connection) if connection.closing.is_none() => {
                connection.closing = Some(cause);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.all.keys().copied().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Connections without users whose grace is over. A link to a relay is in use while a relayed
    /// connection runs over it or `needs` says so.
    pub(crate) fn expired(
        &self,
        grace: Grace,
        needs: impl Fn(PeerId) -> Need,
        now: Instant,
    ) -> Vec<ConnectionId> {
        self.unused(grace, needs).filter(|(_, at)| *at <= now).map(|(id, _)| id).collect()
    }

    /// When the next grace is over.
    pub(crate) fn next_expiry(&self, grace: Grace, needs: impl Fn(PeerId) -> Need) -> Option<Instant> {
        self.unused(grace, needs).map(|(_, at)| at).min()
    }

    fn unused(
        &self,
        grace: Grace,
        needs: impl Fn(PeerId) -> Need,
    ) -> impl Iterator<Item = (ConnectionId, Instant)> {
        let in_use: std::collections::HashSet<PeerId> =
            self.all.values().filter_map(|connection| connection.path.relay()).collect();
        self.all.iter().filter_map(move |(id, connection)| {
            let carries = connection.path.is_direct() && in_use.contains(&connection.peer);
            let needed = match needs(connection.peer) {
                Need::None => false,
                Need::Direct => connection.path.is_direct(),
                Need::Best => self.best(connection.peer, &[]) == Some(*id),
            };
            let kept = connection.users > 0 || connection.closing.is_some() || carries || needed;
            let grace = if connection.path.is_direct() { grace.direct } else { grace.relayed };
            (!kept).then_some((*id, connection.unused_since + grace))
        })
    }
}

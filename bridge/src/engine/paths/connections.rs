//! Which connections are up, which of a peer's is the best, who uses them, and which nobody uses any more.

mod demotion;
mod distance;
mod rank;
mod spare;
mod watch;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use self::{demotion::Demotions, distance::RoundTrip};
use crate::{
    engine::{
        input::{InboundId, OpenId, Opened},
        liveness::PING_INTERVAL,
        paths::places::{Origin, Places, Standing},
    },
    error::CloseCause,
    path::{ConnectionId, Path, Transport},
    status::LimitStatus,
    stream::{StreamKey, machine::LegId},
};

/// If a direct connection neither came up nor answered for so long before a relayed one came, the relayed
/// one is the surer: more than dials by several ways at once lie apart, and less than a stream waits for
/// an answer.
const UNANSWERED: Duration = Duration::from_millis(500);

/// Who uses a connection. Each user is named, so that one that leaves twice is counted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum User {
    /// An open that negotiates on it.
    Open(OpenId),
    /// A peer's stream that nobody has decided on.
    Request(InboundId),
    /// A stream of ours that is to move to it.
    Move(StreamKey),
    /// A stream's leg.
    Leg(LegId),
}

/// One live connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: PeerId,
    pub(crate) path: Path,
    pub(crate) transport: Transport,
    pub(crate) direction: crate::path::Direction,
    /// The peer's, as we know it.
    pub(crate) address: Multiaddr,
    pub(crate) opened: Instant,
    order: u64,
    /// In order. Most have one, for which a tree takes a kilobyte.
    users: Vec<User>,
    unused_since: Instant,
    pub(crate) origin: Origin,
    /// The peer asked us to keep it, and counts as this.
    held: Option<Standing>,
    /// It was kept and then had its grace; the next one it gets when somebody uses it.
    let_go: bool,
    closing: Option<CloseCause>,
    /// When the peer last answered on it.
    pub(crate) answered: Instant,
    /// How long pings took lately. None before the first was answered.
    took: Option<Duration>,
    /// The peer answered a word of ours on it, so that both ends have the substreams for words.
    echoed: bool,
    /// A stream was on it: the peer speaks the protocol of streams.
    carried: bool,
    round_trip: RoundTrip,
    /// How often a ping passes on it.
    interval: Duration,
    /// When somebody must have spoken on it. Not before the peer has answered once.
    hear_by: Option<Instant>,
    /// A stream on it met silence, or nobody spoke on it in time; taken last until a ping is answered.
    suspect: bool,
    /// When its relay will soon end it.
    spent_at: Option<Instant>,
    spent: bool,
}

impl Connection {
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Streams on it, and opens that wait for it.
    pub(crate) fn users(&self) -> usize {
        self.users.len()
    }

    /// Whether the peer answered a word of ours on it before.
    pub(crate) fn has_echoed(&self) -> bool {
        self.echoed
    }

    pub(crate) fn is_used(&self) -> bool {
        !self.users.is_empty()
    }

    /// Whether it is not to be closed for want of use, or closes already.
    fn is_kept(&self) -> bool {
        self.is_used() || self.is_closing() || self.held.is_some()
    }

    /// How long pings took lately.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.took
    }
}

/// All live connections, by id and by peer.
#[derive(Debug)]
pub(crate) struct Connections {
    all: BTreeMap<ConnectionId, Connection>,
    by_peer: BTreeMap<PeerId, Vec<ConnectionId>>,
    transports: [Transport; 2],
    /// Whether streams may run through relays.
    relayed_streams: bool,
    opened: u64,
    /// Closed lately, with the time of the last answer; the streams on them may learn of it later.
    gone: VecDeque<(ConnectionId, Instant)>,
    /// What peers may ask us to keep.
    holds: Places,
    demotions: Demotions,
}

/// Closed connections that are remembered: those of one moment, when a network goes.
const GONE_MAX: usize = 256;

/// What keeps a peer's connections although no stream uses them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// All direct ones: it is a relay that we want to be reached through.
    pub(crate) direct: bool,
    /// The best one.
    pub(crate) best: bool,
    /// Circuits beside those that streams run on.
    pub(crate) spares: bool,
}

/// How long a connection without users is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grace {
    pub(crate) relayed: Duration,
    pub(crate) direct: Duration,
}

impl Connections {
    /// `relayed_streams`: whether streams may run through relays. `holds`: connections that peers may ask us to keep.
    pub(crate) fn new(transports: [Transport; 2], relayed_streams: bool, holds: Places) -> Self {
        Self {
            all: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            transports,
            relayed_streams,
            opened: 0,
            gone: VecDeque::new(),
            holds,
            demotions: Demotions::default(),
        }
    }

    /// How full the places are for connections that peers ask us to keep.
    pub(crate) fn holds_of_peers(&self, what: &'static str) -> LimitStatus {
        self.holds.status(what)
    }

    pub(crate) fn opened(&mut self, opened: &Opened, now: Instant) {
        self.opened += 1;
        let lifetime = opened.limit.and_then(|limit| limit.duration);
        let connection = Connection {
            peer: opened.peer,
            path: opened.path,
            transport: opened.transport,
            direction: opened.direction,
            address: opened.address.clone(),
            opened: now,
            order: self.opened,
            users: Vec::new(),
            unused_since: now,
            origin: Origin::of(opened.path, &opened.address),
            held: None,
            let_go: false,
            closing: None,
            answered: now,
            took: None,
            echoed: false,
            carried: false,
            round_trip: RoundTrip::default(),
            interval: PING_INTERVAL,
            hear_by: None,
            suspect: false,
            spent_at: lifetime.map(|lifetime| now + lifetime - spare(lifetime)),
            spent: false,
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
        if let Some(standing) = connection.held {
            self.holds.give_back(connection.origin, standing);
        }
        self.gone.truncate(GONE_MAX - 1);
        self.gone.push_front((id, connection.answered));
        Some((connection, cause))
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.by_peer.keys().copied()
    }

    /// The peer answered a word of ours on it.
    pub(crate) fn echoed(&mut self, id: ConnectionId) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.echoed = true;
        }
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.all.get(&id)
    }

    pub(crate) fn of(&self, peer: PeerId) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let ids = self.by_peer.get(&peer).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| Some((*id, self.all.get(id)?)))
    }

    /// The direct connections.
    pub(crate) fn all_direct(&self) -> Vec<ConnectionId> {
        self.all.iter().filter(|(_, found)| found.path.is_direct()).map(|(id, _)| *id).collect()
    }

    /// The connections that run through this relay.
    pub(crate) fn through(&self, relay: PeerId) -> Vec<ConnectionId> {
        let through = Path::Relayed { relay };
        self.all.iter().filter(|(_, found)| found.path == through).map(|(id, _)| *id).collect()
    }

    /// Whether a peer is reached through relays, and directly at most on connections that fell silent.
    pub(crate) fn is_only_relayed(&self, peer: PeerId) -> bool {
        !self.is_direct(peer) && self.of(peer).any(|(_, found)| !found.path.is_direct())
    }

    /// Whether a peer has a direct connection that lives.
    pub(crate) fn is_direct(&self, peer: PeerId) -> bool {
        self.of(peer).any(|(_, found)| found.path.is_direct() && !found.suspect)
    }

    pub(crate) fn direct_over(
        &self,
        peer: PeerId,
        transport: Transport,
    ) -> impl Iterator<Item = (ConnectionId, &Multiaddr)> {
        let over = move |found: &Connection| found.path.is_direct() && found.transport == transport;
        self.of(peer).filter(move |(_, found)| over(found)).map(|(id, found)| (id, &found.address))
    }

    /// The direct connections to a peer that fell silent, unless something else than legs uses them. Where a stream
    /// runs, it may hear something all the same; but a leg may also be what a stream left behind.
    pub(crate) fn silent_direct(
        &self,
        peer: PeerId,
        runs_there: impl Fn(ConnectionId) -> bool,
    ) -> Vec<ConnectionId> {
        let leg = |user: &User| matches!(user, User::Leg(_));
        let free = |id, found: &Connection| {
            !found.is_used() || (found.users.iter().all(leg) && !runs_there(id))
        };
        let silent = |(id, found): &(ConnectionId, &Connection)| {
            found.path.is_direct() && found.suspect && free(*id, found)
        };
        self.of(peer).filter(silent).map(|(id, _)| id).collect()
    }

    pub(crate) fn any_used(&self) -> bool {
        self.all.values().any(Connection::is_used)
    }

    pub(crate) fn add_user(&mut self, id: ConnectionId, user: User) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.carried |= matches!(user, User::Leg(_) | User::Request(_));
            if let Err(place) = connection.users.binary_search(&user) {
                if connection.users.is_empty() {
                    connection.users.reserve_exact(1);
                }
                connection.users.insert(place, user);
            }
        }
    }

    /// Whether a connection of the peer's had a stream.
    pub(crate) fn has_carried(&self, peer: PeerId) -> bool {
        self.of(peer).any(|(_, connection)| connection.carried)
    }

    pub(crate) fn remove_user(&mut self, id: ConnectionId, user: User, now: Instant) {
        if let Some(connection) = self.all.get_mut(&id)
            && let Ok(place) = connection.users.binary_search(&user)
        {
            connection.users.remove(place);
            connection.unused_since = now;
            connection.let_go = false;
        }
    }

    /// The peer asks us to keep a connection, or no longer. Of one peer only the last one it named is kept,
    /// and of all peers together no more than there may be; `standing` says as what it counts.
    pub(crate) fn held_by_peer(
        &mut self,
        id: ConnectionId,
        held: bool,
        standing: Standing,
        now: Instant,
    ) {
        let Some(peer) = self.all.get(&id).map(|connection| connection.peer) else { return };
        for other in self.by_peer.get(&peer).into_iter().flatten() {
            if held == (*other != id)
                && let Some(connection) = self.all.get_mut(other)
                && let Some(standing) = connection.held.take()
            {
                self.holds.give_back(connection.origin, standing);
                // Else who passes its hold around would keep all its connections with one.
                if !std::mem::replace(&mut connection.let_go, true) {
                    connection.unused_since = now;
                }
            }
        }
        if let Some(connection) = self.all.get_mut(&id).filter(|found| held && found.held.is_none())
            && self.holds.fits(connection.origin, standing).is_ok()
        {
            self.holds.take(connection.origin, standing);
            connection.held = Some(standing);
        }
    }

    /// These peers are familiar from now on, or no longer: what is kept for them counts as such.
    pub(crate) fn acquainted(&mut self, peers: &[PeerId], familiar: bool) {
        let standing = if familiar { Standing::Familiar } else { Standing::Stranger };
        for id in peers.iter().filter_map(|peer| self.by_peer.get(peer)).flatten() {
            if let Some(connection) = self.all.get_mut(id)
                && let Some(held) = connection.held.as_mut()
            {
                self.holds.give_back(connection.origin, std::mem::replace(held, standing));
                self.holds.take(connection.origin, standing);
            }
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
        let mut circuits = BTreeMap::new();
        for relay in self.all.values().filter_map(|connection| connection.path.relay()) {
            *circuits.entry(relay).or_insert(0_usize) += 1;
        }
        // Most connections are used: what may keep the others is looked into for those alone.
        let unused = self.all.iter().filter(|(_, found)| !found.is_kept());
        unused.filter_map(move |(id, connection)| {
            let carries = connection.path.is_direct() && circuits.contains_key(&connection.peer);
            if carries {
                return None;
            }
            let need = needs(connection.peer);
            let needed = need.direct && connection.path.is_direct()
                || need.best && self.best(connection.peer, &[]) == Some(*id)
                || need.spares && self.is_spare(*id, connection, &circuits);
            let grace = if connection.path.is_direct() { grace.direct } else { grace.relayed };
            (!needed).then_some((*id, connection.unused_since + grace))
        })
    }
}

/// How long before its end the next circuit is made: a quarter of a short life, and time enough for a dozen
/// attempts in a long one.
fn spare(lifetime: Duration) -> Duration {
    (lifetime / 4).min(SPARE_MAX)
}

const SPARE_MAX: Duration = Duration::from_secs(120);

/// What the engine's invariants ask about connections.
#[cfg(any(test, debug_assertions))]
impl Connections {
    pub(crate) fn users(&self) -> impl Iterator<Item = (ConnectionId, User)> {
        self.all.iter().flat_map(|(id, found)| found.users.iter().map(|user| (*id, *user)))
    }

    pub(crate) fn is_user(&self, id: ConnectionId, user: User) -> bool {
        self.all.get(&id).is_some_and(|found| found.users.contains(&user))
    }

    pub(crate) fn is_consistent(&self) -> bool {
        let held = self.all.values().filter(|found| found.held.is_some()).count();
        held == self.holds.taken()
            && self.by_peer.values().map(Vec::len).sum::<usize>() == self.all.len()
    }
}

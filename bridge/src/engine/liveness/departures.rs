//! Peers whose process is gone, as far as one can tell.
//!
//! A path that goes silent may come back, and a stream waits for that with patience. A direct connection
//! that answered a moment ago and was then closed or reset is another matter: networks and NATs mostly drop
//! what they do not know, the peer's system closes or resets, and it does so when the process is killed (one that
//! lives says first that it closes a connection, and is not meant here). The
//! same is known of a peer whose link to a relay its system closed, if the relay says so. A peer that lives is
//! back within a few round trips; one that is not is gone, and whoever talks to it should know soon.

use std::{
    collections::BTreeMap,
    ops::Bound,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::{
    engine::{
        liveness::{FRESH, PING_INTERVAL, PING_PATIENCE},
        streams::guests,
    },
    path::ConnectionId,
    stream::StreamKey,
};

/// Connections that peers ended, and peers that relays say left; more at once are a network that goes, not processes.
const DEPARTED_MAX: usize = 1024;

/// Who ended a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The peer's system, as it does when a process ends.
    System,
    /// The peer itself, which said so: it lived. Its host is changing networks, or it is shutting down; then it ends
    /// its streams too, but nothing is sent again on a connection that is closed.
    InOrder,
}

/// A connection that is gone.
#[derive(Debug)]
struct Closed {
    /// When the streams end that ran there.
    until: Instant,
    /// And at the latest, if the peer turns out to have closed it in order.
    latest: Instant,
    /// It, or another of the peer a moment before, was closed in order.
    in_order: bool,
}

/// A relay's word that a peer left.
#[derive(Debug)]
struct Told {
    /// When the streams end that have no path by then and whose loss nothing else explains.
    until: Option<Instant>,
    /// When it is forgotten.
    forget: Instant,
}

/// What a stream without a path lost.
#[derive(Clone, Copy, Debug)]
struct Lost {
    connection: ConnectionId,
    /// It fell silent, or its relay ended it: that alone says nothing about the peer, and a relay may know more.
    unexplained: bool,
}

/// Peers that closed their connections, and the streams without a path.
#[derive(Debug)]
pub(crate) struct Departures {
    /// What we saw ourselves: the connections that a peer's system ended, and when the streams end that ran there.
    /// What relays say is kept apart, so that it can neither replace nor crowd out what we saw.
    closed: BTreeMap<(PeerId, ConnectionId), Closed>,
    told: BTreeMap<PeerId, Told>,
    lost: BTreeMap<StreamKey, Lost>,
    grace: Duration,
    /// Until then it may have been our own change of networks that ended a connection.
    away: Option<Instant>,
}

impl Departures {
    pub(crate) fn new(grace: Duration) -> Self {
        let (closed, told, lost) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { closed, told, lost, grace, away: None }
    }

    /// A stream lost its last path, which was this connection.
    pub(crate) fn detached(
        &mut self,
        key: StreamKey,
        connection: ConnectionId,
        unexplained: bool,
        now: Instant,
    ) {
        self.lost.insert(key, Lost { connection, unexplained });
        if let Some(told) = self.told.get_mut(&key.peer) {
            told.until = Some(now + self.grace);
        }
    }

    /// The connection ended, and not because the peer's system ended it: its streams may have learnt of that before.
    pub(crate) fn unexplained(&mut self, connection: ConnectionId) {
        for lost in self.lost.values_mut().filter(|lost| lost.connection == connection) {
            lost.unexplained = true;
        }
    }

    /// This host changes its network: what ended a connection a moment ago, or ends one now, may have been that, and a peer that is
    /// not back soon may only not have found us. It has the time of one that changes its own.
    pub(crate) fn away(&mut self, now: Instant) {
        self.away = Some(now + FRESH);
        for closed in self.closed.values_mut() {
            closed.until = closed.until.max(closed.latest);
        }
    }

    /// The peers of streams without a path, each once: relays may know what became of them.
    pub(crate) fn missing(&self) -> impl Iterator<Item = PeerId> {
        let first_after = |bound| Some(self.lost.range((bound, Bound::Unbounded)).next()?.0.peer);
        let next = move |peer: &PeerId| first_after(Bound::Excluded(*guests::of(*peer).end()));
        std::iter::successors(first_after(Bound::Unbounded), next)
    }

    /// A stream has a path again, or has ended.
    pub(crate) fn settled(&mut self, key: StreamKey) {
        self.lost.remove(&key);
    }

    /// The peer's end of a direct connection is gone; `fresh`: it had answered on it lately. `others`: others
    /// are left. A process that dies loses all, and one whose host changes its network may have said goodbye
    /// where it still could: then what else leads there falls silent, and only after that it is sought.
    pub(crate) fn closed(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        end: End,
        fresh: bool,
        others: bool,
        now: Instant,
    ) {
        // Whoever has just said so on one connection lives, whatever becomes of its others.
        let said =
            |((of, _), closed): (&(PeerId, ConnectionId), &Closed)| *of == peer && closed.in_order;
        let in_order = end == End::InOrder || self.closed.iter().any(said);
        let away = self.away.is_some_and(|away| now < away);
        let grace = if in_order || away { PARTED } else { self.grace };
        if fresh && self.closed.len() < DEPARTED_MAX {
            let silence = if others { PING_INTERVAL + PING_PATIENCE } else { Duration::ZERO };
            let closed =
                Closed { until: now + silence + grace, latest: now + silence + PARTED, in_order };
            self.closed.insert((peer, connection), closed);
        }
        if !others {
            for (_, closed) in self.closed.iter_mut().filter(|((of, _), _)| *of == peer) {
                closed.until = closed.until.min(now + grace);
            }
        }
        if in_order {
            self.parted(peer);
        }
    }

    /// A relay says that the peer's system closed its link. Saying it again puts nothing off.
    pub(crate) fn told(&mut self, peer: PeerId, now: Instant) {
        let (until, forget) = (now + self.grace, now + TOLD);
        if let Some(told) = self.told.get_mut(&peer) {
            told.until.get_or_insert(until);
            told.forget = forget;
        } else if self.told.len() < DEPARTED_MAX {
            self.told.insert(peer, Told { until: Some(until), forget });
        }
    }

    /// A relay says that the peer closed its link there in order, a moment ago: its process lives, though its system ended
    /// a connection to us. Saying it again puts nothing off.
    pub(crate) fn parted(&mut self, peer: PeerId) {
        for (_, closed) in self.closed.iter_mut().filter(|((of, _), _)| *of == peer) {
            closed.until = closed.until.max(closed.latest);
        }
    }

    /// The peer is back, or its next process is: whichever it is shows soon.
    pub(crate) fn connected(&mut self, peer: PeerId, now: Instant) {
        let again = now + self.grace;
        for (_, closed) in self.closed.iter_mut().filter(|((of, _), _)| *of == peer) {
            closed.until = again;
        }
        if let Some(told) = self.told.get_mut(&peer) {
            (told.until, told.forget) = (Some(again), again);
        }
    }

    /// The streams to give up; each is said once.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<StreamKey> {
        let mut due = Vec::new();
        for (at, _) in self.closed.extract_if(.., |_, closed| closed.until <= now) {
            let ran_here = |key: &StreamKey, lost: &mut Lost| (key.peer, lost.connection) == at;
            due.extend(self.lost.extract_if(.., ran_here).map(|(key, _)| key));
        }
        for (peer, told) in &mut self.told {
            if told.until.take_if(|until| *until <= now).is_some() {
                let ends = |key: &StreamKey, lost: &mut Lost| key.peer == *peer && lost.unexplained;
                due.extend(self.lost.extract_if(.., ends).map(|(key, _)| key));
            }
        }
        self.told.retain(|_, told| told.until.is_some() || told.forget > now);
        due
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let told = self.told.values().map(|told| told.until.unwrap_or(told.forget));
        self.closed.values().map(|closed| closed.until).chain(told).min()
    }
}

/// For a peer that closed its connection in order to be back: another network is joined within it.
const PARTED: Duration = Duration::from_secs(30);

/// What a relay says is worth something for so long: a stream over another path notices its silence within it.
const TOLD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamId;

    const GRACE: Duration = Duration::from_millis(1500);

    fn world() -> (Departures, StreamKey, ConnectionId, Instant) {
        let key = StreamKey { peer: PeerId::random(), stream: StreamId::from_bytes([1; 16]) };
        (Departures::new(GRACE), key, connection_of(1), Instant::now())
    }

    fn connection_of(id: usize) -> ConnectionId {
        ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(id))
    }

    #[test]
    fn streams_of_a_connection_that_its_peer_closed_are_given_up_unless_they_have_a_path() {
        let (mut departures, key, connection, now) = world();
        let other = StreamKey { stream: StreamId::from_bytes([2; 16]), ..key };
        departures.detached(key, connection, false, now);
        departures.detached(other, connection, false, now);
        departures.closed(key.peer, connection, End::System, true, false, now);
        departures.settled(other);
        assert_eq!(departures.take_due(now + GRACE / 2), []);
        assert_eq!(departures.take_due(now + GRACE), [key]);
        assert_eq!(departures.take_due(now + GRACE), []);
    }

    #[test]
    fn a_peer_that_said_that_it_closes_has_the_time_to_join_another_network() {
        let (mut departures, key, connection, now) = world();
        departures.detached(key, connection, false, now);
        departures.closed(key.peer, connection, End::InOrder, true, false, now);
        assert_eq!(departures.take_due(now + PARTED - GRACE), []);
        assert_eq!(departures.take_due(now + PARTED), [key]);
    }

    #[test]
    fn who_changes_its_own_network_meanwhile_does_not_take_the_peer_for_gone() {
        for before in [true, false] {
            let (mut departures, key, connection, now) = world();
            departures.detached(key, connection, false, now);
            if before {
                departures.away(now);
            }
            departures.closed(key.peer, connection, End::System, true, false, now);
            if !before {
                departures.away(now + GRACE / 2);
            }
            assert_eq!(departures.take_due(now + PARTED - GRACE), [], "{before}");
            assert_eq!(departures.take_due(now + PARTED), [key], "{before}");
        }
        let (mut departures, key, connection, now) = world();
        departures.away(now);
        let later = now + FRESH;
        departures.detached(key, connection, false, later);
        departures.closed(key.peer, connection, End::System, true, false, later);
        assert_eq!(departures.take_due(later + GRACE), [key], "that was long before");
    }

    #[test]
    fn a_peer_that_said_so_on_one_of_its_connections_has_that_time_for_all_of_them() {
        for ends in [[End::InOrder, End::System], [End::System, End::InOrder]] {
            let (mut departures, key, connection, now) = world();
            departures.detached(key, connection, false, now);
            departures.closed(key.peer, connection, ends[0], true, true, now);
            departures.closed(key.peer, connection_of(2), ends[1], true, false, now);
            assert_eq!(departures.take_due(now + PARTED - GRACE), [], "{ends:?}");
            assert_eq!(departures.take_due(now + 2 * PARTED), [key], "{ends:?}");
        }
    }

    #[test]
    fn where_only_a_relay_heard_that_the_peer_closes_it_has_that_time_too_and_no_more_however_often_that_is_said()
     {
        let (mut departures, key, connection, now) = world();
        departures.detached(key, connection, false, now);
        departures.closed(key.peer, connection, End::System, true, false, now);
        for wait in [GRACE / 2, PARTED / 2] {
            departures.parted(key.peer);
            assert_eq!(departures.take_due(now + wait), []);
        }
        departures.parted(key.peer);
        assert_eq!(departures.take_due(now + PARTED), [key]);
    }

    #[test]
    fn where_another_connection_is_left_there_is_time_for_it_to_fall_silent() {
        let (mut departures, key, connection, now) = world();
        departures.detached(key, connection, false, now);
        departures.closed(key.peer, connection, End::System, true, true, now);
        let silence = PING_INTERVAL + PING_PATIENCE;
        assert_eq!(departures.take_due(now + silence), []);
        assert_eq!(departures.take_due(now + silence + GRACE), [key]);
    }

    #[test]
    fn once_the_last_connection_is_closed_nothing_more_is_waited_for() {
        let (mut departures, key, connection, now) = world();
        departures.detached(key, connection, false, now);
        departures.closed(key.peer, connection, End::System, true, true, now);
        departures.closed(key.peer, connection_of(2), End::System, true, false, now);
        assert_eq!(departures.take_due(now + GRACE), [key]);
    }

    #[test]
    fn a_peer_that_is_back_has_the_time_again_to_carry_its_streams_on() {
        let (mut departures, key, connection, now) = world();
        departures.closed(key.peer, connection, End::System, true, false, now);
        departures.detached(key, connection, false, now);
        departures.connected(key.peer, now + GRACE / 2);
        assert_eq!(departures.take_due(now + GRACE), []);
        assert_eq!(departures.take_due(now + GRACE / 2 + GRACE), [key]);
    }

    #[test]
    fn a_connection_that_fell_silent_explains_nothing_though_its_stream_saw_it_fail() {
        let (mut departures, key, connection, now) = world();
        departures.detached(key, connection, false, now);
        departures.unexplained(connection);
        departures.told(key.peer, now);
        assert_eq!(departures.take_due(now + GRACE), [key]);
    }

    #[test]
    fn each_peer_of_streams_without_a_path_is_missing_once() {
        let (mut departures, key, connection, now) = world();
        let another = StreamKey { peer: PeerId::random(), ..key };
        for key in [key, StreamKey { stream: StreamId::from_bytes([0xff; 16]), ..key }, another] {
            departures.detached(key, connection, true, now);
        }
        let mut peers = vec![key.peer, another.peer];
        peers.sort();
        assert_eq!(departures.missing().collect::<Vec<_>>(), peers);
        departures.settled(another);
        assert_eq!(departures.missing().collect::<Vec<_>>(), [key.peer]);
    }

    #[test]
    fn the_end_of_a_connection_that_had_gone_silent_proves_nothing() {
        let (mut departures, key, connection, now) = world();
        departures.detached(key, connection, false, now);
        departures.closed(key.peer, connection, End::System, false, false, now);
        assert_eq!(departures.next_deadline(), None);
    }

    #[test]
    fn what_a_relay_says_of_a_peer_ends_streams_whose_loss_nothing_else_explains() {
        let (mut departures, key, connection, now) = world();
        let direct = StreamKey { stream: StreamId::from_bytes([2; 16]), ..key };
        departures.detached(key, connection, true, now);
        departures.detached(direct, connection, false, now);
        departures.told(key.peer, now);
        assert_eq!(departures.take_due(now + GRACE), [key]);
    }

    #[test]
    fn a_stream_that_notices_its_silence_after_the_relay_spoke_ends_too_but_not_long_after() {
        for (seconds, ends) in [(3, true), (11, false)] {
            let (mut departures, key, connection, now) = world();
            departures.told(key.peer, now);
            let later = now + Duration::from_secs(seconds);
            assert_eq!(departures.take_due(later), []);
            departures.detached(key, connection, true, later);
            assert_eq!(departures.take_due(later + GRACE) == [key], ends);
        }
    }

    #[test]
    fn a_crowd_that_leaves_at_once_is_remembered_only_in_part() {
        let (mut departures, _, _, now) = world();
        for _ in 0..=DEPARTED_MAX {
            departures.told(PeerId::random(), now);
        }
        assert_eq!(departures.told.len(), DEPARTED_MAX);
        for id in 0..=DEPARTED_MAX {
            departures.closed(PeerId::random(), connection_of(id), End::System, true, false, now);
        }
        assert_eq!(departures.closed.len(), DEPARTED_MAX, "what relays say takes none of its room");
    }

    #[test]
    fn every_connection_that_closed_counts_and_no_word_of_a_relay_replaces_that() {
        let (mut departures, key, connection, now) = world();
        departures.detached(key, connection, false, now);
        departures.closed(key.peer, connection, End::System, true, false, now);
        departures.closed(key.peer, connection_of(2), End::System, true, false, now + GRACE / 2);
        departures.told(key.peer, now + GRACE / 2);
        assert_eq!(departures.take_due(now + GRACE), [key]);
    }

    #[test]
    fn a_relay_that_repeats_itself_puts_nothing_off() {
        let (mut departures, key, connection, now) = world();
        departures.detached(key, connection, true, now);
        departures.told(key.peer, now);
        departures.told(key.peer, now + GRACE / 2);
        assert_eq!(departures.take_due(now + GRACE), [key]);
    }

    #[test]
    fn a_loss_just_before_a_relays_word_is_forgotten_ends_its_stream_too() {
        let (mut departures, key, connection, now) = world();
        departures.told(key.peer, now);
        let late = now + TOLD - GRACE / 2;
        assert_eq!(departures.take_due(late), []);
        departures.detached(key, connection, true, late);
        assert_eq!(departures.take_due(now + TOLD), []);
        assert_eq!(departures.take_due(late + GRACE), [key]);
    }
}

//! Whom a forward leads to: one peer, whoever answers for an authority, or any member of a namespace that serves it. Pure:
//! `now` is an argument.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use punchline_bridge::Status;
#[cfg(feature = "kad")]
use punchline_discovery::keys::Namespace;

/// Members that a forward keeps a connection to.
pub(crate) const MEMBERS_MAX: usize = 8;

/// Members that are remembered, so that they take the place of those that go.
const KNOWN_MAX: usize = 256;

/// Who refused the service is not asked again for so long: it does not serve it, or not to us.
const ASIDE: Duration = Duration::from_secs(600);

/// A failure counts against a member for so long.
const BLAMED: Duration = Duration::from_secs(60);

/// Who is not connected for so long makes room, if others wait.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// Whom a forward leads to.
#[derive(Clone, Debug)]
pub(super) enum Whom {
    /// One peer.
    Peer(PeerId),
    /// Whoever answers for this authority.
    #[cfg(feature = "kad")]
    Authority(PeerId),
    /// Whoever is in these, and answers.
    #[cfg(feature = "kad")]
    Members(Vec<Namespace>),
}

impl Whom {
    /// The peer, if it is one.
    pub(super) fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Peer(peer) => Some(*peer),
            #[cfg(feature = "kad")]
            Self::Authority(_) | Self::Members(_) => None,
        }
    }
}

/// Those who may answer, each in a place of its own, and who did last.
#[derive(Debug)]
pub(super) struct Candidates(Mutex<Known>);

/// What is to be done with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is followed from now on, in this place.
    Follow(PeerId, usize),
    /// It is not any more.
    Leave(PeerId),
}

#[derive(Debug)]
struct Known {
    places: Vec<Option<PeerId>>,
    members: BTreeMap<PeerId, Member>,
    last: Option<PeerId>,
    /// So many were found: who was first is followed first.
    count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    found: u64,
    /// In a row, and the last one.
    failures: u32,
    failed: Option<Instant>,
    /// It does not serve what is wanted, until then; for ever if it says so itself.
    aside: Option<Instant>,
    serves: bool,
    /// Since when it is followed and not connected.
    away: Option<Instant>,
}

impl Member {
    fn new(found: u64) -> Self {
        Self { found, failures: 0, failed: None, aside: None, serves: true, away: None }
    }

    fn may_serve(&self, now: Instant) -> bool {
        self.serves && self.aside.is_none_or(|until| until <= now)
    }

    fn blame(&self, now: Instant) -> u32 {
        let fresh = self.failed.is_some_and(|at| now.saturating_duration_since(at) < BLAMED);
        if fresh { self.failures } else { 0 }
    }
}

impl Candidates {
    /// `peer`: the only one; else there are so many `places`, 8 at most.
    pub(super) fn new(peer: Option<PeerId>, places: usize) -> Self {
        let count = if peer.is_some() { 1 } else { places.clamp(1, MEMBERS_MAX) };
        let mut places = vec![None; count];
        places[0] = peer;
        let members = peer.map(|peer| (peer, Member::new(0))).into_iter().collect();
        Self(Mutex::new(Known { places, members, last: peer, count: 0 }))
    }

    /// It is a member. Of more than can be remembered, those that were found first.
    #[cfg_attr(not(feature = "kad"), allow(dead_code))]
    pub(super) fn found(&self, peer: PeerId) {
        let mut known = self.known();
        if known.members.len() < KNOWN_MAX || known.members.contains_key(&peer) {
            known.count += 1;
            let found = known.count;
            known.members.entry(peer).or_insert_with(|| Member::new(found));
        }
    }

    /// It is none any more.
    #[cfg_attr(not(feature = "kad"), allow(dead_code))]
    pub(super) fn lost(&self, peer: PeerId) {
        self.known().members.remove(&peer);
    }

    /// What it says of itself: whether it serves what is wanted.
    #[cfg_attr(not(feature = "kad"), allow(dead_code))]
    pub(super) fn says(&self, peer: PeerId, serves: bool) {
        if let Some(member) = self.known().members.get_mut(&peer) {
            member.serves = serves;
        }
    }

    /// Whoever answered last, or was found first; of one place, who is in it.
    pub(super) fn last(&self, place: Option<usize>) -> Option<PeerId> {
        let known = self.known();
        match place {
            Some(place) => known.places.get(place).copied().flatten(),
            None => known.last,
        }
    }

    pub(super) fn answered(&self, peer: PeerId) {
        let mut known = self.known();
        known.last = Some(peer);
        if let Some(member) = known.members.get_mut(&peer) {
            (member.failures, member.failed, member.aside) = (0, None, None);
        }
    }

    pub(super) fn failed(&self, peer: PeerId, now: Instant) {
        if let Some(member) = self.known().members.get_mut(&peer) {
            member.failures = member.failures.saturating_add(1);
            member.failed = Some(now);
        }
    }

    /// It does not serve what is wanted, or not to us.
    pub(super) fn refused(&self, peer: PeerId, now: Instant) {
        let mut known = self.known();
        if known.members.len() > 1
            && let Some(member) = known.members.get_mut(&peer)
        {
            member.aside = Some(now + ASIDE);
        }
    }

    /// Fills the places: who is gone, does not serve what is wanted or is away for long makes room for others.
    #[cfg_attr(not(feature = "kad"), allow(dead_code))]
    pub(super) fn tend(&self, connected: impl Fn(PeerId) -> bool, now: Instant) -> Vec<Change> {
        let mut known = self.known();
        let Known { places, members, last, .. } = &mut *known;
        let mut waiting: Vec<PeerId> = waiting(places, members, now);
        let mut changes = Vec::new();
        for place in places.iter_mut() {
            let Some(peer) = *place else { continue };
            let stays = members.get_mut(&peer).is_some_and(|member| {
                member.away = if connected(peer) { None } else { member.away.or(Some(now)) };
                let away = member.away.is_some_and(|since| now - since >= AWAY_MAX);
                if away && !waiting.is_empty() {
                    // It comes last when it is its turn again.
                    member.found += 1 << 32;
                }
                member.may_serve(now) && (!away || waiting.is_empty())
            });
            if !stays {
                *place = None;
                changes.push(Change::Leave(peer));
            }
        }
        for (at, place) in places.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
            if waiting.is_empty() {
                break;
            }
            let peer = waiting.remove(0);
            if let Some(member) = members.get_mut(&peer) {
                member.away = None;
            }
            *place = Some(peer);
            changes.push(Change::Follow(peer, at));
        }
        if last.is_none_or(|last| !places.contains(&Some(last))) {
            *last = places.iter().flatten().next().copied();
        }
        changes
    }

    /// Those that are followed, in the order in which they are to be tried: who answered before who failed lately, then who
    /// is connected, the nearest first. Of one place, who is in it.
    pub(super) fn in_order(
        &self,
        place: Option<usize>,
        status: Option<&Status>,
        now: Instant,
    ) -> Vec<PeerId> {
        let known = self.known();
        if let Some(place) = place {
            return known.places.get(place).copied().flatten().into_iter().collect();
        }
        let mut all: Vec<PeerId> = known.places.iter().flatten().copied().collect();
        let round_trip = |peer: &PeerId| -> Option<Duration> {
            let found = status?.peers.iter().find(|found| found.peer == *peer)?;
            let direct = found.connections.iter().filter(|connection| connection.path.is_direct());
            let of = |connection: &punchline_bridge::status::ConnectionStatus| connection.round_trip;
            direct.filter_map(of).min().or_else(|| found.connections.iter().filter_map(of).min())
        };
        all.sort_by_key(|peer| {
            let blame = known.members.get(peer).map(|member| member.blame(now)).unwrap_or_default();
            (blame, round_trip(peer).unwrap_or(Duration::MAX))
        });
        all
    }

    /// Who is in which place.
    #[cfg_attr(not(feature = "kad"), allow(dead_code))]
    pub(super) fn places(&self) -> Vec<Option<PeerId>> {
        self.known().places.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Members that are not followed and may be, the best first.
fn waiting(places: &[Option<PeerId>], members: &BTreeMap<PeerId, Member>, now: Instant) -> Vec<PeerId> {
    let others =
        members.iter().filter(|(peer, member)| !places.contains(&Some(**peer)) && member.may_serve(now));
    let mut waiting: Vec<(u32, u64, PeerId)> =
        others.map(|(peer, member)| (member.blame(now), member.found, *peer)).collect();
    waiting.sort_unstable();
    waiting.into_iter().map(|(.., peer)| peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers<const N: usize>() -> [PeerId; N] {
        [(); N].map(|()| PeerId::random())
    }

    fn follows(changes: &[Change]) -> Vec<PeerId> {
        let follow = |change: &Change| match change {
            Change::Follow(peer, _) => Some(*peer),
            Change::Leave(_) => None,
        };
        changes.iter().filter_map(follow).collect()
    }

    /// With these found, in their order, and followed as far as there is room.
    fn following(places: usize, members: &[PeerId], now: Instant) -> Candidates {
        let candidates = Candidates::new(None, places);
        members.iter().for_each(|peer| candidates.found(*peer));
        candidates.tend(|_| true, now);
        candidates
    }

    #[test]
    fn who_failed_lately_comes_after_who_did_not() {
        let (members, now) = (peers::<3>(), Instant::now());
        assert_eq!(Candidates::new(None, 8).last(None), None);
        let candidates = following(8, &members, now);
        candidates.failed(members[0], now);
        assert_eq!(candidates.in_order(None, None, now), [members[1], members[2], members[0]]);
        let later = now + BLAMED;
        assert_eq!(candidates.in_order(None, None, later)[0], members[0], "it may be well again");
        candidates.answered(members[1]);
        assert_eq!(candidates.last(None), Some(members[1]));
    }

    #[test]
    fn a_crowd_of_members_is_not_all_followed_and_who_goes_is_replaced() {
        let (candidates, now) = (Candidates::new(None, 100), Instant::now());
        let crowd: Vec<PeerId> = (0..KNOWN_MAX + 50).map(|_| PeerId::random()).collect();
        crowd.iter().for_each(|peer| candidates.found(*peer));
        assert_eq!(candidates.known().members.len(), KNOWN_MAX);
        assert_eq!(follows(&candidates.tend(|_| true, now)), crowd[..MEMBERS_MAX]);
        assert_eq!(candidates.tend(|_| true, now), []);
        candidates.lost(crowd[3]);
        let (gone, new) = (Change::Leave(crowd[3]), Change::Follow(crowd[MEMBERS_MAX], 3));
        assert_eq!(candidates.tend(|_| true, now), [gone, new], "each keeps its place");
    }

    #[test]
    fn who_does_not_serve_it_is_left_aside_and_a_newcomer_that_does_is_taken_in() {
        let (members, now) = (peers::<3>(), Instant::now());
        let candidates = following(8, &members[..2], now);
        candidates.refused(members[0], now);
        candidates.says(members[1], false);
        let left = [Change::Leave(members[0]), Change::Leave(members[1])];
        assert_eq!(candidates.tend(|_| true, now), left);
        candidates.found(members[2]);
        assert_eq!(candidates.tend(|_| true, now), [Change::Follow(members[2], 0)]);
        let again = candidates.tend(|_| true, now + ASIDE);
        assert_eq!(again, [Change::Follow(members[0], 1)], "one that refused may serve it by now");
    }

    #[test]
    fn who_is_away_for_long_makes_room_only_if_others_wait() {
        let (members, now) = (peers::<2>(), Instant::now());
        let candidates = following(1, &members, now);
        let nobody = |_: PeerId| false;
        assert_eq!(candidates.tend(nobody, now), []);
        let changes = candidates.tend(nobody, now + AWAY_MAX);
        assert_eq!(changes, [Change::Leave(members[0]), Change::Follow(members[1], 0)]);
        let then = now + AWAY_MAX;
        candidates.lost(members[0]);
        candidates.tend(nobody, then);
        assert_eq!(candidates.tend(nobody, then + 10 * AWAY_MAX), [], "there is nobody else");
    }

    #[test]
    fn the_only_peer_is_tried_whatever_it_refused() {
        let (peer, now) = (PeerId::random(), Instant::now());
        let candidates = Candidates::new(Some(peer), 8);
        candidates.refused(peer, now);
        candidates.failed(peer, now);
        assert_eq!(candidates.in_order(None, None, now), [peer]);
        assert_eq!(candidates.last(None), Some(peer));
    }

    #[test]
    fn of_places_each_leads_to_whoever_is_in_it() {
        let (members, now) = (peers::<2>(), Instant::now());
        let candidates = following(4, &members, now);
        assert_eq!(candidates.in_order(Some(1), None, now), [members[1]]);
        assert_eq!((candidates.last(Some(0)), candidates.last(Some(2))), (Some(members[0]), None));
    }
}

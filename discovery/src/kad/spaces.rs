//! Who is in which namespace. Pure: `now` is an argument.
//!
//! A node that keeps memberships of one key tells twenty of them at most in one answer, each time others. So every member
//! says so under the key of its namespace and under that of one of its shards, and whoever finds many under the first looks
//! into all.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use libp2p::PeerId;

use super::{MEMBERSHIP_LASTS, status::Event, store::Namespace};

/// Of a namespace: shards beside its own key. Eighty members are all found in one look, a thousand in three, as long as
/// twenty nodes answer. Each shard costs whoever looks another twenty requests.
pub(super) const SHARDS: u16 = 4;

/// With so many members under the first key, there may be more than it tells: three quarters of twenty.
const NEARLY_FULL: usize = 15;

/// Members of one namespace that are remembered.
pub(super) const MEMBERS_MAX: usize = 1024;

/// Namespaces that are watched at once.
pub(super) const SPACES_MAX: usize = 64;

/// One namespace that is looked at.
#[derive(Debug, Default)]
struct Space {
    watched: bool,
    /// With when they were last found.
    members: BTreeMap<PeerId, Instant>,
    round: Option<Round>,
}

/// One look at it.
#[derive(Debug, Default)]
struct Round {
    first: BTreeSet<PeerId>,
    /// Lookups that are not over.
    left: u16,
    news: bool,
}

/// What a lookup that is over leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look into the shards as well.
    Shards,
    /// Others are under way.
    Wait,
    /// The look is over; whether it found anybody new.
    Over { news: bool },
}

/// All that are looked at.
#[derive(Debug, Default)]
pub(super) struct Spaces(BTreeMap<Namespace, Space>);

impl Spaces {
    /// A namespace is watched from now on. False if there are too many.
    pub(super) fn watch(&mut self, namespace: Namespace) -> bool {
        if self.0.len() >= SPACES_MAX && !self.0.contains_key(&namespace) {
            return false;
        }
        self.0.entry(namespace).or_default().watched = true;
        true
    }

    /// A look begins, at the first key. False if one is under way, or there are too many namespaces.
    pub(super) fn begin(&mut self, namespace: &Namespace) -> bool {
        if self.0.len() >= SPACES_MAX && !self.0.contains_key(namespace) {
            return false;
        }
        let space = self.0.entry(namespace.clone()).or_default();
        let free = space.round.is_none();
        space.round.get_or_insert(Round { left: 1, ..Round::default() });
        free
    }

    /// Somebody keeps that these are members. Returns those that were not known.
    pub(super) fn found(
        &mut self,
        namespace: &Namespace,
        shard: Option<u16>,
        members: &BTreeSet<PeerId>,
        now: Instant,
    ) -> Vec<PeerId> {
        let Some(space) = self.0.get_mut(namespace) else { return Vec::new() };
        let mut new = Vec::new();
        for member in members {
            if space.members.len() >= MEMBERS_MAX && !space.members.contains_key(member) {
                break;
            }
            if space.members.insert(*member, now).is_none() {
                new.push(*member);
            }
        }
        if let Some(round) = &mut space.round {
            round.news |= !new.is_empty();
            if shard.is_none() {
                round.first.extend(members.iter().take(MEMBERS_MAX));
            }
        }
        new
    }

    /// A lookup is over.
    pub(super) fn ended(&mut self, namespace: &Namespace, shard: Option<u16>) -> Next {
        let Some(space) = self.0.get_mut(namespace) else { return Next::Over { news: false } };
        let Some(round) = &mut space.round else { return Next::Wait };
        if shard.is_none() && round.first.len() >= NEARLY_FULL {
            round.left = SHARDS;
            return Next::Shards;
        }
        round.left = round.left.saturating_sub(1);
        if round.left > 0 {
            return Next::Wait;
        }
        let news = round.news;
        space.round = None;
        Next::Over { news }
    }

    /// Who is in it, as far as is known.
    pub(super) fn members(&self, namespace: &Namespace) -> Vec<PeerId> {
        self.0.get(namespace).map(|space| space.members.keys().copied().collect()).unwrap_or_default()
    }

    /// Forgets those of whom nobody says any more that they are members, and what is not watched.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<Event> {
        let mut lost = Vec::new();
        for (namespace, space) in &mut self.0 {
            space.members.retain(|peer, found| {
                let stays = now.saturating_duration_since(*found) < MEMBERSHIP_LASTS;
                if !stays && space.watched {
                    lost.push(Event::MemberLost { namespace: namespace.clone(), peer: *peer });
                }
                stays
            });
        }
        self.0.retain(|_, space| space.watched || space.round.is_some());
        lost
    }

    /// Whether it is watched.
    pub(super) fn is_watched(&self, namespace: &Namespace) -> bool {
        self.0.get(namespace).is_some_and(|space| space.watched)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn crowd(number: usize) -> BTreeSet<PeerId> {
        (0..number).map(|_| PeerId::random()).collect()
    }

    fn watched() -> (Spaces, Namespace, Instant) {
        let (mut spaces, namespace) = (Spaces::default(), Namespace::from("kaspa"));
        assert!(spaces.watch(namespace.clone()));
        assert!(spaces.begin(&namespace));
        assert!(!spaces.begin(&namespace), "a look is under way");
        (spaces, namespace, Instant::now())
    }

    #[test]
    fn where_the_first_key_is_nearly_full_all_shards_are_looked_into() {
        let (mut spaces, namespace, now) = watched();
        spaces.found(&namespace, None, &crowd(NEARLY_FULL - 1), now);
        spaces.found(&namespace, None, &crowd(1), now);
        assert_eq!(spaces.ended(&namespace, None), Next::Shards);
        for shard in 0..SHARDS - 1 {
            assert_eq!(spaces.found(&namespace, Some(shard), &crowd(2), now).len(), 2);
            assert_eq!(spaces.ended(&namespace, Some(shard)), Next::Wait);
        }
        let last = spaces.ended(&namespace, Some(SHARDS - 1));
        assert_eq!(last, Next::Over { news: true });
        let in_shards = 2 * usize::from(SHARDS - 1);
        assert_eq!(spaces.members(&namespace).len(), NEARLY_FULL + in_shards);
    }

    #[test]
    fn where_it_is_not_the_look_is_over() {
        let (mut spaces, namespace, now) = watched();
        let members = crowd(3);
        assert_eq!(spaces.found(&namespace, None, &members, now).len(), 3);
        assert_eq!(spaces.ended(&namespace, None), Next::Over { news: true });
        assert!(spaces.begin(&namespace));
        assert_eq!(spaces.found(&namespace, None, &members, now), []);
        assert_eq!(spaces.ended(&namespace, None), Next::Over { news: false });
    }

    #[test]
    fn whoever_is_named_without_end_fills_no_memory() {
        let (mut spaces, namespace, now) = watched();
        for _ in 0..MEMBERS_MAX / 16 + 8 {
            spaces.found(&namespace, None, &crowd(16), now);
        }
        assert_eq!(spaces.members(&namespace).len(), MEMBERS_MAX);
        for number in 1..SPACES_MAX {
            assert!(spaces.watch(Namespace::from(format!("{number}"))));
        }
        assert!(!spaces.watch(Namespace::from("one too many")));
    }

    #[test]
    fn a_member_that_says_so_no_more_is_lost() {
        let (mut spaces, namespace, now) = watched();
        let members = crowd(2);
        spaces.found(&namespace, None, &members, now);
        let later = now + MEMBERSHIP_LASTS - Duration::from_secs(1);
        let first: BTreeSet<PeerId> = members.iter().take(1).copied().collect();
        spaces.found(&namespace, None, &first, later);
        assert_eq!(spaces.sweep(now + MEMBERSHIP_LASTS).len(), 1);
        assert_eq!(spaces.members(&namespace), Vec::from_iter(first));
    }
}

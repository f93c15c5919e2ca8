//! Which namespaces this node is in, and whom it knows in those that are looked at. Pure: `now` is an argument.
//!
//! [`keys`](crate::keys) says under which keys members are found, and how deep one announces itself; here is what is under
//! way. A namespace is known by what it would be called on the first of January 1970, which a secret one has too.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use libp2p::PeerId;

use super::status::Space as Told;
use crate::{
    UnixTime,
    keys::{Depth, MEMBERS_MAX, Namespace, NamespaceId, Shard, Walk},
    store::PROVIDER_LIFETIME_MAX,
};

/// Namespaces that are joined, watched or looked at at once.
pub(super) const SPACES_MAX: usize = 64;

/// Shards of one namespace that are read at once: each is a lookup, of some twenty requests.
const READS_AT_ONCE: usize = 8;

/// By which a namespace is known here.
pub(super) type SpaceId = NamespaceId;

/// What is read: the members of a shard, by what the namespace is called on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) space: SpaceId,
    pub(super) day: NamespaceId,
    pub(super) shard: Shard,
}

impl Read {
    pub(super) fn key(&self) -> Vec<u8> {
        self.day.key(self.shard).to_vec()
    }
}

#[derive(Debug)]
struct Space {
    namespace: Namespace,
    watched: bool,
    /// How deep this node announces itself, if it is a member.
    joined: Option<Depth>,
    /// With when they were last found.
    members: BTreeMap<PeerId, Instant>,
    look: Option<Look>,
}

/// One look at all members.
#[derive(Debug, Default)]
struct Look {
    walks: Vec<(NamespaceId, Walk)>,
    reading: usize,
    news: bool,
}

/// All that matter to this node.
#[derive(Debug, Default)]
pub(super) struct Spaces(BTreeMap<SpaceId, Space>);

/// There are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{SPACES_MAX} namespaces are looked at already")]
pub(super) struct Full;

pub(super) fn id_of(namespace: &Namespace) -> Option<SpaceId> {
    namespace.ids(UnixTime::default()).first().copied()
}

impl Spaces {
    fn space(&mut self, namespace: Namespace) -> Result<(SpaceId, &mut Space), Full> {
        let id = id_of(&namespace).ok_or(Full)?;
        if self.0.len() >= SPACES_MAX && !self.0.contains_key(&id) {
            return Err(Full);
        }
        let (watched, joined, look) = (false, None, None);
        let new = || Space { namespace, watched, joined, members: BTreeMap::new(), look };
        Ok((id, self.0.entry(id).or_insert_with(new)))
    }

    /// This node is a member from now on.
    pub(super) fn join(&mut self, namespace: Namespace) -> Result<SpaceId, Full> {
        let (id, space) = self.space(namespace)?;
        space.joined.get_or_insert_default();
        Ok(id)
    }

    /// Members are looked for from now on.
    pub(super) fn watch(&mut self, namespace: Namespace) -> Result<SpaceId, Full> {
        let (id, space) = self.space(namespace)?;
        space.watched = true;
        Ok(id)
    }

    /// A look begins, unless one is under way.
    pub(super) fn look(&mut self, namespace: Namespace, now: UnixTime) -> Result<SpaceId, Full> {
        let (id, space) = self.space(namespace)?;
        let walks = || space.namespace.ids(now).into_iter().map(|day| (day, Walk::new(MEMBERS_MAX)));
        if space.look.is_none() {
            space.look = Some(Look { walks: walks().collect(), ..Look::default() });
        }
        Ok(id)
    }

    /// What it is.
    pub(super) fn namespace(&self, id: SpaceId) -> Option<&Namespace> {
        self.0.get(&id).map(|space| &space.namespace)
    }

    /// What is to be read next of a look.
    pub(super) fn next_read(&mut self, id: SpaceId) -> Option<Read> {
        let look = self.0.get_mut(&id)?.look.as_mut()?;
        if look.reading >= READS_AT_ONCE {
            return None;
        }
        let mut walks = look.walks.iter_mut();
        let (day, shard) = walks.find_map(|(day, walk)| Some((*day, walk.next_shard()?)))?;
        look.reading += 1;
        Some(Read { space: id, day, shard })
    }

    /// Somebody keeps that these are members. Returns those that were not known, if they are to be told of.
    pub(super) fn seen(
        &mut self,
        id: SpaceId,
        members: impl IntoIterator<Item = PeerId>,
        now: Instant,
    ) -> Vec<PeerId> {
        let Some(space) = self.0.get_mut(&id) else { return Vec::new() };
        let mut new = Vec::new();
        for member in members {
            let known = space.members.contains_key(&member);
            if known || space.members.len() < MEMBERS_MAX {
                space.members.insert(member, now);
            }
            if !known && space.members.len() < MEMBERS_MAX {
                new.push(member);
            }
        }
        if let Some(look) = &mut space.look {
            look.news |= !new.is_empty();
        }
        if space.watched { new } else { Vec::new() }
    }

    /// A read is over, with all that it found. Returns whether anybody new was found, if it was the last one of its look.
    pub(super) fn read(&mut self, read: Read, members: &BTreeSet<PeerId>) -> Option<bool> {
        let space = self.0.get_mut(&read.space)?;
        let look = space.look.as_mut()?;
        look.reading = look.reading.saturating_sub(1);
        for (day, walk) in &mut look.walks {
            if *day == read.day {
                walk.found(read.shard, members);
            }
        }
        let news = look.news;
        // Whether there is more to read only the walks know, which are asked before the look ends.
        (look.reading == 0).then_some(news)
    }

    /// Whether anything is under way for a look.
    pub(super) fn is_reading(&self, id: SpaceId) -> bool {
        self.0.get(&id).and_then(|space| space.look.as_ref()).is_some_and(|look| look.reading > 0)
    }

    /// A look of which nothing is left to read and nothing is under way has ended.
    pub(super) fn end(&mut self, id: SpaceId) {
        if let Some(space) = self.0.get_mut(&id) {
            space.look = None;
        }
    }

    /// Each, with what two nodes that know it call it today.
    pub(super) fn all(&self, local: PeerId, now: UnixTime) -> Vec<Told> {
        let told = |space: &Space| Told {
            hash: space.namespace.hash(now),
            namespace: space.namespace.clone(),
            joined: space.joined.is_some(),
            members: space.members.keys().filter(|peer| **peer != local).count(),
        };
        self.0.values().map(told).collect()
    }

    /// Who is in it, as far as is known.
    pub(super) fn members(&self, id: SpaceId) -> Vec<PeerId> {
        self.0.get(&id).map(|space| space.members.keys().copied().collect()).unwrap_or_default()
    }

    /// Those that this node is in.
    pub(super) fn joined(&self) -> impl Iterator<Item = &Namespace> {
        self.0.values().filter(|space| space.joined.is_some()).map(|space| &space.namespace)
    }

    /// Under which keys this node is to announce itself, and what it should count afterwards.
    pub(super) fn announcements(
        &self,
        id: SpaceId,
        local: PeerId,
        now: UnixTime,
    ) -> (Vec<Vec<u8>>, Option<Read>) {
        let Some(Space { namespace, joined: Some(depth), .. }) = self.0.get(&id) else {
            return (Vec::new(), None);
        };
        let days = namespace.ids(now);
        let shards = |day: &NamespaceId| {
            let (day, shards) = (*day, day.shards_of(local));
            shards.into_iter().take(depth.levels()).map(move |shard| Read { space: id, day, shard })
        };
        let all: Vec<Read> = days.iter().flat_map(shards).collect();
        let deepest = |read: &&Read| {
            Some(read.day) == days.first().copied() && read.shard.level() == depth.deepest()
        };
        (all.iter().map(Read::key).collect(), all.iter().find(deepest).copied())
    }

    /// So many are in this node's own shard. Returns whether it should announce itself elsewhere.
    pub(super) fn counted(&mut self, id: SpaceId, members: usize) -> bool {
        let depth = self.0.get_mut(&id).and_then(|space| space.joined.as_mut());
        depth.is_some_and(|depth| depth.counted(members))
    }

    /// Forgets those of whom nobody says any more that they are members, and what nobody wants. Returns the former, where
    /// they are to be told of.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<(Namespace, PeerId)> {
        let mut lost = Vec::new();
        for space in self.0.values_mut() {
            space.members.retain(|peer, found| {
                let stays = now.saturating_duration_since(*found) < PROVIDER_LIFETIME_MAX;
                if !stays && space.watched {
                    lost.push((space.namespace.clone(), *peer));
                }
                stays
            });
        }
        self.0.retain(|_, space| space.watched || space.joined.is_some() || space.look.is_some());
        lost
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::Network;

    /// Shards below one.
    const BELOW: usize = 4;

    const DAY: UnixTime = UnixTime::from_millis(20_000 * 86_400_000);

    fn named(name: &str) -> Namespace {
        Namespace::public(&"test".parse::<Network>().unwrap(), name).unwrap()
    }

    fn crowd(number: usize) -> BTreeSet<PeerId> {
        (0..number).map(|_| PeerId::random()).collect()
    }

    fn watched() -> (Spaces, SpaceId, Instant) {
        let mut spaces = Spaces::default();
        let id = spaces.watch(named("kaspa")).unwrap();
        assert_eq!(spaces.look(named("kaspa"), DAY), Ok(id));
        (spaces, id, Instant::now())
    }

    #[test]
    fn where_an_answer_is_full_the_shards_below_are_read() {
        let (mut spaces, id, now) = watched();
        let all = spaces.next_read(id).unwrap();
        assert_eq!(spaces.next_read(id), None, "the rest depends on what comes");
        let members = crowd(20);
        assert_eq!(spaces.seen(id, members.iter().copied(), now).len(), 20);
        assert_eq!(spaces.read(all, &members), Some(true));
        let mut reads: Vec<Read> = std::iter::from_fn(|| spaces.next_read(id)).collect();
        assert_eq!(reads.len(), READS_AT_ONCE.min(BELOW));
        let mut done = 0;
        while let Some(read) = reads.pop() {
            done += 1;
            spaces.seen(id, crowd(2), now);
            let last = spaces.read(read, &BTreeSet::new());
            reads.extend(spaces.next_read(id));
            assert_eq!(last.is_some() && reads.is_empty(), done == BELOW);
        }
        assert_eq!(spaces.members(id).len(), 20 + 2 * BELOW);
    }

    #[test]
    fn a_secret_namespace_is_looked_at_as_it_is_called_today_and_yesterday() {
        let network: Network = "test".parse().unwrap();
        let secret = Namespace::secret(&network, "kaspa", b"sixteen bytes of").unwrap();
        let mut spaces = Spaces::default();
        let id = spaces.join(secret.clone()).unwrap();
        spaces.look(secret, DAY).unwrap();
        let reads: Vec<Read> = std::iter::from_fn(|| spaces.next_read(id)).collect();
        assert_eq!(reads.len(), 2);
        assert_ne!(reads[0].key(), reads[1].key());
        let (keys, _) = spaces.announcements(id, PeerId::random(), DAY);
        assert_eq!(keys.len(), 4, "two days, two levels");
        assert!(reads.iter().all(|read| keys.contains(&read.key())));
    }

    #[test]
    fn whose_shard_is_crowded_announces_itself_deeper() {
        let (mut spaces, local) = (Spaces::default(), PeerId::random());
        let id = spaces.join(named("kaspa")).unwrap();
        let (keys, own) = spaces.announcements(id, local, DAY);
        assert_eq!((keys.len(), own.map(|own| own.shard.level())), (2, Some(1)));
        assert!(spaces.counted(id, crate::keys::CROWDED));
        assert_eq!(spaces.announcements(id, local, DAY).0.len(), 3);
    }

    #[test]
    fn whoever_is_named_without_end_fills_no_memory() {
        let (mut spaces, id, now) = watched();
        spaces.seen(id, crowd(MEMBERS_MAX + 100), now);
        assert_eq!(spaces.members(id).len(), MEMBERS_MAX);
        for number in 1..SPACES_MAX {
            assert!(spaces.watch(named(&number.to_string())).is_ok());
        }
        assert_eq!(spaces.watch(named("one too many")), Err(Full));
    }

    #[test]
    fn a_member_that_says_so_no_more_is_lost() {
        let (mut spaces, id, now) = watched();
        let members: Vec<PeerId> = crowd(2).into_iter().collect();
        spaces.seen(id, members.clone(), now);
        let later = now + PROVIDER_LIFETIME_MAX - Duration::from_secs(1);
        spaces.seen(id, [members[0]], later);
        let lost = spaces.sweep(now + PROVIDER_LIFETIME_MAX);
        assert_eq!(lost.iter().map(|(_, peer)| *peer).collect::<Vec<_>>(), [members[1]]);
        assert_eq!(spaces.members(id), [members[0]]);
    }
}

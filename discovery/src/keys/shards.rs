//! How all members of a namespace are found, though an answer has room for 20.
//!
//! Members are spread over a tree of shards: one at level 0, and four below each down to level 4. Which shard of a level
//! a peer belongs to follows from its id, so that writers and readers need not agree on anything.
//!
//! - A member always announces itself at levels 0 and 1, and at the next level as long as its own shard above is
//!   *crowded*: [`CROWDED`] members or more. [`Depth`] says how deep.
//! - A reader begins at level 0. Where an answer is full it reads the four shards below. [`Walk`] says what to read.
//!
//! So up to 20 members are found by one question, and some 50 by five without a word between members; beyond that it
//! takes about one for each six to ten of them. The first members of a shard learn that it is crowded only when they look,
//! which they do whenever they announce themselves. In the meantime answers of the shard tell of them in turn.

use std::collections::{BTreeSet, VecDeque};

use libp2p::PeerId;

use super::PROVIDERS_ANSWERED_MAX;

/// The deepest level: 256 shards, for some 4,000 members. Of more, a walk finds some.
pub const LEVEL_MAX: u8 = 4;

/// Shards below one. Fewer would take more looks, more would have readers of a small namespace ask for little.
pub const SHARDS_BELOW: u16 = 4;

/// A shard with so many members is crowded: half of what an answer has room for, so that most are below before an answer
/// is full and readers go there.
pub const CROWDED: usize = PROVIDERS_ANSWERED_MAX / 2;

/// Shards that one walk reads: all there are. Whoever fills them with members that do not exist makes no walk longer.
pub const READS_MAX: usize = 1 + 4 + 16 + 64 + 256;

/// Members that one walk finds.
pub const MEMBERS_MAX: usize = 4096;

/// A part of the members of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    level: u8,
    index: u16,
}

impl Shard {
    /// All members.
    pub const ALL: Self = Self { level: 0, index: 0 };

    /// That of whoever has a hash that begins like this.
    pub(super) fn of(hash: u16, level: u8) -> Self {
        let bits = 2 * u32::from(level.min(LEVEL_MAX));
        Self { level: level.min(LEVEL_MAX), index: (u32::from(hash) >> (16 - bits)) as u16 }
    }

    /// How deep: 0 for [`Shard::ALL`].
    pub fn level(self) -> u8 {
        self.level
    }

    /// Which of its level.
    pub fn index(self) -> u16 {
        self.index
    }

    fn below(self) -> impl Iterator<Item = Self> {
        let shards = if self.level < LEVEL_MAX { SHARDS_BELOW } else { 0 };
        (0..shards)
            .map(move |part| Self { level: self.level + 1, index: self.index * SHARDS_BELOW + part })
    }
}

/// How deep a member announces itself. It begins anew each time it does: members of a shard are in those above it,
/// too, so what it counts there does not depend on where it went before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth(u8);

impl Default for Depth {
    fn default() -> Self {
        Self(1)
    }
}

impl Depth {
    /// Of the member's own shards, those where it announces itself.
    pub fn levels(self) -> usize {
        usize::from(self.0) + 1
    }

    /// The deepest level, where the member is to count.
    pub fn deepest(self) -> u8 {
        self.0
    }

    /// So many members, itself included, are in the member's own shard of the deepest level. True if it goes further
    /// down, and has to count there as well.
    pub fn counted(&mut self, members: usize) -> bool {
        let goes = members >= CROWDED && self.0 < LEVEL_MAX;
        self.0 += u8::from(goes);
        goes
    }
}

/// Finds the members of a namespace, shard by shard, the upper levels first.
#[derive(Debug)]
pub struct Walk {
    wanted: usize,
    next: VecDeque<Shard>,
    reads: usize,
    found: BTreeSet<PeerId>,
}

impl Walk {
    /// Ends when `wanted` members are found, at most [`MEMBERS_MAX`].
    pub fn new(wanted: usize) -> Self {
        let next = VecDeque::from([Shard::ALL]);
        Self { wanted: wanted.min(MEMBERS_MAX), next, reads: 0, found: BTreeSet::new() }
    }

    /// The next shard to read. None: nothing is left, or all depends on answers that have not come.
    pub fn next_shard(&mut self) -> Option<Shard> {
        if self.found.len() >= self.wanted || self.reads >= READS_MAX {
            return None;
        }
        let shard = self.next.pop_front()?;
        self.reads += 1;
        Some(shard)
    }

    /// These members are in a shard. Returns the ones that were not found before.
    pub fn found(&mut self, shard: Shard, members: &BTreeSet<PeerId>) -> Vec<PeerId> {
        // Then it may not be all of them.
        if members.len() >= PROVIDERS_ANSWERED_MAX {
            self.next.extend(shard.below());
        }
        let room = self.wanted.saturating_sub(self.found.len());
        let new: Vec<PeerId> = members.difference(&self.found).take(room).copied().collect();
        self.found.extend(&new);
        new
    }

    /// All that were found.
    pub fn members(&self) -> &BTreeSet<PeerId> {
        &self.found
    }
}

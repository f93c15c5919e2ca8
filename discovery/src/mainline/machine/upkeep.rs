//! How this node joins, and stays in.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use rand::RngExt as _;

use super::{Machine, asking::Purpose};
use crate::mainline::{
    id::{Id, is_public},
    lookup::{LASTS_MAX, Then, Want},
    message::{Node, Query},
    table::Table,
};

/// Ways in that are used of those that are given, and that are remembered of nodes that are gone.
pub(in crate::mainline) const WAYS_IN_MAX: usize = 16;

/// With fewer nodes than this, searches ask the ways in as well.
const FEW: usize = 8;

/// Joining is tried again after this, twice as long each time, up to the other, a tenth more or less.
const JOIN_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Between two searches for nodes near this one, a tenth more or less; and while it knows fewer than fill a bucket: many
/// may have joined at once.
const SELF_LOOKUP: Duration = Duration::from_secs(300);
const SELF_LOOKUP_OF_FEW: Duration = Duration::from_secs(30);

/// Between two looks who is silent, what is neglected, and what has expired.
const ROUND: Duration = Duration::from_secs(10);

/// Silent nodes that are asked in a round.
const ASKED_IN_ROUND: usize = 8;

/// What so many others see us at is believed (BEP 42), of so many that are remembered, if most of them agree.
const VOTES: usize = 4;
const VOTERS_MAX: usize = 32;

pub(super) struct Upkeep {
    given: Vec<SocketAddrV4>,
    /// Of nodes that are gone; they may be back.
    former: VecDeque<SocketAddrV4>,
    self_lookup_at: Instant,
    failures: u32,
    round_at: Instant,
    /// Where others see us, by who says so.
    votes: BTreeMap<Ipv4Addr, SocketAddrV4>,
}

impl Upkeep {
    pub(super) fn new(now: Instant) -> Self {
        let (given, former, votes) = Default::default();
        Self { given, former, self_lookup_at: now, failures: 0, round_at: now + ROUND, votes }
    }

    pub(super) fn few(&self) -> usize {
        FEW
    }

    pub(super) fn ways_in(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.given.iter().chain(&self.former).copied()
    }

    pub(super) fn remember(&mut self, address: SocketAddrV4) {
        if !self.ways_in().any(|known| known == address) {
            self.former.push_front(address);
            self.former.truncate(WAYS_IN_MAX);
        }
    }

    /// Where most see us, if they are enough.
    pub(super) fn seen_at(&self) -> Option<SocketAddrV4> {
        let count =
            |address: &SocketAddrV4| self.votes.values().filter(|other| *other == address).count();
        let most = self.votes.values().max_by_key(|address| count(address))?;
        (count(most) >= VOTES && count(most) * 2 > self.votes.len()).then_some(*most)
    }

    #[cfg(test)]
    pub(super) fn votes_len(&self) -> usize {
        self.votes.len()
    }

    /// Where most see our host, whatever the port.
    fn ip(&self) -> Option<Ipv4Addr> {
        let count = |ip: &Ipv4Addr| self.votes.values().filter(|other| other.ip() == ip).count();
        let most = self.votes.values().map(SocketAddrV4::ip).max_by_key(|ip| count(ip))?;
        (count(most) >= VOTES && count(most) * 2 > self.votes.len()).then_some(*most)
    }
}

impl Machine {
    /// Where the network may be joined, from now on.
    pub(in crate::mainline) fn join_at(&mut self, addresses: Vec<SocketAddrV4>, now: Instant) {
        let news = addresses != self.upkeep.given;
        self.upkeep.given = addresses;
        self.upkeep.given.truncate(WAYS_IN_MAX);
        if news {
            (self.upkeep.failures, self.upkeep.self_lookup_at) = (0, now);
        }
        self.handle_timeout(now);
    }

    /// Does what is due.
    pub(in crate::mainline) fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
        self.go_on(now);
        if self.upkeep.self_lookup_at <= now {
            self.look_around(now);
        }
        if self.upkeep.round_at <= now {
            self.upkeep.round_at = now + ROUND;
            self.round(now);
        }
    }

    /// When it wants to be called again.
    pub(in crate::mainline) fn poll_timeout(&self) -> Instant {
        let answers = self.pending.values().map(|pending| pending.sent + self.settings.answer_within);
        let searches = self.lookups.values().map(|lookup| lookup.began + LASTS_MAX);
        let first = answers.chain(searches).min().unwrap_or(self.upkeep.round_at);
        first.min(self.upkeep.round_at).min(self.upkeep.self_lookup_at)
    }

    fn look_around(&mut self, now: Instant) {
        let after = match self.is_joined() {
            true => {
                self.upkeep.failures = 0;
                match self.table.len() < self.settings.bucket {
                    true => SELF_LOOKUP_OF_FEW,
                    false => SELF_LOOKUP,
                }
            }
            false => {
                let (first, most) = JOIN_AGAIN;
                let after = first.saturating_mul(1 << self.upkeep.failures.min(16)).min(most);
                self.upkeep.failures = self.upkeep.failures.saturating_add(1);
                after
            }
        };
        self.upkeep.self_lookup_at = now + after.mul_f64(self.random.random_range(0.9..1.1));
        if self.is_joined() || self.upkeep.ways_in().next().is_some() {
            // Where all places are taken, those searches find nodes as well.
            let _ = self.look_up(self.table.own(), Want::Nodes, Then::Nothing, None, now);
        }
    }

    fn round(&mut self, now: Instant) {
        self.store.handle_timeout(now);
        let silent = self.table.silent(now).into_iter().filter(|node| !self.is_asked(node.address));
        for Node { id, address } in silent.take(ASKED_IN_ROUND).collect::<Vec<_>>() {
            self.ask(address, Some(id), Query::Ping, Purpose::Check, now);
        }
        if let Some(bits) = self.table.neglected(now) {
            let random = Id::new(self.random.random());
            let target = self.table.own().splice(bits, random);
            let _ = self.look_up(target, Want::Nodes, Then::Nothing, None, now);
        }
    }

    /// Somebody who was asked says where it sees us.
    pub(super) fn vote(&mut self, voter: Ipv4Addr, address: SocketAddrV4, now: Instant) {
        let votes = &mut self.upkeep.votes;
        if votes.len() >= VOTERS_MAX && !votes.contains_key(&voter) {
            votes.clear();
        }
        votes.insert(voter, address);
        let Some(ip) = self.upkeep.ip().filter(|ip| is_public(*ip)) else { return };
        if self.settings.public.is_none() && !self.table.own().fits(ip) {
            let own = Id::for_ip(ip, self.random.random());
            let known: Vec<Node> = self.table.nodes().collect();
            self.table = Table::new(own, self.settings.bucket, self.settings.strict, now)
                .refreshed_after(self.settings.refresh);
            for node in known {
                self.table.answered(node, now);
            }
            self.table_changed();
            self.upkeep.self_lookup_at = now;
        }
    }
}

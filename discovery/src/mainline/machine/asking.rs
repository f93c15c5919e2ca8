//! What this node asks others: queries under way, and the searches that they belong to.

use std::{net::SocketAddrV4, time::Instant};

use rand::RngExt as _;

use super::{Busy, LOOKUPS_MAX, Machine, MainlineEvent, Outcome};
use crate::mainline::{
    id::Id,
    item::Item,
    lookup::{Lookup, LookupId, Then, Want},
    message::{Answer, Body, Node, Packet, Query},
    table::Entered,
};

/// Queries under way; for one more there is no place, and it counts as not answered.
const PENDING_MAX: usize = 1024;

/// A query under way.
pub(super) struct Pending {
    to: SocketAddrV4,
    /// Under which id; none if nobody knows it.
    expects: Option<Id>,
    purpose: Purpose,
    pub(super) sent: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Lookup(LookupId),
    Store(LookupId),
    /// Whether it is there.
    Check,
}

/// What is being stored at others.
pub(super) struct Storing {
    target: Id,
    left: usize,
    stored: usize,
    /// Whether anybody waits for it.
    told: bool,
}

impl Machine {
    /// Begins a search. `via`: somebody to ask, too.
    pub(in crate::mainline) fn look_up(
        &mut self,
        target: Id,
        want: Want,
        then: Then,
        via: Option<SocketAddrV4>,
        now: Instant,
    ) -> Result<LookupId, Busy> {
        if self.lookups.len() >= LOOKUPS_MAX {
            return Err(Busy { limit: LOOKUPS_MAX });
        }
        let [width, parallel] = [self.settings.bucket, self.settings.parallel];
        let mut lookup = Lookup::new(target, want, then, [width, parallel], now);
        lookup.strict = self.settings.strict;
        self.table.closest(target, width).into_iter().for_each(|node| lookup.add(node));
        if self.table.len() < self.upkeep.few() {
            self.upkeep.ways_in().for_each(|address| lookup.add_unknown(address));
        }
        via.into_iter().for_each(|address| lookup.add_unknown(address));
        self.table.looked(target, now);
        let id = self.next_lookup;
        self.next_lookup += 1;
        self.lookups.insert(id, lookup);
        self.go_on(now);
        Ok(id)
    }

    /// Asks and ends what can go on.
    pub(super) fn go_on(&mut self, now: Instant) {
        let ids: Vec<LookupId> = self.lookups.keys().copied().collect();
        for id in ids {
            while let Some((address, expects)) = self.lookups.get_mut(&id).and_then(Lookup::next) {
                let lookup = &self.lookups[&id];
                let query = match lookup.want {
                    Want::Nodes => Query::FindNode { target: lookup.target },
                    Want::Peers => Query::GetPeers { hash: lookup.target },
                    Want::Value { .. } => Query::Get { target: lookup.target },
                };
                self.ask(address, expects, query, Purpose::Lookup(id), now);
            }
            if self.lookups.get(&id).is_some_and(|lookup| lookup.is_done(now)) {
                self.complete(id, now);
            }
        }
    }

    pub(super) fn ask(
        &mut self,
        to: SocketAddrV4,
        expects: Option<Id>,
        query: Query,
        purpose: Purpose,
        now: Instant,
    ) {
        if self.pending.len() >= PENDING_MAX {
            return self.unanswered(to, purpose, false);
        }
        // Nobody guesses it, so nobody answers for another.
        let mut transaction: [u8; 4] = self.random.random();
        while self.pending.contains_key(&transaction) {
            transaction = self.random.random();
        }
        self.pending.insert(transaction, Pending { to, expects, purpose, sent: now });
        let (from, read_only) = (self.table.own(), !self.settings.serves);
        let body = Body::Query { from, query, read_only };
        self.send(to, &Packet { transaction: transaction.to_vec(), body });
    }

    pub(super) fn is_asked(&self, address: SocketAddrV4) -> bool {
        self.pending.values().any(|pending| pending.to == address)
    }

    pub(super) fn checks(&self) -> usize {
        self.pending.values().filter(|pending| pending.purpose == Purpose::Check).count()
    }

    pub(super) fn answered(
        &mut self,
        transaction: &[u8],
        from: SocketAddrV4,
        answer: Answer,
        sees_us_at: Option<SocketAddrV4>,
        now: Instant,
    ) {
        let Some(pending) = self.take_pending(transaction, from) else { return };
        let node = Node { id: answer.id, address: from };
        if pending.expects.is_some_and(|expects| expects != node.id) || node.id == self.table.own() {
            return self.unanswered(from, pending.purpose, true);
        }
        match self.table.answered(node, now) {
            Entered::New => {
                self.event(MainlineEvent::NodeDiscovered { node });
                self.table_changed();
            }
            Entered::Known | Entered::Not => {}
        }
        if let Some(address) = sees_us_at {
            self.vote(*from.ip(), address, now);
        }
        match pending.purpose {
            Purpose::Lookup(id) => self.told(id, node, answer),
            Purpose::Store(id) => self.stored(id, true),
            Purpose::Check => {}
        }
    }

    fn told(&mut self, id: LookupId, node: Node, answer: Answer) {
        let own = self.table.own();
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        let item = match (&lookup.want, answer.item) {
            (Want::Value { salt }, Some(item)) => {
                Some(item.salted(salt)).filter(|item| item.belongs(lookup.target))
            }
            _ => None,
        };
        let seq = item.as_ref().map(Item::seq);
        item.into_iter().for_each(|item| lookup.take(item));
        lookup.take_peers(answer.peers);
        let others = answer.nodes.into_iter().filter(|node| node.id != own).collect();
        lookup.answered(node, others, answer.token, seq);
    }

    /// It says that it does not do what was asked.
    pub(super) fn refused(&mut self, transaction: &[u8], from: SocketAddrV4, _now: Instant) {
        // It is there all the same.
        if let Some(pending) = self.take_pending(transaction, from) {
            self.unanswered(from, pending.purpose, false);
        }
    }

    fn take_pending(&mut self, transaction: &[u8], from: SocketAddrV4) -> Option<Pending> {
        let transaction: [u8; 4] = transaction.try_into().ok()?;
        self.pending.get(&transaction).filter(|pending| pending.to == from)?;
        self.pending.remove(&transaction)
    }

    /// `gone`: whether that speaks against the node.
    fn unanswered(&mut self, address: SocketAddrV4, purpose: Purpose, gone: bool) {
        if gone && let Some(node) = self.table.failed(address) {
            self.upkeep.remember(node.address);
            self.table_changed();
        }
        match purpose {
            Purpose::Lookup(id) => {
                if let Some(lookup) = self.lookups.get_mut(&id) {
                    lookup.failed(address);
                }
            }
            Purpose::Store(id) => self.stored(id, false),
            Purpose::Check => {}
        }
    }

    /// Gives up what was not answered in time.
    pub(super) fn expire(&mut self, now: Instant) {
        let within = self.settings.answer_within;
        let over = |pending: &Pending| now.saturating_duration_since(pending.sent) >= within;
        let expired = self.pending.iter().filter(|(_, pending)| over(pending)).map(|(id, _)| *id);
        for transaction in expired.collect::<Vec<_>>() {
            if let Some(pending) = self.pending.remove(&transaction) {
                self.unanswered(pending.to, pending.purpose, true);
            }
        }
    }

    fn complete(&mut self, id: LookupId, now: Instant) {
        let Some(mut lookup) = self.lookups.remove(&id) else { return };
        let (target, asked, answered) = (lookup.target, lookup.asked, lookup.answered);
        let took = now.saturating_duration_since(lookup.began);
        self.event(MainlineEvent::LookupCompleted { target, asked, answered, took });
        let then = std::mem::replace(&mut lookup.then, Then::Nothing);
        match then {
            Then::Nothing => {
                let outcome = match lookup.want {
                    Want::Nodes => Outcome::Nodes(lookup.found()),
                    Want::Peers => Outcome::Peers(std::mem::take(&mut lookup.peers)),
                    Want::Value { .. } => Outcome::Value(lookup.item.clone()),
                };
                self.outcomes.push_back((id, outcome));
                self.repair(id, &lookup, now);
            }
            Then::Announce { port } => {
                let query = |token| Query::Announce { hash: target, port, token };
                self.store_at(id, target, lookup.places(None), query, true, now);
            }
            Then::Put { item, replaces } => {
                let query = |token| Query::Put { item: item.clone(), replaces, token };
                self.store_at(id, target, lookup.places(None), query, true, now);
            }
        }
    }

    /// Brings the newest value to the nearest nodes that have an older one.
    fn repair(&mut self, id: LookupId, lookup: &Lookup, now: Instant) {
        let Some(item) = &lookup.item else { return };
        let places = lookup.places(Some(item.seq()));
        if !places.is_empty() {
            let query = |token| Query::Put { item: item.clone(), replaces: None, token };
            self.store_at(id, lookup.target, places, query, false, now);
        }
    }

    fn store_at(
        &mut self,
        id: LookupId,
        target: Id,
        places: Vec<(SocketAddrV4, Vec<u8>)>,
        query: impl Fn(Vec<u8>) -> Query,
        told: bool,
        now: Instant,
    ) {
        // The one that is taken away below keeps it from ending before all are asked.
        self.storing.insert(id, Storing { target, left: places.len() + 1, stored: 0, told });
        for (address, token) in places {
            self.ask(address, None, query(token), Purpose::Store(id), now);
        }
        self.stored(id, false);
    }

    fn stored(&mut self, id: LookupId, there: bool) {
        let Some(storing) = self.storing.get_mut(&id) else { return };
        storing.left -= 1;
        storing.stored += usize::from(there);
        if storing.left == 0
            && let Some(Storing { target, stored, told, .. }) = self.storing.remove(&id)
        {
            self.event(MainlineEvent::DataStored { target, nodes: Some(stored) });
            if told {
                self.outcomes.push_back((id, Outcome::Stored(stored)));
            }
        }
    }
}

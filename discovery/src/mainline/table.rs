//! Whom this node knows: the more, the nearer to itself. Pure: `now` is an argument.
//!
//! In comes only who answered a query that was sent to it, with the id that it claims, so nobody enters at an address
//! that is not his. Who answers stays; a newcomer finds a place where there is one, or where somebody stopped
//! answering. An attacker with many ids at few addresses gets few places.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use super::{
    id::{ID_BYTES, Id, is_public},
    message::Node,
};

/// Buckets: one for each length that ids may have in common with this node's.
pub(super) const BUCKETS: usize = ID_BYTES * 8;

/// Nodes at one address: a few clients behind one NAT.
pub(super) const NODES_PER_IP: usize = 4;

/// Nodes in one public /24, whose addresses are mostly one owner's.
pub(super) const NODES_PER_SUBNET: usize = 8;

/// Who was not heard for this part of the time after which a bucket is refreshed is asked whether it is there.
const SILENT_PART: u32 = 3;

/// Queries without an answer, one after another, after which a node is gone.
const FAILURES_MAX: u8 = 2;

/// A bucket in which nobody was looked for is refreshed after this (BEP 5), unless the operator says otherwise.
pub(super) const REFRESH: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Debug)]
struct Contact {
    node: Node,
    heard: Instant,
    failures: u8,
}

#[derive(Clone, Debug)]
struct Bucket {
    contacts: Vec<Contact>,
    looked: Instant,
}

/// What became of a node that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    New,
    Known,
    /// There is no place for it.
    Not,
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    own: Id,
    size: usize,
    /// Whether ids have to fit their addresses.
    strict: bool,
    refresh: Duration,
    buckets: Vec<Bucket>,
}

impl Table {
    /// `size`: of one bucket; `strict`: ids have to fit their addresses (BEP 42).
    pub(super) fn new(own: Id, size: usize, strict: bool, now: Instant) -> Self {
        let bucket = Bucket { contacts: Vec::new(), looked: now };
        Self { own, size, strict, refresh: REFRESH, buckets: vec![bucket; BUCKETS] }
    }

    /// A bucket is refreshed after this.
    pub(super) fn refreshed_after(self, refresh: Duration) -> Self {
        Self { refresh, ..self }
    }

    pub(super) fn own(&self) -> Id {
        self.own
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.contacts.len()).sum()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> {
        self.contacts().map(|contact| contact.node)
    }

    /// Buckets that are not empty: how many bits their nodes have in common with this one, and how many nodes they are.
    pub(super) fn buckets(&self) -> Vec<(usize, usize)> {
        let counts = self.buckets.iter().map(|bucket| bucket.contacts.len()).enumerate();
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.buckets.iter().flat_map(|bucket| &bucket.contacts)
    }

    /// A node answered, under this id.
    pub(super) fn answered(&mut self, node: Node, now: Instant) -> Entered {
        let Some(at) = self.place(&node) else { return Entered::Not };
        let known = self.buckets[at].contacts.iter_mut().find(|contact| contact.node.id == node.id);
        if let Some(known) = known {
            let moved = known.node.address != node.address;
            // Nobody takes the place of a node that answers by claiming its id.
            if moved && known.failures == 0 {
                return Entered::Not;
            }
            *known = Contact { node, heard: now, failures: 0 };
            return Entered::Known;
        }
        self.forget(node.address);
        if !self.admits(node.address) || !self.makes_room(at) {
            return Entered::Not;
        }
        self.buckets[at].contacts.push(Contact { node, heard: now, failures: 0 });
        Entered::New
    }

    /// Whether it could enter if it answered.
    pub(super) fn wants(&self, node: &Node) -> bool {
        let Some(at) = self.place(node) else { return false };
        let contacts = &self.buckets[at].contacts;
        let known = contacts.iter().any(|contact| contact.node.id == node.id);
        let room = contacts.len() < self.size || contacts.iter().any(|contact| contact.failures > 0);
        !known && room && self.admits(node.address)
    }

    /// A node did not answer. Returns it if it is gone.
    pub(super) fn failed(&mut self, address: SocketAddrV4) -> Option<Node> {
        let bucket = self.buckets.iter_mut().find_map(|bucket| {
            let at = bucket.contacts.iter().position(|contact| contact.node.address == address)?;
            Some((bucket, at))
        });
        let (bucket, at) = bucket?;
        bucket.contacts[at].failures += 1;
        (bucket.contacts[at].failures >= FAILURES_MAX).then(|| bucket.contacts.remove(at).node)
    }

    /// The nearest to a place, best first.
    pub(super) fn closest(&self, target: Id, count: usize) -> Vec<Node> {
        let mut nodes: Vec<Node> = self
            .contacts()
            .filter(|contact| contact.failures == 0)
            .map(|contact| contact.node)
            .collect();
        nodes.sort_by_key(|node| node.id.distance(&target));
        nodes.truncate(count);
        nodes
    }

    /// Who was not heard for long.
    pub(super) fn silent(&self, now: Instant) -> Vec<Node> {
        let silent = |contact: &&Contact| {
            now.saturating_duration_since(contact.heard) >= self.refresh / SILENT_PART
        };
        self.contacts().filter(silent).map(|contact| contact.node).collect()
    }

    /// Somebody was looked for there.
    pub(super) fn looked(&mut self, target: Id, now: Instant) {
        if let Some(at) = self.own.distance(&target).bucket() {
            self.buckets[at].looked = now;
        }
    }

    /// A bucket with nodes where nobody was looked for in long.
    pub(super) fn neglected(&self, now: Instant) -> Option<usize> {
        let neglected = |bucket: &Bucket| {
            !bucket.contacts.is_empty() && now.saturating_duration_since(bucket.looked) >= self.refresh
        };
        self.buckets.iter().position(neglected)
    }

    fn place(&self, node: &Node) -> Option<usize> {
        let fits = !self.strict || node.id.fits(*node.address.ip());
        self.own.distance(&node.id).bucket().filter(|_| fits)
    }

    /// Who was at an address under another id.
    fn forget(&mut self, address: SocketAddrV4) {
        for bucket in &mut self.buckets {
            bucket.contacts.retain(|contact| contact.node.address != address);
        }
    }

    fn admits(&self, address: SocketAddrV4) -> bool {
        let count = |like: &dyn Fn(Ipv4Addr) -> bool| {
            self.contacts().filter(|known| like(*known.node.address.ip())).count()
        };
        let ip = *address.ip();
        let subnet = |ip: Ipv4Addr| u32::from(ip) >> 8;
        count(&|other| other == ip) < NODES_PER_IP
            && (!is_public(ip) || count(&|other| subnet(other) == subnet(ip)) < NODES_PER_SUBNET)
    }

    /// A place in a bucket: a free one, or that of who failed last.
    fn makes_room(&mut self, at: usize) -> bool {
        let contacts = &mut self.buckets[at].contacts;
        if contacts.len() < self.size {
            return true;
        }
        let failed = contacts.iter().position(|contact| contact.failures > 0);
        failed.map(|failed| contacts.remove(failed)).is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OWN: Id = Id::new([0; 20]);

    fn table() -> (Table, Instant) {
        let now = Instant::now();
        (Table::new(OWN, 8, true, now), now)
    }

    /// Of the bucket that is farthest away.
    fn node(number: u8, ip: &str) -> Node {
        let mut id = [number; 20];
        id[0] = 0x80;
        Node { id: Id::new(id), address: SocketAddrV4::new(ip.parse().unwrap(), 6881) }
    }

    fn at(number: u8) -> Node {
        node(number, &format!("10.0.0.{number}"))
    }

    #[test]
    fn nobody_displaces_who_answers_and_who_does_not_makes_room() {
        let (mut table, now) = table();
        assert!((1..=8).all(|number| table.answered(at(number), now) == Entered::New));
        assert_eq!(table.answered(at(1), now), Entered::Known);
        assert!(!table.wants(&at(9)));
        assert_eq!(table.answered(at(9), now), Entered::Not);
        assert_eq!(table.failed(at(3).address), None);
        assert!(table.wants(&at(9)));
        assert_eq!(table.answered(at(9), now), Entered::New);
        assert_eq!((table.len(), table.buckets()), (8, vec![(0, 8)]));
        assert!(table.nodes().all(|node| node != at(3)));
    }

    #[test]
    fn who_fails_twice_is_gone_and_who_answers_between_is_not() {
        let (mut table, now) = table();
        table.answered(at(1), now);
        assert_eq!(table.failed(at(1).address), None);
        assert_eq!(table.closest(OWN, 8), [], "it is not told to others meanwhile");
        table.answered(at(1), now);
        assert_eq!(table.failed(at(1).address), None);
        assert_eq!(table.failed(at(1).address), Some(at(1)));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn an_id_belongs_to_who_answers_with_it_first() {
        let (mut table, now) = table();
        table.answered(at(1), now);
        let thief = node(1, "10.0.0.2");
        assert_eq!(table.answered(thief, now), Entered::Not);
        table.failed(at(1).address);
        assert_eq!(table.answered(thief, now), Entered::Known, "it moved");
        let renamed = node(5, "10.0.0.2");
        assert_eq!(table.answered(renamed, now), Entered::New);
        assert_eq!(table.nodes().collect::<Vec<_>>(), [renamed], "one node has one id");
        assert_eq!(table.answered(Node { id: OWN, ..at(7) }, now), Entered::Not, "that is us");
    }

    #[test]
    fn many_ids_at_one_address_or_in_one_subnet_get_few_places() {
        let (_, now) = table();
        let mut table = Table::new(OWN, 20, true, now);
        let with_port = |number: u8| {
            let node = node(number, "10.0.0.1");
            Node { address: SocketAddrV4::new(*node.address.ip(), u16::from(number)), ..node }
        };
        let entered =
            (1..=20).filter(|number| table.answered(with_port(*number), now) == Entered::New).count();
        assert_eq!(entered, NODES_PER_IP);
        let public = |last: u8| {
            let ip = Ipv4Addr::new(203, 0, 113, last);
            Node { id: Id::for_ip(ip, [last; 20]), address: SocketAddrV4::new(ip, 6881) }
        };
        let entered = (1..=50).filter(|last| table.answered(public(*last), now) == Entered::New).count();
        assert_eq!(entered, NODES_PER_SUBNET);
    }

    #[test]
    fn an_id_that_does_not_fit_its_public_address_does_not_enter() {
        let (mut table, now) = table();
        let ip = Ipv4Addr::new(203, 0, 113, 7);
        let chosen = Node { id: Id::new([9; 20]), address: SocketAddrV4::new(ip, 6881) };
        assert!(!table.wants(&chosen));
        assert_eq!(table.answered(chosen, now), Entered::Not);
        let mut lenient = Table::new(OWN, 8, false, now);
        assert_eq!(lenient.answered(chosen, now), Entered::New, "but in a private network");
        let fits = Node { id: Id::for_ip(ip, [9; 20]), ..chosen };
        assert_eq!(table.answered(fits, now), Entered::New);
    }

    #[test]
    fn who_is_silent_is_asked_and_where_nobody_looked_is_refreshed() {
        let (mut table, now) = table();
        table.answered(at(1), now);
        assert_eq!((table.silent(now), table.neglected(now)), (vec![], None));
        assert_eq!(table.silent(now + REFRESH / SILENT_PART), [at(1)]);
        assert_eq!(table.neglected(now + REFRESH), Some(0));
        table.looked(at(2).id, now + REFRESH);
        assert_eq!(table.neglected(now + REFRESH), None);
    }
}

//! A small world: nodes at addresses of their own, packets that take their time, and a clock that nobody waits for.
#![allow(clippy::unwrap_used)]

use std::collections::BinaryHeap;

use libp2p::identity::Keypair;

use super::*;
use crate::mainline::{
    lookup::{Then, Want},
    message::{Answer, Query},
};

mod joining;
mod lying;
mod storing;

const S: Duration = Duration::from_secs(1);

/// How long a packet takes.
const DELAY: Duration = Duration::from_millis(10);

/// When it arrives, its number, from where, where to.
type OnTheWay = (Instant, usize, SocketAddrV4, SocketAddrV4, Vec<u8>);

struct World {
    now: Instant,
    nodes: BTreeMap<SocketAddrV4, Machine>,
    /// By time, the earliest first; then by number, as they were sent.
    packets: BinaryHeap<std::cmp::Reverse<OnTheWay>>,
    sent: usize,
    outcomes: BTreeMap<(SocketAddrV4, LookupId), Outcome>,
    events: Vec<(SocketAddrV4, MainlineEvent)>,
    /// Who neither hears nor is heard.
    cut_off: Vec<SocketAddrV4>,
}

fn at(number: usize) -> SocketAddrV4 {
    let [.., high, low] = (number + 1).to_be_bytes();
    SocketAddrV4::new([10, 0, high, low].into(), 6881)
}

impl World {
    fn new() -> Self {
        let (nodes, packets, outcomes, events, cut_off) = Default::default();
        Self { now: Instant::now(), nodes, packets, sent: 0, outcomes, events, cut_off }
    }

    /// So many nodes; all but the first join through it.
    fn with(count: usize) -> Self {
        let mut world = Self::new();
        (0..count)
            .for_each(|number| world.add(at(number), Settings::default(), &[at(0)][..number.min(1)]));
        world.run(60 * S);
        world
    }

    fn add(&mut self, address: SocketAddrV4, settings: Settings, join_at: &[SocketAddrV4]) {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&address.ip().octets());
        let mut machine = Machine::new(settings, seed, self.now);
        machine.join_at(join_at.to_vec(), self.now);
        self.nodes.insert(address, machine);
        self.drain(address);
    }

    fn node(&mut self, address: SocketAddrV4) -> &mut Machine {
        self.nodes.get_mut(&address).unwrap()
    }

    /// Whatever a node has to say.
    fn drain(&mut self, address: SocketAddrV4) {
        let at = self.now + DELAY;
        let machine = self.nodes.get_mut(&address).unwrap();
        while let Some((to, packet)) = machine.poll_send() {
            self.sent += 1;
            self.packets.push(std::cmp::Reverse((at, self.sent, address, to, packet)));
        }
        while let Some(event) = machine.poll_event() {
            self.events.push((address, event));
        }
        while let Some((id, outcome)) = machine.poll_outcome() {
            self.outcomes.insert((address, id), outcome);
        }
    }

    fn deliver(&mut self, from: SocketAddrV4, to: SocketAddrV4, packet: &[u8]) {
        let now = self.now;
        let cut_off = self.cut_off.contains(&from) || self.cut_off.contains(&to);
        if let Some(machine) = self.nodes.get_mut(&to).filter(|_| !cut_off) {
            machine.received(packet, from, now);
            self.drain(to);
        }
    }

    /// Lets so much time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let packet = self.packets.peek().map(|std::cmp::Reverse((at, ..))| *at);
            let due =
                self.nodes.iter().map(|(address, machine)| (machine.poll_timeout(), *address)).min();
            let (due, whose) = due.unwrap();
            let next = packet.map_or(due, |packet| packet.min(due));
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if packet.is_some_and(|packet| packet <= due) {
                let std::cmp::Reverse((_, _, from, to, packet)) = self.packets.pop().unwrap();
                self.deliver(from, to, &packet);
            } else {
                let now = self.now;
                self.node(whose).handle_timeout(now);
                self.drain(whose);
            }
        }
    }

    /// Searches, and lets time pass until it ended.
    fn look_up(&mut self, who: SocketAddrV4, target: Id, want: Want, then: Then) -> Outcome {
        let now = self.now;
        let id = self.node(who).look_up(target, want, then, None, now).unwrap();
        self.drain(who);
        for _ in 0..100 {
            if let Some(outcome) = self.outcomes.remove(&(who, id)) {
                return outcome;
            }
            self.run(S / 4);
        }
        panic!("the search did not end");
    }

    fn put(&mut self, who: SocketAddrV4, item: Item) -> usize {
        let (target, salt) =
            (item.target(), item.mutable().map(|mutable| mutable.salt.clone()).unwrap_or_default());
        match self.look_up(who, target, Want::Value { salt }, Then::Put { item, replaces: None }) {
            Outcome::Stored(nodes) => nodes,
            other => panic!("{other:?}"),
        }
    }

    fn get(&mut self, who: SocketAddrV4, target: Id) -> Option<Item> {
        match self.look_up(who, target, Want::Value { salt: Vec::new() }, Then::Nothing) {
            Outcome::Value(item) => item,
            other => panic!("{other:?}"),
        }
    }

    /// Somebody who is no node sends a packet.
    fn inject(&mut self, from: SocketAddrV4, to: SocketAddrV4, body: Body) {
        let packet = Packet { transaction: b"aa".to_vec(), body }.write(to);
        self.deliver(from, to, &packet);
    }

    /// What is on its way to an address.
    fn on_the_way_to(&self, to: SocketAddrV4) -> Vec<Packet> {
        let there = self.packets.iter().filter(|std::cmp::Reverse((_, _, _, at, _))| *at == to);
        there.map(|std::cmp::Reverse((.., packet))| Packet::read(packet).unwrap().unwrap()).collect()
    }
}

fn query(from: Id, query: Query) -> Body {
    Body::Query { from, query, read_only: false }
}

fn id(number: u8) -> Id {
    Id::new([number; 20])
}

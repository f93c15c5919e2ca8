//! Where the node listens, as that changes: the system gives addresses and takes them away.
//!
//! A TCP port that the system chose is given up for another one when connections lost the address that they left from.
//! Routers do not hear of such a loss. One that leaves ports alone keeps our port for the old address, towards every peer
//! that was connected from there, for hours; behind it nobody could tell by which port we come to those peers from
//! another address. What leaves from a port that was never used is seen by peers as relays see it.
//!
//! The engine hears of the lost address when nothing leaves from the old port any more: it dials relays at once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, Swarm, core::transport::ListenerId, swarm::SwarmEvent};

use super::driver::Driver;
use crate::{
    addr::{ip_of, is_circuit},
    engine::input::Input,
    error::Family,
    net::behaviour::{Node, NodeEvent},
};

/// For the new listener to report an address, and the old one to be closed. It takes a millisecond or two.
const MOVE_DEADLINE: Duration = Duration::from_millis(500);

/// The listeners that may take another port.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// On any TCP port of every interface, as they were asked for.
    any_port: HashMap<ListenerId, Multiaddr>,
    moving: Option<Moving>,
}

/// A listener on its way to another port.
#[derive(Debug)]
struct Moving {
    from: ListenerId,
    to: ListenerId,
    until: Instant,
    /// What the host lost meanwhile, not yet told to the engine.
    lost: Vec<Multiaddr>,
}

impl Listeners {
    pub(super) fn new(any_port: HashMap<ListenerId, Multiaddr>) -> Self {
        Self { any_port, moving: None }
    }

    /// When a move that has not come about is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.moving.as_ref()?.until)
    }

    /// Gives up a move that has not come about.
    pub(super) fn timeout(&mut self, swarm: &mut Swarm<Node>, now: Instant) {
        if let Some(moving) = self.moving.as_mut().filter(|moving| moving.until <= now) {
            moving.until = now + MOVE_DEADLINE;
            swarm.remove_listener(moving.to);
        }
    }

    /// Whether the loss is to be told later, since a listener takes another port first. `used` says that connections
    /// left from what was lost.
    fn moves(&mut self, swarm: &mut Swarm<Node>, lost: &Multiaddr, used: bool) -> bool {
        if let Some(moving) = &mut self.moving {
            moving.lost.push(lost.clone());
            return true;
        }
        let family = |address: &Multiaddr| ip_of(address).map(Family::of);
        let alike = |(_, asked): &(_, &Multiaddr)| family(asked) == family(lost);
        let Some((&from, asked)) = self.any_port.iter().find(alike).filter(|_| used) else {
            return false;
        };
        let asked = asked.clone();
        let Ok(to) = swarm.listen_on(asked.clone()) else { return false };
        self.any_port.insert(to, asked);
        let until = Instant::now() + MOVE_DEADLINE;
        self.moving = Some(Moving { from, to, until, lost: vec![lost.clone()] });
        true
    }

    fn reported(&mut self, swarm: &mut Swarm<Node>, listener: ListenerId) {
        if let Some(moving) = self.moving.as_ref().filter(|moving| moving.to == listener) {
            swarm.remove_listener(moving.from);
        }
    }

    /// What the host lost while the listener moved, if that is over.
    fn closed(&mut self, listener: ListenerId) -> Vec<Multiaddr> {
        self.any_port.remove(&listener);
        let over = self.moving.take_if(|moving| [moving.from, moving.to].contains(&listener));
        over.map(|moving| moving.lost).unwrap_or_default()
    }
}

impl Driver {
    pub(super) fn listener_event(&mut self, event: &SwarmEvent<NodeEvent>) {
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } if !is_circuit(address) => {
                self.listeners.reported(&mut self.swarm, *listener_id);
                self.legs.tell(Input::Listening { address: address.clone() });
            }
            SwarmEvent::ExpiredListenAddr { address, .. } if !is_circuit(address) => {
                let used = self.sources.values().any(|source| Some(*source) == ip_of(address));
                if !self.listeners.moves(&mut self.swarm, address, used) {
                    self.lost(address.clone());
                }
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, .. } => {
                for address in addresses.iter().filter(|address| !is_circuit(address)).cloned() {
                    self.legs.tell(Input::ListeningEnded { address });
                }
                for lost in self.listeners.closed(*listener_id) {
                    self.lost(lost);
                }
            }
            _ => {}
        }
    }

    /// This host has lost an address.
    fn lost(&mut self, address: Multiaddr) {
        let lost = self.sources.extract_if(|_, source| Some(*source) == ip_of(&address));
        for (connection, _) in lost {
            self.legs.tell(Input::AddressGone { connection });
        }
        self.legs.tell(Input::ListeningEnded { address });
    }
}

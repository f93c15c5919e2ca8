//! Dials: what the engine wants dialled, as the swarm takes it.

use std::time::Instant;

use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        self,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use super::Driver;
use crate::{
    addr::RelayAddr,
    engine::input::{DialId, Input, Role},
    net::{
        behaviour::NodeEvent,
        translate::{Dialling, dial_failed, is_port_in_use, tried},
    },
    node::vigil::to_internet,
    path::ConnectionId,
};

impl Driver {
    /// Where another socket has the port to dial from, any port is better than none. True if the dial is made once more.
    pub(super) fn redial_from_any_port(&mut self, event: &swarm::SwarmEvent<NodeEvent>) -> bool {
        let swarm::SwarmEvent::OutgoingConnectionError { connection_id, error, .. } = event else {
            return false;
        };
        if !is_port_in_use(error) {
            return false;
        }
        // A punch leaves from the port that the peer was told, or is none.
        let again = |dialling: &Dialling| !dialling.punch;
        if !self.dialled.get(connection_id).is_some_and(again) {
            return false;
        }
        let Some(Dialling { dial, peer, addresses, .. }) = self.dialled.remove(connection_id) else {
            return false;
        };
        let opts = DialOpts::peer_id(peer).addresses(addresses).allocate_new_port();
        let dialling = begun(dial, peer, Vec::new(), false);
        self.dial_with(dialling, opts.condition(PeerCondition::Always).build());
        true
    }

    pub(super) fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Multiaddr>) {
        let opts = DialOpts::peer_id(peer).addresses(addresses.clone());
        let opts = opts.condition(PeerCondition::Always);
        let racing = self.engine.is_relay(peer).then_some(addresses.len());
        let opts = self.swarm.behaviour_mut().door.dial(opts, racing);
        self.dial_with(begun(dial, peer, addresses, false), opts);
    }

    pub(super) fn punch(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Multiaddr>, role: Role) {
        let opts = DialOpts::peer_id(peer).addresses(addresses.clone());
        let opts = opts.condition(PeerCondition::Always);
        let opts = match role {
            Role::Dialer => opts,
            Role::Listener => opts.override_role(),
            Role::Caller => opts.allocate_new_port(),
        };
        let opts = opts.build();
        self.swarm.behaviour_mut().door.punching(opts.connection_id());
        self.dial_with(begun(dial, peer, addresses, true), opts);
    }

    fn dial_with(&mut self, dialling: Dialling, opts: DialOpts) {
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.dialled.insert(connection, dialling);
            }
            Err(error) => {
                let Dialling { dial, punch, began, .. } = dialling;
                let failed = match punch {
                    true => Input::PunchFailed { dial, tried: tried(&error) },
                    false => dial_failed(dial, &error, began.elapsed()),
                };
                self.legs.tell(failed);
            }
        }
    }

    pub(super) fn dial_circuit(
        &mut self,
        dial: DialId,
        peer: PeerId,
        relay: &RelayAddr,
        link: ConnectionId,
    ) {
        let address = relay.circuit_to(peer);
        let opts = DialOpts::peer_id(peer).addresses(vec![address.clone()]);
        let opts = opts.condition(PeerCondition::Always).build();
        let circuit = opts.connection_id();
        self.swarm.behaviour_mut().circuit.next_dial(address.clone(), circuit, link);
        self.dial_with(begun(dial, peer, vec![address], false), opts);
    }
}

/// A dial that begins now, in the network that this host is in now.
fn begun(dial: DialId, peer: PeerId, addresses: Vec<Multiaddr>, punch: bool) -> Dialling {
    Dialling { dial, peer, addresses, punch, network: to_internet(), began: Instant::now() }
}

//! What the swarm says, and what follows from it.

use std::time::Instant;

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    identify,
    kad::{self, RoutingUpdate},
    ping,
    swarm::{
        DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};

use super::{Mode, actor::Actor, behaviour::DhtEvent, status::Event, transport::without_peer};
use crate::admission::{ADDRESSES_MAX, Action, Input};

impl Actor {
    pub(super) fn hear(&mut self, event: SwarmEvent<DhtEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                self.report(Event::Listening { address });
                self.decide_mode();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.swarm.remove_external_address(&address);
                self.decide_mode();
            }
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                self.connected(peer_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.targets.closed(peer_id, Instant::now());
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                self.dial_failed(peer_id, &error);
            }
            SwarmEvent::Behaviour(DhtEvent::Identify(event)) => self.identified(event),
            SwarmEvent::Behaviour(DhtEvent::Ping(event)) => self.pinged(&event),
            SwarmEvent::Behaviour(DhtEvent::Kad(event)) => self.kademlia(event),
            _ => {}
        }
        self.admit();
    }

    /// A node answers others if its operator says so, or if it is where strangers reach it without a relay.
    pub(super) fn decide_mode(&mut self) {
        let public: Vec<Multiaddr> = self
            .swarm
            .listeners()
            .filter(|address| self.policy.dials.admits(address, self.local))
            .cloned()
            .collect();
        for address in public {
            self.swarm.add_external_address(address);
        }
        let reached = self.swarm.external_addresses().next().is_some();
        let serves = match self.mode {
            Mode::Client => false,
            Mode::Server => true,
            Mode::Auto => reached,
        };
        let mode = if serves { kad::Mode::Server } else { kad::Mode::Client };
        let kad = &mut self.swarm.behaviour_mut().kad;
        if kad.mode() != mode {
            kad.set_mode(Some(mode));
            tracing::debug!(%mode, "this node's part in the DHT");
        }
    }

    fn connected(&mut self, peer: PeerId, endpoint: &ConnectedPoint) {
        let now = Instant::now();
        if let ConnectedPoint::Dialer { address, .. } = endpoint {
            self.targets.proved(address, peer);
            if !self.scores.is_shunned(&peer, now) {
                self.admission.handle(Input::Reached { peer, address: address.clone() }, now);
            }
        }
        self.targets.answered(peer, None, now);
    }

    fn dial_failed(&mut self, peer: Option<PeerId>, error: &DialError) {
        if let DialError::DialPeerConditionFalse(_) = error {
            return;
        }
        self.counts.missed();
        let address = match error {
            DialError::Transport(failed) => failed.first().map(|(address, _)| address),
            DialError::WrongPeerId { address, .. } => Some(address),
            _ => None,
        };
        let now = Instant::now();
        self.targets.missed(peer, address, rand::random(), now);
        if let Some(peer) = peer {
            self.admission.handle(Input::Unreached { peer }, now);
        }
    }

    fn pinged(&mut self, event: &ping::Event) {
        let now = Instant::now();
        match &event.result {
            Ok(round_trip) => {
                self.counts.answered(*round_trip);
                self.targets.answered(event.peer, Some(*round_trip), now);
            }
            Err(_) => {
                self.targets.missed(Some(event.peer), None, rand::random(), now);
                self.swarm.close_connection(event.connection);
            }
        }
    }

    /// Whoever serves says so, and where. It is dialled there before it is in the table.
    fn identified(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id: peer, info, .. } = event else { return };
        let now = Instant::now();
        if self.scores.is_shunned(&peer, now) {
            return;
        }
        let serves = info.protocols.contains(&self.protocol);
        let input = Input::Identified { peer, serves, addresses: info.listen_addrs };
        self.admission.handle(input, now);
    }

    /// Does what admission decided.
    pub(super) fn admit(&mut self) {
        while let Some(action) = self.admission.poll_action() {
            match action {
                Action::Dial { peer, addresses } => {
                    let dial = DialOpts::peer_id(peer).addresses(addresses);
                    if self.swarm.dial(dial.condition(PeerCondition::Always).build()).is_err() {
                        self.admission.handle(Input::Unreached { peer }, Instant::now());
                    }
                }
                Action::Admit { peer, address } => self.enter(peer, &address),
                Action::Remove { peer } => {
                    self.swarm.behaviour_mut().kad.remove_peer(&peer);
                    self.table_changed();
                }
            }
        }
    }

    fn enter(&mut self, peer: PeerId, address: &Multiaddr) {
        let entered = self.swarm.behaviour_mut().kad.add_address(&peer, address.clone());
        match entered {
            RoutingUpdate::Failed => self.admission.handle(Input::Left { peer }, Instant::now()),
            RoutingUpdate::Success | RoutingUpdate::Pending => self.memory.reached(peer, address),
        }
    }

    fn kademlia(&mut self, event: kad::Event) {
        match event {
            kad::Event::RoutingUpdated { peer, is_new_peer, addresses, old_peer, .. } => {
                if let Some(peer) = old_peer {
                    self.admission.handle(Input::Left { peer }, Instant::now());
                }
                let surplus: Vec<Multiaddr> = addresses.iter().skip(ADDRESSES_MAX).cloned().collect();
                for address in surplus {
                    self.swarm.behaviour_mut().kad.remove_address(&peer, &address);
                }
                if is_new_peer {
                    let address = without_peer(addresses.first());
                    self.report(Event::NodeDiscovered { peer, address });
                }
                self.table_changed();
            }
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => {
                self.progressed(id, result, &stats, step.last);
            }
            kad::Event::InboundRequest { .. } => self.counts.was_asked(Instant::now()),
            _ => {}
        }
    }

    fn table_changed(&mut self) {
        let table = self.swarm.behaviour_mut().kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        if table != self.table {
            self.table = table;
            self.loops.knows(table, Instant::now());
            self.report(Event::RoutingTableUpdated { table });
        }
    }

    pub(super) fn bootstrap_ended(&mut self, answered: bool, now: Instant) {
        let before = self.loops.joined();
        self.loops.bootstrap_ended(answered, now);
        if !before && answered {
            let (table, took) = (self.table, now - self.begun);
            self.report(Event::Joined { table, took });
        }
    }
}

//! What the swarm says, and what follows from it.

use std::time::Instant;

use libp2p::{
    Multiaddr, PeerId, identify,
    core::ConnectedPoint,
    kad::{self, RoutingUpdate},
    ping,
    swarm::{ConnectionId, DialError, SwarmEvent, dial_opts::{DialOpts, PeerCondition}},
};

use super::{
    Mode,
    actor::Actor,
    admission::ADDRESSES_MAX,
    behaviour::DhtEvent,
    status::Event,
    transport::without_peer,
};

/// Addresses of one peer in the table: more would fill the answers that it is in.
const TABLE_ADDRESSES_MAX: usize = 4;

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
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.targets.closed(peer_id, Instant::now());
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::Behaviour(DhtEvent::Identify(event)) => self.identified(event),
            SwarmEvent::Behaviour(DhtEvent::Ping(event)) => self.pinged(&event),
            SwarmEvent::Behaviour(DhtEvent::Kad(event)) => self.kademlia(event),
            _ => {}
        }
        self.dial_back();
    }

    /// A node answers others if its operator says so, or if it is where strangers reach it without a relay.
    pub(super) fn decide_mode(&mut self) {
        let public: Vec<Multiaddr> =
            self.swarm.listeners().filter(|address| (self.judge)(address)).cloned().collect();
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
            tracing::info!(%mode, "this node's part in the DHT");
        }
    }

    fn connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        self.dial_backs.ended(connection);
        if let ConnectedPoint::Dialer { address, .. } = endpoint {
            self.targets.proved(address, peer);
        }
        self.targets.answered(peer, None, Instant::now());
    }

    fn dial_failed(&mut self, connection: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        self.dial_backs.ended(connection);
        if let DialError::DialPeerConditionFalse(_) = error {
            return;
        }
        let address = match error {
            DialError::Transport(failed) => failed.first().map(|(address, _)| address),
            DialError::WrongPeerId { address, .. } => Some(address),
            _ => None,
        };
        self.targets.missed(peer, address, rand::random(), Instant::now());
    }

    fn pinged(&mut self, event: &ping::Event) {
        let now = Instant::now();
        match &event.result {
            Ok(round_trip) => self.targets.answered(event.peer, Some(*round_trip), now),
            Err(_) => {
                self.targets.missed(Some(event.peer), None, rand::random(), now);
                self.swarm.close_connection(event.connection);
            }
        }
    }

    /// Whoever serves says so and where. It is dialled there before it is in the table; if we dialled it, it was.
    fn identified(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else { return };
        if !info.protocols.contains(&self.protocol) || self.is_in_table(peer_id) {
            return;
        }
        let addresses = info.listen_addrs.iter().map(without_peer).filter(|address| (self.judge)(address));
        let addresses: Vec<Multiaddr> = addresses.take(ADDRESSES_MAX).collect();
        self.dial_backs.want(peer_id, addresses);
    }

    fn dial_back(&mut self) {
        while let Some((peer, addresses)) = self.dial_backs.next() {
            if self.is_in_table(peer) {
                continue;
            }
            let dial = DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::Always).build();
            let connection = dial.connection_id();
            if self.swarm.dial(dial).is_ok() {
                self.dial_backs.began(connection, peer);
            }
        }
    }

    fn is_in_table(&mut self, peer: PeerId) -> bool {
        let bucket = self.swarm.behaviour_mut().kad.kbucket(peer);
        bucket.is_some_and(|bucket| bucket.iter().any(|entry| *entry.node.key.preimage() == peer))
    }

    fn kademlia(&mut self, event: kad::Event) {
        match event {
            // We dialled it there, its handshake proved it, and it speaks our protocol.
            kad::Event::RoutablePeer { peer, address } => self.admit(peer, &address),
            kad::Event::RoutingUpdated { peer, is_new_peer, addresses, .. } => {
                let surplus: Vec<Multiaddr> = addresses.iter().skip(TABLE_ADDRESSES_MAX).cloned().collect();
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
            _ => {}
        }
    }

    fn admit(&mut self, peer: PeerId, address: &Multiaddr) {
        let admitted = self.swarm.behaviour_mut().kad.add_address(&peer, without_peer(address));
        if admitted != RoutingUpdate::Failed {
            self.memory.reached(peer, &without_peer(address));
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
            tracing::info!(table, "this node has joined the DHT");
            self.report(Event::Joined { table, took });
        }
    }
}

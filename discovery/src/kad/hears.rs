//! What the swarm says, and what follows from it.

use std::time::{Duration, Instant};

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

use super::{
    Mode,
    actor::Actor,
    asker::{Answered, Named},
    behaviour::DhtEvent,
    status::Event,
};
use crate::{
    admission::{ADDRESSES_MAX, Action, Input},
    score::Deed,
    transport::without_peer,
};

/// Who was named by a bootstrap node and dialled is not dialled again before.
const NAMED_APART: Duration = Duration::from_secs(600);

/// Peers that were, which are remembered.
const NAMED_MAX: usize = 1024;

impl Actor {
    pub(super) fn hear(&mut self, event: SwarmEvent<DhtEvent>) {
        #[cfg(feature = "rendezvous")]
        self.note_place(&event);
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                self.report(Event::Listening { address });
                self.decide_mode();
            }
            SwarmEvent::ExpiredListenAddr { .. } => self.decide_mode(),
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
            SwarmEvent::Behaviour(DhtEvent::Asker(answered)) => self.answered(answered),
            SwarmEvent::Behaviour(DhtEvent::Guard(event)) => self.kademlia(event),
            #[cfg(feature = "rendezvous")]
            SwarmEvent::Behaviour(DhtEvent::Meetings(event)) => {
                let behaviour = self.swarm.behaviour_mut().meetings.as_mut();
                if let (Some(server), Some(meetings)) = (&mut self.meetings, behaviour) {
                    server.hear(event, meetings, Instant::now());
                }
            }
            _ => {}
        }
        while let Some(peer) = self.swarm.behaviour_mut().guard.next_shunned() {
            self.admission.handle(Input::Shunned { peer }, Instant::now());
        }
        self.admit();
    }

    /// From where whoever registers at this meeting point came.
    #[cfg(feature = "rendezvous")]
    fn note_place(&mut self, event: &SwarmEvent<DhtEvent>) {
        let Some(server) = &mut self.meetings else { return };
        match event {
            SwarmEvent::ConnectionEstablished { connection_id, endpoint, .. } => {
                server.connected(*connection_id, endpoint.get_remote_address());
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => server.closed(*connection_id),
            _ => {}
        }
    }

    /// A node answers others if its operator says so, or if it is where strangers reach it without a relay.
    pub(super) fn decide_mode(&mut self) {
        let now = Instant::now();
        self.serving.listens(self.swarm.listeners().cloned().collect(), now);
        let admits = |address: &Multiaddr| self.policy.dials.admits(address, self.local);
        let mut reached = self.serving.addresses(admits);
        reached.extend(self.external.iter().cloned());
        let old: Vec<Multiaddr> =
            self.swarm.external_addresses().filter(|old| !reached.contains(old)).cloned().collect();
        old.iter().for_each(|old| self.swarm.remove_external_address(old));
        let serves = match self.mode {
            Mode::Client => false,
            Mode::Server => true,
            Mode::Auto => !reached.is_empty(),
        };
        for address in reached {
            self.swarm.add_external_address(address);
        }
        let mode = if serves { kad::Mode::Server } else { kad::Mode::Client };
        let kad = &mut self.swarm.behaviour_mut().guard.kad;
        if kad.mode() != mode {
            kad.set_mode(Some(mode));
            tracing::debug!(%mode, "this node's part in the DHT");
        }
    }

    fn connected(&mut self, peer: PeerId, endpoint: &ConnectedPoint) {
        let now = Instant::now();
        if let ConnectedPoint::Dialer { address, .. } = endpoint {
            self.targets.proved(address, peer);
            if !self.swarm.behaviour().guard.scores.is_shunned(&peer, now) {
                self.admission.handle(Input::Reached { peer, address: address.clone() }, now);
            }
        }
        if let ConnectedPoint::Listener { send_back_addr, .. } = endpoint
            && self.policy.dials.admits(send_back_addr, peer)
        {
            self.serving.came(now);
        }
        if self.targets.has(peer) {
            self.swarm.behaviour_mut().asker.ask(peer);
        }
    }

    /// A bootstrap node answered, or not in time. Whom it names near to us is dialled, and may enter the table then.
    fn answered(&mut self, Answered { peer, named }: Answered) {
        let now = Instant::now();
        match named {
            Some(named) => {
                self.targets.answered(peer, now);
                self.dial_named(named, now);
            }
            None => self.targets.missed(Some(peer), None, rand::random(), now),
        }
    }

    fn dial_named(&mut self, named: Named, now: Instant) {
        self.named.retain(|_, again| *again > now);
        let (all, mut strangers) = (named.len(), 0);
        for (peer, mut addresses) in named {
            let known = peer == self.local || self.admission.is_admitted(&peer);
            if known || self.named.contains_key(&peer) || self.named.len() >= NAMED_MAX {
                continue;
            }
            let guard = &self.swarm.behaviour().guard;
            addresses.retain(|address| !guard.bans.is_banned(peer, address, now));
            if addresses.is_empty() || guard.scores.is_shunned(&peer, now) {
                continue;
            }
            self.named.insert(peer, now + NAMED_APART);
            let condition = PeerCondition::DisconnectedAndNotDialing;
            let dial = DialOpts::peer_id(peer).addresses(addresses).condition(condition);
            strangers += usize::from(self.swarm.dial(dial.build()).is_ok());
        }
        self.loops.met_strangers(strangers, all, now);
    }

    /// Tells how bootstrap nodes do, if that is otherwise than before.
    pub(super) fn healths(&mut self) {
        let now = Instant::now();
        while let Some(target) = self.targets.poll_changed() {
            let event = Event::BootstrapChanged {
                address: target.address.clone(),
                peer: target.peer,
                health: target.health,
                silent: target.last_answer.map(|at| now.saturating_duration_since(at)),
            };
            self.report(event);
        }
    }

    /// Closes connections with, and forgets, whom the policy does not let through any more.
    pub(super) fn leave_the_barred(&mut self) {
        let (dials, local) = (self.policy.dials.clone(), self.local);
        let given: Vec<Multiaddr> =
            self.targets.all().iter().map(|target| without_peer(&target.address)).collect();
        let lets = |address: &Multiaddr| {
            let plain = without_peer(address);
            given.contains(&plain) || dials.admits(&plain, local)
        };
        let guard = &mut self.swarm.behaviour_mut().guard;
        let barred: Vec<_> =
            guard.connections().filter(|(_, address)| !lets(address)).map(|(id, _)| id).collect();
        let mut gone: Vec<PeerId> = Vec::new();
        for bucket in guard.kad.kbuckets() {
            let of = bucket.iter().filter(|entry| !entry.node.value.iter().any(&lets));
            gone.extend(of.map(|entry| *entry.node.key.preimage()));
        }
        for connection in barred {
            self.swarm.close_connection(connection);
        }
        for peer in gone {
            self.admission.handle(Input::Shunned { peer }, Instant::now());
        }
        self.admit();
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
        let Some(peer) = peer else { return };
        if let DialError::WrongPeerId { address, .. } = error
            && self.admission.was_named(&peer, address)
        {
            // It said so itself; what others say of it is not its fault.
            self.swarm.behaviour_mut().guard.did(peer, Deed::Lied);
        }
        if self.admission.is_admitted(&peer) {
            self.loops.lost(peer, now);
        }
        self.admission.handle(Input::Unreached { peer }, now);
    }

    fn pinged(&mut self, event: &ping::Event) {
        let now = Instant::now();
        match &event.result {
            Ok(round_trip) => {
                self.counts.answered(*round_trip);
                self.targets.pinged(event.peer, *round_trip);
            }
            // A client of another kind need not speak it; how long it may be idle has a limit of its own.
            Err(ping::Failure::Unsupported) => {}
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
        self.targets.speaks(peer, &info.protocol_version);
        if self.swarm.behaviour().guard.scores.is_shunned(&peer, now) {
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
                Action::Dial { peer, mut addresses } => {
                    let (bans, now) = (&self.swarm.behaviour().guard.bans, Instant::now());
                    addresses.retain(|address| !bans.is_banned(peer, address, now));
                    let dial = DialOpts::peer_id(peer).addresses(addresses);
                    if self.swarm.dial(dial.condition(PeerCondition::Always).build()).is_err() {
                        self.admission.handle(Input::Unreached { peer }, Instant::now());
                    }
                }
                Action::Admit { peer, address } => self.enter(peer, &address),
                Action::Remove { peer } => {
                    self.swarm.behaviour_mut().guard.kad.remove_peer(&peer);
                    self.table_changed();
                }
            }
        }
    }

    fn enter(&mut self, peer: PeerId, address: &Multiaddr) {
        let entered = self.swarm.behaviour_mut().guard.kad.add_address(&peer, address.clone());
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
                    self.swarm.behaviour_mut().guard.kad.remove_address(&peer, &address);
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
        let table =
            self.swarm.behaviour_mut().guard.kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        if table != self.table {
            self.table = table;
            self.swarm.behaviour_mut().guard.table = table;
            self.loops.knows(table, Instant::now());
            self.report(Event::RoutingTableUpdated { table });
        }
    }

    pub(super) fn bootstrap_answered(&mut self, now: Instant) {
        if !self.loops.joined() {
            self.loops.bootstrap_answered(now);
            let (table, took) = (self.table, now - self.begun);
            self.report(Event::Joined { table, took });
        }
    }

    pub(super) fn bootstrap_ended(&mut self, answered: bool, now: Instant) {
        if answered {
            self.bootstrap_answered(now);
        }
        self.loops.bootstrap_ended(answered, now);
    }
}

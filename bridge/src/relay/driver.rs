//! Runs a relay's swarm and says what it does. The machine decides; this passes on.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{Multiaddr, Swarm, identify, multiaddr::Protocol, swarm::SwarmEvent};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::{
    External, RelayConfig, Status,
    behaviour::{Behaviour, BehaviourEvent},
    dialback::Refused,
    hop::Said,
    machine::Input,
    stun::Stun,
    traffic::{Carried, Traffic},
};
use crate::{
    addr::Ranges,
    event::Event,
    net::{
        behaviour::NODE_AGENT,
        boxed::Boxed,
        control::{CONTROL_PROTOCOL, Heard},
        guard,
        listen::Listening,
        ping,
    },
    path::ConnectionId,
    word::Word,
};

/// How often growth of the traffic is looked at.
const TRAFFIC_INTERVAL: Duration = Duration::from_secs(1);

/// Observed addresses that `--external auto` takes over: one per transport and family.
const OBSERVED_MAX: usize = 4;

/// What the program that holds a relay wants of it.
#[derive(Debug)]
pub(super) enum Order {
    KeepTo(Ranges),
    /// Says that the loop turns.
    Answer(oneshot::Sender<()>),
    Status {
        reply: oneshot::Sender<Status>,
    },
    Leave,
}

/// The loop of a relay.
pub(super) struct Driver {
    swarm: Swarm<Boxed<Behaviour>>,
    config: RelayConfig,
    traffic: Traffic,
    events: broadcast::Sender<Arc<Event>>,
    orders: mpsc::Receiver<Order>,
    started: Instant,
    stun: Vec<Multiaddr>,
}

impl Driver {
    pub(super) fn new(
        mut swarm: Swarm<Boxed<Behaviour>>,
        config: RelayConfig,
        traffic: Traffic,
        events: broadcast::Sender<Arc<Event>>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        if let External::Given(addresses) = &config.external {
            for address in addresses {
                swarm.add_external_address(address.clone());
            }
        }
        let started = Instant::now();
        Self { swarm, config, traffic, events, orders, started, stun: Vec::new() }
    }

    pub(super) async fn run(mut self, listening: Listening, mut stun: Stun) {
        for address in listening.addresses {
            self.publish(Event::Listening { address });
        }
        for (address, cause) in listening.failed {
            self.publish(Event::ListenFailed { address, cause });
        }
        for event in stun.events() {
            if let Event::StunListening { address, .. } = &event {
                self.stun.push(address.clone());
            }
            self.publish(event);
        }
        let _stun = AbortOnDropHandle::new(tokio::spawn(stun.serve()));
        let mut tick = tokio::time::interval(TRAFFIC_INTERVAL);
        let mut leaving = false;
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => {
                    if self.handle(event) {
                        break;
                    }
                }
                _ = tick.tick() => self.report_traffic(),
                order = self.orders.recv(), if !leaving => match order {
                    Some(Order::Status { reply }) => {
                        let _ = reply.send(self.status());
                    }
                    Some(Order::KeepTo(ranges)) => self.swarm.behaviour_mut().guard.keep_to(ranges),
                    Some(Order::Answer(reply)) => {
                        let _ = reply.send(());
                    }
                    // Told to, or dropped by the program that held the relay.
                    Some(Order::Leave) | None => {
                        leaving = true;
                        self.swarm.behaviour_mut().hop.handle(Input::Leave);
                    }
                },
            }
        }
        self.report_traffic();
        self.publish(Event::Stopped {});
    }

    /// Whether the relay has left.
    fn handle(&mut self, event: SwarmEvent<BehaviourEvent>) -> bool {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Hop(Said::Left)) => return true,
            SwarmEvent::Behaviour(BehaviourEvent::Hop(Said::Event(event))) => self.publish(*event),
            SwarmEvent::Behaviour(BehaviourEvent::Dialback(Refused { peer, limited })) => {
                self.swarm.behaviour_mut().hop.handle(Input::DialBackRefused { peer, limited });
            }
            SwarmEvent::Behaviour(BehaviourEvent::Guard(guard::Event::Refused { count })) => {
                self.publish(Event::refused_ranges(count));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Guard(guard::Event::Barred { connection })) => {
                self.swarm.close_connection(connection);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Hop(Said::Word { peer, connection, word })) => {
                self.swarm.behaviour_mut().control.say(peer, connection, word);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Control(Heard {
                connection,
                word: Word::Watch(peers),
                ..
            })) => {
                self.swarm.behaviour_mut().hop.handle(Input::Watch { connection, peers });
            }
            SwarmEvent::Behaviour(BehaviourEvent::Control(Heard {
                peer,
                connection,
                word: Word::Beat(number),
            })) => {
                self.swarm.behaviour_mut().control.say(peer, connection, Word::Echo(number));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                info,
                ..
            })) => {
                let connection = ConnectionId(connection_id);
                let ours = info.agent_version.starts_with(NODE_AGENT);
                let hears = info.protocols.contains(&CONTROL_PROTOCOL);
                self.swarm.behaviour_mut().hop.handle(Input::Identified { connection, ours, hears });
                self.observed(&info.observed_addr);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                connection,
                said: ping::Said::Unanswered,
            })) => {
                self.swarm.close_connection(connection.0);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.publish(Event::Listening { address }),
            _ => {}
        }
        false
    }

    fn status(&mut self) -> Status {
        let Carried { received_bytes, sent_bytes } = self.traffic.now();
        let hop = &self.swarm.behaviour().hop;
        Status {
            peer: *self.swarm.local_peer_id(),
            uptime: self.started.elapsed(),
            listening: self.swarm.listeners().cloned().collect(),
            external: self.swarm.external_addresses().cloned().collect(),
            stun: self.stun.clone(),
            load: hop.load(),
            limits: hop.limits(),
            received_bytes,
            sent_bytes,
            forwarded_bytes: hop.forwarded_bytes(),
        }
    }

    fn report_traffic(&mut self) {
        if let Some(Carried { received_bytes, sent_bytes }) = self.traffic.grown() {
            let forwarded_bytes = self.swarm.behaviour().hop.forwarded_bytes();
            self.publish(Event::RelayTraffic { received_bytes, sent_bytes, forwarded_bytes });
        }
    }

    fn publish(&self, event: Event) {
        tracing::debug!(?event);
        let _ = self.events.send(Arc::new(event));
    }

    fn observed(&mut self, address: &Multiaddr) {
        let known = self.swarm.external_addresses().count();
        let public = |socket: SocketAddr| self.config.global.contains(socket.ip());
        let usable = known < OBSERVED_MAX && crate::addr::endpoint_of(address).is_some_and(public);
        let is_new = !self.swarm.external_addresses().any(|known| known == address);
        if self.config.external == External::Observed && usable && is_new {
            self.swarm.add_external_address(address.clone());
            // Whoever reads where it listens knows those.
            if !self.swarm.listeners().any(|own| own == address) {
                let address = address.clone().with(Protocol::P2p(*self.swarm.local_peer_id()));
                self.publish(Event::ExternalFound { address });
            }
        }
    }
}

//! Runs a relay's swarm and says what it does. libp2p decides; this only translates.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, connection_limits, identify, ping,
    relay::{self, StatusCode},
    swarm::{ListenError, SwarmEvent},
};
use tokio::sync::{broadcast, mpsc};

use super::{
    External, RelayConfig,
    behaviour::{Behaviour, BehaviourEvent},
    tenants::Tenants,
    traffic::{Carried, Traffic},
};
use crate::event::{Asked, Event};

/// How often growth of the traffic is looked at.
const TRAFFIC_INTERVAL: Duration = Duration::from_secs(1);

/// Observed addresses that `--external auto` takes over: one per transport and family.
const OBSERVED_MAX: usize = 4;

pub(crate) struct Forwarder {
    swarm: Swarm<Behaviour>,
    config: RelayConfig,
    traffic: Traffic,
    events: broadcast::Sender<Event>,
    stop: mpsc::Receiver<()>,
    /// libp2p reports the end of a reservation for every connection that closes, so the real ones
    /// are kept here. Bounded by the limit of reservations.
    reserved: HashSet<PeerId>,
    tenants: Tenants,
}

impl Forwarder {
    pub(crate) fn new(
        mut swarm: Swarm<Behaviour>,
        config: RelayConfig,
        traffic: Traffic,
        events: broadcast::Sender<Event>,
        stop: mpsc::Receiver<()>,
    ) -> Self {
        if let External::Given(addresses) = &config.external {
            for address in addresses {
                swarm.add_external_address(address.clone());
            }
        }
        Self {
            swarm,
            config,
            traffic,
            events,
            stop,
            reserved: HashSet::new(),
            tenants: Tenants::default(),
        }
    }

    pub(crate) async fn run(mut self, listening: Vec<Multiaddr>) {
        for address in listening {
            self.publish(Event::Listening { address });
        }
        let mut tick = tokio::time::interval(TRAFFIC_INTERVAL);
        loop {
            let event = tokio::select! {
                event = self.swarm.select_next_some() => event,
                _ = tick.tick() => {
                    self.report_traffic();
                    continue;
                }
                _ = self.stop.recv() => break,
            };
            self.keep_books(&event);
            if let Some(event) = self.translate(event) {
                self.publish(event);
            }
        }
        self.report_traffic();
        self.publish(Event::Stopped {});
    }

    fn keep_books(&mut self, event: &SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                self.tenants.connected(*peer_id, *connection_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.tenants.disconnected(*peer_id, *connection_id);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                connection_id,
                info,
            })) => {
                self.tenants.identified(*peer_id, *connection_id, &info.agent_version);
                self.observed(&info.observed_addr);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Relay(relay::Event::ReservationReqAccepted {
                src_peer_id,
                renewed: false,
            })) => {
                for connection in self.tenants.reserved(*src_peer_id) {
                    self.swarm.close_connection(connection);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                connection,
                result: Err(ping::Failure::Timeout | ping::Failure::Other { .. }),
                ..
            })) => {
                self.swarm.close_connection(*connection);
            }
            _ => {}
        }
    }

    fn report_traffic(&mut self) {
        if let Some(carried) = self.traffic.grown() {
            let Carried { received_bytes, sent_bytes } = carried;
            self.publish(Event::RelayTraffic { received_bytes, sent_bytes });
        }
    }

    fn publish(&self, event: Event) {
        tracing::debug!(?event);
        let _ = self.events.send(event);
    }

    fn observed(&mut self, address: &Multiaddr) {
        let known = self.swarm.external_addresses().count();
        let public = |socket: SocketAddr| self.config.global.contains(socket.ip());
        let usable = known < OBSERVED_MAX && crate::addr::socket_of(address).is_some_and(public);
        if self.config.external == External::Observed && usable {
            self.swarm.add_external_address(address.clone());
        }
    }

    fn translate(&mut self, event: SwarmEvent<BehaviourEvent>) -> Option<Event> {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Relay(event)) => self.relay_event(event),
            SwarmEvent::NewListenAddr { address, .. } => Some(Event::Listening { address }),
            SwarmEvent::IncomingConnectionError {
                error: ListenError::Denied { cause },
                peer_id,
                ..
            } => {
                let limit = cause.downcast_ref::<connection_limits::Exceeded>()?.limit().into();
                Some(Event::Refused { peer: peer_id, what: Asked::Connection, limit })
            }
            _ => None,
        }
    }

    fn relay_event(&mut self, event: relay::Event) -> Option<Event> {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, renewed } => {
                self.reserved.insert(src_peer_id);
                Some(Event::ReservationAccepted { peer: src_peer_id, renewed })
            }
            relay::Event::ReservationReqDenied { src_peer_id, status: _ } => Some(Event::Refused {
                peer: Some(src_peer_id),
                what: Asked::Reservation,
                limit: self.config.reservations as u64,
            }),
            relay::Event::ReservationTimedOut { src_peer_id }
            | relay::Event::ReservationClosed { src_peer_id } => self
                .reserved
                .remove(&src_peer_id)
                .then_some(Event::ReservationEnded { peer: src_peer_id }),
            relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                Some(Event::CircuitOpened { source: src_peer_id, destination: dst_peer_id })
            }
            relay::Event::CircuitReqDenied { src_peer_id, status, .. } => {
                let full = matches!(status, StatusCode::ResourceLimitExceeded);
                full.then_some(Event::Refused {
                    peer: Some(src_peer_id),
                    what: Asked::Circuit,
                    limit: self.config.circuits as u64,
                })
            }
            relay::Event::CircuitClosed { src_peer_id, dst_peer_id, error } => {
                Some(Event::CircuitClosed {
                    source: src_peer_id,
                    destination: dst_peer_id,
                    cause: error.map(|error| error.to_string()),
                })
            }
            _ => None,
        }
    }
}

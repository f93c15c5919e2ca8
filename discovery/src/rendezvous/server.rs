//! The meeting point, in the swarm of a node of the DHT: those who join there know its address already.

use std::{collections::HashMap, net::IpAddr, time::Instant};

use libp2p::{
    Multiaddr,
    multiaddr::Protocol,
    request_response::{Behaviour, Config, Event, Message, ProtocolSupport},
    swarm::ConnectionId,
};

use super::{
    message::{Messages, PROTOCOL, Request, Response},
    registry::Registry,
};

/// Requests of one connection that are answered at once.
const STREAMS_MAX: usize = 8;

pub(crate) type Meetings = Behaviour<Messages>;
pub(crate) type MeetingEvent = Event<Request, Response>;

/// Its part in the swarm.
pub(crate) fn behaviour() -> Meetings {
    let config = Config::default().with_max_concurrent_streams(STREAMS_MAX);
    Behaviour::with_codec(Messages, [(PROTOCOL, ProtocolSupport::Inbound)], config)
}

/// Who registered, and from where connections come: of these there are as many as the swarm has.
pub(crate) struct Server {
    registry: Registry,
    places: HashMap<ConnectionId, IpAddr>,
}

impl Server {
    pub(crate) fn new(now: Instant) -> Self {
        Self { registry: Registry::new(rand::random(), now), places: HashMap::new() }
    }

    pub(crate) fn connected(&mut self, connection: ConnectionId, address: &Multiaddr) {
        let ip = address.iter().find_map(|part| match part {
            Protocol::Ip4(ip) => Some(ip.into()),
            Protocol::Ip6(ip) => Some(ip.into()),
            _ => None,
        });
        if let Some(ip) = ip {
            self.places.insert(connection, ip);
        }
    }

    pub(crate) fn closed(&mut self, connection: ConnectionId) {
        self.places.remove(&connection);
    }

    /// Answers what was asked.
    pub(crate) fn hear(&mut self, event: MeetingEvent, meetings: &mut Meetings, now: Instant) {
        let Event::Message { peer, connection_id, message } = event else { return };
        let Message::Request { request, channel, .. } = message else { return };
        let place = self.places.get(&connection_id).copied();
        if let Some(response) = self.registry.handle(peer, place, request, now) {
            // Whoever left meanwhile has no answer.
            let _ = meetings.send_response(channel, response);
        }
        tracing::trace!(registrations = self.registry.len(), "a meeting point");
    }
}

//! What happens at a gateway, for logs, reports and tests.

use libp2p::{Multiaddr, PeerId};
use punchline_bridge::Service;
use serde::Serialize;

use crate::report::Failure;

/// What happened at a gateway. `design/events.md` shows one example of each.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum GatewayEvent {
    /// A peer asked for a service and was turned away before anything else; it is told less.
    AccessRefused {
        /// Who.
        peer: PeerId,
        /// For what.
        service: Service,
        /// Why.
        reason: String,
    },
    /// A peer's right to a service was withdrawn, and a connection of it was cut.
    AccessRevoked {
        /// Whose.
        peer: PeerId,
        /// To what.
        service: Service,
    },
    /// The allow list of a service was read again.
    AccessReloaded {
        /// Of what.
        service: Service,
        /// Why it could not be, if so: then the old one stays in force.
        error: Option<String>,
    },
    /// A peer was let in, but the program behind the service was not reached.
    TargetFailed {
        /// Who asked.
        peer: PeerId,
        /// For what.
        service: Service,
        /// Where the program should be.
        target: String,
        /// Why it was not reached.
        reason: String,
    },
    /// A source that nobody gave says where a peer is that is looked for. Said once for each source.
    PeerFound {
        /// Who.
        peer: PeerId,
        /// Which source: `mdns`, `kad`, `mainline` or `cache`.
        source: &'static str,
        /// Where, as it says.
        addresses: Vec<Multiaddr>,
    },
    /// Programs of this machine reach the peer's service here.
    ForwardListening {
        /// Whose service.
        peer: PeerId,
        /// Which.
        service: Service,
        /// Where, with the real port.
        local: String,
    },
    /// A local connection came to nothing and was reset.
    ForwardFailed {
        /// Whom it was for.
        peer: PeerId,
        /// For what.
        service: Service,
        /// Why.
        reason: Failure,
    },
    /// A forward carries as many local connections as it may; further ones wait.
    ForwardFull {
        /// Whom it leads to.
        peer: PeerId,
        /// For what.
        service: Service,
        /// How many it carries.
        limit: usize,
    },
    /// A limit turned somebody away.
    Refused {
        /// Whom it concerns.
        peer: PeerId,
        /// What there would have been one more of.
        what: Counted,
        /// How many there may be.
        limit: usize,
    },
}

/// What a gateway counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Connections to an exposed service.
    ServiceConnection,
    /// Connections of one peer to an exposed service.
    ServiceConnectionOfPeer,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;

    fn examples() -> Vec<GatewayEvent> {
        let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp".parse().unwrap();
        let service: Service = "kaspad".parse().unwrap();
        vec![
            GatewayEvent::AccessRefused {
                peer,
                service: service.clone(),
                reason: "the peer is not on the allow list".to_owned(),
            },
            GatewayEvent::AccessRevoked { peer, service: service.clone() },
            GatewayEvent::AccessReloaded { service: service.clone(), error: None },
            GatewayEvent::TargetFailed {
                peer,
                service: service.clone(),
                target: "127.0.0.1:16111".to_owned(),
                reason: "no answer within 5 s".to_owned(),
            },
            GatewayEvent::PeerFound {
                peer,
                source: "mdns",
                addresses: vec!["/ip4/192.168.1.3/tcp/41001".parse().unwrap()],
            },
            GatewayEvent::ForwardListening {
                peer,
                service: service.clone(),
                local: "127.0.0.1:26111".to_owned(),
            },
            GatewayEvent::ForwardFailed {
                peer,
                service: service.clone(),
                reason: Failure::Other("no stream within 8 s".to_owned()),
            },
            GatewayEvent::ForwardFull { peer, service, limit: 128 },
            GatewayEvent::Refused { peer, what: Counted::ServiceConnectionOfPeer, limit: 128 },
        ]
    }

    fn position(event: &GatewayEvent) -> usize {
        match event {
            GatewayEvent::AccessRefused { .. } => 0,
            GatewayEvent::AccessRevoked { .. } => 1,
            GatewayEvent::AccessReloaded { .. } => 2,
            GatewayEvent::TargetFailed { .. } => 3,
            GatewayEvent::PeerFound { .. } => 4,
            GatewayEvent::ForwardListening { .. } => 5,
            GatewayEvent::ForwardFailed { .. } => 6,
            GatewayEvent::ForwardFull { .. } => 7,
            GatewayEvent::Refused { .. } => 8,
        }
    }

    #[test]
    fn every_gateway_event_stands_in_the_document_as_it_is_written() {
        let document = include_str!("../../../design/events.md");
        let documented: Vec<Value> = document
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| {
                let mut value: Value = serde_json::from_str(line).unwrap();
                value.as_object_mut().unwrap().remove("ts").expect("every event has a time");
                value
            })
            .collect();
        for (at, event) in examples().iter().enumerate() {
            assert_eq!(position(event), at);
            let written = serde_json::to_value(event).unwrap();
            assert!(documented.contains(&written), "not in design/events.md: {written}");
        }
    }
}

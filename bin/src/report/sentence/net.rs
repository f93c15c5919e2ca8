//! Where the sentence of each event of the bridge is: each subject has a file of its own. Pure.

use std::time::Instant;

use punchline_bridge::{Event, event::MappingProtocol, path::Transport};

use super::{Saying, own, peers, relay, relays, streams};
use crate::report::said::Said;

/// Every kind of event stands here by its name.
pub(super) fn sentence(event: &Event, said: &mut Said, now: Instant) -> Saying {
    match event {
        Event::Listening { .. }
        | Event::StunListening { .. }
        | Event::ExternalFound { .. }
        | Event::ListenFailed { .. }
        | Event::CandidateFound { .. }
        | Event::NatFound { .. }
        | Event::AddressConfirmed { .. }
        | Event::AddressWithdrawn { .. }
        | Event::ExternalUnanswered { .. }
        | Event::PortMapped { .. }
        | Event::PortMappingLost { .. }
        | Event::PortMappingUnusable { .. }
        | Event::UpgradesCounted(_)
        | Event::Stopped {} => own::sentence(event, said, now),
        Event::ReservationHeld { .. }
        | Event::ReservationLost { .. }
        | Event::ReservationFailed { .. }
        | Event::RelayNameResolved { .. }
        | Event::RelayNameFailed { .. }
        | Event::RelayHealth { .. }
        | Event::ClockDiffers { .. }
        | Event::NetworkBlocks { .. } => relays::sentence(event, said, now),
        Event::ConnectionOpened { .. }
        | Event::ConnectionClosed { .. }
        | Event::UpgradeSucceeded { .. }
        | Event::UpgradeAttempted { .. }
        | Event::UpgradeFailed { .. }
        | Event::CandidatesRefused { .. }
        | Event::PeerUnreachable { .. }
        | Event::Waiting(_)
        | Event::WayFailed { .. } => peers::sentence(event, said, now),
        Event::StreamOpened { .. }
        | Event::StreamMoved { .. }
        | Event::StreamClosed { .. }
        | Event::StreamRefused { .. }
        | Event::Refused { .. } => streams::sentence(event, said, now),
        Event::ReservationAccepted { .. }
        | Event::ReservationEnded { .. }
        | Event::CircuitOpened { .. }
        | Event::CircuitClosed { .. }
        | Event::RelayTraffic { .. } => relay::sentence(event, said, now),
    }
}

/// A transport as people write it.
pub(super) fn carrier(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Quic => "QUIC",
        Transport::Websocket => "a WebSocket",
    }
}

pub(super) fn mapping(protocol: MappingProtocol) -> &'static str {
    match protocol {
        MappingProtocol::Pcp => "PCP",
        MappingProtocol::NatPmp => "NAT-PMP",
        MappingProtocol::Upnp => "UPnP",
    }
}

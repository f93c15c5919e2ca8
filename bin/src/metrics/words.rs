//! What labels say: each function has one word for each case, and the list beside it has all of them.

use punchline_bridge::{
    Path,
    error::{CloseCause, DialFailureReason, OpenFailure, Refusal, UpgradeFailure},
    event::{Asked, Blocked, LimitOwner, Rung, StreamEnd},
    nat::NatClass,
    path::{Direction, Transport},
    status::{AddressSource, Health, RelayState},
};

use super::families::Label;
use crate::gateway::event::Counted;

pub(super) const PATH: Label = ("path", PATHS);
pub(super) const PATHS: &[&str] = &["direct", "relayed"];

pub(super) fn path(path: Path) -> &'static str {
    if path.is_direct() { "direct" } else { "relayed" }
}

pub(super) const TRANSPORT: Label = ("transport", &["tcp", "quic", "websocket"]);

pub(super) fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Quic => "quic",
        Transport::Websocket => "websocket",
    }
}

pub(super) const DIRECTION: Label = ("direction", &["inbound", "outbound"]);

pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

pub(super) const RUNG: Label = ("rung", &["lan", "punch", "reversal", "mapped", "known", "inbound"]);

/// None for what is no rung to a direct path.
pub(super) fn rung(rung: Rung) -> Option<&'static str> {
    Some(match rung {
        Rung::Lan => "lan",
        Rung::Punch => "punch",
        Rung::Reversal => "reversal",
        Rung::Mapped => "mapped",
        Rung::Known => "known",
        Rung::Inbound => "inbound",
        Rung::Relay => return None,
    })
}

pub(super) const CLOSE_CAUSE: Label = (
    "cause",
    &[
        "unused",
        "asked",
        "shutdown",
        "unresponsive",
        "address_gone",
        "slept",
        "barred",
        "peer",
        "system",
        "reset",
        "network",
    ],
);

pub(super) fn close_cause(cause: &CloseCause) -> &'static str {
    match cause {
        CloseCause::Unused => "unused",
        CloseCause::Asked => "asked",
        CloseCause::Shutdown => "shutdown",
        CloseCause::Unresponsive => "unresponsive",
        CloseCause::AddressGone => "address_gone",
        CloseCause::Slept => "slept",
        CloseCause::Barred => "barred",
        CloseCause::Peer => "peer",
        CloseCause::System => "system",
        CloseCause::Reset => "reset",
        CloseCause::Network { .. } => "network",
    }
}

pub(super) const STREAM_END: Label =
    ("cause", &["finished", "dropped", "reset", "path_lost", "violation"]);

pub(super) fn stream_end(end: StreamEnd) -> &'static str {
    match end {
        StreamEnd::Finished => "finished",
        StreamEnd::Dropped => "dropped",
        StreamEnd::Reset => "reset",
        StreamEnd::PathLost => "path_lost",
        StreamEnd::Violation => "violation",
    }
}

pub(super) const REFUSAL: Label = (
    "reason",
    &[
        "not_served",
        "busy",
        "shutdown",
        "target_refused",
        "target_unreachable",
        "ticket_expired",
        "ticket_used",
        "ticket_revoked",
        "direct_only",
    ],
);

pub(super) fn refusal(reason: Refusal) -> &'static str {
    match reason {
        Refusal::NotServed => "not_served",
        Refusal::Busy => "busy",
        Refusal::Shutdown => "shutdown",
        Refusal::TargetRefused => "target_refused",
        Refusal::TargetUnreachable => "target_unreachable",
        Refusal::TicketExpired => "ticket_expired",
        Refusal::TicketUsed => "ticket_used",
        Refusal::TicketRevoked => "ticket_revoked",
        Refusal::DirectOnly => "direct_only",
    }
}

pub(super) const OPEN_FAILURE: Label = (
    "reason",
    &[
        "no_address",
        "myself",
        "unreachable",
        "unsupported",
        "refused",
        "connection_lost",
        "deadline",
        "limit",
        "ticket",
        "not_direct",
        "shutdown",
    ],
);

pub(super) fn open_failure(reason: OpenFailure) -> &'static str {
    match reason {
        OpenFailure::NoAddress => "no_address",
        OpenFailure::Myself => "myself",
        OpenFailure::Unreachable => "unreachable",
        OpenFailure::Unsupported => "unsupported",
        OpenFailure::Refused => "refused",
        OpenFailure::ConnectionLost => "connection_lost",
        OpenFailure::Deadline => "deadline",
        OpenFailure::Limit => "limit",
        OpenFailure::Ticket => "ticket",
        OpenFailure::NotDirect => "not_direct",
        OpenFailure::Shutdown => "shutdown",
    }
}

pub(super) const UPGRADE_FAILURE: Label = (
    "reason",
    &[
        "no_candidate_here",
        "web_only",
        "no_candidate_there",
        "all_refused",
        "punch_failed",
        "nothing_in_common",
        "limit",
        "ports_change",
        "at_peer",
        "unsupported",
        "exchange",
    ],
);

pub(super) fn upgrade_failure(reason: &UpgradeFailure) -> &'static str {
    match reason {
        UpgradeFailure::NoCandidateHere => "no_candidate_here",
        UpgradeFailure::WebOnly => "web_only",
        UpgradeFailure::NoCandidateThere => "no_candidate_there",
        UpgradeFailure::AllRefused { .. } => "all_refused",
        UpgradeFailure::PunchFailed { .. } => "punch_failed",
        UpgradeFailure::NothingInCommon { .. } => "nothing_in_common",
        UpgradeFailure::Limit { .. } => "limit",
        UpgradeFailure::PortsChange { .. } => "ports_change",
        UpgradeFailure::AtPeer { .. } => "at_peer",
        UpgradeFailure::Unsupported => "unsupported",
        UpgradeFailure::Exchange { .. } => "exchange",
    }
}

pub(super) const WAY_FAILURE: Label = (
    "reason",
    &[
        "wrong_peer",
        "no_reservation",
        "circuit_refused",
        "relay_full",
        "circuit_failed",
        "not_allowed",
        "relays_off",
        "limit",
        "network",
        "deadline",
        "banned",
        "not_found",
    ],
);

pub(super) fn way_failure(reason: &DialFailureReason) -> &'static str {
    match reason {
        DialFailureReason::WrongPeer { .. } => "wrong_peer",
        DialFailureReason::NoReservation => "no_reservation",
        DialFailureReason::CircuitRefused { .. } => "circuit_refused",
        DialFailureReason::RelayFull(_) => "relay_full",
        DialFailureReason::CircuitFailed { .. } => "circuit_failed",
        DialFailureReason::NotAllowed { .. } => "not_allowed",
        DialFailureReason::RelaysOff => "relays_off",
        DialFailureReason::Limit { .. } => "limit",
        DialFailureReason::Network { .. } => "network",
        DialFailureReason::Deadline { .. } => "deadline",
        DialFailureReason::Banned { .. } => "banned",
        DialFailureReason::NotFound { .. } => "not_found",
    }
}

pub(super) const BLOCKED: Label = ("what", &["udp", "tcp", "all_but_web"]);

pub(super) fn blocked(what: Blocked) -> &'static str {
    match what {
        Blocked::Udp => "udp",
        Blocked::Tcp => "tcp",
        Blocked::AllButWeb => "all_but_web",
    }
}

pub(super) const ASKED: Label = (
    "what",
    &[
        "connection",
        "stream",
        "stream_of_peer",
        "relay",
        "hold",
        "known_peer",
        "welcomed_peer",
        "reservation",
        "circuit",
        "watch",
        "dial_back",
        "takeover",
        "service_connection",
        "service_connection_of_peer",
    ],
);

pub(super) fn asked(what: Asked) -> &'static str {
    match what {
        Asked::Connection => "connection",
        Asked::Stream => "stream",
        Asked::StreamOfPeer => "stream_of_peer",
        Asked::Relay => "relay",
        Asked::Hold => "hold",
        Asked::KnownPeer => "known_peer",
        Asked::WelcomedPeer => "welcomed_peer",
        Asked::Reservation => "reservation",
        Asked::Circuit => "circuit",
        Asked::Watch => "watch",
        Asked::DialBack => "dial_back",
        Asked::Takeover => "takeover",
    }
}

/// With whose limit it is.
pub(super) fn counted(what: Counted) -> (&'static str, &'static str) {
    match what {
        Counted::ServiceConnection => ("service_connection", "service"),
        Counted::ServiceConnectionOfPeer => ("service_connection_of_peer", "peer"),
    }
}

pub(super) const WHOSE: Label = (
    "whose",
    &[
        "only",
        "relay",
        "node",
        "strangers",
        "through_relay",
        "service",
        "address",
        "peer",
        "destination",
        "ranges",
    ],
);

pub(super) fn whose(owner: Option<LimitOwner>) -> &'static str {
    match owner {
        None => "only",
        Some(LimitOwner::Relay) => "relay",
        Some(LimitOwner::Node) => "node",
        Some(LimitOwner::Strangers) => "strangers",
        Some(LimitOwner::ThroughRelay) => "through_relay",
        Some(LimitOwner::Service) => "service",
        Some(LimitOwner::Address) => "address",
        Some(LimitOwner::Peer) => "peer",
        Some(LimitOwner::Destination) => "destination",
        Some(LimitOwner::Ranges) => "ranges",
    }
}

pub(super) const NAT: Label = (
    "kind",
    &[
        "unknown",
        "public",
        "firewall",
        "no_nat",
        "full_cone",
        "address_restricted",
        "port_restricted",
        "one_port",
        "symmetric",
    ],
);

pub(super) fn nat(class: NatClass) -> &'static str {
    match class {
        NatClass::Unknown => "unknown",
        NatClass::Public => "public",
        NatClass::Firewall => "firewall",
        NatClass::NoNat => "no_nat",
        NatClass::FullCone => "full_cone",
        NatClass::AddressRestricted => "address_restricted",
        NatClass::PortRestricted => "port_restricted",
        NatClass::OnePort => "one_port",
        NatClass::Symmetric => "symmetric",
    }
}

pub(super) const SOURCE: Label = ("source", &["operator", "router", "confirmed", "relay", "interface"]);

pub(super) fn source(source: AddressSource) -> &'static str {
    match source {
        AddressSource::Operator => "operator",
        AddressSource::Router => "router",
        AddressSource::Confirmed => "confirmed",
        AddressSource::Relay => "relay",
        AddressSource::Interface => "interface",
    }
}

pub(super) const RELAY_STATE: Label = ("state", &["down", "connecting", "connected", "reserved"]);

pub(super) fn relay_state(state: RelayState) -> &'static str {
    match state {
        RelayState::Down { .. } => "down",
        RelayState::Connecting => "connecting",
        RelayState::Connected => "connected",
        RelayState::Reserved { .. } => "reserved",
    }
}

pub(super) const HEALTH: Label = ("health", &["unknown", "healthy", "degraded", "down"]);

pub(super) fn health(health: Health) -> &'static str {
    match health {
        Health::Unknown => "unknown",
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Down => "down",
    }
}

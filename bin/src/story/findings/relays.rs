//! Relays that are of no use.

use punchline_bridge::{
    error::{DialFailureReason, RelayFailure, ReserveFailure},
    status::{Health, RelayState, RelayStatus},
};

use super::Finding;
use crate::story::fault::Fault;

/// What helps where the relay is not there.
pub(super) const DOWN: &str = "see that the relay runs and that its address and port are right (it prints them), or give both \
                               ends a second relay; it is dialled again by itself";

/// What helps where it says nothing.
pub(super) const SILENT: &str = "see whether the relay's process hangs, and whether a firewall at either end keeps its port; \
                                 it is dialled again by itself";

/// Whether peers are met through it.
pub(super) fn serves(relay: &RelayStatus) -> bool {
    match relay.state {
        _ if relay.health.health == Health::Down => false,
        RelayState::Reserved { .. } => true,
        RelayState::Connected => !relay.wanted,
        RelayState::Down { .. } | RelayState::Connecting => false,
    }
}

/// Whether it is known what became of the latest attempt, or that it hangs.
pub(super) fn is_decided(relay: &RelayStatus) -> bool {
    relay.last_error.is_some() || relay.health.health == Health::Down
}

/// None if it serves.
pub(super) fn finding(relay: &RelayStatus) -> Option<Finding> {
    if serves(relay) {
        return None;
    }
    let address = relay.addresses.first().map(|relay| relay.address().to_string()).unwrap_or_default();
    Some(match &relay.last_error {
        Some(RelayFailure::Dial(reason)) => not_reached(relay, &address, reason),
        Some(RelayFailure::Reserve(reason)) => keeps_no_place(&address, reason),
        None if relay.health.health == Health::Down => silent(relay, &address),
        None => Finding::new(
            Fault::RelaySilent,
            format!("the relay at {address} does not answer yet"),
            "wait some seconds, and ask again",
        ),
    })
}

fn silent(relay: &RelayStatus, address: &str) -> Finding {
    let since =
        relay.health.heard.map(|heard| format!(" for {} s", heard.as_secs())).unwrap_or_default();
    Finding::new(Fault::RelaySilent, format!("the relay at {address} was not heard{since}"), SILENT)
}

fn not_reached(relay: &RelayStatus, address: &str, reason: &DialFailureReason) -> Finding {
    let why = format!("the relay at {address} is not reached: {reason}");
    match reason {
        DialFailureReason::WrongPeer { obtained } => Finding::new(
            Fault::WrongRelay,
            format!("at {address} {obtained} answers, and not the relay {}", relay.relay),
            format!(
                "if that is the relay you mean, write --relay {address}/p2p/{obtained}; else mend the address"
            ),
        ),
        DialFailureReason::Deadline { .. } => Finding::new(Fault::RelaySilent, why, SILENT),
        DialFailureReason::NotAllowed { .. } => Finding::new(
            Fault::NotAllowed,
            why,
            "let its address through with --allow-net or --assume-global, or name another relay",
        ),
        DialFailureReason::RelaysOff => {
            Finding::new(Fault::RelaysOff, why, "say --relay-mode fallback, or leave out --relay")
        }
        DialFailureReason::Limit { .. } => {
            Finding::new(Fault::LimitHere, why, "close connections, or raise the limit that is named")
        }
        DialFailureReason::Network { .. }
        | DialFailureReason::NoReservation
        | DialFailureReason::Banned { .. }
        | DialFailureReason::NotFound { .. }
        | DialFailureReason::CircuitRefused { .. }
        | DialFailureReason::RelayFull(_)
        | DialFailureReason::CircuitFailed { .. } => Finding::new(Fault::RelayDown, why, DOWN),
    }
}

fn keeps_no_place(address: &str, reason: &ReserveFailure) -> Finding {
    let why = format!("the relay at {address} keeps no place for this node: {reason}");
    match reason {
        ReserveFailure::Full(_) => Finding::new(
            Fault::RelayFull,
            why,
            "give this node another relay, or raise the relay's limits (--max-reservations…)",
        ),
        ReserveFailure::Denied => {
            Finding::new(Fault::RelayRefuses, why, "ask the relay's operator, or use another relay")
        }
        ReserveFailure::Refused => Finding::new(
            Fault::RelayRefuses,
            why,
            "see that no other process runs with this identity, or use another relay",
        ),
        ReserveFailure::Unsupported | ReserveFailure::Malformed(_) => Finding::new(
            Fault::NotARelay,
            why,
            "see that `punchline relay` runs there, and knows its own address (--external)",
        ),
        ReserveFailure::Deadline { .. } => Finding::new(
            Fault::RelaySilent,
            why,
            "see whether the relay's process hangs, and start it again; it is asked again by itself",
        ),
        ReserveFailure::Link { .. } => {
            Finding::new(Fault::RelayDown, why, "see that the relay runs; it is asked again by itself")
        }
    }
}

//! What happened, in words.

use std::time::Duration;

use punchline_bridge::{
    Path,
    error::OpenError,
    event::Rung,
    path::{Direction, Transport},
    status::{PeerStatus, RelayState, RelayStatus, WaitStatus},
};

use crate::{
    control::proto::Tried,
    report::{Failure, Outcome, Step},
};

pub(super) fn path(path: Path) -> &'static str {
    if path.is_direct() { "direct" } else { "relayed" }
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Quic => "QUIC",
        Transport::Websocket => "a WebSocket",
    }
}

/// How it is reached now.
pub(super) fn now(
    peer: Option<&PeerStatus>,
    relay: Option<&RelayStatus>,
    wait: Option<&WaitStatus>,
) -> String {
    let waits = wait.map(|wait| {
        let awaits: Vec<String> = wait.awaits.iter().map(ToString::to_string).collect();
        format!("; this node waits for it for {} s: {}", wait.waited.as_secs(), awaits.join("; "))
    });
    let waits = waits.unwrap_or_default();
    match (relay, peer.and_then(|peer| peer.connections.first())) {
        (Some(relay), _) => standing(relay) + &waits,
        (None, None) => format!("not reached: there is no connection{waits}"),
        (None, Some(best)) => {
            let over = transport(best.transport);
            match best.path {
                Path::Direct => format!("reached directly over {over}, at {}", best.address),
                Path::Relayed { relay } => format!("reached through the relay {relay}, over {over}"),
            }
        }
    }
}

fn standing(relay: &RelayStatus) -> String {
    let over = relay.transport.map(|over| format!(" over {}", transport(over))).unwrap_or_default();
    match relay.state {
        RelayState::Down { .. } => "a relay of this node, not reached".to_owned(),
        RelayState::Connecting => "a relay of this node, being dialled".to_owned(),
        RelayState::Connected if relay.wanted => {
            format!("a relay of this node, reached{over}, that keeps no place for it")
        }
        RelayState::Connected => format!("a relay of this node, reached{over}, to dial peers through"),
        RelayState::Reserved { .. } => {
            format!("a relay of this node, reached{over}, that keeps a place for it")
        }
    }
}

fn rung(rung: Rung, attempt: u32) -> String {
    match rung {
        Rung::Lan => "within one network".to_owned(),
        Rung::Punch if attempt > 0 => format!("by hole punch {attempt}"),
        Rung::Punch => "by a hole punch".to_owned(),
        Rung::Reversal => "since it lets in whoever calls".to_owned(),
        Rung::Mapped => "at a port that is mapped at its router".to_owned(),
        Rung::Known => "at an address that was known".to_owned(),
        Rung::Inbound => "by its own dial".to_owned(),
        Rung::Relay => "through a relay".to_owned(),
    }
}

/// One step.
pub(super) fn step(step: &Step) -> String {
    match step {
        Step::Connected { path: by, direction, transport: over, address } => {
            let who = match direction {
                Direction::Inbound => "the peer dialled",
                Direction::Outbound => "this node dialled",
            };
            let (path, over) = (path(*by), transport(*over));
            match by.relay() {
                Some(relay) => {
                    format!("a {path} connection came up over {over}, through {relay}: {who}")
                }
                None => format!("a {path} connection came up over {over}: {who} ({address})"),
            }
        }
        Step::Disconnected { path: by, cause } => format!("a {} connection ended: {cause}", path(*by)),
        Step::Dialled { rung: by, attempt, .. } => {
            format!("this node tried to reach it directly, {}", rung(*by, *attempt))
        }
        Step::StayedRelayed { reason, .. } => format!("no direct path: {reason}"),
        Step::BecameDirect { transport: over, took, rung: by, .. } => {
            let (over, took) = (transport(*over), ms(*took));
            format!("direct over {over} after {took:.0} ms, {}", rung(*by, 0))
        }
        Step::AddressesRefused { allowed, refused } => {
            format!("of the addresses that it named this node dials {allowed}: {refused}")
        }
        Step::WayFailed { way, reason } => format!("one way failed: {way}: {reason}"),
        Step::NotReached {
            failure: Failure::Open(OpenError::NoRouteToDestination { tried: causes, .. }),
            ..
        } => {
            let causes: Vec<String> = causes.iter().map(ToString::to_string).collect();
            format!("not reached: {}", causes.join("; "))
        }
        Step::NotReached { failure, .. } => format!("not reached: {failure}"),
        Step::Moved { from, to, gap_ms, cause } => {
            let cause = cause.as_ref().map(|cause| format!(", since {cause}")).unwrap_or_default();
            let (from, to) = (path(*from), path(*to));
            format!("a stream moved from {from} to {to}{cause}, with a gap of {gap_ms:.1} ms")
        }
    }
}

/// The addresses that a step names.
pub(super) fn tried(step: &Step) -> Vec<Tried> {
    match step {
        Step::Dialled { addresses, .. } => addresses
            .iter()
            .map(|address| Tried { address: address.to_string(), outcome: None })
            .collect(),
        Step::StayedRelayed { tried, .. } => tried
            .iter()
            .map(|tried| {
                let outcome = serde_json::to_value(tried.outcome).ok();
                let outcome = outcome.and_then(|word| Some(word.as_str()?.to_owned()));
                Tried { address: tried.address.to_string(), outcome }
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// What became of a service.
pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Opened => "opened".to_owned(),
        Outcome::RefusedThere(reason) => format!("the peer refused it to this node: {reason}"),
        Outcome::RefusedHere(reason) => format!("this node refused it to the peer: {reason}"),
        Outcome::Denied(reason) => format!("this node refused it to the peer: {reason}"),
        Outcome::TargetFailed { target, reason } => {
            format!("the target {target} was not reached: {reason}")
        }
        Outcome::HandshakeFailed(reason) => format!("the session on it did not come about: {reason}"),
    }
}

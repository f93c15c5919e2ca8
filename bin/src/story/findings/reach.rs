//! Why there is no connection to a peer.

use punchline_bridge::error::{
    CircuitFault, CircuitRefusal, DialFailure, DialFailureReason, OpenError, TriedWay,
};

use super::{Facts, Finding, relays};
use crate::{
    report::{Failure, Moment, Step},
    story::fault::Fault,
};

/// What tells more comes first.
pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let steps = facts.remembered.map(|remembered| remembered.steps()).unwrap_or_default();
    let latest = |is: fn(&Step) -> bool| steps.iter().rfind(|moment| is(&moment.step));
    let failed = latest(|step| matches!(step, Step::NotReached { .. }));
    let ended = latest(|step| matches!(step, Step::Disconnected { .. }));
    let is_later = |one: &Moment, other: Option<&&Moment>| other.is_none_or(|other| one.at >= other.at);
    let mut found = match (failed, ended) {
        (Some(failed), ended) if is_later(failed, ended) => not_reached(&failed.step),
        (_, Some(ended)) => vec![lost(&ended.step)],
        _ => vec![not_tried(facts)],
    };
    found.sort_by_key(|finding| finding.fault);
    found.dedup_by_key(|finding| finding.fault);
    found
}

fn lost(ended: &Step) -> Finding {
    let cause = match ended {
        Step::Disconnected { cause, .. } => cause.to_string(),
        _ => String::new(),
    };
    Finding::new(
        Fault::Lost,
        format!("the last connection ended ({cause}), and there is no other yet"),
        "see whether it is running there; this node looks for it again when a program here wants it",
    )
}

fn not_tried(facts: &Facts<'_>) -> Finding {
    Finding::new(
        Fault::NotTried,
        "nobody has asked this node to reach it",
        format!(
            "use it: `punchline forward --peer {peer}` or `punchline client --peer {peer}`; or it may come by itself",
            peer = facts.peer
        ),
    )
}

fn not_reached(step: &Step) -> Vec<Finding> {
    let Step::NotReached { failure, .. } = step else { return Vec::new() };
    let why = failure.to_string();
    let one = |fault, help: &str| vec![Finding::new(fault, why.clone(), help)];
    match failure {
        Failure::Open(OpenError::NoRouteToDestination { tried, .. }) => tried.iter().map(way).collect(),
        Failure::Open(OpenError::Deadline { tried, .. }) if !tried.is_empty() => {
            tried.iter().map(way).collect()
        }
        Failure::Open(OpenError::NoAddress { .. }) => one(
            Fault::NoAddress,
            "name a relay that the peer uses with --relay, or its address with --addr",
        ),
        Failure::Open(OpenError::Unsupported { .. }) => {
            one(Fault::NotPunchline, "see that punchline runs there, and that --peer names it")
        }
        Failure::Open(OpenError::NotDirect { .. }) => one(
            Fault::DirectOnly,
            "let relays carry streams with --relay-mode fallback at both ends, or have a router at either end map a port",
        ),
        Failure::Open(
            OpenError::Busy { .. } | OpenError::StreamsOfPeer { .. } | OpenError::Ticket { .. },
        ) => one(Fault::LimitHere, "close streams to it, or raise --max-streams-per-peer"),
        Failure::Open(
            OpenError::Deadline { .. }
            | OpenError::ConnectionLost { .. }
            | OpenError::Myself { .. }
            | OpenError::Refused { .. }
            | OpenError::Shutdown,
        )
        | Failure::Late { .. }
        | Failure::Other(_) => one(
            Fault::Unreachable,
            "see whether it is running there, and with a relay that this node uses; it is tried again by itself",
        ),
    }
}

fn way(failure: &DialFailure) -> Finding {
    let why = failure.to_string();
    let through_relay = matches!(failure.way, TriedWay::Relay(_));
    let (fault, help) = match &failure.reason {
        DialFailureReason::NoReservation => return offline(failure, why),
        DialFailureReason::WrongPeer { obtained } if through_relay => {
            let help = format!(
                "if that is the relay you mean, let --relay end in /p2p/{obtained}; else mend the address"
            );
            return Finding::new(Fault::WrongRelay, why, help);
        }
        DialFailureReason::NotFound { .. } => (
            Fault::NoAddress,
            "see that it is running, and is found by one of these: on the same network, or with the same --bootstrap; or name a way with \
             --relay or --addr",
        ),
        DialFailureReason::WrongPeer { .. } | DialFailureReason::Banned { .. } => {
            (Fault::WrongPeer, "mend the address (--addr) or the id (--peer): somebody else lives there")
        }
        DialFailureReason::NotAllowed { .. } => (
            Fault::NotAllowed,
            "if these addresses are public in your network, say so with --assume-global CIDR",
        ),
        DialFailureReason::RelaysOff => (
            Fault::RelaysOff,
            "say --relay-mode fallback or coordination, or name an address of the peer with --addr",
        ),
        DialFailureReason::CircuitRefused { reason } => (
            match reason {
                CircuitRefusal::Denied => Fault::RelayRefuses,
                CircuitRefusal::Unsupported | CircuitRefusal::Malformed(_) => Fault::NotARelay,
            },
            "ask the relay's operator, or use another relay at both ends",
        ),
        DialFailureReason::RelayFull(_) => {
            (Fault::RelayFull, "use another relay at both ends, or raise the relay's limits")
        }
        DialFailureReason::CircuitFailed { reason } => return circuit(why, reason),
        DialFailureReason::Limit { .. } => {
            (Fault::LimitHere, "close connections, or raise the limit that is named")
        }
        DialFailureReason::Network { .. } if matches!(failure.way, TriedWay::RelayName(_)) => (
            Fault::RelayDown,
            "see `punchline doctor`; an address of the relay in --relay works without DNS",
        ),
        DialFailureReason::Network { .. } if through_relay => (Fault::RelayDown, relays::DOWN),
        DialFailureReason::Deadline { .. } if through_relay => (Fault::RelaySilent, relays::SILENT),
        DialFailureReason::Network { .. } | DialFailureReason::Deadline { .. } => (
            Fault::Unreachable,
            "see that the peer runs, that the address is right, and that no firewall keeps its port",
        ),
    };
    Finding::new(fault, why, help)
}

fn offline(failure: &DialFailure, why: String) -> Finding {
    let relay = match &failure.way {
        TriedWay::Relay(relay) => format!(": --relay {relay}"),
        TriedWay::RelayName(name) => format!(": --relay {name}"),
        TriedWay::Direct(_) | TriedWay::Named | TriedWay::Relays | TriedWay::Lookup(_) => String::new(),
    };
    Finding::new(
        Fault::PeerOffline,
        why,
        format!("start it there, and with a relay that this node uses{relay}"),
    )
}

fn circuit(why: String, fault: &CircuitFault) -> Finding {
    match fault {
        CircuitFault::PeerUnreachable | CircuitFault::Deadline { .. } => Finding::new(
            Fault::CircuitSilent,
            why,
            "see whether the peer's process, or the relay's, hangs or has lost its network; it is tried again by itself",
        ),
        CircuitFault::Link { .. } => Finding::new(Fault::RelayDown, why, relays::DOWN),
        CircuitFault::Handshake { .. } => Finding::new(
            Fault::Unreachable,
            why,
            "see that punchline runs there, and that --peer names it; it is tried again by itself",
        ),
    }
}

//! Why a relayed peer is not reached directly.

use libp2p::{Multiaddr, multiaddr::Protocol};
use punchline_bridge::{
    error::{PunchVerdict, UpgradeFailure},
    event::{Blocked, MappingFault},
    nat::NatKind,
    status::{AddressSource, ExternalState, ExternalStatus, PeerStatus},
};

use super::{Facts, Finding};
use crate::{external, story::fault::Fault};

/// What this network keeps away counts more than dials that fail for it.
pub(super) fn findings(facts: &Facts<'_>, peer: &PeerStatus) -> Vec<Finding> {
    let Some(reason) = &peer.why_relayed else {
        return vec![Finding::new(
            Fault::TooEarly,
            "no attempt at a direct path is over yet",
            format!(
                "wait half a minute; `punchline ping {} --until-direct` shows when it is direct",
                facts.peer
            ),
        )];
    };
    let mut found: Vec<Finding> = facts.status.blocked.map(blocked).into_iter().collect();
    let counts_more = matches!(
        reason,
        UpgradeFailure::PunchFailed { .. }
            | UpgradeFailure::NothingInCommon { .. }
            | UpgradeFailure::WebOnly
    );
    found.insert(if counts_more { found.len() } else { 0 }, failed(facts, reason));
    found
}

fn blocked(what: Blocked) -> Finding {
    let (fault, help) = match what {
        Blocked::Udp => {
            (Fault::UdpBlocked, "let UDP out of this network (at its firewall), or use TCP at both ends")
        }
        Blocked::Tcp => (Fault::TcpBlocked, "let TCP to other ports than the web's out of this network"),
        Blocked::AllButWeb => (Fault::WebOnly, "let UDP, or TCP to other ports, out of this network"),
    };
    Finding::new(fault, what.to_string(), help)
}

fn failed(facts: &Facts<'_>, reason: &UpgradeFailure) -> Finding {
    let why = reason.to_string();
    let other_end = format!("ask at the other end: punchline why {}", facts.status.peer);
    let (fault, help) = match reason {
        UpgradeFailure::PortsChange { ours, theirs } => (symmetric(*ours, *theirs), mapping(facts)),
        UpgradeFailure::AtPeer { verdict: PunchVerdict::PortsChange } => {
            (symmetric(facts.status.nat_v4, theirs(facts)), mapping(facts))
        }
        UpgradeFailure::AtPeer { .. } => (Fault::GaveUpThere, other_end),
        UpgradeFailure::NoCandidateHere => (
            Fault::NoCandidateHere,
            "give this node a relay outside of its own network: only such a one can tell it its public address; if your \
             network's addresses are public to the peer, say so with --assume-global CIDR"
                .to_owned(),
        ),
        UpgradeFailure::NoCandidateThere => (
            Fault::NoCandidateThere,
            format!("give the peer a relay outside of its own network, and {other_end}"),
        ),
        UpgradeFailure::WebOnly => {
            (Fault::WebOnly, "let UDP, or TCP to other ports, out of this network".to_owned())
        }
        UpgradeFailure::AllRefused { refused } if refused.denied > 0 => (
            Fault::NotAllowed,
            "let the peer's range through: --deny-net or --allow-net here keeps it away".to_owned(),
        ),
        UpgradeFailure::AllRefused { .. } => (
            Fault::NotAllowed,
            "if these addresses are public in your network, say so with --assume-global CIDR".to_owned(),
        ),
        UpgradeFailure::PunchFailed { .. } => (Fault::PunchFailed, punch(facts)),
        UpgradeFailure::NothingInCommon { .. } => (
            Fault::NothingInCommon,
            "listen over TCP and QUIC at both ends (leave out --listen), and give both the relay's addresses over both"
                .to_owned(),
        ),
        UpgradeFailure::Limit { .. } => {
            (Fault::LimitHere, "wait: an hour later it is tried again".to_owned())
        }
        UpgradeFailure::Unsupported => {
            (Fault::NoPunching, "run punchline there, or any libp2p node that does DCUtR".to_owned())
        }
        // The NATs go on to be what they are, whatever becomes of one round of words about it.
        UpgradeFailure::Exchange { .. } if both_change_ports(facts) => {
            return Finding::new(
                Fault::SymmetricBoth,
                PunchVerdict::PortsChange.to_string(),
                mapping(facts),
            );
        }
        UpgradeFailure::Exchange { .. } => (Fault::NoPunching, other_end),
    };
    Finding::new(fault, why, help)
}

/// What the peer is behind, as it said last.
fn theirs(facts: &Facts<'_>) -> NatKind {
    facts.remembered.and_then(|remembered| remembered.nat).unwrap_or_default()
}

fn both_change_ports(facts: &Facts<'_>) -> bool {
    facts.status.nat_v4.changes_ports() && theirs(facts).changes_ports()
}

fn symmetric(ours: NatKind, theirs: NatKind) -> Fault {
    match (ours.changes_ports(), theirs.changes_ports()) {
        (true, true) => Fault::SymmetricBoth,
        (true, false) => Fault::SymmetricHere,
        (false, _) => Fault::SymmetricThere,
    }
}

/// A port that is open at either end makes every NAT at the other one passable.
fn mapping(facts: &Facts<'_>) -> String {
    let is_mapped = |source| matches!(source, AddressSource::Router);
    let mapped = facts.status.candidates.iter().any(|candidate| is_mapped(candidate.source))
        || facts.status.external.iter().any(|one| one.state == ExternalState::Confirmed);
    if let Some(unanswered) = unanswered(facts) {
        return unanswered;
    }
    match facts.surroundings.unusable_mapping {
        Some(MappingFault::BehindNat) => "the provider has this router behind a NAT of its own: switch on UPnP, NAT-PMP or \
             PCP in the router at the other end, use IPv6 at both ends, or ask the provider for a public address"
            .to_owned(),
        _ if mapped => format!(
            "this router forwards a port, and the peer did not come in there: ask at the other end: punchline why {}",
            facts.status.peer
        ),
        _ => "switch on UPnP, NAT-PMP or PCP in the router at either end (punchline asks it for a port by itself), or use \
             IPv6 at both ends"
            .to_owned(),
    }
}

/// What to look at where the operator says that this node is reached, and nobody answers.
fn unanswered(facts: &Facts<'_>) -> Option<String> {
    let is_unanswered = |one: &&ExternalStatus| matches!(one.state, ExternalState::Unanswered { .. });
    let one = facts.status.external.iter().find(is_unanswered)?;
    let remedy = external::remedy(&one.address, one.listener.as_ref());
    Some(format!(
        "nobody answers at {}, where --external says that this node is reached: {remedy}",
        one.address
    ))
}

fn punch(facts: &Facts<'_>) -> String {
    let over = |is: fn(&Protocol<'_>) -> bool| {
        facts.status.listening.iter().any(|address: &Multiaddr| address.iter().any(|part| is(&part)))
    };
    let tcp = over(|part| matches!(part, Protocol::Tcp(_)));
    let quic = over(|part| matches!(part, Protocol::QuicV1));
    match tcp && quic {
        true => mapping(facts),
        false => {
            format!("listen over TCP and QUIC at both ends (leave out --listen); or {}", mapping(facts))
        }
    }
}

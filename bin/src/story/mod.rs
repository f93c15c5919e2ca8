//! The story of a pair, as a person would tell it. Pure: a node's status, and what is remembered of its peers, come in.
//!
//! Reading order: here it is put together; `findings` says what is in the way, in the words of `fault`, and what would
//! help; `text` puts what happened into words.

mod fault;
mod findings;
mod text;

use std::time::Instant;

use libp2p::{Multiaddr, PeerId};
use punchline_bridge::{
    Status,
    nat::NatKind,
    status::{PeerStatus, RelayState, RelayStatus},
};

use self::findings::{Facts, Finding};
use crate::{
    control::proto::{self, Side, Story},
    names::Names,
    report::{Memory, Moment, Remembered, Step},
};

/// Addresses of a peer that are told, and peers that are named to who asked for an unknown one.
const ADDRESSES_MAX: usize = 16;
const NAMED_MAX: usize = 16;

/// Why there is no story.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    /// It is this node.
    #[error("{0} is this node itself; ask for one of its peers: `punchline status` lists them")]
    Myself(PeerId),
    /// Nothing is known of it.
    #[error("this node knows nothing of {peer}; {}", known(peers))]
    Peer {
        /// Who was asked for.
        peer: PeerId,
        /// Those that it knows.
        peers: Vec<PeerId>,
    },
}

fn known(peers: &[PeerId]) -> String {
    let named: Vec<String> = peers.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match peers.len().checked_sub(NAMED_MAX) {
        None | Some(0) if peers.is_empty() => "it has met nobody yet".to_owned(),
        None | Some(0) => format!("it knows {}", named.join(", ")),
        Some(more) => format!("it knows {} and {more} more", named.join(", ")),
    }
}

/// The story of a peer, or of a relay that the node uses.
///
/// # Errors
/// If nothing is known of it.
pub(crate) fn tell(
    peer: PeerId,
    status: &Status,
    memory: &Memory,
    now: Instant,
) -> Result<Story, Unknown> {
    if peer == status.peer {
        return Err(Unknown::Myself(peer));
    }
    let facts = Facts {
        peer,
        status,
        connected: status.peers.iter().find(|found| found.peer == peer),
        relay: status.relays.iter().find(|found| found.relay == peer),
        remembered: memory.of(peer),
        surroundings: memory.surroundings(),
    };
    if facts.connected.is_none() && facts.relay.is_none() && facts.remembered.is_none() {
        return Err(Unknown::Peer { peer, peers: everybody(status, memory) });
    }
    let best = facts.connected.and_then(|found| found.connections.first());
    let path = facts.connected.map_or("none", |found| text::path(found.path));
    let relay_path = if facts.relay.is_some_and(is_up) { "direct" } else { path };
    let wait = status.waits.iter().find(|wait| wait.peer == peer);
    let round_trip = facts.relay.and_then(|relay| relay.round_trip);
    Ok(Story {
        peer: peer.to_string(),
        name: None,
        path: relay_path.to_owned(),
        now: text::now(facts.connected, facts.relay, wait),
        since_seconds: best.map(|best| best.age.as_secs_f64()),
        round_trip_ms: best.and_then(|best| best.round_trip).or(round_trip).map(text::ms),
        here: Some(here(&facts)),
        there: Some(there(&facts)),
        steps: steps(facts.remembered, now),
        services: services(facts.remembered, now),
        findings: findings::findings(&facts).into_iter().map(finding).collect(),
        next_attempt_seconds: next_attempt(&facts, now),
    })
}

/// The story with names in place of ids, where a person reads it.
pub(crate) fn with_names(mut story: Story, names: &Names) -> Story {
    let name = story.peer.parse().ok().and_then(|peer| names.of(peer));
    story.name = name.map(ToString::to_string);
    let texts = std::iter::once(&mut story.now)
        .chain(story.steps.iter_mut().map(|step| &mut step.text))
        .chain(story.services.iter_mut().map(|of| &mut of.text))
        .chain(story.findings.iter_mut().flat_map(|finding| [&mut finding.why, &mut finding.help]));
    for text in texts {
        *text = names.in_text(text);
    }
    story
}

fn is_up(relay: &RelayStatus) -> bool {
    matches!(relay.state, RelayState::Connected | RelayState::Reserved { .. })
}

fn everybody(status: &Status, memory: &Memory) -> Vec<PeerId> {
    let mut peers: Vec<PeerId> = status.peers.iter().map(|found| found.peer).collect();
    peers.extend(memory.familiar().chain(status.relays.iter().map(|found| found.relay)));
    let mut named = std::collections::BTreeSet::new();
    peers.retain(|peer| named.insert(*peer));
    peers
}

/// What is not known is said by an empty text.
fn nat(kind: NatKind) -> String {
    if kind == NatKind::default() { String::new() } else { kind.to_string() }
}

fn here(facts: &Facts<'_>) -> Side {
    let Facts { status, surroundings, .. } = facts;
    Side {
        nat: nat(status.nat_v4),
        nat_v6: nat(status.nat_v6),
        public_addresses: surroundings.public.iter().flatten().map(ToString::to_string).collect(),
        addresses: status.candidates.iter().map(|candidate| candidate.address.to_string()).collect(),
    }
}

fn there(facts: &Facts<'_>) -> Side {
    let direct = |found: &&PeerStatus| -> Vec<Multiaddr> {
        let direct = found.connections.iter().filter(|found| found.path.is_direct());
        direct.map(|found| found.address.clone()).collect()
    };
    let mut addresses: Vec<String> = Vec::new();
    let mut add = |address: &Multiaddr| {
        let address = address.to_string();
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    };
    facts.connected.as_ref().map(direct).unwrap_or_default().iter().for_each(&mut add);
    if let Some(relay) = facts.relay {
        relay.addresses.iter().for_each(|relay| add(relay.address()));
    }
    for moment in facts.remembered.map(Remembered::steps).unwrap_or_default().iter().rev() {
        match &moment.step {
            Step::Dialled { addresses, .. } => addresses.iter().for_each(&mut add),
            Step::StayedRelayed { tried, .. } => tried.iter().for_each(|tried| add(&tried.address)),
            _ => {}
        }
    }
    let kind = facts.remembered.and_then(|remembered| remembered.nat).unwrap_or_default();
    Side { nat: nat(kind), addresses, ..Side::default() }
}

fn steps(remembered: Option<&Remembered>, now: Instant) -> Vec<proto::Step> {
    let moments = remembered.map(Remembered::steps).unwrap_or_default();
    let step = |moment: &&Moment| proto::Step {
        ago_seconds: now.saturating_duration_since(moment.at).as_secs_f64(),
        count: moment.count,
        text: text::step(&moment.step),
        addresses: text::tried(&moment.step),
    };
    moments.iter().map(step).collect()
}

fn services(remembered: Option<&Remembered>, now: Instant) -> Vec<proto::Use> {
    let uses = remembered.into_iter().flat_map(Remembered::uses);
    let of = uses.map(|(service, of)| proto::Use {
        service: service.to_string(),
        ago_seconds: now.saturating_duration_since(of.at).as_secs_f64(),
        count: of.count,
        text: text::outcome(&of.outcome),
        opened: of.outcome == crate::report::Outcome::Opened,
    });
    of.collect()
}

fn finding(finding: Finding) -> proto::Finding {
    let Finding { fault, why, help } = finding;
    proto::Finding { fault: fault.word().to_owned(), why, help }
}

/// Of a direct path to a peer that is relayed, of any to one that is not reached, or of the link to a relay.
fn next_attempt(facts: &Facts<'_>, now: Instant) -> Option<f64> {
    let next = match (facts.relay, facts.connected) {
        (Some(relay), _) => match relay.state {
            RelayState::Down { retry } => retry,
            _ => None,
        },
        (None, Some(peer)) => peer.next_attempt,
        (None, None) => {
            let steps = facts.remembered.map(Remembered::steps).unwrap_or_default();
            let retry = |moment: &&Moment| match moment.step {
                Step::NotReached { retry: Some(retry), .. } => {
                    (moment.at + retry).checked_duration_since(now)
                }
                _ => None,
            };
            steps.iter().rev().find_map(retry)
        }
    };
    next.map(|next| next.as_secs_f64())
}

#[cfg(test)]
mod tests;

//! What is in the way between this node and a peer, and what would help. Pure.
//!
//! Without a connection, why there is none comes first. With one, services do: whoever was refused need not look at paths;
//! then, why a relayed one is not direct. What is wrong beside that comes last.

mod reach;
mod relays;
mod services;
mod upgrade;

use std::collections::HashSet;

use libp2p::PeerId;
use punchline_bridge::{
    Status,
    status::{PeerStatus, RelayStatus},
};

use super::fault::Fault;
use crate::report::{Remembered, Surroundings, clocks_apart};

/// Findings that are told: more do not help anybody.
pub(super) const FINDINGS_MAX: usize = 6;

/// Something is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) fault: Fault,
    /// What, in words.
    pub(crate) why: String,
    /// What would help.
    pub(crate) help: String,
}

impl Finding {
    fn new(fault: Fault, why: impl Into<String>, help: impl Into<String>) -> Self {
        Self { fault, why: why.into(), help: help.into() }
    }
}

/// All that is known of the two.
pub(crate) struct Facts<'a> {
    pub(crate) peer: PeerId,
    pub(crate) status: &'a Status,
    /// How the peer is connected.
    pub(crate) connected: Option<&'a PeerStatus>,
    /// The peer is a relay that this node uses.
    pub(crate) relay: Option<&'a RelayStatus>,
    pub(crate) remembered: Option<&'a Remembered>,
    pub(crate) surroundings: &'a Surroundings,
}

/// The first one counts most; none if nothing is in the way.
pub(crate) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = services::findings(facts);
    match (facts.relay, facts.connected) {
        (Some(relay), _) => found.extend(relays::finding(relay)),
        (None, None) => {
            found.splice(..0, unreached(facts));
        }
        (None, Some(peer)) if !peer.path.is_direct() => found.extend(upgrade::findings(facts, peer)),
        (None, Some(_)) => {}
    }
    if facts.relay.is_none() {
        let known = is_known(&found);
        let relays = facts.status.relays.iter().filter(|relay| !known || relays::is_decided(relay));
        found.extend(relays.filter_map(relays::finding));
    }
    found.extend(clock(facts));
    let mut told = HashSet::new();
    found.retain(|finding| told.insert(finding.why.clone()));
    found.truncate(FINDINGS_MAX);
    found
}

/// Where no relay is of use, this is why no peer behind one is reached.
fn unreached(facts: &Facts<'_>) -> Vec<Finding> {
    let relays = &facts.status.relays;
    let cut_off = !relays.is_empty() && !relays.iter().any(relays::serves);
    let failed = reach::findings(facts);
    let known = is_known(&failed);
    let told = relays.iter().filter(|relay| cut_off && (!known || relays::is_decided(relay)));
    let mut found: Vec<Finding> = told.filter_map(relays::finding).collect();
    let told: Vec<Fault> = found.iter().map(|finding| finding.fault).collect();
    found.extend(failed.into_iter().filter(|finding| !told.contains(&finding.fault)));
    found
}

/// Whether it is told already what is wrong with a relay: that it is being dialled again says no more.
fn is_known(found: &[Finding]) -> bool {
    let of_relay = [Fault::RelayDown, Fault::RelaySilent, Fault::WrongRelay];
    found.iter().any(|finding| of_relay.contains(&finding.fault))
}

/// Relays do not mind, tickets do. Each relay's latest word counts, for as long as it keeps a place for this node.
fn clock(facts: &Facts<'_>) -> Option<Finding> {
    let told = |relay: &RelayStatus| Some((relay.relay, relay.clock_ahead?));
    let (relay, seconds) = facts.status.relays.iter().find_map(told)?;
    let way = if seconds < 0 { "behind" } else { "ahead of" };
    Some(Finding::new(
        Fault::ClockDiffers,
        format!("the clock of relay {relay} is {} {way} ours", clocks_apart(seconds)),
        "set the clock that is wrong: tickets go by it",
    ))
}

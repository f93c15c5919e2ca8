//! How upgrades stand, for whoever asks.

use std::time::Instant;

use libp2p::PeerId;

use super::{
    Upgrades,
    upgrade::{Phase, Upgrade},
};
use crate::error::UpgradeFailure;

/// Whose turn it is to begin the next round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resting {
    /// This end's.
    Ours,
    /// The other end's, which has begun at least once.
    Theirs,
}

impl Upgrades {
    /// Why a peer stays relayed, as far as it is known, and when the next round begins.
    pub(crate) fn standing(&self, peer: PeerId) -> Option<(Option<&UpgradeFailure>, Option<Instant>)> {
        let upgrade = self.peers.get(&peer)?;
        let next = match upgrade.phase {
            Phase::Resting { until } => until,
            _ => None,
        };
        Some((upgrade.findings.latest(), next))
    }

    /// The peers with which nothing is under way before the next round.
    pub(crate) fn resting(&self, now: Instant) -> Vec<(PeerId, Resting)> {
        let whose = |upgrade: &Upgrade| match upgrade.phase {
            Phase::Resting { until: Some(until) } if upgrade.begins && until > now => {
                Some(Resting::Ours)
            }
            Phase::Resting { .. } if !upgrade.begins && upgrade.attempts > 0 => Some(Resting::Theirs),
            _ => None,
        };
        let all = self.peers.iter().filter(|_| self.allowed);
        all.filter_map(|(peer, upgrade)| Some((*peer, whose(upgrade)?))).collect()
    }
}

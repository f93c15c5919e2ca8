//! How upgrades stand, for whoever asks.

use std::time::Instant;

use libp2p::PeerId;

use super::{Upgrades, upgrade::Phase};
use crate::error::UpgradeFailure;

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
}

//! How relayed connections became direct ones.

use serde::Serialize;

use crate::{nat::NatClass, path::Transport};

/// By which way a peer is reached that was reached through a relay at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Within one network, or on one host.
    Lan,
    /// Both ends dialled at the same moment.
    Punch,
    /// The peer lets in whoever calls, and this end called.
    Reversal,
    /// To an address that is mapped at the router of the end that was dialled.
    Mapped,
    /// A usual dial of this end to an address that it knew.
    Known,
    /// The peer dialled, in whichever way.
    Inbound,
    /// None of the others: it stays on the relay. Only in counts.
    Relay,
}

/// How many upgrades came to the same. Each [`UpgradeSucceeded`](crate::Event::UpgradeSucceeded) and each
/// [`UpgradeFailed`](crate::Event::UpgradeFailed) is counted once; a peer that is reached directly after a failure was
/// told counts in two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UpgradeCount {
    /// What this node was behind.
    pub local_nat: NatClass,
    /// What the peers were behind, as they said.
    pub remote_nat: NatClass,
    /// What carries the connection that the upgrade came to; of a relayed one, our link to the relay.
    pub transport: Transport,
    /// How that came about; [`Rung::Relay`] where it failed.
    pub rung: Rung,
    /// How often since the node's start.
    pub count: u64,
}

//! Who may enter the routing table, and so be told to others and be asked: only whom we reached ourselves.
//!
//! Identities are free, so a table that takes whoever speaks up fills with one attacker's. Here a peer must say by identify
//! that it serves Kademlia in our network, must be reached by a dial of ours at a public address (a connection from it
//! proves nothing of the kind), and must not be one too many from its part of the internet: see [`groups`]. Who is
//! there stays, as long as it can be reached: long life is what an attacker finds hardest to forge.
//!
//! Only the addresses at which a peer was reached enter the table, so nobody uses our answers to have others dialled.
//!
//! ```text
//! identified ──> waiting ──> dialled back ──reached──> admitted ──unreached 3 times, or shunned──> removed
//!                               └──not reached──> rests for ten minutes
//! ```
//!
//! Pure: whoever drives it does what [`Action`] says. `machine` decides.

pub mod groups;
mod machine;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId};

use self::groups::Crowd;
pub use self::machine::Admission;
use crate::record::AddressPolicy;

/// Peers that wait to be dialled back. One more is not looked at; it is when it identifies itself again.
pub const WAITING_MAX: usize = 256;

/// Peers that are dialled back at once.
pub const DIALS_MAX: usize = 8;

/// So long a dial may take.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// Addresses of one peer that are dialled, and that are in the table: libp2p bounds neither.
pub const ADDRESSES_MAX: usize = 8;

/// Whoever was not reached is not dialled back again before.
pub const REST: Duration = Duration::from_secs(10 * 60);

/// Peers that rest. Beyond it the one that has rested longest need not.
pub const RESTING_MAX: usize = 1024;

/// Peers that are in the table: libp2p's own limits are 20 for each bucket, of which some 20 are ever used.
pub const ADMITTED_MAX: usize = 1024;

/// A peer of the table that is not reached so often in [`FAILURES_WITHIN`] leaves it.
pub const FAILURES_MAX: usize = 3;

/// See [`FAILURES_MAX`].
pub const FAILURES_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Where a bucket is full of peers that were reached within this time, another one is not looked at. Each bucket is looked
/// into every half hour.
pub const REACHED_LATELY: Duration = Duration::from_secs(45 * 60);

/// What whoever admits must know.
#[derive(Clone)]
pub struct Settings {
    /// This node.
    pub local: PeerId,
    /// Peers in one bucket of the table, at most.
    pub bucket_size: usize,
    /// Peers that our operator named: they are let in at any address, however many there are of their kind.
    pub trusted: BTreeSet<PeerId>,
    /// Which addresses are dialled and handed on.
    pub addresses: Arc<dyn AddressPolicy>,
    /// Addresses that belong to no part of the internet, such as those of a private network in which all nodes are.
    pub exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A peer said by identify what it is. Not to be told of one that is shunned.
    Identified {
        /// Who.
        peer: PeerId,
        /// Whether it lists the protocol of our network's Kademlia, so that it answers.
        serves: bool,
        /// Where it says it listens.
        addresses: Vec<Multiaddr>,
    },
    /// A dial of ours led to the peer, as the handshake proved.
    Reached {
        /// Who.
        peer: PeerId,
        /// Where; whatever follows the peer's id at the end is not looked at.
        address: Multiaddr,
    },
    /// A dial did not lead to the peer: one that was asked for by [`Action::Dial`], or any other.
    Unreached {
        /// Who.
        peer: PeerId,
    },
    /// libp2p has not taken it into the table, or put it out.
    Left {
        /// Who.
        peer: PeerId,
    },
    /// It is shunned from now on: see [`Scores`](crate::score::Scores).
    Shunned {
        /// Who.
        peer: PeerId,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial these addresses, even if the peer is connected, and say which one led to it, or that none did.
    Dial {
        /// Who.
        peer: PeerId,
        /// Where.
        addresses: Vec<Multiaddr>,
    },
    /// Add the address of the peer to the table.
    Admit {
        /// Who.
        peer: PeerId,
        /// Where it was reached.
        address: Multiaddr,
    },
    /// Remove the peer from the table.
    Remove {
        /// Who.
        peer: PeerId,
    },
}

/// Why a peer is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denial {
    /// It does not answer questions in our network.
    #[error("it does not serve Kademlia in our network")]
    NoServer,
    /// It names no address that could be dialled.
    #[error("it names no direct address that the policy admits")]
    NoAddress,
    /// It was tried a while ago.
    #[error("it was not reached less than {} min ago", REST.as_secs() / 60)]
    Rests,
    /// Its bucket is full.
    #[error("its bucket is full of peers that were reached less than {} min ago", REACHED_LATELY.as_secs() / 60)]
    Bucket,
    /// Too many wait already.
    #[error("{WAITING_MAX} peers wait to be dialled")]
    Busy,
    /// There it is not.
    #[error("a dial did not lead to it")]
    Unreached,
    /// There are as many of its kind as may be.
    #[error("{0}")]
    Crowd(#[from] Crowd),
    /// There are as many as may be.
    #[error("{ADMITTED_MAX} peers are in the table")]
    Full,
}

impl Denial {
    /// Its name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoServer => "no_server",
            Self::NoAddress => "no_address",
            Self::Rests => "rests",
            Self::Bucket => "bucket",
            Self::Busy => "busy",
            Self::Unreached => "unreached",
            Self::Crowd(_) => "crowd",
            Self::Full => "full",
        }
    }
}

//! Which connections are up and which is the best; where peers are, and how they are reached; how a relayed connection
//! becomes a direct one.
//!
//! - [`connections`]: which are up, which is the best, who uses them, which went quiet;
//! - [`door`]: who may have a connection; [`places`]: how those of one source share places with others;
//! - [`dials`]: where is a peer, and what have we tried; [`holds`]: to whom a connection is kept;
//! - [`candidates`]: where we may be reached; [`mapping`]: which ports our router is to forward; [`confirmed`]: which of
//!   our addresses others reach; [`stated`]: those that our operator says; [`nat`]: what kind of NAT we are behind;
//! - [`upgrades`]: who is reached only through a relay, and when to punch;
//! - [`introductions`]: who is reached through a relay that is not to carry streams;
//! - [`familiar`]: whom we know; [`allowance`]: how many addresses that others named may be dialled; [`bans`]: and at which
//!   of them somebody else answered.
//!
//! What needs several of them at once is told in [`reaching`], [`observing`], [`punching`] and [`networks`].

pub(in crate::engine) mod allowance;
pub(in crate::engine) mod bans;
pub(crate) mod candidates;
pub(in crate::engine) mod confirmed;
pub(in crate::engine) mod connections;
pub(in crate::engine) mod dials;
pub(crate) mod door;
pub(in crate::engine) mod familiar;
pub(in crate::engine) mod holds;
pub(in crate::engine) mod introductions;
pub(in crate::engine) mod mapping;
pub(crate) mod nat;
pub(in crate::engine) mod networks;
pub(in crate::engine) mod observing;
pub(crate) mod places;
pub(in crate::engine) mod punching;
pub(in crate::engine) mod reaching;
pub(crate) mod stated;
pub(in crate::engine) mod upgrades;

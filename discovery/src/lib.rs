//! Find peers: where somebody may be whom this node wants to reach, and where others find this node.
//!
//! A *source* gives *hints*: this peer may be at these addresses. A hint proves nothing; whoever dials proves it by the
//! handshake. So a hint costs whoever follows it a dial, and that is why only hints about peers that are *sought* are
//! handed on, each of them only so often, and why every source is bounded.
//!
//! This crate knows no connection and no stream. Who uses it hands the hints to what dials, and says where it listens.
//!
//! # Map, in reading order
//!
//! - [`Hint`], [`Source`]: what is found; [`Lookup`], [`Publish`]: what every source of hints can do;
//! - [`Discovery`]: the face: seek, take hints, say where we are, list what is known;
//! - `book`: who is sought, what is known of whom, what is worth handing on; pure;
//! - [`record`]: what peers sign of themselves, and the one way to believe it; [`keys`]: where it is found (feature
//!   `records`); pure;
//! - [`store`]: what Kademlia keeps here, for whom; [`admission`]: who enters its routing table (feature `kad`); pure;
//! - [`score`]: how peers behave, and where they are not; pure;
//! - [`verify`]: whether all of this works, found out in six steps (feature `kad`);
//! - `task`: how a source that runs in a task of its own is talked to;
//! - `cache`: where peers were reached before, on disk (feature `cache`); `mdns`: who
//!   says on the local network where it is (feature `mdns`); `kad`: a DHT of nodes like this one (feature `kad`);
//! - [`mainline`]: the 160-bit network of BitTorrent clients, public or private (feature `mainline`); [`pkarr`]: DNS records
//!   that peers sign, which it keeps (feature `pkarr`);
//! - `dns`: domains that say where peers are (feature `dns`); `rendezvous`: a meeting point, and being one (feature
//!   `rendezvous`).
//!
//! `design/discovery.md` says what each source is worth and what an attacker can do with it.

#![forbid(unsafe_code)]

#[cfg(feature = "kad")]
pub mod admission;
mod book;
#[cfg(feature = "cache")]
mod cache;
mod discovery;
#[cfg(feature = "dns")]
pub mod dns;
mod driver;
mod hint;
#[cfg(feature = "kad")]
pub mod kad;
#[cfg(feature = "records")]
pub mod keys;
#[cfg(feature = "mainline")]
pub mod mainline;
#[cfg(feature = "mdns")]
mod mdns;
#[cfg(feature = "records")]
mod moment;
#[cfg(feature = "records")]
mod network;
pub mod pkarr;
#[cfg(any(feature = "mainline", feature = "rendezvous"))]
mod plans;
#[cfg(feature = "records")]
pub mod record;
#[cfg(feature = "rendezvous")]
pub mod rendezvous;
pub mod score;
mod source;
#[cfg(feature = "kad")]
pub mod store;
#[cfg(any(feature = "dns", feature = "mainline", feature = "mdns", feature = "rendezvous"))]
mod task;
#[cfg(any(feature = "kad", feature = "rendezvous"))]
mod transport;
#[cfg(feature = "kad")]
pub mod verify;

pub use self::{
    book::{Full, Known},
    discovery::{Config, Discovery, Hints, StartError},
    hint::{Hint, Source},
    source::{Lookup, Publish},
};
#[cfg(feature = "records")]
pub use self::{
    moment::UnixTime,
    network::{NETWORK_BYTES_MAX, Network, NetworkError},
};

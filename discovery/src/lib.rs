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
//! - `cache`: where peers were reached before, on disk (feature `cache`); `mdns`: who
//!   says on the local network where it is (feature `mdns`).
//!
//! `design/discovery.md` says what each source is worth and what an attacker can do with it.

#![forbid(unsafe_code)]

mod book;
#[cfg(feature = "cache")]
mod cache;
mod discovery;
mod driver;
mod hint;
#[cfg(feature = "mdns")]
mod mdns;
mod source;

pub use self::{
    book::{Full, Known},
    discovery::{Config, Discovery, Hints},
    hint::{Hint, Source},
    source::{Lookup, Publish},
};

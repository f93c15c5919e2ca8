//! A model of how peers are found by a key, for networks of which no machine could run the real thing.
//!
//! Kademlia gives every peer a place, and every key too. A peer knows many peers near its own place and few far away.
//! Whoever looks a key up asks the nearest peers that it knows, and then the nearest that these name, until the nearest
//! `k` have all answered. This crate does that with numbers in place of peers, in memory, from a seed: the same seed gives
//! the same figures on every machine.
//!
//! In reading order:
//!
//! - [`key`]: places and distances.
//! - [`lookup`]: whom a lookup asks, and when it ends; by one path or by several that hear nothing of each other.
//! - [`population`]: a network at rest, whose tables are samples of who there is; dead peers and liars.
//! - [`scale`]: hops and requests by the number of peers.
//! - [`liars`]: a share of all peers lies.
//! - [`placement`]: an attacker's identities lie nearest to a key; with and without each defence.
//! - [`crowd`]: whom else a publisher tells that notices them, and whether readers find that.
//! - [`living`]: a network whose peers have tables of their own.
//! - [`churn`], [`split`]: in it peers come and go; it splits and heals.
//! - [`standard`], [`report`], [`chart`]: the figures, as text and as a picture.
//! - [`document`]: writes them into `design/discovery-scale.md`.
//!
//! # What it does not model
//!
//! Time on the wire, loss, bandwidth, connections and their handshakes, NATs and relays: a request is answered at once or
//! not at all, so figures are hops and requests, never seconds. Three requests are asked together and then all answered,
//! where a real node asks the next as soon as one answers: it sends more requests for the same lookup. Keys have 64
//! bits. Tables of a network at rest are uniform samples; real ones prefer peers that have been there for long, which
//! is harder for an attacker who comes late. IP networks have one size. Records are not copied on by those who hold them.

#![forbid(unsafe_code)]

pub mod chart;
pub mod churn;
pub mod crowd;
pub mod document;
pub mod key;
pub mod liars;
pub mod living;
pub mod lookup;
pub mod placement;
pub mod population;
pub mod report;
pub mod scale;
pub mod split;
pub mod standard;

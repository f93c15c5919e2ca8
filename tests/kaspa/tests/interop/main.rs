//! A peer made of the published kaspa-p2p-lib, and ours: first our protocol alone over TCP, then the
//! shipped programs.
//!
//! - `messages`: the same words on the wire;
//! - `sessions`: what works, whoever dials and whichever version is spoken;
//! - `refusals`: every refusal, seen from both sides, whoever dials;
//! - `programs`: server and client, reached through forward and expose.

#![forbid(unsafe_code)]

mod messages;
mod programs;
mod refusals;
mod sessions;
mod world;

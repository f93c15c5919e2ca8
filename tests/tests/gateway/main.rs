//! Unmodified programs reach each other through `punchline expose` and `punchline forward`. Proven with
//! the shipped program, on loopback.

#![allow(clippy::unwrap_used)]

mod access;
mod carrying;
mod first_hour;
mod patience;
mod refusals;
mod restarts;
mod settings;
mod tickets;
mod world;

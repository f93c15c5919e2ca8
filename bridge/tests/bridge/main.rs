//! What the crate promises, with real swarms over loopback, and the order of its layers.
//!
//! One program, since each one takes long to link. Nothing sleeps: every wait is for an event, within
//! [`world::PATIENCE`].

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod attacker;
mod candidates;
mod layering;
mod moves;
mod open;
mod relay;
mod requests;
mod silence;
mod stream;
mod upgrade;
mod world;

//! What the crate promises, with real swarms over loopback, and the order of its layers.
//!
//! One program, since each one takes long to link. Nothing sleeps: every wait is for an event, within
//! [`world::PATIENCE`].

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod attacker;
mod candidates;
mod circuit;
mod circuit_wire;
mod handmade;
mod hello;
mod layering;
mod limits;
mod moves;
mod nearer;
mod open;
mod ordinary;
mod punch;
mod ranges;
mod reachability;
mod relay;
mod relay_hand;
mod relay_limits;
mod relay_mode;
mod relay_stock;
mod relay_words;
mod requests;
mod scanner;
mod secured;
mod silence;
mod sought;
mod stock;
mod stream;
mod stun;
mod upgrade;
mod web;
mod web_proxy;
mod world;

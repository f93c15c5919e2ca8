//! The command line is a contract: operators and scripts rely on it. Proven with the shipped programs,
//! on loopback.

#![allow(clippy::unwrap_used)]

mod arguments;
mod cautions;
mod checklist;
mod crowd;
mod demo;
mod dht_flood;
mod doctor;
mod events;
mod hangups;
mod identity;
mod install;
mod metrics;
mod names;
mod nets;
mod page;
mod relay_status;
mod seeds;
mod seen;
mod services;
mod sessions;
mod settings;
mod status;
mod stopping;
mod tickets;
mod waits;
mod why;
mod world;

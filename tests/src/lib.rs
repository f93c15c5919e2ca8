//! Where punchline is proven: NATs in network namespaces, real processes, scenarios, benches.
//!
//! In reading order:
//!
//! - [`lab`]: a small internet of network namespaces, with a relay host and NAT routers.
//! - [`process`]: starts the shipped programs, on the host or in the lab, and waits for their events.
//! - [`scene`]: a relay, a server and a client in a lab, as most scenarios want them.
//! - [`matrix`]: that scene behind every pair of NATs, and what physics lets one expect of each.
//! - [`relay_death`]: how long a session takes to go on over the other of two relays.
//! - [`switching`]: what a conversation notices when hosts change networks.
//! - [`rehearsal`]: the runbook for three real machines, executed in a lab.
//! - [`guide`]: a guide for people, read so that a test can follow it word by word.
//! - [`kaspad`]: stock Kaspa nodes, started like those, and asked over their RPC.
//! - [`ports`]: ports for programs that must be told theirs beforehand.
//! - [`trial`]: runs tests that need the lab or a stock node, and says loudly when they cannot run.
//!
//! The tests themselves are in `tests/`: `lab` proves the lab, `process.rs` the process
//! harness, and only then `nat` uses both to prove the product.

#![forbid(unsafe_code)]

pub mod guide;
pub mod kaspad;
pub mod lab;
pub mod matrix;
pub mod ports;
pub mod process;
pub mod rehearsal;
pub mod relay_death;
pub mod scene;
pub mod switching;
pub mod trial;

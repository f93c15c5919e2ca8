//! The two machines in a small world: what must hold whatever happens to the legs.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod corpus;
mod exhaustive;
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
mod hello;
mod memory;
mod moments;
mod parked;
mod plain;
mod random;
mod refusals;
mod throughput;
mod world;

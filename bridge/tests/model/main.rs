//! The two machines in a small world: what must hold whatever happens to the legs.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod exhaustive;
mod moments;
mod random;
mod refusals;
mod throughput;
mod world;

//! The node room acts: the only place that runs a node's swarm.
//!
//! [`driver`] is the loop; `legs` joins substreams and streams; `streams` keeps the books of streams.

pub(crate) mod driver;
mod legs;
mod streams;

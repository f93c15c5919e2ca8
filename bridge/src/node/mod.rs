//! The node room acts: the only place that runs a node's swarm.
//!
//! [`driver`] is the loop: it does what the engine says and tells it what came of it. `legs` joins substreams and
//! streams, `requests` keeps what peers ask for until somebody decides, `books` knows the streams that live
//! and those that ended lately.

mod books;
pub(crate) mod driver;
mod legs;
pub(crate) mod requests;

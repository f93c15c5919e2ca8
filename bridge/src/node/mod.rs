//! The node room acts: the only place that runs a node's swarm.
//!
//! [`driver`] is the loop: it does what the engine says and tells it what came of it; [`command`] is what programs ask
//! of it. `legs` joins substreams and
//! streams, `greetings` says HELLO until it is answered, `requests` serves what peers ask for, `undecided` keeps it
//! until somebody decides; `books` knows the streams that live, `tombstones` those that are over; `journal` writes down
//! what the engine is told, `pace` bounds how fast a peer is refused; `vigil` notices when what goes out leaves from another
//! address of this host, and when it slept.

mod books;
pub(crate) mod command;
pub(crate) mod driver;
mod greetings;
pub(crate) mod journal;
mod legs;
mod pace;
pub(crate) mod requests;
mod tombstones;
mod undecided;
mod vigil;

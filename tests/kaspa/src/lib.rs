//! A Kaspa peer that nobody here wrote, to test against: the published kaspa-p2p-lib.
//!
//! That library brings the connection, the router and the handshake's messages; what a node checks
//! in a handshake and answers in a session is the node's, and here it is [`Manners`]: a stock node's
//! unless a test says otherwise. [`Peer`] is the running peer, and [`journal`] is what upstream logs
//! about it, which is the only place where it says why it was refused.
//!
//! A crate apart, because upstream's build needs protoc and the product's must not.

#![forbid(unsafe_code)]

pub mod journal;

mod manners;
mod peer;

pub use manners::{Demands, Manners};
pub use peer::{Heard, Peer};

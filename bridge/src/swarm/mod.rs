//! The swarm room acts: the only place that knows libp2p's swarm.
//!
//! [`build`] makes one, [`behaviour`] says what it speaks, [`substream`] opens our substreams,
//! [`translate`] reads its events, [`driver`] runs a node and [`forwarder`] runs a relay.

pub(crate) mod behaviour;
pub(crate) mod build;
mod carriage;
pub(crate) mod driver;
pub(crate) mod forwarder;
mod hangup;
mod local;
pub(crate) mod pace;
mod streams;
pub(crate) mod substream;
mod tenants;
pub(crate) mod traffic;
pub(crate) mod translate;

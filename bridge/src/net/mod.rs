//! The net room knows libp2p: [`transports`] makes swarms and [`listen`] lets them listen, `direct` connects
//! over TCP and QUIC (by names: `resolve`; in sandboxes: `each`), [`behaviour`] says what a node speaks,
//! [`circuit`] talks with relays, [`substream`] opens our substreams, [`dcutr`] speaks about hole punches,
//! [`control`] says short words, [`door`] turns away what is too much, [`guard`] looks at what names led to, [`translate`] reads the swarm's events.

pub(crate) mod behaviour;
mod cause;
pub(crate) mod circuit;
pub(crate) mod control;
pub(crate) mod dcutr;
pub(crate) mod delimited;
mod direct;
pub(crate) mod door;
mod each;
pub(crate) mod guard;
mod hangup;
pub(crate) mod listen;
pub(crate) mod local;
mod muxer;
mod names;
mod resolve;
pub(crate) mod substream;
pub(crate) mod translate;
pub(crate) mod transports;
pub(crate) mod unread;

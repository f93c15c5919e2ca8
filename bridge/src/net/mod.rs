//! The net room knows libp2p: [`transports`] makes swarms and [`listen`] lets them listen, `direct` connects over TCP and
//! QUIC (by names: `resolve`, names of relays: [`relay_names`]; from a port of its own in each network: `fresh`; in
//! sandboxes: `each`), [`web`] over WebSockets and through proxies, `secured` makes secure, multiplexed connections of what
//! is neither (`secure` is TLS or Noise, `agree` which of them, `batch` and `lent` move much at once), [`behaviour`] says
//! what a node speaks, [`circuit`] talks with relays, [`substream`] opens our substreams, [`dcutr`] speaks about hole
//! punches, [`control`] says short words, [`stun`] asks how others see us, [`mapping`] has our router forward ports,
//! [`autonat`] has relays test addresses, [`translate`] reads the swarm's events. What bounds strangers: [`door`] turns away
//! connections that are too many, [`unread`] counts what nobody has read (`muxer` is Yamux with that), [`guard`] looks at
//! what names led to; [`hurry`] gives punches a shorter deadline, [`turns`] one kind of a relay's addresses a head start
//! before the next; `reset` frees the ports of dead connections. [`survey`] looks at a network without a node. `outbox` is
//! what behaviours keep for the swarm.

mod agree;
pub(crate) mod autonat;
mod batch;
pub(crate) mod behaviour;
pub(crate) mod boxed;
mod cause;
pub(crate) mod circuit;
pub(crate) mod control;
pub(crate) mod dcutr;
pub(crate) mod delimited;
mod direct;
pub(crate) mod door;
mod each;
mod fresh;
pub(crate) mod guard;
mod hangup;
pub(crate) mod hurry;
mod lent;
pub(crate) mod listen;
pub(crate) mod local;
pub(crate) mod mapping;
mod muxer;
mod names;
mod nat64;
mod outbox;
pub(crate) mod ping;
mod quic;
pub(crate) mod relay_names;
mod reset;
mod resolve;
mod secure;
mod secured;
pub(crate) mod speak;
pub(crate) mod stun;
pub(crate) mod substream;
pub mod survey;
pub(crate) mod translate;
pub(crate) mod transports;
pub(crate) mod turns;
pub(crate) mod unread;
pub(crate) mod watched;
pub(crate) mod web;

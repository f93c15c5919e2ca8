//! Reach a peer that sits behind a NAT, and hand over a byte stream to it.
//!
//! A node holds a reservation with a public relay; a peer reaches it through that relay, both punch
//! through their NATs, and from then on the traffic goes directly. gRPC runs over the streams: see
//! [`grpc`].
//!
//! # Map, in reading order
//!
//! - [`Endpoint`]: the face of a node; [`Incoming`] and [`Stream`]: what it hands out;
//! - [`config`], [`error`], [`event`], [`status`]: every setting, every failure, everything that can happen, and how a node
//!   is at one moment;
//! - [`path`], [`addr`], [`proxy`], [`Service`]: the vocabulary; [`survey`]: a network looked at without a node;
//! - `engine`: decides, and is pure; `net`: knows libp2p; `node`: acts;
//! - [`grpc`]: meets tonic; [`relay`]: the one that introduces peers to each other.

#![forbid(unsafe_code)]

pub mod addr;
pub mod config;
mod endpoint;
mod engine;
pub mod error;
pub mod event;
pub mod grpc;
mod incoming;
pub mod nat;
mod net;
mod node;
pub mod path;
pub mod proxy;
pub mod relay;
pub mod status;
pub mod stream;
mod word;

pub use self::net::survey;
pub use self::{
    addr::{RelayAddr, RelayLocator},
    config::Config,
    endpoint::{Endpoint, Events, OpenOptions, Sought},
    event::Event,
    incoming::{Incoming, Request, Requests},
    path::Path,
    status::Status,
    stream::{Stream, StreamFacts, StreamId},
};
pub use libp2p::{Multiaddr, PeerId, identity::Keypair};
pub use punchline_stream::{SERVICE_NAME_BYTES_MAX, Service, ServiceError};

pub(crate) use punchline_stream::service;

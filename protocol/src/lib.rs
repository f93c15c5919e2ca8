//! Kaspa's P2P protocol over any byte stream.
//!
//! Two nodes that have a byte stream between them speak gRPC over it, and inside one endless
//! call (`/protowire.P2P/MessageStream`) the messages of Kaspa's protocol: Version, Verack and
//! Ready first, then a session of requests, answers, announcements and keepalives. Names,
//! numbers and limits are the protocol's; where a limit of ours is smaller, its comment says
//! so. Nothing here knows how the byte stream came about.
//!
//! A [`Node`] is the whole of it. [`Node::dial`] takes a ready channel and gives a
//! [`Session`]; [`Node::acceptor`] gives a service to mount and a queue of the sessions that
//! came of it. A peer has at most one session, known by its Kaspa id together with what the
//! transport authenticated, so it is one peer whichever path it came by.
//!
//! In reading order:
//! - [`wire`]: the generated types, their kinds, and parsing at the border; [`Network`],
//!   [`Version`] and [`RejectReason`] are what it is parsed into;
//! - [`handshake`]: the decision machine of Version, Verack and Ready; `establish` drives it;
//! - `link`: a call as two lanes out and a stream in; `conversation` is the loop of a session
//!   over it, with the keepalive and addresses of `flows` and the queues of `router`;
//! - [`Session`], [`Node`], [`Acceptor`]: the public face;
//! - [`transport`]: gRPC over a bare byte stream.

#![forbid(unsafe_code)]

pub mod handshake;
pub mod transport;
pub mod wire;

mod acceptor;
mod address_book;
mod admission;
mod conversation;
mod establish;
mod flows;
mod identity;
mod link;
mod network;
mod node;
mod reject;
mod router;
mod session;
mod version;

pub use acceptor::{AcceptService, Accepting, Acceptor, Inbound, REFUSALS_MAX};
pub use address_book::{ADDRESSES_KEPT_MAX, AddressBook};
pub use admission::AdmissionLimit;
pub use flows::{ADDRESSES_ACCEPTED_MAX, ADDRESSES_GIVEN_MAX, ANSWER_TIMEOUT, PING_INTERVAL};
pub use handshake::HandshakeError;
pub use identity::{Direction, Remote, kaspa_id};
pub use link::{ANSWERS_MAX, BULK_MAX, CLOSE_LINGER, TransportError};
pub use network::{Network, ParseNetworkError};
pub use node::{CALL_TIMEOUT, DialError, Node, NodeConfig, NodeLimits};
pub use reject::{REASON_BYTES_MAX, RejectReason};
pub use router::{ROUTE_MESSAGES_MAX, ROUTES_MAX, Route, SubscribeError};
pub use session::{
    EVENTS_MAX, EndCause, PINGS_MAX, PingError, SendError, Session, SessionEvent, SessionFacts,
    SessionHandle,
};
pub use version::{ProtocolVersion, USER_AGENT_BYTES_MAX, USER_AGENT_MARK, UserAgent, Version};
pub use wire::{
    ConversionError, FILE_DESCRIPTOR_SET, KaspadMessage, Payload, PayloadKind, ProtocolError,
};

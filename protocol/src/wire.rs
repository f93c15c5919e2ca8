//! The words on the wire: generated types, the envelope and its two route ids.
//!
//! [`proto`] is generated from `proto/messages.proto`. [`PayloadKind`] names the members
//! of the envelope's oneof; `address` converts what arrives as bare bytes.

mod address;
mod kind;

pub use address::{ConversionError, id_from_bytes, subnetwork_from_message};
pub use kind::PayloadKind;
pub use proto::{KaspadMessage, kaspad_message::Payload};

use thiserror::Error;

/// The generated types, client and server of protobuf package `protowire`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::unwrap_used,
    clippy::large_enum_variant
)]
pub mod proto {
    tonic::include_proto!("protowire");
}

/// The encoded file descriptor set of package `protowire`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("protowire_descriptor");

/// Largest message we decode: 256 MiB, as the published 2.1.0 nodes do. A larger bound lets
/// one peer take that much memory; a smaller one refuses messages that real nodes send.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Most transaction ids in one announcement or request (upstream's number).
pub const TRANSACTION_IDS_MAX: usize = 131_072;

/// Bytes of a transaction id.
pub const TRANSACTION_ID_BYTES: usize = 32;

/// The route id that means "by type": upstream's blank route.
pub const BLANK_ROUTE_ID: u32 = 0;

impl KaspadMessage {
    /// A message with `payload` that is dispatched by type: both route ids are 0.
    pub fn new(payload: Payload) -> Self {
        Self { response_id: BLANK_ROUTE_ID, request_id: BLANK_ROUTE_ID, payload: Some(payload) }
    }

    /// A request whose answer shall carry `request_id` back as its response id.
    pub fn request(payload: Payload, request_id: u32) -> Self {
        Self { request_id, ..Self::new(payload) }
    }

    /// The answer to `request`: carries its request id back, and 0 as its own.
    pub fn answer(payload: Payload, request: &Self) -> Self {
        Self { response_id: request.request_id, ..Self::new(payload) }
    }

    /// The kind of the payload, or `None` for an empty message and for a member of the oneof
    /// that this version does not know.
    pub fn kind(&self) -> Option<PayloadKind> {
        self.payload.as_ref().map(PayloadKind::of)
    }
}

/// The peer broke the protocol in a way that closes the connection without a Reject, as
/// upstream's receive loop does.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The message had no payload, or one whose number we do not know.
    #[error("the message has no payload of a known kind")]
    EmptyPayload,
    /// A known payload that nothing here expects, such as a second Version after Ready.
    #[error("nothing here expects {kind}")]
    NoRoute {
        /// What arrived.
        kind: PayloadKind,
    },
    /// A response id that no request of ours carried, or whose requester is gone.
    #[error("no request of ours has id {response_id}")]
    UnknownResponseId {
        /// The id that came back.
        response_id: u32,
    },
    /// A route's queue was full; the reader is too slow for this peer.
    #[error("the queue for {kind} is full ({limit} messages)")]
    IncomingRouteFull {
        /// What did not fit.
        kind: PayloadKind,
        /// Capacity of the queue, in messages.
        limit: usize,
    },
    /// The peer asks faster than it reads our answers.
    #[error("the queue of answers is full ({limit} messages)")]
    OutgoingRouteFull {
        /// Capacity of the queue, in messages.
        limit: usize,
    },
}

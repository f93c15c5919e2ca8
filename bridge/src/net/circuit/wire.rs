//! The messages of circuit relay v2.
//!
//! Source: libp2p's specification `relay/circuit-v2.md`. Fields from 1000 on are ours: protobuf lets whoever
//! does not know a field skip it, so stock relays and clients are not disturbed by them.

use prost::Message;

/// Between a client and a relay.
pub(crate) const HOP_PROTOCOL: libp2p::StreamProtocol =
    libp2p::StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");

/// Between a relay and the peer that a circuit leads to.
pub(crate) const STOP_PROTOCOL: libp2p::StreamProtocol =
    libp2p::StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");

/// Client to relay, and the relay's answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hop {
    #[prost(enumeration = "HopKind", required, tag = "1")]
    pub(crate) kind: i32,
    /// CONNECT: whom to reach.
    #[prost(message, optional, tag = "2")]
    pub(crate) peer: Option<Peer>,
    /// The answer to RESERVE.
    #[prost(message, optional, tag = "3")]
    pub(crate) reservation: Option<Reservation>,
    /// What one circuit may carry.
    #[prost(message, optional, tag = "4")]
    pub(crate) limit: Option<Limit>,
    #[prost(enumeration = "Status", optional, tag = "5")]
    pub(crate) status: Option<i32>,
    /// Why a relay of ours refused.
    #[prost(message, optional, tag = "1000")]
    pub(crate) refusal: Option<Refusal>,
}

/// Relay to the peer that a circuit leads to, and that peer's answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Stop {
    #[prost(enumeration = "StopKind", required, tag = "1")]
    pub(crate) kind: i32,
    /// CONNECT: who asks.
    #[prost(message, optional, tag = "2")]
    pub(crate) peer: Option<Peer>,
    #[prost(message, optional, tag = "3")]
    pub(crate) limit: Option<Limit>,
    #[prost(enumeration = "Status", optional, tag = "4")]
    pub(crate) status: Option<i32>,
}

/// A peer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Peer {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) addrs: Vec<Vec<u8>>,
}

/// A place that a relay keeps.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reservation {
    /// Unix seconds, by the relay's clock.
    #[prost(uint64, required, tag = "1")]
    pub(crate) expire: u64,
    /// Where the relay is reached.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) addrs: Vec<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) voucher: Option<Vec<u8>>,
    /// How many seconds from now it lasts: two machines' clocks differ, and `expire` minus this is what the
    /// relay's clock shows. Said by relays of ours.
    #[prost(uint64, optional, tag = "1000")]
    pub(crate) seconds: Option<u64>,
}

/// What a circuit may carry.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Limit {
    /// Seconds.
    #[prost(uint32, optional, tag = "1")]
    pub(crate) duration: Option<u32>,
    /// Bytes, in each direction by the specification; relays of ours and libp2p's count both together.
    #[prost(uint64, optional, tag = "2")]
    pub(crate) data: Option<u64>,
}

/// Which limit a refused request hit, and when to come again.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Refusal {
    #[prost(enumeration = "LimitOwner", tag = "1")]
    pub(crate) owner: i32,
    /// The limit, as a count.
    #[prost(uint64, tag = "2")]
    pub(crate) limit: u64,
    /// Milliseconds after which the same request may succeed; 0 if that is not known.
    #[prost(uint64, tag = "3")]
    pub(crate) retry_after_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum HopKind {
    Reserve = 0,
    Connect = 1,
    Status = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum StopKind {
    Connect = 0,
    Status = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Status {
    Unused = 0,
    Ok = 100,
    ReservationRefused = 200,
    ResourceLimitExceeded = 201,
    PermissionDenied = 202,
    ConnectionFailed = 203,
    NoReservation = 204,
    MalformedMessage = 400,
    UnexpectedMessage = 401,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum LimitOwner {
    Unknown = 0,
    /// The relay's, for all its clients together.
    Relay = 1,
    /// That of the asker's IP address or network.
    Address = 2,
    /// The asker's own.
    Peer = 3,
    /// That of the peer which the circuit leads to.
    Destination = 4,
}

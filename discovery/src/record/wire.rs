//! The payload of a record, as protobuf. Field numbers never change meaning; another meaning is another payload type.

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Payload {
    #[prost(string, tag = "1")]
    pub(super) network: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) peer: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(super) sequence: u64,
    #[prost(uint64, tag = "4")]
    pub(super) issued_ms: u64,
    #[prost(uint64, tag = "5")]
    pub(super) expires_ms: u64,
    #[prost(oneof = "Body", tags = "16, 17, 18")]
    pub(super) body: Option<Body>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "16")]
    Contact(Contact),
    #[prost(message, tag = "17")]
    Delegation(Delegation),
    #[prost(message, tag = "18")]
    Value(Value),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Contact {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) addresses: Vec<Vec<u8>>,
    /// Bits, as in [`super::Capabilities`]. Unknown ones mean nothing.
    #[prost(uint32, tag = "2")]
    pub(super) capabilities: u32,
    /// 1 public, 2 private; all else is unknown.
    #[prost(uint32, tag = "3")]
    pub(super) reach: u32,
    /// 1 independent of the endpoint, 2 dependent on it; all else is unknown.
    #[prost(uint32, tag = "4")]
    pub(super) mapping: u32,
    #[prost(string, repeated, tag = "5")]
    pub(super) services: Vec<String>,
    #[prost(string, tag = "6")]
    pub(super) agent: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Delegation {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) to: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) bytes: Vec<u8>,
}

//! What is said on the substreams of circuit relay v2, for peers that speak it by hand. Written from the specification
//! and from `design/relay.md`, and not from the code that is tested.

use std::io;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Stream, StreamProtocol};
use prost::Message;

pub(crate) const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");
pub(crate) const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");

/// Statuses of the specification.
pub(crate) const OK: i32 = 100;
pub(crate) const RESERVATION_REFUSED: i32 = 200;
pub(crate) const RESOURCE_LIMIT_EXCEEDED: i32 = 201;
pub(crate) const CONNECTION_FAILED: i32 = 203;
pub(crate) const NO_RESERVATION: i32 = 204;
pub(crate) const MALFORMED_MESSAGE: i32 = 400;

/// Kinds of messages between a client and a relay.
pub(crate) const RESERVE: i32 = 0;
pub(crate) const CONNECT: i32 = 1;
pub(crate) const STATUS: i32 = 2;

/// Kinds of messages between a relay and a circuit's destination.
pub(crate) const STOP_CONNECT: i32 = 0;
pub(crate) const STOP_STATUS: i32 = 1;

/// Whose limit a request hit.
pub(crate) const RELAY: i32 = 1;
pub(crate) const ADDRESS: i32 = 2;
pub(crate) const PEER: i32 = 3;

/// Between a client and a relay.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hop {
    #[prost(int32, required, tag = "1")]
    pub(crate) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) peer: Option<Peer>,
    #[prost(message, optional, tag = "3")]
    pub(crate) reservation: Option<Reservation>,
    #[prost(message, optional, tag = "4")]
    pub(crate) limit: Option<Limit>,
    #[prost(int32, optional, tag = "5")]
    pub(crate) status: Option<i32>,
    #[prost(message, optional, tag = "1000")]
    pub(crate) refusal: Option<Refusal>,
}

/// Between a relay and a circuit's destination.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Stop {
    #[prost(int32, required, tag = "1")]
    pub(crate) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) peer: Option<Peer>,
    #[prost(message, optional, tag = "3")]
    pub(crate) limit: Option<Limit>,
    #[prost(int32, optional, tag = "4")]
    pub(crate) status: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Peer {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(crate) id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reservation {
    #[prost(uint64, required, tag = "1")]
    pub(crate) expire: u64,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) addrs: Vec<Vec<u8>>,
    #[prost(uint64, optional, tag = "1000")]
    pub(crate) seconds: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Limit {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) duration: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) data: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Refusal {
    #[prost(int32, tag = "1")]
    pub(crate) owner: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) limit: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) retry_after_ms: u64,
}

/// An answer of a relay.
pub(crate) fn status(status: i32) -> Hop {
    Hop { kind: STATUS, status: Some(status), ..Hop::default() }
}

/// A client's request for a circuit.
pub(crate) fn connect(destination: libp2p::PeerId) -> Hop {
    let peer = Some(Peer { id: destination.to_bytes() });
    Hop { kind: CONNECT, peer, ..Hop::default() }
}

/// Sends a message after its length.
pub(crate) async fn write(io: &mut Stream, message: &impl Message) -> io::Result<()> {
    write_bytes(io, &message.encode_length_delimited_to_vec()).await
}

/// Sends whatever it is.
pub(crate) async fn write_bytes(io: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await
}

/// The next message. Fails if the other end closes or resets the substream instead.
pub(crate) async fn read<M: Message + Default>(io: &mut Stream) -> io::Result<M> {
    let mut length = Vec::new();
    loop {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        length.push(byte[0]);
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut message = vec![0; prost::decode_length_delimiter(length.as_slice()).unwrap()];
    io.read_exact(&mut message).await?;
    Ok(M::decode(message.as_slice()).unwrap())
}

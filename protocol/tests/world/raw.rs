//! Calls whose messages are any bytes at all.

use bytes::{Buf, BufMut, Bytes};
use punchline_protocol::transport::channel;
use tonic::{
    Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use super::{Host, remote, soon};

/// The path of the protocol's one call.
pub const METHOD: &str = "/protowire.P2P/MessageStream";

/// gRPC messages of whatever bytes the test likes.
#[derive(Clone, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

/// Calls the host with messages of these bytes, and keeps the call open; gives all it heard.
pub async fn call_with(host: &Host, messages: Vec<Vec<u8>>) -> Vec<Bytes> {
    let mut grpc = Grpc::new(channel(host.connect(remote("peer"))));
    soon(grpc.ready()).await.unwrap();
    let open = futures::stream::iter(messages);
    let outgoing = futures::StreamExt::chain(open, futures::stream::pending());
    let path = PathAndQuery::from_static(METHOD);
    let call = grpc.streaming(tonic::Request::new(outgoing), path, RawCodec);
    let mut incoming = soon(call).await.unwrap().into_inner();
    let mut heard = Vec::new();
    while let Ok(Some(message)) = soon(incoming.message()).await {
        heard.push(message);
    }
    heard
}

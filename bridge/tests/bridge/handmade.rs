//! A relay that answers by hand: whatever the test says, byte for byte.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder, noise, swarm::SwarmEvent, tcp, yamux,
};
use libp2p_stream as stream;
use prost::Message;
use punchline_bridge::RelayAddr;
use tokio::net::TcpStream;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::world::{TCP, within};

const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");
const STOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/stop");

/// Statuses of the specification.
pub(crate) const OK: i32 = 100;
pub(crate) const RESERVATION_REFUSED: i32 = 200;
pub(crate) const RESOURCE_LIMIT_EXCEEDED: i32 = 201;
pub(crate) const NO_RESERVATION: i32 = 204;
pub(crate) const MALFORMED_MESSAGE: i32 = 400;

/// Kinds of messages between a client and a relay.
pub(crate) const RESERVE: i32 = 0;
pub(crate) const CONNECT: i32 = 1;
pub(crate) const STATUS: i32 = 2;

/// Written from the specification, and not the code that is tested.
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
    #[prost(uint64, optional, tag = "1000")]
    pub(crate) seconds: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Limit {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) duration: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) data: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Refusal {
    #[prost(int32, tag = "1")]
    pub(crate) owner: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) limit: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) retry_after_ms: u64,
}

/// Such a relay.
pub(crate) struct HandMade {
    pub(crate) address: RelayAddr,
    control: stream::Control,
    hops: stream::IncomingStreams,
}

/// A client's request, and where to answer it.
pub(crate) struct Request {
    pub(crate) hop: Hop,
    pub(crate) io: Stream,
}

impl HandMade {
    pub(crate) async fn start() -> Self {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
            .build();
        let mut control = swarm.behaviour().new_control();
        let hops = control.accept(HOP).unwrap();
        swarm.listen_on(TCP.parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with_p2p(*swarm.local_peer_id()).unwrap();
            }
        };
        tokio::spawn(async move { while swarm.next().await.is_some() {} });
        Self { address: RelayAddr::new(address).unwrap(), control, hops }
    }

    /// The next request of this kind; others are left unanswered.
    pub(crate) async fn request(&mut self, kind: i32) -> Request {
        within("a request", async {
            loop {
                let (_, mut io) = self.hops.next().await.unwrap();
                let hop: Hop = read(&mut io).await.unwrap();
                if hop.kind == kind {
                    return Request { hop, io };
                }
            }
        })
        .await
    }

    /// Grants the next reservation for an hour.
    pub(crate) async fn grant(&mut self) {
        let reservation = Some(Reservation { expire: 0, seconds: Some(3600) });
        self.request(RESERVE).await.answer(Hop { reservation, ..status(OK) }).await;
    }

    /// Begins to bring a circuit to a client.
    pub(crate) async fn stop(&mut self, client: PeerId) -> Stream {
        within("a substream", self.control.open_stream(client, STOP)).await.unwrap()
    }

    /// Brings a circuit from `source`, and returns what the client says to it.
    pub(crate) async fn bring(
        &mut self,
        client: PeerId,
        source: PeerId,
        limit: Option<Limit>,
    ) -> (Stop, Stream) {
        let mut io = self.stop(client).await;
        let peer = Some(Peer { id: source.to_bytes() });
        write(&mut io, &Stop { kind: 0, peer, limit, status: None }.encode_to_vec()).await;
        let answer = within("an answer", read(&mut io)).await.unwrap();
        (answer, io)
    }
}

impl Request {
    pub(crate) async fn answer(mut self, answer: Hop) -> Stream {
        write(&mut self.io, &answer.encode_to_vec()).await;
        self.io
    }

    /// Whatever it is.
    pub(crate) async fn answer_bytes(mut self, bytes: &[u8]) -> Stream {
        self.io.write_all(bytes).await.unwrap();
        self.io.flush().await.unwrap();
        self.io
    }
}

pub(crate) fn status(status: i32) -> Hop {
    Hop { kind: STATUS, status: Some(status), ..Hop::default() }
}

/// Carries between a circuit and a node that listens on TCP there.
pub(crate) fn splice(circuit: Stream, listening: &Multiaddr) {
    let port: u16 = listening.to_string().split('/').nth(4).unwrap().parse().unwrap();
    tokio::spawn(async move {
        let mut there = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut circuit.compat(), &mut there).await;
    });
}

pub(crate) async fn write(io: &mut Stream, message: &[u8]) {
    let mut bytes = Vec::new();
    prost::encode_length_delimiter(message.len(), &mut bytes).unwrap();
    bytes.extend(message);
    io.write_all(&bytes).await.unwrap();
    io.flush().await.unwrap();
}

/// None if the other end closed or reset the substream instead.
pub(crate) async fn read<M: Message + Default>(io: &mut Stream) -> Option<M> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        io.read_exact(&mut byte).await.ok()?;
        bytes.push(byte[0]);
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut message = vec![0; prost::decode_length_delimiter(bytes.as_slice()).unwrap()];
    io.read_exact(&mut message).await.ok()?;
    Some(M::decode(message.as_slice()).unwrap())
}

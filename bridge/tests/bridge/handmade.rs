//! A relay that answers by hand: whatever the test says, byte for byte.

use std::time::Duration;

use futures::StreamExt;
use libp2p::{Multiaddr, PeerId, Stream, SwarmBuilder, noise, swarm::SwarmEvent, tcp, yamux};
use libp2p_stream as stream;
use punchline_bridge::RelayAddr;
use tokio::net::TcpStream;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::{
    circuit_wire::{
        HOP, Hop, Limit, OK, Peer, RESERVE, Reservation, STOP, STOP_CONNECT, Stop, read, status, write,
        write_bytes,
    },
    world::{TCP, within},
};

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
        let reservation = Some(Reservation { seconds: Some(3600), ..Reservation::default() });
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
        write(&mut io, &Stop { kind: STOP_CONNECT, peer, limit, status: None }).await.unwrap();
        let answer = within("an answer", read(&mut io)).await.unwrap();
        (answer, io)
    }
}

impl Request {
    pub(crate) async fn answer(mut self, answer: Hop) -> Stream {
        write(&mut self.io, &answer).await.unwrap();
        self.io
    }

    /// Whatever it is.
    pub(crate) async fn answer_bytes(mut self, bytes: &[u8]) -> Stream {
        write_bytes(&mut self.io, bytes).await.unwrap();
        self.io
    }
}

/// Carries between a circuit and a node that listens on TCP there.
pub(crate) fn splice(circuit: Stream, listening: &Multiaddr) {
    let port: u16 = listening.to_string().split('/').nth(4).unwrap().parse().unwrap();
    tokio::spawn(async move {
        let mut there = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut circuit.compat(), &mut there).await;
    });
}

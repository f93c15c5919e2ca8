//! Clients of a relay that speak circuit relay v2 by hand, and so say and see everything.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder, identify,
    identity::Keypair,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use libp2p_stream as stream;
use prost::Message;
use punchline_bridge::relay::{External, RelayConfig};
use tokio::sync::watch;

use crate::{
    circuit_wire::{HOP, Hop, OK, STOP, STOP_CONNECT, STOP_STATUS, Stop, connect, read, write},
    world::{RelayNode, relay_config, within},
};

const CONTROL: StreamProtocol = StreamProtocol::new("/punchline/control/1");

/// One word of the control protocol.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sentence {
    #[prost(uint32, optional, tag = "2")]
    pub(crate) leaving_seconds: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub(crate) watch: Option<PeersMessage>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(crate) present: Option<Vec<u8>>,
    #[prost(message, optional, tag = "5")]
    pub(crate) absent: Option<AbsenceMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PeersMessage {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) ids: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AbsenceMessage {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(bool, required, tag = "2")]
    pub(crate) closed: bool,
}

#[derive(NetworkBehaviour)]
struct Protocols {
    identify: identify::Behaviour,
    stream: stream::Behaviour,
}

/// One connection to a relay. It ends when this is dropped.
pub(crate) struct Hand {
    pub(crate) id: PeerId,
    relay: PeerId,
    control: stream::Control,
    /// A substream that is asked for while the connection comes up may never come: libp2p forgets it.
    connected: watch::Receiver<bool>,
    control_substreams: stream::IncomingStreams,
    swarm: tokio::task::JoinHandle<()>,
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.swarm.abort();
    }
}

impl Hand {
    pub(crate) fn new(relay: &RelayNode) -> Self {
        Self::at(relay.relay.peer_id(), relay.address.address().clone())
    }

    pub(crate) fn at(relay: PeerId, address: Multiaddr) -> Self {
        let keypair = Keypair::generate_ed25519();
        let id = keypair.public().to_peer_id();
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_quic()
            .with_behaviour(|keypair| Protocols {
                identify: identify::Behaviour::new(identify::Config::new(
                    "/hand/1".to_owned(),
                    keypair.public(),
                )),
                stream: stream::Behaviour::new(),
            })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
            .build();
        let mut control = swarm.behaviour().stream.new_control();
        let control_substreams = control.accept(CONTROL).unwrap();
        let dial = move || DialOpts::peer_id(relay).addresses(vec![address.clone()]).build();
        swarm.dial(dial()).unwrap();
        let (tell, connected) = watch::channel(false);
        let swarm = tokio::spawn(async move {
            while let Some(event) = swarm.next().await {
                match event {
                    SwarmEvent::ConnectionEstablished { .. } => drop(tell.send_replace(true)),
                    // One of a crowd that came at once may have to come again.
                    SwarmEvent::OutgoingConnectionError { .. } => swarm.dial(dial()).unwrap(),
                    _ => {}
                }
            }
        });
        Self { id, relay, control, connected, control_substreams, swarm }
    }

    pub(crate) async fn try_ask(&mut self, message: &Hop) -> std::io::Result<(Hop, Stream)> {
        self.connected.wait_for(|connected| *connected).await.map_err(std::io::Error::other)?;
        let opened = self.control.open_stream(self.relay, HOP).await;
        let mut io = opened.map_err(std::io::Error::other)?;
        write(&mut io, message).await?;
        Ok((read(&mut io).await?, io))
    }

    pub(crate) async fn reserve(&mut self) -> Hop {
        within("an answer", self.try_ask(&Hop::default())).await.unwrap().0
    }

    pub(crate) async fn connect(&mut self, destination: PeerId) -> (Hop, Stream) {
        within("an answer", self.try_ask(&connect(destination))).await.unwrap()
    }

    /// A substream of any protocol to the relay.
    pub(crate) async fn substream(&mut self, protocol: StreamProtocol) -> Stream {
        self.connected.wait_for(|connected| *connected).await.unwrap();
        within("a substream", self.control.open_stream(self.relay, protocol)).await.unwrap()
    }

    /// Says a word to the relay. The substream must live until it was heard.
    pub(crate) async fn say(&mut self, word: Sentence) -> Stream {
        self.connected.wait_for(|connected| *connected).await.unwrap();
        let opened = self.control.open_stream(self.relay, CONTROL);
        let mut io = within("a substream", opened).await.unwrap();
        write(&mut io, &word).await.unwrap();
        io
    }

    /// The substream on which the relay speaks.
    pub(crate) async fn ear(&mut self) -> Stream {
        within("a word", self.control_substreams.next()).await.unwrap().1
    }

    /// Circuits that lead here; each is to be answered.
    pub(crate) fn circuits(&mut self) -> stream::IncomingStreams {
        self.control.accept(STOP).unwrap()
    }

    /// Accepts all circuits and sends everything back.
    pub(crate) fn echo(&mut self) {
        let mut circuits = self.circuits();
        tokio::spawn(async move {
            while let Some((_, mut io)) = circuits.next().await {
                tokio::spawn(async move {
                    if accept(&mut io).await.is_ok() {
                        let (mut read, mut write) = io.split();
                        let _ = futures::io::copy(&mut read, &mut write).await;
                        let _ = write.close().await;
                    }
                });
            }
        });
    }
}

/// The next word.
pub(crate) async fn heard(ear: &mut Stream) -> Sentence {
    within("a word", read(ear)).await.unwrap()
}

/// Takes a circuit.
pub(crate) async fn accept(io: &mut Stream) -> std::io::Result<()> {
    let asked: Stop = read(io).await?;
    assert_eq!(asked.kind, STOP_CONNECT, "{asked:?}");
    write(io, &Stop { kind: STOP_STATUS, status: Some(OK), ..Stop::default() }).await
}

/// Settings for a relay that is reachable from its start, over both families.
pub(crate) fn reachable() -> RelayConfig {
    let listen = ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"].map(|address| address.parse().unwrap());
    let external = External::Given(vec!["/ip4/127.0.0.1/tcp/4001".parse().unwrap()]);
    RelayConfig { listen: listen.to_vec(), external, ..relay_config("/ip4/127.0.0.1/tcp/0") }
}

/// Where a relay listens, over IPv4 or IPv6: two addresses of which neither is in the other's network.
pub(crate) fn over(relay: &RelayNode, ip: &str) -> Multiaddr {
    let mut listening = relay.relay.listening().iter();
    listening.find(|address| address.to_string().starts_with(ip)).unwrap().clone()
}

/// A relay, and an echo with a place at it.
pub(crate) async fn with_an_echo(config: RelayConfig) -> (RelayNode, Hand) {
    let relay = RelayNode::start(config).await;
    let mut echo = Hand::at(relay.relay.peer_id(), over(&relay, "/ip6"));
    echo.echo();
    assert_eq!(echo.reserve().await.status, Some(OK));
    (relay, echo)
}

//! Two swarms on loopback with one connection between them, and two substreams on it: one raw, the
//! other under a stream of ours.

use std::{fmt, sync::Arc};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use punchline_stream::{Service, machine::Config, over};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Mutex, oneshot},
};
use tokio_util::compat::FuturesAsyncReadCompatExt;

const RAW: StreamProtocol = StreamProtocol::new("/bench/raw");
const OURS: StreamProtocol = StreamProtocol::new("/bench/stream");

#[derive(Clone, Copy)]
pub(crate) enum Transport {
    /// TCP, Noise, Yamux.
    Tcp,
    /// QUIC.
    Quic,
}

pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// One end; the lock is taken once for each piece of work.
pub(crate) type Pipe = Arc<Mutex<Box<dyn Bytes>>>;

/// Both ends of one pipe.
pub(crate) struct Ends {
    pub(crate) near: Pipe,
    pub(crate) far: Pipe,
}

/// What is compared.
pub(crate) struct Link {
    pub(crate) transport: Transport,
    pub(crate) raw: Ends,
    pub(crate) stream: Ends,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        })
    }
}

impl Ends {
    fn new(near: impl Bytes + 'static, far: impl Bytes + 'static) -> Self {
        let pipe = |end: Box<dyn Bytes>| Arc::new(Mutex::new(end));
        Self { near: pipe(Box::new(near)), far: pipe(Box::new(far)) }
    }
}

impl Link {
    pub(crate) async fn new(transport: Transport) -> Self {
        let (mut server, mut client) = (swarm(), swarm());
        let server_id = *server.local_peer_id();
        let (mut serves, mut asks) =
            (server.behaviour().new_control(), client.behaviour().new_control());
        let (mut raw, mut ours) = (serves.accept(RAW).unwrap(), serves.accept(OURS).unwrap());

        let address = listen(&mut server, transport).await;
        client.dial(DialOpts::peer_id(server_id).addresses(vec![address]).build()).unwrap();
        drop(run(server));
        run(client).await.unwrap();

        let near = asks.open_stream(server_id, RAW).await.unwrap();
        let (_, far) = raw.next().await.unwrap();
        let raw = Ends::new(near.compat(), far.compat());
        let near = asks.open_stream(server_id, OURS).await.unwrap();
        let (_, far) = ours.next().await.unwrap();
        let config = Arc::new(Config::default());
        let near = over::open(near, Service::new("bench").unwrap(), config.clone());
        let far = over::accept(far, config).await.unwrap();
        Self { transport, raw, stream: Ends::new(near, far) }
    }
}

fn swarm() -> Swarm<libp2p_stream::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(std::time::Duration::MAX))
        .build()
}

async fn listen(swarm: &mut Swarm<libp2p_stream::Behaviour>, transport: Transport) -> Multiaddr {
    let any = match transport {
        Transport::Tcp => "/ip4/127.0.0.1/tcp/0",
        Transport::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
    };
    swarm.listen_on(any.parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

/// Runs a swarm to the end of the program; tells of its first connection. A second one would make the
/// comparison unfair.
fn run(mut swarm: Swarm<libp2p_stream::Behaviour>) -> oneshot::Receiver<PeerId> {
    let (connected, told) = oneshot::channel();
    tokio::spawn(async move {
        let mut connected = Some(connected);
        loop {
            if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
                let connected = connected.take().expect("one connection is enough");
                let _ = connected.send(peer_id);
            }
        }
    });
    told
}

//! What carries the gRPC.

use std::{
    fmt,
    io::{self, Write as _},
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use hyper_util::rt::TokioIo;
use libp2p::{Multiaddr, StreamProtocol, SwarmBuilder, noise, swarm::SwarmEvent, tcp, yamux};
use punchline_bridge::{
    Config, Endpoint, Event, Events, Keypair, PeerId, RelayAddr,
    addr::GlobalScope,
    config::{Limits, Sharing, Upgrades},
    grpc,
    relay::{External, Relay, RelayConfig, StunListen},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _},
    },
};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;
use tonic::transport::{Channel, server::Connected};

use crate::work::own_address;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// TCP, with nothing to secure it.
    Plain,
    /// TLS 1.3 over TCP, as with a public address.
    Rustls,
    /// Stock libp2p's TCP, Noise and Yamux.
    Stock,
    /// Ours over TCP.
    Tcp,
    /// Ours over QUIC.
    Quic,
    /// Ours through a relay, over TCP.
    Relayed,
    /// TLS through socat, which forwards what it does not understand.
    Socat,
    /// iroh, in a program of its own.
    Iroh,
}

impl Subject {
    pub(crate) const ALL: [Self; 8] = [
        Self::Plain,
        Self::Rustls,
        Self::Stock,
        Self::Tcp,
        Self::Quic,
        Self::Iroh,
        Self::Socat,
        Self::Relayed,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Rustls => "rustls",
            Self::Stock => "stock",
            Self::Tcp => "tcp",
            Self::Quic => "quic",
            Self::Relayed => "relayed",
            Self::Socat => "socat",
            Self::Iroh => "iroh",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|subject| subject.name() == text).ok_or_else(|| text.to_owned())
    }
}

trait Bytes: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Bytes for T {}

/// A connection, whatever carries it.
pub(crate) struct Io(Pin<Box<dyn Bytes>>);

impl Io {
    fn new(io: impl Bytes + 'static) -> Self {
        Self(Box::pin(io))
    }
}

pub(crate) type Incoming = BoxStream<'static, io::Result<Io>>;

/// Listens, at a relay if one is given; says what the other process needs to know.
pub(crate) async fn listen(subject: Subject, relay: Option<&str>) -> (String, Incoming) {
    match subject {
        Subject::Plain => {
            let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            (address, tcp(listener).map(|tcp| Ok(Io::new(tcp))).boxed())
        }
        Subject::Rustls => tls().await,
        Subject::Stock => stock().await,
        Subject::Tcp => ours(&own("tcp/0")).await,
        Subject::Quic => ours(&own("udp/0/quic-v1")).await,
        Subject::Relayed => at_relay(relay.unwrap()).await,
        Subject::Socat | Subject::Iroh => unreachable!("other programs"),
    }
}

fn tcp(listener: TcpListener) -> impl futures::Stream<Item = TcpStream> + Send {
    futures::stream::unfold(listener, async |listener| {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Some((tcp, listener))
    })
}

async fn tls() -> (String, Incoming) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let pem = made.cert.pem().replace('\n', "|");
    let incoming = tcp(listener).then(move |tcp| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(tcp).await.map(Io::new) }
    });
    (format!("{address} {pem}"), incoming.boxed())
}

const STOCK: StreamProtocol = StreamProtocol::new("/bench/stock");

fn swarm() -> libp2p::Swarm<libp2p_stream::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::MAX))
        .build()
}

async fn stock() -> (String, Incoming) {
    let mut swarm = swarm();
    let incoming = swarm.behaviour().new_control().accept(STOCK).unwrap();
    swarm.listen_on(own("tcp/0").parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let address = format!("{address} {}", swarm.local_peer_id());
    tokio::spawn(swarm.for_each(|_| std::future::ready(())));
    (address, incoming.map(|(_, stream)| Ok(Io::new(stream.compat()))).boxed())
}

/// A multiaddr of this machine.
fn own(rest: &str) -> String {
    format!("/ip4/{}/{rest}", own_address())
}

/// Connections of one node, over whatever: many peers here have one address.
const CONNECTIONS: u32 = 4096;

/// Loopback is public here, and nothing is punched.
fn config(listen: &[&str]) -> Config {
    Config {
        listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
        global: GlobalScope::with_assumed(vec!["127.0.0.0/8".parse().unwrap()]),
        upgrades: Upgrades::WhenTold,
        limits: Limits {
            connections: CONNECTIONS,
            quic_connections: CONNECTIONS,
            sharing: Sharing { source_percent: 100, kept_percent: 0 },
            ..Limits::default()
        },
        ..Config::default()
    }
}

async fn ours(listen: &str) -> (String, Incoming) {
    let (node, mut events) =
        Endpoint::start(config(&[listen]), Keypair::generate_ed25519()).await.unwrap();
    let address = loop {
        if let Event::Listening { address } = events.next().await.unwrap() {
            break address;
        }
    };
    let incoming = serving(&node, events).await;
    (format!("{address} {}", node.peer_id()), incoming)
}

async fn serving(node: &Endpoint, mut events: Events) -> Incoming {
    let incoming = node.incoming("bench".parse().unwrap()).await.unwrap();
    tokio::spawn(async move { while events.next().await.is_some() {} });
    let kept = node.clone();
    let incoming = incoming.map(move |stream| {
        let _ = &kept;
        stream.map(Io::new).map_err(io::Error::other)
    });
    incoming.boxed()
}

/// Reached through a relay only.
async fn at_relay(relay: &str) -> (String, Incoming) {
    let relay = RelayAddr::new(relay.parse().unwrap()).unwrap();
    let (node, mut events) =
        Endpoint::start(config(&["/ip4/127.0.0.1/tcp/0"]), Keypair::generate_ed25519()).await.unwrap();
    node.reserve(relay.clone()).await;
    while !matches!(events.next().await.unwrap(), Event::ReservationHeld { .. }) {}
    let address = format!("{} {}", relay.circuit_to(node.peer_id()), node.peer_id());
    (address, serving(&node, events).await)
}

/// The whole life of a relay: says where it is, and forwards until it is killed.
#[tokio::main]
pub(crate) async fn relay() {
    let config = RelayConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        external: External::Observed,
        stun: StunListen::Off,
        global: GlobalScope::with_assumed(vec!["127.0.0.0/8".parse().unwrap()]),
        circuit_bytes: 0,
        ..RelayConfig::default()
    };
    let (relay, mut events) = Relay::start(config, Keypair::generate_ed25519()).await.unwrap();
    println!("{}", relay.listening()[0].clone().with_p2p(relay.peer_id()).unwrap());
    io::stdout().flush().unwrap();
    while events.next().await.is_some() {}
}

/// Connects to what `listen` said; and how long a node took to start before, where one is needed.
pub(crate) async fn connect(subject: Subject, address: &str) -> (Channel, Duration) {
    let (address, rest) = address.split_once(' ').unwrap_or((address, ""));
    let endpoint = grpc::client(&PeerId::random());
    let mut started = Duration::ZERO;
    let channel = match subject {
        Subject::Plain => {
            let address = address.to_owned();
            let connect = move |_| plain(address.clone());
            endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap()
        }
        Subject::Rustls => {
            let connector = trusting(rest);
            let address = address.to_owned();
            let connect = move |_| encrypted(address.clone(), connector.clone());
            endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap()
        }
        Subject::Stock => {
            let (address, peer): (Multiaddr, PeerId) = (address.parse().unwrap(), rest.parse().unwrap());
            let connect = move |_| to_stock(address.clone(), peer);
            endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap()
        }
        Subject::Tcp | Subject::Quic | Subject::Relayed => {
            let peer: PeerId = rest.parse().unwrap();
            let starts = Instant::now();
            let (node, mut events) =
                Endpoint::start(config(&[]), Keypair::generate_ed25519()).await.unwrap();
            started = starts.elapsed();
            tokio::spawn(async move { while events.next().await.is_some() {} });
            node.add_addresses(peer, vec![address.parse().unwrap()]).await;
            let connector = grpc::Connector::new(node, peer, "bench".parse().unwrap());
            grpc::client(&peer).connect_with_connector(connector).await.unwrap()
        }
        Subject::Socat | Subject::Iroh => unreachable!("other programs"),
    };
    (channel, started)
}

type Connecting = BoxFuture<'static, io::Result<TokioIo<Io>>>;

fn plain(address: String) -> Connecting {
    Box::pin(async move {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(TokioIo::new(Io::new(tcp)))
    })
}

fn trusting(pem: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let pem = pem.replace('|', "\n");
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config).into()
}

fn encrypted(address: String, connector: TlsConnector) -> Connecting {
    Box::pin(async move {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        Ok(TokioIo::new(Io::new(connector.connect(name, tcp).await?)))
    })
}

fn to_stock(address: Multiaddr, peer: PeerId) -> Connecting {
    Box::pin(async move {
        let mut swarm = swarm();
        let mut control = swarm.behaviour().new_control();
        swarm.dial(address.with_p2p(peer).unwrap()).unwrap();
        tokio::spawn(swarm.for_each(|_| std::future::ready(())));
        let stream = control.open_stream(peer, STOCK).await.map_err(io::Error::other)?;
        Ok(TokioIo::new(Io::new(stream.compat())))
    })
}

impl Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

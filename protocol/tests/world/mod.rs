//! A small world: hosts that accept, peers that are honest, and peers that say what they like.
//! Everything runs over in-memory pipes with real gRPC at both ends.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod raw;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use punchline_protocol::{
    Acceptor, DialError, Inbound, KaspadMessage, Network, Node, NodeConfig, Payload, Remote, Session,
    SessionEvent, UserAgent, Version, kaspa_id,
    transport::{self, Accepted},
    wire::proto::{ReadyMessage, VerackMessage, p2p_client::P2pClient},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::mpsc,
};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{
    Streaming,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint, Server, Uri},
};
use tower::service_fn;

/// Long enough for a debug build on a busy machine; a test that needs all of it has failed.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// Waits for something that must happen. Tests that stop the clock wait in virtual time, and
/// some of them for minutes.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens within the deadline")
}

/// The bytes in a pipe between its two ends: what a socket would buffer.
const PIPE_BYTES: usize = 64 * 1024;

pub fn config(name: &str) -> NodeConfig {
    NodeConfig::new(Network::Simnet, name.as_bytes().to_vec())
}

pub fn node(name: &str) -> Node {
    Node::new(config(name))
}

/// What a transport that authenticates says about the peer called `name`.
pub fn remote(name: &str) -> Remote {
    Remote {
        peer_id_bytes: Some(name.as_bytes().to_vec()),
        address: SocketAddr::from(([203, 0, 113, 1], 16511)),
    }
}

/// A node that accepts, and the way to reach it.
pub struct Host {
    pub name: String,
    pub node: Node,
    pub acceptor: Acceptor,
    incoming: mpsc::UnboundedSender<io::Result<Accepted<DuplexStream>>>,
}

impl Host {
    pub fn start(name: &str, node: Node) -> Self {
        let acceptor = node.acceptor(Remote::from_extensions);
        let (incoming, accepted) = mpsc::unbounded_channel();
        let server = Server::builder()
            .add_service(acceptor.service())
            .serve_with_incoming(UnboundedReceiverStream::new(accepted));
        tokio::spawn(server);
        Self { name: name.to_owned(), node, acceptor, incoming }
    }

    /// A byte stream to this host, which takes its far side for `caller`.
    pub fn connect(&self, caller: Remote) -> DuplexStream {
        let (ours, theirs) = duplex(PIPE_BYTES);
        self.incoming.send(Ok(Accepted::new(theirs, caller))).unwrap();
        ours
    }

    /// Lets `caller`, authenticated as `name`, dial this host.
    pub async fn dialled_by(&self, caller: &Node, name: &str) -> Result<Session, DialError> {
        let channel = transport::channel(self.connect(remote(name)));
        soon(caller.dial(channel, remote(&self.name))).await
    }

    /// The next inbound session.
    pub async fn session(&mut self) -> Session {
        match soon(self.acceptor.next()).await {
            Inbound::Ready(session) => session,
            other => panic!("no session: {other:?}"),
        }
    }

    /// A peer called `name` that says what the test tells it to.
    pub async fn raw_peer(&self, name: &str) -> RawPeer {
        RawPeer::call(self.connect(remote(name))).await.unwrap()
    }
}

/// Two honest nodes in session: the dialler's side and the accepter's side.
pub async fn pair() -> (Host, Session, Session) {
    let mut host = Host::start("host", node("host"));
    let dialled = host.dialled_by(&node("caller"), "caller").await.unwrap();
    let accepted = host.session().await;
    (host, dialled, accepted)
}

/// The next event that is not about addresses, which every session exchanges.
pub async fn next_event(session: &mut Session) -> Option<SessionEvent> {
    loop {
        match soon(session.next()).await {
            Some(SessionEvent::Addresses(_)) => continue,
            event => return event,
        }
    }
}

/// The Version that the peer called `name` says when it is honest.
pub fn version(name: &str) -> Version {
    Version {
        protocol_version: 11,
        services: 0,
        timestamp_ms: 0,
        address: None,
        id: kaspa_id(name.as_bytes()),
        user_agent: UserAgent::ours(Some("raw")),
        disable_relay_tx: false,
        subnetwork_id: None,
        network: Network::Simnet.to_string(),
    }
}

pub fn say_version(version: Version) -> Payload {
    Payload::Version(version.into())
}

pub fn say_verack() -> Payload {
    Payload::Verack(VerackMessage {})
}

pub fn say_ready() -> Payload {
    Payload::Ready(ReadyMessage {})
}

/// A caller without manners of its own.
pub struct RawPeer {
    outgoing: mpsc::Sender<KaspadMessage>,
    incoming: Streaming<KaspadMessage>,
}

impl RawPeer {
    pub async fn call(stream: impl Stream) -> Result<Self, tonic::Status> {
        Self::call_over(transport::channel(stream)).await
    }

    async fn call_over(channel: Channel) -> Result<Self, tonic::Status> {
        let (outgoing, messages) = mpsc::channel(1);
        let mut client = P2pClient::new(channel)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip);
        let call = client.message_stream(ReceiverStream::new(messages));
        let incoming = soon(call).await?.into_inner();
        Ok(Self { outgoing, incoming })
    }

    /// A peer that takes `bytes` from the host before it has to read some.
    pub async fn call_with_window(stream: impl Stream, bytes: u32) -> Self {
        let mut stream = Some(TokioIo::new(stream));
        let connector = service_fn(move |_: Uri| {
            std::future::ready(stream.take().ok_or_else(|| io::Error::other("spent")))
        });
        let endpoint = Endpoint::from_static("http://host").initial_stream_window_size(bytes);
        Self::call_over(endpoint.connect_with_connector_lazy(connector)).await.unwrap()
    }

    pub async fn say(&self, payload: Payload) {
        self.say_message(KaspadMessage::new(payload)).await;
    }

    /// Says it even to a host that no longer listens, and tells whether it does.
    pub async fn say_message(&self, message: KaspadMessage) -> bool {
        soon(self.outgoing.send(message)).await.is_ok()
    }

    /// The next payload, or `None` when the host has ended the call.
    pub async fn hear(&mut self) -> Option<Payload> {
        match soon(self.incoming.message()).await {
            Ok(message) => message.map(|message| message.payload.unwrap()),
            Err(_reset) => None,
        }
    }

    /// Everything until the host ends the call.
    pub async fn hear_all(&mut self) -> Vec<Payload> {
        let mut heard = Vec::new();
        while let Some(payload) = self.hear().await {
            heard.push(payload);
        }
        heard
    }

    /// The texts of the Rejects among everything until the host ends the call.
    pub async fn rejects(&mut self) -> Vec<String> {
        let texts = self.hear_all().await.into_iter().filter_map(|payload| match payload {
            Payload::Reject(reject) => Some(reject.reason),
            _ => None,
        });
        texts.collect()
    }

    /// Completes an honest handshake as `version`.
    pub async fn shake_hands(&mut self, version: Version) {
        self.say(say_version(version)).await;
        self.say(say_verack()).await;
        self.say(say_ready()).await;
    }
}

/// A session with a raw peer called `name`.
pub async fn raw_session(host: &mut Host, name: &str) -> (RawPeer, Session) {
    let peer = host.raw_peer(name).await;
    raw_session_of(host, peer, name).await
}

/// Shakes hands as `name`, waiting for the host's Version, Verack and Ready between.
pub async fn raw_session_of(host: &mut Host, mut peer: RawPeer, name: &str) -> (RawPeer, Session) {
    peer.say(say_version(version(name))).await;
    peer.say(say_verack()).await;
    while !matches!(peer.hear().await, Some(Payload::Ready(_))) {}
    peer.say(say_ready()).await;
    let session = host.session().await;
    (peer, session)
}

/// Anything a gRPC connection can run over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Bytes seen by a [`Counted`] stream.
#[derive(Debug, Clone, Default)]
pub struct Count {
    pub read: Arc<AtomicU64>,
    pub written: Arc<AtomicU64>,
}

/// A byte stream that counts.
pub struct Counted {
    pub stream: DuplexStream,
    pub count: Count,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = (buf.filled().len() - before) as u64;
        self.count.read.fetch_add(read, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = polled {
            self.count.written.fetch_add(written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

//! gRPC on one stream of a connection of iroh, with iroh's own settings, and no relay or lookup: one end is told where the other is.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::BoxStream};
use hyper_util::rt::TokioIo;
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, TransportAddr,
    endpoint::{Connection, RecvStream, SendStream, presets},
};
use punchline_bridge::{PeerId, grpc};
use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, join};
use tonic::transport::{Channel, server::Connected};

use crate::work::own_address;

const ALPN: &[u8] = b"bench/grpc";

/// What is measured here.
#[derive(Clone, Copy)]
pub(crate) struct Subject;

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "iroh" { Ok(Self) } else { Err(text.to_owned()) }
    }
}

/// A stream, and what it needs to live.
pub(crate) struct Io {
    stream: Join<RecvStream, SendStream>,
    _connection: Connection,
    _endpoint: Endpoint,
}

pub(crate) type Incoming = BoxStream<'static, io::Result<Io>>;

async fn endpoint() -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal)
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports();
    builder.bind_addr(SocketAddr::from((own_address(), 0))).unwrap().bind().await.unwrap()
}

/// Listens; says what the other process needs to know.
pub(crate) async fn listen(_: Subject, _: Option<&str>) -> (String, Incoming) {
    let endpoint = endpoint().await;
    let address = format!("{} {}", endpoint.bound_sockets()[0], endpoint.id());
    let accept = async |endpoint: Endpoint| {
        let incoming = endpoint.accept().await?;
        Some((stream_of(incoming, endpoint.clone()), endpoint))
    };
    (address, futures::stream::unfold(endpoint, accept).buffer_unordered(64).boxed())
}

async fn stream_of(incoming: iroh::endpoint::Incoming, endpoint: Endpoint) -> io::Result<Io> {
    let connection = incoming.await.map_err(io::Error::other)?;
    let (send, receive) = connection.accept_bi().await?;
    Ok(Io { stream: join(receive, send), _connection: connection, _endpoint: endpoint })
}

/// Connects to what `listen` said; and how long an endpoint took to start before.
pub(crate) async fn connect(_: Subject, address: &str) -> (Channel, Duration) {
    let (address, id) = address.split_once(' ').unwrap();
    let (address, id): (SocketAddr, EndpointId) = (address.parse().unwrap(), id.parse().unwrap());
    let starts = Instant::now();
    let endpoint = endpoint().await;
    let started = starts.elapsed();
    let connect = move |_| {
        let endpoint = endpoint.clone();
        async move {
            let to = EndpointAddr::from_parts(id, [TransportAddr::Ip(address)]);
            let connection = endpoint.connect(to, ALPN).await.map_err(io::Error::other)?;
            let (send, receive) = connection.open_bi().await?;
            let io = Io { stream: join(receive, send), _connection: connection, _endpoint: endpoint };
            Ok::<_, io::Error>(TokioIo::new(io))
        }
    };
    let client = grpc::client(&PeerId::random());
    (client.connect_with_connector(tower::service_fn(connect)).await.unwrap(), started)
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
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

//! Direct connections: TCP, QUIC and WebSockets on whatever the host has, dialled by address or by name.

use std::{
    io,
    sync::{Arc, Once},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed},
    identity::Keypair,
    quic, tcp,
};

use super::{
    cause::Kept,
    each::{Each, LOOK_INTERVAL},
    fresh::Fresh,
    guard::{Guarded, Permits},
    local,
    reset::{Heard, Sockets},
    resolve::Resolve,
    secure::Secure,
    secured::Secured,
    unread::Pool,
    web::{Certificate, Web},
};
use crate::error::StartError;

/// A silent QUIC peer is given up after this, in milliseconds, counted from our last keep-alive that it
/// answered or the first it did not: after 2.4 s at most. A NAT that maps anew breaks the direct path and
/// the link to the relay at once, and so streams are back within 3 s. Four keep-alives, and what is sent
/// again for them, must be lost for us to be wrong.
const QUIC_IDLE_MS: u32 = 2_000;
const QUIC_KEEP_ALIVE: Duration = Duration::from_millis(400);

/// What a peer may send over one connection of QUIC before it is read, and on one substream, so that one which
/// is not read leaves room for others. 8 and 6 MiB: fill 480 Mbit/s × 100 ms; more times the number of
/// connections is what an attacker can make us hold.
const QUIC_CONNECTION_BYTES: u32 = 8 << 20;
const QUIC_SUBSTREAM_BYTES: u32 = 6 << 20;

/// Makes secured, multiplexed connections to peers.
pub(crate) type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// The transport of direct connections, which count what is unread in `pool`; `permits` says which are dialled, after
/// names were resolved. Must be called within a tokio runtime.
///
/// `certificate` is to listen on WebSockets over TLS with. What is open over TCP stands in `sockets`.
pub(crate) fn connections(
    keypair: &Keypair,
    secure: &Secure,
    pool: &Arc<Pool>,
    permits: &Permits,
    certificate: Option<Certificate>,
    sockets: &Sockets,
) -> Result<Resolve, StartError> {
    let mut config = quic::Config::new(keypair);
    config.max_idle_timeout = QUIC_IDLE_MS;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_connection_data = QUIC_CONNECTION_BYTES;
    config.max_stream_data = QUIC_SUBSTREAM_BYTES;
    let sockets = sockets.clone();
    let tcp = move || {
        let sockets = sockets.clone();
        tcp::tokio::Transport::new(tcp::Config::default()).map(move |tcp, _| Heard::new(tcp, &sockets))
    };
    let quic = move || quic::tokio::Transport::new(config.clone());
    // libp2p watches the interfaces in the same way, and would fail for the same cause.
    let inner = match if_watch::tokio::IfWatcher::new() {
        Ok(_) => {
            let fresh = || Fresh::new(tcp.clone(), local::source_of_default_route);
            let web = Secured::new(Web::new(fresh(), certificate).map_err(Kept), secure, pool);
            joined(secure, pool, web.boxed(), fresh(), Fresh::new(quic, local::source_of_default_route))
        }
        Err(cause) => {
            say_once(&cause);
            let each = || Each::new(tcp.clone(), local::addresses);
            let web = Secured::new(Web::new(each(), certificate).map_err(Kept), secure, pool);
            joined(secure, pool, web.boxed(), each(), Each::new(quic, local::addresses))
        }
    };
    Ok(Resolve::new(Guarded::new(inner, permits.clone()).boxed(), permits.clone()))
}

fn joined<T, Q>(secure: &Secure, pool: &Arc<Pool>, web: Connections, tcp: T, quic: Q) -> Connections
where
    T: Transport<Dial: Send, ListenerUpgrade: Send, Error: Send + Sync> + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    Q: Transport<Dial: Send, ListenerUpgrade: Send, Error: Send + Sync> + Send + Unpin + 'static,
    Q: Transport<Output = (PeerId, quic::Connection)>,
{
    let tcp = Secured::new(tcp.map_err(Kept), secure, pool);
    let quic = quic.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).map_err(Kept);
    let direct = tcp.or_transport(quic).map(|either, _| either.into_inner());
    web.or_transport(direct).map(|either, _| either.into_inner()).boxed()
}

/// All nodes of a process live in the same sandbox.
fn say_once(cause: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            %cause,
            "this system does not let programs watch its network interfaces (AF_NETLINK): their addresses \
             are looked at every {} s instead",
            LOOK_INTERVAL.as_secs()
        );
    });
}

//! Direct connections: TCP, QUIC and WebSockets on whatever the host has, dialled by address or by name.

use std::{
    io,
    sync::{Arc, Once},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed},
    tcp,
};

use super::{
    cause::Kept,
    each::{Each, LOOK_INTERVAL},
    fresh::Fresh,
    guard::{Guarded, Permits},
    local,
    quic::{self, Quic},
    reset::{Heard, Sockets},
    resolve::Resolve,
    secure::Secure,
    secured::Secured,
    unread::Pool,
    web::{Certificate, Web},
};
use crate::error::StartError;

/// Makes secured, multiplexed connections to peers.
pub(crate) type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// The transport of direct connections, which count what is unread in `pool`; `permits` says which are dialled, after
/// names were resolved. Must be called within a tokio runtime.
///
/// `certificate` is to listen on WebSockets over TLS with. What is open over TCP stands in `sockets`.
pub(crate) fn connections(
    secure: &Secure,
    quic: Arc<quic::Config>,
    pool: &Arc<Pool>,
    permits: &Permits,
    certificate: Option<Certificate>,
    sockets: &Sockets,
) -> Result<Resolve, StartError> {
    let sockets = sockets.clone();
    let tcp = move || {
        let sockets = sockets.clone();
        tcp::tokio::Transport::new(tcp::Config::default()).map(move |tcp, _| Heard::new(tcp, &sockets))
    };
    let quic = move || Quic::new(Arc::clone(&quic));
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

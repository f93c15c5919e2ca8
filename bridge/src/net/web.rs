//! WebSockets, alone or over TLS, on top of a transport of TCP: for hosts that nothing but HTTPS gets out of.
//!
//! TLS is there for whoever looks at the packets; it proves nothing. Whom we speak with is proven by libp2p's TLS or Noise,
//! which run within, as over TCP. So a relay needs no certificate that anybody has signed, and a firewall that opens TLS learns
//! and changes nothing. `pipe` makes bytes of messages, `tls` has the settings, `proxy` asks a proxy for the way.

mod pipe;
pub(crate) mod proxy;
mod tls;

use std::{
    collections::HashMap,
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use async_tungstenite::{
    WebSocketStream, accept_async_with_config, client_async_with_config,
    tungstenite::{self, http::Uri, protocol::WebSocketConfig},
};
use futures::{
    AsyncRead, AsyncWrite,
    future::{BoxFuture, FutureExt as _},
};
use futures_rustls::{TlsConnector, rustls::pki_types::ServerName};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
    multiaddr::Protocol,
};

pub use self::tls::{Certificate, CertificateError};
pub(crate) use self::{pipe::Pipe, tls::connector};
use crate::addr::web::{WebPlace, split_web};

/// A peer's message at most. Other libp2p's send what Noise or TLS has buffered as one message, up to 192 KiB.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// How much is read or kept to be written at once.
const BUFFER_BYTES: usize = 16 << 10;

/// What a connection runs over: TCP, or TLS over it.
trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

type AnyCarrier = Box<dyn Carrier>;

/// A WebSocket that is being made.
type Coming<E> = BoxFuture<'static, Result<Pipe, WebError<E>>>;

/// Why there is no WebSocket. The causes are in the texts: people read the last of a chain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError<E: Error + 'static> {
    /// What the transport below said.
    #[error("{0}")]
    Transport(#[source] E),
    /// What is there speaks no TLS, or another one, or somebody in between cuts it off.
    #[error("no TLS could be agreed on ({cause}); is that the port of a relay that listens on /tls/ws?")]
    Tls { cause: String },
    /// What is there makes no WebSocket.
    #[error("{cause} instead of a WebSocket; is that the port of a relay that listens on /ws?")]
    Handshake { cause: String },
    /// Without one there is no TLS.
    #[error("there is no certificate to listen with")]
    NoCertificate,
    /// TLS cannot ask for it.
    #[error("{name} is no name of a host")]
    Name { name: String },
}

/// The transport.
pub(crate) struct Web<T> {
    inner: T,
    certificate: Option<Certificate>,
    connector: TlsConnector,
    /// What stands behind the TCP address of each listener.
    layers: HashMap<ListenerId, Multiaddr>,
}

impl<T> Web<T> {
    /// `certificate`: to listen with; dialling needs none.
    pub(crate) fn new(inner: T, certificate: Option<Certificate>) -> Self {
        Self { inner, certificate, connector: connector(), layers: HashMap::new() }
    }
}

impl<T> Transport for Web<T>
where
    T: Transport<Dial: Send + 'static, ListenerUpgrade: Send + 'static, Error: Send + 'static> + Unpin,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Pipe;
    type Error = WebError<T::Error>;
    type ListenerUpgrade = Coming<T::Error>;
    type Dial = Coming<T::Error>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        let Some((tcp, layers)) = split_web(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        if is_tls(&layers) && self.certificate.is_none() {
            return Err(TransportError::Other(WebError::NoCertificate));
        }
        self.inner.listen_on(id, tcp).map_err(|error| error.map(WebError::Transport))?;
        self.layers.insert(id, layers);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let (Some(place), Some((tcp, _))) = (WebPlace::of(&address), split_web(&address)) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        // Nobody punches to a WebSocket, so it needs not leave from a port that is listened on.
        let opts = DialOpts { port_use: PortUse::New, ..opts };
        let dial = self.inner.dial(tcp, opts).map_err(|error| error.map(WebError::Transport))?;
        let connector = self.connector.clone();
        let dial =
            async move { open(dial.await.map_err(WebError::Transport)?, &place, connector).await };
        Ok(dial.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = std::task::ready!(Pin::new(&mut self.inner).poll(cx));
        Poll::Ready(self.with_layers(event))
    }
}

impl<T> Web<T>
where
    T: Transport<ListenerUpgrade: Send + 'static, Error: Send + 'static>,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    /// What the transport below reports, as it is for a WebSocket.
    fn with_layers(
        &mut self,
        mut event: TransportEvent<T::ListenerUpgrade, T::Error>,
    ) -> TransportEvent<Coming<T::Error>, WebError<T::Error>> {
        let mut certificate = None;
        match &mut event {
            TransportEvent::NewAddress { listener_id, listen_addr }
            | TransportEvent::AddressExpired { listener_id, listen_addr } => {
                self.add_layers(*listener_id, listen_addr);
            }
            TransportEvent::Incoming { listener_id, local_addr, send_back_addr, .. } => {
                let layers = self.layers.get(listener_id);
                certificate = self.certificate.clone().filter(|_| layers.is_some_and(is_tls));
                self.add_layers(*listener_id, local_addr);
                self.add_layers(*listener_id, send_back_addr);
            }
            TransportEvent::ListenerClosed { listener_id, .. } => {
                self.layers.remove(listener_id);
            }
            TransportEvent::ListenerError { .. } => {}
        }
        let accept = |upgrade: T::ListenerUpgrade| {
            async move { accept(upgrade.await.map_err(WebError::Transport)?, certificate).await }.boxed()
        };
        event.map_upgrade(accept).map_err(WebError::Transport)
    }

    fn add_layers(&self, id: ListenerId, address: &mut Multiaddr) {
        for layer in self.layers.get(&id).into_iter().flatten() {
            address.push(layer);
        }
    }
}

fn is_tls(layers: &Multiaddr) -> bool {
    layers.iter().any(|layer| matches!(layer, Protocol::Tls | Protocol::Wss(_)))
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(4 * BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// Asks whoever is at the other end of `tcp` for a WebSocket.
pub(super) async fn open<E: Error + 'static>(
    tcp: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    place: &WebPlace,
    connector: TlsConnector,
) -> Result<Pipe, WebError<E>> {
    let carrier: AnyCarrier = match place.tls {
        false => Box::new(tcp),
        true => {
            let asked = place.asked();
            let bare = asked.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(bare).map_err(|_| WebError::Name { name: asked })?;
            Box::new(connector.connect(name, tcp).await.map_err(tls_error)?)
        }
    };
    let scheme = if place.tls { "wss" } else { "ws" };
    let uri = format!("{scheme}://{}:{}/", place.asked(), place.port);
    let uri: Uri = uri.parse().map_err(|_| WebError::Name { name: place.asked() })?;
    let opened = client_async_with_config(uri, carrier, Some(config())).await;
    opened.map(|(socket, _)| pipe(socket)).map_err(handshake_error)
}

/// Makes a WebSocket of a connection that came in.
async fn accept<E: Error + 'static>(
    tcp: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    certificate: Option<Certificate>,
) -> Result<Pipe, WebError<E>> {
    let carrier: AnyCarrier = match certificate {
        None => Box::new(tcp),
        Some(certificate) => Box::new(certificate.acceptor().accept(tcp).await.map_err(tls_error)?),
    };
    accept_async_with_config(carrier, Some(config())).await.map(pipe).map_err(handshake_error)
}

fn pipe(socket: WebSocketStream<AnyCarrier>) -> Pipe {
    Pipe::new(socket)
}

fn tls_error<E: Error + 'static>(error: io::Error) -> WebError<E> {
    WebError::Tls { cause: error.to_string() }
}

fn handshake_error<E: Error + 'static>(error: tungstenite::Error) -> WebError<E> {
    let cause = match error {
        tungstenite::Error::Http(response) => format!("HTTP status {}", response.status()),
        other => other.to_string(),
    };
    WebError::Handshake { cause }
}

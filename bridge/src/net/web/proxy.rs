//! The way to a WebSocket through an HTTP proxy: `CONNECT` (RFC 9110, 9.3.6), and then as without it.
//!
//! Names are not looked up but told to the proxy: behind one, there is often no DNS for the world outside.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _,
    future::{BoxFuture, FutureExt as _},
};
use futures_rustls::TlsConnector;
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::{Pipe, WebError, connector, open};
use crate::{
    addr::web::WebPlace,
    net::{guard::Permits, names::Names},
    proxy::{Asking, Proxy},
};

/// For the proxy to answer, from the look-up of its name on. A second less than a dial has for everything, so that it
/// is the proxy which is named.
const ANSWER_DEADLINE: Duration = Duration::from_secs(8);

/// An answer's head at most; proxies send some hundred bytes.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Headers of an answer at most.
const ANSWER_HEADERS_MAX: usize = 64;

/// Why the proxy is no way to a relay, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyFault {
    /// There is no such host, or it refuses us.
    #[error(
        "the proxy {proxy} cannot be reached: {cause}; is it up, and is --proxy (or HTTPS_PROXY) right?"
    )]
    Unreachable { proxy: String, cause: String },
    /// It says nothing.
    #[error(
        "the proxy {proxy} did not answer within {} s; is it up, and is --proxy (or HTTPS_PROXY) right?",
        ANSWER_DEADLINE.as_secs()
    )]
    Silent { proxy: String },
    /// It closed the connection, or said something else.
    #[error("the proxy {proxy} gave no answer in HTTP ({cause}); is that the port of an HTTP proxy?")]
    Garbled { proxy: String, cause: String },
    /// It wants to know who asks.
    #[error(
        "the proxy {proxy} wants a user and a password ({status}); say --proxy http://<user>:<password>@{proxy}"
    )]
    Unauthenticated { proxy: String, status: u16 },
    /// It knows nobody of this name and password.
    #[error("the proxy {proxy} does not take this user and password ({status}); mend them in --proxy")]
    WrongPassword { proxy: String, status: u16 },
    /// It wants to know in another way.
    #[error(
        "the proxy {proxy} wants to know who asks by {schemes} ({status}), and only Basic is spoken here; ask its operator"
    )]
    OtherScheme { proxy: String, schemes: String, status: u16 },
    /// It may not.
    #[error(
        "the proxy {proxy} forbids connections to {target} ({status}); most allow port 443 alone: ask its operator, or \
         whether the relay listens there"
    )]
    Forbidden { proxy: String, target: String, status: u16 },
    /// It cannot.
    #[error(
        "the proxy {proxy} cannot reach {target} ({status}); is the relay's address right, and is it up?"
    )]
    NoWay { proxy: String, target: String, status: u16 },
    /// Something else.
    #[error("the proxy {proxy} does not connect to {target} (HTTP status {status}); ask its operator")]
    Other { proxy: String, target: String, status: u16 },
    /// A peer named it.
    #[error(
        "a peer named the relay {target}, and a proxy is asked for such names over TLS at port 443 only; name it with \
         --relay yourself"
    )]
    NotNamed { target: String },
}

/// Dials WebSockets through a proxy; nothing else, and none that the proxy is not for.
pub(crate) struct Proxied {
    proxy: Proxy,
    names: Names,
    permits: Permits,
    connector: TlsConnector,
}

impl Proxied {
    pub(crate) fn new(proxy: Proxy, permits: Permits) -> Self {
        Self { proxy, names: Names::default(), permits, connector: connector() }
    }
}

impl Transport for Proxied {
    type Output = Pipe;
    type Error = WebError<ProxyFault>;
    type ListenerUpgrade = BoxFuture<'static, Result<Pipe, Self::Error>>;
    type Dial = BoxFuture<'static, Result<Pipe, Self::Error>>;

    fn listen_on(
        &mut self,
        _: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let way = WebPlace::of(&address).and_then(|place| Some((self.proxy.way_to(&place)?, place)));
        let Some((asking, place)) = way else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        if !self.permits.may_be_asked_for(&address, &place) {
            let fault = ProxyFault::NotNamed { target: target(&place) };
            return Err(TransportError::Other(WebError::Transport(fault)));
        }
        let (names, connector) = (self.names.clone(), self.connector.clone());
        let dial = async move {
            let proxy = name_of(&asking);
            let tunnel = match timeout(ANSWER_DEADLINE, tunnel(&names, &asking, &place)).await {
                Ok(tunnel) => tunnel,
                Err(_) => Err(ProxyFault::Silent { proxy }),
            };
            open(tunnel.map_err(WebError::Transport)?, &place, connector).await
        };
        Ok(dial.boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Poll::Pending
    }
}

fn name_of(asking: &Asking) -> String {
    format!("{}:{}", asking.host, asking.port)
}

fn target(place: &WebPlace) -> String {
    format!("{}:{}", place.host, place.port)
}

/// A connection through the proxy, on which nothing has been said yet.
async fn tunnel(
    names: &Names,
    asking: &Asking,
    place: &WebPlace,
) -> Result<Compat<TcpStream>, ProxyFault> {
    let unreachable = |cause: String| ProxyFault::Unreachable { proxy: name_of(asking), cause };
    let host = asking.host.trim_start_matches('[').trim_end_matches(']');
    let addresses = match host.parse() {
        Ok(ip) => vec![ip],
        Err(_) => names.addresses(host, None).await.map_err(|error| unreachable(error.to_string()))?,
    };
    let sockets: Vec<_> = addresses.into_iter().map(|ip| (ip, asking.port).into()).collect();
    let tcp = TcpStream::connect(&*sockets).await.map_err(|error| unreachable(error.to_string()))?;
    // As for every connection over TCP.
    let _ = tcp.set_nodelay(true);
    let mut tcp = tcp.compat();
    let garbled =
        |cause: io::Error| ProxyFault::Garbled { proxy: name_of(asking), cause: cause.to_string() };
    tcp.write_all(&request(asking, place)).await.map_err(garbled)?;
    let mut answer = Vec::new();
    loop {
        let mut more = [0; 512];
        match tcp.read(&mut more).await.map_err(garbled)? {
            0 => return Err(garbled(io::ErrorKind::UnexpectedEof.into())),
            count => answer.extend_from_slice(&more[..count]),
        }
        if read_answer(&answer, asking, place)? {
            return Ok(tcp);
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(garbled(io::ErrorKind::FileTooLarge.into()));
        }
    }
}

fn request(asking: &Asking, place: &WebPlace) -> Vec<u8> {
    let target = target(place);
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(authorization) = &asking.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// Whether the way is free; not yet, if the answer is not whole.
fn read_answer(answer: &[u8], asking: &Asking, place: &WebPlace) -> Result<bool, ProxyFault> {
    let proxy = name_of(asking);
    let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(answer) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(false),
        Err(cause) => return Err(ProxyFault::Garbled { proxy, cause: cause.to_string() }),
    };
    let target = target(place);
    match response.code.unwrap_or_default() {
        // Who is behind the way speaks after us.
        200..=299 if answer.len() > head => {
            Err(ProxyFault::Garbled { proxy, cause: "it goes on after its answer".to_owned() })
        }
        200..=299 => Ok(true),
        // The right one is 407; tinyproxy says 401 to whoever gave a wrong password.
        status @ (401 | 407) => Err(unauthenticated(status, response.headers, asking)),
        status @ (400..=499) => Err(ProxyFault::Forbidden { proxy, target, status }),
        status @ (500 | 502..=504) => Err(ProxyFault::NoWay { proxy, target, status }),
        status => Err(ProxyFault::Other { proxy, target, status }),
    }
}

fn unauthenticated(status: u16, headers: &[httparse::Header<'_>], asking: &Asking) -> ProxyFault {
    let proxy = name_of(asking);
    let wanted = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("proxy-authenticate"));
    let scheme = |header: &httparse::Header<'_>| {
        let text = String::from_utf8_lossy(header.value);
        text.split([' ', ',']).next().unwrap_or_default().to_owned()
    };
    let schemes: Vec<String> = wanted.map(scheme).collect();
    let basic = schemes.is_empty() || schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    match (basic, &asking.authorization) {
        (false, _) => ProxyFault::OtherScheme { proxy, schemes: schemes.join(", "), status },
        (true, None) => ProxyFault::Unauthenticated { proxy, status },
        (true, Some(_)) => ProxyFault::WrongPassword { proxy, status },
    }
}

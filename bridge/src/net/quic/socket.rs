//! One UDP socket and all connections over it.
//!
//! A task receives what comes and hands it to connections. Whoever writes, sends: packets leave from the task that flushes, or
//! from the one that received what they answer, many with one call of the system. So what is said passes no channel and no
//! other task on its way; the task of a connection ([`Driver`](super::link::Driver)) is there for timers, and for what the
//! system did not take at once.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    io::{self, IoSliceMut},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::BytesMut;
use quinn_proto::{
    self as proto, ConnectionEvent, ConnectionHandle, DatagramEvent, EcnCodepoint, EndpointEvent,
    Incoming, ServerConfig,
};
use quinn_udp::{RecvMeta, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket, sync::Notify};

use super::{Error, link::Link};

/// Receptions with one call of the system.
const RECEPTIONS: usize = 8;

/// What one of them holds: the system puts packets of one sender together, up to this.
const RECEPTION_BYTES: usize = 64 << 10;

/// Calls in a row, after which other tasks have a turn.
const CALLS_IN_A_ROW: usize = 4;

/// What the system is asked to keep until it is sent, or read. It may give less.
const SYSTEM_BYTES: usize = 4 << 20;

/// What the system takes with one call, with room for the heads of IPv6 and UDP.
const TRANSMISSION_BYTES: usize = 65_000;

thread_local! {
    /// Lent by the thread while it receives, so that a socket has no buffers of its own. The system zeroes what is used of it when
    /// that is; to do so here would touch all of it, and take a first call two milliseconds.
    static RECEIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; RECEPTIONS * RECEPTION_BYTES]);
}

/// A socket in use: whoever holds it keeps it open. Once nobody does, its task ends.
#[derive(Clone)]
pub(super) struct Endpoint(Arc<Lease>);

struct Lease(Arc<Socket>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.left.notify_one();
    }
}

pub(super) struct Socket {
    io: UdpSocket,
    udp: UdpSocketState,
    local: SocketAddr,
    shared: Mutex<Shared>,
    /// Nobody needs it any more.
    left: Notify,
}

/// Never locked together with the state of a connection.
struct Shared {
    endpoint: proto::Endpoint,
    links: HashMap<ConnectionHandle, Arc<Link>>,
    /// Who knocks. The protocol has a limit for them.
    incoming: VecDeque<Incoming>,
    /// Who takes them.
    listener: Option<Waker>,
    takes: bool,
    broken: bool,
}

impl Endpoint {
    /// Takes connections if it has a configuration for them. Must be called within a tokio runtime.
    pub(super) fn new(
        config: proto::EndpointConfig,
        listening: Option<ServerConfig>,
        socket: std::net::UdpSocket,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let io = UdpSocket::from_std(socket)?;
        let udp = UdpSocketState::new((&io).into())?;
        // Whatever it gives will do.
        let _ = udp.set_send_buffer_size((&io).into(), SYSTEM_BYTES);
        let _ = udp.set_recv_buffer_size((&io).into(), SYSTEM_BYTES);
        let (takes, may_fragment) = (listening.is_some(), udp.may_fragment());
        let endpoint =
            proto::Endpoint::new(Arc::new(config), listening.map(Arc::new), !may_fragment, None);
        let shared = Mutex::new(Shared {
            endpoint,
            links: HashMap::new(),
            incoming: VecDeque::new(),
            listener: None,
            takes,
            broken: false,
        });
        let socket = Arc::new(Socket { io, udp, local, shared, left: Notify::new() });
        tokio::spawn(receive(Arc::clone(&socket)));
        Ok(Self(Arc::new(Lease(socket))))
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.0.0
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.socket().local
    }

    pub(super) fn connect(
        &self,
        client: proto::ClientConfig,
        remote: SocketAddr,
        name: &str,
    ) -> Result<Arc<Link>, Error> {
        let mut shared = self.socket().lock();
        if shared.broken {
            return Err(Error::Broken);
        }
        let begun = shared.endpoint.connect(Instant::now(), client, remote, name);
        let (handle, connection) = begun.map_err(Error::Connect)?;
        let link = Link::new(self.clone(), handle, connection);
        shared.links.insert(handle, Arc::clone(&link));
        drop(shared);
        link.begin();
        Ok(link)
    }

    pub(super) fn accept(
        &self,
        incoming: Incoming,
        server: Arc<ServerConfig>,
    ) -> Result<Arc<Link>, Error> {
        let mut buffer = Vec::new();
        let mut shared = self.socket().lock();
        match shared.endpoint.accept(incoming, Instant::now(), &mut buffer, Some(server)) {
            Ok((handle, connection)) => {
                let link = Link::new(self.clone(), handle, connection);
                shared.links.insert(handle, Arc::clone(&link));
                drop(shared);
                link.begin();
                Ok(link)
            }
            Err(refused) => {
                drop(shared);
                if let Some(answer) = refused.response {
                    self.socket().send_or_lose(&answer, &buffer);
                }
                Err(Error::Connection(refused.cause))
            }
        }
    }

    /// Has whoever knocks come again with a token; who cannot be told to is refused.
    pub(super) fn retry(&self, incoming: Incoming) {
        let mut buffer = Vec::new();
        let mut shared = self.socket().lock();
        let answer = match shared.endpoint.retry(incoming, &mut buffer) {
            Ok(answer) => answer,
            Err(error) => {
                buffer.clear();
                shared.endpoint.refuse(error.into_incoming(), &mut buffer)
            }
        };
        drop(shared);
        self.socket().send_or_lose(&answer, &buffer);
    }

    /// Who knocks next; none once the socket broke.
    pub(super) fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let mut shared = self.socket().lock();
        if let Some(incoming) = shared.incoming.pop_front() {
            return Poll::Ready(Some(incoming));
        }
        if shared.broken {
            return Poll::Ready(None);
        }
        shared.listener = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes nobody any more. What came and left stays.
    pub(super) fn take_nobody(&self) {
        let mut shared = self.socket().lock();
        shared.takes = false;
        shared.endpoint.set_server_config(None);
        for incoming in std::mem::take(&mut shared.incoming) {
            shared.endpoint.ignore(incoming);
        }
    }
}

impl Socket {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Datagrams of this size that leave with one call.
    pub(super) fn segments(&self, datagram_bytes: u16) -> usize {
        let fit = TRANSMISSION_BYTES / usize::from(datagram_bytes.max(1));
        self.udp.max_gso_segments().min(fit).max(1)
    }

    /// The error is "would block" and no other: the system's other refusals are lost packets.
    pub(super) fn send(&self, transmit: &proto::Transmit, bytes: &[u8]) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &bytes[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        self.io.try_io(Interest::WRITABLE, || self.udp.send((&self.io).into(), &transmit))
    }

    fn send_or_lose(&self, transmit: &proto::Transmit, bytes: &[u8]) {
        if self.send(transmit, bytes).is_err() {
            tracing::debug!(to = %transmit.destination, "an answer over QUIC was lost");
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Tells what a connection says; returns what it is to hear.
    pub(super) fn tell(
        &self,
        handle: ConnectionHandle,
        said: impl IntoIterator<Item = EndpointEvent>,
    ) -> Vec<ConnectionEvent> {
        let mut shared = self.lock();
        let mut answers = Vec::new();
        for event in said {
            if event.is_drained() {
                shared.links.remove(&handle);
            }
            answers.extend(shared.endpoint.handle_event(handle, event));
        }
        answers
    }

    /// Nobody drives this connection any more.
    pub(super) fn forget(&self, handle: ConnectionHandle, link: &Arc<Link>) {
        let mut shared = self.lock();
        if shared.links.get(&handle).is_some_and(|known| Arc::ptr_eq(known, link)) {
            shared.links.remove(&handle);
        }
    }

    /// Reads once. Returns whether there may be more.
    fn read(&self, heard: &mut Vec<Heard>) -> io::Result<bool> {
        RECEIVED.with_borrow_mut(|buffer| {
            let mut metas = [RecvMeta::default(); RECEPTIONS];
            let mut parts = buffer.chunks_mut(RECEPTION_BYTES).map(IoSliceMut::new);
            let mut places: [IoSliceMut<'_>; RECEPTIONS] =
                std::array::from_fn(|_| parts.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            let read = self.io.try_io(Interest::READABLE, || {
                self.udp.recv((&self.io).into(), &mut places, &mut metas)
            });
            match read {
                Ok(count) => {
                    self.heard(metas.iter().zip(&places).take(count), heard);
                    Ok(true)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                // Anybody may have a packet of ours answered so.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(true),
                Err(error) => Err(error),
            }
        })
    }

    fn heard<'a, 'b: 'a>(
        &self,
        receptions: impl Iterator<Item = (&'a RecvMeta, &'a IoSliceMut<'b>)>,
        heard: &mut Vec<Heard>,
    ) {
        let (now, mut shared) = (Instant::now(), self.lock());
        let mut answer = Vec::new();
        for (meta, received) in receptions {
            let mut datagrams = BytesMut::from(&received[..meta.len]);
            while !datagrams.is_empty() {
                let bytes = meta.stride.min(datagrams.len());
                let datagram = datagrams.split_to(bytes);
                let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
                answer.clear();
                let event =
                    shared.endpoint.handle(now, meta.addr, meta.dst_ip, ecn, datagram, &mut answer);
                match event {
                    None => {}
                    Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                        let link = shared.links.get(&handle).map(Arc::clone);
                        heard.extend(link.map(|link| Heard { link, event, bytes }));
                    }
                    Some(DatagramEvent::NewConnection(incoming)) if shared.takes => {
                        shared.incoming.push_back(incoming);
                        shared.listener.take().inspect(Waker::wake_by_ref);
                    }
                    Some(DatagramEvent::NewConnection(incoming)) => shared.endpoint.ignore(incoming),
                    Some(DatagramEvent::Response(transmit)) => self.send_or_lose(&transmit, &answer),
                }
            }
        }
    }

    fn broke(&self, error: &io::Error) {
        tracing::warn!(at = %self.local, %error, "the system broke a socket of QUIC");
        let mut shared = self.lock();
        shared.broken = true;
        let links = std::mem::take(&mut shared.links);
        shared.listener.take().inspect(Waker::wake_by_ref);
        drop(shared);
        links.into_values().for_each(|link| link.cut());
    }
}

/// A packet for a connection.
struct Heard {
    link: Arc<Link>,
    event: ConnectionEvent,
    bytes: usize,
}

/// Receives until nobody needs the socket.
async fn receive(socket: Arc<Socket>) {
    let mut heard = Vec::new();
    loop {
        tokio::select! {
            () = socket.left.notified() => return,
            ready = socket.io.readable() => if let Err(error) = ready {
                return socket.broke(&error);
            },
        }
        for _ in 0..CALLS_IN_A_ROW {
            match socket.read(&mut heard) {
                Ok(more) => {
                    hand_out(&mut heard);
                    if !more {
                        break;
                    }
                }
                Err(error) => return socket.broke(&error),
            }
        }
    }
}

/// Hands connections what was heard. What one alone heard it hears here and now, which wakes whoever waits for it at once;
/// several hear it in their own tasks, side by side.
fn hand_out(heard: &mut Vec<Heard>) {
    let Some(first) = heard.first() else { return };
    let one = Arc::clone(&first.link);
    if heard.iter().all(|heard| Arc::ptr_eq(&heard.link, &one)) && one.is_connected() {
        return one.hear(heard.drain(..).map(|heard| heard.event));
    }
    for Heard { link, event, bytes } in heard.drain(..) {
        link.hear_later(event, bytes);
    }
}

//! A relay's STUN sockets: what arrives is answered as the machine says.
//!
//! They are sockets of their own, beside the one of QUIC, which libp2p keeps to itself: for each address that is listened
//! on two, so that a client can learn whether its NAT lets in what comes from another port. An answer leaves from the
//! very address that it was asked at, which the system is asked for with each datagram; on a host with several addresses
//! it would else choose one itself.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
    time::Instant,
};

use futures::future::poll_fn;
use libp2p::{Multiaddr, multiaddr::Protocol};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

use super::{
    StunListen,
    machine::stun::{Answer, Answers, Arrived, StunPorts},
};
use crate::{
    addr::STUN_PORT,
    error::{ListenFailure, StartError, SystemError},
    event::Event,
    net::{guard::Permits, listen::own_udp_port},
};

/// What is read at once; a question is far smaller.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// Reads of one socket in a row, before others have their turn.
const READS_MAX: usize = 32;

/// One socket, and where it is bound.
struct Door {
    socket: UdpSocket,
    state: UdpSocketState,
    bound: SocketAddr,
}

/// The STUN server of a relay.
pub(super) struct Stun {
    /// Each with the door beside it, if there is one.
    doors: Vec<(Door, Option<Door>)>,
    failed: Vec<(Multiaddr, ListenFailure)>,
    desk: Desk,
}

/// Whom to answer, and what.
struct Desk {
    permits: Permits,
    answers: Answers,
}

impl Stun {
    /// Listens where it is to, for those whom `permits` lets be answered. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If one of the given addresses cannot be listened on. Of the default ones none is needed.
    pub(super) fn listen(config: &StunListen, permits: Permits) -> Result<Self, StartError> {
        let desk = Desk { permits, answers: Answers::default() };
        let mut stun = Self { doors: Vec::new(), failed: Vec::new(), desk };
        let everywhere = [
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, STUN_PORT)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, STUN_PORT)),
        ];
        let (addresses, given) = match config {
            StunListen::Off => return Ok(stun),
            StunListen::Everywhere => (&everywhere[..], false),
            StunListen::At(addresses) => (&addresses[..], true),
        };
        for address in addresses {
            match Door::open(*address) {
                Ok(door) => {
                    let beside = door.beside();
                    stun.doors.push((door, beside));
                }
                Err(cause) if given => {
                    return Err(StartError::Listen { address: multiaddr(*address), cause });
                }
                Err(cause) => stun.failed.push((multiaddr(*address), cause)),
            }
        }
        Ok(stun)
    }

    /// What came of listening.
    pub(super) fn events(&mut self) -> Vec<Event> {
        let listening = self.doors.iter().map(|(door, beside)| Event::StunListening {
            address: multiaddr(door.bound),
            other_port: beside.as_ref().map(|door| door.bound.port()),
        });
        let listening: Vec<_> = listening.collect();
        let failed = std::mem::take(&mut self.failed).into_iter();
        let failed = failed.map(|(address, cause)| Event::ListenFailed { address, cause });
        listening.into_iter().chain(failed).collect()
    }

    /// Where clients are to ask: the first port of each family.
    pub(super) fn ports(&self) -> StunPorts {
        let port = |v4: bool| {
            let mut bound = self.doors.iter().map(|(door, _)| door.bound);
            Some(bound.find(|bound| bound.is_ipv4() == v4)?.port())
        };
        StunPorts { v4: port(true), v6: port(false) }
    }

    /// Answers until it is dropped.
    pub(super) async fn serve(mut self) {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for (door, beside) in &self.doors {
            door.poll(beside.as_ref(), &mut self.desk, cx);
            if let Some(beside) = beside {
                beside.poll(Some(door), &mut self.desk, cx);
            }
        }
        Poll::Pending
    }
}

impl Desk {
    /// Sources can be forged, so nobody is told or counted that is not answered.
    fn answer(&mut self, arrived: Arrived<'_>) -> Option<Answer> {
        self.permits.speaks(arrived.from.ip()).ok()?;
        self.answers.answer(arrived, Instant::now())
    }
}

impl Door {
    fn open(address: SocketAddr) -> Result<Self, ListenFailure> {
        let socket = own_udp_port(address)?;
        let failure = |error: io::Error| match error.raw_os_error() {
            Some(number) => ListenFailure::System { error: SystemError(number) },
            None => ListenFailure::Transport { cause: error.to_string() },
        };
        socket.set_nonblocking(true).map_err(failure)?;
        let bound = socket.local_addr().map_err(failure)?;
        let socket = UdpSocket::from_std(socket).map_err(failure)?;
        let state = UdpSocketState::new((&socket).into()).map_err(failure)?;
        Ok(Self { socket, state, bound })
    }

    /// Another door of the same address: the next port, which an operator can open in a firewall, or any.
    fn beside(&self) -> Option<Self> {
        let at = |port| Self::open(SocketAddr::new(self.bound.ip(), port)).ok();
        self.bound.port().checked_add(1).and_then(at).or_else(|| at(0))
    }

    /// Answers what is there, for a while.
    fn poll(&self, other: Option<&Self>, desk: &mut Desk, cx: &mut Context<'_>) {
        for _ in 0..READS_MAX {
            match self.socket.poll_recv_ready(cx) {
                // An error is about what was sent before.
                Poll::Ready(_) => self.read(other, desk),
                Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }

    fn read(&self, other: Option<&Self>, desk: &mut Desk) {
        let (mut bytes, mut meta) = ([0; DATAGRAM_BYTES_MAX], [RecvMeta::default()]);
        let receive = || {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            self.state.recv((&self.socket).into(), &mut buffers, &mut meta)
        };
        if self.socket.try_io(Interest::READABLE, receive).is_err() {
            return;
        }
        let [RecvMeta { addr, len, stride, dst_ip, .. }] = meta;
        let ip = dst_ip.unwrap_or(self.bound.ip());
        let beside = other.map(|door| SocketAddr::new(ip, door.bound.port()));
        // Where the system did not say which address was asked, nobody can be told the other one.
        let beside = beside.filter(|beside| !beside.ip().is_unspecified());
        // The system may hand over several datagrams of one sender at once.
        for datagram in bytes[..len].chunks(stride.max(1)) {
            let arrived = Arrived { datagram, from: addr, other: beside };
            let Some(answer) = desk.answer(arrived) else { continue };
            let door = other.filter(|_| answer.from_other_port).unwrap_or(self);
            let answer = Transmit {
                destination: addr,
                ecn: None,
                contents: &answer.bytes,
                segment_size: None,
                src_ip: dst_ip,
            };
            // Lost like any datagram: it is asked for again.
            let _ = door.state.try_send((&door.socket).into(), &answer);
        }
    }
}

fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Udp(address.port()))
}

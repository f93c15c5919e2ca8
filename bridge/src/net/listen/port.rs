//! A port of one's own: nobody else may listen on it, although libp2p lets others join.
//!
//! libp2p sets `SO_REUSEPORT` on what it listens on, since hole punching dials from the same port. With it
//! the system lets a second process of the same user listen there as well and deals the connections out
//! between the two. So before libp2p may listen, a socket without `SO_REUSEPORT` is bound to the address:
//! that fails wherever anybody listens. Between the two steps another process of ours could do the same,
//! so they take turns, by a name that only one process at a time can have.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use libp2p::Multiaddr;
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{AddressFamily, SocketType, bind, ipproto, socket, sockopt},
};
use tokio::time::Instant;

use crate::{
    addr::{endpoint_of, transport_of},
    error::{Family, ListenFailure, Occupant, Protocol, SystemError},
    net::local,
    path::Transport,
};

/// For another process to finish its turn, which takes it less than a millisecond. Who holds it longer
/// is stuck or hostile, and then the check has to do without.
const TURN_DEADLINE: Duration = Duration::from_secs(2);
const TURN_RETRY: Duration = Duration::from_millis(5);

/// Where to listen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    protocol: Protocol,
    address: SocketAddr,
}

impl Place {
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let protocol = match transport_of(address) {
            Transport::Tcp | Transport::Websocket => Protocol::Tcp,
            Transport::Quic => Protocol::Udp,
        };
        Some(Self { protocol, address: endpoint_of(address)? })
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.address.ip())
    }

    /// Whether it stands for every interface.
    pub(super) fn is_wildcard(&self) -> bool {
        self.address.ip().is_unspecified()
    }

    /// Says whether this process may listen here, and keeps others of ours from asking until what is
    /// returned is dropped: listen before that.
    pub(super) async fn claim(&self) -> Result<Turn, ListenFailure> {
        let turn = match (self.protocol, self.address.port()) {
            // No port is given to two; and the system does not let two bind to one UDP port.
            (_, 0) | (Protocol::Udp, _) => Turn::default(),
            (Protocol::Tcp, port) => Turn::take(port).await,
        };
        self.bind().map_err(|errno| self.failure(errno))?;
        Ok(turn)
    }

    /// Binds a socket as libp2p will, but without letting others join.
    fn bind(&self) -> Result<OwnedFd, Errno> {
        let family = match self.family() {
            Family::V4 => AddressFamily::INET,
            Family::V6 => AddressFamily::INET6,
        };
        let socket = match self.protocol {
            Protocol::Tcp => socket(family, SocketType::STREAM, Some(ipproto::TCP))?,
            Protocol::Udp => socket(family, SocketType::DGRAM, Some(ipproto::UDP))?,
        };
        if self.family() == Family::V6 {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if self.protocol == Protocol::Tcp {
            // Old connections that this port still remembers do not matter; who listens does.
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &self.address)?;
        Ok(socket)
    }

    fn failure(&self, errno: Errno) -> ListenFailure {
        let (error, port) = (SystemError(errno.raw_os_error()), self.address.port());
        match errno {
            Errno::ADDRNOTAVAIL => {
                let alike = |ip: &IpAddr| Family::of(*ip) == self.family();
                ListenFailure::NotOurs {
                    error,
                    ours: local::addresses().into_iter().filter(alike).collect(),
                }
            }
            Errno::ACCESS if (1..1024).contains(&port) => ListenFailure::Privileged { error, port },
            Errno::ADDRINUSE => {
                let occupant = self.occupant();
                ListenFailure::InUse { error, protocol: self.protocol, port, occupant }
            }
            Errno::AFNOSUPPORT => ListenFailure::NoFamily { error, family: self.family() },
            _ => ListenFailure::System { error },
        }
    }

    /// Who has the port, if this user may know.
    fn occupant(&self) -> Option<Occupant> {
        let protocol = match self.protocol {
            Protocol::Tcp => listeners::Protocol::TCP,
            Protocol::Udp => listeners::Protocol::UDP,
        };
        let overlaps = |other: SocketAddr| {
            let (own, other_ip) = (self.address.ip(), other.ip());
            let meets = own == other_ip || own.is_unspecified() || other_ip.is_unspecified();
            other.port() == self.address.port() && meets
        };
        let found = listeners::get_all().ok()?.into_iter();
        let found = found.filter(|one| one.protocol == protocol && overlaps(one.socket));
        // Connections have the port of their listener; who listens is the one to name.
        let listener = found.min_by_key(|one| one.state != listeners::SocketState::Listen)?;
        Some(Occupant { pid: listener.process.pid, program: listener.process.name })
    }
}

/// A UDP socket at `address`, of that family alone, which nobody shares.
pub(crate) fn own_udp_port(address: SocketAddr) -> Result<UdpSocket, ListenFailure> {
    let place = Place { protocol: Protocol::Udp, address };
    place.bind().map(UdpSocket::from).map_err(|errno| place.failure(errno))
}

/// A turn at one port; over when dropped, or when the process ends.
#[derive(Debug, Default)]
pub(super) struct Turn {
    #[cfg(target_os = "linux")]
    _name: Option<std::os::unix::net::UnixDatagram>,
}

impl Turn {
    /// Waits for the turn at a TCP port. An abstract name lives as long as its socket, and as far as ports
    /// do: in one network namespace, whatever user or container a process belongs to.
    #[cfg(target_os = "linux")]
    async fn take(port: u16) -> Self {
        use std::{
            io::ErrorKind,
            os::{linux::net::SocketAddrExt as _, unix::net},
        };
        let Ok(name) = net::SocketAddr::from_abstract_name(format!("punchline listens on tcp {port}"))
        else {
            return Self::default();
        };
        let deadline = Instant::now() + TURN_DEADLINE;
        loop {
            match net::UnixDatagram::bind_addr(&name) {
                Ok(socket) => return Self { _name: Some(socket) },
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                    tokio::time::sleep(TURN_RETRY).await;
                }
                Err(error) => {
                    tracing::debug!(%error, port, "listening without a turn");
                    return Self::default();
                }
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    async fn take(_port: u16) -> Self {
        Self {}
    }
}

#[cfg(test)]
mod tests;

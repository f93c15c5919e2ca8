//! Sockets of QUIC.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use quinn_proto::ServerConfig;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use super::{Config, Error, socket::Endpoint};
use crate::error::Family;

/// An endpoint at `local`, which takes connections if it has a configuration for them.
pub(super) fn bound(
    config: &Config,
    local: SocketAddr,
    listening: Option<ServerConfig>,
) -> Result<Endpoint, Error> {
    let socket = socket_at(local).map_err(Error::Socket)?;
    Endpoint::new(config.endpoint(), listening, socket).map_err(Error::Socket)
}

/// Whichever port the system gives, to dial from.
pub(super) fn any_port(family: Family) -> SocketAddr {
    match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
        Family::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// A socket of IPv6 leaves the same port of IPv4 to another.
fn socket_at(local: SocketAddr) -> io::Result<UdpSocket> {
    let family = match local {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(ipproto::UDP))?;
    if local.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &local)?;
    Ok(socket.into())
}

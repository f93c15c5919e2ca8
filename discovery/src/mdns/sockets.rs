//! One socket that hears what is said on all LANs, and one for each LAN that speaks there.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// Where everybody listens (RFC 6762, 3).
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;

/// The longest packet (RFC 6762, 17).
const PACKET_BYTES_MAX: usize = 9000;

/// As RFC 6762 (11) wants it: whoever checks it sees that no router was between.
const HOPS: u32 = 255;

/// After an error of the system, such as a network that went down.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Sockets {
    hears: Option<UdpSocket>,
    /// By our address there; none where this host does not let us.
    speak: BTreeMap<Ipv4Addr, Option<UdpSocket>>,
    /// Whether it was said that this host does not let us.
    told: bool,
}

impl Sockets {
    /// Hears and speaks on these LANs, and no others. What this host does not let us is told once.
    pub(super) fn use_lans(&mut self, lans: &[Ipv4Addr]) {
        self.speak.retain(|ip, _| lans.contains(ip));
        if lans.is_empty() {
            self.hears = None;
        }
        for lan in lans {
            if self.speak.contains_key(lan) {
                continue;
            }
            let joined = self.join(*lan);
            if let Err(error) = &joined {
                self.tell(*lan, error);
            }
            self.speak.insert(*lan, joined.ok());
        }
    }

    /// Once: nobody asked for this, and it harms nothing else.
    fn tell(&mut self, lan: Ipv4Addr, error: &io::Error) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::info!(%error, "peers on a local network are not found: port {PORT} over UDP cannot be used there");
        }
        tracing::debug!(%lan, %error, "port {PORT} over UDP cannot be used there");
    }

    fn join(&mut self, lan: Ipv4Addr) -> io::Result<UdpSocket> {
        let hears = match self.hears.take() {
            Some(hears) => hears,
            None => open(Ipv4Addr::UNSPECIFIED)?,
        };
        let hears = self.hears.insert(hears);
        match hears.join_multicast_v4(GROUP, lan) {
            // The LAN went and came back before anybody noticed.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Err(error),
            Err(_) | Ok(()) => {}
        }
        let speaks = open(lan)?;
        let socket = socket2::SockRef::from(&speaks);
        socket.set_multicast_if_v4(&lan)?;
        // Nodes on this host find each other.
        socket.set_multicast_loop_v4(true)?;
        socket.set_multicast_ttl_v4(HOPS)?;
        Ok(speaks)
    }

    /// Tells all on a LAN. What cannot be sent is lost, as packets are.
    pub(super) async fn send(&self, lan: Ipv4Addr, packet: &[u8]) {
        let Some(Some(socket)) = self.speak.get(&lan) else { return };
        if let Err(error) = socket.send_to(packet, SocketAddrV4::new(GROUP, PORT)).await {
            tracing::debug!(%lan, %error, "nothing can be said on a local network");
        }
    }

    /// The next packet, and where it comes from.
    pub(super) async fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let Some(hears) = &self.hears else { return std::future::pending().await };
        let mut packet = vec![0; PACKET_BYTES_MAX];
        loop {
            match hears.recv_from(&mut packet).await {
                Ok((length, from)) => {
                    packet.truncate(length);
                    return (packet, from);
                }
                Err(error) => {
                    tracing::debug!(%error, "nothing can be heard on the local networks");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// A socket beside those of other programs that use the same port.
fn open(ip: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((ip, PORT)).into())?;
    UdpSocket::from_std(socket.into())
}

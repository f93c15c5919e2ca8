//! Plain sockets on machines of a lab, and what tells them their public address.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use punchline_tests::lab::Namespace;
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// Answers one UDP and one TCP question "what is my address?" at a time, until the TCP one is
/// answered: after that no thread stays behind.
pub(crate) struct Reflector {
    pub(crate) address: SocketAddrV4,
    answering: JoinHandle<Result<()>>,
}

impl Reflector {
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_at(namespace, REFLECTOR_PORT)
    }

    pub(crate) fn start_at(namespace: &Namespace, port: u16) -> Result<Self> {
        let address = SocketAddrV4::new(namespace.address(), port);
        let by_udp = udp(namespace, port)?;
        let by_tcp = namespace.within(|| TcpListener::bind(address))??;
        by_udp.set_read_timeout(None)?;
        thread::spawn(move || -> io::Result<()> {
            loop {
                let (_, asker) = by_udp.recv_from(&mut [0; 64])?;
                by_udp.send_to(asker.to_string().as_bytes(), asker)?;
            }
        });
        let answering = thread::spawn(move || {
            let (mut stream, asker) = by_tcp.accept()?;
            stream.write_all(asker.to_string().as_bytes())?;
            Ok(())
        });
        Ok(Self { address, answering })
    }

    pub(crate) fn done(self) -> Result<()> {
        self.answering.join().unwrap_or_else(|_| bail!("the reflector panicked"))
    }
}

pub(crate) fn ask_udp(socket: &UdpSocket, reflector: SocketAddrV4) -> Result<SocketAddrV4> {
    socket.send_to(b"who am I?", reflector)?;
    let (answer, _) = receive(socket)?.context("no answer from the reflector")?;
    Ok(String::from_utf8(answer)?.parse()?)
}

pub(crate) async fn ask_tcp(
    host: &Namespace,
    port: u16,
    reflector: SocketAddrV4,
) -> Result<SocketAddrV4> {
    let mut stream = timeout(SOON, dial(host, port, reflector)).await??.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SOON))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.parse()?)
}

pub(crate) async fn dial(
    from: &Namespace,
    port: u16,
    to: SocketAddrV4,
) -> Result<tokio::net::TcpStream> {
    Ok(tcp(from, port)?.connect(to.into()).await?)
}

/// A listener at a port from which others dial meanwhile.
pub(crate) fn listen(on: &Namespace, port: u16) -> Result<tokio::net::TcpListener> {
    Ok(tcp(on, port)?.listen(BACKLOG)?)
}

fn tcp(namespace: &Namespace, port: u16) -> Result<TcpSocket> {
    let bind = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind((Ipv4Addr::UNSPECIFIED, port).into())?;
        io::Result::Ok(socket)
    };
    Ok(namespace.within(bind)??)
}

pub(crate) fn is_refused<T>(dialled: &Result<T>) -> bool {
    let kind = |error: &anyhow::Error| error.downcast_ref::<io::Error>().map(io::Error::kind);
    dialled.as_ref().err().and_then(kind) == Some(io::ErrorKind::ConnectionRefused)
}

pub(crate) fn udp(namespace: &Namespace, port: u16) -> Result<UdpSocket> {
    let address = SocketAddrV4::new(namespace.address(), port);
    let socket = namespace.within(|| UdpSocket::bind(address))??;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

/// The next datagram and its sender; `None` if none comes while the socket's patience lasts.
pub(crate) fn receive(socket: &UdpSocket) -> Result<Option<(Vec<u8>, SocketAddrV4)>> {
    let mut datagram = vec![0; DATAGRAM];
    // A child that ends meanwhile interrupts a wait that has a limit.
    let received = loop {
        match socket.recv_from(&mut datagram) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received,
        }
    };
    match received {
        Ok((length, SocketAddr::V4(from))) => {
            datagram.truncate(length);
            Ok(Some((datagram, from)))
        }
        Ok((_, other)) => bail!("not IPv4: {other}"),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn local(socket: &UdpSocket) -> Result<SocketAddrV4> {
    match socket.local_addr()? {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => bail!("the lab is IPv4 only"),
    }
}

pub(crate) const HOST_PORT: u16 = 40_000;
pub(crate) const REFLECTOR_PORT: u16 = 3_478;

/// The longest datagram that is received whole, with its headers.
pub(crate) const DATAGRAM: usize = 1_000;

const BACKLOG: u32 = 8;

/// The lab has no delay: whatever takes this long will not come.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How long a silence must last to be one; a first retransmission of a SYN falls into it.
pub(crate) const SILENCE: Duration = Duration::from_millis(1_500);

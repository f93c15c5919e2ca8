//! The first words with whoever is at an address, before any handshake.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::doctor::findings::{Fault, Foreign};

/// For TCP to connect: one lost packet is sent again after a second, a second one after three.
const CONNECT: Duration = Duration::from_secs(4);

/// For whoever took a connection to say what it speaks.
const HELLO: Duration = Duration::from_secs(3);

/// For a packet over UDP to be answered, and between two of them.
const UDP: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(500));

/// A connection over TCP.
pub(super) async fn connect(at: SocketAddr) -> Result<TcpStream, Fault> {
    match timeout(CONNECT, TcpStream::connect(at)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => Fault::TcpRefused { at },
            io::ErrorKind::TimedOut => Fault::TcpTimeout { at, seconds: CONNECT.as_secs() },
            _ => Fault::TcpUnreachable { at, cause: error.to_string() },
        }),
        Err(_) => Err(Fault::TcpTimeout { at, seconds: CONNECT.as_secs() }),
    }
}

/// How every conversation of libp2p begins over TCP, with its length before it.
const MULTISTREAM: &[u8] = b"\x13/multistream/1.0.0\n";

/// Says how libp2p begins, and looks at what comes back.
pub(super) async fn hello(mut stream: TcpStream, at: SocketAddr) -> Result<(), Fault> {
    let said = stream.write_all(MULTISTREAM).await.is_ok();
    let mut bytes = [0; 64];
    let heard = match timeout(HELLO, stream.read(&mut bytes)).await {
        Ok(Ok(length)) if said => Some(length),
        Ok(_) => Some(0),
        Err(_) => None,
    };
    match heard {
        Some(0) if speaks_http(at).await => Err(Fault::Foreign(Foreign::Http)),
        Some(0) => Err(Fault::HungUp),
        Some(length) => match kind_of(bytes.get(..length).unwrap_or_default()) {
            None => Ok(()),
            Some(foreign) => Err(Fault::Foreign(foreign)),
        },
        None if speaks_http(at).await => Err(Fault::Foreign(Foreign::Http)),
        None => Err(Fault::Silent { seconds: HELLO.as_secs() }),
    }
}

/// What else it is; none for libp2p.
fn kind_of(heard: &[u8]) -> Option<Foreign> {
    let text = String::from_utf8_lossy(heard).to_lowercase();
    if heard.starts_with(MULTISTREAM.get(..heard.len().min(MULTISTREAM.len())).unwrap_or_default()) {
        return None;
    }
    Some(match heard {
        _ if text.starts_with("http/") || text.starts_with('<') => Foreign::Http,
        _ if text.starts_with("ssh-") => Foreign::Ssh,
        // An alert or a handshake of TLS.
        [0x15 | 0x16, 0x03, ..] => Foreign::Tls,
        _ => Foreign::Unknown,
    })
}

/// Some wait for the end of a request before they say anything.
async fn speaks_http(at: SocketAddr) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(at).await.ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.ok()?;
        Some(bytes == *b"HTTP/")
    };
    matches!(timeout(Duration::from_secs(1), asked).await, Ok(Some(true)))
}

/// A version that nobody speaks, kept for this (RFC 9000, section 15): whoever speaks QUIC says which ones it does.
const VERSION: [u8; 4] = [0x0a, 0x1a, 0x2a, 0x3a];

/// A server of QUIC answers no shorter packet (RFC 9000, section 14.1).
const PACKET_BYTES: usize = 1200;

/// Whether something answers in QUIC, of whichever version.
pub(super) async fn negotiate(at: SocketAddr) -> Result<(), Fault> {
    let unreachable = |cause: io::Error| Fault::UdpUnreachable { at, cause: cause.to_string() };
    let any: IpAddr = match at {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.map_err(unreachable)?;
    socket.connect(at).await.map_err(unreachable)?;
    let packet = unknown_version();
    let (deadline, again) = UDP;
    let asked = async {
        loop {
            socket.send(&packet).await?;
            let mut bytes = [0; 64];
            if let Ok(received) = timeout(again, socket.recv(&mut bytes)).await {
                return received.map(drop);
            }
        }
    };
    match timeout(deadline, asked).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Fault::UdpRefused { at })
        }
        Ok(Err(error)) => Err(unreachable(error)),
        Err(_) => Err(Fault::UdpSilent { at, seconds: deadline.as_secs() }),
    }
}

/// A packet with a long header: form, version, two connection ids of eight bytes.
fn unknown_version() -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(VERSION);
    for id in [rand::random::<[u8; 8]>(), rand::random()] {
        packet.push(8);
        packet.extend(id);
    }
    packet.resize(PACKET_BYTES, 0);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_is_known_by_its_first_bytes() {
        for (heard, foreign) in [
            (MULTISTREAM, None),
            (b"\x13/multi".as_slice(), None),
            (b"HTTP/1.1 400 Bad Request", Some(Foreign::Http)),
            (b"<!DOCTYPE HTML>", Some(Foreign::Http)),
            (b"SSH-2.0-OpenSSH_9.2", Some(Foreign::Ssh)),
            (b"\x15\x03\x01\x00\x02\x02\x46", Some(Foreign::Tls)),
            (b"220 mail.example", Some(Foreign::Unknown)),
        ] {
            assert_eq!(kind_of(heard), foreign, "{heard:?}");
        }
    }

    #[test]
    fn the_packet_is_long_enough_to_be_answered_and_of_no_version() {
        let packet = unknown_version();
        assert_eq!(packet.len(), PACKET_BYTES);
        assert_eq!(packet.get(1..5), Some(VERSION.as_slice()));
    }
}

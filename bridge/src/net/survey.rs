//! What a program may find out about the network it is in before it runs a node there.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{Instant, timeout, timeout_at},
};

pub use super::mapping::{RouterAnswer, port_mapping};
use super::{
    names::Names,
    relay_names,
    stun::message::{Body, Message, TransactionId},
};
use crate::{
    addr::{
        GlobalScope, Ranges, RelayAddr, RelayName,
        stun::{Host, StunServer},
    },
    nat::AnswerFrom,
};

/// For a STUN server to answer, its name included.
const ANSWER: Duration = Duration::from_secs(2);

/// Between two questions, and between two packets that are to come back.
const AGAIN: Duration = Duration::from_millis(200);

/// For a packet to come back from our own router.
const BACK: Duration = Duration::from_millis(1000);

const DATAGRAM_BYTES_MAX: usize = 1500;

/// Whether our router sends back what goes to its own public address: then two nodes behind it meet there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hairpin {
    /// It does.
    Works,
    /// Nothing came back.
    Fails,
    /// There is no NAT in between.
    NoNat,
    /// A STUN server does not see our two ports at one public address, and nothing was sent where it says.
    NotPublic,
    /// No STUN server answered that may be asked, so that the public address is not known.
    Unknown,
}

/// The relays that a name stands for, as the TXT records of `_dnsaddr.<name>` say: 32 addresses at most, in 10 s.
///
/// # Errors
/// Why there is none, and what to do.
pub async fn relays(name: &RelayName) -> Result<Vec<RelayAddr>, String> {
    let resolved = relay_names::resolve(Names::default(), name.clone()).await;
    resolved.failure.map_or(Ok(resolved.relays), Err)
}

/// Learns from a STUN server over IPv4 how it sees two ports of ours, and sends from each to the other as it is seen. Takes
/// 3 s at most. The server is asked unless `ranges` deny its address, and nothing is sent to where it says unless it sees
/// both ports at one public address, as `global` has it: a server may name any host, of this network too.
pub async fn hairpin(server: &StunServer, ranges: &Ranges, global: &GlobalScope) -> Hairpin {
    try_hairpin(server, ranges, global).await.unwrap_or(Hairpin::Unknown)
}

async fn try_hairpin(server: &StunServer, ranges: &Ranges, global: &GlobalScope) -> Option<Hairpin> {
    let deadline = Instant::now() + ANSWER;
    let server = timeout_at(deadline, resolve(server)).await.ok()??;
    if ranges.denies(server.ip()) {
        return None;
    }
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let (one, other) = (bind().await.ok()?, bind().await.ok()?);
    let seen = async { tokio::join!(seen(&one, server), seen(&other, server)) };
    let (Some(seen_one), Some(seen_other)) = timeout_at(deadline, seen).await.ok()? else {
        return None;
    };
    if is_ours(seen_one.ip()).await {
        return Some(Hairpin::NoNat);
    }
    if seen_one.ip() != seen_other.ip() || !global.contains(seen_one.ip()) {
        return Some(Hairpin::NotPublic);
    }
    // Each opens the NAT for what the other sends.
    let (to_one, to_other) = (rand::random::<[u8; 16]>(), rand::random::<[u8; 16]>());
    let back = async {
        loop {
            let _ = one.send_to(&to_other, seen_other).await;
            let _ = other.send_to(&to_one, seen_one).await;
            tokio::select! {
                () = arrives(&one, &to_one) => return,
                () = arrives(&other, &to_other) => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    };
    Some(if timeout(BACK, back).await.is_ok() { Hairpin::Works } else { Hairpin::Fails })
}

async fn resolve(server: &StunServer) -> Option<SocketAddr> {
    let ips = match &server.host {
        Host::Ip(ip) => vec![*ip],
        Host::Name(name) => Names::default().addresses(name, None).await.ok()?,
    };
    let ip = ips.into_iter().find(IpAddr::is_ipv4)?;
    Some((ip, server.port).into())
}

/// How the server sees a socket.
async fn seen(socket: &UdpSocket, server: SocketAddr) -> Option<SocketAddr> {
    let transaction: TransactionId = rand::random();
    let body = Body::Request { answer_from: AnswerFrom::Here, unknown: Vec::new() };
    let question = Message { transaction, body }.write();
    loop {
        socket.send_to(&question, server).await.ok()?;
        if let Ok(seen) = timeout(AGAIN, answer(socket, transaction)).await {
            return Some(seen);
        }
    }
}

async fn answer(socket: &UdpSocket, transaction: TransactionId) -> SocketAddr {
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    loop {
        // An error is about what was sent before.
        let Ok((length, _)) = socket.recv_from(&mut bytes).await else { continue };
        let message = bytes.get(..length).and_then(Message::read);
        if let Some(Message { transaction: answered, body: Body::Success { mapped, .. } }) = message
            && answered == transaction
        {
            return mapped;
        }
    }
}

async fn arrives(socket: &UdpSocket, expected: &[u8]) {
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    loop {
        match socket.recv_from(&mut bytes).await {
            Ok((length, _)) if bytes.get(..length) == Some(expected) => return,
            _ => {}
        }
    }
}

/// Whether an interface of this host has the address.
async fn is_ours(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).await.is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Answers each question with what `seen` makes of where it came from.
    async fn server(seen: impl Fn(SocketAddr) -> SocketAddr + Send + 'static) -> StunServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; DATAGRAM_BYTES_MAX];
            while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                let Message { transaction, .. } = Message::read(&bytes[..length]).unwrap();
                let body = Body::Success { mapped: seen(from), other: None };
                socket.send_to(&Message { transaction, body }.write(), from).await.unwrap();
            }
        });
        at.to_string().parse().unwrap()
    }

    /// As a host that may ask anybody, and takes the documentation's addresses for public.
    async fn tried(server: &StunServer) -> Hairpin {
        let global = GlobalScope::with_assumed(vec!["198.51.100.0/24".parse().unwrap()]);
        hairpin(server, &Ranges::default(), &global).await
    }

    #[tokio::test]
    async fn a_host_that_is_seen_at_its_own_address_is_behind_no_nat() {
        assert_eq!(tried(&server(|from| from).await).await, Hairpin::NoNat);
    }

    #[tokio::test]
    async fn where_nothing_comes_back_from_the_public_address_there_is_no_hairpin() {
        let elsewhere = |_| "198.51.100.1:4001".parse().unwrap();
        assert_eq!(tried(&server(elsewhere).await).await, Hairpin::Fails);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_leaves_it_open() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap().to_string().parse().unwrap();
        assert_eq!(tried(&at).await, Hairpin::Unknown);
    }

    #[tokio::test]
    async fn nothing_is_sent_where_a_server_says_that_is_not_one_public_address() {
        // A host of this network, and two hosts that cannot both be our router.
        let within = server(|_| "192.168.77.1:9".parse().unwrap()).await;
        let first = std::sync::OnceLock::new();
        let two = server(move |from| {
            let last = if *first.get_or_init(|| from.port()) == from.port() { 1 } else { 2 };
            format!("198.51.100.{last}:4001").parse().unwrap()
        });
        for server in [within, two.await] {
            assert_eq!(tried(&server).await, Hairpin::NotPublic);
        }
    }

    #[tokio::test]
    async fn a_server_in_a_range_that_is_denied_is_asked_nothing() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap().to_string().parse().unwrap();
        let denied = Ranges::new(Vec::new(), vec!["127.0.0.0/8".parse().unwrap()]).unwrap();
        assert_eq!(hairpin(&at, &denied, &GlobalScope::default()).await, Hairpin::Unknown);
        let mut bytes = [0; DATAGRAM_BYTES_MAX];
        assert!(socket.try_recv_from(&mut bytes).is_err(), "nothing came");
    }
}

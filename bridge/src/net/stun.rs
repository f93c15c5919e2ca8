//! Asks STUN servers for the engine: sends what it wants sent, and tells it what came back.
//!
//! [`message`] is the wire. Each run of questions leaves from a port of its own for each family, never from the port that
//! QUIC listens on: quinn takes all that comes there for QUIC. What arrives is told only if it carries the transaction id
//! of a question of the run; what is to be believed of it, the engine decides.

pub(crate) mod message;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
};

use futures::future::poll_fn;
use rustix::net::{SendFlags, sendto};
use tokio::{io::ReadBuf, net::UdpSocket, task::JoinSet};

use self::message::{Body, Message, TransactionId};
use super::{guard::Permits, names::Names};
use crate::{
    addr::stun::{Host, StunServer},
    engine::{
        input::Input,
        paths::nat::{Ask, ProbeId, RunId},
    },
};

/// An answer is far smaller.
const DATAGRAM_BYTES_MAX: usize = 1500;

/// Datagrams that are read in a row, so that a flood of them leaves room for everything else.
const READS_MAX: usize = 32;

/// The sockets of the latest run, and the lookups of names.
pub(crate) struct Client {
    permits: Permits,
    run: Option<RunId>,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    /// As many as the engine's run has questions.
    asked: HashMap<TransactionId, ProbeId>,
    names: Names,
    lookups: JoinSet<Input>,
}

impl Client {
    /// `permits`: which servers may be asked.
    pub(crate) fn new(permits: Permits) -> Self {
        Self {
            permits,
            run: None,
            v4: None,
            v6: None,
            asked: HashMap::new(),
            names: Names::default(),
            lookups: JoinSet::new(),
        }
    }

    /// Sends a question, or sends it again. What that comes to, if it does not leave this host.
    pub(crate) fn ask(&mut self, ask: Ask) -> Option<Input> {
        let Ask { probe, run, to, answer_from } = ask;
        // Here, since a server's name is looked up by now, and servers name other addresses of their own.
        if let Err(refused) = self.permits.speaks(to.ip()) {
            tracing::warn!(%refused, "a STUN server is not asked");
            return Some(Input::StunRefused { probe });
        }
        if let Some(before) = self.run.filter(|before| *before != run) {
            self.close(before);
        }
        self.run = Some(run);
        let known = self.asked.iter().find(|(_, asked)| **asked == probe).map(|(id, _)| *id);
        let transaction = known.unwrap_or_else(rand::random);
        self.asked.insert(transaction, probe);
        let body = Body::Request { answer_from, unknown: Vec::new() };
        let question = Message { transaction, body }.write();
        match self.send(&question, to) {
            Ok(()) => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                tracing::debug!(%error, %to, "a STUN server cannot be asked");
                Some(Input::StunRefused { probe })
            }
        }
    }

    /// Gives the ports of a run back.
    pub(crate) fn close(&mut self, run: RunId) {
        if self.run.take_if(|latest| *latest == run).is_some() {
            (self.v4, self.v6) = (None, None);
            self.asked.clear();
        }
    }

    fn send(&mut self, question: &[u8], to: SocketAddr) -> io::Result<()> {
        let (socket, any): (_, IpAddr) = match to {
            SocketAddr::V4(_) => (&mut self.v4, Ipv4Addr::UNSPECIFIED.into()),
            SocketAddr::V6(_) => (&mut self.v6, Ipv6Addr::UNSPECIFIED.into()),
        };
        let socket = match socket {
            Some(socket) => socket,
            none => none.insert(bind(any)?),
        };
        // Not through tokio, which takes a fresh socket for one that is not ready.
        sendto(&*socket, question, SendFlags::empty(), &to)?;
        Ok(())
    }

    /// Looks up what the name of a server stands for.
    pub(crate) fn resolve(&mut self, run: RunId, server: StunServer) {
        let names = self.names.clone();
        self.lookups.spawn(async move {
            let ips = match &server.host {
                Host::Ip(ip) => vec![*ip],
                Host::Name(name) => names.addresses(name, None).await.unwrap_or_else(|error| {
                    tracing::warn!(%server, %error, "a STUN server cannot be asked");
                    Vec::new()
                }),
            };
            Input::StunResolved { run, server, ips }
        });
    }

    /// What the engine is to be told next. Nothing is lost if it is not waited for.
    pub(crate) async fn heard(&mut self) -> Input {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Poll::Ready(Some(Ok(resolved))) = self.lookups.poll_join_next(cx) {
            return Poll::Ready(resolved);
        }
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            if let Poll::Ready(input) = read(socket, &self.asked, cx) {
                return Poll::Ready(input);
            }
        }
        Poll::Pending
    }
}

fn bind(any: IpAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// The next answer to one of the questions.
fn read(
    socket: &UdpSocket,
    asked: &HashMap<TransactionId, ProbeId>,
    cx: &mut Context<'_>,
) -> Poll<Input> {
    let mut bytes = [0; DATAGRAM_BYTES_MAX];
    for _ in 0..READS_MAX {
        let mut datagram = ReadBuf::new(&mut bytes);
        let from = std::task::ready!(socket.poll_recv_from(cx, &mut datagram));
        // An error is about what was sent before: its question stays unanswered.
        let Ok(from) = from else { continue };
        if let Some(input) = answer(datagram.filled(), from, asked) {
            return Poll::Ready(input);
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn answer(datagram: &[u8], from: SocketAddr, asked: &HashMap<TransactionId, ProbeId>) -> Option<Input> {
    let Message { transaction, body } = Message::read(datagram)?;
    let probe = *asked.get(&transaction)?;
    match body {
        Body::Success { mapped, other } => Some(Input::StunAnswered { probe, from, mapped, other }),
        Body::Error => Some(Input::StunRefused { probe }),
        Body::Request { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::{
        addr::{GlobalScope, Ranges},
        nat::AnswerFrom,
    };

    fn client(deny: &[&str]) -> Client {
        let deny = deny.iter().map(|net| net.parse().unwrap()).collect();
        Client::new(Permits::new(GlobalScope::default(), Ranges::new(Vec::new(), deny).unwrap()))
    }

    async fn soon<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), what).await.unwrap()
    }

    #[tokio::test]
    async fn only_what_carries_the_id_of_a_question_is_an_answer_and_a_question_keeps_its_id() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        let mut client = client(&[]);
        let (probe, run) = (ProbeId(7), RunId(1));
        let ask = Ask { probe, run, to, answer_from: AnswerFrom::Here };
        let mut ids = Vec::new();
        let mut bytes = [0; DATAGRAM_BYTES_MAX];
        let mut here = to;
        for _ in 0..2 {
            assert!(client.ask(ask).is_none());
            let (length, from) = soon(server.recv_from(&mut bytes)).await.unwrap();
            here = from;
            ids.push(Message::read(&bytes[..length]).unwrap().transaction);
        }
        assert_eq!(ids[0], ids[1], "sent again, it is the same question");
        let says = |transaction, mapped: &str| {
            let body = Body::Success { mapped: mapped.parse().unwrap(), other: None };
            Message { transaction, body }.write()
        };
        let mut spoofed = ids[0];
        spoofed[11] ^= 1;
        server.send_to(b"nothing of STUN", here).await.unwrap();
        server.send_to(&says(spoofed, "6.6.6.6:6"), here).await.unwrap();
        server.send_to(&says(ids[0], "73.0.0.11:40000"), here).await.unwrap();
        let Input::StunAnswered { probe: answered, from, mapped, other: None } =
            soon(client.heard()).await
        else {
            panic!("an answer")
        };
        assert_eq!((answered, from, mapped), (probe, to, "73.0.0.11:40000".parse().unwrap()));
    }

    #[tokio::test]
    async fn each_run_leaves_from_another_port() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        let (mut client, mut ports) = (client(&[]), Vec::new());
        for run in [1, 1, 2] {
            let ask = Ask { probe: ProbeId(1), run: RunId(run), to, answer_from: AnswerFrom::Here };
            assert!(client.ask(ask).is_none());
            ports.push(soon(server.recv_from(&mut [0; 64])).await.unwrap().1.port());
        }
        assert_eq!(ports[0], ports[1]);
        assert_ne!(ports[1], ports[2], "what the last run opened in a NAT would belie this one");
    }

    #[tokio::test]
    async fn a_server_of_a_denied_range_is_not_asked() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        let ask = Ask { probe: ProbeId(7), run: RunId(1), to, answer_from: AnswerFrom::Here };
        let refused = client(&["127.0.0.1/32"]).ask(ask);
        assert!(matches!(refused, Some(Input::StunRefused { probe: ProbeId(7) })), "{refused:?}");
        // What arrives first is the question of somebody else.
        let mut other = client(&["127.0.0.2/32"]);
        assert!(other.ask(ask).is_none());
        let (_, from) = soon(server.recv_from(&mut [0; 64])).await.unwrap();
        assert_eq!(from.port(), other.v4.unwrap().local_addr().unwrap().port());
    }
}

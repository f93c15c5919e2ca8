//! Asks one node, and no other, who is near to this one: FIND_NODE of Kademlia, outside of any lookup.
//!
//! A lookup asks whoever is nearest to its key, so it never tells whether a certain node answers. Of a bootstrap node that is
//! what matters: one that takes connections and answers nothing is down. And whom it names is how two halves of a network
//! that was split meet again: everybody's own table names its own half.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    convert::Infallible,
    io,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{
        Endpoint, UpgradeInfo,
        transport::PortUse,
        upgrade::{DeniedUpgrade, OutboundUpgrade},
    },
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, OneShotHandler,
        OneShotHandlerConfig, Stream, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm, behaviour::ConnectionClosed,
    },
};
use prost::Message as _;

/// Within this it answers, or it hangs.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Peers that are read from one answer: as many as libp2p names.
pub(super) const NAMED_MAX: usize = 20;

/// Addresses of one of them that are read.
const ADDRESSES_MAX: usize = 8;

/// The longest answer, as for lookups.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// FIND_NODE in the protobuf of libp2p's Kademlia specification.
const FIND_NODE: i32 = 4;

/// A message of Kademlia, as far as it matters here.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(message, repeated, tag = "8")]
    closer: Vec<Peer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Peer {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addresses: Vec<Vec<u8>>,
}

/// Peers, and where they are by somebody's word.
pub(super) type Named = Vec<(PeerId, Vec<Multiaddr>)>;

/// How a node answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) peer: PeerId,
    /// Whom it named; none if it did not answer.
    pub(super) named: Option<Named>,
}

/// Asks for the nodes that are nearest to a key.
#[derive(Clone, Debug)]
pub(super) struct Question {
    protocol: StreamProtocol,
    key: Vec<u8>,
}

impl UpgradeInfo for Question {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(self.protocol.clone())
    }
}

impl OutboundUpgrade<Stream> for Question {
    type Output = Reply;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Reply>>;

    fn upgrade_outbound(self, mut stream: Stream, _: Self::Info) -> Self::Future {
        Box::pin(async move {
            let question = Message { kind: FIND_NODE, key: self.key, closer: Vec::new() };
            stream.write_all(&question.encode_length_delimited_to_vec()).await?;
            stream.flush().await?;
            let answer = read(&mut stream).await?;
            // Whoever asked is done; that the other end hears so does not matter.
            let _ = stream.close().await;
            Ok(Reply(named(&answer)?))
        })
    }
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Reply(Named);

impl From<Infallible> for Reply {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A length, and as many bytes.
async fn read(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut length = 0;
    for shift in [0, 7, 14] {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too long an answer"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Whom an answer names. What makes no sense in it is left out.
fn named(answer: &[u8]) -> io::Result<Named> {
    let message = Message::decode(answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    if message.kind != FIND_NODE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to something else"));
    }
    let peer = |peer: Peer| {
        let addresses = peer.addresses.into_iter().take(ADDRESSES_MAX);
        let addresses = addresses.filter_map(|address| Multiaddr::try_from(address).ok()).collect();
        Some((PeerId::from_bytes(&peer.id).ok()?, addresses))
    };
    Ok(message.closer.into_iter().take(NAMED_MAX).filter_map(peer).collect())
}

/// Asks connected nodes, each one question at a time.
pub(super) struct Asker {
    question: Question,
    /// Whom a question is under way to, and on which connection once that is known.
    asked: HashMap<PeerId, ConnectionId>,
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    to_ask: VecDeque<(PeerId, ConnectionId)>,
    answers: VecDeque<Answered>,
}

impl Asker {
    /// Who is near to `local`, in the network that speaks `protocol`.
    pub(super) fn new(protocol: StreamProtocol, local: PeerId) -> Self {
        let (asked, connections, to_ask, answers) = Default::default();
        let question = Question { protocol, key: local.to_bytes() };
        Self { question, asked, connections, to_ask, answers }
    }

    /// Asks a node, unless it is asked already. Returns whether it is connected, so that there will be an answer.
    pub(super) fn ask(&mut self, peer: PeerId) -> bool {
        let Some(connection) = self.connections.get(&peer).and_then(|all| all.last()) else {
            return false;
        };
        if let Entry::Vacant(asked) = self.asked.entry(peer) {
            asked.insert(*connection);
            self.to_ask.push_back((peer, *connection));
        }
        true
    }

    fn opened(&mut self, peer: PeerId, connection: ConnectionId) {
        self.connections.entry(peer).or_default().push(connection);
    }

    fn closed(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(all) = self.connections.get_mut(&peer) {
            all.retain(|other| *other != connection);
            if all.is_empty() {
                self.connections.remove(&peer);
            }
        }
        if self.asked.get(&peer) == Some(&connection) {
            self.asked.remove(&peer);
            self.to_ask.retain(|(to, _)| *to != peer);
            self.answers.push_back(Answered { peer, named: None });
        }
    }
}

type Handler = OneShotHandler<DeniedUpgrade, Question, Reply>;

impl Asker {
    fn handler() -> Handler {
        let config = OneShotHandlerConfig {
            outbound_substream_timeout: ANSWER_DEADLINE,
            // It counts those that failed as under way for ever.
            max_dial_negotiated: u32::MAX,
        };
        OneShotHandler::new(SubstreamProtocol::new(DeniedUpgrade, ()), config)
    }
}

impl NetworkBehaviour for Asker {
    type ConnectionHandler = Handler;
    type ToSwarm = Answered;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Self::handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Self::handler())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(opened) => {
                self.opened(opened.peer_id, opened.connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.closed(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if self.asked.remove(&peer).is_some() {
            let named = event.ok().map(|Reply(named)| named);
            self.answers.push_back(Answered { peer, named });
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Answered, THandlerInEvent<Self>>> {
        if let Some(answered) = self.answers.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(answered));
        }
        match self.to_ask.pop_front() {
            Some((peer_id, connection)) => Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event: self.question.clone(),
            }),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(id: &PeerId, addresses: usize) -> Peer {
        let address: Multiaddr = "/ip4/203.0.113.7/tcp/4001".parse().unwrap();
        Peer { id: id.to_bytes(), addresses: vec![address.to_vec(); addresses] }
    }

    #[test]
    fn of_an_answer_only_what_makes_sense_is_read_and_only_so_much() {
        let mut closer: Vec<Peer> = (0..100).map(|_| peer(&PeerId::random(), 100)).collect();
        closer[1].id = b"nonsense".to_vec();
        closer[2].addresses[0] = b"nonsense".to_vec();
        let answer = Message { kind: FIND_NODE, key: Vec::new(), closer };
        let named = named(&answer.encode_to_vec()).unwrap();
        assert_eq!(named.len(), NAMED_MAX - 1);
        assert!(named.iter().all(|(_, addresses)| addresses.len() <= ADDRESSES_MAX));
        let other = Message { kind: 1, ..answer };
        assert!(super::named(&other.encode_to_vec()).is_err());
        assert!(super::named(b"\xff\xff").is_err());
    }

    #[test]
    fn whose_connection_ends_has_not_answered_and_one_that_is_not_connected_is_not_asked() {
        let id = StreamProtocol::new("/test/kad/1.0.0");
        let (mut asker, peer) = (Asker::new(id, PeerId::random()), PeerId::random());
        assert!(!asker.ask(peer));
        let [first, second] = [1, 2].map(ConnectionId::new_unchecked);
        asker.opened(peer, first);
        asker.opened(peer, second);
        assert!(asker.ask(peer) && asker.ask(peer), "once is enough");
        assert_eq!(asker.to_ask.len(), 1);
        asker.closed(peer, first);
        assert!(asker.answers.is_empty(), "it was asked on the other one");
        asker.closed(peer, second);
        assert!(matches!(asker.answers.pop_front(), Some(Answered { named: None, .. })));
        assert!(!asker.ask(peer));
    }
}

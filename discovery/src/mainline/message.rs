//! Packets of the protocol (BEP 5, 42, 43, 44): read with bounds, written.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{
    bencode::{self, Dictionary, Value, Writer, write_bytes},
    id::{ID_BYTES, Id},
    item::{Item, Mutable, VALUE_BYTES_MAX},
};

/// The longest packet that is read: what passes everywhere without being cut in pieces.
pub(super) const PACKET_BYTES_MAX: usize = 1500;

/// What a transaction is called by whoever asks is sent back as it is; nobody needs more.
const TRANSACTION_BYTES_MAX: usize = 16;

/// Tokens of others; those of this node have 8 bytes.
const TOKEN_BYTES_MAX: usize = 64;

/// Nodes and peers that are read from one answer, and peers that one has.
const NODES_READ_MAX: usize = 32;
pub(super) const PEERS_MAX: usize = 50;

/// A node: its id, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its id.
    pub id: Id,
    /// Where it is.
    pub address: SocketAddrV4,
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Chosen by who asks.
    pub(super) transaction: Vec<u8>,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Query {
        from: Id,
        query: Query,
        /// The asker answers nobody (BEP 43).
        read_only: bool,
    },
    /// `sees_us_at`: where the answer was sent to, as the other end says (BEP 42).
    Answer {
        answer: Box<Answer>,
        sees_us_at: Option<SocketAddrV4>,
    },
    Refusal(Refusal),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Query {
    Ping,
    FindNode {
        target: Id,
    },
    GetPeers {
        hash: Id,
    },
    /// No port: the one that it is sent from.
    Announce {
        hash: Id,
        port: Option<u16>,
        token: Vec<u8>,
    },
    Get {
        target: Id,
    },
    Put {
        item: Item,
        /// Only if what is stored has this number.
        replaces: Option<i64>,
        token: Vec<u8>,
    },
}

/// What is answered; each query fills some of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) id: Id,
    pub(super) nodes: Vec<Node>,
    pub(super) peers: Vec<SocketAddrV4>,
    pub(super) token: Option<Vec<u8>>,
    pub(super) item: Option<Item>,
}

impl Answer {
    pub(super) fn new(id: Id) -> Self {
        Self { id, nodes: Vec::new(), peers: Vec::new(), token: None, item: None }
    }
}

/// Why something is not done, with the numbers of BEP 5 and 44.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What is asked makes no sense.
    Protocol,
    UnknownMethod,
    TooLong,
    Signature,
    SaltTooLong,
    /// What is stored has another number than was expected.
    Changed,
    /// What is stored is newer.
    Older,
    /// There is no room; or something else, of others.
    Other,
}

impl Refusal {
    const ALL: [(Self, i64, &'static str); 8] = [
        (Self::Protocol, 203, "Protocol Error"),
        (Self::UnknownMethod, 204, "Method Unknown"),
        (Self::TooLong, 205, "Message too big"),
        (Self::Signature, 206, "Invalid signature"),
        (Self::SaltTooLong, 207, "Salt too big"),
        (Self::Changed, 301, "CAS mismatch"),
        (Self::Older, 302, "Sequence number less than current"),
        (Self::Other, 202, "Server Error"),
    ];
}

impl Packet {
    /// None if it is no packet of the protocol. A query that is one, but makes no sense, is to be answered so.
    pub(super) fn read(packet: &[u8]) -> Option<Result<Self, (Vec<u8>, Refusal)>> {
        if packet.len() > PACKET_BYTES_MAX {
            return None;
        }
        let whole = bencode::read(packet)?;
        let transaction =
            whole.bytes("t").filter(|bytes| bytes.len() <= TRANSACTION_BYTES_MAX)?.to_vec();
        let body = match whole.bytes("y")? {
            b"q" => match query(&whole) {
                Ok(body) => body,
                Err(refusal) => return Some(Err((transaction, refusal))),
            },
            b"r" => {
                let answer = Box::new(answer(whole.dictionary("r")?)?);
                let sees_us_at = whole.bytes("ip").and_then(address);
                Body::Answer { answer, sees_us_at }
            }
            b"e" => {
                let Some([Value::Number(number), ..]) = whole.list("e") else { return None };
                let known = Refusal::ALL.iter().find(|(_, code, _)| code == number);
                Body::Refusal(known.map_or(Refusal::Other, |(refusal, ..)| *refusal))
            }
            _ => return None,
        };
        Some(Ok(Self { transaction, body }))
    }

    /// `to`: where it is sent, which an answer says.
    pub(super) fn write(&self, to: SocketAddrV4) -> Vec<u8> {
        let (transaction, version) = (&self.transaction, b"PL\x00\x01");
        match &self.body {
            Body::Query { from, query, read_only } => {
                let (name, arguments) = write_query(*from, query);
                let writer = Writer::new().written("a", &arguments).bytes("q", name.as_bytes());
                let writer = if *read_only { writer.number("ro", 1) } else { writer };
                writer.bytes("t", transaction).bytes("v", version).bytes("y", b"q").finish()
            }
            Body::Answer { answer, .. } => {
                let writer = Writer::new().bytes("ip", &compact(to)).written("r", &write_answer(answer));
                writer.bytes("t", transaction).bytes("v", version).bytes("y", b"r").finish()
            }
            Body::Refusal(refusal) => {
                let known = Refusal::ALL.iter().find(|(known, ..)| known == refusal);
                let (code, text) = known.map_or((202, ""), |(_, code, text)| (*code, *text));
                let mut list = format!("li{code}e").into_bytes();
                write_bytes(&mut list, text.as_bytes());
                list.push(b'e');
                let writer = Writer::new().written("e", &list).bytes("t", transaction);
                writer.bytes("v", version).bytes("y", b"e").finish()
            }
        }
    }
}

fn query(whole: &Dictionary<'_>) -> Result<Body, Refusal> {
    let arguments = whole.dictionary("a").ok_or(Refusal::Protocol)?;
    let id = |name: &str| arguments.bytes(name).and_then(Id::from_slice).ok_or(Refusal::Protocol);
    let token = || {
        let token = arguments.bytes("token").filter(|bytes| bytes.len() <= TOKEN_BYTES_MAX);
        token.map(<[u8]>::to_vec).ok_or(Refusal::Protocol)
    };
    let query = match whole.bytes("q").ok_or(Refusal::Protocol)? {
        b"ping" => Query::Ping,
        b"find_node" => Query::FindNode { target: id("target")? },
        b"get_peers" => Query::GetPeers { hash: id("info_hash")? },
        b"announce_peer" => {
            let implied = arguments.number("implied_port").is_some_and(|implied| implied != 0);
            let port = arguments.number("port").and_then(|port| u16::try_from(port).ok());
            let port = match implied {
                true => None,
                false => Some(port.filter(|port| *port != 0).ok_or(Refusal::Protocol)?),
            };
            Query::Announce { hash: id("info_hash")?, port, token: token()? }
        }
        b"get" => Query::Get { target: id("target")? },
        b"put" => {
            let item = item(arguments)?.ok_or(Refusal::Protocol)?;
            Query::Put { item, replaces: arguments.number("cas"), token: token()? }
        }
        _ => return Err(Refusal::UnknownMethod),
    };
    let read_only = whole.number("ro").is_some_and(|read_only| read_only != 0);
    Ok(Body::Query { from: id("id")?, query, read_only })
}

/// What is to be stored, or was; its signature is not checked here.
fn item(from: &Dictionary<'_>) -> Result<Option<Item>, Refusal> {
    let Some(value) = from.written("v") else { return Ok(None) };
    if value.len() > VALUE_BYTES_MAX {
        return Err(Refusal::TooLong);
    }
    let value = value.to_vec();
    let Some(key) = from.bytes("k") else { return Ok(Some(Item::Immutable { value })) };
    let fixed = |name: &str| from.bytes(name).and_then(|bytes| bytes.try_into().ok());
    let salt = from.bytes("salt").unwrap_or_default().to_vec();
    Ok(Some(Item::Mutable(Mutable {
        key: key.try_into().map_err(|_| Refusal::Protocol)?,
        salt,
        seq: from.number("seq").ok_or(Refusal::Protocol)?,
        signature: fixed("sig").ok_or(Refusal::Protocol)?,
        value,
    })))
}

fn answer(from: &Dictionary<'_>) -> Option<Answer> {
    let mut answer = Answer::new(from.bytes("id").and_then(Id::from_slice)?);
    let nodes = from.bytes("nodes").unwrap_or_default().chunks_exact(NODE_BYTES);
    answer.nodes = nodes.take(NODES_READ_MAX).filter_map(node).collect();
    let peers = from.list("values").unwrap_or_default().iter().take(PEERS_MAX);
    answer.peers = peers
        .filter_map(|peer| match peer {
            Value::Bytes(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    let token = from.bytes("token").filter(|bytes| bytes.len() <= TOKEN_BYTES_MAX);
    answer.token = token.map(<[u8]>::to_vec);
    // A value that is too long or not whole is none; the nodes are of use all the same.
    answer.item = item(from).ok().flatten();
    Some(answer)
}

fn write_query(from: Id, query: &Query) -> (&'static str, Vec<u8>) {
    let writer = |before: Option<i64>| match before {
        Some(replaces) => Writer::new().number("cas", replaces).bytes("id", from.as_bytes()),
        None => Writer::new().bytes("id", from.as_bytes()),
    };
    match query {
        Query::Ping => ("ping", writer(None).finish()),
        Query::FindNode { target } => {
            ("find_node", writer(None).bytes("target", target.as_bytes()).finish())
        }
        Query::GetPeers { hash } => {
            ("get_peers", writer(None).bytes("info_hash", hash.as_bytes()).finish())
        }
        Query::Announce { hash, port, token } => {
            let writer = writer(None).number("implied_port", i64::from(port.is_none()));
            let writer = writer.bytes("info_hash", hash.as_bytes());
            let writer = writer.number("port", i64::from(port.unwrap_or(0)));
            ("announce_peer", writer.bytes("token", token).finish())
        }
        Query::Get { target } => ("get", writer(None).bytes("target", target.as_bytes()).finish()),
        Query::Put { item, replaces, token } => {
            let writer = writer(*replaces);
            let writer = match item {
                Item::Immutable { .. } => writer,
                Item::Mutable(Mutable { key, salt, seq, signature, .. }) => {
                    let writer = writer.bytes("k", key);
                    let writer = if salt.is_empty() { writer } else { writer.bytes("salt", salt) };
                    writer.number("seq", *seq).bytes("sig", signature)
                }
            };
            ("put", writer.bytes("token", token).written("v", item.value()).finish())
        }
    }
}

fn write_answer(answer: &Answer) -> Vec<u8> {
    let mut writer = Writer::new().bytes("id", answer.id.as_bytes());
    let mutable = answer.item.as_ref().and_then(Item::mutable);
    if let Some(mutable) = mutable {
        writer = writer.bytes("k", &mutable.key);
    }
    if !answer.nodes.is_empty() {
        let nodes: Vec<u8> = answer.nodes.iter().flat_map(compact_node).collect();
        writer = writer.bytes("nodes", &nodes);
    }
    if let Some(mutable) = mutable {
        writer = writer.number("seq", mutable.seq).bytes("sig", &mutable.signature);
    }
    if let Some(token) = &answer.token {
        writer = writer.bytes("token", token);
    }
    if let Some(item) = &answer.item {
        writer = writer.written("v", item.value());
    }
    if !answer.peers.is_empty() {
        let mut list = b"l".to_vec();
        answer.peers.iter().for_each(|peer| write_bytes(&mut list, &compact(*peer)));
        list.push(b'e');
        writer = writer.written("values", &list);
    }
    writer.finish()
}

const ADDRESS_BYTES: usize = 6;
const NODE_BYTES: usize = ID_BYTES + ADDRESS_BYTES;

fn compact(address: SocketAddrV4) -> [u8; ADDRESS_BYTES] {
    let ([a, b, c, d], [high, low]) = (address.ip().octets(), address.port().to_be_bytes());
    [a, b, c, d, high, low]
}

/// None if nobody can be there.
fn address(compact: &[u8]) -> Option<SocketAddrV4> {
    let [a, b, c, d, high, low] = *compact else { return None };
    let (ip, port) = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
    let nobody = ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || port == 0;
    (!nobody).then(|| SocketAddrV4::new(ip, port))
}

fn compact_node(node: &Node) -> Vec<u8> {
    [&node.id.as_bytes()[..], &compact(node.address)].concat()
}

fn node(compact: &[u8]) -> Option<Node> {
    let (id, at) = compact.split_at_checked(ID_BYTES)?;
    Some(Node { id: Id::from_slice(id)?, address: address(at)? })
}

#[cfg(test)]
mod tests;

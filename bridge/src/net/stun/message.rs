//! STUN's Binding messages (RFC 8489), with the attributes of RFC 5780 that tell how a NAT filters.
//!
//! Whatever a message does not need for that is skipped: nothing is authenticated here, since who answers is known
//! by the 96 bits of the transaction id, and an answer is believed no more than its sender.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::nat::AnswerFrom;

/// Drawn anew for each question; its answer carries it back.
pub(crate) type TransactionId = [u8; 12];

/// What answers are bounded by: both addresses of IPv6, or as many unknown attributes as are named.
pub(crate) const ANSWER_BYTES_MAX: usize = HEADER_BYTES + 2 * (4 + ADDRESS_V6_BYTES);

/// Attributes that a request asks for in vain and that its answer names; further ones are left out.
const UNKNOWN_MAX: usize = 4;

const HEADER_BYTES: usize = 20;
const ADDRESS_V6_BYTES: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const CHANGE_REQUEST: u16 = 0x0003;
const CHANGED_ADDRESS: u16 = 0x0005;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const OTHER_ADDRESS: u16 = 0x802c;

/// Attributes from here on may be skipped by who does not know them.
const OPTIONAL: u16 = 0x8000;

const CHANGE_ADDRESS_FLAG: u32 = 4;
const CHANGE_PORT_FLAG: u32 = 2;

const UNKNOWN_ATTRIBUTE_CODE: [u8; 4] = [0, 0, 4, 20];

/// A message about a Binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) transaction: TransactionId,
    pub(crate) body: Body,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Where do you see me?
    Request {
        answer_from: AnswerFrom,
        /// What it asks for that nobody here knows, and that must not be skipped.
        unknown: Vec<u16>,
    },
    /// There; and this is my other address.
    Success { mapped: SocketAddr, other: Option<SocketAddr> },
    /// I do not answer this.
    Error,
}

impl Message {
    /// Reads a datagram. None if it is anything but one whole, well-formed message about a Binding.
    pub(crate) fn read(datagram: &[u8]) -> Option<Self> {
        let (header, mut rest) = datagram.split_first_chunk::<HEADER_BYTES>()?;
        let [k0, k1, l0, l1, cookie @ ..] = *header;
        let (cookie, transaction) = cookie.split_first_chunk::<4>()?;
        let (kind, length) = (u16::from_be_bytes([k0, k1]), u16::from_be_bytes([l0, l1]));
        if *cookie != MAGIC_COOKIE || usize::from(length) != rest.len() {
            return None;
        }
        let transaction = transaction.try_into().ok()?;
        let mut found = Attributes::default();
        while !rest.is_empty() {
            rest = found.read(rest, transaction)?;
        }
        let body = match kind {
            REQUEST => Body::Request { answer_from: found.answer_from, unknown: found.unknown },
            SUCCESS => Body::Success { mapped: found.xor_mapped.or(found.mapped)?, other: found.other },
            ERROR => Body::Error,
            _ => return None,
        };
        Some(Self { transaction, body })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut attributes = Vec::new();
        let kind = match &self.body {
            Body::Request { answer_from, .. } => {
                let flags = match answer_from {
                    AnswerFrom::Here => 0,
                    AnswerFrom::OtherPort => CHANGE_PORT_FLAG,
                    AnswerFrom::OtherAddress => CHANGE_ADDRESS_FLAG | CHANGE_PORT_FLAG,
                };
                if flags != 0 {
                    put(&mut attributes, CHANGE_REQUEST, &flags.to_be_bytes());
                }
                REQUEST
            }
            Body::Success { mapped, other } => {
                put(&mut attributes, XOR_MAPPED_ADDRESS, &address(xor(*mapped, self.transaction)));
                if let Some(other) = other {
                    put(&mut attributes, OTHER_ADDRESS, &address(*other));
                }
                SUCCESS
            }
            Body::Error => {
                put(&mut attributes, ERROR_CODE, &UNKNOWN_ATTRIBUTE_CODE);
                ERROR
            }
        };
        self.with_header(kind, attributes)
    }

    /// The answer to a request that asks for what it cannot get.
    pub(crate) fn refusal(transaction: TransactionId, unknown: &[u16]) -> Vec<u8> {
        let named: Vec<u8> =
            unknown.iter().take(UNKNOWN_MAX).flat_map(|kind| kind.to_be_bytes()).collect();
        let mut attributes = Vec::new();
        put(&mut attributes, ERROR_CODE, &UNKNOWN_ATTRIBUTE_CODE);
        put(&mut attributes, UNKNOWN_ATTRIBUTES, &named);
        Self { transaction, body: Body::Error }.with_header(ERROR, attributes)
    }

    /// The attribute that no server with one address can do.
    pub(crate) const fn change_request() -> u16 {
        CHANGE_REQUEST
    }

    fn with_header(&self, kind: u16, attributes: Vec<u8>) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(ANSWER_BYTES_MAX);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(MAGIC_COOKIE);
        bytes.extend(self.transaction);
        bytes.extend(attributes);
        bytes
    }
}

/// What a message carries; of each kind the first one.
#[derive(Default)]
struct Attributes {
    mapped: Option<SocketAddr>,
    xor_mapped: Option<SocketAddr>,
    other: Option<SocketAddr>,
    answer_from: AnswerFrom,
    unknown: Vec<u16>,
}

impl Attributes {
    /// Reads the first attribute of `bytes`, and returns what follows it.
    fn read<'a>(&mut self, bytes: &'a [u8], transaction: TransactionId) -> Option<&'a [u8]> {
        let (&[k0, k1, l0, l1], rest) = bytes.split_first_chunk()?;
        let (kind, length) = (u16::from_be_bytes([k0, k1]), usize::from(u16::from_be_bytes([l0, l1])));
        let (value, _) = rest.split_at_checked(length)?;
        let (_, rest) = rest.split_at_checked(length.next_multiple_of(4))?;
        match kind {
            MAPPED_ADDRESS => self.mapped = self.mapped.or(Some(read_address(value)?)),
            XOR_MAPPED_ADDRESS => {
                let mapped = xor(read_address(value)?, transaction);
                self.xor_mapped = self.xor_mapped.or(Some(mapped));
            }
            OTHER_ADDRESS | CHANGED_ADDRESS => self.other = self.other.or(Some(read_address(value)?)),
            CHANGE_REQUEST => {
                let flags = u32::from_be_bytes(value.try_into().ok()?);
                self.answer_from = match (flags & CHANGE_ADDRESS_FLAG, flags & CHANGE_PORT_FLAG) {
                    (0, 0) => AnswerFrom::Here,
                    (0, _) => AnswerFrom::OtherPort,
                    _ => AnswerFrom::OtherAddress,
                };
            }
            ERROR_CODE | UNKNOWN_ATTRIBUTES | OPTIONAL.. => {}
            unknown if self.unknown.len() < UNKNOWN_MAX => self.unknown.push(unknown),
            _ => {}
        }
        Some(rest)
    }
}

fn put(attributes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    attributes.extend(kind.to_be_bytes());
    attributes.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    attributes.extend(value);
    attributes.resize(attributes.len().next_multiple_of(4), 0);
}

fn address(socket: SocketAddr) -> Vec<u8> {
    let mut value = match socket {
        SocketAddr::V4(_) => vec![0, 1],
        SocketAddr::V6(_) => vec![0, 2],
    };
    value.extend(socket.port().to_be_bytes());
    match socket.ip() {
        IpAddr::V4(ip) => value.extend(ip.octets()),
        IpAddr::V6(ip) => value.extend(ip.octets()),
    }
    value
}

fn read_address(value: &[u8]) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], ip) = value.split_first_chunk()?;
    let ip: IpAddr = match family {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([p0, p1])))
}

/// Hides an address from routers that rewrite what looks like one, or shows it again.
fn xor(socket: SocketAddr, transaction: TransactionId) -> SocketAddr {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&MAGIC_COOKIE);
    key[4..].copy_from_slice(&transaction);
    let port = socket.port() ^ u16::from_be_bytes([key[0], key[1]]);
    let ip: IpAddr = match socket.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() ^ u32::from_be_bytes(MAGIC_COOKIE)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() ^ u128::from_be_bytes(key)).into(),
    };
    SocketAddr::new(ip, port)
}

#[cfg(test)]
mod tests;

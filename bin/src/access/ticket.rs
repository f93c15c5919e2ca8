//! The string that people pass on: a capability, and where its issuer is to be reached. Pure.

use std::{fmt, str::FromStr, time::SystemTime};

use data_encoding::BASE64URL_NOPAD;
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use punchline_bridge::{
    RelayLocator, Service,
    addr::{self, RelayAddrError, Undialable},
};
use sha2::{Digest as _, Sha256};

use super::capability::{Capability, CapabilityError, Terms, TicketId, array, time_of};

/// What every ticket begins with, so that people and programs know one when they see it.
pub(super) const PREFIX: &str = "punchline-ticket:";

/// Most relays in a ticket, and most direct addresses: more are no help, and make the string unwieldy.
pub(super) const ADDRESSES_MAX: usize = 8;

/// Longest address in a ticket: a name of 253 bytes, a port, two peer ids, and room.
pub(super) const ADDRESS_BYTES_MAX: usize = 512;

/// Longest ticket in characters. The largest that can be made has 11,240.
pub(super) const TEXT_BYTES_MAX: usize = 12 * 1024;

/// Bytes of SHA-256 at the end: they tell a ticket that was damaged on its way. They keep out no
/// forger; the signature does.
pub(super) const CHECKSUM_BYTES: usize = 4;

/// Where an issuer is to be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Relays that it has a reservation with.
    pub relays: Vec<RelayLocator>,
    /// Its own addresses, without its peer id.
    pub addrs: Vec<Multiaddr>,
}

/// Everything that is needed to use one service of one peer.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    capability: Capability,
    proof: Vec<u8>,
    routes: Routes,
}

/// Why no ticket could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The identity is of a kind that cannot sign tickets.
    #[error("tickets need an Ed25519 identity, and this one is not; name another one with --identity")]
    Key,
    /// Nowhere to reach the issuer.
    #[error(
        "the ticket would lead nowhere: say where this node is reached, with --relay <the relay it has a reservation with> or --addr <its own address>"
    )]
    Nowhere,
    /// More addresses than a ticket holds.
    #[error("{count} {what} do not fit: a ticket holds {ADDRESSES_MAX}; name the best ones")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// An address that is of no use to others.
    #[error("{address} {reason}")]
    Address {
        /// Which.
        address: Multiaddr,
        /// Why, and what to do.
        reason: AddressFault,
    },
}

/// Why an address is of no use in a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// It has more bytes than a ticket holds.
    #[error("is longer than {ADDRESS_BYTES_MAX} bytes; name a shorter one")]
    Length,
    /// It leads to somebody else.
    #[error("leads to {peer}, not to this node; name an address of this node")]
    Elsewhere {
        /// To whom.
        peer: PeerId,
    },
    /// It is an address behind a relay.
    #[error("is behind a relay; name that relay with --relay")]
    Circuit,
    /// Nobody can dial it.
    #[error("cannot be dialled: it {0}")]
    Undialable(Undialable),
}

/// What is wrong with the letters of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingFault {
    /// A letter that no ticket has.
    #[error("`{letter}` at its letter {at} belongs in no ticket")]
    Letter {
        /// Which.
        letter: char,
        /// Where, from 1.
        at: usize,
    },
    /// It ends in the middle.
    #[error("its end is missing")]
    Truncated,
}

/// Why a string is not a ticket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin as one.
    #[error("not a ticket; it begins with `{PREFIX}`, and `punchline ticket new` prints it")]
    Prefix,
    /// It is longer than any ticket.
    #[error("not a ticket: {length} characters, and none has more than {TEXT_BYTES_MAX}")]
    Oversized {
        /// How long it is.
        length: usize,
    },
    /// It has other characters, or too few of them.
    #[error("the ticket is damaged ({fault}); copy the whole of it again")]
    Encoding {
        /// What is seen.
        fault: EncodingFault,
    },
    /// It is not what its maker wrote.
    #[error("the ticket is damaged (wrong checksum); copy the whole of it again")]
    Checksum,
    /// What its issuer signed is malformed, or has been changed.
    #[error("the ticket is of no use: {0}; ask for a new one")]
    Capability(#[from] CapabilityError),
    /// More addresses than a ticket holds.
    #[error(
        "the ticket is of no use: it has {count} addresses of a kind, and {ADDRESSES_MAX} are the most; ask for a new one"
    )]
    TooMany {
        /// How many.
        count: usize,
    },
    /// An address is malformed.
    #[error("the ticket is of no use: one of its addresses is malformed; ask for a new one")]
    Malformed,
    /// A relay's address is none.
    #[error("the ticket is of no use: {0}; ask for a new one")]
    Relay(String),
    /// An address is of no use.
    #[error("the ticket is of no use: {address} in it cannot lead to its issuer; ask for a new one")]
    Address {
        /// Which.
        address: Multiaddr,
        /// Why.
        reason: AddressFault,
    },
    /// It has no address at all.
    #[error("the ticket leads nowhere: it has no address; ask for a new one")]
    Nowhere,
}

impl Ticket {
    /// Makes a ticket of the node with this identity. It is worth nothing until it stands in the ledger.
    ///
    /// # Errors
    /// If there are no addresses, too many, or unusable ones, or the identity is not an Ed25519 key.
    pub fn issue(terms: Terms, routes: Routes, issuer: &Keypair) -> Result<Self, IssueError> {
        let peer = issuer.public().to_peer_id();
        let Routes { relays, addrs } = routes;
        if relays.is_empty() && addrs.is_empty() {
            return Err(IssueError::Nowhere);
        }
        for (what, count) in [("relays", relays.len()), ("addresses", addrs.len())] {
            if count > ADDRESSES_MAX {
                return Err(IssueError::TooMany { what, count });
            }
        }
        for relay in &relays {
            let address = relay.address();
            usable(&address).map_err(|reason| IssueError::Address { address, reason })?;
        }
        let addrs = addrs.into_iter().map(|address| {
            direct(&address, peer).map_err(|reason| IssueError::Address { address, reason })
        });
        let addrs = addrs.collect::<Result<_, _>>()?;
        let signer = issuer.clone().try_into_ed25519().map_err(|_| IssueError::Key)?;
        let proof = Capability::sign(&terms, &signer);
        // Reading it back costs nothing here and leaves one way to have a capability: by its signature.
        let capability = Capability::from_bytes(&proof).map_err(|_| IssueError::Key)?;
        Ok(Self { capability, proof, routes: Routes { relays, addrs } })
    }

    /// Who issued it, and whom to dial.
    pub fn peer(&self) -> PeerId {
        self.capability.issuer()
    }

    /// Its name in the issuer's ledger.
    pub fn id(&self) -> TicketId {
        self.capability.terms().id
    }

    /// What it opens.
    pub fn service(&self) -> &Service {
        &self.capability.terms().service
    }

    /// Relays that lead to the issuer.
    pub fn relays(&self) -> &[RelayLocator] {
        &self.routes.relays
    }

    /// The issuer's own addresses, without its peer id.
    pub fn addrs(&self) -> &[Multiaddr] {
        &self.routes.addrs
    }

    /// What to present with each stream: the capability and its signature. At most 187 bytes. Secret.
    pub fn proof(&self) -> &[u8] {
        &self.proof
    }

    /// From this time on it is void.
    pub fn expires(&self) -> SystemTime {
        time_of(self.capability.terms().expires)
    }

    /// Whether it is good for one stream only.
    pub fn once(&self) -> bool {
        self.capability.terms().once
    }
}

impl fmt::Display for Ticket {
    /// The whole ticket, secret included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.proof.clone();
        let relays: Vec<Multiaddr> = self.routes.relays.iter().map(RelayLocator::address).collect();
        for list in [&relays, &self.routes.addrs] {
            bytes.push(list.len() as u8);
            for address in list {
                bytes.extend((address.len() as u16).to_be_bytes());
                bytes.extend(address.as_ref());
            }
        }
        bytes.extend(checksum(&bytes));
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl fmt::Debug for Ticket {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { capability, routes, proof: _ } = self;
        f.debug_struct("Ticket").field("capability", capability).field("routes", routes).finish()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).ok_or(TicketError::Prefix)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(TicketError::Oversized { length: text.len() });
        }
        let bytes = BASE64URL_NOPAD
            .decode(encoded.as_bytes())
            .map_err(|_| TicketError::Encoding { fault: encoding_fault(text) })?;
        let (bytes, sum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(CapabilityError::Truncated)?;
        if checksum(bytes) != *sum {
            return Err(TicketError::Checksum);
        }
        let (capability, mut rest) = Capability::take(bytes)?;
        let proof = bytes.get(..bytes.len() - rest.len()).unwrap_or_default().to_vec();
        let relays = list(&mut rest)?;
        for address in &relays {
            let fault = |reason| TicketError::Address { address: address.clone(), reason };
            usable(address).map_err(fault)?;
        }
        let relays = relays.into_iter().map(RelayLocator::new);
        let relays = relays
            .collect::<Result<Vec<_>, RelayAddrError>>()
            .map_err(|error| TicketError::Relay(error.to_string()))?;
        let addrs = list(&mut rest)?.into_iter().map(|address| {
            direct(&address, capability.issuer())
                .map_err(|reason| TicketError::Address { address, reason })
        });
        let addrs = addrs.collect::<Result<Vec<_>, _>>()?;
        match rest.len() {
            0 if relays.is_empty() && addrs.is_empty() => Err(TicketError::Nowhere),
            0 => Ok(Self { capability, proof, routes: Routes { relays, addrs } }),
            bytes => Err(CapabilityError::Trailing { bytes }.into()),
        }
    }
}

/// What one sees in a ticket whose letters are wrong.
fn encoding_fault(text: &str) -> EncodingFault {
    let is_foreign = |letter: char| !letter.is_ascii_alphanumeric() && !"-_".contains(letter);
    let letters = text.chars().enumerate().skip(PREFIX.len());
    let mut foreign = letters.filter(|(_, letter)| is_foreign(*letter));
    foreign
        .next()
        .map_or(EncodingFault::Truncated, |(at, letter)| EncodingFault::Letter { letter, at: at + 1 })
}

/// The next list of addresses.
fn list(rest: &mut &[u8]) -> Result<Vec<Multiaddr>, TicketError> {
    let [count] = array(rest)?;
    let count = usize::from(count);
    if count > ADDRESSES_MAX {
        return Err(TicketError::TooMany { count });
    }
    let mut addresses = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::from(u16::from_be_bytes(array(rest)?));
        let (bytes, after) = rest.split_at_checked(length).ok_or(CapabilityError::Truncated)?;
        *rest = after;
        let address = Multiaddr::try_from(bytes.to_vec()).map_err(|_| TicketError::Malformed)?;
        length_of(&address)
            .map_err(|reason| TicketError::Address { address: address.clone(), reason })?;
        addresses.push(address);
    }
    Ok(addresses)
}

pub(super) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let [a, b, c, d, ..] = digest;
    [a, b, c, d]
}

fn length_of(address: &Multiaddr) -> Result<(), AddressFault> {
    if address.len() > ADDRESS_BYTES_MAX { Err(AddressFault::Length) } else { Ok(()) }
}

/// An address to dial that fits.
fn usable(address: &Multiaddr) -> Result<(), AddressFault> {
    length_of(address)?;
    addr::dialable(address).map_err(AddressFault::Undialable)
}

/// An address of `peer` itself, less its id.
fn direct(address: &Multiaddr, peer: PeerId) -> Result<Multiaddr, AddressFault> {
    length_of(address)?;
    if addr::is_circuit(address) {
        return Err(AddressFault::Circuit);
    }
    let mut address = address.clone();
    if let Some(end) = addr::peer_of(&address) {
        if end != peer {
            return Err(AddressFault::Elsewhere { peer: end });
        }
        address.pop();
    }
    addr::peer_dialable(&address).map_err(AddressFault::Undialable)?;
    Ok(address)
}

//! From bytes to a record.

use std::{fmt, sync::Arc};

use libp2p::{Multiaddr, PeerId, core::SignedEnvelope, multiaddr::Protocol};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, AGENT_BYTES_MAX, AHEAD_MAX, Body, Capabilities, Contact, DOMAIN,
    Delegation, LIFETIME_MAX, Mapping, NAME_BYTES_MAX, Nat, PAYLOAD_TYPE, Reach, Record, Refusal,
    SERVICE_BYTES_MAX, SERVICES_MAX, VALUE_BYTES_MAX, Value, Version, wire,
};
use crate::{
    keys::{RecordKey, sha256},
    moment::UnixTime,
    network::{NETWORK_BYTES_MAX, Network},
};

/// Which addresses of others are remembered at all.
pub trait AddressPolicy: Send + Sync {
    /// Whether to remember that `peer` says it is at `address`, which does not end with its id.
    fn admits(&self, address: &Multiaddr, peer: PeerId) -> bool;
}

impl<F: Fn(&Multiaddr, PeerId) -> bool + Send + Sync> AddressPolicy for F {
    fn admits(&self, address: &Multiaddr, peer: PeerId) -> bool {
        self(address, peer)
    }
}

/// What all records are held to.
#[derive(Clone)]
pub struct Rules {
    /// The network that we are in.
    pub network: Network,
    /// Which addresses are remembered.
    pub addresses: Arc<dyn AddressPolicy>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("network", &self.network).finish_non_exhaustive()
    }
}

/// What good bytes are.
#[allow(clippy::large_enum_variant, reason = "taken apart where it is made")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// A record that is newer than what is held.
    New(Record),
    /// The record that is held.
    Held,
    /// Bytes that their key is the hash of. Nobody signed them, and nobody needs to.
    Content,
}

/// Judges `bytes` that are said to be the record under `key`; `held`: which one is held under that key.
///
/// # Errors
/// If they are not, or are no newer.
pub fn accept(
    rules: &Rules,
    key: &RecordKey,
    bytes: &[u8],
    held: Option<Version>,
    now: UnixTime,
) -> Result<Accepted, Refusal> {
    let limit = key.bytes_max();
    if bytes.len() > limit {
        return Err(Refusal::TooLarge { bytes: bytes.len(), limit });
    }
    if let RecordKey::Content(hash) = key {
        return if sha256([bytes]) == *hash { Ok(Accepted::Content) } else { Err(Refusal::Hash) };
    }
    let record = read(rules, bytes, now)?;
    if key.signer() != Some(record.signer) {
        return Err(Refusal::ForeignSigner { signer: record.signer });
    }
    if record.key() != *key {
        return Err(Refusal::ForeignKey);
    }
    let (sequence, version) = (record.version.sequence, record.version);
    match held {
        Some(held) if held == version => Ok(Accepted::Held),
        Some(held) if held.sequence == sequence => Err(Refusal::Equivocation { sequence }),
        Some(held) if held.sequence > sequence => {
            Err(Refusal::Replayed { sequence, held: held.sequence })
        }
        _ => Ok(Accepted::New(record)),
    }
}

/// All that can be said of a record without its key.
pub(super) fn read(rules: &Rules, bytes: &[u8], now: UnixTime) -> Result<Record, Refusal> {
    let envelope = SignedEnvelope::from_protobuf_encoding(bytes).map_err(|_| Refusal::Malformed)?;
    if envelope.clone().into_protobuf_encoding() != bytes {
        return Err(Refusal::NotCanonical);
    }
    let opened = envelope.payload_and_signing_key(DOMAIN.into(), PAYLOAD_TYPE);
    let (signed, signer) = opened.map_err(|_| Refusal::Signature)?;
    let signer = signer.to_peer_id();
    let payload = wire::Payload::decode(signed).map_err(|_| Refusal::Malformed)?;
    if payload.encode_to_vec() != signed {
        return Err(Refusal::NotCanonical);
    }
    if payload.network != rules.network.as_str() {
        let network = payload.network.chars().take(NETWORK_BYTES_MAX).collect();
        return Err(Refusal::ForeignNetwork { network });
    }
    if payload.peer != signer.to_bytes() {
        return Err(Refusal::ForeignSigner { signer });
    }
    let (issued, expires) = holds(&payload, now)?;
    let version = Version { sequence: payload.sequence, digest: Sha256::digest(signed).into() };
    let body = body(payload.body.ok_or(Refusal::Malformed)?, signer, rules)?;
    Ok(Record { signer, version, issued, expires, body, bytes: bytes.to_vec() })
}

/// From when until when it holds; now must be between.
fn holds(payload: &wire::Payload, now: UnixTime) -> Result<(UnixTime, UnixTime), Refusal> {
    let issued = UnixTime::from_millis(payload.issued_ms);
    let expires = UnixTime::from_millis(payload.expires_ms);
    let (ahead, lasts) = (issued.since(now), expires.since(issued));
    if lasts.is_zero() || lasts > LIFETIME_MAX {
        return Err(Refusal::Lifetime { lasts });
    }
    if ahead > AHEAD_MAX {
        return Err(Refusal::Future { ahead });
    }
    if expires <= now {
        return Err(Refusal::Expired { ago: now.since(expires) });
    }
    Ok((issued, expires))
}

fn body(body: wire::Body, signer: PeerId, rules: &Rules) -> Result<Body, Refusal> {
    match body {
        wire::Body::Contact(said) => contact(said, signer, rules).map(Body::Contact),
        wire::Body::Delegation(wire::Delegation { to }) => {
            let to = peer(&to).ok_or(Refusal::Delegate)?;
            Ok(Body::Delegation(Delegation { to }))
        }
        wire::Body::Value(wire::Value { name, bytes }) => {
            let fits = name.len() <= NAME_BYTES_MAX && bytes.len() <= VALUE_BYTES_MAX;
            if fits { Ok(Body::Value(Value { name, bytes })) } else { Err(Refusal::Value) }
        }
    }
}

fn contact(said: wire::Contact, signer: PeerId, rules: &Rules) -> Result<Contact, Refusal> {
    let count = said.addresses.len();
    if count > ADDRESSES_MAX {
        return Err(Refusal::Addresses { count });
    }
    let mut addresses = Vec::with_capacity(count);
    for (index, bytes) in said.addresses.into_iter().enumerate() {
        let address = address(bytes, signer).ok_or(Refusal::Address { index })?;
        if !addresses.contains(&address) && rules.addresses.admits(&address, signer) {
            addresses.push(address);
        }
    }
    if said.services.len() > SERVICES_MAX || !said.services.iter().all(|service| is_service(service)) {
        return Err(Refusal::Services);
    }
    if said.agent.len() > AGENT_BYTES_MAX || said.agent.chars().any(char::is_control) {
        return Err(Refusal::Agent);
    }
    let nat = Nat { reach: Reach::of_number(said.reach), mapping: Mapping::of_number(said.mapping) };
    let capabilities = Capabilities::of_bits(said.capabilities);
    Ok(Contact { addresses, capabilities, nat, services: said.services, agent: said.agent })
}

/// An address at which `peer` itself is, without its id at the end.
fn address(bytes: Vec<u8>, peer: PeerId) -> Option<Multiaddr> {
    if bytes.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    let mut address = Multiaddr::try_from(bytes.clone()).ok()?;
    let again: Multiaddr = address.iter().collect();
    if again.to_vec() != bytes {
        return None;
    }
    if let Some(Protocol::P2p(named)) = address.iter().last() {
        if named != peer {
            return None;
        }
        address.pop();
    }
    (!address.is_empty()).then_some(address)
}

fn peer(bytes: &[u8]) -> Option<PeerId> {
    PeerId::from_bytes(bytes).ok().filter(|peer| peer.to_bytes() == bytes)
}

/// As in streams: ASCII letters, digits, `-`, `_`, `.` or `/`.
fn is_service(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    !name.is_empty() && name.len() <= SERVICE_BYTES_MAX && name.chars().all(allowed)
}

//! Where a peer is, as it signs it: a value (BEP 44) of its key, so that who knows the peer's id finds it, and nobody else
//! can write it. Pure: times are arguments.
//!
//! In bytes: the version, 1; when it was written, in seconds since 1970, 8 bytes; for how many seconds it holds, 2
//! bytes; then each address, after a byte with its length. What is signed begins with the salt, so no other signature
//! of the same key can be taken for it.

use std::time::Duration;

use libp2p::{
    Multiaddr, PeerId,
    identity::{Keypair, PublicKey},
    multiaddr::Protocol,
};

use super::{
    id::Id,
    item::{self, Item, ItemError, VALUE_BYTES_MAX},
};

/// What distinguishes contacts from other values of the same key.
pub(super) const SALT: &[u8] = b"punchline-contact-1";

const VERSION: u8 = 1;

/// Longest time that a contact holds, and for which this node writes one: written again each hour, it outlives one
/// failure.
pub(super) const LASTS: Duration = Duration::from_secs(2 * 3600);

/// Clocks of others may be ahead of ours by this.
pub(super) const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);

/// Addresses in a contact.
pub(super) const ADDRESSES_MAX: usize = 8;

/// Circuits among them: of three relays one is up.
const CIRCUITS_MAX: usize = 3;

/// Bytes of an address: a circuit through a relay with a long name fits.
const ADDRESS_BYTES_MAX: usize = 200;

const HEAD_BYTES: usize = 11;

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    pub(super) addresses: Vec<Multiaddr>,
    /// Since then it is known.
    pub(super) age: Duration,
    /// So long it still holds.
    pub(super) lasts: Duration,
}

/// Why something is not a contact to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unacceptable {
    #[error("it is not signed by the peer")]
    Signature,
    #[error("it makes no sense")]
    Form,
    #[error("it was written in the future")]
    Future,
    #[error("its time is over")]
    Expired,
    #[error("it is to hold for longer than two hours")]
    Lasting,
}

/// The key of a peer that can store something; none if it has another kind of key, or an id that is only a hash of it.
pub(super) fn key(peer: PeerId) -> Option<[u8; 32]> {
    let key = PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

/// Under which key of the network the contact of a peer is.
pub(super) fn target(peer: PeerId) -> Option<Id> {
    Some(item::target(&key(peer)?, SALT))
}

/// Which addresses are told, as many as fit. `confirmed`: where others reach this node, circuits among them; `listening`:
/// where it listens, which on a host with many interfaces leaves no place for others, and so comes last. In the public
/// network only what is public is told, and an address of this host alone is told only where there is no other.
pub(super) fn told(confirmed: &[Multiaddr], listening: &[Multiaddr], public: bool) -> Vec<Multiaddr> {
    let circuit = |address: &&Multiaddr| address.iter().any(|part| part == Protocol::P2pCircuit);
    let direct = confirmed.iter().filter(|address| !circuit(address));
    let circuits = confirmed.iter().filter(circuit).take(CIRCUITS_MAX);
    let mut all: Vec<Multiaddr> = Vec::new();
    for address in direct.chain(circuits).chain(listening) {
        if !all.contains(address) && (!public || is_public(address)) {
            all.push(address.clone());
        }
    }
    if !all.iter().all(is_own_host) {
        all.retain(|address| !is_own_host(address));
    }
    all.truncate(ADDRESSES_MAX);
    all
}

fn ips(address: &Multiaddr) -> impl Iterator<Item = std::net::IpAddr> {
    address.iter().filter_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    })
}

fn is_own_host(address: &Multiaddr) -> bool {
    ips(address).any(|ip| ip.is_loopback())
}

fn is_public(address: &Multiaddr) -> bool {
    let public = |ip| match ip {
        std::net::IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && second & 0xc0 == 64;
            super::id::is_public(ip) && !shared && !ip.is_documentation() && !ip.is_unspecified()
        }
        std::net::IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
    };
    ips(address).all(public)
}

/// Writes it. `now`: since 1970.
///
/// # Errors
/// If the key is not an ed25519 key.
pub(super) fn sign(
    key: &Keypair,
    addresses: &[Multiaddr],
    seq: i64,
    now: Duration,
) -> Result<Item, ItemError> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&now.as_secs().to_be_bytes());
    bytes.extend_from_slice(&(LASTS.as_secs() as u16).to_be_bytes());
    for address in addresses.iter().take(ADDRESSES_MAX) {
        let address = address.as_ref();
        // The length of the whole is written before it: "998:".
        let fits = bytes.len() + 1 + address.len() + 4 <= VALUE_BYTES_MAX;
        if address.len() <= ADDRESS_BYTES_MAX && fits {
            bytes.push(address.len() as u8);
            bytes.extend_from_slice(address);
        }
    }
    Item::signed(key, SALT, seq, &bytes)
}

/// What a value says of a peer. `now`: since 1970.
pub(super) fn accept(item: &Item, peer: PeerId, now: Duration) -> Result<Contact, Unacceptable> {
    let target = target(peer).ok_or(Unacceptable::Signature)?;
    if !item.belongs(target) {
        return Err(Unacceptable::Signature);
    }
    let (head, mut rest) =
        item.bytes().and_then(|bytes| bytes.split_at_checked(HEAD_BYTES)).ok_or(Unacceptable::Form)?;
    let [VERSION, times @ ..] = head else { return Err(Unacceptable::Form) };
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (written, lasts) =
        (Duration::from_secs(number(&times[..8])), Duration::from_secs(number(&times[8..])));
    if written > now + AHEAD_MAX {
        return Err(Unacceptable::Future);
    }
    if lasts > LASTS {
        return Err(Unacceptable::Lasting);
    }
    let age = now.saturating_sub(written);
    let lasts = lasts.checked_sub(age).filter(|left| !left.is_zero()).ok_or(Unacceptable::Expired)?;
    let mut addresses = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let taken = after.split_at_checked(usize::from(*length)).ok_or(Unacceptable::Form)?;
        let address = Multiaddr::try_from(taken.0.to_vec()).map_err(|_| Unacceptable::Form)?;
        addresses.push(address);
        rest = taken.1;
    }
    addresses.truncate(ADDRESSES_MAX);
    Ok(Contact { addresses, age, lasts })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const S: Duration = Duration::from_secs(1);

    fn world() -> (Keypair, PeerId) {
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        (key, peer)
    }

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn some() -> Vec<Multiaddr> {
        addresses(&["/ip4/203.0.113.7/udp/4001/quic-v1", "/ip6/2001:db8::7/tcp/4001"])
    }

    #[test]
    fn what_a_peer_signs_is_found_by_its_id_and_read() {
        let (key, peer) = world();
        let item = sign(&key, &some(), 1, NOW).unwrap();
        assert_eq!(Some(item.target()), target(peer));
        let contact = accept(&item, peer, NOW + 60 * S).unwrap();
        assert_eq!(contact, Contact { addresses: some(), age: 60 * S, lasts: LASTS - 60 * S });
    }

    #[test]
    fn what_another_signs_is_refused() {
        let (key, _) = world();
        let item = sign(&key, &some(), 1, NOW).unwrap();
        assert_eq!(accept(&item, world().1, NOW), Err(Unacceptable::Signature));
        let elsewhere = Item::signed(&key, b"other", 1, item.bytes().unwrap()).unwrap();
        assert_eq!(accept(&elsewhere, key.public().to_peer_id(), NOW), Err(Unacceptable::Signature));
    }

    #[test]
    fn what_is_over_or_of_the_future_or_for_ever_is_refused() {
        let (key, peer) = world();
        let item = sign(&key, &some(), 1, NOW).unwrap();
        let at = |now| accept(&item, peer, now).map(|_| ());
        assert_eq!(at(NOW + LASTS), Err(Unacceptable::Expired));
        assert_eq!(at(NOW + LASTS - S), Ok(()));
        assert_eq!(at(NOW - AHEAD_MAX), Ok(()));
        assert_eq!(at(NOW - AHEAD_MAX - S), Err(Unacceptable::Future));
        let mut bytes = item.bytes().unwrap().to_vec();
        bytes[9..11].copy_from_slice(&u16::MAX.to_be_bytes());
        let lasting = Item::signed(&key, SALT, 2, &bytes).unwrap();
        assert_eq!(accept(&lasting, peer, NOW), Err(Unacceptable::Lasting));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (key, peer) = world();
        let whole = sign(&key, &some(), 1, NOW).unwrap().bytes().unwrap().to_vec();
        let of = |bytes: &[u8]| accept(&Item::signed(&key, SALT, 1, bytes).unwrap(), peer, NOW);
        for length in 0..whole.len() {
            // Between two addresses it is whole.
            if let Ok(contact) = of(&whole[..length]) {
                assert!(contact.addresses.len() < 2 && some().starts_with(&contact.addresses));
            }
        }
        assert_eq!(of(&whole[..HEAD_BYTES - 1]), Err(Unacceptable::Form));
        assert_eq!(of(&[&[9], &whole[1..]].concat()), Err(Unacceptable::Form));
        assert_eq!(of(&[&whole[..HEAD_BYTES], &[2, 0xff, 0xff]].concat()), Err(Unacceptable::Form));
    }

    #[test]
    fn of_many_and_long_addresses_as_many_are_told_as_fit() {
        let (key, peer) = world();
        let long = |number: usize| -> Multiaddr {
            format!("/dns4/{number}{}/tcp/1", "x".repeat(180)).parse().unwrap()
        };
        let many: Vec<Multiaddr> = (0..20).map(long).collect();
        let item = sign(&key, &many, 1, NOW).unwrap();
        assert!(item.value().len() <= VALUE_BYTES_MAX);
        assert_eq!(accept(&item, peer, NOW).unwrap().addresses, many[..5]);
        let short: Vec<Multiaddr> =
            (1..20).map(|port| format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()).collect();
        let item = sign(&key, &short, 1, NOW).unwrap();
        assert_eq!(accept(&item, peer, NOW).unwrap().addresses, short[..ADDRESSES_MAX]);
    }

    #[test]
    fn in_the_public_network_nothing_private_is_told() {
        let relay = PeerId::random();
        let circuit = |ip: &str| format!("/ip4/{ip}/tcp/1/p2p/{relay}/p2p-circuit");
        let listening =
            addresses(&["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.9/tcp/1", "/ip4/8.8.8.8/tcp/1"]);
        let confirmed = addresses(&[
            &circuit("8.8.4.4"),
            &circuit("10.0.0.1"),
            "/ip4/9.9.9.9/tcp/1",
            "/ip4/100.64.0.1/tcp/1",
        ]);
        let expected = addresses(&["/ip4/9.9.9.9/tcp/1", &circuit("8.8.4.4"), "/ip4/8.8.8.8/tcp/1"]);
        assert_eq!(told(&confirmed, &listening, true), expected);
        assert_eq!(told(&confirmed, &listening, false).len(), 6, "all but this host's own");
        assert_eq!(told(&[], &listening[..1], false), listening[..1], "where all are on one host");
    }

    #[test]
    fn many_interfaces_leave_a_place_for_the_way_through_a_relay() {
        let relay = PeerId::random();
        let circuit = addresses(&[&format!("/ip4/8.8.4.4/tcp/1/p2p/{relay}/p2p-circuit")]);
        let listening: Vec<Multiaddr> =
            (1..20).map(|port| format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()).collect();
        let told = told(&circuit, &listening, false);
        assert_eq!((told.len(), &told[0]), (ADDRESSES_MAX, &circuit[0]));
    }

    #[test]
    fn a_peer_with_another_kind_of_key_is_not_looked_for() {
        assert!(key(world().1).is_some());
        assert_eq!(key(PeerId::random()), None, "a hash tells no key");
    }
}

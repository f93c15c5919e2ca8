//! Where a peer is, in DNS records that it signs as pkarr does: a value (BEP 44) of its key without a salt, whose number is
//! when it was written, in microseconds since 1970. Pure: times are arguments.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId, identity::Keypair};

use super::{
    contact::{AHEAD_MAX, Contact, Unacceptable, key},
    driver::Search,
    item::{self, Item},
    lookup::{Then, Want},
};
use crate::pkarr::packet::{self, Said};

/// What was written longer ago is not believed. The network keeps values for two hours; but anybody may store what somebody
/// signed once again.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is found holds for as long as its records say, within these.
const LASTS: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(2 * 3600));

/// Looks for those of a peer; none if it has no key that can have any.
pub(super) fn search(peer: PeerId) -> Option<Search> {
    let target = item::target(&key(peer)?, &[]);
    Some(Search { target, want: Want::Value { salt: Vec::new() }, then: Then::Nothing, via: None })
}

/// Writes ours. What else its owner said in `before` stays. `seq`: microseconds since 1970.
pub(super) fn sign(
    key: &Keypair,
    addresses: &[Multiaddr],
    before: Option<&Item>,
    seq: i64,
) -> Option<Item> {
    let peer = key.public().to_peer_id();
    let packet = packet::write(peer, addresses, before.and_then(Item::bytes))?;
    Item::signed(key, &[], seq, &packet).ok()
}

/// What a value says of a peer. `now`: since 1970.
pub(super) fn accept(item: &Item, peer: PeerId, now: Duration) -> Result<Contact, Unacceptable> {
    let key = key(peer).ok_or(Unacceptable::Signature)?;
    if !item.belongs(item::target(&key, &[])) {
        return Err(Unacceptable::Signature);
    }
    let written = Duration::from_micros(u64::try_from(item.seq()).map_err(|_| Unacceptable::Form)?);
    if written > now + AHEAD_MAX {
        return Err(Unacceptable::Future);
    }
    let age = now.saturating_sub(written);
    if age > AGE_MAX {
        return Err(Unacceptable::Expired);
    }
    let bytes = item.bytes().ok_or(Unacceptable::Form)?;
    let Said { addresses, lasts } = packet::read(peer, bytes).ok_or(Unacceptable::Form)?;
    Ok(Contact { addresses, age, lasts: lasts.clamp(LASTS.0, LASTS.1) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const S: Duration = Duration::from_secs(1);

    fn at() -> Vec<Multiaddr> {
        vec!["/ip4/203.0.113.7/tcp/4001".parse().unwrap()]
    }

    fn world() -> (Keypair, PeerId) {
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        (key, peer)
    }

    fn written(key: &Keypair, at_time: Duration) -> Item {
        sign(key, &at(), None, at_time.as_micros() as i64).unwrap()
    }

    #[test]
    fn what_a_peer_signs_is_found_under_its_key_and_believed() {
        let (key, peer) = world();
        let item = written(&key, NOW);
        assert_eq!(item.target(), search(peer).unwrap().target);
        let contact = accept(&item, peer, NOW + 60 * S).unwrap();
        assert_eq!(contact, Contact { addresses: at(), age: 60 * S, lasts: 3600 * S });
    }

    #[test]
    fn what_another_signs_or_is_of_the_future_or_long_over_is_refused() {
        let (key, peer) = world();
        let item = written(&key, NOW);
        assert_eq!(accept(&item, world().1, NOW), Err(Unacceptable::Signature));
        let at = |now| accept(&item, peer, now).map(|_| ());
        assert_eq!(at(NOW - AHEAD_MAX), Ok(()));
        assert_eq!(at(NOW - AHEAD_MAX - S), Err(Unacceptable::Future));
        assert_eq!(at(NOW + AGE_MAX), Ok(()));
        assert_eq!(at(NOW + AGE_MAX + S), Err(Unacceptable::Expired));
        let nonsense = Item::signed(&key, &[], NOW.as_micros() as i64, b"no packet").unwrap();
        assert_eq!(accept(&nonsense, peer, NOW), Err(Unacceptable::Form));
    }

    mod pkarr {
        //! The crate `pkarr` 8.1 of those who made the format.

        use ::pkarr::{Keypair as TheirKey, PublicKey, SignedPacket, Timestamp};

        use super::*;

        /// The same key for both.
        fn keys() -> (Keypair, TheirKey) {
            let secret = [7; 32];
            (Keypair::ed25519_from_bytes(secret).unwrap(), TheirKey::from_secret_key(&secret))
        }

        /// As pkarr hands packets on: signature, time, packet.
        fn payload(item: &Item) -> Vec<u8> {
            let mutable = item.mutable().unwrap();
            let time = (mutable.seq as u64).to_be_bytes();
            [&mutable.signature[..], &time, item.bytes().unwrap()].concat()
        }

        #[test]
        fn reads_what_we_sign() {
            let (ours, theirs) = keys();
            let key = crate::pkarr::key_of(ours.public().to_peer_id()).unwrap();
            let key = PublicKey::try_from(key).unwrap();
            assert_eq!(key, theirs.public_key());
            let item = written(&ours, NOW);
            let packet = SignedPacket::from_relay_payload(&key, &payload(&item).into()).unwrap();
            assert_eq!(packet.timestamp().as_u64(), NOW.as_micros() as u64);
            let records: Vec<String> = packet
                .resource_records("_dnsaddr")
                .map(|record| format!("{:?}", record.rdata))
                .collect();
            assert_eq!(records.len(), 1);
            let there = packet.resource_records("_dnsaddr").any(|record| match &record.rdata {
                ::pkarr::dns::rdata::RData::TXT(text) => {
                    let text = String::try_from(text.clone()).unwrap();
                    text == format!("dnsaddr={}/p2p/{}", at()[0], ours.public().to_peer_id())
                }
                _ => false,
            });
            assert!(there, "{records:?}");
        }

        #[test]
        fn is_read_when_it_signs() {
            let (ours, theirs) = keys();
            let peer = ours.public().to_peer_id();
            let text = format!("dnsaddr={}/p2p/{peer}", at()[0]);
            let packet = SignedPacket::builder()
                .txt("_dnsaddr".try_into().unwrap(), text.as_str().try_into().unwrap(), 300)
                .a(".".try_into().unwrap(), [203, 0, 113, 80].into(), 30)
                .timestamp(Timestamp::from(NOW.as_micros() as u64))
                .sign(&theirs)
                .unwrap();
            let item = Item::Mutable(item::Mutable {
                key: theirs.public_key().to_bytes(),
                salt: Vec::new(),
                seq: packet.timestamp().as_u64() as i64,
                signature: packet.signature().to_bytes(),
                value: {
                    let bytes = packet.encoded_packet();
                    [format!("{}:", bytes.len()).as_bytes(), &bytes].concat()
                },
            });
            let contact = accept(&item, peer, NOW).unwrap();
            assert_eq!((contact.addresses, contact.lasts), (at(), 300 * S));
        }
    }
}

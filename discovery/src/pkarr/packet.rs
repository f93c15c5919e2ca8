//! DNS packets as pkarr has them: an answer with records of `<key>` and of names below it. Pure.

use std::time::Duration;

use hickory_proto::{
    op::{Message as Packet, OpCode},
    rr::{Name, RData, Record, rdata::TXT},
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::key_of;

/// Bytes of a packet: with its length before it ("996:") a value of the 160-bit network has 1,000.
pub(crate) const PACKET_BYTES_MAX: usize = 996;

/// Bytes of one string in a TXT record: its length is one byte.
const STRING_BYTES_MAX: usize = 255;

/// Addresses that are read from one packet, and written into one.
const ADDRESSES_MAX: usize = 8;

/// For so long others may remember a record of ours.
const SECONDS: u32 = 3600;

/// The label below the key.
const LABEL: &str = "_dnsaddr";

/// The key of an address in a TXT record.
const ADDRESS_KEY: &str = "dnsaddr=";

/// What a packet says of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) addresses: Vec<Multiaddr>,
    /// For so long a reader may remember it.
    pub(crate) lasts: Duration,
}

/// A packet in which this peer says that it is here, as many of the addresses as fit. `before`: the packet in whose place it
/// comes; what else its owner said there stays. None if the peer has no pkarr key.
pub(crate) fn write(peer: PeerId, addresses: &[Multiaddr], before: Option<&[u8]>) -> Option<Vec<u8>> {
    let name = name(peer)?;
    let mut packet = Packet::response(0, OpCode::Query);
    packet.metadata.authoritative = true;
    let before = before.and_then(|bytes| Packet::from_vec(bytes).ok());
    let others = before.into_iter().flat_map(|packet| packet.answers);
    for record in others.filter(|record| record.name != name) {
        add(&mut packet, record)?;
    }
    for address in addresses.iter().take(ADDRESSES_MAX) {
        let text = format!("{ADDRESS_KEY}{address}/p2p/{peer}");
        if text.len() <= STRING_BYTES_MAX {
            let text = RData::TXT(TXT::new(vec![text]));
            add(&mut packet, Record::from_rdata(name.clone(), SECONDS, text))?;
        }
    }
    packet.to_vec().ok()
}

/// Adds a record if there is room for it.
fn add(packet: &mut Packet, record: Record) -> Option<()> {
    packet.add_answer(record);
    if packet.to_vec().ok()?.len() > PACKET_BYTES_MAX {
        packet.answers.pop();
    }
    Some(())
}

/// What a packet says of where its peer is; none if it is no packet.
pub(crate) fn read(peer: PeerId, bytes: &[u8]) -> Option<Said> {
    let (name, packet) = (name(peer)?, Packet::from_vec(bytes).ok()?);
    let (mut addresses, mut seconds) = (Vec::new(), u32::MAX);
    for record in packet.answers.iter().filter(|record| record.name == name) {
        let RData::TXT(text) = &record.data else { continue };
        let Some(address) = address(peer, &text.txt_data.concat()) else { continue };
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
            seconds = seconds.min(record.ttl);
        }
    }
    Some(Said { addresses, lasts: Duration::from_secs(seconds.into()) })
}

/// An address, without the id at its end, which is that of the peer if there is one.
fn address(peer: PeerId, text: &[u8]) -> Option<Multiaddr> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix(ADDRESS_KEY)?;
    let mut address: Multiaddr = text.parse().ok()?;
    if let Some(Protocol::P2p(named)) = address.iter().last() {
        if named != peer {
            return None;
        }
        address.pop();
    }
    (!address.is_empty()).then_some(address)
}

fn name(peer: PeerId) -> Option<Name> {
    Name::from_ascii(format!("{LABEL}.{}.", key_of(peer)?)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use hickory_proto::rr::rdata::A;
    use libp2p::identity::Keypair;

    use super::*;

    fn somebody() -> PeerId {
        Keypair::generate_ed25519().public().to_peer_id()
    }

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/203.0.113.7/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_belongs_to_its_peer_alone() {
        let (peer, other) = (somebody(), somebody());
        let some = [at(1), format!("/ip4/203.0.113.9/tcp/1/p2p/{other}/p2p-circuit").parse().unwrap()];
        let packet = write(peer, &some, None).unwrap();
        let said = Said { addresses: some.to_vec(), lasts: Duration::from_secs(3600) };
        assert_eq!(read(peer, &packet), Some(said));
        assert_eq!(read(other, &packet).unwrap().addresses, []);
        assert_eq!(read(peer, &packet[..20]), None);
        assert_eq!(write(PeerId::random(), &some, None), None, "a hash tells no key");
    }

    #[test]
    fn of_many_and_long_addresses_as_many_are_told_as_fit() {
        let peer = somebody();
        let long = |number: usize| -> Multiaddr {
            format!("/dns4/{number}{}/tcp/1", "x".repeat(150)).parse().unwrap()
        };
        let many: Vec<Multiaddr> = (0..20).map(long).collect();
        let packet = write(peer, &many, None).unwrap();
        assert!(packet.len() <= PACKET_BYTES_MAX);
        let told = read(peer, &packet).unwrap().addresses;
        assert!(told.len() >= 3 && many.starts_with(&told), "{told:?}");
        let short: Vec<Multiaddr> = (1..20).map(at).collect();
        let packet = write(peer, &short, None).unwrap();
        assert_eq!(read(peer, &packet).unwrap().addresses, short[..ADDRESSES_MAX]);
        let longest = [format!("/dns4/{}/tcp/1", "x".repeat(240)).parse().unwrap(), at(1)];
        let packet = write(peer, &longest, None).unwrap();
        assert_eq!(read(peer, &packet).unwrap().addresses, [at(1)]);
    }

    #[test]
    fn what_else_the_owner_of_the_key_says_there_stays() {
        let peer = somebody();
        let apex = Name::from_ascii(format!("{}.", key_of(peer).unwrap())).unwrap();
        let theirs = Record::from_rdata(apex, 30, RData::A(A(Ipv4Addr::new(203, 0, 113, 80))));
        let mut before = Packet::response(0, OpCode::Query);
        before.add_answer(theirs.clone());
        let first = write(peer, &[at(1)], Some(&before.to_vec().unwrap())).unwrap();
        let second = write(peer, &[at(2)], Some(&first)).unwrap();
        assert_eq!(read(peer, &second).unwrap().addresses, [at(2)]);
        let answers = Packet::from_vec(&second).unwrap().answers;
        assert_eq!((answers.len(), &answers[0]), (2, &theirs));
    }

    #[test]
    fn an_address_of_somebody_else_is_not_read() {
        let (peer, other) = (somebody(), somebody());
        assert_eq!(address(peer, format!("dnsaddr={}/p2p/{other}", at(1)).as_bytes()), None);
        assert_eq!(address(peer, format!("dnsaddr={}", at(1)).as_bytes()), Some(at(1)));
        assert_eq!(address(peer, b"dnsaddr=nonsense"), None);
    }
}

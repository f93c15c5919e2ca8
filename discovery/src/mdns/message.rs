//! What is said by mDNS: the packets of libp2p's specification (`discovery/mdns.md` in libp2p/specs).
//!
//! A question asks for PTR records of `_p2p._udp.local`. An answer has one, which leads to a name below it that means
//! nothing, and TXT records of that name: `dnsaddr=<address>/p2p/<peer>` each.

use std::time::Duration;

use hickory_proto::{
    op::{Message as Packet, MessageType, OpCode, Query},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{PTR, TXT},
    },
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

const SERVICE: &str = "_p2p._udp.local.";

/// The key of an address in a TXT record.
const ADDRESS_KEY: &str = "dnsaddr=";

/// Bytes of one string in a TXT record: its length is one byte.
const STRING_BYTES_MAX: usize = 255;

/// Peers and addresses that are read from one packet. Of ours each has one peer.
const PEERS_MAX: usize = 16;
const ADDRESSES_MAX: usize = 16;

/// What others say is believed for no longer.
const LASTS_MAX: Duration = Duration::from_secs(600);

/// What a packet says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Who is there?
    Question,
    /// These are.
    Answer(Vec<Said>),
}

/// A peer is at these addresses, for so long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) lasts: Duration,
}

/// The question; none if it cannot be put into a packet.
pub(super) fn question() -> Option<Vec<u8>> {
    let mut packet = Packet::new(0, MessageType::Query, OpCode::Query);
    packet.add_query(Query::query(service()?, RecordType::PTR));
    packet.to_vec().ok()
}

/// The answer of a peer under a name that means nothing; none if it cannot be put into a packet. An address that is too
/// long is left out.
pub(super) fn answer(
    peer: PeerId,
    label: &str,
    addresses: &[Multiaddr],
    lasts: Duration,
) -> Option<Vec<u8>> {
    let seconds = u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX);
    let name = Name::from_ascii(label).ok()?.append_domain(&service()?).ok()?;
    let mut packet = Packet::response(0, OpCode::Query);
    packet.metadata.authoritative = true;
    let pointer = RData::PTR(PTR(name.clone()));
    packet.add_answer(Record::from_rdata(service()?, seconds, pointer));
    let texts = addresses.iter().map(|address| format!("{ADDRESS_KEY}{address}/p2p/{peer}"));
    for text in texts.filter(|text| text.len() <= STRING_BYTES_MAX) {
        let text = RData::TXT(TXT::new(vec![text]));
        packet.add_additional(Record::from_rdata(name.clone(), seconds, text));
    }
    packet.to_vec().ok()
}

/// Reads a packet; none if it is about something else, or makes no sense.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    let packet = Packet::from_vec(bytes).ok()?;
    let service = service()?;
    if packet.metadata.message_type == MessageType::Query {
        let asks = |query: &Query| {
            let kind = matches!(query.query_type(), RecordType::PTR | RecordType::ANY);
            kind && *query.name() == service
        };
        return packet.queries.iter().any(asks).then_some(Message::Question);
    }
    let pointers = packet.answers.iter().filter(|record| record.name == service);
    let said = pointers.filter_map(|record| match &record.data {
        RData::PTR(name) => said(&packet, name, record.ttl),
        _ => None,
    });
    let said: Vec<Said> = said.take(PEERS_MAX).collect();
    (!said.is_empty()).then_some(Message::Answer(said))
}

/// What the texts of a name say: addresses of one peer. What is said for no time is taken back, and left to expire.
fn said(packet: &Packet, name: &Name, seconds: u32) -> Option<Said> {
    let records = packet.additionals.iter().chain(&packet.answers);
    let texts = records.filter(|record| record.name == *name).filter_map(|record| match &record.data {
        RData::TXT(text) => Some(text),
        _ => None,
    });
    let mut named = texts.flat_map(|text| text.txt_data.iter()).filter_map(|text| address(text));
    let (peer, first) = named.next()?;
    let others = named.filter(|(other, _)| *other == peer).map(|(_, address)| address);
    let addresses = std::iter::once(first).chain(others).take(ADDRESSES_MAX).collect();
    let lasts = Duration::from_secs(seconds.into()).min(LASTS_MAX);
    (!lasts.is_zero()).then_some(Said { peer, addresses, lasts })
}

/// A peer and one address of it.
fn address(text: &[u8]) -> Option<(PeerId, Multiaddr)> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix(ADDRESS_KEY)?;
    let mut address: Multiaddr = text.parse().ok()?;
    match address.pop()? {
        Protocol::P2p(peer) => Some((peer, address)),
        _ => None,
    }
}

fn service() -> Option<Name> {
    Name::from_ascii(SERVICE).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LASTS: Duration = Duration::from_secs(120);

    fn at(address: &str) -> Multiaddr {
        address.parse().unwrap()
    }

    /// An answer with these texts.
    fn texts(texts: &[String], seconds: u32) -> Vec<u8> {
        let name = Name::from_ascii("x._p2p._udp.local.").unwrap();
        let mut packet = Packet::response(0, OpCode::Query);
        let pointer = RData::PTR(PTR(name.clone()));
        packet.add_answer(Record::from_rdata(service().unwrap(), seconds, pointer));
        for text in texts {
            let text = RData::TXT(TXT::new(vec![text.clone()]));
            packet.add_additional(Record::from_rdata(name.clone(), seconds, text));
        }
        packet.to_vec().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&question().unwrap()), Some(Message::Question));
        let peer = PeerId::random();
        let addresses = vec![at("/ip4/192.168.1.9/tcp/4001"), at("/ip4/192.168.1.9/udp/4001/quic-v1")];
        let packet = answer(peer, "a2b3", &addresses, LASTS).unwrap();
        assert_eq!(read(&packet), Some(Message::Answer(vec![Said { peer, addresses, lasts: LASTS }])));
    }

    #[test]
    fn the_question_is_that_of_the_specification() {
        let expected = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x04_p2p\x04_udp\x05local\0\0\x0c\0\x01";
        assert_eq!(question().unwrap(), expected);
    }

    #[test]
    fn an_address_that_is_too_long_for_a_text_is_left_out_and_the_others_are_said() {
        let short = at("/ip4/192.168.1.9/tcp/4001");
        let long = at(&format!("/dns4/{}/tcp/4001", "x".repeat(250)));
        let peer = PeerId::random();
        let packet = answer(peer, "a2b3", &[long, short.clone()], LASTS).unwrap();
        let said = Said { peer, addresses: vec![short], lasts: LASTS };
        assert_eq!(read(&packet), Some(Message::Answer(vec![said])));
    }

    #[test]
    fn of_a_crowd_in_one_packet_so_many_are_read() {
        let mut packet = Packet::response(0, OpCode::Query);
        for number in 0..40 {
            let name = Name::from_ascii(format!("n{number}._p2p._udp.local.")).unwrap();
            let text = format!("dnsaddr=/ip4/192.168.1.9/tcp/1/p2p/{}", PeerId::random());
            packet.add_answer(Record::from_rdata(
                service().unwrap(),
                120,
                RData::PTR(PTR(name.clone())),
            ));
            packet.add_additional(Record::from_rdata(name, 120, RData::TXT(TXT::new(vec![text]))));
        }
        let Some(Message::Answer(said)) = read(&packet.to_vec().unwrap()) else { panic!("an answer") };
        assert_eq!(said.len(), PEERS_MAX);
    }

    #[test]
    fn what_is_asked_and_said_of_other_services_is_nothing_to_us() {
        let printers = Name::from_ascii("_ipp._tcp.local.").unwrap();
        let mut question = Packet::new(0, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(printers.clone(), RecordType::PTR));
        assert_eq!(read(&question.to_vec().unwrap()), None);
        let name = Name::from_ascii("x._ipp._tcp.local.").unwrap();
        let text = format!("dnsaddr=/ip4/192.168.1.9/tcp/1/p2p/{}", PeerId::random());
        let text = Record::from_rdata(name.clone(), 120, RData::TXT(TXT::new(vec![text])));
        let mut answer = Packet::response(0, OpCode::Query);
        answer.add_answer(Record::from_rdata(printers, 120, RData::PTR(PTR(name))));
        answer.add_additional(text.clone());
        assert_eq!(read(&answer.to_vec().unwrap()), None);
        let ours = Name::from_ascii("y._p2p._udp.local.").unwrap();
        let mut answer = Packet::response(0, OpCode::Query);
        answer.add_answer(Record::from_rdata(service().unwrap(), 120, RData::PTR(PTR(ours))));
        answer.add_additional(text);
        assert_eq!(read(&answer.to_vec().unwrap()), None, "the text is of another name");
    }

    #[test]
    fn only_addresses_of_one_peer_are_read_from_one_name_and_only_so_many() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let mut said: Vec<String> =
            (1..=40).map(|port| format!("dnsaddr=/ip4/192.168.1.9/tcp/{port}/p2p/{peer}")).collect();
        said.insert(1, format!("dnsaddr=/ip4/192.168.1.66/tcp/1/p2p/{other}"));
        said.insert(0, "dnsaddr=/ip4/192.168.1.9/tcp/1".to_owned());
        said.insert(0, "name=value".to_owned());
        let Some(Message::Answer(said)) = read(&texts(&said, u32::MAX)) else { panic!("an answer") };
        assert_eq!((said[0].peer, said[0].addresses.len()), (peer, ADDRESSES_MAX));
        assert!(!said[0].addresses.contains(&at("/ip4/192.168.1.66/tcp/1")));
        assert_eq!(said[0].lasts, LASTS_MAX);
    }

    #[test]
    fn what_is_taken_back_and_what_makes_no_sense_says_nothing() {
        let text = format!("dnsaddr=/ip4/192.168.1.9/tcp/1/p2p/{}", PeerId::random());
        assert_eq!(read(&texts(&[text], 0)), None);
        assert_eq!(read(&texts(&[], 120)), None);
        let whole = question().unwrap();
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None, "cut after {length} bytes");
        }
        assert_eq!(read(&[0xff; 512]), None);
    }
}

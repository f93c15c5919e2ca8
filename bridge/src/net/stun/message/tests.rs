#![allow(clippy::unwrap_used)]
use super::*;

/// Of all of RFC 5769's messages.
const TRANSACTION: TransactionId =
    [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// RFC 5769, section 2.1.
const SAMPLE_REQUEST: &str = "00010058 2112a442 b7e7a701 bc34d686 fa87dfae
    80220010 5354554e 20746573 7420636c 69656e74 00240004 6e0001ff 80290008 932ff9b1 51263b36
    00060009 6576746a 3a683676 59202020 00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    80280004 e57a3bcf";

/// RFC 5769, section 2.2.
const SAMPLE_RESPONSE_V4: &str = "0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220 00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96";

/// RFC 5769, section 2.3.
const SAMPLE_RESPONSE_V6: &str = "01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220 00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c";

fn success(mapped: &str, other: Option<&str>) -> Message {
    let other = other.map(|other| other.parse().unwrap());
    Message { transaction: TRANSACTION, body: Body::Success { mapped: mapped.parse().unwrap(), other } }
}

fn request(answer_from: AnswerFrom) -> Message {
    Message { transaction: TRANSACTION, body: Body::Request { answer_from, unknown: Vec::new() } }
}

#[test]
fn the_test_vectors_of_rfc_5769_are_read() {
    let read = |hex| Message::read(&bytes(hex));
    assert_eq!(read(SAMPLE_RESPONSE_V4), Some(success("192.0.2.1:32853", None)));
    let v6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
    assert_eq!(read(SAMPLE_RESPONSE_V6), Some(success(v6, None)));
    // It wants to be authenticated, and to be served by ICE.
    let unknown = vec![0x0024, 0x0006, 0x0008];
    let body = Body::Request { answer_from: AnswerFrom::Here, unknown };
    assert_eq!(read(SAMPLE_REQUEST), Some(Message { transaction: TRANSACTION, body }));
}

#[test]
fn the_mapped_addresses_of_rfc_5769_are_written_as_there() {
    let attribute = |message: Message| message.write()[20..].to_vec();
    assert_eq!(
        attribute(success("192.0.2.1:32853", None)),
        bytes("00200008 0001a147 e112a643"),
        "as in section 2.2"
    );
    let v6 = success("[2001:db8:1234:5678:11:2233:4455:6677]:32853", None);
    let expected = "00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9";
    assert_eq!(attribute(v6), bytes(expected), "as in section 2.3");
}

#[test]
fn every_message_is_read_back_and_no_answer_is_longer_than_the_bound() {
    for message in [
        request(AnswerFrom::Here),
        request(AnswerFrom::OtherPort),
        request(AnswerFrom::OtherAddress),
        success("198.51.100.4:35000", Some("203.0.113.7:3479")),
        success("[2a00::7]:35000", Some("[2a00::9]:3479")),
        Message { transaction: TRANSACTION, body: Body::Error },
    ] {
        let written = message.write();
        assert_eq!(Message::read(&written), Some(message));
        assert!(written.len() <= ANSWER_BYTES_MAX, "{} bytes", written.len());
    }
    let refusal = Message::refusal(TRANSACTION, &[6; 1000]);
    assert_eq!(Message::read(&refusal).unwrap().body, Body::Error);
    assert!(refusal.len() <= ANSWER_BYTES_MAX, "{} bytes", refusal.len());
}

#[test]
fn an_address_of_an_older_server_is_taken_where_there_is_no_other() {
    let old = "01010018 2112a442 b7e7a701 bc34d686 fa87dfae
        00010008 000188b8 c6336404 00050008 00010d97 cb007107";
    let expected = success("198.51.100.4:35000", Some("203.0.113.7:3479"));
    assert_eq!(Message::read(&bytes(old)), Some(expected));
}

#[test]
fn what_is_no_whole_and_well_formed_binding_message_is_nothing() {
    let whole = request(AnswerFrom::OtherPort).write();
    assert!(Message::read(&whole).is_some());
    for length in 0..whole.len() {
        assert_eq!(Message::read(&whole[..length]), None, "the first {length} bytes");
    }
    assert_eq!(Message::read(&[&whole[..], &[0]].concat()), None, "a byte too many");
    let changed = |at: usize, to: u8| {
        let mut bytes = whole.clone();
        bytes[at] = to;
        Message::read(&bytes)
    };
    assert_eq!(changed(0, 0x40), None, "another protocol's first bits");
    assert_eq!(changed(1, 0x11), None, "an indication");
    assert_eq!(changed(1, 0x03), None, "another method: TURN's Allocate");
    assert_eq!(changed(4, 0), None, "no cookie");
    assert_eq!(changed(23, 200), None, "an attribute that is longer than the message");
    assert_eq!(changed(23, 3), None, "flags of three bytes");
    let mut nowhere = success("198.51.100.4:35000", None).write();
    nowhere[25] = 3;
    assert_eq!(Message::read(&nowhere), None, "a family that does not exist");
    let mut empty = success("198.51.100.4:35000", None).write();
    empty.truncate(20);
    empty[3] = 0;
    assert_eq!(Message::read(&empty), None, "an answer that says nothing");
}

#[test]
fn no_garbage_makes_reading_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for sample in [SAMPLE_REQUEST, SAMPLE_RESPONSE_V4, SAMPLE_RESPONSE_V6] {
        for _ in 0..20_000 {
            let mut bytes = bytes(sample);
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            let _ = Message::read(&bytes);
        }
    }
}

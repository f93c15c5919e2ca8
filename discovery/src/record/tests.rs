//! What is believed, and what is refused.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use libp2p::{
    Multiaddr,
    core::SignedEnvelope,
    identity::{Keypair, PublicKey},
};
use prost::Message;

use super::*;
use crate::network::Network;

const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);
const S: Duration = Duration::from_secs(1);

fn network() -> Network {
    "test".parse().unwrap()
}

fn rules() -> Rules {
    Rules { network: network(), addresses: Arc::new(|_: &Multiaddr, _: PeerId| true) }
}

/// The same key for the same number.
fn key(number: u8) -> Keypair {
    Keypair::ed25519_from_bytes([number; 32]).unwrap()
}

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn contact() -> Contact {
    let relay = key(9).public().to_peer_id();
    let addresses = vec![
        address("/ip4/198.51.100.7/udp/4001/quic-v1"),
        address(&format!("/dns4/relay.example/tcp/4001/p2p/{relay}/p2p-circuit")),
    ];
    let capabilities = Capabilities { dht_server: true, relay: false, autonat: true };
    let nat = Nat { reach: Reach::Public, mapping: Mapping::EndpointIndependent };
    Contact { addresses, capabilities, nat, services: vec!["kaspa-p2p".into()], agent: "a/1".into() }
}

fn statement(sequence: u64, body: Body) -> Statement {
    Statement { network: network(), sequence, issued: NOW, lasts: LIFETIME_MAX, body }
}

fn signed(sequence: u64) -> Record {
    sign(&key(1), statement(sequence, Body::Contact(contact()))).unwrap()
}

/// What `key(1)` signs, whatever it says.
fn sealed(payload: &wire::Payload) -> Vec<u8> {
    envelope(&key(1), DOMAIN, PAYLOAD_TYPE, payload.encode_to_vec())
}

fn envelope(key: &Keypair, domain: &str, kind: &[u8], payload: Vec<u8>) -> Vec<u8> {
    SignedEnvelope::new(key, domain.into(), kind.into(), payload).unwrap().into_protobuf_encoding()
}

/// A good payload of `key(1)`.
fn payload() -> wire::Payload {
    wire::Payload {
        network: "test".into(),
        peer: key(1).public().to_peer_id().to_bytes(),
        sequence: 5,
        issued_ms: NOW.millis(),
        expires_ms: NOW.plus(LIFETIME_MAX).millis(),
        body: Some(wire::Body::Contact(wire::Contact::default())),
    }
}

fn contact_of(contact: wire::Contact) -> wire::Payload {
    wire::Payload { body: Some(wire::Body::Contact(contact)), ..payload() }
}

fn contact_key() -> RecordKey {
    RecordKey::Contact(key(1).public().to_peer_id())
}

fn judged(bytes: &[u8]) -> Result<Accepted, Refusal> {
    accept(&rules(), &contact_key(), bytes, None, NOW)
}

fn refused(payload: &wire::Payload) -> Refusal {
    judged(&sealed(payload)).unwrap_err()
}

#[test]
fn what_a_peer_signs_of_itself_is_read_by_others_as_it_was_said() {
    let record = signed(7);
    assert_eq!(judged(record.bytes()), Ok(Accepted::New(record.clone())));
    assert_eq!(record.contact(), Some(&contact()));
    assert_eq!(record.signer(), key(1).public().to_peer_id());
    assert_eq!((record.version().sequence, record.issued()), (7, NOW));
    assert_eq!(record.expires().since(NOW), LIFETIME_MAX);
    assert_eq!(RecordKey::of_bytes(&record.key().to_bytes()), Some(contact_key()));
}

#[test]
fn a_record_has_the_same_bytes_on_every_host() {
    let digest: String =
        crate::keys::sha256([signed(7).bytes()]).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, "79af8b6676d5b3a7b264fde899d1d27c4d2a6a471b6d8bcb0fcfb9b17fe3a994");
}

#[test]
fn a_contact_with_sixteen_relays_and_all_services_fits() {
    let long = format!("/dns4/{}/tcp/65535", "a".repeat(45));
    let addresses: Vec<_> = (0..16)
        .map(|port| address(&format!("{long}/p2p/{}/p2p-circuit", key(port).public().to_peer_id())))
        .collect();
    let services = (0..SERVICES_MAX).map(|_| "s".repeat(20)).collect();
    let largest = Contact { addresses, services, ..contact() };
    assert!(sign(&key(1), statement(1, Body::Contact(largest))).is_ok());
}

#[test]
fn a_newer_record_replaces_and_the_same_one_changes_nothing() {
    let (older, newer) = (signed(1), signed(2));
    let judge = |bytes: &[u8], held| accept(&rules(), &contact_key(), bytes, Some(held), NOW);
    assert_eq!(judge(newer.bytes(), older.version()), Ok(Accepted::New(newer.clone())));
    assert_eq!(judge(newer.bytes(), newer.version()), Ok(Accepted::Held));
    let replayed = Refusal::Replayed { sequence: 1, held: 2 };
    assert_eq!(judge(older.bytes(), newer.version()), Err(replayed));
}

#[test]
fn two_contents_under_one_number_are_the_signers_lie() {
    let first = signed(3);
    let other = Body::Contact(Contact::default());
    let second = sign(&key(1), statement(3, other)).unwrap();
    let judged = accept(&rules(), &contact_key(), second.bytes(), Some(first.version()), NOW);
    assert_eq!(judged, Err(Refusal::Equivocation { sequence: 3 }));
}

#[test]
fn a_record_under_the_key_of_another_peer_or_kind_is_refused() {
    let (record, signer) = (signed(1), key(1).public().to_peer_id());
    let under = |key: RecordKey| accept(&rules(), &key, record.bytes(), None, NOW);
    let stranger = RecordKey::Contact(key(2).public().to_peer_id());
    assert_eq!(under(stranger), Err(Refusal::ForeignSigner { signer }));
    assert_eq!(under(RecordKey::Authority(signer)), Err(Refusal::ForeignKey));
    assert_eq!(under(RecordKey::value(signer, b"name")), Err(Refusal::ForeignKey));
    let value = Body::Value(Value { name: b"name".into(), bytes: b"bytes".into() });
    let value = sign(&key(1), statement(1, value)).unwrap();
    let other = RecordKey::value(signer, b"other");
    assert_eq!(accept(&rules(), &other, value.bytes(), None, NOW), Err(Refusal::ForeignKey));
    let own = RecordKey::value(signer, b"name");
    assert_eq!(accept(&rules(), &own, value.bytes(), None, NOW), Ok(Accepted::New(value)));
}

#[test]
fn a_record_that_names_another_peer_than_its_signer_is_refused() {
    let peer = key(2).public().to_peer_id().to_bytes();
    let signer = key(1).public().to_peer_id();
    assert_eq!(refused(&wire::Payload { peer, ..payload() }), Refusal::ForeignSigner { signer });
}

#[test]
fn a_record_of_another_network_is_refused_however_long_its_name() {
    let of = |network: &str| refused(&wire::Payload { network: network.into(), ..payload() });
    assert_eq!(of("main"), Refusal::ForeignNetwork { network: "main".into() });
    assert_eq!(of(&"ü".repeat(500)), Refusal::ForeignNetwork { network: "ü".repeat(32) });
}

#[test]
fn a_signature_for_something_else_is_no_record() {
    let signed_for = |domain, kind| judged(&envelope(&key(1), domain, kind, payload().encode_to_vec()));
    assert!(signed_for(DOMAIN, PAYLOAD_TYPE).is_ok());
    assert_eq!(signed_for("libp2p-peer-record", PAYLOAD_TYPE), Err(Refusal::Signature));
    assert_eq!(signed_for(DOMAIN, b"/punchline/record/2"), Err(Refusal::Signature));
}

#[test]
fn a_changed_byte_anywhere_makes_it_no_record() {
    let good = sealed(&payload());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(judged(&bad).is_err(), "byte {at}");
    }
    for length in 0..good.len() {
        assert!(judged(&good[..length]).is_err(), "the first {length} bytes");
    }
}

#[test]
fn what_can_be_said_in_two_ways_is_accepted_in_one() {
    let good = sealed(&payload());
    let trailing = [&good[..], &[0xf8, 0x07, 0x01]].concat();
    assert_eq!(judged(&trailing), Err(Refusal::NotCanonical), "an unknown field of the envelope");
    let unknown = [&payload().encode_to_vec()[..], &[0xf8, 0x07, 0x01]].concat();
    let unknown = envelope(&key(1), DOMAIN, PAYLOAD_TYPE, unknown);
    assert_eq!(judged(&unknown), Err(Refusal::NotCanonical), "an unknown field of the payload");
    let zero = [&[0x18, 0x00][..], &payload().encode_to_vec()].concat();
    let zero = envelope(&key(1), DOMAIN, PAYLOAD_TYPE, zero);
    assert_eq!(judged(&zero), Err(Refusal::NotCanonical), "a field that is there twice");
}

#[test]
fn a_record_holds_from_five_minutes_before_it_is_issued_until_it_expires() {
    let at = |now| accept(&rules(), &contact_key(), &sealed(&payload()), None, now);
    let early = UnixTime::from_millis(NOW.millis() - 300_000);
    assert!(at(early).is_ok());
    let earlier = UnixTime::from_millis(early.millis() - 1);
    let ahead = AHEAD_MAX + Duration::from_millis(1);
    assert_eq!(at(earlier), Err(Refusal::Future { ahead }));
    let last = UnixTime::from_millis(NOW.plus(LIFETIME_MAX).millis() - 1);
    assert!(at(last).is_ok());
    assert_eq!(at(NOW.plus(LIFETIME_MAX + S)), Err(Refusal::Expired { ago: S }));
}

#[test]
fn nothing_holds_for_longer_than_two_hours_or_for_no_time() {
    let until = |millis| refused(&wire::Payload { expires_ms: millis, ..payload() });
    let lasts = LIFETIME_MAX + Duration::from_millis(1);
    assert_eq!(until(NOW.plus(lasts).millis()), Refusal::Lifetime { lasts });
    assert_eq!(until(NOW.millis()), Refusal::Lifetime { lasts: Duration::ZERO });
    assert_eq!(until(0), Refusal::Lifetime { lasts: Duration::ZERO });
    assert!(matches!(until(u64::MAX), Refusal::Lifetime { .. }));
    let forever = wire::Payload { issued_ms: u64::MAX, expires_ms: u64::MAX, ..payload() };
    assert!(matches!(refused(&forever), Refusal::Lifetime { .. }));
}

#[test]
fn one_byte_too_many_is_refused_before_anything_is_decoded() {
    let bytes = CONTACT_BYTES_MAX + 1;
    let limit = CONTACT_BYTES_MAX;
    assert_eq!(judged(&vec![0; bytes]), Err(Refusal::TooLarge { bytes, limit }));
    assert_eq!(judged(&vec![0; limit]), Err(Refusal::Malformed));
    let agent = contact_of(wire::Contact { agent: "a".repeat(limit), ..Default::default() });
    let bytes = sealed(&agent).len();
    assert_eq!(refused(&agent), Refusal::TooLarge { bytes, limit });
}

#[test]
fn one_address_too_many_or_too_long_or_of_somebody_else_is_refused() {
    let with = |addresses: Vec<Vec<u8>>| {
        refused(&contact_of(wire::Contact { addresses, ..Default::default() }))
    };
    let good = address("/ip4/198.51.100.7/tcp/1").to_vec();
    let count = ADDRESSES_MAX + 1;
    assert_eq!(with(vec![good.clone(); count]), Refusal::Addresses { count });
    let long = address(&format!("/dns4/{}/tcp/1", "a".repeat(ADDRESS_BYTES_MAX))).to_vec();
    assert_eq!(with(vec![good.clone(), long]), Refusal::Address { index: 1 });
    let stranger = key(2).public().to_peer_id();
    let foreign = address(&format!("/ip4/198.51.100.7/tcp/1/p2p/{stranger}")).to_vec();
    assert_eq!(with(vec![foreign]), Refusal::Address { index: 0 });
    assert_eq!(with(vec![vec![]]), Refusal::Address { index: 0 });
    assert_eq!(with(vec![vec![0xff, 0xff]]), Refusal::Address { index: 0 });
    let plain = address("/ip4/198.51.100.7/tcp/1/ws").to_vec();
    let with_path = [&good[..], &[0xa2, 0x25, 1, b'/']].concat();
    assert_eq!(
        Multiaddr::try_from(with_path.clone()).unwrap().iter().collect::<Multiaddr>().to_vec(),
        plain
    );
    assert_eq!(with(vec![with_path]), Refusal::Address { index: 0 }, "not its only form");
}

#[test]
fn addresses_that_the_policy_does_not_admit_are_left_out_and_the_peer_stays_known() {
    let no_private = |address: &Multiaddr, _: PeerId| !address.to_string().starts_with("/ip4/10.");
    let rules = Rules { addresses: Arc::new(no_private), ..rules() };
    let own = key(1).public().to_peer_id();
    let accepted = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| address(text)).collect();
        let body = Body::Contact(Contact { addresses, ..contact() });
        let record = sign(&key(1), statement(1, body)).unwrap();
        match accept(&rules, &contact_key(), record.bytes(), None, NOW) {
            Ok(Accepted::New(record)) => record.contact().unwrap().addresses.clone(),
            other => panic!("{other:?}"),
        }
    };
    let named = format!("/ip4/198.51.100.7/tcp/1/p2p/{own}");
    assert_eq!(
        accepted(&["/ip4/10.0.0.1/tcp/1", &named, "/ip4/198.51.100.7/tcp/1"]),
        [address("/ip4/198.51.100.7/tcp/1")],
        "once, and without the peer's own id"
    );
    assert_eq!(accepted(&["/ip4/10.0.0.1/tcp/1"]), Vec::<Multiaddr>::new());
}

#[test]
fn services_and_programs_have_short_names_that_can_be_printed() {
    let with = |contact: wire::Contact| refused(&contact_of(contact));
    let services = |names: Vec<String>| with(wire::Contact { services: names, ..Default::default() });
    assert_eq!(services(vec!["s".into(); SERVICES_MAX + 1]), Refusal::Services);
    assert_eq!(services(vec![String::new()]), Refusal::Services);
    assert_eq!(services(vec!["s".repeat(SERVICE_BYTES_MAX + 1)]), Refusal::Services);
    assert_eq!(services(vec!["a\nb".into()]), Refusal::Services);
    let agent = |agent: String| with(wire::Contact { agent, ..Default::default() });
    assert_eq!(agent("a".repeat(AGENT_BYTES_MAX + 1)), Refusal::Agent);
    assert_eq!(agent("\u{1b}[2J".into()), Refusal::Agent);
}

#[test]
fn what_later_programs_add_to_known_fields_means_nothing() {
    let later = wire::Contact { capabilities: u32::MAX, reach: 9, mapping: 9, ..Default::default() };
    let Ok(Accepted::New(record)) = judged(&sealed(&contact_of(later))) else { panic!() };
    let contact = record.contact().unwrap();
    assert_eq!(contact.nat, Nat::default());
    assert!(contact.capabilities.dht_server && contact.capabilities.relay);
}

#[test]
fn an_authority_lets_a_peer_speak_for_it_and_nobody_else_can() {
    let authority = key(3).public().to_peer_id();
    let to = key(1).public().to_peer_id();
    let record = sign(&key(3), statement(1, Body::Delegation(Delegation { to }))).unwrap();
    let under = |key| accept(&rules(), &key, record.bytes(), None, NOW);
    assert_eq!(under(RecordKey::Authority(authority)), Ok(Accepted::New(record.clone())));
    assert!(under(RecordKey::Authority(to)).is_err());
    let nobody = wire::Body::Delegation(wire::Delegation { to: vec![1, 2, 3] });
    let nobody = sealed(&wire::Payload { body: Some(nobody), ..payload() });
    let key = RecordKey::Authority(to);
    assert_eq!(accept(&rules(), &key, &nobody, None, NOW), Err(Refusal::Delegate));
}

#[test]
fn a_value_that_is_too_large_is_not_even_signed() {
    let value = |name, bytes| Body::Value(Value { name: vec![0; name], bytes: vec![0; bytes] });
    let sign = |body| sign(&key(1), statement(1, body));
    assert!(sign(value(NAME_BYTES_MAX, VALUE_BYTES_MAX)).is_ok());
    let refused = |body| matches!(sign(body), Err(SignError::Refused(Refusal::Value)));
    assert!(refused(value(NAME_BYTES_MAX + 1, 0)));
    assert!(refused(value(0, VALUE_BYTES_MAX + 1)));
}

#[test]
fn content_is_what_its_key_says_and_needs_no_signature() {
    let key = RecordKey::content(b"content");
    assert_eq!(accept(&rules(), &key, b"content", None, NOW), Ok(Accepted::Content));
    assert_eq!(accept(&rules(), &key, b"c0ntent", None, NOW), Err(Refusal::Hash));
    let (bytes, limit) = (VALUE_BYTES_MAX + 1, VALUE_BYTES_MAX);
    let large = vec![0; bytes];
    let refused = accept(&rules(), &RecordKey::content(&large), &large, None, NOW);
    assert_eq!(refused, Err(Refusal::TooLarge { bytes, limit }));
}

#[test]
fn a_key_that_is_hashed_into_a_peer_id_signs_for_that_peer_alone() {
    // The envelope carries the key; whoever swaps it for his own is another signer.
    let stolen = SignedEnvelope::from_protobuf_encoding(signed(1).bytes()).unwrap();
    let (said, owner) = stolen.payload_and_signing_key(DOMAIN.into(), PAYLOAD_TYPE).unwrap();
    assert_eq!(owner, &PublicKey::try_decode_protobuf(&key(1).public().encode_protobuf()).unwrap());
    let swapped = envelope(&key(2), DOMAIN, PAYLOAD_TYPE, said.to_vec());
    let signer = key(2).public().to_peer_id();
    assert_eq!(judged(&swapped), Err(Refusal::ForeignSigner { signer }));
}

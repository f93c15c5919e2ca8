//! Any bytes as a record: an error, or one that keeps its bounds.

use std::sync::{Arc, LazyLock};

use libp2p::{Multiaddr, PeerId, core::SignedEnvelope, identity::Keypair};
use punchline_discovery::{
    UnixTime,
    keys::RecordKey,
    record::{
        ADDRESSES_MAX, Accepted, Body, DOMAIN, LIFETIME_MAX, NAME_BYTES_MAX, PAYLOAD_TYPE,
        RECORD_BYTES_MAX, Record, Rules, SERVICES_MAX, VALUE_BYTES_MAX, accept,
    },
};

/// When all inputs are judged.
pub const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);

/// The name of values; those with another one are refused.
const NAME: &[u8] = b"name";

static SIGNER: LazyLock<Keypair> =
    LazyLock::new(|| Keypair::ed25519_from_bytes([1; 32]).expect("any 32 bytes are a secret key"));

/// The first byte says what the rest is: an envelope, a payload to be signed (whoever has a key can have anything
/// signed), or a key.
pub fn run(input: &[u8]) {
    let Some((what, bytes)) = input.split_first() else { return };
    match what % 3 {
        0 => judge(bytes),
        1 => {
            let envelope =
                SignedEnvelope::new(&SIGNER, DOMAIN.into(), PAYLOAD_TYPE.into(), bytes.to_vec());
            judge(&envelope.expect("ed25519 signs anything").into_protobuf_encoding());
        }
        _ => {
            if let Some(key) = RecordKey::of_bytes(bytes) {
                assert_eq!(key.to_bytes(), bytes, "a key has two forms");
            }
        }
    }
}

fn judge(bytes: &[u8]) {
    let signer = SIGNER.public().to_peer_id();
    let keys =
        [RecordKey::Contact(signer), RecordKey::Authority(signer), RecordKey::value(signer, NAME)];
    let addresses = Arc::new(|_: &Multiaddr, _: PeerId| true);
    let rules = Rules { network: "test".parse().expect("a short name"), addresses };
    let mut accepted = 0;
    for key in keys {
        match accept(&rules, &key, bytes, None, NOW) {
            Ok(Accepted::New(record)) => {
                accepted += 1;
                bounds(&record, bytes);
                assert_eq!(record.key(), key);
                let again = accept(&rules, &key, bytes, Some(record.version()), NOW);
                assert_eq!(again, Ok(Accepted::Held), "it is another when read again");
            }
            Ok(Accepted::Held | Accepted::Content) => {
                unreachable!("nothing is held, and no key is of content")
            }
            Err(refusal) => assert!(!refusal.to_string().is_empty() && !refusal.name().is_empty()),
        }
    }
    assert!(accepted <= 1, "it belongs under two keys");
}

fn bounds(record: &Record, bytes: &[u8]) {
    assert_eq!(record.bytes(), bytes);
    assert!(bytes.len() <= RECORD_BYTES_MAX);
    assert!(record.expires() > NOW && record.expires().since(record.issued()) <= LIFETIME_MAX);
    match record.body() {
        Body::Contact(contact) => {
            assert!(contact.addresses.len() <= ADDRESSES_MAX && contact.services.len() <= SERVICES_MAX);
            assert!(!contact.addresses.iter().any(Multiaddr::is_empty));
            assert!(!contact.agent.chars().any(char::is_control));
        }
        Body::Delegation(_) => {}
        Body::Value(value) => {
            assert!(value.name.len() <= NAME_BYTES_MAX && value.bytes.len() <= VALUE_BYTES_MAX);
        }
    }
}

//! pkarr: a public key (ed25519) is a name, and its owner signs DNS records for it, which the 160-bit network keeps.
//!
//! Written as pkarr does, in z-base-32, such a key has 52 characters. It says the same as the peer id of that key: see
//! [`peer_of`] and [`key_of`]. What is published are TXT records of `_dnsaddr.<key>`, each `dnsaddr=<address>/p2p/<peer>`, as
//! DNS has them for `/dnsaddr/<name>`.

#[cfg(feature = "pkarr")]
pub(crate) mod packet;

use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use libp2p::{
    PeerId,
    identity::{PublicKey, ed25519},
};

/// Characters of a key.
const KEY_CHARACTERS: usize = 52;

/// What may stand before one, as others write it.
const PREFIXES: [&str; 2] = ["pk:", "pkarr:"];

static Z_BASE_32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("ybndrfg8ejkmcpqxot1uwisza345h769");
    specification.encoding().expect("32 symbols, each once")
});

/// Why a text is no pkarr key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    /// It has another length.
    #[error("a pkarr key has {KEY_CHARACTERS} characters of z-base-32, this one has {length}")]
    Length {
        /// Characters.
        length: usize,
    },
    /// It has other letters, or stands for nothing.
    #[error(
        "it is no ed25519 key in z-base-32; that has small letters without l and v, and digits without 0 and 2"
    )]
    Letters,
}

/// The peer that a pkarr key names; none if the text does not look like one. `pk:` or `pkarr:` may stand before it.
///
/// # Errors
/// If it says that it is one, or has its length, and is none.
pub fn peer_of(text: &str) -> Option<Result<PeerId, NotAKey>> {
    let rest = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
    match rest {
        Some(key) => Some(read(key.trim_start_matches("//"))),
        // An id of libp2p may be as long, but has other letters.
        None => (text.len() == KEY_CHARACTERS).then(|| read(text)).filter(Result::is_ok),
    }
}

/// The pkarr key of a peer; none if it has another kind of key, or an id that is only a hash of it.
pub fn key_of(peer: PeerId) -> Option<String> {
    let key = PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
    Some(Z_BASE_32.encode(&key.try_into_ed25519().ok()?.to_bytes()))
}

fn read(text: &str) -> Result<PeerId, NotAKey> {
    let length = text.chars().count();
    if length != KEY_CHARACTERS {
        return Err(NotAKey::Length { length });
    }
    let bytes = Z_BASE_32.decode(text.as_bytes()).map_err(|_| NotAKey::Letters)?;
    let key = ed25519::PublicKey::try_from_bytes(&bytes).map_err(|_| NotAKey::Letters)?;
    Ok(PublicKey::from(key).to_peer_id())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::identity::Keypair;

    use super::*;

    #[test]
    fn a_key_and_the_id_of_its_peer_say_the_same() {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let key = key_of(peer).unwrap();
        assert_eq!(key.len(), KEY_CHARACTERS);
        for text in [key.clone(), format!("pk:{key}"), format!("pkarr:{key}"), format!("pk://{key}")] {
            assert_eq!(peer_of(&text), Some(Ok(peer)), "{text}");
        }
        assert_eq!(key_of(PeerId::random()), None, "a hash tells no key");
    }

    #[test]
    fn what_is_no_key_is_told_where_it_says_that_it_is_one() {
        let id = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        assert!([id, "alice", ""].iter().all(|text| peer_of(text).is_none()));
        assert_eq!(peer_of("pk:abc"), Some(Err(NotAKey::Length { length: 3 })));
        assert_eq!(peer_of(&format!("pk:{}", "l".repeat(52))), Some(Err(NotAKey::Letters)));
        assert_eq!(peer_of(&format!("pk:{}", "0".repeat(52))), Some(Err(NotAKey::Letters)));
    }
}

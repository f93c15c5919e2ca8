//! What is stored (BEP 44): values that are called by their hash, and signed ones that their owner may replace.

use libp2p::identity::{Keypair, ed25519};

use super::{bencode::write_bytes, id::Id};

/// Bytes of a value as it is written (BEP 44).
pub(super) const VALUE_BYTES_MAX: usize = 1000;

/// Bytes of a salt (BEP 44).
pub(super) const SALT_BYTES_MAX: usize = 64;

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Found by the hash of the value.
    Immutable {
        /// In bencode.
        value: Vec<u8>,
    },
    /// Found by the hash of its owner's key.
    Mutable(Mutable),
}

/// Signed by its owner, who may replace it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutable {
    /// The owner's public key, ed25519.
    pub key: [u8; 32],
    /// Tells what the owner stores here from what he stores elsewhere.
    pub salt: Vec<u8>,
    /// Of two the greater is newer.
    pub seq: i64,
    /// The owner's.
    pub signature: [u8; 64],
    /// In bencode.
    pub value: Vec<u8>,
}

/// What cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The value is too long.
    #[error("a value has at most {limit} bytes, with its length before it")]
    TooLong {
        /// Bytes that it may have.
        limit: usize,
    },
    /// The salt is too long.
    #[error("a salt has at most {limit} bytes")]
    SaltTooLong {
        /// Bytes that it may have.
        limit: usize,
    },
    /// The key is not an ed25519 key.
    #[error("only ed25519 keys sign what is stored there")]
    Key,
}

impl Item {
    /// These bytes, to be found by their hash.
    ///
    /// # Errors
    /// If they are too many.
    pub fn immutable(bytes: &[u8]) -> Result<Self, ItemError> {
        Ok(Self::Immutable { value: written(bytes)? })
    }

    /// These bytes, signed, to be found by key and salt.
    ///
    /// # Errors
    /// If they or the salt are too long, or it is another kind of key.
    pub fn signed(key: &Keypair, salt: &[u8], seq: i64, bytes: &[u8]) -> Result<Self, ItemError> {
        if salt.len() > SALT_BYTES_MAX {
            return Err(ItemError::SaltTooLong { limit: SALT_BYTES_MAX });
        }
        let public = key.public().try_into_ed25519().map_err(|_| ItemError::Key)?.to_bytes();
        let (value, salt) = (written(bytes)?, salt.to_vec());
        let signature = key.sign(&signed_bytes(&salt, seq, &value)).map_err(|_| ItemError::Key)?;
        let signature = signature.try_into().map_err(|_| ItemError::Key)?;
        Ok(Self::Mutable(Mutable { key: public, salt, seq, signature, value }))
    }

    /// Under which key it is stored.
    pub fn target(&self) -> Id {
        match self {
            Self::Immutable { value } => Id::hash(&[value]),
            Self::Mutable(mutable) => target(&mutable.key, &mutable.salt),
        }
    }

    /// Its value, in bencode.
    pub fn value(&self) -> &[u8] {
        match self {
            Self::Immutable { value } => value,
            Self::Mutable(mutable) => &mutable.value,
        }
    }

    /// The bytes that it holds; none if it holds something else than a string of bytes.
    pub fn bytes(&self) -> Option<&[u8]> {
        match super::bencode::read_value(self.value())? {
            super::bencode::Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn mutable(&self) -> Option<&Mutable> {
        match self {
            Self::Immutable { .. } => None,
            Self::Mutable(mutable) => Some(mutable),
        }
    }

    /// Which of two is newer; all of the same hash are alike.
    pub(super) fn seq(&self) -> i64 {
        self.mutable().map_or(0, |mutable| mutable.seq)
    }

    /// Whether it belongs under this key, and is whole and signed if it has to be. The salt is not in an answer: whoever
    /// asked knows it.
    pub(super) fn belongs(&self, target: Id) -> bool {
        self.target() == target && super::bencode::read_value(self.value()).is_some() && self.is_signed()
    }

    fn is_signed(&self) -> bool {
        let Self::Mutable(Mutable { key, salt, seq, signature, value }) = self else { return true };
        let public = ed25519::PublicKey::try_from_bytes(key);
        public.is_ok_and(|public| public.verify(&signed_bytes(salt, *seq, value), signature))
    }

    /// With the salt that was asked for.
    pub(super) fn salted(mut self, with: &[u8]) -> Self {
        if let Self::Mutable(mutable) = &mut self {
            mutable.salt = with.to_vec();
        }
        self
    }
}

/// Where what somebody signs is stored.
pub(super) fn target(key: &[u8; 32], salt: &[u8]) -> Id {
    Id::hash(&[key, salt])
}

fn written(bytes: &[u8]) -> Result<Vec<u8>, ItemError> {
    let mut value = Vec::new();
    write_bytes(&mut value, bytes);
    match value.len() <= VALUE_BYTES_MAX {
        true => Ok(value),
        false => Err(ItemError::TooLong { limit: VALUE_BYTES_MAX }),
    }
}

/// What a signature is over (BEP 44).
fn signed_bytes(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !salt.is_empty() {
        bytes.extend_from_slice(b"4:salt");
        write_bytes(&mut bytes, salt);
    }
    bytes.extend_from_slice(format!("3:seqi{seq}e1:v").as_bytes());
    bytes.extend_from_slice(value);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        std::array::from_fn(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
    }

    fn example(salt: &[u8], signature: &str) -> Item {
        let key = hex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548");
        let (salt, signature, value) = (salt.to_vec(), hex(signature), b"12:Hello World!".to_vec());
        Item::Mutable(Mutable { key, salt, seq: 1, signature, value })
    }

    #[test]
    fn the_examples_of_bep_44_belong_where_it_says() {
        let examples = [
            (
                &b""[..],
                "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
                 1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
                "4a533d47ec9c7d95b1ad75f576cffc641853b750",
            ),
            (
                b"foobar",
                "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
                 df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
                "411eba73b6f087ca51a3795d9c8c938d365e32c1",
            ),
        ];
        for (salt, signature, target) in examples {
            let item = example(salt, signature);
            assert_eq!(item.target().to_string(), target);
            assert!(item.belongs(item.target()));
            let other = item.clone().salted(b"other");
            assert!(!other.belongs(other.target()), "the salt is signed");
        }
        let immutable = Item::immutable(b"Hello World!").unwrap();
        assert_eq!(immutable.target().to_string(), "e5f96f6f38320f0f33959cb4d3d656452117aadb");
        assert!(immutable.belongs(immutable.target()));
    }

    #[test]
    fn what_is_signed_is_found_by_the_key_and_any_change_is_noticed() {
        let key = Keypair::generate_ed25519();
        let item = Item::signed(&key, b"salt", 7, b"bytes").unwrap();
        assert!(item.belongs(item.target()));
        assert_eq!(item.bytes(), Some(&b"bytes"[..]));
        let mutable = item.mutable().unwrap().clone();
        let changed = |change: fn(&mut Mutable)| {
            let mut mutable = mutable.clone();
            change(&mut mutable);
            Item::Mutable(mutable).belongs(item.target())
        };
        assert!(!changed(|mutable| mutable.seq += 1));
        assert!(!changed(|mutable| mutable.value[2] ^= 1));
        assert!(!changed(|mutable| mutable.signature[0] ^= 1));
        assert!(!changed(|mutable| mutable.key[0] ^= 1));
        assert!(!changed(|mutable| mutable.salt.clear()));
    }

    #[test]
    fn what_is_too_long_is_not_made() {
        let key = Keypair::generate_ed25519();
        assert!(Item::immutable(&[0; 996]).is_ok());
        assert_eq!(Item::immutable(&[0; 997]), Err(ItemError::TooLong { limit: VALUE_BYTES_MAX }));
        assert!(Item::signed(&key, &[0; 64], 1, b"").is_ok());
        assert_eq!(
            Item::signed(&key, &[0; 65], 1, b""),
            Err(ItemError::SaltTooLong { limit: SALT_BYTES_MAX })
        );
    }
}

//! The part of a ticket that its issuer signs, and that is presented to it later. Pure.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use data_encoding::HEXLOWER_PERMISSIVE;
use libp2p::{
    PeerId,
    identity::{PublicKey, ed25519},
};
use punchline_bridge::{Service, ServiceError};
use serde::{Deserialize, Serialize};

/// The first byte of a capability.
const VERSION: u8 = 1;

/// Bit of the second byte: the ticket is for one use.
const ONCE: u8 = 1;

/// What is signed begins with this, so that nothing else which the identity key signs can be taken for
/// a capability, nor a capability for anything else.
const DOMAIN: &[u8] = b"punchline-ticket-v1:";

/// The first second of the year 9999: much later ones cannot be printed, and nobody means them.
const EXPIRES_MAX: u64 = 253_370_764_800;

/// Names a ticket; random, so that two are never the same. Printed as 32 hexadecimal digits. Not secret:
/// it opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TicketId([u8; 16]);

/// The string is not the id of a ticket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a ticket, which is 32 hexadecimal digits; `punchline ticket list` shows them")]
pub struct TicketIdError;

/// What a ticket grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Its name.
    pub id: TicketId,
    /// The service that it opens.
    pub service: Service,
    /// From this Unix second on it is void.
    pub expires: u64,
    /// It is void after one stream.
    pub once: bool,
}

/// Terms that their issuer has signed: there is no other way to have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    issuer: PeerId,
    terms: Terms,
}

/// Why bytes are not a capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// They end too early.
    #[error("it ends too early")]
    Truncated,
    /// They go on after the end.
    #[error("{bytes} bytes too many")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// Of another version.
    #[error("its version is {version}, and only {VERSION} is known here")]
    Version {
        /// Which.
        version: u8,
    },
    /// It has conditions that are not known here, and so cannot be kept.
    #[error("it has unknown conditions ({flags:#04x})")]
    Flags {
        /// The byte of flags.
        flags: u8,
    },
    /// It is void from a time on that no calendar has.
    #[error("it expires after the year 9998")]
    Expires,
    /// Its issuer's key is no Ed25519 public key.
    #[error("its issuer's key is no Ed25519 key")]
    Key,
    /// It names no service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Its issuer has not signed it as it is.
    #[error("its signature is not by the issuer that it names")]
    Signature,
}

impl TicketId {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl FromStr for TicketId {
    type Err = TicketIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| TicketIdError)?;
        bytes.try_into().map(Self).map_err(|_| TicketIdError)
    }
}

impl TryFrom<String> for TicketId {
    type Error = TicketIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TicketId> for String {
    fn from(id: TicketId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
    }
}

impl Capability {
    /// Signs terms: the capability's bytes and their signature, as they are presented.
    pub(super) fn sign(terms: &Terms, issuer: &ed25519::Keypair) -> Vec<u8> {
        let name = terms.service.as_str().as_bytes();
        let mut bytes = vec![VERSION, if terms.once { ONCE } else { 0 }];
        bytes.extend(terms.id.0);
        bytes.extend(terms.expires.to_be_bytes());
        bytes.extend(issuer.public().to_bytes());
        bytes.push(name.len() as u8);
        bytes.extend(name);
        let signature = issuer.sign(&[DOMAIN, &bytes].concat());
        bytes.extend(signature);
        bytes
    }

    /// Takes what was presented, signature included, and nothing else.
    ///
    /// # Errors
    /// If the bytes are malformed, or not signed by the issuer that they name.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CapabilityError> {
        let (capability, rest) = Self::take(bytes)?;
        match rest.len() {
            0 => Ok(capability),
            bytes => Err(CapabilityError::Trailing { bytes }),
        }
    }

    /// Takes a capability with its signature off the front of `bytes`; what follows comes back too.
    pub(super) fn take(bytes: &[u8]) -> Result<(Self, &[u8]), CapabilityError> {
        let mut rest = bytes;
        let [version, flags] = array(&mut rest)?;
        if version != VERSION {
            return Err(CapabilityError::Version { version });
        }
        if flags & !ONCE != 0 {
            return Err(CapabilityError::Flags { flags });
        }
        let id = TicketId(array(&mut rest)?);
        let expires = u64::from_be_bytes(array(&mut rest)?);
        if expires > EXPIRES_MAX {
            return Err(CapabilityError::Expires);
        }
        let key = ed25519::PublicKey::try_from_bytes(&array::<32>(&mut rest)?);
        let key = key.map_err(|_| CapabilityError::Key)?;
        let [length] = array(&mut rest)?;
        let (name, after) =
            rest.split_at_checked(usize::from(length)).ok_or(CapabilityError::Truncated)?;
        let service = Service::new(&String::from_utf8_lossy(name))?;
        let signed = bytes.get(..bytes.len() - after.len()).unwrap_or_default();
        rest = after;
        let signature: [u8; 64] = array(&mut rest)?;
        if !key.verify(&[DOMAIN, signed].concat(), &signature) {
            return Err(CapabilityError::Signature);
        }
        let terms = Terms { id, service, expires, once: flags & ONCE != 0 };
        Ok((Self { issuer: PublicKey::from(key).to_peer_id(), terms }, rest))
    }

    /// Who signed it, and honours it.
    pub fn issuer(&self) -> PeerId {
        self.issuer
    }

    /// What it grants.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }
}

/// The next `N` bytes.
pub(super) fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], CapabilityError> {
    let (taken, after) = rest.split_first_chunk().ok_or(CapabilityError::Truncated)?;
    *rest = after;
    Ok(*taken)
}

/// Whole seconds since 1970; 0 before.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time of a Unix second, as far as the system has it.
pub(super) fn time_of(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use punchline_bridge::{SERVICE_NAME_BYTES_MAX, stream::frame::TICKET_BYTES_MAX};

    use super::*;

    /// No point of the curve has 2 as its y coordinate.
    const NO_POINT: [u8; 32] = {
        let mut bytes = [0; 32];
        bytes[0] = 2;
        bytes
    };

    fn key() -> ed25519::Keypair {
        ed25519::SecretKey::try_from_bytes([7; 32]).unwrap().into()
    }

    fn terms(service: &str) -> Terms {
        Terms {
            id: TicketId([1; 16]),
            service: service.parse().unwrap(),
            expires: 1_800_000_000,
            once: true,
        }
    }

    /// A capability with these bytes instead, properly signed.
    fn forged_by_the_issuer(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Capability::sign(&terms("kaspad"), &key());
        bytes.truncate(bytes.len() - 64);
        change(&mut bytes);
        let signature = key().sign(&[DOMAIN, &bytes].concat());
        [bytes, signature].concat()
    }

    #[test]
    fn what_was_signed_comes_back_and_its_issuer_with_it() {
        let bytes = Capability::sign(&terms("kaspad"), &key());
        let capability = Capability::from_bytes(&bytes).unwrap();
        assert_eq!(capability.terms(), &terms("kaspad"));
        assert_eq!(capability.issuer(), PublicKey::from(key().public()).to_peer_id());
        let long = Capability::sign(&terms(&"a".repeat(SERVICE_NAME_BYTES_MAX)), &key());
        assert_eq!(long.len(), 187, "as the documents say");
        assert!(long.len() <= TICKET_BYTES_MAX);
    }

    #[test]
    fn no_single_bit_can_be_changed() {
        let good = Capability::sign(&terms("kaspad"), &key());
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(Capability::from_bytes(&bad).is_err(), "bit {at}");
        }
    }

    #[test]
    fn nothing_may_be_missing_or_follow() {
        let good = Capability::sign(&terms("kaspad"), &key());
        for length in 0..good.len() {
            assert_eq!(Capability::from_bytes(&good[..length]), Err(CapabilityError::Truncated));
        }
        let long = [&good[..], &[0; 2]].concat();
        assert_eq!(Capability::from_bytes(&long), Err(CapabilityError::Trailing { bytes: 2 }));
    }

    #[test]
    fn what_the_issuer_itself_signed_must_still_be_understood() {
        assert!(Capability::from_bytes(&forged_by_the_issuer(|_| {})).is_ok());
        let read = |change: fn(&mut Vec<u8>)| Capability::from_bytes(&forged_by_the_issuer(change));
        assert_eq!(read(|b| b[0] = 2), Err(CapabilityError::Version { version: 2 }));
        assert_eq!(read(|b| b[1] = 3), Err(CapabilityError::Flags { flags: 3 }));
        assert_eq!(read(|b| b[18..26].fill(0xff)), Err(CapabilityError::Expires));
        assert_eq!(read(|b| b[26..58].copy_from_slice(&NO_POINT)), Err(CapabilityError::Key));
        assert!(matches!(read(|b| b[59] = b'\n'), Err(CapabilityError::Service(_))));
        assert!(matches!(read(|b| b[59] = 0xff), Err(CapabilityError::Service(_))));
        assert!(matches!(
            read(|b| {
                b.truncate(58);
                b.push(0)
            }),
            Err(CapabilityError::Service(_))
        ));
        let long = read(|b| {
            b.truncate(58);
            b.push(65);
            b.extend([b'a'; 65])
        });
        assert!(matches!(long, Err(CapabilityError::Service(_))));
    }

    #[test]
    fn a_signature_for_another_purpose_is_none() {
        let mut bytes = Capability::sign(&terms("kaspad"), &key());
        bytes.truncate(bytes.len() - 64);
        let signature = key().sign(&bytes);
        let error = Capability::from_bytes(&[bytes, signature].concat()).unwrap_err();
        assert_eq!(error, CapabilityError::Signature);
    }

    #[test]
    fn random_bytes_are_no_capability_and_break_nothing() {
        for length in 0..2_000 {
            let mut bytes: Vec<u8> = (0..length % 300).map(|_| rand::random()).collect();
            if let [version, flags, ..] = bytes.as_mut_slice() {
                (*version, *flags) = (VERSION, *flags & ONCE);
            }
            assert!(Capability::from_bytes(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_id_is_32_hexadecimal_digits_in_either_case() {
        let id = TicketId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        for bad in ["", "00", &"0".repeat(31), &"0".repeat(34), &"g".repeat(32), &"é".repeat(16)] {
            assert_eq!(bad.parse::<TicketId>(), Err(TicketIdError), "{bad}");
        }
    }
}

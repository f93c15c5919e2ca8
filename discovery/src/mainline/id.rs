//! Where something is in the key space: 160 bits, and how near two of them are.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use sha1::{Digest as _, Sha1};

/// Bytes of an id.
pub(super) const ID_BYTES: usize = 20;

/// An id of a node, of a value, or of what peers announce themselves for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; ID_BYTES]);

/// How far two ids are from each other: their exclusive or, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Distance([u8; ID_BYTES]);

/// The text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an id; say 40 hexadecimal digits")]
pub struct NotAnId(String);

impl Id {
    /// From its bytes.
    pub const fn new(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    /// SHA-1 of these parts, one after another.
    pub(super) fn hash(parts: &[&[u8]]) -> Self {
        let mut hash = Sha1::new();
        parts.iter().for_each(|part| hash.update(part));
        Self(hash.finalize().into())
    }

    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) fn distance(&self, other: &Self) -> Distance {
        Distance(std::array::from_fn(|at| self.0[at] ^ other.0[at]))
    }

    /// An id that has its first `bits` bits from this one, differs in the next, and has the rest from `other`.
    pub(super) fn splice(&self, bits: usize, other: Self) -> Self {
        let of = |bytes: &[u8; ID_BYTES], bit: usize| bytes[bit / 8] >> (7 - bit % 8) & 1;
        let mut made = [0; ID_BYTES];
        for bit in 0..ID_BYTES * 8 {
            let value = match bit.cmp(&bits) {
                std::cmp::Ordering::Less => of(&self.0, bit),
                std::cmp::Ordering::Equal => 1 - of(&self.0, bit),
                std::cmp::Ordering::Greater => of(&other.0, bit),
            };
            made[bit / 8] |= value << (7 - bit % 8);
        }
        Self(made)
    }

    /// An id that fits this address (BEP 42), for the rest as random as `random` is. Whoever has one address has eight
    /// places in the key space, and chooses none of them.
    pub(super) fn for_ip(ip: Ipv4Addr, random: [u8; ID_BYTES]) -> Self {
        let mut id = random;
        let [first, second, third] = prefix(ip, id[ID_BYTES - 1]);
        (id[0], id[1]) = (first, second);
        id[2] = third & 0xf8 | id[2] & 0x07;
        Self(id)
    }

    /// Whether it fits this address. In networks that are not public any id does (BEP 42).
    pub(super) fn fits(&self, ip: Ipv4Addr) -> bool {
        let [first, second, third] = prefix(ip, self.0[ID_BYTES - 1]);
        let matches = self.0[0] == first && self.0[1] == second && self.0[2] & 0xf8 == third & 0xf8;
        !is_public(ip) || matches
    }
}

/// Whether an id of a node there has to fit its address.
pub(super) fn is_public(ip: Ipv4Addr) -> bool {
    !(ip.is_private() || ip.is_link_local() || ip.is_loopback())
}

fn prefix(ip: Ipv4Addr, random: u8) -> [u8; 3] {
    const MASK: u32 = 0x030f_3fff;
    let masked = u32::from(ip) & MASK | u32::from(random & 7) << 29;
    let [first, second, third, _] = crc32c(&masked.to_be_bytes()).to_be_bytes();
    [first, second, third]
}

/// CRC-32C (Castagnoli), bit by bit: it is done for four bytes at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32| crc >> 1 ^ (POLYNOMIAL & 0u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

impl Distance {
    /// In which bucket it is: how many bits both ids begin with alike. None if they are the same.
    pub(super) fn bucket(&self) -> Option<usize> {
        let at = self.0.iter().position(|byte| *byte != 0)?;
        Some(at * 8 + self.0[at].leading_zeros() as usize)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let wrong = || NotAnId(text.to_owned());
        if text.len() != ID_BYTES * 2 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; ID_BYTES];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_examples_of_bep_42_fit_and_others_do_not() {
        let examples = [
            ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
            ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
            ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
            ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
            ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
        ];
        for (ip, id) in examples {
            let (ip, id): (Ipv4Addr, Id) = (ip.parse().unwrap(), id.parse().unwrap());
            assert!(id.fits(ip));
            assert!(!id.fits(Ipv4Addr::new(8, 8, 8, 8)));
            assert!(Id::for_ip(ip, [7; 20]).fits(ip));
        }
        assert!(Id([0; 20]).fits(Ipv4Addr::new(192, 168, 1, 9)), "any id does in private networks");
    }

    #[test]
    fn a_bucket_is_what_has_as_many_bits_in_common() {
        let (own, other) = (Id([0xaa; 20]), Id([0x0f; 20]));
        assert_eq!(own.distance(&own).bucket(), None);
        for bits in [0, 1, 7, 8, 100, 159] {
            let made = own.splice(bits, other);
            assert_eq!(own.distance(&made).bucket(), Some(bits));
        }
    }

    #[test]
    fn what_is_printed_is_read_again_and_what_is_no_id_is_not() {
        let id = Id::hash(&[b"a", b"b"]);
        assert_eq!(id, Id::hash(&[b"ab"]));
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "zz", &"0".repeat(39), &"g".repeat(40), &"é".repeat(20)] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong}");
        }
    }
}

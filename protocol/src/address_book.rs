//! The addresses we tell peers about: our operator's, and what peers told us.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rand::seq::IteratorRandom;

/// Most addresses kept. Four times what one answer holds, so answers differ; without a bound
/// every peer could add 2500 more.
pub const ADDRESSES_KEPT_MAX: usize = 4096;

/// A bounded set of addresses, shared by all sessions of a node.
#[derive(Debug, Default)]
pub struct AddressBook {
    addresses: Mutex<HashSet<SocketAddr>>,
}

impl AddressBook {
    /// Adds an address. A full book forgets an arbitrary one for it: hearsay is worth no more
    /// than newer hearsay. Loopback, unspecified and port 0 are nowhere to dial, and skipped.
    pub fn insert(&self, address: SocketAddr) {
        let ip = address.ip();
        if ip.is_loopback() || ip.is_unspecified() || address.port() == 0 {
            return;
        }
        let mut addresses = self.lock();
        if addresses.len() >= ADDRESSES_KEPT_MAX && !addresses.contains(&address) {
            let victim = addresses.iter().next().copied();
            victim.map(|victim| addresses.remove(&victim));
        }
        addresses.insert(address);
    }

    /// At most `count` addresses, drawn at random.
    pub fn sample(&self, count: usize) -> Vec<SocketAddr> {
        self.lock().iter().copied().sample(&mut rand::rng(), count)
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// True if no address is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A panic elsewhere cannot leave a set of addresses half changed.
    fn lock(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_book_stays_full_and_takes_the_newer_address() {
        let book = AddressBook::default();
        let address = |n: u32| SocketAddr::from((0x0b00_0000_u32.wrapping_add(n).to_be_bytes(), 1));
        for n in 0..=ADDRESSES_KEPT_MAX as u32 {
            book.insert(address(n));
        }
        assert_eq!(book.len(), ADDRESSES_KEPT_MAX);
        let newest = address(ADDRESSES_KEPT_MAX as u32);
        assert!(book.sample(ADDRESSES_KEPT_MAX).contains(&newest));
    }

    #[test]
    fn what_cannot_be_dialled_is_not_kept() {
        let book = AddressBook::default();
        for text in ["127.0.0.1:1", "[::1]:1", "0.0.0.0:1", "203.0.113.1:0"] {
            book.insert(text.parse().expect("a literal address"));
        }
        assert!(book.is_empty());
    }
}

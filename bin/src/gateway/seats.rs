//! How many connections a service carries at once: in all, and of one peer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::PeerId;

/// The seats of one service. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    max: usize,
    per_peer_max: usize,
    taken: Arc<Mutex<Taken>>,
}

/// Bounded by the seats: a peer without a connection has no entry.
#[derive(Debug, Default)]
struct Taken {
    total: usize,
    of_peer: HashMap<PeerId, usize>,
}

/// The right to one connection.
///
/// # Drop
/// Gives the seat back.
#[derive(Debug)]
pub(super) struct Seat {
    peer: PeerId,
    taken: Arc<Mutex<Taken>>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The service has as many connections as it may have.
    Service {
        /// How many.
        limit: usize,
    },
    /// The peer has as many connections to the service as one may have.
    Peer {
        /// How many.
        limit: usize,
    },
}

impl Seats {
    pub(super) fn new(max: usize, per_peer_max: usize) -> Self {
        Self { max, per_peer_max, taken: Arc::default() }
    }

    /// Takes a seat for a connection of this peer.
    ///
    /// # Errors
    /// If all are taken, or all that one peer may have.
    pub(super) fn take(&self, peer: PeerId) -> Result<Seat, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = taken.of_peer.get(&peer).copied().unwrap_or_default();
        if of_peer >= self.per_peer_max {
            return Err(Full::Peer { limit: self.per_peer_max });
        }
        if taken.total >= self.max {
            return Err(Full::Service { limit: self.max });
        }
        taken.total += 1;
        taken.of_peer.insert(peer, of_peer + 1);
        Ok(Seat { peer, taken: self.taken.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(of_peer) = taken.of_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.of_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_connection_more_than_a_peer_or_the_service_may_have_is_refused_until_one_ends() {
        let (seats, [a, b, c]) = (Seats::new(3, 2), [(); 3].map(|()| PeerId::random()));
        let first = seats.take(a).unwrap();
        let _second = seats.take(a).unwrap();
        assert_eq!(seats.take(a).unwrap_err(), Full::Peer { limit: 2 });
        let _third = seats.take(b).unwrap();
        assert_eq!(seats.take(c).unwrap_err(), Full::Service { limit: 3 });
        drop(first);
        let _fourth = seats.take(a).unwrap();
        assert_eq!(seats.take(c).unwrap_err(), Full::Service { limit: 3 });
    }

    #[test]
    fn nothing_is_remembered_of_a_peer_that_left() {
        let seats = Seats::new(1, 1);
        drop(seats.take(PeerId::random()).unwrap());
        let taken = seats.taken.lock().unwrap();
        assert!(taken.total == 0 && taken.of_peer.is_empty());
    }
}

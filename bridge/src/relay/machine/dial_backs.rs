//! How often a relay dials back, for whom, and how many at once.
//!
//! Each is a connection that a stranger has us make, perhaps to a host that knows nothing of it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use libp2p::PeerId;

use super::Limited;
use crate::{addr::place::Place, event::LimitOwner};

/// What the limits below are counted in.
const WINDOW: Duration = Duration::from_secs(60);

/// Of all clients together: a relay's own traffic goes on beside it.
pub(in crate::relay) const ALL_MAX: usize = 60;

/// Of one client: its eight candidates at once, and some again.
pub(in crate::relay) const PEER_MAX: usize = 12;

/// Of one IPv4 address or IPv6 /64, since identities are free; a household has room.
pub(in crate::relay) const ADDRESS_MAX: usize = 24;

/// At once: one that nobody answers takes seconds.
pub(in crate::relay) const AT_ONCE_MAX: usize = 2;

/// Of one IPv4 address or IPv6 /64 at once, so that one host with a port that says nothing does not hold all places.
pub(in crate::relay) const ADDRESS_AT_ONCE_MAX: usize = 1;

/// A place is free again within seconds; who is refused may ask after this.
const AT_ONCE_AGAIN: Duration = Duration::from_secs(1);

/// See the module's text.
#[derive(Debug, Default)]
pub(in crate::relay) struct DialBacks {
    /// Those of the last minute, the oldest first: at most [`ALL_MAX`].
    lately: VecDeque<(Instant, PeerId, Place)>,
    /// The hosts that those under way are for: at most [`AT_ONCE_MAX`].
    under_way: Vec<IpNet>,
}

impl DialBacks {
    /// Whether a client may have an address of its own dialled; counted if so.
    ///
    /// # Errors
    /// The limit that is reached: the client's own first.
    pub(in crate::relay) fn take(
        &mut self,
        peer: PeerId,
        place: Place,
        now: Instant,
    ) -> Result<(), Limited> {
        while self.lately.front().is_some_and(|(at, ..)| *at + WINDOW <= now) {
            self.lately.pop_front();
        }
        let of_peer = self.lately.iter().filter(|(_, other, _)| *other == peer);
        self.fits(of_peer, LimitOwner::Peer, PEER_MAX, now)?;
        let of_host = self.lately.iter().filter(|(.., other)| other.host == place.host);
        self.fits(of_host, LimitOwner::Address, ADDRESS_MAX, now)?;
        self.fits(self.lately.iter(), LimitOwner::Relay, ALL_MAX, now)?;
        self.lately.push_back((now, peer, place));
        Ok(())
    }

    fn fits<'a>(
        &self,
        mut those: impl Iterator<Item = &'a (Instant, PeerId, Place)> + Clone,
        whose: LimitOwner,
        limit: usize,
        now: Instant,
    ) -> Result<(), Limited> {
        match (those.clone().count() < limit, those.next()) {
            (false, Some((oldest, ..))) => {
                let retry_after = (*oldest + WINDOW).saturating_duration_since(now);
                Err(Limited { whose, limit, retry_after })
            }
            _ => Ok(()),
        }
    }

    /// A dial begins for a client there; [`ended`](Self::ended) must follow.
    ///
    /// # Errors
    /// If as many as there may be are under way: for the client's host first, then for all.
    pub(in crate::relay) fn begin(&mut self, place: Place) -> Result<(), Limited> {
        let of_host = self.under_way.iter().filter(|host| **host == place.host).count();
        for (whose, count, limit) in [
            (LimitOwner::Address, of_host, ADDRESS_AT_ONCE_MAX),
            (LimitOwner::Relay, self.under_way.len(), AT_ONCE_MAX),
        ] {
            if count >= limit {
                return Err(Limited { whose, limit, retry_after: AT_ONCE_AGAIN });
            }
        }
        self.under_way.push(place.host);
        Ok(())
    }

    /// A dial for a client there is over.
    pub(in crate::relay) fn ended(&mut self, place: Place) {
        if let Some(at) = self.under_way.iter().position(|host| *host == place.host) {
            self.under_way.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(host: u8) -> Place {
        Place::of([8, 8, host, 8].into())
    }

    fn taken(dial_backs: &mut DialBacks, peers: &[PeerId], host: u8, now: Instant) -> usize {
        let ask = |at: usize| dial_backs.take(peers[at % peers.len()], place(host), now);
        (0..1000).map(ask).filter(Result::is_ok).count()
    }

    fn peers(count: usize) -> Vec<PeerId> {
        (0..count).map(|_| PeerId::random()).collect()
    }

    #[test]
    fn a_client_has_twelve_a_minute_an_address_twice_that_and_all_together_sixty() {
        let (mut dial_backs, start) = (DialBacks::default(), Instant::now());
        let one = peers(1);
        assert_eq!(taken(&mut dial_backs, &one, 1, start), PEER_MAX);
        assert_eq!(taken(&mut dial_backs, &peers(50), 1, start), ADDRESS_MAX - PEER_MAX);
        let refused = dial_backs.take(one[0], place(2), start + Duration::from_secs(10)).unwrap_err();
        let retry_after = Duration::from_secs(50);
        assert_eq!(refused, Limited { whose: LimitOwner::Peer, limit: PEER_MAX, retry_after });
        let others: usize = (2..10).map(|host| taken(&mut dial_backs, &peers(50), host, start)).sum();
        assert_eq!(others, ALL_MAX - ADDRESS_MAX);
        let refused = dial_backs.take(peers(1)[0], place(11), start).unwrap_err();
        assert_eq!((refused.whose, refused.limit), (LimitOwner::Relay, ALL_MAX));
        assert_eq!(dial_backs.lately.len(), ALL_MAX);
        assert_eq!(taken(&mut dial_backs, &one, 1, start + WINDOW), PEER_MAX, "a minute later");
    }

    #[test]
    fn one_of_a_host_and_two_of_all_are_under_way_at_once() {
        let mut dial_backs = DialBacks::default();
        let begin = |dial_backs: &mut DialBacks, host| {
            dial_backs.begin(place(host)).map_err(|limited| (limited.whose, limited.limit))
        };
        begin(&mut dial_backs, 1).unwrap();
        let of_host = Err((LimitOwner::Address, ADDRESS_AT_ONCE_MAX));
        assert_eq!(begin(&mut dial_backs, 1), of_host);
        begin(&mut dial_backs, 2).unwrap();
        assert_eq!(begin(&mut dial_backs, 3), Err((LimitOwner::Relay, AT_ONCE_MAX)));
        assert_eq!(begin(&mut dial_backs, 1), of_host, "its own limit first");
        dial_backs.ended(place(1));
        assert_eq!(begin(&mut dial_backs, 2), Err((LimitOwner::Address, ADDRESS_AT_ONCE_MAX)));
        begin(&mut dial_backs, 3).unwrap();
    }
}

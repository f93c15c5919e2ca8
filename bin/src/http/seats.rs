//! Who may have a connection: so many at once, and of those not all for one source. Whoever says nothing yields to whoever
//! comes. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

/// Connections at once: a Prometheus or two, probes, and somebody who looks. Where all of them are being answered, one more
/// waits.
pub(crate) const SEATS_MAX: usize = 32;

/// Of these, for one other host: two windows of a browser, with what they load.
pub(crate) const OF_HOST_MAX: usize = 8;

/// Likewise for this machine, with all of its users and probes.
pub(crate) const OF_OURSELVES_MAX: usize = 24;

/// A connection's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat(u64);

/// What came of wanting one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Seat(Seat),
    /// All are taken by connections that are being answered.
    Full,
    /// Those of this source are, and it has as many as it may.
    TooMany,
}

/// By seat, the oldest first. `Stays` is what its connection holds on to: it is dropped when another takes the seat.
pub(super) struct Seats<Stays> {
    taken: BTreeMap<Seat, Sitting<Stays>>,
    next: u64,
}

struct Sitting<Stays> {
    source: IpAddr,
    /// It has not said yet what it wants.
    silent: bool,
    _stays: Stays,
}

impl<Stays> Default for Seats<Stays> {
    fn default() -> Self {
        Self { taken: BTreeMap::new(), next: 0 }
    }
}

impl<Stays> Seats<Stays> {
    /// If there is none for the source, the oldest one that is silent goes.
    pub(super) fn take(&mut self, source: IpAddr, stays: Stays) -> Taken {
        let source = network(source);
        let of_source = self.taken.values().filter(|sitting| sitting.source == source).count();
        let most = if source.is_loopback() { OF_OURSELVES_MAX } else { OF_HOST_MAX };
        let (too_many, full) = (of_source >= most, self.taken.len() >= SEATS_MAX);
        if too_many || full {
            let goes =
                |sitting: &Sitting<Stays>| sitting.silent && (!too_many || sitting.source == source);
            let oldest = self.taken.iter().find(|(_, sitting)| goes(sitting)).map(|(seat, _)| *seat);
            match oldest {
                Some(oldest) => self.leave(oldest),
                None if too_many => return Taken::TooMany,
                None => return Taken::Full,
            }
        }
        let seat = Seat(self.next);
        self.next += 1;
        self.taken.insert(seat, Sitting { source, silent: true, _stays: stays });
        Taken::Seat(seat)
    }

    /// It said what it wants, and stays until it is answered.
    pub(super) fn speaks(&mut self, seat: Seat) {
        if let Some(sitting) = self.taken.get_mut(&seat) {
            sitting.silent = false;
        }
    }

    pub(super) fn leave(&mut self, seat: Seat) {
        self.taken.remove(&seat);
    }
}

/// Whoever has an address of IPv6 has its whole /64.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize) -> IpAddr {
        format!("192.0.2.{number}").parse().unwrap_or(Ipv6Addr::UNSPECIFIED.into())
    }

    fn take(seats: &mut Seats<()>, source: IpAddr) -> Seat {
        match seats.take(source, ()) {
            Taken::Seat(seat) => seat,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_all_seats_are_taken_the_oldest_silent_one_goes() {
        let mut seats = Seats::default();
        let taken: Vec<_> = (0..SEATS_MAX).map(|number| take(&mut seats, host(number))).collect();
        seats.speaks(taken[0]);
        take(&mut seats, host(200));
        assert!(seats.taken.contains_key(&taken[0]), "it is being answered");
        assert!(!seats.taken.contains_key(&taken[1]) && seats.taken.contains_key(&taken[2]));
        assert_eq!(seats.taken.len(), SEATS_MAX);
    }

    #[test]
    fn one_source_leaves_seats_to_others_and_its_own_silent_one_goes() {
        let mut seats = Seats::default();
        let other = take(&mut seats, host(1));
        let taken: Vec<_> = (0..OF_HOST_MAX).map(|_| take(&mut seats, host(2))).collect();
        take(&mut seats, host(2));
        assert!(seats.taken.contains_key(&other), "it is another's");
        assert!(!seats.taken.contains_key(&taken[0]));
        taken.iter().for_each(|seat| seats.speaks(*seat));
        take(&mut seats, host(2));
        assert_eq!(seats.taken.len(), 1 + OF_HOST_MAX);
        let seats_of = |seats: &Seats<()>| seats.taken.keys().copied().collect::<Vec<_>>();
        for seat in seats_of(&seats) {
            seats.speaks(seat);
        }
        assert_eq!(seats.take(host(2), ()), Taken::TooMany);
        take(&mut seats, host(3));
    }

    #[test]
    fn where_everybody_is_being_answered_one_more_waits_until_one_leaves() {
        let mut seats = Seats::default();
        let taken: Vec<_> = (0..SEATS_MAX).map(|number| take(&mut seats, host(number))).collect();
        taken.iter().for_each(|seat| seats.speaks(*seat));
        assert_eq!(seats.take(host(200), ()), Taken::Full);
        seats.leave(taken[3]);
        take(&mut seats, host(200));
    }

    #[test]
    fn this_machine_has_more_seats_than_another_and_not_all() {
        let (mut seats, own) = (Seats::default(), IpAddr::from([127, 0, 0, 1]));
        for _ in 0..OF_OURSELVES_MAX {
            let seat = take(&mut seats, own);
            seats.speaks(seat);
        }
        assert_eq!(seats.take(own, ()), Taken::TooMany);
        take(&mut seats, host(1));
    }

    #[test]
    fn a_whole_network_of_ipv6_is_one_source() {
        let ip = |text: &str| network(text.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])));
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
    }
}

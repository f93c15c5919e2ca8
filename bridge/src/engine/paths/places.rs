//! So many places of one kind, and where those come from who take them.
//!
//! Identities are free, addresses are not: what one source may have is bounded, whatever its number of
//! identities. Fair first, global last: who is turned away for the sake of its own source uses up nothing that
//! others need. Some places are kept for familiar peers, so that strangers, however many, do not take all.

mod streams;

use std::{collections::BTreeMap, net::Ipv4Addr};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

pub(crate) use self::streams::StreamPlaces;
use crate::{
    addr::{
        ip_of,
        place::{Place, Shares},
    },
    config::Sharing,
    event::LimitOwner,
    path::Path,
    status::LimitStatus,
};

/// Where a connection comes from, as far as it can be counted: behind a relay nobody sees addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Host(Place),
    Relay(PeerId),
}

/// Who asks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Stranger,
    /// Our program uses it, or a service lets it in.
    Familiar,
    /// We do, of our own accord.
    Ours,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Full {
    pub(crate) whose: LimitOwner,
    pub(crate) limit: usize,
}

/// Who has how many places. Strangers and familiar peers of one source are counted apart: a crowd of strangers
/// must not lock out a familiar peer behind the same NAT.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    /// The part of `max` that strangers cannot have.
    kept: usize,
    strangers: Group,
    familiars: Group,
    ours: usize,
}

#[derive(Debug)]
struct Group {
    share: usize,
    count: usize,
    hosts: Shares,
    relays: BTreeMap<PeerId, usize>,
}

impl Origin {
    pub(crate) fn of(path: Path, address: &Multiaddr) -> Self {
        match path {
            Path::Relayed { relay } => Self::Relay(relay),
            // All our transports have IP addresses.
            Path::Direct => {
                Self::Host(Place::of(ip_of(address).unwrap_or(Ipv4Addr::UNSPECIFIED.into())))
            }
        }
    }
}

impl Places {
    pub(crate) fn new(max: usize, sharing: Sharing) -> Self {
        let group = || Group::new(sharing.of_source(max));
        let kept = sharing.kept(max);
        Self { max, kept, strangers: group(), familiars: group(), ours: 0 }
    }

    /// As [`new`](Self::new), where nobody is known yet and so nothing can be kept.
    pub(crate) fn unkept(max: usize, sharing: Sharing) -> Self {
        Self { kept: 0, ..Self::new(max, sharing) }
    }

    /// Whether there is one more place.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn fits(&self, origin: Origin, standing: Standing) -> Result<(), Full> {
        let for_strangers = self.max - self.kept;
        match standing {
            Standing::Stranger => {
                self.strangers.fits(origin)?;
                if self.strangers.count >= for_strangers && self.kept > 0 {
                    return Err(Full { whose: LimitOwner::Strangers, limit: for_strangers });
                }
            }
            Standing::Familiar => self.familiars.fits(origin)?,
            Standing::Ours => {}
        }
        match self.taken() >= self.max {
            true => Err(Full { whose: LimitOwner::Node, limit: self.max }),
            false => Ok(()),
        }
    }

    pub(crate) fn take(&mut self, origin: Origin, standing: Standing) {
        match standing {
            Standing::Stranger => self.strangers.take(origin),
            Standing::Familiar => self.familiars.take(origin),
            Standing::Ours => self.ours += 1,
        }
    }

    /// Gives back what was taken with the same words.
    pub(crate) fn give_back(&mut self, origin: Origin, standing: Standing) {
        match standing {
            Standing::Stranger => self.strangers.give_back(origin),
            Standing::Familiar => self.familiars.give_back(origin),
            Standing::Ours => self.ours -= 1,
        }
    }

    /// Places that are taken, by whomever.
    pub(crate) fn taken(&self) -> usize {
        self.strangers.count + self.familiars.count + self.ours
    }

    /// How full they are.
    pub(crate) fn status(&self, what: &'static str) -> LimitStatus {
        LimitStatus::new(what, self.taken(), self.max)
    }
}

impl Group {
    fn new(share: usize) -> Self {
        Self { share, count: 0, hosts: Shares::new(share), relays: BTreeMap::new() }
    }

    fn fits(&self, origin: Origin) -> Result<(), Full> {
        match origin {
            Origin::Host(place) => {
                let address = |limit| Full { whose: LimitOwner::Address, limit };
                self.hosts.fits(place).map_err(address)
            }
            Origin::Relay(relay) if self.relays.get(&relay).is_some_and(|has| *has >= self.share) => {
                Err(Full { whose: LimitOwner::ThroughRelay, limit: self.share })
            }
            Origin::Relay(_) => Ok(()),
        }
    }

    fn take(&mut self, origin: Origin) {
        self.count += 1;
        match origin {
            Origin::Host(place) => self.hosts.take(place),
            Origin::Relay(relay) => *self.relays.entry(relay).or_default() += 1,
        }
    }

    fn give_back(&mut self, origin: Origin) {
        self.count -= 1;
        match origin {
            Origin::Host(place) => self.hosts.give_back(place),
            Origin::Relay(relay) => {
                if let Some(has) = self.relays.get_mut(&relay) {
                    *has -= 1;
                    if *has == 0 {
                        self.relays.remove(&relay);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn host(ip: &str) -> Origin {
        Origin::Host(Place::of(ip.parse().unwrap()))
    }

    fn places(max: usize) -> Places {
        Places::new(max, Sharing::default())
    }

    /// Takes as many as there are.
    fn fill(places: &mut Places, origin: Origin, standing: Standing) -> (usize, Full) {
        for count in 0.. {
            match places.fits(origin, standing) {
                Ok(()) => places.take(origin, standing),
                Err(full) => return (count, full),
            }
        }
        unreachable!()
    }

    #[test]
    fn a_host_has_a_quarter_and_a_network_half() {
        let mut places = places(1000);
        let address = |limit| Full { whose: LimitOwner::Address, limit };
        assert_eq!(fill(&mut places, host("8.8.8.1"), Standing::Stranger), (250, address(250)));
        assert_eq!(fill(&mut places, host("8.8.8.2"), Standing::Stranger), (250, address(250)));
        assert_eq!(fill(&mut places, host("8.8.8.3"), Standing::Stranger), (0, address(500)));
        assert_eq!(places.fits(host("8.8.4.4"), Standing::Stranger), Ok(()));
    }

    #[test]
    fn a_relay_has_a_quarter_whoever_comes_through_it() {
        let mut places = places(1000);
        let through = Full { whose: LimitOwner::ThroughRelay, limit: 250 };
        let relays = [PeerId::random(), PeerId::random()].map(Origin::Relay);
        assert_eq!(fill(&mut places, relays[0], Standing::Stranger), (250, through));
        assert_eq!(places.fits(relays[1], Standing::Stranger), Ok(()));
        places.give_back(relays[0], Standing::Stranger);
        assert_eq!(places.fits(relays[0], Standing::Stranger), Ok(()));
    }

    #[test]
    fn strangers_from_everywhere_leave_a_quarter_to_familiar_peers_even_of_their_own_addresses() {
        let mut places = places(1000);
        let ips: Vec<String> = (0..40).map(|net| format!("9.9.{net}.1")).collect();
        let taken: Vec<_> =
            ips.iter().map(|ip| fill(&mut places, host(ip), Standing::Stranger)).collect();
        assert_eq!(taken.iter().map(|(count, _)| count).sum::<usize>(), 750);
        let strangers = Full { whose: LimitOwner::Strangers, limit: 750 };
        assert_eq!(taken.last().unwrap().1, strangers);
        assert_eq!(fill(&mut places, host(&ips[0]), Standing::Familiar).0, 250);
    }

    #[test]
    fn nobody_has_more_than_there_is_and_what_is_given_back_is_free() {
        let mut places = places(4);
        let node = Full { whose: LimitOwner::Node, limit: 4 };
        assert_eq!(fill(&mut places, host("8.8.8.8"), Standing::Ours), (4, node));
        assert_eq!(places.fits(host("9.9.9.9"), Standing::Familiar), Err(node));
        places.give_back(host("8.8.8.8"), Standing::Ours);
        assert_eq!(places.fits(host("9.9.9.9"), Standing::Familiar), Ok(()));
        assert_eq!(places.taken(), 3);
    }

    #[test]
    fn a_node_with_few_places_still_has_one_for_each_that_asks() {
        let mut places = places(1);
        assert_eq!(fill(&mut places, host("8.8.8.8"), Standing::Stranger).0, 1);
    }
}

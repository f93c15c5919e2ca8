//! Which address of this host each direct connection leaves from, whether what goes to its peer still does, and whether
//! this host slept.
//!
//! The listeners report which addresses come and go. That the system prefers another of them, nobody reports who would
//! not be told by netlink, which sandboxes deny and other systems do not have. To ask the system where a packet would
//! leave from costs microseconds and works everywhere, so that is done a few times a second.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use libp2p::Multiaddr;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    engine::input::Input,
    error::Family,
    net::local::{addresses, source_of_default_route, source_towards},
    path::ConnectionId,
};

/// Between two looks. What a program notices of another network must be over within 3 s, of which this is a part.
const LOOK: Duration = Duration::from_millis(250);

/// A look so late was not late because others had to be done first.
const SLEPT: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Vigil {
    /// Where each direct connection leads, and from where it left.
    sources: HashMap<ConnectionId, (Multiaddr, Left)>,
    /// From where this host goes to the internet, over IPv4 and IPv6.
    to_internet: Network,
    looks: Interval,
    looked: Moment,
}

impl Vigil {
    /// Must be called within a tokio runtime.
    pub(super) fn new() -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { sources: HashMap::new(), to_internet: to_internet(), looks, looked: Moment::now() }
    }

    pub(super) fn opened(&mut self, connection: ConnectionId, address: &Multiaddr) {
        let left = source_towards(address).map_or(Left::ToInternet(to_internet()), Left::From);
        self.sources.insert(connection, (address.clone(), left));
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.sources.remove(&connection);
    }

    /// Nobody listens at this address of ours any more: because this host has lost it, or only at one of the ports.
    pub(super) fn expired(&self, ip: IpAddr) -> Vec<Input> {
        match addresses().contains(&ip) {
            true => Vec::new(),
            false => self.gone(|_, left| left.is_from(ip)),
        }
    }

    /// What the engine is to be told, once there is anything. Nothing is lost if it is not waited for.
    pub(super) async fn news(&mut self) -> Vec<Input> {
        loop {
            self.looks.tick().await;
            let news = self.look();
            if !news.is_empty() {
                return news;
            }
        }
    }

    /// From where this host went to the internet at the latest look.
    pub(super) fn network(&self) -> Network {
        self.to_internet
    }

    fn look(&mut self) -> Vec<Input> {
        let (now, before) = (Moment::now(), std::mem::replace(&mut self.to_internet, to_internet()));
        let lasted = now.since(std::mem::replace(&mut self.looked, now)).saturating_sub(LOOK);
        let moved = before.iter().zip(self.to_internet).any(|(before, now)| has_moved(*before, now));
        let mut news = Vec::new();
        if moved {
            let now = self.to_internet;
            news = self.gone(|to, left| left.is_elsewhere(to, now));
        }
        match lasted >= SLEPT {
            true => news.push(Input::Slept { lasted }),
            false => news.extend(moved.then(|| Input::NetworkChanged { begun: Vec::new() })),
        }
        news
    }

    fn gone(&self, is_gone: impl Fn(&Multiaddr, Left) -> bool) -> Vec<Input> {
        let gone = self.sources.iter().filter(|(_, (to, left))| is_gone(to, *left));
        gone.map(|(connection, _)| Input::AddressGone { connection: *connection }).collect()
    }
}

/// From where a connection left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    From(IpAddr),
    /// Where it leads stands in no address, but for a name: as all that went to the internet then, over the family that
    /// this host had; of both, over IPv4, as relays are dialled.
    ToInternet(Network),
}

impl Left {
    fn is_from(self, ip: IpAddr) -> bool {
        match self {
            Self::From(source) => source == ip,
            Self::ToInternet(then) => then.into_iter().flatten().next() == Some(ip),
        }
    }

    /// Whether packets to where it leads would leave from another address now.
    fn is_elsewhere(self, to: &Multiaddr, now: Network) -> bool {
        match self {
            Self::From(source) => has_moved(Some(source), source_towards(to)),
            Self::ToInternet(then) => {
                let first = then.into_iter().zip(now).find(|(then, _)| then.is_some());
                first.is_some_and(|(then, now)| has_moved(then, now))
            }
        }
    }
}

/// Whether all that led to the internet then still does; another family may have come.
pub(super) fn still_leads(then: Network, now: Network) -> bool {
    let known = then.iter().any(Option::is_some);
    known && then.iter().zip(now).all(|(then, now)| then.is_none() || *then == now)
}

/// Whether what left from one address leaves from another now. Without any route there is none that is better. Hosts take
/// another IPv6 address in the same network every day, and keep the one before for what left from it.
fn has_moved(before: Option<IpAddr>, now: Option<IpAddr>) -> bool {
    let renewed = |before: IpAddr, now| in_one_network(before, now) && addresses().contains(&before);
    match (before, now) {
        (Some(before), Some(now)) => before != now && !renewed(before, now),
        (None, now) => now.is_some(),
        (Some(_), None) => false,
    }
}

/// Whether both are IPv6 addresses of one /64.
fn in_one_network(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.segments()[..4] == other.segments()[..4],
        _ => false,
    }
}

/// By its addresses that lead to the internet, over IPv4 and IPv6.
pub(crate) type Network = [Option<IpAddr>; 2];

/// From where this host goes to the internet.
pub(super) fn to_internet() -> Network {
    [Family::V4, Family::V6].map(source_of_default_route)
}

/// A point in time, by a clock that goes on while the host sleeps. Elsewhere than on Linux only what our process
/// slept is known.
#[derive(Clone, Copy, Debug)]
struct Moment {
    #[cfg(target_os = "linux")]
    since_boot: Duration,
    #[cfg(not(target_os = "linux"))]
    at: std::time::Instant,
}

#[cfg(target_os = "linux")]
impl Moment {
    fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let since_boot = Duration::try_from(now).unwrap_or_default();
        Self { since_boot }
    }

    fn since(self, before: Self) -> Duration {
        self.since_boot.saturating_sub(before.since_boot)
    }
}

#[cfg(not(target_os = "linux"))]
impl Moment {
    fn now() -> Self {
        Self { at: std::time::Instant::now() }
    }

    fn since(self, before: Self) -> Duration {
        self.at.saturating_duration_since(before.at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn connection(id: usize) -> ConnectionId {
        ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(id))
    }

    fn leads(vigil: &mut Vigil, id: usize, from: &str) {
        let to = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        vigil.sources.insert(connection(id), (to, Left::From(from.parse().unwrap())));
    }

    /// The connections that are given up.
    fn gone(news: &[Input]) -> Vec<ConnectionId> {
        let pick = |input: &Input| match input {
            Input::AddressGone { connection } => Some(*connection),
            _ => None,
        };
        news.iter().filter_map(pick).collect()
    }

    #[tokio::test]
    async fn a_connection_is_given_up_with_its_address_but_not_with_one_port_of_it() {
        let mut vigil = Vigil::new();
        leads(&mut vigil, 1, "127.0.0.1");
        leads(&mut vigil, 2, "192.0.2.7");
        assert_eq!(gone(&vigil.expired("127.0.0.1".parse().unwrap())), []);
        assert_eq!(gone(&vigil.expired("192.0.2.7".parse().unwrap())), [connection(2)]);
    }

    #[test]
    fn a_connection_by_name_is_given_up_when_what_led_to_the_internet_does_so_no_more() {
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| Some(ip.parse().unwrap()));
        let v6: IpAddr = "2600::1".parse().unwrap();
        let name = "/dns4/relay.example/tcp/4001".parse().unwrap();
        let left = Left::ToInternet([one, None]);
        assert!(left.is_elsewhere(&name, [other, None]) && left.is_from(one.unwrap()));
        assert!(!left.is_elsewhere(&name, [one, Some(v6)]), "it never left from there");
        assert!(!left.is_elsewhere(&name, [None, Some(v6)]), "there is no better route");
        assert!(Left::ToInternet([None, Some(v6)]).is_from(v6));
    }

    #[test]
    fn another_family_that_comes_takes_nothing_from_the_one_that_was_there() {
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| Some(ip.parse().unwrap()));
        let v6 = Some("2600::1".parse().unwrap());
        assert!(still_leads([one, None], [one, v6]) && still_leads([one, v6], [one, v6]));
        assert!(!still_leads([one, v6], [other, v6]) && !still_leads([None, None], [one, None]));
    }

    #[test]
    fn addresses_of_one_ipv6_network_have_the_first_half_in_common() {
        let network =
            |one: &str, other: &str| in_one_network(one.parse().unwrap(), other.parse().unwrap());
        assert!(network("2600:0:0:1::2", "2600:0:0:1:a:b:c:d"));
        assert!(!network("2600:0:0:1::2", "2600:0:0:2::2"));
        assert!(!network("192.0.2.1", "192.0.2.1"), "hosts keep no other IPv4 address");
    }

    #[tokio::test]
    async fn nothing_is_news_while_nothing_changes() {
        let mut vigil = Vigil::new();
        leads(&mut vigil, 1, "192.0.2.7");
        assert!(vigil.look().is_empty());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_host_that_did_not_look_for_long_slept() {
        let mut vigil = Vigil::new();
        let asleep = Duration::from_secs(20);
        vigil.looked.since_boot = vigil.looked.since_boot.saturating_sub(asleep);
        let news = vigil.look();
        let slept = |input: &Input| matches!(input, Input::Slept { lasted } if *lasted + LOOK >= asleep);
        assert!(news.iter().any(slept), "{news:?}");
        assert!(vigil.look().is_empty(), "once");
    }
}

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
    /// Where each direct connection leads, and from where.
    sources: HashMap<ConnectionId, (Multiaddr, IpAddr)>,
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
        if let Some(source) = source_towards(address) {
            self.sources.insert(connection, (address.clone(), source));
        }
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.sources.remove(&connection);
    }

    /// Nobody listens at this address of ours any more: because this host has lost it, or only at one of the ports.
    pub(super) fn expired(&self, ip: IpAddr) -> Vec<Input> {
        match addresses().contains(&ip) {
            true => Vec::new(),
            false => self.gone(|_, source| source == ip),
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
        let changed = |(before, now): (&Option<_>, &Option<_>)| now.is_some() && before != now;
        let moved = before.iter().zip(&self.to_internet).any(changed);
        let mut news = Vec::new();
        if moved {
            // Without any route there is none that is better.
            let elsewhere = |to: &_, source| source_towards(to).is_some_and(|now| now != source);
            news = self.gone(elsewhere);
        }
        match lasted >= SLEPT {
            true => news.push(Input::Slept { lasted }),
            false => news.extend(moved.then(|| Input::NetworkChanged { begun: Vec::new() })),
        }
        news
    }

    fn gone(&self, is_gone: impl Fn(&Multiaddr, IpAddr) -> bool) -> Vec<Input> {
        let gone = self.sources.iter().filter(|(_, (to, source))| is_gone(to, *source));
        gone.map(|(connection, _)| Input::AddressGone { connection: *connection }).collect()
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
        vigil.sources.insert(connection(id), (to, from.parse().unwrap()));
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

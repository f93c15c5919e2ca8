//! How many connections of others one address may have, and how many one network. Identities are free, addresses are not.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, behaviour::ConnectionClosed, behaviour::ListenFailure, dummy,
    },
};

use crate::admission::groups::ip_of;

/// Connections from one IPv4 address, or one IPv6 /64: a few hosts behind one NAT.
pub(super) const PER_HOST_MAX: usize = 16;

/// Connections from one IPv4 /24, or one IPv6 /48.
pub(super) const PER_NETWORK_MAX: usize = 64;

/// Whoever comes from there has as many as it may have.
#[derive(Debug, thiserror::Error)]
#[error("{limit} connections from there already")]
struct Crowded {
    limit: usize,
}

/// Counts those that came.
#[derive(Debug, Default)]
pub(super) struct Door {
    from: HashMap<ConnectionId, [IpAddr; 2]>,
    /// By host, and by network.
    counts: [HashMap<IpAddr, usize>; 2],
}

impl Door {
    /// Somebody comes from there.
    fn come(&mut self, connection: ConnectionId, address: &Multiaddr) -> Result<(), Crowded> {
        // What has no address is of this process, what has that of no network is of this host.
        let Some(ip) = ip_of(address).filter(|ip| !ip.is_loopback()) else { return Ok(()) };
        let parts = parts(ip);
        for ((counts, part), limit) in self.counts.iter().zip(parts).zip([PER_HOST_MAX, PER_NETWORK_MAX])
        {
            if counts.get(&part).is_some_and(|count| *count >= limit) {
                return Err(Crowded { limit });
            }
        }
        for (counts, part) in self.counts.iter_mut().zip(parts) {
            *counts.entry(part).or_default() += 1;
        }
        self.from.insert(connection, parts);
        Ok(())
    }

    fn gone(&mut self, connection: ConnectionId) {
        let Some(parts) = self.from.remove(&connection) else { return };
        for (counts, part) in self.counts.iter_mut().zip(parts) {
            let Some(count) = counts.get_mut(&part) else { continue };
            *count -= 1;
            if *count == 0 {
                counts.remove(&part);
            }
        }
    }
}

/// What counts as one host, and as one network.
fn parts(ip: IpAddr) -> [IpAddr; 2] {
    match ip {
        IpAddr::V4(ip) => [ip, Ipv4Addr::from(u32::from(ip) & !0xff)].map(IpAddr::from),
        IpAddr::V6(ip) => [64, 80]
            .map(|host_bits| IpAddr::from(Ipv6Addr::from(u128::from(ip) >> host_bits << host_bits))),
    }
}

impl NetworkBehaviour for Door {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.come(connection, from).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => self.gone(connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn come(door: &mut Door, number: usize, from: &str) -> bool {
        door.come(ConnectionId::new_unchecked(number), &from.parse().unwrap()).is_ok()
    }

    #[test]
    fn one_host_has_sixteen_connections_however_many_it_wants_and_its_neighbours_have_others() {
        let mut door = Door::default();
        let from = |host: u8| format!("/ip4/203.0.113.{host}/tcp/1");
        let got = (0..1000).filter(|number| come(&mut door, *number, &from(7))).count();
        assert_eq!(got, PER_HOST_MAX);
        let of_neighbours =
            (1000..3000).filter(|number| come(&mut door, *number, &from((100 + number % 100) as u8)));
        assert_eq!(of_neighbours.count(), PER_NETWORK_MAX - PER_HOST_MAX);
        assert!(come(&mut door, 3000, "/ip4/198.51.100.1/tcp/1"), "another network");
        door.gone(ConnectionId::new_unchecked(0));
        assert!(come(&mut door, 3001, &from(7)), "one has left");
    }

    #[test]
    fn whoever_has_a_whole_network_of_ipv6_has_one_host() {
        let mut door = Door::default();
        let from = |number: usize| format!("/ip6/2001:470:1:1::{number:x}/udp/1/quic-v1");
        let got = (0..1000).filter(|number| come(&mut door, *number, &from(*number))).count();
        assert_eq!(got, PER_HOST_MAX);
        let of_mapped = |number: usize| come(&mut door, number, "/ip6/::ffff:203.0.113.7/tcp/1");
        assert_eq!((2000..3000).map(of_mapped).filter(|came| *came).count(), PER_HOST_MAX);
    }

    #[test]
    fn programs_of_this_host_are_not_counted() {
        let mut door = Door::default();
        let all = (0..1000).filter(|number| come(&mut door, *number, "/ip4/127.0.0.1/tcp/1")).count();
        assert_eq!((all, door.from.len()), (1000, 0));
    }

    #[test]
    fn nothing_is_left_of_those_who_have_gone() {
        let mut door = Door::default();
        for number in 0..100 {
            come(&mut door, number, &format!("/ip4/203.0.{number}.7/tcp/1"));
        }
        (0..100).for_each(|number| door.gone(ConnectionId::new_unchecked(number)));
        assert!(door.from.is_empty() && door.counts.iter().all(HashMap::is_empty));
    }
}

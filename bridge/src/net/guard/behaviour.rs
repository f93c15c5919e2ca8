//! Sees every dial of the swarm before it is made, and every connection before it is answered.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent,
        ToSwarm, dummy,
    },
};
use tokio::time::Sleep;

use super::{Permits, tally::Tally};
use crate::addr::{Ranges, RelayAddr, RelayLocator, is_circuit};

/// To whoever runs the swarm.
#[derive(Debug)]
pub(crate) enum Event {
    /// So many connections were not answered since this was said last, for the range that they come from.
    Refused { count: u64 },
    /// This connection is one of a range that is kept away since now.
    Barred { connection: ConnectionId },
}

/// Why a connection that was dialled is not kept.
#[derive(Debug, thiserror::Error)]
#[error("the operator's ranges changed while it was dialled, and keep its address away")]
struct RangesChanged;

/// The behaviour. See the module's text.
pub(crate) struct Behaviour {
    permits: Permits,
    /// Where direct connections lead.
    live: BTreeMap<ConnectionId, Multiaddr>,
    /// Dials under way, and whether the ranges changed since they began.
    dials: BTreeMap<ConnectionId, bool>,
    tally: Tally,
    timer: Option<Pin<Box<Sleep>>>,
    queue: VecDeque<Event>,
}

impl Behaviour {
    pub(crate) fn new(permits: Permits) -> Self {
        let (live, dials, queue) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        Self { permits, live, dials, tally: Tally::default(), timer: None, queue }
    }

    /// What it asks, for others that must ask the same.
    pub(crate) fn permits(&self) -> Permits {
        self.permits.clone()
    }

    /// The operator gave these.
    pub(crate) fn given(&self, addresses: &[Multiaddr]) {
        self.permits.given(addresses);
    }

    /// The operator named this relay.
    pub(crate) fn given_relay(&self, relay: &RelayAddr) {
        self.permits.given_relay(relay);
    }

    /// The operator named these relays.
    pub(crate) fn given_relays(&self, relays: &[RelayLocator]) {
        for relay in relays {
            if let RelayLocator::At(relay) = relay {
                self.permits.given_relay(relay);
            }
        }
    }

    /// These ranges hold from now on, also for the connections that there are and those that dials become.
    pub(crate) fn keep_to(&mut self, ranges: Ranges) {
        if !self.permits.keep_to(ranges) {
            return;
        }
        let barred = self.live.iter().filter(|(_, address)| !self.permits.keeps(address));
        self.queue.extend(barred.map(|(connection, _)| Event::Barred { connection: *connection }));
        self.dials.values_mut().for_each(|changed| *changed = true);
    }

    fn answer(&mut self, local: &Multiaddr, remote: &Multiaddr) -> Result<(), ConnectionDenied> {
        self.permits.answers(local, remote).map_err(|refused| {
            self.tally.count();
            ConnectionDenied::new(refused)
        })
    }

    fn poll_tally(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        let now = Instant::now();
        if let Some(count) = self.tally.take(now) {
            return Poll::Ready(count);
        }
        let Some(due) = self.tally.due(now).map(tokio::time::Instant::from_std) else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        timer.as_mut().reset(due);
        std::task::ready!(timer.as_mut().poll(cx));
        Poll::Ready(self.tally.take(Instant::now()).unwrap_or_default())
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.answer(local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        // The ranges may have changed during the handshake.
        self.answer(local, remote)?;
        Ok(dummy::ConnectionHandler)
    }

    /// What is dialled was judged before.
    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.permits.dialling(addresses);
        self.dials.insert(connection, false);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let changed = self.dials.remove(&connection) == Some(true);
        // A circuit ends with the connection to its relay.
        match changed && !is_circuit(address) && !self.permits.keeps(address) {
            true => Err(ConnectionDenied::new(RangesChanged)),
            false => Ok(dummy::ConnectionHandler),
        }
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(up) if !up.endpoint.is_relayed() => {
                let (ConnectedPoint::Dialer { address, .. }
                | ConnectedPoint::Listener { send_back_addr: address, .. }) = up.endpoint;
                self.live.insert(up.connection_id, address.clone());
            }
            FromSwarm::ConnectionClosed(gone) => {
                self.live.remove(&gone.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.dials.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        never: THandlerOutEvent<Self>,
    ) {
        match never {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        if let Some(event) = self.queue.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        self.poll_tally(cx).map(|count| ToSwarm::GenerateEvent(Event::Refused { count }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::addr::GlobalScope;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// Whether the connection that a dial becomes is kept.
    fn connects(guard: &mut Behaviour, connection: ConnectionId, to: &Multiaddr) -> bool {
        let (peer, role, port) = (PeerId::random(), Endpoint::Dialer, PortUse::Reuse);
        guard.handle_established_outbound_connection(connection, peer, to, role, port).is_ok()
    }

    #[test]
    fn a_dial_under_way_when_its_range_is_denied_becomes_no_connection() {
        let permits = Permits::new(GlobalScope::default(), Ranges::default());
        let mut guard = Behaviour::new(permits.clone());
        let relay: RelayAddr = format!("/ip4/8.8.8.8/tcp/1/p2p/{}", PeerId::random()).parse().unwrap();
        let [denied, other, name] =
            ["/ip4/8.8.8.8/tcp/1", "/ip4/9.9.9.9/tcp/1", "/dns4/relay.example/tcp/1"].map(address);
        permits.looked_up(&name, std::slice::from_ref(&denied));
        let cases = [
            (denied.clone(), false),
            (other, true),
            (name, false),
            // It ends with the connection to its relay.
            (relay.circuit_to(PeerId::random()), true),
        ];
        for (number, (to, _)) in cases.iter().enumerate() {
            let connection = ConnectionId::new_unchecked(number);
            let to = std::slice::from_ref(to);
            guard.handle_pending_outbound_connection(connection, None, to, Endpoint::Dialer).unwrap();
        }
        guard.keep_to(Ranges::new(Vec::new(), vec!["8.8.0.0/16".parse().unwrap()]).unwrap());
        for (number, (to, kept)) in cases.into_iter().enumerate() {
            let connection = ConnectionId::new_unchecked(number);
            assert_eq!(connects(&mut guard, connection, &to), kept, "{to}");
        }
    }

    #[test]
    fn a_name_that_a_proxy_looks_up_is_dialled_where_the_ranges_stay_as_they_are() {
        let mut guard = Behaviour::new(Permits::new(GlobalScope::default(), Ranges::default()));
        let (connection, name) = (ConnectionId::new_unchecked(1), address("/dns4/relay.example/tcp/1"));
        let to = std::slice::from_ref(&name);
        guard.handle_pending_outbound_connection(connection, None, to, Endpoint::Dialer).unwrap();
        assert!(connects(&mut guard, connection, &name));
    }
}

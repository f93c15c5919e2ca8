//! Asks the [`Door`] about each connection before it is there.

use std::{
    collections::HashSet,
    convert::Infallible,
    num::NonZeroU8,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        self, ConnectionDenied, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent, ToSwarm,
        dial_opts::{DialOpts, WithPeerIdWithAddresses},
        dummy,
    },
};

use crate::{
    addr::{path_of, transport_of},
    config::Limits,
    engine::paths::{
        door::{Coming, Door},
        places::{Full, Origin, Standing},
    },
    net::{hurry::Hurry, turns::Turns, unread::Pool},
    path::{ConnectionId, Transport},
    status::LimitStatus,
};

/// A connection that a limit turned away.
#[derive(Debug, thiserror::Error)]
#[error("the limit of {} connections is reached", .0.limit)]
pub(crate) struct TurnedAway(pub(crate) Full);

/// The behaviour. See the module's text.
pub(crate) struct Behaviour {
    door: Door,
    /// Dials that are hole punches.
    punches: HashSet<swarm::ConnectionId>,
    /// The dial that was asked for last, if it is one of a relay with several addresses.
    racing: Option<swarm::ConnectionId>,
    hurry: Hurry,
    turns: Turns,
    /// What all connections share for what they have not read.
    unread: Arc<Pool>,
}

impl Behaviour {
    /// `hurry`, `turns` and `unread`: of the transport that dials.
    pub(crate) fn new(limits: &Limits, hurry: Hurry, turns: Turns, unread: Arc<Pool>) -> Self {
        Self { door: Door::new(limits), punches: HashSet::new(), racing: None, hurry, turns, unread }
    }

    /// How full the limits of connections are.
    pub(crate) fn limits(&self) -> Vec<LimitStatus> {
        let mut limits = self.door.limits();
        let (used, limit) = (self.unread.used(), self.unread.limit());
        limits.push(LimitStatus { what: "unread_memory_bytes", used, limit });
        limits
    }

    pub(crate) fn acquainted(&mut self, peers: Vec<PeerId>, familiar: bool) {
        self.door.acquainted(peers, familiar);
    }

    /// The dial that becomes `connection` is a hole punch, which the peer may have asked for.
    pub(crate) fn punching(&mut self, connection: swarm::ConnectionId) {
        self.punches.insert(connection);
    }

    /// The dial that is made next. If it is one of a relay, its addresses, so many, are under way together and take turns.
    pub(crate) fn dial(&mut self, opts: WithPeerIdWithAddresses, racing: Option<usize>) -> DialOpts {
        let Some(addresses) = racing.filter(|addresses| *addresses > 1) else { return opts.build() };
        let all = u8::try_from(addresses).ok().and_then(NonZeroU8::new).unwrap_or(NonZeroU8::MAX);
        let opts = opts.override_dial_concurrency_factor(all).build();
        self.racing = Some(opts.connection_id());
        opts
    }

    fn standing_of_dial(&self, connection: swarm::ConnectionId, peer: PeerId) -> Standing {
        match self.punches.contains(&connection) {
            true => self.door.standing(peer),
            false => Standing::Ours,
        }
    }
}

fn denied(full: Full) -> ConnectionDenied {
    ConnectionDenied::new(TurnedAway(full))
}

/// On the accepting side of a circuit only our own address names the relay.
fn coming(local: &Multiaddr, remote: &Multiaddr) -> Coming {
    let path = path_of(local);
    // What runs in a circuit is Yamux, whatever the link to the relay is.
    let quic = path.is_direct() && transport_of(local) == Transport::Quic;
    Coming { origin: Origin::of(path, remote), quic }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.door.knock(ConnectionId(connection), coming(local, remote)).map_err(denied)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.door.handshake_over(ConnectionId(connection));
        let standing = self.door.standing(peer);
        self.door.admits(peer, coming(local, remote), standing).map_err(denied)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        // The transport makes the dials right after this.
        self.hurry.set(self.punches.contains(&connection));
        match self.racing.take() == Some(connection) {
            true => self.turns.race(addresses),
            false => self.turns.none(),
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let standing = self.standing_of_dial(connection, peer);
        self.door.admits(peer, coming(address, address), standing).map_err(denied)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(up) => {
                let (standing, coming) = match up.endpoint {
                    ConnectedPoint::Dialer { address, .. } => {
                        let standing = self.standing_of_dial(up.connection_id, up.peer_id);
                        (standing, coming(address, address))
                    }
                    ConnectedPoint::Listener { local_addr, send_back_addr } => {
                        (self.door.standing(up.peer_id), coming(local_addr, send_back_addr))
                    }
                };
                self.punches.remove(&up.connection_id);
                self.door.opened(ConnectionId(up.connection_id), up.peer_id, coming, standing);
            }
            FromSwarm::ConnectionClosed(gone) => self.door.closed(ConnectionId(gone.connection_id)),
            FromSwarm::ListenFailure(failure) => {
                self.door.handshake_over(ConnectionId(failure.connection_id));
            }
            FromSwarm::DialFailure(failure) => {
                self.punches.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: swarm::ConnectionId,
        never: THandlerOutEvent<Self>,
    ) {
        match never {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_dial_of_a_punch_is_told_to_hurry() {
        let hurry = Hurry::default();
        let mut door = Behaviour::new(&Limits::default(), hurry.clone(), Turns::default(), Pool::new(1));
        let [usual, punch] = [1, 2].map(swarm::ConnectionId::new_unchecked);
        door.punching(punch);
        for (dial, hurries) in [(usual, false), (punch, true), (usual, false)] {
            door.handle_pending_outbound_connection(dial, None, &[], Endpoint::Dialer).unwrap();
            assert_eq!(hurry.is_set(), hurries, "{dial}");
        }
    }
}

//! Who may have a connection. Asked before one is there: by net, which has to answer at once.
//!
//! Outbound connections that the engine wants count, and are only bounded by what there is; those of hole
//! punches, which a stranger can ask for, count as the stranger's.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;

use crate::{
    config::Limits,
    engine::paths::places::{Full, Origin, Places, Standing},
    event::LimitOwner,
    path::ConnectionId,
    status::LimitStatus,
};

/// A connection that is to be: where it comes from, and whether it is one of QUIC, of which there may be fewer,
/// since what their peers send unread is bounded for each and not for all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coming {
    pub(crate) origin: Origin,
    pub(crate) quic: bool,
}

#[derive(Debug)]
struct Live {
    peer: PeerId,
    coming: Coming,
    standing: Standing,
}

/// Handshakes and connections, and their limits.
#[derive(Debug)]
pub(crate) struct Door {
    per_peer_max: usize,
    handshakes: Places,
    shaking: BTreeMap<ConnectionId, Origin>,
    connections: Places,
    quic: Places,
    live: BTreeMap<ConnectionId, Live>,
    of_peer: BTreeMap<PeerId, BTreeSet<ConnectionId>>,
    familiar: BTreeSet<PeerId>,
}

impl Door {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            per_peer_max: limits.connections_per_peer as usize,
            handshakes: Places::unkept(limits.pending_inbound as usize, limits.sharing),
            shaking: BTreeMap::new(),
            connections: Places::new(limits.connections as usize, limits.sharing),
            quic: Places::new(limits.quic_connections as usize, limits.sharing),
            live: BTreeMap::new(),
            of_peer: BTreeMap::new(),
            familiar: BTreeSet::new(),
        }
    }

    /// How full each is.
    pub(crate) fn limits(&self) -> Vec<LimitStatus> {
        vec![
            self.connections.status("connections"),
            self.quic.status("quic_connections"),
            self.handshakes.status("handshakes"),
        ]
    }

    /// These peers are familiar from now on, or no longer; also where they are connected already.
    pub(crate) fn acquainted(&mut self, peers: Vec<PeerId>, familiar: bool) {
        for peer in peers {
            let changed =
                if familiar { self.familiar.insert(peer) } else { self.familiar.remove(&peer) };
            let standing = self.standing(peer);
            let Some(all) = self.of_peer.get(&peer).filter(|_| changed) else { continue };
            for connection in all.clone() {
                self.stands(connection, standing);
            }
        }
    }

    fn stands(&mut self, connection: ConnectionId, standing: Standing) {
        let Some(live) = self.live.get_mut(&connection) else { return };
        if live.standing != Standing::Ours {
            let (coming, before) = (live.coming, std::mem::replace(&mut live.standing, standing));
            self.give_back(coming, before);
            self.take(coming, standing);
        }
    }

    pub(crate) fn standing(&self, peer: PeerId) -> Standing {
        if self.familiar.contains(&peer) { Standing::Familiar } else { Standing::Stranger }
    }

    /// Somebody wants to shake hands; who it is will only be known then. If it may,
    /// [`handshake_over`](Self::handshake_over) must follow.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn knock(&mut self, connection: ConnectionId, coming: Coming) -> Result<(), Full> {
        let origin = coming.origin;
        self.handshakes.fits(origin, Standing::Stranger)?;
        self.fits(coming, Standing::Ours)?;
        self.handshakes.take(origin, Standing::Stranger);
        self.shaking.insert(connection, origin);
        Ok(())
    }

    /// A handshake succeeded or failed.
    pub(crate) fn handshake_over(&mut self, connection: ConnectionId) {
        if let Some(origin) = self.shaking.remove(&connection) {
            self.handshakes.give_back(origin, Standing::Stranger);
        }
    }

    /// Whether the peer may have one more connection.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn admits(&self, peer: PeerId, coming: Coming, standing: Standing) -> Result<(), Full> {
        if self.of_peer.get(&peer).is_some_and(|all| all.len() >= self.per_peer_max) {
            return Err(Full { whose: LimitOwner::Peer, limit: self.per_peer_max });
        }
        self.fits(coming, standing)
    }

    /// A connection that was admitted is up.
    pub(crate) fn opened(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        coming: Coming,
        standing: Standing,
    ) {
        self.take(coming, standing);
        self.live.insert(connection, Live { peer, coming, standing });
        self.of_peer.entry(peer).or_default().insert(connection);
    }

    pub(crate) fn closed(&mut self, connection: ConnectionId) {
        let Some(Live { peer, coming, standing }) = self.live.remove(&connection) else { return };
        self.give_back(coming, standing);
        if let Some(all) = self.of_peer.get_mut(&peer) {
            all.remove(&connection);
            if all.is_empty() {
                self.of_peer.remove(&peer);
            }
        }
    }

    fn fits(&self, Coming { origin, quic }: Coming, standing: Standing) -> Result<(), Full> {
        if quic {
            self.quic.fits(origin, standing)?;
        }
        self.connections.fits(origin, standing)
    }

    fn take(&mut self, Coming { origin, quic }: Coming, standing: Standing) {
        self.connections.take(origin, standing);
        if quic {
            self.quic.take(origin, standing);
        }
    }

    fn give_back(&mut self, Coming { origin, quic }: Coming, standing: Standing) {
        self.connections.give_back(origin, standing);
        if quic {
            self.quic.give_back(origin, standing);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::addr::place::Place;

    struct World {
        door: Door,
        ids: usize,
    }

    impl World {
        fn new() -> Self {
            Self { door: Door::new(&Limits::default()), ids: 0 }
        }

        fn id(&mut self) -> ConnectionId {
            self.ids += 1;
            ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(self.ids))
        }

        /// Knocks, shakes hands, and comes in.
        fn come(&mut self, peer: PeerId, coming: Coming) -> Result<ConnectionId, Full> {
            let connection = self.id();
            self.door.knock(connection, coming)?;
            self.door.handshake_over(connection);
            let standing = self.door.standing(peer);
            self.door.admits(peer, coming, standing)?;
            self.door.opened(connection, peer, coming, standing);
            Ok(connection)
        }

        /// How many of a thousand new identities come in.
        fn crowd(&mut self, coming: Coming) -> usize {
            (0..1000).filter(|_| self.come(PeerId::random(), coming).is_ok()).count()
        }
    }

    fn host(ip: &str) -> Coming {
        Coming { origin: Origin::Host(Place::of(ip.parse().unwrap())), quic: false }
    }

    #[test]
    fn a_thousand_identities_of_one_address_leave_room_for_others_and_for_a_familiar_peer_there() {
        let limits = Limits { connections: 1000, ..Limits::default() };
        let mut world = World { door: Door::new(&limits), ids: 0 };
        let (crowded, familiar) = (host("8.8.8.8"), PeerId::random());
        world.door.acquainted(vec![familiar], true);
        assert_eq!(world.crowd(crowded), 250);
        let refused = world.come(PeerId::random(), crowded).unwrap_err();
        assert_eq!(refused, Full { whose: LimitOwner::Address, limit: 250 });
        world.come(PeerId::random(), host("9.9.9.9")).unwrap();
        world.come(familiar, crowded).unwrap();
    }

    #[test]
    fn crowds_from_everywhere_leave_room_for_familiar_peers_and_for_what_we_dial() {
        let mut world = World::new();
        let let_in = (0..64).map(|net| world.crowd(host(&format!("9.9.{net}.9")))).sum::<usize>();
        assert_eq!(let_in, 3072, "three quarters of 4,096");
        let refused = world.come(PeerId::random(), host("8.8.8.8")).unwrap_err();
        assert_eq!(refused, Full { whose: LimitOwner::Strangers, limit: 3072 });
        let familiar = PeerId::random();
        world.door.acquainted(vec![familiar], true);
        world.come(familiar, host("8.8.8.8")).unwrap();
        assert_eq!(world.door.admits(PeerId::random(), host("7.7.7.7"), Standing::Ours), Ok(()));
    }

    #[test]
    fn circuits_through_one_relay_leave_room_for_those_through_another_and_for_direct_ones() {
        let mut world = World::new();
        let relays = [PeerId::random(), PeerId::random()]
            .map(|relay| Coming { origin: Origin::Relay(relay), quic: false });
        assert_eq!(world.crowd(relays[0]) + world.crowd(relays[0]), 1024);
        let refused = world.come(PeerId::random(), relays[0]).unwrap_err();
        assert_eq!(refused, Full { whose: LimitOwner::ThroughRelay, limit: 1024 });
        world.come(PeerId::random(), relays[1]).unwrap();
        world.come(PeerId::random(), host("8.8.8.8")).unwrap();
    }

    #[test]
    fn a_peer_has_as_many_connections_as_one_may_and_a_closed_one_is_free() {
        let mut world = World::new();
        let peer = PeerId::random();
        let all: Vec<_> = (0..8).map(|_| world.come(peer, host("8.8.8.8")).unwrap()).collect();
        let refused = world.come(peer, host("9.9.9.9")).unwrap_err();
        assert_eq!(refused, Full { whose: LimitOwner::Peer, limit: 8 });
        world.door.closed(all[0]);
        world.come(peer, host("9.9.9.9")).unwrap();
    }

    #[test]
    fn connections_of_quic_are_fewer_and_leave_room_for_those_of_tcp() {
        let mut world = World::new();
        let quic = |ip: &str| Coming { quic: true, ..host(ip) };
        assert_eq!(world.crowd(quic("8.8.8.8")), 64, "a quarter of 256");
        world.come(PeerId::random(), quic("9.9.9.9")).unwrap();
        assert_eq!(world.crowd(host("8.8.8.8")), 960);
    }

    #[test]
    fn silent_sockets_of_one_address_leave_handshakes_to_others() {
        let mut world = World::new();
        let mut knock = |coming| {
            let id = world.id();
            world.door.knock(id, coming)
        };
        let shaking = (0..1000).filter(|_| knock(host("8.8.8.8")).is_ok()).count();
        assert_eq!(shaking, 128, "a quarter of 512");
        knock(host("9.9.9.9")).unwrap();
    }

    #[test]
    fn a_stranger_that_becomes_familiar_gives_its_place_back_to_strangers() {
        let mut world = World::new();
        let (peer, there) = (PeerId::random(), host("8.8.8.8"));
        world.come(peer, there).unwrap();
        assert_eq!(world.crowd(there) + world.crowd(there), 1023);
        world.door.acquainted(vec![peer], true);
        world.come(PeerId::random(), there).unwrap();
        assert!(world.come(PeerId::random(), there).is_err());
        // Forgotten, it counts as a stranger again.
        world.door.acquainted(vec![peer], false);
        assert_eq!(world.door.connections.taken(), 1025);
        let all: Vec<ConnectionId> = world.door.live.keys().copied().collect();
        all.into_iter().for_each(|connection| world.door.closed(connection));
        assert_eq!((world.door.connections.taken(), world.door.of_peer.len()), (0, 0));
    }
}

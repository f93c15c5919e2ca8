//! A relay: introduces peers to each other and forwards until they have found a direct path.
//!
//! It speaks circuit relay v2 with everybody who does, and a few words more with nodes of ours. `machine` decides within
//! the limits of [`RelayConfig`], all of which are announced, enforced and counted; `hop` and its `handler` act, one for
//! all connections and one on each; `forwarding` carries the bytes of a circuit, `stun` tells clients how they are seen,
//! `traffic` counts, `driver` runs it all. `design/relay.md` has the limits in their order.

mod behaviour;
mod config;
mod dialback;
mod driver;
mod forwarding;
mod handler;
mod hop;
mod machine;
mod status;
mod stun;
mod traffic;

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tokio::sync::{broadcast, mpsc, oneshot};

use self::{
    behaviour::Behaviour,
    driver::{Driver, Order},
    stun::Stun,
    traffic::Traffic,
};
use crate::{
    addr::Ranges,
    endpoint::{EVENTS_MAX, Events},
    error::StartError,
    net::{guard::Permits, listen, transports},
};

pub use self::{
    config::{External, Rate, RelayConfig, StunListen},
    status::{Handle, Load, Status},
};
pub use crate::net::web::{Certificate, CertificateError};

/// A running relay.
pub struct Relay {
    peer: PeerId,
    listening: Vec<Multiaddr>,
    events: broadcast::Sender<std::sync::Arc<crate::Event>>,
    orders: mpsc::Sender<Order>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// Starts to listen and serve. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If a setting is out of range or an address cannot be listened on.
    pub async fn start(config: RelayConfig, keypair: Keypair) -> Result<(Self, Events), StartError> {
        config.check()?;
        let peer = keypair.public().to_peer_id();
        let mut traffic = Traffic::default();
        let permits = Permits::new(config.global.clone(), config.ranges.clone());
        let dialback = dialback::Behaviour::new(permits.clone())?;
        let certificate = config.certificate.clone();
        let mut swarm =
            transports::relay(keypair, certificate, traffic.registry(), &permits, |keypair| {
                Behaviour::new(&config, keypair, permits.clone(), dialback)
            })?;
        // First where it is told to listen: one of those ports may be STUN's, which can do without.
        let told = listen::listen(&mut swarm, &config.listen).await?;
        let stun = Stun::listen(&config.stun, permits)?;
        swarm.behaviour_mut().hop.answers_stun_at(stun.ports());
        let listening = told.addresses.clone();
        let (events, subscription) = broadcast::channel(EVENTS_MAX);
        let (orders, taken) = mpsc::channel(1);
        let driver = Driver::new(swarm, config, traffic, events.clone(), taken);
        let task = tokio::spawn(driver.run(told, stun));
        Ok((Self { peer, listening, events, orders, task }, Events::new(subscription)))
    }

    /// Its identity.
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Where it listens, with the real ports.
    pub fn listening(&self) -> &[Multiaddr] {
        &self.listening
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events::new(self.events.subscribe())
    }

    /// How it is now; none if it has ended.
    pub async fn status(&self) -> Option<Status> {
        self.handle().status().await
    }

    /// For those who do not keep it running.
    pub fn handle(&self) -> Handle {
        Handle(self.orders.downgrade())
    }

    /// Dials and answers these ranges from now on, and no others. Connections to others are closed.
    pub async fn keep_to(&self, ranges: Ranges) {
        let _ = self.orders.send(Order::KeepTo(ranges)).await;
    }

    /// Waits until the relay's loop has turned, which it does all the time unless it is stuck; false once it has ended, or is
    /// about to.
    pub async fn turn(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        let sent = self.orders.send(Order::Answer(reply)).await;
        sent.is_ok() && answer.await.is_ok()
    }

    /// Takes nothing new, tells clients that it leaves, and ends: at once if no circuit is open whose ends
    /// can make another one, else within 3 s.
    pub async fn shutdown(self) {
        let _ = self.orders.send(Order::Leave).await;
        let _ = self.task.await;
    }
}

//! The sockets of the DHT and for meeting points: TCP with Noise and Yamux, and QUIC, as the node has for its peers, but
//! its own.
//!
//! What strangers name is dialled only if the policy lets it through: addresses come from answers of anybody.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{
            Boxed, DialOpts, ListenerId, MemoryTransport, TransportEvent, timeout::TransportTimeout,
        },
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    multiaddr::Protocol,
    noise, quic, tcp, yamux,
};

use crate::record::AddressPolicy;

/// For a connection to come about, handshakes included: whoever does not answer holds up a lookup for so long.
const CONNECT_DEADLINE: Duration = Duration::from_secs(4);

type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// What carries the DHT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TCP and QUIC.
    Sockets,
    /// This process: nodes of a test.
    Memory,
}

/// Why the DHT has no sockets.
#[derive(Debug, thiserror::Error)]
#[error("the DHT cannot use this identity: {0}")]
pub struct NoTransport(#[from] noise::Error);

/// `given`: addresses that the operator named, which are dialled as they are.
pub(crate) fn new(
    carrier: Carrier,
    keypair: &Keypair,
    policy: Arc<dyn AddressPolicy>,
    given: Vec<Multiaddr>,
) -> Result<Connections, NoTransport> {
    let inner = match carrier {
        Carrier::Memory => {
            let memory = MemoryTransport::new().upgrade(Version::V1Lazy);
            let memory = memory.authenticate(noise::Config::new(keypair)?);
            memory.multiplex(yamux::Config::default()).boxed()
        }
        Carrier::Sockets => {
            let named = dns::tokio::Transport::system(sockets(keypair)?);
            match named {
                Ok(named) => named.boxed(),
                Err(error) => {
                    tracing::debug!(%error, "the DHT looks up no names: the system names no servers");
                    sockets(keypair)?
                }
            }
        }
    };
    let local = keypair.public().to_peer_id();
    let judged = Judged { inner, policy, local, given: given.into() };
    Ok(TransportTimeout::new(judged, CONNECT_DEADLINE).boxed())
}

fn sockets(keypair: &Keypair) -> Result<Connections, NoTransport> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default());
    let tcp = tcp.upgrade(Version::V1Lazy).authenticate(noise::Config::new(keypair)?);
    let tcp = tcp.multiplex(yamux::Config::default()).boxed();
    let quic = quic::tokio::Transport::new(quic::Config::new(keypair));
    let quic = quic.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed())
}

/// Dials what the policy lets through, and what our operator named.
struct Judged {
    inner: Connections,
    policy: Arc<dyn AddressPolicy>,
    /// In place of a peer that an address does not name.
    local: PeerId,
    given: Arc<[Multiaddr]>,
}

impl Judged {
    fn lets(&self, address: &Multiaddr) -> bool {
        let plain = without_peer(address);
        let peer = match address.iter().last() {
            Some(Protocol::P2p(peer)) => peer,
            _ => self.local,
        };
        self.given.contains(&plain) || self.policy.admits(&plain, peer)
    }
}

/// The id at the end of an address.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// An address, without the id at its end.
pub(crate) fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut plain = address.clone();
    while matches!(plain.iter().last(), Some(Protocol::P2p(_))) {
        plain.pop();
    }
    plain
}

impl Transport for Judged {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        if !self.lets(&address) {
            return Err(TransportError::Other(io::Error::other("an address that is not dialled")));
        }
        let dial = self.inner.dial(address, options)?;
        Ok(Box::pin(dial))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner)
            .poll(cx)
            .map(|event| event.map_upgrade(|upgrade| Box::pin(upgrade) as _))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_strangers_name_is_judged_and_what_the_operator_names_is_not() {
        let given: Multiaddr = "/memory/77".parse().unwrap();
        let nobody = Arc::new(|_: &Multiaddr, _: PeerId| false);
        let keypair = Keypair::generate_ed25519();
        let mut judged = new(Carrier::Memory, &keypair, nobody, vec![given.clone()]).unwrap();
        let mut dial = |address: Multiaddr| {
            let options = DialOpts {
                role: libp2p::core::Endpoint::Dialer,
                port_use: libp2p::core::transport::PortUse::New,
            };
            match judged.dial(address, options) {
                Err(TransportError::Other(error)) => error.to_string(),
                other => format!("{:?}", other.map(drop)),
            }
        };
        assert!(dial("/memory/78".parse().unwrap()).contains("not dialled"));
        assert!(!dial(given.clone()).contains("not dialled"));
        let with_id = given.with_p2p(keypair.public().to_peer_id()).unwrap();
        assert!(!dial(with_id).contains("not dialled"));
    }
}

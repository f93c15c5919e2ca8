//! Circuits as a transport: dialled through the behaviour, and taken from it when a relay brings one.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Ready, ready},
};
use libp2p::{
    Multiaddr, PeerId, Stream, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    multiaddr::Protocol,
    swarm::ConnectionId,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    addr::{is_circuit, peer_of},
    engine::input::CircuitLimit,
    error::{CircuitFault, DialFailureReason},
    net::cause::Kept,
};

/// What [`Transport`] and behaviour tell each other beside their channels.
///
/// The swarm gives a connection its id, but does not pass it to a transport. It does call both within one
/// call: `dial` calls the transport before it returns, and what the transport brings is shown to the
/// behaviours before the transport is polled again. So one place for each direction is enough.
#[derive(Debug, Default)]
pub(super) struct Between {
    /// Of the dial that comes next.
    pub(super) next: Option<NextDial>,
    /// Of the circuit that the transport has brought last.
    pub(super) brought: Option<CircuitLimit>,
}

pub(super) type Shared = Arc<Mutex<Between>>;

/// Nothing panics while it holds the lock, and each place is whole at any time.
pub(super) fn lock(shared: &Shared) -> MutexGuard<'_, Between> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A circuit that is about to be dialled.
#[derive(Debug)]
pub(super) struct NextDial {
    pub(super) address: Multiaddr,
    /// The connection that it will become.
    pub(super) circuit: ConnectionId,
    /// The connection to the relay that it runs over.
    pub(super) link: ConnectionId,
}

/// Transport to behaviour: make this circuit.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) circuit: ConnectionId,
    pub(super) link: ConnectionId,
    pub(super) destination: PeerId,
    pub(super) reply: oneshot::Sender<Result<Stream, DialFailureReason>>,
}

/// Behaviour to transport: a relay brought this circuit.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) relay: PeerId,
    /// Where our link to the relay leads.
    pub(super) link: Multiaddr,
    pub(super) source: PeerId,
    pub(super) limit: CircuitLimit,
    pub(super) io: Stream,
}

/// The transport. It listens from the start, since a circuit comes only where we have a reservation.
pub(crate) struct Transport {
    shared: Shared,
    dials: mpsc::Sender<Dial>,
    brought: mpsc::Receiver<Brought>,
    listener: ListenerId,
}

impl Transport {
    pub(super) fn new(
        shared: Shared,
        dials: mpsc::Sender<Dial>,
        brought: mpsc::Receiver<Brought>,
    ) -> Self {
        Self { shared, dials, brought, listener: ListenerId::next() }
    }
}

fn gone(cause: &str) -> Kept<DialFailureReason> {
    let reason = CircuitFault::Link { cause: cause.to_owned() };
    Kept(DialFailureReason::CircuitFailed { reason })
}

impl libp2p::Transport for Transport {
    type Output = Stream;
    type Error = Kept<DialFailureReason>;
    type ListenerUpgrade = Ready<Result<Stream, Self::Error>>;
    type Dial = BoxFuture<'static, Result<Stream, Self::Error>>;

    /// Nothing to be asked for: see [`Transport`].
    fn listen_on(
        &mut self,
        _: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        // Two ends that dial each other at once do so to punch a hole, and a circuit needs none.
        if !is_circuit(&address) || opts.role.is_listener() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let next = lock(&self.shared).next.take().filter(|next| next.address == address);
        let Some((next, destination)) = next.zip(peer_of(&address)) else {
            return Err(TransportError::Other(gone("no connection to the relay was named")));
        };
        let (reply, answer) = oneshot::channel();
        let dial = Dial { circuit: next.circuit, link: next.link, destination, reply };
        let dials = self.dials.clone();
        Ok(async move {
            dials.send(dial).await.map_err(|_| gone("the node is gone"))?;
            answer.await.map_err(|_| gone("the node is gone"))?.map_err(Kept)
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        // Its sender lives in the behaviour, which lives as long as the swarm.
        let Poll::Ready(Some(brought)) = self.brought.poll_recv(cx) else { return Poll::Pending };
        let Brought { relay, link, source, limit, io } = brought;
        lock(&self.shared).brought = Some(limit);
        Poll::Ready(TransportEvent::Incoming {
            listener_id: self.listener,
            upgrade: ready(Ok(io)),
            local_addr: local_address(link, relay),
            send_back_addr: Protocol::P2p(source).into(),
        })
    }
}

/// Our own address of a circuit: the way to the relay, and then a circuit.
fn local_address(link: Multiaddr, relay: PeerId) -> Multiaddr {
    let named = peer_of(&link).is_some();
    let relay = if named { link } else { link.with(Protocol::P2p(relay)) };
    relay.with(Protocol::P2pCircuit)
}

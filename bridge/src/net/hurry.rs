//! A shorter deadline for the dials of hole punches.
//!
//! Where a router drops what a punch sends, nobody ever answers, and the next round waits for that. libp2p
//! cannot end a dial, and does not tell a transport what a dial is for; so whoever makes one says it just
//! before, on [`Hurry`].

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};

/// For a punch, from the first packet to the last of its handshakes. TCP sends its first packet at 0, 1 and 3 s; a
/// handshake takes four round trips.
pub(crate) const PUNCH_DEADLINE: Duration = Duration::from_secs(4);

/// Says whether the next dials are punches. All clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hurry(Arc<AtomicBool>);

impl Hurry {
    pub(crate) fn set(&self, hurry: bool) {
        self.0.store(hurry, Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HurryError<E: Error + 'static> {
    /// Nobody answered a punch in time.
    #[error("no answer within {} s", PUNCH_DEADLINE.as_secs())]
    Late(#[source] io::Error),
    /// What the transport said.
    #[error("{0}")]
    Transport(#[source] E),
}

/// A transport whose dials hurry when they are told to.
pub(crate) struct Hurried<T> {
    inner: T,
    hurry: Hurry,
}

impl<T> Hurried<T> {
    pub(crate) fn new(inner: T, hurry: Hurry) -> Self {
        Self { inner, hurry }
    }
}

impl<T> Transport for Hurried<T>
where
    T: Transport<Dial: Send + 'static, ListenerUpgrade: Send + 'static, Error: 'static> + Unpin,
{
    type Output = T::Output;
    type Error = HurryError<T::Error>;
    type ListenerUpgrade = BoxFuture<'static, Result<T::Output, Self::Error>>;
    type Dial = BoxFuture<'static, Result<T::Output, Self::Error>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, addr).map_err(|error| error.map(HurryError::Transport))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let dial = self.inner.dial(addr, opts).map_err(|error| error.map(HurryError::Transport))?;
        if !self.hurry.is_set() {
            return Ok(async { dial.await.map_err(HurryError::Transport) }.boxed());
        }
        let bounded = async {
            match tokio::time::timeout(PUNCH_DEADLINE, dial).await {
                Ok(dialled) => dialled.map_err(HurryError::Transport),
                Err(late) => Err(HurryError::Late(late.into())),
            }
        };
        Ok(bounded.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = std::task::ready!(Pin::new(&mut self.inner).poll(cx));
        let upgrade =
            |upgrade: T::ListenerUpgrade| async { upgrade.await.map_err(HurryError::Transport) }.boxed();
        Poll::Ready(event.map_upgrade(upgrade).map_err(HurryError::Transport))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::core::{
        Endpoint,
        transport::{PortUse, dummy::DummyTransport},
    };

    use super::*;

    /// Its dials never end.
    struct Silent;

    impl Transport for Silent {
        type Output = ();
        type Error = io::Error;
        type ListenerUpgrade = <DummyTransport<()> as Transport>::ListenerUpgrade;
        type Dial = futures::future::Pending<io::Result<()>>;

        fn listen_on(&mut self, _: ListenerId, _: Multiaddr) -> Result<(), TransportError<io::Error>> {
            Ok(())
        }

        fn remove_listener(&mut self, _: ListenerId) -> bool {
            false
        }

        fn dial(&mut self, _: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
            Ok(futures::future::pending())
        }

        fn poll(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_dial_of_a_punch_is_given_up_early() {
        let (hurry, opts) =
            (Hurry::default(), DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse });
        let mut transport = Hurried::new(Silent, hurry.clone());
        let mut usual = transport.dial(Multiaddr::empty(), opts).unwrap();
        hurry.set(true);
        let punch = transport.dial(Multiaddr::empty(), opts).unwrap();
        let error = punch.await.unwrap_err();
        assert!(matches!(error, HurryError::Late(late) if late.kind() == io::ErrorKind::TimedOut));
        assert!((&mut usual).now_or_never().is_none());
    }
}

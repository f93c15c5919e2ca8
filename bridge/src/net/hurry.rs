//! A shorter deadline for the dials of hole punches, which begin when nothing else leads to the same place.
//!
//! Where a router drops what a punch sends, nobody ever answers, and the next round waits for that. libp2p
//! cannot end a dial, and does not tell a transport what a dial is for; so whoever makes one says it just
//! before, on [`Hurry`].

use std::{
    error::Error,
    io,
    net::SocketAddr,
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
    core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
};

use super::{hangup::CLOSE_DEADLINE, reset::Sockets};
use crate::{
    addr::{socket_of, transport_of},
    path,
};

/// For a punch, from the first packet to the last of its handshakes. TCP sends its first packet at 0, 1 and 3 s; a
/// handshake takes four round trips.
pub(crate) const PUNCH_DEADLINE: Duration = Duration::from_secs(4);

/// For a connection that is being closed to be gone: it has its last words first.
const GONE_DEADLINE: Duration = CLOSE_DEADLINE.saturating_add(Duration::from_millis(300));

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
    /// Another connection to the same place has the port that the peer was told.
    #[error("another connection leads there from the port that the peer was told")]
    Taken(#[source] io::Error),
    /// What the transport said.
    #[error("{0}")]
    Transport(#[source] E),
}

/// A transport whose dials hurry when they are told to.
pub(crate) struct Hurried<T> {
    inner: T,
    hurry: Hurry,
    sockets: Sockets,
}

impl<T> Hurried<T> {
    pub(crate) fn new(inner: T, hurry: Hurry, sockets: Sockets) -> Self {
        Self { inner, hurry, sockets }
    }
}

/// Where a punch over TCP leads that is to leave from the port which we listen on.
fn alone(address: &Multiaddr, opts: DialOpts) -> Option<SocketAddr> {
    let listened_on = opts.port_use == PortUse::Reuse && transport_of(address) == path::Transport::Tcp;
    socket_of(address).filter(|_| listened_on)
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
        let (alone, sockets) = (alone(&addr, opts), self.sockets.clone());
        let dial = self.inner.dial(addr, opts).map_err(|error| error.map(HurryError::Transport))?;
        if !self.hurry.is_set() {
            return Ok(async { dial.await.map_err(HurryError::Transport) }.boxed());
        }
        if let Some(to) = alone {
            sockets.want(to);
        }
        let bounded = async move {
            if let Some(to) = alone
                && tokio::time::timeout(GONE_DEADLINE, sockets.gone(to)).await.is_err()
            {
                return Err(HurryError::Taken(io::ErrorKind::AddrInUse.into()));
            }
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
    use libp2p::{
        core::{Endpoint, transport::dummy::DummyTransport},
        tcp::tokio::TcpStream,
    };

    use super::*;
    use crate::net::reset::Heard;

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

    #[tokio::test]
    async fn a_punch_waits_for_a_connection_to_the_same_place_to_be_gone_and_takes_no_other_port() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", to.port()).parse().unwrap();
        let (hurry, sockets) = (Hurry::default(), Sockets::default());
        hurry.set(true);
        let mut transport = Hurried::new(Silent, hurry, sockets.clone());
        let mut dial = |port_use| {
            let opts = DialOpts { role: Endpoint::Dialer, port_use };
            transport.dial(address.clone(), opts).unwrap()
        };
        let socket = tokio::net::TcpStream::connect(to).await.unwrap();
        let open = Heard::new(TcpStream(socket), &sockets);
        let error = dial(PortUse::Reuse).await.unwrap_err();
        assert!(matches!(error, HurryError::Taken(taken) if taken.kind() == io::ErrorKind::AddrInUse));
        let (mut waits, mut calls) = (dial(PortUse::Reuse), dial(PortUse::New));
        assert!((&mut calls).now_or_never().is_none(), "any port will do");
        drop(open);
        let late = tokio::time::timeout(2 * GONE_DEADLINE, &mut waits).await;
        assert!(late.is_err(), "it dials now, and that never ends");
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_dial_of_a_punch_is_given_up_early() {
        let (hurry, opts) =
            (Hurry::default(), DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse });
        let mut transport = Hurried::new(Silent, hurry.clone(), Sockets::default());
        let mut usual = transport.dial(Multiaddr::empty(), opts).unwrap();
        hurry.set(true);
        let punch = transport.dial(Multiaddr::empty(), opts).unwrap();
        let error = punch.await.unwrap_err();
        assert!(matches!(error, HurryError::Late(late) if late.kind() == io::ErrorKind::TimedOut));
        assert!((&mut usual).now_or_never().is_none());
    }
}

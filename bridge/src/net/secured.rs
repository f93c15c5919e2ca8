//! A transport of bytes becomes one of secured, multiplexed connections.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite, FutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        Endpoint,
        muxing::StreamMuxerBox,
        transport::{DialOpts, ListenerId, TransportEvent},
    },
};

use super::{
    agree::agree,
    muxer,
    secure::{Proposal, Secure},
    unread::Pool,
};

/// TLS or Noise, and Yamux, on top of `T`.
pub(crate) struct Secured<T> {
    /// Shared with dials under way: one may turn out to need a second one.
    inner: Arc<Mutex<T>>,
    upgrades: Upgrades,
}

/// What is done with each connection.
#[derive(Clone)]
struct Upgrades {
    secure: Secure,
    muxer: muxer::Config,
}

impl<T> Secured<T> {
    pub(crate) fn new(inner: T, secure: &Secure, pool: &Arc<Pool>) -> Self {
        let upgrades =
            Upgrades { secure: secure.clone(), muxer: muxer::Config { pool: Arc::clone(pool) } };
        Self { inner: Arc::new(Mutex::new(inner)), upgrades }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upgrades {
    async fn upgrade<C>(
        self,
        socket: C,
        role: Endpoint,
        proposal: Proposal,
    ) -> io::Result<(PeerId, StreamMuxerBox)>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (peer, secured) = agree(socket, self.secure.connection(proposal), role).await?;
        let muxer = agree(secured, self.muxer, role).await?;
        Ok((peer, StreamMuxerBox::new(muxer)))
    }
}

impl<T> Transport for Secured<T>
where
    T: Transport<Dial: Send, ListenerUpgrade: Send, Error: Send + Sync> + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.lock().listen_on(id, address).map_err(outer)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.lock().remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let dial = self.lock().dial(address.clone(), options).map_err(outer)?;
        let (inner, upgrades, role) = (Arc::clone(&self.inner), self.upgrades.clone(), options.role);
        let proposal = upgrades.secure.proposal(&address);
        let dialled = async move {
            let socket = dial.await.map_err(io::Error::other)?;
            let error = match upgrades.clone().upgrade(socket, role, proposal).await {
                Err(error) if role.is_dialer() => error,
                done => return done,
            };
            if !upgrades.secure.has_to_ask(&address, proposal, &error) {
                return Err(error);
            }
            let dial = inner.lock().unwrap_or_else(PoisonError::into_inner).dial(address, options);
            let socket = dial.map_err(io::Error::other)?.await.map_err(io::Error::other)?;
            upgrades.upgrade(socket, role, Proposal::Any).await
        };
        Ok(dialled.boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = Pin::new(&mut *self.lock()).poll(cx);
        let upgrades = &self.upgrades;
        event.map(|event| {
            event.map_err(io::Error::other).map_upgrade(|accepted| {
                let upgrades = upgrades.clone();
                let secured = async move {
                    let socket = accepted.await.map_err(io::Error::other)?;
                    upgrades.upgrade(socket, Endpoint::Listener, Proposal::Any).await
                };
                secured.boxed()
            })
        })
    }
}

fn outer<E: Error + Send + Sync + 'static>(error: TransportError<E>) -> TransportError<io::Error> {
    error.map(io::Error::other)
}

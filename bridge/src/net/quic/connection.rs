//! A connection of QUIC, as libp2p wants it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use quinn_proto::ConnectionError;

use super::{
    Error,
    link::{Held, Link},
    substream::Substream,
};

/// It is closed in order when this and all substreams are dropped.
pub(crate) struct Connection(Arc<Held>);

impl Connection {
    pub(super) fn new(held: Arc<Held>) -> Self {
        Self(held)
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.0)
    }

    pub(super) fn link(&self) -> &Link {
        self.0.link()
    }
}

impl StreamMuxer for Connection {
    type Substream = Substream;
    type Error = Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Substream, Error>> {
        let mut state = self.link().lock();
        if let Some(id) = state.accept() {
            return Poll::Ready(Ok(Substream::new(Arc::clone(&self.0), id)));
        }
        if let Some(lost) = &state.lost {
            return Poll::Ready(Err(Error::Connection(lost.clone())));
        }
        state.accepter = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Substream, Error>> {
        let mut state = self.link().lock();
        if let Some(lost) = &state.lost {
            return Poll::Ready(Err(Error::Connection(lost.clone())));
        }
        if let Some(id) = state.open() {
            return Poll::Ready(Ok(Substream::new(Arc::clone(&self.0), id)));
        }
        state.opener = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Neither end changes its address.
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Error>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.link().close();
        Poll::Ready(match &self.link().lock().lost {
            None | Some(ConnectionError::LocallyClosed) => Ok(()),
            Some(error) => Err(Error::Connection(error.clone())),
        })
    }
}

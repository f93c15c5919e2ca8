//! TCP connections that are reset rather than closed when the peer was not heard for a while, or a punch wants their port.
//!
//! A socket that is closed keeps its two addresses until the peer has acknowledged the end. On a dead path nobody does,
//! for minutes, and meanwhile neither we nor the routers in between let another connection run from the same port to the same
//! peer; a hole punch needs just that. A reset frees them at once, also in the routers that it passes.
//!
//! A connection is closed by a task of its own, in its own time. Where a punch is dialled before that, libp2p's TCP leaves
//! from any other port; and routers give that one the public port which the peer was told. So what is open is known by
//! where it leads, in [`Sockets`], for punches to wait.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::tcp::tokio::TcpStream;
use tokio::sync::watch;

use crate::engine::PING_INTERVAL;

/// Where a peer was not heard for so long and has not answered what was said to it, the path may be dead.
const SILENT: Duration = PING_INTERVAL.saturating_add(Duration::from_millis(500));

/// An answer takes no longer, mostly. Of a quiet connection the words with which it is closed are all that was said.
const ANSWER: Duration = Duration::from_millis(250);

/// Where the open TCP connections of a node lead. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sockets(watch::Sender<BTreeMap<SocketAddr, Open>>);

/// What leads to one place.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    count: usize,
    /// A punch is to leave from the same port.
    wanted: bool,
}

impl Sockets {
    /// A punch is about to be dialled to there: what leads there is in its way, and is reset when it is closed.
    pub(super) fn want(&self, to: SocketAddr) {
        self.0.send_if_modified(|sockets| {
            if let Some(open) = sockets.get_mut(&to) {
                open.wanted = true;
            }
            false
        });
    }

    /// Returns when no connection leads there.
    pub(super) async fn gone(&self, to: SocketAddr) {
        // The sender is ours, so it is there.
        let _ = self.0.subscribe().wait_for(|sockets| !sockets.contains_key(&to)).await;
    }
}

/// One of them.
struct Counted(Option<SocketAddr>, Sockets);

impl Counted {
    fn new(to: Option<SocketAddr>, sockets: &Sockets) -> Self {
        if let Some(to) = to {
            sockets.0.send_modify(|sockets| sockets.entry(to).or_default().count += 1);
        }
        Self(to, sockets.clone())
    }

    fn is_wanted(&self) -> bool {
        self.0.is_some_and(|to| self.1.0.borrow().get(&to).is_some_and(|open| open.wanted))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(to) = self.0 else { return };
        self.1.0.send_modify(|sockets| match sockets.get_mut(&to) {
            Some(open) if open.count > 1 => open.count -= 1,
            _ => drop(sockets.remove(&to)),
        });
    }
}

/// A connection that knows when it last heard anything.
pub(super) struct Heard {
    inner: TcpStream,
    heard: Instant,
    /// When something was first said since.
    said: Option<Instant>,
    /// Dropped after the socket.
    counted: Counted,
}

impl Heard {
    pub(super) fn new(inner: TcpStream, sockets: &Sockets) -> Self {
        let counted = Counted::new(inner.0.peer_addr().ok(), sockets);
        Self { inner, heard: Instant::now(), said: None, counted }
    }
}

impl Heard {
    /// Whether the peer owes an answer for long.
    fn is_silent(&self) -> bool {
        self.heard.elapsed() > SILENT && self.said.is_some_and(|said| said.elapsed() > ANSWER)
    }

    fn says(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() && self.said.is_none() {
            self.said = Some(Instant::now());
        }
        written
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        if self.is_silent() || self.counted.is_wanted() {
            // A socket closed with nothing to linger for is reset; where the system refuses, it is closed as usual.
            let _ = rustix::net::sockopt::set_socket_linger(&self.inner.0, Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buffer));
        (self.heard, self.said) = (Instant::now(), None);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buffer);
        self.says(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, buffers);
        self.says(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::{
        io::AsyncReadExt as _,
        net::{TcpListener, TcpStream as Socket},
    };

    use futures::FutureExt as _;

    use super::*;

    /// What the peer of a connection that is dropped reads.
    async fn dropped_after(silence: Duration, owed: Duration, wanted: bool) -> io::Result<usize> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = Socket::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let sockets = Sockets::default();
        let mut heard = Heard::new(TcpStream(near), &sockets);
        heard.heard = Instant::now().checked_sub(silence).unwrap();
        heard.said = Instant::now().checked_sub(owed);
        if wanted {
            sockets.want(listener.local_addr().unwrap());
        }
        drop(heard);
        far.read(&mut [0; 8]).await
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_of_connections_to_a_place_is_told_of_the_last_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (to, sockets) = (listener.local_addr().unwrap(), Sockets::default());
        sockets.gone(to).await;
        let [first, second] = [Socket::connect(to).await.unwrap(), Socket::connect(to).await.unwrap()]
            .map(|socket| Heard::new(TcpStream(socket), &sockets));
        let mut gone = Box::pin(sockets.gone(to));
        drop(first);
        assert!((&mut gone).now_or_never().is_none());
        drop(second);
        gone.await;
        assert!(sockets.0.borrow().is_empty());
    }

    #[tokio::test]
    async fn a_connection_whose_peer_owes_an_answer_is_reset_and_one_that_is_only_quiet_is_closed() {
        assert_eq!(dropped_after(Duration::ZERO, Duration::ZERO, false).await.unwrap(), 0);
        assert_eq!(dropped_after(2 * SILENT, Duration::ZERO, false).await.unwrap(), 0);
        let reset = dropped_after(2 * SILENT, 2 * ANSWER, false).await.unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_connection_whose_port_a_punch_wants_is_reset_though_it_was_heard_a_moment_ago() {
        let reset = dropped_after(Duration::ZERO, Duration::ZERO, true).await.unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    }
}

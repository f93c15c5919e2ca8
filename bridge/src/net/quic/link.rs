//! One connection of QUIC: the protocol's machine, who waits for what of it, and its task.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::PeerId;
use quinn_proto::{
    self as proto, ConnectionError, ConnectionEvent, ConnectionHandle, Dir, Event, FrameStats,
    StreamEvent, StreamId, TransportError, TransportErrorCode, VarInt,
};
use tokio::time::{Sleep, sleep_until};

use super::{
    config::SUBSTREAMS_MAX,
    error::{IN_ORDER, SILENT},
    silence::{Silence, Verdict},
    socket::Endpoint,
};
use crate::net::{
    lent::{give_back_datagrams, lend_datagrams},
    watched::Watched,
};

/// Calls of the system in a row that send for one connection, after which its task goes on: about a MiB.
const SENDS_IN_A_ROW: usize = 16;

/// Bytes that were received for a connection and wait for its task. What comes beyond is lost, as it is when the system's own
/// buffer is full.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What a packet takes besides its bytes.
const PACKET_BYTES: usize = 256;

/// A connection that somebody holds: an end of the muxer, a substream, or a handshake under way. When nobody does, it is closed.
pub(super) struct Held(Arc<Link>);

impl Held {
    pub(super) fn new(link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self(link))
    }

    pub(super) fn link(&self) -> &Link {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub(super) struct Link {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    state: Mutex<State>,
    connected: AtomicBool,
    /// Who is at the other end, once that is known, and who is watched.
    peer: OnceLock<(PeerId, Watched)>,
    /// What its task is to hear.
    waiting: Mutex<Waiting<ConnectionEvent>>,
}

/// Never locked together with what the socket shares.
pub(super) struct State {
    pub(super) inner: proto::Connection,
    /// Why it is over.
    pub(super) lost: Option<ConnectionError>,
    /// The socket is gone, and so nothing of this is driven any more.
    cut: bool,
    connected: bool,
    pub(super) readers: HashMap<StreamId, Waker>,
    pub(super) writers: HashMap<StreamId, Waker>,
    /// Substreams that the peer opened and that are not dropped here.
    theirs: u64,
    pub(super) opener: Option<Waker>,
    pub(super) accepter: Option<Waker>,
    handshake: Option<Waker>,
    driver: Option<Waker>,
    /// When its task wakes up by itself.
    armed: Option<Instant>,
    silence: Silence,
    /// Frames that were received, and those that were sent and which the peer has to acknowledge.
    frames: (u64, u64),
    /// What the system did not take.
    unsent: Option<(proto::Transmit, Vec<u8>)>,
}

impl Link {
    pub(super) fn new(
        endpoint: Endpoint,
        handle: ConnectionHandle,
        inner: proto::Connection,
    ) -> Arc<Self> {
        let state = State {
            inner,
            lost: None,
            cut: false,
            connected: false,
            readers: HashMap::new(),
            writers: HashMap::new(),
            theirs: 0,
            opener: None,
            accepter: None,
            handshake: None,
            driver: None,
            armed: None,
            silence: Silence::new(Instant::now()),
            frames: (0, 0),
            unsent: None,
        };
        let (connected, waiting) = (AtomicBool::new(false), Mutex::default());
        let (state, peer) = (Mutex::new(state), OnceLock::new());
        Arc::new(Self { endpoint, handle, state, connected, peer, waiting })
    }

    /// Its task begins.
    pub(super) fn begin(self: &Arc<Self>) {
        let (link, timer) = (Arc::clone(self), Box::pin(sleep_until(Instant::now().into())));
        tokio::spawn(Driver { link, timer, writable: None });
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<ConnectionEvent>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the handshake is over: until then packets cost much more.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Says who is at the other end.
    pub(super) fn is_of(&self, peer: PeerId, watched: Watched) {
        let _ = self.peer.set((peer, watched));
    }

    fn is_watched(&self) -> bool {
        self.peer.get().is_some_and(|(peer, watched)| watched.contains(peer))
    }

    /// Hears this now, after what waits.
    pub(super) fn hear(&self, heard: impl Iterator<Item = ConnectionEvent>) {
        let mut state = self.lock();
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.packets.into_iter().chain(heard).for_each(|event| state.inner.handle_event(event));
        self.run(state);
    }

    /// Has its task hear this, of so many bytes.
    pub(super) fn hear_later(&self, event: ConnectionEvent, bytes: usize) {
        let was_empty = self.waiting().add(event, bytes);
        if was_empty {
            self.lock().wake_driver();
        }
    }

    /// Sends what is to be sent, and wakes whoever waits for what has happened. To be called after whatever changes the state.
    pub(super) fn run<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        if state.cut {
            return;
        }
        loop {
            state.transmit(&self.endpoint);
            state.tell();
            let said: Vec<_> = std::iter::from_fn(|| state.inner.poll_endpoint_events()).collect();
            if said.is_empty() {
                break;
            }
            drop(state);
            let answers = self.endpoint.socket().tell(self.handle, said);
            state = self.lock();
            answers.into_iter().for_each(|answer| state.inner.handle_event(answer));
        }
        self.connected.store(state.connected, Ordering::Relaxed);
        state.count_frames();
        // Who owes an answer has a time limit anyhow.
        let watched = !state.silence.is_owed() && self.is_watched();
        let due = state.due(watched);
        if due.is_some_and(|due| state.armed.is_none_or(|armed| due < armed)) {
            state.wake_driver();
        }
    }

    /// Closes it in order, unless it is over.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        if state.lost.is_none() {
            state.inner.close(Instant::now(), IN_ORDER.into(), bytes::Bytes::new());
            state.end(ConnectionError::LocallyClosed);
            self.run(state);
        }
    }

    /// The socket is gone.
    pub(super) fn cut(&self) {
        let mut state = self.lock();
        state.cut = true;
        state.end(ConnectionError::TransportError(TransportError {
            code: TransportErrorCode::INTERNAL_ERROR,
            frame: None,
            reason: "its socket broke".to_owned(),
        }));
        state.wake_driver();
    }

    /// Waits until the handshake is over.
    pub(super) fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let mut state = self.lock();
        match &state.lost {
            // It may be over since.
            _ if state.connected => Poll::Ready(Ok(())),
            Some(lost) => Poll::Ready(Err(lost.clone())),
            None => {
                state.handshake = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl State {
    /// Sends what there is and the path takes. What the system does not take waits for the task.
    fn transmit(&mut self, endpoint: &Endpoint) {
        if self.unsent.is_some() {
            return;
        }
        let (now, socket) = (Instant::now(), endpoint.socket());
        let mut buffer = lend_datagrams();
        for _ in 0..SENDS_IN_A_ROW {
            buffer.clear();
            let segments = socket.segments(self.inner.current_mtu());
            let Some(transmit) = self.inner.poll_transmit(now, segments, &mut buffer) else {
                return give_back_datagrams(buffer);
            };
            if socket.send(&transmit, &buffer).is_err() {
                self.unsent = Some((transmit, buffer));
                return self.wake_driver();
            }
        }
        give_back_datagrams(buffer);
        self.wake_driver();
    }

    /// Sends what the system did not take before. Returns whether it took it now.
    fn send_unsent(&mut self, endpoint: &Endpoint) -> bool {
        let Some((transmit, buffer)) = self.unsent.take() else { return true };
        if endpoint.socket().send(&transmit, &buffer).is_err() {
            self.unsent = Some((transmit, buffer));
            return false;
        }
        give_back_datagrams(buffer);
        true
    }

    /// Wakes whoever waits for what has happened.
    fn tell(&mut self) {
        while let Some(event) = self.inner.poll() {
            match event {
                Event::Connected => {
                    self.connected = true;
                    wake(&mut self.handshake);
                }
                Event::ConnectionLost { reason } => self.end(reason),
                Event::Stream(StreamEvent::Opened { .. }) => wake(&mut self.accepter),
                Event::Stream(StreamEvent::Available { .. }) => wake(&mut self.opener),
                Event::Stream(StreamEvent::Readable { id }) => wake(&mut self.readers.remove(&id)),
                Event::Stream(StreamEvent::Writable { id } | StreamEvent::Stopped { id, .. }) => {
                    wake(&mut self.writers.remove(&id));
                }
                Event::Stream(StreamEvent::Finished { .. })
                | Event::HandshakeDataReady
                | Event::DatagramReceived
                | Event::DatagramsUnblocked => {}
            }
        }
    }

    fn end(&mut self, why: ConnectionError) {
        self.lost.get_or_insert(why);
        self.readers.drain().chain(self.writers.drain()).for_each(|(_, waker)| waker.wake());
        for waiting in [&mut self.opener, &mut self.accepter, &mut self.handshake] {
            wake(waiting);
        }
    }

    /// Notes what was heard and said since it was looked at last. Only what is authentic counts.
    fn count_frames(&mut self) {
        let stats = self.inner.stats();
        let (heard, said) = (frames(&stats.frame_rx), eliciting_frames(&stats.frame_tx));
        let now = Instant::now();
        if heard != self.frames.0 {
            self.silence.heard(now);
        }
        if said != self.frames.1 {
            self.silence.said(now);
        }
        self.frames = (heard, said);
    }

    /// When its task has something to do. `watched`: see [`Silence::due`].
    pub(super) fn due(&mut self, watched: bool) -> Option<Instant> {
        let silence = self.lost.is_none().then(|| self.silence.due(self.inner.rtt(), watched)).flatten();
        self.inner.poll_timeout().into_iter().chain(silence).min()
    }

    /// Looks whether the peer was silent for too long.
    fn judge(&mut self, watched: bool, now: Instant) {
        if self.lost.is_some() {
            return;
        }
        match self.silence.verdict(self.inner.rtt(), watched, now) {
            Verdict::Waits => {}
            Verdict::Ask => {
                self.inner.ping();
                self.silence.said(now);
            }
            Verdict::Dead => {
                self.inner.close(now, SILENT.into(), bytes::Bytes::new());
                self.end(ConnectionError::TimedOut);
            }
        }
    }

    fn wake_driver(&mut self) {
        wake(&mut self.driver);
    }

    /// A substream that the peer opened.
    pub(super) fn accept(&mut self) -> Option<StreamId> {
        let id = self.inner.streams().accept(Dir::Bi)?;
        self.theirs += 1;
        let allowed = self.inner.max_concurrent_streams(Dir::Bi);
        let more = VarInt::from_u64(2 * allowed).unwrap_or(VarInt::MAX).min(SUBSTREAMS_MAX.into());
        if 2 * self.theirs > allowed && more.into_inner() > allowed {
            self.inner.set_max_concurrent_streams(Dir::Bi, more);
            self.wake_driver();
        }
        Some(id)
    }

    /// A substream is dropped here.
    pub(super) fn let_go(&mut self, id: StreamId) {
        self.readers.remove(&id);
        self.writers.remove(&id);
        if id.initiator() != self.inner.side() {
            self.theirs -= 1;
        }
    }

    /// A new one, if the peer lets us open one more.
    pub(super) fn open(&mut self) -> Option<StreamId> {
        self.inner.streams().open(Dir::Bi)
    }
}

/// What waits for the task of a connection.
struct Waiting<T> {
    packets: Vec<T>,
    bytes: usize,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { packets: Vec::new(), bytes: 0 }
    }
}

impl<T> Waiting<T> {
    /// Adds a packet if there is room. Returns whether nothing waited.
    fn add(&mut self, packet: T, bytes: usize) -> bool {
        let (was_empty, bytes) = (self.packets.is_empty(), self.bytes + bytes + PACKET_BYTES);
        if bytes <= WAITING_BYTES_MAX {
            self.packets.push(packet);
            self.bytes = bytes;
        }
        was_empty
    }
}

fn frames(stats: &FrameStats) -> u64 {
    stats.acks + eliciting_frames(stats)
}

/// Those that a peer sends or acknowledges at once; there are others, which come beside these.
fn eliciting_frames(stats: &FrameStats) -> u64 {
    let FrameStats { crypto, ping, stream, max_data, max_stream_data, path_challenge, .. } = stats;
    let FrameStats { path_response, new_connection_id, reset_stream, stop_sending, .. } = stats;
    [crypto, ping, stream, max_data, max_stream_data, path_challenge, path_response]
        .into_iter()
        .chain([new_connection_id, reset_stream, stop_sending, &stats.max_streams_bidi])
        .sum()
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

/// The task of a connection, which lives until the peer has had time to hear that it is over.
pub(super) struct Driver {
    link: Arc<Link>,
    timer: Pin<Box<Sleep>>,
    writable: Option<BoxFuture<'static, ()>>,
}

impl Driver {
    /// Waits until the system takes what it did not take before, if there is anything.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(writable) = &mut self.writable {
                ready!(writable.poll_unpin(cx));
                self.writable = None;
            }
            if self.link.lock().send_unsent(&self.link.endpoint) {
                return Poll::Ready(());
            }
            let endpoint = self.link.endpoint.clone();
            // An error of the socket is its task's.
            self.writable = Some(async move { drop(endpoint.socket().writable().await) }.boxed());
        }
    }
}

/// A runtime may end before the peer has heard.
impl Drop for Driver {
    fn drop(&mut self) {
        self.link.endpoint.socket().forget(self.link.handle, &self.link);
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.link.lock().driver = Some(cx.waker().clone());
        let _ = this.poll_unsent(cx);
        loop {
            let waiting = std::mem::take(&mut *this.link.waiting());
            let now = Instant::now();
            let mut state = this.link.lock();
            if state.inner.poll_timeout().is_some_and(|due| due <= now) {
                state.inner.handle_timeout(now);
            }
            waiting.packets.into_iter().for_each(|event| state.inner.handle_event(event));
            state.count_frames();
            let watched = this.link.is_watched();
            state.judge(watched, now);
            // It looks itself when it is to wake up.
            state.armed = Some(now);
            this.link.run(state);
            let mut state = this.link.lock();
            if state.cut || state.inner.is_drained() {
                return Poll::Ready(());
            }
            state.armed = state.due(watched);
            let Some(due) = state.armed else { return Poll::Pending };
            drop(state);
            this.timer.as_mut().reset(due.into());
            ready!(this.timer.as_mut().poll(cx));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_task_of_a_connection_is_bounded() {
        for bytes in [0, 60_000] {
            let mut waiting = Waiting::default();
            let added = (0..WAITING_BYTES_MAX).filter(|number| waiting.add(*number, bytes)).count();
            assert_eq!(added, 1, "the first finds it empty");
            assert_eq!(waiting.packets.len(), WAITING_BYTES_MAX / (bytes + PACKET_BYTES));
        }
    }
}

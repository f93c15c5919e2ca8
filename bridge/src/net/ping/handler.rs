//! The pings of one connection.

use std::{
    convert::Infallible,
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, future::BoxFuture};
use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::ReadyUpgrade,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Said, pace::Pace};
use crate::engine::{GIVEN_UP, PING_INTERVAL};

pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

/// What is said and repeated.
const BYTES: usize = 32;

/// Whoever asked last lets the other end be first to ask again, and who was dialled lets the other one be where both asked at
/// once, as they do when the connection is new.
const DIALLER_WAITS: Duration = Duration::from_millis(100);
const DIALLED_WAITS: Duration = Duration::from_millis(250);

/// For an answer, the substream included.
const ANSWER_DEADLINE: Duration = GIVEN_UP.saturating_sub(PING_INTERVAL);

/// A peer may ask as often as it likes; that it did is told no more often than this.
const TOLD_APART: Duration = Duration::from_millis(500);

type Moving = BoxFuture<'static, io::Result<Stream>>;

/// How far our own pings are.
enum Asking {
    /// Until it is time, with the substream if there is one.
    Rests(Option<Stream>),
    Opens,
    Asked(Moving, Instant),
    /// The peer does not speak the protocol.
    Never,
}

/// See the module's text.
pub(crate) struct Handler {
    asking: Asking,
    /// It rings when we ask next, and while the peer is to answer when we give up.
    alarm: Pin<Box<Sleep>>,
    /// When it was time to ask what is asked, or will be.
    due: Instant,
    /// How much longer than the interval this end rests after an answer.
    waits: Duration,
    pace: Pace,
    /// Our last substream failed.
    failed: bool,
    /// It is to be told that the peer did not answer.
    tells: bool,
    answering: Option<Moving>,
    /// When it was last told that the peer asked.
    told: Option<Instant>,
}

impl Handler {
    /// `dialled`: the peer dialled.
    pub(super) fn new(dialled: bool, pace: Pace) -> Self {
        let due = Instant::now();
        Self {
            waits: if dialled { DIALLED_WAITS } else { DIALLER_WAITS },
            pace,
            asking: Asking::Rests(None),
            alarm: Box::pin(sleep_until(due)),
            due,
            failed: false,
            tells: false,
            answering: None,
            told: None,
        }
    }

    fn due_in(&mut self, pause: Duration) {
        self.due = Instant::now() + pause;
        self.alarm.as_mut().reset(self.due);
    }

    fn asks(&mut self, asking: Asking) {
        self.alarm.as_mut().reset(Instant::now() + ANSWER_DEADLINE);
        self.asking = asking;
    }

    /// A substream led to nothing, which may be chance if it was not `late` and is the first: some peers take one for each
    /// ping.
    fn fails(&mut self, late: bool) {
        self.asking = Asking::Rests(None);
        self.tells = std::mem::replace(&mut self.failed, true) || late;
        self.due_in(if self.tells { PING_INTERVAL } else { Duration::ZERO });
    }

    /// Ready when there is something to tell, or a substream to be opened: none is told.
    fn poll_ask(&mut self, cx: &mut Context<'_>) -> Poll<Option<Said>> {
        loop {
            if std::mem::take(&mut self.tells) {
                return Poll::Ready(Some(Said::Unanswered));
            }
            match &mut self.asking {
                Asking::Never => return Poll::Pending,
                Asking::Rests(stream) => {
                    ready!(self.alarm.as_mut().poll(cx));
                    let Some(stream) = stream.take() else {
                        self.asks(Asking::Opens);
                        return Poll::Ready(None);
                    };
                    self.asks(Asking::Asked(ask(stream).boxed(), Instant::now()));
                }
                Asking::Asked(asked, since) => match asked.poll_unpin(cx) {
                    Poll::Ready(Ok(stream)) => {
                        let (round_trip, took) = (since.elapsed(), self.due.elapsed());
                        (self.asking, self.failed) = (Asking::Rests(Some(stream)), false);
                        let pause = self.pace.interval() + self.waits;
                        self.due_in(pause);
                        return Poll::Ready(Some(Said::Answered { round_trip, took }));
                    }
                    Poll::Ready(Err(_)) => self.fails(false),
                    Poll::Pending => {
                        ready!(self.alarm.as_mut().poll(cx));
                        self.fails(true);
                    }
                },
                Asking::Opens => {
                    ready!(self.alarm.as_mut().poll(cx));
                    self.fails(true);
                }
            }
        }
    }

    /// Ready when the peer has asked and is answered.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(answering) = &mut self.answering else { return Poll::Pending };
        let Ok(stream) = ready!(answering.poll_unpin(cx)) else {
            self.answering = None;
            return Poll::Pending;
        };
        self.answering = Some(answer(stream).boxed());
        if matches!(self.asking, Asking::Rests(Some(_))) {
            let pause = self.pace.interval();
            self.due_in(pause);
        }
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_APART) {
            self.told = Some(Instant::now());
            return Poll::Ready(());
        }
        // One at a time: a peer may have sent thousands, and others have their turn between them.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when pings pass more often or more rarely from now on; the next one is due after that interval.
    fn poll_pace(&mut self, cx: &Context<'_>) -> Poll<Duration> {
        let interval = ready!(self.pace.poll_changed(cx));
        if matches!(self.asking, Asking::Rests(Some(_))) {
            self.due_in(interval);
        }
        Poll::Ready(interval)
    }
}

async fn ask(mut stream: Stream) -> io::Result<Stream> {
    let (said, mut heard): ([u8; BYTES], _) = (rand::random(), [0; BYTES]);
    stream.write_all(&said).await?;
    stream.flush().await?;
    stream.read_exact(&mut heard).await?;
    if said != heard {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(stream)
}

async fn answer(mut stream: Stream) -> io::Result<Stream> {
    let mut bytes = [0; BYTES];
    stream.read_exact(&mut bytes).await?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(stream)
}

type Event = ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, (), Said>;

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Said;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<ReadyUpgrade<StreamProtocol>> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, never: Infallible) {
        match never {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.poll_answer(cx).is_ready() {
            return Poll::Ready(Event::NotifyBehaviour(Said::Asked));
        }
        if let Poll::Ready(interval) = self.poll_pace(cx) {
            return Poll::Ready(Event::NotifyBehaviour(Said::Paced(interval)));
        }
        self.poll_ask(cx).map(|said| match said {
            Some(said) => Event::NotifyBehaviour(said),
            None => Event::OutboundSubstreamRequest { protocol: self.listen_protocol() },
        })
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, ReadyUpgrade<StreamProtocol>, ReadyUpgrade<StreamProtocol>>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: mut stream,
                ..
            }) => {
                stream.ignore_for_keep_alive();
                self.answering = Some(answer(stream).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: mut stream,
                ..
            }) => {
                stream.ignore_for_keep_alive();
                self.asking = Asking::Asked(ask(stream).boxed(), Instant::now());
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => match error {
                StreamUpgradeError::NegotiationFailed => self.asking = Asking::Never,
                _ => self.fails(false),
            },
            _ => {}
        }
    }
}

//! One connection's part of the exchange.
//!
//! The acceptor of a relayed connection asks, the other end answers; on direct connections nobody does.
//! There is at most one exchange at a time; the peer's next one takes the place of the one before.

use std::{
    io,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{AsyncWrite, AsyncWriteExt as _, FutureExt as _, future::BoxFuture};
use libp2p::{
    Stream,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::time::{Instant, timeout};

use super::{
    Command, Said, Step,
    wire::{HolePunch, Kind, PROTOCOL},
};
use crate::{
    engine::input::Offer,
    error::UpgradeFailure,
    net::{
        delimited::{read, write},
        speak::Speak,
    },
};

/// For the peer to say what it has to say next. 10 s, as libp2p's own exchange.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// What this end does in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The connection is direct.
    None,
    /// It accepted a relayed connection.
    Asks,
    /// It dialled one.
    Answers,
}

/// What shows to each other that both ends run on one host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proofs {
    pub(crate) own: Option<[u8; 32]>,
    pub(crate) expected: Option<[u8; 32]>,
}

impl Proofs {
    fn hold(&self, message: &HolePunch) -> bool {
        let said = message.host.as_deref();
        self.expected.as_ref().is_some_and(|expected| said == Some(&expected[..]))
    }
}

type Words = BoxFuture<'static, io::Result<(Option<Stream>, Said)>>;

enum Exchange {
    None,
    /// Messages are on their way.
    Running(Words),
    /// The engine has the word.
    Waiting(Stream),
}

/// A substream that was asked for, and what to say on it.
#[derive(Debug)]
pub(crate) struct Asking {
    number: u64,
    offer: Offer,
}

pub(crate) struct Handler {
    part: Part,
    proofs: Proofs,
    exchange: Exchange,
    /// Of the latest exchange.
    number: u64,
    /// To be asked with, as soon as the connection asks what to do.
    asking: Option<Offer>,
    failed: Option<(u64, UpgradeFailure)>,
    waker: Option<Waker>,
}

impl Handler {
    pub(super) fn new(part: Part, proofs: Proofs) -> Self {
        let exchange = Exchange::None;
        Self { part, proofs, exchange, number: 0, asking: None, failed: None, waker: None }
    }

    fn run(&mut self, step: impl Future<Output = io::Result<(Option<Stream>, Said)>> + Send + 'static) {
        let bounded = timeout(EXCHANGE_DEADLINE, step);
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer did not answer in time"));
        self.exchange = Exchange::Running(bounded.map(move |ended| ended.unwrap_or_else(late)).boxed());
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The substream of an exchange that waits for the engine's word.
    fn take_waiting(&mut self, number: u64) -> Option<Stream> {
        if number != self.number {
            return None;
        }
        match std::mem::replace(&mut self.exchange, Exchange::None) {
            Exchange::Waiting(io) => Some(io),
            other => {
                self.exchange = other;
                None
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = (u64, Said);
    type InboundProtocol = Speak;
    type OutboundProtocol = Speak;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Asking;

    fn listen_protocol(&self) -> SubstreamProtocol<Speak> {
        SubstreamProtocol::new(Speak((self.part == Part::Answers).then_some(PROTOCOL)), ())
    }

    fn on_behaviour_event(&mut self, (number, step): Command) {
        match step {
            Step::Ask(offer) => {
                self.number = number;
                self.exchange = Exchange::None;
                self.asking = Some(offer);
            }
            Step::Answer(offer) => {
                if let Some(io) = self.take_waiting(number) {
                    self.run(answer(io, HolePunch::connect(&offer, self.proofs.own)));
                } else {
                    let cause = "the peer's exchange ended before its answer";
                    self.failed = Some((number, exchange_failed(cause)));
                }
            }
            Step::Sync => {
                if let Some(io) = self.take_waiting(number) {
                    self.run(sync(io));
                }
            }
            Step::End => {
                if self.number == number {
                    (self.exchange, self.asking) = (Exchange::None, None);
                }
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Speak, Asking, (u64, Said)>> {
        if let Some((number, reason)) = self.failed.take() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour((number, Said::Failed(reason))));
        }
        if let Some(offer) = self.asking.take() {
            let asking = Asking { number: self.number, offer };
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Speak(Some(PROTOCOL)), asking),
            });
        }
        if let Exchange::Running(words) = &mut self.exchange
            && let Poll::Ready(ended) = words.poll_unpin(cx)
        {
            self.exchange = Exchange::None;
            match ended {
                // What was to be said is said; nobody waits to hear that.
                Ok((None, Said::Sync)) if self.part == Part::Asks => {}
                Ok((io, said)) => {
                    self.exchange = io.map_or(Exchange::None, Exchange::Waiting);
                    return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour((self.number, said)));
                }
                Err(error) => {
                    let said = Said::Failed(exchange_failed(&cause_of(&error)));
                    return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour((self.number, said)));
                }
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Speak, Speak, (), Asking>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: io, .. }) => {
                self.number += 1;
                self.run(listen(io, self.proofs));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: io,
                info: Asking { number, offer },
            }) if number == self.number => {
                self.run(ask(io, HolePunch::connect(&offer, self.proofs.own), self.proofs));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info }) => {
                let reason = match error {
                    StreamUpgradeError::NegotiationFailed => UpgradeFailure::Unsupported,
                    StreamUpgradeError::Timeout => exchange_failed("the peer did not answer in time"),
                    StreamUpgradeError::Apply(never) => match never {},
                    StreamUpgradeError::Io(error) => exchange_failed(&cause_of(&error)),
                };
                self.failed = Some((info.number, reason));
            }
            _ => {}
        }
    }
}

/// A peer that will not punch, whatever its reason, ends the exchange.
fn cause_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the peer ended it".to_owned(),
        _ => error.to_string(),
    }
}

fn exchange_failed(cause: &str) -> UpgradeFailure {
    UpgradeFailure::Exchange { cause: cause.to_owned() }
}

/// Says our addresses and hears the peer's.
async fn ask(mut io: Stream, own: HolePunch, proofs: Proofs) -> io::Result<(Option<Stream>, Said)> {
    write(&mut io, &own).await?;
    let asked = Instant::now();
    let theirs = expect(&mut io, Kind::Connect).await?;
    let (offer, same_host) = (theirs.offer(), proofs.hold(&theirs));
    let round_trip = asked.elapsed();
    Ok((Some(io), Said::Answered { offer, same_host, round_trip }))
}

/// Hears the peer's addresses.
async fn listen(mut io: Stream, proofs: Proofs) -> io::Result<(Option<Stream>, Said)> {
    let theirs = expect(&mut io, Kind::Connect).await?;
    let (offer, same_host) = (theirs.offer(), proofs.hold(&theirs));
    Ok((Some(io), Said::Offered { offer, same_host }))
}

/// Says our addresses and waits for the moment.
async fn answer(mut io: Stream, own: HolePunch) -> io::Result<(Option<Stream>, Said)> {
    write(&mut io, &own).await?;
    expect(&mut io, Kind::Sync).await?;
    Ok((None, Said::Sync))
}

/// Says that the moment has come.
async fn sync(mut io: impl AsyncWrite + Unpin) -> io::Result<(Option<Stream>, Said)> {
    write(&mut io, &HolePunch::sync()).await?;
    // Dropped, it would be reset, and others (go-libp2p) forget then what they did not read yet.
    io.close().await?;
    Ok((None, Said::Sync))
}

async fn expect(io: &mut Stream, kind: Kind) -> io::Result<HolePunch> {
    let message: HolePunch = read(io).await?;
    match message.is(kind) {
        true => Ok(message),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "the peer broke the protocol")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::pin::Pin;

    use super::*;

    /// Keeps whether its end was said.
    #[derive(Default)]
    struct Recorded {
        written_bytes: usize,
        closed: bool,
    }

    impl AsyncWrite for Recorded {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.written_bytes += bytes.len();
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.closed = true;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn after_the_word_for_the_moment_the_exchange_is_closed_and_not_reset() {
        let mut io = Recorded::default();
        sync(&mut io).await.unwrap();
        assert!(io.written_bytes > 0 && io.closed);
    }
}

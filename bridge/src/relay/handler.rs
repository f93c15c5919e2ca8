//! One connection's part: hears what a client asks for, says the answers, and asks this peer whether it takes
//! a circuit.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{
    AsyncWriteExt as _, FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered,
};
use libp2p::{
    PeerId, Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::machine::{ANSWER_DEADLINE, Answer, AskId};
use crate::net::{
    circuit::wire::{HOP_PROTOCOL, Hop, HopKind, STOP_PROTOCOL, Status, Stop, StopKind},
    delimited,
};

/// Requests of one connection that are not answered yet. Far above what one client may have; of one that
/// asks faster than it is answered, further ones are dropped unheard.
const ASKS_MAX: usize = 64;

/// For a client to say what it wants, and to take the answer.
const WORDS_DEADLINE: Duration = Duration::from_secs(10);

/// Refusals that a connection is told at once. Later ones are told at this pace: a client that asks without
/// pause is kept waiting here, in its own connection's task, and costs the rest of the relay 20 decisions a
/// second.
const REFUSALS_AT_ONCE: u32 = 32;
const REFUSAL_INTERVAL: Duration = Duration::from_millis(50);

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Reserve,
    Connect { destination: PeerId },
}

/// A client that waits for an answer.
#[derive(Debug)]
pub(super) struct Asking {
    io: Stream,
    /// Makes room for another request when it is dropped.
    _room: OwnedSemaphorePermit,
}

impl Asking {
    /// The substream, for more than an answer.
    pub(super) fn into_stream(self) -> Stream {
        self.io
    }
}

/// Handler to behaviour.
#[derive(Debug)]
pub(super) enum Report {
    Asked(Request, Asking),
    /// What the peer answered, and if it accepted, the substream.
    Answered(AskId, Answer, Option<Stream>),
}

/// Behaviour to handler.
#[derive(Debug)]
pub(super) enum Command {
    /// Whether clients are told that this is a relay.
    Advertise(bool),
    /// Whether the connection stays although nothing happens on it.
    Keep(bool),
    Grant(Asking, Hop),
    Refuse(Asking, Hop),
    /// Ask the peer whether it takes a circuit.
    Ask(AskId, Stop),
}

/// See the module's text.
pub(super) struct Handler {
    advertise: bool,
    keep: bool,
    room: Arc<Semaphore>,
    answers: FuturesUnordered<BoxFuture<'static, ()>>,
    /// When the refusals so far would have been told at one an interval.
    refused: Option<Instant>,
    // Bounded by what one destination is asked at once.
    questions: VecDeque<(AskId, Stop)>,
    // Bounded by the requests and questions that are under way.
    reports: VecDeque<Report>,
}

impl Handler {
    pub(super) fn new(advertise: bool) -> Self {
        Self {
            advertise,
            keep: false,
            room: Arc::new(Semaphore::new(ASKS_MAX)),
            answers: FuturesUnordered::new(),
            refused: None,
            questions: VecDeque::new(),
            reports: VecDeque::new(),
        }
    }

    fn asked(&mut self, request: Request, io: Stream) {
        if let Ok(room) = self.room.clone().try_acquire_owned() {
            self.reports.push_back(Report::Asked(request, Asking { io, _room: room }));
        }
    }

    fn refuse(&mut self, asking: Asking, answer: Hop) {
        let now = Instant::now();
        let (refused, wait) = pace(self.refused, now);
        self.refused = Some(refused);
        let refusal = async move {
            tokio::time::sleep(wait).await;
            tell(asking, answer).await;
        };
        self.answers.push(refusal.boxed());
    }
}

/// When the refusals would have been told with one more at `now`, and how long that one waits.
fn pace(refused: Option<Instant>, now: Instant) -> (Instant, Duration) {
    let refused = refused.map_or(now, |refused| refused.max(now));
    let wait = (refused - now).saturating_sub(REFUSAL_INTERVAL * (REFUSALS_AT_ONCE - 1));
    (refused + REFUSAL_INTERVAL, wait)
}

/// Tells an answer after which nothing follows.
async fn tell(mut asking: Asking, answer: Hop) {
    let telling = async {
        delimited::write(&mut asking.io, &answer).await?;
        asking.io.close().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(WORDS_DEADLINE, telling).await {
        tracing::debug!(%error, "an answer was not taken");
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = Report;
    type InboundProtocol = Listen;
    type OutboundProtocol = Ask;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = AskId;

    fn listen_protocol(&self) -> SubstreamProtocol<Listen> {
        SubstreamProtocol::new(Listen { advertise: self.advertise }, ()).with_timeout(WORDS_DEADLINE)
    }

    fn connection_keep_alive(&self) -> bool {
        self.keep
    }

    fn on_behaviour_event(&mut self, command: Command) {
        match command {
            Command::Advertise(advertise) => self.advertise = advertise,
            Command::Keep(keep) => self.keep = keep,
            Command::Grant(asking, answer) => self.answers.push(tell(asking, answer).boxed()),
            Command::Refuse(asking, answer) => self.refuse(asking, answer),
            Command::Ask(ask, question) => self.questions.push_back((ask, question)),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Ask, AskId, Report>> {
        while let Poll::Ready(Some(())) = self.answers.poll_next_unpin(cx) {}
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        match self.questions.pop_front() {
            Some((ask, question)) => {
                let protocol =
                    SubstreamProtocol::new(Ask { question }, ask).with_timeout(ANSWER_DEADLINE);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            // Woken by the connection, which calls the other methods before it polls again.
            None => Poll::Pending,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Listen, Ask, (), AskId>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (request, io),
                ..
            }) => self.asked(request, io),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (answer, io),
                info: ask,
            }) => self.reports.push_back(Report::Answered(ask, answer, Some(io))),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: ask, error }) => {
                if let StreamUpgradeError::Apply(error) = &error {
                    tracing::debug!(%error, "a destination did not answer");
                }
                self.reports.push_back(Report::Answered(ask, Answer::Failed, None));
            }
            _ => {}
        }
    }
}

/// Inbound: what does the client want?
#[derive(Debug)]
pub(super) struct Listen {
    advertise: bool,
}

/// Outbound: does the peer take a circuit?
#[derive(Debug)]
pub(super) struct Ask {
    question: Stop,
}

impl UpgradeInfo for Listen {
    type Info = StreamProtocol;
    type InfoIter = std::option::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.advertise.then_some(HOP_PROTOCOL).into_iter()
    }
}

impl UpgradeInfo for Ask {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(STOP_PROTOCOL)
    }
}

impl InboundUpgrade<Stream> for Listen {
    type Output = (Request, Stream);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_inbound(self, mut io: Stream, _: StreamProtocol) -> Self::Future {
        async move {
            let request = match delimited::read(&mut io).await {
                Ok(hop) => request(&hop),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    Err(Status::MalformedMessage)
                }
                Err(error) => return Err(error),
            };
            match request {
                Ok(request) => Ok((request, io)),
                Err(status) => {
                    delimited::write(&mut io, &status_only(status)).await?;
                    io.close().await?;
                    Err(io::ErrorKind::InvalidData.into())
                }
            }
        }
        .boxed()
    }
}

/// An answer that says nothing but a status.
pub(super) fn status_only(status: Status) -> Hop {
    Hop { kind: HopKind::Status as i32, status: Some(status as i32), ..Hop::default() }
}

fn request(hop: &Hop) -> Result<Request, Status> {
    match HopKind::try_from(hop.kind) {
        Ok(HopKind::Reserve) => Ok(Request::Reserve),
        Ok(HopKind::Connect) => {
            let peer = hop.peer.as_ref().ok_or(Status::MalformedMessage)?;
            let destination = PeerId::from_bytes(&peer.id).map_err(|_| Status::MalformedMessage)?;
            Ok(Request::Connect { destination })
        }
        Ok(HopKind::Status) | Err(_) => Err(Status::UnexpectedMessage),
    }
}

impl OutboundUpgrade<Stream> for Ask {
    type Output = (Answer, Stream);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_outbound(self, mut io: Stream, _: StreamProtocol) -> Self::Future {
        async move {
            delimited::write(&mut io, &self.question).await?;
            let heard: Stop = delimited::read(&mut io).await?;
            Ok((answer(&heard), io))
        }
        .boxed()
    }
}

fn answer(stop: &Stop) -> Answer {
    let status = stop.status.and_then(|status| Status::try_from(status).ok());
    match (StopKind::try_from(stop.kind), status) {
        (Ok(StopKind::Status), Some(Status::Ok)) => Answer::Accepted,
        (Ok(StopKind::Status), Some(Status::ResourceLimitExceeded)) => Answer::Full,
        (Ok(StopKind::Status), Some(Status::PermissionDenied)) => Answer::Denied,
        _ => Answer::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::circuit::wire::Peer;

    #[test]
    fn a_client_that_asks_without_pause_is_refused_at_a_pace() {
        let now = Instant::now();
        let (mut refused, mut waits) = (None, Vec::new());
        for _ in 0..REFUSALS_AT_ONCE + 10 {
            let (next, wait) = pace(refused, now);
            refused = Some(next);
            waits.push(wait);
        }
        assert!(waits[..REFUSALS_AT_ONCE as usize].iter().all(Duration::is_zero));
        assert_eq!(waits.last(), Some(&(REFUSAL_INTERVAL * 10)));
        let later = now + Duration::from_secs(10);
        assert_eq!(pace(refused, later).1, Duration::ZERO, "a quiet client is told at once again");
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        let hop = |kind| Hop { kind, ..Hop::default() };
        assert_eq!(request(&hop(HopKind::Reserve as i32)), Ok(Request::Reserve));
        assert_eq!(request(&hop(HopKind::Connect as i32)), Err(Status::MalformedMessage));
        assert_eq!(request(&hop(HopKind::Status as i32)), Err(Status::UnexpectedMessage));
        assert_eq!(request(&hop(77)), Err(Status::UnexpectedMessage));
        let nobody = Peer { id: vec![1, 2, 3], addrs: Vec::new() };
        let connect = Hop { peer: Some(nobody), ..hop(HopKind::Connect as i32) };
        assert_eq!(request(&connect), Err(Status::MalformedMessage));
    }

    #[test]
    fn only_an_answer_that_says_ok_accepts_a_circuit() {
        let stop =
            |kind: StopKind, status: Option<i32>| Stop { kind: kind as i32, status, ..Stop::default() };
        for (heard, meant) in [
            (stop(StopKind::Status, Some(Status::Ok as i32)), Answer::Accepted),
            (stop(StopKind::Status, Some(Status::ResourceLimitExceeded as i32)), Answer::Full),
            (stop(StopKind::Status, Some(Status::PermissionDenied as i32)), Answer::Denied),
            (stop(StopKind::Connect, Some(Status::Ok as i32)), Answer::Failed),
            (stop(StopKind::Status, Some(12)), Answer::Failed),
            (stop(StopKind::Status, None), Answer::Failed),
        ] {
            assert_eq!(answer(&heard), meant, "{heard:?}");
        }
    }
}
